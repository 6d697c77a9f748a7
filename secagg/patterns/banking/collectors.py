"""Collectors: accounts that many senders at several banks pay into, none of which sees enough alone.

Each bank puts in its own customers' transfers; beneficiaries are anybody's accounts. A beneficiary is flagged
if, over all banks, at least `min_senders` distinct senders at at least `min_banks` banks paid it at least
`min_total` together. Senders are the bank's own customers, so distinct senders add up over banks.

Program, threat model and cost: `secagg.protocols.group_by`.

Learns: a bank, for each beneficiary that its own customers paid, whether it is flagged. If it is, the bank learns the
joint number of senders and the joint total. It does not learn which banks the others are. Nothing about other
beneficiaries.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from secagg.patterns.banking import examples
from secagg.patterns.banking.fans import Bounds, FanPattern
from secagg.query.schema import Identifier, Integer, Money, Schema


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Thresholds over all banks, and the largest numbers that one bank may put in for one beneficiary.

    The largest numbers size the shared fields; they are public, and a bank whose rows exceed them is refused
    before anything is sent.
    """

    min_senders: Annotated[int, Meta(ge=1)] = 6
    min_banks: Annotated[int, Meta(ge=1, le=255)] = 2
    min_total_cents: Annotated[int, Meta(ge=0)] = 0
    max_senders_per_bank: Annotated[int, Meta(ge=1)] = 100_000
    max_cents_per_bank: Annotated[int, Meta(ge=1)] = 10**14


class Collectors(FanPattern):
    """Accounts that many senders at several banks pay into; see the module."""

    name = "collectors"
    summary = "accounts that many senders at several banks pay into, none of which sees enough alone."
    results = Schema(beneficiary=Identifier(), senders=Integer(), total=Money())
    Parameters = Thresholds
    example = staticmethod(examples.collectors)

    key, partner, partners = "beneficiary", "sender", "senders"
    few = ("into which one customer pays", "into which two customers pay")
    figure = "what one customer paid"

    def bounds(self, parameters: Thresholds) -> Bounds:
        """Return the parameters by what they mean."""
        return Bounds(
            parameters.min_senders,
            parameters.min_banks,
            parameters.min_total_cents,
            parameters.max_senders_per_bank,
            parameters.max_cents_per_bank,
        )


COLLECTORS: Final = Collectors()
