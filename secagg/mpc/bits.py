"""Circuits on shared bits in slices, 64 a word.

Bits of shape (..., words) hold 64 * words lanes a plane. The caller says what a lane means: mostly one row of a table.
XOR, NOT and moving planes cost nothing; an AND is the engine's `conjunction`, and all the ANDs of one call share a round.

There are OR over planes, comparison of bit-sliced numbers (a tree over their bits, as in [GSV07]), comparison with public
numbers, and the parallel-prefix adders of [BK82; LF80] behind carry-save compression. Their ANDs and rounds are given
by `Gates`, which the tests hold against the ledger.

Learns: nobody anything.
Longer than most modules: each circuit stands beside the function that states its ANDs and rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secagg.errors import ShapeError
from secagg.mpc.groups import XOR
from secagg.mpc.primitives import Primitives, Shares, concatenate
from secagg.ring import U64

LANES: Final = 64
ONES: Final = np.uint64(0xFFFFFFFFFFFFFFFF)


class Gates(NamedTuple):
    """What a circuit costs: ANDs a lane (each one bit sent by each computing party), and rounds."""

    ands: int
    rounds: int

    def __add__(self, other: tuple[object, ...]) -> Gates:
        return Gates(self.ands + Gates(*other).ands, self.rounds + Gates(*other).rounds)  # type: ignore[arg-type]

    def beside(self, other: Gates) -> Gates:
        """Return the cost of both circuits run side by side."""
        return Gates(self.ands + other.ands, max(self.rounds, other.rounds))


def zeros(engine: Primitives, shape: tuple[int, ...]) -> Shares:
    """Return zero bits as a secret, of which no two shares share memory."""
    return engine.public(XOR, np.zeros(shape, np.uint64))


async def conjunction(x: Shares, y: Shares) -> Shares:
    """Return x AND y, in one round; see `Primitives.conjunction` for their shapes."""
    return (await x.engine.conjunction([(x, y)]))[0]


async def disjunction(x: Shares, y: Shares) -> Shares:
    """Return x OR y, of one shape, in one round."""
    either = await conjunction(x, y)
    either ^= x
    either ^= y
    return either


async def any_plane(x: Shares) -> Shares:
    """Return the OR over the planes of (planes, words), as (words,); see `any_plane_gates`."""
    while len(x) > 1:
        half = len(x) // 2
        either = await disjunction(x[:half], x[half : 2 * half])
        x = concatenate([either, x[2 * half :]]) if len(x) % 2 else either
    return x[0]


def any_plane_gates(planes: int) -> Gates:
    return Gates(max(0, planes - 1), max(0, planes - 1).bit_length())


async def all_planes(x: Shares) -> Shares:
    """Return the AND over the planes of (planes, words), as (words,); as many gates as `any_plane`."""
    return ~(await any_plane(~x))


async def precedes(difference: Shares, low: Shares) -> Shares:
    """Return the bit `high < low` of unsigned numbers in slices that differ; of equal ones it is their lowest bit.

    A run of bits is kept as whether the two numbers differ there, and, where they do, the bit of `low` at the highest such
    place. A single bit is already of this kind. Two runs side by side make one by two ANDs: where the upper one differs it
    decides, else the lower one. Whether the lowest run differs is never asked.

    Args:
      difference: low XOR high, shape (bits, words), in the order of `plane_order`.
      low: the planes of `low`, in the same order and shape.

    Returns:
      shape (words,); see `precedes_gates`. With one bit it shares memory with `low`.
    """
    verdict, _ = await _combined(difference, low, 1)
    return verdict[0]


async def open_precedes(difference: Shares, low: Shares) -> U64:
    """Open what `precedes` returns to the computing parties; its last AND is opened at once.

    Args:
      difference, low: of at least two bits.
    """
    verdict, differ = await _combined(difference, low, 2)
    below = verdict[0]
    opened: U64 = await below.engine.open_conjunction(differ[0], below ^ verdict[1], below)
    return opened


async def _combined(difference: Shares, low: Shares, runs: int) -> tuple[Shares, Shares]:
    """Combine runs of `precedes` until so many are left; return their bits of `low`, and which but the lowest differ."""
    verdict, differ = low, difference[1:]  # differ[k - 1] belongs to run k
    while len(verdict) > runs:
        half = len(verdict) // 2
        below, above = verdict[:half], verdict[half : 2 * half]
        differ_below, differ_above = differ[: half - 1], differ[half - 1 : 2 * half - 1]
        pairs = [(differ_above, below ^ above)]
        if half > 1:
            pairs.append((differ_above[1:], differ_below))
        gained = await verdict.engine.conjunction(pairs)
        # What an AND returns is nobody else's, so it is worked on in place.
        merged, rest = gained[0], gained[1] if half > 1 else differ[:0]
        merged ^= below
        if half > 1:
            rest ^= differ_above[1:]
            rest ^= differ_below
        if len(verdict) % 2:
            merged = concatenate([merged, verdict[2 * half :]])
            rest = concatenate([rest, differ[2 * half - 1 :]])
        verdict, differ = merged, rest
    return verdict, differ


def precedes_gates(bits: int) -> Gates:
    ands = ands_by_round(bits)
    return Gates(sum(ands), len(ands))


def ands_by_round(bits: int) -> list[int]:
    """Return how many ANDs a lane each round of `precedes` has."""
    rounds = []
    while bits > 1:
        rounds.append(2 * (bits // 2) - 1)
        bits -= bits // 2
    return rounds


def plane_order(bits: int) -> NDArray[np.intp]:
    """Return, for each plane of the order that `precedes` takes, which bit of the number it holds.

    In every round the lower runs of all pairs are one stretch of memory, and so are the upper ones. The lowest bit comes
    first and the highest one last.
    """
    if bits < 2:
        return np.arange(bits)
    half = bits // 2
    pairs = 2 * plane_order(bits - half)[:half]
    return np.concatenate([pairs, pairs + 1, np.arange(2 * half, bits)])


async def less_than(difference: Shares, low: Shares) -> Shares:
    """Return the bit `high < low` of unsigned numbers in slices, which may be equal.

    See `precedes` for arguments, and `less_than_gates`. The lowest bit counts only where it differs.
    """
    lowest = await conjunction(difference[:1], low[:1])
    return await precedes(difference, concatenate([lowest, low[1:]]))


def less_than_gates(bits: int) -> Gates:
    return Gates(1, 1) + precedes_gates(bits)


async def decide(less: Shares, differ: Shares) -> Shares:
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
        gained = await less.engine.conjunction(pairs)
        merged, rest = gained[0], gained[1] if half > 1 else differ[:0]
        merged ^= high
        merged ^= low
        if half > 1:
            rest ^= differ_high[1:]
            rest ^= differ_low
        if len(less) % 2:
            merged = concatenate([merged, less[2 * half :]])
            rest = concatenate([rest, differ[2 * half - 1 :]])
        less, differ = merged, rest
    return less[0]


def decide_gates(digits: int) -> Gates:
    gates = Gates(0, 0)
    while digits > 1:
        half = digits // 2
        gates += Gates(2 * half - 1, 1)
        digits = digits - half
    return gates


async def less_in_turn(*comparisons: Iterable[tuple[Shares, Shares]]) -> list[Shares]:
    """Return what `less_than` does, one bit after the other: half the gates, and a round for each bit.

    Args:
      comparisons: each, for every bit, lowest first, the planes (high XOR low, low), taken when their round comes.

    Returns:
      for each comparison, the bit `high < low`; see `less_in_turn_gates`.
    """
    turns = [iter(bits) for bits in comparisons]
    less: dict[int, Shares] = {}
    while steps := [(i, pair) for i, bits in enumerate(turns) if (pair := next(bits, None)) is not None]:
        # Where this bit differs, it decides; else what stood below.
        pairs = [(differ, less[i] ^ low if i in less else low) for i, (differ, low) in steps]
        engine = pairs[0][0].engine
        for (i, _), gained in zip(steps, await engine.conjunction(pairs), strict=True):
            if i in less:
                less[i] ^= gained
            else:
                less[i] = gained
    return [less[i] for i in range(len(turns))]


def less_in_turn_gates(bits: int) -> Gates:
    """Return the gates of one comparison; those that run together share rounds."""
    return Gates(bits, bits)


async def at_least(x: Shares, threshold: int) -> Shares:
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
    has = [bool(threshold >> j & 1) for j in range(bits)]
    words = np.where(has, ONES, np.uint64(0))[:, None]
    differ = x ^ x.engine.public(XOR, words)
    # x is less at bit j where they differ and the threshold has the bit.
    less = differ.each(lambda part: part & words)
    return ~(await decide(less, differ[1:]))


def at_least_gates(bits: int) -> Gates:
    return decide_gates(bits)


FEW: Final = 1 << 15  # so many numbers, and an adder's ANDs cost more than its rounds


async def add(terms: Sequence[Shares], *, shallow: bool = False) -> Shares:
    """Return the sum modulo 2**bits of unsigned numbers in slices, lowest bit first.

    Three terms become two by carry-save compression until two are left, which a parallel-prefix adder adds: that of [BK82],
    or a shallow one. At 64 bits it takes 8 rounds in place of 11, and a fifth more ANDs.

    Args:
      terms: at least one, each of shape (bits, words).
      shallow: which adder; for fewer than `FEW` numbers.
    """
    left = list(terms)
    while len(left) > 2:
        groups = [left[i : i + 3] for i in range(0, len(left) - 2, 3)]
        rest = left[3 * len(groups) :]
        # majority(a, b, c) = (a ^ c) & (b ^ c) ^ c; the highest carry falls off
        majorities = await left[0].engine.conjunction(
            [(a[:-1] ^ c[:-1], b[:-1] ^ c[:-1]) for a, b, c in groups]
        )
        left = rest
        for (a, b, c), majority in zip(groups, majorities, strict=True):
            majority ^= c[:-1]
            total = a ^ b
            total ^= c
            left += [total, _shifted_up(majority)]
    if len(left) == 1:
        return left[0]
    return await _add_two(*left, shallow=shallow)


def add_gates(bits: int, terms: int, *, shallow: bool = False) -> Gates:
    gates = Gates(0, 0)
    while terms > 2:
        groups = terms // 3
        gates += Gates(groups * (bits - 1), 1)
        terms -= groups
    if terms < 2 or bits < 2:
        return gates
    gates += Gates(bits - 1, 1)
    for into, _, without in _shallow_levels(bits - 1) if shallow else _prefix_levels(bits - 1):
        gates += Gates(2 * len(into) - without, 1)
    return gates


_Level: TypeAlias = tuple[Sequence[int], Sequence[int], int]


def _prefix_levels(bits: int) -> list[_Level]:
    """Return the schedule of [BK82]: by level, positions combined into, and from.

    The third says how many of the first positions do not combine their propagate bits as well, as nothing is to be added
    to them below: one on the way up, all on the way down.
    """
    spans = [1 << k for k in range(bits.bit_length()) if 1 << k < bits]
    up = [(range(2 * s - 1, bits, 2 * s), range(s - 1, bits - s, 2 * s), True) for s in spans]
    down = [
        (range(3 * s - 1, bits, 2 * s), range(2 * s - 1, bits - s, 2 * s), False) for s in reversed(spans)
    ]
    return [
        (into, source[: len(into)], 1 if rising else len(into)) for into, source, rising in up + down if into
    ]


def _shallow_levels(bits: int) -> list[_Level]:
    """Return the schedule of [LF80] that takes one level more than the fewest, as `_prefix_levels` does.

    Every second position takes in the one below. Among these, every upper half of a block takes in the top of the lower
    half, for blocks of 2, 4, 8, ... At last the positions between take in the one below.
    """
    odd = range(1, bits, 2)
    levels: list[_Level] = [(odd, range(0, bits - 1, 2), 1)]
    for k in range((len(odd) - 1).bit_length() if odd else 0):
        upper = [m for m in range(len(odd)) if m >> k & 1]
        sources = [(m >> k << k) - 1 for m in upper]
        lowest = sum(m >> (k + 1) == 0 for m in upper)
        levels.append(([odd[m] for m in upper], [odd[m] for m in sources], lowest))
    even = range(2, bits, 2)
    return [level for level in [*levels, (even, range(1, bits - 1, 2), len(even))] if level[0]]


def _shifted_up(planes: Shares) -> Shares:
    return concatenate([zeros(planes.engine, (1, planes.shape[-1])), planes])


def _indices(positions: Sequence[int]) -> slice | list[int]:
    """Return what picks positions out of an array, without a copy where they are a range."""
    if isinstance(positions, range):
        return slice(positions.start, positions.stop, positions.step)
    return list(positions)


async def _add_two(a: Shares, b: Shares, *, shallow: bool) -> Shares:
    bits = len(a)
    half_sum = a ^ b
    if bits < 2:
        return half_sum
    generate = await conjunction(a[:-1], b[:-1])
    propagate = half_sum[:-1].copy()
    for into, source, without in _shallow_levels(bits - 1) if shallow else _prefix_levels(bits - 1):
        i, k = (_indices(positions) for positions in (into, source))
        above = propagate[i]
        pairs = [(above, generate[k])]
        if without < len(into):
            pairs.append((above[without:], propagate[k][without:]))
        gained = await a.engine.conjunction(pairs)
        generate[i] = generate[i] ^ gained[0]
        if without < len(into):
            propagate[_indices(into[without:])] = gained[1]
    carried = half_sum[1:]
    carried ^= generate  # carries move one place up
    return half_sum
