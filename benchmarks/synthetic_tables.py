"""Synthetic tables from marginals that were measured jointly, beside those of a trusted curator at the same epsilon.

    python -m benchmarks.synthetic_tables
    python -m benchmarks.synthetic_tables --epsilons 0.1 1 --turns 30

The rows are those of the German Breast Cancer Study Group (`lifelines.datasets.load_gbsg2`), cut into classes. The workload
is all pairs of variables; of those with age only one is measured. Error is the mean total variation between the pairs of
the synthetic table and those of the pooled rows. The curator adds discrete Gaussian noise to the pooled counts by
`secagg.dp`. Jointly, noise is drawn on shares by three parties, once for each epsilon, and otherwise by its plaintext twin.
Both fit the same model by `mbi`.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import secrets
import sys
import time
from typing import Any

import numpy as np

from benchmarks.parties import run_parties
from secagg import dp
from secagg.dp.synthesis import synthesize
from secagg.mpc import Engine
from secagg.mpc.arrays.dtypes import boolean
from secagg.party import Party
from secagg.prg import Stream
from secagg.statistics import noise

NAMES = ("elm", "fir", "oak")
DELTA = 1e-6


def rows(tiny: bool) -> tuple[dict[str, list[str]], dict[str, np.ndarray]]:
    """Return the variables with their values, and each row's places."""
    from lifelines.datasets import load_gbsg2

    table = load_gbsg2()
    cut = {
        "age": np.digitize(table["age"], [45, 55, 65]),
        "menostat": (table["menostat"] == "Post").to_numpy().astype(int),
        "horTh": (table["horTh"] == "yes").to_numpy().astype(int),
        "tgrade": table["tgrade"].map({"I": 0, "II": 1, "III": 2}).to_numpy(),
        "pnodes": np.digitize(table["pnodes"], [2, 4, 10]),
        "cens": table["cens"].to_numpy(),
    }
    names = list(cut)[1:4] if tiny else list(cut)
    axes = {name: [str(i) for i in range(int(cut[name].max()) + 1)] for name in names}
    return axes, {name: np.asarray(cut[name], np.int64) for name in names}


def counted(axes: dict[str, list[str]], places: dict[str, Any], names: tuple[str, ...]) -> np.ndarray:
    found = np.zeros([len(axes[name]) for name in names])
    np.add.at(found, tuple(places[name] for name in names), 1)
    return found


async def run(party: Party, cells: int, table: noise.GaussianTable) -> tuple[float, Any]:
    """Return seconds to draw noise on shares, and what it is, opened here for comparison alone."""
    engine = await Engine.create(party, NAMES)
    own = noise.coins(cells, Stream(secrets.token_bytes(32))).reshape(cells, noise.WORD_BITS)
    parts = [
        engine.share(own if party.me == name else None, owner=name, shape=own.shape, dtype=boolean)
        for name in NAMES
    ]
    start = time.perf_counter()
    words = functools.reduce(lambda one, other: one ^ other, parts)
    values = await noise.gaussian(words, table).open()
    return time.perf_counter() - start, values


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epsilons", type=float, nargs="+", default=[0.5, 1.0, 3.0])
    parser.add_argument("--turns", type=int, default=20, help="tables of each kind for each epsilon")
    parser.add_argument("--tiny", action="store_true", help="see that it runs")
    options = parser.parse_args(argv)
    axes, places = rows(options.tiny)
    n = len(next(iter(places.values())))
    pairs = list(itertools.combinations(axes, 2))
    measured = [pair for pair in pairs if "age" not in pair or "menostat" in pair]
    exact = {pair: counted(axes, places, pair) for pair in pairs}
    cells = sum(exact[pair].size for pair in measured)
    print(
        f"{n} rows, {len(axes)} variables, {len(measured)} of {len(pairs)} pairs measured, {cells} counts, delta {DELTA:g}"
    )
    for epsilon in [3.0] if options.tiny else options.epsilons:
        apart = dp.Sensitivity(len(measured), math.nextafter(math.sqrt(len(measured)), math.inf), cells)
        budget = dp.Budget(epsilon, DELTA, 1, "add-remove")
        kept = dp.calibrate(budget, dp.Cohort(), apart, kind="discrete gaussian")
        table, curator = noise.GaussianTable.of(kept.variance), kept.sampler()
        results = run_parties(dict.fromkeys(NAMES, functools.partial(run, cells=cells, table=table)))
        seconds = max(one[0][0] for one in results.values())
        errors: dict[str, list[float]] = {"joint": [], "pooled": []}
        for turn in range(1 if options.tiny else options.turns):
            coins = [noise.coins(cells, Stream(secrets.token_bytes(32))).reshape(cells, -1) for _ in NAMES]
            words = noise.words(coins[0] ^ coins[1] ^ coins[2])
            joint = results["elm"][0][1] if turn == 0 else table.count(words)
            for kind, drawn in (("joint", joint), ("pooled", curator.draw(cells))):
                iterations = 10 if options.tiny else 500
                errors[kind].append(
                    _error(axes, exact, measured, drawn, math.sqrt(kept.variance), n, iterations)
                )
        means = {kind: float(np.mean(found)) for kind, found in errors.items()}
        print(
            f"epsilon {epsilon:g}: noise of standard deviation {math.sqrt(kept.variance):.2f}, {seconds:.2f} s on shares; "
            f"error {means['joint']:.4f} jointly, {means['pooled']:.4f} by a curator, "
            f"ratio {means['joint'] / means['pooled']:.3f}"
        )


def _error(
    axes: dict[str, list[str]],
    exact: dict[Any, Any],
    measured: list[Any],
    drawn: Any,
    std: float,
    n: int,
    iterations: int,
) -> float:
    place, noisy = 0, {}
    for pair in measured:
        size = exact[pair].size
        noisy[pair] = exact[pair] + np.reshape(drawn[place : place + size], exact[pair].shape)
        place += size
    made = synthesize(axes, noisy, noise_std=std, rows=n, iterations=iterations)
    found = {name: np.array([int(value) for value in column], np.int64) for name, column in made.items()}
    return float(np.mean([abs(counted(axes, found, p) - exact[p]).sum() / (2 * n) for p in exact]))


if __name__ == "__main__":
    sys.exit(main())
