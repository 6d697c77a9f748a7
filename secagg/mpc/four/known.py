"""What two parties know, as shares [DEK21, joint input].

v is known to P_c and P_d; P_a and P_b are the two others. r from the key of P_a, P_c and P_d is z_b. z_a = v - r, which P_b,
P_c and P_d hold: P_c sends it to P_b, and P_d vouches for it. The other two shares are zero.

Private: P_b does not hold the key of r; P_a receives nothing.
Threat model: that of `engine`. Learns: nobody anything.
Cost: 1 round, s bytes by P_c for s bytes of array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from secagg.mpc.four.blame import Item
from secagg.mpc.four.channel import Channel
from secagg.mpc.four.keys import Purpose
from secagg.mpc.four.shares import FourShares, canonical
from secagg.mpc.groups import Array, Group


class Roles(NamedTuple):
    """Who does what for one value: P_c and P_d know it, P_c sends to P_b, P_d vouches."""

    a: int
    b: int
    c: int
    d: int


# x_0 + x_1 is known to P_2 and P_3, and x_2 + x_3 to P_0 and P_1.
LOW = Roles(0, 1, 2, 3)
HIGH = Roles(2, 3, 0, 1)
# The same values, with other senders and receivers.
LOW_TURNED = Roles(1, 0, 3, 2)
HIGH_TURNED = Roles(3, 2, 1, 0)


async def share_known(
    channel: Channel,
    group: Group,
    purpose: Purpose,
    known: Sequence[tuple[Roles, Array | None]],
    shape: tuple[int, ...],
) -> list[FourShares]:
    """Return values that two parties each know as shares, all in one round.

    Args:
      known: roles, and the value at those who know it, None at the others; each of `shape`.
    """
    items, values, parts = [], [], []
    for (a, b, c, d), value in known:
        items.append(Item(receiver=b, sender=c, voucher=d))
        held = {j: np.zeros(shape, group.dtype) for j in channel.others}
        rest = None
        if channel.index != b:
            held[b] = group.draw(channel.triple(b)[purpose], shape)
        if value is not None:
            rest = group.subtract(value, held[b])
            held[a] = rest.copy()  # kept for evidence; what is returned may change
        values.append(rest)
        parts.append(held)
    received = await channel.pass_on(group, items, values, [shape] * len(items))
    for ((a, _, _, _), _), held, came in zip(known, parts, received, strict=True):
        if came is not None:
            held[a] = canonical(group, came)
    return [FourShares(group, held) for held in parts]


def summands(channel: Channel, x: FourShares) -> tuple[Array | None, Array | None]:
    """Return x_0 + x_1 where it is known, else None, and x_2 + x_3 where that is."""
    low = x.group.add(x.parts[0], x.parts[1]) if channel.index in LOW[2:] else None
    high = x.group.add(x.parts[2], x.parts[3]) if channel.index in HIGH[2:] else None
    return low, high
