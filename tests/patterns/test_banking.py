"""Collectors and structuring equal their plaintext twins on tables of transfers and deposits."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg.errors import DataError, PlanError, RangeError, ShapeError
from secagg.network.simulated import simulate
from secagg.patterns.banking import collectors, structuring
from secagg.patterns.counts import factorize, group_sum, nunique
from secagg.protocols.group_by import find_groups, flagged_rows

BANKS = ("a", "b", "c")


def strings(values) -> np.ndarray:
    return np.array([*values, None], object)[:-1]


def run_pattern(pattern, parameters, banks, tables):
    computing = (*banks, "x", "y")[:3]
    query = pattern.query(parameters, banks, computing)
    rows = {name: pattern.rows(parameters, *columns) for name, columns in zip(banks, tables, strict=True)}
    names = dict.fromkeys((*banks, *computing))
    outcome = simulate({n: partial(find_groups, query=query, rows=rows.get(n)) for n in names})
    outcome.values()
    found = {name: outcome.results[name] for name in banks}
    return {name: flagged_rows(rows[name], each) for name, each in found.items() if each is not None}


def assert_each_bank_learns_its_part(found, everything, tables):
    for (name, rows), columns in zip(found.items(), tables, strict=True):
        own = set(columns[0].tolist())
        assert {r[0]: r[1:] for r in rows} == {k: v for k, v in everything.items() if k in own}, name


transfer = st.tuples(st.sampled_from("pqrst"), st.sampled_from("uvwxyz"), st.integers(0, 10**11))
deposit = st.tuples(st.sampled_from("pqrst"), st.integers(0, 1_200_000))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(transfer, max_size=15), min_size=2, max_size=4), st.data())
def test_collectors_equal_the_pooled_plaintext(rows, data):
    banks = ("a", "b", "c", "d")[: len(rows)]
    parameters = collectors.Parameters(
        min_senders=data.draw(st.integers(1, 6)),
        min_banks=data.draw(st.integers(1, len(banks))),
        min_total_cents=data.draw(st.integers(0, 10**12)),
    )
    tables = [
        (strings(r[0] for r in t), strings(r[1] for r in t), np.array([r[2] for r in t], np.int64))
        for t in rows
    ]
    everything = collectors.find_plainly(parameters, tables)
    assert_each_bank_learns_its_part(run_pattern(collectors, parameters, banks, tables), everything, tables)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(deposit, max_size=15), min_size=2, max_size=4))
def test_structuring_equals_the_pooled_plaintext(rows):
    banks = ("a", "b", "c", "d")[: len(rows)]
    parameters = structuring.Parameters(limit_cents=1_000_000)
    tables = [(strings(r[0] for r in t), np.array([r[1] for r in t], np.int64)) for t in rows]
    everything = structuring.find_plainly(parameters, tables)
    assert_each_bank_learns_its_part(run_pattern(structuring, parameters, banks, tables), everything, tables)


def test_structuring_flags_no_one_whom_a_bank_sees_alone():
    parameters = structuring.Parameters(limit_cents=1000)
    tables = [
        (strings(["spread", "alone", "little"]), np.array([600, 1000, 5])),
        (strings(["spread", "alone"]), np.array([600, 900])),
        (strings(["spread"]), np.array([1])),
    ]
    found = run_pattern(structuring, parameters, BANKS, tables)
    assert found == {bank: [("spread", 3, 1201)] for bank in BANKS}


def test_collectors_count_distinct_senders_not_transfers():
    parameters = collectors.Parameters(min_senders=3, min_banks=2, min_total_cents=100)
    tables = [
        (strings(["k", "k", "k", "m"]), strings(["s", "s", "t", "s"]), np.array([10, 20, 30, 1000])),
        (strings(["k", "m", "m"]), strings(["s", "s", "s"]), np.array([50, 10, 10])),
        (strings([]), strings([]), np.array([], np.int64)),
    ]
    found = run_pattern(collectors, parameters, BANKS, tables)
    assert found == {"a": [("k", 3, 110)], "b": [("k", 3, 110)], "c": []}


def test_thresholds_that_the_banks_cannot_reach_are_refused():
    with pytest.raises(PlanError, match="out of reach"):
        collectors.query(collectors.Parameters(min_banks=4), BANKS, BANKS)


def test_local_counts_are_exact():
    groups, members = factorize(strings("abcab")), factorize(strings("xxyxz"))
    assert groups.categories.tolist() == ["a", "b", "c"]
    assert nunique(groups, members).tolist() == [1, 2, 1]
    big = np.array([2**62, 2**62 - 1, 3, 2**62, 1], np.int64)
    assert group_sum(groups, big).tolist() == [2**63, 2**62, 3]


def test_local_totals_are_exact_up_to_the_last_number_that_64_bits_hold():
    groups = factorize(strings(["v"] * 5 + ["w"]))
    whole = np.array([2**62, 2**62, 2**62, 2**62 - 1, 0, 7], np.int64)
    assert group_sum(groups, whole).tolist() == [2**64 - 1, 7]


@pytest.mark.parametrize("amounts", [[2**62] * 4 + [0, 7], [2**62] * 4 + [7, 0]])
def test_local_totals_that_would_wrap_are_refused(amounts):
    with pytest.raises(RangeError, match=r"1 of 2 identifiers have amounts that add up to 2\*\*64"):
        group_sum(factorize(strings(["v"] * 5 + ["w"])), np.array(amounts, np.int64))


def test_patterns_refuse_what_would_falsify_a_sum():
    who = strings(["v"] * 20_000)
    with pytest.raises(RangeError, match="add up to"):
        structuring.rows(structuring.Parameters(), who, np.full(len(who), 10**15 - 100))
    with pytest.raises(RangeError, match=r"1 of 2 amounts are negative.*net reversals"):
        structuring.rows(structuring.Parameters(), who[:2], np.array([5, -3]))
    with pytest.raises(RangeError, match="negative"):
        collectors.rows(collectors.Parameters(), who[:2], who[:2], np.array([5, -3]))
    with pytest.raises(ShapeError, match="float64"):
        structuring.rows(structuring.Parameters(), who[:2], np.array([5.5, 1.0]))
    with pytest.raises(ShapeError, match="one whole amount for each of 2 rows"):
        structuring.rows(structuring.Parameters(), who[:2], np.array([5]))
    with pytest.raises(ShapeError, match="one member for each of 2 rows"):
        collectors.rows(collectors.Parameters(), who[:2], who[:1], np.array([5, 3]))
    with pytest.raises(DataError, match="strings; got one of type int"):
        structuring.rows(structuring.Parameters(), np.array([12, 13]), np.array([5, 3]))
