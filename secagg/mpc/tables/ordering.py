"""Rows in order: ORDER BY, LIMIT, and the sort that groups, joins and windows begin with."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from secagg.errors import UsageError
from secagg.mpc.arrays import logic, moves, ordering, segments
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.tables.table import Column, Order, Table

Keys: TypeAlias = Sequence[tuple[str, bool]]


def moved(
    columns: Mapping[str, Column],
    others: Sequence[SharedArray],
    move: Callable[[list[SharedArray]], list[SharedArray]],
) -> tuple[dict[str, Column], list[SharedArray]]:
    """Return columns and other arrays after their rows have moved, all in one go."""
    arrays = [*others]
    for column in columns.values():
        arrays += [column.values] if column.null is None else [column.values, column.null]
    found = iter(move(arrays))
    rest = [next(found) for _ in others]
    return {
        name: Column(next(found), None if column.null is None else next(found))
        for name, column in columns.items()
    }, rest


def sort_keys(t: Table, keys: Keys) -> tuple[list[SharedArray], list[bool]]:
    """Return what a table is sorted by, and which of it descends: valid rows first, then the keys, NULL last."""
    by, down = [logic.invert(t.valid)], [False]
    for name, descending in keys:
        column = t[name]
        if column.null is not None:
            by.append(column.null)
            down.append(False)
        by.append(column.filled)
        down.append(descending)
    return by, down


def packed(t: Table) -> Table:
    """Return the table with its valid rows first, in the order that they have."""
    if t.order.packed:
        return t
    columns, (valid,) = moved(
        t.columns, [t.valid], lambda arrays: segments.partition([logic.invert(t.valid)], arrays)
    )
    return Table(columns, valid, dataclasses.replace(t.order, packed=True))


def sorted_by(t: Table, keys: Keys, *, first: int | None = None) -> Table:
    """Return the table with its valid rows first, sorted; rows with equal keys keep their order, which may tell of them."""
    by, down = sort_keys(t, keys)
    columns, (valid,) = moved(
        t.columns, [t.valid], lambda arrays: ordering.sort_by(by, arrays, descending=down, first=first)
    )
    return Table(columns, valid, Order(tuple(keys), packed=True))


def grouped_by(t: Table, names: Sequence[str]) -> Table:
    """Return the table with valid rows first, and those that are equal in these columns side by side."""
    known = [name for name, _ in t.order.keys[: len(names)]]
    if set(known) == set(names):
        return packed(t)
    return sorted_by(t, [(name, False) for name in names])


def mixed(t: Table) -> Table:
    """Return the table with its rows in an order that nobody knows."""
    columns, (valid,) = moved(t.columns, [t.valid], segments.shuffled)
    return Table(columns, valid)


def order_by(t: Table, keys: Keys, *, first: int | None = None) -> Table:
    """Return the table sorted by columns, valid rows first; NULL is last, and ties are in a random order.

    Args:
      keys: names, each with whether it descends; the first counts most.
      first: how many rows to return (LIMIT); None for all. Rows that cannot be among them are not sorted.
    """
    if not keys:
        raise UsageError("expected at least one column to order by")
    if first is not None:
        first = min(_count(first), t.rows)
    # Ties would otherwise stand in the order of the input, which tells whose rows they are.
    ordered = sorted_by(mixed(t), keys, first=first)
    return dataclasses.replace(ordered, order=dataclasses.replace(ordered.order, shown=True))


def limit(t: Table, k: int) -> Table:
    """Return the first k rows of a table after `order_by`, and k random ones of another; k is public.

    Fewer are valid where the table has fewer valid rows.
    """
    k = _count(k)
    if not (t.order.packed and t.order.shown):
        if k >= t.rows:
            return t
        t = packed(t) if t.order.shown else packed(mixed(t))
    if k >= t.rows:
        return t
    columns, (valid,) = moved(
        t.columns, [t.valid], lambda arrays: [moves.index(array, slice(0, k)) for array in arrays]
    )
    return Table(columns, valid, t.order)


def _count(k: int) -> int:
    try:
        number = operator.index(k)
    except TypeError:
        number = -1
    if number < 0:
        raise UsageError(f"expected a public number of rows of at least 0, got {k!r}")
    return number
