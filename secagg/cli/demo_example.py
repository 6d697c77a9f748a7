"""The demonstration of one pattern on its example data: every party a process, compared with the pooled tables."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from secagg.cli.job_shown import opened_table
from secagg.cli.progress import Style, shown_progress
from secagg.cli.show import say, seconds, size, table
from secagg.errors import SecaggError, UsageError

if TYPE_CHECKING:
    from secagg.jobs.example_files import ExampleFiles
    from secagg.jobs.job import Job
    from secagg.party import PartyId

_SHOWN = 8

Rows = list[tuple[str, ...]]


def demonstrate(console: Console, pattern: str, out: Path, *, seed: int) -> None:
    """Make a pattern's example data, run it with every party as a process, and print what came of it.

    Raises:
      UsageError: there is no such pattern, or it brings no example data.
      SecaggError: a run failed, or told something else than the pooled tables say.
    """
    from secagg.jobs.example_files import write_example
    from secagg.jobs.local import run_locally
    from secagg.jobs.output import Output
    from secagg.jobs.signature import read_record

    begin = time.monotonic()
    files = write_example(pattern, out / "example", seed=seed)
    job, results = files.job, out / "results"
    console.rule(pattern, align="left")
    say(console, f"Looked for: {job.pattern.summary}")
    say(console, f"Planted: {files.example.story}")
    say(console, f"Job: {', '.join(f'{k} {v}' for k, v in job.shown_parameters().items())}")
    say(console, "")
    with shown_progress(Style.auto) as on_progress:
        elsewhere = run_locally(job, files.options(), out=results, on_progress=on_progress)
    if elsewhere:
        raise UsageError(*(f"{name}: {text}" for name, text in elsewhere.items()))
    took = time.monotonic() - begin
    told = {name: _rows(Output(results, f"{name}.{job.name}").path(".csv")) for name in _recipients(job)}
    _print_told(console, files, told)
    _compare(console, files, told)
    records = [read_record(Output(results, f"{name}.{job.name}").path(".json")) for name in job.roster]
    sent = sum(record["ledger"]["total"]["sent"]["frame_bytes"] for record in records)
    run_s = max(record["timings"]["total_s"] for record in records)
    console.print(
        f"{seconds(run_s)} from start to result, {seconds(took)} with starting the processes; {size(sent)} sent by all.\n"
    )
    console.print(opened_table(job.disclosures(), job.roster))
    say(console, "")
    say(console, f"Tables, job file, results and run records are in {out}.")


def _recipients(job: Job) -> tuple[PartyId, ...]:
    return tuple(job.pattern.recipients(job.terms))


def _rows(path: Path) -> Rows:
    return _parsed(path.read_text("utf-8"))


def _parsed(text: str) -> Rows:
    from secagg.jobs.spreadsheet import text_of

    return [tuple(map(text_of, row)) for row in list(csv.reader(io.StringIO(text)))[1:]]


def _print_told(console: Console, files: ExampleFiles, told: Mapping[PartyId, Rows]) -> None:
    rows = [
        (
            name,
            ", ".join(f"{len(next(iter(columns.values())))} {table}" for table, columns in own.items()),
            len(told.get(name, [])),
        )
        for name, own in files.example.tables.items()
    ]
    console.print(table("What each puts in, and is told", ("party", "rows", "told"), rows))
    first, own = max(told.items(), key=lambda item: len(item[1]))
    columns = tuple(files.job.pattern.results)
    console.print(table(f"\nWhat {first} is told: {len(own)} rows", columns, own[:_SHOWN]))
    console.print()


def _compare(console: Console, files: ExampleFiles, told: Mapping[PartyId, Rows]) -> None:
    """Compare what was told with everybody's tables in one place, which no party could do."""
    from secagg.jobs.inputs import InputTables
    from secagg.jobs.results import result_csv
    from secagg.patterns.example import first_difference, not_found

    job, example = files.job, files.example
    tables = {
        name: InputTables(job, [f"{t}={path}" for t, path in own.items()], allow_empty=True, me=name)()
        for name, own in files.tables.items()
    }
    expected = {
        name: _parsed(result_csv(job.pattern.results, rows, decimals=job.data.currency_decimals))
        for name, rows in job.pattern.reference(job.parameters, job.terms, tables).items()
    }
    if expected.keys() != told.keys():
        raise SecaggError("others were told something than the pattern says; this must never happen")
    for name, rows in told.items():
        difference = first_difference(rows, expected[name], example.tolerance)
        if difference is not None:
            raise SecaggError(
                f"{name} was told something else than the pooled plaintext says ({difference}); this must never happen"
            )
    if missing := not_found(example, told):
        raise SecaggError(f"{len(missing)} planted findings were told to nobody; this must never happen")
    within = f" within {example.tolerance:g}" if example.tolerance else ""
    found = len(example.planted)
    planted = f" All {found} planted findings are among them." if found > 1 else ""
    planted = " The planted finding is among them." if found == 1 else planted
    console.print(
        f"Equal to the pooled plaintext{within}, row for row, which only this demo can compute.{planted}\n"
    )
