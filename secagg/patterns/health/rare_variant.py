"""Rare variant: which of the agreed variants are carried by a few patients of all hospitals together, but not by too few.

Each hospital counts the carriers among its own patients, and only counts are shared. A patient who is in the tables of two
hospitals counts twice.

Learns: the recipients, for each variant with `min_carriers` to `max_carriers` carriers, their number. Of other variants,
that they have fewer or more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from secagg.errors import PlanError
from secagg.party import PartyId
from secagg.patterns.health import examples
from secagg.patterns.health.agreed_names import check_names, places
from secagg.patterns.joint_tables import Columns, JointTable, Number
from secagg.patterns.pattern import Tables, Terms
from secagg.patterns.program import Findings, ProgramPattern
from secagg.query.schema import Identifier, Integer, Schema
from secagg.statistics.ratios import MOST

_MOST_VARIANTS: Final = 100_000


class Carriers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which variants, and of how many carriers a number is told."""

    variants: tuple[str, ...] = ("rs1", "rs2")
    min_carriers: Annotated[int, Meta(ge=1)] = 5
    max_carriers: Annotated[int, Meta(ge=1)] = 50


class RareVariant(ProgramPattern):
    """Variants that few patients carry; see the module."""

    name = "rare_variant"
    summary = "which variants a few patients carry, at all hospitals together."
    inputs = {  # noqa: RUF012  # nobody changes it
        "carriers": Schema(patient=Identifier(), variant=Identifier(repeated=True))
    }
    results = Schema(variant=Identifier(), carriers=Integer())
    Parameters = Carriers
    example = staticmethod(examples.rare_variant)
    tells = "each variant with as many carriers as agreed, and their number"

    def check(self, parameters: Carriers, terms: Terms) -> None:
        """Raise `PlanError` for what cannot be told."""
        check_names("variants", parameters.variants, most=_MOST_VARIANTS)
        if parameters.min_carriers > parameters.max_carriers:
            raise PlanError(
                f"min_carriers = {parameters.min_carriers} is above max_carriers = {parameters.max_carriers}; lower it"
            )
        super().check(parameters, terms)

    def shared(self, parameters: Carriers) -> Mapping[str, Columns]:  # noqa: ARG002
        """Return what is shared: a number a variant."""
        return {"counts": {"carriers": Number(0, MOST)}}

    def sizes(self, parameters: Carriers) -> Mapping[str, int]:
        """Return the number of variants."""
        return {"counts": len(parameters.variants)}

    def local(self, parameters: Carriers, tables: Tables) -> Mapping[str, Mapping[str, Any]]:
        """Count a hospital's own carriers."""
        return {"counts": {"carriers": _carriers(parameters, tables["carriers"])}}

    def program(self, parameters: Carriers, tables: Mapping[str, JointTable]) -> Findings:
        """Add up, and show what few carry."""
        counts = tables["counts"]
        total = counts["carriers"].reshape((len(counts.owners), -1)).sum(axis=0)
        shown = (total >= parameters.min_carriers) & (total <= parameters.max_carriers)
        return Findings({"variant": list(parameters.variants), "carriers": total}, shown=shown)

    def pooled(self, parameters: Carriers, tables: Mapping[PartyId, Tables]) -> list[tuple[str, int]]:
        """Count in the clear."""
        total = np.sum([_carriers(parameters, own["carriers"]) for own in tables.values()], axis=0)
        return [
            (name, int(n))
            for name, n in zip(parameters.variants, total, strict=True)
            if parameters.min_carriers <= n <= parameters.max_carriers
        ]


def _carriers(parameters: Carriers, table: Mapping[str, Any]) -> NDArray[np.int64]:
    pairs = list(dict.fromkeys(zip(table["patient"], table["variant"], strict=True)))
    at = places([variant for _, variant in pairs], parameters.variants, "variant")
    return np.bincount(at, minlength=len(parameters.variants))


RARE_VARIANT: Final = RareVariant()
