"""Local times to instants, against Python's own datetimes one by one."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from secagg.data.zones import to_instants

EPOCH = datetime.datetime(1970, 1, 1)  # noqa: DTZ001  # local on purpose


def plainly(second: int, zone: ZoneInfo) -> float | None:
    local = (EPOCH + datetime.timedelta(seconds=second)).replace(tzinfo=zone)
    back = local.astimezone(datetime.UTC).astimezone(zone)
    return local.timestamp() if back.replace(tzinfo=None) == local.replace(tzinfo=None) else None


@pytest.mark.parametrize(
    ("name", "first", "days"),
    [
        ("Europe/Berlin", (2026, 3, 28), 3),
        ("Europe/Berlin", (2025, 10, 25), 3),
        ("America/St_Johns", (2010, 11, 6), 2),  # clocks went back at a minute past midnight
        ("America/St_Johns", (2010, 3, 13), 2),
        ("Australia/Lord_Howe", (2026, 4, 4), 2),  # by half an hour
        ("Africa/Monrovia", (1972, 1, 6), 3),  # by 44 minutes and 30 seconds
        ("Pacific/Apia", (2011, 12, 29), 4),  # a whole day was left out
        ("Asia/Kathmandu", (2026, 1, 1), 1),
        ("UTC", (2026, 1, 1), 1),
    ],
)
def test_local_times_are_as_pythons_own(name, first, days):
    zone = ZoneInfo(name)
    start = int((EPOCH.replace(*first) - EPOCH).total_seconds())
    local = np.concatenate([np.arange(start, start + days * 86_400, 30), np.arange(start, start + 5)])
    instants, missing = to_instants(local.astype(np.float64), zone)
    expected = [plainly(second, zone) for second in local.tolist()]
    assert missing.tolist() == [at is None for at in expected]
    assert instants[~missing].tolist() == [at for at in expected if at is not None]


def test_fractions_of_seconds_are_kept_and_times_beyond_the_calendar_do_not_exist():
    zone = ZoneInfo("Europe/Berlin")
    instants, missing = to_instants(np.array([1788566400.25, -1.75, 1e15, -1e15]), zone)
    assert instants[:2].tolist() == [1788559200.25, -3601.75]
    assert missing.tolist() == [False, False, True, True]
    assert to_instants(np.zeros(0), zone)[0].shape == (0,)
