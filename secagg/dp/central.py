"""Central differential privacy: sums and histograms by whoever holds all the rows.

The noise is made once. With `min_clients` each row adds a share of it instead, which shows what a joint sum would look like.
Each call spends epsilon and delta: those of several calls on the same people add up.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secagg.dp.accounting import Adjacency, Sensitivity
from secagg.dp.calibration import Budget, Cohort, calibrate
from secagg.dp.clipping import Grid
from secagg.dp.mechanism import Contributor, Report, choose, report
from secagg.errors import ShapeError, UsageError
from secagg.prg import Stream, system_stream

__all__ = ["Released", "histogram", "sum"]

_STEP: Final = 1 << 20  # numbers rounded at a time


@dataclass(frozen=True, slots=True)
class Released:
    """A result with its noise, which may be published.

    Attributes:
      value: float64.
      report: what was spent, the noise's standard deviation, and what is assumed.
    """

    value: NDArray[np.float64]
    report: Report


def sum(  # noqa: A001 - called as dp.sum
    values: ArrayLike,
    *,
    epsilon: float,
    delta: float,
    clip: float,
    adjacency: Adjacency | None = None,
    min_clients: int | None = None,
    colluders: int = 0,
    frac_bits: int | None = None,
    rng: Stream | None = None,
) -> Released:
    """Return the sum of rows, each scaled down to a Euclidean norm of `clip`, with noise.

    A row is what one person contributes: someone with two rows is protected by twice epsilon, not by epsilon. For
    plain numbers the norm is the absolute value. The clip is a public choice; one that is made by looking at
    the data leaks.

    Args:
      values: numbers, shape (rows,) or (rows, length).
      epsilon, delta: the budget of this one sum.
      clip: largest norm of a row.
      adjacency: what a neighbour is. "add-remove", the default for noise made once, hides whether a row is there at all.
        "replace" hides what it is at twice the noise; the number of rows is public. "zero-out", the default for shares,
        hides what it is or that it is not zero.
      min_clients: without it the noise is made once. With it each row adds a share, sized for this many rows.
      colluders: how many of these rows are not counted on for noise.
      frac_bits: rows are rounded to multiples of 2**-frac_bits; without it so finely that it hardly matters, and
        not at all where whole numbers are summed.
      rng: where rounding and noise draw from; from the operating system without one.

    Raises:
      UsageError, ShapeError: bad arguments. RangeError: NaN or infinity.
      PlanError: no noise or no ring of 64 bits is enough.
    """
    rows = np.asarray(values)
    if rows.dtype.kind not in "iuf" or rows.ndim not in (1, 2) or (rows.ndim == 2 and rows.shape[1] == 0):
        raise ShapeError(
            f"expected numbers of shape (rows,) or (rows, length), got {rows.dtype} {rows.shape}"
        )
    matrix = rows[:, None] if rows.ndim == 1 else rows
    length = matrix.shape[1]
    if frac_bits is None and length == 1 and rows.dtype.kind != "f" and 1 <= clip <= 1 << 20:
        frac_bits = 0 if clip == int(clip) else None
    if min_clients is None and colluders:
        raise UsageError(
            "colluders are among the min_clients rows that add shares of noise; give both or neither"
        )
    cohort = Cohort() if min_clients is None else Cohort(len(matrix), min_clients, colluders)
    budget = Budget(epsilon, delta, 1, adjacency or ("add-remove" if min_clients is None else "zero-out"))
    mechanism = choose(
        budget,
        cohort,
        clip=clip,
        length=length,
        frac_bits=frac_bits,
        kind="discrete gaussian" if min_clients is None else "skellam",
    )
    rng = rng or system_stream()
    if min_clients is None:
        # The number of rows may be private, so nothing is planned for it: int64 holds 2^33 rows at any clip.
        total = _total(matrix, mechanism.grid, rng) + mechanism.noise.sampler().draw(length, rng)
        value = mechanism.grid.to_numbers(total)
        spent = report(mechanism.noise, unit=mechanism.grid.unit, clip=clip)
    else:
        contributor, ring = Contributor(mechanism), mechanism.plan.ring
        in_ring = np.zeros(length, ring.dtype)
        for row in matrix:
            in_ring += contributor.contribute(row, rng=rng).values
        value = mechanism.to_numbers(ring.reduce(in_ring))
        spent = mechanism.report()
    return Released(value.reshape(rows.shape[1:]), spent)


def histogram(
    labels: Sequence[Hashable] | NDArray[np.generic],
    categories: Sequence[Hashable],
    *,
    epsilon: float,
    delta: float,
    contributions: int = 1,
    adjacency: Adjacency = "add-remove",
    rng: Stream | None = None,
) -> Released:
    """Return how often each category occurs, with noise; the values are whole and may be negative.

    Labels that are no category count nowhere; how many there are stays private.

    Args:
      labels: one a row.
      categories: distinct, and public: chosen without looking at the labels.
      epsilon, delta: the budget of this one histogram.
      contributions: most rows of one person.
      adjacency: "add-remove" hides whether a person's rows are there; "replace" hides what they are.
      rng: where noise is drawn from; from the operating system without one.

    Raises:
      UsageError: bad arguments.
    """
    if not categories or len(set(categories)) != len(categories):
        raise UsageError(
            f"expected distinct categories, got {len(categories)} of which {len(set(categories))} differ"
        )
    if contributions < 1:
        raise UsageError(f"a person has at most 1 or more rows, not {contributions}")
    budget, k = Budget(epsilon, delta, 1, adjacency), len(categories)
    apart = Sensitivity(contributions, contributions, k)
    if adjacency == "replace":
        # Counts a and b of one person are not negative: |a - b|^2 <= |a|^2 + |b|^2.
        l2 = math.nextafter(math.sqrt(2) * contributions, math.inf)
        apart = Sensitivity(min(2.0 * contributions, l2 * math.sqrt(k)), l2, k)
    noise = calibrate(budget, Cohort(), apart, kind="discrete gaussian")
    place = {category: i for i, category in enumerate(categories)}
    places = [place[label] for label in _hashable(labels) if label in place]
    counts = np.bincount(np.array(places, np.int64), minlength=k).astype(np.int64)
    counts += noise.sampler().draw(k, rng or system_stream())
    return Released(counts.astype(np.float64), report(noise, unit=1.0, clip=float(contributions)))


def _hashable(labels: Sequence[Hashable] | NDArray[np.generic]) -> Sequence[Hashable]:
    if not isinstance(labels, np.ndarray):
        return labels
    if labels.ndim != 1:
        raise ShapeError(f"expected one label a row, got an array of shape {labels.shape}")
    plain: list[Hashable] = labels.tolist()
    return plain


def _total(matrix: NDArray[np.generic], grid: Grid, rng: Stream) -> NDArray[np.int64]:
    total = np.zeros(grid.dimension, np.int64)
    step = max(1, _STEP // grid.dimension)
    for start in range(0, len(matrix), step):
        total += np.sum(grid.to_integers(matrix[start : start + step], rng=rng).values, axis=0)
    return total
