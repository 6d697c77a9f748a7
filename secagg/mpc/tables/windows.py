"""Window functions: what a row has of its neighbours, among the rows of its partition in an order.

One sort by (valid first, partition, order). A count or sum up to a row within its partition is the running sum of the whole
table less what that was before the partition began, which is handed on from the partition's first row (`runs.carried`).
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from secagg.errors import UsageError
from secagg.mpc.arrays import arithmetic, logic, segments
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import int32, int64
from secagg.mpc.arrays.handle import as_numbers
from secagg.mpc.tables.ordering import Keys, packed, sorted_by
from secagg.mpc.tables.runs import carried, earlier, later, runs
from secagg.mpc.tables.table import Column, Table, at_least_one_row, numbered, wide

OF_ROWS: Final = ("row_number", "rank", "dense_rank")
OF_COLUMNS: Final = ("lag", "lead", "running_sum", "running_count")

Functions: TypeAlias = Mapping[str, tuple[str, str | None, int | None]]


def window(t: Table, partition_by: Sequence[str], order_by: Keys, functions: Functions) -> Table:
    """Return the table with columns added, and its rows in another order.

    Args:
      partition_by: columns; rows that are equal in them, where NULL is one value, make a partition. None: all rows.
      order_by: the order within a partition, names each with whether it descends; NULL last.
      functions: for each new column its kind, what it is of, and an option. row_number, rank and dense_rank take neither;
        of several rows that are equal in `order_by`, those get the numbers that come first in the table. lag and lead take
        a column and by how many rows, 1 or more (None: 1), and are NULL where there is no such row. running_sum and
        running_count take a column; they are of the rows up to this one (ROWS UNBOUNDED PRECEDING), without NULLs.
        A sum of no rows is NULL.
    """
    _check(t, partition_by, order_by, functions)
    t = at_least_one_row(t)
    by = [*((name, False) for name in partition_by), *order_by]
    t = _sorted(t, by)
    found = runs(t.valid, [t[name] for name in partition_by])
    work = _Work(t, found.begins, [name for name, _ in by])
    columns = {name: work.column(kind, of, option) for name, (kind, of, option) in functions.items()}
    return t.with_columns(columns)


def _sorted(t: Table, by: list[tuple[str, bool]]) -> Table:
    if not by or list(t.order.keys[: len(by)]) == by:
        return packed(t)
    return sorted_by(t, by)


def _check(t: Table, partition_by: Sequence[str], order_by: Keys, functions: Functions) -> None:
    names = [*partition_by, *(name for name, _ in order_by)]
    for name in names:
        t[name]  # raises for what is missing
    if len(set(names)) < len(names):
        raise UsageError(f"expected each column once in partition_by and order_by, got {', '.join(names)}")
    if taken := [name for name in functions if name in t.columns]:
        raise UsageError(
            f"expected new names for window functions, got {', '.join(taken)}, which the table has"
        )
    for name, (kind, of, option) in functions.items():
        if kind not in OF_ROWS + OF_COLUMNS or (of is None) != (kind in OF_ROWS):
            raise UsageError(
                f"expected {name!r} to be one of {', '.join(OF_ROWS)}, or one of {', '.join(OF_COLUMNS)} of a column, got "
                f"{kind!r} of {of!r}"
            )
        if of is not None:
            t[of]
        if option is not None and (kind not in ("lag", "lead") or _rows(option) < 1):
            raise UsageError(
                f"expected a public number of rows from 1 on for lag and lead alone, got {option!r} for {kind}"
            )


def _rows(option: Any) -> int:
    try:
        return operator.index(option)
    except TypeError:
        return 0


class _Work:
    """Window functions over a table that is sorted.

    Args:
      begins: which rows are the first of a partition.
      sorted_by: names of the columns that it is sorted by.
    """

    def __init__(self, t: Table, begins: SharedArray, sorted_by: Sequence[str]) -> None:
        self._t = t
        self._begins = begins
        self._sorted_by = sorted_by

    def column(self, kind: str, of: str | None, option: int | None) -> Column:
        if of is None:
            return Column(self._number(kind))
        column = self._t[of]
        if kind in ("lag", "lead"):
            return self._neighbour(column, option or 1, earlier if kind == "lag" else later)
        count = self._up_to(as_numbers(logic.invert(column.is_null), int64.bits))
        if kind == "running_count":
            return Column(count)
        null = None if column.null is None else logic.zero(count)
        return Column(self._up_to(wide(column.filled)), null)

    def _up_to(self, values: SharedArray) -> SharedArray:
        """Return the sums of values within the partition, up to each row."""
        total = segments.running(values)
        (before,) = carried(self._begins, [earlier(total)])
        return segments.minus(total, before)

    def _number(self, kind: str) -> SharedArray:
        place = numbered(self._begins, int64)
        if kind == "row_number":
            (first,) = carried(self._begins, [place])
            return arithmetic.add(segments.minus(place, first), 1)
        tie = runs(self._t.valid, [self._t[name] for name in self._sorted_by]).begins
        if kind == "rank":
            (first,), (equal,) = carried(self._begins, [place]), carried(tie, [place])
            return arithmetic.add(segments.minus(equal, first), 1)
        return self._up_to(as_numbers(tie, int64.bits))

    def _neighbour(self, column: Column, by: int, shift: Any) -> Column:
        number = segments.running(as_numbers(self._begins, int32.bits))  # of the partition, from 1 on
        same = logic.zero(segments.minus(number, shift(number, by)))
        is_there = logic.conjunction(same, shift(self._t.valid, by))
        null = logic.invert(is_there)
        if column.null is not None:
            null = logic.disjunction(null, shift(column.null, by))
        return Column(shift(column.values, by), null)
