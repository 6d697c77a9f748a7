"""SQL to the logical plan: parsed and qualified by sqlglot in DuckDB's dialect, refused by name and place.

Nothing here reads data. What is supported stands in docs/sql.md; every part of a query that is not is refused.
"""

from __future__ import annotations

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError, TokenError
from sqlglot.optimizer.qualify import qualify

from secagg.errors import UsageError
from secagg.query.algebra import Query, Relation
from secagg.query.declaration import Declaration
from secagg.query.inference import near
from secagg.query.places import PlacedError, Text
from secagg.query.selects import Selects

__all__ = ["PlacedError", "plan"]

_LONGEST_QUERY = 1 << 16  # characters
_MOST_RELATIONS = 1000
_DEEPEST = 200  # brackets inside each other, which the parser would meet with recursion


def plan(sql: str, declaration: Declaration) -> Query:
    """Return the plan of a query over declared tables.

    Raises:
      UsageError: the text is not one SELECT, something in it is not supported or does not fit, or a table or column is
        not declared; the message names line and column.
    """
    try:
        root = _root(Text(sql), declaration)
    except RecursionError:
        raise UsageError("the query is nested too deeply") from None
    if _size(root, {}) > _MOST_RELATIONS:
        raise UsageError(
            f"expected a plan of at most {_MOST_RELATIONS} steps; a WITH that is used twice counts twice"
        )
    return Query(root, sql)


def _root(query: Text, declaration: Declaration) -> Relation:
    tree = _parsed(query)
    schema: dict[str, object] = {
        name: dict.fromkeys(table.columns, "INT") for name, table in declaration.items()
    }
    selects = Selects(query, declaration)
    selects.check_names(tree)
    _expand_windows(query, tree)
    try:
        tree = qualify(
            tree, schema=schema, dialect="duckdb", validate_qualify_columns=False, quote_identifiers=False, identify=False
        )  # fmt: skip
    except SqlglotError as error:
        raise UsageError(f"the query cannot be understood: {_first_line(error)}") from None
    return selects.query(tree)


def _size(root: Relation, known: dict[int, int]) -> int:
    """Return how many relations a plan has, those that are used in several places counted in each."""
    if id(root) not in known:
        known[id(root)] = 1 + sum(_size(below, known) for below in root.inputs)
    return known[id(root)]


def _parsed(query: Text) -> exp.Expr:
    sql = query.sql
    if len(sql) > _LONGEST_QUERY:
        raise UsageError(f"expected a query of at most {_LONGEST_QUERY} characters, got {len(sql)}")
    depth = deepest = 0
    for character in sql:
        depth += {"(": 1, ")": -1}.get(character, 0)
        deepest = max(deepest, depth)
    if deepest > _DEEPEST:
        raise UsageError(f"expected at most {_DEEPEST} brackets inside each other, got {deepest}")
    try:
        trees = [tree for tree in sqlglot.parse(sql, read="duckdb") if tree is not None]
    except ParseError as error:
        details = error.errors[0] if error.errors else {}
        place = f"line {details.get('line', 1)}, column {details.get('col', 1)}"
        raise PlacedError(
            f"{place}: this is not SQL: {details.get('description', _first_line(error))}"
        ) from None
    except TokenError as error:
        raise UsageError(f"this is not SQL: {_first_line(error)}") from None
    if len(trees) != 1:
        raise UsageError(f"expected one SELECT, got {len(trees)} statements")
    if not isinstance(trees[0], exp.Query):
        raise query.unsupported(trees[0], f"{trees[0].key.upper()}", "a query is one SELECT")
    for node in trees[0].walk():
        node.comments = None  # equal expressions are found by their texts, of which comments are no part
    return trees[0]


def _expand_windows(query: Text, tree: exp.Expr) -> None:
    """Write out the windows that a SELECT names, in place."""
    for select in tree.find_all(exp.Select):
        named = {one.name.lower(): one for one in select.args.get("windows") or ()}
        for window in select.find_all(exp.Window):
            name = window.args.get("alias")
            if name is None or window.arg_key == "windows" or window.parent_select is not select:
                continue
            if name.name.lower() not in named:
                raise query.refusal(name, f"there is no window {name.name!r:.80}; {near(name.name, named)}")
            found = named[name.name.lower()]
            if (
                found.args.get("alias") is not None
                or window.args.get("partition_by")
                or window.args.get("order")
            ):
                raise query.unsupported(name, "a window that adds to another one")
            for part in ("partition_by", "order", "spec"):
                given = found.args.get(part)
                window.set(
                    part, [one.copy() for one in given] if isinstance(given, list) else given and given.copy()
                )
            window.set("alias", None)
        select.set("windows", None)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
