"""How many rows of which organisations stand behind each row of a plan, computed by the plan itself.

`carry` rewrites what lies below a told aggregate. Each scan gets hidden columns (where its row lies, who it is about, which
row it is), and every relation above passes them on. Aggregates add the counts up by organisation. Columns computed by
CASE or from conditions get a *mark*, the number of the branch that a row takes: a sum of CASE tells of the rows of one
branch, so a branch is a group too.

A row that a join repeats counts once: then rows are told apart by the table's declared key. What cannot be counted this way
is refused by name.

Longer than most: each kind of relation carries the same hidden columns, and all kinds are needed at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from secagg.errors import RuleError
from secagg.query import inference
from secagg.query.algebra import (
    Aggregate,
    Aggregation,
    Call,
    Case,
    Distinct,
    Expression,
    Filter,
    Join,
    Limit,
    Literal,
    Project,
    Ref,
    Relation,
    Scan,
    Sort,
    Union,
    Window,
    children,
)
from secagg.query.declaration import ORG
from secagg.query.held import HIDDEN
from secagg.query.rules.coding import clipped
from secagg.query.rules.strictest import TableRules

_RANKS: Final = ("row_number", "rank", "dense_rank")
_COPIES: Final = {"min", "max", "any", "all"}


@dataclass(frozen=True)
class Behind:
    """The rows of one scan behind the rows of a relation.

    Attributes:
      counts: for each organisation the column that counts its rows; None while each row is one row of the scan.
      org: the column that says where the row lies; None where `counts` says it, or one organisation holds the table.
      key: the column that tells the scan's rows apart; None where no key is declared, or it was lost in groups.
      persons: for each rule's column the one that holds it here; None where it was lost in groups.
      repeated: whether one row of the scan may stand behind several rows here.
      optional: whether a row here may have none of the scan's behind it.
    """

    table: str
    rules: TableRules
    organisations: tuple[str, ...]
    org: str | None
    key: str | None
    persons: Mapping[str, str | None]
    counts: Mapping[str, str] | None = None
    repeated: bool = False
    optional: bool = False

    @property
    def hidden(self) -> tuple[str, ...]:
        """The hidden columns."""
        names = [self.org, self.key, *self.persons.values(), *(self.counts or {}).values()]
        return tuple(dict.fromkeys(name for name in names if name is not None))


@dataclass(frozen=True, slots=True)
class Mark:
    """A hidden column that numbers, from 0, which of so many branches a row takes."""

    column: str
    branches: int


@dataclass(frozen=True)
class Carried:
    """A relation with hidden columns.

    Attributes:
      marks: by visible column, what it depends on.
      same: by visible column, the hidden columns that equal it.
    """

    relation: Relation
    behind: tuple[Behind, ...]
    marks: Mapping[str, tuple[Mark, ...]] = field(default_factory=dict)
    same: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def hidden(self) -> tuple[str, ...]:
        """The hidden columns."""
        marks = [mark.column for several in self.marks.values() for mark in several]
        return tuple(dict.fromkeys([*(name for one in self.behind for name in one.hidden), *marks]))


class Carrier:
    """Rewrites relations; hidden columns have different names throughout."""

    def __init__(self, rules: Mapping[str, TableRules]) -> None:
        self._rules = rules
        self._numbers = itertools.count()

    def name(self, what: str) -> str:
        """Return a new hidden name."""
        return f"{HIDDEN}{what}{next(self._numbers)}"

    def carry(self, relation: Relation) -> Carried:
        """Return the relation with hidden columns added.

        Raises:
          RuleError: what stands behind its rows cannot be counted.
        """
        match relation:
            case Scan():
                return self._scan(relation)
            case Project():
                return self._project(relation)
            case Aggregate():
                return self._aggregate(relation)
            case Distinct(input=below):
                return self._aggregate(Aggregate(below, below.names, ()))
            case Join():
                return self._join(relation)
            case Union():
                return self._union(relation)
            case Filter() | Sort() | Limit() | Window():
                over = self.carry(relation.input)
                for function in relation.functions if isinstance(relation, Window) else ():
                    if function.function not in _RANKS:
                        _refuse_uncounted(over, f"{function.function} over a window inside an aggregate")
                made = Carried(replace(relation, input=over.relation), over.behind, over.marks, over.same)
                if isinstance(relation, Window):
                    marks = {one.name: over.marks.get(one.column or "", ()) for one in relation.functions}
                    return replace(made, marks={**over.marks, **marks})
                return made
            case _:
                raise RuleError(f"rules know no relation {type(relation).__name__}")

    def _scan(self, scan: Scan) -> Carried:
        rules = self._rules[scan.table]
        columns: list[tuple[str, Expression]] = [
            (one.name, clipped(one.ref, rules.column(scan.column_of(one.name)))) for one in scan.columns
        ]
        by_column = {scan.column_of(one.name): one for one in scan.columns}
        same: dict[str, set[str]] = {}

        def copy(what: str, column: str) -> str:
            name = self.name(what)
            columns.append((name, by_column[column].ref))
            same.setdefault(by_column[column].name, set()).add(name)
            return name

        persons: dict[str, str | None] = {}
        for one in rules.persons:
            if one.column not in by_column:
                raise RuleError(
                    f"{one.owner}'s rule persons = {one.column} of {scan.table}: there is no such column"
                )
            persons[one.column] = copy("person", one.column)
        keys = sorted(min((key for key in scan.unique if len(key) == 1), key=sorted, default=()))
        behind = Behind(
            scan.table,
            rules,
            tuple(rules.by_owner),
            org=copy("org", ORG) if ORG in by_column else None,
            key=copy("key", scan.column_of(keys[0])) if keys else None,
            persons=persons,
        )
        return Carried(
            Project(scan, tuple(columns)), (behind,), {}, {name: frozenset(of) for name, of in same.items()}
        )

    def _project(self, project: Project) -> Carried:
        below = self.carry(project.input)
        marks: dict[str, tuple[Mark, ...]] = {}
        same: dict[str, frozenset[str]] = {}
        added: list[tuple[str, Expression]] = []
        for name, expression in project.expressions:
            found = dict.fromkeys(mark for ref in _refs(expression) for mark in below.marks.get(ref, ()))
            for branch, branches in branches_of(expression):
                column = self.name("mark")
                added.append((column, branch))
                found[Mark(column, branches)] = None
            marks[name] = tuple(found)
            if isinstance(expression, Ref):
                same[name] = below.same.get(expression.name, frozenset())
        kept = [(name, below.relation[name].ref) for name in below.hidden]
        return Carried(
            Project(below.relation, (*project.expressions, *kept, *added)), below.behind, marks, same
        )

    def _aggregate(self, aggregate: Aggregate) -> Carried:
        """An aggregate below the told one: rows behind its rows are added up by organisation."""
        below = self.carry(aggregate.input)
        used = [one.column for one in aggregate.aggregations if one.column is not None]
        for name in used:
            if below.marks.get(name):
                _refuse_uncounted(below, "rows of a CASE or condition inside an aggregate of an aggregate")
        for function in sorted({one.function for one in aggregate.aggregations} & _COPIES):
            _refuse_uncounted(below, f"{function} inside an aggregate, which copies one row of each group")
        present = [
            inference.call("not", inference.call("is_null", below.relation[name].ref))
            for name in used
            if below.relation[name].domain.nullable
        ]
        counted: list[tuple[str, Expression]] = []
        sums: list[tuple[str, str]] = []
        behind = []
        for one in below.behind:
            counts = {}
            for organisation in one.organisations:
                source, counts[organisation] = self.name("row"), self.name("rows")
                counted.append((source, _if(present, count_of(below.relation, one, {organisation}))))
                sums.append((counts[organisation], source))
            kept = frozenset(h for key in aggregate.keys for h in below.same.get(key, frozenset()))
            behind.append(
                replace(
                    one,
                    org=None,
                    key=one.key if one.key in kept else None,
                    persons={c: n if n in kept else None for c, n in one.persons.items()},
                    counts=counts,
                )
            )
        rows = with_columns(below.relation, counted)
        made = Aggregate(
            rows,
            aggregate.keys,
            (*aggregate.aggregations, *(total(rows, name, of, aggregate.keys) for name, of in sums)),
        )
        same = {key: below.same.get(key, frozenset()) for key in aggregate.keys}
        copies = [
            (hidden, made[key].ref)
            for key, several in same.items()
            for hidden in several
            if any(hidden in one.hidden for one in behind)
        ]
        marks = {key: below.marks.get(key, ()) for key in aggregate.keys}
        if any(marks.values()):  # a mark of a key is lost; the key itself tells the branches apart
            marks = {}
        return Carried(with_columns(made, dict(copies).items()), tuple(behind), marks, same)

    def _join(self, join: Join) -> Carried:
        left, right = self.carry(join.left), self.carry(join.right)
        for one in right.behind if join.how == "anti" else ():
            if one.rules.smallest_group.value > 1:
                raise _uncounted(one, "rows that an anti join (NOT IN, NOT EXISTS) looks for")
        how = join.how
        if how == "semi":  # the right's rows decide, so they are counted: groups by key, each matched once
            right = self.carry(Aggregate(join.right, tuple(dict.fromkeys(key for _, key in join.on)), ()))
            how = "inner"
        if how == "left":
            right = self._counted(right)
        made = Join(left.relation, right.relation, join.on, how)
        if how == "anti":
            return Carried(made, left.behind, left.marks, left.same)
        behind = (
            *(replace(one, repeated=one.repeated or not made.right_is_unique) for one in left.behind),
            *(
                replace(
                    one,
                    repeated=one.repeated or not made.left_is_unique,
                    optional=one.optional or how == "left",
                )
                for one in right.behind
            ),
        )
        same = {**left.same, **right.same}
        both = Carried(made, behind, {**left.marks, **right.marks}, same)
        if join.how != "semi":
            return both
        names = (*join.left.names, *both.hidden)
        return replace(both, relation=Project(made, tuple((name, made[name].ref) for name in names)))

    def _counted(self, carried: Carried) -> Carried:
        """Return the same with a column that counts rows for each organisation, so that NULL can stand for none."""
        added: list[tuple[str, Expression]] = []
        behind = []
        for one in carried.behind:
            counts = {}
            for organisation in one.organisations:
                counts[organisation] = self.name("rows")
                added.append((counts[organisation], count_of(carried.relation, one, {organisation})))
            behind.append(replace(one, counts=counts))
        return replace(carried, relation=with_columns(carried.relation, added), behind=tuple(behind))

    def _union(self, union: Union) -> Carried:
        parts = [self._counted(self.carry(below)) for below in union.inputs]
        hidden = [{name: part.relation[name].domain for name in part.hidden} for part in parts]
        everything = {name: domain for names in hidden for name, domain in names.items()}
        filled = []
        for part in parts:
            columns: list[tuple[str, Expression]] = [(name, part.relation[name].ref) for name in union.names]
            own = set(part.hidden)
            for name, domain in everything.items():
                columns.append((name, part.relation[name].ref if name in own else inference.null(domain)))
            filled.append(Project(part.relation, tuple(columns)))
        behind = tuple(replace(one, optional=True) for part in parts for one in part.behind)
        marks = {
            name: tuple(dict.fromkeys(mark for part in parts for mark in part.marks.get(name, ())))
            for name in union.names
        }
        return Carried(Union(tuple(filled)), behind, marks, {})


# --- expressions


def count_of(relation: Relation, behind: Behind, organisations: Iterable[str]) -> Expression:
    """Return how many rows of organisations stand behind a row; a row that a join repeats counts each time."""
    chosen = [one for one in behind.organisations if one in set(organisations)]
    if behind.counts is not None:
        several = [
            inference.call("coalesce", relation[behind.counts[one]].ref, inference.literal(0))
            for one in chosen
        ]
        return add(several)
    if len(chosen) == len(behind.organisations):
        return inference.literal(1)
    if behind.org is None or not chosen:
        return inference.literal(0)
    return inference.case([(lies_at(relation, behind, chosen), inference.literal(1))], inference.literal(0))


def lies_at(relation: Relation, behind: Behind, organisations: Sequence[str]) -> Expression:
    """Return whether a row lies at one of the organisations."""
    if behind.org is None:
        return inference.boolean(bool(organisations))
    names = [inference.literal(one) for one in organisations]
    return inference.call("in", relation[behind.org].ref, *names)


def add(several: Sequence[Expression]) -> Expression:
    """Return the sum of any number of expressions."""
    found: Expression = inference.literal(0)
    for one in several:
        found = one if isinstance(found, Literal) and found.value == 0 else inference.call("add", found, one)
    return found


def with_columns(relation: Relation, columns: Iterable[tuple[str, Expression]]) -> Relation:
    """Return the relation with more columns."""
    added = tuple(columns)
    if not added:
        return relation
    names = {name for name, _ in added}
    kept = tuple((one.name, one.ref) for one in relation.columns if one.name not in names)
    return Project(relation, (*kept, *added))


def total(
    relation: Relation, name: str, column: str, keys: Sequence[str], function: str = "sum"
) -> Aggregation:
    """Return an aggregation of a hidden column."""
    return inference.aggregation(name, function, relation[column], relation, grouped=bool(keys))


def branches_of(expression: Expression) -> Iterator[tuple[Expression, int]]:
    """Yield for each CASE, condition and COALESCE of an expression the branch that a row takes, and how many there are."""
    number = inference.literal
    if expression.domain.kind == "boolean" and expression.lineage:
        if expression.domain.nullable:
            no = inference.call("not", expression)
            yield inference.case([(expression, number(1)), (no, number(2))], number(0)), 3
        else:
            yield inference.case([(expression, number(1))], number(0)), 2
        return
    if isinstance(expression, Case) and any(condition.lineage for condition, _ in expression.branches):
        conditions = [condition for condition, _ in expression.branches]
        branches = [(one, number(i)) for i, one in enumerate(conditions)]
        yield inference.case(branches, number(len(conditions))), len(conditions) + 1
        for value in (*(value for _, value in expression.branches), expression.otherwise):
            yield from branches_of(value)
        return
    if isinstance(expression, Call) and expression.op == "coalesce":
        missing = [one for one in expression.args if one.domain.nullable and one.lineage]
        for one in missing:
            yield inference.case([(inference.call("is_null", one), number(0))], number(1)), 2
    for child in children(expression):
        yield from branches_of(child)


def _refs(expression: Expression) -> Iterator[str]:
    if isinstance(expression, Ref):
        yield expression.name
    for child in children(expression):
        yield from _refs(child)


def _if(conditions: Sequence[Expression], value: Expression) -> Expression:
    if not conditions:
        return value
    condition = conditions[0] if len(conditions) == 1 else inference.call("and", *conditions)
    return inference.case([(condition, value)], inference.literal(0))


def _refuse_uncounted(carried: Carried, what: str) -> None:
    for one in carried.behind:
        if one.rules.smallest_group.value > 1:
            raise _uncounted(one, what)


def _uncounted(behind: Behind, what: str) -> RuleError:
    bound = behind.rules.smallest_group
    return RuleError(
        f"{bound.owner}'s rule smallest_group = {bound.value} of {behind.table} cannot be checked for {what}; "
        f"write the query without"
    )
