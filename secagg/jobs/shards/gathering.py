"""Waiting for the workers of a turn, and telling others' workers of one that was lost.

A worker that is lost before it has met the others would keep them waiting for as long as `connect_s` says. So the main
process takes its place, with its key and at its address, and says that it does not come (`network.unable`). It stays there
until it has told all, or their parties have said how they ended: on a busy machine workers come late. Where the main process
cannot listen at that address, as on another machine of a cluster, nobody is told.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from secagg.jobs.shards.worker import Plain, session_of
from secagg.jobs.shards.workers import Workers
from secagg.network.unable import Cause, tell_unable


@contextlib.contextmanager
def gathered(
    workers: Workers, started: Sequence[Any], tasks: Sequence[Plain], on_loss: Callable[[int], None]
) -> Iterator[list[bytes | None]]:
    """Wait for workers and yield what each returned, None for one that was lost.

    In the block whoever waits for a worker that was lost is told so. The block ends once nobody waits any more; then the
    addresses are free for the next turn.

    Args:
      tasks: of the workers that were started, in their order.
      on_loss: called at once with the index of a worker that was lost, from another thread.
    """
    over = threading.Event()
    telling: list[Future[Any]] = []
    size = max(1, len(started))
    with ThreadPoolExecutor(size) as waiters, ThreadPoolExecutor(size) as tellers:

        def stand_in(task: Plain) -> None:
            tell_unable(**session_of(task), cause=Cause.WORKER, wait_s=math.inf, is_over=over.is_set)

        def wait(i: int) -> bytes | None:
            (answer,) = workers.gather([started[i]])
            if answer is None:
                on_loss(i)
                telling.append(tellers.submit(stand_in, tasks[i]))
            return answer

        try:
            yield list(waiters.map(wait, range(len(started))))
        finally:
            over.set()
    for one in telling:
        one.result()  # raises what ended it early
