"""Costs of the three-party engine, whose parties are P_0, P_1 and P_2 until `Cost.named` names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from secagg.cost.operation import Cost

COMPUTING: Final = ("P_0", "P_1", "P_2")


def computing_cost(rounds: int, payload_bytes: Sequence[int]) -> Cost:
    """Return the cost of an operation in which P_i sends `payload_bytes[i]` bytes of arrays."""
    return Cost(rounds, dict(zip(COMPUTING, payload_bytes, strict=True)))


def same_cost(rounds: int, payload_bytes: int) -> Cost:
    """Return the cost of an operation in which each computing party sends as many bytes."""
    return computing_cost(rounds, [payload_bytes] * len(COMPUTING))


FREE: Final = same_cost(0, 0)
