"""Fisher's exact test of a table of two by two that stays shared.

With row sums r and s, column sums c and d, and n in all, the table whose first cell is k has the probability

  P(k) = r! s! c! d! / (n! k! (r - k)! (c - k)! (n - r - c + k)!)

and the p-value is the sum of all P(k) that are at most that of the table at hand. Logarithms of factorials are public, and
stand in a list. A secret place in it is a vector of bits of which one is set. Its product with the list shifted by k, for
all k at once, has public numbers on one side; so it costs nothing but the vector. What is left is an exponential for each k.

Margins are not opened, and neither is a cell. Where margins are known, the p-value tells the table but for a few that are as
probable. That holds for any statistic of a table of two by two.

Error of the p-value: 3e-6 of it, and 1e-6, for n up to 2048.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, ShapeError
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import FixedType, int64
from secagg.mpc.arrays.elementary import exp, read_as
from secagg.statistics.ratios import shortened

MOST_EXACT: Final = 2048  # persons; the public lists have the square of it
_LOG_BITS: Final = 30  # fractional bits of logarithms
_EXP_BITS: Final = 20  # and of an exponential's argument and value
_RAISED: Final = 10  # bits by which probabilities are multiplied, so that small ones keep digits
_NEVER: Final = 1 << 52  # the logarithm of a factorial of a number below 0
_LEAST: Final = -22 * (1 << _LOG_BITS)  # of a logarithm: what is less probable is left out
_TIED: Final = round(
    1e-7 * (1 << _LOG_BITS)
)  # tables as probable as the one at hand, up to rounding, as scipy has it
_RESULT: Final = FixedType(_EXP_BITS + _RAISED)


def fisher_p_value(counts: SharedArray, *, most: int) -> SharedArray:
    """Return the two-sided p-value of Fisher's exact test of a shared table (2, 2), in fixed(30).

    Args:
      counts: int64.
      most: a bound on all counts together.

    Raises:
      ShapeError: another table.
      RangeError: a bound above 2048.
    """
    if counts.shape != (2, 2) or counts.dtype != int64:
        raise ShapeError(f"expected two rows and two columns of int64 counts, got {counts!r}")
    if not isinstance(most, int) or not 1 <= most <= MOST_EXACT:
        raise RangeError(
            f"expected a bound of 1 to {MOST_EXACT} persons of all parties together, got {most!r}; take the chi-square test"
        )
    logs = np.array([round(math.lgamma(i + 1) * (1 << _LOG_BITS)) for i in range(2 * most + 1)], np.int64)
    k, places = np.arange(most + 1), np.arange(most + 1)
    rows, columns, n = counts.sum(axis=1), counts.sum(axis=0), counts.sum()
    margins = [rows[0], rows[1], columns[0], columns[1], n]
    at = [(margin == places).astype(int64) for margin in margins]
    signs = (1, 1, 1, 1, -1)
    constant = sum(sign * (one @ logs[: most + 1]) for sign, one in zip(signs, at, strict=True))
    below = places[:, None] - k  # r - k
    less = at[0] @ _log_factorials(logs, below) + at[2] @ _log_factorials(logs, below)
    shifts = np.arange(-most, most + 1)
    apart = (n - rows[0] - columns[0] == shifts).astype(int64)
    less = less + apart @ _log_factorials(logs, shifts[:, None] + k) + logs[: most + 1]
    log_p = constant - less
    mine = ((counts[0, 0] == k).astype(int64) * log_p).sum()
    likely = log_p >= _LEAST
    argument = read_as(shortened(log_p * likely, _LOG_BITS - _EXP_BITS), FixedType(_EXP_BITS))
    p = exp(argument + _RAISED * math.log(2)) * (likely & (log_p <= mine + _TIED))
    return read_as(p.sum(), _RESULT)


def _log_factorials(logs: NDArray[np.int64], of: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return logarithms of factorials; of a number below 0 one so large that nothing is left of the probability."""
    return np.where(of < 0, _NEVER, logs[np.maximum(of, 0)])
