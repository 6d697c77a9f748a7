"""Making one key of several shares: what it is, and what a holder that cheats cannot do."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secagg import signing, wire
from secagg.errors import AuthenticationError, RemoteProtocolError, UsageError, WireError
from secagg.he.rlwe import key_generation
from secagg.he.rlwe.key_generation import Commitment, Confirmation, KeyHolder, Opening, Terms, check_key
from secagg.he.rlwe.keys import PublicKey, draw_secret, expand_seed, public_part
from secagg.he.rlwe.polynomials import Polynomials
from secagg.he.rlwe.products import multiply, transform_secret
from secagg.prg import Stream, system_stream


@pytest.fixture
def keyless(federate: Callable[..., Any]) -> Any:
    return federate(with_key=False)


def committed(federation: Any) -> tuple[dict[str, KeyHolder], dict[str, Commitment]]:
    holders = federation.key_holders()
    return holders, {name: holder.commit() for name, holder in holders.items()}


def opened(federation: Any) -> tuple[dict[str, KeyHolder], dict[str, Opening]]:
    holders, commitments = committed(federation)
    return holders, {n: h.open(federation.others(commitments, n)) for n, h in holders.items()}


def confirmed(federation: Any) -> tuple[dict[str, KeyHolder], dict[str, Confirmation]]:
    holders, openings = opened(federation)
    return holders, {n: h.confirm(federation.others(openings, n)) for n, h in holders.items()}


@pytest.mark.parametrize(("holders", "modulus_bits"), [(2, 96), (5, 96), (3, 128)])
def test_the_secret_key_is_the_sum_of_the_shares(
    federate: Callable[..., Any], holders: int, modulus_bits: int
) -> None:
    federation = federate(holders=holders, modulus_bits=modulus_bits)
    public_key = federation.public_key
    assert all(share.public_key.key_id == public_key.key_id for share in federation.shares.values())
    # b + a (s_1 + ... + s_n) is the sum of the holders' noises, each within 21.
    rest = public_key.b.copy()
    for share in federation.shares.values():
        secret = transform_secret(share.to_message().secret, public_key.parameters)
        rest += multiply(expand_seed(public_key.parameters, public_key.seed), secret)
    assert 0 < rest.round_off(modulus_bits - 1).residual <= 21 * holders
    secrets = {share.to_message().secret.tobytes() for share in federation.shares.values()}
    seeds = {share.to_message().flood_seed for share in federation.shares.values()}
    assert len(secrets) == len(seeds) == holders
    assert (public_key.holders, public_key.flood_bits) == (holders, federation.release_plan.flood_bits)
    check_key(federation.terms, public_key, federation.confirmations)


def test_terms_decide_the_common_polynomial(keyless: Any) -> None:
    terms = keyless.terms
    others = [
        replace(terms, session=b"t" * 32),
        replace(terms, release_plan=replace(terms.release_plan, releases=3)),
        replace(
            terms, release_plan=replace(terms.release_plan, plan=replace(terms.release_plan.plan, clip=99.5))
        ),
        replace(terms, holders={**terms.holders, "h0": Ed25519PrivateKey.generate().public_key()}),
    ]
    assert len({t.seed for t in (terms, *others)}) == 5
    reordered = replace(terms, holders=dict(reversed(terms.holders.items())))
    assert (reordered.digest, reordered.seed) == (terms.digest, terms.seed)


def test_the_terms_digest_depends_on_each_number_of_the_plan(keyless: Any) -> None:
    planned = keyless.release_plan
    release = replace(planned, flood_bits=planned.flood_bits - 4)  # with room for each change
    terms = replace(keyless.terms, release_plan=release)
    plans = [
        replace(release, flood_bits=release.flood_bits - 1),
        replace(release, releases=release.releases + 1),
        replace(release, length=release.length + 1),
        *(
            replace(release, plan=replace(release.plan, **change))
            for change in (
                {"clip": release.plan.clip / 2},
                {"bits": release.plan.bits // 2},
                {"frac_bits": release.plan.frac_bits + 1},
                {"parties": release.plan.parties - 1},
                {"max_weight": release.plan.max_weight + 1},
            )
        ),
    ]
    digests = {replace(terms, release_plan=plan).digest for plan in (release, *plans)}
    assert len(digests) == len(plans) + 1


def test_a_holders_part_does_not_show_before_it_opens(keyless: Any) -> None:
    """The same part committed to twice under other nonces gives other digests."""
    terms, part = keyless.terms, Polynomials.zeros(keyless.release_plan.parameters, 1)
    first, second = (key_generation.commitment(terms, "h0", part, bytes([i]) * 32) for i in range(2))
    assert first != second


def rogue_part(federation: Any, parts: list[Polynomials]) -> tuple[Polynomials, np.ndarray]:
    """What the last to speak publishes to own the key, b' - (the others' sum), and the secret of b'."""
    parameters, seed = federation.release_plan.parameters, federation.terms.seed
    secret = draw_secret(parameters, system_stream())
    rogue = public_part(parameters, seed, secret, system_stream())
    for part in parts:
        rogue -= part
    return rogue, secret


def test_without_commitments_the_last_to_speak_decrypts_alone(keyless: Any, open_rounded: Any) -> None:
    plan, parameters, seed = keyless.plan, keyless.release_plan.parameters, keyless.terms.seed
    stream = system_stream()
    honest = [public_part(parameters, seed, draw_secret(parameters, stream), stream) for _ in range(2)]
    rogue, secret = rogue_part(keyless, honest)
    total = rogue.copy()
    for part in honest:
        total += part
    public_key = PublicKey(parameters, seed, total, holders=3, flood_bits=keyless.release_plan.flood_bits)
    numbers = np.arange(-50.0, 50.0)
    ciphertext: Any = public_key.encrypt(numbers, plan)
    alone = multiply(ciphertext.c1, transform_secret(secret, parameters))
    alone += ciphertext.c0
    assert np.array_equal(open_rounded(alone, ciphertext).view(np.int64), numbers)


def test_with_commitments_the_last_to_speak_is_refused(keyless: Any) -> None:
    holders, openings = opened(keyless)
    parameters = keyless.release_plan.parameters
    seen = [Polynomials.from_words(parameters, openings[n].words, 1) for n in ("h0", "h1")]
    rogue, _ = rogue_part(keyless, seen)
    lie = Opening(rogue.words, openings["h2"].nonce)
    for honest in ("h0", "h1"):
        with pytest.raises(RemoteProtocolError, match="h2 opened something else") as refused:
            holders[honest].confirm({**keyless.others(openings, honest), "h2": lie})
        assert refused.value.peer == "h2"


def test_a_holder_that_commits_differently_towards_others_is_found(keyless: Any) -> None:
    """It saw h0's opening before it committed towards h1; both check out, and nobody confirms the other's key."""
    first, second = keyless.key_holders(), keyless.key_holders()
    liar = {"h0": first["h2"], "h1": second["h2"]}
    commitments = {name: first[name].commit() for name in ("h0", "h1")}
    lies = {name: holder.commit() for name, holder in liar.items()}
    openings = {n: first[n].open({**keyless.others(commitments, n), "h2": lies[n]}) for n in ("h0", "h1")}
    told = {n: holder.open(commitments) for n, holder in liar.items()}
    confirmations = {
        n: first[n].confirm({**keyless.others(openings, n), "h2": told[n]}) for n in ("h0", "h1")
    }
    for name, other in (("h0", "h1"), ("h1", "h0")):
        theirs = liar[name].confirm(openings)
        with pytest.raises(RemoteProtocolError, match=f"{other} confirms another transcript"):
            first[name].finish({other: confirmations[other], "h2": theirs}, keyless.records)


def test_a_part_is_nobody_elses(keyless: Any) -> None:
    holders, commitments = committed(keyless)
    with pytest.raises(RemoteProtocolError, match="h1 sent the commitment of another key holder"):
        holders["h0"].open({"h1": Commitment(commitments["h0"].digest, b""), "h2": commitments["h2"]})
    # A copied part needs a commitment to it under the copier's own name, from the copier.
    holders, commitments = committed(keyless)
    nonce = b"n" * 32
    stolen = key_generation.commitment(keyless.terms, "h1", holders["h0"]._part, nonce)
    holders["h1"]._digests["h1"] = stolen
    signature = signing.sign(
        keyless.holders["h1"], "secagg.he.rlwe.key_generation/commitment", holders["h1"]._signed("h1", stolen)
    )
    commitments["h1"] = Commitment(stolen, signature)
    openings = {n: h.open(keyless.others(commitments, n)) for n, h in holders.items()}
    openings["h1"] = Opening(openings["h0"].words, nonce)
    for name in ("h0", "h2"):
        with pytest.raises(RemoteProtocolError, match="opened the part of another key holder"):
            holders[name].confirm(keyless.others(openings, name))


def test_messages_that_their_owner_did_not_sign_are_refused(keyless: Any) -> None:
    holders, commitments = committed(keyless)
    others = keyless.others(commitments, "h0")
    with pytest.raises(AuthenticationError) as refused:
        holders["h0"].open({**others, "h2": Commitment(b"x" * 32, others["h2"].signature)})
    assert refused.value.peer == "h2"
    holders["h0"].open(others)  # nothing was kept of what was refused
    holders, confirmations = confirmed(keyless)
    swapped = {"h1": confirmations["h1"], "h2": confirmations["h1"]}
    with pytest.raises(AuthenticationError):
        holders["h0"].finish(swapped, keyless.records)


def test_messages_of_another_session_are_refused(keyless: Any) -> None:
    holders, _ = committed(keyless)
    keyless.session = b"another session of them" * 2
    _, elsewhere = committed(keyless)
    with pytest.raises(AuthenticationError):
        holders["h0"].open(keyless.others(elsewhere, "h0"))


def test_what_is_no_polynomial_is_refused(keyless: Any) -> None:
    holders, openings = opened(keyless)
    short = Opening(tuple(w[:, :-1].copy() for w in openings["h2"].words), openings["h2"].nonce)
    with pytest.raises(WireError, match="h2"):
        holders["h0"].confirm({**keyless.others(openings, "h0"), "h2": short})


def test_steps_are_done_once_and_in_order(keyless: Any) -> None:
    holders, commitments = committed(keyless)
    with pytest.raises(UsageError, match=r"commitments of \['h1', 'h2'\], got those of \['h1'\]"):
        holders["h0"].open({"h1": commitments["h1"]})
    unread: Any = {"h1": None, "h2": None}
    with pytest.raises(UsageError, match="confirms before it finishes"):
        holders["h0"].finish(unread, keyless.records)
    with pytest.raises(UsageError, match="commit came after 1 of them"):
        holders["h0"].commit()
    opening = holders["h0"].open(keyless.others(commitments, "h0"))
    _, other_commitments = committed(keyless)
    with pytest.raises(UsageError, match="open came after 2 of them"):  # would open to late commitments
        holders["h0"].open(keyless.others(other_commitments, "h0"))
    assert opening.nonce


def test_clients_refuse_a_key_that_not_all_holders_confirm(federation: Any) -> None:
    terms, public_key, confirmations = federation.terms, federation.public_key, federation.confirmations
    stream = system_stream()
    parameters = public_key.parameters
    part = public_part(parameters, terms.seed, draw_secret(parameters, stream), stream)
    own = PublicKey(parameters, terms.seed, part, holders=3, flood_bits=public_key.flood_bits)
    with pytest.raises(AuthenticationError):
        check_key(terms, own, confirmations)
    with pytest.raises(UsageError, match="expected confirmations of"):
        check_key(terms, public_key, federation.others(confirmations, "h1"))
    weak = PublicKey(parameters, terms.seed, public_key.b, holders=3, flood_bits=1)
    with pytest.raises(UsageError, match="no key for the agreed"):
        check_key(terms, weak, confirmations)
    torn = Confirmation(b"another", confirmations["h1"].signature)
    with pytest.raises(RemoteProtocolError, match="another transcript"):
        check_key(terms, public_key, {**confirmations, "h1": torn})


def test_terms_that_do_not_go_together_are_refused(keyless: Any) -> None:
    terms, identity = keyless.terms, keyless.holders["h0"]
    with pytest.raises(UsageError, match="at least 16 bytes"):
        replace(terms, session=b"short")
    with pytest.raises(UsageError, match="the same identity"):
        replace(terms, holders={**terms.holders, "h1": identity.public_key()})
    with pytest.raises(UsageError, match="names of 3 key holders"):
        replace(terms, holders=keyless.others(terms.holders, "h1"))
    with pytest.raises(UsageError, match="'h1' with the identity given"):
        KeyHolder("h1", terms, identity)
    with pytest.raises(UsageError, match="'stranger'"):
        KeyHolder("stranger", terms, identity)


def test_messages_come_back_from_bytes(keyless: Any) -> None:
    holders, openings = opened(keyless)
    received = {
        name: wire.from_bytes(wire.to_bytes(message), Opening, peer=name)
        for name, message in keyless.others(openings, "h0").items()
    }
    assert (
        holders["h0"].confirm(received).transcript
        == holders["h1"].confirm(keyless.others(openings, "h1")).transcript
    )
    again = Terms(keyless.session, keyless.release_plan, dict(keyless.terms.holders))
    assert again.digest == keyless.terms.digest


def test_a_key_holder_shows_nothing_and_cannot_be_copied(keyless: Any) -> None:
    holder = KeyHolder("h0", keyless.terms, keyless.holders["h0"], rng=Stream(bytes(32)))
    assert repr(holder) == "<key holder h0>"
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        pickle.dumps(holder)
