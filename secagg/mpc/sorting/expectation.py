"""How many comparisons `quicksort` is expected to make, level by level.

Their number is random, as it depends on the order of the shuffled rows, which is uniform. A part of j rows is split by its
pivot into parts of i and j - 1 - i rows, for each i equally likely. So the expected number of parts of each size follows
from that at the level before.

What is not exact: parts among a sorted prefix are taken as geometric in size, and a stage as ending once it is expected to.
"""

from __future__ import annotations

import functools
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.mpc.sorting import quicksort
from secagg.mpc.sorting.quicksort import FEW, SMALL, excess, prefixes, widths

_ENDS: Final = 30  # of a geometric distribution's means: more rows have probability e**-30


@functools.lru_cache(maxsize=1024)
def comparisons(n: int, wanted: int | None = None) -> tuple[int, ...]:
    """Return about how many comparisons each level makes, for n rows of which the first `wanted` are asked for."""
    levels: list[float] = []
    done = min(n, 1)
    for size in prefixes(n):
        whole = wanted is None or size < n
        levels += _stage(size, done, 1.0 if whole else max(wanted or 0, 1) / n, whole=whole)
        done = size
    return tuple(math.ceil(level) for level in levels)


def _stage(size: int, done: int, part: float, *, whole: bool) -> list[float]:
    """Return the comparisons of each level of sorting `size` rows, the first `part` of them, of which `done` are sorted."""
    others = size - done
    if done <= 1:
        parts = np.zeros(size + 1)
        parts[size] = 1
        return _by_pivots(parts)
    levels: list[float] = []
    splits = (done + 1).bit_length() - 1
    begins = range(0, others, quicksort.STRETCH)
    if whole:
        stretches = [min(quicksort.STRETCH, others - begin) for begin in begins]
        levels = [float(rows * ((1 << w) - 1)) for rows in stretches for w in widths(rows, splits)]
    for k in range(0 if whole else splits):
        reached = math.ceil(part * 2**k)  # of 2**k parts
        rows, in_order = others / 2**k, (done + 1) / 2**k - 1
        pairs = reached * rows * (2 * in_order + rows - 1) / 2
        if reached * excess(np.array(in_order), np.array(rows)) <= FEW:
            return [*levels, pairs]
        levels.append(reached * rows)
    mean = others / (done + 1)
    sizes = np.arange(min(size, math.ceil(_ENDS * (mean + 1))) + 1)
    geometric = np.power(mean / (1 + mean), sizes, dtype=np.float64) / (1 + mean)
    times = len(begins) if whole else 1
    parts = geometric * (math.ceil(part * (done + 1)) / times)
    return levels + _by_pivots(parts) * times


def _by_pivots(parts: NDArray[np.float64]) -> list[float]:
    """Return the comparisons of each level, from the expected number of parts of each size."""
    sizes = np.arange(parts.size)
    pairs = sizes * (sizes - 1) / 2
    more = excess(np.zeros(sizes.size), sizes)
    more[: SMALL + 1] = 0
    levels = []
    while float(more @ parts) > FEW:
        small = float(pairs[: SMALL + 1] @ parts[: SMALL + 1])
        splitting = parts.copy()
        splitting[: SMALL + 1] = 0
        levels.append(small + float(np.maximum(sizes - 1, 0) @ splitting))
        # Each part of j rows gives, for each i < j, two parts of i rows with probability 1 / j each.
        per_size = splitting / np.maximum(sizes, 1)
        parts = np.zeros_like(parts)
        parts[:-1] = 2 * np.cumsum(per_size[::-1])[::-1][1:]
    missing = float(pairs @ parts)
    return [*levels, missing] if missing >= 0.5 else levels
