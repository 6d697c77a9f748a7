"""Queries on shares tell what their owners' rules leave, and what rules do not allow is refused before a table is read."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from owner_rules import COLUMNS, DECLARATION, ORGANISATIONS, all_rules, answer, payment
from secagg import simulate
from secagg.errors import RemoteProtocolError, RuleError
from secagg.query.joint_run import agree, plan_query, run
from secagg.query.owner import from_mapping, prepare
from secagg.query.terms import QueryTerms

ROWS = [
    payment(at, number, kind=number % 2, city=number // 8, amount=100 * (number + 1), day=number % 5)
    for number, at in enumerate(ORGANISATIONS * 3)
]


def held_by(organisation):
    rows = [row for row in ROWS if row["org"] == ORGANISATIONS.index(organisation)]
    columns = {name: [row[name] for row in rows] for name in ("id", "customer", "day", "secret")}
    columns |= {name: [Decimal(row[name]).scaleb(-2) for row in rows] for name in ("amount", "fee")}
    columns |= {
        name: [values[row[name]] for row in rows] for name, values in (("city", "abc"), ("kind", "xy"))
    }
    return {"payments": columns}


TABLES = {one: held_by(one) for one in ORGANISATIONS}
BY_CITY = "SELECT city, COUNT(*) AS n, SUM(amount) AS s FROM payments GROUP BY city"
BY_KIND = "SELECT kind, SUM(amount) AS s FROM payments GROUP BY kind"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "bounds", "told"),
    [
        (BY_CITY, "smallest_group = 3", [("a", 8, 3600)]),  # one row in b
        # Of x 25 makes up 9, of y 20 makes up 8.
        (BY_KIND, "smallest_group = 2\ndominance = {percent = 37}", [("x", 2500)]),
    ],
)
def test_what_is_told_on_shares_is_what_the_protected_plan_gives_over_plain_rows(query, bounds, told):
    rules = all_rules(bounds, COLUMNS)
    found = [
        tuple(int(v.scaleb(2)) if isinstance(v, Decimal) else v for v in row)
        for row in run(query, DECLARATION, TABLES, to="lab", rules=rules)
    ]
    plain = [
        ({"city": "abc", "kind": "xy"}[next(iter(row))][next(iter(row.values()))], *list(row.values())[1:])
        for row in answer(query, {"payments": ROWS}, rules)
    ]
    assert sorted(found) == sorted(plain) == told


@pytest.mark.parametrize(
    ("query", "options", "says"),
    [
        ("SELECT max(amount) AS m FROM payments", {}, "north's rules do not allow payments.amount to be used as open"),
        ("SELECT id FROM payments", {}, "one by one"),
        (BY_KIND, {"to": ORGANISATIONS}, "smallest_organisations|lie at"),
        (BY_KIND, {"announce_filtered": True}, "announce_filtered"),
    ],
)  # fmt: skip
def test_a_query_that_rules_do_not_allow_is_refused_before_a_table_is_read(query, options, says):
    bounds = "smallest_group = 2\nsmallest_organisations = 2"
    nothing: dict[str, Any] = {one: {} for one in ORGANISATIONS}  # no tables
    with pytest.raises(RuleError, match=says):
        run(query, DECLARATION, nothing, **({"to": "lab"} | options), rules=all_rules(bounds))


def test_an_owner_without_rules_and_rules_of_a_stranger_are_refused():
    rules = all_rules()
    with pytest.raises(RuleError, match="west holds rows of payments, and has no rules"):
        plan_query(BY_KIND, DECLARATION, ["lab"], {one: rules[one] for one in ("north", "south")})
    with pytest.raises(RuleError, match="east, who hold no table"):
        plan_query(BY_KIND, DECLARATION, ["lab"], rules | {"east": rules["west"]})


@pytest.mark.parametrize("other", [None, all_rules("smallest_group = 2"), all_rules()])
@pytest.mark.slow
def test_parties_that_apply_other_rules_or_none_compute_nothing(other):
    query, lab = BY_KIND, ("lab",)
    rules = all_rules("smallest_group = 3\npersons = 'customer'")
    terms = QueryTerms((*ORGANISATIONS, "lab"), ORGANISATIONS, lab)
    plans = dict.fromkeys(terms.parties, plan_query(query, DECLARATION, lab, rules))
    plans["south"] = plan_query(query, DECLARATION, lab, other)

    async def program(party):
        plan = plans[party.me]
        held = TABLES.get(party.me)
        mine = held and prepare(plan, party.me, from_mapping(held, party.me), announce_filtered=False)
        await agree(party, plan, terms, mine)

    with pytest.raises(RemoteProtocolError, match=r"applies .*compare the owners' rule files"):
        simulate(dict.fromkeys(terms.parties, program)).values()


def test_a_plan_under_rules_is_opened_to_nobody_else_than_the_rules_were_applied_for():
    plan = plan_query(BY_KIND, DECLARATION, ["lab"], all_rules())
    terms = QueryTerms((*ORGANISATIONS, "lab"), ORGANISATIONS, ("lab", "north"))

    async def program(party):
        await agree(party, plan, terms, None)

    with pytest.raises(RuleError, match="opened to lab, and it is to be opened to lab, north"):
        simulate(dict.fromkeys(terms.parties, program)).values()
