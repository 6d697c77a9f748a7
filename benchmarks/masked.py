"""Masked sums: client and server against Flower's SecAgg+, against the masks alone, and with many clients.

    python -m benchmarks.masked
    python -m benchmarks.masked --flower-python VENV/bin/python

The first part steps the role classes by hand and times them. A client is one that stays to the end, from the encoding
of its floats to its last answer. The server's unmasking is from the answers to the decoded sum. The limit is the time
in which this machine makes the keystream of a client's masks, a mask at a time into a warm buffer. Both sides work
with 32-bit numbers modulo 2**32. `--flower-python` runs Flower's own code on the same cases, taking turns with ours;
benchmarks/peers says how to install it. Its clients and server are timed without serialisation, as ours are. Ratios
compare the fastest turns.

The second part runs whole rounds in the simulator with many clients, a tenth of which leave after they have shared
their keys. The third measures what the server allocates while uploads come in.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
import tracemalloc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secagg.cost.network import LOOPBACK
from secagg.fixed_point import decode, encode, plan
from secagg.network.simulated import Fault, simulate
from secagg.prg import Stream
from secagg.protocols.masked_sum import (
    Client,
    Consents,
    GraphParameters,
    Included,
    MaskedInput,
    Server,
    SumInSession,
    Terms,
    aggregate,
    choose,
    contribute,
    reference,
)
from secagg.protocols.roles import Roles
from secagg.ring import Ring

CLIP, FRAC_BITS = 8.0, 18  # 2**22 steps over -8..8, as Flower's default quantisation
GOALS = {(10, 0): (3, 8), (10, 2): (3, 8), (50, 10): (None, 500)}


class Times(NamedTuple):
    """One round's times: a client's whole work (median over clients), its parts, the server's, the limit."""

    client_s: float
    keys_s: float
    masking_s: float
    take_s: float
    unmask_s: float
    limit_s: float
    vector_bytes: int
    error: float


def setting(parameters: GraphParameters, length: int, ring: Ring) -> tuple[Terms, list[Ed25519PrivateKey]]:
    identities = [Ed25519PrivateKey.generate() for _ in range(parameters.clients)]
    public = tuple(key.public_key().public_bytes_raw() for key in identities)
    names = tuple(f"client-{i}" for i in range(parameters.clients))
    return Terms(Roles(names, ("server",), ("server",)), public, length, ring, parameters), identities


def one_round(
    parameters: GraphParameters, length: int, gone: int, *, packed: bool, executor: ThreadPoolExecutor | None
) -> Times:
    """Play a round by hand and time who does what."""
    n = parameters.clients
    made = plan(clip=CLIP, frac_bits=FRAC_BITS, parties=n, bits=32)
    ring = made.sum_ring(n) if packed else made.ring
    terms, identities = setting(parameters, length, ring)
    made_up = np.random.default_rng(0)
    updates = {name: made_up.normal(0, 0.05, length).astype(np.float32) for name in terms.roles.clients}
    where = SumInSession(terms, os.urandom(32))
    spent: dict[str, dict[str, float]] = {name: {"keys": 0.0, "masking": 0.0} for name in terms.roles.clients}
    serving = {"take": 0.0, "unmask": 0.0}

    def timed(times: dict[str, float], part: str, step: Any, *arguments: Any) -> Any:
        begun = time.perf_counter()
        result = step(*arguments)
        times[part] += time.perf_counter() - begun
        return result

    server, clients = Server(where), {}
    for name, key in zip(terms.roles.clients, identities, strict=True):
        clients[name] = timed(spent[name], "keys", Client, where, name, key)
        server.take_keys(name, timed(spent[name], "keys", clients[name].advertise))
    peers = server.close_keys()
    for name, client in clients.items():
        server.take_shares(name, timed(spent[name], "keys", client.share, peers[name]))
    inboxes = server.close_shares()
    staying = terms.roles.clients[gone:]
    sent = 0

    def masked(name: str) -> MaskedInput:
        encoded = encode(updates[name], made).values
        if packed:
            encoded = made.narrow(encoded)
        return clients[name].mask(encoded, inboxes[name], executor=executor)

    for name in staying:
        message = timed(spent[name], "masking", masked, name)
        timed(serving, "take", server.take_input, name, message)
        sent = message.packed.nbytes
    request: Included | Consents = server.close_inputs()
    if parameters.malicious:
        for name in staying:
            server.take_consent(name, timed(spent[name], "keys", clients[name].consent, request))
        request = server.close_consents()
    answers = {name: timed(spent[name], "keys", clients[name].unmask, request) for name in staying}

    def unmask() -> np.ndarray:
        for name, answer in answers.items():
            server.take_answer(name, answer)
        total = server.finish(executor=executor).total
        return decode(made.widen(total) if packed else total, made)

    total = timed(serving, "unmask", unmask)
    expected = sum(updates[name].astype(np.float64) for name in staying)
    return Times(
        statistics.median(sum(spent[name].values()) for name in staying),
        statistics.median(spent[name]["keys"] for name in staying),
        statistics.median(spent[name]["masking"] for name in staying),
        serving["take"] / len(staying),
        serving["unmask"],
        masks_alone(parameters.degree + 1, length, ring),
        sent,
        float(abs(total - expected).max()),
    )


def masks_alone(masks: int, length: int, ring: Ring) -> float:
    """Return the seconds in which so many masks are expanded into a warm buffer, the fastest of three."""
    buffer = np.ones(length, ring.dtype)
    best = float("inf")
    for _ in range(3):
        seeds = [os.urandom(32) for _ in range(masks)]
        begun = time.perf_counter()
        for seed in seeds:
            Stream(seed).fill(buffer)
        best = min(best, time.perf_counter() - begun)
    return best


def flower(
    python: str, cases: Sequence[tuple[int, int, int]]
) -> dict[tuple[int, int, int], dict[str, float]]:
    """Return what Flower's own code took, by case."""
    script = str(Path(__file__).parent / "peers" / "flower_secaggplus.py")
    names = [":".join(map(str, case)) for case in cases]
    printed = subprocess.run(
        [python, script, "--cases", *names], check=True, capture_output=True, text=True
    ).stdout
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    by_name = {line["case"]: line for line in lines}
    return {case: by_name[name] for case, name in zip(cases, names, strict=True)}


def fastest(times: list[Times]) -> Times:
    return Times(*(min(values) for values in zip(*times, strict=True)))


def compare(options: argparse.Namespace, cases: Sequence[tuple[int, int, int]]) -> None:
    variants: dict[str, dict[str, Any]] = {
        "32 bits": {"packed": False},
        "packed": {"packed": True},
        "malicious": {"packed": False, "threat_model": "malicious"},
        "threads": {"packed": False, "threads": True},
    }
    ours: dict[tuple[Any, str], list[Times]] = {}
    theirs: dict[tuple[int, int, int], list[dict[str, float]]] = {case: [] for case in cases}
    with ThreadPoolExecutor(options.threads) as pool:
        for _ in range(options.turns):
            for case in cases:
                n, length, gone = case
                for name, chosen in variants.items():
                    parameters = choose(
                        n,
                        max_corrupt=0.2,
                        max_dropout=0.2,
                        threat_model=chosen.get("threat_model", "semi-honest"),
                    )
                    executor = pool if chosen.get("threads") else None
                    for _ in range(options.repeats):
                        times = one_round(
                            parameters, length, gone, packed=chosen["packed"], executor=executor
                        )
                        ours.setdefault((case, name), []).append(times)
            if options.flower_python:
                for case, times_there in flower(options.flower_python, cases).items():
                    theirs[case].append(times_there)
    for case in cases:
        n, length, gone = case
        print(
            f"\n{n} clients, {length:,} elements, {gone} dropouts; milliseconds, fastest of {options.turns} turns"
        )
        print(f"  {choose(n, max_corrupt=0.2, max_dropout=0.2)}")
        print(
            f"  {'':10} {'client':>9} {'median':>9} {'keys':>8} {'masking':>8} {'masks alone':>12} {'ratio':>6} "
            f"{'take':>7} {'unmask':>9} {'bytes up':>10}"
        )
        for name in variants:
            all_times = ours[case, name]
            t, ms = fastest(all_times), 1e3
            middle = statistics.median(times.client_s for times in all_times)
            ratio = t.client_s / t.limit_s
            print(
                f"  {name:10} {t.client_s * ms:9.2f} {middle * ms:9.2f} {t.keys_s * ms:8.2f} {t.masking_s * ms:8.2f} "
                f"{t.limit_s * ms:12.2f} {ratio:6.2f} {t.take_s * ms:7.3f} {t.unmask_s * ms:9.2f} {t.vector_bytes:10,}"
            )
        bound = plan(clip=CLIP, frac_bits=FRAC_BITS, parties=n).error(summands=n)
        print(
            f"  largest error of the sum {max(x.error for x in ours[case, '32 bits']):.2g}, bound {bound:.2g}"
        )
        if theirs[case]:
            t, threads = fastest(ours[case, "32 bits"]), fastest(ours[case, "threads"])
            client, unmask = (min(x[key] for x in theirs[case]) for key in ("client_s", "unmask_s"))
            size = theirs[case][0]["vector_bytes"]
            print(
                f"  Flower     {client * 1e3:9.2f} {'':54} {unmask * 1e3:9.2f} {int(size):10,}\n"
                f"  Flower takes {client / t.client_s:.1f} times as long at a client, {unmask / t.unmask_s:.1f} times as "
                f"long unmasking ({unmask / threads.unmask_s:.1f} with threads), {size / t.vector_bytes:.2f} times the bytes"
            )
            goal = GOALS.get((n, gone))
            if goal:
                print(f"  goals: client {goal[0] or '-'}, unmasking {goal[1]}, bytes 2")


def scale(clients: int, length: int, threads: int) -> None:
    parameters = choose(clients, max_corrupt=1 / 3, max_dropout=0.1)
    terms, identities = setting(parameters, length, Ring(32))
    made_up = np.random.default_rng(1)
    base = made_up.integers(0, 1 << 24, length, dtype=np.uint32)
    xs = {name: np.roll(base, i) for i, name in enumerate(terms.roles.clients)}
    gone = terms.roles.clients[::10][: parameters.n_dropouts]
    print(
        f"\nsimulated, one process: {parameters}; {length:,} elements of 32 bits, {len(gone)} leave before the input"
    )
    with ThreadPoolExecutor(threads) as pool:
        executor = pool if threads > 1 else None

        def client(name: str, key: Ed25519PrivateKey) -> Any:
            return lambda p: contribute(p, xs[name], terms=terms, identity=key)

        programs: dict[str, Any] = {"server": lambda p: aggregate(p, terms=terms, executor=executor)}
        programs |= {
            name: client(name, key) for name, key in zip(terms.roles.clients, identities, strict=True)
        }
        begun = time.perf_counter()
        out = simulate(programs, network=LOOPBACK, faults=[Fault("crash", 2, sender=name) for name in gone])
        seconds = time.perf_counter() - begun
    result = out.results["server"]
    kept = {name: xs[name] for name in result.contributors}
    right = bool((result.total == reference(kept, terms)).all()) and set(result.dropped) == set(gone)
    server = out.ledgers["server"]
    print(f"  {seconds:.1f} s in all; the sum of {len(kept)} is right: {right}")
    for phase, cost in server.phases.items():
        if cost.compute_s > 1e-3:
            print(
                f"  server, {phase:8} {cost.compute_s * 1e3:10.1f} ms computing, {cost.sent.frame_bytes:12,} bytes sent"
            )
    totals = [out.ledgers[name].total() for name in kept]
    computing = [t.compute_s * 1e3 for t in totals]
    low, middle, high = np.percentile(computing, [25, 50, 75])
    limit = masks_alone(parameters.degree + 1, length, terms.ring) * 1e3
    print(
        f"  a client: {low:.1f} {middle:.1f} {high:.1f} ms (quartiles), masks alone {limit:.1f}; "
        f"{totals[0].sent.frame_bytes:,} bytes sent, {totals[0].received.frame_bytes:,} received"
    )


def memory(length: int, counts: Sequence[int]) -> None:
    print(f"\nwhat the server allocates while vectors of {length:,} elements ({4 * length:,} bytes) come in:")
    for n in counts:
        terms, identities = setting(choose(n, max_corrupt=0.1, max_dropout=0.1), length, Ring(32))
        where = SumInSession(terms, os.urandom(32))
        clients = {
            name: Client(where, name, k) for name, k in zip(terms.roles.clients, identities, strict=True)
        }
        server = Server(where)
        for name, client in clients.items():
            server.take_keys(name, client.advertise())
        peers = server.close_keys()
        for name, client in clients.items():
            server.take_shares(name, client.share(peers[name]))
        inboxes = server.close_shares()
        x = np.zeros(length, np.uint32)
        tracemalloc.start()
        peak = 0
        for name, client in clients.items():
            message = client.mask(x, inboxes[name])
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            server.take_input(name, message)
            del message
            peak = max(peak, tracemalloc.get_traced_memory()[1] - before)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        print(f"  {n:5} clients: at most {peak:9,} bytes at an upload, {held:9,} more held behind the last")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flower-python", help="a Python that has flwr")
    parser.add_argument("--turns", type=int, default=3, help="how often everybody takes a turn")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of ours in each turn")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="for masks, where threads are measured"
    )
    parser.add_argument("--clients", type=int, default=1000, help="in the simulation; 0 for none")
    parser.add_argument("--elements", type=int, default=100_000, help="in the simulation")
    parser.add_argument("--only-scale", action="store_true", help="only the simulation")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    options = parser.parse_args(argv)
    cases = [(10, 1_000_000, 0), (10, 1_000_000, 2), (50, 100_000, 10)]
    if options.tiny:
        options.turns = options.repeats = 1
        options.clients, options.elements = 12, 1000
        cases = [(5, 1000, 1)]
    print(
        f"{os.cpu_count()} cores, {options.threads} threads where used, {options.turns} turns of {options.repeats} rounds"
    )
    if not options.only_scale:
        compare(options, cases)
        memory(1000 if options.tiny else 1_000_000, (4, 8) if options.tiny else (10, 40))
    if options.clients:
        scale(options.clients, options.elements, options.threads)


if __name__ == "__main__":
    main()
