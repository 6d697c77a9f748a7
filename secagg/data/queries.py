"""CSV inside a query: refused where DuckDB would guess the types of its columns.

DuckDB guesses the types of a CSV file's columns from a sample. A guess drops leading zeros of account numbers,
takes 3.000 for 3, and decides which of two numbers in a date is the month. So each column of each `read_csv` has a
type that the author of the query declares: all of them are text (`all_varchar = true`), or `types` or `columns` say
what they are. Nothing in the query is changed.
"""

# ruff: noqa: S608  SQL is put together here from DuckDB's own texts of what it has parsed.

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any, Final

import duckdb

from secagg.errors import DataError

__all__ = ["check_csv_is_typed"]

_READERS: Final = ("read_csv", "read_csv_auto")
_CSV_NAME: Final = re.compile(r"\.[ct]sv(\.gz|\.zst)?(\?.*)?$", re.IGNORECASE)
# They run a query that is given as text.
_HIDING: Final = ("query", "query_table", "json_execute_serialized_sql")

Tree = dict[str, Any]  # DuckDB's JSON of a parsed query; what is read of it is equal in DuckDB 1.2 and 2.0


def check_csv_is_typed(connection: duckdb.DuckDBPyConnection, query: str, *, name: str) -> None:
    """Refuse a query with CSV columns whose types DuckDB would guess.

    Args:
      connection: where the query binds.
      query: one SELECT that binds.
      name: what the query is called in messages.

    Raises:
      DataError: a column's type would be guessed, or the query hides what it reads.
    """
    tree = _parsed(connection, query)
    if tree["error"]:
        raise DataError(
            f"{name}: DuckDB cannot say what the query reads; expected one SELECT, and a PIVOT with its values (IN ...)"
        )
    if hiding := next((_function(node) for node in _nodes(tree) if _function(node) in _HIDING), ""):
        raise DataError(f"{name}: {hiding}() hides what it reads; write out what it stands for")
    guessed = dict.fromkeys(
        column for node in _nodes(tree) if _reads_csv(node) for column in _guessed(connection, node)
    )
    if guessed:
        raise DataError(
            f"{name}: the query reads CSV columns whose types DuckDB guesses: {', '.join(guessed)}; a guess drops leading "
            "zeros and reads 3.000 as 3; write read_csv('FILE', all_varchar = true) in the query and cast what it computes "
            "with, or declare types = {'COLUMN': 'TYPE'}"
        )


def _parsed(connection: duckdb.DuckDBPyConnection, query: str) -> Tree:
    tree: Tree = json.loads(_asked(connection, "json_serialize_sql", query))
    return tree


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


def _reads_csv(node: Tree) -> bool:
    return _function(node) in _READERS or (
        node.get("type") == "BASE_TABLE" and _CSV_NAME.search(node["table_name"]) is not None
    )


def _guessed(connection: duckdb.DuckDBPyConnection, read: Tree) -> list[str]:
    """Return the columns, and the types, that are others when the file is read as text."""
    try:
        guessed, as_text = (_described(connection, one) for one in (read, _as_text(connection, read)))
    except duckdb.IOException:
        if read["type"] == "BASE_TABLE":
            return []  # the query binds, and there is no such file: a part of the query is called so
        raise
    return [
        f"{name} ({kind})" for (name, kind), text in zip(guessed, as_text, strict=True) if kind != text[1]
    ]


def _described(connection: duckdb.DuckDBPyConnection, table: Tree) -> list[tuple[str, str]]:
    selecting = _parsed(connection, "SELECT * FROM nothing")
    selecting["statements"][0]["node"]["from_table"] = table
    text = _asked(connection, "json_deserialize_sql", json.dumps(selecting))
    return [(str(row[0]), str(row[1])) for row in connection.execute(f"DESCRIBE {text}").fetchall()]


def _as_text(connection: duckdb.DuckDBPyConnection, read: Tree) -> Tree:
    """Return a read with `all_varchar = true`; types that it declares hold."""
    file = read["table_name"].replace("'", "''") if read["type"] == "BASE_TABLE" else ""
    asking = _parsed(connection, f"SELECT * FROM read_csv('{file}', all_varchar = true)")
    made: Tree = asking["statements"][0]["node"]["from_table"]
    if read["type"] == "BASE_TABLE":
        return made
    changed = copy.deepcopy(read)
    own = _arguments(changed)
    own[:] = [argument for argument in own if not _names_all_varchar(argument)] + _arguments(made)[1:]
    return changed


def _names_all_varchar(argument: Any) -> bool:
    return any(node.get("column_names") == ["all_varchar"] for node in _nodes(argument))


def _arguments(read: Tree) -> list[Any]:
    function = read["function"]
    arguments: list[Any] = function["arguments"] if "arguments" in function else function["children"]
    return arguments
