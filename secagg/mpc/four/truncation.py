"""Division of four-party shares by 2**f, without failures from wrapping [as in `mpc.three.truncation`].

z = s + t, with s known to P_2 and P_3 and t to P_0 and P_1: two shares each, or the summands that `products` makes of a
product. k: bits of the ring.

1. A = s + 2**(k-2) + 2**f - 1 and B = t. Each is shared as a quotient by 2**f and a top bit, this modulo 2**f.
2. w = m_A + m_B - m_A m_B modulo 2**f tells whether A + B wraps: one product of known values.

Result: A >> f + B >> f - w 2**(k-f) - 2**(k-2-f), which is floor(z / 2**f) or one more, and exact for multiples of 2**f.

*Exact* (`shift`): A = s + 2**(k-2) instead. The carry of the low f bits of A and B, as `comparison` finds it, is added.

Threat model: that of `engine`. Every message is vouched for. Learns: nobody anything. P_2 and P_3 know the low bits of A,
which decide the rounding of `truncate`, and P_0 and P_1 those of B. docs/soundness-four.md says what an opened result shows
them.

Cost (s: bytes of the array, w: of as many words modulo 2**f): 2 rounds, s / 2 + 3 w / 2 bytes a party. A product with
truncation: 3 rounds, and s more. `shift`: also a carry and its conversion, which go before step 2.
"""

from __future__ import annotations

import math

import numpy as np

from secagg.mpc.four.channel import Channel
from secagg.mpc.four.keys import Purpose
from secagg.mpc.four.known import Summands, share_summands
from secagg.mpc.four.products import multiply_across
from secagg.mpc.four.shares import Held
from secagg.mpc.groups import Array
from secagg.mpc.numbers import RingGroup, truncation_range
from secagg.ring import Ring


async def truncate(
    channel: Channel,
    group: RingGroup,
    shape: tuple[int, ...],
    summands: tuple[Array | None, Array | None],
    frac_bits: int,
) -> Held:
    """Return (s + t) / 2**frac_bits, rounded down or up.

    Args:
      summands: s at P_2 and P_3, t at P_0 and P_1, flat. s + t must lie in `truncation_range`; beyond it the result is
        wrong by a multiple of 2**(bits - frac_bits).

    Raises:
      UsageError: frac_bits out of range.
    """
    return await quotient(channel, group, shape, summands, frac_bits, (1 << frac_bits) - 1)


async def quotient(
    channel: Channel,
    group: RingGroup,
    shape: tuple[int, ...],
    summands: tuple[Array | None, Array | None],
    frac_bits: int,
    more: int,
) -> Held:
    """Return floor((s + more) / 2**f) + floor(t / 2**f), as it is when s + more + t does not wrap below zero."""
    ring, n = group.ring, math.prod(shape)
    truncation_range(ring, frac_bits)
    words = RingGroup(Ring(frac_bits))
    down, top = ring.dtype.type(frac_bits), ring.dtype.type(ring.bits - 1)
    low, high = summands
    if low is not None:
        low = np.asarray(ring.reduce(low + ring.dtype.type((1 << ring.bits - 2) + more)))

    def msb(value: Array | None) -> Array | None:
        return None if value is None else (value >> top).astype(words.dtype)

    def shifted(value: Array | None) -> Array | None:
        return None if value is None else np.asarray(value >> down)

    quotients, tops = await share_summands(
        channel,
        Purpose.TRUNCATION,
        [
            Summands(group, (n,), shifted(low), shifted(high)),
            Summands(words, (n,), msb(low), msb(high)),
        ],
    )
    both = await multiply_across(channel, words, Purpose.TRUNCATION, tops)
    up = ring.dtype.type(ring.bits - frac_bits)
    back = ring.dtype.type(1 << ring.bits - 2 - frac_bits)
    result = {}
    for j in channel.others:
        # What stands above f bits of a word falls off.
        wraps = (tops[j] - both[j]).astype(ring.dtype) << up
        part = quotients[j] - wraps
        result[j] = np.asarray(ring.reduce(part - back if j == 0 else part)).reshape(shape)
    return result
