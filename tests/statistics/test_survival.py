"""Survival curves, the log-rank test and Cox's model on shares are those of lifelines and statsmodels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.datasets import load_rossi
from lifelines.statistics import multivariate_logrank_test
from sksurv.datasets import load_gbsg2

from clear import run_clear
from secagg import mpc
from secagg.errors import RangeError, ShapeError, UsageError
from secagg.network.simulated import simulate
from secagg.patterns.health.reference import cox as plain_cox
from secagg.statistics.hazards import cox
from secagg.statistics.log_rank import logrank, p_value
from secagg.statistics.survival import (
    confidence_interval,
    counts_by_time,
    kaplan_meier,
    median_time,
    variance_sum,
)

ROSSI = load_rossi()
WEEK, ARREST = ROSSI["week"].to_numpy(), ROSSI["arrest"].to_numpy() == 1
AID = ROSSI["fin"].to_numpy()


def opened(program):
    async def start(primitives):
        engine = mpc.Engine(primitives)
        return await engine.open(*program(engine))

    return run_clear(start)


def shared(engine, values, dtype=mpc.int64):
    values = np.asarray(values)
    return engine.share(values, owner="ada", shape=values.shape, dtype=dtype)


def curve_of(time, event, last, **options):
    def program(engine):
        counts = shared(engine, counts_by_time(time, event, last=last)[0])
        found = kaplan_meier(counts[0], counts[1])
        found = found.at(np.arange(last + 1), **options)
        return found.curve, found.greenwood, found.at_risk

    return opened(program)


def test_a_survival_curve_and_its_intervals_are_lifelines():
    curve, greenwood, _ = curve_of(WEEK, ARREST, 52)
    reference = KaplanMeierFitter().fit(WEEK, ARREST)
    at = reference.survival_function_.index.to_numpy().astype(int)
    assert np.allclose(curve[at], reference.survival_function_.to_numpy()[:, 0], rtol=0, atol=1e-6)
    for ours, theirs in zip(
        confidence_interval(curve, greenwood), reference.confidence_interval_.to_numpy().T, strict=True
    ):
        assert np.allclose(ours[at], theirs, rtol=0, atol=1e-6)
    assert median_time(np.arange(53), curve, 0.8) == np.argmax(curve <= 0.8) > 0


def test_a_curve_that_all_events_bring_to_zero_stays_there():
    time, event = np.array([3, 4, 4, 9]), np.array([True, True, False, True])
    curve, greenwood, at_risk = curve_of(time, event, 12)
    assert np.allclose(curve, KaplanMeierFitter().fit(time, event).predict(np.arange(13)), rtol=0, atol=1e-8)
    assert at_risk.tolist() == [4] * 4 + [3] + [1] * 5 + [0] * 3
    low, high = confidence_interval(curve, greenwood)
    assert (low[9:] == 0).all()
    assert (high[9:] == 0).all()


def test_where_few_are_at_risk_nothing_of_a_curve_is_told():
    time, event = np.array([3, 4, 4, 9]), np.array([True, True, False, True])
    curve, greenwood, at_risk = curve_of(time, event, 9, smallest=3)
    assert (curve[:5] > 0).all()
    assert not curve[5:].any()
    assert not greenwood[5:].any()
    assert not at_risk[5:].any()
    assert curve_of(time, event, 9, smallest=2)[2].tolist() == [4] * 4 + [3] + [0] * 5


@pytest.mark.parametrize(("groups", "tied"), [(2, 1), (3, 4)])
def test_the_log_rank_test_of_groups_is_lifelines(groups, tied):
    week, group = WEEK // tied, (AID + 2 * (ROSSI["age"].to_numpy() > 30)) % groups

    def program(engine):
        counts = shared(engine, counts_by_time(week, ARREST, last=52, group=group, groups=groups))
        found = logrank(counts[:, 0], counts[:, 1], most=500)
        return found.statistic, found.degrees

    statistic, degrees = opened(program)
    reference = multivariate_logrank_test(week, group, ARREST)
    assert statistic == pytest.approx(reference.test_statistic, rel=1e-6, abs=1e-6)
    assert p_value(statistic, degrees) == pytest.approx(reference.p_value, rel=0, abs=1e-6)
    assert degrees == groups - 1


def test_a_group_with_nobody_in_it_costs_a_degree_of_freedom_and_nothing_else():
    def program(engine):
        both = shared(engine, counts_by_time(WEEK, ARREST, last=52, group=AID * 2, groups=3))
        found = logrank(both[:, 0], both[:, 1], most=500)
        return found.statistic, found.degrees

    statistic, degrees = opened(program)
    reference = multivariate_logrank_test(WEEK, AID, ARREST)
    assert (degrees, round(float(statistic), 5)) == (1, round(reference.test_statistic, 5))


def test_a_hospital_refuses_times_and_groups_outside_the_grid_before_anything_is_shared():
    time, event = np.array([1, 99]), np.array([True, False])
    with pytest.raises(RangeError, match="1 of 2 times lie outside 0 to 52; nothing was shared"):
        counts_by_time(time, event, last=52)
    with pytest.raises(RangeError, match="1 of 2 groups lie outside 0 to 1"):
        counts_by_time(time, event, last=99, group=np.array([0, 2]), groups=2)
    with pytest.raises(ShapeError, match="times and groups as integers and events as bools"):
        counts_by_time(time, event.astype(int), last=99)
    assert not counts_by_time(np.zeros(0), np.zeros(0), last=5).any()


ROWS = ROSSI.iloc[::3]


def fitted(ties, valid=None, iterations=6):
    x = ROWS[["fin", "age", "prio"]].to_numpy(float)
    kept = np.ones(len(x), bool) if valid is None else valid
    x[~kept] = 50

    def program(engine):
        model = cox(
            shared(engine, x, mpc.fixed(16)),
            shared(engine, ROWS["week"].to_numpy()),
            shared(engine, (ROWS["arrest"] == 1).to_numpy(), bool),
            ties=ties,
            iterations=iterations,
            valid=None if valid is None else shared(engine, valid, bool),
        )
        return model.coef_, model.std_errors_, model.last_step_, model.rank_, model.converged_

    return opened(program), x[kept], ROWS["week"].to_numpy()[kept], (ROWS["arrest"] == 1).to_numpy()[kept]


def test_a_curve_with_its_variance_tells_how_many_were_at_risk():
    curve, greenwood, at_risk = curve_of(WEEK, ARREST, 52)
    h = 1 - curve[21] / curve[20]
    g = variance_sum(greenwood[21]) - variance_sum(greenwood[20])
    assert round(float(h / (g * (1 - h)))) == at_risk[21] == (WEEK >= 21).sum()


@pytest.mark.slow
def test_cox_s_model_with_efron_s_ties_is_lifelines():
    (coef, errors, last_step, rank, converged), x, week, arrest = fitted("efron")
    frame = pd.DataFrame(x).assign(week=week, arrest=arrest)
    reference = CoxPHFitter().fit(frame, "week", "arrest", fit_options={"precision": 1e-12})
    assert np.allclose(coef, reference.params_, rtol=0, atol=1e-6)
    assert np.allclose(errors, reference.standard_errors_, rtol=0, atol=1e-6)
    assert last_step < 1e-5
    assert converged
    assert rank == 3
    assert not fitted("efron", iterations=2)[0][-1]


@pytest.mark.slow
def test_rows_that_do_not_count_change_nothing_in_cox_s_model_with_breslow_s_ties():
    valid = np.arange(len(ROWS)) % 3 > 0
    (coef, errors, *_), x, week, arrest = fitted("breslow", valid, iterations=8)
    b, standard_errors = plain_cox(x, week, arrest, "breslow")
    assert np.allclose(coef, b, rtol=0, atol=1e-6)
    assert np.allclose(errors, standard_errors, rtol=0, atol=1e-6)


@pytest.mark.parametrize("iterations", [8, 30])
@pytest.mark.parametrize(
    "separated", ["all events in one arm", "time by the covariate", "one patient far away"]
)
@pytest.mark.slow
def test_a_likelihood_without_a_maximum_is_never_said_to_have_converged(separated, iterations):
    """The coefficients grow with the iterations, so whatever was reported would be wrong."""
    rng = np.random.default_rng(3)
    other, time, event = rng.normal(size=60), rng.integers(1, 40, 60), rng.random(60) < 0.7
    arm: Any = rng.random(60) < 0.5
    if separated == "all events in one arm":
        event &= arm
    elif separated == "time by the covariate":
        time, event, arm = np.arange(60), np.ones(60, bool), -np.arange(60) / 60
    else:
        arm = np.zeros(60)
        arm[np.flatnonzero(event)[np.argmin(time[event])]] = 1
        time[arm == 1] = 0

    def program(engine):
        x = shared(engine, np.column_stack([arm, other]).astype(float), mpc.fixed(16))
        model = cox(x, shared(engine, time), shared(engine, event, bool), iterations=iterations)
        return [model.converged_]

    (converged,) = opened(program)
    assert not converged


def test_cox_s_model_refuses_other_ties_and_shapes():
    def program(engine, **options):
        x = engine.public(np.ones((9, 2)))
        return cox(x, engine.public(np.arange(9)), engine.public(np.ones(9, bool)), **options)

    for options, error, says in [
        ({"ties": "exact"}, UsageError, "efron"),
        ({"iterations": 0}, UsageError, "at least one iteration"),
    ]:
        with pytest.raises(error, match=says):
            opened(lambda engine, options=options: program(engine, **options))
    with pytest.raises(ShapeError, match="bools of shape"):
        opened(lambda e: cox(e.public(np.ones((9, 2))), e.public(np.arange(9)), e.public(np.ones(8, bool))))


@pytest.mark.slow
def test_three_parties_compute_curve_test_and_model_as_one_does_in_the_clear():
    x, y = load_gbsg2()
    z = np.column_stack([x["age"], x["horTh"] == "yes", np.log1p(x["pnodes"])]).astype(float)[:150]
    z = np.rint(z * 2**16) / 2**16
    time, event = y["time"][:150].astype(int) // 30, y["cens"][:150]
    counts = counts_by_time(time, event, last=int(time.max()))[0]

    async def program(party):
        engine = await mpc.Engine.create(party)

        def put(values, dtype=mpc.int64):
            own = values if party.me == "ada" else None
            return engine.share(own, owner="ada", shape=values.shape, dtype=dtype)

        model = cox(put(z, mpc.fixed(16)), put(time), put(event, bool))
        both = put(counts)
        return await engine.open(model.coef_, model.std_errors_, kaplan_meier(both[0], both[1]).curve)

    coef, errors, curve = simulate(dict.fromkeys(["ada", "bob", "cleo"], program)).values()[0]
    b, standard_errors = plain_cox(z, time, event, "efron")
    assert np.allclose(coef, b, rtol=0, atol=1e-6)
    assert np.allclose(errors, standard_errors, rtol=0, atol=1e-6)
    assert np.allclose(curve, KaplanMeierFitter().fit(time, event).predict(np.arange(len(curve))), atol=1e-6)
