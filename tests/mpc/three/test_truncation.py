"""Truncation: error, range, edges and refusals. What each party sees is in test_views.py."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg.errors import RemoteProtocolError, ShapeError, UsageError
from secagg.mpc.numbers import truncation_range
from secagg.mpc.three.engine import ThreeEngine
from secagg.mpc.three.truncation import TruncationInput, truncate
from secagg.network.simulated import simulate
from secagg.ring import Ring

R64 = Ring(64)
NAMES = ("ada", "bob", "cleo")


def additive(engine, values, ring, seed=3):
    """Return this party's share of a random additive sharing."""
    made_up = np.random.default_rng(seed)
    shape = np.shape(values)
    a, b = (
        (
            ring.reduce(
                made_up.integers(0, ring.modulus, shape, np.uint64, endpoint=False).astype(ring.dtype)
            )
            for _ in range(2)
        )
        if ring.bits < 64
        else (made_up.integers(0, 1 << 64, shape, np.uint64) for _ in range(2))
    )
    secret = np.asarray(values, np.int64).astype(ring.dtype)
    return (a, b, ring.reduce(np.asarray(secret - a - b)))[engine.channel.index].copy()


def truncated(run_three, values, frac_bits, ring=R64):
    async def program(engine):
        return await truncate(engine.channel, ring, additive(engine, values, ring), frac_bits)

    shares = run_three(program)
    for i in range(3):
        assert np.array_equal(shares[i][1], shares[(i + 1) % 3][0])
    return ring.to_signed(ring.reduce(np.asarray(shares[0][0] + shares[0][1] + shares[1][1])))


@pytest.mark.slow
def test_a_million_products_err_by_less_than_one_unit_and_not_at_all_on_average(run_three, share):
    n = 1_000_000
    made_up = np.random.default_rng(5)
    x, y = made_up.integers(-(1 << 31), 1 << 31, (2, n))  # numbers in [-2**15, 2**15) with 16 places
    products = x * y
    assert abs(products).max() < 1 << 62

    async def multiply(engine):
        z = await (share(engine, x, frac_bits=16) * share(engine, y, frac_bits=16, seed=1))
        return z.parts[0], z.parts[1]

    shares = run_three(multiply)
    got = (shares[0][0] + shares[0][1] + shares[1][1]).view(np.int64)
    error = (got << 16) - products  # in 2**-16 units of the last place
    assert abs(error).max() < 1 << 16
    # Each error has a standard deviation of at most 1/2 unit, their mean of 1/2000: 8 of these.
    assert abs(error.mean()) / (1 << 16) < 8 / 2000


@pytest.mark.parametrize("frac_bits", [1, 8, 12, 16, 24, 40, 62])
def test_ends_of_the_range_and_multiples(run_three, frac_bits):
    low, high = truncation_range(R64, frac_bits)
    unit = 1 << frac_bits
    edges = [
        low,
        low + 1,
        low + unit,
        -unit,
        -unit - 1,
        -unit + 1,
        -1,
        0,
        1,
        unit - 1,
        unit,
        unit + 1,
        high - 1,
        high,
    ]
    x = np.array([min(max(z, low), high) for z in edges] * 64)
    up = truncated(run_three, x, frac_bits) - (x >> frac_bits)
    assert set(up.tolist()) <= {0, 1}
    assert not up[x % unit == 0].any()


def test_the_range_ends_where_the_result_goes_wrong(run_three):
    ring = Ring(8)
    _, high = truncation_range(ring, 3)
    assert np.isin(truncated(run_three, np.full(9999, high), 3, ring) - (high >> 3), [0, 1]).all()
    # One beyond is wrong where A or B is zero: for 2 of 256 masks.
    assert not np.isin(truncated(run_three, np.full(9999, high + 1), 3, ring) - (high + 1 >> 3), [0, 1]).all()


@given(st.lists(st.integers(-(1 << 62), (1 << 62) - (1 << 20)), min_size=1, max_size=20), st.integers(1, 20))
@settings(max_examples=30, deadline=None)
@pytest.mark.slow
def test_is_the_floor_or_one_more(numbers, frac_bits):
    async def program(party):
        engine = await ThreeEngine.set_up(party, NAMES)
        return await truncate(engine.channel, R64, additive(engine, numbers, R64), frac_bits)

    shares = simulate(dict.fromkeys(NAMES, program)).values()
    got = (shares[0][0] + shares[0][1] + shares[1][1]).view(np.int64).tolist()
    for z, quotient in zip(numbers, got, strict=True):
        assert quotient - (z >> frac_bits) in ((0,) if z % (1 << frac_bits) == 0 else (0, 1))


@pytest.mark.parametrize(("bits", "frac_bits"), [(8, 3), (16, 8), (32, 10), (20, 5), (33, 17)])
def test_rings_of_other_widths(run_three, bits, frac_bits):
    ring = Ring(bits)
    low, high = truncation_range(ring, frac_bits)
    values = np.linspace(low, high, 333).astype(np.int64)
    up = truncated(run_three, values, frac_bits, ring) - (values >> frac_bits)
    assert set(up.tolist()) == {0, 1}


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0), (2, 3), (3 * (1 << 14) + 7,)])
def test_any_shape(run_three, shape):
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape) << 16
    assert np.array_equal(truncated(run_three, values, 16), values >> 16)


@pytest.mark.parametrize("frac_bits", [-1, 0, 63])
def test_impossible_frac_bits_are_refused(run_three, frac_bits):
    with pytest.raises(UsageError, match="1 to 62 bits"):
        truncated(run_three, np.zeros(3, np.int64), frac_bits)


def test_shares_of_another_dtype_are_refused(run_three):
    async def program(engine):
        return await truncate(engine.channel, R64, np.zeros(3, np.uint32), 16)

    with pytest.raises(ShapeError, match="uint64"):
        run_three(program)


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (TruncationInput(np.zeros(4, np.uint16), None), "masked summand"),
        (TruncationInput(np.zeros(4, np.uint16), np.zeros(5, np.uint64)), "shape"),
        (TruncationInput(np.zeros(4, np.uint32), np.zeros(4, np.uint64)), "dtype"),
    ],
)
def test_wrong_message_is_an_error_that_names_the_sender(message, complaint):
    async def honest(party):
        engine = await ThreeEngine.set_up(party, NAMES)
        return await truncate(engine.channel, R64, np.zeros(4, np.uint64), 16)

    async def wrong(party):
        engine = await ThreeEngine.set_up(party, NAMES)
        party.send(engine.channel.previous, message)

    outcome = simulate({"ada": honest, "bob": honest, "cleo": wrong})
    assert isinstance(outcome.errors["bob"], RemoteProtocolError)
    assert outcome.errors["bob"].peer == "cleo"
    assert complaint in str(outcome.errors["bob"])


@pytest.mark.parametrize("frac_bits", [1, 4, 16, 31])
def test_exact_truncation_is_the_floor(run_three, share, frac_bits):
    low, high = truncation_range(R64, frac_bits)
    made_up = np.random.default_rng(frac_bits)
    edges = [low, low + 1, -1, 0, 1, (1 << frac_bits) - 1, 1 << frac_bits, high]
    values = np.concatenate([edges, made_up.integers(low, high, 500)])

    async def program(engine):
        x = share(engine, values)
        return (await engine.shift(x, frac_bits)).parts

    shares = run_three(program)
    got = (shares[0][0] + shares[0][1] + shares[1][1]).view(np.int64)
    assert np.array_equal(got, values >> frac_bits)


def test_exact_truncation_on_a_small_ring(run_three, share):
    ring = Ring(12)
    low, high = truncation_range(ring, 5)
    values = np.arange(low, high + 1)

    async def program(engine):
        x = share(engine, values, ring=ring)
        return (await engine.shift(x, 5)).parts

    shares = run_three(program)
    got = ring.to_signed(ring.reduce(shares[0][0] + shares[0][1] + shares[1][1]))
    assert np.array_equal(got, values >> 5)
