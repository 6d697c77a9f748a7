"""Rows of equal keys on shares: one sort, then sums over groups and values for groups in a constant number of rounds.

In sorted order a sum over a group is a difference of two prefix sums. `spread` copies a group's value to its rows by a
prefix sum of differences between groups. Prefix sums and differences are free. What costs is moving rows between the given
order, the sorted one, and one in which each group has one place: that is a permutation in secret (`mpc.sorting`) each.

Learns: nobody anything; how many groups there are does not show.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from secagg.mpc import concat, int64, inverse_permutation, sort_by
from secagg.mpc.arrays import SharedArray
from secagg.mpc.arrays.dtypes import BoolType
from secagg.mpc.arrays.ordering import PLACE
from secagg.mpc.arrays.reductions import cumulative_sum


class Groups:
    """Rows by key.

    Arrays are in one of three orders, of equal length. *Rows* stand as they were given. *Sorted* rows stand by key, then by
    `within`. *Groups* have one place each, in the order of their keys; places behind the last group hold what they hold.

    Args:
      keys: what rows of one group have in common; integers, of which equality alone counts.
      within: by what rows of a group are sorted, the first of it first.
    """

    def __init__(self, keys: Sequence[SharedArray], within: Sequence[SharedArray] = ()) -> None:
        n = keys[0].shape[0]
        self.engine = keys[0].engine
        self.places = self.engine.public(np.arange(n), dtype=int64)
        *ordered, self.order = sort_by([*keys, *within], [*keys, *within, self.places])
        self.within = ordered[len(keys) :]
        self._always = self.engine.public(np.ones(1, bool))
        differs = ordered[0][1:] != ordered[0][:-1]
        for key in ordered[1 : len(keys)]:
            differs = differs | (key[1:] != key[:-1])
        self.first = concat([self._always, differs])  # of its group, in sorted order
        self.last = concat([differs, self._always])
        self._ranks: SharedArray | None = None
        self._heads: SharedArray | None = None
        self._head_ranks: SharedArray | None = None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.order.shape[0])

    # Between the orders.

    def sorted(self, x: SharedArray) -> SharedArray:
        """Return rows in sorted order."""
        if self._ranks is None:
            self._ranks = inverse_permutation(self.order)
        return _placed(self._ranks, x)

    def unsorted(self, x: SharedArray) -> SharedArray:
        """Return sorted rows in the order of rows."""
        return _placed(self.order, x)

    @property
    def heads(self) -> SharedArray:
        """For each group where its first row stands in sorted order; behind these the other rows."""
        if self._heads is None:
            (self._heads,) = sort_by([~self.first], [self.places])
        return self._heads

    def _by_group(self, x: SharedArray) -> SharedArray:
        """Return of each group what its first row in sorted order has."""
        if self._head_ranks is None:
            self._head_ranks = inverse_permutation(self.heads)
        return _placed(self._head_ranks, x)

    def first_of(self, x: SharedArray) -> SharedArray:
        """Return of each group what its first sorted row has, and zeros behind the groups.

        Args:
          x: in sorted order.
        """
        return self._by_group(_masked(x, self.first))

    # Over groups.

    def sums(self, x: SharedArray) -> SharedArray:
        """Return the sum over each group, by group; zeros behind the groups.

        Args:
          x: in sorted order; bools are counted.
        """
        x = _number(x)
        prefix = cumulative_sum(x, axis=0)
        total = prefix[-1:]
        before = prefix - x
        # Behind the groups stands the total, so that the last group's difference is right and those behind it are zero.
        starts = self._by_group(_masked(before - total, self.first)) + total
        return concat([starts[1:], total]) - starts

    def spread(self, x: SharedArray) -> SharedArray:
        """Return for each sorted row what its group has.

        Args:
          x: by group.
        """
        x = _number(x)
        steps = concat([x[:1], x[1:] - x[:-1]])
        return cumulative_sum(_masked(_placed(self.heads, steps), self.first), axis=0)

    def is_repeated(self, owner: NDArray[np.int64]) -> SharedArray:
        """Return whether two rows of one group have the same owner, one bit.

        Args:
          owner: of each row, in the order of rows; it may not fall, so that the stable sort puts such rows side by side.
        """
        owners = self.sorted(self.engine.public(owner, dtype=int64))
        repeated: SharedArray = ~self.first[1:] & (owners[1:] == owners[:-1])
        return repeated.any()

    def place_in_group(self, mark: SharedArray) -> SharedArray:
        """Return for each sorted row how many marked rows its group has up to it.

        Args:
          mark: 0 or 1, in sorted order.
        """
        number = self.sums(mark)
        return cumulative_sum(mark, axis=0) - self.spread(cumulative_sum(number, axis=0) - number)

    def same_group(self, reach: int) -> list[SharedArray]:
        """Return for distances 1, 2, 4 and so on whether the row so far behind a sorted row is of its group.

        Args:
          reach: windows of this many rows at least are covered.
        """
        found = [~self.first[1:]]
        while 1 << len(found) < min(reach, self.rows):
            distance = 1 << (len(found) - 1)
            found.append(found[-1][:-distance] & found[-1][distance:])
        return found

    def least_nearby(self, x: SharedArray, nearby: Sequence[SharedArray]) -> SharedArray:
        """Return for each sorted row the least of its own and of the rows behind it in its group, within the reach.

        Args:
          x: int64, in sorted order.
          nearby: of `same_group`.
        """
        for i, same in enumerate(nearby):
            distance = 1 << i
            here, there = x[:-distance], x[distance:]
            x = concat([here + (there - here) * ((there < here) & same), x[-distance:]])
        return x

    def sum_each(self, x: SharedArray) -> SharedArray:
        """Return for each row the sum over its group.

        Args:
          x: in the order of rows.
        """
        return self.unsorted(self.spread(self.sums(self.sorted(_number(x)))))


def _placed(ranks: SharedArray, x: SharedArray) -> SharedArray:
    """Return y with y[ranks[i]] = x[i]."""
    return ranks.derive(PLACE, x, shape=x.shape, dtype=x.dtype)


def _number(x: SharedArray) -> SharedArray:
    return x.astype(int64) if isinstance(x.dtype, BoolType) else x


def _masked(x: SharedArray, kept: SharedArray) -> SharedArray:
    """Return rows of x where kept, zeros elsewhere; x may have columns."""
    if isinstance(x.dtype, BoolType):
        return x & kept
    return x * (kept if x.ndim == 1 else kept.reshape(-1, 1))
