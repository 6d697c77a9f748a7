"""The joint plan on shares: operators of `mpc.tables`, at a computing party.

Each holder's rows come in as shares, for each `Local` leaf in the plan's order (`blocks`). The operators above are worked
out. A quotient is kept as its two parts (`rows`), and divided once few rows are left. Whether keys that were declared unique
are so is a bit to be opened before the result (`results`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import reduce
from types import MappingProxyType
from typing import Final

import numpy as np

from secagg.errors import PlanError
from secagg.mpc import tables
from secagg.mpc.arrays import Engine, SharedArray
from secagg.mpc.arrays import comparison as compare
from secagg.mpc.tables import Column, Table
from secagg.mpc.tables.ordering import mixed
from secagg.party import Party, PartyId
from secagg.query.algebra import (
    Aggregate,
    Call,
    Distinct,
    Filter,
    Join,
    Limit,
    Project,
    Ref,
    Relation,
    Sort,
    SortKey,
    Union,
    Window,
)
from secagg.query.blocks import blocks, combinations, shared_table
from secagg.query.expressions import Evaluator
from secagg.query.planner import ROWS, Combined, Local, Plan
from secagg.query.results import result_table
from secagg.query.rows import Ratio, Rows, quotient_column
from secagg.query.window_passes import ORDER_SHOWS, passes, reads

OPENED_BITS: Final = 36  # of an opened quotient's fraction
_NOTHING: Final[Mapping[Relation, Rows]] = MappingProxyType({})


class Execution:
    """Works out a joint plan at a computing party.

    Args:
      engine: of the computing parties.
      shared: the holders' tables, by leaf.
      given: rows of relations that are worked out elsewhere.

    Attributes:
      checks: bits that are to be opened before the result, each with what is wrong where it is set.
    """

    def __init__(
        self,
        engine: Engine,
        shared: Mapping[Local, Sequence[Table]],
        given: Mapping[Relation, Rows] = _NOTHING,
    ) -> None:
        self._engine = engine
        self._shared = shared
        self._given = given
        self.checks: list[tuple[SharedArray, str]] = []
        self._names = itertools.count()

    def __call__(self, relation: Relation) -> Rows:
        """Return a relation's rows."""
        if (known := self._given.get(relation)) is not None:
            return known
        match relation:
            case Local():
                return Rows(tables.concat(self._shared[relation]))
            case Combined():
                return self._combined(relation)
            case Filter(input=below, condition=condition):
                rows = self(below)
                return rows.with_table(rows.table.filter(self._evaluator(rows)(condition)))
            case Project(input=below):
                return self._project(relation, self(below))
            case Aggregate():
                return self._aggregate(relation)
            case Join():
                return self._join(relation)
            case Union():
                return self._union(relation)
            case Distinct(input=below):
                return Rows(tables.distinct(self._plain(self(below))))
            case Sort(input=below, keys=keys):
                return self._sorted(self(below), keys, None)
            case Limit(input=below):
                return self._limited(relation, below)
            case Window():
                return self._window(relation)
            case _:
                raise PlanError(f"{type(relation).__name__} is not computed on shares")

    def _fresh(self, name: str) -> str:
        return f"{name}\0{next(self._names)}"

    def _evaluator(self, rows: Rows) -> Evaluator:
        def column(ref: Ref) -> Column:
            if (of := rows.ratios.get(ref.name)) is not None:
                return quotient_column(rows.table, of)
            return rows.table[ref.name]

        return Evaluator(column, rows.table.valid)

    def _plain(self, rows: Rows) -> Table:
        """Return a table whose quotients are worked out, and without their parts."""
        if not rows.ratios:
            return rows.table
        hidden = {part for of in rows.ratios.values() for part in (of.numerator, of.denominator)}
        made = {name: quotient_column(rows.table, of) for name, of in rows.ratios.items()}
        names = [name for name in rows.table.names if name not in hidden]
        return rows.table.with_columns(made).select([*names, *made])

    def _project(self, relation: Project, rows: Rows) -> Rows:
        evaluate = self._evaluator(rows)
        columns: dict[str, Column] = {}
        ratios: dict[str, Ratio] = {}
        for name, expression in relation.expressions:
            if isinstance(expression, Ref) and (known := rows.ratios.get(expression.name)) is not None:
                ratios[name] = self._kept(
                    name, known, columns, *(rows.table[p] for p in (known.numerator, known.denominator))
                )
            elif (
                isinstance(expression, Call)
                and expression.op == "div"
                and expression.args[0].domain.kind == "number"
            ):
                numerator, denominator = (evaluate(one) for one in expression.args)
                ratios[name] = self._kept(name, expression, columns, numerator, denominator)
            else:
                columns[name] = evaluate(expression)
        return Rows(rows.table.with_columns(columns).select(list(columns)), ratios)

    def _kept(
        self, name: str, of: Ratio | Call, columns: dict[str, Column], numerator: Column, denominator: Column
    ) -> Ratio:
        above, below = self._fresh(name), self._fresh(name)
        columns |= {above: numerator, below: denominator}
        return Ratio(above, below, of.of if isinstance(of, Ratio) else of)

    def _aggregate(self, relation: Aggregate) -> Rows:
        table = self._plain(self(relation.input))
        for one in relation.aggregations:
            if one.function == "mean":
                raise PlanError(
                    f"the mean of {one.column}, a quotient, is not computed; sum the numerators instead"
                )
        # One function of one column is asked for once, whatever it is called.
        wanted = {one.name: (one.function, one.column) for one in relation.aggregations}
        return Rows(tables.group_by(table, relation.keys, wanted))

    def _combined(self, relation: Combined) -> Rows:
        """Return the sums over holders, row by row."""
        local, several = relation.input, self._shared[relation.input]
        counts = reduce(lambda a, b: a + b, (t[ROWS].values for t in several))
        columns = {}
        for key, (values, null) in zip(local.keys, combinations(local.keys), strict=True):
            public = self._engine.public(values)
            columns[key.name] = Column(public, self._engine.public(null) if key.domain.nullable else None)
        for one in relation.aggregate.aggregations:
            held = [t[one.name] for t in several]
            columns[one.name] = _together(one.function, held)
            if not one.domain.nullable:
                columns[one.name] = Column(columns[one.name].values)
        valid = ~(counts == 0) if local.keys else self._engine.public(np.ones(1, bool))
        return Rows(Table(columns, valid))

    def _join(self, relation: Join) -> Rows:
        left, right = self(relation.left), self(relation.right)
        by_right = relation.how in ("semi", "anti") or relation.right_is_unique
        if relation.how in ("semi", "anti"):
            keys = [b for _, b in relation.on]
            table, _ = tables.join(left.table, right.table.select(keys), list(relation.on), how=relation.how)
            return left.with_table(table)
        # The right's key columns stay: copies of them are joined on.
        copies = {b: self._fresh(b) for _, b in relation.on}
        copied = right.table.with_columns({copy: right.table[b] for b, copy in copies.items()})
        if relation.how == "inner":
            copied = copied.select([name for name in copied.names if name not in copies])
        on = [(a, copies[b]) for a, b in relation.on]
        table, broken = tables.join(
            left.table, copied, on, how=relation.how, unique="right" if by_right else "left"
        )
        side, names = (
            (relation.right, [b for _, b in relation.on])
            if by_right
            else (
                relation.left,
                [a for a, _ in relation.on],
            )
        )
        self.checks.append(
            (
                broken,
                f"{' and '.join(names)} is declared unique, and several rows have one value ({_of(side)})",
            )
        )
        if relation.how == "inner":
            table = table.with_columns({b: table[a] for a, b in relation.on})
        return Rows(table, {**left.ratios, **right.ratios})

    def _union(self, relation: Union) -> Rows:
        several = [self._plain(self(below)).select(relation.names) for below in relation.inputs]
        return Rows(tables.concat(several))

    def _sorted(self, rows: Rows, keys: Sequence[SortKey], first: int | None) -> Rows:
        table, by, hidden = self._ordered(rows, keys)
        ordered = tables.order_by(table, by, first=first)
        return rows.with_table(ordered.select([name for name in ordered.names if name not in hidden]))

    def _ordered(self, rows: Rows, keys: Sequence[SortKey]) -> tuple[Table, list[tuple[str, bool]], set[str]]:
        """Return a table with what it is to be ordered by, and which of its columns are there for that alone."""
        table = rows.table
        by: list[tuple[str, bool]] = []
        hidden = set()
        for key in keys:
            column = (
                quotient_column(table, rows.ratios[key.name]) if key.name in rows.ratios else table[key.name]
            )
            if column.null is not None:  # a key of its own, as NULL may come first
                flag = self._fresh(key.name)
                table = table.with_columns({flag: Column(column.null)})
                by.append((flag, key.nulls_first))
                hidden.add(flag)
            name = self._fresh(key.name)
            table = table.with_columns({name: Column(column.filled)})
            hidden.add(name)
            by.append((name, key.descending))
        return table, by, hidden

    def _limited(self, relation: Limit, below: Relation) -> Rows:
        projections = []
        while isinstance(below, Project):  # they change no order
            projections.append(below)
            below = below.input
        if not isinstance(below, Sort):
            raise PlanError("LIMIT without ORDER BY takes rows that nobody chose; add ORDER BY")
        rows = self(below.input)
        last = min(relation.offset + relation.rows, rows.table.rows)
        rows = self._sorted(rows, below.keys, max(last, 1))
        table = rows.table
        chosen = slice(min(relation.offset, last), last)
        columns = {
            name: Column(c.values[chosen], None if c.null is None else c.null[chosen])
            for name, c in table.columns.items()
        }
        rows = rows.with_table(Table(columns, table.valid[chosen], table.order))
        for one in reversed(projections):
            rows = self._project(one, rows)
        return rows

    def _window(self, relation: Window) -> Rows:
        rows = self(relation.input)
        if set(reads(relation)) & rows.ratios.keys():
            rows = Rows(self._plain(rows))
        names = [*rows.table.names, *(one.name for one in relation.functions)]
        counted = self._fresh("counted")  # a column that is never NULL, for COUNT(*)
        table = rows.table.with_columns({counted: Column(rows.table.valid)})
        for keys, functions in passes(relation, counted):
            if any(kind in ORDER_SHOWS for kind, *_ in functions.values()):
                table = mixed(
                    table
                )  # ties stand in the order of the input otherwise, which tells whose rows they are
            table, by, _ = self._ordered(rows.with_table(table), keys)
            table = tables.window(table, list(relation.partition_by), by, functions)
        return rows.with_table(table.select(names))


def _of(relation: Relation) -> str:
    names = sorted({str(d.source.table) for column in relation.columns for d in column.lineage})
    return f"of {', '.join(names)}" if names else "of the query"


def _together(function: str, held: Sequence[Column]) -> Column:
    """Return the aggregate of what all holders have of it, NULL where all have NULL."""
    null = (
        reduce(lambda a, b: a & b, (c.is_null for c in held))
        if any(c.null is not None for c in held)
        else None
    )
    if function in ("sum", "count"):
        return Column(reduce(lambda a, b: a + b, (c.filled for c in held)), null)
    if function == "any":
        return Column(reduce(lambda a, b: a | b, (c.filled for c in held)), null)
    if function == "all":
        return Column(reduce(lambda a, b: a & b, (c.values | c.is_null for c in held)), null)
    return reduce(lambda a, b: _extreme(function, a, b), held)


def _extreme(function: str, a: Column, b: Column) -> Column:
    take_b = b.values < a.values if function == "min" else a.values < b.values
    take_b = (take_b | a.is_null) & ~b.is_null
    return Column(compare.where(take_b, b.values, a.values), a.is_null & b.is_null)


async def check_computable(party: Party, plan: Plan, computing: Sequence[PartyId]) -> None:
    """Build what a computing party computes, of tables of a row each, and compute nothing.

    Raises:
      PlanError: something is not computed on shares.
    """
    engine = await Engine.create(party, computing, label="query")
    counts = {owner: [1] * len(plan.of(owner)) for owner in plan.owners}
    shared: dict[Local, list[Table]] = {}
    for block in blocks(plan, counts):
        shared.setdefault(block.local, []).append(shared_table(engine, block, None))
    result_table(Execution(engine, shared)(plan.root), plan.fields)
