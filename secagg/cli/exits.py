"""How the command line ends: its exit statuses, which docs/operation.md lists."""

from __future__ import annotations

from typing import Final

from secagg.errors import SecaggError, UsageError
from secagg.jobs.statuses import WRITTEN_ELSEWHERE

__all__ = ["FAILED", "STOPPED", "WRITTEN_ELSEWHERE", "WRONG_USE", "status_of"]

FAILED: Final = 1
WRONG_USE: Final = 2
STOPPED: Final = 130  # what shells give a program that Ctrl-C ended


def status_of(error: SecaggError) -> int:
    """Return the status of a program that ends with this error."""
    return WRONG_USE if isinstance(error, UsageError) else FAILED
