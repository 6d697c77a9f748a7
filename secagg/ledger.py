"""What a run cost one party: bytes, messages, rounds and seconds, by phase and by peer.

The party itself writes the ledger as messages are encoded and read, so the figures are exact:

- `frame_bytes` counts whole frames, `payload_bytes` the arrays in them, which a `Cost` declares;
- `rounds` is causal depth: the longest chain of messages in which each was sent after the one before it
  had been read;
- `compute_s` is time spent in protocol code, `wait_s` time spent waiting for messages and sending them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from time import perf_counter

from secagg.cost.operation import Cost
from secagg.link_digests import LinkDigests

START_PHASE = "start"


@dataclass(slots=True)
class Traffic:
    """Messages one way."""

    messages: int = 0
    frame_bytes: int = 0
    payload_bytes: int = 0

    def add(self, frame_bytes: int, payload_bytes: int) -> None:
        self.messages += 1
        self.frame_bytes += frame_bytes
        self.payload_bytes += payload_bytes


@dataclass(slots=True)
class Usage:
    """What a phase, or a whole run, used at one party, as measured."""

    rounds: int = 0
    sent: Traffic = field(default_factory=Traffic)
    received: Traffic = field(default_factory=Traffic)
    compute_s: float = 0.0
    wait_s: float = 0.0


class Ledger:
    """The costs of one party in one run."""

    __slots__ = ("_since", "_usage", "depth", "links", "phase", "phases", "received_from", "sent_to")

    def __init__(self) -> None:
        self.phases: dict[str, Usage] = {START_PHASE: Usage()}
        self.sent_to: dict[str, Traffic] = {}
        self.received_from: dict[str, Traffic] = {}
        self.depth = 0
        self.links: LinkDigests | None = None  # of what passes over the links, where the driver keeps them
        self.phase = START_PHASE
        self._usage = self.phases[START_PHASE]
        self._since: float | None = None  # since when the protocol computes in this phase

    def enter(self, phase: str) -> None:
        """Charge what follows to `phase`; a phase may be entered again."""
        if phase == self.phase:
            return
        if self._since is not None:
            self.pause()
            self.resume()
        self.phase = phase
        self._usage = self.phases.setdefault(phase, Usage())

    def sent(self, peer: str, frame_bytes: int, payload_bytes: int) -> None:
        self._usage.sent.add(frame_bytes, payload_bytes)
        self.sent_to.setdefault(peer, Traffic()).add(frame_bytes, payload_bytes)

    def received(self, peer: str, frame_bytes: int, payload_bytes: int, depth: int, *, phase: str) -> None:
        """Count a message when the protocol reads it, in the phase that asked for it."""
        usage = self.phases[phase]
        usage.received.add(frame_bytes, payload_bytes)
        self.received_from.setdefault(peer, Traffic()).add(frame_bytes, payload_bytes)
        if depth > self.depth:
            usage.rounds += depth - self.depth
            self.depth = depth

    def resume(self) -> None:
        """The protocol's own code begins to run."""
        self._since = perf_counter()

    def pause(self) -> None:
        """The protocol waits or has ended: charge the time since `resume` to the phase."""
        if self._since is not None:
            self._usage.compute_s += perf_counter() - self._since
            self._since = None

    def waited(self, seconds: float) -> None:
        self._usage.wait_s += seconds

    def total(self) -> Usage:
        """Return the sum over all phases."""
        whole = Usage()
        for cost in self.phases.values():
            whole.rounds += cost.rounds
            whole.compute_s += cost.compute_s
            whole.wait_s += cost.wait_s
            for mine, other in ((whole.sent, cost.sent), (whole.received, cost.received)):
                mine.messages += other.messages
                mine.frame_bytes += other.frame_bytes
                mine.payload_bytes += other.payload_bytes
        return whole

    def cost(self, party: str) -> Cost:
        """Return the total as a `Cost` of the party whose ledger this is, to compare with a declared one."""
        total = self.total()
        return Cost.of(party, total.rounds, total.sent.payload_bytes, total.sent.messages)

    def as_dict(self) -> dict[str, object]:
        """Return plain data for a run record; phases in which nothing happened are left out."""
        return {
            "total": asdict(self.total()),
            "phases": {name: asdict(cost) for name, cost in self.phases.items() if cost != Usage()},
            "sent_to": {peer: asdict(traffic) for peer, traffic in self.sent_to.items()},
            "received_from": {peer: asdict(traffic) for peer, traffic in self.received_from.items()},
            "links": {} if self.links is None else self.links.as_dict(),
        }
