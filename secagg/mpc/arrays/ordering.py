"""Shared arrays in order: sort, argsort, top_k, searchsorted, unique_counts, and rows moved by a secret order.

All of it stands on `mpc.sorting`: stable, and nothing shows but what is opened afterwards. Integers and fixed-point numbers
sort as signed numbers, over their whole range; False sorts before True.

What `mpc.cost` says of a sort is what is expected: the comparisons of a sort are random, and so are its bytes and rounds.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from secagg.cost.operation import Cost
from secagg.errors import ShapeError, UsageError
from secagg.mpc.arrays.arithmetic import multiply, subtract
from secagg.mpc.arrays.comparison import not_equal, where
from secagg.mpc.arrays.dtypes import BoolType, boolean, int64
from secagg.mpc.arrays.graph import Kernel, Node
from secagg.mpc.arrays.handle import H, Handle, as_numbers, check_axis, common, is_shared
from secagg.mpc.arrays.kernels import each
from secagg.mpc.arrays.lanes import pack, unpack, words_of
from secagg.mpc.arrays.local import ITEM
from secagg.mpc.arrays.logic import invert
from secagg.mpc.arrays.moves import concat, index, moveaxis, reshape
from secagg.mpc.arrays.reductions import cumulative_sum
from secagg.mpc.arrays.rows import as_columns, as_rows, row_bytes
from secagg.mpc.groups import XOR, Array
from secagg.mpc.primitives import Costs, Primitives, Shares
from secagg.mpc.sorting import methods, permutations
from secagg.mpc.sorting.keys import Key


class _Sort(NamedTuple):
    """Parameters of a sort: how many rows are sorted, each by itself; per key, whether it descends; how many come first."""

    rows: int
    descending: tuple[bool, ...]
    first: int | None


async def _sort(engine: Primitives, node: Node, *values: Shares) -> list[Shares]:
    spec = _Sort(*node.params)
    inputs = node.inputs
    n = math.prod(inputs[0].shape)
    keys = [
        Key(value.reshape(1, words_of(n)), rows=n, descending=down)
        if isinstance(of.dtype, BoolType)
        else Key(value.reshape(n), signed=True, descending=down)
        for value, of, down in zip(values, inputs, spec.descending, strict=False)
    ]
    if spec.rows > 1:  # rows of one table, which is sorted by their number first
        row = np.repeat(np.arange(spec.rows, dtype=np.uint64), n // spec.rows)
        keys.insert(0, Key(engine.public(XOR, row), bits=(spec.rows - 1).bit_length()))
    k = len(spec.descending)
    shape = inputs[0].shape if spec.first is None else (spec.first,)
    ordered = await methods.sort(keys, as_rows(values[k:], inputs[k:]), first=spec.first)
    return as_columns(ordered, inputs[k:], shape)


def _packed(rows: Array) -> Array:
    """Return the lowest bits of words as packed bits; shares of the bits above are no zeros."""
    return pack((rows & np.uint64(1)).astype(np.uint8))


def _sort_cost(costs: Costs, node: Node) -> Cost:
    spec, inputs = _Sort(*node.params), node.inputs
    n, k = math.prod(inputs[0].shape), len(spec.descending)
    elements = [of.dtype.bits for of in inputs[:k] if not isinstance(of.dtype, BoolType)]
    key_bits = [1 if isinstance(of.dtype, BoolType) else of.dtype.bits for of in inputs[:k]]
    if spec.rows > 1:
        key_bits.insert(0, (spec.rows - 1).bit_length())
    return methods.sort_cost(costs, n, key_bits, row_bytes(inputs[k:]), elements=elements, first=spec.first)


_FEW: Final = 64  # rows of a rehearsal
SORT: Final = Kernel("sort", each(_sort), expected=_sort_cost)


async def _take(engine: Primitives, node: Node, order: Shares, x: Shares) -> Shares:  # noqa: ARG001
    (moved,) = await permutations.take(order, _table(x, node))
    return _untabled(moved, node)


async def _place(engine: Primitives, node: Node, ranks: Shares, x: Shares) -> Shares:  # noqa: ARG001
    (moved,) = await permutations.place(ranks, _table(x, node))
    return _untabled(moved, node)


def _table(x: Shares, node: Node) -> Shares:
    """Return an array as rows along its first axis."""
    if isinstance(node.dtype, BoolType):
        return x.each(lambda part: unpack(part, math.prod(node.shape)).astype(np.uint64).reshape(node.shape))
    return x


def _untabled(x: Shares, node: Node) -> Shares:
    return x.each(_packed) if isinstance(node.dtype, BoolType) else x


def _place_cost(costs: Costs, node: Node) -> Cost:
    ranks, x = node.inputs
    return permutations.place_cost(costs, _row_bytes(ranks), _row_bytes(x))


def _take_cost(costs: Costs, node: Node) -> Cost:
    order = _row_bytes(node.inputs[0])
    return permutations.place_cost(costs, order, order).then(_place_cost(costs, node))


def _row_bytes(node: Node) -> int:
    """Return the bytes of an array as rows, where a bit takes a word."""
    return math.prod(node.shape) * node.dtype.group.dtype.itemsize


async def _rehearsed_take(engine: Primitives, node: Node) -> None:
    await permutations.take(*_few_rows(engine, node))


async def _rehearsed_place(engine: Primitives, node: Node) -> None:
    await permutations.place(*_few_rows(engine, node))


def _few_rows(engine: Primitives, node: Node) -> list[Shares]:
    """Return a permutation of few rows, and zeros in the group of what is permuted."""
    order, x = node.inputs
    n, group = min(order.shape[0], _FEW), x.dtype.group
    places = np.arange(n, dtype=order.dtype.group.dtype)
    return [engine.public(order.dtype.group, places), engine.public(group, np.zeros(n, group.dtype))]


TAKE: Final = Kernel("reorder", each(_take), expected=_take_cost, rehearsed=_rehearsed_take)
PLACE: Final = Kernel("place", each(_place), expected=_place_cost, rehearsed=_rehearsed_place)


def _ordered(
    keys: Sequence[H], columns: Sequence[H], descending: Sequence[bool], first: int | None = None
) -> list[H]:
    """Return columns sorted by keys along the last axis; all of one shape."""
    x = keys[0]
    if any(not isinstance(down, bool) for down in descending):
        raise UsageError(f"expected descending, or largest, to be True or False, got {descending!r}")
    shape = x.shape if first is None else (first,)
    rows = math.prod(x.shape[:-1])
    node = x.derive(
        SORT,
        *keys[1:],
        *columns,
        shape=shape,
        dtype=columns[0].dtype,
        params=_Sort(rows, tuple(descending), first),
    )
    return [node.derive(ITEM, shape=shape, dtype=c.dtype, params=(i,)) for i, c in enumerate(columns)]


def _places(x: Handle) -> Any:
    """Return the index of each element along the last axis, as an array."""
    return x.engine.public(np.broadcast_to(np.arange(x.shape[-1]), x.shape), dtype=int64)


def sort(x: H, *, axis: int | None = -1, descending: bool = False, stable: bool = True) -> H:  # noqa: ARG001
    """Return the array sorted along an axis; None sorts all elements in one dimension. Always stable."""
    return _along(x, axis, lambda rows: _ordered([rows], [rows], [descending])[0])


def argsort(x: H, *, axis: int | None = -1, descending: bool = False, stable: bool = True) -> H:  # noqa: ARG001
    """Return the indices that sort the array along an axis, as int64, in secret; `reorder` applies them. Always stable."""
    return _along(x, axis, lambda rows: _ordered([rows], [_places(rows)], [descending])[0])


def _along(x: H, axis: int | None, function: Callable[[H], H]) -> H:
    if axis is None:
        return function(reshape(x, -1))
    if not x.ndim:
        raise ShapeError("expected an array of at least one dimension to sort, got a single number")
    (a,) = check_axis(axis, x.ndim)
    return moveaxis(function(moveaxis(x, a, -1)), -1, a)


def sort_by(
    keys: Sequence[H],
    columns: Sequence[H],
    *,
    descending: bool | Sequence[bool] = False,
    first: int | None = None,
) -> list[H]:
    """Return columns with their rows in the order of several keys, of which the first counts most. Stable, in one sort.

    Args:
      keys, columns: arrays of one dimension and one length, of any dtype.
      descending: of all keys, or for each.
      first: how many rows to return; None for all.
    """
    keys, columns = list(keys), list(columns)
    if not keys or not columns or not all(map(is_shared, [*keys, *columns])):
        raise UsageError("sort_by takes shared keys and columns, at least one of each")
    if any(x.ndim != 1 or x.shape != keys[0].shape for x in [*keys, *columns]):
        raise ShapeError(
            f"expected keys and columns (rows,) of one length, got {[x.shape for x in [*keys, *columns]]}"
        )
    down = list(descending) if isinstance(descending, Sequence) else [descending] * len(keys)
    if len(down) != len(keys):
        raise UsageError(f"expected descending as one bool or {len(keys)}, got {len(down)}")
    _check_first(first, keys[0].shape[0])
    return _ordered(keys, columns, down, first)


def _check_first(first: int | None, n: int) -> None:
    if first is None:
        return
    try:
        number = operator.index(first)
    except TypeError:
        number = -1
    if not 0 <= number <= n:
        raise UsageError(f"expected a public integer, 0 to {n}, of {n} elements, got {first!r}")


def lexsort(keys: Sequence[H]) -> H:
    """Return the indices that sort rows by several keys, of which the last counts most, in secret."""
    *_, last = keys = list(keys)
    return sort_by(keys[::-1], [_places(last)])[0]


def top_k(x: H, k: int, *, largest: bool = True) -> tuple[H, H]:
    """Return the k largest or smallest elements of one dimension, in order, and their indices.

    Elements that cannot be among them are not compared with each other. Of equal ones the first comes first.
    """
    if k is None:
        raise UsageError("top_k takes a public integer k, got None")
    if x.ndim != 1:
        raise ShapeError(f"top_k takes arrays of one dimension, got shape {x.shape}")
    _check_first(k, x.shape[0])
    values, places = _ordered([x], [x, _places(x)], [largest], k)
    return values, places


def reorder(x: H, order: H) -> H:
    """Return the array whose i-th element, or row, is number order[i] of this one.

    Args:
      order: int64 in secret, a permutation of all indices, as argsort returns it. Another array ends the run with an error
        at all parties alike, and how often each number occurs in it then has shown.
    """
    _check_order(x, order)
    return order.derive(TAKE, x, shape=x.shape, dtype=x.dtype)


def inverse_permutation(order: H) -> H:
    """Return for each index where a secret permutation holds it."""
    _check_order(order, order)
    return order.derive(PLACE, _places(order), shape=order.shape, dtype=int64)


def _check_order(x: Handle, order: Handle) -> None:
    if (
        not is_shared(order)
        or order.dtype != int64
        or order.ndim != 1
        or not x.ndim
        or x.shape[0] != order.shape[0]
    ):
        raise ShapeError(
            f"expected an order of shape {x.shape[:1]} and int64, as argsort returns it, got {order!r}"
        )


def searchsorted(x1: H, x2: H, *, side: str = "left") -> H:
    """Return for each element of x2 how many of x1 are less (side='left'), or not greater ('right'), as int64.

    That is its place in x1 if x1 is sorted, as it need not be. Costs a sort of both together.
    """
    if side not in ("left", "right"):
        raise UsageError(f"expected side='left' or 'right', got {side!r}")
    if not is_shared(x1):
        x1 = x2.engine.public(x1, dtype=x2.dtype)
    elif not is_shared(x2):
        x2 = x1.engine.public(x2, dtype=x1.dtype)
    if x1.ndim != 1:
        raise ShapeError(f"expected an array of one dimension to search, got shape {x1.shape}")
    shape, (x1, x2) = x2.shape, common(x1, reshape(x2, -1))
    # Of equal elements those stand first that are not to count the others, or are to be counted.
    parts = [x2, x1] if side == "left" else [x1, x2]
    counted = np.repeat([part is x1 for part in parts], [part.shape[0] for part in parts]).astype(np.int64)
    both = concat(parts)
    is_counted, places = _ordered([both], [both.engine.public(counted, dtype=int64), _places(both)], [False])
    counts = places.derive(PLACE, cumulative_sum(is_counted), shape=places.shape, dtype=int64)
    wanted = slice(0, x2.shape[0]) if side == "left" else slice(x1.shape[0], None)
    return reshape(index(counts, wanted), shape)


class UniqueCounts(NamedTuple):
    """Distinct values in rising order, and how often each occurs; how many there are does not show.

    Attributes:
      values, counts: of as many elements as the array. Behind the distinct values both are zero.
    """

    values: Any
    counts: Any


def unique_counts(x: H) -> UniqueCounts:
    """Return the distinct values of all elements and how often each occurs, padded so that their number stays secret."""
    flat = as_numbers(reshape(x, -1))
    n = flat.shape[0]
    if n == 0:
        return UniqueCounts(flat, flat.engine.public(np.zeros(0, np.int64), dtype=int64))
    ordered = sort(flat)
    one = flat.engine.public(np.ones(1, bool), dtype=boolean)
    is_first = concat([one, not_equal(index(ordered, slice(1, None)), index(ordered, slice(0, -1)))])
    begins = where(is_first, _places(flat), np.full(n, n))
    values, begins = sort_by([invert(is_first)], [multiply(is_first, ordered), begins])
    ends = concat([index(begins, slice(1, None)), flat.engine.public(np.full(1, n), dtype=int64)])
    return UniqueCounts(values, subtract(ends, begins))


NAMES: Final[dict[str, Callable[..., Any]]] = {
    "argsort": argsort,
    "inverse_permutation": inverse_permutation,
    "lexsort": lexsort,
    "reorder": reorder,
    "searchsorted": searchsorted,
    "sort": sort,
    "sort_by": sort_by,
    "top_k": top_k,
    "unique_counts": unique_counts,
}
