"""Patterns for banks at 100,000 rows an organisation, beside the bank job in the same run.

    python -m benchmarks.pattern_speed                         every pattern at 30k and 100k rows an organisation
    python -m benchmarks.pattern_speed --only velocity trace --rows 10000 30000
    python -m benchmarks.pattern_speed --computing 3 4 --only collectors velocity pass_through --rows 100000
    python -m benchmarks.pattern_speed --only risk_propagation --rows 66667          200,000 transfers, two steps

Every party is a process of its own; they talk over TLS. Four banks put in rows for `peer_benchmark`, three for all others.
The time runs from when the first party has its own rows as the pattern prepares them until the last knows its result.
A row is a row of a bank's table, such as a transfer that it puts in. A bank has a tenth as many accounts as rows; of
`peer_benchmark`, each row is a figure. Results are random payments, of which few or none meet the thresholds: time does not
depend on that.

`x bank job` is the time a row, divided by that of the bank job (`benchmarks.fraud`) on as many rows in the same run. On a
machine that others use as well, processor seconds (of the party that spends most) compare better than time. Growth is the
exponent between the smallest and the largest number of rows; n log n has 1.1 there.
"""

from __future__ import annotations

import argparse
import functools
import math
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from benchmarks.parties import one_thread, run_parties

one_thread()

import numpy as np  # noqa: E402  # after one_thread

from benchmarks.fraud import bank, make_query  # noqa: E402
from secagg.patterns.counts import Categorical  # noqa: E402
from secagg.patterns.pattern import Terms  # noqa: E402
from secagg.patterns.registry import find  # noqa: E402

ROWS: Final = (30_000, 100_000)
_DAY: Final = 86_400

Tables = dict[str, dict[str, Any]]


def names_of(prefix: str, numbers: Any) -> Categorical:
    """Return identifiers as tables are read."""
    found, codes = np.unique(numbers, return_inverse=True)
    categories = np.empty(len(found), object)
    categories[:] = [f"{prefix}{n}" for n in found.tolist()]
    return Categorical(categories, codes.astype(np.int64))


def transfers(rng: Any, place: int, rows: int, banks: int, *, inward: bool = False) -> tuple[Tables, int]:
    """Return one bank's payments, and its number of accounts; of 1,000 accounts the last three digits name the bank."""
    accounts = max(4, rows // 10)
    own = rng.integers(0, accounts, rows) * 1000 + place
    others = rng.integers(0, accounts, rows) * 1000 + rng.integers(0, banks, rows)
    sides = (others, own) if inward else (own, others)
    table = {
        "sender": names_of("a", sides[0]),
        "beneficiary": names_of("a", sides[1]),
        "amount": np.exp(rng.normal(8, 1.5, rows)).astype(np.int64) + 1,
        "time": rng.uniform(0, 90 * _DAY, rows).round(3),
    }
    return {"transfers": table}, accounts


def made(pattern: str, place: int, rows: int, banks: int) -> Tables:
    """Return one bank's tables."""
    rng = np.random.default_rng([rows, place])
    if pattern == "structuring":
        table = {
            "customer": names_of("c", rng.integers(0, rows * 2, rows)),
            "amount": rng.integers(1, 900_000, rows),
        }
        return {"deposits": {**table, "time": rng.uniform(0, 90 * _DAY, rows)}}
    if pattern == "watchlist_overlap":
        return {"watchlist": {"entry": names_of("e", rng.choice(rows * 3, rows, replace=False))}}
    if pattern == "velocity":
        which = names_of("i", rng.integers(0, rows, rows))
        return {"uses": {"instrument": which, "time": rng.uniform(0, 90 * _DAY, rows).round(3)}}
    if pattern == "payment_mismatch":
        half = rows // 2
        sent, received = (names_of("r", np.arange(half) + half * p) for p in (place, (place + 1) % banks))
        return {
            side: {"reference": which, "amount": np.full(half, 100) + (np.arange(half) % 1000 == place)}
            for side, which in (("sent", sent), ("received", received))
        }
    if pattern == "intersection_sum":
        which = names_of("c", rng.choice(rows * 2, rows, replace=False))
        return {"customers": {"customer": which, "amount": rng.integers(0, 10**6, rows)}}
    if pattern == "joint_scoring":
        which = names_of("c", rng.choice(rows * 2, rows, replace=False))
        feature = names_of("f", np.full(rows, place))
        return {"features": {"customer": which, "feature": feature, "value": rng.integers(0, 9, rows)}}
    if pattern == "peer_benchmark":
        return {"figures": {"figure": names_of("f", np.arange(rows)), "value": rng.integers(0, 10**9, rows)}}
    tables, accounts = transfers(
        rng, place, rows, banks, inward=pattern in ("dispersers", "risk_propagation")
    )
    listed = names_of("a", np.arange(accounts) * 1000 + place)
    if pattern == "risk_propagation":
        del tables["transfers"]["time"]
        return tables | {"accounts": {"account": listed, "score": rng.integers(0, 10**10, accounts)}}
    if "accounts" in find(pattern).pattern.inputs:
        tables["accounts"] = {"account": listed}
    if pattern == "trace":
        tables["seeds"] = {"account": names_of("a", np.arange(20) * 1000 + place)}
    return tables


PARAMETERS: Final[dict[str, Callable[[int], dict[str, Any]]]] = {
    "collectors": lambda _: {"min_senders": 6},
    "joint_scoring": lambda _: {"weights": {f"f{i}": 10 + i for i in range(4)}},
    # The least amount keeps some 0.13 of the payments: the large ones.
    "cycles": lambda rows: {"min_amount_cents": 16_000, "max_paths": max(100, rows), "max_transfers": 8},
    "risk_propagation": lambda _: {"steps": 2},
}
PATTERNS: Final = (
    "collectors", "dispersers", "gather_scatter", "structuring", "watchlist_overlap", "velocity", "payment_mismatch",
    "intersection_sum", "joint_scoring", "peer_benchmark", "pass_through", "trace", "risk_propagation", "scatter_gather",
    "isolated", "cycles",
)  # fmt: skip


def terms_of(pattern: str, computing: int) -> Terms:
    """Return who takes part."""
    banks = tuple(f"bank_{i}" for i in range(4 if pattern == "peer_benchmark" else 3))
    parties = (*banks, "helper")
    roles = {"input": banks, "computing": parties[:computing]}
    return Terms(tuple(dict.fromkeys((*banks, *roles["computing"]))), roles)


async def take_part(party: Any, *, pattern: str, computing: int, rows: int) -> tuple[float, float, float]:
    """Return begin, end (machine clock) and processor seconds."""
    found, terms = find(pattern).pattern, terms_of(pattern, computing)
    parameters = found.Parameters(**PARAMETERS.get(pattern, lambda _: {})(rows))
    contribution = None
    if party.me in terms.input_parties:
        place = terms.input_parties.index(party.me)
        own = made(pattern, place, rows, len(terms.input_parties))
        contribution = found.prepare(parameters, terms, own)
    begun, busy = time.monotonic(), time.process_time()
    agreed = await found.agree(party, parameters, terms, contribution)
    await found.run(party, parameters, terms, agreed)
    return begun, time.monotonic(), time.process_time() - busy


class Spent(NamedTuple):
    """Seconds of a run, and processor seconds of the party that spent most."""

    wall: float
    cpu: float


def measure(pattern: str, computing: int, rows: int) -> tuple[Spent, Any]:
    """Return what a run took, and what each party returned."""
    program = functools.partial(take_part, pattern=pattern, computing=computing, rows=rows)
    results = run_parties(dict.fromkeys(terms_of(pattern, computing).parties, program))
    spans = [result[0] for result in results.values()]
    # A run begins when the last party does: making tables is not part of it.
    wall = max(end for _, end, _ in spans) - max(begin for begin, _, _ in spans)
    return Spent(wall, max(cpu for _, _, cpu in spans)), results


def bank_job(rows: int, computing: int) -> Spent:
    """Return what the bank job takes on so many rows of all banks."""
    query = make_query(3, computing)
    parties = dict.fromkeys((*query.input_parties, *query.computing_parties))
    program = functools.partial(bank, banks=3, computing=computing, rows=rows, seed=rows, repeat=1)
    runs = [result[0][0] for result in run_parties(dict.fromkeys(parties, program)).values()]
    return Spent(max(run[1] for run in runs) - max(run[0] for run in runs), max(run[4] for run in runs))


def main(argv: list[str] | None = None) -> int:
    """Print times."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS), help="rows of each bank")
    parser.add_argument("--only", nargs="+", choices=PATTERNS, default=list(PATTERNS))
    parser.add_argument("--computing", type=int, nargs="+", default=[3], choices=(3, 4))
    parser.add_argument("--tiny", action="store_true", help="two patterns on a few rows")
    options = parser.parse_args(argv)
    if options.tiny:
        options.rows, options.only = [60], ["velocity"]
    least, most = min(options.rows), max(options.rows)
    jobs = {(n, c): bank_job(3 * n, c) for n in options.rows for c in options.computing}
    for (n, c), (seconds, cpu) in jobs.items():
        print(
            f"bank job, {3 * n:9,d} rows, {c} computing: {seconds:7.2f} s, {1e6 * seconds / (3 * n):6.2f} us a row, "
            f"{cpu:.2f} processor seconds"
        )
    print(
        f"{'pattern':18s} {'rows a bank':>11s} computing {'time':>9s} {'a row':>10s} {'x bank job':>11s} "
        f"{'processor':>10s} {'x bank job':>11s} {'MB a party':>10s} {'peak MB':>8s}"
    )
    for pattern in options.only:
        spent: dict[tuple[int, int], Spent] = {}
        for computing in options.computing:
            for n in options.rows:
                banks = len(terms_of(pattern, computing).input_parties)
                (seconds, cpu), results = measure(pattern, computing, n)
                spent[n, computing] = Spent(seconds, cpu)
                sent = max(result[1]["total"]["sent"]["frame_bytes"] for result in results.values())
                peak = max(result[3] for result in results.values())
                a_row = seconds / (banks * n)
                ratio = a_row / (jobs[n, computing].wall / (3 * n))
                print(
                    f"{pattern:18s} {n:11,d} {computing:9d} {seconds:7.2f} s {1e6 * a_row:7.2f} us {ratio:11.1f} "
                    f"{cpu:8.2f} s {cpu / banks / (jobs[n, computing].cpu / 3):11.1f} {sent / 1e6:10.0f} {peak / 1e6:8.0f}",
                    flush=True,
                )
            if least < most:
                first, last = spent[least, computing], spent[most, computing]
                wall, cpu = (
                    math.log(b / a) / math.log(most / least) for a, b in zip(first, last, strict=True)
                )
                print(
                    f"{'':18s} grows with the power {wall:.2f} of the rows (processor: {cpu:.2f})", flush=True
                )
        if len(options.computing) == 2:
            three, four = spent[most, 3], spent[most, 4]
            wall, cpu = four.wall / three.wall, four.cpu / three.cpu
            print(
                f"{'':18s} four parties take {wall:.1f} times three parties' time (processor: {cpu:.1f})",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    main()
