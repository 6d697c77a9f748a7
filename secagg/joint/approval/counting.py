"""How often each job ran, durable before anything is shared.

A run is counted when all parties' checks have passed, in one transaction that also sees the runs of other processes. So of
two processes that race for the last run one is refused. A run that ends after it was counted, by a fault or kill -9, is
spent; it may go on from a checkpoint, and is not counted again.

Each party counts for itself, and tells its count before each run. The highest count of all holds. So a party whose folder
was restored from a backup counts on from what the others remember.
"""

from __future__ import annotations

import datetime
import sqlite3
from dataclasses import dataclass

from secagg.errors import JobError
from secagg.home import Home
from secagg.jobs.job import Job

_TABLE = """
CREATE TABLE IF NOT EXISTS approval_runs (
  template BLOB NOT NULL, number INTEGER NOT NULL, content BLOB NOT NULL, session BLOB NOT NULL UNIQUE,
  of_content INTEGER NOT NULL, at TEXT NOT NULL, ended INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (template, number)
)
"""


@dataclass(frozen=True, slots=True)
class Counts:
    """How often a template ran, and how often a run with these values did."""

    template: int = 0
    content: int = 0

    def __or__(self, other: Counts) -> Counts:
        """Return the higher of each."""
        return Counts(max(self.template, other.template), max(self.content, other.content))


def counted(home: Home, job: Job) -> Counts:
    """Return how often a job ran, by this home."""
    with home.transaction() as connection:
        connection.execute(_TABLE)
        return _counts(connection, job)


def count(home: Home, job: Job, session: bytes, told: Counts, most_of_content: int | None) -> None:
    """Count a run, durably.

    Args:
      told: the highest counts that parties told.
      most_of_content: how often a run with these values may take place; None for as often as the template.

    Raises:
      JobError: no run is left.
    """
    with home.transaction() as connection:
        connection.execute(_TABLE)
        now = _counts(connection, job) | told
        check_left(job, now, most_of_content)
        connection.execute(
            "INSERT INTO approval_runs (template, number, content, session, of_content, at) VALUES (?, ?, ?, ?, ?, ?)",
            (
                job.template,
                now.template + 1,
                job.content,
                session,
                now.content + 1,
                datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            ),
        )


def check_left(job: Job, counts: Counts, most_of_content: int | None, *, by: str = "") -> None:
    """Raise `JobError` where no run of a job is left.

    Args:
      by: who told the count, "" for this organisation's own.
    """
    whose = f", by the count of {by}," if by else ""
    runs = 1 if job.agreement is None else job.agreement.runs
    if counts.template >= runs:
        raise JobError(
            f"{job.name} has run {counts.template} times{whose} and was approved for {runs}; agree on a new job, or on more "
            "runs"
        )
    if most_of_content is not None and counts.content >= most_of_content:
        raise JobError(
            f"{job.name} has run {counts.content} times with these values{whose} and that was approved "
            f"{most_of_content} times; approve the run again with `secagg job approve --run --times`"
        )


def check_goes_on(home: Home, job: Job, first: bytes) -> bool:
    """Return whether a run that goes on was counted when it began.

    It was not where this party was interrupted between its checks and its count. Then this party's own count has to have
    room for it: what others counted is the same run.

    Args:
      first: its first session.

    Raises:
      JobError: the run has ended well, is of another job, or no run is left.
    """
    with home.transaction() as connection:
        connection.execute(_TABLE)
        found = connection.execute(
            "SELECT content, ended FROM approval_runs WHERE session = ?", (first,)
        ).fetchone()
        counts = _counts(connection, job)
    if found is None:
        check_left(job, counts, None)
        return False
    if bytes(found[0]) != job.content:
        raise JobError(f"{job.name} cannot go on: this organisation has counted no such run; start it anew")
    if found[1]:
        raise JobError(f"{job.name} cannot go on: that run has ended well, and its result is there")
    return True


def unfinished(home: Home, job: Job) -> bool:
    """Return whether a run with these values was counted and has not ended well, so that it may go on."""
    with home.transaction() as connection:
        connection.execute(_TABLE)
        found = connection.execute(
            "SELECT 1 FROM approval_runs WHERE template = ? AND content = ? AND ended = 0",
            (job.template, job.content),
        ).fetchone()
    return found is not None


def ended(home: Home, session: bytes) -> None:
    """Note that a run has ended well."""
    with home.transaction() as connection:
        connection.execute(_TABLE)
        connection.execute("UPDATE approval_runs SET ended = 1 WHERE session = ?", (session,))


def _counts(connection: sqlite3.Connection, job: Job) -> Counts:
    (template,) = connection.execute(
        "SELECT coalesce(max(number), 0) FROM approval_runs WHERE template = ?", (job.template,)
    ).fetchone()
    (content,) = connection.execute(
        "SELECT coalesce(max(of_content), 0) FROM approval_runs WHERE template = ? AND content = ?",
        (job.template, job.content),
    ).fetchone()
    return Counts(template, content)
