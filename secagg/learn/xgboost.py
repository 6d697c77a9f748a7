"""Models that XGBoost has saved as JSON (`booster.save_model("model.json")`), read without XGBoost.

Taken are the booster gbtree, numeric splits, and the objectives reg:squarederror, count:poisson, binary:logistic,
multi:softmax and multi:softprob. Whatever else a file holds is refused. What is missing in a row has no place among shared
features, so the direction that XGBoost has for it is not read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import msgspec

from secagg.errors import UsageError
from secagg.printable import printable

_LARGEST: Final = 2.0**40  # of thresholds and values, as fixed-point numbers
_LINKS: Final = {
    "reg:squarederror": "",
    "count:poisson": "exp",
    "binary:logistic": "logistic",
    "multi:softmax": "softmax",
    "multi:softprob": "softmax",
}


class Tree(msgspec.Struct, frozen=True):
    """A tree, of which a node without children has its value among the conditions."""

    left_children: list[int]
    right_children: list[int]
    split_indices: list[int]
    split_conditions: list[float]
    split_type: list[int] = []


class _Model(msgspec.Struct):
    trees: list[Tree]
    tree_info: list[int]


class _Booster(msgspec.Struct):
    name: str
    model: _Model


class _Parameters(msgspec.Struct):
    base_score: str
    num_class: str
    num_feature: str


class _Objective(msgspec.Struct):
    name: str


class _Learner(msgspec.Struct):
    gradient_booster: _Booster
    learner_model_param: _Parameters
    objective: _Objective


class _File(msgspec.Struct):
    learner: _Learner


@dataclass(frozen=True, slots=True)
class BoostedTrees:
    """A sum of trees: column `columns[i]` of `outputs` gets the values of tree i; `base` is added."""

    trees: list[Tree]
    columns: list[int]
    outputs: int
    features: int
    base: list[float]
    link: str


def read(text: str | bytes) -> BoostedTrees:
    """Return the model of a file.

    Raises:
      UsageError: it is no such file, or holds what is not taken.
    """
    try:
        learner = msgspec.json.decode(text, type=_File).learner
        parameters = learner.learner_model_param
        features, classes = int(parameters.num_feature), int(parameters.num_class)
        scores = [float(part) for part in parameters.base_score.strip("[]").split(",")]
    except (msgspec.MsgspecError, ValueError) as error:
        raise UsageError(
            f"expected a model that XGBoost has saved as JSON: {printable(str(error))}"
        ) from None
    booster, objective = learner.gradient_booster, learner.objective.name
    link = _LINKS.get(objective)
    if booster.name != "gbtree" or link is None:
        raise UsageError(
            f"expected the booster gbtree and an objective among {', '.join(_LINKS)}, got {printable(booster.name)} and "
            f"{printable(objective)}"
        )
    trees, columns = booster.model.trees, booster.model.tree_info
    outputs = classes if link == "softmax" else 1
    fits = len(trees) == len(columns) > 0 and len(scores) in (1, outputs) and outputs > 0
    if (
        not fits
        or not all(0 <= c < outputs for c in columns)
        or not all(_is_tree(t, features) for t in trees)
    ):
        raise UsageError("expected trees of XGBoost with numeric splits of its features, got others")
    return BoostedTrees(trees, columns, outputs, features, _margins(scores, outputs, link), link)


def _margins(scores: list[float], outputs: int, link: str) -> list[float]:
    """Return what is added to sums of trees: files have it as a prediction."""
    every = scores if len(scores) == outputs else scores * outputs
    if link == "logistic" and all(0 < s < 1 for s in every):
        return [math.log(s / (1 - s)) for s in every]
    if link == "exp" and all(s > 0 for s in every):
        return [math.log(s) for s in every]
    if link in ("logistic", "exp") or not all(map(math.isfinite, every)):
        raise UsageError("expected a base score that the objective allows, got another")
    return every


def _is_tree(tree: Tree, features: int) -> bool:
    """Return whether the nodes are a tree with splits of these features; nodes may be left over, as pruning leaves them."""
    n = len(tree.left_children)
    same = n == len(tree.right_children) == len(tree.split_indices) == len(tree.split_conditions)
    if (
        not same
        or n == 0
        or any(tree.split_type)
        or not all(abs(c) < _LARGEST for c in tree.split_conditions)
    ):
        return False
    pairs = zip(tree.left_children, tree.split_indices, strict=True)
    if not all(left == -1 or 0 <= feature < features for left, feature in pairs):
        return False
    todo, reached = [0], 0
    while todo:
        node, reached = todo.pop(), reached + 1
        left, right = tree.left_children[node], tree.right_children[node]
        if left == right == -1:
            continue
        if not (0 < left < n and 0 < right < n) or reached > n:
            return False
        todo += [left, right]
    return reached <= n
