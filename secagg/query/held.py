"""What one holder of a table shares of a leaf of the plan, given whose rows they are.

Everybody knows from which owner a block of shares came. So the column `org`, and whatever follows from it alone, is public
in a block: no owner says where its rows lie. A count of another owner's rows is such a column: it is 0 in every block but
that owner's. Columns that equal each other are shared once, so that no owner says two things with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from secagg.errors import PlanError
from secagg.query.algebra import (
    NOTHING,
    Aggregate,
    Aggregation,
    Call,
    Case,
    Distinct,
    Domain,
    Expression,
    Filter,
    Literal,
    Project,
    Ref,
    Relation,
    Scan,
)
from secagg.query.declaration import ORG
from secagg.query.evaluator import evaluate
from secagg.query.local_sql import scalar
from secagg.query.pushdown import pruned, substituted

HIDDEN: Final = "#rules."  # before the names of columns that count for rules; no column of SQL begins so


@dataclass(frozen=True)
class Held:
    """What one holder shares of a leaf.

    Attributes:
      relation: what it runs over its own table, for the columns that it shares.
      known: columns of which everybody knows the value, the same in all its rows.
      same: by column, the shared one that it equals.
    """

    relation: Relation
    known: Mapping[str, Literal]
    same: Mapping[str, str]

    @property
    def shared(self) -> tuple[str, ...]:
        """The columns that are neither known nor equal to another."""
        return tuple(name for name in self.relation.names if name not in self.known.keys() | self.same.keys())


def held(relation: Relation, owner: str, *, is_dense: bool) -> Held:
    """Return what an owner shares of a relation over its own table.

    Args:
      is_dense: a group-by that gives a row for each combination of keys, so that there are groups without rows.
    """
    columns = _Columns(owner, is_dense).of(relation)
    first: dict[object, str] = {}
    same: dict[str, str] = {}
    for column in relation.columns:
        representative = first.setdefault((columns.numbers[column.name], column.domain), column.name)
        if representative != column.name and column.name not in columns.known:
            same[column.name] = representative
    found = Held(columns.relation, columns.known, same)
    keys = set(relation.keys) if isinstance(relation, Aggregate) else set()
    if isinstance(
        columns.relation, Distinct
    ):  # rows differ just where they do in the columns that are shared
        return replace(found, relation=Distinct(pruned(columns.relation.input, found.shared)))
    return replace(found, relation=pruned(columns.relation, keys | set(found.shared)))


@dataclass(frozen=True)
class _Found:
    """A relation, what is known of its columns, and a number for each that equal columns share.

    Attributes:
      unique: sets of columns, by their numbers, in which no two rows are equal.
    """

    relation: Relation
    known: Mapping[str, Literal]
    numbers: Mapping[str, int]
    unique: frozenset[frozenset[int]] = frozenset()


class _Columns:
    """Numbers what columns are made of, from the table on."""

    def __init__(self, owner: str, is_dense: bool) -> None:
        self._owner = owner
        self._is_dense = is_dense
        self._numbers: dict[object, int] = {}

    def of(self, relation: Relation) -> _Found:
        match relation:
            case Scan(columns=columns):
                of = {column.name: relation.column_of(column.name) for column in columns}
                known = {one.name: _place(one.domain, self._owner) for one in columns if of[one.name] == ORG}
                return _Found(relation, known, {name: self._number(column) for name, column in of.items()})
            case Filter(input=below, condition=condition):
                over = self.of(below)
                return replace(over, relation=Filter(over.relation, _reduced(condition, over.known)))
            case Distinct(input=below):
                over = self.of(below)
                return replace(over, relation=Distinct(over.relation))
            case Project(input=below, expressions=expressions):
                return self._projected(expressions, self.of(below))
            case Aggregate():
                return self._aggregated(relation, self.of(relation.input))
            case _:
                raise PlanError(f"{type(relation).__name__} is no part that an owner computes alone")

    def _number(self, what: object) -> int:
        return self._numbers.setdefault(what, len(self._numbers))

    def _projected(self, expressions: Sequence[tuple[str, Expression]], below: _Found) -> _Found:
        made = tuple((name, _reduced(expression, below.known)) for name, expression in expressions)
        numbers = {}
        for name, one in made:
            if isinstance(one, Ref):
                numbers[name] = below.numbers[one.name]
            else:  # columns by their numbers, so that equal texts are equal values
                named = {
                    of: Ref(f"#{n}", below.relation[of].domain, NOTHING) for of, n in below.numbers.items()
                }
                numbers[name] = self._number(scalar(substituted(one, named)))
        known = {name: one for name, one in made if isinstance(one, Literal)}
        return _Found(Project(below.relation, made), known, numbers, below.unique)

    def _aggregated(self, aggregate: Aggregate, below: _Found) -> _Found:
        known = {key: below.known[key] for key in aggregate.keys if key in below.known}
        numbers = {key: below.numbers[key] for key in aggregate.keys}
        has_rows = bool(aggregate.keys) and not self._is_dense
        told_apart = frozenset(numbers[key] for key in aggregate.keys if key not in known)
        is_one_row = has_rows and any(of <= told_apart for of in below.unique)
        for one in aggregate.aggregations:
            column = None if one.column is None else below.numbers[one.column]
            numbers[one.name] = self._number((one.function, column))
            if is_one_row and one.function == "count" and one.column is None:
                known[one.name] = Literal(1, one.domain)
            elif (value := _known(one, below.known, has_rows=has_rows)) is not None:
                known[one.name] = value
        return _Found(replace(aggregate, input=below.relation), known, numbers, frozenset({told_apart}))


def _place(domain: Domain, owner: str) -> Literal:
    place = domain.values.index(owner)
    return Literal(place, replace(domain, lowest=place, highest=place))


def _known(one: Aggregation, known: Mapping[str, Literal], *, has_rows: bool) -> Literal | None:
    """Return the aggregate of a value that all rows have, where it does not depend on how many there are."""
    if one.column is None or one.column not in known:
        return None
    value = known[one.column].value
    if value is None:
        return Literal(0 if one.function == "count" else None, one.domain)
    if one.function == "count":
        return None
    # The sum of no rows is NULL. What rules count takes NULL as 0.
    if value == 0 and one.function == "sum" and (has_rows or one.name.startswith(HIDDEN)):
        return Literal(0, one.domain)
    return Literal(value, one.domain) if has_rows and one.function != "sum" else None


def _reduced(expression: Expression, known: Mapping[str, Literal]) -> Expression:
    return reduced(substituted(expression, known))


def reduced(expression: Expression) -> Expression:
    """Return an expression without branches and conditions that constants decide."""
    match expression:
        case Case(branches=branches, otherwise=otherwise):
            left: list[tuple[Expression, Expression]] = []
            last = reduced(otherwise)
            for condition, value in branches:
                test = reduced(condition)
                if not isinstance(test, Literal):
                    left.append((test, reduced(value)))
                elif test.value:
                    last = reduced(value)
                    break
            if isinstance(last, Literal) and all(
                isinstance(value, Literal) and value.value == last.value for _, value in left
            ):
                return Literal(last.value, expression.domain)
            return replace(expression, branches=tuple(left), otherwise=last) if left else last
        case Call(op="and" | "or" as op, args=args):
            decisive = int(op == "or")
            parts = [one for one in map(reduced, args) if not _is(one, 1 - decisive)]
            if any(_is(one, decisive) for one in parts) or not parts:
                return Literal(decisive if parts else 1 - decisive, expression.domain)
            return parts[0] if len(parts) == 1 else replace(expression, args=tuple(parts))
        case Call(args=args):
            made = replace(expression, args=tuple(map(reduced, args)))
            if all(isinstance(one, Literal) for one in made.args):
                return Literal(evaluate(made, {}), expression.domain)
            return made
        case _:
            return expression


def _is(expression: Expression, value: int) -> bool:
    return isinstance(expression, Literal) and expression.value is not None and expression.value == value
