"""Weights against mpmath, at other precisions and by other formulas."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction

import pytest

pytest.importorskip("dp_accounting", reason="differential privacy needs dp-accounting")

import mpmath

from secagg.dp.distributions import DIGITS, GaussianDistribution, PoissonDistribution

PLACES = 220


def exactly(value):
    return mpmath.mpf(str(value))


@pytest.mark.parametrize("digits", [DIGITS, 52, 72, 132])
@pytest.mark.parametrize("mean", ["1/1024", "1/2", "7/3", "39", "1000003/7", "1e9", str(1 << 59)])
def test_poisson_weights_err_by_less_than_stated(mean, digits):
    distribution = PoissonDistribution(Fraction(mean))
    with mpmath.workdps(PLACES):
        rate, k = mpmath.mpf(Fraction(mean).numerator) / Fraction(mean).denominator, distribution.mode
        numbers = {
            0,
            1,
            2,
            17,
            k,
            max(0, k - 1),
            k + 1,
            max(0, k - 5 * distribution.spread),
            k + 9 * distribution.spread,
        }
        for x in sorted(numbers):
            true = (x - k) * mpmath.log(rate) - mpmath.loggamma(x + 1) + mpmath.loggamma(k + 1)
            assert abs(exactly(distribution.log_weight(x, digits)) - true) < mpmath.mpf(10) ** -digits


@pytest.mark.parametrize("digits", [DIGITS, 72])
@pytest.mark.parametrize("variance", ["1/1000000", "1/4", "22/7", "1e18"])
def test_gaussian_weights_err_by_less_than_stated(variance, digits):
    distribution = GaussianDistribution(Fraction(variance))
    with mpmath.workdps(PLACES):
        for x in (0, 1, -1, 7, 10 * distribution.spread, 1 << 70):
            true = -(mpmath.mpf(x) ** 2) * Fraction(variance).denominator / (2 * Fraction(variance).numerator)
            assert abs(exactly(distribution.log_weight(x, digits)) - true) < mpmath.mpf(10) ** -digits


def test_nothing_below_zero_is_poisson():
    assert PoissonDistribution(Fraction(3)).log_weight(-1, DIGITS) is None


def test_weights_do_not_depend_on_the_callers_decimal_context():
    distribution = PoissonDistribution(Fraction(1234, 5))
    usual = distribution.log_weight(271, DIGITS)
    with localcontext(prec=5):
        assert distribution.log_weight(271, DIGITS) == usual
        assert PoissonDistribution(Fraction(1234, 5)).log_weight(271, DIGITS) == usual
    assert isinstance(usual, Decimal)
