"""Division of shared ring elements by 2**f, without wrap failures.

`truncate` takes additive shares z_0 + z_1 + z_2 = z of a product, as multiplication makes them before they are reshared. It
returns replicated shares of z / 2**f rounded up or down. Local truncation [MZ17; MR18, section 5.1.1] is wrong by 2**(k-f)
with probability |z| / 2**k because it ignores whether the sum of the shares wraps. Here z is known to lie in a quarter of
the ring around zero. So the top bits of two shares tell whether the sum wraps [as in RRGG+21; HLHD22]. Their product comes
from two values that the third party deals, as in [RWT+18].

  P_0, P_2 hold k_0, P_0, P_1 hold k_1, P_1, P_2 hold k_2. Ring modulo 2**k, words modulo 2**f.
  k_0 gives a (ring), r, s (words); k_1 gives b, rho (ring); k_2 gives q (word), x_2 (ring).
  A = z_0 + a - b + 2**(k-2) + 2**f - 1     at P_0;  m_A its top bit
  B = z_1 + b + z_2 - a                     at P_1, from P_2's z_2 - a;  m_B its top bit
  1. P_2 -> P_1: z_2 - a, s' = r q - s.     P_0 -> P_1: d = m_A - r
  2. P_1 -> P_0: g = m_B - q, x_1 = (B >> f) - (m_B - e_1) 2**(k-f) - x_2 + rho,  e_1 = d m_B + s'
  3. P_0 -> P_2: x_0 = (A >> f) - (m_A - e_0) 2**(k-f) - 2**(k-2-f) - rho,        e_0 = r g + s

Correct. Z = z + 2**(k-2) + 2**f - 1 lies in [0, 2**(k-1)) and A + B = Z + w 2**k for a bit w. If both top
bits are set the sum wraps; if none is, it does not; if one is, A + B >= 2**(k-1) > Z, so it wraps: w = m_A or
m_B = m_A + m_B - m_A m_B. And e_0 + e_1 = r (m_B - q) + s + (m_A - r) m_B + r q - s = m_A m_B modulo 2**f, which
is all that counts before the factor 2**(k-f). So x_0 + x_1 + x_2 = (A >> f) + (B >> f) - w 2**(k-f) -
2**(k-2-f) is floor(Z / 2**f) - 2**(k-2-f), less 1 if the low f bits of A and B together carry. The 2**f - 1
makes that {floor, floor + 1} of z / 2**f, and always z / 2**f where that is an integer: then the low bits
add up to 2**f - 1, no more. As A is uniform, it is rounded up with the probability of the fraction: the error
is below one unit in the last place, and zero on average.

Private. P_0 receives g and x_1, masked by q and x_2 from k_2; P_1 receives z_2 - a, s', d, masked by a, s, r
from k_0; P_2 receives x_0, masked by rho from k_1. Without rho, P_2 could tell from x_0 both A and m_B, that
is, compare z with a threshold it knows.

What is computed is an ideal function F_trunc. It samples A uniformly and outputs the above function of z and A. It
gives A to a corrupted P_0, B = Z - A to a corrupted P_1, and nothing to P_2. So the rounding is independent of P_2's
view. It is NOT independent of P_0's and P_1's views. When a truncated value is opened, each of these two learns one
comparison of the low f bits of z with a threshold that it knows. Where that is too much, `shift` computes
floor(z / 2**f), a function of z alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from secagg.errors import RemoteProtocolError, ShapeError
from secagg.mpc.groups import checked
from secagg.mpc.numbers import truncation_range
from secagg.mpc.primitives import Primitives
from secagg.mpc.three.channel import Channel, Held, held
from secagg.mpc.three.comparison import msb
from secagg.mpc.three.conversion import from_bits, summand
from secagg.mpc.three.streams import Purpose
from secagg.party import array_bytes
from secagg.ring import Ring, RingArray
from secagg.wire import Message

_CHUNK = (
    1 << 14
)  # elements worked on at a time: 128 KiB a buffer, so that a step stays in the second-level cache

_Words = np.ndarray[tuple[int, ...], np.dtype[np.unsignedinteger]]


class TruncationInput(Message, frozen=True):
    """Round 1, to P_1: d from P_0; s' and z_2 - a from P_2."""

    word: _Words
    z: _Words | None


class MaskedQuotient(Message, frozen=True):
    """Round 2, P_1 -> P_0: g and x_1."""

    g: _Words
    share: _Words


class QuotientShare(Message, frozen=True):
    """Round 3, P_0 -> P_2: x_0."""

    share: _Words


async def truncate(channel: Channel, ring: Ring, z: RingArray, frac_bits: int) -> Held:
    """Return this party's two shares of z / 2**frac_bits, rounded up or down at random.

    Args:
      ring: the ring of z.
      z: this party's additive share, any shape, C-contiguous; it need not be masked, and is overwritten.
      frac_bits: 1..ring.bits - 2.

    z must lie in `truncation_range`; beyond it the result is wrong by a multiple of 2**(bits - frac_bits).

    Raises:
      UsageError: frac_bits out of range.
      RemoteProtocolError: a peer sent something of another shape or dtype.
    """
    truncation_range(ring, frac_bits)
    if z.dtype != ring.dtype or not z.flags.c_contiguous:
        raise ShapeError(f"expected a C-contiguous array of {ring.dtype}, got {z.dtype} {z.strides}")
    roles = (_truncate_p0, _truncate_p1, _truncate_p2)
    x, y = await roles[channel.index](channel, ring, Ring(frac_bits), z.reshape(-1))
    return x.reshape(z.shape), y.reshape(z.shape)


async def _truncate_p0(channel: Channel, ring: Ring, words: Ring, z: RingArray) -> Held:
    k, f, n = ring.bits, words.bits, z.size
    k0, k1 = channel.k_own[Purpose.TRUNC], channel.k_next[Purpose.TRUNC]
    top = ring.dtype.type(k - 1)
    offset = ring.dtype.type((1 << (k - 2)) + (1 << f) - 1)
    r, s = k0.ring(n, f), k0.ring(n, f)
    d = np.empty(n, words.dtype)
    for part in _chunks(n):
        a = z[part]  # becomes A
        a += k0.ring(a.shape, k)
        a -= k1.ring(a.shape, k)
        a += offset
        ring.reduce(a, a)
        d[part] = a >> top
    d -= r
    words.reduce(d, d)
    channel.party.send(channel.next, TruncationInput(d, None))
    await channel.idle()
    offset >>= ring.dtype.type(f)
    for part in _chunks(n):  # what needs no answer: A >> f, less the other terms of x_0 but e_0
        a = z[part]
        wrap = a >> top
        wrap <<= ring.dtype.type(k - f)
        a >>= ring.dtype.type(f)
        a -= wrap
        a -= k1.ring(a.shape, k)
        a -= offset
    answer = await channel.party.receive(
        MaskedQuotient, channel.next, max_bytes=z.nbytes + array_bytes(z.shape, words.dtype)
    )
    g = checked(answer.g, z.shape, words.dtype, what="a masked top bit", peer=channel.next)
    x1 = checked(answer.share, z.shape, ring.dtype, what="a quotient's share", peer=channel.next)
    r *= g
    r += s
    for part in _chunks(n):
        z[part] += r[part].astype(ring.dtype) << ring.dtype.type(k - f)
    ring.reduce(z, z)
    channel.party.send(channel.previous, QuotientShare(z))
    await channel.idle()
    return z, x1


async def _truncate_p1(channel: Channel, ring: Ring, words: Ring, z: RingArray) -> Held:
    k, f, n = ring.bits, words.bits, z.size
    k1, k2 = channel.k_own[Purpose.TRUNC], channel.k_next[Purpose.TRUNC]
    top = ring.dtype.type(k - 1)
    for part in _chunks(n):
        z[part] += k1.ring(z[part].shape, k)
    q, x2 = k2.ring(n, f), k2.ring(n, k)
    messages = await channel.party.gather(
        TruncationInput,
        (channel.previous, channel.next),
        max_bytes=z.nbytes + array_bytes(z.shape, words.dtype),
    )
    d = checked(
        messages[channel.previous].word, z.shape, words.dtype, what="a masked top bit", peer=channel.previous
    )
    s = checked(messages[channel.next].word, z.shape, words.dtype, what="a dealt product", peer=channel.next)
    z2 = messages[channel.next].z
    if z2 is None:
        raise RemoteProtocolError(f"expected a masked summand from {channel.next}", peer=channel.next)
    checked(z2, z.shape, ring.dtype, what="a masked summand", peer=channel.next)
    g = np.empty(n, words.dtype)
    for part in _chunks(n):
        b = z[part]  # becomes B
        b += z2[part]
        ring.reduce(b, b)
        wrap = (b >> top).astype(words.dtype)
        np.subtract(wrap, q[part], out=g[part])
        wrap -= d[part] * wrap
        wrap -= s[part]
        b >>= ring.dtype.type(f)
        b -= wrap.astype(ring.dtype) << ring.dtype.type(k - f)  # what is above f bits falls off
        b -= x2[part]
        b += k1.ring(b.shape, k)
        ring.reduce(b, b)
    words.reduce(g, g)
    channel.party.send(channel.previous, MaskedQuotient(g, z))
    await channel.idle(2)
    return z, x2


async def _truncate_p2(channel: Channel, ring: Ring, words: Ring, z: RingArray) -> Held:
    k, f, n = ring.bits, words.bits, z.size
    k2, k0 = channel.k_own[Purpose.TRUNC], channel.k_next[Purpose.TRUNC]
    product, s = k0.ring(n, f), k0.ring(n, f)
    product *= k2.ring(n, f)
    product -= s
    words.reduce(product, product)
    for part in _chunks(n):
        z[part] -= k0.ring(z[part].shape, k)
    ring.reduce(z, z)
    channel.party.send(channel.previous, TruncationInput(product, z))
    x2 = k2.ring(n, k)
    await channel.idle(2)
    share = (await channel.party.receive(QuotientShare, channel.next, max_bytes=z.nbytes)).share
    return x2, checked(share, z.shape, ring.dtype, what="a quotient's share", peer=channel.next)


def _chunks(n: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, n, _CHUNK))


async def shift(channel: Channel, engine: Primitives, ring: Ring, x: Held, bits: int) -> Held:
    """Return this party's two shares of floor(x / 2**bits), a function of x alone.

    The low f bits of x are those of s + t, s = x_0 + x_1 and t = x_2, less 2**f if these carry. Taking them
    off leaves a multiple of 2**f, on which `truncate` does not round.

    Args:
      engine: whose secret x is.
      x: this party's shares, of numbers within `truncation_range`.

    Raises:
      UsageError: bits out of range.
    """
    truncation_range(ring, bits)
    flat = x[0].reshape(-1), x[1].reshape(-1)
    known = summand(channel, flat) & ring.dtype.type((1 << bits) - 1)
    carries = await msb(channel, engine, known.astype(np.uint64), bits + 1)
    z, _ = await from_bits(channel, ring, held(carries), flat[0].size)
    z <<= ring.dtype.type(bits)
    z += flat[0]
    if channel.index < 2:  # the low part of s is taken off at P_0 and that of t at P_1, once each
        z -= known
    ring.reduce(z, z)
    first, second = await truncate(channel, ring, z, bits)
    return first.reshape(x[0].shape), second.reshape(x[0].shape)
