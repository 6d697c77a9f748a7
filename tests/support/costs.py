"""What a ledger measured, in the form in which costs are declared."""

from __future__ import annotations

from secagg.cost.operation import Cost
from secagg.ledger import Ledger


def measured(name: str, ledger: Ledger) -> Cost:
    """Return what a run cost one party."""
    total = ledger.total()
    return Cost.of(name, total.rounds, total.sent.payload_bytes, total.sent.messages)
