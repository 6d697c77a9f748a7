"""GROUP BY and aggregates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from sqlglot import exp

from secagg.query.algebra import Aggregate, Expression, Project, Ref, Relation
from secagg.query.inference import aggregation, case, literal, null
from secagg.query.places import Text, shown
from secagg.query.scalars import Scalars

_AGGREGATES: Final[Mapping[type[exp.Expr], str]] = {
    exp.Count: "count", exp.Sum: "sum", exp.Avg: "mean", exp.Min: "min", exp.Max: "max",
    exp.LogicalOr: "any", exp.LogicalAnd: "all", exp.CountIf: "count",
}  # fmt: skip


def grouped(
    text: Text, node: exp.Select, rows: Relation, scalars: Scalars, found: Sequence[exp.Expr]
) -> tuple[Relation, Scalars]:
    """Return the groups of a SELECT, and what its expressions mean over them.

    Args:
      found: the aggregates that it uses.
    """
    keys = _keys(text, node)
    known: dict[str, Expression] = {}
    below: dict[str, Expression] = {}
    names = []
    for i, key in enumerate(keys):
        value = scalars.lowered(key)
        name = value.name if isinstance(value, Ref) else f"key{i + 1}"
        below[name] = value
        if name not in names:
            names.append(name)
    wanted: dict[str, tuple[str, str | None]] = {}
    for one in found:
        if one.sql("duckdb") not in wanted:
            function, argument = aggregate(text, one, scalars)
            column = None
            if argument is not None:
                column = argument.name if isinstance(argument, Ref) else f"value{len(wanted) + 1}"
                below[column] = argument
            wanted[one.sql("duckdb")] = (function, column)
    input_ = projected(rows, list(below.items())) if below else rows
    made = []
    for i, (one_sql, (function, column)) in enumerate(wanted.items(), 1):
        with text.at(next(one for one in found if one.sql("duckdb") == one_sql)):
            of = None if column is None else input_[column]
            made.append(aggregation(f"aggregate{i}", function, of, input_, grouped=bool(keys)))
    made_rows = Aggregate(input_, tuple(names), tuple(made))
    for one_sql, aggregated in zip(wanted, made, strict=True):
        known[one_sql] = made_rows[aggregated.name].ref
    for key in keys:
        value = scalars.lowered(key)
        name = value.name if isinstance(value, Ref) else next(n for n, v in below.items() if v == value)
        known[key.sql("duckdb")] = made_rows[name].ref
    return made_rows, replace(scalars, column=lambda column: _only_keys(text, column), known=known)


def _only_keys(text: Text, node: exp.Column) -> Expression:
    raise text.refusal(
        node,
        f"the column {node.name!r:.80} stands outside an aggregate; add it to GROUP BY, or aggregate it",
    )


def _keys(text: Text, node: exp.Select) -> list[exp.Expr]:
    group = node.args.get("group")
    if group is None:
        return []
    if group.args.get("all"):
        return [
            one.this if isinstance(one, exp.Alias) else one
            for one in node.expressions
            if not any(True for _ in outermost(one, is_aggregate))
        ]
    text.only(group, ("expressions",))
    return list(group.expressions)


def aggregate(text: Text, node: exp.Expr, scalars: Scalars) -> tuple[str, Expression | None]:
    """Return the function and the value of an aggregate."""
    condition = None
    if isinstance(node, exp.Filter):
        condition, node = scalars.lowered(node.expression.this), node.this
    if type(node) not in _AGGREGATES:
        raise text.unsupported(node)
    scalars.check(node)
    function, this = _AGGREGATES[type(node)], node.this
    if isinstance(node, exp.CountIf):
        value: Expression | None = case([(scalars.lowered(this), literal(1))], null())
    elif isinstance(this, exp.Distinct):
        if function != "count" and function not in ("min", "max"):
            raise text.unsupported(node, f"{shown(node)[:-2]} of DISTINCT values")
        if len(this.expressions) != 1:
            raise text.unsupported(node, "COUNT DISTINCT of several columns")
        function = "count_distinct" if function == "count" else function
        value = scalars.lowered(this.expressions[0])
    else:
        value = None if this is None or isinstance(this, exp.Star) else scalars.lowered(this)
    if function == "count" and value is not None and not value.domain.nullable:
        value = None
    if condition is None:
        return function, value
    with text.at(node):
        return function, case([(condition, literal(1) if value is None else value)], null())


def is_aggregate(node: exp.Expr) -> bool:
    """Return whether a part is an aggregate, with its FILTER."""
    if isinstance(node, exp.Filter):
        return True
    return isinstance(node, exp.AggFunc) and not isinstance(
        node, exp.Lag | exp.Lead | exp.RowNumber | exp.Rank | exp.DenseRank
    )


def outermost(node: exp.Expr, wanted: Callable[[exp.Expr], bool]) -> Iterator[exp.Expr]:
    """Yield the outermost parts that are wanted; an aggregate that is a window's function is the window's."""
    if isinstance(node, exp.Query):
        return
    if wanted(node):
        yield node
        return
    for child in node.iter_expressions():
        if isinstance(node, exp.Window) and child is node.this and wanted is is_aggregate:
            yield from (found for inner in child.iter_expressions() for found in outermost(inner, wanted))
        else:
            yield from outermost(child, wanted)


def projected(rows: Relation, expressions: Sequence[tuple[str, Expression]]) -> Relation:
    """Return the columns; the relation itself if that is what it has."""
    same = len(expressions) == len(rows.columns) and all(
        isinstance(one, Ref) and one.name == name == column.name
        for (name, one), column in zip(expressions, rows.columns, strict=False)
    )
    return rows if same else Project(rows, tuple(expressions))
