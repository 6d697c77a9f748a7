"""Boosted trees on clients' rows by sums of histograms alone: XGBoost's gain and weights [CG16], depth by depth.

    model = boost(clients, cuts, add_up, bounds, settings)

The training is the same program over pooled rows: then `add_up` has one client's histogram to add up. It makes the same
splits, but where two gains differ by less than the histograms' precision.

XGBoost's own federated mode has this as a plugin of its C++ library, which Python cannot reach. So the loop is here, and is
small: numeric features without missing values, one tree a round, all rows and features in each.

All clients' rows are in this process: nothing here trains between processes. For that a client would need
`local_histogram`, and a server `HistogramBounds`.

Would learn: clients, the model. Whoever adds up, the sums of histograms (`histograms`), from which the model follows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secagg.errors import ShapeError, UsageError
from secagg.federated.histograms import Histogram, HistogramBounds, local_histogram

Encoded: TypeAlias = Mapping[str, NDArray[np.int64]]
# Each client's encoded histogram by name to their sums; raises where there is no sum.
AddUp: TypeAlias = Callable[[Mapping[str, Encoded]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class BoostingSettings:
    """What is trained; XGBoost's names in parentheses.

    Args:
      rounds: trees (`num_boost_round`).
      depth: of a tree (`max_depth`).
      learning_rate: (`eta`).
      l2: above 0 (`lambda`, which may be 0 in XGBoost).
      min_gain: (`gamma`).
      min_hessian: of each child (`min_child_weight`).
      min_rows: of each child.
      objective: "squared" or "logistic".
      base: score that every row begins with; log odds for "logistic", and not XGBoost's probability.

    Raises:
      UsageError: a number out of range, or an unknown objective.
    """

    rounds: int = 10
    depth: int = 3
    learning_rate: float = 0.3
    l2: float = 1.0
    min_gain: float = 0.0
    min_hessian: float = 1.0
    min_rows: int = 1
    objective: Literal["squared", "logistic"] = "logistic"
    base: float = 0.0

    def __post_init__(self) -> None:
        if self.rounds < 1 or not 1 <= self.depth <= 16 or self.min_rows < 1:
            raise UsageError(f"expected rounds, a depth of 1 to 16 and rows of children, got {self}")
        if min(self.learning_rate, self.l2) <= 0 or min(self.min_gain, self.min_hessian) < 0:
            raise UsageError(f"expected positive rates and bounds of 0 or more, got {self}")
        if self.objective not in ("squared", "logistic"):
            raise UsageError(f"expected 'squared' or 'logistic' as the objective, got {self.objective!r:.40}")


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree by nodes in breadth-first order: children of i are 2 i + 1 and 2 i + 2.

    Attributes:
      feature: of each node, shape (2^(depth + 1) - 1,); -1 at leaves.
      bin: of each node: rows whose bin is not above it go left.
      weight: of leaves; 0 elsewhere.
    """

    feature: NDArray[np.int64]
    bin: NDArray[np.int64]
    weight: NDArray[np.float64]

    def leaves(self, binned: NDArray[Any]) -> NDArray[np.float64]:
        """Return the weight of each row's leaf, shape (n,), for bins of shape (n, features), int64."""
        node = np.zeros(len(binned), np.int64)
        for _ in range(int(np.log2(len(self.feature) + 1)) - 1):
            feature = self.feature[node]
            inner = feature >= 0
            right = binned[np.arange(len(binned)), np.maximum(feature, 0)] > self.bin[node]
            node = np.where(inner, 2 * node + 1 + right, node)
        return self.weight[node]


@dataclass(frozen=True, slots=True)
class BoostedTrees:
    """A model.

    Attributes:
      trees: in order.
      cuts: of each feature, ascending; a number above i of them is in bin i.
      settings: what it was trained by.
    """

    trees: tuple[Tree, ...]
    cuts: tuple[NDArray[np.float64], ...] = field(repr=False)
    settings: BoostingSettings

    def scores(self, x: Any) -> NDArray[np.float64]:
        """Return sums of weights of rows, shape (n,), for values of shape (n, features): predictions, or log odds."""
        binned = to_bins(x, self.cuts)
        return self.settings.base + sum((t.leaves(binned) for t in self.trees), np.zeros(len(binned)))


def to_bins(x: Any, cuts: Sequence[NDArray[np.float64]]) -> NDArray[np.int64]:
    """Return the bin of each number of rows.

    Raises:
      ShapeError: other than a column for each feature.
    """
    rows = np.asarray(x, np.float64)
    if rows.ndim != 2 or rows.shape[1] != len(cuts):
        raise ShapeError(f"expected rows of {len(cuts)} features, got shape {rows.shape}")
    return np.stack([np.searchsorted(cut, rows[:, i], "left") for i, cut in enumerate(cuts)], axis=1)


def boost(
    clients: Mapping[str, tuple[Any, Any]],
    cuts: Sequence[NDArray[np.float64]],
    add_up: AddUp,
    bounds: HistogramBounds,
    settings: BoostingSettings | None = None,
) -> BoostedTrees:
    """Train on all clients' rows; all parties in one process.

    Args:
      clients: rows and labels by name.
      cuts: of each feature, ascending and agreed on without looking at rows, or by noisy quantiles.
      add_up: sums of encoded histograms, by a protocol.
      bounds: of histograms.
      settings: what is trained.

    Raises:
      RangeError: gradients beyond the bounds.
      ShapeError: rows of another shape.
    """
    settings = settings or BoostingSettings()
    bins = max(len(cut) for cut in cuts) + 1
    binned = {name: to_bins(x, cuts) for name, (x, _) in clients.items()}
    labels = {name: np.asarray(y, np.float64) for name, (_, y) in clients.items()}
    scores = {name: np.full(len(rows), settings.base) for name, rows in binned.items()}
    trees = []
    for _ in range(settings.rounds):
        slopes = {name: _gradients(scores[name], labels[name], settings.objective) for name in binned}

        def summed(
            node_of: Mapping[str, NDArray[np.int64]],
            nodes: int,
            slopes: Mapping[str, tuple[Any, Any]] = slopes,
        ) -> Histogram:
            parts = {
                name: bounds.encode(
                    local_histogram(rows, *slopes[name], node_of[name], nodes=nodes, bins=bins)
                )
                for name, rows in binned.items()
            }
            return bounds.decode(add_up(parts), len(parts))

        tree = _grow(binned, summed, settings)
        trees.append(tree)
        for name, rows in binned.items():
            scores[name] += tree.leaves(rows)
    return BoostedTrees(tuple(trees), tuple(cuts), settings)


def _grow(
    binned: Mapping[str, NDArray[np.int64]],
    summed: Callable[[Mapping[str, NDArray[np.int64]], int], Histogram],
    settings: BoostingSettings,
) -> Tree:
    size = (2 << settings.depth) - 1
    feature, cut, weight = np.full(size, -1), np.zeros(size, np.int64), np.zeros(size)
    node = {name: np.zeros(len(rows), np.int64) for name, rows in binned.items()}
    alive = np.array([True])
    for depth in range(settings.depth + 1):
        first, nodes = (1 << depth) - 1, 1 << depth
        at = {name: np.where(where >= first, where - first, -1) for name, where in node.items()}
        found = summed(at, nodes)
        # Of one feature: all have the same sums over their bins.
        g, h = found.gradients[:, 0].sum(axis=1), found.hessians[:, 0].sum(axis=1)
        weight[first : first + nodes] = np.where(alive, -settings.learning_rate * g / (h + settings.l2), 0.0)
        if depth == settings.depth:
            break
        best, split_feature, split_bin = _best_splits(found, settings)
        splits = alive & (best > settings.min_gain)
        here = slice(first, first + nodes)
        feature[here] = np.where(splits, split_feature, -1)
        cut[here] = np.where(splits, split_bin, 0)
        weight[here] = np.where(splits, 0.0, weight[here])
        for name, rows in binned.items():
            where = node[name]
            inner = (where >= first) & (feature[where] >= 0)
            right = rows[np.arange(len(rows)), np.maximum(feature[where], 0)] > cut[where]
            node[name] = np.where(inner, 2 * where + 1 + right, where)
        alive = np.repeat(splits, 2)
        if not alive.any():
            break
    return Tree(feature, cut, weight)


def _best_splits(
    found: Histogram, settings: BoostingSettings
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return gain, feature and bin of the best split of each node; the first of several."""
    g, h, n = (np.cumsum(part, axis=2) for part in (found.gradients, found.hessians, found.rows))
    total_g, total_h, total_n = g[:, :, -1:], h[:, :, -1:], n[:, :, -1:]

    def score(gradient: Any, hessian: Any) -> Any:
        return gradient**2 / (hessian + settings.l2)

    gain = 0.5 * (score(g, h) + score(total_g - g, total_h - h) - score(total_g, total_h))
    fits = (h >= settings.min_hessian) & (total_h - h >= settings.min_hessian)
    fits &= (n >= settings.min_rows) & (total_n - n >= settings.min_rows)
    gain = np.where(fits, gain, -np.inf)[:, :, :-1].reshape(len(g), -1)
    best = np.argmax(gain, axis=1)
    feature, place = np.divmod(best, g.shape[2] - 1)
    return gain[np.arange(len(g)), best], feature, place


def _gradients(scores: NDArray[np.float64], labels: NDArray[np.float64], objective: str) -> tuple[Any, Any]:
    if objective == "squared":
        return scores - labels, np.ones(len(scores))
    p = 1 / (1 + np.exp(-scores))
    return p - labels, p * (1 - p)
