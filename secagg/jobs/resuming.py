"""How parties agree where an interrupted run goes on.

1. *Held.* When they have met, each party tells all others which runs of the job it holds that did not end: the first session
   of each, its checkpoints, of which one something was opened, and how often the run went on. Then each tells the digest of
   what it was told, so that all decide from the same.
2. *Decision.* All by one rule: the run that all hold, at the latest checkpoint that all computing parties hold of one
   session, and of whose line all others hold the first. Without such a checkpoint the run begins at its first message,
   and data is read anew. Without a run that all hold, a new run begins.
3. *Gate `resume`.* Each party signs the decision as its statement. A party that decided otherwise ends the run. Before it
   says that its checks passed, each party notes durably that the run has begun, or goes on. So a gate that commits knows
   that whatever happens from here on, the run can go on under its first session, and is not paid twice.

*What is never computed again.* Before an opening all computing parties hold the checkpoint that it is computed from, and
note the opening (`mpc.checkpoints`). A decision that lies before anybody's note is refused by that party, and the run is
over. So a party that claims to hold less than it does can have work repeated, but no opening. `MOST_RESUMED` bounds how
often a run goes on at all.

*End.* A party keeps its result before it says that it has ended, and deletes its checkpoints once all said so. A run whose
error lies with data, parameters or a lie is over, and is deleted at once; a missing peer, a full disk, or a stop leaves it.

Threat model. Input parties do what they like, of four computing parties one does; three follow the protocol. Learns:
everybody, who holds which checkpoints. Cost, n parties: 3 rounds, 3 (n - 1) messages from each party, no arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from secagg.errors import (
    AuthenticationError,
    PeerMissingError,
    RefusedError,
    RemoteProtocolError,
    SecaggError,
)
from secagg.jobs.checkpoints import CheckpointFolder, Line, UnwritableError
from secagg.jobs.gates import Outcome, RunAtHand, cannot_write
from secagg.jobs.job import Job
from secagg.party import SESSION_BYTES, Checkpoints, Content, Party, PartyId, Place
from secagg.signing import DIGEST_BYTES, digest
from secagg.wire import Message

MOST_RESUMED: Final = 50
NAME: Final = "resume"
_LABEL: Final = "secagg.jobs.resuming"
_MOST_LINES: Final = 8  # runs of one job that did not end; a new one removes all others
_MOST_PLACES: Final = 64
_MARK_LENGTH: Final = 32


class HeldRuns(Message, frozen=True):
    """Everybody -> everybody: the runs that the sender holds, in MessagePack."""

    lines: bytes


class HeardRuns(Message, frozen=True):
    """Everybody -> everybody: the digest of what the sender was told, its own word included."""

    digest: bytes


class RunEnded(Message, frozen=True):
    """Everybody -> everybody: the sender has its result."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a run goes on.

    Attributes:
      first: its first session, None for a new run.
      place: the checkpoint, None at the beginning.
      resumed: how often it will have gone on, by whoever counts most.
    """

    first: bytes | None
    place: Place | None = None
    resumed: int = 0

    def encode(self) -> bytes:
        """Return the decision as a gate states it."""
        place = self.place
        return msgspec.msgpack.encode(
            {
                "first session": None if self.first is None else self.first.hex(),
                "checkpoint": None if place is None else f"{place.step} ({place.mark})",
                "of session": None if place is None else place.session.hex(),
                "went on": self.resumed,
            }
        )


class Resuming:
    """One party's checkpoints of a job, in one run.

    Args:
      folder: where they are.
      job: whose runs.

    Attributes:
      decision: where the run goes on, once parties have met.
    """

    def __init__(self, folder: CheckpointFolder, job: Job) -> None:
        self._folder = folder
        self._computing = job.computing_parties or job.roster
        self._lines = folder.lines()
        self._first = b""
        self._begins: Content = {}
        self.decision: Decision | None = None

    @property
    def first(self) -> bytes:
        """The first session of the run."""
        return self._first

    @property
    def holds(self) -> bool:
        """Whether this party holds a run of the job that did not end."""
        return bool(self._lines)

    @property
    def kept(self) -> bool:
        """Whether there is now a checkpoint from which a run may go on."""
        return bool(self._folder.lines())

    async def meet(self, party: Party) -> Decision:
        """Agree with all parties where the run goes on.

        Raises:
          RemoteProtocolError: a peer told something else than runs, or different things to different parties.
          RefusedError: a run that all hold cannot go on.
        """
        mine = HeldRuns(_encode(self._lines))
        party.broadcast(mine)
        told = {party.me: mine} | await party.gather(HeldRuns, party.others)
        words = [part for name in party.roster for part in (name.encode(), told[name].lines)]
        heard = digest(_LABEL, [party.session, *words])
        party.broadcast(HeardRuns(heard))
        for peer, message in (await party.gather(HeardRuns, party.others, max_bytes=DIGEST_BYTES)).items():
            if message.digest != heard:
                raise RemoteProtocolError(
                    f"{peer} was told of other checkpoints than {party.me}: somebody told two parties different things; "
                    "nothing goes on"
                )
        held = {name: _decode(message.lines, name) for name, message in told.items()}
        found = decide(held, self._computing)
        # By its own notes alone: what a peer says of its notes is for the peer to act on.
        own = next((line for line in self._lines if line.first == found.first), None)
        if own is not None and (why := _why_over(own, found)):
            self._folder.delete()
            raise RefusedError(
                f"the run that was interrupted is over: {why}; start it anew, as a run of its own",
                peer=party.me,
            )
        self.decision = found
        self._first = found.first or party.session
        return found

    def content(self) -> Content:
        """Return what this party put in when the run began."""
        return self._folder.begun(self._first)

    def will_begin(self, content: Content) -> None:
        """Say what this party puts in, before the gates are passed."""
        self._begins = content

    def checkpoints(self, party: Party) -> Checkpoints:
        """Return the checkpoints of the run, for its party."""
        place = None if self.decision is None else self.decision.place
        reads = place
        if place is not None and party.me not in self._computing:
            line = next(line for line in self._lines if line.first == self._first)
            reads = line.places[0]
        return Checkpoints(self._folder.storage(self._first), party.session, place, reads)

    async def end(self, party: Party, content: Content) -> None:
        """Keep the result, and wait until everybody has its own."""
        self._folder.end(self._first, content)
        party.broadcast(RunEnded())
        await party.gather(RunEnded, party.others)
        self._folder.all_ended(self._first)

    def ended(self, *, surely: bool) -> Content | None:
        """Return the result of a run that ended, and of which this party could not say so.

        Args:
          surely: return it only where all parties have theirs.
        """
        for line in self._lines:
            if surely and not self._folder.have_all_ended(line.first):
                continue
            if (content := self._folder.ended(line.first)) is not None:
                self._first = line.first
                return content
        return None

    def failed(self, error: BaseException) -> None:
        """Delete the checkpoints after an error that comes again, or after which nothing may go on."""
        if isinstance(error, SecaggError) and not may_go_on(error):
            self._folder.delete()

    def delete(self) -> None:
        """Delete the checkpoints of a run whose result is where it is meant to be."""
        self._folder.delete()

    # The gate.

    @property
    def name(self) -> str:
        """What the gate is called; it comes last of those there are."""
        return NAME

    def ready(self, job: Job, me: PartyId) -> None:
        """Refuse nothing."""

    def statement(self, run: RunAtHand) -> bytes:  # noqa: ARG002
        """Return what was decided."""
        return b"" if self.decision is None else self.decision.encode()

    def check(self, run: RunAtHand, statements: Mapping[PartyId, bytes]) -> None:
        """Refuse another decision than this party's, and note durably that the run begins or goes on."""
        mine = statements[run.me]
        for name, theirs in statements.items():
            if theirs != mine:
                raise RemoteProtocolError(
                    f"expected {name} to go on where {run.me} does, and it states another checkpoint; do both run the same "
                    "release?",
                    peer=name,
                )
        decision = self.decision
        if decision is None or decision.first is None:
            self._begin()
        else:
            step = 0 if decision.place is None else decision.place.step
            own = next(line for line in self._lines if line.first == self._first)
            self._folder.resume(self._first, step, own.resumed + 1)
            if decision.place is None:  # after its old checkpoints are gone, which are of other rows
                self._begin()

    def _begin(self) -> None:
        self._folder.begin(self._first, self._begins)
        self._begins = {}  # tables may be large

    def commit(self, run: RunAtHand) -> None:
        """Do nothing: what the gate writes has to be there before others commit."""

    def close(self, run: RunAtHand, outcome: Outcome) -> None:
        """Do nothing; see `failed`."""


def may_go_on(error: SecaggError) -> bool:
    """Return whether a run that ended with this error may go on: the error lies with the network or this machine."""
    # Of the first kind is also what another party ended. What a network alters is no party's doing.
    if isinstance(error, PeerMissingError | UnwritableError | AuthenticationError):
        return True
    # A gate of this party that cannot write, such as for a full disk, has found nothing against the run.
    return isinstance(error, RefusedError) and cannot_write(error)


def decide(held: Mapping[PartyId, Sequence[Line]], computing: Sequence[PartyId]) -> Decision:
    """Return where the run goes on; every party comes to the same from the same words."""
    lines = {name: {line.first: line for line in each} for name, each in held.items()}
    common = set.intersection(*(set(each) for each in lines.values()))
    found = [_best(first, {name: each[first] for name, each in lines.items()}, computing) for first in common]
    if not found:
        return Decision(None)
    return max(found, key=lambda one: (0 if one.place is None else one.place.step, one.first or b""))


def _best(first: bytes, lines: Mapping[PartyId, Line], computing: Sequence[PartyId]) -> Decision:
    places = set.intersection(*(set(lines[name].places) for name in computing))
    for name, line in lines.items():
        if name not in computing:
            roots = {place.session for place in line.places if place.step == 1}
            places = {place for place in places if place.root in roots}
    place = max(places, key=lambda one: (one.step, one.session), default=None)
    return Decision(first, place, 1 + max(line.resumed for line in lines.values()))


def _why_over(own: Line, decision: Decision) -> str:
    """Return why a run cannot go on as this party has it, "" where it can."""
    if own.opened > (0 if decision.place is None else decision.place.step):
        return "somebody lacks the checkpoint of what was opened, and nothing is computed and opened twice"
    if own.resumed >= MOST_RESUMED:
        return f"it went on {MOST_RESUMED} times already"
    return ""


def _encode(lines: Sequence[Line]) -> bytes:
    return msgspec.msgpack.encode(
        [
            [
                line.first,
                [[p.step, p.mark, p.session, p.root] for p in line.places],
                line.opened,
                line.resumed,
            ]
            for line in lines[:_MOST_LINES]
        ]
    )


def _decode(encoded: bytes, peer: PartyId) -> list[Line]:
    try:
        told = msgspec.msgpack.decode(
            encoded, type=list[tuple[bytes, list[tuple[int, str, bytes, bytes]], int, int]]
        )
    except msgspec.MsgspecError:
        raise RemoteProtocolError(
            f"expected checkpoints from {peer}, got something else", peer=peer
        ) from None
    lines = [Line(first, tuple(Place(*p) for p in places), opened, n) for first, places, opened, n in told]
    if len(lines) > _MOST_LINES or not all(map(_is_sound, lines)):
        raise RemoteProtocolError(f"expected checkpoints from {peer}, got what cannot be any", peer=peer)
    return lines


def _is_sound(line: Line) -> bool:
    sessions = [line.first, *(s for place in line.places for s in (place.session, place.root))]
    return (
        all(len(session) == SESSION_BYTES for session in sessions)
        and len(line.places) <= _MOST_PLACES
        and all(place.step > 0 and len(place.mark) <= _MARK_LENGTH for place in line.places)
        and min(line.opened, line.resumed) >= 0
    )
