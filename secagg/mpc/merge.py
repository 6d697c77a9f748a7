"""Oblivious merge of sorted lists: Batcher's bitonic merger on bit-sliced tables [Bat68; HEK12, section 4].

A table lies in slices: plane p holds bit p of all rows, 64 rows a word. Every word holds one row from each of
64 independent buckets, so one merger works on 64 * `words` buckets at once; position k of all buckets is the
stretch k * words .. (k + 1) * words of each plane. The schedule of comparisons depends on public lengths
only; what is compared and swapped stays shared, so privacy follows from that of AND.

A merger sorts any list that first falls and then rises. Each layer compares positions a power of two apart
and swaps where the later is smaller: `less_than` on the key planes, then one AND a plane. Layers of short
stride run on a transposed copy, so that every operation still works on long stretches of memory.

Learns: nobody anything. Cost: see `merge_gates`.
"""

from __future__ import annotations

import itertools

import numpy as np

from secagg.errors import ShapeError
from secagg.mpc.bits import CHUNK, Gates, SharedBits, add_zero_share, less_than, less_than_gates
from secagg.ring import U64

Views = list[tuple[U64, U64]]


async def merge(table: SharedBits, *, length: int, key_planes: int, block: int = 1) -> None:
    """Sort, in place, each bucket of a table whose keys first fall and then rise.

    Args:
      table: shape (planes, length * words); the first `key_planes` planes hold the key in
        `bits.block_order`, the others move with it. May be a slice of a larger table's columns.
      length: rows in each bucket.
      key_planes: a multiple of `bits.BLOCK`.
      block: positions that the short strides work on together; a power of two that divides `length`.

    Raises:
      ShapeError: the table does not have `length` rows, or `block` does not divide it.
    """
    planes, columns = table.shape
    if length < 1 or columns % length or length % block or block & (block - 1):
        raise ShapeError(
            f"expected {length} rows in blocks of {block} (a power of two), got {columns} columns"
        )
    words = columns // length
    strides = _strides(length)
    shares = [table.first, table.second]
    for stride in (s for s in strides if s >= block):
        await _layer(table, shares, length, stride, words, key_planes)
    short = [s for s in strides if s < block]
    if not short:
        return
    blocks = length // block
    turned = [
        np.ascontiguousarray(s.reshape(planes, blocks, block, words).swapaxes(1, 2)).reshape(planes, columns)
        for s in shares
    ]
    for stride in short:
        await _layer(table, turned, block, stride, blocks * words, key_planes)
    for share, t in zip(shares, turned, strict=True):
        share.reshape(planes, blocks, block, words)[...] = t.reshape(planes, block, blocks, words).swapaxes(
            1, 2
        )


def _strides(length: int) -> list[int]:
    stride = 1
    while 2 * stride < length:
        stride *= 2
    return [stride >> i for i in range(stride.bit_length())] if length > 1 else []


def _pairs(length: int, stride: int) -> int:
    """Return how many positions a layer compares with another."""
    whole, rest = divmod(length, 2 * stride)
    return whole * stride + max(0, rest - stride)


def _views(share: U64, length: int, stride: int, words: int) -> Views:
    """Return views (earlier, later), each (planes, runs, run), of the rows that a layer compares."""
    planes = share.shape[0]
    run = stride * words
    whole, rest = divmod(length, 2 * stride)
    views: Views = []
    if whole:
        halves = share[:, : whole * 2 * run].reshape(planes, whole, 2, run)
        views.append((halves[:, :, 0], halves[:, :, 1]))
    if rest > stride:
        begin, width = whole * 2 * run, (rest - stride) * words
        views.append(
            (share[:, None, begin : begin + width], share[:, None, begin + run : begin + run + width])
        )
    return views


async def _layer(
    table: SharedBits, shares: list[U64], length: int, stride: int, words: int, key_planes: int
) -> None:
    columns = _pairs(length, stride) * words
    views = [_views(share, length, stride, words) for share in shares]
    difference = [np.empty((key_planes, columns), np.uint64) for _ in shares]
    low = [np.empty((key_planes, columns), np.uint64) for _ in shares]
    for view, apart, bottom in zip(views, difference, low, strict=True):
        for (earlier, later), where in zip(view, _columns(view), strict=True):
            runs = (key_planes, *earlier.shape[1:])
            np.bitwise_xor(earlier[:key_planes], later[:key_planes], out=apart[:, where].reshape(runs))
            bottom[:, where].reshape(runs)[...] = earlier[:key_planes]
    engine = table.engine
    swap = await less_than(SharedBits(engine, *difference), SharedBits(engine, *low))
    await _swap(swap, views)


async def _swap(swap: SharedBits, views: list[Views]) -> None:
    """Exchange earlier and later rows where the bit says so, in place.

    Both get swap AND (earlier XOR later) added. It is worked out a few planes at a time, and this party's own
    share of the result added to its first share at once, while it is still in the cache.
    """
    first, second = views
    where = _columns(first)
    planes, columns = first[0][0].shape[0], swap.shape[-1]
    bit, both = swap.first, swap.first ^ swap.second
    z = np.empty((planes, columns), np.uint64)
    step = max(1, CHUNK // max(1, columns))
    scratch = np.empty((min(step, planes), columns), np.uint64)
    for a in range(0, planes, step):
        b = min(a + step, planes)
        for (e0, l0), (e1, l1), cut in zip(first, second, where, strict=True):
            runs = e0.shape[1:]
            part, t = (x[:, cut].reshape(b - a, *runs) for x in (z[a:b], scratch[: b - a]))
            np.bitwise_xor(e1[a:b], l1[a:b], out=part)
            part &= bit[cut].reshape(runs)
            np.bitwise_xor(e0[a:b], l0[a:b], out=t)
            t &= both[cut].reshape(runs)
            part ^= t
        add_zero_share(swap.engine, z[a:b])
        for (e0, l0), cut in zip(first, where, strict=True):
            part = z[a:b, cut].reshape(b - a, *e0.shape[1:])
            e0[a:b] ^= part
            l0[a:b] ^= part
    received = await swap.engine.reshare(z)
    for (e1, l1), cut in zip(second, where, strict=True):
        part = received[:, cut].reshape(e1.shape)
        e1 ^= part
        l1 ^= part


def _columns(views: Views) -> list[slice]:
    """Return where each view's rows lie when the views' columns stand one after the other."""
    ends = np.cumsum([0, *(earlier.shape[1] * earlier.shape[2] for earlier, _ in views)])
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]


def merge_gates(length: int, planes: int, key_planes: int) -> tuple[int, int]:
    """Return the AND gates of one merge a lane of `length` rows, over all its layers, and its rounds."""
    compare = less_than_gates(key_planes) + Gates(planes, 1)
    pairs = sum(_pairs(length, s) for s in _strides(length))
    return pairs * compare.ands, len(_strides(length)) * compare.rounds
