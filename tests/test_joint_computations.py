"""The programs of docs/joint-computations.md print what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "joint-computations.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_of_the_page_prints_what_it_says(number, capsys):
    exec(compile(PROGRAMS[number], PAGE.name, "exec"), {})
    promised = re.findall(r"# prints: (.*)", PROGRAMS[number])
    assert promised
    assert capsys.readouterr().out.splitlines() == promised


def test_the_page_shows_programs():
    assert len(PROGRAMS) >= 5
