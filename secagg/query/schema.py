"""The columns of a table, by type: what an input party puts in, and what a result shows.

A *field* is what a computation calls a column; a *column* is what a file calls it. A schema gives each field its type:

    Schema(patient=Identifier(), diagnosis=Identifier(repeated=True), age=Integer(0, 130))

A table is read into one array for each field. Which array that is stands at the types below. Where a type is `nullable`, a
field may be empty: its array is a `numpy.ma.MaskedArray` then. Identifiers that may be missing are read by queries alone.
"""

from __future__ import annotations

import datetime
import itertools
import re
import zoneinfo
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, TypeAlias, get_args

from secagg.errors import UsageError

Columns: TypeAlias = Mapping[
    str, Any
]  # by field, an array of the type that stands at the field's type in the schema

_FIELD: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_LARGEST_INTEGER: Final = 10**17  # 18 digits, as `checks` reads them
LARGEST_AMOUNT: Final = 10**13  # with four decimals 10**17
_MOST_CURRENCY_DECIMALS: Final = 4
_MOST_DECIMALS: Final = 15
_MOST_SECOND_DECIMALS: Final = 6
_MOST_ROWS: Final = 10**8
_LONGEST_VALUE: Final = 128
_EPOCH: Final = datetime.date(1970, 1, 1)
# Names such as "localtime" are another zone on each machine; "right/" counts leap seconds.
_ZONE: Final = re.compile(
    r"UTC|(Africa|America|Antarctica|Arctic|Asia|Atlantic|Australia|Etc|Europe|Indian|Pacific)/[A-Za-z0-9_+/-]{1,48}"
)
OWN: Final = "secagg"  # the format in which each column is called as its field


@dataclass(frozen=True, slots=True)
class Identifier:
    """Somebody or something, compared byte by byte once it is spelt by the job's rule; read as `Categorical`.

    In a file it may be spread over several columns, as a bank's number and an account's.

    Attributes:
      repeated: few stand for many rows, as diagnoses do; then one in many rows looks like no placeholder.
      spelling: the rule that spells it, where a table's declaration says it and no job; see `identifier_rules`.
      max_rows: in a query's table, of one identifier at each holder; None where nothing is said. Each holder's own rows are
        checked.
    """

    repeated: bool = False
    nullable: bool = False
    spelling: str = "exact"
    max_rows: int | None = None

    def __post_init__(self) -> None:
        if self.max_rows is not None and not 1 <= self.max_rows <= _MOST_ROWS:
            raise UsageError(
                f"expected max_rows of 1 to {_MOST_ROWS} rows of one identifier, got {self.max_rows}"
            )


@dataclass(frozen=True, slots=True)
class Money:
    """An amount from 0; read as int64, in the currency's smallest unit.

    Attributes:
      decimals: of the currency; None for those of the job.
      max: the largest amount, in units of the currency; None for that of the job.
    """

    decimals: int | None = None
    max: int | None = None
    nullable: bool = False

    def __post_init__(self) -> None:
        if not 0 <= (self.decimals or 0) <= _MOST_CURRENCY_DECIMALS:
            raise UsageError(
                f"expected 0 to {_MOST_CURRENCY_DECIMALS} decimals of a currency, got {self.decimals}"
            )
        if not 1 <= (1 if self.max is None else self.max) <= LARGEST_AMOUNT:
            raise UsageError(f"expected a largest amount of 1 to {LARGEST_AMOUNT} units, got {self.max}")


@dataclass(frozen=True, slots=True)
class Time:
    """When a row happened, for the job's window; read as float64.

    It counts seconds since 1970 UTC, or is the table's own number. A date and a time of day may be two columns.
    """


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number of a public range; read as int64. A row outside the range cannot be used."""

    min: int = 0
    max: int = _LARGEST_INTEGER
    nullable: bool = False

    def __post_init__(self) -> None:
        if not -_LARGEST_INTEGER <= self.min <= self.max <= _LARGEST_INTEGER:
            raise UsageError(
                f"expected a range of integers from -10**17 to 10**17, got {self.min} to {self.max}"
            )


@dataclass(frozen=True, slots=True)
class Real:
    """A number of a public range with so many decimals; read as int64, in units of 10**-decimals.

    A number with more decimals is refused; a floating-point column is read as the shortest decimals that name each number.

    Attributes:
      cut: further decimals are left off, towards zero, in place of a refusal, and text may be in scientific notation; for
        what a program computes, such as a model's scores.
    """

    min: Decimal
    max: Decimal
    decimals: int
    nullable: bool = False
    cut: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "min", Decimal(self.min))
        object.__setattr__(self, "max", Decimal(self.max))
        if not 0 <= self.decimals <= _MOST_DECIMALS:
            raise UsageError(f"expected 0 to {_MOST_DECIMALS} decimals, got {self.decimals}")
        largest = Decimal(_LARGEST_INTEGER).scaleb(-self.decimals)
        if not -largest <= self.min <= self.max <= largest:
            raise UsageError(
                f"expected a range from -{largest:f} to {largest:f}, got {self.min} to {self.max}"
            )
        if any(bound != round(bound, self.decimals) for bound in (self.min, self.max)):
            raise UsageError(
                f"expected a range with at most {self.decimals} decimals, got {self.min} to {self.max}"
            )

    @property
    def units(self) -> tuple[int, int]:
        """The range in units of 10**-decimals."""
        return int(self.min.scaleb(self.decimals)), int(self.max.scaleb(self.decimals))


@dataclass(frozen=True, slots=True)
class Date:
    """A day of a public range; read as int64, days since 1970-01-01."""

    min: datetime.date = datetime.date(1900, 1, 1)
    max: datetime.date = datetime.date(2199, 12, 31)
    nullable: bool = False

    def __post_init__(self) -> None:
        if not self.min <= self.max:
            raise UsageError(f"expected a range of dates, got {self.min} to {self.max}")

    @property
    def units(self) -> tuple[int, int]:
        """The range in days since 1970-01-01."""
        return (self.min - _EPOCH).days, (self.max - _EPOCH).days


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A day and a time of day; read as int64, in 10**-decimals seconds since 1970 UTC.

    Attributes:
      zone: the IANA zone of those that name none, and in which days, months and years are told.
      decimals: of a second, 0 to 6; a finer time is refused.
      min, max: the first and the last day that can be, as days of UTC.
    """

    zone: str = "UTC"
    decimals: int = 0
    min: datetime.date = datetime.date(1900, 1, 1)
    max: datetime.date = datetime.date(2199, 12, 31)
    nullable: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.decimals <= _MOST_SECOND_DECIMALS:
            raise UsageError(
                f"expected 0 to {_MOST_SECOND_DECIMALS} decimals of a second, got {self.decimals}"
            )
        if not self.min <= self.max:
            raise UsageError(f"expected a range of dates, got {self.min} to {self.max}")
        zone_of(self.zone)

    @property
    def units(self) -> tuple[int, int]:
        """The range in 10**-decimals seconds since 1970 UTC."""
        day = 86_400 * 10**self.decimals
        return (self.min - _EPOCH).days * day, ((self.max - _EPOCH).days + 1) * day - 1


@dataclass(frozen=True, slots=True)
class Category:
    """One of a public list of texts; read as int64, the text's place in the sorted list."""

    values: tuple[str, ...]
    nullable: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(sorted(self.values)))
        twice = next((a for a, b in itertools.pairwise(self.values) if a == b), None)
        if not self.values or twice is not None:
            raise UsageError(
                f"expected a list of different texts, got {'none' if twice is None else f'{twice!r:.60} twice'}"
            )
        if not all(
            0 < len(one) <= _LONGEST_VALUE and one.isprintable() and one == one.strip() for one in self.values
        ):
            raise UsageError(
                f"expected printable texts of 1 to {_LONGEST_VALUE} characters without spaces at their ends"
            )


@dataclass(frozen=True, slots=True)
class Boolean:
    """True or false; read as bool. A file writes true or false, t or f, yes or no, or 1 or 0."""

    nullable: bool = False


def zone_of(name: str) -> zoneinfo.ZoneInfo:
    """Return the zone of a name that means the same on each machine.

    Raises:
      UsageError: there is none.
    """
    try:
        if _ZONE.fullmatch(name):
            return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        pass
    raise UsageError(
        f"expected a zone such as UTC or Europe/Berlin, got {name!r:.80}; where the system has "
        "no time zones, pip install tzdata"
    )


Type: TypeAlias = Identifier | Money | Time | Integer | Real | Date | Timestamp | Category | Boolean


@dataclass(frozen=True, slots=True)
class Format:
    """A table layout known by name.

    Attributes:
      columns: the file's columns of each field.
      adjacent: columns that must stand side by side in this order. It tells apart columns that a header names alike,
        where their place alone says whose they are.
    """

    name: str
    columns: Mapping[str, tuple[str, ...]] = field(hash=False)
    adjacent: tuple[str, ...] = ()


class Schema(Mapping[str, Type]):
    """The type of each column by its field, in order.

    Raises:
      UsageError: no columns, a field that is no word in lower case, or times in two columns.
    """

    def __init__(self, /, **columns: Type) -> None:
        for name, kind in columns.items():
            if not _FIELD.fullmatch(name):
                raise UsageError(
                    f"expected a field of at most 32 lower-case letters, digits and '_', got {name!r:.80}"
                )
            if type(kind) not in get_args(Type):  # what reads and shows a column knows no others
                known = ", ".join(one.__name__ for one in get_args(Type))
                raise UsageError(f"expected one of {known} for {name}, got {kind!r:.80}")
        self._columns = dict(columns)
        self.formats: tuple[Format, ...] = ()
        if not columns or len(self.of_type(Time)) > 1:
            raise UsageError(
                f"expected columns, and at most one Time among them, got {', '.join(columns) or 'none'}"
            )

    def with_formats(self, *formats: Format) -> Schema:
        """Return the schema of tables that come in these formats as well.

        Raises:
          UsageError: a format that has other fields.
        """
        for known in formats:
            if known.columns.keys() != self.keys():
                raise UsageError(
                    f"expected columns for {', '.join(self)} in the format {known.name}, got {', '.join(known.columns)}"
                )
        schema = Schema(**self._columns)
        schema.formats = (*self.formats, *formats)
        return schema

    @property
    def own_format(self) -> Format:
        """The format in which each column is called as its field."""
        return Format(OWN, {field: (field,) for field in self})

    def of_type(self, kind: type[Type]) -> tuple[str, ...]:
        """Return the fields of this type."""
        return tuple(field for field, found in self._columns.items() if isinstance(found, kind))

    @property
    def identifiers(self) -> tuple[str, ...]:
        """The fields of identifiers."""
        return self.of_type(Identifier)

    @property
    def time(self) -> str | None:
        """The field of the time, if the table has one."""
        return next(iter(self.of_type(Time)), None)

    def __getitem__(self, field: str) -> Type:
        return self._columns[field]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        return f"Schema({', '.join(f'{field}={kind!r}' for field, kind in self.items())})"
