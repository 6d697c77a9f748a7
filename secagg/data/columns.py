"""Which columns of a table are which field of its schema.

An identifier may be spread over several columns, as a bank's number and an account's; its texts are joined as
`query.identifier_rules` says. A time may be spread over two, the date and the time of day. Case does not tell columns
apart: a header that holds a name twice, in whatever case, is refused where that name is used. The formats that a
schema knows by name are recognised from a table's header.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from secagg.errors import DataError, UsageError
from secagg.query.schema import Format, Identifier, Schema, Time

__all__ = ["ColumnMap", "parse_columns", "resolve_columns"]

ColumnMap: TypeAlias = Mapping[str, tuple[str, ...]]


def parse_columns(pairs: Iterable[str], schema: Schema, *, base: ColumnMap | None = None) -> ColumnMap:
    """Read `field=column` pairs into a mapping.

    Args:
      pairs: such as `beneficiary=To Account`. An identifier named several times is joined from its columns
        in the order given. The column's name is what follows the first "=", to the letter.
      base: the mapping that holds for the fields not named; by default the fields' own names.

    Raises:
      UsageError: a pair without "=", an unknown field, an empty column, a number named twice, or a time three times.
    """
    named: dict[str, list[str]] = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        field = field.strip()
        if not equals or not column:
            raise UsageError(f"a column mapping reads field=column, such as amount=value; got {pair!r}")
        if field not in schema:
            raise UsageError(
                f"there is no field {field!r} in a column mapping; the fields are {', '.join(schema)}"
            )
        named.setdefault(field, []).append(column)
    changed = {field: tuple(columns) for field, columns in named.items()}
    _check_numbers(changed, schema)
    return {**schema.own_format.columns, **(base or {}), **changed}


def _check_numbers(columns: ColumnMap, schema: Schema) -> None:
    for field, names in columns.items():
        if isinstance(schema[field], Identifier):
            continue
        two = isinstance(schema[field], Time)
        if len(names) > 1 + two:
            most = "one column, or a date and a time of day" if two else "one column"
            raise UsageError(f"{field} is {most}, but the mapping names {len(names)} for it")


def resolve_columns(
    header: Sequence[str],
    mapping: ColumnMap | str | None,
    schema: Schema,
    *,
    table: str,
    written: Sequence[str] | None = None,
) -> ColumnMap:
    """Decide which columns of a table to read.

    Args:
      header: the table's column names, each once.
      mapping: the columns of each field, the name of a known format, or None to recognise a format from the header.
      schema: the fields, and the formats that are known.
      table: what the table is called in messages.
      written: the names as the table has them, which may hold one several times; by default the header.

    Raises:
      UsageError: a mapping that has other fields than the schema, or too many columns for one.
      DataError: an unknown format, a column that the table does not have or has several times (in whatever case), one
        column for several fields, or no format that fits.
    """
    columns = _resolved(header, mapping, schema, table)
    _check_once(columns, tuple(header), tuple(header if written is None else written), table)
    _check_apart(columns, table)
    return columns


def _resolved(
    header: Sequence[str], mapping: ColumnMap | str | None, schema: Schema, table: str
) -> ColumnMap:
    known = (schema.own_format, *schema.formats)
    if mapping is None:
        for candidate in known:
            if _fits(candidate, header):
                return _in_header(candidate.columns, header)
        for candidate in known:
            found = {name: _found(name, header) for name in _names(candidate.columns)}
            if all(found.values()):
                _refuse_several(found, table)
        unnamed = [
            field for field, names in schema.own_format.columns.items() if not _found(names[0], header)
        ]
        options = " ".join(f"--map {field}=COLUMN" for field in unnamed)
        own, *others = known
        formats = f"{own.name} is {', '.join(_names(own.columns))}"
        formats += f"; others are {', '.join(one.name for one in others)}" if others else ""
        raise DataError(
            f"{table}: {_describe(header)}, which is no known format ({formats}); "
            f"{_nearest(others, header)}say which column is which: {options}"
        )
    if isinstance(mapping, str):
        named = next((candidate for candidate in known if candidate.name == mapping), None)
        if named is None:
            raise DataError(
                f"{table}: there is no format {mapping!r} for {', '.join(schema)}; known are {_list(known)}"
            )
        columns = named.columns
    else:
        columns = mapping
        if columns.keys() != schema.keys() or not all(columns.values()):
            raise UsageError(f"expected columns for {', '.join(schema)}, got some for {', '.join(columns)}")
        _check_numbers(columns, schema)
    found = {name: _found(name, header) for name in _names(columns)}
    _refuse_several(found, table)
    missing = [name for name, columns_found in found.items() if not columns_found]
    if missing:
        field = next(field for field, names in columns.items() if missing[0] in names)
        raise DataError(
            f"{table}: there is no column {missing[0]!r} for {field}; {_describe(header)}; "
            f"say which one it is: --map {field}=COLUMN"
        )
    return _in_header(columns, header)


def _nearest(known: Sequence[Format], header: Sequence[str]) -> str:
    """Return which format lacks one column alone, if one does."""
    for candidate in known:
        missing = [name for name in _names(candidate.columns) if not _found(name, header)]
        if len(missing) == 1:
            return f"{candidate.name} lacks {missing[0]!r} alone; "
    return ""


def _fits(known: Format, header: Sequence[str]) -> bool:
    """Return whether a table with this header has this format, in whatever case."""
    if any(len(_found(name, header)) != 1 for name in _names(known.columns)):
        return False
    places = [header.index(_found(column, header)[0]) for column in known.adjacent]
    return all(after == before + 1 for before, after in itertools.pairwise(places))


def _found(name: str, header: Sequence[str]) -> list[str]:
    """Return the columns of this name, in whatever case."""
    return [column for column in header if column.casefold() == name.casefold()]


def _refuse_several(found: Mapping[str, Sequence[str]], table: str) -> None:
    for name, columns in found.items():
        if len(columns) > 1:
            raise DataError(
                f"{table}: {name!r} can be each of the columns {', '.join(columns)}, which differ in case alone; "
                "rename those that are not meant"
            )


def _check_once(columns: ColumnMap, header: tuple[str, ...], written: tuple[str, ...], table: str) -> None:
    """Refuse a column whose name the table holds again, unless the mapping names each of them."""
    used = set(_names(columns))
    for name in _names(columns):
        twins = [own for own, raw in zip(header, written, strict=True) if raw == name]
        if len(twins) > 1 and not used.issuperset(twins):
            raise DataError(
                f"{table}: {len(twins)} columns are called {name!r}; rename those that are not meant"
            )


def _check_apart(columns: ColumnMap, table: str) -> None:
    fields: dict[tuple[str, ...], str] = {}
    for field, names in columns.items():
        if names in fields:
            raise DataError(
                f"{table}: {fields[names]} and {field} are both read from {', '.join(map(repr, names))}; "
                f"say another column for one: --map {field}=COLUMN"
            )
        fields[names] = field


def _in_header(columns: ColumnMap, header: Sequence[str]) -> ColumnMap:
    """Return the columns as the header spells them."""
    return {field: tuple(_found(name, header)[0] for name in names) for field, names in columns.items()}


def _names(columns: ColumnMap) -> tuple[str, ...]:
    return tuple(name for names in columns.values() for name in names)


def _list(known: Sequence[Format]) -> str:
    return ", ".join(f"{one.name}: {', '.join(_names(one.columns))}" for one in known)


def _describe(header: Sequence[str]) -> str:
    # A table without a header would have its first row, which is somebody's, printed as its column names.
    if any(_is_number(name) for name in header):
        return "its first line looks like data, and column names are expected there"
    if "" in header:
        return (
            f"its columns are {', '.join(name or '(no name)' for name in header)}; if the names stand on a later line, "
            "remove what stands above them"
        )
    if len(header) == 1 and (held := [mark for mark in ";|\t," if mark in header[0]]):
        written = "tab" if held[0] == "\t" else f"'{held[0]}'"
        return (
            f"its only column is {header[0]} (if columns lie between other characters: --delimiter {written})"
        )
    return f"its columns are {', '.join(header)}"


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
