"""Kernels with messages: what a level of the graph asks of the engine.

Each takes all calls of a level with equal parameters. Elementwise ones join their inputs, call the engine once and cut the
result; so a hundred products cost the messages of one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from secagg.mpc.arrays.dtypes import BoolType, IntegerType
from secagg.mpc.arrays.graph import Call, Kernel, Node, Shape
from secagg.mpc.arrays.lanes import cleared, join_bits, pack, split_bits, unpack, words_of
from secagg.mpc.groups import Array
from secagg.mpc.primitives import Primitives, Shares, concatenate
from secagg.mpc.terms import terms_of_array
from secagg.ring import Ring
from secagg.wire import Lane


def each(run: Callable[..., Awaitable[Any]]) -> Callable[[Primitives, Sequence[Call]], Awaitable[list[Any]]]:
    """Return a kernel's `run` that runs `run(engine, node, *values)` of all calls side by side."""

    async def side_by_side(engine: Primitives, calls: Sequence[Call]) -> list[Any]:
        if len(calls) == 1:
            return [await run(engine, calls[0].node, *calls[0].values)]
        return list(await engine.party.parallel(*(run(engine, c.node, *c.values) for c in calls)))  # type: ignore[arg-type]

    return side_by_side


# Elements: joined in one dimension, and cut.


def join(values: Sequence[Shares], shapes: Sequence[Shape]) -> Shares:
    """Return elements of arrays, broadcast to these shapes, one array behind the other."""
    if len(values) == 1:
        (value,), (shape,) = values, shapes
        return value.each(lambda part: _flat(part, shape))
    parts = [
        np.concatenate([_flat(part, shape) for part, shape in zip(of_each, shapes, strict=True)])
        for of_each in zip(*(value.parts for value in values), strict=True)
    ]
    return Shares(values[0].engine, values[0].group, parts)


def cut(joined: Shares, shapes: Sequence[Shape]) -> list[Shares]:
    """Return arrays of these shapes, each in memory of its own."""
    if len(shapes) == 1:
        return [joined.each(lambda part: part.reshape(shapes[0]))]
    ends = np.cumsum([0, *map(math.prod, shapes)]).tolist()
    return [
        Shares(joined.engine, joined.group, [part[a:b].reshape(shape).copy() for part in joined.parts])
        for (a, b), shape in zip(itertools.pairwise(ends), shapes, strict=True)
    ]


def _flat(part: Array, shape: Shape) -> Array:
    return (part if part.shape == shape else np.broadcast_to(part, shape)).reshape(-1)


def _shapes(calls: Sequence[Call]) -> list[Shape]:
    return [call.node.shape for call in calls]


def _inputs(calls: Sequence[Call], i: int = 0) -> Shares:
    """Return the calls' i-th inputs, broadcast to the shapes of the results."""
    return join([call.values[i] for call in calls], _shapes(calls))


# Inputs. Parameters: the owner, the bits of an element, and a `Given`.


class Given:
    """What the owner of an input puts in: its elements there, None elsewhere. Shows nothing of it.

    All are equal, so that inputs of one owner run together. The name tells them apart in digests.
    """

    __slots__ = ("elements", "lane", "name")

    def __init__(self, elements: Array | None, name: str, lane: Lane = ()) -> None:
        self.elements = elements
        self.name = name
        self.lane = lane

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Given)

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return self.name


def _stored_shape(node: Node) -> Shape:
    """Return the shape of a node's value: its own, or that of the packed words."""
    return (words_of(math.prod(node.shape)),) if isinstance(node.dtype, BoolType) else node.shape


async def _input(engine: Primitives, calls: Sequence[Call]) -> list[Shares]:
    first = calls[0].node
    owner, _, _ = first.params
    shapes = [_stored_shape(call.node) for call in calls]
    given = [call.node.params[2].elements for call in calls]
    whole = None if given[0] is None else np.concatenate([elements.reshape(-1) for elements in given])
    size = sum(map(math.prod, shapes))
    return cut(await engine.input(first.dtype.group, owner, (size,), whole), shapes)


async def _input_from_outside(engine: Primitives, calls: Sequence[Call]) -> list[Shares]:
    """Receive inputs of a party that does not compute, each in the lane in which `share_with` sends it."""

    def take(node: Node) -> Awaitable[Shares]:
        name = terms_of_array(node.shape, node.dtype, engine.computing)
        return engine.input(node.dtype.group, node.params[0], _stored_shape(node), name=name)

    runs: list[Any] = [take(call.node) for call in calls]
    return list(await engine.party.parallel(*runs, lanes=[call.node.params[2].lane for call in calls]))


INPUT: Final = Kernel("input", _input)
INPUT_FROM_OUTSIDE: Final = Kernel("input from outside", _input_from_outside)


# Arithmetic. Parameters: the bits of the ring, and how many bits to truncate.


def _is_alone(calls: Sequence[Call]) -> bool:
    """Return whether there is one call, of an array with dimensions: engines take its shares as they are."""
    return len(calls) == 1 and calls[0].node.shape != ()


def _operand(call: Call, i: int = 0) -> Shares:
    """Return a call's i-th input, broadcast to the shape of the result."""
    value: Shares = call.values[i]
    shape = call.node.shape
    return value if value.shape == shape else value.each(lambda part: np.broadcast_to(part, shape))


async def _multiply(engine: Primitives, calls: Sequence[Call]) -> list[Shares]:
    if _is_alone(calls):
        return [await engine.multiply(_operand(calls[0], 0), _operand(calls[0], 1), calls[0].node.params[1])]
    product = await engine.multiply(_inputs(calls, 0), _inputs(calls, 1), calls[0].node.params[1])
    return cut(product, _shapes(calls))


def fitting(exact: Array, ring: Ring, frac_bits: int) -> Array:
    """Return floor(exact / 2**frac_bits) of integers that fit the ring's range of truncation, in debug mode.

    Raises:
      OverflowError: one does not.
    """
    limit = 1 << ring.bits - (2 if frac_bits else 1)
    if exact.size and not (-limit <= exact.min() and exact.max() < limit):
        what = f"a product before {frac_bits} bits are truncated" if frac_bits else "a product"
        raise OverflowError(f"{what} does not lie within 2**{limit.bit_length() - 1} of zero")
    return exact >> frac_bits if frac_bits else exact


MULTIPLY: Final = Kernel(
    "multiply",
    _multiply,
    lambda node, x, y: fitting(np.asarray(x * y), Ring(node.params[0]), node.params[1]),
    1,
)


async def _matmul(engine: Primitives, node: Node, x: Shares, y: Shares) -> Shares:
    return await engine.matmul(x, y, node.params[1])


MATMUL: Final = Kernel(
    "matmul",
    each(_matmul),
    lambda node, x, y: fitting(np.asarray(x @ y), Ring(node.params[0]), node.params[1]),
    1,
)


async def _truncate(engine: Primitives, calls: Sequence[Call]) -> list[Shares]:
    if _is_alone(calls):
        return [await engine.truncate(_operand(calls[0]), calls[0].node.params[1])]
    return cut(await engine.truncate(_inputs(calls), calls[0].node.params[1]), _shapes(calls))


TRUNCATE: Final = Kernel(
    "truncate", _truncate, lambda node, x: fitting(x, Ring(node.params[0]), node.params[1]), 1
)


async def _shift(engine: Primitives, calls: Sequence[Call]) -> list[Shares]:
    if _is_alone(calls):
        return [await engine.shift(_operand(calls[0]), calls[0].node.params[1])]
    return cut(await engine.shift(_inputs(calls), calls[0].node.params[1]), _shapes(calls))


SHIFT: Final = Kernel("shift", _shift, lambda node, x: fitting(x, Ring(node.params[0]), node.params[1]))


# Bits.


def _sizes(calls: Sequence[Call]) -> list[int]:
    return [math.prod(call.node.shape) for call in calls]


async def _conjunction(engine: Primitives, calls: Sequence[Call]) -> list[Shares]:
    return await engine.conjunction([(x, y) for _, (x, y) in calls])


CONJUNCTION: Final = Kernel("and", _conjunction)


async def _negative(engine: Primitives, calls: Sequence[Call]) -> list[Shares]:
    return split_bits(await engine.negative(_inputs(calls)), _sizes(calls))


async def _zero(engine: Primitives, calls: Sequence[Call]) -> list[Shares]:
    return split_bits(await engine.zero(_inputs(calls)), _sizes(calls))


async def _from_bits(engine: Primitives, calls: Sequence[Call]) -> list[Shares]:
    sizes, dtype = _sizes(calls), calls[0].node.dtype
    bits = join_bits([call.values[0] for call in calls], sizes)
    if not isinstance(dtype, IntegerType):
        raise TypeError(f"bits become integers, not {dtype}")
    return cut(await engine.from_bits(bits, dtype.group, sum(sizes)), _shapes(calls))


NEGATIVE: Final = Kernel("sign", _negative)
ZERO: Final = Kernel("equal to zero", _zero)
FROM_BITS: Final = Kernel("bits to integers", _from_bits)


async def _any(engine: Primitives, node: Node, x: Shares) -> Shares:
    """Return the OR along the axis: over planes in pairs, all pairs of a level in one round."""
    (axis,), (before,) = node.params, (node.inputs[0].shape,)
    count, n = before[axis], math.prod(node.shape)
    if n == 1:
        return await _any_bit(engine, cleared(x, count))

    def planes_of(part: Array) -> Array:
        rows = np.moveaxis(unpack(part, math.prod(before)).reshape(before), axis, 0).reshape(count, n)
        return np.stack([pack(row) for row in rows])

    return await _any_plane(engine, x.each(planes_of))


async def _any_plane(engine: Primitives, planes: Shares) -> Shares:
    """Return the OR of planes, shape (planes, words)."""
    while len(planes) > 1:
        half = len(planes) // 2
        either = await _either(engine, planes[:half], planes[half : 2 * half])
        planes = concatenate([either, planes[2 * half :]]) if len(planes) % 2 else either
    return planes[0]


async def _any_bit(engine: Primitives, bits: Shares) -> Shares:
    """Return the OR of all lanes of packed bits, in the lowest lane: over words, then over halves of the one left."""
    word = await _any_plane(engine, bits.reshape(len(bits), 1))
    for lanes in (32, 16, 8, 4, 2, 1):
        word = await _either(engine, word, word.each(partial(_shifted, lanes)))
    return word


def _shifted(lanes: int, words: Array) -> Array:
    return words >> np.uint64(lanes)


async def _either(engine: Primitives, a: Shares, b: Shares) -> Shares:
    (both,) = await engine.conjunction([(a, b)])
    return both + a + b


ANY: Final = Kernel("any", each(_any))
