"""`secagg job`: write a job, see what it does, approve it, and see how it stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from secagg.cli import check as checking
from secagg.cli.approver import PasswordOption, password_of
from secagg.cli.consortium import HomeOption
from secagg.cli.papers import papers
from secagg.cli.show import say, stdout
from secagg.errors import UsageError
from secagg.files import write_file
from secagg.home import Home

if TYPE_CHECKING:
    from secagg.jobs.job import Job

__all__ = ["app"]

app = typer.Typer(help="Write jobs, see what they do, and approve them.", no_args_is_help=True)

JobArgument = Annotated[Path, typer.Argument(metavar="JOB", help="A job file.")]


@app.command("new")
def new(
    pattern: Annotated[
        str | None, typer.Argument(metavar="[PATTERN]", help="What to compute; see `secagg patterns`.")
    ] = None,
    sql: Annotated[Path | None, typer.Option(metavar="FILE", help="A query, in place of PATTERN.")] = None,
    author: Annotated[str | None, typer.Option(help="The person who writes the job, such as anna.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write; printed otherwise.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Write a job file with comments.

    It is for PATTERN or a query, with the consortium's members as parties.
    """
    from secagg.joint.approval.templates import pattern_template, query_template
    from secagg.joint.consortium import Consortium
    from secagg.patterns.registry import find

    if (pattern is None) == (sql is None):
        raise UsageError("expected a PATTERN, or --sql FILE")
    own = Home.find(home)
    consortium = Consortium.load(own) if own is not None and own.consortium.exists() else None
    text = query_template(sql, consortium, author) if sql is not None else ""
    if pattern is not None:
        text = pattern_template(find(pattern).pattern, consortium, author)
    if out is None:
        stdout().out(text, highlight=False, end="")
        return
    try:
        write_file(out, text.encode(), mode=0o644)
    except FileExistsError:
        raise UsageError(f"{out} exists and will not be overwritten") from None
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}") from None
    say(stdout(), f"{out}  change what its comments ask for; then: secagg job check {out}")


@app.command("check")
def check(
    job_file: JobArgument,
    rows: checking.RowsOption = None,
    network: checking.NetworkOption = None,
    home: HomeOption = None,
) -> None:
    """Say before approval what a job does.

    What each party learns, what may be inferred, what it costs, and who approves.
    """
    job, problem = checking.loaded(job_file, home)
    console = stdout()
    checking.print_explanation(console, job, rows, network)
    print_plain_words(console, job)
    if problem:
        raise UsageError(f"the job cannot run as it stands: {problem}")
    say(console, f"Job fingerprint, equal at all parties: {job.digest.hex()}")


@app.command("approve")
def approve(
    job_file: JobArgument,
    key: Annotated[Path, typer.Option(help="The approver's key, NAME.approver.")],
    run: Annotated[
        bool, typer.Option("--run", help="Approve this run of a template, and not the template.")
    ] = False,
    times: Annotated[int, typer.Option(min=1, help="How often the run may take place, with --run.")] = 1,
    password_file: PasswordOption = None,
    consortium: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="consortium.toml, on a machine without the organisation's folder."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to write, if not to approvals/ of the folder.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Sign a job with a person's key, after saying what it does.

    The approval binds every field that parties agree on. It goes to approvals/ of the organisation's folder.
    """
    from secagg.jobs.job_file import load_job
    from secagg.joint.approval import approve as approve_job
    from secagg.joint.approval.approval import RUN, TEMPLATE
    from secagg.joint.approval.keys import load_key, read_public_key
    from secagg.joint.consortium import Consortium

    own = None if consortium is not None else Home.open(home)
    known = (
        Consortium.read(consortium)
        if own is None and consortium is not None
        else Consortium.load(Home.open(home))
    )
    if own is None and out is None:
        raise UsageError(
            "expected --out DIR with --consortium; bring the approval to approvals/ of the folder"
        )
    job = load_job(job_file, known=known.directory())
    console = stdout()
    print_plain_words(console, job)
    name, _ = read_public_key(key)
    what = "this run of" if run else "the template" if job.vary else "the job"
    say(console, f"{known.me}/{name} approves {what} {job.name}")
    opened = load_key(key, password_of(password_file))
    folder = out if out is not None else (own or Home.open(home)).approvals
    path = approve_job(job, known, opened, into=folder, kind=RUN if run else TEMPLATE, times=times)
    say(console, f"{path}")


@app.command("show")
def show(job_file: JobArgument, home: HomeOption = None) -> None:
    """Print how a job stands here.

    Its approvals, what is missing, and how often it ran.
    """
    from secagg.jobs.agreement import OFF
    from secagg.jobs.job_file import load_job
    from secagg.joint.approval import status_of
    from secagg.joint.approval.approval import RUN
    from secagg.joint.consortium import Consortium

    own = Home.open(home)
    job = load_job(job_file, known=Consortium.load(own).directory())
    console = stdout()
    if job.approval == OFF:
        say(console, f'{job.name} has approval = "off": nobody is asked')
        return
    status = status_of(own, job)
    for one in status.standings:
        what = "this run" if one.kind == RUN else "the template" if job.vary else "the job"
        say(console, f"{what}: approved by {', '.join(one.persons) or 'nobody'}")
        for text in one.missing:
            say(console, f"{what}: lacks {text}")
        for text in one.ignored:
            say(console, f"{what}: does not count: {text}")
    say(console, f"runs: {status.counts.template} of {status.runs}")
    say(
        console, f"cannot run: {status.problem}" if status.problem else "this organisation is ready to run it"
    )


def print_plain_words(console: Console, job: Job) -> None:
    """Print a job as the persons who approve it read it."""
    from secagg.jobs.plain_words import explained

    words = explained(job)
    _section(console, "What is computed", [words.computes])
    _section(console, "What everybody learns", words.everybody)
    for name, told in words.learns.items():
        _section(console, f"What {name} learns besides", told or ("nothing",))
    _section(console, "What could still be inferred", words.infers)
    _section(console, "Approval", words.approval)


def _section(console: Console, title: str, lines: tuple[str, ...] | list[str]) -> None:
    console.print(title, style="bold", markup=False)
    for line in lines:
        say(console, f"- {line}")
    console.print()


app.command()(papers)
