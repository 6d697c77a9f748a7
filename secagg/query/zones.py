"""Local times as instants, for one time in Python and for columns in DuckDB, as `secagg.data.zones` has them.

A time that clocks show twice, when they are set back, is the first. A time that they skip, when they are set forward, does
not exist.
"""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

from secagg.errors import UsageError


def in_zone(moment: datetime.datetime, zone: str) -> datetime.datetime:
    """Return a moment as an instant; one that names no zone is local.

    Raises:
      UsageError: the clocks of the zone skip it.
    """
    if moment.tzinfo:
        return moment
    placed = moment.replace(tzinfo=ZoneInfo(zone), fold=0)
    back = placed.astimezone(datetime.UTC).astimezone(ZoneInfo(zone))
    if back.replace(tzinfo=None, fold=0) != moment.replace(fold=0):
        raise UsageError(f"{moment} does not exist in {zone}, whose clocks skip it")
    return placed


def instant_sql(local: str, zone: str) -> str:
    """Return the SQL of instants, from that of local times as TIMESTAMP; a skipped time is moved by what is skipped.

    It holds in a session whose TimeZone is UTC, where a day is 24 hours.
    """
    name = _quoted(zone)
    found = f"timezone({name}, {local})"
    # Of a time shown twice DuckDB takes the second. The first is the one by the offset of the day before.
    before = f"({found} - INTERVAL 24 HOUR)"
    offset = f"(timezone({name}, {before}) - timezone('UTC', {before}))"
    first = f"timezone('UTC', {local} - {offset})"
    return f"CASE WHEN timezone({name}, {first}) = {local} THEN {first} ELSE {found} END"


def is_skipped_sql(local: str, zone: str) -> str:
    """Return the SQL of whether clocks skip a local time."""
    return f"timezone({_quoted(zone)}, {instant_sql(local, zone)}) <> {local}"


def _quoted(zone: str) -> str:
    return "'" + zone.replace("'", "''") + "'"
