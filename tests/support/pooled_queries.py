"""A query's answer by DuckDB over the pooled tables of all owners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from secagg.query import Declaration, Pool, plan


def answer(text: str, declaration: str, tables: Mapping[str, Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Return the rows of the pool of what each owner has, by column."""
    declared = Declaration.parse(declaration)
    with Pool(declared) as pool:
        for table in declared.values():
            for holder in table.holders:
                columns = tables[holder][table.name]
                rows = zip(*columns.values(), strict=True)
                pool.add(table.name, holder, [dict(zip(columns, row, strict=True)) for row in rows])
        return pool.run(plan(text, declared))


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
