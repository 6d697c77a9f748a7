"""Tables of counts: small cells suppressed on shares, and Pearson's chi-square of a table that stays shared.

Hospitals count alone (`cell_counts`), and only the cells are shared. `released_cells` says which cells are large enough;
the others are 0 when they are opened. Margins are not opened. Whoever knows a margin, or the number of all, from elsewhere
takes the cells off: a single suppressed one follows. A chi-square beside the cells would tell a single suppressed one, so
it is told of whole tables alone: then it follows from the cells.

`chi_square` is for a table no cell of which is opened. With O_ij, row sums R_i, column sums C_j and N,

  X / N = sum of (O_ij / R_i - C_j / N) (O_ij / C_j - R_i / N)

whose factors are small where rows and columns are nearly independent, so that little is rounded.

Error of X: 2**-28 N times the square root of X / N, and 2**-30, for N up to 2**13; 1e-6 (1 + X) for N up to 2**16.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, ShapeError, UsageError
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import FixedType, int64
from secagg.mpc.arrays.moves import concat
from secagg.statistics.log_rank import p_value
from secagg.statistics.ratios import INVERSE_BITS, inverse, most_persons, shortened, times

MOST_CELLS: Final = 1 << 16
_FACTOR: Final = 30  # fractional bits of the two factors
_RESULT: Final = FixedType(24)
_TIED: Final = 1 + 1e-7  # tables as probable as the one that was found, up to rounding, as scipy has it


def cell_counts(columns: Sequence[Any], sizes: Sequence[int]) -> NDArray[np.int64]:
    """Return how many of a hospital's rows have each combination of places, of shape `sizes`.

    Args:
      columns: integers from 0 to below each size, one a row.

    Raises:
      UsageError: a table of no cells, or of more than 2**16.
      RangeError: a place that no cell is for.
    """
    if not sizes or len(sizes) != len(columns) or not 0 < math.prod(sizes) <= MOST_CELLS:
        raise UsageError(
            f"expected a column for each axis and 1 to {MOST_CELLS} cells, got sizes {list(sizes)}"
        )
    places = [np.asarray(column, np.int64) for column in columns]
    for place, size in zip(places, sizes, strict=True):
        outside = int(np.count_nonzero((place < 0) | (place >= size)))
        if outside:
            raise RangeError(f"{outside} of {len(place)} rows lie outside the table; nothing was shared")
    if len({place.shape for place in places}) != 1 or places[0].ndim != 1:
        raise ShapeError(f"expected columns of one length, got {[place.shape for place in places]}")
    flat = np.ravel_multi_index(tuple(places), tuple(sizes)) if places[0].size else np.zeros(0, np.int64)
    return np.bincount(flat, minlength=math.prod(sizes)).reshape(tuple(sizes))


def released_cells(counts: SharedArray, smallest: int) -> SharedArray:
    """Return bools: which cells hold at least so many. Empty cells are small ones."""
    if not isinstance(smallest, int) or isinstance(smallest, bool) or smallest < 0:
        raise UsageError(f"expected a smallest count of at least 0, got {smallest!r}")
    return counts >= smallest


def chi_square(counts: SharedArray, *, most: int) -> tuple[SharedArray, SharedArray]:
    """Return Pearson's statistic of a shared table (rows, columns) without correction, and its degrees of freedom.

    Args:
      counts: int64. Rows and columns without anybody do not count.
      most: a bound on all counts together.

    Returns:
      the statistic in fixed(24), and the degrees of freedom in int64.
    """
    if counts.ndim != 2 or min(counts.shape) < 2 or counts.dtype != int64:
        raise ShapeError(f"expected counts of int64, two rows and columns or more, got {counts!r}")
    size = most_persons(most).bit_length()
    r, c = counts.shape
    rows, columns, all_ = counts.sum(axis=1), counts.sum(axis=0), counts.sum().reshape(1)
    sums = concat([rows, columns, all_])
    one_over, some = inverse(sums), (sums[: r + c] > 0).astype(int64)
    of_rows, of_columns = one_over[:r].reshape(r, 1), one_over[r : r + c]
    n = one_over[r + c :]
    left = times(counts, of_rows, 0) - times(columns, n, 0)
    right = times(counts, of_columns, 0) - times(rows, n, 0).reshape(r, 1)
    few = INVERSE_BITS - _FACTOR
    bits = min(40, 60 - size - min(r, c).bit_length())  # of X / N, which is below the smaller side
    # In an empty row or column both factors are no ratios; the products of marks leave them out.
    marks = times(some[:r].reshape(r, 1), some[r:], 0)
    parts = times(shortened(left, few), shortened(right, few), 2 * _FACTOR - bits) * marks
    statistic = times(parts.sum(), all_, bits - _RESULT.frac_bits, _RESULT)
    degrees = times(some[:r].sum() - 1, some[r:].sum() - 1, 0)
    return statistic.reshape(()), degrees.reshape(())


# In the clear, of tables that were opened.


def chi_square_test(counts: Any) -> tuple[float, int, float]:
    """Return Pearson's statistic of an opened table without correction, its degrees of freedom and the p-value."""
    table = np.asarray(counts, np.float64)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    if min(table.shape, default=0) < 2:
        return 0.0, 0, 1.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    statistic, degrees = (
        float(((table - expected) ** 2 / expected).sum()),
        math.prod(n - 1 for n in table.shape),
    )
    return statistic, degrees, p_value(statistic, degrees)


def fisher_exact(counts: Any) -> float:
    """Return the two-sided p-value of Fisher's exact test of an opened table of two rows and two columns.

    Raises:
      ShapeError: another table.
    """
    table = np.asarray(counts)
    if table.shape != (2, 2) or table.dtype.kind not in "iu" or (table < 0).any():
        raise ShapeError(f"expected two rows and two columns of counts, got shape {table.shape}")
    (a, b), (c, d) = table.tolist()
    row, column, n = a + b, a + c, a + b + c + d

    def log_choose(of: int, k: int) -> float:
        return math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1)

    first, last = max(0, row + column - n), min(row, column)
    logs = [log_choose(row, k) + log_choose(n - row, column - k) for k in range(first, last + 1)]
    top = max(logs)
    weights = [math.exp(x - top) for x in logs]
    mine = weights[a - first] * _TIED
    return min(1.0, math.fsum(w for w in weights if w <= mine) / math.fsum(weights))
