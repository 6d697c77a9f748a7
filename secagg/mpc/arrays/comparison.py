"""Comparisons of shared arrays, which give bools; and selection, minimum and maximum by them.

Numbers compare right where the ring holds their difference as a signed number. Public real numbers are compared as they are,
without rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from secagg.errors import RangeError, UsageError
from secagg.mpc.arrays.arithmetic import add, is_negative, multiply, negative, selected, subtract
from secagg.mpc.arrays.dtypes import BoolType, FixedType, IntegerType
from secagg.mpc.arrays.handle import (
    H,
    Public,
    as_numbers,
    broadcast_shape,
    common,
    is_real,
    is_shared,
    number,
    public_values,
)
from secagg.mpc.arrays.local import ADD_PUBLIC
from secagg.mpc.arrays.logic import conjunction, exclusive_or, invert, zero
from secagg.mpc.groups import Array


def _bools(x: Any, y: Any) -> bool:
    other = y.dtype if is_shared(y) else public_values(y).dtype.kind
    return isinstance(x.dtype, BoolType) and (other == "b" or isinstance(other, BoolType))


def _minus(x: H, y: H | Public, rounding: np.ufunc) -> H:
    """Return x - y of which the sign is wanted; public real numbers are rounded to units in the last place."""
    if is_shared(y):
        return subtract(*common(x, y))
    values, x = public_values(y), as_numbers(x)
    dtype = number(x)
    limit = 2 ** (dtype.bits - 2)
    if is_real(values):
        units = rounding(np.ldexp(values.astype(np.float64), dtype.frac_bits))
        fits = bool((np.abs(units) <= limit).all())
    else:
        ends = (int(values.min()), int(values.max())) if values.size else (0, 0)
        fits = all(abs(end) << dtype.frac_bits <= limit for end in ends)
    if not fits:
        raise RangeError(
            f"expected numbers within {limit / 2**dtype.frac_bits:g} of zero to compare {x!r} with, as differences have "
            "to fit its ring, got others; integers of few bits become wider by x.astype(mpc.int64)"
        )
    if not is_real(values):
        return subtract(x, values)
    elements = dtype.ring.from_signed(np.asarray(-units).astype(np.int64))
    return x.derive(ADD_PUBLIC, shape=broadcast_shape(x.shape, values.shape), dtype=dtype, params=(elements,))


def less(x: H, y: H | Public) -> H:
    """Return x < y."""
    if _bools(x, y):
        return conjunction(invert(x), y)
    return is_negative(_minus(x, y, np.ceil))


def greater(x: H, y: H | Public) -> H:
    """Return x > y."""
    if _bools(x, y):
        return conjunction(x, invert(y) if is_shared(y) else ~public_values(y))
    return is_negative(negative(_minus(x, y, np.floor)))


def less_equal(x: H, y: H | Public) -> H:
    """Return x <= y."""
    return invert(greater(x, y))


def greater_equal(x: H, y: H | Public) -> H:
    """Return x >= y."""
    return invert(less(x, y))


def equal(x: H, y: H | Public) -> H:
    """Return x == y."""
    if _bools(x, y):
        return invert(exclusive_or(x, y))
    same = zero(_minus(x, y, np.rint))
    if is_shared(y) or not is_real(values := public_values(y)):
        return same
    units = np.ldexp(values.astype(np.float64), number(as_numbers(x)).frac_bits)
    whole = np.asarray(units == np.rint(units))
    return same if whole.all() else conjunction(same, whole)


def not_equal(x: H, y: H | Public) -> H:
    """Return x != y."""
    return invert(equal(x, y))


def public_like(model: H, values: Public) -> H:
    """Return public values as a shared array that goes with another one."""
    array = public_values(values)
    if isinstance(model.dtype, BoolType):
        return model.engine.public(array)
    reals = is_real(array)
    dtype = FixedType() if reals and isinstance(model.dtype, IntegerType) else model.dtype
    return model.engine.public(array.astype(np.int64) if array.dtype.kind == "b" else array, dtype=dtype)


def where(condition: H | Public, x: H | Public, y: H | Public) -> H:
    """Return x where the condition holds and y elsewhere: y + condition (x - y).

    Args:
      condition: bools, shared or public.
      x, y: shared or public; at least one of the three is shared.
    """
    if not is_shared(condition):
        return _where_public(public_values(condition), x, y)
    if not isinstance(condition.dtype, BoolType):
        raise UsageError(
            f"expected a condition of bools, got {condition!r}; compare it first, as in (x != 0)"
        )
    if not is_shared(x) and not is_shared(y):
        a, b = public_values(x), public_values(y)
        if a.dtype.kind == b.dtype.kind == "b":
            return exclusive_or(conjunction(condition, a ^ b), b)
        return add(multiply(condition, np.subtract(a, b, dtype=np.result_type(a, b, np.int8))), b)
    if not is_shared(x):
        x = public_like(y, x)
    if not is_shared(y):
        y = public_like(x, y)
    if isinstance(x.dtype, BoolType) and isinstance(y.dtype, BoolType):
        return exclusive_or(conjunction(condition, exclusive_or(x, y)), y)
    x, y = common(x, y)
    return add(selected(condition, subtract(x, y)), y)


def _where_public(condition: Array, x: Any, y: Any) -> Any:
    if condition.dtype.kind != "b":
        raise UsageError(f"expected a condition of bools, got {condition.dtype}")
    x = x if is_shared(x) else public_like(y, x)
    y = y if is_shared(y) else public_like(x, y)
    if isinstance(x.dtype, BoolType) and isinstance(y.dtype, BoolType):
        return exclusive_or(conjunction(exclusive_or(x, y), condition), y)
    x, y = common(x, y)
    return add(multiply(subtract(x, y), condition.astype(np.int64)), y)


def minimum(x: H, y: H | Public) -> H:
    """Return the smaller of x and y."""
    y = y if is_shared(y) else public_like(x, y)
    return where(less(y, x), y, x)


def maximum(x: H, y: H | Public) -> H:
    """Return the larger of x and y."""
    y = y if is_shared(y) else public_like(x, y)
    return where(less(x, y), y, x)
