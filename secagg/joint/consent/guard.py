"""The guard against differencing: two runs on nearly the same persons tell of the few in which they differ.

Before a run its populations are compared with those of all runs within the policy's time, table by table, whatever was
computed. Where two differ in fewer persons than the smallest group, the run needs one of these:

- it is the same job, all input parties state that their rows are those of the earlier run, and nothing is released with
  noise: then the answer is the same;
- it goes on with the earlier run: from a checkpoint with the same rows, or from the beginning, where nothing was opened;
- the organisation approved the job after the earlier run, as its policy wants;
- the owner allowed it (`secagg consent allow`), for so many runs.

Two runs are compared at a time. What three or more tell together, as a tracker does, is not seen here.
"""

from __future__ import annotations

import datetime
import sqlite3
import time
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from secagg.errors import UsageError
from secagg.jobs.job import Job
from secagg.joint.consent.policy import Differencing
from secagg.joint.consent.population import Population
from secagg.joint.consent.tables import create
from secagg.printable import printable

__all__ = [
    "EARLIER",
    "MOST_UNCHANGED",
    "allow",
    "check_differences",
    "note_run",
    "stated_before",
    "unchanged",
]

EARLIER: Final = "*"  # any earlier run
MOST_UNCHANGED: Final = 100  # earlier runs of a job that are looked at for equal rows
_MOST_TOLD: Final = 5  # further runs that a refusal names
_DAY_S: Final = 86_400
_LEAST_DAYS: Final = 30  # for which a run can go on
Approved = Callable[[Job, datetime.datetime], bool]


def check_differences(
    connection: sqlite3.Connection,
    job: Job,
    populations: Mapping[str, Population],
    rules: Differencing,
    *,
    approved: Approved,
    resumes: bytes | None,
    same: frozenset[str],
) -> list[str]:
    """Refuse a run that differs from an earlier one in too few persons; return the earlier runs that were allowed for it.

    Args:
      populations: by table.
      approved: whether the organisation has approved the job since some moment.
      resumes: the first session of a run that goes on.
      same: the earlier sessions of which all input parties have the same rows.

    Raises:
      UsageError: it does; the message is for this party alone.
    """
    create(connection)
    since = time.time() - rules.within_days * _DAY_S
    used: list[str] = []
    refused: list[tuple[str, str, str]] = []
    rows = connection.execute(
        "SELECT session, at, job FROM consent_runs WHERE at >= ? ORDER BY at", (since,)
    ).fetchall()
    equal = unchanged(connection, job, populations)
    for session, at, name in rows:
        found = _closest(connection, session, populations)
        if found is None or found[0] >= rules.smallest_group:
            continue
        if resumes is not None and session == resumes.hex():
            continue  # rows are read anew only where nothing of it was opened
        if session in equal and session in same and not job.spends():
            continue
        day = datetime.datetime.fromtimestamp(at, datetime.UTC)
        if approved(job, day):
            continue
        if (allowed := _allowed(connection, job, session)) is not None:
            used.append(allowed)
            continue
        _, table = found
        about = f"{printable(name, 80)} on {day:%Y-%m-%d %H:%M} UTC (session {session[:16]})"
        refused.append((session[:16], table, about))
    if not refused:
        return used
    (earlier, table, first), *others = refused
    also = "; ".join(about for _, _, about in others[:_MOST_TOLD])
    unnamed = f", and of {len(others) - _MOST_TOLD} more" if len(others) > _MOST_TOLD else ""
    more = f". The same holds of {also}{unnamed}" if others else ""
    which = "" if others else f" --earlier {earlier}"
    # How many differ is not said: records of failed runs hold this text, and may be shown to others.
    raise UsageError(
        f"{table} holds nearly the persons that were in the run of {first}: fewer than {rules.smallest_group} differ, and "
        f"others could compute what these few add{more}. Approve the job again, knowing this, or allow it with "
        f"`secagg consent allow JOB{which} --reason TEXT`"
    )


def unchanged(connection: sqlite3.Connection, job: Job, populations: Mapping[str, Population]) -> list[str]:
    """Return the earlier sessions of this very job in which this party's rows were these very ones, the last first."""
    create(connection)
    sessions = connection.execute(
        "SELECT session FROM consent_runs WHERE digest = ? ORDER BY at DESC LIMIT ?",
        (job.digest.hex(), MOST_UNCHANGED),
    ).fetchall()
    return [session for (session,) in sessions if _held(connection, session, populations)]


def note_run(
    connection: sqlite3.Connection,
    job: Job,
    session: bytes,
    populations: Mapping[str, Population],
    rules: Differencing,
    used: list[str],
    stated: bytes,
) -> None:
    """Keep who is in a run and what was stated of it, use up what was allowed for it, and forget what is too old.

    Args:
      session: its first; what was kept of that is replaced.
      used: of `check_differences`.
      stated: what a session that goes on with the run states again.
    """
    create(connection)
    now = time.time()
    for earlier in set(used):
        connection.execute(
            "UPDATE consent_allowed SET runs = runs - 1 WHERE digest = ? AND earlier = ?",
            (job.digest.hex(), earlier),
        )
    row = (session.hex(), now, job.name, job.digest.hex(), stated)
    connection.execute("INSERT OR REPLACE INTO consent_runs VALUES (?, ?, ?, ?, ?)", row)
    connection.execute("DELETE FROM consent_populations WHERE session = ?", (session.hex(),))
    for table, population in populations.items() if rules.within_days else ():
        persons = population.persons.astype("<u8").tobytes()
        entry = (session.hex(), table, persons, population.held)
        connection.execute("INSERT INTO consent_populations VALUES (?, ?, ?, ?)", entry)
    connection.execute(
        "DELETE FROM consent_populations WHERE session IN (SELECT session FROM consent_runs WHERE at < ?)",
        (now - rules.within_days * _DAY_S,),
    )
    kept_days = max(rules.within_days, _LEAST_DAYS)
    connection.execute("DELETE FROM consent_runs WHERE at < ?", (now - kept_days * _DAY_S,))


def stated_before(connection: sqlite3.Connection, job: Job, session: bytes) -> bytes | None:
    """Return what was stated of a run of this very job, None where there was none."""
    create(connection)
    row = connection.execute(
        "SELECT stated FROM consent_runs WHERE session = ? AND digest = ?", (session.hex(), job.digest.hex())
    ).fetchone()
    return None if row is None else bytes(row[0])


def allow(connection: sqlite3.Connection, job: Job, *, earlier: str, runs: int, reason: str) -> int:
    """Allow a job to run on nearly the persons of an earlier run; return how many runs are allowed now.

    Args:
      earlier: the beginning of its session, or "*" for all earlier runs.

    Raises:
      UsageError: there is no such run, or no reason.
    """
    create(connection)
    if not reason.strip() or not 1 <= runs <= 1000:
        raise UsageError("expected a reason, and 1 to 1000 runs")
    if earlier != EARLIER:
        sessions = [session for (session,) in connection.execute("SELECT session FROM consent_runs")]
        found = [session for session in sessions if len(earlier) >= 8 and session.startswith(earlier)]
        if len(found) != 1:
            raise UsageError(
                f"expected the session of one earlier run, as the refusal shows it, got {earlier!r:.80}"
            )
        (earlier,) = found
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    connection.execute(
        "INSERT INTO consent_allowed VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
        "SET runs = runs + excluded.runs, reason = excluded.reason, at = excluded.at",
        (job.digest.hex(), earlier, runs, reason, now),
    )
    (left,) = connection.execute(
        "SELECT runs FROM consent_allowed WHERE digest = ? AND earlier = ?", (job.digest.hex(), earlier)
    ).fetchone()
    return int(left)


def _closest(
    connection: sqlite3.Connection, session: str, populations: Mapping[str, Population]
) -> tuple[int, str] | None:
    """Return in how few persons a table differs from one of an earlier run, and which table."""
    found: list[tuple[int, str]] = []
    for persons, held in connection.execute(
        "SELECT persons, held FROM consent_populations WHERE session = ?", (session,)
    ).fetchall():
        earlier = Population(np.frombuffer(persons, "<u8").astype(np.uint64), held)
        found += [(one.difference(earlier), table) for table, one in populations.items()]
    return min(found, default=None)


def _held(connection: sqlite3.Connection, session: str, populations: Mapping[str, Population]) -> bool:
    rows = connection.execute("SELECT name, held FROM consent_populations WHERE session = ?", (session,))
    return dict(rows.fetchall()) == {table: one.held for table, one in populations.items()}


def _allowed(connection: sqlite3.Connection, job: Job, session: str) -> str | None:
    for earlier in (session, EARLIER):
        row = connection.execute(
            "SELECT runs FROM consent_allowed WHERE digest = ? AND earlier = ?", (job.digest.hex(), earlier)
        ).fetchone()
        if row is not None and row[0] > 0:
            return earlier
    return None
