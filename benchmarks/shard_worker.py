"""A worker of `benchmarks.shards`: the real one, on a core of its own, and killed at a phase where it is told to."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

from secagg.jobs.plain import decode
from secagg.jobs.shards import worker
from secagg.party import Party

KILLED = "SECAGG_BENCHMARK_KILLED"  # party, attempt and phase, such as "bank_1 compute-1-1 merge"; several with ; between
BEGIN, END = "begin", "end"  # before a worker meets the others, and once it has done all of its work
PLACES = "SECAGG_BENCHMARK_PLACES"  # with it, the workers of each place have a core of their own


def run(task: bytes) -> bytes:
    """Do a task, and die at a phase of it."""
    told = decode(task)
    if places := int(os.environ.get(PLACES, "0")):
        shard = int(told["attempt"].split("-")[1])
        os.sched_setaffinity(0, {shard % places % (os.cpu_count() or 1)})
    phase = Party.phase
    killed = [one.split() for one in os.environ.get(KILLED, "").split(";") if one]
    found = [at for who, attempt, at in killed if (who, attempt) == (told["me"], told["attempt"])]
    if not found:
        return worker.run(task)
    (at,) = found
    if at == BEGIN:
        os.kill(os.getpid(), signal.SIGKILL)

    @contextlib.contextmanager
    def fatal(party: Party, name: str) -> Iterator[Any]:
        if name == at:
            os.kill(os.getpid(), signal.SIGKILL)
        with phase(party, name) as entered:
            yield entered

    Party.phase = fatal  # type: ignore[method-assign,assignment]
    answer = worker.run(task)
    if at == END:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer
