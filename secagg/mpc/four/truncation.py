"""Division of four-party shares by 2**f, without failures from wrapping [DEK21; the wrap as in `mpc.three.truncation`].

z = s + t with s = z_0 + z_1 known to P_2 and P_3, and t = z_2 + z_3 known to P_0 and P_1.

1. A = s + 2**(k-2) + 2**f - 1 and B = t. Each is shared as a quotient by 2**f and a top bit.
2. w = m_A + m_B - m_A m_B tells whether A + B wraps: one product.

Result: A >> f + B >> f - w 2**(k-f) - 2**(k-2-f), which is floor(z / 2**f) or one more, and exact for multiples of 2**f.

Threat model: that of `engine`.
Every message is vouched for. Who learns what: nobody anything. P_2 and P_3 know the low bits of A, which decide the
rounding, and P_0 and P_1 those of B; docs/soundness-four.md says what an opened result shows them.

Cost: 2 rounds; four elements and a product for each.
"""

from __future__ import annotations

import numpy as np

from secagg.mpc.four.channel import Channel
from secagg.mpc.four.inputs import public_shares
from secagg.mpc.four.keys import Purpose
from secagg.mpc.four.known import HIGH, HIGH_TURNED, LOW, LOW_TURNED, share_known, summands
from secagg.mpc.four.products import multiply, ring_group
from secagg.mpc.four.shares import FourShares
from secagg.mpc.groups import Array
from secagg.mpc.numbers import truncation_range


async def truncate(channel: Channel, z: FourShares, frac_bits: int) -> FourShares:
    """Return z / 2**frac_bits, rounded down or up.

    Args:
      z: must lie in `truncation_range`; beyond it the result is wrong by a multiple of 2**(bits - frac_bits).
      frac_bits: fractional bits to take off.

    Raises:
      ShapeError: bits.
      UsageError: frac_bits out of range.
    """
    group = ring_group(z)
    ring = group.ring
    truncation_range(ring, frac_bits)
    shift, top = ring.dtype.type(frac_bits), ring.dtype.type(ring.bits - 1)
    offset = np.full(z.shape, (1 << ring.bits - 2) + (1 << frac_bits) - 1, ring.dtype)

    def quotient(value: Array | None) -> Array | None:
        return None if value is None else np.asarray(value >> shift)

    def msb(value: Array | None) -> Array | None:
        return None if value is None else np.asarray(value >> top)

    low, high = summands(channel, z)
    if low is not None:
        low = group.add(low, offset)
    quotient_a, quotient_b, top_a, top_b = await share_known(
        channel,
        group,
        Purpose.TRUNCATION,
        [
            (LOW, quotient(low)),
            (HIGH, quotient(high)),
            (LOW_TURNED, msb(low)),
            (HIGH_TURNED, msb(high)),
        ],
        z.shape,
    )
    wraps = top_a + top_b - await multiply(channel, top_a, top_b)
    shift = ring.dtype.type(ring.bits - frac_bits)
    back = public_shares(channel, group, np.full(z.shape, 1 << ring.bits - 2 - frac_bits, ring.dtype))
    return quotient_a + quotient_b - wraps.each(lambda part: ring.reduce(np.asarray(part << shift))) - back
