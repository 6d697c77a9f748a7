"""A party that cannot begin tells those who wait for it, of what kind the cause is and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from ports import reserved_ports
from secagg.cli import main
from secagg.errors import AbortedError, BudgetError
from secagg.jobs.gates import agreement
from secagg.jobs.job import Job
from secagg.jobs.job_file import load_job
from secagg.jobs.run import Progress, run_job
from secagg.network.identity import create_identity, load_identity
from secagg.network.unable import Cause, tell_unable

PARTIES = ("bank_a", "bank_b", "bank_x")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    job = 'name = "j"\napproval = "off"\npattern = "structuring"\n[roles]\ninput = ["bank_a", "bank_b"]\n'
    job += 'computing = ["bank_a", "bank_b", "bank_x"]\n[timeouts]\nconnect_s = 120\n'
    with reserved_ports(3) as ports:
        for name, port in zip(PARTIES, ports, strict=True):
            create_identity(name).save(tmp_path)
            job += f'[[parties]]\nname = "{name}"\naddress = "127.0.0.1:{port}"\ncertificate = "{name}.crt"\n'
        (tmp_path / "job.toml").write_text(job)
        (tmp_path / "table.csv").write_text("customer,amount,time\nanna,6000,1\n")
        yield tmp_path


def take_part(job: Job, folder: Path, name: str, there: Barrier | None = None, **options: Any) -> Any:
    told: set[Barrier | None] = {None}

    def met(_: Progress) -> None:
        if there not in told:
            told.add(there)
            assert there is not None
            there.wait(60)

    identity = load_identity(name, folder / f"{name}.key", folder / f"{name}.crt")
    read = None if name == "bank_x" else lambda: pytest.fail("nobody reads data")
    return run_job(job, me=name, identity=identity, read=read, on_progress=met, **options)


@contextlib.contextmanager
def waiting(folder: Path, **options: Any) -> Iterator[dict[str, Future[Any]]]:
    """Return the runs of two parties that wait for the third."""
    job, there = load_job(folder / "job.toml"), Barrier(3)
    with ThreadPoolExecutor(2) as pool:
        runs = {
            name: pool.submit(take_part, job, folder, name, there, **options) for name in ("bank_b", "bank_x")
        }
        there.wait(60)
        yield runs


def check_told(runs: dict[str, Future[Any]], why: str) -> None:
    for run in runs.values():
        with pytest.raises(AbortedError, match=f"bank_a ended the run: {why}, so it never began") as ended:
            run.result(timeout=60)
        assert "anna" not in str(ended.value)


@pytest.mark.parametrize(
    ("option", "why"),
    [("--data", "it cannot use its own input"), ("--out", "it has no place for its results")],
)
@pytest.mark.slow
def test_a_party_without_a_column_or_a_place_for_results_ends_the_wait_of_the_others(
    folder: Path, option: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "other.csv").write_text("anna,amount,time\nanna,6000,1\n")
    given = {"--data": str(folder / "table.csv"), "--out": str(folder / "out")}
    given[option] = str(folder / "other.csv")
    words = [word for pair in given.items() for word in pair]
    with waiting(folder) as runs:
        with pytest.raises(SystemExit) as end:
            main(["run", str(folder / "job.toml"), "--as", "bank_a", "--identity", str(folder), *words])
        assert end.value.code == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "bank_b, bank_x were there and heard that this party cannot take part" in said
        check_told(runs, why)


@pytest.mark.slow
def test_who_cannot_take_part_in_another_run_ends_nothing(folder: Path) -> None:
    job = load_job(folder / "job.toml")
    for_this = agreement(job, ())[0]
    with waiting(folder) as runs:
        for about, cause in ((bytes(32), Cause.RESULTS), (for_this, Cause.DATA)):
            tell_unable(
                me="bank_a",
                identity=load_identity("bank_a", folder / "bank_a.key", folder / "bank_a.crt"),
                peers=job.peers(),
                listen=job.members[0].address,
                agreement=about,
                cause=cause,
            )
        check_told(runs, Cause.DATA.reason)


def test_a_party_whose_gate_is_not_ready_ends_the_wait_of_the_others(folder: Path) -> None:
    class Spent:
        name = "budget"

        def ready(self, *_: Any) -> None:
            raise BudgetError("epsilon 3 of 3 is spent")

    class Has(Spent):
        def ready(self, *_: Any) -> None:
            pass

    with waiting(folder, gates=[Has()]) as runs:
        with pytest.raises(BudgetError) as ended:
            take_part(load_job(folder / "job.toml"), folder, "bank_a", gates=[Spent()])
        assert "bank_b, bank_x were there" in ended.value.__notes__[0]
        check_told(runs, "its own checks do not allow the run")
