"""How much noise keeps a budget, and what noise costs.

A protocol opens a sum of `min_clients` clients or more, and aborts below. `colluders` of them may omit their noise or tell
it. So h = min_clients - colluders clients are counted on for noise. Each client adds variance / h of what the sum needs, and
the budget is accounted with h. Clients beyond h only add noise.

**What a neighbour is.** "zero-out": one contribution, or zeros in its place; its noise is there either way. Shares of noise
protect this. A client takes its share with it, so sums with and without a client differ in more than the contribution.
Whoever runs the sum sees who takes part anyway. "add-remove": one contribution present or absent; only for noise made once.
"replace": one contribution or any other; up to twice as far apart, so twice the noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from secagg.dp.accounting import (
    ORDERS,
    Adjacency,
    Sensitivity,
    discrete_gaussian_divergence,
    epsilon_at,
    skellam_divergence,
)
from secagg.dp.samplers import MAX_VARIANCE, DiscreteGaussian, Sampler, Skellam
from secagg.errors import PlanError, UsageError

__all__ = ["Budget", "Cohort", "Noise", "NoiseKind", "calibrate"]

NoiseKind: TypeAlias = Literal["skellam", "discrete gaussian"]

_MIN_GAUSSIAN: Final = 0.25  # of one share; the divergence is not bounded below
_MIN_SKELLAM: Final = 2.0**-20  # of the whole noise
_EXACTNESS: Final = 1e-6  # relative, of the variance found


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent, in all rounds together.

    Args:
      epsilon: positive, finite.
      delta: between 0 and 1; well below one over the number of people.
      rounds: how many sums are released, 1 or more.
      adjacency: what a neighbour is: "zero-out", "add-remove" or "replace"; see the module's docstring.

    Raises:
      UsageError: an argument out of range.
    """

    epsilon: float
    delta: float
    rounds: int = 1
    adjacency: Adjacency = "zero-out"

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < math.inf:
            raise UsageError(f"epsilon is positive and finite, not {self.epsilon}")
        if not 0 < self.delta < 1:
            raise UsageError(f"delta lies between 0 and 1, not {self.delta}; below 1 / number of people")
        if self.rounds < 1:
            raise UsageError(f"expected 1 or more rounds, got {self.rounds}")
        if self.adjacency not in ("zero-out", "add-remove", "replace"):
            raise UsageError(f'adjacency is "zero-out", "add-remove" or "replace", not {self.adjacency!r}')


@dataclass(frozen=True, slots=True)
class Cohort:
    """Who adds noise.

    Args:
      clients: on the roster; none adds more than one share a round.
      min_clients: fewest whose sum the protocol opens; below it aborts.
      colluders: how many of these may omit their noise, or tell it to whoever looks at the sum.

    Raises:
      UsageError: not 1 <= min_clients <= clients, or colluders that leave nobody.
    """

    clients: int = 1
    min_clients: int = 1
    colluders: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.min_clients <= self.clients:
            raise UsageError(
                f"expected min_clients from 1 to the number of clients, {self.clients}, got {self.min_clients}"
            )
        if not 0 <= self.colluders < self.min_clients:
            raise UsageError(
                f"{self.colluders} colluders among min_clients={self.min_clients} leave nobody to count on for noise"
            )

    @property
    def honest(self) -> int:
        """How many clients are counted on for noise: h."""
        return self.min_clients - self.colluders


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise that keeps a budget; from `calibrate`.

    Args:
      kind: "skellam" or "discrete gaussian".
      variance: of one client's share, in units squared.
      sensitivity: how far neighbouring sums lie apart.
      cohort: who adds shares.
      budget: what was asked for.
    """

    kind: NoiseKind
    variance: float
    sensitivity: Sensitivity
    cohort: Cohort
    budget: Budget

    @property
    def min_variance(self) -> float:
        """Variance of the noise that is counted on: h shares."""
        return self.cohort.honest * self.variance

    @property
    def max_variance(self) -> float:
        """Variance of the noise in a sum of all clients."""
        return self.cohort.clients * self.variance

    def epsilon(self, rounds: int | None = None) -> float:
        """Return the epsilon spent after so many rounds (without a number, all), at the budget's delta.

        Raises:
          UsageError: more rounds than the budget is for, or a negative number.
        """
        if rounds is None:
            rounds = self.budget.rounds
        if not 0 <= rounds <= self.budget.rounds:
            raise UsageError(f"the budget is for {self.budget.rounds} rounds, not {rounds}")
        return (
            _spent(self.kind, self.variance, self.sensitivity, self.cohort, self.budget, rounds)
            if rounds
            else 0.0
        )

    def sampler(self) -> Sampler:
        """Return a sampler of one client's share; it takes some hundredths of a second to set up."""
        return Skellam(self.variance) if self.kind == "skellam" else DiscreteGaussian(self.variance)

    def log_tail(self, size: int) -> float:
        """Return the logarithm of a bound on P(|noise| >= size), for one element of a sum of all clients.

        Twice the Chernoff bound. For Skellam noise it is that of its exact moments. For discrete Gaussians it is that of
        Gaussians of the same parameter, whose moments are at least as large [CKS20].
        """
        mu, y = self.max_variance, size / self.max_variance
        if self.kind == "discrete gaussian":
            return min(0.0, math.log(2) - size * y / 2)
        # y^2 / (1 + sqrt(1 + y^2)) is sqrt(1 + y^2) - 1 without cancellation.
        return min(0.0, math.log(2) + mu * (y * y / (1 + math.sqrt(1 + y * y)) - y * math.asinh(y)))

    def tail_bound(self, log_probability: float) -> int:
        """Return the tail bound: the smallest size that noise reaches with this probability at most; see `log_tail`."""
        return _smallest(lambda size: self.log_tail(size) <= log_probability)


def calibrate(
    budget: Budget, cohort: Cohort, sensitivity: Sensitivity, *, kind: NoiseKind = "skellam"
) -> Noise:
    """Return the smallest noise, to a millionth, that keeps the budget.

    Args:
      budget: epsilon and delta over all rounds.
      cohort: who adds shares.
      sensitivity: how far neighbouring sums lie apart under the budget's adjacency; see `Sensitivity.under`.
      kind: "skellam", which is closed under sums, or "discrete gaussian".

    Raises:
      UsageError: an unknown kind, or noise in shares where neighbours are "add-remove".
      PlanError: the budget needs more noise than can be sampled.
    """
    if kind not in ("skellam", "discrete gaussian"):
        raise UsageError(f'noise is "skellam" or "discrete gaussian", not {kind!r}')
    if cohort.clients > 1 and budget.adjacency == "add-remove":
        raise UsageError('with a client goes its share of the noise: use adjacency="zero-out", or "replace"')
    low = _MIN_SKELLAM / cohort.honest if kind == "skellam" else _MIN_GAUSSIAN

    def enough(variance: float) -> bool:
        return _spent(kind, variance, sensitivity, cohort, budget, budget.rounds) <= budget.epsilon

    high = low
    while not enough(high):
        low, high = high, 2 * high
        if high > MAX_VARIANCE:
            raise PlanError(
                f"epsilon={budget.epsilon} over {budget.rounds} rounds at a sensitivity of {sensitivity.l2:.6g} units"
                " takes noise beyond what can be sampled; spend more, or use fewer frac_bits"
            )
    while high > low * (1 + _EXACTNESS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return Noise(kind, high, sensitivity, cohort, budget)


def _spent(
    kind: NoiseKind, variance: float, sensitivity: Sensitivity, cohort: Cohort, budget: Budget, rounds: int
) -> float:
    if kind == "skellam":
        divergences = skellam_divergence(ORDERS, variance=cohort.honest * variance, sensitivity=sensitivity)
    else:
        divergences = discrete_gaussian_divergence(
            ORDERS,
            variance=variance,
            min_shares=cohort.honest,
            max_shares=cohort.clients,
            sensitivity=sensitivity,
        )
    return epsilon_at(ORDERS, rounds * divergences, budget.delta)


def _smallest(holds: Callable[[int], bool]) -> int:
    """Return the smallest non-negative integer for which a monotone condition holds."""
    high = 1
    while not holds(high):
        high *= 2
    low = 0
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
