"""Two jobs in shards: on local processes, Dask and Ray; a worker killed in each phase; little memory.

    python -m benchmarks.shards                           both jobs, all engines that are installed, 60,000 rows
    python -m benchmarks.shards --jobs join --rows 2000
    python -m benchmarks.shards --engines local --rows 1000000
    python -m benchmarks.shards --engines local --rows 20000000 --shards 32 --places 1 --memory 4 --no-kills

The job `groups` is the bank job of `benchmarks.fraud`. The job `join` is SQL that joins two tables and groups by a category.
Each bank is a process, and each of its workers another one, of its own cluster where there is one. Every run's answers are
compared with the plaintext. For the speed-up the workers of a place have one core, as machines of their own would have:
one place takes one core, two take both. Where others load the machine, processor time tells more than the clock: of the main
process, and of the workers of the place that has most of it. A kill costs one attempt of one shard.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.util
import itertools
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.parties import free_ports, one_thread, run_parties

one_thread()

import numpy as np  # noqa: E402

from benchmarks import shard_join, shard_worker  # noqa: E402  # after one_thread
from benchmarks.fraud import make_numbers, make_query, make_table  # noqa: E402
from secagg.jobs.shards import LocalWorkers, Watch, Work, Workers, Workplace, find_in_shards  # noqa: E402
from secagg.network.tcp import Timeouts  # noqa: E402
from secagg.protocols.group_by import announce  # noqa: E402

ENGINES = {"local": "secagg", "dask": "distributed", "ray": "ray", "threads": "secagg"}
NAMES = ("bank_0", "bank_1", "bank_2")
SEED = 7


@dataclass(frozen=True)
class ShardJob:
    """What is run in shards.

    Attributes:
      kills: the phases in which a worker is killed, in each step.
      program: what a bank runs; returns what it is told, or what tells that from anything else.
      expected: of so many rows, the same of all banks in the clear.
    """

    kills: dict[str, tuple[str, ...]]
    program: Callable[[Any, Work, int, Watch], Any]
    expected: Callable[[int], list[Any]]


def on_dask(places: int) -> tuple[Workers, Callable[[], None]]:
    """Return workers on a Dask cluster of separate processes on this machine, and what ends it."""
    from distributed import Client, LocalCluster

    from secagg.integrations.dask import DaskWorkers

    cluster = LocalCluster(
        n_workers=places, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=":0"
    )
    client = Client(cluster)

    def end() -> None:
        client.close()
        cluster.close()

    return DaskWorkers(client), end


def on_ray(places: int) -> tuple[Workers, Callable[[], None]]:
    """Return workers on a Ray cluster of separate processes on this machine, and what ends it."""
    import ray

    from secagg.integrations.ray import RayWorkers

    ray.init(num_cpus=places, include_dashboard=False, log_to_driver=False)
    return RayWorkers(None), ray.shutdown


class InThreads:
    """Workers in a bank's own process: what `--tiny` starts in little time."""

    def __init__(self, places: int) -> None:
        self._pool = ThreadPoolExecutor(places)

    def address(self, place: int, told: tuple[str, int]) -> tuple[str, int]:  # noqa: ARG002
        return told

    def start(self, place: int, told: tuple[str, int], module: str, task: bytes) -> Future[bytes]:  # noqa: ARG002
        return self._pool.submit(importlib.import_module(module).run, task)

    def gather(self, started: Sequence[Future[bytes]]) -> list[bytes | None]:
        return [one.result() for one in started]

    def end(self, started: Sequence[Future[bytes]]) -> None:
        for one in started:
            one.cancel()


def on_threads(places: int) -> tuple[Workers, Callable[[], None]]:
    return InThreads(places), lambda: None


def on_this_machine(places: int) -> tuple[Workers, Callable[[], None]]:  # noqa: ARG001
    return LocalWorkers(), lambda: None


async def find(party: Any, work: Work, rows: int, watch: Watch) -> tuple[int, int]:
    """Return the number flagged and a checksum of the sums."""
    names = tuple(work.addresses)
    query, mine = make_query(len(names)), make_table(len(names), rows, SEED, names.index(party.me))
    announced = await announce(party, query, mine)
    findings = await find_in_shards(party, query, announced, work, watch)
    return (0, 0) if findings is None else (int(findings.flagged.sum()), int(findings.sums.sum()))


def expected(rows: int) -> list[Any]:
    """Return for each bank, in the clear, the number flagged and a checksum of the sums.

    As `reference` of the protocol, in little memory: identifiers are compared by their numbers.
    """
    tables = [make_numbers(3, rows, SEED, bank) for bank in range(3)]
    numbers = [of_bank for of_bank, _ in tables]
    _, group = np.unique(np.concatenate(numbers), return_inverse=True)
    sums = np.zeros((int(group.max()) + 1, 3), np.uint64)
    np.add.at(sums, group, np.concatenate([values for _, values in tables]))
    passes = np.ones(len(sums), bool)
    for column, field in zip(sums.T, make_query(3).fields, strict=True):
        passes &= column >= np.uint64(field.at_least or 0)
    parts = np.split(group, np.cumsum([len(n) for n in numbers])[:-1])
    return [(int(passes[part].sum()), int(sums[part][passes[part], :2].sum())) for part in parts]


JOBS = {
    "groups": ShardJob(
        {"compute": ("share", "check", "merge", "group", "test", "shuffle"), "open": ("open",)},
        find,
        expected,
    ),
    "join": ShardJob(
        {"compute": (shard_worker.BEGIN, "share", "compute", shard_worker.END)},
        shard_join.program,
        functools.partial(shard_join.expected, NAMES),
    ),
}


async def bank(
    party: Any,
    *,
    job: str,
    engine: str,
    rows: int,
    shards: int,
    addresses: dict[str, list[tuple[str, int]]],
    folder: str,
    memory: int | None,
    environment: dict[str, str],
) -> tuple[Any, float, list[dict[str, Any]], float, list[str]]:
    """Return what the bank is told, seconds, what is known of workers, processor seconds, and news."""
    os.environ.update(environment)  # of this process and its workers
    places = len(addresses[party.me])
    workers, end = {"local": on_this_machine, "dask": on_dask, "ray": on_ray, "threads": on_threads}[engine](
        places
    )
    try:
        work = Work(
            Workplace(workers, Path(folder), memory),
            addresses,
            shards,
            Timeouts(connect_s=180, message_s=3600),
            shard_worker.__name__,
        )
        begun, busy = time.monotonic(), time.thread_time()
        watch = Watch()
        told = await JOBS[job].program(party, work, rows, watch)
        took, busy = time.monotonic() - begun, time.thread_time() - busy
    finally:
        end()
    return told, took, watch.done, busy, watch.news


def measure(
    engine: str,
    rows: int,
    *,
    job: str,
    shards: int,
    places: int,
    memory: int | None = None,
    killed: str = "",
    pinned: bool = False,
) -> tuple[bool, float, float]:
    """Return whether the findings are the plaintext's, seconds of the slowest bank, and processor seconds of the busiest.

    Processor seconds are of the main process and of the workers of the place that has most of them, one after the other.
    """
    ports = iter(free_ports(3 * places))
    addresses = {name: [("127.0.0.1", next(ports)) for _ in range(places)] for name in NAMES}
    environment = {shard_worker.KILLED: killed, shard_worker.PLACES: str(places if pinned else 0)}
    with tempfile.TemporaryDirectory(prefix="secagg-shards-") as folder:
        program = functools.partial(
            bank,
            job=job,
            engine=engine,
            rows=rows,
            shards=shards,
            addresses=addresses,
            folder=folder,
            memory=memory,
            environment=environment,
        )
        results = run_parties(dict.fromkeys(NAMES, program))
    unbounded = resource.getrlimit(resource.RLIMIT_AS)[1]
    bound = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (unbounded, unbounded))
    equal = [results[name][0][0] for name in NAMES] == JOBS[job].expected(rows)
    resource.setrlimit(resource.RLIMIT_AS, bound)
    took = max(result[0][1] for result in results.values())
    of_workers = [one for result in results.values() for one in result[0][2]]
    attempts = sum(one["attempts"] for one in results[NAMES[0]][0][2])
    if killed:
        equal &= attempts == len(JOBS[job].kills) * shards + 1  # the kill took place, and cost one attempt
    peak = max(one["peak_bytes"] for one in of_workers) / 1e6
    sent = sum(one["ledger"]["total"]["sent"]["frame_bytes"] for one in results[NAMES[0]][0][2])
    print(
        f"{job:6s} {engine:5s} {rows:10,d} rows, {shards:3d} shards, {places} at a time: {took:8.1f} s, "
        f"{attempts} attempts, {sent / 1e6:.1f} MB sent by the workers of a party, peak {peak:.0f} MB "
        f"a worker and {max(result[3] for result in results.values()) / 1e6:.0f} MB a main process"
        f"{f', killed: {killed}' if killed else ''}: {'equal' if equal else 'DIFFERENT'}",
        flush=True,
    )
    for news in results[NAMES[0]][0][4]:
        print(f"      {news}", flush=True)
    return equal, took, max(_busiest(result[0][2], result[0][3], places) for result in results.values())


def _busiest(done: list[dict[str, Any]], main_s: float, places: int) -> float:
    by_place = [0.0] * places
    for one in done:
        by_place[one["shard"] % places] += one["processor_s"]
    return main_s + max(by_place)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--rows", type=int, default=60_000, help="rows of all banks together")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=["local", "dask", "ray"])
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--places", type=int, default=2, help="shards at a time")
    parser.add_argument("--memory", type=int, help="GiB of address space of every process")
    parser.add_argument("--no-kills", action="store_true", help="do not kill workers")
    parser.add_argument("--speed-up", action="store_true", help="compare one place with two, a core each")
    parser.add_argument("--tiny", action="store_true", help="once, on a few rows")
    options = parser.parse_args(argv)
    if options.tiny:
        options.engines, options.rows, options.shards, options.places = ["threads"], 300, 2, 2
    # Workers are told modules by their names, of which one is a benchmark's.
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    memory = None if options.memory is None else options.memory << 30
    if memory is not None:
        # All processes of banks inherit it; this one, which knows all tables, may exceed it.
        resource.setrlimit(resource.RLIMIT_AS, (memory, resource.getrlimit(resource.RLIMIT_AS)[1]))
    runs = []
    run = functools.partial(measure, rows=options.rows, shards=options.shards, places=options.places)
    for job, engine in itertools.product(options.jobs, options.engines):
        if importlib.util.find_spec(ENGINES[engine]) is None:
            print(f"{engine:5s} is not installed, and left out: pip install 'secagg[{engine}]'")
            continue
        runs.append(run(engine, job=job, memory=memory)[0])
        kills = [(step, phase) for step, phases in JOBS[job].kills.items() for phase in phases]
        for step, phase in [] if options.no_kills or options.tiny else kills:
            runs.append(run(engine, job=job, killed=f"bank_1 {step}-1-1 {phase}")[0])
    for job in options.jobs if options.speed_up else ():
        alone = functools.partial(measure, "local", options.rows, job=job, shards=options.shards, pinned=True)
        one, two = alone(places=1), alone(places=2)
        runs += [one[0], two[0]]
        print(f"{job}: speed-up of two workers against one, a core each: {one[1] / two[1]:.2f} by the clock")
        print(f"  by processor time of the busiest bank, one place after the other: {one[2] / two[2]:.2f}")
    print(f"{sum(runs)} of {len(runs)} runs equal")
    if not all(runs):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
