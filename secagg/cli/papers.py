"""`secagg job papers` and `secagg runs`: papers that people ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secagg.cli.report import write_page
from secagg.cli.run import HomeOption
from secagg.cli.show import say, stdout, table, widen
from secagg.errors import UsageError
from secagg.home import Home

__all__ = ["papers", "runs"]


def papers(
    job_file: Annotated[Path, typer.Argument(metavar="JOB", help="A job file.")],
    out: Annotated[
        Path | None, typer.Option(help="The page to write; NAME.annex.html beside the job by default.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Write an annex for a data protection impact assessment.

    It says who takes part, who learns what, what may be inferred, which measures there are and what is kept. It leaves
    gaps for what only people can answer. It is help and no legal advice.
    """
    from secagg.jobs.job_file import load_job
    from secagg.joint.consortium import Consortium
    from secagg.joint.report.papers import annex  # with the engine of templates

    own = Home.find(home)
    known = Consortium.load(own).directory() if own is not None and own.consortium.exists() else {}
    problem = ""
    try:
        job = load_job(job_file, known=known)
    except UsageError as error:
        job = load_job(job_file, with_certificates=False, known=known)
        problem = str(error)
    path = out or job_file.with_name(f"{job.name}.annex.html")
    write_page(path, annex(job, fingerprint="" if problem else job.digest.hex()))
    say(stdout(), f"{path}: help, and no legal advice; fill in what is in [brackets]")
    if problem:
        say(stdout(), f"without the job's fingerprint: {problem}")


def runs(
    log: Annotated[
        Path | None,
        typer.Argument(
            metavar="[LOG]",
            help="An audit log, or a file of `secagg audit export`; this organisation's own by default.",
        ),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the whole register as a CSV table.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Print the register of runs.

    It comes from the audit log, which is checked first: when, which job, with whom, how many rows, how it ended. With
    --csv also what was opened to whom.
    """
    from secagg.joint.audit.bundle import read_bundle
    from secagg.joint.report.papers import register, register_csv

    path = Home.open(home).audit_log if log is None else log
    rows = register(read_bundle(path).verified().runs)
    shown = [
        (
            (row.began or row.ended).replace("T", " ")[:19],
            row.job,
            row.outcome,
            row.parties,
            row.rows,
            row.session[:16],
        )
        for row in rows
    ]
    console = stdout()
    widen(console)
    console.print(
        table(
            "Runs",
            ("when (UTC)", "job", "outcome", "parties", "rows announced", "session"),
            shown,
            numbers_from=6,
        )
    )
    if csv is not None:
        write_page(csv, register_csv(rows))
        say(stdout(), f"{csv}: {len(rows)} runs")
