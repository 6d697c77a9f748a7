"""The dtypes of shared arrays: integers, fixed-point numbers and bits; encoding and decoding of their elements.

An integer v is the ring element v modulo 2**bits, a fixed-point number v the element v * 2**frac_bits, in two's complement.
Bits lie 64 a word in C order of the elements.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, ShapeError, UsageError
from secagg.mpc.arrays.lanes import pack, unpack
from secagg.mpc.groups import XOR, Array, Group
from secagg.mpc.numbers import RingGroup, decode, encode_public
from secagg.ring import Ring


@dataclass(frozen=True, slots=True)
class IntegerType:
    """Signed integers of so many bits, which wrap."""

    bits: int = 64
    frac_bits = 0

    def __post_init__(self) -> None:
        if self.bits not in (8, 16, 32, 64):
            raise UsageError(f"expected integers of 8, 16, 32 or 64 bits, got {self.bits}")

    @property
    def ring(self) -> Ring:
        return _group(self.bits).ring

    @property
    def group(self) -> RingGroup:
        return _group(self.bits)

    def __str__(self) -> str:
        return f"int{self.bits}"


@dataclass(frozen=True, slots=True)
class FixedType:
    """Fixed-point numbers: integers of so many bits, in units of 2**-frac_bits."""

    frac_bits: int = 16
    bits: int = 64

    def __post_init__(self) -> None:
        if self.bits not in (32, 64) or not 1 <= self.frac_bits <= self.bits // 2 - 2:
            raise UsageError(
                f"expected fixed(frac_bits, bits) of 32 or 64 bits with 1 to bits / 2 - 2 fractional bits, got {self}"
            )

    @property
    def ring(self) -> Ring:
        return _group(self.bits).ring

    @property
    def group(self) -> RingGroup:
        return _group(self.bits)

    def __str__(self) -> str:
        return f"fixed({self.frac_bits})" if self.bits == 64 else f"fixed({self.frac_bits}, {self.bits})"


@dataclass(frozen=True, slots=True)
class BoolType:
    """Bits: what comparisons give."""

    @property
    def group(self) -> Group:
        return XOR

    def __str__(self) -> str:
        return "bool"


Number: TypeAlias = IntegerType | FixedType
DType: TypeAlias = Number | BoolType

int8: Final = IntegerType(8)
int16: Final = IntegerType(16)
int32: Final = IntegerType(32)
int64: Final = IntegerType(64)
boolean: Final = BoolType()
DEFAULT_FIXED: Final = FixedType(16)  # what integers become that meet real numbers


def fixed(frac_bits: int = 16, bits: int = 64) -> FixedType:
    """Return the dtype of fixed-point numbers with so many fractional bits."""
    return FixedType(frac_bits, bits)


@functools.cache
def _group(bits: int) -> RingGroup:
    return RingGroup(Ring(bits))


def as_dtype(dtype: Any) -> DType:
    """Return a dtype of shared arrays; Python's and numpy's names of integers and bool are taken too.

    Raises:
      UsageError: anything else.
    """
    if isinstance(dtype, IntegerType | FixedType | BoolType):
        return dtype
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind.kind == "b":
        return boolean
    if kind.kind == "i":
        return IntegerType(8 * kind.itemsize)
    raise UsageError(
        f"expected a dtype of shared arrays, got {dtype!r}: mpc.int64 (int32, int16, int8), bool, or mpc.fixed(16) for real "
        "numbers"
    )


def unmasked(values: Any) -> NDArray[Any]:
    """Return values as a numpy array.

    Raises:
      UsageError: a masked array, whose mask an array of numbers does not keep.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise UsageError(
            "expected an array without a mask, got a masked array: share values.filled(0), and the mask as bools"
        )
    return np.asarray(values)


def encode(values: Any, dtype: DType) -> Array:
    """Return public values as elements: of the ring in their shape, or as packed words.

    Raises:
      ShapeError: values of a kind that the dtype does not hold.
      RangeError: numbers that do not fit.
      UsageError: real numbers for integers.
    """
    numbers = unmasked(values)
    if isinstance(dtype, BoolType):
        if numbers.dtype.kind != "b":
            raise ShapeError(f"expected bool for a shared array of bool, got {numbers.dtype}")
        return pack(numbers)
    if numbers.dtype.kind == "b":
        raise ShapeError(
            f"expected numbers for a shared array of {dtype}, got bool; convert with astype(int)"
        )
    if numbers.dtype.kind == "f" and isinstance(dtype, IntegerType):
        raise UsageError(f"real numbers do not go into {dtype}: say dtype=mpc.fixed(16), or round them")
    if (
        isinstance(dtype, IntegerType)
        and numbers.size
        and numbers.dtype.kind in "iu"
        and not -(1 << dtype.bits - 1) <= int(numbers.min()) <= int(numbers.max()) < 1 << dtype.bits - 1
    ):
        raise RangeError(
            f"a number does not fit {dtype}, which goes from -2**{dtype.bits - 1} to below 2**{dtype.bits - 1}"
        )
    return encode_public(numbers, dtype.ring, dtype.frac_bits)


def decode_opened(opened: Array, dtype: DType, shape: tuple[int, ...]) -> Any:
    """Return what opened elements stand for: int64, float64 or bool; a scalar where the shape is ()."""
    if isinstance(dtype, BoolType):
        values: NDArray[Any] = unpack(opened, math.prod(shape)).astype(bool).reshape(shape)
    else:
        values = decode(opened.reshape(shape), dtype.ring, dtype.frac_bits)
    return values[()]
