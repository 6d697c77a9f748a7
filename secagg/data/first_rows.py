"""The first rows of a table, looked at before a run: whether its columns have types and forms that a run takes."""

# ruff: noqa: S608  SQL is put together here from relations of `sources`.

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import duckdb

from secagg.data.checks import Fault, checked_rows
from secagg.data.columns import ColumnMap, resolve_columns
from secagg.data.conventions import Conventions
from secagg.data.dialect import Dialect
from secagg.data.reports import FaultCount
from secagg.data.sources import Place, find_sources, open_source
from secagg.data.times import TimeBound, window_of
from secagg.errors import DataError
from secagg.query.schema import Schema

__all__ = ["first_faults"]


def first_faults(
    source: Place | Sequence[Place],
    schema: Schema,
    limit: int,
    *,
    conventions: Conventions,
    dialect: Dialect,
    mapping: ColumnMap | str | None = None,
    window: tuple[TimeBound, TimeBound] | None = None,
) -> list[FaultCount]:
    """Return what is wrong with so many rows of each file or database, counted; arguments as `read_table`.

    Identifiers are not spelt, and rows outside the window are looked at too.

    Raises:
      DataError: a column is missing or has a type that no run takes, or nothing can be read.
    """
    bounds = window_of(window)
    counts: collections.Counter[Fault] = collections.Counter()
    for one in find_sources(source):
        with contextlib.ExitStack() as opened:
            table = opened.enter_context(contextlib.closing(open_source(one, dialect)))
            columns = resolve_columns(
                tuple(table.columns), mapping, schema, table=table.name, written=table.written_header
            )
            if isinstance(one, str | Path):
                table = dataclasses.replace(table, relation=f"(SELECT * FROM {table.relation} LIMIT {limit})")
            else:
                needed = [name for names in columns.values() for name in names]
                table = opened.enter_context(contextlib.closing(one.first(needed, limit)))
            query = checked_rows(
                table, columns, schema, (bounds.start, bounds.end), conventions, dialect, bounds.times
            )
            failure = None
            try:
                found = table.connection.execute(
                    f"SELECT why, count(*) FROM ({query.rows}) WHERE why > 0 GROUP BY why"
                ).fetchall()
            except duckdb.Error as error:
                failure = DataError(f"{table.name}: DuckDB cannot read the table ({type(error).__name__})")
            if failure is not None:
                raise failure
            for number, rows in found:
                counts[query.faults[number - 1]] += rows
    return [FaultCount(fault.column, fault.reason, rows) for fault, rows in counts.most_common()]
