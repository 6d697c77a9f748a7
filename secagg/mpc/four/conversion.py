"""Bits of four-party shares to ring elements 0 and 1.

b = u xor v, where P_2 and P_3 know u = b_0 xor b_1, and P_0 and P_1 know v = b_2 xor b_3.

1. u and v become shares of ring elements.
2. b = u + v - 2 u v: one product.

Threat model: that of `engine`. Learns: nobody anything.
Every message is vouched for. Cost: 2 rounds; two elements and a product for each bit.
"""

from __future__ import annotations

import numpy as np

from secagg.errors import ShapeError
from secagg.mpc.four.channel import Channel
from secagg.mpc.four.keys import Purpose
from secagg.mpc.four.known import HIGH, LOW, share_known, summands
from secagg.mpc.four.products import multiply
from secagg.mpc.four.shares import FourShares
from secagg.mpc.groups import XOR, Array
from secagg.mpc.numbers import RingGroup
from secagg.ring import unpack


async def from_bits(channel: Channel, bits: FourShares, group: RingGroup, n: int) -> FourShares:
    """Return bits, 64 a word, as ring elements 0 and 1, shape (n,).

    Args:
      bits: shape (ceil(n / 64),); lanes from n up are ignored.

    Raises:
      ShapeError: not bits, or of another shape.
    """
    if bits.group is not XOR or bits.shape != (-(-n // 64),):
        raise ShapeError(f"expected {n} bits in words ({-(-n // 64)},), got {bits!r} of {bits.group.dtype}")
    dtype = group.dtype

    def elements(words: Array | None) -> Array | None:
        return None if words is None else np.asarray(unpack(words, n).astype(dtype))

    low, high = summands(channel, bits)
    u, v = await share_known(
        channel, group, Purpose.CONVERSION, [(LOW, elements(low)), (HIGH, elements(high))], (n,)
    )
    both = await multiply(channel, u, v)
    return u + v - both - both
