"""The report of a run: what it says, that nothing in it can do anything, and that people can read it everywhere.

The module is long because one run and its record serve every claim about the page.
"""

from __future__ import annotations

import base64
import datetime
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from audited_runs import ROSTER, Parties
from browser import console_messages, set_width
from ended import Ended
from secagg.errors import AuthenticationError, UsageError
from secagg.jobs.signature import sign_record
from secagg.joint.approval import gate as approval_gate
from secagg.joint.approval.approval import Approval
from secagg.joint.audit.heads import Heads
from secagg.joint.budget import gate as budget_gate
from secagg.joint.consent import gate as consent_gate
from secagg.joint.report.contents import Answer, Report, load_report
from secagg.joint.report.page import render
from secagg.joint.report.plots import bars, curves
from secagg.joint.report.stated import screened_lines, stated_by_gate
from secagg.patterns.pattern import Spending

HOSTILE = (
    "</td></table></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}\u202etxt\x1b[2J"
)

# Contrast of WCAG 2.2 of each text with the first background behind it that is not transparent, as a browser paints them.
CONTRASTS = """
const light = c => { const [r, g, b] = c.match(/[0-9.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
const clear = c => c === 'transparent' || /, 0\\)$/.test(c);
const found = [];
for (const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); walk.nextNode();) {
  const node = walk.currentNode, element = node.parentElement;
  if (!node.data.trim() || ['TITLE', 'DESC', 'title', 'desc'].includes(element.tagName)) continue;
  const style = getComputedStyle(element), ink = element.closest('svg') ? style.fill : style.color;
  let behind = element;
  while (behind && clear(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
  const paper = behind ? getComputedStyle(behind).backgroundColor : 'rgb(255, 255, 255)';
  const [a, b] = [light(ink), light(paper)].sort((x, y) => y - x);
  found.push([(a + 0.05) / (b + 0.05), node.data.trim().slice(0, 40), ink, paper]);
}
return found;
"""


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Parties:
    """A complete run and one that failed; no test changes their files."""

    def broken() -> Any:
        raise UsageError("no such table")

    made = Parties(tmp_path_factory.mktemp("report"))
    made.run("deposits")
    made.run("broken", {"bank_b": broken})
    return made


def reported(parties: Parties, name: str = "bank_a", **options: Any) -> Report:
    known = {"certificate": parties.identities[name].certificate, "log": parties.log(name)}
    return load_report(parties.records[0][name], **{**known, **options})


def survival() -> Answer:
    rows = [(arm, str(t), f"{1 - t / 40}", f"{0.9 - t / 40}", "1") for arm in ("a", "b") for t in (6, 12, 24)]
    return Answer(("arm", "time", "survival", "lower", "upper"), tuple(rows))


@pytest.fixture(scope="module")
def pages(parties: Parties, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of a bank with a curve, that of a party without a result, and one full of hostile texts."""
    folder = tmp_path_factory.mktemp("pages")
    honest = reported(parties)
    texts = {
        "curve": render(replace(honest, answer=survival())),
        "bank": render(honest),
        "outsider": render(reported(parties, "outsider")),
        "hostile": render(load_report(hostile_record(parties, folder))),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, "utf-8")
    return {name: folder / f"{name}.html" for name in texts}


def hostile_record(parties: Parties, folder: Path) -> Path:
    """Return a record whose party put hostile text wherever text can stand, and signed it."""
    record = json.loads(parties.records[0]["bank_a"].read_text())
    del record["signature"], record["private"]
    fixed = ("party", "parties", "outcome", "started", "ended", "digest", "session", "announced_rows")

    def spoilt(value: Any) -> Any:
        if isinstance(value, str):
            return HOSTILE
        if isinstance(value, dict):
            return {name: spoilt(item) for name, item in value.items()}
        return [spoilt(item) for item in value] if isinstance(value, list) else value

    record = {name: value if name in fixed else spoilt(value) for name, value in record.items()}
    record["parameters"] = {HOSTILE: HOSTILE, "long": "x" * 500}
    record["roles"] = {HOSTILE: ["bank_a"]}
    record["opened"][0]["to"] = [HOSTILE]
    record["outcome"] = "failed"
    record["error"] = {
        "type": "x",
        "message": HOSTILE,
        "named": HOSTILE,
        "accused": HOSTILE,
        "suspects": [HOSTILE],
    }
    record["ledger"]["phases"] = {HOSTILE: record["ledger"]["total"]}
    record["ledger"]["sent_to"][HOSTILE] = record["ledger"]["sent_to"]["bank_b"]
    statement = base64.b64encode(b"\xa9</script>").decode()
    record["gates"] = {HOSTILE: {"statements": {HOSTILE: HOSTILE, "audit": statement}, "signature": ""}}
    path = folder / "hostile.json"
    path.write_text(json.dumps(sign_record(record, parties.identities["bank_a"])))
    return path


def test_a_report_says_what_was_put_in_opened_agreed_and_checked(parties: Parties) -> None:
    report = reported(parties)
    assert report.answer is not None
    assert report.answer.columns == ("customer", "deposits", "total")
    assert {member.name: member.rows for member in report.members} == {
        "bank_a": 2,
        "bank_b": 2,
        "outsider": None,
    }
    assert [check.state for check in report.checks] == ["passed"] * 3
    assert report.total is not None
    assert sum(phase.sent_bytes for phase in report.phases) == report.total.sent_bytes
    assert sum(peer.sent_bytes for peer in report.peers) == report.total.sent_bytes
    text = render(report)
    for word in ("alice", "1200.00", "Confidential", "audit", "limit", "passed", *ROSTER):
        assert word in text
    for sentence in str(report.record["trust"]).split(". "):
        assert sentence.rstrip(".").replace("'", "&#39;") in text


def test_a_copy_without_the_result_holds_no_row_of_it(parties: Parties) -> None:
    text = render(reported(parties, with_result=False))
    assert not any(word in text for word in ("alice", "bob", "1200.00", "Confidential"))
    assert "left out of this copy" in text


def test_a_failed_run_is_reported_with_its_reason_and_without_a_result(
    parties: Parties, tmp_path: Path
) -> None:
    record = json.loads(parties.records[0]["bank_a"].read_text())
    del record["signature"]
    error = {
        "type": "AbortedError",
        "message": "bank_b ended it",
        "named": "bank_b",
        "accused": "",
        "suspects": [],
    }
    record |= {"outcome": "failed", "opened": None, "error": error, "ledger": None}
    path = tmp_path / "failed.json"
    path.write_text(json.dumps(sign_record(record, parties.identities["bank_a"])))
    text = render(load_report(path))
    assert "bank_b ended it" in text
    assert "there is no result" in text
    assert "The parties did not meet" in text
    assert "Confidential" not in text


def test_counts_that_a_pattern_hides_are_not_reported_as_zeros(parties: Parties, tmp_path: Path) -> None:
    record = json.loads(parties.records[0]["bank_a"].read_text())
    del record["signature"]
    path = tmp_path / "hidden.json"
    for counts, shown in (({"bank_a": 0, "bank_b": 0}, None), ({"bank_a": 0, "bank_b": 2}, 0)):
        path.write_text(
            json.dumps(sign_record(record | {"announced_rows": counts}, parties.identities["bank_a"]))
        )
        assert load_report(path).members[0].rows == shown


def test_a_forged_record_is_refused_and_a_forged_result_is_not_shown(
    parties: Parties, tmp_path: Path
) -> None:
    runs = parties.home("bank_a").runs
    for path in runs.glob("bank_a.deposits*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    result, record = tmp_path / "bank_a.deposits.csv", tmp_path / "bank_a.deposits.json"
    result.write_text(result.read_text().replace("1200.00", "9999.99"))
    report = load_report(record)
    assert ("Result file", "failed") in [(check.what, check.state) for check in report.checks]
    assert "9999.99" not in render(report)
    content = record.read_text()
    record.write_text(content.replace('"deposits"', '"withdrawals"'))
    with pytest.raises(AuthenticationError, match="it was changed"):
        load_report(record)
    forged = {k: v for k, v in json.loads(content).items() if k != "signature"} | {"max_rows": 7}
    record.write_text(json.dumps(sign_record(forged, parties.identities["bank_a"])))
    states = {check.what: check.state for check in load_report(record, log=parties.log("bank_a")).checks}
    assert states["Audit log"] == "failed"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_rows", []),
        ("risks", {"x": {}}),
        ("opened", [1]),
        ("ledger", {"phases": 1}),
        ("gates", [1]),
        ("error", 1),
    ],
)
def test_a_signed_record_of_another_shape_is_refused(
    parties: Parties, tmp_path: Path, field: str, value: object
) -> None:
    record = json.loads(parties.records[0]["bank_a"].read_text())
    del record["signature"]
    path = tmp_path / "shape.json"
    path.write_text(json.dumps(sign_record({**record, field: value}, parties.identities["bank_a"])))
    with pytest.raises(UsageError, match="does not hold what a run record of this release has"):
        load_report(path, with_result=False)


def test_no_page_holds_a_url_or_a_script_or_a_style_of_its_own(pages: dict[str, Path]) -> None:
    for name, path in pages.items():
        text = path.read_text("utf-8")
        assert not re.search(r"https?:|//|\bsrc=|@import|url\(|data:", text) or name == "hostile"
        assert not re.search(r"<script|<img|<link|<iframe|<object| style=| on\w+=['\"]", text)
        assert 'content="default-src &#39;none&#39;; style-src &#39;sha256-' in text


@pytest.mark.parametrize("name", ["bank", "curve", "outsider", "hostile"])
@pytest.mark.slow
def test_a_browser_shows_every_page_runs_nothing_and_finds_nothing_to_complain_of(
    browser: Any, pages: dict[str, Path], name: str
) -> None:
    browser.get(pages[name].as_uri())
    assert console_messages(browser) == []
    script = "return [document.scripts.length, document.images.length, document.styleSheets.length]"
    assert browser.execute_script(script) == [0, 0, 1]
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    # The style is the page's own, and the policy lets it in.
    assert browser.execute_script("return getComputedStyle(document.body).maxWidth") == "960px"
    named = (
        "return [...document.querySelectorAll('main > section')].map(s => s.getAttribute('aria-labelledby'))"
    )
    sections = browser.execute_script(named)
    assert sections == ["answer", "parties", "agreed", "trust", "cost", "checks"]


def test_hostile_text_is_shown_to_the_letter_and_nothing_of_it_is_obeyed(
    browser: Any, pages: dict[str, Path]
) -> None:
    text = pages["hostile"].read_text("utf-8")
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "{{ 7*7 }}" in text
    browser.get(pages["hostile"].as_uri())
    shown = browser.find_element("css selector", "h1").text
    assert shown == HOSTILE.replace("\u202e", "\\u202e").replace("\x1b", "\\x1b")


@pytest.mark.parametrize("name", ["bank", "curve", "hostile"])
@pytest.mark.slow
def test_text_has_the_contrast_that_people_with_weak_sight_need(
    browser: Any, pages: dict[str, Path], name: str
) -> None:
    browser.get(pages[name].as_uri())
    found = browser.execute_script(CONTRASTS)
    assert len(found) > 50
    assert [entry for entry in found if entry[0] < 4.5] == []


@pytest.mark.slow
def test_a_page_can_be_read_by_ear_and_used_by_keyboard(browser: Any, pages: dict[str, Path]) -> None:
    from selenium.webdriver import ActionChains, Keys

    browser.get(pages["curve"].as_uri())
    assert browser.execute_script("return document.documentElement.lang") == "en"
    levels = browser.execute_script(
        "return [...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    # Every drawing is hidden from readers beside the number that it shows, or says what it is.
    bare = (
        "return [...document.querySelectorAll('svg')]"
        ".filter(s => !s.closest('[aria-hidden]') && !s.querySelector('title')).length"
    )
    assert browser.execute_script(bare) == 0
    described = browser.find_element("css selector", "svg desc").get_attribute("textContent")
    assert "a: 0.85 at 6, 0.4 at 24" in described
    assert browser.execute_script("return [...document.querySelectorAll('th')].every(t => t.scope)")
    ActionChains(browser).send_keys(Keys.TAB).perform()
    first = browser.switch_to.active_element
    assert first.text == "To the answer"
    assert first.is_displayed()
    stops = browser.execute_script("return document.querySelectorAll('a, [tabindex=\"0\"]').length")
    reached = set()
    for _ in range(stops):
        reached.add(browser.switch_to.active_element.id)
        ActionChains(browser).send_keys(Keys.TAB).perform()
    assert len(reached) == stops


@pytest.fixture
def phone(browser: Any) -> Iterator[Any]:
    set_width(browser, 360, phone=True)
    yield browser
    set_width(browser, 1280)


@pytest.mark.parametrize("name", ["bank", "curve", "hostile"])
def test_on_a_phone_nothing_but_wide_tables_scrolls_sideways(
    phone: Any, pages: dict[str, Path], name: str
) -> None:
    phone.get(pages[name].as_uri())
    assert phone.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [360, 360]
    assert (
        phone.execute_script("return parseFloat(getComputedStyle(document.querySelector('td')).fontSize)")
        >= 14
    )


@pytest.mark.slow
def test_on_paper_everything_is_there_and_no_navigation(browser: Any, pages: dict[str, Path]) -> None:
    browser.get(pages["bank"].as_uri())
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not browser.find_element("css selector", "nav").is_displayed()
        assert browser.find_element("css selector", "#checks").is_displayed()
        scrolled = "return [...document.querySelectorAll('.scroll')].every(s => getComputedStyle(s).overflowX === 'visible')"
        assert browser.execute_script(scrolled)
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    paper = base64.b64decode(browser.print_page())
    assert paper.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", paper)) <= 5


# Plots.


def test_bars_are_as_long_as_their_numbers_and_begin_at_zero() -> None:
    answer = Answer(("name", "value"), (("a", "10"), ("b", "5"), ("c", ""), ("d", "-10")))
    drawn = [None if bar is None else (bar.start, bar.length) for bar in bars(answer, 1)]
    assert drawn == [(50, 50), (50, 25), None, (0, 50)]
    assert bars(answer, 0) == [None] * 4
    assert bars(Answer(("x",), (("0",), ("0",))), 0) == [None, None]


def test_curves_go_through_what_was_told_and_only_times_make_one() -> None:
    plot = curves(survival())
    assert plot is not None
    assert [curve.name for curve in plot.curves] == ["a", "b"]
    for curve in plot.curves:
        xs, ys = zip(*curve.points, strict=True)
        assert list(xs) == sorted(xs)
        assert list(ys) == sorted(ys)  # survival falls, and a drawing's y goes down
        assert all(plot.left <= x <= plot.right for x in xs)
        assert all(plot.top <= y <= plot.bottom for y in ys)
    assert curves(Answer(("arm", "value"), (("a", "1"), ("b", "2")))) is None
    assert curves(Answer(("time", "value"), (("2", "1"), ("1", "2")))) is None
    assert curves(Answer(("time", "value"), (("x", "1"), ("1", "2")))) is None


def test_statements_are_told_in_words_and_what_is_not_understood_by_its_digest() -> None:
    scope, subject = bytes(32), bytes(32)
    anna = Approval(
        "run",
        scope,
        subject,
        "p",
        "anna",
        datetime.datetime(2026, 10, 1, 8, tzinfo=datetime.UTC),
        2,
        bytes(64),
    )
    spending = Spending(("t",), 0.5, 0.0, "person")
    checked = consent_gate.Check(5, 2, ("age", "zip"), ("illness",))
    told = {
        "approval": approval_gate._Statement(b"\x01" * 32, 3, 0, 1, [anna]),
        "budget": budget_gate.Statement(bytes(40), {}, ["t"], [spending]),
        "consent": consent_gate.Statement({"t": 10}, {"t": checked}, {"t.id": "exact"}, None, ["ab"]),
        "audit": Heads(1, [b"\x07" * 32], [b""]),
        "other": {"a": b"\x02"},
    }
    statements = {name: base64.b64encode(msgspec.msgpack.encode(one)).decode() for name, one in told.items()}
    statements["resume"] = base64.b64encode(b"\xc1").decode()
    lines = {one.gate: one.lines for one in stated_by_gate({"north": {"statements": statements}})}
    assert (
        "this run's values approved by p/anna at 2026-10-01 08:00:00+00:00, for 2 runs" in lines["approval"]
    )
    assert "spent: epsilon 0.5, delta 0 a person, of t" in lines["budget"]
    assert lines["consent"] == (
        "t: 10 rows or more did not enter, by exclusion lists",
        "t: k = 5 over age, zip, l = 2 in illness, as rows enter",
        "its rows are those of 1 earlier runs of this job",
    )
    assert lines["audit"] == ("log of 1 entries, head 0707070707070707",)
    assert lines["other"] == ("a: 02",)
    assert lines["resume"][0].startswith("1 bytes, SHA-256")


def test_what_a_partys_own_gates_left_out_is_told_to_it_alone(parties: Parties, tmp_path: Path) -> None:
    screened = {"consent": {"excluded": {"t": 3}, "suppressed": {"t": {"rows": 1, "rows_with_cells": 2}}}}
    lines = screened_lines(screened)
    assert lines == ("t: 3 rows left out by exclusion lists", "t: 1 rows suppressed, and cells of 2 more")
    report = replace(reported(parties), screened=lines)
    assert all(line in render(report) for line in lines)
    assert reported(parties, with_result=False).screened == ()


# The command.


@pytest.mark.slow
def test_the_command_writes_the_page_once_and_ends_with_1_where_a_check_fails(
    parties: Parties, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECAGG_HOME", str(parties.home("bank_a").path))
    record, page = parties.records[0]["bank_a"], tmp_path / "page.html"
    key = parties.home("bank_a").keys / "bank_a.crt"
    assert Ended(capsys, "report", record, "--out", page, "--certificate", key).status == 0
    assert page.stat().st_mode & 0o777 == 0o600
    assert "Audit log passed" in page.read_text("utf-8")
    ended = Ended(capsys, "report", record, "--out", page)
    assert ended.status == 2
    assert "will not be overwritten" in ended.err
    other = parties.log("bank_b")
    assert Ended(capsys, "report", record, "--out", tmp_path / "b.html", "--log", other).status == 1
    assert "FAILED" in (tmp_path / "b.html").read_text("utf-8")
    ended = Ended(capsys, "report", parties.home("bank_a").keys)
    assert ended.status == 2
    assert "expected one run record" in ended.err
