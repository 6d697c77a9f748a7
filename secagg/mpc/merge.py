"""Oblivious merge of sorted lists: Batcher's odd-even merger on bit-sliced tables [Bat68; HEK12].

A table lies in slices: plane p holds bit p of all rows, 64 rows a word. Every word holds one row from each of
64 independent buckets, so one merger works on 64 * `words` buckets at once. Position k of all buckets is the
stretch k * words .. (k + 1) * words of each plane. The schedule of comparisons depends on public lengths only.
What is compared and swapped stays shared, so privacy follows from that of AND.

Batcher's merger takes two rising lists of n = 2**k rows. A first list of a rows is taken as the end of one that
begins with n - a least rows. A second list of b rows is taken as the beginning of one that ends with n - b
greatest rows. No comparison moves these, so the comparisons that meet them are left out. Layer by layer, it compares

  i and i + n            for all i < n, then, for the strides s = n/2, n/4, ..., 1,
  i and i + s            for all i in the runs [s, 2s), [3s, 4s), ...

and swaps where the later row is smaller: `less_than` on the key planes, then one AND a plane. Layers of short
stride run on a transposed copy, so that every operation still works on long stretches of memory.

Learns: nobody anything. Cost: see `merge_gates`.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from secagg.errors import ShapeError
from secagg.mpc.bits import CHUNK, Gates, SharedBits, add_zero_share, less_than, less_than_gates
from secagg.mpc.three.engine import ThreeEngine
from secagg.ring import U64

Views = list[tuple[U64, U64]]


async def merge(table: SharedBits, *, lengths: tuple[int, int], key_planes: int, block: int = 1) -> None:
    """Merge, in place, two rising lists in each bucket of a table.

    Args:
      table: shape (planes, (a + b) * words): a list of a rows, then one of b. The first `key_planes` planes
        hold the key in `bits.block_order`, the others move with it. May be a slice of a larger table's columns.
      lengths: (a, b).
      key_planes: a multiple of `bits.BLOCK`.
      block: positions that the short strides work on together; a power of two that divides a and b.

    Raises:
      ShapeError: the table does not have a + b rows, or `block` does not divide a and b.
    """
    planes, columns = table.shape
    length = sum(lengths)
    if min(lengths) < 0 or not length or columns % length or block < 1 or block & (block - 1):
        raise ShapeError(
            f"expected lists of {lengths} rows in blocks of a power of two, got {columns} columns"
        )
    if lengths[0] % block or lengths[1] % block:
        raise ShapeError(f"expected lists of whole blocks of {block} rows, got {lengths}")
    words = columns // length
    shares = [table.share_0, table.share_1]
    layers = _layers(lengths)
    for stride, segments in layers:
        if stride >= block:
            views = [_long_views(share, stride, segments, words) for share in shares]
            await _layer(table.engine, views, key_planes)
    short = [stride for stride, _ in layers if stride < block]
    if not short:
        return
    blocks = length // block
    turned = [
        np.ascontiguousarray(s.reshape(planes, blocks, block, words).swapaxes(1, 2)).reshape(planes, columns)
        for s in shares
    ]
    for stride in short:
        await _layer(
            table.engine, [_short_views(t, stride, block, blocks, words) for t in turned], key_planes
        )
    for share, t in zip(shares, turned, strict=True):
        share.reshape(planes, blocks, block, words)[...] = t.reshape(planes, block, blocks, words).swapaxes(
            1, 2
        )


class Segment(NamedTuple):
    """Runs of `width` positions, one every 2 * stride from `start`, each compared with what is a stride on."""

    start: int
    runs: int
    width: int


def _layers(lengths: tuple[int, int]) -> list[tuple[int, list[Segment]]]:
    """Return the strides of a merge and which positions of the table each compares."""
    a, b = lengths
    if not a or not b:
        return []
    n = 1 << (max(a, b) - 1).bit_length()
    layers = [(n, [Segment(0, 1, a + b - n)] if a + b > n else [])]
    first, end = n - a, n + b  # the table's positions, in those of the two full lists
    for stride in (n >> k for k in range(1, n.bit_length())):
        run = first // stride | 1  # the first odd run that ends behind the table's beginning
        segments = []
        if run * stride < first:
            segments.append(Segment(0, 1, min((run + 1) * stride, end - stride) - first))
            run += 2
        whole = max(0, (end // stride - run) // 2)
        segments.append(Segment(run * stride - first, whole, stride))
        run += 2 * whole
        segments.append(Segment(run * stride - first, 1, min(stride, end - (run + 1) * stride)))
        layers.append((stride, [s for s in segments if s.runs > 0 and s.width > 0]))
    return layers


def _long_views(share: U64, stride: int, segments: list[Segment], words: int) -> Views:
    """Return views (earlier, later), each (planes, runs, columns), of the rows that a layer compares."""
    planes, step = share.shape[0], stride * words
    views: Views = []
    for start, runs, width in segments:
        begin = start * words
        if runs == 1:
            end = begin + width * words
            views.append((share[:, None, begin:end], share[:, None, begin + step : end + step]))
        else:
            halves = share[:, begin : begin + runs * 2 * step].reshape(planes, runs, 2, step)
            views.append((halves[:, :, 0], halves[:, :, 1]))
    return views


def _short_views(turned: U64, stride: int, block: int, blocks: int, words: int) -> Views:
    """Return the views of a layer whose stride is below `block`, of a table with positions within blocks first."""
    planes, wide = turned.shape[0], blocks * words
    runs = block // (2 * stride) - 1
    views = _long_views(turned, stride, [Segment(stride, runs, stride)] if runs else [], wide)
    if blocks > 1:  # the last run of a block is compared with the first of the next
        last = turned[:, (block - stride) * wide :].reshape(planes, stride, wide)
        views.append(
            (last[:, :, :-words], turned[:, : stride * wide].reshape(planes, stride, wide)[:, :, words:])
        )
    return views


async def _layer(engine: ThreeEngine, views: list[Views], key_planes: int) -> None:
    where = _columns(views[0])
    if not where:
        return
    columns = where[-1].stop
    difference = [np.empty((key_planes, columns), np.uint64) for _ in views]
    low = [np.empty((key_planes, columns), np.uint64) for _ in views]
    for view, apart, bottom in zip(views, difference, low, strict=True):
        for (earlier, later), cut in zip(view, where, strict=True):
            shape = (key_planes, *earlier.shape[1:])
            with _rows_of(earlier.shape[-1]):
                np.bitwise_xor(earlier[:key_planes], later[:key_planes], out=apart[:, cut].reshape(shape))
            bottom[:, cut].reshape(shape)[...] = earlier[:key_planes]
    swap = await less_than(SharedBits(engine, *difference), SharedBits(engine, *low))
    await _swap(swap, views)


async def _swap(swap: SharedBits, views: list[Views]) -> None:
    """Exchange earlier and later rows where the bit says so, in place.

    Both get swap AND (earlier XOR later) added. It is worked out a few planes at a time, view after view. This party's own
    share of the result is added to `share_0` at once, while it is still in the cache.
    """
    view_0, view_1 = views
    where = _columns(view_0)
    planes = view_0[0][0].shape[0]
    bit, both = swap.share_0, swap.share_0 ^ swap.share_1
    z = np.empty(planes * swap.shape[-1], np.uint64)
    for (e0, l0), (e1, l1), cut in zip(view_0, view_1, where, strict=True):
        shape, columns = e0.shape[1:], cut.stop - cut.start
        block = z[planes * cut.start : planes * cut.stop].reshape(planes, *shape)
        chosen, other = bit[cut].reshape(shape), both[cut].reshape(shape)
        step = max(1, CHUNK // columns)
        scratch = np.empty((min(step, planes), *shape), np.uint64)
        with _rows_of(e0.shape[-1]):
            for a in range(0, planes, step):
                part = block[a : a + step]
                t = scratch[: len(part)]
                np.bitwise_xor(e1[a : a + step], l1[a : a + step], out=part)
                part &= chosen
                np.bitwise_xor(e0[a : a + step], l0[a : a + step], out=t)
                t &= other
                part ^= t
                add_zero_share(swap.engine, part)
                e0[a : a + step] ^= part
                l0[a : a + step] ^= part
    received = await swap.engine.reshare(z)
    for (e1, l1), cut in zip(view_1, where, strict=True):
        part = received[planes * cut.start : planes * cut.stop].reshape(e1.shape)
        with _rows_of(e1.shape[-1]):
            e1 ^= part
            l1 ^= part


@contextlib.contextmanager
def _rows_of(words: int) -> Iterator[None]:
    """Let numpy work on stretches of `words` in place, within this thread and this block.

    It copies operands whose innermost stretches are shorter than its buffer of 8,192 elements into that buffer, which costs
    as much again. So the buffer is made no longer than they are.
    """
    before = np.setbufsize(min(max(words // 16 * 16, 16), 8192))
    try:
        yield
    finally:
        np.setbufsize(before)


def _columns(views: Views) -> list[slice]:
    """Return where each view's rows lie when the views' columns stand one after the other."""
    ends = np.cumsum([0, *(earlier[0].size for earlier, _ in views)])
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]


def merge_gates(lengths: tuple[int, int], planes: int, key_planes: int) -> tuple[int, int]:
    """Return the AND gates of one merge a lane, over all its layers, and its rounds."""
    compare = less_than_gates(key_planes) + Gates(planes, 1)
    pairs = [sum(runs * width for _, runs, width in segments) for _, segments in _layers(lengths)]
    return sum(pairs) * compare.ands, sum(n > 0 for n in pairs) * compare.rounds
