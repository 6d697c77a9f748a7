"""Collectors and structuring equal their references in the clear on tables of transfers and deposits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bank_tables import terms_of
from secagg.errors import DataError, PlanError, RangeError, ShapeError
from secagg.network.simulated import simulate
from secagg.patterns.banking import COLLECTORS, STRUCTURING
from secagg.patterns.counts import factorize, group_sum, nunique, repeated_rows

BANKS = ("a", "b", "c")


def strings(values) -> np.ndarray:
    return np.array([*values, None], object)[:-1]


def transfers(beneficiary, sender, amount):
    amounts = np.asarray(amount)
    return {"transfers": {"beneficiary": strings(beneficiary), "sender": strings(sender), "amount": amounts}}


def deposits(customer, amount):
    return {"deposits": {"customer": strings(customer), "amount": np.asarray(amount)}}


def run_pattern(pattern, parameters, banks, tables):
    terms = terms_of(banks, (*banks, "x", "y")[:3])
    own = dict(zip(banks, tables, strict=True))

    async def take_part(party):
        mine = own.get(party.me)
        contribution = None if mine is None else pattern.prepare(parameters, terms, mine)
        agreed = await pattern.agree(party, parameters, terms, contribution)
        return await pattern.run(party, parameters, terms, agreed)

    outcome = simulate(dict.fromkeys(terms.parties, take_part))
    outcome.values()
    return {name: outcome.results[name] for name in banks}


def assert_each_bank_learns_its_part(found, everything, tables):
    for (name, rows), own in zip(found.items(), tables, strict=True):
        (columns,) = own.values()
        mine = set(next(iter(columns.values())).tolist())
        assert {r[0]: r[1:] for r in rows} == {k: v for k, v in everything.items() if k in mine}, name


transfer = st.tuples(st.sampled_from("pqrst"), st.sampled_from("uvwxyz"), st.integers(0, 10**11))
deposit = st.tuples(st.sampled_from("pqrst"), st.integers(0, 1_200_000))


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(st.lists(st.lists(transfer, max_size=15), min_size=2, max_size=4), st.data())
def test_collectors_equal_the_pooled_plaintext(rows, data):
    banks = ("a", "b", "c", "d")[: len(rows)]
    parameters = COLLECTORS.Parameters(
        min_senders=data.draw(st.integers(1, 6)),
        min_banks=data.draw(st.integers(1, len(banks))),
        min_total_cents=data.draw(st.integers(0, 10**12)),
    )
    tables = [
        transfers((r[0] for r in t), (r[1] for r in t), np.array([r[2] for r in t], np.int64)) for t in rows
    ]
    everything = COLLECTORS.flagged(parameters, dict(zip(banks, tables, strict=True)))
    assert_each_bank_learns_its_part(run_pattern(COLLECTORS, parameters, banks, tables), everything, tables)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(st.lists(st.lists(deposit, max_size=15), min_size=2, max_size=4))
def test_structuring_equals_the_pooled_plaintext(rows):
    banks = ("a", "b", "c", "d")[: len(rows)]
    parameters = STRUCTURING.Parameters(limit_cents=1_000_000)
    tables = [deposits((r[0] for r in t), np.array([r[1] for r in t], np.int64)) for t in rows]
    everything = STRUCTURING.flagged(parameters, dict(zip(banks, tables, strict=True)))
    assert_each_bank_learns_its_part(run_pattern(STRUCTURING, parameters, banks, tables), everything, tables)


@pytest.mark.slow
def test_structuring_flags_no_one_whom_a_bank_sees_alone():
    parameters = STRUCTURING.Parameters(limit_cents=1000)
    tables = [
        deposits(["spread", "alone", "little"], [600, 1000, 5]),
        deposits(["spread", "alone"], [600, 900]),
        deposits(["spread"], [1]),
    ]
    found = run_pattern(STRUCTURING, parameters, BANKS, tables)
    assert found == {bank: [("spread", 3, 1201)] for bank in BANKS}


def test_collectors_count_distinct_senders_not_transfers():
    parameters = COLLECTORS.Parameters(min_senders=3, min_banks=2, min_total_cents=100)
    tables = [
        transfers(["k", "k", "k", "m"], ["s", "s", "t", "s"], [10, 20, 30, 1000]),
        transfers(["k", "m", "m"], ["s", "s", "s"], [50, 10, 10]),
        transfers([], [], np.array([], np.int64)),
    ]
    found = run_pattern(COLLECTORS, parameters, BANKS, tables)
    assert found == {"a": [("k", 3, 110)], "b": [("k", 3, 110)], "c": []}


def test_thresholds_that_the_banks_cannot_reach_are_refused():
    with pytest.raises(PlanError, match="out of reach"):
        COLLECTORS.check(COLLECTORS.Parameters(min_banks=4), terms_of(BANKS, BANKS))


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


def rows_of(table):
    if "transfers" in table:
        return COLLECTORS.group_rows(COLLECTORS.Parameters(), table)
    return STRUCTURING.group_rows(STRUCTURING.Parameters(), table)


def test_patterns_refuse_what_would_falsify_a_sum():
    who = strings(["v"] * 20_000)
    with pytest.raises(RangeError, match="add up to"):
        rows_of(deposits(who, np.full(len(who), 10**15 - 100)))
    with pytest.raises(RangeError, match=r"1 of 2 amounts are negative.*net reversals"):
        rows_of(deposits("vw", [5, -3]))
    with pytest.raises(RangeError, match="negative"):
        rows_of(transfers("vw", "vw", [5, -3]))
    with pytest.raises(ShapeError, match="float64"):
        rows_of(deposits("vw", [5.5, 1.0]))
    with pytest.raises(ShapeError, match="one whole amount for each of 2 rows"):
        rows_of(deposits("vw", [5]))
    with pytest.raises(ShapeError, match="one member for each of 2 rows"):
        rows_of(transfers("vw", "v", [5, 3]))
    with pytest.raises(DataError, match="strings; got one of type int"):
        rows_of({"deposits": {"customer": np.array([12, 13]), "amount": np.array([5, 3])}})


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.none() | st.integers(0, 1)), max_size=30))
def test_rows_that_equal_an_earlier_one_are_counted(rows):
    names, amounts, perhaps = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    columns = {
        "name": factorize(strings(map(str, names))),
        "amount": np.array(amounts, np.int64),
        "time": np.array(amounts, float) - 1.0,  # one that is 0.0
        "age": np.ma.masked_array([n or 0 for n in perhaps], [n is None for n in perhaps], np.int64),
    }
    assert repeated_rows(columns) == len(rows) - len(set(rows))
