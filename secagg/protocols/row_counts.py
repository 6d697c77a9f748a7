"""Row counts that parties announce: how they are rounded, and how many there may be."""

from __future__ import annotations

from typing import Final

MAX_ROWS: Final = 10_000_000  # unless parties agree otherwise; some 200 bytes a row at every computing party


def padded(rows: int, step: int) -> int:
    """Return the row count that a party with so many rows announces: the next multiple of `step`."""
    return -(-rows // step) * step
