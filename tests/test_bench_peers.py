"""Ratios to peers: what is divided, which are bold, what a page keeps, what happens where a peer fails."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.peers.__main__")


def test_a_ratio_is_of_the_same_turn_and_bold_below_1(peers):
    # 1/2, 6/4 and 8/2: dividing the medians would give 3.
    assert peers.ratios.ratio([2, 4, 2], [1, 6, 8]) == "1.5 (1 to 2.75)"
    assert peers.ratios.ratio([2, 4, 2], [1, 3, 8]) == "**0.75** (**0.625** to 2.38)"
    assert peers.ratios.ratio([1], [1234]) == "1,234 (1,234 to 1,234)"


def test_both_sides_take_turns_and_the_order_alternates(peers):
    order, amounts = [], itertools.count(1)

    def side(name):
        def run():
            order.append(name)
            return {"work": peers.Amount(next(amounts), "s", 0.5 if name == "ours" else None)}

        return run

    (row,) = peers.take_turns(side("ours"), side("theirs"), 3)
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert (row["ours"], row["theirs"]) == ([1, 4, 5], [2, 3, 6])
    assert (row["our_error"], row["their_error"]) == (0.5, None)


def test_a_peer_that_measures_other_rows_is_refused(peers):
    one = peers.Amount(1)
    with pytest.raises(peers.PeerFailedError, match=r"expected the rows \['a'\], got \['b'\]"):
        peers.take_turns(lambda: {"a": one}, lambda: {"b": one}, 1)


def test_a_table_replaces_what_is_between_the_comments_and_nothing_else(peers):
    begin, end = peers.ratios.BEGIN, peers.ratios.END
    assert peers.ratios.replaced(f"a\n{begin}\nold\n{end}\nb\n", "new") == f"a\n{begin}\nnew\n{end}\nb\n"
    for page in (f"{begin} x", f"{end} {begin}", f"{begin}{begin}{end}"):
        with pytest.raises(ValueError, match="each once"):
            peers.ratios.replaced(page, "new")
    assert peers.ratios.replaced(peers.PAGE.read_text("utf-8"), "new").count("\nnew\n") == 1


def test_a_run_writes_the_peers_that_ran_and_says_why_others_did_not(peers, monkeypatch, tmp_path, capfd):
    page = tmp_path / "benchmarks.md"
    page.write_text(f"before\n{peers.ratios.BEGIN}\n{peers.ratios.END}\nafter\n", encoding="utf-8")
    monkeypatch.setattr(peers, "PAGE", page)
    monkeypatch.setattr(peers, "version", lambda _python, _package: "1.0")

    def fake(name, theirs):
        ours = {"work": peers.Amount(0.002)}
        monkeypatch.setattr(peers, "our_side", lambda _comparison, _tiny: ours)
        return peers.Comparison(name, name.upper(), name, (), lambda _: ours, theirs, "A note.")

    def fails(python, _tiny):
        return importlib.import_module("benchmarks.peers.comparisons").run_script(
            [python, "-c", "raise SystemExit('no such ring')"]
        )

    both = {"fast": fake("fast", lambda *_: {"work": peers.Amount(0.001)}), "broken": fake("broken", fails)}
    monkeypatch.setattr(peers, "BY_NAME", both)
    results = tmp_path / "results.json"
    options = [f"--json={results}", "--write", *(f"--python={name}={sys.executable}" for name in both)]
    assert peers.main(options) == 1
    written = page.read_text("utf-8")
    assert "| work | 2 ms | 1 ms | **0.5** (**0.5** to **0.5**) |  |" in written
    assert "Left out: BROKEN, because -c ended with 1: 'no such ring'" in written
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert list(json.loads(results.read_text("utf-8"))["peers"]) == ["fast"]

    # A peer measured anew leaves the other's results where they are.
    both["broken"] = fake("broken", lambda *_: {"work": peers.Amount(0.004)})
    assert peers.main([*options, "--only", "broken"]) == 0
    again = page.read_text("utf-8")
    assert "**0.5**" in again
    assert "| 4 ms | 2 (2 to 2) |" in again
    assert "Left out" not in again
    assert "FAST 1.0" in capfd.readouterr().out


@pytest.mark.slow
def test_a_peer_that_hangs_is_ended_with_what_it_started(peers, monkeypatch, tmp_path):
    comparisons = importlib.import_module("benchmarks.peers.comparisons")
    monkeypatch.setattr(comparisons, "TIMEOUT_S", 1)
    script, started = tmp_path / "hangs.sh", tmp_path / "pid"
    script.write_text(f"sleep 60 &\necho $! > {started}\nwait\n", encoding="utf-8")
    with pytest.raises(peers.PeerFailedError, match=r"hangs.sh took longer than 1 s"):
        comparisons.run_script(["sh", str(script)])
    command = Path(f"/proc/{started.read_text('utf-8').strip()}/cmdline")  # empty once its process has ended
    until = time.monotonic() + 10
    while command.exists() and command.read_bytes() and time.monotonic() < until:
        time.sleep(0.01)
    assert not (command.exists() and command.read_bytes())


@pytest.mark.slow
def test_our_side_and_phe_measure_the_same_rows(peers, tmp_path, capfd):
    results = tmp_path / "results.json"
    options = ["--tiny", "--only", "phe", f"--python=phe={sys.executable}", f"--json={results}"]
    assert peers.main(options) == 0
    rows = {row["what"]: row for row in json.loads(results.read_text("utf-8"))["peers"]["phe"]["rows"]}
    assert set(rows) == {f"{step}, a number" for step in ("encrypt", "add", "decrypt", "ciphertext")}
    assert rows["ciphertext, a number"]["theirs"] == [512]  # n has 2048 bits
    assert rows["ciphertext, a number"]["our_error"] < 1e-5
    assert "| encrypt, a number |" in capfd.readouterr().out
