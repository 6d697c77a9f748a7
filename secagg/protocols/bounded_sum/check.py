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

import functools

import numpy as np

from secagg.cost.operation import Cost
from secagg.mpc.bits import any_plane, any_plane_gates, disjunction
from secagg.mpc.groups import XOR
from secagg.mpc.numbers import RingGroup
from secagg.mpc.primitives import Shares
from secagg.mpc.three.channel import held
from secagg.mpc.three.costs import COSTS, same_cost
from secagg.mpc.three.engine import ThreeEngine
from secagg.mpc.three.products import multiply_locally, replicate
from secagg.protocols.bounded_sum.terms import Bounds
from secagg.ring import U64, RingArray, to_planes

_LANES = 64
_AT_ONCE = 1 << 19  # comparisons; each takes some 150 bytes at an aggregator
_HALVES = (32, 16, 8, 4, 2, 1)


async def violations(engine: ThreeEngine, rows: Shares, bounds: Bounds) -> Shares:
    """Return whether each row breaks a bound, bits packed 64 a word, shape (ceil(m / 64),); lanes from m up are zero.

    Args:
      engine: the aggregators'; they are three, because sums of squares are worked out on additive shares.
      rows: what m clients shared, shape (m, columns), at least one; any elements of the ring.
    """
    m, words = len(rows), _words(bounds)
    largest = engine.public(RingGroup(bounds.ring), np.full((), bounds.max_weight or 1, bounds.ring.dtype))
    reach, spare = _reach(rows, bounds), await _spare(engine, rows, bounds)
    parts = list(zip(rows.parts, largest.parts, reach.parts, spare.parts, strict=True))
    # Margins and what their comparison takes are many times as large as the rows, so there are never many at once.
    planes = [np.empty((words, m), np.uint64) for _ in parts]
    for start, stop in _slices(m, words):
        margins = [_margins(*part, bounds, start * _LANES, stop * _LANES).reshape(-1) for part in parts]
        negative = await engine.negative(Shares(engine, rows.group, margins))
        del margins
        for into, share in zip(planes, negative.parts, strict=True):
            into[start:stop] = share.reshape(m, stop - start).T
    bits = await any_plane(Shares(engine, XOR, planes))
    for half in _HALVES:
        bits = await disjunction(bits, bits.each(functools.partial(_down, by=np.uint64(half))))
    # Lane 0 is the OR of all; the other lanes hold ORs of some, which nobody may see: only lane 0 is kept.
    return bits.each(lambda share: to_planes(share, 1)[0])


def _down(share: U64, *, by: np.uint64) -> U64:
    return share >> by


def violations_cost(m: int, bounds: Bounds) -> Cost:
    """Return the cost of `violations` of m rows."""
    words = _words(bounds)
    tree = any_plane_gates(words)
    ands = 8 * m * (tree.ands + len(_HALVES))
    signs = [COSTS.negative(m * (stop - start) * _LANES, bounds.ring) for start, stop in _slices(m, words)]
    return COSTS.multiply(m, bounds.ring).then(*signs, same_cost(tree.rounds + len(_HALVES), ands))


def _slices(m: int, words: int) -> list[tuple[int, int]]:
    """Return which words of all m rows are compared together."""
    step = max(1, _AT_ONCE // (m * _LANES))
    return [(start, min(start + step, words)) for start in range(0, words, step)]


def _words(bounds: Bounds) -> int:
    """Return how many words the signs of one row take."""
    return -(-(2 * bounds.columns + 1) // _LANES)


def _reach(rows: Shares, bounds: Bounds) -> Shares:
    """Return w B, shape (m, 1), or B where there are no weights."""
    limit, ring = bounds.ring.dtype.type(bounds.limit), bounds.ring
    if bounds.max_weight is None:
        return rows.engine.public(rows.group, np.asarray(limit))
    return rows[:, :1].each(lambda share: ring.reduce(share * limit))


async def _spare(engine: ThreeEngine, rows: Shares, bounds: Bounds) -> Shares:
    """Return w**2 C - sum (w x_i)**2 modulo 2**k, shape (m,)."""
    channel, ring, lead = engine.channel, bounds.ring, int(bounds.max_weight is not None)
    z = np.zeros(len(rows), ring.dtype)
    for i in range(len(rows)):
        for start in range(lead, rows.shape[1], _AT_ONCE):
            x = held(rows[i, start : start + _AT_ONCE])
            z[i : i + 1] += np.sum(multiply_locally(channel.index, ring, x, x), dtype=ring.dtype)  # wraps
    np.negative(z, out=z)
    if bounds.max_weight is not None:
        w = held(rows[:, 0].copy())
        z += multiply_locally(channel.index, ring, w, w) * ring.dtype.type(bounds.norm_limit)
    spare = Shares(engine, rows.group, await replicate(channel, ring, z, 0))
    if bounds.max_weight is not None:
        return spare
    return spare + engine.public(rows.group, np.full(spare.shape, bounds.norm_limit, ring.dtype))


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
