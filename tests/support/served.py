"""Organisations whose parties serve, as processes with their pages."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from members import NAMES, THREE, Members
from secagg.joint.serve.states import Known, States

FOR_EVER_S = 60.0
JOB = f"""\
name = "large-cash"
pattern = "structuring"
max_rows = 50
[parameters]
limit = 1000
{THREE}[agreement]
author = "south/carl"
until = 2999-12-31
runs = 2
[timeouts]
connect_s = 60
silence_s = 10
message_s = 30
"""
DEPOSITS = {"north": ["zoe,600.00", "yan,20.00"], "south": ["zoe,700.00", "xia,900.00"]}


def found(folder: Path, ports: Sequence[int]) -> Members:
    """Found a consortium whose banks have tables of deposits."""
    members = Members.made(folder, NAMES, ports=ports)
    for name, rows in DEPOSITS.items():
        home = members.homes[name].path
        (home / "deposits.csv").write_text(
            "\n".join(["customer,amount,time", *(f"{row},2026-01-01 12:00:00" for row in rows), ""])
        )
        (home / "sources.toml").write_text('[tables.deposits]\nfiles = ["deposits.csv"]\n')
    return members


@contextlib.contextmanager
def serving(home: Path, page: str = "") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start `secagg serve`; yield its process and the link to its page."""
    log = (home / "stderr.txt").open("a")
    process = subprocess.Popen(
        [sys.executable, "-m", "secagg", "serve", "--home", str(home), "--page", page],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        start_new_session=True,
        env={**os.environ, "COLUMNS": "400"},
    )
    try:
        link = ""
        if page and process.stdout is not None:
            link = process.stdout.readline().split(": ", 1)[1].strip()
        yield process, link
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()
        if process.stdout is not None:
            process.stdout.close()


def kill(process: subprocess.Popen[str]) -> None:
    """End a serving process and the run that it began, as kill -9 does."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def state(members: Members, name: str) -> Known | None:
    """Return what a party knows of the job."""
    return next(iter(States(members.homes[name]).all()), None)


def wait_for(members: Members, name: str, *states: str) -> Known:
    """Wait until a party's job is in one of these states."""
    deadline = time.monotonic() + FOR_EVER_S
    while time.monotonic() < deadline:
        known = state(members, name)
        if known is not None and known.state.value in states:
            return known
        time.sleep(0.2)
    told = (members.homes[name].path / "stderr.txt").read_text()
    raise AssertionError(f"{name}: {state(members, name)} is none of {states}; it said {told}")


def events(members: Members, name: str) -> list[dict[str, object]]:
    """Return what a party's log says."""
    return [json.loads(line) for line in (members.homes[name].path / "serve.log").read_text().splitlines()]
