"""Numbers as ring elements, and the ring as a group that secrets live in."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, ShapeError, UsageError
from secagg.fixed_point import Plan, encode
from secagg.mpc.groups import Array
from secagg.prg import Stream
from secagg.ring import Ring, RingArray

RING64: Final = Ring(64)

Public: TypeAlias = int | float | NDArray[Any]
Numbers: TypeAlias = NDArray[np.int64] | NDArray[np.float64]


class RingGroup:
    """The elements of a ring under addition, as a group that secrets live in."""

    __slots__ = ("ring",)

    def __init__(self, ring: Ring) -> None:
        self.ring = ring

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RingGroup) and other.ring == self.ring

    def __hash__(self) -> int:
        return hash(self.ring)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.ring.dtype

    def add(self, x: Array, y: Array) -> Array:
        return np.asarray(self.ring.reduce(np.asarray(np.add(x, y))))

    def subtract(self, x: Array, y: Array) -> Array:
        return np.asarray(self.ring.reduce(np.asarray(np.subtract(x, y))))

    def draw(self, stream: Stream, shape: tuple[int, ...]) -> Array:
        return stream.ring(shape, self.ring.bits)


def encode_public(values: Public, ring: Ring, frac_bits: int) -> RingArray:
    """Return numbers as ring elements, same shape.

    Args:
      values: integers or floats. Integers without frac_bits may be anything from -2**(bits-1) to 2**bits - 1;
        other numbers must lie within 2**(bits - 2 - frac_bits) of zero.

    Raises:
      ShapeError: neither integers nor floats.
      RangeError: a number out of range, NaN or infinite.
      UsageError: floats without frac_bits.
    """
    numbers = np.asarray(values)
    if numbers.dtype.kind not in "iuf":
        raise ShapeError(f"expected integers of at most 64 bits or floats, got {numbers.dtype}")
    if numbers.dtype.kind == "f" and not frac_bits:
        raise UsageError(
            "real numbers need frac_bits: share the array with frac_bits, or round them to integers"
        )
    if frac_bits:
        limit = 2.0 ** (ring.bits - 2 - frac_bits)
        return encode(numbers, Plan(bits=ring.bits, frac_bits=frac_bits, clip=limit, parties=1)).values
    if numbers.size and not (
        -(ring.modulus >> 1) <= int(numbers.min()) and int(numbers.max()) < ring.modulus
    ):
        raise RangeError(f"an integer does not fit the ring of {ring.bits} bits")
    return np.asarray(ring.reduce(numbers.astype(ring.dtype)))


def decode(opened: RingArray, ring: Ring, frac_bits: int) -> Numbers:
    """Return the numbers that ring elements stand for: int64 without frac_bits, else float64."""
    signed = ring.to_signed(opened)
    return signed if frac_bits == 0 else np.multiply(signed, 2.0**-frac_bits, dtype=np.float64)


def truncation_range(ring: Ring, frac_bits: int) -> tuple[int, int]:
    """Return the least and the greatest z that `truncate` takes: [-2**(k-2), 2**(k-2) - 2**f].

    Values are secret, so nothing can check them where they are truncated: plan for it. For k = 64 and
    f = 16, products of numbers must stay in [-2**30, 2**30).

    Raises:
      UsageError: frac_bits outside 1..bits - 2.
    """
    if not 1 <= frac_bits <= ring.bits - 2:
        raise UsageError(
            f"a ring of {ring.bits} bits truncates by 1 to {ring.bits - 2} bits, not {frac_bits}"
        )
    quarter = 1 << (ring.bits - 2)
    return -quarter, quarter - (1 << frac_bits)


def matmul_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a matrix product.

    Raises:
      ShapeError: not one or two dimensions each, or inner ones that differ.
    """
    if len(a) not in (1, 2) or len(b) not in (1, 2) or a[-1] != b[0]:
        raise ShapeError(f"matmul of shapes {a} and {b} is not defined")
    return a[:-1] + b[1:]
