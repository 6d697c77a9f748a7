"""One step of a logistic regression on shares, by Newton's method and by a gradient over all rows.

    python -m benchmarks.learning
    python -m benchmarks.learning --rows 10000 --columns 100
    python -m benchmarks.learning --digits 10                       accuracy on digits beside scikit-learn's, after 10 passes
    python -m benchmarks.learning --crypten-python PYTHON           a gradient step beside CrypTen's, in turns

Three parties run in one process, so seconds are those of all three on one core. A step is the difference between a fit of
several steps and one of one step. `before` is the rest: inputs, joint standardisation and opening the coefficients. Rounds
and megabytes sent are of one party. `right` is the share of rows that the last fit classifies rightly.

Beside CrypTen each party is a process of its own, ours over loopback TLS, CrypTen's over plain loopback. A step of ours is
the difference between a fit of 21 steps and one of one step, over 20. CrypTen's is the tenth part of ten steps after
its inputs are shared. A ratio is CrypTen's time over ours in the same turn.
Processor seconds are those of all three processes, and say more than seconds where other work runs meanwhile.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.parties import one_thread, run_parties

one_thread()

import numpy as np  # noqa: E402  # after one_thread

from secagg import learn, mpc, simulate  # noqa: E402

NAMES = ("ada", "bob", "cleo")
STEPS, CRYPTEN_STEPS = 20, 10  # that are timed beside CrypTen


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


def digits(passes: int) -> None:
    """Print which share of digits kept aside is recognised, by scikit-learn and by a model of three parties' rows."""
    from sklearn import datasets, linear_model  # takes two seconds, in each process of a party as well

    x, y = datasets.load_digits(return_X_y=True)
    aside = np.arange(len(y)) % 4 == 0
    theirs = linear_model.LogisticRegression(max_iter=5000).fit(x[~aside], y[~aside])
    model = learn.LogisticRegression(solver="gradient", max_iter=passes, batch_size=128)
    parts = np.array_split(np.flatnonzero(~aside), 3)

    async def program(party: Any) -> Any:
        engine = await mpc.Engine.create(party)
        features, labels = [], []
        for name, rows in zip(NAMES, parts, strict=True):
            mine, n = party.me == name, len(rows)
            features.append(
                learn.share_features(engine, x[rows] if mine else None, owner=name, shape=(n, 64))
            )
            labels.append(
                learn.share_labels(
                    engine, y[rows] if mine else None, owner=name, rows=n, classes=list(range(10))
                )
            )
        model.fit(mpc.concat(features), mpc.concat(labels))
        return await engine.open(model.coef_, model.intercept_)

    begun = time.process_time()
    coef, intercept = simulate(dict.fromkeys(NAMES, program)).values()[0]
    seconds = time.process_time() - begun
    right = np.mean((x[aside] @ coef.T + intercept).argmax(axis=1) == y[aside])
    print(
        f"digits: {right:.2%} of {aside.sum()} right after {passes} passes over {(~aside).sum()}, scikit-learn "
        f"{theirs.score(x[aside], y[aside]):.2%}; {seconds:.0f} s of one core for all parties"
    )


async def timed_fit(party: Any, *, x: Any, y: Any, steps: int) -> tuple[float, float]:
    """Return the seconds of a fit with so many gradient steps over all rows, and those of the processor."""
    engine = await mpc.Engine.create(party)
    features = learn.share_features(engine, x if party.me == "ada" else None, owner="ada", shape=x.shape)
    labels = engine.share(y if party.me == "bob" else None, owner="bob", shape=y.shape, dtype=bool)
    await engine.open(features[:0], labels[:0])
    begun, worked = time.perf_counter(), time.process_time()
    model = learn.LogisticRegression(solver="gradient", max_iter=steps, batch_size=len(x))
    await model.fit(features, labels).coef_[:0].open()
    return time.perf_counter() - begun, time.process_time() - worked


def made_up_rows(rows: int, width: int) -> tuple[Any, Any]:
    """Return a table and labels that depend on it, the same at each call and in `peers/crypten_step.py`."""
    made_up = np.random.default_rng(0)
    x = made_up.normal(size=(rows, width))
    return x, x @ made_up.normal(size=width) / np.sqrt(width) > made_up.normal(size=rows)


def gradient_step(x: Any, y: Any) -> tuple[float, float]:
    """Return the seconds of a gradient step over all rows, and the processor seconds of the three processes."""
    seconds = []
    for steps in (1, 1 + STEPS):
        program = functools.partial(timed_fit, x=x, y=y, steps=steps)
        each = np.array([result[0] for result in run_parties(dict.fromkeys(NAMES, program)).values()])
        seconds.append((each[:, 0].max(), each[:, 1].sum()))
    wall, processor = ((b - a) / STEPS for a, b in zip(*seconds, strict=True))
    return float(wall), float(processor)


def crypten_command(python: str, rows: int, width: int) -> list[str]:
    script = Path(__file__).parent / "peers" / "crypten_step.py"
    sizes = {"--rows": rows, "--columns": width, "--steps": CRYPTEN_STEPS}
    return [python, str(script), *(str(word) for option in sizes.items() for word in option)]


def beside_crypten(python: str, x: Any, y: Any, turns: int) -> None:
    """Print the seconds of a step, ours and CrypTen's, and their ratio, for each turn."""
    ratios = []
    for turn in range(turns):
        ours, processor = gradient_step(x, y)
        done = subprocess.run(crypten_command(python, *x.shape), capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"CrypTen in {python} failed: {done.stderr[-2000:]!a}")
        found = next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
        ratios.append((found["seconds"] / ours, found["processor"] / processor))
        right = np.mean((x @ np.array(found["weights"]) > 0) == y)
        print(
            f"turn {turn}: a step of ours {ours:.3f} s, of CrypTen's {found['seconds']:.3f} s "
            f"({right:.1%} right after {CRYPTEN_STEPS}), ratio {ratios[-1][0]:.1f}; processor seconds of all parties "
            f"{processor:.3f} and {found['processor']:.3f}, ratio {ratios[-1][1]:.1f}",
            flush=True,
        )
    low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75], axis=0)
    print(
        f"ratios, median of {turns} turns and quartiles: {median[0]:.1f} ({low[0]:.1f} to {high[0]:.1f}), of processor "
        f"seconds {median[1]:.1f} ({low[1]:.1f} to {high[1]:.1f})"
    )


def columns(cost: list[float]) -> str:
    seconds, rounds, sent = cost
    return f"{seconds:9.3f} {rounds:7.0f} {sent / 1e6:8.2f}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument(
        "--digits", type=int, metavar="PASSES", help="accuracy on digits after so many passes"
    )
    parser.add_argument("--crypten-python", help="a Python that has CrypTen")
    parser.add_argument("--turns", type=int, default=3, help="how often ours and CrypTen take a turn")
    parser.add_argument("--tiny", action="store_true", help="run once on a little, to see that it runs")
    options = parser.parse_args(argv)
    if options.tiny:
        options.rows, options.columns = 24, 2
    if options.digits:
        digits(options.digits)
        return
    x, y = made_up_rows(options.rows, options.columns)
    if options.crypten_python:
        beside_crypten(options.crypten_python, x, y, options.turns)
        return
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
