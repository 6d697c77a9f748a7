"""The same work by secagg and by other packages, in turns on one machine: how many times longer or more each of them takes.

    python -m benchmarks.peers                                   all peers, five turns
    python -m benchmarks.peers --only phe spu --turns 7
    python -m benchmarks.peers --python spu=SPU/bin/python       in an environment that is there
    python -m benchmarks.peers --write                           puts the tables into docs/benchmarks.md
    python -m benchmarks.peers --tiny --only phe                 little work, to see that it runs

Each peer has an environment of its own under `.peers/`, with the versions that `comparisons.py` pins; a peer that cannot be
installed or fails is left out, and the reason is told. In a turn both sides run once, each in processes of its own; the
order alternates. A ratio is the peer's time or bytes over ours in the same turn: the median over turns, and in brackets the
quartiles. Ratios below 1, where the peer is better, are bold. Times within a side are the fastest of its repetitions.

Results are written to `.peers/results.json` after each peer. With `--only`, those of other peers on this machine stay there
and in the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peers import ratios
from benchmarks.peers.comparisons import COMPARISONS, Amount, Comparison, PeerFailedError, Side
from benchmarks.peers.environments import ENVIRONMENTS, environment, version

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
BY_NAME = {comparison.name: comparison for comparison in COMPARISONS}


def our_side(comparison: Comparison, tiny: bool) -> Side:
    """Return our side, measured in a process of its own as a peer's is."""
    command = [sys.executable, "-m", "benchmarks.peers", "--ours", comparison.name, *["--tiny"] * tiny]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"our side of {comparison.name} failed:\n{done.stderr}")
    side: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {what: Amount(*values) for what, values in side.items()}


def take_turns(ours: Callable[[], Side], theirs: Callable[[], Side], turns: int) -> list[ratios.Row]:
    """Return the rows of a comparison: both sides once a turn, the one first and then the other.

    Raises:
      PeerFailedError: the peer failed, or measured other rows than we did.
    """
    taken: list[tuple[Side, Side]] = []
    for turn in range(turns):
        if turn % 2:
            there, here = theirs(), ours()
        else:
            here, there = ours(), theirs()
        if set(here) != set(there):
            raise PeerFailedError(f"expected the rows {sorted(here)}, got {sorted(there)}")
        taken.append((here, there))
        middle = sorted(there[what].amount / here[what].amount for what in here)[len(here) // 2]
        print(f"  turn {turn + 1} of {turns}: median ratio {middle:.3g}", file=sys.stderr, flush=True)
    return [
        {
            "what": what,
            "unit": taken[0][0][what].unit,
            "ours": [here[what].amount for here, _ in taken],
            "theirs": [there[what].amount for _, there in taken],
            "our_error": _largest([here[what].error for here, _ in taken]),
            "their_error": _largest([there[what].error for _, there in taken]),
        }
        for what in taken[0][0]
    ]


def _largest(errors: list[float | None]) -> float | None:
    known = [error for error in errors if error is not None]
    return max(known) if known else None


def measured(comparison: Comparison, python: str | None, turns: int, tiny: bool) -> dict[str, Any]:
    """Return a peer's results as they are written to JSON.

    Raises:
      PeerFailedError: the peer cannot be installed, or failed.
    """
    python = python or environment(comparison)
    there = version(python, comparison.package)
    print(f"{comparison.title} {there}", file=sys.stderr, flush=True)
    begun = time.monotonic()
    rows = take_turns(lambda: our_side(comparison, tiny), lambda: comparison.theirs(python, tiny), turns)
    return {
        "title": comparison.title,
        "version": there,
        "turns": turns,
        "note": comparison.note,
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "load": round(os.getloadavg()[0], 1),
        "rows": rows,
    }


def machine() -> str:
    """Return what the figures depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    model = next((text.split(":")[1].strip() for text in lines if text.startswith("model name")), "unknown")
    return f"{os.cpu_count()} cores of {model}, Python {platform.python_version()}"


def pair(text: str) -> tuple[str, str]:
    name, equals, python = text.partition("=")
    if not equals or name not in BY_NAME:
        raise argparse.ArgumentTypeError(
            f"expected NAME=PYTHON with one of {', '.join(BY_NAME)}; got {text!a}"
        )
    return name, python


def kept(path: Path) -> dict[str, Any]:
    """Return the results of an earlier run on this machine, none where there are none."""
    if not path.is_file():
        return {}
    earlier = json.loads(path.read_text(encoding="utf-8"))
    return dict(earlier["peers"]) if earlier["machine"] == machine() else {}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(BY_NAME), metavar="NAME", help=", ".join(BY_NAME))
    parser.add_argument("--turns", type=int, default=5, help="how often both sides take a turn (default 5)")
    parser.add_argument(
        "--python",
        type=pair,
        action="append",
        default=[],
        metavar="NAME=PYTHON",
        help="a Python that has a peer",
    )
    parser.add_argument("--json", type=Path, default=None, help="results (default .peers/results.json)")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    parser.add_argument("--tiny", action="store_true", help="little work and one turn, to see that it runs")
    parser.add_argument("--ours", choices=list(BY_NAME), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.ours:
        print(json.dumps(BY_NAME[options.ours].ours(options.tiny)))
        return 0
    if options.turns < 1:
        parser.error(f"--turns: expected at least 1, got {options.turns}")
    if options.tiny and options.write:
        parser.error("--write needs the real sizes: leave out --tiny")
    if options.turns < 3 and options.write:
        parser.error(f"--write needs at least 3 turns for quartiles, got {options.turns}")
    path = options.json or ENVIRONMENTS / ("tiny.json" if options.tiny else "results.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    results, left_out = (kept(path) if options.only else {}), {}
    pythons = dict(options.python)
    for name in options.only or BY_NAME:
        comparison = BY_NAME[name]
        results.pop(name, None)
        try:
            results[name] = measured(
                comparison, pythons.get(name), 1 if options.tiny else options.turns, options.tiny
            )
        except PeerFailedError as reason:
            left_out[comparison.title] = f"{reason}"
            print(f"{comparison.title} is left out: {reason}", file=sys.stderr, flush=True)
            continue
        print(ratios.section({name: results[name]}, {}) + "\n", flush=True)
        path.write_text(json.dumps({"machine": machine(), "peers": results}, indent=1), encoding="utf-8")
    ordered = {name: results[name] for name in BY_NAME if name in results}
    if options.write and ordered:
        PAGE.write_text(
            ratios.replaced(
                PAGE.read_text(encoding="utf-8"), f"{machine()}.\n\n{ratios.section(ordered, left_out)}"
            ),
            encoding="utf-8",
        )
        print(f"written to {PAGE}", file=sys.stderr)
    return 1 if left_out else 0


if __name__ == "__main__":
    sys.exit(main())
