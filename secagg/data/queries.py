"""CSV inside a query: read as text where the query hands columns on, and refused where it computes with guesses.

DuckDB guesses the types of a CSV file's columns from a sample. A guess drops leading zeros of account numbers,
takes 3.000 for 3, and decides which of two numbers in a date is the month. So a query over CSV is rewritten: each
`read_csv` gets `all_varchar = true`. Types that the author declares (`types`, `columns`) hold.

The rewriting keeps what the query means. It is done where a column with a guessed type goes from the file into the
result as it stands. In WHERE and ON, numbers are cast to the type that was guessed. A column in USING keeps that type
and may not go into the result. Any other use is refused by the column's name: text in place of a number would change
what is computed.
"""

# ruff: noqa: S608  SQL is put together here from DuckDB's own texts of what it has parsed.

from __future__ import annotations

import copy
import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePath
from typing import Any, Final

import duckdb

from secagg.errors import DataError

__all__ = ["csv_as_text"]

_READERS: Final = ("read_csv", "read_csv_auto")
_CSV_NAME: Final = re.compile(r"\.[ct]sv(\.gz|\.zst)?(\?.*)?", re.IGNORECASE)
# They run a query that is given as text.
_HIDING: Final = ("query", "query_table")
# Arguments of read_csv that give columns types or names.
_DECLARING: Final = ("types", "dtypes", "column_types", "columns", "names", "column_names")
_TEMPORAL: Final = ("DATE", "TIME")

Tree = dict[str, Any]  # DuckDB's JSON of a parsed query; what is read of it is equal in DuckDB 1.2 and 2.0
Guesses = Mapping[str, str]  # the guessed types of columns, by their names in lower case


class _Computes(Exception):  # noqa: N818  # never leaves this module
    """The query does more with columns of guessed types than it may."""


def csv_as_text(connection: duckdb.DuckDBPyConnection, query: str, *, name: str) -> str:
    """Return a query that gives text for the CSV columns whose types DuckDB would guess.

    Args:
      connection: where the query binds.
      query: one SELECT that binds.
      name: what the query is called in messages.

    Raises:
      DataError: the query computes with a column whose type is guessed, or hides what it reads.
    """
    tree = _parsed(connection, query)
    if tree["error"]:
        raise DataError(
            f"{name}: DuckDB cannot say what the query reads; expected one SELECT, and a PIVOT with its values (IN ...)"
        )
    if any(_function(node) in _HIDING for node in _nodes(tree)):
        raise DataError(
            f"{name}: query() and query_table() hide what they read; write out what they stand for"
        )
    guesses: dict[str, str] = {}
    for read in _csv_reads(tree):
        guesses |= _guesses(connection, read)
    if not guesses:
        return query
    rewritten = copy.deepcopy(tree)
    try:
        _rewrite(connection, rewritten["statements"][0]["node"])
        text = _text(connection, rewritten)
        connection.execute(f"DESCRIBE {text}").fetchall()
    except (_Computes, duckdb.Error):
        used = _used(tree, guesses, _whole_rows(connection, tree, _csv_reads(tree)))
        if not used and _same_types(connection, tree):
            return query
        used = used or _used({"class": "STAR"}, guesses)
        raise DataError(
            f"{name}: the query computes with CSV columns whose types DuckDB guesses: {', '.join(used)}; a guess drops "
            "leading zeros and reads 3.000 as 3; write read_csv(..., all_varchar = true) in the query, and cast what it "
            "computes with"
        ) from None
    return text


def _parsed(connection: duckdb.DuckDBPyConnection, query: str) -> Tree:
    tree: Tree = json.loads(_asked(connection, "json_serialize_sql", query))
    return tree


def _text(connection: duckdb.DuckDBPyConnection, tree: Tree) -> str:
    return _asked(connection, "json_deserialize_sql", json.dumps(tree))


def _asked(connection: duckdb.DuckDBPyConnection, function: str, text: str) -> str:
    # Fetched to its end: an open result would keep the connection from making a view.
    ((answer,),) = connection.execute(f"SELECT {function}($1)", [text]).fetchall()
    return str(answer)


def _nodes(tree: Any) -> Iterator[Tree]:
    """Yield every object of a tree, the outer ones first."""
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    for child in tree if isinstance(tree, list) else ():
        yield from _nodes(child)


def _function(node: Tree) -> str:
    return str(node["function"]["function_name"]).lower() if node.get("type") == "TABLE_FUNCTION" else ""


def _csv_reads(tree: Tree) -> list[Tree]:
    maps = [node["cte_map"]["map"] for node in _nodes(tree) if "cte_map" in node]
    named = {entry["key"].lower() for entries in maps for entry in entries}
    return [
        node
        for node in _nodes(tree)
        if _function(node) in _READERS
        or (
            node.get("type") == "BASE_TABLE"
            and _CSV_NAME.search(node["table_name"])
            and node["table_name"].lower() not in named
        )
    ]


def _guesses(connection: duckdb.DuckDBPyConnection, read: Tree) -> Guesses:
    """Return the columns whose types are others when the file is read as text."""
    guessed, declared = (
        connection.execute(f"DESCRIBE {_text(connection, _selecting(connection, node))}").fetchall()
        for node in (read, _as_text(connection, read))
    )
    return {
        str(column[0]).lower(): str(column[1])
        for column, text in zip(guessed, declared, strict=True)
        if column[1] != text[1]
    }


def _same_types(connection: duckdb.DuckDBPyConnection, tree: Tree) -> bool:
    """Return whether a query gives the same types when all its CSV is read as text."""
    changed = copy.deepcopy(tree)
    for read in _csv_reads(changed):
        made = _as_text(connection, read)
        read.clear()
        read.update(made)
    try:
        types = [
            connection.execute(f"DESCRIBE {_text(connection, one)}").fetchall() for one in (tree, changed)
        ]
    except duckdb.Error:
        return False
    return types[0] == types[1]


def _selecting(connection: duckdb.DuckDBPyConnection, table: Tree) -> Tree:
    tree = _parsed(connection, "SELECT * FROM nothing")
    tree["statements"][0]["node"]["from_table"] = table
    return tree


def _as_text(connection: duckdb.DuckDBPyConnection, read: Tree, kept: Guesses | None = None) -> Tree:
    """Return the read with `all_varchar = true`, but for columns that keep a type."""
    said = {name.lower() for node in _nodes(read) for name in node.get("column_names", ())}
    if kept and not said.isdisjoint(_DECLARING):
        raise _Computes
    types = ", ".join(f"{_quoted(name)}: {_quoted(kind)}" for name, kind in (kept or {}).items())
    keeping = f", types = {{{types}}}" if types else ""
    asking = _parsed(connection, f"SELECT * FROM read_csv('', all_varchar = true{keeping})")
    made: Tree = asking["statements"][0]["node"]["from_table"]
    arguments = _arguments(made)
    if read["type"] == "BASE_TABLE":
        # The name alone is a read of its own, and its columns go by the file's name without suffixes.
        file = _parsed(connection, f"SELECT * FROM read_csv({_quoted(read['table_name'])})")
        arguments[0] = _arguments(file["statements"][0]["node"]["from_table"])[0]
        made["alias"] = read["alias"] or PurePath(read["table_name"]).name.split(".")[0]
        made["column_name_alias"], made["sample"] = read["column_name_alias"], read["sample"]
        return made
    changed = copy.deepcopy(read)
    own = _arguments(changed)
    own[:] = [argument for argument in own if not _names_all_varchar(argument)] + arguments[1:]
    return changed


def _names_all_varchar(argument: Any) -> bool:
    return any(node.get("column_names") == ["all_varchar"] for node in _nodes(argument))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _arguments(read: Tree) -> list[Any]:
    function = read["function"]
    arguments: list[Any] = function["arguments"] if "arguments" in function else function["children"]
    return arguments


def _rewrite(connection: duckdb.DuckDBPyConnection, node: Tree) -> None:
    """Let a query's CSV be read as text, in place; raises `_Computes` where that would change what it computes."""
    if node["type"] == "SET_OPERATION_NODE":
        if node["setop_type"] != "UNION" or not node["setop_all"] or node["modifiers"]:
            raise _Computes
        for child in filter(None, [node.get("left"), node.get("right"), *node["children"]]):
            _rewrite(connection, child)
        return
    reads = _csv_reads(node)
    if not reads:
        return
    if node["type"] != "SELECT_NODE":
        raise _Computes
    leaves = {id(leaf) for leaf in _leaves(node["from_table"])}
    if any(id(read) not in leaves for read in reads):
        raise _Computes
    guesses = {id(read): _guesses(connection, read) for read in reads}
    joins = [table for table in _nodes(node["from_table"]) if table.get("type") == "JOIN"]
    joining = {name.lower() for join in joins for name in join["using_columns"]}
    every = {name: kind for guessed in guesses.values() for name, kind in guessed.items()}
    rows = _whole_rows(connection, node, reads)
    _check_passes(node, every, joining, rows)
    if _renamed(connection, node, every, reads):
        raise _Computes
    own = {name: kind for name, kind in every.items() if name not in joining}
    names = {_alias(read) for read in reads}
    for part in (node, *joins):
        key = "condition" if part.get("type") == "JOIN" else "where_clause"
        if not rows.isdisjoint(_bare_names(part[key])):
            raise _Computes
        part[key] = _cast(connection, part[key], own, names)

    def replaced(table: Tree) -> Tree:
        if table.get("type") == "JOIN":
            return table | {side: replaced(table[side]) for side in ("left", "right")}
        kept = {name: kind for name, kind in guesses.get(id(table), {}).items() if name in joining}
        return _as_text(connection, table, kept) if id(table) in guesses else table

    node["from_table"] = replaced(node["from_table"])


def _leaves(table: Tree) -> list[Tree]:
    """Return the tables that a FROM joins."""
    if table["type"] == "JOIN":
        if table["ref_type"] == "NATURAL":
            raise _Computes
        return _leaves(table["left"]) + _leaves(table["right"])
    return [table]


def _alias(read: Tree) -> str:
    """Return the name by which a query calls a table, in lower case."""
    if read["alias"]:
        return str(read["alias"]).lower()
    if function := _function(read):
        return function
    return PurePath(read.get("table_name", "")).name.split(".")[0].lower()


def _whole_rows(connection: duckdb.DuckDBPyConnection, tree: Any, reads: Collection[Tree]) -> set[str]:
    """Return the names by which a query takes whole rows of these tables."""
    return _no_columns(connection, _bare_names(tree) & {_alias(read) for read in reads}, reads)


def _renamed(
    connection: duckdb.DuckDBPyConnection, node: Tree, guesses: Guesses, reads: Collection[Tree]
) -> set[str]:
    """Return the names that a SELECT gives to guessed columns and by which it filters."""
    given = {item["alias"].lower() for item in node["select_list"] if _used(item, guesses)}
    return _no_columns(connection, _bare_names(node["where_clause"]) & given, reads)


def _no_columns(connection: duckdb.DuckDBPyConnection, names: set[str], reads: Collection[Tree]) -> set[str]:
    """Return the names that no column of these tables has; one that a column has too is the column's."""
    for read in reads if names else ():
        described = connection.execute(
            f"DESCRIBE {_text(connection, _selecting(connection, read))}"
        ).fetchall()
        names = names - {str(column[0]).lower() for column in described}
    return names


def _bare_names(tree: Any) -> set[str]:
    """Return the names that a part of a query uses without a table's name in front."""
    names = [node["column_names"] for node in _nodes(tree) if node.get("class") == "COLUMN_REF"]
    return {name[0].lower() for name in names if len(name) == 1}


def _check_passes(node: Tree, guesses: Guesses, joining: Collection[str], rows: set[str]) -> None:
    """Refuse a SELECT that does more with guessed columns than to hand them on, to filter and to join by them.

    Args:
      joining: columns that stand in USING.
      rows: names that stand for whole rows.

    Columns that stand in USING keep the guessed type, so that they may not be handed on.
    """
    groups = [node["group_expressions"], node["group_sets"], node["having"], node["qualify"]]
    modifiers = {modifier["type"] for modifier in node["modifiers"]}
    # With a limit, the order decides which rows there are.
    if (
        any(groups)
        or node["aggregate_handling"] != "STANDARD_HANDLING"
        or not (modifiers <= {"ORDER_MODIFIER"} or modifiers <= {"LIMIT_MODIFIER"})
        or any(child.get("class") == "SUBQUERY" for child in _nodes(node))
    ):
        raise _Computes
    for item in node["select_list"]:
        plain_star = item["class"] == "STAR" and not (item["columns"] or item["expr"] or item["replace_list"])
        handed_on = item["class"] == "COLUMN_REF" or plain_star
        kept = {name: kind for name, kind in guesses.items() if name in joining}
        if _used(item, kept if handed_on else guesses) or not rows.isdisjoint(_bare_names(item)):
            raise _Computes


def _used(tree: Tree, guesses: Guesses, rows: Collection[str] = ()) -> list[str]:
    """Return the guessed columns, and the types, that a part of a query names or takes with a star or a whole row."""
    names = set() if _bare_names(tree).isdisjoint(rows) else set(guesses)
    for node in _nodes(tree):
        if node.get("class") == "STAR":
            names |= guesses.keys()
        names |= {part.lower() for part in node.get("column_names", ())}
        names |= {part.lower() for part in node.get("using_columns", ())}
    return [f"{name} ({kind})" for name, kind in guesses.items() if name in names]


def _cast(connection: duckdb.DuckDBPyConnection, tree: Any, guesses: Guesses, tables: Collection[str]) -> Any:
    """Return a condition in which columns of these tables have the types that were guessed."""
    if isinstance(tree, list):
        return [_cast(connection, child, guesses, tables) for child in tree]
    if not isinstance(tree, dict):
        return tree
    if tree.get("class") != "COLUMN_REF":
        return {key: _cast(connection, child, guesses, tables) for key, child in tree.items()}
    *table, column = (name.lower() for name in tree["column_names"])
    kind = guesses.get(column)
    if kind is None or (table and table[-1] not in tables):
        return tree
    if kind.startswith(_TEMPORAL):
        raise _Computes  # the guess has a format of its own, which a cast does not know
    cast: Tree = _parsed(connection, f"SELECT CAST(nothing AS {kind})")["statements"][0]["node"][
        "select_list"
    ][0]
    return cast | {"child": tree}
