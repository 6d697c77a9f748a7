"""Numbers to dtypes without wrapping or overflow, and to a few digits in one direction."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LARGEST_BFLOAT16: Final = float.fromhex("0x1.FEp127")
_DIGITS: Final = 3


def to_integers(values: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the nearest integers of a dtype; what lies beyond them does not wrap."""
    info = np.iinfo(dtype)
    highest = float(info.max)
    if int(highest) > info.max:  # float64 has no room for it: the next number down
        highest = math.nextafter(highest, 0.0)
    return np.asarray(np.clip(np.rint(values), float(info.min), highest), dtype)


def to_floats(values: NDArray[np.float64], dtype: np.dtype[Any], *, bfloat16: bool = False) -> NDArray[Any]:
    """Return the nearest numbers of a dtype; what lies beyond them does not become infinite.

    Args:
      values: float64.
      dtype: float16, float32 or float64.
      bfloat16: of float32, those that bfloat16 has too.
    """
    largest = LARGEST_BFLOAT16 if bfloat16 else float(np.finfo(dtype).max)
    result = np.asarray(np.clip(values, -largest, largest), dtype)
    if bfloat16:
        # The upper halves of float32's words, ties to even; from the largest there is no carry into infinity.
        words = np.array(result).view(np.uint32)
        words += np.uint32(0x7FFF) + ((words >> np.uint32(16)) & np.uint32(1))
        words &= np.uint32(0xFFFF0000)
        result = words.view(np.float32)
    return result


def half_spacing(values: NDArray[Any], *, bfloat16: bool = False) -> float:
    """Return how far rounding to the dtype of these numbers moves one at most.

    Args:
      values: float16 or float32.
      bfloat16: as in `to_floats`.
    """
    if not values.size:
        return 0.0
    # Of the very largest number numpy has no spacing; it is that of the one below.
    largest = min(np.max(np.abs(values)), np.nextafter(np.finfo(values.dtype).max, values.dtype.type(0)))
    # A bfloat16 is rounded twice, and has 16 bits less.
    return float(np.spacing(largest)) / 2 * (1 + (1 << 16) * bfloat16)


def rounded_down(value: float) -> str:
    """Return a number as text of a few digits, not above it."""
    return _in_few_digits(value, ROUND_FLOOR)


def rounded_up(value: float) -> str:
    """Return a number as text of a few digits, not below it."""
    return _in_few_digits(value, ROUND_CEILING)


def _in_few_digits(value: float, rounding: str) -> str:
    # Decimal holds a float exactly; the context rounds where it adds.
    short = Context(prec=_DIGITS, rounding=rounding).plus(Decimal(value))
    return f"{float(short):.{_DIGITS}g}"
