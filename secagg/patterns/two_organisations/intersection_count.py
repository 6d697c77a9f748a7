"""Intersection count: how many identifiers two organisations have in common, and not which, with no third party.

Rows of one identifier count once. Learns: each party of the role `result`, or else both, the number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from secagg.party import Party, PartyId
from secagg.patterns.pattern import Agreed, Result, Tables, Terms
from secagg.patterns.two_organisations import examples
from secagg.patterns.two_organisations.lists import TwoOrganisations, distinct
from secagg.protocols.intersection import count_common
from secagg.query.schema import Integer, Schema


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """There is nothing to choose."""


class IntersectionCount(TwoOrganisations):
    """How many identifiers are in common; see the module."""

    name = "intersection_count"
    summary = (
        "how many identifiers two organisations have in common, and not which; two parties and no third."
    )
    results = Schema(identifiers=Integer())
    example = staticmethod(examples.intersection_count)
    Parameters = Nothing
    tells = "how many identifiers both organisations have"
    lies = (
        "One that alters its program can falsify the result. It can also learn which of its identifiers are in common. "
        "It is not caught. "
    )

    async def run(self, party: Party, parameters: Nothing, terms: Terms, agreed: Agreed) -> Result | None:  # noqa: ARG002
        """Count them; None if this party is no recipient."""
        count = await count_common(party, self.sides(terms, agreed.rows), agreed.state.octets)
        return None if count is None else [(count,)]

    def warnings(self, parameters: Nothing, terms: Terms) -> list[str]:  # noqa: ARG002
        """Warn of counts that tell of single persons."""
        warning = (
            "a count of any size is told. An organisation that repeats the run with one identifier more or less learns "
            "whether the other has it."
        )
        return [warning]

    def pooled(
        self,
        parameters: Nothing,  # noqa: ARG002
        terms: Terms,
        tables: Mapping[PartyId, Tables],
    ) -> dict[PartyId, list[tuple[Any, ...]]]:
        """Count in the clear."""
        first, second = terms.input_parties
        count = len(distinct(tables[first]) & distinct(tables[second]))
        return {first: [(count,)], second: [(count,)]}


INTERSECTION_COUNT: Final = IntersectionCount()
