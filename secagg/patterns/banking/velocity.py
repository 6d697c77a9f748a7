"""Velocity: one device, card or document that turns up at several organisations within a short time.

Each organisation puts in when it saw which instrument. An instrument is flagged if, within some span of `within_s` seconds,
at least `min_organisations` of them saw it.

Learns: an organisation, for each instrument that it saw, whether it is flagged. If so, it learns how many organisations saw
it at all. It does not learn which ones, or when. Nothing about other instruments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta

from secagg.errors import PlanError
from secagg.mpc import concat
from secagg.party import PartyId
from secagg.patterns.banking import examples
from secagg.patterns.groups import Groups
from secagg.patterns.joint_tables import MS, JointTable
from secagg.patterns.pattern import Tables, Terms
from secagg.patterns.program import Findings, ProgramPattern
from secagg.patterns.windows import Asked, window_sums
from secagg.query.schema import Identifier, Integer, Schema, Time


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many organisations within how many seconds."""

    min_organisations: Annotated[int, Meta(ge=2, le=255)] = 2
    within_s: Annotated[int, Meta(ge=0, le=10**9)] = 86_400


class Velocity(ProgramPattern):
    """Instruments at several organisations within a short time; see the module."""

    name = "velocity"
    summary = "one device, card or document at several organisations within a short time."
    inputs = {"uses": Schema(instrument=Identifier(), time=Time())}  # noqa: RUF012  # nobody changes it
    results = Schema(instrument=Identifier(), organisations=Integer())
    Parameters = Thresholds
    example = staticmethod(examples.velocity)
    about = "uses"
    tells = "for each instrument that it put in: whether it is flagged and, only if so, how many organisations saw it at all"

    def check(self, parameters: Thresholds, terms: Terms) -> None:
        """Raise `PlanError` for what cannot be computed or reached."""
        organisations = len(terms.input_parties)
        if parameters.min_organisations > organisations:
            raise PlanError(
                f"min_organisations = {parameters.min_organisations} is out of reach, because {organisations} parties put "
                f"in data; lower it to {organisations} or less, or name more parties under input"
            )
        super().check(parameters, terms)

    def program(self, parameters: Thresholds, tables: Mapping[str, JointTable]) -> Findings:
        """Count for each use the organisations that saw the instrument in the time up to it."""
        uses = tables["uses"]
        instrument, time, n = uses["instrument"], uses["time"], len(uses.owners)
        seen = uses.valid.reshape(-1, 1) & (uses.owner[:, None] == np.arange(n))
        before = Asked(instrument, time - parameters.within_s * MS, time)
        within = window_sums(instrument, time, seen.astype(int), before) > 0
        fast = (within.sum(axis=1) >= parameters.min_organisations) & uses.valid
        counts = Groups([instrument]).sum_each(
            concat([seen.astype(int), fast.astype(int).reshape(-1, 1)], axis=1)
        )
        found = counts > 0
        return Findings({"organisations": found[:, :n].sum(axis=1)}, shown=found[:, n])

    def pooled(
        self,
        parameters: Thresholds,
        tables: Mapping[PartyId, Tables],
    ) -> dict[tuple[str], tuple[int]]:
        """Compare all uses of an instrument with each other in the clear."""
        uses: dict[str, list[tuple[int, PartyId]]] = {}
        for organisation, own in tables.items():
            for which, at in zip(own["uses"]["instrument"], own["uses"]["time"].tolist(), strict=True):
                uses.setdefault(which, []).append((round(at * MS), organisation))
        return {
            (which,): (len({o for _, o in seen}),)
            for which, seen in uses.items()
            if any(
                len({o for at, o in seen if last - parameters.within_s * MS <= at <= last})
                >= parameters.min_organisations
                for last, _ in seen
            )
        }


VELOCITY: Final = Velocity()
