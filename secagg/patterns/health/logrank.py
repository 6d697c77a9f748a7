"""Log-rank: whether groups of patients at all hospitals have different survival curves.

What hospitals share is what they share for `survival`: counts by group and time. A patient who is in the tables of two
hospitals counts twice, and with `once` once.

Learns: the recipients, if no group has fewer than `min_patients` patients but those that have none, the test's statistic,
its degrees of freedom, which are the groups with patients at risk less one, and the p-value that follows from both. Neither
the curves nor the sizes of groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import numpy as np
from msgspec import Meta

from secagg.mpc import int64
from secagg.party import PartyId
from secagg.patterns.health import examples, reference
from secagg.patterns.health.agreed_names import PROBABILITY, STATISTIC
from secagg.patterns.health.survival import CountsByTime, TimesAndGroups, check_groups
from secagg.patterns.joint_tables import JointTable, python_value
from secagg.patterns.pattern import Tables, Terms
from secagg.patterns.program import Findings
from secagg.query.schema import Integer, Schema
from secagg.statistics.log_rank import logrank, p_value


class Groups(TimesAndGroups, frozen=True, forbid_unknown_fields=True):
    """Which groups are compared, and how few patients of one are too few."""

    arms: tuple[str, ...] = ("control", "treatment")
    min_patients: Annotated[int, Meta(ge=1)] = 10


class LogRank(CountsByTime):
    """The log-rank test; see the module."""

    name = "logrank"
    summary = "whether groups of patients have different survival curves: the log-rank test."
    results = Schema(statistic=STATISTIC, degrees=Integer(), p_value=PROBABILITY)
    Parameters = Groups
    example = staticmethod(examples.logrank)
    hides_below = "min_patients"
    tells = "if no group is too small, the log-rank statistic of the groups, its degrees of freedom, and the p-value"

    def check(self, parameters: Groups, terms: Terms) -> None:
        """Raise `PlanError` for fewer than two groups, and bounds that cannot be computed with."""
        check_groups(parameters, terms, 2)
        super().check(parameters, terms)

    def program(self, parameters: Groups, tables: Mapping[str, JointTable]) -> Findings:
        """Work out the test."""
        (table,) = tables.values()
        most = table.rows if parameters.once else parameters.max_patients * len(table.owners)
        events, leaving = self.summed_up(parameters, tables)
        found = logrank(events, leaving, most=most)
        patients = leaving.sum(axis=1)
        return Findings(
            {
                "statistic": found.statistic.reshape(1),
                "degrees": found.degrees.astype(int64).reshape(1),
            },
            shown=((patients == 0) | (patients >= parameters.min_patients)).all().reshape(1),
        )

    def from_opened(self, parameters: Groups, columns: Sequence[Any]) -> Sequence[Any]:  # noqa: ARG002
        """Add the p-value."""
        (statistic,), (degrees,) = columns
        return [[float(statistic)], [int(degrees)], [p_value(statistic, int(degrees))]]

    def pooled(self, parameters: Groups, tables: Mapping[PartyId, Tables]) -> list[tuple[Any, ...]]:
        """Compute the test of the pooled patients."""
        time, event, group = self.everybody(parameters, tables)
        if any(0 < n < parameters.min_patients for n in np.bincount(group)):
            return []
        statistic, degrees = reference.logrank(time, event, group, len(parameters.arms))
        p = p_value(statistic, degrees)
        return [(python_value(STATISTIC, statistic), degrees, python_value(PROBABILITY, p))]


LOGRANK: Final = LogRank()
