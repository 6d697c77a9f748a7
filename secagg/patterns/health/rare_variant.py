"""Rare variant: which of the agreed variants are carried by a few patients of all hospitals together, but not by too few.

Each hospital counts the carriers among its own patients, and only counts are shared. A patient who is in the tables of two
hospitals counts twice. With `once`, each patient and variant is shared, and counts once however many hospitals have it.

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
from secagg.patterns.health.once import counts_once
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
    once: bool = False


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
    hides_below = "min_carriers"
    tells = "each variant with as many carriers as agreed, and their number"

    def check(self, parameters: Carriers, terms: Terms) -> None:
        """Raise `PlanError` for what cannot be told."""
        check_names("variants", parameters.variants, most=_MOST_VARIANTS)
        if parameters.min_carriers > parameters.max_carriers:
            raise PlanError(
                f"min_carriers = {parameters.min_carriers} is above max_carriers = {parameters.max_carriers}; lower it"
            )
        super().check(parameters, terms)

    def row_limit(self, terms: Terms) -> int:
        """Return the largest number of patients of one hospital."""
        return min(super().row_limit(terms), MOST // len(terms.input_parties))

    def shared(self, parameters: Carriers) -> Mapping[str, Columns]:
        """Return what is shared: a number a variant, or a row a patient and variant."""
        if parameters.once:
            variant = Number(0, len(parameters.variants) - 1)
            return {"carriers": {"patient": Identifier(), "variant": variant}}
        return {"counts": {"carriers": Number(0, MOST)}}

    def sizes(self, parameters: Carriers) -> Mapping[str, int]:
        """Return the number of variants."""
        return {} if parameters.once else {"counts": len(parameters.variants)}

    def local(self, parameters: Carriers, tables: Tables) -> Mapping[str, Mapping[str, Any]]:
        """Count a hospital's own carriers, or number the variant of each."""
        patients, at = _carriers(parameters, tables["carriers"])
        if parameters.once:
            names = np.array([*patients, None], object)[:-1]
            return {"carriers": {"patient": names, "variant": at}}
        return {"counts": {"carriers": np.bincount(at, minlength=len(parameters.variants))}}

    def program(self, parameters: Carriers, tables: Mapping[str, JointTable]) -> Findings:
        """Add up, and show what few carry."""
        (table,) = tables.values()
        if parameters.once:
            total = counts_once(table, "variant", len(parameters.variants), "patient", "variant")
        else:
            total = table["carriers"].reshape((len(table.owners), -1)).sum(axis=0)
        shown = (total >= parameters.min_carriers) & (total <= parameters.max_carriers)
        return Findings({"variant": list(parameters.variants), "carriers": total}, shown=shown)

    def pooled(self, parameters: Carriers, tables: Mapping[PartyId, Tables]) -> list[tuple[str, int]]:
        """Count in the clear."""
        pairs = [
            pair
            for own in tables.values()
            for pair in zip(*_carriers(parameters, own["carriers"]), strict=True)
        ]
        at = [place for _, place in (dict.fromkeys(pairs) if parameters.once else pairs)]
        total = np.bincount(np.array(at, np.int64), minlength=len(parameters.variants))
        return [
            (name, int(n))
            for name, n in zip(parameters.variants, total, strict=True)
            if parameters.min_carriers <= n <= parameters.max_carriers
        ]


def _carriers(parameters: Carriers, table: Mapping[str, Any]) -> tuple[list[Any], NDArray[np.int64]]:
    """Return a hospital's carriers, each of a variant once, and which variant that is."""
    pairs = list(dict.fromkeys(zip(table["patient"], table["variant"], strict=True)))
    at = places([variant for _, variant in pairs], parameters.variants, "variant")
    return [patient for patient, _ in pairs], at


RARE_VARIANT: Final = RareVariant()
