"""How the time of a sum grows with its clients, all parties in one process.

    python -m benchmarks.growth
    python -m benchmarks.growth --clients 300 3000 --protections masked

Sums ten numbers a client with `secagg.sum`, so that what counts is what parties do besides arithmetic on vectors.
Ten times the clients should take about ten times the time: the goal is at most 15. The masked sum is on a sparse
graph. It does work for each neighbour, so its ratio holds the growth of the degree, which is printed too. Processor
time, of one run each.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import secagg
from secagg.aggregation import Additive, Masked, Protection, Rlwe
from secagg.protocols.masked_sum import choose

NUMBERS, GOAL = 10, 15.0
SHARE = 0.1  # of the clients corrupt, and dropping out: more makes denser graphs
PROTECTIONS: dict[str, Callable[[], Protection]] = {
    "additive": lambda: Additive(max_dropout=SHARE),
    "rlwe, one holder": lambda: Rlwe(key_holders=1),
    "masked": lambda: Masked(max_corrupt=SHARE, max_dropout=SHARE),
}


def seconds(make: Callable[[], Protection], clients: int) -> float:
    """Return the processor seconds of one sum, which has to be right."""
    rng = np.random.default_rng(clients)
    updates = {f"client {i}": rng.uniform(-1, 1, NUMBERS) for i in range(clients)}
    began = time.process_time()
    result = secagg.sum(updates, protocol=make(), clip=1.0)
    spent = time.process_time() - began
    expected = np.sum(list(updates.values()), axis=0)
    np.testing.assert_allclose(result.value, expected, atol=result.report.error)
    return spent


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, nargs=2, default=(1000, 10_000), metavar=("FEW", "MANY"))
    parser.add_argument("--protections", nargs="+", choices=list(PROTECTIONS), default=list(PROTECTIONS))
    parser.add_argument("--tiny", action="store_true", help="a few clients, to see that it runs")
    args = parser.parse_args(argv)
    few, many = (20, 40) if args.tiny else args.clients
    print(
        f"{NUMBERS} numbers a client; seconds of the processor, and {many:,} clients' over {few:,} clients'"
    )
    for name in args.protections:
        low, high = (seconds(PROTECTIONS[name], clients) for clients in (few, many))
        graphs = [choose(clients, max_corrupt=SHARE, max_dropout=SHARE).degree for clients in (few, many)]
        degrees = f"  {graphs[0]} and {graphs[1]} neighbours" if name == "masked" else ""
        print(f"{name:18} {low:8.2f} {high:9.2f}  {high / low:6.1f} (goal {GOAL:g}){degrees}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
