"""Quantiles and histograms of shared arrays are numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from clear import run_clear
from secagg.errors import RangeError, ShapeError, UsageError
from secagg.mpc.arrays.dtypes import fixed, int64
from secagg.mpc.arrays.engine import Engine

ULP = 2.0**-16
X = np.array([[3.5, -1.25, 7.0], [0.0, 2.5, 2.5], [9.75, -8.0, 1.0], [2.5, 4.0, 0.5]])

WIDEST = 18  # the distance of two elements at most


def opened(function, x):
    async def program(primitives):
        engine = Engine(primitives)
        dtype = fixed(16) if x.dtype.kind == "f" else int64
        shared = engine.share(x, owner="ada", shape=x.shape, dtype=dtype)
        return await function(shared).open()

    return run_clear(program)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_quantiles_and_medians_are_numpy_s(axis):
    q = [0, 0.1, 0.5, 0.93, 1]
    got = opened(lambda x: np.quantile(x, q, axis=axis), X)
    assert np.allclose(got, np.quantile(X, q, axis=axis), rtol=0, atol=2 * ULP + WIDEST * ULP / 2)
    got = opened(lambda x: np.median(x, axis=axis), X)
    assert np.allclose(got, np.median(X, axis=axis), rtol=0, atol=2 * ULP + WIDEST * ULP / 2)
    got = opened(lambda x: np.percentile(x, 25, axis=axis), X)
    assert np.allclose(got, np.percentile(X, 25, axis=axis), rtol=0, atol=2 * ULP + WIDEST * ULP / 2)


def test_one_element_is_all_its_quantiles():
    assert opened(lambda x: np.quantile(x, [0, 0.3]), np.array([4.5])).tolist() == [4.5, 4.5]


def test_histograms_are_numpy_s_also_of_numbers_on_edges_and_outside():
    edges = [-1.25, 0, 2.5, 3.5, 4.0]
    got = opened(lambda x: np.histogram(x, edges)[0], X)
    assert got.tolist() == np.histogram(X, edges)[0].tolist()
    whole = np.array([5, 1, 2, 2, 9, -3])
    assert opened(lambda x: np.histogram(x, [1, 2, 5])[0], whole).tolist() == [1, 3]


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda x: np.quantile(x, 1.5), RangeError, "from 0 to 1"),
        (lambda x: np.quantile(x, np.nan), RangeError, "from 0 to 1"),
        (lambda x: np.quantile(x[:0], 0.5), ShapeError, "no elements"),
        (lambda x: np.histogram(x, 10)[0], UsageError, "open x.min"),
        (lambda x: np.histogram(x, [2, 1])[0], UsageError, "rising edges"),
    ],
)
def test_what_is_no_quantile_and_no_histogram_is_refused(function, error, message):
    with pytest.raises(error, match=message):
        opened(function, X)
