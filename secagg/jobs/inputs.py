"""From an input party's files to the tables that a pattern takes."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from secagg.data.columns import parse_columns, resolve_columns
from secagg.data.conventions import Conventions
from secagg.data.database_tables import SqlTable
from secagg.data.databases import Snapshots
from secagg.data.dialect import Dialect
from secagg.data.first_rows import first_faults
from secagg.data.reports import FaultCount, ReadReport
from secagg.data.source_files import PREFIX, SourceFile, TableEntry
from secagg.data.sources import Place, find_sources, is_query, open_source
from secagg.data.tables import BadRows, read_table
from secagg.errors import DataError, UsageError
from secagg.files import file_digest
from secagg.jobs.computed import query_of
from secagg.jobs.job import Job, Window
from secagg.party import PartyId
from secagg.patterns.pattern import Result, Tables
from secagg.query.schema import Columns, Identifier, Schema

_DUCKDB: Final = "duckdb:"


class InputTables:
    """An input party's tables, to be read when a run asks for them.

    Args:
      job: says which tables, which window, and what all parties' tables mean.
      sources: a path, a SELECT after `duckdb:`, `source:NAME` for a table of the source file, or several. Those of one
        table are read as one. Where a pattern takes several tables, each source is TABLE=SOURCE. Nothing: each table is the
        one of its name in the source file.
      mapping: `field=column` pairs, the name of one known format, or nothing to recognise the format. Where a pattern
        takes several tables, each is TABLE.field=column, or TABLE=FORMAT.
      bad_rows: what to do about rows that cannot be used.
      dialect: how the files are written.
      allow_empty: take a table of which no row counts.
      me: whose tables these are; of a query, each input party has others.
      source_file: the owner's own, where it has one.
      identifiers: read all identifiers of a query's tables, also those that it does not use; see `identifying`.

    Raises:
      UsageError: there is no such file, it cannot be opened, its columns are not those of the mapping, or the
        mapping is wrong: seen before the others are made to wait.
    """

    def __init__(
        self,
        job: Job,
        sources: str | Sequence[str] = (),
        *,
        mapping: Sequence[str] = (),
        bad_rows: BadRows = "refuse",
        dialect: Dialect | None = None,
        allow_empty: bool = False,
        me: PartyId | None = None,
        source_file: SourceFile | None = None,
        identifiers: bool = False,
    ) -> None:
        self._results = job.pattern.results
        inputs, conventions = job.pattern_at(me).inputs, job.data
        if identifiers and me in job.input_parties:
            inputs, conventions = identifying(job, me)
        self._taken_up: dict[str, Any] | None = None
        self.skips_bad_rows = bad_rows == "skip"
        if not sources:
            sources = [f"{name}={PREFIX}{_entry_name(job, name, source_file)}" for name in inputs]
        by_name = _by_table(inputs, [sources] if isinstance(sources, str) else sources, "--data", "=")
        maps = _by_table(inputs, mapping, "--map", ".=")
        missing = [name for name in inputs if name not in by_name]
        if missing:
            raise UsageError(
                f"expected a table for each of {', '.join(inputs)}, got none for {', '.join(missing)}"
            )
        self._tables = {
            name: _InputTable(
                schema,
                by_name[name],
                maps.get(name, []),
                source_file,
                {
                    "window": _bounds(job.window) if schema.time is not None else None,
                    "bad_rows": bad_rows,
                    "conventions": conventions,
                    "dialect": dialect or Dialect(),
                    "allow_empty": allow_empty,
                },
            )
            for name, schema in inputs.items()
        }

    @property
    def reports(self) -> dict[str, ReadReport]:
        """Return what reading each table came to, once it is read."""
        return {name: table.report for name, table in self._tables.items() if table.report is not None}

    def __call__(self) -> Tables:
        """Read the tables, those of one database in one state of it; raises `DataError` where one cannot be used."""
        with Snapshots() as snapshots:
            return {name: table.read(snapshots) for name, table in self._tables.items()}

    def first_rows(self, limit: int) -> dict[str, list[FaultCount]]:
        """Read so many rows of each table and return what is wrong with them, by table; errors as calling."""
        return {name: table.first_rows(limit) for name, table in self._tables.items()}

    def in_own_spelling(self, rows: Result) -> list[tuple[Any, ...]]:
        """Return rows of a result with identifiers as the tables spell them, where each first comes.

        An identifier of a result is spelt as the column of its name is, in the first table that has one.
        """
        own = [
            self._own_spelling(column) if isinstance(kind, Identifier) else {}
            for column, kind in self._results.items()
        ]
        return [tuple(spelt.get(value, value) for value, spelt in zip(row, own, strict=True)) for row in rows]

    def _own_spelling(self, column: str) -> Mapping[str, str]:
        found = (table.own_spelling.get(column) for table in self._tables.values())
        return next((spelt for spelt in found if spelt is not None), {})

    def described(self) -> dict[str, Any]:
        """Return what a run record says of each table: where it was, how it was read, what came of it."""
        return self._taken_up or {name: table.described() for name, table in self._tables.items()}

    def kept(self) -> dict[str, Any]:
        """Return what a run that goes on has to know of the tables that it does not read again."""
        return {
            "described": json.dumps(self.described()),
            "spelling": {name: table.own_spelling for name, table in self._tables.items()},
        }

    def take_up(self, kept: Mapping[str, Any]) -> None:
        """Take up what was known of the tables when the run began."""
        self._taken_up = json.loads(kept["described"])
        for name, table in self._tables.items():
            table.own_spelling = kept["spelling"][name]


def identifying(job: Job, me: PartyId | None) -> tuple[Mapping[str, Schema], Conventions]:
    """Return an input party's tables with all their identifiers, and how they are read.

    A query that counts patients by age reads no patient. Whoever asks whose rows enter needs the identifiers all the same.

    Raises:
      UsageError: two tables spell identifiers of one name by different rules.
    """
    pattern = job.pattern_at(me)
    query = query_of(pattern)
    if query is None:
        return pattern.inputs, job.data
    declared, spelt = query.plan.declaration, dict(job.data.identifiers)
    inputs = {}
    for table, schema in pattern.inputs.items():
        others = {
            name: kind
            for name, kind in declared[table].schema.items()
            if isinstance(kind, Identifier) and name not in schema
        }
        for name, kind in others.items():
            if spelt.setdefault(name, kind.spelling) != kind.spelling:
                raise UsageError(
                    f"two tables spell {name} by the rules {spelt[name]} and {kind.spelling}, so that exclusion lists "
                    "cannot be asked about both; give the columns different names or one rule"
                )
        inputs[table] = Schema(**schema, **others)
    return inputs, dataclasses.replace(job.data, identifiers=spelt)


def _by_table(
    inputs: Mapping[str, Schema], texts: Sequence[str], option: str, ends: str
) -> dict[str, list[str]]:
    """Return which texts are about which table: all about the only one, or each about the one that it begins with."""
    if len(inputs) == 1:
        (only,) = inputs
        return {only: [text.removeprefix(f"{only}=") for text in texts]} if texts else {}
    found: dict[str, list[str]] = {}
    for text in texts:
        name = next(
            (name for name in inputs if text.startswith(name) and text[len(name) :][:1] in [*ends]), None
        )
        if name is None:
            begins = " or ".join(f"{known}{ends[0]}" for known in inputs)
            raise UsageError(f"expected {option} to begin with a table ({begins}), got {text!r}")
        found.setdefault(name, []).append(text[len(name) + 1 :])
    return found


def _entry_name(job: Job, table: str, source_file: SourceFile | None) -> str:
    if source_file is None:
        raise UsageError(
            f"expected with --data the table {table}, or a source file that says where it is (sources.toml in the home "
            "folder)"
        )
    return source_file.of_job(job.name, table).name


class _InputTable:
    """One table, of one place or several."""

    def __init__(
        self,
        schema: Schema,
        sources: Sequence[str],
        mapping: Sequence[str],
        source_file: SourceFile | None,
        options: dict[str, Any],
    ) -> None:
        self.report: ReadReport | None = None
        self.own_spelling: Mapping[str, Mapping[str, str]] = {}
        self._schema, self._options = schema, options
        self._entry: TableEntry | None = None
        given: Sequence[Place] = sources
        if any(source.startswith(PREFIX) for source in sources):
            self._entry = _entry(sources, source_file)
            given = self._entry.sources
            mapping = mapping or self._entry.mapping
            # What the command line says of a text's form goes before what the source file says.
            said = _said(self._entry.dialect) | _said(options["dialect"])
            self._options["dialect"] = Dialect(**said)
        self._sources = find_sources(given)
        if len(mapping) == 1 and "=" not in mapping[0]:
            self._options["mapping"] = mapping[0]
        elif mapping:
            self._options["mapping"] = parse_columns(mapping, schema)
        found = []
        for source in self._sources:
            with contextlib.closing(open_source(source, options["dialect"])) as opened:
                found.append(
                    resolve_columns(
                        tuple(opened.columns),
                        self._options.get("mapping"),
                        schema,
                        table=opened.name,
                        written=opened.written_header,
                    )
                )
        # Files may name columns differently; the record shows the first file's.
        self._columns = found[0]
        self._files = [path for source in self._sources for path in _files(source)]
        self._digests: list[tuple[Path, str]] = []

    def read(self, snapshots: Snapshots) -> Columns:
        """Read the table; raises `DataError` where it cannot be used."""
        before = self._states()
        self._digests = [(path.resolve(), _digest(path)) for path in self._files]
        sources = [one.within(snapshots) if isinstance(one, SqlTable) else one for one in self._sources]
        table = read_table(sources, self._schema, **self._options)
        self.report, self.own_spelling = table.report, table.own_spelling
        for path, then, now in zip(self._files, before, self._states(), strict=True):
            if then != now:
                raise DataError(f"{path} was changed while it was read; start again")
        return table.columns

    def first_rows(self, limit: int) -> list[FaultCount]:
        """Read so many rows and return what is wrong with them; raises `DataError` where they cannot be read."""
        options = {
            name: value for name, value in self._options.items() if name not in ("bad_rows", "allow_empty")
        }
        return first_faults(self._sources, self._schema, limit, **options)

    def _states(self) -> list[tuple[int, int, int]]:
        return [_state(path) for path in self._files]

    def described(self) -> dict[str, Any]:
        """Return what a run record says of the table.

        A query may name an account. So only the digest is kept of a query that stands on the command line, and of what a
        source file says. The files that a query reads are not digested.
        """
        counts = ("rows_read", "rows_in_window", "rows_outside", "rows_bad")
        entry = self._entry
        return {
            "sources": [_described(source) for source in self._sources],
            **({} if entry is None else {"source_file": {"table": entry.name, "sha256": entry.digest}}),
            "files": [{"path": str(path), "sha256": digest} for path, digest in self._digests],
            "columns": {field: list(names) for field, names in self._columns.items()},
            "dialect": _said(self._options["dialect"]),
            "bad_rows": self._options["bad_rows"],
            **{name: getattr(self.report, name, None) for name in counts},
            "warnings": self._warnings(),
        }

    def _warnings(self) -> list[str]:
        if self.report is None:
            return []
        left_out = self.report.left_out() if self._options["bad_rows"] == "skip" else ()
        return [*self.report.warnings, *left_out]


def _state(path: Path) -> tuple[int, int, int]:
    """Return what tells a file from the one that it was; raises `DataError` where it is no file any more."""
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read any more: {error.strerror}; put it back and start again"
        ) from None
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{path} is no file any more; put it back and start again")
    return found.st_ino, found.st_size, found.st_mtime_ns


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except UsageError as error:
        raise DataError(f"{error}; make it readable and start again") from None


def _entry(sources: Sequence[str], source_file: SourceFile | None) -> TableEntry:
    """Return the table of a source file that `source:NAME` stands for."""
    if len(sources) > 1:
        raise UsageError(f"expected {PREFIX}NAME alone for a table, got {', '.join(sources)}")
    if source_file is None:
        raise UsageError(
            f"expected for {sources[0]} a source file: sources.toml in the home folder, or --sources FILE"
        )
    return source_file.named(sources[0].removeprefix(PREFIX))


def _said(dialect: Dialect) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(dialect).items() if value is not None}


def _files(source: Place) -> tuple[Path, ...]:
    if not isinstance(source, str | Path):
        return source.files
    return () if is_query(source) else (Path(source),)


def _described(source: Place) -> str:
    if not isinstance(source, str | Path):
        return source.described
    return _DUCKDB + hashlib.sha256(str(source).encode()).hexdigest() if is_query(source) else str(source)


def _bounds(window: Window) -> tuple[Any, Any]:
    """Return a window's bounds, timestamps as such."""
    if not window.timestamps:
        return window.bounds
    start, end = (
        None if at is None else datetime.datetime.fromtimestamp(at, datetime.UTC) for at in window.bounds
    )
    return start, end
