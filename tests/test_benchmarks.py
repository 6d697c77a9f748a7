"""Benchmarks run, and the campaign of faults finds nothing."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path

import numpy as np
import pytest

from safe_primes import P, Q

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
# Run by a test of its own, which holds its page against what it prints.
ELSEWHERE = {"operations"}
SCRIPTS = sorted(
    path.stem
    for path in (ROOT / "benchmarks").glob("*.py")
    if "def main(argv" in path.read_text(encoding="utf-8") and path.stem not in ELSEWHERE
)


@pytest.fixture(autouse=True)
def _import_from_the_checkout(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # measured on a busy machine, nothing to remember


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_benchmark_runs_on_a_little(name, capfd, monkeypatch):
    if name == "aggregation":  # which would search for safe primes, for a time that chance decides
        threshold = importlib.import_module("secagg.he.paillier.threshold")
        deal = functools.partial(threshold.deal_threshold_key, safe_primes=(P, Q))
        monkeypatch.setattr(threshold, "deal_threshold_key", deal)
    assert not importlib.import_module(f"benchmarks.{name}").main(["--tiny"])
    assert capfd.readouterr().out


def test_runs_with_faults_end_right_or_name_a_peer():
    disturb = importlib.import_module("benchmarks.faults").disturb
    endings = [(seed, *disturb(seed)) for seed in range(100_000, 100_060)]
    assert [(seed, why) for seed, _, why in endings if why] == []
    assert {end for _, end, _ in endings} == {"the right result", "an error that names a peer"}


def test_every_script_is_found():
    assert {"core", "faults", "fraud"} <= set(SCRIPTS)


def test_the_table_of_limits_replaces_the_one_on_the_page_and_nothing_else():
    limits = importlib.import_module("benchmarks.limits")
    page = limits.PAGE.read_text(encoding="utf-8")
    once = limits.put(page, "| table-1 |\n")
    assert "| table-1 |" in once
    assert limits.put(once, "| table-2 |\n") == once.replace("table-1", "table-2")
    assert once.partition(limits.BEGIN)[0] == page.partition(limits.BEGIN)[0]
    assert once.partition(limits.END)[2] == page.partition(limits.END)[2]
    with pytest.raises(SystemExit, match="lacks the lines"):
        limits.put("no table", "| table-1 |\n")


def test_what_is_said_of_a_figure_above_2_belongs_to_one_that_the_page_has():
    limits = importlib.import_module("benchmarks.limits")
    page = limits.PAGE.read_text(encoding="utf-8")
    rows = page.partition(limits.BEGIN)[2].partition(limits.END)[0].splitlines()
    names = [row.split(" | ")[0].removeprefix("| ") for row in rows if row.startswith("| ")][1:]
    assert len(names) == 20
    for start in limits.WHERE:
        assert [name.startswith(start) for name in names].count(True) == 1, start


def test_only_figures_above_2_are_explained():
    limits = importlib.import_module("benchmarks.limits")
    high, low = (limits.Figure(f"x < 0, {n}", np.full(1, n), np.ones(1), "nothing") for n in (2.5, 2.0))
    said = " ".join(limits.above([high, low]).split())
    assert said.endswith(f": - {high.name}, 2.50: {limits.WHERE['x < 0']}")
    assert limits.above([low]) == "\nNo figure is above 2.\n"
    assert "others used the machine" in limits.machine(3, [9.0, 12.0])
    assert "3 turns of each, loads of 0.2 to 9.0." in limits.machine(3, [0.2, 9.0])
