"""Whom a model serves worse: accuracy, TPR, FPR and calibration by group, where the groups' counts stay shared.

Each owner counts its own rows alone (`group_counts`). Only counts are shared; on shares they are added up, and small ones
taken out (`released`). What is opened is

  a group         its rows and how many of them are right, where it has at least `smallest` rows
  its two sides   positives, true and false positives, where positives and negatives are each at least so many
  a score bin     rows, positives and sum of scores, where the two sides are told and the bin has at least so many rows

Everything else is 0 when it is opened. Totals are known elsewhere: of all rows to whoever weights a mean by them, of a
group's bins by its rows. So what is not told must not follow from what is. If all that is not told of a total is below
`smallest`, or is a single count, the smallest count that would be told is not told either. Then what follows from the total
is of at least `smallest` rows, and of two counts or more. Counts that tie are left out together.

Learns: whoever the result is opened to, the counts above, and which there are not. Of a count that is not told, that it is
small, or the smallest. Nobody learns a group's count otherwise.

Of labels no total is taken to be known. Where one is, as from a published rate of the whole, a group's positives can follow
though its sides are not told. Counts within a group that is told can be small: two false negatives among fifty positives
are. They are what a rate is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, ShapeError, UsageError
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.comparison import where
from secagg.mpc.arrays.dtypes import int64

SCORE_BITS: Final = 16  # fractional bits of sums of scores
_MOST: Final = 1 << 40  # rows of everybody together
_SIDES: Final = 4  # rows, positives, true and false positives
_EACH: Final = 3  # of a bin: rows, positives, scores


def group_counts(
    groups: Any, labels: Any, scores: Any, *, n_groups: int, threshold: float = 0.5, bins: int = 10
) -> NDArray[np.int64]:
    """Return an owner's own counts, of shape (n_groups, 4 + 3 bins); secret.

    Args:
      groups: of each row, 0 to below n_groups.
      labels: bools, or 0 and 1.
      scores: what the model gives to the label 1, within 0 and 1.
      threshold: from which score on the model says 1.
      bins: of equal width, for calibration.

    Raises:
      UsageError: no groups or bins, or a threshold beyond 0 and 1.
      ShapeError: columns of different lengths.
      RangeError: a group, label or score that is none.
    """
    if n_groups < 1 or bins < 1 or not 0 <= threshold <= 1:
        raise UsageError(
            f"expected groups, bins and a threshold within 0 and 1, got {n_groups}, {bins}, {threshold}"
        )
    group, label, score = np.asarray(groups), np.asarray(labels), np.asarray(scores, np.float64)
    if group.ndim != 1 or not group.shape == label.shape == score.shape:
        raise ShapeError(
            f"expected a group, label and score a row, got {group.shape}, {label.shape}, {score.shape}"
        )
    bad = [
        int(np.count_nonzero(~ok))
        for ok in (
            (group >= 0) & (group < n_groups),
            (label == 0) | (label == 1),
            (score >= 0) & (score <= 1),
        )
    ]
    if any(bad):
        raise RangeError(
            f"{bad[0]} groups, {bad[1]} labels and {bad[2]} scores of {len(group)} rows are none; nothing was counted"
        )
    group, positive = group.astype(np.int64), label.astype(bool)
    said = score >= threshold
    place = np.minimum((score * bins).astype(np.int64), bins - 1)
    units = np.rint(score * (1 << SCORE_BITS)).astype(np.int64)
    sides = [np.ones(len(group), bool), positive, said & positive, said & ~positive]
    out = np.zeros((n_groups, _SIDES + _EACH * bins), np.int64)
    for column, rows in enumerate(sides):
        np.add.at(out[:, column], group[rows], 1)
    binned = out[:, _SIDES:].reshape(n_groups, _EACH, bins)
    for row, amounts in enumerate((np.ones(len(group), np.int64), positive.astype(np.int64), units)):
        np.add.at(binned[:, row], (group, place), amounts)
    return out


class Shown(NamedTuple):
    """Shared arrays to be opened, of all groups: counts without the small ones, and which there are."""

    groups: SharedArray
    sides: SharedArray
    bins: SharedArray
    has_group: SharedArray
    has_sides: SharedArray
    has_bin: SharedArray


def released(counts: SharedArray, *, smallest: int) -> Shown:
    """Return what may be opened of all owners' counts together.

    Args:
      counts: int64 of shape (owners, groups, 4 + 3 bins), as `group_counts` makes them.
      smallest: the fewest rows that are told.

    Raises:
      UsageError: a smallest count below 2.
      ShapeError: counts of another shape.
    """
    if not isinstance(smallest, int) or isinstance(smallest, bool) or smallest < 2:
        raise UsageError(f"expected a smallest count of at least 2, got {smallest!r:.40}")
    if (
        counts.ndim != 3
        or counts.dtype != int64
        or counts.shape[2] <= _SIDES
        or (counts.shape[2] - _SIDES) % _EACH
    ):
        raise ShapeError(f"expected counts of owners, groups, and sides and bins, got {counts!r}")
    total = counts.sum(axis=0)
    n_groups, bins = total.shape[0], (total.shape[1] - _SIDES) // _EACH
    rows, positives, true, false = (total[:, column] for column in range(_SIDES))
    binned = total[:, _SIDES:].reshape(n_groups, _EACH, bins)
    has_group = _told(rows.reshape(1, n_groups), smallest).reshape(n_groups)
    has_sides = has_group & (positives >= smallest) & (rows - positives >= smallest)
    has_bin = _told(binned[:, 0], smallest) & has_sides.reshape(n_groups, 1)
    right = true + (rows - positives) - false
    told, both = has_group.astype(int64), has_sides.astype(int64)
    return Shown(
        groups=_stacked([rows * told, right * told]),
        sides=_stacked([positives * both, true * both, false * both]),
        bins=binned * has_bin.astype(int64).reshape(n_groups, 1, bins),
        has_group=has_group,
        has_sides=has_sides,
        has_bin=has_bin,
    )


def _told(counts: SharedArray, smallest: int) -> SharedArray:
    """Return which counts of each row may be told beside the row's total."""
    large = counts >= smallest
    hidden = 1 - large.astype(int64)
    number, rest = hidden.sum(axis=1, keepdims=True), (counts * hidden).sum(axis=1, keepdims=True)
    # One count or too few rows: whoever knows the total would have them.
    too_little = (number >= 1) & ((number == 1) | (rest < smallest))
    least: SharedArray = where(large, counts, _MOST).min(axis=1, keepdims=True)
    told: SharedArray = large & ~(too_little & (counts == least))
    return told


def _stacked(columns: Sequence[SharedArray]) -> SharedArray:
    from secagg.mpc.arrays.moves import stack

    return stack(list(columns), axis=1)


# In the clear, of counts that were opened.


@dataclass(frozen=True, slots=True)
class GroupMetrics:
    """How a model serves one group.

    Attributes:
      rows: how many there are; None, and so is all else, where the group is not told.
      accuracy: of all rows.
      positive_rate: of labels; None, with the two below, where a side is not told.
      tpr, fpr: of positives and of negatives, how many the model says 1 of.
      calibration: of each score bin rows, mean score and rate of positives; None where a bin is not told.
      calibration_error: mean distance of score and rate in the bins that are told, weighted by rows; None without any.
    """

    rows: int | None = None
    accuracy: float | None = None
    positive_rate: float | None = None
    tpr: float | None = None
    fpr: float | None = None
    calibration: tuple[tuple[int, float, float] | None, ...] = ()
    calibration_error: float | None = None


def metrics_of(opened: Sequence[Any]) -> list[GroupMetrics]:
    """Return the metrics of each group from what `released` was opened to."""
    groups, sides, bins, has_group, has_sides, has_bin = (np.asarray(part) for part in opened)
    found = []
    for i, there in enumerate(has_group):
        if not there:
            found.append(GroupMetrics(calibration=(None,) * bins.shape[2]))
            continue
        rows, right = groups[i].tolist()
        positive_rate = tpr = fpr = None
        if has_sides[i]:
            positives, true, false = sides[i].tolist()
            positive_rate, tpr, fpr = positives / rows, true / positives, false / (rows - positives)
        calibration = tuple(
            (int(n), float(units) / (1 << SCORE_BITS) / n, float(hits) / n) if told else None
            for n, hits, units, told in zip(*bins[i], has_bin[i], strict=True)
        )
        told = [one for one in calibration if one is not None]
        off = (
            math.fsum(n * abs(score - rate) for n, score, rate in told) / sum(n for n, *_ in told)
            if told
            else None
        )
        found.append(GroupMetrics(rows, right / rows, positive_rate, tpr, fpr, calibration, off))
    return found
