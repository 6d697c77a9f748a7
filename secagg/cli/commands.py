"""The commands of `secagg`, and how the program begins and ends."""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Annotated, Any, Final

import typer
import typer.core

from secagg import release
from secagg.cli.exits import FAILED, STOPPED, WRITTEN_ELSEWHERE, WRONG_USE, status_of
from secagg.cli.given import Command, Group
from secagg.cli.show import complain, say, stderr, stdout
from secagg.cli.stopping import Stop
from secagg.errors import SecaggError
from secagg.printable import PrintableFormatter, printable_lines

__all__ = ["app", "main"]

# By name, in the order of `--help`: what it is, in a module that is imported when the command is asked for; and its first
# line, which `--help` shows without it.
COMMANDS: Final = {
    "patterns": ("patterns:patterns", "List what can be computed, with parameters and defaults."),
    "explain": ("explain:explain", "Explain a query: what it opens, and what it costs."),
    "check": ("check:check", "Explain a job: who takes part, what is opened, what it costs."),
    "preflight": ("preflight:preflight", "Look for what would keep a run from taking place."),
    "run": ("run:run", "Take part in a job as one party, or try it out with --local."),
    "serve": ("serve:serve", "Wait for approved jobs and run them; show a page."),
    "verify": ("verify:verify", "Check a run record: its signature, files and log entry."),
    "report": ("report:report", "Write a report of a run: one HTML page for people."),
    "runs": ("papers:runs", "Print the register of runs."),
    "demo": ("demo:demo", "Run a whole example with made-up organisations."),
    "synthesize": ("synthesize:synthesize", "Make a synthetic table of noisy marginals, with their epsilon."),
    "errors": ("errors:errors", "Explain the kinds of errors, and what to do about each."),
    "identity": ("identity:app", "Make and show keys and certificates."),
    "data": ("data:app", "Make example tables; check one's own before a run."),
    "budget": ("budget:app", "Set and show privacy budgets and quotas of runs."),
    "consent": ("consent:app", "Keep persons out of runs, and show who was not in one."),
    "audit": ("audit:app", "Check, compare and export audit logs."),
    "consortium": ("consortium:app", "Say who takes part: members, certificates, roles and tables."),
    "approver": ("approver:app", "Say who approves jobs in this organisation."),
    "bench": ("bench:app", "Measure costs, predict networks, and draw both."),
    "job": ("job:app", "Write jobs, see what they do, and approve them."),
}


class _Commands(MutableMapping[str, Any]):
    """The commands by name, each made when it is asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            module, _, attribute = COMMANDS[name][0].partition(":")
            found = getattr(importlib.import_module(f"secagg.cli.{module}"), attribute)
            holder = _typer()
            if isinstance(found, typer.Typer):
                for one in found.registered_commands:
                    one.cls = Command
                holder.add_typer(found, name=name, cls=Group)
            else:
                holder.command(name, cls=Command)(found)
            holder.callback()(_options)  # else a lone command would stand for the whole
            self._made[name] = typer.main.get_group(holder).commands[name]
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        raise TypeError("commands stay")

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Program(Group):
    """All commands, of which `--help` shows the names and first lines alone."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _typer(**settings: Any) -> typer.Typer:
    # Locals in a traceback can be somebody's data, so nothing prints them.
    return typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, **settings
    )


app = _typer(
    name="secagg",
    cls=_Program,
    help="Joint computations on data that organisations may not show each other.",
    no_args_is_help=True,
    epilog="Exit status: 0 done, 1 failed, 2 a mistake of one's own, 3 done with the result written elsewhere, 130 stopped.",
)


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
    if threading.active_count() > 1 and _is_prepared():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # it reads a table that nobody wants any more, and cannot be ended
    raise SystemExit(status)


def _run(arguments: Sequence[str] | None, stop: Stop) -> int:
    try:
        given = sys.argv[1:] if arguments is None else arguments
        return int(app(given, prog_name="secagg", standalone_mode=False, obj=stop) or 0)
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


def _is_prepared() -> bool:
    """Return whether a thread still prepares a party."""
    from secagg.network.driver import PREPARING  # with the network, which most commands do not need

    return any(thread.name == PREPARING and thread.is_alive() for thread in threading.enumerate())


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
