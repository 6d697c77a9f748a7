"""Sorting and searching shared arrays gives what numpy gives, along any axis and for every dtype."""

from __future__ import annotations

import numpy as np
import pytest

from clear import run_clear
from secagg.errors import ShapeError, UsageError
from secagg.mpc.arrays import ordering
from secagg.mpc.arrays.dtypes import fixed, int8, int64
from secagg.mpc.arrays.engine import Engine
from secagg.network.simulated import simulate

WHOLE = np.array([[3, -5, 3, -(2**63), 2**63 - 1], [0, 3, -5, 0, 7]])
REAL = np.array([0.5, -1.25, 0.5, 300.0, -0.75])
BITS = np.array([True, False, True, True, False])


def opened(program):
    """Return what the arrays of `program(whole, real, bits)` open to."""

    async def start(primitives):
        engine = Engine(primitives)
        kinds = ((WHOLE, int64), (REAL, fixed(16)), (BITS, bool))
        shared = [engine.share(v, owner="ada", shape=v.shape, dtype=dtype) for v, dtype in kinds]
        return await engine.open(*program(*shared))

    return run_clear(start)


def test_arrays_are_sorted_along_axes_as_numpy_does():
    got = opened(
        lambda w, r, b: [
            np.sort(w),
            np.sort(w, 0),
            np.sort(w, axis=None),
            np.argsort(w),
            np.argsort(r),
            ordering.sort(r, descending=True),
            ordering.argsort(w, axis=0, descending=True),
            np.sort(b),
            np.argsort(b, stable=True),
            np.sort(w[:, :0]),
            np.lexsort((r, b)),
        ]
    )
    expected = [
        np.sort(WHOLE),
        np.sort(WHOLE, 0),
        np.sort(WHOLE, axis=None),
        np.argsort(WHOLE, stable=True),
        np.argsort(REAL, stable=True),
        np.sort(REAL)[::-1],
        np.array([[0, 1, 0, 1, 0], [1, 0, 1, 0, 1]]),
        np.sort(BITS),
        np.argsort(BITS, stable=True),
        np.zeros((2, 0)),
        np.lexsort((REAL, BITS)),
    ]
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert np.array_equal(a, b), i
        assert a.dtype.kind == b.dtype.kind or not b.size, i


def test_rows_follow_a_sort_or_a_secret_order():
    def program(w, r, b):
        moved = ordering.sort_by([b, r], [r, b, w[0]], descending=[True, False])
        order = ordering.argsort(r)
        return [
            *moved,
            ordering.reorder(w.T, order),
            ordering.reorder(b, order),
            ordering.inverse_permutation(order),
        ]

    *moved, rows, bits, inverse = opened(program)
    order = np.lexsort((REAL, ~BITS))
    for got, column in zip(moved, (REAL, BITS, WHOLE[0]), strict=True):
        assert np.array_equal(got, column[order])
    order = np.argsort(REAL, stable=True)
    assert np.array_equal(rows, WHOLE.T[order])
    assert np.array_equal(bits, BITS[order])
    assert np.array_equal(inverse, np.argsort(order))


@pytest.mark.parametrize("largest", [True, False])
def test_the_first_elements_come_with_their_places(largest):
    values, places = opened(lambda w, r, b: ordering.top_k(r, 3, largest=largest))
    order = np.argsort(-REAL if largest else REAL, stable=True)[:3]
    assert np.array_equal(places, order)
    assert np.array_equal(values, REAL[order])


def test_places_in_a_sorted_array_and_distinct_values_are_found():
    wanted = np.array([[0, 3], [-6, 8]])

    def program(w, r, b):
        row = np.sort(w[1])
        searched = [np.searchsorted(row, wanted, side=side) for side in ("left", "right")]
        mirrored = [np.searchsorted(np.sort(WHOLE[1]), w[0]), np.searchsorted(np.sort(r), r, side="right")]
        return [*searched, *mirrored, *ordering.unique_counts(w), *ordering.unique_counts(b)]

    left, right, public, own, *counted = opened(program)
    row = np.sort(WHOLE[1])
    assert np.array_equal(left, np.searchsorted(row, wanted))
    assert np.array_equal(right, np.searchsorted(row, wanted, side="right"))
    assert np.array_equal(public, np.searchsorted(row, WHOLE[0]))
    assert np.array_equal(own, np.searchsorted(np.sort(REAL), REAL, side="right"))
    for values, counts, of in ((*counted[:2], WHOLE), (*counted[2:], BITS)):
        expected, times = np.unique(of, return_counts=True)
        padding = [0] * (of.size - expected.size)
        assert values.tolist() == [*expected.tolist(), *padding]
        assert counts.tolist() == [*times.tolist(), *padding]


def test_arguments_that_fit_no_sort_are_refused():
    def program(w, r, b):
        for error, call in (
            (ShapeError, lambda: np.sort(r[0])),
            (ShapeError, lambda: np.sort(r, axis=1)),
            (ShapeError, lambda: ordering.sort_by([r], [w])),
            (UsageError, lambda: ordering.sort_by([], [r])),
            (UsageError, lambda: ordering.sort_by([REAL], [r])),
            (UsageError, lambda: ordering.sort_by([r], [r], descending=[True, False])),
            (UsageError, lambda: ordering.sort_by([r], [r], first=6)),
            (UsageError, lambda: ordering.top_k(r, -1)),
            (ShapeError, lambda: ordering.top_k(w, 1)),
            (ShapeError, lambda: ordering.reorder(r, r)),
            (ShapeError, lambda: ordering.reorder(r, r.astype(int8))),
            (ShapeError, lambda: ordering.reorder(w, np.argsort(r))),
            (ShapeError, lambda: ordering.searchsorted(w, r)),
            (UsageError, lambda: ordering.searchsorted(r, r, side="middle")),
        ):
            with pytest.raises(error):
                call()
        return [r]

    opened(program)


@pytest.mark.slow
@pytest.mark.parametrize("parties", [("ada", "bob", "cleo"), ("ada", "bob", "cleo", "dora")])
def test_engines_sort_numbers_and_bits_side_by_side(parties):
    async def program(party):
        engine = await Engine.create(party)
        w, r, b = (
            engine.share(v if party.me == "ada" else None, owner="ada", shape=v.shape, dtype=dtype)
            for v, dtype in ((WHOLE, int64), (REAL, fixed(16)), (WHOLE > 0, bool))
        )
        order = ordering.argsort(r)
        return await engine.open(
            ordering.sort(w), ordering.sort(b), ordering.reorder(b.T, order), ordering.top_k(r, 2)[0], w + w
        )

    rows, bits, moved, largest, twice = simulate(dict.fromkeys(parties, program)).values()[0]
    assert np.array_equal(rows, np.sort(WHOLE))
    assert np.array_equal(bits, np.sort(WHOLE > 0))
    assert np.array_equal(moved, (WHOLE > 0).T[np.argsort(REAL, stable=True)])
    assert np.array_equal(largest, np.sort(REAL)[:-3:-1])
    assert np.array_equal(twice, WHOLE + WHOLE)
