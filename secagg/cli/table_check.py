"""What a run would make of a party's table, found out offline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rich.console import Console

from secagg.cli.show import say, table
from secagg.cli.table_options import BadRows, TableOptions
from secagg.data.reports import ReadReport
from secagg.errors import SecaggError, UsageError
from secagg.jobs.job import Job
from secagg.patterns.parameters import units
from secagg.patterns.pattern import Contribution

__all__ = ["check_table"]


def check_table(console: Console, job: Job, sources: list[str], options: TableOptions) -> None:
    """Read a table as a run of the job would, and print everything about it but its values.

    Raises:
      UsageError: a run would refuse the table; everything that can be said is printed before.
    """
    # What would be refused is read as well, so that all of it can be told.
    own = replace(options, bad_rows=BadRows.skip, allow_empty=True).tables(job, sources)
    tables = own()
    # Rows that would be refused are named once, in the refusal.
    for report in own.reports.values():
        _print_report(console, job, report, listed=options.bad_rows is BadRows.skip)
    problems: list[SecaggError] = []
    try:
        contribution = job.pattern.prepare(job.parameters, job.terms, tables)
        _print_limits(console, job, contribution)
        contribution.check()
    except UsageError as error:
        problems.append(error)
    for report in own.reports.values():
        left_out = report.left_out() if options.bad_rows is BadRows.skip else ()
        for warning in (*report.warnings, *left_out):
            say(console, f"warning: {warning}")
        try:
            report.check(bad_rows=options.bad_rows.value, allow_empty=options.allow_empty)
        except UsageError as error:
            problems.append(error)
    if problems:
        lines = [line for problem in problems for line in str(problem).split("\n")]
        raise UsageError("a run would refuse this table:", *lines)
    say(console, "")
    say(console, "A run would take this table.")


def _print_report(console: Console, job: Job, report: ReadReport, *, listed: bool) -> None:
    rows = [
        ("read", report.rows_read),
        ("used", report.rows_in_window),
        ("outside the window", report.rows_outside),
        ("bad", report.rows_bad),
    ]
    console.print(table(f"Rows of {report.source}", ("rows", "number"), rows))
    for text in report.files:
        say(console, text)
    if report.faults:
        faults = [(fault.column or "the row", fault.reason, fault.rows) for fault in report.faults]
        console.print(table("\nRows that are bad", ("column", "it", "rows"), faults, numbers_from=2))
        for row in report.bad_rows if listed else ():
            say(console, f"  {row}")
    columns = [(role, " and ".join(names)) for role, names in report.columns]
    console.print(table("\nColumns", ("role", "column"), columns, numbers_from=2))
    if report.window:
        console.print(table("\nTimes", ("what", "which"), _times(job, report), numbers_from=2))
    identifiers = [(one.role, one.rule, one.distinct, one.respelt, one.merged) for one in report.identifiers]
    headings = ("role", "rule", "different", "spelt otherwise here", "of these in several ways")
    console.print(table("\nIdentifiers of the rows that are used", headings, identifiers, numbers_from=2))


def _times(job: Job, report: ReadReport) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = [("window", report.window), ("kind", report.times)]
    if report.times == "timestamps":
        found += [
            ("rows that name a zone", report.zoned),
            (f"rows that name none, read in {job.data.time_zone}", report.unzoned),
        ]
    if (span := report.shown_span()) is not None:
        found += [("first", span[0]), ("last", span[1])]
    return found


def _print_limits(console: Console, job: Job, contribution: Contribution) -> None:
    """Print the contribution's largest numbers against what the job allows, and what would be announced."""
    decimals = job.data.currency_decimals
    limits = []
    for limit in contribution.limits():
        shown = (units(n, decimals) if limit.money else n for n in (limit.largest, limit.max))
        limits.append((limit.name, *shown))
    if limits:
        headings = ("of one identifier", "largest here", "the job allows")
        console.print(table("\nAgainst the job's limits", headings, limits))
    count = contribution.rows
    console.print(
        table(
            "\nDifferent identifiers",
            ("here", "announced"),
            [(count, job.terms.padded(count))],
            numbers_from=0,
        )
    )
