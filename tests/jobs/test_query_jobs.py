"""A job file that names SQL and a declaration runs as every job does.

Long, as one declaration and its tables serve all cases.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from costs import measured
from interrupted import Interrupted
from secagg.cli.check import announced_rows
from secagg.cli.job_shown import explain
from secagg.cost.network import LAN
from secagg.errors import DataError, JobError, UsageError
from secagg.jobs.inputs import InputTables
from secagg.jobs.job import Job
from secagg.jobs.job_file import parse_job
from secagg.jobs.local import run_locally
from secagg.jobs.results import check_result, result_csv
from secagg.jobs.run import Part
from secagg.network.identity import create_identity
from secagg.network.simulated import Fault, simulate

pytestmark = pytest.mark.slow

TABLES = """
[tables.moves]
holders = ["north", "south", "east"]
max_rows = 30
[tables.moves.columns]
who = {type = "identifier", spelling = "folded"}
amount = {type = "money", max = 1000, nullable = true}
day = {type = "date", min = 2026-01-01, max = 2026-12-31}
at = {type = "timestamp", zone = "Europe/Berlin"}
channel = {type = "category", values = ["card", "wire"], nullable = true}
urgent = "boolean"
note = {type = "identifier", nullable = true}
[tables.people]
holder = "south"
max_rows = 20
keys = [["id"]]
[tables.people.columns]
id = {type = "identifier", spelling = "folded"}
risk = {type = "real", min = -1, max = 1, decimals = 2}
"""
GROUPS = """SELECT channel, sum(amount) AS total, avg(amount) AS mean, max(day) AS latest, count(*) AS n
FROM moves GROUP BY channel"""
JOINED = """-- "quoted" \\ and é
SELECT m.who, p.risk, m.amount, m.at, m.urgent FROM moves m JOIN people p ON m.who = p.id
WHERE p.risk > -0.5
ORDER BY m.at, m.amount"""
JOB = """name = "moved"
sql = "query.sql"
tables = "tables.toml"
pad_rows_to = 4
[roles]
input = ["north", "south", "east"]
computing = ["north", "south", "west"]
result = ["east", "west"]
[timeouts]
connect_s = 60
silence_s = 15
""" + "".join(
    f'[[parties]]\nname = "{name}"\naddress = "{name}.example:7400"\ncertificate = "{name}.crt"\n'
    for name in ("north", "south", "east", "west")
)
MOVES = {
    "north": ["a  B,1.50,2026-02-01,2026-02-01 12:00,card,true", "C,,2026-03-01,2026-07-01 12:00,,no"],
    "south": ["c,999.99,2026-12-31,2026-12-31T23:00:00Z,wire,no"],
    "east": ["A b,0.01,2026-01-01,2026-01-01 00:30,card,yes", "=D,7,2026-05-05,2026-05-05 08:00,,no"],
}
PEOPLE = ["A B,0.25", "c,-0.4", "=D,1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tables.toml").write_text(TABLES)
    (tmp_path / "query.sql").write_text(JOINED, "utf-8")
    for name, rows in MOVES.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(["who,amount,day,at,channel,urgent", *rows, ""]))
    (tmp_path / "people.csv").write_text("\n".join(["id,risk", *PEOPLE, ""]))
    return tmp_path


def job_of(folder: Path, sql: str = JOINED, *, tables: str = TABLES, text: str = JOB) -> Job:
    (folder / "query.sql").write_text(sql, "utf-8")
    (folder / "tables.toml").write_text(tables)
    return parse_job(text, file=folder / "job.toml", with_certificates=False)


def sources(job: Job, folder: Path) -> dict[str, list[str]]:
    found = {name: [f"moves={folder / name}.csv"] for name in MOVES}
    if "people" in job.pattern.inputs:
        found["south"].append(f"people={folder / 'people.csv'}")
    return found


def read(job: Job, folder: Path) -> dict[str, InputTables]:
    return {name: InputTables(job, files, me=name) for name, files in sources(job, folder).items()}


def in_any_order(rows: Any) -> list[str]:
    """Return rows to be compared; a quotient is within 2**-20, and 5 decimals of these are told alike."""
    return sorted(str([round(v, 5) if isinstance(v, Decimal) else v for v in row]) for row in rows)


@pytest.mark.parametrize("sql", [GROUPS, JOINED])
def test_a_query_gives_what_the_pooled_tables_give_to_those_who_are_named(folder: Path, sql: str) -> None:
    four = JOB.replace('["north", "south", "west"]', '["north", "south", "east", "west"]')
    job = job_of(folder, sql, text=four if sql is GROUPS else JOB)
    inputs = read(job, folder)
    tables = {name: one() for name, one in inputs.items()}
    results = simulate({name: Part(job, name, inputs.get(name)) for name in job.roster}).values()
    assert [rows is None for rows in results] == [True, True, False, False]
    expected = job.pattern.reference(job.parameters, job.terms, tables)
    assert tuple(expected) == job.disclosures()[-1].to == ("east", "west")
    assert any("how many rows" in one.what for one in job.disclosures()) is (sql is JOINED)
    own = {"east": set(tables["east"]["moves"]["who"]) if sql is JOINED else set(), "west": set()}
    for name, rows in zip(expected, results[2:], strict=True):
        pooled = expected[name]
        assert len(pooled) == (3 if sql is GROUPS else 5)
        if sql is JOINED:  # who has no row of somebody is not told who it is
            rows = [("?" if str(who).startswith("pseudonym:") else who, *other) for who, *other in rows or ()]
            pooled = [(who if who in own[name] else "?", *other) for who, *other in pooled]
            assert {who for who, *_ in rows} == {"?", *own[name]}
            at = datetime.datetime(2025, 12, 31, 23, 30, tzinfo=datetime.UTC)  # half past midnight in Berlin
            assert min(row[3] for row in rows) == at
        assert in_any_order(rows) == in_any_order(pooled)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT note, count(*) AS n, sum(amount) AS total FROM moves GROUP BY note",
        "SELECT m.day, p.risk, m.note IS NULL AS gone FROM moves m LEFT JOIN people p ON m.note = p.id",
    ],
)
def test_a_missing_identifier_is_a_group_of_its_own_and_joins_nothing(folder: Path, sql: str) -> None:
    tables = TABLES.replace(
        'note = {type = "identifier", nullable', 'note = {type = "identifier", spelling = "folded", nullable'
    )
    notes = {"north": ["", "a b"], "south": ["  A  B"], "east": ["c", ""]}
    for name, rows in MOVES.items():
        lines = [f"{row},{note}" for row, note in zip(rows, notes[name], strict=True)]
        (folder / f"{name}.csv").write_text("\n".join(["who,amount,day,at,channel,urgent,note", *lines, ""]))
    job = job_of(folder, sql, tables=tables, text=JOB.replace('["east", "west"]', '["north"]'))
    inputs = read(job, folder)
    held = {name: one() for name, one in inputs.items()}
    assert [list(one["moves"]["note"]) for one in held.values()] == [[None, "a b"], ["a b"], ["c", None]]
    results = simulate({name: Part(job, name, inputs.get(name)) for name in job.roster}).values()
    told = [[None if v is None else str(v) for v in row] for row in results[0] or ()]
    expected = job.pattern.reference(job.parameters, job.terms, held)["north"]
    pooled = [[None if v is None else str(v) for v in row] for row in expected]
    if "GROUP" in sql:  # north has no row of c
        assert sum(str(row[0]).startswith("pseudonym:") for row in told) == 1
        told, pooled = (
            [row[1:] if row[0] not in (None, "a b") else row for row in rows] for rows in (told, pooled)
        )
    assert in_any_order(told) == in_any_order(pooled)


@pytest.mark.parametrize("role", ['result = ["west"]\n', ""])
def test_each_owner_is_told_the_rows_about_its_own_identifiers_and_those_who_are_named_all(
    folder: Path, role: str
) -> None:
    text = JOB.replace('result = ["east", "west"]\n', role).replace(
        "pad_rows_to", 'reveal = "owners"\npad_rows_to'
    )
    job = job_of(folder, text=text)
    inputs = read(job, folder)
    tables = {name: one() for name, one in inputs.items()}
    results = simulate({name: Part(job, name, inputs.get(name)) for name in job.roster}).values()
    rows = dict(zip(job.roster, results, strict=True))
    expected = job.pattern.reference(job.parameters, job.terms, tables)
    owners = ("north", "south", "east")
    assert tuple(expected) == (("west", *owners) if role else owners)
    for name in owners:
        told = rows[name] or ()
        assert in_any_order(told) == in_any_order(expected[name])
        assert {who for who, *_ in told} <= set(tables[name]["moves"]["who"]) | {"a b", "c", "=d"}
    assert len(expected["east"]) < 5
    assert (rows["west"] is None) == (not role)
    assert [(one.to, one.each_its_own) for one in job.disclosures() if "result" in one.what] == [
        *([(("west",), False)] if role else []), (owners, True)
    ]  # fmt: skip


def test_a_query_that_is_interrupted_goes_on_to_the_same_rows(folder: Path, tmp_path: Path) -> None:
    job = job_of(folder, JOINED)
    tables = {name: one() for name, one in read(job, folder).items()}
    (tmp_path / "checkpoints").mkdir()
    run = Interrupted(job, tables, tmp_path / "checkpoints")
    run.start([Fault("crash", 140, sender="south")])
    told = run.told(run.start())
    assert set(run.places().values()) == {"compute"}
    pooled = job.pattern.reference(job.parameters, job.terms, tables)
    for name, rows in told.items():  # who has no row of somebody is not told who it is
        assert in_any_order(row[1:] for row in rows) == in_any_order(row[1:] for row in pooled[name])


def test_a_query_without_sorts_costs_what_is_declared(folder: Path) -> None:
    # Sorts send random numbers of bytes; what is declared of them is what is expected.
    job = job_of(folder, "SELECT amount, day FROM moves WHERE urgent")
    inputs = read(job, folder)
    outcome = simulate({name: Part(job, name, inputs.get(name)) for name in job.roster})
    outcome.values()
    declared = job.cost({"north": 4, "south": 4, "east": 4})
    costs = {name: measured(name, ledger) for name, ledger in outcome.ledgers.items()}
    assert {name: cost.payload_bytes[name] for name, cost in costs.items()} == declared.payload_bytes
    assert declared.rounds == max(cost.rounds for cost in costs.values())


def test_parties_compare_the_texts_of_query_and_declaration(folder: Path) -> None:
    agreed = agreed_by(job_of(folder))
    assert agreed_by(job_of(folder, JOINED.replace("\n", "\r\n") + "\n\n")) == agreed
    other = agreed_by(job_of(folder, JOINED.replace("-0.5", "-0.6")))
    assert {name for name in agreed if agreed[name] != other[name]} == {"sql"}
    other = agreed_by(job_of(folder, tables=TABLES.replace("max_rows = 30", "max_rows = 31")))
    assert {name for name in agreed if agreed[name] != other[name]} == {"tables"}


def agreed_by(job: Job) -> dict[str, Any]:
    identities = {name: create_identity(name).certificate for name in job.roster}
    moved = job.moved({member.name: member.address for member in job.members}, identities)
    return {name: value for name, value in moved.agreed_fields.items() if "certificate" not in name}


def test_a_job_file_that_holds_its_texts_is_the_same_job(folder: Path) -> None:
    text = JOB.replace("pad_rows_to", 'reveal = "owners"\npad_rows_to')
    job = job_of(folder, JOINED + '\n-- \x7f """ \\u0041 \U0001f600', text=text)
    certificates = {name: create_identity(name).certificate for name in job.roster}
    moved = job.moved({member.name: member.address for member in job.members}, certificates)
    again = parse_job(moved.to_toml(), file=Path("/nowhere/job.toml"))
    assert again.agreed_fields == moved.agreed_fields
    assert again.digest == moved.digest


@pytest.mark.parametrize(
    ("before", "after", "error"),
    [
        ('sql = "query.sql"\n', "", "sql: this field is missing"),
        ('tables = "tables.toml"\n', "", "tables: this field is missing"),
        (
            "pad_rows_to",
            'pattern = "collectors"\npad_rows_to',
            "pattern: expected a pattern, or `sql` and `tables`",
        ),
        ("pad_rows_to", "max_rows = 9\npad_rows_to", "max_rows: the declaration says"),
        ("query.sql", "none.sql", "sql: cannot read the query .*none.sql"),
        (
            'input = ["north", "south", "east"]',
            'input = ["north", "south"]',
            "sql: expected as input parties .*east",
        ),
        ("[timeouts]", '[data]\nidentifiers = "iban"\n[timeouts]', "data.identifiers: the declaration says"),
        ("[timeouts]", "[window]\nstart = 1\n[timeouts]", "window: moves and people have no times"),
    ],
)
def test_what_a_job_of_a_query_cannot_have_is_refused(
    folder: Path, before: str, after: str, error: str
) -> None:
    assert before in JOB
    with pytest.raises(JobError, match=error):
        job_of(folder, text=JOB.replace(before, after))


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("SELECT whom FROM moves", "sql: line 1, column 8: there is no column 'whom'"),
        (
            f"SELECT sum(amount) AS {'a' * 33} FROM moves",
            "sql: the columns of the result: .*at most 32 .*; name columns with AS",
        ),
    ],
)
def test_a_query_that_no_job_can_compute_is_refused(folder: Path, sql: str, error: str) -> None:
    with pytest.raises(JobError, match=error):
        job_of(folder, sql)


def test_columns_of_one_name_that_are_spelt_by_different_rules_are_refused(folder: Path) -> None:
    tables = TABLES.replace('id = {type = "identifier", spelling = "folded"}', 'who = "identifier"').replace(
        'keys = [["id"]]', 'keys = [["who"]]'
    )
    query = "SELECT count(DISTINCT who) AS n FROM moves UNION ALL SELECT count(DISTINCT who) AS n FROM people"
    with pytest.raises(JobError, match="two tables spell who by the rules folded and exact"):
        job_of(folder, query, tables=tables)


def test_an_input_party_gives_its_own_tables_and_no_others(folder: Path) -> None:
    job, files = job_of(folder), f"{folder / 'north.csv'}"
    assert list(InputTables(job, files, me="north")()) == ["moves"]
    with pytest.raises(UsageError, match="expected a table for each of moves, people, got none for people"):
        InputTables(job, f"moves={files}", me="south")
    with pytest.raises(UsageError, match="say whose with --as"):
        InputTables(job, files)
    with pytest.raises(UsageError, match="reads tables of north, south, east, and none of west"):
        InputTables(job, files, me="west")


def test_rows_that_the_declaration_does_not_allow_are_refused_before_anything_is_sent(folder: Path) -> None:
    job = job_of(folder)
    (folder / "people.csv").write_text("id,risk\nA B,0.25\na b,0.5\n")
    tables = read(job, folder)["south"]()
    with pytest.raises(
        DataError, match="south: people declares id unique; values that stand in several rows: 1"
    ):
        job.pattern_at("south").prepare(job.parameters, job.terms, tables)


def test_what_may_be_null_is_told_as_nothing_and_what_may_not_is_refused(folder: Path) -> None:
    job = job_of(folder, GROUPS)
    row = (None, None, Decimal("0.5"), datetime.date(2026, 1, 1), 3)
    check_result(job, "east", [row], expected=True)
    assert result_csv(job.pattern.results, [row], decimals=2).splitlines()[1] == '"","",0.5,2026-01-01,3'
    with pytest.raises(UsageError, match="got one of NoneType"):
        check_result(job, "east", [(*row[:4], None)], expected=True)


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_parties_as_processes_compute_a_query_over_files(folder: Path) -> None:
    job = job_of(folder, text=JOB.replace("pad_rows_to", 'reveal = "owners"\npad_rows_to'))
    options = {
        name: [word for file in files for word in ("--data", file)]
        for name, files in sources(job, folder).items()
    }
    run_locally(job, options, out=folder / "out", on_progress=lambda _: None)
    with (folder / "out/east.moved.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["who", "risk", "amount", "at", "urgent"]
    assert [row[2] for row in rows] == ["0.01", "1.50", "7.00", "", "999.99"]
    assert [row[0] for row in rows[:3]] == ["A b", "A b", "'=D"]
    assert all(row[0].startswith("pseudonym:") for row in rows[3:])
    with (folder / "out/north.moved.csv").open(newline="") as file:
        own = list(csv.reader(file))[1:]
    assert sorted(row[2] for row in own) == ["", "0.01", "1.50", "999.99"]  # of a b and c, and not of =d
    record = json.loads((folder / "out/south.moved.json").read_text())
    assert record["agreed"]["rows"] == {
        "north": [["moves", 4]], "south": [["moves", 4], ["people", 4]], "east": [["moves", 4]]
    }  # fmt: skip


RULES = """owner = "{}"
[tables.moves]
smallest_group = 2
[tables.moves.columns.channel]
uses = ["group"]
"""
RULED = JOB.replace('["east", "west"]', '["west"]').replace(
    "[timeouts]", '[rules]\nnorth = "north.toml"\nsouth = "south.toml"\neast = "east.toml"\n[timeouts]'
)


def test_a_job_with_owners_rules_suppresses_small_groups_and_refuses_other_uses(folder: Path) -> None:
    for name in MOVES:
        (folder / f"{name}.toml").write_text(RULES.format(name))
    sql = "SELECT channel, count(*) AS n FROM moves GROUP BY channel"
    job = job_of(folder, sql, text=RULED)
    assert not any("no owners' rules" in warning for warning in job.warnings())
    inputs = read(job, folder)
    results = simulate({name: Part(job, name, inputs.get(name)) for name in job.roster}).values()
    assert sorted(map(str, results[3] or ())) == ["('card', 2)", "(None, 2)"]  # and not the one row of wire
    certificates = {name: create_identity(name).certificate for name in job.roster}
    moved = job.moved({member.name: member.address for member in job.members}, certificates)
    again = parse_job(moved.to_toml(), file=Path("/nowhere/job.toml"))
    assert again.digest == moved.digest
    (folder / "east.toml").write_text(RULES.format("east").replace("= 2", "= 3"))
    changed = agreed_by(job_of(folder, sql, text=RULED))
    assert [name for name, value in agreed_by(job).items() if changed[name] != value] == ["rules.east"]
    with pytest.raises(JobError, match=r"sql: .*amount"):
        job_of(folder, "SELECT sum(amount) AS total FROM moves", text=RULED)
    with pytest.raises(JobError, match=r"sql: .*east"):
        job_of(folder, sql, text=RULED.replace('east = "east.toml"\n', ""))
    with pytest.raises(JobError, match=r"rules\.east: expected the rules of east, got those of south"):
        job_of(folder, sql, text=RULED.replace('"east.toml"', '"south.toml"'))
    filtered = RULED.replace("[timeouts]", "[parameters]\nannounce_filtered = true\n[timeouts]")
    with pytest.raises(JobError, match="do not allow announce_filtered"):
        job_of(folder, sql, text=filtered)


def test_no_party_is_taken_to_announce_more_rows_than_its_own_tables_have(folder: Path) -> None:
    """South holds `people` alone, with fewer rows than `moves` has at the others."""
    job = job_of(
        folder,
        text=JOB.replace("pad_rows_to = 4\n", ""),
        tables=TABLES.replace('["north", "south", "east"]', '["north", "east"]'),
    )
    assert announced_rows(job, []) == {"north": 30, "south": 20, "east": 30}
    assert announced_rows(job, ["25", "east=7"]) == {"north": 25, "south": 20, "east": 7}
    for given in ("south=21", "31"):
        with pytest.raises(
            UsageError, match=r"where at most (20|30) are allowed; .* max_rows in the declaration"
        ):
            announced_rows(job, [given])


def test_a_party_of_the_role_result_is_shown_as_that_once(folder: Path) -> None:
    job = job_of(folder)
    console = Console(width=200, record=True, file=io.StringIO())
    for part in explain(job, announced_rows(job, []), [LAN], assumed=True):
        console.print(part)
    (line,) = [line for line in console.export_text().splitlines() if "west.example" in line]
    assert line.split("west.example")[0].split() == ["west", "computing,", "result"]
