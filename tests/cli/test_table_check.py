"""`secagg data check` and the options of tables: what a run would make of a party's table, and a run that does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm")]

JOB = """\
name = "test"
pattern = "collectors"
pad_rows_to = 10

[parameters]
min_senders = 3
min_banks = 2
max_senders_per_bank = 5

[data]
identifiers = {beneficiary = "iban", sender = "folded"}
time_zone = "Europe/Berlin"
currency_decimals = 3

[window]
start = 2026-09-01
end = 2026-10-01

[roles]
input = ["north", "south"]
computing = ["north", "south", "west"]
"""
NORTH = """\
sep=;
An;VON;Betrag;Tag
DE89 3704 0044 0532 0130 00;ANN;1.234,500;01.09.2026 00:30
de89370400440532013000;Ann ;3,000;02.09.2026 12:00
DE89370400440532013000;Bob;1;30.09.2026 23:59
NL91ABNA0417164300;Bob;1;01.10.2026 00:00
"""
SOUTH = "beneficiary,sender,amount,time\nIBAN DE89-3704-0044-0532-0130-00,Cem,0.001,20260901\n"
OPTIONS = ["--encoding", "utf-16", "--decimal", ",", "--thousands", ".", "--date-format", "%d.%m.%Y %H:%M"]
MAP = ["--map", "beneficiary=an", "--map", "sender=von", "--map", "amount=betrag", "--map", "time=tag"]


def secagg(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "secagg", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    parties = [
        f'[[parties]]\nname = "{name}"\naddress = "{name}:1"\ncertificate = "{name}.crt"\n'
        for name in ("north", "south", "west")
    ]
    (tmp_path / "job.toml").write_text(JOB + "".join(parties))
    (tmp_path / "north.csv").write_bytes(NORTH.encode("utf-16"))
    (tmp_path / "south.csv").write_text(SOUTH)
    return tmp_path


def test_a_table_is_read_as_a_run_would_and_everything_is_said_but_its_values(folder: Path) -> None:
    done = secagg(
        "data", "check", folder / "north.csv", "--job", folder / "job.toml", "--as", "north", *OPTIONS, *MAP
    )
    assert (done.returncode, done.stderr) == (0, "")
    words = " ".join(done.stdout.split())
    for says in (
        "read 4 used 3 outside the window 1 bad 0",
        "CSV in utf-16, columns between ';'",
        "beneficiary An sender VON amount Betrag time Tag",
        "2026-09-01 00:00:00+02:00 to 2026-10-01",
        "rows that name a zone 0",
        "2026-09-01 00:30:00+02:00",
        "beneficiary iban 1 1 1 sender folded 2 2 1",
        "senders 2 5 total 1238.500 1000000000000.000",
        "here announced 1 10",
        "A run would take this table.",
    ):
        assert says in words, says
    for value in ("3704", "Ann", "ANN", "Bob", "1234"):
        assert value not in done.stdout


def test_what_would_be_refused_is_said_with_row_numbers_and_ends_with_status_2(folder: Path) -> None:
    more = ["DE89370400440532013001,a,1,2026-09-02", "NULL,a,3.000,2026-09-02"]
    (folder / "bad.csv").write_text(SOUTH + "\n".join(more) + "\n")
    done = secagg("data", "check", folder / "bad.csv", "--job", folder / "job.toml")
    assert done.returncode == 2
    assert "bad.csv:3: beneficiary is no IBAN: its check digits do not hold" in done.stderr
    assert "bad.csv:4: amount can be read with decimals or with thousands" in done.stderr
    assert "a run would refuse this table" in done.stderr
    assert (done.stdout + done.stderr).count("bad.csv:3") == 1
    assert "would take" not in done.stdout
    assert "--bad-rows" not in done.stderr
    assert "left out" not in done.stdout
    done = secagg("data", "check", folder / "bad.csv", "--job", folder / "job.toml", "--bad-rows", "skip")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 rows with amounts are left out; sums lack them" in " ".join(done.stdout.split())
    assert "bad.csv:3: beneficiary is no IBAN: its check digits do not hold" in done.stdout
    assert done.stdout.count("bad.csv:3") == 1


def test_limits_and_empty_tables_are_found_before_a_run(folder: Path) -> None:
    rows = "".join(f"DE89370400440532013000,s{i},1,2026-09-02\n" for i in range(6))
    (folder / "many.csv").write_text(SOUTH + rows)
    done = secagg("data", "check", folder / "many.csv", "--job", folder / "job.toml")
    assert done.returncode == 2
    assert "senders 7 5" in " ".join(done.stdout.split())
    assert "field senders: 1 of 1 rows are above the agreed largest value of 5" in done.stderr
    (folder / "empty.csv").write_text("beneficiary,sender,amount,time\n")
    done = secagg("data", "check", folder / "empty.csv", "--job", folder / "job.toml")
    assert done.returncode == 2
    assert "no row counts" in done.stderr
    done = secagg("data", "check", folder / "empty.csv", "--job", folder / "job.toml", "--allow-empty")
    assert done.returncode == 0


def test_rows_that_are_there_twice_are_counted_and_a_table_without_rows_is_not_followed_by_zeros(
    folder: Path,
) -> None:
    row = "DE89370400440532013000,a,1,2026-09-02\n"
    other = "DE89370400440532013000,b,1,2026-09-02\n"
    (folder / "twice.csv").write_text(SOUTH + row + other + row + row)
    done = secagg("data", "check", folder / "twice.csv", "--job", folder / "job.toml")
    assert done.returncode == 0
    assert "2 rows equal an earlier one in beneficiary, sender, amount, time; sums count each" in done.stdout
    (folder / "late.csv").write_text(SOUTH.replace("20260901", "20251231"))
    done = secagg("data", "check", folder / "late.csv", "--job", folder / "job.toml")
    assert done.returncode == 2
    assert "earlier one" not in done.stdout
    assert "Against the job's limits" not in done.stdout
    assert "Identifiers of the rows" not in done.stdout


@pytest.mark.parametrize("name", ["west", "nobody"])
def test_a_party_that_puts_in_no_table_has_none_to_check(folder: Path, name: str) -> None:
    done = secagg("data", "check", folder / "south.csv", "--job", folder / "job.toml", "--as", name)
    assert done.returncode == 2
    assert name in done.stderr


def test_organisations_that_spell_one_account_differently_meet_and_see_their_own_spelling(
    folder: Path,
) -> None:
    # Both read by south's options, north through a query's file of its own.
    north = NORTH.partition("\n")[2].replace(".234,500", "234.500").replace(",000", ".000")
    (folder / "north.csv").write_text(
        north.replace("An;VON;Betrag;Tag", "beneficiary;sender;amount;time")
        .replace("01.09.2026", "2026-09-01").replace("02.09.2026", "2026-09-02")
        .replace("30.09.2026", "2026-09-30").replace("01.10.2026", "2026-10-01")
    )  # fmt: skip
    (folder / "south-2.csv").write_text(SOUTH.replace("Cem", "Dora"))
    done = secagg(
        "run", folder / "job.toml", "--local", "--out", folder / "out", "--decimal", ".",
        "--data", f"north={folder}/north.csv", "--data", f"south={folder}/south*.csv",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name, spelling in (
        ("north", "DE89 3704 0044 0532 0130 00"),
        ("south", "IBAN DE89-3704-0044-0532-0130-00"),
    ):
        found = (folder / f"out/{name}.test.csv").read_text()
        assert found == f"beneficiary,senders,total\n{spelling},4,1238.502\n"


def test_tables_of_other_columns_are_tried_out_together_by_a_source_file(folder: Path) -> None:
    (folder / "north.csv").write_text(NORTH, encoding="utf-8")
    (folder / "try.toml").write_text(
        '[tables.north]\nfiles = ["north.csv"]\ndecimal = ","\nthousands = "."\ndate_format = "%d.%m.%Y %H:%M"\n'
        'columns = {beneficiary = "An", sender = "Von", amount = "Betrag", time = "Tag"}\n'
    )
    command = [
        "run",
        folder / "job.toml",
        "--local",
        "--out",
        folder / "out",
        "--data",
        f"south={folder}/south.csv",
    ]
    done = secagg(*command, "--data", f"north={folder}/north.csv", *OPTIONS[2:], *MAP)
    assert done.returncode == 2
    assert "where tables differ, a source file says how each is read: --sources FILE" in done.stderr
    assert "south" in done.stderr
    done = secagg(
        *command, "--data", "north=source:north", "--sources", folder / "try.toml", "--decimal", "."
    )
    assert done.returncode == 2  # what the command line says goes before the source file
    made = (folder / "south.csv").read_text().replace(",0.001,", ",0.0010,")
    (folder / "south.csv").write_text(made)
    done = secagg(*command, "--data", "north=source:north", "--sources", folder / "try.toml")
    assert done.returncode == 0, done.stderr
    assert "north: 4 rows read, 3 used" in done.stdout


def test_all_are_told_that_no_row_of_a_table_counts(folder: Path) -> None:
    (folder / "north.csv").write_text(SOUTH.replace("20260901", "20250901"))
    done = secagg(
        "run", folder / "job.toml", "--local", "--out", folder / "out", "--decimal", ".",
        "--data", f"north={folder}/north.csv", "--data", f"south={folder}/south.csv",
    )  # fmt: skip
    assert done.returncode != 0
    assert "north: " in done.stderr
    assert "no row counts; 1 were read; 1 lie outside the window" in done.stderr
    assert not list((folder / "out").glob("*.test.csv"))
