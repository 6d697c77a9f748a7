"""Rows of results: whether they are what a pattern declares, and how they are shown."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from secagg.errors import UsageError
from secagg.jobs.job import Job
from secagg.jobs.spreadsheet import csv_of
from secagg.party import PartyId
from secagg.patterns.parameters import units
from secagg.patterns.pattern import Result
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

_TYPES: Final[Mapping[type[Type], type]] = {
    Identifier: str, Integer: int, Money: int, Time: float,
    Real: Decimal, Date: datetime.date, Timestamp: datetime.datetime, Category: str, Boolean: bool,
}  # fmt: skip


def check_result(job: Job, me: PartyId, result: Result | None, *, expected: bool) -> None:
    """Refuse a result that the job's pattern does not declare for this party.

    Args:
      expected: whether the party is a recipient; the pattern was asked before it ran.

    Raises:
      UsageError: a result at a party that is no recipient, none at one that is, one that is no sequence of rows, or rows
        that have not the declared columns. That is a fault of the pattern's program.
    """
    if (result is not None) != expected:
        what = "a result" if expected else "none"
        raise contract_fault(job, f"expected {what} at {me}, got {'none' if expected else 'one'}")
    if not isinstance(result, Sequence | None):
        raise contract_fault(job, f"expected a sequence of rows, got {type(result).__name__}")
    kinds = [_TYPES[type(kind)] for kind in job.pattern.results.values()]
    nullable = [getattr(kind, "nullable", False) for kind in job.pattern.results.values()]
    for row in result or ():
        if not _fits(row, kinds, nullable):
            names = ", ".join(
                f"{column} ({kind.__name__})" for column, kind in zip(job.pattern.results, kinds, strict=True)
            )
            raise contract_fault(
                job, f"expected rows of {names}, got one of {', '.join(type(v).__name__ for v in row)}"
            )


def _fits(row: Sequence[Any], kinds: Sequence[type], nullable: Sequence[bool]) -> bool:
    return len(row) == len(kinds) and all(
        type(value) is kind or (value is None and may_be_null)
        for value, kind, may_be_null in zip(row, kinds, nullable, strict=True)
    )


def contract_fault(job: Job, what: str) -> UsageError:
    """Return the error that names the pattern, its package and what it does against the contract."""
    return UsageError(
        f"the pattern {job.pattern.name} of {job.installed.origin} breaks its contract: {what}; nothing is reported"
    )


def result_csv(columns: Schema, result: Result, *, decimals: int) -> str:
    """Return the result table; see `spreadsheet` for how texts stand in it."""
    kinds = list(columns.values())
    rows = [[_shown(v, kind, decimals) for v, kind in zip(row, kinds, strict=True)] for row in result]
    return csv_of(columns, rows)


def _shown(value: Any, kind: Type, decimals: int) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value:f}"
    return units(value, decimals) if isinstance(kind, Money) else str(value)
