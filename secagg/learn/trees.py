"""Trees, forests and boosted trees that scikit-learn or XGBoost has fitted, on shared features. The model is public.

1. All splits of all trees at once: one comparison a distinct (feature, threshold) and row.
2. From the roots down, a level a round: whether a row reaches a node. A row that reaches a node reaches its left child where
   it reaches the node and passes the split, and else the right one. One AND a split and row.
3. Whether a row reaches a leaf, as an integer, times the leaf's value: one conversion a leaf and row. The rest is public.

Both packages round features to float32 before they compare them. Here they are compared as they are shared. For rows no
feature of which lies within that rounding of a threshold, sums of leaf values are those of the package, up to 2**-20 and
2**-21 a tree. So of classes with the same probability another one may be found.

Range: for each output, the base and each tree's largest leaf value add up to less than 2**21. Whatever leaves a row
reaches, its sum then fits. Other models are refused.

Who learns what: all computing parties know the model. Nobody learns which way a row goes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, UsageError
from secagg.learn.estimator import features
from secagg.learn.xgboost import read
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import FixedType, int64
from secagg.mpc.arrays.elementary import exp, sigmoid, softmax
from secagg.mpc.arrays.moves import concat, stack

VALUES: Final = FixedType(20)  # of leaves
_LARGEST_SUM: Final = (
    2.0**21
)  # a product of two fixed(20) and the difference of two sums fit what truncation takes


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree; nodes are numbered from the root, 0, and -1 as a left child marks a leaf."""

    left: NDArray[np.int64] = field(repr=False)
    right: NDArray[np.int64] = field(repr=False)
    feature: NDArray[np.int64] = field(repr=False)
    threshold: NDArray[np.float64] = field(repr=False)
    value: NDArray[np.float64] = field(repr=False)  # (nodes, outputs), as it goes into the sum over trees


@dataclass(frozen=True, eq=False)
class TreeEnsemble:
    """A public sum of trees, and what is made of it.

    Attributes:
      n_features_in_: how many features it takes.
      classes_: what `predict` gives indices into; None of a regressor.
      link: what turns sums into predictions: nothing, "exp", or of classes "logistic" or "softmax".

    Raises:
      RangeError: leaf values that may add up to 2**21 or more.
    """

    trees: tuple[Tree, ...]
    n_features_in_: int
    classes_: NDArray[Any] | None
    base: NDArray[np.float64]
    link: str = ""
    strict: bool = False  # whether a row goes left where a feature is less than the threshold, and not where it equals it

    def __post_init__(self) -> None:
        largest = np.abs(self.base) + sum(np.abs(t.value[t.left < 0]).max(axis=0) for t in self.trees)
        if not (largest < _LARGEST_SUM).all():  # which a NaN does not pass either
            raise RangeError(
                f"expected leaf values that add up to less than 2**21 over all trees, base included, got up to "
                f"{largest.max():g}; fit the model to targets in larger units"
            )

    def __repr__(self) -> str:
        kind = "regression" if self.classes_ is None else f"{len(self.classes_)} classes"
        return f"<TreeEnsemble of {len(self.trees)} trees, {kind}>"

    @classmethod
    def from_sklearn(cls, model: Any) -> Self:
        """Take over a fitted decision tree, random forest or extra trees, classifier or regressor, of one output.

        Raises:
          UsageError: something else.
          RangeError: leaf values that are too large.
        """
        members = getattr(model, "estimators_", None)
        # A boosted ensemble is a weighted sum, and has members in an array.
        fitted = [model] if members is None else list(members) if isinstance(members, list) else []
        if not fitted or not all(hasattr(m, "tree_") for m in fitted) or hasattr(model, "estimator_weights_"):
            raise UsageError(
                "expected a fitted decision tree, random forest or extra trees of scikit-learn, got "
                f"{type(model).__name__}"
            )
        if model.n_outputs_ != 1:
            raise UsageError(f"expected a model of one output, got one of {model.n_outputs_}")
        classes = getattr(model, "classes_", None)
        trees = tuple(_taken(m.tree_, classes is not None, 1 / len(fitted)) for m in fitted)
        return cls(trees, int(model.n_features_in_), classes, np.zeros(trees[0].value.shape[1]))

    @classmethod
    def from_xgboost(cls, text: str | bytes) -> Self:
        """Take over a model that XGBoost has saved as JSON; see `xgboost.read`.

        Raises:
          UsageError: something else.
          RangeError: leaf values that are too large.
        """
        model = read(text)
        trees = []
        for t, column in zip(model.trees, model.columns, strict=True):
            # Files have float32 in as few digits as tell it from others.
            conditions = np.array(t.split_conditions, np.float32).astype(np.float64)
            left, right, feature = (
                np.array(a, np.int64) for a in (t.left_children, t.right_children, t.split_indices)
            )
            value = np.outer(conditions, np.arange(model.outputs) == column)
            trees.append(Tree(left, right, feature, conditions, value))
        classes = {"logistic": np.arange(2), "softmax": np.arange(model.outputs)}.get(model.link)
        return cls(tuple(trees), model.features, classes, np.array(model.base), model.link, strict=True)

    def predict(self, X: SharedArray) -> SharedArray:  # noqa: N803  # scikit-learn's name
        """Return predictions (n,): numbers of a regressor, indices into `classes_` of a classifier."""
        return verdict(self._values(X), self.classes_ is not None, self.link)

    def predict_proba(self, X: SharedArray) -> SharedArray:  # noqa: N803  # scikit-learn's name
        """Return the probabilities of all classes, of shape (n, classes)."""
        return probabilities(self._values(X), self.classes_ is not None, self.link)

    def _values(self, x: SharedArray) -> SharedArray:
        x = features(x, self.n_features_in_)
        reached, values = self._leaves(self._passed(x), x.shape[0], x)
        return reached.T.astype(VALUES) @ np.concatenate(values) + self.base

    def _passed(self, x: SharedArray) -> SharedArray | None:
        """Return the bits (splits, n) of all splits of all trees: whether a row goes left."""
        splits = [(t.feature[i], t.threshold[i]) for t in self.trees for i in _splits(t)]
        if not splits:
            return None
        distinct = sorted(set(splits))
        place = {split: i for i, split in enumerate(distinct)}
        columns = np.array([feature for feature, _ in distinct])
        thresholds = np.array([[threshold] for _, threshold in distinct])
        passed = x.T[columns] < thresholds if self.strict else x.T[columns] <= thresholds
        return passed[np.array([place[split] for split in splits])]

    def _leaves(
        self, passed: SharedArray | None, n: int, x: SharedArray
    ) -> tuple[SharedArray, list[NDArray[np.float64]]]:
        """Return the bits (leaves, n) that say which leaves are reached, and the values of the leaves in that order."""
        offsets = np.cumsum([0, *(len(_splits(t)) for t in self.trees)])
        reached: SharedArray = x.engine.public(np.ones((len(self.trees), n), bool))
        level = [(tree, 0) for tree in range(len(self.trees))]
        leaves: list[SharedArray] = []
        values: list[NDArray[np.float64]] = []
        rank = [{int(node): i for i, node in enumerate(_splits(t))} for t in self.trees]
        while level:
            ends = [i for i, (tree, node) in enumerate(level) if self.trees[tree].left[node] < 0]
            inner = [i for i in range(len(level)) if i not in set(ends)]
            if ends:
                leaves.append(reached[np.array(ends)])
                values += [self.trees[level[i][0]].value[[level[i][1]]] for i in ends]
            if not inner or passed is None:
                break
            chosen = [level[i] for i in inner]
            here = reached[np.array(inner)]
            bits = passed[np.array([offsets[tree] + rank[tree][node] for tree, node in chosen])]
            left = here & bits
            reached = concat([left, here ^ left])
            level = list(
                itertools.chain(
                    ((tree, int(self.trees[tree].left[node])) for tree, node in chosen),
                    ((tree, int(self.trees[tree].right[node])) for tree, node in chosen),
                )
            )
        return concat(leaves), values


def verdict(values: SharedArray, classifies: bool, link: str) -> SharedArray:
    """Return the predictions (n,) that sums over trees (n, outputs) stand for."""
    if link == "logistic":
        return (values[:, 0] > 0).astype(int64)
    if classifies:
        return values.argmax(axis=1)
    return exp(values[:, 0]) if link == "exp" else values[:, 0]


def probabilities(values: SharedArray, classifies: bool, link: str) -> SharedArray:
    """Return the probabilities (n, classes) that sums over trees (n, outputs) stand for."""
    if not classifies:
        raise UsageError("a regressor has no probabilities: use predict")
    if link == "logistic":
        second = sigmoid(values[:, 0])
        return stack([1 - second, second], axis=1)
    return softmax(values, axis=1) if link == "softmax" else values


def _splits(tree: Tree) -> Sequence[int]:
    return [int(i) for i in np.flatnonzero(tree.left >= 0)]


def _taken(tree: Any, classifies: bool, weight: float) -> Tree:
    value = np.asarray(tree.value, np.float64)[:, 0, :]
    if classifies:
        value = value / value.sum(axis=1, keepdims=True)
    return Tree(
        np.asarray(tree.children_left, np.int64),
        np.asarray(tree.children_right, np.int64),
        np.asarray(tree.feature, np.int64),
        np.asarray(tree.threshold, np.float64),
        value * weight,
    )
