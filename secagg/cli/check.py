"""`secagg check`: what a job opens and costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from secagg.cli.consortium import HomeOption
from secagg.cli.job_shown import explain
from secagg.cli.show import stdout
from secagg.cost.network import LAN, LOOPBACK, MOBILE, WAN
from secagg.errors import UsageError
from secagg.home import Home

if TYPE_CHECKING:
    from secagg.jobs.job import Job

__all__ = ["NetworkOption", "RowsOption", "announced_rows", "check", "loaded", "print_explanation"]

_NETWORKS: Final = {network.name: network for network in (LOOPBACK, LAN, WAN, MOBILE)}
_ASSUMED_ROWS: Final = 100_000


RowsOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]N",
        help="Rows that an input party announces (patterns on groups: different identifiers; a query: rows of each of its "
        f"tables): N for each, or NAME=N for one (repeat); {_ASSUMED_ROWS} by default, or max_rows where that is less.",
    ),
]
NetworkOption = Annotated[
    str | None,
    typer.Option(help=f"For which network times are given: {', '.join(_NETWORKS)}; all by default."),
]


def check(
    job_file: Annotated[Path, typer.Argument(metavar="JOB", help="A job file.")],
    rows: RowsOption = None,
    network: NetworkOption = None,
    home: HomeOption = None,
) -> None:
    """Explain a job: who takes part, what is opened, what it costs.

    JOB is a job file. The job fingerprint in the last line must be equal at all parties.
    """
    job, problem = loaded(job_file, home)
    console = stdout()
    print_explanation(console, job, rows, network)
    if problem:
        raise UsageError(f"the job cannot run as it stands: {problem}")
    console.print(f"Job fingerprint, equal at all parties: {job.digest.hex()}", soft_wrap=True)


def loaded(job_file: Path, home: Path | None) -> tuple[Job, str]:
    """Return a job to be looked at, and why it cannot run as it stands, "" where it can.

    Args:
      home: the folder whose consortium knows the parties, if not the one by default.

    Raises:
      UsageError: the job cannot be looked at either.
    """
    from secagg.jobs.job_file import load_job
    from secagg.joint.consortium import Consortium, directory_of

    own = Home.find(home)
    known = directory_of(own)
    try:
        job = load_job(job_file, known=known)
        if own is not None and own.consortium.exists():
            Consortium.load(own).check_job(job)
    except UsageError as error:
        # What is wrong elsewhere is raised again here.
        return load_job(job_file, with_certificates=False, known=known), str(error)
    return job, ""


def print_explanation(console: Console, job: Job, rows: Sequence[str] | None, network: str | None) -> None:
    """Print who takes part, what is opened and what it costs.

    Args:
      rows, network: as the command line has them.

    Raises:
      UsageError: a network or rows that cannot be.
    """
    chosen = list(_NETWORKS.values())
    if network is not None:
        chosen = [n for n in chosen if n.name.lower() == network.lower()]
        if not chosen:
            raise UsageError(f"expected a network of {', '.join(_NETWORKS)}, got {network}")
    counts = announced_rows(job, rows or [])
    for part in explain(job, counts, chosen, assumed=not rows):
        console.print(part)
        console.print()


def announced_rows(job: Job, given: Sequence[str]) -> dict[str, int]:
    """Return what each input party is taken to announce; raises `UsageError`."""
    from secagg.jobs.computed import query_of

    query, most, step = query_of(job.pattern), job.pattern.row_limit(job.terms), job.row_step
    limits = dict.fromkeys(job.input_parties, most) if query is None else query.row_limits(job.terms)
    counts = {name: min(_ASSUMED_ROWS, limit // step * step) for name, limit in limits.items()}
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
        if equals or int(number) > most:
            counts.update(dict.fromkeys([name] if equals else counts, int(number)))
        else:  # each party's tables may be declared to have fewer
            counts = {one: min(int(number), limit) for one, limit in limits.items()}
    rounded = {name: job.announced(count) for name, count in counts.items()}
    for name, count in rounded.items():
        if count > limits[name]:
            where = "in the declaration" if query is not None else "in the job"
            up = f", rounded up to {count}," if count != counts[name] else ""
            raise UsageError(
                f"--rows is above max_rows: {name} with {counts[name]} rows{up} where at most {limits[name]} are "
                f"allowed; give fewer, or set max_rows {where} at all parties"
            )
    return rounded
