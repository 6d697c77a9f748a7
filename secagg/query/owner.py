"""What an owner does alone: its tables are checked, its own SQL runs in DuckDB, and the result becomes what it shares.

Nothing leaves here. An error is raised before anything is announced.
"""

# ruff: noqa: S608  names are quoted, and the SQL is made of a plan

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from secagg.errors import DataError, RangeError
from secagg.protocols.row_counts import padded
from secagg.query.algebra import Scan, relations
from secagg.query.blocks import Block, matrices
from secagg.query.encoding import Connection, Encoded, encode, pseudonymous, quote_name, take_in
from secagg.query.planner import Local, Plan, field_of
from secagg.query.schema import Identifier

Source = Callable[
    [Connection, str], str
]  # makes a table of an owner known to DuckDB; returns what stands after FROM


@dataclass(frozen=True, slots=True)
class Part:
    """What an owner has for one leaf.

    Attributes:
      columns: as it shares them, but for padding and pseudonyms.
      rows: which rows count.
      announced: how many rows it tells, before they are rounded up; None for a dense group-by.
    """

    local: Local
    columns: tuple[Encoded, ...] = field(repr=False)
    rows: NDArray[np.bool_] = field(repr=False)
    announced: int | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What an owner puts in; its `repr` shows no value."""

    owner: str
    parts: tuple[Part, ...]

    def counts(self, step: int) -> tuple[int, ...]:
        """Return the row counts that it announces."""
        return tuple(padded(part.announced, step) for part in self.parts if part.announced is not None)

    @property
    def columns(self) -> list[Encoded]:
        """All columns, in the order in which they are shared."""
        return [column for part in self.parts for column in part.columns]

    def shared(self, blocks: Sequence[Block], key: bytes | None) -> tuple[list[Any], dict[int, str]]:
        """Return what it shares, and the names of its identifiers.

        Args:
          blocks: its own, in order.
          key: of the pseudonyms; None where the plan has no identifiers.
        """
        names: dict[int, str] = {}
        found = []
        for part, block in zip(self.parts, blocks, strict=True):
            columns = []
            for column in part.columns:
                if column.of.kind == "identifier" and key is not None:
                    values, known = pseudonymous(column, key)
                    names |= known
                else:
                    values = column.values
                columns.append((column, values))
            found.append(matrices(block, columns, part.rows))
        return found, names


def prepare(plan: Plan, owner: str, source: Source, *, announce_filtered: bool) -> Prepared:
    """Return what an owner puts in.

    Args:
      source: of the owner's tables.
      announce_filtered: announce how many rows the owner's own part leaves, not how many its table has.

    Raises:
      DataError: rows that the declaration does not allow; see `take_in`.
      RangeError: more rows than declared.
    """
    connection = duckdb.connect()
    try:
        sizes = {table: _taken(connection, plan, owner, table, source) for table in _tables(plan, owner)}
        parts = []
        for local in plan.of(owner):
            part = _part(connection, local, owner, sizes[local.table])
            if announce_filtered and part.announced is not None:
                part = Part(local, part.columns, part.rows, len(part.rows))
            parts.append(part)
        return Prepared(owner, tuple(parts))
    except duckdb.Error as error:
        raise DataError(f"{owner}: DuckDB cannot compute this part: {type(error).__name__}") from None
    finally:
        connection.close()


def _tables(plan: Plan, owner: str) -> list[str]:
    return list(dict.fromkeys(local.table for local in plan.of(owner)))


def _taken(connection: Connection, plan: Plan, owner: str, table: str, source: Source) -> int:
    """Take in one table, with the columns that the plan reads; return its number of rows."""
    declared = plan.declaration[table]
    read: dict[str, Any] = {}
    for local in plan.of(owner):
        for scan in relations(local.relation):
            if isinstance(scan, Scan) and scan.table == table:
                read |= {scan.column_of(c.name): c.domain for c in scan.columns}
    fields = [field_of(name, domain) for name, domain in read.items() if name in declared.schema]
    rows = take_in(connection, source(connection, table), fields, into=table, owner=owner, table=table)
    if rows > declared.max_rows:
        raise RangeError(
            f"{owner}: {table} has {rows} rows, and at most {declared.max_rows} are declared (max_rows); nothing was sent"
        )
    for key in declared.keys:
        columns = [name for name in key if name in declared.schema]
        if columns and set(key) <= read.keys() | {"org"}:
            _check_unique(connection, owner, table, columns)
    for name in read:
        kind = declared.schema.get(name)
        if isinstance(kind, Identifier) and kind.max_rows is not None:
            _check_repeated(connection, owner, table, name, kind.max_rows)
    return rows


def _check_unique(connection: Connection, owner: str, table: str, key: Sequence[str]) -> None:
    names = ", ".join(map(quote_name, key))
    known = " AND ".join(f"{quote_name(name)} IS NOT NULL" for name in key)
    again = f"SELECT count(*) FROM (SELECT 1 FROM {quote_name(table)} WHERE {known} GROUP BY {names} HAVING count(*) > 1)"
    found = connection.execute(again).fetchall()[0][0]
    if found:
        raise DataError(
            f"{owner}: {table} declares {', '.join(key)} unique; values that stand in several rows: {found}; nothing was "
            "sent; mend the rows, or agree on a declaration without this key"
        )


def _check_repeated(connection: Connection, owner: str, table: str, column: str, most: int) -> None:
    name = quote_name(column)
    counted = f"SELECT count(*) AS n FROM {quote_name(table)} WHERE {name} IS NOT NULL GROUP BY {name} HAVING n > {most}"
    found, largest = connection.execute(f"SELECT count(*), max(n) FROM ({counted})").fetchall()[0]
    if found:
        raise DataError(
            f"{owner}: {table} declares at most {most} rows of one {column} (max_rows); identifiers with more: {found}, the "
            f"largest with {largest}; nothing was sent; agree on a larger max_rows, or leave rows out"
        )


def _part(connection: Connection, local: Local, owner: str, table_rows: int) -> Part:
    sql = local.sql(owner, {local.table: quote_name(local.table)})
    if local.is_dense:
        return _dense(connection, local, owner, sql)
    columns = encode(connection, sql, local.fields_of(owner), owner=owner, what=local.table)
    rows = (
        len(columns[0])
        if columns
        else int(connection.execute(f"SELECT count(*) FROM ({sql})").fetchall()[0][0])
    )
    return Part(local, tuple(columns), np.ones(rows, bool), table_rows)


def _dense(connection: Connection, local: Local, owner: str, sql: str) -> Part:
    """Return a row for each combination of keys."""
    keys = [field_of(key.name, key.domain) for key in local.keys]
    found = encode(connection, sql, [*keys, *local.fields_of(owner)], owner=owner, what=local.table)
    place = np.zeros(len(found[0]), np.int64)
    for key, column in zip(local.keys, found, strict=False):
        low, high = key.domain.bounds
        size = high - low + 1 + key.domain.nullable
        value = (
            column.values - low
            if column.null is None
            else np.where(column.null, size - 1, column.values - low)
        )
        place = place * size + value
    columns = []
    for column in found[len(keys) :]:
        values = np.zeros(local.per_holder, np.int64)
        values[place] = column.values
        null = None
        if column.null is not None:
            null = np.ones(local.per_holder, bool)
            null[place] = column.null
        columns.append(Encoded(column.of, values, null))
    return Part(local, tuple(columns), np.ones(local.per_holder, bool), None)


def from_mapping(held: Mapping[str, Any], owner: str) -> Source:
    """Return the source of tables that are Python's or Arrow's: whatever DuckDB takes as a relation, or columns of lists."""

    def known(connection: Connection, table: str) -> str:
        if table not in held:
            raise DataError(f"{owner}: expected the table {table}, got {', '.join(held) or 'none'}")
        given = held[table]
        if isinstance(given, Mapping):
            return _table_of(connection, given, owner, table)
        connection.register(f"given {table}", given)
        return quote_name(f"given {table}")

    return known


def _table_of(connection: Connection, columns: Mapping[str, Sequence[Any]], owner: str, table: str) -> str:
    """Make a table of columns of Python's values; return its name."""
    lists = {name: list(values) for name, values in columns.items()}
    lengths = {len(values) for values in lists.values()}
    if len(lengths) != 1:
        raise DataError(f"{owner}: expected columns of one length in {table}, got {sorted(lengths)}")
    name = quote_name(f"given {table}")
    if lengths == {0} or any(all(value is None for value in values) for values in lists.values()):
        typed = [  # DuckDB knows no type of a list without values
            f"unnest({'CAST(? AS VARCHAR[])' if all(v is None for v in values) else '?'}) AS {quote_name(column)}"
            for column, values in lists.items()
        ]
    else:
        typed = [f"unnest(?) AS {quote_name(column)}" for column in lists]
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT {', '.join(typed)}", list(lists.values())
    )
    return name
