"""Pairs of views into tables of bits, whose columns stand one after the other in the bits that speak of them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import numpy as np

CHUNK: Final = 1 << 15  # words worked on at a time: input, output and masks stay in the second-level cache


class _Table(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...


def columns_of(views: Sequence[tuple[_Table, _Table]]) -> list[slice]:
    """Return where the columns of each pair of views, (planes, ...), lie when those of all stand one after the other."""
    sizes = [int(np.prod(earlier.shape[1:], dtype=np.int64)) for earlier, _ in views]
    return [slice(a, b) for a, b in itertools.pairwise(itertools.accumulate(sizes, initial=0))]


@contextlib.contextmanager
def stretches_of(words: int) -> Iterator[None]:
    """Let numpy work on stretches of `words` in place, within this thread and this block.

    It copies operands whose innermost stretches are shorter than its buffer of 8,192 elements into that buffer, which costs
    as much again. So the buffer is made no longer than they are.
    """
    before = np.setbufsize(min(max(words // 16 * 16, 16), 8192))
    try:
        yield
    finally:
        np.setbufsize(before)
