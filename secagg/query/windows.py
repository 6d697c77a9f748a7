"""Window functions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlglot import exp

from secagg.query.algebra import Domain, Expression, Project, Ref, Relation, SortKey, Window, WindowFunction
from secagg.query.groups import aggregate, is_aggregate
from secagg.query.inference import aggregation
from secagg.query.places import Text
from secagg.query.scalars import Scalars

_NUMBERS: Final[Mapping[type[exp.Expr], str]] = {
    exp.RowNumber: "row_number", exp.Rank: "rank", exp.DenseRank: "dense_rank",
}  # fmt: skip


@dataclass(frozen=True)
class _Over:
    """A window function: its argument, and the column that holds it."""

    function: str
    value: Expression | None
    column: str | None = None
    offset: int = 1
    peers: bool = True
    whole: bool = False


def windows(
    text: Text, rows: Relation, scalars: Scalars, found: Sequence[exp.Expr]
) -> tuple[Relation, Scalars]:
    """Return the rows with a column for each window function, and what expressions mean over them.

    Functions of one partition and order share a `Window`.
    """
    known = dict(scalars.known)
    extra: dict[str, Expression] = {}
    shared: dict[tuple[tuple[str, ...], tuple[SortKey, ...]], list[tuple[str, _Over]]] = {}

    def named(value: Expression) -> str:
        if isinstance(value, Ref):
            return value.name
        name = next(
            (name for name, other in extra.items() if other == value), f"window_value{len(extra) + 1}"
        )
        extra[name] = value
        return name

    for node in {one.sql("duckdb"): one for one in found}.values():
        with text.at(node):
            over = _over_rows(text, node, scalars)
        partition = tuple(named(scalars.lowered(one)) for one in node.args.get("partition_by") or ())
        order = node.args.get("order")
        keys = tuple(
            sort_key(named(scalars.lowered(one.this)), one) for one in (order.expressions if order else ())
        )
        for one in keys:
            orderable(text, node, extra[one.name].domain if one.name in extra else rows[one.name].domain)
        if over.function in ("row_number", "rank", "dense_rank", "lag", "lead") and not keys:
            raise text.refusal(node, f"{over.function.upper()} needs ORDER BY in OVER")
        if over.whole:  # numbers of rows and lags take no notice of a frame
            keys = ()
        column = None if over.value is None else named(over.value)
        shared.setdefault((partition, keys), []).append((node.sql("duckdb"), replace(over, column=column)))
    if extra:
        kept: list[tuple[str, Expression]] = [(one.name, one.ref) for one in rows.columns]
        rows = Project(rows, (*kept, *extra.items()))
    number = itertools.count(1)
    for (partition, keys), several in shared.items():
        names = [(f"window{next(number)}", sql, over) for sql, over in several]
        functions = tuple(_window(rows, name, over) for name, _, over in names)
        rows = Window(rows, partition, keys, functions)
        for name, sql, _ in names:
            known[sql] = rows[name].ref
    return rows, replace(scalars, known=known)


def _over_rows(text: Text, node: exp.Expr, scalars: Scalars) -> _Over:
    """Return the function, its argument and what it takes in, of a window function."""
    text.only(node, ("this", "partition_by", "order", "spec", "over"))
    function, spec, offset = node.this, node.args.get("spec"), 1
    peers = True
    if isinstance(function, exp.IgnoreNulls | exp.RespectNulls):
        raise text.unsupported(node, "IGNORE NULLS and RESPECT NULLS")
    whole = False
    if spec is not None:
        start, side, end, end_side, kind, exclude = (
            str(spec.args.get(name) or "").upper()
            for name in ("start", "start_side", "end", "end_side", "kind", "exclude")
        )
        whole = (end, end_side) == ("UNBOUNDED", "FOLLOWING")
        known = (start, side) == ("UNBOUNDED", "PRECEDING") and (whole or end in ("CURRENT ROW", ""))
        if not known or exclude or kind not in ("ROWS", "RANGE"):
            raise text.unsupported(
                node,
                "this frame of a window",
                "supported is {ROWS | RANGE} BETWEEN UNBOUNDED PRECEDING AND {CURRENT ROW | UNBOUNDED FOLLOWING}",
            )
        peers = kind == "RANGE"
    if type(function) in _NUMBERS:
        text.only(function, ())
        return _Over(_NUMBERS[type(function)], None)
    scalars.check(function)
    if isinstance(function, exp.Lag | exp.Lead):
        given = function.args.get("offset")
        if given is not None:
            if not (isinstance(given, exp.Literal) and given.is_int and int(given.name) >= 1):
                raise text.refusal(node, "expected a constant number of rows from 1")
            offset = int(given.name)
        return _Over(function.key, scalars.lowered(function.this), offset=offset)
    if not is_aggregate(function):
        raise text.unsupported(function)
    name, value = aggregate(text, function, scalars)
    if not (peers or whole or node.args.get("order")):
        raise text.refusal(node, "ROWS without ORDER BY takes rows in any order; add ORDER BY in OVER")
    if name == "count_distinct":
        raise text.unsupported(node, "COUNT DISTINCT over a window")
    return _Over(name, value, peers=peers, whole=whole)


def _window(rows: Relation, name: str, over: _Over) -> WindowFunction:
    most = max(rows.max_rows, 1)
    if over.value is None:
        return WindowFunction(name, over.function, None, Domain("number", 1, most), whole_peers=over.peers)
    column = rows[over.column or ""]
    if over.function in ("lag", "lead"):
        return WindowFunction(name, over.function, column.name, column.domain.with_null(), over.offset)
    made = aggregation(name, over.function, column, rows, grouped=True)
    return WindowFunction(name, made.function, column.name, made.domain, whole_peers=over.peers)


def orderable(text: Text, node: exp.Expr, domain: Domain) -> None:
    """Refuse an order of what has none."""
    if domain.kind == "identifier":
        raise text.refusal(node, "ORDER BY of an identifier; identifiers are compared for equality alone")


def sort_key(name: str, node: exp.Expr) -> SortKey:
    """Return how ORDER BY sorts by a column."""
    return SortKey(name, bool(node.args.get("desc")), bool(node.args.get("nulls_first")))
