"""Error feedback: what it gains and costs a model that is trained in few bits and of a part of the numbers, at equal bytes.

Ten clients with unlike parts of scikit-learn's bundled digits train a softmax regression by federated averaging. Each round
is a sum of `CompressedCoder` vectors, as nodes encode them and the server reads them. Without error feedback each result is
the exact mean on average; with it nodes send later what is cut off now.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from secagg.federated import Compression, Encoding
from secagg.federated.compressed import CompressedCoder
from secagg.federated.layout import Entry, Layout

CLIENTS, CLIP, RATE, BATCH = 10, 0.5, 0.1, 32
SETTINGS = ((8, 1.0), (8, 0.25), (8, 0.1), (8, 0.05), (4, 1.0), (4, 0.25), (2, 1.0), (2, 0.25))
Numbers = NDArray[np.float64]


class Images(NamedTuple):
    """Images with a constant behind them, and labels."""

    x: Numbers
    y: NDArray[np.int64]


def digits(seed: int) -> tuple[list[Images], Images]:
    """Return each client's images, in which some digits are rare, and images to test with."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = np.c_[(x - x.mean(0)) / (x.std(0) + 1e-9), np.ones(len(x))]
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.25, random_state=seed, stratify=y)
    rng, parts = np.random.default_rng(seed), [list[int]() for _ in range(CLIENTS)]
    for digit in range(10):
        places = rng.permutation(np.flatnonzero(y == digit))
        shares = np.cumsum(rng.dirichlet([0.3] * CLIENTS))[:-1]
        for part, some in zip(parts, np.split(places, (shares * len(places)).astype(int)), strict=True):
            part += some.tolist()
    return [Images(x[part], y[part]) for part in parts], Images(x_test, y_test)


def probabilities(model: Numbers, x: Numbers) -> Numbers:
    scores = x @ model
    odds: Numbers = np.exp(scores - scores.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def trained(model: Numbers, own: Images, rng: np.random.Generator) -> Numbers:
    """Return a model after one pass over a client's images."""
    model, order = model.copy(), rng.permutation(len(own.y))
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        residual = probabilities(model, own.x[batch])
        residual[np.arange(len(batch)), own.y[batch]] -= 1
        model -= RATE * own.x[batch].T @ residual / len(batch)
    return model


def loss_and_accuracy(model: Numbers, test: Images) -> tuple[float, float]:
    found = probabilities(model, test.x)
    loss = -float(np.mean(np.log(found[np.arange(len(test.y)), test.y] + 1e-12)))
    return loss, float(np.mean(found.argmax(1) == test.y))


def run(compression: Compression | None, rounds: int, seed: int) -> tuple[float, float, int]:
    """Return loss and accuracy after so many rounds, and the bytes of one client in one round under masks."""
    clients, test = digits(seed)
    rng, model, size = np.random.default_rng(seed + 1), np.zeros((65, 10)), 0
    memories = [np.zeros(model.size) for _ in clients]
    layout = Layout((Entry("model", "w", "array", "float64", model.shape),), (), "metrics")
    for _ in range(rounds):
        changes = [(trained(model, own, rng) - model).ravel() for own in clients]
        updates = [np.clip(change, -CLIP, CLIP) for change in changes]
        if compression is None:
            model = model + np.mean(changes, axis=0).reshape(model.shape)
            continue
        encoding = Encoding({"": CLIP}, max_weight=1, compression=compression)
        coder = CompressedCoder(layout, encoding, compression, CLIENTS, session=rng.bytes(32))
        total = np.zeros(coder.length, coder.ring.dtype)
        for place, update in enumerate(updates):
            vector: Any = np.append(update, 1.0)
            if compression.error_feedback:
                sent, memories[place] = coder.contribution_with(vector, memories[place])
            else:
                sent = coder.contribution(vector)
            total += sent
        sent_from = model
        means = coder.decode(coder.ring.reduce(total), CLIENTS, lambda _, sent=sent_from: sent)
        model, size = means.values[0], -(-coder.length * coder.ring.bits // 8)
    return *loss_and_accuracy(model, test), size


def main(argv: Sequence[str] | None = None) -> None:
    """Print accuracy and loss with and without error feedback."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, nargs="+", default=[30, 100])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tiny", action="store_true", help="few rounds, to see that it runs")
    options = parser.parse_args(argv)
    rounds, seeds = ([2], 1) if options.tiny else (options.rounds, options.seeds)
    print(f"{CLIENTS} clients, softmax regression on digits, {seeds} splits; mean ± standard deviation")
    print(
        "| rounds | bits | keep | bytes | accuracy without | with | loss without | with |\n|---|---|---|---|---|---|---|---|"
    )
    for count in rounds:
        exact = np.array([run(None, count, seed)[:2] for seed in range(seeds)])
        print(f"| {count} | exact | | | {_told(exact[:, 1], 3)} | | {_told(exact[:, 0], 2)} | |", flush=True)
        for bits, keep in SETTINGS[: 1 if options.tiny else None]:
            cells = []
            for feedback in (False, True):
                compression = Compression(bits, keep, error_feedback=feedback)
                found = np.array([run(compression, count, seed) for seed in range(seeds)])
                cells.append((_told(found[:, 1], 3), _told(found[:, 0], 2)))
            accuracies, losses = zip(*cells, strict=True)
            told = " | ".join([*accuracies, *losses])
            print(f"| {count} | {bits} | {keep:g} | {int(found[0, 2])} | {told} |", flush=True)


def _told(values: NDArray[Any], digits: int) -> str:
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"


if __name__ == "__main__":
    main()
