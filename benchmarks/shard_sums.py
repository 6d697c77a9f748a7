"""Masked sums whose server is divided: on local processes, Dask and Ray; workers killed; memory with many clients.

    python -m benchmarks.shard_sums                          120 clients on all engines; 2,000 and 6,000 stand-ins
    python -m benchmarks.shard_sums --clients 10000 30000 100000 --engines local

Three parts. Whole sums by the real program at server and clients, in the simulator, on each engine, with clients that drop
out, in arcs and slices, and again with a worker killed in each step. Masks of long vectors by one worker and by two. Then
many clients, simulated by one other process (`benchmarks.stand_ins` says what it leaves out), on local processes; the server
and its workers are the real ones. Every sum is compared with the plaintext.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.parties import one_thread

one_thread()

import msgspec  # noqa: E402
import numpy as np  # noqa: E402
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402

from benchmarks import stand_ins, sum_worker  # noqa: E402  # after one_thread
from benchmarks.shards import ENGINES, on_dask, on_ray, on_this_machine, on_threads  # noqa: E402
from secagg import wire  # noqa: E402
from secagg.jobs.shards import SumWorkers  # noqa: E402
from secagg.network.memory import peak_bytes  # noqa: E402
from secagg.network.simulated import Fault, simulate  # noqa: E402
from secagg.protocols.masked_sum import (  # noqa: E402
    Division,
    Keys,
    MaskedInput,
    ShardedServer,
    Shares,
    SumInSession,
    Terms,
    Unmasking,
    aggregate,
    choose,
    contribute,
    reference,
)
from secagg.protocols.masked_sum.arcs import SEED_BYTES, Check, Expand, Relay, Unmask, do  # noqa: E402
from secagg.protocols.roles import Roles  # noqa: E402
from secagg.ring import Ring  # noqa: E402

STARTS = {"local": on_this_machine, "dask": on_dask, "ray": on_ray, "threads": on_threads}
AT_A_TIME = 128  # clients whose messages are on their way between the two processes
PARTS = ("keys and shares", "vectors", "answers", "unmasking")
STEPS = [kind.KIND for kind in (Check, Relay, Unmask, Expand)]


def whole_sum(
    engine: str, clients: int, length: int, *, places: int, arc: int, slices: int, killed: str = ""
) -> bool:
    """Return whether the sum of a whole run is the plaintext's."""
    parameters = choose(clients, max_corrupt=0.1, max_dropout=0.25)
    names = tuple(f"client-{i}" for i in range(clients))
    own = {name: Ed25519PrivateKey.generate() for name in names}
    public = tuple(key.public_key().public_bytes_raw() for key in own.values())
    terms = Terms(Roles(names, ("server",), ("server",)), public, length, Ring(32), parameters)
    xs = {n: np.random.default_rng(i).integers(0, 1 << 20, length, np.uint32) for i, n in enumerate(names)}
    # One client is lost after its keys, one after its shares, and one after its vector.
    faults = [Fault("crash", 1 + i, sender=name, receiver="server") for i, name in enumerate(names[:3])]
    with tempfile.TemporaryDirectory(prefix="secagg-sums-") as folder:
        os.environ[sum_worker.KILLED] = f"{killed} {folder}/killed" if killed else ""
        workers, end = STARTS[engine](places)
        try:
            done = SumWorkers(workers, [("127.0.0.1", 0)] * places, module=sum_worker.__name__)
            division = Division(Path(folder) / "spool", clients=arc, slices=slices, do=done)
            programs: dict[str, Any] = {"server": lambda p: aggregate(p, terms=terms, division=division)}
            for name in names:
                programs[name] = lambda p, name=name: contribute(p, xs[name], terms=terms, identity=own[name])
            result = simulate(programs, faults=faults).results["server"]
        finally:
            end()
    equal = np.array_equal(result.total, reference({n: xs[n] for n in result.contributors}, terms))
    equal &= result.dropped == names[:2] and names[2] in result.contributors
    tries = [attempts for _, attempts, _ in done.done]
    equal &= sum(tries) - len(tries) == bool(killed)  # the kill took place, and cost one attempt
    peak = max(peak for *_, peak in done.done) / 1e6
    print(
        f"{engine:7s} {clients:4d} clients, {length:9,d} elements, arcs of {arc}, {slices} slices, {places} workers: "
        f"{len(tries)} tasks, peak {peak:.0f} MB a worker"
        f"{f', killed: {killed}' if killed else ''}: {'equal' if equal else 'DIFFERENT'}",
        flush=True,
    )
    return equal


def long_vectors(length: int, *, masks: int = 500, repeats: int = 3) -> bool:
    """Return whether slices by two workers are the masks that one process adds up; print how the times compare."""
    seeds = np.random.default_rng(1).integers(0, 256, (masks, SEED_BYTES), np.uint8)
    seeds[:, -1] %= 2
    whole = do(Expand(seeds, 32, 0, length))
    best, equal = {1: float("inf"), 2: float("inf")}, True
    for _ in range(repeats):
        for places in best:  # taking turns, so that what else runs here slows both
            step = length // places // 16 * 16
            starts = [step * i for i in range(places)]
            tasks = [Expand(seeds, 32, a, b - a) for a, b in zip(starts, [*starts[1:], length], strict=True)]
            begun = time.monotonic()
            parts = list(SumWorkers(on_this_machine(places)[0], [("127.0.0.1", 0)] * places)(tasks))
            best[places] = min(best[places], time.monotonic() - begun)
            equal &= np.array_equal(np.concatenate([part.total for part in parts]), whole.total)
    print(
        f"masks of {masks} clients over {length:,d} elements: one worker {best[1]:.1f} s, two workers on a slice each "
        f"{best[2]:.1f} s (best of {repeats}), speed-up {best[1] / best[2]:.2f}: {'equal' if equal else 'DIFFERENT'}",
        flush=True,
    )
    return equal


def many_clients(clients: int, length: int, *, engine: str, places: int, arc: int) -> bool:
    """Return whether the sum of many stand-ins is the plaintext's."""
    parameters = choose(clients, max_corrupt=0.1, max_dropout=0.1)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=stand_ins.serve, args=(theirs, parameters, length))
    process.start()
    theirs.close()
    workers, end = STARTS[engine](places)
    seconds: list[float] = []
    begun = time.monotonic()

    def ask(step: int, messages: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
        coming = iter(messages)
        while some := list(itertools.islice(coming, AT_A_TIME)):
            told = [(terms.roles.numbers[name], frame) for name, frame in some]
            ours.send_bytes(msgspec.msgpack.encode((step, told)))
            answers = msgspec.msgpack.decode(ours.recv_bytes(), type=list[bytes])
            yield from ((name, answer) for (name, _), answer in zip(some, answers, strict=True) if answer)

    def lap() -> None:
        nonlocal begun
        seconds.append(time.monotonic() - begun)
        begun = time.monotonic()

    try:
        terms = stand_ins.terms_of(parameters, ours.recv_bytes(), length)
        where = SumInSession(terms, stand_ins.SESSION)
        sum_workers = SumWorkers(workers, [("127.0.0.1", 0)] * places)
        begun = time.monotonic()
        with (
            tempfile.TemporaryDirectory(prefix="secagg-sums-") as folder,
            ShardedServer(where, Division(Path(folder), clients=arc, do=sum_workers)) as server,
        ):
            for name, frame in ask(0, ((name, b"") for name in terms.roles.clients)):
                server.take_keys(name, wire.from_bytes(frame, Keys))
            for name, frame in ask(1, ((name, wire.to_bytes(m)) for name, m in server.close_keys())):
                server.take_shares(name, wire.from_bytes(frame, Shares))
            lap()
            for name, frame in ask(2, ((name, wire.to_bytes(m)) for name, m in server.close_shares())):
                server.take_input(name, wire.from_bytes(frame, MaskedInput))
            lap()
            request = wire.to_bytes(server.close_inputs())
            for name, frame in ask(3, ((name, request) for name in server.included)):
                server.take_answer(name, wire.from_bytes(frame, Unmasking))
            lap()
            disk = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
            result = server.finish()
            lap()
        ours.send_bytes(b"")
        expected = np.frombuffer(ours.recv_bytes(), np.uint32)
    finally:
        end()
        process.kill()
        process.join()
    equal = np.array_equal(result.total, expected)
    peaks = {
        step: max((p for kind, _, p in sum_workers.done if kind == step), default=0) / 1e6 for step in STEPS
    }
    of_workers = ", ".join(
        f"{peaks[step]:.0f} MB in {step.rpartition('.')[2]}" for step in STEPS if peaks[step]
    )
    parts = ", ".join(f"{what} {took:.0f}" for what, took in zip(PARTS, seconds, strict=True))
    print(
        f"{clients:9,d} clients, {parameters.degree} neighbours each, {len(result.dropped):,d} dropped out, {length} "
        f"elements, {-(-clients // arc)} arcs, {places} workers: peak a worker {of_workers}; main process "
        f"{peak_bytes() / 1e6:.0f} MB; disk {disk / 1e6:,.0f} MB; {sum(seconds):.0f} s ({parts}): "
        f"{'equal' if equal else 'DIFFERENT'}",
        flush=True,
    )
    return equal


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", nargs="*", choices=ENGINES, default=["local", "dask", "ray"])
    parser.add_argument("--clients", type=int, nargs="*", default=[2_000, 6_000], help="stand-ins")
    parser.add_argument("--arc", type=int, default=2048, help="clients in an arc")
    parser.add_argument("--places", type=int, default=2, help="workers at a time")
    parser.add_argument("--length", type=int, default=4_000_000, help="of long vectors; 0 for none")
    parser.add_argument("--no-kills", action="store_true", help="do not kill workers")
    parser.add_argument("--tiny", action="store_true", help="once, with few clients")
    options = parser.parse_args(argv)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    many = "local"
    if options.tiny:
        options.engines, options.clients, options.arc, options.length, many = (
            ["threads"],
            [200],
            90,
            0,
            "threads",
        )
    runs: list[bool] = []
    for engine in options.engines:
        if importlib.util.find_spec(ENGINES[engine]) is None:
            print(f"{engine:7s} is not installed, and left out: pip install 'secagg[{engine}]'")
            continue
        kills: Sequence[str] = () if options.no_kills or options.tiny else STEPS
        for killed in ("", *kills):
            clients = 12 if options.tiny else 120
            runs.append(
                whole_sum(
                    engine, clients, 50, places=options.places, arc=clients // 3, slices=2, killed=killed
                )
            )
    if options.length:
        runs.append(long_vectors(options.length))
    runs += [
        many_clients(clients, 16, engine=many, places=options.places, arc=options.arc)
        for clients in options.clients
    ]
    print(f"{sum(runs)} of {len(runs)} runs equal")
    if not all(runs):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
