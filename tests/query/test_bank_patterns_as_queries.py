"""Collectors and structuring, written as the queries of docs/sql.md, tell each bank what the patterns tell it."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from program_runs import played, strings
from secagg.patterns.banking import COLLECTORS, STRUCTURING
from secagg.query import Declaration, plan, run_for_owners
from secagg.query.planner import Local
from secagg.query.planner import plan as planned

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
def test_a_query_tells_each_bank_what_the_pattern_tells_it(pattern: Any, parameters: dict[str, int]) -> None:
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
