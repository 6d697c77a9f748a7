"""Tables of banks, as most tests of reading read them."""

from __future__ import annotations

from typing import Any

from secagg.data.tables import Sources, Table, read_table
from secagg.patterns.banking.tables import DEPOSITS, TRANSFERS


def read_transfers(source: Sources, **options: Any) -> Table:
    """Read a table of transfers."""
    return read_table(source, TRANSFERS, **options)


def read_deposits(source: Sources, **options: Any) -> Table:
    """Read a table of cash deposits."""
    return read_table(source, DEPOSITS, **options)
