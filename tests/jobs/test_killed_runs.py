"""Parties as processes, killed as kill -9 does: a restart gives the answer of a run that nothing disturbed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interrupted import Interrupted, identity_of, make_job, make_tables
from ports import reserved_ports
from secagg.errors import SecaggError
from secagg.jobs.agreement import OFF
from secagg.jobs.resuming import Resuming
from secagg.jobs.run import run_job

pytestmark = pytest.mark.slow

FOR_EVER_S = 60.0
ROWS = 3000


class Processes:
    """The parties of a job, each in a process that is forked off this one."""

    def __init__(self, folder: Path, ports: list[int]) -> None:
        job = replace(make_job("three"), approval=OFF)
        self.run = Interrupted(job, make_tables(job, ROWS, accounts=ROWS), folder)
        addresses = {name: ("127.0.0.1", port) for name, port in zip(job.roster, ports, strict=True)}
        certificates = {name: identity_of(name).certificate for name in job.roster}
        self.job = self.run.job = job.moved(addresses, certificates)
        self.folder = folder
        self.parties: dict[str, int] = {}

    def start(self) -> None:
        for name in self.job.roster:
            party = os.fork()
            if not party:
                os._exit(self._be(name))
            self.parties[name] = party

    def _be(self, name: str) -> int:
        resuming = Resuming(self.run.checkpoints(name), self.job)
        try:
            result = run_job(
                self.job,
                me=name,
                identity=identity_of(name),
                read=lambda: self.run.tables[name],
                resuming=resuming,
            )
        except SecaggError:
            return 1
        rows = sorted(map(list, result.rows or ()))
        (self.folder / f"{name}.json").write_text(json.dumps(rows))
        resuming.delete()
        return 0

    def kept(self, name: str) -> int:
        """Return the step of a party's latest checkpoint, -1 for none and 0 once its run has begun."""
        folder = self.folder / name / self.job.digest.hex()
        steps = [int(path.name[:6]) for path in folder.glob("*/0*.checkpoint")]
        return max(steps, default=0 if list(folder.glob("*/begun*")) else -1)

    def kill_at(self, name: str, step: int) -> None:
        """Kill a party once it has kept a checkpoint, and wait until all have ended."""
        deadline = time.monotonic() + FOR_EVER_S
        while self.kept(name) < step and time.monotonic() < deadline:
            over = os.waitid(os.P_PID, self.parties[name], os.WEXITED | os.WNOHANG | os.WNOWAIT)
            assert over is None, f"{name} ended before step {step}"
            time.sleep(0.0005)
        os.kill(self.parties[name], signal.SIGKILL)
        self.ended()

    def ended(self) -> dict[str, int]:
        """Wait until all parties have ended, and return their statuses."""
        statuses = {name: os.waitpid(party, 0)[1] for name, party in self.parties.items()}
        self.parties = {}
        return statuses

    def answer(self) -> dict[str, Any]:
        return {name: json.loads((self.folder / f"{name}.json").read_text()) for name in self.run.tables}


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with reserved_ports(3) as ports:
        made = Processes(tmp_path, ports)
        try:
            yield made
        finally:
            for party in made.parties.values():
                os.kill(party, signal.SIGKILL)
            made.ended()


def test_a_run_that_is_killed_in_each_phase_goes_on_to_the_same_answer(processes: Processes) -> None:
    victims = ("bank_a", "bank_b", "bank_c")
    for step in range(6):  # begun, shared, merged, grouped, tested, shuffled
        processes.start()
        processes.kill_at(victims[step % 3], step)
        # Nobody is further than one step ahead, so the run went on and did not begin anew.
        assert min(processes.kept(name) for name in victims) >= step - 1 or step == 5
    processes.start()
    assert set(processes.ended().values()) == {0}
    expected = processes.job.pattern.reference(
        processes.job.parameters, processes.job.terms, processes.run.tables
    )
    assert processes.answer() == {name: sorted(map(list, rows)) for name, rows in expected.items()}
    assert not list(processes.folder.rglob("*.checkpoint"))


def test_a_party_that_is_killed_with_its_result_in_hand_has_it_when_it_starts_again(
    processes: Processes,
) -> None:
    """The others have deleted their checkpoints then, and do not come any more."""
    victim = "bank_b"
    processes.start()
    done = processes.folder / victim / processes.job.digest.hex()
    deadline = time.monotonic() + FOR_EVER_S
    while not list(done.glob("*/done*")) and time.monotonic() < deadline:
        time.sleep(0.0002)
    os.kill(processes.parties[victim], signal.SIGKILL)
    statuses = processes.ended()
    assert [status for name, status in statuses.items() if name != victim] == [0, 0]
    if statuses[victim]:  # else it was too quick, and there is nothing to show
        assert processes._be(victim) == 0
    expected = processes.job.pattern.reference(
        processes.job.parameters, processes.job.terms, processes.run.tables
    )
    assert processes.answer()[victim] == sorted(map(list, expected[victim]))
