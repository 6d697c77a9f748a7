"""Sums under a Paillier key that t of n hold: right without n - t of them, and whoever answers wrongly is named.

One key has 2048 bits; runs of which there are many use one of 512, which only the tests can make.

The module is long because one dealt key serves every lie and loss.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as changed

pytest.importorskip("gmpy2", reason="Paillier needs gmpy2")

from blame import blamed
from costs import measured
from encrypted_sums import dealt, shared_paillier
from secagg.cost.operation import Cost
from secagg.errors import (
    AbortedError,
    PeerVanishedError,
    RemoteProtocolError,
    SecaggError,
    TooFewPartiesError,
    UsageError,
)
from secagg.he.paillier.ciphertexts import CiphertextMessage
from secagg.he.paillier.threshold import DecryptionShare, KeyShare
from secagg.ledger import Ledger
from secagg.network.simulated import Action, Fault
from secagg.party import Party, Program, Run
from secagg.protocols.he_sum import threshold_paillier
from secagg.protocols.he_sum.threshold_paillier import cost
from secagg.protocols.he_sum.uploads import Contributors
from secagg.wire import Message
from sums import OF_SEVERAL_HOLDERS

pytestmark = pytest.mark.slow

Make = Callable[..., Any]
Drive = Callable[[Mapping[str, Program[Any]]], tuple[dict[str, Any], dict[str, Ledger]]]

ROLES = OF_SEVERAL_HOLDERS


def declared(case: Any, *, needed: int = 2, small: bool = True) -> dict[str, Cost]:
    public_key, _ = dealt(len(case.terms.roles.key_holders), needed, small=small)
    return {n: cost(n, terms=case.terms, public_key=public_key) for n in case.programs}


# What it computes, and what that costs.


def test_a_key_of_2048_bits_gives_the_sum_at_the_declared_cost() -> None:
    case = shared_paillier(small=False, shape=(200,), results=("r", "h1"))
    out = case.play()
    case.check_all(dict(zip(case.programs, out.values(), strict=True)), case.terms.roles.clients)
    expected = declared(case, small=False)
    assert {n: measured(n, ledger) for n, ledger in out.ledgers.items()} == expected


@pytest.mark.parametrize("shape", [(), (1,), (2, 3, 4), (150,)])
@pytest.mark.parametrize(("holders", "needed"), [(2, 2), (3, 3), (5, 3)])
def test_sums_of_any_shape_by_any_number_of_holders_are_right(
    shape: tuple[int, ...], holders: int, needed: int
) -> None:
    names = tuple(f"h{i}" for i in range(holders))
    case = shared_paillier(shape=shape, key_holders=names, needed=needed)
    out = case.play()
    case.check_all(dict(zip(case.programs, out.values(), strict=True)), case.terms.roles.clients)
    expected = declared(case, needed=needed)
    assert {n: measured(n, ledger) for n, ledger in out.ledgers.items()} == expected


@pytest.mark.parametrize(("clip", "frac_bits"), [(1.0, 20), (1000.0, 8), (0.01, 30)])
def test_sums_of_real_numbers_are_within_the_error_that_comes_with_them(clip: float, frac_bits: int) -> None:
    for seed in range(4):
        case = shared_paillier(clip=clip, frac_bits=frac_bits, seed=seed, shape=(20,))
        result = case.play().results["r"]
        case.check(result, case.terms.roles.clients)
        assert result.error == 3 * 2.0 ** -(frac_bits + 1)


# Clients that are missing.


FOUR: dict[str, Any] = {"clients": ("a", "b", "c", "d")}


# Clients that send something else.


@pytest.mark.parametrize("who", ["a", "d"], ids=["first", "last"])
def test_a_client_that_uploads_something_else_is_left_out_and_named(who: str) -> None:
    case = shared_paillier(**FOUR)
    key, (other, _), plan = dealt(small=True)[0], dealt(3, 3, small=True), case.terms.plan
    x = np.ones(5)
    fresh = key.encrypt(x, plan)
    honest = fresh.to_message()
    uploads: dict[str, Message] = {
        "under a key with another threshold": other.encrypt(x, plan).to_message(),
        "of another plan": key.encrypt(x, replace(plan, clip=200.0)).to_message(),
        "of another shape": key.encrypt(np.ones((5, 1)), plan).to_message(),
        "with fewer numbers a residue": key.encrypt(x, plan, slots=1).to_message(),
        "a sum": (fresh + key.encrypt(x, plan)).to_message(),
        "a multiple": (fresh * 2).to_message(),
        "another message": Contributors(("a", "b")),
        "zeros": changed(honest, block=np.zeros_like(honest.block)),
        "not below n": changed(honest, block=honest.block | 255),
        "cut": changed(honest, block=honest.block[..., :-1]),
    }
    for what, message in uploads.items():

        async def lie(p: Party, message: Message = message) -> None:
            p.send("agg", message)

        out = case.play(replaced={who: lie})
        assert not out.errors, (what, out.errors)
        case.check_all(out.results, tuple(n for n in case.terms.roles.clients if n != who))
        failed = case.parties["agg"].failed
        assert list(failed) == [who], what
        assert isinstance(failed[who], RemoteProtocolError), what


# An aggregator that lies.


def lying(case: Any, key: Any, names: Mapping[str, tuple[str, ...]], made: Callable[[list[Any]], Any]) -> Any:
    """An aggregator that sends everybody a sum and names of its own."""

    async def run(p: Party) -> None:
        got = await p.gather(CiphertextMessage, ("a", "b", "c"))
        cs = [key.read(got[n], peer=n) for n in "abc"]
        for peer in ("h1", "h2", "h3", "r"):
            message = made(cs)
            if isinstance(message, dict):
                message = message[peer]
            p.send(peer, Contributors(names.get(peer, names["all"])))
            p.send(peer, message if isinstance(message, Message) else message.to_message())

    return run


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (("a", "b"), "the sum of three"),
        (("a", "b", "c"), "the sum of two"),
        (("a", "b"), "twice one client's"),
        (("a",), "one client's"),
        ((), "one client's"),
        (("a", "r"), "the sum of two"),
        (("a", "a"), "the sum of two"),
        (("a", "b", "c"), "another shape"),
        (("a", "b", "c"), "another packing"),
        (("a", "b", "c"), "another message"),
    ],
)
def test_key_holders_answer_for_nothing_but_a_sum_of_whom_the_aggregator_announces(
    names: tuple[str, ...], what: str
) -> None:
    case = shared_paillier()
    key = dealt(small=True)[0]

    def three(length: int, **options: Any) -> Any:
        one, two, other = (key.encrypt(np.ones(length), case.terms.plan, **options) for _ in range(3))
        return one + two + other

    def made(cs: list[Any]) -> Any:
        ciphertexts: dict[str, Callable[[], Any]] = {
            "the sum of three": lambda: cs[0] + cs[1] + cs[2],
            "the sum of two": lambda: cs[0] + cs[1],
            "one client's": lambda: cs[0],
            "twice one client's": lambda: cs[0] * 2,
            "another shape": lambda: three(4),
            "another packing": lambda: three(5, slots=6),
            "another message": lambda: Contributors(("a", "b", "c")),
        }
        return ciphertexts[what]()

    out = case.play(replaced={"agg": lying(case, key, {"all": names}, made)}, record=True)
    assert not any(out.results.values())
    assert not [frame for sender, _, frame in out.transcript if sender.startswith("h")]
    for peer in ("h1", "h2", "h3", "r"):
        assert isinstance(out.errors[peer], RemoteProtocolError | AbortedError)
    assert {blamed(error) for error in out.errors.values()} == {"agg"}


def test_a_ciphertext_that_decrypts_to_no_sum_is_an_error_that_names_the_aggregator() -> None:
    case = shared_paillier()
    key = dealt(small=True)[0]

    def made(cs: list[Any]) -> Any:
        message = (cs[0] + cs[1] + cs[2]).to_message()
        noise = np.random.default_rng(1).integers(0, 256, message.block.shape, dtype=np.uint8)
        noise[..., -1] = 0  # below n
        return changed(message, block=noise)

    # The same to all: only its decryption shows what it is.
    ready = made([key.encrypt(np.ones(5), case.terms.plan)] * 3)
    out = case.play(replaced={"agg": lying(case, key, {"all": ("a", "b", "c")}, lambda _: ready)})
    error = out.errors["r"]
    assert isinstance(error, RemoteProtocolError)
    assert error.peer == "agg"


@pytest.mark.parametrize("differs", ["ciphertext", "names"])
def test_an_aggregator_that_tells_result_parties_something_else_gets_no_wrong_number_accepted(
    differs: str,
) -> None:
    case = shared_paillier(**FOUR)
    key = dealt(small=True)[0]

    def made(cs: list[Any]) -> Any:
        one, other = cs[0] + cs[1], cs[0] + cs[2]
        return {"h1": one, "h2": one, "h3": one, "r": other if differs == "ciphertext" else one}

    names = {"all": ("a", "b"), "r": ("a", "c") if differs == "names" else ("a", "b")}
    out = case.play(replaced={"agg": lying(case, key, names, made)})
    assert not any(out.results.values())
    assert isinstance(out.errors["r"], TooFewPartiesError)
    assert "another" in str(out.errors["r"])


# Key holders that answer wrongly or not at all.


def wrong_share(how: str) -> Callable[[DecryptionShare], Message]:
    def alter(share: DecryptionShare) -> Message:
        one = share.block.copy()
        one[0, 0] ^= 1
        other = bytes([share.response[0] ^ 1]) + share.response[1:]
        altered: dict[str, Message] = {
            "another number": changed(share, block=one),
            "another proof": changed(share, response=other),
            "another challenge": changed(share, challenge=bytes(32)),
            "a short proof": changed(share, response=share.response[:-1]),
            "zeros": changed(share, block=np.zeros_like(share.block)),
            "too many": changed(share, block=np.vstack([share.block, share.block])),
            "another's number": changed(share, party=share.party % 3 + 1),
            "no such party": changed(share, party=99),
            "another statement": changed(share, statement=bytes(32)),
            "another message": Contributors(("a", "b")),
        }
        return altered[how]

    return alter


def lies(case: Any, holder: str, alter: Callable[[DecryptionShare], Message]) -> Program[Any]:
    """A key holder that alters the share it sends."""

    async def run(p: Party) -> Any:
        send = Party.send

        class Altering(Party):
            __slots__ = ()

            def send(self, to: str, message: Message) -> None:
                send(self, to, alter(message) if isinstance(message, DecryptionShare) else message)

        p.__class__ = Altering
        return await case.programs[holder](p)

    return run


WRONG = [
    "another number",
    "another proof",
    "another challenge",
    "a short proof",
    "zeros",
    "too many",
    "another's number",
    "no such party",
    "another statement",
    "another message",
]


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("holder", ["h1", "h3"])
def test_a_wrong_share_is_left_out_and_its_sender_named(how: str, holder: str) -> None:
    case = shared_paillier()
    out = case.play(replaced={holder: lies(case, holder, wrong_share(how))})
    assert not out.errors
    case.check_all(out.results, ("a", "b", "c"))
    failed = case.parties["r"].failed
    assert list(failed) == [holder]
    assert isinstance(failed[holder], RemoteProtocolError)
    assert holder in str(failed[holder])


@pytest.mark.parametrize("how", WRONG)
def test_with_too_few_right_shares_there_is_an_error_that_names_the_liars(how: str) -> None:
    case = shared_paillier()
    liars = {h: lies(case, h, wrong_share(how)) for h in ("h1", "h3")}
    out = case.play(replaced=liars)
    assert not any(out.results.values())
    error = out.errors["r"]
    assert isinstance(error, TooFewPartiesError)
    assert "h1" in str(error)
    assert "h3" in str(error)
    assert error.peer in ("h1", "h3")


def test_a_wrong_share_under_the_key_of_2048_bits_is_left_out_and_its_sender_named() -> None:
    case = shared_paillier(small=False)
    out = case.play(replaced={"h2": lies(case, "h2", wrong_share("another number"))})
    case.check_all(out.results, ("a", "b", "c"))
    assert list(case.parties["r"].failed) == ["h2"]


def test_a_share_of_another_round_is_none_for_this() -> None:
    case = shared_paillier()
    kept: list[Message] = []

    def keep(share: Message) -> Message:
        kept.append(share)
        return share

    case.play(insecure_seed=1, replaced={"h1": lies(case, "h1", keep)})
    assert len(kept) == 1
    later = shared_paillier(round=1)
    later.xs.update(case.xs)
    # The same seed: the same session and the very same ciphertexts.
    out = later.play(insecure_seed=1, replaced={"h1": lies(later, "h1", lambda _: kept[0])})
    later.check_all(out.results, ("a", "b", "c"))
    assert "for another" in str(later.parties["r"].failed["h1"])


def test_shares_are_for_one_session_round_and_set_of_contributors(monkeypatch: pytest.MonkeyPatch) -> None:
    contexts: set[bytes] = set()
    answer = KeyShare.partial_decrypt

    def note(share: KeyShare, total: Any, *, context: bytes, **options: Any) -> Any:
        contexts.add(context)
        return answer(share, total, context=context, **options)

    monkeypatch.setattr(KeyShare, "partial_decrypt", note)

    def context_of(seed: int, *, faults: tuple[Fault, ...] = (), **options: Any) -> bytes:
        contexts.clear()
        shared_paillier(**options).play(insecure_seed=seed, faults=faults)
        (context,) = contexts  # the same at all holders
        return context

    first, without = context_of(1), (Fault("crash", 0, sender="b"),)
    assert context_of(1) == first
    others = [context_of(2), context_of(1, round=1), context_of(1, faults=without)]
    assert len({first, *others}) == 4


@pytest.mark.parametrize(("holders", "needed"), [(3, 2), (5, 3)])
@pytest.mark.parametrize("action", ["crash", "drop"])
def test_as_many_key_holders_as_are_not_needed_may_be_missing(
    holders: int, needed: int, action: Action
) -> None:
    names = tuple(f"h{i}" for i in range(holders))
    case = shared_paillier(key_holders=names, needed=needed)
    gone = names[: holders - needed]
    out = case.play(faults=tuple(Fault(action, 0, sender=n) for n in gone))
    assert not out.errors
    case.check_all(out.results, ("a", "b", "c"))
    expected = declared(case, needed=needed)
    assert {n: measured(n, x) for n, x in out.ledgers.items() if n not in gone} == {
        n: c for n, c in expected.items() if n not in gone
    }


def test_a_key_holder_that_was_never_there_is_not_needed() -> None:
    case = shared_paillier()

    async def gone(p: Party) -> None:
        raise PeerVanishedError("power failure", peer=p.me)

    out = case.play(replaced={"h2": gone})
    assert set(out.errors) == {"h2"}
    case.check_all(out.results, ("a", "b", "c"))


def test_one_more_missing_key_holder_is_an_error_that_names_one() -> None:
    case = shared_paillier()
    out = case.play(faults=(Fault("crash", 0, sender="h1"), Fault("crash", 0, sender="h2")))
    error = out.errors["r"]
    assert isinstance(error, TooFewPartiesError)
    assert error.peer in ("h1", "h2")
    assert "h1" in str(error)
    assert "h2" in str(error)


def test_a_result_party_counts_its_own_share() -> None:
    case = shared_paillier(results=("h1",))
    out = case.play(faults=(Fault("crash", 0, sender="h2"),))
    assert not out.errors
    case.check_all(out.results, ("a", "b", "c"))


def test_over_tcp_the_loss_of_a_client_and_a_key_holder_is_borne(over_tcp: Drive) -> None:
    case = shared_paillier(**FOUR)

    async def gone(p: Party) -> None:
        raise PeerVanishedError("power failure", peer=p.me)

    results, _ = over_tcp(case.programs | {"a": gone, "h2": gone})
    assert {n for n, r in results.items() if isinstance(r, SecaggError)} == {"a", "h2"}
    case.check_all({n: r for n, r in results.items() if n not in ("a", "h2")}, ("b", "c", "d"))


# What is refused before anything is sent.


def test_keys_and_roles_that_do_not_fit_are_refused_before_anything_is_sent() -> None:
    case = shared_paillier()
    key, shares = dealt(small=True)
    other, theirs = dealt(3, 3, small=True)

    def refused(name: str, why: str, values: Any = None, **options: Any) -> None:
        options = {"terms": case.terms, "public_key": key} | options
        program: Program[Any] = lambda p: threshold_paillier.take_part(p, values, **options)  # noqa: E731
        out = case.play(replaced={name: program})
        assert isinstance(out.errors[name], UsageError)
        assert why in str(out.errors[name])
        assert out.ledgers[name].total().sent.messages == 0

    refused("h1", "at the key holders")
    refused("a", "nowhere else", np.zeros(5), key_share=shares[0])
    refused("h1", "share 1", key_share=shares[1])
    refused("h1", "share 1", key_share=theirs[0])
    two = replace(case.terms, roles=replace(case.terms.roles, key_holders=("h1", "h2")))
    refused("a", "3 key holders", np.zeros(5), terms=two)
    refused("a", "at the clients")
    refused("r", "3 key holders", public_key=other, terms=two)


# Faults at every message.


# What the wire shows, and what the aggregator holds.


def test_what_the_aggregator_holds_does_not_grow_with_the_clients() -> None:
    case = shared_paillier(clients=tuple(f"c{i}" for i in range(200)), shape=(5000,))
    key = dealt(small=True)[0]
    message = key.encrypt(np.ones(case.terms.shape), case.terms.plan).to_message()
    peaks = []
    for clients in (10, 200):
        names = case.terms.roles.clients[:clients]
        terms = replace(case.terms, roles=replace(case.terms.roles, clients=names))
        roster = (*names, "agg", *terms.roles.key_holders, "r")
        agg = Party("agg", roster, session=bytes(32))
        run: Run[Any] = Run(agg, threshold_paillier.take_part(agg, None, terms=terms, public_key=key))
        run.start()
        tracemalloc.start()
        try:
            for name in names:
                client = Party(name, roster, session=bytes(32))
                client.send("agg", message)
                agg.deliver(bytearray(b"".join(client.outbox.popleft().frame)), name)
                run.step()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert run.result() is None
    # The bookkeeping for each name, a tenth of an upload.
    assert message.block.nbytes > 20_000
    assert peaks[1] < peaks[0] + 190 * 2_000
