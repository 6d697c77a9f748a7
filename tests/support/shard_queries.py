"""Tables of three owners that joins by identifier divide into shards, and runs of queries over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from secagg import simulate
from secagg.query.joint_run import agree, take_part
from secagg.query.owner import Prepared, from_mapping, prepare
from secagg.query.planner import Plan
from secagg.query.terms import QueryTerms

OWNERS = ("north", "south", "west")
DECLARATION = """
[tables.moves]
holders = ["north", "south", "west"]
max_rows = 20
[tables.moves.columns]
who = {type = "identifier", max_rows = 15}
kind = {type = "category", values = ["card", "cash", "wire"], nullable = true}
amount = {type = "money", max = 1000, nullable = true}
n = {type = "integer", min = -9, max = 9, nullable = true}
urgent = {type = "boolean", nullable = true}
[tables.people]
holder = "south"
max_rows = 20
keys = [["id"]]
[tables.people.columns]
id = "identifier"
age = {type = "integer", min = 0, max = 2000, nullable = true}
[tables.alerts]
holders = ["west", "north"]
max_rows = 10
[tables.alerts.columns]
of = {type = "identifier", max_rows = 3}
level = {type = "integer", min = 1, max = 3}
[tables.fees]
holder = "west"
max_rows = 3
keys = [["kind"]]
[tables.fees.columns]
kind = {type = "category", values = ["card", "cash", "wire"]}
fee = {type = "integer", min = 0, max = 9}
"""
SOME = (
    ("a", "card", Decimal("3.10"), 4, True),
    ("b", None, Decimal("7.00"), -3, False),
    ("c", "cash", None, None, None),
    ("a", "card", Decimal("0.01"), None, None),
    ("d", "wire", Decimal("9.99"), 9, True),
)
AGES = {"a": 40, "b": None, "d": 40, "z": 3}


def tables_of(rows: Mapping[str, Sequence[Any]], people: Mapping[str, Any]) -> dict[str, Any]:
    """Return each owner's tables: some of the moves, and all people at one."""
    tables: dict[str, Any] = {
        owner: {
            "moves": {
                c: [row[i] for row in mine] for i, c in enumerate(("who", "kind", "amount", "n", "urgent"))
            }
        }
        for owner, mine in rows.items()
    }
    tables["south"]["people"] = {"id": list(people), "age": list(people.values())}
    tables["west"]["alerts"] = {"of": ["a", "a", "d"], "level": [1, 3, 2]}
    tables["north"]["alerts"] = {"of": ["a", "c"], "level": [2, 1]}
    tables["west"]["fees"] = {"kind": ["card", "cash"], "fee": [2, 5]}
    return tables


HELD = tables_of({"north": SOME, "south": SOME[:3], "west": SOME[1:]}, AGES)


def terms_of(
    count: int, computing: tuple[str, ...] = OWNERS, receivers: tuple[str, ...] = OWNERS
) -> QueryTerms:
    """Return the terms of a query in so many shards."""
    parties = tuple(dict.fromkeys([*OWNERS, *computing, *receivers]))
    return QueryTerms(parties, computing, receivers, shards=count)


def prepared(plan: Plan, tables: Mapping[str, Any]) -> dict[str, Prepared]:
    """Return what each owner puts in."""
    return {
        owner: prepare(plan, owner, from_mapping(tables[owner], owner), announce_filtered=False)
        for owner in plan.owners
    }


def played(plan: Plan, terms: QueryTerms, held: Mapping[str, Prepared]) -> Any:
    """Return the outcome of a run of all parties; `held` is what owners put in."""

    async def program(party: Any) -> Any:
        mine = held.get(party.me)
        return await take_part(party, plan, terms, await agree(party, plan, terms, mine), mine)

    return simulate(dict.fromkeys(terms.parties, program))
