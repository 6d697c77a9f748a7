"""The SQL that checks a table's rows and brings amounts and times into one form.

One query does it in one scan, as stages that each compute once what the next one uses. What is accepted,
and how it is rounded, is said in `tables`.
"""

# ruff: noqa: S608  SQL is put together here from quoted names and literals.

from __future__ import annotations

from dataclasses import dataclass

from secagg.data.columns import DepositColumns, TransferColumns
from secagg.data.sources import Column, Source, quote_text
from secagg.errors import DataError

__all__ = ["LARGEST_LIMIT", "Fault", "checked_rows"]

# 1e13 units are 1e15 cents: within int64 and DECIMAL(18, 2), and sums of a thousand such still are.
LARGEST_LIMIT = 10**13

_SPACES = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
# Trimming by a list of characters costs ten times this look at the two ends.
_SPACE_AT_END = r"^[\s\v\x1c-\x1f\x{85}\pZ]|[\s\v\x1c-\x1f\x{85}\pZ]$"
# What DuckDB's casts accept differs between its versions (1_000, zones, "epoch"); these decide instead.
_PLAIN_AMOUNT = r"[+-]?[0-9]{1,15}([.][0-9]{0,2})?"
_NUMBER = r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]{1,3})?"
_TIMESTAMP = (
    r"[0-9]{4}(-[0-9]{1,2}-|/[0-9]{1,2}/)[0-9]{1,2}"
    r"([T ][0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?(Z|[+-][0-9]{2}(:[0-9]{2})?)?)?)?"
)

_SIGNED = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_WHOLE = (*_SIGNED, *(f"U{name}" for name in _SIGNED))
_IDENTIFIER = ("VARCHAR", "ENUM", "UUID", *_WHOLE)
_NUMERIC = ("VARCHAR", "DECIMAL", "DOUBLE", "FLOAT", *_WHOLE)
_DATED = ("TIMESTAMP", "DATE")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a row, and in which column; "" where it is the whole row."""

    column: str
    reason: str


def checked_rows(
    table: Source, columns: TransferColumns | DepositColumns, bounds: tuple[float, float], max_amount: int
) -> tuple[str, list[Fault]]:
    """Return a query for the checked rows, and the faults that its column `why` numbers from 1.

    The query gives id0, id1, ..., cents, seconds, is_timestamp, why (0 for a good row) and keep, none of them
    NULL. Each stage below computes once what the next one uses.
    """
    parts = [name for group in columns.identifiers for name in group]
    for name in parts:
        _expect(table, name, _IDENTIFIER, "an identifier is text or a whole number")
    _expect(table, columns.amount, _NUMERIC, "an amount is a number")
    time_type = _expect(table, columns.time, (*_NUMERIC, *_DATED), "a time is a number or a timestamp")

    aliases = [f"p{i}" for i in range(len(parts))]
    texts = [
        f"{_trimmed(table.columns[name])} AS {alias}"
        for name, alias in zip(
            (*parts, columns.amount, columns.time), (*aliases, "amount", "time"), strict=True
        )
    ]
    dated = f"epoch({table.columns[columns.time].sql})" if time_type.startswith(_DATED) else "NULL"
    texts.append(f"{dated}::DOUBLE AS dated")

    conditions = [
        *((f"coalesce({alias}, '') = ''", name, "is missing") for alias, name in zip(aliases, parts, strict=True)),
        ("coalesce(amount, '') = ''", columns.amount, "is missing"),
        (f"NOT plain AND NOT {_matches('amount', _NUMBER)}", columns.amount, "is not a number"),
        ("CASE WHEN plain THEN units < 0 ELSE coalesce(wide < 0, starts_with(amount, '-')) END",
         columns.amount, "is negative"),
        (f"units IS NULL OR units > {max_amount}", columns.amount, f"is above {max_amount}"),
        ("coalesce(time, '') = ''", columns.time, "is missing"),
        ("seconds IS NULL OR NOT isfinite(seconds)", columns.time, "is not a number or an ISO timestamp"),
    ]  # fmt: skip
    cases = " ".join(f"WHEN {condition} THEN {i}" for i, (condition, _, _) in enumerate(conditions, 1))

    remaining = iter(aliases)
    identifiers = [" || ':' || ".join(next(remaining) for _ in group) for group in columns.identifiers]
    kept = [f"CASE WHEN keep THEN {text} ELSE '' END AS id{i}" for i, text in enumerate(identifiers)]
    start, end = (f"'{bound}'::DOUBLE" for bound in bounds)
    query = f"""
        WITH texts AS (SELECT {", ".join(texts)} FROM {table.relation}),
        forms AS (
            SELECT *, {_matches("amount", _PLAIN_AMOUNT)} AS plain,
                dated IS NOT NULL OR {_matches("time", _TIMESTAMP)} AS is_timestamp
            FROM texts),
        numbers AS (
            SELECT *,
                CASE WHEN NOT plain AND {_matches("amount", _NUMBER)}
                    THEN TRY_CAST(amount AS DECIMAL(38, 18)) END AS wide,
                CASE WHEN dated IS NOT NULL THEN dated
                    WHEN is_timestamp THEN epoch(TRY_CAST(time AS TIMESTAMPTZ))
                    WHEN {_matches("time", _NUMBER)} THEN TRY_CAST(time AS DOUBLE) END AS seconds
            FROM forms),
        rounded AS (
            SELECT *, CASE WHEN wide BETWEEN 0 AND {2 * LARGEST_LIMIT} THEN wide::DECIMAL(18, 2) END AS away
            FROM numbers),
        units AS (
            SELECT *, CASE WHEN plain THEN TRY_CAST(amount AS DECIMAL(18, 2))
                WHEN away - wide = 0.005 AND (away * 100)::BIGINT % 2 = 1 THEN away - 0.01
                ELSE away END::DECIMAL(18, 2) AS units
            FROM rounded),
        checked AS (SELECT *, CASE {cases} ELSE 0 END AS why FROM units),
        placed AS (SELECT *, why = 0 AND seconds >= {start} AND seconds < {end} AS keep FROM checked)
        SELECT {", ".join(kept)}, why::UTINYINT AS why, keep, is_timestamp,
            CASE WHEN keep THEN (units * 100)::BIGINT ELSE 0 END AS cents,
            CASE WHEN keep THEN seconds ELSE 0 END AS seconds
        FROM placed"""
    return query, [Fault(name, reason) for _, name, reason in conditions]


def _expect(table: Source, name: str, types: tuple[str, ...], rule: str) -> str:
    """Return the column's type if it is one of `types`."""
    found = table.columns[name].type
    # ENUM('a', 'b'), DECIMAL(18,2), TIMESTAMP WITH TIME ZONE, TIMESTAMP_NS; but not INTEGER[].
    if not found.startswith(types) or found.endswith("]"):
        raise DataError(f"{table.name}: {rule}, and column {name!r} is of type {found}; cast it in a query")
    return found


def _trimmed(column: Column) -> str:
    if column.type != "VARCHAR":
        return f"CAST({column.sql} AS VARCHAR)"
    space = f"regexp_matches({column.sql}, {quote_text(_SPACE_AT_END)})"
    return f"CASE WHEN {space} THEN trim({column.sql}, {quote_text(_SPACES)}) ELSE {column.sql} END"


def _matches(text: str, pattern: str) -> str:
    return f"coalesce(regexp_full_match({text}, {quote_text(pattern)}), false)"
