"""Declarations: the tables that queries read, written down once in TOML by all who take part.

    [tables.transfers]
    holders = ["north", "south"]    # each holds some of the rows; the column `org` says who
    max_rows = 100000               # at each holder at most
    keys = [["id"]]                 # columns of which no two rows, of all holders together, have equal values

    [tables.transfers.columns]
    id = {type = "integer", min = 1, max = 1000000000}
    sender = {type = "identifier", spelling = "iban", max_rows = 200}  # of one sender, at each holder at most
    amount = {type = "money", decimals = 2, max = 1000000}
    rate = {type = "real", min = -1.0, max = 1.0, decimals = 4, nullable = true}
    booked = {type = "date", min = 2026-01-01, max = 2026-12-31}
    at = {type = "timestamp", zone = "Europe/Berlin"}
    channel = {type = "category", values = ["card", "transfer"]}
    urgent = "boolean"              # short for {type = "boolean"}

    [tables.customers]
    holder = "north"                # who holds all of it
    ...

What is wrong is named by file, line and field.
"""

from __future__ import annotations

import datetime
import decimal
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from secagg.errors import UsageError
from secagg.query.algebra import Column, Dependence, Domain, Scan, Source
from secagg.query.identifier_rules import Rule
from secagg.query.schema import (
    Boolean,
    Category,
    Date,
    Identifier,
    Integer,
    Money,
    Real,
    Schema,
    Time,
    Timestamp,
    Type,
)
from secagg.toml_files import FieldFault, check_values, convert, parse_toml, read_toml

_T = TypeVar("_T")

__all__ = ["ORG", "Declaration", "Table", "domain_of"]

ORG: Final = "org"
MAX_ROWS: Final = 10**8
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_HOLDER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_LARGEST_AMOUNT: Final = (
    10**9
)  # where the declaration says nothing, so that sums of millions of rows fit 62 bits
_DECIMALS: Final = 2
_MOST_HOLDERS: Final = 1000


class _Identifier(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="identifier"):
    spelling: str = "exact"
    repeated: bool = False
    nullable: bool = False
    max_rows: int | None = None


class _Money(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="money"):
    decimals: int = _DECIMALS
    max: int = _LARGEST_AMOUNT
    nullable: bool = False


class _Integer(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="integer"):
    min: int
    max: int
    nullable: bool = False


class _Real(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="real"):
    min: Decimal | int
    max: Decimal | int
    decimals: int
    nullable: bool = False


class _Date(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="date"):
    min: datetime.date = Date().min
    max: datetime.date = Date().max
    nullable: bool = False


class _Timestamp(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="timestamp"):
    zone: str
    decimals: int = 0
    min: datetime.date = Date().min
    max: datetime.date = Date().max
    nullable: bool = False


class _Category(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="category"):
    values: list[str]
    nullable: bool = False


class _Boolean(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="boolean"):
    nullable: bool = False


_Written: TypeAlias = _Identifier | _Money | _Integer | _Real | _Date | _Timestamp | _Category | _Boolean
_TYPES: Final[Mapping[str, tuple[type[_Written], type[Type]]]] = {
    "identifier": (_Identifier, Identifier),
    "money": (_Money, Money),
    "integer": (_Integer, Integer),
    "real": (_Real, Real),
    "date": (_Date, Date),
    "timestamp": (_Timestamp, Timestamp),
    "category": (_Category, Category),
    "boolean": (_Boolean, Boolean),
}


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    columns: dict[str, Any]
    max_rows: int
    holders: list[str] | None = None
    holder: str | None = None
    keys: list[list[str]] = []


class _File(msgspec.Struct, forbid_unknown_fields=True):
    tables: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Table:
    """A declared table.

    Attributes:
      schema: its columns, without `org`.
      holders: the organisations whose rows together are the table, in order; or the one that holds it alone.
      split: whether its rows are split over the holders; then it has the column `org`.
      max_rows: at each holder.
      keys: sets of columns declared unique.
    """

    name: str
    schema: Schema
    holders: tuple[str, ...]
    split: bool
    max_rows: int
    keys: tuple[tuple[str, ...], ...] = ()

    @property
    def columns(self) -> Mapping[str, Type]:
        """All columns by name, `org` last where there is one."""
        org: dict[str, Type] = {ORG: Category(self.holders)} if self.split else {}
        return dict(self.schema.items()) | org

    def scan(self, alias: str | None = None) -> Scan:
        """Return the relation of all its rows; its columns are called `alias.column`."""
        alias = self.name if alias is None else alias
        columns = tuple(
            Column(f"{alias}.{name}", domain_of(kind), frozenset({Dependence(Source(self.name, name))}))
            for name, kind in self.columns.items()
        )
        unique = frozenset(frozenset(f"{alias}.{name}" for name in key) for key in self.keys)
        return Scan(self.name, alias, columns, self.max_rows * len(self.holders), unique)


@dataclass(frozen=True)
class Declaration(Mapping[str, Table]):
    """The declared tables by name."""

    tables: Mapping[str, Table] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | str) -> Declaration:
        """Read and check a declaration.

        Raises:
          UsageError: the file cannot be read, or a field is wrong; the message names file, line and field.
        """
        path = Path(path)
        return cls.parse(read_toml(path, what="the declaration", kind=UsageError), file=path)

    @classmethod
    def parse(cls, text: str, *, file: Path | str = "declaration") -> Declaration:
        """Check the text of a declaration; errors as in `load`."""
        values = parse_toml(text, file=Path(file), kind=UsageError, parse_float=_decimal)
        try:
            check_values(values)
            read = convert(values, _File)
            if not read.tables:
                raise FieldFault("tables", "expected a table, got none")
            return cls({name: _table(name, one) for name, one in read.tables.items()})
        except FieldFault as fault:
            raise fault.error(file, text, UsageError) from None

    def __getitem__(self, name: str) -> Table:
        return self.tables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tables)

    def __len__(self) -> int:
        return len(self.tables)

    @property
    def holders(self) -> tuple[str, ...]:
        """Every organisation that holds something, in the order in which they first come."""
        return tuple(dict.fromkeys(holder for table in self.values() for holder in table.holders))


def domain_of(kind: Type) -> Domain:
    """Return the domain of a column of a declared type."""
    match kind:
        case Identifier(spelling=spelling, nullable=nullable):
            return Domain("identifier", spelling=spelling, nullable=nullable)
        case Money(decimals=decimals, max=most, nullable=nullable):
            decimals = _DECIMALS if decimals is None else decimals
            most = (_LARGEST_AMOUNT if most is None else most) * 10**decimals
            return Domain("number", 0, most, decimals=decimals, nullable=nullable)
        case Integer(min=least, max=largest, nullable=nullable):
            return Domain("number", least, largest, nullable=nullable)
        case Real(decimals=decimals, nullable=nullable):
            return Domain("number", *kind.units, decimals=decimals, nullable=nullable)
        case Date(nullable=nullable):
            return Domain("date", *kind.units, nullable=nullable)
        case Timestamp(zone=zone, decimals=decimals, nullable=nullable):
            return Domain("timestamp", *kind.units, decimals=decimals, zone=zone, nullable=nullable)
        case Category(values=values, nullable=nullable):
            return Domain("category", 0, len(values) - 1, values=values, nullable=nullable)
        case Boolean(nullable=nullable):
            return Domain("boolean", 0, 1, nullable=nullable)
        case Time():
            raise UsageError("a query's table has no column of type Time; declare a date or a timestamp")


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except decimal.InvalidOperation:  # an exponent of more than 18 digits
        return Decimal("nan")


def _table(name: str, values: Mapping[str, Any]) -> Table:
    place = f"tables.{name}"
    read = _converted(values, _Table, place)
    if not _NAME.fullmatch(name):
        raise FieldFault(
            place, f"expected a name of at most 63 lower-case letters, digits and '_', got {name!r:.80}"
        )
    if (read.holders is None) == (read.holder is None):
        got = "neither" if read.holder is None else "both"
        raise FieldFault(
            place,
            f"expected `holders`, who hold some of the rows each, or `holder`, who holds the whole table; got {got}",
        )
    if not 1 <= read.max_rows <= MAX_ROWS:
        raise FieldFault(f"{place}.max_rows", f"expected 1 to {MAX_ROWS} rows, got {read.max_rows}")
    columns = {
        column: _column(f"{place}.columns.{column}", column, kind) for column, kind in read.columns.items()
    }
    for column, kind in columns.items():
        if isinstance(kind, Identifier) and (kind.max_rows or 0) > read.max_rows:
            raise FieldFault(
                f"{place}.columns.{column}.max_rows",
                f"expected at most the {read.max_rows} rows of the table, got {kind.max_rows}",
            )
    try:
        schema = Schema(**columns)
    except UsageError as error:
        raise FieldFault(f"{place}.columns", str(error)) from None
    return Table(
        name=name,
        schema=schema,
        holders=_holders(place, read),
        split=read.holders is not None,
        max_rows=read.max_rows,
        keys=_keys(place, read, columns),
    )


def _holders(place: str, read: _Table) -> tuple[str, ...]:
    holders = read.holders if read.holders is not None else [read.holder or ""]
    field = f"{place}.{'holders' if read.holders is not None else 'holder'}"
    if not 1 <= len(holders) <= _MOST_HOLDERS:
        raise FieldFault(field, f"expected 1 to {_MOST_HOLDERS} organisations, got {len(holders)}")
    for holder in holders:
        if not _HOLDER.fullmatch(holder):
            raise FieldFault(
                field,
                f"expected names of letters, digits, '-' and '_', as the job names parties, got {holder!r:.80}",
            )
    if len(set(holders)) < len(holders):
        raise FieldFault(field, "expected each organisation once")
    return tuple(holders)


def _keys(place: str, read: _Table, columns: Mapping[str, Type]) -> tuple[tuple[str, ...], ...]:
    org = {ORG} if read.holders is not None else set()
    for i, key in enumerate(read.keys):
        if not key or len(set(key)) < len(key):
            raise FieldFault(f"{place}.keys[{i}]", "expected different columns, at least one")
        unknown = next((column for column in key if column not in columns.keys() | org), None)
        if unknown is not None:
            raise FieldFault(
                f"{place}.keys[{i}]", f"there is no column {unknown!r:.80}; there are {', '.join(columns)}"
            )
    return tuple(map(tuple, read.keys))


def _column(place: str, name: str, written: object) -> Type:
    if name == ORG:
        raise FieldFault(place, f"{ORG} names the organisation that a row lies at; call the column otherwise")
    values = {"type": written} if isinstance(written, str) else written
    kind = values.get("type") if isinstance(values, dict) else None
    known = ", ".join(_TYPES)
    if kind is None:
        raise FieldFault(place, f'expected a type such as "date" or {{type = "date"}}; the types are {known}')
    if not isinstance(kind, str) or kind not in _TYPES:
        raise FieldFault(place, f"there is no type {kind!r:.80}; the types are {known}")
    struct, made = _TYPES[kind]
    read = _converted(values, struct, place)
    if isinstance(read, _Identifier):
        try:
            Rule(read.spelling)
        except UsageError as error:
            raise FieldFault(f"{place}.spelling", str(error)) from None
    try:
        return made(**msgspec.structs.asdict(read))
    except (UsageError, decimal.InvalidOperation) as error:
        what = str(error) if isinstance(error, UsageError) else "expected numbers of at most 28 digits"
        raise FieldFault(place, what) from None


def _converted(values: object, struct: type[_T], place: str) -> _T:
    try:
        return convert(values, struct)
    except FieldFault as fault:
        raise FieldFault(f"{place}.{fault.field}" if fault.field else place, str(fault)) from None
