"""Runs of three parties with a home folder each, in the simulator: two banks put in data, and a third party computes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from secagg.home import Home
from secagg.jobs.gates import Gate, Outcome, recorded
from secagg.jobs.job import Job, Member, Window
from secagg.jobs.record import described_job
from secagg.jobs.run import Part
from secagg.network.identity import Identity, create_identity
from secagg.network.simulated import Fault, simulate
from secagg.network.tcp import Timeouts
from secagg.party import Party
from secagg.patterns.banking.structuring import STRUCTURING
from secagg.patterns.pattern import Spending, Tables, Terms
from secagg.patterns.registry import Installed, find

BANKS = ("north", "south")
ROSTER = (*BANKS, "west")


@functools.cache
def identity(name: str) -> Identity:
    return create_identity(name)


class Quick(type(STRUCTURING)):  # type: ignore[misc]
    """A pattern that agrees as others do, and computes nothing; it declares what it is told to release with noise."""

    def __init__(self, releases: Sequence[Spending]) -> None:
        self.releases = releases

    async def run(self, party: Party, parameters: Any, terms: Terms, agreed: Any) -> list[Any] | None:
        return [] if party.me in self.recipients(terms) else None

    def spends(self, parameters: Any, terms: Any) -> Sequence[Spending]:
        return self.releases


def make_job(*releases: Spending, limit_cents: int = 100_000) -> Job:
    """Return a job that releases this with noise."""
    installed = Installed(Quick(releases), find("structuring").origin)
    return Job(
        name="joint",
        installed=installed,
        parameters=installed.pattern.Parameters(limit_cents=limit_cents),
        window=Window(),
        members=tuple(
            Member(name, ("127.0.0.1", 1 + i), identity(name).certificate) for i, name in enumerate(ROSTER)
        ),
        roles={"input": BANKS, "computing": ROSTER},
        pad_rows_to=1,
        timeouts=Timeouts(connect_s=10, silence_s=10, message_s=10),
    )


def make_tables(customers: Sequence[str] = ("a", "b")) -> Tables:
    amounts = np.full(len(customers), 60_000, np.int64)
    return {"deposits": {"customer": np.array(customers, object), "amount": amounts}}


def make_homes(folder: Path) -> dict[str, Home]:
    return {name: Home.create(folder / name) for name in ROSTER}


def run_jointly(
    job: Job,
    homes: Mapping[str, Home],
    gates: Callable[[Home], Sequence[Gate]],
    *,
    tables: Mapping[str, Tables] | None = None,
    resumes: bytes | None = None,
    faults: Sequence[Fault] = (),
    records: dict[str, Any] | None = None,
) -> dict[str, BaseException | None]:
    """Run a job at all parties, and return each party's error, None where it ended well.

    Args:
      records: takes what each party's record would say of it.
    """
    given = tables or {name: make_tables() for name in BANKS}
    parts = {
        name: Part(
            job,
            name,
            functools.partial(given.__getitem__, name) if name in BANKS else None,
            gates=gates(homes[name]),
            identity=identity(name),
            resumes=resumes,
        )
        for name in ROSTER
    }
    outcome = simulate(parts, faults=faults)
    ended: dict[str, BaseException | None] = {name: outcome.errors.get(name) for name in ROSTER}
    for name, part in parts.items():
        if records is not None:
            about = described_job(job, name)
            run = {"job": job.name, "session": part.session.hex(), "gates": recorded(part.stated)}
            records[name] = about | run
        if part.party is not None:
            for gate in part.gates:
                gate.close(part.run_at_hand(), Outcome({}, ended[name]))
    return ended
