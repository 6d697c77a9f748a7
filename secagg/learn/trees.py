"""Decision trees and forests that scikit-learn has fitted, on shared features. The model is public.

1. All splits of all trees at once: one comparison a distinct (feature, threshold) and row.
2. From the roots down, a level a round: whether a row reaches a node. A row that reaches a node reaches its left child where
   it reaches the node and passes the split, and else the right one. One AND a split and row.
3. Whether a row reaches a leaf, as an integer, times the leaf's value: one conversion a leaf and row. The rest is public.

scikit-learn rounds features to float32 before it compares them. Here they are compared as they are shared. For rows no
feature of which lies within that rounding of a threshold, results are scikit-learn's, up to 2**-17. So of classes with the
same probability another one may be found.

Who learns what: all computing parties know the model. Nobody learns which way a row goes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from secagg.errors import UsageError
from secagg.learn.estimator import features
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import FixedType
from secagg.mpc.arrays.moves import concat

_VALUES: Final = FixedType(20)  # of leaves


@dataclass(frozen=True, slots=True)
class _Tree:
    """One tree; nodes are numbered as scikit-learn has them, and -1 as a left child marks a leaf."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    value: NDArray[np.float64]  # (nodes, outputs)


@dataclass(frozen=True, eq=False)
class TreeEnsemble:
    """A public tree or forest: the mean of what its trees say.

    Attributes:
      n_features_in_: how many features it takes.
      classes_: what `predict` gives indices into; None of a regressor.
    """

    trees: tuple[_Tree, ...]
    n_features_in_: int
    classes_: NDArray[Any] | None

    def __repr__(self) -> str:
        kind = "regression" if self.classes_ is None else f"{len(self.classes_)} classes"
        return f"<TreeEnsemble of {len(self.trees)} trees, {kind}>"

    @classmethod
    def from_sklearn(cls, model: Any) -> Self:
        """Take over a fitted decision tree, random forest or extra trees, classifier or regressor, of one output.

        Raises:
          UsageError: something else.
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
        trees = tuple(_taken(m.tree_, classes is not None) for m in fitted)
        return cls(trees, int(model.n_features_in_), classes)

    def predict(self, X: SharedArray) -> SharedArray:  # noqa: N803  # scikit-learn's name
        """Return predictions (n,): numbers of a regressor, indices into `classes_` of a classifier."""
        values = self._values(X)
        return values[:, 0] if self.classes_ is None else values.argmax(axis=1)

    def predict_proba(self, X: SharedArray) -> SharedArray:  # noqa: N803  # scikit-learn's name
        """Return the probabilities of all classes, of shape (n, classes)."""
        if self.classes_ is None:
            raise UsageError("a regressor has no probabilities: use predict")
        return self._values(X)

    def _values(self, x: SharedArray) -> SharedArray:
        x = features(x, self.n_features_in_)
        reached, values = self._leaves(self._passed(x), x.shape[0], x)
        weighted = np.concatenate(values) / len(self.trees)
        return reached.T.astype(_VALUES) @ weighted

    def _passed(self, x: SharedArray) -> SharedArray | None:
        """Return the bits (splits, n) of all splits of all trees: whether a row goes left."""
        splits = [(t.feature[i], t.threshold[i]) for t in self.trees for i in _splits(t)]
        if not splits:
            return None
        distinct = sorted(set(splits))
        place = {split: i for i, split in enumerate(distinct)}
        columns = np.array([feature for feature, _ in distinct])
        thresholds = np.array([[threshold] for _, threshold in distinct])
        return (x.T[columns] <= thresholds)[np.array([place[split] for split in splits])]

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


def _splits(tree: _Tree) -> Sequence[int]:
    return [int(i) for i in np.flatnonzero(tree.left >= 0)]


def _taken(tree: Any, classifies: bool) -> _Tree:
    value = np.asarray(tree.value, np.float64)[:, 0, :]
    if classifies:
        value = value / value.sum(axis=1, keepdims=True)
    return _Tree(
        np.asarray(tree.children_left, np.int64),
        np.asarray(tree.children_right, np.int64),
        np.asarray(tree.feature, np.int64),
        np.asarray(tree.threshold, np.float64),
        value,
    )
