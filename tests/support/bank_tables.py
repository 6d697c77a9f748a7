"""Tables of banks, as most tests of reading read them, and terms on which banks agree."""

from __future__ import annotations

from typing import Any

from secagg.data.tables import Sources, Table, read_table
from secagg.patterns.banking.tables import DEPOSITS, TRANSFERS
from secagg.patterns.pattern import Terms


def read_transfers(source: Sources, **options: Any) -> Table:
    """Read a table of transfers."""
    return read_table(source, TRANSFERS, **options)


def read_deposits(source: Sources, **options: Any) -> Table:
    """Read a table of cash deposits."""
    return read_table(source, DEPOSITS, **options)


def terms_of(banks: tuple[str, ...], computing: tuple[str, ...]) -> Terms:
    """Return the terms of a job with these parties and nothing else agreed."""
    return Terms(tuple(dict.fromkeys((*banks, *computing))), {"input": banks, "computing": computing})
