"""Payments at three organisations, their owners' rules, and a query under them over plain rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from secagg.query.declaration import Declaration
from secagg.query.evaluator import rows_of
from secagg.query.rules import Grant, OwnerRules, check, parse_rules, protect
from secagg.query.sql import plan

ORGANISATIONS = ("north", "south", "west")
DECLARATION = Declaration.parse(
    """
    [tables.payments]
    holders = ["north", "south", "west"]
    max_rows = 100
    keys = [["id"]]
    [tables.payments.columns]
    id = "identifier"
    customer = {type = "identifier", max_rows = 100}
    city = {type = "category", values = ["a", "b", "c"]}
    kind = {type = "category", values = ["x", "y"]}
    amount = {type = "money", max = 10000, decimals = 2}
    fee = {type = "money", max = 100, decimals = 2, nullable = true}
    day = {type = "integer", min = 0, max = 30}
    secret = {type = "integer", min = 0, max = 9}

    [tables.people]
    holder = "south"
    max_rows = 50
    keys = [["customer"]]
    [tables.people.columns]
    customer = "identifier"
    age = {type = "integer", min = 0, max = 120}

    [tables.guesses]
    holder = "west"
    max_rows = 50
    [tables.guesses.columns]
    customer = "identifier"
    label = {type = "integer", min = 0, max = 9}
    threshold = {type = "money", max = 10000, decimals = 2}
    """
)
COLUMNS = """
id = {uses = ["join"]}
customer = {uses = ["join", "group"]}
city = {uses = ["group", "compare"]}
kind = {uses = ["group", "compare"]}
amount = {uses = ["aggregate", "compare"]}
fee = {uses = ["aggregate"]}
day = {uses = ["aggregate", "compare", "rank"]}
"""


def rules_of(owner: str, table: str = "", columns: str = COLUMNS) -> OwnerRules:
    """Return an owner's rules for all tables; `table` has the bounds of payments, else groups of three rows."""
    return parse_rules(
        f"""
        owner = "{owner}"
        [tables.payments]
        {table or "smallest_group = 3"}
        [tables.payments.columns]
        {columns}
        [tables.people]
        smallest_group = 3
        [tables.people.columns]
        customer = {{uses = ["join"]}}
        age = {{uses = ["aggregate"]}}
        [tables.guesses]
        smallest_group = 1
        [tables.guesses.columns]
        customer = {{uses = ["join"]}}
        label = {{uses = ["group"]}}
        threshold = {{uses = ["compare"], comparisons = 1000}}
        """
    )


def all_rules(table: str = "", columns: str = COLUMNS, **of: OwnerRules) -> dict[str, OwnerRules]:
    """Return the same rules for each organisation, but for those that are given."""
    return {one: of.get(one) or rules_of(one, table, columns) for one in ORGANISATIONS}


def grants(
    sql: str, rules: Mapping[str, OwnerRules] | None = None, to: Sequence[str] = ("lab",)
) -> list[Grant]:
    """Return which rules allow a query, whose bounds can be decided too."""
    root = plan(sql, DECLARATION).root
    found = check(root, rules or all_rules(), to, DECLARATION)
    protect(root, rules or all_rules(), to, DECLARATION)
    return found


def answer(
    sql: str,
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    rules: Mapping[str, OwnerRules] | None = None,
    to: Sequence[str] = ("lab",),
) -> list[dict[str, Any]]:
    """Return what a query tells under rules."""
    root = plan(sql, DECLARATION).root
    check(root, rules or all_rules(), to, DECLARATION)
    told = protect(root, rules or all_rules(), to, DECLARATION)
    empty: dict[str, Sequence[Mapping[str, Any]]] = dict.fromkeys(DECLARATION, ())
    return [dict(row) for row in rows_of(told, empty | dict(tables))]


def payment(at: str, number: int = 0, **values: Any) -> dict[str, Any]:
    """Return a row that lies at an organisation."""
    row = {"id": f"{at}{number}", "customer": f"{at}{number}", "city": 0, "kind": 0, "amount": 100, "fee": 5}
    return {**row, "day": 1, "secret": 0, "org": ORGANISATIONS.index(at), **values}


def payments(*at: str, **values: Any) -> list[dict[str, Any]]:
    """Return one row at each of the organisations named, the same but for id and customer."""
    return [payment(one, number, **values) for number, one in enumerate(at)]
