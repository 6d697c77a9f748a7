"""Tables that were read by their schema, as an owner's DuckDB takes them.

What array a column is read into stands at the types of `schema`. DuckDB is told each value exactly as it was read.
"""

# ruff: noqa: S608  names and texts are quoted by `quote_name` and `quote_text`

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from secagg.query.declaration import Declaration
from secagg.query.encoding import Connection, Field, quote_name, quote_text
from secagg.query.owner import Source
from secagg.query.planner import field_of
from secagg.query.schema import Columns

__all__ = ["from_columns"]


def from_columns(declaration: Declaration, held: Mapping[str, Columns]) -> Source:
    """Return the source of tables that were read by the declaration's schemas, with all columns or some."""

    def known(connection: Connection, table: str) -> str:
        fields = [
            field_of(column.name.removeprefix(f"{table}."), column.domain)
            for column in declaration[table].scan(table).columns
        ]
        arrays: dict[str, Any] = {}
        parts = []
        for i, of in enumerate(field for field in fields if field.name in held[table]):
            column = held[table][of.name]
            if (
                of.kind == "identifier"
            ):  # the strings of a `Categorical`; an array of None has no type in DuckDB
                arrays[f"value{i}"] = np.append(column.categories, "")[column.codes]
                arrays[f"null{i}"] = column.codes < 0
            else:
                arrays[f"value{i}"] = np.ma.getdata(column)
                arrays[f"null{i}"] = np.ma.getmaskarray(column)
            parts.append(
                f"CASE WHEN NOT null{i} THEN {_as_read(of, f'value{i}')} END AS {quote_name(of.name)}"
            )
        given, name = quote_name(f"read {table}"), quote_name(f"typed {table}")
        connection.register(f"read {table}", arrays)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT {', '.join(parts)} FROM {given}")
        return name

    return known


def _as_read(of: Field, value: str) -> str:
    """Return the SQL of a value as people write it, from the number that it was read as."""
    match of.kind:
        case "number" if of.scale:
            unit = f"CAST('1e-{of.scale}' AS DECIMAL({of.scale + 1}, {of.scale}))"
            return f"CAST({value} AS DECIMAL(19, 0)) * {unit}"
        case "date":
            return f"DATE '1970-01-01' + CAST({value} AS INTEGER)"
        case "timestamp":
            return f"timezone('UTC', make_timestamp({value} * {10 ** (6 - of.scale)}))"
        case "category":
            return f"list_extract([{', '.join(map(quote_text, of.categories))}], {value} + 1)"
        case "identifier":
            return f"CAST({value} AS VARCHAR)"
        case _:
            return value
