"""Operations that peers and `benchmarks.beside` run alike: their operands and exact results. Needs numpy alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

FRAC_BITS = 16

EXACT: dict[str, Callable[..., Any]] = {
    "mul": lambda x, y: x * y,
    "cmp": lambda x: x > 0,
    "flag": lambda x: x > 0,
    "mm": lambda x, y: x @ y,
    "div": lambda x, y: x / y,
    "exp": np.exp,
    "pade": np.exp,
    "sort": np.sort,
}


def operands(op: str, n: int) -> list[Any]:
    """Return the operands of an operation, which float32 holds exactly.

    Args:
      op: a key of EXACT. `cmp` is x > 0 in any form, `flag` x > 0 as numbers, `pade` the same as `exp`.
      n: elements; rows and columns of the matrices of `mm`.
    """
    if op not in EXACT:
        raise SystemExit(f"unknown operation {op}: expected one of {', '.join(EXACT)}")
    made_up = np.random.default_rng(n)
    shape = (n, n) if op == "mm" else (n,)
    x, y = made_up.standard_normal(shape), made_up.uniform(0.5, 4, shape)
    return [
        np.rint(v * 2**FRAC_BITS) / 2**FRAC_BITS for v in ((x, y) if op in ("mul", "mm", "div") else (x,))
    ]


def largest_error(op: str, n: int, result: Any) -> float:
    """Return how far a result is from the exact one."""
    exact = np.asarray(EXACT[op](*operands(op, n)), np.float64)
    return float(abs(np.asarray(result, np.float64) - exact).max())
