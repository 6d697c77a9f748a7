"""Bits of four-party shares to ring elements 0 and 1, and the bits of a ring element's two summands.

**Bits to ring elements.** b = u xor v, where P_2 and P_3 know u = b_0 xor b_1, and P_0 and P_1 know v = b_2 xor b_3.

1. u and v become shares of ring elements.
2. b = u + v - 2 u v: one product of known values.

Cost: 2 rounds, 1.5 elements a party for each bit.

**Bits of the summands** s = z_0 + z_1, which P_2 and P_3 know, and t = z_2 + z_3, which P_0 and P_1 know: `comparison` works
on their shares. Cost: 1 round, and half a plane a party for a plane of each.

Threat model: that of `engine`. Learns: nobody anything. Every message is vouched for.
"""

from __future__ import annotations

import numpy as np

from secagg.errors import ShapeError
from secagg.mpc.four.channel import Channel
from secagg.mpc.four.keys import Purpose
from secagg.mpc.four.known import Summands, share_summands, summands
from secagg.mpc.four.products import multiply_across
from secagg.mpc.four.shares import Held, held
from secagg.mpc.groups import XOR, Array
from secagg.mpc.numbers import RingGroup
from secagg.mpc.primitives import Shares, bits_of
from secagg.ring import to_planes, unpack


async def from_bits(channel: Channel, bits: Shares, group: RingGroup, n: int) -> Held:
    """Return bits, 64 a word, as ring elements 0 and 1, shape (n,).

    Args:
      bits: shape (ceil(n / 64),); lanes from n up are ignored.

    Raises:
      ShapeError: not bits, or of another shape.
    """
    if bits_of(bits).shape != (-(-n // 64),):
        raise ShapeError(f"expected {n} bits in words ({-(-n // 64)},), got {bits.shape}")
    dtype = group.dtype

    def elements(words: Array | None) -> Array | None:
        return None if words is None else np.asarray(unpack(words, n).astype(dtype))

    low, high = summands(channel, XOR, held(channel.index, bits))
    (total,) = await share_summands(
        channel, Purpose.CONVERSION, [Summands(group, (n,), elements(low), elements(high))]
    )
    both = await multiply_across(channel, group, Purpose.CONVERSION, total)
    return {j: np.asarray(group.ring.reduce(total[j] - both[j] - both[j])) for j in channel.others}


async def share_planes(channel: Channel, group: RingGroup, x: Held, *, negate: bool = False) -> Held:
    """Return the bits of s = x_0 + x_1, in slices, exclusive-ored with those of t = x_2 + x_3, or of -t, as shares.

    Args:
      x: elements, shape (n,).

    Returns shape (bits, ceil(n / 64)); the shares 0 and 1 are those of the bits of s.
    """
    n = x[channel.others[0]].size

    def planes(value: Array | None, sign: bool) -> Array | None:
        if value is None:
            return None
        elements = np.negative(value) if sign else value
        return to_planes(elements.astype(np.uint64, copy=False), group.ring.bits)

    low, high = summands(channel, group, x)
    shape = (group.ring.bits, -(-n // 64))
    (both,) = await share_summands(
        channel,
        Purpose.CONVERSION,
        [Summands(XOR, shape, planes(low, False), planes(high, negate))],
    )
    return both
