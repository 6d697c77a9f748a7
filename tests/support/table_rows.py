"""Tables for tests: made-up rows as shared tables, opened rows as sorted lists, and what DuckDB makes of the same rows."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from secagg.mpc.arrays.engine import Engine
from secagg.mpc.tables import Column, Table

Plain = Mapping[
    str, list[Any]
]  # columns of integers, and of bools where the name begins with b; None is NULL


def shared(
    engine: Engine, plain: Plain, valid: list[bool], *, owner: str = "ada", dtypes: Any = None
) -> Table:
    """Return a table of made-up rows, shared by their owner. What stands under NULL is garbage."""
    columns = {}
    for name, values in plain.items():
        null = np.array([v is None for v in values], bool)
        is_bool = name.startswith("b")
        numbers = np.array([(i * 7919 % 5 if v is None else v) for i, v in enumerate(values)])
        numbers = numbers.astype(bool) if is_bool else numbers.astype(np.int64)
        dtype = bool if is_bool else (dtypes or {}).get(name, np.int64)
        columns[name] = Column(
            put(engine, numbers, owner, dtype), put(engine, null, owner, bool) if null.any() else None
        )
    return Table(columns, put(engine, np.array(valid, bool), owner, bool))


def put(engine: Engine, values: Any, owner: str, dtype: Any) -> Any:
    mine = engine.party.me == owner
    return engine.share(values if mine else None, owner=owner, shape=values.shape, dtype=dtype)


def rows_of(opened: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return opened columns as rows, None for NULL, in the order that they have."""
    return list(zip(*(values.tolist() for values in opened.values()), strict=True))


def in_order(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return rows sorted, NULL last, so that two results compare whatever order they come in."""
    return sorted(rows, key=lambda row: [(v is None, 0 if v is None else v) for v in row])


def by_duckdb(sql: str, **tables: tuple[Plain, list[bool]]) -> list[tuple[Any, ...]]:
    """Return the rows that DuckDB gives for a query over the valid rows of tables."""
    connection = _connection()
    for name, (plain, valid) in tables.items():
        columns = {}
        for column, values in plain.items():
            kept = [v for v, here in zip(values, valid, strict=True) if here]
            kind = pa.bool_() if column.startswith("b") else pa.int64()
            columns[column] = pa.array(kept, kind)
        connection.register(name, pa.table(columns))
    found: list[tuple[Any, ...]] = connection.execute(sql).fetchall()
    for name in tables:
        connection.unregister(name)
    return found


@functools.cache
def _connection() -> Any:
    """Return one connection for all queries, as opening one takes longer than a query on a few rows."""
    return duckdb.connect(config={"threads": 1})
