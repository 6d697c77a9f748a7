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

from secagg.cost.operation import Cost
from secagg.errors import ShapeError
from secagg.mpc.bits import SharedBits, add, add_gates
from secagg.mpc.groups import XOR, checked
from secagg.mpc.three.costs import computing_cost, same_cost
from secagg.mpc.three.engine import ThreeEngine
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


async def b2a(engine: ThreeEngine, ring: Ring, bits: SharedBits, n: int) -> tuple[RingArray, RingArray]:
    """Return this party's two shares of the bits as ring elements 0 and 1.

    Args:
      ring: of the result.
      bits: shape (ceil(n / 64),).
      n: how many bits there are; lanes from n up are ignored.

    Raises:
      ShapeError: bits of another shape.
      RemoteProtocolError: a peer sent something of another shape or dtype.
    """
    if bits.shape != (-(-n // 64),):
        raise ShapeError(f"expected {n} bits in words ({-(-n // 64)},), got {bits.shape}")
    if engine.index == 0:
        return await _bits_p0(engine, ring, unpack(bits.share_0 ^ bits.share_1, n))
    return await _bits_p12(engine, ring, unpack(bits.share_1 if engine.index == 1 else bits.share_0, n))


async def _bits_p0(
    engine: ThreeEngine, ring: Ring, w: np.ndarray[tuple[int], np.dtype[np.uint8]]
) -> tuple[RingArray, RingArray]:
    k0, k1 = engine.k_own[Purpose.CONVERT], engine.k_next[Purpose.CONVERT]
    message, x0 = np.empty(w.size, ring.dtype), np.empty(w.size, ring.dtype)
    for start in range(0, w.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        size = w[part].size
        np.subtract(w[part], k0.ring(size, ring.bits), out=message[part])
        x0[part] = k0.ring(size, ring.bits)
    engine.party.send(engine.next, MaskedBits(ring.reduce(message, message)))
    await engine.idle()
    x1 = k1.ring(w.size, ring.bits)
    await engine.idle()
    return x0, x1


async def _bits_p12(
    engine: ThreeEngine, ring: Ring, b: np.ndarray[tuple[int], np.dtype[np.uint8]]
) -> tuple[RingArray, RingArray]:
    at_p1 = engine.index == 1
    if at_p1:
        size = array_bytes(b.shape, ring.dtype)
        message = await engine.party.receive(MaskedBits, engine.previous, max_bytes=size)
        w = checked(message.w, b.shape, ring.dtype, what="masked bits", peer=engine.previous)
        stream = engine.k_own[Purpose.CONVERT]
    else:
        stream = engine.k_next[Purpose.CONVERT]
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
    peer = engine.next if at_p1 else engine.previous
    engine.party.send(peer, BitProduct(ring.reduce(product, product)))
    if not at_p1:
        await engine.idle()
    theirs = (await engine.party.receive(BitProduct, peer, max_bytes=product.nbytes)).share
    product += checked(theirs, product.shape, ring.dtype, what="a product's share", peer=peer)
    ring.reduce(product, product)
    return (mask, product) if at_p1 else (product, mask)


def b2a_cost(n: int, ring: Ring) -> Cost:
    """Return the cost of turning n bits into ring elements."""
    sent = n * ring.dtype.itemsize
    return same_cost(2, sent)


async def a2b(engine: ThreeEngine, ring: Ring, share_0: RingArray, share_1: RingArray) -> SharedBits:
    """Return the bits of ring elements in slices, lowest bit first, shape (ring.bits, ceil(n / 64)).

    Args:
      share_0, share_1: this party's shares, shape (n,).

    Lanes from n up are zero.
    """
    s, t = await summands(engine, ring, share_0, share_1)
    return await add([s, t])


def a2b_cost(n: int, ring: Ring) -> Cost:
    """Return the cost of the bits of n ring elements."""
    words, gates = -(-n // 64), add_gates(ring.bits, 2)
    return summands_cost(n, ring).then(same_cost(gates.rounds, 8 * words * gates.ands))


async def summands(
    engine: ThreeEngine, ring: Ring, share_0: RingArray, share_1: RingArray, *, negate: bool = False
) -> tuple[SharedBits, SharedBits]:
    """Return the bits of s = z_0 + z_1 and of t = z_2, or of -t, in slices.

    s is input by P_0, who knows it, with the share x_2 zero; t, known to P_1 and P_2, is a share x_2, the
    others being zero.

    Args:
      share_0, share_1: this party's shares of z, shape (n,).
      negate: return the bits of -t.
    """
    known = summand(engine, share_0, share_1)
    if negate and engine.index:
        known = np.negative(known)
    planes = to_planes(known.astype(np.uint64, copy=False), ring.bits)
    mine = planes if engine.index == 0 else None
    s = SharedBits(engine, *await engine.input(XOR, engine.computing[0], planes.shape, mine))
    nothing = np.zeros_like(planes)
    t = SharedBits(engine, planes if engine.index == 2 else nothing, planes if engine.index == 1 else nothing)
    return s, t


def summands_cost(n: int, ring: Ring) -> Cost:
    """Return the cost of the bits of the two summands of n elements."""
    return computing_cost(1, (8 * -(-n // 64) * ring.bits, 0, 0))


def summand(engine: ThreeEngine, share_0: RingArray, share_1: RingArray) -> RingArray:
    """Return s = z_0 + z_1 at P_0 and t = z_2 at P_1 and P_2; bits above the ring's are left as they come."""
    if engine.index == 0:
        return share_0 + share_1
    return share_1 if engine.index == 1 else share_0
