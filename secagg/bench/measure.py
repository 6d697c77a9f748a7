"""One case measured: repeated runs, and what they cost each party, by phase and by link.

Of a role of more than eight parties each figure is the maximum over the role, and need not be of the party that another
figure is of. A run of a thousand clients would otherwise fill a table with a thousand equal rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np

from secagg.bench.case import Case, network_named
from secagg.bench.machine import machine, versions, where
from secagg.bench.processes import Measured, Processes
from secagg.bench.store import FORMAT
from secagg.bench.subjects import Finished, prepare
from secagg.bench.system import OtherWork, forget_peak
from secagg.cost.operation import Cost
from secagg.errors import SecaggError
from secagg.ledger import Ledger, Usage
from secagg.network.memory import peak_bytes
from secagg.network.simulated import Outcome, simulate
from secagg.network.trace import Trace
from secagg.party import PartyId

_SHOWN: Final = 8  # parties of a role that are shown one by one

OnRepeat = Callable[[int], None]
Verdict = Literal["equal", "fewer", "expected", "differs"]


class Simulator:
    """Drives programs in the simulator, with computing measured, and keeps the trace of the last run."""

    def __init__(self) -> None:
        self._trace: Trace | None = None

    @property
    def trace(self) -> Trace:
        """The trace of the last run."""
        if self._trace is None:
            raise SecaggError("the simulator kept no trace; this must never happen")
        return self._trace

    def __call__(self, programs: Any, *, network: Any, faults: Any, starts: Any) -> Outcome[Any]:
        outcome: Outcome[Any] = simulate(
            programs, network=network, faults=faults, starts=starts, measure_compute=True, trace=True
        )
        self._trace = outcome.trace
        return outcome


class _Kept:
    """A driver that keeps the ledgers of the last run."""

    def __init__(self, drive: Any) -> None:
        self._drive = drive
        self.ledgers: Mapping[PartyId, Ledger] = {}
        self.seconds = 0.0

    def __call__(self, programs: Any, **how: Any) -> Outcome[Any]:
        begun = time.perf_counter()
        outcome: Outcome[Any] = self._drive(programs, **how)
        simulated = isinstance(self._drive, Simulator)
        self.seconds = time.perf_counter() - begun if simulated else outcome.seconds
        self.ledgers = outcome.ledgers
        return outcome


def measure(case: Case, on_repeat: OnRepeat = lambda _: None) -> dict[str, Any]:
    """Return what a case costs, as plain data.

    Raises:
      SecaggError: it cannot be run, or its result is not that of the plaintext reference.
    """
    subject = prepare(case)
    processes, simulator = Processes(), Simulator()
    kept = _Kept(processes if case.tcp else simulator)
    networks = [network_named(text) for text in case.networks]
    runs: list[Mapping[PartyId, Ledger]] = []
    seconds: list[float] = []
    predicted: list[list[float]] = []
    measured: list[Mapping[PartyId, Measured]] = []
    errors: list[float] = []
    forgets = forget_peak()
    beside = OtherWork()
    for done in range(case.repeat):
        with beside.watched():
            finished = subject.run(kept)
        runs.append(kept.ledgers)
        errors.append(finished.error)
        seconds.append(kept.seconds)
        if case.tcp:
            measured.append(dict(processes.measured))
        else:
            predicted.append([simulator.trace.seconds(network) for network in networks])
        on_repeat(done + 1)
    labels = _labels(finished.roles, runs[0])
    peaks = [max(each.peak_bytes for each in one.values()) for one in measured]
    return {
        "format": FORMAT,
        "case": case.as_dict(),
        "key": case.key,
        "where": where(),
        "machine": machine(),
        "versions": versions(),
        "parameters": finished.parameters,
        "security": finished.security,
        "seconds": _quartiles(seconds),
        "others_share": beside.share,
        "networks": {
            text: _quartiles([one[i] for one in predicted])
            for i, text in enumerate(case.networks)
            if predicted
        },
        "peak_bytes": max(peaks) if case.tcp else peak_bytes(),
        "peak_of": "the party with most" if case.tcp else "all parties" if forgets else "the whole process",
        "rounds": max(ledger.depth for ledger in runs[-1].values()),
        "messages": sum(ledger.total().sent.messages for ledger in runs[-1].values()),
        "error": max(errors),
        "bound": finished.bound,
        "declared": _declared(finished, runs[-1]),
        "roles": {label: _role(finished.roles, name) for name, label in labels.items()},
        "parties": _parties(labels, runs),
        "links": _links(labels, runs[-1]),
    }


def _labels(roles: Mapping[str, Sequence[PartyId]], ledgers: Mapping[PartyId, Ledger]) -> dict[PartyId, str]:
    """Return under which name each party is shown."""
    labels: dict[PartyId, str] = {}
    for role, names in roles.items():
        crowd = len(names) > _SHOWN
        for name in names:
            labels.setdefault(name, f"{role}: maxima of {len(names)}" if crowd else name)
    return {name: labels.get(name, name) for name in ledgers}


def _role(roles: Mapping[str, Sequence[PartyId]], party: PartyId) -> str:
    return next((role for role, names in roles.items() if party in names), "party")


def _declared(finished: Finished, ledgers: Mapping[PartyId, Ledger]) -> dict[str, Any]:
    """Return the declared cost, whether it is an expectation, and whether all parties send just the declared bytes."""
    if finished.declared is None:
        return {}
    costs: dict[PartyId, Cost] = {name: finished.declared(name) for name in ledgers}
    sent = {name: ledger.total().sent.payload_bytes for name, ledger in ledgers.items()}
    return {
        "rounds": max(cost.rounds for cost in costs.values()),
        "payload_bytes": max(cost.payload_bytes[name] for name, cost in costs.items()),
        "expected": any(cost.expected for cost in costs.values()),
        "bytes_equal": all(sent[name] == cost.payload_bytes[name] for name, cost in costs.items()),
    }


def against_declared(result: Mapping[str, Any], figure: Literal["rounds", "bytes"]) -> Verdict | None:
    """Return how a figure of a result is to what is declared; None where nothing is.

    `equal` bytes are those that each party sends. `fewer` are rounds alone, where a party need not wait in each.
    """
    declared = result["declared"]
    if not declared:
        return None
    if declared["bytes_equal"] if figure == "bytes" else result["rounds"] == declared["rounds"]:
        return "equal"
    if declared["expected"]:
        return "expected"
    return "fewer" if figure == "rounds" and result["rounds"] < declared["rounds"] else "differs"


def _parties(labels: Mapping[PartyId, str], runs: Sequence[Mapping[PartyId, Ledger]]) -> dict[str, Any]:
    """Return the usage of each party shown, by phase, with quartiles of its seconds over the runs."""
    shown: dict[str, dict[str, Any]] = {}
    for label in dict.fromkeys(labels.values()):
        ledgers = [[run[name] for name in run if labels[name] == label] for run in runs]
        phases = dict.fromkeys(
            phase for each in ledgers[-1] for phase, usage in each.phases.items() if usage != Usage()
        )
        shown[label] = {
            phase: _usage([[led.phases.get(phase, Usage()) for led in run] for run in ledgers])
            for phase in phases
        }
        shown[label]["total"] = _usage([[ledger.total() for ledger in run] for run in ledgers])
    return shown


def _usage(runs: Sequence[Sequence[Usage]]) -> dict[str, Any]:
    last = runs[-1]
    return {
        "rounds": max(usage.rounds for usage in last),
        "messages": max(usage.sent.messages for usage in last),
        "frame_bytes": max(usage.sent.frame_bytes for usage in last),
        "payload_bytes": max(usage.sent.payload_bytes for usage in last),
        "received_bytes": max(usage.received.frame_bytes for usage in last),
        "compute_s": _quartiles([max(usage.compute_s for usage in run) for run in runs]),
        "middle_s": _quartiles([float(np.median([usage.compute_s for usage in run])) for run in runs]),
        "wait_s": _quartiles([max(usage.wait_s for usage in run) for run in runs]),
    }


def _links(labels: Mapping[PartyId, str], ledgers: Mapping[PartyId, Ledger]) -> list[dict[str, Any]]:
    most: dict[tuple[str, str], dict[str, Any]] = {}
    for name, ledger in ledgers.items():
        for peer, traffic in ledger.sent_to.items():
            pair = (labels[name], labels[peer])
            before = most.setdefault(pair, {"messages": 0, "frame_bytes": 0, "payload_bytes": 0})
            for figure in before:
                before[figure] = max(before[figure], getattr(traffic, figure))
    return [{"sender": one, "receiver": other, **figures} for (one, other), figures in most.items()]


def _quartiles(values: Sequence[float]) -> list[float]:
    return [float(x) for x in np.percentile(values, [25, 50, 75])]
