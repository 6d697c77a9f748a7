"""One of four parties lies: every message of every computing party, altered in every part, one at a time.

    python -m benchmarks.liar                    every primitive and both bank patterns, every alteration
    python -m benchmarks.liar --every 7 --patterns-every 211
    python -m benchmarks.liar --only shuffle zero

Each part of a message is altered by a bit, to a constant, to what the same place held in another session, by exchanged
halves, by an addend, and by leaving it out. And a liar goes on with another share of an operand than it was given, in all
that it sends and vouches for: a consistent error. Where that changes no message it changes no result, and is not counted.

Caught: an honest party's error names the liar, as one of two at most. Opened: an honest party has a result that is wrong, or
any where the lie came before the last round of an opening. In that round it shows to whom it is told alone; others may
have their right result.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from rich.progress import Progress

from benchmarks.alterations import WAYS, altered, leaves
from benchmarks.four_parties import PATTERNS, PRIMITIVES, Case, Lie, Run, honest_run, run, same
from secagg.errors import AbortedError, CheatingError, RemoteProtocolError
from secagg.mpc.four.broadcast import Echo
from secagg.mpc.four.opening import Opening, OutsideOpening

SET_UP = 9  # messages of a party before an engine is there
CASES = (*PRIMITIVES, *PATTERNS)
CONSISTENT = frozenset(case.name for case in PRIMITIVES) - {
    "input",
    "input from outside",
    "opening to some",
    "several",
}


def lies(case: Case, every: int = 1, first: int = 0) -> Iterator[tuple[Lie, Any]]:
    """Yield alterations, one in `every`, each with the message that it alters.

    Args:
      every: prime to the number of ways, so that all ways come.
      first: how many of a party's messages are left alone.
    """
    honest, another = honest_run(case), run(case, seed=2)
    count = 0
    for liar in case.computing:
        # What else the parties of a pattern tell each other is not the engine's.
        ours = [number for number, (_, message) in enumerate(honest.sent(liar)) if _is_engines(message)]
        for number in ours[first:]:
            message = honest.sent(liar)[number][1]
            other = another.sent(liar)[number][1]
            for (name, place, _), way in itertools.product(leaves(message), WAYS):
                if altered(message, name, place, way, other) is None:
                    continue
                count += 1
                if count % every == 0:
                    yield Lie(liar, number, name, place, way, other), message


def consistent_lies(case: Case) -> Iterator[Lie]:
    """Yield the consistent errors of a case: each share of each party."""
    if case.name in CONSISTENT:
        for liar, share in itertools.product(case.computing, range(4)):
            if case.computing.index(liar) != share:
                yield Lie(liar, share=share)


def verdict(case: Case, lie: Lie, message: Any, done: Run) -> tuple[bool, bool]:
    """Return whether a lie was caught, and whether something was opened that should not have been."""
    errors = {name: error for name, error in done.outcome.errors.items() if name != lie.liar}
    found = {name: error for name, error in errors.items() if not isinstance(error, AbortedError)}
    caught = bool(found) and all(
        isinstance(error, RemoteProtocolError) and lie.liar in _suspects(error) for error in found.values()
    )
    # These, and a malformed message, show to whom they were told; a share that is opened alone, too.
    to_one = isinstance(message, Opening | OutsideOpening | Echo) or lie.share is not None
    results = {name: value for name, value in done.outcome.results.items() if name != lie.liar}
    # A party that is to receive nothing opens nothing.
    had = {name: value for name, value in results.items() if case.right[name] is not None}
    wrong = any(not same(value, case.right[name]) for name, value in had.items())
    if caught and not to_one and all(isinstance(error, CheatingError) for error in found.values()):
        honest = [name for name in case.computing if name != lie.liar]
        told = {str(found.get(name, "")) for name in honest}
        caught = len(told) == 1 and "" not in told
    return caught, wrong or (bool(had) and not to_one)


def _is_engines(message: Any) -> bool:
    return type(message).__module__.startswith("secagg.mpc.four")


def _suspects(error: RemoteProtocolError) -> tuple[str, ...]:
    return error.suspects if isinstance(error, CheatingError) else (error.peer,)


def tries(case: Case, every: int) -> Iterator[tuple[Lie, Any]]:
    """Yield the lies of a case, each with the message that it alters; set-up is attacked in the first case alone."""
    yield from lies(case, every, 0 if case is PRIMITIVES[0] else SET_UP)
    yield from ((lie, None) for i, lie in enumerate(consistent_lies(case)) if i % every == 0)


def attack(
    case: Case, chosen: Sequence[tuple[Lie, Any]], advance: Callable[[], object]
) -> tuple[int, int, int]:
    """Try lies of a case; return how many were tried, caught, and opened something."""
    tried = caught = opened = 0
    for lie, message in chosen:
        done = run(case, lie)
        advance()
        if lie.share is not None and sent_alike(honest_run(case), done, lie.liar):
            continue
        found, had = verdict(case, lie, message, done)
        tried, caught, opened = tried + 1, caught + found, opened + had
        if had or not found:
            print(f"{case.name}: {lie} of {message!r:.80}: {done.outcome.errors}", file=sys.stderr)
    return tried, caught, opened


def sent_alike(honest: Run, done: Run, liar: str) -> bool:
    """Return whether a party sent the same in two runs."""

    def flat(messages: list[tuple[str, Any]]) -> list[Any]:
        return [value for _, message in messages for _, _, value in leaves(message)]

    before, after = flat(honest.sent(liar)), flat(done.sent(liar))
    return len(before) == len(after) and all(map(partial(np.array_equal), before, after))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [case.name for case in CASES]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="which cases")
    parser.add_argument("--every", type=int, default=1, help="try one alteration of so many")
    parser.add_argument("--patterns-every", type=int, default=1, help="the same for the patterns")
    parser.add_argument("--tiny", action="store_true", help="few alterations of a primitive and of a pattern")
    options = parser.parse_args(argv)
    began, sums = time.perf_counter(), np.zeros(3, np.int64)
    with Progress(transient=True) as progress:
        cases = [case for case in CASES if case.name in options.only]
        for case in [CASES[1], PATTERNS[0]] if options.tiny else cases:
            every = options.patterns_every if case in PATTERNS else options.every
            if options.tiny:
                every = 9973 if case in PATTERNS else 97
            chosen = list(tries(case, every))
            task = progress.add_task(case.name, total=len(chosen))
            counts = attack(case, chosen, partial(progress.advance, task))
            progress.remove_task(task)
            progress.console.print(
                f"{case.name:20s} caught {counts[1]:,d} of {counts[0]:,d}, opened {counts[2]:,d}"
            )
            sums += counts
    print(f"{time.perf_counter() - began:.1f} s")
    print(f"caught {sums[1]:,d} of {sums[0]:,d}, opened {sums[2]:,d}")
    return int(sums[0] != sums[1] or sums[2] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
