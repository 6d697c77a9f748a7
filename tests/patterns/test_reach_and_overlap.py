"""Reach and overlap: counts of persons with noise that organisations add together."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bank_tables import terms_of
from program_runs import played, strings
from secagg import dp
from secagg.errors import PlanError
from secagg.patterns.counts import Categorical
from secagg.patterns.marketing import REACH_AND_OVERLAP as PATTERN

NAMES = ("paper", "radio", "shop")
TERMS = replace(terms_of(NAMES, NAMES), pad_rows_to=100)
BUDGET = PATTERN.Parameters(epsilon=2.0, delta=1e-6)


def audience(*persons):
    return {"audience": {"person": strings(persons)}}


@pytest.mark.slow
def test_each_organisation_s_noise_is_enough_together_with_those_that_do_not_collude():
    # Of thirty organisations, each of which draws a number for each count: a call costs more than a number. Half of
    # them collude, so that noise which counts theirs would have half the variance.
    noise = dp.calibrate(
        dp.Budget(2.0, 1e-6), dp.Cohort(30, 30, colluders=15), dp.Sensitivity(2.0, math.sqrt(2), 30)
    )
    many = PATTERN.Parameters(epsilon=2.0, delta=1e-6, organisations=30, colluders=15)
    drawn = np.array([PATTERN.local(many, audience("ann"))["noise"]["share"] for _ in range(100)])
    assert drawn.shape == (100, 30)
    # The variance of 3,000 samples strays by less than 6 standard deviations of 2.6 % each.
    assert drawn.var() == pytest.approx(noise.variance, rel=0.16)
    assert noise.epsilon() <= 2.0
    assert PATTERN.spends(BUDGET, TERMS)[0].epsilon == 2.0
    assert any("epsilon 2, delta 1e-06 for one person" in one.what for one in PATTERN.opens(BUDGET, TERMS))


@pytest.mark.slow
def test_counts_are_those_of_persons_with_noise_of_the_stated_size():
    tables = {name: audience(*(f"{name}{i}" for i in range(30)), *map(str, range(50))) for name in NAMES}
    told = played(PATTERN, BUDGET, tables, NAMES, TERMS).values()
    assert told[0] == told[1] == told[2]
    expected = PATTERN.reference(BUDGET, TERMS, tables)["paper"]
    assert [(what, n) for what, n, _ in expected] == [
        ("reach", 140), ("overlap", 50), ("at 1 organisation", 90), ("at 2 organisations", 0), ("at 3 organisations", 50),
    ]  # fmt: skip
    for (what, n, deviation), (name, exact, same) in zip(told[0], expected, strict=True):
        assert (what, deviation) == (name, same)
        assert abs(n - exact) < 10 * float(deviation)


@pytest.mark.slow
def test_a_person_put_in_twice_by_an_altered_program_ends_the_run(monkeypatch):
    honest = PATTERN.local

    def twice(parameters, tables):
        made = honest(parameters, tables)
        person = Categorical(strings(["ann"]), np.array([0, 0]))
        return {**made, "audience": {"person": person}}

    monkeypatch.setattr(PATTERN, "local", twice)
    outcome = played(PATTERN, BUDGET, {name: audience("ann") for name in NAMES}, NAMES, TERMS)
    with pytest.raises(PlanError, match="put a person in twice"):
        outcome.values()


def test_noise_that_nobody_can_count_on_is_refused_and_weak_terms_are_warned_of():
    with pytest.raises(PlanError, match="3 parties put in data; set it to their number"):
        PATTERN.check(PATTERN.Parameters(organisations=4), TERMS)
    with pytest.raises(PlanError, match="leave nobody whose noise counts"):
        PATTERN.check(PATTERN.Parameters(colluders=3), TERMS)
    assert PATTERN.warnings(BUDGET, TERMS) == []
    weak = PATTERN.warnings(PATTERN.Parameters(epsilon=20.0), replace(TERMS, pad_rows_to=1))
    assert ["pad_rows_to = 1" in weak[0], "epsilon = 20" in weak[1]] == [True, True]
