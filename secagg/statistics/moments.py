"""Moments of columns of which each hospital adds up its own rows: group means and variances, quantiles, correlations.

*Groups* (`group_sums`): counts, sums and sums of squares by group, in whole units and around a public middle, so that they
are exact. Opened of groups that are large enough, they tell a mean and a variance and no more (`mean_and_variance`).

*Quantiles* (`quantiles`): a hospital counts its rows on the public grid of values. On shares, the quantile is the first
value at which at least the share q of all rows is reached: R's type 1, numpy's "inverted_cdf". It is somebody's value, so
it is told only where at least `smallest` rows lie on either side.

*Correlation* (`correlation`): sums and products of columns moved into -1..1 by public ranges. With means m and second
moments, C = sum x x^T / n - m m^T, and r_ij = C_ij / sqrt(C_ii C_jj) by the scaling of `linalg.factor`.
Error of r: 1e-6 where each column's standard deviation is at least 1/50 of half its range, and 2e-4 down to 1/256 of it.
A column with less is said to be narrow, by a shared bit, and its correlations are 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import PlanError, RangeError, ShapeError
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import FixedType
from secagg.mpc.arrays.elementary import rsqrt
from secagg.mpc.arrays.linalg import product
from secagg.mpc.arrays.moves import reshape
from secagg.mpc.arrays.reductions import cumulative_sum
from secagg.statistics.ratios import FINEST, inverse, mean

MOST_VALUES: Final = 1 << 16
NARROW: Final = 2.0**-8  # standard deviation, in half ranges, below which a column has no correlations
_FINE: Final = FixedType(20)
_PARTS: Final = 10_000  # a quantile's share is in units of 1 / 10,000


def group_sums(values: Any, group: Any, *, groups: int, low: int, high: int) -> NDArray[np.int64]:
    """Return a hospital's counts, sums and sums of squares by group, of shape (groups, 3), around the range's middle.

    Args:
      values: integers from `low` to `high`, in whole units.
      group: integers from 0 to below `groups`.

    Raises:
      RangeError: a value or a group outside its range.
      PlanError: a range in which squares of 2**19 rows could exceed 62 bits.
    """
    x, of = np.asarray(values, np.int64), np.asarray(group, np.int64)
    if high - low >= 1 << 22:
        raise PlanError(f"a range of {high - low} units is too wide for sums of squares; use fewer decimals")
    outside = int(np.count_nonzero((x < low) | (x > high) | (of < 0) | (of >= groups)))
    if outside:
        raise RangeError(
            f"{outside} of {len(x)} rows lie outside {low} to {high}, or in no group; nothing was shared"
        )
    distance = x - middle(low, high)
    sums = np.zeros((groups, 3), np.int64)
    for j, column in enumerate((np.ones_like(x), distance, distance * distance)):
        np.add.at(sums[:, j], of, column)
    return sums


def middle(low: int, high: int) -> int:
    """Return the public value that sums are around."""
    return (low + high) // 2


def mean_and_variance(
    sums: Any, *, low: int, high: int, level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return means, variances (with n - 1) and half the width of the means' normal confidence intervals of opened sums.

    Variances and intervals of fewer than two rows are 0.
    """
    table = np.asarray(sums, np.float64)
    n, s, q = table[..., 0], table[..., 1], table[..., 2]
    safe = np.maximum(n, 1)
    variance = np.where(n > 1, (q - s * s / safe) / np.maximum(n - 1, 1), 0.0)
    z = NormalDist().inv_cdf((1 + level) / 2)
    return middle(low, high) + s / safe, variance, z * np.sqrt(np.maximum(variance, 0) / safe)


def value_counts(values: Any, group: Any, *, groups: int, low: int, high: int) -> NDArray[np.int64]:
    """Return how many of a hospital's rows of each group have each value from `low` to `high`.

    Raises:
      PlanError: more than 2**16 values.
      RangeError: a value or a group outside its range.
    """
    if high - low >= MOST_VALUES:
        raise PlanError(
            f"quantiles take at most {MOST_VALUES} values, and {low} to {high} are {high - low + 1}; use fewer decimals"
        )
    x, of = np.asarray(values, np.int64), np.asarray(group, np.int64)
    outside = int(np.count_nonzero((x < low) | (x > high) | (of < 0) | (of >= groups)))
    if outside:
        raise RangeError(
            f"{outside} of {len(x)} rows lie outside {low} to {high}, or in no group; nothing was shared"
        )
    counts = np.zeros((groups, high - low + 1), np.int64)
    np.add.at(counts, (of, x - low), 1)
    return counts


def quantiles(
    counts: SharedArray, shares: Any, *, low: int, smallest: int
) -> tuple[SharedArray, SharedArray]:
    """Return quantiles (groups, shares) of shared counts (groups, values), and which are told.

    Args:
      shares: public numbers between 0 and 1, in units of 1 / 10,000.
      smallest: how many rows have to lie on either side, the quantile's own included.
    """
    parts = np.rint(np.asarray(shares, np.float64) * _PARTS).astype(np.int64)
    if parts.ndim != 1 or not ((parts > 0) & (parts < _PARTS)).all():
        raise RangeError(f"expected quantiles between 0 and 1, got {shares!r}")
    reached = cumulative_sum(counts, axis=1)
    n = reached[:, -1:]
    wanted = n * parts
    below = reshape(reached, (reached.shape[0], 1, -1)) * np.int64(_PARTS) < reshape(
        wanted, (*wanted.shape, 1)
    )
    found = below.sum(axis=2) + np.int64(low)
    # ceil(q n) rows are at or before the quantile, and n - ceil(q n) + 1 at or behind it.
    enough = (wanted > np.int64((smallest - 1) * _PARTS)) & (
        n * _PARTS - wanted >= np.int64((smallest - 1) * _PARTS)
    )
    return found, enough & (n > 0)


def moved_sums(columns: Any, low: Any, high: Any) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return a hospital's sums of columns (rows, p) moved into -1..1, of their products, and its number of rows.

    Raises:
      RangeError: a value outside its column's range, or one that is not finite.
    """
    x, least, largest = (np.asarray(a, np.float64) for a in (columns, low, high))
    if x.ndim != 2 or least.shape != (x.shape[1],) or largest.shape != least.shape:
        raise ShapeError(f"expected columns (rows, p) and p ranges, got shapes {x.shape} and {least.shape}")
    outside = int(np.count_nonzero(~((x >= least) & (x <= largest)).all(axis=1)))
    if outside:
        raise RangeError(f"{outside} of {len(x)} rows lie outside their columns' ranges; nothing was shared")
    moved = (2 * x - least - largest) / (largest - least)
    return moved.sum(axis=0), moved.T @ moved, len(x)


@dataclass(frozen=True, eq=False)
class Correlations:
    """Correlations, shared.

    Attributes:
      r: the matrix (p, p) in fixed(30); 0 for columns that are narrow.
      narrow: bools (p,), which columns vary too little for their correlations to be right.
    """

    r: SharedArray
    narrow: SharedArray


def correlation(sums: SharedArray, products: SharedArray, n: SharedArray) -> Correlations:
    """Return correlations, and which columns are too narrow to have any.

    Args:
      sums: in fixed(30), of shape (p,), of all hospitals together; `products`: of shape (p, p). See `moved_sums`.
      n: the number of rows, int64 of shape ().
    """
    p = sums.shape[0]
    if products.shape != (p, p) or sums.dtype != FINEST or products.dtype != FINEST:
        raise ShapeError(f"expected sums (p,) and (p, p) in fixed(30), got {sums!r} and {products!r}")
    one_over = inverse(n)
    m, second = mean(sums, n, one_over), mean(products, n, one_over)
    c = second - product(m.reshape(p, 1), m, FINEST)
    places = np.arange(p)
    varies = c[places, places] >= NARROW**2
    scale = varies * rsqrt(product(c, c.engine.public(np.float64(1), dtype=_FINE), _FINE)[places, places])
    scaled = product(product(c, scale.reshape(p, 1), FINEST), scale, FINEST)
    # The diagonal is 1 up to the rounding of the scale, which is taken off: 1 / sqrt(1 - e) is 1 + e / 2 + 3 e**2 / 8.
    lacks = 1 - scaled[places, places]
    half = lacks.engine.public(np.float64(0.5), dtype=FINEST)
    near = 1 + product(
        lacks, half + product(lacks, lacks.engine.public(np.float64(0.375), dtype=FINEST), FINEST), FINEST
    )
    r: SharedArray = product(product(scaled, near.reshape(p, 1), FINEST), near, FINEST)
    return Correlations(r, ~varies)


def correlation_test(r: float, n: int) -> float:
    """Return the two-sided p-value of a correlation of n rows by Student's t, as scipy's pearsonr has it."""
    if n < 3:
        return 1.0
    if abs(r) >= 1:
        return 0.0
    return student_tail(abs(r) * math.sqrt((n - 2) / (1 - r * r)), n - 2)


def student_tail(t: float, freedom: int) -> float:
    """Return P(|T| > t) of Student's distribution with whole degrees of freedom, by its finite sum [AS64, 26.7]."""
    theta = math.atan2(abs(t), math.sqrt(freedom))
    cosine, sine = math.cos(theta), math.sin(theta)
    square, term, total = cosine * cosine, 1.0, 0.0
    if freedom % 2:
        term, k = cosine, 3
        while k <= freedom:
            total, term, k = total + term, term * square * (k - 1) / k, k + 2
        inside = 2 / math.pi * (theta + sine * total)
    else:
        k = 2
        while k <= freedom:
            total, term, k = total + term, term * square * (k - 1) / k, k + 2
        inside = sine * total
    return min(1.0, max(0.0, 1 - inside))
