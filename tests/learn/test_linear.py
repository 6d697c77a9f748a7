"""Linear models on shares have the coefficients that scikit-learn finds in the clear."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import datasets, linear_model

from clear import run_clear
from secagg import learn, mpc
from secagg.errors import RangeError, ShapeError, UsageError
from secagg.learn.estimator import MOST_ROWS, table
from secagg.network.simulated import simulate

X, Y = datasets.load_diabetes(return_X_y=True, scaled=False)
X = np.rint(X * 2.0**16) / 2.0**16  # as it is shared
PLAIN: Any = X[:12, :2]


def opened(program, *tables):
    """Return what `program(engine, *shared)` returns, in the clear."""

    async def start(primitives):
        engine = mpc.Engine(primitives)
        shared = [learn.share_features(engine, t, owner="ada", shape=t.shape) for t in tables]
        return await engine.open(*program(engine, *shared))

    return run_clear(start)


def standard_errors(x, y):
    """Return the textbook's standard errors of least squares, without the intercept's."""
    design = np.column_stack([np.ones(len(x)), x])
    residuals = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    variance = residuals @ residuals / (len(x) - design.shape[1])
    return np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))[1:]


@pytest.mark.slow
def test_least_squares_on_rows_and_columns_of_three_parties_is_scikit_learn_s():
    model = learn.LinearRegression()

    def program(engine, a, b, c, y):
        x = mpc.concat([mpc.concat([a, b]), c], axis=1)  # two owners of rows, one of columns
        model.fit(x, y)
        return model.coef_, model.intercept_, model.rank_, model.std_errors_, model.predict(x)

    coef, intercept, rank, errors, predicted = opened(program, X[:200, :6], X[200:, :6], X[:, 6:], Y)
    expected = linear_model.LinearRegression().fit(X, Y)
    kappa = np.linalg.cond(np.corrcoef(X.T))
    units = Y.std() / X.std(0)
    bound = 2.0**-18 * kappa * units + 2.0**-19 * (1 + np.abs(expected.coef_) / units)
    assert (np.abs(coef - expected.coef_) <= bound).all()
    assert abs(intercept - expected.intercept_) <= bound @ np.abs(X.mean(0))
    assert rank == 10
    assert np.allclose(errors, standard_errors(X, Y), rtol=2.0**-15, atol=2.0**-18)
    assert np.allclose(predicted, expected.predict(X), rtol=0, atol=2.0**-9)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.0, 0.5, 300.0, 1e7])
def test_ridge_is_scikit_learn_s_in_whatever_units_the_features_are(alpha):
    x = X[:, :4] * [1, 0.1, 2, 5]
    x, model = np.rint(x * 2.0**16) / 2.0**16, learn.Ridge(alpha)

    def program(engine, shared, y):
        model.fit(shared, y)
        return model.coef_, model.intercept_

    coef, intercept = opened(program, x, Y)
    expected = linear_model.Ridge(alpha).fit(x, Y)
    units = Y.std() / x.std(0)
    bound = 2.0**-18 * np.linalg.cond(np.corrcoef(x.T)) * units + 2.0**-18
    assert (np.abs(coef - expected.coef_) <= bound).all()
    assert abs(intercept - expected.intercept_) <= bound @ np.abs(x.mean(0))


@pytest.mark.slow
def test_a_feature_that_others_determine_gets_coefficient_0_and_is_not_counted():
    x = np.column_stack([X[:60, :2], X[:60, 0] * 2, np.full(60, 7.0)])
    model = learn.LinearRegression()

    def program(engine, shared, y):
        model.fit(shared, y)
        return model.coef_, model.rank_

    coef, rank = opened(program, x, Y[:60])
    assert rank == 2
    assert (coef[2:] == 0).all()
    assert np.allclose(
        coef[:2], linear_model.LinearRegression().fit(x[:, :2], Y[:60]).coef_, rtol=0, atol=2.0**-12
    )


def test_parameters_are_kept_and_nothing_is_learned_before_fit():
    model = learn.Ridge(alpha=2.0)
    assert model.get_params() == {"alpha": 2.0}
    assert repr(model) == "Ridge(alpha=2.0)"
    with pytest.raises(UsageError, match="call fit"):
        opened(lambda engine, x: [model.predict(x)], X[:3])
    with pytest.raises(UsageError, match="call fit"):
        _ = model.coef_
    assert not hasattr(model, "coef_")
    assert not hasattr(model, "alfa")


@pytest.mark.parametrize("alpha", [1e5, 1e9])
def test_penalties_far_stronger_than_the_data_leave_the_bound_as_it_is(alpha):
    x, y = np.column_stack([X[:12, :2], np.full(12, 3.0)]), Y[:12]
    (coef,) = opened(lambda engine, x, y: [learn.Ridge(alpha).fit(x, y).coef_], x, y)
    expected = linear_model.Ridge(alpha).fit(x, y).coef_
    units = y.std() / np.sqrt(x.var(0) + alpha / 12)
    assert (np.abs(coef - expected) <= 2.0**-18 * units + 2.0**-19).all()


@pytest.mark.parametrize(
    ("fit", "error", "message"),
    [
        (lambda x, y: learn.Ridge(-1).fit(x, y), UsageError, "at least 0 for alpha"),
        (lambda x, y: learn.Ridge(12 * 2.0**32).fit(x, y), UsageError, "below 2\\*\\*32 times the 12 rows"),
        (lambda x, y: learn.Ridge().fit(x, y[1:]), ShapeError, "target for each of 12 rows"),
        (lambda x, y: learn.Ridge().fit(x[:3], y[:3]), ShapeError, "more than 3 rows"),
        (lambda x, y: learn.Ridge().fit(PLAIN, y), UsageError, "share_features"),
        (lambda x, y: learn.Ridge().fit(y, y), ShapeError, r"shape \(rows, columns\)"),
        (lambda x, y: learn.Ridge().fit(x.astype(mpc.fixed(20)), y), UsageError, "8 to 16 fractional"),
        (lambda x, y: learn.Ridge().fit(x, y).predict(x[:, :1]), ShapeError, r"\(rows, 2\)"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_computed(fit, error, message):
    with pytest.raises(error, match=message):
        opened(lambda engine, x, y: [fit(x, y)], X[:12, :2], Y[:12])


@pytest.mark.parametrize(("rows", "fits"), [(3, False), (4, True), (9, True), (10, False)])
def test_tables_have_more_rows_than_unknowns_and_no_more_than_planned(rows, fits):
    async def program(primitives):
        engine = mpc.Engine(primitives)
        x, y = engine.public(np.ones((rows, 2))), engine.public(np.ones(rows))
        if fits:
            return table(x, y, 9).shape
        with pytest.raises(ShapeError, match="more than 3 rows for 2 features, and at most 9"):
            table(x, y, 9)
        return None

    run_clear(program)
    assert MOST_ROWS == 2**20 - 1


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (2.0**13 + 2.0**-10, "not within"),
        (-np.inf, "not within"),
        (np.nan, "missing"),
        ("7", "no number"),
    ],
)
def test_an_owner_whose_features_are_out_of_range_is_told_before_it_shares_them(bad, what):
    table = np.array([[1.0, 2.0], [3, bad]], object if isinstance(bad, str) else float)
    with pytest.raises(RangeError, match=rf"within 8192 of zero at ada; row 1, column 1 is {what}"):
        opened(lambda engine, x: [x], table)


@pytest.mark.slow
def test_three_parties_fit_least_squares():
    x, y = X[:30, :2], Y[:30]
    parts = {"ada": x[:10], "bob": x[10:20], "cleo": x[20:]}

    async def program(party):
        engine = await mpc.Engine.create(party)
        shared = [
            learn.share_features(engine, part if party.me == name else None, owner=name, shape=(10, 2))
            for name, part in parts.items()
        ]
        targets = learn.share_features(engine, y if party.me == "bob" else None, owner="bob", shape=30)
        model = learn.LinearRegression().fit(mpc.concat(shared), targets)
        return await engine.open(model.coef_, model.std_errors_)

    for coef, errors in simulate(dict.fromkeys(parts, program)).values():
        assert np.allclose(coef, linear_model.LinearRegression().fit(x, y).coef_, rtol=0, atol=2.0**-11)
        assert np.allclose(errors, standard_errors(x, y), rtol=2.0**-13, atol=0)
