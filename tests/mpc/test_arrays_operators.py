"""Operators and numpy's functions on shared arrays give what they give on plain ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, basic_indices

from clear import run_clear
from secagg.errors import RangeError, ShapeError, UsageError
from secagg.mpc.arrays.dtypes import fixed, int8, int32, int64
from secagg.mpc.arrays.engine import Engine, as_shape

ULP = 2.0**-16
INTEGERS = np.array([[3, -5, 7, 0], [7, 1, -2, -128]])
OTHERS = np.array([[2, -5, 1, 4], [-7, 1, 9, 127]])
REALS = np.array([[1.5, -2.25, 0.5, 0.0], [100.125, -0.75, 3.0, -3.0]])
BITS = INTEGERS > 0


def opened(expressions, *values, dtypes=()):
    """Return what expressions of shared arrays open to, all in one program."""

    async def program(primitives):
        engine = Engine(primitives)
        kinds = dtypes or [{"b": bool, "f": fixed(16)}.get(v.dtype.kind, int64) for v in values]
        shared = [
            engine.share(v, owner="ada", shape=v.shape, dtype=kind)
            for v, kind in zip(values, kinds, strict=True)
        ]
        return await engine.open(*(expression(*shared) for expression in expressions))

    return run_clear(program)


def agree(expressions, *values, ulps=0.0, dtypes=()):
    for number, (got, expression) in enumerate(
        zip(opened(expressions, *values, dtypes=dtypes), expressions, strict=True)
    ):
        expected = np.asarray(expression(*values))
        assert np.shape(got) == expected.shape, number
        assert (np.asarray(got).dtype == bool) == (expected.dtype == bool), number
        assert np.allclose(np.asarray(got, float), expected.astype(float), rtol=0, atol=ulps * ULP), (
            number,
            got,
        )


def test_integers_agree_with_numpy():
    agree(
        [
            lambda x, y: x + y,
            lambda x, y: 3 - x + np.int64(2) * y,
            lambda x, y: x - np.array([1, 2, 3, 4]),
            lambda x, y: np.array([[1], [2]]) * x,
            lambda x, y: x * y * x,
            lambda x, y: -x + (+y),
            lambda x, y: x // 4,
            lambda x, y: x % 8,
            lambda x, y: divmod(x, 2)[1],
            lambda x, y: x**3 + x**0,
            lambda x, y: x[0] ** 2,
            lambda x, y: abs(x),
            lambda x, y: np.sign(x),
            lambda x, y: x @ y.T,
            lambda x, y: x[0] @ y[1],
            lambda x, y: np.array([[1, 2]]) @ x,
            lambda x, y: x @ np.array([1, 0, 2, -1]),
            lambda x, y: np.tensordot(x, y, axes=([1], [1])),
            lambda x, y: np.tensordot(x, y.T, 1),
            lambda x, y: np.outer(x[0], y[1]),
            lambda x, y: np.matmul(np.stack([x, y]), np.stack([y.T, x.T])),
            lambda x, y: np.clip(x, -2, 4),
            lambda x, y: x.clip(max=3),
            lambda x, y: np.minimum(x, y) + np.maximum(3, y),
            lambda x, y: np.where(x > y, x, y),
            lambda x, y: np.where(x > 0, 1, -1),
            lambda x, y: np.where(BITS, x, 5),
            lambda x, y: (
                x.astype(np.int8).astype(np.int64)
                if isinstance(x, np.ndarray)
                else x.astype(int8).astype(int)
            ),
        ],
        INTEGERS,
        OTHERS,
    )


def test_comparisons_agree_with_numpy_and_keep_their_shape():
    agree(
        [
            lambda x, y: x < y,
            lambda x, y: x <= y,
            lambda x, y: x > y,
            lambda x, y: x >= y,
            lambda x, y: x == y,
            lambda x, y: x != y,
            lambda x, y: x < 3,
            lambda x, y: x <= 3,
            lambda x, y: np.array([3, 7, 7, -200]) == x,
            lambda x, y: np.greater(2, x),
            lambda x, y: x > 0.5,
            lambda x, y: x <= -1.5,
            lambda x, y: x == 0.5,
            lambda x, y: x < [[2.5], [1.0]],
            lambda x, y: np.equal(x[:, :1], y[0]),
        ],
        INTEGERS,
        OTHERS,
    )
    agree(
        [
            lambda x: x < 1.500001,
            lambda x: x > 1.49999,
            lambda x: x == -2.25,
            lambda x: x == 0.1,
            lambda x: x >= x[0],
        ],
        REALS,
    )


def test_bools_agree_with_numpy():
    agree(
        [
            lambda a, b: a & b,
            lambda a, b: a | b,
            lambda a, b: a ^ b,
            lambda a, b: ~a,
            lambda a, b: a & np.array([True, False, True, True]),
            lambda a, b: np.False_ | a,
            lambda a, b: np.logical_and(a[:, :1], b),
            lambda a, b: np.logical_not(a),
            lambda a, b: a == b,
            lambda a, b: a != b,
            lambda a, b: a < b,
            lambda a, b: a > b,
            lambda a, b: a * b,
            lambda a, b: a * 3 + 1,
            lambda a, b: a + np.arange(4),
            lambda a, b: a.sum(0),
            lambda a, b: np.sum(a),
            lambda a, b: a.any(1),
            lambda a, b: a.all(),
            lambda a, b: np.any(a, axis=0, keepdims=True),
            lambda a, b: np.where(a, b, ~b),
            lambda a, b: np.where(a, True, False),
            lambda a, b: a.astype(int) * 2,
            lambda a, b: a.T[1:, ::-1],
            lambda a, b: np.concatenate([a, b], axis=1),
        ],
        BITS,
        OTHERS > 0,
    )


@pytest.mark.parametrize("count", range(1, 8))
def test_any_and_all_find_the_one_element_that_decides(count):
    one = np.eye(count, dtype=bool)

    async def program(primitives):
        x = Engine(primitives).public(one)
        return await x.engine.open(x.any(axis=1), x.any(axis=0), (~x).all(axis=1))  # type: ignore[attr-defined]

    by_row, by_column, every = run_clear(program)
    assert by_row.all()
    assert by_column.all()
    assert not every.any()


@pytest.mark.parametrize("n", [1, 64, 70, 200])
def test_any_of_one_dimension_finds_one_element_and_reads_no_lane_behind_the_last(n):
    values = np.zeros((3, n), np.int64)
    values[1, n // 2] = values[2, -1] = 1

    async def program(primitives):
        engine = Engine(primitives)
        rows = [engine.share(row, owner="ada", shape=n) > 0 for row in values]
        return await engine.open(*(row.any() for row in rows))

    assert [bool(found) for found in run_clear(program)] == [False, True, True]


def test_real_numbers_agree_with_numpy_within_their_last_places():
    agree(
        [
            lambda x, i: x + i,
            lambda x, i: i - x,
            lambda x, i: x + 0.25,
            lambda x, i: x * i,
            lambda x, i: x / 4,
            lambda x, i: i / 4,
            lambda x, i: i * 0.5,
            lambda x, i: x * 3,
            lambda x, i: x // 2,
            lambda x, i: x % 2,
            lambda x, i: np.floor(x) + np.ceil(x) + np.trunc(x),
            lambda x, i: np.rint(x + 0.125),
            lambda x, i: abs(x) + np.sign(x),
            lambda x, i: (x > 0) * x,
            lambda x, i: np.where(x > 1, x, i),
            lambda x, i: np.where(i > 1, 0.5, x),
            lambda x, i: x.astype(int),
            lambda x, i: x.astype(bool),
            lambda x, i: i.mean(),
            lambda x, i: x.max(0) - np.min(x, axis=1).sum(),
        ],
        REALS,
        INTEGERS,
        ulps=1,
    )
    agree([lambda x: x * x, lambda x: x * -0.75, lambda x: x[:, :2] @ x[:, 2:]], REALS / 16, ulps=1.5)
    # A factor that is no short binary fraction keeps 17 significant bits.
    agree([lambda x: x / 3, lambda x: x * 1e-3, lambda x: x.mean(1), np.var], REALS / 16, ulps=8)
    agree([lambda x: x @ np.array([0.3, -1.7, 0.1, 2.0])], REALS, ulps=100)


def test_a_mean_fits_wherever_its_result_does():
    values = np.full(3000, 100_000.0)  # whose sum times a number of 17 bits does not fit the ring

    (mean,) = opened([lambda x: x.mean()], values)
    assert abs(mean - 100_000) < 100_000 * 2.0**-17 + 2 * ULP


def test_the_array_namespace_has_functions_and_dtypes():
    async def program(primitives):
        x = Engine(primitives).public([3, -1])
        xp = x.__array_namespace__()
        assert {"where", "abs", "concat", "int64", "bool"} <= set(dir(xp))
        assert not hasattr(xp, "fft")
        return await xp.astype(xp.abs(x), xp.bool).open()

    assert run_clear(program).tolist() == [True, True]


def test_rings_and_fractional_bits_convert():
    async def program(primitives):
        engine = Engine(primitives)
        x = engine.share(REALS, owner="ada", shape=REALS.shape, dtype=fixed(20))
        small = engine.share(INTEGERS, owner="ada", shape=INTEGERS.shape, dtype=int8)
        return await engine.open(
            x.astype(fixed(8)), x + x.astype(fixed(8)), small * 2, small.astype(int32) * 2, small.astype(int)
        )

    fewer, both, wrapped, wide, wider = run_clear(program)
    assert (fewer == REALS).all()
    assert (both == 2 * REALS).all()
    assert (wrapped == (INTEGERS.astype(np.int8) * np.int8(2))).all()
    assert (wide == INTEGERS * 2).all()
    assert (wider == INTEGERS).all()


def test_reductions_and_moves_agree_with_numpy():
    cube = np.arange(24).reshape(2, 3, 4) % 7 - 3
    agree(
        [
            lambda x: x.sum(),
            lambda x: x.sum((0, 2)),
            lambda x: np.sum(x, 1, keepdims=True),
            lambda x: x.prod(2),
            lambda x: np.max(x, axis=(0, 1)),
            lambda x: x.min(),
            lambda x: x.argmax(1),
            lambda x: np.argmin(x),
            lambda x: x.argmin(2, keepdims=True),
            lambda x: np.cumsum(x, 1),
            lambda x: np.cumsum(x[0, 0]),
            lambda x: x.reshape(4, -1),
            lambda x: np.reshape(x, (6, 4)),
            lambda x: np.transpose(x, (2, 0, 1)),
            lambda x: x.transpose(),
            lambda x: np.moveaxis(x, 0, 2),
            lambda x: x[1, ..., None, ::2],
            lambda x: x[:, np.array([2, 0, 2])],
            lambda x: x[np.array([0, 1]), np.array([2, 1])],
            lambda x: x[:, np.array([True, False, True])],
            lambda x: np.take(x, [3, 0], axis=2),
            lambda x: np.expand_dims(x, 1),
            lambda x: np.squeeze(x[:1]),
            lambda x: np.flip(x, axis=1),
            lambda x: np.roll(x, 2, axis=2),
            lambda x: np.roll(x, -5),
            lambda x: np.broadcast_to(x[0, 0], (3, 4)),
            lambda x: np.concatenate([x, x[:1]]),
            lambda x: np.concatenate((x, x), None),
            lambda x: np.stack([x, -x], axis=-1),
        ],
        cube,
    )
    agree([lambda x: x.mT, lambda x: x[0].T, lambda x: x.ravel()], cube)


@given(st.data())
@settings(max_examples=15, deadline=None)
@pytest.mark.slow
def test_any_index_and_any_broadcast_agree_with_numpy(data):
    shape = data.draw(array_shapes(max_dims=3, max_side=4))
    values = data.draw(arrays(np.int64, shape, elements=st.integers(-100, 100)))
    key = data.draw(basic_indices(shape, allow_newaxis=True))
    row = values.reshape(-1)[: shape[-1]]
    agree([lambda x: x[key], lambda x: x * row - x[..., :1], lambda x: (x > 3)[key]], values)


def test_what_does_not_fit_is_refused_where_it_is_written():
    async def program(primitives):
        engine = Engine(primitives)
        x = engine.public([[1, 2, 3]])
        bits, real = x > 2, engine.public([0.5])
        for error, text, use in [
            (ShapeError, "do not broadcast", lambda: x + np.zeros((2, 2), int)),
            (ShapeError, "matmul of shapes", lambda: x @ x),
            (ShapeError, "does not take the shape", lambda: x.reshape(2, 2)),
            (ShapeError, "no such part", lambda: x[4]),
            (ShapeError, "has no axis 2", lambda: x.sum(2)),
            (UsageError, "hold bools", lambda: bits + bits),
            (UsageError, "take bools", lambda: x & bits),
            (UsageError, "take bools", lambda: x.any()),
            (UsageError, "a public power of two", lambda: x // 3),
            (UsageError, "a public integer exponent", lambda: x**-1),
            (UsageError, "differ in width", lambda: x + x.astype(int32)),
            (UsageError, "one dtype", lambda: np.concatenate([x, bits])),
            (UsageError, "a condition of bools", lambda: np.where(x, x, x)),
            (RangeError, "division by zero", lambda: x / 0),
            (RangeError, "finite factors", lambda: real * np.inf),
            (RangeError, "to compare", lambda: real > 1e18),
            (RangeError, "does not fit int64", lambda: engine.public(np.array([2**63], np.uint64))),
            (RangeError, "does not fit", lambda: x * 2**63),
            (UsageError, "real numbers do not go into int64", lambda: engine.public([0.5], dtype=int)),
            (UsageError, "a dtype of shared arrays", lambda: x.astype(float)),
            (UsageError, "fractional bits", lambda: fixed(40)),
            (ShapeError, "bool for a shared array of bool", lambda: engine.public([1], dtype=bool)),
            (UsageError, "different engines", lambda: x + Engine(primitives).public([1])),
        ]:
            with pytest.raises(error, match=text):
                use()
        with pytest.raises(UsageError, match="None elsewhere"):
            engine.share(None, owner="ada", shape=3)
        with pytest.raises(ShapeError, match="was agreed on"):
            engine.share([1, 2], owner="ada", shape=3)
        with pytest.raises(UsageError, match="an owner among"):
            engine.share(None, owner="eve", shape=3)
        with pytest.raises(UsageError, match="parties of ada to open to"):
            await x.open(to="eve")

    run_clear(program)


def test_dot_and_vecdot_are_numpy_s_for_any_number_of_dimensions():
    x, y = np.arange(12).reshape(2, 3, 2), np.arange(8).reshape(2, 2, 2)
    agree([lambda a, b: np.dot(a, b), lambda a, _: np.dot(a, 3)], x, y)
    a, b = np.arange(9).reshape(3, 3), np.arange(9)[::-1].reshape(3, 3)
    agree([lambda a, b: np.vecdot(a, b), lambda a, b: np.dot(a, b), lambda a, b: np.dot(a[0], b[1])], a, b)


@pytest.mark.parametrize("name", ["solve", "inv"])
def test_numpy_s_names_for_systems_of_any_matrix_are_refused(name):
    with pytest.raises(UsageError, match=f"mpc.linalg.{name} takes symmetric positive"):
        opened([lambda a: getattr(np.linalg, name)(*[a] * (2 if name == "solve" else 1))], np.eye(2))


def test_public_integers_whose_difference_does_not_fit_are_refused_in_comparisons():
    async def program(primitives):
        engine = Engine(primitives)
        x, narrow, real = (engine.public([-5], dtype=d) for d in (int, int8, fixed(16)))
        for compare in (
            lambda: x <= 2**63 - 1,
            lambda: x == -(2**63),
            lambda: narrow > 100,
            lambda: real < 2**47,
        ):
            with pytest.raises(RangeError, match="differences have to fit"):
                compare()
        return await engine.open(x <= 2**62, narrow > -64, real < 2**46)

    assert run_clear(program) == [[True], [True], [True]]


def test_numpy_s_functions_take_an_axis_by_place_and_say_shapes():
    x = np.array([[3, 1, 2], [9, 7, 8]])
    agree(
        [
            lambda x: np.median(x, 0),
            lambda x: np.quantile(x, 0.5, 1),
            lambda x: np.searchsorted(x[0], x[1] - 6, "right") if np.ndim(x) == 2 else 0,
            np.square,
            np.ravel,
        ],
        np.sort(x),
    )

    async def program(primitives):
        shared = Engine(primitives).public(x)
        assert (np.shape(shared), np.ndim(shared), np.size(shared), np.size(shared, 1)) == ((2, 3), 2, 6, 3)

    run_clear(program)
    assert as_shape(np.int64(3)) == as_shape([np.int8(3)]) == (3,)
