"""Example data of a pattern: made-up tables of a few organisations, and what a run must find in them.

A pattern brings its own by a method `example(seed)`, which is no part of the contract. With it, `secagg data make` and
`secagg demo` know the pattern. Values stand as a file has them: texts, numbers, bools, and amounts in units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

from secagg.errors import UsageError
from secagg.party import PartyId
from secagg.patterns.pattern import COMPUTING, INPUT, Pattern

FileTable: TypeAlias = Mapping[str, Sequence[object]]  # a table's columns by field, as a file has them

_COMPUTING_PARTIES: Final = 3


@dataclass(frozen=True)
class Example:
    """Made-up tables, and what is planted in them.

    Attributes:
      story: what is planted, in whole sentences; it names what `planted` names.
      tables: of each input party, by the pattern's names of tables.
      parameters: as a job file writes them.
      planted: beginnings of rows of the results. Each has to be told to somebody.
      roles: by role; by default the first three input parties compute. A role of nobody is left out.
      tolerance: by how much numbers may differ from those of the pooled tables, relative to those above 1.
    """

    story: str
    tables: Mapping[PartyId, Mapping[str, FileTable]]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    planted: Sequence[tuple[Any, ...]] = ()
    roles: Mapping[str, Sequence[PartyId]] = field(default_factory=dict)
    tolerance: float = 0.0

    def all_roles(self) -> dict[str, list[PartyId]]:
        """Return who has which role."""
        names = list(self.tables)
        default = {INPUT: names, COMPUTING: names[:_COMPUTING_PARTIES]}
        return {role: list(parties) for role, parties in {**default, **self.roles}.items() if parties}


@runtime_checkable
class WithExample(Protocol):
    """A pattern that brings example data."""

    def example(self, seed: int) -> Example:
        """Return example data; the same seed gives the same tables."""


def example_of(pattern: Pattern, seed: int) -> Example:
    """Return a pattern's example data.

    Raises:
      UsageError: it brings none, or tables that are not the pattern's.
    """
    if not isinstance(pattern, WithExample):
        raise UsageError(
            f"the pattern {pattern.name} brings no example data; its package adds them by a method example(seed)"
        )
    example = pattern.example(seed)
    for name, tables in example.tables.items():
        if {table: set(columns) for table, columns in tables.items()} != {
            table: set(schema) for table, schema in pattern.inputs.items()
        }:
            raise UsageError(
                f"the example data of the pattern {pattern.name} are not its tables: expected "
                f"{', '.join(pattern.inputs)} with their columns, got {', '.join(tables)} of {name}"
            )
        for table, columns in tables.items():
            if len({len(values) for values in columns.values()}) != 1:
                raise UsageError(f"the example data {table} of {name} have columns of different lengths")
    return example


def first_difference(
    found: Sequence[Sequence[Any]], expected: Sequence[Sequence[Any]], tolerance: float
) -> str | None:
    """Return where rows of results differ, None where they do not; values are texts, numbers, or numbers as texts."""
    if len(found) != len(expected):
        return f"{len(found)} rows in place of {len(expected)}"
    for i, (row, wanted) in enumerate(zip(found, expected, strict=True)):
        if len(row) != len(wanted) or not all(
            _equal(value, other, tolerance) for value, other in zip(row, wanted, strict=True)
        ):
            return f"row {i + 1}"
    return None


def not_found(example: Example, told: Mapping[PartyId, Sequence[Sequence[Any]]]) -> list[tuple[Any, ...]]:
    """Return what is planted and begins nobody's row."""
    rows = [row for own in told.values() for row in own]
    return [
        planted
        for planted in example.planted
        if not any(all(map(_same, row, planted)) and len(row) >= len(planted) for row in rows)
    ]


def _same(value: Any, other: Any) -> bool:
    return _equal(value, other, 0.0)


def _equal(value: Any, other: Any, tolerance: float) -> bool:
    a, b = _number(value), _number(other)
    if a is None or b is None:
        return str(value) == str(other)
    return abs(a - b) <= Decimal(tolerance) * max(Decimal(1), abs(b))


def _number(value: Any) -> Decimal | None:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
