"""Plans in which as much as possible lies next to the tables: filters, computed columns, and no column that nobody reads.

Nothing here changes what a plan gives. What lies next to a table is computed by its owners alone, see `planner`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import count
from typing import TypeVar

from secagg.query.algebra import (
    Aggregate,
    Aggregation,
    Call,
    Case,
    Distinct,
    Domain,
    Expression,
    Filter,
    Join,
    Limit,
    Project,
    Ref,
    Relation,
    Scan,
    Sort,
    Union,
    Window,
    WindowFunction,
    after,
    walk,
)
from secagg.query.local_sql import is_local


def pushed_down(root: Relation) -> Relation:
    """Return the plan with conditions and computed columns next to the tables, and without unread columns."""
    names = (f"#{i}" for i in count())
    return pruned(_pushed(without_means(root), lambda: next(names)), root.names)


def refs(*expressions: Expression) -> set[str]:
    """Return the columns that expressions read."""
    return {one.name for expression in expressions for one in walk(expression) if isinstance(one, Ref)}


def with_inputs(relation: Relation, inputs: Iterable[Relation]) -> Relation:
    """Return the relation over other inputs."""
    given = tuple(inputs)
    match relation:
        case Join():
            return replace(relation, left=given[0], right=given[1])
        case Union():
            return replace(relation, inputs=given)
        case _:
            return replace(relation, input=given[0]) if given else relation  # type: ignore[type-var]


def without_means(relation: Relation) -> Relation:
    """Return the plan in which a mean of numbers is the quotient of a sum and a count."""
    relation = with_inputs(relation, map(without_means, relation.inputs))
    split: Relation
    if isinstance(relation, Aggregate):
        split = replace(relation, aggregations=_in_parts(relation.input, relation.aggregations))
    elif isinstance(relation, Window):
        split = replace(relation, functions=_in_parts(relation.input, relation.functions))
    else:
        return relation
    kept = set(split.names)
    expressions: list[tuple[str, Expression]] = []
    for column in relation.columns:
        if column.name in kept:
            expressions.append((column.name, column.ref))
            continue
        parts = (split[f"{column.name}#sum"].ref, split[f"{column.name}#count"].ref)
        expressions.append((column.name, Call("div", parts, column.domain, after(column.lineage, "compute"))))
    return relation if kept == set(relation.names) else Project(split, tuple(expressions))


_Function = TypeVar("_Function", Aggregation, WindowFunction)


def _in_parts(below: Relation, functions: Iterable[_Function]) -> tuple[_Function, ...]:
    """Return the functions, those that are not means first, and then a sum and a count for each mean of numbers."""
    rows = max(below.max_rows, 1)
    kept: list[_Function] = []
    parts: list[_Function] = []
    for one in functions:
        if one.function != "mean" or one.column is None or below[one.column].domain.kind != "number":
            kept.append(one)
            continue
        domain = below[one.column].domain
        low, high = domain.bounds
        total = replace(domain, lowest=min(low, low * rows), highest=max(high, high * rows))
        total = total.with_null(one.domain.nullable)
        parts.append(replace(one, name=f"{one.name}#sum", function="sum", domain=total))
        parts.append(
            replace(one, name=f"{one.name}#count", function="count", domain=Domain("number", 0, rows))
        )
    return tuple(kept + parts)


def substituted(expression: Expression, values: Mapping[str, Expression]) -> Expression:
    """Return the expression with columns replaced by what they are computed of."""
    match expression:
        case Ref(name=name):
            return values.get(name, expression)
        case Call(args=args):
            return replace(expression, args=tuple(substituted(one, values) for one in args))
        case Case(branches=branches, otherwise=otherwise):
            return replace(
                expression,
                branches=tuple((substituted(c, values), substituted(v, values)) for c, v in branches),
                otherwise=substituted(otherwise, values),
            )
        case _:
            return expression


_Namer = Callable[[], str]


def _pushed(relation: Relation, name: _Namer) -> Relation:
    relation = with_inputs(relation, (_pushed(below, name) for below in relation.inputs))
    match relation:
        case Filter(input=below, condition=condition):
            for one in _conjuncts(condition):
                below = _filtered(below, one, name)
            return below
        case Project(input=below, expressions=expressions):
            made = []
            for called, expression in expressions:
                below, expression = _hoisted(below, expression, name)
                made.append((called, expression))
            return Project(below, tuple(made))
        case _:
            return relation


def _conjuncts(condition: Expression) -> list[Expression]:
    if isinstance(condition, Call) and condition.op == "and":
        return [part for one in condition.args for part in _conjuncts(one)]
    return [condition]


def _filtered(relation: Relation, condition: Expression, name: _Namer) -> Relation:
    """Return the rows for which a condition holds, as far down as it can be tested."""
    needed = refs(condition)
    match relation:
        case Filter(input=below):
            return replace(relation, input=_filtered(below, condition, name))
        case Sort(input=below):
            return replace(relation, input=_filtered(below, condition, name))
        case Project(input=below, expressions=expressions):
            below_it = substituted(condition, dict(expressions))
            return replace(relation, input=_filtered(below, below_it, name))
        case Join(left=left, right=right, how=how):
            if needed <= set(left.names):
                return replace(relation, left=_filtered(left, condition, name))
            if how == "inner" and needed <= set(right.names):
                return replace(relation, right=_filtered(right, condition, name))
        case Union(inputs=inputs):
            return replace(relation, inputs=tuple(_filtered(below, condition, name) for below in inputs))
        case _:
            pass
    relation, condition = _hoisted(relation, condition, name)
    return Filter(relation, condition)


def _hoisted(relation: Relation, expression: Expression, name: _Namer) -> tuple[Relation, Expression]:
    """Return the relation with parts of an expression that one side of a join gives as columns, and the rest of it."""
    if not isinstance(expression, Call | Case) or not any(isinstance(r, Join) for r in _chain(relation)):
        return relation, expression
    if is_local(expression) and refs(expression) and _has_side(relation, refs(expression)):
        column = name()
        return (
            _with_column(relation, column, expression, name),
            Ref(column, expression.domain, expression.lineage),
        )
    if isinstance(expression, Call):
        args = []
        for one in expression.args:
            relation, one = _hoisted(relation, one, name)
            args.append(one)
        return relation, replace(expression, args=tuple(args))
    branches = []
    for condition, value in expression.branches:
        relation, condition = _hoisted(relation, condition, name)
        relation, value = _hoisted(relation, value, name)
        branches.append((condition, value))
    relation, otherwise = _hoisted(relation, expression.otherwise, name)
    return relation, replace(expression, branches=tuple(branches), otherwise=otherwise)


def _chain(relation: Relation) -> Iterable[Relation]:
    """Yield the relation and what lies below it, through filters and projections."""
    while isinstance(relation, Filter | Project):
        relation = relation.input
    yield relation


def _has_side(relation: Relation, needed: set[str]) -> bool:
    match relation:
        case Filter(input=below):
            return _has_side(below, needed)
        case Project(input=below, expressions=expressions):
            values = dict(expressions)
            if not needed <= values.keys() or not all(is_local(values[one]) for one in needed):
                return False
            return _has_side(below, refs(*(values[one] for one in needed)))
        case Join(left=left, right=right, how=how):
            return needed <= set(left.names) or (how == "inner" and needed <= set(right.names))
        case _:
            return False


def _with_column(relation: Relation, column: str, expression: Expression, name: _Namer) -> Relation:
    """Return the relation with a computed column more, made as far down as its columns are."""
    match relation:
        case Filter(input=below):
            return replace(relation, input=_with_column(below, column, expression, name))
        case Project(input=below, expressions=expressions):
            below_it = substituted(expression, dict(expressions))
            below = _with_column(below, column, below_it, name)
            return Project(below, (*expressions, (column, below[column].ref)))
        case Join(left=left, right=right, how=how):
            if refs(expression) <= set(left.names):
                return replace(relation, left=_with_column(left, column, expression, name))
            if how == "inner" and refs(expression) <= set(right.names):
                return replace(relation, right=_with_column(right, column, expression, name))
        case _:
            pass
    relation, expression = _hoisted(relation, expression, name)
    return Project(relation, (*((c.name, c.ref) for c in relation.columns), (column, expression)))


def pruned(relation: Relation, needed: Iterable[str]) -> Relation:
    """Return the relation with the columns that are needed, and perhaps others that it cannot do without."""
    wanted = set(needed)
    match relation:
        case Scan(columns=columns):
            return replace(relation, columns=tuple(c for c in columns if c.name in wanted))
        case Filter(input=below, condition=condition):
            return replace(relation, input=pruned(below, wanted | refs(condition)))
        case Project(input=below, expressions=expressions):
            kept = tuple((called, one) for called, one in expressions if called in wanted)
            return Project(pruned(below, refs(*(one for _, one in kept))), kept)
        case Aggregate(input=below, keys=keys, aggregations=aggregations):
            left = tuple(one for one in aggregations if one.name in wanted)
            if not left and not keys:
                left = aggregations[:1]
            read = {*keys, *(one.column for one in left if one.column is not None)}
            return replace(relation, input=pruned(below, read), aggregations=left)
        case Join(left=first, right=second, on=on):
            on_left, on_right = {a for a, _ in on}, {b for _, b in on}
            return replace(
                relation,
                left=pruned(first, (wanted & set(first.names)) | on_left),
                right=pruned(second, (wanted & set(second.names)) | on_right),
            )
        case Union(inputs=inputs):
            order = [one for one in relation.names if one in wanted]
            return Union(tuple(_exactly(pruned(below, order), order) for below in inputs))
        case Sort(input=below, keys=keys):
            return replace(relation, input=pruned(below, wanted | {key.name for key in keys}))
        case Limit(input=below):
            return replace(relation, input=pruned(below, wanted))
        case Window(input=below, functions=functions):
            kept_functions = tuple(one for one in functions if one.name in wanted)
            read = {
                *relation.partition_by,
                *(key.name for key in relation.order_by),
                *(one.column for one in kept_functions if one.column is not None),
            }
            below = pruned(below, (wanted & set(below.names)) | read)
            return replace(relation, input=below, functions=kept_functions) if kept_functions else below
        case Distinct(input=below):
            return replace(relation, input=pruned(below, below.names))
        case _:
            return relation


def _exactly(relation: Relation, names: Iterable[str]) -> Relation:
    order = tuple(names)
    if relation.names == order:
        return relation
    return Project(relation, tuple((name, relation[name].ref) for name in order))
