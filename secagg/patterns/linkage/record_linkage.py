"""Record linkage: which people of two organisations are the same, by names and birth dates that are not spelt alike.

Learns: each organisation, for each of its people, whether it is linked, and only if so the link's number, which is the same
at both. Numbers follow the slots of the first organisation (`people`), which a digest of its own identifiers orders.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from secagg.mpc import concat
from secagg.party import PartyId
from secagg.patterns.joint_tables import JointTable
from secagg.patterns.linkage import examples
from secagg.patterns.linkage.people import SLOTS, Comparison, LinkingPattern
from secagg.patterns.pattern import Tables, Terms
from secagg.patterns.program import Findings
from secagg.query.schema import Identifier, Integer, Schema


class RecordLinkage(LinkingPattern):
    """Who is linked; see the module."""

    name = "record_linkage"
    summary = (
        "which people of two organisations are the same, by names and birth dates that are not spelt alike."
    )
    results = Schema(person=Identifier(), link=Integer())
    about = SLOTS
    tells = "for each person that it put in: whether it is linked and, only if so, the number of the link, the same at both"
    example = staticmethod(examples.record_linkage)

    def program(self, parameters: Comparison, tables: Mapping[str, JointTable]) -> Findings:
        """Number the links, and tell each side its own."""
        links = self.links(parameters, tables)
        numbers = concat([side.reshape(-1) for side in links.numbers()])
        return Findings({"link": numbers}, concat([side.reshape(-1) for side in links.sides()]))

    def pooled(
        self, parameters: Comparison, tables: Mapping[PartyId, Tables]
    ) -> dict[tuple[str], tuple[int]]:
        """Link in the clear, for the first organisation; `reference` does it for both."""
        pairs = self.linked(parameters, tables)
        return {(one,): (number,) for number, (one, _) in enumerate(pairs, 1)}

    def reference(
        self, parameters: Comparison, terms: Terms, tables: Mapping[PartyId, Tables]
    ) -> dict[PartyId, list[tuple[Any, ...]]]:
        """Return what each organisation is told, in the order of its slots; both may call different people alike."""
        pairs = self.linked(parameters, {name: tables[name] for name in terms.input_parties})
        told = {}
        for side, name in enumerate(terms.input_parties):
            number = {pair[side]: i for i, pair in enumerate(pairs, 1)}
            own = self.local(parameters, tables[name])[SLOTS]["person"].tolist()
            told[name] = [(who, number[who]) for who in own if who in number]
        return told


RECORD_LINKAGE: Final = RecordLinkage()
