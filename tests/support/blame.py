"""Whom an error is about, whether its party found that out itself or was told so by the party that ended the run."""

from __future__ import annotations


def blamed(error: object) -> str:
    """Return whom an error's party saw doing it, or whom the party that ended the run accuses."""
    return str(getattr(error, "accused", "") or getattr(error, "peer", ""))
