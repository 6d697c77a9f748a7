"""The clock of steps that run in one thread, ours and a peer's alike. Needs the standard library alone."""

from __future__ import annotations

import time
from collections.abc import Callable

Step = tuple[Callable[[], object], int]


def fastest(steps: dict[str, Step], repeats: int) -> dict[str, float]:
    """Return the processor seconds of each step for one number: the fastest of some repetitions, in turn.

    Args:
      steps: what to run by name, and for how many numbers that is.
      repeats: repetitions of each, after one that warms up.
    """
    seconds = dict.fromkeys(steps, float("inf"))
    for turn in range(repeats + 1):
        for name, (step, numbers) in steps.items():
            begun = time.process_time()
            step()
            if turn:
                seconds[name] = min(seconds[name], (time.process_time() - begun) / numbers)
    return seconds
