"""The bounded sum: right sums and verdicts, attacks, lies of aggregators, costs, and what is seen.

The module is long because one set of clients in and out of bounds serves every attack.
"""

from __future__ import annotations

import itertools
import math
import tracemalloc
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from secagg import wire
from secagg.errors import (
    PlanError,
    RangeError,
    RemoteProtocolError,
    ShapeError,
    TooFewPartiesError,
    UsageError,
)
from secagg.fixed_point import Plan, encode
from secagg.ledger import Ledger
from secagg.mpc.numbers import RingGroup
from secagg.mpc.three.engine import ThreeEngine
from secagg.mpc.three.opening import Opening
from secagg.network.simulated import Outcome, simulate
from secagg.party import Party, Program
from secagg.prg import Stream, derive_key
from secagg.protocols.agreement import Agreed
from secagg.protocols.bounded_sum import (
    BoundedSum,
    Bounds,
    Terms,
    aggregate,
    bounds_for,
    check,
    contribute,
    cost,
    receive,
    reference,
    take_part,
    upload,
)
from secagg.protocols.bounded_sum.check import violations, violations_cost
from secagg.protocols.bounded_sum.messages import PassedRest, Rest, Seeds, Verdict
from secagg.protocols.roles import Roles
from secagg.ring import Ring, RingArray, unpack
from secagg.wire import Message
from sums import with_changes
from transcripts import kinds

P = ("p0", "p1", "p2")
D = 8
B = 1000
PLAIN = Bounds(D, B, 2 * B * B)
WEIGHTED = Bounds(D, B, 2 * B * B, max_weight=7)

Results = tuple[dict[str, Any], dict[str, Ledger]]
Drive = Callable[[Mapping[str, Program[Any]]], Results]


def ring_row(*numbers: int, ring: Ring = PLAIN.ring) -> RingArray:
    return np.array([n % ring.modulus for n in numbers], ring.dtype)


def coordinates(*numbers: int) -> RingArray:
    """Return a vector of length D that begins with these numbers."""
    return ring_row(*numbers, *[0] * (D - len(numbers)))


def weighted_row(weight: int, *numbers: int) -> RingArray:
    return np.concatenate([ring_row(weight), coordinates(*numbers)])


async def share_anything(
    party: Party, row: RingArray, *, terms: Terms, seeds: bytes | None = None, tell: tuple[int, ...] = (0, 1)
) -> None:
    """Share any row as a client that keeps to nothing but the wire's format."""
    pair = np.frombuffer(party.rng.bytes(64) if seeds is None else seeds, np.uint8).reshape(2, 32)
    ring = terms.bounds.ring
    for seed in pair:
        key = derive_key(seed.tobytes(), label="secagg.protocols.bounded_sum/share")
        row = ring.reduce(row - Stream(key).ring(row.shape, ring.bits))
    for index, message in enumerate((Seeds(pair), Rest(row))):
        if index in tell:
            party.send(terms.roles.aggregators[index], message)
    await party.gather(Seeds, ())


def terms_for(
    rows: Mapping[str, Any], bounds: Bounds = PLAIN, results: tuple[str, ...] = ("r",), **options: Any
) -> Terms:
    return Terms(Roles(tuple(rows), P, results), **{"bounds": bounds, "min_clients": 2, **options})


def attack(
    rows: Mapping[str, RingArray | Program[Any]], bounds: Bounds = PLAIN, *, run: Any = None, **options: Any
) -> Outcome[Any]:
    """Run a sum of rows that clients share whatever they hold, or of what their programs do."""
    terms = terms_for(rows, bounds, **options)
    return simulate(attackers(rows, terms), **(run or {}))


def attackers(rows: Mapping[str, RingArray | Program[Any]], terms: Terms) -> dict[str, Program[Any]]:
    def client(row: RingArray | Program[Any]) -> Program[Any]:
        return row if callable(row) else lambda p: share_anything(p, row, terms=terms)

    programs = {name: client(row) for name, row in rows.items()}
    for name in dict.fromkeys((*P, *terms.roles.results)):
        programs.setdefault(name, lambda p: take_part(p, terms=terms))
    return programs


def honest(
    xs: Mapping[str, RingArray], terms: Terms, weights: Mapping[str, int] | None = None
) -> dict[str, Program[Any]]:
    def program(name: str) -> Program[Any]:
        return lambda p: take_part(p, xs.get(name), terms=terms, weight=(weights or {}).get(name))

    return {name: program(name) for name in dict.fromkeys((*xs, *P, *terms.roles.results))}


def vectors(n: int, seed: int = 0, bounds: Bounds = PLAIN) -> dict[str, RingArray]:
    reach = math.isqrt(bounds.norm_limit // bounds.length)
    made = np.random.default_rng(seed).integers(-reach, reach + 1, (n, bounds.length))
    return {f"c{i}": x for i, x in enumerate(bounds.ring.from_signed(made))}


# What it computes.


@pytest.mark.parametrize("results", [("p0",), ("p1", "p2"), P, ("r", "q"), ("c0",), ("c1", "p0", "r")])
def test_any_party_may_be_a_result_party(results: tuple[str, ...]) -> None:
    xs = vectors(3)
    terms = terms_for(xs, results=results)
    out = simulate(honest(xs, terms))
    out.values()
    expected = reference(xs, PLAIN)[0]
    for name, result in out.results.items():
        if name in results:
            np.testing.assert_array_equal(result.total, expected)
        elif name in P:
            assert result.total is None
        else:
            assert result is None


EDGES = [0, 1, -1, B - 1, B, B + 1, -B, -B - 1, 3 * B, 1 << 31, 1 << 32, -1 << 32, 1 << 62, 1 << 63, -1 << 62]
EDGES += [(1 << 63) - 1, (1 << 63) - B, (1 << 63) + B, (1 << 64) - B * B]


@pytest.mark.slow
@given(data=st.data(), n=st.integers(2, 6), batch=st.integers(1, 4), weighted=st.booleans())
@settings(deadline=None, max_examples=60)
def test_sum_and_verdicts_are_those_of_exact_integers_whatever_clients_share(
    data: st.DataObject, n: int, batch: int, weighted: bool
) -> None:
    bounds = WEIGHTED if weighted else PLAIN
    elements = st.one_of(
        st.sampled_from(EDGES), st.integers(-B // 2, B // 2), st.integers(0, (1 << 64) - 1)
    ).map(lambda v: v % (1 << 64))
    small = st.integers(-B // 2, B // 2).map(lambda v: v % (1 << 64))
    lead = st.sampled_from([0, 1, 6, 7, 8, 1 << 32, 1 << 63, (1 << 64) - 1])
    rows: dict[str, RingArray] = {}
    for i in range(n):
        row = data.draw(hnp.arrays(np.uint64, bounds.columns, elements=small, fill=st.nothing()))
        for j in data.draw(st.lists(st.integers(0, D - 1), max_size=2)):
            row[j - D] = data.draw(elements)
        if weighted:
            row[0] = data.draw(lead)
        rows[f"c{i}"] = row
    total, accepted = reference(rows, bounds)
    out = attack(rows, bounds, batch=batch)
    if len(accepted) < 2:
        assert isinstance(out.errors["r"], TooFewPartiesError)
        assert not any(isinstance(result, BoundedSum) for result in out.results.values())
        return
    result = out.results["r"]
    assert result.contributors == accepted
    assert set(result.rejected) == set(rows) - set(accepted)
    np.testing.assert_array_equal(result.total, total[bounds.columns - D :])
    assert result.weight == (int(total[0]) if weighted else len(accepted))


@pytest.mark.slow
def test_batches_change_nothing_but_the_rounds() -> None:
    rows = {**vectors(7), "evil": coordinates(B + 1)}
    total, accepted = reference(rows, PLAIN)
    for batch in (1, 2, 3, 8, 100):
        result = attack(rows, batch=batch).values()[-1]
        assert result.contributors == accepted
        np.testing.assert_array_equal(result.total, total)


# The check, exhaustively on small rings.


def check_all(rows: RingArray, bounds: Bounds) -> np.ndarray[Any, Any]:
    async def program(p: Party) -> Any:
        engine = await ThreeEngine.set_up(p, P)
        mine = rows if p.me == "p1" else None
        shared = await engine.input(RingGroup(bounds.ring), "p1", rows.shape, mine)
        return await engine.open(await violations(engine, shared, bounds))

    opened = simulate(dict.fromkeys(P, program)).values()
    assert all(np.array_equal(words, opened[0]) for words in opened)
    assert unpack(opened[0], 64 * opened[0].size)[len(rows) :].sum() == 0
    return unpack(opened[0], len(rows)).astype(bool)


def every_row(bounds: Bounds) -> RingArray:
    columns = np.meshgrid(*[np.arange(bounds.ring.modulus)] * bounds.columns)
    return np.stack([c.ravel() for c in columns], axis=1).astype(bounds.ring.dtype)


def every_bounds(bits: int, length: int, *, weights: bool) -> list[Bounds]:
    """Return bounds for all limits of coordinates, squared norms and weights that cannot wrap."""
    found, most = {}, 1 << bits - 1
    for b, w in itertools.product(range(1, most), range(1, most) if weights else [None]):
        for c in range(1, length * b * b + 1):
            try:
                bounds = Bounds(length, b, c, w, Ring(bits))
            except PlanError:
                break
            found[bounds.limit, bounds.norm_limit, w] = bounds
    return list(found.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bits", "length", "weights"), [(3, 1, True), (4, 1, True), (4, 2, False), (5, 1, True), (5, 2, False)]
)
def test_every_row_of_a_small_ring_is_judged_as_by_exact_integers(
    bits: int, length: int, weights: bool
) -> None:
    cases = every_bounds(bits, length, weights=weights)
    assert len(cases) >= 1
    for bounds in cases:
        rows = every_row(bounds)
        expected = [not bounds.allow(row) for row in rows]
        np.testing.assert_array_equal(check_all(rows, bounds), expected, err_msg=repr(bounds))
        assert not all(expected)


@pytest.mark.slow
def test_limits_derived_from_the_bounds_are_those_bounds() -> None:
    for b, c in itertools.product(range(1, 4), range(1, 19)):
        bounds = Bounds(2, b, c, ring=Ring(6))
        for row in every_row(bounds)[::5]:
            x, y = (int(v) for v in bounds.ring.to_signed(row))
            assert bounds.allow(row) == (max(abs(x), abs(y)) <= b and x * x + y * y <= c)
    for b, c, w in itertools.product(range(1, 3), range(1, 5), range(3)):
        bounds = Bounds(1, b, c, 2, Ring(6))
        for x in range(-b, b + 1):
            if x * x <= c:
                assert bounds.allow(bounds.row(ring_row(x, ring=bounds.ring), w))


@pytest.mark.slow
def test_every_weighted_pair_of_a_small_ring_is_judged_as_by_exact_integers() -> None:
    bounds = Bounds(2, 1, 1, 2, Ring(5))
    rows = every_row(bounds)
    assert len(rows) == 1 << 15
    np.testing.assert_array_equal(check_all(rows, bounds), [not bounds.allow(row) for row in rows])


@pytest.mark.parametrize(("bits", "length"), [(2, 1), (3, 1), (4, 1), (5, 2), (6, 2)])
def test_bounds_are_refused_just_where_a_norm_within_coordinate_bounds_could_wrap(
    bits: int, length: int
) -> None:
    most = (1 << bits - 1) - 1
    for b in range(1, most + 1):
        wraps = length * b * b > most or 2 * b > most
        if wraps:
            with pytest.raises(PlanError, match="wrap"):
                Bounds(length, b, length * b * b, ring=Ring(bits))
        else:
            Bounds(length, b, length * b * b, ring=Ring(bits))


# Attacks.

Q = 1 << 32
ATTACKS = {
    "one just over": (B + 1,),
    "one just under the negative bound": (0, -B - 1),
    "the last coordinate over": (0,) * (D - 1) + (B + 1,),
    "far over": (1 << 40,),
    "2^63": (1 << 63,),
    "2^63 - 1": ((1 << 63) - 1,),
    "-(2^63 - 1)": (-(1 << 63) + 1,),
    "2^63 - B, where x + B is just below the wrap": ((1 << 63) - B,),
    "2^63 + B, where B - x is just below the wrap": ((1 << 63) + B,),
    "-2^62 and 2^62": (-1 << 62, 1 << 62),
    "a square of zero modulo 2^64": (Q,),
    "all squares zero modulo 2^64": (Q,) * D,
    "multiples of 2^32, small ones among them": (5 * Q, -7 * Q, 3, -4, 2 * Q),
    "squares that add up to 2^64": (1 << 31,) * 4,
    "squares that add up to 2^64 and 25": ((1 << 31), (1 << 31), (1 << 31), (1 << 31), 3, 4),
    "a norm whose square is negative in two's complement": (1 << 31, 1 << 31, 1 << 30),
    "a root of one modulo 2^64": ((1 << 63) + 1,),
    "another root of one modulo 2^64": ((1 << 63) - 1,),
    "the norm just over, coordinates within": (B, B, 1),
    "the norm over, all coordinates at the bound": (B, -B) * (D // 2),
}
# These have squared norms within the bound modulo 2**64: a check of the norm alone would let them pass.
FOOL_A_NORM_CHECK: tuple[str, ...] = ("2^63", "2^63 - 1", "-2^62 and 2^62", "all squares zero modulo 2^64")
FOOL_A_NORM_CHECK += ("multiples of 2^32, small ones among them", "squares that add up to 2^64 and 25")


@pytest.mark.parametrize("name", FOOL_A_NORM_CHECK)
def test_attacks_are_such_that_would_fool_a_check_of_the_norm_alone(name: str) -> None:
    x = coordinates(*ATTACKS[name])
    assert int(np.vecdot(x, x)) <= PLAIN.squared_norm
    assert not PLAIN.allow(x)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_client_out_of_bounds_is_refused_and_named_and_the_others_are_summed(name: str) -> None:
    rows = vectors(3) | {"evil": coordinates(*ATTACKS[name])}
    out = attack(rows)
    for party in (*P, "r"):
        result = out.results[party]
        assert (result.contributors, result.rejected, result.dropped) == (("c0", "c1", "c2"), ("evil",), ())
    np.testing.assert_array_equal(out.results["r"].total, reference(vectors(3), PLAIN)[0])


@pytest.mark.parametrize(
    "numbers", [(B, B), (-B, -B), (B, 0, 0, -B), (B,), (-B,), (), (500,) * D, (0,) * 6 + (B, -B)]
)
def test_vectors_exactly_at_the_bounds_pass(numbers: tuple[int, ...]) -> None:
    rows = vectors(2) | {"edge": coordinates(*numbers)}
    assert attack(rows).results["r"].contributors == ("c0", "c1", "edge")


def test_all_clients_at_the_bounds_at_once_do_not_wrap_the_sum() -> None:
    n = 5
    reach = math.isqrt((1 << 63) - 1)
    bounds = Bounds(1, reach, reach * reach)
    for number in (reach, -reach):
        out = attack({f"c{i}": ring_row(number) for i in range(n)}, bounds)
        assert int(bounds.ring.to_signed(out.results["r"].total)[0]) == n * number


WEIGHT_ATTACKS = {
    "a weight just over": (8, 1),
    "a negative weight": (-1, 1),
    "a weight of 2^63": (1 << 63, 0),
    "a weight of 2^32, whose square is zero": (Q, 1),
    "a weight of 2^32 and coordinates to match": (Q, Q * B),
    "a weight of minus 2^32": (-Q, 0),
    "a coordinate over its weight's share": (2, 2 * B + 1),
    "a coordinate under its weight's share": (2, 0, -2 * B - 1),
    "a norm over its weight's share": (3, 3 * B, 3 * B, 1),
    "nothing's weight and something": (0, 1),
    "no weight but the largest coordinates": (0, 7 * B),
    "a weight that wraps the bound": (pow(B // 8, -1, 1 << 61), 1),
}


@pytest.mark.parametrize("name", WEIGHT_ATTACKS)
def test_bounds_hold_for_the_vector_before_it_was_weighted(name: str) -> None:
    shared = [(7, 7 * B, 7 * B), (0,), (1, -B)]
    rows = {f"c{i}": weighted_row(*numbers) for i, numbers in enumerate(shared)}
    total, accepted = reference(rows, WEIGHTED)
    assert accepted == ("c0", "c1", "c2")
    out = attack(rows | {"evil": weighted_row(*WEIGHT_ATTACKS[name])}, WEIGHTED)
    result = out.results["r"]
    assert (result.contributors, result.rejected) == (accepted, ("evil",))
    np.testing.assert_array_equal(result.total, total[1:])
    assert result.weight == 8


def test_several_attackers_in_several_batches_are_all_named() -> None:
    rows = vectors(9)
    for i, name in ((0, "far over"), (3, "2^63"), (4, "all squares zero modulo 2^64"), (8, "one just over")):
        rows[f"c{i}"] = coordinates(*ATTACKS[name])
    result = attack(rows, batch=2).results["r"]
    assert result.rejected == ("c0", "c3", "c4", "c8")
    np.testing.assert_array_equal(result.total, reference(rows, PLAIN)[0])


# Clients that send something else than shares of one vector.


def send(*messages: tuple[str, Any]) -> Program[Any]:
    async def program(p: Party) -> None:
        for to, message in messages:
            p.send(to, message)
        await p.gather(Seeds, ())

    return program


SEEDS, REST = Seeds(np.zeros((2, 32), np.uint8)), Rest(np.zeros(D, np.uint64))
MALFORMED = {
    "nothing": (),
    "seeds only": (("p0", SEEDS),),
    "a rest only": (("p1", REST),),
    "the two exchanged": (("p1", SEEDS), ("p0", REST)),
    "everything to P_2": (("p2", SEEDS), ("p2", REST)),
    "a rest that is too short": (("p0", SEEDS), ("p1", Rest(np.zeros(D - 1, np.uint64)))),
    "a rest that is too long": (("p0", SEEDS), ("p1", Rest(np.zeros(D + 1, np.uint64)))),
    "a rest of another shape": (("p0", SEEDS), ("p1", Rest(np.zeros((D, 1), np.uint64)))),
    "a rest of another dtype": (("p0", SEEDS), ("p1", Rest(np.zeros(D, np.uint32)))),
    "one seed": (("p0", Seeds(np.zeros((1, 32), np.uint8))), ("p1", REST)),
    "seeds that are too short": (("p0", Seeds(np.zeros((2, 31), np.uint8))), ("p1", REST)),
    "another message": (("p0", SEEDS), ("p1", Verdict(np.zeros(3, np.uint8)))),
    "what is for P_2 from P_1": (("p0", SEEDS), ("p1", PassedRest(np.zeros(D, np.uint64)))),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_client_whose_parts_are_not_both_there_and_well_formed_is_left_out_by_agreement(name: str) -> None:
    out = attack({**vectors(3), "evil": send(*MALFORMED[name])})
    for party in (*P, "r"):
        result = out.results[party]
        assert (result.contributors, result.rejected, result.dropped) == (("c0", "c1", "c2"), (), ("evil",))
    np.testing.assert_array_equal(out.results["r"].total, reference(vectors(3), PLAIN)[0])


def test_a_second_upload_and_messages_to_p2_change_nothing() -> None:
    other = Rest(np.full(D, 5, np.uint64))
    twice = send(("p0", SEEDS), ("p1", REST), ("p1", other), ("p0", SEEDS), ("p2", SEEDS), ("p2", other))
    once = attack({**vectors(2), "evil": send(("p0", SEEDS), ("p1", REST))}, min_clients=2)
    again = attack({**vectors(2), "evil": twice}, min_clients=2)
    assert once.results["r"].contributors == again.results["r"].contributors == ("c0", "c1")
    np.testing.assert_array_equal(once.results["r"].total, again.results["r"].total)


def test_both_holders_of_a_share_hold_the_same_whatever_the_client_sent() -> None:
    """There is one sender of each share, so that shares that differ cannot be said: equal seeds are all that is odd."""
    rows: dict[str, Any] = vectors(2)
    terms = terms_for({**rows, "odd": None})

    async def odd(p: Party) -> None:
        await share_anything(p, coordinates(B, -B), terms=terms, seeds=bytes(64))

    out = attack({**rows, "odd": odd})
    assert out.results["r"].contributors == ("c0", "c1", "odd")
    expected = reference(rows | {"odd": coordinates(B, -B)}, PLAIN)[0]
    np.testing.assert_array_equal(out.results["r"].total, expected)


# Too few.


def test_with_too_few_uploads_nothing_is_checked_or_opened() -> None:
    rows: dict[str, Any] = vectors(4)
    rows["c0"] = rows["c1"] = rows["c2"] = send(("p0", SEEDS))
    out = attack(rows, run={"record": True}, results=("r", "p0"))
    for party in (*P, "r"):
        error = out.errors[party]
        assert isinstance(error, TooFewPartiesError)
        assert error.peer == "c0"
        # c3 is not named: it uploaded, though nobody checked what.
        assert "got uploads of 1; missing: c0, c1, c2; no sum is opened" in str(error)
    assert not {"Opening", "Thermometers", "PassedRest"} & {kind for _, _, kind in kinds(out.transcript)}


@pytest.mark.parametrize("bad", [("c0", "c1", "c2"), ("c0", "c1", "c2", "c3")])
@pytest.mark.parametrize("results", [("r",), ("p0", "p2"), ("c3", "r", "p1")])
def test_with_too_few_within_bounds_the_verdict_alone_is_opened(
    bad: tuple[str, ...], results: tuple[str, ...]
) -> None:
    rows: dict[str, Any] = vectors(4) | dict.fromkeys(bad, coordinates(B + 1))
    if "c3" in results:
        terms = terms_for(rows, results=results)
        row = rows["c3"]

        async def client(p: Party) -> Any:
            await share_anything(p, row, terms=terms)
            return await receive(p, terms=terms)

        rows["c3"] = client
    out = attack(rows, run={"record": True}, results=results)
    for party in {*P, *results}:
        error = out.errors[party]
        assert isinstance(error, TooFewPartiesError)
        assert error.peer == "c0"
        assert ", ".join(bad) in str(error)
    # One opening of one word by each aggregator: the verdicts.
    openings = [(a, b) for a, b, kind in kinds(out.transcript) if kind == "Opening"]
    assert sorted(openings) == [("p0", "p1"), ("p1", "p2"), ("p2", "p0")]


# Aggregators.


def test_aggregators_of_other_terms_stop_before_anything_is_checked() -> None:
    rows = vectors(3)
    terms = terms_for(rows)
    for changed in (
        terms_for(rows, Bounds(D, B, 2 * B * B + 1)),
        terms_for(rows, Bounds(D, B + 1, 2 * B * B)),
        terms_for(rows, min_clients=3),
        terms_for(rows, batch=1),
    ):
        programs = attackers(rows, terms)
        programs["p2"] = partial(aggregate, terms=changed)
        out = simulate(programs, record=True)
        assert isinstance(out.errors["p0"], RemoteProtocolError)
        assert "PassedRest" not in {kind for _, _, kind in kinds(out.transcript)}


def test_fingerprints_depend_on_every_term() -> None:
    base = Terms(Roles(("a", "b", "c"), P, ("r", "q")), PLAIN, min_clients=2)
    changes: list[dict[str, Any]] = [
        {"clients": ("a", "c", "b")},
        {"clients": ("a", "b", "c", "r"), "results": ("q",)},
        {"aggregators": ("p1", "p0", "p2")},
        {"clients": ("a", "b"), "aggregators": ("c", *P[:2]), "results": (P[2], "r", "q")},
        {"results": ("r",)},
        {"bounds": WEIGHTED},
        {"bounds": Bounds(D + 1, B, 2 * B * B)},
        {"bounds": Bounds(D, B - 1, 2 * B * B)},
        {"bounds": Bounds(D, B, 2 * B * B - 1)},
        {"bounds": Bounds(D, B, 2 * B * B, ring=Ring(63))},
        {"min_clients": 3},
        {"batch": 1},
    ]
    prints = {with_changes(base, **change).fingerprint() for change in [{}, *changes]}
    assert len(prints) == len(changes) + 1


@pytest.mark.parametrize(
    ("liar", "named"),
    [
        ("p0", {"p1": "p0", "p2": ""}),  # P_2 was told P_1's set by P_1 alone
        ("p1", {"p0": "p1", "p2": ""}),
        ("p2", {"p0": "", "p1": ""}),
    ],
)
def test_whoever_means_another_set_is_named_where_no_third_party_can_have_caused_it(
    liar: str, named: dict[str, str]
) -> None:
    xs = vectors(3)
    terms = terms_for(xs)
    programs = honest(xs, terms)

    class Liar(Party):
        __slots__ = ()

        def send(self, to: str, message: Message) -> None:
            super().send(to, Agreed(bytes(32)) if isinstance(message, Agreed) else message)

    def lies(p: Party) -> Any:
        p.__class__ = Liar
        return programs[liar](p)

    out = simulate({**programs, liar: lies})
    for party, peer in named.items():
        error = out.errors[party]
        assert isinstance(error, RemoteProtocolError)
        assert error.peer == peer
        assert f"{liar} holds other terms or means another set of clients" in str(error)


def end_with_verdicts(verdicts: list[list[int]]) -> RemoteProtocolError:
    """Return how a result party ends to which the aggregators send these."""
    terms = terms_for(vectors(3))
    programs = {n: send(("r", Verdict(np.array(v, np.uint8)))) for n, v in zip(P, verdicts, strict=True)}
    idle = {client: send() for client in terms.roles.clients}
    error = simulate({**idle, **programs, "r": lambda p: receive(p, terms=terms)}).errors["r"]
    assert isinstance(error, RemoteProtocolError)
    return error


@pytest.mark.parametrize("liar", range(3))
@pytest.mark.parametrize("lie", [[2, 2, 1], [0, 0, 0, 0]])
def test_an_aggregator_whose_verdict_the_two_others_contradict_is_named(lie: list[int], liar: int) -> None:
    assert end_with_verdicts([lie if i == liar else [2, 2, 2] for i in range(3)]).peer == P[liar]


def test_of_three_different_verdicts_nobody_is_named() -> None:
    error = end_with_verdicts([[2, 2, 2], [2, 2, 1], [2, 1, 2]])
    assert error.peer == ""
    assert "got three from p0, p1, p2; it cannot be known which" in str(error)


# A batch in slices.


@pytest.fixture
def slices_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let so many comparisons be made together; the smallest slice is a word of 64 for each row."""
    return lambda at_once: monkeypatch.setattr(check, "_AT_ONCE", at_once)


@pytest.mark.parametrize("max_weight", [None, 7])
@pytest.mark.parametrize("d", [31, 32, 63, 64, 65, 150])
def test_in_slices_each_bound_of_each_coordinate_is_checked(
    slices_of: Callable[[int], None], d: int, max_weight: int | None
) -> None:
    """Slices begin and end within and between what is compared with the upper bound, with the lower one, and the norm."""
    slices_of(64)
    bounds = Bounds(d, B, 2 * B * B, max_weight)
    good = bounds.row(ring_row(*[3] * d), None if max_weight is None else 5)
    rows = [good]
    for column in range(bounds.columns):
        for limit in (B * (max_weight or 1) + 1, -B * (max_weight or 1) - 1):
            bad = good.copy()
            bad[column] = np.uint64(limit % (1 << 64))
            rows.append(bad)
    long = np.full(d, 5 * B // 4 if d < 8 else B // 2, np.uint64)
    rows.append(long if max_weight is None else np.append(np.uint64(1), long))
    broken = check_all(np.stack(rows), bounds)
    assert broken.tolist() == [False] + [True] * (len(rows) - 1)


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [PLAIN, WEIGHTED, Bounds(200, 3, 5, ring=Ring(20))])
def test_slices_change_no_verdict(slices_of: Callable[[int], None], bounds: Bounds) -> None:
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 3, (12, bounds.columns)).astype(bounds.ring.dtype)
    rows[::3, 0] = rng.integers(0, bounds.ring.modulus, 4, dtype=np.uint64).astype(bounds.ring.dtype)
    whole = check_all(rows, bounds)
    slices_of(1)
    np.testing.assert_array_equal(check_all(rows, bounds), whole)
    assert whole.tolist() == [not bounds.allow(row) for row in rows]


@pytest.mark.slow
def test_the_check_of_a_long_vector_takes_little_beside_its_shares(slices_of: Callable[[int], None]) -> None:
    slices_of(1 << 12)
    d = 1 << 16
    bounds = Bounds(d, 3, d * 9)
    rows = np.ones((1, d), np.uint64)

    async def program(p: Party) -> Any:
        engine = await ThreeEngine.set_up(p, P)
        mine = rows if p.me == "p1" else None
        shared = await engine.input(RingGroup(bounds.ring), "p1", rows.shape, mine)
        tracemalloc.reset_peak()
        return await engine.open(await violations(engine, shared, bounds))

    tracemalloc.start()
    try:
        simulate(dict.fromkeys(P, program)).values()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Two shares of 8 bytes at each of three parties, an input's frame, and bits of signs: 56 bytes a coordinate.
    # All at once took 150 more at each party.
    assert peak < 100 * d


@pytest.mark.parametrize(
    ("columns", "together"), [(1, 8), (1 << 17, 8), (1 << 18, 4), ((1 << 18) + 1, 3), (1 << 23, 1)]
)
def test_of_long_vectors_fewer_are_checked_together(columns: int, together: int) -> None:
    terms = terms_for(vectors(9), Bounds(columns, 1, columns))
    assert terms.rows_at_once == together


# What it costs.


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("n", "d", "batch", "results"),
    [(2, 1, 8, P), (5, 40, 3, ("r",)), (9, 31, 4, ("p0", "q", "r")), (70, 3, 70, ("p2",)), (3, 300, 1, P)],
)
def test_declared_cost_is_what_the_ledger_measured(
    n: int, d: int, batch: int, results: tuple[str, ...], weighted: bool
) -> None:
    bounds = Bounds(d, B, d * B * B, 3 if weighted else None)
    xs = vectors(n, bounds=bounds)
    terms = terms_for(xs, bounds, results=results, batch=batch)
    programs = honest(xs, terms, dict.fromkeys(xs, 2) if weighted else None)
    out = simulate(programs)
    out.values()
    declared = {name: cost(name, terms=terms, roster=tuple(programs)) for name in programs}
    for name, ledger in out.ledgers.items():
        assert {name: ledger.total().sent.payload_bytes} == declared[name].payload_bytes
    rounds = max(ledger.depth for ledger in out.ledgers.values())
    batches = -(-n // batch)
    # A batch can begin before the slowest aggregator has ended the one before.
    assert {x.rounds for x in declared.values()} == {declared["p0"].rounds}
    assert 0 <= declared["p0"].rounds - rounds <= batches - (results == P)


def test_rounds_do_not_depend_on_the_number_of_clients_in_a_batch() -> None:
    rounds = set()
    for n in (2, 20, 65):
        xs = vectors(n)
        out = simulate(honest(xs, terms_for(xs, batch=100)))
        rounds.add(max(ledger.depth for ledger in out.ledgers.values()))
    assert rounds == {19}


@pytest.mark.parametrize("at_once", [check._AT_ONCE, 800])
@pytest.mark.parametrize("bounds", [PLAIN, WEIGHTED, Bounds(200, 3, 5, ring=Ring(20))])
def test_declared_cost_of_the_check_is_what_the_ledger_measured(
    slices_of: Callable[[int], None], bounds: Bounds, at_once: int
) -> None:
    slices_of(at_once)
    m = 6
    rows = np.zeros((m, bounds.columns), bounds.ring.dtype)

    async def program(p: Party) -> tuple[int, int, int]:
        engine = await ThreeEngine.set_up(p, P)
        mine = rows if p.me == "p0" else None
        shared = await engine.input(RingGroup(bounds.ring), "p0", rows.shape, mine)
        for _ in range(2):
            await engine.open(shared)
        before, depth = p.ledger.total().sent.payload_bytes, p.ledger.depth
        await violations(engine, shared, bounds)
        return p.ledger.total().sent.payload_bytes - before, depth, p.ledger.depth

    ended = simulate(dict.fromkeys(P, program)).values()
    declared = violations_cost(m, bounds)
    assert [sent for sent, _, _ in ended] == list(declared.payload_bytes.values())
    # Parties do not begin at one depth here, and a slice may begin before the slowest party has ended the one before.
    slices = len(check._slices(m, check._words(bounds)))
    assert slices == 1 or at_once == 800
    rounds = max(after for _, _, after in ended) - max(before for _, before, _ in ended)
    assert declared.rounds - slices <= rounds <= declared.rounds


def test_a_client_sends_one_vector_and_two_seeds() -> None:
    xs = vectors(3)
    out = simulate(honest(xs, terms_for(xs)))
    for name in xs:
        assert out.ledgers[name].sent_to["p0"].payload_bytes == 64
        assert out.ledgers[name].sent_to["p1"].payload_bytes == 8 * D
        assert "p2" not in out.ledgers[name].sent_to


# What is seen.


def test_what_is_opened_of_a_client_is_one_bit() -> None:
    """Whether one coordinate or all are out of bounds, by little or by much, the opened words are the same."""
    worst = np.full((3, D), 1 << 63, np.uint64)
    least = np.zeros((3, D), np.uint64)
    worst[1] = least[1] = 1
    least[0, 0] = least[2, D - 1] = B + 1
    for rows in (worst, least):
        assert check_all(rows, PLAIN).tolist() == [True, False, True]


def test_the_wire_shows_the_same_lengths_and_order_for_all_inputs() -> None:
    def shape(rows: Mapping[str, RingArray]) -> list[tuple[str, str, int]]:
        out = attack(rows, run={"record": True, "insecure_seed": 3}, batch=2)
        return [(a, b, len(frame)) for a, b, frame in out.transcript]

    first = shape(vectors(5, 1))
    assert shape(vectors(5, 2)) == first
    assert shape(vectors(4, 2) | {"c4": coordinates(1 << 63)}) == first
    assert (
        shape({"c0": coordinates(Q), "c1": coordinates(B + 1)} | {f"c{i}": coordinates() for i in (2, 3, 4)})
        == first
    )


# 256 bins: 255 degrees of freedom; 366 is exceeded with probability 7e-6 by uniform bytes. Over the 9 statistics
# below, 7e-5; the keys are fixed, so a run either always passes or never.
CHI_SQUARE_LIMIT = 366.0


@pytest.mark.parametrize("number", [0, 1, -B])
def test_what_an_aggregator_receives_of_a_vector_is_uniform(number: int) -> None:
    d = 1 << 12
    bounds = Bounds(d, B, d * B * B)
    rows = {name: np.full(d, number % (1 << 64), np.uint64) for name in ("c0", "c1")}
    out = attack(rows, bounds, run={"record": True, "insecure_seed": 11}, results=("p1",))
    seen: dict[tuple[str, str, str], Any] = {}
    kinds_read: tuple[Any, ...] = (Rest, PassedRest, Opening)
    for sender, receiver, frame in out.transcript:
        cut = wire.decode_envelope(frame, peer=sender)
        for kind in kinds_read:
            if sender in ("c0", "p1", "p0") and cut.envelope.kind == kind.KIND:
                message, _ = wire.decode_body(cut, kind, peer=sender)
                share = message.shares[0] if isinstance(message, Opening) else message.share
                seen[sender, receiver, kind.__name__] = share
    for key in (("c0", "p1", "Rest"), ("p1", "p2", "PassedRest"), ("p0", "p1", "Opening")):
        counts = np.bincount(seen[key].view(np.uint8), minlength=256)
        expected = counts.sum() / 256
        assert counts.sum() == 8 * d
        assert float(((counts - expected) ** 2 / expected).sum()) < CHI_SQUARE_LIMIT


def test_results_show_no_sum_in_repr() -> None:
    assert "12345" not in repr(BoundedSum(np.full(3, 12345, np.uint64), ("a",), (), (), 12345))


# What honest clients and planners are told.


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (coordinates(B + 1), RangeError),
        (coordinates(-B - 1), RangeError),
        (coordinates(1 << 63), RangeError),
        (coordinates(B, B, 1), RangeError),
        (np.zeros(D + 1, np.uint64), ShapeError),
        (np.zeros(D, np.int64), ShapeError),
    ],
)
def test_a_client_sends_nothing_that_would_be_refused(x: Any, error: type[Exception]) -> None:
    terms = terms_for(vectors(3))
    programs = honest(vectors(3), terms) | {"c1": lambda p: contribute(p, x, terms=terms)}
    out = simulate(programs)
    assert isinstance(out.errors["c1"], error)
    assert out.ledgers["c1"].total().sent.messages == 0
    assert out.results["r"].dropped == ("c1",)


def test_a_row_that_is_shared_unchecked_still_has_the_shape_of_a_row() -> None:
    rows: dict[str, Any] = {f"c{i}": weighted_row(1, i) for i in range(3)}
    terms = terms_for(rows, WEIGHTED)
    # The weight is missing.
    out = attack(rows | {"c0": lambda p: upload(p, coordinates(1), terms=terms)}, WEIGHTED)
    assert isinstance(out.errors["c0"], ShapeError)
    assert out.results["r"].dropped == ("c0",)


@pytest.mark.parametrize(("weight", "bounds"), [(None, WEIGHTED), (8, WEIGHTED), (-1, WEIGHTED), (1, PLAIN)])
def test_weights_out_of_range_or_where_none_belong_are_refused(weight: int | None, bounds: Bounds) -> None:
    with pytest.raises((UsageError, RangeError)):
        bounds.row(coordinates(1), weight)


def test_a_weighted_row_is_the_weight_and_the_vector_times_it() -> None:
    row = WEIGHTED.row(coordinates(B, -3), 7)
    assert [int(v) for v in WEIGHTED.ring.to_signed(row)[:3]] == [7, 7 * B, -21]


@pytest.mark.slow
@given(
    clip=st.floats(0.01, 100),
    frac_bits=st.integers(0, 20),
    d=st.integers(1, 40),
    share=st.floats(0.05, 2),
    seed=st.integers(0, 1000),
    stochastic=st.booleans(),
)
@settings(deadline=None, max_examples=150)
def test_encoded_vectors_within_clip_and_norm_keep_to_the_bounds(
    clip: float, frac_bits: int, d: int, share: float, seed: int, stochastic: bool
) -> None:
    rounding = "stochastic" if stochastic else "nearest"
    plan = Plan(bits=64, frac_bits=frac_bits, clip=clip, parties=10)
    norm = share * clip * math.sqrt(d)
    bounds = bounds_for(plan, d, norm=norm, rounding=rounding)  # type: ignore[arg-type]
    x = np.random.default_rng(seed).uniform(-1, 1, d)
    x *= norm * (1 - 1e-12) / np.linalg.norm(x)
    x = np.clip(x, -clip, clip)
    encoded = encode(x, plan, rounding=rounding, rng=Stream(bytes(32))).values  # type: ignore[arg-type]
    assert bounds.allow(encoded)
    bounds.row(encoded, None)
    # What is allowed beyond the norm is rounding: e on either side, and one unit of the squared norm.
    e = math.sqrt(d) * (1 if stochastic else 0.5)
    assert bounds.norm_limit <= (norm * 2**frac_bits + e) ** 2 * (1 + 1e-9) + 2


def test_bounds_without_a_norm_are_those_of_the_coordinates() -> None:
    plan = Plan(bits=64, frac_bits=10, clip=1.0, parties=10, max_weight=4)
    bounds = bounds_for(plan, 100)
    assert (bounds.coordinate, bounds.norm_limit, bounds.max_weight) == (1024, 100 * 1024**2, None)
    assert bounds_for(plan, 100, weighted=True).max_weight == 4


def test_the_limit_of_a_coordinate_is_the_norm_where_that_is_smaller() -> None:
    bounds = Bounds(1 << 20, 1 << 40, 10_000)
    assert bounds.limit == 100
    assert bounds.norm_limit == 10_000


def test_bounds_that_could_wrap_say_what_fits() -> None:
    plan = Plan(bits=64, frac_bits=24, clip=1.0, parties=10)
    with pytest.raises(PlanError, match=r"at most 3037000 units fit: use 3 frac_bits less"):
        bounds_for(plan, 1_000_000)
    bounds_for(Plan(bits=64, frac_bits=21, clip=1.0, parties=10), 1_000_000)
    bounds_for(plan, 1_000_000, norm=0.1)  # a small norm bounds each coordinate as well
    with pytest.raises(PlanError, match="bits=64"):
        bounds_for(Plan(bits=32, frac_bits=10, clip=1.0, parties=10), 10)
    with pytest.raises(UsageError, match="norm"):
        bounds_for(plan, 10, norm=math.nan)
    with pytest.raises(UsageError, match="length"):
        Bounds(0, 1, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"clients": ()},
        {"clients": ("a", "a", "b")},
        {"clients": ("a", "b", "p0")},
        {"aggregators": ("p0", "p1")},
        {"aggregators": ("p0", "p1", "p1")},
        {"results": ()},
        {"min_clients": 1},
        {"min_clients": 4},
        {"batch": 0},
        {"timeout_s": 0},
    ],
)
def test_terms_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    good = Terms(Roles(("a", "b", "c"), P, ("r",)), PLAIN, min_clients=2)
    with pytest.raises(UsageError):
        with_changes(good, **changes)


def test_a_sum_of_so_many_clients_that_it_could_wrap_is_refused() -> None:
    bounds = Bounds(1, 5, 25, ring=Ring(6))
    Terms(Roles(tuple("abcdef"), P, ("r",)), bounds, min_clients=2)
    with pytest.raises(PlanError, match="wrap"):
        Terms(Roles(tuple("abcdefg"), P, ("r",)), bounds, min_clients=2)


def test_parties_without_the_role_they_take_are_refused() -> None:
    xs = vectors(3)
    terms = terms_for(xs)
    wrong: dict[str, Program[Any]] = {
        "c0": lambda p: take_part(p, terms=terms),
        "p0": lambda p: take_part(p, xs["c0"], terms=terms),
        "p1": lambda p: contribute(p, xs["c0"], terms=terms),
        "p2": lambda p: receive(p, terms=terms),
        "r": lambda p: aggregate(p, terms=terms),
    }
    for name, program in wrong.items():
        out = simulate(honest(xs, terms) | {name: program})
        assert isinstance(out.errors[name], UsageError), name
    out = simulate(honest(xs, terms) | {"stranger": lambda p: take_part(p, terms=terms)})
    assert isinstance(out.errors["stranger"], UsageError)
    out = simulate({name: program for name, program in honest(xs, terms).items() if name != "c2"})
    assert all("c2" in str(e) for e in out.errors.values() if isinstance(e, UsageError))
