"""ANDs of three-party shares of bits, and the exchange of rows that stands on them [AFLNO16, section 2.1].

One AND gate costs one bit sent a party; all the ANDs of one call share a round:

  z_i = x_i y_i + x_i y_{i+1} + x_{i+1} y_i + F(k_i) + F(k_{i+1})   (over GF(2))

is computed in cache-sized chunks, masked in place by two AES-CTR passes, and sent to P_{i-1}. P_i sees
z_{i+1}, masked by F(k_{i+2}), which it does not hold.

Learns: nobody anything. Cost: 1 round, s bytes a party for s bytes of results.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from secagg.errors import ShapeError
from secagg.mpc.columns import CHUNK, columns_of, stretches_of
from secagg.mpc.groups import Array
from secagg.mpc.three.channel import Channel, Held
from secagg.mpc.three.streams import Purpose
from secagg.ring import U64


async def conjunction(channel: Channel, pairs: Sequence[tuple[Held, Held]]) -> list[Held]:
    """Return the ANDs of several pairs of arrays, in one round.

    Args:
      pairs: shares of x and y, where y has shape (planes, words) or (words,), and x the same shape or, to select by
        one bit, (words,).

    Raises:
      ShapeError: x fits neither.
    """
    if not pairs:
        return []
    z = _summands(channel, pairs)
    received = await channel.reshare(z)
    results, done = [], 0
    for _, (y0, _) in pairs:
        cut = slice(done, done + y0.size)
        results.append((z[cut].reshape(y0.shape), received[cut].reshape(y0.shape)))
        done += y0.size
    return results


def summand(channel: Channel, x: Held, y: Held) -> U64:
    """Return this party's summand of x AND y, masked: it is uniform to the other two but for the sum of all three."""
    return _summands(channel, [(x, y)]).reshape(y[0].shape)


def _summands(channel: Channel, pairs: Sequence[tuple[Held, Held]]) -> U64:
    """Return this party's masked summands of the ANDs of pairs, one after the other."""
    total = sum(y[0].size for _, y in pairs)
    z = np.empty(total, np.uint64)
    scratch = np.empty(min(total, max(CHUNK, max(y[0].shape[-1] for _, y in pairs))), np.uint64)
    done = 0
    for x, y in pairs:
        shape = y[0].shape
        words = shape[-1]
        rows = 1 if len(shape) == 1 else shape[0]
        if x[0].shape != shape and x[0].shape != (words,):
            raise ShapeError(f"expected bits of shape {shape} or ({words},), got {x[0].shape}")
        y0, y1 = (share.reshape(rows, words) for share in y)
        select = x[0].shape != shape
        x0, x1 = (x[0], x[0] ^ x[1]) if select else (share.reshape(rows, words) for share in x)
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
            _add_zero_share(channel, flat)
            done += flat.size
    return z


async def exchange(channel: Channel, swap: Held, views: Sequence[tuple[Held, Held]]) -> None:
    """Exchange two tables of bits where the bit says so, in place.

    Both get swap AND (earlier XOR later) added. It is worked out a few planes at a time, view after view. This party's own
    share of the result is added to the first share at once, while it is still in the cache.

    Args:
      swap: shares of bits, shape (columns of all views together,).
      views: shares of pairs of views into arrays, each (planes, ...).

    Raises:
      ShapeError: two views that differ in shape, or not as many bits as columns.
    """
    shapes = [earlier[0].shape for earlier, _ in views]
    if [later[0].shape for _, later in views] != shapes or len({shape[0] for shape in shapes}) > 1:
        raise ShapeError(f"expected pairs of views of one shape and as many planes each, got {shapes}")
    where = columns_of([(earlier[0], later[0]) for earlier, later in views])
    columns = where[-1].stop if where else 0
    if swap[0].shape != (columns,):
        raise ShapeError(f"expected a bit for each of {columns} columns, got {swap[0].shape}")
    if not where:
        await channel.idle()
        return
    planes = shapes[0][0]
    bit, both = swap[0], swap[0] ^ swap[1]
    z = np.empty(planes * columns, np.uint64)
    for (earlier, later), cut in zip(views, where, strict=True):
        (e0, e1), (l0, l1) = earlier, later
        shape, size = e0.shape[1:], cut.stop - cut.start
        block = z[planes * cut.start : planes * cut.stop].reshape(planes, *shape)
        chosen, other = bit[cut].reshape(shape), both[cut].reshape(shape)
        step = max(1, CHUNK // max(1, size))
        scratch = np.empty((min(step, planes), *shape), np.uint64)
        with stretches_of(shape[-1]):
            for a in range(0, planes, step):
                part = block[a : a + step]
                t = scratch[: len(part)]
                np.bitwise_xor(e1[a : a + step], l1[a : a + step], out=part)
                part &= chosen
                np.bitwise_xor(e0[a : a + step], l0[a : a + step], out=t)
                t &= other
                part ^= t
                _add_zero_share(channel, part)
                e0[a : a + step] ^= part
                l0[a : a + step] ^= part
    received = await channel.reshare(z)
    for ((_, e1), (_, l1)), cut in zip(views, where, strict=True):
        part = received[planes * cut.start : planes * cut.stop].reshape(e1.shape)
        with stretches_of(e1.shape[-1]):
            e1 ^= part
            l1 ^= part


def _add_zero_share(channel: Channel, z: Array) -> None:
    """XOR this party's share of zero into a contiguous array of an AND's results, in place."""
    words: U64 = z
    channel.k_own[Purpose.AND].xor_into(words)
    channel.k_next[Purpose.AND].xor_into(words)
