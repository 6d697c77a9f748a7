"""What the command line imports before it knows what it has to compute, and that nothing is said twice for it."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest
import typer.main

from secagg.bench import networks, utility
from secagg.cli import approver, bench, budget, consent, consortium
from secagg.cli.commands import COMMANDS, app
from secagg.joint.approval import policy
from secagg.joint.budget import book
from secagg.joint.consent import guard, lists
from secagg.joint.consortium import organisation

# What computes, reads tables or keys, or speaks to peers. A command that is asked for help needs none of it.
HEAVY = {
    "numpy",
    "cryptography",
    "duckdb",
    "msgspec",
    "ssl",
    "sqlglot",
    "asyncio",
    "gmpy2",
    "tenseal",
    "uvicorn",
}
MOST_OF_OURS = 40  # modules of secagg, of some 350 that there are

PROGRAM = """
import contextlib, io, json, sys
from secagg.cli import main
with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
    main(sys.argv[1:])
print(json.dumps([said.getvalue(), list(sys.modules)]))
"""


def imported(*words: str) -> set[str]:
    """Return what is imported by a command that prints a help or a version."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=True)
    said, modules = json.loads(done.stdout)
    assert said.startswith(("Usage: secagg", "0.", "1."))
    return set(modules)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [[], ["--version"], *([name] for name in COMMANDS), ["data", "make"], ["bench", "plot"]]
)
def test_help_imports_nothing_that_computes(words: list[str]) -> None:
    modules = imported(*words) if "--version" in words else imported(*words, "--help")
    assert modules & HEAVY == set()
    assert len({name for name in modules if name.partition(".")[0] == "secagg"}) <= MOST_OF_OURS


def test_the_list_of_commands_imports_no_command() -> None:
    ours = {name for name in imported("--help") if name.startswith("secagg.cli.")}
    assert ours == {f"secagg.cli.{name}" for name in ("commands", "exits", "given", "show", "stopping")}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_of_itself_what_the_list_says_of_it(name: str) -> None:
    program = typer.main.get_command(app)
    assert isinstance(program, click.Group)
    command = program.commands[name]
    assert command.name == name
    assert command.get_short_help_str(1000) == COMMANDS[name][1]


def test_choices_that_help_shows_without_their_modules_are_those_of_the_modules() -> None:
    assert budget._ALL == book.ALL
    assert (consent._EARLIER, consent._EVERY) == (guard.EARLIER, lists.EVERY)
    assert {one.value for one in approver.Unapproved} == {policy.REFUSE, policy.ALLOW}
    assert consortium._ROLES == organisation.ROLES
    assert ",".join(networks.NETWORKS) == bench._VALIDATED
    assert ",".join(utility.DATA_SETS) == bench._DATA_SETS
    assert ",".join(f"{epsilon:g}" for epsilon in utility.EPSILONS) == bench._EPSILONS
