"""One shared bit a client: whether its shared vector breaks a bound.

For a row (w, w x) of bounds B, C, W (w = 1, known to all, where there are no weights) these numbers must not be negative:

  w,  W - w                        where there are weights
  w B + w x_i,  w B - w x_i        for every coordinate
  w**2 C - sum (w x_i)**2

The last needs one product summed up locally, one number sent a client; the others are linear. One comparison gives
the signs of all, a tree ORs them.

Correct for every element of the ring, M = 2**(k-1) - 1 its largest number: a number's top bit is zero if, modulo 2**k, it
lies in 0..M. (1) w and W - w have none set: w in 0..M and w in W - M..W, so 0 <= w <= W. (2) Then b = w B is the
integer, 2 b <= M; b + y has none set for y in -b..M - b, b - y for y in b - M..b: together, and because b <= M - b,
for y in -b..b alone. (3) Then the sum of squares is an integer of at most d b**2 <= M, and w**2 C <= M, so that their
difference is the integer. If (1) fails, or (2), the bit is set whatever (2) and (3) give.
"""

from __future__ import annotations

import numpy as np

from secagg.cost.operation import Cost
from secagg.mpc.array import SharedArray, public_array
from secagg.mpc.bits import SharedBits, any_plane, any_plane_gates
from secagg.mpc.three.comparison import ltz, msb_cost
from secagg.mpc.three.costs import same_cost
from secagg.mpc.three.products import multiply_cost, multiply_locally, replicate
from secagg.protocols.bounded_sum.terms import Bounds
from secagg.ring import RingArray, to_planes

_LANES = 64
_AT_ONCE = 1 << 19  # comparisons; each takes some 150 bytes at an aggregator
_HALVES = (32, 16, 8, 4, 2, 1)


async def violations(rows: SharedArray, bounds: Bounds) -> SharedBits:
    """Return whether each row breaks a bound, bits packed 64 a word, shape (ceil(m / 64),); lanes from m up are zero.

    Args:
      rows: what m clients shared, shape (m, columns), at least one; any elements of the ring.
    """
    engine, m = rows.engine, len(rows)
    words = _words(bounds)
    spare = await _spare(rows, bounds)
    shares = list(
        zip(
            (rows.share_0, rows.share_1),
            _shares(public_array(engine, bounds.max_weight or 1, ring=bounds.ring)),
            _shares(_reach(rows, bounds)),
            _shares(spare),
            strict=True,
        )
    )
    # Margins and what their comparison takes are many times as large as the rows, so there are never many at once.
    planes = [np.empty((words, m), np.uint64) for _ in shares]
    for start, stop in _slices(m, words):
        share_0, share_1 = (_margins(*share, bounds, start * _LANES, stop * _LANES) for share in shares)
        negative = await ltz(engine, bounds.ring, share_0.reshape(-1), share_1.reshape(-1))
        del share_0, share_1
        for into, share in zip(planes, (negative.share_0, negative.share_1), strict=True):
            into[start:stop] = share.reshape(m, stop - start).T
    bits = await any_plane(SharedBits(engine, *planes))
    for half in _HALVES:
        shift = np.uint64(half)
        bits = await (bits | SharedBits(engine, bits.share_0 >> shift, bits.share_1 >> shift))
    # Lane 0 is the OR of all; the other lanes hold ORs of some, which nobody may see: only lane 0 is kept.
    return SharedBits(engine, to_planes(bits.share_0, 1)[0], to_planes(bits.share_1, 1)[0])


def violations_cost(m: int, bounds: Bounds) -> Cost:
    """Return the cost of `violations` of m rows."""
    words = _words(bounds)
    tree = any_plane_gates(words)
    ands = 8 * m * (tree.ands + len(_HALVES))
    signs = [msb_cost(m * (stop - start) * _LANES, bounds.ring.bits) for start, stop in _slices(m, words)]
    return multiply_cost(m, ring=bounds.ring).then(
        *signs,
        same_cost(tree.rounds + len(_HALVES), ands),
    )


def _slices(m: int, words: int) -> list[tuple[int, int]]:
    """Return which words of all m rows are compared together."""
    step = max(1, _AT_ONCE // (m * _LANES))
    return [(start, min(start + step, words)) for start in range(0, words, step)]


def _words(bounds: Bounds) -> int:
    """Return how many words the signs of one row take."""
    return -(-(2 * bounds.columns + 1) // _LANES)


def _shares(x: SharedArray) -> tuple[RingArray, RingArray]:
    return x.share_0, x.share_1


def _reach(rows: SharedArray, bounds: Bounds) -> SharedArray:
    """Return w B, shape (m, 1), or B where there are no weights."""
    if bounds.max_weight is None:
        return public_array(rows.engine, bounds.limit, ring=bounds.ring)
    return rows[:, :1] * bounds.limit


async def _spare(rows: SharedArray, bounds: Bounds) -> SharedArray:
    """Return w**2 C - sum (w x_i)**2 modulo 2**k, shape (m,)."""
    engine, ring, lead = rows.engine, bounds.ring, int(bounds.max_weight is not None)
    z = np.zeros(len(rows), ring.dtype)
    for i in range(len(rows)):
        for start in range(lead, rows.shape[1], _AT_ONCE):
            where = slice(start, start + _AT_ONCE)
            x = (rows.share_0[i, where], rows.share_1[i, where])
            z[i : i + 1] += np.sum(multiply_locally(engine.index, ring, x, x), dtype=ring.dtype)  # wraps
    np.negative(z, out=z)
    if bounds.max_weight is not None:
        w = (rows.share_0[:, 0].copy(), rows.share_1[:, 0].copy())
        z += multiply_locally(engine.index, ring, w, w) * ring.dtype.type(bounds.norm_limit)
    spare = SharedArray(engine, *await replicate(engine, ring, z, 0), ring=ring)
    return spare + bounds.norm_limit if bounds.max_weight is None else spare


def _margins(
    x: RingArray, weight: RingArray, reach: RingArray, spare: RingArray, bounds: Bounds, start: int, stop: int
) -> RingArray:
    """Return a slice of the numbers that must not be negative, of one share of each.

    In all they are reach - x and reach + x of each column, and spare, filled up with zeros to whole words. Where there are
    weights, the first column is the weight itself, and how far it is below the largest.

    Args:
      x: rows, shape (m, columns).
      weight: the largest weight, shape ().
      reach: shape (m, 1) or ().
      spare: shape (m,).
      start, stop: which of them.
    """
    m, c = x.shape
    lead = int(bounds.max_weight is not None)
    out = np.zeros((m, stop - start), x.dtype)
    for offset, operation in ((0, np.positive), (c, np.negative)):
        first, last = max(start, offset), min(stop, offset + c)
        if first < last:
            part = out[:, first - start : last - start]
            operation(x[:, first - offset : last - offset], out=part)
            part[:, max(0, offset + lead - first) :] += reach
    if lead and start <= c < stop:
        out[:, c - start] += weight
    if start <= 2 * c < stop:
        out[:, 2 * c - start] = spare
    return out
