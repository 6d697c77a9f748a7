"""Party: write a protocol once, run it anywhere.

Protocol code is straight-line `async` code that talks to a `Party` and never to a network:

    party.send(peer, Share(x))
    shares = await party.gather(Share, party.others, max_bytes=x.nbytes)

`await` hands a request for messages to whatever drives the coroutine; it is not asyncio. A driver (see `secagg.network`)
wraps the coroutine in a `Run`, and carries the frames in `party.outbox` to their receivers. It calls `party.deliver` with
what arrives, and `run.advance()` when something did. All checks of what peers send are here, so that every driver makes
the same ones: session, sender, order, duplicates, kind, types.

Messages from one peer in one lane are read in the order in which they were sent. A frame that arrives early waits
for those before it. A frame that arrives twice is an error that names the peer. The bound on a message's length is known
before the message is held. The protocol bounds messages that it asks for; `secagg.mailbox` bounds all others.

The module is long because protocols and drivers see one state of a party.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections import deque
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from secagg import wire
from secagg.errors import (
    PeerMissingError,
    PeerVanishedError,
    RemoteProtocolError,
    SecaggError,
    TooFewPartiesError,
    UsageError,
)
from secagg.ledger import Ledger
from secagg.mailbox import DEFAULT_ROOM, Mailbox, Room
from secagg.party.checkpoints import Checkpoints
from secagg.party.request import Gather, Wait, limit_of
from secagg.party.roster import PartyId, Roster
from secagg.prg import KEY_BYTES, Stream, check_process
from secagg.wire import MAX_DEPTH, MAX_LANE_DEPTH, SMALL_BYTES, Buffer, Envelope, Frame, Lane, M, Message

T = TypeVar("T")

SESSION_BYTES: Final = 32
# Lanes in which parties send unasked are numbered from here on by their senders' places in the roster.
OWNERS_LANES: Final = 1 << 30
_MAX_NAMED: Final = 10  # missing peers that an error names in full


class Outgoing(NamedTuple):
    """A frame to be carried to `to`; `frame` shares memory with the protocol's arrays until it is sent."""

    to: PartyId
    frame: list[Buffer]
    size: int


# A program under way at one party: what calling an `async` function gives. A program is what the party starts it from.
Computation: TypeAlias = Coroutine[Wait, list[dict[PartyId, Any]], T]
Program: TypeAlias = Callable[["Party"], Computation[T]]


class Party:
    """One party as its protocol sees it: its name, the roster, its random stream, and its unread messages.

    Args:
      me: this party's name.
      roster: the names of all parties, the same everywhere and in the same order.
      session: 32 bytes that all parties agreed on and that never come again.
      rng: where this party's own secrets come from; by default a stream keyed by the operating system.
      room: bound on each peer's messages that this party has not asked for yet.

    A party belongs to the process that made it. In a process forked off it refuses to send and to draw: it would cover
    other numbers with the masks that the first process uses.
    """

    __slots__ = (
        "_claimed",
        "_failed",
        "_lane",
        "_lanes",
        "_mail",
        "_pid",
        "_room",
        "_sequence",
        "_unread",
        "_wait",
        "checkpoints",
        "ledger",
        "me",
        "on_read",
        "optional",
        "outbox",
        "rng",
        "roster",
        "session",
        "simulated",
    )

    def __init__(
        self,
        me: PartyId,
        roster: Sequence[PartyId],
        *,
        session: bytes,
        rng: Stream | None = None,
        room: Room = DEFAULT_ROOM,
    ) -> None:
        self.roster = roster if isinstance(roster, Roster) else Roster(roster)
        if me not in self.roster.position:
            raise UsageError(f"expected a roster with {me!r} in it, got {list(roster)}")
        if len(session) != SESSION_BYTES:
            raise UsageError(f"expected a session identifier of {SESSION_BYTES} bytes, got {len(session)}")
        self.me = me
        self.session = session
        self.rng = rng if rng is not None else Stream(secrets.token_bytes(KEY_BYTES))
        self.ledger = Ledger()
        self.checkpoints = Checkpoints()  # none are kept unless whoever runs the party says where
        self.on_read: Callable[[PartyId, int], None] | None = (
            None  # told whose message of which number is read
        )
        self.outbox: deque[Outgoing] = deque()
        # Peers that a protocol can do without while it does not wait for them; drivers end a run for the loss of others.
        self.optional: frozenset[PartyId] = frozenset()
        self._sequence: dict[PartyId, int] = {}  # next number to each peer
        self._mail: dict[PartyId, Mailbox] = {}
        self._room = room
        self._pid = os.getpid()
        self._failed: dict[PartyId, SecaggError] = {}
        self._unread: dict[Lane, dict[PartyId, None]] = {}  # whose queues are not empty, as they filled
        self._wait: Wait = ()
        self._lane: Lane = ()
        self._lanes: dict[Lane, int] = {}  # how many lanes have branched off each
        self._claimed: set[str] = set()
        self.simulated = (
            False  # whether all parties run in one process, on made-up data; the simulator says so
        )

    def __repr__(self) -> str:
        return f"Party({self.me!r}, {len(self.roster)} parties)"

    @property
    def others(self) -> tuple[PartyId, ...]:
        """All parties but this one, in roster order."""
        return tuple(name for name in self.roster if name != self.me)

    @property
    def in_parallel(self) -> bool:
        """Whether what runs now runs beside other protocols (`parallel`), in a lane of its own."""
        return self._lane != ()

    @property
    def failed(self) -> Mapping[PartyId, SecaggError]:
        """Peers that vanished or misbehaved, and how."""
        return self._failed

    # What protocols use.

    def send(self, to: PartyId, message: Message) -> None:
        """Put a message on its way; its arrays must not change before the next `await` has returned.

        Raises:
          UsageError: an unknown receiver, this party itself, a message that cannot be encoded, or a process that was
            forked off the one that made the party.
        """
        check_process(self._pid, "a party")
        if to == self.me or to not in self.roster.position:
            raise UsageError(
                f"{self.me} cannot send to {to!r}; the other parties are {', '.join(self.others)}"
            )
        sequence = self._sequence.get(to, 0)
        frame, payload = wire.encode_message(
            message,
            session=self.session[:16],
            sender=self.roster.position[self.me],
            lane=self._lane,
            sequence=sequence,
            depth=min(self.ledger.depth + 1, MAX_DEPTH),
        )
        self._sequence[to] = sequence + 1
        size = sum(map(len, frame))
        self.ledger.sent(to, size, payload)
        if (links := self.ledger.links) is not None:
            links.sent(to, frame, size)
        self.outbox.append(Outgoing(to, frame, size))

    def broadcast(self, message: Message) -> None:
        """Send a message to everybody else."""
        for peer in self.others:
            self.send(peer, message)

    def gather(
        self,
        kind: type[M],
        peers: Iterable[PartyId],
        *,
        quorum: int | None = None,
        timeout_s: float | None = None,
        max_bytes: int | None = None,
        sent_before: Iterable[type[Message]] = (),
    ) -> Gather[M]:
        """Return a request for one `kind` from each of `peers`; await it for the messages by peer.

        Args:
          quorum: how many answers are enough. Peers that vanish, misbehave or are late are then left out. Without a
            quorum each of them ends the protocol.
          timeout_s: how long to wait; by default as long as the driver allows.
          max_bytes: of a message, beside the `wire.SMALL_BYTES` that every message may take. Without, those are all
            for a kind that holds no arrays, and the driver's bound holds for others: so say how large arrays may be.
          sent_before: kinds that a peer waits for only once it has sent this. It must not wait for one of them in an
            earlier protocol of this session: something that it has sent since must have been read here. A peer that
            is late is named if it says that it waits for one of these kinds, whoever is to send that.

        Raises (when awaited):
          PeerVanishedError: a peer ended its connection or sent nothing in time.
          TooFewPartiesError: fewer than `quorum` answered.
          RemoteProtocolError: a peer sent something else or something longer, or broke the rules of the wire.
        """
        wanted, limit = self._wanted(peers, quorum), limit_of(kind, max_bytes)
        later = frozenset(after.TAG for after in sent_before)
        lane, phase = self._lane, self.ledger.phase
        return Gather(kind, wanted, quorum, lane, phase, timeout_s, limit=limit, sent_before=later)

    async def as_completed(
        self,
        kind: type[M],
        peers: Iterable[PartyId],
        *,
        quorum: int | None = None,
        timeout_s: float | None = None,
        max_bytes: int | None = None,
    ) -> AsyncIterator[tuple[PartyId, M]]:
        """Yield (peer, message), one `kind` from each of `peers`, in the order in which they come.

        For sums over many peers: each message can be used and dropped before the next is looked at. Arguments and
        errors are those of `gather`. The time is counted from the first wait. TooFewPartiesError comes after
        everything that could be yielded.
        """
        wanted, lane = self._wanted(peers, quorum), self._lane
        waiting, arrived = dict.fromkeys(wanted), set[PartyId]()
        # How many are enough is known at the end alone; until then each loss is borne if any is.
        bears = None if quorum is None else 0
        limit = limit_of(kind, max_bytes)
        gather = Gather(kind, waiting, bears, lane, self.ledger.phase, timeout_s, first=True, limit=limit)
        while waiting:
            gather.phase = self.ledger.phase
            got = await gather
            gather.continued = True
            for peer, message in got.items():
                del waiting[peer]
                gather.missing.discard(peer)
                arrived.add(peer)
                yield peer, message
            if not got:  # somebody failed, or, if time is over, everybody who is missing
                for peer in [p for p in waiting if p in self._failed and not self._has_mail(p, lane)]:
                    del waiting[peer]
        if quorum is not None and len(arrived) < quorum:
            raise self._too_few(kind, wanted, [p for p in wanted if p not in arrived], quorum)

    def _wanted(self, peers: Iterable[PartyId], quorum: int | None) -> tuple[PartyId, ...]:
        wanted = tuple(dict.fromkeys(peers))
        unknown = [p for p in wanted if p == self.me or p not in self.roster.position]
        if unknown or (quorum is not None and not 0 <= quorum <= len(wanted)):
            raise UsageError(
                f"cannot gather from {unknown or wanted} with quorum {quorum}; others: {self.others}"
            )
        return wanted

    async def receive(
        self,
        kind: type[M],
        peer: PartyId,
        *,
        max_bytes: int | None = None,
        sent_before: Iterable[type[Message]] = (),
    ) -> M:
        """Return the next message of a peer, which must be a `kind`; arguments and errors are those of `gather`."""
        return (await self.gather(kind, (peer,), max_bytes=max_bytes, sent_before=sent_before))[peer]

    def next_lane(self, owner: PartyId) -> Lane:
        """Return the next lane for what `owner` sends unasked; all who call it as often get the same."""
        place = OWNERS_LANES + self.roster.position[owner]
        count = self._lanes.get((place,), 0)
        self._lanes[(place,)] = count + 1
        return (place, count)

    def parallel(self, *computations: Computation[Any], lanes: Sequence[Lane] = ()) -> _Parallel:
        """Return an awaitable that runs protocols side by side, so that they share rounds.

        All parties must run the same protocols in parallel, in the same order: the order numbers the lanes that
        keep their messages apart. They move in lockstep: none goes on before what every one of them waits for is
        there. So streams shared with peers stay in step. Each protocol must make a party wait as often as its
        peers: two protocols that ask and answer in opposite directions would both wait for ever. An error while
        they wait ends them all.

        Args:
          lanes: of `next_lane`, one a protocol; by default new lanes within that of the caller.

        Raises (when awaited):
          UsageError: nested more than 16 deep.
        """
        return _Parallel(self, computations, lanes)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge what happens inside to a phase of the ledger."""
        outer = self.ledger.phase
        self.ledger.enter(name)
        try:
            yield
        finally:
            self.ledger.enter(outer)

    def claim(self, what: str) -> None:
        """Claim the one use in this session of something that is safe only once, such as a round of masks.

        Raises:
          UsageError: it was claimed before.
        """
        if what in self._claimed:
            raise UsageError(
                f"{what} has taken place in this session, and is safe only once; number the next one differently"
            )
        self._claimed.add(what)

    # What drivers use.

    def deliver(self, frame: Buffer, peer: PartyId) -> None:
        """Take in a frame that came from `peer`, whom the driver has authenticated.

        A frame that breaks the rules marks the peer as failed; the protocol meets the error when it next
        waits for that peer.
        """
        if peer in self._failed:
            return
        try:
            cut = wire.decode_envelope(frame, peer=peer)
            self._enqueue(cut, peer)
            if (links := self.ledger.links) is not None:
                links.received(peer, frame)
        except RemoteProtocolError as error:
            self.fail(peer, error)

    def fail(self, peer: PartyId, error: SecaggError) -> None:
        """Mark a peer as gone or misbehaving; what it sent before can still be read."""
        if self._failed.setdefault(peer, error) is error:
            for gather in self._wait:
                gather.missing.discard(peer)

    def admits(self, envelope: Envelope, size: int, peer: PartyId) -> bool:
        """Return whether a message of `size` bytes may be taken now, of which nothing but the envelope needs to be here.

        What is not asked for yet and longer than all that may stand unread has to wait, if the network can let it.

        Raises:
          RemoteProtocolError: it is not what is asked for, or longer; or it has to wait, and its sender is waited for.
        """
        self._check_origin(envelope, peer)
        if (gather := self._asking(envelope, peer)) is not None:
            self._check_asked(gather, envelope.kind, size, peer)
            return True
        if size <= self._room.nbytes:
            return True
        if peer in self.waiting_for:
            raise self._unasked(peer, f"{self._room.nbytes} bytes of messages")
        return False

    def _check_origin(self, envelope: Envelope, peer: PartyId) -> None:
        if envelope.session != self.session[:16]:
            raise RemoteProtocolError(f"message of another session from {peer}", peer=peer)
        if envelope.sender != self.roster.position.get(peer):
            raise RemoteProtocolError(f"message in another party's name from {peer}", peer=peer)

    def _asking(self, envelope: Envelope, peer: PartyId) -> Gather[Any] | None:
        """Return the request that a message answers: it is the first unread one in a lane that is waited for."""
        mail, lane = self._mail.get(peer), envelope.lane
        if envelope.sequence != (0 if mail is None else mail.expected) or self._has_mail(peer, lane):
            return None
        return next((g for g in self._wait if g.lane == lane and peer in g.peers), None)

    @staticmethod
    def _check_asked(gather: Gather[Any], kind: str, size: int, peer: PartyId) -> None:
        if kind != gather.kind.KIND:
            raise RemoteProtocolError(
                f"expected {gather.kind.KIND} from {peer}, got {kind!r:.120}; do both run the same job and release?",
                peer=peer,
            )
        if size > gather.limit:
            raise RemoteProtocolError(
                f"expected {kind} of at most {gather.limit} bytes from {peer}, got one of {size}; do both run the same "
                f"job and release?",
                peer=peer,
            )

    def _unasked(self, peer: PartyId, bound: str) -> RemoteProtocolError:
        return RemoteProtocolError(
            f"{peer} has sent more than {bound} that {self.me} has not asked for; do both run the same job and release?",
            peer=peer,
        )

    def _enqueue(self, frame: Frame, peer: PartyId) -> None:
        envelope = frame.envelope
        self._check_origin(envelope, peer)
        if frame.size > SMALL_BYTES and not self.admits(envelope, frame.size, peer):
            raise self._unasked(peer, f"{self._room.nbytes} bytes of messages")
        mail = self._mail.get(peer)
        if mail is None:
            mail = self._mail[peer] = Mailbox(peer, self._room)
        if mail.full:
            self._check_room(mail, envelope)
        for lane in mail.take(frame):
            self._unread.setdefault(lane, {})[peer] = None
            for gather in self._wait:
                if gather.lane == lane:
                    gather.has(peer)

    def overfull(self, peer: PartyId) -> str:
        """Return the bound that the unread messages of a peer exceed, without those now asked for, or ""."""
        mail = self._mail.get(peer)
        if mail is None or not mail.full:
            return ""
        return mail.exceeds({gather.lane for gather in self._wait if peer in gather.peers})

    def _check_room(self, mail: Mailbox, envelope: Envelope) -> None:
        # What was asked for is taken, however much else there is.
        if self._asking(envelope, mail.peer) is None and (bound := self.overfull(mail.peer)):
            raise self._unasked(mail.peer, bound)

    def _has_mail(self, peer: PartyId, lane: Lane) -> bool:
        mail = self._mail.get(peer)
        return mail is not None and mail.has(lane)

    def _begin(self, wait: Wait) -> None:
        self._wait = wait
        for gather in wait:
            unread = self._unread.get(gather.lane, {})
            if gather.continued:
                gather.missing.difference_update(self._failed)
            else:
                gather.missing = {p for p in gather.peers if p not in unread and p not in self._failed}
            gather.answered = gather.first and any(p in gather.peers for p in unread)

    @property
    def ready(self) -> bool:
        """Whether everything waited for is there, or cannot come any more."""
        if not any(gather.waits for gather in self._wait):
            return True
        return bool(self._failed) and any(
            gather.quorum is None and any(self._lacks(p, gather) for p in gather.peers)
            for gather in self._wait
        )

    def is_lost_without(self, peer: PartyId) -> bool:
        """Whether the program waits for a message of a peer that cannot come any more, and cannot go on without it."""
        return any(g.quorum is None and peer in g.peers and self._lacks(peer, g) for g in self._wait)

    @property
    def awaited_tag(self) -> int:
        """The tag of the one kind of message that the program waits for; 0 if protocols side by side wait for several."""
        tags = {gather.kind.TAG for gather in self._wait if gather.waits}
        return tags.pop() if len(tags) == 1 else 0

    def owes(self, peer: PartyId, tag: int) -> bool:
        """Whether a peer that waits for messages of one kind has left out what the program waits for."""
        return tag != 0 and any(peer in gather.missing and tag in gather.sent_before for gather in self._wait)

    def _lacks(self, peer: PartyId, gather: Gather[Any]) -> bool:
        return peer in self._failed and not self._has_mail(peer, gather.lane)

    @property
    def waiting_for(self) -> tuple[PartyId, ...]:
        """The peers whose messages are still missing."""
        return tuple(
            dict.fromkeys(
                peer
                for gather in self._wait
                if gather.waits
                for peer in gather.peers
                if peer in gather.missing
            )
        )

    @property
    def timeout_s(self) -> float | None:
        """The shortest time that the protocol itself set for what it now waits for."""
        limits = [g.timeout_s for g in self._wait if g.timeout_s is not None]
        return min(limits) if limits else None

    @property
    def continued(self) -> bool:
        """Whether the time of this wait is counted from the beginning of the one before."""
        return bool(self._wait) and all(gather.continued for gather in self._wait)

    def _collect(self) -> list[dict[PartyId, Any]]:
        wait, self._wait = self._wait, ()
        # In the order in which peers failed: the first is to blame, and not a peer that is merely slower.
        for peer, error in self._failed.items():
            for gather in wait:
                if gather.quorum is None and peer in gather.peers and not self._has_mail(peer, gather.lane):
                    raise error
        return [self._read(gather) for gather in wait]

    def _own_outbox(self) -> None:
        """Copy the frames not carried yet, so that the protocol may change the arrays they were made of."""
        for i, (to, frame, size) in enumerate(self.outbox):
            self.outbox[i] = Outgoing(to, [bytes(part) for part in frame], size)

    def _read(self, gather: Gather[M]) -> dict[PartyId, M]:
        got: dict[PartyId, M] = {}
        # A `first` request reports missing peers only if nobody has answered.
        peers = gather.peers
        if gather.answered:
            peers = [next(p for p in self._unread[gather.lane] if p in gather.peers)]
        for peer in peers:
            try:
                got[peer] = self._open(gather, peer)
            except (RemoteProtocolError, PeerMissingError) as error:
                if gather.quorum is None:
                    raise
                self._failed.setdefault(peer, error)
                if isinstance(error, RemoteProtocolError):
                    self._discard_mail(peer)
        if gather.quorum is not None and len(got) < gather.quorum:
            absent = tuple(p for p in gather.peers if p not in got)
            raise self._too_few(gather.kind, gather.peers, absent, gather.quorum)
        return got

    def _discard_mail(self, peer: PartyId) -> None:
        """Discard what a peer sent beside or behind a message that the protocol forbids: it is left out from there on."""
        self._mail.pop(peer, None)
        for lane in [lane for lane, peers in self._unread.items() if peer in peers]:
            del (unread := self._unread[lane])[peer]
            if not unread:
                del self._unread[lane]

    def _too_few(
        self, kind: type[Message], wanted: Collection[PartyId], absent: Sequence[PartyId], quorum: int
    ) -> TooFewPartiesError:
        named = ", ".join(f"{p} ({self._failed[p]})" for p in absent[:_MAX_NAMED])
        more = f" and {len(absent) - _MAX_NAMED} more" if len(absent) > _MAX_NAMED else ""
        return TooFewPartiesError(
            f"expected {kind.__name__} from at least {quorum} of {len(wanted)} parties, "
            f"got {len(wanted) - len(absent)}; missing: {named}{more}",
            peer=absent[0],
        )

    def _open(self, gather: Gather[M], peer: PartyId) -> M:
        mail = self._mail.get(peer)
        if mail is None or not mail.has(gather.lane):
            raise self._failed.get(peer) or PeerVanishedError(
                f"{self.me} waited for {gather.kind.__name__} from {peer} and nothing came in time; "
                f"check that {peer} is running and can be reached",
                peer=peer,
            )
        frame = mail.read(gather.lane)
        if self.on_read is not None:
            self.on_read(peer, frame.envelope.sequence)
        if not mail.has(gather.lane):
            del (unread := self._unread[gather.lane])[peer]
            if not unread:
                del self._unread[gather.lane]
        self._check_asked(gather, frame.envelope.kind, frame.size, peer)
        message, payload = wire.decode_body(frame, gather.kind, peer=peer)
        self.ledger.received(peer, frame.size, payload, frame.envelope.depth, phase=gather.phase)
        return message


class _Parallel:
    """Protocols that run side by side in lockstep, each in a lane of its own."""

    __slots__ = ("_computations", "_lanes", "_party")

    def __init__(
        self, party: Party, computations: tuple[Computation[Any], ...], lanes: Sequence[Lane] = ()
    ) -> None:
        self._party = party
        self._computations = computations
        self._lanes = tuple(lanes)

    def __await__(self) -> Generator[Wait, list[dict[PartyId, Any]], list[Any]]:
        party, computations, ledger = self._party, self._computations, self._party.ledger
        outer, outer_phase = party._lane, ledger.phase
        # Numbered within the lane they branch off from: what other lanes do does not matter to it.
        first = party._lanes.get(outer, 0)
        lanes = self._lanes or [(*outer, first + i) for i in range(len(computations))]
        if not self._lanes:
            party._lanes[outer] = first + len(computations)
        phases = [outer_phase] * len(computations)
        results: list[Any] = [None] * len(computations)
        waits: dict[int, Wait] = {}

        def step(i: int, value: list[dict[PartyId, Any]] | None) -> None:
            waits.pop(i, None)
            party._lane = lanes[i]
            ledger.enter(phases[i])
            try:
                waits[i] = computations[i].send(value)  # type: ignore[arg-type]
            except StopIteration as stop:
                results[i] = stop.value
            finally:
                phases[i] = ledger.phase
                ledger.enter(outer_phase)
                party._lane = outer

        try:
            if len(outer) == MAX_LANE_DEPTH:
                raise UsageError(
                    f"protocols run side by side at most {MAX_LANE_DEPTH} deep inside each other"
                )
            for i in range(len(computations)):
                step(i, None)
            while waits:
                blocked = list(waits.items())
                got = yield tuple(gather for _, wait in blocked for gather in wait)
                taken = 0
                for i, wait in blocked:
                    step(i, got[taken : taken + len(wait)])
                    taken += len(wait)
        finally:
            for computation in computations:
                computation.close()
        return results
