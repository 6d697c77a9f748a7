"""Sums under one holder's key, for every scheme: right under every driver, dropout, fault and lie, or an error.

The module is long because every claim is made for each scheme.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as changed

from blame import blamed
from costs import measured
from encrypted_sums import secret_key, single
from secagg import fixed_point, wire
from secagg.cost.operation import Cost
from secagg.errors import (
    AbortedError,
    RangeError,
    RemoteProtocolError,
    TooFewPartiesError,
    UsageError,
)
from secagg.he.ckks.contexts import CONTEXTS
from secagg.he.rlwe.keys import SecretKey as RlweSecretKey
from secagg.he.rlwe.parameters import parameters
from secagg.ledger import Ledger
from secagg.network.simulated import Fault
from secagg.party import Party, Program, Run
from secagg.protocols.he_sum import single_key
from secagg.protocols.he_sum.schemes import public_key_class
from secagg.protocols.he_sum.single_key import MAX_KEY_BYTES, Total, cost
from secagg.protocols.he_sum.terms import Terms
from secagg.protocols.he_sum.uploads import Contributors
from secagg.wire import Message

Single = Callable[..., Any]
Drive = Callable[[Mapping[str, Program[Any]]], tuple[dict[str, Any], dict[str, Ledger]]]

SCHEMES = ["rlwe", "paillier", "ckks"]
ROLES: dict[str, dict[str, Any]] = {
    "apart": {},
    "the key holder learns the sum too": {"results": ("r", "k")},
    "the key holder is a client": {"clients": ("a", "k", "b"), "results": ("k",)},
    "the aggregator is a client and learns the sum": {"clients": ("a", "agg", "b"), "results": ("agg",)},
    "clients learn the sum": {"results": ("a", "c")},
    "three parties with all roles": {"clients": ("a", "k", "agg"), "results": ("agg", "k", "a")},
    "two parties": {"clients": ("agg", "k"), "results": ("agg", "k")},
}


@pytest.fixture(params=SCHEMES)
def name(request: pytest.FixtureRequest) -> str:
    for scheme_name, package in (("paillier", "gmpy2"), ("ckks", "tenseal")):
        if request.param == scheme_name:
            pytest.importorskip(package, reason=f"{scheme_name} needs {package}")
    return str(request.param)


def declared(case: Any, name: str) -> dict[str, Cost]:
    public_key = secret_key(name).public_key
    return {n: cost(n, terms=case.terms, public_key=public_key) for n in case.programs}


# What it computes, and what that costs.


@pytest.mark.parametrize("shape", [(), (1,), (2, 3, 4), (300,), (5000,)])
@pytest.mark.slow
def test_sums_of_any_shape_are_right_and_cost_what_was_declared(name: str, shape: tuple[int, ...]) -> None:
    if name == "paillier" and shape == (5000,):
        shape = (170, 2)  # some 6 residues
    case = single(name, shape=shape)
    out = case.play()
    case.check_all(out.results, case.terms.roles.clients)
    assert not out.errors
    expected = declared(case, name)
    assert {n: measured(n, ledger) for n, ledger in out.ledgers.items()} == expected


@pytest.mark.slow
@pytest.mark.parametrize(("clip", "frac_bits"), [(1.0, 20), (1000.0, 8), (0.01, 30)])
@pytest.mark.parametrize("seed", range(3))
def test_sums_of_real_numbers_are_within_the_error_that_comes_with_them(
    name: str, clip: float, frac_bits: int, seed: int
) -> None:
    case = single(name, clip=clip, frac_bits=frac_bits, seed=seed, shape=(20,))
    out = case.play()
    (result,) = (r for r in out.values() if r is not None)
    case.check(result, case.terms.roles.clients)
    assert 0 < result.error < 0.001 * clip if name == "ckks" else result.error == 3 * 2.0 ** -(frac_bits + 1)


@pytest.mark.slow
def test_sums_at_the_border_of_the_plan_are_right(name: str) -> None:
    case = single(name, shape=(4,))
    case.xs.update({n: np.array([100.0, -100.0, 0.0, 100.0]) for n in case.terms.roles.clients})
    case.check_all(case.play().results, ("a", "b", "c"))


def test_sums_side_by_side_do_not_mix() -> None:
    first, second = single("rlwe", seed=1), single("rlwe", seed=2, shape=(9,))

    def both(name: str) -> Program[Any]:
        async def program(p: Party) -> Any:
            return await p.parallel(first.programs[name](p), second.programs[name](p))

        return program

    out = first.play(replaced={n: both(n) for n in first.programs})
    one, other = dict(zip(first.programs, out.values(), strict=True))["r"]
    first.check(one, ("a", "b", "c"))
    second.check(other, ("a", "b", "c"))


# Dropouts.


FOUR: dict[str, Any] = {"clients": ("a", "b", "c", "d")}


def test_an_upload_that_is_only_slow_is_in_the_sum(name: str) -> None:
    case = single(name)
    out = case.play(faults=(Fault("delay", 0, sender="a", seconds=4.0),))
    assert not out.errors
    case.check_all(out.results, ("a", "b", "c"))


def test_a_client_with_numbers_out_of_range_is_left_out_and_told_why(name: str) -> None:
    case = single(name)
    case.xs["b"] = np.array([0.0, 101.0, 0.0, 0.0, 0.0])
    out = case.play()
    assert isinstance(out.errors.pop("b"), RangeError)
    assert not out.errors
    case.check_all(out.results, ("a", "c"))


# Clients that send something else.


def upload(name: str, make: Callable[[Any], Message | None]) -> Program[Any]:
    """A client that takes the key and uploads what `make` makes with it."""

    async def run(p: Party) -> None:
        kind = public_key_class(name)
        key = kind.from_message(await p.receive(kind.message_type, "k"), peer="k")
        message = make(key)
        if message is not None:
            p.send("agg", message)

    return run


def block_of(message: Any) -> str:
    return next(n for n in ("block", "blocks", "words") if n in message.__struct_fields__)


def garbled(message: Any, how: Callable[[np.ndarray[Any, Any]], Any]) -> Any:
    """A ciphertext with other arrays."""
    field = block_of(message)
    arrays = getattr(message, field)
    return changed(message, **{field: tuple(map(how, arrays)) if field == "words" else how(arrays)})


def wrong_uploads(name: str, terms: Terms) -> dict[str, Callable[[Any], Message]]:
    x, plan = np.ones(terms.shape), terms.plan
    foreign = secret_key(name, other=True).public_key
    stranger = RlweSecretKey.generate(parameters(96)).public_key

    def wrong_id(key: Any) -> Message:
        message = key.encrypt(x, plan).to_message()
        return changed(message, header=changed(message.header, key_id=bytes(32)))

    cases: dict[str, Callable[[Any], Message]] = {
        "under another key": lambda _: foreign.encrypt(x, plan).to_message(),
        "under an unknown key": wrong_id,
        "of another scheme": lambda _: stranger.encrypt(x, plan).to_message(),
        "of another plan": lambda key: key.encrypt(x, replace(plan, clip=200.0)).to_message(),
        "of another shape": lambda key: key.encrypt(np.ones(6), plan).to_message(),
        "of a shape as long": lambda key: key.encrypt(np.ones((5, 1)), plan).to_message(),
        "a sum": lambda key: (key.encrypt(x, plan) + key.encrypt(x, plan)).to_message(),
        "a multiple": lambda key: (key.encrypt(x, plan) * 2).to_message(),
        "another message": lambda _: Contributors(("a", "b")),
        "a cut array": lambda key: garbled(key.encrypt(x, plan).to_message(), lambda a: a[..., :-1]),
        "an empty array": lambda key: garbled(key.encrypt(x, plan).to_message(), lambda a: a[:0]),
    }
    if name != "rlwe":  # any words are RLWE polynomials
        cases["noise"] = lambda key: garbled(key.encrypt(x, plan).to_message(), lambda a: ~np.zeros_like(a))
    if name == "paillier":
        cases["with fewer numbers a residue"] = lambda key: key.encrypt(x, plan, slots=1).to_message()
        cases["with half as many numbers a residue"] = lambda key: key.encrypt(x, plan, slots=8).to_message()
        cases["zeros"] = lambda key: garbled(key.encrypt(x, plan).to_message(), np.zeros_like)
    return cases


@pytest.mark.slow
@pytest.mark.usefixtures("one_table")
@pytest.mark.parametrize("who", ["a", "d"], ids=["first", "last"])
def test_a_client_that_uploads_something_else_is_left_out_and_named(name: str, who: str) -> None:
    case = single(name, **FOUR)
    for what, make in wrong_uploads(name, case.terms).items():
        out = case.play(replaced={who: upload(name, make)})
        assert not out.errors, (what, out.errors)
        case.check_all(out.results, tuple(n for n in case.terms.roles.clients if n != who))
        failed = case.parties["agg"].failed
        assert list(failed) == [who], what
        assert isinstance(failed[who], RemoteProtocolError), what
        assert who in str(failed[who]), what


def test_a_wrong_upload_does_not_count_towards_the_least(name: str) -> None:
    case = single(name, min_clients=3)
    make = wrong_uploads(name, case.terms)["a sum"]
    out = case.play(replaced={"b": upload(name, make)}, record=True)
    error = out.errors["agg"]
    assert isinstance(error, TooFewPartiesError)
    assert error.peer == "b"
    assert "b" in str(error)
    assert not [frame for sender, to, frame in out.transcript if (sender, to) == ("agg", "k")]


def test_a_second_upload_of_a_client_is_not_added(name: str) -> None:
    case = single(name)

    async def twice(p: Party) -> None:
        kind = public_key_class(name)
        key = kind.from_message(await p.receive(kind.message_type, "k"), peer="k")
        for _ in range(2):
            p.send("agg", key.encrypt(case.xs["b"], case.terms.plan).to_message())

    out = case.play(replaced={"b": twice})
    assert not out.errors
    case.check_all(out.results, ("a", "b", "c"))


# An aggregator that lies to the key holder.


def lying(name: str, names: tuple[str, ...], make: Callable[[Any, list[Any]], Message]) -> Program[Any]:
    """An aggregator that announces `names` and sends what `make` makes of the key and the uploads."""

    async def run(p: Party) -> None:
        kind = public_key_class(name)
        key = kind.from_message(await p.receive(kind.message_type, "k"), peer="k")
        got = await p.gather(kind.ciphertext_type, ("a", "b", "c"))
        p.send("k", Contributors(names))
        p.send("k", make(key, [key.read(got[n], peer=n) for n in "abc"]))

    return run


def add(ciphertexts: list[Any]) -> Any:
    total = ciphertexts[0].copy()
    for ciphertext in ciphertexts[1:]:
        total += ciphertext
    return total


def undecryptable(name: str, honest: Message) -> Message:
    """A message that looks like the honest one and has noise in it."""
    if name == "rlwe":
        rng = np.random.default_rng(1)
        return garbled(honest, lambda a: rng.integers(0, 1 << 63, a.shape, dtype=a.dtype))
    if name == "paillier":
        rng, field = np.random.default_rng(1), block_of(honest)
        block = rng.integers(0, 256, getattr(honest, field).shape, dtype=np.uint8)
        block[..., -1] = 0  # below n
        return changed(honest, block=block)
    from secagg.he.ckks import SecretKey  # an encryption under another key with this one's name on it

    header = honest.header  # type: ignore[attr-defined]
    plan = wire_plan(header)
    other = SecretKey.generate().public_key.encrypt(np.zeros(header.shape), plan).to_message()
    return changed(other, header=header)


def wire_plan(header: Any) -> fixed_point.Plan:
    p = header.plan
    return fixed_point.Plan(p.bits, p.frac_bits, p.clip, p.parties, p.max_weight)


@pytest.mark.slow
@pytest.mark.usefixtures("one_table")
@pytest.mark.parametrize(
    ("names", "what"),
    [
        (("a", "b"), "the sum of three"),
        (("a", "b", "c"), "the sum of two"),
        (("a", "b", "c"), "one client's"),
        (("a", "b"), "twice one client's"),
        (("a",), "one client's"),
        ((), "one client's"),
        (("a", "r"), "the sum of two"),
        (("a", "a"), "the sum of two"),
        (("a", "b", "c"), "another shape"),
        (("a", "b", "c"), "another plan"),
        (("a", "b", "c"), "noise"),
        (("a", "b", "c"), "another message"),
    ],
)
def test_an_aggregator_that_sends_no_sum_of_whom_it_announces_is_named_and_nobody_gets_a_result(
    name: str,
    names: tuple[str, ...],
    what: str,
) -> None:
    case = single(name)

    def make(key: Any, cs: list[Any]) -> Message:
        made: dict[str, Callable[[], Message]] = {
            "the sum of three": lambda: add(cs).to_message(),
            "the sum of two": lambda: add(cs[:2]).to_message(),
            "one client's": lambda: cs[0].to_message(),
            "twice one client's": lambda: (cs[0] * 2).to_message(),
            "another shape": lambda: add([key.encrypt(np.ones(4), case.terms.plan)] * 3).to_message(),
            "another plan": lambda: add(
                [key.encrypt(np.ones(5), replace(case.terms.plan, clip=50.0))] * 3
            ).to_message(),
            "noise": lambda: undecryptable(name, add(cs).to_message()),
            "another message": lambda: Contributors(("a", "b", "c")),
        }
        return made[what]()

    out = case.play(replaced={"agg": lying(name, names, make)})
    assert not any(out.results.values())
    assert isinstance(out.errors["k"], RemoteProtocolError)
    assert "agg" in str(out.errors["k"])
    assert {blamed(error) for error in out.errors.values()} == {"agg"}


# A key holder that lies to a result party.


@pytest.mark.parametrize("what", ["shape", "encoded shape", "dtype", "stranger", "too few", "repeated"])
def test_a_result_that_cannot_be_names_the_key_holder(what: str) -> None:
    case = single("rlwe")
    ring = case.terms.plan.ring
    names, values, encoded = ("a", "b"), np.zeros(5), np.zeros(5, ring.dtype)
    other = np.uint16 if ring.dtype != np.uint16 else np.uint32
    messages = {
        "shape": Total(names, 0.5, np.zeros(4), encoded),
        "encoded shape": Total(names, 0.5, values, np.zeros((5, 1), ring.dtype)),
        "dtype": Total(names, 0.5, values, np.zeros(5, other)),
        "stranger": Total(("a", "r"), 0.5, values, encoded),
        "too few": Total(("a",), 0.5, values, encoded),
        "repeated": Total(("a", "a"), 0.5, values, encoded),
    }

    async def holder(p: Party) -> None:
        p.send("r", messages[what])

    async def nothing(p: Party) -> None:
        del p

    replaced = dict.fromkeys(("a", "b", "c", "agg"), nothing)
    out = case.play(replaced=replaced | {"k": holder})
    error = out.errors["r"]
    assert isinstance(error, RemoteProtocolError)
    assert error.peer == "k"


def test_a_key_holder_that_sends_no_key_is_named(name: str) -> None:
    case = single(name)

    async def holder(p: Party) -> None:
        for peer in ("a", "b", "c", "agg"):
            p.send(peer, Contributors(("a", "b")))

    out = case.play(replaced={"k": holder})
    for peer in ("a", "b", "c", "agg"):
        assert isinstance(out.errors[peer], RemoteProtocolError | AbortedError)
        assert blamed(out.errors[peer]) == "k"


# What is refused before anything is sent.


def refused(case: Any, name: str, program: Callable[[Party], Any], why: str) -> None:
    out = case.play(replaced={name: program})
    assert isinstance(out.errors[name], UsageError)
    assert why in str(out.errors[name])
    assert out.ledgers[name].total().sent.messages == 0


def test_keys_and_roles_that_do_not_fit_are_refused_before_anything_is_sent() -> None:
    pytest.importorskip("gmpy2", reason="paillier needs gmpy2")
    pytest.importorskip("tenseal", reason="ckks needs tenseal")
    case = single("rlwe")
    terms, x, key = case.terms, np.zeros(5), secret_key("rlwe")

    def program(values: Any, scheme_name: str = "rlwe", **options: Any) -> Program[Any]:
        options = {"terms": terms, "secret_key": None} | options
        return lambda p: single_key.take_part(p, values, scheme_name=scheme_name, **options)

    refused(case, "k", program(None), "secret key at the key holder")
    refused(case, "a", program(x, secret_key=key), "nowhere else")
    refused(case, "k", program(None, "paillier", secret_key=key), "expected a secret key of paillier")
    refused(case, "a", program(x, "elgamal"), "among paillier, rlwe, ckks")
    refused(case, "a", program(None), "at the clients")
    two = replace(terms, roles=replace(terms.roles, key_holders=("k", "r")))
    refused(case, "k", program(None, secret_key=key, terms=two), "one key holder, not 2")
    for who, results in (("k", ("r",)), ("k", ("r", "k"))):
        shown = replace(terms, roles=replace(terms.roles, results=results))
        refused(
            case,
            who,
            program(None, "ckks", secret_key=secret_key("ckks"), terms=shown),
            "only the key holder",
        )


# Faults at every message.


# What the wire shows.


@pytest.mark.slow
def test_equal_arrays_are_uploaded_as_different_ciphertexts(name: str) -> None:
    case = single(name)
    case.xs.update(dict.fromkeys(case.terms.roles.clients, np.ones(5)))
    out = case.play(record=True)
    kind, arrays = public_key_class(name), []
    for sender, _, frame in out.transcript:
        cut = wire.decode_envelope(frame, peer=sender)
        if sender in case.terms.roles.clients:
            message, _ = wire.decode_body(cut, kind.ciphertext_type, peer=sender)
            arrays.append(
                np.concatenate([np.ravel(a) for a in np.atleast_2d(getattr(message, block_of(message)))])
            )
    assert len(arrays) == 3
    for i in range(3):
        # Of uniform bytes one in 256 is the same; half is what no two fresh encryptions share.
        assert np.mean(arrays[i].view(np.uint8) == arrays[i - 1].view(np.uint8)) < 0.5


# The aggregator's memory.


class Aggregator:
    """An aggregator whom clients send one upload after the other; `after` is called behind each."""

    def __init__(self, case: Any, name: str, key: Any, clients: int) -> None:
        self.names = case.terms.roles.clients[:clients]
        # The plan is for as many in any case: the ciphertexts are of one size.
        terms, self.key = replace(case.terms, roles=replace(case.terms.roles, clients=self.names)), key
        self.roster = (*self.names, "agg", "k", "r")
        self.party = Party("agg", self.roster, session=bytes(32))
        self.run: Run[Any] = Run(
            self.party, single_key.take_part(self.party, None, terms=terms, scheme_name=name)
        )
        self.run.start()
        self.deliver("k", key.to_message())

    def deliver(self, sender: str, message: Message) -> None:
        peer = Party(sender, self.roster, session=bytes(32))
        peer.send("agg", message)
        self.party.deliver(bytearray(b"".join(peer.outbox.popleft().frame)), sender)
        self.run.step()

    def take(self, message: Message, after: Callable[[], None]) -> None:
        for client in self.names:
            self.deliver(client, message)
            after()
        assert self.run.result() is None
        assert len(self.party.outbox) == 2


@pytest.mark.slow
def test_what_the_aggregator_holds_does_not_grow_with_the_clients() -> None:
    case = single("rlwe", clients=tuple(f"c{i}" for i in range(200)), shape=(4 * 4096,))
    key = secret_key("rlwe").public_key
    message = key.encrypt(np.ones(case.terms.shape), case.terms.plan).to_message()
    upload_bytes = 4 * (1 << 16)
    peaks = []
    for clients in (10, 200):
        aggregator = Aggregator(case, "rlwe", key, clients)
        tracemalloc.start()
        try:
            aggregator.take(message, lambda: None)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    # A frame and its making, the sum, the frame of the sum; and some bookkeeping for each name.
    assert peaks[0] < 6 * upload_bytes
    assert peaks[1] < peaks[0] + upload_bytes


@pytest.mark.slow
def test_the_aggregator_keeps_no_ciphertext_but_the_sum(name: str) -> None:
    # What TenSEAL and gmpy2 hold is not seen by tracemalloc; the objects that hold it are counted instead.
    case = single(name, clients=tuple(f"c{i}" for i in range(200)))
    key = secret_key(name).public_key
    one = key.encrypt(np.ones(5), case.terms.plan)
    aggregator, alive = Aggregator(case, name, key, 12), []

    def count() -> None:
        alive.append(sum(type(thing) is type(one) for thing in gc.get_objects()))

    count()
    aggregator.take(one.to_message(), count)
    assert max(alive) <= alive[0] + 2


@pytest.mark.slow
def test_200_clients_are_added_up() -> None:
    case = single("rlwe", clients=tuple(f"c{i}" for i in range(200)))
    out = case.play()
    case.check_all(out.results, case.terms.roles.clients)
    assert not out.errors


def test_no_public_key_is_longer_than_what_is_taken_for_one() -> None:
    rlwe_sets = [parameters(bits) for bits in (64, 96, 128)]
    rlwe_keys = [p.degree * p.coefficient_bytes for p in rlwe_sets]
    ckks_keys = [context.public_key_bytes for context in CONTEXTS.values()]
    assert max(*rlwe_keys, *ckks_keys) <= MAX_KEY_BYTES
