"""Sign, order and equality of shared ring elements, as shared bits.

**Sign.** z = s + t where P_0 holds s = z_0 + z_1 and both others hold t = z_2. The top bit of z is the top bits
of s and t, exclusive-ored with the carry that their low parts send up [MR18, section 5.3, computes it
with an adder circuit]. The carry takes one message from P_0, one exchange, and a tree:

  The low bits are cut into digits of `digit_bits`, of D values each; the lowest is padded with zero bits.
  1. P_0 -> P_1: for each digit the thermometer [s_d >= v], v = 1..D-1, and the top bit of s, all masked
     by bits from k_0. P_2 draws these masks: P_1 and P_2 hold exclusive-or shares of the thermometer.
  2. With [s_d >= 0] = 1 and [s_d >= D] = 0, a digit with t_d = b generates a carry if [s_d >= D - b], and
     sends one on if [s_d >= D - 1 - b] too, or instead. P_1 and P_2 both know b and pick these entries
     from their shares. They exchange them, masked by bits from k_1 and k_0, which reshares among all three:
     x_0 from k_0, x_1 from k_1, x_2 = the sum of the two messages.
  3. A tree over the digits: the highest digit that does not send on decides.

Correct for all s and t. Private: the message of step 1 is masked by k_0, which P_1 does not hold. In step 2 P_2 receives a
message masked by k_1, and P_1 one masked by k_0. Step 3 is ANDs.

Cost at 64 bits: with 4-bit digits 6 rounds, 267 bits an element sent by P_0 and 58 by each other party; with 3-bit digits
7 rounds, 183 and 77.

**Equality.** x = y if s = -t for d = x - y: P_0 inputs the bits of s, with shares x_0 and x_1; those of -t are
x_2, which P_1 and P_2 hold; the exclusive-or of the two needs no message. An OR tree tells whether any is set.
"""

from __future__ import annotations

import numpy as np

from secagg.errors import UsageError
from secagg.mpc.bits import ONES, any_plane, decide
from secagg.mpc.groups import XOR, checked
from secagg.mpc.primitives import Primitives, Shares
from secagg.mpc.three.channel import Channel, Held
from secagg.mpc.three.conversion import summand, summands
from secagg.mpc.three.streams import Purpose
from secagg.party import array_bytes
from secagg.ring import U64, Ring, to_planes
from secagg.wire import Message

# A bit more in a digit saves a round and doubles the thermometer. At 64 bits, P_0 sends 267 bits an element
# in 6 rounds with digits of 4, 183 in 7 with digits of 3; that pays once it saves more than a round takes.
_MANY = 1 << 15
_CHUNK = 1 << 9  # words a plane worked on at a time: the thermometers of 32,768 elements are 1 MB
_PIECE = 1 << 11  # words a plane in a message of round 1, so that P_1 works on one while P_0 makes the next

_Words = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]


class Thermometers(Message, frozen=True):
    """Round 1, P_0 -> P_1: masked planes, chunk after chunk."""

    planes: _Words


class CarrySharing(Message, frozen=True):
    """Round 2, P_1 <-> P_2: masked shares of generate, no-propagate and top bits."""

    planes: _Words


class Layout:
    """How the digits of a number lie in planes.

    bits: of the ring; the low bits - 1 are cut into `digits` of digit_bits, with `pad` zero bits below.
    thermometer: planes of a chunk of the first message.
    output: planes that are reshared: generate of each digit, no-propagate of each but the lowest, top bit.
    """

    __slots__ = ("base", "bits", "digit_bits", "digits", "output", "pad", "thermometer")

    def __init__(self, n: int, bits: int, digit_bits: int | None) -> None:
        if digit_bits is None:
            digit_bits = min(3 if n >= _MANY else 4, bits - 1)
        if not (2 <= bits <= 64 and 1 <= digit_bits <= 8):
            raise UsageError(
                f"expected a ring of 2 to 64 bits and digits of 1 to 8, got {bits} and {digit_bits}"
            )
        self.bits = bits
        self.digit_bits = digit_bits
        self.base = 1 << digit_bits
        self.digits = -(-(bits - 1) // digit_bits)
        self.pad = self.digits * digit_bits - (bits - 1)
        self.thermometer = self.digits * (self.base - 1) + 1
        self.output = 2 * self.digits

    def cut(self, values: U64, words: int) -> tuple[U64, U64]:
        """Return the digits' planes (digits, digit_bits, words), lowest bit first, and the top plane."""
        planes = to_planes(values, self.bits)
        low = planes[:-1]
        if self.pad:
            low = np.zeros((self.digits * self.digit_bits, words), np.uint64)
            low[self.pad :] = planes[:-1]
        return low.reshape(self.digits, self.digit_bits, words), planes[-1]


async def msb(
    channel: Channel, engine: Primitives, values: U64, bits: int, *, digit_bits: int | None = None
) -> Shares:
    """Return bit `bits - 1` of s + t, modulo 2**bits.

    Args:
      engine: whose secret the bits are.
      values: s at P_0, the same t at P_1 and P_2: uint64, shape (n,), any n; bits from `bits` up are ignored.
      bits: 2..64.
      digit_bits: 1..8; by default 4, 3 for 2**15 elements or more, and never more than there are.

    Returns bits packed 64 a word, shape (ceil(n / 64),); lanes from n up hold the bit of 0 + 0.

    Raises:
      UsageError: bits or digit_bits out of range.
      RemoteProtocolError: a peer sent something of another shape or dtype.
    """
    layout = Layout(values.size, bits, digit_bits)
    role = _msb_p0 if channel.index == 0 else _msb_p12
    planes = Shares(engine, XOR, await role(channel, layout, values))
    digits = layout.digits
    carry = await decide(planes[:digits], planes[digits:-1])
    return carry ^ planes[-1]


def _pieces(words: int) -> list[range]:
    """Return for each message of round 1 the first words of its chunks."""
    return [range(start, min(start + _PIECE, words), _CHUNK) for start in range(0, words, _PIECE)]


async def _msb_p0(channel: Channel, layout: Layout, values: U64) -> Held:
    words, base, digits = -(-values.size // 64), layout.base, layout.digits
    k0, k1 = channel.k_own[Purpose.COMPARE], channel.k_next[Purpose.COMPARE]
    scratch = np.empty((base + 1) * digits * min(words, _CHUNK), np.uint64)
    for piece in _pieces(words):
        size = min(piece.stop, words) - piece.start
        message = np.empty(size * layout.thermometer, np.uint64)
        whole, tops = layout.cut(values[64 * piece.start : 64 * (piece.start + size)], size)
        done = 0
        for start in piece:
            c = min(_CHUNK, words - start)
            here = slice(start - piece.start, start - piece.start + c)
            s, top = whole[:, :, here], tops[here]
            t = scratch[: (base + 1) * digits * c].reshape(base + 1, digits, c)
            t[0], t[-1] = ONES, 0
            # t[v] = [s_d >= v]. Knowing every second entry for the upper bits u of a digit, the next bit
            # gives those between: [2u + bit >= 2w + 1] is [u >= w + 1] or ([u >= w] and bit).
            for j in reversed(range(layout.digit_bits)):
                step = 1 << j
                between = t[step :: 2 * step]
                np.bitwise_and(t[: -1 : 2 * step], s[:, j], out=between)
                between |= t[2 * step :: 2 * step]
            part = message[done : done + c * layout.thermometer].reshape(-1, c)
            part[:-1].reshape(base - 1, digits, c)[...] = t[1:-1]
            part[-1] = top
            k0.xor_into(part)
            done += part.size
        channel.party.send(channel.next, Thermometers(message))
        await channel.idle()
    shape = (layout.output, words)
    x0, x1 = k0.words(shape), k1.words(shape)
    await channel.idle()
    return x0, x1


async def _msb_p12(channel: Channel, layout: Layout, values: U64) -> Held:
    words, base, digits = -(-values.size // 64), layout.base, layout.digits
    at_p1 = channel.index == 1
    stream = channel.k_own[Purpose.COMPARE] if at_p1 else channel.k_next[Purpose.COMPARE]
    out = np.empty((layout.output, words), np.uint64)
    scratch = np.empty((2, base * digits * min(words, _CHUNK)), np.uint64)
    for piece in _pieces(words):
        size = min(piece.stop, words) - piece.start
        # Before the message is awaited: P_0 works on it meanwhile.
        whole, tops = layout.cut(values[64 * piece.start : 64 * (piece.start + size)], size)
        if at_p1:
            shape = (size * layout.thermometer,)
            nbytes = array_bytes(shape, out.dtype)
            message = await channel.party.receive(Thermometers, channel.previous, max_bytes=nbytes)
            planes = message.planes
            checked(planes, shape, out.dtype, what="thermometers", peer=channel.previous)
        done = 0
        for start in piece:
            c = min(_CHUNK, words - start)
            if at_p1:
                part = planes[done : done + c * layout.thermometer].reshape(-1, c)
                done += part.size
            else:
                part = stream.words((layout.thermometer, c))
            thermometer, top = part[:-1].reshape(base - 1, digits, c), part[-1]
            here = slice(start - piece.start, start - piece.start + c)
            t, t_top = whole[:, :, here], tops[here]
            picked = _pick(thermometer, ~t, scratch, one=at_p1)
            target = out[:, start : start + c]
            target[:digits] = picked[1]
            np.bitwise_xor(picked[0, 1:], picked[1, 1:], out=target[digits:-1])
            target[-1] = top
            if at_p1:
                target[digits:-1] ^= ONES
                target[-1] ^= t_top
        if not at_p1:
            await channel.idle()
    mask = stream.words(out.shape)
    peer = channel.next if at_p1 else channel.previous
    out ^= mask
    channel.party.send(peer, CarrySharing(out))
    theirs = (await channel.party.receive(CarrySharing, peer, max_bytes=out.nbytes)).planes
    out ^= checked(theirs, out.shape, out.dtype, what="shares of carries", peer=peer)
    return (mask, out) if at_p1 else (out, mask)


def _pick(thermometer: U64, chosen: U64, scratch: U64, *, one: bool) -> U64:
    """Return this party's shares of entries c and c + 1 of each digit's thermometer.

    Args:
      thermometer: shares of entries 1..D-1; entry 0 is one and entry D zero.
      chosen: planes of c = D - 1 - t_d, shape (digits, digit_bits, words).
      scratch: two rows of at least D * digits * words.
      one: whether this party's share of entry 0 is one or zero.

    Returns:
      shape (2, digits, words).
    """
    below, digits, c = thermometer.shape
    # The highest bit of c leaves a window of D / 2 + 1 entries, the next one of D / 4 + 1, and so on: both results in it.
    step, bit = (below + 1) // 2, chosen[:, -1]
    v = scratch[0, : (step + 1) * digits * c].reshape(step + 1, digits, c)
    middle = thermometer[step - 1]
    np.bitwise_and(middle, bit, out=v[0])
    np.bitwise_xor(v[0], middle, out=v[step])
    if one:  # not (bit and not the middle entry)
        v[0] ^= bit
        v[0] ^= ONES
    inner = v[1:step]
    np.bitwise_xor(thermometer[: step - 1], thermometer[step:], out=inner)
    inner &= bit
    inner ^= thermometer[: step - 1]
    for j in reversed(range(chosen.shape[1] - 1)):
        step = 1 << j
        low, high = v[: step + 1], v[step:]
        v = scratch[(chosen.shape[1] - 1 - j) % 2, : low.size].reshape(step + 1, digits, c)
        np.bitwise_xor(low, high, out=v)
        v &= chosen[:, j]
        v ^= low
    return v


async def negative(channel: Channel, engine: Primitives, ring: Ring, x: Held) -> Shares:
    """Return whether each element is negative in two's complement.

    Args:
      engine: whose secret the bits are.
      x: this party's shares, shape (n,).

    Returns bits packed 64 a word, as `msb` does.
    """
    return await msb(channel, engine, summand(channel, x).astype(np.uint64, copy=False), ring.bits)


async def zero(channel: Channel, engine: Primitives, ring: Ring, x: Held) -> Shares:
    """Return whether each element is zero.

    Args:
      engine: whose secret the bits are.
      x: this party's shares, shape (n,).

    Returns bits packed 64 a word, shape (ceil(n / 64),); lanes from n up are one.
    """
    s, minus_t = await summands(channel, ring, x, negate=True)
    return ~(await any_plane(Shares(engine, XOR, s) ^ Shares(engine, XOR, minus_t)))
