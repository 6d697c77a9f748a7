"""Budgets are kept by the noise that is planned, shares add up to it, and the ring holds the sum."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

pytest.importorskip("dp_accounting", reason="differential privacy needs dp-accounting")

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from secagg.dp import (
    Budget,
    Cohort,
    Contributor,
    DiscreteGaussian,
    Mechanism,
    Noise,
    Sensitivity,
    calibrate,
    choose,
)
from secagg.dp.mechanism import wrap_probability
from secagg.errors import PlanError, ShapeError, UsageError
from secagg.fixed_point import plan
from secagg.prg import Stream
from secagg.ring import Ring

KINDS = ["skellam", "discrete gaussian"]
ONE = Sensitivity(1.0, 1.0, 1)


def seeded(byte=0):
    return Stream(bytes([byte]) * 32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rounds", [1, 50])
@pytest.mark.parametrize("epsilon", [0.01, 1.0, 9.0])
def test_the_budget_is_kept_and_nearly_used(epsilon, rounds, kind):
    noise = calibrate(Budget(epsilon, 1e-6, rounds), Cohort(20, 14, 3), Sensitivity(40.0, 20.0, 4), kind=kind)
    assert 0.999 * epsilon < noise.epsilon() <= epsilon
    spent = [noise.epsilon(k) for k in range(rounds + 1)]
    assert spent == sorted(spent)
    assert spent[0] == 0
    with pytest.raises(UsageError, match="rounds"):
        noise.epsilon(rounds + 1)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    epsilon=st.floats(0.05, 20),
    delta=st.floats(1e-12, 0.1),
    rounds=st.integers(1, 200),
    min_clients=st.integers(2, 50),
    l2=st.floats(1, 1e4),
    kind=st.sampled_from(KINDS),
)
def test_the_variance_follows_what_is_asked_for(epsilon, delta, rounds, min_clients, l2, kind):
    def variance(epsilon=epsilon, delta=delta, rounds=rounds, min_clients=min_clients, colluders=1, l2=l2):
        cohort = Cohort(60, min_clients, colluders)
        sensitivity = Sensitivity(3 * l2, l2, 9)
        return calibrate(Budget(epsilon, delta, rounds), cohort, sensitivity, kind=kind).variance * (1 + 2e-6)

    usual = variance()
    assert variance(epsilon=1.5 * epsilon) <= usual
    assert variance(delta=delta / 10) * (1 + 2e-6) >= usual
    assert variance(rounds=rounds + 1) * (1 + 2e-6) >= usual
    assert variance(min_clients=min_clients + 1) <= usual
    assert variance(colluders=0) <= usual
    assert variance(l2=2 * l2) * (1 + 2e-6) >= usual


@pytest.mark.parametrize("kind", KINDS)
def test_replacing_takes_twice_the_deviation(kind):
    cohort = Cohort(10, 10)
    mechanisms = [
        choose(Budget(1.0, 1e-6, adjacency=a), cohort, clip=1.0, length=100, kind=kind)
        for a in ("zero-out", "replace")
    ]
    deviations = [m.report().noise_std for m in mechanisms]
    assert deviations[1] == pytest.approx(2 * deviations[0], rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_shares_of_those_who_stay_add_up_to_the_planned_variance(kind):
    """20,000 elements of the sum of 7 shares: variance within 5 standard errors; 2 false alarms in 10^6."""
    mechanism = choose(Budget(2.0, 1e-6), Cohort(10, 7), clip=4.0, length=20_000, kind=kind)
    assert mechanism.noise.min_variance == pytest.approx(7 * mechanism.noise.variance)
    contributor, ring = Contributor(mechanism), mechanism.plan.ring
    total = np.zeros(20_000, ring.dtype)
    for client in range(7):
        total += contributor.contribute(np.zeros(20_000), rng=seeded(client)).values
    numbers = mechanism.to_numbers(ring.reduce(total))
    planned = mechanism.report().noise_std ** 2
    assert abs(numbers.var() - planned) < 5 * planned * math.sqrt(2 / 20_000)


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_the_sum_of_contributions_in_the_narrow_ring_is_the_sum_with_noise(kind, rotated):
    clients, length = 12, 1000
    mechanism = choose(
        Budget(3.0, 1e-5, 2),
        Cohort(clients, 9, 2),
        clip=2.0,
        length=length,
        kind=kind,
        random_rotation=rotated,
    )
    seed = b"rotation of round one" if rotated else None
    x = np.random.default_rng(1).normal(size=(clients, length))
    clipped = x * (2.0 / np.linalg.norm(x, axis=1))[:, None]
    contributor, ring = Contributor(mechanism), mechanism.ring
    assert ring == mechanism.plan.sum_ring(clients)
    total = np.zeros(mechanism.grid.dimension, ring.dtype)
    for client, row in enumerate(x):
        contribution = contributor.contribute(row, seed=seed, rng=seeded(client))
        assert contribution.clipped
        assert contribution.values.dtype == mechanism.plan.ring.dtype
        total += mechanism.plan.narrow(contribution.values)
    numbers = mechanism.to_numbers(mechanism.plan.widen(ring.reduce(total)), seed=seed)
    assert numbers.shape == (length,)
    z = (numbers - clipped.sum(axis=0)) / (mechanism.grid.unit * math.sqrt(mechanism.noise.max_variance))
    # The rounding adds less than clients / 4 units squared; 5 standard errors.
    assert abs(z.mean()) < 5 / math.sqrt(length)
    assert abs(z.var() - 1) < 5 * math.sqrt(2 / length) + clients / mechanism.noise.max_variance


@pytest.mark.slow
def test_a_contribution_is_a_function_of_its_stream():
    mechanism = choose(Budget(1.0, 1e-6), Cohort(3, 3), clip=1.0, length=50)
    first, same, other = (
        Contributor(mechanism).contribute(np.ones(50), rng=seeded(b)).values for b in (1, 1, 2)
    )
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    contributor = Contributor(mechanism)
    assert not np.array_equal(
        contributor.contribute(np.ones(50)).values, contributor.contribute(np.ones(50)).values
    )


@pytest.mark.slow
def test_a_contribution_does_not_show_its_values():
    mechanism = choose(Budget(1.0, 1e-6), Cohort(3, 3), clip=1.0, length=2)
    assert repr(Contributor(mechanism).contribute([5.0, 0.0])) == "Contribution()"


@pytest.mark.parametrize("bits", [8, 9, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_the_wrap_probability_bounds_the_exact_one_and_not_by_much(kind, bits):
    """3 clients at the border of a small ring, all convolved: exact."""
    noise = Noise(kind, 150.0, ONE, Cohort(3, 3), Budget(1.0, 1e-6))
    most = 10
    room = (1 << (bits - 1)) - 1 - 3 * most
    at = np.arange(-750, 751)
    if kind == "skellam":
        three = special.ive(np.abs(at), 450.0)
    else:
        x = np.arange(-250, 251)
        one = np.exp(-(x**2) / 300.0)
        one /= one.sum()
        three = np.convolve(np.convolve(one, one), one)
    exact = three[at > room].sum() + three[at < -room - 6 * most - 1].sum()
    bound = wrap_probability(noise, most, 1, Ring(bits))
    # Mills: a Gaussian tail is about exp(-z^2 / 2) / (z sqrt(2 pi)); the bound is 2 exp(-z^2 / 2).
    z = (room + 1) / 450**0.5
    assert exact <= bound < 2 * (2 * math.sqrt(2 * math.pi) * (z + 1 / z)) * exact
    assert wrap_probability(noise, most, 100, Ring(bits)) == pytest.approx(min(1.0, 100 * bound))


def test_wrapping_happens_as_often_as_bounded_and_costs_no_privacy():
    """100,000 sums in a ring that is too narrow: the share of those that wrap is below the bound."""
    noise = Noise("discrete gaussian", 900.0, ONE, Cohort(1, 1), Budget(1.0, 1e-6))
    ring = Ring(8)
    draws = DiscreteGaussian(900.0).draw(100_000, seeded()) + 20
    wrapped = np.mean(ring.to_signed(ring.from_signed(draws)) != draws)
    assert 0 < wrapped <= wrap_probability(noise, 20, 1, ring)


@pytest.mark.parametrize("kind", KINDS)
def test_the_planned_ring_wraps_once_in_2_to_the_40_and_half_of_it_would_not_do(kind):
    mechanism = choose(Budget(1.0, 1e-6, 7), Cohort(5, 5), clip=1.0, length=1000, kind=kind)
    assert mechanism.wrap_probability <= 2.0**-40
    tail = mechanism.noise.tail_bound(math.log(2.0**-40) - math.log(7000))
    assert (
        mechanism.noise.log_tail(tail - 1)
        > math.log(2.0**-40) - math.log(7000)
        >= mechanism.noise.log_tail(tail)
    )
    most = mechanism.grid.element_units
    assert mechanism.plan.parties * mechanism.plan.limit >= 5 * most + tail
    assert mechanism.plan.parties * (mechanism.plan.limit - 1) < 5 * most + tail
    assert wrap_probability(mechanism.noise, most, 1000, Ring(mechanism.ring.bits - 2)) > 2.0**-40


def test_rotation_narrows_the_ring():
    bits = [
        choose(Budget(8.0, 1e-6), Cohort(1000, 900), clip=1.0, length=100_000, random_rotation=r).ring.bits
        for r in (False, True)
    ]
    assert bits[1] <= bits[0] - 4


def test_the_report_says_what_was_spent_and_assumed():
    mechanism = choose(Budget(1.0, 1e-6, 10, "replace"), Cohort(30, 20, 5), clip=3.0, length=10)
    report = mechanism.report(4)
    assert (report.rounds, report.delta, report.adjacency, report.clip) == (4, 1e-6, "replace", 3.0)
    assert 0 < report.epsilon < mechanism.report().epsilon <= 1.0
    assert report.noise_std == pytest.approx(report.share_std * math.sqrt(15))
    text = "; ".join(report.assumptions)
    for words in ("20 of 30 clients", "15 of those", "no amplification", "not how many"):
        assert words in text


@pytest.mark.parametrize(
    "arguments",
    [
        {"epsilon": 0.0},
        {"epsilon": -1.0},
        {"epsilon": math.nan},
        {"epsilon": math.inf},
        {"delta": 0.0},
        {"delta": 1.0},
        {"delta": -1e-6},
        {"delta": math.nan},
        {"rounds": 0},
        {"adjacency": "neighbours"},
    ],
)
def test_impossible_budgets_are_refused(arguments):
    with pytest.raises(UsageError):
        Budget(**{"epsilon": 1.0, "delta": 1e-6, **arguments})


@pytest.mark.parametrize("numbers", [(0, 0, 0), (3, 4, 0), (3, 0, 0), (3, 2, 2), (3, 3, -1)])
def test_impossible_cohorts_are_refused(numbers):
    with pytest.raises(UsageError):
        Cohort(*numbers)


@pytest.mark.parametrize(
    "arguments",
    [
        {"clip": 0.0},
        {"clip": math.nan},
        {"clip": math.inf},
        {"clip": -1.0},
        {"length": 0},
        {"kind": "laplace"},
    ],
)
def test_impossible_mechanisms_are_refused(arguments):
    with pytest.raises(UsageError):
        choose(Budget(1.0, 1e-6), Cohort(3, 3), **{"clip": 1.0, "length": 4, **arguments})


def test_shares_of_noise_do_not_hide_who_takes_part():
    with pytest.raises(UsageError, match="zero-out"):
        choose(Budget(1.0, 1e-6, adjacency="add-remove"), Cohort(3, 3), clip=1.0, length=4)
    choose(Budget(1.0, 1e-6, adjacency="add-remove"), Cohort(), clip=1.0, length=4)


def test_what_no_noise_or_ring_can_do_is_refused():
    with pytest.raises(PlanError, match="epsilon"):
        choose(Budget(1e-9, 1e-9), Cohort(3, 3), clip=1.0, length=4)
    with pytest.raises(PlanError, match="64 bits"):
        choose(Budget(1e-3, 1e-9), Cohort(1 << 35, 1 << 35), clip=1.0, length=4, frac_bits=29)


@pytest.mark.slow
def test_noise_for_another_grid_or_plan_is_refused():
    mechanism = choose(Budget(1.0, 1e-6), Cohort(3, 3), clip=1.0, length=4)
    finer = choose(Budget(1.0, 1e-6), Cohort(3, 3), clip=1.0, length=4, frac_bits=20)
    with pytest.raises(UsageError, match="calibrate"):
        Mechanism(finer.grid, mechanism.noise, finer.plan)
    planned = mechanism.noise.sensitivity
    for smaller in (
        replace(planned, l1=planned.l1 * 0.99),
        replace(planned, l2=planned.l2 * (1 - 1e-10)),
        replace(planned, length=5),
    ):
        with pytest.raises(UsageError, match="calibrate"):
            Mechanism(mechanism.grid, replace(mechanism.noise, sensitivity=smaller), mechanism.plan)
    with pytest.raises(PlanError, match="whole numbers"):
        Mechanism(mechanism.grid, mechanism.noise, plan(clip=5000.0, frac_bits=0, parties=2))
    with pytest.raises(ShapeError):
        mechanism.to_numbers(np.zeros(5, mechanism.plan.ring.dtype))
    with pytest.raises(ShapeError):
        Contributor(mechanism).contribute(np.zeros(5))
