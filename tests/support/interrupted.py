"""Runs of a job that are interrupted, in the simulator, with each party's checkpoints in a folder of its own.

A party that a fault crashes ends as kill -9 ends it: no gate of it is told. Whoever is left tells its gates.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from secagg.jobs import gates as gating
from secagg.jobs.checkpoints import CheckpointFolder, folder_key
from secagg.jobs.job import Job, Member, Window
from secagg.jobs.resuming import Resuming
from secagg.jobs.run import Part
from secagg.network.identity import Identity, create_identity
from secagg.network.simulated import Fault, Outcome, simulate
from secagg.network.tcp import Timeouts
from secagg.patterns.pattern import Tables
from secagg.patterns.registry import find

LAYOUTS = {  # who puts in data, and who computes
    "three": ("abc", "abc"),
    "four outside": ("ab", "wxyz"),
    "five, three compute": ("abcde", "bde"),
}


def make_job(layout: str) -> Job:
    """Return a job in which every account is told."""
    inputs, computing = (tuple(f"bank_{letter}" for letter in part) for part in LAYOUTS[layout])
    installed = find("collectors")
    return Job(
        name="test",
        installed=installed,
        parameters=installed.pattern.Parameters(min_senders=1, min_banks=1, min_total_cents=1),
        window=Window(),
        members=tuple(Member(name, ("127.0.0.1", 1), None) for name in dict.fromkeys((*inputs, *computing))),
        roles={"input": inputs, "computing": computing},
        pad_rows_to=1,
        timeouts=Timeouts(connect_s=20, silence_s=10, message_s=20),
    )


def make_tables(job: Job, rows: int = 6, *, accounts: int = 4) -> dict[str, Tables]:
    """Return a table for each input party."""
    rng = np.random.default_rng(7)

    def some(prefix: str) -> Any:
        return np.array([f"{prefix}-{i}" for i in rng.integers(0, accounts, rows)], object)

    return {
        name: {
            "transfers": {
                "beneficiary": some("ACCOUNT"),
                "sender": some(f"CUSTOMER-{name}"),
                "amount": rng.integers(1, 40_000, rows),
            }
        }
        for name in job.input_parties
    }


@functools.cache
def identity_of(name: str) -> Identity:
    """Return a party's identity, the same for all runs of a test process."""
    return create_identity(name)


def certified(job: Job) -> Job:
    """Return the job with certificates of its parties."""
    addresses = dict.fromkeys(job.roster, ("127.0.0.1", 1))
    return job.moved(addresses, {name: identity_of(name).certificate for name in job.roster})


class Interrupted:
    """A job whose parties may be interrupted and start again.

    Args:
      folder: where their checkpoints are.
      tables: of the input parties.
      gates: of each party, besides its checkpoints.
    """

    def __init__(
        self,
        job: Job,
        tables: Mapping[str, Tables],
        folder: Path,
        *,
        gates: Callable[[str], Sequence[gating.Gate]] = lambda _name: (),
    ) -> None:
        self.gates = gates
        self.job = certified(job)
        self.tables = tables
        self.folder = folder
        self.parts: dict[str, Part] = {}
        self.reads: list[str] = []  # who read its data, in all runs

    def checkpoints(self, name: str) -> CheckpointFolder:
        """Return a party's checkpoints."""
        home = self.folder / name
        home.mkdir(exist_ok=True, mode=0o700)
        return CheckpointFolder(home, folder_key(home), job=self.job.digest, me=name)

    def start(
        self, faults: Sequence[Fault] = (), *, record: bool = False, altered: Mapping[str, Any] | None = None
    ) -> Outcome[Any]:
        """Start all parties, and return how it ended."""

        def reading(name: str) -> Any:
            def read() -> Tables:
                self.reads.append(name)
                return self.tables[name]

            return read if name in self.tables else None

        self.parts = {
            name: Part(
                self.job,
                name,
                reading(name),
                gates=self.gates(name),
                identity=identity_of(name),
                resuming=Resuming(self.checkpoints(name), self.job),
            )
            for name in self.job.roster
        }
        outcome = simulate({**self.parts, **(altered or {})}, faults=faults, record=record)
        for name, error in outcome.errors.items():
            resuming = self.parts[name]._resuming
            if resuming is not None:
                resuming.failed(error)
        for name, part in self.parts.items():
            if part.party is not None and name in (*outcome.results, *outcome.errors):
                ended = gating.Outcome({}, outcome.errors.get(name))
                gating.close_all(part.gates, part.run_at_hand(), ended)
        return outcome

    def places(self) -> dict[str, str]:
        """Return by party where the last start went on: a mark, "begin", or "new"."""
        found = {}
        for name, part in self.parts.items():
            decision = part._resuming.decision if part._resuming is not None else None
            if decision is not None:
                found[name] = (
                    "new"
                    if decision.first is None
                    else "begin"
                    if decision.place is None
                    else decision.place.mark
                )
        return found

    def told(self, outcome: Outcome[Any]) -> dict[str, Any]:
        """Return what each recipient was told."""
        outcome.values()
        return {name: rows for name, rows in outcome.results.items() if rows is not None}
