"""Read the tables that the fraud patterns compute on: transfers and cash deposits.

A table is read in one scan by DuckDB (`sources`), which also checks each row: identifiers are there, the
amount is a decimal from 0 to a limit, the time is a number or an ISO timestamp. What comes back are numpy
arrays and a report of what was left out; a row that cannot be used is named by file, line and column, and
its value is never shown.

Amounts become whole cents. Text and decimals are converted exactly; more than two decimals, as in the
103.55000000000001 of a simulator that prints floats, are rounded to the nearest cent, half to even. A
floating-point column is read as the shortest decimal that names the number, so that it gives the cents
that its CSV export gives. Digits past the 18th decimal are rounded first.

Times become seconds as float64. Timestamps count from 1970-01-01 UTC, and mean UTC where they carry no
zone: 2022-09-01, 2022/09/01 00:20, 2022-09-01T00:20:00.5+02:00. Numbers stay as they are, be they epoch
seconds or a simulator's steps; above 2**53 they are not told apart to the last digit. A table holds one
or the other, not both.

Identifiers are text without surrounding whitespace, otherwise as they stand: case, leading zeros and
Unicode composition count. A floating-point column is refused as identifier, because 12 would become 12.0
and meet nobody else's 12.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import duckdb
import numpy as np
from numpy.typing import NDArray

from secagg.data.checks import LARGEST_LIMIT, Fault, checked_rows
from secagg.data.columns import Columns, DepositColumns, TransferColumns, resolve_columns
from secagg.data.sources import Malformed, Source, open_source
from secagg.errors import DataError, UsageError

__all__ = [
    "BadRow",
    "Deposits",
    "FaultCount",
    "ReadReport",
    "Transfers",
    "parse_time",
    "read_deposits",
    "read_transfers",
]

BadRows: TypeAlias = Literal["refuse", "skip"]
TimeBound: TypeAlias = float | str | datetime.datetime | None

_LISTED = 20


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used.

    `line` counts physical lines from 1, the header's being 1, in a CSV file (where a record spans lines, its
    first); rows from 1 in a Parquet file or the result of a query. It is 0 where it cannot be told.
    `column` is the table's own name, or "" where the whole row is wrong.
    """

    file: str
    line: int
    column: str
    reason: str
    unit: Literal["line", "row"] = "line"

    def __str__(self) -> str:
        place = ": line not known"
        if self.line:
            place = f":{self.line}" if self.unit == "line" else f": row {self.line}"
        return f"{self.file}{place}: {self.column or 'the row'} {self.reason}"


@dataclass(frozen=True, slots=True)
class FaultCount:
    """How many rows have a fault; a row with several counts under its first."""

    column: str
    reason: str
    rows: int


@dataclass(frozen=True, slots=True)
class ReadReport:
    """What reading a table came to.

    Attributes:
      source: the file, or "query".
      rows_read: all rows of the table, bad ones too.
      rows_in_window: the rows that are handed on.
      rows_outside: good rows outside the window.
      rows_bad: rows that cannot be used, whatever their time; none unless they were skipped.
      bad_rows: the first 20 of them, in the table's order.
      faults: all of them, counted by column and reason.
      times: whether the table's times are numbers or timestamps; "none" for a table without good rows.
    """

    source: str
    rows_read: int
    rows_in_window: int
    rows_outside: int
    rows_bad: int
    bad_rows: tuple[BadRow, ...] = ()
    faults: tuple[FaultCount, ...] = ()
    times: Literal["numbers", "timestamps", "none"] = "none"

    def __str__(self) -> str:
        text = f"{self.source}: {self.rows_read} rows read, {self.rows_in_window} used"
        if self.rows_outside:
            text += f", {self.rows_outside} outside the window"
        if self.rows_bad:
            text += f", {self.rows_bad} bad ({_describe(self.faults)})"
        return text


@dataclass(frozen=True, slots=True, eq=False)
class Transfers:
    """Transfers in a table's order: parallel arrays of one length.

    Attributes:
      beneficiary, sender: objects, each a str that is not empty. Python's own strings factorise fastest, by
        a dict: a million in half the time of numpy's sort.
      amount_cents: int64, from 0.
      time: float64, finite; seconds since 1970 UTC, or the table's own numbers.
      report: what was read and what was left out.
    """

    beneficiary: NDArray[np.object_] = field(repr=False)
    sender: NDArray[np.object_] = field(repr=False)
    amount_cents: NDArray[np.int64] = field(repr=False)
    time: NDArray[np.float64] = field(repr=False)
    report: ReadReport

    def __len__(self) -> int:
        return len(self.amount_cents)


@dataclass(frozen=True, slots=True, eq=False)
class Deposits:
    """Cash deposits in a table's order: parallel arrays of one length.

    Attributes:
      customer: objects, each a str that is not empty; one name for a customer at all banks.
      amount_cents: int64, from 0.
      time: float64, finite; seconds since 1970 UTC, or the table's own numbers.
      report: what was read and what was left out.
    """

    customer: NDArray[np.object_] = field(repr=False)
    amount_cents: NDArray[np.int64] = field(repr=False)
    time: NDArray[np.float64] = field(repr=False)
    report: ReadReport

    def __len__(self) -> int:
        return len(self.amount_cents)


def read_transfers(
    source: str | Path,
    *,
    mapping: TransferColumns | str | None = None,
    window: tuple[TimeBound, TimeBound] | None = None,
    bad_rows: BadRows = "refuse",
    max_amount: int = 10**9,
) -> Transfers:
    """Read a table of transfers.

    Args:
      source: a path (.csv, .csv.gz, .tsv, .tsv.gz, .parquet, or .sql that holds one SELECT), or a SELECT
        after `duckdb:`.
      mapping: which column is which, or the name of a known format; recognised from the header by default.
      window: half-open [start, end) of times: numbers, timestamps, or None for no bound. Rows outside are
        dropped and counted.
      bad_rows: what to do about rows that cannot be used.
      max_amount: largest amount that is not a mistake, in units; at most 10**13.

    Raises:
      DataError: there is no such table, a column is missing, or rows are bad and not to be skipped.
      UsageError: a window that ends before it starts or is no time; a limit out of range.
    """
    rows = _read(source, mapping, TransferColumns, window, bad_rows, max_amount)
    beneficiary, sender = rows.identifiers
    return Transfers(beneficiary, sender, rows.amount_cents, rows.time, rows.report)


def read_deposits(
    source: str | Path,
    *,
    mapping: DepositColumns | str | None = None,
    window: tuple[TimeBound, TimeBound] | None = None,
    bad_rows: BadRows = "refuse",
    max_amount: int = 10**9,
) -> Deposits:
    """Read a table of cash deposits; arguments and errors are those of `read_transfers`."""
    rows = _read(source, mapping, DepositColumns, window, bad_rows, max_amount)
    (customer,) = rows.identifiers
    return Deposits(customer, rows.amount_cents, rows.time, rows.report)


def parse_time(value: TimeBound, *, name: str = "time") -> float | None:
    """Return a time as the tables have it: a number as it stands, a timestamp as seconds since 1970 UTC.

    Args:
      value: a number, its text, an ISO timestamp, a datetime (UTC where it has no zone), or None.
      name: what the value is called in messages.

    Raises:
      UsageError: it is none of these, or not finite.
    """
    if value is None:
        return None
    text = value.isoformat() if isinstance(value, datetime.datetime) else str(value).strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = datetime.datetime.fromisoformat(text.replace("/", "-"))
        except ValueError:
            seconds = math.nan
        else:
            moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
            seconds = (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)).total_seconds()
    if not math.isfinite(seconds):
        raise UsageError(
            f"{name}: a number or an ISO timestamp such as 2022-09-01T00:20:00 is expected; got {text!r}"
        )
    return seconds


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    identifiers: list[NDArray[np.object_]]
    amount_cents: NDArray[np.int64]
    time: NDArray[np.float64]
    report: ReadReport


def _read(
    source: str | Path,
    mapping: Columns | str | None,
    kind: type[Columns],
    window: tuple[TimeBound, TimeBound] | None,
    bad_rows: str,
    max_amount: int,
) -> _Rows:
    if bad_rows not in ("refuse", "skip"):
        raise UsageError(f'bad_rows is "refuse" or "skip"; got {bad_rows!r}')
    if not 0 < max_amount <= LARGEST_LIMIT:
        raise UsageError(f"max_amount lies from 1 to {LARGEST_LIMIT}; got {max_amount}")
    bounds = _bounds(window)
    table = open_source(source)
    with contextlib.closing(table.connection):
        columns = resolve_columns(tuple(table.columns), mapping, kind, table=table.name)
        query, faults = checked_rows(table, columns, bounds, max_amount)
        try:
            scan: dict[str, NDArray[Any]] = table.connection.execute(query).fetchnumpy()
        except duckdb.Error as error:
            # What DuckDB says here may quote a row's values.
            raise DataError(
                f"{table.name}: DuckDB cannot read the table ({type(error).__name__}); see that the query runs "
                "by itself, or that a CSV file has one kind of line end and quotes as RFC 4180 has them"
            ) from None
        why, is_timestamp, keep = scan["why"], scan["is_timestamp"], scan["keep"]
        times = _one_kind_of_time(why, is_timestamp, keep, faults, columns.time)
        report = _report(table, why, keep, faults, times)
    if report.rows_bad and bad_rows == "refuse":
        raise DataError(*_refusal(report))
    taken: slice | NDArray[np.bool_] = slice(None) if keep.all() else keep
    identifiers = [scan[f"id{i}"][taken] for i in range(len(columns.identifiers))]
    return _Rows(identifiers, scan["cents"][taken], scan["seconds"][taken], report)


def _bounds(window: tuple[TimeBound, TimeBound] | None) -> tuple[float, float]:
    if window is None:
        return -math.inf, math.inf
    start = parse_time(window[0], name="window start")
    end = parse_time(window[1], name="window end")
    start, end = -math.inf if start is None else start, math.inf if end is None else end
    if start >= end:
        raise UsageError(f"a window [start, end) ends after it starts; got {window[0]} to {window[1]}")
    return start, end


def _one_kind_of_time(
    why: NDArray[np.uint8],
    is_timestamp: NDArray[np.bool_],
    keep: NDArray[np.bool_],
    faults: list[Fault],
    column: str,
) -> Literal["numbers", "timestamps", "none"]:
    """Mark, in place, the good rows whose time is of another kind than the first good row's."""
    good = why == 0
    if not good.any():
        return "none"
    timestamps = bool(is_timestamp[good.argmax()])
    other = good & (is_timestamp != timestamps)
    if other.any():
        mine, first = ("a number", "a timestamp") if timestamps else ("a timestamp", "a number")
        faults.append(Fault(column, f"is {mine}, while the first good row has {first}"))
        why[other] = len(faults)
        keep &= ~other
    return "timestamps" if timestamps else "numbers"


def _report(
    table: Source,
    why: NDArray[np.uint8],
    keep: NDArray[np.bool_],
    faults: Sequence[Fault],
    times: Literal["numbers", "timestamps", "none"],
) -> ReadReport:
    malformed = table.csv_file.malformed(table.connection, len(why)) if table.csv_file else []
    counts = collections.Counter(Fault("", record.reason) for record in malformed)
    for number, rows in enumerate(np.bincount(why).tolist()):
        if number and rows:
            counts[faults[number - 1]] += rows
    rows_read = len(malformed) + len(why)
    rows_bad = counts.total()
    rows_in_window = int(np.count_nonzero(keep))
    return ReadReport(
        source=table.name,
        rows_read=rows_read,
        rows_in_window=rows_in_window,
        rows_outside=rows_read - rows_bad - rows_in_window,
        rows_bad=rows_bad,
        bad_rows=_first_bad_rows(table, why, faults, malformed),
        faults=tuple(FaultCount(fault.column, fault.reason, rows) for fault, rows in counts.most_common()),
        times=times,
    )


def _first_bad_rows(
    table: Source, why: NDArray[np.uint8], faults: Sequence[Fault], malformed: Sequence[Malformed]
) -> tuple[BadRow, ...]:
    rows = np.flatnonzero(why)[:_LISTED].tolist()
    found = [faults[why[row] - 1] for row in rows]
    unit: Literal["line", "row"] = "row"
    lines = [row + 1 for row in rows]
    if table.csv_file is not None:
        unit = "line"
        lines = []
        if rows or malformed:
            row_lines, malformed_lines = table.csv_file.locate(rows, malformed, len(why))
            lines = row_lines + malformed_lines[:_LISTED]
            found += [Fault("", record.reason) for record in malformed[:_LISTED]]
    bad = [
        BadRow(table.name, line, fault.column, fault.reason, unit)
        for line, fault in zip(lines, found, strict=True)
    ]
    return tuple(sorted(bad, key=lambda row: row.line)[:_LISTED])


def _refusal(report: ReadReport) -> list[str]:
    lines = [f"{report.source}: {report.rows_bad} of {report.rows_read} rows cannot be used"]
    lines += [f"  {row}" for row in report.bad_rows]
    if report.rows_bad > len(report.bad_rows):
        lines.append(
            f"  and {report.rows_bad - len(report.bad_rows)} more; in all: {_describe(report.faults)}"
        )
    lines.append('mend them, or leave them out: bad_rows="skip", on the command line --bad-rows skip')
    return lines


def _describe(faults: Sequence[FaultCount]) -> str:
    return "; ".join(f"{fault.column or 'the row'} {fault.reason}: {fault.rows}" for fault in faults)
