"""Samples have the distributions they are named after.

There are no published vectors: no two implementations turn the same random words into the same samples.
"""

from __future__ import annotations

import hashlib
import random
from fractions import Fraction

import pytest

pytest.importorskip("dp_accounting", reason="differential privacy needs dp-accounting")

import numpy as np
from scipy import stats

from secagg.dp import DiscreteGaussian, Skellam
from secagg.errors import UsageError
from secagg.prg import Stream

N = 400_000
FALSE_ALARM = 1e-6


def seeded(text):
    return Stream(hashlib.sha256(text.encode()).digest())


def gaussian_weights(variance, x):
    weights = np.exp(-(x.astype(float) ** 2) / (2 * variance))
    return weights / weights.sum()


def grouped(samples, x, probabilities, cells):
    """Observed and expected counts in cells of about equal probability, those expected below 10 left out."""
    cell = np.minimum((np.cumsum(probabilities) * cells).astype(int), cells - 1)
    expected = np.bincount(cell, probabilities, minlength=cells) * samples.size
    observed = np.bincount(cell[np.clip(samples - x[0], 0, x.size - 1)], minlength=cells)
    few = expected < 10
    if few.any():
        observed = np.append(observed[~few], observed[few].sum())
        expected = np.append(expected[~few], expected[few].sum())
    keep = expected > 0
    return observed[keep], expected[keep]


@pytest.mark.slow
@pytest.mark.parametrize("variance", [0.25, 1.0, 7.3, 400.0, 12345.6, 9e8])
@pytest.mark.parametrize("kind", [DiscreteGaussian, Skellam])
def test_samples_have_the_stated_distribution(kind, variance):
    """Chi-square of 400,000 samples over up to 256 cells, false alarm 1e-6 in each of 12 cases."""
    samples = kind(variance).draw(N, seeded(f"{kind.__name__} {variance}"))
    reach = int(12 * variance**0.5) + 12
    x = np.arange(-reach, reach + 1)
    if variance > 1e6:
        # Skellam noise of this variance differs from a Gaussian of it by a kurtosis of 1e-9.
        probabilities = np.diff(stats.norm.cdf((np.append(x, reach + 1) - 0.5) / variance**0.5))
    elif kind is Skellam:
        probabilities = stats.skellam.pmf(x, variance / 2, variance / 2)
    else:
        probabilities = gaussian_weights(variance, x)
    observed, expected = grouped(samples, x, probabilities, 256)
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > FALSE_ALARM


@pytest.mark.slow
@pytest.mark.parametrize("kind", [DiscreteGaussian, Skellam])
@pytest.mark.parametrize("variance", [12345.6, 2.0**52])
def test_low_bits_of_wide_noise_are_uniform(kind, variance):
    """Chi-square of 400,000 samples modulo 64, false alarm 1e-6 in each of 4 cases: bins leave no pattern."""
    samples = kind(variance).draw(N, seeded(f"low bits {kind.__name__} {variance}"))
    assert stats.chisquare(np.bincount(samples % 64, minlength=64)).pvalue > FALSE_ALARM


@pytest.mark.parametrize("variance", [0.5, 30.0, 1e6, 2.0**60])
@pytest.mark.parametrize("kind", [DiscreteGaussian, Skellam])
@pytest.mark.slow
def test_mean_variance_and_kurtosis_are_right(kind, variance):
    """5 standard errors each: 24 false alarms in 4 * 10^7."""
    z = kind(variance).draw(N, seeded(f"moments {kind.__name__} {variance}")).astype(float) / variance**0.5
    second, fourth, eighth = 1.0, 3.0, 105.0
    if kind is Skellam:
        fourth += 1 / variance
        eighth += 210 / variance + 63 / variance**2 + 1 / variance**3
    elif variance < 10:
        x = np.arange(-60, 61)
        p = gaussian_weights(variance, x)
        second, fourth, eighth = (np.sum(p * (x * x / variance) ** k) for k in (1, 2, 4))
    assert abs(z.mean()) < 5 * (second / N) ** 0.5
    assert abs((z**2).mean() - second) < 5 * ((fourth - second**2) / N) ** 0.5
    assert abs((z**4).mean() - fourth) < 5 * ((eighth - fourth**2) / N) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("kind", [DiscreteGaussian, Skellam])
def test_the_variance_is_right_to_a_third_of_a_percent(kind):
    """6,000,000 samples, 5 standard errors: 2 false alarms in 2 * 10^6."""
    samples = kind(30.0).draw(6_000_000, seeded(f"variance {kind.__name__}"))
    assert abs(np.mean(np.square(samples)) / 30.0 - 1) < 5 * (2 / 6e6) ** 0.5


def reference_gaussian(variance, rng):
    """[CKS20], algorithms 1 to 3, with rationals."""

    def bernoulli(p):
        return rng.randrange(p.denominator) < p.numerator

    def bernoulli_exp(gamma):
        while gamma > 1:
            if not bernoulli_exp(Fraction(1)):
                return False
            gamma -= 1
        k = 1
        while bernoulli(gamma / k):
            k += 1
        return k % 2 == 1

    t = int(variance**0.5) + 1
    while True:
        u = rng.randrange(t)
        if not bernoulli_exp(Fraction(u, t)):
            continue
        v = 0
        while bernoulli_exp(Fraction(1)):
            v += 1
        y, negative = u + t * v, bernoulli(Fraction(1, 2))
        if (y or not negative) and bernoulli_exp((y - variance / t) ** 2 / (2 * variance)):
            return -y if negative else y


@pytest.mark.slow
def test_the_discrete_gaussian_is_that_of_the_published_algorithm():
    """Chi-square of two samples, 10,000 and 400,000, over some 20 values, false alarm 1e-6."""
    variance, rng = Fraction(22, 3), random.Random(5)
    reference = np.array([reference_gaussian(variance, rng) for _ in range(10_000)])
    ours = DiscreteGaussian(variance).draw(N, seeded("twin"))
    table = np.stack([np.bincount(np.clip(s, -8, 8) + 8, minlength=17) for s in (reference, ours)])
    assert stats.chi2_contingency(table).pvalue > FALSE_ALARM


@pytest.mark.slow
@pytest.mark.parametrize("kind", [DiscreteGaussian, Skellam])
def test_the_same_seed_gives_the_same_samples_and_another_gives_others(kind):
    sampler = kind(1e5)
    first = sampler.draw((300, 500), seeded("a"))
    assert first.shape == (300, 500)
    assert first.dtype == np.int64
    assert np.array_equal(first, kind(1e5).draw((300, 500), seeded("a")))
    assert not np.array_equal(first, sampler.draw((300, 500), seeded("b")))
    assert not np.array_equal(sampler.draw(100), sampler.draw(100))


@pytest.mark.slow
def test_sums_of_skellam_noise_are_skellam():
    """Chi-square of 400,000 sums of 5, false alarm 1e-6."""
    samples = Skellam(Fraction(7, 5)).draw((5, N), seeded("closed")).sum(axis=0)
    x = np.arange(-40, 41)
    observed, expected = grouped(samples, x, stats.skellam.pmf(x, 3.5, 3.5), 64)
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > FALSE_ALARM


def test_no_samples_and_single_samples_can_be_drawn():
    assert Skellam(3).draw(0, seeded("none")).shape == (0,)
    assert DiscreteGaussian(2.0**-60).draw((), seeded("one")).shape == ()


@pytest.mark.parametrize("variance", [0, -1.0, float("nan"), float("inf"), 2.0**61, Fraction(1, 1 << 61)])
@pytest.mark.parametrize("kind", [DiscreteGaussian, Skellam])
def test_variances_out_of_range_are_refused(kind, variance):
    with pytest.raises(UsageError, match="variance"):
        kind(variance)
