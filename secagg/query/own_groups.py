"""A physical operator: groups of owners' rows, tested and told to the owners of their rows, by `protocols.group_by`.

A plan fits whose root groups owners' rows by one identifier, of which each owner has each once, adds up numbers, and keeps
groups whose sums, or whose owners' largest or smallest parts, pass tests against constants; and whose result is told to the
owners, each about its own. The protocol merges the owners' sorted lists in place of sorting on shares.

Where it is used, it is so at all parties: that follows from the plan, the terms and the announced row counts.

Threat model, who learns what: that of `protocols.group_by`. It opens to the computing parties whether lists are well-formed,
and whose each place of the shuffled table is; to everybody, whether the run must be repeated with a new key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from secagg.errors import PlanError, UsageError
from secagg.party import Party, PartyId
from secagg.protocols import group_by
from secagg.protocols.group_by import Field, Layout, Rows
from secagg.protocols.row_counts import padded
from secagg.query.algebra import Aggregate, Call, Expression, Filter, Literal, Project, Ref
from secagg.query.announcement import Announced
from secagg.query.encoding import decode
from secagg.query.owner import Prepared
from secagg.query.planner import Local, Plan, field_of

_TURNED: Final = {"ge": "le", "gt": "lt", "le": "ge", "lt": "gt"}
_MOST: Final = (1 << 62) - 1


@dataclass(frozen=True)
class Number:
    """A number of a row, as its owner makes it.

    Attributes:
      column: of the leaf.
      reached: None for the column's value; else 1 stands for a value of at least this, 0 for a lower one.
      is_below: whether 1 and 0 are the other way round.
    """

    column: str
    field: Field
    reached: int | None = None
    is_below: bool = False


@dataclass(frozen=True)
class OwnGroups:
    """A plan as one query on groups.

    Attributes:
      key: the leaf's column with the identifier.
      numbers: those that are opened come first.
      shown: for each column of the result, the place of its number, None for the identifier.
    """

    local: Local
    key: str
    numbers: tuple[Number, ...]
    shown: tuple[int | None, ...]
    query: group_by.Query

    def layout(self, counts: Mapping[PartyId, Sequence[int]], shards: int = 1) -> Layout:
        """Return the public shape of the table of these announced rows, or of each of its shards."""
        return Layout.plan(
            self.query, [counts[owner][0] for owner in self.query.input_parties], shards=shards
        )

    def rows(self, mine: Prepared) -> Rows:
        """Return an owner's rows."""
        (part,) = mine.parts
        of = self.local.held[mine.owner]
        columns = {column.of.name: column for column in part.columns}
        values = np.empty((len(part.rows), len(self.numbers)), np.uint64)
        for i, one in enumerate(self.numbers):
            if one.column in of.known:
                value = np.full(len(part.rows), of.known[one.column].value or 0, np.int64)
            else:
                value = columns[of.same.get(one.column, one.column)].values
            if one.reached is not None:
                value = (value >= one.reached) != one.is_below
            values[:, i] = value
        found = Rows(columns[of.same.get(self.key, self.key)].values, values)
        found.check(self.query)
        return found

    async def run(
        self, party: Party, plan: Plan, announced: Announced, mine: Prepared | None
    ) -> list[tuple[Any, ...]] | None:
        """Take part; return the rows about this party's own identifiers, None if it put in none.

        Raises:
          as `group_by.find_announced`.
        """
        known = self.announced(announced, mine)
        return self.told(plan, known.rows, await group_by.find_announced(party, self.query, known))

    def announced(self, announced: Announced, mine: Prepared | None) -> group_by.Announced:
        """Return what was announced as the protocol knows it.

        Args:
          mine: what this party puts in, None if it puts in nothing.
        """
        return group_by.Announced(
            {owner: announced.counts[owner][0] for owner in self.query.input_parties},
            announced.commitments,
            announced.contributions,
            None if mine is None else self.rows(mine),
            announced.salt,
            announced.contribution,
        )

    def told(
        self, plan: Plan, rows: Rows | None, findings: group_by.Findings | None
    ) -> list[tuple[Any, ...]] | None:
        """Return the rows of the result about this party's own identifiers, None if it put in none."""
        if findings is None or rows is None:
            return None
        columns = []
        for place, column in zip(self.shown, plan.root.columns, strict=True):
            if place is None:
                columns.append(rows.identifiers[findings.flagged].tolist())
            else:
                sums = findings.sums[findings.flagged, place].astype(np.int64)
                columns.append(decode(field_of(column.name, column.domain), sums, None, {}))
        return list(zip(*columns, strict=True))


def own_groups(
    plan: Plan, computing: Sequence[PartyId], told: Sequence[PartyId], step: int
) -> OwnGroups | None:
    """Return a plan as one query on groups, None if it is none.

    Args:
      told: the owners to which the result is told, each about its own rows.
      step: row counts are rounded up to multiples of it.
    """
    found = _as_groups(plan, computing, told, step)
    return None if isinstance(found, str) else found


def why_not_own_groups(plan: Plan, computing: Sequence[PartyId], told: Sequence[PartyId], step: int) -> str:
    """Return why a plan is no query on groups, "" if it is one; arguments as for `own_groups`."""
    found = _as_groups(plan, computing, told, step)
    return found if isinstance(found, str) else ""


def _as_groups(
    plan: Plan, computing: Sequence[PartyId], told: Sequence[PartyId], step: int
) -> OwnGroups | str:
    if set(told) != set(plan.owners):
        return (
            f"it is not told to all of {', '.join(plan.owners)}, each about its own rows, and to nobody else"
        )
    if plan.rules is not None:
        return "owners' rules are applied"
    if len(plan.locals) != 1:
        return f"it reads {len(plan.locals)} times from tables, and one reading is expected"
    root = plan.root
    if not isinstance(root, Project) or not all(isinstance(one, Ref) for _, one in root.expressions):
        return "its result is computed of sums, and sums alone are opened"
    below, conditions = root.input, []
    while isinstance(below, Filter):
        conditions += list(_conjuncts(below.condition))
        below = below.input
    if not isinstance(below, Aggregate) or len(below.keys) != 1 or not isinstance(below.input, Local):
        return "it does not group rows by one column"
    local, (key,) = below.input, below.keys
    if not isinstance(local.relation, Aggregate) or local.relation.keys != (key,) or local.is_dense:
        return f"owners do not add up their own rows by {key}"
    if local[key].domain.kind != "identifier" or local[key].domain.nullable:
        return f"{key} is not an identifier that is never NULL"
    return _found(local, below, root, conditions, (computing, step))


def _found(
    local: Local,
    aggregate: Aggregate,
    root: Project,
    conditions: Sequence[Expression],
    asked: tuple[Any, int],
) -> OwnGroups | str:
    functions = {one.name: (one.function, one.column or "") for one in aggregate.aggregations}
    least: dict[str, int] = {}
    below: dict[str, int] = {}
    parts: list[Number] = []
    for condition in conditions:
        test = _test(condition)
        if test is None or test[0] not in functions:
            return "a condition on groups compares something else than a sum, least or largest part with a constant"
        name, op, value = test
        function, column = functions[name]
        domain = local[column].domain if column else None
        if domain is None or domain.kind != "number" or domain.nullable:
            return f"a condition on groups is on {function}, and not of a number that is never NULL"
        bound = value + (op in ("gt", "le"))  # of whole numbers: at least, or below
        is_least = op in ("ge", "gt")
        if function == "sum" and is_least:
            least[name] = max(bound, least.get(name, 0))
        elif function == "sum":
            below[name] = min(bound, below.get(name, _MOST))
        elif function == "max":  # of all at least: one owner's is; below: no owner's is at least
            field = Field(
                f"{name} {len(parts)}", 1, 1 if is_least else None, None if is_least else 1, opened=False
            )
            parts.append(Number(column, field, bound))
        elif function == "min":
            field = Field(
                f"{name} {len(parts)}", 1, None if is_least else 1, 1 if is_least else None, opened=False
            )
            parts.append(Number(column, field, bound, is_below=True))
        else:
            return f"a condition on groups is on {function}"
    outputs = [one.name for _, one in root.expressions if isinstance(one, Ref)]
    opened = list(dict.fromkeys(name for name in outputs if name not in aggregate.keys))
    tested = [name for name in {**least, **below} if name not in opened]
    numbers = []
    for name in (*opened, *tested):
        function, column = functions.get(name, ("", ""))
        domain = local[column].domain if function == "sum" else None
        if domain is None or domain.kind != "number" or domain.nullable or domain.bounds[0] < 0:
            shown = next(
                (n for n, one in root.expressions if getattr(one, "name", "") == name), "a condition"
            )
            return f"{shown} is not of a sum of numbers of 0 and more that are never NULL"
        # Each owner has at most its part of the rows that the range is of.
        most = max(1, -(-domain.bounds[1] // len(local.holders)))
        known = [held.known[column].value for held in local.held.values() if column in held.known]
        if len(known) == len(local.holders):
            most = max(1, *(int(value or 0) for value in known))
        numbers.append(Number(column, Field(name, most, least.get(name), below.get(name), name in opened)))
    computing, step = asked
    try:
        query = group_by.Query(
            local.holders,
            tuple(computing),
            tuple(one.field for one in (*numbers, *parts)),
            pad_rows_to=step,
            max_rows=padded(local.per_holder, step),
        )
    except (PlanError, UsageError) as error:  # too wide, out of reach, or nothing that padding fails
        return str(error)
    if query.row_limit < padded(local.per_holder, step):
        return f"at most {query.row_limit} rows of each owner fit, and max_rows allows {padded(local.per_holder, step)}"
    places = tuple(None if name in aggregate.keys else opened.index(name) for name in outputs)
    return OwnGroups(local, aggregate.keys[0], (*numbers, *parts), places, query)


def _conjuncts(condition: Expression) -> Iterator[Expression]:
    if isinstance(condition, Call) and condition.op == "and":
        for one in condition.args:
            yield from _conjuncts(one)
    else:
        yield condition


def _test(condition: Expression) -> tuple[str, str, int] | None:
    """Return a comparison of a column with a constant: name, operation, value."""
    if not isinstance(condition, Call) or condition.op not in _TURNED:
        return None
    a, b = condition.args
    op = condition.op
    if isinstance(a, Literal):
        a, b, op = b, a, _TURNED[op]
    if isinstance(a, Ref) and isinstance(b, Literal) and isinstance(b.value, int) and b.value >= 0:
        return a.name, op, b.value
    return None
