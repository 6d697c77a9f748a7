"""Shared bits in slices, 64 a word: XOR and AND on whole planes, and circuits of them.

A `SharedBits` of shape (..., words) holds 64 * words lanes a plane. The caller says what a lane means: mostly one
row of a table. XOR, NOT and moving planes cost nothing. One AND gate costs one
bit sent a party [AFLNO16, section 2.1]; all the ANDs of one `and_batch` share a round:

  z_i = x_i y_i + x_i y_{i+1} + x_{i+1} y_i + F(k_i) + F(k_{i+1})   (over GF(2))

is computed in cache-sized chunks, masked in place by two AES-CTR passes, and sent to P_{i-1}. P_i sees
z_{i+1}, masked by F(k_{i+2}), which it does not hold.

Circuits that stand on it: OR over planes, comparison of bit-sliced numbers (four-bit blocks, then a tree,
as in [GSV07; RRK+20]), comparison with public numbers, and the parallel-prefix adder of
[BK82] behind carry-save compression. Their ANDs and rounds are given by `Gates`, which the tests hold
against the ledger.

Longer than most modules: each circuit stands beside the function that states its ANDs and rounds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from secagg.errors import ShapeError
from secagg.mpc.groups import XOR
from secagg.mpc.shared import Shared
from secagg.mpc.three.engine import ThreeEngine
from secagg.mpc.three.streams import Purpose
from secagg.party import Computation, PartyId
from secagg.ring import U64
from secagg.wire import Message

LANES: Final = 64
ONES: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
CHUNK: Final = 1 << 15  # words worked on at a time: input, output and masks stay in the second-level cache


class Gates(NamedTuple):
    """What a circuit costs: ANDs a lane (each one bit sent by each computing party), and rounds."""

    ands: int
    rounds: int

    def __add__(self, other: tuple[object, ...]) -> Gates:
        return Gates(self.ands + Gates(*other).ands, self.rounds + Gates(*other).rounds)  # type: ignore[arg-type]

    def beside(self, other: Gates) -> Gates:
        """Return the cost of both circuits run side by side."""
        return Gates(self.ands + other.ands, max(self.rounds, other.rounds))


class SharedBits(Shared):
    """Secret bits, 64 a word; of this party's two shares, each a uint64 array of the same shape."""

    __slots__ = ()

    def __xor__(self, other: SharedBits) -> SharedBits:
        return SharedBits(self.engine, self.share_0 ^ other.share_0, self.share_1 ^ other.share_1)

    def __ixor__(self, other: SharedBits) -> Self:
        self.share_0 ^= other.share_0
        self.share_1 ^= other.share_1
        return self

    def __invert__(self) -> SharedBits:
        return self ^ public_bits(self.engine, np.full(self.shape, ONES))

    def __and__(self, other: SharedBits) -> Computation[SharedBits]:
        """Return an awaitable for the AND of two arrays of bits."""
        return _and(self, other)

    def __or__(self, other: SharedBits) -> Computation[SharedBits]:
        """Return an awaitable for the OR of two arrays of bits."""
        return _or(self, other)

    async def open(self, to: Sequence[PartyId] | None = None) -> U64 | None:
        """Open to `to` (default: the computing parties); others among them call `receive_opening`."""
        return await self.engine.open(XOR, self.share_0, self.share_1, to)

    @classmethod
    def concatenate(cls, parts: Sequence[SharedBits]) -> Self:
        """Join arrays along the first axis."""
        share_0 = np.concatenate([p.share_0 for p in parts])
        return cls(parts[0].engine, share_0, np.concatenate([p.share_1 for p in parts]))


def public_bits(engine: ThreeEngine, bits: U64) -> SharedBits:
    """Return public bits as shares: x_0 is the bits, x_1 = x_2 = 0."""
    zero = np.zeros_like(bits)
    return SharedBits(engine, bits if engine.index == 0 else zero, bits if engine.index == 2 else zero)


async def input_bits(
    engine: ThreeEngine,
    owner: PartyId,
    shape: tuple[int, ...],
    bits: U64 | None = None,
    *,
    owner_sent_before: Collection[type[Message]] = (),
) -> SharedBits:
    """Return an input of `owner` as shares; the owner passes `bits`, or calls `share_input` if it is outside."""
    shares = await engine.input(XOR, owner, shape, bits, owner_sent_before=owner_sent_before)
    return SharedBits(engine, *shares)


async def _and(x: SharedBits, y: SharedBits) -> SharedBits:
    return (await and_batch([(x, y)]))[0]


async def _or(x: SharedBits, y: SharedBits) -> SharedBits:
    return x ^ y ^ await (x & y)


async def and_batch(pairs: Sequence[tuple[SharedBits, SharedBits]]) -> list[SharedBits]:
    """Return the ANDs of several pairs of arrays, in one round.

    Args:
      pairs: (x, y) where y has shape (planes, words) or (words,), and x the same shape or, to select by
        one bit, (words,).

    Raises:
      ShapeError: x fits neither.
    """
    engine = pairs[0][0].engine
    total = sum(y.size for _, y in pairs)
    z = np.empty(total, np.uint64)
    scratch = np.empty(min(total, max(CHUNK, max(y.shape[-1] for _, y in pairs))), np.uint64)
    done = 0
    for x, y in pairs:
        words = y.shape[-1]
        rows = 1 if len(y.shape) == 1 else y.shape[0]
        if x.shape != y.shape and x.shape != (words,):
            raise ShapeError(f"expected bits of shape {y.shape} or ({words},), got {x.shape}")
        y0, y1 = y.share_0.reshape(rows, words), y.share_1.reshape(rows, words)
        select = x.shape != y.shape
        x0, x1 = (
            (x.share_0, x.share_0 ^ x.share_1)
            if select
            else (x.share_0.reshape(rows, words), x.share_1.reshape(rows, words))
        )
        step = max(1, CHUNK // max(1, words))
        for a in range(0, rows, step):
            b = min(a + step, rows)
            flat = z[done : done + (b - a) * words]
            part, t = flat.reshape(b - a, words), scratch[: flat.size].reshape(b - a, words)
            if select:  # x0 y1 + (x0 + x1) y0
                np.bitwise_and(y1[a:b], x0, out=part)
                np.bitwise_and(y0[a:b], x1, out=t)
            else:  # x0 (y0 + y1) + x1 y0
                np.bitwise_xor(y0[a:b], y1[a:b], out=t)
                np.bitwise_and(t, x0[a:b], out=part)
                np.bitwise_and(x1[a:b], y0[a:b], out=t)
            part ^= t
            add_zero_share(engine, flat)
            done += flat.size
    received = await engine.reshare(z)
    results, done = [], 0
    for _, y in pairs:
        cut = slice(done, done + y.size)
        results.append(SharedBits(engine, z[cut].reshape(y.shape), received[cut].reshape(y.shape)))
        done += y.size
    return results


def add_zero_share(engine: ThreeEngine, z: U64) -> None:
    """XOR this party's share of zero into a contiguous array of an AND's results, in place."""
    engine.k_own[Purpose.AND].xor_into(z)
    engine.k_next[Purpose.AND].xor_into(z)


async def any_plane(x: SharedBits) -> SharedBits:
    """Return the OR over the planes of (planes, words), as (words,); see `any_plane_gates`."""
    while len(x) > 1:
        half = len(x) // 2
        a, b = x[:half], x[half : 2 * half]
        both = await (a & b)
        both ^= a
        both ^= b
        x = SharedBits.concatenate([both, x[2 * half :]]) if len(x) % 2 else both
    return x[0]


def any_plane_gates(planes: int) -> Gates:
    return Gates(max(0, planes - 1), max(0, planes - 1).bit_length())


async def all_planes(x: SharedBits) -> SharedBits:
    """Return the AND over the planes of (planes, words), as (words,); as many gates as `any_plane`."""
    return ~(await any_plane(~x))


BLOCK: Final = 4  # bits compared in a chain before the tree; 4 needs the fewest ANDs for 40 to 100 bits


async def less_than(difference: SharedBits, low: SharedBits) -> SharedBits:
    """Return the bit `high < low` of unsigned numbers in slices.

    Args:
      difference: low XOR high, shape (BLOCK * blocks, words). Plane j * blocks + b holds bit BLOCK * b + j,
        so that bit j of all blocks is one stretch of memory (`block_order` gives the planes' order).
      low: the planes of `low`, in the same order and shape.

    Returns:
      shape (words,); see `less_than_gates`.
    """
    blocks = len(difference) // BLOCK
    d = [difference[j * blocks : (j + 1) * blocks] for j in range(BLOCK)]
    v = [low[j * blocks : (j + 1) * blocks] for j in range(BLOCK)]
    # Block 0 has nothing below it, so whether it differs is never asked.
    less, ne_low, ne_high = await and_batch([(d[0], v[0]), (d[0][1:], d[1][1:]), (d[2][1:], d[3][1:])])
    # What an AND returns is nobody else's, so it is worked on in place.
    for differ, bit in ((ne_low, 0), (ne_high, 2)):
        differ ^= d[bit][1:]
        differ ^= d[bit + 1][1:]
    for j in range(1, BLOCK):  # where bit j differs, it decides; else what stood below
        pairs = [(d[j], less ^ v[j])]
        if j == 1:
            pairs.append((ne_low, ne_high))
        gained = await and_batch(pairs)
        less ^= gained[0]
        if j == 1:
            ne_low ^= ne_high
            ne_low ^= gained[1]
    return await decide(less, ne_low)


async def decide(less: SharedBits, differ: SharedBits) -> SharedBits:
    """Combine digits to the verdict on whole numbers: the highest digit that differs decides.

    Args:
      less: for each digit, lowest first, whether the first number is less there; 0 where equal.
      differ: for each digit but the lowest, whether the two differ there.
    """
    while len(less) > 1:
        half = len(less) // 2
        low, high = less[0 : 2 * half : 2], less[1 : 2 * half : 2]
        # differ[k - 1] belongs to digit k
        differ_high, differ_low = differ[0 : 2 * half - 1 : 2], differ[1 : 2 * half - 2 : 2]
        pairs = [(differ_high, low)]
        if half > 1:
            pairs.append((differ_high[1:], differ_low))
        gained = await and_batch(pairs)
        merged, rest = gained[0], gained[1] if half > 1 else differ[:0]
        merged ^= high
        merged ^= low
        if half > 1:
            rest ^= differ_high[1:]
            rest ^= differ_low
        if len(less) % 2:
            merged = SharedBits.concatenate([merged, less[2 * half :]])
            rest = SharedBits.concatenate([rest, differ[2 * half - 1 :]])
        less, differ = merged, rest
    return less[0]


def decide_gates(digits: int) -> Gates:
    gates = Gates(0, 0)
    while digits > 1:
        half = digits // 2
        gates += Gates(2 * half - 1, 1)
        digits = digits - half
    return gates


def less_than_gates(bits: int) -> Gates:
    blocks = bits // BLOCK
    return Gates(blocks * BLOCK + 3 * (blocks - 1), BLOCK) + decide_gates(blocks)


async def less_in_turn(*comparisons: Iterable[tuple[SharedBits, SharedBits]]) -> list[SharedBits]:
    """Return what `less_than` does, one bit after the other: half the gates, and a round for each bit.

    Args:
      comparisons: each, for every bit, lowest first, the planes (high XOR low, low), taken when their round comes.

    Returns:
      for each comparison, the bit `high < low`; see `less_in_turn_gates`.
    """
    turns = [iter(bits) for bits in comparisons]
    less: dict[int, SharedBits] = {}
    while steps := [(i, pair) for i, bits in enumerate(turns) if (pair := next(bits, None)) is not None]:
        # Where this bit differs, it decides; else what stood below.
        pairs = [(differ, less[i] ^ low if i in less else low) for i, (differ, low) in steps]
        for (i, _), gained in zip(steps, await and_batch(pairs), strict=True):
            if i in less:
                less[i] ^= gained
            else:
                less[i] = gained
    return [less[i] for i in range(len(turns))]


def less_in_turn_gates(bits: int) -> Gates:
    """Return the gates of one comparison; those that run together share rounds."""
    return Gates(bits, bits)


def block_order(bits: int) -> NDArray[np.intp]:
    """Return, for each plane of `less_than`'s order, which bit of the number it holds."""
    return np.arange(bits).reshape(bits // BLOCK, BLOCK).T.reshape(-1)


async def at_least(x: SharedBits, threshold: int) -> SharedBits:
    """Return the bit `x >= threshold` of unsigned numbers in slices, lowest bit first, and a public number.

    Args:
      x: shape (bits, words).
      threshold: below 2**bits.

    Raises:
      ShapeError: the threshold has more bits than x.
    """
    bits = len(x)
    if not 0 <= threshold < 1 << bits:
        raise ShapeError(f"a threshold of {threshold.bit_length()} bits does not fit numbers of {bits} bits")
    shape = (1, x.shape[-1])
    planes = [
        public_bits(x.engine, np.full(shape, ONES if threshold >> j & 1 else 0, np.uint64))
        for j in range(bits)
    ]
    differ = x ^ SharedBits.concatenate(planes)
    # x is less at bit j where they differ and the threshold has the bit.
    nothing = public_bits(x.engine, np.zeros(shape, np.uint64))
    less = SharedBits.concatenate([differ[j : j + 1] if threshold >> j & 1 else nothing for j in range(bits)])
    return ~(await decide(less, differ[1:]))


def at_least_gates(bits: int) -> Gates:
    return decide_gates(bits)


async def add(terms: Sequence[SharedBits]) -> SharedBits:
    """Return the sum modulo 2**bits of unsigned numbers in slices, lowest bit first.

    Three terms become two by carry-save compression until two are left, which a parallel-prefix adder
    [BK82] adds.

    Args:
      terms: at least one, each of shape (bits, words).
    """
    left = list(terms)
    while len(left) > 2:
        groups = [left[i : i + 3] for i in range(0, len(left) - 2, 3)]
        rest = left[3 * len(groups) :]
        # majority(a, b, c) = (a ^ c) & (b ^ c) ^ c; the highest carry falls off
        majorities = await and_batch([(a[:-1] ^ c[:-1], b[:-1] ^ c[:-1]) for a, b, c in groups])
        left = rest
        for (a, b, c), majority in zip(groups, majorities, strict=True):
            majority ^= c[:-1]
            total = a ^ b
            total ^= c
            left += [total, _shifted_up(majority)]
    if len(left) == 1:
        return left[0]
    return await _add_two(*left)


def add_gates(bits: int, terms: int) -> Gates:
    gates = Gates(0, 0)
    while terms > 2:
        groups = terms // 3
        gates += Gates(groups * (bits - 1), 1)
        terms -= groups
    if terms < 2 or bits < 2:
        return gates
    gates += Gates(bits - 1, 1)
    for into, _, up in _prefix_levels(bits - 1):
        gates += Gates(2 * len(into) - 1 if up else len(into), 1)
    return gates


def _prefix_levels(bits: int) -> list[tuple[range, range, bool]]:
    """Return the Brent-Kung schedule: by level, positions combined into, from, and whether on the way up.

    On the way up a position's propagate bit is combined as well, but at the first, which nothing precedes.
    """
    spans = [1 << k for k in range(bits.bit_length()) if 1 << k < bits]
    up = [(range(2 * s - 1, bits, 2 * s), range(s - 1, bits - s, 2 * s), True) for s in spans]
    down = [
        (range(3 * s - 1, bits, 2 * s), range(2 * s - 1, bits - s, 2 * s), False) for s in reversed(spans)
    ]
    return [(into, source[: len(into)], rising) for into, source, rising in up + down if into]


def _shifted_up(planes: SharedBits) -> SharedBits:
    zero = np.zeros((1, planes.shape[-1]), np.uint64)
    return SharedBits.concatenate([SharedBits(planes.engine, zero, zero), planes])


async def _add_two(a: SharedBits, b: SharedBits) -> SharedBits:
    bits = len(a)
    half_sum = a ^ b
    if bits < 2:
        return half_sum
    generate = await (a[:-1] & b[:-1])
    propagate = half_sum[:-1].copy()
    for into, source, up in _prefix_levels(bits - 1):
        i, k = (slice(r.start, r.stop, r.step) for r in (into, source))
        pairs = [(propagate[i], generate[k])]
        if up and len(into) > 1:
            pairs.append((propagate[i][1:], propagate[k][1:]))
        gained = await and_batch(pairs)
        target = generate[i]
        target ^= gained[0]  # a view: this writes into `generate`
        if up and len(into) > 1:
            propagate.share_0[i][1:] = gained[1].share_0
            propagate.share_1[i][1:] = gained[1].share_1
    half_sum[1:].__ixor__(generate)  # carries move one place up
    return half_sum
