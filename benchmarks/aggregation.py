"""What each protection costs through `secagg.mean`: seconds a client and a server, bytes up, error.

    python -m benchmarks.aggregation
    python -m benchmarks.aggregation --clients 10 100 --protections masked "additive, 2"

Runs the weighted mean of made-up updates, float32, with integer weights up to 1000, under every protection, all parties
in one process. Client seconds are the median over clients in protocol code: the ledger's, so without encoding, which
is the same for all. Server seconds are all other parties' together, from the first message to the opened sum. Seconds
for keys that a deployment makes once stand apart. Bytes up are all that the dearest client sends. The error is the
largest difference to float64's mean of the same numbers, beside the bound that the report states. Of --turns runs,
the fastest.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import secagg
from secagg.aggregation import Additive, Bounded, Ckks, Masked, Paillier, Protection, Rlwe

CLIP, MAX_WEIGHT = 1.0, 1000


class Line(NamedTuple):
    client_s: float
    server_s: float
    setup_s: float
    wall_s: float
    bytes_up: int
    bits: float
    error: float
    bound: float
    about: str


def protections(tiny: bool) -> dict[str, Callable[[], Protection]]:
    # Keys of several Paillier holders take a search for safe primes, which the others need not wait for.
    bits = 2048 if tiny else 3072
    return {
        "masked": Masked,
        "masked, active": lambda: Masked(threat_model="malicious", max_dropout=1 / 10),
        "additive, 2": Additive,
        "additive, 3": lambda: Additive(aggregators=3),
        "bounded": Bounded,
        "rlwe, 3 holders": Rlwe,
        "rlwe, 1 holder": lambda: Rlwe(key_holders=1),
        "ckks": Ckks,
        "paillier": lambda: Paillier(bits=bits),
        "paillier, short": lambda: Paillier(bits=bits, randomizer_bits=512),
        "paillier, 2 of 3": lambda: Paillier(bits=bits, key_holders=3, threshold=2),
    }


def measure(choice: Protection, clients: int, length: int) -> Line:
    rng = np.random.default_rng(clients)
    updates = {f"client{i}": rng.uniform(-1, 1, length).astype(np.float32) for i in range(clients)}
    weights = {name: int(rng.integers(1, MAX_WEIGHT + 1)) for name in updates}
    result = secagg.mean(updates, weights, protocol=choice, clip=CLIP, max_weight=MAX_WEIGHT)
    expected = np.average(
        np.array(list(updates.values()), np.float64), axis=0, weights=list(weights.values())
    )
    report = result.report
    error = float(np.max(np.abs(result.value - expected)))
    if error > report.error:
        raise SystemExit(
            f"{choice.name}: the mean is off by {error:.3g}, more than the {report.error:.3g} stated"
        )
    times = {name: ledger.total().compute_s for name, ledger in report.ledgers.items()}
    return Line(
        statistics.median(times[name] for name in updates),
        sum(seconds for name, seconds in times.items() if name not in updates),
        report.setup_s,
        report.seconds,
        max(role.sent_bytes for role in report.roles if role.role == "client"),
        report.bits,
        error,
        report.error,
        f"{report.parameters}; {report.coding}",
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--length", type=int, default=100_000, help="numbers in an update")
    parser.add_argument("--paillier-length", type=int, default=1_000, help="with Paillier")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--protections", nargs="+", choices=[*protections(False)])
    parser.add_argument("--tiny", action="store_true", help="a few clients with little, to see that it runs")
    args = parser.parse_args(argv)
    if args.tiny:
        args.clients, args.length, args.paillier_length, args.turns = [4], 500, 10, 1
    print(
        f"weighted means of float32 within +-{CLIP}, weights up to {MAX_WEIGHT}; one thread; fastest of {args.turns} turns"
    )
    for clients in args.clients:
        heads = f"{'':17} {'numbers':>8} {'client':>10} {'us a number':>11} {'servers':>10} {'keys':>8} {'in all':>8}"
        print(f"\n{clients} clients\n{heads} {'bytes up':>11} {'a number':>8} {'error':>8} {'bound':>8}")
        for name, make in protections(args.tiny).items():
            if args.protections and name not in args.protections:
                continue
            length = args.paillier_length if name.startswith("paillier") else args.length
            turns = 1 if name.startswith("paillier") else args.turns
            lines = [measure(make(), clients, length) for _ in range(turns)]
            client_s, server_s, wall_s = (
                min(getattr(line, field) for line in lines) for field in ("client_s", "server_s", "wall_s")
            )
            best = lines[0]
            print(
                f"{name:17} {length:8,} {client_s * 1e3:7.1f} ms {client_s / length * 1e6:11.3f} "
                f"{server_s * 1e3:7.1f} ms {best.setup_s:6.2f} s {wall_s:6.2f} s {best.bytes_up:11,} "
                f"{best.bytes_up / length:8.2f} {best.error:8.1e} {best.bound:8.1e}"
            )
            print(f"{'':17} {best.about}")


if __name__ == "__main__":
    main()
