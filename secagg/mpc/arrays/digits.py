"""Kernels that turn the binary digits of shared integers into shared integers 0 and 1.

Who learns what: nobody anything. Bits, ANDs and bits to integers are the engine's operations.

Cost for n elements of w digits: the engine's `to_bits` of n and `from_bits` of w n; `leading` ANDs w n bits in each of
log2(w) rounds besides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from secagg.mpc.arrays.dtypes import int64
from secagg.mpc.arrays.graph import Call, Kernel, Node
from secagg.mpc.arrays.kernels import join
from secagg.mpc.arrays.lanes import LANES, words_of
from secagg.mpc.groups import Array
from secagg.mpc.primitives import Primitives, Shares, concatenate


async def _planes(engine: Primitives, calls: Sequence[Call]) -> Shares:
    """Return the lowest digits of all calls' inputs, in slices; how many is the kernel's parameter."""
    elements = join([call.values[0] for call in calls], [call.node.shape[1:] for call in calls])
    return (await engine.to_bits(elements))[: calls[0].node.params[0]]


async def _to_integers(engine: Primitives, planes: Shares, calls: Sequence[Call]) -> list[Shares]:
    sizes = [math.prod(call.node.shape[1:]) for call in calls]
    digits, lanes = len(planes), LANES * words_of(sum(sizes))
    flat = await engine.from_bits(planes.reshape(-1), int64.group, digits * lanes)
    table = flat.reshape(digits, lanes)
    ends = np.cumsum([0, *sizes]).tolist()
    return [
        table[:, end - size : end].copy().reshape(*call.node.shape)
        for call, size, end in zip(calls, sizes, ends[1:], strict=True)
    ]


async def _digits(engine: Primitives, calls: Sequence[Call]) -> list[Shares]:
    return await _to_integers(engine, await _planes(engine, calls), calls)


async def _leading(engine: Primitives, calls: Sequence[Call]) -> list[Shares]:
    planes = await _planes(engine, calls)
    step = 1
    while step < len(planes):  # plane j becomes the OR of planes j to j + 2 step - 1
        low, high = planes[:-step], planes[step:]
        (both,) = await engine.conjunction([(low, high)])
        planes = concatenate([low + high + both, planes[-step:]])
        step *= 2
    return await _to_integers(engine, planes, calls)


def _exact_digits(node: Node, x: Array) -> Array:
    return np.stack([x >> j & 1 for j in range(node.params[0])])


def _exact_leading(node: Node, x: Array) -> Array:
    return np.stack([np.where(x >> j != 0, 1, 0).astype(object) for j in range(node.params[0])])


# Of shape (digits, ...): the lowest digits of an integer, lowest first.
DIGITS: Final = Kernel("digits", _digits, _exact_digits)
# Of shape (digits, ...): for each digit of an integer of at least 0 whether it or a higher one is set.
LEADING: Final = Kernel("leading digit", _leading, _exact_leading)
