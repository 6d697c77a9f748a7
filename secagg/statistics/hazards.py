"""Cox's proportional hazards model on shared rows, with Breslow's or Efron's treatment of ties [Cox72] [Efr77].

Rows of all hospitals are sorted once, by time and events first; nobody learns the order. Columns are standardised jointly.
With weights w = exp(Z b), and at each distinct time of an event: d events, S the sum of w over those at risk, D that over
those with the event, and phi_l = S - l / d D for l = 0 .. d - 1 (Efron), or S for each (Breslow),

  gradient = Z^T (e - w (H - e K)),  H = sum of 1 / phi_l over the events up to a row's time,
                                     K = sum of l / d / phi_l over the events at its own time, 0 for Breslow
  matrix   = Z^T diag(w (H - e K)) Z - sum over events of a a^T,  a = (sum of z w at risk - l / d that of events) / phi_l

Sums over those at risk are sums over all rows from the first of a time on, and free. What stands at the first or the last
row of a time is brought to its other rows by permutations in secret, in a number of rounds that does not grow with n. The
gradient is one product with the rows, and no product of columns: so its rounding is that of the residuals e - w (H - e K).

A step of Newton's method is cut to 2 for each standardised coefficient. All iterations are done, for nobody may see when
the method has converged. `converged_` tells: the last step is below 1e-5, no score was clipped at the end, and no covariate
that had moved came to count as one that others determine. Where the likelihood has no maximum, it is not set.

Range: covariates within 2**13 of zero, with a standard deviation of 2**-6 or more; standardised scores Z b within 10 of
zero, and weights of the events of one time that add up to less than 2**18; at most 2**17 rows, of which at least one in
500 is an event. Larger scores are clipped, and then `converged_` is not set.
Error: on gbsg2, rossi, whas500, aids and flchain, coefficients, standard errors and Wald's p-values are within 1e-6 of
statsmodels'. An error of a coefficient moves the p-value by 0.8 of it, in standard errors. So weights and covariates have
24 fractional bits, in two parts where a product would not fit the ring, and sums of 1 / phi have 42. Coefficients are
rounded to 2**-30, which shows in the p-value of one whose standard error is below 0.001.

Who learns what: nobody anything before the caller opens something. Open `coef_` and `std_errors_`: intermediate
coefficients, which others that fit this model across sites show at each iteration, stay shared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from secagg.errors import ShapeError, UsageError
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import BoolType, FixedType, int64
from secagg.mpc.arrays.elementary import exp_in, inverse_in, read_as, rsqrt, sqrt, truncated
from secagg.mpc.arrays.functions import clip
from secagg.mpc.arrays.handle import as_reals, number, rescaled
from secagg.mpc.arrays.linalg import REFINEMENT, Factors, factor, halved, matrix_product, product
from secagg.mpc.arrays.moves import concat, stack
from secagg.mpc.arrays.ordering import sort_by
from secagg.mpc.arrays.reductions import cumulative_sum
from secagg.mpc.tables.runs import carried, carried_back
from secagg.statistics.ratios import FINEST, INVERSE_BITS, inverse, shortened, times

MOST_ROWS: Final = 1 << 17
_COARSE: Final = FixedType(16)  # of squares, which are up to 2**28
_FINE: Final = FixedType(20)
_LONGEST_STEP: Final = 2.0
_CONVERGED: Final = 1e-5  # of the last step: the next one is its square, but for rounding
_LARGEST_SCORE: Final = 10.0
_SCORE: Final = FixedType(28)
_LEAST_WEIGHT: Final = -15  # as a power of two; e**-10 is larger
_RING: Final = 62  # bits that a product may have
# Fractional bits of 1 / phi. Its sums are below 2**19: with n rows left, phi is at least n e**-10.
_INVERSES: Final = 42
_FEW: Final = 27  # of 1 / phi in a product with l / d, of 20
_OF_MEANS: Final = FixedType(30)  # of 1 / phi in a mean, which is below 2**9

Ties: TypeAlias = Literal["efron", "breslow"]
Hazards: TypeAlias = tuple[SharedArray, SharedArray, SharedArray]


@dataclass(frozen=True, eq=False)
class Cox:
    """A fitted model, shared.

    Attributes:
      coef_: logarithms of hazard ratios, in the covariates' units, in fixed(30).
      std_errors_: their standard errors, in fixed(30), by the inverse of the information matrix.
      last_step_: the largest change of a standardised coefficient in the last iteration, in fixed(30).
      rank_: how many covariates count, in int64; one that others determine gets coefficient 0.
      converged_: whether the coefficients are those of largest partial likelihood; a bool of shape ().
    """

    coef_: SharedArray
    std_errors_: SharedArray
    last_step_: SharedArray
    rank_: SharedArray
    converged_: SharedArray


def cox(
    x: SharedArray,
    time: SharedArray,
    event: SharedArray,
    *,
    ties: Ties = "efron",
    iterations: int = 8,
    valid: SharedArray | None = None,
) -> Cox:
    """Return the model of largest partial likelihood.

    Args:
      x: covariates (rows, p), fixed-point with 8 to 24 fractional bits.
      time: int64 (rows,), of any unit; `event`: bools (rows,).
      ties: "efron" as R's coxph and lifelines have it, or "breslow".
      iterations: of Newton's method, from 0 on; five to eight do.
      valid: bools (rows,) that are set for rows that count; None where all do.
    """
    if ties not in ("efron", "breslow"):
        raise UsageError(f'expected ties "efron" or "breslow", got {ties!r}')
    if not isinstance(iterations, int) or isinstance(iterations, bool) or iterations < 1:
        raise UsageError(f"expected at least one iteration, got {iterations!r}")
    x = _checked(x, time, event, valid)
    if valid is not None:
        event = event & valid
    z, factors_of = _standardised(x, valid)
    rows = [time, event, *([] if valid is None else [valid]), *(z[:, j] for j in range(z.shape[1]))]
    # Events first: of one time, they are neighbours.
    ordered = sort_by([time, ~event], rows)
    time, event = ordered[:2]
    valid = None if valid is None else ordered[2]
    z = stack(ordered[2 if valid is None else 3 :], axis=1)
    return _Fit(z, time, event, valid, ties).newton(iterations, factors_of)


def _checked(x: SharedArray, time: SharedArray, event: SharedArray, valid: SharedArray | None) -> SharedArray:
    for array in (x, time, event, *([] if valid is None else [valid])):
        if not isinstance(array, SharedArray):
            raise UsageError(f"expected shared arrays, got {type(array).__name__}")
    if x.ndim != 2 or not x.shape[1] or not x.shape[1] + 1 < x.shape[0] <= MOST_ROWS:
        raise ShapeError(
            f"expected covariates of shape (rows, columns), with more rows than columns and at most {MOST_ROWS}, "
            f"got {x!r}"
        )
    x, n = as_reals(x), x.shape[0]
    if number(x).bits != 64 or not 8 <= number(x).frac_bits <= REFINEMENT.frac_bits:
        raise UsageError(
            f"expected covariates of 64 bits with 8 to {REFINEMENT.frac_bits} fractional bits, got {x!r}"
        )
    if time.shape != (n,) or time.dtype != int64:
        raise ShapeError(f"expected times of shape ({n},) and int64, got {time!r}")
    for bits in (event, *([] if valid is None else [valid])):
        if bits.shape != (n,) or not isinstance(bits.dtype, BoolType):
            raise ShapeError(f"expected bools of shape ({n},), got {bits!r}")
    return rescaled(x, REFINEMENT)


def _halvings(n: int) -> int:
    return n.bit_length() - 1


def _standardised(x: SharedArray, valid: SharedArray | None) -> tuple[SharedArray, SharedArray]:
    """Return columns around 0 whose squares add up to 2**k, in fixed(24), 0 in rows that do not count; and their factors.

    Neither the centre nor the factor need be exact: the model is expressed in x with the very numbers that made z.
    """
    n = x.shape[0]
    k = _halvings(n)
    if valid is None:
        centre = halved(x.sum(axis=0), k) * (2.0**k / n)
    else:
        counts = valid.astype(int64).reshape(-1, 1)
        x = x * counts
        # 2**k / count is at least 1.
        more = times(inverse(counts.sum()), counts.engine.public(np.int64(1 << k)), INVERSE_BITS - 20, _FINE)
        centre = product(halved(x.sum(axis=0), k), more, REFINEMENT)
    distance = x - centre
    if valid is not None:
        distance = distance * counts
    coarse = truncated(distance, _COARSE)
    squares = halved(product(coarse, coarse, _COARSE).sum(axis=0), k)
    scale = rsqrt(rescaled(squares, _FINE))
    return product(distance, scale, REFINEMENT), scale


class _Times:
    """Where a time begins and ends among rows in order, and columns brought from there to all rows of the time."""

    def __init__(self, time: SharedArray) -> None:
        one = time.engine.public(np.ones(1, bool))
        differs = time[1:] != time[:-1]
        self._begins, self._ends = concat([one, differs]), concat([differs, one])
        self.begins = self._begins.astype(int64)

    def at_begin(self, columns: SharedArray) -> SharedArray:
        """Return for each row what the columns hold in the first row of its time."""
        return stack(carried(self._begins, _columns(columns)), axis=1)

    def at_end(self, columns: SharedArray) -> SharedArray:
        """Return for each row what the columns hold in the last row of its time."""
        return stack(carried_back(self._ends, _columns(columns)), axis=1)


def _columns(x: SharedArray) -> list[SharedArray]:
    return [x[:, j] for j in range(x.shape[1])]


@dataclass(frozen=True, eq=False)
class _Parts:
    """Numbers in fixed(24), and split into fixed(20) and the rest, so that the product of each with large numbers fits."""

    whole: SharedArray
    coarse: SharedArray
    rest: SharedArray

    @classmethod
    def of(cls, whole: SharedArray) -> _Parts:
        coarse = truncated(whole, _FINE)
        return cls(whole, coarse, whole - coarse)


class _Fit:
    """One fit; letters as in the module's docstring."""

    def __init__(
        self, z: SharedArray, time: SharedArray, event: SharedArray, valid: SharedArray | None, ties: Ties
    ) -> None:
        self.z, self.k = _Parts.of(z), _halvings(z.shape[0])
        self.event = event.astype(int64)
        self.valid = None if valid is None else valid.astype(int64)
        self.of = _Times(time)
        # w H is at most the number of events. Sums of 1 / phi have more bits than w H leaves for H, so that the rounding of
        # each does not add up.
        self.fine = FixedType(min(30, _RING - _FINE.frac_bits - z.shape[0].bit_length()))
        counted = cumulative_sum(self.event)
        before = counted - self.event
        both = stack([before, counted], axis=1)
        begin, end = self.of.at_begin(both[:, :1])[:, 0], self.of.at_end(both[:, 1:])[:, 0]
        self.d = end - begin
        self.part: SharedArray | None = None
        if ties == "efron":
            self.part = times(before - begin, inverse(self.d), INVERSE_BITS - _FINE.frac_bits, _FINE)

    def newton(self, iterations: int, scale: SharedArray) -> Cox:
        b: SharedArray = scale.engine.public(np.zeros(scale.shape[0]), dtype=REFINEMENT)
        step, factors, clipped = b, None, None
        for left in range(iterations - 1, -1, -1):
            # Of the last step, 2**6 times as much is solved for, so that b has six bits more.
            finer = 0 if left else FINEST.frac_bits - REFINEMENT.frac_bits
            gradient, matrix, clipped = self._derivatives(b, self.k - finer)
            factors = factor(matrix)
            step = factors.solve(gradient)
            step = read_as(step, FINEST) if finer else step
            step = clip(step, -_LONGEST_STEP, _LONGEST_STEP)
            b = b + step
        if factors is None or clipped is None:
            raise UsageError("expected at least one iteration")
        deviations, last_step = _deviations(factors), abs(step).max()
        errors = product(deviations, scale, FINEST) * (2.0 ** (-self.k / 2))
        given_up = ((deviations == 0) & (b != 0)).any()
        converged = (last_step < _CONVERGED) & ~clipped.any() & ~given_up
        return Cox(product(b, scale, FINEST), errors, last_step, factors.rank, converged)

    def _derivatives(self, b: SharedArray, halvings: int) -> tuple[SharedArray, SharedArray, SharedArray]:
        """Return at b the gradient divided by 2**halvings, the information matrix by 2**k, and which scores were clipped.

        Gradient and matrix are in fixed(24).
        """
        z = self.z
        whole_score = matrix_product(z.whole, b, _SCORE)
        score = clip(whole_score, -_LARGEST_SCORE, _LARGEST_SCORE)
        weights = exp_in(score, _LEAST_WEIGHT, REFINEMENT)
        w = _Parts.of(weights if self.valid is None else weights * self.valid)
        weighted = product(w.coarse.reshape(-1, 1), z.coarse, _FINE)
        hazard, means, counts = (self._breslow if self.part is None else self._efron)(w.whole, weighted)
        expected = product(w.coarse, hazard, REFINEMENT) + product(w.rest, hazard, REFINEMENT)
        residuals = self.event - expected
        gradient = matrix_product(z.coarse.T, residuals, REFINEMENT, halvings=halvings) + matrix_product(
            z.rest.T, residuals, REFINEMENT, halvings=halvings
        )
        second = matrix_product(
            z.coarse.T, product(expected.reshape(-1, 1), z.coarse, _FINE), REFINEMENT, halvings=self.k
        )
        of_means = matrix_product((means * counts.reshape(-1, 1)).T, means, REFINEMENT, halvings=self.k)
        return gradient, second - of_means, score != whole_score

    def _hazard(self, summed: SharedArray) -> SharedArray:
        return shortened(summed, _INVERSES - self.fine.frac_bits, self.fine)

    @staticmethod
    def _means(sums: SharedArray, inverses: SharedArray) -> SharedArray:
        few = shortened(inverses, _INVERSES - _OF_MEANS.frac_bits, _OF_MEANS)
        return product(sums, few.reshape(-1, 1), _FINE)

    def _breslow(self, w: SharedArray, weighted: SharedArray) -> Hazards:
        """Return H, means over those at risk, and how often each counts: all events of a time count where it begins."""
        counts = self.of.begins * self.d
        inverses = inverse_in(_from_here_on(w), _INVERSES)
        hazard = self._hazard(cumulative_sum(inverses * counts))
        return hazard, self._means(_from_here_on(weighted), inverses), counts

    def _efron(self, w: SharedArray, weighted: SharedArray) -> Hazards:
        """Return H - e K, means over those at risk less a part of those with the event, and which rows are events."""
        part = self.part
        if part is None:
            raise TypeError("expected parts of events")
        # Weights are read as 2**4 times as large here, so that all columns are of one dtype.
        columns = concat([read_as(w, _FINE).reshape(-1, 1), weighted], axis=1)
        of_events = columns * self.event.reshape(-1, 1)
        until = cumulative_sum(of_events, axis=0)
        at_risk = _from_here_on(columns)
        p = columns.shape[1]
        begin = self.of.at_begin(concat([at_risk, until - of_events], axis=1))
        d = self.of.at_end(until) - begin[:, p:]
        sums = begin[:, :p] - product(part.reshape(-1, 1), d, _FINE)
        inverses = inverse_in(read_as(sums[:, 0], REFINEMENT), _INVERSES) * self.event
        # K is small beside H, so that fewer bits of both factors do.
        few = _INVERSES - _FEW
        of_part = times(part, shortened(inverses, few), _FINE.frac_bits - few)
        increments = stack([inverses, of_part], axis=1)
        summed = cumulative_sum(increments, axis=0)
        end = self.of.at_end(summed)
        before = self.of.at_begin((summed - increments)[:, 1:])[:, 0]
        hazard = self._hazard(end[:, 0] - (end[:, 1] - before) * self.event)
        return hazard, self._means(sums[:, 1:], inverses), self.event


def _from_here_on(x: SharedArray) -> SharedArray:
    return cumulative_sum(x[::-1], axis=0)[::-1]


def _deviations(factors: Factors[SharedArray]) -> SharedArray:
    """Return the roots of the diagonal of a matrix' inverse, in fixed(30); the matrix is of fixed(24)."""
    places = np.arange(factors.scale.shape[0])
    diagonal = factors.scaled_inverse()[places, places]
    # Read as fixed(20), the diagonal is 2**4 times as large: its root has two bits more, and 1 / root two bits less.
    read = read_as(diagonal, _FINE)
    roots, half_inverse = read_as(sqrt(read), FixedType(22)), read_as(rsqrt(read), FixedType(19))
    # A step of Newton's method: the first roots are right to some 2**-21.
    lacking = rescaled(diagonal, FINEST) - product(roots, roots, FINEST)
    roots = rescaled(roots, FINEST) + product(lacking, half_inverse, FINEST)
    # The factor too is that of a matrix 2**4 times as large.
    return product(roots, read_as(factors.scale, FixedType(18)), FINEST)
