"""Group-by and join in secret beside the banks' job: rows out of order, with a key and a payload of 64 bits each.

    python -m benchmarks.tables                         10k, 100k and 1M rows, three parties, over TLS
    python -m benchmarks.tables --rows 1000000 --parties 3 4
    python -m benchmarks.tables --rows 100000 --spu-python VENV/bin/python      beside SPU, which sorts as many keys
    python -m benchmarks.tables --simulate lan          all parties in one process, on a network with a virtual clock

Each party is a process of its own. The time runs from when all are connected and hold their shares until the last has shares
of every column of the result. A group-by sums and counts the payload of rows / 4 keys. A join takes as many rows of both
tables together: a fourth are of the table with unique keys, and half of the others match. The banks' job with as many rows
runs in turn with them. Results are opened afterwards and compared with numpy's.
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.parties import one_thread, run_parties

one_thread()

import numpy as np  # noqa: E402  # after one_thread

from benchmarks import fraud  # noqa: E402
from secagg import LAN, WAN, mpc, simulate  # noqa: E402
from secagg.mpc import tables  # noqa: E402
from secagg.mpc.engines import COMPUTING  # noqa: E402

NAMES = ("ada", "bob", "cleo", "dora")
ROWS = (10_000, 100_000, 1_000_000)
OPERATORS = ("group_by", "join")
GOAL = 4  # times the banks' job, at a million rows


class Run(NamedTuple):
    """What one party measured: machine clock, processor seconds, bytes and rounds."""

    begun: float
    ended: float
    busy: float
    payload_bytes: int
    rounds: int


def made_up(rows: int) -> tuple[Any, Any]:
    """Return keys of which each occurs some four times, spread over 64 bits, and payloads."""
    rng = np.random.default_rng(rows)
    few = np.unique(rng.integers(-(1 << 63), 1 << 63, max(1, rows // 4), np.int64))
    return rng.choice(few, rows), rng.integers(-(1 << 40), 1 << 40, rows, np.int64)


def sides(rows: int) -> tuple[Any, Any, Any, Any]:
    """Return keys and payloads of a table to join, and of one whose keys are unique; half of the first match."""
    rng = np.random.default_rng(rows)
    right = rows // 4
    keys = rng.permutation(np.unique(rng.integers(-(1 << 63), 1 << 63, 3 * right, np.int64)))
    payload = rng.integers(-(1 << 40), 1 << 40, rows, np.int64)
    return rng.choice(keys[: 2 * right], rows - right), payload[right:], keys[:right], payload[:right]


def expected_of(operator: str, rows: int) -> list[tuple[int, ...]]:
    """Return the rows of the result, sorted."""
    if operator == "group_by":
        keys, payload = made_up(rows)
        found, which, counts = np.unique(keys, return_inverse=True, return_counts=True)
        sums = np.zeros(len(found), np.int64)
        np.add.at(sums, which, payload)
        return sorted(zip(found.tolist(), sums.tolist(), counts.tolist(), strict=True))
    left, payload, right, other = sides(rows)
    by_key = dict(zip(right.tolist(), other.tolist(), strict=True))
    joined = zip(left.tolist(), payload.tolist(), strict=True)
    return sorted((key, value, by_key[key]) for key, value in joined if key in by_key)


async def party_program(
    party: Any, *, operator: str, rows: int, parties: int, repeat: int
) -> tuple[list[Run], bool]:
    """Run an operator several times; return what was measured, and whether the last result is right."""
    computing = NAMES[:parties]
    engine = await mpc.Engine.create(party, computing)

    def shared(keys: Any, payload: Any, name: str) -> tables.Table:
        mine = party.me == computing[0]
        given = {"key": keys, name: payload}
        columns = {
            column: engine.share(values if mine else None, owner=computing[0], shape=len(keys))
            for column, values in given.items()
        }
        table = {column: tables.Column(values) for column, values in columns.items()}
        return tables.Table(table, engine.public(np.ones(len(keys), bool)))

    if operator == "group_by":
        inputs = [shared(*made_up(rows), "amount")]
    else:
        left, payload, right, other = sides(rows)
        inputs = [shared(left, payload, "amount"), shared(right, other, "other")]
    runs = []
    for _ in range(repeat):
        await engine.open(*(t["key"].values[0] for t in inputs))
        sent, depth = party.ledger.total().sent.payload_bytes, party.ledger.depth
        begun, busy = time.monotonic(), time.process_time()
        if operator == "group_by":
            result = tables.group_by(inputs[0], ["key"], {"sum": ("sum", "amount"), "n": ("count", None)})
            broken = None
        else:
            result, broken = tables.join(inputs[0], inputs[1], [("key", "key")])
        # One element of each column: so all are worked out, and hardly anything is opened.
        ends = [column.values[0] for column in result.columns.values()]
        await engine.open(result.valid[0], *ends, *([] if broken is None else [broken]))
        ended, busy = time.monotonic(), time.process_time() - busy
        sent = party.ledger.total().sent.payload_bytes - sent
        runs.append(Run(begun, ended, busy, sent, party.ledger.depth - depth))
    opened = await tables.open_table(result, to=computing[0])
    if party.me != computing[0]:
        return runs, True
    found = sorted(zip(*(values.tolist() for values in opened.values()), strict=True))
    return runs, found == expected_of(operator, rows)


def measure(
    operator: str, rows: int, parties: int, options: argparse.Namespace, bank_s: float | None
) -> None:
    program = functools.partial(
        party_program, operator=operator, rows=rows, parties=parties, repeat=options.repeat
    )
    programs = dict.fromkeys(NAMES[:parties], program)
    if options.simulate:
        outcome = simulate(programs, network={"lan": LAN, "wan": WAN}[options.simulate])
        results, peak = outcome.values(), 0
    else:
        processes = run_parties(programs, tls=not options.plain)
        results = [result[0] for result in processes.values()]
        peak = max(result[3] for result in processes.values())
    if not all(is_right for _, is_right in results):
        raise SystemExit(f"{operator} of {rows} rows differs from numpy's")
    by_party = [runs for runs, _ in results]
    walls = [
        max(runs[i].ended for runs in by_party) - max(runs[i].begun for runs in by_party)
        for i in range(options.repeat)
    ]
    best = [min(runs, key=lambda run: run.ended - run.begun) for runs in by_party]
    ratio = "" if bank_s is None else f"; {min(walls) / bank_s:.2f} times the banks' job"
    print(
        f"{rows:9,d} rows, {operator}, {parties} parties: {min(walls):.3f} s, {min(walls) * 1e6 / rows:.2f} us a row "
        f"({min(walls) * 1e9 / (rows * np.log2(rows)):,.0f} ns / (n log2 n)){ratio}\n"
        f"          {max(run.payload_bytes for run in best) / 1e6:.1f} MB sent a party, "
        f"{max(run.rounds for run in best)} rounds, {max(run.busy for run in best):.3f} processor seconds"
        + (f" a process, peak {peak / 1e6:.0f} MB" if peak else ""),
        flush=True,
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--operators", nargs="+", default=list(OPERATORS), choices=OPERATORS)
    parser.add_argument("--parties", type=int, nargs="+", default=[3], choices=COMPUTING, help="3, 4 or both")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="without TLS, to see what it costs")
    parser.add_argument(
        "--simulate", choices=["lan", "wan"], help="in one process, on a network with a virtual clock"
    )
    parser.add_argument(
        "--spu-python", help="a Python that has SPU: sorts as many keys there; see benchmarks/peers"
    )
    parser.add_argument("--without-banks", action="store_true", help="do not run the banks' job")
    parser.add_argument("--tiny", action="store_true", help="once, on a few rows")
    options = parser.parse_args(argv)
    if options.tiny:
        options.rows, options.repeat, options.simulate = [200], 1, "lan"
    for rows in options.rows:
        for parties in options.parties:
            bank_s = None
            if not (options.without_banks or options.simulate):
                bank_s = fraud.measure(
                    3, rows, computing=parties, tls=not options.plain, repeat=options.repeat
                )
            for operator in options.operators:
                measure(operator, rows, parties, options, bank_s)
        if options.spu_python:
            script = Path(__file__).parent / "peers" / "spu_ops.py"
            command = [options.spu_python, str(script), "--ops", f"sort:{rows}"]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"goal at 1M rows: {GOAL} times the banks' job")


if __name__ == "__main__":
    main()
