"""From an input party's files to the tables that a pattern takes."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from secagg.data.columns import parse_columns, resolve_columns
from secagg.data.dialect import Dialect
from secagg.data.reports import ReadReport
from secagg.data.sources import find_sources, open_source
from secagg.data.tables import BadRows, read_table
from secagg.errors import DataError, UsageError
from secagg.files import file_digest
from secagg.jobs.job import Job, Window
from secagg.party import PartyId
from secagg.patterns.pattern import Result, Tables
from secagg.query.schema import Columns, Identifier, Schema

_DUCKDB: Final = "duckdb:"


class InputTables:
    """An input party's tables, to be read when a run asks for them.

    Args:
      job: says which tables, which window, and what all parties' tables mean.
      sources: a path, a SELECT after `duckdb:`, or several. Those of one table are read as one. Where a pattern takes
        several tables, each source is TABLE=SOURCE.
      mapping: `field=column` pairs, the name of one known format, or nothing to recognise the format. Where a pattern
        takes several tables, each is TABLE.field=column, or TABLE=FORMAT.
      bad_rows: what to do about rows that cannot be used.
      dialect: how the files are written.
      allow_empty: take a table of which no row counts.
      me: whose tables these are; of a query, each input party has others.

    Raises:
      UsageError: there is no such file, it cannot be opened, its columns are not those of the mapping, or the
        mapping is wrong: seen before the others are made to wait.
    """

    def __init__(
        self,
        job: Job,
        sources: str | Sequence[str],
        *,
        mapping: Sequence[str] = (),
        bad_rows: BadRows = "refuse",
        dialect: Dialect | None = None,
        allow_empty: bool = False,
        me: PartyId | None = None,
    ) -> None:
        self._results = job.pattern.results
        inputs = job.pattern_at(me).inputs
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
                {
                    "window": _bounds(job.window) if schema.time is not None else None,
                    "bad_rows": bad_rows,
                    "conventions": job.data,
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
        """Read the tables; raises `DataError` where one cannot be used."""
        return {name: table.read() for name, table in self._tables.items()}

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
        return {name: table.described() for name, table in self._tables.items()}


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


class _InputTable:
    """One table, of one file or several."""

    def __init__(
        self, schema: Schema, sources: Sequence[str], mapping: Sequence[str], options: dict[str, Any]
    ) -> None:
        self.report: ReadReport | None = None
        self.own_spelling: Mapping[str, Mapping[str, str]] = {}
        self._schema, self._options = schema, options
        self._sources = find_sources(sources)
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
        self._files = [Path(source) for source in self._sources if not _is_query(source)]
        self._digests: list[tuple[Path, str]] = []

    def read(self) -> Columns:
        """Read the table; raises `DataError` where it cannot be used."""
        before = self._states()
        self._digests = [(path.resolve(), _digest(path)) for path in self._files]
        table = read_table(self._sources, self._schema, **self._options)
        self.report, self.own_spelling = table.report, table.own_spelling
        for path, then, now in zip(self._files, before, self._states(), strict=True):
            if then != now:
                raise DataError(f"{path} was changed while it was read; start again")
        return table.columns

    def _states(self) -> list[tuple[int, int, int]]:
        return [_state(path) for path in self._files]

    def described(self) -> dict[str, Any]:
        """Return what a run record says of the table.

        A query may name an account. So only the digest is kept of a query that stands on the command line.
        The files that a query reads are not digested.
        """
        counts = ("rows_read", "rows_in_window", "rows_outside", "rows_bad")
        dialect = dataclasses.asdict(self._options["dialect"])
        return {
            "sources": [
                _DUCKDB + hashlib.sha256(str(source).encode()).hexdigest()
                if _is_query(source)
                else str(source)
                for source in self._sources
            ],
            "files": [{"path": str(path), "sha256": digest} for path, digest in self._digests],
            "columns": {field: list(names) for field, names in self._columns.items()},
            "dialect": {name: value for name, value in dialect.items() if value is not None},
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


def _is_query(source: str | Path) -> bool:
    return str(source).startswith(_DUCKDB)


def _bounds(window: Window) -> tuple[Any, Any]:
    """Return a window's bounds, timestamps as such."""
    if not window.timestamps:
        return window.bounds
    start, end = (
        None if at is None else datetime.datetime.fromtimestamp(at, datetime.UTC) for at in window.bounds
    )
    return start, end
