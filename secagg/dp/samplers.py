"""Exact samplers of discrete Gaussian and Skellam noise.

Discrete Gaussian [CKS20, definition 1]: P(x) proportional to exp(-x^2 / (2 variance)) over the integers. The variance
of the samples is the parameter up to exp(-2 pi^2 variance) relative, and below it.
Skellam: the difference of two independent Poisson numbers of mean variance / 2. Sums of independent Skellam
numbers are Skellam, of the sum of the variances.

Samples have exactly the stated distribution when the stream's words are uniform (`rejection`); no float64 decides
anything. A parameter given as a float stands for the fraction that the float is.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from secagg.dp.distributions import GaussianDistribution, PoissonDistribution
from secagg.dp.rejection import RejectionSampler
from secagg.errors import UsageError
from secagg.prg import Stream, system_stream

__all__ = ["MAX_VARIANCE", "DiscreteGaussian", "Sampler", "Skellam"]

# Poisson numbers of mean variance / 2 have to stay within int64; the discrete Gaussian keeps to the same.
MAX_VARIANCE: Final = 1 << 60
_MIN_VARIANCE: Final = Fraction(1, 1 << 60)


class Sampler(Protocol):
    """A source of noise of one distribution."""

    @property
    def variance(self) -> Fraction: ...
    def draw(self, shape: int | tuple[int, ...], rng: Stream | None = None) -> NDArray[np.int64]: ...


class DiscreteGaussian:
    """Sampler of the discrete Gaussian.

    Args:
      variance: the parameter sigma^2, 2**-60 to 2**60.

    Raises:
      UsageError: a variance out of range.
    """

    __slots__ = ("_sampler", "variance")

    def __init__(self, variance: Fraction | float) -> None:
        self.variance = _checked(variance)
        self._sampler = RejectionSampler(GaussianDistribution(self.variance))

    def __repr__(self) -> str:
        return f"<discrete Gaussian, variance {float(self.variance):.6g}>"

    def draw(self, shape: int | tuple[int, ...], rng: Stream | None = None) -> NDArray[np.int64]:
        """Return independent samples, int64, of the given shape; from the operating system without an rng."""
        return self._sampler.draw(_count(shape), rng or system_stream()).reshape(shape)


class Skellam:
    """Sampler of the symmetric Skellam distribution.

    Args:
      variance: 2**-60 to 2**60.

    Raises:
      UsageError: a variance out of range.
    """

    __slots__ = ("_sampler", "variance")

    def __init__(self, variance: Fraction | float) -> None:
        self.variance = _checked(variance)
        self._sampler = RejectionSampler(PoissonDistribution(self.variance / 2))

    def __repr__(self) -> str:
        return f"<Skellam, variance {float(self.variance):.6g}>"

    def draw(self, shape: int | tuple[int, ...], rng: Stream | None = None) -> NDArray[np.int64]:
        """Return independent samples, int64, of the given shape; from the operating system without an rng."""
        count, rng = _count(shape), rng or system_stream()
        samples = self._sampler.draw(count, rng)
        samples -= self._sampler.draw(count, rng)
        return samples.reshape(shape)


def _count(shape: int | tuple[int, ...]) -> int:
    return shape if isinstance(shape, int) else math.prod(shape)


def _checked(variance: Fraction | float) -> Fraction:
    # NaN fails the comparison, and infinity is no fraction.
    if not 0 < variance <= MAX_VARIANCE or (exact := Fraction(variance)) < _MIN_VARIANCE:
        raise UsageError(f"a variance of noise is 2**-60 to 2**60, not {variance}")
    return exact
