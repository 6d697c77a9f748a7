"""Logistic and Poisson regression on shares have the coefficients that scikit-learn finds in the clear."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import datasets, linear_model

from clear import run_clear
from secagg import learn, mpc
from secagg.errors import UsageError
from secagg.network.simulated import simulate

CANCER, MALIGNANT = datasets.load_breast_cancer(return_X_y=True)
SOME = np.rint(CANCER[:, [1, 4, 6, 21, 27]] / CANCER[:, [1, 4, 6, 21, 27]].std(0) * 2.0**16) / 2.0**16
LABELS = MALIGNANT == 1


def opened(program, x, y):
    """Return what `program(engine, x, y)` returns, in the clear; y keeps its kind."""

    async def start(primitives):
        engine = mpc.Engine(primitives)
        shared = learn.share_features(engine, x, owner="ada", shape=x.shape)
        targets = engine.share(y, owner="ada", shape=y.shape, dtype=y.dtype)
        return await engine.open(*program(shared, targets))

    return run_clear(start)


def optimum(x, weights, penalty):
    """Return the standard errors without the intercept's, and the smallest eigenvalue of the standardised problem."""
    design = np.column_stack([np.ones(len(x)), x])
    standard = np.column_stack([np.ones(len(x)), (x - x.mean(0)) / x.std(0)])
    plain = np.diag([0] + [penalty] * x.shape[1])
    scaled = np.diag([0, *(penalty / x.var(0))])
    information = design.T @ (weights[:, None] * design) + plain
    values = np.linalg.eigvalsh(standard.T @ (weights[:, None] * standard) + scaled)
    return np.sqrt(np.diag(np.linalg.inv(information)))[1:], values[0] / len(x)


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [1.0, 0.0])
def test_newton_s_method_finds_scikit_learn_s_coefficients_on_breast_cancer(penalty):
    model = learn.LogisticRegression(C=1 / penalty if penalty else math.inf)

    def program(x, y):
        model.fit(x, y)
        return (
            *(model.coef_, model.intercept_, model.last_step_, model.std_errors_),
            *(model.predict(x[:80]), model.predict_proba(x[:80]), model.decision_function(x[:80])),
        )

    coef, intercept, last, errors, classes, chances, odds = opened(program, SOME, LABELS)
    expected = linear_model.LogisticRegression(C=model.C, tol=1e-10, max_iter=10**4).fit(SOME, LABELS)
    p = expected.predict_proba(SOME)[:, 1]
    true_errors, least = optimum(SOME, p * (1 - p), penalty)
    assert np.abs((coef - expected.coef_[0]) * SOME.std(0)).max() <= 2.0**-18 / least
    assert (
        abs(intercept - expected.intercept_[0]) <= 2.0**-18 / least * np.abs(SOME.mean(0) / SOME.std(0)).sum()
    )
    assert last < 2.0**-12
    assert np.allclose(errors, true_errors, rtol=2.0**-9, atol=0)
    assert np.mean(((SOME @ coef + intercept) > 0) == LABELS) >= expected.score(SOME, LABELS) - 0.005
    assert (classes == (odds > 0)).all()
    assert np.allclose(chances, expected.predict_proba(SOME[:80]), rtol=0, atol=2.0**-9)


@pytest.mark.slow
def test_mini_batches_classify_breast_cancer_as_well_as_scikit_learn_within_half_a_percent():
    model = learn.LogisticRegression(solver="gradient", max_iter=6, batch_size=100, learning_rate=1.0)
    coef, intercept = opened(lambda x, y: (model.fit(x, y).coef_, model.intercept_), SOME, LABELS)
    expected = linear_model.LogisticRegression().fit(SOME, LABELS)
    assert np.mean(((SOME @ coef + intercept) > 0) == LABELS) >= expected.score(SOME, LABELS) - 0.005


@pytest.mark.slow
def test_mini_batches_come_to_the_optimum_with_the_penalty_in_the_features_units():
    made_up = np.random.default_rng(3)
    x = np.rint(made_up.normal(size=(96, 2)) * [0.5, 4] * 2.0**16) / 2.0**16
    y = made_up.random(96) < 1 / (1 + np.exp(-x @ [2, 0.2]))
    model = learn.LogisticRegression(0.1, solver="gradient", max_iter=40, batch_size=96, learning_rate=2.0)
    coef, last = opened(lambda x, y: (model.fit(x, y).coef_, model.last_step_), x, y)
    expected = linear_model.LogisticRegression(C=0.1, tol=1e-10).fit(x, y)
    assert np.allclose(coef, expected.coef_[0], rtol=0, atol=2.0**-10)
    assert last < 2.0**-12


@pytest.mark.slow
def test_classes_that_a_feature_separates_end_in_a_last_step_that_says_so():
    x = np.linspace(-1, 1, 20).reshape(-1, 1)
    model = learn.LogisticRegression(math.inf, max_iter=16)
    coef, last = opened(lambda x, y: (model.fit(x, y).coef_, model.last_step_), x, x[:, 0] > 0.03)
    assert 0 < coef[0] <= 4 * 16 / x.std()
    assert last > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_poisson_regression_finds_scikit_learn_s_coefficients(alpha):
    made_up = np.random.default_rng(0)
    x = made_up.normal(size=(200, 3)) * [1, 10, 0.1] + [5, 0, 0]
    x = np.rint(x * 2.0**16) / 2.0**16
    y = made_up.poisson(np.exp(1 + x @ [0.3, 0.05, -2]))
    model = learn.PoissonRegressor(alpha, max_iter=6)

    def program(x, y):
        model.fit(x, y)
        return model.coef_, model.intercept_, model.last_step_, model.std_errors_, model.predict(x[:20])

    coef, intercept, last, errors, predicted = opened(program, x, y)
    expected = linear_model.PoissonRegressor(alpha=alpha, tol=1e-10, max_iter=10**4).fit(x, y)
    means = expected.predict(x)
    true_errors, least = optimum(x, means, alpha * len(x))
    bound = 2.0**-14 / least * y.mean()
    assert np.abs((coef - expected.coef_) * x.std(0)).max() <= bound
    assert abs(intercept - expected.intercept_) <= bound * np.abs(x.mean(0) / x.std(0)).sum()
    assert last < 2.0**-12
    assert np.allclose(errors, true_errors, rtol=2.0**-9, atol=0)
    assert np.allclose(predicted, means[:20], rtol=2.0**-9, atol=0)


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        (lambda x, y: learn.LogisticRegression(0).fit(x, y > 0), "above 0 for C"),
        (lambda x, y: learn.LogisticRegression(-math.inf).fit(x, y > 0), "above 0 for C"),
        (lambda x, y: learn.LogisticRegression(solver="lbfgs").fit(x, y > 0), "lbfgs"),
        (lambda x, y: learn.LogisticRegression(max_iter=0).fit(x, y > 0), "at least 1 for max_iter"),
        (lambda x, y: learn.LogisticRegression().fit(x, y), r"bools.*\(y == 1\)"),
        (lambda x, y: learn.LogisticRegression(solver="gradient", batch_size=0).fit(x, y > 0), "batch_size"),
        (lambda x, y: learn.PoissonRegressor(alpha=math.nan).fit(x, y), "at least 0 for alpha"),
    ],
)
def test_parameters_without_a_meaning_are_refused_by_fit(fit, message):
    with pytest.raises(UsageError, match=message):
        opened(lambda x, y: [fit(x, y)], SOME[:20], np.arange(20))


UP_TO_2 = datasets.load_digits(n_class=3, return_X_y=True)
PIXELS, DIGITS = UP_TO_2[0][:60, [10, 21, 36]], UP_TO_2[1][:60]


def shared_classes(model, learned, x, y):
    async def start(primitives):
        engine = mpc.Engine(primitives)
        shared = learn.share_features(engine, x, owner="ada", shape=x.shape)
        labels = learn.share_labels(engine, y, owner="ada", rows=len(y), classes=[0, 1, 2])
        return await engine.open(*learned(model.fit(shared, labels), shared))

    return run_clear(start)


@pytest.mark.slow
def test_block_newton_finds_scikit_learn_s_multinomial_coefficients_on_digits():
    model = learn.LogisticRegression(0.05, max_iter=14)
    coef, intercept, last, classes, chances = shared_classes(
        model,
        lambda m, x: (m.coef_, m.intercept_, m.last_step_, m.predict(x[:9]), m.predict_proba(x[:9])),
        PIXELS,
        DIGITS,
    )
    expected = linear_model.LogisticRegression(C=0.05, tol=1e-10, max_iter=10**4).fit(PIXELS, DIGITS)
    _, least = optimum_of_classes(PIXELS, expected.predict_proba(PIXELS), 20)
    assert last < 2.0**-12
    bound = 2.0**-17 / least + last
    assert np.abs((coef - expected.coef_) * PIXELS.std(0)).max() <= bound
    assert np.abs(intercept - expected.intercept_).max() <= bound * (
        1 + (PIXELS.mean(0) / PIXELS.std(0)).sum()
    )
    assert (
        np.mean((PIXELS @ coef.T + intercept).argmax(1) == DIGITS) >= expected.score(PIXELS, DIGITS) - 0.005
    )
    assert (classes == expected.predict(PIXELS[:9])).all()
    assert np.allclose(chances, expected.predict_proba(PIXELS[:9]), rtol=0, atol=2.0**-9)
    with pytest.raises(UsageError, match="learns no std_errors_, but last_step_, coef_"):
        _ = model.std_errors_


def optimum_of_classes(x, p, penalty):
    """Return the Hessian of the standardised problem, a row, and its smallest eigenvalue among what adds up to 0."""
    standard = np.column_stack([np.ones(len(x)), (x - x.mean(0)) / x.std(0)])
    scaled = np.diag([0, *(penalty / x.var(0))])
    classes = range(p.shape[1])
    hessian = np.block(
        [
            [
                standard.T @ ((p[:, i] * ((i == j) - p[:, j]))[:, None] * standard) + (i == j) * scaled
                for j in classes
            ]
            for i in classes
        ]
    ) / len(x)
    return hessian, np.linalg.eigvalsh(hessian)[1]  # the first is that of the intercepts, which add up to 0


@pytest.mark.slow
def test_mini_batches_of_three_classes_come_to_the_optimum():
    model = learn.LogisticRegression(5e-4, solver="gradient", max_iter=24, batch_size=60, learning_rate=0.5)
    (coef,) = shared_classes(model, lambda m, x: [m.coef_], PIXELS[:, :2], DIGITS)
    expected = linear_model.LogisticRegression(C=5e-4, tol=1e-10).fit(PIXELS[:, :2], DIGITS)
    assert np.allclose(coef, expected.coef_, rtol=0, atol=2.0**-10)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (["a", "c", "b"], ["a", "b"], "row 1 is none"),
        (["a"], ["a", "a"], "two different"),
        (["a"], ["a"], "two"),
    ],
)
def test_labels_that_are_no_class_are_refused_by_row(labels, classes, message):
    async def start(primitives):
        engine = mpc.Engine(primitives)
        return learn.share_labels(engine, labels, owner="ada", rows=len(labels), classes=classes)

    with pytest.raises(UsageError, match=message):
        run_clear(start)


@pytest.mark.slow
def test_a_second_fit_forgets_what_the_first_has_learned():
    model = learn.LogisticRegression(max_iter=1)

    def program(x, y):
        first = model.fit(x, y).std_errors_
        model.solver = "gradient"
        model.fit(x, y)
        assert not hasattr(model, "std_errors_")
        return [first[:0]]

    opened(program, SOME[:20, :1], LABELS[:20])


@pytest.mark.slow
def test_a_strong_penalty_leaves_logistic_and_poisson_coefficients_right():
    x, y = SOME[:40, :2], LABELS[:40]
    weak = learn.LogisticRegression(1e-5)
    (coef,) = opened(lambda x, y: [weak.fit(x, y).coef_], x, y)
    assert np.allclose(
        coef, linear_model.LogisticRegression(C=1e-5, tol=1e-12).fit(x, y).coef_[0], rtol=0, atol=2.0**-18
    )
    counts = np.rint(x[:, 0]).astype(np.int64)
    strong = learn.PoissonRegressor(1e4)
    (coef,) = opened(lambda x, y: [strong.fit(x, y).coef_], x, counts)
    assert np.allclose(
        coef, linear_model.PoissonRegressor(alpha=1e4, tol=1e-12).fit(x, counts).coef_, rtol=0, atol=2.0**-14
    )


@pytest.mark.slow
def test_three_parties_fit_a_logistic_regression():
    x, y = SOME[:40, :2], LABELS[:40]

    async def program(party):
        engine = await mpc.Engine.create(party)
        columns = [
            learn.share_features(engine, x[:, [i]] if party.me == name else None, owner=name, shape=(40, 1))
            for i, name in enumerate(("ada", "bob"))
        ]
        labels = engine.share(y if party.me == "cleo" else None, owner="cleo", shape=40, dtype=bool)
        model = learn.LogisticRegression(max_iter=5).fit(mpc.concat(columns, axis=1), labels)
        return await model.coef_.open(to="cleo")

    values = simulate(dict.fromkeys(("ada", "bob", "cleo"), program)).values()
    expected = linear_model.LogisticRegression(tol=1e-10).fit(x, y).coef_[0]
    assert values[0] is values[1] is None
    assert np.allclose(values[2], expected, rtol=0, atol=2.0**-10)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["logistic", "poisson"])
def test_rows_that_do_not_count_change_nothing(kind):
    rng = np.random.default_rng(5)
    x = np.rint(rng.normal(0, 1, (60, 2)) * 2.0**16) / 2.0**16
    counted = np.arange(60) < 48
    rate = np.exp(0.3 + x @ [0.5, -0.4])
    y = rng.poisson(rate) if kind == "poisson" else rng.random(60) < rate / (1 + rate)

    def model():
        if kind == "poisson":
            return learn.PoissonRegressor(alpha=0, max_iter=6)
        return learn.LogisticRegression(C=math.inf, max_iter=6)

    def fitted(rows, weights):
        def program(features, targets):
            given = {} if weights is None else {"sample_weight": targets.engine.public(weights)}
            found = model().fit(features, targets, **given)
            return found.coef_, found.intercept_, found.std_errors_

        return opened(program, x[rows], y[rows])

    all_rows, some = fitted(np.arange(60), counted), fitted(counted, None)
    for found, expected in zip(all_rows, some, strict=True):
        np.testing.assert_allclose(found, expected, atol=2.0**-13)


def test_weights_that_are_no_shared_bools_or_stand_beside_a_penalty_are_refused():
    def program(x, y):
        ones = y.engine.public(np.ones(80))
        with pytest.raises(UsageError, match="expected shared bools as sample_weight"):
            learn.LogisticRegression().fit(x, y, sample_weight=ones)
        with pytest.raises(UsageError, match="alpha=0 beside sample_weight"):
            learn.PoissonRegressor().fit(x, y, sample_weight=y)
        with pytest.raises(UsageError, match='two classes and the solver "newton" alone'):
            learn.LogisticRegression(solver="gradient").fit(x, y, sample_weight=y)
        return (y,)

    opened(program, SOME[:80], LABELS[:80])
