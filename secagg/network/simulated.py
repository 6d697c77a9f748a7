"""All parties in one thread, on a virtual clock, with faults at any message.

`simulate` runs one program a party. Frames are encoded and decoded as on a real network, so the ledgers are
exact; nothing sleeps. The virtual clock knows latency and bandwidth of the network and, with `measure_compute`, each
party's own measured compute time. Then `Outcome.seconds` predicts the wall time on that network. Without it computing takes
no virtual time, and a run is a function of the programs and the seed alone.

A frame of b bytes takes b / bandwidth to leave. It begins to do so when its sender has computed so far and the frames
before it have left. Its first byte comes to the receiver `latency_s` later. The receiver's line takes one frame at a
time, in the order in which they come, at the same bandwidth. So a frame on idle lines arrives latency + b / bandwidth
after it was sent.

Faults are what a network or a crash can do. Frames that are altered (truncated, bit flipped) pass through
authenticated encryption, as on the real network: the receiver sees an `AuthenticationError` and never the
altered bytes.
"""

from __future__ import annotations

import heapq
import math
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Generic, Literal, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secagg.cost.network import LOOPBACK, Network
from secagg.errors import AbortedError, AuthenticationError, PeerVanishedError, SecaggError, UsageError
from secagg.ledger import Ledger
from secagg.network.hello import reason_for_peers
from secagg.network.trace import Trace
from secagg.party import SESSION_BYTES, Outgoing, Party, PartyId, Program, Roster, Run, aborted
from secagg.prg import KEY_BYTES, Stream, derive_key

T = TypeVar("T")


Action = Literal["drop", "delay", "duplicate", "reorder", "truncate", "flip", "crash"]
ACTIONS: Final[tuple[Action, ...]] = ("drop", "delay", "duplicate", "reorder", "truncate", "flip", "crash")


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one message.

    Args:
      action: `drop`, `delay` (by `seconds`), `duplicate`, `reorder`, `truncate`, `flip` (one bit), or `crash` (the sender
        stops for ever instead of sending it). A reordered frame arrives after the sender's next one to the same receiver,
        or not at all where there is none.
      message: number of the message among those that match, from 0.
      sender, receiver: which messages count; None for any.
      seconds: for `delay`.
    """

    action: Action
    message: int
    sender: PartyId | None = None
    receiver: PartyId | None = None
    seconds: float = 0.5


@dataclass(slots=True)
class Outcome(Generic[T]):
    """How a simulated run ended.

    Attributes:
      results: what the programs that ended well returned.
      errors: what the others raised; a crashed party is in neither.
      ledgers: what the run cost each party.
      seconds: virtual time from start until the last party ended.
      messages: frames handed to the network.
      transcript: (sender, receiver, frame), if asked for.
      trace: what each party computed, read and sent, step by step, if asked for.
    """

    results: dict[PartyId, T] = field(default_factory=dict)
    errors: dict[PartyId, BaseException] = field(default_factory=dict)
    ledgers: dict[PartyId, Ledger] = field(default_factory=dict)
    seconds: float = 0.0
    messages: int = 0
    transcript: list[tuple[PartyId, PartyId, bytes]] = field(default_factory=list)
    trace: Trace | None = None

    def values(self) -> list[T]:
        """Return the results in roster order, or raise what ended the run, with a note of whose program raised it.

        Raises:
          PeerVanishedError: a party crashed, and nobody noticed.
        """
        failed = [name for name in self.ledgers if name in self.errors]
        # What a party heard from another that ended the run says less than that other's own error.
        for name in sorted(failed, key=lambda name: isinstance(self.errors[name], AbortedError)):
            error, note = self.errors[name], f"raised in the program of {name}"
            if note not in getattr(error, "__notes__", ()):
                error.add_note(note)
            raise error
        for name in self.ledgers:
            if name not in self.results:
                raise PeerVanishedError(f"{name} crashed and has no result", peer=name)
        return [self.results[name] for name in self.ledgers]


class _Simulation(Generic[T]):
    def __init__(
        self,
        programs: Mapping[PartyId, Program[T]],
        network: Network,
        faults: Sequence[Fault],
        starts: Mapping[PartyId, float],
        *,
        insecure_seed: int | None,
        measure_compute: bool,
        record: bool,
        trace: bool,
    ) -> None:
        system = Stream(_seed_key(insecure_seed)) if insecure_seed is not None else None
        session = (system or Stream(_system_key())).bytes(SESSION_BYTES)
        roster = Roster(tuple(programs))
        self.network = network
        self.measure_compute = measure_compute
        self.record = record
        self.outcome: Outcome[T] = Outcome()
        self.parties = {
            name: Party(
                name, roster, session=session, rng=Stream(system.bytes(KEY_BYTES)) if system else None
            )
            for name in roster
        }
        for party in self.parties.values():
            party.simulated = True
        if trace:
            self.outcome.trace = Trace(tuple(roster))
            for name, party in self.parties.items():
                party.on_read = partial(self.outcome.trace.read, name)
        self.runs = {name: Run(party, programs[name](party)) for name, party in self.parties.items()}
        self.outcome.ledgers = {name: party.ledger for name, party in self.parties.items()}
        self._starts = starts
        self._faults = list(faults)
        self._matched = [0] * len(faults)
        self._held: dict[tuple[PartyId, PartyId], bytes] = {}
        # Sealing every frame only where a fault alters one keeps fault-free simulation cheap.
        self._seal = AESGCM(_system_key()) if any(f.action in ("truncate", "flip") for f in faults) else None
        self._random = random.Random(insecure_seed)  # noqa: S311  # which bit a fault flips, nothing else
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._counter = 0
        self._now = 0.0
        self._clock = dict.fromkeys(roster, 0.0)  # when each party is free
        self._line_out = dict.fromkeys(roster, 0.0)
        self._line_in = dict.fromkeys(roster, 0.0)
        self._epoch = dict.fromkeys(roster, 0)  # how often each has gone on; outdates its older alarms
        self._waits_since = dict.fromkeys(roster, 0.0)
        self._last: dict[tuple[PartyId, PartyId], float] = {}  # when a pair's last frame arrives
        self._running = dict.fromkeys(roster)  # neither ended nor crashed
        self._started: set[PartyId] = set()
        self._crashed: set[PartyId] = set()

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, self._counter, what))
        self._counter += 1

    def go(self) -> Outcome[T]:
        for name in self.runs:
            self.at(self._starts.get(name, 0.0), partial(self.wake, name, start=True))
        while self._events:
            self._now, _, event = heapq.heappop(self._events)
            event()
        for name, run in self.runs.items():
            if name in self._crashed:
                continue
            if run.error is not None:
                self.outcome.errors[name] = run.error
            else:
                self.outcome.results[name] = run.result()
        return self.outcome

    def wake(self, name: PartyId, *, start: bool = False, late: bool = False) -> None:
        """Let a party go on to its next wait; what it sent leaves when it has computed so long."""
        run, party = self.runs[name], self.parties[name]
        if name not in self._running or not (start or late or (name in self._started and party.ready)):
            return
        free = self._clock[name]
        if free > self._now:
            self.at(free, partial(self.wake, name, start=start, late=late))
            return
        if not start:
            party.ledger.waited(self._now - free)
        before = party.ledger.total().compute_s if self.measure_compute else 0.0
        trace = self.outcome.trace
        if trace is not None:
            trace.begin(name)
        if start:
            self._started.add(name)
            run.start()
        else:
            run.step(late=late)
        took = party.ledger.total().compute_s - before if self.measure_compute else 0.0
        if trace is not None:
            trace.end(name, took, [(sent.to, sent.size) for sent in party.outbox])
        self._clock[name] = self._now + took
        self._epoch[name] += 1
        if took:
            self.at(self._clock[name], partial(self.flush, name))
        else:
            self.flush(name)

    def flush(self, name: PartyId) -> None:
        """Carry what a party sent; then it ends, goes on, or waits."""
        run, party = self.runs[name], self.parties[name]
        while party.outbox and name not in self._crashed:  # carrying may crash the party
            self.carry(name, party.outbox.popleft())
        if name in self._crashed:
            return
        if run.done:
            del self._running[name]
            self.outcome.seconds = max(self.outcome.seconds, self._now)
            if run.error is not None:
                self.abort(name, run.error)
        elif party.ready:
            self.at(self._now, partial(self.wake, name))
        else:
            if not party.continued:
                self._waits_since[name] = self._now
            limit = self._waits_since[name] + (party.timeout_s or self.network.timeout_s)
            self.at(max(limit, self._now), partial(self.alarm, name, self._epoch[name]))

    def alarm(self, name: PartyId, epoch: int) -> None:
        if epoch == self._epoch[name]:
            self.wake(name, late=True)

    def abort(self, name: PartyId, error: BaseException) -> None:
        """Tell everybody that a party ended with an error, as the real network does."""
        self.end(name, aborted(name, *reason_for_peers(error)))

    def end(self, name: PartyId, error: SecaggError) -> None:
        """Let every other party meet `error` once the frames that `name` sent it have arrived."""
        left = max(self._line_out[name], self._now)
        self.at(left + self.network.latency_s, partial(self.tell_others, name, error))

    def tell_others(self, name: PartyId, error: SecaggError) -> None:
        # Only those still running: when thousands end because one did, not each has to hear of each.
        for peer in list(self._running):
            if peer != name:
                when = self._last.get((name, peer), -1.0)
                if when >= self._now:  # behind the frame that arrives at this very time
                    self.at(when, partial(self.lose, peer, name, error))
                else:
                    self.lose(peer, name, error)

    def lose(self, name: PartyId, peer: PartyId, error: SecaggError) -> None:
        self.parties[name].fail(peer, error)
        self.wake(name)

    def carry(self, sender: PartyId, outgoing: Outgoing) -> None:
        frame = b"".join(outgoing.frame)
        receiver = outgoing.to
        self.outcome.messages += 1
        if self.record:
            self.outcome.transcript.append((sender, receiver, frame))
        fault = self._fault(sender, receiver)
        action = fault.action if fault else None
        if action == "crash":
            self.crash(sender)
            return
        copies, extra = 1, 0.0
        if action == "drop":
            copies = 0
        elif action == "duplicate":
            copies = 2
        elif action == "delay" and fault:
            extra = fault.seconds
        elif action == "reorder":
            self._held[sender, receiver] = frame
            return
        for _ in range(copies):
            self._transmit(sender, receiver, frame, action, extra)
        if (held := self._held.pop((sender, receiver), None)) is not None:
            self._transmit(sender, receiver, held, None, 0.0)

    def _fault(self, sender: PartyId, receiver: PartyId) -> Fault | None:
        hit = None
        for i, fault in enumerate(self._faults):
            if fault.sender in (None, sender) and fault.receiver in (None, receiver):
                if self._matched[i] == fault.message and hit is None:
                    hit = fault
                self._matched[i] += 1
        return hit

    def _transmit(
        self, sender: PartyId, receiver: PartyId, frame: bytes, action: Action | None, extra: float
    ) -> None:
        if receiver in self._crashed:
            return
        begins = max(self._line_out[sender], self._now)
        self._line_out[sender] = begins + len(frame) / self.network.bytes_per_s
        self.at(begins + self.network.latency_s, partial(self._reach, sender, receiver, frame, action, extra))

    def _reach(
        self, sender: PartyId, receiver: PartyId, frame: bytes, action: Action | None, extra: float
    ) -> None:
        """The first byte has come to the receiver's line, which takes frames in this order."""
        arrives = max(self._now, self._line_in[receiver]) + len(frame) / self.network.bytes_per_s
        self._line_in[receiver] = arrives
        arrives += extra
        self._last[sender, receiver] = max(arrives, self._last.get((sender, receiver), 0.0))
        if self._seal is None:
            self.at(arrives, partial(self._arrive, sender, receiver, frame))
            return
        nonce = self._counter.to_bytes(12, "big")  # counts on with every event
        sealed = self._seal.encrypt(nonce, frame, f"{sender}>{receiver}".encode())
        if action == "truncate":
            sealed = sealed[: self._random.randrange(len(sealed))]
        elif action == "flip":
            position = self._random.randrange(8 * len(sealed))
            altered = bytearray(sealed)
            altered[position // 8] ^= 1 << position % 8
            sealed = bytes(altered)
        self.at(arrives, partial(self._unseal, self._seal, sender, receiver, nonce, sealed))

    def _unseal(self, seal: AESGCM, sender: PartyId, receiver: PartyId, nonce: bytes, sealed: bytes) -> None:
        try:
            frame = seal.decrypt(nonce, sealed, f"{sender}>{receiver}".encode())
        except InvalidTag:
            self.lose(
                receiver,
                sender,
                AuthenticationError(
                    f"a frame from {sender} was altered on the way; the connection ended", peer=sender
                ),
            )
        else:
            self._arrive(sender, receiver, frame)

    def _arrive(self, sender: PartyId, receiver: PartyId, frame: bytes) -> None:
        if receiver in self._running:
            self.parties[receiver].deliver(bytearray(frame), sender)
            self.wake(receiver)

    def crash(self, name: PartyId) -> None:
        self._crashed.add(name)
        del self._running[name]
        self.end(name, PeerVanishedError(f"{name} ended its connection before the run was over", peer=name))


def _system_key() -> bytes:
    return secrets.token_bytes(KEY_BYTES)


def _seed_key(seed: int) -> bytes:
    return derive_key(seed.to_bytes(32, "big", signed=True), label="insecure simulation seed")


def simulate(
    programs: Mapping[PartyId, Program[T]],
    *,
    network: Network = LOOPBACK,
    faults: Sequence[Fault] = (),
    starts: Mapping[PartyId, float] | None = None,
    insecure_seed: int | None = None,
    measure_compute: bool = False,
    record: bool = False,
    trace: bool = False,
) -> Outcome[T]:
    """Run one program a party in this thread and return how it ended.

    Args:
      programs: for each party, in roster order, a function from its `Party` to its coroutine.
      network: what the virtual clock assumes.
      faults: what happens to which message.
      starts: when parties start, in virtual seconds, those that are not there at the beginning. Of many that send
        large messages to one, started one after the other, not all messages lie in memory at once.
      insecure_seed: makes every random draw, also the parties' secrets, a function of this number, so that
        the run can be repeated. Never with real data.
      measure_compute: charge each party's measured compute time to the virtual clock.
      record: keep every frame in `Outcome.transcript`.
      trace: keep what each party computed, read and sent in `Outcome.trace`; not with faults.

    Raises:
      UsageError: no parties, a start of a stranger or before the beginning, or faults in a run that is traced.
    """
    if trace and faults:
        raise UsageError(
            "expected a run without faults to trace: its messages have to arrive as they were sent"
        )
    if not programs:
        raise UsageError("expected at least one party, got none")
    starts = starts or {}
    for name, when in starts.items():
        if name not in programs or not 0 <= when < math.inf:
            raise UsageError(f"expected parties to start at 0 s or later, got {name!r:.80} at {when} s")
    simulation = _Simulation(
        programs,
        network,
        faults,
        starts,
        insecure_seed=insecure_seed,
        measure_compute=measure_compute,
        record=record,
        trace=trace,
    )
    return simulation.go()
