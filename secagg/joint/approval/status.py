"""What an organisation's persons do with a job: approve it, and see how its approvals stand."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from secagg.errors import UsageError
from secagg.home import Home
from secagg.jobs.agreement import OFF
from secagg.jobs.job import Job
from secagg.joint.approval import counting
from secagg.joint.approval.approval import TEMPLATE, Kind, approvals_of, keep, sign
from secagg.joint.approval.counting import Counts
from secagg.joint.approval.decision import Rules, Standing, agreement_of, check_time, kinds, standing
from secagg.joint.approval.gate import ApprovalGate
from secagg.joint.approval.keys import ApproverKey
from secagg.joint.approval.policy import Policy
from secagg.joint.consortium import Consortium


@dataclass(frozen=True, slots=True)
class Status:
    """How a job stands at this organisation.

    Attributes:
      standings: of the approvals of each kind that the job needs.
      counts: how often it ran.
      runs: how often it may run.
      problem: why it cannot run now, "" where it can as far as this organisation knows.
    """

    standings: tuple[Standing, ...]
    counts: Counts
    runs: int
    problem: str


def approve(
    job: Job,
    consortium: Consortium,
    key: ApproverKey,
    *,
    into: Path,
    kind: Kind = TEMPLATE,
    times: int = 1,
) -> Path:
    """Sign a job with a person's key, write the approval into a folder, and return where it is.

    Args:
      into: `home.approvals`, or another folder from which the file is brought there.
      kind: "template" for a job or a template, "run" for the values of one run within a template.
      times: how often that run may take place.

    Raises:
      UsageError: the key is not that of an approver of this organisation.
      JobError: the job is none that can be approved, or not one of this consortium.
    """
    if job.approval == OFF:
        raise UsageError(
            f'{job.name} has approval = "off", so that nobody is asked; leave that out to have it approved'
        )
    check_time_left(job)
    consortium.check_job(job)
    me = consortium.me
    if me not in job.roster:
        raise UsageError(f"{me} takes no part in {job.name}; its parties are {', '.join(job.roster)}")
    known = consortium.members[me].approvers
    if known.get(key.name) != key.public_key:
        raise UsageError(
            f"the key of {key.name} is not that of an approver of {me}, who are {', '.join(known) or 'none yet'}; "
            "`secagg approver add` makes it one"
        )
    return keep(into, sign(job, kind, scope=consortium.scope(job), party=me, key=key, times=times))


def check_time_left(job: Job) -> None:
    """Raise `JobError` where a job can never run any more; one whose time has not come can be approved."""
    agreement = agreement_of(job)
    if agreement.start is not None:
        check_time(job, at=max(agreement.start, datetime.datetime.now(datetime.UTC)))
    else:
        check_time(job)


def status_of(home: Home, job: Job) -> Status:
    """Return how a job stands at this organisation; `job` has certificates.

    Raises:
      UsageError: the home has no consortium.
      JobError: the job says nothing about approval.
    """
    consortium, agreement = Consortium.load(home), agreement_of(job)
    policy = Policy.load(home)
    rules = Rules(consortium.me, policy.approvers, policy.needed)
    found = approvals_of(home, job)
    standings = tuple(
        standing(
            job,
            kind,
            found,
            rules=rules,
            scope=consortium.scope(job),
            gives_data=consortium.me in job.input_parties,
        )
        for kind in kinds(job)
    )
    problem = ""
    try:
        ApprovalGate(home).ready(job, consortium.me)
    except UsageError as error:
        problem = str(error)
    return Status(standings, counting.counted(home, job), agreement.runs, problem)
