"""Whom a model serves worse: accuracy, TPR, FPR and calibration by group, where the groups' counts stay shared.

Each owner counts its own rows alone (`group_counts`). Only counts are shared; on shares they are added up, and small ones
taken out (`released`). What is opened is

  a group         its rows, where it has at least `smallest`
  its two sides   positives, true and false positives, where positives and negatives are each at least so many
  a score bin     rows, positives and sum of scores, where the two sides are told and the bin has at least so many rows

Everything else is 0 when it is opened. A group's accuracy follows from its sides, and is told only with them: a model that
says 0 of everybody is wrong of as many rows as are positive.

Totals are known elsewhere: of all rows to whoever weights a mean by them; of a group's bins above the threshold, and below
it, by its sides. So the threshold is an edge of the bins, and what is not told must not follow from what is. The smallest
count that would be told is not told either, if all that is not told of a total is

  a single count
  below `smallest`
  or the most that so many small counts can be, each one less than `smallest`

Then what follows from the total is of at least `smallest` rows, and of two counts or more. Counts that tie are left out
together. Where a total itself is smaller, or is of one bin, the sides tell its rows and positives, and no scores.

The sides tell the positives and negatives of all bins below the threshold, and above it, as well. Were there no positive in
the bins that are not told, each of them would have none. So one bin more is not told then: of those that have a positive,
the one of fewest rows. Negatives likewise. So neither count of a single bin follows, unless its side has none in all: its
rates say that.

Learns: whoever the result is opened to, the counts above, and which there are not. Of a count that is not told, that it is
small, or was taken out for such ones; and of all that are not told, bounds. Nobody learns a group's count otherwise. An
owner can take its own rows off what is told and what follows: `smallest` bounds the rows of all owners together, and not
those of the others.

Of labels no total is taken to be known. Where one is, as from a published rate of the whole, a group's positives can follow
though its sides are not told. Counts within a group that is told can be small: two false negatives among fifty positives
are. They are what a rate is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

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
      threshold: from which score on the model says 1; an edge of the bins, below 1.
      bins: of equal width, for calibration.

    Raises:
      UsageError: no groups or bins, or a threshold that is no edge of the bins.
      ShapeError: columns of different lengths.
      RangeError: a group, label or score that is none.
    """
    if n_groups < 1 or bins < 1:
        raise UsageError(f"expected groups and bins, got {n_groups} and {bins}")
    _below(threshold, bins)
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
    # By the very edges, so that no rounding puts a row at one side of the threshold and its bin at the other.
    place = np.searchsorted(np.arange(1, bins) / bins, score, side="right")
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


def released(counts: SharedArray, *, smallest: int, threshold: float) -> Shown:
    """Return what may be opened of all owners' counts together.

    Args:
      counts: int64 of shape (owners, groups, 4 + 3 bins), as `group_counts` makes them.
      smallest: the fewest rows that are told.
      threshold: the one that all owners counted by.

    Raises:
      UsageError: a smallest count below 2, or a threshold that is no edge of the bins.
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
    edge = _below(threshold, bins)
    rows, positives, true, false = (total[:, column] for column in range(_SIDES))
    binned = total[:, _SIDES:].reshape(n_groups, _EACH, bins)
    has_group = _told(rows.reshape(1, n_groups), smallest).reshape(n_groups)
    has_sides = has_group & (positives >= smallest) & (rows - positives >= smallest)
    has_bin = _told_by_side(binned[:, 0], binned[:, 1], smallest, edge) & has_sides.reshape(n_groups, 1)
    told, both = has_group.astype(int64), has_sides.astype(int64)
    return Shown(
        groups=rows * told,
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
    # One count, too few rows, or as many as there can be: whoever knows the total would have each.
    follows = (number == 1) | (rest < smallest) | (rest >= number * (smallest - 1))
    too_little = (number >= 1) & follows
    least: SharedArray = where(large, counts, _MOST).min(axis=1, keepdims=True)
    told: SharedArray = large & ~(too_little & (counts == least))
    return told


def _told_bins(rows: SharedArray, hits: SharedArray, smallest: int) -> SharedArray:
    """Return which bins of each row may be told beside the row's totals of rows and of positives."""
    told = _told(rows, smallest)
    hidden = 1 - told.astype(int64)
    number = hidden.sum(axis=1, keepdims=True)
    helps = []
    for count in (hits, rows - hits):
        none_hidden = (count * hidden).sum(axis=1, keepdims=True) < 1
        helps.append(none_hidden & (count >= 1))
    # At most one of the two is missing where a bin is told: then `_told` left out at least `smallest` rows, or nothing.
    more = told & (number >= 1) & (helps[0] | helps[1])
    least: SharedArray = where(more, rows, _MOST).min(axis=1, keepdims=True)
    kept: SharedArray = told & ~(more & (rows == least))
    return kept


def _told_by_side(rows: SharedArray, hits: SharedArray, smallest: int, edge: int) -> SharedArray:
    """Return which bins may be told beside their totals below and above the threshold: the sides tell both."""
    if edge == 0:
        return _told_bins(rows, hits, smallest)
    sides: list[Any] = [
        _told_bins(rows[:, :edge], hits[:, :edge], smallest),
        _told_bins(rows[:, edge:], hits[:, edge:], smallest),
    ]
    told: Any = np.concatenate(sides, axis=1)
    return cast(SharedArray, told)


def _below(threshold: float, bins: int) -> int:
    """Return how many bins are below the threshold.

    Raises:
      UsageError: it is no edge of the bins.
    """
    edge = round(threshold * bins) if 0 <= threshold < 1 else bins
    if edge >= bins or edge / bins != threshold:
        raise UsageError(
            f"expected a threshold from 0 to below 1 that is an edge of the {bins} bins, so k / {bins}, got {threshold}; "
            "what the model says 1 of would tell parts of a bin else"
        )
    return edge


def _stacked(columns: Sequence[SharedArray]) -> SharedArray:
    from secagg.mpc.arrays.moves import stack

    return stack(list(columns), axis=1)


# In the clear, of counts that were opened.


@dataclass(frozen=True, slots=True)
class GroupMetrics:
    """How a model serves one group.

    Attributes:
      rows: how many there are; None, and so is all else, where the group is not told.
      accuracy: of all rows; None, with the three below, where a side is not told.
      positive_rate: of labels.
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
        rows = int(groups[i])
        accuracy = positive_rate = tpr = fpr = None
        if has_sides[i]:
            positives, true, false = sides[i].tolist()
            accuracy = (true + rows - positives - false) / rows
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
        found.append(GroupMetrics(rows, accuracy, positive_rate, tpr, fpr, calibration, off))
    return found
