"""Quantiles and histograms of shared arrays, without opening the data.

Who learns what: nobody anything; `ordering` says what a sort opens on its way. Cost: a quantile is a sort, a histogram one
comparison of each element with each edge, all in the rounds of one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from secagg.errors import RangeError, ShapeError, UsageError
from secagg.mpc.arrays.arithmetic import add, multiply, subtract
from secagg.mpc.arrays.comparison import greater, greater_equal
from secagg.mpc.arrays.handle import H, Public, as_numbers, as_reals, check_axis, public_values
from secagg.mpc.arrays.moves import concat, index, moveaxis, reshape, take
from secagg.mpc.arrays.ordering import sort
from secagg.mpc.arrays.reductions import sum as total


def quantile(x: H, q: Public, *, axis: int | None = None) -> H:
    """Return quantiles along an axis, by linear interpolation between neighbours in the order of the elements.

    Args:
      x: numbers; int64 and bools become fixed(16). Neighbours in order lie within 2**(61 - 2 f) of each other, for f
        fractional bits.
      q: public numbers from 0 to 1, a scalar or one dimension, which becomes the first of the result.

    The result is within 2 units in the last place, and 2**-(f + 1) of the distance of the two neighbours besides, for f
    fractional bits: the public weight is rounded.

    Raises:
      RangeError: a q outside 0..1.
      ShapeError: no elements, or q of several dimensions.
    """
    wanted = np.asarray(public_values(q), np.float64)
    if wanted.ndim > 1:
        raise ShapeError(f"expected q of at most one dimension, got {wanted.shape}")
    if not ((wanted >= 0) & (wanted <= 1)).all():
        raise RangeError(f"expected q from 0 to 1, got {q!r}")
    x = as_reals(x)
    if axis is None:
        x, axis = reshape(x, -1), 0
    (a,) = check_axis(axis, x.ndim)
    rows = moveaxis(x, a, 0)
    n = rows.shape[0]
    if not n:
        raise ShapeError(f"quantiles of no elements are not defined: axis {axis} of {x!r}")
    ordered = sort(rows, axis=0)
    place = wanted.reshape(-1) * (n - 1)
    before = np.minimum(np.floor(place).astype(np.int64), max(n - 2, 0))
    after = np.minimum(before + 1, n - 1)
    weight = (place - before).reshape(-1, *[1] * (rows.ndim - 1))
    below, above = take(ordered, before, axis=0), take(ordered, after, axis=0)
    result = add(below, multiply(subtract(above, below), weight)) if weight.any() else below
    return reshape(result, (*wanted.shape, *rows.shape[1:]))


def median(x: H, *, axis: int | None = None) -> H:
    """Return the median along an axis: the quantile of 1/2."""
    return quantile(x, 0.5, axis=axis)


def histogram(x: H, bins: Public) -> tuple[H, Any]:
    """Return how many elements lie in each bin as int64, and the bins' edges.

    Args:
      x: numbers of any shape.
      bins: public edges, rising. As numpy has it, a bin holds its lower edge, and the last one also its upper edge. A
        number of bins is refused, for the edges would depend on the least and the greatest element.

    Raises:
      UsageError: no rising sequence of edges.
    """
    edges = public_values(bins)
    if edges.ndim != 1 or edges.size < 2 or not (np.diff(edges) > 0).all():
        raise UsageError(
            f"expected public, rising edges of at least one bin, got {bins!r}; edges that depend on the data would tell "
            "of it: choose them from what is known, or open x.min() and x.max() first"
        )
    row = reshape(as_numbers(x), (1, -1))
    reached = total(greater_equal(row, edges[:-1, None]), axis=1)
    beyond = total(greater(row, edges[-1:, None]), axis=1)
    return subtract(reached, concat([index(reached, slice(1, None)), beyond])), edges


NAMES: Final[dict[str, Callable[..., Any]]] = {
    "histogram": histogram,
    "median": median,
    "percentile": lambda x, q, *, axis=None: quantile(x, np.asarray(q, np.float64) / 100, axis=axis),
    "quantile": quantile,
}
