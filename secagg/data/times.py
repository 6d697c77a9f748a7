"""The times of a table: the window in which rows count, and rows brought to instants of one kind."""

from __future__ import annotations

import datetime
import math
import zoneinfo
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secagg.data.bad_rows import mark
from secagg.data.checks import NUMBER, TIMESTAMP, Fault
from secagg.data.conventions import Conventions
from secagg.data.reports import Times, shown_time
from secagg.data.zones import to_instants
from secagg.errors import UsageError

__all__ = ["TimeBound", "Window", "one_kind_of_time", "parse_time", "place_in_zone", "window_of"]

TimeBound: TypeAlias = float | str | datetime.datetime | None


def parse_time(value: TimeBound, *, name: str = "time") -> float | None:
    """Return a time as the tables have it: a number as it stands, a timestamp as seconds since 1970 UTC.

    Args:
      value: a number, its text, an ISO timestamp, a datetime (UTC where it has no zone), or None.
      name: what the value is called in messages.

    Raises:
      UsageError: it is none of these, or not finite.
    """
    return _parsed(value, name)[0]


def _parsed(value: TimeBound, name: str) -> tuple[float | None, Times | None]:
    """Return a time, and of which kind it is."""
    if value is None:
        return None, None
    kind: Times = "numbers"
    text = value.isoformat() if isinstance(value, datetime.datetime) else str(value).strip()
    try:
        seconds = float(text)
    except ValueError:
        kind = "timestamps"
        try:
            moment = datetime.datetime.fromisoformat(text.replace("/", "-"))
        except ValueError:
            seconds = math.nan
        else:
            moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
            seconds = (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)).total_seconds()
    if not math.isfinite(seconds):
        raise UsageError(
            f"{name}: a number or an ISO timestamp such as 2022-09-01T00:20:00 is expected; got {text!r}"
        )
    return seconds, kind


@dataclass(frozen=True, slots=True)
class Window:
    """The half-open window, and of which kind its bounds are if it has any."""

    start: float
    end: float
    times: Times | None

    def shown(self, zone: zoneinfo.ZoneInfo) -> str:
        """Return the window as people read it."""
        return f"{shown_time(self.start, self.times, zone)} to {shown_time(self.end, self.times, zone)}"


def window_of(window: tuple[TimeBound, TimeBound] | None) -> Window:
    """Return a window of these bounds; raises `UsageError` if it ends before it starts or a bound is no time."""
    if window is None:
        return Window(-math.inf, math.inf, None)
    start, first = _parsed(window[0], "window start")
    end, last = _parsed(window[1], "window end")
    times: Times | None = "timestamps" if "timestamps" in (first, last) else first or last
    start, end = -math.inf if start is None else start, math.inf if end is None else end
    if start >= end:
        raise UsageError(f"a window [start, end) ends after it starts; got {window[0]} to {window[1]}")
    return Window(start, end, times)


def one_kind_of_time(
    why: NDArray[np.uint16], kinds: NDArray[np.uint8], faults: list[Fault], column: str
) -> Times | Literal["none"]:
    """Mark, in place, the good rows whose time is of another kind than the first good row's."""
    good = why == 0
    if not good.any():
        return "none"
    numbers = bool(kinds[good.argmax()] == NUMBER)
    other = good & ((kinds == NUMBER) != numbers)
    if other.any():
        mine, first = ("a timestamp", "a number") if numbers else ("a number", "a timestamp")
        mark(why, other, faults, Fault(column, f"is {mine}, while the first good row has {first}"))
    return "numbers" if numbers else "timestamps"


def place_in_zone(
    why: NDArray[np.uint16],
    kinds: NDArray[np.uint8],
    seconds: NDArray[np.float64],
    faults: list[Fault],
    column: str,
    conventions: Conventions,
) -> None:
    """Make instants, in place, of timestamps that name no zone; mark those that do not exist."""
    local = np.flatnonzero((why == 0) & (kinds == TIMESTAMP))
    if not len(local):
        return
    instants, missing = to_instants(seconds[local], conventions.zone)
    seconds[local] = instants
    skipped = np.zeros(len(why), bool)
    skipped[local[missing]] = True
    reason = f"does not exist in {conventions.time_zone}, whose clocks skip it; see the job's time_zone"
    mark(why, skipped, faults, Fault(column, reason))
