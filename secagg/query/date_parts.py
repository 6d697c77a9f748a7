"""Parts of dates on shares: how many years have begun in the public range, and how many months of the year.

Years of 365 days are counted as if they had 366, so that every month begins at one day of its year. Cost: a comparison for
each year of the range at once, then one for 1 March, then one for each month; and three products.
"""

from __future__ import annotations

import calendar
import datetime
from typing import Final

import numpy as np

from secagg.mpc import int64
from secagg.mpc.arrays import SharedArray

_EPOCH: Final = datetime.date(1970, 1, 1)
_MARCH: Final = 59  # the day of a year of 365 days, from 0, that is 1 March
_MONTHS: Final = np.array([0, 31, 60, 91, 121, 152, 182, 213, 244, 274, 305, 335])  # of a year of 366 days


def part(op: str, day: SharedArray, low: int, high: int) -> SharedArray:
    """Return the year, quarter, month or day of days since 1970-01-01.

    Args:
      low, high: the public range; what a day outside gives means nothing.
    """
    first, last = ((_EPOCH + datetime.timedelta(days=bound)).year for bound in (low, high))
    starts = np.array([(datetime.date(y, 1, 1) - _EPOCH).days for y in range(first, last + 1)])
    leaps = np.array([calendar.isleap(y) for y in range(first, last + 1)], np.int64)
    begun = (day.reshape(-1, 1) >= starts[1:]).astype(int64) if last > first else None

    def of_year(values: np.ndarray) -> SharedArray | int:
        """Return a number of the day's year, from those of all years."""
        return int(values[0]) if begun is None else (begun * np.diff(values)).sum(axis=1) + int(values[0])

    if op == "year":
        return day * 0 + of_year(np.arange(first, last + 1))
    number = day - of_year(starts)
    number = number + (number >= _MARCH).astype(int64) * (1 - of_year(leaps))
    if op == "quarter":
        return (number.reshape(-1, 1) >= _MONTHS[3::3]).astype(int64).sum(axis=1) + 1
    months = (number.reshape(-1, 1) >= _MONTHS[1:]).astype(int64)
    if op == "month":
        return months.sum(axis=1) + 1
    return number - (months * np.diff(_MONTHS)).sum(axis=1) + 1
