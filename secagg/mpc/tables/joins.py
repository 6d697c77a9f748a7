"""Joins on equal keys, in one sort of both tables: never a comparison of all pairs.

1. Rows of both are sorted by (keys, side), the right side first. A right row then stands just before the left rows that it
   matches, as the right keys are unique.
2. The first left row of a key takes the columns of the row before it, and says whether that is a match.
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
from secagg.mpc.arrays import arithmetic, comparison, logic, moves, ordering, reductions
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import boolean, int64
from secagg.mpc.tables.runs import earlier, handed_on, runs
from secagg.mpc.tables.table import Column, Order, Table, at_least_one_row, concat, constant
from secagg.mpc.tables.windows import window

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


# Several matches a key: the k-th of them, for k = 0, 1, ..., goes with the k-th copy of the other table.

_COPY: Final = "\0copy"  # no names of columns that can be declared
_FIRST: Final = "\0first"


def _to_unique(
    left: Table, right: Table, on: Sequence[tuple[str, str]], added: Sequence[str], how: str, matches: int
) -> tuple[Table, SharedArray]:
    """Return the inner or left join to a table whose keys are unique, or occur `matches` times."""
    if matches == 1:
        found = _match(left, right, on, added)
        return _joined(found, added, how), found.broken
    keys = [b for _, b in on]
    right = _plain(right).filter(_has_key(right, keys))
    right = window(right, keys, [], {_COPY: ("row_number", None, None)})
    number = arithmetic.subtract(right[_COPY].values, 1)
    too_many = logic.conjunction(right.valid, logic.invert(comparison.less(number, matches)))
    right = right.with_columns({_COPY: Column(number)})
    copies = [left.with_columns(_copy(left, k)) for k in range(matches)]
    found = _match(concat(copies), right, [*on, (_COPY, _COPY)], added)
    table = _joined(found, added, how)
    if how == "left":  # a row without any match stays once
        table = table.filter(logic.disjunction(found.matched, found.table[_FIRST].values))
    names = [name for name in table.names if name not in (_COPY, _FIRST)]
    return table.select(names), logic.disjunction(found.broken, reductions.any(too_many))


def _copy(t: Table, k: int) -> dict[str, Column]:
    number = t.engine.public(np.full(t.rows, k), dtype=int64)
    return {_COPY: Column(number), _FIRST: Column(constant(t.valid, value=k == 0))}


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
class _Match:
    """Left rows with what they match.

    Attributes:
      table: the left table's rows in another order, with columns of the right one, undefined where nothing matches.
      matched: which rows have a match.
      broken: whether two right rows have one key.
      order: of the rows that have a match.
    """

    table: Table
    matched: SharedArray
    broken: SharedArray
    order: Order

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


def _match(left: Table, right: Table, on: Sequence[tuple[str, str]], added: Sequence[str]) -> _Match:
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
    broken = reductions.any(logic.conjunction(goes_on, is_right))
    # The first left row of a key stands behind a right row, which it matches, or begins the key's run.
    matches = logic.conjunction(logic.conjunction(goes_on, is_left), earlier(is_right))
    is_first = logic.exclusive_or(
        matches, logic.conjunction(logic.exclusive_or(takes_part, goes_on), is_left)
    )
    taken = [matches, *(earlier(columns[i]) for i in at_right)]
    kept = [takes_part, *keys, *(columns[i] for i in at_left)]
    kept, taken = handed_on(is_left, is_first, left.rows, kept, taken)
    takes_part, found = kept[0], iter(kept[1:])
    key_values = {a: next(found) for a, _ in on}
    valid = next(found)
    nulls = {a: next(found) for a in key_null}
    result = {a: Column(values, nulls.get(a)) for a, values in key_values.items()}
    result |= _columns(left, of_left, found)
    matched, *others = taken
    result |= _columns(right, added, iter(others))
    order = Order(tuple((a, False) for a, _ in on))
    table = Table(result, valid, Order() if key_null else order).select([*left.names, *added])
    return _Match(table, logic.conjunction(matched, takes_part), broken, order)


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
