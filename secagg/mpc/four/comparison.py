"""Sign, equality and bits of four-party shares.

z = s + t with s = z_0 + z_1, which P_2 and P_3 know, and t = z_2 + z_3, which P_0 and P_1 know.

**Carry** of the low bits of s and t. They are cut into digits of D values each; the lowest is padded with zero bits.

  1. P_2 and P_3 share [s_d = v] for each digit and v = 1..D-1, P_0 and P_1 share [t_d >= v] (`known`).
  2. A digit generates a carry if s_d + t_d >= D, and sends one on if s_d + t_d = D - 1. Both are sums of products of what
     the one two and the other two know. Each takes as many bytes as one such product (`products.reshare_across`).
  3. A tree over the digits: the highest digit that does not send on decides.

  generates: the sum over v = 1..D-1 of [s_d = v] [t_d >= D - v]
  sends on:  the sum over v = 0..D-1 of [s_d = v] [t_d = D - 1 - v]

*Sign*: the top bits of s and t, exclusive-ored with the carry of the bits below.
*Equality*: x = 0 if s = -t. An OR tree tells whether a bit of s differs from that of -t.
*Bits*: the sum of both, by an adder.

Threat model: that of `engine`. Learns: nobody anything; every message is one of `known` or of `products`.
Cost at 64 bits: a sign takes 190 bits a party and 6 rounds with digits of 4 bits, 168 and 7 with digits of 3.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from secagg.mpc.bits import FEW, ONES, add, any_plane, decide
from secagg.mpc.four.channel import Channel
from secagg.mpc.four.conversion import share_planes
from secagg.mpc.four.keys import Purpose
from secagg.mpc.four.known import Summands, share_summands, summands
from secagg.mpc.four.products import Cross, across, reshare_across
from secagg.mpc.four.shares import Held, held, shares
from secagg.mpc.groups import XOR, Array
from secagg.mpc.numbers import RingGroup
from secagg.mpc.primitives import Primitives, Shares, ring_of
from secagg.ring import U64, to_planes

# A bit more in a digit saves a round of the tree, and doubles what is shared in step 1.
MANY: Final = 1 << 15


class Digits:
    """How the bits of numbers are cut.

    Attributes:
      count: how many digits.
      pad: zero bits below the lowest.
    """

    __slots__ = ("bits", "count", "pad", "values")

    def __init__(self, n: int, bits: int) -> None:
        self.bits = min(3 if n >= MANY else 4, bits)
        self.values = 1 << self.bits
        self.count = -(-bits // self.bits)
        self.pad = self.count * self.bits - bits

    @property
    def shared(self) -> int:
        """Planes of step 1, for either summand."""
        return self.count * (self.values - 1)

    @property
    def products(self) -> int:
        """Planes of step 2: whether the lowest digit sends on is never asked."""
        return 2 * self.count - 1

    def thermometer(self, planes: U64) -> U64:
        """Return [d >= v] of each digit for v = 0..values, shape (values + 1, count, words)."""
        words = planes.shape[1]
        low = np.zeros((self.count * self.bits, words), np.uint64)
        low[self.pad :] = planes
        digits = low.reshape(self.count, self.bits, words)
        t = np.empty((self.values + 1, self.count, words), np.uint64)
        t[0], t[-1] = ONES, 0
        # Knowing every second entry for the upper bits u of a digit, the next bit gives those between:
        # [2u + bit >= 2w + 1] is [u >= w + 1] or ([u >= w] and bit).
        for j in reversed(range(self.bits)):
            step = 1 << j
            between = t[step :: 2 * step]
            np.bitwise_and(t[: -1 : 2 * step], digits[:, j], out=between)
            between |= t[2 * step :: 2 * step]
        return t


async def negative(engine: Primitives, channel: Channel, x: Shares) -> Shares:
    """Return whether elements, shape (n,), are negative in two's complement, as bits, shape (ceil(n / 64),)."""
    group = ring_of(x)
    carry, top = await _carry(engine, channel, group, held(channel.index, x), group.ring.bits - 1)
    return top if carry is None else carry ^ top


async def carry_of(engine: Primitives, channel: Channel, group: RingGroup, x: Held, bits: int) -> Shares:
    """Return the carry of the lowest bits, at least one, of x_0 + x_1 and of x_2 + x_3, shape (ceil(n / 64),)."""
    carry, top = await _carry(engine, channel, group, x, bits)
    return top if carry is None else carry


async def _carry(
    engine: Primitives, channel: Channel, group: RingGroup, x: Held, bits: int
) -> tuple[Shares | None, Shares]:
    """Return the carry into a bit, None for the lowest one, and the exclusive or of this bit of both summands."""
    n = x[channel.others[0]].size
    digits, words = Digits(n, bits) if bits else None, -(-n // 64)
    size = digits.shared if digits else 0

    def planes(value: Array | None, *, exactly: bool) -> U64 | None:
        """Return [s_d = v] or [t_d >= v], v after v, then the bit itself."""
        if value is None:
            return None
        out = np.empty((size + 1, words), np.uint64)
        cut = to_planes(value.astype(np.uint64, copy=False), bits + 1)
        out[-1] = cut[-1]
        if digits:
            t = digits.thermometer(cut[:-1])
            into = out[:-1].reshape(digits.values - 1, digits.count, words)
            if exactly:
                np.bitwise_xor(t[1:-1], t[2:], out=into)
            else:
                into[...] = t[1:-1]
        return out

    low, high = summands(channel, group, x)
    shared = [
        Summands(XOR, (size + 1, words), planes(low, exactly=True), planes(high, exactly=False)),
    ]
    (both,) = await share_summands(channel, Purpose.COMPARISON, shared)
    top = shares(engine, XOR, {j: part[-1] for j, part in both.items()})
    if digits is None:
        return None, top
    table = {j: part[:-1].reshape(digits.values - 1, digits.count, words) for j, part in both.items()}
    z = await _sum_products(channel, digits, table, words)
    generates = {j: part[: digits.count] for j, part in z.items()}
    sends_on = {j: part[digits.count :] for j, part in z.items()}
    for j, part in sends_on.items():  # [s_d = D - 1] and [t_d >= D - 1], which stand alone in the sum
        part ^= table[j][-1, 1:]
    return await decide(shares(engine, XOR, generates), ~shares(engine, XOR, sends_on)), top


async def _sum_products(channel: Channel, digits: Digits, table: Held, words: int) -> Held:
    """Return whether each digit generates a carry, and, but for terms of one factor, whether it sends one on.

    With [s_d = 0] = 1 - (the sum of the others), and [t_d = u] = [t_d >= u] - [t_d >= u + 1], the products in what a digit
    sends on are those of [s_d = v] and

      [t_d >= D-1-v] + [t_d >= D-v] + [t_d >= D-1]    for v < D - 1,    [t_d >= 1] + [t_d >= D-1]    for v = D - 1.
    """
    count, top = digits.count, digits.values - 1
    reversed_t = {b: table[b][::-1] for b in table if b > 1}  # [t_d >= D - v] at v - 1
    for_sending = {}
    for b, at in reversed_t.items():
        w = at[:, 1:] ^ table[b][-1, 1:]
        w[:-1] ^= at[1:, 1:]
        for_sending[b] = w
    n = digits.products * words
    sums: dict[tuple[int, int], U64] = {}
    for a, b in across(channel):
        out = np.zeros((digits.products, words), np.uint64)
        for v in range(top):
            out[:count] ^= table[a][v] & reversed_t[b][v]
            out[count:] ^= table[a][v, 1:] & for_sending[b][v]
        sums[a, b] = out.reshape(-1)

    def products(part: slice) -> Cross:
        return {pair: each[part] for pair, each in sums.items()}

    z = await reshare_across(channel, XOR, Purpose.COMPARISON, n, products)
    return {j: part.reshape(digits.products, words) for j, part in z.items()}


async def zero(engine: Primitives, channel: Channel, x: Shares) -> Shares:
    """Return whether elements, shape (n,), are zero, as bits, shape (ceil(n / 64),)."""
    differ = await share_planes(channel, ring_of(x), held(channel.index, x), negate=True)
    return ~await any_plane(shares(engine, XOR, differ))


async def to_bits(engine: Primitives, channel: Channel, x: Shares) -> Shares:
    """Return the bits of elements, shape (n,), lowest first, shape (bits, ceil(n / 64))."""
    both = await share_planes(channel, ring_of(x), held(channel.index, x))
    nothing = np.zeros_like(next(iter(both.values())))
    s, t = (
        shares(engine, XOR, {j: part if (j > 1) == high else nothing.copy() for j, part in both.items()})
        for high in (False, True)
    )
    return await add([s, t], shallow=x.size < FEW)
