"""Runs of rows with equal keys in a table that is sorted by them: where they begin and end, and values carried along.

All are of a table whose valid rows stand first. Cost: one equality a key column and row, and one AND. `carried` copies a
value to all rows of its run. It writes the difference to the previous run at the run's first row. A prefix sum then gives
the value. This moves rows twice and needs no scan in log2(rows) levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from secagg.mpc.arrays import arithmetic, logic, moves, segments
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import BoolType, int32
from secagg.mpc.arrays.handle import as_numbers
from secagg.mpc.tables.table import Column, cleared, constant, numbered


@dataclass(frozen=True)
class Runs:
    """Runs of valid rows.

    Attributes:
      valid: which rows count.
      goes_on: which valid rows are of one run with the row before.
    """

    valid: SharedArray
    goes_on: SharedArray

    @property
    def begins(self) -> SharedArray:
        """Which rows are the first of a run."""
        return logic.exclusive_or(self.valid, self.goes_on)

    @property
    def ends(self) -> SharedArray:
        """Which rows are the last of a run."""
        return logic.exclusive_or(self.valid, later(self.goes_on))


def runs(valid: SharedArray, keys: Sequence[Column]) -> Runs:
    """Return the runs of rows with equal keys, of which NULL is one.

    Args:
      valid: set for the first rows alone.
      keys: sorted among the valid rows; none make one run.
    """
    same = shared_with_before(keys) if keys else constant(valid, value=True)
    return Runs(valid, first_cleared(logic.conjunction(valid, same)))


def shared_with_before(keys: Sequence[Column]) -> SharedArray:
    """Return for each row whether its keys are those of the row before; undefined for the first row."""
    equal: list[SharedArray] = []
    for key in keys:
        apart = segments.differences(key.filled)
        equal.append(logic.invert(apart) if isinstance(apart.dtype, BoolType) else logic.zero(apart))
        if key.null is not None:
            equal.append(logic.invert(segments.differences(key.null)))
    while len(equal) > 1:  # in pairs, so that the rounds are few
        pairs = [logic.conjunction(a, b) for a, b in zip(equal[::2], equal[1::2], strict=False)]
        equal = pairs + equal[len(pairs) * 2 :]
    return equal[0]


def rows_before(goes_on: SharedArray, most: int) -> list[SharedArray]:
    """Return for distances 1 to `most` whether the row so far before each one is of its run, in log2(most) rounds.

    Args:
      goes_on: whether the row before is.
    """
    found = [goes_on]
    while (known := len(found)) < most:
        found += [logic.conjunction(found[-1], earlier(one, known)) for one in found[: most - known]]
    return found


def first_cleared(bits: SharedArray) -> SharedArray:
    """Return bools with the first one False."""
    keep = np.ones(bits.shape[0], bool)
    keep[:1] = False
    return logic.conjunction(bits, keep)


def later(x: SharedArray, by: int = 1) -> SharedArray:
    """Return for each row what stands so many rows behind it; 0 or False for the last ones. Free."""
    return _shifted(x, min(by, x.shape[0]))


def earlier(x: SharedArray, by: int = 1) -> SharedArray:
    """Return for each row what stands so many rows before it; 0 or False for the first ones. Free."""
    return _shifted(x, -min(by, x.shape[0]))


def _shifted(x: SharedArray, by: int) -> SharedArray:
    zeros = np.zeros(abs(by), bool if isinstance(x.dtype, BoolType) else np.int64)
    nothing: SharedArray = x.engine.public(zeros, dtype=x.dtype)
    if by >= 0:
        return moves.concat([moves.index(x, slice(by, None)), nothing])
    return moves.concat([nothing, moves.index(x, slice(0, by))])


def carried(marked: SharedArray, values: Sequence[SharedArray]) -> list[SharedArray]:
    """Return for each row the values of the last marked row up to it; 0 or False before the first mark.

    1. Marked rows move to the front. There each takes its difference from the one before it; other rows take 0.
    2. All rows move back, and the differences are summed up along the table.
    """
    place, is_marked, *moved = segments.partition(
        [logic.invert(marked)], [numbered(marked, int32), marked, *values]
    )
    apart = [cleared(segments.differences(x), is_marked) for x in moved]
    return [segments.running(x) for x in segments.placed(place, apart)]


def carried_back(marked: SharedArray, values: Sequence[SharedArray]) -> list[SharedArray]:
    """Return for each row the values of the first marked row from it on; 0 or False behind the last mark."""
    return [moves.flip(x) for x in carried(moves.flip(marked), [moves.flip(x) for x in values])]


def handed_on(
    chosen: SharedArray,
    is_first: SharedArray,
    n: int,
    kept: Sequence[SharedArray],
    taken: Sequence[SharedArray],
) -> tuple[list[SharedArray], list[SharedArray]]:
    """Return the n chosen rows in their order, with the values that the last first row up to each has taken.

    Args:
      is_first: some of the chosen rows, the first of these among them.
      kept: what each chosen row keeps.
      taken: what counts of first rows alone.
    """
    is_other = logic.exclusive_or(chosen, is_first)
    place = arithmetic.subtract(segments.running(as_numbers(chosen, int32.bits)), 1)
    moved = segments.partition([is_other, logic.invert(chosen)], [place, is_first, *kept, *taken])
    place, is_first, *moved = (moves.index(x, slice(0, n)) for x in moved)
    apart = [cleared(segments.differences(x), is_first) for x in moved[len(kept) :]]
    back = segments.placed(place, [*moved[: len(kept)], *apart])
    return back[: len(kept)], [segments.running(x) for x in back[len(kept) :]]


def any_up_to(marks: Sequence[SharedArray], goes_on: SharedArray) -> list[SharedArray]:
    """Return for each row whether it or a row before it in its run is marked, in two log2(rows) rounds.

    Args:
      marks: bools, several of each row.
      goes_on: which rows are of one run with the row before.
    """
    found, by = list(marks), 1
    while by < goes_on.shape[0]:
        found = [logic.disjunction(one, logic.conjunction(earlier(one, by), goes_on)) for one in found]
        goes_on = logic.conjunction(goes_on, earlier(goes_on, by))
        by *= 2
    return found
