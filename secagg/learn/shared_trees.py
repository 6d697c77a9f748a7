"""Trees whose model is its owner's secret, on shared features.

Which feature a node tests, thresholds and leaf values stay hidden. Public is the `EnsembleShape`: how many trees of which
depth, features and outputs. Each tree is padded to a complete one: below a leaf all leaves have its value.

1. The feature that each node tests: features (n, p) times a shared matrix (p, nodes) with one 1 a column. One product.
2. Compare every node with every row at once.
3. From the roots down, a level a round, whether a row reaches a node. One AND a node and row.
4. Whether a row reaches a leaf, as an integer, times the shared leaf values. One product, exact, and the only sum.

A threshold becomes the largest number of 16 fractional bits that goes left, so comparisons are exact. Sums have the range
and error of `trees`.

Who learns what: the computing parties learn the shape. Nobody learns anything of the model but its owner, nor which way a
row goes. Nothing checks that the owner's matrix has one 1 a column; with another one the owner's model is another
function of the rows. Whoever learns predictions learns what they say of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import ShapeError, UsageError
from secagg.learn.estimator import at_least_one, features
from secagg.learn.trees import VALUES, Tree, TreeEnsemble, probabilities, verdict
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import FixedType, int64
from secagg.mpc.arrays.engine import Engine
from secagg.mpc.arrays.handle import rescaled
from secagg.mpc.arrays.linalg import matrix_product
from secagg.mpc.arrays.moves import stack
from secagg.party import PartyId

_FEATURES: Final = FixedType(16)
_BEYOND: Final = 2.0**30  # beyond all features
_DEEPEST: Final = 12  # 4096 leaves


@dataclass(frozen=True, slots=True)
class EnsembleShape:
    """What all parties know of a shared ensemble.

    Attributes:
      trees, depth: at least as many as the model has.
      features, outputs: of the model: how many columns it takes, and how many sums it has.
      classifies, link: what is made of the sums, see `TreeEnsemble`.
    """

    trees: int
    depth: int
    features: int
    outputs: int = 1
    classifies: bool = False
    link: str = ""

    def __post_init__(self) -> None:
        for name in ("trees", "depth", "features", "outputs"):
            at_least_one(name, getattr(self, name))
        if self.depth > _DEEPEST:
            raise UsageError(f"expected trees of depth {_DEEPEST} at most, got {self.depth}")
        if self.link not in ("", "exp", "logistic", "softmax"):
            raise UsageError(f"expected the link exp, logistic, softmax or none, got {self.link!r}")


@dataclass(frozen=True, eq=False)
class SharedTreeEnsemble:
    """Trees of a shared model; made by `share_trees`."""

    shape: EnsembleShape
    chosen: SharedArray  # (features, nodes)
    thresholds: SharedArray  # (nodes,)
    leaves: SharedArray  # (leaves, outputs)
    base: SharedArray  # (outputs,)

    def predict(self, X: SharedArray) -> SharedArray:  # noqa: N803  # scikit-learn's name
        """Return predictions (n,): numbers of a regressor, indices of classes of a classifier."""
        return verdict(self._values(X), self.shape.classifies, self.shape.link)

    def predict_proba(self, X: SharedArray) -> SharedArray:  # noqa: N803  # scikit-learn's name
        """Return the probabilities of all classes, of shape (n, classes)."""
        return probabilities(self._values(X), self.shape.classifies, self.shape.link)

    def _values(self, x: SharedArray) -> SharedArray:
        x = rescaled(features(x, self.shape.features), _FEATURES)
        tested = matrix_product(x, self.chosen, _FEATURES)  # integers times numbers: exact
        trees, n = self.shape.trees, x.shape[0]
        passed = (tested <= self.thresholds).T.reshape(trees, -1, n)
        reached: SharedArray = x.engine.public(np.ones((trees, 1, n), bool))
        for level in range(self.shape.depth):
            left = reached & passed[:, 2**level - 1 : 2 ** (level + 1) - 1]
            reached = stack([left, reached ^ left], axis=2).reshape(trees, -1, n)
        rows = reached.reshape(-1, n).T.astype(int64)
        return matrix_product(rows, self.leaves, VALUES) + self.base


def share_trees(
    engine: Engine, model: TreeEnsemble | None, *, owner: PartyId, shape: EnsembleShape
) -> SharedTreeEnsemble:
    """Share an ensemble of `owner`.

    Args:
      model: at the owner; None elsewhere.
      shape: public; `shape_of(model)` says the least one that fits.

    Raises:
      ShapeError: at the owner, a model that does not fit the shape.
    """
    chosen = thresholds = leaves = base = None
    if model is not None:
        chosen, thresholds, leaves = _padded(model, shape, owner)
        base = model.base
    nodes, ends = shape.trees * (2**shape.depth - 1), shape.trees * 2**shape.depth
    return SharedTreeEnsemble(
        shape,
        engine.share(chosen, owner=owner, shape=(shape.features, nodes), dtype=int64),
        engine.share(thresholds, owner=owner, shape=nodes, dtype=_FEATURES),
        engine.share(leaves, owner=owner, shape=(ends, shape.outputs), dtype=VALUES),
        engine.share(base, owner=owner, shape=shape.outputs, dtype=VALUES),
    )


def shape_of(model: TreeEnsemble) -> EnsembleShape:
    """Return the least shape that an ensemble fits, which tells others how deep it is and how many trees it has."""
    depth = max(_depth(tree) for tree in model.trees)
    return EnsembleShape(
        len(model.trees),
        max(1, depth),
        model.n_features_in_,
        len(model.base),
        model.classes_ is not None,
        model.link,
    )


def _depth(tree: Tree) -> int:
    deepest, todo = 0, [(0, 0)]
    while todo:
        node, depth = todo.pop()
        deepest = max(deepest, depth)
        if tree.left[node] >= 0:
            todo += [(int(tree.left[node]), depth + 1), (int(tree.right[node]), depth + 1)]
    return deepest


def _padded(
    model: TreeEnsemble, shape: EnsembleShape, owner: PartyId
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the chosen features, thresholds and leaf values of complete trees; trees that are missing are 0."""
    least = shape_of(model)
    same = ("features", "outputs", "classifies", "link")
    if (
        least.trees > shape.trees
        or least.depth > shape.depth
        or any(getattr(least, name) != getattr(shape, name) for name in same)
    ):
        raise ShapeError(
            f"the model of {owner} does not fit {shape}: agree on its features, outputs, classifies and link, and "
            "on at least the trees and the depth that it has"
        )
    inner = 2**shape.depth - 1
    feature = np.zeros((shape.trees, inner), np.int64)
    threshold = np.zeros((shape.trees, inner))
    leaves = np.zeros((shape.trees, inner + 1, shape.outputs))
    for t, tree in enumerate(model.trees):
        level = np.zeros(1, np.int64)
        for depth in range(shape.depth):
            split = tree.left[level] >= 0
            at = slice(2**depth - 1, 2 ** (depth + 1) - 1)
            feature[t, at] = np.where(split, tree.feature[level], 0)
            threshold[t, at] = np.where(split, tree.threshold[level], 0)
            ways = [np.where(split, way[level], level) for way in (tree.left, tree.right)]
            level = np.stack(ways, axis=1).reshape(-1)
        leaves[t] = tree.value[level]
    units = np.clip(threshold, -_BEYOND, _BEYOND) * 2.0**_FEATURES.frac_bits
    units = np.ceil(units) - 1 if model.strict else np.floor(units)
    chosen = (np.arange(shape.features).reshape(-1, 1) == feature.reshape(-1)).astype(np.int64)
    return chosen, (units / 2.0**_FEATURES.frac_bits).reshape(-1), leaves.reshape(-1, shape.outputs)
