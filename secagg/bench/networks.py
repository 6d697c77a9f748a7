"""Predictions for networks held against real processes on such networks.

A case is run in the simulator once and its trace is played again for each network (`network.trace`). Then the same programs
run as processes over TLS whose bytes pass a relay (`relay`), and the two times are compared. What this machine adds to a
run is measured first: the time of a message and of its bytes under TLS, and the relay's own time, which counts as latency.

Other work on the machine slows a computation by any factor. So both are done several times in turn, and Linux is asked how
long parties and relay were ready and waited for a processor. The run that waited least is compared. Where that is more
than a quarter of its time, the row is `disturbed`, and says nothing of the model.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.bench.case import Case, network_named
from secagg.bench.measure import Simulator
from secagg.bench.processes import Processes
from secagg.bench.subjects import prepare
from secagg.cost.network import Network
from secagg.errors import SecaggError
from secagg.network.trace import Host, Trace
from secagg.party import Party
from secagg.wire import Message

CASES: Final = (
    Case("pattern", "collectors", 3, 1000, 3),
    Case("operation", "sort", 3, 2000, 3),
    Case("operation", "less", 3, 20_000, 3),
    Case("protocol", "masked", 8, 20_000),
)
NETWORKS: Final = ("lan", "5ms/100mbit", "wan", "mobile")
DISTURBED: Final = 0.25
_OPEN: Final = Network("open", 0.0, 1e12)
_SMALL, _LARGE, _TRIPS = 64, 4_000_000, 200


class Block(Message, frozen=True):
    """Bytes that mean nothing."""

    x: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine adds to a run over its loopback interface.

    Attributes:
      host: cores, and the time of messages under TLS.
      relay_s: what the relay adds to a message's latency.
    """

    host: Host
    relay_s: float


@dataclass(frozen=True, slots=True)
class Compared:
    """Seconds of a case on a network.

    Attributes:
      queued: for how large a part of the measured time a party or the relay waited for a processor at most.
    """

    case: Case
    network: str
    predicted: float
    measured: float
    queued: float

    @property
    def disturbed(self) -> bool:
        """Whether other work on the machine took too much of it."""
        return self.queued > DISTURBED

    @property
    def difference(self) -> float:
        """By which part of the measured time the prediction is too long; negative where it is too short."""
        return self.predicted / self.measured - 1


def calibrate(repeat: int = 3) -> Machine:
    """Measure what a message costs between two processes on this machine, without a relay and through one."""
    trips, through, moved = [], [], []
    for _ in range(repeat):
        trip, bulk = _echoed(None)
        trips.append(trip)
        moved.append(bulk)
        through.append(_echoed(_OPEN)[0])
    message_s = min(trips) / 2
    byte_s = max(0.0, min(moved) / 2 - message_s) / (2 * _LARGE)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    host = Host(cores=cores, send_s=message_s / 2, receive_s=message_s / 2, byte_s=byte_s)
    return Machine(host, max(0.0, min(through) / 2 - message_s))


def _echoed(network: Network | None) -> tuple[float, float]:
    """Return the seconds of a round trip of a small message, and of a large one."""

    async def program(party: Party) -> list[float]:
        peer = party.others[0]
        took = []
        for size, times in ((_SMALL, _TRIPS), (_LARGE, 5)):
            block = np.zeros(size, np.uint8)
            for _ in range(times):
                begun = perf_counter()
                if party.me == "left":
                    party.send(peer, Block(block))
                got = await party.receive(Block, peer, max_bytes=_LARGE)
                if party.me == "right":
                    party.send(peer, got)
                took.append(perf_counter() - begun)
        return took

    outcome = Processes(network)({"left": program, "right": program})
    took = outcome.results["left"]
    return float(np.median(took[:_TRIPS])), float(np.median(took[_TRIPS:]))


def predicted(trace: Trace, network: Network, machine: Machine) -> float:
    """Return the seconds of a traced run between processes on this machine, through the relay."""
    return trace.seconds(replace(network, latency_s=network.latency_s + machine.relay_s), machine.host)


def validate(
    cases: Sequence[Case], networks: Sequence[str], machine: Machine, *, repeat: int = 3
) -> Iterator[Compared]:
    """Yield predicted and measured times of each case on each network, as they come.

    Raises:
      SecaggError: a result is not that of the plaintext reference.
    """
    for case in cases:
        subject, simulator = prepare(case), Simulator()
        for text in networks:
            network, guesses, runs = network_named(text), [], []
            for _ in range(repeat):
                subject.run(simulator)
                if simulator.trace is None:
                    raise SecaggError("the simulator kept no trace; this must never happen")
                guesses.append(predicted(simulator.trace, network, machine))
                processes = _Timed(network)
                subject.run(processes)
                runs.append((processes.queued, processes.seconds))
            queued, seconds = min(runs)
            yield Compared(case, text, min(guesses), seconds, queued)


class _Timed:
    """Processes that keep the time of the last run, and which part of it somebody waited for a processor."""

    def __init__(self, network: Network) -> None:
        self._processes = Processes(network)
        self.seconds = self.queued = 0.0

    def __call__(self, programs: Any, **how: Any) -> Any:
        outcome = self._processes(programs, **how)
        self.seconds = outcome.seconds
        most = max(each.queued_s for each in self._processes.measured.values())
        self.queued = (most + self._processes.relay_queued_s) / self.seconds
        return outcome


def conclusion(rows: Sequence[Compared]) -> str:
    """Return what the rows come to, in a sentence: the largest difference of those that nothing disturbed."""
    calm = [row for row in rows if not row.disturbed]
    left_out = len(rows) - len(calm)
    if not calm:
        return (
            f"all {len(rows)} rows are disturbed: parties waited for a processor for more than {DISTURBED:.0%} of the time; "
            "run this on an idle machine"
        )
    worst = max(calm, key=lambda row: abs(row.difference))
    text = f"largest difference {worst.difference:+.1%} of {len(calm)} rows: {worst.case.name} on {worst.network} (goal 15%)"
    return text + (f"; {left_out} rows that other work disturbed are left out" if left_out else "")
