"""What two parties know, as shares [DEK21].

v is known to P_c and P_d; P_a and P_b are the two others. r from the key of P_a, P_c and P_d is z_b. z_a = v - r, which P_b,
P_c and P_d hold: P_c sends it to P_b, and P_d vouches for it.

Each secret has two such summands: x_0 + x_1, known to P_2 and P_3, and x_2 + x_3, known to P_0 and P_1. Of either, one of
the two who know it sends the first half and the other one the second. So two summands fill all four shares of their sum.

Private: P_b does not hold the key of r; P_a receives nothing.
Threat model: that of `engine`. Learns: nobody anything.
Cost: 1 round, s / 2 bytes a party for two summands of s bytes, rounded to whole elements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from secagg.mpc.four.blame import Item
from secagg.mpc.four.channel import Channel, Passed
from secagg.mpc.four.keys import Purpose
from secagg.mpc.four.products import Plan, Roles, halves
from secagg.mpc.four.shares import Held, canonical, fill
from secagg.mpc.groups import Array, Group

# Of the first half and of the second.
_LOW: Final = (Roles(0, 1, 2, 3), Roles(1, 0, 3, 2))
_HIGH: Final = (Roles(2, 3, 0, 1), Roles(3, 2, 1, 0))


class Summands(NamedTuple):
    """Two values of one shape: `low`, which P_2 and P_3 know, and `high`, which P_0 and P_1 know; None elsewhere."""

    group: Group
    shape: tuple[int, ...]
    low: Array | None
    high: Array | None


def plan_summands(n: int) -> Plan:
    """Return the items of two summands of n elements."""
    return [pair for turns in (_LOW, _HIGH) for pair in zip(turns, halves(n), strict=True)]


async def share_summands(channel: Channel, purpose: Purpose, values: Sequence[Summands]) -> list[Held]:
    """Return the sums low + high as shares, all in one round.

    The shares 0 and 1 are shares of the low summand, and the shares 2 and 3 of the high one.
    """
    me = channel.index
    passed, results, targets = [], [], []
    for group, shape, low, high in values:
        n = math.prod(shape)
        parts = {j: np.empty(n, group.dtype) for j in channel.others}
        results.append({j: part.reshape(shape) for j, part in parts.items()})
        for number, (roles, where) in enumerate(plan_summands(n)):
            a, b, c, d = roles
            known = (low, high)[number // 2]
            rest = None
            if me != b:
                fill(group, channel.triple(b)[purpose], parts[b][where])
            if known is not None:
                rest = group.subtract(known.reshape(-1)[where], parts[b][where])
                parts[a][where] = rest  # a copy: what is passed on is kept for evidence
            shape_of_item = (where.stop - where.start,)
            passed.append(Passed(Item(receiver=b, sender=c, voucher=d), group, shape_of_item, rest))
            targets.append((group, parts, a, where))
    received = await channel.pass_on(passed)
    for (group, parts, a, where), came in zip(targets, received, strict=True):
        if came is not None:
            parts[a][where] = canonical(group, came)
    return results


def summands(channel: Channel, group: Group, x: Held) -> tuple[Array | None, Array | None]:
    """Return x_0 + x_1 where it is known, else None, and x_2 + x_3 where that is."""
    low = group.add(x[0], x[1]) if channel.index in (2, 3) else None
    high = group.add(x[2], x[3]) if channel.index in (0, 1) else None
    return low, high
