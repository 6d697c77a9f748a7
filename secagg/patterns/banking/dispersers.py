"""Dispersers: accounts that pay many receivers at several banks, none of which sees enough alone.

The mirror image of collectors. Each bank puts in what its own customers received; senders are anybody's accounts. So the
payee's bank's row of a transfer enters. A sender is flagged if, over all banks, at least `min_receivers` distinct receivers
at at least `min_banks` banks got at least `min_total` from it together. Receivers are the bank's own customers, so they add
up over banks.

Program, threat model and cost: `secagg.protocols.group_by`.

Learns: a bank, for each sender that paid its own customers, whether it is flagged. If it is, the bank learns the joint
number of receivers and the joint total. Nothing about other senders.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from secagg.patterns.banking import examples
from secagg.patterns.banking.fans import Bounds, FanPattern
from secagg.query.schema import Identifier, Integer, Money, Schema


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Thresholds over all banks, and the largest numbers that one bank may put in for one sender (public)."""

    min_receivers: Annotated[int, Meta(ge=1)] = 6
    min_banks: Annotated[int, Meta(ge=1, le=255)] = 2
    min_total_cents: Annotated[int, Meta(ge=0)] = 0
    max_receivers_per_bank: Annotated[int, Meta(ge=1)] = 100_000
    max_cents_per_bank: Annotated[int, Meta(ge=1)] = 10**14


class Dispersers(FanPattern):
    """Accounts that pay many receivers at several banks; see the module."""

    name = "dispersers"
    summary = "accounts that pay many receivers at several banks, none of which sees enough alone."
    results = Schema(sender=Identifier(), receivers=Integer(), total=Money())
    Parameters = Thresholds
    example = staticmethod(examples.dispersers)

    key, partner, partners = "sender", "beneficiary", "receivers"
    few = ("that pays one customer", "that pays two customers")
    figure = "what one customer received"

    def bounds(self, parameters: Thresholds) -> Bounds:
        """Return the parameters by what they mean."""
        return Bounds(
            parameters.min_receivers,
            parameters.min_banks,
            parameters.min_total_cents,
            parameters.max_receivers_per_bank,
            parameters.max_cents_per_bank,
        )


DISPERSERS: Final = Dispersers()
