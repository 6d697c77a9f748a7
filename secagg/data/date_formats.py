"""Which date format would read a table's times, where some cannot be read; so that a message names it.

A few formats are tried on the times themselves, as DuckDB reads them. A format fits if it reads all that were looked
at, in years that tables are about. Several may fit, as 05/09/2026 is in May or in September: whoever wrote the table
knows, and no guess is made.
"""

# ruff: noqa: S608  SQL is put together here from fixed texts and a query of `checks`.

from __future__ import annotations

import itertools
from typing import Final

import duckdb

from secagg.data.dialect import EPOCHS
from secagg.data.sources import quote_text

__all__ = ["fitting_formats"]

_DAYS: Final = (
    "%d.%m.%Y", "%d.%m.%y", "%Y.%m.%d", "%d/%m/%Y", "%m/%d/%Y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%Y", "%m-%d-%Y",
    "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d. %B %Y", "%Y-%m-%d", "%Y%m%d",
)  # fmt: skip
_CLOCKS: Final = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", " %H.%M", ", %H:%M", "T%H:%M:%S.%f")
_FIRST: Final = "TIMESTAMP '1971-01-01'"
_LAST: Final = "TIMESTAMP '2100-01-01'"
_SHOWN: Final = 3


def fitting_formats(connection: duckdb.DuckDBPyConnection, times: str) -> tuple[str, ...]:
    """Return up to three formats that read all times of a query, as `Dialect.date_format` takes them.

    Args:
      times: a query whose one column `time` holds texts, some hundreds of them.
    """
    formats = list(map("".join, itertools.product(_DAYS, _CLOCKS)))
    fits = {name: f"try_strptime(time, {quote_text(name)}) BETWEEN {_FIRST} AND {_LAST}" for name in formats}
    # Of the units of an epoch, one lies in these years.
    fits |= {
        name: f"TRY_CAST(time AS DOUBLE) / {per_s} BETWEEN epoch({_FIRST}) AND epoch({_LAST})"
        for name, per_s in EPOCHS.items()
    }
    # Of no times at all, bool_and is NULL.
    asked = ", ".join(f"coalesce(bool_and(coalesce({fit}, false)), false)" for fit in fits.values())
    (found,) = connection.execute(f"SELECT {asked} FROM ({times})").fetchall()
    return tuple(itertools.compress(fits, found))[:_SHOWN]
