"""Quotients of shared counts, finer than `x / y` gives them.

The inverse of a count n is an integer y in units of 2**-44. A first y0 comes from `elementary`, right to some 2**-21 of
itself. One step of Newton's method follows: y = y0 + y0 (1 - n y0), where 1 - n y0 is exact.

  inverse(n)        0 <= n <= 2**19                    2**-42 (1 + 2**-8 / n); 0 for n = 0
  mean(s, n, 1/n)   |s| <= n, s of 30 fractional bits  2**-29

Who learns what: nobody anything, for these are programs on the engine.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from secagg.errors import UsageError
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import FixedType, int64
from secagg.mpc.arrays.elementary import inverse_in, read_as
from secagg.mpc.arrays.handle import as_numbers, broadcast_shape
from secagg.mpc.arrays.kernels import MULTIPLY, TRUNCATE

MOST: Final = 1 << 19  # persons of all parties together
INVERSE_BITS: Final = 44
FINEST: Final = FixedType(30)
_COARSER: Final = 14  # bits by which an inverse is shortened, so that its product with what it lacks fits


def most_persons(most: int) -> int:
    """Return a declared bound on the persons of all parties together.

    Raises:
      UsageError: it is no integer from 1 to 2**19.
    """
    if not isinstance(most, int) or isinstance(most, bool) or not 1 <= most <= MOST:
        raise UsageError(f"expected a bound of 1 to {MOST} persons of all parties together, got {most!r}")
    return most


def shortened(x: SharedArray, bits: int, dtype: FixedType | None = None) -> SharedArray:
    """Return integers divided by 2**bits, truncated once, as integers or read as a dtype."""
    if bits:
        x = x.derive(TRUNCATE, shape=x.shape, dtype=int64, params=(64, bits))
    return x if dtype is None else read_as(x, dtype)


def times(x: SharedArray, y: SharedArray, bits: int, dtype: FixedType | None = None) -> SharedArray:
    """Return the product of ring elements divided by 2**bits, truncated once, as integers or read as a dtype."""
    shape = broadcast_shape(x.shape, y.shape)
    raw = read_as(as_numbers(x), int64)
    return raw.derive(
        MULTIPLY, read_as(as_numbers(y), int64), shape=shape, dtype=dtype or int64, params=(64, bits)
    )


def inverse(n: SharedArray) -> SharedArray:
    """Return 1 / n of counts as integers in units of 2**-44."""
    # Read as numbers of one fractional bit, counts are half as large, and their inverses twice.
    first = inverse_in(read_as(n, FixedType(1)), INVERSE_BITS - 1)
    lacking = times(n, first, 0) * -1 + (n > 0) * np.int64(1 << INVERSE_BITS)
    return first + times(shortened(first, _COARSER), lacking, INVERSE_BITS - _COARSER)


def mean(total: SharedArray, n: SharedArray, inverse_n: SharedArray) -> SharedArray:
    """Return total / n in fixed(30), for totals in fixed(30) of numbers within 1 of zero; 0 where n = 0."""
    raw = read_as(total, int64)
    drop = 13  # leaves 17 fractional bits of a total, which is at most n, beside the 44 of 1 / n
    first = times(shortened(raw, drop), inverse_n, INVERSE_BITS - drop)
    lacking = raw - times(first, n, 0)
    return read_as(first + times(lacking, inverse_n, INVERSE_BITS), FINEST)
