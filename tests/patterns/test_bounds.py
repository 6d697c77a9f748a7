"""Bounds of patterns at their edges, and ranges on shares on both sides."""

from __future__ import annotations

import re

import numpy as np
import pytest

from bank_tables import terms_of
from program_runs import played, strings
from secagg.errors import PlanError
from secagg.party import Party, Roster
from secagg.patterns.banking.velocity import VELOCITY
from secagg.patterns.counts import Categorical
from secagg.patterns.joint_tables import PrivateTables
from secagg.patterns.registry import find
from secagg.query.schema import Identifier

pytestmark = pytest.mark.slow

BANKS = ("a", "b", "c")
DAY = 86400.0


@pytest.mark.parametrize("time", [-1e15, 1e15])
def test_a_time_beyond_either_end_is_found_on_shares(time, monkeypatch):
    tables = {
        name: {"uses": {"instrument": strings(["card", "other"]), "time": np.array([1.0, 2.0])}}
        for name in BANKS
    }
    tables["b"]["uses"]["time"][1] = time
    monkeypatch.setattr(PrivateTables, "check", lambda _: None)
    outcome = played(VELOCITY, VELOCITY.Parameters(within_s=2), tables, BANKS)
    assert all(re.match("b put in a number outside", str(outcome.errors[name])) for name in BANKS)


def moved(transfers):
    """Return tables of three banks; account xi lies at bank i."""
    tables = {}
    for i, bank in enumerate(BANKS):
        own = f"x{i}"
        seen = [t for t in transfers if own in t[:2]]
        tables[bank] = {
            "transfers": {
                "sender": strings([t[0] for t in seen]),
                "beneficiary": strings([t[1] for t in seen]),
                "amount": np.array([t[2] for t in seen], np.int64),
                "time": np.array([t[3] for t in seen], float),
            },
            "accounts": {"account": strings([own])},
        }
    return tables


def told(name, tables, **parameters):
    pattern = find(name).pattern
    agreed = pattern.Parameters(**parameters)
    outcome = played(pattern, agreed, tables, BANKS)
    outcome.values()
    assert outcome.results == pattern.reference(agreed, terms_of(BANKS, BANKS), tables)
    return [row for bank in BANKS for row in outcome.results[bank]]


@pytest.mark.parametrize(
    ("came", "went", "later", "flagged"),
    [(1000, 900, DAY, True), (1000, 1100, 0, True), (1000, 899, 0, False), (1000, 1101, 0, False),
     (999, 999, 0, False), (1000, 1000, DAY + 0.001, False)],
)  # fmt: skip
def test_pass_through_takes_its_bounds_themselves(came, went, later, flagged):
    tables = moved([("x0", "x1", came, 5.0), ("x1", "x2", went, 5.0 + later)])
    found = told("pass_through", tables, min_total_cents=1000, within_s=86400, tolerance_percent=10)
    assert [row[0] for row in found] == ["x1"] * flagged


def test_a_cycle_may_take_place_at_one_time():
    tables = moved([("x0", "x1", 1000, 5.0), ("x1", "x2", 1000, 5.0), ("x2", "x0", 1000, 5.0)])
    found = told("cycles", tables, min_hops=3, max_hops=3, min_amount_cents=1, max_paths=9, max_cycles=9)
    assert found == [("x0", 3), ("x1", 3), ("x2", 3)]


def test_money_that_is_scattered_and_gathered_at_one_time_counts():
    tables = moved([("x0", m, 9, 5.0) for m in ("x1", "x2")] + [(m, "y", 9, 5.0) for m in ("x1", "x2")])
    found = told("scatter_gather", tables, min_between=2, max_receivers=3)
    assert [row[0] for row in found] == ["x0", "x1", "x2"]


@pytest.mark.parametrize(("smallest", "expected"), [(2, [(2, 60)]), (3, [])])
def test_just_as_many_common_customers_as_agreed_are_told(smallest, expected):
    pattern = find("intersection_sum").pattern
    own = {"customers": {"customer": strings(["p", "q"]), "amount": np.array([4, 16])}}
    tables = dict.fromkeys(BANKS, own)
    agreed = pattern.Parameters(min_organisations=2, min_customers=smallest)
    outcome = played(pattern, agreed, tables, BANKS)
    outcome.values()
    assert all(outcome.results[bank] == expected for bank in BANKS)


def test_a_missing_identifier_equals_no_other():
    names = Categorical(strings(["p", "q"]), np.array([0, -1, 1, -1]))
    own = PrivateTables.of(
        {"t": {"who": Identifier(nullable=True)}}, {"t": {"who": names}}, caps={}, announced=5, row_limit=9
    )
    party = Party("a", Roster(BANKS), session=bytes(32))
    (values, _), (missing, _), _ = own.elements("t", 5, bytes(32), party)
    assert missing.tolist() == [False, True, False, True, False]
    assert len(set(values.tolist())) == 5


def test_sums_of_more_than_62_bits_are_refused_from_the_first():
    pattern = find("intersection_sum").pattern
    terms, rows = terms_of(BANKS, BANKS), dict.fromkeys(BANKS, 2)
    most = ((1 << 62) - 1) // 6
    pattern.cost(pattern.Parameters(max_amount_cents=most), terms, rows)
    with pytest.raises(PlanError, match=f"allow at most {most} in one row"):
        pattern.cost(pattern.Parameters(max_amount_cents=most + 1), terms, rows)


def everywhere(name, tables, **parameters):
    pattern = find(name).pattern
    agreed = pattern.Parameters(**parameters)
    outcome = played(pattern, agreed, tables, BANKS)
    outcome.values()
    return outcome.results["a"]


def test_a_variant_with_just_as_many_carriers_as_agreed_is_told():
    tables = {b: {"carriers": {"patient": strings(["p"]), "variant": strings(["rs1"])}} for b in BANKS}
    assert everywhere("rare_variant", tables, variants=("rs1",), min_carriers=3, max_carriers=3) == [
        ("rs1", 3)
    ]


def test_a_group_of_just_the_smallest_size_is_described():
    own = {"patient": strings(["p"]), "arm": strings(["all"]), "value": np.array([5 * 10**6])}
    tables = {b: {"measurements": own} for b in BANKS}
    found = everywhere("describe", tables, low=0, high=9, decimals=0, quantiles=(), min_patients=3)
    assert [what for _, what, _ in found][:2] == ["number", "mean"]
    assert everywhere("describe", tables, low=0, high=9, decimals=0, quantiles=(), min_patients=4) == []
