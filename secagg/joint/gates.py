"""The gates of a run with a home folder.

All gates are listed here, so that every party with a home folder has the same ones.
"""

from __future__ import annotations

import datetime
import functools

from secagg.home import Home
from secagg.jobs.gates import Gate
from secagg.jobs.job import Job
from secagg.joint.approval.approval import RUN, approvals_of
from secagg.joint.approval.decision import Rules, author_of, kinds, standing
from secagg.joint.approval.gate import ApprovalGate
from secagg.joint.approval.policy import Policy
from secagg.joint.approval.seen import times_of
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

    An approval counts from when it was signed, or from when this folder first read it if that is earlier. So a clock that
    is ahead does not make it later than runs to come. Where runs within a template need no approval, one of a run does not
    count: the policy does not say how many persons it takes.
    """
    if job.agreement is None or not home.consortium.exists():
        return False
    consortium, policy = Consortium.load(home), Policy.load(home)
    rules = Rules(consortium.me, policy.approvers, policy.needed)
    found = approvals_of(home, job)
    later = [one for one, time in zip(found, times_of(home, found), strict=True) if time > at]
    for kind in kinds(job):
        if kind == RUN and not policy.needed.run:
            continue
        new = standing(job, kind, later, rules=rules, scope=consortium.scope(job), gives_data=True)
        others = {f"{consortium.me}/{person}" for person in new.persons} - {author_of(job, kind)}
        if others and not new.missing:
            return True
    return False
