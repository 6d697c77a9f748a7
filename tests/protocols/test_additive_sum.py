"""The additive sum beyond the contract of sums: dropouts, lies of aggregators, costs, and what the wire shows.

The module is long because one set of roles and its programs serve every fault and lie.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from altering import altering
from blame import blamed
from costs import measured
from secagg import wire
from secagg.cost.operation import Cost
from secagg.errors import (
    AbortedError,
    PeerMissingError,
    RangeError,
    RemoteProtocolError,
    ShapeError,
    TooFewPartiesError,
    UsageError,
)
from secagg.ledger import Ledger
from secagg.network.simulated import Fault, Outcome, simulate
from secagg.network.stepwise import Stepwise
from secagg.party import Party, Program, Run
from secagg.prg import Stream
from secagg.protocols.additive_sum import (
    SumResult,
    Terms,
    additive_sum,
    aggregate,
    cost,
    reference,
    take_part,
)
from secagg.protocols.additive_sum.program import Part, PartialSum, _statement
from secagg.protocols.agreement import Agreed, Arrived
from secagg.protocols.roles import Roles
from secagg.ring import Ring, RingArray
from secagg.wire import Message
from sums import with_changes
from transcripts import kinds
from uniform import CHI_SQUARE_LIMIT, chi_square

NAMES = ("a", "b", "c")
CLIENTS = ("c0", "c1", "c2", "c3")
R20 = Ring(20)

Layout = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
EVERYONE: Layout = (NAMES, NAMES, NAMES)
APART: Layout = (CLIENTS, ("x", "y"), ("r",))
THREE: Layout = (CLIENTS, ("x", "y", "z"), ("r",))
ROLES: dict[str, Layout] = {
    "everyone": EVERYONE,
    "two aggregators among the clients": (("a", "b", "c", "d"), ("b", "d"), ("a", "b", "c", "d")),
    "aggregators apart": (("a", "b", "c"), ("x", "y"), ("a", "b", "c")),
    "aggregators learn nothing": (("a", "b", "c", "d", "e"), ("x", "y", "z"), ("r",)),
    "two clients": (("a", "b"), ("a", "x"), ("r", "x")),
    "a result party that adds up too": (("a", "b"), ("x", "y"), ("x",)),
    "overlapping": (("a", "x", "b"), ("x", "y", "b"), ("a", "y")),
    "all clients are aggregators, others learn": (("a", "b"), ("a", "b", "x"), ("r", "b")),
}

Results = tuple[dict[str, Any], dict[str, Ledger]]
Drive = Callable[[Mapping[str, Program[Any]]], Results]


def vectors(
    ring: Ring, shape: tuple[int, ...], names: tuple[str, ...], seed: int = 0
) -> dict[str, RingArray]:
    stream = Stream(seed.to_bytes(32, "big"))
    return {name: stream.ring(shape, ring.bits) for name in names}


def sums(xs: Mapping[str, RingArray], ring: Ring) -> dict[str, Program[Any]]:
    return {name: partial(additive_sum, x=x, ring=ring) for name, x in xs.items()}


def terms_for(roles: Layout, shape: tuple[int, ...] = (11,), ring: Ring = R20, **options: Any) -> Terms:
    return Terms(Roles(*roles), **{"shape": shape, "ring": ring, "min_clients": 2, **options})


def programs_for(xs: Mapping[str, RingArray], terms: Terms) -> dict[str, Program[Any]]:
    names = dict.fromkeys((*terms.roles.clients, *terms.roles.aggregators, *terms.roles.results))
    return {name: partial(take_part, x=xs.get(name), terms=terms) for name in names}


def everybody(xs: Mapping[str, RingArray], ring: Ring, **options: Any) -> Outcome[Any]:
    return simulate(sums(xs, ring), **options)


def total_of(xs: Mapping[str, RingArray], names: tuple[str, ...], ring: Ring = R20) -> RingArray:
    return reference([xs[name] for name in names], ring)


def openers(out: Outcome[Any]) -> list[str]:
    """Who sent partial sums."""
    return [sender for sender, _, kind in kinds(out.transcript) if kind == "PartialSum"]


# What it computes.


@pytest.mark.slow
@given(data=st.data(), n=st.integers(2, 6), m=st.integers(2, 4), bits=st.integers(1, 64))
@settings(deadline=None, max_examples=60)
def test_the_sum_equals_the_plain_sum_for_any_ring_shape_and_number(
    data: st.DataObject, n: int, m: int, bits: int
) -> None:
    ring = Ring(bits)
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    elements = st.integers(0, ring.modulus - 1)
    xs = {f"p{i}": data.draw(hnp.arrays(ring.dtype, shape, elements=elements)) for i in range(n)}
    before = {name: x.copy() for name, x in xs.items()}
    expected = reference(list(xs.values()), ring)
    assert [int(v) for v in expected.reshape(-1)] == [
        sum(int(x.reshape(-1)[i]) for x in xs.values()) % ring.modulus for i in range(expected.size)
    ]
    names = [f"p{i}" for i in data.draw(st.permutations(range(n + m)))]
    terms = terms_for((tuple(xs), tuple(names[:m]), tuple(names[-1:])), shape, ring)
    apart = simulate(programs_for(xs, terms)).results[names[-1]].total
    for total in (*everybody(xs, ring).values(), apart):
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

    def program(name: str) -> Program[Any]:
        async def both(p: Party) -> list[RingArray]:
            return await p.parallel(
                additive_sum(p, xs[name], ring=ring), additive_sum(p, ys[name], ring=ring)
            )

        return both

    results, ledgers = drive({name: program(name) for name in NAMES})
    for x_sum, y_sum in results.values():
        np.testing.assert_array_equal(x_sum, reference(list(xs.values()), ring))
        np.testing.assert_array_equal(y_sum, reference(list(ys.values()), ring))
    assert {ledger.total().rounds for ledger in ledgers.values()} == {2}


# What it costs.


@pytest.mark.parametrize("roles", ROLES.values(), ids=ROLES.keys())
@pytest.mark.parametrize(("bits", "shape"), [(20, (101,)), (64, (3, 4)), (1, (9,)), (32, (0,)), (8, ())])
def test_declared_cost_is_what_the_ledger_measured(roles: Layout, bits: int, shape: tuple[int, ...]) -> None:
    terms = terms_for(roles, shape, Ring(bits))
    programs = programs_for(vectors(terms.ring, shape, terms.roles.clients), terms)
    out = simulate(programs)
    assert len(out.values()) == len(programs)
    for name, ledger in out.ledgers.items():
        assert measured(name, ledger) == cost(name, terms=terms)


def test_declared_cost_holds_with_dropouts_and_a_client_is_done_after_one_round() -> None:
    xs, terms = vectors(R20, (11,), CLIENTS), terms_for(THREE)
    out = simulate(programs_for(xs, terms), faults=[Fault("crash", 1, sender="c2")])
    assert out.results["r"].dropped == ("c2",)
    for name, ledger in out.ledgers.items():
        if name != "c2":
            assert measured(name, ledger) == cost(name, terms=terms)
    for name in ("c0", "c1", "c3"):
        assert measured(name, out.ledgers[name]) == Cost.of(name, 0, 2 * 32 + 28, 3)
        assert out.ledgers[name].total().received.messages == 0
    assert measured("x", out.ledgers["x"]) == Cost.of("x", 3, 2 * 4 + 4 + 28, 5)
    assert measured("r", out.ledgers["r"]) == Cost.of("r", 4, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d", "each"), [(8, 50_000, 3_750), (400, 8, 850)])
def test_an_aggregator_holds_full_shares_packed_and_its_own_alone(n: int, d: int, each: int) -> None:
    ring = Ring(30)
    clients = tuple(f"c{i}" for i in range(n))
    terms = terms_for((clients, ("x", "y"), ("r",)), (d,), ring, min_clients=n)
    roster = (*clients, "x", "y", "r")
    for_x: list[tuple[str, bytes]] = []
    for name, x in vectors(ring, (d,), clients).items():
        client = Party(name, roster, session=bytes(32))
        Run(client, take_part(client, x, terms=terms)).start()
        for_x += [(name, b"".join(frame)) for to, frame, _ in client.outbox if to == "x"]
    party = Party("x", roster, session=bytes(32))
    run = Run(party, aggregate(party, terms=terms))
    run.start()
    tracemalloc.start()
    for name, frame in for_x:
        party.deliver(bytearray(frame), name)
        run.advance()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert party.waiting_for == ("y",)  # it has all parts
    assert n * terms.vector_bytes / 2 <= peak < n * terms.vector_bytes / 2 + n * each


# Clients that vanish, or send what is no part.


def test_several_clients_that_vanish_at_different_messages_are_left_out() -> None:
    clients = tuple(f"c{i}" for i in range(9))
    xs, terms = vectors(R20, (11,), clients), terms_for((clients, ("x", "y", "z"), ("r", "x")))
    faults = [Fault("crash", i % 3, sender=f"c{i}") for i in range(5)]
    faults += [Fault("drop", 0, sender="c5", receiver="z"), Fault("delay", 0, "c6", "y", seconds=40.0)]
    out = simulate(programs_for(xs, terms), faults=faults)
    for name in ("r", "x"):
        assert out.results[name].contributors == ("c7", "c8")
        np.testing.assert_array_equal(out.results[name].total, total_of(xs, ("c7", "c8")))


def test_a_client_that_learns_the_sum_may_vanish_too() -> None:
    roles = ROLES["aggregators apart"]
    xs, terms = vectors(R20, (11,), NAMES), terms_for(roles)
    out = simulate(programs_for(xs, terms), faults=[Fault("crash", 1, sender="b")])
    assert not out.errors
    for name in ("a", "c"):
        np.testing.assert_array_equal(out.results[name].total, total_of(xs, ("a", "c")))


@pytest.mark.slow
@pytest.mark.parametrize("roles", [(CLIENTS, ("x", "y"), ("r", "q")), (("a", "b"), ("a", "b"), ("r", "q"))])
def test_a_result_party_that_leaves_a_real_network_ends_nobody_elses_run(
    over_tcp: Drive, roles: Layout
) -> None:
    terms = terms_for(roles)
    xs = vectors(R20, (11,), terms.roles.clients)

    async def leave(p: Party) -> None:
        raise RangeError("cannot")

    results, _ = over_tcp(programs_for(xs, terms) | {"r": leave})
    assert all(results[name].contributors == terms.roles.clients for name in terms.roles.aggregators)
    np.testing.assert_array_equal(results["q"].total, total_of(xs, terms.roles.clients))


def test_stepped_parties_go_on_without_a_client_when_time_is_over() -> None:
    xs, terms = vectors(R20, (11,), CLIENTS), terms_for(APART)
    programs = programs_for(xs, terms)
    parties = {
        name: Stepwise(program, me=name, roster=tuple(programs), session=bytes(32))
        for name, program in programs.items()
    }
    post = [frame for name in (*CLIENTS, "x", "y", "r") for frame in carried(name, parties[name].step())]
    post = [(s, to, f) for s, to, f in post if (s, to) != ("c1", "x")]  # lost
    for expired in ((), ("x",), ()):
        for name in expired:
            assert parties[name].waiting_for == ("c1",)
            post += carried(name, parties[name].expire())
        while post:
            sender, to, frame = post.pop(0)
            post += carried(to, parties[to].step([(sender, frame)]))
    result = parties["r"].result()
    assert (result.contributors, result.dropped) == (("c0", "c2", "c3"), ("c1",))
    np.testing.assert_array_equal(result.total, total_of(xs, result.contributors))


def carried(sender: str, frames: list[tuple[str, bytes]]) -> list[tuple[str, str, bytes]]:
    return [(sender, to, frame) for to, frame in frames]


SEED, FULL = Part(np.zeros(32, np.uint8)), Part(np.zeros(28, np.uint8))  # 220 bits, and 4 to spare
THERE = np.ones(4, np.bool_)


def send(*messages: tuple[str, Message], session: bytes | None = None, again: bool = False) -> Program[Any]:
    """A client that sends just these, perhaps in another session, or under numbers that it used before."""

    async def program(p: Party) -> None:
        p.session = session or p.session
        for to, message in messages:
            p.send(to, message)
            if again:
                p._sequence[to] = 0
        await p.gather(Part, ())

    return program


# c3 sends its full share to y.
GARBAGE: dict[str, Program[Any]] = {
    "nothing": send(),
    "a seed only": send(("x", SEED)),
    "a full share only": send(("y", FULL)),
    "the two exchanged": send(("x", FULL), ("y", SEED)),
    "two seeds": send(("x", SEED), ("y", SEED)),
    "a seed that is too short": send(("x", Part(np.zeros(31, np.uint8))), ("y", FULL)),
    "a seed that is too long": send(("x", Part(np.zeros(33, np.uint8))), ("y", FULL)),
    "a seed of another shape": send(("x", Part(np.zeros((1, 32), np.uint8))), ("y", FULL)),
    "no bytes": send(("x", SEED), ("y", Part(np.zeros(0, np.uint8)))),
    "a full share that is too short": send(("x", SEED), ("y", Part(np.zeros(27, np.uint8)))),
    "a full share that is too long": send(("x", SEED), ("y", Part(np.zeros(29, np.uint8)))),
    "a full share of another shape": send(("x", SEED), ("y", Part(np.zeros((28, 1), np.uint8)))),
    "spare bits that are not zero": send(("x", SEED), ("y", Part(np.full(28, 255, np.uint8)))),
    "who is there": send(("x", Arrived(THERE)), ("y", FULL)),
    "a partial sum": send(("x", SEED), ("y", PartialSum(THERE, bytes(32), np.zeros(28, np.uint8)))),
    "something else, then good parts": send(
        ("x", Agreed(bytes(32))), ("x", SEED), ("y", Agreed(bytes(32))), ("y", FULL)
    ),
    "parts of another session": send(("x", SEED), ("y", FULL), session=bytes(32)),
    "a part of another session": send(("x", SEED), ("y", FULL), session=bytes(range(32))),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_a_client_of_whom_not_all_parts_are_there_and_in_form_is_left_out_by_agreement(name: str) -> None:
    xs, terms = vectors(R20, (11,), CLIENTS), terms_for(APART)
    out = simulate(programs_for(xs, terms) | {"c3": GARBAGE[name]})
    assert not out.errors
    for party in ("x", "y", "r"):
        assert (out.results[party].contributors, out.results[party].dropped) == (CLIENTS[:3], ("c3",))
    np.testing.assert_array_equal(out.results["r"].total, total_of(xs, CLIENTS[:3]))


def test_a_second_upload_and_a_replayed_one_change_nothing() -> None:
    xs, terms = vectors(R20, (11,), CLIENTS), terms_for(APART)
    other = Part(np.full(32, 7, np.uint8))
    expected = None
    for client in (
        send(("x", SEED), ("y", FULL)),
        send(("x", SEED), ("y", FULL), ("x", other), ("y", other), ("x", Agreed(bytes(32)))),
        send(("x", SEED), ("y", FULL), ("x", other), ("y", other), again=True),
    ):
        out = simulate(programs_for(xs, terms) | {"c3": client})
        assert not out.errors
        assert out.results["r"].contributors == CLIENTS
        expected = out.results["r"].total if expected is None else expected
        np.testing.assert_array_equal(out.results["r"].total, expected)


def test_parts_that_are_whatever_a_client_likes_are_one_vector() -> None:
    xs, terms = vectors(R20, (11,), CLIENTS), terms_for(APART)
    out = simulate(programs_for(xs, terms) | {"c3": send(("x", SEED), ("y", FULL))})
    zero = simulate(
        programs_for(xs, terms) | {"c3": send(("x", SEED), ("y", Part(R20.pack(np.ones(11, np.uint32)))))}
    )
    difference = R20.reduce(zero.results["r"].total - out.results["r"].total)
    assert difference.tolist() == [1] * 11


@pytest.mark.parametrize("roles", [APART, THREE], ids=["two aggregators", "three aggregators"])
def test_below_least_nothing_is_opened_and_the_missing_are_named(roles: Layout) -> None:
    xs, terms = vectors(R20, (11,), CLIENTS), terms_for(roles, min_clients=3)
    for faults in (
        [Fault("crash", 0, sender="c1"), Fault("crash", 1, sender="c3")],
        # Every aggregator has enough parts, but not of the same clients.
        [Fault("drop", 0, sender="c1", receiver="x"), Fault("drop", 0, sender="c3", receiver="y")],
    ):
        out = simulate(programs_for(xs, terms), faults=faults, record=True)
        assert not openers(out)
        for name in terms.roles.aggregators:
            error = out.errors[name]
            assert isinstance(error, TooFewPartiesError)
            assert blamed(error) == "c1"
            assert "at least 3 of 4 clients, got 2" in str(error)
            assert "c3" in str(error)
        assert isinstance(out.errors["r"], AbortedError)
        assert "at least 3 of 4 clients, got 2" in str(out.errors["r"])


def test_of_many_missing_clients_an_error_names_some() -> None:
    clients = tuple(f"client{i:02}" for i in range(30))
    xs, terms = vectors(R20, (2,), clients), terms_for((clients, ("x", "y"), ("x",)), (2,), min_clients=20)
    out = simulate(programs_for(xs, terms), faults=[Fault("crash", 0, sender=c) for c in clients[5:]])
    assert "client14" in str(out.errors["x"])
    assert "client15" not in str(out.errors["x"])
    assert "and 15 more" in str(out.errors["x"])


# Faults, and aggregators that vanish.


@pytest.mark.parametrize("roles", [APART, THREE], ids=["two aggregators", "three aggregators"])
def test_a_vanished_aggregator_ends_the_run_with_an_error_that_names_it(roles: Layout) -> None:
    xs, terms = vectors(R20, (11,), CLIENTS), terms_for(roles)
    others = len(terms.roles.aggregators) - 1
    for gone in terms.roles.aggregators:
        for message in range(2 * others + 1):
            faults = [Fault("crash", message, sender=gone)]
            out = simulate(programs_for(xs, terms), faults=faults, record=True)
            error = out.errors["r"]
            assert isinstance(error, PeerMissingError)
            assert blamed(error) == gone
            assert {blamed(e) for e in out.errors.values()} == {gone}
            # Those that got its digest may open sums, which are noise without the others'.
            still_open = set(openers(out)) - {gone}
            assert len(still_open) == max(0, message - others)


@pytest.mark.slow
def test_an_aggregator_that_leaves_a_real_network_ends_the_run(over_tcp: Drive) -> None:
    xs, terms = vectors(R20, (11,), CLIENTS), terms_for(APART)

    async def leave(p: Party) -> None:
        await p.gather(Part, CLIENTS, quorum=0)
        raise RangeError("cannot")

    results, _ = over_tcp(programs_for(xs, terms) | {"y": leave})
    for name in ("x", "r"):
        assert isinstance(results[name], PeerMissingError)
        assert blamed(results[name]) == "y"


def test_a_missing_part_of_a_client_who_is_an_aggregator_ends_the_run() -> None:
    roles = ROLES["two aggregators among the clients"]
    xs, terms = vectors(R20, (11,), roles[0]), terms_for(roles)
    for wrong in (None, Part(np.zeros(31, np.uint8))):

        def alter(p: Party, to: str, message: Any, wrong: Message | None = wrong) -> Message | None:
            return wrong if isinstance(message, Part) and to == "d" else message

        programs = programs_for(xs, terms)
        out = simulate(programs | {"b": altering(programs["b"], alter)}, record=True)
        assert isinstance(out.errors["d"], RemoteProtocolError)
        assert {blamed(e) for e in out.errors.values()} == {"b"}
        assert not openers(out)


# Aggregators that lie.


def without(*names: str) -> np.ndarray[Any, Any]:
    return np.array([c not in names for c in CLIENTS])


def lie(
    roles: Layout, alter: Callable[[Party, str, Any], Message | None], liar: str, **options: Any
) -> Outcome[Any]:
    xs, terms = vectors(R20, (11,), CLIENTS), terms_for(roles, **options)
    programs = programs_for(xs, terms)
    return simulate(programs | {liar: altering(programs[liar], alter)}, record=True)


def test_three_aggregators_of_whom_one_tells_the_others_different_sets_open_nothing() -> None:
    terms = terms_for(THREE)
    told = {"x": without("c0"), "y": without("c1")}

    def alter(p: Party, to: str, message: Any) -> Message | None:
        if isinstance(message, Arrived):
            return Arrived(told[to])
        if isinstance(message, Agreed):  # what each of them hopes to hear
            return Agreed(_statement(p, told[to], terms))
        return message

    out = lie(THREE, alter, "z")
    for name, other in (("x", "y"), ("y", "x")):
        error = out.errors[name]
        assert isinstance(error, RemoteProtocolError)
        assert blamed(error) == ""  # which of the others lied cannot be known
        assert (
            f"{other} holds other terms or means another set of clients, or z told {other} and {name}"
            in str(error)
        )
    assert isinstance(out.errors["r"], AbortedError)
    assert set(openers(out)) <= {"z"}


@pytest.mark.parametrize("roles", [APART, THREE], ids=["two aggregators", "three aggregators"])
def test_a_digest_of_another_set_is_caught_before_anything_is_opened(roles: Layout) -> None:
    terms = terms_for(roles)

    def alter(p: Party, to: str, message: Any) -> Message | None:
        return Agreed(_statement(p, without("c2"), terms)) if isinstance(message, Agreed) else message

    out = lie(roles, alter, "y")
    errors = {n: e for n, e in out.errors.items() if isinstance(e, RemoteProtocolError)}
    assert set(errors) == set(terms.roles.aggregators) - {"y"}
    # Where there is a third aggregator, it could have told the two different sets.
    assert {blamed(e) for e in errors.values()} == ({"y"} if roles is APART else {""})
    assert all("y holds other terms or means another set" in str(e) for e in errors.values())
    assert set(openers(out)) <= {"y"}
    assert "r" not in out.results


def test_a_claim_to_have_a_part_that_did_not_come_is_caught_if_the_liar_does_not_stand_by_it() -> None:
    xs, terms = vectors(R20, (11,), CLIENTS), terms_for(APART)

    def alter(p: Party, to: str, message: Any) -> Message | None:
        return Arrived(THERE) if isinstance(message, Arrived) else message

    programs = programs_for(xs, terms)
    faults = [Fault("drop", 0, sender="c2", receiver="y")]
    out = simulate(programs | {"y": altering(programs["y"], alter)}, faults=faults, record=True)
    assert isinstance(out.errors["x"], RemoteProtocolError)
    assert "x" not in openers(out)


@pytest.mark.parametrize("liar", ["x", "y"])
def test_another_set_told_to_a_result_party_is_caught(liar: str) -> None:
    terms = terms_for(APART)

    def alter(p: Party, to: str, message: Any) -> Message | None:
        if not isinstance(message, PartialSum):
            return message
        there = without("c2")
        return PartialSum(there, _statement(p, there, terms), message.packed)

    out = lie(APART, alter, liar)
    error = out.errors["r"]
    assert isinstance(error, RemoteProtocolError)
    assert blamed(error) == ""  # neither is more to be believed than the other
    assert "y and x opened sums over different sets" in str(error)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda m: PartialSum(without("c2"), m.statement, m.packed),
        lambda m: PartialSum(np.ones(3, np.bool_), m.statement, m.packed),
        lambda m: PartialSum(m.received, bytes(32), m.packed),
        lambda m: PartialSum(m.received, m.statement, m.packed[1:]),
        lambda m: PartialSum(m.received, m.statement, np.zeros(29, np.uint8)),
        lambda m: PartialSum(m.received, m.statement, np.full(28, 255, np.uint8)),
        lambda m: Agreed(m.statement),
    ],
)
def test_what_is_no_partial_sum_over_the_set_is_an_error_that_names_the_aggregator(
    wrong: Callable[[PartialSum], Message],
) -> None:
    for results in (("r",), ("x",)):
        out = lie(
            (CLIENTS, ("x", "y"), results),
            lambda p, to, m: wrong(m) if isinstance(m, PartialSum) else m,
            "y",
        )
        error = out.errors[results[0]]
        assert isinstance(error, RemoteProtocolError)
        assert blamed(error) == "y"


def test_a_sum_over_fewer_than_least_is_refused_by_result_parties() -> None:
    terms = terms_for(APART, min_clients=4)

    async def liar(p: Party) -> None:
        there = without("c1")
        p.send("r", PartialSum(there, _statement(p, there, terms), np.zeros(28, np.uint8)))

    out = simulate(programs_for(vectors(R20, (11,), CLIENTS), terms) | {"x": liar, "y": liar})
    assert isinstance(out.errors["r"], RemoteProtocolError)
    assert blamed(out.errors["r"]) == "x"


@pytest.mark.parametrize("roles", [APART, THREE], ids=["two aggregators", "three aggregators"])
def test_an_aggregator_opens_one_sum_a_session_however_often_it_is_asked(roles: Layout) -> None:
    """A liar that asks for a second set, to see the difference, gets no second sum of anybody's shares."""
    terms = terms_for(roles)

    def alter(p: Party, to: str, message: Any) -> Message | None:
        if isinstance(message, Agreed | PartialSum):
            there = without("c0")
            Party.send(p, to, message)
            Party.send(p, to, Arrived(there))
            return Agreed(_statement(p, there, terms))
        return message

    out = lie(roles, alter, terms.roles.aggregators[-1])
    honest = terms.roles.aggregators[:-1]
    assert [s for s in openers(out) if s in honest] == list(honest)
    assert out.results["r"].contributors == CLIENTS


def test_an_aggregator_can_leave_clients_out_but_not_go_below_least() -> None:
    xs, terms = vectors(R20, (11,), CLIENTS), terms_for(APART, min_clients=3)

    def deny(*names: str) -> Outcome[Any]:
        # To deny a part and stand by it is what an aggregator does from whom the part was kept.
        faults = [Fault("drop", 0, sender=name, receiver="y") for name in names]
        return simulate(programs_for(xs, terms), faults=faults, record=True)

    out = deny("c1")
    np.testing.assert_array_equal(out.results["r"].total, total_of(xs, ("c0", "c2", "c3")))
    out = deny("c1", "c2")
    assert not openers(out)
    assert isinstance(out.errors["x"], TooFewPartiesError)


def test_a_wrong_partial_sum_spoils_the_sum_and_nobody_notices() -> None:
    xs = vectors(R20, (11,), CLIENTS)

    def alter(p: Party, to: str, message: Any) -> Message | None:
        if isinstance(message, PartialSum):
            return PartialSum(message.received, message.statement, np.zeros(28, np.uint8))
        return message

    for roles in (APART, THREE):
        out = lie(roles, alter, "y")
        assert not out.errors
        assert not np.array_equal(out.results["r"].total, total_of(xs, CLIENTS))


def test_aggregators_of_other_terms_stop_before_anything_is_opened() -> None:
    xs, terms = vectors(R20, (11,), CLIENTS), terms_for(APART)
    for changed in (
        terms_for(APART, (11, 1)),
        terms_for(APART, min_clients=3),
        terms_for((("c1", "c0", "c2", "c3"), *APART[1:])),
        terms_for((*APART[:2], ("r", "c0"))),
        terms_for((CLIENTS, ("y", "x"), ("r",))),
    ):
        programs = programs_for(xs, terms) | {"y": partial(take_part, terms=changed)}
        out = simulate(programs, record=True)
        assert any(isinstance(out.errors[name], RemoteProtocolError | TooFewPartiesError) for name in "xy")
        assert not openers(out)


def test_a_result_party_of_other_terms_takes_no_sum() -> None:
    xs, terms = vectors(R20, (11,), CLIENTS), terms_for(APART)
    changed = terms_for((("c1", "c0", "c2", "c3"), *APART[1:]))
    out = simulate(programs_for(xs, terms) | {"r": partial(take_part, terms=changed)})
    assert isinstance(out.errors["r"], RemoteProtocolError)
    assert blamed(out.errors["r"]) == "x"


def test_parties_that_disagree_on_shape_or_ring_get_an_error_and_no_sum() -> None:
    xs = vectors(Ring(64), (4,), NAMES)
    for shape, ring in (((5,), Ring(64)), ((2, 2), Ring(64)), ((4,), Ring(63))):
        x = np.zeros(shape, np.uint64)
        out = simulate(sums(xs, Ring(64)) | {"b": partial(additive_sum, x=x, ring=ring)})
        assert not out.results
        assert {blamed(e) for n, e in out.errors.items() if n != "b"} == {"b"}


def test_fingerprints_depend_on_every_term() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"clients": ("a", "c", "b")},
        {"clients": ("a", "b", "c", "r"), "results": ("q",)},
        {"aggregators": ("y", "x")},
        {"aggregators": ("x", "y", "r"), "results": ("q",)},  # the same names in the same order
        {"clients": ("a", "b"), "aggregators": ("c", "x", "y")},
        {"results": ("r",)},
        {"shape": (2,)},
        {"shape": (2, 3, 1)},
        {"ring": Ring(21)},
        {"min_clients": 3},
    ]
    base = terms_for((NAMES, ("x", "y"), ("r", "q")), (2, 3))
    terms = [with_changes(base, **change) for change in changes]
    assert len({t.fingerprint() for t in terms}) == len(changes)


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
    ("clients", "aggregators", "results", "options", "match"),
    [
        ("", "xy", "r", {}, "distinct clients"),
        ("a", "xy", "r", {}, "min_clients from 2 to 1"),
        ("aa", "xy", "r", {}, "distinct clients"),
        ("ab", "x", "r", {}, "at least 2 distinct aggregators"),
        ("ab", "xx", "r", {}, "distinct aggregators"),
        ("ab", "", "r", {}, "distinct aggregators"),
        ("ab", "xy", "", {}, "distinct result parties"),
        ("ab", "xy", "rr", {}, "distinct result parties"),
        ("abc", "xy", "r", {"min_clients": 1}, "min_clients=1"),
        ("abc", "xy", "r", {"min_clients": 4}, "min_clients=4"),
        ("ab", "xy", "r", {"shape": (3, -1)}, "shape"),
        ("ab", "xy", "r", {"timeout_s": 0.0}, "timeout_s"),
        ("ab", "xy", "r", {"timeout_s": float("nan")}, "timeout_s"),
    ],
)
def test_terms_that_make_no_sense_are_refused(
    clients: str, aggregators: str, results: str, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(UsageError, match=match):
        terms_for((tuple(clients), tuple(aggregators), tuple(results)), **options)


@pytest.mark.parametrize(
    ("name", "x"), [("a", None), ("x", np.zeros(3, np.uint64)), ("a", np.zeros(4, np.uint64))]
)
def test_vectors_where_none_belong_or_of_another_shape_are_refused(name: str, x: Any) -> None:
    terms = terms_for(ROLES["aggregators apart"], (3,), Ring(64))
    programs = programs_for(vectors(Ring(64), (3,), terms.roles.clients), terms)
    out = simulate(programs | {name: partial(take_part, x=x, terms=terms)})
    assert isinstance(out.errors[name], UsageError)
    assert out.ledgers[name].total().sent.messages == 0


def test_strangers_in_the_terms_and_parties_without_a_role_are_refused() -> None:
    terms = terms_for((("a", "b"), ("a", "nobody"), ("a",)), (1,), Ring(64))
    x = np.zeros(1, np.uint64)
    out = simulate(dict.fromkeys("ab", partial(take_part, x=x, terms=terms)))
    assert all("nobody" in str(e) for e in out.errors.values() if isinstance(e, UsageError))
    assert any(isinstance(e, UsageError) for e in out.errors.values())
    terms = terms_for(APART)
    programs = programs_for(vectors(R20, (11,), CLIENTS), terms)
    out = simulate(programs | {"guest": partial(take_part, terms=terms)})
    assert "no role" in str(out.errors["guest"])


def test_results_show_no_sum_in_repr() -> None:
    assert "12345" not in repr(SumResult(np.array([12345], np.uint32), ("a", "b"), ()))


# What the wire shows.

LENGTH = 1 << 17


def sent_arrays(
    roles: Layout, fill: int, seed: int, faults: tuple[Fault, ...] = ()
) -> dict[tuple[str, str, str], np.ndarray[Any, Any]]:
    """Return what each party sent to each other, by kind and seeds left out, when every input is constant."""
    terms = terms_for(roles, (LENGTH,), Ring(8))
    xs = {name: np.full(LENGTH, fill, np.uint8) for name in terms.roles.clients}
    out = simulate(programs_for(xs, terms), insecure_seed=seed, record=True, faults=faults)
    assert not out.errors
    got = {}
    for sender, receiver, frame in out.transcript:
        cut = wire.decode_envelope(frame, peer=sender)
        if cut.envelope.kind == PartialSum.KIND:
            got[sender, receiver, "PartialSum"] = wire.decode_body(cut, PartialSum, peer=sender)[0].packed
        elif cut.envelope.kind == Part.KIND:
            part = wire.decode_body(cut, Part, peer=sender)[0].part
            if part.size == LENGTH:
                got[sender, receiver, "Part"] = part
    return got


@pytest.mark.parametrize(
    ("roles", "faults"),
    [
        (EVERYONE, ()),
        (ROLES["aggregators apart"], ()),
        (APART, (Fault("drop", 0, "c0", "y"), Fault("drop", 0, "c3", "x"))),
    ],
    ids=["everyone", "apart", "dropouts"],
)
@pytest.mark.parametrize("fill", [0, 77])
def test_every_array_on_the_wire_is_uniform_whatever_the_inputs(
    roles: Layout, faults: tuple[Fault, ...], fill: int
) -> None:
    arrays = sent_arrays(roles, fill, fill, faults)
    assert chi_square(np.full(LENGTH, fill, np.uint8)) > 1e6  # the statistic does see an input
    found = {kind for _, _, kind in arrays}
    assert found == ({"PartialSum"} if roles is EVERYONE else {"PartialSum", "Part"})
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


def test_with_dropouts_partial_sums_are_jointly_uniform_but_for_the_sum_over_the_set() -> None:
    # y holds c3's full share and never gets c0's; x holds c0's full share and never gets c3's seed.
    arrays = sent_arrays(APART, 9, 6, (Fault("drop", 0, "c0", "y"), Fault("drop", 0, "c3", "x")))
    x, y = arrays["x", "r", "PartialSum"], arrays["y", "r", "PartialSum"]
    assert set((x + y).tolist()) == {18}  # c1 and c2
    # What the aggregators got of those left out tells nothing beside what they opened.
    for left_out in (arrays["c0", "x", "Part"], arrays["c3", "y", "Part"]):
        for values in (x - left_out, y - left_out, x + left_out, y ^ left_out):
            assert chi_square(values) < CHI_SQUARE_LIMIT


def test_the_share_that_is_no_seed_is_never_sent_by_an_aggregator() -> None:
    for roles in ROLES.values():
        terms = terms_for(roles, (50,), Ring(8))
        out = simulate(programs_for(vectors(Ring(8), (50,), terms.roles.clients), terms), record=True)
        full = set()
        for sender, _, frame in out.transcript:
            cut = wire.decode_envelope(frame, peer=sender)
            if cut.envelope.kind == Part.KIND:
                size = wire.decode_body(cut, Part, peer=sender)[0].part.size
                assert size in (32, 50)
                if size == 50:
                    full.add(sender)
        assert full == set(terms.roles.clients) - set(terms.roles.aggregators)


def test_full_shares_are_spread_evenly_among_aggregators() -> None:
    terms = terms_for((tuple(f"c{i}" for i in range(9)), ("x", "y", "z"), ("r",)))
    holders = [terms.leader(i) for i in range(9)]
    assert [holders.count(a) for a in terms.roles.aggregators] == [3, 3, 3]
