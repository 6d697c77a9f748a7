"""Masks: what seeds stand for, added to a vector in place.

A seed of 32 bytes stands for one AES-256-CTR stream over the whole vector, in words of the ring's dtype. Each seed
comes from HKDF for one round, one pair (or client) and this purpose, and makes one mask. A mask is made a stretch at a
time, in a buffer that stays in the second-level cache, and is added from there. That is one pass over the vector a mask.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Executor
from typing import Final, NamedTuple

import numpy as np

from secagg.prg import Stream
from secagg.ring import RingArray
from secagg.threads import helping

_CHUNK_BYTES: Final = 1 << 19


class Mask(NamedTuple):
    """A seed, and whether its mask is to be subtracted."""

    seed: bytes
    minus: bool

    def __repr__(self) -> str:
        return f"<Mask to {'subtract' if self.minus else 'add'}>"


def add_masks(
    total: RingArray, masks: Iterable[Mask], *, start: int = 0, executor: Executor | None = None
) -> None:
    """Add and subtract masks in place, modulo the dtype's own power of two, of which the ring's is a divisor.

    Args:
      total: shape (length,), C-contiguous.
      masks: taken one after the other; with threads, all before the first is expanded.
      start: the element of the masks that belongs to the first one of `total`, a multiple of 16.
      executor: threads; each but one adds up its masks in a vector of its own.
    """
    if executor is None:
        _add(total, masks, start)
        return
    # Seeds are made under the interpreter's lock; made meanwhile, they would hold up every thread at every stretch.
    listed = list(masks)
    workers = max(1, min(os.cpu_count() or 1, len(listed)))
    parts: list[RingArray] = [total, *(np.zeros_like(total) for _ in range(workers - 1))]
    threads = helping(executor)
    running = [threads.submit(_add, part, listed[i::workers], start) for i, part in enumerate(parts)]
    for future in running:
        future.result()
    for part in parts[1:]:
        total += part


def _add(total: RingArray, masks: Iterable[Mask], first: int) -> None:
    step = _CHUNK_BYTES // total.itemsize
    buffer: RingArray = np.empty(min(step, total.size), total.dtype)
    for seed, minus in masks:
        stream, operation = Stream(seed, start=first * total.itemsize), np.subtract if minus else np.add
        for start in range(0, total.size, step):
            part = total[start : start + step]
            mask = buffer[: part.size]
            stream.fill(mask)
            operation(part, mask, out=part)  # wraps, which is meant
