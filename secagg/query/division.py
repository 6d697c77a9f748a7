"""From a joint plan to what each shard computes, and what is computed of all shards' outputs.

Rows of one identifier, at all owners, lie in one shard: its number is the leading bits of the identifier's pseudonym. A
relation is *divided* by an identifier if each shard's part of it follows from that shard's rows alone:

  Local               has the identifier in each row, as a column that its owners share
  Filter, Project     their input is divided; a projection may drop the identifier
  Join                a pair of its keys are identifiers by which both sides are divided
  Aggregate, Distinct, Window    the identifier is among the keys, the columns or the partition
  Union               all inputs are divided

An aggregate over a divided relation by other keys, or none, is *partial*: each shard aggregates its rows, and the parts are
added up. So are a distinct count of the identifier itself, and DISTINCT.

A plan is cut at the largest divided relations. What stands above them is computed of all shards' rows together.

The size of a block of rows in a shard is public. It depends on how many rows its owner announced, and on how many rows one
identifier may have at one owner (`identifier_bounds`); docs/soundness-shards.md.

The module is long because each way to divide stands beside the reason that is told where there is none.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

from secagg.errors import PlanError
from secagg.mpc.buckets import capacity
from secagg.party import PartyId
from secagg.protocols.group_by.layout import MOST_SHARDS
from secagg.query.algebra import (
    Aggregate,
    Column,
    Distinct,
    Filter,
    Join,
    Lineage,
    Project,
    Relation,
    Union,
    Window,
    relations,
)
from secagg.query.blocks import Block, announced_rows, whole_block
from secagg.query.identifier_bounds import most_rows, without_bound
from secagg.query.own_groups import why_not_own_groups
from secagg.query.planner import MOST_DENSE, Combined, Local, Plan, combinations_of
from secagg.query.pushdown import with_inputs
from secagg.query.terms import QueryTerms

_ADDED_UP: Final = {"sum": "sum", "count": "sum", "min": "min", "max": "max", "any": "any", "all": "all"}
_LOOSE: Final = 2.0  # places for each row, above which shards save little
_HEAVY: Final = (Join, Aggregate, Distinct, Window)  # what is worth a shard: the rest is done row by row


@dataclass(frozen=True)
class Leaf:
    """A leaf of the plan whose rows are divided.

    Attributes:
      column: the identifier by which they are.
      most: a bound on the rows of one identifier at one owner.
    """

    local: Local
    column: str
    most: int


@dataclass(frozen=True)
class FromShards(Relation):
    """The rows of all shards' parts of a relation, one shard after the other.

    Attributes:
      number: tells it from the plan's others.
      relation: what each shard computes.
      leaves: what it is computed of, each once.
      rows_of_each: a public bound on the rows of each shard; None for as many as it has.
      is_partial: whether a group may have rows in several shards.
    """

    number: int
    relation: Relation = field(compare=False)
    leaves: tuple[Leaf, ...] = field(compare=False)
    shards: int = field(compare=False)
    rows_of_each: int | None = field(compare=False, default=None)
    is_partial: bool = field(compare=False, default=False)
    inputs: tuple[Relation, ...] = field(default=(), init=False, compare=False)

    @property
    def columns(self) -> tuple[Column, ...]:  # type: ignore[override]
        return self.relation.columns

    @property
    def max_rows(self) -> int:  # type: ignore[override]
        return self.relation.max_rows * (self.shards if self.is_partial else 1)

    @property
    def unique(self) -> frozenset[frozenset[str]]:  # type: ignore[override]
        return frozenset() if self.is_partial else self.relation.unique

    @property
    def rows_from(self) -> Lineage:  # type: ignore[override]
        return self.relation.rows_from


@dataclass(frozen=True)
class DividedPlan:
    """A plan in shards.

    Attributes:
      plan: in one piece.
      parts: what each shard computes.
      root: what is computed of them, and of leaves that are not divided.
    """

    plan: Plan
    shards: int
    parts: tuple[FromShards, ...]
    root: Relation

    @cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        """What is divided, each once, in the order in which it is shared."""
        return tuple(dict.fromkeys(leaf for part in self.parts for leaf in part.leaves))

    @cached_property
    def main(self) -> Plan:
        """The plan of what is computed of all shards together."""
        return replace(self.plan, root=self.root)

    def blocks(self, counts: Mapping[PartyId, Sequence[int]]) -> list[tuple[Leaf, Block]]:
        """Return what is shared in each shard, in order; `counts` as for `blocks.blocks`."""
        announced = announced_rows(self.plan, counts)
        lists = [(leaf, holder) for leaf in self.leaves for holder in leaf.local.holders]
        return [
            (
                leaf,
                Block(
                    leaf.local,
                    holder,
                    capacity(announced[leaf.local, holder], self.shards, len(lists), leaf.most),
                ),
            )
            for leaf, holder in lists
        ]

    def main_blocks(self, counts: Mapping[PartyId, Sequence[int]]) -> list[Block]:
        """Return what is shared once, in order."""
        announced = announced_rows(self.plan, counts)
        return [
            whole_block(local, holder, announced) for local in self.main.locals for holder in local.holders
        ]

    def said(self, counts: Mapping[PartyId, Sequence[int]]) -> Iterator[str]:
        """Yield for each divided leaf by what it is divided, and how many places each owner's part has in a shard."""
        announced = announced_rows(self.plan, counts)
        for leaf, several in itertools.groupby(self.blocks(counts), lambda pair: pair[0]):
            sizes = ", ".join(
                f"{block.rows} for the {announced[leaf.local, block.holder]} rows of {block.holder}"
                for _, block in several
            )
            each = "one row" if leaf.most == 1 else f"at most {leaf.most} rows"
            yield f"{leaf.local.table} by {leaf.column}, {each} of each identifier; places in a shard: {sizes}"

    def loosely_bound(self, counts: Mapping[PartyId, Sequence[int]]) -> Iterator[str]:
        """Yield what to do about each leaf that has more than `_LOOSE` places a row, as an identifier may have many rows."""
        announced = announced_rows(self.plan, counts)
        for leaf, several in itertools.groupby(self.blocks(counts), lambda pair: pair[0]):
            blocks = [block for _, block in several]
            rows = sum(announced[leaf.local, block.holder] for block in blocks)
            places = self.shards * sum(block.rows for block in blocks)
            if leaf.most > 1 and places > _LOOSE * rows:
                yield (
                    f"all shards together have {places} places for {rows} rows of {leaf.local.table}, as one {leaf.column} "
                    f"may have {leaf.most} rows at one owner; take fewer shards, or declare a smaller max_rows of "
                    f"{leaf.column} where that is true"
                )


def divided(plan: Plan, terms: QueryTerms) -> DividedPlan:
    """Return a plan in shards.

    Raises:
      PlanError: the number of shards is no power of two, or the plan cannot be divided; the message says what is missing,
        also for a query on groups that is told to their owners (`own_groups`).
    """
    if not 2 <= terms.shards <= MOST_SHARDS or terms.shards & terms.shards - 1:
        raise PlanError(f"expected a power of two from 2 to {MOST_SHARDS} shards, got {terms.shards}")
    on_groups = (
        f'A query on groups that is told to their owners (reveal = "owners") is divided too, and this is none: '
        f"{why_not_own_groups(plan, terms.computing, terms.about_own, terms.step)}"
    )
    if terms.about_own:
        raise PlanError(
            f"a query in shards is told to receivers that are named, and this one tells {', '.join(terms.about_own)} "
            f"about their own rows; name who gets the result. {on_groups}"
        )
    cut = _Cut(plan, terms.shards)
    root = cut(plan.root)
    if not cut.parts:
        raise PlanError(
            f"nothing of this query can be divided into shards: {'; '.join(cut.reasons(plan.root))}. Leave shards out, or "
            f"join or group by an identifier. {on_groups}"
        )
    return DividedPlan(plan, terms.shards, tuple(cut.parts), root)


@dataclass(frozen=True)
class _Way:
    """A way to divide a relation.

    Attributes:
      by: the identifier of each leaf.
      columns: of the relation, those that equal the identifier.
    """

    by: Mapping[Local, str]
    columns: frozenset[str]


@dataclass(frozen=True)
class _Ways:
    """All ways to divide a relation, and, where there is none, why."""

    ways: tuple[_Way, ...] = ()
    reasons: tuple[str, ...] = ()

    def by(self, names: Iterable[str], reason: str) -> _Ways:
        """Return the ways by an identifier among these columns."""
        given = set(names)
        found = tuple(way for way in self.ways if way.columns & given)
        return _Ways(found, () if found else (self.reasons or (reason,)))

    def having(self, names: Mapping[str, str]) -> _Ways:
        """Return the ways to divide what has other columns; names: of each new one that equals one of these, which."""
        return replace(
            self,
            ways=tuple(
                replace(way, columns=frozenset(new for new, old in names.items() if old in way.columns))
                for way in self.ways
            ),
        )


class _Cut:
    """Cuts a plan at its largest divided relations."""

    def __init__(self, plan: Plan, shards: int) -> None:
        self._plan = plan
        self._shards = shards
        self._known: dict[int, tuple[Relation, _Ways]] = {}  # with the relation, whose id stays its own so
        self.parts: list[FromShards] = []

    def __call__(self, relation: Relation) -> Relation:
        """Return the plan with `FromShards` in place of what shards compute."""
        if self._is_divided(relation):
            return self._part(relation, self.ways(relation))
        match relation:
            case Aggregate() if (ways := self._adding_up(relation)).ways:
                return self._added_up(relation, ways)
            case Distinct(input=below) if self.ways(below).ways:
                return replace(relation, input=self._part(relation, self.ways(below), is_partial=True))
            case _:
                return with_inputs(relation, map(self, relation.inputs))

    def _is_divided(self, relation: Relation) -> bool:
        return bool(self.ways(relation).ways) and any(isinstance(one, _HEAVY) for one in relations(relation))

    def reasons(self, relation: Relation) -> list[str]:
        """Return why nothing is divided."""
        found = dict.fromkeys(reason for one in relations(relation) for reason in self.ways(one).reasons)
        return list(found) or ["it selects rows of single tables, one by one"]

    def _part(self, relation: Relation, ways: _Ways, *, is_partial: bool = False) -> FromShards:
        bounds = [
            (way, [most_rows(self._plan, local, column) for local, column in way.by.items()])
            for way in ways.ways
        ]
        way, most = min(bounds, key=lambda one: (one[1].count(None), sum(m or 0 for m in one[1])))
        leaves = []
        for (local, column), bound in zip(way.by.items(), most, strict=True):
            if bound is None:
                raise PlanError(without_bound(local, column))
            leaves.append(Leaf(local, column, bound))
        rows = None
        if isinstance(relation, Aggregate):
            values = combinations_of(relation.input[name].domain for name in relation.keys)
            rows = int(values) if values <= MOST_DENSE else None
        part = FromShards(len(self.parts), relation, tuple(leaves), self._shards, rows, is_partial)
        self.parts.append(part)
        return part

    def _adding_up(self, relation: Aggregate) -> _Ways:
        """Return the ways to divide the input of an aggregate so that the shards' aggregates add up."""
        counted = {one.column for one in relation.aggregations if one.function == "count_distinct"}
        if not all(one.function in _ADDED_UP or one.column in counted for one in relation.aggregations):
            return _Ways()
        ways = self.ways(relation.input).ways
        return _Ways(tuple(way for way in ways if counted <= way.columns))

    def _added_up(self, relation: Aggregate, ways: _Ways) -> Relation:
        joint = tuple(
            replace(one, function=_ADDED_UP.get(one.function, "sum"), column=one.name)
            for one in relation.aggregations
        )
        return Aggregate(self._part(relation, ways, is_partial=True), relation.keys, joint)

    def ways(self, relation: Relation) -> _Ways:
        """Return the ways to divide a relation."""
        if id(relation) not in self._known:
            self._known[id(relation)] = relation, self._ways(relation)
        return self._known[id(relation)][1]

    def _ways(self, relation: Relation) -> _Ways:
        match relation:
            case Local():
                return _of_leaf(relation)
            case Combined(input=local):
                return _Ways(reasons=(_added_up_alone(local),))
            case Filter(input=below):
                return self.ways(below)
            case Project(input=below, kept=kept):
                return self.ways(below).having(kept)
            case Join():
                return self._joined(relation)
            case Aggregate(input=below, keys=keys):
                by = f"by {', '.join(keys)}" if keys else "of all rows"
                found = self.ways(below).by(keys, f"groups {by} do not have an identifier among their keys")
                return found.having({key: key for key in keys})
            case Distinct(input=below):
                return self.ways(below).by(relation.names, "DISTINCT has no identifier among its columns")
            case Window(input=below, partition_by=partition):
                of = f"by {', '.join(partition)}" if partition else "without a partition"
                return self.ways(below).by(partition, f"a window {of} is not partitioned by an identifier")
            case Union(inputs=inputs):
                return _united(relation, [self.ways(below) for below in inputs])
            case _:
                return _Ways()

    def _joined(self, relation: Join) -> _Ways:
        left, right = self.ways(relation.left), self.ways(relation.right)
        found = []
        for one, other in itertools.product(left.ways, right.ways):
            pairs = [(a, b) for a, b in relation.on if a in one.columns and b in other.columns]
            by = _merged([one.by, other.by])
            if pairs and by is not None:
                # A row without a partner has NULL for the right's identifier, in whatever shard it is.
                of_both = one.columns | other.columns if relation.how == "inner" else one.columns
                found.append(_Way(by, of_both))
        if found:
            return _Ways(tuple(found))
        if not left.ways or not right.ways:
            return _Ways(reasons=(*left.reasons, *right.reasons))
        on = " and ".join(f"{a} = {b}" for a, b in relation.on) or "nothing"
        return _Ways(
            reasons=(f"the join on {on} is not by an identifier by which both sides can be divided",)
        )


def _united(relation: Union, several: Sequence[_Ways]) -> _Ways:
    """Return the ways to divide a union.

    There is one for each column that divides all inputs. Where no column does, there is the first way of each input.
    """
    if not all(ways.ways for ways in several):
        return _Ways(reasons=tuple(reason for ways in several for reason in ways.reasons))
    found = []
    for name in relation.names:
        chosen = [next((way for way in ways.ways if name in way.columns), None) for ways in several]
        kept = [way for way in chosen if way is not None]
        if len(kept) == len(chosen) and (by := _merged([way.by for way in kept])) is not None:
            found.append(_Way(by, frozenset.intersection(*(way.columns for way in kept))))
    first = [ways.ways[0] for ways in several]
    if not found and (by := _merged([way.by for way in first])) is not None:
        found.append(_Way(by, frozenset()))
    return _Ways(tuple(found), () if found else ("a union reads one table by different identifiers",))


def _merged(several: Iterable[Mapping[Local, str]]) -> dict[Local, str] | None:
    """Return the identifiers of all leaves, None where one leaf has two."""
    found: dict[Local, str] = {}
    for by in several:
        if any(found.get(local, column) != column for local, column in by.items()):
            return None
        found |= by
    return found


# Leaves.


def _of_leaf(local: Local) -> _Ways:
    if local.is_dense:
        return _Ways(reasons=(_added_up_alone(local),))
    identifiers = [column for column in local.shared if column.domain.kind == "identifier"]
    if not identifiers:
        advice = "a number that names something may be declared as one"
        return _Ways(reasons=(f"what owners share of {local.table} has no identifier ({advice})",))
    fit = [
        column.name
        for column in identifiers
        if not column.domain.nullable and not any(column.name in of.known for of in local.held.values())
    ]
    missing = ", ".join(column.name for column in identifiers)
    return _Ways(
        tuple(_Way({local: name}, frozenset({name})) for name in fit),
        ()
        if fit
        else (f"{missing} of {local.table} may be NULL; declare the column without nullable = true",),
    )


def _added_up_alone(local: Local) -> str:
    by = f"by {', '.join(key.name for key in local.keys)}" if local.keys else "of all its rows"
    return f"each owner adds up its own groups of {local.table} {by}, so that no rows are left to divide"
