"""The gate that holds a run to what people approved.

States: the consortium that this party knows, its count of runs, and its organisation's approvals with their signatures.

Checks, before anything is shared: all parties know the same consortium. Each organisation that puts in data shows enough
approvals of this very job, by approvers whom the consortium names for it. The job's time is now, and a run is left by the
highest count of all. Of its own organisation a party asks what its own policy asks, and what the others ask of it.

Threat model. A peer may state anything: it cannot make other persons' signatures. Whoever has an organisation's machine key
and its folder, and no approver's password, makes no run that the others take part in. Approvers' keys are in the consortium,
whose digest members compared. The machine itself is trusted with its organisation's own data: whoever owns it can read these
without a job.

A job with approval = "off" passes; parties' certificates are checked all the same where this home knows a consortium.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from secagg.errors import JobError, RemoteProtocolError, UsageError
from secagg.home import Home
from secagg.jobs.agreement import OFF
from secagg.jobs.gates import APPROVAL, Outcome, RunAtHand
from secagg.jobs.job import Job
from secagg.joint.approval import counting
from secagg.joint.approval.approval import Approval, approvals_of
from secagg.joint.approval.counting import Counts
from secagg.joint.approval.decision import Rules, agreement_of, check_enough, check_time, kinds
from secagg.joint.approval.policy import REFUSE, Policy
from secagg.joint.approval.seen import note_seen
from secagg.joint.consortium import Consortium
from secagg.joint.consortium.revocation import check_not_revoked, read_lists
from secagg.network.identity import fingerprint
from secagg.party import PartyId

_MOST_STATED: Final = 60  # approvals of one organisation; a statement has some 250 bytes for each

_Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]


class _Statement(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    consortium: _Digest
    version: _Count
    template_runs: _Count
    content_runs: _Count
    approvals: Annotated[list[Approval], msgspec.Meta(max_length=_MOST_STATED)]


@dataclass
class _Seen:
    """What a check has come to, for the commit."""

    told: Counts
    most: int | None


class ApprovalGate:
    """See the module; one gate is for one run."""

    name: Final = APPROVAL

    def __init__(self, home: Home) -> None:
        self._home = home
        self._seen: _Seen | None = None

    def ready(self, job: Job, me: PartyId) -> None:
        """Refuse what this organisation does not allow, before it connects."""
        if job.approval == OFF and Policy.load(self._home).unapproved == REFUSE:
            raise JobError(
                f'{job.name} has approval = "off", which this organisation refuses; have the job approved, or let '
                "`secagg approver needed --unapproved allow` take such jobs"
            )
        if job.approval == OFF and not self._home.consortium.exists():
            return
        consortium = Consortium.load(self._home)
        if me != consortium.me:
            raise JobError(
                f"this folder is {consortium.me}'s, by its consortium {consortium.name}; {me} has another --home"
            )
        self._check_members(job, consortium)
        # Before each run, so that no approval that is there now is taken for a later one.
        note_seen(self._home)
        if job.approval == OFF:
            return
        agreement = agreement_of(job)
        for person in (agreement.author, agreement.requester):
            if person.partition("/")[0] not in job.roster:
                raise JobError(
                    f"{person}, who wrote {job.name} or asks for its run, is of none of its parties {', '.join(job.roster)}"
                )
        check_time(job)
        most = self._check_own(job, consortium)
        # Whether a run goes on is known once the parties have met, and then looked at.
        if not counting.unfinished(self._home, job):
            counting.check_left(job, counting.counted(self._home, job), most)

    def statement(self, run: RunAtHand) -> bytes:
        """Return the consortium's digest, counts, and this organisation's approvals."""
        if run.job.approval == OFF:
            return b""
        consortium = Consortium.load(self._home)
        counts = counting.counted(self._home, run.job)
        approvals = approvals_of(self._home, run.job)[:_MOST_STATED]
        return msgspec.msgpack.encode(
            _Statement(consortium.digest, consortium.version, counts.template, counts.content, approvals)
        )

    def check(self, run: RunAtHand, statements: Mapping[PartyId, bytes]) -> None:
        """Check every organisation's approvals."""
        job = run.job
        if job.approval == OFF:
            return
        consortium = Consortium.load(self._home)
        self._check_members(job, consortium)
        check_time(job)
        most, told = self._check_own(job, consortium), Counts()
        for name, encoded in statements.items():
            stated = _decoded(encoded, name)
            if stated.consortium != consortium.digest:
                raise JobError(
                    f"{name} knows another consortium {consortium.name} (version {stated.version}, digest "
                    f"{stated.consortium.hex()[:16]}) than {run.me} (version {consortium.version}, digest "
                    f"{consortium.digest.hex()[:16]}); compare `secagg consortium show`, and add the newest member files"
                )
            counts = Counts(stated.template_runs, stated.content_runs)
            if name != run.me and run.resumes is None:
                counting.check_left(job, counts, None, by=name)
            told |= counts
            if name in _asked(job):
                member = consortium.members[name]
                rules = Rules(name, member.approvers, member.needed)
                most = _lower(
                    most, check_enough(job, stated.approvals, rules=rules, scope=consortium.scope(job))
                )
        if run.resumes is not None:
            counting.check_goes_on(self._home, job, run.resumes)
        else:
            counting.check_left(job, told, most)
        self._seen = _Seen(told, most)

    def commit(self, run: RunAtHand) -> None:
        """Count the run; one that goes on was counted when it began, unless this party was interrupted just then."""
        if run.job.approval == OFF:
            return
        if run.resumes is not None:
            if not counting.check_goes_on(self._home, run.job, run.resumes):
                counting.count(self._home, run.job, run.resumes, Counts(), None)
            return
        if self._seen is None:
            raise JobError(f"{run.job.name} was not checked")
        check_time(run.job)
        counting.count(self._home, run.job, run.session, self._seen.told, self._seen.most)

    def close(self, run: RunAtHand, outcome: Outcome) -> None:
        """Note that the run ended well, so that it cannot go on once more."""
        if run.job.approval != OFF and outcome.error is None:
            counting.ended(self._home, run.resumes or run.session)

    def _check_members(self, job: Job, consortium: Consortium) -> None:
        """Check a job's parties and certificates by what this organisation knows of its members."""
        consortium.check_job(job)
        lists = read_lists(self._home)
        for party in job.members:
            if (member := consortium.members.get(party.name)) is not None:
                try:
                    check_not_revoked(member.name, member.certificate, member.authority, lists)
                except UsageError as error:
                    raise JobError(f"{job.name} cannot run: {error}") from error

    def _check_own(self, job: Job, consortium: Consortium) -> int | None:
        """Check this organisation's approvals by its own policy; the others' ask is checked with theirs."""
        me = consortium.me
        own = next(member for member in job.peers() if member.name == me)
        if fingerprint(own.certificate) != fingerprint(consortium.members[me].certificate):
            raise JobError(
                f"{me}'s certificate in the job is not that of the consortium; leave it out of the job"
            )
        if me not in _asked(job):
            return None
        approvals, scope = approvals_of(self._home, job), consortium.scope(job)
        policy, member = Policy.load(self._home), consortium.members[me]
        if dict(policy.approvers) != dict(member.approvers):
            raise JobError(
                f"{self._home.policy} names other approvers than {me}'s member file; let `secagg approver needed` write the "
                "member file anew, and send it to the others"
            )
        try:
            most = check_enough(job, approvals, rules=Rules(me, policy.approvers, policy.needed), scope=scope)
        except JobError as error:
            if not approvals and any(self._home.approvals.glob("*.approval.json")):
                error.add_note("all approvals here are of other jobs, or of this one before it was changed")
            raise
        asked = Rules(me, member.approvers, member.needed)
        return _lower(most, check_enough(job, approvals, rules=asked, scope=scope))


def _asked(job: Job) -> set[PartyId]:
    """Return whose approvals are asked for: who puts in data, and the authors' organisations for their signatures."""
    agreement = agreement_of(job)
    authors = {agreement.author_party, agreement.requester.partition("/")[0]} if kinds(job) else set()
    return {*job.input_parties, *authors} & set(job.roster)


def _lower(one: int | None, other: int | None) -> int | None:
    """Return the lower of two bounds, None for no bound."""
    return min((bound for bound in (one, other) if bound is not None), default=None)


def _decoded(encoded: bytes, peer: PartyId) -> _Statement:
    try:
        return msgspec.msgpack.decode(encoded, type=_Statement)
    except msgspec.MsgspecError:
        raise RemoteProtocolError(
            f"expected the approvals of {peer}, got something else", peer=peer
        ) from None
