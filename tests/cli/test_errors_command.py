"""`secagg errors` explains every kind of error, and whoever sits at a terminal is told of it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from secagg import errors
from secagg.cli import commands, main
from secagg.cli.errors import REMEDIES
from secagg.cli.show import PrintableConsole

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text("utf-8")


def output(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert not end.value.code
    return capsys.readouterr().out


def test_every_kind_of_error_is_explained_with_its_place_on_the_page(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = output(capsys, "errors").splitlines()
    assert [line.partition(":")[0] for line in lines] == errors.__all__
    for name, line in zip(errors.__all__, lines, strict=True):
        assert "Whose doing: " in line
        assert line.endswith(f" More: docs/errors.md#{name.lower()}")
        assert f"\n## {name}\n" in PAGE
    assert output(capsys, "errors", "joberror") == lines[errors.__all__.index("JobError")] + "\n"


def test_the_remedies_of_the_branches_are_those_of_the_page() -> None:
    for branch, remedy in REMEDIES.items():
        if branch is not errors.SecaggError:
            (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| [`{branch.__name__}`]")]
            assert row.rsplit(" | ", 1)[1].removesuffix(" |").lower() in remedy.lower()


def test_a_kind_that_is_none_is_a_mistake_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["errors", "JobErorr"])
    assert end.value.code == 2
    assert "'JobErorr'" in capsys.readouterr().err


@pytest.mark.parametrize("terminal", [True, False])
def test_a_person_at_a_terminal_is_told_which_kind_it_is(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.StringIO()
    console = PrintableConsole(file=written, force_terminal=terminal, color_system=None)
    monkeypatch.setattr(commands, "stderr", lambda: console)
    with pytest.raises(SystemExit):
        main(["check", "nowhere.toml"])
    assert ("secagg errors JobError explains errors of this kind" in written.getvalue()) is terminal
