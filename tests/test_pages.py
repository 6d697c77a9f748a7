"""What the pages show works: programs in Python run, and commands of secagg have the options that are shown.

Programs of joint-computations.md and learning.md print what those pages say: test_joint_computations.py.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main

from secagg.cli.commands import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    found = FENCE.findall(page.read_text("utf-8"))
    return [
        re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
        for indent, language, text in found
        if language in languages
    ]


# Programs

# What a page speaks of without saying where it comes from. Its blocks then run one after the other.
_UPDATES = """
import numpy as np, secagg
updates = {f"client{n}": np.full(4, n / 10) for n in range(10)}
examples = dict.fromkeys(updates, 3)
"""
_FLOWER = """
from pathlib import Path
clients = [f'"hospital-{name}" = "{64 * name}"' for name in "abcdef"]
Path("peers.toml").write_text("\\n".join(["[clients]", *clients]))
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from secagg.integrations.flower import *
"""
_RULES = '''
from pathlib import Path
rules_of_north = Path("page.toml").read_text()
for owner in ("north", "south"):
    Path(f"{owner}.toml").write_text(rules_of_north.replace('"north"', f'"{owner}"'))
declaration = """[tables.payments]
holders = ["north", "south"]
max_rows = 10
columns.customer = "identifier"
columns.city = {type = "category", values = ["Delft"]}
columns.amount = {type = "money", max = 100000}
"""
columns = {"customer": ["ann", "bob"], "city": ["Delft"] * 2, "amount": ["9.50", "1"]}
tables = {owner: {"payments": columns} for owner in ("north", "south")}
'''
_SQL = """
from pathlib import Path
Path("tables.toml").write_text(Path("page.toml").read_text())
"""
# OpenFL has an environment of its own; the class itself is tested there.
_OPENFL = """
class SecureTaskRunner: pass
class MyTaskRunner: pass
"""
GIVEN = {
    "openfl.md": _OPENFL,
    "choosing.md": _UPDATES,
    "flower.md": _FLOWER,
    "rules.md": _RULES,
    "sql.md": _SQL,
}
ELSEWHERE = {"joint-computations.md", "learning.md"}
PROGRAMS = {p.name: p for p in sorted(DOCS.glob("*.md")) if p.name not in ELSEWHERE and blocks(p, "python")}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_programs_of_a_page_run_and_print_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if toml := blocks(PROGRAMS[name], "toml"):
        Path("page.toml").write_text(toml[0])
    names: dict[str, Any] = {}
    exec(GIVEN.get(name, ""), names)
    for number, code in enumerate(blocks(PROGRAMS[name], "python")):
        exec(compile(code.replace("/etc/secagg", str(tmp_path)), f"{name}, block {number}", "exec"), names)
        printed = capsys.readouterr().out
        if promised := re.findall(r"# prints: (.*)", code):
            assert printed.splitlines() == promised


# Commands

SHELLS = ("console", "sh", "bash")
PAGES = [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md"))]
GROUPS = typer.main.get_command(app)


def shown(page: Path) -> Iterator[str]:
    """Yield the command lines of secagg in a page's blocks, without what stands before `secagg`."""
    for block in blocks(page, *SHELLS):
        for line in block.replace("\\\n", " ").splitlines():
            if found := re.match(r"(?:\w*\$ )?(?:\w+=\S* )*(?:\S*/)?(secagg [^|&;>]*)", line):
                yield found[1]


def spoken_of(page: Path) -> Iterator[str]:
    """Yield what the text of a page says in code and begins with a command of secagg."""
    text = FENCE.sub("", page.read_text("utf-8"))
    for line in re.findall(r"`(secagg [^`]+)`", text):
        yield re.sub(r"\s*(?:\.\.\.|…)", "", line)


def fault(line: str, *, whole: bool) -> str:
    """Return what is wrong with a command line; a part of one need not be whole."""
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = GROUPS
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        if name not in command.commands:
            return f"{line}: there is no command {name!r}"
        command = command.commands[name]
    context = click.Context(command, resilient_parsing=True)
    if not whole:  # an option may stand without its value
        known = {
            option
            for parameter in command.get_params(context)
            for option in parameter.opts + parameter.secondary_opts
        }
        unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]
        return f"{line}: {unknown}" if unknown else ""
    try:
        values, rest, _ = command.make_parser(context).parse_args(list(words))
    except click.UsageError as error:
        return f"{line}: {error.format_message()}"
    if isinstance(command, click.Group):
        return "" if values else f"{line}: a command is missing"
    given = {name for name, value in values.items() if value and isinstance(value, (str, list, tuple))}
    missing = [p.name for p in command.params if p.required and p.name not in given]
    return f"{line}: missing {missing}, left over {rest}" if missing or rest else ""


def test_every_command_that_a_page_shows_has_what_it_needs_and_no_option_that_is_not_there() -> None:
    lines = [(page, line) for page in PAGES for line in shown(page)]
    assert len(lines) > 80
    assert [(page.name, wrong) for page, line in lines if (wrong := fault(line, whole=True))] == []


def test_every_command_that_a_page_speaks_of_is_there_with_its_options() -> None:
    lines = [(page, line) for page in PAGES if page.name != "CHANGELOG.md" for line in spoken_of(page)]
    assert len(lines) > 80
    assert [(page.name, wrong) for page, line in lines if (wrong := fault(line, whole=False))] == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("secagg chekc job.toml", "no command 'chekc'"),
        ("secagg check", "missing ['job_file']"),
        ("secagg check job.toml --rosw 3", "--rosw"),
        ("secagg check a.toml b.toml", "left over ['b.toml']"),
        ("secagg audit", "a command is missing"),
    ],
)
def test_a_wrong_command_line_is_found(line: str, says: str) -> None:
    assert says in fault(line, whole=True)
