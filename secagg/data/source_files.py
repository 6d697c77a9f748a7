"""An owner's own source file: where the tables of its jobs are, which no job file says.

    [databases.core]
    url = "postgresql://reader@db.bank.example/core"       # without a password
    password = {env = "CORE_PASSWORD"}                     # or {file = "..."} or {keyring = "...", user = "..."}

    [databases.lake]
    duckdb = "lake.duckdb"

    [tables.transfers]                                     # the job's table; or [tables."JOB.transfers"] for one job
    database = "core"
    table = "ledger.transfers"                             # or query = "SELECT ...", or query_file = "transfers.sql"
    primary_key = ["id"]                                   # by which bad rows are named
    columns = {sender = "debit_iban", amount = "value"}

    [tables.deposits]
    files = ["exports/2026-*.csv"]
    decimal = ","

Relative paths start at the folder of the file. It stays at its owner, and the parties do not compare it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from secagg.data.credentials import Secret
from secagg.data.database_tables import DuckDbTable, SqlTable
from secagg.data.databases import Database, Selection
from secagg.data.dialect import Dialect
from secagg.errors import UsageError
from secagg.files import read_file
from secagg.toml_files import FieldFault, check_values, convert, parse_toml, read_toml

__all__ = ["PREFIX", "SOURCES", "SourceFile", "TableEntry"]

T = TypeVar("T")

SOURCES: Final = "sources.toml"  # its name in the home folder
PREFIX: Final = "source:"
_MAX_QUERY_BYTES: Final = 1 << 20
_TABLE: Final = re.compile(r"[^.\"]+(\.[^.\"]+){0,2}")
_DIALECT: Final = ("encoding", "delimiter", "decimal", "thousands", "date_format")


class _DatabaseEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str | Secret = ""
    password: Secret | None = None
    duckdb: str = ""

    def __post_init__(self) -> None:
        if bool(self.url) == bool(self.duckdb):
            raise ValueError("expected either url or duckdb")
        if self.duckdb and self.password is not None:
            raise ValueError("expected no password beside duckdb")


class _TableEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    database: str = ""
    table: str = ""
    query: str = ""
    query_file: str = ""
    files: str | list[str] = ""
    primary_key: str | list[str] = []
    columns: dict[str, str | list[str]] = {}
    encoding: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    date_format: str | None = None

    def __post_init__(self) -> None:
        if bool(self.database) == bool(self.files):
            raise ValueError("expected either database or files")
        selections = sum(map(bool, (self.table, self.query, self.query_file)))
        if self.database and selections != 1:
            raise ValueError("expected one of table, query and query_file beside database")
        if self.files and selections:
            raise ValueError("expected no table and no query beside files")
        if self.files and self.primary_key:
            raise ValueError(
                "expected primary_key beside database alone; rows of files are named by line or number"
            )
        if self.table and not _TABLE.fullmatch(self.table):
            raise ValueError(
                "expected table as NAME or SCHEMA.NAME without quotes; a query reads what is called otherwise"
            )


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    databases: dict[str, Any] = {}
    tables: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class TableEntry:
    """Where one table is, and how it is read.

    Attributes:
      name: what the source file calls it.
      sources: what `read_table` takes.
      mapping: `field=column` pairs; those that are not named have their own names.
      dialect: how its texts are written.
      digest: SHA-256 of what the source file says of it.
    """

    name: str
    sources: tuple[str | SqlTable | DuckDbTable, ...]
    mapping: tuple[str, ...]
    dialect: Dialect
    digest: str


@dataclass(frozen=True, slots=True)
class SourceFile:
    """The tables of a source file, by name."""

    path: Path
    tables: Mapping[str, TableEntry] = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> SourceFile:
        """Read a source file; no database is asked.

        Raises:
          UsageError: a file, a field or a query that cannot be used; names the line.
        """
        text = read_toml(path, what="the source file", kind=UsageError)
        values = parse_toml(text, file=path, kind=UsageError)
        try:
            check_values(values)
            written = convert(values, _File)
            databases = _converted("databases", written.databases, _DatabaseEntry)
            entries = _converted("tables", written.tables, _TableEntry)
            folder = path.absolute().parent
            tables = {name: _entry(name, entry, databases, folder) for name, entry in entries.items()}
        except FieldFault as fault:
            raise fault.error(path, text, UsageError) from None
        return cls(path, tables)

    def named(self, name: str) -> TableEntry:
        """Return the table of this name; raises `UsageError` where there is none."""
        if name not in self.tables:
            raise UsageError(
                f"{self.path}: there is no table {name}; its tables are {', '.join(self.tables) or 'none'}"
            )
        return self.tables[name]

    def of_job(self, job: str, table: str) -> TableEntry:
        """Return where the table of a job is: what stands for this job, or else for every job."""
        one = f"{job}.{table}"
        return self.named(one if one in self.tables else table)


def _converted(field: str, written: Mapping[str, Any], kind: type[T]) -> dict[str, T]:
    """Return the entries of a field, with faults that are named by the entry."""
    found = {}
    for name, values in written.items():
        try:
            found[name] = convert(values, kind)
        except FieldFault as fault:
            inside = f".{fault.field}" if fault.field else ""
            raise FieldFault(f"{field}.{name}{inside}", str(fault)) from None
    return found


def _entry(
    name: str, entry: _TableEntry, databases: Mapping[str, _DatabaseEntry], folder: Path
) -> TableEntry:
    where = f"tables.{name}"
    try:
        dialect = Dialect(**{field: getattr(entry, field) for field in _DIALECT})
    except UsageError as error:
        raise FieldFault(where, str(error)) from None
    columns = {one: [text] if isinstance(text, str) else text for one, text in entry.columns.items()}
    pairs = tuple(f"{one}={column}" for one, texts in columns.items() for column in texts)
    said: dict[str, Any] = {"table": entry}
    if entry.files:
        files = [entry.files] if isinstance(entry.files, str) else entry.files
        sources: tuple[str | SqlTable | DuckDbTable, ...] = tuple(
            one if one.startswith("duckdb:") else str(folder / one) for one in files
        )
    else:
        if entry.database not in databases:
            raise FieldFault(
                f"{where}.database",
                f"expected one of the databases {', '.join(databases) or 'none'}, got {entry.database}",
            )
        query = entry.query or (_query(folder / entry.query_file, where) if entry.query_file else "")
        selection = Selection(entry.table, query)
        key = (entry.primary_key,) if isinstance(entry.primary_key, str) else tuple(entry.primary_key)
        database = databases[entry.database]
        said |= {"query": query, "database": database}
        if database.duckdb:
            sources = (DuckDbTable(name, folder / database.duckdb, selection, key),)
        else:
            known = Database(entry.database, database.url, database.password, folder)
            sources = (SqlTable(name, known, selection, key),)
    digest = hashlib.sha256(msgspec.json.encode(said, order="deterministic")).hexdigest()
    return TableEntry(name, sources, pairs, dialect, digest)


def _query(path: Path, where: str) -> str:
    try:
        return read_file(path, what="the query", max_bytes=_MAX_QUERY_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FieldFault(f"{where}.query_file", f"expected a query in UTF-8 in {path}") from None
    except UsageError as error:
        raise FieldFault(f"{where}.query_file", str(error)) from None
