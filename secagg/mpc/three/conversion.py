"""Shared bits to shared ring elements and back.

**Bits to ring elements** [MR18, section 5.4.1, with the roles of its oblivious transfer filled by pairwise keys].
A bit is b = w xor b_2 where P_0 knows w = b_0 xor b_1 and the other two know b_2, and as an integer
b = w (1 - 2 b_2) + b_2, which is linear in w:

  k_0 (P_0, P_2) gives r and x_0, k_1 (P_0, P_1) gives x_1.
  1. P_0 -> P_1: w - r. P_2 draws r: the two hold w = (w - r) + r.
  2. P_1 -> P_2: u = (w - r)(1 - 2 b_2) + b_2 - x_1.   P_2 -> P_1: v = r (1 - 2 b_2) - x_0.
     x_2 = u + v.

Private: P_1 receives w - r and v, masked by r and x_0 from k_0; P_2 receives u, masked by x_1 from k_1.
Cost: 2 rounds, one ring element sent by each party.

**Ring elements to bits.** z = s + t with s = z_0 + z_1 known to P_0 and t = z_2 to the other two. P_0 inputs the
bits of s, those of t need no message: they are the share x_2. A parallel-prefix adder adds the two.
"""

from __future__ import annotations

import numpy as np

from secagg.errors import ShapeError
from secagg.mpc.bits import FEW, add
from secagg.mpc.groups import XOR, checked
from secagg.mpc.primitives import Primitives, Shares
from secagg.mpc.three.channel import Channel, Held
from secagg.mpc.three.inputs import receive_input
from secagg.mpc.three.streams import Purpose
from secagg.party import array_bytes
from secagg.ring import Ring, RingArray, to_planes, unpack
from secagg.wire import Message

_CHUNK = 1 << 14  # elements worked on at a time

_Elements = np.ndarray[tuple[int, ...], np.dtype[np.unsignedinteger]]


class MaskedBits(Message, frozen=True):
    """Round 1, P_0 -> P_1: w - r."""

    w: _Elements


class BitProduct(Message, frozen=True):
    """Round 2, P_1 <-> P_2: u or v."""

    share: _Elements


async def from_bits(channel: Channel, ring: Ring, bits: Held, n: int) -> Held:
    """Return this party's two shares of the bits as ring elements 0 and 1.

    Args:
      ring: of the result.
      bits: shares, shape (ceil(n / 64),).
      n: how many bits there are; lanes from n up are ignored.

    Raises:
      ShapeError: bits of another shape.
      RemoteProtocolError: a peer sent something of another shape or dtype.
    """
    if bits[0].shape != (-(-n // 64),):
        raise ShapeError(f"expected {n} bits in words ({-(-n // 64)},), got {bits[0].shape}")
    if channel.index == 0:
        return await _bits_p0(channel, ring, unpack(bits[0] ^ bits[1], n))
    return await _bits_p12(channel, ring, unpack(bits[1] if channel.index == 1 else bits[0], n))


async def _bits_p0(channel: Channel, ring: Ring, w: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> Held:
    k0, k1 = channel.k_own[Purpose.CONVERT], channel.k_next[Purpose.CONVERT]
    message, x0 = np.empty(w.size, ring.dtype), np.empty(w.size, ring.dtype)
    for start in range(0, w.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        size = w[part].size
        np.subtract(w[part], k0.ring(size, ring.bits), out=message[part])
        x0[part] = k0.ring(size, ring.bits)
    channel.party.send(channel.next, MaskedBits(ring.reduce(message, message)))
    await channel.idle()
    x1 = k1.ring(w.size, ring.bits)
    await channel.idle()
    return x0, x1


async def _bits_p12(channel: Channel, ring: Ring, b: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> Held:
    at_p1 = channel.index == 1
    if at_p1:
        size = array_bytes(b.shape, ring.dtype)
        message = await channel.party.receive(MaskedBits, channel.previous, max_bytes=size)
        w = checked(message.w, b.shape, ring.dtype, what="masked bits", peer=channel.previous)
        stream = channel.k_own[Purpose.CONVERT]
    else:
        stream = channel.k_next[Purpose.CONVERT]
    mask, product = np.empty(b.size, ring.dtype), np.empty(b.size, ring.dtype)
    for start in range(0, b.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        bit = b[part].astype(ring.dtype)
        half = w[part] if at_p1 else stream.ring(bit.size, ring.bits)
        mask[part] = stream.ring(bit.size, ring.bits)
        # (half ^ -bit) + bit is -half where the bit is set, and half elsewhere.
        p = product[part]
        np.negative(bit, out=p)
        p ^= half
        p += bit
        if at_p1:
            p += bit
        p -= mask[part]
    peer = channel.next if at_p1 else channel.previous
    channel.party.send(peer, BitProduct(ring.reduce(product, product)))
    if not at_p1:
        await channel.idle()
    theirs = (await channel.party.receive(BitProduct, peer, max_bytes=product.nbytes)).share
    product += checked(theirs, product.shape, ring.dtype, what="a product's share", peer=peer)
    ring.reduce(product, product)
    return (mask, product) if at_p1 else (product, mask)


async def to_bits(channel: Channel, engine: Primitives, ring: Ring, x: Held) -> Shares:
    """Return the bits of ring elements in slices, lowest bit first, shape (ring.bits, ceil(n / 64)).

    Args:
      engine: whose secret the bits are.
      x: this party's shares, shape (n,).

    Lanes from n up are zero.
    """
    s, t = await summands(channel, ring, x)
    return await add([Shares(engine, XOR, s), Shares(engine, XOR, t)], shallow=x[0].size < FEW)


async def summands(channel: Channel, ring: Ring, x: Held, *, negate: bool = False) -> tuple[Held, Held]:
    """Return shares of the bits of s = z_0 + z_1 and of t = z_2, or of -t, in slices.

    s is input by P_0, who knows it, with the share x_2 zero; t, known to P_1 and P_2, is a share x_2, the
    others being zero.

    Args:
      x: this party's shares of z, shape (n,).
      negate: return the bits of -t.
    """
    known = summand(channel, x)
    if negate and channel.index:
        known = np.negative(known)
    planes = to_planes(known.astype(np.uint64, copy=False), ring.bits)
    mine = planes if channel.index == 0 else None
    s = await receive_input(channel, XOR, channel.computing[0], planes.shape, mine)
    nothing = np.zeros_like(planes)
    t = (planes if channel.index == 2 else nothing, planes if channel.index == 1 else nothing)
    return s, t


def summand(channel: Channel, x: Held) -> RingArray:
    """Return s = z_0 + z_1 at P_0 and t = z_2 at P_1 and P_2; bits above the ring's are left as they come."""
    if channel.index == 0:
        return np.asarray(x[0] + x[1])
    return x[1] if channel.index == 1 else x[0]
