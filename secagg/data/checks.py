"""The SQL that checks a table's rows and brings numbers and times into one form.

One query does it in one scan, as stages that each compute once what the next one uses. What is accepted
is said in `tables`. Identifiers go out as they stand: `identifier_columns` spells them, once each.
"""

# ruff: noqa: S608  SQL is put together here from quoted names and literals.

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from secagg.data.choices import BooleanColumn, CategoryColumn, DateColumn, TimestampColumn
from secagg.data.columns import ColumnMap
from secagg.data.conventions import Conventions
from secagg.data.dialect import EPOCHS, Dialect
from secagg.data.numbers import (
    NUMBER_TEXT,
    NUMERIC,
    WHOLE,
    IntegerColumn,
    NumberColumn,
    expect,
    matches,
    money_column,
    real_column,
    trimmed,
)
from secagg.data.reports import EMPTY, LISTED, Times
from secagg.data.sources import Source, quote_text
from secagg.errors import DataError
from secagg.query.schema import (
    Boolean,
    Category,
    Date,
    Integer,
    Money,
    Real,
    Schema,
    Time,
    Timestamp,
    Type,
)

__all__ = ["INSTANT", "NUMBER", "TIMESTAMP", "Fault", "Query", "checked_rows", "sampled_times"]

# What a row's time is: none, a number, a timestamp in the job's zone, an instant.
NUMBER, TIMESTAMP, INSTANT = 1, 2, 3

_DATE = r"[0-9]{4}(-[0-9]{1,2}-|/[0-9]{1,2}/)[0-9]{1,2}"
_OFFSET = r"( ?(Z|UTC)|[+-][0-9]{2}(:?[0-9]{2})?)"
_TIMESTAMP = rf"{_DATE}([T ][0-9]{{1,2}}:[0-9]{{2}}(:[0-9]{{2}}([.][0-9]+)?)?{_OFFSET}?)?"
_ZONED = r"Z$|UTC$|:[0-9.]+[+-][0-9:]+$"
_POINTED = r"[0-3]?[0-9][.][0-3]?[0-9][.][0-9]{4}"
_POINTED_TIME = rf"{_POINTED}[ T].*"
_COMPACT = r"(19|20|21)[0-9]{2}[01][0-9][0-3][0-9](T?[0-2][0-9][0-5][0-9][0-5][0-9]Z?)?"
_COMPACT_FORMATS = ["%Y%m%d", "%Y%m%d%H%M%S", "%Y%m%dT%H%M%S"]
# Epochs outside the years 1900 to 2199 are in another unit than was said.
_EPOCH_START, _EPOCH_END = -2_208_988_800, 7_258_118_400

_SAMPLE = 500
_UNIT_UNKNOWN = "is a number, and the window is of timestamps; say its unit with --date-format epoch-s, epoch-ms or epoch-us"


_IDENTIFIER = ("VARCHAR", "ENUM", "UUID", *WHOLE)
_DATED = ("TIMESTAMP", "DATE")
_WHOLE_DECIMAL = re.compile(r"DECIMAL\([0-9]+,\s*0\)")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a row, and in which column; "" where it is the whole row."""

    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class Query:
    """Queries for the rows of a table.

    Attributes:
      rows: for all rows, checked.
      bad: for the first rows that `rows` finds bad, in the table's order. The column `all_faults` lists all that is wrong
        with a row, by number with spaces between, and p0, p1, ... are its identifiers.
      faults: what the column `why` of both numbers from 1.
    """

    rows: str
    bad: str
    faults: list[Fault]


def checked_rows(
    table: Source,
    columns: ColumnMap,
    schema: Schema,
    bounds: tuple[float, float],
    conventions: Conventions,
    dialect: Dialect,
    expected: Times | None,
) -> Query:
    """Return the queries for a table.

    That for all rows gives id0_0, id0_1, id1_0, ... (a column for each of each identifier, empty outside the bounds and
    where it is missing and may be), number0, number1, ... (of each amount and whole number; NULL where it may be),
    seconds, kind and why (0 for a good row). Identifiers and numbers are in the schema's order. In a table without times,
    seconds are 0.

    Args:
      bounds: rows outside [start, end) need no identifiers; wider than the window by what zones make.
      expected: what kind of times the window has, if there is one.
    """
    groups = [columns[field] for field in schema.identifiers]
    parts = [name for group in groups for name in group]
    for name in parts:
        _expect_identifier(table, name)
    absent = _absent(schema, columns)
    numbers = _numbers(table, columns, schema, conventions, dialect)
    texts = [f"{table.columns[name].text} AS p{i}" for i, name in enumerate(parts)]
    texts += [number.texts for number in numbers]
    given = [*(f"p{i}" for i in range(len(parts))), *(number.given for number in numbers), "time"]
    nothing = " AND ".join(f"coalesce({text}, '') = ''" for text in given)
    conditions = []
    if schema.time is not None:
        conditions.append((f"{nothing} AND dated IS NULL", "", EMPTY))
    elif (
        table.csv_file is not None and len(table.columns) == 1 and all(map(_may_be_missing, schema.values()))
    ):
        conditions.append((nothing, "", EMPTY))  # a blank line, which DuckDB reads as a row there
    conditions += [(condition, name, "is missing") for condition, name in zip(absent, parts, strict=True)]
    conditions += [
        (condition, number.column, why) for number in numbers for condition, why in _conditions(number)
    ]
    if schema.time is None:
        texts.append("NULL::VARCHAR AS time, 0::DOUBLE AS dated, false AS instant")
    else:
        times = columns[schema.time]
        texts += _time_texts(table, times, dialect)
        conditions.append(("coalesce(time, '') = '' AND dated IS NULL", times[0], "is missing"))
        conditions += [(condition, times[0], why) for condition, why in _time_conditions(dialect, expected)]
    cases = " ".join(f"WHEN {condition} THEN {i}" for i, (condition, _, _) in enumerate(conditions, 1))

    places = [f"{i}_{j}" for i, group in enumerate(groups) for j in range(len(group))]
    kept = [
        f"CASE WHEN near THEN coalesce(p{i}, '') ELSE '' END AS id{place}" for i, place in enumerate(places)
    ]
    kept += [
        f"CASE WHEN near THEN {_value(number)} ELSE 0 END AS number{i}" for i, number in enumerate(numbers)
    ]
    start, end = (f"'{bound}'::DOUBLE" for bound in bounds)
    spelt = [f"{_kind(dialect, expected)} AS form", *(number.spelt for number in numbers)]
    read = [f"{_seconds(dialect)} AS seconds", *(number.numbers for number in numbers)]
    steps = f"""
        WITH texts AS (SELECT {", ".join(texts)} FROM {table.relation}),
        spelt AS (SELECT *, {_listed(spelt)} FROM texts),
        forms AS (SELECT {_listed(["*", *(number.forms for number in numbers)])} FROM spelt),
        numbers AS (SELECT *, {_listed(read)} FROM forms),
        units AS (SELECT {_listed(["*", *(number.units for number in numbers)])} FROM numbers),
        exact AS (SELECT {_listed(["*", *(number.exact for number in numbers)])} FROM units),
        checked AS (SELECT *, CASE {cases} ELSE 0 END AS why FROM exact)"""
    rows = f"""{steps},
        placed AS (SELECT *, why = 0 AND seconds >= {start} AND seconds < {end} AS near FROM checked)
        SELECT {", ".join([*kept, "why::USMALLINT AS why"])},
            CASE WHEN why = 0 THEN form ELSE 0 END::UTINYINT AS kind,
            CASE WHEN why = 0 THEN seconds ELSE 0 END AS seconds
        FROM placed"""
    each = ", ".join(
        f"CASE WHEN {condition} THEN '{i}' END" for i, (condition, _, _) in enumerate(conditions, 1)
    )
    texts_of = ", ".join(f"coalesce(p{i}, '') AS p{i}" for i in range(len(parts)))
    bad = f"""{steps}
        SELECT {_listed([f"concat_ws(' ', {each}) AS all_faults", texts_of])} FROM checked WHERE why > 0 LIMIT {LISTED}"""
    return Query(rows, bad, [Fault(name, reason) for _, name, reason in conditions])


def sampled_times(table: Source, names: tuple[str, ...], dialect: Dialect, expected: Times | None) -> str:
    """Return a query for a sample of the different times, as texts in its column `time`, those first that cannot be read."""
    wrong = " OR ".join(f"({condition})" for condition, _ in _time_conditions(dialect, expected))
    return f"""
        WITH texts AS (SELECT {", ".join(_time_texts(table, names, dialect))} FROM {table.relation}),
        spelt AS (SELECT *, {_kind(dialect, expected)} AS form FROM texts),
        read AS (SELECT time, {wrong} AS wrong FROM (SELECT *, {_seconds(dialect)} AS seconds FROM spelt) WHERE time <> '')
        (SELECT DISTINCT time FROM read WHERE wrong LIMIT {_SAMPLE})
        UNION (SELECT DISTINCT time FROM read WHERE NOT wrong LIMIT {_SAMPLE})"""


def _listed(expressions: Iterable[str]) -> str:
    return ", ".join(filter(None, expressions))


def _numbers(
    table: Source, columns: ColumnMap, schema: Schema, conventions: Conventions, dialect: Dialect
) -> list[NumberColumn]:
    numbers: list[NumberColumn] = []
    for field, kind in schema.items():
        number, column = len(numbers), columns[field][0]
        match kind:
            case Money():
                numbers.append(money_column(table, column, number, kind, conventions, dialect))
            case Real():
                numbers.append(real_column(table, column, number, kind, dialect))
            case Integer():
                numbers.append(IntegerColumn(table, column, number, kind))
            case Category():
                numbers.append(CategoryColumn(table, column, number, kind))
            case Boolean():
                numbers.append(BooleanColumn(table, column, number, kind))
            case Date():
                numbers.append(DateColumn(table, column, number, kind, dialect))
            case Timestamp():
                numbers.append(TimestampColumn(table, column, number, kind, dialect))
            case _:
                pass
    return numbers


def _may_be_missing(kind: Type) -> bool:
    return not isinstance(kind, Time) and kind.nullable


def _absent(schema: Schema, columns: ColumnMap) -> list[str]:
    """Return for each column of an identifier when it lacks a text that it has to have: all have to, or all or none."""
    conditions: list[str] = []
    for field in schema.identifiers:
        first, group = len(conditions), columns[field]
        empty = [f"coalesce(p{i}, '') = ''" for i in range(first, first + len(group))]
        if _may_be_missing(schema[field]):
            there = " OR ".join(f"NOT ({one})" for one in empty)
            empty = [f"{one} AND ({there})" for one in empty]
        conditions += empty
    return conditions


def _conditions(number: NumberColumn) -> list[tuple[str, str]]:
    if not number.nullable:
        return number.conditions
    (missing, _), *others = number.conditions
    return [(f"NOT ({missing}) AND ({condition})", why) for condition, why in others]


def _value(number: NumberColumn) -> str:
    if not number.nullable:
        return number.value
    return f"CASE WHEN NOT ({number.conditions[0][0]}) THEN {number.value} END"


def _time_texts(table: Source, names: tuple[str, ...], dialect: Dialect) -> list[str]:
    """Return `time`, a text, and `dated`, the seconds of a column that is one of timestamps."""
    types = [expect(table, name, (*NUMERIC, *_DATED), "a time is a number or a timestamp") for name in names]
    if len(names) > 1:
        together = " || ' ' || ".join(trimmed(table, name) for name in names)
        return [f"{together} AS time", "NULL::DOUBLE AS dated", "false AS instant"]
    if not types[0].startswith(_DATED):
        return [f"{trimmed(table, names[0])} AS time", "NULL::DOUBLE AS dated", "false AS instant"]
    if dialect.date_format is not None:
        raise DataError(
            f"{table.name}: column {names[0]!r} is of type {types[0]} and takes no date format; leave it out"
        )
    instant = str(types[0] == "TIMESTAMP WITH TIME ZONE").lower()
    return [
        "NULL::VARCHAR AS time",
        f"epoch({table.columns[names[0]].sql})::DOUBLE AS dated",
        f"{instant} AS instant",
    ]


def _kind(dialect: Dialect, expected: Times | None) -> str:
    if dialect.date_format in EPOCHS:
        by_text = f"WHEN {matches('time', NUMBER_TEXT)} THEN {INSTANT}"
    elif dialect.date_format is not None:
        by_text = f"ELSE {INSTANT if '%z' in dialect.date_format else TIMESTAMP}"
    else:
        by_text = (
            f"WHEN {matches('time', _TIMESTAMP)} "
            f"THEN CASE WHEN regexp_matches(time, {quote_text(_ZONED)}) THEN {INSTANT} ELSE {TIMESTAMP} END "
        )
        if expected == "timestamps":
            by_text += (
                f"WHEN {matches('time', _COMPACT)} "
                f"THEN CASE WHEN ends_with(time, 'Z') THEN {INSTANT} ELSE {TIMESTAMP} END "
            )
        by_text += f"WHEN {matches('time', NUMBER_TEXT)} THEN {NUMBER}"
    dated = f"WHEN dated IS NOT NULL THEN CASE WHEN instant THEN {INSTANT} ELSE {TIMESTAMP} END"
    return f"CASE {dated} {by_text} END"


def _seconds(dialect: Dialect) -> str:
    """Return the SQL of a row's time in seconds, as if in UTC where it names no zone."""
    if dialect.date_format in EPOCHS:
        by_text = f"WHEN form = {INSTANT} THEN TRY_CAST(time AS DOUBLE) / {EPOCHS[dialect.date_format]}"
    elif dialect.date_format is not None:
        by_text = f"ELSE epoch(try_strptime(time, {quote_text(dialect.date_format)}))"
    else:
        formats = ", ".join(map(quote_text, _COMPACT_FORMATS))
        by_text = (
            f"WHEN form = {NUMBER} THEN TRY_CAST(time AS DOUBLE) "
            f"WHEN form IS NOT NULL AND regexp_matches(time, '^[0-9]{{8}}') "
            f"THEN epoch(try_strptime(rtrim(time, 'Z'), [{formats}])) "
            f"WHEN form IS NOT NULL THEN epoch(TRY_CAST(time AS TIMESTAMPTZ))"
        )
    return f"CASE WHEN dated IS NOT NULL THEN dated {by_text} END"


def _time_conditions(dialect: Dialect, expected: Times | None) -> list[tuple[str, str]]:
    none = "seconds IS NULL OR NOT isfinite(seconds)"
    if dialect.date_format is None:
        conditions = [
            (f"({none}) AND {matches('time', _POINTED)}",
             "is a date with points; say its form, such as --date-format %d.%m.%Y"),
            (f"({none}) AND {matches('time', _POINTED_TIME)}",
             "is a date with points; say its form, such as --date-format '%d.%m.%Y %H:%M'"),
            (none, "is not a number or an ISO timestamp"),
        ]  # fmt: skip
    elif dialect.date_format in EPOCHS:
        conditions = [
            (none, f"is not a number, as {dialect.date_format} has it"),
            (f"seconds < {_EPOCH_START} OR seconds >= {_EPOCH_END}",
             f"is not in the years 1900 to 2199 as {dialect.date_format}; see the unit"),
        ]  # fmt: skip
    else:
        conditions = [
            (none, f"does not have the date format {dialect.date_format}"),
            (f"seconds < {_EPOCH_START} OR seconds >= {_EPOCH_END}",
             f"is not in the years 1900 to 2199 as {dialect.date_format}; %y takes a year of two digits"),
        ]  # fmt: skip
    if expected == "timestamps":
        conditions.append((f"form = {NUMBER}", _UNIT_UNKNOWN))
    elif expected == "numbers":
        conditions.append((f"form <> {NUMBER}", "is a timestamp, and the window is of numbers"))
    return conditions


def _expect_identifier(table: Source, name: str) -> None:
    found = table.columns[name].type
    if found.startswith(("DOUBLE", "FLOAT")) and not found.endswith("]"):
        raise DataError(
            f"{table.name}: an identifier is text or a whole number; column {name!r} is of type {found}, which "
            "loses digits above 2**53 and writes 12 as 12.0; export it anew as text or as integers"
        )
    if not _WHOLE_DECIMAL.fullmatch(found):
        expect(table, name, _IDENTIFIER, "an identifier is text or a whole number")
