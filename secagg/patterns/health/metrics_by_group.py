"""Metrics by group: whom a model serves worse, over the patients of all hospitals, small groups suppressed.

A hospital's table `predictions` has a row a patient: group, true label, and the model's score. Each hospital counts its own
rows by group, side and score bin, and only counts are shared (`statistics.served`). So a patient who is in the tables of two
hospitals counts twice. A hospital scores its patients itself: the model stays where it is.

Learns: of each group of at least `min_patients` their number. Where it has at least so many of either label too, accuracy,
the rate of positives, and true and false positive rates. Of each score bin of enough patients the mean score and the rate of
positives. What would follow from a known total is left out as well: see `statistics.served`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from secagg.errors import PlanError, UsageError
from secagg.party import PartyId
from secagg.patterns.health import examples
from secagg.patterns.health.agreed_names import STATISTIC, check_names, places
from secagg.patterns.joint_tables import Columns, JointTable, Number, python_value
from secagg.patterns.pattern import Tables, Terms
from secagg.patterns.program import Findings, ProgramPattern
from secagg.query.schema import Boolean, Identifier, Real, Schema
from secagg.statistics.ratios import MOST
from secagg.statistics.served import SCORE_BITS, group_counts, metrics_of, released

_DECIMALS: Final = 15  # of scores, as far as whole numbers hold all that a model writes
_NAMED: Final = {
    "rows": "patients",
    "accuracy": "accuracy",
    "positive_rate": "rate of positives",
    "tpr": "true positive rate",
    "fpr": "false positive rate",
    "calibration_error": "calibration error",
}


class Served(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The groups, the score bins, from which score on the model says yes, and what is told."""

    groups: tuple[str, ...] = ()  # which `check` refuses: a job names them
    bins: Annotated[int, Meta(ge=1, le=64)] = 10
    threshold: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    min_patients: Annotated[int, Meta(ge=2)] = 20


class MetricsByGroup(ProgramPattern):
    """Metrics by group; see the module."""

    name = "metrics_by_group"
    summary = "whom a model serves worse: accuracy, rates and calibration by group, small groups suppressed."
    inputs = {  # noqa: RUF012  # nobody changes it
        "predictions": Schema(
            patient=Identifier(),
            group=Identifier(repeated=True),
            label=Boolean(),
            score=Real(Decimal(0), Decimal(1), _DECIMALS, cut=True),
        )
    }
    results = Schema(group=Identifier(), what=Identifier(), value=STATISTIC)
    Parameters = Served
    example = staticmethod(examples.metrics_by_group)
    hides_below = "min_patients"
    named = {"groups": "group"}  # noqa: RUF012  # nobody changes it
    tells = (
        "of each group of enough patients their number; of each with enough of either label the model's accuracy, true and "
        "false positive rates and calibration"
    )

    def check(self, parameters: Served, terms: Terms) -> None:
        """Raise `PlanError` for groups or bins that cannot be computed."""
        check_names("groups", parameters.groups)
        try:
            self._count(parameters, np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0))
        except UsageError as error:
            raise PlanError(str(error)) from None
        super().check(parameters, terms)

    def row_limit(self, terms: Terms) -> int:
        """Return the largest number of patients of one hospital."""
        return min(super().row_limit(terms), MOST // len(terms.input_parties))

    def shared(self, parameters: Served) -> Mapping[str, Columns]:  # noqa: ARG002
        """Return what is shared: counts and sums of scores."""
        return {"counts": {"count": Number(0, MOST << SCORE_BITS)}}

    def sizes(self, parameters: Served) -> Mapping[str, int]:
        """Return the number of counts."""
        return {"counts": len(parameters.groups) * _each(parameters)}

    def local(self, parameters: Served, tables: Tables) -> Mapping[str, Mapping[str, Any]]:
        """Count a hospital's own patients."""
        return {"counts": {"count": self._count(parameters, *_columns(parameters, tables)).reshape(-1)}}

    def program(self, parameters: Served, tables: Mapping[str, JointTable]) -> Findings:
        """Add up the counts, and suppress small ones and what would tell them."""
        rows = tables["counts"]
        shape = (len(rows.owners), len(parameters.groups), _each(parameters))
        counts = rows["count"].reshape(shape)
        shown = released(counts, smallest=parameters.min_patients, threshold=parameters.threshold)
        return Findings(shown._asdict())

    def from_opened(self, parameters: Served, columns: Sequence[Any]) -> Sequence[Any]:
        """Name the metrics."""
        found: list[tuple[str, str, float]] = []
        for name, metrics in zip(parameters.groups, metrics_of(columns), strict=True):
            known = {what: getattr(metrics, field) for field, what in _NAMED.items()}
            found += [(name, what, float(value)) for what, value in known.items() if value is not None]
            for i, one in enumerate(metrics.calibration):
                if one is not None:
                    found += _bin(parameters, name, i, *one)
        return [list(column) for column in zip(*found, strict=True)] or [[], [], []]

    def pooled(self, parameters: Served, tables: Mapping[PartyId, Tables]) -> list[tuple[Any, ...]]:
        """Compute the metrics of the pooled rows."""
        parts = [_columns(parameters, own) for own in tables.values()]
        group, label, score = (np.concatenate(column) for column in zip(*parts, strict=True))
        said, least = score >= parameters.threshold, parameters.min_patients
        place = (score[:, None] >= np.arange(1, parameters.bins) / parameters.bins).sum(axis=1)
        large = _told([int(np.sum(group == i)) for i in range(len(parameters.groups))], least)
        found: list[tuple[str, str, float]] = []
        for i, name in enumerate(parameters.groups):
            mine = group == i
            if not large[i]:
                continue
            found.append((name, "patients", float(mine.sum())))
            if min(np.sum(label[mine]), np.sum(~label[mine])) < least:
                continue
            found += [
                (name, "accuracy", float(np.mean(said[mine] == label[mine]))),
                (name, "rate of positives", float(np.mean(label[mine]))),
                (name, "true positive rate", float(np.mean(said[mine & label]))),
                (name, "false positive rate", float(np.mean(said[mine & ~label]))),
            ]
            found += _calibrated(parameters, name, place[mine], score[mine], label[mine])
        return [(name, what, python_value(STATISTIC, value)) for name, what, value in found]

    @staticmethod
    def _count(
        parameters: Served, group: NDArray[np.int64], label: NDArray[np.bool_], score: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        return group_counts(
            group,
            label,
            score,
            n_groups=len(parameters.groups),
            threshold=parameters.threshold,
            bins=parameters.bins,
        )


def _each(parameters: Served) -> int:
    """Return how many counts a group has."""
    return 4 + 3 * parameters.bins


def _columns(
    parameters: Served, tables: Tables
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
    """Return the places of a hospital's groups, its labels, and its scores."""
    own = tables["predictions"]
    group = places(list(own["group"]), parameters.groups, "group")
    score = np.asarray(own["score"], np.float64) / 10**_DECIMALS
    return group, np.asarray(own["label"], np.bool_), score


def _bin(
    parameters: Served, group: str, number: int, rows: int, score: float, rate: float
) -> list[tuple[str, str, float]]:
    low, high = number / parameters.bins, (number + 1) / parameters.bins
    where = f"scores from {low:.4g} to {high:.4g}"
    return [
        (group, f"{where}: patients", float(rows)),
        (group, f"{where}: mean score", score),
        (group, f"{where}: rate of positives", rate),
    ]


def _calibrated(
    parameters: Served, name: str, place: Any, score: Any, label: Any
) -> list[tuple[str, str, float]]:
    """Return a group's calibration, of bins that may be told beside the totals on either side of the threshold."""
    edge, least = round(parameters.threshold * parameters.bins), parameters.min_patients
    sizes = [int(np.sum(place == b)) for b in range(parameters.bins)]
    hits = [int(np.sum(label[place == b])) for b in range(parameters.bins)]
    told = _told_bins(sizes[:edge], hits[:edge], least) + _told_bins(sizes[edge:], hits[edge:], least)
    bins = [b for b, yes in enumerate(told) if yes]
    rows: list[tuple[str, str, float]] = []
    off = []
    for b in bins:
        inside = place == b
        mean, rate = float(np.mean(score[inside])), float(np.mean(label[inside]))
        off.append(sizes[b] * abs(mean - rate))
        rows += _bin(parameters, name, b, sizes[b], mean, rate)
    if bins:
        total = sum(sizes[b] for b in bins)
        rows.insert(0, (name, "calibration error", math.fsum(off) / total))
    return rows


def _told(counts: Sequence[int], least: int) -> list[bool]:
    """Return which counts may be told beside their total: the rule of `statistics.served`, in the clear."""
    hidden = [count for count in counts if count < least]
    if hidden and (len(hidden) == 1 or not least <= sum(hidden) < len(hidden) * (least - 1)):
        smallest = min((count for count in counts if count >= least), default=0)
        return [count >= least and count != smallest for count in counts]
    return [count >= least for count in counts]


def _told_bins(sizes: Sequence[int], hits: Sequence[int], least: int) -> list[bool]:
    """Return which bins may be told beside their totals of patients and of positives: the rule, in the clear."""
    told = _told(sizes, least)
    for counts in (hits, [size - hit for size, hit in zip(sizes, hits, strict=True)]):
        hidden = [count for count, yes in zip(counts, told, strict=True) if not yes]
        if hidden and not any(hidden):
            having = [size for size, count, yes in zip(sizes, counts, told, strict=True) if yes and count]
            out = min(having, default=0)
            told = [
                yes and not (count and size == out)
                for size, count, yes in zip(sizes, counts, told, strict=True)
            ]
    return told


METRICS_BY_GROUP: Final = MetricsByGroup()
