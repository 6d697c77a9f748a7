"""Local times to instants, many at once."""

from __future__ import annotations

import datetime
import zoneinfo
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["to_instants"]

_HOUR_S: Final = 3600
_EPOCH: Final = datetime.datetime(1970, 1, 1)  # noqa: DTZ001  # local on purpose
# Python's datetimes, less a day on either side for the zone.
_FIRST: Final = -62_135_596_800 + 86_400
_LAST: Final = 253_402_300_799 - 86_400


def to_instants(
    local: NDArray[np.float64], zone: zoneinfo.ZoneInfo
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return local times as seconds since 1970 UTC, and a mask of those that do not exist.

    A time that the clocks show twice, when they are set back, is the first. A time that they skip, when they
    are set forward, does not exist; nor does one before the year 1 or after 9999.

    Args:
      local: seconds that a clock in the zone shows, counted as if it were in UTC; finite.
    """
    inside = (local >= _FIRST) & (local < _LAST)
    seconds = np.floor(np.where(inside, local, 0)).astype(np.int64)
    hours, of_hour = np.unique(seconds // _HOUR_S, return_inverse=True)
    offsets = np.zeros(len(hours), np.int64)
    exact = np.zeros(len(hours), bool)
    for i, hour in enumerate(hours.tolist()):
        ends = {_offset(zone, hour * _HOUR_S + at, fold) for at in (0, _HOUR_S - 1) for fold in (0, 1)}
        # Clocks change at most once in an hour, so one offset at its ends is that of all its seconds.
        exact[i] = len(ends) > 1
        offsets[i] = 0 if exact[i] else ends.pop()
    shift, missing = offsets[of_hour], ~inside
    changing = np.flatnonzero(exact[of_hour])
    distinct, of_second = np.unique(seconds[changing], return_inverse=True)
    first = np.array([_offset(zone, second, 0) for second in distinct.tolist()], np.int64)
    second = np.array([_offset(zone, second, 1) for second in distinct.tolist()], np.int64)
    shift[changing] = first[of_second]
    # PEP 495: in a gap the offset before the change comes with fold 0, and is the smaller one.
    missing[changing] |= (first < second)[of_second]
    return local - shift, missing


def _offset(zone: zoneinfo.ZoneInfo, second: int, fold: int) -> int:
    moment = (_EPOCH + datetime.timedelta(seconds=second)).replace(tzinfo=zone, fold=fold)
    offset = moment.utcoffset()
    return 0 if offset is None else round(offset.total_seconds())
