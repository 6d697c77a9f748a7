"""Tables of banks, as most tests of reading read them, and terms on which banks agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from secagg.data.reports import ReadReport
from secagg.data.tables import Sources, Table, read_table
from secagg.patterns.banking.tables import DEPOSITS, TRANSFERS
from secagg.patterns.pattern import Terms

HEADER = "beneficiary,sender,amount,time\n"


def read_transfers(source: Sources, **options: Any) -> Table:
    """Read a table of transfers."""
    return read_table(source, TRANSFERS, **options)


def read_deposits(source: Sources, **options: Any) -> Table:
    """Read a table of cash deposits."""
    return read_table(source, DEPOSITS, **options)


def parquet(path: Path, select: str) -> Path:
    """Write what a query selects to a Parquet file."""
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)")
    return path


def places(report: ReadReport) -> list[tuple[int, str, str]]:
    """Return line, column and reason of each bad row that is listed."""
    return [(row.line, row.column, row.reason) for row in report.bad_rows]


def terms_of(banks: tuple[str, ...], computing: tuple[str, ...]) -> Terms:
    """Return the terms of a job with these parties and nothing else agreed."""
    return Terms(tuple(dict.fromkeys((*banks, *computing))), {"input": banks, "computing": computing})
