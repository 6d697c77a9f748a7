"""Sums, products, powers, division by public numbers, rounding and conversion of shared arrays.

Errors, in units in the last place (ulp): a product of fixed-point numbers is within one ulp of the exact product. So is a
product with a public real number, or within two if that is below 1/8, beside what rounding that number to `frac_bits` + 1
significant bits changes. Sums, and products with integers, are exact. `truncation_range` says where products must stay.
"""

from __future__ import annotations

import math
import operator
from typing import Any, Final, NoReturn

import numpy as np

from secagg.errors import RangeError, ShapeError, UsageError
from secagg.mpc.arrays.digits import WIDEN
from secagg.mpc.arrays.dtypes import (
    DEFAULT_FIXED,
    BoolType,
    FixedType,
    IntegerType,
    Number,
    as_dtype,
    boolean,
    encode,
)
from secagg.mpc.arrays.handle import (
    H,
    Handle,
    Public,
    as_numbers,
    as_reals,
    broadcast_shape,
    common,
    elements_of,
    is_real,
    is_shared,
    number,
    public_values,
    rescaled,
)
from secagg.mpc.arrays.kernels import MATMUL, MULTIPLY, NEGATIVE, SHIFT, TRUNCATE
from secagg.mpc.arrays.local import (
    ADD,
    ADD_PUBLIC,
    MATMUL_LEFT,
    MATMUL_RIGHT,
    NARROW,
    NEGATE,
    SCALE,
    SUBTRACT,
)
from secagg.mpc.arrays.logic import conjunction, invert, zero
from secagg.mpc.groups import Array


def add(x: H, y: H | Public) -> H:
    """Return x + y. Free."""
    if is_shared(y):
        a, b = common(x, y)
        return a.derive(ADD, b, shape=broadcast_shape(a.shape, b.shape), dtype=a.dtype)
    return _add_public(x, public_values(y))


def _add_public(x: H, values: Array, *, negated: bool = False) -> H:
    a = as_reals(x) if is_real(values) else as_numbers(x)
    elements = elements_of(values, a.dtype)
    if negated:
        elements = a.dtype.group.subtract(np.zeros_like(elements), elements)
    return a.derive(
        ADD_PUBLIC, shape=broadcast_shape(a.shape, values.shape), dtype=a.dtype, params=(elements,)
    )


def negative(x: H) -> H:
    """Return -x. Free."""
    x = as_numbers(x)
    return x.derive(NEGATE, shape=x.shape, dtype=x.dtype)


def subtract(x: H, y: H | Public) -> H:
    """Return x - y. Free."""
    if is_shared(y):
        a, b = common(x, y)
        return a.derive(SUBTRACT, b, shape=broadcast_shape(a.shape, b.shape), dtype=a.dtype)
    return _add_public(x, public_values(y), negated=True)


def multiply(x: H, y: H | Public) -> H:
    """Return x * y, with the larger frac_bits of the two."""
    if not is_shared(y):
        values = public_values(y)
        return _times_real(x, values) if is_real(values) else times_integers(x, values)
    if isinstance(x.dtype, BoolType) and isinstance(y.dtype, BoolType):
        return conjunction(x, y)
    width = next(h.dtype.bits for h in (x, y) if not isinstance(h.dtype, BoolType))
    a, b = as_numbers(x, width), as_numbers(y, width)
    return product(a, b, min(number(a).frac_bits, number(b).frac_bits))


def product(x: H, y: H, truncated: int) -> H:
    """Return the product of numbers of one ring, with so many fractional bits truncated."""
    a, b = number(x), number(y)
    if a.bits != b.bits:
        raise UsageError(f"{x!r} and {y!r} differ in width: convert one with x.astype(...)")
    dtype = _of(a.frac_bits + b.frac_bits - truncated, a.bits)
    shape = broadcast_shape(x.shape, y.shape)
    return x.derive(MULTIPLY, y, shape=shape, dtype=dtype, params=(a.bits, truncated))


def _of(frac_bits: int, bits: int) -> Number:
    return FixedType(frac_bits, bits) if frac_bits else IntegerType(bits)


def times_integers(x: H, values: Array) -> H:
    """Return the product with public integers, or bools as 0 and 1. Free."""
    x = as_numbers(x)
    elements = elements_of(values, IntegerType(number(x).bits))
    shape = broadcast_shape(x.shape, values.shape)
    return x.derive(SCALE, shape=shape, dtype=x.dtype, params=(elements,))


def _times_real(x: H, factor: Array) -> H:
    x = as_numbers(x)
    dtype = number(x)
    if isinstance(dtype, IntegerType) and dtype.bits != DEFAULT_FIXED.bits:
        raise UsageError(f"{x!r} meets real numbers: convert it with x.astype(mpc.fixed(frac_bits, bits))")
    result = dtype if isinstance(dtype, FixedType) else DEFAULT_FIXED
    mantissa, exponent = _dyadic(factor, result, dtype.frac_bits)
    down = _first_down(factor, mantissa, dtype)
    if down:  # so that the result has to fit the range of truncation, and not x times a number of many bits
        x = x.derive(TRUNCATE, shape=x.shape, dtype=dtype, params=(dtype.bits, down))
        mantissa, exponent = _dyadic(np.ldexp(factor, down), result, dtype.frac_bits)
    excess = dtype.frac_bits + exponent - result.frac_bits
    shape = broadcast_shape(x.shape, factor.shape)
    elements = encode(mantissa << max(0, -excess), IntegerType(dtype.bits))
    if excess <= 0:
        return x.derive(SCALE, shape=shape, dtype=result, params=(elements,))
    scaled = x.derive(SCALE, shape=shape, dtype=dtype, params=(elements,))
    return scaled.derive(TRUNCATE, shape=shape, dtype=result, params=(dtype.bits, excess))


def _dyadic(factor: Array, result: FixedType, frac_bits: int) -> tuple[Array, int]:
    """Return integers m and the least g with factor = m / 2**g, up to the precision that the result asks for."""
    largest = float(np.max(np.abs(factor), initial=0.0))
    if not math.isfinite(largest) or largest >= 2.0 ** (result.bits - 2 - result.frac_bits):
        raise RangeError(
            f"expected finite factors below 2**{result.bits - 2 - result.frac_bits} for {result}, got others"
        )
    # The largest factor keeps frac_bits + 1 significant bits; a factor of 1 or more keeps frac_bits behind the point.
    g = result.frac_bits + max(0, -math.frexp(largest)[1] + 1) if largest else 0
    g = min(g, result.bits - 2 + result.frac_bits - frac_bits)
    mantissa = np.rint(np.ldexp(factor.astype(np.float64), g)).astype(np.int64)
    every = int(np.bitwise_or.reduce(np.abs(mantissa).reshape(-1), initial=0))
    zeros = min(g, (every & -every).bit_length() - 1) if every else g
    return mantissa >> zeros, g - zeros


def _first_down(factor: Array, mantissa: Array, dtype: Number) -> int:
    """Return by how many bits fixed-point numbers are truncated before they are multiplied by a small public factor."""
    bits = -math.frexp(float(np.max(np.abs(factor), initial=0.0)))[1]
    few = int(np.max(np.abs(mantissa), initial=0)) < 8
    return 0 if bits < 3 or few or isinstance(dtype, IntegerType) else min(bits, dtype.bits // 2)


def divide_by_public(x: H, y: Public) -> H:
    """Return x / y for public numbers: the product with 1 / y."""
    values = public_values(y)
    if (values == 0).any():
        raise RangeError("division by zero: a public divisor is 0")
    return _times_real(x, 1.0 / values.astype(np.float64))


_INSTEAD: Final = {
    "**": "mpc.exp(x * log(base)) raises a public base, mpc.exp(y * mpc.log(x)) a shared one above 0",
    "//": "mpc.floor(x / y) rounds a quotient down, up to the error of the division",
    "%": "x - y * mpc.floor(x / y) is the remainder, up to the error of the division",
    "divmod": "mpc.floor(x / y) rounds a quotient down, up to the error of the division",
}


def refuse_shared(y: Handle, what: str) -> NoReturn:
    """Raise the error for a shared divisor or exponent."""
    raise UsageError(f"expected a public number on the right of {what}, got {y!r}; {_INSTEAD[what]}")


def square(x: H) -> H:
    """Return x * x."""
    return multiply(x, x)


def _power_of_two(y: Public, what: str) -> int:
    if is_shared(y):
        refuse_shared(y, what)
    try:
        divisor = operator.index(y)
    except TypeError:
        divisor = 0
    if divisor < 1 or divisor & divisor - 1:
        raise UsageError(
            f"expected a public power of two for {what}, got {y!r}; x / y divides by any public number, and "
            "mpc.floor(x / y) rounds down up to the error of the division"
        )
    return divisor.bit_length() - 1


def shifted_right(x: H, bits: int) -> H:
    """Return floor(x / 2**bits) in units in the last place."""
    dtype = number(x)
    if bits == 0:
        return x
    if not 1 <= bits <= dtype.bits - 2:
        raise UsageError(f"a ring of {dtype.bits} bits shifts by 1 to {dtype.bits - 2} bits, not {bits}")
    return x.derive(SHIFT, shape=x.shape, dtype=dtype, params=(dtype.bits, bits))


def floor_divide(x: H, y: Public) -> H:
    """Return floor(x / y) for a public power of two."""
    bits = _power_of_two(y, "//")
    x = as_numbers(x)
    frac_bits = number(x).frac_bits
    return times_integers(shifted_right(x, bits + frac_bits), np.asarray(1 << frac_bits))


def remainder(x: H, y: Public) -> H:
    """Return x - y floor(x / y) for a public power of two."""
    _power_of_two(y, "%")
    x = as_numbers(x)
    return subtract(x, times_integers(floor_divide(x, y), np.asarray(operator.index(y))))


def power(x: H, exponent: Public) -> H:
    """Return x ** n for a small public integer n >= 0, by squaring."""
    if is_shared(exponent):
        refuse_shared(exponent, "**")
    try:
        n = operator.index(exponent)
    except TypeError:
        n = -1
    if not 0 <= n <= 64:
        raise UsageError(
            f"expected a public integer exponent of 0 to 64, got {exponent!r}; roots are sqrt, exponentials exp"
        )
    x = as_numbers(x)
    if n == 0:
        return add(times_integers(x, np.asarray(0)), 1)
    result: H | None = None
    square = x
    while True:
        if n & 1:
            result = square if result is None else multiply(result, square)
        n >>= 1
        if not n:
            return result  # type: ignore[return-value]  # the highest bit is set
        square = multiply(square, square)


# Signs and rounding.


def is_negative(x: H) -> H:
    """Return the bits x < 0 of numbers."""
    return x.derive(NEGATIVE, shape=x.shape, dtype=boolean, params=(number(x).bits,))


def selected(bit: H, x: H) -> H:
    """Return x where the bit is set and 0 elsewhere."""
    return product(as_numbers(bit, number(x).bits), x, 0)


def absolute(x: H) -> H:
    """Return |x|."""
    x = as_numbers(x)
    return subtract(x, times_integers(selected(is_negative(x), x), np.asarray(2)))


def sign(x: H) -> H:
    """Return -1, 0 or 1 in the dtype of x."""
    x = as_numbers(x)
    bits = number(x).bits
    above, below = (as_numbers(is_negative(v), bits) for v in (negative(x), x))
    return rescaled(subtract(above, below), number(x))


def floor(x: H) -> H:
    """Return x rounded down, in its dtype."""
    return x if isinstance(x.dtype, IntegerType | BoolType) else floor_divide(x, 1)


def ceil(x: H) -> H:
    """Return x rounded up, in its dtype."""
    return x if isinstance(x.dtype, IntegerType | BoolType) else negative(floor(negative(x)))


def rint(x: H) -> H:
    """Return x rounded to the nearest integer, halves up, in its dtype."""
    return x if isinstance(x.dtype, IntegerType | BoolType) else floor(add(x, 0.5))


def trunc(x: H) -> H:
    """Return x rounded towards zero, in its dtype."""
    if not isinstance(x.dtype, FixedType):
        return x
    return rescaled(astype(x, IntegerType(x.dtype.bits)), x.dtype)


def astype(x: H, dtype: Any) -> H:
    """Return the array in another dtype, as numpy rounds: real numbers to integers towards zero.

    Fewer fractional bits are rounded up or down. Integers of a narrower dtype wrap.

    Raises:
      UsageError: no such conversion.
    """
    target = as_dtype(dtype)
    if target == x.dtype:
        return x
    if isinstance(target, BoolType):
        return invert(zero(as_numbers(x)))
    if isinstance(x.dtype, BoolType):
        return rescaled(as_numbers(x, target.bits), target)
    current = x.dtype
    if isinstance(target, IntegerType) and isinstance(current, FixedType):
        # Negative numbers are rounded down after adding all but one unit in the last place, which rounds them up.
        up = times_integers(
            as_numbers(is_negative(x), current.bits), np.asarray((1 << current.frac_bits) - 1)
        )
        raw = x.derive(ADD, up, shape=x.shape, dtype=IntegerType(current.bits))
        return astype(shifted_right(raw, current.frac_bits), target)
    if current.bits != target.bits:
        if not isinstance(current, IntegerType) or not isinstance(target, IntegerType):
            raise UsageError(f"{x!r} does not become {target}: convert between widths as integers")
        kernel = NARROW if target.bits < current.bits else WIDEN
        return x.derive(kernel, shape=x.shape, dtype=target, params=(current.bits,))
    if target.frac_bits >= current.frac_bits:
        return rescaled(x, target)
    fewer = current.frac_bits - target.frac_bits
    return x.derive(TRUNCATE, shape=x.shape, dtype=target, params=(current.bits, fewer))


# Matrices.


def matmul_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a matrix product of one or two dimensions each.

    Raises:
      ShapeError: inner dimensions that differ, or more dimensions.
    """
    if len(a) not in (1, 2) or len(b) not in (1, 2) or a[-1] != b[0]:
        raise ShapeError(
            f"matmul of shapes {a} and {b} is not defined here; it takes one or two dimensions each"
        )
    return a[:-1] + b[1:]


def matmul(x: H | Public, y: H | Public) -> Any:
    """Return the matrix product; at least one operand is shared, public ones hold integers or real numbers."""
    if is_shared(x) and is_shared(y):
        a, b = as_numbers(x), as_numbers(y)
        if number(a).bits != number(b).bits:
            raise UsageError(f"{x!r} and {y!r} differ in width: convert one with x.astype(...)")
        dtype, other = sorted((number(a), number(b)), key=lambda d: -d.frac_bits)
        shape = matmul_shape(a.shape, b.shape)
        return a.derive(MATMUL, b, shape=shape, dtype=dtype, params=(dtype.bits, other.frac_bits))
    shared, values = (x, public_values(y)) if is_shared(x) else (y, public_values(x))
    shared = as_reals(shared) if is_real(values) else as_numbers(shared)
    if is_shared(x):
        kernel, shape = MATMUL_RIGHT, matmul_shape(shared.shape, values.shape)
    else:
        kernel, shape = MATMUL_LEFT, matmul_shape(values.shape, shared.shape)
    dtype = number(shared)
    if not is_real(values):
        elements = elements_of(values, IntegerType(dtype.bits))
        return shared.derive(kernel, shape=shape, dtype=dtype, params=(elements,))
    elements = encode(values, dtype)
    raw = shared.derive(kernel, shape=shape, dtype=dtype, params=(elements,))
    return raw.derive(TRUNCATE, shape=shape, dtype=dtype, params=(dtype.bits, dtype.frac_bits))
