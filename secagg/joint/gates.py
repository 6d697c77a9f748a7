"""The gates of a run with a home folder.

Each area adds its own here, so that every party with a home has the same list.
"""

from __future__ import annotations

import contextlib
import datetime

from secagg.errors import AuthenticationError
from secagg.home import Home
from secagg.jobs.gates import Gate
from secagg.jobs.job import Job
from secagg.joint.approval.approval import approvals_of
from secagg.joint.approval.gate import ApprovalGate
from secagg.joint.approval.policy import Policy
from secagg.joint.audit.gate import AuditGate
from secagg.joint.budget.gate import BudgetGate
from secagg.joint.consent.gate import ConsentGate
from secagg.network.identity import Identity

__all__ = ["gates_of"]


def gates_of(home: Home, job: Job, identity: Identity) -> tuple[Gate, ...]:
    """Return what must pass before a run of this job, by this organisation's folder.

    Args:
      identity: of the party that runs; its key signs what is written down.
    """
    del job

    def approved(job: Job) -> datetime.datetime | None:
        """Return when somebody of this organisation last approved a job."""
        approvers, found = Policy.load(home).approvers, []
        for one in approvals_of(home, job):
            with contextlib.suppress(
                AuthenticationError
            ):  # the gate of approvals says what is wrong with one
                one.check(approvers.get(one.person, b""))
                found.append(datetime.datetime.fromisoformat(one.at))
        return max(found, default=None)

    return (
        ApprovalGate(home),
        AuditGate(home, identity),
        BudgetGate(home),
        ConsentGate(home, approved),
    )
