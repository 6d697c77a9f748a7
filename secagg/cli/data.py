"""`secagg data`: made-up tables, and one's own table read as a run would."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console

from secagg.cli.show import say, stdout, table
from secagg.cli.table_options import (
    AllowEmptyOption,
    BadRows,
    BadRowsOption,
    DateFormatOption,
    DecimalOption,
    DelimiterOption,
    EncodingOption,
    MapOption,
    SourcesOption,
    TableOptions,
    ThousandsOption,
)
from secagg.data.dialect import Dialect
from secagg.errors import SecaggError, UsageError
from secagg.home import Home

if TYPE_CHECKING:
    from secagg.data.reports import ReadReport
    from secagg.jobs.job import Job
    from secagg.patterns.pattern import Contribution
    from secagg.query.schema import Columns

__all__ = ["app"]

_BANKS: Final = 3
_ROWS: Final = 30_000

app = typer.Typer(help="Make example tables; check one's own before a run.", no_args_is_help=True)


@app.command("make")
def make(
    pattern: Annotated[
        str | None,
        typer.Argument(
            metavar="[PATTERN]", help="A pattern; without it, larger tables of banks with fraud in them."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="A directory for the tables; files of their names are replaced.")
    ] = Path("example-data"),
    banks: Annotated[int | None, typer.Option(help="Without PATTERN: how many banks, 2 to 20 (3).")] = None,
    rows: Annotated[
        int | None,
        typer.Option(
            help="Without PATTERN: transfers a bank, on average (30,000); deposits are a quarter of that."
        ),
    ] = None,
    start: Annotated[str | None, typer.Option(help="Without PATTERN: first day (2025-01-01).")] = None,
    days: Annotated[int | None, typer.Option(help="Without PATTERN: length of the period (90).")] = None,
    currency_decimals: Annotated[
        int | None, typer.Option(help="Without PATTERN: how many decimals amounts have, 0 to 4 (2).")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same tables.")] = 1,
) -> None:
    """Write made-up tables with something planted in them.

    With PATTERN: small tables of a few organisations, and a job file that a run on this machine takes. Without: transfers
    and deposits of banks for collectors and structuring, with truth.json, which says where the fraud is.
    """
    from secagg.data import synthetic
    from secagg.jobs.example_files import write_example

    sizes = {"start": start, "days": days, "currency_decimals": currency_decimals}
    given = {name: value for name, value in sizes.items() if value is not None}
    if pattern is None:
        banks = _BANKS if banks is None else banks
        rows = _ROWS if rows is None else rows
        truth = synthetic.make(out, banks=banks, rows=banks * rows, seed=seed, **given)  # type: ignore[arg-type]
        say(
            stdout(),
            f"{truth.transfers} transfers and {truth.deposits} deposits of {', '.join(truth.banks)} in {out}; "
            f"planted: {len(truth.collectors)} collectors, {len(truth.customers)} structuring customers",
        )
        return
    if given or banks is not None or rows is not None:
        raise UsageError(
            "the example data of a pattern have their own size; leave out all options but --out and --seed"
        )
    files = write_example(pattern, out, seed=seed)
    say(stdout(), files.example.story)
    say(
        stdout(),
        f"Tables of {', '.join(files.tables)} and {files.job_file.name} are in {out}. To run the job:",
    )
    say(stdout(), "")
    for line in files.command():
        say(stdout(), line)


@app.command("check")
def check(
    *,
    tables: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TABLE...]",
            help="Files, globs such as 2026-*.csv, duckdb:SELECT..., or source:NAME; by default what the source file says.",
        ),
    ] = None,
    job_file: Annotated[Path, typer.Option("--job", metavar="JOB", help="The job file.")],
    as_: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Which of the job's parties puts the table in.")
    ] = None,
    map_: MapOption = None,
    bad_rows: BadRowsOption = BadRows.refuse,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    decimal: DecimalOption = None,
    thousands: ThousandsOption = None,
    date_format: DateFormatOption = None,
    allow_empty: AllowEmptyOption = False,
    sources: SourcesOption = None,
) -> None:
    """Read a table as a run would, offline, and report on it.

    TABLE is a file (.csv, .tsv, .txt, each also packed, .parquet, .sql), a glob such as "2026-*.csv", or
    "duckdb:SELECT ...". Several are read as one table. No value of the table is shown. The exit status is 2 if a run
    would refuse the table.
    """
    from secagg.jobs.job_file import load_job

    job = load_job(job_file, with_certificates=False)
    if as_ is not None:
        job.check_takes_part(as_)
        if as_ not in job.input_parties:
            raise UsageError(f"{as_} puts no table into {job.name}; {', '.join(job.input_parties)} do")
    dialect = Dialect(encoding, delimiter, decimal, thousands, date_format)
    options = TableOptions(map_ or [], bad_rows, dialect, allow_empty, sources)
    _check_table(stdout(), job, tables or [], options, as_)


def _check_table(
    console: Console, job: Job, sources: list[str], options: TableOptions, me: str | None
) -> None:
    """Read a table as a run of the job would, and print everything about it but its values.

    Raises:
      UsageError: a run would refuse the table; everything that can be said is printed before.
    """
    # What would be refused is read as well, so that all of it can be told.
    own = replace(options, bad_rows=BadRows.skip, allow_empty=True).tables(
        job, sources, me=me, home=Home.find()
    )
    tables = own()
    # Rows that would be refused are named once, in the refusal.
    for report in own.reports.values():
        _print_report(console, job, report, listed=options.bad_rows is BadRows.skip)
    problems: list[SecaggError] = []
    try:
        contribution = job.pattern_at(me).prepare(job.parameters, job.terms, tables)
        if any(report.rows_in_window for report in own.reports.values()):
            _print_limits(console, job, contribution)
        contribution.check()
    except UsageError as error:
        problems.append(error)
    for name, report in own.reports.items():
        left_out = report.left_out() if options.bad_rows is BadRows.skip else ()
        repeats = _repeats(report, tables[name])
        for warning in (*report.warnings, *repeats, *left_out):
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
    columns = [(field, " and ".join(names)) for field, names in report.columns]
    console.print(table("\nColumns", ("field", "column"), columns, numbers_from=2))
    if report.window:
        console.print(table("\nTimes", ("what", "which"), _times(job, report), numbers_from=2))
    if not report.rows_in_window:
        return  # all that follows would be zeros
    identifiers = [(one.field, one.rule, one.distinct, one.respelt, one.merged) for one in report.identifiers]
    headings = ("field", "rule", "different", "spelt otherwise here", "of these in several ways")
    console.print(table("\nIdentifiers of the rows that are used", headings, identifiers, numbers_from=2))


def _repeats(report: ReadReport, columns: Columns) -> tuple[str, ...]:
    """Return a warning of rows that may be there twice; only where amounts with a time are added up."""
    if not report.amounts or not report.window:
        return ()
    from secagg.patterns.counts import repeated_rows

    rows = repeated_rows(columns)
    if not rows:
        return ()
    equal = "row equals" if rows == 1 else "rows equal"
    fields = ", ".join(columns)
    said = f"{report.source}: {rows} {equal} an earlier one in {fields}; sums count each"
    return (f"{said}, so leave out what is there twice by mistake",)


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
    from secagg.patterns.parameters import units

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
            [(count, job.announced(count))],
            numbers_from=0,
        )
    )
