"""`secagg report`: a run as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secagg.cli.exits import FAILED
from secagg.cli.known import known_certificates
from secagg.cli.run import HomeOption
from secagg.cli.show import say, stderr, stdout
from secagg.errors import UsageError
from secagg.files import write_file
from secagg.home import Home

__all__ = ["report", "write_page"]

_MODE = 0o600


def report(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run record, NAME.JOB.json, or a folder with one.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The page to write; NAME.JOB.html beside the record by default.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="The party's certificate, as the party gave it to you.")
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            help="The party's audit log, or a file of `secagg audit export`; the folder's own by default."
        ),
    ] = None,
    without_result: Annotated[
        bool, typer.Option("--without-result", help="Leave the result out, for a copy that others may see.")
    ] = False,
    home: HomeOption = None,
) -> None:
    """Write a report of a run: one HTML page for people.

    It tells the answer, what each party put in and learnt, what was agreed, whom it trusts, what it cost, and whether
    record, result and audit log fit together. It holds no script and fetches nothing. The exit status is 1 if a check fails.
    """

    # With the engine of templates, which other commands do without.
    from secagg.joint.report.contents import find_record, load_report
    from secagg.joint.report.page import render
    from secagg.network.identity import read_certificate

    record = find_record(run)
    if log is None:
        own = Home.find(home)
        log = own.audit_log if own is not None and own.audit_log.is_file() else None
    made = load_report(
        record,
        certificate=None if certificate is None else read_certificate(certificate),
        known=known_certificates(home),
        log=log,
        with_result=not without_result,
    )
    path = out or record.with_suffix(".html")
    write_page(path, render(made))
    say(stdout(), f"{path}: {made.record['job']} for {made.record['party']}")
    failed = [check for check in made.checks if check.state == "failed"]
    for check in failed:
        say(stderr(), f"secagg: {check.what}: {check.detail}")
    if failed:
        raise typer.Exit(FAILED)


def write_page(path: Path, text: str) -> None:
    """Write a new file for its owner alone.

    Raises:
      UsageError: it exists, or cannot be written.
    """
    try:
        write_file(path, text.encode(), mode=_MODE)
    except FileExistsError:
        raise UsageError(
            f"{path} exists and will not be overwritten; choose another name with --out"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
