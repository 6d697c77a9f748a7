"""A query's answer by DuckDB over the pooled tables of all owners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import duckdb

from secagg.query.declaration import ORG, Declaration
from secagg.query.encoding import quote_name, quote_text, take_in
from secagg.query.owner import from_mapping
from secagg.query.planner import field_of


def answer(text: str, declaration: str, tables: Mapping[str, Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Return DuckDB's rows, with its decimals and booleans as they are."""
    connection = duckdb.connect()
    for table in Declaration.parse(declaration).values():
        scan = table.scan()
        fields = [field_of(scan.column_of(c.name), c.domain) for c in scan.columns]
        own = [of for of in fields if of.name != ORG]
        selects = []
        for i, holder in enumerate(table.holders):
            source = from_mapping(tables[holder], holder)(connection, table.name)
            into = f"own {table.name} {i}"
            take_in(connection, source, own, into=into, owner=holder, table=table.name)
            org = f", {quote_text(holder)} AS {ORG}" if table.split else ""
            selects.append(f"SELECT *{org} FROM {quote_name(into)}")
        connection.execute(f"CREATE TABLE {quote_name(table.name)} AS {' UNION ALL '.join(selects)}")
    return connection.execute(text).fetchall()


def alike(ours: Sequence[tuple[Any, ...]], theirs: Sequence[tuple[Any, ...]], *, ordered: bool) -> bool:
    """Return whether rows are equal; numbers with a fraction within 1e-6 of a unit."""
    a, b = ([tuple(map(_plain, row)) for row in rows] for rows in (ours, theirs))
    if not ordered:
        a, b = sorted(a, key=_order), sorted(b, key=_order)
    return len(a) == len(b) and all(
        len(x) == len(y) and all(map(_same, x, y)) for x, y in zip(a, b, strict=True)
    )


def _plain(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    return float(value) if isinstance(value, int | float | Decimal) else str(value)


def _order(row: tuple[Any, ...]) -> list[tuple[str, Any]]:
    return [
        ("", "") if v is None else (type(v).__name__, round(v, 4) if isinstance(v, float) else v) for v in row
    ]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= 2e-6 + 1e-9 * abs(b)
    return bool(a == b)
