"""Divergences against published code, against the true ones, and against exact (epsilon, delta)."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

pytest.importorskip("dp_accounting", reason="differential privacy needs dp-accounting")

import numpy as np
from dp_accounting import GaussianDpEvent, SelfComposedDpEvent
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from secagg.dp import Grid, Sensitivity
from secagg.dp.accounting import ORDERS, discrete_gaussian_divergence, epsilon_at, skellam_divergence
from secagg.errors import UsageError

GOOGLE_ORDERS = (*range(2, 129), 256)

# What google-research/federated, distributed_dp/accounting_utils.py, computes for beta = exp(-1/2) (formulas of
# that file, conversion by dp_accounting 0.6.0): clip and length; l2 and l1; then divergences at orders 2, 10, 64 and
# epsilon after rounds, at delta.
GOOGLE_NORMS = [
    (4.0, 4, 4.69041575982343, 9.38083151964686),
    (192.0, 1000, 193.18853844962138, 6109.157993398177),
    (1.5, 1000, 16.41832477145101, 269.56138830084194),
]
GOOGLE_GAUSSIAN = [
    # share's standard deviation, shares, norms (above), divergences, rounds, delta, epsilon
    (0.6, 10, 0, [8.353258427346066, 32.79770287179051, 197.79770287179053], 1, 1e-5, 16.210505462944518),
    (64.0, 50, 1, [0.18223540716943767, 0.9111770358471883, 5.831533029422006], 20, 1e-6, 11.144806279940521),
]
GOOGLE_SKELLAM = [
    # standard deviation of the sum, norms, divergences, rounds, delta, epsilon
    (6.0, 0, [0.6347000364810726, 3.1470457154934186, 19.946423535540838], 1, 1e-5, 3.645267958689016),
    (448.0, 1, [0.18595541948412866, 0.9297771139754781, 5.950573551792085], 20, 1e-6, 11.293606855302333),
    (3.5, 2, [26.046748057390808, 121.2521030257848, 737.1678782104657], 20, 1e-6, 533.3641773446606),
]


def google_sensitivity(i):
    _, length, l2, l1 = GOOGLE_NORMS[i]
    return Sensitivity(l1, l2, length)


@pytest.mark.parametrize(("clip", "length", "l2", "l1"), GOOGLE_NORMS)
def test_norms_are_those_of_googles_code_rounded_down_to_what_integers_can_have(clip, length, l2, l1):
    ours = Grid(clip, 0, length).sensitivity
    assert ours.l2 <= l2 * (1 + 1e-12)
    assert ours.l2**2 == pytest.approx(math.floor(l2**2), rel=1e-12)
    assert ours.l1 <= l1 * (1 + 1e-12)


@pytest.mark.parametrize(
    ("deviation", "shares", "norms", "divergences", "rounds", "delta", "epsilon"), GOOGLE_GAUSSIAN
)
def test_discrete_gaussians_cost_what_googles_code_says(
    deviation, shares, norms, divergences, rounds, delta, epsilon
):
    def ours(orders):
        return discrete_gaussian_divergence(
            orders,
            variance=deviation**2,
            min_shares=shares,
            max_shares=shares,
            sensitivity=google_sensitivity(norms),
        )

    assert ours((2, 10, 64)) == pytest.approx(divergences, rel=1e-12)
    assert epsilon_at(GOOGLE_ORDERS, rounds * ours(GOOGLE_ORDERS), delta) == pytest.approx(epsilon, rel=1e-12)


@pytest.mark.parametrize(("deviation", "norms", "divergences", "rounds", "delta", "epsilon"), GOOGLE_SKELLAM)
def test_skellam_noise_costs_what_googles_code_says(deviation, norms, divergences, rounds, delta, epsilon):
    def ours(orders):
        return skellam_divergence(orders, variance=deviation**2, sensitivity=google_sensitivity(norms))

    assert ours((2, 10, 64)) == pytest.approx(divergences, rel=1e-12)
    assert epsilon_at(GOOGLE_ORDERS, rounds * ours(GOOGLE_ORDERS), delta) == pytest.approx(epsilon, rel=1e-12)


def true_divergence(pmf, shift, order):
    """Divergence of integer noise from itself shifted, from a table of probabilities; both sides cut alike."""
    p, q = np.log(pmf[shift:]), np.log(pmf[:-shift])
    return special.logsumexp(order * p + (1 - order) * q) / (order - 1)


@pytest.mark.parametrize("shift", [1, 2, 5])
@pytest.mark.parametrize("variance", [3.0, 20.0, 200.0])
def test_the_bound_for_skellam_noise_holds_and_is_near_the_truth(variance, shift):
    x = np.arange(-int(8 * variance**0.5) - 20, int(8 * variance**0.5) + 21)
    pmf = special.ive(np.abs(x), variance)
    for order in (2, 3, 8):
        true = true_divergence(pmf, shift, order)
        bound = skellam_divergence((order,), variance=variance, sensitivity=Sensitivity(shift, shift, 1))[0]
        assert true <= bound
        if variance == 200.0:
            assert true > 0.95 * bound


@pytest.mark.parametrize("shares", [1, 2, 3, 7])
@pytest.mark.parametrize("variance", [0.25, 0.4, 1.0, 4.0])
def test_the_bound_for_sums_of_discrete_gaussians_holds(variance, shares):
    x = np.arange(-40, 41)
    single = np.exp(-(x**2) / (2 * variance))
    single /= single.sum()
    pmf = single
    for _ in range(shares - 1):
        pmf = np.convolve(pmf, single)
    pmf = pmf[pmf > 1e-150]
    for shift in (1, 2, 3):
        for order in (2, 3, 8):
            true = true_divergence(pmf, shift, order)
            bound = discrete_gaussian_divergence(
                (order,),
                variance=variance,
                min_shares=shares,
                max_shares=shares,
                sensitivity=Sensitivity(shift, shift, 1),
            )[0]
            assert true <= bound * (1 + 1e-9)
            if variance == 4.0:  # for smaller ones the table is too short for more than the inequality
                assert true == pytest.approx(bound, rel=1e-6)


@pytest.mark.parametrize("variance", [0.25, 1.0, 9.0, 400.0])
def test_epsilon_of_one_discrete_gaussian_is_safe_by_the_exact_delta(variance):
    """[CKS20, theorem 7]: the exact delta of one count at the epsilon that is reported is below the one asked for."""
    x = np.arange(-3000, 3001)
    pmf = np.exp(-(x**2) / (2 * variance))
    pmf /= pmf.sum()
    for delta in (1e-3, 1e-6, 1e-9):
        divergences = discrete_gaussian_divergence(
            ORDERS, variance=variance, min_shares=1, max_shares=1, sensitivity=Sensitivity(1, 1, 1)
        )
        epsilon = epsilon_at(ORDERS, divergences, delta)
        exact = (
            pmf[x > epsilon * variance - 0.5].sum()
            - math.exp(epsilon) * pmf[x > epsilon * variance + 0.5].sum()
        )
        assert exact <= delta


@pytest.mark.parametrize("multiplier", [0.8, 4.0, 60.0])
@pytest.mark.parametrize("rounds", [1, 100])
def test_fine_noise_costs_what_the_accountant_says_of_gaussian_noise(multiplier, rounds):
    accountant = RdpAccountant(ORDERS).compose(SelfComposedDpEvent(GaussianDpEvent(multiplier), rounds))
    clip, shares = 1e6, 10
    sensitivity = Sensitivity(clip * 30, clip, 1000)
    variance = (clip * multiplier) ** 2
    for divergences in (
        skellam_divergence(ORDERS, variance=variance, sensitivity=sensitivity),
        discrete_gaussian_divergence(
            ORDERS, variance=variance / shares, min_shares=shares, max_shares=shares, sensitivity=sensitivity
        ),
    ):
        assert epsilon_at(ORDERS, rounds * divergences, 1e-6) == pytest.approx(
            accountant.get_epsilon(1e-6), rel=1e-4
        )


@pytest.mark.parametrize("variance", [0.25, 0.5, 1.0, 4.0])
def test_one_bound_covers_every_number_of_shares(variance):
    sensitivity = Sensitivity(30.0, 10.0, 100)
    bound = discrete_gaussian_divergence(
        ORDERS, variance=variance, min_shares=5, max_shares=40, sensitivity=sensitivity
    )
    worst = np.max(
        [
            discrete_gaussian_divergence(
                ORDERS, variance=variance, min_shares=n, max_shares=n, sensitivity=sensitivity
            )
            for n in range(5, 41)
        ],
        axis=0,
    )
    assert (worst <= bound).all()
    if variance >= 4:
        assert worst == pytest.approx(bound, rel=1e-12)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    variance=st.floats(0.25, 1e9),
    more=st.floats(1.001, 100),
    l2=st.floats(1, 1e5),
    length=st.integers(1, 10**6),
    rounds=st.integers(1, 1000),
)
def test_more_noise_costs_less_and_more_rounds_and_longer_vectors_more(variance, more, l2, length, rounds):
    near, far = (Sensitivity(s * math.sqrt(length), s, length) for s in (l2, l2 * more))
    for divergence in (
        lambda v, s: skellam_divergence(ORDERS, variance=v, sensitivity=s),
        lambda v, s: discrete_gaussian_divergence(
            ORDERS, variance=v, min_shares=3, max_shares=9, sensitivity=s
        ),
    ):
        usual = divergence(variance, near)
        assert (np.diff(usual) >= 0).all()
        assert (divergence(variance * more, near) <= usual).all()
        assert (divergence(variance, far) >= usual).all()
        spent = [epsilon_at(ORDERS, k * usual, 1e-6) for k in (rounds, rounds + 1)]
        assert spent == sorted(spent)
        assert epsilon_at(ORDERS, usual, 1e-9) >= epsilon_at(ORDERS, usual, 1e-6)


def test_replacing_lies_twice_as_far():
    one = Sensitivity(6.0, 3.0, 9)
    assert one.under("zero-out") == one.under("add-remove") == one
    assert one.under("replace") == Sensitivity(12.0, 6.0, 9)
    with pytest.raises(UsageError, match="adjacency"):
        one.under("neighbours")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "norms", [(0, 1, 1), (1, 0, 1), (math.nan, 1, 1), (1, math.inf, 1), (1, 1, 0), (1, 2, 5), (3, 1, 4)]
)
def test_impossible_sensitivities_are_refused(norms):
    with pytest.raises(UsageError):
        Sensitivity(*norms)


def test_bad_arguments_are_refused():
    one = Sensitivity(1.0, 1.0, 1)
    for variance in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UsageError):
            skellam_divergence((2,), variance=variance, sensitivity=one)
        with pytest.raises(UsageError):
            discrete_gaussian_divergence((2,), variance=variance, min_shares=1, max_shares=1, sensitivity=one)
    with pytest.raises(UsageError, match="integer"):
        skellam_divergence((2.5,), variance=1.0, sensitivity=one)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="1/4"):
        discrete_gaussian_divergence((2,), variance=0.2, min_shares=1, max_shares=1, sensitivity=one)
    for least, most in ((0, 1), (2, 1)):
        with pytest.raises(UsageError, match="shares"):
            discrete_gaussian_divergence(
                (2,), variance=1.0, min_shares=least, max_shares=most, sensitivity=one
            )
    for delta in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(UsageError, match="delta"):
            epsilon_at((2,), np.ones(1), delta)


def test_scipys_skellam_is_the_one_meant():
    x = np.arange(-5, 6)
    assert special.ive(np.abs(x), 3.0) == pytest.approx(stats.skellam.pmf(x, 1.5, 1.5))


@pytest.mark.slow
def test_without_the_accountant_the_error_says_what_to_install():
    code = "import sys; sys.modules['dp_accounting'] = None; import secagg.dp"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'pip install "secagg[dp]"' in done.stderr.splitlines()[-1]
