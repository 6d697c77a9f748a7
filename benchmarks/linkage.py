"""Records linked on shares: candidate pairs a second, and how many people with errors are found again.

    python -m benchmarks.linkage                          blocks of 32 people of each side
    python -m benchmarks.linkage --blocks 256 --block-size 16

Three parties are processes of their own over loopback TLS; two of them put in people. Lists are made up: of those at both
organisations one in three is misspelt, one in six has names exchanged, and one in ten another day of birth. Accuracy is that
of comparing everybody with everybody, and of some ways to block, in the clear: on shares it is exactly the same, which each
run checks for its own blocks.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import sys
import time
from typing import Any

from benchmarks.parties import one_thread, run_parties

one_thread()

import numpy as np  # noqa: E402  # after one_thread

from secagg.mpc import Engine  # noqa: E402
from secagg.mpc.arrays.dtypes import boolean  # noqa: E402
from secagg.party import Party  # noqa: E402
from secagg.patterns.linkage import RECORD_LINKAGE, examples  # noqa: E402
from secagg.patterns.linkage.people import lay  # noqa: E402
from secagg.statistics import linkage  # noqa: E402

NAMES = ("clinic", "registry", "office")


def tables(seed: int, common: int, alone: int) -> dict[str, Any]:
    """Return made-up people as tables are read."""
    found = {}
    for name, rows in examples.people(seed, common, alone).items():
        person, given, family, born = (
            np.array([*column, None], object)[:-1] for column in zip(*rows, strict=True)
        )
        days = np.array([(day - datetime.date(1970, 1, 1)).days for day in born], np.int64)
        found[name] = {"people": {"person": person, "given_name": given, "family_name": family, "born": days}}
    return found


async def run(party: Party, slots: Any, threshold: int) -> tuple[float, Any]:
    """Return seconds from shared slots to opened links, and the links."""
    engine = await Engine.create(party, NAMES)
    shape = slots.shape[1:]
    sides = [
        engine.share(side if party.me == owner else None, owner=owner, shape=shape, dtype=boolean)
        for side, owner in zip(slots, NAMES, strict=False)
    ]
    await engine.open_each(
        [(side[0, 0, :1], name) for side in sides for name in NAMES]
    )  # everybody has shares
    start = time.perf_counter()
    links = await linkage.link(*sides, threshold=threshold).pairs.open()
    return time.perf_counter() - start, np.argwhere(links).tolist()


def accuracy(seed: int, people: int) -> None:
    """Print recall and precision by threshold and by what makes a block."""
    lists = tables(seed, people, people)
    print(f"{people} people at both, {people} more at each; recall and precision")
    for threshold in (75, 80, 85):
        row = []
        for on in ((), ("year",), ("month",), ("names",), ("year", "names")):
            parameters = RECORD_LINKAGE.Parameters(
                blocks=64 if on else 1, block_on=on, block_size=1000, threshold_percent=threshold
            )
            found = RECORD_LINKAGE.linked(parameters, lists)
            right = sum(one[1:] == other[1:] for one, other in found)
            row.append(f"{'+'.join(on) or 'one block'} {right / people:.3f} {right / max(1, len(found)):.3f}")
        print(f"threshold {threshold}: " + "; ".join(row))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=64)
    parser.add_argument("--block-size", type=int, default=32, help="slots of each side in a block")
    parser.add_argument("--threshold", type=int, default=80)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="see that it runs")
    options = parser.parse_args(argv)
    blocks, size = (2, 4) if options.tiny else (options.blocks, options.block_size)
    accuracy(3, 5 if options.tiny else 250)
    people = blocks * size // 4
    parameters = RECORD_LINKAGE.Parameters(blocks=blocks, block_size=4 * people, block_on=("month", "names"))
    laid = [lay(parameters, own) for own in tables(1, people, people).values()]
    # Slots beyond the block's size are left out: the time does not depend on who is in them.
    sides = [[block[:size] for block in one.features] for one in laid]
    slots = np.array([[linkage.encoded(block) for block in side] for side in sides])
    expected = [list(link) for link in linkage.linked(*sides, threshold=options.threshold)]
    seconds, sent = [], 0
    for _ in range(1 if options.tiny else options.turns):
        results = run_parties(
            dict.fromkeys(NAMES, functools.partial(run, slots=slots, threshold=options.threshold))
        )
        if any(links != expected for (_, links), *_ in results.values()):
            raise SystemExit("links on shares are not those in the clear")
        seconds.append(max(one[0][0] for one in results.values()))
        sent = max(one[1]["total"]["sent"]["payload_bytes"] for one in results.values())
    pairs = blocks * size * size
    print(
        f"{blocks} blocks of {size} and {size}: {pairs:,} candidate pairs in {np.median(seconds):.2f} s, "
        f"{pairs / np.median(seconds):,.0f} a second, {sent / pairs:.0f} bytes a pair from the busiest party; "
        f"{len(expected)} links, those in the clear"
    )


if __name__ == "__main__":
    sys.exit(main())
