"""The kernel of the logistic function: an odd polynomial, and beside it two comparisons that say where it holds.

  1 / (1 + e**-x) = 1/2 + P(x / end) for |x| <= end, and 0 or 1 beyond.

P interpolates at Chebyshev's points. It is the sum of A_i T_(16 i), where A_i is a sum of T_1, T_3, ..., T_15, so that few
products suffice. That is Paterson's and Stockmeyer's way [PS73] with Chebyshev polynomials, by
T_(a+b) = 2 T_a T_b - T_|a-b|. Even T have 28 fractional bits. Odd T are multiplied by the end in the units of the argument,
so that the argument itself is T_1. A_i have what public factors remain. Where |x| > end the polynomial wraps, which is
meant: a bit that is 0 there is multiplied by it.

Rounds: those of 7 products, or 8 for `WIDE`; comparisons and their conversion run beside them and take fewer. Many elements
go stretch after stretch, so that what is under way stays bounded.

Who learns what: nobody anything. Products, comparisons and conversions are the engine's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from secagg.mpc.arrays.graph import Call, Kernel, Node
from secagg.mpc.arrays.kernels import cut, join
from secagg.mpc.groups import Array
from secagg.mpc.primitives import Primitives, Shares, concatenate, ring_of

_BITS: Final = 28  # fractional, of even polynomials and of A_i
_STEP: Final = 16  # degrees between two groups
_ODD: Final = range(1, _STEP, 2)
_ONE: Final = 1 << _BITS
_RAW: Final = 60  # fractional bits of A_i before truncation; A_i are below 1
_STRETCH: Final = 1 << 18  # elements worked on at a time: some 150 MB of arrays


@dataclass(frozen=True, slots=True)
class Range:
    """Where the polynomial holds, and for which arguments.

    Args:
      unit: the argument is x / unit, a power of two.
      square, bits: (end / unit)**2 is 2**bits / square.
      groups: how many A_i there are, 2, 3 or 5; the degree is 16 groups - 1.
      frac_bits: of the argument.
    """

    unit: int
    square: int
    bits: int
    groups: int
    frac_bits: int

    @property
    def most(self) -> float:
        """The largest argument: end / unit."""
        return math.sqrt(2.0**self.bits / self.square)

    @property
    def end(self) -> float:
        return self.unit * self.most


# Up to the end, the polynomial is within 2**-19, 2**-22 and 2**-15.9 of the function; beyond, 0 and 1 are within e**-end.
MIDDLE: Final = Range(1, 1, 7, 3, 24)  # ends at 11.3
WIDE: Final = Range(1, 1, 8, 5, 24)  # ends at 16
SIXTEENTHS: Final = Range(16, 809, 8, 2, 26)  # of x / 16; ends at 9.0


@functools.cache
def coefficients(where: Range) -> NDArray[np.float64]:
    """Return the coefficient of each T_1, T_3, ..., T_15 in each A_i, shape (groups, 8)."""
    degree = _STEP * where.groups - 1
    series = chebyshev.chebinterpolate(lambda v: np.tanh(v * (where.end / 2)) / 2, degree + 1)  # type: ignore[type-var]
    table = np.zeros((where.groups + 1, _STEP))
    for i in reversed(range(where.groups)):
        # T_16i T_j is half of T_(16i + j) and half of T_(16i - j).
        for j in _ODD:
            above = table[i + 1, _STEP - j]
            table[i, j] = 2 * series[_STEP * i + j] - above if i else series[j] - above / 2
    return table[: where.groups, 1::2]


async def _sigmoid(engine: Primitives, calls: Sequence[Call]) -> list[Shares]:
    x = join([call.values[0] for call in calls], [call.node.shape for call in calls])
    where, factor, frac_bits = calls[0].node.params
    parts = [
        await _stretch(engine, x[start : start + _STRETCH], where, factor, frac_bits)
        for start in range(0, max(1, x.size), _STRETCH)
    ]
    whole = concatenate(parts) if len(parts) > 1 else parts[0]
    return cut(whole, [call.node.shape for call in calls])


async def _stretch(engine: Primitives, x: Shares, where: Range, factor: float, frac_bits: int) -> Shares:
    """Return factor / (1 + e**-(unit x)) of elements (n,)."""
    polynomial, (above, below) = await engine.party.parallel(
        _polynomial(engine, x, where, factor), _beyond(engine, x, where)
    )
    inside = _plus(_times(above + below, -1), 1)
    inner = await engine.multiply(inside, polynomial, _BITS - frac_bits)
    return inner + _times(_plus(above - below, 1), round(factor * 2.0 ** (frac_bits - 1)))


async def _beyond(engine: Primitives, x: Shares, where: Range) -> tuple[Shares, Shares]:
    """Return whether each element is above the end, and whether it is below its negative, as integers 0 and 1."""
    end = round(where.most * 2.0**where.frac_bits)
    both = concatenate([_plus(_times(x, -1), end), _plus(x, end)])
    bits = await engine.from_bits(await engine.negative(both), ring_of(x), both.size)
    return bits[: x.size], bits[x.size :]


async def _polynomial(engine: Primitives, x: Shares, where: Range, factor: float) -> Shares:
    """Return factor P with 28 fractional bits, of elements (n,)."""
    odd = {1: x}
    (square,) = await _products(
        engine, [(x, _times(x, where.square))], where.bits + 2 * where.frac_bits - _BITS - 1
    )
    top = _plus(square, -_ONE)
    for degree in (2, 4, 8):
        *found, square = await _products(engine, [*((top, odd[j]) for j in odd), (top, top)], _BITS - 1)
        odd |= {degree + j: double - odd[degree - j] for j, double in zip(tuple(odd), found, strict=True)}
        top = _plus(square, -_ONE)
    scale = _RAW - where.frac_bits
    table = np.rint(coefficients(where) * (factor / where.most * 2.0**scale)).astype(np.int64)
    sums = concatenate([_weighted([odd[j] for j in _ODD], row) for row in table])
    odd.clear()
    even = [top]
    if where.groups == 2:
        sums = await engine.truncate(sums, _RAW - _BITS)
    else:
        sums, (square,) = await engine.party.parallel(
            engine.truncate(sums, _RAW - _BITS), _products(engine, [(top, top)], _BITS - 1)
        )
        even += [_plus(square, -_ONE)]
    if where.groups > 3:
        third, square = await _products(engine, [(even[1], even[0]), (even[1], even[1])], _BITS - 1)
        even += [third - even[0], _plus(square, -_ONE)]
    a = [sums[i * x.size : (i + 1) * x.size] for i in range(where.groups)]
    return functools.reduce(
        Shares.__add__, await _products(engine, list(zip(a[1:], even, strict=False)), _BITS), a[0]
    )


async def _products(engine: Primitives, pairs: Sequence[tuple[Shares, Shares]], bits: int) -> list[Shares]:
    """Return products of pairs of n elements each, truncated, in one call."""
    n = pairs[0][0].size
    x, y = (concatenate(side) if len(pairs) > 1 else side[0] for side in zip(*pairs, strict=True))
    both = await engine.multiply(x, y, bits)
    return [both[i * n : (i + 1) * n] for i in range(len(pairs))]


def _times(x: Shares, integer: int) -> Shares:
    factor = ring_of(x).ring.from_signed(np.asarray(integer))
    return x.each(lambda part: part * factor)


def _plus(x: Shares, units: int) -> Shares:
    group = ring_of(x)
    return x.with_each(x.engine.public(group, group.ring.from_signed(np.asarray(units))), group.add)


def _weighted(parts: Sequence[Shares], weights: NDArray[np.int64]) -> Shares:
    """Return a sum with public integer weights."""
    factors = weights.astype(np.uint64)

    def total(each: Sequence[Array]) -> Array:
        result = np.zeros_like(each[0])
        scratch = np.empty_like(result)
        for part, factor in zip(each, factors, strict=True):
            result += np.multiply(part, factor, out=scratch)
        return result

    shares = zip(*(part.parts for part in parts), strict=True)
    return Shares(parts[0].engine, parts[0].group, [total(each) for each in shares])


def _exact(node: Node, x: Array) -> Array:
    where, factor, frac_bits = node.params
    limit = 1 << 61
    if x.size and not -limit < x.min() <= x.max() < limit:
        raise OverflowError("an argument does not lie within 2**61 units of zero")
    half = np.tanh(x.astype(np.float64) * (where.unit * 2.0 ** -(where.frac_bits + 1))) / 2
    return np.rint((half + 0.5) * (factor * 2.0**frac_bits)).astype(np.int64).astype(object)


# Parameters: a `Range`, a factor of 1/2 to 1 that goes into the polynomial, and the fractional bits of the result.
SIGMOID: Final = Kernel("sigmoid", _sigmoid, _exact, 2)
