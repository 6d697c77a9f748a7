"""Terms under which an honest run shows somebody's own figures: `secagg check` warns of them.

A threshold protects a customer only where several others stand behind the same sum. Below `FEW` of them, one of them
or one bank can subtract what it knows and read the rest.
"""

from __future__ import annotations

from typing import Final

from secagg.patterns.parameters import units
from secagg.patterns.pattern import Terms

FEW: Final = 3  # people behind a sum, of whom each knows its own part


def small_amounts(terms: Terms, **thresholds: int) -> list[str]:
    """Warn of thresholds up to one unit of the currency; 0 asks for no amount and is plain to see."""
    decimals = terms.currency_decimals
    return [
        f"{name} = {units(cents, decimals)}: hardly any payment lies below that, so it tells nobody apart. "
        f"Amounts are in units of the currency."
        for name, cents in thresholds.items()
        if 0 < cents <= 10**decimals
    ]
