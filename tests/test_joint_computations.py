"""The programs of docs/joint-computations.md and docs/learning.md print what the pages say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PROGRAMS = {
    f"{name} {number}": program
    for name in ("joint-computations", "learning")
    for number, program in enumerate(
        re.findall(
            r"^```python\n(.*?)^```$", (DOCS / f"{name}.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
        )
    )
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.slow
def test_a_program_of_the_page_prints_what_it_says(name, capsys):
    exec(compile(PROGRAMS[name], name, "exec"), {})
    promised = re.findall(r"# prints: (.*)", PROGRAMS[name])
    assert promised
    assert capsys.readouterr().out.splitlines() == promised


def test_the_pages_show_programs():
    assert len([name for name in PROGRAMS if name.startswith("joint")]) >= 5
    assert len([name for name in PROGRAMS if name.startswith("learning")]) >= 2
