"""What a told aggregate may add up: neither steps of a column, nor constants that undo rounding, counts or dominance.

A step function (floors, rounding, parts of dates) of a column plus a constant tells on which side of a step a value lies,
as a comparison does. A constant that is added to a column tells the exact number of rows, moves a sum across the steps of
its rounding, and makes the largest contributor's part smaller. Two sums over one column differ by a sum that no dominance
was asked of.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from secagg.errors import RuleError
from secagg.query.algebra import (
    Aggregate,
    Aggregation,
    Call,
    Case,
    Distinct,
    Expression,
    Lineage,
    Literal,
    Project,
    Ref,
    Relation,
    Source,
    children,
)
from secagg.query.dates import PARTS
from secagg.query.declaration import ORG
from secagg.query.rules.margins import resolved
from secagg.query.rules.strictest import TableRules

STEPS: Final = ("floor", "ceil", "round", "year", "date_of", *PARTS)
_CONDITIONS: Final = ("eq", "ne", "lt", "le", "gt", "ge", "in", "is_null", "like", "and", "or", "not")


@dataclass(frozen=True)
class _Made:
    """Columns of a relation: of which step functions they are made, and which have constants added."""

    steps: Mapping[str, frozenset[Call]]
    constants: frozenset[str]


def check_summed(told: Aggregate | Distinct, rules: Mapping[str, TableRules]) -> frozenset[Call]:
    """Return the step functions in what is aggregated, which count as comparisons.

    Raises:
      RuleError: a column is aggregated in a way that its rules do not allow.
    """
    found: set[Call] = set()

    def made(relation: Relation) -> _Made:
        below = [made(one) for one in relation.inputs]
        steps: dict[str, frozenset[Call]] = {}
        for part in below:
            for name, calls in part.steps.items():
                steps[name] = steps.get(name, frozenset()) | calls
        constants = frozenset(itertools.chain.from_iterable(part.constants for part in below))
        if isinstance(relation, Project):
            return _Made(
                {name: frozenset(_steps(one, steps)) for name, one in relation.expressions},
                frozenset(name for name, one in relation.expressions if _adds_constant(one, constants)),
            )
        if isinstance(relation, Aggregate):
            for one in relation.aggregations:
                if one.column is None:
                    continue
                lineage = relation.input[one.column].lineage
                if stepped := steps.get(one.column):
                    _refuse_steps(stepped, rules)
                    found.update(stepped)
                if one.function in ("sum", "mean"):
                    _refuse_constants(lineage, one.column in constants, rules)
            _refuse_pairs(relation, rules)
            renamed = {one.name: one.column for one in relation.aggregations} | {n: n for n in relation.keys}
            return _Made(
                {name: steps.get(of or "", frozenset()) for name, of in renamed.items()},
                frozenset(name for name, of in renamed.items() if of in constants or of is None),
            )
        return _Made(steps, constants)

    made(told)
    return frozenset(found)


def _values(expression: Expression) -> tuple[Expression, ...]:
    """Return what an expression's value is made of; conditions choose and are counted elsewhere."""
    if isinstance(expression, Case):
        return (*(value for _, value in expression.branches), expression.otherwise)
    return children(expression)


def _steps(expression: Expression, below: Mapping[str, frozenset[Call]]) -> Iterator[Call]:
    if isinstance(expression, Ref):
        yield from below.get(expression.name, frozenset())
    elif not (isinstance(expression, Call) and expression.op in _CONDITIONS):
        if isinstance(expression, Call) and expression.op in STEPS and expression.lineage:
            yield expression
        for one in _values(expression):
            yield from _steps(one, below)


def _adds_constant(expression: Expression, below: frozenset[str]) -> bool:
    """Return whether a part of the sum is the same for many rows: a constant, or a condition as a number."""
    match expression:
        case Ref(name=name):
            return name in below
        case Literal(value=value, domain=domain):
            return domain.kind != "boolean" and value not in (None, 0)
        case Call(op="to_number"):
            return True
        case Call(op=op) if op in _CONDITIONS:
            return False
        case Call(op="mul" | "div" | "intdiv" | "mod", args=args):
            return any(_adds_constant(one, below) for one in args if not isinstance(one, Literal))
    return any(_adds_constant(one, below) for one in _values(expression))


def _sources(lineage: Lineage) -> set[Source]:
    """Return the columns whose values are in a sum, not those that only conditions depend on."""
    return {one.source for one in lineage if "compare" not in one.steps and one.source.column != ORG}


def _refuse_steps(calls: frozenset[Call], rules: Mapping[str, TableRules]) -> None:
    for source in sorted({source for one in calls for source in _sources(one.lineage)}):
        owner = rules[source.table].column(source.column).arithmetic_refuser
        if owner is not None:
            names = ", ".join(sorted({one.op.upper() for one in calls}))
            raise RuleError(
                f"{owner}'s rule arithmetic = false of {source}: the query aggregates {names} of it, which tells on which "
                f"side of a step a value lies; aggregate the column itself"
            )


def _refuse_constants(lineage: Lineage, constant: bool, rules: Mapping[str, TableRules]) -> None:
    sources = sorted(_sources(lineage))
    tables = {source.table for source in sources}
    for source in sources:
        table, column = rules[source.table], rules[source.table].column(source.column)
        owner = column.arithmetic_refuser
        what = (
            "a constant" if constant else "a column of another table" if len(tables) > 1 else "another column"
        )
        if owner is None or not (constant or len(sources) > 1):
            continue
        undone = [f"rounding = {column.rounding.value}"] if column.rounding is not None else []
        if constant or len(tables) > 1:
            undone += [f"round_counts = {table.round_counts.value}"] if table.round_counts is not None else []
            undone += ["dominance"] if table.dominance else []
        if undone:
            raise RuleError(
                f"{owner}'s rule arithmetic = false of {source}: the query aggregates it with {what}, which "
                f"undoes the rule {undone[0]}; aggregate the column by itself"
            )


def _refuse_pairs(aggregate: Aggregate, rules: Mapping[str, TableRules]) -> None:
    """Refuse sums over one column that differ where dominance stands, and sums beside means where counts are rounded."""
    summed: list[tuple[Aggregation, set[Source]]] = [
        (one, _sources(aggregate.input[one.column].lineage))
        for one in aggregate.aggregations
        if one.column is not None and one.function in ("sum", "mean")
    ]
    for (one, sources), (other, others) in itertools.combinations(summed, 2):
        for table in sorted({source.table for source in sources | others}):
            found = rules[table]
            if found.round_counts is not None and found.round_counts.value > 1:
                of_both = all({of.table for of in several} & {table} for several in (sources, others))
                if of_both and one.function != other.function:
                    raise RuleError(
                        f"{found.round_counts.owner}'s rule round_counts = {found.round_counts.value} of {table}: a sum "
                        f"beside a mean tells the exact number of rows; ask for one of them"
                    )
        for source in sorted(sources & others):
            below = aggregate.input
            same = resolved(below, below[one.column or ""].ref) == resolved(
                below, below[other.column or ""].ref
            )
            if not same and (parts := rules[source.table].dominance):
                raise RuleError(
                    f"{parts[0].owner}'s rule dominance of {source.table}: the query has different sums over {source}, "
                    f"whose difference may be one contributor's; ask for one of them"
                )
