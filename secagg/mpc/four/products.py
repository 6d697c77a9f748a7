"""Products of four-party shares, of elements, matrices and bits [DEK21, section 3.3].

z = x y is the sum of x_a y_a over all a, and of v_ab = x_a y_b + x_b y_a over all pairs {a, b}.

- x_a y_a is known to all but P_a: it goes into z_a, and nothing is sent.
- v_ab is known to the two others, P_c and P_d. The key k_b of P_a, P_c and P_d gives r, which goes into z_b. v_ab - r goes
  into z_a, which P_b, P_c and P_d hold: P_c sends it to P_b, and P_d vouches for it.

v_ab = (x_a + x_b)(y_a + y_b) - x_a y_a - x_b y_b, so that six products at each party are enough.

Private: P_b receives v_ab - r and does not hold k_b. The r are fresh for each pair, so the shares of z are uniform but
for their sum: what r_ab adds to z_b it takes from z_a, and pairs connect all four.

Cost: 1 round. Of six elements each party sends one or two. The pairs {0, 2} and {1, 3} exchange their roles for one half of
the elements. That makes 1.5 a party, rounded to whole elements.

Threat model: that of `engine`. Learns: nobody anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import numpy as np

from secagg.errors import ShapeError
from secagg.mpc.four.blame import Item
from secagg.mpc.four.channel import Channel
from secagg.mpc.four.keys import Purpose
from secagg.mpc.four.shares import FourShares
from secagg.mpc.groups import XOR, Array, Group
from secagg.mpc.numbers import RingGroup, matmul_shape

Product: TypeAlias = Callable[[Array, Array], Array]

# (a, b, c, d) for whole arrays: P_b receives, P_c sends, P_d vouches.
_WHOLE: Final = ((0, 1, 2, 3), (1, 2, 3, 0), (2, 3, 0, 1), (3, 0, 1, 2))
# For the first half of an array, and for the second.
_HALVES: Final = (((0, 2, 1, 3), (2, 0, 3, 1)), ((1, 3, 2, 0), (3, 1, 0, 2)))


def halves(n: int) -> tuple[slice, slice]:
    """Return the first half of n elements, the longer one, and the second."""
    middle = n - n // 2
    return slice(0, middle), slice(middle, n)


def plan(n: int) -> list[tuple[tuple[int, int, int, int], slice]]:
    """Return (a, b, c, d) and the stretch of n elements that they are about, for each item of a product."""
    parts = [(roles, slice(0, n)) for roles in _WHOLE]
    return parts + [pair for turns in _HALVES for pair in zip(turns, halves(n), strict=True)]


async def multiply(channel: Channel, x: FourShares, y: FourShares) -> FourShares:
    """Return the elementwise product modulo the ring.

    Raises:
      ShapeError: two shapes.
      UsageError: two groups, or bits.
    """
    x.check_same(y)
    ring = ring_group(x).ring
    if x.shape != y.shape:
        raise ShapeError(f"expected two arrays of one shape, got {x.shape} and {y.shape}")

    def product(a: Array, b: Array) -> Array:
        return np.asarray(ring.reduce(np.asarray(np.multiply(a, b))))

    return await _reshare(channel, x.group, Purpose.PRODUCT, *_locally(channel, x, y, product), x.shape)


async def matmul(channel: Channel, x: FourShares, y: FourShares) -> FourShares:
    """Return the matrix product modulo the ring; operands have one or two dimensions.

    Raises:
      ShapeError: shapes of which there is no product.
      UsageError: two groups, or bits.
    """
    x.check_same(y)
    ring = ring_group(x).ring
    shape = matmul_shape(x.shape, y.shape)

    def product(a: Array, b: Array) -> Array:
        return np.asarray(ring.matmul(a, b)).reshape(shape)

    return await _reshare(channel, x.group, Purpose.PRODUCT, *_locally(channel, x, y, product), shape)


async def conjunction(channel: Channel, pairs: Sequence[tuple[FourShares, FourShares]]) -> list[FourShares]:
    """Return the ANDs of several pairs of arrays of bits, 64 a word, in one round.

    Args:
      pairs: (x, y) of one shape.

    Raises:
      ShapeError: two shapes.
      UsageError: not bits.
    """
    diagonals: list[dict[int, Array]] = []
    crosses: list[dict[tuple[int, int], Array]] = []
    if not pairs:
        return []
    for x, y in pairs:
        x.check_same(y)
        if x.group is not XOR:
            raise ShapeError(f"expected bits, 64 a word, got {x!r} in {x.group.dtype}")
        if x.shape != y.shape:
            raise ShapeError(f"expected bits of one shape, got {x.shape} and {y.shape}")
        diagonal, cross = _locally(channel, x, y, lambda a, b: np.asarray(np.bitwise_and(a, b)))
        diagonals.append(diagonal)
        crosses.append(cross)
    total = sum(x.size for x, _ in pairs)
    joined = await _reshare(
        channel,
        XOR,
        Purpose.CONJUNCTION,
        {j: _joined([diagonal[j] for diagonal in diagonals]) for j in channel.others},
        {key: _joined([cross[key] for cross in crosses]) for key in crosses[0]},
        (total,),
    )
    results, done = [], 0
    for x, _ in pairs:
        cut = slice(done, done + x.size)
        # A copy, so that work in place on one result touches no other.
        results.append(FourShares(XOR, {j: z[cut].reshape(x.shape).copy() for j, z in joined.parts.items()}))
        done += x.size
    return results


def ring_group(x: FourShares) -> RingGroup:
    """Return the ring that an array lives in."""
    if not isinstance(x.group, RingGroup):
        raise ShapeError(f"expected elements of a ring, got {x!r} of bits")
    return x.group


def _joined(parts: Sequence[Array]) -> Array:
    return np.concatenate([part.reshape(-1) for part in parts])


def _locally(
    channel: Channel, x: FourShares, y: FourShares, product: Product
) -> tuple[dict[int, Array], dict[tuple[int, int], Array]]:
    """Return x_a y_a by a, and v_ab by (a, b), a < b, as far as this party knows them."""
    group = x.group
    mine = channel.others
    diagonal = {a: product(x.parts[a], y.parts[a]) for a in mine}
    cross = {}
    for a, b in ((a, b) for a in mine for b in mine if a < b):
        both = product(group.add(x.parts[a], x.parts[b]), group.add(y.parts[a], y.parts[b]))
        cross[a, b] = group.subtract(group.subtract(both, diagonal[a]), diagonal[b])
    return diagonal, cross


async def _reshare(
    channel: Channel,
    group: Group,
    purpose: Purpose,
    diagonal: dict[int, Array],
    cross: dict[tuple[int, int], Array],
    shape: tuple[int, ...],
) -> FourShares:
    """Return z from x_a y_a and v_ab; `diagonal` holds this party's shares of z at the end."""
    n = int(np.prod(shape, dtype=np.int64))
    parts = plan(n)
    z = {j: np.ascontiguousarray(value).reshape(-1) for j, value in diagonal.items()}
    items, values = [], []
    for (a, b, c, d), where in parts:
        items.append(Item(receiver=b, sender=c, voucher=d))
        value = None
        if channel.index != b:
            mask = group.draw(channel.triple(b)[purpose], (where.stop - where.start,))
            if channel.index in (c, d):
                v = cross[min(a, b), max(a, b)].reshape(-1)[where]
                value = group.subtract(v, mask)
                z[a][where] = group.add(z[a][where], value)
            z[b][where] = group.add(z[b][where], mask)
        values.append(value)
    shapes = [(where.stop - where.start,) for _, where in parts]
    received = await channel.pass_on(group, items, values, shapes)
    for ((a, _, _, _), where), value in zip(parts, received, strict=True):
        if value is not None:
            z[a][where] = group.add(z[a][where], value)
    return FourShares(group, {j: value.reshape(shape) for j, value in z.items()})
