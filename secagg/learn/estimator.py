"""What estimators have in common: their parameters, and what `fit` takes.

Features X are a shared array (n, p) of integers or fixed-point numbers with 8 to 16 fractional bits; targets y are (n,).
Rows of several owners are joined with `mpc.concat([x1, x2])`, columns with `mpc.concat([x1, x2], axis=1)`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from secagg.errors import RangeError, ShapeError, UsageError
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import FixedType
from secagg.mpc.arrays.engine import Engine
from secagg.mpc.arrays.handle import as_reals, number
from secagg.party import PartyId

LARGEST_FEATURE: Final = 2.0**13  # so that the square of a distance from the mean fits the ring
MOST_ROWS: Final = 2**20 - 1


class Estimator:
    """An estimator, whose constructor does nothing but keep its parameters under their names."""

    def get_params(self) -> dict[str, Any]:
        """Return the constructor's parameters by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.get_params().items())})"

    def learned(self, name: str) -> Any:
        """Return what `fit` has learned.

        Raises:
          UsageError: nothing has been.
        """
        if name not in vars(self):
            raise UsageError(f"{type(self).__name__} has learned nothing yet: call fit(X, y) first")
        return vars(self)[name]


class LinearModel(Estimator):
    """An estimator that is linear in the features.

    Attributes:
      coef_: a coefficient a feature, shared, of shape (p,) in fixed(20).
      intercept_: shared, of shape () in fixed(20).
    """

    coef_: SharedArray
    intercept_: SharedArray

    def linear(self, x: SharedArray) -> SharedArray:
        """Return x coef_ + intercept_, of shape (n,)."""
        coefficients: SharedArray = self.learned("coef_")
        x = features(x, coefficients.shape[0])
        return x @ coefficients + self.intercept_


def positive(what: str, value: float, *, zero: bool = False) -> float:
    """Return a parameter that is a finite number above 0, or 0 where that is allowed."""
    if (
        not isinstance(value, int | float)
        or not math.isfinite(value)
        or value < 0
        or (value == 0 and not zero)
    ):
        raise UsageError(
            f"expected a number {'of at least' if zero else 'above'} 0 for {what}, got {value!r}"
        )
    return float(value)


def at_least_one(what: str, value: int) -> int:
    """Return a parameter that is an integer of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"expected an integer of at least 1 for {what}, got {value!r}")
    return value


def features(x: SharedArray, columns: int | None = None) -> SharedArray:
    """Return shared features as fixed-point numbers.

    Raises:
      ShapeError: they are no table, or one of other columns.
      UsageError: they are not shared, or of a dtype for which no range is stated.
    """
    if not isinstance(x, SharedArray):
        raise UsageError(
            f"expected features as a shared array, got {type(x).__name__}; share them with share_features"
        )
    if x.ndim != 2 or 0 in x.shape or columns not in (None, x.shape[1]):
        raise ShapeError(f"expected features of shape (rows, {columns or 'columns'}), got {x!r}")
    x = as_reals(x)
    if number(x).bits != 64 or not 8 <= number(x).frac_bits <= 16:
        raise UsageError(f"expected features of 64 bits with 8 to 16 fractional bits, got {x!r}")
    return x


def table(x: SharedArray, y: SharedArray, most_rows: int = MOST_ROWS) -> SharedArray:
    """Return the features of a table to learn from.

    Raises:
      ShapeError: there is not one target a row, or there are no more rows than columns, or too many.
    """
    x = features(x)
    n, p = x.shape
    if not isinstance(y, SharedArray) or y.shape != (n,):
        raise ShapeError(f"expected a shared target for each of {n} rows, got {y!r}")
    if not p + 1 < n <= most_rows:
        raise ShapeError(
            f"expected more than {p + 1} rows for {p} features, and at most {most_rows}; got {n}"
        )
    return x


def share_features(
    engine: Engine,
    values: Any,
    *,
    owner: PartyId,
    shape: Sequence[int] | int,
) -> SharedArray:
    """Share features or real targets of `owner`, which refuses what is out of the range that models are planned for.

    Args:
      values: at the owner, real numbers within 2**13 of zero; None elsewhere.

    Raises:
      RangeError: at the owner, a number is too large or not finite.
    """
    if values is not None:
        values = np.asarray(values, np.float64)
        if not (np.abs(values) <= LARGEST_FEATURE).all():  # which a NaN does not pass either
            raise RangeError(
                f"expected finite features within {LARGEST_FEATURE:g} of zero at {owner}, got others; choose larger units"
            )
    return engine.share(values, owner=owner, shape=shape, dtype=FixedType(16))
