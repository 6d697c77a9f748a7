"""The joint plan on shares: operators of `mpc.tables`, checks, then the result to whom it is for.

At a computing party:

1. Each holder's rows come in as shares, for each `Local` leaf in the plan's order.
2. The operators above are worked out. A quotient is kept as its two parts, and divided once few rows are left.
3. Whether keys that were declared unique are so is opened to the computing parties. If one is not, the run ends.
4. The result is opened to its receivers, valid rows first, in the order that the query asks for and else in a random one.
   What stands in other rows, and where a value is NULL, is opened as 0. Only receivers learn how many rows are valid.

An owner outside shares its rows by `share_rows`, and a receiver outside takes the result by `receive_rows`.

Longer than most: every operator of the joint plan maps to one of `mpc.tables`, and the table of them is read as a whole.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg import mpc
from secagg.errors import DataError, PlanError
from secagg.mpc import tables
from secagg.mpc.arrays import Engine, SharedArray, moves
from secagg.mpc.arrays import comparison as compare
from secagg.mpc.arrays.arithmetic import is_negative
from secagg.mpc.arrays.outside import receive, share_with
from secagg.mpc.tables import Column, Table
from secagg.mpc.tables.ordering import mixed, packed
from secagg.mpc.tables.table import cleared
from secagg.party import Party, PartyId
from secagg.query.algebra import (
    Aggregate,
    Call,
    Distinct,
    Domain,
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
from secagg.query.encoding import Encoded, Field
from secagg.query.expressions import Evaluator, bits_of, ratio
from secagg.query.planner import ROWS, Combined, Local, Plan
from secagg.query.quotients import parts, quotient
from secagg.query.window_passes import ORDER_SHOWS, passes, reads

OPENED_BITS: Final = 36  # of an opened quotient's fraction


@dataclass(frozen=True)
class Ratio:
    """A column that is a quotient, kept as two columns of its table.

    Attributes:
      of: the division.
    """

    numerator: str
    denominator: str
    of: Call


@dataclass(frozen=True)
class Rows:
    """A table, and which columns it has as quotients besides."""

    table: Table
    ratios: Mapping[str, Ratio] = dataclasses.field(default_factory=dict)

    def with_table(self, table: Table) -> Rows:
        """Return another table with the same quotients."""
        return Rows(table, self.ratios)


# Rows in.


@dataclass(frozen=True, slots=True)
class Block:
    """What one holder shares for one leaf: a matrix of integers and one of bits, whose first row says which rows count."""

    local: Local
    holder: PartyId
    rows: int

    @property
    def integers(self) -> tuple[int, int]:
        """The shape of the integers."""
        return sum(of.kind != "boolean" for of in self.local.fields), self.rows

    @property
    def bits(self) -> tuple[int, int]:
        """The shape of the bits."""
        fields = self.local.fields
        return 1 + sum(of.kind == "boolean" for of in fields) + sum(of.nullable for of in fields), self.rows


def blocks(plan: Plan, counts: Mapping[PartyId, Sequence[int]]) -> list[Block]:
    """Return what is shared, in order; `counts` are the announced row counts of each owner's leaves."""
    left = {owner: iter(each) for owner, each in counts.items()}
    return [
        Block(local, holder, local.per_holder if local.is_dense else max(1, next(left[holder])))
        for local in plan.locals
        for holder in local.holders
    ]


def matrices(
    block: Block, columns: Sequence[tuple[Encoded, NDArray[np.int64]]], rows: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return a holder's columns as it shares them, filled up.

    Args:
      columns: in the leaf's order, each with its integers.
      rows: which rows count.
    """
    n, held = block.rows, len(rows)
    integers = np.zeros(block.integers, np.int64)
    bits = np.zeros(block.bits, bool)
    bits[0, :held] = rows
    place, bit = 0, 1
    for column, values in columns:
        if column.of.kind == "boolean":
            bits[bit, :held] = values != 0
            bit += 1
        else:
            integers[place, :held] = values
            place += 1
        if column.of.nullable:
            bits[bit, :held] = False if column.null is None else column.null
            bit += 1
    if held > n:
        raise PlanError(f"expected at most {n} rows of {block.local.table}, got {held}")
    return integers, bits


async def share_rows(
    party: Party, computing: Sequence[PartyId], inputs: Sequence[tuple[NDArray[np.int64], NDArray[np.bool_]]]
) -> None:
    """Share this party's blocks, in order, with the computing parties; it is none of them."""
    for integers, bits in inputs:
        if integers.size:
            await share_with(party, computing, integers)
        await share_with(party, computing, bits, dtype=bool)


def shared_table(
    engine: Engine, block: Block, mine: tuple[NDArray[np.int64], NDArray[np.bool_]] | None
) -> Table:
    """Return a holder's block as a table."""
    integers = None
    if math.prod(block.integers):
        integers = engine.share(None if mine is None else mine[0], owner=block.holder, shape=block.integers)
    bits = engine.share(None if mine is None else mine[1], owner=block.holder, shape=block.bits, dtype=bool)
    columns, place, bit = {}, 0, 1
    for of in block.local.fields:
        if of.kind == "boolean" or integers is None:
            values, bit = bits[bit], bit + 1
        else:
            values, place = integers[place], place + 1
        null = None
        if of.nullable:
            null, bit = bits[bit], bit + 1
        columns[of.name] = Column(values, null)
    return Table(columns, bits[0])


def out_of_range(block: Block, table: Table) -> SharedArray | None:
    """Return whether a holder shared a number outside its range; None where it shared none that has one.

    What stands where a value is NULL is read by nobody, and so is a row that does not count, but for a dense group-by.
    """
    fields = [of for of in block.local.fields if of.kind not in ("boolean", "identifier")]
    if not fields:
        return None
    low, high = (
        np.repeat(np.array([[getattr(of, end)] for of in fields], np.int64), block.rows, axis=1)
        for end in ("low", "high")
    )
    values = moves.stack([table[of.name].values for of in fields])
    # Modulo 2**64 both differences are signed and from 0 just where the value is in the range.
    wrong: SharedArray = is_negative(moves.stack([values - low, -(values - high)])).any(axis=0)
    if any(of.nullable for of in fields):
        wrong = wrong & ~moves.stack([table[of.name].is_null for of in fields])
    if not block.local.is_dense:
        wrong = wrong.any(axis=0) & table.valid
    found: SharedArray = wrong.reshape(-1).any()
    return found


# Operators.


class Execution:
    """Works out a joint plan at a computing party.

    Args:
      engine: of the computing parties.
      shared: the holders' tables, by leaf.

    Attributes:
      checks: bits that are to be opened before the result, each with what is wrong where it is set.
    """

    def __init__(self, engine: Engine, shared: Mapping[Local, Sequence[Table]]) -> None:
        self._engine = engine
        self._shared = shared
        self.checks: list[tuple[SharedArray, str]] = []
        self._names = itertools.count()

    def __call__(self, relation: Relation) -> Rows:
        """Return a relation's rows."""
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
                return divided(rows.table, of)
            return rows.table[ref.name]

        return Evaluator(column, rows.table.valid)

    def _plain(self, rows: Rows) -> Table:
        """Return a table whose quotients are worked out, and without their parts."""
        if not rows.ratios:
            return rows.table
        hidden = {part for of in rows.ratios.values() for part in (of.numerator, of.denominator)}
        made = {name: divided(rows.table, of) for name, of in rows.ratios.items()}
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
            column = divided(table, rows.ratios[key.name]) if key.name in rows.ratios else table[key.name]
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


def combinations(keys: Sequence[Any]) -> list[tuple[NDArray[Any], NDArray[np.bool_]]]:
    """Return the keys' values of each combination, and where they are NULL; the last key runs fastest, NULL is last."""
    each = []
    for key in keys:
        low, high = key.domain.bounds
        values: list[int | None] = list(range(low, high + 1))
        each.append([*values, None] if key.domain.nullable else values)
    rows = list(itertools.product(*each))
    found = []
    for i, key in enumerate(keys):
        column = [row[i] for row in rows]
        kind = bool if key.domain.kind == "boolean" else np.int64
        null = np.array([value is None for value in column], bool)
        found.append((np.array([value or 0 for value in column]).astype(kind), null))
    return found


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


# Quotients.


def _parts(table: Table, of: Ratio) -> tuple[SharedArray, SharedArray, SharedArray | None, int, int]:
    """Return numerator and denominator, where the quotient is NULL, and in how many bits both fit."""
    up, down = ratio(of.of)
    first, second = (one.domain for one in of.of.args)
    above, below = table[of.numerator], table[of.denominator]
    nulls = [null for null in (above.null, below.null) if null is not None]
    if not _is_positive(second):
        nulls.append(below.values == 0)
    null = reduce(lambda a, b: a | b, nulls) if nulls else None
    bits = bits_of(first) + up.bit_length() * (up > 1), bits_of(second) + down.bit_length() * (down > 1)
    return above.values * up, below.values * down, null, *bits


def _is_positive(domain: Domain) -> bool:
    low, high = domain.bounds
    return low > 0 or high < 0


def divided(table: Table, of: Ratio) -> Column:
    """Return a quotient as a column, to compute with.

    Raises:
      PlanError: it could overflow.
    """
    above, below, null, bits, denominator_bits = _parts(table, of)
    domain = of.of.domain
    if bits_of(domain) > 62:
        raise PlanError(
            "a quotient whose denominator may be next to 0 could overflow 64 bits where it is computed or ordered with; "
            "open it as it is, or compare a > c * b in place of a / b > c"
        )
    found = quotient(
        above, below, bits=bits, denominator_bits=denominator_bits, fraction_bits=domain.frac_bits
    )
    return Column(found, null)


# Rows out.


@dataclass(frozen=True, slots=True)
class Opened:
    """A result as it was opened: for each column its integers, its fractions if it is a quotient, and what is NULL."""

    of: Field
    values: NDArray[np.int64] = field(repr=False)
    fractions: NDArray[np.int64] | None = field(repr=False)
    null: NDArray[np.bool_] | None = field(repr=False)

    def floats(self) -> NDArray[np.float64]:
        """Return a real's values."""
        if self.fractions is None:
            return self.values / 2.0**self.of.scale
        return self.values + self.fractions / 2.0**OPENED_BITS


@dataclass(frozen=True, slots=True)
class Shape:
    """Which columns a result has: a matrix of integers, the first row of which says which rows are valid.

    Attributes:
      rows: valid and other ones.
      quotients: which columns are opened in two parts.
    """

    fields: tuple[Field, ...]
    rows: int
    quotients: frozenset[str]

    @property
    def columns(self) -> int:
        """How many rows the matrix has."""
        return 1 + sum(1 + (f.name in self.quotients) + f.nullable for f in self.fields)

    def read(self, matrix: NDArray[np.int64]) -> list[Opened]:
        """Return the valid rows of an opened matrix."""
        kept = matrix[:, matrix[0] != 0]
        found, place = [], 1
        for of in self.fields:
            values, fractions, null = kept[place], None, None
            place += 1
            if of.name in self.quotients:
                fractions, place = kept[place], place + 1
            if of.nullable:
                null, place = kept[place] != 0, place + 1
            found.append(Opened(of, values, fractions, null))
        return found


def result_table(rows: Rows, fields: Sequence[Field]) -> tuple[SharedArray, Shape]:
    """Return what is opened of rows: a matrix, valid rows first, and its shape."""
    table = rows.table
    if not table.order.shown:
        table = packed(mixed(table))
    elif not table.order.packed:
        table = packed(table)
    lines, quotients = [table.valid.astype(mpc.int64)], set()
    for of in fields:
        if (kept := rows.ratios.get(of.name)) is not None:
            above, below, null, bits, denominator_bits = _parts(table, kept)
            whole = list(
                parts(above, below, bits=bits, denominator_bits=denominator_bits, fraction_bits=OPENED_BITS)
            )
            quotients.add(of.name)
        else:
            column = table[of.name]
            whole, null = [column.values.astype(mpc.int64)], column.null
        shown = table.valid if null is None else table.valid & ~null
        lines += [cleared(x, shown) for x in whole]
        if of.nullable:
            is_null = table.valid if null is None else table.valid & null
            lines.append((is_null ^ is_null if null is None else is_null).astype(mpc.int64))
    matrix = moves.stack(lines)
    return matrix, Shape(tuple(fields), table.rows, frozenset(quotients))


async def open_checks(engine: Engine, checks: Sequence[tuple[SharedArray, str]]) -> None:
    """Open whether what was declared holds, to the computing parties.

    Raises:
      DataError: it does not; nothing else has been opened.
    """
    if not checks:
        return
    opened = await engine.open(*(bit for bit, _ in checks))
    wrong = [
        what for found, (_, what) in zip(opened, checks, strict=True) if found is True or found is np.True_
    ]
    if wrong:
        raise DataError(f"{'; '.join(wrong)}; nothing of the result was opened")


async def receive_rows(party: Party, computing: Sequence[PartyId], shape: Shape) -> list[Opened]:
    """Return the result at a receiver that does not compute."""
    return shape.read(await receive(party, computing, (shape.columns, shape.rows)))


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
