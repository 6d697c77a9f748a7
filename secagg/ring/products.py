"""Exact products of matrices modulo 2**64, through float64 BLAS where that is faster."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from secagg.errors import ShapeError
from secagg.ring.arrays import U64

# Elements split at a time: 256 KiB of uint64, so that the passes over them stay in the second-level cache.
_CHUNK = 1 << 15
# Longest inner dimension of one pass of float64 products; see `matmul` for the proof.
_MAX_K = 512
_TILE = 1024
# With fewer rows or columns than these, and from so many elements on, vectors are multiplied one by one.
_THIN = 32
_LARGE = 1 << 14

# Adding 2**21 + 2**43 + 2**63 to x and cutting the sum into digits of 22, 22 and 20 bits gives digits
# that are too large by 2**21, 2**21 and 2**19: balanced digits of x once that is taken off.
_BALANCE = np.uint64((1 << 21) + (1 << 43) + (1 << 63))
_LOW22 = np.uint64((1 << 22) - 1)
# A float64 with these upper bits and the integer u < 2**52 below them has the value 2**52 + u.
_FLOAT_2_52 = np.uint64(0x433 << 52)


def _split(x: U64, limbs: tuple[NDArray[np.float64], ...]) -> None:
    """Write float64 limbs x0, x1, x2 and x0 + x1: x = x0 + 2**22 x1 + 2**44 x2 modulo 2**64.

    x0 and x1 lie in [-2**21, 2**21), x2 in [-2**19, 2**19).
    """
    x0, x1, x2, x01 = limbs
    step = max(1, _CHUNK // max(1, x.shape[1]))
    rest = np.empty((min(step, x.shape[0]), x.shape[1]), np.uint64)
    digit = np.empty_like(rest)
    for i in range(0, x.shape[0], step):
        rows = slice(i, i + step)
        t, d = rest[: x[rows].shape[0]], digit[: x[rows].shape[0]]
        np.add(x[rows], _BALANCE, out=t)
        np.bitwise_and(t, _LOW22, out=d)
        d |= _FLOAT_2_52
        np.subtract(d.view(np.float64), 2.0**52 + 2.0**21, out=x0[rows])
        t >>= np.uint64(22)
        np.bitwise_and(t, _LOW22, out=d)
        d |= _FLOAT_2_52
        np.subtract(d.view(np.float64), 2.0**52 + 2.0**21, out=x1[rows])
        t >>= np.uint64(22)
        t |= _FLOAT_2_52
        np.subtract(t.view(np.float64), 2.0**52 + 2.0**19, out=x2[rows])
        np.add(x0[rows], x1[rows], out=x01[rows])


def _add_product(a: U64, b: U64, total: U64) -> None:
    """Add a @ b modulo 2**64 to the total by float64 products of limbs; no dimension is zero."""
    # Each operand is split into balanced limbs, x = x0 + 2**22 x1 + 2**44 x2. Terms from 2**66 up are
    # multiples of 2**64, which leaves
    #   a b = a0 b0 + 2**22 (a0 b1 + a1 b0) + 2**44 (a1 b1 + a0 b2 + a2 b0)  modulo 2**64,
    #   a0 b1 + a1 b0 = (a0 + a1)(b0 + b1) - a0 b0 - a1 b1    [Karatsuba]: five products, not six.
    # With |x0|, |x1| <= 2**21 and |x2| <= 2**19, one term is at most 2**42 in a0 b0 and a1 b1, 2**44 in
    # (a0 + a1)(b0 + b1) and 2 * 2**40 in a0 b2 + a2 b0. Over at most 2**9 terms every sum, and every
    # partial sum in whatever order (with or without fused multiply-add) BLAS takes it, is an integer of
    # at most 2**53 in absolute value. float64 holds each of these exactly, so nothing is ever rounded.
    m, k = a.shape
    n = b.shape[1]
    step = _even_step(k, _MAX_K)
    left, right = np.empty(4 * m * step), np.empty(4 * n * step)
    product, part = np.empty((m, n)), np.empty((m, n), np.uint64)
    shift = np.uint64(22)

    def multiply(p: NDArray[np.float64], q: NDArray[np.float64]) -> None:
        np.matmul(p, q, out=product)
        np.copyto(part.view(np.int64), product, casting="unsafe")

    for start in range(0, k, step):
        width = min(step, k - start)
        # a2, a0 lie side by side, b0 above b2: one product gives a2 b0 + a0 b2.
        x = left[: 4 * m * width].reshape(m, 4, width)
        y = right[: 4 * n * width].reshape(4, width, n)
        a1, a01, a2, a0 = (x[:, i] for i in range(4))
        b1, b01, b0, b2 = y
        _split(a[:, start : start + width], (a0, a1, a2, a01))
        _split(b[start : start + width], (b0, b1, b2, b01))
        # Shifts and sums wrap modulo 2**64, as is meant.
        multiply(a0, b0)
        total += part
        part <<= shift
        total -= part
        multiply(a1, b1)
        part <<= shift
        total -= part
        part <<= shift
        total += part
        multiply(a01, b01)
        part <<= shift
        total += part
        multiply(x[:, 2:].reshape(m, 2 * width), y[2:].reshape(2 * width, n))
        part <<= np.uint64(44)
        total += part


def _by_vectors(a: U64, b: U64) -> U64:
    """Return a @ b modulo 2**64, a vector of the thinner operand at a time; einsum streams the other one as `@` does not."""
    if b.ndim == 1:
        return np.asarray(np.einsum("j,j->" if a.ndim == 1 else "ij,j->i", a, b))
    if a.ndim == 1:
        return np.asarray(np.einsum("j,jk->k", a, b))
    if a.shape[0] < b.shape[1]:
        return _by_vectors(b.T, a.T).T
    out = np.empty((b.shape[1], a.shape[0]), np.uint64)
    for vector, row in zip(np.ascontiguousarray(b.T), out, strict=True):
        np.einsum("ij,j->i", a, vector, out=row)
    return out.T


def _even_step(length: int, most: int) -> int:
    """Return the least step that covers the length in as few steps as steps of `most` do."""
    return -(-length // -(-length // most))


def matmul(a: U64, b: U64) -> U64:
    """Return a @ b modulo 2**64, exactly, through float64 BLAS where that is faster.

    Args:
      a: uint64, shape (m, k) or (k,).
      b: uint64, shape (k, n) or (k,).

    Returns uint64 of the shape that numpy's `@` gives.

    Raises:
      ShapeError: another dtype, more than two dimensions, or inner dimensions that differ.
    """
    if a.dtype != np.uint64 or b.dtype != np.uint64:
        raise ShapeError(f"matmul takes uint64 arrays, not {a.dtype} and {b.dtype}")
    if a.ndim not in (1, 2) or b.ndim not in (1, 2) or a.shape[-1] != b.shape[0]:
        raise ShapeError(f"matmul of shapes {a.shape} and {b.shape} is not defined")
    rows = a.shape[0] if a.ndim == 2 else 1
    columns = b.shape[1] if b.ndim == 2 else 1
    # Splitting costs as much as some 25 integer products an element: thin and small operands do without.
    if min(rows, columns) < _THIN and max(a.size, b.size) >= _LARGE:
        return _by_vectors(a, b)
    if min(rows, columns) < 24 or rows * columns * a.shape[-1] < 1 << 18:
        small: U64 = np.asarray(a @ b)
        return small
    # Tiles bound the working memory to 100 MB; splitting anew for each costs a twentieth of its product.
    out = np.zeros((rows, columns), np.uint64)
    high, wide = _even_step(rows, _TILE), _even_step(columns, _TILE)
    for i in range(0, rows, high):
        for j in range(0, columns, wide):
            _add_product(a[i : i + high], b[:, j : j + wide], out[i : i + high, j : j + wide])
    return out
