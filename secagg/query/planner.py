"""From a logical plan to what each owner computes alone, and what is computed on shares.

A `Local` leaf is what each holder of a table makes of its own rows, in DuckDB: filters, projections, computed columns,
aggregates with the key `org`, and others where the joint ones follow from them (sum, count, min, max, any, all; a mean is a
sum and a count; not distinct counts). A group-by whose keys have few public values needs no sort: each holder gives one row
for each combination, in their order, and equal rows are added up.

Row counts. What a filter leaves would tell of the rows. So a holder announces how many rows its whole table has, rounded up,
and fills up what the filter took. Only where the parties agree to announce what is left, it is that number, rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

from secagg.errors import PlanError
from secagg.query import window_passes
from secagg.query.algebra import (
    Aggregate,
    Aggregation,
    Column,
    Distinct,
    Domain,
    Expression,
    Filter,
    Join,
    Lineage,
    Project,
    Query,
    Ref,
    Relation,
    Scan,
    Sort,
    Window,
    WindowFunction,
    relations,
    walk,
)
from secagg.query.declaration import ORG, Declaration
from secagg.query.encoding import Field
from secagg.query.expressions import bits_of
from secagg.query.held import Held, held
from secagg.query.local_sql import LOCAL, PARTIAL, is_local, select
from secagg.query.pushdown import pushed_down, with_inputs
from secagg.query.rules.applied import Applied

MOST_DENSE: Final = 1024  # combinations of keys for which every holder gives a row each
_MOST_BITS: Final = 62  # so that a difference of two numbers fits the ring with its sign


@dataclass(frozen=True)
class Local(Relation):
    """What each holder of a table makes of its own rows.

    Attributes:
      relation: over the `Scan` of the table.
      holders: who puts in rows, in order.
      per_holder: a public bound on the rows of each.
      keys: of a dense group-by, the domains of its keys: row i is the combination of number i.
      is_dense: whether it is one; it may have no keys.
    """

    relation: Relation
    table: str
    holders: tuple[str, ...]
    per_holder: int
    keys: tuple[Column, ...] = ()
    is_dense: bool = False
    inputs: tuple[Relation, ...] = field(default=(), init=False)

    @property
    def columns(self) -> tuple[Column, ...]:  # type: ignore[override]
        return self.relation.columns

    @property
    def max_rows(self) -> int:  # type: ignore[override]
        return self.per_holder * (1 if self.is_dense else len(self.holders))

    @property
    def unique(self) -> frozenset[frozenset[str]]:  # type: ignore[override]
        return self.relation.unique

    @property
    def rows_from(self) -> Lineage:  # type: ignore[override]
        return self.relation.rows_from

    @property
    def is_filtered(self) -> bool:
        """Whether fewer rows may be left than the table has."""
        return any(isinstance(one, Filter | Aggregate | Distinct) for one in relations(self.relation))

    @property
    def fields(self) -> tuple[Field, ...]:
        """How the columns of its rows lie on shares."""
        return tuple(field_of(column.name, column.domain) for column in self.shared)

    @property
    def shared(self) -> tuple[Column, ...]:
        """The columns of its rows on shares: of a dense group-by, not its keys, which are public."""
        known = {key.name for key in self.keys}
        return tuple(column for column in self.columns if column.name not in known)

    @cached_property
    def held(self) -> Mapping[str, Held]:
        """What each holder shares of them."""
        return {owner: held(self.relation, owner, is_dense=self.is_dense) for owner in self.holders}

    def fields_of(self, owner: str) -> tuple[Field, ...]:
        """Return how the columns that an owner shares lie on shares."""
        of = self.held[owner]
        return tuple(one for one in self.fields if one.name not in of.known.keys() | of.same.keys())

    def sql(self, owner: str, names: Mapping[str, str] | None = None) -> str:
        """Return what an owner runs alone; `names` are SQL's of the tables."""
        known = {self.table: self.table} if names is None else names
        return select(self.held[owner].relation, known.__getitem__, org=owner)


@dataclass(frozen=True)
class Combined(Relation):
    """The sums over all holders of the rows of a dense group-by; groups without rows are left out."""

    input: Local
    aggregate: Aggregate

    @property
    def inputs(self) -> tuple[Relation, ...]:  # type: ignore[override]
        return (self.input,)

    @property
    def columns(self) -> tuple[Column, ...]:  # type: ignore[override]
        return self.aggregate.columns

    @property
    def max_rows(self) -> int:  # type: ignore[override]
        return self.input.per_holder

    @property
    def unique(self) -> frozenset[frozenset[str]]:  # type: ignore[override]
        return self.aggregate.unique

    @property
    def rows_from(self) -> Lineage:  # type: ignore[override]
        return self.aggregate.rows_from


ROWS: Final = "#rows"  # of a dense group-by: how many rows a group has at a holder


@dataclass(frozen=True)
class Plan:
    """What is computed where.

    Attributes:
      query: the logical plan.
      root: the joint plan, whose leaves are `Local`.
      declaration: of the tables.
      rules: under which it was made; None where nothing is suppressed.
    """

    query: Query
    root: Relation
    declaration: Declaration
    rules: Applied | None = None

    @property
    def locals(self) -> tuple[Local, ...]:
        """What owners compute alone, in the order in which it is shared."""
        return tuple(dict.fromkeys(one for one in relations(self.root) if isinstance(one, Local)))

    @property
    def owners(self) -> tuple[str, ...]:
        """Who puts in rows, in the order in which they first come."""
        return tuple(dict.fromkeys(holder for one in self.locals for holder in one.holders))

    @property
    def has_ranges(self) -> bool:
        """Whether owners share numbers that are checked to lie in ranges."""
        return any(
            of.kind not in ("boolean", "identifier")
            for local in self.locals
            for owner in local.holders
            for of in local.fields_of(owner)
        )

    def of(self, owner: str) -> tuple[Local, ...]:
        """Return what one owner computes alone."""
        return tuple(one for one in self.locals if owner in one.holders)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The columns of the result."""
        return tuple(field_of(column.name, column.domain) for column in self.root.columns)


def field_of(name: str, domain: Domain) -> Field:
    """Return how a column of a domain lies on shares."""
    low, high = domain.bounds
    return Field(
        name,
        domain.kind,
        scale=domain.frac_bits if domain.kind == "real" else domain.decimals,
        low=low,
        high=high,
        categories=domain.values,
        zone=domain.zone,
        nullable=domain.nullable,
        spelling=domain.spelling,
    )


def plan(query: Query, declaration: Declaration, rules: Applied | None = None) -> Plan:
    """Return what is computed where.

    Args:
      rules: applied to the query (`rules.apply`). A plan without them suppresses nothing.

    Raises:
      PlanError: a number could overflow, an operation cannot be computed, or a join has no side with unique keys.
    """
    root = query.root if rules is None else rules.root
    for one in relations(root):
        if isinstance(one, Join):
            _check_join(one)
    planned = Plan(query, _placed(pushed_down(root), declaration), declaration, rules)
    for one in relations(planned.root):
        _check_sizes(one)
        if isinstance(one, Window):
            window_passes.check(one)
        if isinstance(one, Local):
            for column in one.shared:
                _check_size(column, f"in the column {column.name} of {one.table}")
            for below in relations(one.relation):
                _check_sizes(below)
    return planned


def _check_join(join: Join) -> None:
    if join.how in ("inner", "left") and not (join.left_is_unique or join.right_is_unique):
        pairs = " and ".join(f"{a} = {b}" for a, b in join.on)
        raise PlanError(
            f"the join on {pairs} has no side whose keys are declared unique, so that its rows could multiply; declare "
            "`keys` of one of the tables, or aggregate one side by its key first"
        )


def _check_sizes(relation: Relation) -> None:
    match relation:
        case Project(expressions=expressions):
            for name, expression in expressions:
                for one in walk(expression):
                    if one.domain.kind != "real":
                        _check_size(one, f"in the column {name}")
        case Filter(condition=condition):
            for one in walk(condition):
                if one.domain.kind != "real":
                    _check_size(one, "in a condition")
        case Aggregate(aggregations=aggregations):
            for each in aggregations:
                if each.domain.kind != "real":
                    _check_size(each, f"in {each.function} of {each.column}")
        case Sort(keys=keys):
            for key in keys:
                _check_size(relation[key.name], f"in the order by {key.name}")
        case Window(functions=functions):
            for function in functions:
                if function.domain.kind != "real":
                    _check_size(function, f"in {function.function} over a window")
        case _:
            pass


def _check_size(one: Expression | Column | Aggregation | WindowFunction, where: str) -> None:
    domain = one.domain
    if bits_of(domain) > _MOST_BITS:
        what = getattr(one, "op", "a value")
        raise PlanError(
            f"{what} {where} could be as large as 2**{bits_of(domain)} by the declared ranges, and at most "
            f"2**{_MOST_BITS} fits; declare narrower ranges, fewer decimals or smaller max_rows"
        )


# What owners compute alone.


def _placed(relation: Relation, declaration: Declaration) -> Relation:
    """Return the plan with what owners compute alone as leaves."""
    if _is_local(relation):
        return _local(relation, declaration)
    match relation:
        case Aggregate(input=below) if _is_local(below) and _is_partial(relation):
            return _aggregated(relation, declaration)
        case Distinct(input=below) if _is_local(below):
            return replace(relation, input=_local(relation, declaration))
        case _:
            return with_inputs(relation, (_placed(below, declaration) for below in relation.inputs))


def _is_local(relation: Relation) -> bool:
    match relation:
        case Scan():
            return True
        case Filter(input=below, condition=condition):
            return is_local(condition) and _is_local(below)
        case Project(input=below, expressions=expressions):
            return all(is_local(one) for _, one in expressions) and _is_local(below)
        case Aggregate(input=below, keys=keys, aggregations=aggregations):
            # Groups of one owner's rows: nobody else has rows of them.
            exact = all(one.function in LOCAL and one.domain.kind != "real" for one in aggregations)
            return exact and _is_local(below) and any(is_org(below, key) for key in keys)
        case _:
            return False


def is_org(relation: Relation, name: str) -> bool:
    """Return whether a column says which owner a row lies at."""
    match relation:
        case Scan():
            return relation.column_of(name) == ORG
        case Filter(input=below):
            return is_org(below, name)
        case Project(input=below, expressions=expressions):
            of = dict(expressions)[name]
            return isinstance(of, Ref) and is_org(below, of.name)
        case Aggregate(input=below, keys=keys):
            return name in keys and is_org(below, name)
        case _:
            return False


def _is_partial(aggregate: Aggregate) -> bool:
    return all(one.function in PARTIAL and one.domain.kind != "real" for one in aggregate.aggregations)


def _scan(relation: Relation) -> Scan:
    return next(one for one in relations(relation) if isinstance(one, Scan))


def _local(relation: Relation, declaration: Declaration) -> Local:
    table = declaration[_scan(relation).table]
    return Local(relation, table.name, table.holders, table.max_rows)


def _aggregated(aggregate: Aggregate, declaration: Declaration) -> Relation:
    """Return the joint aggregate of those that each holder makes of its own rows."""
    table = declaration[_scan(aggregate).table]
    keys = tuple(aggregate.input[name] for name in aggregate.keys)
    combinations = combinations_of(key.domain for key in keys)
    if combinations <= MOST_DENSE:
        rows = _per_holder(aggregate)
        local = Local(rows, table.name, table.holders, int(combinations), keys, is_dense=True)
        return Combined(local, aggregate)
    local = Local(aggregate, table.name, table.holders, table.max_rows)
    joint = tuple(
        replace(one, function="sum" if one.function == "count" else one.function, column=one.name)
        for one in aggregate.aggregations
    )
    return Aggregate(local, aggregate.keys, joint)


def _per_holder(aggregate: Aggregate) -> Aggregate:
    """Return what a holder gives of a dense group-by: the aggregates, NULL where it has no rows, and the number of rows."""
    aggregations = tuple(
        replace(
            one, domain=replace(one.domain, lowest=0) if one.function == "count" else one.domain.with_null()
        )
        for one in aggregate.aggregations
    )
    bound = max(aggregate.input.max_rows, 1)
    rows = Aggregation(ROWS, "count", None, Domain("number", 0, bound))
    return replace(aggregate, aggregations=(*aggregations, rows))


def values_of(domain: Domain) -> float:
    """Return how many values a key can have, NULL among them."""
    if domain.lowest is None or domain.highest is None:
        return math.inf
    return domain.highest - domain.lowest + 1 + domain.nullable


def combinations_of(domains: Iterable[Domain]) -> float:
    """Return how many combinations of values keys can have, exact where there are not infinitely many."""
    each = [values_of(domain) for domain in domains]
    return math.inf if math.inf in each else math.prod(each)
