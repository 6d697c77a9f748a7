"""The commands of `secagg`, and how the program begins and ends."""

from __future__ import annotations

import copy
import io
import logging
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
import typer.core
from typer.main import get_command_name

from secagg import release
from secagg.cli import approver, audit, bench, budget, consent, consortium, data, demo, identity, job
from secagg.cli.check import check
from secagg.cli.errors import errors
from secagg.cli.exits import FAILED, STOPPED, WRITTEN_ELSEWHERE, WRONG_USE, status_of
from secagg.cli.explain import explain
from secagg.cli.papers import papers, runs
from secagg.cli.patterns import patterns
from secagg.cli.preflight import preflight
from secagg.cli.report import report
from secagg.cli.run import run
from secagg.cli.serve import serve
from secagg.cli.show import complain, say, stderr, stdout
from secagg.cli.stopping import Stop
from secagg.cli.synthesize import synthesize
from secagg.cli.verify import verify
from secagg.errors import SecaggError
from secagg.network.driver import PREPARING
from secagg.printable import PrintableFormatter, printable_lines

__all__ = ["app", "main"]

# Locals in a traceback can be somebody's data, so nothing prints them.
app = typer.Typer(
    name="secagg",
    help="Joint computations on data that organisations may not show each other.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit status: 0 done, 1 failed, 2 a mistake of one's own, 3 done with the result written elsewhere, 130 stopped.",
)
for command in (patterns, explain, check, preflight, run, serve, verify, report, runs, demo.demo):
    app.command()(command)
app.command()(synthesize)
app.command()(errors)
app.add_typer(identity.app, name="identity")
app.add_typer(data.app, name="data")
app.add_typer(budget.app, name="budget")
app.add_typer(consent.app, name="consent")
app.add_typer(audit.app, name="audit")
app.add_typer(consortium.app, name="consortium")
app.add_typer(approver.app, name="approver")
app.add_typer(bench.app, name="bench")
job.app.command()(papers)
app.add_typer(job.app, name="job")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; it always ends with SystemExit and a status of `exits`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for characters that the terminal's encoding lacks
    typer.core.HAS_RICH = False  # else it escapes brackets for rich in help that rich does not print
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("secagg: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    stop = Stop()
    with stop.listening():
        status = _run(arguments, stop)
        if status == STOPPED or (stop.asked and status not in (0, WRITTEN_ELSEWHERE)):
            status = STOPPED
            say(stderr(), f"secagg: {stop.line}")
    if any(thread.name == PREPARING and thread.is_alive() for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # it reads a table that nobody wants any more, and cannot be ended
    raise SystemExit(status)


def _run(arguments: Sequence[str] | None, stop: Stop) -> int:
    try:
        given = sys.argv[1:] if arguments is None else arguments
        return int(_asked_for(given)(given, prog_name="secagg", standalone_mode=False, obj=stop) or 0)
    except SecaggError as error:
        complain(error)
        if stderr().is_terminal:  # for a person, and not for what reads the output
            say(stderr(), f"secagg: secagg errors {type(error).__name__} explains errors of this kind")
        return status_of(error)
    except KeyboardInterrupt:
        return STOPPED
    except ImportError as error:
        if error.name is not None:  # Python's own names the module; ours says what to install
            return _show(error)
        complain(error)
        return WRONG_USE
    except Exception as error:  # noqa: BLE001  # the end of the program: shown whole, but for what a terminal obeys
        # What was interrupted may have made an error of another kind of it.
        return STOPPED if stop.asked else _show(error)


def _asked_for(arguments: Sequence[str]) -> typer.Typer:
    """Return the program with the one command that is asked for: to set up all takes a tenth of its start."""
    name = next((argument for argument in arguments if not argument.startswith("-")), None)
    one = copy.copy(app)
    one.registered_groups = [group for group in app.registered_groups if group.name == name]
    one.registered_commands = [
        command
        for command in app.registered_commands
        if command.callback is not None
        and (command.name or get_command_name(command.callback.__name__)) == name
    ]
    return one if one.registered_groups or one.registered_commands else app


def _show(error: Exception) -> int:
    """Print what is no error of ours; return the exit status."""
    if (show := getattr(error, "show", None)) is None:
        text = "".join(traceback.format_exception(error))
    else:  # about the command line itself
        show(file := io.StringIO())
        text = file.getvalue()
    stderr().print(printable_lines(text.rstrip()), markup=False, soft_wrap=True)
    return int(getattr(error, "exit_code", FAILED))


def _print_version(wanted: bool) -> None:
    if wanted:
        stdout().print(release.RELEASE)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    del version  # its callback has done everything
