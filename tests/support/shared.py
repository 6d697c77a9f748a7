"""Shares of a secret array that a test makes by itself, and what they open to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eager import SharedArray
from secagg.mpc.primitives import Shares
from secagg.party import PartyId


async def opened(x: Shares, to: Sequence[PartyId] | None = None) -> Any:
    """Return what a secret opens to: numbers of an array of numbers, else elements."""
    return await (x.open(to) if isinstance(x, SharedArray) else x.engine.open(x, to))
