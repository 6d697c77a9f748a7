"""Oblivious shuffle of four-party shares by four hops [LWZ11].

In hop i the three parties but P_i draw from their key a permutation pi and masks r_j with sum zero:

  x'_j = pi(x_j) + r_j

pi is the same for all arrays. They compute the shares that they hold. P_i holds all but x'_i. It gets each x'_j from one of
the two others that hold x_j and know pi; the other one vouches for it.

Each party misses one of the four permutations, so their composition is uniform to it. What P_i receives is masked by three
masks from the key that it does not hold.

Threat model: that of `engine`. Learns: nobody anything. Cost: 4 rounds, 3 s bytes a party for s bytes of shared array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import ShapeError
from secagg.mpc.four.blame import Item
from secagg.mpc.four.broadcast import PARTIES
from secagg.mpc.four.channel import Channel, Passed
from secagg.mpc.four.keys import Purpose
from secagg.mpc.four.shares import Held, canonical, total
from secagg.mpc.groups import Group

SHUFFLE_ROUNDS: Final = PARTIES


async def shuffle(channel: Channel, arrays: Sequence[tuple[Group, Held]]) -> list[Held]:
    """Return the rows of arrays in an order that nobody knows, the same for all arrays, separately in each bucket.

    Args:
      arrays: of shapes (buckets, rows, ...); bucket b of a result holds the rows of bucket b of the array.

    Raises:
      ShapeError: no arrays, fewer than two dimensions, or other numbers of buckets and rows than the first array has.
    """
    shapes = [next(iter(parts.values())).shape for _, parts in arrays]
    if not shapes or min(map(len, shapes)) < 2 or len({shape[:2] for shape in shapes}) != 1:
        raise ShapeError(
            f"expected shares of shapes (buckets, rows, ...), with as many buckets and rows each, got {shapes}"
        )
    for i in range(PARTIES):
        arrays = await _hop(channel, arrays, i)
    return [parts for _, parts in arrays]


def order_of_hop(channel: Channel, i: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return a uniform order of the rows of each bucket, which all but P_i draw."""
    return channel.triple(i)[Purpose.SHUFFLE_ORDER].permutations(shape[0], shape[1])


async def _hop(channel: Channel, arrays: Sequence[tuple[Group, Held]], i: int) -> list[tuple[Group, Held]]:
    # The share x'_j by who sends it to P_i and who vouches: each of the three does both once.
    first, second, third = ((i + step) % PARTIES for step in (1, 2, 3))
    items = [
        Item(receiver=i, sender=sender, voucher=voucher)
        for sender, voucher in ((second, third), (third, first), (first, second))
    ]
    turns = [first, second, third]
    order = None
    passed, moved = [], []
    for group, held in arrays:
        shape = next(iter(held.values())).shape
        parts: Held = {}
        if channel.index != i:
            order = order_of_hop(channel, i, shape) if order is None else order
            parts = _permuted(channel, group, held, i, turns, order)
        for j, item in zip(turns, items, strict=True):
            value = parts[j] if channel.index in (item.sender, item.voucher) else None
            passed.append(Passed(item, group, shape, value))
        moved.append((group, parts))
    received = iter(await channel.pass_on(passed))
    results = []
    for group, parts in moved:
        for j in turns:
            came = next(received)
            if came is not None:
                parts[j] = canonical(group, came)
        if channel.index != i:
            # Copies, for contents are kept for evidence, and what is returned may change.
            parts = {j: part.copy() for j, part in parts.items()}
        results.append((group, {j: parts[j] for j in channel.others}))
    return results


def _permuted(
    channel: Channel, group: Group, held: Held, i: int, turns: Sequence[int], order: NDArray[np.int64]
) -> Held:
    """Return pi(x_j) + r_j; the masks r_j add up to zero."""
    shape = next(iter(held.values())).shape
    stream = channel.triple(i)[Purpose.SHUFFLE]
    masks = {j: group.draw(stream, shape) for j in turns}
    masks[i] = group.subtract(np.zeros(shape, group.dtype), total(group, list(masks.values())))
    parts = {}
    for j, part in held.items():
        rows = np.stack([part[b].take(order[b], axis=0) for b in range(shape[0])]) if shape[0] else part
        parts[j] = group.add(rows, masks[j])
    return parts
