"""Reductions of shared arrays along axes: sums and means, products, extremes and their places, any and all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from secagg.errors import ShapeError, UsageError
from secagg.mpc.arrays.arithmetic import divide_by_public, multiply, subtract
from secagg.mpc.arrays.comparison import less, where
from secagg.mpc.arrays.dtypes import BoolType, int64
from secagg.mpc.arrays.handle import H, as_numbers, check_axis
from secagg.mpc.arrays.kernels import ANY
from secagg.mpc.arrays.local import CUMULATIVE_SUM, SUM
from secagg.mpc.arrays.logic import invert
from secagg.mpc.arrays.moves import concat, index, moveaxis, reshape

Axis: TypeAlias = int | Sequence[int] | None


def _reduced_shape(shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    if keepdims:
        return tuple(1 if a in axes else n for a, n in enumerate(shape))
    return tuple(n for a, n in enumerate(shape) if a not in axes)


def sum(x: H, *, axis: Axis = None, keepdims: bool = False) -> H:  # noqa: A001  # numpy's name
    """Return the sum along axes, which wraps; bools are counted. Free for numbers."""
    x, axes = as_numbers(x), check_axis(axis, x.ndim)
    shape = _reduced_shape(x.shape, axes, keepdims)
    return x.derive(SUM, shape=shape, dtype=x.dtype, params=(axes, keepdims))


def cumulative_sum(x: H, *, axis: int | None = None) -> H:
    """Return the sums of all elements up to each along an axis, which an array of one dimension need not name. Free."""
    if axis is None and x.ndim != 1:
        raise ShapeError(f"expected an axis for the cumulative sum of an array of shape {x.shape}")
    x, (a,) = as_numbers(x), check_axis(0 if axis is None else axis, x.ndim)
    return x.derive(CUMULATIVE_SUM, shape=x.shape, dtype=x.dtype, params=(a,))


def mean(x: H, *, axis: Axis = None, keepdims: bool = False) -> H:
    """Return the mean along axes: fixed-point numbers, fixed(16) of integers and bools."""
    n = math.prod(x.shape[a] for a in check_axis(axis, x.ndim))
    if not n:
        raise ShapeError(f"an array of shape {x.shape} has no mean along axis {axis}")
    return divide_by_public(sum(x, axis=axis, keepdims=keepdims), n)


def var(x: H, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> H:
    """Return the variance along axes: the sum of squared distances from the mean, divided by n - correction."""
    n = math.prod(x.shape[a] for a in check_axis(axis, x.ndim))
    if not n > correction:
        raise ShapeError(f"expected more than {correction} elements for a variance, got {n}")
    distance = subtract(x, mean(x, axis=axis, keepdims=True))
    return divide_by_public(sum(multiply(distance, distance), axis=axis, keepdims=keepdims), n - correction)


# Trees: neighbours along an axis are joined in pairs, until one is left.


def _tree(x: H, axis: Axis, keepdims: bool, join: Callable[[H, H], H], what: str) -> H:
    rows, shape = _in_front(x, axis, keepdims, what)
    while (n := rows.shape[0]) > 1:
        pairs = n // 2
        joined = join(index(rows, slice(0, 2 * pairs, 2)), index(rows, slice(1, 2 * pairs, 2)))
        rows = concat([joined, index(rows, slice(n - 1, n))]) if n % 2 else joined
    return reshape(rows, shape)


def _in_front(x: H, axis: Axis, keepdims: bool, what: str) -> tuple[H, tuple[int, ...]]:
    """Return the array with the axes that are reduced as its first, and the shape of the result."""
    axes = check_axis(axis, x.ndim)
    shape = _reduced_shape(x.shape, axes, keepdims)
    for place, a in enumerate(sorted(axes)):
        x = moveaxis(x, a, place)
    n = math.prod(x.shape[: len(axes)])
    if not n:
        raise ShapeError(f"{what} of no elements is not defined: axis {axis} of an array with none")
    return reshape(x, (n, *x.shape[len(axes) :])), shape


def prod(x: H, *, axis: Axis = None, keepdims: bool = False) -> H:
    """Return the product along axes."""
    return _tree(as_numbers(x), axis, keepdims, multiply, "the product")


def max(x: H, *, axis: Axis = None, keepdims: bool = False) -> H:  # noqa: A001  # numpy's name
    """Return the largest element along axes."""
    return _tree(as_numbers(x), axis, keepdims, lambda a, b: where(less(a, b), b, a), "max")


def min(x: H, *, axis: Axis = None, keepdims: bool = False) -> H:  # noqa: A001  # numpy's name
    """Return the smallest element along axes."""
    return _tree(as_numbers(x), axis, keepdims, lambda a, b: where(less(b, a), b, a), "min")


def _place(x: H, axis: int | None, keepdims: bool, later: Callable[[H, H], H], what: str) -> H:
    rows, shape = _in_front(as_numbers(x), axis, keepdims, what)
    column = np.arange(rows.shape[0]).reshape(-1, *[1] * (rows.ndim - 1))
    places: H = x.engine.public(np.broadcast_to(column, rows.shape), dtype=int64)
    while (n := rows.shape[0]) > 1:
        pairs, first, second = n // 2, slice(0, n // 2 * 2, 2), slice(1, n // 2 * 2, 2)
        bit = later(index(rows, first), index(rows, second))  # of two that are equal the first stays
        left = index(rows, slice(2 * pairs, n)), index(places, slice(2 * pairs, n))
        rows, places = (where(bit, index(v, second), index(v, first)) for v in (rows, places))
        if n % 2:
            rows, places = concat([rows, left[0]]), concat([places, left[1]])
    return reshape(places, shape)


def argmax(x: H, *, axis: int | None = None, keepdims: bool = False) -> H:
    """Return the index of the first largest element along an axis; by default, in C order of all."""
    return _place(x, axis, keepdims, less, "argmax")


def argmin(x: H, *, axis: int | None = None, keepdims: bool = False) -> H:
    """Return the index of the first smallest element along an axis; by default, in C order of all."""
    return _place(x, axis, keepdims, lambda a, b: less(b, a), "argmin")


def any(x: H, *, axis: Axis = None, keepdims: bool = False) -> H:  # noqa: A001  # numpy's name
    """Return whether any bool along axes is set."""
    if not isinstance(x.dtype, BoolType):
        raise UsageError(f"any and all take bools, got {x!r}; compare it first, as in (x != 0).any()")
    rows, shape = _in_front(x, axis, keepdims, "any")
    found = rows.derive(ANY, shape=rows.shape[1:], dtype=x.dtype, params=(0,))
    return reshape(found, shape)


def all(x: H, *, axis: Axis = None, keepdims: bool = False) -> H:  # noqa: A001  # numpy's name
    """Return whether all bools along axes are set."""
    return invert(any(invert(x), axis=axis, keepdims=keepdims)) if isinstance(x.dtype, BoolType) else any(x)
