from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from secagg import wire
from secagg.errors import (
    AbortedError,
    PeerMissingError,
    RangeError,
    RemoteProtocolError,
    ShapeError,
    UsageError,
)
from secagg.ledger import Ledger
from secagg.network.simulated import ACTIONS, Action, Fault, Outcome, simulate
from secagg.party import Party, Protocol
from secagg.prg import Stream
from secagg.protocols.additive_sum import (
    FullShare,
    PartialSum,
    Roles,
    SeedShare,
    additive_sum,
    aggregate,
    cost,
    plain_sum,
)
from secagg.ring import Ring, RingArray

NAMES = ("a", "b", "c")
EVERYONE = Roles.everyone(NAMES)
ROLES = {
    "everyone": EVERYONE,
    "two aggregators among the inputs": Roles(("a", "b", "c", "d"), ("b", "d"), ("a", "b", "c", "d")),
    "aggregators apart": Roles(("a", "b", "c"), ("x", "y"), ("a", "b", "c")),
    "aggregators learn nothing": Roles(("a", "b", "c", "d", "e"), ("x", "y", "z"), ("r",)),
    "one input": Roles(("a",), ("a", "x"), ("r", "x")),
    "a result party that adds up too": Roles(("a", "b"), ("x", "y"), ("x",)),
    "overlapping": Roles(("a", "x", "b"), ("x", "y", "b"), ("a", "y")),
}

Results = tuple[dict[str, Any], dict[str, Ledger]]
Drive = Callable[[Mapping[str, Protocol[Any]]], Results]


def vectors(
    ring: Ring, shape: tuple[int, ...], names: tuple[str, ...], seed: int = 0
) -> dict[str, RingArray]:
    stream = Stream(seed.to_bytes(32, "big"))
    return {name: stream.ring(shape, ring.bits) for name in names}


def sums(xs: Mapping[str, RingArray], ring: Ring) -> dict[str, Protocol[Any]]:
    return {name: lambda p, x=x: additive_sum(p, x, ring=ring) for name, x in xs.items()}  # type: ignore[misc]


def aggregates(xs: Mapping[str, RingArray], ring: Ring, roles: Roles) -> dict[str, Protocol[Any]]:
    shape = next(iter(xs.values())).shape
    names = dict.fromkeys((*roles.inputs, *roles.aggregators, *roles.results))

    def program(x: RingArray | None) -> Protocol[Any]:
        return lambda p: aggregate(p, x, shape=shape, ring=ring, roles=roles)

    return {name: program(xs.get(name)) for name in names}


def everybody(xs: Mapping[str, RingArray], ring: Ring, **options: Any) -> Outcome[Any]:
    return simulate(sums(xs, ring), **options)


# What it computes.


@pytest.mark.parametrize("bits", [1, 20, 32, 64])
def test_everybody_gets_the_sum_under_every_driver(drive: Drive, bits: int) -> None:
    ring = Ring(bits)
    xs = vectors(ring, (50, 3), NAMES)
    expected = plain_sum(list(xs.values()), ring)
    results, _ = drive(sums(xs, ring))
    assert list(results) == list(NAMES)
    for total in results.values():
        assert total.dtype == ring.dtype
        np.testing.assert_array_equal(total, expected)


@pytest.mark.parametrize("roles", ROLES.values(), ids=ROLES.keys())
def test_only_result_parties_get_the_sum_under_every_driver(drive: Drive, roles: Roles) -> None:
    ring = Ring(40)
    xs = vectors(ring, (17,), roles.inputs)
    expected = plain_sum(list(xs.values()), ring)
    results, _ = drive(aggregates(xs, ring, roles))
    for name, total in results.items():
        if name in roles.results:
            np.testing.assert_array_equal(total, expected)
        else:
            assert total is None


@given(data=st.data(), n=st.integers(2, 6), bits=st.integers(1, 64))
@settings(deadline=None)
def test_the_sum_equals_the_plain_sum_for_any_ring_shape_and_number(
    data: st.DataObject, n: int, bits: int
) -> None:
    ring = Ring(bits)
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    elements = st.integers(0, ring.modulus - 1)
    xs = {f"p{i}": data.draw(hnp.arrays(ring.dtype, shape, elements=elements)) for i in range(n)}
    before = {name: x.copy() for name, x in xs.items()}
    expected = plain_sum(list(xs.values()), ring)
    assert [int(v) for v in expected.reshape(-1)] == [
        sum(int(x.reshape(-1)[i]) for x in xs.values()) % ring.modulus for i in range(expected.size)
    ]
    for total in everybody(xs, ring).values():
        np.testing.assert_array_equal(total, expected)
        assert total.shape == shape
    for name, x in xs.items():
        np.testing.assert_array_equal(x, before[name])


def test_sums_wrap_at_the_ring() -> None:
    ring = Ring(13)
    xs = dict.fromkeys(NAMES, np.array([8191, 8190, 0], np.uint16))
    assert everybody(xs, ring).values()[0].tolist() == [8189, 8186, 0]


def test_results_are_the_callers_own_to_write_into() -> None:
    results = everybody(vectors(Ring(64), (4,), NAMES), Ring(64)).values()
    for total in results:
        total[:] = 0


def test_two_sums_side_by_side_take_the_rounds_of_one(drive: Drive) -> None:
    ring = Ring(64)
    xs, ys = vectors(ring, (5,), NAMES, 1), vectors(ring, (7,), NAMES, 2)

    def program(name: str) -> Protocol[Any]:
        async def both(p: Party) -> list[RingArray]:
            return await p.together(
                additive_sum(p, xs[name], ring=ring), additive_sum(p, ys[name], ring=ring)
            )

        return both

    results, ledgers = drive({name: program(name) for name in NAMES})
    for x_sum, y_sum in results.values():
        np.testing.assert_array_equal(x_sum, plain_sum(list(xs.values()), ring))
        np.testing.assert_array_equal(y_sum, plain_sum(list(ys.values()), ring))
    assert {ledger.total().rounds for ledger in ledgers.values()} == {2}


# What it costs.


@pytest.mark.parametrize("roles", ROLES.values(), ids=ROLES.keys())
@pytest.mark.parametrize(("bits", "shape"), [(20, (101,)), (64, (3, 4)), (1, (9,)), (32, (0,)), (8, ())])
def test_declared_cost_is_what_the_ledger_measured(roles: Roles, bits: int, shape: tuple[int, ...]) -> None:
    ring = Ring(bits)
    programs = aggregates(vectors(ring, shape, roles.inputs), ring, roles)
    out = simulate(programs)
    assert len(out.values()) == len(programs)
    for name, ledger in out.ledgers.items():
        total = ledger.total()
        declared = cost(name, shape=shape, ring=ring, roles=roles)
        assert (total.rounds, total.sent.messages, total.sent.payload_bytes) == declared


def test_declared_cost_is_what_every_driver_measures(drive: Drive) -> None:
    ring = Ring(20)
    _, ledgers = drive(sums(vectors(ring, (101,), NAMES), ring))
    for name, ledger in ledgers.items():
        total = ledger.total()
        declared = cost(name, shape=(101,), ring=ring, roles=EVERYONE)
        assert (total.rounds, total.sent.messages, total.sent.payload_bytes) == declared
        assert declared == (2, 4, 2 * 32 + 2 * 253)  # 253 = ceil(101 * 20 / 8)
        assert {phase for phase, c in ledger.phases.items() if c.sent.messages} == {"share", "open"}


def test_all_drivers_measure_the_same_bytes(drivers: Mapping[str, Drive]) -> None:
    ring = Ring(33)
    programs = sums(vectors(ring, (10,), NAMES), ring)
    measured = []
    for run in drivers.values():
        _, ledgers = run(programs)
        measured.append({name: (x.total().sent, x.total().received, x.depth) for name, x in ledgers.items()})
    assert measured[0] == measured[1] == measured[2]


# Faults.


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("message", range(12))
def test_a_fault_at_any_message_ends_in_the_right_sum_or_an_error_that_names_the_peer(
    action: Action, message: int
) -> None:
    ring = Ring(20)
    xs = vectors(ring, (11,), NAMES)
    expected = plain_sum(list(xs.values()), ring)
    assert everybody(xs, ring).messages == 12
    plain = everybody(xs, ring, insecure_seed=message, record=True)
    culprit = plain.transcript[message][0]
    out = everybody(xs, ring, insecure_seed=message, faults=[Fault(action, message)])
    for total in out.results.values():
        np.testing.assert_array_equal(total, expected)
    for error in out.errors.values():
        assert isinstance(error, RemoteProtocolError | PeerMissingError)
        assert error.peer == culprit
        assert culprit in str(error)
    assert len(out.results) + len(out.errors) == (2 if action == "crash" else 3)
    if action == "delay":
        assert not out.errors


@pytest.mark.parametrize("name", ["aggregators apart", "aggregators learn nothing"])
@pytest.mark.parametrize("action", ACTIONS)
def test_faults_between_roles_end_in_the_right_sum_or_an_error_that_names_the_peer(
    name: str, action: Action
) -> None:
    ring, roles = Ring(64), ROLES[name]
    xs = vectors(ring, (3,), roles.inputs)
    expected = plain_sum(list(xs.values()), ring)
    programs = aggregates(xs, ring, roles)
    plain = simulate(programs, insecure_seed=1, record=True)
    for message, (sender, receiver, _) in enumerate(plain.transcript):
        out = simulate(programs, insecure_seed=1, faults=[Fault(action, message)])
        for party, total in out.results.items():
            assert (total is None) == (party not in roles.results)
            if total is not None:
                np.testing.assert_array_equal(total, expected)
        # Where a message is lost, a party that waits for its receiver may be the first whose time is over.
        named = {getattr(e, "peer", "") for e in out.errors.values()}
        assert named <= ({sender, receiver} if action in ("drop", "reorder") else {sender})


class Liar:
    """A party that sends one message of another length than it should."""

    def __init__(self, kind: type[SeedShare | FullShare | PartialSum], length: int) -> None:
        self.kind, self.length = kind, length

    async def __call__(self, p: Party) -> None:
        for peer in p.others:
            wrong = self.length if self.kind is SeedShare else 32
            p.send(peer, SeedShare(np.zeros(wrong, np.uint8)))
        if self.kind is PartialSum:
            await p.gather(SeedShare, p.others)
            for peer in p.others:
                p.send(peer, PartialSum(np.zeros(self.length, np.uint8)))
        await p.gather(PartialSum, p.others, quorum=0)


@pytest.mark.parametrize(
    ("kind", "length"), [(SeedShare, 31), (SeedShare, 0), (PartialSum, 27), (PartialSum, 29)]
)
def test_messages_of_another_length_are_an_error_that_names_the_peer(
    kind: type[SeedShare | PartialSum], length: int
) -> None:
    ring = Ring(20)
    xs = vectors(ring, (11,), NAMES)  # 28 bytes on the wire
    out: Outcome[Any] = simulate(sums(xs, ring) | {"b": Liar(kind, length)})  # type: ignore[arg-type]
    for name in ("a", "c"):
        error = out.errors[name]
        assert isinstance(error, RemoteProtocolError | AbortedError)
        assert error.peer == "b"
    assert any(isinstance(e, RemoteProtocolError) for e in out.errors.values())


def test_spare_bits_that_are_not_zero_are_an_error_that_names_the_peer() -> None:
    class Spare(Liar):
        async def __call__(self, p: Party) -> None:
            p.broadcast(SeedShare(np.zeros(32, np.uint8)))
            await p.gather(SeedShare, p.others)
            p.broadcast(PartialSum(np.full(28, 255, np.uint8)))  # 220 bits and 4 to spare
            await p.gather(PartialSum, p.others, quorum=0)

    xs = vectors(Ring(20), (11,), NAMES)
    out: Outcome[Any] = simulate(sums(xs, Ring(20)) | {"b": Spare(PartialSum, 28)})  # type: ignore[arg-type]
    assert isinstance(out.errors["a"], RemoteProtocolError)
    assert out.errors["a"].peer == "b"


def test_parties_that_disagree_on_the_shape_get_an_error_and_no_sum() -> None:
    ring = Ring(64)
    xs = vectors(ring, (4,), NAMES) | {"b": np.zeros(5, np.uint64)}
    out = everybody(xs, ring)
    assert not out.results
    assert {getattr(e, "peer", "") for n, e in out.errors.items() if n != "b"} == {"b"}


# What is refused.


def test_inputs_outside_the_ring_are_refused_before_anything_is_sent() -> None:
    good = np.zeros(2, np.uint16)
    for bad, error in ((np.array([1 << 13, 0], np.uint16), RangeError), (np.zeros(2, np.uint32), ShapeError)):
        out = everybody({"a": bad, "b": good}, Ring(13))
        assert isinstance(out.errors["a"], error)
        assert out.ledgers["a"].total().sent.messages == 0


def test_alone_there_is_no_sum() -> None:
    out = everybody({"a": np.zeros(2, np.uint64)}, Ring(64))
    assert isinstance(out.errors["a"], UsageError)


@pytest.mark.parametrize(
    ("inputs", "aggregators", "results"),
    [
        ((), "xy", "r"),
        ("ab", "x", "r"),
        ("ab", "xx", "r"),
        ("aa", "xy", "r"),
        ("ab", "xy", ""),
        ("ab", "", "r"),
    ],
)
def test_empty_or_repeated_roles_and_a_single_aggregator_are_refused(
    inputs: str, aggregators: str, results: str
) -> None:
    with pytest.raises(UsageError, match="distinct"):
        Roles(tuple(inputs), tuple(aggregators), tuple(results))


@pytest.mark.parametrize(
    ("name", "x"), [("a", None), ("x", np.zeros(3, np.uint64)), ("a", np.zeros(4, np.uint64))]
)
def test_vectors_where_none_belong_or_of_another_shape_are_refused(name: str, x: Any) -> None:
    ring, roles = Ring(64), ROLES["aggregators apart"]
    programs = aggregates(vectors(ring, (3,), roles.inputs), ring, roles)
    programs[name] = lambda p: aggregate(p, x, shape=(3,), ring=ring, roles=roles)
    out = simulate(programs)
    assert isinstance(out.errors[name], UsageError)


def test_roles_for_strangers_are_refused() -> None:
    roles = Roles(("a", "b"), ("a", "nobody"), ("a",))
    out = simulate(
        dict.fromkeys(
            "ab", lambda p: aggregate(p, np.zeros(1, np.uint64), shape=(1,), ring=Ring(64), roles=roles)
        )
    )
    assert all("nobody" in str(e) for e in out.errors.values() if isinstance(e, UsageError))
    assert any(isinstance(e, UsageError) for e in out.errors.values())


# What the wire shows.

# 256 bins: 255 degrees of freedom; 366 is exceeded with probability 7e-6 by uniform bytes. Over the 32
# statistics below, 2e-4; the keys are fixed, so a run either always passes or never.
CHI_SQUARE_LIMIT = 366.0


def chi_square(values: np.ndarray[Any, Any]) -> float:
    counts = np.bincount(values, minlength=256)
    expected = counts.sum() / 256
    return float(((counts - expected) ** 2 / expected).sum())


def sent_arrays(roles: Roles, fill: int, seed: int) -> dict[tuple[str, str, str], np.ndarray[Any, Any]]:
    """Return what each party sent to each other, by kind, when every input is constant."""
    ring = Ring(8)
    xs = {name: np.full(1 << 17, fill, np.uint8) for name in roles.inputs}
    out = simulate(aggregates(xs, ring, roles), insecure_seed=seed, record=True)
    got = {}
    for sender, receiver, frame in out.transcript:
        cut = wire.decode_envelope(frame, peer=sender)
        for kind in (FullShare, PartialSum):
            if cut.envelope.kind == kind.KIND:
                message, _ = wire.decode_body(cut, kind, peer=sender)
                got[sender, receiver, kind.__name__] = message.packed
    return got


@pytest.mark.parametrize("roles", [EVERYONE, ROLES["aggregators apart"]], ids=["everyone", "apart"])
@pytest.mark.parametrize("fill", [0, 77])
def test_every_array_on_the_wire_is_uniform_whatever_the_inputs(roles: Roles, fill: int) -> None:
    arrays = sent_arrays(roles, fill, seed=fill)
    assert chi_square(np.full(1 << 17, fill, np.uint8)) > 1e6  # the statistic does see an input
    kinds = {kind for _, _, kind in arrays}
    assert kinds == ({"PartialSum"} if roles is EVERYONE else {"PartialSum", "FullShare"})
    for values in arrays.values():
        assert chi_square(values) < CHI_SQUARE_LIMIT


def test_what_a_party_receives_is_independent_of_the_inputs_but_for_the_sum() -> None:
    # a sees two partial sums and its own: any two of the three are jointly uniform, so the XOR and the
    # difference of two are too; all three add up to the sum.
    arrays = sent_arrays(EVERYONE, 9, seed=5)
    b, c = arrays["b", "a", "PartialSum"], arrays["c", "a", "PartialSum"]
    for values in (b ^ c, b - c, b + c):
        assert chi_square(values) < CHI_SQUARE_LIMIT
    own = arrays["a", "b", "PartialSum"]
    assert set((own + b + c).tolist()) == {27}


def test_the_wire_shows_the_same_lengths_and_order_for_all_inputs() -> None:
    ring = Ring(20)
    shapes = []
    for seed in range(4):
        out = everybody(vectors(ring, (9,), NAMES, seed), ring, insecure_seed=seed, record=True)
        shapes.append([(sender, receiver, len(frame)) for sender, receiver, frame in out.transcript])
    assert all(shape == shapes[0] for shape in shapes)


def test_the_share_that_is_no_seed_is_never_sent_by_an_aggregator() -> None:
    for roles in ROLES.values():
        ring = Ring(8)
        out = simulate(aggregates(vectors(ring, (5,), roles.inputs), ring, roles), record=True)
        full = {
            s for s, _, f in out.transcript if wire.decode_envelope(f, peer=s).envelope.kind == FullShare.KIND
        }
        assert full == set(roles.inputs) - set(roles.aggregators)
