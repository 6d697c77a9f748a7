"""The SQL that checks categories, booleans, dates and timestamps, and makes whole numbers of them.

What a column of SQL has is said at `numbers.NumberColumn`.
"""

from __future__ import annotations

from secagg.data.dialect import EPOCHS, Dialect
from secagg.data.numbers import NUMERIC, expect, matches, trimmed
from secagg.data.sources import Source, quote_text
from secagg.query.schema import Boolean, Category, Date, Timestamp

__all__ = ["BooleanColumn", "CategoryColumn", "DateColumn", "TimestampColumn"]

_TRUE, _FALSE = ("true", "t", "yes", "1"), ("false", "f", "no", "0")
_ISO_DATE = r"[0-9]{4}(-[0-9]{1,2}-|/[0-9]{1,2}/)[0-9]{1,2}"
_ISO_TIME = rf"{_ISO_DATE}([T ][0-9]{{1,2}}:[0-9]{{2}}(:[0-9]{{2}}([.][0-9]{{1,6}})?)?)?"
_OFFSET = r"( ?(Z|UTC)|[+-][0-9]{2}(:?[0-9]{2})?)"


class _Column:
    """What the columns share: a text, and a whole number of a range that is made of it."""

    spelt = forms = units = exact = ""

    def __init__(self, table: Source, column: str, number: int, *, nullable: bool) -> None:
        self.column, self.nullable = column, nullable
        self.given, self.value = f"text{number}", f"made{number}"
        self.texts = f"{trimmed(table, column)} AS {self.given}"
        self.numbers = ""
        self.conditions = [(f"coalesce({self.given}, '') = ''", "is missing")]

    def _made(self, sql: str, fault: str, bounds: tuple[int, int], outside: str) -> None:
        self.numbers = f"({sql})::BIGINT AS {self.value}"
        self.conditions += [
            (f"{self.value} IS NULL", fault),
            (f"{self.value} NOT BETWEEN {bounds[0]} AND {bounds[1]}", outside),
        ]


class CategoryColumn(_Column):
    """The SQL of one of a list of texts; its number is the place in the sorted list."""

    def __init__(self, table: Source, column: str, number: int, kind: Category) -> None:
        expect(table, column, ("VARCHAR", "ENUM", *NUMERIC), "a category is text")
        super().__init__(table, column, number, nullable=kind.nullable)
        listed = ", ".join(map(quote_text, kind.values))
        last = len(kind.values) - 1
        place = f"nullif(coalesce(list_position([{listed}], {self.given}), 0), 0) - 1"
        self._made(place, "is none of the category's values", (0, last), "")


class BooleanColumn(_Column):
    """The SQL of true or false."""

    def __init__(self, table: Source, column: str, number: int, kind: Boolean) -> None:
        expect(table, column, ("BOOLEAN", *NUMERIC), "true or false is text, 0 or 1, or a boolean")
        super().__init__(table, column, number, nullable=kind.nullable)
        true, false = (", ".join(map(quote_text, words)) for words in (_TRUE, _FALSE))
        sql = f"CASE WHEN lower({self.given}) IN ({true}) THEN 1 WHEN lower({self.given}) IN ({false}) THEN 0 END"
        self._made(sql, "is neither true nor false", (0, 1), "")


class DateColumn(_Column):
    """The SQL of a day; its number counts days since 1970-01-01."""

    def __init__(self, table: Source, column: str, number: int, kind: Date, dialect: Dialect) -> None:
        found = expect(table, column, ("DATE", "TIMESTAMP", "VARCHAR"), "a date is a date")
        super().__init__(table, column, number, nullable=kind.nullable)
        text, form = self.given, dialect.date_format
        if found == "TIMESTAMP WITH TIME ZONE":
            found = expect(table, column, ("DATE",), "a date has no time zone")
        if found == "VARCHAR" and form is not None and form not in EPOCHS:
            day, fault = (
                f"try_strptime({text}, {quote_text(form)})::DATE",
                f"does not have the date format {form}",
            )
        else:
            midnight = r"([T ]00:00(:00([.]0+)?)?)?"
            written = matches(text, rf"({_ISO_DATE}){midnight}")
            day = f"CASE WHEN {written} THEN TRY_CAST(split_part(replace({text}, 'T', ' '), ' ', 1) AS DATE) END"
            fault = "is not an ISO date such as 2026-01-31; say its form, such as --date-format %d.%m.%Y"
        days = f"date_diff('day', DATE '1970-01-01', {day})"
        self._made(days, fault, kind.units, f"lies outside {kind.min} to {kind.max}")


class TimestampColumn(_Column):
    """The SQL of an instant; its number counts 10**-decimals seconds since 1970 UTC.

    A time that names no zone is in the type's. A time that clocks show twice is the first; one that they skip is refused.
    """

    def __init__(self, table: Source, column: str, number: int, kind: Timestamp, dialect: Dialect) -> None:
        found = expect(table, column, ("DATE", "TIMESTAMP", "VARCHAR"), "a timestamp is a timestamp")
        super().__init__(table, column, number, nullable=kind.nullable)
        text, form, zone = self.given, dialect.date_format, quote_text(kind.zone)
        local = f"TRY_CAST(replace({text}, '/', '-') AS TIMESTAMP)"
        is_local, is_instant = matches(text, _ISO_TIME), matches(text, rf"{_ISO_TIME}{_OFFSET}")
        instant = f"TRY_CAST(replace({text}, '/', '-') AS TIMESTAMPTZ)"
        fault = "is not an ISO timestamp such as 2026-01-31 12:00:00"
        if found == "VARCHAR" and form is not None and form not in EPOCHS:
            local, is_local, is_instant = f"try_strptime({text}, {quote_text(form)})", "true", "false"
            fault = f"does not have the date format {form}"
            if "%z" in form:
                instant, is_local, is_instant = local, "false", "true"
        placed = f"timezone({zone}, {local})"
        # Where clocks are set back, DuckDB takes the second of two equal times.
        earlier = [f"{placed} - INTERVAL {minutes} MINUTE" for minutes in (60, 30)]
        first = " ".join(f"WHEN timezone({zone}, {one}) = {local} THEN {one}" for one in earlier)
        exists = f"timezone({zone}, {placed}) = {local}"
        there = f"CASE {first} ELSE {placed} END"
        us = f"epoch_us(CASE WHEN {is_instant} THEN {instant} WHEN {is_local} AND {exists} THEN {there} END)"
        per_unit = 10 ** (6 - kind.decimals)
        skipped = f"coalesce({is_local} AND NOT {exists}, false)"
        self.conditions.append((skipped, f"does not exist in {kind.zone}, whose clocks skip it"))
        self.numbers = f"{us} AS us{number}, us{number} // {per_unit} AS {self.value}"
        self.conditions += [
            (f"us{number} IS NULL", fault),
            (f"us{number} % {per_unit} <> 0", f"is finer than {kind.decimals} decimals of a second"),
            (
                f"{self.value} NOT BETWEEN {kind.units[0]} AND {kind.units[1]}",
                f"lies outside {kind.min} to {kind.max}",
            ),
        ]
