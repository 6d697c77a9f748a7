"""What shared arrays add to the engine's calls: programs of many small nodes, and the same calls by hand.

    python -m benchmarks.arrays
    python -m benchmarks.arrays --nodes 10000 --elements 64

All parties run in one process, so times are processor seconds of three parties together. `arrays` is a program on shared
arrays, `calls` makes one call of the engine for each node, and `joined` joins by hand what can run together. `us a node` is
what building, scheduling and cutting cost beyond `joined`.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks.parties import one_thread

one_thread()

import numpy as np  # noqa: E402  # after one_thread

from secagg import mpc, simulate  # noqa: E402
from secagg.mpc.arrays.dtypes import int64  # noqa: E402
from secagg.mpc.engines import set_up  # noqa: E402
from secagg.mpc.primitives import concatenate  # noqa: E402

NAMES = ("ada", "bob", "cleo")


def seconds(program: Any) -> tuple[float, Any]:
    """Return the processor time of a run, and its result."""
    begun = time.process_time()
    result = simulate(dict.fromkeys(NAMES, program)).values()[0]
    return time.process_time() - begun, result


def arrays(values: Any, depth: int, width: int) -> Any:
    """Return a program: in each of `width` chains, `depth` products one after the other."""

    async def program(party: Any) -> Any:
        engine = await mpc.Engine.create(party)
        x, y = (
            engine.share(values if party.me == name else None, owner=name, shape=values.shape)
            for name in NAMES[:2]
        )
        chains = [x[::-1] if i % 2 else x for i in range(width)]
        for step in range(depth):
            chains = [chain * (y if step % 2 else x) for chain in chains]
        return await mpc.stack(chains).sum().open()

    return program


def by_hand(values: Any, depth: int, width: int, *, joined: bool) -> Any:
    """Return the same program on the engine itself."""

    async def program(party: Any) -> Any:
        engine, group = await set_up(party, NAMES), int64.group
        elements = values.astype(np.uint64)
        x, y = [
            await engine.input(group, name, values.shape, elements if party.me == name else None)
            for name in NAMES[:2]
        ]
        chains = [x[::-1] if i % 2 else x for i in range(width)]
        if joined:
            chains, x, y = [concatenate(chains)], concatenate([x] * width), concatenate([y] * width)
        for step in range(depth):
            chains = [await engine.multiply(chain, y if step % 2 else x) for chain in chains]
        total = concatenate(chains).each(lambda part: part.sum(dtype=part.dtype))
        opened = await engine.open(total)
        return None if opened is None else opened.astype(np.int64)

    return program


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--elements", type=int, default=64)
    parser.add_argument("--tiny", action="store_true", help="run once on a little, to see that it runs")
    options = parser.parse_args(argv)
    if options.tiny:
        options.nodes = 9
    values = np.arange(1, options.elements + 1)
    side = max(1, int(options.nodes**0.5))
    print(
        f"{'chains x length':>16} {'arrays':>8} {'calls':>8} {'joined':>8} {'/ calls':>8} {'us a node':>10}"
    )
    for width, depth in ((1, options.nodes), (side, side), (options.nodes, 1)):
        runs = [
            seconds(program)
            for program in (
                arrays(values, depth, width),
                by_hand(values, depth, width, joined=False),
                by_hand(values, depth, width, joined=True),
            )
        ]
        if len({int(result) for _, result in runs}) != 1:
            raise SystemExit("the three programs have different results")
        ours, calls, joined = (took for took, _ in runs)
        each = (ours - joined) / (width * depth * len(NAMES)) * 1e6
        print(
            f"{f'{width} x {depth}':>16} {ours:8.2f} {calls:8.2f} {joined:8.2f} {ours / calls:8.2f} {each:10.1f}"
        )


if __name__ == "__main__":
    main()
