"""The command line: what it prints, and how it ends.

The module is long because one job with its files serves every command.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import secagg
from ended import Ended
from secagg.cli import exits, main, show
from secagg.cli.progress import Style, shown_progress
from secagg.cli.run import duration_of
from secagg.cli.show import seconds, size
from secagg.data.tables import read_table
from secagg.errors import DataError, UsageError
from secagg.jobs.inputs import InputTables
from secagg.jobs.job import Job
from secagg.jobs.job_file import load_job
from secagg.jobs.output import Output
from secagg.jobs.record import PartyResult
from secagg.jobs.run import Part, Progress
from secagg.network.identity import create_identity, fingerprint, load_certificate
from secagg.network.unable import tell_unable

COMMANDS = [
    [], ["demo"], ["data"], ["data", "make"], ["data", "check"], ["identity"], ["identity", "new"], ["identity", "show"],
    ["run"], ["check"], ["patterns"], ["verify"], ["explain"], ["report"], ["runs"], ["job", "papers"],
    ["budget"], ["budget", "set"], ["budget", "show"], ["budget", "log"], ["budget", "accept"], ["budget", "moved"],
    ["budget", "restart"], ["consent"], ["consent", "exclude"], ["consent", "remove"], ["consent", "readmit"],
    ["consent", "list"],
    ["consent", "check"], ["consent", "verify"], ["consent", "allow"],
    ["bench"], ["bench", "list"], ["bench", "networks"], ["bench", "growth"], ["bench", "plot"],
    ["bench", "utility"], ["bench", "gallery"],
    ["audit"], ["audit", "verify"], ["audit", "compare"], ["audit", "export"], ["audit", "anew"],
]  # fmt: skip

JOB = """\
name = "test"
pattern = "structuring"
approval = "off"
[parameters]
limit = 9999.99
[window]
start = 2026-01-01
[roles]
input = ["north", "south"]
computing = ["north", "south", "west"]
[[parties]]
name = "north"
address = "127.0.0.1:7401"
certificate = "north.crt"
[[parties]]
name = "south"
address = "127.0.0.1:7402"
certificate = "south.crt"
[[parties]]
name = "west"
address = "127.0.0.1:7403"
certificate = "west.crt"
"""


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(autouse=True)
def _looks_for_others_but_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep nobody waiting where a run cannot begin, and nobody is there to be told."""
    monkeypatch.setattr("secagg.jobs.unable.tell_unable", functools.partial(tell_unable, wait_s=0.01))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("north", "south", "west"):
        create_identity(name).save(tmp_path)
    (tmp_path / "job.toml").write_text(JOB)
    (tmp_path / "table.csv").write_text("customer,amount,time\n")
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    ended = Ended(capsys, *command, "--help")
    assert ended.status == 0
    assert f"Usage: {' '.join(['secagg', *command])}" in ended.out
    assert "\\[" not in ended.out
    assert not [line for line in ended.out.splitlines()[1:] if line.endswith("...")], "a summary was cut"


def test_the_page_lists_every_exit_status() -> None:
    page = (Path(__file__).parent.parent.parent / "docs/operation.md").read_text("utf-8")
    listed = re.findall(r"^\| ([0-9]+) \|", page, re.MULTILINE)
    assert list(map(int, listed)) == [
        0,
        exits.FAILED,
        exits.WRONG_USE,
        exits.WRITTEN_ELSEWHERE,
        exits.STOPPED,
    ]


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert Ended(capsys, "--version").out == f"{secagg.__version__}\n"


@pytest.mark.slow
def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "secagg", "--version"], capture_output=True, check=True, text=True
    )
    assert done.stdout == f"{secagg.__version__}\n"


def test_identity_new_prints_the_fingerprint_that_show_prints_and_no_key(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = Ended(capsys, "identity", "new", "north", "--out", tmp_path)
    shown = Ended(capsys, "identity", "show", tmp_path / "north.crt")
    assert made.status == shown.status == 0
    fingerprint = next(line for line in made.out.splitlines() if line.startswith("SHA256:"))
    assert fingerprint in shown.out.splitlines()
    assert "PRIVATE" not in made.out + shown.out
    key = (tmp_path / "north.key").read_text().splitlines()[1]
    assert key not in made.out + shown.out


def test_identity_new_overwrites_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Ended(capsys, "identity", "new", "north", "--out", tmp_path)
    before = (tmp_path / "north.key").read_bytes()
    ended = Ended(capsys, "identity", "new", "north", "--out", tmp_path)
    assert ended.status == 2
    assert "will not be overwritten" in ended.err
    assert (tmp_path / "north.key").read_bytes() == before


def test_identity_show_prints_the_fingerprint_first(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    shown = Ended(capsys, "identity", "show", folder / "north.crt").out.splitlines()
    certificate = load_certificate((folder / "north.crt").read_bytes())
    assert shown[0] == fingerprint(certificate)
    assert "CN=north" in shown[1]
    assert shown[2].startswith("valid 20")


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["\x1b[3A\x1b[2K", "\nsecagg: all is well", "\u202e"], ids=ascii)
def test_nothing_from_a_file_or_a_job_reaches_the_terminal_as_it_is(
    capsys: pytest.CaptureFixture[str], folder: Path, attack: str
) -> None:
    quoted = json.dumps(attack)[1:-1]
    (folder / f"a{attack}.csv").write_text("")
    (folder / "header.csv").write_text(f'"a{attack}",amount,time\n')
    table = folder / "table.csv"
    own = ["--as", "north", "--identity", folder, "--out", folder / "out"]

    def changed(old: str, new: str) -> Path:
        assert old in JOB
        file = folder / f"job{len(list(folder.iterdir()))}.toml"
        file.write_text(JOB.replace(old, new))
        return file

    for arguments in (
        ["check", changed("127.0.0.1:7401", f"h{quoted}:7400")],
        ["check", changed('name = "test"', f'name = "test"\n"k{quoted}" = 1')],
        ["check", changed('name = "test"', f'name = "test{quoted}"')],
        ["check", changed('"structuring"', f'"s{quoted}"')],
        ["check", changed("limit =", f'"l{quoted}" =')],
        ["check", changed('"west.crt"', f'"w{quoted}.crt"')],
        ["check", changed('computing = ["north"', f'computing = ["n{quoted}"')],
        ["check", folder / f"job{attack}.toml"],
        ["check", folder / "job.toml", "--network", f"LAN{attack}"],
        ["check", folder / "job.toml", f"--{attack}"],
        ["identity", "show", folder / f"x{attack}.crt"],
        ["identity", "new", f"north{attack}"],
        [f"command{attack}"],
        ["run", folder / "job.toml", *own, "--data", f"{folder}/none{attack}.csv"],
        ["run", folder / "job.toml", *own, "--data", f"{folder}/a{attack}.csv"],
        ["run", folder / "job.toml", *own, "--data", folder / "header.csv"],
        ["run", folder / "job.toml", *own, "--data", table, "--map", f"customer=c{attack}"],
        ["run", folder / "job.toml", *own, "--data", table, "--map", f"c{attack}=c"],
        ["run", folder / "job.toml", *own, "--data", f"duckdb:SELECT '{attack}' FROM nothing{attack}"],
        ["run", folder / "job.toml", *own, "--data", table, "--listen", f"h{attack}:1"],
        ["run", folder / "job.toml", *own[:1], f"north{attack}", *own[2:], "--data", table],
    ):  # fmt: skip
        ended = Ended(capsys, *arguments)
        assert ended.status == 2, ended.err
        assert all(line.isprintable() for line in (ended.out + ended.err).split("\n")), ended.err
        assert "\nsecagg: all is well" not in ended.err


def test_an_unexpected_error_shows_its_traceback_with_escapes(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **options: object) -> None:
        raise ZeroDivisionError("bad\x1b[2J")

    monkeypatch.setattr("secagg.jobs.job_file.load_job", broken)
    with pytest.raises(SystemExit) as end:
        main(["check", str(folder / "job.toml")])
    assert end.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1] == "ZeroDivisionError: bad\\x1b[2J"


def test_identity_show_refuses_what_is_no_certificate(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    assert "cannot read" in Ended(capsys, "identity", "show", folder / "none.crt").err
    assert "certificate in PEM form" in Ended(capsys, "identity", "show", folder / "north.key").err


@pytest.mark.slow
def test_data_make_writes_the_same_tables_for_the_same_seed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for where, seed in (("one", 3), ("two", 3), ("three", 4)):
        ended = Ended(
            capsys, "data", "make", "--out", tmp_path / where, "--rows", 1000, "--banks", 4, "--seed", seed
        )
        assert ended.status == 0
        assert "4000 transfers" in ended.out
    one, two, three = ((tmp_path / w / "bank_d.transfers.csv").read_text() for w in ("one", "two", "three"))
    assert one == two != three


def test_patterns_are_listed_with_their_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    out = Ended(capsys, "patterns").out
    for word in (
        "collectors",
        "min_senders",
        "min_total",
        "structuring",
        "limit",
        "10000.00",
        "transfers",
        "deposits",
    ):
        assert word in out


def test_check_says_who_takes_part_what_is_opened_and_what_it_costs(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    ended = Ended(
        capsys, "check", folder / "job.toml", "--rows", 1000, "--rows", "south=50", "--network", "wan"
    )
    assert ended.status == 0
    lines = ended.out.splitlines()
    shown = Ended(capsys, "identity", "show", folder / "west.crt").out.splitlines()[0]
    west = next(line for line in lines if line.startswith("west") and "127.0.0.1:7403" in line)
    assert "computing" in west
    assert "input" not in west
    assert shown in ended.out.replace("\n", "")
    assert any("9999.99" in line for line in lines)
    assert any(line.startswith("Warning: only north and south put in data") for line in lines)
    assert any("2026-01-01T00:00:00+00:00" in line for line in lines)
    assert any(
        line.startswith("each of north, south") and "joint deposits and total" in line for line in lines
    )
    costs = {
        line.split()[0]: line.split()[1:]
        for line in lines[lines.index(next(x for x in lines if "Expected cost" in x)) :]
        if line
    }
    assert costs["north"][0] == "1000"
    assert costs["south"][0] == "50"
    assert costs["WAN"][0] == "20"
    assert "LAN" not in costs
    assert "Job fingerprint" in ended.out


def test_check_says_what_a_fourth_computing_party_changes(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    job = folder / "job.toml"
    three = " ".join(Ended(capsys, "check", job).out.split())
    create_identity("east").save(folder)
    east = '[[parties]]\nname = "east"\naddress = "127.0.0.1:7404"\ncertificate = "east.crt"\n'
    job.write_text(job.read_text().replace('"south", "west"]', '"south", "west", "east"]') + east)
    four = " ".join(Ended(capsys, "check", job).out.split())
    assert "taken to follow the protocol" in three
    assert "taken to follow the protocol" not in four
    assert "One of the four computing parties may lie" in four
    assert "the error names two parties, one of which lied" in four


def test_check_assumes_row_counts_and_says_so(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    out = Ended(capsys, "check", folder / "job.toml").out
    assert "the rows are assumed" in out
    assert all(network in out for network in ("loopback", "LAN", "WAN", "mobile"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("most", "step", "assumed"), [(4000, 1, 4000), (1050, 100, 1000), (300_000, 1, 100_000)]
)
def test_check_assumes_no_more_rows_than_the_job_allows(
    capsys: pytest.CaptureFixture[str], folder: Path, most: int, step: int, assumed: int
) -> None:
    job = folder / "job.toml"
    job.write_text(f"max_rows = {most}\npad_rows_to = {step}\n{job.read_text()}")
    ended = Ended(capsys, "check", job)
    assert ended.status == 0
    assert re.search(rf"north\W+{assumed}\b", ended.out)
    assert Ended(capsys, "check", job, "--rows", str(most // step * step)).status == 0
    ended = Ended(capsys, "check", job, "--rows", f"south={most + 1}")
    assert ended.status == 2
    assert "--rows is above max_rows: south with" in ended.err


def test_check_tells_the_rows_that_it_assumes(capsys: pytest.CaptureFixture[str]) -> None:
    assert "100000 by default" in " ".join(Ended(capsys, "check", "--help").out.split())


def test_check_explains_a_job_whose_certificates_are_not_there_yet_but_does_not_pass_it(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    (folder / "south.crt").unlink()
    ended = Ended(capsys, "check", folder / "job.toml")
    assert ended.status == 2
    assert "joint deposits and total" in ended.out
    assert "cannot run as it stands" in ended.err
    assert "south.crt: No such file" in ended.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", "none.toml"], "cannot read the job file none.toml"),
        (["check", "{}/job.toml", "--rows", "many"], "expected --rows N or --rows NAME=N"),
        (["check", "{}/job.toml", "--rows", "west=5"], "input party (north, south)"),
        (["check", "{}/job.toml", "--network", "5G"], "expected a network of loopback, LAN"),
        (["run", "{}/job.toml", "--out", "{}"], "expected --as NAME and --identity DIR"),
        (["run", "{}/job.toml", "--out", "{}", "--as", "north"], "expected --as NAME and --identity DIR"),
        (["run", "{}/job.toml", "--out", "{}", "--as", "east", "--identity", "{}"], "east takes no part in test"),
        (["run", "{}/job.toml", "--out", "{}", "--as", "north", "--identity", "{}"], "nothing says where it is: write in"),
        (
            ["run", "{}/job.toml", "--out", "{}", "--as", "north", "--identity", "{}/nrth", "--data", "{}/table.csv"],
            "{}/nrth is no directory and no key",
        ),
        (["run", "{}/job.toml", "--out", "{}", "--as", "../x", "--identity", "{}"], "../x takes no part in test"),
        (
            ["run", "{}/job.toml", "--out", "{}", "--as", "west", "--identity", "{}", "--data", "{}/table.csv"],
            "west gives some",
        ),
        (
            ["run", "{}/job.toml", "--out", "{}", "--as", "north", "--identity", "{}", "--data", "{}/none.csv"],
            "{}/none.csv: there is no such file",
        ),
        (
            ["run", "{}/job.toml", "--out", "{}", "--as", "north", "--identity", "{}", "--data", "{}/table.csv",
             "--map", "sender=who"],
            "there is no field 'sender'",
        ),
        (
            ["run", "{}/job.toml", "--out", "{}", "--as", "north", "--identity", "{}/south.key", "--data", "{}/table.csv"],
            "expected a certificate for north, got one for south",
        ),
        (
            ["run", "{}/job.toml", "--out", "{}", "--as", "north", "--identity", "{}", "--data", "a", "--data", "b"],
            "a: a table is expected whose name ends in",
        ),
        (
            ["run", "{}/job.toml", "--out", "{}", "--as", "north", "--identity", "{}", "--data", "{}/table.csv",
             "--listen", "7000"],
            "expected host:port",
        ),
        (["run", "{}/job.toml", "--out", "{}", "--local", "--as", "north"], "leave out --as"),
        (["run", "{}/job.toml", "--out", "{}", "--local", "--wait", "8h"], "--listen, --wait"),
        (["run", "{}/job.toml", "--out", "{}", "--local", "--data", "table.csv"], "expected --data NAME=DATA"),
        (["run", "{}/job.toml", "--out", "{}", "--local", "--data", "north=x.csv"], "there is none for south"),
        (["run", "{}/job.toml", "--out", "{}", "--local", "--data", "north=x", "--data", "north=y"], "none for south"),
        (["run", "{}/job.toml", "--out", "{}", "--local", "--thousands", "."], "separates both decimals and thousands"),
        (["demo", "--out", "{}"], "holds something else than an earlier demo"),
        (["demo", "--banks", "2", "--out", "{}/demo"], "expected at least 3 banks"),
        (["identity", "new", "../north"], "expected a name of"),
        (["data", "make", "--out", "{}/tables", "--banks", "1"], "banks lies from 2"),
        (["data", "make", "trace", "--out", "{}/tables", "--banks", "3"], "leave out all options but --out and --seed"),
        (["data", "make", "{}/tables"], "expected a pattern that is installed"),
        (["demo", "trace", "--rows", "30"], "leave out --rows and --banks"),
    ],
)  # fmt: skip
def test_a_mistake_ends_with_status_2_and_one_line_that_says_what_to_do(
    capsys: pytest.CaptureFixture[str], folder: Path, arguments: list[str], says: str
) -> None:
    ended = Ended(capsys, *(argument.replace("{}", str(folder)) for argument in arguments))
    assert ended.status == 2
    assert says.replace("{}", str(folder)) in ended.err
    assert ended.err.splitlines()[-1].startswith("secagg: ")


@pytest.mark.parametrize(
    "arguments",
    [["no-such-command"], ["run"], ["run", "job.toml", "--out", "x", "--bad-rows", "mend"], ["check"]],
    ids=" ".join,
)
def test_an_unknown_option_or_command_ends_with_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    ended = Ended(capsys, *arguments)
    assert ended.status == 2
    assert "Usage: secagg" in ended.err


@pytest.mark.slow
def test_a_run_without_the_others_ends_with_status_1_and_names_them(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    job = folder / "job.toml"
    job.write_text(
        "[timeouts]\nconnect_s = 0.3\n".join(JOB.split("[roles]")).replace("0.3\n", "0.3\n[roles]")
    )
    ended = Ended(
        capsys, "run", job, "--as", "north", "--identity", folder, "--data", folder / "table.csv", "--out", folder,
        "--listen", "127.0.0.1:0",
    )  # fmt: skip
    assert ended.status == 2  # port 0 is no address that others could reach
    ended = Ended(
        capsys, "run", job, "--as", "north", "--identity", folder / "north.key", "--data", folder / "table.csv",
        "--out", folder,
    )  # fmt: skip
    assert ended.status == 1
    assert "south" in ended.err.splitlines()[-1]
    assert "west" in ended.err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_local_run_reads_other_peoples_columns_and_skips_bad_rows(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    rows = {
        "north": "who,how much,when\nanna,6000,2026-02-01\nbert,9000,2026-02-02\nanna,,2026-02-03\n",
        "south": "who,how much,when\nanna,5000.50,2026-02-01\nbert,500,2025-02-02\n",
    }
    options: list[object] = []
    for name, text in rows.items():
        (folder / f"{name}.csv").write_text(text)
        options += ["--data", f"{name}={folder}/{name}.csv"]
    options += [
        "--map",
        "customer=who",
        "--map",
        "amount=how much",
        "--map",
        "time=when",
        "--bad-rows",
        "skip",
    ]
    for name in ("north", "south", "west"):  # a local run makes its own
        (folder / f"{name}.crt").unlink()
    ended = Ended(capsys, "run", folder / "job.toml", "--local", "--out", folder / "out", *options)
    assert ended.status == 0, ended.err
    assert (folder / "out/north.test.csv").read_text() == "customer,deposits,total\nanna,2,11000.50\n"
    assert (folder / "out/south.test.csv").read_text() == "customer,deposits,total\nanna,2,11000.50\n"
    assert "north: 3 rows read, 2 used, 1 bad and left out" in ended.out
    assert "south: 2 rows read, 1 used, 1 outside the window" in ended.out
    assert "north: 1 row in the result: " in ended.out
    assert "anna" not in ended.out + ended.err
    assert "100%" not in ended.out  # progress goes to standard error
    assert "merge" in ended.err
    assert json.loads((folder / "out/west.test.private.json").read_text())["result_rows"] is None

    # The records say what was read and how, and can be checked.
    shared = json.loads((folder / "out/north.test.json").read_text())
    assert not {"tables", "result", "result_rows", "agreed_private"} & shared.keys()
    record = json.loads((folder / "out/north.test.private.json").read_text())
    assert len(bytes.fromhex(record["salt"])) == 32
    assert record["tables"] == {"deposits": {
        "sources": [f"{folder}/north.csv"],
        "files": [{"path": str(folder / "north.csv"), "sha256": hashlib.sha256(rows["north"].encode()).hexdigest()}],
        "columns": {"customer": ["who"], "amount": ["how much"], "time": ["when"]},
        "dialect": {},
        "bad_rows": "skip",
        "rows_read": 3, "rows_in_window": 2, "rows_outside": 0, "rows_bad": 1, "warnings": [],
    }}  # fmt: skip
    ended = Ended(capsys, "verify", folder / "out/north.test.json")
    assert ended.status == 0, ended.err
    assert "compare that fingerprint with north's" in ended.out
    assert ended.out.count("is as recorded") == 2
    assert Ended(capsys, "verify", folder / "out/west.test.json").status == 0

    # What is there is not overwritten, and found before any party starts.
    before = {path: path.read_bytes() for path in (folder / "out").iterdir()}
    ended = Ended(capsys, "run", folder / "job.toml", "--local", "--out", folder / "out", *options)
    assert ended.status == 2
    assert "north.test.csv exists and will not be overwritten" in ended.err
    assert {path: path.read_bytes() for path in (folder / "out").iterdir()} == before


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_table_of_other_times_than_the_window_is_refused(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    (folder / "table.csv").write_text(
        "customer,amount,time\nanna,6000,17\n"
    )  # a simulator's step, not a date
    options = [f"--data={name}={folder}/table.csv" for name in ("north", "south")]
    ended = Ended(capsys, "run", folder / "job.toml", "--local", "--out", folder / "out", *options)
    assert ended.status == 2
    assert (
        "table.csv:2: time is a number, and the window is of timestamps; say its unit with --date-format"
        in ended.err
    )
    assert not list((folder / "out").glob("*.csv"))


def run_that_ends(monkeypatch: pytest.MonkeyPatch, before_writing: Callable[[], None]) -> None:
    """Let `secagg run` end at once with a result of one row."""

    def fake(
        job: Job,
        *,
        me: str,
        read: InputTables,
        on_ready: Callable[[], None],
        on_ended: Callable[[], None],
        **_: Any,
    ) -> PartyResult:
        on_ready()
        read()
        on_ended()
        before_writing()
        record = {
            "job": job.name, "party": me, "result_rows": 1, "timings": {"total_s": 1.0},
            "parties": [{"name": peer.name, "certificate": fingerprint(peer.certificate)} for peer in job.peers()],
            "ledger": {"total": {"sent": {"frame_bytes": 1}, "rounds": 1}},
        }  # fmt: skip
        return Part(job, me, read).told(job.pattern.results, [("@anna", 2, 1_100_050)], record)

    monkeypatch.setattr("secagg.jobs.run.run_job", fake)


@pytest.mark.slow
def test_what_cannot_be_written_in_the_end_is_written_elsewhere_and_named(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_directory_away() -> None:
        (folder / "out").rmdir()
        (folder / "out").touch()

    monkeypatch.setenv("HOME", str(folder))
    run_that_ends(monkeypatch, take_directory_away)
    (folder / "table.csv").write_text("customer,amount,time\n@anna,6000,2026-02-01\n")
    own = ["--as", "north", "--identity", folder, "--data", folder / "table.csv", "--out", folder / "out"]
    ended = Ended(capsys, "run", folder / "job.toml", *own)
    assert ended.status == 3
    assert f"{folder}/out does not take all files any more; they are written instead: " in ended.err
    (table,) = folder.glob("secagg-north.test-*/north.test.csv")
    assert str(table) in ended.err
    assert f"result: {table} is as recorded" in Ended(capsys, "verify", table.with_suffix(".json")).out
    assert table.read_text().splitlines()[1] == '"\'@anna",2,11000.50'


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "step"), [(InputTables, "in_own_spelling"), (Output, "keep")])
def test_a_signal_between_the_end_of_a_run_and_that_of_writing_loses_no_result(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch, kind: type, step: str
) -> None:
    run_that_ends(monkeypatch, lambda: None)
    done = getattr(kind, step)

    def interrupted(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return done(*arguments)

    monkeypatch.setattr(kind, step, interrupted)
    (folder / "table.csv").write_text("customer,amount,time\nanna,6000,2026-02-01\n")
    own = ["--as", "north", "--identity", folder, "--data", folder / "table.csv", "--out", folder / "out"]
    ended = Ended(capsys, "run", folder / "job.toml", *own)
    assert (ended.status, ended.err) == (0, "")
    assert (folder / "out/north.test.csv").read_text().endswith(",2,11000.50\n")
    assert "result: " in Ended(capsys, "verify", folder / "out/north.test.json").out


def test_a_local_run_tells_which_parties_had_to_write_elsewhere(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = dict.fromkeys(("north", "south", "west"), "out is full; written instead: /home/x.csv")
    monkeypatch.setattr("secagg.jobs.local.run_locally", lambda *_, **__: elsewhere)
    ended = Ended(capsys, "run", folder / "job.toml", "--local", "--out", folder / "out")
    assert ended.status == 3
    assert ended.err.splitlines() == [f"secagg: {name}: {text}" for name, text in elsewhere.items()]


@pytest.mark.slow
def test_verify_finds_a_changed_record_result_or_table_and_another_certificate(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_that_ends(monkeypatch, lambda: None)
    table, out = folder / "table.csv", folder / "out"
    table.write_text("customer,amount,time\n@anna,6000,2026-02-01\n")
    assert Ended(
        capsys, "run", folder / "job.toml", "--as", "north", "--identity", folder, "--data", table, "--out", out
    ).status == 0  # fmt: skip
    record, result = out / "north.test.json", out / "north.test.csv"

    def verified(*options: object) -> Ended:
        return Ended(capsys, "verify", record, *options)

    assert verified("--certificate", folder / "north.crt").status == 0
    assert verified("--certificate", folder / "north.crt", "--table", table, "--result", result).status == 0
    ended = verified("--certificate", folder / "south.crt")
    assert ended.status == 1
    assert "and the one given is" in ended.err
    assert verified("--table", table, "--table", table).status == 2

    moved = folder / "moved.csv"
    table.rename(moved)
    ended = verified()
    assert ended.status == 0
    assert "is not here, not checked" in ended.out
    assert verified("--table", moved).status == 0
    assert verified("--table", folder / "none.csv").status == 2
    for file in (moved, result):
        content = file.read_bytes()
        file.write_bytes(content.replace(b"1", b"2", 1))
        ended = verified("--table", moved)
        assert ended.status == 1
        if file == moved:
            assert f"table: {moved} is another file than the one recorded, or it was changed" in ended.err
        else:
            assert f"result: {result} is not what was recorded; it was changed" in ended.err
        file.write_bytes(content)
    private = out / "north.test.private.json"
    content = private.read_bytes()
    private.write_bytes(content.replace(b'"result_rows": 1', b'"result_rows": 0'))
    ended = verified("--table", moved)
    assert ended.status == 1
    assert "it was changed" in ended.err
    private.unlink()
    # Without the private part nothing can be said of a result: one that is there may be forged.
    ended = verified()
    assert ended.status == 1
    assert f"result: {result} cannot be checked" in ended.err
    assert verified("--result", moved).status == 1
    result.rename(folder / "elsewhere.csv")
    ended = verified()
    assert ended.status == 0
    assert "private part is not here; files are not checked" in ended.out
    (folder / "elsewhere.csv").rename(result)
    private.write_bytes(content)
    record.write_text(record.read_text().replace('"job": "test"', '"job": "else"'))
    ended = verified("--table", moved)
    assert ended.status == 1
    assert "it was changed" in ended.err
    assert verified("--certificate", folder / "none.crt").status == 2
    assert Ended(capsys, "verify", table.parent / "job.toml").status == 2


def test_a_table_that_changes_while_it_is_read_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "table.csv"
    file.write_text("customer,amount,time\nanna,6000,2026-02-01\n")
    table = InputTables(load_job(folder / "job.toml"), str(file))
    read = read_table

    def read_and_change(*about: Any, **options: Any) -> Any:
        columns = read(*about, **options)
        file.write_text("customer,amount,time\nanna,6001,2026-02-01\n")
        return columns

    monkeypatch.setattr("secagg.jobs.inputs.read_table", read_and_change)
    with pytest.raises(DataError, match="was changed while it was read"):
        table()


@pytest.mark.parametrize("moment", ["before", "while"])
@pytest.mark.parametrize("becomes", ["nothing", "directory"])
def test_a_table_that_is_taken_away_ends_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str, becomes: str
) -> None:
    file = folder / "table.csv"
    file.write_text("customer,amount,time\nanna,6000,2026-02-01\n")
    table = InputTables(load_job(folder / "job.toml"), str(file))
    read = read_table

    def take_away() -> None:
        file.unlink()
        if becomes == "directory":
            file.mkdir()

    def read_and_take_away(*about: Any, **options: Any) -> Any:
        columns = read(*about, **options)
        take_away()
        return columns

    if moment == "before":
        take_away()
    else:
        monkeypatch.setattr("secagg.jobs.inputs.read_table", read_and_take_away)
    with pytest.raises(DataError, match=r"table\.csv (cannot be read|is no file) any more") as refused:
        table()
    assert "\n" not in str(refused.value)


def test_a_table_that_cannot_be_digested_ends_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "table.csv"
    file.write_text("customer,amount,time\nanna,6000,2026-02-01\n")
    table = InputTables(load_job(folder / "job.toml"), str(file))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(hashlib, "file_digest", refuse)
    with pytest.raises(DataError, match=r"cannot read .*Permission denied; make it readable"):
        table()


def test_a_query_is_recorded_without_its_text(folder: Path) -> None:
    query = "duckdb:SELECT 'anna' AS customer, 6000 AS amount, DATE '2026-02-01' AS time"
    table = InputTables(load_job(folder / "job.toml"), query)
    table()
    described = table.described()["deposits"]
    assert described["sources"] == ["duckdb:" + hashlib.sha256(query.encode()).hexdigest()]
    assert described["files"] == []
    assert "anna" not in json.dumps(described)


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_the_demo_finds_what_is_planted_and_compares_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ended = Ended(capsys, "demo", "--rows", 1500, "--out", tmp_path / "demo", "--seed", 2)
    assert ended.status == 0, ended.err
    assert ended.out.count("equal to the pooled plaintext") == 2
    assert ended.out.count("recall 1.00") == 2
    assert ended.out.count("0 (0)") >= 3  # no bank finds a planted collector alone
    assert ended.out.count("Opened, and to whom") == 2
    assert "merge" in ended.out
    # Each bank holds its own key and table and nobody else's.
    held = {path.name for path in (tmp_path / "demo/bank_b").iterdir()}
    assert {"bank_b.key", "bank_a.crt", "bank_c.crt", "transfers.csv", "deposits.csv"} <= held
    assert not {"bank_a.key", "bank_c.key"} & held


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_the_demo_of_one_pattern_finds_what_is_planted_and_compares_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ended = Ended(capsys, "demo", "trace", "--out", tmp_path / "demo")
    assert ended.status == 0, ended.err
    assert "Equal to the pooled plaintext, row for row" in ended.out
    assert "All 2 planted findings are among them" in " ".join(ended.out.split())
    assert (tmp_path / "demo/results/south.trace.csv").read_text() == "account,hops\nhop,1\n"


def test_sizes_and_times_are_short() -> None:
    assert [size(n) for n in (0, 999, 1000, 99_900, 999_499, 999_500, 12_345_678, 5e15)] == [
        "0 B", "999 B", "1 kB", "99.9 kB", "999 kB", "1 MB", "12.3 MB", "5 PB",
    ]  # fmt: skip
    assert [seconds(t) for t in (0.00025, 0.9, 1, 119, 121)] == [
        "0.25 ms",
        "900 ms",
        "1.0 s",
        "119.0 s",
        "2 min",
    ]


def test_progress_lines_say_when_who_does_what_and_bars_leave_nothing_behind(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def report(style: Style) -> str:
        with shown_progress(style) as on_progress:
            for present, missing in (((), ("b", "c")), ((), ("b", "c")), (("b",), ("c",)), (("b", "c"), ())):
                on_progress(Progress("a", "connect", 0.0, 0, missing, present, 3599.0))
            on_progress(Progress("a", "read", 0.0, 0, step=1))
            on_progress(Progress("a", "read", 0.0, 160, ("c",), step=1))
            for party in ("a", "b", "c"):
                on_progress(Progress(party, "merge", 0.25, 1000, ("b",), step=5))
            on_progress(
                Progress("a", "merge", 0.25, 1000, ("b",), step=5, news=("the worker of b was lost",))
            )
        return capsys.readouterr().err

    lines = report(Style.lines).splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d a: ", line) for line in lines)
    assert [line[12:] for line in lines] == [
        "waits for b, c (there: nobody yet, 60 min left)",
        "waits for c (there: b, 60 min left)",
        "waits for the others to agree (there: b, c, 60 min left)",
        "reads its data",
        "merge (waits for b), 1 kB sent, 25%",
        "the worker of b was lost",
    ]
    assert report(Style.none) == ""
    shown = [json.loads(line)["progress"] for line in report(Style.json).splitlines()]
    assert [progress["party"] for progress in shown] == ["a"] * 7 + ["b", "c", "a"]
    assert Progress(**shown[2]).left_s == 3599.0
    report(Style.bars)


def test_parties_on_one_machine_tell_once_who_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress(Style.lines) as on_progress:
        for _ in range(100):
            for name, present in (("a", ()), ("b", ("a",)), ("c", ("a", "b"))):
                on_progress(Progress(name, "connect", 0.0, 0, ("d",), present, 60.0))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("a: waits for d (there: nobody yet, 60 s left)")


def test_a_long_wait_is_told_of_at_longer_and_longer_intervals(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("secagg.cli.progress.time.monotonic", lambda: now)
    with shown_progress(Style.lines) as on_progress:
        for now in range(0, 8 * 3600, 5):  # the clock that is looked at
            on_progress(Progress("a", "connect", 0.0, 0, ("b",), (), 8 * 3600.0 - now))
    lines = capsys.readouterr().err.splitlines()
    assert 40 < len(lines) < 60
    assert lines[0].endswith("8 h 0 min left)")


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("90s", 90), ("1.5m", 90), ("8 h", 28_800), ("720h", 2_592_000)]
)
def test_a_wait_is_read_as_seconds_minutes_or_hours(text: str, expected: float) -> None:
    assert duration_of(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-1", "8d", "1e3", "721h", "nan", "٣s", "1" * 20])
def test_another_wait_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a time such as 90s, 30m or 8h, at most 720 h"):
        duration_of(text)


def test_hexadecimal_pairs_that_rich_has_emoji_for_are_printed_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = "SHA256:AB:CD:00:ab:cd"
    show.stdout().print(text, markup=False)
    show.stdout().print(show.table("title", ["fingerprint"], [[text]]))
    show.stderr().print(text, markup=False)
    printed = capsys.readouterr()
    assert printed.out.count(text) == 2
    assert text in printed.err
