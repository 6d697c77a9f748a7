"""Poisson regression with a logarithmic link, by Newton's method.

Targets are divided by their mean first, so that the fit begins at the right level and numbers have one range. Then
sum(exp(eta) - y eta) is a constant times what it was, and the penalty's weight is divided by the mean too.

Range: fewer than 2**18 rows. In units of mean(y), targets and fitted means are at most exp(8), where fitted means are cut.
For each standardised column the mean of z**2 times the fitted means is below 2**8.

Error at the optimum: the gradient per row is within 2**-14, in units of mean(y); standardised coefficients are within 2**-14
times the inverse of the smallest eigenvalue of (D^T W D + P) / (n mean(y)).
"""

from __future__ import annotations

import math
from typing import Final, Self

from secagg.errors import UsageError
from secagg.learn.estimator import LinearModel, at_least_one, counted_rows, positive, table, within_rows
from secagg.learn.newton import in_units, newton, standard_errors, without_intercept
from secagg.learn.scaling import FINE, halvings, mean_of_rows, penalty, standardised
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import FixedType
from secagg.mpc.arrays.elementary import exp, log, reciprocal, rsqrt
from secagg.mpc.arrays.handle import as_reals
from secagg.mpc.arrays.linalg import product

_COLUMNS: Final = FixedType(18)  # sums over rows have twice as many, with room for weights
_LARGEST: Final = 8.0  # eta
_MOST_ROWS: Final = 2**18 - 1


class PoissonRegressor(LinearModel):
    """Poisson regression with an L2 penalty, as scikit-learn has it: minimises mean(exp(eta) - y eta) + alpha |w|**2 / 2.

    Args:
      alpha: the penalty's weight, below 2**20 times the mean of y, which is secret: beyond, coefficients are wrong.
      max_iter: how many iterations of Newton's method, all of which are done.

    Attributes:
      coef_, intercept_: see `LinearModel`.
      last_step_: see `LogisticRegression`.
      std_errors_: by the inverse of the information matrix, penalty included.
    """

    last_step_: SharedArray
    std_errors_: SharedArray

    def __init__(self, alpha: float = 1.0, *, max_iter: int = 8) -> None:
        self.alpha = alpha
        self.max_iter = max_iter

    def fit(
        self,
        X: SharedArray,  # noqa: N803  # scikit-learn's name
        y: SharedArray,
        sample_weight: SharedArray | None = None,
    ) -> Self:
        """Note the fit to shared features (n, p) and shared targets (n,) of at least 0, not all of them 0.

        Args:
          sample_weight: shared bools (n,), which rows count; without a penalty. Features of the others should lie near the
            mean, for all rows are standardised together.
        """
        alpha = positive("alpha", self.alpha, zero=True)
        if alpha and sample_weight is not None:
            raise UsageError("expected alpha=0 beside sample_weight, for a penalty is per row that counts")
        iterations = at_least_one("max_iter", self.max_iter)
        x, y = table(X, y, _MOST_ROWS), as_reals(y)
        n = y.shape[0]
        counted = counted_rows(sample_weight, n)
        y = y if counted is None else y * counted
        within_rows("alpha", alpha * n, n)
        self.forget()
        level = mean_of_rows(y)
        inverse, root = reciprocal(level), rsqrt(level)
        weight = alpha * n / 2.0 ** halvings(n)
        columns = standardised(x, _COLUMNS, inverse * weight if alpha else 0.0)
        diagonal = without_intercept(penalty(columns.factor, math.sqrt(weight), root)) if alpha else None
        targets = product(y, inverse, _COLUMNS)
        fit = newton(columns, targets, _exponential, diagonal, iterations, counted=counted)
        self.coef_, intercept = in_units(fit.b, columns)
        self.intercept_ = intercept + log(level)
        self.last_step_ = fit.last_step
        self.std_errors_ = product(standard_errors(fit, columns), root, FINE)
        return self

    def predict(self, X: SharedArray) -> SharedArray:  # noqa: N803  # scikit-learn's name
        """Return expected counts, of shape (n,)."""
        return exp(self.linear(X))


def _exponential(eta: SharedArray) -> tuple[SharedArray, SharedArray]:
    mean = exp(eta.clip(max=_LARGEST))
    return mean, mean
