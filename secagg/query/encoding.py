"""Columns as shares hold them: integers of 64 bits with a bit for NULL, and the way back.

  number       whole numbers, amounts and reals of declared decimals: times 10**scale, exact
  date         days since 1970-01-01
  timestamp    10**-scale seconds since 1970-01-01 UTC
  real         about 2**-scale; what divisions make, and no owner's column
  category     the place in the declared list
  boolean      0 or 1
  identifier   64 bits of a keyed pseudonym (`protocols.pseudonyms`), under a key that input parties alone hold

Identifiers sort and compare as numbers. Two different ones among N are taken for one with probability at most N**2 / 2**65.
A pseudonym comes back to a name at a party whose own rows have that name, and nowhere else.

An owner's table is checked before anything else. Refused is a value that is not of its column's type, lies outside the
declared range, has more decimals than declared, or is missing where it may not be, and an identifier that the rule of its
spelling refuses. The error says how many and the first row; no value shows.

Longer than most: each type's way to numbers stands beside its way back.
"""

# ruff: noqa: S608  names and texts are quoted by `quote_name` and `quote_text`, which double what ends them

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

import duckdb
import numpy as np
from numpy.typing import NDArray

from secagg.errors import DataError, UsageError
from secagg.printable import printable
from secagg.protocols.pseudonyms import log2_collision, pseudonyms
from secagg.query.spelling import spelt
from secagg.query.zones import instant_sql, is_skipped_sql

Kind: TypeAlias = Literal["number", "real", "date", "timestamp", "category", "boolean", "identifier"]
Connection: TypeAlias = duckdb.DuckDBPyConnection

PSEUDONYM_BITS: Final = 64
_EPOCH: Final = datetime.date(1970, 1, 1)
_SQL_TYPES: Final[Mapping[str, str]] = {
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "category": "VARCHAR",
    "boolean": "BOOLEAN",
    "identifier": "VARCHAR",
}
_WIDEST: Final = "DECIMAL(38, 18)"
_WHOLE: Final = ("BIGINT", "INTEGER", "SMALLINT", "TINYINT")
_DECIMAL: Final = re.compile(r"DECIMAL\([0-9]+,\s*([0-9]+)\)")
_NOISE: Final = "1e-12"  # of a float's printing, relative


@dataclass(frozen=True, slots=True)
class Field:
    """How a column lies on shares.

    Attributes:
      scale: of a number: the integer is the value times 10**scale; of a timestamp, of its seconds; of a real, in bits.
      low, high: the integer's range, both ends included; of a category that of places.
      categories: what the places of a category stand for.
      zone: of timestamps that name none.
      nullable: whether there is a bit for NULL.
      spelling: the rule by which identifiers are spelt, see `identifier_rules`.
    """

    name: str
    kind: Kind
    scale: int = 0
    low: int = 0
    high: int = 0
    categories: tuple[str, ...] = ()
    zone: str = "UTC"
    nullable: bool = False
    spelling: str = "exact"

    @property
    def sql_type(self) -> str:
        """DuckDB's type of the column."""
        if self.kind != "number":
            return _SQL_TYPES[self.kind]
        return f"DECIMAL(38, {self.scale})" if self.scale else "BIGINT"


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """An owner's column, ready to be shared once identifiers have their pseudonyms; its `repr` shows no value.

    Attributes:
      values: int64; of identifiers their texts, shape (rows,). What is NULL is 0, or "".
      null: which are NULL; None where none can be.
    """

    of: Field
    values: NDArray[Any] = field(repr=False)
    null: NDArray[np.bool_] | None = field(repr=False)

    def __len__(self) -> int:
        return len(self.values)


def quote_name(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


# In: from an owner's table to typed columns, and from these to integers.


def take_in(
    connection: Connection,
    source: str,
    fields: Sequence[Field],
    *,
    into: str,
    owner: str,
    table: str,
) -> int:
    """Check an owner's table and make one of typed columns of it; return its number of rows.

    Args:
      source: what stands after FROM.
      fields: the columns to take, by the names that `source` gives them.
      into: the name of the new table.
      owner, table: for messages.

    Raises:
      DataError: a column is missing, or rows hold what the declaration does not allow.
    """
    connection.execute("SET TimeZone = 'UTC'")
    found = {
        name: kind for name, kind, *_ in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    }
    by_name = {name.lower(): name for name in found}
    missing = [f.name for f in fields if f.name.lower() not in by_name]
    if missing:
        raise DataError(
            f"{owner}: {table} has no column {', '.join(missing)}; it has {', '.join(map(_shown, found))}"
        )
    columns = [_Column(f, by_name[f.name.lower()], found[by_name[f.name.lower()]]) for f in fields]
    faults = [(c, what, test) for c in columns for what, test in c.faults()]
    counts = ", ".join(
        f"count(*) FILTER (WHERE {test}), min(row) FILTER (WHERE {test})" for _, _, test in faults
    )
    numbered = f"(SELECT row_number() OVER () AS row, * FROM {source})"
    rows, *seen = connection.execute(
        f"SELECT count(*){', ' if counts else ''}{counts} FROM {numbered}"
    ).fetchall()[0]
    problems = [
        f"column {c.of.name}: {seen[2 * i]} of {rows} rows {what}, the first is row {seen[2 * i + 1]}"
        for i, (c, what, _) in enumerate(faults)
        if seen[2 * i]
    ]
    joins = ""
    for i, c in enumerate(columns):
        if c.of.kind == "identifier" and not problems:
            spelling = spelt(connection, f"{numbered} AS numbered", c.text, c.of.spelling, i)
            problems += [
                f"column {c.of.name}: {n} of {rows} rows {what}, the first is row {first}"
                for what, n, first in spelling.problems
            ]
            c.spelt, joins = spelling.value, f"{joins} {spelling.join}"
    if problems:
        raise DataError(f"{owner}: {table} cannot be used, nothing was sent. {'; '.join(problems)}")
    typed = ", ".join(f"{c.typed} AS {quote_name(c.of.name)}" for c in columns) or "1 AS no_column"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {quote_name(into)} AS SELECT {typed} FROM {source}{joins}"
    )
    return int(rows)


def _shown(name: str) -> str:
    return printable(name, 40)


class _Column:
    """The SQL about one column of an owner's table."""

    def __init__(self, of: Field, name: str, kind: str) -> None:
        self.of = of
        self._raw = quote_name(name)
        self.text = f"CAST({self._raw} AS VARCHAR)"
        self.spelt = self.text  # of an identifier
        self._type = kind
        self._is_float = kind in ("FLOAT", "DOUBLE")

    @property
    def typed(self) -> str:
        """The column in DuckDB's type of its field; of rows that are faulty anything."""
        of, raw = self.of, self._raw
        if of.kind == "identifier":
            return self.spelt
        if of.kind == "number":
            value = raw if self._is_exact else f"round({self._decimal}, {of.scale})"
            return f"TRY_CAST({value} AS {of.sql_type})"
        if of.kind == "timestamp":
            return f"timezone('UTC', {self._instant})"
        return f"TRY_CAST({self.text if of.kind == 'category' else raw} AS {of.sql_type})"

    @property
    def _instant(self) -> str:
        """A timestamp with its zone, which is the declared one where the table names none."""
        if self._type == "TIMESTAMP WITH TIME ZONE":
            return self._raw
        placed = instant_sql(self._local, self.of.zone)
        if self._type != "VARCHAR":
            return placed
        return f"CASE WHEN {self._names_zone} THEN TRY_CAST({self._raw} AS TIMESTAMPTZ) ELSE {placed} END"

    @property
    def _local(self) -> str:
        return f"TRY_CAST({self._raw} AS TIMESTAMP)"

    @property
    def _names_zone(self) -> str:
        """Whether a timestamp names a zone."""
        if self._type != "VARCHAR":
            return str(self._type == "TIMESTAMP WITH TIME ZONE").lower()
        return f"regexp_matches({self._raw}, ':[0-9.]+ *([Zz]|[+-][0-9]{{2}}(:?[0-9]{{2}})?)$')"

    @property
    def _is_exact(self) -> bool:
        """Whether the type has no more decimals than are declared; then no row needs to be rounded or read as a text."""
        found = _DECIMAL.fullmatch(self._type)
        return self._type in _WHOLE or (found is not None and int(found[1]) <= self.of.scale)

    @property
    def _decimal(self) -> str:
        return f"TRY_CAST({self.text} AS {_WIDEST})"

    def faults(self) -> list[tuple[str, str]]:
        """Return what rows can have wrong, and the condition that says so."""
        of, raw, typed = self.of, self._raw, self.typed
        given = f"{raw} IS NOT NULL"
        found = [] if of.nullable else [("are NULL, which the declaration does not allow", f"{raw} IS NULL")]
        if of.kind == "identifier":
            if self._is_float or self._type in ("DATE", "TIMESTAMP", "BOOLEAN"):
                raise DataError(
                    f"column {of.name}: expected texts or whole numbers as identifiers, got {self._type}; read it as text"
                )
            found.append(("hold no text", f"{raw} IS NOT NULL AND trim({self.text}) = ''"))
            return found
        if of.kind == "number" and self._type in ("DATE", "TIMESTAMP", "BOOLEAN"):
            raise DataError(f"column {of.name}: expected numbers, got {self._type}")
        found.append((f"are no {of.kind}", f"{given} AND {typed} IS NULL"))
        if of.kind == "number":
            rounded = raw if self._is_exact else f"round({self._decimal}, {of.scale})"
            if not self._is_exact:
                apart = f"abs({self._decimal} - {rounded})"
                more = f"{apart} > {_NOISE} * (1 + abs({rounded}))" if self._is_float else f"{apart} > 0"
                found.append(
                    (f"have more than the {of.scale} decimals that are declared", f"{given} AND {more}")
                )
            low, high = (as_decimal(v, of.scale) for v in (of.low, of.high))
            found.append(
                (
                    f"lie outside the declared range {low} to {high}",
                    f"{given} AND {rounded} NOT BETWEEN {low} AND {high}",
                )
            )
        elif of.kind == "category":
            listed = ", ".join(map(quote_text, of.categories))
            found[-1] = ("are none of the declared values", f"{given} AND {self.text} NOT IN ({listed})")
        elif of.kind == "timestamp":
            skipped = f"{given} AND NOT {self._names_zone} AND {is_skipped_sql(self._local, of.zone)}"
            found.append((f"do not exist in {of.zone}, whose clocks skip them", skipped))
            found.append(
                (
                    f"have more than the {of.scale} decimals of a second that are declared",
                    f"{given} AND epoch_us({typed}) % {10 ** (6 - of.scale)} <> 0",
                )
            )
        if of.kind in ("date", "timestamp"):
            found.append(
                (
                    f"lie outside the range {_moment(of, of.low)} to {_moment(of, of.high)}",
                    f"{given} AND {_integer_sql(of, typed)} NOT BETWEEN {of.low} AND {of.high}",
                )
            )
        return found


def _integer_sql(of: Field, typed: str) -> str:
    """Return the SQL of a column's integers, from the column in DuckDB's type."""
    if of.kind == "number":
        return f"CAST({typed} AS {of.sql_type})" + (f" * {10**of.scale}" if of.scale else "")
    if of.kind == "date":
        return f"date_diff('day', DATE '1970-01-01', {typed})"
    if of.kind == "timestamp":
        return f"epoch_us({typed}) // {10 ** (6 - of.scale)}"
    if of.kind == "category":
        return f"list_position([{', '.join(map(quote_text, of.categories))}], {typed}) - 1"
    return f"CAST({typed} AS INTEGER)"


def encode(
    connection: Connection, query: str, fields: Sequence[Field], *, owner: str, what: str
) -> list[Encoded]:
    """Return the result of an owner's own query as integers, and identifiers as texts.

    Args:
      query: a SELECT whose columns are the fields', by name.

    Raises:
      DataError: a number outside the range that the plan gives it.
    """
    parts = [
        quote_name(f.name)
        if f.kind == "identifier"
        else f"CAST({_integer_sql(f, quote_name(f.name))} AS BIGINT) AS {quote_name(f.name)}"
        for f in fields
    ]
    try:
        found = connection.execute(f"SELECT {', '.join(parts)} FROM ({query})").fetchnumpy()
    except duckdb.ConversionException:
        raise DataError(
            f"{owner}: a number of {what} does not fit 64 bits; declare ranges that hold"
        ) from None
    return [_encoded(f, found[f.name], owner=owner, what=what) for f in fields]


def _encoded(of: Field, column: NDArray[Any], *, owner: str, what: str) -> Encoded:
    mask = (
        np.ma.getmaskarray(column) if isinstance(column, np.ma.MaskedArray) else np.zeros(len(column), bool)
    )
    raw = np.ma.getdata(column)
    if mask.any() and not of.nullable:
        raise DataError(f"{owner}: {int(mask.sum())} of {len(mask)} rows of {what} have NULL as {of.name}")
    null = mask.copy() if of.nullable else None
    if of.kind == "identifier":
        texts = np.where(mask, "", raw).astype(object)
        return Encoded(of, texts, null)
    values = np.where(mask, 0, raw).astype(np.int64)
    outside = ~mask & ((values < of.low) | (values > of.high))
    if outside.any():
        raise DataError(
            f"{owner}: {int(outside.sum())} of {len(mask)} rows of {what} have {of.name} outside the range that the plan "
            f"gives it, the first is row {int(np.flatnonzero(outside)[0]) + 1}; nothing was sent"
        )
    return Encoded(of, values, null)


# Identifiers.


def pseudonymous(column: Encoded, key: bytes) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Return an identifier column as integers, and the names that they stand for."""
    names, places = np.unique(column.values.astype(str), return_inverse=True)
    words = pseudonyms(key, names.astype(object))[:, 0].view(np.int64)
    values = words[places.reshape(-1)]
    if column.null is not None:
        values = np.where(column.null, 0, values)
    return values, dict(zip(words.tolist(), names.tolist(), strict=True))


def log2_false_match(identifiers: int) -> float:
    """Return log2 of a bound on the probability that two of so many identifiers are taken for one."""
    return log2_collision(identifiers, PSEUDONYM_BITS)


# Back.


def as_decimal(value: int, scale: int) -> Decimal:
    """Return an integer of a number's column as the number."""
    return Decimal(value).scaleb(-scale)


def _moment(of: Field, value: int) -> str:
    if of.kind == "date":
        return str(_EPOCH + datetime.timedelta(days=value))
    return _instant(of, value).isoformat()


def _instant(of: Field, value: int) -> datetime.datetime:
    return datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(
        microseconds=value * 10 ** (6 - of.scale)
    )


def decode(
    of: Field, values: NDArray[np.int64], null: NDArray[np.bool_] | None, names: Mapping[int, str]
) -> list[Any]:
    """Return opened integers as Python values, None for NULL.

    Args:
      names: of identifiers, those of this party's own rows. Others show as `shown_pseudonym` says.

    Raises:
      UsageError: a category that there is not, which an unaltered program never gives.
    """
    known = [_decoded(of, value, names) for value in values.tolist()]
    if null is None:
        return known
    return [None if missing else value for value, missing in zip(known, null.tolist(), strict=True)]


def _decoded(of: Field, value: int, names: Mapping[int, str]) -> Any:
    if of.kind == "number":
        return as_decimal(value, of.scale) if of.scale else value
    if of.kind == "date":
        return _EPOCH + datetime.timedelta(days=value)
    if of.kind == "timestamp":
        return _instant(of, value)
    if of.kind == "real":
        return value / 2**of.scale
    if of.kind == "boolean":
        return bool(value)
    if of.kind == "identifier":
        return names.get(value, shown_pseudonym(value))
    if not 0 <= value < len(of.categories):
        raise UsageError(f"{of.name}: a category that was not declared was opened")
    return of.categories[value]


def shown_pseudonym(value: int) -> str:
    """Return what stands for an identifier at a party whose own rows have it not."""
    return f"pseudonym:{value & (1 << PSEUDONYM_BITS) - 1:016x}"
