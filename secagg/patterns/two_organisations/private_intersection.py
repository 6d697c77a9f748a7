"""Private intersection: which of its own identifiers an organisation shares with another, with no third party.

Rows of one identifier count once. Learns: each party of the role `result`, or else both, which of its own identifiers the
other has too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
import numpy as np

from secagg.cost.operation import Cost
from secagg.party import Party, PartyId
from secagg.patterns.pattern import Agreed, Result, Risk, Tables, Terms
from secagg.patterns.two_organisations import examples
from secagg.patterns.two_organisations.lists import TwoOrganisations, distinct
from secagg.protocols.intersection import find_common, find_common_by_transfers, transfers
from secagg.query.schema import Identifier, Schema


class Method(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How it is computed: by Diffie-Hellman, or faster by oblivious transfers, which rest on more assumptions."""

    by: Literal["diffie-hellman", "oblivious-transfer"] = "diffie-hellman"


class PrivateIntersection(TwoOrganisations):
    """Identifiers in common; see the module."""

    name = "private_intersection"
    summary = (
        "which of its own identifiers an organisation has in common with another; two parties and no third."
    )
    results = Schema(identifier=Identifier())
    example = staticmethod(examples.private_intersection)
    Parameters = Method
    tells = "for each identifier that it put in: whether the other organisation has it too"
    each_its_own = True

    async def run(self, party: Party, parameters: Method, terms: Terms, agreed: Agreed) -> Result | None:
        """Find them; return this party's, None if it is no recipient."""
        own = agreed.state
        find = find_common_by_transfers if parameters.by == "oblivious-transfer" else find_common
        common = await find(party, self.sides(terms, agreed.rows), own.octets)
        if common is None:
            return None
        return [(str(who),) for who in own.identifiers[np.flatnonzero(common)].tolist()]

    def trust(self, parameters: Any, terms: Terms) -> str:
        """Return that both follow the protocol, and what oblivious transfers rest on besides."""
        return super().trust(parameters, terms) + (
            " Computed by oblivious transfers, it rests on SHA-256 and AES behaving like random functions as well."
        )

    def protocol_cost(self, parameters: Method, terms: Terms, rows: Mapping[PartyId, int]) -> Cost:
        """Return what the protocol costs."""
        if parameters.by == "oblivious-transfer":
            return transfers.cost(self.sides(terms, rows))
        return super().protocol_cost(parameters, terms, rows)

    def risks(self, parameters: Method, terms: Terms, rows: Mapping[PartyId, int]) -> list[Risk]:
        """Return the chance that identifiers are confused."""
        if parameters.by != "oblivious-transfer":
            return super().risks(parameters, terms, rows)
        log2 = transfers.log2_false_match(self.sides(terms, rows))
        return [Risk("log2_false_match", "two different identifiers are taken for one", min(0.0, log2))]

    def pooled(
        self,
        parameters: Method,  # noqa: ARG002
        terms: Terms,
        tables: Mapping[PartyId, Tables],
    ) -> dict[PartyId, list[tuple[Any, ...]]]:
        """Compare the lists in the clear."""
        first, second = terms.input_parties
        common = [(who,) for who in sorted(distinct(tables[first]) & distinct(tables[second]))]
        return {first: common, second: list(common)}


PRIVATE_INTERSECTION: Final = PrivateIntersection()
