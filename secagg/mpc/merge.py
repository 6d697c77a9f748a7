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

and swaps where the later row is smaller: `precedes` on the key planes, then one AND a plane. Layers of short
stride run on a transposed copy, so that every operation still works on long stretches of memory.

Learns: nobody anything. Cost: see `merge_gates`.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np

from secagg.errors import ShapeError
from secagg.mpc.bits import Gates, precedes, precedes_gates
from secagg.mpc.columns import columns_of, stretches_of
from secagg.mpc.groups import XOR
from secagg.mpc.primitives import Primitives, Shares

Views: TypeAlias = list[tuple[Shares, Shares]]


async def merge(table: Shares, *, lengths: tuple[int, int], key_planes: int, block: int = 1) -> None:
    """Merge, in place, two rising lists in each bucket of a table.

    Args:
      table: shape (planes, (a + b) * words): a list of a rows, then one of b. The first `key_planes` planes
        hold the key in `bits.plane_order`, the others move with it. May be a slice of a larger table's columns.
      lengths: (a, b).
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
    layers = _layers(lengths)
    for stride, segments in layers:
        if stride >= block:
            await _layer(table.engine, _long_views(table, stride, segments, words), key_planes)
    short = [stride for stride, _ in layers if stride < block]
    if not short:
        return
    blocks = length // block
    rows = table.reshape(planes, blocks, block, words)
    turned = rows.each(lambda share: np.ascontiguousarray(share.swapaxes(1, 2)).reshape(planes, columns))
    for stride in short:
        await _layer(table.engine, _short_views(turned, stride, block, blocks, words), key_planes)
    rows[...] = turned.reshape(planes, block, blocks, words).each(lambda share: share.swapaxes(1, 2))


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


def _long_views(table: Shares, stride: int, segments: list[Segment], words: int) -> Views:
    """Return views (earlier, later), each (planes, runs, columns), of the rows that a layer compares."""
    planes, step = len(table), stride * words
    views: Views = []
    for start, runs, width in segments:
        begin = start * words
        if runs == 1:
            end = begin + width * words
            views.append((table[:, None, begin:end], table[:, None, begin + step : end + step]))
        else:
            halves = table[:, begin : begin + runs * 2 * step].reshape(planes, runs, 2, step)
            views.append((halves[:, :, 0], halves[:, :, 1]))
    return views


def _short_views(turned: Shares, stride: int, block: int, blocks: int, words: int) -> Views:
    """Return the views of a layer whose stride is below `block`, of a table with positions within blocks first."""
    planes, wide = len(turned), blocks * words
    runs = block // (2 * stride) - 1
    views = _long_views(turned, stride, [Segment(stride, runs, stride)] if runs else [], wide)
    if blocks > 1:  # the last run of a block is compared with the first of the next
        last = turned[:, (block - stride) * wide :].reshape(planes, stride, wide)
        first = turned[:, : stride * wide].reshape(planes, stride, wide)
        views.append((last[:, :, :-words], first[:, :, words:]))
    return views


async def _layer(engine: Primitives, views: Views, key_planes: int) -> None:
    """Exchange the rows of views where the later one is smaller."""
    where = columns_of(views)
    if not where:
        return
    copies = len(views[0][0].parts)
    difference, low = (
        [np.empty((key_planes, where[-1].stop), np.uint64) for _ in range(copies)] for _ in range(2)
    )
    for (earlier, later), cut in zip(views, where, strict=True):
        shape = (key_planes, *earlier.shape[1:])
        for a, b, apart, bottom in zip(earlier.parts, later.parts, difference, low, strict=True):
            with stretches_of(shape[-1]):
                np.bitwise_xor(a[:key_planes], b[:key_planes], out=apart[:, cut].reshape(shape))
            bottom[:, cut].reshape(shape)[...] = a[:key_planes]
    swap = await precedes(Shares(engine, XOR, difference), Shares(engine, XOR, low))
    await engine.exchange(swap, views)


def merge_gates(lengths: tuple[int, int], planes: int, key_planes: int) -> tuple[int, int]:
    """Return the AND gates of one merge a lane, over all its layers, and its rounds."""
    compare = precedes_gates(key_planes) + Gates(planes, 1)
    pairs = [sum(runs * width for _, runs, width in segments) for _, segments in _layers(lengths)]
    return sum(pairs) * compare.ands, sum(n > 0 for n in pairs) * compare.rounds
