"""Ctrl-C at one party, in real processes: it ends with one line, and so does every other party."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from secagg.cli import main
from secagg.cli.stopping import Stop
from secagg.jobs.local import free_addresses
from secagg.network.identity import create_identity

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm")]

PARTIES = ("bank_a", "bank_b", "bank_x")
ENDLESS = "duckdb:SELECT CAST(sum(range % 7) AS VARCHAR) AS customer, 1 AS amount, 1 AS time FROM range(1000000000000000)"
PATIENCE_S = 120  # far less than what is waited for if nobody is told

Started = dict[str, "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Start parties as processes; `tables` replaces a bank's table."""
    job = 'name = "j"\napproval = "off"\npattern = "structuring"\n[roles]\ninput = ["bank_a", "bank_b"]\n'
    job += 'computing = ["bank_a", "bank_b", "bank_x"]\n[timeouts]\nconnect_s = 1200\n'
    for name, (host, port) in zip(PARTIES, free_addresses(3), strict=True):
        create_identity(name).save(tmp_path)
        job += f'[[parties]]\nname = "{name}"\naddress = "{host}:{port}"\ncertificate = "{name}.crt"\n'
    (tmp_path / "job.toml").write_text(job)
    (tmp_path / "table.csv").write_text("customer,amount,time\nanna,6000,1\n")
    running: Started = {}

    def start(*names: str, **tables: str) -> Started:
        for name in names:
            command = [sys.executable, "-m", "secagg", "run", "job.toml", "--as", name, "--identity", "."]
            command += ["--out", "out", "--progress", "json"]
            if name != "bank_x":
                command += ["--data", tables.get(name, "table.csv")]
            running[name] = subprocess.Popen(
                command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        return running

    yield start
    for process in running.values():
        process.kill()
        process.communicate()


def until(process: subprocess.Popen[str], seen: Callable[[dict[str, Any]], bool]) -> None:
    """Read a party's progress until it is so far."""
    assert process.stderr is not None
    for line in process.stderr:
        if seen(json.loads(line)["progress"]):
            return
    pytest.fail("it ended first")


def endings(running: Started) -> dict[str, tuple[int, str]]:
    """Return each party's exit status and what it said last; progress apart it says one line."""
    ended = {}
    for name, process in running.items():
        out, err = process.communicate(timeout=PATIENCE_S)
        *before, last = err.splitlines()
        assert all(line.startswith('{"progress"') for line in before), err
        assert out == ""
        ended[name] = (process.returncode, last)
    return ended


def check_told_by(who: str, ended: dict[str, tuple[int, str]]) -> None:
    for name, (status, last) in ended.items():
        if name != who:
            assert status == 1
            message = json.loads(last)["message"]
            assert f"{who} ended the run: it was stopped" in message or f": {who} was stopped" in message
            assert "KeyboardInterrupt" not in message


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGHUP])
def test_whoever_stops_while_it_waits_tells_those_who_are_there(
    start: Callable[..., Started], how: signal.Signals
) -> None:
    running = start("bank_a", "bank_b")
    until(running["bank_b"], lambda progress: progress["present"] == ["bank_a"])
    running["bank_b"].send_signal(how)
    ended = endings(running)
    assert ended["bank_b"][0] == 130
    assert ended["bank_b"][1].startswith(
        "secagg: stopped; bank_a was told; record of the run: out/bank_b.j.failed-"
    )
    check_told_by("bank_b", ended)


def test_a_signal_before_the_wait_for_the_others_leaves_no_record_and_promises_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("secagg.jobs.job_file.load_job", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    with pytest.raises(SystemExit) as end:
        main(["run", "j.toml", "--as", "a", "--identity", str(tmp_path), "--out", str(tmp_path / "out")])
    assert end.value.code == 130
    assert capsys.readouterr().err == "secagg: stopped\n"
    assert list(tmp_path.iterdir()) == []


def test_whoever_stops_before_anybody_came_says_that_nobody_was_told(
    start: Callable[..., Started], tmp_path: Path
) -> None:
    running = start("bank_x")
    until(running["bank_x"], lambda progress: progress["phase"] == "connect")
    running["bank_x"].send_signal(signal.SIGINT)
    status, last = endings(running)["bank_x"]
    assert status == 130
    words = "secagg: stopped; no other party was connected; record of the run: "
    assert last.startswith(words)
    error = json.loads((tmp_path / last.removeprefix(words)).read_text())["error"]
    assert (error["type"], error["named"]) == ("stopped", "bank_x")


@pytest.mark.parametrize("who", ["bank_a", "bank_x"])
def test_whoever_stops_while_a_table_is_read_ends_the_run_for_the_reader_too(
    start: Callable[..., Started], who: str
) -> None:
    running = start(*PARTIES, bank_a=ENDLESS)
    for process in running.values():
        until(process, lambda progress: progress["phase"] == "read")
    running[who].send_signal(signal.SIGINT)
    ended = endings(running)
    others = ", ".join(name for name in PARTIES if name != who)
    assert ended[who][0] == 130
    assert ended[who][1].startswith(f"secagg: stopped; {others} were told; record of the run: ")
    check_told_by(who, ended)


def test_a_signal_while_the_program_is_still_being_imported_ends_it_with_one_line() -> None:
    program = """
import signal, sys

class Slow:  # the command line, while it is being imported
    def find_spec(self, name, path=None, target=None):
        if name == "secagg.cli.commands":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Slow())
from secagg.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "secagg: stopped\n")


def test_a_signal_during_a_command_without_a_network_ends_it_with_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secagg.jobs.job_file.load_job", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    with pytest.raises(SystemExit) as end:
        main(["check", "job.toml"])
    assert end.value.code == 130
    assert capsys.readouterr().err == "secagg: stopped\n"


def test_a_signal_that_comes_too_late_for_the_computation_does_not_lose_its_result() -> None:
    stop = Stop()
    with stop.listening():
        with stop.driving():
            signal.raise_signal(signal.SIGINT)
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0.0
    assert stop.asked


def test_a_short_computation_ends_at_its_next_report_and_a_long_one_where_it_is() -> None:
    def until_reported() -> None:
        signal.raise_signal(signal.SIGINT)
        stop.before(lambda _: None)(None)

    def for_ever() -> None:
        signal.raise_signal(signal.SIGINT)
        while True:
            pass

    for computation in (until_reported, for_ever):
        stop = Stop()
        with stop.listening(), stop.driving(), pytest.raises(KeyboardInterrupt):
            computation()
        assert stop.asked
