"""The bank job: lists from several banks merged, grouped, tested and opened to the holders.

    python -m benchmarks.fraud                         30k, 100k, 300k and 1M rows over TLS
    python -m benchmarks.fraud --rows 1000000 --beside "COMMAND"
    python -m benchmarks.fraud --rows 100000 --computing 3 4
    python -m benchmarks.fraud --rows 100000 --spu-python VENV/bin/python

Each bank is a process of its own. The time runs from when all banks are connected and hold their rows in memory until
the last knows its findings. Hashing of identifiers is in it. `--beside` runs another command after each of ours and
shows what it prints. `--spu-python` lets SPU (ABY3) sort as many keys, which is a part of this job.
"""

from __future__ import annotations

import argparse
import functools
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.parties import one_thread, run_parties

one_thread()

import numpy as np  # noqa: E402  # after one_thread
from numpy.typing import NDArray  # noqa: E402

from secagg.protocols.group_by import (  # noqa: E402
    PHASES,
    Field,
    Layout,
    Query,
    Rows,
    find_groups,
    reference,
)

ROWS = (30_000, 100_000, 300_000, 1_000_000)


def make_query(banks: int, computing_parties: int = 3) -> Query:
    names = tuple(f"bank_{i}" for i in range(banks))
    computing = (*names, "helper", "helper_2")[:computing_parties]
    fields = (
        Field("senders", 100_000, at_least=3),
        Field("total", 10**13, at_least=1_500_000_000),
        Field("banks", 1, at_least=2, opened=False),
    )
    return Query(names, computing, fields)  # type: ignore[arg-type]


def make_tables(banks: int, rows: int, seed: int) -> list[Rows]:
    """Return the banks' rows: a twentieth of the identifiers at all banks, a tenth at each pair."""
    return [make_table(banks, rows, seed, bank) for bank in range(banks)]


def make_table(banks: int, rows: int, seed: int, wanted: int) -> Rows:
    """Return one bank's rows of `make_tables`, without holding the others'."""
    numbers, values = make_numbers(banks, rows, seed, wanted)
    return Rows(np.array([f"acct-{n}" for n in numbers.tolist()], object), values)


def make_numbers(
    banks: int, rows: int, seed: int, wanted: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return one bank's identifiers as numbers, and its values."""
    rng = np.random.default_rng(seed)
    share = rows // banks
    common = np.arange(share // 20)
    for bank in range(wanted + 1):
        following = 10**9 * (bank + 1) + np.arange(share // 10)
        previous = 10**9 * ((bank - 1) % banks + 1) + np.arange(share // 10)
        own = 10**12 * (bank + 1) + np.arange(
            share - len(common) - (len(following) + len(previous)) * (banks > 2)
        )
        pairs = [following, previous] if banks > 2 else []
        numbers = np.concatenate([common, *pairs, own])
        order = rng.permutation(len(numbers))
        values = np.stack(
            [rng.integers(1, 4, len(numbers)), rng.integers(0, 1 << 30, len(numbers)), np.ones(len(numbers))],
            1,
        )
    return numbers[order], values.astype(np.uint64)


async def bank(
    party: Any, *, banks: int, computing: int, rows: int, seed: int, repeat: int
) -> list[tuple[float, float, int, int, float]]:
    """Return, for each repetition: begin, end (machine clock), number flagged, checksum of the sums,
    processor seconds."""
    query = make_query(banks, computing)
    mine = None
    if party.me in query.input_parties:
        mine = make_table(banks, rows, seed, query.input_parties.index(party.me))
    times = []
    for _ in range(repeat):
        begun, busy = time.monotonic(), time.process_time()
        findings = await find_groups(party, query, mine)
        flagged, checksum = (
            (0, 0) if findings is None else (int(findings.flagged.sum()), int(findings.sums.sum()))
        )
        times.append((begun, time.monotonic(), flagged, checksum, time.process_time() - busy))
    return times


def measure(banks: int, rows: int, *, computing: int, tls: bool, repeat: int) -> float:
    query = make_query(banks, computing)
    parties = dict.fromkeys((*query.input_parties, *query.computing_parties))
    program = functools.partial(bank, banks=banks, computing=computing, rows=rows, seed=rows, repeat=repeat)
    results = run_parties(dict.fromkeys(parties, program), tls=tls)
    expected = reference(query, make_tables(banks, rows, rows))
    for name, findings in zip(query.input_parties, expected, strict=True):
        flagged, checksum = int(findings.flagged.sum()), int(findings.sums.sum())
        if any(run[2:4] != (flagged, checksum) for run in results[name][0]):
            raise SystemExit(f"{name}'s findings differ from the plaintext's")
    # A run begins when the last party does: building made-up tables is not part of it.
    walls = [
        max(result[0][i][1] for result in results.values())
        - max(result[0][i][0] for result in results.values())
        for i in range(repeat)
    ]
    layout = Layout.plan(query, [rows // banks] * banks)
    ledgers = {name: result[1] for name, result in results.items()}
    first = ledgers[query.computing_parties[0]]
    sent = max(ledger["total"]["sent"]["frame_bytes"] for ledger in ledgers.values()) / repeat
    rounds = max(result[2] for result in results.values()) // repeat
    peak = max(result[3] for result in results.values())
    cpu = max(min(run[4] for run in result[0]) for result in results.values())
    print(
        f"{rows:9,d} rows, {banks} banks, {computing} computing, {'TLS' if tls else 'plain'}: wall min {min(walls):.3f} s, "
        f"median {float(np.median(walls)):.3f} s; {sent / 1e6:.1f} MB sent a party, {rounds} rounds, "
        f"peak {peak / 1e6:.0f} MB and {cpu:.3f} processor seconds a process"
    )
    print(
        f"          {layout.buckets.buckets} buckets, padding x{layout.buckets.rows / rows:.2f}, keys of "
        f"{layout.hash_bits} bits, {int(min(walls) * 1e9 / (rows * np.log2(rows))):,d} ns / (R log2 R)"
    )
    for phase in PHASES:
        cost = first["phases"].get(phase)
        if cost:
            print(
                f"          {phase:8s} {(cost['compute_s'] + cost['wait_s']) / repeat:7.3f} s "
                f"(computing {cost['compute_s'] / repeat:.3f}), {cost['sent']['frame_bytes'] / repeat / 1e6:8.2f} MB"
            )
    return min(walls)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS), help="rows of all banks together")
    parser.add_argument("--banks", type=int, default=3)
    parser.add_argument(
        "--computing", type=int, nargs="+", default=[3], choices=(3, 4), help="how many parties compute"
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="without TLS, to see what it costs")
    parser.add_argument("--beside", help="a command to run after each of ours")
    parser.add_argument("--spu-python", help="a Python that has SPU: sorts as many keys there")
    parser.add_argument("--tiny", action="store_true", help="once, on a few rows")
    options = parser.parse_args(argv)
    if options.tiny:
        options.rows, options.repeat = [600], 1
    for rows in options.rows:
        for computing in options.computing:
            wall = measure(
                options.banks, rows, computing=computing, tls=not options.plain, repeat=options.repeat
            )
        if options.beside:
            print(
                subprocess.run(shlex.split(options.beside), check=True, capture_output=True, text=True).stdout
            )
        if options.spu_python:
            script = Path(__file__).parent / "peers" / "spu_ops.py"
            command = [options.spu_python, str(script), "--ops", f"sort:{rows}"]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(f"          (this job took {wall:.3f} s)")


if __name__ == "__main__":
    main()
