"""What estimators have in common: their parameters, and what `fit` takes.

Features X are a shared array (n, p) of integers or fixed-point numbers with 8 to 16 fractional bits; targets y are (n,).
Rows of several owners are joined with `mpc.concat([x1, x2])`, columns with `mpc.concat([x1, x2], axis=1)`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, ShapeError, UsageError
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import BoolType, FixedType, unmasked
from secagg.mpc.arrays.engine import Engine
from secagg.mpc.arrays.handle import as_reals, number
from secagg.party import PartyId

LARGEST_FEATURE: Final = 2.0**13  # so that the square of a distance from the mean fits the ring
MOST_ROWS: Final = 2**20 - 1
LARGEST_PENALTY: Final = 2.0**32  # a row; 1 / sqrt of it still shows in 20 fractional bits


class NotLearnedError(UsageError, AttributeError):
    """What `fit` has not learned; an `AttributeError` too, for `hasattr`."""


class Estimator:
    """An estimator, whose constructor does nothing but keep its parameters under their names."""

    def __getattr__(self, name: str) -> NoReturn:
        learned = [known for known in vars(self) if _is_learned(known)]
        if not _is_learned(name):
            raise AttributeError(f"{type(self).__name__} has no {name!r}", name=name, obj=None)
        if not learned:
            raise NotLearnedError(f"{type(self).__name__} has learned nothing yet: call fit(X, y) first")
        raise NotLearnedError(f"{self!r} learns no {name}, but {', '.join(learned)}")

    def get_params(self) -> dict[str, Any]:
        """Return the constructor's parameters by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.get_params().items())})"

    def forget(self) -> None:
        """Delete what an earlier `fit` has learned, so that nothing of it stands beside what this one learns."""
        for name in [known for known in vars(self) if _is_learned(known)]:
            delattr(self, name)


def _is_learned(name: str) -> bool:
    return name.endswith("_") and not name.startswith("_")


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
        coefficients = self.coef_
        return features(x, coefficients.shape[-1]) @ coefficients.T + self.intercept_


def positive(what: str, value: float, *, zero: bool = False) -> float:
    """Return a parameter that is a finite number above 0, or 0 where that is allowed."""
    if (
        not isinstance(value, int | float)
        or not math.isfinite(value)
        or value < 0
        or (value == 0 and not zero)
        or isinstance(value, bool)
    ):
        raise UsageError(
            f"expected a number {'of at least' if zero else 'above'} 0 for {what}, got {value!r}"
        )
    return float(value)


def within_rows(what: str, weight: float, n: int) -> float:
    """Return the weight of a penalty, if it is below 2**32 times the number of rows."""
    if weight >= LARGEST_PENALTY * n:
        raise UsageError(
            f"expected a penalty below 2**32 times the {n} rows, got {what} of {weight:g}; so strong a one makes all "
            "coefficients 0"
        )
    return weight


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


def counted_rows(sample_weight: SharedArray | None, rows: int) -> SharedArray | None:
    """Return which rows count.

    Raises:
      UsageError: weights that are no shared bools.
      ShapeError: not one a row.
    """
    if sample_weight is None:
        return None
    if not isinstance(sample_weight, SharedArray) or not isinstance(sample_weight.dtype, BoolType):
        raise UsageError(f"expected shared bools as sample_weight, which rows count; got {sample_weight!r}")
    if sample_weight.shape != (rows,):
        raise ShapeError(f"expected a weight for each of {rows} rows, got {sample_weight!r}")
    return sample_weight


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
      RangeError: at the owner, something is no number, not finite or too large; the first is named by row and column from 0.
    """
    numbers = None if values is None else _checked(values, owner)
    return engine.share(numbers, owner=owner, shape=shape, dtype=FixedType(16))


def share_labels(
    engine: Engine, labels: Any, *, owner: PartyId, rows: int, classes: Sequence[Any]
) -> SharedArray:
    """Share the classes of rows as bools: (rows,) for two classes, set for the second, or (rows, K), set for the row's.

    Args:
      labels: at the owner, one of the classes for each row; None elsewhere.
      classes: what labels may be, public, at least two and all different.

    Raises:
      RangeError: at the owner, a label that is none of the classes; the first is named by its row from 0.
      UsageError: fewer than two classes, or one twice.
    """
    names = np.asarray(classes)
    if names.ndim != 1 or len(names) < 2 or len(np.unique(names)) != len(names):
        raise UsageError(f"expected at least two different classes, got {list(classes)!r}")
    bits = None
    if labels is not None:
        given = unmasked(labels)
        if given.ndim != 1:
            raise ShapeError(f"expected a label for each row at {owner}, got an array of shape {given.shape}")
        bits = given.reshape(-1, 1) == names
        unknown = np.flatnonzero(~bits.any(axis=1))
        if len(unknown):
            raise RangeError(
                f"expected labels at {owner} among the {len(names)} classes; that of row {unknown[0]} is none of them, "
                f"{len(unknown)} in all"
            )
        bits = bits[:, 1] if len(names) == 2 else bits
    shape = (rows,) if len(names) == 2 else (rows, len(names))
    return engine.share(bits, owner=owner, shape=shape, dtype=bool)


def _checked(values: Any, owner: PartyId) -> NDArray[np.float64]:
    given = unmasked(values)
    if given.dtype.kind in "OUS":  # a table with words in it, whose numbers are numbers still
        _refuse(
            ~_are_numbers(given.astype(object)).astype(bool),
            owner,
            "is no number",
            "encode words as numbers first",
        )
    elif given.dtype.kind not in "iufb":
        raise UsageError(f"expected numbers as features at {owner}, got {given.dtype}")
    numbers = given.astype(np.float64)
    _refuse(np.isnan(numbers), owner, "is missing (NaN)", "fill it in, or leave the row out")
    _refuse(
        np.abs(numbers) > LARGEST_FEATURE,
        owner,
        f"is not within {LARGEST_FEATURE:g} of zero",
        "choose larger units",
    )
    return numbers


_are_numbers: Final = np.frompyfunc(lambda value: isinstance(value, Real), 1, 1)


def _refuse(wrong: NDArray[np.bool_], owner: PartyId, what: str, advice: str) -> None:
    """Refuse the first number that is wrong by its place alone: values are the owner's secret."""
    places = np.argwhere(wrong)
    if len(places):
        place = ", ".join(f"{name} {i}" for name, i in zip(("row", "column"), places[0], strict=False))
        raise RangeError(
            f"expected finite features within {LARGEST_FEATURE:g} of zero at {owner}; {place or 'it'} {what}, "
            f"{len(places)} in all; {advice}"
        )
