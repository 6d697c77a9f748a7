"""`secagg preflight`: what would keep a run from taking place is told before it, here and at peers, with what to do."""

from __future__ import annotations

import json
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ports import reserved_ports
from secagg.cli.commands import main
from secagg.errors import BudgetError, PeerMissingError
from secagg.home import Home
from secagg.jobs.job_file import load_job
from secagg.jobs.run import run_job
from secagg.joint import gates_of
from secagg.joint.preflight import here
from secagg.joint.resume import resuming_of
from secagg.network.identity import create_identity, load_identity
from secagg.network.probe import probe

NAMES = ("north", "south", "west")
JOB = """\
name = "test"
pattern = "collectors"
approval = "off"
pad_rows_to = 10
[parameters]
min_senders = 3
min_banks = 2
max_senders_per_bank = 5
[window]
start = 2026-09-01
end = 2026-10-01
[roles]
input = ["north", "south"]
computing = ["north", "south", "west"]
"""
TABLE = "beneficiary,sender,amount,time\nA,B,1.00,2026-09-02\n"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in NAMES:
        create_identity(name).save(folder)
    create_identity("south").save(folder / "new")
    create_identity("south", valid_days=5).save(folder / "soon")
    return folder


@pytest.fixture
def folder(keys: Path, tmp_path: Path) -> Iterator[Path]:
    with reserved_ports(3) as ports:
        parties = [
            f'[[parties]]\nname = "{name}"\naddress = "127.0.0.1:{port}"\ncertificate = "{keys}/{name}.crt"\n'
            for name, port in zip(NAMES, ports, strict=True)
        ]
        (tmp_path / "job.toml").write_text(JOB + "".join(parties))
        (tmp_path / "t.csv").write_text(TABLE)
        yield tmp_path


class Shown:
    """What a command printed, and how it ended."""

    def __init__(self, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            main(words)
        self.status = ended.value.code
        self.text, self.errors = capsys.readouterr()

    def line(self, start: str) -> str:
        (found,) = [line for line in self.text.splitlines() if line.startswith(start)]
        return found


@pytest.fixture
def preflight(folder: Path, keys: Path, capsys: pytest.CaptureFixture[str]):
    def preflight(*words: str, identity: Path = keys, data: str = "t.csv") -> Shown:
        own = ["--data", str(folder / data)] if data else []
        return Shown(
            capsys,
            ["preflight", str(folder / "job.toml"), "--as", "south", "--identity", str(identity),
             "--out", str(folder / "out"), "--rows", "1000", *own, *words],
        )  # fmt: skip

    return preflight


def test_everything_right_here_passes(preflight) -> None:
    shown = preflight("--alone")
    assert shown.status == 0, shown.text
    for what in ("job: test, fingerprint", "certificate: valid until", "certificate of north", "table transfers: columns",
                 "memory: ", "disk at "):  # fmt: skip
        shown.line(f"PASSED   here: {what}")
    assert "FAILED" not in shown.text


def test_memory_of_a_job_in_shards_is_that_of_the_shards_of_a_turn(folder: Path) -> None:
    def needed(shards: int, workers: int) -> tuple[int, str]:
        text = (folder / "job.toml").read_text()
        if shards > 1:
            text = text.replace("pad_rows_to", f"shards = {shards}\npad_rows_to")
            for i, name in enumerate(NAMES):
                own = [f"127.0.0.1:{7401 + 10 * i + k}" for k in range(workers)]
                text = text.replace(f'name = "{name}"', f'name = "{name}"\nworkers = {json.dumps(own)}')
        (folder / "shards.toml").write_text(text)
        job = load_job(folder / "shards.toml")
        (memory, _) = here._room(job, "south", dict.fromkeys(NAMES[:2], 1_000_000), folder, ())
        return int("".join(c for c in memory.said.split("MB")[0] if c.isdigit())), memory.said

    (whole, said), (one, _), (two, of_two) = needed(1, 0), needed(16, 1), needed(16, 2)
    assert one < two < whole
    assert "workers" not in said
    assert "and 2 workers here at a time" in of_two


@pytest.mark.slow
def test_what_is_wrong_here_is_told_with_what_to_do(preflight, folder: Path, keys: Path, monkeypatch) -> None:
    assert "the job has another certificate of south" in preflight("--alone", identity=keys / "new").line(
        "FAILED   here: certificate:"
    )
    (folder / "wrong.csv").write_text(TABLE.replace("1.00", "SECRET"))
    shown = preflight("--alone", data="wrong.csv")
    assert shown.status == 2
    assert "amount is not a number: 1 rows; `secagg data check`" in shown.line(
        "FAILED   here: table transfers"
    )
    assert "SECRET" not in shown.text + shown.errors
    shown = preflight("--alone", "--bad-rows", "skip", "--allow-empty", data="wrong.csv")
    assert shown.status == 0
    assert "a run leaves such rows out" in shown.line("WARNING  here: table transfers")
    (folder / "columns.csv").write_text(TABLE.replace("amount", "betrag"))
    assert "--map amount=COLUMN" in preflight("--alone", data="columns.csv").line("FAILED   here: table")
    assert "expected with --data the table transfers" in preflight("--alone", data="").line(
        "FAILED   here: table"
    )
    monkeypatch.setattr(here, "_free_memory", lambda: 1 << 20)
    assert "end other programs" in preflight("--alone").line("FAILED   here: memory")
    with file_size_limit(1 << 12):
        shown = preflight("--alone", "--json")
    failed = [one for one in map(json.loads, shown.text.splitlines()) if one["status"] == "FAILED"]
    assert {one["what"].split()[0] for one in failed} == {"memory", "disk"}
    assert any("takes no files: File too large; make room" in one["said"] for one in failed)


@pytest.mark.slow
def test_what_the_folder_does_not_allow_is_told_by_the_name_of_its_gate(
    preflight, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spent:
        name = "budget"

        def ready(self, job, me) -> None:
            raise BudgetError(f"{me} has spent its budget for {job.name}; grant more")

    home = folder / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setattr("secagg.joint.gates.gates_of", lambda home, job, identity: (Spent(),))
    shown = preflight("--alone", "--home", str(home))
    assert shown.status == 2
    assert "south has spent its budget for test; grant more" in shown.line("FAILED   here: budget")
    assert "nobody need approve it" in shown.line("PASSED   here: approval")
    shown.line(f"PASSED   here: disk at {home}")
    home.chmod(0o755)
    assert "chmod 700" in preflight("--alone", "--home", str(home)).line("FAILED   here: home")
    job = folder / "job.toml"
    job.write_text(job.read_text().replace('approval = "off"\n', ""))
    assert "runs with approvals alone" in preflight("--alone").line("FAILED   here: approval")


def test_a_certificate_that_ends_soon_is_warned_of_and_one_that_has_ended_fails(
    preflight, folder: Path, keys: Path
) -> None:
    job = folder / "job.toml"
    text = job.read_text()
    job.write_text(text.replace(f"{keys}/south.crt", f"{keys}/soon/south.crt"))
    shown = preflight("--alone", identity=keys / "soon")
    assert (shown.status, "4 days from now" in shown.line("WARNING  here: certificate:")) == (0, True)
    job.write_text(text.replace(f"{keys}/south.crt", f"{keys}/nobody.crt"))
    assert "nobody.crt" in preflight("--alone").line("FAILED   here: job:")


@pytest.mark.slow
def test_peers_that_are_up_pass_and_those_that_are_not_are_named_with_what_to_do(
    preflight, folder: Path, keys: Path
) -> None:
    job = load_job(folder / "job.toml")
    identity = load_identity("north", keys / "north.key", keys / "north.crt")
    north = threading.Thread(
        target=probe,
        kwargs={"me": "north", "identity": identity, "peers": job.peers()[:2], "listen": job.members[0].address,
                "agreement": bytes(32), "fields": {"name": bytes(16)}, "wait_s": 30.0},
    )  # fmt: skip
    north.start()
    shown = preflight("--wait", "3s")
    north.join()
    assert shown.status == 1
    for what in ("address: south reaches north", "certificate", "version: secagg", "clock: 0.0 s"):
        shown.line(f"PASSED   north: {what}")
    assert "its job differs from this one in name" in shown.line("FAILED   north: job")
    assert "west did not call; start `secagg preflight` there too" in shown.line("FAILED   west: address")


@pytest.mark.slow
def test_a_party_that_waits_in_a_run_with_a_folder_has_the_same_job_as_one_that_looks_before(
    preflight, folder: Path, keys: Path
) -> None:
    homes = {name: Home.create(folder / name) for name in ("north", "south")}
    job = load_job(folder / "job.toml")
    identity = load_identity("north", keys / "north.key", keys / "north.crt")
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            run_job(
                job, me="north", identity=identity, read=dict, wait_s=6.0,
                gates=gates_of(homes["north"], job, identity), resuming=resuming_of(homes["north"], job, "north"),
            )  # fmt: skip
        except PeerMissingError as error:
            ended.append(error)

    north = threading.Thread(target=wait)
    north.start()
    shown = preflight("--wait", "2s", "--home", str(homes["south"].path))
    north.join()
    assert "which waits or is in a run" in shown.line("PASSED   north: address")
    shown.line("PASSED   north: job: the same job")
    assert ended  # it went on waiting for south and west, and neither came


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
