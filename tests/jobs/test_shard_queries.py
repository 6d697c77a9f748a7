"""Queries with joins in shards: as the plaintext, whatever workers are lost; others are refused."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ports import reserved_ports
from secagg.errors import JobError, PlanError, SecaggError, UsageError
from secagg.jobs.inputs import InputTables
from secagg.jobs.job import Job
from secagg.jobs.job_file import parse_job
from secagg.jobs.local import run_locally
from secagg.jobs.plain import decode, encode
from secagg.jobs.query import QueryPattern
from secagg.jobs.query_in_shards import plan_of, terms_of, texts_of, told_terms
from secagg.jobs.run import Part, phases
from secagg.jobs.shards import LocalWorkers, Workers, Workplace, worker
from secagg.joint.audit.gate import of_workers
from secagg.network.identity import Identity, create_identity
from secagg.network.simulated import simulate
from secagg.network.tcp import Timeouts, run_party
from secagg.query import division

ROOT = Path(__file__).parents[2]
BANKS = ("north", "south", "west")
ALL = (*BANKS, "office")
PLACES = 2
TABLES = """
[tables.payments]
holders = ["north", "south", "west"]
max_rows = 60
[tables.payments.columns]
payee = {type = "identifier", spelling = "folded", max_rows = 4}
amount = {type = "integer", min = 0, max = 1000}
[tables.customers]
holders = ["north", "south", "west"]
max_rows = 40
keys = [["account"]]
[tables.customers.columns]
account = {type = "identifier", spelling = "folded"}
segment = {type = "category", values = ["business", "private", "public"]}
"""
BY_SEGMENT = """SELECT c.segment, count(*) AS payments, sum(p.amount) AS total, max(p.amount) AS largest
FROM payments p JOIN customers c ON p.payee = c.account GROUP BY c.segment"""
SINGLE = """SELECT c.segment, p.amount FROM payments p JOIN customers c ON p.payee = c.account
WHERE p.amount > $least"""
JOB = """name = "segments"
sql = "query.sql"
tables = "tables.toml"
shards = 2
[roles]
input = ["north", "south", "west"]
computing = ["north", "south", "west"]
result = ["office"]
""" + "".join(
    f'[[parties]]\nname = "{name}"\naddress = "{name}.example:7400"\ncertificate = "{name}.crt"\n'
    f'workers = ["{name}.example:7401", "{name}.example:7402"]\n'
    for name in ALL
)
RULES = """owner = "{}"
[tables.payments]
smallest_group = 8
[tables.payments.columns.payee]
uses = ["join"]
[tables.payments.columns.amount]
uses = ["aggregate"]
[tables.customers]
smallest_group = 1
[tables.customers.columns.account]
uses = ["join"]
[tables.customers.columns.segment]
uses = ["group"]
"""
RULED = JOB.replace(
    "[roles]", '[rules]\nnorth = "north.toml"\nsouth = "south.toml"\nwest = "west.toml"\n[roles]'
)


def job_of(folder: Path, sql: str = BY_SEGMENT, *, text: str = JOB) -> Job:
    (folder / "query.sql").write_text(sql)
    (folder / "tables.toml").write_text(TABLES)
    return parse_job(text, file=folder / "job.toml", with_certificates=False)


def pattern_of(job: Job) -> QueryPattern:
    assert isinstance(job.pattern, QueryPattern)
    return job.pattern


def files(folder: Path) -> dict[str, list[str]]:
    """Write each bank's tables; return how they are named to a run."""
    found = {}
    for i, name in enumerate(BANKS):
        customers = [
            f"acct {8 * i + k},{('business', 'private', 'public')[k % 3 % (2 + (i == 1))]}" for k in range(8)
        ]
        payments = [f"Acct  {(5 * i + 3 * k) % 30},{(137 * k + 11 * i) % 1000}" for k in range(20 + 5 * i)]
        (folder / f"{name}.customers.csv").write_text("\n".join(["account,segment", *customers, ""]))
        (folder / f"{name}.payments.csv").write_text("\n".join(["payee,amount", *payments, ""]))
        found[name] = [f"{table}={folder}/{name}.{table}.csv" for table in ("payments", "customers")]
    return found


def read(job: Job, folder: Path) -> dict[str, InputTables]:
    return {name: InputTables(job, told, me=name) for name, told in files(folder).items()}


def pooled(job: Job, inputs: dict[str, InputTables]) -> list[str]:
    """Return in any order what the pooled tables tell the office."""
    told = job.pattern.reference(job.parameters, job.terms, {name: one() for name, one in inputs.items()})
    return in_any_order(told["office"])


def in_any_order(rows: Any) -> list[str]:
    return sorted(str(tuple(row)) for row in rows)


class DyingWorkers(LocalWorkers):
    """Processes that die as `benchmarks.shard_worker` is told to.

    Args:
      altered: makes of a task what its worker is told.
    """

    def __init__(self, altered: Callable[[dict[str, Any]], dict[str, Any]] = lambda task: task) -> None:
        super().__init__()
        self._altered = altered
        self.tasks: list[bytes] = []

    def start(self, place: int, told: tuple[str, int], module: str, task: bytes) -> Any:
        self.tasks.append(task)
        return super().start(
            place, told, "benchmarks.shard_worker", encode(self._altered(dict(decode(task))))
        )


@pytest.fixture(scope="module")
def identities() -> dict[str, Identity]:
    return {name: create_identity(name) for name in ALL}


@pytest.fixture
def ports(monkeypatch) -> Iterator[list[int]]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with reserved_ports(len(ALL) * (1 + PLACES)) as found:
        yield found


def run(
    job: Job, inputs: dict[str, InputTables], identities: dict[str, Identity], ports: list[int], folder: Path,
    workers: dict[str, Any],
) -> dict[str, tuple[Any, Part]]:  # fmt: skip
    """Run main sessions in threads, over TLS, with workers that are processes; return what each came to, and its part."""
    at = iter(ports)
    addresses = {name: ("127.0.0.1", next(at)) for name in ALL}
    places = {name: tuple(("127.0.0.1", next(at)) for _ in range(PLACES)) for name in ALL}
    certificates = {name: identity.certificate for name, identity in identities.items()}
    moved = job.moved(addresses, certificates, places)

    def party(name: str) -> tuple[Any, Part]:
        own: Workers = workers.get(name) or DyingWorkers()
        part = Part(moved, name, inputs.get(name), workplace=Workplace(own, folder))
        try:
            return run_party(
                part, me=name, identity=identities[name], peers=moved.peers(), listen=addresses[name],
                agreement=bytes(32), timeouts=Timeouts(message_s=120), prepare=part.prepare,
            )[0], part  # fmt: skip
        except SecaggError as error:
            return error, part

    with ThreadPoolExecutor(len(ALL)) as pool:
        return dict(zip(ALL, pool.map(party, ALL), strict=True))


@pytest.mark.slow
def test_a_join_whose_workers_are_killed_in_each_phase_tells_what_the_pooled_tables_tell(
    identities, ports, tmp_path, monkeypatch
):
    job = job_of(tmp_path)
    inputs = read(job, tmp_path)
    deaths = [("south", "begin"), ("west", "share"), ("north", "compute"), ("office", "end")]
    monkeypatch.setenv(
        "SECAGG_BENCHMARK_KILLED",
        ";".join(f"{name} compute-1-{k} {phase}" for k, (name, phase) in enumerate(deaths, 1)),
    )
    workers = {name: DyingWorkers() for name in ALL}
    found = run(job, inputs, identities, ports, tmp_path / "workers", workers)
    assert [rows for rows, _ in found.values()][:3] == [None, None, None]
    told = found["office"][0]
    assert not isinstance(told, Exception), told
    assert in_any_order(told) == pooled(job, inputs)
    assert len(told) == 3
    done = {one["shard"]: one for one in found["north"][1].watch.done}
    assert {shard: one["attempts"] for shard, one in done.items()} == {0: 1, 1: 5}
    assert done[1]["lost"] == [[name] for name, _ in deaths]
    assert found["north"][1].counts == dict(zip(BANKS, (20, 25, 30), strict=True))
    # A worker gets no identifier, and no key of pseudonyms; what it kept, if anything, is gone.
    told_to_workers = b"".join(task for of_party in workers.values() for task in of_party.tasks)
    assert b"acct" not in told_to_workers.lower().replace(b"account", b"")
    assert not [path for path in (tmp_path / "workers").rglob("*") if path.is_file()]
    digests = {
        name: of_workers({"outcome": "complete", "workers": part.watch.done})
        for name, (_, part) in found.items()
    }
    for a, b in itertools.permutations(ALL, 2):
        assert digests[a][b]["sent"] == digests[b][a]["received"]


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_join_in_shards_under_rules_suppresses_what_it_suppresses_in_one_piece(tmp_path):
    for name in BANKS:
        (tmp_path / f"{name}.toml").write_text(RULES.format(name))
    sql = BY_SEGMENT.replace(", max(p.amount) AS largest", "")
    job = job_of(tmp_path, sql, text=RULED)
    inputs = read(job, tmp_path)
    whole = job_of(tmp_path, sql, text=re.sub(r"shards = 2\n|workers = .*\n", "", RULED))
    alone = simulate({name: Part(whole, name, inputs.get(name)) for name in ALL}).values()[3]
    options = {name: [w for one in told for w in ("--data", one)] for name, told in files(tmp_path).items()}
    run_locally(job, options, out=tmp_path / "out", on_progress=lambda _: None)
    with (tmp_path / "out/office.segments.csv").open(newline="") as file:
        _, *rows = csv.reader(file)
    assert sorted(rows) == sorted([list(map(str, row)) for row in alone or ()])
    assert 0 < len(rows) < 3  # a segment with few payments is not told
    record = json.loads((tmp_path / "out/north.segments.json").read_text())
    assert record["outcome"] == "complete"
    assert [(one["step"], one["attempts"]) for one in record["workers"]] == [("compute", 1)] * 2
    assert record["risks"]["log2_abort"] == -40
    assert any("hash key" in one["what"] for one in record["opened"])


@pytest.mark.slow
def test_single_rows_of_a_join_are_told_once_whatever_shard_they_come_from(identities, ports, tmp_path):
    job = job_of(tmp_path, SINGLE, text=JOB.replace("[roles]", "[parameters]\nleast = 500\n[roles]"))
    inputs = read(job, tmp_path)
    found = run(job, inputs, identities, ports, tmp_path / "workers", {})
    assert not isinstance(found["office"][0], Exception), found["office"][0]
    assert in_any_order(found["office"][0]) == pooled(job, inputs)
    assert len(found["office"][0]) > 10


@pytest.mark.slow
def test_rows_that_do_not_fit_a_shard_end_the_run_before_any_worker_begins(
    identities, ports, tmp_path, monkeypatch
):
    monkeypatch.setattr(division, "capacity", lambda *arguments: 2)
    job = job_of(tmp_path)
    workers = {name: DyingWorkers() for name in ALL}
    found = run(job, read(job, tmp_path), identities, ports, tmp_path / "workers", workers)
    errors = {name: error for name, (error, _) in found.items()}
    assert all(isinstance(error, SecaggError) for error in errors.values()), errors
    assert any(isinstance(error, PlanError) and "hash key" in str(error) for error in errors.values())
    assert not any(of_party.tasks for of_party in workers.values())


def other_counts(task: dict[str, Any]) -> dict[str, Any]:
    public = dict(task["public"])
    return task | {"public": public | {"counts": public["counts"] | {"south": [1000, 8]}}}


def other_query(task: dict[str, Any]) -> dict[str, Any]:
    public = dict(task["public"])
    return task | {"public": public | {"sql": public["sql"].replace("max", "min")}}


def other_shard(task: dict[str, Any]) -> dict[str, Any]:
    other = {"compute-0-1": "compute-1-1", "compute-1-1": "compute-0-1"}
    return task | {"attempt": other[task["attempt"]], "kept": other[task["attempt"]].removeprefix("compute-")}


@pytest.mark.parametrize("altered", [other_counts, other_query, other_shard])
@pytest.mark.slow
def test_a_worker_that_was_told_another_task_meets_nobody_and_the_run_ends(
    identities, ports, tmp_path, altered
):
    job = job_of(tmp_path)
    found = run(
        job, read(job, tmp_path), identities, ports, tmp_path / "workers", {"south": DyingWorkers(altered)}
    )
    errors = [error for error, _ in found.values()]
    assert all(isinstance(error, SecaggError) for error in errors), errors
    assert any(isinstance(error, JobError) and "worker of shard" in str(error) for error in errors), errors
    assert not any(part.watch.done for _, part in found.values())


def test_workers_of_a_query_agree_on_all_that_its_plan_is_made_of(tmp_path):
    public: dict[str, Any] = {
        **texts_of(BY_SEGMENT, TABLES, {"north": RULES}, BANKS),
        "terms": {"shards": 2, "step": 1},
        "counts": {"north": [20, 8]},
    }
    peers = [[name, "127.0.0.1", 1, b"pem"] for name in ALL]
    task = {
        "run": bytes(32), "step": "compute", "shard": 0, "attempt": "compute-0-1", "kept": "0-1", "kind": "query",
        "public": public, "peers": peers,
    }  # fmt: skip
    changes: list[dict[str, Any]] = [
        {"run": bytes(31) + b"1"}, {"attempt": "compute-1-1"}, {"attempt": "compute-0-2"}, {"shard": 1}, {"kind": "groups"},
        {"peers": [*peers[:3], ["office", "127.0.0.1", 1, b"another"]]},
        *({"public": public | {name: "another"}} for name in public),
    ]  # fmt: skip
    assert worker.agreement_of(task) == worker.agreement_of(decode(encode(task)))
    assert len({worker.agreement_of(task | change) for change in [{}, *changes]}) == 1 + len(changes)


def test_workers_agree_whatever_the_order_in_which_job_files_list_rules(tmp_path):
    def compared(text: str) -> bytes:
        pattern = pattern_of(
            job_of(tmp_path, BY_SEGMENT.replace(", max(p.amount) AS largest", ""), text=text)
        )
        public = texts_of(pattern.sql, pattern.declared, pattern.rules, ["office"])
        return encode({"public": public})

    for name in BANKS:
        (tmp_path / f"{name}.toml").write_text(RULES.format(name))
    rules = [f'{name} = "{name}.toml"\n' for name in BANKS]
    other = RULED.replace("".join(rules), "".join(reversed(rules)))
    assert other != RULED
    assert compared(other) == compared(RULED)


def test_a_worker_with_another_parser_of_sql_makes_no_plan(tmp_path):
    job = job_of(tmp_path)
    terms = pattern_of(job)._terms(job.parameters, job.terms)
    texts = texts_of(BY_SEGMENT, TABLES, {}, [])
    assert plan_of(texts, terms).shards == 2
    with pytest.raises(
        UsageError, match=r"worker has sqlglot .*, and its main process sqlglot 1; install the same"
    ):
        plan_of({**texts, "parser": "sqlglot 1"}, terms)


def test_the_terms_of_a_query_come_to_a_worker_as_they_are(tmp_path):
    job = job_of(tmp_path)
    terms = pattern_of(job)._terms(job.parameters, job.terms)
    assert terms_of(decode(encode(told_terms(terms)))) == terms


def test_what_main_processes_send_grows_with_rows_only_where_single_rows_are_told(tmp_path):
    def above(sql: str, rows: int) -> tuple[int, int]:
        text = JOB if sql is BY_SEGMENT else JOB.replace("[roles]", "[parameters]\nleast = 5\n[roles]")
        job = job_of(tmp_path, sql, text=text)
        given = job.parameters, job.terms, dict.fromkeys(BANKS, rows)
        main, whole = pattern_of(job).cost_above_shards(*given), job.cost(dict.fromkeys(BANKS, rows))
        return main.payload_bytes["north"], whole.payload_bytes["north"]

    assert above(BY_SEGMENT, 10)[0] == above(BY_SEGMENT, 40)[0] < above(BY_SEGMENT, 40)[1] / 10
    assert above(SINGLE, 10)[0] < above(SINGLE, 40)[0] < above(SINGLE, 40)[1]


def test_a_loose_bound_on_the_rows_of_an_identifier_is_warned_of_in_shards(tmp_path):
    job_of(tmp_path)
    for bound, shards, says in ((4, 8, True), (60, 4, True), (1, 8, False), (60, 1, False)):
        tables = TABLES.replace("max_rows = 4}", f"max_rows = {bound}}}")
        (tmp_path / "tables.toml").write_text(tables)
        text = JOB if shards > 1 else re.sub("workers = .*\n", "", JOB)
        text = text.replace("shards = 2", f"shards = {shards}")
        job = parse_job(text, file=tmp_path / "job.toml", with_certificates=False)
        told = [one for one in job.warnings() if "places for 180 rows of payments" in one]
        assert (len(told), bound, shards) == (int(says), bound, shards)
        assert not any("rows of customers" in one for one in job.warnings())  # a key: one row of each account
        if told:
            assert told[0].startswith(f"all shards together have {shards * 180} places")
            assert f"payee may have {bound} rows at one owner; take fewer shards" in told[0]


def test_a_query_in_shards_says_how_it_is_divided_and_what_it_opens(tmp_path):
    job = job_of(tmp_path)
    rows = dict.fromkeys(BANKS, 40)
    said = pattern_of(job).divided(job.parameters, job.terms, rows)
    assert [text.split(",")[0] for text in said] == ["payments by p.payee", "customers by c.account"]
    assert phases(job)[-3:] == ("share", "compute", "open")
    opened = {one.what: one.to for one in job.disclosures()}
    (again,) = [to for what, to in opened.items() if "new hash key" in what]
    (announced,) = [to for what, to in opened.items() if "as many rows as it announced" in what]
    (ranges,) = [to for what, to in opened.items() if "are in the ranges that the plan gives them" in what]
    assert (again, announced, ranges) == (ALL, BANKS, BANKS)
    assert [to for what, to in opened.items() if "result of the query" in what] == [("office",)]
    assert {risk.name: risk.log2 for risk in job.risks(rows)}["log2_abort"] == -40
    whole = job_of(tmp_path, text=re.sub(r"shards = 2\n|workers = .*\n", "", JOB))
    assert not any("hash key" in one.what for one in whole.disclosures())
    assert not any(risk.name == "log2_abort" for risk in whole.risks(rows))
    assert job.cost(rows).payload_bytes != whole.cost(rows).payload_bytes
