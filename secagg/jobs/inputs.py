"""From a table of a kind to the columns that a pattern takes."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from secagg.data.columns import parse_columns, resolve_columns
from secagg.data.dialect import Dialect
from secagg.data.reports import ReadReport
from secagg.data.sources import find_sources, open_source
from secagg.data.tables import read_table
from secagg.errors import DataError, UsageError
from secagg.jobs.job import Job, Window
from secagg.jobs.run import Columns
from secagg.jobs.signed import file_digest

BadRows = Literal["refuse", "skip"]
_DUCKDB: Final = "duckdb:"


class Table:
    """An input party's table, to be read when a run asks for it.

    Args:
      job: says what kind of table, which window, and what all parties' tables mean.
      sources: a path, a SELECT after `duckdb:`, or several, which are read as one table.
      mapping: `role=column` pairs, the name of one known format, or nothing to recognise the format.
      bad_rows: what to do about rows that cannot be used.
      dialect: how the files are written.
      allow_empty: take a table of which no row counts.

    Attributes:
      report: what reading came to, once it is read.

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
    ) -> None:
        self.report: ReadReport | None = None
        self._own_spelling: Mapping[str, Mapping[str, str]] = {}
        self._sources = find_sources(sources)
        self._schema = job.pattern.schema
        self._options: dict[str, Any] = {
            "window": _bounds(job.window),
            "bad_rows": bad_rows,
            "conventions": job.data,
            "dialect": dialect or Dialect(),
            "allow_empty": allow_empty,
        }
        if len(mapping) == 1 and "=" not in mapping[0]:
            self._options["mapping"] = mapping[0]
        elif mapping:
            self._options["mapping"] = parse_columns(mapping, self._schema)
        found = []
        for source in self._sources:
            with contextlib.closing(open_source(source, dialect)) as opened:
                header = tuple(opened.columns)
                found.append(
                    resolve_columns(
                        header,
                        self._options.get("mapping"),
                        self._schema,
                        table=opened.name,
                        written=opened.written_header,
                    )
                )
        # Of the first file, where a format calls columns otherwise in another.
        self._columns = found[0]
        self._files = [Path(source) for source in self._sources if not _is_query(source)]
        self._digests: list[tuple[Path, str]] = []

    def __call__(self) -> Columns:
        """Read the table; raises `DataError` where it cannot be used."""
        before = self._states()
        self._digests = [(path, _digest(path)) for path in self._files]
        columns = self._read()
        for path, then, now in zip(self._files, before, self._states(), strict=True):
            if then != now:
                raise DataError(f"{path} was changed while it was read; start again")
        return columns

    def _read(self) -> Columns:
        table = read_table(self._sources, self._schema, **self._options)
        self.report, self._own_spelling = table.report, table.own_spelling
        return [table[role] for role in self._schema if role != self._schema.time]

    def _states(self) -> list[tuple[int, int, int]]:
        return [_state(path) for path in self._files]

    def in_own_spelling(
        self, rows: Sequence[tuple[str, *tuple[int, ...]]]
    ) -> list[tuple[str, *tuple[int, ...]]]:
        """Return flagged rows with identifiers as the table spells them, where each first comes."""
        own = self._own_spelling.get(self._schema.identifiers[0], {})
        return [(own.get(name, name), *sums) for name, *sums in rows]

    def described(self) -> dict[str, Any]:
        """Return what a run record says of the table: where it was, how it was read, what came of it.

        A query may name an account. So of a query that stands on the command line only the digest is kept, and
        what the files that it reads held is not known.
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
            "files": [{"path": str(path.resolve()), "sha256": digest} for path, digest in self._digests],
            "columns": {role: list(names) for role, names in self._columns.items()},
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
