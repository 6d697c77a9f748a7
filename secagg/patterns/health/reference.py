"""Statistics of pooled tables in the clear: what patterns' results are compared with.

Formulas are those of lifelines, statsmodels and scipy, and tests hold them to these packages. numpy alone is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from secagg.errors import DataError

Floats = NDArray[np.float64]


def least_squares(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return coefficients of least squares, the intercept's first, and their standard errors."""
    design = np.column_stack([np.ones(len(x)), x])
    b = np.linalg.lstsq(design, y, rcond=None)[0]
    residual = ((y - design @ b) ** 2).sum() / (len(y) - design.shape[1])
    errors = np.sqrt(residual * np.diag(np.linalg.pinv(design.T @ design)))
    return np.asarray(b, np.float64), np.asarray(errors, np.float64)


def generalised(
    x: Floats, y: Floats, mean: Callable[[Floats], Floats], variance: Callable[[Floats], Floats]
) -> tuple[Floats, Floats]:
    """Return what a generalised linear model with a canonical link has at its optimum, the intercept first, and errors.

    Raises:
      DataError: the method does not converge, as there is no optimum.
    """
    design = np.column_stack([np.ones(len(x)), x])
    b = np.zeros(design.shape[1])
    for _ in range(100):
        at = mean(design @ b)
        matrix = design.T @ (variance(at)[:, None] * design)
        step = np.clip(np.linalg.pinv(matrix) @ (design.T @ (y - at)), -1, 1)
        b = b + step
        if np.abs(step).max() < 1e-12:
            return b, np.sqrt(np.diag(np.linalg.pinv(matrix)))
    raise DataError("the pooled regression does not converge; one covariate may separate the outcomes")


def kaplan_meier(time: Any, event: Any, last: int) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Return the curve, Greenwood's sum and the numbers at risk at times 0 to `last`."""
    d = np.bincount(time[event], minlength=last + 1)
    n = len(time) - np.concatenate([[0], np.cumsum(np.bincount(time, minlength=last + 1))[:-1]])
    hazard = np.divide(d, n, out=np.zeros(last + 1), where=n > 0)
    left = n * (n - d)
    terms = np.divide(d, left, out=np.zeros(last + 1), where=left > 0)
    return np.cumprod(1 - hazard), np.cumsum(terms), n


def logrank(time: Any, event: Any, group: Any, groups: int) -> tuple[float, int]:
    """Return the log-rank statistic of groups 0 to `groups` - 1, and its degrees of freedom."""
    u, v = np.zeros(groups), np.zeros((groups, groups))
    for t in np.unique(time[event]):
        n = np.bincount(group[time >= t], minlength=groups)
        d = np.bincount(group[(time == t) & event], minlength=groups)
        share, all_d, all_n = n / n.sum(), d.sum(), n.sum()
        u += d - all_d * share
        if all_n > 1:
            v += all_d * (all_n - all_d) / (all_n - 1) * (np.diag(share) - np.outer(share, share))
    u, v = u[:-1], v[:-1, :-1]
    return float(u @ np.linalg.pinv(v, rcond=1e-10) @ u), int(np.linalg.matrix_rank(v, tol=1e-10))


def cox(
    x: Any, time: Any, event: Any, ties: Literal["efron", "breslow"] = "efron", iterations: int = 60
) -> tuple[Floats, Floats]:
    """Return the coefficients of largest partial likelihood, and their standard errors.

    Raises:
      DataError: Newton's method does not come to an end, as where a covariate separates those with the event.
    """
    x = np.asarray(x, np.float64)
    centre, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    z = (x - centre) / scale
    order = np.lexsort((~event, time))
    z, when, had = z[order], time[order], event[order]
    b = np.zeros(z.shape[1])
    for _ in range(iterations):
        gradient, matrix = _derivatives(z, when, had, b, ties)
        step = np.linalg.pinv(matrix) @ gradient
        # No score changes by more than 2 at once, so that a patient far from all others does not throw it.
        step *= min(1.0, 2 / max(np.abs(z @ step).max(), 1e-300))
        b += step
        if np.abs(step).max() < 1e-11:
            break
    else:
        raise DataError("the partial likelihood has no maximum: a covariate separates those with the event")
    _, matrix = _derivatives(z, when, had, b, ties)
    return b / scale, np.sqrt(np.diag(np.linalg.pinv(matrix))) / scale


def _derivatives(z: Floats, time: Any, event: Any, b: Floats, ties: str) -> tuple[Floats, Floats]:
    w = np.exp(z @ b)
    gradient, matrix = np.zeros(len(b)), np.zeros((len(b), len(b)))
    columns = np.column_stack([w, w[:, None] * z])
    at_risk = np.cumsum(columns[::-1], axis=0)[::-1]
    outer = w[:, None, None] * z[:, :, None] * z[:, None, :]
    outer_at_risk = np.cumsum(outer[::-1], axis=0)[::-1]
    for t in np.unique(time[event]):
        first = int(np.searchsorted(time, t))
        here = np.flatnonzero((time == t) & event)
        gradient += z[here].sum(axis=0)
        for i in range(len(here)):
            part = i / len(here) if ties == "efron" else 0.0
            sums = at_risk[first] - part * columns[here].sum(axis=0)
            second = (outer_at_risk[first] - part * outer[here].sum(axis=0)) / sums[0]
            mean = sums[1:] / sums[0]
            gradient -= mean
            matrix += second - np.outer(mean, mean)
    return gradient, matrix
