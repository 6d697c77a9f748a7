"""Newton's method for generalised linear models with a canonical link, on standardised columns.

With D = [1 | Z] and a link whose mean is m(eta) and variance w(eta), an iteration solves
(D^T W D + P) step = D^T (y - m) - P b, where all is divided by 2**k (`scaling`), and adds the step to b [MN89, section 2.5].
P has the weights of an L2 penalty, which is on coefficients in the units of x, and not on the intercept.

D^T W D and D^T (y - m) are the only sums over rows; the rest has p + 1 columns. An error of the matrix delays b and does not
move it: what b is right to follows from the gradient. A step is cut to 4 for each entry of b, so that nothing overflows
where there is no optimum. `Fit.last_step` tells: it is next to nothing where the method has converged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from secagg.learn.linear import as_diagonal, deviations
from secagg.learn.scaling import FINE, Standardised
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import FixedType
from secagg.mpc.arrays.linalg import REFINEMENT, Factors, factor, matrix_product, product
from secagg.mpc.arrays.moves import concat

Link: TypeAlias = Callable[[SharedArray], tuple[SharedArray, SharedArray]]  # eta to mean and variance

LONGEST_STEP: Final = 4.0


@dataclass(frozen=True, eq=False)
class Fit:
    """What iterations have come to.

    Attributes:
      b: of the intercept and the standardised columns, in fixed(24).
      last_step: the largest entry of the last step, in fixed(24).
      factors: of the last matrix.
    """

    b: SharedArray
    last_step: SharedArray
    factors: Factors[SharedArray]


def with_ones(z: SharedArray) -> SharedArray:
    """Return [1 | Z]."""
    ones: SharedArray = z.engine.public(np.ones((z.shape[0], 1)), dtype=z.dtype)
    return concat([ones, z], axis=1)


def without_intercept(values: SharedArray) -> SharedArray:
    """Return penalties of the columns, and none of the intercept, which comes first."""
    nothing: SharedArray = values.engine.public(np.zeros(1), dtype=values.dtype)
    return concat([nothing, values])


def newton(
    columns: Standardised,
    y: SharedArray,
    link: Link,
    diagonal: SharedArray | None,
    iterations: int,
    *,
    counted: SharedArray | None = None,
) -> Fit:
    """Return what so many iterations from 0 on come to.

    Args:
      y: in the dtype of the columns.
      diagonal: of P, in fixed(24), the intercept's first; None for no penalty.
      counted: bools, which rows count; None for all.
    """
    d, k = with_ones(columns.z), columns.halvings
    dtype = columns.z.dtype
    if not isinstance(dtype, FixedType):
        raise TypeError(f"expected standardised columns of fixed-point numbers, got {dtype}")
    b: SharedArray = d.engine.public(np.zeros(d.shape[1]), dtype=REFINEMENT)
    step, factors = b, None
    for _ in range(iterations):
        mean, variance = link(matrix_product(d, b, dtype))
        missing = y - mean
        if counted is not None:
            missing, variance = missing * counted, variance * counted
        gradient = matrix_product(d.T, missing, REFINEMENT, halvings=k)
        matrix = matrix_product(d.T, product(variance.reshape(-1, 1), d, dtype), REFINEMENT, halvings=k)
        if diagonal is not None:
            gradient = gradient - product(diagonal, b, REFINEMENT)
            matrix = matrix + as_diagonal(diagonal)
        factors = factor(matrix)
        step = factors.solve(gradient).clip(-LONGEST_STEP, LONGEST_STEP)
        b = b + step
    if factors is None:
        raise ValueError("expected at least one iteration")
    return Fit(b, abs(step).max(), factors)


def standard_errors(fit: Fit, columns: Standardised) -> SharedArray:
    """Return the roots of the diagonal of the inverse of D^T W D + P without the intercept, in the units of x."""
    roots = deviations(fit.factors)[1:]
    return product(roots, columns.factor, FINE) * (1 / math.sqrt(2.0**columns.halvings))


def in_units(b: SharedArray, columns: Standardised) -> tuple[SharedArray, SharedArray]:
    """Return coefficients and the intercept in the units of x, in fixed(20); of each class, where b has them as columns."""
    coefficients = product(b[1:].T, columns.factor, FINE)
    return coefficients, b[0].astype(FINE) - coefficients @ columns.centre
