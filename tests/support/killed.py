"""Organisations with homes that run an approved job as processes, which are killed as kill -9 kills them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from members import Members
from secagg.cli import main
from secagg.jobs.job import Job
from secagg.joint.audit.log import AuditLog
from secagg.joint.budget.book import Book

FOR_EVER_S = 120.0
BROKEN = 70  # the status of a process that this module brought down


class Organisations:
    """The parties of a job, each with a home, started as processes that are forked off this one.

    Args:
      file: of the job; results and what parties say are beside it.
      tables: the words behind `--data` of each input party.
    """

    def __init__(self, members: Members, file: Path, job: Job, tables: Mapping[str, Sequence[str]]) -> None:
        self.members, self.file, self.job, self.tables = members, file, job, tables
        self.processes: dict[str, int] = {}
        self.starts = self.began = 0

    def out(self, name: str) -> Path:
        """Return where a party's results are."""
        return self.file.parent / "results" / name

    def said(self, name: str) -> Path:
        """Return the file of what a party said since it last began."""
        return self.file.parent / f"{name}.{self.starts}.said"

    def start(self) -> None:
        """Start all parties."""
        self.starts, self.began = self.starts + 1, time.time_ns()
        for name in self.job.roster:
            self.said(name).touch()
            process = os.fork()
            if not process:
                code = BROKEN
                try:
                    code = self._be(name)
                finally:
                    os._exit(code)
            self.processes[name] = process

    def _be(self, name: str) -> int:
        said = os.open(self.said(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        sys.stdout = sys.stderr = os.fdopen(said, "w", buffering=1)  # not pytest's
        words = [word for source in self.tables.get(name, ()) for word in ("--data", source)]
        home = str(self.members.homes[name].path)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            main(
                [
                    "run",
                    str(self.file),
                    "--home",
                    home,
                    "--out",
                    str(self.out(name)),
                    "--progress",
                    "json",
                    *words,
                ]
            )
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
        return 0

    def reached(self, name: str) -> set[str]:
        """Return the phases that a party has reported since it began, and what it has kept: "3" for its third checkpoint."""
        said = [json.loads(line) for line in self.said(name).read_text().splitlines() if line.startswith("{")]
        phases = {one["progress"]["phase"] for one in said if "progress" in one}
        files = self.members.homes[name].path.glob(f"checkpoints/{self.job.digest.hex()}/*/[!.]*.checkpoint")
        with contextlib.suppress(FileNotFoundError):  # a later one came, or all are deleted
            kept = [path.name for path in files if path.stat().st_mtime_ns > self.began]
            return phases | {re.split("[-.]", file)[0].lstrip("0") for file in kept}
        return phases

    def kill_when(self, name: str, reached: str) -> bool:
        """Kill a party once it has come so far, and wait until all have ended; return whether it had not ended first."""
        deadline = time.monotonic() + FOR_EVER_S
        while reached not in self.reached(name) and time.monotonic() < deadline:
            over = os.waitid(os.P_PID, self.processes[name], os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if over is not None:
                break
            time.sleep(0.0005)
        os.kill(self.processes[name], signal.SIGKILL)
        return self.ended()[name] == -signal.SIGKILL

    def ended(self) -> dict[str, int]:
        """Wait until all have ended, and return how."""
        codes = {n: os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for n, p in self.processes.items()}
        self.processes = {}
        return codes

    def said_at_last(self) -> dict[str, str]:
        """Return the errors that parties said at their last start."""
        return {
            name: "".join(
                line for line in self.said(name).read_text().splitlines() if '"progress"' not in line
            )
            for name in self.job.roster
        }

    def results(self) -> dict[str, str]:
        """Return each result by party."""
        return {name: path.read_text() for name in self.job.roster for path in self.out(name).glob("*.csv")}

    def counts(self, name: str) -> tuple[int, int]:
        """Return how often a home counted the job, and how many runs its budget was charged."""
        home = self.members.homes[name]
        with home.transaction() as connection:
            (runs,) = connection.execute("SELECT count(*) FROM approval_runs").fetchone()
            return runs, len(Book.read(connection, home).runs)

    def complete(self, name: str) -> int:
        """Return how many runs a home's audit log has as complete."""
        entries = AuditLog(self.members.homes[name].audit_log).read().entries
        return sum(entry.content.get("outcome") == "complete" for entry in entries)
