"""Oblivious shuffle of four-party shares by four hops [LWZ11; DEK21].

In hop i the three parties but P_i draw from their key a permutation pi and masks r_j with sum zero:

  x'_j = pi(x_j) + r_j

They compute the shares that they hold. P_i holds all but x'_i. It gets each x'_j from one of the two others that hold x_j
and know pi; the other one vouches for it.

Each party misses one of the four permutations, so their composition is uniform to it. What P_i receives is masked by three
masks from the key that it does not hold.

Threat model: that of `engine`. Learns: nobody anything. Cost: 4 rounds, 3 s bytes a party for s bytes of shared array.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import ShapeError
from secagg.mpc.four.blame import Item
from secagg.mpc.four.broadcast import PARTIES
from secagg.mpc.four.channel import Channel
from secagg.mpc.four.keys import Purpose
from secagg.mpc.four.opening import total
from secagg.mpc.four.shares import FourShares, canonical
from secagg.mpc.groups import Array

SHUFFLE_ROUNDS: Final = PARTIES


async def shuffle(channel: Channel, x: FourShares) -> FourShares:
    """Return the rows of `x` in an order that nobody knows, separately in each bucket.

    Args:
      x: shape (buckets, rows, ...); bucket b of the result holds the rows of bucket b of `x`.

    Raises:
      ShapeError: fewer than two dimensions.
    """
    if len(x.shape) < 2:
        raise ShapeError(f"expected shares of shape (buckets, rows, ...), got {x.shape}")
    for i in range(PARTIES):
        x = await _hop(channel, x, i)
    return x


def order_of_hop(channel: Channel, i: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return a uniform order of the rows of each bucket, which all but P_i draw."""
    return channel.triple(i)[Purpose.SHUFFLE_ORDER].permutations(shape[0], shape[1])


async def _hop(channel: Channel, x: FourShares, i: int) -> FourShares:
    group, shape = x.group, x.shape
    # The share x'_j by who sends it to P_i and who vouches: each of the three does both once.
    first, second, third = ((i + step) % PARTIES for step in (1, 2, 3))
    items = [
        Item(receiver=i, sender=sender, voucher=voucher)
        for sender, voucher in ((second, third), (third, first), (first, second))
    ]
    shares = [first, second, third]
    parts: dict[int, Array] = {}
    if channel.index != i:
        key = channel.triple(i)
        order = order_of_hop(channel, i, shape)
        masks = {j: group.draw(key[Purpose.SHUFFLE], shape) for j in shares}
        masks[i] = group.subtract(np.zeros(shape, group.dtype), total(group, list(masks.values())))
        for j, part in x.parts.items():
            moved = np.stack([part[b].take(order[b], axis=0) for b in range(shape[0])])
            parts[j] = group.add(moved, masks[j])
    values = [
        parts[j] if channel.index in (item.sender, item.voucher) else None
        for j, item in zip(shares, items, strict=True)
    ]
    received = await channel.pass_on(group, items, values, [shape] * len(items))
    for j, came in zip(shares, received, strict=True):
        if came is not None:
            parts[j] = canonical(group, came)
    if channel.index != i:
        # Copies, for contents are kept for evidence, and what is returned may change.
        parts = {j: part.copy() for j, part in parts.items()}
    return FourShares(group, parts)
