"""Cholesky factors, solutions and inverses of small symmetric positive definite systems on shared arrays.

a is a shared matrix (p, p), taken to be symmetric; b is shared, of shape (p,) or (p, m). Integers become fixed(16).

*Scaling.* d_i is 1 / sqrt(a_ii), rounded. c_ij = d_i a_ij d_j has ones on its diagonal, up to that rounding. The system
that is solved is c z = d b, and x = d z. So what d lacks in precision is no error.

*Elimination* [Hig02, algorithm 10.2] works on [c | I], a pivot at a time. Row k of [L^T | L^-1] is what remains of row k
of [c | I], times 1 / sqrt(pivot). What remains is one matrix product, truncated once, in 20 fractional bits.

*Refinement* [Hig02, chapter 12]: with m = L^-T L^-1, z = m d b is replaced twice by z + m (d b - c z), in 24 fractional
bits. The precision of the elimination decides how fast errors fall, and not how far.

A pivot is the share of a variable that those before it do not determine. One below 2**-12 counts as 0, and so does its
variable: the result is that of the system without it. `Factors.rank` counts the others.

  arguments  fixed(f) of 64 bits; a_ii from 2**(14 - f) to 2**(32 - f); kappa, the condition number of c, up to 2**11;
             with h = 2**(10 - f / 2), |b_i| / sqrt(a_ii) and |x_i| sqrt(a_ii) below 2**12 h; the inverse below 2**(f - 5)
  error      of z_i = x_i sqrt(a_ii): 2**-22 kappa (h + max |z|), and one ulp of x. Of the inverse's entries times
             sqrt(a_ii a_jj), z_ij: 2**-21 kappa (1 + max |z|), and one ulp of the inverse

Outside, results are wrong, or those of fewer variables; debug mode names what overflows, and a matrix that is not
symmetric positive definite. Rounds: p times those of `rsqrt`
and of two products, and those of 9 products.

Who learns what: nobody anything, nor which variable counts as 0. These are programs on the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic

import numpy as np

from secagg.errors import ShapeError, UsageError
from secagg.mpc.arrays.arithmetic import add, astype, matmul_shape, subtract, times_integers
from secagg.mpc.arrays.arithmetic import product as ring_product
from secagg.mpc.arrays.comparison import greater
from secagg.mpc.arrays.dtypes import FixedType
from secagg.mpc.arrays.elementary import read_as, rsqrt, truncated
from secagg.mpc.arrays.graph import Local, Node
from secagg.mpc.arrays.handle import H, as_numbers, as_reals, broadcast_shape, is_shared, number, rescaled
from secagg.mpc.arrays.kernels import MATMUL, MULTIPLY, TRUNCATE
from secagg.mpc.arrays.moves import concat, expand_dims, index, permute_dims, reshape, stack
from secagg.mpc.arrays.reductions import sum as total
from secagg.mpc.groups import Array

ELIMINATION: Final = FixedType(20)
REFINEMENT: Final = FixedType(24)
LEAST_PIVOT: Final = 2.0**-12
_BETWEEN: Final = FixedType(30)
_REFINED: Final = 2  # times


@dataclass(frozen=True, eq=False)
class Factors(Generic[H]):
    """What elimination makes of a matrix; many systems are solved with it.

    Attributes:
      dtype: of the matrix, of right-hand sides and of results.
      scale: d, in fixed(20), of the matrix read as one of fixed(20): 2**(f - 20) a.
      scaled: c, in fixed(24).
      lower: the Cholesky factor L of c, in fixed(20).
      inverse_lower: the inverse of L, in fixed(20).
      rank: how many pivots do not count as 0, in int64.
    """

    dtype: FixedType
    scale: H
    scaled: H
    lower: H
    inverse_lower: H
    rank: H

    def solve(self, b: H) -> H:
        """Return x with a x = b, in the dtype of a."""
        if b.ndim not in (1, 2) or b.shape[0] != self.scale.shape[0]:
            raise ShapeError(f"expected a right-hand side of {self.scale.shape[0]} rows, got {b!r}")
        d = self.scale if b.ndim == 1 else reshape(self.scale, (-1, 1))
        wanted = product(d, read_as(astype(as_reals(b), self.dtype), ELIMINATION), REFINEMENT)
        return product(d, self._refined(wanted), self.dtype)

    def inverse(self) -> H:
        """Return the inverse of a, in its dtype."""
        d, f = self.scale, self.dtype.frac_bits
        rows = product(reshape(d, (-1, 1)), self.scaled_inverse(), FixedType(27))
        # a's inverse is 2**(f - 20) times that of what was read, which has 47 fractional bits.
        return _multiplied(MULTIPLY, rows, d, broadcast_shape(rows.shape, d.shape), self.dtype, 67 - 2 * f)

    def scaled_inverse(self) -> H:
        """Return the inverse of c, in fixed(24)."""
        identity = self.scale.engine.public(np.eye(self.scale.shape[0]), dtype=REFINEMENT)
        return self._refined(identity)

    def _refined(self, wanted: H) -> H:
        m = matrix_product(permute_dims(self.inverse_lower), self.inverse_lower, ELIMINATION)
        z = matrix_product(m, wanted, REFINEMENT)
        for _ in range(_REFINED):
            missing = subtract(wanted, matrix_product(self.scaled, z, REFINEMENT))
            z = add(z, matrix_product(m, missing, REFINEMENT))
        return z


def factor(a: H) -> Factors[H]:
    """Return the factors of a symmetric positive definite matrix."""
    return factor_all([a])[0]


def factor_all(matrices: Sequence[H]) -> list[Factors[H]]:
    """Return the factors of symmetric positive definite matrices of one shape and dtype, in the rounds of one."""
    matrices = [_square(a) for a in matrices]
    dtype, p = number(matrices[0]), matrices[0].shape[0]
    read = read_as(stack(matrices), ELIMINATION)
    d = rsqrt(index(read, (slice(None), np.arange(p), np.arange(p))))
    c = product(product(expand_dims(d, axis=2), read, _BETWEEN), expand_dims(d, axis=1), REFINEMENT)
    eliminated = zip(*_eliminated(truncated(c, ELIMINATION)), strict=True)
    return [
        Factors(dtype, index(d, i), index(c, i), lower, inverse_lower, rank)  # type: ignore[arg-type]  # reals
        for i, (lower, inverse_lower, rank) in enumerate(eliminated)
    ]


def _eliminated(c: H) -> tuple[list[H], list[H], list[H]]:
    """Return L, its inverse and the number of pivots that count, of each matrix of c (m, p, p).

    A window holds columns k to k + p of [L^T | L^-1], of the rows that are done: all others are 0 there.
    """
    m, p = c.shape[:2]
    public: Callable[..., H] = c.engine.public
    windows = [public(np.zeros((0, p + 1)), dtype=ELIMINATION)] * m
    columns: list[H] = []
    counted: list[H] = []
    for k in range(p):
        unit = public(np.eye(1, k + 1, k).repeat(m, axis=0), dtype=ELIMINATION)
        rows = concat([index(c, (slice(None), k, slice(k, None))), unit], axis=1)
        if k:
            done = [matrix_product(index(w, (slice(None), 0)), w, ELIMINATION) for w in windows]
            rows = subtract(rows, stack(done))
        pivots = index(rows, (slice(None), slice(0, 1)))
        counts = as_numbers(greater(pivots, LEAST_PIVOT))
        # The choice runs beside the root, which takes longer.
        rows = product(ring_product(counts, rows, 0), rsqrt(pivots), ELIMINATION)
        before = public(np.zeros((m, k)), dtype=ELIMINATION)
        columns.append(concat([before, index(rows, (slice(None), slice(0, p - k)))], axis=1))
        counted.append(counts)
        zeros = public(np.zeros((k + 1, 1)), dtype=ELIMINATION)
        for i, window in enumerate(windows):
            more = concat([window, index(rows, slice(i, i + 1))])
            windows[i] = concat([index(more, (slice(None), slice(1, None))), zeros], axis=1)
    lower, rank = stack(columns, axis=2), total(concat(counted, axis=1), axis=1)
    return (
        [index(lower, i) for i in range(m)],
        [index(window, (slice(None), slice(0, p))) for window in windows],
        [index(rank, i) for i in range(m)],
    )


def _positive_definite(node: Node, a: Array) -> Array:
    """Refuse, in debug mode, a matrix that is far from symmetric or has a negative eigenvalue."""
    values = a.astype(np.float64)
    little = 2.0**-10 * np.abs(values).max()  # more than the rounding of what the matrix is computed from
    if np.abs(values - values.T).max() > little or np.linalg.eigvalsh(values)[0] < -little:
        raise UsageError(
            f"{node.kernel.name} at {node.line} is not symmetric positive definite: mpc.linalg gives nonsense for it"
        )
    return a


SYSTEM: Final = Local("the matrix of a system", lambda _, call: call.values[0], _positive_definite)


def _system(a: H) -> H:
    a = _square(a)
    return a.derive(SYSTEM, shape=a.shape, dtype=a.dtype)


def cholesky(a: H) -> H:
    """Return the lower triangular L with L L^T = a, in the dtype of a.

    The error of row i is 2**-18 kappa sqrt(a_ii) and two ulp.
    """
    a = _system(a)
    dtype, p = number(a), a.shape[0]
    even = rescaled(a, FixedType(dtype.frac_bits + dtype.frac_bits % 2))
    factors = factor(even)
    diagonal = (np.arange(p), np.arange(p))
    roots = product(index(read_as(even, ELIMINATION), diagonal), factors.scale, _BETWEEN)
    left = add(times_integers(index(factors.scaled, diagonal), np.asarray(-1)), 2)
    roots = product(roots, left, _BETWEEN)  # 1 / d = a d / c is a d (2 - c) for c close to 1
    # That of what was read is 2**(20 - f) / 2 times as large, in 50 fractional bits.
    bits = 50 - dtype.frac_bits - (20 - _frac_bits(even)) // 2
    lower = factors.lower
    return _multiplied(MULTIPLY, reshape(roots, (p, 1)), lower, lower.shape, dtype, bits)  # type: ignore[arg-type]


def solve(a: H, b: H) -> H:
    """Return x with a x = b for a symmetric positive definite a, in the dtype of the two that has more fractional bits."""
    for x in (a, b):
        if not is_shared(x):
            raise UsageError(
                f"solve takes two shared arrays, got {type(x).__name__}; engine.public(values) makes one"
            )
    a, b = _system(a), as_reals(b)
    dtype = max(number(a), number(b), key=lambda d: d.frac_bits)
    return factor(rescaled(a, dtype)).solve(b)


def inv(a: H) -> H:
    """Return the inverse of a symmetric positive definite matrix, in its dtype."""
    return factor(_system(a)).inverse()


def _square(a: H) -> H:
    a = as_reals(a)
    if a.ndim != 2 or a.shape[0] != a.shape[1] or not a.shape[0]:
        raise ShapeError(f"expected a square matrix, got {a!r}")
    if number(a).bits != 64:
        raise UsageError(f"linear systems take 64 bits, got {a!r}; convert it with x.astype(mpc.fixed(16))")
    return a


# Products of fixed-point numbers whose result has the fractional bits that are asked for.


def product(x: H, y: H, dtype: FixedType) -> H:
    """Return x y in another dtype, truncated once."""
    shape = broadcast_shape(x.shape, y.shape)
    return _multiplied(MULTIPLY, x, y, shape, dtype, _frac_bits(x) + _frac_bits(y) - dtype.frac_bits)


def matrix_product(x: H, y: H, dtype: FixedType, *, halvings: int = 0) -> H:
    """Return the matrix product divided by 2**halvings in another dtype, truncated once."""
    bits = _frac_bits(x) + _frac_bits(y) + halvings - dtype.frac_bits
    return _multiplied(MATMUL, x, y, matmul_shape(x.shape, y.shape), dtype, bits)


def _multiplied(kernel: Any, x: H, y: H, shape: tuple[int, ...], dtype: FixedType, bits: int) -> H:
    return x.derive(kernel, y, shape=shape, dtype=dtype, params=(64, bits))


def halved(x: H, times: int) -> H:
    """Return x / 2**times, truncated once."""
    if not times:
        return x
    return x.derive(TRUNCATE, shape=x.shape, dtype=x.dtype, params=(64, times))


def _frac_bits(x: H) -> int:
    return number(x).frac_bits


def _of_any_matrix(name: str) -> Callable[..., Any]:
    def refuse(*_args: Any, **_options: Any) -> Any:
        raise UsageError(
            f"np.linalg.{name} takes any matrix, which nothing here does; mpc.linalg.{name} takes symmetric positive "
            "definite ones alone, such as x.T @ x of columns that are independent, and gives nonsense for others"
        )

    return refuse


NAMES: Final[dict[str, Callable[..., Any]]] = {
    "cholesky": cholesky,
    "inv": _of_any_matrix("inv"),
    "solve": _of_any_matrix("solve"),
}
