"""Cohort count: how many patients of all hospitals meet criteria, each patient once or each hospital's patients added up.

Each hospital puts in the patients that meet the criteria, which a query over its own table selects. With `once`, the same
patient at two hospitals counts once: identifiers are compared in secret, under pseudonyms. Without, only one number a
hospital is shared.

Learns: the recipients, the number of patients if it is at least `min_patients`, and else that it is not. Not how many lie at
which hospital, or at several: with `once` row counts are announced, rounded up, and bound both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from secagg.mpc import concat, int64, sort_by
from secagg.party import PartyId
from secagg.patterns.health import examples
from secagg.patterns.joint_tables import Columns, JointTable, Number
from secagg.patterns.pattern import Tables
from secagg.patterns.program import Findings, ProgramPattern
from secagg.query.schema import Identifier, Integer, Schema

_MOST: Final = 1 << 32


class Cohort(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether patients are told apart, and below which number nothing is told."""

    once: bool = True
    min_patients: Annotated[int, Meta(ge=0)] = 5


class CohortCount(ProgramPattern):
    """The number of patients that meet criteria; see the module."""

    name = "cohort_count"
    summary = "how many patients meet criteria, each counted once over all hospitals."
    inputs = {"patients": Schema(patient=Identifier())}  # noqa: RUF012  # nobody changes it
    results = Schema(patients=Integer())
    Parameters = Cohort
    example = staticmethod(examples.cohort_count)
    hides_below = "min_patients"
    tells = "the number of patients, if it is at least the smallest one that may be told"

    def shared(self, parameters: Cohort) -> Mapping[str, Columns]:
        """Return what is shared: pseudonyms, or one number."""
        if parameters.once:
            return super().shared(parameters)
        return {"counts": {"patients": Number(0, _MOST)}}

    def sizes(self, parameters: Cohort) -> Mapping[str, int]:
        """Return one for one number."""
        return {} if parameters.once else {"counts": 1}

    def local(self, parameters: Cohort, tables: Tables) -> Mapping[str, Mapping[str, Any]]:
        """Take each of a hospital's patients once."""
        patients = tables["patients"]["patient"]
        if parameters.once:
            return {"patients": {"patient": patients}}
        return {"counts": {"patients": [len(set(patients))]}}

    def program(self, parameters: Cohort, tables: Mapping[str, JointTable]) -> Findings:
        """Count; with `once`, rows whose patient differs from the one before in order."""
        if parameters.once:
            rows = tables["patients"]
            absent, patient = sort_by([~rows.valid, rows["patient"]], [~rows.valid, rows["patient"]])
            first = ~absent[:1]
            others = (patient[1:] != patient[:-1]) & ~absent[1:]
            count = concat([first, others]).astype(int64).sum().reshape(1)
        else:
            count = tables["counts"]["patients"].sum().reshape(1)
        return Findings({"patients": count}, shown=count >= parameters.min_patients)

    def pooled(self, parameters: Cohort, tables: Mapping[PartyId, Tables]) -> list[tuple[int]]:
        """Count in the clear."""
        each = [set(own["patients"]["patient"]) for own in tables.values()]
        count = len(set().union(*each)) if parameters.once else sum(map(len, each))
        return [(count,)] if count >= parameters.min_patients else []


COHORT_COUNT: Final = CohortCount()
