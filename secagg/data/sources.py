"""Open a table where it lives: CSV, Parquet, a DuckDB query over either, or what a source file declares.

Every source becomes a relation on an in-memory DuckDB connection that loads no extension, sees no Python
variable and spills nothing to disk. A file's connection can open that file and nothing else; a query is
the caller's own SQL and may read whatever its author may read.

How CSV is read, and why in two ways at once, is said in `csv_files`.
"""

# ruff: noqa: S608  SQL is put together here from quoted names and literals; the caller's query is his own.

from __future__ import annotations

import contextlib
import glob
import gzip
import hashlib
import itertools
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import duckdb

from secagg.data.csv_files import CsvFile
from secagg.data.dialect import Dialect
from secagg.data.queries import check_csv_is_typed
from secagg.errors import DataError
from secagg.printable import printable

__all__ = ["Column", "Declared", "Key", "Place", "Source", "find_sources", "is_query", "open_source"]

_SUFFIXES = (
    ".csv, .tsv, .txt (each also with .gz, .bz2, .xz, .zip), .zip, .parquet, .sql, or a text after duckdb:"
)
_PACKINGS = ("", ".gz", ".bz2", ".xz", ".zip")
_TEXT_KINDS = {f"{kind}{packing}" for kind in (".csv", ".tsv", ".txt") for packing in _PACKINGS} | {".zip"}
_SPREADSHEETS = {".xlsx", ".xls", ".xlsm", ".ods", ".numbers"}
_DATABASES = {".duckdb", ".ddb", ".db", ".sqlite", ".sqlite3"}
_WILDCARDS = frozenset("*?[")
_LONGEST_KEY = 60


@dataclass(frozen=True, slots=True)
class Column:
    """A column's SQL expression and its DuckDB type.

    Attributes:
      written: the SQL of its text, where that stands in the relation beside the type.
    """

    sql: str
    type: str
    written: str = ""

    @property
    def text(self) -> str:
        """Return the SQL of the column's value as text."""
        if self.written:
            return self.written
        return self.sql if self.type == "VARCHAR" else f"CAST({self.sql} AS VARCHAR)"


@dataclass(frozen=True, slots=True)
class Key:
    """The columns by whose values a row is named in messages; none where rows are named by line or number."""

    names: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """An opened table: a relation on a connection, its columns in order, and its file where that is CSV.

    Attributes:
      load: where the rows are still in a database: returns the table with the columns of these names.
      key: by what rows are named.
    """

    name: str
    connection: duckdb.DuckDBPyConnection
    relation: str
    columns: dict[str, Column]
    csv_file: CsvFile | None = None
    load: Callable[[Sequence[str]], Source] | None = field(repr=False, default=None)
    key: Key = Key()

    @property
    def written_header(self) -> tuple[str, ...]:
        """Return the columns' names as the table has them; in a CSV file one may stand there several times."""
        return tuple(self.columns if self.csv_file is None else self.csv_file.header)

    def loaded(self, names: Sequence[str]) -> Source:
        """Return the table with its rows, of which these columns are read; close the one that is returned, too.

        Raises:
          DataError: the database does not give them.
        """
        return self if self.load is None else self.load(names)

    def keys_of(self, rows: Sequence[int]) -> list[str]:
        """Return by their keys what rows are called, by their places in the relation."""
        texts = ", ".join(f"{column.text} AS k{i}" for i, column in enumerate(self.key.columns))
        places = ", ".join(map(str, rows))
        found = self.connection.execute(
            f"SELECT rowid, {texts} FROM {self.relation} WHERE rowid IN ({places})"
        ).fetchall()
        named = {place: _named(self.key.names, values) for place, *values in found}
        return [named.get(row, f"row {row + 1}") for row in rows]

    def described(self) -> str:
        """Return the file's name and format."""
        if self.csv_file is None:
            return f"{self.name}: typed columns"
        packed = f", {self.csv_file.packing}" if self.csv_file.packing else ""
        return f"{self.name}: CSV in {self.csv_file.encoding}, columns between {self.csv_file.delimiter!r}{packed}"

    def close(self) -> None:
        """Close the connection, and give back the memory of a file that was recoded."""
        self.connection.close()
        if self.csv_file is not None:
            self.csv_file.close()


class Declared(Protocol):
    """A table that an owner's source file declares, such as one of a database."""

    @property
    def name(self) -> str:
        """Return what messages call it."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the files that hold it."""

    @property
    def described(self) -> str:
        """Return what a run record says of where it is."""

    def open(self) -> Source:
        """Return the table with its columns; `Source.loaded` brings the rows."""

    def first(self, names: Sequence[str], limit: int) -> Source:
        """Return so many rows of these columns."""


Place: TypeAlias = str | Path | Declared


def find_sources(sources: Place | Sequence[Place]) -> list[Place]:
    """Return each source that is named, and each file that a glob stands for, in the order of its name.

    Raises:
      DataError: there is no source, or no file that a glob stands for. Or a file is named twice or is a copy of
        another, and its rows would count twice.
    """
    found: list[Place] = []
    for source in sources if isinstance(sources, Sequence) and not isinstance(sources, str) else [sources]:
        if not isinstance(source, str | Path):
            found.append(source)
            continue
        text = str(source)
        if text.startswith("duckdb:") or not _WILDCARDS & set(text) or Path(text).exists():
            found.append(source)
            continue
        matches = sorted(filter(os.path.isfile, glob.glob(text, recursive=True)))  # noqa: PTH207  # takes globs with a root
        if not matches:
            raise DataError(f"{text}: no file has such a name")
        found += matches
    seen: set[Any] = set()
    files = [Path(source) for source in found if isinstance(source, str | Path) and not is_query(source)]
    for source in found:
        place = (
            str(Path(source).resolve()) if isinstance(source, str | Path) and not is_query(source) else source
        )
        if place in seen:
            name = source if isinstance(source, str | Path) else source.name
            raise DataError(f"{name}: this table is named twice, and its rows would count twice")
        seen.add(place)
    if not found:
        raise DataError("at least one table is expected, got none")
    _refuse_copies(files)
    return found


def is_query(source: str | Path) -> bool:
    """Return whether a source is a SELECT."""
    return str(source).startswith("duckdb:")


def _refuse_copies(paths: Sequence[Path]) -> None:
    by_size: dict[int, list[Path]] = {}
    for path in paths:
        # What is wrong with a file itself is said where it is opened.
        with contextlib.suppress(OSError):
            if path.is_file():
                by_size.setdefault(path.stat().st_size, []).append(path)
    first: dict[bytes, Path] = {}
    for path in itertools.chain.from_iterable(alike for alike in by_size.values() if len(alike) > 1):
        with contextlib.suppress(OSError, EOFError, zlib.error):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
            other = first.setdefault(digest, path)
            if other != path and _has_rows(path):
                raise DataError(
                    f"{path}: its content is that of {other}, and its rows would count twice; leave one of them out, "
                    "or export the one that is wrong anew"
                )


def _named(names: Sequence[str], values: Sequence[str | None]) -> str:
    """Return what a row is called: `id 4711`; a long value is cut."""
    shown = ("nothing" if value is None else printable(value, _LONGEST_KEY) for value in values)
    return ", ".join(
        f"{printable(name, _LONGEST_KEY)} {value}" for name, value in zip(names, shown, strict=True)
    )


def _has_rows(path: Path) -> bool:
    """Return whether a file holds more than a header; days without rows have equal files."""
    if path.suffix.lower() in (".parquet", ".sql", ".bz2", ".xz", ".zip"):
        return True
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if zipped else path.open("rb") as lines:
        written = (line.strip(b"\0\r\n\t ") for line in lines)
        return len(list(itertools.islice((1 for line in written if line and line[:4] != b"sep="), 2))) > 1


def open_source(source: Place, dialect: Dialect | None = None) -> Source:
    """Open a table for one scan.

    Args:
      source: the path of a .csv, .tsv or .txt file (each also packed), of a .parquet file, or of a .sql file with one
        SELECT. Or a SELECT after `duckdb:`. Paths in a query start from the working directory. A CSV file inside a query
        is read by DuckDB's own rules, with types that the query declares, see `queries`. There `parallel = false` keeps
        it from losing rows beside a malformed one. Or what a source file declares.
      dialect: how a CSV file is written.

    Raises:
      DataError: there is no such file, it cannot be opened, it is empty, or its suffix is not known.
        Or the query is not one SELECT, names what is not there, or reads CSV with types that DuckDB guesses.
    """
    if not isinstance(source, str | Path):
        return source.open()
    if isinstance(source, str) and source.startswith("duckdb:"):
        return _open_query("query", source.removeprefix("duckdb:"))
    path = Path(source)
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    kind = suffixes[-1] if suffixes else ""
    if kind in _PACKINGS and len(suffixes) == 2 and "".join(suffixes) in _TEXT_KINDS:
        kind = "".join(suffixes)
    if kind not in _TEXT_KINDS | {".parquet", ".sql"}:
        spreadsheet = "; export a spreadsheet as CSV" if kind in _SPREADSHEETS else ""
        if kind in _DATABASES:
            spreadsheet = "; declare a table of a database in a source file (sources.toml)"
        raise DataError(
            f"{path}: a table is expected whose name ends in {_SUFFIXES}; got {kind or 'none'!r}{spreadsheet}"
        )
    if not path.exists():
        raise DataError(
            f"{path}: there is no such file; for several files, name each, or use a glob such as 2026-*.csv"
        )
    if not path.is_file():
        raise DataError(f"{path}: a file is expected, and this is none")
    if kind == ".sql":
        try:
            query = path.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: the query cannot be read ({type(error).__name__})") from None
        return _open_query(str(path), query.strip().removeprefix("duckdb:"))
    if _WILDCARDS & set(str(path.resolve())):
        # DuckDB would read every file that the name matches as a glob.
        raise DataError(f"{path}: the characters * ? [ cannot be in the path of a table; rename it")
    return _open_parquet(path) if kind == ".parquet" else _open_csv(path, dialect or Dialect())


def _open_query(name: str, query: str) -> Source:
    connection = connect()
    try:
        only_select(connection, query, name=name)
        names = connection.sql(query).columns
        twice = next((column for column in names if names.count(column) > 1), None)
        if twice is not None:
            raise DataError(f"{name}: two columns are called {twice!r}; rename one in the query (AS)")
        check_csv_is_typed(connection, query, name=name)
        connection.sql(query).create_view("source")
        return Source(name, connection, "source", typed_columns(connection, "source"))
    except (
        duckdb.ParserException,
        duckdb.BinderException,
        duckdb.CatalogException,
        duckdb.IOException,
    ) as error:
        # These four speak of the query and of files; what else DuckDB says may quote a row's values.
        raise DataError(f"{name}: {_first_line(error)}") from None
    except duckdb.Error as error:
        raise DataError(f"{name}: DuckDB refuses the query ({type(error).__name__})") from None


def only_select(connection: duckdb.DuckDBPyConnection, query: str, *, name: str) -> None:
    """Raise `DataError` where a query is not one SELECT, and DuckDB's own error where it is no SQL."""
    statements = connection.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise DataError(f"{name}: one SELECT is expected; got {len(statements)} statements, or another kind")


def _open_parquet(path: Path) -> Source:
    connection = connect(str(path.resolve()))
    relation = f"read_parquet({quote_text(str(path.resolve()))})"
    try:
        return Source(str(path), connection, relation, typed_columns(connection, relation))
    except duckdb.Error as error:
        raise DataError(f"{path}: it cannot be read as Parquet ({type(error).__name__})") from None


def typed_columns(connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, Column]:
    """Return the columns of a relation with their types."""
    described = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    return {str(row[0]): Column(quote_name(str(row[0])), str(row[1])) for row in described}


def _open_csv(path: Path, dialect: Dialect) -> Source:
    csv_file = CsvFile(path, dialect)
    header, delimiter = csv_file.header, csv_file.delimiter
    fields = ", ".join(f"'c{i}': 'VARCHAR'" for i in range(len(header)))
    relation = (
        f"read_csv({quote_text(csv_file.place)}, columns = {{{fields}}}, header = true, "
        f"delim = {quote_text(delimiter)}, quote = '\"', escape = '\"', auto_detect = false, "
        f"compression = '{'gzip' if csv_file.zipped else 'none'}', store_rejects = true, rejects_limit = 0, "
        f"parallel = false, skip = {csv_file.skipped_lines})"
    )
    columns = {name: Column(f"c{i}", "VARCHAR") for i, name in enumerate(_distinct(header))}
    return Source(str(path), connect(csv_file.place), relation, columns, csv_file)


def connect(place: str | None = None) -> duckdb.DuckDBPyConnection:
    """Return an in-memory connection that loads no extension; with a place, it opens that file and nothing else."""
    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
            "temp_directory": "",
        },
    )
    # Timestamps with a zone are told from those without by the session's zone.
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    if place is not None:
        connection.execute(f"SET allowed_paths = [{quote_text(place)}]")
        connection.execute("SET enable_external_access = false")
    return connection


def _distinct(header: Sequence[str]) -> list[str]:
    """Give a name that came before a number, as DuckDB does: Account, Account_1."""
    names: list[str] = []
    for name in header:
        number, distinct = 0, name
        while distinct in names:
            number += 1
            distinct = f"{name}_{number}"
        names.append(distinct)
    return names


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def quote_text(text: str) -> str:
    """Return a SQL literal of the text."""
    return "'" + text.replace("'", "''") + "'"


def quote_name(name: str) -> str:
    """Return a SQL identifier of the name."""
    return '"' + name.replace('"', '""') + '"'
