"""Private intersection: which of its own identifiers an organisation shares with another, with no third party.

Rows of one identifier count once. Learns: each party of the role `result`, or else both, which of its own identifiers the
other has too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np

from secagg.party import Party, PartyId
from secagg.patterns.pattern import Agreed, Result, Tables, Terms
from secagg.patterns.two_organisations import examples
from secagg.patterns.two_organisations.lists import TwoOrganisations, distinct
from secagg.protocols.intersection import find_common
from secagg.query.schema import Identifier, Schema


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """There is nothing to choose."""


class PrivateIntersection(TwoOrganisations):
    """Identifiers in common; see the module."""

    name = "private_intersection"
    summary = (
        "which of its own identifiers an organisation has in common with another; two parties and no third."
    )
    results = Schema(identifier=Identifier())
    example = staticmethod(examples.private_intersection)
    Parameters = Nothing
    tells = "for each identifier that it put in: whether the other organisation has it too"
    each_its_own = True

    async def run(self, party: Party, parameters: Nothing, terms: Terms, agreed: Agreed) -> Result | None:  # noqa: ARG002
        """Find them; return this party's, None if it is no recipient."""
        own = agreed.state
        common = await find_common(party, self.sides(terms, agreed.rows), own.octets)
        if common is None:
            return None
        return [(str(who),) for who in own.identifiers[np.flatnonzero(common)].tolist()]

    def pooled(
        self,
        parameters: Nothing,  # noqa: ARG002
        terms: Terms,
        tables: Mapping[PartyId, Tables],
    ) -> dict[PartyId, list[tuple[Any, ...]]]:
        """Compare the lists in the clear."""
        first, second = terms.input_parties
        common = [(who,) for who in sorted(distinct(tables[first]) & distinct(tables[second]))]
        return {first: common, second: list(common)}


PRIVATE_INTERSECTION: Final = PrivateIntersection()
