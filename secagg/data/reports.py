"""What reading a table came to, in numbers and in words; values of the table are never in it."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import math
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from secagg.data.conventions import Conventions
from secagg.errors import BadRowsError, EmptyTableError

__all__ = [
    "EMPTY",
    "LISTED",
    "BadRow",
    "FaultCount",
    "IdentifierCount",
    "ReadReport",
    "Times",
    "join_reports",
    "shown_time",
]

Times = Literal["numbers", "timestamps"]

EMPTY: Final = "is empty"  # of a row that holds nothing in any column that is read
LISTED: Final = 20  # bad rows that are named one by one
_ALIKE: Final = 3  # of these where there are more: rows that have the same wrong with them
# Where leaving rows out would falsify what is computed, and elsewhere.
_ADVICE: Final = {
    "is above": "true amounts that are larger: all parties raise largest_amount in the job's [data]; without these "
    "rows the sums would be wrong",
    "is negative": "amounts below zero: net reversals against what they reverse; the patterns add up amounts from 0",
    "has digits below": "digits below the smallest unit: round them by your own rule; of amounts, all parties may "
    "raise currency_decimals in the job's [data] instead",
    "is not UTF-8": "text in another encoding: say it, on the command line --encoding, such as cp1252",
    "is in scientific notation": "numbers in scientific notation: export them with all digits",
    "can be read with decimals": "numbers in text: say their separators, such as --decimal , --thousands .",
    "has separators": "numbers in text: say their separators, such as --decimal , --thousands .",
    "has other separators": "numbers with other separators: see --decimal and --thousands",
    "has a currency": "amounts with a currency: export the numbers alone, and amounts of one currency",
    "is an IBAN that others": "IBANs: export them in capitals without spaces, or all parties agree on "
    'identifiers = "iban" in the job\'s [data]; without them, findings would be missing',
    "is a date with points": "dates in another form: say it with --date-format",
}
_HINTS: Final = {
    "is not a number or an ISO": "times in another form: say it with --date-format, such as %d.%m.%Y or %m/%d/%Y",
    "is a number, and the window": "times that are a spreadsheet's numbers of days, such as 46266.375: give the column a "
    "date format there, export it again, and say its form with --date-format",
    "stands for no": "identifiers that are real: all parties list them as real_identifiers in the job's [data]",
}


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used.

    In a CSV file, `line` is the physical line on which the record begins; the header's is 1. In a Parquet file or the
    result of a query, it counts rows from 1. It is 0 where it cannot be told.
    `column` is the table's own name, or "" where the whole row is wrong. `key` is what the row's primary key
    says, where one is declared. `further` is what is wrong in other columns, as (column, reason).
    """

    file: str
    line: int
    column: str
    reason: str
    unit: Literal["line", "row"] = "line"
    key: str = field(repr=False, default="")
    further: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        place = ": line not known"
        if self.key:
            place = f": {self.key}"
        elif self.line:
            place = f":{self.line}" if self.unit == "line" else f": row {self.line}"
        wrong = ((self.column, self.reason), *self.further)
        return f"{self.file}{place}: " + "; ".join(
            f"{column or 'the row'} {reason}" for column, reason in wrong
        )


@dataclass(frozen=True, slots=True)
class FaultCount:
    """How many rows have a fault; a row with several counts under its first."""

    column: str
    reason: str
    rows: int


@dataclass(frozen=True, slots=True)
class IdentifierCount:
    """What became of a table's identifiers of one field, in rows that count.

    Attributes:
      rule: by which they are spelt.
      distinct: how many different ones there are, once they are spelt.
      respelt: how many of these the table spells otherwise.
      merged: how many of these the table spells in several ways.
    """

    field: str
    rule: str
    distinct: int
    respelt: int
    merged: int


@dataclass(frozen=True, slots=True)
class ReadReport:
    """What reading a table came to.

    Attributes:
      source: the files, or "query".
      rows_read: all rows of the table, bad ones too.
      rows_in_window: the rows that are handed on.
      rows_outside: good rows outside the window.
      rows_bad: rows that cannot be used, whatever their time; none unless they were skipped.
      bad_rows: the first 20 of them, in the table's order.
      faults: all of them, counted by column and reason.
      times: whether the table's times are numbers or timestamps; "none" for a table without good rows.
      zoned, unzoned: good rows whose timestamp names a zone, and whose does not.
      span: the first and the last time of a good row, in the window or not; None without good rows.
      columns: which column is which, by field.
      amounts: the columns of amounts.
      identifiers: what became of them, by field.
      warnings: what looks wrong and may be right; they hold no value of the table.
      window: of which times rows count.
      zone: the zone of timestamps that name none, in which times are shown.
      files: each file's format.
      date_formats: those that would read all its times, where some cannot be read.
    """

    source: str
    rows_read: int
    rows_in_window: int
    rows_outside: int
    rows_bad: int
    bad_rows: tuple[BadRow, ...] = ()
    faults: tuple[FaultCount, ...] = ()
    times: Times | Literal["none"] = "none"
    zoned: int = 0
    unzoned: int = 0
    span: tuple[float, float] | None = None
    columns: tuple[tuple[str, tuple[str, ...]], ...] = ()
    amounts: tuple[str, ...] = ()
    identifiers: tuple[IdentifierCount, ...] = ()
    warnings: tuple[str, ...] = ()
    window: str = ""
    zone: zoneinfo.ZoneInfo = field(default_factory=lambda: Conventions().zone)
    files: tuple[str, ...] = ()
    date_formats: tuple[str, ...] = ()

    def check(self, *, bad_rows: Literal["refuse", "skip"], allow_empty: bool) -> None:
        """Refuse a table with bad rows, or of which no row counts, unless told otherwise.

        Raises:
          BadRowsError, EmptyTableError: which they are, and what to do.
        """
        if self.rows_bad and bad_rows == "refuse":
            unnamed = [dataclasses.replace(row, key="") for row in self.bad_rows]
            raise BadRowsError(*_refusal(self, self.bad_rows), recorded=_refusal(self, unnamed))
        if not self.rows_in_window and not allow_empty:
            raise EmptyTableError(_emptiness(self))

    def left_out(self) -> tuple[str, ...]:
        """Return a warning about rows that are left out; not of those that have no amount where others have one."""
        rows = self.rows_bad - sum(
            fault.rows
            for fault in self.faults
            if (fault.column in self.amounts and fault.reason == "is missing")
            or (fault.column, fault.reason) == ("", EMPTY)
        )
        if not rows:
            return ()
        row, is_, it = ("row", "is", "it") if rows == 1 else ("rows", "are", "them")
        if self.amounts:
            return (f"{self.source}: {rows} {row} with amounts {is_} left out; sums lack {it}",)
        return (f"{self.source}: {rows} {row} {is_} left out",)

    def shown_span(self) -> tuple[str, str] | None:
        """Return the first and the last time as they are shown."""
        if self.span is None or self.times == "none":
            return None
        first, last = (shown_time(time, self.times, self.zone) for time in self.span)
        return first, last

    def __str__(self) -> str:
        text = f"{self.source}: {self.rows_read} rows read, {self.rows_in_window} used"
        if self.rows_outside:
            text += f", {self.rows_outside} outside the window"
        if self.rows_bad:
            text += f", {self.rows_bad} bad ({_describe(self.faults)})"
        return text


def join_reports(reports: Sequence[ReadReport], identifiers: Sequence[IdentifierCount]) -> ReadReport:
    """Return the report of several files that are one table.

    Args:
      reports: all of one kind of times, where they have times.
      identifiers: what became of the identifiers of all files together.
    """
    spans = [report.span for report in reports if report.span is not None]
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for report in reports:
        for fault in report.faults:
            counts[fault.column, fault.reason] += fault.rows
    return ReadReport(
        source=", ".join(report.source for report in reports),
        rows_read=sum(report.rows_read for report in reports),
        rows_in_window=sum(report.rows_in_window for report in reports),
        rows_outside=sum(report.rows_outside for report in reports),
        rows_bad=sum(report.rows_bad for report in reports),
        bad_rows=tuple(row for report in reports for row in report.bad_rows)[:LISTED],
        faults=tuple(FaultCount(*fault, rows) for fault, rows in counts.most_common()),
        times=next((report.times for report in reports if report.times != "none"), "none"),
        zoned=sum(report.zoned for report in reports),
        unzoned=sum(report.unzoned for report in reports),
        span=(min(first for first, _ in spans), max(last for _, last in spans)) if spans else None,
        columns=reports[0].columns,
        amounts=tuple(dict.fromkeys(name for report in reports for name in report.amounts)),
        identifiers=tuple(identifiers),
        warnings=tuple(text for report in reports for text in report.warnings),
        window=reports[0].window,
        zone=reports[0].zone,
        files=tuple(text for report in reports for text in report.files),
        date_formats=tuple(dict.fromkeys(name for report in reports for name in report.date_formats)),
    )


def _refusal(report: ReadReport, bad_rows: Sequence[BadRow]) -> list[str]:
    lines = [f"{report.source}: {report.rows_bad} of {report.rows_read} rows cannot be used"]
    named = bad_rows if report.rows_bad <= LISTED else _first_of_each_kind(bad_rows)
    lines += [f"  {row}" for row in named]
    if report.rows_bad > len(named):
        lines.append(f"  and {report.rows_bad - len(named)} more; in all: {_describe(report.faults)}")
    advice = _ADVICE | _HINTS
    if report.date_formats:
        lines.append(_fitting(report.date_formats))
        advice = {start: text for start, text in advice.items() if "--date-format" not in text}
    lines += dict.fromkeys(
        text
        for start, text in advice.items()
        if any(fault.reason.startswith(start) for fault in report.faults)
    )
    if not report.date_formats and not any(
        fault.reason.startswith(tuple(_ADVICE)) for fault in report.faults
    ):
        lines.append('mend the rows, or leave them out: bad_rows="skip", on the command line --bad-rows skip')
    return lines


def _first_of_each_kind(bad_rows: Sequence[BadRow]) -> list[BadRow]:
    """Return the first rows of those that have the same wrong with them; more of them would say the same again."""
    counts: collections.Counter[tuple[tuple[str, str], ...]] = collections.Counter()
    first = []
    for row in bad_rows:
        kind = ((row.column, row.reason), *row.further)
        counts[kind] += 1
        if counts[kind] <= _ALIKE:
            first.append(row)
    return first


def _fitting(formats: Sequence[str]) -> str:
    """Return how to declare the date format that reads the table's times."""
    shown = [f"'{name}'" if " " in name else name for name in formats]
    if len(formats) == 1:
        return f'times: --date-format {shown[0]} reads them; in Python, Dialect(date_format="{formats[0]}")'
    return f"times: --date-format {' or '.join(shown)} reads them; ask whoever wrote the table which of them is meant"


def _emptiness(report: ReadReport) -> str:
    said = [f"{report.source}: no row counts; {report.rows_read} were read"]
    if report.rows_bad:
        said.append(f"{report.rows_bad} of them are bad ({_describe(report.faults)})")
    if report.rows_outside:
        said.append(f"{report.rows_outside} lie outside the window {report.window}")
    if (span := report.shown_span()) is not None:
        said.append(f"the table's times run from {span[0]} to {span[1]}")
    return (
        "; ".join(said)
        + "; see that this is the right table, window and date format; if nothing of it should count, say so with "
        "allow_empty=True, on the command line --allow-empty"
    )


def shown_time(time: float, times: Times | None, zone: zoneinfo.ZoneInfo) -> str:
    """Return a time of a table as people read it."""
    if not math.isfinite(time):
        return "any time"
    if times != "timestamps":
        return f"{time:.15g}"
    try:
        moment = datetime.datetime.fromtimestamp(time, zone)
    except (OverflowError, ValueError, OSError):
        return f"{time:.0f} s"
    return moment.isoformat(" ", "seconds")


def _describe(faults: Sequence[FaultCount]) -> str:
    return "; ".join(f"{fault.column or 'the row'} {fault.reason}: {fault.rows}" for fault in faults)
