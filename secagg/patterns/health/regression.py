"""Regressions: what covariates do to an outcome of patients at all hospitals; linear, logistic and Poisson.

The outcome and each covariate of a patient stand in the table `covariates`, and have public ranges. The rows are shared,
moved into -8..8 by these ranges, and fitted by `secagg.learn` without a penalty. A patient who is in the tables of two
hospitals counts twice.

Learns: the recipients, if there are `min_patients` patients, their number, and of each covariate and the intercept its
coefficient; of covariates also the standard error. Of a logistic or Poisson regression also `last_step`, which is below
1e-3 where Newton's method has converged. A covariate that others determine is told as NULL. No row, no iteration before.

Error, of standardised coefficients against the optimum for rows as they are shared: see `secagg.learn`. Rows of padding are
put at the mean; they do not count.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from secagg.errors import DataError, PlanError
from secagg.learn import LinearRegression, LogisticRegression, PoissonRegressor
from secagg.mpc import concat, int64, stack
from secagg.mpc.arrays import SharedArray
from secagg.party import PartyId
from secagg.patterns.health import examples, reference
from secagg.patterns.health.agreed_names import PROBABILITY_OR_NULL, STATISTIC, STATISTIC_OR_NULL, check_names
from secagg.patterns.health.correlation import check_ranges
from secagg.patterns.health.covariates import COVARIATES, LARGEST, wide
from secagg.patterns.joint_tables import Columns, Flag, JointTable, Number, python_value
from secagg.patterns.pattern import Tables, Terms
from secagg.patterns.program import Findings, ProgramPattern
from secagg.query.schema import Identifier, Integer, Schema
from secagg.statistics.log_rank import upper_gamma
from secagg.statistics.moments import student_tail

_HALF: Final = (
    8.0  # half of a moved range: large enough for 16 fractional bits, small enough for coefficients of 20
)
_FRAC_BITS: Final = 16
_MOST_ROWS: Final = 1 << 18
_INTERCEPT: Final = "intercept"

Floats = NDArray[np.float64]
Row = tuple[str, float, float | None, float | None, int, float]


class Covariates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The outcome, covariates with their ranges, and the least number of patients."""

    outcome: str = "outcome"
    covariates: tuple[str, ...] = ("age", "treatment")
    low: tuple[float, ...] = (0, 0)
    high: tuple[float, ...] = (120, 1)
    min_patients: Annotated[int, Meta(ge=3)] = 10


class Measured(Covariates, frozen=True, forbid_unknown_fields=True):
    """The range of the outcome as well."""

    outcome_low: Annotated[float, Meta(ge=-LARGEST, le=LARGEST)] = 0
    outcome_high: Annotated[float, Meta(ge=-LARGEST, le=LARGEST)] = 100


class Iterated(Covariates, frozen=True, forbid_unknown_fields=True):
    """The number of iterations of Newton's method as well."""

    iterations: Annotated[int, Meta(ge=1, le=30)] = 8


class Counted(Iterated, frozen=True, forbid_unknown_fields=True):
    """The largest outcome as well."""

    max_outcome: Annotated[int, Meta(ge=1, le=LARGEST)] = 100


class Fitted(NamedTuple):
    """A fit to moved rows: shared, or numbers."""

    coefficients: Any
    errors: Any
    intercept: Any
    last_step: Any


class Regression(ProgramPattern):
    """What regressions have in common; see the module."""

    inputs = {  # noqa: RUF012  # nobody changes it
        "patients": Schema(patient=Identifier()),
        "covariates": COVARIATES,
    }
    results = Schema(
        term=Identifier(),
        coefficient=STATISTIC_OR_NULL,
        standard_error=STATISTIC_OR_NULL,
        p_value=PROBABILITY_OR_NULL,
        patients=Integer(),
        last_step=STATISTIC,
    )
    tells = (
        "if there are enough patients: their number, the coefficient and standard error of each covariate, the intercept, "
        "and the last step; p-values follow"
    )
    outcome_type: ClassVar[Columns]

    @abstractmethod
    def outcome(self, parameters: Any, values: Floats) -> Any:
        """Return a hospital's outcomes as they are shared; raises `DataError` for those that no such regression has."""

    @abstractmethod
    def fit(self, parameters: Any, x: SharedArray, y: SharedArray, valid: SharedArray) -> Fitted:
        """Note the fit."""

    @abstractmethod
    def pooled_fit(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return coefficients of pooled columns with one of ones in front, and their standard errors, by numpy."""

    def unit(self, parameters: Any) -> tuple[float, float]:  # noqa: ARG002
        """Return one unit of the shared outcome, and the outcome that is shared as 0."""
        return 1.0, 0.0

    def p_value(self, coefficient: float, error: float, freedom: int) -> float:  # noqa: ARG002
        """Return the two-sided p-value of Wald's test."""
        return upper_gamma(0.5, (coefficient / error) ** 2 / 2)

    # The contract.

    def check(self, parameters: Covariates, terms: Terms) -> None:
        """Raise `PlanError` for what cannot be computed with."""
        check_names("outcome and covariates", (parameters.outcome, *parameters.covariates), least=2, most=32)
        check_ranges(parameters.covariates, parameters.low, parameters.high)
        if _INTERCEPT in parameters.covariates:
            raise PlanError(
                f"expected covariates of other names than {_INTERCEPT}, which is a row of the result"
            )
        super().check(parameters, terms)

    def row_limit(self, terms: Terms) -> int:
        """Return the largest number of patients of one hospital."""
        return min(super().row_limit(terms), (_MOST_ROWS - 1) // len(terms.input_parties))

    def shared(self, parameters: Covariates) -> Mapping[str, Columns]:
        """Return what is shared: a row a patient."""
        moved = Number(-int(_HALF), int(_HALF), _FRAC_BITS)
        values: Columns = {f"x{i}": moved for i in range(len(parameters.covariates))}
        return {"patients": {**self.outcome_type, **values}}

    def local(self, parameters: Covariates, tables: Tables) -> Mapping[str, Mapping[str, Any]]:
        """Bring a patient's covariates into one row, and move them by their ranges."""
        names = (parameters.outcome, *parameters.covariates)
        both = wide(names, tables["patients"]["patient"], tables["covariates"])
        x = _moved(both[:, 1:], parameters.low, parameters.high, parameters.covariates)
        columns = {f"x{i}": x[:, i] for i in range(x.shape[1])}
        return {"patients": {"y": self.outcome(parameters, both[:, 0]), **columns}}

    def program(self, parameters: Covariates, tables: Mapping[str, JointTable]) -> Findings:
        """Put rows of padding at the mean, and fit."""
        rows, p = tables["patients"], len(parameters.covariates)
        if rows.rows <= p + 1:
            raise PlanError(f"{rows.rows} patients are too few for {p} covariates; name fewer covariates")
        n = rows.valid.astype(int64).sum()
        x = _filled(stack([rows[f"x{i}"] for i in range(p)], axis=1), rows.valid, n)
        fitted = self.fit(parameters, x, rows["y"], rows.valid)
        released = n >= parameters.min_patients
        numbers = concat([fitted.coefficients, fitted.intercept.reshape(1), fitted.errors], axis=0) * released
        return Findings(
            {
                "numbers": numbers,
                "last_step": (fitted.last_step * released).reshape(1),
                "n": (n * released.astype(int64)).reshape(1),
            }
        )

    def from_opened(self, parameters: Covariates, columns: Sequence[Any]) -> Sequence[Any]:
        """Return coefficients in the covariates' own units, with p-values."""
        numbers, (last_step,), (n,) = columns
        p = len(parameters.covariates)
        found = Fitted(
            numbers[:p], numbers[p + 1 :] * self.correction(parameters, int(n)), numbers[p], last_step
        )
        rows = self._rows_of(parameters, found, int(n)) if n else []
        return [[row[i] for row in rows] for i in range(6)]

    def correction(self, parameters: Any, n: int) -> float:  # noqa: ARG002
        """Return what standard errors are multiplied with once the number of patients is known."""
        return 1.0

    def pooled(self, parameters: Covariates, tables: Mapping[PartyId, Tables]) -> list[tuple[Any, ...]]:
        """Fit the pooled rows, rounded as they are shared; the last step is 0."""
        own = [self.local(parameters, part)["patients"] for part in tables.values()]
        x = np.concatenate(
            [np.column_stack([t[f"x{i}"] for i in range(len(parameters.covariates))]) for t in own]
        )
        y = np.concatenate([np.asarray(t["y"], np.float64) for t in own])
        if len(y) < parameters.min_patients:
            return []
        x = np.rint(x * 2.0**_FRAC_BITS) / 2.0**_FRAC_BITS
        b, errors = self.pooled_fit(x, y)
        rows = self._rows_of(parameters, Fitted(b[1:], errors[1:], b[0], 0.0), len(y))
        kinds = tuple(self.results.values())
        return [tuple(map(python_value, kinds, row)) for row in rows]

    def _rows_of(self, parameters: Covariates, found: Fitted, n: int) -> list[Row]:
        unit, zero = self.unit(parameters)
        low, high = np.array(parameters.low), np.array(parameters.high)
        scale = 2 * _HALF / (high - low)
        coefficients = np.asarray(found.coefficients, np.float64) * scale * unit
        errors = np.asarray(found.errors, np.float64) * scale * unit
        intercept = zero + unit * float(found.intercept) - float(coefficients @ ((low + high) / 2))
        freedom = n - len(low) - 1
        rows: list[Row] = []
        for name, b, e in zip(parameters.covariates, coefficients.tolist(), errors.tolist(), strict=True):
            if e > 0:
                rows.append((name, b, e, self.p_value(b, e, freedom), n, float(found.last_step)))
            else:
                rows.append((name, None, None, None, n, float(found.last_step)))  # type: ignore[arg-type]
        return [*rows, (_INTERCEPT, intercept, None, None, n, float(found.last_step))]


class LinearRegressionPattern(Regression):
    """Ordinary least squares; see the module."""

    name = "linear_regression"
    summary = "what covariates do to a measurement of patients: linear regression."
    Parameters = Measured
    example = staticmethod(examples.linear_regression)
    outcome_type: ClassVar[Columns] = {"y": Number(-int(_HALF), int(_HALF), _FRAC_BITS)}

    def check(self, parameters: Any, terms: Terms) -> None:
        """Raise `PlanError` for what cannot be computed with."""
        super().check(parameters, terms)
        check_ranges((parameters.outcome,), (parameters.outcome_low,), (parameters.outcome_high,))

    def outcome(self, parameters: Measured, values: Floats) -> Any:
        """Return outcomes moved by their range."""
        low, high = (parameters.outcome_low,), (parameters.outcome_high,)
        return _moved(values.reshape(-1, 1), low, high, (parameters.outcome,))[:, 0]

    def fit(self, parameters: Measured, x: SharedArray, y: SharedArray, valid: SharedArray) -> Fitted:  # noqa: ARG002
        """Note the fit; rows at the mean of everything change nothing but the degrees of freedom."""
        y = _filled(y.reshape(-1, 1), valid, valid.astype(int64).sum()).reshape(-1)
        model = LinearRegression().fit(x, y)
        errors = model.std_errors_ * float(np.sqrt(x.shape[0] - x.shape[1] - 1))  # see `correction`
        return Fitted(model.coef_, errors, model.intercept_, model.intercept_ * 0)

    def correction(self, parameters: Measured, n: int) -> float:
        """Divide by the degrees of freedom of the rows that count."""
        freedom = n - len(parameters.covariates) - 1
        return 1 / float(np.sqrt(freedom)) if freedom > 0 else 0.0

    def pooled_fit(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return least squares."""
        y = np.rint(y * 2.0**_FRAC_BITS) / 2.0**_FRAC_BITS
        return reference.least_squares(x, y)

    def unit(self, parameters: Measured) -> tuple[float, float]:
        """Return one unit of the moved outcome, and the middle of its range."""
        low, high = parameters.outcome_low, parameters.outcome_high
        return (high - low) / (2 * _HALF), (low + high) / 2

    def p_value(self, coefficient: float, error: float, freedom: int) -> float:
        """Return the two-sided p-value of the t-test."""
        return student_tail(coefficient / error, freedom) if freedom > 0 else 1.0


class LogisticRegressionPattern(Regression):
    """Logistic regression; see the module."""

    name = "logistic_regression"
    summary = "what covariates do to the odds of an outcome of patients: logistic regression."
    Parameters = Iterated
    example = staticmethod(examples.logistic_regression)
    outcome_type: ClassVar[Columns] = {"y": Flag()}

    def outcome(self, parameters: Iterated, values: Floats) -> Any:
        """Return outcomes as bools."""
        if wrong := int(np.count_nonzero((values != 0) & (values != 1))):
            raise DataError(
                f"{parameters.outcome}: expected 0 or 1 of each of {len(values)} patients, got something else {wrong} times"
            )
        return values == 1

    def fit(self, parameters: Iterated, x: SharedArray, y: SharedArray, valid: SharedArray) -> Fitted:
        """Note the fit."""
        model = LogisticRegression(C=float("inf"), max_iter=parameters.iterations)
        model.fit(x, y & valid, sample_weight=valid)
        return Fitted(model.coef_, model.std_errors_, model.intercept_, model.last_step_)

    def pooled_fit(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return the optimum by Newton's method."""
        return reference.generalised(x, y, lambda eta: 1 / (1 + np.exp(-eta)), lambda mean: mean * (1 - mean))


class PoissonRegressionPattern(Regression):
    """Poisson regression; see the module."""

    name = "poisson_regression"
    summary = "what covariates do to how often something happens to patients: Poisson regression."
    Parameters = Counted
    example = staticmethod(examples.poisson_regression)

    outcome_type: ClassVar[Columns] = {"y": Number(0, LARGEST)}

    def outcome(self, parameters: Counted, values: Floats) -> Any:
        """Return outcomes as whole numbers."""
        whole = np.rint(values).astype(np.int64)
        if wrong := int(np.count_nonzero((values != whole) | (whole < 0) | (whole > parameters.max_outcome))):
            raise DataError(
                f"{parameters.outcome}: expected whole numbers of 0 to max_outcome, which is {parameters.max_outcome}; "
                f"{wrong} of {len(values)} are others"
            )
        return whole

    def fit(self, parameters: Counted, x: SharedArray, y: SharedArray, valid: SharedArray) -> Fitted:
        """Note the fit."""
        model = PoissonRegressor(alpha=0, max_iter=parameters.iterations)
        model.fit(x, y * valid, sample_weight=valid)
        return Fitted(model.coef_, model.std_errors_, model.intercept_, model.last_step_)

    def pooled_fit(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return the optimum by Newton's method."""
        return reference.generalised(x, y, np.exp, lambda mean: mean)


def _moved(x: Floats, low: Sequence[float], high: Sequence[float], names: Sequence[str]) -> Floats:
    """Return columns moved into -8..8 by their ranges; raises `DataError` for a value outside."""
    for name, column, least, most in zip(names, x.T, low, high, strict=True):
        if outside := int(np.count_nonzero((column < least) | (column > most))):
            raise DataError(
                f"{outside} of {len(column)} patients have {name} outside its range {least:g} to {most:g}; correct them, or "
                "agree with the other parties on another range"
            )
    ends = np.array([low, high], np.float64)
    return np.asarray(_HALF * (2 * x - ends.sum(axis=0)) / (ends[1] - ends[0]))


def _filled(x: SharedArray, valid: SharedArray, n: SharedArray) -> SharedArray:
    """Return columns in which rows of padding have the mean of the others."""
    there = valid.reshape(-1, 1)
    x = x * there
    mean = (x.sum(axis=0) / n).astype(x.dtype)
    return x + mean * ~there


LINEAR_REGRESSION: Final = LinearRegressionPattern()
LOGISTIC_REGRESSION: Final = LogisticRegressionPattern()
POISSON_REGRESSION: Final = PoissonRegressionPattern()
