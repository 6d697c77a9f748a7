"""The tables of one FROM: which equalities join them, and which conditions go below the joins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

from sqlglot import exp

from secagg.query.algebra import Expression, Filter, Join, Project, Ref, Relation
from secagg.query.inference import in_one_domain
from secagg.query.places import Text
from secagg.query.scalars import Scalars

Scope: TypeAlias = Mapping[str, Sequence[str]]
Resolve: TypeAlias = Callable[[exp.Column, Relation, Scope], Expression]


def conjuncts(node: exp.Expr) -> list[exp.Expr]:
    """Return the conditions that AND joins."""
    if isinstance(node, exp.Paren):
        return conjuncts(node.this)
    if isinstance(node, exp.And):
        return conjuncts(node.this) + conjuncts(node.expression)
    return [node]


class Conditions:
    """The tables of a FROM that are not joined yet, the rows of those that are, and the conditions still to be met.

    Attributes:
      scope: the columns of each table by its alias.
    """

    def __init__(self, query: Text, resolve: Resolve) -> None:
        self.scope: dict[str, list[str]] = {}
        self._text = query
        self._resolve = resolve
        self._rows: Relation | None = None
        self._joined: set[str] = set()
        self._pending: dict[str, Relation] = {}
        self._conditions: list[exp.Expr] = []
        self._early: list[exp.Expr] = []
        self._met: list[exp.Expr] = []
        self._keys = 0

    @property
    def aliases(self) -> set[str]:
        """The names of the tables."""
        return set(self.scope)

    def add(self, alias: str, rows: Relation) -> None:
        """Add a table that equalities among the conditions join to the others."""
        self._name(alias, rows)
        own = [one for one in self._early if {column.table for column in one.find_all(exp.Column)} == {alias}]
        for one in own:
            rows = Filter(rows, self._condition(one, rows))
        self._met += own
        self._pending[alias] = rows

    def early(self, conditions: Sequence[exp.Expr]) -> None:
        """Say which conditions of WHERE may be met at once by a table that is added, where they are about it alone."""
        self._early = list(conditions)

    def require(self, conditions: Sequence[exp.Expr]) -> None:
        """Add conditions that hold for every row of the inner join."""
        self._conditions += conditions

    def outer(
        self,
        alias: str,
        rows: Relation,
        conditions: Sequence[exp.Expr],
        how: Literal["left", "right", "semi", "anti"],
        node: exp.Expr,
    ) -> None:
        """Join a table to all that come before it, by its own conditions alone."""
        left = self.filtered(self._join_pending())
        self._name(alias, rows)
        pairs = []
        for one in conditions:
            tables = self._tables(one)
            pair = self._pair(one, self._joined, {alias})
            if pair is not None:
                pairs.append(pair)
            elif tables <= {alias} and how != "right":
                rows = Filter(rows, self._condition(one, rows))
            elif (how == "right" and alias not in tables) or (how == "semi" and alias not in tables):
                left = Filter(left, self._condition(one, left))
            else:
                raise self._text.unsupported(
                    one,
                    "this condition of an outer join",
                    "supported are equalities, and conditions on the table that is joined",
                )
        if not pairs:
            raise self._text.refusal(
                node, f"expected an equality between a column of {alias} and one of the tables before it"
            )
        if how == "right":
            self._rows = self._join(rows, left, [(b, a) for a, b in pairs], "left", node)
        else:
            self._rows = self._join(left, rows, pairs, how, node)
        if how in ("semi", "anti"):
            del self.scope[alias]
        else:
            self._joined.add(alias)

    def joined(self, where: Sequence[exp.Expr]) -> Relation:
        """Return the rows of all tables; conditions of WHERE that join them are met, and `filtered` meets the others."""
        self._conditions += [one for one in where if all(one is not met for met in self._met)]
        return self._join_pending()

    def filtered(self, rows: Relation) -> Relation:
        """Return the rows that meet the conditions which are left."""
        for one in self._conditions:
            rows = Filter(rows, self._condition(one, rows))
        self._conditions = []
        return rows

    def lowered(self, node: exp.Expr, rows: Relation) -> Expression:
        """Return an expression over rows of these tables."""
        return Scalars(self._text, lambda column: self._resolve(column, rows, self.scope)).lowered(node)

    def _condition(self, node: exp.Expr, rows: Relation) -> Expression:
        condition = self.lowered(node, rows)
        if condition.domain.kind != "boolean":
            raise self._text.refusal(node, f"expected a condition, and this is {condition.domain.noun}")
        return condition

    def _name(self, alias: str, rows: Relation) -> None:
        self._text.word(exp.to_identifier(alias), alias)
        if alias in self.scope:
            raise self._text.refusal(
                exp.to_identifier(alias), f"two tables are called {alias!r:.80}; rename one with AS"
            )
        self.scope[alias] = [name.removeprefix(f"{alias}.") for name in rows.names]

    def _tables(self, node: exp.Expr) -> set[str]:
        """Return the tables whose columns a condition uses."""
        found = set()
        for column in node.find_all(exp.Column):
            self._resolvable(column)
            found.add(column.table or next(alias for alias in self.scope if column.name in self.scope[alias]))
        return found

    def _resolvable(self, column: exp.Column) -> None:
        """Refuse a column that no table has, or several have."""
        rows = [*self._pending.values(), *([] if self._rows is None else [self._rows])]
        owner = next(
            (one for one in rows if column.table and f"{column.table}.{column.name}" in one.names), None
        )
        if owner is None and not (column.table in self.scope and column.name in self.scope[column.table]):
            holders = [alias for alias, names in self.scope.items() if column.name in names]
            if column.table or len(holders) != 1:
                self._resolve(column, rows[0], self.scope)

    def _join_pending(self) -> Relation:
        for one in list(self._conditions):  # what one table alone decides comes first
            tables = self._tables(one)
            if len(tables) == 1 and (alias := next(iter(tables))) in self._pending:
                self._pending[alias] = Filter(
                    self._pending[alias], self._condition(one, self._pending[alias])
                )
                self._conditions.remove(one)
        if self._rows is None:
            alias = next(iter(self._pending))
            self._rows = self._pending.pop(alias)
            self._joined.add(alias)
        while self._pending:
            self._join_next()
        return self._rows

    def _join_next(self) -> None:
        """Join the first table that an equality joins to those before it."""
        for alias, rows in self._pending.items():
            found = [(one, self._pair(one, self._joined, {alias})) for one in self._conditions]
            pairs = [(one, pair) for one, pair in found if pair is not None]
            if pairs and self._rows is not None:
                self._conditions = [
                    one for one in self._conditions if all(one is not used for used, _ in pairs)
                ]
                self._rows = self._join(self._rows, rows, [pair for _, pair in pairs], "inner", pairs[0][0])
                self._joined.add(alias)
                del self._pending[alias]
                return
        alias = next(iter(self._pending))
        raise self._text.refusal(
            exp.column(alias), f"expected an equality that joins {alias} to {', '.join(sorted(self._joined))}; "
            "every pair of rows would be too many"
        )  # fmt: skip

    def _pair(self, node: exp.Expr, left: set[str], right: set[str]) -> tuple[exp.Expr, exp.Expr] | None:
        """Return the sides of an equality between tables of the left and of the right, the left's first."""
        if not isinstance(node, exp.EQ):
            return None
        a, b = self._tables(node.this), self._tables(node.expression)
        if a and b and a <= left and b <= right:
            return node.this, node.expression
        if a and b and a <= right and b <= left:
            return node.expression, node.this
        return None

    def _join(
        self,
        left: Relation,
        right: Relation,
        pairs: Sequence[tuple[exp.Expr, exp.Expr]],
        how: Literal["inner", "left", "semi", "anti"],
        node: exp.Expr,
    ) -> Relation:
        on = []
        more_left: list[tuple[str, Expression]] = []
        more_right: list[tuple[str, Expression]] = []
        for a, b in pairs:
            with self._text.at(node):
                one, other = in_one_domain((self.lowered(a, left), self.lowered(b, right)), "eq")
            on.append((self._key(one, more_left), self._key(other, more_right)))
        return Join(_with(left, more_left), _with(right, more_right), tuple(on), how)

    def _key(self, value: Expression, more: list[tuple[str, Expression]]) -> str:
        if isinstance(value, Ref):
            return value.name
        self._keys += 1
        name = f"join_key{self._keys}"
        more.append((name, value))
        return name


def _with(rows: Relation, more: Sequence[tuple[str, Expression]]) -> Relation:
    if not more:
        return rows
    return Project(rows, (*((one.name, one.ref) for one in rows.columns), *more))
