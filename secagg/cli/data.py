"""`secagg data`: made-up tables, and one's own table read as a run would."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secagg.cli.show import say, stdout
from secagg.cli.table_check import check_table
from secagg.cli.table_options import (
    AllowEmptyOption,
    BadRows,
    BadRowsOption,
    DateFormatOption,
    DecimalOption,
    DelimiterOption,
    EncodingOption,
    MapOption,
    TableOptions,
    ThousandsOption,
)
from secagg.data import synthetic
from secagg.data.dialect import Dialect
from secagg.errors import UsageError
from secagg.jobs.job_file import load_job

__all__ = ["app"]

app = typer.Typer(help="Make example tables; check one's own before a run.", no_args_is_help=True)


@app.command("make")
def make(
    out: Annotated[Path, typer.Argument(help="A directory for the tables; files in it are replaced.")],
    banks: Annotated[int, typer.Option(help="How many banks, 2 to 20.")] = 3,
    rows: Annotated[
        int, typer.Option(help="Transfers a bank, on average; deposits are a quarter of that.")
    ] = 30_000,
    start: Annotated[str, typer.Option(help="First day.")] = "2025-01-01",
    days: Annotated[int, typer.Option(help="Length of the period.")] = 90,
    currency_decimals: Annotated[int, typer.Option(help="How many decimals amounts have, 0 to 4.")] = 2,
    seed: Annotated[int, typer.Option(help="The same seed gives the same tables.")] = 1,
) -> None:
    """Write made-up bank tables with planted fraud.

    They go into the directory OUT, with truth.json, which says where the fraud is.
    """
    truth = synthetic.make(
        out,
        banks=banks,
        rows=banks * rows,
        start=start,
        days=days,
        currency_decimals=currency_decimals,
        seed=seed,
    )
    say(
        stdout(),
        f"{truth.transfers} transfers and {truth.deposits} deposits of {', '.join(truth.banks)} in {out}; "
        f"planted: {len(truth.collectors)} collectors, {len(truth.customers)} structuring customers",
    )


@app.command("check")
def check(
    tables: Annotated[
        list[str],
        typer.Argument(metavar="TABLE...", help="Files, globs such as 2026-*.csv, or duckdb:SELECT..."),
    ],
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
) -> None:
    """Read a table as a run would, offline, and report on it.

    TABLE is a file (.csv, .tsv, .txt, each also with .gz, .parquet, .sql), a glob such as "2026-*.csv", or
    "duckdb:SELECT ...". Several are read as one table. No value of the table is shown. The exit status is 2 if a run
    would refuse the table.
    """
    job = load_job(job_file, with_certificates=False)
    if as_ is not None:
        job.check_takes_part(as_)
        if as_ not in job.input_parties:
            raise UsageError(f"{as_} puts no table into {job.name}; {', '.join(job.input_parties)} do")
    dialect = Dialect(encoding, delimiter, decimal, thousands, date_format)
    check_table(stdout(), job, tables, TableOptions(map_ or [], bad_rows, dialect, allow_empty))
