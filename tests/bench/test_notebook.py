"""The example notebook runs, and is committed without outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "costs" / "costs.ipynb"


@pytest.mark.slow
def test_every_cell_of_the_notebook_runs_and_its_figures_are_those_of_the_protocols(capsys):
    names: dict[str, Any] = {}
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    runs = names["runs"]
    assert (runs["max_error"] <= runs["error_bound"]).all()
    assert runs["payload_bytes"].is_monotonic_increasing or len(runs) == 6
    networks = names["networks"]
    assert (networks["lan"] < networks["wan"]).all()
    assert (networks["wan"] < networks["mobile"]).all()
    assert "10^9 comparisons: " in capsys.readouterr().out


def test_the_notebook_is_committed_without_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in cells)
