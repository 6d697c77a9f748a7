"""ANDs of bits among four parties, and exchanges of rows by them, in place: products of bits as in `products`.

Both are worked out a few planes at a time, so that operands, masks and results stay in the second-level cache.

Threat model: that of `engine`. Learns: nobody anything. Cost: as a product of as many words.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from secagg.errors import ShapeError
from secagg.mpc.columns import stretches_of
from secagg.mpc.four.broadcast import PARTIES
from secagg.mpc.four.channel import Channel
from secagg.mpc.four.keys import Purpose
from secagg.mpc.four.products import CHUNK, Resharing, plan
from secagg.mpc.four.shares import Held
from secagg.mpc.groups import XOR, Array


async def conjunction(channel: Channel, pairs: Sequence[tuple[Held, Held]]) -> list[Held]:
    """Return the ANDs of several pairs of arrays of bits, 64 a word, in one round.

    Args:
      pairs: (x, y), y of shape (planes, words) or (words,), and x of the same shape or, to go with each plane, (words,).

    Raises:
      ShapeError: x fits neither.
    """
    mine = channel.others
    shapes = []
    for x, y in pairs:
        shape = y[mine[0]].shape
        if x[mine[0]].shape not in (shape, shape[-1:]) or len(shape) not in (1, 2):
            raise ShapeError(f"expected bits of shape {shape} or {shape[-1:]}, got {x[mine[0]].shape}")
        shapes.append(shape)
    n = sum(map(math.prod, shapes))
    resharing = Resharing(channel, XOR, Purpose.CONJUNCTION, plan(n))
    z = {j: np.empty(n, np.uint64) for j in mine}
    kernel = _Kernel(channel, resharing, n)
    start = 0
    for (x, y), shape in zip(pairs, shapes, strict=True):
        words = shape[-1]
        rows = math.prod(shape) // max(1, words)
        planes = {j: part.reshape(rows, words) for j, part in y.items()}
        whole = x[mine[0]].shape == shape
        other = {j: part.reshape(rows if whole else 1, words) for j, part in x.items()}
        for down, across in _blocks(rows, words):
            begin = start + down.start * words + across.start
            size = (down.stop - down.start) * (across.stop - across.start)
            kernel.work(
                begin,
                {j: part[down if whole else slice(0, 1), across] for j, part in other.items()},
                {j: part[down, across] for j, part in planes.items()},
                {j: part[begin : begin + size] for j, part in z.items()},
            )
        start += rows * words
    await resharing.finish(z)
    results, start = [], 0
    for shape in shapes:
        size = math.prod(shape)
        # Stretches of one array: they do not overlap.
        results.append({j: part[start : start + size].reshape(shape) for j, part in z.items()})
        start += size
    return results


async def exchange(channel: Channel, swap: Held, views: Sequence[tuple[Held, Held]]) -> None:
    """Exchange earlier and later rows in place where `swap` says so: both get swap AND (earlier XOR later) added.

    Args:
      swap: bits of shape (columns of all views together,).
      views: views into shares, (planes, ...), whose columns stand one after the other in `swap`.

    Raises:
      ShapeError: views of two shapes, or other columns than `swap` has.
    """
    mine = channel.others
    shapes = [earlier[mine[0]].shape for earlier, _ in views]
    planes = {shape[0] for shape in shapes}
    if len(planes) > 1 or [later[mine[0]].shape for _, later in views] != shapes:
        raise ShapeError(f"expected pairs of views of one shape and as many planes each, got {shapes}")
    columns = [math.prod(shape[1:]) for shape in shapes]
    if swap[mine[0]].shape != (sum(columns),):
        raise ShapeError(f"expected words for {sum(columns)} columns, got {swap[mine[0]].shape}")
    n = sum(map(math.prod, shapes))
    resharing = Resharing(channel, XOR, Purpose.CONJUNCTION, plan(n))
    kernel = _Kernel(channel, resharing, n)
    starts, start, column = [], 0, 0
    for (earlier, later), shape, wide in zip(views, shapes, columns, strict=True):
        chosen = {j: bit[column : column + wide].reshape(shape[1:]) for j, bit in swap.items()}
        for down in _rows(shape[0], wide):
            rows = down.stop - down.start
            with stretches_of(shape[-1]):
                apart = {j: earlier[j][down] ^ later[j][down] for j in mine}
            z = {j: np.empty(rows * wide, np.uint64) for j in mine}
            kernel.work(start + down.start * wide, chosen, apart, z)
            with stretches_of(shape[-1]):
                for j, part in z.items():
                    _add(earlier[j][down], later[j][down], part)
        starts.append(start)
        start += shape[0] * wide
        column += wide
    for share, where, value in await resharing.hand_over():
        for (earlier, later), shape, wide, start in zip(views, shapes, columns, starts, strict=True):
            low, high = max(where.start, start), min(where.stop, start + shape[0] * wide)
            for first, last in _whole_planes(low - start, high - start, wide):
                rows = slice(first // wide, -(-last // wide))
                part = value[start + first - where.start : start + last - where.start]
                if (last - first) % wide:  # the half of an item ends within a plane
                    padded = np.zeros((rows.stop - rows.start) * wide, np.uint64)
                    padded[first - rows.start * wide :][: part.size] = part
                    part = padded
                with stretches_of(shape[-1]):
                    _add(earlier[share][rows], later[share][rows], part)


class _Kernel:
    """What one party works out of an AND, one block after the other.

    Of the items of `products.plan`, those for whole arrays are v_ab + x_a y_a here: their sender and voucher know that as
    well. So every product of shares is in an item, and a share of the result begins as the mask of one.
    """

    __slots__ = ("_me", "_mine", "_resharing", "_scratch")

    def __init__(self, channel: Channel, resharing: Resharing, n: int) -> None:
        self._me = channel.index
        self._mine = channel.others
        self._resharing = resharing
        self._scratch = np.empty((2, min(CHUNK, n)), np.uint64)

    def work(self, start: int, x: Held, y: Held, z: Held) -> None:
        """Work out a block; x broadcasts to the shape of y, and z is flat, contiguous, and overwritten."""
        me, resharing = self._me, self._resharing
        shape = y[self._mine[0]].shape
        size = math.prod(shape)
        if size > self._scratch.shape[1]:
            self._scratch = np.empty((2, size), np.uint64)
        flat = self._scratch[0, :size]
        v, t = flat.reshape(shape), self._scratch[1, :size].reshape(shape)
        items = list(zip(resharing.values, resharing.parts, strict=True))
        for _, ((_, b, _, _), _) in items[:PARTIES]:
            if b != me:
                resharing.stream(b).fill(z[b])
        gained = []
        for value, ((a, b, _, _), _) in items[:PARTIES]:
            if value is None:
                continue
            np.bitwise_xor(y[a], y[b], out=t)  # x_a (y_a + y_b) + x_b y_a
            np.bitwise_and(x[a], t, out=v)
            np.bitwise_and(x[b], y[a], out=t)
            v ^= t
            part = value[start : start + size]
            np.bitwise_xor(flat, z[b], out=part)
            gained.append((a, part))
        for a, part in gained:
            z[a] ^= part
        a, b = (me + 1) % PARTIES, (me + 3) % PARTIES  # the pair that is shared in two halves
        np.bitwise_and(x[a], y[b], out=v)
        np.bitwise_and(x[b], y[a], out=t)
        v ^= t
        for value, ((a, b, _, _), where) in items[PARTIES:]:
            low, high = max(where.start, start), min(where.stop, start + size)
            if low >= high or me == b:
                continue
            here = slice(low - start, high - start)
            if value is None:
                resharing.stream(b).xor_into(z[b][here])
                continue
            part = value[low - where.start : high - where.start]
            resharing.stream(b).fill(part)
            z[b][here] ^= part
            part ^= flat[here]
            z[a][here] ^= part


def _blocks(rows: int, words: int) -> list[tuple[slice, slice]]:
    """Return stretches of rows and of words that hold one stretch of memory each, in order."""
    if words <= CHUNK:
        return [(down, slice(0, words)) for down in _rows(rows, words)]
    cuts = [slice(a, min(a + CHUNK, words)) for a in range(0, words, CHUNK)]
    return [(slice(a, a + 1), cut) for a in range(rows) for cut in cuts]


def _rows(rows: int, words: int) -> list[slice]:
    """Cut rows of so many words into stretches of about a chunk."""
    step = max(1, CHUNK // max(1, words))
    return [slice(a, min(a + step, rows)) for a in range(0, rows, step)]


def _whole_planes(low: int, high: int, wide: int) -> list[tuple[int, int]]:
    """Cut a stretch of planes into whole ones and what is left of one at either end."""
    cuts = sorted(
        {low, high, *(min(max(at, low), high) for at in (-(-low // wide) * wide, high // wide * wide))}
    )
    return list(itertools.pairwise(cuts)) if low < high else []


def _add(earlier: Array, later: Array, part: Array) -> None:
    part = part.reshape(earlier.shape)
    earlier ^= part
    later ^= part
