"""The gates of a run with a home folder.

Each area adds its own here, so that every party with a home has the same list.
"""

from __future__ import annotations

from secagg.home import Home
from secagg.jobs.gates import Gate
from secagg.jobs.job import Job
from secagg.joint.budget.gate import BudgetGate

__all__ = ["gates_of"]


def gates_of(home: Home, job: Job) -> tuple[Gate, ...]:
    """Return what must pass before a run of this job, by this organisation's folder."""
    del job
    return (BudgetGate(home),)
