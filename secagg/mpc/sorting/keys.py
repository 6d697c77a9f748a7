"""Columns to sort by, and the table of distinct numbers that they make.

Each row's keys become one number: the first column in its highest bits, the row's place before sorting in its lowest.
Signed columns have their top bit flipped, descending ones all bits, so that numbers compare as unsigned ones. The place
makes the numbers distinct, and rows with equal keys keep their order.

All of it is linear in the shares but `Primitives.to_bits`, which turns elements of a ring into bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from secagg.cost.operation import Cost
from secagg.errors import ShapeError, UsageError
from secagg.mpc.bits import LANES
from secagg.mpc.groups import XOR, Array
from secagg.mpc.numbers import RingGroup
from secagg.mpc.primitives import Costs, Primitives, Shares, concatenate
from secagg.ring import U64, Ring, from_planes

LARGEST: Final = (1 << 31) - 1  # rows of a table; positions fit a ring of 32 bits


@dataclass(frozen=True, slots=True)
class Key:
    """A column to sort by.

    Attributes:
      column: elements of a ring, shape (rows,); or bits, one word a row, shape (rows,); or bit planes, lowest first,
        shape (bits, ceil(rows / 64)).
      bits: of a number in one word a row, 1..64; bits above are ignored. None for other columns.
      rows: of bit planes. None for other columns.
      signed: whether the top bit is a sign, in two's complement.
      descending: whether the greatest comes first.

    Raises:
      ShapeError: a column of another shape.
      UsageError: a column of another group; `bits` or `rows` missing, out of range, or given where the column says it.
    """

    column: Shares
    bits: int | None = None
    rows: int | None = None
    signed: bool = False
    descending: bool = False

    def __post_init__(self) -> None:
        if self.column.group != XOR and not isinstance(self.column.group, RingGroup):
            raise UsageError(
                f"expected elements of a ring, or bits in words of 64, got {self.column!r} of {self.column.group.dtype}"
            )
        dimensions = 2 if self.is_planes else 1
        if len(self.column.shape) != dimensions:
            raise ShapeError(
                f"expected a column (rows,) or bit planes (bits, words), got {self.column.shape}"
            )
        if (self.bits is None) == self.is_words or (self.rows is None) == self.is_planes:
            raise UsageError(
                "expected `bits` for a column of one word a row, `rows` for bit planes, and neither for elements of a ring"
            )
        if not 1 <= self.width <= 64:
            raise UsageError(f"expected keys of 1 to 64 bits, got {self.width}")
        if self.rows is not None and self.column.shape[1] != -(-self.rows // LANES):
            raise ShapeError(f"expected bit planes of {self.rows} rows, got {self.column.shape[1]} words")

    @property
    def is_planes(self) -> bool:
        return self.column.group == XOR and len(self.column.shape) == 2

    @property
    def is_words(self) -> bool:
        return self.column.group == XOR and not self.is_planes

    @property
    def width(self) -> int:
        """Bits of the numbers in this column."""
        if isinstance(self.column.group, RingGroup):
            return self.column.group.ring.bits
        return len(self.column) if self.bits is None else self.bits

    @property
    def length(self) -> int:
        """Rows of the column."""
        return len(self.column) if self.rows is None else self.rows

    @property
    def flips(self) -> int:
        """Which bits are flipped, so that numbers compare as unsigned ones in rising order."""
        return (self.signed << (self.width - 1)) ^ (((1 << self.width) - 1) * self.descending)


@dataclass(frozen=True, slots=True)
class Table:
    """Distinct numbers, a row each.

    Attributes:
      columns: of 64 bits each, the lowest first: bits of shape (columns, rows).
      bits: of the numbers; those above are zero.
      place_bits: how many of them, the lowest, hold a row's place before sorting.
    """

    columns: Shares
    bits: int
    place_bits: int

    @property
    def rows(self) -> int:
        return self.columns.shape[1]


def place_bits(rows: int) -> int:
    """Return the bits that tell rows apart."""
    return max(1, (rows - 1).bit_length())


def check_rows(keys: Sequence[Key]) -> int:
    """Return how many rows the columns have.

    Raises:
      UsageError: no columns, columns of several engines, or too many rows.
      ShapeError: columns of different lengths.
    """
    if not keys:
        raise UsageError("expected at least one column to sort by, got none")
    if any(key.column.engine is not keys[0].column.engine for key in keys):
        raise UsageError("expected columns of one engine; they belong to several")
    lengths = {key.length for key in keys}
    if len(lengths) > 1:
        raise ShapeError(f"expected columns of one length, got {sorted(lengths)} rows")
    (rows,) = lengths
    if rows > LARGEST:
        raise UsageError(f"expected at most {LARGEST} rows to sort, got {rows}")
    return rows


async def make_table(engine: Primitives, keys: Sequence[Key]) -> Table:
    """Return the table of the keys, the first of which counts most.

    Args:
      keys: columns of one length of at least 1; see `check_rows`.
    """
    n = keys[0].length
    below = place_bits(n)
    # From the lowest bits up: the place, the last column, ..., the first.
    keys = keys[::-1]
    widths = [key.width for key in keys]
    columns = await _as_words(engine, keys)
    numbers = concatenate(
        [_masked(column, width).reshape(1, n) for column, width in zip(columns, widths, strict=True)]
    )
    flips = _packed(np.array([[key.flips] for key in keys], np.uint64), widths, below)
    public = np.repeat(flips, n, axis=1)
    public[0] |= np.arange(n, dtype=np.uint64)
    packed = numbers.each(lambda part: _packed(part, widths, below))
    packed ^= engine.public(XOR, public)
    return Table(packed, below + sum(widths), below)


async def _as_words(engine: Primitives, keys: Sequence[Key]) -> list[Shares]:
    """Return each column as one word a row; columns that are elements of one ring are converted together."""
    words = {}
    rings: dict[int, list[int]] = {}
    for i, key in enumerate(keys):
        if isinstance(key.column.group, RingGroup):
            rings.setdefault(key.width, []).append(i)
        elif key.is_planes:
            words[i] = _words_of(key.column, key.length)
        else:
            words[i] = key.column
    converted = await engine.party.parallel(
        *(engine.to_bits(concatenate([keys[i].column for i in group])) for group in rings.values())
    )
    for group, planes in zip(rings.values(), converted, strict=True):
        n = keys[0].length
        together = _words_of(planes, n * len(group))
        words |= {i: together[j * n : (j + 1) * n] for j, i in enumerate(group)}
    return [words[i] for i in range(len(keys))]


def _words_of(planes: Shares, n: int) -> Shares:
    return planes.each(lambda part: from_planes(part, n))


def _masked(column: Shares, width: int) -> Shares:
    mask = np.uint64((1 << width) - 1)
    return column.each(lambda part: part & mask)


def _packed(numbers: Array, widths: Sequence[int], below: int) -> U64:
    """Return numbers of so many bits one above the other, above `below` zero bits, as columns of 64 bits."""
    out = np.zeros((-(-(below + sum(widths)) // 64), numbers.shape[1]), np.uint64)
    at = below
    for number, width in zip(numbers, widths, strict=True):
        column, shift = divmod(at, 64)
        out[column] |= number << np.uint64(shift)
        if shift + width > 64:
            out[column + 1] |= number >> np.uint64(64 - shift)
        at += width
    return out


def make_table_cost(costs: Costs, n: int, elements: Sequence[int]) -> Cost:
    """Return the cost of `make_table` of n rows.

    Args:
      elements: the ring's bits of each column that holds elements of a ring; others cost nothing.
    """
    total = Cost(0, {})
    for bits in sorted(set(elements)):
        total = total.beside(costs.to_bits(n * list(elements).count(bits), Ring(bits)))
    return total
