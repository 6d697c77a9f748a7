"""The columns of a table, by type: what an input party puts in, and what a result shows.

A *field* is what a computation calls a column; a *column* is what a file calls it. A schema gives each field its type:

    Schema(patient=Identifier(), diagnosis=Identifier(repeated=True), age=Integer(0, 130))

A table is read into one array for each field. Which array that is stands at the types below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, get_args

from secagg.errors import UsageError

Columns: TypeAlias = Mapping[
    str, Any
]  # by field, an array of the type that stands at the field's type in the schema

_FIELD: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_LARGEST_INTEGER: Final = 10**17  # 18 digits, as `checks` reads them
OWN: Final = "secagg"  # the format in which each column is called as its field


@dataclass(frozen=True, slots=True)
class Identifier:
    """Somebody or something, compared byte by byte once it is spelt by the job's rule; read as `Categorical`.

    In a file it may be spread over several columns, as a bank's number and an account's.

    Attributes:
      repeated: few stand for many rows, as diagnoses do; then one in many rows looks like no placeholder.
    """

    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Money:
    """An amount from 0; read as int64, in the currency's smallest unit."""


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

    def __post_init__(self) -> None:
        if not -_LARGEST_INTEGER <= self.min <= self.max <= _LARGEST_INTEGER:
            raise UsageError(
                f"expected a range of integers from -10**17 to 10**17, got {self.min} to {self.max}"
            )


Type: TypeAlias = Identifier | Money | Time | Integer


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

    def __init__(self, **columns: Type) -> None:
        for name, kind in columns.items():
            if not _FIELD.fullmatch(name):
                raise UsageError(
                    f"expected a field of at most 32 lower-case letters, digits and '_', got {name!r:.80}"
                )
            if type(kind) not in get_args(Type):  # what reads and shows a column knows no others
                raise UsageError(f"expected Identifier, Money, Time or Integer for {name}, got {kind!r:.80}")
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
