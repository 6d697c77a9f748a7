"""Kernels without messages: linear functions that act on every share by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from secagg.mpc.arrays.dtypes import BoolType
from secagg.mpc.arrays.graph import Call, Local, Node
from secagg.mpc.arrays.lanes import pack, unpack
from secagg.mpc.groups import Array
from secagg.mpc.primitives import Primitives, Shares


def linear(name: str, function: Callable[..., Array], exact: Callable[..., Array] | None = None) -> Local:
    """Return a kernel that is a linear function of ring elements.

    Args:
      function: of the node and the inputs' shares; its results may have bits above the ring's.
      exact: the same on Python integers; by default `function` itself.
    """

    def run(engine: Primitives, call: Call) -> Shares:
        node, values = call
        reduce = node.dtype.ring.reduce  # type: ignore[union-attr]
        parts = [
            reduce(np.asarray(function(node, *of_each)))
            for of_each in zip(*[value.parts for value in values], strict=True)
        ]
        return Shares(engine, node.dtype.group, parts)

    return Local(name, run, exact or function)


def move(name: str, function: Callable[..., Array]) -> Local:
    """Return a kernel that moves elements or bits: a function of the node and the inputs' shares, in their shapes."""

    def run(engine: Primitives, call: Call) -> Shares:
        node, values = call
        each = zip(*[value.parts for value in values], strict=True)
        if isinstance(node.dtype, BoolType):
            parts = [pack(np.asarray(function(node, *_loose(node, words)))) for words in each]
        else:
            parts = [np.asarray(function(node, *of_each)) for of_each in each]
        return Shares(engine, node.dtype.group, parts)

    return Local(name, run)


def _loose(node: Node, words: tuple[Array, ...]) -> list[Array]:
    return [
        unpack(part, math.prod(i.shape)).reshape(i.shape) for part, i in zip(words, node.inputs, strict=True)
    ]


def _signed(node: Node, public: Array) -> Array:
    return node.dtype.ring.to_signed(public).astype(object)  # type: ignore[union-attr]


# Sums and public factors.

ADD: Final = linear("add", lambda _, x, y: np.add(x, y))
SUBTRACT: Final = linear("subtract", lambda _, x, y: np.subtract(x, y))
NEGATE: Final = linear("negate", lambda _, x: np.negative(x))
SCALE: Final = linear(
    "times public",
    lambda node, x: np.multiply(x, node.params[0]),
    lambda node, x: x * _signed(node, node.params[0]),
)
MATMUL_RIGHT: Final = linear(
    "matmul by public",
    lambda node, x: node.dtype.ring.matmul(x, node.params[0]),
    lambda node, x: np.asarray(x @ _signed(node, node.params[0])),
)
MATMUL_LEFT: Final = linear(
    "public matmul",
    lambda node, x: node.dtype.ring.matmul(node.params[0], x),
    lambda node, x: np.asarray(_signed(node, node.params[0]) @ x),
)
SUM: Final = linear(
    "sum", lambda node, x: np.sum(x, axis=node.params[0], keepdims=node.params[1], dtype=x.dtype)
)
CUMULATIVE_SUM: Final = linear(
    "cumulative_sum", lambda node, x: np.cumsum(x, axis=node.params[0], dtype=x.dtype)
)
NARROW: Final = linear("narrow", lambda node, x: x.astype(node.dtype.group.dtype), lambda _, x: x)


def _add_public(engine: Primitives, call: Call) -> Shares:
    x: Shares = call.values[0]
    return x.with_each(engine.public(x.group, call.node.params[0]), x.group.add)


ADD_PUBLIC: Final = Local("add public", _add_public, lambda node, x: x + _signed(node, node.params[0]))
PUBLIC: Final = Local(
    "public", lambda engine, call: engine.public(call.node.dtype.group, call.node.params[0])
)


# Moves.


def _apart(part: Array, whole: Array) -> Array:
    """Return a small part in memory of its own, so that the whole can be freed."""
    return part.copy() if part.base is not None and 2 * part.size < whole.size else part


RESHAPE: Final = move("reshape", lambda node, x: x.reshape(node.shape))
PERMUTE: Final = move("permute_dims", lambda node, x: x.transpose(node.params[0]))
INDEX: Final = move("index", lambda node, x: _apart(np.asarray(x[node.params]), x))
BROADCAST: Final = move("broadcast_to", lambda node, x: np.broadcast_to(x, node.shape))
CONCAT: Final = move("concat", lambda node, *parts: np.concatenate(parts, axis=node.params[0]))
STACK: Final = move("stack", lambda node, *parts: np.stack(parts, axis=node.params[0]))
ROLL: Final = move("roll", lambda node, x: np.roll(x, node.params[0], node.params[1]))


# Bits, packed: arrays of one shape.

XOR_BITS: Final = Local("xor", lambda _, call: call.values[0] + call.values[1])
XOR_PUBLIC: Final = Local(
    "xor public",
    lambda engine, call: call.values[0] + engine.public(call.node.dtype.group, call.node.params[0]),
)
AND_PUBLIC: Final = Local(
    "and public", lambda _, call: call.values[0].each(lambda part: part & call.node.params[0])
)


def _item(_: Primitives, call: Call) -> Any:
    return call.values[0][call.node.params[0]]


ITEM: Final = Local("item", _item)  # of a kernel that returns several values
