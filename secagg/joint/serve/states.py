"""What is known of each job that a party serves: its state, since when, and where its results go."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from secagg.home import Home

_TABLE: Final = """CREATE TABLE IF NOT EXISTS run_jobs (
    file TEXT NOT NULL, digest TEXT NOT NULL, state TEXT NOT NULL, since REAL NOT NULL, message TEXT NOT NULL,
    folder TEXT NOT NULL, due REAL NOT NULL, tries INTEGER NOT NULL, PRIMARY KEY (file)
)"""
_COLUMNS: Final = "file, digest, state, since, message, folder, due, tries"


class State(StrEnum):
    """The state of a job: what it waits for, or how it ended."""

    proposed = "proposed"  # approvals are missing
    approved = "approved"  # it will be tried at its time
    waiting = "waiting"  # a process waits for the other parties
    running = "running"
    done = "done"
    failed = "failed"
    refused = "refused"


ENDED: Final = (State.done, State.failed, State.refused)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a job.

    Attributes:
      file: its name in `home.jobs`.
      digest: of the job, in hexadecimal; "" where the file cannot be read.
      message: why the job is in this state, without anything of anybody's tables.
      folder: where the results of the run under way or of the last one are, in `home.runs`; "" for none.
      due: when it is tried next, in seconds since 1970.
      tries: how many runs in a row ended in a way after which the job is tried again.
    """

    file: str
    digest: str
    state: State
    since: float
    message: str = ""
    folder: str = ""
    due: float = 0.0
    tries: int = 0


class States:
    """The states of jobs, in the home's database; each change is on the disk before it returns."""

    def __init__(self, home: Home) -> None:
        self._home = home
        with home.transaction() as connection:
            connection.execute(_TABLE)

    def all(self) -> list[Known]:
        """Return what is known of all jobs, by file."""
        connection = self._home.database()
        try:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM run_jobs ORDER BY file").fetchall()  # noqa: S608  # fixed
        finally:
            connection.close()
        return [_known(row) for row in rows]

    def put(self, known: Known) -> None:
        """Write what is known of a job."""
        with self._home.transaction() as connection:
            values: Sequence[object] = [getattr(known, name) for name in _COLUMNS.split(", ")]
            marks = ", ".join("?" * len(values))
            connection.execute(f"INSERT OR REPLACE INTO run_jobs ({_COLUMNS}) VALUES ({marks})", values)  # noqa: S608

    def forget(self, file: str) -> None:
        """Delete what is known of a job whose file is gone."""
        with self._home.transaction() as connection:
            connection.execute("DELETE FROM run_jobs WHERE file = ?", (file,))


def now() -> float:
    """Return seconds since 1970."""
    return time.time()


def _known(row: sqlite3.Row | tuple[object, ...]) -> Known:
    file, digest, state, since, message, folder, due, tries = row
    return Known(
        str(file), str(digest), State(str(state)), float(str(since)), str(message), str(folder),
        float(str(due)), int(str(tries)),
    )  # fmt: skip
