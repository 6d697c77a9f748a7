"""Two organisations' lists, half of each in common: intersection, count and sum, beside openmined-psi in one run.

    python -m benchmarks.two_organisations                                       ours alone
    python -m benchmarks.two_organisations --psi-python PSI/bin/python           beside openmined-psi, in turns
    python -m benchmarks.two_organisations --rows 1000000 --only common --turns 1

Each of our parties is a process of its own over loopback TLS. openmined-psi runs both roles in one process, one after the
other, without a network (`peers/openmined_psi.py` says how to install it). So beside wall time there is processor time: that
of both parties together. One of the two is told, as in openmined-psi, which compares lists without padding as well.
A ratio is openmined-psi's time over ours in the same turn: the median over turns, and in brackets the lowest and highest.

What bounds `common`, `count` and `sum` is printed first: X25519's scalar multiplications a second on one core. A run takes
four for each identifier of a side: two at each party. `transfers` finds the same as `common`, by oblivious transfers.
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.parties import run_parties
from secagg.party import Party
from secagg.prg import system_stream
from secagg.protocols.intersection import (
    Sides,
    count_common,
    find_common,
    find_common_by_transfers,
    sum_common,
)
from secagg.protocols.intersection.curve import Blinding, hash_to_curve

NAMES = ("ada", "bob")
KINDS = {"common": find_common, "transfers": find_common_by_transfers, "count": count_common, "sum": None}
PEER = Path(__file__).parent / "peers" / "openmined_psi.py"


async def run(party: Party, kind: str, rows: int) -> tuple[float, float, int]:
    """Return wall seconds, processor seconds and how many were found."""
    first = 0 if party.me == "ada" else rows // 2
    own = [f"account-{i:08}".encode() for i in range(first, first + rows)]
    terms = Sides(dict.fromkeys(NAMES, rows), ("ada",))
    start, before = time.perf_counter(), _processor()
    if kind == "sum":
        values = np.ones(rows, np.int64) if party.me == "bob" else None
        found: Any = await sum_common(party, terms, own, values, holder="bob", largest=1000)
        count = 0 if found is None else found.total
    else:
        told = await KINDS[kind](party, terms, own)  # type: ignore[misc]
        count = 0 if told is None else int(np.sum(told))
    return time.perf_counter() - start, _processor() - before, count


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def ours(kind: str, rows: int) -> tuple[float, float, int]:
    """Return wall seconds, processor seconds of both parties, and bytes sent."""
    results = run_parties({name: functools.partial(run, kind=kind, rows=rows) for name in NAMES})
    if results["ada"][0][2] != rows - rows // 2:
        raise SystemExit(f"expected {rows - rows // 2} in common, got {results['ada'][0][2]}")
    measured = [one[0] for one in results.values()]
    sent = sum(one[1]["total"]["sent"]["frame_bytes"] for one in results.values())
    return max(m[0] for m in measured), sum(m[1] for m in measured), sent


def theirs(python: str, kind: str, rows: int) -> float:
    """Return the seconds of openmined-psi, which are its processor's as well."""
    done = subprocess.run([python, PEER, str(rows), kind], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["seconds"])


def primitives() -> None:
    """Print how long hashing to the curve and multiplying take."""
    identifiers = [f"account-{i:08}".encode() for i in range(2000)]
    start = time.perf_counter()
    points = hash_to_curve(identifiers, b"benchmark")
    hashed = time.perf_counter()
    Blinding(system_stream().bytes(32)).blind(points)
    hashing, blinding = hashed - start, time.perf_counter() - hashed
    print(
        f"one core: {len(points) / blinding:,.0f} scalar multiplications a second ({blinding / len(points) * 1e6:.1f} us), "
        f"{hashing / len(points) * 1e6:.1f} us to hash an identifier to the curve"
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000, help="identifiers a side")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", choices=KINDS, nargs="*", default=list(KINDS))
    parser.add_argument("--psi-python", help="the Python of an environment with openmined-psi")
    parser.add_argument("--tiny", action="store_true", help="see that it runs")
    options = parser.parse_args(argv)
    rows, turns = (20, 1) if options.tiny else (options.rows, options.turns)
    primitives()
    print(
        f"{rows:,} identifiers a side, 128 bits of security; sums under Paillier with 3072 bits; {turns} turns"
    )
    for kind in options.only:
        times, ratios = [], []
        for _ in range(turns):
            times.append(ours(kind, rows))
            if options.psi_python and kind != "sum":
                peer = theirs(options.psi_python, "count" if kind == "count" else "common", rows)
                ratios.append((peer, peer / times[-1][0], peer / times[-1][1]))
        wall, processor, sent = np.median(times, axis=0)
        print(
            f"{kind:9} {wall:8.2f} s, {wall / rows * 1e6:7.1f} us an identifier "
            f"({processor / rows * 1e6:.1f} us of processors), {sent / rows:.0f} bytes an identifier"
        )
        if ratios:
            peer, by_wall, by_processor = np.array(ratios).T
            print(
                f"        openmined-psi {np.median(peer) / rows * 1e6:.1f} us an identifier: "
                f"{np.median(by_wall):.2f} times ours [{by_wall.min():.2f}, {by_wall.max():.2f}] by the clock, "
                f"{np.median(by_processor):.2f} by processor time"
            )


if __name__ == "__main__":
    sys.exit(main())
