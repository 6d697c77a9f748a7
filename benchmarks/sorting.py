"""Sorting in secret beside the banks' job: rows with a payload of 64 bits, by keys of 32 and 64 bits.

    python -m benchmarks.sorting                        1k, 100k and 1M rows, three and four parties, over TLS
    python -m benchmarks.sorting --rows 4000000 --bits 64 --parties 3
    python -m benchmarks.sorting --rows 20000000 --bits 32 --parties 3 --memory 4 --repeat 1
    python -m benchmarks.sorting --rows 100000 --spu-python VENV/bin/python
    python -m benchmarks.sorting --table                what each way to sort is declared to cost, without running
    python -m benchmarks.sorting --simulate lan         all parties in one process, on a network with a virtual clock

Each party is a process of its own. The time runs from when all are connected and hold their shares until the last holds the
sorted ones. The banks' job with as many rows runs in turn with it, and so does SPU's sort (ABY3) of keys without payload.
Results are opened afterwards and compared with numpy's. `--memory` bounds the address space of every party's process.
"""

from __future__ import annotations

import argparse
import functools
import resource
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.parties import one_thread, run_parties

one_thread()

import numpy as np  # noqa: E402  # after one_thread

from benchmarks import fraud  # noqa: E402
from secagg import LAN, WAN, simulate  # noqa: E402
from secagg.mpc import engines  # noqa: E402
from secagg.mpc.groups import XOR  # noqa: E402
from secagg.mpc.merge import merge_gates  # noqa: E402
from secagg.mpc.sorting.keys import Key, place_bits  # noqa: E402
from secagg.mpc.sorting.methods import Method, cheapest, sort, sort_cost  # noqa: E402

NAMES = ("ada", "bob", "cleo", "dora")
ROWS = (1_000, 100_000, 1_000_000)
PAYLOAD_BITS = 64
GOAL, GOAL_OF_FOUR = 2.5, 4  # times the banks' job, and times three parties, at a million rows of 64-bit keys


class Run(NamedTuple):
    """What one party measured: machine clock, processor seconds, bytes, rounds, and the most memory that it had had."""

    begun: float
    ended: float
    busy: float
    payload_bytes: int
    rounds: int
    peak_bytes: int


def made_up(rows: int, bits: int) -> list[np.ndarray[Any, np.dtype[np.uint64]]]:
    """Return keys and payload."""
    rng = np.random.default_rng(rows + bits)
    return [rng.integers(0, 1 << width, rows, np.uint64, endpoint=False) for width in (bits, PAYLOAD_BITS)]


def in_order(rows: int, bits: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return the payload in the order of the keys, by numpy."""
    key, payload = made_up(rows, bits)
    return payload[np.argsort(key, kind="stable")]


async def party_program(
    party: Any, *, rows: int, bits: int, parties: int, method: Method | None, repeat: int
) -> list[Run]:
    """Sort made-up rows several times, and raise if they are not in order."""
    computing = NAMES[:parties]
    engine = await engines.set_up(party, computing)
    own = made_up(rows, bits) if party.me == computing[0] else [None, None]
    keys, payloads = [await engine.input(XOR, computing[0], (rows,), own.pop(0)) for _ in range(2)]
    fence = engine.public(XOR, np.zeros(1, np.uint64))
    runs = []
    for _ in range(repeat):
        await engine.open(fence)
        sent, depth = party.ledger.total().sent.payload_bytes, party.ledger.depth
        begun, busy = time.monotonic(), time.process_time()
        (moved,) = await sort([Key(keys, bits=bits)], [payloads], method=method)
        ended, busy = time.monotonic(), time.process_time() - busy
        sent = party.ledger.total().sent.payload_bytes - sent
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        runs.append(Run(begun, ended, busy, sent, party.ledger.depth - depth, peak))
        opened = await engine.open(moved)
        if opened is None or not np.array_equal(opened, in_order(rows, bits)):
            raise SystemExit(f"{rows} rows of {bits} bits are not sorted")
    return runs


def measure(rows: int, bits: int, options: argparse.Namespace, parties: int, bank_s: float | None) -> None:
    method = Method(options.method) if options.method else None
    program = functools.partial(
        party_program, rows=rows, bits=bits, parties=parties, method=method, repeat=options.repeat
    )
    programs = dict.fromkeys(NAMES[:parties], program)
    if options.simulate:
        outcome = simulate(programs, network={"lan": LAN, "wan": WAN}[options.simulate])
        results, walls = (
            dict(zip(programs, outcome.values(), strict=True)),
            [outcome.seconds / options.repeat],
        )
        peak = 0
    else:
        processes = run_parties(programs, tls=not options.plain)
        results = {name: result[0] for name, result in processes.items()}
        peak = max(run.peak_bytes for runs in results.values() for run in runs)
        walls = [
            max(runs[i].ended for runs in results.values()) - max(runs[i].begun for runs in results.values())
            for i in range(options.repeat)
        ]
    best = [min(runs, key=lambda run: run.ended - run.begun) for runs in results.values()]
    costs, columns = engines.costs_of(NAMES[:parties]), [rows * PAYLOAD_BITS // 8]
    chosen = method or cheapest(costs, rows, [bits], columns)
    declared = sort_cost(costs, rows, [bits], columns, method=chosen)
    ratio = "" if bank_s is None else f"; {min(walls) / bank_s:.2f} times the banks' job"
    print(
        f"{rows:9,d} rows, {bits}-bit keys, {parties} parties, {chosen.value}: {min(walls):.3f} s "
        f"({min(walls) * 1e9 / (rows * np.log2(rows)):,.0f} ns / (n log2 n)){ratio}\n"
        f"          {max(run.payload_bytes for run in best) / 1e6:.1f} MB sent a party (declared "
        f"{max(declared.payload_bytes.values()) / 1e6:.1f}), {max(run.rounds for run in best)} rounds (declared "
        f"{declared.rounds}), {max(run.busy for run in best):.3f} processor seconds"
        + (f" a process, peak {peak / 1e6:.0f} MB" if peak else "")
        + ", equal to numpy's",
        flush=True,
    )


def network_cost(rows: int, bits: int) -> tuple[int, int]:
    """Return bytes a party and rounds of Batcher's network on three parties; each layer moves keys and payload."""
    key_planes = -(-(bits + place_bits(rows)) // 4) * 4
    ands = rounds = 0
    length = 1
    while length < rows:
        gates, layers = merge_gates((length, length), key_planes + PAYLOAD_BITS, key_planes)
        ands += gates * -(-rows // (2 * length))
        rounds += layers
        length *= 2
    return ands // 8, rounds


def print_table(rows: list[int]) -> None:
    """Print what each way is declared to cost among three parties, and which one `sort` takes."""
    costs = engines.costs_of(NAMES[:3])
    print(
        f"declared for three parties, payload of {PAYLOAD_BITS} bits: MB a party and rounds; * is what `sort` takes"
    )
    print(f"{'rows':>10} {'key bits':>8}  {'quicksort':>18} {'radix':>18} {'Batcher network':>18}")
    for n in rows:
        for bits in (1, 2, 4, 8, 16, 32, 64):
            columns = [n * PAYLOAD_BITS // 8]
            taken = cheapest(costs, n, [bits], columns)
            cells = []
            for method in Method:
                cost = sort_cost(costs, n, [bits], columns, method=method)
                mark = "*" if method is taken else " "
                cells.append(f"{max(cost.payload_bytes.values()) / 1e6:11.2f} {cost.rounds:5d}{mark}")
            nbytes, rounds = network_cost(n, bits)
            print(f"{n:10,d} {bits:8d}  {cells[0]:>18} {cells[1]:>18} {nbytes / 1e6:11.2f} {rounds:5d}")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--bits", type=int, nargs="+", default=[32, 64], help="of the keys, up to 64")
    parser.add_argument(
        "--parties", type=int, nargs="+", default=list(engines.COMPUTING), help="3, 4 or both"
    )
    parser.add_argument(
        "--method", choices=[method.value for method in Method], help="default: what costs least"
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="without TLS, to see what it costs")
    parser.add_argument(
        "--simulate", choices=["lan", "wan"], help="in one process, on a network with a virtual clock"
    )
    parser.add_argument(
        "--memory", type=int, help="GiB of address space of every party's process; without the banks' job"
    )
    parser.add_argument("--without-banks", action="store_true", help="do not run the banks' job")
    parser.add_argument(
        "--spu-python", help="a Python that has SPU: sorts as many keys there; see benchmarks/peers"
    )
    parser.add_argument("--table", action="store_true", help="print declared costs and end")
    parser.add_argument("--tiny", action="store_true", help="once, on a few rows")
    options = parser.parse_args(argv)
    if options.tiny:
        options.rows, options.repeat, options.bits, options.simulate = [300], 1, [32], "lan"
    print_table(options.rows)
    if options.table:
        return
    if options.memory is not None:
        options.without_banks = True
        # All processes of parties inherit it.
        resource.setrlimit(
            resource.RLIMIT_AS, (options.memory << 30, resource.getrlimit(resource.RLIMIT_AS)[1])
        )
    for rows in options.rows:
        bank_s = None
        if not (options.without_banks or options.simulate):
            bank_s = fraud.measure(3, rows, computing=3, tls=not options.plain, repeat=options.repeat)
        for bits in options.bits:
            for parties in options.parties:
                measure(rows, bits, options, parties, bank_s)
        if options.spu_python:
            script = Path(__file__).parent / "peers" / "spu_ops.py"
            command = [options.spu_python, str(script), "--ops", f"sort:{rows}"]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if bank_s is not None:
        print(
            f"goals at 1M rows of 64-bit keys: {GOAL} times the banks' job; four parties {GOAL_OF_FOUR} times three"
        )


if __name__ == "__main__":
    main()
