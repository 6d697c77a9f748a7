"""The SQL that checks amounts and whole numbers and brings each into one form.

Each column goes through the stages of `checks` under names of its own, such as `written0` and `plain0`.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from secagg.data.conventions import Conventions
from secagg.data.dialect import Dialect
from secagg.data.sources import Source, quote_text
from secagg.errors import DataError
from secagg.query.schema import Integer, Money, Real

__all__ = [
    "NUMBER_TEXT",
    "NUMERIC",
    "WHOLE",
    "DecimalColumn",
    "IntegerColumn",
    "NumberColumn",
    "expect",
    "matches",
    "money_column",
    "real_column",
    "trimmed",
]

_SPACES = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
# Trimming by a list of characters costs ten times this look at the two ends.
_SPACE_AT_END = r"^[\s\v\x1c-\x1f\x{85}\pZ]|[\s\v\x1c-\x1f\x{85}\pZ]$"
# What DuckDB's casts accept differs between its versions (1_000, zones, "epoch"); these decide instead.
NUMBER_TEXT: Final = r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]{1,3})?"
_ZERO = r"[+-]?[0.]*([eE].*)?"
_AMBIGUOUS = r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}"
_SEPARATED = r"[+-]?[0-9]+([., '’_][0-9]+)+"
# As accountants write what is below zero: (103.50), 103.50-, and with another minus sign.
_BELOW_ZERO = r"[(][0-9][0-9., '’_]*[)]|[0-9][0-9., '’_]*[-−–]|[−–] ?[0-9.].*"
_WITH_CURRENCY = r"(\p{Sc}|[A-Za-z]{3})\s?[+-]?[0-9].*|.*[0-9.,][-–]?\s?(\p{Sc}|[A-Za-z]{3})"
_SCIENTIFIC = r".*[eE].*"
_OTHER_SPACES = "\u00a0\u2009\u202f"
_WHOLE_NUMBER = r"[+-]?[0-9]{1,18}([.]0*)?"

# A number in text that is this near a whole multiple of the smallest unit is one, printed by a float.
_FLOAT_NOISE: Final = "5e-15"

_SIGNED = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
WHOLE = (*_SIGNED, *(f"U{name}" for name in _SIGNED))
NUMERIC = ("VARCHAR", "DECIMAL", "DOUBLE", "FLOAT", *WHOLE)


class NumberColumn(Protocol):
    """The SQL of one column of numbers.

    Attributes:
      column: what the table calls it.
      given: the name of its text.
      texts, spelt, forms, numbers, units, exact: what the column adds to each stage of `checks`, with its name there;
        "" for nothing.
      conditions: under which a row cannot be used, in order, and why.
      value: the number of a row that can be used.
      nullable: whether a row without one can be used; the first condition says that it has none.
    """

    column: str
    given: str
    texts: str
    spelt: str
    forms: str
    numbers: str
    units: str
    exact: str
    conditions: list[tuple[str, str]]
    value: str
    nullable: bool


class DecimalColumn:
    """The SQL of a decimal number, which becomes a whole number of its smallest unit; see `NumberColumn`.

    A row's number is `written` as the table has it. `amount` has a decimal point and nothing between thousands; it is NULL
    where that cannot be. `plain` says that it needs no second look, and `wide` is its number otherwise. `units` is the end.

    Args:
      noun: what a number of the column is.
      bounds: the range, in whole numbers or decimals; from "0" where nothing below zero can be.
      outside: what is wrong with a number out of the range.
      negative: what is wrong with a number below zero where nothing below zero can be.
      cut: decimals below the unit are left off; see `Real`.
    """

    def __init__(
        self,
        table: Source,
        column: str,
        number: int,
        dialect: Dialect,
        *,
        noun: str,
        decimals: int,
        bounds: tuple[str, str],
        outside: str,
        negative: str,
        nullable: bool = False,
        cut: bool = False,
    ) -> None:
        expect(table, column, NUMERIC, f"{noun} is a number")
        is_text = table.columns[column].type == "VARCHAR"
        self.column, self.nullable = column, nullable
        self._written, amount, plain, wide, units, exact = (
            f"{name}{number}" for name in ("written", "amount", "plain", "wide", "units", "exact")
        )
        self._amount, self._plain = amount, plain
        type_ = f"DECIMAL(18, {decimals})"
        pattern = rf"[+-]?[0-9]{{1,{min(15, 18 - decimals)}}}([.][0-9]{{0,{decimals}}})?"
        if is_text and not dialect.declares_numbers and decimals >= 3:
            # 3.000 is ambiguous.
            more = f"|[0-9]{{4,{decimals}}}" if decimals > 3 else ""
            pattern = rf"[+-]?[0-9]{{1,{min(15, 18 - decimals)}}}([.]([0-9]{{0,2}}{more}))?"
        # 10**17 of the smallest unit times 10**4 takes more than 18 digits.
        scaled = units if decimals <= 2 else f"{units}::DECIMAL(38, {decimals})"
        self.value = f"({scaled} * {10**decimals})::BIGINT"
        spelt, separators = self._separated(is_text, dialect)
        damages = []
        if is_text and not cut:
            lost = f"NOT {plain} AND {matches(amount, _SCIENTIFIC)} AND NOT {matches(amount, _ZERO)}"
            damages = [
                (lost, "is in scientific notation, where a spreadsheet has cut digits; export the column as text"),
            ]  # fmt: skip
        unit = f"{10.0**-decimals:.{decimals}f}"
        lowest, largest = bounds
        signed = lowest != "0"
        most = 10 ** (18 - decimals) // 2  # what is beyond it is beyond any range
        self.given = self._written
        self.texts = f"{trimmed(table, column)} AS {self._written}"
        self.spelt = f"{spelt} AS {amount}"
        self.forms = f"{matches(amount, pattern)} AS {plain}"
        self.numbers = (
            f"CASE WHEN NOT {plain} AND {matches(amount, NUMBER_TEXT)} "
            f"THEN TRY_CAST({amount} AS DECIMAL(38, 18)) END AS {wide}"
        )
        kept = f"({wide} - {wide} % {unit}::DECIMAL(38, 18))" if cut else wide
        self.units = (
            f"CASE WHEN {plain} THEN TRY_CAST({amount} AS {type_}) "
            f"WHEN {wide} BETWEEN {-most if signed else 0} AND {most} THEN {kept}::{type_} END AS {units}"
        )
        self.exact = (
            f"coalesce(CASE WHEN {wide} = 0 THEN {matches(amount, _ZERO)} ELSE {wide} = {units} "
            f"OR (abs({wide} - {units})::DOUBLE <= {_FLOAT_NOISE} * abs({wide})::DOUBLE "
            f"AND abs({wide} - {units}) < {unit} / 1000) END, false) AS {exact}"
        )
        below = (
            "is below zero in a form that is not known; write it with a minus sign in front"
            if signed
            else negative
        )
        self.conditions = [
            (f"coalesce({self._written}, '') = ''", "is missing"),
            (f"NOT {plain} AND {matches(self._written, _BELOW_ZERO)}", below),
            (f"NOT {plain} AND {matches(self._written, _WITH_CURRENCY)}", "has a currency beside the number"),
            *separators,
            (f"{amount} IS NULL OR NOT ({plain} OR {matches(amount, NUMBER_TEXT)})", "is not a number"),
            *([] if signed else [
                (f"CASE WHEN {plain} THEN {units} < 0 ELSE coalesce({wide} < 0, starts_with({amount}, '-')) END",
                 negative),
            ]),
            *damages,
            (f"{units} IS NULL OR {units} > {largest}{f' OR {units} < {lowest}' if signed else ''}",
             outside),
            *([] if cut else [(f"NOT {plain} AND NOT {exact}", f"has digits below {unit}")]),
        ]  # fmt: skip

    def _separated(self, is_text: bool, dialect: Dialect) -> tuple[str, list[tuple[str, str]]]:
        """Return the SQL of `amount`, and the conditions under which the amount's separators are wrong."""
        if is_text and dialect.declares_numbers:
            return self._declared(dialect)
        written, plain = self._written, self._plain
        if not is_text:
            return written, []
        return written, [
            (f"NOT {plain} AND {matches(written, _AMBIGUOUS)}",
             "can be read with decimals or with thousands; say which with --decimal and --thousands"),
            (f"NOT {plain} AND {matches(written, _SEPARATED)} AND NOT {matches(written, NUMBER_TEXT)}",
             "has separators that are not known; say them with --decimal and --thousands"),
        ]  # fmt: skip

    def _declared(self, dialect: Dialect) -> tuple[str, list[tuple[str, str]]]:
        point, mark = re.escape(dialect.point), dialect.thousands
        written, amount, plain = self._written, self._amount, self._plain
        text = written
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
            text = f"CASE WHEN {matches(text, grouped)} THEN replace({text}, {quote_text(mark)}, '') ELSE {text} END"
        if dialect.point == ",":
            text = f"CASE WHEN contains({text}, '.') THEN NULL ELSE replace({text}, ',', '.') END"
        other = f"{matches(amount, _SEPARATED)} AND NOT {matches(amount, NUMBER_TEXT)}"
        wrong = f"{written} <> '' AND ({amount} IS NULL OR (NOT {plain} AND {other}))"
        return text, [(wrong, "has other separators than the ones that were said, or at other places")]


def money_column(
    table: Source, column: str, number: int, kind: Money, conventions: Conventions, dialect: Dialect
) -> DecimalColumn:
    """Return the SQL of an amount, by the type's decimals and bound or else the job's."""
    decimals = conventions.currency_decimals if kind.decimals is None else kind.decimals
    largest = conventions.largest_amount if kind.max is None else kind.max
    return DecimalColumn(
        table, column, number, dialect,
        noun="an amount", decimals=decimals, bounds=("0", str(largest)), nullable=kind.nullable,
        negative="is negative",
        outside=f"is above {largest}" if kind.max is None else f"lies outside 0 to {largest}",
    )  # fmt: skip


def real_column(table: Source, column: str, number: int, kind: Real, dialect: Dialect) -> DecimalColumn:
    """Return the SQL of a number of a range and of so many decimals."""
    bounds = (f"{kind.min:f}", f"{kind.max:f}")
    outside = f"lies outside {bounds[0]} to {bounds[1]}"
    return DecimalColumn(
        table, column, number, dialect,
        noun="a number", decimals=kind.decimals, bounds=bounds, nullable=kind.nullable, cut=kind.cut,
        outside=outside, negative=outside,
    )  # fmt: skip


class IntegerColumn:
    """The SQL of a whole number of a range, which may be written with zeros behind a point; see `NumberColumn`."""

    def __init__(self, table: Source, column: str, number: int, kind: Integer) -> None:
        expect(table, column, NUMERIC, "a whole number is a number")
        self.column, self.nullable = column, kind.nullable
        text, whole = f"count{number}", f"whole{number}"
        self.given = text
        self.texts = f"{trimmed(table, column)} AS {text}"
        self.spelt = self.forms = self.units = self.exact = ""
        self.numbers = (
            f"CASE WHEN {matches(text, _WHOLE_NUMBER)} "
            f"THEN TRY_CAST(split_part({text}, '.', 1) AS BIGINT) END AS {whole}"
        )
        self.conditions = [
            (f"coalesce({text}, '') = ''", "is missing"),
            (f"{whole} IS NULL", "is not a whole number of at most 18 digits"),
            (f"{whole} NOT BETWEEN {kind.min} AND {kind.max}", f"lies outside {kind.min} to {kind.max}"),
        ]
        self.value = whole


def expect(table: Source, name: str, types: tuple[str, ...], rule: str) -> str:
    """Return the column's type if it is one of `types`."""
    found = table.columns[name].type
    # ENUM('a', 'b'), DECIMAL(18,2), TIMESTAMP WITH TIME ZONE, TIMESTAMP_NS; but not INTEGER[].
    if not found.startswith(types) or found.endswith("]"):
        raise DataError(f"{table.name}: {rule}, and column {name!r} is of type {found}; cast it in a query")
    return found


def trimmed(table: Source, name: str) -> str:
    column = table.columns[name]
    if column.type != "VARCHAR":
        return column.text
    space = f"regexp_matches({column.sql}, {quote_text(_SPACE_AT_END)})"
    return f"CASE WHEN {space} THEN trim({column.sql}, {quote_text(_SPACES)}) ELSE {column.sql} END"


def matches(text: str, pattern: str) -> str:
    return f"coalesce(regexp_full_match({text}, {quote_text(pattern)}), false)"
