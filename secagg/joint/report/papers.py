"""Papers that people ask for: an annex for a data protection impact assessment, and a register of runs.

They are help and no legal advice, and say so. What a program can know it fills in; what only people can answer it asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from secagg.jobs.computed import query_of
from secagg.jobs.job import Job
from secagg.jobs.plain_words import explained
from secagg.jobs.record import versions
from secagg.jobs.spreadsheet import csv_of
from secagg.joint.audit.verification import Run
from secagg.joint.report.page import rendered
from secagg.joint.report.words import spoken_trust

_COLUMNS = (
    "began",
    "ended",
    "job",
    "pattern",
    "outcome",
    "parties",
    "rows",
    "opened",
    "session",
    "fingerprint",
)


@dataclass(frozen=True, slots=True)
class Row:
    """A run in the register, as texts."""

    began: str
    ended: str
    job: str
    pattern: str
    outcome: str
    parties: str
    rows: str
    opened: str
    session: str
    fingerprint: str

    @property
    def cells(self) -> tuple[str, ...]:
        """Return the texts in the order of the register's columns."""
        return tuple(str(getattr(self, name)) for name in _COLUMNS)


def annex(job: Job, *, fingerprint: str) -> str:
    """Return the annex of a job as an HTML page.

    Args:
      fingerprint: of the job, in hexadecimal; "" where certificates are missing.
    """
    words = explained(job)
    query = query_of(job.pattern)
    return rendered(
        "annex.html",
        job=job,
        words=words,
        infers=[sentence for text in words.infers for sentence in spoken_trust(text)],
        inputs={name: list(schema) for name, schema in job.pattern.inputs.items()},
        recipients=job.pattern.recipients(job.terms),
        parameters=job.shown_parameters(),
        window=job.window.shown(),
        query="" if query is None else query.sql,
        rules={} if query is None else dict(query.rules),
        versions=versions(),
        fingerprint=fingerprint,
    )


def register(runs: Iterable[Run]) -> list[Row]:
    """Return the register of the runs of a log that was checked."""
    return [_row(run) for run in runs]


def register_csv(rows: Iterable[Row]) -> str:
    """Return a register as a table that a spreadsheet opens; see `spreadsheet` for how texts stand in it."""
    return csv_of(_COLUMNS, [row.cells for row in rows])


def _row(run: Run) -> Row:
    about = run.about
    shared = "" if run.start is not None else ", before anything was shared"
    told = run.end.content.get("opened") if run.end is not None else None
    opened = told if isinstance(told, list) else []
    return Row(
        began="" if run.start is None else run.start.time,
        ended="" if run.end is None else run.end.time,
        job=str(about.get("job")),
        pattern=str(about.get("pattern")),
        outcome=f"{run.outcome}{shared}",
        parties=", ".join(_mapping(about.get("parties"))),
        rows=", ".join(f"{name}: {rows}" for name, rows in _mapping(about.get("rows")).items()),
        opened="; ".join(f"{_to(one)}: {one.get('what')}" for one in map(_mapping, opened)),
        session=run.session,
        fingerprint=str(about.get("digest")),
    )


def _to(one: Mapping[str, Any]) -> str:
    names = one.get("to")
    return ", ".join(map(str, names)) if isinstance(names, list) else "nobody"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
