"""Collectors and structuring, written as the queries of docs/sql.md, tell each bank what the patterns tell it."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from program_runs import played, strings
from secagg import simulate
from secagg.patterns.banking import COLLECTORS, STRUCTURING
from secagg.query import Declaration, joint_run, plan, run_for_owners
from secagg.query.explain import explain
from secagg.query.owner import from_mapping, prepare
from secagg.query.planner import Local
from secagg.query.planner import plan as planned
from secagg.query.terms import QueryTerms

PAGE = Path(__file__).parent.parent.parent / "docs/sql.md"
QUERIES = {
    name: sql
    for sql in re.findall("```sql\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    for name in re.findall(r"^-- (collectors|structuring)$", sql, re.MULTILINE)
}
BANKS = ("a", "b", "c")
DECLARATION = """
[tables.transfers]
holders = ["a", "b", "c"]
max_rows = 100000
[tables.transfers.columns]
beneficiary = "identifier"
sender = "identifier"
amount = "money"
[tables.deposits]
holders = ["a", "b", "c"]
max_rows = 100000
[tables.deposits.columns]
customer = "identifier"
amount = "money"
fee = {type = "money", nullable = true}
"""
RNG = np.random.default_rng(8)
ROWS = 60


def _who(kinds: int, prefix: str = "") -> Any:
    return strings([f"{prefix}{i}" for i in RNG.integers(0, kinds, ROWS)])


TABLES: dict[str, dict[str, dict[str, Any]]] = {
    bank: {
        "transfers": {
            "beneficiary": _who(12),
            "sender": _who(9, bank),
            "amount": RNG.integers(1, 90_000, ROWS),
        },
        "deposits": {"customer": _who(40), "amount": RNG.integers(1, 400_000, ROWS)},
    }
    for bank in BANKS
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "parameters"),
    [
        (COLLECTORS, {"min_senders": 12, "min_banks": 3, "min_total_cents": 500_000}),
        (STRUCTURING, {"limit_cents": 1_000_000}),
    ],
)
def test_a_query_tells_each_bank_what_the_pattern_tells_it(
    monkeypatch: pytest.MonkeyPatch, pattern: Any, parameters: dict[str, int]
) -> None:
    tables = {bank: {name: held[name] for name in pattern.inputs} for bank, held in TABLES.items()}
    theirs = played(pattern, pattern.Parameters(**parameters), tables, BANKS).results
    money = {
        bank: {
            name: columns | {"amount": [Decimal(int(cents)).scaleb(-2) for cents in columns["amount"]]}
            for name, columns in held.items()
        }
        for bank, held in tables.items()
    }
    ours = run_for_owners(QUERIES[pattern.name], DECLARATION, money)
    monkeypatch.setattr(joint_run, "chosen_groups", lambda *_: None)
    on_shares = run_for_owners(QUERIES[pattern.name], DECLARATION, money)
    assert {bank: sorted(rows) for bank, rows in on_shares.items()} == {b: sorted(r) for b, r in ours.items()}
    for bank in BANKS:
        expected = sorted((who, n, Decimal(cents).scaleb(-2)) for who, n, cents in theirs[bank])
        assert expected
        assert sorted(ours[bank]) == expected


@pytest.mark.parametrize("name", ["collectors", "structuring"])
def test_each_bank_adds_up_its_own_rows_alone_and_shares_one_row_an_account(name: str) -> None:
    declaration = Declaration.parse(DECLARATION)
    found = planned(plan(QUERIES[name], declaration), declaration)
    (local,) = found.locals
    assert isinstance(local, Local)
    assert local.sql("a").count("GROUP BY") == 2
    assert "'b'" not in local.sql("a")


def asked(sql: str, receivers: tuple[str, ...] = (), own: tuple[str, ...] = BANKS) -> tuple[Any, QueryTerms]:
    terms = QueryTerms(BANKS, BANKS, receivers, about_own=own)
    return joint_run.plan_query(sql, Declaration.parse(DECLARATION), terms.recipients), terms


@pytest.mark.slow
@pytest.mark.parametrize("name", ["collectors", "structuring"])
def test_owners_lists_are_merged_where_that_costs_less_and_costs_what_is_said(name: str) -> None:
    plan, terms = asked(QUERIES[name])
    found = explain(plan, terms, dict.fromkeys(BANKS, ROWS))
    assert "Merge owners' sorted lists" in found.tree[1]
    shared = explain(*asked(QUERIES[name], ("a",), ("b", "c")), dict.fromkeys(BANKS, ROWS))
    assert max(found.cost.payload_bytes.values()) < max(shared.cost.payload_bytes.values())
    money = {
        bank: {
            table: columns | {"amount": [Decimal(int(cents)).scaleb(-2) for cents in columns["amount"]]}
            for table, columns in held.items()
        }
        for bank, held in TABLES.items()
    }
    prepared = {
        bank: prepare(plan, bank, from_mapping(money[bank], bank), announce_filtered=False) for bank in BANKS
    }

    async def program(party: Any) -> Any:
        mine = prepared[party.me]
        announced = await joint_run.agree(party, plan, terms, mine)
        return await joint_run.take_part(party, plan, terms, announced, mine)

    ledgers = simulate(dict.fromkeys(BANKS, program)).ledgers
    assert found.cost.payload_bytes == {bank: ledgers[bank].total().sent.payload_bytes for bank in BANKS}
    assert found.cost.rounds == max(ledger.depth for ledger in ledgers.values())


GROUPS = "SELECT customer, sum(amount) AS total FROM deposits GROUP BY customer HAVING "


@pytest.mark.parametrize(
    ("sql", "receivers", "fields"),
    [
        (GROUPS + "sum(amount) > 5 AND sum(amount) <= 9", (), [("aggregate1", 501, 901)]),
        (
            GROUPS + "5 <= sum(amount) AND min(amount) >= 2",
            (),
            [("aggregate1", 500, None), ("aggregate2 0", None, 1)],
        ),
        (
            GROUPS + "sum(amount) >= 5 AND max(amount) > 4",
            (),
            [("aggregate1", 500, None), ("aggregate2 0", 1, None)],
        ),
        (GROUPS + "sum(amount) >= 5", ("a",), None),  # the whole is told to somebody
        (GROUPS + "sum(amount) < 5", (), None),  # padding would pass
        (GROUPS + "sum(amount) >= 5 OR count(*) > 3", (), None),
        (GROUPS + "sum(amount) = 5", (), None),
        (GROUPS + "sum(amount) >= 5 AND max(fee) < 4", (), None),  # which may be NULL
        (GROUPS + "sum(amount) >= 5 AND avg(amount) > 2", (), None),
        (GROUPS + "sum(amount) >= 5 ORDER BY total", (), None),
        (GROUPS.replace("sum(", "max(", 1) + "sum(amount) >= 5", (), None),
    ],
)
def test_plans_that_are_a_query_on_groups_are_told_from_those_that_are_not(
    sql: str, receivers: tuple[str, ...], fields: list[tuple[str, int | None, int | None]] | None
) -> None:
    found = joint_run.possible_groups(*asked(sql, receivers))
    if fields is None:
        assert found is None
    else:
        assert found is not None
        assert [(one.name, one.at_least, one.below) for one in found.query.fields] == fields
