"""Least squares, plain and with a penalty, by the normal equations of standardised columns.

With Z and t the standardised features and targets, (Z^T Z + penalty) b = Z^T t, where all is divided by 2**k (`scaling`).
coef_j = b_j factor_j / factor_t. One matrix product over the rows and one elimination of p columns.

Error against exact least squares on the features and targets as they are shared, for kappa, the condition number of the
correlation matrix, up to 2**11: 2**-18 kappa times factor_j / factor_t, and 2**-19 (1 + |b_j|), for each coefficient.
That of predictions is at most the sum of those of the coefficients times the features.
"""

from __future__ import annotations

import math
from typing import Self

import numpy as np

from secagg.learn.estimator import LinearModel, positive, table, within_rows
from secagg.learn.scaling import FINE, halvings, penalty, standardised
from secagg.mpc.arrays.arithmetic import astype
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.elementary import reciprocal, sqrt, truncated
from secagg.mpc.arrays.handle import as_reals, number
from secagg.mpc.arrays.linalg import REFINEMENT, Factors, factor, matrix_product, product
from secagg.mpc.arrays.moves import concat, reshape


class Ridge(LinearModel):
    """Linear least squares with an L2 penalty, as scikit-learn has it: minimises |y - X w - b|**2 + alpha |w|**2.

    Args:
      alpha: the penalty's weight, below 2**32 times the number of rows.

    Attributes:
      coef_, intercept_: see `LinearModel`.
      rank_: how many features count, shared: one of which those before it determine all but 2**-12 gets coefficient
        0, and a standard error of 0. A penalty counts as variance that no other feature determines.
    """

    rank_: SharedArray

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def fit(self, X: SharedArray, y: SharedArray) -> Self:  # noqa: N803  # scikit-learn's name
        """Note the fit to shared features (n, p) and shared targets (n,)."""
        self._fit(X, y, positive("alpha", self.alpha, zero=True))
        return self

    def predict(self, X: SharedArray) -> SharedArray:  # noqa: N803  # scikit-learn's name
        """Return predictions, of shape (n,)."""
        return self.linear(X)

    def _fit(self, x: SharedArray, y: SharedArray, alpha: float) -> _Fit:
        self.forget()
        fit = _Fit(x, y, alpha)
        self.coef_, self.intercept_, self.rank_ = fit.coefficients, fit.intercept, fit.factors.rank
        return fit


class LinearRegression(Ridge):
    """Ordinary linear least squares.

    Attributes:
      coef_, intercept_, rank_: see `Ridge`.
      std_errors_: the coefficients' standard errors, shared, of shape (p,) in fixed(20): with residuals of the same variance
        and n - p - 1 degrees of freedom.
    """

    std_errors_: SharedArray

    def __init__(self) -> None: ...

    def fit(self, X: SharedArray, y: SharedArray) -> Self:  # noqa: N803  # scikit-learn's name
        """Note the fit to shared features (n, p) and shared targets (n,)."""
        self.std_errors_ = self._fit(X, y, 0.0).standard_errors()
        return self


class _Fit:
    """One fit; letters as in the module's docstring."""

    def __init__(self, x: SharedArray, y: SharedArray, alpha: float) -> None:
        x, y = table(x, y), as_reals(y)
        y = astype(y, number(x))
        self.n, p = x.shape
        weight = within_rows("alpha", alpha, self.n) / 2.0 ** halvings(self.n)
        both = standardised(concat([x, reshape(y, (-1, 1))], axis=1), weights=np.array([weight] * p + [0.0]))
        z, k = both.z, both.halvings
        sums = matrix_product(z.T, z, REFINEMENT, halvings=k)
        self.sums, self.targets, self.total = sums[:p, :p], sums[:p, p], sums[p, p]
        matrix = self.sums
        if alpha:
            matrix = matrix + as_diagonal(penalty(both.factor[:p], math.sqrt(weight)))
        self.factors: Factors[SharedArray] = factor(matrix)
        self.b = self.factors.solve(self.targets)
        self.units = product(both.factor[:p], reciprocal(both.factor[p]), FINE)
        self.coefficients = product(self.b, self.units, FINE)
        self.intercept = both.mean[p] - both.mean[:p] @ self.coefficients

    def standard_errors(self) -> SharedArray:
        """Return sqrt(residual / (n - p - 1) diag((Z^T Z)^-1)) in the units of x and y; 2**k cancels."""
        left = self.targets * 2 - matrix_product(self.sums, self.b, REFINEMENT)
        residual = self.total - matrix_product(self.b, left, REFINEMENT)
        freedom = self.n - self.b.shape[0] - 1
        return product(deviations(self.factors, residual), self.units, FINE) * (1 / math.sqrt(freedom))


def as_diagonal(values: SharedArray) -> SharedArray:
    """Return a matrix with values on its diagonal."""
    return values * np.eye(values.shape[0], dtype=np.int64)


def deviations(factors: Factors[SharedArray], variance: SharedArray | None = None) -> SharedArray:
    """Return the roots of the diagonal of a matrix' inverse, times a variance, in fixed(20); the matrix is of fixed(24)."""
    p = factors.scale.shape[0]
    places = np.arange(p)
    diagonal = factors.scaled_inverse()[places, places]
    inside = truncated(diagonal, FINE) if variance is None else product(diagonal, variance, FINE)
    # The inverse of a matrix of fixed(24) is 2**4 times that of the one it is read as.
    return product(sqrt(inside), factors.scale, FINE) * 4
