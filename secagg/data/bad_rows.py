"""Rows that cannot be used: marked by fault, counted, and the first of them found in their file with all that is wrong."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import duckdb
import numpy as np
from numpy.typing import NDArray

from secagg.data.checks import INSTANT, TIMESTAMP, Fault, Query
from secagg.data.csv_files import Malformed
from secagg.data.identifier_columns import spell
from secagg.data.reports import LISTED, BadRow, FaultCount, ReadReport, Times
from secagg.data.sources import Source
from secagg.query.identifier_rules import Rule

__all__ = ["all_faults", "mark", "report_of", "with_times"]


def all_faults(
    table: Source, query: Query, identifiers: Sequence[tuple[Sequence[str], Rule]]
) -> list[list[Fault]]:
    """Return all that is wrong with each of the first rows that the query finds bad, one fault a column.

    Args:
      identifiers: columns and rule of each field, in the order of the query's texts.
    """
    try:
        found = table.connection.execute(query.bad).fetchall()
    except duckdb.Error:
        return []  # where one fault holds, the test for another may not be computable; then the first is all that is told
    listed = []
    for numbers, *texts in found:
        faults: dict[str, Fault] = {}
        for number in numbers.split():
            fault = query.faults[int(number) - 1]
            faults.setdefault(fault.column, fault)
        for columns, rule in identifiers:
            own, texts = texts[: len(columns)], texts[len(columns) :]
            if "" not in faults and all(own):
                _, refused = spell([np.array([text], object) for text in own], rule)
                for name, reasons in zip(columns, refused, strict=True):
                    for reason in reasons:
                        faults.setdefault(name, Fault(name, reason))
        listed.append([faults[""]] if "" in faults else list(faults.values()))
    return listed


def mark(why: NDArray[np.uint16], rows: NDArray[np.bool_], faults: list[Fault], fault: Fault) -> None:
    """Give a fault to those of the rows that have none yet."""
    rows = rows & (why == 0)
    if rows.any():
        faults.append(fault)
        why[rows] = len(faults)


def report_of(
    table: Source,
    why: NDArray[np.uint16],
    faults: Sequence[Fault],
    rows_in_window: int,
    everything: Callable[[], Sequence[Sequence[Fault]]],
    checked: int,
) -> ReadReport:
    """Return what reading came to, without times; `why` numbers the faults from 1, and `rows_in_window` rows are taken.

    Args:
      everything: gives all faults of the first rows that have one of the first faults, so many as `checked` says; not
        called where no row has.
    """
    malformed = table.csv_file.malformed(table.connection, len(why)) if table.csv_file else []
    counts = collections.Counter(Fault("", record.reason) for record in malformed)
    for number, rows in enumerate(np.bincount(why).tolist()):
        if number and rows:
            counts[faults[number - 1]] += rows
    rows_read = len(malformed) + len(why)
    rows_bad = counts.total()
    return ReadReport(
        source=table.name,
        rows_read=rows_read,
        rows_in_window=rows_in_window,
        rows_outside=rows_read - rows_bad - rows_in_window,
        rows_bad=rows_bad,
        bad_rows=_first_bad_rows(table, why, faults, malformed, everything, checked),
        faults=tuple(FaultCount(fault.column, fault.reason, rows) for fault, rows in counts.most_common()),
    )


def with_times(
    report: ReadReport,
    why: NDArray[np.uint16],
    kinds: NDArray[np.uint8],
    seconds: NDArray[np.float64],
    times: Times | Literal["none"],
) -> ReadReport:
    """Return the report with what the good rows' times are."""
    good = seconds[why == 0]
    return dataclasses.replace(
        report,
        times=times,
        zoned=int(np.count_nonzero((kinds == INSTANT) & (why == 0))),
        unzoned=int(np.count_nonzero((kinds == TIMESTAMP) & (why == 0))),
        span=(float(good.min()), float(good.max())) if len(good) else None,
    )


def _first_bad_rows(
    table: Source,
    why: NDArray[np.uint16],
    faults: Sequence[Fault],
    malformed: Sequence[Malformed],
    everything: Callable[[], Sequence[Sequence[Fault]]],
    checked: int,
) -> tuple[BadRow, ...]:
    rows = np.flatnonzero(why)[:LISTED].tolist()
    found = [[faults[why[row] - 1]] for row in rows]
    of_query = [place for place, row in enumerate(rows) if why[row] <= checked]
    if of_query:
        for place, own in zip(of_query, everything(), strict=False):
            (first,) = found[place]
            found[place] = [first, *(fault for fault in own if fault.column != first.column)]
    unit: Literal["line", "row"] = "row"
    lines = [row + 1 for row in rows]
    if table.csv_file is not None:
        unit = "line"
        lines = []
        if rows or malformed:
            row_lines, malformed_lines = table.csv_file.locate(rows, malformed, len(why))
            lines = row_lines + malformed_lines[:LISTED]
            found += [[Fault("", record.reason)] for record in malformed[:LISTED]]
    keys = table.keys_of(rows) if table.key.names and rows else [""] * len(found)
    bad = [
        BadRow(
            table.name,
            line,
            first.column,
            first.reason,
            unit,
            key,
            tuple((fault.column, fault.reason) for fault in further),
        )
        for line, (first, *further), key in zip(lines, found, keys, strict=True)
    ]
    return tuple(sorted(bad, key=lambda row: row.line)[:LISTED])
