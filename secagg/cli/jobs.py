"""`secagg patterns` and `secagg check`: what can be computed, and what a job opens and costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from secagg.cli.show import complain, explain, say, stdout, table
from secagg.cost.network import LAN, LOOPBACK, MOBILE, WAN
from secagg.errors import UsageError
from secagg.jobs.job import Job
from secagg.jobs.job_file import load_job
from secagg.patterns.parameters import shown_parameters
from secagg.patterns.pattern import RoleSize
from secagg.patterns.registry import Installed, find, names
from secagg.patterns.schema import Identifier, Integer, Money, Schema, Time, Type

__all__ = ["check", "patterns"]

_NETWORKS: Final = {network.name: network for network in (LOOPBACK, LAN, WAN, MOBILE)}
_ASSUMED_ROWS: Final = 100_000


def patterns() -> None:
    """List what can be computed, with parameters and defaults."""
    console = stdout()
    for name in names():
        try:
            _describe(console, find(name))
        except UsageError as error:  # the others can be listed all the same
            complain(error)
        console.print()


def _describe(console: Console, installed: Installed) -> None:
    pattern = installed.pattern
    say(console, f"{pattern.name}: {pattern.summary}")
    if installed.origin.module_sha256:
        say(console, f"from {installed.origin}")
    for name, schema in pattern.inputs.items():
        say(console, f"each input party puts in {name}: {_columns(schema)}")
        if schema.formats:
            say(console, f"known formats of {name}: {', '.join(known.name for known in schema.formats)}")
    say(console, f"results: {', '.join(pattern.results)}")
    say(console, f"roles: {', '.join(f'{role} ({_count(size)})' for role, size in pattern.roles.items())}")
    defaults = shown_parameters(pattern.Parameters())
    if defaults:
        console.print(table("", ("parameter", "default"), list(defaults.items())))


def _columns(schema: Schema) -> str:
    return ", ".join(f"{role} ({_type(kind)})" for role, kind in schema.items())


def _type(kind: Type) -> str:
    if isinstance(kind, Integer):
        return f"integer, {kind.min} to {kind.max}"
    return {Identifier: "identifier", Money: "amount", Time: "time"}[type(kind)]


def _count(size: RoleSize) -> str:
    return str(size.min) if size.min == size.max else f"{size.min} to {size.max}"


def check(
    job_file: Annotated[Path, typer.Argument(metavar="JOB", help="A job file.")],
    rows: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]N",
            help="Rows that an input party announces (different identifiers): N for each, or NAME=N for one (repeat); "
            f"{_ASSUMED_ROWS} by default, or the job's max_rows where that is less.",
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(help=f"For which network times are given: {', '.join(_NETWORKS)}; all by default."),
    ] = None,
) -> None:
    """Explain a job: who takes part, what is opened, what it costs.

    JOB is a job file. The job fingerprint in the last line must be equal at all parties.
    """
    chosen = list(_NETWORKS.values())
    if network is not None:
        chosen = [n for n in chosen if n.name.lower() == network.lower()]
        if not chosen:
            raise UsageError(f"expected a network of {', '.join(_NETWORKS)}, got {network}")
    try:
        job = load_job(job_file)
        problem = ""
    except UsageError as error:
        job = load_job(job_file, with_certificates=False)  # what is wrong elsewhere is raised again here
        problem = str(error)
    counts = _counts(job, rows or [])
    console = stdout()
    for part in explain(job, counts, chosen, assumed=not rows):
        console.print(part)
        console.print()
    if problem:
        raise UsageError(f"the job cannot run as it stands: {problem}")
    console.print(f"Job fingerprint, equal at all parties: {job.digest.hex()}", soft_wrap=True)


def _counts(job: Job, given: Sequence[str]) -> dict[str, int]:
    most, step = job.pattern.row_limit(job.terms), job.pad_rows_to
    counts = dict.fromkeys(job.input_parties, min(_ASSUMED_ROWS, most // step * step))
    for text in given:
        name, equals, number = text.rpartition("=")
        if (
            not number.isascii()
            or not number.isdigit()
            or len(number) > 10
            or (equals and name not in counts)
        ):
            raise UsageError(
                f"expected --rows N or --rows NAME=N with an input party ({', '.join(counts)}), got {text!r}"
            )
        counts.update(dict.fromkeys([name] if equals else counts, int(number)))
    rounded = {name: job.terms.padded(count) for name, count in counts.items()}
    for name, count in rounded.items():
        if count > most:
            up = f", rounded up to {count}," if count != counts[name] else ""
            raise UsageError(
                f"--rows is above the job's max_rows: {name} with {counts[name]} rows{up} where at most {most} are "
                "allowed; give fewer, or set max_rows in the job at all parties"
            )
    return rounded
