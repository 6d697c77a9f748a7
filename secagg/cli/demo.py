"""The demonstration: made-up banks, each a process with its own table, and what they find together.

The process that runs it makes the banks and their tables, and reads all of them. It compares what the banks found
with what a pooled table says. The banks' own processes get one table each and meet
over mutually authenticated TLS on the loopback interface, as they would between companies.
"""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console

from secagg.cli.demo_example import demonstrate
from secagg.cli.job_shown import opened_table, phase_table, probability
from secagg.cli.progress import Style, shown_progress
from secagg.cli.show import seconds, size, stdout, table
from secagg.errors import SecaggError, UsageError

if TYPE_CHECKING:
    from secagg.data.synthetic import Truth
    from secagg.jobs.job import Address, Job
    from secagg.party import PartyId
    from secagg.patterns.group_by import GroupByPattern
    from secagg.patterns.pattern import Result, Tables

_MARK: Final = ".secagg-demo"
_SHOWN: Final = 5
_COMPUTING: Final = 3
_BANKS: Final = 3
_ROWS: Final = 30_000

Found = dict[str, tuple[int, ...]]


def demo(
    pattern: Annotated[
        str | None,
        typer.Argument(
            metavar="[PATTERN]", help="A pattern; without it, collectors and structuring on larger tables."
        ),
    ] = None,
    rows: Annotated[
        int | None, typer.Option(help="Without PATTERN: transfers a bank, on average (30,000).")
    ] = None,
    banks: Annotated[int | None, typer.Option(help="Without PATTERN: how many banks, 3 to 20 (3).")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same tables.")] = 1,
    out: Annotated[
        Path,
        typer.Option(
            help="A directory for everything that the demo makes; an earlier demo in it is replaced."
        ),
    ] = Path("demo-output"),
) -> None:
    """Run a whole example with made-up organisations.

    Each organisation is a process of its own. Together they find what none of them finds alone. The results are compared
    with those of the pooled tables.
    """
    if pattern is None:
        run_demo(
            out, banks=_BANKS if banks is None else banks, rows=_ROWS if rows is None else rows, seed=seed
        )
        return
    if rows is not None or banks is not None:
        raise UsageError("the example data of a pattern have their own size; leave out --rows and --banks")
    clear(out)
    demonstrate(stdout(), pattern, out, seed=seed)


def run_demo(out: Path, *, banks: int, rows: int, seed: int) -> None:
    """Make banks and tables in `out`, run both patterns, and print what came of it.

    Args:
      out: a directory that is not there, empty, or of an earlier demo, which is replaced.
      banks: at least three.
      rows: transfers a bank, on average.

    Raises:
      UsageError: fewer than three banks, or another directory.
      SecaggError: a run failed.
    """
    from secagg.data.synthetic import make

    console, begin = stdout(), time.monotonic()
    if banks < _COMPUTING:
        raise UsageError(f"expected at least {_COMPUTING} banks, got {banks}")
    clear(out)
    truth = make(out / "tables", banks=banks, rows=banks * rows, seed=seed)
    _move_in(out, truth)
    console.print(
        f"{banks} made-up banks with {truth.transfers} transfers and {truth.deposits} cash deposits. Planted in them: "
        f"{len(truth.collectors)} collectors and {len(truth.customers)} structuring customers. Every bank is a process "
        "of its own with its own table; they talk over mutually authenticated TLS.\n"
    )
    for pattern in _patterns():
        _show(console, out, truth, pattern)
    console.print(
        f"{seconds(time.monotonic() - begin)} in all. Tables, keys, job files, results and run records are in {out}."
    )


def _patterns() -> tuple[GroupByPattern, ...]:
    from secagg.patterns.banking import COLLECTORS, STRUCTURING

    return COLLECTORS, STRUCTURING


def clear(out: Path) -> None:
    """Empty a directory of an earlier demo, or make one; raises `UsageError` where it holds something else."""
    try:
        if out.is_dir() and any(out.iterdir()):
            if not (out / _MARK).is_file():
                raise UsageError(
                    f"{out} holds something else than an earlier demo; choose another with --out"
                )
            shutil.rmtree(out)
        out.mkdir(parents=True, exist_ok=True)
        (out / _MARK).touch()
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}") from None


def _move_in(out: Path, truth: Truth) -> None:
    """Give each bank a directory with its tables, its key, everybody's certificates, and the job files."""
    from secagg.jobs.local import free_addresses
    from secagg.network.identity import create_identity
    from secagg.patterns.banking import COLLECTORS, STRUCTURING

    addresses = dict(zip(truth.banks, free_addresses(len(truth.banks)), strict=True))
    parameters = {
        COLLECTORS.name: {
            "min_senders": truth.min_senders,
            "min_banks": truth.min_banks,
            "min_total": truth.min_total,
        },
        STRUCTURING.name: {"limit": truth.limit},
    }
    for bank in truth.banks:
        home = out / bank
        create_identity(bank).save(home)
        for pattern in _patterns():
            (table_name,) = pattern.inputs
            (out / "tables" / f"{bank}.{table_name}.csv").rename(home / f"{table_name}.csv")
            text = _job_text(truth, pattern.name, parameters[pattern.name], addresses)
            (home / f"{pattern.name}.toml").write_text(text, "utf-8")
    for bank in truth.banks:
        for other in truth.banks:
            if other != bank:
                shutil.copy(out / bank / f"{bank}.crt", out / other)


def _job_text(
    truth: Truth, pattern: str, parameters: Mapping[str, int], addresses: Mapping[str, Address]
) -> str:
    start, end = truth.window
    lines = [f'name = "{pattern}"', f'pattern = "{pattern}"', 'approval = "off"', "", "[parameters]"]
    lines += [f"{name} = {value}" for name, value in parameters.items()]
    lines += ["", "[window]", f"start = {start}", f"end = {end}", "", "[roles]"]
    lines += [f"input = {json.dumps(truth.banks)}", f"computing = {json.dumps(truth.banks[:_COMPUTING])}"]
    for name, (host, port) in addresses.items():
        lines += ["", "[[parties]]", f'name = "{name}"', f'address = "{host}:{port}"']
        lines += [f'certificate = "{name}.crt"']
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class _Bank:
    """A bank as the demonstration sees it, which sees all of them.

    Attributes:
      tables: what it puts in.
      identifiers: the distinct ones in it.
      alone: those that meet the thresholds in its own table.
      told: what the run told it.
      record: its run record.
    """

    tables: Tables
    identifiers: set[str]
    alone: set[str]
    told: Found
    record: dict[str, Any]


def _show(console: Console, out: Path, truth: Truth, pattern: GroupByPattern) -> None:
    from secagg.jobs.job_file import load_job
    from secagg.jobs.local import run_parties

    name = pattern.name
    job = load_job(out / truth.banks[0] / f"{name}.toml")
    shown = ", ".join(f"{k} {v}" for k, v in job.shown_parameters().items() if "max" not in k)
    console.rule(name, align="left")
    console.print(f"Looked for: {job.pattern.summary}\nJob: {shown}\n")
    begin = time.monotonic()
    commands = {bank: _command(out / bank, bank, pattern) for bank in truth.banks}
    with shown_progress(Style.auto) as on_progress:
        elsewhere = run_parties(commands, on_progress=on_progress)
    if elsewhere:
        raise UsageError(*(f"{bank}: {text}" for bank, text in elsewhere.items()))
    took = time.monotonic() - begin
    banks = {bank: _look(out / bank, bank, job, pattern) for bank in truth.banks}
    planted = set(truth.collectors if pattern is _patterns()[0] else truth.customers)
    tables = {name: bank.tables for name, bank in banks.items()}
    pooled = pattern.reference(job.parameters, job.terms, tables)
    _print_findings(console, job, banks, planted)
    _print_comparison(console, banks, pooled, planted)
    _print_cost(console, job, banks, took)


def _command(home: Path, bank: str, pattern: GroupByPattern) -> list[str]:
    (table_name,) = pattern.inputs
    table_file = str(home / f"{table_name}.csv")
    command = ["run", str(home / f"{pattern.name}.toml"), "--as", bank, "--identity", str(home)]
    return [*command, "--data", table_file, "--out", str(home / "results")]


def _look(home: Path, bank: str, job: Job, pattern: GroupByPattern) -> _Bank:
    import numpy as np

    from secagg.jobs.inputs import InputTables
    from secagg.jobs.spreadsheet import text_of

    (table_name,) = pattern.inputs
    tables = InputTables(job, str(home / f"{table_name}.csv"))()
    rows = pattern.group_rows(job.parameters, tables)
    # What a bank would notice without the others: its own numbers against the thresholds, but for min_banks.
    meets = np.ones(len(rows.identifiers), bool)
    for field, values in zip(pattern.fields(job.parameters), rows.values.T, strict=True):
        if field.opened and field.at_least is not None:
            meets &= values >= np.uint64(field.at_least)
    stem = home / "results" / f"{bank}.{job.name}"
    with stem.with_name(stem.name + ".csv").open(encoding="utf-8", newline="") as file:
        told = {
            text_of(row[0]): (*map(int, row[1:-1]), int(Decimal(row[-1]).scaleb(job.data.currency_decimals)))
            for row in list(csv.reader(file))[1:]
        }
    record = json.loads(stem.with_name(stem.name + ".json").read_text("utf-8"))
    return _Bank(tables, set(rows.identifiers), set(rows.identifiers[meets]), told, record)


def _print_findings(console: Console, job: Job, banks: Mapping[str, _Bank], planted: set[str]) -> None:
    from secagg.patterns.parameters import units

    (table_name,) = job.pattern.inputs
    columns = tuple(job.pattern.results)
    rows = [
        (
            name,
            len(bank.tables[table_name]["amount"]),
            len(bank.identifiers),
            f"{len(bank.alone)} ({len(bank.alone & planted)})",
            f"{len(bank.told)} ({len(bank.told.keys() & planted)})",
        )
        for name, bank in banks.items()
    ]
    headings = ("bank", table_name, "distinct identifiers", "alone (planted)", "together (planted)")
    console.print(table("Over the thresholds in each bank's own table, and found together", headings, rows))
    first, bank = next(iter(banks.items()))
    decimals = job.data.currency_decimals
    shown = [(name, *sums[:-1], units(sums[-1], decimals)) for name, sums in list(bank.told.items())[:_SHOWN]]
    console.print()
    console.print(table(f"What {first} is told: {len(bank.told)} rows, such as", columns, shown))
    console.print()


def _print_comparison(
    console: Console, banks: Mapping[str, _Bank], pooled: Mapping[PartyId, Result], planted: set[str]
) -> None:
    """Compare what the banks were told with everybody's tables in one place, which no bank could do."""
    equal = all(
        bank.told == {who: tuple(sums) for who, *sums in pooled[name]} for name, bank in banks.items()
    )
    everything = {row for rows in pooled.values() for row in rows}
    found = {name for bank in banks.values() for name in bank.told}
    hits = len(found & planted)
    if not equal:
        raise SecaggError(
            "the banks were told something else than the pooled plaintext says; this must never happen"
        )
    console.print(
        f"Together: {len(found)} found, equal to the pooled plaintext ({len(everything)}) row for row, which only this "
        f"demo can compute.\nOf {len(planted)} planted, {hits} are found: recall {_ratio(hits, len(planted))}, "
        f"precision {_ratio(hits, len(found))} (honest accounts can meet the thresholds too).\n"
    )


def _ratio(part: int, whole: int) -> str:
    return f"{part / whole:.2f}" if whole else "undefined"


def _print_cost(console: Console, job: Job, banks: Mapping[str, _Bank], took: float) -> None:
    first, bank = next(iter(banks.items()))
    sent = sum(b.record["ledger"]["total"]["sent"]["frame_bytes"] for b in banks.values())
    false_match = probability(bank.record["risks"]["log2_false_match"])
    console.print(phase_table(bank.record["ledger"], title=f"Cost at {first}"))
    console.print(
        f"{seconds(bank.record['timings']['total_s'])} from start to result, {seconds(took)} with starting the processes; "
        f"{size(sent)} sent by all; two different identifiers are taken for one with probability at most "
        f"{false_match}.\n"
    )
    console.print(opened_table(job.disclosures(), job.roster))
    console.print()
