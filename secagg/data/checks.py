"""The SQL that checks a table's rows and brings amounts and times into one form.

One query does it in one scan, as stages that each compute once what the next one uses. What is accepted
is said in `tables`. Identifiers go out as they stand: `identifiers` spells them, once each.
"""

# ruff: noqa: S608  SQL is put together here from quoted names and literals.

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from secagg.data.columns import DepositColumns, TransferColumns
from secagg.data.conventions import LARGEST_LIMIT, Conventions
from secagg.data.dialect import EPOCHS, Dialect
from secagg.data.reports import Times
from secagg.data.sources import Source, quote_text
from secagg.errors import DataError

__all__ = ["INSTANT", "NUMBER", "TIMESTAMP", "Fault", "checked_rows"]

# What a row's time is: none, a number, a timestamp in the job's zone, an instant.
NUMBER, TIMESTAMP, INSTANT = 1, 2, 3

_SPACES = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
# Trimming by a list of characters costs ten times this look at the two ends.
_SPACE_AT_END = r"^[\s\v\x1c-\x1f\x{85}\pZ]|[\s\v\x1c-\x1f\x{85}\pZ]$"
# What DuckDB's casts accept differs between its versions (1_000, zones, "epoch"); these decide instead.
_NUMBER = r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]{1,3})?"
_ZERO = r"[+-]?[0.]*([eE].*)?"
_AMBIGUOUS = r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}"
_SEPARATED = r"[+-]?[0-9]+([., '’_][0-9]+)+"
# As accountants write what is below zero: (103.50), 103.50-, and with another minus sign.
_BELOW_ZERO = r"[(][0-9][0-9., '’_]*[)]|[0-9][0-9., '’_]*[-−–]|[−–] ?[0-9.].*"
_SCIENTIFIC = r".*[eE].*"
_OTHER_SPACES = "\u00a0\u2009\u202f"
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

_UNIT_UNKNOWN = "is a number, and the window is of timestamps; say its unit with --date-format epoch-s, epoch-ms or epoch-us"

# A number in text that is this near a whole multiple of the smallest unit is one, printed by a float.
_FLOAT_NOISE: Final = "5e-15"

_SIGNED = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_WHOLE = (*_SIGNED, *(f"U{name}" for name in _SIGNED))
_IDENTIFIER = ("VARCHAR", "ENUM", "UUID", *_WHOLE)
_NUMERIC = ("VARCHAR", "DECIMAL", "DOUBLE", "FLOAT", *_WHOLE)
_DATED = ("TIMESTAMP", "DATE")
_WHOLE_DECIMAL = re.compile(r"DECIMAL\([0-9]+,\s*0\)")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a row, and in which column; "" where it is the whole row."""

    column: str
    reason: str


def checked_rows(
    table: Source,
    columns: TransferColumns | DepositColumns,
    bounds: tuple[float, float],
    conventions: Conventions,
    dialect: Dialect,
    expected: Times | None,
) -> tuple[str, list[Fault]]:
    """Return a query for the checked rows, and the faults that its column `why` numbers from 1.

    The query gives id0_0, id0_1, id1_0, ... (a column for each of each identifier, empty outside the bounds),
    cents, seconds, kind and why (0 for a good row); none of them NULL.

    Args:
      bounds: rows outside [start, end) need no identifiers; wider than the window by what zones make.
      expected: what kind of times the window has, if there is one.
    """
    parts = [name for group in columns.identifiers for name in group]
    for name in parts:
        _expect_identifier(table, name)
    _expect(table, columns.amount, _NUMERIC, "an amount is a number")
    texts = [f"{table.columns[name].text} AS p{i}" for i, name in enumerate(parts)]
    texts.append(f"{_trimmed(table, columns.amount)} AS written")
    time_name = columns.times[0]
    texts += _time_texts(table, columns.times, dialect)

    amount = _Amount(table.columns[columns.amount].type == "VARCHAR", conventions, dialect)
    unit = f"{10.0**-conventions.currency_decimals:.{conventions.currency_decimals}f}"
    conditions = [
        *((f"coalesce(p{i}, '') = ''", name, "is missing") for i, name in enumerate(parts)),
        ("coalesce(written, '') = ''", columns.amount, "is missing"),
        (f"NOT plain AND {_matches('written', _BELOW_ZERO)}", columns.amount, "is negative"),
        *((condition, columns.amount, reason) for condition, reason in amount.separators),
        (f"amount IS NULL OR NOT (plain OR {_matches('amount', _NUMBER)})", columns.amount, "is not a number"),
        ("CASE WHEN plain THEN units < 0 ELSE coalesce(wide < 0, starts_with(amount, '-')) END",
         columns.amount, "is negative"),
        *((condition, columns.amount, reason) for condition, reason in amount.damages),
        (f"units IS NULL OR units > {conventions.largest_amount}",
         columns.amount, f"is above {conventions.largest_amount}"),
        ("NOT plain AND NOT exact", columns.amount, f"has digits below {unit}"),
        ("coalesce(time, '') = '' AND dated IS NULL", time_name, "is missing"),
        *((condition, time_name, reason) for condition, reason in _time_conditions(dialect, expected)),
    ]  # fmt: skip
    cases = " ".join(f"WHEN {condition} THEN {i}" for i, (condition, _, _) in enumerate(conditions, 1))

    places = [f"{i}_{j}" for i, group in enumerate(columns.identifiers) for j in range(len(group))]
    kept = [f"CASE WHEN near THEN p{i} ELSE '' END AS id{place}" for i, place in enumerate(places)]
    start, end = (f"'{bound}'::DOUBLE" for bound in bounds)
    query = f"""
        WITH texts AS (SELECT {", ".join(texts)} FROM {table.relation}),
        spelt AS (SELECT *, {amount.spelt} AS amount, {_kind(dialect, expected)} AS form FROM texts),
        forms AS (SELECT *, {_matches("amount", amount.plain)} AS plain FROM spelt),
        numbers AS (
            SELECT *,
                CASE WHEN NOT plain AND {_matches("amount", _NUMBER)}
                    THEN TRY_CAST(amount AS DECIMAL(38, 18)) END AS wide,
                {_seconds(dialect)} AS seconds
            FROM forms),
        units AS (
            SELECT *, CASE WHEN plain THEN TRY_CAST(amount AS {amount.type})
                WHEN wide BETWEEN 0 AND {2 * LARGEST_LIMIT} THEN wide::{amount.type} END AS units
            FROM numbers),
        exact AS (
            SELECT *, coalesce(
                CASE WHEN wide = 0 THEN {_matches("amount", _ZERO)}
                    ELSE wide = units OR (abs(wide - units)::DOUBLE <= {_FLOAT_NOISE} * wide::DOUBLE
                        AND abs(wide - units) < {unit} / 1000) END, false) AS exact
            FROM units),
        checked AS (SELECT *, CASE {cases} ELSE 0 END AS why FROM exact),
        placed AS (SELECT *, why = 0 AND seconds >= {start} AND seconds < {end} AS near FROM checked)
        SELECT {", ".join(kept)}, why::UTINYINT AS why,
            CASE WHEN why = 0 THEN form ELSE 0 END::UTINYINT AS kind,
            CASE WHEN near THEN {amount.cents} ELSE 0 END AS cents,
            CASE WHEN why = 0 THEN seconds ELSE 0 END AS seconds
        FROM placed"""
    return query, [Fault(name, reason) for _, name, reason in conditions]


class _Amount:
    """The SQL of an amount.

    Attributes:
      spelt: the amount as text with a decimal point and nothing between thousands; NULL where that cannot be.
      separators: conditions under which the amount's separators are wrong, and what is wrong.
      damages: conditions under which digits were lost before the table was written, and what is wrong.
      plain: the pattern of amounts that need no second look.
      type: the type of amounts in units.
      cents: the amount in the currency's smallest unit.
    """

    def __init__(self, is_text: bool, conventions: Conventions, dialect: Dialect) -> None:
        decimals = conventions.currency_decimals
        self.type = f"DECIMAL(18, {decimals})"
        self.plain = rf"[+-]?[0-9]{{1,15}}([.][0-9]{{0,{decimals}}})?"
        if is_text and not dialect.declares_numbers and decimals >= 3:
            # 3.000 is ambiguous.
            self.plain = r"[+-]?[0-9]{1,15}([.]([0-9]{0,2}" + "|[0-9]{4}" * (decimals > 3) + "))?"
        # 10**17 of the smallest unit times 10**4 takes more than 18 digits.
        wide = "units" if decimals <= 2 else f"units::DECIMAL(38, {decimals})"
        self.cents = f"({wide} * {10**decimals})::BIGINT"
        self.spelt = "written"
        self.separators: list[tuple[str, str]] = []
        self.damages: list[tuple[str, str]] = []
        if is_text:
            lost = f"NOT plain AND {_matches('amount', _SCIENTIFIC)} AND NOT {_matches('amount', _ZERO)}"
            self.damages = [
                (lost, "is in scientific notation, where a spreadsheet has cut digits; export the column as text"),
            ]  # fmt: skip
        if is_text and dialect.declares_numbers:
            self._declared(dialect)
        elif is_text:
            self.separators = [
                (f"NOT plain AND {_matches('written', _AMBIGUOUS)}",
                 "can be read with decimals or with thousands; say which with --decimal and --thousands"),
                (f"NOT plain AND {_matches('written', _SEPARATED)} AND NOT {_matches('written', _NUMBER)}",
                 "has separators that are not known; say them with --decimal and --thousands"),
            ]  # fmt: skip

    def _declared(self, dialect: Dialect) -> None:
        point, mark = re.escape(dialect.point), dialect.thousands
        text = "written"
        if mark is not None:
            if mark == " ":
                text = f"translate({text}, {quote_text(_OTHER_SPACES)}, '{' ' * len(_OTHER_SPACES)}')"
            elif mark == "'":
                text = f"replace({text}, '\u2019', '''')"
            between, tail = re.escape(mark), f"({point}[0-9]*)?"
            # In thousands, or in lakhs and crores.
            grouped = (
                rf"[+-]?[1-9][0-9]{{0,2}}({between}[0-9]{{3}})+{tail}"
                rf"|[+-]?[1-9][0-9]?({between}[0-9]{{2}})+{between}[0-9]{{3}}{tail}"
            )
            text = f"CASE WHEN {_matches(text, grouped)} THEN replace({text}, {quote_text(mark)}, '') ELSE {text} END"
        if dialect.point == ",":
            text = f"CASE WHEN contains({text}, '.') THEN NULL ELSE replace({text}, ',', '.') END"
        self.spelt = text
        other = f"{_matches('amount', _SEPARATED)} AND NOT {_matches('amount', _NUMBER)}"
        wrong = f"written <> '' AND (amount IS NULL OR (NOT plain AND {other}))"
        self.separators = [(wrong, "has other separators than the ones that were said, or at other places")]


def _time_texts(table: Source, names: tuple[str, ...], dialect: Dialect) -> list[str]:
    """Return `time`, a text, and `dated`, the seconds of a column that is one of timestamps."""
    types = [
        _expect(table, name, (*_NUMERIC, *_DATED), "a time is a number or a timestamp") for name in names
    ]
    if len(names) > 1:
        together = " || ' ' || ".join(_trimmed(table, name) for name in names)
        return [f"{together} AS time", "NULL::DOUBLE AS dated", "false AS instant"]
    if not types[0].startswith(_DATED):
        return [f"{_trimmed(table, names[0])} AS time", "NULL::DOUBLE AS dated", "false AS instant"]
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
        by_text = f"WHEN {_matches('time', _NUMBER)} THEN {INSTANT}"
    elif dialect.date_format is not None:
        by_text = f"ELSE {INSTANT if '%z' in dialect.date_format else TIMESTAMP}"
    else:
        by_text = (
            f"WHEN {_matches('time', _TIMESTAMP)} "
            f"THEN CASE WHEN regexp_matches(time, {quote_text(_ZONED)}) THEN {INSTANT} ELSE {TIMESTAMP} END "
        )
        if expected == "timestamps":
            by_text += (
                f"WHEN {_matches('time', _COMPACT)} "
                f"THEN CASE WHEN ends_with(time, 'Z') THEN {INSTANT} ELSE {TIMESTAMP} END "
            )
        by_text += f"WHEN {_matches('time', _NUMBER)} THEN {NUMBER}"
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
            (f"({none}) AND {_matches('time', _POINTED)}",
             "is a date with points; say its form, such as --date-format %d.%m.%Y"),
            (f"({none}) AND {_matches('time', _POINTED_TIME)}",
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
        conditions = [(none, f"does not have the date format {dialect.date_format}")]
    if expected == "timestamps":
        conditions.append((f"form = {NUMBER}", _UNIT_UNKNOWN))
    elif expected == "numbers":
        conditions.append((f"form <> {NUMBER}", "is a timestamp, and the window is of numbers"))
    return conditions


def _expect_identifier(table: Source, name: str) -> None:
    found = table.columns[name].type
    if found.startswith(("DOUBLE", "FLOAT")) and not found.endswith("]"):
        raise DataError(
            f"{table.name}: an identifier is text or a whole number, and column {name!r} is of type {found}, which "
            "loses digits above 2**53 and writes 12 as 12.0; export it anew as text or as integers"
        )
    if not _WHOLE_DECIMAL.fullmatch(found):
        _expect(table, name, _IDENTIFIER, "an identifier is text or a whole number")


def _expect(table: Source, name: str, types: tuple[str, ...], rule: str) -> str:
    """Return the column's type if it is one of `types`."""
    found = table.columns[name].type
    # ENUM('a', 'b'), DECIMAL(18,2), TIMESTAMP WITH TIME ZONE, TIMESTAMP_NS; but not INTEGER[].
    if not found.startswith(types) or found.endswith("]"):
        raise DataError(f"{table.name}: {rule}, and column {name!r} is of type {found}; cast it in a query")
    return found


def _trimmed(table: Source, name: str) -> str:
    column = table.columns[name]
    if column.type != "VARCHAR":
        return column.text
    space = f"regexp_matches({column.sql}, {quote_text(_SPACE_AT_END)})"
    return f"CASE WHEN {space} THEN trim({column.sql}, {quote_text(_SPACES)}) ELSE {column.sql} END"


def _matches(text: str, pattern: str) -> str:
    return f"coalesce(regexp_full_match({text}, {quote_text(pattern)}), false)"
