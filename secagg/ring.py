"""Arithmetic modulo 2**k on unsigned numpy arrays: rings, exact matmul, bit packing, bit planes.

Elements are unsigned integers in the smallest of uint8, uint16, uint32 and uint64 that holds k bits.
Additions and products of full-width dtypes wrap modulo 2**k by themselves, which is meant everywhere;
for other widths `Ring.reduce` clears the bits above. Nothing here branches on the values of elements
except to refuse those that do not fit, so time and memory access tell nothing about shares.

Bytes and bits are little-endian throughout, on the wire as in memory.

Longer than most modules here: the four parts are each short, and all of them are what "a ring element
in a numpy array" means; the parts share the dtypes, the chunking and the checks.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, ShapeError, UsageError

__all__ = [
    "U64",
    "Ring",
    "RingArray",
    "from_planes",
    "matmul",
    "pack_bits",
    "to_planes",
    "transpose64",
    "unpack_bits",
]

if sys.byteorder != "little":
    raise ImportError("secagg needs a little-endian machine: arrays are sent as they lie in memory")

RingArray: TypeAlias = NDArray[np.unsignedinteger[Any]]
U64: TypeAlias = NDArray[np.uint64]

# Elements handled at a time where a step makes several passes: 256 KiB of uint64, so that they stay in
# the second-level cache.
_CHUNK = 1 << 15
# Packing makes up to 64 passes, each over one 64th of a chunk: longer chunks make the passes worth it.
_PACK_CHUNK = 1 << 17
# Words of each plane that are transposed at a time: 2 MiB of 64 planes measured best.
_COLUMNS = 1 << 12


def _dtype_for(bits: int) -> np.dtype[np.unsignedinteger[Any]]:
    width = next(w for w in (8, 16, 32, 64) if bits <= w)
    return np.dtype(f"u{width // 8}")


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
        return _dtype_for(self.bits)

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

    def _check_dtype(self, x: RingArray) -> None:
        if not isinstance(x, np.ndarray) or x.dtype != self.dtype:
            came = f"an array of {x.dtype}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"
            raise ShapeError(
                f"a ring of {self.bits} bits holds its elements in an array of {self.dtype}, not {came}"
            )


# Longest inner dimension of one pass of float64 products; see `matmul` for the proof.
_MAX_K = 512
_TILE = 1024

# Adding 2**21 + 2**43 + 2**63 to x and cutting the sum into digits of 22, 22 and 20 bits gives digits
# that are too large by 2**21, 2**21 and 2**19: balanced digits of x once that is taken off.
_BALANCE = np.uint64((1 << 21) + (1 << 43) + (1 << 63))
_LOW22 = np.uint64((1 << 22) - 1)
# A float64 with these upper bits and the integer u < 2**52 below them has the value 2**52 + u.
_FLOAT_2_52 = np.uint64(0x433 << 52)


def _split(x: U64, limbs: tuple[NDArray[np.float64], ...]) -> None:
    """Write float64 limbs x0, x1, x2 and x0 + x1: x = x0 + 2**22 x1 + 2**44 x2 modulo 2**64.

    x0 and x1 lie in [-2**21, 2**21), x2 in [-2**19, 2**19).
    """
    x0, x1, x2, x01 = limbs
    step = max(1, _CHUNK // max(1, x.shape[1]))
    rest = np.empty((min(step, x.shape[0]), x.shape[1]), np.uint64)
    digit = np.empty_like(rest)
    for i in range(0, x.shape[0], step):
        rows = slice(i, i + step)
        t, d = rest[: x[rows].shape[0]], digit[: x[rows].shape[0]]
        np.add(x[rows], _BALANCE, out=t)
        np.bitwise_and(t, _LOW22, out=d)
        d |= _FLOAT_2_52
        np.subtract(d.view(np.float64), 2.0**52 + 2.0**21, out=x0[rows])
        t >>= np.uint64(22)
        np.bitwise_and(t, _LOW22, out=d)
        d |= _FLOAT_2_52
        np.subtract(d.view(np.float64), 2.0**52 + 2.0**21, out=x1[rows])
        t >>= np.uint64(22)
        t |= _FLOAT_2_52
        np.subtract(t.view(np.float64), 2.0**52 + 2.0**19, out=x2[rows])
        np.add(x0[rows], x1[rows], out=x01[rows])


def _add_product(a: U64, b: U64, total: U64) -> None:
    """Add a @ b modulo 2**64 to the total by float64 products of limbs; no dimension is zero."""
    # Each operand is split into balanced limbs, x = x0 + 2**22 x1 + 2**44 x2. Terms from 2**66 up are
    # multiples of 2**64, which leaves
    #   a b = a0 b0 + 2**22 (a0 b1 + a1 b0) + 2**44 (a1 b1 + a0 b2 + a2 b0)  modulo 2**64,
    #   a0 b1 + a1 b0 = (a0 + a1)(b0 + b1) - a0 b0 - a1 b1    [Karatsuba]: five products, not six.
    # With |x0|, |x1| <= 2**21 and |x2| <= 2**19, one term is at most 2**42 in a0 b0 and a1 b1, 2**44 in
    # (a0 + a1)(b0 + b1) and 2 * 2**40 in a0 b2 + a2 b0. Over at most 2**9 terms every sum, and every
    # partial sum in whatever order (with or without fused multiply-add) BLAS takes it, is an integer of
    # at most 2**53 in absolute value. float64 holds each of these exactly, so nothing is ever rounded.
    m, k = a.shape
    n = b.shape[1]
    step = _even_step(k, _MAX_K)
    left, right = np.empty(4 * m * step), np.empty(4 * n * step)
    product, part = np.empty((m, n)), np.empty((m, n), np.uint64)
    shift = np.uint64(22)

    def multiply(p: NDArray[np.float64], q: NDArray[np.float64]) -> None:
        np.matmul(p, q, out=product)
        np.copyto(part.view(np.int64), product, casting="unsafe")

    for start in range(0, k, step):
        width = min(step, k - start)
        # a2, a0 lie side by side, b0 above b2: one product gives a2 b0 + a0 b2.
        x = left[: 4 * m * width].reshape(m, 4, width)
        y = right[: 4 * n * width].reshape(4, width, n)
        a1, a01, a2, a0 = (x[:, i] for i in range(4))
        b1, b01, b0, b2 = y
        _split(a[:, start : start + width], (a0, a1, a2, a01))
        _split(b[start : start + width], (b0, b1, b2, b01))
        # Shifts and sums wrap modulo 2**64, as is meant.
        multiply(a0, b0)
        total += part
        part <<= shift
        total -= part
        multiply(a1, b1)
        part <<= shift
        total -= part
        part <<= shift
        total += part
        multiply(a01, b01)
        part <<= shift
        total += part
        multiply(x[:, 2:].reshape(m, 2 * width), y[2:].reshape(2 * width, n))
        part <<= np.uint64(44)
        total += part


def _even_step(length: int, most: int) -> int:
    """Return the least step that covers the length in as few steps as steps of `most` do."""
    return -(-length // -(-length // most))


def matmul(a: U64, b: U64) -> U64:
    """Return a @ b modulo 2**64, exactly, through float64 BLAS where that is faster.

    Args:
      a: uint64, shape (m, k) or (k,).
      b: uint64, shape (k, n) or (k,).

    Returns uint64 of the shape that numpy's `@` gives.

    Raises:
      ShapeError: another dtype, more than two dimensions, or inner dimensions that differ.
    """
    if a.dtype != np.uint64 or b.dtype != np.uint64:
        raise ShapeError(f"matmul takes uint64 arrays, not {a.dtype} and {b.dtype}")
    if a.ndim not in (1, 2) or b.ndim not in (1, 2) or a.shape[-1] != b.shape[0]:
        raise ShapeError(f"matmul of shapes {a.shape} and {b.shape} is not defined")
    rows = a.shape[0] if a.ndim == 2 else 1
    columns = b.shape[1] if b.ndim == 2 else 1
    # Splitting costs as much as some 25 integer products an element: thin and small operands do without.
    if min(rows, columns) < 24 or rows * columns * a.shape[-1] < 1 << 18:
        small: U64 = np.asarray(a @ b)
        return small
    # Tiles bound the working memory to 100 MB; splitting anew for each costs a twentieth of its product.
    out = np.zeros((rows, columns), np.uint64)
    high, wide = _even_step(rows, _TILE), _even_step(columns, _TILE)
    for i in range(0, rows, high):
        for j in range(0, columns, wide):
            _add_product(a[i : i + high], b[:, j : j + wide], out[i : i + high, j : j + wide])
    return out


def _check_width(width: int) -> None:
    if not 1 <= width <= 64:
        raise UsageError(f"a packed element has 1 to 64 bits, not {width}")


def pack_bits(values: RingArray, width: int) -> NDArray[np.uint8]:
    """Return the elements in `width` bits each, the first in the lowest bits of the first byte.

    Args:
      values: unsigned, shape (n,), each below 2**width.
      width: 1..64.

    Returns uint8, shape (ceil(n * width / 8),); the spare bits at the end are zero.

    Raises:
      UsageError: width outside 1..64.
      ShapeError: not a one-dimensional unsigned array.
      RangeError: a value of 2**width or more.
    """
    _check_width(width)
    if values.ndim != 1 or values.dtype.kind != "u":
        raise ShapeError(f"pack_bits takes a 1-D unsigned array, not {values.ndim}-D {values.dtype}")
    n = values.size
    if width < 8 * values.itemsize and n and int(np.max(values)) >> width:
        count = int(np.count_nonzero(values >> values.dtype.type(width)))
        raise RangeError(f"{count} of {n} values do not fit {width} bits; reduce them or pack them wider")
    if width in (8, 16, 32, 64):
        return values.astype(f"u{width // 8}").view(np.uint8)
    if width == 1:
        return np.packbits(values.astype(np.uint8, copy=False), bitorder="little")
    out = np.empty(-(-n // 64) * width, np.uint64)  # 64 elements fill `width` words
    for start in range(0, n, _PACK_CHUNK):
        part = values[start : start + _PACK_CHUNK]
        groups = -(-part.size // 64)
        v = np.zeros(64 * groups, np.uint64)
        v[: part.size] = part
        w = width
        while 2 * w <= 64:
            pairs = v[1::2] << np.uint64(w)
            pairs |= v[0::2]
            v, w = pairs, 2 * w
        first = start // 64 * width
        words = out[first : first + groups * width]
        if w == 64:
            words[:] = v
        else:
            _interleave(v, w, words)
    return out.view(np.uint8)[: _packed_bytes(n, width)]


def unpack_bits(
    packed: NDArray[np.uint8],
    width: int,
    count: int,
    dtype: np.dtype[np.unsignedinteger[Any]] | type[np.unsignedinteger[Any]],
) -> RingArray:
    """Return the `count` elements that `pack_bits` packed in `width` bits each.

    Args:
      packed: uint8, shape (ceil(count * width / 8),).
      width: 1..64.
      count: number of elements, 0 or more.
      dtype: unsigned dtype of the result, of at least `width` bits.

    Returns a new array of the dtype, shape (count,).

    Raises:
      UsageError: width outside 1..64.
      ShapeError: another length than count and width give, or a dtype too small.
      RangeError: spare bits at the end are not zero.
    """
    _check_width(width)
    kind = np.dtype(dtype)
    if kind.kind != "u" or kind.itemsize * 8 < width:
        raise ShapeError(f"{kind} does not hold unsigned elements of {width} bits")
    expected = _packed_bytes(count, width)
    if count < 0 or packed.dtype != np.uint8 or packed.shape != (expected,):
        raise ShapeError(
            f"{count} elements of {width} bits come in uint8 ({expected},), not {packed.dtype} {packed.shape}"
        )
    spare = 8 * expected - count * width
    if spare and int(packed[-1]) >> (8 - spare):
        raise RangeError(f"the {spare} spare bits behind {count} elements of {width} bits are not all zero")
    if width == 1:
        return np.unpackbits(packed, count=count, bitorder="little").astype(kind, copy=False)
    if width in (8, 16, 32, 64):
        # A received buffer may start anywhere in memory; the copy aligns it.
        return packed.copy().view(f"u{width // 8}").astype(kind, copy=False)
    out: RingArray = np.empty(count, kind)
    for start in range(0, count, _PACK_CHUNK):
        part = out[start : start + _PACK_CHUNK]
        groups = -(-part.size // 64)
        first = start // 8 * width
        data = packed[first : first + groups * 8 * width]
        words = np.zeros(groups * width, np.uint64)
        words.view(np.uint8)[: data.size] = data
        halvings = (64 // width).bit_length() - 1
        w = width << halvings
        v = words if w == 64 else _deinterleave(words, w)
        for _ in range(halvings):
            w //= 2
            pairs = np.empty((v.size, 2), np.uint64)
            np.bitwise_and(v, np.uint64((1 << w) - 1), out=pairs[:, 0])
            np.right_shift(v, np.uint64(w), out=pairs[:, 1])
            v = pairs.reshape(-1)
        part[:] = v[: part.size]
    return out


def _packed_bytes(count: int, width: int) -> int:
    return -(-count * width // 8)


def _places(width: int) -> Iterator[tuple[int, int, int]]:
    """Yield element, word and shift for each element of the shortest run that ends on a word border."""
    for e in range(64 // math.gcd(64, width)):
        yield e, e * width // 64, e * width % 64


def _interleave(v: U64, width: int, words: U64) -> None:
    """Write elements of 33..63 bits one behind the other; both arrays hold whole runs."""
    run = 64 // math.gcd(64, width)
    source = np.ascontiguousarray(v.reshape(-1, run).T)
    target = np.zeros((run * width // 64, v.size // run), np.uint64)
    shifted = np.empty(source.shape[1], np.uint64)
    for e, q, shift in _places(width):
        target[q] |= np.left_shift(source[e], np.uint64(shift), out=shifted)
        if shift + width > 64:
            np.right_shift(source[e], np.uint64(64 - shift), out=target[q + 1])
    words.reshape(-1, target.shape[0])[:] = target.T


def _deinterleave(words: U64, width: int) -> U64:
    """Return the elements of 33..63 bits that lie one behind the other; the inverse of `_interleave`."""
    run = 64 // math.gcd(64, width)
    source = np.ascontiguousarray(words.reshape(-1, run * width // 64).T)
    v = np.empty((source.shape[1], run), np.uint64)
    for e, q, shift in _places(width):
        element = source[q] >> np.uint64(shift)
        if shift + width > 64:
            element |= source[q + 1] << np.uint64(64 - shift)
        np.bitwise_and(element, np.uint64((1 << width) - 1), out=v[:, e])
    return v.reshape(-1)


def transpose64(a: U64) -> U64:
    """Transpose, in place, the 64 x 64 bit matrix in each column: bit j of a[i, w] <-> bit i of a[j, w].

    An involution. It turns 64 lanes of 64 bits into 64 planes: where a[l, w] was element 64 * w + l,
    bit l of a[b, w] becomes bit b of that element; and back.

    Args:
      a: uint64, shape (64, m), C-contiguous, writable; overwritten.

    Returns a.

    Raises:
      ShapeError: another dtype, shape or layout.
    """
    flags = a.flags
    if (
        a.dtype != np.uint64
        or a.ndim != 2
        or a.shape[0] != 64
        or not (flags.c_contiguous and flags.writeable)
    ):
        raise ShapeError(
            f"transpose64 takes a writable C-contiguous uint64 array (64, m), not {a.dtype} {a.shape}"
            f" with strides {a.strides}"
        )
    for start in range(0, a.shape[1], _COLUMNS):
        part = a[:, start : start + _COLUMNS]
        block = np.ascontiguousarray(part)
        _butterfly(block)
        part[...] = block
    return a


def to_planes(values: U64, bits: int) -> U64:
    """Return the bit planes of the elements, 64 elements to a word.

    Args:
      values: uint64, shape (n,); bits from `bits` up are ignored.
      bits: number of planes, 1..64.

    Returns uint64, shape (bits, ceil(n / 64)): lane l, which is bit l counted from the lowest, of word w
    of plane b is bit b of element 64 * w + l. Lanes from n up are zero.

    Raises:
      UsageError: bits outside 1..64.
      ShapeError: not a one-dimensional uint64 array.
    """
    _check_width(bits)
    if values.dtype != np.uint64 or values.ndim != 1:
        raise ShapeError(f"to_planes takes a 1-D uint64 array, not {values.ndim}-D {values.dtype}")
    rows, lanes = _plane_block(bits)
    planes = np.empty((bits, -(-values.size // 64)), np.uint64)
    for start in range(0, planes.shape[1], _COLUMNS):
        part = planes[:, start : start + _COLUMNS]
        m = part.shape[1]
        elements = values[64 * start : 64 * (start + m)]
        if elements.size < 64 * m:
            elements = np.concatenate([elements, np.zeros(64 * m - elements.size, np.uint64)])
        block = np.empty((rows, m), np.uint64)
        # The cast to `lanes` drops the bits that no plane is asked for.
        block.view(lanes).reshape(rows, m, -1)[...] = elements.reshape(m, -1, rows).transpose(2, 0, 1)
        _butterfly(block)
        part[...] = block[:bits]
    return planes


def from_planes(planes: U64, n: int) -> U64:
    """Return the n elements whose bit planes these are; the inverse of `to_planes`.

    Args:
      planes: uint64, shape (bits, ceil(n / 64)), 1 <= bits <= 64; lanes from n up are ignored.
      n: number of elements.

    Returns uint64, shape (n,), each below 2**bits.

    Raises:
      ShapeError: another dtype or shape.
    """
    words = -(-n // 64)
    if planes.dtype != np.uint64 or planes.ndim != 2 or planes.shape[1] != words or not planes.shape[0]:
        raise ShapeError(
            f"the planes of {n} elements are uint64 (bits, {words}), not {planes.dtype} {planes.shape}"
        )
    bits = planes.shape[0]
    rows, lanes = _plane_block(bits)
    values = np.empty((words, 64), np.uint64)
    for start in range(0, words, _COLUMNS):
        part = planes[:, start : start + _COLUMNS]
        m = part.shape[1]
        block = np.zeros((rows, m), np.uint64)
        block[:bits] = part
        _butterfly(block)
        elements = values[start : start + m].reshape(m, -1, rows)
        elements[...] = block.view(lanes).reshape(rows, m, -1).transpose(1, 2, 0)
    return values.reshape(-1)[:n]


def _plane_block(bits: int) -> tuple[int, np.dtype[np.unsignedinteger[Any]]]:
    """Return how many rows a block of `bits` planes is transposed in, and the dtype of a part of a word.

    For up to 32 planes the outer stages of the 64 x 64 transposition would move zeros only. Their effect
    is to put element 32 h + i of 64 into half h of word i (quarters and eighths alike for 16 and 8).
    """
    if bits > 64:
        raise ShapeError(f"there are at most 64 planes, not {bits}")
    lanes = _dtype_for(bits)
    return 8 * lanes.itemsize, lanes


# For each width j, the lower j bits of each 2 j.
_LOWER_HALVES = {
    j: np.uint64(sum(((1 << j) - 1) << place for place in range(0, 64, 2 * j))) for j in (1, 2, 4, 8, 16, 32)
}


def _butterfly(block: U64) -> None:
    """Transpose the bits of each column in place, in squares of as many bits as there are rows.

    Recursive halving [War13, section 7-3]: the stage of width j swaps the upper j bits of
    one row with the lower j bits of the row j below it.
    """
    rows = block.shape[0]
    swapped = np.empty(block.size // 2, np.uint64)
    j = rows // 2
    while j:
        mask = _LOWER_HALVES[j]
        pairs = block.reshape(rows // (2 * j), 2, -1)
        upper, lower = pairs[:, 0], pairs[:, 1]
        t = swapped.reshape(upper.shape)
        np.right_shift(upper, np.uint64(j), out=t)
        t ^= lower
        t &= mask
        lower ^= t
        t <<= np.uint64(j)
        upper ^= t
        j //= 2
