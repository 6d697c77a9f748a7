"""SELECTs of SQL, as sqlglot has qualified them, to relations of the plan.

A SELECT becomes, in this order: tables and their joins, WHERE, groups, HAVING, window functions, QUALIFY, the computed
columns, DISTINCT, ORDER BY and LIMIT. Conditions on one table go below the joins where that changes nothing.

Longer than most: the clauses of a SELECT are translated in one order, which the module shows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from sqlglot import exp

from secagg.query.algebra import (
    Distinct,
    Expression,
    Filter,
    Join,
    Limit,
    Project,
    Ref,
    Relation,
    Sort,
    Union,
)
from secagg.query.declaration import Declaration
from secagg.query.groups import grouped, is_aggregate, outermost, projected
from secagg.query.inference import in_one_domain, near
from secagg.query.joins import Conditions, conjuncts
from secagg.query.places import Text, shown
from secagg.query.scalars import Scalars
from secagg.query.windows import orderable, sort_key, windows

__all__ = ["Selects"]

_CLAUSES: Final = (
    "distinct", "expressions", "from_", "joins", "where", "group", "having", "qualify", "order", "limit", "offset", "with_",
)  # fmt: skip


class Selects:
    """Turns queries into relations, over the tables of a declaration."""

    def __init__(self, query: Text, declaration: Declaration) -> None:
        self._text = query
        self._declaration = declaration
        self._fresh = itertools.count(1)

    def check_names(self, tree: exp.Expr) -> None:
        """Refuse tables that are not declared; sqlglot's qualification would say less."""
        for table in tree.find_all(exp.Table):
            if not isinstance(table.this, exp.Identifier):
                raise self._text.unsupported(table, shown(table.this) if table.this else "this table")
            if table.db or table.catalog:
                raise self._text.unsupported(
                    table, f"a table of the schema {table.db[:40]!r}", "tables stand in the declaration"
                )
            known = {name.lower() for name in self._declaration} | self._ctes(table)
            if table.name.lower() not in known:
                raise self._text.refusal(
                    table, f"there is no table {table.name!r:.80}; {near(table.name, sorted(known))}"
                )

    def _ctes(self, table: exp.Expr) -> set[str]:
        names = set()
        around: exp.Expr | None = table
        while around is not None:
            with_ = around.args.get("with_")
            if with_ is not None:
                if with_.args.get("recursive"):
                    raise self._text.unsupported(with_, "WITH RECURSIVE")
                names |= {cte.alias.lower() for cte in with_.expressions}
            around = around.parent
        return names

    def query(self, node: exp.Expr, ctes: Mapping[str, Relation] | None = None) -> Relation:
        """Return the relation of a SELECT or of a union of them, whose columns have the names of the result."""
        known = dict(ctes or {})
        for cte in node.ctes if isinstance(node, exp.Query) else ():
            self._text.only(cte, ("this", "alias", "materialized"))
            known[cte.alias] = self._renamed(self.query(cte.this, known), cte.args.get("alias"), cte)
        match node:
            case exp.Subquery():
                self._text.only(node, ("this", "alias", "with_", "order", "limit", "offset"))
                inner = self.query(node.this, known)
                return self._cut(
                    node,
                    self._ordered(node, inner, inner, Scalars(self._text, _output(self._text, inner)))[0],
                )
            case exp.Union():
                return self._union(node, known)
            case exp.Select():
                return self._select(node, known)
            case _:
                raise self._text.unsupported(node, node.key.upper())

    # --- unions

    def _union(self, node: exp.Union, ctes: Mapping[str, Relation]) -> Relation:
        self._text.only(node, ("this", "expression", "distinct", "order", "limit", "offset", "with_"))
        left, right = self.query(node.this, ctes), self.query(node.expression, ctes)
        if len(left.columns) != len(right.columns):
            raise self._text.refusal(
                node.expression,
                f"UNION of {len(left.columns)} and {len(right.columns)} columns; expected as many in each",
            )
        lefts: list[tuple[str, Expression]] = []
        rights: list[tuple[str, Expression]] = []
        for a, b in zip(left.columns, right.columns, strict=True):
            with self._text.at(node.expression):
                one, other = in_one_domain((a.ref, b.ref), "UNION")
            lefts.append((a.name, one))
            rights.append((a.name, other))
        made: Relation = Union((projected(left, lefts), projected(right, rights)))
        if node.args.get("distinct"):
            made = Distinct(made)
        return self._cut(
            node, self._ordered(node, made, made, Scalars(self._text, _output(self._text, made)))[0]
        )

    # --- one SELECT

    def _select(self, node: exp.Select, ctes: Mapping[str, Relation]) -> Relation:
        self._text.only(node, _CLAUSES)
        conditions, rows = self._from(node, ctes)
        where = node.args.get("where")
        rows = conditions.filtered(rows) if where is None else self._where(conditions, rows, where, ctes)
        scalars = Scalars(self._text, lambda column: self._column(column, rows, conditions.scope))
        return self._computed(node, rows, scalars)

    def _computed(self, node: exp.Select, rows: Relation, scalars: Scalars) -> Relation:
        having, qualify, group = (node.args.get(name) for name in ("having", "qualify", "group"))
        parts = [
            *node.expressions,
            *(one for one in (having, qualify, node.args.get("order")) if one is not None),
        ]
        aggregates = [one for part in parts for one in outermost(part, is_aggregate)]
        if group is not None or aggregates:
            rows, scalars = grouped(self._text, node, rows, scalars, aggregates)
            if having is not None:
                rows = Filter(rows, self._condition(scalars, having.this))
        elif having is not None:
            raise self._text.refusal(having, "HAVING needs GROUP BY or an aggregate; WHERE filters rows")
        over = [one for part in parts for one in outermost(part, lambda one: isinstance(one, exp.Window))]
        if over:
            rows, scalars = windows(self._text, rows, scalars, over)
        if qualify is not None:
            rows = Filter(rows, self._condition(scalars, qualify.this))
        outputs: list[tuple[str, Expression]] = []
        for one in node.expressions:
            if isinstance(one, exp.Star) or (isinstance(one, exp.Column) and isinstance(one.this, exp.Star)):
                raise self._text.unsupported(one, "* here", "name the columns")
            name = one.alias_or_name
            if isinstance(one.unalias(), exp.Literal) and not name.isidentifier():
                name = f"_col_{len(outputs)}"  # sqlglot calls a constant without AS by its value
            self._text.word(one, name)
            if any(name == other for other, _ in outputs):
                raise self._text.refusal(one, f"two columns are called {name!r:.80}; rename one with AS")
            outputs.append((name, scalars.lowered(one)))
        made = Project(rows, tuple(outputs))
        distinct = node.args.get("distinct")
        if distinct is not None:
            if distinct.args.get("on") is not None:
                raise self._text.unsupported(distinct, "DISTINCT ON", "use ROW_NUMBER and QUALIFY")
            return self._cut(node, self._ordered(node, Distinct(made), None, scalars)[0])
        ordered, hidden = self._ordered(node, made, rows, scalars)
        cut = self._cut(node, ordered)
        return Project(cut, tuple((name, cut[name].ref) for name, _ in outputs)) if hidden else cut

    def _condition(self, scalars: Scalars, node: exp.Expr) -> Expression:
        condition = scalars.lowered(node)
        if condition.domain.kind != "boolean":
            raise self._text.refusal(node, f"expected a condition, and this is {condition.domain.noun}")
        return condition

    # --- FROM, JOIN and WHERE

    def _from(self, node: exp.Select, ctes: Mapping[str, Relation]) -> tuple[Conditions, Relation]:
        from_ = node.args.get("from_")
        if from_ is None:
            raise self._text.refusal(node, "expected FROM with a declared table")
        where, joins = node.args.get("where"), node.args.get("joins") or ()
        plain = [] if where is None else [one for one in conjuncts(where.this) if not _has_subquery(one)]
        conditions = Conditions(self._text, self._column)
        # Before an outer join that keeps a table's rows, as after it; a right join does not keep those before it.
        if all(join.side.upper() != "RIGHT" for join in joins):
            conditions.early(plain)
        conditions.add(*self._source(from_.this, ctes))
        for join in joins:
            self._join(conditions, join, ctes)
        return conditions, conditions.joined(plain)

    def _source(self, node: exp.Expr, ctes: Mapping[str, Relation]) -> tuple[str, Relation]:
        alias = node.alias_or_name
        if not alias:
            raise self._text.refusal(node, "expected a name for the subquery, such as (SELECT ...) AS t")
        if isinstance(node, exp.Subquery):
            self._text.only(node, ("this", "alias"))
            return alias, self._aliased(
                self._renamed(self.query(node.this, ctes), node.args.get("alias"), node), alias
            )
        if not isinstance(node, exp.Table):
            raise self._text.unsupported(node)
        self._text.only(node, ("this", "alias", "db", "catalog"))
        if node.name in ctes:
            return alias, self._aliased(self._renamed(ctes[node.name], node.args.get("alias"), node), alias)
        if node.name not in self._declaration:
            raise self._text.refusal(
                node, f"there is no table {node.name!r:.80}; {near(node.name, self._declaration)}"
            )
        columns = node.args["alias"].args.get("columns") if node.args.get("alias") is not None else None
        if columns:
            raise self._text.unsupported(
                columns[0], "other names for a declared table's columns", "rename them in SELECT"
            )
        return alias, self._declaration[node.name].scan(alias)

    def _renamed(self, rows: Relation, alias: exp.Expr | None, node: exp.Expr) -> Relation:
        """Return a subquery with the columns' names that its alias lists, if it does."""
        names = (
            [one.name for one in alias.args.get("columns") or ()] if isinstance(alias, exp.TableAlias) else []
        )
        if not names:
            return rows
        if len(names) != len(rows.columns):
            raise self._text.refusal(node, f"expected {len(rows.columns)} names of columns, got {len(names)}")
        return Project(rows, tuple((name, one.ref) for name, one in zip(names, rows.columns, strict=True)))

    def _aliased(self, rows: Relation, alias: str) -> Relation:
        return Project(rows, tuple((f"{alias}.{one.name}", one.ref) for one in rows.columns))

    def _join(self, conditions: Conditions, join: exp.Join, ctes: Mapping[str, Relation]) -> None:
        side, kind, on = join.side.upper(), join.kind.upper(), join.args.get("on")
        self._text.only(join, ("this", "side", "kind", "on"))
        if side == "FULL":
            raise self._text.unsupported(join, "FULL JOIN", "UNION ALL of a LEFT JOIN and an anti join")
        alias, rows = self._source(join.this, ctes)
        if side == "" and kind in ("", "INNER", "CROSS"):
            conditions.add(alias, rows)
            conditions.require([] if on is None else conjuncts(on))
            return
        if side in ("SEMI", "ANTI"):
            kind = side
        how: Literal["left", "semi", "anti", "right"]
        if kind in ("SEMI", "ANTI"):
            how = "semi" if kind == "SEMI" else "anti"
        elif side in ("LEFT", "RIGHT"):
            how = "left" if side == "LEFT" else "right"
        else:
            raise self._text.unsupported(join, f"{side} {kind} JOIN".strip())
        if on is None:
            raise self._text.refusal(join, "expected ON with an equality of columns")
        conditions.outer(alias, rows, conjuncts(on), how, join)

    def _where(
        self, conditions: Conditions, rows: Relation, where: exp.Expr, ctes: Mapping[str, Relation]
    ) -> Relation:
        rows = conditions.filtered(rows)
        for one in conjuncts(where.this):
            if _has_subquery(one):
                rows = self._subquery(conditions, rows, one, ctes)
        return rows

    def _subquery(
        self, conditions: Conditions, rows: Relation, node: exp.Expr, ctes: Mapping[str, Relation]
    ) -> Relation:
        """Return the rows for which a condition holds that is EXISTS, IN or NOT of one of them."""
        negated, inner = False, node
        while isinstance(inner, exp.Not | exp.Paren):
            negated ^= isinstance(inner, exp.Not)
            inner = inner.this
        how: Literal["semi", "anti"] = "anti" if negated else "semi"
        number = next(self._fresh)
        if isinstance(inner, exp.In) and isinstance(inner.args.get("query"), exp.Query):
            below = self.query(inner.args["query"].unnest(), ctes)
            if len(below.columns) != 1:
                raise self._text.refusal(
                    inner, f"IN takes a subquery of one column, got {len(below.columns)}"
                )
            value = conditions.lowered(inner.this, rows)
            other = below.columns[0].ref
            if negated and (value.domain.nullable or other.domain.nullable):
                raise self._text.unsupported(
                    inner, "NOT IN with a subquery where a value may be NULL", "write NOT EXISTS"
                )
            pairs: list[tuple[Expression, Expression]] = [(value, other)]
        elif isinstance(inner, exp.Exists):
            below, pairs = self._correlated(conditions, rows, inner, ctes)
        else:
            raise self._text.unsupported(
                node, "a subquery in this condition", "write EXISTS or IN beside AND, or join it"
            )
        return self._keyed_join(inner, rows, below, pairs, how, f"subquery {number}")

    def _keyed_join(
        self,
        node: exp.Expr,
        rows: Relation,
        below: Relation,
        pairs: Sequence[tuple[Expression, Expression]],
        how: Literal["semi", "anti"],
        name: str,
    ) -> Relation:
        with self._text.at(node):
            fitted = [in_one_domain(pair, "eq") for pair in pairs]
        lefts = [(f"{name}.left {i}", one) for i, (one, _) in enumerate(fitted)]
        rights = [(f"{name}.right {i}", other) for i, (_, other) in enumerate(fitted)]
        names = rows.names
        kept: list[tuple[str, Expression]] = [(one.name, one.ref) for one in rows.columns]
        on: list[tuple[str, str]] = []
        for (left, one), (right, _) in zip(lefts, rights, strict=True):
            if isinstance(one, Ref) and one.name in names:
                on.append((one.name, right))
            else:
                kept.append((left, one))
                on.append((left, right))
        left_rows = rows if len(kept) == len(names) else Project(rows, tuple(kept))
        return Join(left_rows, Project(below, tuple(rights)), tuple(on), how)

    def _correlated(
        self, conditions: Conditions, rows: Relation, node: exp.Exists, ctes: Mapping[str, Relation]
    ) -> tuple[Relation, list[tuple[Expression, Expression]]]:
        """Return the rows of a subquery of EXISTS, and the pairs of outer and inner values that have to be equal."""
        select = node.this.unnest() if isinstance(node.this, exp.Subquery) else node.this
        if not isinstance(select, exp.Select):
            raise self._text.unsupported(node, "EXISTS of a UNION")
        self._text.only(select, ("expressions", "from_", "joins", "where", "distinct"))
        where = select.args.get("where")
        own, pairs_of = [], []
        inner = select.copy()
        inner.set("where", None)
        inside, below = self._from(inner, ctes)
        below = inside.filtered(below)
        for one in conjuncts(where.this) if where is not None else ():
            aliases = {column.table for column in one.find_all(exp.Column)}
            if aliases <= inside.aliases:
                own.append(one)
            elif (
                isinstance(one, exp.EQ)
                and all(
                    len({column.table in inside.aliases for column in side.find_all(exp.Column)}) == 1
                    for side in (one.this, one.expression)
                )
                and aliases & inside.aliases
            ):
                pairs_of.append(one)
            else:
                raise self._text.unsupported(
                    one, "this condition in EXISTS", "outer and inner columns meet in equalities"
                )
        if not pairs_of:
            raise self._text.unsupported(node, "EXISTS without an equality of an inner and an outer column")
        for one in own:
            below = (
                self._subquery(inside, below, one, ctes)
                if _has_subquery(one)
                else Filter(below, self._condition(self._over(inside, below), one))
            )
        pairs = []
        for one in pairs_of:
            inner_side, outer_side = one.this, one.expression
            if next(inner_side.find_all(exp.Column)).table not in inside.aliases:
                inner_side, outer_side = outer_side, inner_side
            pairs.append(
                (conditions.lowered(outer_side, rows), self._over(inside, below).lowered(inner_side))
            )
        return below, pairs

    def _over(self, conditions: Conditions, rows: Relation) -> Scalars:
        return Scalars(self._text, lambda column: self._column(column, rows, conditions.scope))

    def _column(self, node: exp.Column, rows: Relation, scope: Mapping[str, Sequence[str]]) -> Expression:
        name, table = node.name, node.table
        if table and table not in scope:
            raise self._text.refusal(node, f"there is no table {table!r:.80} here; {near(table, scope)}")
        holders = [alias for alias in ([table] if table else scope) if name in scope[alias]]
        if not holders:
            known = [column for alias in ([table] if table else scope) for column in scope[alias]]
            where = f" in {table}" if table else ""
            raise self._text.refusal(node, f"there is no column {name!r:.80}{where}; {near(name, known)}")
        if len(holders) > 1:
            raise self._text.refusal(
                node, f"{name!r:.80} is a column of {' and of '.join(holders)}; write {holders[0]}.{name}"
            )
        full = f"{holders[0]}.{name}"
        if full not in rows.names:
            raise self._text.refusal(
                node, f"{full} is no column after a SEMI or ANTI JOIN, which keeps those of the left"
            )
        return rows[full].ref

    # --- ORDER BY and LIMIT

    def _ordered(
        self, node: exp.Expr, made: Relation, rows: Relation | None, scalars: Scalars
    ) -> tuple[Relation, bool]:
        """Return the rows in order, and whether columns were added to order them by.

        Args:
          rows: what the columns were computed of; None where nothing can be added.
        """
        order = node.args.get("order")
        if order is None:
            return made, False
        hidden: list[tuple[str, Expression]] = []
        keys = []
        self._text.only(order, ("expressions",))
        for one in order.expressions:
            self._text.only(one, ("this", "desc", "nulls_first"))
            key = one.this
            if isinstance(key, exp.Column) and not key.table and key.name in made.names:
                name, domain = key.name, made[key.name].domain
            elif isinstance(key, exp.Literal) and key.is_int and 1 <= int(key.name) <= len(made.columns):
                name, domain = made.names[int(key.name) - 1], made.columns[int(key.name) - 1].domain
            else:
                value = scalars.lowered(key)
                same = next((n for n, other in getattr(made, "expressions", ()) if other == value), None)
                if same is None and (rows is None or not isinstance(made, Project)):
                    raise self._text.unsupported(
                        key, "ORDER BY of what is not in SELECT, here", "add it to SELECT"
                    )
                name, domain = same or f"order {len(hidden) + 1}", value.domain
                if same is None:
                    hidden.append((name, value))
            orderable(self._text, key, domain)
            keys.append(sort_key(name, one))
        if hidden and isinstance(made, Project):
            made = Project(made.input, (*made.expressions, *hidden))
        return Sort(made, tuple(keys)), bool(hidden)

    def _cut(self, node: exp.Expr, rows: Relation) -> Relation:
        limit, offset = node.args.get("limit"), node.args.get("offset")
        if limit is None:
            if offset is not None:
                raise self._text.unsupported(offset, "OFFSET without LIMIT")
            return rows
        if not isinstance(limit, exp.Limit):
            raise self._text.unsupported(limit, "FETCH", "write LIMIT")
        counts = [0 if one is None else self._count(one) for one in (limit, offset)]
        if not isinstance(rows, Sort):
            raise self._text.refusal(limit, "LIMIT without ORDER BY takes any rows; add ORDER BY")
        return Limit(rows, counts[0], counts[1])

    def _count(self, node: exp.Expr) -> int:
        self._text.only(node, ("expression",))
        value = node.expression
        if isinstance(value, exp.Literal) and value.is_int:
            return int(value.name)
        raise self._text.refusal(node, f"{node.key.upper()} takes a constant whole number from 0")


def _output(query: Text, rows: Relation) -> Callable[[exp.Column], Expression]:
    def column(node: exp.Column) -> Expression:
        if node.name not in rows.names:
            raise query.refusal(
                node, f"there is no column {node.name!r:.80} in the result; {near(node.name, rows.names)}"
            )
        return rows[node.name].ref

    return column


def _has_subquery(node: exp.Expr) -> bool:
    return node.find(exp.Query) is not None
