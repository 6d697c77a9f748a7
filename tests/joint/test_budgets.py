"""Budgets: what is spent stays spent, through races, killed processes, copies and backups; all owners must grant.

The module is long because one pair of owners and their records serve every claim.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

import interrupted
from interrupted import Interrupted
from joint_runs import BANKS, ROSTER, make_homes, make_job, run_jointly
from secagg.cli import main
from secagg.cli.job_shown import explain
from secagg.errors import BudgetError, JobError, RefusedError, UsageError
from secagg.home import Home
from secagg.jobs.gates import Outcome, RunAtHand
from secagg.joint.budget.accounting import Allowance
from secagg.joint.budget.book import ALL, Book, Grant
from secagg.joint.budget.chain import Token
from secagg.joint.budget.gate import BudgetGate, Statement
from secagg.network.simulated import Fault
from secagg.patterns.pattern import Spending, Tables
from secagg.patterns.registry import find

RELEASE = Spending(("deposits",), epsilon=0.1)
STATED, PASSED = (
    8,
    11,
)  # messages of a party until its gates have stated, and until it told somebody that all passed


def grant(
    home: Home, *, epsilon: float | None = None, runs: int | None = None, data_set: str = "deposits"
) -> None:
    allowance = None if epsilon is None else Allowance(epsilon, 0.0, "person", "basic")
    with home.transaction() as connection:
        Book.read(connection, home).grant(Grant(data_set, ALL, allowance, runs))


def book(home: Home, *, anywhere: bool = False) -> Book:
    with home.transaction() as connection:
        return Book.read(connection, home, anywhere=anywhere)


def runs(home: Home) -> int:
    return len(book(home).runs)


def budget_gates(home: Home) -> list[BudgetGate]:
    return [BudgetGate(home)]


@pytest.fixture
def homes(tmp_path: Path) -> dict[str, Home]:
    return make_homes(tmp_path)


def test_a_release_with_noise_is_refused_when_one_owner_has_not_granted_it(homes: dict[str, Home]) -> None:
    grant(homes["north"], epsilon=1)
    ended = run_jointly(make_job(RELEASE), homes, budget_gates)
    with pytest.raises(RefusedError, match=r"south has set no privacy budget for deposits in structuring"):
        raise ended["south"] or AssertionError
    assert "south has set no privacy budget" in str(ended["north"])
    assert (runs(homes["north"]), runs(homes["south"])) == (0, 0)  # nothing was shared, and nothing is spent


@pytest.mark.slow
def test_a_budget_is_spent_by_runs_until_one_owner_has_too_little_left(homes: dict[str, Home]) -> None:
    grant(homes["north"], epsilon=1)
    grant(homes["south"], epsilon=0.3)  # three times 0.1, as people add
    job = make_job(RELEASE)
    for _ in range(3):
        assert set(run_jointly(job, homes, budget_gates).values()) == {None}
    ended = run_jointly(job, homes, budget_gates)
    assert "south's budget of deposits in all patterns has not enough left: epsilon 0.3 of 0.3" in str(
        ended["south"]
    )
    assert isinstance(ended["west"], Exception)
    assert (runs(homes["north"]), runs(homes["south"]), runs(homes["west"])) == (3, 3, 0)


def test_patterns_without_noise_run_freely_and_within_a_quota_where_there_is_one(
    homes: dict[str, Home],
) -> None:
    job = make_job()
    assert set(run_jointly(job, homes, budget_gates).values()) == {None}
    grant(homes["south"], runs=2, data_set=ALL)  # the run before counts
    assert set(run_jointly(job, homes, budget_gates).values()) == {None}
    assert "2 runs were allowed and made" in str(run_jointly(job, homes, budget_gates)["south"])


@pytest.mark.parametrize("releases", [(), (RELEASE,)])
@pytest.mark.slow
def test_a_run_that_goes_on_is_spent_once_and_another_needs_a_budget(
    homes: dict[str, Home], releases: tuple[Spending, ...]
) -> None:
    for name in BANKS:
        grant(homes[name], epsilon=0.1, runs=1)
    job = make_job(*releases)
    run_jointly(job, homes, budget_gates)
    (first,) = book(homes["north"]).runs
    for _ in range(2):
        assert set(run_jointly(job, homes, budget_gates, resumes=bytes.fromhex(first)).values()) == {None}
    assert [list(book(homes[name]).runs) for name in BANKS] == [[first], [first]]
    BudgetGate(homes["north"]).ready(job, "north")  # it may be about to go on
    for other in (job, make_job(*releases, limit_cents=50_000)):
        assert "1 runs were allowed" in str(run_jointly(other, homes, budget_gates)["north"])
    grant(homes["north"], runs=9)
    grant(homes["south"], runs=9)
    other = make_job(*releases, limit_cents=50_000)
    ended = run_jointly(other, homes, budget_gates, resumes=bytes.fromhex(first))
    assert "has not enough left" in str(ended["north"]) or "is of another job" in str(ended["north"])


def test_a_run_that_was_given_back_is_spent_once_when_it_goes_on_and_not_given_back_by_another_session(
    homes: dict[str, Home],
) -> None:
    home, job = homes["north"], make_job(RELEASE)
    grant(home, epsilon=0.1, runs=1)
    first, *later = (bytes([i]) * 16 for i in range(5))

    def begun(session: bytes) -> tuple[BudgetGate, RunAtHand]:
        gate, run = (
            BudgetGate(home),
            RunAtHand(job, "north", session, first if session in later else None, {}, None),
        )
        gate.statement(run)
        return gate, run

    def ended(gate: BudgetGate, run: RunAtHand) -> None:
        gate.close(run, Outcome({}, RefusedError("no")))

    ended(*begun(first))  # another party's disk was full
    assert runs(home) == 0
    gate, run = begun(later[0])
    gate.commit(run)
    ended(gate, run)
    ended(*begun(later[1]))  # goes on, and ends before its commit
    assert list(book(home).runs) == [first.hex()]
    # Of two processes that go on with one run, the one that spent it does not give back what the other uses.
    home, job = homes["south"], make_job(RELEASE)
    grant(home, epsilon=0.1, runs=1)
    ended(*begun(first))
    spends = begun(later[2])
    gate, run = begun(later[3])
    gate.commit(run)
    ended(*spends)
    assert list(book(home).runs) == [first.hex()]


def test_a_session_gives_back_only_the_run_that_it_spent_itself(homes: dict[str, Home]) -> None:
    home, (first, other) = homes["north"], (bytes([i]) * 16 for i in range(2))
    with home.transaction() as connection:
        book = Book.read(connection, home)
        assert book.spend(make_job(), "north", session=first, resumes=None)
        book.give_back(other, first)  # which did not come to go on with it
        assert list(book.runs) == [first.hex()]
        book.give_back(first, None)
        assert not book.runs


def test_a_budget_of_another_data_set_that_is_spent_refuses_nothing(homes: dict[str, Home]) -> None:
    grant(homes["north"], runs=0, data_set="loans")
    BudgetGate(homes["north"]).ready(make_job(), "north")


@pytest.mark.slow
def test_a_release_that_is_interrupted_anywhere_is_spent_once_and_everybody_sees_the_same_noise(
    tmp_path: Path,
) -> None:
    pytest.importorskip("secagg.dp.accounting")
    names = ("bank_a", "bank_b", "bank_c")
    installed = find("reach_and_overlap")
    job = replace(
        interrupted.make_job("three"),
        installed=installed,
        parameters=installed.pattern.Parameters(epsilon=2.0),
    )
    tables: dict[str, Tables] = {
        name: {"audience": {"person": np.array(["both", name], object)}} for name in names
    }

    def start(folder: Path) -> Interrupted:
        owners = {name: Home.create(folder / name) for name in names}
        for home in owners.values():
            with home.transaction() as connection:
                allowed = Allowance(2.0, 1e-6, "person", "basic")
                Book.read(connection, home).grant(Grant("audience", ALL, allowance=allowed, runs=1))
        return Interrupted(job, tables, folder, gates=lambda name: budget_gates(owners[name]))

    (tmp_path / "whole").mkdir()
    whole = start(tmp_path / "whole").start()
    sent = sum(to.messages for to in whole.ledgers["bank_b"].sent_to.values())
    told_before, places, answers = 0, set(), []
    for message in (STATED, PASSED, sent // 2, sent - 1):
        folder = tmp_path / str(message)
        folder.mkdir()
        run = start(folder)
        before = run.start([Fault("crash", message, sender="bank_b")])
        after = run.start()
        if message == STATED:  # nobody can go on with what the killed party had spent
            assert "1 runs were allowed and made" in str(after.errors["bank_b"])
            continue
        told = [rows for outcome in (before, after) for rows in outcome.results.values()]
        assert len(after.results) == 3
        assert all(rows == told[0] for rows in told)
        told_before += len(before.results)
        answers.append(str(told[0]))
        places |= set(run.places().values())
        for name in names:
            with Home(folder / name).transaction() as connection:
                assert len(Book.read(connection, Home(folder / name)).runs) == 1
    assert {"begin", "share", "compute"} <= places
    assert told_before  # somebody had the answer, and saw it again
    assert len(set(answers)) > 1  # the noise is fresh in each run


@pytest.mark.slow
def test_a_backup_that_is_put_back_is_refused_by_peers_and_by_its_owner(
    homes: dict[str, Home], tmp_path: Path
) -> None:
    for name in BANKS:
        grant(homes[name], epsilon=1)
    job = make_job(RELEASE)
    run_jointly(job, homes, budget_gates)
    database = homes["north"].path / "state.sqlite"
    backup = database.read_bytes()
    assert set(run_jointly(job, homes, budget_gates).values()) == {None}
    database.write_bytes(backup)  # the same file, so that its place tells nothing
    assert runs(homes["north"]) == 1
    for _ in range(2):  # also when failed attempts have brought the number up again
        ended = run_jointly(job, homes, budget_gates)
        assert "north's record of budgets is an old or another copy" in str(ended["north"])
        assert "secagg budget restart" in str(ended["north"])
        assert isinstance(ended["south"], Exception)
    # How the page says to recover:
    with homes["north"].transaction() as connection:
        Book.read(connection, homes["north"]).restart("backup of Monday")
    assert "taken as spent" in str(run_jointly(job, homes, budget_gates)["north"])
    book(homes["north"]).check(make_job(), "north")  # what needs no budget
    grant(homes["north"], epsilon=0.1)
    ended = run_jointly(job, homes, budget_gates)
    assert "secagg budget accept north" in str(ended["south"])
    for name in ("south", "west"):
        with homes[name].transaction() as connection:
            Book.read(connection, homes[name]).accept("north")
    assert set(run_jointly(job, homes, budget_gates).values()) == {None}


@pytest.mark.slow
def test_of_two_copies_that_are_both_used_the_second_is_refused(
    homes: dict[str, Home], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job()
    run_jointly(job, homes, budget_gates)
    shutil.copytree(homes["north"].path, tmp_path / "copy")
    copy = replace(homes["north"], path=tmp_path / "copy")
    with pytest.raises(BudgetError, match=r"is a copy.*secagg budget moved.*secagg budget restart"):
        BudgetGate(copy).ready(job, "north")
    for home, told in ((homes["north"], False), (copy, True)):
        with pytest.raises(SystemExit):
            main(["budget", "show", "--home", str(home.path)])
        assert ("is a copy" in " ".join(capsys.readouterr().out.split())) == told
    with copy.transaction() as connection:
        Book.read(connection, copy, anywhere=True).move(copy)
    assert set(run_jointly(job, homes | {"north": copy}, budget_gates).values()) == {None}
    ended = run_jointly(job, homes, budget_gates)
    assert "north's record of budgets is an old or another copy" in str(ended["north"])


def test_a_record_that_went_back_is_seen_by_peers_that_do_not_trust_its_owner_to_look() -> None:
    key, id_ = bytes(32), bytes(16)
    known = Token.made(key, id_, 7, b"h" * 32)
    assert Token.made(key, id_, 6, b"g" * 32).is_before(known)
    assert Token.made(key, id_, 7, b"f" * 32).is_before(known)
    assert not known.is_before(known)
    assert not Token.made(key, id_, 8, b"x" * 32).is_before(known)
    assert known.is_made_with(key)
    assert not known.is_made_with(b"k" * 32)
    for other in (
        replace(known, id=b"i" * 16),
        replace(known, count=8),
        replace(known, head=b"g" * 32),
        replace(known, mac=bytes(32)),
    ):
        assert not other.is_made_with(key)


def test_a_run_that_ends_late_brings_no_older_memory_of_a_peer_back(homes: dict[str, Home]) -> None:
    older, newer = (Token.made(bytes(32), bytes(16), count, b"h" * 32) for count in (6, 7))
    anew = Token.made(bytes(32), b"i" * 16, 1, b"h" * 32)
    with homes["south"].transaction() as connection:
        record = Book.read(connection, homes["south"])
        for seen, kept in ((older, older), (newer, newer), (older, newer), (anew, anew)):
            record.remember({"north": seen})
            assert record.remembered() == {"north": kept}


def test_a_folder_made_anew_is_refused_until_its_peers_accept_it(
    homes: dict[str, Home], tmp_path: Path
) -> None:
    job = make_job()
    run_jointly(job, homes, budget_gates)
    fresh = homes | {"north": Home.create(tmp_path / "fresh")}
    ended = run_jointly(job, fresh, budget_gates)
    assert "north's record of budgets was begun anew" in str(ended["south"])
    assert "remembers a record of north's budgets that this folder never made" in str(ended["north"])


def test_a_peer_cannot_invent_a_memory_that_makes_an_owner_look_restored(homes: dict[str, Home]) -> None:
    job = make_job()
    run_jointly(job, homes, budget_gates)
    with homes["south"].transaction() as connection:
        record = Book.read(connection, homes["south"])
        known = record.remembered()["north"]
        made_up = replace(known, count=known.count + 5)
        connection.execute("UPDATE budget_peers SET token = ? WHERE name = 'north'", (made_up.to_bytes(),))
    error = run_jointly(job, homes, budget_gates)["north"]
    assert isinstance(error, RefusedError)
    assert error.peer == "south"
    assert "never made" in str(error)


def test_an_entry_that_is_altered_in_the_database_is_refused(homes: dict[str, Home]) -> None:
    grant(homes["north"], epsilon=1)
    with homes["north"].transaction() as connection:
        change = "UPDATE budget_entries SET content = replace(content, 'epsilon\": 1', 'epsilon\": 9') WHERE number = 2"
        connection.execute(change)
    with pytest.raises(BudgetError, match=r"entry 2 of the budgets .* is not as it was written"):
        book(homes["north"])
    with homes["north"].transaction() as connection:
        connection.execute("DELETE FROM budget_entries WHERE number = 1")
    with pytest.raises(BudgetError, match="entry 2"):
        book(homes["north"])


def test_a_run_that_ends_before_its_commit_is_given_back_and_a_later_one_is_not(
    homes: dict[str, Home],
) -> None:
    class Full(BudgetGate):
        def commit(self, run: object) -> None:
            raise OSError(28, "No space left on device")

    grant(homes["south"], runs=1)
    job = make_job()
    ended = run_jointly(
        job, homes, lambda home: [Full(home) if home.path.name == "north" else BudgetGate(home)]
    )
    assert "cannot write what it must" in str(ended["north"])
    assert runs(homes["north"]) == 0
    assert "1 runs were allowed and made" in str(run_jointly(job, homes, budget_gates)["south"])


SPENDING = """
import os, signal, sys
from pathlib import Path
from joint_runs import make_job
from secagg.errors import BudgetError
from secagg.home import Home
from secagg.joint.budget.gate import BudgetGate, Statement
from secagg.jobs.gates import Outcome, RunAtHand

home, job = Home(Path(sys.argv[1])), make_job()
session = os.urandom(16)
print("ready", flush=True)
sys.stdin.readline()
try:
    BudgetGate(home).statement(RunAtHand(job, "north", session, None, {}, None))
    print("spent", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)  # between spending and use
except BudgetError:
    print("refused", flush=True)
"""


@pytest.mark.slow
def test_of_two_processes_one_gets_the_last_run_and_a_killed_one_leaves_it_spent(
    homes: dict[str, Home],
) -> None:
    home = homes["north"]
    grant(home, runs=1)
    command = [sys.executable, "-c", SPENDING, str(home.path)]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    racing = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | path
        )
        for _ in range(2)
    ]
    for process in racing:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    said = [process.communicate("go\n", timeout=60)[0] for process in racing]
    assert sorted(said) == ["refused\n", "spent\n"]
    assert sorted(process.returncode for process in racing) == [-signal.SIGKILL, 0]
    assert runs(home) == 1
    with pytest.raises(BudgetError, match="1 runs were allowed and made"):
        BudgetGate(home).ready(make_job(limit_cents=1_000), "north")


@pytest.mark.slow
def test_concentrated_accounting_lets_more_gaussian_releases_pass_than_basic_and_never_more_than_the_budget() -> (
    None
):
    dp = pytest.importorskip("secagg.dp.accounting")
    sigma = 20.0
    release = Spending(("deposits",), epsilon=0.25, delta=1e-8, rho=1 / (2 * sigma**2))
    budget = Allowance(1.0, 1e-6, "person", "concentrated")
    basic = replace(budget, accounting="basic")
    count = next(n for n in range(1, 10**4) if not budget.fits([release] * n)) - 1
    assert basic.fits([release] * 4)
    assert not basic.fits([release] * 5)
    assert count > 10
    # The same by dp-accounting's own Gaussian, and the first release beyond it is too much.
    orders = np.asarray(dp.ORDERS, float)
    assert dp.epsilon_at(dp.ORDERS, count * orders / (2 * sigma**2), 1e-6) <= 1.0
    assert dp.epsilon_at(dp.ORDERS, (count + 1) * orders / (2 * sigma**2), 1e-6) > 1.0


def test_a_budget_refuses_what_it_cannot_account_for() -> None:
    budget = Allowance(1.0, 1e-6, "person", "concentrated")
    with pytest.raises(BudgetError, match=r"for what a person may lose.*what a row loses"):
        budget.check_kind(replace(RELEASE, unit="row"))
    with pytest.raises(BudgetError, match="declares epsilon and delta and no rho"):
        budget.check_kind(replace(RELEASE, delta=1e-9))
    for wrong in (
        (0.0, 0.0, "basic"),
        (1.0, 1.0, "basic"),
        (1.0, 0.0, "concentrated"),
        (float("nan"), 0.1, "basic"),
    ):
        with pytest.raises(UsageError, match=r"expected|needs"):
            Allowance(wrong[0], wrong[1], "person", wrong[2])
    with pytest.raises(UsageError, match="finite epsilon"):
        Spending(("deposits",), epsilon=float("inf"))


def test_deltas_add_up_as_epsilons_do() -> None:
    release = replace(RELEASE, delta=6e-7)
    assert Allowance(9.0, 1.2e-6, "person", "basic").fits([release] * 2)
    assert not Allowance(9.0, 1.1e-6, "person", "basic").fits([release] * 2)


def test_an_owner_that_states_to_spend_less_than_the_job_asks_is_refused(homes: dict[str, Home]) -> None:
    class Cheap(BudgetGate):
        def statement(self, run: RunAtHand) -> bytes:
            told = msgspec.msgpack.decode(super().statement(run), type=Statement)
            return msgspec.msgpack.encode(msgspec.structs.replace(told, releases=[]))

    for name in BANKS:
        grant(homes[name], epsilon=1)
    ended = run_jointly(
        make_job(RELEASE), homes, lambda home: [(Cheap if home is homes["north"] else BudgetGate)(home)]
    )
    error = ended["south"]
    assert isinstance(error, RefusedError)
    assert error.peer == "north"
    assert "north spends another budget than the job asks of it" in str(error)


def test_a_budget_keeps_its_accounting_and_its_delta_once_something_is_spent(homes: dict[str, Home]) -> None:
    for name in BANKS:
        grant(homes[name], epsilon=1)
    run_jointly(make_job(RELEASE), homes, budget_gates)
    with homes["north"].transaction() as connection:
        record = Book.read(connection, homes["north"])
        with pytest.raises(UsageError, match="something is spent from it"):
            record.grant(Grant("deposits", ALL, Allowance(1.0, 0.0, "row", "basic")))
        with pytest.raises(UsageError, match="expected --epsilon"):
            record.grant(Grant("deposits", ALL))


def test_a_budget_for_all_data_sets_counts_a_release_once_and_all_budgets_must_have_room(
    homes: dict[str, Home],
) -> None:
    for name in BANKS:
        grant(homes[name], epsilon=5)
        grant(homes[name], epsilon=0.15, data_set=ALL)
    job = make_job(RELEASE)
    assert set(run_jointly(job, homes, budget_gates).values()) == {None}
    assert "budget of all data sets in all patterns has not enough left" in str(
        run_jointly(job, homes, budget_gates)["north"]
    )
    assert ROSTER[2] == "west"


@pytest.mark.slow
def test_the_commands_set_show_and_log_budgets(
    homes: dict[str, Home], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECAGG_HOME", str(homes["north"].path))

    def secagg(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(words)
        found = capsys.readouterr()
        assert ended.value.code == (2 if found.err else 0)
        return found.out + found.err

    assert "no budgets and no quotas" in secagg("budget", "show")
    said = secagg("budget", "set", "deposits", "*", "--epsilon", "0.5", "--runs", "3")
    assert "epsilon 0 of 0.5 spent" in said
    assert "0 of 3 runs made" in said
    grant(homes["south"], epsilon=1)
    run_jointly(make_job(RELEASE), homes, budget_gates)
    said = secagg("budget", "show")
    assert (
        "epsilon 0.1 of 0.5 spent, delta 0 of 0, for each person (basic accounting); 1 of 3 runs made" in said
    )
    assert "south was last seen with 3 entries" in said
    assert "spent" in secagg("budget", "log")
    assert "expected an epsilon above 0" in secagg("budget", "set", "x", "y", "--epsilon", "-1")
    assert "nothing is remembered of 'east'" in secagg("budget", "accept", "east")
    assert "taken as spent; set another" in secagg("budget", "restart", "--reason", "a backup")


def test_whoever_reads_a_job_is_told_what_each_run_spends() -> None:
    said = explain(
        make_job(replace(RELEASE, delta=1e-6, rho=0.005)), dict.fromkeys(BANKS, 10), [], assumed=True
    )
    expected = "Each run spends epsilon 0.1, delta 1e-06, rho 0.005 for each person in deposits"
    assert any(str(part).startswith(expected) for part in said)
    strange = make_job(replace(RELEASE, tables=("accounts",)))
    with pytest.raises(JobError, match="declares to spend on accounts, and takes deposits"):
        strange.spends()
