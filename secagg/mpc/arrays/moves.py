"""Shapes and places of shared arrays: reshaping, indexing with public indices, joining. All free."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from secagg.errors import ShapeError, UsageError
from secagg.mpc.arrays.handle import H, Handle, check_axis
from secagg.mpc.arrays.local import CONCAT, INDEX, PERMUTE, RESHAPE, ROLL, STACK


def reshape(x: H, shape: int | Sequence[int]) -> H:
    """Return the array in another shape, of which one length may be -1."""
    wanted = (shape,) if isinstance(shape, int) else tuple(shape)
    known = math.prod(n for n in wanted if n != -1)
    if wanted.count(-1) == 1 and known and x.size % known == 0:
        wanted = tuple(x.size // known if n == -1 else n for n in wanted)
    if any(n < 0 for n in wanted) or math.prod(wanted) != x.size:
        raise ShapeError(f"an array of shape {x.shape} does not take the shape {shape}")
    return x.derive(RESHAPE, shape=wanted, dtype=x.dtype)


def permute_dims(x: H, axes: Sequence[int] | None = None) -> H:
    """Return the array with its dimensions in another order; by default reversed."""
    order = tuple(reversed(range(x.ndim))) if axes is None else check_axis(axes, x.ndim)
    if len(order) != x.ndim:
        raise ShapeError(f"expected an order of {x.ndim} axes, got {axes}")
    return x.derive(PERMUTE, shape=tuple(x.shape[a] for a in order), dtype=x.dtype, params=(order,))


def moveaxis(x: H, source: int, destination: int) -> H:
    """Return the array with one axis moved."""
    (a,), (b,) = check_axis(source, x.ndim), check_axis(destination, x.ndim)
    order = [i for i in range(x.ndim) if i != a]
    order.insert(b, a)
    return permute_dims(x, order)


def index(x: H, key: Any) -> H:
    """Return x[key] for public integers, slices, None, ... and arrays of integers or bools."""
    keys = tuple(_public_key(x, k) for k in (key if isinstance(key, tuple) else (key,)))
    try:
        shape = _Shape(x.shape)[keys]
    except IndexError as error:
        raise ShapeError(f"an array of shape {x.shape} has no such part: {error}") from None
    return x.derive(INDEX, shape=shape, dtype=x.dtype, params=keys)


class _Shape:
    """Says of what shape a part of an array is, with no array of its size."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._empty = np.broadcast_to(np.zeros((), np.uint8), shape)

    def __getitem__(self, keys: tuple[Any, ...]) -> tuple[int, ...]:
        return self._empty[keys].shape


def _public_key(x: Handle, key: Any) -> Any:
    if isinstance(key, Handle):
        raise UsageError(
            f"{x!r} is indexed with public numbers alone, and {key!r} is shared: choose with mpc.where, or multiply with "
            "(positions == index) and sum"
        )
    if key is None or key is Ellipsis:
        return key
    if isinstance(key, slice):
        return slice(
            *(None if part is None else operator.index(part) for part in (key.start, key.stop, key.step))
        )
    if isinstance(key, bool | np.bool_):
        raise UsageError("expected integers, slices, None, ... or arrays of them as index, got a single bool")
    array = np.array(key)  # a copy: the node keeps it
    if array.dtype.kind not in "iub":
        raise UsageError(f"expected public integers or bools as index, got {array.dtype}")
    return operator.index(array[()]) if array.ndim == 0 else array


def take(x: H, indices: Any, *, axis: int | None = None) -> H:
    """Return the parts at public indices along an axis, which an array of one dimension need not name."""
    if axis is None and x.ndim != 1:
        raise ShapeError(f"expected an axis to take from an array of shape {x.shape}")
    (a,) = check_axis(0 if axis is None else axis, x.ndim)
    return index(x, (slice(None),) * a + (np.asarray(indices),))


def expand_dims(x: H, *, axis: int = 0) -> H:
    """Return the array with a new axis of length 1."""
    (a,) = check_axis(axis, x.ndim + 1)
    return reshape(x, (*x.shape[:a], 1, *x.shape[a:]))


def squeeze(x: H, axis: int | Sequence[int] | None = None) -> H:
    """Return the array without axes of length 1."""
    axes = [a for a in range(x.ndim) if x.shape[a] == 1] if axis is None else check_axis(axis, x.ndim)
    if any(x.shape[a] != 1 for a in axes):
        raise ShapeError(f"axes {axis} of shape {x.shape} are not of length 1")
    return reshape(x, tuple(n for a, n in enumerate(x.shape) if a not in axes))


def flip(x: H, *, axis: int | Sequence[int] | None = None) -> H:
    """Return the array in reverse order along axes."""
    axes = check_axis(axis, x.ndim)
    return index(x, tuple(slice(None, None, -1) if a in axes else slice(None) for a in range(x.ndim)))


def roll(x: H, shift: int, *, axis: int | None = None) -> H:
    """Return the array with elements moved in a circle along an axis; by default, all in C order."""
    if axis is None:
        return reshape(roll(reshape(x, -1), shift, axis=0), x.shape)
    (a,) = check_axis(axis, x.ndim)
    return x.derive(ROLL, shape=x.shape, dtype=x.dtype, params=(operator.index(shift), a))


def concat(arrays: Sequence[H], *, axis: int | None = 0) -> H:
    """Return arrays of one dtype joined along an axis; None joins all elements in C order."""
    parts = [reshape(x, -1) for x in arrays] if axis is None else list(arrays)
    _check_parts(parts, "concat")
    (a,) = check_axis(axis or 0, parts[0].ndim)
    if any(p.shape[:a] + p.shape[a + 1 :] != parts[0].shape[:a] + parts[0].shape[a + 1 :] for p in parts):
        raise ShapeError(f"shapes {[p.shape for p in parts]} do not join along axis {axis}")
    total = sum(p.shape[a] for p in parts)
    shape = (*parts[0].shape[:a], total, *parts[0].shape[a + 1 :])
    return parts[0].derive(CONCAT, *parts[1:], shape=shape, dtype=parts[0].dtype, params=(a,))


def stack(arrays: Sequence[H], *, axis: int = 0) -> H:
    """Return arrays of one shape and dtype joined along a new axis."""
    parts = list(arrays)
    _check_parts(parts, "stack")
    if any(p.shape != parts[0].shape for p in parts):
        raise ShapeError(f"shapes {[p.shape for p in parts]} do not stack")
    (a,) = check_axis(axis, parts[0].ndim + 1)
    shape = (*parts[0].shape[:a], len(parts), *parts[0].shape[a:])
    return parts[0].derive(STACK, *parts[1:], shape=shape, dtype=parts[0].dtype, params=(a,))


def _check_parts(parts: Sequence[Handle], what: str) -> None:
    if not parts or not all(isinstance(p, Handle) for p in parts):
        raise UsageError(
            f"{what} takes shared arrays, at least one; make public ones with engine.public(values)"
        )
    if any(p.dtype != parts[0].dtype for p in parts):
        raise UsageError(
            f"{what} takes arrays of one dtype, got {', '.join(str(p.dtype) for p in parts)}; convert with astype"
        )
