"""Discrete Gaussian noise drawn on shares: nobody knows it, and it is as small as a trusted curator's.

Each input party shares coins. A word is the exclusive-or of all parties' coins, so it is uniform and unknown to anybody as
long as one party drew its own at random and keeps them. The noise is how many thresholds of a public table the word reaches:
the inverse of the distribution function.

Thresholds are multiples of 2**-62, and the noise is cut off at `reach`. So what is drawn lies within `distance` of a
discrete Gaussian [CKS20], in total variation, for each number drawn. Whoever accounts for it adds that to delta.

Cost: a comparison and a conversion for each threshold and number; 62 conversions a number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.dp.distributions import GaussianDistribution, context
from secagg.errors import PlanError, ShapeError, UsageError
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import int16, int64
from secagg.prg import Stream

WORD_BITS: Final = 62
_PLACES: Final = 60  # of decimal arithmetic
_TAIL: Final = 80 * math.log(2)  # beyond `reach`, weights fall below 2**-80 of the largest
_MOST_THRESHOLDS: Final = 1 << 14  # counts of them fit 16 bits


@dataclass(frozen=True, slots=True, eq=False)
class GaussianTable:
    """The thresholds of a discrete Gaussian.

    Attributes:
      variance: its parameter sigma**2.
      reach: the largest absolute value that is drawn.
      thresholds: a word reaches the k-th if it is at least this: rising, from 0 to 2**62, shape (2 * reach,).
      distance: bound on the total variation from the discrete Gaussian, for one number.
    """

    variance: float
    reach: int
    thresholds: NDArray[np.int64]
    distance: float

    @classmethod
    def of(cls, variance: float) -> GaussianTable:
        """Return the table of a variance.

        Raises:
          UsageError: a variance below 1/4. PlanError: one so large that there would be more than 2**14 thresholds.
        """
        if not 0.25 <= variance < math.inf:
            raise UsageError(f"expected a variance of 1/4 or more, got {variance}")
        reach = math.ceil(math.sqrt(2 * variance * _TAIL)) + 1
        if 2 * reach > _MOST_THRESHOLDS:
            raise PlanError(
                f"noise of standard deviation {math.sqrt(variance):.6g} takes {2 * reach} thresholds, and at most "
                f"{_MOST_THRESHOLDS} are compared; allow a larger epsilon, or fewer marginals"
            )
        exact, of = context(_PLACES), GaussianDistribution(Fraction(variance))
        weights = [exact.exp(of.log_weight(x, _PLACES)) for x in range(-reach, reach + 1)]
        total, below, thresholds = exact.create_decimal(0), exact.create_decimal(0), []
        for weight in weights:
            total = exact.add(total, weight)
        for weight in weights[:-1]:
            below = exact.add(below, weight)
            share = exact.divide(below, total)
            thresholds.append(
                int(exact.multiply(share, exact.create_decimal(1 << WORD_BITS)).to_integral_value())
            )
        # Each value's probability is off by two roundings of at most half a unit, and the tails weigh less than a unit.
        distance = (2 * reach + 2) * 2.0**-WORD_BITS
        return cls(variance, reach, np.array(thresholds, np.int64), distance)

    def count(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the noise of words from 0 to 2**62 - 1, in the clear."""
        return np.searchsorted(self.thresholds, words, side="right").astype(np.int64) - self.reach


def coins(count: int, rng: Stream) -> NDArray[np.bool_]:
    """Return what an input party shares for so many numbers, shape (count * 62,)."""
    drawn = np.frombuffer(rng.bytes(-(-count * WORD_BITS // 8)), np.uint8)
    return np.unpackbits(drawn, count=count * WORD_BITS).astype(np.bool_)


def words(bits: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the words of bits in the clear, shape (n, 62), the lowest bit first."""
    found: NDArray[np.int64] = (bits.astype(np.int64) << np.arange(WORD_BITS)).sum(axis=1)
    return found


def gaussian(bits: SharedArray, table: GaussianTable) -> SharedArray:
    """Return the noise of words in secret, shape (n,), int64.

    Args:
      bits: of words, shape (n, 62), the lowest first: the exclusive-or of all parties' coins.

    Raises:
      ShapeError: bits of another shape.
    """
    if len(bits.shape) != 2 or bits.shape[1] != WORD_BITS:
        raise ShapeError(f"expected words of {WORD_BITS} bits, got shape {bits.shape}")
    word = (bits.astype(int64) * (1 << np.arange(WORD_BITS))).sum(axis=1)
    reached = word.reshape(-1, 1) >= table.thresholds
    return reached.astype(int16).sum(axis=1).astype(int64) - table.reach
