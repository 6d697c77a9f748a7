"""An owner whose program writes other helper columns than its rows have lowers no bound for the rows of others."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from owner_rules import COLUMNS, DECLARATION, ORGANISATIONS, all_rules
from secagg import simulate
from secagg.query.joint_run import agree, plan_query, take_part
from secagg.query.owner import from_mapping, prepare
from secagg.query.terms import QueryTerms

BY_CITY = "SELECT city, SUM(amount) AS s FROM payments GROUP BY city"
BY_CUSTOMER = "SELECT customer, SUM(amount) AS s FROM payments GROUP BY customer"
OF_CUSTOMERS = (
    "SELECT city, SUM(s) AS t FROM (SELECT city, customer, SUM(amount) AS s FROM payments GROUP BY city, customer) x "
    "GROUP BY city"
)
IN_CASES = "SELECT city, SUM(CASE WHEN day < 9 THEN amount ELSE 0 END) AS s FROM payments GROUP BY city"
SIGNED = "SELECT city, SUM(amount - fee) AS s FROM payments GROUP BY city"


def held(organisation, amounts):
    n = len(amounts)
    return {
        "payments": {
            "id": [f"{organisation}{i}" for i in range(n)],
            "customer": ["c"] * n,
            "city": ["a"] * n,
            "kind": ["x"] * n,
            "amount": [Decimal(a) for a in amounts],
            "fee": [Decimal(1)] * n,
            "day": [3] * n,
            "secret": [0] * n,
        }
    }


def largest(part, only=""):
    """Write the largest number that the plan allows into columns, true into all bits, and no NULL."""
    columns = tuple(
        column
        if column.of.kind in ("identifier", "category") or not column.of.name.startswith(only)
        else replace(
            column,
            values=np.full_like(column.values, 1 if column.of.kind == "boolean" else column.of.high),
            null=None if column.null is None else np.zeros_like(column.null),
        )
        for column in part.columns
    )
    return replace(part, columns=columns)


def told(query, bounds, amounts, liar, receivers, columns=COLUMNS, only=""):
    """Return what receivers are told, where one owner writes the largest numbers that it may."""
    rules = None if bounds is None else all_rules(bounds, columns)
    plan = plan_query(query, DECLARATION, receivers, rules)
    parties = tuple(dict.fromkeys([*ORGANISATIONS, *receivers]))
    terms = QueryTerms(parties, ORGANISATIONS, receivers)
    prepared = {
        one: prepare(plan, one, from_mapping(held(one, amounts[one]), one), announce_filtered=False)
        for one in ORGANISATIONS
    }
    if liar is not None:
        prepared[liar] = replace(
            prepared[liar], parts=tuple(largest(part, only) for part in prepared[liar].parts)
        )

    async def program(party):
        mine = prepared.get(party.me)
        return await take_part(party, plan, terms, await agree(party, plan, terms, mine), mine)

    results = dict(zip(parties, simulate(dict.fromkeys(parties, program)).values(), strict=True))
    return results[receivers[0]]


@pytest.mark.slow
@pytest.mark.parametrize("query", [BY_CITY, BY_CUSTOMER, OF_CUSTOMERS, IN_CASES])
def test_a_receiver_s_made_up_counts_fill_no_group_of_others(query):
    amounts = {"north": [1, 2], "south": [3], "west": [4] * 6}
    columns = COLUMNS.replace("amount = {", "amount = {arithmetic = true, ")
    four = "smallest_group = 4\nsmallest_organisations = 2"
    assert told(query, four, amounts, "west", ("west",), columns) == []
    three = "smallest_group = 3\nsmallest_organisations = 2"
    assert len(told(query, three, amounts, None, ("west",), columns)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("query", [BY_CITY, SIGNED])
def test_a_receiver_s_made_up_sizes_hide_no_dominance_of_others(query):
    amounts = {"north": [90, 2, 2], "south": [3, 3], "west": [50] * 3}
    columns = COLUMNS.replace("amount = {", "amount = {arithmetic = true, ").replace(
        "fee = {", "fee = {arithmetic = true, "
    )
    for percent, liar, rows in ((80, "west", 0), (99, None, 1)):
        bounds = f"smallest_group = 2\ndominance = {{percent = {percent}}}"
        assert len(told(query, bounds, amounts, liar, ("west",), columns)) == rows


@pytest.mark.slow
def test_an_owner_that_receives_nothing_gives_no_size_that_its_numbers_have_not():
    amounts = {"north": [90, 2, 2], "south": [3, 3], "west": []}
    columns = COLUMNS.replace("amount = {", "amount = {arithmetic = true, ").replace(
        "fee = {", "fee = {arithmetic = true, "
    )
    bounds = "smallest_group = 2\ndominance = {percent = 80}"
    for query in (BY_CITY, SIGNED):
        assert told(query, bounds, amounts, "south", ("lab",), columns, only="#rules.size") == []


def test_no_owner_shares_where_its_rows_lie_or_how_many_rows_others_have():
    rules = all_rules("smallest_group = 3\npersons = 'customer'\nsmallest_organisations = 2")
    plan = plan_query(IN_CASES, DECLARATION, ("west",), rules)
    for local in plan.locals:
        for owner in ORGANISATIONS:
            assert not any(f"'{one}'" in local.sql(owner) for one in ORGANISATIONS)
            assert sum(one.value == 1 for one in local.held[owner].known.values()) >= 1  # its own rows


@pytest.mark.slow
def test_no_owner_adds_to_the_groups_of_another_one():
    amounts = {"north": [1, 2], "south": [3], "west": [4] * 6}
    found = told("SELECT org, count(*) AS n FROM payments GROUP BY org", None, amounts, "west", ("lab",))
    assert dict(found)["north"] == 2
    assert dict(found)["south"] == 1
    assert dict(found)["west"] > 6
