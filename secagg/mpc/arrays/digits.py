"""Kernels that turn the binary digits of shared integers into shared integers.

*Highest digit* e of x >= 0, as two digits to the base 16: e + 3 = 16 a + b. ORs of digits from the top tell for each j
whether x >= 2**j, and so which digit is the highest. So 3 bits tell a, and 16 bits b, where one for each digit would be 61.
Functions of b become integers as sums of bits with public weights.

Who learns what: nobody anything. Bits, ANDs and bits to integers are the engine's operations.

Cost for n elements: the engine's `to_bits` of n. For the lowest w digits, or to widen integers of w bits, also
its `from_bits` of w n. For the highest one
its `from_bits` of 19 n, and 188 n ANDs in 6 rounds. `from_bits` goes stretch after stretch where n is large, so that what is
under way stays bounded.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncIterator, Sequence
from typing import Final

import numpy as np

from secagg.mpc.arrays.dtypes import BoolType, int64
from secagg.mpc.arrays.graph import Call, Kernel, Node
from secagg.mpc.arrays.kernels import each, join
from secagg.mpc.arrays.lanes import LANES, words_of
from secagg.mpc.bits import zeros
from secagg.mpc.groups import Array
from secagg.mpc.numbers import RingGroup
from secagg.mpc.primitives import Primitives, Shares, concatenate

BASE: Final = 16
BLOCKS: Final = 4  # digits of the base that e + 3 has
OFFSET: Final = 3  # so that 2**(60 - e) = 2**(63 - 16 a - b) has no negative exponent for a = 3
DIGITS_BELOW: Final = (
    BASE * BLOCKS - OFFSET
)  # that a number may have, so that its product with a power of two fits

_STRETCH: Final = 1 << 22  # bits that become integers at a time: some 100 MB of messages and masks
_CHUNK: Final = 1 << 14  # elements added up at a time


async def integers(
    engine: Primitives, planes: Shares, group: RingGroup, n: int
) -> AsyncIterator[tuple[slice, Shares]]:
    """Give bits in slices as integers 0 and 1, shape (planes, n), a few planes at a time, with their places."""
    words = words_of(n)
    step = max(1, _STRETCH // max(1, words * LANES))
    for start in range(0, len(planes), step):
        some = planes[start : start + step]
        lanes = words * LANES
        flat = await engine.from_bits(some.reshape(-1), group, len(some) * lanes)
        table = flat.reshape(len(some), lanes)[:, :n]
        yield slice(start, start + len(some)), table


async def weighted(
    engine: Primitives, planes: Shares, group: RingGroup, n: int, weights: Sequence[Sequence[int]]
) -> Shares:
    """Return sums over planes of bits as integers, each with its weight, shape (len(weights), n).

    Args:
      planes: shape (planes, words) for n elements.
      weights: for each result the weight of each plane, modulo the ring.
    """
    sums = engine.public(group, np.zeros((len(weights), n), group.dtype))
    async for where, table in integers(engine, planes, group, n):
        for total, bits in zip(sums.parts, table.parts, strict=True):
            _add_weighted(total, bits, [row[where] for row in weights], group)
    return sums


def _add_weighted(total: Array, bits: Array, weights: Sequence[Sequence[int]], group: RingGroup) -> None:
    """Add the weighted sums of rows of bits to the total, modulo the ring."""
    n = total.shape[1]
    scratch = np.empty(min(n, _CHUNK), total.dtype)
    for start in range(0, n, _CHUNK):
        part = slice(start, min(n, start + _CHUNK))
        t = scratch[: part.stop - start]
        for row, of_row in zip(total, weights, strict=True):
            for bit, weight in zip(bits, of_row, strict=True):
                if factor := weight % group.ring.modulus:
                    row[part] += np.multiply(bit[part], total.dtype.type(factor), out=t)
        group.ring.reduce(total[:, part], total[:, part])


def _joined(calls: Sequence[Call]) -> tuple[Shares, int]:
    """Return all calls' inputs in one row, and how many elements they are."""
    elements = join([call.values[0] for call in calls], [call.node.shape[1:] for call in calls])
    return elements, elements.size


def _cut(table: Shares, calls: Sequence[Call]) -> list[Shares]:
    if len(calls) == 1:
        return [table.reshape(*calls[0].node.shape)]
    ends = np.cumsum([0, *(math.prod(call.node.shape[1:]) for call in calls)]).tolist()
    return [
        table[:, a:b].copy().reshape(*call.node.shape)
        for call, (a, b) in zip(calls, itertools.pairwise(ends), strict=True)
    ]


async def _digits(engine: Primitives, calls: Sequence[Call]) -> list[Shares]:
    elements, n = _joined(calls)
    (count,) = calls[0].node.params
    planes = (await engine.to_bits(elements))[:count]
    table = engine.public(int64.group, np.zeros((count, n), np.uint64))
    async for where, some in integers(engine, planes, int64.group, n):
        table[where] = some
    return _cut(table, calls)


async def _highest(engine: Primitives, calls: Sequence[Call]) -> list[Shares]:
    elements, n = _joined(calls)
    reached = (await engine.to_bits(elements))[:DIGITS_BELOW]  # becomes x >= 2**j
    step = 1
    while step < DIGITS_BELOW:
        starts = range(0, DIGITS_BELOW - step, 2 * step)
        pairs = [(reached[a + step], reached[a : a + step]) for a in starts]
        for a, both in zip(starts, await engine.conjunction(pairs), strict=True):
            reached[a : a + step] ^= both
            reached[a : a + step] ^= reached[a + step]
        step *= 2
    blocks = [reached[BASE * a - OFFSET] for a in range(1, BLOCKS)]
    alone = reached.copy()  # becomes whether digit j is the highest
    alone[:-1] ^= reached[1:]
    # Of all a one at most is set, so that their exclusive or is their sum.
    digits = concatenate([zeros(engine, (OFFSET, reached.shape[1])), alone]).each(
        lambda part: np.bitwise_xor.reduce(part.reshape(BLOCKS, BASE, -1), axis=0)
    )
    planes = concatenate([*(bit.reshape(1, -1) for bit in blocks), digits])
    weights = [[int(i == j) for j in range(BLOCKS - 1)] + [0] * BASE for i in range(BLOCKS - 1)]
    weights += [[0] * (BLOCKS - 1) + list(row) for row in calls[0].node.params]
    return _cut(await weighted(engine, planes, int64.group, n, weights), calls)


async def _widen(engine: Primitives, node: Node, x: Shares) -> Shares:
    """Return signed elements in a wider ring: the sum of their bits, of which the highest counts negative."""
    narrow = node.params[0]
    planes = await engine.to_bits(x.reshape(-1))
    weights = [*(1 << j for j in range(narrow - 1)), -(1 << narrow - 1)]
    if isinstance(node.dtype, BoolType):
        raise TypeError("expected a dtype of numbers, got bool")
    total = await weighted(engine, planes, node.dtype.group, math.prod(node.shape), [weights])
    return total.reshape(*node.shape)


def _exact_digits(node: Node, x: Array) -> Array:
    return np.stack([x >> j & 1 for j in range(node.params[0])])


def _exact_highest(node: Node, x: Array) -> Array:
    counted = np.array([int(v).bit_length() for v in x.reshape(-1)], np.int64).reshape(x.shape)
    place = np.where(counted, counted - 1 + OFFSET, 0)
    blocks = [place >= BASE * a for a in range(1, BLOCKS)]
    rows = [np.array(row, object)[place % BASE] * (counted > 0) for row in node.params]
    return np.stack([*(bit.astype(object) for bit in blocks), *rows])


WIDEN: Final = Kernel("widen", each(_widen))
# Of shape (digits, ...): the lowest digits of an integer, lowest first.
DIGITS: Final = Kernel("digits", _digits, _exact_digits)
# Of shape (3 + rows, ...), for the highest digit e of an integer in [0, 2**61), e + 3 = 16 a + b: whether a is at least 1,
# 2 and 3; then of each parameter, a row of 16 numbers, its number b. For the integer 0 all are 0.
HIGHEST: Final = Kernel("highest digit", _highest, _exact_highest)
