"""Exclusion lists, the guard against differencing, and proofs of absence, in runs of three parties.

The module is long because one set of tables and lists serves every claim.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import io
import json
import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from ended import Ended
from joint_runs import BANKS, identity, make_homes, make_job, make_tables, run_jointly
from members import Members
from secagg.cli import main
from secagg.data.conventions import Conventions
from secagg.errors import AuthenticationError, DataError, UsageError
from secagg.home import Home
from secagg.jobs.gates import from_record
from secagg.jobs.inputs import InputTables
from secagg.jobs.job import Job
from secagg.jobs.job_file import parse_job
from secagg.jobs.signature import sign_record
from secagg.joint.approval.approval import RUN
from secagg.joint.approval.status import status_of
from secagg.joint.consent import lists
from secagg.joint.consent.absence import Cells, check_absence
from secagg.joint.consent.gate import ConsentGate, read_statement
from secagg.joint.consent.guard import allow, check_differences, note_run
from secagg.joint.consent.policy import Differencing
from secagg.joint.consent.population import Population
from secagg.joint.consent.proofs import make_proof, was_there
from secagg.joint.consortium import Needed
from secagg.joint.gates import approved_since
from secagg.network.identity import certificate_pem
from secagg.patterns.counts import factorize
from secagg.patterns.pattern import Spending, Tables
from secagg.query.schema import Identifier, Money, Schema

PEOPLE = [f"person {i}" for i in range(100)]


@pytest.fixture
def homes(tmp_path: Path) -> dict[str, Home]:
    return make_homes(tmp_path)


def consent_gates(home: Home) -> list[ConsentGate]:
    return [ConsentGate(home)]


def excluded(
    home: Home, *texts: str, columns: Sequence[str] = ("customer",), rules: Sequence[str] = ()
) -> int:
    with home.transaction() as connection:
        return lists.add_identifiers(connection, "removed", columns, texts, rules)


def admitted(home: Home, customers: Sequence[str], **job: Any) -> list[str]:
    gate = ConsentGate(home)
    found = gate.admit(dataclasses.replace(make_job(), **job), "north", make_tables(customers))
    return list(found["deposits"]["customer"])


def test_rows_of_an_excluded_person_never_enter_and_leave_no_trace_in_what_does(
    homes: dict[str, Home],
) -> None:
    home = homes["north"]
    assert excluded(home, "b", "z") == 2
    assert excluded(home, "b") == 0
    gate = ConsentGate(home)
    entering = gate.admit(make_job(), "north", make_tables(["a", "b", "c", "b"]))
    assert list(entering["deposits"]["customer"]) == ["a", "c"]
    # A pattern makes groups of the categories, so that one without rows would enter all the same.
    assert entering["deposits"]["customer"].categories.tolist() == ["a", "c"]
    assert len(entering["deposits"]["amount"]) == 2
    assert gate.described()["excluded"] == {"deposits": 2}


def test_a_person_is_excluded_as_the_job_spells_identifiers(homes: dict[str, Home]) -> None:
    home = homes["north"]
    excluded(home, "NL91 ABNA 0417 1643 00", "Ms. X")
    exact, folded, iban = (
        {"data": Conventions(identifiers={"customer": rule})} for rule in ("exact", "folded", "iban")
    )
    assert admitted(home, ["ms. x", "Ms. X"], **exact) == ["ms. x"]
    assert admitted(home, ["ms. x", "y"], **folded) == ["y"]
    assert admitted(home, ["NL91ABNA0417164300", "DE89370400440532013000"], **iban) == [
        "DE89370400440532013000"
    ]


def test_a_list_that_does_not_know_the_jobs_spelling_refuses_the_run(homes: dict[str, Home]) -> None:
    home = homes["north"]
    excluded(home, "111222333")
    national = {"data": Conventions(identifiers={"customer": "stdnum:nl.bsn"})}
    with pytest.raises(
        DataError, match=r"holds persons spelt by digits, exact, folded, iban.*--rule stdnum:nl.bsn"
    ):
        admitted(home, ["111222333"], **national)
    excluded(home, "123456782", rules=["stdnum:nl.bsn"])
    with pytest.raises(DataError, match="holds persons spelt by"):
        admitted(home, ["111222333"], **national)  # whom the rule of the other person says nothing about
    excluded(home, "111222333", rules=["stdnum:nl.bsn"])
    assert admitted(home, ["111222333", "123456782", "999999990"], **national) == ["999999990"]


@pytest.mark.slow
def test_files_and_queries_are_read_anew_by_each_run_and_refuse_it_where_they_cannot_be(
    homes: dict[str, Home], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, file = homes["north"], tmp_path / "optout.csv"
    file.write_text("who,since\nb,2026-01-01\n")
    with home.transaction() as connection:
        monkeypatch.chdir(tmp_path)
        assert lists.add_source(connection, "file", ["*"], "optout.csv", ["who"]) == 1
        monkeypatch.chdir("/")  # where a run is started does not matter
        query = f"duckdb:SELECT who FROM read_csv('{file}', all_varchar = true) WHERE who <> 'b'"
        assert lists.add_source(connection, "query", ["deposits.customer"], query) == 0
        with pytest.raises(UsageError, match="has the columns who, since; say which name persons"):
            lists.add_source(connection, "other", ["*"], str(file))
        with pytest.raises(UsageError, match="there is a list 'file'"):
            lists.add_source(connection, "file", ["*"], str(file), ["who"])
    assert admitted(home, ["a", "b", "c"]) == ["a", "c"]
    file.write_text("who,since\nb,2026-01-01\nc,2026-02-01\n")
    assert admitted(home, ["a", "b", "c"]) == ["a"]
    file.write_text("who,since\nb,2026-01-01\n,2026-02-01\n")
    with pytest.raises(DataError) as refused:
        admitted(home, ["a"])
    first, row, advice = str(refused.value).split("\n")
    assert first.endswith(f"so nobody's rows enter: {file}: 1 of 2 rows cannot be used")
    assert row == f"  {file}:3: who is missing"
    assert "leave it out by a query" in advice
    file.unlink()
    with pytest.raises(DataError, match="the exclusion list file cannot be read, so nobody's rows enter"):
        admitted(home, ["a"])


@pytest.mark.slow
def test_a_list_in_a_database_is_read_by_the_owners_source_file(
    homes: dict[str, Home], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sqlalchemy")
    home = homes["north"]
    with contextlib.closing(sqlite3.connect(tmp_path / "own.sqlite")) as database, database:
        database.execute("CREATE TABLE optout (who TEXT, since TEXT)")
        database.execute("INSERT INTO optout VALUES ('b', '2026-01-01')")
    words = [
        "consent",
        "exclude",
        "optout",
        "--source",
        "source:optout",
        "--from",
        "who",
        "--home",
        str(home.path),
    ]
    assert "there is no such file" in Ended(capsys, *words).err
    (home.path / "sources.toml").write_text(
        f'[databases.own]\nurl = "sqlite:///{tmp_path}/own.sqlite"\n[tables.optout]\ndatabase = "own"\ntable = "optout"\n'
    )
    ended = Ended(capsys, *words)
    assert "source:optout has 1 different identifiers now" in ended.out, ended.err
    assert admitted(home, ["a", "b", "c"]) == ["a", "c"]
    (tmp_path / "own.sqlite").unlink()
    with pytest.raises(DataError, match="the exclusion list optout cannot be read, so nobody's rows enter"):
        admitted(home, ["a"])


def test_a_list_about_a_column_that_a_table_does_not_have_refuses_the_run(homes: dict[str, Home]) -> None:
    excluded(homes["north"], "b", columns=["deposits.costumer"])
    with pytest.raises(
        DataError, match=r"is about deposits\.costumer, and deposits has the identifiers customer"
    ):
        ConsentGate(homes["north"]).ready(make_job(), "north")


def test_a_list_that_leaves_nobody_out_of_a_job_is_named(homes: dict[str, Home]) -> None:
    excluded(homes["north"], "a", columns=["costumer"])
    gate = ConsentGate(homes["north"])
    gate.admit(make_job(), "north", make_tables(["a"]))
    assert gate.described()["idle_lists"] == ["removed (costumer)"]


def test_all_identifier_columns_that_a_list_names_are_looked_at(homes: dict[str, Home]) -> None:
    schema = Schema(sender=Identifier(), beneficiary=Identifier(), amount=Money())
    table = {
        "sender": np.array(["a", "b", "c"], object),
        "beneficiary": np.array(["b", "c", "d"], object),
        "amount": np.array([1, 2, 3]),
    }
    expected = {
        "sender": [True, False, True],
        "transfers.beneficiary": [False, True, True],
        "*": [False, False, True],
    }
    for column, kept in expected.items():
        home = homes["north"]
        with home.transaction() as connection:
            lists.add_identifiers(connection, column, [column], ["b"])
            found = lists.Exclusions(connection).kept(
                {"transfers": table}, {"transfers": schema}, Conventions()
            )
            assert found["transfers"].tolist() == kept
            lists.drop(connection, column)


def test_no_identifier_stands_in_the_folder_and_other_folders_have_other_digests(
    homes: dict[str, Home],
) -> None:
    secret = "Rosalind Franklin"
    for name in BANKS:
        excluded(homes[name], secret)
    job = make_job()
    tables = {name: make_tables([*PEOPLE, "somebody else"]) for name in BANKS}
    assert set(run_jointly(job, homes, consent_gates, tables=tables).values()) == {None}
    for home in homes.values():
        for path in home.path.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                assert not any(word.encode() in content for word in (secret, "person 17", "somebody else"))
    columns: list[set[Any]] = []
    for name in BANKS:
        with homes[name].transaction() as connection:
            columns.append({row for (row,) in connection.execute("SELECT digest FROM consent_digests")})
    assert not columns[0] & columns[1]


def test_a_person_can_be_taken_off_a_list_again(homes: dict[str, Home]) -> None:
    home = homes["north"]
    excluded(home, "b", "NL91 ABNA 0417 1643 00")
    with home.transaction() as connection:
        assert lists.drop(connection, "removed", ["b"]) == 1
        with pytest.raises(UsageError, match="not on the list removed in this spelling"):
            lists.drop(connection, "removed", ["q"])
        assert [one.count for one in lists.lists(connection)] == [1]
        assert lists.drop(connection, "removed", ["NL91 ABNA 0417 1643 00"]) == 1
    assert admitted(home, ["a", "b"]) == ["a", "b"]


# The guard against differencing.


def ended(
    homes: dict[str, Home], people: Sequence[str], job: Any = None, others: int = 50, **gate: Any
) -> str:
    """Run with these people at north; return what ended it there, "" for nothing."""
    tables: dict[str, Tables] = {
        "north": make_tables(people),
        "south": make_tables([f"other {i}" for i in range(others)]),
    }
    error = run_jointly(
        job or make_job(),
        homes,
        lambda home: [ConsentGate(home, **gate)] if home is homes["north"] else [_Unguarded(home)],
        tables=tables,
    )["north"]
    return "" if error is None else str(error)


class _Unguarded(ConsentGate):
    def _differences(self, connection: sqlite3.Connection, run: Any) -> list[str]:
        return []


@pytest.mark.slow
def test_a_second_run_on_nearly_the_same_persons_is_refused_and_a_different_one_is_not(
    homes: dict[str, Home],
) -> None:
    assert ended(homes, PEOPLE) == ""
    said = ended(homes, PEOPLE[1:])
    assert "deposits holds nearly the persons that were in the run of joint" in said
    assert "fewer than 10 differ" in said
    assert "fewer than 10 differ" in ended(
        homes, PEOPLE, make_job(limit_cents=50_000)
    )  # another question about the same
    assert ended(homes, PEOPLE[10:]) == ""  # 10 persons are a group
    assert "fewer than 10 differ" in ended(homes, [*PEOPLE[10:], *(f"new {i}" for i in range(9))])
    # What is refused is not remembered; what ran is.
    assert "fewer than 10 differ" in ended(homes, PEOPLE[10:], make_job(limit_cents=50_000))
    # All earlier runs that are too close are named at once.
    said = ended(homes, PEOPLE[5:], make_job(limit_cents=50_000))
    assert said.count("(session ") == 2
    assert "The same holds of joint on " in said
    assert "allow JOB --reason" in said


@pytest.mark.slow
def test_others_are_told_that_the_guard_refused_and_not_how_many_differ(homes: dict[str, Home]) -> None:
    for people in (PEOPLE, PEOPLE[1:]):
        tables = {"north": make_tables(people), "south": make_tables([f"{people[0]} {i}" for i in range(50)])}
        errors = run_jointly(make_job(), homes, consent_gates, tables=tables)
    assert "north's consent gate refuses this run" in str(errors["west"])
    assert "differ" not in str(errors["west"])


@pytest.mark.slow
def test_the_same_job_on_the_same_rows_in_another_order_runs_again_unless_it_adds_noise(
    homes: dict[str, Home],
) -> None:
    assert ended(homes, PEOPLE) == ""
    assert ended(homes, PEOPLE[::-1]) == ""
    # Another's rows may have been chosen to ask something else of these.
    assert "fewer than 10 differ" in ended(homes, PEOPLE, others=51)
    noisy = make_job(Spending(("deposits",), epsilon=1))
    other = [f"patient {i}" for i in range(60)]
    assert ended(homes, other, noisy) == ""
    assert "fewer than 10 differ" in ended(homes, other, noisy)
    changed = make_tables(PEOPLE)
    changed["deposits"]["amount"][0] += 1
    gate = ConsentGate(homes["north"])
    gate.screen(make_job(), "north", gate.admit(make_job(), "north", changed))
    with homes["north"].transaction() as connection, pytest.raises(UsageError, match="fewer than 10 differ"):
        gate._differences(connection, _at_hand())


def _at_hand() -> Any:
    from secagg.jobs.gates import RunAtHand

    return RunAtHand(make_job(), "north", b"session", None, {}, None)


@pytest.mark.slow
def test_an_approval_after_the_earlier_run_lets_the_second_pass_and_an_older_one_does_not(
    homes: dict[str, Home],
) -> None:
    approvals = [datetime.datetime.now(datetime.UTC)]

    def approved(_job: Job, at: datetime.datetime) -> bool:
        return max(approvals) > at

    assert ended(homes, PEOPLE) == ""
    assert "fewer than 10 differ" in ended(homes, PEOPLE[1:], approved=approved)
    approvals.append(datetime.datetime.now(datetime.UTC))
    assert ended(homes, PEOPLE[1:], approved=approved) == ""


def test_a_new_approval_is_one_by_as_many_as_the_policy_wants_and_not_by_the_author_alone(
    tmp_path: Path,
) -> None:
    members, job = _made_job(tmp_path)
    home, long_ago = members.homes["north"], datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    assert not approved_since(home, job, long_ago)
    members.approve(job, "north", "anna")
    assert not approved_since(home, job, long_ago)
    members.approve(job, "north", "bert")
    assert approved_since(home, job, long_ago)
    assert not approved_since(home, job, datetime.datetime.now(datetime.UTC))
    (forged,) = home.approvals.glob("*bert*")
    forged.write_text(forged.read_text().replace('"at": "20', '"at": "21'))
    assert not approved_since(home, job, datetime.datetime.now(datetime.UTC))
    assert not approved_since(home, make_job(), long_ago)


def test_each_table_is_compared_with_each_of_an_earlier_run(homes: dict[str, Home]) -> None:
    same, second, new = (
        Population(np.arange(first, first + 100, dtype=np.uint64), bytes(32)) for first in (0, 1000, 2000)
    )
    rules = Differencing()
    with homes["north"].transaction() as connection:
        note_run(connection, make_job(), b"s" * 32, {"a": second, "b": same}, rules, [], b"")
        with pytest.raises(
            UsageError, match="payments holds nearly the persons that were in the run of joint"
        ):
            check_differences(
                connection, make_job(limit_cents=1_000), {"cards": new, "payments": same}, rules,
                approved=lambda _job, _at: False, resumes=None, same=frozenset(),
            )  # fmt: skip


class _Later(datetime.datetime):
    """A clock that is ahead."""

    by = datetime.timedelta()

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
        return datetime.datetime.now(tz) + cls.by


@pytest.mark.slow
def test_an_approval_by_a_clock_that_is_ahead_is_not_later_than_runs_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members, job = _made_job(tmp_path)
    home, long_ago = members.homes["north"], datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    later = SimpleNamespace(datetime=_Later, UTC=datetime.UTC, timedelta=datetime.timedelta)
    for ahead in (datetime.timedelta(days=1), datetime.timedelta(minutes=3)):
        monkeypatch.setattr(_Later, "by", ahead)
        with monkeypatch.context() as clock:
            clock.setattr("secagg.joint.approval.approval.datetime", later)
            members.approve(job, "north", "anna", "bert")
        problem = status_of(home, job).problem  # as before each run
        assert ("north/bert's approval is dated" in problem) == (ahead.days > 0)
        run = datetime.datetime.now(datetime.UTC)
        assert approved_since(home, job, long_ago) == (ahead.days == 0)
        assert not approved_since(home, job, run)
        # Nor once its time has come, since it was there before the run.
        monkeypatch.setattr(_Later, "by", 2 * ahead)
        with monkeypatch.context() as clock:
            clock.setattr("secagg.joint.approval.decision.datetime", later)
            clock.setattr("secagg.joint.approval.seen.datetime", later)
            status_of(home, job)
            assert approved_since(home, job, long_ago)
            assert not approved_since(home, job, run)
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(
        seconds=1
    )  # approvals are dated in whole seconds
    members.approve(job, "north", "anna", "bert")
    with home.transaction():  # as the guard asks
        assert approved_since(home, job, before)


@pytest.mark.parametrize("at", ["soon", "2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00"])
def test_an_approval_whose_time_is_none_or_not_in_utc_is_refused_with_its_file(
    tmp_path: Path, at: str
) -> None:
    members, job = _made_job(tmp_path)
    (path,) = members.approve(job, "north", "bert")
    path.write_text(json.dumps({**json.loads(path.read_text()), "at": at}))
    with pytest.raises(
        UsageError, match=rf"expected an approval.*{re.escape(path.name)}; take the file away"
    ):
        approved_since(members.homes["north"], job, datetime.datetime.now(datetime.UTC))


def test_one_persons_approval_of_a_run_is_no_new_approval_where_runs_need_none(tmp_path: Path) -> None:
    members, job = _made_job(
        tmp_path, "[parameters]\nlimit = 1000\n[vary]\nlimit = { least = 500, most = 2000 }\n"
    )
    home, long_ago = members.homes["north"], datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    members.approve(job, "north", "anna", "bert", kind=RUN)
    assert approved_since(home, job, long_ago)
    members.set_policy("north", Needed(template=2, run=0))
    assert not approved_since(home, job, long_ago)
    members.approve(job, "north", "anna", "bert")
    assert approved_since(home, job, long_ago)


def _made_job(tmp_path: Path, more: str = "") -> tuple[Members, Job]:
    members = Members.made(tmp_path, ("north", "south", "west"))
    parties = "".join(f'[[parties]]\nname = "{name}"\n' for name in members.homes)
    roles = '[roles]\ninput = ["north", "south"]\ncomputing = ["north", "south", "west"]\n'
    agreement = '[agreement]\nauthor = "north/anna"\nuntil = 2999-12-31\nruns = 100\n'
    return members, members.job(f'name = "j"\npattern = "structuring"\n{parties}{roles}{agreement}{more}')


@pytest.mark.slow
def test_what_the_owner_allows_is_used_up(homes: dict[str, Home]) -> None:
    job = make_job(limit_cents=50_000)
    assert ended(homes, PEOPLE) == ""
    with homes["north"].transaction() as connection:
        (session,) = connection.execute("SELECT session FROM consent_runs").fetchone()
        with pytest.raises(UsageError, match="expected a reason"):
            allow(connection, job, earlier=session[:16], runs=1, reason=" ")
        for short in ("", session[:7], "00" * 8):
            with pytest.raises(UsageError, match="expected the session of one earlier run"):
                allow(connection, job, earlier=short, runs=1, reason="asked for")
        assert allow(connection, job, earlier=session[:16], runs=1, reason="asked for") == 1
    assert ended(homes, PEOPLE[6:], job) == ""
    assert "differ" in ended(homes, PEOPLE[:-6], job)  # 6 from the first run, and 12 from the second


def test_of_two_runs_that_race_the_second_is_refused_at_its_commit(homes: dict[str, Home]) -> None:
    racing = []
    for people in (PEOPLE, PEOPLE[1:]):
        gate = ConsentGate(homes["north"])
        gate.screen(make_job(), "north", gate.admit(make_job(), "north", make_tables(people)))
        run = dataclasses.replace(_at_hand(), session=f"run of {len(people)}".encode())
        gate.check(run, {"north": gate.statement(run)})
        racing.append((gate, run))
    racing[0][0].commit(racing[0][1])
    with pytest.raises(UsageError, match="fewer than 10 differ"):
        racing[1][0].commit(racing[1][1])


@pytest.mark.parametrize("days", [90, 0])
@pytest.mark.slow
def test_a_run_that_goes_on_states_what_it_began_with_and_its_record_shows_absence_too(
    homes: dict[str, Home], days: int
) -> None:
    home = homes["north"]
    (home.path / "privacy.toml").write_text(f"[differencing]\nwithin_days = {days}\n")
    with pytest.raises(DataError, match="no exclusion list was asked about"):
        ConsentGate(home).statement(_at_hand())
    assert ended(homes, PEOPLE) == ""
    with home.transaction() as connection:
        (session,) = connection.execute("SELECT session FROM consent_runs").fetchone()
    again = dataclasses.replace(_at_hand(), session=b"later", resumes=bytes.fromhex(session))
    for _ in range(2):  # whoever goes on may have to go on once more
        gate = ConsentGate(home)
        told = gate.statement(again)
        gate.check(again, {"north": told})
        gate.commit(again)
        again = dataclasses.replace(again, session=again.session + b"!")
    stated = read_statement(told, peer="north")
    assert stated.absence is not None
    with home.transaction() as connection:
        assert len(connection.execute("SELECT * FROM consent_runs").fetchall()) == 1
        proof = make_proof(connection, stated, "north", b"later".hex(), "nobody")
        check_absence(proof.absence, stated.absence, {"deposits.customer": "nobody"})
        there = was_there(connection, stated, b"later!".hex(), "person 1")
        assert there == (["deposits.customer"] if days else None)
    other = dataclasses.replace(again, job=make_job(limit_cents=1_000))
    with pytest.raises(DataError, match="no exclusion list was asked about"):
        ConsentGate(home).statement(other)


@pytest.mark.slow
def test_a_run_goes_on_where_a_party_has_no_data(homes: dict[str, Home]) -> None:
    assert set(run_jointly(make_job(), homes, consent_gates).values()) == {None}
    with homes["north"].transaction() as connection:
        (session,) = connection.execute("SELECT session FROM consent_runs").fetchone()
    again = run_jointly(make_job(), homes, consent_gates, resumes=bytes.fromhex(session))
    assert set(again.values()) == {None}


@pytest.mark.parametrize("days", [90, 0])
@pytest.mark.parametrize("committed", [True, False], ids=["committed", "killed after its checks"])
@pytest.mark.slow
def test_who_withdrew_meanwhile_does_not_enter_a_run_that_begins_again(
    homes: dict[str, Home], days: int, committed: bool
) -> None:
    home, job = homes["north"], make_job()
    (home.path / "privacy.toml").write_text(f"[differencing]\nwithin_days = {days}\n")

    def passed(
        session: bytes, resumes: bytes | None = None, *, read: bool = True, commit: bool = True
    ) -> Any:
        gate = ConsentGate(home)
        if read:
            found = gate.screen(job, "north", gate.admit(job, "north", make_tables(PEOPLE)))
            assert ("person 5" in found["deposits"]["customer"]) == (resumes is None)
        run = dataclasses.replace(_at_hand(), session=session, resumes=resumes)
        told = gate.statement(run)
        gate.check(run, {"north": told})
        if commit:
            gate.commit(run)
        return read_statement(told, peer="north")

    passed(b"first", commit=committed)
    excluded(home, "person 5")
    passed(b"second", b"first", commit=False)
    again = passed(b"third", b"first")
    onward = passed(b"fourth", b"first", read=False)  # from a checkpoint of the third
    assert onward == msgspec.structs.replace(again, unchanged=[])
    with home.transaction() as connection:
        proof = make_proof(connection, onward, "north", b"fourth".hex(), "person 5")
        assert onward.absence is not None
        check_absence(proof.absence, onward.absence, {"deposits.customer": "person 5"})
        there = was_there(connection, onward, b"fourth".hex(), "person 6")
        assert there == (["deposits.customer"] if days else None)


def test_differences_are_exact_and_two_owners_cannot_compare_theirs() -> None:
    schema = Schema(sender=Identifier(), city=Identifier(repeated=True), amount=Money())

    def population(people: Sequence[str], key: bytes = b"k" * 32) -> Population:
        n = len(people)
        columns = {"sender": factorize(np.array(people, object)), "city": np.array(["x"] * n, object)}
        return Population.of({**columns, "amount": np.arange(n)}, schema, key)

    base = population(PEOPLE)
    for removed, added in ((0, 0), (1, 0), (3, 4), (100, 0)):
        people = [*PEOPLE[removed:], *(f"new {i}" for i in range(added))]
        if people:
            assert base.difference(population(people)) == removed + added
    assert base.difference(population(PEOPLE, b"q" * 32)) == 200
    rows = Population.of({"amount": np.array([1, 2, 2])}, Schema(amount=Money()), b"k" * 32)
    assert len(rows.persons) == 2  # without identifiers, different rows are the persons
    missing, zero = (
        Population.of(
            {"amount": np.ma.array([0], mask=[mask])}, Schema(amount=Money(nullable=True)), b"k" * 32
        )
        for mask in (True, False)
    )
    assert missing.held != zero.held


# Absence.


@pytest.mark.slow
def test_somebody_who_was_not_there_is_shown_to_be_absent_and_somebody_who_was_cannot_be() -> None:
    columns = ["deposits.customer", "deposits.payer"]
    cells = Cells.of(b"s" * 32, [(column, text) for column in columns for text in PEOPLE])
    stated, nobody = cells.root(), dict.fromkeys(columns, "nobody")
    proof = cells.absence(nobody)
    check_absence(proof, stated, nobody)
    # The path goes all the way through trees of several chunks too.
    large = Cells.of(b"s" * 32, [("t.c", str(i)) for i in range(5000)])
    check_absence(large.absence({"t.c": "nobody"}), large.root(), {"t.c": "nobody"})
    for person in PEOPLE[:20]:
        with pytest.raises(UsageError, match=r"was in deposits\.customer of the run"):
            cells.absence(dict.fromkeys(columns, person))
    one = {"deposits.customer": "person 1"}
    with pytest.raises(AuthenticationError, match="not this identifier's"):
        check_absence(proof, stated, dict.fromkeys(columns, "person 1"))
    with pytest.raises(AuthenticationError, match="persons stood in"):
        check_absence(proof, stated, nobody | {"t.other": "nobody"})
    with pytest.raises(AuthenticationError, match="persons stood in"):
        check_absence(proof, stated, {"deposits.customer": "nobody"})
    other = Cells.of(b"t" * 32, [("deposits.customer", "a")])
    with pytest.raises(AuthenticationError, match="committed to before the run"):
        check_absence(other.absence(one), stated, one)
    opening = proof.openings[columns[0]]
    for room in (0, 3, 1 << 70):
        with pytest.raises(AuthenticationError, match="persons stood in"):
            check_absence(proof, msgspec.structs.replace(stated, room=room), nobody)
    for wrong in (
        msgspec.structs.replace(opening, blind=bytes(16)),
        msgspec.structs.replace(opening, path=opening.path[:-1]),
        msgspec.structs.replace(opening, path=[*opening.path, bytes(32)]),
    ):
        bad = msgspec.structs.replace(proof, openings={**proof.openings, columns[0]: wrong})
        with pytest.raises(AuthenticationError, match="not in what was stated"):
            check_absence(bad, stated, nobody)


def test_a_marked_cell_cannot_be_opened_as_unmarked() -> None:
    cells = Cells.of(b"s" * 32, [("t.c", "a")])
    lying = Cells(b"s" * 32, np.zeros_like(cells.marked))
    with pytest.raises(AuthenticationError, match="not in what was stated"):
        check_absence(lying.absence({"t.c": "a"}), cells.root(), {"t.c": "a"})


@pytest.mark.slow
def test_which_of_the_free_cells_is_opened_does_not_tell_that_others_are_marked() -> None:
    from secagg.joint.consent.absence import _cells

    cells = Cells.of(b"s" * 32, [("t.c", str(i)) for i in range(1024)])
    firsts, key = 0, cells.absence({"t.c": "x"}).key
    for i in range(16):
        opened = cells.absence({"t.c": f"absent {i}"}).openings["t.c"].cell
        places = _cells(key, "t.c", f"absent {i}", 1024).tolist()
        firsts += opened == next(cell for cell in places if not cells.marked[cell])
    # Asking again tells no more.
    assert cells.absence({"t.c": "absent 0"}) == cells.absence({"t.c": "absent 0"})
    # About half of 11 are free, so that one opened cell in five or six is the first free one.
    assert firsts < 10


@pytest.mark.slow
def test_absence_can_be_shown_for_nearly_everybody_even_when_the_filter_is_full() -> None:
    cells = Cells.of(b"s" * 32, [("t.c", str(i)) for i in range(1024)])
    assert cells.root().room == 1024
    from secagg.joint.consent.absence import _cells

    key = cells.absence({"t.c": "x"}).key
    hidden = sum(bool(cells.marked[_cells(key, "t.c", f"absent {i}", 1024)].all()) for i in range(20_000))
    # Expected 9 of 20,000 (4.6e-4); 40 has a probability below 1e-12 (Poisson).
    assert hidden < 40


# The commands.


@pytest.mark.slow
def test_the_commands_keep_a_person_out_and_show_to_others_that_it_was_not_there(
    homes: dict[str, Home],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("SECAGG_HOME", str(homes["north"].path))

    def secagg(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["consent", *words])
        found = capsys.readouterr()
        return int(stopped.value.code or 0), found.out + found.err

    assert secagg("remove", "--id", "person 7") == (
        0,
        "removed: 1 more persons; their rows enter no run from now on\n",
    )
    monkeypatch.setattr("sys.stdin", io.StringIO("person 8\nperson 9\n"))
    assert secagg("exclude", "optout", "--column", "customer", "--id", "-")[1] == "optout: 2 more persons\n"
    assert "optout: 2 persons, spelt by digits, exact, folded, iban; columns customer" in secagg("list")[1]
    tables = {"north": make_tables(PEOPLE), "south": make_tables(["x", "y"])}
    records: dict[str, Any] = {}
    assert set(run_jointly(make_job(), homes, consent_gates, tables=tables, records=records).values()) == {
        None
    }
    stated = read_statement(
        from_record(records["west"]["gates"]["north"]).statements["consent"], peer="north"
    )
    assert stated.excluded == {"deposits": 0}  # 3, told in tens
    files = {}
    for name, record in records.items():
        files[name] = tmp_path / f"{name}.json"
        files[name].write_text(json.dumps(sign_record(record, identity(name))))
    proof = tmp_path / "proof.json"
    assert secagg("check", str(files["north"]), "--as", "north", "--id", "person 1") == (
        1,
        "this person was in the run, in deposits.customer\n",
    )
    status, said = secagg(
        "check", str(files["north"]), "--as", "north", "--id", "person 8", "--out", str(proof)
    )
    assert (status, said.splitlines()[0]) == (0, "this person was in none of deposits.customer")
    assert "person" not in proof.read_text()
    # Whoever verifies has no folder.
    monkeypatch.setenv("SECAGG_HOME", "")
    certificate = tmp_path / "north.crt"
    certificate.write_bytes(certificate_pem(identity("north").certificate))
    for words in ((), ("--certificate", str(certificate))):
        status, said = secagg("verify", str(proof), str(files["west"]), "--id", "person 8", *words)
        assert (status, said.splitlines()[-1]) == (
            0,
            "north stated before the run that this person is in none of deposits.customer",
        )
        assert ("west vouches for what north stated" in said) == (not words)
    status, said = secagg("verify", str(proof), str(files["west"]), "--id", "person 1")
    assert status == 1
    assert "not this identifier's" in said

    def verified(record: dict[str, Any], *words: str) -> tuple[int, str]:
        files["west"].write_text(json.dumps(sign_record(record, identity("west"))))
        return secagg("verify", str(proof), str(files["west"]), "--id", "person 8", *words)

    status, said = verified(records["west"] | {"session": "00"})
    assert (status, "the proof is about another run than the record" in said) == (1, True)
    # West alters what north stated, and signs that; north's own signature tells.
    told = records["west"]["gates"]["north"]
    other = msgspec.structs.replace(stated, columns=stated.columns | {"deposits.payer": "exact"})
    altered = base64.b64encode(msgspec.msgpack.encode(other)).decode()
    changed = told | {"statements": told["statements"] | {"consent": altered}}
    status, said = verified(
        records["west"] | {"gates": {"north": changed}}, "--certificate", str(certificate)
    )
    assert (status, "expected north's signature of what its gates state" in said) == (1, True)


@pytest.mark.slow
def test_an_excluded_person_does_not_enter_a_query_that_reads_no_person(
    homes: dict[str, Home], tmp_path: Path
) -> None:
    declared = """\
[tables.patients]
holders = ["north", "south"]
max_rows = 100
[tables.patients.columns]
patient = {type = "identifier", spelling = "digits"}
age = {type = "integer", min = 0, max = 130}
"""
    text = make_job().to_toml().replace('pattern = "structuring"\nmax_rows = 10000000\n', "")
    text = 'sql = "query.sql"\ntables = "tables.toml"\n' + re.sub(
        r"\[parameters\].*?(?=\[window\])", "", text, flags=re.DOTALL
    )
    (tmp_path / "query.sql").write_text("SELECT count(*) AS n, sum(age) AS years FROM patients\n")
    (tmp_path / "tables.toml").write_text(declared)
    job = parse_job(text, file=tmp_path / "job.toml")
    (tmp_path / "north.csv").write_text("patient,age\n00 1,30\n002,40\n003,50\n")
    tables = InputTables(job, str(tmp_path / "north.csv"), me="north", identifiers=True)()
    assert "patient" not in job.pattern_at("north").inputs["patients"]
    excluded(homes["north"], "001", columns=["patients.patient"])
    gate = ConsentGate(homes["north"])
    gate.ready(job, "north")
    entering = gate.admit(job, "north", tables)
    assert {name: column.tolist() for name, column in entering["patients"].items()} == {"age": [40, 50]}
    gate.screen(job, "north", entering)
    assert gate._columns == {"patients.patient": "digits"}
    unread = InputTables(job, str(tmp_path / "north.csv"), me="north")()
    with pytest.raises(DataError, match="patients was read without patient"):
        ConsentGate(homes["north"]).admit(job, "north", unread)
