"""Papers: an annex from a job, and a register of runs."""

from __future__ import annotations

import csv
import html
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audited_runs import Parties
from browser import console_messages, set_width
from ended import Ended
from secagg.errors import UsageError
from secagg.joint.audit.bundle import read_bundle
from secagg.joint.report.papers import annex, register, register_csv

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Parties:
    def broken() -> Any:
        raise UsageError("no such table")

    made = Parties(tmp_path_factory.mktemp("papers"))
    made.run("deposits")
    made.run("broken", {"bank_b": broken})
    return made


def test_an_annex_says_who_learns_what_what_may_be_inferred_and_what_is_kept(parties: Parties) -> None:
    job = parties.job("deposits", [7401, 7402, 7403])
    markup = annex(job, fingerprint=job.digest.hex())
    text = html.unescape(markup)
    assert "No legal advice" in text
    assert job.digest.hex() in text
    for one in job.disclosures():
        assert one.what in text
    for sentence in ". ".join([job.trust().rstrip("."), *job.warnings()]).rstrip(".").split(". "):
        assert sentence in text
    assert "input party, computing party, result party" in text
    assert text.count("[to be set]") == 4
    assert "customer, amount" in text
    assert not re.search(r"https?:|<script|//", markup)


@pytest.mark.slow
def test_a_job_with_hostile_text_does_nothing_in_an_annex(
    parties: Parties, tmp_path: Path, browser: Any
) -> None:
    job = parties.job("deposits", [1, 2, 3])
    members = [replace(member, address=(HOSTILE, 1)) for member in job.members]
    text = annex(replace(job, members=tuple(members)), fingerprint="")
    assert HOSTILE not in text
    page = tmp_path / "annex.html"
    page.write_text(text, "utf-8")
    browser.get(page.as_uri())
    assert console_messages(browser) == []
    assert browser.execute_script("return document.scripts.length") == 0
    set_width(browser, 360, phone=True)
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") == 360
    finally:
        set_width(browser, 1280)


def test_the_register_has_each_run_of_the_log_once(parties: Parties) -> None:
    rows = register(read_bundle(parties.log("bank_a")).verified().runs)
    assert [(row.job, row.outcome) for row in rows] == [
        ("deposits", "complete"), ("broken", "failed, before anything was shared"),
    ]  # fmt: skip
    assert rows[0].rows == "bank_a: 2, bank_b: 2"
    assert "bank_a, bank_b: for each customer that it put in" in rows[0].opened
    assert rows[1].opened == ""
    names, *table = csv.reader(io.StringIO(register_csv(rows)))
    assert names[:3] == ["began", "ended", "job"]
    assert [tuple(line) for line in table] == [row.cells for row in rows]


@pytest.mark.slow
def test_the_commands_write_and_print_them(
    parties: Parties, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECAGG_HOME", str(parties.home("bank_a").path))
    monkeypatch.setenv("COLUMNS", "80")  # tables that go to a file have more room
    ended = Ended(capsys, "runs", "--csv", tmp_path / "runs.csv")
    assert ended.status == 0
    assert (
        len(re.findall(r"^20\d\d-\d\d-\d\d \d\d:\d\d:\d\d +[a-z]+ .*bank_a: 2", ended.out, re.MULTILINE)) == 1
    )
    assert "deposits" in ended.out
    assert len((tmp_path / "runs.csv").read_text().splitlines()) == 3
    assert Ended(capsys, "runs", tmp_path / "runs.csv").status == 1

    job = tmp_path / "job.toml"
    job.write_text(parties.job("deposits", [7401, 7402, 7403]).to_toml())
    ended = Ended(capsys, "job", "papers", job)
    assert ended.status == 0, ended.err
    assert "no legal advice" in ended.out
    assert "Annex" in (tmp_path / "deposits.annex.html").read_text("utf-8")
    assert Ended(capsys, "job", "papers", job).status == 2
