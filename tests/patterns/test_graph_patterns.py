"""Patterns on the graph of transfers equal the pooled search, account for account; nothing counts twice."""

from __future__ import annotations

import numpy as np
import pytest

from bank_tables import terms_of
from program_runs import played, strings
from secagg.errors import DataError
from secagg.patterns.registry import find

BANKS = ("a", "b", "c")


def bank_tables(rng, accounts=18, transfers=60, days=6):
    """Return tables of banks of which both have a transfer between two of them; account i lies at bank i % 3."""
    names = [f"acc{i}" for i in range(accounts)]
    sender, payee = rng.integers(0, accounts, (2, transfers))
    payee = np.where(sender == payee, (payee + 1) % accounts, payee)
    amount, time = rng.integers(1, 6, transfers) * 1000, rng.integers(0, days, transfers) * 86400.0
    tables = {}
    for i, bank in enumerate(BANKS):
        seen = (sender % 3 == i) | (payee % 3 == i)
        tables[bank] = {
            "transfers": {
                "sender": strings([names[j] for j in sender[seen]]),
                "beneficiary": strings([names[j] for j in payee[seen]]),
                "amount": amount[seen],
                "time": time[seen],
            },
            "accounts": {"account": strings(names[i::3])},
            "seeds": {"account": strings(rng.choice(names, i).tolist())},
        }
    return tables


CASES = {
    "pass_through": {"min_total_cents": 1000, "within_s": 86400, "tolerance_percent": 20},
    "trace": {"hops": 2, "max_seeds": 3},
}


def inputs_of(pattern, tables):
    return {bank: {name: own[name] for name in pattern.inputs} for bank, own in tables.items()}


@pytest.mark.parametrize("rows_of", ["payer", "payee"])
@pytest.mark.parametrize("name", list(CASES))
def test_each_bank_is_told_what_the_pooled_tables_say_of_its_accounts(name, rows_of):
    pattern = find(name).pattern
    parameters = pattern.Parameters(**CASES[name], rows_of=rows_of)
    tables = inputs_of(pattern, bank_tables(np.random.default_rng(11)))
    outcome = played(pattern, parameters, tables, BANKS)
    outcome.values()
    expected = pattern.reference(parameters, terms_of(BANKS, BANKS), tables)
    told = sum(map(len, expected.values()))
    assert 0 < told < 18  # some accounts, and not all
    assert outcome.results == expected


def test_a_transfer_of_neither_own_account_is_refused():
    pattern = find("pass_through").pattern
    tables = inputs_of(pattern, bank_tables(np.random.default_rng(11)))["a"]
    tables["accounts"]["account"] = strings(["acc0"])
    with pytest.raises(DataError, match="have neither sender nor beneficiary among this bank's accounts"):
        pattern.prepare(pattern.Parameters(), terms_of(BANKS, BANKS), tables)
