"""Survival: the Kaplan-Meier curve of each group of patients at all hospitals, with confidence intervals.

Each hospital counts in its own rows how many patients of a group have the event at each time, and how many leave. Only
these counts are shared, on the grid of times 0 to `last_time`; so the cost does not grow with the patients, and no row
count is announced. A patient who is in the tables of two hospitals counts twice. With `once`, a row a patient is shared, and
each patient counts once, as the first of the hospitals in the job's order has it.

Learns: the recipients, for each group and each of `times`, the curve and its interval, where at least `min_at_risk` are
still at risk. No count; but a curve and its variance tell how many were at risk where events between two times came at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta

from secagg.errors import PlanError
from secagg.party import PartyId
from secagg.patterns.health import examples, reference
from secagg.patterns.health.agreed_names import PROBABILITY, check_names, places
from secagg.patterns.health.once import check_number, counts_once, first_of
from secagg.patterns.joint_tables import Columns, JointTable, Number, python_value
from secagg.patterns.pattern import Tables, Terms
from secagg.patterns.program import Findings, ProgramPattern
from secagg.query.schema import Boolean, Identifier, Integer, Schema
from secagg.statistics.ratios import MOST
from secagg.statistics.survival import LARGEST_TIME, confidence_interval, counts_by_time, kaplan_meier

PATIENTS: Final = Schema(
    patient=Identifier(), arm=Identifier(repeated=True), time=Integer(0, LARGEST_TIME), event=Boolean()
)


class TimesAndGroups(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The grid of times, and which groups there are."""

    arms: tuple[str, ...] = ("all",)
    last_time: Annotated[int, Meta(ge=1, le=LARGEST_TIME)] = 60
    max_patients: Annotated[int, Meta(ge=1, le=MOST)] = 10_000
    once: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """How many groups and times there are."""
        return len(self.arms), self.last_time + 1


class Curves(TimesAndGroups, frozen=True, forbid_unknown_fields=True):
    """At which times the curves are told, and at how few patients they are not."""

    times: tuple[int, ...] = (12, 24, 36, 48, 60)
    min_at_risk: Annotated[int, Meta(ge=1)] = 5
    confidence: Annotated[float, Meta(gt=0, lt=1)] = 0.95


def check_groups(parameters: TimesAndGroups, terms: Terms, least: int) -> None:
    """Raise `PlanError` for groups or bounds that cannot be computed with."""
    check_names("arms", parameters.arms, least=least)
    hospitals = len(terms.input_parties)
    if parameters.max_patients * hospitals > MOST:
        raise PlanError(
            f"max_patients = {parameters.max_patients} at {hospitals} hospitals is above {MOST} together; lower it to "
            f"{MOST // hospitals} or less"
        )


class CountsByTime(ProgramPattern):
    """What patterns over counts by time have in common."""

    inputs = {"patients": PATIENTS}  # noqa: RUF012  # nobody changes it

    def row_limit(self, terms: Terms) -> int:
        """Return the largest number of patients of one hospital."""
        return min(super().row_limit(terms), MOST // len(terms.input_parties))

    def shared(self, parameters: TimesAndGroups) -> Mapping[str, Columns]:
        """Return what is shared: counts by group and time, or of each patient group, time and event in one number."""
        if parameters.once:
            cell = Number(0, 2 * math.prod(parameters.grid) - 1)
            return {"patients": {"patient": Identifier(), "cell": cell}}
        count = Number(0, parameters.max_patients)
        return {"counts": {"events": count, "leaving": count}}

    def sizes(self, parameters: TimesAndGroups) -> Mapping[str, int]:
        """Return the number of groups and times."""
        return {} if parameters.once else {"counts": math.prod(parameters.grid)}

    def local(self, parameters: TimesAndGroups, tables: Tables) -> Mapping[str, Mapping[str, Any]]:
        """Count a hospital's own patients."""
        own = tables["patients"]
        arm = places(own["arm"], parameters.arms, "arm")
        counts = counts_by_time(
            own["time"], own["event"], last=parameters.last_time, group=arm, groups=len(parameters.arms)
        )
        if parameters.once:
            check_number(len(arm), parameters.max_patients)
            cell = np.ravel_multi_index(
                (arm, own["time"], own["event"].astype(np.int64)), (*parameters.grid, 2)
            )
            return {"patients": {"patient": own["patient"], "cell": cell}}
        return {"counts": {"events": counts[:, 0].reshape(-1), "leaving": counts[:, 1].reshape(-1)}}

    def summed_up(self, parameters: TimesAndGroups, tables: Mapping[str, JointTable]) -> tuple[Any, Any]:
        """Return the counts of all hospitals together, of shape (groups, times)."""
        if parameters.once:
            cells = 2 * math.prod(parameters.grid)
            counts = counts_once(tables["patients"], "cell", cells, "patient").reshape((*parameters.grid, 2))
            return counts[:, :, 1], counts.sum(axis=2)
        table = tables["counts"]
        shape = (len(table.owners), *parameters.grid)
        return table["events"].reshape(shape).sum(axis=0), table["leaving"].reshape(shape).sum(axis=0)

    def everybody(self, parameters: TimesAndGroups, tables: Mapping[PartyId, Tables]) -> tuple[Any, Any, Any]:
        """Return the pooled times, events and groups."""
        own = [tables[name]["patients"] for name in tables]
        time = np.concatenate([t["time"] for t in own]).astype(np.int64)
        event = np.concatenate([t["event"] for t in own]).astype(bool)
        group = np.concatenate([places(t["arm"], parameters.arms, "arm") for t in own])
        if not parameters.once:
            return time, event, group
        first = np.concatenate(first_of(tables, "patients"))
        return time[first], event[first], group[first]


class Survival(CountsByTime):
    """Kaplan-Meier curves of groups of patients; see the module."""

    name = "survival"
    summary = "the Kaplan-Meier curve of each group of patients, with confidence intervals."
    results = Schema(
        arm=Identifier(), time=Integer(), survival=PROBABILITY, lower=PROBABILITY, upper=PROBABILITY
    )
    Parameters = Curves
    example = staticmethod(examples.survival)
    hides_below = "min_at_risk"
    tells = (
        "for each group and each of the agreed times: the share that survives and its confidence interval, where at least "
        "min_at_risk patients are at risk"
    )

    def check(self, parameters: Curves, terms: Terms) -> None:
        """Raise `PlanError` for times outside the grid, and bounds that cannot be computed with."""
        check_groups(parameters, terms, 1)
        times = parameters.times
        if (
            not times
            or list(times) != sorted(set(times))
            or not 0 <= times[0] <= times[-1] <= parameters.last_time
        ):
            raise PlanError(
                f"expected times that rise from 0 to last_time, which is {parameters.last_time}, got {list(times)!r:.80}"
            )
        super().check(parameters, terms)

    def program(self, parameters: Curves, tables: Mapping[str, JointTable]) -> Findings:
        """Work out all curves, and open them at the agreed times."""
        at = kaplan_meier(*self.summed_up(parameters, tables)).at(parameters.times)
        arms, times = len(parameters.arms), len(parameters.times)
        return Findings(
            {
                "arm": np.repeat(parameters.arms, times).tolist(),
                "time": np.tile(parameters.times, arms),
                "survival": at.curve.reshape(-1),
                "variance": at.greenwood.reshape(-1),
            },
            shown=(at.at_risk >= parameters.min_at_risk).reshape(-1),
        )

    def from_opened(self, parameters: Curves, columns: Sequence[Any]) -> Sequence[Any]:
        """Make intervals of the curve and its variance."""
        arm, time, curve, variance = columns
        return [arm, time, curve, *confidence_interval(curve, variance, level=parameters.confidence)]

    def pooled(self, parameters: Curves, tables: Mapping[PartyId, Tables]) -> list[tuple[Any, ...]]:
        """Compute the curves of the pooled patients."""
        time, event, group = self.everybody(parameters, tables)
        rows = []
        for g, arm in enumerate(parameters.arms):
            of = group == g
            curve, variance, at_risk = reference.kaplan_meier(time[of], event[of], parameters.last_time)
            low, high = confidence_interval(curve, variance * 2.0**44, level=parameters.confidence)
            for t in parameters.times:
                if at_risk[t] >= parameters.min_at_risk:
                    ends = (python_value(PROBABILITY, float(x[t])) for x in (curve, low, high))
                    rows.append((arm, t, *ends))
        return rows


SURVIVAL: Final = Survival()
