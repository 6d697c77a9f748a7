"""Quotients of shared integers, digit by digit, as exact as a float shows them.

An average, or a ratio of two sums, is opened as itself: neither its numerator nor its denominator is. Schoolbook division
in base 16: the remainder takes in the next digit of the numerator, and the digit of the quotient is the number of multiples
of the denominator, from 1 to 15, that it is not below. So each digit costs one comparison of 15 numbers a row, and one
product. Exact: the quotient is rounded towards zero in its last digit, and nowhere else.

Who learns what: nobody anything. Sizes and the number of digits are public.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from secagg import mpc
from secagg.errors import PlanError
from secagg.mpc.arrays import SharedArray
from secagg.mpc.arrays.arithmetic import absolute, is_negative, multiply
from secagg.mpc.arrays.digits import DIGITS

_BASE_BITS: Final = 4
FRACTION_DIGITS: Final = 9  # base 16: 2**-36
FRACTION_BITS: Final = _BASE_BITS * FRACTION_DIGITS
MOST_BITS: Final = 57  # of a denominator: 16 times as much fits the ring with its sign


@dataclass(frozen=True, slots=True)
class Quotient:
    """A quotient as two arrays of int64 that have its sign both.

    Attributes:
      whole: the integer part.
      fraction: the rest, in units of 2**-FRACTION_BITS.
    """

    whole: SharedArray
    fraction: SharedArray


def quotient(numerator: SharedArray, denominator: SharedArray, *, bits: int, denominator_bits: int) -> Quotient:
    """Return numerator / denominator of int64 arrays; where the denominator is 0, numbers that mean nothing.

    Args:
      bits: the numerator is below 2**bits in absolute value; 62 or less.
      denominator_bits: as `bits`, of the denominator; `MOST_BITS` or less.

    Raises:
      PlanError: more bits.
    """
    if bits > 62 or denominator_bits > MOST_BITS:
        raise PlanError(
            f"a quotient takes a numerator of at most 62 bits and a denominator of at most {MOST_BITS}, got {bits} and "
            f"{denominator_bits}; declare narrower ranges"
        )
    negative = is_negative(numerator) ^ is_negative(denominator)
    size, divisor = absolute(numerator), absolute(denominator)
    digits = -(-bits // _BASE_BITS)
    planes = size.derive(
        DIGITS, shape=(digits * _BASE_BITS, *size.shape), dtype=mpc.int64, params=(digits * _BASE_BITS,)
    )
    multiples = np.arange(1, 1 << _BASE_BITS).reshape(-1, *[1] * size.ndim)
    weights = (1 << np.arange(_BASE_BITS)).reshape(-1, *[1] * size.ndim)
    rest = size * 0
    found: list[SharedArray] = []
    for place in range(digits - 1, -FRACTION_DIGITS - 1, -1):
        rest = rest * (1 << _BASE_BITS)
        if place >= 0:
            rest = rest + (planes[place * _BASE_BITS : (place + 1) * _BASE_BITS] * weights).sum(axis=0)
        digit = (~is_negative(rest - divisor * multiples)).sum(axis=0)
        rest = rest - multiply(digit, divisor)
        found.append(digit)
    parts = (_number(found[:digits]), _number(found[digits:]))
    sign = negative.astype(mpc.int64) * -2 + 1
    return Quotient(*(multiply(sign, part) for part in parts))


def _number(digits: list[SharedArray]) -> SharedArray:
    """Return the number of these digits, highest first. Free."""
    value = digits[0]
    for digit in digits[1:]:
        value = value * (1 << _BASE_BITS) + digit
    return value
