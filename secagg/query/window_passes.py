"""Window functions of a plan as calls of `mpc.tables.window`, each of which is one sort.

Sums and counts take the window's own order. The least and the largest value of a whole partition stand in its first row once
it is sorted by them, so that each takes a sort of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from secagg.errors import PlanError
from secagg.query.algebra import SortKey, Window, WindowFunction

Functions: TypeAlias = dict[str, tuple[str, str | None, int | None]]

ORDER_SHOWS: Final = frozenset({"row_number", "lag", "lead", "running_sum", "running_count"})  # that of ties
_SHOWN: Final = {"any": "BOOL_OR", "all": "BOOL_AND", "mean": "AVG"}
_OF_ROWS: Final = ("row_number", "rank", "dense_rank")
_EXTREMES: Final = {
    "min": False,
    "all": False,
    "max": True,
    "any": True,
}  # whether the first row is to be the largest


def check(window: Window) -> None:
    """Raise `PlanError` for functions that are not computed on shares."""
    for one in window.functions:
        shown = _SHOWN.get(one.function, one.function.upper())
        if one.function in _EXTREMES and window.order_by:
            raise PlanError(
                f"{shown} over a window is computed for whole partitions alone; leave ORDER BY out of its OVER"
            )
        if one.function == "mean":
            raise PlanError(f"{shown} of {one.column}, a quotient, over a window is not computed on shares")
        if one.function not in (*_OF_ROWS, *_EXTREMES, "lag", "lead", "sum", "count"):
            raise PlanError(f"{shown} over a window is not computed on shares")


def reads(window: Window) -> tuple[str, ...]:
    """Return the columns that partitions and functions read."""
    return (
        *window.partition_by,
        *(one.column for one in window.functions if one.column is not None),
    )


def passes(window: Window, counted: str) -> Iterator[tuple[Sequence[SortKey], Functions]]:
    """Yield the orders in which partitions are sorted, each with the functions that are worked out then.

    Args:
      counted: a column without NULL.

    Raises:
      PlanError: see `check`.
    """
    check(window)
    together = {
        one.name: _call(one, counted, is_ordered=bool(window.order_by))
        for one in window.functions
        if one.function not in _EXTREMES
    }
    if together:
        yield window.order_by, together
    several: dict[tuple[str, bool], Functions] = {}
    for one in window.functions:
        if one.function in _EXTREMES:
            column = one.column or counted
            several.setdefault((column, _EXTREMES[one.function]), {})[one.name] = ("first", column, None)
    for (column, descending), functions in several.items():
        yield (SortKey(column, descending, nulls_first=False),), functions


def _call(one: WindowFunction, counted: str, *, is_ordered: bool) -> tuple[str, str | None, int | None]:
    if one.function in _OF_ROWS:
        return one.function, None, None
    if one.function in ("lag", "lead"):
        return one.function, one.column, one.offset
    up_to = ("peer_" if one.whole_peers else "running_") if is_ordered else ""
    return up_to + one.function, one.column or counted, None
