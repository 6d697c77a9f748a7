"""From a table of a kind to the columns that a pattern takes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from secagg.data.columns import DepositColumns, TransferColumns, parse_columns, resolve_columns
from secagg.data.sources import open_source
from secagg.data.tables import ReadReport, read_deposits, read_transfers
from secagg.errors import UsageError
from secagg.jobs.job import Job
from secagg.jobs.run import Columns

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
            resolve_columns(tuple(opened.columns), self._options.get("mapping"), kind, table=opened.name)

    def __call__(self) -> Columns:
        """Read the table; raises `DataError` where it cannot be used."""
        if self._transfers:
            transfers = read_transfers(self._source, **self._options)
            self.report = transfers.report
            return transfers.beneficiary, transfers.sender, transfers.amount_cents
        deposits = read_deposits(self._source, **self._options)
        self.report = deposits.report
        return deposits.customer, deposits.amount_cents

    def counts(self) -> dict[str, int]:
        """Return how many rows were read, used and left out."""
        names = ("rows_read", "rows_in_window", "rows_outside", "rows_bad")
        return {name: getattr(self.report, name) for name in names}
