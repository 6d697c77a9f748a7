"""Quotients of shared integers, digit by digit, as exact as a float shows them.

An average, or a ratio of two sums, is opened as itself: neither its numerator nor its denominator is. Schoolbook division
in base 16: the remainder takes in the next digit of the numerator, and the digit of the quotient is the number of multiples
of the denominator, from 1 to 15, that it is not below. So each digit costs one comparison of 15 numbers a row, and one
product. Exact: the quotient is rounded towards zero in its last bit, and nowhere else.

Who learns what: nobody anything. Sizes and the number of digits are public.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from secagg import mpc
from secagg.errors import PlanError
from secagg.mpc.arrays import SharedArray
from secagg.mpc.arrays.arithmetic import absolute, is_negative, multiply
from secagg.mpc.arrays.digits import DIGITS

_BASE_BITS: Final = 4
MOST_BITS: Final = 57  # of a denominator: 16 times as much fits the ring with its sign


def quotient(
    numerator: SharedArray,
    denominator: SharedArray | int,
    *,
    bits: int,
    denominator_bits: int,
    fraction_bits: int = 0,
) -> SharedArray:
    """Return numerator / denominator in units of 2**-fraction_bits, which has to fit 64 bits; else as `parts`."""
    whole, fraction = parts(
        numerator, denominator, bits=bits, denominator_bits=denominator_bits, fraction_bits=fraction_bits
    )
    return whole * (1 << fraction_bits) + fraction


def parts(
    numerator: SharedArray,
    denominator: SharedArray | int,
    *,
    bits: int,
    denominator_bits: int,
    fraction_bits: int = 0,
) -> tuple[SharedArray, SharedArray]:
    """Return numerator / denominator of int64 arrays, rounded towards zero: the integer part, and the rest.

    The rest is in units of 2**-fraction_bits. Both have the quotient's sign.

    Where the denominator is 0 they are numbers that mean nothing.

    Args:
      denominator: shared, or a public integer.
      bits: the numerator is below 2**bits in absolute value; 62 or less.
      denominator_bits: as `bits`, of the denominator; `MOST_BITS` or less.
      fraction_bits: of the rest, at most 62.

    Raises:
      PlanError: more bits.
    """
    if bits > 62 or denominator_bits > MOST_BITS:
        raise PlanError(
            f"a quotient takes a numerator of at most 62 bits and a denominator of at most {MOST_BITS}, got {bits} and "
            f"{denominator_bits}; declare narrower ranges"
        )
    negative, size = is_negative(numerator), absolute(numerator)
    divisor: SharedArray | int
    if isinstance(denominator, int):
        divisor = abs(denominator)
        negative = ~negative if denominator < 0 else negative
    else:
        negative, divisor = negative ^ is_negative(denominator), absolute(denominator)
    multiples = np.arange(1, 1 << _BASE_BITS).reshape(-1, *[1] * size.ndim)
    weights = (1 << np.arange(_BASE_BITS)).reshape(-1, *[1] * size.ndim)
    places = -(-bits // _BASE_BITS)
    planes = size.derive(
        DIGITS, shape=(places * _BASE_BITS, *size.shape), dtype=mpc.int64, params=(places * _BASE_BITS,)
    )
    whole, less = divmod(fraction_bits, _BASE_BITS)
    steps = [_BASE_BITS] * (places + whole) + [less] * bool(less)
    rest = size * 0
    results = [size * 0, size * 0]
    for place, width in enumerate(steps):
        rest = rest * (1 << width)
        if place < places:
            low = (places - 1 - place) * _BASE_BITS
            rest = rest + (planes[low : low + _BASE_BITS] * weights).sum(axis=0)
        digit = (~is_negative(rest - divisor * multiples[: (1 << width) - 1])).sum(axis=0)
        rest = rest - digit * divisor
        half = int(place >= places)
        results[half] = results[half] * (1 << width) + digit
    sign = negative.astype(mpc.int64) * -2 + 1
    return multiply(sign, results[0]), multiply(sign, results[1])
