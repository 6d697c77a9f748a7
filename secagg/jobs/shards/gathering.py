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
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from typing import Any, Final

from secagg.jobs.shards.sharded import Plain
from secagg.jobs.shards.worker import session_of
from secagg.jobs.shards.workers import Workers
from secagg.network.unable import Cause, tell_unable

_REPORT_EVERY_S: Final = 0.25


@contextlib.contextmanager
def gathered(
    workers: Workers,
    started: Sequence[Any],
    tasks: Sequence[Plain],
    on_end: Callable[[int, bytes | None], None],
    report: Callable[[], None],
) -> Iterator[None]:
    """Wait for workers; the block begins once all have ended.

    In the block whoever waits for a worker that was lost is told so. The block ends once nobody waits any more; then the
    addresses are free for the next turn.

    Args:
      tasks: of the workers that were started, in their order.
      on_end: called at once with the index of a worker that has ended and what it returned, None if it was lost.
      report: called a few times a second. What this or `on_end` raises ends the workers that are left, and the wait.
    """
    over = threading.Event()
    telling: list[Future[Any]] = []
    size = max(1, len(started))
    with ThreadPoolExecutor(size) as waiters, ThreadPoolExecutor(size) as tellers:

        def stand_in(task: Plain) -> None:
            tell_unable(**session_of(task), cause=Cause.WORKER, wait_s=math.inf, is_over=over.is_set)

        left = {waiters.submit(workers.gather, [one]): i for i, one in enumerate(started)}
        try:
            try:
                while left:
                    ended, _ = wait_for(left, _REPORT_EVERY_S, FIRST_COMPLETED)
                    for one in ended:
                        i = left.pop(one)
                        (answer,) = one.result()
                        if answer is None:
                            telling.append(tellers.submit(stand_in, tasks[i]))
                        on_end(i, answer)
                    report()
            except BaseException:  # also KeyboardInterrupt: nobody waits for hours for what is of no use
                workers.end([started[i] for i in left.values()])
                raise
            yield
        finally:
            over.set()
    for one in telling:
        one.result()  # raises what ended it early
