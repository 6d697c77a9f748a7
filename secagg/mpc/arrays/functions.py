"""The array API's functions on shared arrays, beside those of `arithmetic`, `comparison`, `moves` and `reductions`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from secagg.errors import ShapeError, UsageError
from secagg.mpc.arrays.arithmetic import matmul as product_of_matrices
from secagg.mpc.arrays.comparison import maximum, minimum
from secagg.mpc.arrays.handle import H, Public, check_axis, is_shared, public_values
from secagg.mpc.arrays.moves import reshape, stack
from secagg.mpc.arrays.reductions import sum as total


def clip(x: H, min: Public | None = None, max: Public | None = None) -> H:  # noqa: A002  # numpy's names
    """Return the elements moved into [min, max], of which one may be missing."""
    if min is None and max is None:
        raise UsageError("clip takes min, max or both")
    if min is not None:
        x = maximum(x, min)
    return x if max is None else minimum(x, max)


def matmul(x: Any, y: Any) -> Any:
    """Return the matrix product; of more than two dimensions, the products of the last two."""
    a, b = (v if is_shared(v) else public_values(v) for v in (x, y))
    outer = a.shape[:-2] or b.shape[:-2]
    if not outer:
        return product_of_matrices(a, b)
    if min(len(a.shape), len(b.shape)) < 2 or any(v.shape[:-2] not in (outer, ()) for v in (a, b)):
        raise ShapeError(f"matmul of shapes {a.shape} and {b.shape} is not defined here")
    left, right = ([v] if len(v.shape) == 2 else v.reshape(-1, *v.shape[-2:]) for v in (a, b))
    products = stack(
        [
            product_of_matrices(left[i % len_of(left)], right[i % len_of(right)])
            for i in range(math.prod(outer))
        ]
    )
    return reshape(products, (*outer, *products.shape[1:]))


def len_of(matrices: Any) -> int:
    return len(matrices) if isinstance(matrices, list) else int(matrices.shape[0])


def tensordot(x: Any, y: Any, *, axes: int | Sequence[Sequence[int]] = 2) -> Any:
    """Return sums of products over axes of both: the last of x and the first of y, or those named in pairs."""
    a, b = (v if is_shared(v) else public_values(v) for v in (x, y))
    if isinstance(axes, int):
        over_a, over_b = list(range(len(a.shape) - axes, len(a.shape))), list(range(axes))
    else:
        over_a, over_b = (list(check_axis(of, len(v.shape))) for of, v in zip(axes, (a, b), strict=True))
    if [a.shape[i] for i in over_a] != [b.shape[i] for i in over_b]:
        raise ShapeError(f"tensordot of shapes {a.shape} and {b.shape} over axes {axes} is not defined")
    free_a = [i for i in range(len(a.shape)) if i not in over_a]
    free_b = [i for i in range(len(b.shape)) if i not in over_b]
    rows, columns = [a.shape[i] for i in free_a], [b.shape[i] for i in free_b]
    inner = math.prod(a.shape[i] for i in over_a)
    left = a.transpose(*free_a, *over_a).reshape(math.prod(rows), inner)
    right = b.transpose(*over_b, *free_b).reshape(inner, math.prod(columns))
    return reshape(product_of_matrices(left, right), (*rows, *columns))


def vecdot(x: Any, y: Any) -> Any:
    """Return the sums of products of vectors along the last axis."""
    a, b = (v if is_shared(v) else public_values(v) for v in (x, y))
    if not a.shape or not b.shape or a.shape[-1] != b.shape[-1]:
        raise ShapeError(f"vecdot of shapes {a.shape} and {b.shape} is not defined: the last axes differ")
    products: Any = a * b
    return total(products, axis=-1)


def dot(x: Any, y: Any) -> Any:
    """Return numpy's dot: the product with a number, and else sums over the last axis of x and the last but one of y."""
    a, b = (v if is_shared(v) else public_values(v) for v in (x, y))
    if not a.shape or not b.shape:
        return a * b
    return tensordot(a, b, axes=([len(a.shape) - 1], [max(0, len(b.shape) - 2)]))


def outer(x: Any, y: Any) -> Any:
    """Return all products of two vectors."""
    a, b = (v if is_shared(v) else public_values(v) for v in (x, y))
    return a.reshape(-1, 1) * b.reshape(1, -1)
