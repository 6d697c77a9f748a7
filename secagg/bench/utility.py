"""What noise costs a model: classifiers of scikit-learn's bundled data sets, trained on one sum under differential privacy.

Each row is a person with a client of its own. A client contributes x x^T and x for its class, which together have norm 1.5
at most. Their sum over all clients is all that ridge regression onto the classes needs. The sum runs under additive
shares with `Privacy`, so that noise is in it before anybody sees it. The penalty grows with the noise alone.

Features are scaled by ranges that stand here, as the description of the data set prints them, and not by the rows. Such
ranges are taken to be public, as those of a measuring instrument are: the epsilon does not count them. What lies beyond a
range, by rounding, is cut to it. Of the digits' 64 pixels, each from 0 to 16, four neighbours each are added up.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from secagg.aggregation import Additive, Privacy
from secagg.aggregation import sum as secure_sum
from secagg.errors import UsageError
from secagg.files import check_format

FORMAT: Final = 1  # of a line of utility.jsonl
DATA_SETS: Final = ("breast_cancer", "digits", "wine")
EPSILONS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
DELTA: Final = 1e-5
_NORM: Final = 1.5  # |x x^T| is at most 1 in its upper half, |x| is 1
_PART: Final = 0.7  # of the rows are trained on
_PENALTY: Final = 0.1  # without noise

Array = NDArray[np.float64]

# Smallest and largest value of each feature, in scikit-learn's order.
_RANGES: Final[dict[str, Sequence[tuple[float, float]]]] = {
    "breast_cancer": (
        *((6.981, 28.11), (9.71, 39.28), (43.79, 188.5), (143.5, 2501.0), (0.053, 0.163)),
        *((0.019, 0.345), (0.0, 0.427), (0.0, 0.201), (0.106, 0.304), (0.05, 0.097)),
        *((0.112, 2.873), (0.36, 4.885), (0.757, 21.98), (6.802, 542.2), (0.002, 0.031)),
        *((0.002, 0.135), (0.0, 0.396), (0.0, 0.053), (0.008, 0.079), (0.001, 0.03)),
        *((7.93, 36.04), (12.02, 49.54), (50.41, 251.2), (185.2, 4254.0), (0.071, 0.223)),
        *((0.027, 1.058), (0.0, 1.252), (0.0, 0.291), (0.156, 0.664), (0.055, 0.208)),
    ),
    "digits": ((0.0, 64.0),) * 16,
    "wine": (
        *((11.0, 14.8), (0.74, 5.80), (1.36, 3.23), (10.6, 30.0), (70.0, 162.0), (0.98, 3.88), (0.34, 5.08)),
        *((0.13, 0.66), (0.41, 3.58), (1.3, 13.0), (0.48, 1.71), (1.27, 4.00), (278.0, 1680.0)),
    ),
}


@dataclass(frozen=True, slots=True)
class Utility:
    """Accuracy on rows that were not trained on.

    Attributes:
      rows: that were trained on.
      epsilon: None for training without noise.
      seed: of the split into training and test rows.
      accuracy: part of the test rows whose class is guessed, from 0 to 1.
    """

    data_set: str
    rows: int
    epsilon: float | None
    seed: int
    accuracy: float


def line_of(point: Utility) -> str:
    """Return a point as a line of a file."""
    return json.dumps({"format": FORMAT, **asdict(point)}) + "\n"


def read(path: Path) -> list[Utility]:
    """Return the points in a file of lines.

    Raises:
      UsageError: the file cannot be read, or holds something else.
    """
    try:
        found = [
            msgspec.json.decode(line, type=dict[str, Any]) for line in path.read_text("utf-8").splitlines()
        ]
        for number, line in enumerate(found, 1):
            written = line.pop("format", None)
            check_format(written, FORMAT, what=f"line {number} of {path}")
            if written != FORMAT:
                raise ValueError(f"line {number} has no format")
        return [msgspec.convert(line, Utility) for line in found]
    except UsageError:
        raise
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise UsageError(
            f"expected what secagg bench utility writes in {path}, got something else: {error}"
        ) from None


def utilities(
    data_sets: Sequence[str] = DATA_SETS,
    epsilons: Sequence[float] = EPSILONS,
    *,
    repeat: int = 3,
    seed: int = 1,
) -> Iterator[Utility]:
    """Yield the accuracy on each data set, for each split without noise first and then with each epsilon.

    Raises:
      UsageError: a data set that there is not, an epsilon that is not above 0, or no repetition; before anything is trained.
      ImportError: scikit-learn or dp-accounting is not installed.
    """
    for name in data_sets:
        _check(name)
    for epsilon in epsilons:
        if not 0 < epsilon < math.inf:
            raise UsageError(f"expected epsilons above 0, got {epsilon:g}")
    if repeat < 1 or seed < 0:
        raise UsageError(f"expected repeat from 1 on and seed from 0 on, got {repeat} and {seed}")
    for name in data_sets:
        x, classes = load(name)
        for split in range(seed, seed + repeat):
            order = np.random.default_rng(split).permutation(len(x))
            train, test = np.split(order, [int(_PART * len(x))])
            for budget in (None, *epsilons):
                weights = fitted(x[train], classes[train], budget)
                guessed = np.argmax(x[test] @ weights, axis=1)
                accuracy = float(np.mean(guessed == classes[test]))
                yield Utility(name, len(train), budget, split, accuracy)


def load(name: str) -> tuple[Array, NDArray[np.int64]]:
    """Return the rows of a data set, shape (n, features), each of norm 1, and their classes, shape (n,)."""
    _check(name)
    try:
        from sklearn import datasets
    except ImportError:
        raise ImportError('the data sets are those of scikit-learn: pip install "secagg[plots,dp]"') from None

    found: Any = getattr(datasets, f"load_{name}")()
    x: Array = found.data
    if name == "digits":
        x = x.reshape(-1, 4, 2, 4, 2).sum(axis=(2, 4)).reshape(len(x), 16)
    scaled = in_ranges(x, _RANGES[name])
    return scaled / np.linalg.norm(scaled, axis=1, keepdims=True), found.target


def in_ranges(x: Array, ranges: Sequence[tuple[float, float]]) -> Array:
    """Return each feature scaled from its range to -1 to 1, and a constant 1 behind them; no row depends on another."""
    low, high = np.array(ranges).T
    scaled = 2 * (np.clip(x, low, high) - low) / (high - low) - 1
    return np.column_stack([scaled, np.ones(len(x))])


def _check(name: str) -> None:
    if name not in DATA_SETS:
        raise UsageError(f"expected a data set among {', '.join(DATA_SETS)}, got {name!r:.80}")


def fitted(x: Array, classes: NDArray[np.int64], epsilon: float | None) -> Array:
    """Return weights of ridge regression onto the classes, from a sum with noise, or without where epsilon is None."""
    features, kinds = x.shape[1], int(classes.max()) + 1
    upper = np.triu_indices(features)
    targets = np.eye(kinds)[classes]
    contributions = np.concatenate(
        [
            np.einsum("ni,nj->nij", x, x)[:, upper[0], upper[1]],
            np.einsum("ni,nk->nik", x, targets).reshape(len(x), -1),
        ],
        axis=1,
    )
    if epsilon is None:
        total, noise = contributions.sum(axis=0), 0.0
    else:
        privacy = Privacy(epsilon=epsilon, delta=DELTA, norm=_NORM, max_corrupt=0.0)
        found = secure_sum(list(contributions), protocol=Additive(max_dropout=0.0), privacy=privacy)
        total, noise = found.value, found.report.noise_std
    gram = np.zeros((features, features))
    gram[upper] = total[: len(upper[0])]
    gram += gram.T - np.diag(np.diag(gram))
    # A symmetric matrix of such noise has eigenvalues up to 2 std sqrt(features).
    penalty = _PENALTY + 2 * noise * np.sqrt(features)
    return np.linalg.solve(gram + penalty * np.eye(features), total[len(upper[0]) :].reshape(features, kinds))
