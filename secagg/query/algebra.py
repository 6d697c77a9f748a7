"""The logical plan: what a query computes, apart from where and how it is computed.

A plan is a tree of relations (`Scan`, `Filter`, `Project`, `Aggregate`, `Join`, `Union`, `Distinct`, `Sort`, `Limit`,
`Window`). Their conditions and computed columns are trees of expressions (`Ref`, `Literal`, `Call`, `Case`). Every
expression and column carries its `Domain` (type, public range, NULL or not) and its lineage (the declared columns that it
depends on, and how). `inference` builds expressions with both.

Values are integers in a unit that the domain says, so that all arithmetic but division is exact:

    number      n stands for n / 10**decimals: whole numbers, money, decimals
    real        n stands for about n / 2**frac_bits: what division and means give
    boolean     0 or 1
    category    the place in the domain's sorted list of texts, so that places are ordered as SQL orders the texts
    identifier  a text, compared for equality alone
    date        days since 1970-01-01
    timestamp   10**-decimals seconds since 1970-01-01 UTC; parts of the date are those in the domain's zone

NULL follows SQL's three-valued logic. `evaluator` computes a plan over plain rows, and says so what each node means.

Names: a scan names its columns `alias.column`, and a subquery's are renamed the same way, so that the two sides of a join
never share a name. The root gives the result's names, in order.

The operations of `Call` (arguments are of the domains that stand here; `inference` inserts what brings them there):

    add sub             numbers of equal decimals, reals of equal frac_bits; date and whole days; timestamp and units
    sub                 also date - date: whole days; timestamp - timestamp: a number of seconds
    mul                 numbers, decimals add up; or reals of equal frac_bits
    div                 two numbers or two reals: a real; NULL where the divisor is 0
    intdiv mod          a whole number and a positive whole literal; towards zero, as in C
    neg abs             a number or a real
    floor ceil round    a number or a real as a number of the domain's decimals; round takes halves away from zero
    least greatest      arguments of one domain; NULL arguments are passed over, as in DuckDB
    rescale             a number with more decimals: n times 10**(more)
    to_real             a number as a real: the nearest n / 2**frac_bits
    recode              a category over another list of texts, which holds all that the argument's can be
    to_number           a boolean as 0 or 1
    eq ne lt le gt ge   two arguments of one domain (identifiers: eq and ne alone)
    in                  the first argument equals one of the literals that follow, none of which is NULL; there may be none
    like                an identifier and a literal pattern of LIKE; only an owner can do it, on its own rows
    is_null             never NULL
    not and or          three-valued; and, or take two or more
    coalesce            two or more arguments of one domain
    year month day quarter weekday   of a date or timestamp; weekday from 0, Sunday
    date_of             a timestamp's date
    to_timestamp        a date as the timestamp of its midnight in the domain's zone
    on_shares           its argument, with which no owner computes alone

The module is long because a plan's nodes are read together: whoever computes a plan needs all of them and nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, TypeAlias
from typing import Literal as Word

Kind: TypeAlias = Word["number", "real", "boolean", "category", "identifier", "date", "timestamp"]
Step: TypeAlias = Word[
    "compute", "compare", "group", "join", "rank",
    "count", "count_distinct", "sum", "mean", "min", "max", "any", "all", "lag", "lead",
]  # fmt: skip
AGGREGATIONS: Final = ("count", "count_distinct", "sum", "mean", "min", "max", "any", "all")


@dataclass(frozen=True, slots=True)
class Domain:
    """What values an expression can have; all of it is public.

    Attributes:
      lowest, highest: the range in the kind's unit; None for identifiers.
      decimals: of a number; of a timestamp's seconds.
      frac_bits: of a real.
      values: of a category, sorted by code point.
      zone: of a timestamp.
      spelling: the rule by which an identifier is spelt; those of different rules do not meet.
      nullable: whether a value may be NULL.
    """

    kind: Kind
    lowest: int | None = None
    highest: int | None = None
    decimals: int = 0
    frac_bits: int = 0
    values: tuple[str, ...] = ()
    zone: str = "UTC"
    spelling: str = "exact"
    nullable: bool = False

    def with_null(self, nullable: bool = True) -> Domain:
        """Return the domain with or without NULL."""
        return replace(self, nullable=nullable)

    @property
    def bounds(self) -> tuple[int, int]:
        """The range; of an identifier, which has none, (0, 0)."""
        return self.lowest or 0, self.highest or 0

    @property
    def noun(self) -> str:
        """The domain without NULL and with its article, for messages."""
        words = str(self.with_null(False))
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"

    def __str__(self) -> str:
        """Return the domain in words, for messages and plans."""
        words = str(self.kind)
        if self.kind == "number":
            words = f"number with {self.decimals} decimals" if self.decimals else "whole number"
        elif self.kind == "category":
            words = f"category of {len(self.values)} values" if len(self.values) > 1 else "text"
        return f"{words} or NULL" if self.nullable else words


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """A column of a declared table."""

    table: str
    column: str

    def __str__(self) -> str:
        return f"{self.table}.{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Dependence:
    """That a value depends on a source, and how.

    Attributes:
      steps: what happened to the source's value on the way, each once, in the order in which it came first. Without steps
        the value is the source's own. `compute` is arithmetic, `compare` any condition, `group` a key of groups or of
        DISTINCT, `join` a key of a join, `rank` an order. The others are the aggregation or window function.
    """

    source: Source
    steps: tuple[Step, ...] = ()


Lineage: TypeAlias = frozenset[Dependence]
NOTHING: Final[Lineage] = frozenset()


def after(lineage: Lineage, step: Step) -> Lineage:
    """Return the lineage of what a step makes of a value."""
    return frozenset(d if step in d.steps else Dependence(d.source, (*d.steps, step)) for d in lineage)


@dataclass(frozen=True, slots=True)
class Ref:
    """A column of the relation below."""

    name: str
    domain: Domain
    lineage: Lineage = NOTHING


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant, in its domain's unit. None is NULL."""

    value: int | str | None
    domain: Domain

    @property
    def lineage(self) -> Lineage:
        """A constant depends on nothing."""
        return NOTHING


@dataclass(frozen=True, slots=True)
class Call:
    """An operation on expressions; the module says which there are."""

    op: str
    args: tuple[Expression, ...]
    domain: Domain
    lineage: Lineage


@dataclass(frozen=True, slots=True)
class Case:
    """The value of the first branch whose condition is true, else `otherwise`; all values are of one domain."""

    branches: tuple[tuple[Expression, Expression], ...]
    otherwise: Expression
    domain: Domain
    lineage: Lineage


Expression: TypeAlias = Ref | Literal | Call | Case


def children(expression: Expression) -> tuple[Expression, ...]:
    """Return the expressions directly below."""
    match expression:
        case Call(args=args):
            return args
        case Case(branches=branches, otherwise=otherwise):
            return (*(one for branch in branches for one in branch), otherwise)
        case _:
            return ()


def walk(expression: Expression) -> Iterator[Expression]:
    """Yield the expression and all below it, the outer ones first."""
    yield expression
    for child in children(expression):
        yield from walk(child)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a relation."""

    name: str
    domain: Domain
    lineage: Lineage

    @property
    def ref(self) -> Ref:
        """The expression that reads it."""
        return Ref(self.name, self.domain, self.lineage)


class Relation:
    """Rows of named columns.

    Attributes:
      inputs: the relations directly below.
      columns: in order.
      max_rows: a public bound on the number of rows.
      unique: sets of columns of which no two rows have equal values, where that is declared or follows.
        The empty set says that there is at most one row.
      rows_from: what decides which rows there are, and in which order.
    """

    inputs: tuple[Relation, ...]
    columns: tuple[Column, ...]
    max_rows: int
    unique: frozenset[frozenset[str]]
    rows_from: Lineage

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    def is_unique(self, names: Iterable[str]) -> bool:
        """Return whether no two rows have equal values in these columns."""
        given = frozenset(names)
        return any(key <= given for key in self.unique)


def relations(root: Relation) -> Iterator[Relation]:
    """Yield the relation and all below it, the outer ones first."""
    yield root
    for below in root.inputs:
        yield from relations(below)


@dataclass(frozen=True)
class Scan(Relation):
    """The rows of a declared table, at all its holders together.

    Attributes:
      table: as declared.
      alias: before the point in the columns' names.
      columns: all declared ones, and `org` where rows are split over organisations.
      keys: sets of columns declared unique.
    """

    table: str
    alias: str
    columns: tuple[Column, ...]
    max_rows: int
    unique: frozenset[frozenset[str]] = frozenset()
    inputs: tuple[Relation, ...] = field(default=(), init=False)
    rows_from: Lineage = field(default=NOTHING, init=False)

    def column_of(self, name: str) -> str:
        """Return which column of the table one of this name is."""
        return name.removeprefix(f"{self.alias}.")


class _OnOne(Relation):
    """A relation over one other; what is not said otherwise is as below."""

    input: Relation

    @property
    def inputs(self) -> tuple[Relation, ...]:  # type: ignore[override]
        return (self.input,)

    @cached_property
    def columns(self) -> tuple[Column, ...]:  # type: ignore[override]
        return self.input.columns

    @cached_property
    def max_rows(self) -> int:  # type: ignore[override]
        return self.input.max_rows

    @cached_property
    def unique(self) -> frozenset[frozenset[str]]:  # type: ignore[override]
        return self.input.unique

    @cached_property
    def rows_from(self) -> Lineage:  # type: ignore[override]
        return self.input.rows_from


@dataclass(frozen=True)
class Filter(_OnOne):
    """The rows for which the condition is true; neither false nor NULL."""

    input: Relation
    condition: Expression

    @cached_property
    def rows_from(self) -> Lineage:  # type: ignore[override]
        return self.input.rows_from | after(self.condition.lineage, "compare")


@dataclass(frozen=True)
class Project(_OnOne):
    """Columns computed row by row, by name."""

    input: Relation
    expressions: tuple[tuple[str, Expression], ...]

    @cached_property
    def columns(self) -> tuple[Column, ...]:  # type: ignore[override]
        return tuple(Column(name, one.domain, one.lineage) for name, one in self.expressions)

    @cached_property
    def kept(self) -> dict[str, str]:
        """Of each column that is one of the input's as it is, which one."""
        return {name: one.name for name, one in self.expressions if isinstance(one, Ref)}

    @cached_property
    def unique(self) -> frozenset[frozenset[str]]:  # type: ignore[override]
        new: dict[str, list[str]] = {}
        for name, old in self.kept.items():
            new.setdefault(old, []).append(name)
        return frozenset(
            frozenset(names)
            for key in self.input.unique
            if key <= new.keys()
            for names in itertools.product(*(new[name] for name in key))
        )


@dataclass(frozen=True, slots=True)
class Aggregation:
    """An aggregated column.

    Attributes:
      function: one of `AGGREGATIONS`. They pass over NULL; over nothing, counts are 0 and the others NULL.
      column: of the relation below; None for `count` of rows.
    """

    name: str
    function: str
    column: str | None
    domain: Domain


@dataclass(frozen=True)
class Aggregate(_OnOne):
    """A row for each group of equal keys, NULL equal to NULL; without keys exactly one row, even over no rows."""

    input: Relation
    keys: tuple[str, ...]
    aggregations: tuple[Aggregation, ...]

    @cached_property
    def columns(self) -> tuple[Column, ...]:  # type: ignore[override]
        keys = tuple(self.input[name] for name in self.keys)
        return keys + tuple(Column(one.name, one.domain, self._lineage(one)) for one in self.aggregations)

    def _lineage(self, one: Aggregation) -> Lineage:
        return NOTHING if one.column is None else after(self.input[one.column].lineage, one.function)  # type: ignore[arg-type]

    @cached_property
    def max_rows(self) -> int:  # type: ignore[override]
        if not self.keys:
            return 1
        bound = 1
        for name in self.keys:
            domain = self.input[name].domain
            if domain.highest is None or domain.lowest is None:
                return self.input.max_rows
            bound *= domain.highest - domain.lowest + 1 + domain.nullable
        return min(bound, self.input.max_rows)

    @cached_property
    def unique(self) -> frozenset[frozenset[str]]:  # type: ignore[override]
        return frozenset({frozenset(self.keys)})

    @cached_property
    def rows_from(self) -> Lineage:  # type: ignore[override]
        return self.input.rows_from.union(*(after(self.input[name].lineage, "group") for name in self.keys))


How: TypeAlias = Word["inner", "left", "semi", "anti"]


@dataclass(frozen=True)
class Join(Relation):
    """Pairs of rows whose keys are equal and not NULL, column by column.

    `left` keeps a row of the left without a partner once, with NULL for the right. `semi` and `anti` keep rows of the left
    that have a partner, or none, and no columns of the right.

    Attributes:
      on: pairs of a column of the left and one of the right, of one domain.
    """

    left: Relation
    right: Relation
    on: tuple[tuple[str, str], ...]
    how: How = "inner"

    @property
    def inputs(self) -> tuple[Relation, ...]:  # type: ignore[override]
        return (self.left, self.right)

    @property
    def left_is_unique(self) -> bool:
        """Whether a row of the right has at most one partner, as declared."""
        return self.left.is_unique(left for left, _ in self.on)

    @property
    def right_is_unique(self) -> bool:
        """Whether a row of the left has at most one partner, as declared."""
        return self.right.is_unique(right for _, right in self.on)

    @cached_property
    def columns(self) -> tuple[Column, ...]:  # type: ignore[override]
        if self.how in ("semi", "anti"):
            return self.left.columns
        right = self.right.columns
        if self.how == "left":
            right = tuple(replace(one, domain=one.domain.with_null()) for one in right)
        return self.left.columns + right

    @cached_property
    def max_rows(self) -> int:  # type: ignore[override]
        left, right = self.left.max_rows, self.right.max_rows
        if self.how in ("semi", "anti") or self.right_is_unique:
            return left
        if self.left_is_unique:
            return right + left if self.how == "left" else right
        return left * max(right, 1)

    @cached_property
    def unique(self) -> frozenset[frozenset[str]]:  # type: ignore[override]
        if self.how in ("semi", "anti") or self.right_is_unique:
            return self.left.unique
        return self.right.unique if self.left_is_unique and self.how == "inner" else frozenset()

    @cached_property
    def rows_from(self) -> Lineage:  # type: ignore[override]
        keys = [self.left[left].lineage | self.right[right].lineage for left, right in self.on]
        return self.left.rows_from.union(self.right.rows_from, *(after(key, "join") for key in keys))


@dataclass(frozen=True)
class Union(Relation):
    """All rows of all inputs, which have columns of the same names and, but for range and NULL, the same domains."""

    inputs: tuple[Relation, ...]

    @cached_property
    def columns(self) -> tuple[Column, ...]:  # type: ignore[override]
        return tuple(
            Column(several[0].name, _either(several), NOTHING.union(*(one.lineage for one in several)))
            for several in zip(*(below.columns for below in self.inputs), strict=True)
        )

    @cached_property
    def max_rows(self) -> int:  # type: ignore[override]
        return sum(below.max_rows for below in self.inputs)

    @property
    def unique(self) -> frozenset[frozenset[str]]:  # type: ignore[override]
        return frozenset()

    @cached_property
    def rows_from(self) -> Lineage:  # type: ignore[override]
        return NOTHING.union(*(below.rows_from for below in self.inputs))


def _either(columns: tuple[Column, ...]) -> Domain:
    domains = [column.domain for column in columns]
    nullable = any(domain.nullable for domain in domains)
    if domains[0].lowest is None:
        return domains[0].with_null(nullable)
    lowest = min(domain.bounds[0] for domain in domains)
    highest = max(domain.bounds[1] for domain in domains)
    return replace(domains[0], lowest=lowest, highest=highest, nullable=nullable)


@dataclass(frozen=True)
class Distinct(_OnOne):
    """Each row once, NULL equal to NULL."""

    input: Relation

    @cached_property
    def unique(self) -> frozenset[frozenset[str]]:  # type: ignore[override]
        return self.input.unique | {frozenset(self.names)}

    @cached_property
    def rows_from(self) -> Lineage:  # type: ignore[override]
        return self.input.rows_from.union(*(after(one.lineage, "group") for one in self.columns))


@dataclass(frozen=True, slots=True)
class SortKey:
    """A column that rows are ordered by."""

    name: str
    descending: bool = False
    nulls_first: bool = False


@dataclass(frozen=True)
class Sort(_OnOne):
    """The rows in order; of equal ones nothing is said."""

    input: Relation
    keys: tuple[SortKey, ...]

    @cached_property
    def rows_from(self) -> Lineage:  # type: ignore[override]
        return self.input.rows_from.union(*(after(self.input[key.name].lineage, "rank") for key in self.keys))


@dataclass(frozen=True)
class Limit(_OnOne):
    """So many rows from an offset on, in the order of the input, which is a `Sort`."""

    input: Relation
    rows: int
    offset: int = 0

    @cached_property
    def max_rows(self) -> int:  # type: ignore[override]
        return max(0, min(self.input.max_rows - self.offset, self.rows))


@dataclass(frozen=True, slots=True)
class WindowFunction:
    """A column computed over the rows of a partition.

    Attributes:
      function: `row_number`, `rank`, `dense_rank`, `lag`, `lead`, or one of `AGGREGATIONS`. An aggregation with an order
        runs from the partition's first row to this one; without an order it is that of the whole partition.
      column: its argument; None for numbers of rows.
      offset: how many rows `lag` looks back and `lead` ahead; NULL where there is none.
      whole_peers: a running aggregation takes in all rows that are equal in the order (RANGE, SQL's default); else it
        ends with the row (ROWS).
    """

    name: str
    function: str
    column: str | None
    domain: Domain
    offset: int = 1
    whole_peers: bool = True


@dataclass(frozen=True)
class Window(_OnOne):
    """The columns of the input, and those of functions that share a partition and an order."""

    input: Relation
    partition_by: tuple[str, ...]
    order_by: tuple[SortKey, ...]
    functions: tuple[WindowFunction, ...]

    @cached_property
    def columns(self) -> tuple[Column, ...]:  # type: ignore[override]
        around = NOTHING.union(
            *(after(self.input[name].lineage, "group") for name in self.partition_by),
            *(after(self.input[key.name].lineage, "rank") for key in self.order_by),
        )
        added = []
        for one in self.functions:
            own = NOTHING if one.column is None else self.input[one.column].lineage
            if one.column is not None and one.function in (*AGGREGATIONS, "lag", "lead"):
                own = after(own, one.function)  # type: ignore[arg-type]
            added.append(Column(one.name, one.domain, own | around))
        return self.input.columns + tuple(added)


@dataclass(frozen=True)
class Query:
    """A query's plan.

    Attributes:
      root: whose columns and rows are the result.
      sql: the text that was parsed.
    """

    root: Relation
    sql: str = ""

    @property
    def tables(self) -> tuple[str, ...]:
        """The declared tables that are read, each once, in the order of their names."""
        return tuple(sorted({one.table for one in relations(self.root) if isinstance(one, Scan)}))

    @property
    def sources(self) -> tuple[Source, ...]:
        """The declared columns that the result or its rows depend on."""
        used = self.root.rows_from.union(*(column.lineage for column in self.root.columns))
        return tuple(sorted({one.source for one in used}))
