"""Runs of three parties over TLS, each with a home folder and its audit log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ports import reserved_ports
from secagg.home import Home
from secagg.jobs.job import Job, Member, Window
from secagg.jobs.output import Output
from secagg.jobs.record import PartyResult
from secagg.jobs.run import run_job
from secagg.joint.audit.gate import AuditGate
from secagg.network.identity import Identity, create_identity
from secagg.network.tcp import Timeouts
from secagg.patterns.pattern import Tables
from secagg.patterns.registry import find

BANKS = ("bank_a", "bank_b")
ROSTER = (*BANKS, "outsider")


def bank_table() -> Tables:
    return {
        "deposits": {"customer": np.array(["alice", "bob"], object), "amount": np.array([60_000, 70_000])}
    }


@dataclass
class Parties:
    """Three parties with home folders; `run` makes a run of all of them, and may be called again."""

    directory: Path
    identities: dict[str, Identity] = field(
        default_factory=lambda: {name: create_identity(name) for name in ROSTER}
    )
    records: list[dict[str, Path]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, identity in self.identities.items():
            if not (self.home(name).keys / f"{name}.key").exists():
                identity.save(self.home(name).keys)

    def home(self, name: str) -> Home:
        return Home.create(self.directory / name)

    def log(self, name: str) -> Path:
        return self.home(name).audit_log

    def job(self, name: str, ports: list[int]) -> Job:
        installed = find("structuring")
        return Job(
            name=name,
            installed=installed,
            parameters=installed.pattern.Parameters(limit_cents=100_000),
            window=Window(),
            members=tuple(
                Member(party, ("127.0.0.1", port), self.identities[party].certificate)
                for party, port in zip(ROSTER, ports, strict=True)
            ),
            roles={"input": BANKS, "computing": ROSTER},
            pad_rows_to=1,
            approval="off",
            timeouts=Timeouts(connect_s=10, silence_s=10, message_s=10),
        )

    def run(
        self, name: str = "deposits", read: Mapping[str, Callable[[], Tables]] | None = None
    ) -> dict[str, PartyResult | BaseException]:
        """Run a job; return each party's result, which is also written into its folder, or what ended its run."""

        def take_part(me: str) -> PartyResult | BaseException:
            source = (read or {}).get(me, bank_table) if me in BANKS else None
            try:
                result = run_job(
                    job,
                    me=me,
                    identity=self.identities[me],
                    read=source,
                    gates=[AuditGate(self.home(me), self.identities[me])],
                )
            except BaseException as error:  # noqa: BLE001  # for the test to look at
                return error
            written[me] = result.write(Output(self.home(me).runs, f"{me}.{name}"), self.identities[me])[1]
            return result

        written: dict[str, Path] = {}
        with reserved_ports(len(ROSTER)) as ports, ThreadPoolExecutor(len(ROSTER)) as pool:
            job = self.job(name, ports)
            results: dict[str, Any] = dict(zip(ROSTER, pool.map(take_part, ROSTER), strict=True))
        self.records.append(written)
        return results
