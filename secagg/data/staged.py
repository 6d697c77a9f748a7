"""Rows that a database gave, brought into DuckDB, where they are checked as those of a file are.

Each value is kept as its text, with the type of its column beside it. So decimals lose no digit, a number that is not
finite is a bad row like any other, and a column of a database without types, such as SQLite's, has the type of its values.
"""

# ruff: noqa: S608  SQL is put together here from numbered names.

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import duckdb
import numpy as np
from numpy.typing import NDArray

from secagg.data.sources import Column, Key, Source, connect, quote_name
from secagg.errors import DataError

__all__ = ["copied", "staged"]

# DuckDB's name of what a Python value is, and its text.
_KINDS: Final[Mapping[type, tuple[str, Callable[[Any], str]]]] = {
    str: ("VARCHAR", str),
    int: ("BIGINT", str),
    bool: ("BOOLEAN", lambda value: "true" if value else "false"),
    float: ("DOUBLE", repr),
    decimal.Decimal: ("DECIMAL", lambda value: format(value, "f")),
    datetime.datetime: ("TIMESTAMP", lambda value: _moment(value)),
    datetime.date: ("DATE", datetime.date.isoformat),
    datetime.time: ("VARCHAR", datetime.time.isoformat),
    uuid.UUID: ("UUID", str),
}
_ZONED: Final = "TIMESTAMP WITH TIME ZONE"
# Kinds that stand together in a column, and what it is then.
_TOGETHER: Final = {
    frozenset({"BIGINT", "DECIMAL"}): "DECIMAL",
    frozenset({"BIGINT", "DOUBLE"}): "DOUBLE",
    frozenset({"BIGINT", "VARCHAR"}): "VARCHAR",
}
_CAST: Final = {"DATE", "TIMESTAMP", _ZONED}


def staged(
    name: str, names: Sequence[str], batches: Iterable[Sequence[Sequence[Any]]], *, key: Sequence[str] = ()
) -> Source:
    """Return a table of the rows; its connection holds them.

    Args:
      name: the table, in messages.
      names: the columns, in the order of the rows' values.
      batches: the rows.
      key: the columns by whose values a row is named.

    Raises:
      DataError: a column holds values of several types, or of one that no field takes; or they do not fit in memory.
    """
    connection = connect()
    try:
        # Objects are texts; DuckDB would look at some of them and guess.
        connection.execute("SET pandas_analyze_sample = 0")
        places = [f"c{i}" for i in range(len(names))]
        connection.execute(f"CREATE TABLE staged ({', '.join(f'{place} VARCHAR' for place in places)})")
        kinds: list[set[str]] = [set() for _ in names]
        for batch in batches:
            columns = zip(*batch, strict=True)
            texts = {
                place: _texts(column, found, f"{name}: column {own!r}")
                for place, own, column, found in zip(places, names, columns, kinds, strict=True)
            }
            connection.register("batch", texts)
            connection.execute("INSERT INTO staged SELECT * FROM batch")
            connection.unregister("batch")
        typed = {
            own: _column(connection, place, _together(found, f"{name}: column {own!r}"))
            for place, own, found in zip(places, names, kinds, strict=True)
        }
    except BaseException as error:
        connection.close()
        if isinstance(error, duckdb.OutOfMemoryException):
            raise DataError(f"{name}: its rows do not fit in memory; read fewer of them by a query") from None
        raise
    return Source(name, connection, "staged", typed, key=Key(tuple(key), tuple(typed[one] for one in key)))


def copied(source: Source, names: Sequence[str], *, key: Sequence[str] = ()) -> Source:
    """Return some columns of a DuckDB relation as a table in memory, which gives its rows in one order.

    Raises:
      DataError: DuckDB cannot read them.
    """
    wanted = list(dict.fromkeys([*names, *key]))
    selected = ", ".join(f"{source.columns[own].sql} AS c{i}" for i, own in enumerate(wanted))
    try:
        source.connection.execute(
            f"CREATE TABLE memory.main.staged AS SELECT {selected or '1'} FROM {source.relation}"
        )
    except duckdb.Error as error:
        raise DataError(
            f"{source.name}: DuckDB cannot read it ({type(error).__name__}); see that the query runs by itself"
        ) from None
    columns = {own: Column(f"c{i}", source.columns[own].type) for i, own in enumerate(wanted)}
    found = Key(tuple(key), tuple(columns[one] for one in key))
    return Source(source.name, source.connection, "memory.main.staged", columns, key=found)


def _moment(value: datetime.datetime) -> str:
    """Return a time as ISO 8601 has it, an instant in UTC: zones of old have offsets of seconds, which no reader knows."""
    return (value if value.tzinfo is None else value.astimezone(datetime.UTC)).isoformat(" ")


def _texts(values: Sequence[Any], kinds: set[str], where: str) -> NDArray[np.object_]:
    """Return a batch of a column as texts, None for NULL, and note of which kinds its values are."""
    types = set(map(type, values)) - {type(None)}
    makers: dict[type, Callable[[Any], str]] = {}
    for of in types:
        known = next((kind for kind in of.__mro__ if kind in _KINDS), None)
        if known is None:
            raise DataError(
                f"{where} holds values of the type {of.__name__}; cast it to text or to a number in a query"
            )
        kind, makers[of] = _KINDS[known]
        if kind == "TIMESTAMP":
            zoned = {getattr(value, "tzinfo", None) is not None for value in values if type(value) is of}
            kinds |= {_ZONED if one else kind for one in zoned}
        else:
            kinds.add(kind)
    texts = np.empty(len(values), object)
    if types == {str}:
        texts[:] = values
    else:
        texts[:] = [None if value is None else makers[type(value)](value) for value in values]
    return texts


def _together(kinds: set[str], where: str) -> str:
    if len(kinds) < 2:
        return next(iter(kinds), "VARCHAR")
    if (found := _TOGETHER.get(frozenset(kinds))) is None:
        raise DataError(
            f"{where} holds values of several types, {', '.join(sorted(kinds))}; cast it in a query"
        )
    return found


def _column(connection: duckdb.DuckDBPyConnection, place: str, kind: str) -> Column:
    if kind == "DECIMAL":
        # As many places as the longest value has: an identifier takes none.
        asked = f"SELECT coalesce(max(length(split_part({place}, '.', 2))), 0) FROM staged"
        ((places,),) = connection.execute(asked).fetchall()
        return Column(place, f"DECIMAL(38,{places})", written=place)
    if kind in _CAST:
        return Column(f"TRY_CAST({quote_name(place)} AS {kind})", kind, written=place)
    return Column(place, kind, written=place)
