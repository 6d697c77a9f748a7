"""The gates of a run with a home folder.

Each area adds its own here, so that every party with a home has the same list.
"""

from __future__ import annotations

from secagg.home import Home
from secagg.jobs.gates import Gate
from secagg.jobs.job import Job
from secagg.joint.approval.gate import ApprovalGate
from secagg.joint.audit.gate import AuditGate
from secagg.joint.budget.gate import BudgetGate
from secagg.network.identity import Identity

__all__ = ["gates_of"]


def gates_of(home: Home, job: Job, identity: Identity) -> tuple[Gate, ...]:
    """Return what must pass before a run of this job, by this organisation's folder.

    Args:
      identity: of the party that runs; its key signs what is written down.
    """
    del job
    return (
        ApprovalGate(home),
        AuditGate(home, identity),
        BudgetGate(home),
    )
