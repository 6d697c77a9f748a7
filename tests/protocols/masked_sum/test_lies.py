"""Every check of a role, violated once: what is sent, who is named, and that nothing is answered afterwards.

The module is long because each check of each role has a case.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from secagg.errors import RemoteProtocolError, TooFewPartiesError
from secagg.protocols.masked_sum import (
    Client,
    Consents,
    Included,
    MaskedSum,
    Phase,
    Server,
    SumInSession,
    choose,
    reference,
)
from secagg.protocols.masked_sum.keys import sign_keys, sign_sets
from secagg.protocols.masked_sum.shamir import PRIME, SHARE_BYTES
from secagg.protocols.masked_sum.terms import pack_set, unpack_set
from secagg.protocols.threat_model import ThreatModel

MakePlay = Callable[..., Any]
SESSION = bytes(range(32))  # of the plays


def members(*numbers: int, n: int = 5) -> np.ndarray[Any, Any]:
    return pack_set(frozenset(numbers), n)


def altered(message: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(message, **fields)


def flipped(array: np.ndarray[Any, Any], *place: int) -> np.ndarray[Any, Any]:
    copy = array.copy()
    copy[place] ^= 1
    return copy


def refuses(client: Client, step: Callable[[], Any], match: str) -> None:
    """Assert that a client refuses, names the server, and answers nothing from then on."""
    with pytest.raises(RemoteProtocolError, match=match) as caught:
        step()
    assert caught.value.peer == "server"
    assert client.phase is Phase.OVER
    with pytest.raises(RemoteProtocolError, match="answers no more"):
        client.unmask(Included(members(0, 1, 2, 3, 4)))


# A server that lies about keys.


def test_keys_that_their_owner_did_not_sign_are_refused(play: MakePlay) -> None:
    p = play().play_keys()
    good = p.peer_keys["c0"]
    mine = np.frombuffer(X25519PrivateKey.generate().public_key().public_bytes_raw(), np.uint8)
    keys = good.keys.copy()
    keys[0, 1] = mine  # the server's own masking key in c1's place
    refuses(p.clients["c0"], lambda: p.clients["c0"].share(altered(good, keys=keys)), "that c1 signed")


def test_keys_of_one_client_in_the_place_of_another_are_refused(play: MakePlay) -> None:
    p = play().play_keys()
    good = p.peer_keys["c0"]
    swapped = altered(good, keys=good.keys[::-1].copy(), signatures=good.signatures[::-1].copy())
    refuses(p.clients["c0"], lambda: p.clients["c0"].share(swapped), "signed for this round")


@pytest.mark.parametrize("what", ["round", "session", "threshold"])
def test_keys_signed_for_another_round_session_or_threshold_are_refused(play: MakePlay, what: str) -> None:
    p = play().play_keys()
    other = dataclasses.replace(p.terms, parameters=choose(5, max_corrupt=0, max_dropout=0.4))
    where = {
        "round": SumInSession(dataclasses.replace(p.terms, round=1), SESSION),
        "session": SumInSession(p.terms, bytes(32)),
        "threshold": SumInSession(other, SESSION),
    }[what]
    client = Client(where, "c0", p.identities["c0"])
    client.advertise()
    refuses(client, lambda: client.share(p.peer_keys["c0"]), "signed for this round")


@pytest.mark.parametrize("whose", ["another peer's", "its own"])
def test_keys_that_come_twice_are_refused(play: MakePlay, whose: str) -> None:
    # A corrupt c4 signs somebody else's keys as its own; the server passes them on.
    p = play().play_keys()
    stolen = p.keys["c1" if whose == "another peer's" else "c0"].keys
    signature = sign_keys(p.identities["c4"], p.where, 4, stolen.tobytes())
    good = p.peer_keys["c0"]
    keys, signatures = good.keys.copy(), good.signatures.copy()
    keys[3], signatures[3] = stolen, np.frombuffer(signature, np.uint8)
    bad = altered(good, keys=keys, signatures=signatures)
    refuses(p.clients["c0"], lambda: p.clients["c0"].share(bad), "one twice")


def test_a_key_of_small_order_is_refused(play: MakePlay) -> None:
    p = play().play_keys()
    bad_keys = p.keys["c4"].keys.copy()
    bad_keys[0] = 0
    signature = sign_keys(p.identities["c4"], p.where, 4, bad_keys.tobytes())
    good = p.peer_keys["c0"]
    keys, signatures = good.keys.copy(), good.signatures.copy()
    keys[3], signatures[3] = bad_keys, np.frombuffer(signature, np.uint8)
    with pytest.raises(RemoteProtocolError, match="small order"):
        p.clients["c0"].share(altered(good, keys=keys, signatures=signatures))
    assert p.clients["c0"].phase is Phase.OVER


def test_keys_of_outsiders_too_few_or_of_another_shape_are_refused(play: MakePlay, sparse: Any) -> None:
    def case(change: Callable[[Any], Any], match: str, **options: Any) -> None:
        p = play(**options).play_keys()
        refuses(p.clients["c0"], lambda: p.clients["c0"].share(change(p.peer_keys["c0"])), match)

    def one(good: Any, who: np.ndarray[Any, Any]) -> Any:
        return altered(good, present=who, keys=good.keys[:1], signatures=good.signatures[:1])

    case(lambda g: one(g, members(0)), "neighbours only")  # itself

    def first(good: Any, m: int) -> Any:
        who = members(*range(1, m + 1))
        return altered(good, present=who, keys=good.keys[:m], signatures=good.signatures[:m])

    case(lambda g: first(g, 2), "at least 3 neighbours from server, got those of 2")
    enough = play().play_keys()
    assert len(enough.clients["c0"].share(first(enough.peer_keys["c0"], 3)).sealed) == 3
    case(lambda g: altered(g, keys=g.keys[:3]), "keys of 4 neighbours")
    case(lambda g: altered(g, signatures=g.signatures[:, :63]), "keys of 4 neighbours")
    case(lambda g: altered(g, present=np.array([0b11111110], np.uint8)), "behind the last")
    case(lambda g: altered(g, present=np.zeros(2, np.uint8)), "5 clients in 1 bytes")
    p = play(parameters=sparse).play_keys()
    stranger = next(i for i in range(1, 12) if i not in p.where.graph.neighbours(0))
    good = p.peer_keys["c0"]
    present = unpack_set(good.present, 12)
    bad = altered(good, present=pack_set(present - {min(present)} | {stranger}, 12))
    refuses(p.clients["c0"], lambda: p.clients["c0"].share(bad), "neighbours only")


# A server that lies about who shared.


def test_lies_about_who_shared_are_refused(play: MakePlay) -> None:
    def case(change: Callable[[Any], Any], match: str, without: tuple[str, ...] = ()) -> None:
        p = play().play_keys(without).play_shares()
        client = p.clients["c0"]
        refuses(client, lambda: client.mask(p.xs["c0"], change(p.inboxes["c0"])), match)

    case(lambda g: altered(g, shared=members(1, 2, 3, 4)), "a set without it")
    case(lambda g: altered(g, shared=members(0, 1, 2), sealed=g.sealed[:2]), "at least 4 who sent shares")
    case(lambda g: altered(g, sealed=g.sealed[:3]), "sealed shares of 4 neighbours")
    case(lambda g: altered(g, sealed=g.sealed[:, :81]), "sealed shares of 4 neighbours")
    case(
        lambda g: altered(g, shared=members(0, 1, 2, 3, 4)),
        "whose keys had come from server, got those of c4",
        ("c4",),
    )


def test_too_few_holders_of_ones_shares_are_refused_even_if_others_are_enough(
    play: MakePlay, sparse: Any
) -> None:
    # The server tells c0 that four of its six neighbours dropped out, and everybody else is there.
    p = play(parameters=dataclasses.replace(sparse, n_dropouts=6, min_clients=6)).until_inputs()
    shared = frozenset(range(12)).difference(p.where.graph.neighbours(0)[:4])
    good = p.inboxes["c0"]
    bad = altered(good, shared=pack_set(shared, 12), sealed=good.sealed[:2])
    refuses(p.clients["c0"], lambda: p.clients["c0"].mask(p.xs["c0"], bad), "at least 4 holders")


# A server that lies about the sum.


@pytest.mark.parametrize("threat_model", ["semi-honest", "malicious"])
def test_lies_about_survivors_are_refused(play: MakePlay, threat_model: ThreatModel) -> None:
    def case(included: np.ndarray[Any, Any], match: str, without: tuple[str, ...] = ()) -> None:
        p = play(threat_model=threat_model).play_keys().play_shares(without).play_inputs()
        client = p.clients["c0"]
        step = client.consent if threat_model == "malicious" else client.unmask
        refuses(client, lambda: step(Included(included)), match)

    case(members(1, 2, 3, 4), "a set without it")  # itself as dropped
    case(members(0, 1, 2), "at least 4 who are in the sum")
    case(members(0), "at least 4 who are in the sum")
    case(members(0, 1, 2, 3, 4), "others as well", ("c4",))  # an outsider
    case(np.array([0xFF], np.uint8), "behind the last")
    case(np.zeros(0, np.uint8), "5 clients in 1 bytes")


@pytest.mark.parametrize("threat_model", ["semi-honest", "malicious"])
def test_a_client_asked_twice_answers_once(play: MakePlay, threat_model: ThreatModel) -> None:
    # First with c4 in the sum, then without: together that would be both its secrets.
    p = play(threat_model=threat_model).until_request()
    first = p.clients["c0"].unmask(p.request)
    assert first.shares.shape == (5, SHARE_BYTES)
    for request in (p.request, Included(members(0, 1, 2, 3))):
        with pytest.raises(RemoteProtocolError, match="made once") as caught:
            p.clients["c0"].unmask(request)
        assert caught.value.peer == "server"


def test_a_client_asked_for_a_second_vector_or_other_sets_answers_once(play: MakePlay) -> None:
    p = play(threat_model="malicious").until_inputs().play_inputs()
    client = p.clients["c0"]
    client.consent(p.request)
    with pytest.raises(RemoteProtocolError, match="made once"):
        client.consent(Included(members(0, 1, 2, 3)))
    q = play().until_inputs()
    q.clients["c0"].mask(q.xs["c0"], q.inboxes["c0"])
    refuses(q.clients["c0"], lambda: q.clients["c0"].mask(q.xs["c0"], q.inboxes["c0"]), "made once")
    r = play().play_keys()
    r.clients["c0"].share(r.peer_keys["c0"])
    refuses(r.clients["c0"], lambda: r.clients["c0"].share(r.peer_keys["c0"]), "made once")


def test_steps_out_of_order_are_refused(play: MakePlay) -> None:
    p = play().until_inputs()
    refuses(
        p.clients["c0"],
        lambda: p.clients["c0"].unmask(Included(members(0, 1, 2, 3, 4))),
        "next step was mask",
    )
    q = play()
    refuses(q.clients["c0"], lambda: q.clients["c0"].share(None), "next step was advertise")


def test_the_other_variants_request_is_refused(play: MakePlay) -> None:
    p = play().until_inputs().play_inputs()
    bad = Consents(members(0, 1, 2, 3), np.zeros((4, 64), np.uint8))
    refuses(p.clients["c0"], lambda: p.clients["c0"].unmask(bad), "semi-honest server, got Consents")
    q = play(threat_model="malicious").until_inputs().play_inputs()
    q.clients["c0"].consent(q.request)
    refuses(q.clients["c0"], lambda: q.clients["c0"].unmask(q.request), "malicious server, got Included")
    r = play().until_inputs().play_inputs()
    refuses(r.clients["c0"], lambda: r.clients["c0"].consent(r.request), "next step was unmask")


# Signatures of the sets.


def test_lies_about_signatures_are_refused(play: MakePlay) -> None:
    def case(change: Callable[[Any], Any], match: str) -> None:
        p = play(threat_model="malicious").until_request()
        refuses(p.clients["c0"], lambda: p.clients["c0"].unmask(change(p.request)), match)

    case(lambda g: altered(g, signatures=flipped(g.signatures, 2, 5)), "c2's signature of the same sets")
    case(lambda g: altered(g, signatures=g.signatures[[1, 0, 2, 3]]), "c0's signature")
    case(lambda g: altered(g, signers=members(0, 1, 2), signatures=g.signatures[:3]), "at least 4 survivors")
    case(lambda g: altered(g, signatures=g.signatures[:3]), "4 signatures")
    case(lambda g: altered(g, signers=np.array([0xF0], np.uint8)), "behind the last")


def test_signatures_of_clients_that_are_not_in_the_sum_do_not_count(play: MakePlay) -> None:
    # c4 is left out of the sum and works with the server: it signs all the same.
    p = play(threat_model="malicious").until_inputs().play_inputs(without=["c4"]).play_consents()
    sets = members(0, 1, 2, 3, 4).tobytes() + members(0, 1, 2, 3).tobytes()
    signature = sign_sets(p.identities["c4"], p.where, 4, sets)
    signatures = np.concatenate([p.request.signatures[:3], np.frombuffer(signature, np.uint8)[None]])
    bad = Consents(members(0, 1, 2, 4), signatures)
    refuses(p.clients["c0"], lambda: p.clients["c0"].unmask(bad), "signatures of survivors")


@pytest.mark.parametrize("what", ["who is in the sum", "who shared"])
def test_a_server_that_tells_two_groups_different_sets_gets_no_answers(play: MakePlay, what: str) -> None:
    p = play(10, threat_model="malicious").until_inputs()
    everybody, fewer = pack_set(frozenset(range(10)), 10), pack_set(frozenset(range(9)), 10)
    names, signatures = p.names[:9], []
    for i, name in enumerate(names):
        lied_to = i >= 5
        inbox, included = p.inboxes[name], fewer if what == "who shared" or lied_to else everybody
        if what == "who shared" and lied_to:
            inbox = altered(inbox, shared=fewer, sealed=inbox.sealed[:-1])
        p.clients[name].mask(p.xs[name], inbox)
        signatures.append(p.clients[name].consent(Included(included)).signature)
    for name in names:
        request = Consents(fewer, np.stack(signatures))
        refuses(p.clients[name], lambda n=name, r=request: p.clients[n].unmask(r), "the same sets")  # type: ignore[misc]


# Sealed shares.


def test_sealed_shares_altered_swapped_or_from_another_round_are_not_passed_on_as_shares(
    play: MakePlay,
) -> None:
    def spoil(change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]], rows: set[int]) -> None:
        p = play().until_inputs()
        good = p.inboxes["c0"]
        p.inboxes["c0"] = altered(good, sealed=change(good.sealed))
        p.play_inputs().play_answers()
        # Row r of the answer is client r's; its own share is row 0.
        spoilt = {r for r in range(5) if (p.answers["c0"].shares[r] == 255).all()}
        assert spoilt == rows
        result = p.server.finish()  # the others' shares are enough
        np.testing.assert_array_equal(result.total, reference(p.xs, p.terms))

    old = play(number=1).until_inputs().inboxes["c0"].sealed
    spoil(lambda s: flipped(s, 1, 3), {2})
    spoil(lambda s: s[[1, 0, 2, 3]], {1, 2})
    spoil(lambda s: np.concatenate([old[:1], s[1:]]), {1})
    spoil(lambda s: s, set())


# Clients that lie to the server.


def rejects(step: Callable[[], Any], who: str, match: str) -> None:
    with pytest.raises(RemoteProtocolError, match=match) as caught:
        step()
    assert caught.value.peer == who


def test_the_server_rejects_keys_that_are_not_the_clients_own(play: MakePlay) -> None:
    p = play()
    keys = {name: p.clients[name].advertise() for name in p.names}
    s: Server = p.server
    rejects(lambda: s.take_keys("c0", keys["c1"]), "c0", "signature")
    rejects(
        lambda: s.take_keys("c0", altered(keys["c0"], keys=flipped(keys["c0"].keys, 0, 0))), "c0", "signature"
    )
    rejects(lambda: s.take_keys("c0", altered(keys["c0"], keys=keys["c0"].keys[:1])), "c0", "two public keys")
    rejects(
        lambda: s.take_keys("c0", altered(keys["c0"], signature=np.zeros(63, np.uint8))), "c0", "a signature"
    )
    rejects(lambda: s.take_keys("stranger", keys["c0"]), "stranger", "not among")
    s.take_keys("c0", keys["c0"])
    rejects(lambda: s.take_keys("c0", keys["c0"]), "c0", "twice")
    # c1 signs c0's keys, one key twice, and a key of small order.
    for stolen, match in (
        (keys["c0"].keys, "one twice"),
        (np.stack([keys["c1"].keys[0]] * 2), "one twice"),
        (np.stack([keys["c1"].keys[0], np.zeros(32, np.uint8)]), "small order"),
    ):
        signature = np.frombuffer(sign_keys(p.identities["c1"], p.where, 1, stolen.tobytes()), np.uint8)
        forged = altered(keys["c1"], keys=stolen, signature=signature)
        rejects(lambda m=forged: s.take_keys("c1", m), "c1", match)  # type: ignore[misc]
    s.take_keys("c1", keys["c1"])


def test_the_server_rejects_messages_of_another_shape_late_early_twice_or_out_of_turn(play: MakePlay) -> None:
    p = play()
    s: Server = p.server
    p.play_keys(without=["c4"])
    late = p.clients["c4"].advertise()
    rejects(lambda: s.take_keys("c4", late), "c4", "late")
    shares = {n: p.clients[n].share(p.peer_keys[n]) for n in p.names[:4]}
    rejects(lambda: s.take_shares("c4", shares["c0"]), "c4", "dropped out before")
    rejects(
        lambda: s.take_shares("c0", altered(shares["c0"], sealed=shares["c0"].sealed[:2])), "c0", "sealed"
    )
    rejects(
        lambda: s.take_shares("c0", altered(shares["c0"], commitment=np.zeros(3, np.uint8))),
        "c0",
        "commitment",
    )
    for n in p.names[:4]:
        s.take_shares(n, shares[n])
    rejects(lambda: s.take_shares("c0", shares["c0"]), "c0", "twice")
    p.inboxes = s.close_shares()
    inputs = {n: p.clients[n].mask(p.xs[n], p.inboxes[n]) for n in p.names[:4]}
    for bad in (inputs["c0"].packed[:-1], np.append(inputs["c0"].packed, 0).astype(np.uint8)):
        rejects(lambda b=bad: s.take_input("c0", altered(inputs["c0"], packed=b)), "c0", "18 bytes")  # type: ignore[misc]
    spare = inputs["c0"].packed.copy()
    spare[-1] |= 0xF0  # 140 bits in 18 bytes
    rejects(lambda: s.take_input("c0", altered(inputs["c0"], packed=spare)), "c0", "spare bits")
    rejects(lambda: s.take_input("c4", inputs["c0"]), "c4", "dropped out before")
    for n in p.names[:4]:
        s.take_input(n, inputs[n])
    rejects(lambda: s.take_input("c0", inputs["c0"]), "c0", "twice")
    p.request = s.close_inputs()
    answer = p.clients["c0"].unmask(p.request)
    rejects(lambda: s.take_input("c0", inputs["c0"]), "c0", "late")
    rejects(lambda: s.take_answer("c4", answer), "c4", "dropped out before")
    rejects(lambda: s.take_answer("c0", altered(answer, shares=answer.shares[:3])), "c0", "shares")
    s.take_answer("c0", answer)
    rejects(lambda: s.take_answer("c0", answer), "c0", "twice")
    for n in p.names[1:4]:
        s.take_answer(n, p.clients[n].unmask(p.request))
    # What was rejected was not added.
    kept = {n: p.xs[n] for n in p.names[:4]}
    np.testing.assert_array_equal(s.finish().total, reference(kept, p.terms))


def test_a_vector_that_comes_after_the_deadline_stays_out_and_its_masking_key_is_asked_for(
    play: MakePlay,
) -> None:
    p = play().until_inputs()
    late = p.clients["c4"].mask(p.xs["c4"], p.inboxes["c4"])
    p.play_inputs(without=["c4"])
    rejects(lambda: p.server.take_input("c4", late), "c4", "late")
    p.play_answers()
    kept = {n: x for n, x in p.xs.items() if n != "c4"}
    np.testing.assert_array_equal(p.server.finish().total, reference(kept, p.terms))
    # and c4 itself, told that it dropped out, answers nothing
    refuses(p.clients["c4"], lambda: p.clients["c4"].unmask(p.request), "a set without it")


def test_the_server_rejects_signatures_of_other_sets(play: MakePlay) -> None:
    p = play(threat_model="malicious").until_inputs().play_inputs(without=["c4"])
    good = {n: p.clients[n].consent(p.request) for n in p.names[:4]}
    rejects(lambda: p.server.take_consent("c0", good["c1"]), "c0", "signature")
    rejects(lambda: p.server.take_consent("c4", good["c1"]), "c4", "dropped out before")
    rejects(
        lambda: p.server.take_consent("c0", altered(good["c0"], signature=np.zeros(1, np.uint8))),
        "c0",
        "a sig",
    )
    sets = members(0, 1, 2, 3, 4).tobytes() * 2
    wrong = np.frombuffer(sign_sets(p.identities["c0"], p.where, 0, sets), np.uint8)
    rejects(lambda: p.server.take_consent("c0", altered(good["c0"], signature=wrong)), "c0", "signature")
    for n in p.names[:4]:
        p.server.take_consent(n, good[n])
    rejects(lambda: p.server.take_consent("c0", good["c0"]), "c0", "twice")
    p.server.close_consents()


# Wrong shares.


@pytest.mark.parametrize("kind", ["self mask", "masking key"])
def test_a_wrong_share_is_found_its_sender_named_and_the_sum_right(play: MakePlay, kind: str) -> None:
    p = play(7).until_inputs().play_inputs(without=["c6"] if kind == "masking key" else [])
    for name in p.server.included:
        answer = p.clients[name].unmask(p.request)
        if name == "c1":
            answer = altered(answer, shares=flipped(answer.shares, 6 if kind == "masking key" else 3, 7))
        p.server.take_answer(name, answer)
    if kind == "masking key":  # six answers, six needed: it cannot be told who lied
        with pytest.raises(RemoteProtocolError, match="dealt wrong shares, or clients") as caught:
            p.server.finish()
        assert caught.value.peer == ""
        return
    result = p.server.finish()
    assert result.suspects == ("c1",)
    np.testing.assert_array_equal(result.total, reference(p.xs, p.terms))


def test_shares_dealt_wrong_are_found_and_nobody_is_named_who_may_be_honest(play: MakePlay) -> None:
    p = play().until_inputs().play_inputs()
    for name in p.names:
        answer = p.clients[name].unmask(p.request)
        # c2 gave everybody another secret than it committed to: all shares off by one
        row = int.from_bytes(answer.shares[2].tobytes(), "little")
        wrong = ((row + 1) % PRIME).to_bytes(33, "little")
        shares = answer.shares.copy()
        shares[2] = np.frombuffer(wrong, np.uint8)
        p.server.take_answer(name, altered(answer, shares=shares))
    with pytest.raises(RemoteProtocolError, match="c2 dealt wrong shares") as caught:
        p.server.finish()
    assert caught.value.peer == ""  # its holders could have agreed on it


def play_with_wrong_shares(play: MakePlay, dealt: dict[str, str]) -> MaskedSum:
    """Seven clients, of which six answers are needed; each key of `dealt` seals another share for its value."""
    p = play(7).play_keys()
    for name in p.names:
        shares = p.clients[name].share(p.peer_keys[name])
        if name in dealt:
            sender, receiver = p.names.index(name), p.names.index(dealt[name])
            row = receiver - (receiver > sender)
            letter = p.clients[name]._letter(sender=sender, receiver=receiver)
            opened = bytearray(letter.open(shares.sealed[row].tobytes()))
            opened[SHARE_BYTES] ^= 1
            sealed = shares.sealed.copy()
            sealed[row] = np.frombuffer(letter.seal(bytes(opened)), np.uint8)
            shares = altered(shares, sealed=sealed)
        p.server.take_shares(name, shares)
    p.inboxes = p.server.close_shares()
    result = p.play_inputs().play_answers().server.finish()
    np.testing.assert_array_equal(result.total, reference(p.xs, p.terms))
    return result


def test_a_share_dealt_wrong_is_laid_to_its_holder_and_the_sum_is_right(play: MakePlay) -> None:
    # c2 seals another share for c0 than it should. c0 passes on what it got, and nobody else can read what that was.
    assert play_with_wrong_shares(play, {"c2": "c0"}).suspects == ("c0",)


def test_clients_that_were_dealt_wrong_shares_still_help_with_the_others(play: MakePlay) -> None:
    # Without all that c0, c1 and c3 send there would be four shares of each secret, of which six are needed.
    dealt = {"c2": "c0", "c4": "c1", "c5": "c3"}
    assert play_with_wrong_shares(play, dealt).suspects == ("c0", "c1", "c3")


@pytest.mark.parametrize("spelling", [b"\xff" * 33, PRIME.to_bytes(33, "little")])
def test_bytes_that_are_no_share_count_as_none(play: MakePlay, spelling: bytes) -> None:
    p = play().until_inputs().play_inputs()
    for i, name in enumerate(p.names):
        answer = p.clients[name].unmask(p.request)
        if i < 2:
            shares = answer.shares.copy()
            shares[2] = np.frombuffer(spelling, np.uint8)
            answer = altered(answer, shares=shares)
        p.server.take_answer(name, answer)
    with pytest.raises(TooFewPartiesError, match="c2's secret from at least 4 clients, got 3") as caught:
        p.server.finish()
    assert caught.value.peer == "c2"


# Too few.


def test_fewer_clients_than_needed_open_nothing(play: MakePlay) -> None:
    for step in range(5):
        p = play(threat_model="malicious")
        steps = (p.play_keys, p.play_shares, p.play_inputs, p.play_consents)
        for made in steps[:step]:
            made()
        if step < 4:
            with pytest.raises(
                TooFewPartiesError, match="at least 4 of 5 clients, got 3; nothing was opened"
            ):
                steps[step](["c3", "c4"])
        else:
            p.play_answers(["c3", "c4"])
            with pytest.raises(TooFewPartiesError, match="at least 4 clients, got 3"):
                p.server.finish()
