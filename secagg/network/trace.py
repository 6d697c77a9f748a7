"""What each party of a simulated run computed, read and sent, and how long the same run takes on other networks.

One measured run is enough for predictions on many networks: `Trace.seconds` plays its steps again on a virtual clock, and
computes nothing. A step begins when its party is free and the messages that it read have come; what it sent leaves when it
has computed. Who read which message is taken from the run. So a protocol that takes messages in the order in which they
come is predicted with the order of the measured run.

The clock is that of `simulated` with two things more. Messages that meet at a receiver's line take turns, as packets do
(`turn_bytes`), where the simulator carries them whole. And a `Host` adds the cores that the parties share, and the
processor time that a message and its bytes take under TLS.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from secagg.cost.network import Network
from secagg.errors import UsageError
from secagg.party import PartyId

_TURN_S: Final = 5e-3
_LEAST_TURN, _MOST_TURN = 1500, 1 << 16
_MOST_TURNS: Final = 256  # of one message


def turn_bytes(network: Network) -> int:
    """Return how many bytes of one message pass a line before another's turn: some milliseconds of it."""
    return int(min(max(_TURN_S * network.bytes_per_s, _LEAST_TURN), _MOST_TURN))


@dataclass(frozen=True, slots=True)
class Host:
    """What the machines of the parties add to the time of a run.

    Args:
      cores: processors that all parties share, where they run on one machine; None: each party has its own.
      send_s, receive_s: processor seconds of a message, at who sends and who receives it.
      byte_s: processor seconds of a byte of a message at each of both: encryption, and copies in and out of the system.
    """

    cores: int | None = None
    send_s: float = 0.0
    receive_s: float = 0.0
    byte_s: float = 0.0

    def __post_init__(self) -> None:
        if (self.cores is not None and self.cores < 1) or min(self.send_s, self.receive_s, self.byte_s) < 0:
            raise UsageError(f"expected at least one core and no negative times, got {self}")


@dataclass(slots=True)
class Step:
    """What a party did between two waits.

    Attributes:
      took: seconds of computing.
      reads: (sender, number) of the messages that it read, numbered from 0 by pair of parties.
      sends: (receiver, bytes of the frame), in order.
    """

    took: float = 0.0
    reads: list[tuple[PartyId, int]] = field(default_factory=list)
    sends: list[tuple[PartyId, int]] = field(default_factory=list)


@dataclass(slots=True)
class Trace:
    """The steps of each party of a run, in order; written by the simulator."""

    parties: tuple[PartyId, ...]
    steps: dict[PartyId, list[Step]] = field(default_factory=dict)

    def begin(self, party: PartyId) -> None:
        """Begin a step."""
        self.steps.setdefault(party, []).append(Step())

    def read(self, party: PartyId, sender: PartyId, number: int) -> None:
        """Note a message that the step read."""
        self.steps[party][-1].reads.append((sender, number))

    def end(self, party: PartyId, took: float, sends: Sequence[tuple[PartyId, int]]) -> None:
        """End the step; sends: receivers and sizes."""
        step = self.steps[party][-1]
        step.took, step.sends = took, list(sends)

    def seconds(self, network: Network, host: Host | None = None) -> float:
        """Return how long the run takes on a network, from when all parties are ready to when the last has ended."""
        return _Replay(self, network, host or Host()).go()


class _Replay:
    def __init__(self, trace: Trace, network: Network, host: Host) -> None:
        self.network, self.host, self.steps = network, host, trace.steps
        self.turn = turn_bytes(network)
        self.events: list[tuple[float, int, str, PartyId, int, float]] = []
        self.counter = 0
        self.next_step = dict.fromkeys(trace.steps, 0)
        self.busy = dict.fromkeys(trace.steps, False)
        self.line_out = dict.fromkeys(trace.parties, 0.0)
        self.line_in = dict.fromkeys(trace.parties, 0.0)
        self.running, self.waiting = 0, deque[PartyId]()
        # Which step of its receiver reads a message, and how many messages a step still lacks.
        self.reader = {
            (sender, name, number): i
            for name, steps in trace.steps.items()
            for i, step in enumerate(steps)
            for sender, number in step.reads
        }
        self.lacks = {name: [len(step.reads) for step in steps] for name, steps in trace.steps.items()}
        self.sizes: dict[tuple[PartyId, PartyId], list[int]] = {}
        for name, steps in trace.steps.items():
            for step in steps:
                for to, size in step.sends:
                    self.sizes.setdefault((name, to), []).append(size)
        self.sent = dict.fromkeys(self.sizes, 0)

    def at(self, when: float, what: str, party: PartyId, step: int = 0, size: float = 0.0) -> None:
        heapq.heappush(self.events, (when, self.counter, what, party, step, size))
        self.counter += 1

    def go(self) -> float:
        ended = 0.0
        for name in self.steps:
            self.start(name, 0.0)
        while self.events:
            now, _, what, party, step, size = heapq.heappop(self.events)
            if what in ("pass", "reach"):  # the first byte of a turn has come to the receiver's line
                arrives = max(now, self.line_in[party]) + size / self.network.bytes_per_s
                self.line_in[party] = arrives
                if what == "reach":  # with the last turn the message has arrived
                    self.at(arrives, "arrive", party, step)
            elif what == "arrive":
                if step >= 0:
                    self.lacks[party][step] -= 1
                self.start(party, now)
            else:
                ended = max(ended, now)
                self.finish(party, now)
        if any(self.next_step[name] < len(steps) for name, steps in self.steps.items()):
            raise UsageError(
                "expected the trace of a run that ended well, got one with messages that nobody sent"
            )
        return ended

    def start(self, name: PartyId, now: float) -> None:
        """Let a party compute, if it is free, has what it needs and finds a core."""
        i = self.next_step[name]
        if self.busy[name] or i == len(self.steps[name]) or self.lacks[name][i]:
            return
        self.busy[name] = True
        if self.host.cores is not None and self.running >= self.host.cores:
            self.waiting.append(name)
            return
        self.compute(name, now)

    def compute(self, name: PartyId, now: float) -> None:
        step, host = self.steps[name][self.next_step[name]], self.host
        moved = sum(size for _, size in step.sends)
        moved += sum(self.sizes[sender, name][number] for sender, number in step.reads)
        took = step.took + moved * host.byte_s
        took += len(step.sends) * host.send_s + len(step.reads) * host.receive_s
        self.running += 1
        self.at(now + took, "finish", name)

    def finish(self, name: PartyId, now: float) -> None:
        self.running -= 1
        self.busy[name] = False
        for to, size in self.steps[name][self.next_step[name]].sends:
            number = self.sent[name, to]
            self.sent[name, to] = number + 1
            step = self.reader.get((name, to, number), -1)
            turns = min(max(1, -(-size // self.turn)), _MOST_TURNS)
            for turn in range(1, turns + 1):
                begins = max(self.line_out[name], now)
                self.line_out[name] = begins + size / turns / self.network.bytes_per_s
                what = "reach" if turn == turns else "pass"
                self.at(begins + self.network.latency_s, what, to, step, size / turns)
        self.next_step[name] += 1
        if self.waiting:
            self.compute(self.waiting.popleft(), now)
        self.start(name, now)
