"""Operations of the engines that are measured: as a program has them, in plain numpy, and how far apart the two may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from secagg import mpc
from secagg.mpc.arrays.dtypes import fixed, int64

Array = NDArray[Any]

FRAC_BITS: Final = 16
ULP: Final = 2.0**-FRAC_BITS
FIXED: Final = fixed(FRAC_BITS)


def _exact(x: Array, y: Array) -> float:  # noqa: ARG001  # as the other bounds have it
    return 0.0


class Operation(NamedTuple):
    """An operation on two shared arrays of one length.

    Args:
      dtype: of the operands.
      run: on shares.
      plain: on numpy arrays.
      low, high: between which operands are drawn.
      bound: largest error, from the operands.
    """

    dtype: Any
    run: Callable[[Any, Any], Any]
    plain: Callable[[Array, Array], Array]
    low: float
    high: float
    bound: Callable[[Array, Array], float] = _exact

    def operands(self, rng: np.random.Generator, size: int) -> tuple[Array, Array]:
        """Return two made-up operands, which the dtype holds exactly."""
        if self.dtype is bool:
            return rng.integers(0, 2, size).astype(bool), rng.integers(0, 2, size).astype(bool)
        scale = 1 if self.dtype is int64 else 1 << FRAC_BITS
        x, y = rng.integers(int(self.low * scale), int(self.high * scale), (2, size), np.int64)
        return (x, y) if scale == 1 else (x / scale, y / scale)


def _square(x: Any) -> Any:
    side = int(np.sqrt(x.shape[0]))
    return x[: side * side].reshape(side, side)


def _ulps(count: float) -> Callable[[Array, Array], float]:
    return lambda x, y: count * ULP  # noqa: ARG005


OPERATIONS: Final = {
    "add": Operation(int64, lambda x, y: x + y, lambda x, y: x + y, -1e9, 1e9),
    "multiply": Operation(int64, lambda x, y: x * y, lambda x, y: x * y, -1e6, 1e6),
    "multiply_fixed": Operation(FIXED, lambda x, y: x * y, lambda x, y: x * y, -100, 100, _ulps(1)),
    "matmul": Operation(
        FIXED, lambda x, y: _square(x) @ _square(y), lambda x, y: _square(x) @ _square(y), -1, 1, _ulps(1)
    ),
    "less": Operation(int64, lambda x, y: x < y, lambda x, y: x < y, -1e9, 1e9),
    "equal": Operation(int64, lambda x, y: x == y, lambda x, y: x == y, 0, 4),
    "and": Operation(bool, lambda x, y: x & y, lambda x, y: x & y, 0, 1),
    "maximum": Operation(int64, lambda x, _: x.max(), lambda x, _: x.max(), -1e9, 1e9),
    "sort": Operation(int64, lambda x, _: np.sort(x), lambda x, _: np.sort(x), -1e9, 1e9),
    "reciprocal": Operation(
        FIXED,
        lambda x, _: mpc.reciprocal(x),
        lambda x, _: 1 / x,
        1,
        1000,
        lambda x, _: ULP + 2.0**-21 / float(x.min()),
    ),
    "divide": Operation(
        FIXED,
        lambda x, y: x / y,
        lambda x, y: x / y,
        1,
        1000,
        lambda x, y: ULP * (1 + 2.0**-13 * float(x.max())) + 2.0**-21 * float((x / y).max()),
    ),
    "sqrt": Operation(
        FIXED,
        lambda x, _: mpc.sqrt(x),
        lambda x, _: np.sqrt(x),
        0.01,
        1000,
        lambda x, _: ULP + 2.0**-21 * float(np.sqrt(x.max())),
    ),
    "exp": Operation(
        FIXED,
        lambda x, _: mpc.exp(x),
        lambda x, _: np.exp(x),
        -8,
        8,
        lambda x, _: ULP + 2.0**-19 * float(np.exp(x.max())),
    ),
    "log": Operation(FIXED, lambda x, _: mpc.log(x), lambda x, _: np.log(x), 0.01, 1000, _ulps(2)),
    "sigmoid": Operation(
        FIXED, lambda x, _: mpc.sigmoid(x), lambda x, _: 1 / (1 + np.exp(-x)), -8, 8, _ulps(2)
    ),
    "tanh": Operation(FIXED, lambda x, _: mpc.tanh(x), lambda x, _: np.tanh(x), -8, 8, _ulps(4)),
}
