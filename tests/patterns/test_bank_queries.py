"""Queries on groups for banks equal their references in the clear on tables that several banks hold parts of."""

from __future__ import annotations

import numpy as np
import pytest

from bank_tables import terms_of
from program_runs import played, strings
from secagg.errors import PlanError
from secagg.patterns.group_by import GroupByPattern
from secagg.patterns.registry import find

BANKS = ("a", "b", "c")


def transfers(rng, rows=40):
    names = [f"acc{i}" for i in range(8)]
    return {
        "transfers": {
            "sender": strings(rng.choice(names, rows).tolist()),
            "beneficiary": strings(rng.choice(names, rows).tolist()),
            "amount": rng.integers(0, 100, rows),
            "time": np.zeros(rows),
        }
    }


def watchlist(rng):
    return {"watchlist": {"entry": strings(rng.choice([f"p{i}" for i in range(12)], 6).tolist())}}


@pytest.mark.parametrize(
    ("name", "tables", "parameters"),
    [
        ("dispersers", transfers, {"min_receivers": 12, "min_total_cents": 600}),
        ("gather_scatter", transfers, {"min_senders": 12, "min_receivers": 13}),
        ("watchlist_overlap", watchlist, {"min_organisations": 2}),
    ],
)
@pytest.mark.slow
def test_each_bank_is_told_what_the_pooled_tables_say_of_its_rows(name, tables, parameters):
    pattern, rng = find(name).pattern, np.random.default_rng(3)
    assert isinstance(pattern, GroupByPattern)
    own = {bank: tables(rng) for bank in BANKS}
    agreed = pattern.Parameters(**parameters)
    expected = pattern.reference(agreed, terms_of(BANKS, BANKS), own)
    everything = pattern.flagged(agreed, own)
    anything = pattern.flagged(pattern.Parameters(**dict.fromkeys(parameters, 1)), own)
    assert 0 < len(everything) < len(anything)
    outcome = played(pattern, agreed, own, BANKS)
    outcome.values()
    assert outcome.results == expected


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        ("dispersers", "min_banks"),
        ("watchlist_overlap", "min_organisations"),
        ("velocity", "min_organisations"),
    ],
)
def test_more_organisations_than_take_part_are_out_of_reach(name, parameter):
    pattern = find(name).pattern
    with pytest.raises(PlanError, match=f"{parameter} = 4 is out of reach, because 3 parties put"):
        pattern.check(pattern.Parameters(**{parameter: 4}), terms_of(BANKS, BANKS))


def test_terms_that_protect_nobody_are_warned_of():
    for name, parameters, words in (
        ("dispersers", {"min_banks": 1}, "min_banks = 1"),
        ("gather_scatter", {"min_senders": 2}, "is below 3"),
        ("watchlist_overlap", {"min_organisations": 1}, "every entry is flagged"),
    ):
        pattern = find(name).pattern
        found = pattern.warnings(pattern.Parameters(**parameters), terms_of(BANKS, BANKS))
        assert len(found) == 1
        assert words in found[0]
        assert not pattern.warnings(pattern.Parameters(), terms_of(BANKS, BANKS))
