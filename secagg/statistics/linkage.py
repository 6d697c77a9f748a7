"""Records of two organisations that are about one person, found on shares: Dice's coefficient, threshold, best pairs.

  1  Each side lays its records into blocks of one size, empty slots among them, as bits (`encoded`). Slots of one block are
     compared, each with each.
  2  |A & B| of a pair is an inner product of bits, |A| + |B| a sum. The pair is *close* if 100 * 2 |A & B| is at least
     `threshold` times |A| + |B|: whole numbers, so exactly.
  3  The score of a pair is |A & B| * ceil(2**20 / (|A| + |B|)). It orders pairs as Dice's coefficient does (`_inverses`).
     Among equal scores the lower slots come first.
  4  A close pair is a *link* if no close pair of either record comes before it. So each record is in one link at most.

Learns: nobody anything; all results are shares. Cost: two comparisons, two maxima and two equalities a pair; bits to
numbers for each record. Exact: the plaintext twin is `linked`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, ShapeError, UsageError
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import IntegerType, int32, int64
from secagg.mpc.arrays.moves import concat, stack
from secagg.mpc.arrays.reductions import cumulative_sum
from secagg.statistics.bigrams import MOST, UNIVERSE

WIDTH: Final = (
    UNIVERSE + MOST + 1
)  # bits of a slot: which bigrams it has, and how many as one bit of MOST + 1
_SCALE: Final = 1 << 20
_MOST_PAIRS: Final = 1 << 20  # of a block
_SHORT_PAIRS: Final = 1 << 11  # up to these, places of pairs and scores fit 32 bits together


@dataclass(frozen=True, slots=True)
class Links:
    """Which pairs are linked.

    Attributes:
      pairs: bools, shape (blocks, slots of a block at the left, slots at the right).
    """

    pairs: SharedArray

    def count(self) -> SharedArray:
        """Return how many links there are, shape ()."""
        return self.pairs.astype(int64).sum()

    def sides(self) -> tuple[SharedArray, SharedArray]:
        """Return which records of the left and of the right are linked, each of shape (blocks, slots)."""
        return self.pairs.any(axis=2), self.pairs.any(axis=1)

    def numbers(self) -> tuple[SharedArray, SharedArray]:
        """Return a number for each record: the same for two that are linked, 1, 2, .. in the order of the left's slots.

        Numbers of records that are not linked are 0. Each of shape (blocks, slots).
        """
        whole = self.pairs.astype(int64)
        blocks, left, _ = self.pairs.shape
        linked = whole.sum(axis=2).reshape(-1)
        numbered = (cumulative_sum(linked) * linked).reshape(blocks, left)
        return numbered, _each(whole, numbered)

    def keys(self) -> tuple[NDArray[np.int64], SharedArray]:
        """Return a key for each record, equal for two that are linked and for no others, to join tables by.

        Each of shape (blocks, slots). A left record's key is its slot's number from 0, which is public. A right one's is
        that of the record that it is linked to, or else a number that no other slot has.
        """
        blocks, left, right = self.pairs.shape
        own = np.arange(blocks * left).reshape(blocks, left)
        whole = self.pairs.astype(int64)
        linked = whole.sum(axis=1)
        others = blocks * left + np.arange(blocks * right).reshape(blocks, right)
        return own, (whole * own[:, :, None]).sum(axis=1) + (1 - linked) * others


def encoded(records: Sequence[frozenset[int]]) -> NDArray[np.bool_]:
    """Return slots as bits, shape (slots, `WIDTH`); an empty set is an empty slot.

    Raises:
      RangeError: a set of more than `MOST` bigrams.
    """
    bits = np.zeros((len(records), WIDTH), np.bool_)
    for i, record in enumerate(records):
        if len(record) > MOST:
            raise RangeError(f"expected at most {MOST} bigrams of a record, got {len(record)}")
        bits[i, list(record)] = True
        bits[i, UNIVERSE + len(record)] = True
    return bits


def link(left: SharedArray, right: SharedArray, *, threshold: int) -> Links:
    """Return which records of two organisations are linked.

    Args:
      left, right: bools that `encoded` gave, of shape (blocks, slots of a block, `WIDTH`).
      threshold: the smallest coefficient of a link, in percent, 1 to 100.

    Raises:
      UsageError: a threshold out of range. ShapeError: other shapes, or more than 2**20 pairs in a block.
    """
    _check(left.shape, right.shape, threshold)
    blocks, rows, columns = left.shape[0], left.shape[1], right.shape[1]
    dtype = int32 if rows * columns <= _SHORT_PAIRS else int64
    a, b = _Slots.of(left, dtype), _Slots.of(right, dtype)
    inverses = _inverses()
    common = stack([a.bits[k] @ b.bits[k].T for k in range(blocks)])
    inverse = stack([(a.sizes[k] @ inverses) @ b.sizes[k].T for k in range(blocks)])
    together = a.size.reshape(blocks, rows, 1) + b.size.reshape(blocks, 1, columns)
    close = common * 200 - together * threshold >= 0
    # Earlier pairs have larger keys, so that no two of a block are equal.
    order = (rows * columns - 1 - np.arange(rows * columns)).reshape(1, rows, columns)
    key = (common * inverse * (rows * columns) + order) * close.astype(dtype)
    of_rows = key.max(axis=2).reshape(blocks, rows, 1)
    of_columns = key.max(axis=1).reshape(blocks, 1, columns)
    return Links(close & (key == of_rows) & (key == of_columns))


def linked(
    left: Sequence[Sequence[frozenset[int]]], right: Sequence[Sequence[frozenset[int]]], *, threshold: int
) -> list[tuple[int, int, int]]:
    """Return the links of records in the clear: block, slot at the left, slot at the right, in this order.

    Args:
      left, right: the sets of each slot of each block; an empty set is an empty slot.
      threshold: as in `link`.
    """
    inverses, found = _inverses(), []
    for block, (rows, columns) in enumerate(zip(left, right, strict=True)):
        filled = [(j, other) for j, other in enumerate(columns) if other]
        close = [
            (-len(one & other) * int(inverses[len(one), len(other)]), i, j)
            for i, one in enumerate(rows)
            if one
            for j, other in filled
            if 200 * len(one & other) >= threshold * (len(one) + len(other))
        ]
        close.sort(reverse=True)  # so that of each record the first pair is the last that is kept
        of_rows, of_columns = {pair[1]: pair for pair in close}, {pair[2]: pair for pair in close}
        found += sorted((block, *pair[1:]) for pair in close if of_rows[pair[1]] is of_columns[pair[2]])
    return found


@dataclass(frozen=True, slots=True)
class _Slots:
    """One side: its bigrams as numbers 0 and 1, how many each slot has as a unit vector, and as a number.

    An empty slot counts as one of 2 MOST bigrams, so that no pair with it is close.
    """

    bits: SharedArray
    sizes: SharedArray
    size: SharedArray

    @classmethod
    def of(cls, slots: SharedArray, dtype: IntegerType) -> _Slots:
        whole = slots.astype(dtype)
        sizes = whole[:, :, UNIVERSE:]
        counts = np.array([2 * MOST, *range(1, MOST + 1)])
        return cls(whole[:, :, :UNIVERSE], sizes, (sizes * counts).sum(axis=2))


def _inverses() -> NDArray[np.int64]:
    """Return ceil(2**20 / (a + b)) for a and b from 0 to `MOST`, 0 where one is 0.

    For s, t <= 128 two different i / s and j / t are at least 1 / (128 * 127) apart. Times 2**20 that is more than the 64
    by which i * ceil(2**20 / s) can exceed i * 2**20 / s. So scores have the order of Dice's coefficients; records of one
    coefficient and different sizes may have different scores.
    """
    size = np.arange(MOST + 1)
    together = size[:, None] + size[None, :]
    found: NDArray[np.int64] = -(-_SCALE // np.maximum(together, 1))
    found[0, :] = found[:, 0] = 0
    return found


def _each(whole: SharedArray, numbered: SharedArray) -> SharedArray:
    """Return for each right record the sum of the numbers of the left ones that it is linked to."""
    blocks, left, right = whole.shape
    return concat([(numbered[k].reshape(1, left) @ whole[k]).reshape(1, right) for k in range(blocks)])


def _check(left: tuple[int, ...], right: tuple[int, ...], threshold: int) -> None:
    if not 1 <= threshold <= 100:
        raise UsageError(f"expected a threshold of 1 to 100 percent, got {threshold}")
    shapes = len(left) == 3 == len(right) and left[0] == right[0] and left[2] == right[2] == WIDTH
    if not shapes or not left[1] * right[1] <= _MOST_PAIRS:
        raise ShapeError(
            f"expected slots of as many blocks with {WIDTH} bits each, and at most {_MOST_PAIRS} pairs in a block, got "
            f"shapes {left} and {right}"
        )
