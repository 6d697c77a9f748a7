"""Sign, equality and bits of four-party shares.

z = s + t with s = z_0 + z_1, which P_2 and P_3 know, and t = z_2 + z_3, which P_0 and P_1 know. The bits of both become
shares under XOR, of which the bits of s fill two and those of t the other two.

*Carry* of s + t: a bit generates one if it is set in both, and sends one on if it is set in one. The first is a product of
known values. A tree over the bits finds the carry: the highest bit that does not send on decides.
*Sign*: the top bits, exclusive-ored with the carry of the bits below.
*Equality*: x = 0 if s = -t. An OR tree tells whether a bit of s differs from that of -t.
*Bits*: the sum of both, by an adder.

Threat model: that of `engine`. Learns: nobody anything; every message is one of `known` or of `products`.
Cost: 1 round and b / 2 bits a party for b bits of each summand. A carry takes a round and a bit for each bit of a summand
more, and the tree.
"""

from __future__ import annotations

from secagg.mpc.bits import add, any_plane, decide
from secagg.mpc.four.channel import Channel
from secagg.mpc.four.conversion import share_planes
from secagg.mpc.four.keys import Purpose
from secagg.mpc.four.products import multiply_across
from secagg.mpc.four.shares import Held, held, shares
from secagg.mpc.groups import XOR
from secagg.mpc.numbers import RingGroup
from secagg.mpc.primitives import Primitives, Shares, ring_of


async def negative(engine: Primitives, channel: Channel, x: Shares) -> Shares:
    """Return whether elements, shape (n,), are negative in two's complement, as bits, shape (ceil(n / 64),)."""
    group = ring_of(x)
    s, t = await share_planes(channel, group, held(channel.index, x), group.ring.bits)
    top = shares(engine, XOR, {j: s[j][-1] ^ t[j][-1] for j in channel.others})
    if group.ring.bits == 1:
        return top
    return top + await _carry(
        engine,
        channel,
        {j: part[:-1] for j, part in s.items()},
        {j: part[:-1] for j, part in t.items()},
    )


async def carry_of(engine: Primitives, channel: Channel, group: RingGroup, x: Held, bits: int) -> Shares:
    """Return the carry of the lowest bits of x_0 + x_1 and of x_2 + x_3, shape (ceil(n / 64),)."""
    s, t = await share_planes(channel, group, x, bits)
    return await _carry(engine, channel, s, t)


async def _carry(engine: Primitives, channel: Channel, s: Held, t: Held) -> Shares:
    generates = await multiply_across(channel, XOR, Purpose.COMPARISON, s, t)
    sends_on = shares(engine, XOR, {j: s[j][1:] ^ t[j][1:] for j in channel.others})
    return await decide(shares(engine, XOR, generates), ~sends_on)


async def zero(engine: Primitives, channel: Channel, x: Shares) -> Shares:
    """Return whether elements, shape (n,), are zero, as bits, shape (ceil(n / 64),)."""
    group = ring_of(x)
    s, t = await share_planes(channel, group, held(channel.index, x), group.ring.bits, negate=True)
    differ = await any_plane(shares(engine, XOR, {j: s[j] ^ t[j] for j in channel.others}))
    return ~differ


async def to_bits(engine: Primitives, channel: Channel, x: Shares) -> Shares:
    """Return the bits of elements, shape (n,), lowest first, shape (bits, ceil(n / 64))."""
    group = ring_of(x)
    s, t = await share_planes(channel, group, held(channel.index, x), group.ring.bits)
    return await add([shares(engine, XOR, s), shares(engine, XOR, t)])
