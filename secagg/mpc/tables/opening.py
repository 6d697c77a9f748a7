"""Opening a table: how many rows are valid, and these rows, in an order that tells nothing.

What is opened:

- to the computing parties, which rows are valid after a shuffle, or their number where rows stand in an order that may show.
  Both tell the number of valid rows and nothing else: after the shuffle, where they stand is uniform.
- to the receivers, the columns of these rows. Where a value is NULL, 0 is opened in its place.

A table shows its order after `order_by`. So does one that is sorted by keys that are unique and opened, as their order
follows from them. Other rows are shuffled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from secagg.errors import UsageError
from secagg.mpc.arrays import logic, moves, reductions
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import FixedType, boolean
from secagg.mpc.arrays.engine import Engine
from secagg.mpc.arrays.handle import as_numbers
from secagg.mpc.arrays.rehearsal import Unknown
from secagg.mpc.tables.ordering import mixed, moved, packed
from secagg.mpc.tables.table import Column, Table, cleared
from secagg.party import PartyId


async def open_table(
    t: Table, to: PartyId | Sequence[PartyId] | None = None, *, rows: int | None = None
) -> dict[str, Any]:
    """Open a table to parties; return its columns there, and None for each elsewhere.

    Columns that may be NULL are masked arrays. In a rehearsal all rows count as valid, unless `opened` says otherwise.

    Args:
      to: computing parties; by default all. With `rows` also others, which then call `mpc.receive` for the bits that say
        which rows are valid, and for each column and its NULL bits.
      rows: open so many rows, and to the receivers alone how many of them are valid. None opens the number of valid
        rows to all computing parties.

    Raises:
      UsageError: more rows are valid than `rows`; nothing else of the table has been opened then. Or `to` names a party that
        does not compute, and `rows` is missing: it does not know how many rows come.
    """
    engine = t.engine
    if not isinstance(engine, Engine):
        raise UsageError(f"expected a table of shared arrays of an Engine, got {engine!r}")
    receivers = engine.computing if to is None else (to,) if isinstance(to, str) else tuple(to)
    if rows is None and (outside := [name for name in receivers if name not in engine.computing]):
        raise UsageError(
            f"expected computing parties to open a table to, got {', '.join(outside)}, which does not know how many rows "
            "come; pass rows="
        )
    t = Table({name: Column(c.filled, c.null) for name, c in t.columns.items()}, t.valid, t.order)
    keys = {name for name, _ in t.order.keys}
    shows = t.order.shown or (t.order.unique and bool(keys) and keys <= set(t.names))
    if not shows:
        t = mixed(t)
    if rows is not None:
        return await _open_padded(engine, packed(t), to, rows)
    if not shows:
        valid = await t.valid.open()
        chosen: Any = slice(None) if isinstance(valid, Unknown) else np.flatnonzero(valid)
    else:
        t = packed(t)
        count = await reductions.sum(as_numbers(t.valid)).open()
        chosen = slice(None) if isinstance(count, Unknown) else slice(0, int(count))
    return await _open_columns(engine, _part(t, chosen), to)


def _part(t: Table, chosen: Any) -> Table:
    columns, (valid,) = moved(t.columns, [t.valid], lambda arrays: [moves.index(x, chosen) for x in arrays])
    return Table(columns, valid)


async def _open_padded(
    engine: Engine, t: Table, to: PartyId | Sequence[PartyId] | None, rows: int
) -> dict[str, Any]:
    if rows < t.rows:
        too_many = await moves.index(t.valid, rows).open()
        if not isinstance(too_many, Unknown) and too_many:
            raise UsageError(
                f"expected at most {rows} valid rows to open, got more; nothing of them was opened"
            )
        t = _part(t, slice(0, rows))
    columns = {
        name: Column(
            cleared(c.values, t.valid), None if c.null is None else logic.conjunction(c.null, t.valid)
        )
        for name, c in t.columns.items()
    }
    arrays = _arrays(columns)
    if not t.rows:
        return await _open_columns(engine, Table(columns, t.valid), to)
    valid, *opened = await engine.open(t.valid, *arrays, to=to)
    found = dict(zip(columns, _masked(columns, opened), strict=True))
    if valid is None or isinstance(valid, Unknown):
        return found
    return {name: values[: int(valid.sum())] for name, values in found.items()}


async def _open_columns(engine: Engine, t: Table, to: PartyId | Sequence[PartyId] | None) -> dict[str, Any]:
    arrays = _arrays(t.columns)
    if not arrays:
        return {}
    if not t.rows:  # no message is needed to tell that there is nothing
        here = to is None or engine.party.me in ((to,) if isinstance(to, str) else to)
        opened: list[Any] = [np.empty(0, _kind(x)) if here else None for x in arrays]
    else:
        opened = await engine.open(*arrays, to=to)
    return dict(zip(t.names, _masked(t.columns, opened), strict=True))


def _arrays(columns: Mapping[str, Column]) -> list[SharedArray]:
    arrays = []
    for column in columns.values():
        arrays += [column.values] if column.null is None else [column.values, column.null]
    return arrays


def _kind(x: SharedArray) -> type:
    return bool if x.dtype == boolean else float if isinstance(x.dtype, FixedType) else np.int64


def _masked(columns: Mapping[str, Column], opened: Sequence[Any]) -> list[Any]:
    """Return opened arrays of columns as values, masked where they may be NULL."""
    found, result = iter(opened), []
    for column in columns.values():
        values = next(found)
        if column.null is not None:
            null = next(found)
            if values is not None and not isinstance(values, Unknown):
                values = np.ma.MaskedArray(values, null)
        result.append(values)
    return result
