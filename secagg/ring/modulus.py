"""The ring of the integers modulo 2**bits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, ShapeError, UsageError
from secagg.ring.arrays import RingArray, dtype_for
from secagg.ring.packing import pack_bits, packed_bytes, unpack_bits
from secagg.ring.products import matmul


@dataclass(frozen=True, slots=True)
class Ring:
    """The integers modulo 2**bits, for 1 <= bits <= 64.

    Raises:
      UsageError: bits outside 1..64.
    """

    bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 64:
            raise UsageError(f"a ring has 1 to 64 bits, not {self.bits}")

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """The smallest unsigned dtype that holds an element."""
        return dtype_for(self.bits)

    @property
    def modulus(self) -> int:
        """2**bits, as a Python integer."""
        return 1 << self.bits

    @property
    def fills_dtype(self) -> bool:
        """Whether the dtype's own wraparound is reduction modulo 2**bits."""
        return self.bits in (8, 16, 32, 64)

    def reduce(self, x: RingArray, out: RingArray | None = None) -> RingArray:
        """Return x modulo 2**bits; x itself, untouched, where the dtype wraps by itself.

        Args:
          x: dtype of the ring, any shape; any values.
          out: where to write; may be x. Without it a new array is made if bits must be cleared.

        Raises:
          ShapeError: x or out has another dtype than the ring's.
        """
        self._check_dtype(x)
        if out is not None:
            self._check_dtype(out)
        if self.fills_dtype:
            if out is None or out is x:
                return x
            np.copyto(out, x)
            return out
        return np.bitwise_and(x, self.dtype.type(self.modulus - 1), out=out)

    def from_signed(self, x: NDArray[np.signedinteger[Any]]) -> RingArray:
        """Return signed integers modulo 2**bits, same shape; values beyond the ring wrap, as is meant."""
        # A cast between integer dtypes keeps the low bits, which is reduction modulo 2**width.
        return self.reduce(np.asarray(x).astype(self.dtype))

    def to_signed(self, x: RingArray) -> NDArray[np.int64]:
        """Return the representatives in [-2**(bits-1), 2**(bits-1)) as int64, same shape.

        Raises:
          ShapeError: x has another dtype than the ring's.
        """
        self._check_dtype(x)
        if self.fills_dtype:
            return x.view(np.dtype(f"i{self.dtype.itemsize}")).astype(np.int64)
        # Two's complement within `bits`: lift the sign bit to bit 63, then shift back arithmetically.
        up = x.astype(np.uint64) << np.uint64(64 - self.bits)
        signed = up.view(np.int64)
        signed >>= np.int64(64 - self.bits)
        return signed

    def check(self, x: RingArray) -> None:
        """Refuse an array that does not hold elements of this ring.

        Raises:
          ShapeError: x is not an array of the ring's dtype.
          RangeError: an element is 2**bits or more.
        """
        self._check_dtype(x)
        if not self.fills_dtype and x.size and int(np.max(x)) >= self.modulus:
            count = int(np.count_nonzero(x >= self.dtype.type(self.modulus)))
            raise RangeError(f"{count} of {x.size} elements do not fit {self.bits} bits; reduce them first")

    def matmul(self, a: RingArray, b: RingArray) -> RingArray:
        """Return the exact product of two matrices modulo 2**bits; see the function `matmul`."""
        self._check_dtype(a)
        self._check_dtype(b)
        product = matmul(a.astype(np.uint64, copy=False), b.astype(np.uint64, copy=False))
        # The cast keeps the low bits: 2**bits divides 2**64.
        return self.reduce(product.astype(self.dtype, copy=False))

    def packed_bytes(self, count: int) -> int:
        """Return how many bytes `count` elements take on the wire."""
        return packed_bytes(count, self.bits)

    def pack(self, values: RingArray) -> NDArray[np.uint8]:
        """Return elements for the wire, `bits` bits each, row after row; a view where the dtype has just so many.

        Args:
          values: dtype of the ring, any shape, elements below 2**bits.

        Raises:
          ShapeError: another dtype than the ring's.
          RangeError: an element of 2**bits or more.
        """
        self._check_dtype(values)
        flat = values.reshape(-1)
        return np.ascontiguousarray(flat).view(np.uint8) if self.fills_dtype else pack_bits(flat, self.bits)

    def unpack(self, packed: NDArray[np.uint8], shape: tuple[int, ...]) -> RingArray:
        """Return the elements that `pack` packed; a view of them where the dtype has just so many bits.

        Raises:
          ShapeError: another number of bytes than elements of this shape take, or another dtype.
          RangeError: spare bits at the end are not zero.
        """
        count = math.prod(shape)
        if packed.shape != (self.packed_bytes(count),) or packed.dtype != np.uint8:
            raise ShapeError(
                f"expected {self.packed_bytes(count)} bytes for {shape} elements of {self.bits} bits, "
                f"got {packed.dtype} {packed.shape}"
            )
        if self.fills_dtype:
            return packed.view(self.dtype).reshape(shape)
        return unpack_bits(packed, self.bits, count, self.dtype).reshape(shape)

    def _check_dtype(self, x: RingArray) -> None:
        if not isinstance(x, np.ndarray) or x.dtype != self.dtype:
            came = f"an array of {x.dtype}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"
            raise ShapeError(
                f"a ring of {self.bits} bits holds its elements in an array of {self.dtype}, not {came}"
            )
