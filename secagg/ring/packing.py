"""Elements of 1 to 64 bits, packed one behind the other into bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, ShapeError
from secagg.ring.arrays import U64, RingArray, check_width

# Packing makes up to 64 passes, each over one 64th of a chunk: longer chunks make the passes worth it.
_PACK_CHUNK = 1 << 17


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
    check_width(width)
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
    return out.view(np.uint8)[: packed_bytes(n, width)]


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
    check_width(width)
    kind = np.dtype(dtype)
    if kind.kind != "u" or kind.itemsize * 8 < width:
        raise ShapeError(f"{kind} does not hold unsigned elements of {width} bits")
    expected = packed_bytes(count, width)
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
        first = start // 8 * width
        _unpack(packed[first : first + packed_bytes(part.size, width)], width, part)
    return out


def packed_bytes(count: int, width: int) -> int:
    """Return how many bytes `count` elements of `width` bits take."""
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


def _unpack(data: NDArray[np.uint8], width: int, out: RingArray) -> None:
    """Write the elements of one chunk to `out`, in a pass for each place that an element has within a byte.

    Elements of one place lie `period` bytes apart. A word from where each begins, at any address, has it whole, or all
    but some bits of the byte behind.
    """
    step = math.gcd(width, 8)
    places, period = 8 // step, width // step
    word = np.uint32 if width + 8 - step <= 32 else np.uint64
    mask = word((1 << width) - 1)
    padded = np.zeros(
        -(-out.size // places) * period + 9, np.uint8
    )  # a word and a byte from the last element
    padded[: data.size] = data
    for place in range(places):
        target = out[place::places]
        at, shift = divmod(place * width, 8)
        elements = np.ndarray((target.size,), word, padded, at, (period,)) >> word(shift)
        if shift + width > 64:
            behind = np.ndarray((target.size,), np.uint8, padded, at + 8, (period,))
            elements |= behind.astype(np.uint64) << np.uint64(64 - shift)
        np.bitwise_and(elements, mask, out=target, casting="same_kind")
