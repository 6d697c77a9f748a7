"""What the page shows, made of the home and of the supervisor."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secagg.errors import UsageError
from secagg.jobs.agreement import OFF
from secagg.jobs.plain_words import Explanation, explained
from secagg.jobs.run import Progress
from secagg.joint.approval import Status, status_of
from secagg.joint.budget.book import Book
from secagg.joint.serve.states import Known, State
from secagg.joint.serve.supervisor import Supervisor

_MISSING = "is not approved by"
SAID = {
    State.proposed: "waits for approvals",
    State.approved: "approved, runs at its time",
    State.waiting: "waits for the other parties",
    State.running: "running",
    State.done: "done",
    State.failed: "failed",
    State.refused: "refused",
}


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as the page shows it; `words` and `status` are None where its file cannot be used."""

    known: Known
    said: str
    since: str
    progress: Progress | None
    detail: str
    words: Explanation | None = None
    status: Status | None = None
    fingerprint: str = ""
    template: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class RunView:
    """A run whose record is in the home: its place under `runs`, and when it ended."""

    folder: str
    job: str
    at: str
    files: tuple[str, ...]


def jobs(supervisor: Supervisor) -> list[JobView]:
    """Return all jobs."""
    return [_view(supervisor, known) for known in supervisor.states.all()]


def job(supervisor: Supervisor, file: str) -> JobView | None:
    """Return one job with its explanation, None where there is none of this name."""
    known = next((one for one in supervisor.states.all() if one.file == file), None)
    if known is None:
        return None
    try:
        found = supervisor.job(file)
        status = None if found.approval == OFF else status_of(supervisor.home, found)
        problem = "" if status is None or known.state is not State.proposed else status.problem
        return _view(
            supervisor,
            known,
            words=explained(found),
            status=status,
            # That approvals are missing is said with each of them.
            problem="" if _MISSING in problem else problem,
            fingerprint=found.digest.hex(),
            template=bool(found.vary),
        )
    except UsageError as error:
        return _view(supervisor, known, problem=str(error))


def _view(supervisor: Supervisor, known: Known, **more: Any) -> JobView:
    run = supervisor.run
    progress = run.progress if run is not None and run.known.file == known.file else None
    return JobView(
        known, SAID[known.state], when(known.since), progress, supervisor.details.get(known.file, ""), **more
    )


def runs(supervisor: Supervisor) -> list[RunView]:
    """Return the runs that have a record here, the newest first."""
    home, found = supervisor.home.runs, []
    for record in home.glob(f"*/*/{supervisor.me}.*.json"):
        if record.name.count(".") < 2 or record.name.endswith(".private.json"):
            continue
        folder = record.parent
        files = tuple(sorted(path.name for path in folder.iterdir() if path.suffix == ".csv"))
        found.append(
            RunView(
                f"{folder.parent.name}/{folder.name}", folder.parent.name, when(record.stat().st_mtime), files
            )
        )
    return sorted(found, key=lambda one: one.at, reverse=True)


def run_folder(supervisor: Supervisor, name: str, stamp: str) -> Path | None:
    """Return the folder of a run, None where there is none; a name leads nowhere else."""
    root = supervisor.home.runs.resolve()
    folder = (root / name / stamp).resolve()
    return folder if folder.parent.parent == root and folder.is_dir() else None


def budgets(supervisor: Supervisor) -> list[str]:
    """Return what is granted and spent, a line for each budget."""
    with supervisor.home.transaction() as connection:
        book = Book.read(connection, supervisor.home, anywhere=True)
    lines = []
    for grant in (one for _, one in sorted(book.grants.items())):
        said = ["taken as spent; set another"] if grant.closed else []
        if (allowance := grant.allowance) is not None and not grant.closed:
            epsilon, delta = allowance.spent(book.releases(grant))
            said.append(
                f"epsilon {epsilon:.4g} of {allowance.epsilon:g} spent, delta {delta:g} of {allowance.delta:g}"
            )
        if grant.runs is not None and not grant.closed:
            said.append(f"{len(book.ran(grant))} of {grant.runs} runs made")
        lines.append(f"{grant.about}: {'; '.join(said)}")
    return lines


def when(at: float) -> str:
    """Return a time for people, in UTC."""
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
