"""Window functions: what a row has of its neighbours, among the rows of its partition in an order.

One sort by (valid first, partition, order). A running sum within a partition is the table's running sum minus its value
before the partition. `runs.carried` copies that value to the partition's rows.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from secagg.errors import UsageError
from secagg.mpc.arrays import arithmetic, logic, segments
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import int32, int64
from secagg.mpc.arrays.handle import as_numbers
from secagg.mpc.tables.ordering import Keys, packed, sorted_by
from secagg.mpc.tables.runs import Runs, carried, carried_back, earlier, later, runs
from secagg.mpc.tables.table import Column, Table, at_least_one_row, numbered, wide

OF_ROWS: Final = ("row_number", "rank", "dense_rank")
OF_COLUMNS: Final = (
    *("lag", "lead", "first", "last"),
    *("sum", "count", "running_sum", "running_count", "peer_sum", "peer_count"),
)

Functions: TypeAlias = Mapping[str, tuple[str, str | None, int | None]]


def window(t: Table, partition_by: Sequence[str], order_by: Keys, functions: Functions) -> Table:
    """Return the table with columns added, and its rows in another order.

    Args:
      partition_by: columns; rows that are equal in them, where NULL is one value, make a partition. None: all rows.
      order_by: the order within a partition, names each with whether it descends; NULL last.
      functions: for each new column its kind, what it is of, and an option.

    Kinds:
      row_number, rank, dense_rank: of no column. Of rows that are equal in `order_by`, those that stand first in the table
        get the lower row number.
      lag, lead: of a column, with by how many rows, 1 or more (None: 1). NULL where there is no such row.
      first, last: the value in the partition's first or last row, NULL as it is.
      sum, count: over the whole partition, without NULLs; a sum of no rows is NULL. running_sum and running_count are of the
        rows up to this one (ROWS UNBOUNDED PRECEDING), peer_sum and peer_count also of the rows behind that are equal
        in `order_by`, as SQL has it where no frame is named.
    """
    _check(t, partition_by, order_by, functions)
    t = at_least_one_row(t)
    by = [*((name, False) for name in partition_by), *order_by]
    t = _sorted(t, by)
    found = runs(t.valid, [t[name] for name in partition_by])
    work = _Work(t, found, [name for name, _ in by])
    return t.with_columns(work.columns(functions))


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


_Carried: TypeAlias = Mapping[tuple[str, str], SharedArray]
_Result: TypeAlias = Callable[[_Carried], Column]
_Array: TypeAlias = Callable[[_Carried], SharedArray]


class _Work:
    """Window functions over a table that is sorted, and what they ask to be handed on within runs, all in one go.

    Args:
      partitions: runs of rows of one partition.
      sorted_by: names of the columns that it is sorted by.
    """

    def __init__(self, t: Table, partitions: Runs, sorted_by: Sequence[str]) -> None:
        self._t = t
        self._partitions = partitions
        self._sorted_by = sorted_by
        self._wanted: dict[str, dict[str, SharedArray]] = {}

    def columns(self, functions: Functions) -> dict[str, Column]:
        results = {name: self._result(kind, of, option) for name, (kind, of, option) in functions.items()}
        found: dict[tuple[str, str], SharedArray] = {}
        for mark, arrays in self._wanted.items():
            hand_on = carried if mark in ("begins", "tie begins") else carried_back
            values = hand_on(self._marked(mark), list(arrays.values()))
            found |= {(mark, name): value for name, value in zip(arrays, values, strict=True)}
        return {name: result(found) for name, result in results.items()}

    def _marked(self, mark: str) -> SharedArray:
        found = self._ties if mark.startswith("tie") else self._partitions
        return found.begins if mark.endswith("begins") else found.ends

    @functools.cached_property
    def _ties(self) -> Runs:
        """Runs of rows that are equal in all that the table is sorted by."""
        return runs(self._t.valid, [self._t[name] for name in self._sorted_by])

    def _from(self, mark: str, name: str, values: SharedArray) -> _Array:
        """Return what gives for each row the value at the first or last row of its run."""
        self._wanted.setdefault(mark, {}).setdefault(name, values)
        return lambda found: found[mark, name]

    def _result(self, kind: str, of: str | None, option: int | None) -> _Result:
        if of is None:
            number = self._number(kind)
            return lambda found: Column(number(found))
        column = self._t[of]
        if kind in ("lag", "lead"):
            neighbour = self._neighbour(column, option or 1, earlier if kind == "lag" else later)
            return lambda found: neighbour  # noqa: ARG005
        if kind in ("first", "last"):
            return self._end(column, of, "begins" if kind == "first" else "ends")
        up_to = {"running": "", "peer": "tie ends"}.get(kind.split("_")[0], "ends")
        count = self._sum(as_numbers(logic.invert(column.is_null), int64.bits), f"count {of}", up_to)
        if kind.endswith("count"):
            return lambda found: Column(count(found))
        total = self._sum(wide(column.filled), f"sum {of}", up_to)
        if column.null is None:
            return lambda found: Column(total(found))
        return lambda found: Column(total(found), logic.zero(count(found)))

    def _sum(self, values: SharedArray, name: str, up_to: str) -> _Array:
        """Return what gives the sums of values within the partition up to each row, or to the end of its run."""
        total = segments.running(values)
        before = self._from("begins", name, earlier(total))
        if not up_to:
            return lambda found: segments.minus(total, before(found))
        reached = self._from(up_to, name, total)
        return lambda found: segments.minus(reached(found), before(found))

    def _number(self, kind: str) -> _Array:
        if kind == "dense_rank":
            return self._sum(as_numbers(self._ties.begins, int64.bits), "ties", "")
        place = numbered(self._t.valid, int64)
        first = self._from("begins", "place", place)
        if kind == "row_number":
            return lambda found: arithmetic.add(segments.minus(place, first(found)), 1)
        equal = self._from("tie begins", "place", place)
        return lambda found: arithmetic.add(segments.minus(equal(found), first(found)), 1)

    def _end(self, column: Column, of: str, mark: str) -> _Result:
        value = self._from(mark, f"value {of}", column.values)
        if column.null is None:
            return lambda found: Column(value(found))
        null = self._from(mark, f"null {of}", column.null)
        return lambda found: Column(value(found), null(found))

    def _neighbour(self, column: Column, by: int, shift: Any) -> Column:
        number = segments.running(
            as_numbers(self._partitions.begins, int32.bits)
        )  # of the partition, from 1 on
        same = logic.zero(segments.minus(number, shift(number, by)))
        is_there = logic.conjunction(same, shift(self._t.valid, by))
        null = logic.invert(is_there)
        if column.null is not None:
            null = logic.disjunction(null, shift(column.null, by))
        return Column(shift(column.values, by), null)
