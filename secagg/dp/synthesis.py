"""Synthetic tables from noisy marginals: a graphical model is fitted to them, and rows are drawn from it.

`mbi` fits the model of largest entropy whose marginals are nearest to the noisy ones [MSM19], by mirror descent, and draws
rows by randomised rounding. It sees nothing but what was released with noise. So the rows are as private as that, whatever
it does. What it draws is random, but no secret.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from secagg.errors import PlanError, ShapeError, UsageError

__all__ = ["synthesize"]

_MOST_MEGABYTES: Final = 256.0


def synthesize(
    axes: Mapping[str, Sequence[str]],
    marginals: Mapping[tuple[str, ...], ArrayLike],
    *,
    noise_std: float,
    rows: int | None = None,
    seed: int = 0,
    iterations: int = 1000,
) -> dict[str, list[str]]:
    """Return a synthetic table, a column for each variable.

    Args:
      axes: the variables with their values.
      marginals: noisy counts by set of variables, each of the shape that their numbers of values give.
      noise_std: standard deviation of the noise in each count.
      rows: how many; without it, about as many as the counts tell.
      seed: of drawing rows; the same seed gives the same rows.
      iterations: of the fit.

    Raises:
      UsageError: `mbi` is not installed, no marginals, or a number out of range.
      ShapeError: counts of another shape than their variables have, or that are not finite.
      PlanError: marginals whose model would take more than 256 MB.
    """
    if not marginals or not 0 < noise_std < math.inf or iterations < 1 or (rows is not None and rows < 1):
        raise UsageError(
            "expected marginals, a positive noise_std, and at least one row and iteration, got "
            f"{len(marginals)} marginals, {noise_std}, {rows} and {iterations}"
        )
    arrays = {names: _array(axes, names, counts) for names, counts in marginals.items()}
    mbi, enable_x64 = _mbi()
    domain = mbi.Domain(list(axes), [len(values) for values in axes.values()])
    size = mbi.junction_tree.hypothetical_model_size(domain, list(arrays))
    if size > _MOST_MEGABYTES:
        raise PlanError(
            f"a model of these marginals takes {size:.3g} MB, and at most {_MOST_MEGABYTES:g} are allowed; measure "
            "marginals that overlap less"
        )
    measured = [mbi.LinearMeasurement(array.reshape(-1), names, noise_std) for names, array in arrays.items()]
    state = np.random.get_state()  # noqa: NPY002  # mbi draws from numpy's global generator, of data that are public
    try:
        with enable_x64(True):
            model = mbi.estimation.MirrorDescent().estimate(domain, measured, iters=iterations)
            np.random.seed(seed)  # noqa: NPY002
            drawn = model.synthetic_data(rows=rows).to_dict()
    finally:
        np.random.set_state(state)  # noqa: NPY002
    return {
        name: np.asarray(values, object)[np.asarray(drawn[name])].tolist() for name, values in axes.items()
    }


def _array(axes: Mapping[str, Sequence[str]], names: Sequence[str], counts: ArrayLike) -> Any:
    array = np.asarray(counts, np.float64)
    strange = [name for name in names if name not in axes]
    if strange or not names:
        raise UsageError(f"expected sets of {', '.join(axes)}, got {', '.join(names)}")
    shape = tuple(len(axes[name]) for name in names)
    if array.shape != shape or not np.isfinite(array).all():
        raise ShapeError(f"{', '.join(names)}: expected finite counts of shape {shape}, got {array.shape}")
    return array


def _mbi() -> tuple[Any, Any]:
    """Return the package, and what switches 64 bits on while it computes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of 32 bits, which are not used, and of a cache
        try:
            import jax
            import mbi
        except ImportError:
            raise UsageError('synthetic tables need mbi: pip install "secagg[synthetic]"') from None
    return mbi, jax.enable_x64
