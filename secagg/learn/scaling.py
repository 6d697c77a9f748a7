"""Columns of mean 0 and mean square 1, computed jointly on shares. Whatever units owners chose, what follows has one range.

With k = floor(log2(n)), z is (x - centre) times factor, so that the sum of z**2 is 2**k. So no |z| exceeds 2**(k / 2), and
no entry of Z^T Z / 2**k exceeds 1. A column that is constant becomes 0. Neither centre nor factor need be exact: a model
that is fitted to z is expressed in x with the very numbers that made z.

An L2 penalty alpha |w|**2 on coefficients of x is factor**2 alpha on those of z, and may be far larger than what data say.
So with a penalty, factor is such that the sum of z**2 and factor**2 alpha are 2**k together. The diagonals of both, divided
by 2**k, then add up to 1, whatever alpha is.

Range: |x| <= 2**13 and fewer than 2**20 rows, so that sums of squares fit. Squares are rounded to 2**-16. So a column whose
standard deviation is below 2**-6 is scaled to a mean square other than 1, and one below 2**-8 becomes 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import FixedType
from secagg.mpc.arrays.elementary import rsqrt
from secagg.mpc.arrays.handle import rescaled
from secagg.mpc.arrays.linalg import halved, product

COARSE: Final = FixedType(16)  # of squares, which are up to 2**28
FINE: Final = FixedType(20)


@dataclass(frozen=True, eq=False)
class Standardised:
    """Standardised columns.

    Attributes:
      z: of shape (n, p).
      mean: of each column of x, in fixed(20), within 3 ulp.
      centre: the mean, rounded to the dtype of x: what z is the distance from.
      factor: what distances from the mean are multiplied with, in fixed(20); z in its own unit.
      halvings: k; sums over rows are divided by 2**k.
    """

    z: SharedArray
    mean: SharedArray
    centre: SharedArray
    factor: SharedArray
    halvings: int


def halvings(n: int) -> int:
    """Return how often sums over n rows are halved: floor(log2(n))."""
    return n.bit_length() - 1


def mean_of_rows(x: SharedArray) -> SharedArray:
    """Return the mean over the first axis, in fixed(20), of numbers within 2**13 of zero."""
    n = x.shape[0]
    return halved(rescaled(x.sum(axis=0), FINE), halvings(n)) * (2.0 ** halvings(n) / n)


def standardised(
    x: SharedArray, dtype: FixedType = FINE, weights: SharedArray | NDArray[np.float64] | float = 0.0
) -> Standardised:
    """Return columns with mean 0 whose squares and penalties add up to 2**k, in a dtype.

    Args:
      weights: the penalty's, divided by 2**k: of all columns, of each, or shared in fixed(20).
    """
    k = halvings(x.shape[0])
    mean = mean_of_rows(x)
    centre = mean.astype(x.dtype)
    distance = x - centre
    squares = halved(product(distance, distance, COARSE).sum(axis=0), k)
    factor = rsqrt(rescaled(squares, FINE) + weights)
    return Standardised(product(distance, factor, dtype), mean, centre, factor, k)


def penalty(factor: SharedArray, root: float, shared_root: SharedArray | None = None) -> SharedArray:
    """Return (factor root shared_root)**2 in fixed(24): what a penalty on coefficients of x is on those of z."""
    roots = factor.astype(FixedType(26)) * root
    if shared_root is not None:
        roots = product(roots, shared_root, FixedType(26))
    return product(roots, roots, FixedType(24))
