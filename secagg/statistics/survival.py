"""Kaplan-Meier curves with Greenwood's variance, from counts by time [KM58].

Time is a public grid: days, weeks or months from 0 to a declared last one. Each hospital counts alone (`counts_by_time`)
how many of its patients have the event at each time, and how many leave then, with the event or without. So what is
shared is two small tables, whatever the number of patients, and sums of them are free.

With d_t events among n_t at risk, in order of t:

  S_t = product of (1 - d_s / n_s) over s <= t              in fixed(30)
  G_t = sum of d_s / (n_s (n_s - d_s)) over s <= t           in units of 2**-44; a term with n_s = d_s counts as 0

S_t**2 G_t is the variance of S_t. S and G are what intervals are made of, and tell no more than a curve with its
interval does: `confidence_interval` makes them of what was opened. The numbers at risk and of events stay shared.

  S    2**-29 times the number of grid points up to t, and 2**-31 times the cumulative hazard
  G    2**-30 times the sum of d_s / n_s, so that an interval's ends are within 1e-6 for up to 2**17 persons

Rounds: those of a quotient, and of a product for each doubling of the number of times.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, ShapeError, UsageError
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import int64
from secagg.mpc.arrays.linalg import product
from secagg.mpc.arrays.moves import concat
from secagg.mpc.arrays.reductions import cumulative_sum
from secagg.statistics.ratios import FINEST, INVERSE_BITS, inverse, shortened, times

LARGEST_TIME: Final = 1 << 16
_UNITS: Final = 2.0**INVERSE_BITS
_FINER: Final = 31  # fractional bits of 1 / (n - d) in a term of G

Kind: TypeAlias = Literal["log-log", "log", "plain"]


@dataclass(frozen=True, eq=False)
class Survival:
    """Curves along the last axis, shared.

    Attributes:
      curve: S_t, in fixed(30).
      greenwood: G_t, as int64 in units of 2**-44; see `variance_sum`.
      at_risk: n_t, in int64.
    """

    curve: SharedArray
    greenwood: SharedArray
    at_risk: SharedArray

    def at(self, when: Any, *, smallest: int = 0) -> Survival:
        """Return the curves at public times of the grid; all three are 0 where fewer than `smallest` are at risk.

        Raises:
          UsageError: times that the grid lacks.
        """
        chosen = np.asarray(when)
        if (
            chosen.dtype.kind not in "iu"
            or chosen.ndim != 1
            or not ((chosen >= 0) & (chosen < self.curve.shape[-1])).all()
        ):
            raise UsageError(
                f"expected times as integers from 0 to {self.curve.shape[-1] - 1}, the last of the grid, got {when!r}"
            )
        parts = [x[..., chosen] for x in (self.curve, self.greenwood, self.at_risk)]
        if smallest > 1:
            shown = (parts[2] >= smallest).astype(int64)
            parts = [parts[0] * shown, parts[1] * shown, parts[2] * shown]
        return Survival(*parts)


def counts_by_time(
    time: Any, event: Any, *, last: int, group: Any = None, groups: int = 1
) -> NDArray[np.int64]:
    """Return what a hospital counts in its own rows before anything is shared, of shape (groups, 2, last + 1).

    Args:
      time: integers from 0 to `last`, one a patient.
      event: bools; whether the event came at that time, or observation ended.
      group: integers from 0 to below `groups`; by default all are in group 0.

    Returns:
      how many have the event at each time, and how many leave at each time, with the event or without.

    Raises:
      ShapeError: columns of different lengths or kinds.
      RangeError: a time or a group outside its range.
    """
    if not 0 < last <= LARGEST_TIME:
        raise UsageError(
            f"expected a last time of 1 to {LARGEST_TIME}, got {last}; choose a longer unit of time"
        )
    when, had = np.asarray(time), np.asarray(event)
    of = np.zeros(when.shape, np.int64) if group is None else np.asarray(group)
    if when.ndim != 1 or had.shape != when.shape or of.shape != when.shape:
        raise ShapeError(
            f"expected one time, event and group a patient, got shapes {when.shape}, {had.shape} and {of.shape}"
        )
    if when.size and (when.dtype.kind not in "iu" or of.dtype.kind not in "iu" or had.dtype.kind != "b"):
        raise ShapeError(
            f"expected times and groups as integers and events as bools, got {when.dtype}, {of.dtype} and {had.dtype}"
        )
    for what, values, end in (("times", when, last), ("groups", of, groups - 1)):
        outside = int(np.count_nonzero((values < 0) | (values > end)))
        if outside:
            raise RangeError(f"{outside} of {when.size} {what} lie outside 0 to {end}; nothing was shared")
    counts = np.zeros((groups, 2, last + 1), np.int64)
    if when.size:
        np.add.at(counts[:, 0], (of[had], when[had]), 1)
        np.add.at(counts[:, 1], (of, when), 1)
    return counts


def number_at_risk(leaving: SharedArray) -> SharedArray:
    """Return how many are under observation just before each time, along the last axis. Free."""
    return cumulative_sum(leaving[..., ::-1], axis=-1)[..., ::-1]


def kaplan_meier(events: SharedArray, leaving: SharedArray) -> Survival:
    """Return survival curves along the last axis, from counts by time of at most 2**19 persons a curve.

    Args:
      events, leaving: int64 of one shape, (times,) or (groups, times); see `counts_by_time`.
    """
    if events.shape != leaving.shape or events.dtype != int64 or leaving.dtype != int64:
        raise ShapeError(
            f"expected two arrays of counts of one shape and int64, got {events!r} and {leaving!r}"
        )
    at_risk = number_at_risk(leaving)
    inverses = inverse(concat([at_risk.reshape(-1), (at_risk - events).reshape(-1)]))
    one_over = inverses[: at_risk.size].reshape(at_risk.shape)
    one_over_left = inverses[at_risk.size :].reshape(at_risk.shape)
    hazard = times(events, one_over, INVERSE_BITS - FINEST.frac_bits, FINEST)
    curve, last = 1 - hazard, hazard.shape[-1]
    distance = 1
    while distance < last:
        further = product(curve[..., distance:], curve[..., :-distance], FINEST)
        curve = concat([curve[..., :distance], further], axis=curve.ndim - 1)
        distance *= 2
    shorter = shortened(one_over_left, INVERSE_BITS - _FINER)
    terms = times(hazard, shorter, FINEST.frac_bits + _FINER - INVERSE_BITS)
    return Survival(curve, cumulative_sum(terms, axis=-1), at_risk)


def variance_sum(greenwood: Any) -> NDArray[np.float64]:
    """Return Greenwood's sum of what was opened of `Survival.greenwood`."""
    return np.asarray(np.maximum(np.asarray(greenwood, np.float64), 0) / _UNITS)


def confidence_interval(
    curve: Any, greenwood: Any, *, level: float = 0.95, kind: Kind = "log-log"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return pointwise confidence intervals of an opened curve.

    Args:
      curve, greenwood: as opened.
      kind: "log-log" as lifelines has it, "log" as R's survfit, "plain" for a normal distribution of S itself.

    Returns:
      lower and upper ends within 0 and 1; both are 1 where the curve is 1, and 0 where it is 0, as in lifelines.
    """
    if not 0 < level < 1:
        raise UsageError(f"expected a level between 0 and 1, got {level!r}")
    s = np.clip(np.asarray(curve, np.float64), 0, 1)
    g = variance_sum(greenwood)
    z = NormalDist().inv_cdf((1 + level) / 2)
    # Within the rounding of a curve that no event has touched, or that all events have brought to 0.
    inside = (s > 2.0**-24) & (g > 0)
    safe, spread = np.where(inside, s, 0.5), z * np.sqrt(g)
    if kind == "log-log":
        v = np.log(np.where(safe < 1, safe, 0.5))
        ends = [np.exp(v * np.exp(sign * spread / v)) for sign in (-1, 1)]
    elif kind == "log":
        ends = [np.minimum(safe * np.exp(sign * spread), 1) for sign in (-1, 1)]
    elif kind == "plain":
        ends = [np.clip(safe * (1 + sign * spread), 0, 1) for sign in (-1, 1)]
    else:
        raise UsageError(f'expected "log-log", "log" or "plain" for kind, got {kind!r}')
    outside = np.where(s > 0.5, 1.0, 0.0)
    low, high = (np.where(inside, end, outside) for end in ends)
    return np.minimum(low, high), np.maximum(low, high)


def median_time(when: Any, curve: Any, q: float = 0.5) -> float:
    """Return the first of the opened times at which the curve is at most q; infinity where it stays above."""
    reached = np.flatnonzero(np.asarray(curve) <= q + 2.0**-24)
    return float(np.asarray(when)[reached[0]]) if reached.size else float("inf")
