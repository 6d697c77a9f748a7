"""Linkage count: how many people two organisations have in common, by names and birth dates that are not spelt alike.

Learns: the parties of the role `result`, or else both organisations, the number; if it is below `smallest`, that alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from msgspec import Meta

from secagg.party import PartyId
from secagg.patterns.joint_tables import JointTable
from secagg.patterns.linkage import examples
from secagg.patterns.linkage.people import Comparison, LinkingPattern
from secagg.patterns.pattern import COMPUTING, INPUT, RoleSize, Tables
from secagg.patterns.program import RESULT, Findings
from secagg.query.schema import Integer, Schema


class Counted(Comparison, frozen=True, forbid_unknown_fields=True):
    """How people are compared, and from how many links on their number is told."""

    smallest: Annotated[int, Meta(ge=0)] = 10


class LinkageCount(LinkingPattern):
    """How many people are linked; see the module."""

    name = "linkage_count"
    summary = (
        "how many people two organisations have in common, by names and birth dates that are not spelt alike."
    )
    results = Schema(links=Integer())
    Parameters = Counted
    roles: Mapping[str, RoleSize] = {
        INPUT: RoleSize(2, 2),
        COMPUTING: RoleSize(3, 4),
        RESULT: RoleSize(0, 255),
    }
    tells = "how many people are linked; only whether these are fewer than the smallest number, if so"
    example = staticmethod(examples.linkage_count)

    def program(self, parameters: Counted, tables: Mapping[str, JointTable]) -> Findings:
        """Count the links."""
        count = self.links(parameters, tables).count().reshape(1)
        return Findings({"links": count}, count >= parameters.smallest)

    def pooled(self, parameters: Counted, tables: Mapping[PartyId, Tables]) -> list[tuple[int]]:
        """Count in the clear."""
        count = len(self.linked(parameters, tables))
        return [(count,)] if count >= parameters.smallest else []


LINKAGE_COUNT: Final = LinkageCount()
