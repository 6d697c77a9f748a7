"""Sums whose summands' bounds are checked on shares by three aggregators: time, bytes and memory a client.

    python -m benchmarks.bounded_sum
    python -m benchmarks.bounded_sum --clients 10 --lengths 10000 100000 --batch 5

Everybody runs in one thread in the simulator. Each party's own measured compute time is charged to a virtual clock,
with the latency and bandwidth of a network. In turns with it runs the additive sum of the same vectors by three
aggregators, without any check. The limit is the time in which one core makes the keystream that the busiest
aggregator needs. Bytes are as declared and held against the ledgers.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.parties import one_thread

one_thread()

import numpy as np  # noqa: E402  # after one_thread

from secagg.cost.network import LAN, LOOPBACK, WAN, Network  # noqa: E402
from secagg.fixed_point import Plan, encode  # noqa: E402
from secagg.network.simulated import simulate  # noqa: E402
from secagg.prg import system_stream  # noqa: E402
from secagg.protocols.additive_sum import Terms as AdditiveTerms  # noqa: E402
from secagg.protocols.additive_sum import take_part as additive  # noqa: E402
from secagg.protocols.bounded_sum import Terms, bounds_for, cost, take_part  # noqa: E402
from secagg.protocols.roles import Roles  # noqa: E402

AGGREGATORS = ("p0", "p1", "p2")
RESULT = "r"
FRAC_BITS, CLIP, NORM = 20, 1.0, 10.0


def setting(n: int, d: int, batch: int, *, weighted: bool) -> tuple[Terms, dict[str, Any]]:
    """Return terms and every party's program; one of the vectors breaks a bound if there are enough others."""
    clients = tuple(f"c{i}" for i in range(n))
    plan = Plan(bits=64, frac_bits=FRAC_BITS, clip=CLIP, parties=n, max_weight=2 if weighted else 1)
    bounds = bounds_for(plan, d, norm=NORM, weighted=weighted)
    terms = Terms(Roles(clients, AGGREGATORS, (RESULT,)), bounds, min_clients=2, batch=batch)
    made = np.random.default_rng(1).standard_normal((n, d))
    made *= NORM / np.linalg.norm(made, axis=1, keepdims=True) * 0.99
    rows = encode(made, plan, out_of_range="clip").values
    weight = 2 if weighted else None
    programs: dict[str, Any] = {
        name: partial(take_part, x=row, terms=terms, weight=weight)
        for name, row in zip(clients, rows, strict=True)
    }
    programs |= dict.fromkeys((*AGGREGATORS, RESULT), partial(take_part, terms=terms))
    return terms, programs


def unchecked(terms: Terms) -> dict[str, Any]:
    d, ring = terms.bounds.length, terms.bounds.ring
    additive_terms = AdditiveTerms(terms.roles, (d,), ring, min_clients=terms.min_clients)
    add = partial(additive, terms=additive_terms)
    programs: dict[str, Any] = dict.fromkeys(terms.roles.clients, partial(add, x=np.ones(d, np.uint64)))
    return programs | dict.fromkeys((*AGGREGATORS, RESULT), add)


def run(programs: dict[str, Any], network: Network) -> tuple[float, dict[str, float], Any]:
    """Return the virtual seconds, each party's compute seconds and the outcome."""
    out = simulate(programs, network=network, measure_compute=True)
    out.values()
    return out.seconds, {name: ledger.total().compute_s for name, ledger in out.ledgers.items()}, out


def limit(nbytes: int) -> float:
    """Return the seconds in which one core makes so much keystream."""
    buffer, stream = np.empty(1 << 17, np.uint64), system_stream()
    stream.fill(buffer)
    begun = time.perf_counter()
    for _ in range(20):
        stream.fill(buffer)
    return (time.perf_counter() - begun) / 20 * nbytes / buffer.nbytes


def measure(n: int, d: int, batch: int, repeats: int, *, weighted: bool) -> None:
    terms, programs = setting(n, d, batch, weighted=weighted)
    print(f"\n{n} clients, {d:,} coordinates{', weights' if weighted else ''}, batches of {batch}:")
    checked: list[float] = []
    plain: list[float] = []
    compute: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        seconds, parts, out = run(programs, LOOPBACK)
        checked.append(seconds)
        for name, part in parts.items():
            compute[name].append(part)
        plain.append(run(unchecked(terms), LOOPBACK)[0])
    result = out.results[RESULT]
    assert len(result.contributors) == n
    each = [1e3 * s / n for s in checked]
    print(
        f"  loopback, ms a client: min {min(each):.2f}, median {statistics.median(each):.2f}; "
        f"{min(each) / d * 1e6:.0f} ns a coordinate; without checks {1e3 * min(plain) / n:.2f} "
        f"({min(checked) / min(plain):.0f} times)"
    )
    for name in AGGREGATORS:
        print(f"  {name} computes {1e3 * min(compute[name]) / n:.2f} ms a client")
    print(f"  a client computes {1e3 * min(min(compute[c]) for c in terms.roles.clients):.2f} ms, once")
    for network in (LAN, WAN):
        seconds, _, out = run(programs, network)
        print(f"  {network.name}: {seconds:.2f} s in all, {1e3 * seconds / n:.1f} ms a client")
    rounds = max(ledger.depth for ledger in out.ledgers.values())
    for name in ("c0", *AGGREGATORS):
        declared = cost(name, terms=terms, roster=tuple(programs))
        sent = declared.payload_bytes[name]
        assert out.ledgers[name].total().sent.payload_bytes == sent
        share = sent if name == "c0" else sent / n
        print(f"  {name} sends {share:,.0f} bytes a client, {share / d:.1f} a coordinate")
    print(f"  rounds: {rounds} (declared: at most {declared.rounds})")
    # Of each of 2 d comparisons P_0 masks 148 bits, takes two shares of 42 and draws twice for each of 36 ANDs.
    least = limit(n * d * (2 * (148 + 2 * 42 + 2 * 36) // 8 + 2 * 8))
    print(
        f"  P_0's keystream alone: {1e3 * least / n:.2f} ms a client; P_0 takes {min(compute['p0']) / least:.1f} times that"
    )


def memory(d: int, batches: Sequence[int]) -> None:
    print(f"\nmemory of the three aggregators together, {d:,} coordinates, uploads left out:")
    for batch in batches:
        _, programs = setting(max(2, batch), d, batch, weighted=False)
        tracemalloc.start()
        simulate(programs)
        peak = tracemalloc.get_traced_memory()[1] - 2 * 8 * d * max(2, batch)
        tracemalloc.stop()
        print(
            f"  batches of {batch:3}: {peak / 1e6:8.1f} MB, {peak / (d * batch):.0f} bytes a coordinate and client"
        )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--lengths", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--batch", type=int, default=10, help="clients checked at a time")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    options = parser.parse_args(argv)
    if options.tiny:
        options.clients, options.lengths, options.batch, options.repeats = 3, [200], 2, 1
    print(
        f"bounds: +-{CLIP} a coordinate, norm {NORM}, {FRAC_BITS} frac_bits, 64 bits; security: AES-256, "
        f"semi-honest aggregators of whom one looks, clients that do anything"
    )
    for d in options.lengths:
        measure(options.clients, d, options.batch, options.repeats, weighted=False)
    measure(options.clients, options.lengths[0], options.batch, options.repeats, weighted=True)
    memory(options.lengths[-1], (1, options.batch))


if __name__ == "__main__":
    main()
