"""From a table of a kind to the columns that a pattern takes."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from secagg.data.columns import DepositColumns, TransferColumns, parse_columns, resolve_columns
from secagg.data.sources import open_source
from secagg.data.tables import ReadReport, read_deposits, read_transfers
from secagg.errors import DataError, UsageError
from secagg.jobs.job import Job
from secagg.jobs.run import Columns
from secagg.jobs.signed import file_digest

_DUCKDB: Final = "duckdb:"


class Table:
    """An input party's table, to be read when a run asks for it.

    Args:
      job: says what kind of table, and which window.
      source: a path, or a SELECT after `duckdb:`.
      mapping: `role=column` pairs, the name of one known format, or nothing to recognise the format.
      bad_rows: what to do about rows that cannot be used.

    Attributes:
      report: what reading came to, once it is read.

    Raises:
      UsageError: there is no such file, it cannot be opened, its columns are not those of the mapping, or the
        mapping is wrong: seen before the others are made to wait.
    """

    def __init__(
        self,
        job: Job,
        source: str,
        *,
        mapping: Sequence[str] = (),
        bad_rows: Literal["refuse", "skip"] = "refuse",
    ) -> None:
        if not source.startswith(_DUCKDB) and not Path(source).is_file():
            raise UsageError(f"there is no file {source}")
        self.report: ReadReport | None = None
        self._source = source
        self._transfers = job.pattern.table == "transfers"
        self._options: dict[str, Any] = {"window": job.window.bounds, "bad_rows": bad_rows}
        kind: Any = TransferColumns if self._transfers else DepositColumns
        if len(mapping) == 1 and "=" not in mapping[0]:
            self._options["mapping"] = mapping[0]
        elif mapping:
            self._options["mapping"] = parse_columns(mapping, kind)
        opened = open_source(source)
        with contextlib.closing(opened.connection):
            columns = resolve_columns(
                tuple(opened.columns), self._options.get("mapping"), kind, table=opened.name
            )
        self._columns = {
            role: (names,) if isinstance(names, str) else names
            for role, names in dataclasses.asdict(columns).items()
        }
        self._files = [] if source.startswith(_DUCKDB) else [Path(source)]
        self._digests: list[tuple[Path, str]] = []

    def __call__(self) -> Columns:
        """Read the table; raises `DataError` where it cannot be used."""
        before = self._state()
        self._digests = [(path, file_digest(path)) for path in self._files]
        columns = self._read()
        if self._state() != before:
            raise DataError(f"{self._source} was changed while it was read; start again")
        return columns

    def _read(self) -> Columns:
        if self._transfers:
            transfers = read_transfers(self._source, **self._options)
            self.report = transfers.report
            return transfers.beneficiary, transfers.sender, transfers.amount_cents
        deposits = read_deposits(self._source, **self._options)
        self.report = deposits.report
        return deposits.customer, deposits.amount_cents

    def _state(self) -> list[tuple[int, int, int]]:
        return [(s.st_ino, s.st_size, s.st_mtime_ns) for s in map(Path.stat, self._files)]

    def described(self) -> dict[str, Any]:
        """Return what a run record says of the table: where it was, how it was read, what came of it.

        A query may name an account. So of a query that stands on the command line only the digest is kept, and
        what the files that it reads held is not known.
        """
        query = self._source.startswith(_DUCKDB)
        counts = ("rows_read", "rows_in_window", "rows_outside", "rows_bad")
        return {
            "source": _DUCKDB + hashlib.sha256(self._source.encode()).hexdigest() if query else self._source,
            "files": [{"path": str(path.resolve()), "sha256": digest} for path, digest in self._digests],
            "columns": {role: list(names) for role, names in self._columns.items()},
            "bad_rows": self._options["bad_rows"],
            **{name: getattr(self.report, name, None) for name in counts},
        }
