"""Weights of the noise distributions, to any number of decimal places, with proven error.

`decimal` computes with as many places as it is told. Its quotients, logarithms and exponentials are correctly rounded. It
is used here as interval arithmetic is. A distribution gives ln f(x) with f proportional to the probability of x,
f(mode) = 1, and is log-concave: f(x)^2 >= f(x - 1) f(x + 1).
"""

from __future__ import annotations

import functools
import math
from decimal import (
    MAX_EMAX,
    MIN_EMIN,
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
)
from fractions import Fraction
from typing import Final, NamedTuple, Protocol

__all__ = ["DIGITS", "Distribution", "GaussianDistribution", "PoissonDistribution", "context"]

DIGITS: Final = 32  # decimal places that all but one decision in 2^64 are made with
_SPARE: Final = 25  # places lost when numbers as large as _LARGE times their logarithm cancel, and two more
_LARGE: Final = 10**20
_TERMS: Final = 32  # of Stirling's series


class Distribution(Protocol):
    """A log-concave distribution over the integers.

    Attributes:
      mode: where the weight is largest.
      spread: about the standard deviation, at least 1.
    """

    @property
    def mode(self) -> int: ...
    @property
    def spread(self) -> int: ...
    def log_weight(self, x: int, digits: int) -> Decimal | None:
        """Return ln f(x), within 10**-digits; None where f(x) = 0."""


def context(places: int) -> Context:
    """Return a decimal context of so many significant places that nothing outside has a say in."""
    return Context(
        prec=places,
        rounding=ROUND_HALF_EVEN,
        Emin=MIN_EMIN,
        Emax=MAX_EMAX,
        capitals=1,
        clamp=0,
        flags=[],
        traps=[InvalidOperation, DivisionByZero, Overflow],
    )


class GaussianDistribution:
    """The discrete Gaussian, f(x) = exp(-x^2 / (2 variance)) [CKS20, definition 1]."""

    __slots__ = ("_variance", "spread")
    mode: Final = 0

    def __init__(self, variance: Fraction) -> None:
        self._variance = variance
        self.spread = math.isqrt(math.floor(variance)) + 1

    def log_weight(self, x: int, digits: int) -> Decimal:
        """Return ln f(x), within 10**-digits."""
        numerator = x * x * self._variance.denominator
        denominator = 2 * self._variance.numerator
        # The quotient is rounded once, by at most half a unit of its last place.
        places = digits + len(str(numerator // denominator)) + 1
        return context(places).divide(Decimal(-numerator), Decimal(denominator))


class _Constants(NamedTuple):
    context: Context
    log_mean: Decimal
    at_mode: Decimal
    stirling: tuple[Decimal, ...]


class PoissonDistribution:
    """The Poisson distribution, f(x) = mean^(x - mode) mode! / x!.

    ln x! comes from Stirling's series, whose rest is smaller than the first term left out and has its sign.
    """

    __slots__ = ("_constants", "_mean", "mode", "spread")

    def __init__(self, mean: Fraction) -> None:
        self._mean = mean
        self.mode = math.floor(mean)
        self.spread = math.isqrt(self.mode) + 1
        self._constants = self._at(DIGITS + _SPARE)

    def log_weight(self, x: int, digits: int) -> Decimal | None:
        """Return ln f(x), within 10**-digits; None for x < 0."""
        if x < 0:
            return None
        known = digits == DIGITS and x < _LARGE
        spare = _SPARE if x < _LARGE else len(str(x)) + 5
        constants = self._constants if known else self._at(digits + spare)
        ctx = constants.context
        power = ctx.multiply(Decimal(x - self.mode), constants.log_mean)
        return ctx.subtract(power, ctx.subtract(_log_factorial(x, constants), constants.at_mode))

    def _at(self, places: int) -> _Constants:
        ctx = context(places)
        log_mean = ctx.ln(ctx.divide(Decimal(self._mean.numerator), Decimal(self._mean.denominator)))
        stirling = tuple(ctx.divide(Decimal(c.numerator), Decimal(c.denominator)) for c in _stirling())
        constants = _Constants(ctx, log_mean, Decimal(0), stirling)
        return constants._replace(at_mode=_log_factorial(self.mode, constants))


def _log_factorial(x: int, constants: _Constants) -> Decimal:
    """Return ln x! - ln(2 pi) / 2: the constant cancels in f."""
    ctx = constants.context
    # ln x! = ln (y-1)! - ln((x+1) ... (y-1)). The k-th term of the series is below
    # 2 y (2k)! / (2 pi y)^(2k), so below 10^-places for k = _TERMS as soon as y >= 8 * 10^(places / 64).
    y = max(x + 1, 16 << (ctx.prec // 19))
    ln_y = ctx.ln(Decimal(y))
    total = ctx.subtract(ctx.multiply(ctx.divide(Decimal(2 * y - 1), Decimal(2)), ln_y), Decimal(y))
    if y > x + 1:
        total = ctx.subtract(total, ctx.ln(Decimal(math.prod(range(x + 1, y)))))
    power = ctx.divide(Decimal(1), Decimal(y))
    square = ctx.multiply(power, power)
    for coefficient in constants.stirling:
        term = ctx.multiply(coefficient, power)
        if term.adjusted() < -ctx.prec:
            break
        total = ctx.add(total, term)
        power = ctx.multiply(power, square)
    return total


@functools.cache
def _stirling() -> tuple[Fraction, ...]:
    """Return the coefficients of Stirling's series."""
    bernoulli = _bernoulli(2 * _TERMS)
    return tuple(bernoulli[2 * k] / (2 * k * (2 * k - 1)) for k in range(1, _TERMS + 1))


def _bernoulli(last: int) -> list[Fraction]:
    """Return the Bernoulli numbers B_0 to B_last, B_1 = -1/2."""
    numbers = [Fraction(1)]
    for m in range(1, last + 1):
        numbers.append(-sum((math.comb(m + 1, k) * b for k, b in enumerate(numbers)), Fraction(0)) / (m + 1))
    return numbers
