"""The page of reference of the command line, made of what the commands say of themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click
import typer.core
import typer.main

from secagg.cli.commands import app

_INTRODUCTION = """# Commands

What each command takes, as its `--help` says it. A command ends with status 0 if it is done, and with 1 if it failed.
The status is 2 for a mistake of one's own, 3 for a result that had to be written elsewhere, and 130 for what was stopped.
"""


def commands_page() -> str:
    """Return the page as Markdown: a section for each command, with its arguments and options."""
    typer.core.HAS_RICH = False  # else it escapes brackets for rich, as `secagg.cli.commands.main` says
    return "\n".join([_INTRODUCTION, *map(_section, every_command())])


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Yield every command that can be run, with the words that name it, in the order of `--help`."""
    yield from _below("secagg", typer.main.get_command(app))


def _below(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        if command.invoke_without_command and path != "secagg":
            yield path, command
        for name, each in command.commands.items():
            yield from _below(f"{path} {name}", each)
    else:
        yield path, command


def _section(named: tuple[str, click.Command]) -> str:
    path, command = named
    context = click.Context(command, info_name=path)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    rows = [
        f"| {name} | {_cell(text)} |"
        for parameter in command.get_params(context)
        if (record := parameter.get_help_record(context)) and "--help" not in record[0]
        for name, text in [(f"`{record[0]}`".replace("|", "\\|"), record[1])]
    ]
    table = ["| argument or option | meaning |", "|---|---|", *rows, ""] if rows else []
    text = inspect.cleandoc((command.help or "").replace("\b", "").partition("\f")[0])
    return "\n".join([f"## {path}", "", f"```text\n{usage}\n```", "", _prose(text), "", *table])


def _prose(text: str) -> str:
    return text.replace("<", "&lt;").replace(">", "&gt;")


def _cell(text: str) -> str:
    return re.sub(r"[|\[\]<>*_]", lambda found: f"&#{ord(found[0])};", " ".join(text.split()))
