"""One step of a logistic regression on shares, by Newton's method and by a gradient over all rows.

    python -m benchmarks.learning
    python -m benchmarks.learning --rows 10000 --columns 100

Three parties run in one process, so seconds are those of all three on one core. A step is the difference between a fit of
several steps and one of one step. `before` is the rest: inputs, joint standardisation and opening the coefficients. Rounds
and megabytes sent are of one party. `right` is the share of rows that the last fit classifies rightly.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, NamedTuple

from benchmarks.parties import one_thread

one_thread()

import numpy as np  # noqa: E402  # after one_thread

from secagg import learn, mpc, simulate  # noqa: E402

NAMES = ("ada", "bob", "cleo")


class Run(NamedTuple):
    """What a fit cost: seconds of all parties, and one party's rounds and bytes."""

    seconds: float
    rounds: int
    sent: int
    coefficients: Any


def fit(model: Any, x: Any, y: Any) -> Run:
    """Fit a model to rows of three parties."""
    parts = dict(zip(NAMES, np.array_split(np.arange(len(x)), 3), strict=True))

    async def program(party: Any) -> Any:
        engine = await mpc.Engine.create(party)
        features, labels = [], []
        for name, rows in parts.items():
            mine, shape = party.me == name, (len(rows), x.shape[1])
            features.append(learn.share_features(engine, x[rows] if mine else None, owner=name, shape=shape))
            labels.append(engine.share(y[rows] if mine else None, owner=name, shape=len(rows), dtype=bool))
        model.fit(mpc.concat(features), mpc.concat(labels))
        return await model.coef_.open()

    begun = time.process_time()
    outcome = simulate(dict.fromkeys(NAMES, program))
    seconds = time.process_time() - begun
    coefficients = outcome.values()[0]
    total = outcome.ledgers["ada"].total()
    return Run(seconds, total.rounds, total.sent.payload_bytes, coefficients)


def columns(cost: list[float]) -> str:
    seconds, rounds, sent = cost
    return f"{seconds:9.3f} {rounds:7.0f} {sent / 1e6:8.2f}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--tiny", action="store_true", help="run once on a little, to see that it runs")
    options = parser.parse_args(argv)
    if options.tiny:
        options.rows, options.columns = 24, 2
    made_up = np.random.default_rng(0)
    x = made_up.normal(size=(options.rows, options.columns))
    y = x @ made_up.normal(size=options.columns) / np.sqrt(options.columns) > made_up.normal(
        size=options.rows
    )
    print(f"{options.rows} rows, {options.columns} columns, three parties in one process")
    print(
        f"{'':>10} {'a step: s':>9} {'rounds':>7} {'MB':>8} {'before: s':>9} {'rounds':>7} {'MB':>8} {'right':>7}"
    )
    for solver, more in (("gradient", 1 if options.tiny else 20), ("newton", 1)):
        first, last = (
            fit(learn.LogisticRegression(solver=solver, max_iter=steps, batch_size=options.rows), x, y)
            for steps in (1, 1 + more)
        )
        step = [(b - a) / more for a, b in zip(first[:3], last[:3], strict=True)]
        before = [a - b for a, b in zip(first[:3], step, strict=True)]
        right = np.mean((x @ last.coefficients > 0) == y)
        print(f"{solver:>10} {columns(step)} {columns(before)} {right:7.1%}")


if __name__ == "__main__":
    main()
