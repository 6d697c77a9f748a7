"""Joins on equal keys, in one sort of both tables: never a comparison of all pairs.

1. Rows of both are sorted by (keys, side), the right side first. Right rows then stand just before the left rows that they
   match: one where the right keys are unique, up to m where m matches are declared.
2. The first left row of a key takes the columns of the m rows before it, and says which of these are matches.
3. It hands them on to the other left rows of its key, as running sums of differences (see `runs.carried`). On the same way
   right rows are left behind, so that the result has the rows of the left table.

NULL matches nothing, not even NULL. Duplicates in a key declared unique would lose rows. `join` returns a shared bit that
tells whether there are any. The caller opens it first, and stops if it is set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from secagg.errors import UsageError
from secagg.mpc.arrays import logic, moves, ordering, reductions
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import boolean
from secagg.mpc.tables.runs import earlier, handed_on, rows_before, runs
from secagg.mpc.tables.table import Column, Order, Table, at_least_one_row, concat, constant

KINDS: Final = ("inner", "left", "semi", "anti")


def join(
    left: Table,
    right: Table,
    on: Sequence[tuple[str, str]],
    *,
    how: str = "inner",
    unique: str = "right",
    matches: int = 1,
) -> tuple[Table, SharedArray]:
    """Return the join of two tables, and whether a declared bound does not hold: a bool, shape ().

    Args:
      on: pairs of columns, of the left and of the right table, that have to be equal; of one dtype each.
      how: inner or left; semi or anti keep left rows that have a match, or none, and take no columns.
      unique: whose keys occur at most once, "right" or "left"; semi and anti ask for neither.
      matches: how many rows on the side that `unique` names may have one key. The result has `matches` times as many
        rows as the other table, and for how="left" with unique="left" those of both.

    Returns:
      the table, with the left table's columns, then those of the right one that are not in `on`; and the bit, which is to
      be opened before anything else of the table, and to end the run where it is set.

    Raises:
      UsageError: names that occur on both sides, keys of different dtypes, or other options.
    """
    _check(left, right, on, how, unique, matches)
    left, right = at_least_one_row(left), at_least_one_row(right)
    if how in ("semi", "anti"):
        found = _match(left, right, on, ())
        alone = found.table.filter(logic.invert(found.matched))
        return found.having_match() if how == "semi" else alone, _false(left)
    added = [name for name in right.names if name not in {b for _, b in on}]
    if unique == "right":
        return _to_unique(left, right, on, added, how, matches)
    swapped = [(b, a) for a, b in on]
    inner, broken = _to_unique(
        right, left, swapped, [n for n in left.names if n not in {a for a, _ in on}], "inner", matches
    )
    inner = _plain(inner.renamed({b: a for a, b in on if a != b}).select([*left.names, *added]))
    if how == "inner":
        return inner, broken
    found = _match(left, right, on, ())
    alone = found.table.filter(logic.invert(found.matched))
    empty = {name: _null_column(alone, right[name]) for name in added}
    return concat([inner, _plain(alone.with_columns(empty))]), broken


def _check(
    left: Table, right: Table, on: Sequence[tuple[str, str]], how: str, unique: str, matches: int
) -> None:
    if how not in KINDS or unique not in ("right", "left"):
        raise UsageError(
            f"expected how among {', '.join(KINDS)}, and unique='right' or 'left', got {how!r} and {unique!r}"
        )
    if not isinstance(matches, int) or matches < 1:
        raise UsageError(f"expected matches to be a public number of at least 1, got {matches!r}")
    if not on or any(len({pair[side] for pair in on}) < len(on) for side in (0, 1)):
        raise UsageError(f"expected pairs of columns to join on, each column once, got {list(on)}")
    for a, b in on:
        if left[a].dtype != right[b].dtype:
            raise UsageError(
                f"expected {a!r} and {b!r} to be of one dtype to join on, got {left[a].dtype} and {right[b].dtype}; convert "
                "one with astype"
            )
    added = [name for name in right.names if name not in {b for _, b in on}]
    if how in ("inner", "left") and (twice := [name for name in added if name in left.columns]):
        raise UsageError(
            f"expected columns of different names on both sides, got {', '.join(twice)} twice; rename one"
        )


def _plain(t: Table) -> Table:
    return Table(t.columns, t.valid)


def _false(t: Table) -> SharedArray:
    return t.engine.public(np.zeros((), bool), dtype=boolean)  # type: ignore[no-any-return]


def _null_column(t: Table, like: Column) -> Column:
    zeros = np.zeros(t.rows, bool if like.dtype == boolean else np.int64)
    return Column(t.engine.public(zeros, dtype=like.dtype), constant(t.valid, value=True))


# Several matches a key: each left row has a slot for each, and the slots become rows.


def _to_unique(
    left: Table, right: Table, on: Sequence[tuple[str, str]], added: Sequence[str], how: str, matches: int
) -> tuple[Table, SharedArray]:
    """Return the inner or left join to a table whose keys are unique, or occur `matches` times."""
    found = _match(left, right, on, added, matches)
    return (_joined(found, added, how) if matches == 1 else _in_rows(found, added, how)), found.broken


def _in_rows(found: _Match, added: Sequence[str], how: str) -> Table:
    """Return a row for each left row and slot, side by side; a left join has a row without any match once."""
    slots, left = found.slots, found.table
    columns = {
        name: _column_of_slots([slot.columns[name] for slot in slots])
        if name in added
        else _column_of_slots([left[name]] * len(slots))
        for name in left.names
    }
    matched = _side_by_side([slot.matched for slot in slots])
    valid = _side_by_side([left.valid] * len(slots))
    if how == "inner":
        return Table(columns, logic.conjunction(valid, matched), found.order)
    is_first: SharedArray = left.engine.public(np.arange(valid.shape[0]) % len(slots) == 0)
    alone = logic.invert(matched)
    for name in added:
        column = columns[name]
        columns[name] = Column(
            column.values, alone if column.null is None else logic.disjunction(column.null, alone)
        )
    return Table(columns, logic.conjunction(valid, logic.disjunction(matched, is_first)))


def _column_of_slots(slots: Sequence[Column]) -> Column:
    values = _side_by_side([slot.values for slot in slots])
    if slots[0].null is None:
        return Column(values)
    return Column(values, _side_by_side([slot.is_null for slot in slots]))


def _side_by_side(slots: Sequence[SharedArray]) -> SharedArray:
    return moves.reshape(moves.stack(list(slots), axis=1), -1)


def _joined(found: _Match, added: Sequence[str], how: str) -> Table:
    if how == "inner":
        return found.having_match()
    alone = logic.invert(found.matched)
    columns = {}
    for name in added:
        column = found.table[name]
        null = alone if column.null is None else logic.disjunction(column.null, alone)
        columns[name] = Column(column.values, null)
    return found.table.with_columns(columns)


# The join itself.


@dataclass(frozen=True)
class _Slot:
    """Which left rows have so many matches, and the columns of that one, undefined in other rows."""

    matched: SharedArray
    columns: dict[str, Column]


@dataclass(frozen=True)
class _Match:
    """Left rows with what they match.

    Attributes:
      table: the left table's rows in another order, with columns of the first right row that matches.
      slots: the first match of each row, the second, and so on.
      broken: whether more right rows have one key than there are slots.
      order: of the rows that have a match.
    """

    table: Table
    slots: tuple[_Slot, ...]
    broken: SharedArray
    order: Order

    @property
    def matched(self) -> SharedArray:
        """Which rows have a match."""
        return self.slots[0].matched

    def having_match(self) -> Table:
        """Return the table of which only rows with a match are valid."""
        return Table(self.table.columns, self.table.valid, self.order).filter(self.matched)


def _has_key(t: Table, names: Sequence[str]) -> SharedArray:
    """Return which rows have no NULL in these columns."""
    bits = constant(t.valid, value=True)
    for name in names:
        if (null := t[name].null) is not None:
            bits = logic.conjunction(bits, logic.invert(null))
    return bits


def _match(
    left: Table, right: Table, on: Sequence[tuple[str, str]], added: Sequence[str], matches: int = 1
) -> _Match:
    of_left = [name for name in left.names if name not in {a for a, _ in on}]
    takes_part = moves.concat(
        [
            logic.conjunction(right.valid, _has_key(right, [b for _, b in on])),
            logic.conjunction(left.valid, _has_key(left, [a for a, _ in on])),
        ]
    )
    # Right rows stand first, and so before left rows of their key, as the sort is stable.
    keys = [moves.concat([right[b].values, left[a].values]) for a, b in on]
    key_null = {a: null for a, _ in on if (null := left[a].null) is not None}
    with_left = [left.valid, *key_null.values(), *_arrays(left, of_left)]
    columns, at_left, at_right = _overlaid(with_left, _arrays(right, added), right.valid)
    is_left: SharedArray = left.engine.public(np.arange(left.rows + right.rows) >= right.rows)
    is_left, takes_part, *rest = ordering.sort_by(
        [logic.invert(takes_part), *keys], [is_left, takes_part, *keys, *columns]
    )
    keys, columns = rest[: len(on)], rest[len(on) :]
    goes_on = runs(takes_part, [Column(key) for key in keys]).goes_on
    is_right = logic.invert(is_left)
    before = rows_before(goes_on, matches)
    broken = reductions.any(logic.conjunction(before[-1], is_right))
    # The first left row of a key stands behind its right rows, which it matches, or begins the key's run.
    behind_right = logic.conjunction(logic.conjunction(goes_on, is_left), earlier(is_right))
    is_first = logic.exclusive_or(
        behind_right, logic.conjunction(logic.exclusive_or(takes_part, goes_on), is_left)
    )
    taken = []
    for i, near in enumerate(before):
        taken += [logic.conjunction(is_first, near), *(earlier(columns[at], i + 1) for at in at_right)]
    kept = [takes_part, *keys, *(columns[i] for i in at_left)]
    kept, taken = handed_on(is_left, is_first, left.rows, kept, taken)
    takes_part, found = kept[0], iter(kept[1:])
    key_values = {a: next(found) for a, _ in on}
    valid = next(found)
    nulls = {a: next(found) for a in key_null}
    result = {a: Column(values, nulls.get(a)) for a, values in key_values.items()}
    result |= _columns(left, of_left, found)
    slots, width = [], 1 + len(at_right)
    for i in range(0, len(taken), width):
        of_right = _columns(right, added, iter(taken[i + 1 : i + width]))
        slots.append(_Slot(logic.conjunction(taken[i], takes_part), of_right))
    result |= slots[0].columns
    order = Order(tuple((a, False) for a, _ in on))
    table = Table(result, valid, Order() if key_null else order).select([*left.names, *added])
    return _Match(table, tuple(slots), broken, order)


def _arrays(t: Table, names: Sequence[str]) -> list[SharedArray]:
    arrays = []
    for name in names:
        column = t[name]
        arrays += [column.values] if column.null is None else [column.values, column.null]
    return arrays


def _columns(t: Table, names: Sequence[str], arrays: Iterator[SharedArray]) -> dict[str, Column]:
    """Return columns of the arrays that `_arrays` would make of them."""
    return {name: Column(next(arrays), None if t[name].null is None else next(arrays)) for name in names}


def _overlaid(
    left: Sequence[SharedArray], right: Sequence[SharedArray], like: SharedArray
) -> tuple[list[SharedArray], list[int], list[int]]:
    """Return columns of right rows above left ones, and in which of them each array lies.

    A left and a right array of one dtype lie in one column, as each row needs one of the two; so fewer bytes are moved.
    """
    columns: list[list[SharedArray | None]] = [[x, None] for x in right]
    at_left = []
    for x in left:
        free = (
            i
            for i, (above, below) in enumerate(columns)
            if below is None and above is not None and above.dtype == x.dtype
        )
        i = next(free, len(columns))
        if i == len(columns):
            columns.append([None, None])
        columns[i][1] = x
        at_left.append(i)
    return (
        [_stacked(above, below, like.shape[0], left[0].shape[0]) for above, below in columns],
        at_left,
        list(range(len(right))),
    )


def _stacked(above: SharedArray | None, below: SharedArray | None, n_above: int, n_below: int) -> SharedArray:
    parts = [
        _zeros(below, n_above) if above is None else above,
        _zeros(above, n_below) if below is None else below,
    ]
    return moves.concat(parts)


def _zeros(like: SharedArray | None, n: int) -> SharedArray:
    if like is None:
        raise TypeError("expected an array above or below")
    zeros = np.zeros(n, bool if like.dtype == boolean else np.int64)
    return like.engine.public(zeros, dtype=like.dtype)  # type: ignore[no-any-return]
