"""Whether an organisation's approvals of a job are enough.

For a job, or a template of jobs, as many persons as are needed approve it. Of a template each run needs approvals of its own
values too, unless the number for runs is 0. The author counts, and is never enough alone: at least one other person of the
organisation approves. Of a run the author is who requested it. The organisation of the author shows the author's own
signature too. So nobody approves alone by naming another person as the author.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from secagg.errors import AuthenticationError, JobError
from secagg.jobs.agreement import Agreement
from secagg.jobs.job import Job
from secagg.joint.approval.approval import RUN, TEMPLATE, Approval, Kind, subject_of
from secagg.joint.consortium.organisation import Needed
from secagg.party import PartyId
from secagg.printable import printable

# By how much the clock of who signs may be ahead. An approval that is dated later would be newer than runs to come.
_AHEAD: Final = datetime.timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Rules:
    """What an organisation's approvals are held to: who approves in it, and how many must."""

    party: PartyId
    approvers: Mapping[str, bytes]
    needed: Needed


def agreement_of(job: Job) -> Agreement:
    """Return what a job's approvals are about.

    Raises:
      JobError: the job file does not say it.
    """
    if job.agreement is None:
        raise JobError(
            f"{job.name} has no [agreement], so that nobody can approve it; say in the job file who wrote it and until when "
            'it may run, or agree on approval = "off"'
        )
    return job.agreement


def check_time(job: Job, at: datetime.datetime | None = None) -> None:
    """Check that a job may run now.

    Raises:
      JobError: its time has not come, or is over.
    """
    agreement, now = agreement_of(job), at or datetime.datetime.now(datetime.UTC)
    if agreement.start is not None and now < agreement.start:
        raise JobError(
            f"{job.name} may run from {agreement.start:%Y-%m-%d %H:%M} UTC on, and it is {now:%Y-%m-%d %H:%M}"
        )
    if now >= agreement.until:
        raise JobError(
            f"{job.name} might run until {agreement.until:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M}; agree on a "
            "new one, which is approved anew"
        )


def kinds(job: Job) -> tuple[Kind, ...]:
    """Return which approvals a job needs."""
    return (TEMPLATE, RUN) if job.vary else (TEMPLATE,)


def author_of(job: Job, kind: Kind) -> str:
    """Return "party/person" who wrote the job, or who requested this run of it."""
    agreement = agreement_of(job)
    return agreement.requester if kind == RUN else agreement.author


@dataclass(frozen=True, slots=True)
class Standing:
    """How approvals of one kind stand at one organisation.

    Attributes:
      persons: whose approvals count, with how often each allows the run.
      ignored: what does not count, and why.
      missing: what is missing, as clauses; empty where there is enough.
    """

    kind: Kind
    persons: Mapping[str, int]
    ignored: tuple[str, ...]
    missing: tuple[str, ...]


def standing(
    job: Job, kind: Kind, approvals: Iterable[Approval], *, rules: Rules, scope: bytes, gives_data: bool
) -> Standing:
    """Return how the approvals of one kind stand.

    Args:
      approvals: whatever the organisation has; what does not count is left out.
      scope: of the consortium.
      gives_data: whether the organisation puts in data; others approve nothing, but for their author.
    """
    persons: dict[str, int] = {}
    ignored = []
    now = datetime.datetime.now(datetime.UTC)
    for one in approvals:
        if one.kind != kind:
            continue
        whose = printable(f"{one.party}/{one.person}", 130)
        key = rules.approvers.get(one.person)
        if one.party != rules.party or key is None:
            ignored.append(f"{whose} is no approver of {rules.party}")
        elif one.scope != scope:
            ignored.append(f"{whose}'s approval is for another consortium or other organisations")
        elif one.subject != subject_of(job, kind):
            ignored.append(f"{whose}'s approval is of another job, or of this one before it was changed")
        elif one.at > now + _AHEAD:
            ignored.append(
                f"{whose}'s approval is dated {one.at:%Y-%m-%d %H:%M} {one.at.tzname()}, and it is "
                f"{now:%Y-%m-%d %H:%M} UTC; set the clocks, and have it approved again"
            )
        else:
            try:
                one.check(key)
                persons[one.person] = max(one.times, persons.get(one.person, 0))
            except AuthenticationError:
                ignored.append(f"{whose}'s approval is not signed by its key")
    author_party, _, author = author_of(job, kind).partition("/")
    missing = []
    role = "author" if kind == TEMPLATE else "requester"
    if author_party == rules.party and author not in persons:
        missing.append(f"the signature of its {role} {author}")
    needed = rules.needed.run if kind == RUN else rules.needed.template
    if gives_data and needed:
        if len(persons) < needed:
            missing.append(f"{needed - len(persons)} of {needed} persons")
        # Of two persons or more, and of another organisation's, one is another person in any case.
        if needed == 1 and author_party == rules.party and not set(persons) - {author}:
            missing.append(f"one person other than its {role} {author}")
    if kind == RUN and not needed:
        missing = []
    return Standing(kind, persons, tuple(ignored), tuple(missing))


def check_enough(job: Job, approvals: Iterable[Approval], *, rules: Rules, scope: bytes) -> int | None:
    """Check that an organisation's approvals are enough; return how often this run is approved, None without a bound.

    Raises:
      JobError: they are not; it says what is missing, and what does not count and why.
    """
    found = list(approvals)
    gives_data = rules.party in job.input_parties
    most: int | None = None
    for kind in kinds(job):
        one = standing(job, kind, found, rules=rules, scope=scope, gives_data=gives_data)
        if one.missing:
            what = "a run with these values" if kind == RUN else "it"
            why = f" ({'; '.join(one.ignored)})" if one.ignored else ""
            raise JobError(
                f"{job.name} is not approved by {rules.party}: approvals of {what} lack {', and '.join(one.missing)}{why}; "
                f"an approver of {rules.party} runs: secagg job approve{' --run' if kind == RUN else ''}"
            )
        if kind == RUN and gives_data and rules.needed.run:
            # As often as enough persons allow, one of them not the requester.
            own = author_of(job, kind).removeprefix(f"{rules.party}/")
            others = [times for person, times in one.persons.items() if person != own]
            most = min(sorted(one.persons.values(), reverse=True)[rules.needed.run - 1], max(others))
    return most
