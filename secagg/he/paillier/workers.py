"""Long lists of big-number arithmetic, cut into parts for threads.

gmpy2 lets other threads run during an operation only where its context, which every thread has its own of,
says so: each part runs under such a context. That pays for operations of some microseconds; below, the
threads take longer to hand the interpreter to one another than the operation takes.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

import gmpy2

from secagg.threads import helping

T = TypeVar("T")


def in_parts(
    function: Callable[[int, int], T], count: int, executor: Executor | None, *, step: int = 8
) -> list[T]:
    """Return function(start, stop) over consecutive parts of range(count), in order.

    Args:
      function: reads what it needs by closure; runs in several threads at once.
      executor: threads; without it there is one part, done by the calling thread.
      step: length of a part.
    """
    if executor is None:
        return [function(0, count)]
    threads = helping(executor)
    parts = [
        threads.submit(released, function, start, min(start + step, count)) for start in range(0, count, step)
    ]
    try:
        return [part.result() for part in parts]
    finally:
        for part in parts:
            part.cancel()  # those not begun when one has failed


def released(function: Callable[[int, int], T], start: int, stop: int) -> T:
    """Return function(start, stop); the calling thread lets others run during each operation of gmpy2's."""
    with gmpy2.context(allow_release_gil=True):
        return function(start, stop)
