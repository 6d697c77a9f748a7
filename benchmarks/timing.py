"""Steps timed in turn within one run, so that a busy machine slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

Step = Callable[[], object]


def take_turns(
    steps: Sequence[Step], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> list[np.ndarray]:
    """Return the seconds of each step by a clock, run in turn, after one run that warms up."""
    seconds = np.empty((len(steps), repeats))
    for step in steps:
        step()
    for r in range(repeats):
        for i, step in enumerate(steps):
            start = clock()
            step()
            seconds[i, r] = clock() - start
    return list(seconds)


def quartiles(seconds: np.ndarray) -> str:
    low, mid, high = np.percentile(seconds, [25, 50, 75]) * 1e3
    return f"min {seconds.min() * 1e3:9.3f}  quartiles {low:9.3f} {mid:9.3f} {high:9.3f} ms"
