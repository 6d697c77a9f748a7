"""`secagg preflight`: what would keep a run from taking place, at this end and at every peer that is up."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secagg.cli.check import announced_rows
from secagg.cli.run import HomeOption, duration_of, identity_at, who_takes_part
from secagg.cli.show import say, stdout
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
from secagg.errors import SecaggError
from secagg.home import Home

if TYPE_CHECKING:
    from secagg.jobs.gates import Gate
    from secagg.jobs.inputs import InputTables
    from secagg.jobs.job import Job
    from secagg.joint.preflight.findings import Finding

__all__ = ["preflight"]


class _Told:
    """Prints findings as they come, and remembers what did not pass."""

    def __init__(self, *, as_json: bool) -> None:
        self.own = self.peers = False  # whether something failed there
        self._json = as_json
        self._console = stdout()

    def __call__(self, finding: Finding) -> None:
        from secagg.joint.preflight.findings import HERE

        if finding.status == "FAILED":
            self.own |= finding.where == HERE
            self.peers |= finding.where != HERE
        if self._json:
            say(self._console, json.dumps(dataclasses.asdict(finding)))
        else:
            say(self._console, f"{finding.status:<8} {finding.where}: {finding.what}: {finding.said}")


def preflight(
    job_file: Annotated[Path, typer.Argument(metavar="JOB", help="A job file.")],
    out: Annotated[Path, typer.Option(help="The directory for the result and the run record.")],
    as_: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="NAME",
            help="Which of the job's parties this is; by default as in the consortium of --home.",
        ),
    ] = None,
    identity: Annotated[
        Path | None,
        typer.Option(
            help="The directory with NAME.key and NAME.crt, or the key with the certificate beside it; "
            "keys/ of --home by default."
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="DATA", help="The table, as `secagg run` takes it (repeat for several)."),
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
    rows: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]N",
            help="Rows that an input party announces, for memory and disk, as `secagg check` takes them.",
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Where to listen, if not at this party's address in the job."),
    ] = None,
    wait: Annotated[
        str, typer.Option(metavar="TIME", help="How long to wait for the others, such as 10s or 5m.")
    ] = "10s",
    home: HomeOption = None,
    alone: Annotated[bool, typer.Option("--alone", help="Look at this end alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    """Look for what would keep a run from taking place.

    JOB is a job file. Certificates, tables, rules, budgets, disk and memory are looked at here; addresses, certificates,
    releases, jobs and clocks with each peer that runs `secagg preflight` or waits in `secagg run`. Nothing of a table
    leaves. Each line begins with PASSED, WARNING or FAILED. Exit status: 0 nothing failed, 1 a peer's check failed or it
    did not answer, 2 something failed here.
    """
    from secagg.jobs.gates import agreement, ordered
    from secagg.jobs.job_file import load_job
    from secagg.jobs.job_parties import parse_address
    from secagg.joint import gates_of
    from secagg.joint.preflight.findings import HERE, Finding
    from secagg.joint.preflight.here import look_here
    from secagg.joint.preflight.peers import look_at_peers
    from secagg.joint.resume import resuming_of

    tell = _Told(as_json=as_json)
    dialect = Dialect(encoding, delimiter, decimal, thousands, date_format)
    options = TableOptions(map_ or [], bad_rows, dialect, allow_empty, sources)
    wait_s = duration_of(wait)
    own_address = parse_address(listen) if listen else None
    try:
        own_home = Home.find(home)
        me, identity, known = who_takes_part(own_home, as_, identity)
    except SecaggError as error:
        tell(Finding(HERE, "home", "FAILED", str(error)))
        raise typer.Exit(2) from None
    try:
        job = load_job(job_file, known=known)
        job.check_takes_part(me)
    except SecaggError as error:
        tell(Finding(HERE, "job", "FAILED", str(error)))
        raise typer.Exit(2) from None
    tell(Finding(HERE, "job", "PASSED", f"{job.name}, fingerprint {job.digest.hex()}"))
    counts = announced_rows(job, rows or [])
    try:
        own_identity = identity_at(me, identity)
    except SecaggError as error:
        tell(Finding(HERE, "certificate", "FAILED", str(error)))
        raise typer.Exit(2) from None
    gates: tuple[Gate, ...] = ()
    resuming = None if own_home is None else resuming_of(own_home, job, me)
    if own_home is not None and resuming is not None:
        gates = ordered((*gates_of(own_home, job, own_identity), resuming))
    folders = [] if own_home is None else [own_home.path]
    for finding in look_here(
        job,
        me,
        own_identity,
        tables=_tables(job, me, options, data, own_home, tell),
        gates=gates,
        goes_on=resuming is not None and resuming.holds,
        rows=counts,
        out=out,
        folders=folders,
    ):
        tell(finding)
    if not alone:
        told, fields = agreement(job, [gate.name for gate in gates])
        look_at_peers(
            job,
            me,
            own_identity,
            listen=own_address or next(m.address for m in job.members if m.name == me),
            agreement=told,
            fields=fields,
            wait_s=wait_s,
            on_finding=tell,
        )
    if tell.own or tell.peers:
        raise typer.Exit(2 if tell.own else 1)


def _tables(
    job: Job, me: str, options: TableOptions, data: list[str] | None, home: Home | None, tell: _Told
) -> InputTables | None:
    from secagg.joint.preflight.findings import HERE, Finding

    if me not in job.input_parties:
        return None
    try:
        return options.tables(job, data or (), me=me, home=home)
    except SecaggError as error:
        tell(Finding(HERE, "table", "FAILED", str(error)))
        return None
