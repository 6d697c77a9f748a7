"""The log-rank test of k groups, from counts by time [Man66] [PP72].

With d_t events among n_t at risk, of which group i has d_it and n_it:

  U_i  = sum over t of (d_it - n_it d_t / n_t)
  V_ij = sum over t of d_t (n_t - d_t) / (n_t - 1) n_it / n_t ([i = j] - n_jt / n_t)

U^T V^- U over the first k - 1 groups is asymptotically chi-square, with as many degrees of freedom as V has rank. The
statistic and the rank are all that a caller has to open; `p_value` makes the rest in the clear.

Error: 1e-6 (1 + statistic) where each of the first k - 1 groups has a variance V_ii of at least 2**-7 for up to 2**13
persons, and 2**(k - 20) for up to 2**k; what a group with a smaller one, or with nobody in it, adds counts as 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from secagg.errors import ShapeError
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.linalg import REFINEMENT, factor, matrix_product
from secagg.mpc.arrays.moves import concat
from secagg.statistics.ratios import INVERSE_BITS, inverse, most_persons, shortened, times
from secagg.statistics.survival import number_at_risk

_HEADROOM: Final = 61  # bits that sums of products take
_EXACT: Final = 17  # persons' bits up to which numerators times an inverse need no rounding


@dataclass(frozen=True, eq=False)
class LogRank:
    """The test, shared.

    Attributes:
      statistic: chi-square, in fixed(24).
      degrees: its degrees of freedom, in int64.
    """

    statistic: SharedArray
    degrees: SharedArray


def logrank(events: SharedArray, leaving: SharedArray, *, most: int) -> LogRank:
    """Return the test of the hypothesis that all groups have one survival curve.

    Args:
      events, leaving: int64 of shape (groups, times); see `survival.counts_by_time`.
      most: a bound on the persons of all groups, which sets how far intermediate numbers are halved.
    """
    if events.shape != leaving.shape or events.ndim != 2 or events.shape[0] < 2:
        raise ShapeError(
            f"expected two arrays of counts of shape (groups, times), two groups or more, got {events!r} and {leaving!r}"
        )
    size = most_persons(most).bit_length()
    at_risk, last = number_at_risk(leaving), events.shape[1]
    d, n = events.sum(axis=0), at_risk.sum(axis=0)
    inverses = inverse(concat([n, (n - 1) * (n > 0)]))
    one_over_n, one_over_rest = inverses[:last], inverses[last:]
    # V is at most a quarter of the persons: V / 2**halvings is within 2**8, which elimination takes.
    halvings = max(0, size - 10)
    u = _observed_minus_expected(events[:-1], at_risk[:-1], d, n, one_over_n, size, halvings)
    bits = min(28, (_HEADROOM + 2 - size) // 2)
    share = times(at_risk[:-1], one_over_n, INVERSE_BITS - bits)
    spread = times(times(d, n - d, 0), one_over_rest, INVERSE_BITS - bits)
    parts = times(share, spread, bits)
    raw = as_diagonal(parts.sum(axis=1) * np.int64(1 << bits)) - parts @ share.T
    v = shortened(raw, 2 * bits + halvings - REFINEMENT.frac_bits, REFINEMENT)
    factors = factor(v)
    x = factors.solve(u)
    # x (2 u - V x) is U^T V^- U up to the square of the error of x.
    left = u * 2 - matrix_product(v, x, REFINEMENT)
    statistic = times(x, left, REFINEMENT.frac_bits - halvings, REFINEMENT).sum()
    return LogRank(statistic, factors.rank)


def _observed_minus_expected(
    events: SharedArray,
    at_risk: SharedArray,
    d: SharedArray,
    n: SharedArray,
    one_over_n: SharedArray,
    size: int,
    halvings: int,
) -> SharedArray:
    """Return U / 2**halvings in fixed(24): exact numerators, so that only the last division rounds."""
    few = max(0, size - _EXACT)
    excess = times(times(events, n, 0) - times(at_risk, d, 0), one_over_n, few).sum(axis=1)
    return shortened(excess, INVERSE_BITS - few - REFINEMENT.frac_bits + halvings, REFINEMENT)


def as_diagonal(values: SharedArray) -> SharedArray:
    """Return a matrix with values on its diagonal."""
    return values * np.eye(values.shape[0], dtype=np.int64)


def upper_gamma(a: float, x: float) -> float:
    """Return the regularised upper incomplete gamma function Q(a, x) for 2 a an integer, by its finite sum [AS64, 26.4]."""
    if x <= 0:
        return 1.0
    whole = float(a).is_integer()
    total = 0.0 if whole else math.erfc(math.sqrt(x))
    s = 0.0 if whole else 0.5
    while s < a:
        total += math.exp(s * math.log(x) - x - math.lgamma(s + 1))
        s += 1
    return min(1.0, total)


def p_value(statistic: float, degrees: int) -> float:
    """Return the probability that a chi-square with so many degrees of freedom is at least as large."""
    if degrees < 1:
        return 1.0
    return upper_gamma(degrees / 2, max(float(statistic), 0.0) / 2)
