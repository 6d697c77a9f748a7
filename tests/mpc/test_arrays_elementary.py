"""Elementary functions of shared numbers stay within the bounds that their module states, at the ends and in between."""

from __future__ import annotations

import tracemalloc

import mpmath
import numpy as np
import pytest

from clear import run_clear
from secagg.errors import UsageError
from secagg.mpc.arrays import digits, elementary, sigmoids
from secagg.mpc.arrays.dtypes import fixed, int16, int64
from secagg.mpc.arrays.engine import Engine
from secagg.mpc.clear import ClearEngine
from secagg.mpc.engines import set_up
from secagg.network.simulated import simulate

RELATIVE = 2.0**-21
COUNT = 200
THREE = ("ada", "bob", "cleo")


def opened(functions, *values, f, dtype=None):
    """Return what functions of shared arrays open to, in the clear and without a message."""

    async def program(primitives):
        engine = Engine(primitives)
        shared = [engine.share(v, owner="ada", shape=v.shape, dtype=dtype or fixed(f)) for v in values]
        return await engine.open(*(function(*shared) for function in functions))

    return run_clear(program)


def exact(function, *values):
    """Return a function's values at 40 decimal digits, as floats."""
    with mpmath.workdps(40):
        return np.array([float(function(*map(mpmath.mpf, row))) for row in zip(*values, strict=True)])


def positive(f, seed):
    """Return numbers of all sizes, the least and the greatest that the ring's range has among them."""
    made_up = np.random.default_rng(seed)
    units = np.floor(2.0 ** made_up.uniform(0, 61, COUNT))
    units[:4] = 1, 2, 2.0**f, 2.0**61 - 2**9  # the last float below 2**61
    return units * 2.0**-f


@pytest.mark.parametrize("f", [8, 16, 20])
def test_reciprocals_roots_and_logarithms_are_within_their_bounds(f):
    x, ulp = positive(f, 1), 2.0**-f
    names = ("reciprocal", "sqrt", "rsqrt", "log")
    got = dict(zip(names, opened([elementary.NAMES[n] for n in names], x, f=f), strict=True))
    for name, function in (
        ("reciprocal", lambda v: 1 / v),
        ("sqrt", mpmath.sqrt),
        ("rsqrt", lambda v: 1 / mpmath.sqrt(v)),
    ):
        true = exact(function, x)
        assert (np.abs(got[name] - true) <= ulp + RELATIVE * np.abs(true)).all(), name
    assert (np.abs(got["log"] - exact(mpmath.log, x)) <= 2 * ulp).all()


@pytest.mark.parametrize("f", [8, 16, 20])
def test_exponentials_are_within_their_bounds_over_the_range_in_which_they_do_not_saturate(f):
    ulp, made_up = 2.0**-f, np.random.default_rng(2)
    low, high = -(f + 1) * np.log(2), (61 - 2 * f) * np.log(2)
    x = np.round(made_up.uniform(low + ulp, high - ulp, COUNT) / ulp) * ulp
    x[:3] = 0, np.ceil(low / ulp) * ulp, np.floor(high / ulp) * ulp
    grow, logistic, tangent = opened([elementary.exp, elementary.sigmoid, elementary.tanh], x, f=f)
    true = exact(mpmath.exp, x)
    assert (np.abs(grow - true) <= ulp + 2.0**-19 * true).all()
    assert (np.abs(logistic - exact(lambda v: 1 / (1 + mpmath.exp(-v)), x)) <= 2 * ulp).all()
    assert (np.abs(tangent - exact(mpmath.tanh, x)) <= 4 * ulp).all()


@pytest.mark.parametrize("f", [8, 16, 20])
def test_quotients_are_within_their_bound(f):
    ulp, made_up = 2.0**-f, np.random.default_rng(3)
    y = made_up.choice([-1, 1], COUNT) * np.minimum(positive(f, 4), 2.0**20)
    x = np.round(y * made_up.uniform(-1, 1, COUNT) * 2.0 ** made_up.uniform(-4, 14, COUNT) / ulp) * ulp
    x = np.clip(x, -(2.0 ** (61 - f)) / 2, 2.0 ** (61 - f) / 2)
    (got,) = opened([lambda a, b: a / b], x, y, f=f)
    true = exact(lambda a, b: a / b, x, y)
    assert (np.abs(got - true) <= ulp * (1 + 2.0 ** (2 * f - 45) * np.abs(x)) + RELATIVE * np.abs(true)).all()


@pytest.mark.parametrize(
    ("where", "bound"),
    [(sigmoids.MIDDLE, 2.0**-19), (sigmoids.WIDE, 2.0**-22), (sigmoids.SIXTEENTHS, 2.0**-15.9)],
)
def test_a_polynomial_of_sigmoids_is_within_its_bound_up_to_its_end(where, bound):
    v = np.linspace(-1, 1, 4001)
    t = [np.cos(k * np.arccos(v)) for k in range(16 * where.groups)]
    table = sigmoids.coefficients(where)
    p = sum(t[16 * i] * sum(c * t[2 * j + 1] for j, c in enumerate(row)) for i, row in enumerate(table))
    assert np.abs(p + 0.5 - 1 / (1 + np.exp(-where.end * v))).max() < bound


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.0])
def test_a_sigmoid_of_sixteenths_is_within_its_bound_times_its_factor_and_beyond_its_end_exact(factor):
    x = np.concatenate([np.linspace(-9, 9, 300), [9.01, -9.01, 4000, -4000]]) / 16

    def function(v):
        return elementary.sigmoid_in(v, sigmoids.SIXTEENTHS, fixed(20), factor)

    (got,) = opened([function], x, f=26)
    assert np.abs(got[:300] - factor / (1 + np.exp(-16 * x[:300]))).max() < 2.0**-15.9 + 2.0**-19
    assert (got[300:] == np.array([1, 0, 1, 0]) * round(factor * 2**19) / 2**19).all()


def test_what_lies_outside_saturates_as_stated():
    x = np.array([0.0, -1.0, -1000.0, 1000.0])
    names = ("reciprocal", "sqrt", "rsqrt", "log", "exp", "sigmoid", "tanh")
    got = dict(zip(names, opened([elementary.NAMES[n] for n in names], x, f=16), strict=True))
    ulp = 2.0**-16
    assert got["reciprocal"][0] == 0
    assert np.abs(got["reciprocal"][1] + 1) <= 2 * ulp
    assert (got["sqrt"][:3] == 0).all()
    assert (got["rsqrt"][:3] == 0).all()
    assert np.allclose(got["log"][:3], -17 * np.log(2), rtol=0, atol=2 * ulp)
    assert (got["exp"][1:3] <= np.exp([-1, -1000]) + ulp).all()
    assert np.isclose(got["exp"][3], 2.0**29, rtol=2.0**-16)
    assert np.allclose(got["sigmoid"], [0.5, 1 / (1 + np.e), 0, 1], rtol=0, atol=2 * ulp)
    assert np.allclose(got["tanh"][2:], [-1, 1], rtol=0, atol=4 * ulp)
    (quotient,) = opened([lambda a: a / (a - a)], x, f=16)
    assert (quotient == 0).all()


def test_softmax_and_logsumexp_work_along_an_axis_whatever_the_size_of_the_numbers():
    x = np.array([[0.0, -1.0, -3.5, 2.0], [500.0, 500.0, 499.0, -2000.0]])
    soft, soft_0, both = opened(
        [
            elementary.softmax,
            lambda v: elementary.softmax(v, axis=0),
            lambda v: elementary.logsumexp(v, axis=1),
        ],
        x,
        f=16,
    )
    shifted = np.exp(x - x.max(1, keepdims=True))
    assert np.allclose(soft, shifted / shifted.sum(1, keepdims=True), rtol=0, atol=2.0**-13)
    assert np.allclose(soft_0[1, :3], 1, rtol=0, atol=2.0**-13)
    assert np.allclose(both, np.log(shifted.sum(1)) + x.max(1), rtol=0, atol=2.0**-13)


def test_numpy_s_names_and_operators_lead_here():
    x = np.array([[1.0, 4.0], [9.0, 0.25]])
    got = opened(
        [np.sqrt, np.exp, np.log, lambda v: 1 / v, lambda v: v / v.T, lambda v: v.std(axis=0)], x, f=16
    )
    wanted = (np.sqrt(x), np.exp(x), np.log(x), 1 / x, x / x.T, x.std(axis=0))
    for result, true in zip(got, wanted, strict=True):
        assert np.allclose(result, true, rtol=2.0**-19, atol=2.0**-13)
    (whole,) = opened([np.sqrt], np.array([4, 0, 9]), f=16, dtype=int64)
    assert np.allclose(whole, [2, 0, 3], rtol=0, atol=2.0**-15)


@pytest.mark.parametrize("dtype", [fixed(21), fixed(8, 32)], ids=str)
def test_a_dtype_for_which_no_bound_is_stated_is_refused(dtype):
    with pytest.raises(UsageError, match=r"take 64 bits with 1 to 20 fractional bits.*astype"):
        opened([elementary.exp], np.array([1.0]), f=16, dtype=dtype)


@pytest.mark.parametrize("f", [1, 8])
@pytest.mark.slow
def test_nothing_wraps_on_a_real_engine_at_the_ends_of_the_ranges(f):
    """The clear engine does not wrap in truncation, which other engines do, by chance."""
    x, ulp = positive(f, 5), 2.0**-f
    low, high = -(f + 1) * np.log(2), (61 - 2 * f) * np.log(2)
    y = np.round(np.linspace(low, high + 9, COUNT) / ulp) * ulp

    async def program(party):
        engine = Engine(await set_up(party, THREE))
        a, b = (
            engine.share(v if party.me == "ada" else None, owner="ada", shape=COUNT, dtype=fixed(f))
            for v in (x, y)
        )
        functions = elementary.reciprocal, elementary.sqrt, elementary.rsqrt, elementary.log
        return await engine.open(*(function(a) for function in functions), elementary.exp(b))

    inverse, root, inverse_root, logarithm, grown = simulate(dict.fromkeys(THREE, program)).values()[0]
    for got, true in ((inverse, 1 / x), (root, np.sqrt(x)), (inverse_root, 1 / np.sqrt(x))):
        assert (np.abs(got - true) <= ulp + RELATIVE * true).all()
    assert (np.abs(logarithm - np.log(x)) <= 2 * ulp).all()
    true = np.exp(np.minimum(y, np.floor(high / ulp) * ulp))
    assert (np.abs(grown - true) <= ulp + 2.0**-19 * true).all()


@pytest.mark.slow
@pytest.mark.parametrize("computing", [THREE, (*THREE, "dora")], ids=len)
def test_three_and_four_parties_compute_them_within_a_unit_more(computing):
    x = np.array([0.75, 3.0, 100.0])
    functions = [elementary.reciprocal, elementary.sqrt, elementary.log, elementary.sigmoid]

    async def program(party):
        engine = Engine(await set_up(party, computing))
        shared = engine.share(x if party.me == "ada" else None, owner="ada", shape=(3,), dtype=fixed(16))
        return await engine.open(*(function(shared) for function in functions))

    got = simulate(dict.fromkeys(computing, program), insecure_seed=1).values()[0]
    for result, true in zip(got, (1 / x, np.sqrt(x), np.log(x), 1 / (1 + np.exp(-x))), strict=True):
        assert np.allclose(result, true, rtol=RELATIVE, atol=3 * 2.0**-16)


def test_bits_become_integers_a_bounded_number_at_a_time(monkeypatch):
    counts, from_bits = [], ClearEngine.from_bits

    async def counted(engine, bits, group, n):
        counts.append(n)
        return await from_bits(engine, bits, group, n)

    monkeypatch.setattr(ClearEngine, "from_bits", counted)
    monkeypatch.setattr(digits, "_STRETCH", 512)
    x = np.arange(1, 131) / 16
    functions = [elementary.sqrt, elementary.log, elementary.exp]
    for got, function in zip(opened(functions, x, f=16), (np.sqrt, np.log, np.exp), strict=True):
        assert np.allclose(got, function(x), rtol=2.0**-18, atol=2.0**-14)
    whole = np.arange(-130, 130)
    (wide,) = opened([lambda v: v.astype(int64)], whole, f=0, dtype=int16)
    assert (wide == whole).all()
    assert max(counts) <= 512
    assert len(counts) > 20


@pytest.mark.parametrize("name", ["divide", "exp", "log", "sqrt", "sigmoid"])
def test_a_function_holds_a_bounded_number_of_words_for_each_element(name, monkeypatch):
    n = 1 << 14
    monkeypatch.setattr(digits, "_STRETCH", n)
    monkeypatch.setattr(sigmoids, "_STRETCH", n // 2)
    x = np.linspace(0.5, 4, n)

    async def program(primitives):
        engine = Engine(primitives)
        shared = [
            engine.share(x, owner="ada", shape=n, dtype=fixed(16)) for _ in range(1 + (name == "divide"))
        ]
        result = elementary.NAMES[name](*shared)
        tracemalloc.start()
        try:
            await engine.open(result)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert run_clear(program) / (8 * n) < 32
