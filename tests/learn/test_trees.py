"""Public trees and forests give on shared features what they give in scikit-learn."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets, ensemble, linear_model, tree

from clear import run_clear
from secagg import learn, mpc
from secagg.errors import RangeError, ShapeError, UsageError
from secagg.network.simulated import simulate

IRIS, KINDS = datasets.load_iris(return_X_y=True)
IRIS = np.rint(IRIS * 2.0**16) / 2.0**16
# Three rounds of trees of depth 2 by XGBoost 3.2.0 on the first three columns, and what it predicts for every tenth row.
BOOSTED = json.loads((Path(__file__).parent / "xgboost-models.json").read_text("utf-8"))


def opened(program, x):
    async def start(primitives):
        engine = mpc.Engine(primitives)
        return await engine.open(*program(learn.share_features(engine, x, owner="ada", shape=x.shape)))

    return run_clear(start)


@pytest.mark.parametrize(
    "model",
    [
        tree.DecisionTreeClassifier(random_state=0),
        tree.DecisionTreeClassifier(max_depth=1, random_state=0),
        ensemble.RandomForestClassifier(4, max_depth=4, random_state=0),
    ],
    ids=["tree", "stump", "forest"],
)
def test_classifiers_find_scikit_learn_s_classes_and_probabilities(model):
    model.fit(IRIS, KINDS)
    shared = learn.TreeEnsemble.from_sklearn(model)
    classes, chances = opened(lambda x: (shared.predict(x), shared.predict_proba(x)), IRIS)
    assert np.allclose(chances, model.predict_proba(IRIS), rtol=0, atol=2.0**-17)
    sure = np.abs(np.diff(np.sort(model.predict_proba(IRIS), axis=1)[:, -2:], axis=1))[:, 0] > 2.0**-16
    assert (model.classes_[classes] == model.predict(IRIS))[sure].all()
    assert sure.any()


def test_regressors_find_scikit_learn_s_numbers_also_where_a_tree_is_one_leaf():
    y = IRIS[:, 3] * 100 - 50
    for model in (
        ensemble.ExtraTreesRegressor(3, max_depth=5, random_state=0).fit(IRIS[:, :3], y),
        tree.DecisionTreeRegressor().fit(IRIS[:, :3], np.full(150, -2.5)),
    ):
        shared = learn.TreeEnsemble.from_sklearn(model)
        (predicted,) = opened(lambda x, shared=shared: [shared.predict(x)], IRIS[:, :3])
        assert np.allclose(predicted, model.predict(IRIS[:, :3]), rtol=0, atol=2.0**-15)


def test_a_feature_on_a_threshold_goes_left_and_one_unit_above_it_right():
    model = tree.DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1])  # which splits at 0.5
    shared = learn.TreeEnsemble.from_sklearn(model)
    (classes,) = opened(lambda x: [shared.predict(x)], np.array([[0.5], [0.5 + 2.0**-16]]))
    assert list(classes) == [0, 1]


@pytest.mark.parametrize(
    "model",
    [
        linear_model.LinearRegression().fit(IRIS, KINDS),
        ensemble.GradientBoostingClassifier(n_estimators=1).fit(IRIS, KINDS),
        ensemble.AdaBoostClassifier(n_estimators=2).fit(IRIS, KINDS),
        tree.DecisionTreeClassifier(),
        tree.DecisionTreeRegressor().fit(IRIS, IRIS[:, :2]),
    ],
    ids=["linear", "boosted", "weighted", "not fitted", "two outputs"],
)
def test_models_that_are_no_mean_of_fitted_trees_are_refused(model):
    with pytest.raises(UsageError, match=r"fitted decision tree|one output"):
        learn.TreeEnsemble.from_sklearn(model)


def test_leaf_values_are_right_up_to_the_bound_of_their_sum_and_refused_from_there_on():
    largest = np.nextafter(2.0**21, 0)
    x = np.array([[0.0], [1.0]])
    fits = learn.TreeEnsemble.from_sklearn(tree.DecisionTreeRegressor().fit(x, [-largest, largest]))
    (predicted,) = opened(lambda x: [fits.predict(x)], x)
    assert np.allclose(predicted, [-largest, largest], rtol=0, atol=2.0**-19)
    with pytest.raises(RangeError, match=r"less than 2\*\*21 .* got up to 2\.09715e\+06"):
        learn.TreeEnsemble.from_sklearn(tree.DecisionTreeRegressor().fit(x, [0, -(2.0**21)]))


def test_leaf_values_of_xgboost_that_fit_alone_and_not_together_are_refused():
    model = json.loads(json.dumps(BOOSTED["reg:squarederror"]["model"]))
    for each in model["learner"]["gradient_booster"]["model"]["trees"]:
        leaves = [i for i, left in enumerate(each["left_children"]) if left == -1]
        each["split_conditions"][leaves[-1]] = 2.0**20
    with pytest.raises(RangeError, match="over all trees"):
        learn.TreeEnsemble.from_xgboost(json.dumps(model))


@pytest.mark.parametrize("objective", BOOSTED)
def test_models_of_xgboost_predict_what_xgboost_predicts(objective):
    model = learn.TreeEnsemble.from_xgboost(json.dumps(BOOSTED[objective]["model"]))
    expected = np.array(BOOSTED[objective]["predicted"])
    classifies = model.classes_ is not None
    got = opened(
        lambda x: (model.predict(x), model.predict_proba(x)) if classifies else [model.predict(x)],
        IRIS[::10, :3],
    )
    if expected.ndim == 1 and classifies:
        expected = np.column_stack([1 - expected, expected])
    assert np.allclose(got[-1], expected, rtol=2.0**-18, atol=2.0**-17)
    if classifies:
        assert (got[0] == expected.argmax(axis=1)).all()


# Every node is its own grandchild.
CYCLE = {
    "left_children": [1] * 7,
    "right_children": [2] * 7,
    "split_indices": [0] * 7,
    "split_conditions": [1.0] * 7,
}


def altered(change):
    model = json.loads(json.dumps(BOOSTED["binary:logistic"]["model"]))
    change(model["learner"])
    return json.dumps(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["objective"].update(name="rank:pairwise\x1b"), r"rank:pairwise\\x1b"),
        (lambda m: m["gradient_booster"].update(name="dart"), "gbtree"),
        (lambda m: m["learner_model_param"].update(base_score="[1E0]"), "base score"),
        (lambda m: m["learner_model_param"].update(num_feature="many"), "saved as JSON"),
        (lambda m: m["learner_model_param"].update(num_feature="1"), "numeric splits"),
        (lambda m: m["gradient_booster"]["model"]["tree_info"].pop(), "numeric splits"),
        (lambda m: m["gradient_booster"]["model"]["trees"][0]["right_children"].__setitem__(0, 0), "splits"),
        (lambda m: m["gradient_booster"]["model"]["trees"][0]["left_children"].__setitem__(1, 1), "splits"),
        (lambda m: m["gradient_booster"]["model"]["trees"][0]["left_children"].pop(), "numeric splits"),
        (lambda m: m["gradient_booster"]["model"]["trees"][0].update(CYCLE), "numeric splits"),
        (lambda m: m["gradient_booster"]["model"]["trees"][0]["split_type"].__setitem__(0, 1), "numeric"),
        (lambda m: m["gradient_booster"]["model"]["trees"][0]["split_conditions"].__setitem__(0, 1e300), "s"),
        (lambda m: m["gradient_booster"]["model"]["trees"][0]["split_indices"].__setitem__(0, -1), "numeric"),
        (lambda m: m["gradient_booster"]["model"]["tree_info"].__setitem__(0, 1), "numeric splits"),
        (lambda m: m.pop("objective"), "saved as JSON"),
    ],
)
def test_a_file_that_is_no_model_of_trees_that_are_understood_is_refused(change, message):
    with pytest.raises(UsageError, match=message):
        learn.TreeEnsemble.from_xgboost(altered(change))


def test_features_of_another_number_and_probabilities_of_a_regressor_are_refused():
    regressor = learn.TreeEnsemble.from_sklearn(tree.DecisionTreeRegressor().fit(IRIS, KINDS))
    with pytest.raises(ShapeError, match=r"\(rows, 4\)"):
        opened(lambda x: [regressor.predict(x)], IRIS[:, :3])
    with pytest.raises(UsageError, match="use predict"):
        opened(lambda x: [regressor.predict_proba(x)], IRIS)


def shared_model(model, x):
    """Return what a shared model predicts, and the names of what is learned of it."""

    async def start(primitives):
        engine = mpc.Engine(primitives)
        rows = learn.share_features(engine, x, owner="ada", shape=x.shape)
        shape = dataclasses.replace(learn.shape_of(model), trees=len(model.trees) + 1)
        shared = learn.share_trees(engine, model, owner="ada", shape=shape)
        opened = [shared.predict(rows)]
        return await engine.open(*opened, *([shared.predict_proba(rows)] if shape.classifies else []))

    return run_clear(start)


@pytest.mark.parametrize("objective", ["binary:logistic", "multi:softprob", "count:poisson"])
def test_shared_models_of_xgboost_predict_what_public_ones_predict(objective):
    model = learn.TreeEnsemble.from_xgboost(json.dumps(BOOSTED[objective]["model"]))
    expected = np.array(BOOSTED[objective]["predicted"])
    got = shared_model(model, IRIS[::10, :3])[-1]
    if expected.ndim == 1 and model.classes_ is not None:
        expected = np.column_stack([1 - expected, expected])
    assert np.allclose(got, expected, rtol=2.0**-18, atol=2.0**-17)


def test_shared_trees_that_are_not_complete_send_rows_on_a_threshold_the_way_that_public_ones_do():
    rows = np.array([[0.5], [0.5 + 2.0**-16], [1.5], [1.5 + 2.0**-16]])
    fitted = tree.DecisionTreeRegressor().fit(
        [[0.0], [1.0], [2.0]], [3.0, -1.0, 7.0]
    )  # splits at 0.5 and 1.5
    model = learn.TreeEnsemble.from_sklearn(fitted)
    assert list(shared_model(model, rows)[0]) == [3, -1, -1, 7]
    strict = dataclasses.replace(model, strict=True)
    assert list(shared_model(strict, rows)[0]) == [-1, -1, 7, 7]


def test_a_model_that_does_not_fit_the_shape_agreed_on_is_refused():
    model = learn.TreeEnsemble.from_sklearn(tree.DecisionTreeClassifier(max_depth=2).fit(IRIS, KINDS))
    least = learn.shape_of(model)
    for other in ({"depth": 1}, {"features": 3}, {"outputs": 2}, {"classifies": False}, {"link": "softmax"}):

        async def start(primitives, other=other):
            shape = dataclasses.replace(least, **other)
            learn.share_trees(mpc.Engine(primitives), model, owner="ada", shape=shape)

        with pytest.raises(ShapeError, match="the model of ada does not fit"):
            run_clear(start)
    with pytest.raises(UsageError, match="depth 12 at most"):
        learn.EnsembleShape(1, 13, 1)


def test_three_parties_use_a_tree_that_only_its_owner_knows():
    fitted = tree.DecisionTreeClassifier(max_depth=2, random_state=0).fit(IRIS, KINDS)
    model, rows = learn.TreeEnsemble.from_sklearn(fitted), IRIS[::30]

    async def program(party):
        engine = await mpc.Engine.create(party)
        x = learn.share_features(engine, rows if party.me == "bob" else None, owner="bob", shape=rows.shape)
        shape = learn.EnsembleShape(trees=1, depth=2, features=4, outputs=3, classifies=True)
        shared = learn.share_trees(engine, model if party.me == "ada" else None, owner="ada", shape=shape)
        return await shared.predict(x).open(to="bob")

    values = simulate(dict.fromkeys(("ada", "bob", "cleo"), program)).results
    assert values["ada"] is values["cleo"] is None
    assert (values["bob"] == fitted.predict(rows)).all()


def test_three_parties_classify_rows_of_one_of_them():
    model = tree.DecisionTreeClassifier(max_depth=3, random_state=0).fit(IRIS, KINDS)
    shared, rows = learn.TreeEnsemble.from_sklearn(model), IRIS[::15]

    async def program(party):
        engine = await mpc.Engine.create(party)
        x = learn.share_features(engine, rows if party.me == "bob" else None, owner="bob", shape=rows.shape)
        return await shared.predict(x).open(to="bob")

    values = simulate(dict.fromkeys(("ada", "bob", "cleo"), program)).results
    assert values["ada"] is None
    assert (values["bob"] == model.predict(rows)).all()
