"""Run one party's part of a job: meet, agree, only then read data, compute, keep a record.

An input party announces its rows once it has read its data, and everybody waits for all announcements. So a table
that cannot be used ends the run before anything is computed, and everybody knows the cost of what follows. Then the
gates of all parties must pass (see `gates`), before anything is shared.

The module is long because one run is one sequence of steps, and each failure of it leaves the same record.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, runtime_checkable

from secagg.cost.operation import Cost
from secagg.data.generalise import generalised
from secagg.errors import PeerMissingError, RefusedError, UsageError
from secagg.jobs import gates as gating
from secagg.jobs.agreement import OFF
from secagg.jobs.gates import APPROVAL, Gate, GateStatements, Outcome, RunAtHand, Screen
from secagg.jobs.job import Address, Job
from secagg.jobs.record import PartyResult, declared, described_job, record
from secagg.jobs.results import check_result
from secagg.jobs.resuming import Resuming
from secagg.jobs.shards import Watch, Workplace, phases_in_shards, run_in_shards
from secagg.jobs.unable import Cause, telling_others
from secagg.ledger import START_PHASE
from secagg.network.identity import Identity
from secagg.network.meeting import Attendance
from secagg.network.tcp import run_party
from secagg.party import Content, Party, PartyId
from secagg.patterns.pattern import Agreed, Contribution, Result, Tables
from secagg.query.schema import Schema

_REPORT_EVERY_S: Final = 0.25
_LAST_WAIT_S: Final = 60.0  # of a party that has its result, for others that may have none
CONNECT: Final = "connect"
READ: Final = "read"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one party is.

    Attributes:
      phase: one of `phases`.
      step: its place among them, from 0.
      share: of the bytes that the declared cost expects this party to send, what it has sent; 0 to 1.
      sent_bytes: whole frames; of a run in shards also those of workers that are done.
      waiting_for: whose messages are missing; while parties meet, who is missing.
      present: while parties meet, who is there.
      left_s: while parties meet, how long this one still waits for the others.
      news: what happened that people are to be told, such as a worker that was lost.
    """

    party: PartyId
    phase: str
    share: float
    sent_bytes: int
    waiting_for: tuple[PartyId, ...] = ()
    present: tuple[PartyId, ...] = ()
    left_s: float | None = None
    step: int = 0
    news: tuple[str, ...] = ()


def phases(job: Job, *, gated: bool = False) -> tuple[str, ...]:
    """Return the phases of a run with or without gates, in order."""
    own = job.pattern.phases if job.shards == 1 else phases_in_shards(job)
    return (CONNECT, READ, *([gating.PHASE] if gated else []), *own)


@runtime_checkable
class Rereadable(Protocol):
    """What reads an input party's tables, where it knows more of them than their rows."""

    def __call__(self) -> Tables:
        """Read the tables."""

    def kept(self) -> Any:
        """Return what is known of the tables, as plain data."""

    def take_up(self, kept: Any) -> None:
        """Take up what was known of them in place of reading them."""

    def described(self) -> dict[str, Any]:
        """Return what the record's private part says of them."""

    def in_own_spelling(self, rows: Result) -> Result:
        """Return rows of a result with identifiers as the tables spell them."""


class Part:
    """One party's part of a job, to be called with its `Party`, by whatever network.

    Args:
      job, me: the job, and which of its parties this is.
      read: at an input party, returns its tables; called when everybody is there and agrees.
      gates: what must pass before anything is shared; all parties have gates of the same names.
      identity: whose key signs what the gates state; not needed without gates.
      resuming: this party's checkpoints of the job; all parties have some, or none.
      resumes: the first session of a run that goes on, where that is known without checkpoints.
      workplace: what this party has for work on shards, if the job is divided into some.

    Attributes:
      contribution: what this party puts in, once it is read.
      agreed: what the input parties announced, once known.
      declared: what the record will say in the pattern's words, once known.
      forecast: the declared cost, that of the gates included, once known.
      stated: what the gates of all parties stated, once all have passed.
      party: of the network, once everybody is there.
      resumes: the first session of a run that goes on from a checkpoint, else None.
      watch: what is known of work on shards.
      session, met: the session, and when it began on the monotonic clock.

    Raises:
      UsageError: `me` is not in the job, data at a party that puts none in, or none at one that does; gates without an
        identity, or two of one name.
    """

    def __init__(
        self,
        job: Job,
        me: PartyId,
        read: Callable[[], Tables] | None,
        *,
        gates: Sequence[Gate] = (),
        identity: Identity | None = None,
        resuming: Resuming | None = None,
        resumes: bytes | None = None,
        workplace: Workplace | None = None,
    ) -> None:
        job.check_takes_part(me)
        if job.shards > 1 and workplace is None:
            raise UsageError(
                f"{job.name} is divided into shards, and {me} has no workers; say where they work"
            )
        if (read is not None) != (me in job.input_parties):
            raise UsageError(
                f"expected data from the input parties {', '.join(job.input_parties)} and from nobody else; "
                f"{me} gives {'some' if read is not None else 'none'}"
            )
        if resuming is not None:
            gates = (*gates, resuming)
        if gates and identity is None:
            raise UsageError(f"gates need the identity of {me}, whose key signs what they state")
        self.job = job
        self.me = me
        self.gates = gating.ordered(gates)
        self.resumes = resumes
        self.stated: dict[PartyId, GateStatements] = {}
        self.contribution: Contribution | None = None
        self.agreed: Agreed | None = None
        self.declared: dict[str, Any] | None = None
        self.forecast: Cost | None = None
        self.session = b""
        self.met = 0.0
        self.party: Party | None = None
        self._phases = phases(job, gated=bool(gates))
        self._identity = identity
        self._read = read
        self._resuming = resuming
        self._workplace = workplace
        self.watch = Watch()

    def prepare(self, party: Party) -> None:
        """Read this party's data. The driver calls this before the program; otherwise the program does.

        Where this party holds a run that did not end, it reads once it is known whether that one goes on.
        """
        self.party, self.session, self.met = party, party.session, time.monotonic()
        if self._resuming is None or not self._resuming.holds:
            with party.phase(READ):
                self._take_in()

    def _take_in(self, kept: Content | None = None) -> None:
        """Make this party's contribution of its tables, or of those that it had when the run began."""
        if self._read is None:
            return
        tables = self._entering(self._read()) if kept is None else kept["tables"]
        if kept is not None:
            self.take_up(kept)
        elif self._resuming is not None:
            known = self._read if isinstance(self._read, Rereadable) else None
            self._resuming.will_begin({"tables": tables, "read": None if known is None else known.kept()})
        job = self.job
        self.contribution = job.pattern_at(self.me).prepare(job.parameters, job.terms, tables)
        self.contribution.check()

    def _entering(self, tables: Tables) -> Tables:
        """Return this party's rows as they enter: those that its gates admit, as coarse as the job says."""
        screens = [gate for gate in self.gates if isinstance(gate, Screen)]
        for gate in screens:
            tables = gate.admit(self.job, self.me, tables)
        tables = generalised(tables, self.job.pattern_at(self.me).inputs, self.job.generalise)
        for gate in screens:
            tables = gate.screen(self.job, self.me, tables)
        return tables

    def take_up(self, kept: Content) -> None:
        """Take up what was known of this party's tables when the run began, in place of reading them."""
        if isinstance(self._read, Rereadable):
            self._read.take_up(kept["read"])

    def told(self, columns: Schema, rows: Result | None, known: dict[str, Any]) -> PartyResult:
        """Return a result and its record, sealed, with what is known of this party's own tables."""
        if isinstance(self._read, Rereadable):
            known["tables"] = self._read.described()
            rows = None if rows is None else self._read.in_own_spelling(rows)
        result = PartyResult(self.me, self.job, columns, rows, known)
        result.seal()
        return result

    async def __call__(self, party: Party) -> Result | None:
        job = self.job
        if not self.session:
            self.prepare(party)
        with party.phase(READ):
            if self._resuming is not None:
                decision = await self._resuming.meet(party)
                self.resumes = decision.first
                if decision.place is not None:
                    self._take_in(self._resuming.content())
                elif self.resumes is not None:
                    # Nothing of it was opened. Whoever withdrew since then does not enter.
                    self._take_in()
                elif self._resuming.ended(surely=False) is not None:
                    raise RefusedError(
                        f"{self.me} has just taken up the result of the run before; start again", peer=self.me
                    )
                elif self._resuming.holds:
                    self._take_in()
            self.agreed = await job.pattern.agree(party, job.parameters, job.terms, self.contribution)
        self.declared = declared(job, self.agreed)
        self.forecast = gating.cost(job.roster, self.gates).then(job.cost(self.agreed.rows))
        if self.gates and self._identity is not None:
            with party.phase(gating.PHASE):
                self.stated = await gating.pass_gates(party, self.run_at_hand(), self.gates, self._identity)
        expected = self.me in job.pattern.recipients(job.terms)
        # What a pattern that keeps no checkpoints opened once, it could open again for other data of a party that lies.
        # Of a run in shards the main process keeps none.
        goes_on = getattr(job.pattern, "keeps_checkpoints", False) and job.shards == 1
        if self._resuming is not None and not goes_on:
            self._resuming.delete()
        resuming = self._resuming if goes_on else None
        if resuming is not None:
            party.checkpoints = resuming.checkpoints(party)
        result = await self._computed(party, self.agreed)
        check_result(job, self.me, result, expected=expected)
        rows = None if result is None else list(result)
        if resuming is not None:
            await resuming.end(
                party, {"rows": rows, "session": self.session, "declared": json.dumps(self.declared)}
            )
        return rows

    async def _computed(self, party: Party, agreed: Agreed) -> Result | None:
        job = self.job
        if self._workplace is None or job.shards == 1:
            return await job.pattern.run(party, job.parameters, job.terms, agreed)
        return await run_in_shards(party, job, agreed, self._workplace, self.watch)

    def run_at_hand(self) -> RunAtHand:
        """Return the run as gates see it, as far as it has come."""
        return RunAtHand(self.job, self.me, self.session, self.resumes, self.counts, self.contribution)

    @property
    def counts(self) -> dict[PartyId, int]:
        """Return the announced row counts of the input parties; empty before they are known."""
        return {} if self.agreed is None else dict(self.agreed.rows)

    def progress(self, party: Party) -> Progress:
        """Return how far this party is."""
        sent = sum(traffic.frame_bytes for traffic in party.ledger.sent_to.values()) + self.watch.sent_bytes
        # Other threads may add to it meanwhile.
        news = tuple(self.watch.news.pop(0) for _ in range(len(self.watch.news)))
        expected = self.forecast.payload_bytes.get(self.me, 0) if self.forecast is not None else 0
        share = min(1.0, sent / expected) if expected else 0.0
        phase = party.ledger.phase
        if phase == START_PHASE:
            phase = CONNECT if self.forecast is None else self._phases[-1]
        step = self._phases.index(phase) if phase in self._phases else len(self._phases)
        return Progress(self.me, phase, share, sent, party.waiting_for, step=step, news=news)

    @property
    def reached(self) -> str:
        """Return the last phase that this party has begun."""
        begun = [] if self.party is None else [p for p in self._phases if p in self.party.ledger.phases]
        return begun[-1] if begun else CONNECT


def check_approvals_are_asked_for(job: Job, gates: Sequence[Gate]) -> None:
    """Raise `UsageError` where a job needs approvals and no gate checks them."""
    if job.approval != OFF and APPROVAL not in [gate.name for gate in gates]:
        raise UsageError(
            f"{job.name} runs with approvals alone, which this organisation keeps in its folder; make one with "
            f'`secagg consortium new`, or agree on approval = "off" in the job file. To try a job out, use --local'
        )


def run_job(
    job: Job,
    *,
    me: PartyId,
    identity: Identity,
    read: Callable[[], Tables] | None,
    listen: Address | None = None,
    wait_s: float | None = None,
    gates: Sequence[Gate] = (),
    resuming: Resuming | None = None,
    on_ready: Callable[[], None] | None = None,
    workplace: Workplace | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_failure: Callable[[dict[str, Any]], None] | None = None,
    on_ended: Callable[[], None] | None = None,
) -> PartyResult:
    """Take part in a job over TLS and return what this party learns, with the record of the run.

    Args:
      job: with its certificates.
      me, identity: this party.
      read: at an input party, returns its tables; called when everybody is there and agrees.
      listen: where to listen, if not at this party's address in the job.
      wait_s: how long this party waits for the others, if not as long as the job says.
      gates, resuming: as in `Part`. Whoever calls deletes the checkpoints (`Resuming.delete`) once the result is written.
      on_ready: called when this party's gates are ready, before it connects; what it raises ends the run here.
      workplace: as in `Part`.
      on_progress: called a few times a second; what it raises ends the run for everybody.
      on_failure: called with the record of a run that fails or is stopped, before the error is raised.
      on_ended: called when the run has ended well; what is left is to record it.

    Raises:
      UsageError: as `Part`; approvals are needed, and no gate checks them; and what `read` and the gates' `ready` raise.
        Who waits already is told that a gate is not ready, and no more.
      SecaggError: whatever `run_party` raises.
    """
    part = Part(job, me, read, gates=gates, identity=identity, resuming=resuming, workplace=workplace)
    check_approvals_are_asked_for(job, part.gates)
    # What was spent when a run began is not to be there once more.
    if resuming is None or not resuming.holds:
        with telling_others(
            job,
            Cause.CHECKS,
            me=me,
            identity=identity,
            gates=[gate.name for gate in part.gates],
            listen=listen,
        ):
            for gate in part.gates:
                gate.ready(job, me)
    if on_ready is not None:
        on_ready()
    told, told_fields = gating.agreement(job, [gate.name for gate in part.gates])
    # Everything that the pattern says, but for what the computation itself asks: a pattern that fails costs no result.
    about_job, columns = described_job(job, me), job.pattern.results
    addresses = {member.name: member.address for member in job.members}
    if resuming is not None and (kept := resuming.ended(surely=True)) is not None:
        return _kept_result(part, resuming, kept, about_job)
    if resuming is not None and resuming.ended(surely=False) is not None:
        wait_s = min(_LAST_WAIT_S, wait_s or job.timeouts.connect_s)  # most likely nobody comes any more
    started, begin = datetime.datetime.now(datetime.UTC), time.monotonic()

    def report(party: Party) -> None:
        if on_progress is not None:
            on_progress(part.progress(party))

    next_report = begin

    def report_work() -> None:
        if part.party is not None:
            report(part.party)

    # While workers work, the program does not wait for messages, and the network reports nothing.
    part.watch = replace(part.watch, report=report_work)

    def meeting(who: Attendance) -> None:
        nonlocal next_report
        if on_progress is not None and (now := time.monotonic()) >= next_report:
            next_report = now + _REPORT_EVERY_S
            on_progress(
                Progress(me, CONNECT, 0.0, 0, waiting_for=who.missing, present=who.present, left_s=who.left_s)
            )

    def recorded(rows: Result | None = None, error: BaseException | None = None) -> PartyResult:
        met = {"connect_s": part.met - begin} if part.party is not None else {}
        known = record(
            job,
            me,
            about_job=about_job,
            session=part.session,
            started=started,
            timings={**met, "total_s": time.monotonic() - begin},
            declared=part.declared,
            result_rows=None if rows is None else len(rows),
            ledger=part.party.ledger if part.party is not None else None,
            reached=part.reached,
            error=error,
        )
        if job.shards > 1:
            known["workers"] = part.watch.done
        if part.gates:
            known["gates"] = gating.recorded(part.stated)
            known["screened"] = {g.name: g.described() for g in part.gates if isinstance(g, Screen)}
        found = part.told(columns, rows, known)
        if part.party is not None:
            gating.close_all(part.gates, part.run_at_hand(), Outcome(found.record, error))
        return found

    try:
        result, _ = run_party(
            part,
            me=me,
            identity=identity,
            peers=job.peers(),
            listen=listen or addresses[me],
            agreement=told,
            fields=told_fields,
            timeouts=job.timeouts if wait_s is None else replace(job.timeouts, connect_s=wait_s),
            prepare=part.prepare,
            on_meeting=meeting,
            on_progress=report,
        )
    except BaseException as error:
        if resuming is not None:
            # The others may have ended well before this party could say that it did.
            alone = isinstance(error, PeerMissingError | RefusedError) and not part.resumes
            if alone and (kept := resuming.ended(surely=False)) is not None:
                return _kept_result(part, resuming, kept, about_job)
            resuming.failed(error)
        failed = recorded(error=error).record
        if on_failure is not None:
            on_failure(failed)
        raise
    if on_ended is not None:
        on_ended()
    return recorded(result)


def _kept_result(part: Part, resuming: Resuming, kept: Content, about_job: Mapping[str, Any]) -> PartyResult:
    """Return the result of a run that had ended, and of which this party could not write the result."""
    job, now = part.job, datetime.datetime.now(datetime.UTC)
    part.take_up(resuming.content())
    rows = kept["rows"]
    known = record(
        job,
        part.me,
        about_job=about_job,
        session=kept["session"],
        started=now,
        timings={"total_s": 0.0},
        declared=json.loads(kept["declared"]),
        result_rows=None if rows is None else len(rows),
        ledger=None,
        reached=phases(job)[-1],
    )
    # Nothing noted the end of that run while it was under way.
    part.session, first = kept["session"], resuming.first
    part.resumes = None if first == part.session else first
    found = part.told(job.pattern.results, rows, known)
    gating.close_all(part.gates, part.run_at_hand(), Outcome(found.record, None))
    return found
