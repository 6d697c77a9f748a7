"""Public bounds on how many rows one identifier has at one owner: from keys, and from what is declared."""

from __future__ import annotations

import math

from secagg.query.algebra import Aggregate, Distinct, Filter, Project, Relation, Scan
from secagg.query.planner import Local, Plan, combinations_of, is_org
from secagg.query.schema import Identifier


def most_rows(plan: Plan, local: Local, column: str) -> int | None:
    """Return a public bound on the rows of one identifier that an owner shares of a leaf, None where there is none.

    It follows from keys that are unique at an owner, and from `max_rows` of the declared column.
    """
    bounds: list[int] = []
    for key in local.unique:
        others = [name for name in key if name != column and not is_org(local.relation, name)]
        if column in key and key <= set(local.names) and _holds_for_null(local.relation, key):
            together = combinations_of(local[name].domain for name in others)
            bounds += [] if together == math.inf else [int(together)]
    source = _declared(local.relation, column)
    kind = None if source is None else plan.declaration[local.table].schema.get(source)
    if isinstance(kind, Identifier) and kind.max_rows is not None:
        bounds.append(kind.max_rows)
    return min(*bounds, local.per_holder) if bounds else None


def _holds_for_null(relation: Relation, key: frozenset[str]) -> bool:
    """Return whether a key also tells apart rows with NULL, as groups and DISTINCT do and declared keys do not."""
    match relation:
        case Filter(input=below):
            return _holds_for_null(below, key)
        case Project(input=below, kept=kept):
            return _holds_for_null(below, frozenset(kept[name] for name in key))
        case Distinct(input=below):
            return key == set(relation.names) or _holds_for_null(below, key)
        case Aggregate():
            return True
        case _:
            return not any(relation[name].domain.nullable for name in key)


def _declared(relation: Relation, name: str) -> str | None:
    """Return which column of the table one is, None for one that is computed."""
    match relation:
        case Scan():
            return relation.column_of(name)
        case Filter(input=below) | Distinct(input=below):
            return _declared(below, name)
        case Project(input=below, kept=kept):
            return _declared(below, kept[name]) if name in kept else None
        case Aggregate(input=below, keys=keys):
            return _declared(below, name) if name in keys else None
        case _:
            return None


def without_bound(local: Local, column: str) -> str:
    """Return in words what to do where there is no such bound."""
    source = _declared(local.relation, column)
    if source is None:
        return (
            f"a query in shards needs to know how many rows of one {column} an owner shares of {local.table} at most, and "
            "that is computed; join or group by a column of the table as it is"
        )
    return (
        f"a query in shards needs to know how many rows of {local.table} one {source} has at one owner at most; declare it, "
        f'as in {source} = {{type = "identifier", max_rows = 100}}, or group by {source} first'
    )
