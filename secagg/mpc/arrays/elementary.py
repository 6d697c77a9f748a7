"""Elementary functions of shared fixed-point numbers: quotients, roots, exponentials, logarithms and what they make up.

Arguments are fixed(1) to fixed(20) of 64 bits; int64 and bool become fixed(16). Below, f are an argument's fractional bits
and ulp = 2**-f; results have f fractional bits. Computation goes through numbers of 28 fractional bits.

  function              arguments                      error at most
  reciprocal(x)         any                            ulp + 2**-21 |1/x|
  divide(x, y)          |x / y| < 2**15                ulp (1 + 2**(2 f - 45) |x|) + 2**-21 |x / y|
  sqrt(x)               any                            ulp + 2**-21 sqrt(x)
  rsqrt(x)              any                            ulp + 2**-21 / sqrt(x)
  exp(x)                any                            ulp + 2**-19 exp(x)
  log(x)                any                            2 ulp
  sigmoid(x), tanh(x)   |x| < 2**32                    2 ulp, 4 ulp
  softmax, logsumexp    as exp                         2**-13 at f = 16 for some ten numbers, as tests measure

Any: |x| < 2**(61 - f), the numbers that the ring holds with room for a sign. Within it nothing wraps. A quotient's operands
become numbers with the larger f of the two first, so both are below 2**(61 - f) for that f.

Saturation. 1 / 0, x / 0 and rsqrt(0) are 0. A negative x counts as 0 for sqrt, rsqrt and log, and log(0) is
log(2**-(f + 1)). exp(x) is exp of the nearest number of f fractional bits in [-(f + 1) log 2, (61 - 2 f) log 2].

*Normalisation*, as in [CS10]. The highest digit e of x is found as e + 3 = 16 a + b (`digits`), so that 2**(60 - e) is a
product of a function of a and one of b. c = x 2**(60 - e) / 2**61 lies in [1/2, 1). There 1/c, sqrt(c), 1/sqrt(c) and log(c)
are polynomials in 4 c - 3, which lies in [-1, 1]: interpolation at Chebyshev's points, with an error below 2**-28. The
result is the polynomial's value times a power of two that depends on e: first that of b, then that of a.

*Exponentials*, as in [AS19]. 2**y for y = x log2(e): the fractional part of y gives a polynomial, and the digits of its
floor a power of two.

Who learns what: nobody anything, for they are programs on the engine.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from secagg.errors import UsageError
from secagg.mpc.arrays.arithmetic import (
    add,
    divide_by_public,
    is_negative,
    matmul,
    multiply,
    negative,
    product,
    selected,
    shifted_right,
    square,
    subtract,
    times_integers,
)
from secagg.mpc.arrays.comparison import maximum, minimum
from secagg.mpc.arrays.digits import BASE, BLOCKS, DIGITS, DIGITS_BELOW, HIGHEST, OFFSET
from secagg.mpc.arrays.dtypes import FixedType, Number, int8, int64
from secagg.mpc.arrays.handle import (
    H,
    as_numbers,
    as_reals,
    broadcast_shape,
    is_shared,
    number,
    public_values,
    rescaled,
)
from secagg.mpc.arrays.kernels import MULTIPLY, TRUNCATE
from secagg.mpc.arrays.local import NARROW, SCALE
from secagg.mpc.arrays.logic import invert
from secagg.mpc.arrays.moves import concat, index, reshape, stack
from secagg.mpc.arrays.reductions import Axis, var
from secagg.mpc.arrays.reductions import max as largest
from secagg.mpc.arrays.reductions import sum as total
from secagg.mpc.arrays.sigmoids import MIDDLE, SIGMOID, WIDE, Range

_INNER: Final = FixedType(28)
_DEGREE: Final = 11  # of polynomials on [1/2, 1], whose functions have a pole at 0
_BLOCK: Final = 16  # powers of two that a number of 30 bits is multiplied by at once, in exponentials
_MOST: Final = 20  # fractional bits of an argument
_QUOTIENT: Final = 16  # bits of a quotient before the point
_MIDDLE_BITS: Final = 16  # up to which a sigmoid beyond 11.3 is 0 or 1, within an ulp
_LOG2_E: Final = math.log2(math.e)


def reciprocal(x: H) -> H:
    """Return 1 / x; 0 where x = 0."""
    x = _argument(x)
    return read_as(inverse_in(x, number(x).frac_bits), number(x))


def inverse_in(x: H, frac_bits: int) -> H:
    """Return 1 / x as int64 in units of 2**-frac_bits; 0 where x = 0."""
    f = number(x).frac_bits
    below = as_numbers(is_negative(x))
    size = subtract(x, times_integers(product(below, x, 0), np.asarray(2)))
    c, highest = _normalised(size)
    y = _polynomial(c, _interpolated("reciprocal"))
    z = product(read_as(y, int64), highest.rows[0], 0)  # 1 / x = y 2**(f - 1 - e)
    low = f - 1 + OFFSET + frac_bits - _INNER.frac_bits - (BASE - 1)
    y = _by_block(z, highest.at_least, [low - BASE * a for a in range(BLOCKS)])
    return subtract(y, times_integers(product(below, y, 0), np.asarray(2)))


def divide(x: Any, y: Any) -> Any:
    """Return x / y; 0 where y = 0. A quotient of 2**15 or more is wrong, as the ring wraps."""
    if not is_shared(y):
        return divide_by_public(x, y)
    divisor = _argument(y)
    f = number(divisor).frac_bits
    if not is_shared(x):
        x = y.engine.public(np.asarray(public_values(x), np.float64), dtype=divisor.dtype)
    x = _argument(x)
    finer = 62 - _QUOTIENT - max(f, number(x).frac_bits)
    inverse = inverse_in(divisor, finer)
    dtype = max(number(x), number(divisor), key=lambda d: d.frac_bits)
    x = read_as(rescaled(x, dtype), int64)
    return x.derive(
        MULTIPLY, inverse, shape=broadcast_shape(x.shape, inverse.shape), dtype=dtype, params=(64, finer)
    )


def sqrt(x: H) -> H:
    """Return the square root; 0 where x <= 0."""
    return _root(x, "sqrt", 1)


def rsqrt(x: H) -> H:
    """Return 1 / sqrt(x); 0 where x <= 0."""
    return _root(x, "rsqrt", -1)


def _root(x: H, name: str, power: int) -> H:
    x = _argument(x)
    dtype = number(x)
    # x = c 2**t for t = e + 1 - f = 16 a + (b - 2 - f), of which an odd part leaves a factor sqrt(2).
    halves = [power * ((b + 1 - OFFSET - dtype.frac_bits) // 2) for b in range(BASE)]
    odd = [(b + 1 - OFFSET - dtype.frac_bits) % 2 for b in range(BASE)]
    least = min(halves)
    rows = [[(odd[b] == o) << halves[b] - least for b in range(BASE)] for o in (0, 1)]
    c, highest = _normalised(_at_least_zero(x), *rows)
    y = _polynomial(c, _interpolated(name))
    factors = stack([read_as(v, int64) for v in (y, multiply(y, math.sqrt(2.0) ** power))])
    z = _sum(product(factors, stack(highest.rows[2:]), 0))
    low = least + dtype.frac_bits - _INNER.frac_bits
    shifts = [low + power * BASE // 2 * a for a in range(BLOCKS)]
    return read_as(_by_block(z, highest.at_least, shifts), dtype)


def log(x: H) -> H:
    """Return the natural logarithm; that of 2**-(f + 1) where x <= 0."""
    x = _argument(x)
    f = number(x).frac_bits
    c, highest = _normalised(_at_least_zero(x), [b + 1 - OFFSET for b in range(BASE)])
    # x = c 2**t for t = e + 1 - f = 16 a + (b - 2 - f)
    counted = add(times_integers(_sum(highest.at_least), np.asarray(BASE)), highest.rows[2])
    log_2 = np.asarray(round(math.log(2.0) * 2**_INNER.frac_bits))
    exponent = read_as(times_integers(subtract(counted, np.asarray(f)), log_2), _INNER)
    return truncated(add(_polynomial(c, _interpolated("log")), exponent), FixedType(f))


def exp(x: H) -> H:
    """Return e**x, of x moved into the range of which the result fits."""
    x = _argument(x)
    f = number(x).frac_bits
    # Ends that are whole units: both ways of rounding them would leave the range.
    low, high = (math.trunc(end * math.log(2.0) * 2**f) / 2**f for end in (-(f + 1), 61 - 2 * f))
    return exp_in(minimum(maximum(x, low), high), -(f + 2), FixedType(f))


def exp_in(x: H, least: int, dtype: FixedType) -> H:
    """Return e**x in another dtype, of x with at most 28 fractional bits, at least 2**least and so that the result fits."""
    return _exp2(multiply(rescaled(x, _INNER), _LOG2_E), least, dtype)


def sigmoid(x: H) -> H:
    """Return 1 / (1 + e**-x)."""
    x = _argument(x)
    where = MIDDLE if number(x).frac_bits <= _MIDDLE_BITS else WIDE
    return sigmoid_in(rescaled(x, FixedType(where.frac_bits)), where, number(x))


def sigmoid_in(x: H, where: Range, dtype: Number, factor: float = 1.0) -> H:
    """Return factor / (1 + e**-(unit x)) in another dtype, of x as the range has it, for a factor of 1/2 to 1."""
    return x.derive(SIGMOID, shape=x.shape, dtype=dtype, params=(where, factor, dtype.frac_bits))


def tanh(x: H) -> H:
    """Return the hyperbolic tangent."""
    return add(times_integers(sigmoid(times_integers(_argument(x), np.asarray(2))), np.asarray(2)), -1)


def softmax(x: H, *, axis: int = -1) -> H:
    """Return exp(x) divided by its sum along an axis."""
    z = exp(subtract(_argument(x), largest(_argument(x), axis=axis, keepdims=True)))
    return divide(z, total(z, axis=axis, keepdims=True))


def logsumexp(x: H, *, axis: Axis = None, keepdims: bool = False) -> H:
    """Return log(sum(exp(x))) along axes."""
    x = _argument(x)
    top = largest(x, axis=axis, keepdims=True)
    kept = log(total(exp(subtract(x, top)), axis=axis, keepdims=keepdims))
    return add(kept, top if keepdims else reshape(top, kept.shape))


def std(x: H, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> H:
    """Return the standard deviation along axes: the root of `var`."""
    return sqrt(var(x, axis=axis, correction=correction, keepdims=keepdims))


# What the functions stand on.


def _argument(x: H) -> H:
    x = as_reals(x)
    dtype = number(x)
    if dtype.bits != 64 or dtype.frac_bits > _MOST:
        raise UsageError(
            f"elementary functions take 64 bits with 1 to {_MOST} fractional bits, got {x!r}; convert it with "
            "x.astype(mpc.fixed(16))"
        )
    return x


def _at_least_zero(x: H) -> H:
    return selected(invert(is_negative(x)), x)


def read_as(x: H, dtype: Number) -> H:
    """Return the same ring elements as numbers of another dtype: x times a power of two."""
    return x.derive(SCALE, shape=x.shape, dtype=dtype, params=(np.asarray(1, np.uint64),))


def truncated(x: H, dtype: FixedType) -> H:
    """Return x in a dtype with fewer fractional bits, truncated once."""
    return x.derive(TRUNCATE, shape=x.shape, dtype=dtype, params=(64, number(x).frac_bits - dtype.frac_bits))


class Highest(NamedTuple, Generic[H]):
    """The highest digit e of x >= 0, with e + 3 = 16 a + b; nothing is set for x = 0.

    Attributes:
      at_least: whether a is at least 1, 2 and 3, of shape (3, ...).
      rows: functions of b, as they were asked for.
    """

    at_least: H
    rows: list[H]


def _normalised(x: H, *rows: Sequence[int]) -> tuple[H, Highest[H]]:
    """Return c in [1/2, 1) of x >= 0, 1/2 for 0, and its highest digit with functions of b.

    The first two rows of the result are 2**(15 - b) and 1.
    """
    raw = read_as(x, int64)
    weights = (tuple(1 << BASE - 1 - b for b in range(BASE)), (1,) * BASE, *map(tuple, rows))
    found = raw.derive(HIGHEST, shape=(BLOCKS - 1 + len(weights), *x.shape), dtype=int64, params=weights)
    at_least = index(found, slice(0, BLOCKS - 1))
    highest = Highest(at_least, [index(found, BLOCKS - 1 + i) for i in range(len(weights))])
    # 2**(60 - e) = 2**(48 - 16 a) 2**(15 - b)
    powers = [1 << BASE * (BLOCKS - 1 - a) for a in range(BLOCKS)]
    steps = np.array([after - before for before, after in itertools.pairwise(powers)])
    power = add(_sum(times_integers(at_least, _column(steps, x.ndim))), powers[0])
    scale = product(power, highest.rows[0], 0)
    params = (64, DIGITS_BELOW - _INNER.frac_bits)
    c = raw.derive(MULTIPLY, scale, shape=x.shape, dtype=_INNER, params=params)
    half = 1 << _INNER.frac_bits - 1
    nothing = add(times_integers(highest.rows[1], np.asarray(-half)), half)
    return add(c, read_as(nothing, _INNER)), highest


def _sum(x: H) -> H:
    """Return the sum along the first axis."""
    return total(x, axis=0)


def _column(values: NDArray[Any], ndim: int) -> NDArray[Any]:
    """Return values along a new first axis of an array of so many dimensions."""
    return values.reshape(-1, *(1,) * ndim)


def _by_block(z: H, at_least: H, shifts: Sequence[int]) -> H:
    """Return z 2**shifts[a], rounded up or down, of integers z below 2**46 that are 0 where nothing is set.

    Each a is truncated by itself; of all but one the product is 0, which truncation keeps.
    """
    above = product(z, at_least, 0)
    reached = [z, *(index(above, i) for i in range(BLOCKS - 1))]
    parts = [subtract(here, further) for here, further in itertools.pairwise(reached)] + [reached[-1]]
    result: H | None = None
    for part, bits in zip(parts, shifts, strict=True):
        if bits < -(_INNER.frac_bits + 2 + BASE):
            continue  # less than half an ulp
        shifted = _shifted(part, bits)
        result = shifted if result is None else add(result, shifted)
    return times_integers(z, np.asarray(0)) if result is None else result


def _shifted(raw: H, bits: int) -> H:
    """Return integers times 2**bits, rounded up or down."""
    if bits >= 0:
        return times_integers(raw, np.asarray(1 << bits))
    return raw.derive(TRUNCATE, shape=raw.shape, dtype=int64, params=(64, -bits))


def _exp2(y: H, least: int, dtype: FixedType) -> H:
    """Return 2**y for y >= least, of 28 fractional bits, so that the result fits the dtype."""
    floor = shifted_right(read_as(y, int64), _INNER.frac_bits)
    rest = subtract(y, rescaled(floor, _INNER))
    p = read_as(_polynomial_of(add(times_integers(rest, np.asarray(2)), -1), _interpolated("exp2")), int64)
    counted = subtract(floor, np.asarray(least)).derive(NARROW, shape=y.shape, dtype=int8)
    digits = counted.derive(DIGITS, shape=(6, *y.shape), dtype=int64, params=(6,))
    b = [index(digits, i) for i in range(6)]
    factor = [add(times_integers(b[i], np.asarray((1 << (1 << i)) - 1)), 1) for i in range(4)]
    power = multiply(multiply(factor[0], factor[1]), multiply(factor[2], factor[3]))
    z, both = multiply(p, power), multiply(b[4], b[5])
    block = [
        add(negative(add(b[4], b[5])), add(both, 1)),
        subtract(b[4], both),
        subtract(b[5], both),
        both,
    ]
    result: H | None = None
    for i, chosen in enumerate(block):
        low = _BLOCK * i + least + dtype.frac_bits - _INNER.frac_bits
        if low <= -(_INNER.frac_bits + 1 + _BLOCK) or low + _INNER.frac_bits > 62:
            continue  # less than half an ulp, or more than y says
        part = _shifted(multiply(chosen, z), low)
        result = part if result is None else add(result, part)
    if result is None:
        raise UsageError(f"2**y with y from {least} on does not show in {dtype}")
    return read_as(result, dtype)


def _polynomial(c: H, coefficients: NDArray[np.float64]) -> H:
    """Return a polynomial in 4 c - 3."""
    return _polynomial_of(add(times_integers(c, np.asarray(4)), -3), coefficients)


def _polynomial_of(u: H, coefficients: NDArray[np.float64]) -> H:
    """Return a polynomial of degree 5 to 12 of u in [-1, 1].

    It is the sum of u**(4 i) q_i, as in [PS73]: q_i of degree 3, the last one of 4, and u**8 the square of u**4.
    """
    degree = len(coefficients) - 1
    groups = -(-degree // 4)
    table = np.zeros((groups, 5))
    for k, coefficient in enumerate(coefficients):
        i = min(k // 4, groups - 1)
        table[i, k - 4 * i] = coefficient
    first = stack([u, square(u)])
    powers = concat([first, multiply(first, index(first, 1))])
    q = reshape(matmul(table[:, 1:], reshape(powers, (4, -1))), (groups, *u.shape))
    q = add(q, _column(table[:, 0], u.ndim))
    fourth = index(powers, 3)
    factors = stack([fourth, square(fourth)][: groups - 1])
    return add(index(q, 0), _sum(multiply(index(q, slice(1, None)), factors)))


_FUNCTIONS: Final[dict[str, tuple[Callable[[Any], Any], float, int]]] = {
    # the function, where its interval begins (it ends 1 or twice as far), and the degree
    "reciprocal": (lambda c: 1 / c, 0.5, _DEGREE),
    "sqrt": (np.sqrt, 0.5, _DEGREE),
    "rsqrt": (lambda c: 1 / np.sqrt(c), 0.5, _DEGREE),
    "log": (np.log, 0.5, _DEGREE),
    "exp2": (np.exp2, 0.0, 8),
}


@functools.cache
def _interpolated(name: str) -> NDArray[np.float64]:
    """Return the coefficients of a function on [low, 1], in u = (2 c - 1 - low) / (1 - low), lowest first."""
    function, low, degree = _FUNCTIONS[name]
    points = chebyshev.chebinterpolate(lambda u: function((u * (1 - low) + 1 + low) / 2), degree)
    return np.asarray(chebyshev.cheb2poly(points), np.float64)


NAMES: Final[dict[str, Callable[..., Any]]] = {
    "divide": divide,
    "exp": exp,
    "log": log,
    "logsumexp": logsumexp,
    "reciprocal": reciprocal,
    "rsqrt": rsqrt,
    "sigmoid": sigmoid,
    "softmax": softmax,
    "sqrt": sqrt,
    "std": std,
    "tanh": tanh,
}
