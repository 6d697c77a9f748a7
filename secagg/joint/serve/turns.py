"""Which of several jobs that wait a party tries, so that all parties try the same one; and when a job is due again.

A party listens at one address, so it waits for one job at a time. In each slot of time a job has a rank, the SHA-256 of its
digest and the slot's number. Each party tries the job of the lowest rank among those that it may run. Whatever other jobs
parties have, they meet in each slot in which a job that all of them have is of the lowest rank.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from cronsim import CronSim, CronSimError

from secagg.errors import UsageError
from secagg.signing import digest
from secagg.toml_files import parse_toml, read_toml

SLOT_S: Final = 120.0
_UNITS: Final = {"m": 60, "h": 3600, "d": 86400}
_LEAST_S: Final = 60


def first_in_turn(digests: Iterable[str], at: float) -> str:
    """Return which job is tried at a moment, "" for none.

    Args:
      digests: of jobs, in hexadecimal.
      at: seconds since 1970.
    """
    slot = int(at // SLOT_S).to_bytes(8, "big")
    return min(digests, key=lambda job: digest("secagg.joint.serve/turn", [slot, job.encode()]), default="")


class Schedule:
    """When jobs run again, by the name of their file without `.toml`.

    A file `serve.toml` says it, in a table `[schedule]`: `monthly = "0 3 1 * *"`, five fields as cron has them, in UTC; or
    `daily = "every 24h"`. A job that the file does not name runs once for each approval.
    """

    def __init__(self, entries: Mapping[str, str]) -> None:
        self._entries = dict(entries)
        for name, text in self._entries.items():
            self._next(name, text, 0.0)

    @classmethod
    def load(cls, path: Path) -> Schedule:
        """Read `serve.toml`, which need not exist.

        Raises:
          UsageError: it cannot be used.
        """
        if not path.exists():
            return cls({})
        plain = parse_toml(read_toml(path, what="the schedule", kind=UsageError), file=path, kind=UsageError)
        found = plain.get("schedule", {})
        if set(plain) - {"schedule"} or not isinstance(found, dict):
            raise UsageError(f"expected a table [schedule] and nothing else in {path}")
        if not all(isinstance(text, str) for text in found.values()):
            raise UsageError(f'expected texts such as "every 24h" or "0 3 1 * *" in {path}')
        return cls(found)

    def next_after(self, job: str, at: float) -> float | None:
        """Return when a job is due next, None for one that does not come again."""
        text = self._entries.get(job)
        return None if text is None else self._next(job, text, at)

    @staticmethod
    def _next(job: str, text: str, at: float) -> float:
        if (every := re.fullmatch(r"every ([1-9][0-9]{0,4})([mhd])", text)) is not None:
            step = int(every[1]) * _UNITS[every[2]]
            return (at // step + 1) * step  # the same at all parties, whenever they ended
        try:
            found = next(CronSim(text, datetime.datetime.fromtimestamp(at, datetime.UTC)))
        except (CronSimError, StopIteration, ValueError):
            raise UsageError(
                f'{job}: expected five fields as cron has them, such as "0 3 1 * *", or "every 24h", got {text!r:.60}'
            ) from None
        return max(found.timestamp(), at + _LEAST_S)
