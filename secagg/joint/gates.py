"""The gates of a run with a home folder.

Each area adds its own here, so that every party with a home has the same list.
"""

from __future__ import annotations

import datetime
import functools

from secagg.home import Home
from secagg.jobs.gates import Gate
from secagg.jobs.job import Job
from secagg.joint.approval.approval import approvals_of
from secagg.joint.approval.decision import Rules, author_of, kinds, standing
from secagg.joint.approval.gate import ApprovalGate
from secagg.joint.approval.policy import Policy
from secagg.joint.audit.gate import AuditGate
from secagg.joint.budget.gate import BudgetGate
from secagg.joint.consent.gate import ConsentGate
from secagg.joint.consortium import Consortium
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
        ConsentGate(home, functools.partial(approved_since, home)),
    )


def approved_since(home: Home, job: Job, at: datetime.datetime) -> bool:
    """Return whether this organisation has approved a job since: as many as its policy wants, not its author alone.

    An approval that is dated later than now, by a clock that is ahead, does not count: it would be later than any run.
    """
    if job.agreement is None or not home.consortium.exists():
        return False
    consortium, policy = Consortium.load(home), Policy.load(home)
    rules = Rules(consortium.me, policy.approvers, policy.needed)
    now = datetime.datetime.now(datetime.UTC)
    later = [one for one in approvals_of(home, job) if at < datetime.datetime.fromisoformat(one.at) <= now]
    for kind in kinds(job):
        found = standing(job, kind, later, rules=rules, scope=consortium.scope(job), gives_data=True)
        others = {f"{consortium.me}/{person}" for person in found.persons} - {author_of(job, kind)}
        if others and not found.missing:
            return True
    return False
