"""Association of many variants with one trait, adjusted for covariates: linear regression a variant at a time.

Rows stay at their hospitals. With covariates C (a column of ones among them), trait y and a variant's dosages g, each
hospital adds up C^T C, C^T y, y^T y, and for each variant g^T g, C^T g and g^T y (`trait_sums`, `variant_sums`). The joint
part has no rows: its size is that of the variants.

With a = (C^T C)^- C^T g and b = (C^T C)^- C^T y, the parts of g and y that covariates do not explain have

  gg = g^T g - 2 a^T C^T g + a^T C^T C a    gy = g^T y - a^T C^T y - b^T C^T g + a^T C^T C b    yy = y^T y - ...

which are right up to the square of the errors of a and b. A variant's effect is gy / gg, and r2 = gy**2 / (gg yy) is the
share of the rest that it explains. n - p - 1 degrees of freedom give its t = sqrt(freedom r2 / (1 - r2)) with the sign of
the effect, and n r2 is the score test. Variants are ranked by r2, and the effects and r2 of the first few are all there
is to open: `t_test` makes standard errors and p-values of them.

Range: dosages 0 to 2, covariates and traits moved into -1..1 by public ranges, 2**19 rows. Where gg / n is below 2**-8 or
yy / n below 2**-12, a variant has effect and r2 0, and a shared bit says that it is narrow.
Error: of r2, 2**-24 (1 + n / yy); of effects, in units of the moved trait, 1e-7. So ranges are to be no wider than needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, ShapeError, UsageError
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import FixedType, int64
from secagg.mpc.arrays.elementary import inverse_in, read_as, truncated
from secagg.mpc.arrays.linalg import REFINEMENT, factor, matrix_product, product
from secagg.mpc.arrays.moves import concat
from secagg.mpc.arrays.ordering import sort_by
from secagg.statistics.moments import student_tail
from secagg.statistics.ratios import FINEST, inverse, mean

LARGEST_DOSAGE: Final = 2
_FINE: Final = FixedType(20)
_INVERSE: Final = 28  # fractional bits of n / gg, which is below 2**8
LEAST_OF_VARIANT: Final = 2.0**-8  # of gg / n, so that an effect is below 2**4
LEAST_OF_TRAIT: Final = 2.0**-12  # of yy / n
SCORE_UNIT: Final = 8.0  # by which weighted residuals are divided


@dataclass(frozen=True, eq=False)
class Hits:
    """The variants that explain most, shared, in falling order of r2.

    Attributes:
      variant: places, in int64.
      effect: change of the moved trait for one more copy, in fixed(28).
      r2: in fixed(28).
      narrow: bools; the variant, or the trait, hardly varies beside the covariates, and the effect says nothing.
      spread: yy / n, the mean square of what covariates do not explain of the trait, in fixed(30), shape ().
    """

    variant: SharedArray
    effect: SharedArray
    r2: SharedArray
    narrow: SharedArray
    spread: SharedArray


def with_ones(covariates: Any) -> NDArray[np.float64]:
    """Return a column of ones beside a hospital's covariates, which have been moved into -1..1.

    Raises:
      RangeError: one is outside.
    """
    c = np.asarray(covariates, np.float64)
    if c.ndim != 2:
        raise ShapeError(f"expected covariates of shape (rows, columns), got {c.shape}")
    if not (np.abs(c) <= 1).all():
        raise RangeError(
            "expected covariates moved into -1..1 by their ranges, got others; nothing was shared"
        )
    return np.column_stack([np.ones(len(c)), c])


def trait_sums(covariates: Any, trait: Any) -> NDArray[np.float64]:
    """Return a hospital's [C | y]^T [C | y], of shape (p + 2, p + 2); the first entry is its number of rows."""
    both = with_ones(np.column_stack([covariates, trait]))
    return both.T @ both


def variant_sums(dosages: Any, covariates: Any, trait: Any) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return a hospital's g^T g (variants,), and [C | y]^T g of shape (p + 2, variants).

    Args:
      dosages: 0, 1 or 2, of shape (rows, variants).

    Raises:
      RangeError: another dosage.
    """
    g = np.asarray(dosages)
    if g.ndim != 2 or g.dtype.kind not in "iu" or ((g < 0) | (g > LARGEST_DOSAGE)).any():
        raise RangeError(
            f"expected dosages 0 to {LARGEST_DOSAGE} of shape (rows, variants); nothing was shared"
        )
    both = with_ones(np.column_stack([covariates, trait]))
    as_reals = g.astype(np.float64)
    return np.einsum("ij,ij->j", as_reals, as_reals).astype(np.int64), both.T @ as_reals


def score_columns(
    covariates: Any, outcome: Any, probability: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return a hospital's weighted design, weighted residuals and weights, for the score test of a logistic regression.

    With p the probabilities of a model without variants and w = p (1 - p), the score of a variant is g^T (y - p), and its
    variance g^T W g less what the design explains. That is the regression of (y - p) / sqrt(w) on sqrt(w) g beside
    sqrt(w) [1 | C]. Weights are 2 sqrt(w), and residuals are divided by 8, so that both lie in -1..1.

    Args:
      covariates: moved into -1..1; outcome: bools.

    Raises:
      RangeError: a probability below 1/65 or above 64/65.
    """
    p = np.asarray(probability, np.float64)
    extreme = int(np.count_nonzero((p < 1 / 65) | (p > 64 / 65)))
    if extreme:
        raise RangeError(
            f"{extreme} of {len(p)} patients have a probability below 1/65 or above 64/65 by the model without variants; "
            "such an outcome is too rare for this test"
        )
    root = np.sqrt(p * (1 - p))
    residual = (np.asarray(outcome, np.float64) - p) / root / SCORE_UNIT
    weight = 2 * root
    return with_ones(covariates) * weight[:, None], residual, weight


def association(
    squares: SharedArray,
    products: SharedArray,
    moments: SharedArray,
    *,
    top: int,
    rows: SharedArray | None = None,
) -> Hits:
    """Return the variants that explain most of the trait beside the covariates.

    Args:
      squares: g^T g of all hospitals together, int64 (variants,); of weighted rows in fixed(30).
      products: [C | y]^T g in fixed(30), of shape (p + 2, variants).
      moments: [C | y]^T [C | y] in fixed(30), of shape (p + 2, p + 2).
      top: how many variants to return.
      rows: their number, int64 of shape (), where rows are weighted and `moments` does not tell it.
    """
    q, variants = products.shape
    if moments.shape != (q, q) or squares.shape != (variants,):
        raise ShapeError(f"expected sums of one table, got {squares!r}, {products!r} and {moments!r}")
    if products.dtype != FINEST or moments.dtype != FINEST or squares.dtype not in (int64, FINEST):
        raise UsageError("expected products and moments in fixed(30), and squares in int64 or fixed(30)")
    if not isinstance(top, int) or not 1 <= top <= variants:
        raise UsageError(f"expected 1 to {variants} variants to return, got {top!r}")
    n = shortened_count(moments) if rows is None else rows
    if squares.dtype == int64:
        squares = read_as(squares * np.int64(1 << FINEST.frac_bits), FINEST)
    one_over = inverse(n)
    # Halved, so that sums of dosages are within the rows; and quartered, so that those of squares are.
    cross = mean(truncated(products * 2, FixedType(29)).astype(FINEST), n * 4, inverse(n * 4)) * 2
    own = mean(squares, n * 4, inverse(n * 4)) * 4
    second = mean(moments, n, one_over)
    matrix, with_trait = second[:-1, :-1], second[:-1, -1:]
    solved = factor(truncated(matrix, REFINEMENT)).solve(
        truncated(concat([cross[:-1], with_trait], axis=1), REFINEMENT)
    )
    a, b = solved[:, :-1], solved[:, -1:]
    gg = own - _quadratic(a, cross[:-1], matrix, a, cross[:-1])
    gy = cross[-1] - _quadratic(a, cross[:-1], matrix, b, with_trait)
    yy = second[-1, -1] - _quadratic(b, with_trait, matrix, b, with_trait)
    varies = (gg > LEAST_OF_VARIANT) & (yy > LEAST_OF_TRAIT)
    inverse_gg = _inverse(gg) * varies.astype(int64)
    inverse_yy = _inverse(yy)
    effect = product(gy, inverse_gg, FixedType(_INVERSE))
    r2 = product(product(effect, gy, FINEST), inverse_yy, FixedType(_INVERSE))
    places: SharedArray = squares.engine.public(np.arange(variants))
    columns = [places, effect, r2, ~varies]
    variant, effect, r2, narrow = sort_by([r2], columns, descending=True, first=top)
    return Hits(variant, effect, r2, narrow, yy)


def _inverse(x: SharedArray) -> SharedArray:
    """Return 1 / x of x in fixed(30) from 2**-12 to 4: a first one of 20 bits of x, and a step of Newton's method."""
    first = read_as(inverse_in(truncated(x, _FINE), _INVERSE), FixedType(_INVERSE))
    lacking = 1 - product(x, first, FixedType(_INVERSE))
    return first + product(first, lacking, FixedType(_INVERSE))


def shortened_count(moments: SharedArray) -> SharedArray:
    """Return the number of rows, which stands among the moments as a whole number in fixed(30)."""
    return truncated(moments[0, 0], FixedType(1)).astype(int64)


def _quadratic(
    a: SharedArray, of_a: SharedArray, matrix: SharedArray, b: SharedArray, of_b: SharedArray
) -> SharedArray:
    """Return a^T y + b^T x - a^T M b for each column, with x = M a and y = M b up to the errors of a and b."""
    fitted = matrix_product(matrix, b, FINEST)
    return product(a, of_b - fitted, FINEST).sum(axis=0) + product(b, of_a, FINEST).sum(axis=0)


def t_test(effect: float, r2: float, freedom: int) -> tuple[float, float]:
    """Return a standard error and a two-sided p-value of an opened effect with so many degrees of freedom."""
    r2 = min(max(float(r2), 0.0), 1.0)
    if r2 == 0 or freedom < 1:
        return float("inf"), 1.0
    if r2 == 1:
        return 0.0, 0.0
    t = math.sqrt(freedom * r2 / (1 - r2))
    return abs(float(effect)) / t, student_tail(t, freedom)
