"""Operations on shared arrays beside SPU, CrypTen and MPyC in one run: how many times longer each of them takes.

    python -m benchmarks.beside                                     ours alone: three parties, and four of which one may lie
    python -m benchmarks.beside --spu-python SPU/bin/python --crypten-python CRYPTEN/bin/python --mpyc-python MPYC/bin/python
    python -m benchmarks.beside --sizes 64 --ops mul div --turns 5

Each party is a process of its own, ours over loopback TLS, the peers' over plain loopback as they come. Everybody runs
all operations on the same values in turns. A time is the fastest repetition of a turn: from when all parties hold shares
of the operands until the slowest holds those of the result. Ours includes a round in which nothing is opened. A ratio is
a peer's time over that of our three parties in the same turn: the median over turns, and in brackets the lowest and
highest. Ratios below 1, where the peer is faster, are bold.

`to numbers` converts the bits of a comparison, as the comparisons of CrypTen and MPyC do. SPU's default exponential is
far from exact, so its more exact one (Padé) has a row as well. The limit is the time in which
the bytes that our three parties send pass through one TLS connection over loopback. Largest errors are in units in the
last place (ulp), 2**-16. Ours end the run where they exceed what docs/operations.md allows.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.parties import one_thread, run_parties

one_thread()

import numpy as np  # noqa: E402  # after one_thread

from benchmarks import network  # noqa: E402
from benchmarks.peers.operands import EXACT, FRAC_BITS, largest_error, operands  # noqa: E402
from secagg import mpc  # noqa: E402
from secagg.network.identity import create_identity  # noqa: E402

NAMES: Final = ("ada", "bob", "cleo", "dora")
SIZES: Final = (64, 10_000, 1_000_000)
PEERS: Final = Path(__file__).parent / "peers"

RUNS: Final[dict[str, Any]] = {
    "mul": lambda x, y: x * y,
    "cmp": lambda x: x > 0,
    "flag": lambda x: (x > 0).astype(int),
    "mm": lambda x, y: x @ y,
    "div": lambda x, y: x / y,
    "exp": mpc.exp,
    "pade": mpc.exp,
    "sort": lambda x: x.sort(),
}
TITLES: Final = {
    "mul": "x * y",
    "cmp": "x > 0",
    "flag": "x > 0, to numbers",
    "mm": "x @ y",
    "div": "x / y",
    "exp": "exp(x)",
    "pade": "exp(x), SPU by Padé",
    "sort": "sort",
}


class Competitor(NamedTuple):
    """A package that runs the same operations.

    Attributes:
      most: by operation that it has, the most elements that it is asked for; more would take minutes.
    """

    title: str
    script: str
    option: str
    most: dict[str, int]


COMPETITORS: Final = (
    Competitor(
        "SPU",
        "spu_ops.py",
        "spu",
        dict.fromkeys(("mul", "cmp", "flag", "mm", "div", "exp", "pade"), 1_000_000) | {"sort": 10_000},
    ),
    Competitor(
        "CrypTen", "crypten_ops.py", "crypten", dict.fromkeys(("mul", "flag", "mm", "div", "exp"), 1_000_000)
    ),
    Competitor(
        "MPyC", "mpyc_ops.py", "mpyc", {"mul": 10_000, "flag": 10_000, "mm": 64, "div": 64, "sort": 64}
    ),
)


class Measured(NamedTuple):
    """An operation's fastest time in a turn, its largest error, and what all parties together sent."""

    seconds: float
    error: float
    payload_bytes: float = 0


def allowed_error(op: str, n: int) -> float:
    """Return the error that docs/operations.md allows, rounded up: none, or 2 ulp and 2**-19 of the result."""
    if op in ("cmp", "flag", "sort"):
        return 0
    return 2 * 2**-FRAC_BITS + 2**-19 * float(abs(EXACT[op](*operands(op, n))).max())


async def party_program(
    party: Any, *, jobs: list[tuple[str, int]], parties: int, repeats: int
) -> list[tuple[list[float], float, int]]:
    """Return, for each job: the seconds of each repetition, the largest error, and bytes sent a repetition."""
    engine = await mpc.Engine.create(party, NAMES[:parties])
    fence = engine.public(np.zeros(1, np.int64))
    measured = []
    for op, n in jobs:
        given = [
            engine.share(
                values if party.me == owner else None,
                owner=owner,
                shape=values.shape,
                dtype=mpc.fixed(FRAC_BITS),
            )
            for owner, values in zip(NAMES, operands(op, n), strict=False)
        ]
        await engine.open(*(x.reshape(-1)[:0] for x in given))  # the inputs are shared, and nothing is opened
        seconds, sent = [], party.ledger.total().sent.payload_bytes
        for _ in range(repeats):
            for _ in range(2):  # the second ends at all parties nearly at once
                await engine.open(fence)
            begun = time.perf_counter()
            result = RUNS[op](*given)
            await engine.open(result.reshape(-1)[:0])
            seconds.append(time.perf_counter() - begun)
        sent = (party.ledger.total().sent.payload_bytes - sent) // repeats
        (opened,) = await engine.open(result)
        error = largest_error(op, n, opened)
        if error > allowed_error(op, n):
            raise SystemExit(f"{op} of {n} is wrong by {error}")
        measured.append((seconds, error, sent))
    return measured


def our_turn(jobs: list[tuple[str, int]], parties: int, repeats: int) -> dict[str, Measured]:
    program = functools.partial(party_program, jobs=jobs, parties=parties, repeats=repeats)
    results = [result[0] for result in run_parties(dict.fromkeys(NAMES[:parties], program)).values()]
    turn = {}
    for (op, _), each in zip(jobs, zip(*results, strict=True), strict=True):
        seconds = min(max(step) for step in zip(*(one[0] for one in each), strict=True))
        turn[op] = Measured(seconds, max(one[1] for one in each), sum(one[2] for one in each))
    return turn


def peer_turn(
    competitor: Competitor, python: str, jobs: list[tuple[str, int]], repeats: int
) -> dict[str, Measured]:
    """Return what a peer's script measured."""
    if not jobs:
        return {}
    items = [f"{op}:{n}" for op, n in jobs]
    command = [python, str(PEERS / competitor.script), "--repeats", str(repeats), "--ops", *items]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{competitor.title} in {python} failed: {done.stderr[-2000:]!a}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["op"]: Measured(min(line["seconds"]), line["error"]) for line in lines}


def loopback_speed(tiny: bool) -> float:
    """Return bytes a second through one TLS connection between two processes."""
    sizes = {"messages": 2, "nbytes": 100_000} if tiny else {"messages": 64, "nbytes": 8_000_000}
    with tempfile.TemporaryDirectory() as folder:
        for name in network.NAMES:
            create_identity(name).save(Path(folder))
        measured = network.measure(Path(folder), kind="ssl sockets", keep_memory=True, trips=5, **sizes)
    return measured["bytes_per_s"]


def figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def milliseconds(turns: Iterable[Measured]) -> str:
    return figure(float(np.median([turn.seconds for turn in turns])) * 1e3)


def ratio(theirs: list[Measured], ours: list[Measured]) -> str:
    """Return the median and range over turns of their time over ours; bold below 1."""
    ratios = np.array([a.seconds / b.seconds for a, b in zip(theirs, ours, strict=True)])
    middle, low, high = (
        f"**{value:.3g}**" if value < 1 else figure(value)
        for value in (np.median(ratios), ratios.min(), ratios.max())
    )
    return middle if len(ratios) == 1 else f"{middle} ({low} to {high})"


def measure(n: int, pythons: list[tuple[Competitor, str]], options: argparse.Namespace) -> None:
    """Print the rows of the table for one size."""
    side = round(n**0.5)
    jobs = [(op, side if op == "mm" else n) for op in options.ops]
    columns: dict[str, list[dict[str, Measured]]] = {}
    speeds = []

    def keep(title: str, turn: dict[str, Measured]) -> None:
        columns.setdefault(title, []).append(turn)
        seconds = " ".join(f"{op} {measured.seconds:.6f}" for op, measured in turn.items())
        print(f"{n:,}, {title}, seconds: {seconds}", file=sys.stderr, flush=True)  # a run takes minutes

    for _ in range(options.turns):
        speeds.append(loopback_speed(options.tiny))
        for parties in (3, 4):
            keep(f"{parties} parties", our_turn(jobs, parties, options.repeats))
        for competitor, python in pythons:
            feasible = [(op, size) for op, size in jobs if n <= competitor.most.get(op, 0)]
            keep(competitor.title, peer_turn(competitor, python, feasible, options.repeats))
    for op in options.ops:
        three, four = ([turn[op] for turn in columns[f"{parties} parties"]] for parties in (3, 4))
        limit = three[0].payload_bytes / float(np.median(speeds)) * 1e3
        cells = [f"{milliseconds(three)}", f"{limit:.2g}", f"{milliseconds(four)}", ratio(four, three)]
        errors = [max(turn.error for turn in three)]
        for competitor, _ in pythons:
            turns = columns[competitor.title]
            if op not in turns[0]:
                cells += ["", ""]
                continue
            theirs = [turn[op] for turn in turns]
            cells += [milliseconds(theirs), ratio(theirs, three)]
            errors.append(max(turn.error for turn in theirs))
        scaled = " / ".join(figure(error * 2**FRAC_BITS) for error in errors)
        title = f"{TITLES[op]}, {side} x {side}" if op == "mm" else f"{TITLES[op]}, {n:,}"
        print(f"| {title} | {' | '.join(cells)} | {scaled} |", flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=list(SIZES), help="elements; a matrix is square"
    )
    parser.add_argument("--ops", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--turns", type=int, default=3, help="how often everybody takes a turn")
    parser.add_argument("--repeats", type=int, default=2, help="of an operation in a turn")
    for competitor in COMPETITORS:
        parser.add_argument(f"--{competitor.option}-python", help=f"a Python that has {competitor.title}")
    parser.add_argument("--tiny", action="store_true", help="ours alone, once, on a few elements")
    options = parser.parse_args(argv)
    if options.tiny:
        options.sizes, options.turns, options.repeats = [16], 1, 1
    pythons = []
    for competitor in COMPETITORS:
        python = getattr(options, f"{competitor.option}_python")
        if python and not options.tiny:
            pythons.append((competitor, python))
        else:
            print(
                f"{competitor.title} is left out. benchmarks/peers/{competitor.script} says how to install it; then pass "
                f"--{competitor.option}-python."
            )
    heads = ["", "3 parties, ms", "limit, ms", "4 parties, ms", "4 / 3"]
    for competitor, _ in pythons:
        heads += [f"{competitor.title}, ms", f"{competitor.title} / ours"]
    heads.append("largest errors, ulp" + "".join(f" / {competitor.title}" for competitor, _ in pythons))
    print(f"\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|", flush=True)
    for n in options.sizes:
        measure(n, pythons, options)


if __name__ == "__main__":
    main()
