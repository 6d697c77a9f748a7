"""Logistic regression of two classes or more, by Newton's method or by mini-batches.

*Newton* (`newton`): after 5 to 10 iterations the coefficients are those of the optimum, up to the error below. For more
than two classes it is block Newton (`multinomial`), which takes 10 to 40.

*Gradient*: each of `max_iter` passes goes over batches of every m-th row, in order, so that each batch has rows of all
owners. Per batch b loses learning_rate times the mean gradient. It needs no elimination, and more passes than Newton's
method iterations; it comes as near to the optimum as the passes and the learning rate let it. For two classes, sigmoids
of scores up to 9 are within 2**-15 of the function. Beyond, they are 0 and 1.

Error of Newton's method at the optimum, against the exact optimum for the features as they are shared: the gradient per
row is within 2**-18, so that coefficients of standardised columns are within 2**-18 times the inverse of the smallest
eigenvalue of (D^T W D + P) / n. `multinomial` has that of several classes.
"""

from __future__ import annotations

import math
from typing import Final, Self

import numpy as np

from secagg.errors import UsageError
from secagg.learn.estimator import LinearModel, at_least_one, counted_rows, positive, table, within_rows
from secagg.learn.multinomial import multinomial
from secagg.learn.newton import in_units, newton, standard_errors, with_ones, without_intercept
from secagg.learn.scaling import FINE, Standardised, halvings, penalty, standardised
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import BoolType, FixedType
from secagg.mpc.arrays.elementary import read_as, sigmoid, sigmoid_in, softmax
from secagg.mpc.arrays.handle import as_numbers, rescaled
from secagg.mpc.arrays.linalg import REFINEMENT, matrix_product, product
from secagg.mpc.arrays.moves import stack
from secagg.mpc.arrays.sigmoids import SIXTEENTHS

_LARGEST_RATE: Final = 2.0**10


class LogisticRegression(LinearModel):
    """Logistic regression with an L2 penalty, as scikit-learn has it: minimises C sum(loss) + |w|**2 / 2.

    Args:
      C: what the losses count beside the penalty; `math.inf` for no penalty. 1 / C is bounded as `Ridge`'s alpha is.
      solver: "newton" or "gradient".
      max_iter: how many iterations of Newton's method, or passes over the rows, all of which are done.
      learning_rate: of the solver "gradient", in standardised units. Below 8 / (p + 5), and half of that for more than
        two classes, it does not diverge.
      batch_size: of the solver "gradient".

    Attributes:
      coef_, intercept_: see `LinearModel`: of shape (p,) and () for two classes, (K, p) and (K,) for K of them.
      last_step_: the largest change of a standardised coefficient in the last iteration, shared. Open it to see whether
        Newton's method has converged: it is then below 2**-12 or so.
      std_errors_: of the solver "newton" for two classes: standard errors by the inverse of the information matrix, penalty
        included.
    """

    last_step_: SharedArray
    std_errors_: SharedArray

    def __init__(
        self,
        C: float = 1.0,  # noqa: N803  # scikit-learn's name
        *,
        solver: str = "newton",
        max_iter: int = 10,
        learning_rate: float = 0.5,
        batch_size: int = 256,
    ) -> None:
        self.C = C
        self.solver = solver
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.batch_size = batch_size

    def fit(
        self,
        X: SharedArray,  # noqa: N803  # scikit-learn's name
        y: SharedArray,
        sample_weight: SharedArray | None = None,
    ) -> Self:
        """Note the fit to shared features (n, p) and shared bools (`share_labels`).

        Bools (n,) are set for the second of two classes. Bools (n, K), for K > 2 classes, are set for each row's class.

        Args:
          sample_weight: shared bools (n,), which rows count; for two classes and the solver "newton". Features of the others
            should lie near the mean, for all rows are standardised together.
        """
        if self.solver not in ("newton", "gradient"):
            raise UsageError(f'expected the solver "newton" or "gradient", got {self.solver!r}')
        iterations = at_least_one("max_iter", self.max_iter)
        weight = 0.0 if math.isinf(self.C) and self.C > 0 else 1 / positive("C", self.C)
        several = isinstance(y, SharedArray) and y.ndim == 2 and y.shape[1] > 2
        x = table(X, y[:, 0] if several else y)
        if not isinstance(y.dtype, BoolType):
            raise UsageError(
                f"expected bools as targets, got {y!r}; compare them with a class, as in (y == 1)"
            )
        n = x.shape[0]
        counted = counted_rows(sample_weight, n)
        if counted is not None and (several or self.solver != "newton"):
            raise UsageError('expected sample_weight for two classes and the solver "newton" alone')
        weight = within_rows("1 / C", weight, n)
        self.forget()
        columns = standardised(x, weights=weight / 2.0 ** halvings(n))
        if self.solver == "newton" and several:
            b, self.last_step_ = multinomial(
                columns, y.astype(FINE), self._penalty(columns, weight), iterations
            )
        elif self.solver == "newton":
            diagonal = self._penalty(columns, weight)
            fit = newton(columns, y.astype(FINE), _logistic, diagonal, iterations, counted=counted)
            self.last_step_, b = fit.last_step, fit.b
            self.std_errors_ = standard_errors(fit, columns)
        else:
            b, self.last_step_ = self._gradient(columns, as_numbers(y), weight, iterations)
        self.coef_, self.intercept_ = in_units(b, columns)
        return self

    def _penalty(self, columns: Standardised, weight: float) -> SharedArray | None:
        root = math.sqrt(weight / 2.0**columns.halvings)
        return without_intercept(penalty(columns.factor, root)) if weight else None

    def _gradient(
        self, columns: Standardised, y: SharedArray, weight: float, passes: int
    ) -> tuple[SharedArray, SharedArray]:
        rate = positive("learning_rate", self.learning_rate)
        if rate >= _LARGEST_RATE:
            raise UsageError(f"expected a learning rate below {_LARGEST_RATE:g}, got {rate:g}")
        n = y.shape[0]
        batches = math.ceil(n / at_least_one("batch_size", self.batch_size))
        d = with_ones(columns.z)
        root = math.sqrt(weight / n * rate)
        decay = without_intercept(penalty(columns.factor, root)) if weight else None
        if decay is not None and y.ndim == 2:
            decay = decay.reshape(-1, 1)
        b: SharedArray = d.engine.public(np.zeros((d.shape[1], *y.shape[1:])), dtype=REFINEMENT)
        before = b
        for number in range(passes * batches):
            before, rows = b, slice(number % batches, None, batches)
            step = (_step_of_two if y.ndim == 1 else _step_of_several)(d[rows], y[rows], b, rate)
            b = b + step if decay is None else b + step - product(decay, before, REFINEMENT)
        return b, abs(b - before).max()

    def decision_function(self, X: SharedArray) -> SharedArray:  # noqa: N803  # scikit-learn's name
        """Return the logarithm of the odds of the second class, of shape (n,), or the score of each class, (n, K)."""
        return self.linear(X)

    def predict(self, X: SharedArray) -> SharedArray:  # noqa: N803  # scikit-learn's name
        """Return bools, of shape (n,), that are set for the second class; of several classes their indices from 0."""
        scores = self.linear(X)
        return scores.argmax(axis=1) if scores.ndim == 2 else scores > 0

    def predict_proba(self, X: SharedArray) -> SharedArray:  # noqa: N803  # scikit-learn's name
        """Return the probabilities of all classes, of shape (n, 2) or (n, K)."""
        chances = _chances(self.linear(X))
        return chances if chances.ndim == 2 else stack([1 - chances, chances], axis=1)


def _step_of_two(part: SharedArray, y: SharedArray, b: SharedArray, rate: float) -> SharedArray:
    """Return rate times the mean gradient over rows of integers y, 0 and 1.

    rate / size is 2**-halvings times a factor of 1/2 to 1. This goes into the polynomial of the sigmoid, so that nothing is
    multiplied by it. Scores are read as sixteenths, which also costs nothing.
    """
    factor, exponent = math.frexp(rate / part.shape[0])
    scores = matrix_product(
        part, read_as(b, FixedType(REFINEMENT.frac_bits + 4)), FixedType(SIXTEENTHS.frac_bits)
    )
    one = 2 * round(factor * 2.0 ** (FINE.frac_bits - 1))
    missing = read_as(y * one, FINE) - sigmoid_in(scores, SIXTEENTHS, FINE, factor)
    return matrix_product(part.T, missing, REFINEMENT, halvings=-exponent)


def _step_of_several(part: SharedArray, y: SharedArray, b: SharedArray, rate: float) -> SharedArray:
    """Return rate times the mean gradient over rows of integers y, of shape (n, K)."""
    size, k = part.shape[0], part.shape[0].bit_length() - 1
    missing = rescaled(y, FINE) - softmax(matrix_product(part, b, FINE), axis=1)
    return matrix_product(part.T, missing, REFINEMENT, halvings=k) * (rate * 2.0**k / size)


def _chances(scores: SharedArray) -> SharedArray:
    return softmax(scores, axis=1) if scores.ndim == 2 else sigmoid(scores)


def _logistic(eta: SharedArray) -> tuple[SharedArray, SharedArray]:
    mean = sigmoid(eta)
    return mean, mean - product(mean, mean, FINE)
