"""Waiting for the workers of a turn, and telling others' workers of one that was lost.

A worker that is lost before it has met the others would keep them waiting for as long as `connect_s` says. So the main
process takes its place for two seconds, with its key and at its address, and says that it does not come
(`network.unable`). Where the main process cannot listen at that address, as on another machine of a cluster, nobody is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from secagg.jobs.shards.worker import Plain, session_of
from secagg.jobs.shards.workers import Workers
from secagg.network.unable import Cause, tell_unable


def gathered(workers: Workers, started: Sequence[Any], tasks: Sequence[Plain]) -> list[bytes | None]:
    """Wait for workers and return what each returned, None for one that was lost; whoever waits for that one was told.

    Args:
      tasks: of the workers that were started, in their order.
    """

    def wait(one: Any, task: Plain) -> bytes | None:
        (answer,) = workers.gather([one])
        if answer is None:
            tell_unable(**session_of(task), cause=Cause.WORKER)
        return answer

    with ThreadPoolExecutor(max(1, len(started))) as pool:
        return list(pool.map(wait, started, tasks))
