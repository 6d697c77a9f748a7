"""Predictions for networks held against real processes on such networks.

A case is run in the simulator, and its trace is played again for each network (`network.trace`). Then the same programs run
as processes over TLS whose bytes pass a relay (`relay`), and the two times are compared. What this machine adds to a
run is measured first: the time of a message and of its bytes under TLS, and the relay's own time, which counts as latency.

Both runs of a pair draw the same random numbers. Else a sort, whose rounds are drawn, would be compared with another sort.

Other work on the machine slows a computation by any factor. So several pairs are run, and Linux is asked how much of the
processors others had meanwhile. The relay says how late it passed bytes on. A pair in which either is too much is
`disturbed`, and says nothing of the model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.bench.case import Case, network_named
from secagg.bench.measure import Simulator
from secagg.bench.processes import Processes
from secagg.bench.subjects import prepare
from secagg.bench.system import OTHERS, OtherWork
from secagg.cost.network import Network
from secagg.network.simulated import Outcome
from secagg.network.trace import Host, Trace
from secagg.party import Party, PartyId, Program
from secagg.prg import Stream, derive_key
from secagg.wire import Message

CASES: Final = (
    Case("pattern", "collectors", 3, 1000, 3),
    Case("operation", "sort", 3, 2000, 3),
    Case("operation", "less", 3, 20_000, 3),
    Case("protocol", "masked", 8, 20_000),
)
NETWORKS: Final = ("lan", "5ms/100mbit", "wan", "mobile")
CALIBRATIONS: Final = 3
GOAL: Final = 0.15
LATE: Final = 0.05  # and so does a relay that is late for more of the measured time
_OPEN: Final = Network(
    "open", 0.25e-3, 1e12
)  # with a wait, for a process that slept wakes later than one that did not
_SMALL, _LARGE, _TRIPS = 64, 4_000_000, 200

Quartiles = tuple[float, float, float]


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
class Pair:
    """Seconds of one run on a network, predicted and measured.

    Attributes:
      others: which part of the processors' time other work had during both runs.
      late: for which part of the measured time the relay was later than it is alone, along the rounds of the run.
    """

    predicted: float
    measured: float
    others: float = 0.0
    late: float = 0.0

    @property
    def disturbed(self) -> bool:
        """Whether other work on the machine took too much of it."""
        return self.others > OTHERS or self.late > LATE

    @property
    def difference(self) -> float:
        """By which part of the measured time the prediction is too long; negative where it is too short."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True, slots=True)
class Compared:
    """All pairs of a case on a network; figures are of those that nothing disturbed, or of all where there is none."""

    case: Case
    network: str
    pairs: tuple[Pair, ...]

    @property
    def disturbed(self) -> bool:
        """Whether other work disturbed every pair."""
        return all(pair.disturbed for pair in self.pairs)

    @property
    def used(self) -> tuple[Pair, ...]:
        """The pairs that figures are of."""
        return tuple(pair for pair in self.pairs if self.disturbed or not pair.disturbed)

    @property
    def predicted(self) -> float:
        """Median of the predicted seconds."""
        return float(np.median([pair.predicted for pair in self.used]))

    @property
    def measured(self) -> float:
        """Median of the measured seconds."""
        return float(np.median([pair.measured for pair in self.used]))

    @property
    def differences(self) -> Quartiles:
        """Quartiles of the pairs' differences."""
        low, middle, high = np.percentile([pair.difference for pair in self.used], [25, 50, 75])
        return float(low), float(middle), float(high)

    @property
    def others(self) -> float:
        """Median part of the processors' time that other work had."""
        return float(np.median([pair.others for pair in self.pairs]))

    @property
    def late(self) -> float:
        """Median part of the measured time for which the relay was late."""
        return float(np.median([pair.late for pair in self.pairs]))


def calibrate(repeat: int = CALIBRATIONS) -> Machine:
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
    return Machine(host, max(0.0, min(through) / 2 - message_s - _OPEN.latency_s))


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
    cases: Sequence[Case],
    networks: Sequence[str],
    machine: Machine,
    *,
    repeat: int = 5,
    on_pair: Callable[[Case, str], None] = lambda _case, _network: None,
) -> Iterator[Compared]:
    """Yield predicted and measured times of each case on each network, case by case.

    Args:
      on_pair: told when a pair of runs is done.

    Raises:
      SecaggError: a result is not that of the plaintext reference.
    """
    for case in cases:
        subject, pairs = prepare(case), {text: list[Pair]() for text in networks}
        for seed in range(repeat):
            simulator = Simulator()
            simulated = _Drawn(simulator, seed)
            subject.run(simulated)
            trace = simulator.trace
            for text in networks:
                network = network_named(text)
                processes = Processes(network)
                real = _Drawn(processes, seed)
                subject.run(real)
                measured = real.outcome.seconds
                rounds = max(ledger.depth for ledger in real.outcome.ledgers.values())
                late = rounds * max(0.0, processes.relay_late_s - machine.relay_s) / measured
                # Of both together: Linux counts in hundredths of a second, and a simulated run may take one.
                sim, tcp = simulated.beside, real.beside
                others = (sim.others_s + tcp.others_s) / (sim.could_s + tcp.could_s)
                pairs[text].append(Pair(predicted(trace, network, machine), measured, others, late))
                on_pair(case, text)
        for text, found in pairs.items():
            yield Compared(case, text, tuple(found))


class _Drawn:
    """A driver whose parties draw what a seed says, and that keeps the outcome of its run.

    Insecure by design: two runs share their secrets. Only inputs that are made up may be run by it.

    Attributes:
      beside: what other work had of the processors meanwhile.
    """

    def __init__(self, drive: Any, insecure_seed: int) -> None:
        self._drive, self._key = drive, insecure_seed.to_bytes(32, "big")
        self.outcome: Outcome[Any] = Outcome()
        self.beside = OtherWork()

    def __call__(self, programs: Mapping[PartyId, Program[Any]], **how: Any) -> Outcome[Any]:
        with self.beside.watched():
            self.outcome = self._drive({name: self._seeded(one) for name, one in programs.items()}, **how)
        return self.outcome

    def _seeded(self, program: Program[Any]) -> Program[Any]:
        async def run(party: Party) -> Any:
            # Before any message: keys that parties have in common depend on the session.
            party.session = derive_key(self._key, label="insecure session of a measurement")
            own = derive_key(self._key, label="insecure draws of a measurement", context=party.me.encode())
            party.rng = Stream(own)
            return await program(party)

        return run


def conclusion(rows: Sequence[Compared]) -> str:
    """Return what the rows come to, in a sentence: the largest median difference of those that nothing disturbed."""
    calm = [row for row in rows if not row.disturbed]
    left_out = len(rows) - len(calm)
    if not calm:
        return (
            f"all {len(rows)} rows are disturbed: other work had more than {OTHERS:.0%} of the processors, or made the "
            f"relay late for more than {LATE:.0%} of the time; run this on an idle machine"
        )
    worst = max(calm, key=lambda row: abs(row.differences[1]))
    rows_text = "1 row" if len(calm) == 1 else f"{len(calm)} rows"
    text = (
        f"largest difference {worst.differences[1]:+.1%} of {rows_text}: {worst.case.name} on {worst.network} "
        f"(goal {GOAL:.0%})"
    )
    if not left_out:
        return text
    return text + f"; {left_out} {'row' if left_out == 1 else 'rows'} that other work disturbed left out"
