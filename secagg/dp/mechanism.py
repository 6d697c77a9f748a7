"""Noise in sums of client vectors: grid, noise and ring chosen together; clients' shares; the report.

  choose       budget, cohort, clip  ->  grid, variance of one share, plan of the ring; the same at all parties
  Contributor  a client: clip, round, add one share of noise, reduce modulo 2^k; then the sum protocol takes over
  Mechanism.to_numbers  a result party: the sum as numbers

Threat model: as many clients as are counted on (`Cohort.honest`) follow this program. The sum is protected from whoever
sees it, up to (epsilon, delta). The sum protocol has to keep single vectors from the server. Noise is added before
reduction modulo 2^k and not truncated, so a sum that wraps around costs accuracy, not privacy. The probability is reported.

Learns: result parties, the noisy sum. Clip, variance and cohort are public.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secagg.dp.accounting import Adjacency
from secagg.dp.calibration import Budget, Cohort, Noise, NoiseKind, calibrate
from secagg.dp.clipping import Grid
from secagg.errors import PlanError, UsageError
from secagg.fixed_point import Plan, plan
from secagg.prg import Stream, system_stream
from secagg.ring import Ring, RingArray

__all__ = [
    "Contribution",
    "Contributor",
    "Mechanism",
    "Report",
    "choose",
    "report",
    "ring_plan",
    "wrap_probability",
]

_WRAP: Final = 2.0**-40  # planned probability that any element of any round wraps around
# A unit of 1/1024 of the clip, or of 1/16 of the mean size of an element, lengthens vectors by less than 0.2%.
_MIN_UNITS: Final = 1024
_UNITS_AN_ELEMENT: Final = 16


@dataclass(frozen=True, slots=True)
class Report:
    """What was spent, and on which assumptions.

    Attributes:
      epsilon, delta: spent, at most; after `rounds` of the planned ones.
      adjacency: what neighbours are.
      rounds: released so far.
      noise: its kind.
      noise_std: standard deviation of the noise that is counted on, of one element of the sum, as a number.
      share_std: that of one client's share.
      clip: Euclidean norm of a contribution.
      wrap_probability: bound on the probability that any element of any planned round wraps around.
      assumptions: what has to hold for (epsilon, delta) to.
    """

    epsilon: float
    delta: float
    adjacency: Adjacency
    rounds: int
    noise: NoiseKind
    noise_std: float
    share_std: float
    clip: float
    wrap_probability: float
    assumptions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mechanism:
    """Grid, noise and ring of noisy sums; public, and the same at all parties.

    Args:
      grid: how vectors become integers.
      noise: what is added to them; for the grid's sensitivity.
      plan: of the integers with their noise, frac_bits = 0. `clients * limit` bounds the sum except with
        `wrap_probability`; a single noisy vector may exceed `limit`.

    Raises:
      UsageError: noise for a smaller sensitivity than the grid's.
      PlanError: a plan for fewer clients, or of numbers that are not whole.
    """

    grid: Grid
    noise: Noise
    plan: Plan

    def __post_init__(self) -> None:
        planned, needed = self.noise.sensitivity, self.grid.sensitivity.under(self.noise.budget.adjacency)
        if planned.l2 < needed.l2 or planned.l1 < needed.l1 or planned.length != needed.length:
            raise UsageError(f"the noise is for {planned}, the grid needs {needed}; calibrate anew")
        if self.plan.parties < self.noise.cohort.clients or self.plan.frac_bits:
            raise PlanError(
                f"expected a plan of whole numbers for {self.noise.cohort.clients} clients, got {self.plan}"
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
          UsageError: more rounds than planned.
        """
        return report(
            self.noise,
            unit=self.grid.unit,
            clip=self.grid.clip,
            wraps=self.wrap_probability,
            rounds=rounds,
        )


def choose(
    budget: Budget,
    cohort: Cohort,
    *,
    clip: float,
    length: int,
    random_rotation: bool = False,
    element_clip: float | None = None,
    frac_bits: int | None = None,
    kind: NoiseKind = "skellam",
) -> Mechanism:
    """Choose the unit, the noise and the ring of noisy sums.

    Args:
      budget: epsilon and delta over all rounds, and what a neighbour is.
      cohort: who adds noise.
      clip: largest Euclidean norm of a contribution, weight included.
      length: elements of a vector.
      random_rotation: rotate vectors, so that a narrower ring does.
      element_clip: largest absolute value of an element; see `Grid`.
      frac_bits: the unit is 2**-frac_bits; without it one that lengthens vectors by less than 0.2%.
      kind: of noise; see `calibrate`.

    Raises:
      UsageError: an argument out of range.
      PlanError: no noise or no ring of 64 bits is enough.
    """
    if not 0 < clip < math.inf:
        raise UsageError(f"clip is positive and finite, not {clip}")
    if length < 1:
        raise UsageError(f"a vector has 1 or more elements, not {length}")
    if frac_bits is None:
        dimension = 1 << (length - 1).bit_length() if random_rotation else length
        units = max(_MIN_UNITS, _UNITS_AN_ELEMENT * math.sqrt(dimension))
        frac_bits = math.ceil(math.log2(units) - math.log2(clip))
    grid = Grid(clip, frac_bits, length, random_rotation, element_clip)
    noise = calibrate(budget, cohort, grid.sensitivity.under(budget.adjacency), kind=kind)
    return Mechanism(grid, noise, ring_plan(noise, grid.element_units, grid.dimension))


def ring_plan(noise: Noise, element_units: int, dimension: int) -> Plan:
    """Return the plan of sums of integers with noise that wrap around with probability 2**-40 at most.

    The noise of the sum needs far less room than that of each client alone. It is planned once, and each client's limit is
    raised by its part of it.

    Raises:
      PlanError: no ring of 64 bits does.
    """
    clients = noise.cohort.clients
    tail = noise.tail_bound(math.log(_WRAP) - math.log(dimension) - math.log(noise.budget.rounds))
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
    room = (1 << (ring.bits - 1)) - 1 - noise.cohort.clients * element_units
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


def report(
    noise: Noise, *, unit: float, clip: float, wraps: float = 0.0, rounds: int | None = None
) -> Report:
    """Return what noise costs after so many rounds; without a number, after all.

    Args:
      noise: in units.
      unit: the value of one unit.
      clip: largest Euclidean norm of a contribution, as a number.
      wraps: probability that the sum wraps around.
      rounds: released so far.

    Raises:
      UsageError: more rounds than planned.
    """
    budget = noise.budget
    return Report(
        epsilon=noise.epsilon(rounds),
        delta=budget.delta,
        adjacency=budget.adjacency,
        rounds=budget.rounds if rounds is None else rounds,
        noise=noise.kind,
        noise_std=unit * math.sqrt(noise.min_variance),
        share_std=unit * math.sqrt(noise.variance),
        clip=clip,
        wrap_probability=wraps,
        assumptions=_assumptions(noise),
    )


def _assumptions(noise: Noise) -> tuple[str, ...]:
    cohort = noise.cohort
    protected = {
        "zero-out": "what a contribution is, or that it is not all zeros; not who takes part",
        "add-remove": "whether a contribution is there at all, and what it is",
        "replace": "what a contribution is; not how many there are or who takes part",
    }
    lines = [
        f"protected: {protected[noise.budget.adjacency]}; one contribution of each person or client a round",
        "who takes part does not depend on the data; no amplification by sampling is counted",
        "noise is fresh in each round, and drawn unobserved: timing it could tell about it",
    ]
    if cohort.clients > 1:
        lines += [
            f"at least {cohort.min_clients} of {cohort.clients} clients are in every sum that is released",
            f"at least {cohort.honest} of those clip, add their noise as told, and tell nobody about it",
            "single contributions stay hidden by the sum protocol; only sums are seen",
        ]
    return tuple(lines)
