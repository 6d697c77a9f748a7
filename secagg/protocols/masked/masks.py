"""Masks: what seeds stand for, added to a vector in place.

A seed of 32 bytes stands for one AES-256-CTR stream over the whole vector, in words of the ring's dtype. Each seed
comes from HKDF for one round, one pair (or client) and this purpose, and makes one mask. A mask is made a stretch
at a time in a buffer that stays in the second-level cache and is added from there: one pass over the vector a mask.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor
from itertools import chain
from typing import Final, NamedTuple

import numpy as np

from secagg.prg import Stream
from secagg.ring import RingArray

_CHUNK_BYTES: Final = 1 << 17
# Vectors shorter than this are done before a thread has begun.
_WORTH_THREADS: Final = 1 << 16


class Masks(NamedTuple):
    """Seeds of the masks to add and of those to subtract."""

    plus: Sequence[bytes]
    minus: Sequence[bytes]

    def __repr__(self) -> str:
        return f"<{len(self.plus)} masks to add, {len(self.minus)} to subtract>"


def add_masks(total: RingArray, masks: Masks, *, executor: Executor | None = None) -> None:
    """Add and subtract masks in place, modulo the dtype's own power of two, of which the ring's is a divisor.

    Args:
      total: shape (length,), C-contiguous.
      masks: the seeds.
      executor: threads; each but one takes a vector of its own to add up its part of the masks.
    """
    seeds = list(
        chain(((seed, np.add) for seed in masks.plus), ((seed, np.subtract) for seed in masks.minus))
    )
    workers = min(os.cpu_count() or 1, len(seeds))
    if executor is None or workers < 2 or total.nbytes * len(seeds) < _WORTH_THREADS:
        _add(total, seeds)
        return
    others: list[RingArray] = [np.zeros_like(total) for _ in range(workers - 1)]
    parts = [executor.submit(_add, part, seeds[i::workers]) for i, part in enumerate([total, *others])]
    for part in parts:
        part.result()
    for other in others:
        total += other


def _add(total: RingArray, seeds: Sequence[tuple[bytes, np.ufunc]]) -> None:
    step = _CHUNK_BYTES // total.itemsize
    buffer: RingArray = np.empty(min(step, total.size), total.dtype)
    for seed, operation in seeds:
        stream = Stream(seed)
        for start in range(0, total.size, step):
            part = total[start : start + step]
            mask = buffer[: part.size]
            stream.fill(mask)
            operation(part, mask, out=part)  # wraps, which is meant
