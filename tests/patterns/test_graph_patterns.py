"""Patterns on the graph of transfers equal the pooled search, account for account; nothing counts twice."""

from __future__ import annotations

import numpy as np
import pytest

from bank_tables import terms_of
from program_runs import played, strings
from secagg.errors import DataError
from secagg.patterns.registry import find

pytestmark = pytest.mark.slow

BANKS = ("a", "b", "c")


def bank_tables(rng, accounts=18, transfers=60, days=6):
    """Return tables of banks of which both have a transfer between two of them; account i lies at bank i % 3."""
    names = [f"acc{i}" for i in range(accounts)]
    sender, payee = rng.integers(0, accounts, (2, transfers))
    payee = np.where(sender == payee, (payee + 1) % accounts, payee)
    amount, time = rng.integers(1, 6, transfers) * 1000, rng.integers(0, days, transfers) * 86400.0
    # Three accounts at three banks in a circle, two at two that pay each other, and one circle whose times do not rise.
    planted = [(0, 1, 5000, 1), (1, 2, 4900, 2), (2, 0, 5100, 3), (3, 7, 9000, 1), (7, 3, 9000, 1)]
    planted += [(9, 10, 7000, 3), (10, 11, 7000, 2), (11, 9, 7000, 1)]
    # Islands of two, three and five accounts, one of them star-like and one a chain, besides everybody else.
    first = accounts
    planted += [(first, first + 1, 100, 1), (first + 1, first, 100, 1)]
    planted += [(first + 2, first + 3, 100, 1), (first + 4, first + 2, 100, 1)]
    planted += [(i, i + 1, 100, 1) for i in range(first + 5, first + 9)]
    names += [f"isle{i}" for i in range(10)]
    more = np.array(planted).T
    sender, payee = np.concatenate([sender, more[0]]), np.concatenate([payee, more[1]])
    amount, time = np.concatenate([amount, more[2]]), np.concatenate([time, more[3] * 86400.0])
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
    "isolated": {"min_accounts": 2, "max_accounts": 4},
    "cycles": {
        "min_hops": 2,
        "max_hops": 3,
        "tolerance_percent": 10,
        "min_amount_cents": 1000,
        "within_s": 3 * 86400,
        "max_transfers": 6,
    },
    "scatter_gather": {"min_between": 2, "max_receivers": 3},
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


def test_more_cycles_than_there_is_room_for_end_the_run_at_all():
    pattern = find("cycles").pattern
    tables = inputs_of(pattern, bank_tables(np.random.default_rng(11)))
    for limit in ("max_paths", "max_cycles"):
        parameters = pattern.Parameters(**{**CASES["cycles"], "max_transfers": 8, limit: 1})
        outcome = played(pattern, parameters, tables, BANKS)
        assert set(outcome.errors) == set(BANKS)
        assert all(limit in str(error) for error in outcome.errors.values())
