"""Bit planes: 64 elements to a word, one word for each of their bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg.errors import ShapeError
from secagg.ring.arrays import U64, check_width, dtype_for

# Words of each plane that are transposed at a time: 2 MiB of 64 planes measured best.
_COLUMNS = 1 << 12


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

    Returns uint64, shape (bits, ceil(n / 64)). Lane l of a word is its bit l, counted from the lowest. Lane l of word w
    of plane b is bit b of element 64 * w + l. Lanes from n up are zero.

    Raises:
      UsageError: bits outside 1..64.
      ShapeError: not a one-dimensional uint64 array.
    """
    check_width(bits)
    if values.dtype != np.uint64 or values.ndim != 1:
        raise ShapeError(f"to_planes takes a 1-D uint64 array, not {values.ndim}-D {values.dtype}")
    words = -(-values.size // 64)
    if 0 < words <= _COLUMNS:
        return _block_planes(values, words, bits)[:bits]
    planes = np.empty((bits, words), np.uint64)
    for start in range(0, words, _COLUMNS):
        part = planes[:, start : start + _COLUMNS]
        m = part.shape[1]
        part[...] = _block_planes(values[64 * start : 64 * (start + m)], m, bits)[:bits]
    return planes


def _block_planes(values: U64, words: int, bits: int) -> U64:
    """Return the planes of few elements, shape (rows of a block, words): the lowest `bits` are asked for."""
    rows, lanes = _plane_block(bits)
    if values.size < 64 * words:
        values = np.concatenate([values, np.zeros(64 * words - values.size, np.uint64)])
    block = np.empty((rows, words), np.uint64)
    # The cast to `lanes` drops the bits that no plane is asked for.
    block.view(lanes).reshape(rows, words, -1)[...] = values.reshape(words, -1, rows).transpose(2, 0, 1)
    _butterfly(block)
    return block


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
    lanes = dtype_for(bits)
    return 8 * lanes.itemsize, lanes


# For each width j: j, and the lower j bits of each 2 j. Arrays, which numpy takes as they are.
_STAGES = {
    j: (
        np.array(j, np.uint64),
        np.array(sum(((1 << j) - 1) << place for place in range(0, 64, 2 * j)), np.uint64),
    )
    for j in (1, 2, 4, 8, 16, 32)
}


def _butterfly(block: U64) -> None:
    """Transpose the bits of each column in place, in squares of as many bits as there are rows.

    By recursive halving [War13, section 7-3]: the stage of width j swaps a row's upper j bits with the lower j bits of
    the row j below.
    """
    rows = block.shape[0]
    swapped = np.empty(block.size // 2, np.uint64)
    j = rows // 2
    while j:
        width, mask = _STAGES[j]
        pairs = block.reshape(rows // (2 * j), 2, -1)
        upper, lower = pairs[:, 0], pairs[:, 1]
        t = swapped.reshape(upper.shape)
        np.right_shift(upper, width, out=t)
        t ^= lower
        t &= mask
        lower ^= t
        t <<= width
        upper ^= t
        j //= 2


def unpack(words: NDArray[Any], n: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Return the first n bits of words packed 64 to a word, lowest first, one a byte."""
    return np.unpackbits(np.ascontiguousarray(words).view(np.uint8), count=n, bitorder="little")
