"""Campaigns measure what the ledgers say, go on where they ended, and refuse results that are wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import numpy as np
import pytest

from secagg import bench
from secagg.bench import campaign, machine, processes
from secagg.bench.case import Case, crossed, network_named
from secagg.bench.measure import _declared, measure
from secagg.bench.operations import OPERATIONS
from secagg.bench.processes import Processes
from secagg.bench.store import Store
from secagg.bench.subjects import names, prepare
from secagg.bench.table import COLUMNS, Table
from secagg.cost.operation import Cost
from secagg.errors import PeerVanishedError, SecaggError, UsageError
from secagg.wire import Message


class Block(Message, frozen=True):
    """Nothing."""


@pytest.fixture(scope="module")
def masked() -> dict[str, Any]:
    return measure(Case("protocol", "masked", 10, 20, repeat=3, networks=("lan", "30ms/10mbit")))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*names()["protocol"]} - {"paillier"}))  # whose key takes seconds
def test_a_sum_costs_the_bytes_that_are_declared_and_is_within_its_error(name):
    result = measure(Case("protocol", name, 3, 5, repeat=1, networks=()))
    assert result["declared"]["bytes_equal"]
    assert result["rounds"] <= result["declared"]["rounds"]
    assert 0 < result["error"] <= result["bound"]


@pytest.mark.parametrize("engine", [3, 4])
@pytest.mark.parametrize("name", ["multiply", "less"])
@pytest.mark.slow
def test_an_operation_costs_what_is_declared(name, engine):
    result = measure(Case("operation", name, engine, 50, engine, repeat=1))
    assert result["declared"]["bytes_equal"]
    assert result["declared"]["rounds"] == result["rounds"]
    assert result["error"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["and", "divide", "exp", "matmul", "maximum", "sort"])
def test_an_operation_is_within_its_bound(name):
    result = measure(Case("operation", name, 3, 64, 3, repeat=1, networks=()))
    assert result["error"] <= result["bound"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rows", "engine"), [("structuring", 60, 3), ("crosstab", 0, 4)])
def test_a_pattern_runs_on_example_data_and_on_made_up_rows(name, rows, engine):
    result = measure(Case("pattern", name, 0, rows, engine, repeat=1))
    assert result["rounds"] > 20
    assert len(result["parties"]) >= engine


def test_the_latest_result_of_a_case_on_this_machine_is_the_one_that_counts(tmp_path, masked):
    store = Store(tmp_path, "here")
    for where, seconds in (("here", [1.0]), ("there", [3.0]), ("here", [2.0]), ("there", [4.0])):
        store.add({**masked, "where": where, "seconds": seconds})
    for known in (store, Store(tmp_path, "here")):
        found = known.finished(masked["key"])
        assert found is not None
        assert found["seconds"] == [2.0]
        assert known.finished("another") is None
    assert store.elsewhere == 2


def test_a_role_of_many_is_shown_by_its_maxima(masked):
    assert set(masked["parties"]) == {"server", "client: maxima of 10"}
    pairs = {(link["sender"], link["receiver"]) for link in masked["links"]}
    assert pairs == {("server", "client: maxima of 10"), ("client: maxima of 10", "server")}


def test_the_table_has_rows_for_run_parties_phases_links_and_networks(masked):
    table = Table.of([masked])
    assert {row["part"] for row in table.rows} == {"run", "party", "phase", "link", "network"}
    (run,) = table.part("run").rows
    assert run["seconds_q1"] <= run["seconds_median"] <= run["seconds_q3"]
    assert run["peak_bytes"] > 1 << 20
    assert table.part("network").column("network") == ["lan", "30ms/10mbit"]
    lan, far = table.part("network").column("seconds_median")
    # Rounds wait for each other, however long a party computes meanwhile.
    assert far >= run["rounds"] * 0.03 >= 7 * 0.03
    assert far > lan
    phases = [row for row in table.part("phase").rows if row["party"] == "server"]
    (server,) = [row for row in table.part("party").rows if row["party"] == "server"]
    assert sum(row["frame_bytes"] for row in phases) == server["frame_bytes"]


def test_every_format_holds_the_same_rows(masked, tmp_path):
    table = Table.of([masked])
    for ending in ("csv", "parquet", "json"):
        table.write(tmp_path / f"it's.{ending}")
    rows = [tuple(row.values()) for row in table.rows]
    path = str(tmp_path / "it's.parquet").replace("'", "''")
    assert duckdb.execute(f"SELECT * FROM '{path}'").fetchall() == rows
    assert duckdb.read_csv(str(tmp_path / "it's.csv")).columns == list(COLUMNS)
    assert json.loads((tmp_path / "it's.json").read_text()) == [masked]
    assert [tuple(row.values()) for row in table.to_arrow().to_pylist()] == rows
    assert table.to_polars().rows() == rows
    assert table.to_pandas()["key"].tolist() == table.column("key")
    with pytest.raises(UsageError, match=r"ends in \.csv, \.parquet or \.json"):
        table.write(tmp_path / "table.xlsx")


@pytest.mark.parametrize("field", ["case", "seconds", "parties", "links", "networks", "declared"])
def test_a_file_in_which_a_field_is_something_else_is_refused(masked, field):
    with pytest.raises(UsageError, match="expected results of secagg bench, got other data"):
        Table.of([{**masked, field: "other"}])


def counting(monkeypatch: pytest.MonkeyPatch, result: dict[str, Any]) -> list[Case]:
    """Have `measure` return this result, and return the list of the cases that it is called for."""
    called: list[Case] = []

    def measured(case: Case, _told: Any) -> dict[str, Any]:
        called.append(case)
        return {**result, "case": case.as_dict(), "key": case.key, "where": "here"}

    monkeypatch.setattr(campaign, "measure", measured)
    return called


def test_an_interrupted_campaign_goes_on_and_repeats_nothing(masked, monkeypatch, tmp_path):
    called = counting(monkeypatch, masked)
    cases = [Case("protocol", "masked", n, 20) for n in (3, 4, 5)]
    campaign.run_cases(cases[:2], Store(tmp_path, "here"))
    with (tmp_path / "results.jsonl").open("ab") as file:
        file.write(b'{"format": 1, "case": {"kind": {}')  # the machine went down
    table = campaign.run_cases(cases, Store(tmp_path, "here"))
    assert called == cases
    assert [result["case"]["parties"] for result in table.results] == [3, 4, 5]
    assert len(Store(tmp_path, "here").results) == 3


def test_results_of_another_machine_are_counted_and_measured_anew(masked, monkeypatch, tmp_path):
    called = counting(monkeypatch, masked)
    case = Case("protocol", "masked", 3, 20)
    campaign.run_cases([case], Store(tmp_path, "here"))
    store = Store(tmp_path, "there")
    assert store.elsewhere == 1
    campaign.run_cases([case], store)
    assert called == [case, case]


@pytest.mark.parametrize("line", ["[]", '{"key": 1}', "no JSON}", "no JSON", "three lines\nof a text"])
def test_a_file_of_something_else_is_refused(line, tmp_path):
    (tmp_path / "results.jsonl").write_text(line + "\n{}\n")
    with pytest.raises(
        UsageError, match=r"expected results of secagg bench in .*, got something else in line 1"
    ):
        Store(tmp_path, "here")


def test_another_machine_other_versions_and_changed_code_are_elsewhere(monkeypatch):
    here = machine.where()
    for name, changed in (("machine", {"cores": 0}), ("versions", {}), ("_code", "other")):
        with monkeypatch.context() as patch:
            patch.setattr(machine, name, lambda changed=changed: changed)
            assert machine.where() != here
    measured = {path.name for path in Path(machine.__file__).parent.glob("*.py")} & {*machine._MEASURED}
    assert measured == {"operations.py", "subjects.py"}


@pytest.mark.parametrize(
    ("sent", "equal"), [((8, 8), True), ((8, 9), False), ((8, 7), False), ((9, 8), False)]
)
def test_bytes_are_as_declared_where_each_party_sends_just_so_many(sent, equal):
    finished: Any = SimpleNamespace(declared=lambda name: Cost(2, {name: 8}, expected=name == "b"))
    totals = [SimpleNamespace(sent=SimpleNamespace(payload_bytes=n)) for n in sent]
    ledgers: Any = {name: SimpleNamespace(total=lambda t=t: t) for name, t in zip("ab", totals, strict=True)}
    found = _declared(finished, ledgers)
    assert found["bytes_equal"] is equal
    assert found["expected"] is True


def test_a_result_that_is_wrong_is_not_written_down(monkeypatch):
    operation = OPERATIONS["multiply"]._replace(plain=lambda x, y: x * y + 1)
    monkeypatch.setitem(OPERATIONS, "multiply", operation)
    with pytest.raises(SecaggError, match="a result is 1 from its reference, and 0 is declared"):
        measure(Case("operation", "multiply", 3, 4, 3, repeat=1))


def test_the_same_seed_gives_the_same_inputs_and_the_key_tells_cases_apart():
    first, again, other = (OPERATIONS["less"].operands(np.random.default_rng(seed), 9) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    cases = list(crossed([("protocol", "masked")], parties=[3, 4], sizes=[5, 6], engines=[3, 4]))
    assert len({case.key for case in cases}) == 4
    (operation,) = crossed([("operation", "less")], parties=[], sizes=[10], engines=[3])
    assert operation.key == Case("operation", "less", 0, 10, 3).key
    with pytest.raises(UsageError, match="as many parties as compute less, 3, or 0"):
        Case("operation", "less", 4, 10, 3)
    assert Case.from_dict(json.loads(json.dumps(cases[0].as_dict()))) == cases[0]


@pytest.mark.parametrize(
    ("case", "says"),
    [
        (
            Case("protocol", "other", 3, 5),
            "expected a protocol among additive|expected a protocol among masked",
        ),
        (Case("operation", "multiply", 3, 0, 3), "a size of 1 or more for multiply"),
        (Case("operation", "multiply", 5, 5, 5), "3 or 4 computing parties"),
        (Case("pattern", "cox", 0, 100, 3), "have their own size"),
        (Case("protocol", "masked", 1, 5), "at least 2 clients"),
        (Case("protocol", "masked", 3, 0), "a size of 1 or more for masked"),
    ],
)
def test_cases_that_there_are_not_are_refused(case, says):
    with pytest.raises(UsageError, match=says):
        prepare(case)


def test_networks_are_named_or_given_by_latency_and_bandwidth():
    network = network_named("20MS/100mbit")
    assert (network.latency_s, network.bytes_per_s) == (0.02, 12.5e6)
    for text in ("moon", "20ms", "1ms/0mbit", "-1ms/5mbit"):
        with pytest.raises(UsageError, match="expected a network among loopback, lan, wan, mobile"):
            network_named(text)


def test_a_notebook_is_told_what_there_is():
    with pytest.raises(
        UsageError, match=r"expected a subject among protocols masked, .*collectors.*, got 'nothing'"
    ):
        bench.run(["nothing"])


@pytest.mark.slow
def test_processes_over_tls_send_what_the_simulator_sends():
    over_tls = measure(Case("operation", "less", 3, 50, 3, tcp=True, repeat=1))
    simulated = measure(Case("operation", "less", 3, 50, 3, repeat=1))
    assert over_tls["links"] == simulated["links"]
    assert over_tls["rounds"] == simulated["rounds"]
    assert over_tls["peak_of"] == "the party with most"


@pytest.mark.slow
def test_what_ended_a_party_s_process_reaches_the_caller(capfd, monkeypatch):
    async def refuses(party):
        raise UsageError(f"{party.me} does not want to")

    async def breaks(party):
        raise ZeroDivisionError

    async def waits(party):
        await party.receive(Block, party.others[0])

    with pytest.raises(SecaggError, match=r"left: UsageError: left does not want to"):
        Processes()({"left": refuses, "right": waits})
    with pytest.raises(PeerVanishedError, match="the process of left ended without a result"):
        Processes()({"left": breaks, "right": waits})
    assert "ZeroDivisionError" in capfd.readouterr().err
    monkeypatch.setattr(processes, "_PATIENCE_S", 0.3)
    with pytest.raises(
        PeerVanishedError, match=r"left and of right did not end within 0\.3 s, and was killed"
    ):
        Processes()({"left": waits, "right": waits})
    with pytest.raises(UsageError, match="at most 64 parties as processes"):
        Processes()({f"p{i}": waits for i in range(65)})


def test_the_page_of_costs_says_what_each_column_of_the_table_files_is():
    page = (Path(__file__).parents[2] / "docs" / "costs.md").read_text("utf-8")
    lines = page.split("| column | in rows | what it is |\n")[1].split("\n\n")[0].splitlines()
    named = [name for line in lines for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert sorted([*named, "part"]) == sorted(COLUMNS)
