"""Products of four-party shares, of elements, matrices and bits [DEK21].

z = x y is the sum of v_ab over all pairs {a, b}, where

  v_01 = (x_0 + x_1)(y_0 + y_1), v_23 = (x_2 + x_3)(y_2 + y_3), and v_ab = x_a y_b + x_b y_a for the four other pairs.

v_ab is known to the two others, P_c and P_d. The key k_b of P_a, P_c and P_d gives r, which goes into z_b. v_ab - r goes
into z_a, which P_b, P_c and P_d hold: P_c sends it to P_b, and P_d vouches for it. So a party works out five products: one
of sums, and two for each of two other pairs.

Private: P_b receives v_ab - r and does not hold k_b. The r are fresh for each pair, so the shares of z are uniform but
for their sum: what r_ab adds to z_b it takes from z_a, and pairs connect all four.

*Products to be truncated* need no sharing, but two summands: z_0 + z_1, known to P_2 and P_3, and z_2 + z_3, known to P_0
and P_1. v_01 and v_23 are added where they are known, and only the four other pairs are passed on.

Cost: 1 round. Of six elements each party sends one or two. The pairs {0, 2} and {1, 3} exchange their roles for one half of
the elements. That makes 1.5 a party, rounded to whole elements. A product to be truncated takes one a party.

Threat model: that of `engine`. Learns: nobody anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from secagg.errors import ShapeError
from secagg.mpc.four.blame import Item
from secagg.mpc.four.channel import Channel, Passed
from secagg.mpc.four.keys import Purpose
from secagg.mpc.four.shares import Held, fill, reduce
from secagg.mpc.groups import XOR, Array, Group
from secagg.mpc.numbers import RingGroup, matmul_shape
from secagg.prg import Stream

Product: TypeAlias = Callable[[Array, Array], Array]
Cross: TypeAlias = dict[tuple[int, int], Array]  # v_ab by (a, b), a < b, as far as a party knows them

_JOINED: Final = ((0, 1), (2, 3))  # of whose shares the sums are multiplied

CHUNK: Final = 1 << 14  # elements worked on at a time: a dozen arrays of them stay in the second-level cache


class Roles(NamedTuple):
    """Who does what for one value that P_c and P_d know: it goes into z_a less a mask, which goes into z_b.

    P_b receives, P_c sends, P_d vouches.
    """

    a: int
    b: int
    c: int
    d: int


Plan: TypeAlias = list[tuple[Roles, slice]]  # for each item of an operation, roles and a stretch of elements

# For whole arrays.
_WHOLE: Final = (Roles(0, 1, 2, 3), Roles(1, 2, 3, 0), Roles(2, 3, 0, 1), Roles(3, 0, 1, 2))
# For the first half of an array, and for the second.
_HALVES: Final = (
    (Roles(0, 2, 1, 3), Roles(2, 0, 3, 1)),
    (Roles(1, 3, 2, 0), Roles(3, 1, 0, 2)),
)
# The pairs of one of 0, 1 and one of 2, 3. Each party sends one, receives one and vouches for one.
_ACROSS: Final = (Roles(2, 0, 1, 3), Roles(0, 3, 2, 1), Roles(1, 2, 3, 0), Roles(3, 1, 0, 2))


def halves(n: int) -> tuple[slice, slice]:
    """Return the first half of n elements, the longer one, and the second."""
    middle = n - n // 2
    return slice(0, middle), slice(middle, n)


def plan(n: int) -> Plan:
    """Return the items of a product of n elements."""
    parts = [(roles, slice(0, n)) for roles in _WHOLE]
    return parts + [pair for turns in _HALVES for pair in zip(turns, halves(n), strict=True)]


def plan_across(n: int) -> Plan:
    """Return the items of a product of n elements, of factors of which one is x_0 + x_1 and the other y_2 + y_3."""
    return [(roles, slice(0, n)) for roles in _ACROSS]


class Resharing:
    """Products v_ab on their way into shares of z, stretch after stretch; all holders of a key go the same way.

    Attributes:
      parts: the items.
      values: of each, its content at sender and voucher, which is written stretch after stretch; None at others.
    """

    __slots__ = ("_add", "_channel", "_group", "_purpose", "_subtract", "parts", "values")

    def __init__(self, channel: Channel, group: Group, purpose: Purpose, parts: Plan) -> None:
        self._channel = channel
        self._group = group
        self._purpose = purpose
        self.parts = parts
        self._add: np.ufunc = np.bitwise_xor if group == XOR else np.add
        self._subtract: np.ufunc = np.bitwise_xor if group == XOR else np.subtract
        self.values = [
            np.empty(where.stop - where.start, group.dtype) if channel.index in roles[2:] else None
            for roles, where in parts
        ]

    def stream(self, hidden_from: int) -> Stream:
        """Return the stream of masks of the three parties but one."""
        return self._channel.triple(hidden_from)[self._purpose]

    def take(self, start: int, cross: Cross, z: Held) -> None:
        """Mask a stretch of the products and add this party's part of them to its shares.

        Args:
          start: where the stretch begins.
          cross: the products that this party knows, each flat.
          z: shares of the stretch, flat and contiguous; overwritten.
        """
        me, group, add = self._channel.index, self._group, self._add
        size = next(iter(z.values())).size
        for value, ((a, b, _, _), where) in zip(self.values, self.parts, strict=True):
            low, high = max(where.start, start), min(where.stop, start + size)
            if low >= high or me == b:
                continue
            here = slice(low - start, high - start)
            stream = self.stream(b)
            if value is None:
                mask = np.empty(high - low, group.dtype)
                fill(group, stream, mask)
                add(z[b][here], mask, out=z[b][here])
                continue
            part = value[low - where.start : high - where.start]
            fill(group, stream, part)
            add(z[b][here], part, out=z[b][here])
            self._subtract(cross[min(a, b), max(a, b)][here], part, out=part)
            reduce(group, part)
            add(z[a][here], part, out=z[a][here])

    async def hand_over(self) -> list[tuple[int, slice, Array]]:
        """Pass the items on; return what is to be added to this party's shares: share, stretch, elements."""
        received = await self._channel.pass_on(
            [
                Passed(Item(receiver=b, sender=c, voucher=d), self._group, (where.stop - where.start,), value)
                for ((_, b, c, d), where), value in zip(self.parts, self.values, strict=True)
            ]
        )
        return [
            (roles.a, where, value)
            for (roles, where), value in zip(self.parts, received, strict=True)
            if value is not None
        ]

    async def finish(self, z: Held) -> None:
        """Pass the items on, and add what comes to this party's shares, which are flat."""
        for a, where, value in await self.hand_over():
            self._add(z[a][where], value, out=z[a][where])
        for part in z.values():
            reduce(self._group, part)


async def multiply(channel: Channel, group: RingGroup, x: Held, y: Held) -> Held:
    """Return the elementwise product of two secrets of one shape, modulo the ring."""
    shape = x[channel.others[0]].shape
    n = math.prod(shape)
    resharing = Resharing(channel, group, Purpose.PRODUCT, plan(n))
    z = _elementwise(channel, group, x, y, n, resharing)
    await resharing.finish(z)
    return {j: part.reshape(shape) for j, part in z.items()}


async def multiply_summands(
    channel: Channel, group: RingGroup, x: Held, y: Held
) -> tuple[Array | None, Array | None]:
    """Return z_0 + z_1 and z_2 + z_3 of a product of two secrets of one shape, each where it is known, flat."""
    n = math.prod(x[channel.others[0]].shape)
    resharing = Resharing(channel, group, Purpose.PRODUCT, plan_across(n))
    kept: Cross = {pair: np.empty(n, group.dtype) for pair in _JOINED if channel.index not in pair}
    z = _elementwise(channel, group, x, y, n, resharing, kept)
    await resharing.finish(z)
    return _summands(channel, group, z, kept)


async def matmul(channel: Channel, group: RingGroup, x: Held, y: Held) -> Held:
    """Return the matrix product modulo the ring; see `shape_of_matmul`."""
    shape = shape_of_matmul(channel, x, y)
    resharing = Resharing(channel, group, Purpose.PRODUCT, plan(math.prod(shape)))
    z = _zeros(channel, group, math.prod(shape))
    resharing.take(0, _of_matrices(channel, group, x, y), z)
    await resharing.finish(z)
    return {j: part.reshape(shape) for j, part in z.items()}


async def matmul_summands(
    channel: Channel, group: RingGroup, x: Held, y: Held
) -> tuple[Array | None, Array | None]:
    """Return the two summands of a matrix product, as `multiply_summands` does."""
    n = math.prod(shape_of_matmul(channel, x, y))
    resharing = Resharing(channel, group, Purpose.PRODUCT, plan_across(n))
    z, cross = _zeros(channel, group, n), _of_matrices(channel, group, x, y)
    resharing.take(0, cross, z)
    await resharing.finish(z)
    return _summands(channel, group, z, cross)


async def multiply_across(channel: Channel, group: Group, purpose: Purpose, w: Held) -> Held:
    """Return (w_0 + w_1)(w_2 + w_3), element by element."""
    shape = w[channel.others[0]].shape
    n = math.prod(shape)
    flat = {j: part.reshape(-1) for j, part in w.items()}
    product = np.bitwise_and if group == XOR else np.multiply

    def products(part: slice) -> Cross:
        return {(a, b): product(flat[a][part], flat[b][part]) for a, b in across(channel)}

    z = await reshare_across(channel, group, purpose, n, products)
    return {j: part.reshape(shape) for j, part in z.items()}


def across(channel: Channel) -> list[tuple[int, int]]:
    """Return the pairs (a, b) of one of 0, 1 and one of 2, 3 of which this party holds both shares."""
    return [(a, b) for a in (0, 1) for b in (2, 3) if channel.index not in (a, b)]


async def reshare_across(
    channel: Channel, group: Group, purpose: Purpose, n: int, products: Callable[[slice], Cross]
) -> Held:
    """Return the sum of n products over the pairs `across` as shares, flat.

    Args:
      products: returns those of a stretch that this party knows, flat.
    """
    resharing = Resharing(channel, group, purpose, plan_across(n))
    z = _zeros(channel, group, n)
    for start in range(0, n, CHUNK):
        part = slice(start, min(n, start + CHUNK))
        resharing.take(start, products(part), {j: share[part] for j, share in z.items()})
    await resharing.finish(z)
    return z


def shape_of_matmul(channel: Channel, x: Held, y: Held) -> tuple[int, ...]:
    """Return the shape of a matrix product; operands have one or two dimensions.

    Raises:
      ShapeError: shapes of which there is no product.
    """
    first = channel.others[0]
    return matmul_shape(x[first].shape, y[first].shape)


def check_shapes(x: Sequence[int], y: Sequence[int]) -> None:
    """Refuse factors of two shapes."""
    if x != y:
        raise ShapeError(f"expected two arrays of one shape, got {x} and {y}")


def _elementwise(
    channel: Channel,
    group: RingGroup,
    x: Held,
    y: Held,
    n: int,
    resharing: Resharing,
    kept: Cross | None = None,
) -> Held:
    """Take products of elements, stretch after stretch; return the shares so far, flat.

    Args:
      kept: of which pairs the products are wanted, and where to write them.
    """
    known = _known(channel)
    flat_x, flat_y = ({j: part.reshape(-1) for j, part in factor.items()} for factor in (x, y))
    z = {j: np.empty(n, group.dtype) for j in channel.others}
    scratch = np.empty((len(known) + 1, min(CHUNK, n)), group.dtype)
    for start in range(0, n, CHUNK):
        part = slice(start, min(n, start + CHUNK))
        size = part.stop - start
        t = scratch[-1, :size]
        cross: Cross = {}
        for row, (a, b) in enumerate(known):
            v = scratch[row, :size]  # sums and products wrap, as is meant
            if (a, b) in _JOINED:
                np.add(flat_x[a][part], flat_x[b][part], out=v)
                v *= np.add(flat_y[a][part], flat_y[b][part], out=t)
            else:
                np.multiply(flat_x[a][part], flat_y[b][part], out=v)
                v += np.multiply(flat_x[b][part], flat_y[a][part], out=t)
            cross[a, b] = v
        for pair in kept or {}:
            (kept or {})[pair][part] = cross[pair]
        here = {j: share[part] for j, share in z.items()}
        for share in here.values():
            share[...] = 0  # while it is about to be in the cache
        resharing.take(start, cross, here)
    return z


def _known(channel: Channel) -> list[tuple[int, int]]:
    """Return the pairs (a, b), a < b, whose products this party knows."""
    mine = channel.others
    return [(a, b) for a in mine for b in mine if a < b]


def _zeros(channel: Channel, group: Group, n: int) -> Held:
    return {j: np.zeros(n, group.dtype) for j in channel.others}


def _of_matrices(channel: Channel, group: RingGroup, x: Held, y: Held) -> Cross:
    """Return the products v_ab of matrices, flat: those across in one product [x_a | x_b] [y_b ; y_a]."""
    cross: Cross = {}
    for a, b in _known(channel):
        if (a, b) in _JOINED:
            left, right = group.add(x[a], x[b]), group.add(y[a], y[b])
        else:
            left, right = np.concatenate([x[a], x[b]], axis=-1), np.concatenate([y[b], y[a]])
        cross[a, b] = np.array(group.ring.matmul(left, right), ndmin=1).reshape(-1)
    return cross


def _summands(channel: Channel, group: RingGroup, z: Held, cross: Cross) -> tuple[Array | None, Array | None]:
    def summand(a: int, b: int) -> Array | None:
        return group.add(group.add(z[a], z[b]), cross[a, b]) if (a, b) in cross else None

    low = summand(0, 1) if channel.index in (2, 3) else None
    return low, summand(2, 3) if channel.index in (0, 1) else None
