"""Circuits on bits in slices, against integers. Their declared costs are held in test_costs.py."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg.errors import ShapeError, UsageError
from secagg.mpc.bits import (
    ONES,
    add,
    add_gates,
    all_planes,
    any_plane,
    at_least,
    conjunction,
    decide,
    decide_gates,
    disjunction,
    less_in_turn,
    less_in_turn_gates,
    less_than,
    less_than_gates,
    open_precedes,
    plane_order,
    precedes,
    precedes_gates,
)
from secagg.mpc.groups import XOR
from secagg.mpc.primitives import concatenate
from secagg.mpc.three.engine import ThreeEngine
from secagg.mpc.three.streams import Purpose
from secagg.network.simulated import simulate
from secagg.ring import from_planes, to_planes
from shared import opened

COMPUTING = ("ada", "bob", "cleo")
N = 640


def words(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 1 << 64, shape, np.uint64)


def numbers(bits, seed, n=N):
    return words(n, seed=seed) >> np.uint64(64 - bits)


def everybody_gets(results, expected):
    assert len(results) == 3
    for result in results:
        assert np.array_equal(result, expected)


def test_free_operations(run_three, share_bits):
    x, y = words(4, 10), words(4, 10, seed=1)

    async def program(engine):
        a, b = share_bits(engine, x), share_bits(engine, y, seed=7)
        c = a.copy()
        c ^= b
        results = [a ^ b, ~a, c, a[2], a[1:, ::2], concatenate([a, b]), engine.public(XOR, x) ^ b]
        return [await opened(result) for result in results]

    expected = [x ^ y, ~x, x ^ y, x[2], x[1:, ::2], np.concatenate([x, y]), x ^ y]
    for results in run_three(program):
        for got, want in zip(results, expected, strict=True):
            assert np.array_equal(got, want)


@pytest.mark.parametrize("count", [0, 1, 700, 1 << 15, (1 << 15) + 1])
def test_and_or_of_any_number_of_words(run_three, share_bits, count):
    x, y = words(3, count), words(3, count, seed=1)

    async def program(engine):
        a, b = share_bits(engine, x), share_bits(engine, y, seed=7)
        return (
            await opened(await conjunction(a, b)),
            await opened(await disjunction(a, b)),
            await opened(await conjunction(a[0], b[0])),
        )

    for both, either, one in run_three(program):
        assert np.array_equal(both, x & y)
        assert np.array_equal(either, x | y)
        assert np.array_equal(one, x[0] & y[0])


def test_a_batch_mixes_shapes_and_selects_by_one_bit(run_three, share_bits):
    x, y, z = words(5, 9), words(5, 9, seed=1), words(9, seed=2)

    async def program(engine):
        a, b, c = share_bits(engine, x), share_bits(engine, y, seed=7), share_bits(engine, z, seed=8)
        depth = engine.party.ledger.depth
        gained = await engine.conjunction([(a, b), (c, a), (c, c), (a[::2], b[1::2][[0, 1, 0]])])
        assert engine.party.ledger.depth == depth + 1
        return [await opened(part) for part in gained]

    for results in run_three(program):
        expected = [x & y, z & x, z, x[::2] & y[1::2][[0, 1, 0]]]
        for got, want in zip(results, expected, strict=True):
            assert np.array_equal(got, want)


def test_a_batch_of_shapes_that_do_not_fit_is_refused(run_three, share_bits):
    async def program(engine):
        a = share_bits(engine, words(5, 9))
        with pytest.raises(ShapeError, match="expected bits of shape"):
            await engine.conjunction([(a[:, :3], a)])

    run_three(program)


@pytest.mark.parametrize("planes", [1, 2, 3, 7, 64])
def test_any_and_all_planes(run_three, share_bits, planes):
    x = words(planes, 20)
    x[:, 0], x[:, 1] = ONES, 0

    async def program(engine):
        a = share_bits(engine, x)
        return await opened(await any_plane(a)), await opened(await all_planes(a)), await opened(a)

    for any_set, all_set, unchanged in run_three(program):
        assert np.array_equal(any_set, np.bitwise_or.reduce(x))
        assert np.array_equal(all_set, np.bitwise_and.reduce(x))
        assert np.array_equal(unchanged, x)


def measured(run_three, operation):
    """Return what an operation gives, with the ANDs a lane that it drew masks for and its rounds."""

    async def program(engine):
        drawn, depth = engine.channel.k_own[Purpose.AND].position, engine.party.ledger.depth
        result = await operation(engine)
        gates = (
            8 * (engine.channel.k_own[Purpose.AND].position - drawn) // N,
            engine.party.ledger.depth - depth,
        )
        return await opened(result), gates

    results = run_three(program)
    assert all(gates == results[0][1] for _, gates in results)
    everybody_gets([value for value, _ in results], results[0][0])
    return results[0]


@pytest.mark.parametrize("bits", [1, 2, 3, 7, 16, 48, 64])
@pytest.mark.parametrize("terms", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("shallow", [False, True])
def test_sums_and_their_gates(run_three, share_bits, bits, terms, shallow):
    values = [numbers(bits, seed) for seed in range(terms)]

    async def operation(engine):
        shared = [share_bits(engine, to_planes(v, bits), seed=i) for i, v in enumerate(values)]
        return await add(shared, shallow=shallow)

    planes, gates = measured(run_three, operation)
    assert np.array_equal(from_planes(planes, N), sum(values) & np.uint64((1 << bits) - 1))
    assert gates == add_gates(bits, terms, shallow=shallow)


def test_a_shallow_adder_takes_fewer_rounds_and_up_to_a_quarter_more_ands():
    for bits in range(2, 65):
        deep, shallow = add_gates(bits, 2), add_gates(bits, 2, shallow=True)
        assert shallow.rounds <= (bits - 2).bit_length() + 2
        assert shallow.rounds <= deep.rounds
        assert shallow.ands <= 1.26 * deep.ands


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 13, 20, 60, 64, 71, 72, 100])
def test_less_than_and_its_gates(run_three, share_bits, bits):
    """Numbers of more than 64 bits: the upper planes are equal, or decide."""
    x, y = numbers(min(bits, 64), 1), numbers(min(bits, 64), 2)
    y[:100] = x[:100]
    y[100:200] = x[100:200] ^ np.uint64(1)
    planes = np.zeros((2, bits, N // 64), np.uint64)
    planes[0, : min(bits, 64)], planes[1, : min(bits, 64)] = (
        to_planes(x, min(bits, 64)),
        to_planes(y, min(bits, 64)),
    )
    expected, distinct_numbers = y < x, y != x
    if bits > 64:
        planes[1, -1, -1] = ONES  # the last 64 numbers y have their top bit set
        expected[-64:], distinct_numbers[-64:] = False, True
    order = plane_order(bits)

    async def tree(engine):
        a, b = share_bits(engine, planes[0][order]), share_bits(engine, planes[1][order], seed=1)
        return await less_than(a ^ b, a)

    async def distinct(engine):
        a, b = share_bits(engine, planes[0][order]), share_bits(engine, planes[1][order], seed=1)
        before = a.copy()
        found = await precedes(a ^ b, a)
        assert all(np.array_equal(x, y) for x, y in zip(a.parts, before.parts, strict=True))
        return found

    async def in_turn(engine):
        a, b = share_bits(engine, planes[0]), share_bits(engine, planes[1], seed=1)
        return (await less_in_turn((a[j] ^ b[j], a[j]) for j in range(bits)))[0]

    for operation, declared in ((tree, less_than_gates), (in_turn, less_in_turn_gates)):
        got, gates = measured(run_three, operation)
        assert np.array_equal(from_planes(got[None], N), expected)
        assert gates == declared(bits)
    got, gates = measured(run_three, distinct)

    async def at_once(engine):
        a, b = share_bits(engine, planes[0][order]), share_bits(engine, planes[1][order], seed=1)
        return await open_precedes(a ^ b, a)

    if bits > 1:
        assert all(np.array_equal(found, got) for found in run_three(at_once))
    lowest = (x & np.uint64(1)).astype(bool)
    assert np.array_equal(from_planes(got[None], N), np.where(distinct_numbers, expected, lowest))
    assert gates == precedes_gates(bits)


def test_planes_are_paired_in_place():
    """The lowest bit is first, the highest one last; in each round the pairs are one half and the other."""
    for bits in range(1, 130):
        runs = [(b, b + 1) for b in plane_order(bits).tolist()]
        assert runs[0][0] == 0
        while len(runs) > 1:
            assert runs[-1][1] == bits
            half = len(runs) // 2
            pairs = list(zip(runs[:half], runs[half : 2 * half], strict=True))
            assert all(below[1] == above[0] for below, above in pairs)
            runs = [(below[0], above[1]) for below, above in pairs] + runs[2 * half :]
        assert runs == [(0, bits)]


@pytest.mark.parametrize("bits", [1, 2, 5, 33, 64])
def test_at_least_a_public_threshold(run_three, share_bits, bits):
    x = numbers(bits, 3)
    for threshold in {0, 1, int(x[0]), int(x[1]), (1 << bits) - 1}:

        async def program(engine, threshold=threshold):
            return await opened(await at_least(share_bits(engine, to_planes(x, bits)), threshold))

        for got in run_three(program):
            assert np.array_equal(from_planes(got[None], N), x >= np.uint64(threshold))


def test_comparisons_of_unequal_lengths_in_turn_share_rounds(run_three, share_bits):
    x, y = numbers(9, 1), numbers(9, 2)
    y[::3] = x[::3]
    planes = [
        (to_planes(x, 9), to_planes(y, 9)),
        (to_planes(x & np.uint64(7), 3), to_planes(y & np.uint64(7), 3)),
    ]

    async def operation(engine):
        bits = [
            [
                (share_bits(engine, a ^ b, seed=i), share_bits(engine, b, seed=9 + i))
                for a, b in zip(*pair, strict=True)
            ]
            for i, pair in enumerate(planes)
        ]
        return concatenate([found.reshape(1, -1) for found in await less_in_turn(*map(iter, bits))])

    got, gates = measured(run_three, operation)
    assert np.array_equal(from_planes(got[:1], N), x < y)
    assert np.array_equal(from_planes(got[1:], N), x & np.uint64(7) < y & np.uint64(7))
    assert gates == less_in_turn_gates(9).beside(less_in_turn_gates(3))


@pytest.mark.parametrize("threshold", [-1, 8])
def test_threshold_that_does_not_fit_is_refused(run_three, share_bits, threshold):
    with pytest.raises(ShapeError, match="threshold"):
        run_three(lambda engine: at_least(share_bits(engine, words(3, 5)), threshold))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=23))
@settings(max_examples=30, deadline=None)
@pytest.mark.slow
def test_highest_digit_that_differs_decides(digits):
    """less is 0 where digits do not differ, as the callers promise."""
    less = np.array([[ONES if a and d else 0] for a, d in digits], np.uint64)
    differ = np.array([[ONES if d else 0] for _, d in digits], np.uint64)
    expected = next((bool(a) for a, d in reversed(digits[1:]) if d), bool(less[0, 0]))

    async def program(party):
        engine = await ThreeEngine.set_up(party, COMPUTING)
        drawn = engine.channel.k_own[Purpose.AND].position
        bit = await decide(engine.public(XOR, less), engine.public(XOR, differ[1:]))
        assert (engine.channel.k_own[Purpose.AND].position - drawn) // 8 == decide_gates(len(digits)).ands
        return await opened(bit)

    for got in simulate(dict.fromkeys(COMPUTING, program)).values():
        assert got.tolist() == [int(ONES) if expected else 0]


def test_input_of_bits_by_each_party(run_three):
    x = words(2, 30)

    async def program(engine):
        shares = [
            await engine.input(XOR, name, x.shape, x if engine.party.me == name else None)
            for name in COMPUTING
        ]
        return [await opened(share) for share in shares]

    for results in run_three(program):
        for got in results:
            assert np.array_equal(got, x)


def test_bits_do_not_turn_into_plain_values(run_three, share_bits):
    async def program(engine):
        x = share_bits(engine, words(1))
        assert repr(x) == "<Shares (1,)>"
        for convert in (bool, int, list, np.asarray):
            with pytest.raises(UsageError, match="open it"):
                convert(x)

    run_three(program)
