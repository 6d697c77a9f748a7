"""Marker co-occurrence: whether two markers are found together in more patients than chance explains.

Each hospital counts alone how many of its patients have both markers, one of them or neither. A patient who is in the
tables of two hospitals counts twice. With `once`, a row a patient is shared, and each patient counts once, as the first of
the hospitals in the job's order has it.

Learns: the recipients, one bit: whether the markers occur together more often than if they were independent, with a
chi-square (one degree of freedom) above the agreed `level`. With `tell = "strength"` also the chi-square itself. No count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta

from secagg.errors import PlanError
from secagg.mpc import int64
from secagg.party import PartyId
from secagg.patterns.health import examples
from secagg.patterns.health.agreed_names import STATISTIC
from secagg.patterns.health.once import check_number, counts_once, first_of
from secagg.patterns.joint_tables import Columns, JointTable, Number, python_value
from secagg.patterns.pattern import Tables, Terms
from secagg.patterns.program import Findings, ProgramPattern
from secagg.query.schema import Boolean, Identifier, Schema
from secagg.statistics.contingency import cell_counts, chi_square, chi_square_test
from secagg.statistics.ratios import MOST


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The level of the test, and what is told."""

    level: Annotated[float, Meta(gt=0, lt=1)] = 0.05
    tell: Literal["verdict", "strength"] = "verdict"
    max_patients: Annotated[int, Meta(ge=1, le=MOST)] = 10_000
    once: bool = False

    @property
    def critical(self) -> float:
        """The chi-square of one degree of freedom at the level."""
        return float(NormalDist().inv_cdf(1 - self.level / 2) ** 2)


class MarkerCooccurrence(ProgramPattern):
    """Whether two markers occur together; see the module."""

    name = "marker_cooccurrence"
    summary = "whether two markers are found together more often than chance explains."
    inputs = {  # noqa: RUF012  # nobody changes it
        "patients": Schema(patient=Identifier(), first=Boolean(), second=Boolean())
    }
    results = Schema(what=Identifier(), value=STATISTIC)
    Parameters = Level
    example = staticmethod(examples.marker_cooccurrence)
    tells = "whether both markers occur together more often than chance explains and, if so agreed, the chi-square"

    def check(self, parameters: Level, terms: Terms) -> None:
        """Raise `PlanError` for more patients than can be computed with."""
        if parameters.max_patients * len(terms.input_parties) > MOST:
            raise PlanError(f"expected at most {MOST} patients of all hospitals together; lower max_patients")
        super().check(parameters, terms)

    def row_limit(self, terms: Terms) -> int:
        """Return the largest number of patients of one hospital."""
        return min(super().row_limit(terms), MOST // len(terms.input_parties))

    def shared(self, parameters: Level) -> Mapping[str, Columns]:
        """Return what is shared: four cells, or the cell of each patient."""
        if parameters.once:
            return {"patients": {"patient": Identifier(), "cell": Number(0, 3)}}
        return {"cells": {"patients": Number(0, parameters.max_patients)}}

    def sizes(self, parameters: Level) -> Mapping[str, int]:
        """Return the number of cells."""
        return {} if parameters.once else {"cells": 4}

    def local(self, parameters: Level, tables: Tables) -> Mapping[str, Mapping[str, Any]]:
        """Count a hospital's own patients, or find the cell of each."""
        own = tables["patients"]
        if parameters.once:
            check_number(len(own["patient"]), parameters.max_patients)
            cell = 2 * own["first"].astype(np.int64) + own["second"]
            return {"patients": {"patient": own["patient"], "cell": cell}}
        return {"cells": {"patients": cell_counts([own["first"], own["second"]], [2, 2]).reshape(-1)}}

    def program(self, parameters: Level, tables: Mapping[str, JointTable]) -> Findings:
        """Test on shares, and open the verdict."""
        (table,) = tables.values()
        if parameters.once:
            counts, most = counts_once(table, "cell", 4, "patient").reshape((2, 2)), table.rows
        else:
            counts = table["patients"].reshape((len(table.owners), 2, 2)).sum(axis=0)
            most = parameters.max_patients * len(table.owners)
        statistic, _ = chi_square(counts, most=most)
        more = counts[1, 1] * counts[0, 0] > counts[0, 1] * counts[1, 0]
        verdict = (more & (statistic > parameters.critical)).reshape(1)
        found: dict[str, Any] = {"verdict": verdict.astype(int64)}
        if parameters.tell == "strength":
            found["strength"] = statistic.reshape(1)
        return Findings(found)

    def from_opened(self, parameters: Level, columns: Sequence[Any]) -> Sequence[Any]:  # noqa: ARG002
        """Name what was opened."""
        values = [float(column[0]) for column in columns]
        return [["together", "chi-square"][: len(values)], values]

    def pooled(self, parameters: Level, tables: Mapping[PartyId, Tables]) -> list[tuple[Any, ...]]:
        """Test the pooled patients."""
        of = [
            np.column_stack([own["patients"][name] for name in ("first", "second")])
            for own in tables.values()
        ]
        markers = np.concatenate(of)
        if parameters.once:
            markers = markers[np.concatenate(first_of(tables, "patients"))]
        counts = cell_counts([markers[:, 0], markers[:, 1]], [2, 2])
        statistic, _, _ = chi_square_test(counts)
        more = bool(counts[1, 1] * counts[0, 0] > counts[0, 1] * counts[1, 0])
        rows = [("together", float(more and statistic > parameters.critical)), ("chi-square", statistic)]
        opened = rows if parameters.tell == "strength" else rows[:1]
        return [(what, python_value(STATISTIC, value)) for what, value in opened]


MARKER_COOCCURRENCE: Final = MarkerCooccurrence()
