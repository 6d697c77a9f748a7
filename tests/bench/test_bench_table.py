"""A table for a paper has a row for each case, and says how its figures came about."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from ended import Ended
from secagg.bench.case import Case
from secagg.bench.measure import measure
from secagg.cli.bench_table import tables

NETWORKS = ("lan", "20ms/100mbit")


@pytest.fixture(scope="module")
def results() -> list[dict[str, Any]]:
    return [
        measure(Case("protocol", "masked", 3, 5, repeat=1, networks=NETWORKS)),
        measure(Case("operation", "less", engine=4, size=10, repeat=2, seed=7, networks=NETWORKS)),
    ]


@pytest.fixture
def folder(results: list[dict[str, Any]], tmp_path: Path) -> Path:
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(one) + "\n" for one in results))
    (tmp_path / "results.json").write_text(json.dumps(results, indent=1))
    return tmp_path


def test_markdown_has_a_row_for_each_case_and_what_it_takes_to_measure_it_again(results):
    (text,) = tables(results, "markdown")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(results)
    assert {row.count("|") for row in rows} == {rows[0].count("|")}
    masked, less = ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows[2:])
    headings = [cell.strip() for cell in rows[0].split("|")[1:-1]]
    at = dict(zip(headings, zip(masked, less, strict=True), strict=True))
    assert at["computation"] == ("masked", "less")
    assert at["parties"] == ("3", "4")
    assert at["rounds"] == tuple(str(one["rounds"]) for one in results)
    assert at["sent by a client"][1] == ""
    assert "to" not in at["time (quartiles)"][0]  # one run has no quartiles
    assert " to " in at["time (quartiles)"][1]
    assert "fractional bits" not in at
    for said in (
        "1 or 2 runs", "lan: 0.25 ms one way, 1,000 Mbit/s", "20ms/100mbit: 20 ms one way, 100 Mbit/s",
        f"Security of masked: {results[0]['security']}", f"Security of less by 4 parties: {results[1]['security']}",
        "from seed 1 or 7", f"cores {results[0]['machine']['cores']}", f"numpy {results[0]['versions']['numpy']}",
        f"code {results[0]['versions']['code']}",
    ):  # fmt: skip
        assert said in text, said


def test_latex_has_no_mark_that_latex_obeys(results):
    odd = {**results[0], "security": r"1 % of 2^-40 & a_b # {c} ~ \input{x} $"}
    (text,) = tables([odd, results[1]], "latex")
    (security,) = re.findall(r"Security of masked: (.*?)\. Security", text)
    assert security == (r"1 \% of $2^{-40}$ \& a\_b \# \{c\} \textasciitilde{} \textbackslash{}input\{x\} \$")
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0].strip().splitlines()
    assert len(body) == len(results)
    assert len({re.sub(r"\\&", "", row).count("&") for row in body}) == 1
    assert all(row.endswith(r" \\") for row in body)


def test_figures_of_two_machines_are_two_tables_and_the_last_of_a_case_counts(results):
    again = {**results[0], "rounds": 77}
    (text,) = tables([*results, again], "markdown")
    assert text.count("| masked |") == 1
    assert "| 77 |" in text
    assert len(list(tables([*results, {**again, "where": "elsewhere"}], "latex"))) == 2


def test_the_command_takes_a_folder_or_either_file_of_json(capsys, folder):
    texts = [
        Ended(capsys, "bench", "table", path).out
        for path in (folder, folder / "results.jsonl", folder / "results.json")
    ]
    assert texts[0] == texts[1] == texts[2]
    assert texts[0].count("| masked |") == 1
    assert r"\begin{tabular}" in Ended(capsys, "bench", "table", folder, "--form", "latex").out


@pytest.mark.parametrize("content", ["kind,name\n", "[1]", "[", "{}", ""])
def test_what_holds_no_results_is_refused(capsys, tmp_path, content):
    (tmp_path / "results.csv").write_text(content)
    ended = Ended(capsys, "bench", "table", tmp_path / "results.csv")
    assert ended.status == 2
    assert "expected results of secagg bench" in ended.err


def test_a_package_that_is_missing_is_told_with_what_to_install(capsys, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    for words, what in (
        (["plot", folder], 'plots need matplotlib: pip install "secagg[plots]"'),
        (["utility", "--out", folder], 'scikit-learn: pip install "secagg[plots,dp]"'),
    ):
        ended = Ended(capsys, "bench", *words)
        assert ended.status == 2
        assert what in ended.err
        assert "Traceback" not in ended.err


def test_an_interrupted_campaign_says_that_it_goes_on(capsys, tmp_path, monkeypatch):
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("secagg.bench.campaign.run_cases", stopped)
    ended = Ended(capsys, "bench", "--protocols", "masked", "--out", tmp_path)
    assert ended.status == 130
    assert "results.jsonl holds the cases that are done; the same command measures the others" in ended.err


def test_other_work_on_the_machine_is_told_with_the_times_that_it_made_too_long(capsys, tmp_path):
    chosen = "--protocols additive --sizes 5 --parties 3 --repeat 1"
    calm = Ended(capsys, "bench", *chosen.split(), "--out", tmp_path)
    assert calm.status == 0
    kept = json.loads((tmp_path / "results.jsonl").read_text())
    for share, told in ((0.25, True), (0.05, False)):
        (tmp_path / "results.jsonl").write_text(json.dumps(kept | {"others_share": share}) + "\n")
        again = Ended(capsys, "bench", *chosen.split(), "--out", tmp_path)
        assert ("other work had more than 10% of the processors during 1 of 1 cases" in again.err) is told
        assert f"other work had at most {share:.0%}" in Ended(capsys, "bench", "table", tmp_path).out
    del kept["others_share"]  # as an earlier release wrote it
    (tmp_path / "results.jsonl").write_text(json.dumps(kept) + "\n")
    assert "other work" not in Ended(capsys, "bench", "table", tmp_path).out
