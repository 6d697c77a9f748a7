"""Arithmetic of the three-party engine: every operation against numpy or Python integers, at the edges as well."""

from __future__ import annotations

import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eager import (
    from_bits,
    input_array,
    public_array,
)
from secagg.errors import RangeError, ShapeError, UsageError
from secagg.mpc.numbers import decode, encode_public
from secagg.mpc.three.engine import ThreeEngine
from secagg.network.simulated import simulate
from secagg.ring import Ring, from_planes, unpack
from shared import opened

COMPUTING = ("ada", "bob", "cleo")
EDGES = [
    0,
    1,
    -1,
    2,
    (1 << 63) - 1,
    -(1 << 63),
    (1 << 62),
    -(1 << 62),
    0x0123456789ABCDEF,
    -0x0123456789ABCDEF,
]
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


def wrapped(n):
    return (n + (1 << 63)) % (1 << 64) - (1 << 63)


def everybody_gets(results, expected):
    for result in results:
        assert result.shape == np.shape(expected)
        assert np.array_equal(result, expected)


def test_products_and_sums_at_the_edges_of_64_bits(run_three, share):
    x, y = (np.array(v) for v in zip(*[(a, b) for a in EDGES for b in EDGES], strict=True))

    async def program(engine):
        a, b = share(engine, x), share(engine, y, seed=1)
        return await opened(await (a * b)), await opened(a + b), await opened(a - b), await opened(-a)

    pairs = [(a, b) for a in EDGES for b in EDGES]
    for product, total, difference, negative in run_three(program):
        assert product.tolist() == [wrapped(a * b) for a, b in pairs]
        assert total.tolist() == [wrapped(a + b) for a, b in pairs]
        assert difference.tolist() == [wrapped(a - b) for a, b in pairs]
        assert negative.tolist() == [wrapped(-a) for a, _ in pairs]


@given(st.lists(st.tuples(INT64, INT64), min_size=1, max_size=10))
@settings(max_examples=25, deadline=None)
def test_products_equal_pythons(pairs):
    async def program(party):
        engine = await ThreeEngine.set_up(party, COMPUTING)
        mine = [[pair[i] for pair in pairs] if engine.channel.index == i else None for i in (0, 1)]
        x, y = [
            await input_array(
                engine, COMPUTING[i], (len(pairs),), None if mine[i] is None else np.array(mine[i])
            )
            for i in (0, 1)
        ]
        return await opened(await (x * y))

    for result in simulate(dict.fromkeys(COMPUTING, program)).values():
        assert result.tolist() == [wrapped(a * b) for a, b in pairs]


@pytest.mark.parametrize("bits", [3, 8, 20, 32, 64])
def test_operations_on_rings_of_any_width(run_three, share, bits):
    ring = Ring(bits)
    made_up = np.random.default_rng(bits)
    x, y = made_up.integers(-(1 << bits - 1), (1 << bits - 1) - 1, (2, 5, 6))

    async def program(engine):
        a, b = share(engine, x, ring=ring), share(engine, y, ring=ring, seed=1)
        results = [
            await (a * b),
            await (a @ b.T),
            a + b,
            a - b,
            3 * a - 1,
            1 - a,
            a.sum(),
            a.sum(axis=1),
            a.sum((0, 1)),
        ]
        for result in results:
            ring.check(result.parts[0])
        return [await opened(result) for result in results]

    wide_x, wide_y = x.astype(object), y.astype(object)
    expected = [
        wide_x * wide_y,
        wide_x @ wide_y.T,
        wide_x + wide_y,
        wide_x - wide_y,
        3 * wide_x - 1,
        1 - wide_x,
        wide_x.sum(),
        wide_x.sum(axis=1),
        wide_x.sum(),
    ]
    half = 1 << (bits - 1)
    for results in run_three(program):
        for got, want in zip(results, expected, strict=True):
            assert np.array_equal(got, (np.asarray(want, object) + half) % (1 << bits) - half)


def test_fixed_point_arithmetic(run_three, share):
    made_up = np.random.default_rng(2)
    x, y = made_up.normal(0, 100, (2, 1000))
    x, y = (np.rint(v * 65536) / 65536 for v in (x, y))
    factors = np.array([0.5, -1.25, 3.0, 0.001])

    async def program(engine):
        a = await input_array(engine, "ada", x.shape, x if engine.channel.index == 0 else None, frac_bits=16)
        b = await input_array(engine, "cleo", y.shape, y if engine.channel.index == 2 else None, frac_bits=16)
        assert repr(a) == "<SharedArray (1000,) of 64 bits, 16 frac_bits>"
        flags = await from_bits(await (a < b), a.shape)
        results = [
            await (a * b),
            a + b - 0.25,
            1.5 - a,
            2 * a,
            await (flags * a),  # an integer factor: nothing to truncate
            await a[:4].scale(factors),
            await (a >> 3),
            await (a.reshape(20, 50) @ b.reshape(50, 20)),
        ]
        assert all(result.frac_bits == 16 for result in results)
        return [await opened(result) for result in results]

    unit = 2.0**-16
    for product, total, difference, double, masked, scaled, shifted, matrix in run_three(program):
        assert abs(product - x * y).max() < unit
        assert np.array_equal(total, x + y - 0.25)
        assert np.array_equal(difference, 1.5 - x)
        assert np.array_equal(double, 2 * x)
        assert np.array_equal(masked, np.where(x < y, x, 0))
        assert abs(scaled - x[:4] * np.rint(factors * 65536) / 65536).max() < unit
        assert np.array_equal(shifted, np.floor(x * 65536 / 8) / 65536)
        assert abs(matrix - x.reshape(20, 50) @ y.reshape(50, 20)).max() < unit


def test_matmul_at_the_worst_case_is_exact(run_three, share):
    """All limbs at their extremes, shares and secrets alike."""
    k = 300
    x = np.full((40, k), -(1 << 63))
    y = np.full((k, 40), (1 << 63) - 1)
    x[1::2], y[:, 1::2] = (1 << 63) - 1, -1

    async def program(engine):
        return await opened(await (share(engine, x) @ share(engine, y, seed=1)))

    expected = [[wrapped(k * int(a) * int(b)) for b in y[0]] for a in x[:, 0]]
    everybody_gets(run_three(program), np.array(expected))


@pytest.mark.parametrize(
    ("a", "b"),
    [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 0), (0, 4)), ((0, 3), (3, 2)), ((70, 90), (90, 80))],
)
@pytest.mark.slow
def test_matmul_shapes_are_numpys(run_three, share, a, b):
    x, y = (np.arange(np.prod(s, dtype=int)).reshape(s) for s in (a, b))

    async def program(engine):
        z = await (share(engine, x) @ share(engine, y, seed=1))
        public = [await opened(share(engine, x) @ y), await opened(x @ share(engine, y))]
        return [await opened(z), *public]

    for results in run_three(program):
        everybody_gets(results, x @ y)


@pytest.mark.parametrize(
    "compare", [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
)
def test_comparisons_with_shared_and_public_numbers(run_three, share, compare):
    edges = np.array([0, 1, -1, 5, 1 << 61, -(1 << 61), (1 << 62) - 1, -(1 << 62)])
    x, y = np.repeat(edges, edges.size), np.tile(edges, edges.size)

    async def program(engine):
        a, b = share(engine, x), share(engine, y, seed=1)
        return [await opened(await compare(*operands)) for operands in ((a, b), (a, y), (x, b), (a, 5))]

    for results in run_three(program):
        for got, want in zip(results, [compare(x, y)] * 3 + [compare(x, 5)], strict=True):
            assert np.array_equal(unpack(got, x.size), want)


def test_products_of_transposed_arrays(run_three, share):
    x = np.arange(12).reshape(3, 4) << 16

    async def program(engine):
        a = share(engine, x, frac_bits=16)
        return (
            await opened(await (a.T * a.T)),
            await opened(await a.T.scale(0.5)),
            await opened(await (a[:, ::2] >> 16)),
        )

    for product, scaled, floor in run_three(program):
        assert np.array_equal(product, np.arange(12).reshape(3, 4).T ** 2)
        assert np.array_equal(scaled, np.arange(12).reshape(3, 4).T / 2)
        assert np.array_equal(floor * 65536, np.arange(12).reshape(3, 4)[:, ::2])


def test_bits_of_numbers(run_three, share):
    x = np.array([[0, 1, -1], [5, 1 << 62, -(1 << 63)]])

    async def program(engine):
        return await opened(await share(engine, x).bits())

    for planes in run_three(program):
        assert np.array_equal(from_planes(planes, 6).view(np.int64), x.reshape(-1))


def test_different_operations_run_together(share):
    x = np.arange(-50, 50)

    async def program(party):
        engine = await ThreeEngine.set_up(party, COMPUTING)
        a = share(engine, x, frac_bits=4)

        async def openings():
            return [await opened(a + i) for i in range(12)]

        async def products():
            y = a
            for _ in range(3):
                y = await (y * a)
            return y

        async def flags():
            return await from_bits(await (a < 0), a.shape)

        results = await party.parallel(flags(), openings(), products(), a == 0, a >> 1, a.bits())
        return [await opened(result) for result in (results[0], results[2], results[4])]

    for negative, power, half in simulate(dict.fromkeys(COMPUTING, program)).values():
        assert np.array_equal(negative, x < 0)
        assert abs(power - (x / 16) ** 4).max() < 3
        assert np.array_equal(half, (x >> 1) / 16)


@pytest.mark.parametrize(
    ("values", "frac_bits", "error"),
    [
        (1 << 64, 0, ShapeError),
        (np.array([1j]), 0, ShapeError),
        (0.5, 0, UsageError),
        (float(1 << 46), 16, None),
        (float(1 << 47), 16, RangeError),
        (float("nan"), 16, RangeError),
        (1, 62, None),
        (1, 70, RangeError),
    ],
)
def test_public_numbers_that_do_not_fit_are_refused(values, frac_bits, error):
    if error is None:
        assert decode(encode_public(values, Ring(64), frac_bits), Ring(64), frac_bits) == values
    else:
        with pytest.raises(error):
            encode_public(values, Ring(64), frac_bits)


def test_integers_that_do_not_fit_a_small_ring_are_refused():
    assert encode_public(np.array([-4, 7]), Ring(3), 0).tolist() == [4, 7]
    for number in (-5, 8):
        with pytest.raises(RangeError, match="3 bits"):
            encode_public(number, Ring(3), 0)


def test_public_numbers_are_shared_without_messages(run_three):
    async def program(engine):
        sent = engine.party.ledger.total().sent.messages
        x = public_array(engine, np.array([1.5, -2]), frac_bits=8)
        assert engine.party.ledger.total().sent.messages == sent
        return await opened(x)

    everybody_gets(run_three(program), np.array([1.5, -2]))
