"""Noise for sums of client vectors: from epsilon and delta to each client's share, the ring, and the report.

  choose      budget, crowd, clip  ->  grid, variance of one share, plan of the ring; the same at all parties
  Contributor  a client: clip, round, add one share of noise, reduce modulo 2^k; then the sum protocol takes over
  Mechanism.to_numbers  a result party: the sum as numbers

h = survivors - colluders clients are counted on for noise: `survivors` is the fewest clients in whose sum the
protocol may end (it aborts below), `colluders` those of them who may omit their noise or tell it. Each client adds
variance / h of what the sum needs, and the budget is accounted with h. Those who take part beyond h only add.

Threat model: h clients follow this program. What is protected is the sum, from whoever sees it, up to (epsilon,
delta); a server that sees single vectors is the sum protocol's to prevent. Noise is added before reduction modulo
2^k and not truncated, so a sum that wraps around costs accuracy, not privacy; how likely that is is reported.

Learns: result parties, the noisy sum, and from the plan its clip, variance and crowd.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secagg.dp.accounting import (
    ORDERS,
    Adjacency,
    Sensitivity,
    discrete_gaussian_divergence,
    epsilon_at,
    skellam_divergence,
)
from secagg.dp.clipping import Grid
from secagg.dp.samplers import MAX_VARIANCE, DiscreteGaussian, Sampler, Skellam
from secagg.errors import PlanError, RangeError, UsageError
from secagg.fixed_point import Plan, plan
from secagg.prg import Stream, system_stream
from secagg.ring import Ring, RingArray

__all__ = [
    "Budget",
    "Contribution",
    "Contributor",
    "Crowd",
    "Mechanism",
    "Noise",
    "NoiseKind",
    "Report",
    "calibrate",
    "choose",
]

NoiseKind: TypeAlias = Literal["skellam", "discrete gaussian"]

_WRAP: Final = 2.0**-40  # planned probability that any element of any round wraps around
_LEAST_GAUSSIAN: Final = 0.25  # of one share; the divergence is not bounded below
_LEAST_SKELLAM: Final = 2.0**-20  # of the whole noise
_EXACTNESS: Final = 1e-6  # relative, of the variance found
# A unit of 1/1024 of the clip, or of 1/16 of the mean size of an element, lengthens vectors by less than 0.2%.
_LEAST_UNITS: Final = 1024
_UNITS_AN_ELEMENT: Final = 16


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent, in all rounds together.

    Args:
      epsilon: positive, finite.
      delta: between 0 and 1; well below one over the number of people.
      rounds: how many sums are released, 1 or more.
      adjacency: what a neighbour is, hence what is protected: "add-remove", whether a client (or row) is in the
        data at all; "replace", which of all possible ones it is, their number being public. Takes twice the noise.

    Raises:
      RangeError, UsageError: an argument out of range.
    """

    epsilon: float
    delta: float
    rounds: int = 1
    adjacency: Adjacency = "add-remove"

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < math.inf:
            raise RangeError(f"epsilon is positive and finite, not {self.epsilon}")
        if not 0 < self.delta < 1:
            raise RangeError(f"delta lies between 0 and 1, not {self.delta}; below 1 / number of people")
        if self.rounds < 1:
            raise RangeError(f"expected 1 or more rounds, got {self.rounds}")
        if self.adjacency not in ("add-remove", "replace"):
            raise UsageError(f'adjacency is "add-remove" or "replace", not {self.adjacency!r}')


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who adds noise.

    Args:
      clients: on the roster; none adds more than one share a round.
      survivors: fewest in whose sum the protocol ends; below it aborts.
      colluders: of these, how many are assumed to omit their noise, or to tell it to whoever looks at the sum.

    Raises:
      RangeError: not 1 <= survivors <= clients, or colluders that leave nobody.
    """

    clients: int = 1
    survivors: int = 1
    colluders: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.survivors <= self.clients:
            raise RangeError(
                f"expected 1 to {self.clients} survivors of {self.clients} clients, got {self.survivors}"
            )
        if not 0 <= self.colluders < self.survivors:
            raise RangeError(
                f"{self.colluders} colluders among {self.survivors} survivors leave nobody to count on for noise"
            )

    @property
    def honest(self) -> int:
        """How many clients are counted on for noise: h."""
        return self.survivors - self.colluders


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise that keeps a budget; from `calibrate`.

    Args:
      kind: "skellam" or "discrete gaussian".
      variance: of one client's share, in units squared.
      sensitivity: of the sum to one contribution.
      crowd: who adds shares.
      budget: what was asked for.
    """

    kind: NoiseKind
    variance: float
    sensitivity: Sensitivity
    crowd: Crowd
    budget: Budget

    @property
    def least_variance(self) -> float:
        """Variance of the noise that is counted on: h shares."""
        return self.crowd.honest * self.variance

    @property
    def most_variance(self) -> float:
        """Variance of the noise in a sum of all clients."""
        return self.crowd.clients * self.variance

    def epsilon(self, rounds: int | None = None) -> float:
        """Return the epsilon spent after so many rounds (without a number, all), at the budget's delta.

        Raises:
          RangeError: more rounds than the budget is for, or a negative number.
        """
        if rounds is None:
            rounds = self.budget.rounds
        if not 0 <= rounds <= self.budget.rounds:
            raise RangeError(f"the budget is for {self.budget.rounds} rounds, not {rounds}")
        return (
            _spent(self.kind, self.variance, self.sensitivity, self.crowd, self.budget, rounds)
            if rounds
            else 0.0
        )

    def sampler(self) -> Sampler:
        """Return a sampler of one client's share; it takes some hundredths of a second to set up."""
        return Skellam(self.variance) if self.kind == "skellam" else DiscreteGaussian(self.variance)

    def log_tail(self, size: int) -> float:
        """Return the logarithm of a bound on P(|noise| >= size), for one element of a sum of all clients.

        Twice the Chernoff bound: for Skellam noise of its exact moments; for discrete Gaussians, whose moments are at
        most those of Gaussians of the same parameter [CKS20, fact 18], the Gaussian one.
        """
        mu, y = self.most_variance, size / self.most_variance
        if self.kind == "skellam":
            # sqrt(1 + y^2) - 1 written so that nothing cancels.
            exponent = mu * (y * y / (1 + math.sqrt(1 + y * y)) - y * math.asinh(y))
        else:
            exponent = -size * y / 2
        return min(0.0, math.log(2) + exponent)

    def reach(self, log_probability: float) -> int:
        """Return the least size whose bound `log_tail` is at most this."""
        return _least(lambda size: self.log_tail(size) <= log_probability)


def calibrate(
    budget: Budget, crowd: Crowd, sensitivity: Sensitivity, *, kind: NoiseKind = "skellam"
) -> Noise:
    """Return the least noise, to a millionth, that keeps the budget.

    Args:
      budget: epsilon and delta over all rounds.
      crowd: who adds shares.
      sensitivity: what one contribution can add to the sum; doubled here where adjacency is "replace".
      kind: "skellam", which is closed under sums, or "discrete gaussian".

    Raises:
      UsageError: an unknown kind.
      PlanError: the budget needs more noise than can be sampled.
    """
    if kind not in ("skellam", "discrete gaussian"):
        raise UsageError(f'noise is "skellam" or "discrete gaussian", not {kind!r}')
    low = _LEAST_SKELLAM / crowd.honest if kind == "skellam" else _LEAST_GAUSSIAN

    def enough(variance: float) -> bool:
        return _spent(kind, variance, sensitivity, crowd, budget, budget.rounds) <= budget.epsilon

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
    return Noise(kind, high, sensitivity, crowd, budget)


@dataclass(frozen=True, slots=True)
class Report:
    """What was spent, and on which assumptions.

    Attributes:
      epsilon, delta: spent, at most; after `rounds` of the planned ones.
      adjacency: what neighbours are.
      rounds: released so far.
      noise: its kind.
      deviation: standard deviation of the noise that is counted on, of one element of the sum, as a number.
      share_deviation: that of one client's share.
      clip: Euclidean norm of a contribution.
      wrap_probability: bound on the probability that any element of any planned round wraps around.
      assumptions: what has to hold for (epsilon, delta) to.
    """

    epsilon: float
    delta: float
    adjacency: Adjacency
    rounds: int
    noise: NoiseKind
    deviation: float
    share_deviation: float
    clip: float
    wrap_probability: float
    assumptions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mechanism:
    """Grid, noise and ring of noisy sums; public, and the same at all parties.

    Args:
      grid: how vectors become integers.
      noise: what is added to them; for the grid's sensitivity.
      plan: of the integers with their noise (frac_bits = 0); its `limit` is no bound on one noisy vector, but
        clients times it is one on the sum, but for `wrap_probability`.

    Raises:
      UsageError: noise for a smaller sensitivity than the grid's.
      PlanError: a plan for fewer clients, or of numbers that are not whole.
    """

    grid: Grid
    noise: Noise
    plan: Plan

    def __post_init__(self) -> None:
        planned, needed = self.noise.sensitivity, self.grid.sensitivity
        if planned.l2 < needed.l2 or planned.l1 < needed.l1 or planned.length != needed.length:
            raise UsageError(f"the noise is for {planned}, the grid gives {needed}; calibrate anew")
        if self.plan.parties < self.noise.crowd.clients or self.plan.frac_bits:
            raise PlanError(
                f"expected a plan of whole numbers for {self.noise.crowd.clients} clients, got {self.plan}"
            )

    @property
    def ring(self) -> Ring:
        """The narrowest ring that the plan's sums fit, which `wrap_probability` is for."""
        return Ring(max(8, self.plan.sum_bits))

    @property
    def wrap_probability(self) -> float:
        """A bound on the probability that any element of any of the rounds wraps around in the narrowest ring."""
        return wrap_probability(self.noise, self.grid.element_units, self.grid.dimension, self.ring)

    def to_numbers(self, total: RingArray, *, seed: bytes | None = None) -> NDArray[np.float64]:
        """Return a sum in the plan's ring as numbers, float64, shape (length,).

        Raises:
          ShapeError: another dtype or shape.
          UsageError: a seed of the rotation missing or not needed.
        """
        return self.grid.to_numbers(self.plan.ring.to_signed(total), seed=seed)

    def report(self, rounds: int | None = None) -> Report:
        """Return what is spent after so many rounds; without a number, after all.

        Raises:
          RangeError: more rounds than planned.
        """
        noise, crowd = self.noise, self.noise.crowd
        budget, unit = noise.budget, self.grid.unit
        return Report(
            epsilon=noise.epsilon(rounds),
            delta=budget.delta,
            adjacency=budget.adjacency,
            rounds=budget.rounds if rounds is None else rounds,
            noise=noise.kind,
            deviation=unit * math.sqrt(noise.least_variance),
            share_deviation=unit * math.sqrt(noise.variance),
            clip=self.grid.clip,
            wrap_probability=self.wrap_probability,
            assumptions=_assumptions(crowd, budget),
        )


def choose(
    budget: Budget,
    crowd: Crowd,
    *,
    clip: float,
    length: int,
    rotated: bool = False,
    element_clip: float | None = None,
    frac_bits: int | None = None,
    kind: NoiseKind = "skellam",
) -> Mechanism:
    """Choose the unit, the noise and the ring of noisy sums.

    Args:
      budget: epsilon and delta over all rounds, and what a neighbour is.
      crowd: who adds noise.
      clip: largest Euclidean norm of a contribution, weight included.
      length: elements of a vector.
      rotated: rotate vectors, so that a narrower ring does.
      element_clip: largest absolute value of an element; see `Grid`.
      frac_bits: the unit is 2**-frac_bits; without it one that lengthens vectors by less than 0.2%.
      kind: of noise; see `calibrate`.

    Raises:
      RangeError, UsageError: an argument out of range.
      PlanError: no noise or no ring of 64 bits is enough.
    """
    if not 0 < clip < math.inf:
        raise RangeError(f"clip is positive and finite, not {clip}")
    if length < 1:
        raise RangeError(f"a vector has 1 or more elements, not {length}")
    if frac_bits is None:
        dimension = 1 << (length - 1).bit_length() if rotated else length
        units = max(_LEAST_UNITS, _UNITS_AN_ELEMENT * math.sqrt(dimension))
        frac_bits = math.ceil(math.log2(units) - math.log2(clip))
    grid = Grid(clip, frac_bits, length, rotated, element_clip)
    noise = calibrate(budget, crowd, grid.sensitivity, kind=kind)
    return Mechanism(grid, noise, ring_plan(noise, grid.element_units, grid.dimension))


def ring_plan(noise: Noise, element_units: int, dimension: int) -> Plan:
    """Return the plan of sums of integers with noise that wrap around with probability 2**-40 at most.

    The noise of the sum needs far less room than that of each client alone: it is planned once, and each client's
    limit raised by its part of it.

    Raises:
      PlanError: no ring of 64 bits does.
    """
    clients = noise.crowd.clients
    tail = noise.reach(math.log(_WRAP) - math.log(dimension) - math.log(noise.budget.rounds))
    each = element_units - (-tail // clients)
    if (clients * each).bit_length() + 1 > 64 or each >= 1 << 53:
        raise PlanError(
            f"sums of {clients} vectors of elements up to {element_units} units, and noise up to {tail}, take more"
            " than 64 bits; use fewer frac_bits, or a larger epsilon"
        )
    return plan(clip=float(each), frac_bits=0, parties=clients)


def wrap_probability(noise: Noise, element_units: int, dimension: int, ring: Ring) -> float:
    """Return a bound on the probability that any element of any round wraps around in a ring.

    Whatever the inputs, their sum keeps to clients * element_units; noise has the room that remains.
    """
    room = (1 << (ring.bits - 1)) - 1 - noise.crowd.clients * element_units
    if room < 0:
        return 1.0
    log = noise.log_tail(room + 1) + math.log(dimension) + math.log(noise.budget.rounds)
    return math.exp(min(0.0, log))


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a client puts into the sum.

    Args:
      values: elements of the plan's ring, shape (dimension,); to be protected by the sum protocol, as one share of
        noise alone hides little.
      clipped: whether the vector was scaled down to the clip; for the client itself.
    """

    values: RingArray = field(repr=False)
    clipped: bool = field(repr=False)


class Contributor:
    """A client's part: the sampler of its noise is set up once.

    Args:
      mechanism: the same at all clients.
    """

    __slots__ = ("_sampler", "mechanism")

    def __init__(self, mechanism: Mechanism) -> None:
        self.mechanism = mechanism
        self._sampler = mechanism.noise.sampler()

    def contribute(
        self, update: ArrayLike, *, seed: bytes | None = None, rng: Stream | None = None
    ) -> Contribution:
        """Return a vector, clipped and rounded, with one share of noise, modulo 2**k.

        Call it once a round: a second share of noise over the same vector tells more about it.

        Args:
          update: numbers, shape (length,), weight included.
          seed: of the rotation, public, one a round; where rotated.
          rng: where rounding and noise draw from; from the operating system without one.

        Raises:
          ShapeError, RangeError: no finite numbers of this shape.
          UsageError: a seed missing or not needed.
        """
        rng = rng or system_stream()
        rounded = self.mechanism.grid.to_integers(np.asarray(update).reshape(1, -1), rng=rng, seed=seed)
        noisy = rounded.values[0] + self._sampler.draw(self.mechanism.grid.dimension, rng)
        return Contribution(self.mechanism.plan.ring.from_signed(noisy), rounded.clipped > 0)


def _spent(
    kind: NoiseKind, variance: float, sensitivity: Sensitivity, crowd: Crowd, budget: Budget, rounds: int
) -> float:
    far = sensitivity.under(budget.adjacency)
    if kind == "skellam":
        divergences = skellam_divergence(ORDERS, variance=crowd.honest * variance, sensitivity=far)
    else:
        divergences = discrete_gaussian_divergence(
            ORDERS, variance=variance, least=crowd.honest, most=crowd.clients, sensitivity=far
        )
    return epsilon_at(ORDERS, rounds * divergences, budget.delta)


def _assumptions(crowd: Crowd, budget: Budget) -> tuple[str, ...]:
    unit = (
        "a client's presence with one contribution of at most the clip a round"
        if budget.adjacency == "add-remove"
        else "which contribution of at most the clip a client makes a round; how many take part is public"
    )
    return (
        f"protected: {unit}",
        f"at least {crowd.survivors} of {crowd.clients} clients are in every released sum, and at least"
        f" {crowd.honest} of those clip and add their noise as told and keep it to themselves",
        "single contributions stay hidden by the sum protocol; only sums are seen",
        "who takes part does not depend on the data; no amplification by sampling is counted",
        "each round draws fresh noise, and a contribution enters one sum a round",
        "noise is drawn unobserved: timing it could tell about it",
    )


def _least(holds: Callable[[int], bool]) -> int:
    """Return the least non-negative integer for which a monotone condition holds."""
    high = 1
    while not holds(high):
        high *= 2
    low = 0
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
