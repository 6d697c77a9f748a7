"""Sums under a key that n holders make together: they decrypt what they added up themselves, once, or nothing.

The module is long because keys, sums and lies of key holders are runs of one federation.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace as changed

from altering import altering
from blame import blamed
from costs import measured
from secagg import wire
from secagg.cost.operation import Cost
from secagg.errors import (
    AbortedError,
    PeerMissingError,
    RemoteProtocolError,
    TooFewPartiesError,
    UsageError,
)
from secagg.he.rlwe.key_generation import Confirmation, Opening
from secagg.he.rlwe.keys import PublicKey, PublicKeyMessage, SecretKey
from secagg.he.rlwe.parameters import parameters
from secagg.he.rlwe.threshold import KeyShare, KeyShareMessage, PartialDecryption
from secagg.he.rlwe.uploads import Collector, HalfUpload, Round, Upload, Vote, sign_upload
from secagg.ledger import Ledger
from secagg.network.simulated import ACTIONS, Action, Fault, simulate
from secagg.party import Party, Program, Run
from secagg.protocols.he_sum import threshold_rlwe
from secagg.protocols.he_sum.threshold_rlwe import OtherHalf, Relayed, cost, key_cost
from secagg.wire import M, Message
from sums import OF_SEVERAL_HOLDERS
from transcripts import kinds

pytestmark = pytest.mark.slow

Make = Callable[..., Any]
Drive = Callable[[Mapping[str, Program[Any]]], tuple[dict[str, Any], dict[str, Ledger]]]

HOLDERS = ("h1", "h2", "h3")
FOUR: dict[str, Any] = {"clients": ("a", "b", "c", "d")}
ROLES: dict[str, dict[str, Any]] = {
    **OF_SEVERAL_HOLDERS,
    "two holders who are all clients": {
        "clients": ("h1", "h2"),
        "key_holders": ("h1", "h2"),
        "results": ("h1", "h2"),
    },
}


def declared(federation: Any, case: Any, n_uploads: int | None = None) -> dict[str, Cost]:
    return {
        n: cost(n, terms=case.terms, release_plan=federation.release_plan, n_uploads=n_uploads)
        for n in case.programs
    }


def first_sent(federation: Any, kind: type[M]) -> M:
    """Run a round, and return the first message of a kind that h2 sends in it."""
    case, kept = federation.case(), []

    def keep(_: Party, to: str, message: Message) -> Message:
        if isinstance(message, kind):
            kept.append(message)
        return message

    case.play(replaced={"h2": altering(case.programs["h2"], keep)})
    return kept[0]


def answers(out: Any) -> set[str]:
    """Who sent a partial decryption."""
    return {sender for sender, _, kind in kinds(out.transcript) if kind == "PartialDecryption"}


# Keys.


@pytest.mark.parametrize("roles", ROLES)
def test_everybody_gets_the_key_at_the_declared_cost(federate: Make, roles: str) -> None:
    federation = federate(with_key=False, **ROLES[roles])
    out = federation.make_key()
    terms, plan = federation.terms, federation.release_plan
    assert {n: measured(n, x) for n, x in out.ledgers.items()} == {
        n: key_cost(n, terms=terms, release_plan=plan) for n in out.ledgers
    }
    ids = set()
    for name, key in federation.keys.items():
        assert isinstance(key, KeyShare if name in terms.roles.key_holders else PublicKey)
        ids.add((key.public_key if isinstance(key, KeyShare) else key).key_id)
    assert len(ids) == 1


def test_every_driver_makes_a_key_at_the_declared_cost(drive: Drive, federate: Make) -> None:
    federation = federate(with_key=False)
    keys, ledgers = drive(federation.key_programs())
    assert {n: measured(n, x) for n, x in ledgers.items()} == {
        n: key_cost(n, terms=federation.terms, release_plan=federation.release_plan) for n in ledgers
    }
    federation.keys = keys
    case = federation.case()
    case.check_all(case.play().results, ("a", "b", "c"))


def test_one_session_makes_a_key_for_each_round(federate: Make) -> None:
    federation = federate(with_key=False)
    first = federation.key_programs()
    second = federation.key_programs(replace(federation.terms, round=1))

    def both(name: str) -> Program[Any]:
        async def program(p: Party) -> Any:
            return await first[name](p), await second[name](p)

        return program

    out = simulate({n: both(n) for n in first})
    ids = {tuple(getattr(k, "public_key", k).key_id for k in pair) for pair in out.values()}
    assert len(ids) == 1
    (pair,) = ids
    assert pair[0] != pair[1]
    # Each has a common random polynomial of its own.
    first_key, second_key = out.results["r"]
    assert first_key.seed != second_key.seed


def test_a_program_of_key_and_sum_gives_the_sum_under_every_driver(drive: Drive, federate: Make) -> None:
    federation = federate(with_key=False)
    made = federation.key_programs()
    case = federation.case()

    def both(name: str) -> Program[Any]:
        async def program(p: Party) -> Any:
            federation.keys[name] = await made[name](p)
            return await case.programs[name](p)

        return program

    results, _ = drive({n: both(n) for n in made})
    case.check_all(results, ("a", "b", "c"))


def other_key(federation: Any, bits: int, **options: Any) -> PublicKeyMessage:
    b = SecretKey.generate(parameters(bits)).public_key.b
    options = {"holders": 3, "flood_bits": federation.release_plan.flood_bits} | options
    return PublicKey(parameters(bits), bytes(32), b, **options).to_message()


@pytest.mark.parametrize(
    "what",
    ["another key", "another ring", "other flooding", "more holders", "no key", "another confirmation"],
)
def test_a_key_that_the_first_holder_made_up_is_refused_and_it_is_named(federate: Make, what: str) -> None:
    federation = federate(with_key=False)
    programs = federation.key_programs()

    def alter(_: Party, to: str, message: Message) -> Message:
        if to in HOLDERS:
            return message
        if what == "another confirmation":
            return changed(message, transcript=bytes(32)) if isinstance(message, Confirmation) else message
        if not isinstance(message, PublicKeyMessage):
            return message
        wrong: dict[str, Callable[[], Message]] = {
            "another key": lambda: other_key(federation, 96),
            "another ring": lambda: other_key(federation, 128),
            "other flooding": lambda: other_key(federation, 96, flood_bits=20),
            "more holders": lambda: other_key(federation, 96, holders=4),
            "no key": lambda: changed(message, seed=bytes(31)),
        }
        return wrong[what]()

    out = simulate(programs | {"h1": altering(programs["h1"], alter)})
    for name in ("a", "b", "c", "agg", "r"):
        error = out.errors[name]
        assert isinstance(error, RemoteProtocolError | AbortedError), repr(error)
    named = {blamed(error) for error in out.errors.values()}
    # Of transcripts that differ, nobody can tell whose is the right one.
    assert named == {"h1"} or (what == "another confirmation" and named <= {"h1", "h2"})


def test_a_holder_that_opens_something_else_than_it_committed_to_is_named_and_there_is_no_key(
    federate: Make,
) -> None:
    federation = federate(with_key=False)
    programs = federation.key_programs()

    def alter(_: Party, to: str, message: Message) -> Message:
        return changed(message, nonce=bytes(32)) if isinstance(message, Opening) else message

    out = simulate(programs | {"h2": altering(programs["h2"], alter)})
    assert not {"h1", "h3", "a", "agg", "r"} & set(out.results)
    assert {blamed(out.errors[n]) for n in ("h1", "h3")} == {"h2"}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_fault_while_a_key_is_made_ends_in_one_key_or_an_error_that_names_a_peer(
    federate: Make, action: Action
) -> None:
    federation = federate(with_key=False, results=("agg",))
    programs = federation.key_programs()
    messages = simulate(programs).messages
    for message in range(0, messages, 2 if action in ("drop", "delay") else 3):
        out = simulate(programs, insecure_seed=message, faults=[Fault(action, message)])
        assert len({getattr(k, "public_key", k).key_id for k in out.results.values()}) <= 1
        if action == "delay":
            assert not out.errors
        for error in out.errors.values():
            assert isinstance(error, RemoteProtocolError | PeerMissingError)
            assert error.peer in programs


# What it computes, and what that costs.


@pytest.mark.parametrize("shape", [(), (2, 3, 4), (5000,)])
@pytest.mark.parametrize(("holders", "modulus_bits"), [(2, 96), (4, 96), (3, 128)])
def test_sums_of_any_shape_by_any_number_of_holders_are_right(
    federate: Make, shape: tuple[int, ...], holders: int, modulus_bits: int
) -> None:
    names = tuple(f"h{i}" for i in range(holders))
    federation = federate(shape=shape, key_holders=names, modulus_bits=modulus_bits)
    case = federation.case()
    out = case.play()
    case.check_all(dict(zip(case.programs, out.values(), strict=True)), case.terms.roles.clients)
    assert {n: measured(n, x) for n, x in out.ledgers.items()} == declared(federation, case)


@pytest.mark.parametrize(("clip", "frac_bits"), [(1.0, 20), (1000.0, 8), (0.01, 30)])
def test_sums_of_real_numbers_are_within_the_error_that_comes_with_them(
    federate: Make, clip: float, frac_bits: int
) -> None:
    federation = federate(clip=clip, frac_bits=frac_bits, shape=(20,), statistical_bits=20)
    for seed in range(3):
        case = federation.case(seed=seed, round=seed)
        result = case.play().results["r"]
        case.check(result, case.terms.roles.clients)
        assert result.error == 3 * 2.0 ** -(frac_bits + 1)


# Clients that are missing.


@pytest.mark.parametrize("actions", [("crash", "crash"), ("drop", "crash"), ("drop", "drop")])
def test_with_too_few_uploads_nothing_is_decrypted(federate: Make, actions: tuple[Action, Action]) -> None:
    federation = federate()
    case = federation.case()
    epochs = [record.epoch for record in federation.records.values()]
    faults = tuple(Fault(action, 0, sender=who) for action, who in zip(actions, ("a", "c"), strict=True))
    out = case.play(faults=faults, record=True)
    assert not any(out.results.values())
    assert isinstance(out.errors["agg"], TooFewPartiesError)
    assert not answers(out)
    assert [record.epoch for record in federation.records.values()] == epochs
    for holder in HOLDERS:
        assert isinstance(out.errors[holder], AbortedError)


# Clients that send something else.


def round_of(federation: Any, terms: Any, session: bytes, **fields: Any) -> Round:
    key = federation.keys[terms.roles.key_holders[0]].public_key
    values = {
        "session": session,
        "number": terms.round,
        "public_key": key,
        "release_plan": federation.release_plan,
        "shape": terms.shape,
        "clients": federation.identities.clients,
        "holders": federation.identities.key_holders,
        "min_clients": terms.min_clients,
    }
    return Round(**{**values, **fields})


def wrong_uploads(federation: Any, who: str, terms: Any, session: bytes) -> dict[str, Callable[[], Message]]:
    x, plan = np.ones(terms.shape), terms.plan
    round_ = round_of(federation, terms, session)
    key: Any = round_.public_key
    own = federation.signers[who]
    other_client = next(n for n in terms.roles.clients if n != who)

    def signed(ciphertext: Any, **fields: Any) -> Any:
        return sign_upload(replace(round_, **fields), who, ciphertext, own)

    def honest() -> Any:
        return signed(key.encrypt(x, plan))

    def with_words(how: Callable[[Any], Any]) -> Message:
        upload = honest()
        words = tuple(map(how, upload.ciphertext.words))
        return changed(upload, ciphertext=changed(upload.ciphertext, words=words))

    def swapped(ciphertext: Any) -> Message:  # signed as the fresh one, sent as something else
        return changed(honest(), ciphertext=ciphertext.to_message())

    foreign = SecretKey.generate().public_key
    return {
        "under another key": lambda: swapped(foreign.encrypt(x, plan)),
        "of another plan": lambda: swapped(key.encrypt(x, replace(plan, clip=50.0))),
        "of another shape": lambda: swapped(key.encrypt(np.ones((5, 1)), plan)),
        "a sum": lambda: swapped(key.encrypt(x, plan) + key.encrypt(x, plan)),
        "a multiple": lambda: swapped(key.encrypt(x, plan) * 2),
        "signed by nobody registered": lambda: sign_upload(
            round_, who, key.encrypt(x, plan), Ed25519PrivateKey.generate()
        ),
        "in another's name": lambda: sign_upload(round_, other_client, key.encrypt(x, plan), own),
        "for another round": lambda: signed(key.encrypt(x, plan), number=terms.round + 1),
        "for another session": lambda: signed(key.encrypt(x, plan), session=bytes(32)),
        "altered after signing": lambda: with_words(lambda a: a ^ a.dtype.type(1)),
        "without a signature": lambda: changed(honest(), signature=b""),
        "cut": lambda: with_words(lambda a: a[..., :-1]),
        "empty": lambda: with_words(lambda a: a[:0]),
        "another message": lambda: Relayed(None),
    }


@pytest.mark.parametrize("who", ["a", "d"], ids=["first", "last"])
def test_a_client_that_uploads_something_else_is_left_out_and_named(federate: Make, who: str) -> None:
    federation = federate(**FOUR)
    for number, what in enumerate(wrong_uploads(federation, who, federation.terms, bytes(32))):
        case = federation.case(round=number)

        async def lie(p: Party, what: str = what, case: Any = case) -> None:
            p.send("agg", wrong_uploads(federation, who, case.terms, p.session)[what]())

        out = case.play(replaced={who: lie})
        assert not out.errors, (what, out.errors)
        case.check_all(out.results, tuple(n for n in case.terms.roles.clients if n != who))
        failed = case.parties["agg"].failed
        assert list(failed) == [who], what
        assert isinstance(failed[who], RemoteProtocolError), what
        assert who in str(failed[who]), what


def test_a_client_that_calls_its_array_heavier_is_left_out_and_named(federate: Make) -> None:
    federation = federate(max_weight=3, **FOUR)
    case = federation.case()
    encoded = np.ones(5, case.terms.plan.ring.dtype)

    async def heavy(p: Party) -> None:
        round_ = round_of(federation, case.terms, p.session)
        ciphertext = round_.public_key.encrypt_encoded(encoded, case.terms.plan, weight=2)
        p.send("agg", sign_upload(round_, "b", ciphertext, federation.signers["b"]))

    out = case.play(replaced={"b": heavy})
    assert not out.errors
    case.check_all(out.results, ("a", "c", "d"))
    assert list(case.parties["agg"].failed) == ["b"]


def test_a_wrong_upload_does_not_count_towards_the_least(federate: Make) -> None:
    federation = federate(min_clients=3)
    case = federation.case()

    async def lie(p: Party) -> None:
        p.send("agg", wrong_uploads(federation, "b", case.terms, p.session)["without a signature"]())

    out = case.play(replaced={"b": lie}, record=True)
    error = out.errors["agg"]
    assert isinstance(error, TooFewPartiesError)
    assert error.peer == "b"
    assert not answers(out)
    assert not any(out.results.values())


def test_a_client_that_uploads_another_clients_ciphertext_is_left_out_and_named(federate: Make) -> None:
    federation = federate(**FOUR)
    case = federation.case()
    copied: list[Any] = []

    def keep(_: Party, to: str, message: Message) -> Message:
        copied.append(message)
        return message

    async def copy(p: Party) -> None:
        # As if it had seen what a sent.
        round_ = round_of(federation, case.terms, p.session)

        ciphertext = round_.public_key.read(copied[0].ciphertext, peer="a")
        p.send("agg", sign_upload(round_, "d", ciphertext, federation.signers["d"]))

    out = case.play(replaced={"a": altering(case.programs["a"], keep), "d": copy})
    assert not out.errors
    case.check_all(out.results, ("a", "b", "c"))
    assert "ciphertext of another client" in str(case.parties["agg"].failed["d"])


# An aggregator that lies.


def lying(federation: Any, case: Any, tell: Callable[[Party, dict[str, HalfUpload], Any], None]) -> Any:
    """An aggregator that collects all uploads and then does what `tell` does."""

    async def run(p: Party) -> None:
        collector = Collector(round_of(federation, case.terms, p.session))
        got = await p.gather(Upload, case.terms.roles.clients)
        halves = {client: collector.add(client, upload) for client, upload in got.items()}
        tell(p, halves, collector)

    return run


def relay(p: Party, to: str, halves: Any, *, close: bool = True) -> None:
    for half in halves:
        p.send(to, Relayed(half))
    if close:
        p.send(to, Relayed(None))


def forged(half: HalfUpload) -> dict[str, HalfUpload]:
    words = tuple(w ^ w.dtype.type(1) for w in half.c1)
    return {
        "another signature": changed(half, signature=bytes(64)),
        "other polynomials": changed(half, c1=words),
        "another digest": changed(half, digest_c0=bytes(32)),
        "another weight": changed(half, header=changed(half.header, weight=2)),
        "another name": changed(half, client="b" if half.client != "b" else "a"),
        "an unregistered name": changed(half, client="mallory"),
        "a cut polynomial": changed(half, c1=tuple(w[..., :-1] for w in half.c1)),
    }


FORGED = [
    "another signature",
    "other polynomials",
    "another digest",
    "another weight",
    "another name",
    "an unregistered name",
    "a cut polynomial",
    "twice",
    "from another round",
    "too few",
    "none",
]


@pytest.mark.parametrize("what", FORGED)
def test_key_holders_decrypt_nothing_when_the_aggregator_passes_on_what_it_should_not(
    federate: Make, what: str
) -> None:
    federation = federate()
    earlier: list[HalfUpload] = []
    first = federation.case()
    first.play(
        replaced={"agg": lying(federation, first, lambda p, halves, c: earlier.extend(halves.values()))}
    )
    case = federation.case(round=1)
    epochs = [record.epoch for record in federation.records.values()]

    def tell(p: Party, halves: dict[str, HalfUpload], collector: Collector) -> None:
        a, b, c = halves["a"], halves["b"], halves["c"]
        lists: dict[str, list[HalfUpload]] = {
            "twice": [a, b, a],
            "from another round": [a, b, earlier[2]],
            "too few": [a],
            "none": [],
        }
        for holder in HOLDERS:
            relay(p, holder, lists.get(what) or ([a, b, forged(c)[what]] if what not in lists else []))
        p.send("r", OtherHalf(collector.close().digests, collector.total.c0.words))

    out = case.play(replaced={"agg": lying(federation, case, tell)}, record=True)
    assert not any(out.results.values())
    assert not answers(out)
    assert [record.epoch for record in federation.records.values()] == epochs
    for holder in HOLDERS:
        error = out.errors[holder]
        assert isinstance(error, RemoteProtocolError | AbortedError)
        assert "agg" in str(error)
    assert {blamed(error) for error in out.errors.values()} == {"agg"}


@pytest.mark.parametrize("what", ["two uploads of one client", "a heavier upload"])
def test_key_holders_decrypt_nothing_when_aggregator_and_a_client_conspire(federate: Make, what: str) -> None:
    federation = federate(max_weight=3)
    case = federation.case()
    encoded = np.ones(5, case.terms.plan.ring.dtype)

    def tell(p: Party, halves: dict[str, HalfUpload], collector: Collector) -> None:
        round_, weight = collector.round, 2 if what == "a heavier upload" else 1
        more = round_.public_key.encrypt_encoded(encoded, case.terms.plan, weight=weight)
        upload = sign_upload(round_, "c", more, federation.signers["c"])  # in order, but for what it is
        relayed = [halves["a"], halves["b"], Collector(round_).add("c", upload)]
        if what == "two uploads of one client":
            relayed.append(halves["c"])
        for holder in HOLDERS:
            relay(p, holder, relayed)

    out = case.play(replaced={"agg": lying(federation, case, tell)}, record=True)
    assert not answers(out)
    assert {blamed(out.errors[holder]) for holder in HOLDERS} == {"agg"}


def test_key_holders_without_a_closing_message_decrypt_nothing_and_name_the_aggregator(
    federate: Make,
) -> None:
    federation = federate()
    case = federation.case()

    def tell(p: Party, halves: dict[str, HalfUpload], collector: Collector) -> None:
        for holder in HOLDERS:
            relay(p, holder, halves.values(), close=False)

    out = case.play(replaced={"agg": lying(federation, case, tell)}, record=True)
    assert not answers(out)
    assert {blamed(error) for error in out.errors.values()} == {"agg"}
    assert set(out.errors) == {*HOLDERS, "r"}


@pytest.mark.parametrize(
    "sets",
    [
        {"h1": "ab", "h2": "abc", "h3": "abc"},
        {"h1": "ab", "h2": "bc", "h3": "ac"},
        {"h1": "abc", "h2": "abc", "h3": "ab"},
    ],
    ids=str,
)
def test_key_holders_that_were_given_different_sets_decrypt_nothing(
    federate: Make, sets: dict[str, str]
) -> None:
    federation = federate()
    case = federation.case()
    epochs = [record.epoch for record in federation.records.values()]

    def tell(p: Party, halves: dict[str, HalfUpload], collector: Collector) -> None:
        for holder in HOLDERS:
            relay(p, holder, [halves[n] for n in sets[holder]])
        p.send("r", OtherHalf(collector.close().digests, collector.total.c0.words))

    out = case.play(replaced={"agg": lying(federation, case, tell)}, record=True)
    assert not any(out.results.values())
    assert not answers(out)
    assert [record.epoch for record in federation.records.values()] == epochs
    for holder in HOLDERS:
        error = out.errors[holder]
        assert isinstance(error, RemoteProtocolError | AbortedError)
        assert "other uploads" in str(error)


def test_the_order_of_uploads_does_not_matter(federate: Make) -> None:
    federation = federate()
    case = federation.case()

    def tell(p: Party, halves: dict[str, HalfUpload], collector: Collector) -> None:
        for holder, names in zip(HOLDERS, ("abc", "cab", "bca"), strict=True):
            relay(p, holder, [halves[n] for n in names])
        p.send("r", OtherHalf(collector.close().digests, collector.total.c0.words))

    out = case.play(replaced={"agg": lying(federation, case, tell)})
    assert not out.errors
    case.check_all(out.results, ("a", "b", "c"))


@pytest.mark.parametrize(
    "what",
    ["fewer", "a stranger", "a name twice", "other digests", "other c0", "c0 of two", "c0 of another length"],
)
def test_a_result_party_that_is_given_another_list_or_half_has_no_result(federate: Make, what: str) -> None:
    federation = federate(**FOUR)
    case = federation.case()

    def tell(p: Party, halves: dict[str, HalfUpload], collector: Collector) -> None:
        for holder in HOLDERS:
            relay(p, holder, halves.values())
        outcome, c0 = collector.close(), collector.total.c0
        noise = np.random.default_rng(1).bytes
        digests, words = outcome.digests, c0.words
        wrong: dict[str, tuple[Any, Any]] = {
            "fewer": (digests[:-1], words),
            "a stranger": ((*digests[:-1], ("mallory", bytes(32))), words),
            "a name twice": ((*digests[:-1], digests[0]), words),
            "other digests": ((*digests[:-1], (digests[-1][0], bytes(32))), words),
            "other c0": (
                digests,
                tuple(np.frombuffer(noise(w.nbytes), w.dtype).reshape(w.shape) for w in words),
            ),
            "c0 of two": (digests, tuple(w + w for w in words)),
            "c0 of another length": (digests, tuple(w[..., :-1] for w in words)),
        }
        p.send("r", OtherHalf(*wrong[what]))

    out = case.play(replaced={"agg": lying(federation, case, tell)})
    assert set(out.errors) == {"r"}
    error = out.errors["r"]
    assert isinstance(error, RemoteProtocolError)
    assert "agg" in str(error)
    # Where halves and answers do not go together, whose are wrong cannot be told.
    assert blamed(error) == ("" if what in ("other c0", "c0 of two") else "agg")


# Key holders that lie or are missing.


@pytest.mark.parametrize("phase", ["vote", "answer"])
@pytest.mark.parametrize("action", ["crash", "drop"])
def test_a_missing_key_holder_is_an_error_that_names_it(federate: Make, phase: str, action: Action) -> None:
    federation = federate()
    case = federation.case()
    # A holder sends two votes, then its answer.
    out = case.play(faults=(Fault(action, 0 if phase == "vote" else 2, sender="h2"),), record=True)
    assert not any(out.results.values())
    error = out.errors["r"]
    assert isinstance(error, PeerMissingError)
    waited = {blamed(e) for e in out.errors.values()}
    if action == "crash" or phase == "answer":
        assert waited == {"h2"}
    else:  # the first who gives up waiting is named by the others
        assert waited <= {"h1", "h2"}
    if phase == "vote":
        assert "h1" not in answers(out)


@pytest.mark.parametrize(
    "what", ["unsigned", "another's", "of another sum", "another message", "of another round"]
)
def test_without_everybodys_vote_for_the_same_nothing_is_decrypted(federate: Make, what: str) -> None:
    federation = federate()
    kept = first_sent(federation, Vote)
    case = federation.case(round=1)
    epochs = [federation.records[h].epoch for h in ("h1", "h3")]

    def alter(_: Party, to: str, message: Message) -> Message:
        if not isinstance(message, Vote):
            return message
        votes: dict[str, Callable[[], Message]] = {
            "unsigned": lambda: Vote(message.transcript, bytes(64)),
            "another's": lambda: Vote(message.transcript, kept.signature),
            "of another sum": lambda: Vote(bytes(32), message.signature),
            "another message": lambda: Relayed(None),
            "of another round": lambda: kept,
        }
        return votes[what]()

    out = case.play(replaced={"h2": altering(case.programs["h2"], alter)}, record=True)
    assert not any(out.results.values())
    assert not answers(out) - {"h2"}
    assert [federation.records[h].epoch for h in ("h1", "h3")] == epochs
    assert {blamed(out.errors[h]) for h in ("h1", "h3")} == {"h2"}


@pytest.mark.parametrize(
    "what", ["noise", "unflooded", "of another sum", "cut", "another message", "of another round"]
)
def test_a_wrong_partial_decryption_is_an_error_and_no_wrong_number(federate: Make, what: str) -> None:
    federation = federate()
    kept = first_sent(federation, PartialDecryption)
    case = federation.case(round=1)
    rng = np.random.default_rng(2)

    def alter(_: Party, to: str, message: Message) -> Message:
        if not isinstance(message, PartialDecryption):
            return message
        wrong: dict[str, Callable[[], Message]] = {
            "noise": lambda: changed(
                message,
                words=tuple(
                    np.frombuffer(rng.bytes(w.nbytes), w.dtype).reshape(w.shape) for w in message.words
                ),
            ),
            "unflooded": lambda: changed(message, words=tuple(np.zeros_like(w) for w in message.words)),
            "of another sum": lambda: changed(message, transcript=bytes(32)),
            "cut": lambda: changed(message, words=tuple(w[..., :-1] for w in message.words)),
            "another message": lambda: Relayed(None),
            "of another round": lambda: changed(kept, transcript=message.transcript),
        }
        return wrong[what]()

    out = case.play(replaced={"h2": altering(case.programs["h2"], alter)})
    error = out.errors["r"]
    assert isinstance(error, RemoteProtocolError)
    assert not any(out.results.values())
    assert blamed(error) == ("" if what in ("noise", "unflooded", "of another round") else "h2")
    assert "key holders" in str(error) if not error.peer else "h2" in str(error)


# One release of a round.


def test_a_second_sum_of_the_same_round_is_refused_and_nothing_is_sent(federate: Make) -> None:
    federation = federate()
    case = federation.case()
    case.check_all(case.play().results)
    again = federation.case(seed=1)
    out = again.play(record=True)
    assert not answers(out)
    assert not any(out.results.values())
    refused = [e for h in HOLDERS if isinstance(e := out.errors[h], UsageError)]
    assert refused
    assert "was decrypted for another set" in str(refused[0])
    assert "Start a new round" in str(refused[0])


def test_the_same_arrays_uploaded_anew_are_another_sum(federate: Make) -> None:
    federation = federate()
    case = federation.case()
    assert case.play().results["r"] is not None
    assert not answers(case.play(record=True))


def test_no_more_rounds_are_decrypted_than_were_agreed_on(federate: Make) -> None:
    federation = federate(releases=2)
    for number in (0, 7):
        case = federation.case(round=number)
        case.check_all(case.play().results, ("a", "b", "c"))
    out = federation.case(round=8).play(record=True)
    assert not answers(out)
    assert any("all 2 agreed releases" in str(out.errors[h]) for h in HOLDERS)


def test_a_key_holder_may_be_restarted_between_rounds_and_forgets_nothing(federate: Make) -> None:
    federation = federate()
    case = federation.case()
    case.check_all(case.play().results)
    federation.open_records()
    share = federation.keys["h2"]
    kept = wire.to_bytes(share.to_message())
    federation.keys["h2"] = KeyShare.from_message(wire.from_bytes(kept, KeyShareMessage))
    assert not answers(federation.case(seed=1).play(record=True))
    later = federation.case(seed=1, round=1)
    later.check_all(later.play().results, ("a", "b", "c"))


def test_a_key_holder_without_its_record_decrypts_nothing(federate: Make) -> None:
    federation = federate()
    federation.records["h2"].close()
    (federation.directory / "h2.db").unlink()
    federation.open_records()
    out = federation.case().play(record=True)
    assert "h2" not in answers(out)
    assert isinstance(out.errors["h2"], UsageError)
    assert "knows nothing of" in str(out.errors["h2"])


def test_a_restored_key_holder_answers_with_the_same_bytes(
    federate: Make, drivers: Mapping[str, Drive]
) -> None:
    # Stored and restored behind each step, it replays all before, the entry in its record too; the digest of what it
    # sends is compared with that before.
    federation = federate(results=HOLDERS)
    case = federation.case()
    results, _ = drivers["stepwise"](case.programs)
    case.check_all(results, ("a", "b", "c"))
    assert {record.epoch for record in federation.records.values()} == {2}  # the key, one release


# What is refused before anything is sent.


def test_keys_and_roles_that_do_not_fit_are_refused_before_anything_is_sent(federate: Make) -> None:
    federation = federate()
    case = federation.case()
    ids = federation.identities

    def refused(name: str, why: str, values: Any = None, **options: Any) -> None:
        options = {
            "terms": case.terms,
            "release_plan": federation.release_plan,
            "identities": ids,
            "key": federation.keys[name],
            "identity": federation.signers[name],
            "log": federation.records.get(name),
        } | options
        program: Program[Any] = lambda p: threshold_rlwe.take_part(p, values, **options)  # noqa: E731
        out = case.play(replaced={name: program})
        assert isinstance(out.errors[name], UsageError)
        assert why in str(out.errors[name])
        assert out.ledgers[name].total().sent.messages == 0

    x = np.zeros(5)
    refused("h1", "a key share at the key holders", key=federation.keys["r"])
    refused("r", "a key share at the key holders", key=federation.keys["h1"])
    refused("a", "at the clients")
    refused("a", "needs its signing key", x, identity=None)
    refused("h1", "needs its signing key and its decryption log", identity=None)
    refused("h1", "needs its signing key and its decryption log", log=None)
    fewer = replace(ids, clients={n: k for n, k in ids.clients.items() if n != "b"})
    refused("a", "those of b are missing", x, identities=fewer)
    refused(
        "a", "the key was made for", x, terms=replace(case.terms, plan=replace(case.terms.plan, clip=50.0))
    )


def test_a_key_is_not_made_without_what_a_holder_needs(federate: Make) -> None:
    federation = federate(with_key=False)
    options = {
        "terms": federation.terms,
        "release_plan": federation.release_plan,
        "identities": federation.identities,
    }
    programs = federation.key_programs()
    given = {"identity": federation.signers["h1"], "log": federation.records["h1"]}
    for missing in given:
        rest = {**options, **given, missing: None}
        out = simulate(programs | {"h1": lambda p, rest=rest: threshold_rlwe.agree_key(p, **rest)})
        assert isinstance(out.errors["h1"], UsageError)
        assert out.ledgers["h1"].total().sent.messages == 0


# Faults at every message.


# What the wire shows, and what the aggregator holds.


def test_key_holders_see_half_of_each_upload_and_the_aggregator_no_answer(federate: Make) -> None:
    case = federate().case()
    out = case.play(record=True)
    seen = {(to, kind) for _, to, kind in kinds(out.transcript)}
    assert {kind for to, kind in seen if to == "agg"} == {"Upload"}
    assert {kind for to, kind in seen if to in HOLDERS} == {"Relayed", "Vote"}
    assert {kind for to, kind in seen if to == "r"} == {"OtherHalf", "PartialDecryption"}


@pytest.mark.parametrize("role", ["aggregator", "key holder"])
def test_what_aggregator_and_key_holders_keep_does_not_grow_with_the_clients(
    federate: Make, role: str
) -> None:
    clients = tuple(f"c{i}" for i in range(120))
    federation = federate(clients=clients, shape=(4096,))
    key = federation.keys["r"]
    peaks = []
    for count in (10, 120):
        case = federation.case(roles=replace(federation.terms.roles, clients=clients[:count]))
        me = "agg" if role == "aggregator" else "h1"
        roster = tuple(case.programs)
        party = Party(me, roster, session=bytes(32))
        run: Run[Any] = Run(party, case.programs[me](party))
        run.start()
        round_ = round_of(
            federation,
            case.terms,
            bytes(32),
            clients={n: federation.identities.clients[n] for n in case.terms.roles.clients},
        )
        sender = Party("agg", roster, session=bytes(32))

        def frame(
            name: str, round_: Round = round_, sender: Party = sender, roster: Any = roster
        ) -> bytearray:
            own = key.encrypt(np.ones(4096), federation.terms.plan)
            upload = sign_upload(round_, name, own, federation.signers[name])
            if role == "aggregator":
                client = Party(name, roster, session=bytes(32))
                client.send("agg", upload)
                return bytearray(b"".join(client.outbox.popleft().frame))
            sender.send("h1", Relayed(Collector(round_).add(name, upload)))
            return bytearray(b"".join(sender.outbox.popleft().frame))

        tracemalloc.start()
        try:
            for name in case.terms.roles.clients:
                party.deliver(frame(name), name if role == "aggregator" else "agg")
                while run.step():
                    if role == "aggregator":
                        party.outbox.clear()  # as a driver that has sent everything
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    upload_bytes = 2 * 4096 * 12
    assert peaks[1] < peaks[0] + 110 * 3_000 < peaks[0] + 4 * upload_bytes
