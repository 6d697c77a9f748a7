"""GROUP BY and DISTINCT: one sort, one pass that moves each group's last row to the front, and differences of running sums.

1. Rows are sorted by (valid first, keys). One equality a key column and row says where a group begins and ends.
2. What an aggregate sums is summed up along the whole table, for free.
3. Rows that end a group move to the front, in order, by ranks of one bit (`segments.partition`). There the sum of a group is
   the difference of two neighbours, modulo 2**64 and so exact.

Sum, count, any and all ask for nothing else. min, max and count_distinct need each group's rows sorted by the column. The
first such column is an extra sort key. Every further one costs a sort of its own.

NULL, as in SQL: groups take it as one key; aggregates leave it out, and are NULL where nothing is left, but counts are 0.
Without keys there is one row, whatever is valid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np

from secagg.errors import UsageError
from secagg.mpc.arrays import elementary, logic, moves, ordering, reductions, segments
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import BoolType, int32, int64
from secagg.mpc.arrays.handle import as_numbers
from secagg.mpc.tables.ordering import grouped_by, packed, sorted_by
from secagg.mpc.tables.runs import Runs, first_cleared, later, runs, shared_with_before
from secagg.mpc.tables.table import Column, Condition, Order, Table, at_least_one_row, cleared, holds, wide

Aggregates: TypeAlias = Mapping[str, tuple[str, str | None]]

KINDS: Final = ("sum", "count", "count_distinct", "min", "max", "mean", "any", "all", "first", "last")
_ORDERED: Final = ("min", "max", "count_distinct")
_PLACED: Final = ("first", "last")


def group_by(
    t: Table, keys: Sequence[str], aggregates: Aggregates, *, within: Condition | None = None
) -> Table:
    """Return a row for each group of valid rows that are equal in all keys, packed and sorted by them.

    Args:
      keys: columns; without any, all valid rows make the one group.
      aggregates: for each new column its kind and what it is of: `KINDS`, where count of None counts rows. Sums and
        counts are int64, or fixed as their column is; a mean is fixed(16) or as its column, and must lie below 2**15. first
        and last go by the order of the table's rows, and take NULL as it is.
      within: rows for which it does not hold make groups, and enter no aggregate (FILTER). Not for first and last.

    Returns:
      a table of as many rows as t, of which the first are valid, one a group; of one row where there are no keys.
    """
    _check(t, keys, aggregates)
    inputs, wanted = _inputs(t, keys, aggregates, within)
    t = at_least_one_row(inputs)
    return _of_groups(t, keys, wanted) if keys else _of_all(t, wanted)


def distinct(t: Table, names: Sequence[str] | None = None) -> Table:
    """Return the valid rows that differ in these columns, each once, and these columns alone; by default in all."""
    return group_by(t, t.names if names is None else names, {})


def _check(t: Table, keys: Sequence[str], aggregates: Aggregates) -> None:
    if not keys and not aggregates:
        raise UsageError("expected at least one key or aggregate to group by")
    if len(set(keys)) < len(keys) or set(keys) & set(aggregates):
        raise UsageError(
            f"expected keys and aggregates of different names, got {list(keys)} and {list(aggregates)}"
        )
    for key in keys:
        t[key]  # raises for what is missing
    for name, (kind, of) in aggregates.items():
        if kind not in KINDS or (of is None and kind != "count"):
            raise UsageError(
                f"expected {name!r} to be one of {', '.join(KINDS)} of a column, or count of None, got {kind!r} of {of!r}"
            )
        if of is None:
            continue
        is_bool = isinstance(t[of].dtype, BoolType)
        if (kind in ("any", "all")) > is_bool or (kind == "mean" and is_bool):
            raise UsageError(
                f"expected {'numbers' if is_bool else 'bools'} for {kind} of {of!r}, got {t[of].dtype}"
            )


_ROWS: Final = "\0rows"  # no name of a column that can be declared


def _inputs(
    t: Table, keys: Sequence[str], aggregates: Aggregates, within: Condition | None
) -> tuple[Table, dict[str, tuple[str, str | None]]]:
    """Return the columns that are needed, and the aggregates of them; NULL stands where `within` does not hold."""
    names = list(dict.fromkeys([*keys, *(of for _, of in aggregates.values() if of is not None)]))
    if within is None:
        return t.select(names), dict(aggregates)
    if any(kind in _PLACED for kind, _ in aggregates.values()):
        raise UsageError("expected no `within` for first and last; filter the table instead")
    outside = logic.invert(holds(within))
    restricted = {_ROWS: Column(t.valid, outside)}
    wanted: dict[str, tuple[str, str | None]] = {}
    for name, (kind, of) in aggregates.items():
        if of is None:
            wanted[name] = (kind, _ROWS)
            continue
        null = t[of].null
        either = outside if null is None else logic.disjunction(null, outside)
        restricted[of + _ROWS] = Column(t[of].values, either)
        wanted[name] = (kind, of + _ROWS)
    return t.select(keys).with_columns(restricted), wanted


def _ordered_columns(aggregates: Aggregates) -> list[str]:
    return list(dict.fromkeys(of for kind, of in aggregates.values() if kind in _ORDERED and of is not None))


# Groups.


def _of_groups(t: Table, keys: Sequence[str], aggregates: Aggregates) -> Table:
    ordered = _ordered_columns(aggregates)
    is_placed = any(kind in _PLACED for kind, _ in aggregates.values())
    is_known = {name for name, _ in t.order.keys[: len(keys)]} == set(keys)
    riding = ordered[:1] if not is_placed and not is_known else []
    t = sorted_by(t, [(name, False) for name in [*keys, *riding]]) if riding else grouped_by(t, keys)
    found = runs(t.valid, [t[key] for key in keys])
    at_ends = _AtEnds(t, found, {of: t[of] if of in riding else _within(t, found, of) for of in ordered})
    results = {name: at_ends.result(kind, of) for name, (kind, of) in aggregates.items()}
    moved = at_ends.moved(keys)
    columns = {key: Column(moved[("key", key)], moved.get(("null", key))) for key in keys}
    columns |= {name: result(moved) for name, result in results.items()}
    order = Order(t.order.keys[: len(keys)], packed=True, unique=True)
    return Table(columns, moved[("ends", "")], order)


def _within(t: Table, found: Runs, of: str) -> Column:
    """Return a column sorted within each run, NULL last; runs stay where they are."""
    group = segments.running(as_numbers(found.begins, int32.bits))
    column = t[of]
    keys, columns = [logic.invert(t.valid), group], [column.values]
    if column.null is not None:
        keys.append(column.null)
        columns.append(column.null)
    return Column(*ordering.sort_by([*keys, column.filled], columns))


_Moved: TypeAlias = Mapping[tuple[str, str], SharedArray]
_Result: TypeAlias = Callable[[_Moved], Column]


class _AtEnds:
    """What is wanted of the rows that end a group, and what becomes of it once they stand side by side.

    Args:
      t: sorted by group.
      found: its groups.
      in_order: columns that are sorted within each group.
    """

    def __init__(self, t: Table, found: Runs, in_order: Mapping[str, Column]) -> None:
        self._t = t
        self._found = found
        self._in_order = in_order
        self._arrays: dict[tuple[str, str], SharedArray] = {}

    def moved(self, keys: Sequence[str]) -> _Moved:
        """Return what is wanted, and the keys, with the rows that end a group in front."""
        arrays = {("ends", ""): self._found.ends}
        for key in keys:
            arrays["key", key] = self._t[key].values
            if (null := self._t[key].null) is not None:
                arrays["null", key] = null
        arrays |= self._arrays
        moved = segments.partition([logic.invert(self._found.ends)], list(arrays.values()))
        return dict(zip(arrays, moved, strict=True))

    def result(self, kind: str, of: str | None) -> _Result:
        """Return what makes an aggregate of the moved rows."""
        if of is None:
            return self._count(None)
        make: Callable[[str], _Result] = getattr(self, f"_{kind}")
        return make(of)

    def _summed(
        self, what: str, of: str, values: Callable[[], SharedArray]
    ) -> Callable[[_Moved], SharedArray]:
        """Return what gives a group's sum of values."""
        if (what, of) not in self._arrays:
            self._arrays[what, of] = segments.running(values())
        return lambda moved: segments.differences(moved[what, of])

    def _at_first(self, what: str, of: str, values: SharedArray) -> Callable[[_Moved], SharedArray]:
        """Return what gives the value at a group's first row, which is the row behind the group before it."""
        self._arrays[what, of] = later(values)
        first = moves.index(values, slice(0, 1))
        return lambda moved: moves.concat([first, moves.index(moved[what, of], slice(0, -1))])

    def _at_last(self, what: str, of: str, values: SharedArray) -> Callable[[_Moved], SharedArray]:
        self._arrays[what, of] = values
        return lambda moved: moved[what, of]

    def _not_null(self, of: str | None) -> Callable[[_Moved], SharedArray]:
        """Return what gives how many rows of a group are not NULL."""
        null = None if of is None else self._t[of].null
        if of is None or null is None:
            return self._summed("rows", "", lambda: constant_ones(self._t))
        return self._summed("not null", of, lambda: as_numbers(logic.invert(null), int64.bits))

    def _none(self, of: str) -> Callable[[_Moved], SharedArray | None]:
        """Return what says of which groups all rows are NULL."""
        if self._t[of].null is None:
            return lambda moved: None  # noqa: ARG005
        count = self._not_null(of)
        return lambda moved: logic.zero(count(moved))

    def _count(self, of: str | None) -> _Result:
        count = self._not_null(of)
        return lambda moved: Column(count(moved))

    def _sum(self, of: str) -> _Result:
        total = self._summed("sum", of, lambda: wide(self._t[of].filled))
        none = self._none(of)
        return lambda moved: Column(total(moved), none(moved))

    def _mean(self, of: str) -> _Result:
        total, count, none = self._sum(of), self._not_null(of), self._none(of)
        return lambda moved: Column(elementary.divide(total(moved).values, count(moved)), none(moved))

    def _any(self, of: str) -> _Result:
        count = self._summed("true", of, lambda: as_numbers(self._t[of].filled, int64.bits))
        none = self._none(of)
        return lambda moved: Column(logic.invert(logic.zero(count(moved))), none(moved))

    def _all(self, of: str) -> _Result:
        count = self._summed("false", of, lambda: as_numbers(_is_false(self._t[of]), int64.bits))
        none = self._none(of)
        return lambda moved: Column(logic.zero(count(moved)), none(moved))

    def _count_distinct(self, of: str) -> _Result:
        column = self._in_order[of]
        again = logic.conjunction(shared_with_before([column]), self._found.goes_on)
        new = logic.invert(first_cleared(again))
        if column.null is not None:
            new = logic.conjunction(new, logic.invert(column.null))
        count = self._summed("distinct", of, lambda: as_numbers(new, int64.bits))
        return lambda moved: Column(count(moved))

    def _min(self, of: str) -> _Result:
        column = self._in_order[of]
        least = self._at_first("min", of, column.values)
        none = self._none(of)
        return lambda moved: Column(least(moved), none(moved))

    def _max(self, of: str) -> _Result:
        column = self._in_order[of]
        if column.null is None:
            most = self._at_last("max", of, column.values)
            return lambda moved: Column(most(moved))
        # NULL is last: the greatest stands before the first NULL, or at the end. It is the sum of one number a group.
        is_last = logic.disjunction(self._found.ends, later(column.null))
        is_greatest = logic.conjunction(is_last, logic.invert(column.null))
        most = self._summed("max", of, lambda: cleared(column.values, is_greatest))
        none = self._none(of)
        return lambda moved: Column(most(moved), none(moved))

    def _first(self, of: str) -> _Result:
        return self._placed(of, "first", self._at_first)

    def _last(self, of: str) -> _Result:
        return self._placed(of, "last", self._at_last)

    def _placed(
        self, of: str, what: str, at: Callable[[str, str, SharedArray], Callable[[_Moved], SharedArray]]
    ) -> _Result:
        column = self._t[of]
        value = at(what, of, column.values)
        if column.null is None:
            return lambda moved: Column(value(moved))
        null = at(f"{what} is null", of, column.null)
        return lambda moved: Column(value(moved), null(moved))


def constant_ones(t: Table) -> SharedArray:
    """Return 1 for each row."""
    return t.engine.public(np.ones(t.rows, np.int64), dtype=int64)  # type: ignore[no-any-return]


def _is_false(column: Column) -> SharedArray:
    false = logic.invert(column.values)
    return false if column.null is None else logic.conjunction(false, logic.invert(column.null))


# All rows as one group.


def _of_all(t: Table, aggregates: Aggregates) -> Table:
    columns = {name: _total(t, kind, of) for name, (kind, of) in aggregates.items()}
    return Table(columns, t.engine.public(np.ones(1, bool)), Order(packed=True, unique=True))


def _total(t: Table, kind: str, of: str | None) -> Column:
    if of is None:
        return Column(_sum_of(as_numbers(t.valid)))
    column = t[of]
    if kind in _PLACED:
        return _at_either_end(packed(t), of, kind)
    counts = t.valid if column.null is None else logic.conjunction(t.valid, logic.invert(column.null))
    count = _sum_of(as_numbers(counts))
    if kind == "count":
        return Column(count)
    none = logic.zero(count)
    if kind in ("min", "max"):
        first = sorted_by(t.select([of]), [(of, kind == "max")], first=1)
        return Column(first[of].values, none)
    if kind == "count_distinct":
        in_order = sorted_by(t.select([of]), [(of, False)])
        column = in_order[of]
        begins = runs(in_order.valid, [column]).begins
        if column.null is not None:
            begins = logic.conjunction(begins, logic.invert(column.null))
        return Column(_sum_of(as_numbers(begins)))
    if kind == "any":
        return Column(logic.invert(logic.zero(_sum_of(as_numbers(cleared(column.values, counts))))), none)
    if kind == "all":
        false = logic.conjunction(logic.invert(column.values), counts)
        return Column(logic.zero(_sum_of(as_numbers(false))), none)
    total = _sum_of(cleared(wide(column.values), counts))
    return Column(elementary.divide(total, count) if kind == "mean" else total, none)


def _sum_of(x: SharedArray) -> SharedArray:
    return reductions.sum(x, keepdims=True)


def _at_either_end(t: Table, of: str, kind: str) -> Column:
    column = t[of]
    if kind == "first":
        is_there = moves.index(t.valid, slice(0, 1))
        value = moves.index(column.values, slice(0, 1))
        null = moves.index(column.is_null, slice(0, 1))
    else:
        is_last = logic.conjunction(t.valid, logic.invert(later(t.valid)))
        is_there = moves.index(t.valid, slice(0, 1))
        value = _last_of(column.values, is_last)
        null = _last_of(column.is_null, is_last)
    return Column(value, logic.disjunction(null, logic.invert(is_there)))


def _last_of(values: SharedArray, is_last: SharedArray) -> SharedArray:
    """Return the sum, or the XOR, of the one value that is marked."""
    return moves.index(segments.running(cleared(values, is_last)), slice(-1, None))
