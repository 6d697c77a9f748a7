"""Every party as a process of its own on this machine, by the command line, as a new user starts them."""

from __future__ import annotations

import csv
import json
import signal
import socket
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secagg import errors
from secagg.data.synthetic import make
from secagg.errors import AbortedError, DataError, PeerVanishedError, UsageError
from secagg.jobs import local
from secagg.jobs.job import Job
from secagg.jobs.job_file import parse_job
from secagg.jobs.local import free_addresses, run_locally, run_parties
from secagg.jobs.run import Progress
from secagg.jobs.signature import read_record
from secagg.network.identity import create_identity
from secagg.patterns.banking import COLLECTORS, STRUCTURING

pytestmark = pytest.mark.slow

PATTERNS = {"collectors": COLLECTORS, "structuring": STRUCTURING}
PARAMETERS = {"collectors": "min_senders = 3\nmin_total = 500", "structuring": "limit = 2500.00"}


def job_text(pattern: str, inputs: str, computing: str, certificates: str = "{}.crt") -> str:
    names = {f"bank_{letter}": None for letter in inputs + computing}
    parties = "".join(
        f'\n[[parties]]\nname = "{name}"\naddress = "127.0.0.1:{7000 + i}"\n'
        f'certificate = "{certificates.format(name)}"\n'
        for i, name in enumerate(names)
    )
    roles = ", ".join(f'"bank_{letter}"' for letter in inputs)
    three = ", ".join(f'"bank_{letter}"' for letter in computing)
    return (
        f'name = "try"\npattern = "{pattern}"\n[parameters]\n{PARAMETERS[pattern]}\n[window]\nstart = 0\nend = 100\n'
        f"[timeouts]\nconnect_s = 30\nsilence_s = 5\n[roles]\ninput = [{roles}]\ncomputing = [{three}]\n{parties}"
    )


def make_job(pattern: str, inputs: str, computing: str) -> Job:
    text = job_text(pattern, inputs, computing)
    return parse_job(text, file=Path("job.toml"), with_certificates=False)


def write_table(pattern: str, path: Path, seed: int, rows: int) -> Any:
    """Write a table with rows inside and outside the window; return the columns of those inside."""
    rng = np.random.default_rng(seed)
    lines, kept = [], []
    for _ in range(rows):
        cents, when = int(rng.integers(1, 60_000)), int(rng.integers(-5, 105))
        who, sender = f"ACC-{rng.integers(0, 40)}", f"C{seed}-{rng.integers(0, 30)}"
        middle = [sender] if pattern == "collectors" else []
        lines.append([who, *middle, f"{cents // 100}.{cents % 100:02}", when])
        if 0 <= when < 100:
            kept.append((who, *middle, cents))
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        head = ["beneficiary", "sender"] if pattern == "collectors" else ["customer"]
        writer.writerow([*head, "amount", "time"])
        writer.writerows(lines)
    columns = list(zip(*kept, strict=True)) if kept else [()] * (len(head) + 1)
    texts = [np.array(c, object) for c in columns[:-1]]
    amounts = np.array(columns[-1], np.int64)
    (name,) = PATTERNS[pattern].inputs
    return {name: dict(zip([*head, "amount"], [*texts, amounts], strict=True))}


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(
    ("pattern", "inputs", "computing", "rows"),
    [
        ("collectors", "abc", "abc", (300, 200, 100)),
        ("structuring", "ab", "abxy", (300, 200)),
        ("collectors", "abcde", "xyz", (200, 0, 100, 1, 300)),
    ],
)
def test_parties_as_processes_find_what_the_plaintext_says(
    tmp_path: Path, pattern: str, inputs: str, computing: str, rows: tuple[int, ...]
) -> None:
    job = make_job(pattern, inputs, computing)
    tables, options = {}, {}
    for seed, (name, count) in enumerate(zip(job.input_parties, rows, strict=True)):
        path = tmp_path / f"{name}.csv"
        tables[name] = write_table(pattern, path, seed, count)
        options[name] = ["--data", str(path)] + ["--allow-empty"] * (not count)
    seen: list[Progress] = []
    run_locally(job, options, out=tmp_path / "out", on_progress=seen.append)
    pooled = PATTERNS[pattern].flagged(job.parameters, tables)
    assert len(pooled) > 3
    for name, own in tables.items():
        (columns,) = own.values()
        mine = set(next(iter(columns.values())))
        with (tmp_path / f"out/{name}.try.csv").open(newline="") as file:
            told = {row[0]: (int(row[1]), int(Decimal(row[2]) * 100)) for row in list(csv.reader(file))[1:]}
        assert told == {who: sums for who, sums in pooled.items() if who in mine}
        record = json.loads((tmp_path / f"out/{name}.try.private.json").read_text())
        assert record["tables"][next(iter(own))]["rows_in_window"] == len(columns["amount"])
        assert record["result_rows"] == len(told)
    assert {progress.party for progress in seen} == set(job.roster)
    assert len(list((tmp_path / "out").iterdir())) == 2 * len(job.roster) + len(tables)


def test_a_mistake_that_one_party_finds_before_it_connects_is_told_as_its_own(tmp_path: Path) -> None:
    # The others wait for it in vain until they are ended, which is not what went wrong.
    job = make_job("structuring", "ab", "abx")
    options = {}
    for seed, name in enumerate(job.input_parties):
        write_table("structuring", tmp_path / f"{name}.csv", seed, 20)
        options[name] = ["--data", str(tmp_path / f"{name}.csv")]
    options["bank_b"] *= 2
    with pytest.raises(DataError, match=r"^bank_b: .*bank_b\.csv: this table is named twice"):
        run_locally(job, options, out=tmp_path / "out", on_progress=lambda _: None)


@pytest.mark.usefixtures("warm")
def test_bad_data_at_one_party_ends_all_and_is_told_as_its_own(tmp_path: Path) -> None:
    job = make_job("structuring", "ab", "abx")
    options = {}
    for seed, name in enumerate(job.input_parties):
        write_table("structuring", tmp_path / f"{name}.csv", seed, 20)
        options[name] = ["--data", str(tmp_path / f"{name}.csv")]
    with (tmp_path / "bank_b.csv").open("a") as file:
        file.write("ACC-1,minus ten,5\n")
    with pytest.raises(DataError, match=r"(?s)^bank_b: .*bank_b\.csv:22: amount is not a number"):
        run_locally(job, options, out=tmp_path / "out", on_progress=lambda _: None)
    kept = [path.name for path in (tmp_path / "out").iterdir() if ".private." not in path.name]
    assert sorted(name.split(".failed-")[0] for name in kept) == ["bank_a.try", "bank_b.try", "bank_x.try"]


def test_data_is_expected_for_every_input_party_and_no_other(tmp_path: Path) -> None:
    job = make_job("structuring", "ab", "abx")
    for given in (["bank_a"], ["bank_a", "bank_b", "bank_x"]):
        options: dict[str, list[Any]] = {name: [] for name in given}
        with pytest.raises(UsageError, match="expected data for the input parties bank_a, bank_b"):
            run_locally(job, options, out=tmp_path, on_progress=lambda _: None)


def test_a_process_that_dies_without_a_word_is_named() -> None:
    with pytest.raises(PeerVanishedError, match="bank_a: it ended with status 2"):
        run_parties({"bank_a": ["no-such-command"]}, on_progress=lambda _: None)


MISTAKE = '{"error": "DataError", "message": "t.csv: no such file"}'
GONE = '{"error": "PeerVanishedError", "message": "nobody is there", "peer": "moved"}'
PROGRESS = '{"progress": {"party": "mistaken", "phase": "connect", "share": 0, "sent_bytes": 0}}'


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let each party's process do what its command line says, as the shell reads it."""
    shell = tmp_path / "shell"
    shell.write_text('#!/bin/sh\neval "$4"\n')
    shell.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(shell))
    return tmp_path


@pytest.mark.parametrize("before", ["", f"echo '{PROGRESS}' >&2;"])
def test_a_partys_own_mistake_waits_for_no_other_party(
    scripted: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    monkeypatch.setattr(local, "_PATIENCE_S", 1e9)
    monkeypatch.setattr(local, "_TOLD_S", 0.1)
    late = scripted / "late"
    commands = {
        "waiting": [f"sleep 20; touch {late}"],
        "mistaken": [f"{before} echo '{MISTAKE}' >&2; exit 2"],
    }
    with pytest.raises(DataError, match=r"^mistaken: t\.csv: no such file"):
        run_parties(commands, on_progress=lambda _: None)
    assert not late.exists()


def test_a_party_that_had_to_write_elsewhere_has_not_failed(scripted: Path) -> None:
    commands = {"moved": ["echo 'secagg: written instead: /home/x.csv' >&2; exit 3"], "done": ["exit 0"]}
    elsewhere = run_parties(commands, on_progress=lambda _: None)
    assert elsewhere == {"moved": "written instead: /home/x.csv"}
    commands["failed"] = [f"echo '{GONE}' >&2; exit 1"]
    with pytest.raises(PeerVanishedError, match=r"^failed: nobody is there") as failed:
        run_parties(commands, on_progress=lambda _: None)
    assert failed.value.__notes__ == ["moved: written instead: /home/x.csv"]


def test_free_addresses_are_distinct_and_can_be_listened_at() -> None:
    addresses = free_addresses(50)
    assert len(set(addresses)) == 50
    for address in addresses[:5]:
        with socket.create_server(address):
            pass


def start_parties(folder: Path, rows: int) -> dict[str, subprocess.Popen[str]]:
    """Start three parties as processes, each with files of its own."""
    truth = make(folder, banks=3, rows=rows)
    text = job_text("collectors", "abc", "abc", certificates="{0}/{0}.crt")
    text = 'approval = "off"\n' + text.replace("start = 0\nend = 100\n", "")
    for i, (_, port) in enumerate(free_addresses(3)):
        text = text.replace(f"127.0.0.1:{7000 + i}", f"127.0.0.1:{port}")
    (folder / "job.toml").write_text(text)
    processes = {}
    for name in truth.banks:
        create_identity(name).save(folder / name)
    for name in truth.banks:
        command = [sys.executable, "-m", "secagg", "run", str(folder / "job.toml"), "--as", name]
        command += ["--identity", str(folder / name), "--data", str(folder / f"{name}.transfers.csv")]
        command += ["--out", str(folder / "out"), "--progress", "json"]
        processes[name] = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return processes


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(
    ("how", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 130)]
)
def test_a_party_that_is_stopped_ends_the_run_for_all_and_is_named(
    tmp_path: Path, how: signal.Signals, status: int
) -> None:
    processes = start_parties(tmp_path, 60_000)
    try:
        stopped = processes["bank_b"]
        assert stopped.stderr is not None
        for line in stopped.stderr:
            if json.loads(line)["progress"]["phase"] in ("share", "merge"):
                stopped.send_signal(how)
                break
        said = {name: process.communicate(timeout=120) for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    assert stopped.returncode == status
    for name in ("bank_a", "bank_c"):
        last = json.loads(said[name][1].splitlines()[-1])
        assert processes[name].returncode == 1
        assert "bank_b" in last["message"]
        assert getattr(errors, last["error"]) in (PeerVanishedError, AbortedError)
    shared = [path for path in (tmp_path / "out").iterdir() if ".private." not in path.name]
    records = {path.name.split(".")[0]: read_record(path) for path in shared}
    assert records.keys() == (
        {"bank_a", "bank_c"} if how == signal.SIGKILL else {"bank_a", "bank_b", "bank_c"}
    )
    for name, record in records.items():
        assert record["outcome"] == ("stopped" if name == "bank_b" else "failed")
        # Who hears of it from another party before it sees the connection end names that one, and whom it accuses.
        assert "bank_b" in (record["error"]["named"], record["error"]["accused"])
        assert record["reached"] not in ("connect", "read")
