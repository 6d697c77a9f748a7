"""An option that takes one value is given once: of two values none counts in silence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import pytest
import typer.main

from ended import Ended
from secagg.cli.commands import app


def options(
    command: click.Command, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Option]]:
    """Yield each option with the words of its command."""
    for param in command.params:
        if isinstance(param, click.Option):
            yield words, param
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from options(each, (*words, name))


def test_every_option_of_one_value_is_refused_when_it_comes_again_and_no_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    single = 0
    for words, option in options(typer.main.get_command(app)):
        name = option.opts[0]
        if option.is_flag:
            continue
        for again in ([name, "x", name, "y"], [f"{name}=x", name, "y"], [name, name, f"{name}=y"]):
            ended = Ended(capsys, *words, *again)
            refused = f"{name} is given more than once, and takes one value" in ended.err
            assert refused is not option.multiple, (words, again)
            assert ended.status == 2 or option.multiple
        single += not option.multiple
    assert single > 100


@pytest.mark.parametrize(
    "given",
    ["--out=a -- --out", "x --data a --data --out --out b"],
    ids=["behind two dashes", "as the value of another"],
)
def test_what_only_looks_like_an_option_is_none(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "more than once" not in Ended(capsys, "run", *given.split()).err


def test_lists_say_how_they_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    ended = Ended(capsys, "bench", "--parties", "3", "--parties", "4")
    assert ended.err == (
        "secagg: --parties is given more than once, and takes one value; give it once, with commas between its values: "
        "--parties N,...\n"
    )


@pytest.mark.parametrize(
    ("words", "option", "twice"),
    [
        ("bench --protocols additive --parties 3,4,3", "--parties", "3"),
        ("bench --protocols additive --frac-bits 3,03", "--frac-bits", "3"),
        ("bench --protocols additive,masked,additive", "--protocols", "additive"),
        ("bench --protocols additive --networks lan,lan", "--networks", "lan"),
        ("bench growth --protocols additive --parties 3,4,5,5", "--parties", "5"),
        ("bench networks --networks wan,lan,wan", "--networks", "wan"),
        ("bench utility --epsilons 1,1.0", "--epsilons", "1.0"),
        ("bench utility --data-sets wine,wine", "--data-sets", "wine"),
    ],
)
def test_a_value_that_is_in_a_list_twice_is_refused(
    words: str, option: str, twice: str, capsys: pytest.CaptureFixture[str], tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = Ended(capsys, *words.split())
    assert ended.status == 2
    assert f"expected each value of {option} once, got {twice} more than once" in ended.err
    assert list(tmp_path.iterdir()) == []
