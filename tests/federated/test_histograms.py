"""Boosting on sums of clients' histograms splits as boosting on the pooled rows does, under any protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import secagg
from secagg.errors import RangeError, ShapeError, UsageError
from secagg.federated.boosting import BoostingSettings, boost, to_bins
from secagg.federated.histograms import Histogram, HistogramBounds, local_histogram

RNG = np.random.default_rng(8)
X = RNG.normal(size=(600, 5))
LOGIT = 2 * X[:, 0] - X[:, 1] ** 2 + X[:, 2] * (X[:, 3] > 0)
Y = RNG.uniform(size=600) < 1 / (1 + np.exp(-LOGIT))
CUTS = [np.linspace(-2, 2, 15)] * 5
CLIENTS = {f"c{i}": (X[i::4], Y[i::4]) for i in range(4)}
BOUNDS = HistogramBounds(max_rows=200)
SETTINGS = BoostingSettings(rounds=4, depth=3)
PROTOCOLS: list[Any] = [secagg.Masked(), "additive", secagg.Rlwe(key_holders=1)]


def plain(parts: Any) -> Any:
    return {key: sum(part[key] for part in parts.values()) for key in ("gradients", "hessians", "rows")}


def splits(model: Any) -> list[list[int]]:
    return [[*tree.feature.tolist(), *tree.bin.tolist()] for tree in model.trees]


POOLED = boost({"all": (X, Y)}, CUTS, plain, HistogramBounds(600, precision=1e-12), SETTINGS)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["masked", "additive", "rlwe"])
def test_splits_under_a_protocol_are_those_of_the_pooled_rows(protocol: Any) -> None:
    calls = []

    def add_up(parts: Any) -> Any:
        result = secagg.sum(parts, clip=BOUNDS.clip, protocol=protocol)
        assert result.report.error == 0  # of integers
        assert not any(result.report.clipped.values())
        calls.append(result)
        return result.value

    model = boost(CLIENTS, CUTS, add_up, BOUNDS, BoostingSettings(rounds=2, depth=3))
    assert splits(model) == splits(POOLED)[:2]
    for tree, other in zip(model.trees, POOLED.trees, strict=False):
        # Of sums to 4e-6 over a hessian of 1 and more.
        assert tree.weight == pytest.approx(other.weight, abs=1e-5)
    assert len(calls) == 2 * 4  # a sum for each depth of each tree


def test_trees_are_those_of_xgboost() -> None:
    # xgboost 3.2.0 on the bins as features: tree_method="hist", eta=0.3, max_depth=3, base_score=0.5, 4 rounds. Nodes in
    # breadth-first order: feature and bin, or the weight of a leaf.
    trees = json.loads((Path(__file__).parent / "xgboost-trees.json").read_text())
    assert len(trees) == len(POOLED.trees)
    for theirs, ours in zip(trees, POOLED.trees, strict=True):
        for node, feature, cut, weight in zip(theirs, ours.feature, ours.bin, ours.weight, strict=True):
            if isinstance(node, list):
                assert [feature, cut] == node
            else:
                assert feature == -1
                assert weight == pytest.approx(node or 0.0, abs=1e-5)


def test_a_model_separates_what_it_was_trained_on() -> None:
    model = boost(CLIENTS, CUTS, plain, BOUNDS, SETTINGS)
    assert splits(model) == splits(POOLED)
    assert np.mean((model.scores(X) > 0) == Y) > 0.78
    assert np.mean(max(Y.mean(), 1 - Y.mean())) < 0.7


def test_a_tree_of_squared_errors_is_the_best_stump_by_hand() -> None:
    settings = BoostingSettings(rounds=1, depth=1, objective="squared", learning_rate=1.0, l2=1e-9)
    labels = X[:, 1] * 3
    clients = {"a": (X[:300], labels[:300]), "b": (X[300:], labels[300:])}
    model = boost(clients, CUTS, plain, HistogramBounds(300, 20.0, 1.0), settings)
    binned, best = to_bins(X, CUTS), (np.inf, 0, 0)
    for feature in range(5):
        for cut in range(15):
            left = binned[:, feature] <= cut
            if left.all() or not left.any():
                continue
            loss = sum(((part - part.mean()) ** 2).sum() for part in (labels[left], labels[~left]))
            best = min(best, (float(loss), feature, cut))
    (tree,) = model.trees
    assert (tree.feature[0], tree.bin[0]) == best[1:]
    left = binned[:, best[1]] <= best[2]
    assert tree.weight[1:] == pytest.approx([labels[left].mean(), labels[~left].mean()], abs=1e-6)


@pytest.mark.parametrize("precision", [1e-6, 1e-3, 0.3])
def test_sums_are_within_the_precision_of_each_client(precision: float) -> None:
    bounds = HistogramBounds(200, precision=precision)
    parts, exact = {}, []
    for name, (x, y) in CLIENTS.items():
        node = RNG.integers(-1, 2, len(x))
        found = local_histogram(to_bins(x, CUTS), y - 0.3, np.full(len(x), 0.21), node, nodes=2, bins=16)
        assert found.rows.sum() == 5 * np.count_nonzero(node >= 0)
        assert found.gradients[0, 1].sum() == pytest.approx((y - 0.3)[node == 0].sum())
        parts[name] = bounds.encode(found)
        exact.append(found)
        for key, most in bounds.clip.items():
            assert np.max(np.abs(parts[name][key])) <= most
    total = bounds.decode(plain(parts), 4)
    for key in ("gradients", "hessians"):
        off = np.abs(getattr(total, key) - sum(getattr(one, key) for one in exact))
        assert 0 < np.max(off) <= 4 * precision
    assert np.array_equal(total.rows, sum(one.rows for one in exact))


def test_what_is_beyond_the_bounds_is_refused_and_not_cut() -> None:
    ones = np.ones((1, 1, 2))
    with pytest.raises(RangeError, match="sums of gradients"):
        BOUNDS.encode(Histogram(300 * ones, ones, ones))
    with pytest.raises(RangeError, match="sums of rows"):
        BOUNDS.encode(Histogram(ones, ones, 300 * ones))
    with pytest.raises(RangeError, match="sums of hessians"):
        BOUNDS.encode(Histogram(ones, np.nan * ones, ones))
    with pytest.raises(ShapeError, match="one shape"):
        BOUNDS.encode(Histogram(ones, ones, np.ones(2)))
    total = {key: np.array([5 * int(most)]) for key, most in BOUNDS.clip.items()}
    with pytest.raises(RangeError, match="of 4 clients"):
        BOUNDS.decode(total, 4)
    BOUNDS.decode(total, 5)
    with pytest.raises(RangeError, match="nothing was counted"):
        local_histogram(np.array([[16]]), [0.1], [0.1], np.array([0]), nodes=1, bins=16)
    with pytest.raises(ShapeError):
        local_histogram(np.array([[1]]), [0.1, 0.2], [0.1], np.array([0]), nodes=1, bins=16)
    given: dict[str, Any]
    for given in ({"max_rows": 0}, {"precision": 0.0}, {"max_gradient": np.inf}, {"precision": 1e-15}):
        with pytest.raises(UsageError):
            HistogramBounds(**dict[str, Any]({"max_rows": 200, **given}))
    for given in ({"rounds": 0}, {"depth": 17}, {"l2": 0.0}, {"objective": "other"}):
        with pytest.raises(UsageError):
            BoostingSettings(**given)
