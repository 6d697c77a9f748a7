"""What everybody agrees on before a bounded sum: who takes part, and bounds that no wrap can get around."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from secagg.errors import PlanError, RangeError, ShapeError, UsageError
from secagg.fixed_point import Plan, Rounding
from secagg.mpc.numbers import RING64
from secagg.protocols.roles import Roles
from secagg.ring import Ring, RingArray
from secagg.signing import digest

LABEL: Final = "secagg.protocols.bounded_sum"
_AT_ONCE: Final = 1 << 20  # numbers of the clients that are checked together


@dataclass(frozen=True, slots=True)
class Bounds:
    """What each client's vector has to keep to, in units of the last place.

    Args:
      length: coordinates of a vector, d.
      coordinate: largest absolute value of a coordinate, B.
      squared_norm: largest sum of squares, C.
      max_weight: largest weight, W; None where vectors have no weights.
      ring: what vectors are elements of; 64 bits but for tests.

    Raises:
      UsageError: not positive integers.
      PlanError: coordinates within bounds whose sum of squares could wrap; the message says what fits.
    """

    length: int
    coordinate: int
    squared_norm: int
    max_weight: int | None = None
    ring: Ring = RING64

    def __post_init__(self) -> None:
        for name in ("length", "coordinate", "squared_norm", "max_weight"):
            value = getattr(self, name)
            if not ((isinstance(value, int) and value >= 1) or (name == "max_weight" and value is None)):
                raise UsageError(f"expected {name} as a Python int of at least 1, got {value!r}")
        weight, most = self.max_weight or 1, self.largest
        # The first keeps squared norms below half the ring, the second both comparisons of a coordinate exact.
        if self.length * (weight * self.limit) ** 2 > most or 2 * weight * self.limit > most:
            fits = min(math.isqrt(most // self.length), most // 2) // weight
            raise PlanError(
                f"{self.length} coordinates of up to {self.limit} units with weights up to {weight} can have a squared "
                f"norm that wraps in {self.ring.bits} bits, so that a check could be fooled; at most {fits} units "
                f"fit: use {max(1, math.ceil(math.log2(self.limit / fits))) if fits else 'many'} frac_bits less, "
                f"a smaller clip or norm, or smaller weights"
            )

    @property
    def largest(self) -> int:
        """The largest number of the ring in two's complement."""
        return (self.ring.modulus >> 1) - 1

    @property
    def limit(self) -> int:
        """The bound that coordinates are compared with: none is larger than the norm."""
        return min(self.coordinate, math.isqrt(self.squared_norm))

    @property
    def norm_limit(self) -> int:
        """The bound that sums of squares are compared with: none is larger than d limits."""
        return min(self.squared_norm, self.length * self.limit**2)

    @property
    def columns(self) -> int:
        """Numbers that a client shares: its weight, where there are weights, and its coordinates."""
        return self.length + (self.max_weight is not None)

    def row(self, x: RingArray, weight: int | None) -> RingArray:
        """Return what a client shares: x, or its weight and x times it.

        Args:
          x: elements of the ring, shape (length,), within the bounds; not changed.
          weight: 0 to max_weight; None where there are no weights.

        Raises:
          ShapeError: x of another shape or dtype.
          RangeError: x or weight out of bounds.
          UsageError: a weight where there are none, or none where there are.
        """
        self.ring.check(x)
        if x.shape != (self.length,):
            raise ShapeError(f"expected a vector of {self.length} elements, got shape {x.shape}")
        if (weight is None) != (self.max_weight is None):
            raise UsageError("expected a weight if, and only if, the bounds have a largest one")
        signed = self.ring.to_signed(x)
        if int(np.max(signed)) > self.limit or int(np.min(signed)) < -self.limit:
            raise RangeError(f"a coordinate lies beyond +-{self.limit} units; clip the vector")
        if int(np.vecdot(signed, signed)) > self.norm_limit:
            raise RangeError(f"the vector's squared norm is above {self.norm_limit} units; scale it down")
        if weight is None or self.max_weight is None:
            return x
        if not 0 <= weight <= self.max_weight:
            raise RangeError(f"a weight lies outside 0 to {self.max_weight}")
        row = np.empty(self.columns, self.ring.dtype)
        row[0] = weight
        np.multiply(x, self.ring.dtype.type(weight), out=row[1:])
        return self.ring.reduce(row)

    def allow(self, row: RingArray) -> bool:
        """Return whether a row that a client shared keeps to the bounds, by exact arithmetic on integers.

        A weighted row need not be a multiple of its weight; it is held to the limits that multiples keep to.
        """
        numbers = [int(v) for v in self.ring.to_signed(row)]
        weight = numbers.pop(0) if self.max_weight is not None else 1
        return (
            0 <= weight <= (self.max_weight or 1)
            and all(abs(v) <= weight * self.limit for v in numbers)
            and sum(v * v for v in numbers) <= weight * weight * self.norm_limit
        )


def rounded_norm(norm: Fraction, length: int, rounding: Rounding = "nearest") -> int:
    """Return the least bound on squared norms, up to one unit, that vectors of this norm keep to once rounded to integers.

    Args:
      norm: in units of the last place.
      length: coordinates of a vector.
      rounding: "nearest" moves it by at most sqrt(length) / 2 units, "stochastic" by sqrt(length).
    """
    # floor((a + e)**2) <= floor(a**2 + e**2) + floor(sqrt(4 a**2 e**2)) + 1, all of it exact.
    a2, e2 = norm * norm, Fraction(length, 4 if rounding == "nearest" else 1)
    return math.floor(a2 + e2) + math.isqrt(math.floor(4 * a2 * e2)) + 1


def bounds_for(
    plan: Plan,
    length: int,
    *,
    norm: float | None = None,
    weighted: bool = False,
    rounding: Rounding = "nearest",
) -> Bounds:
    """Return the bounds on encoded vectors that every vector within clip and norm keeps to.

    Rounding moves a vector by at most e = sqrt(length) / 2 units (stochastic: sqrt(length)). So an encoded vector may
    have a norm of norm * 2**frac_bits + e, and one unit more in the squared norm.

    Args:
      plan: how numbers are encoded, in 64 bits; its clip bounds coordinates, its max_weight weights.
      length: coordinates of a vector.
      norm: largest Euclidean norm; without it coordinates alone are bounded.
      weighted: whether vectors have weights.
      rounding: as vectors are encoded.

    Raises:
      UsageError: a norm that is not a positive number.
      PlanError: another ring; or a squared norm could wrap, and the message says what fits.
    """
    if plan.bits != RING64.bits:
        raise PlanError(f"bounds are checked in 64 bits; plan with bits=64, not {plan.bits}")
    squared = length * plan.limit**2
    if norm is not None:
        if not (math.isfinite(norm) and norm > 0):
            raise UsageError(f"expected a positive norm, got {norm}")
        squared = min(squared, rounded_norm(Fraction(norm) * (1 << plan.frac_bits), length, rounding))
    return Bounds(length, plan.limit, squared, plan.max_weight if weighted else None)


@dataclass(frozen=True, slots=True)
class Terms:
    """Who takes part in a bounded sum, and how; the same at all parties.

    Args:
      roles: clients, the aggregators P_0, P_1 and P_2, none of them a client, and who learns the sum.
      bounds: what each vector has to keep to.
      min_clients: fewest vectors within bounds whose sum is opened, at least 2.
      batch: how many clients are checked at a time, at most: fewer where their vectors are long (`rows_at_once`).
      timeout_s: how long P_0 and P_1 wait for uploads. The driver has to let parties wait longer.

    Raises:
      UsageError: roles without three aggregators apart from the clients, or with key holders; min_clients, batch or
        timeout_s out of range.
      PlanError: a sum of so many vectors could wrap.
    """

    roles: Roles
    bounds: Bounds
    min_clients: int
    batch: int = 8
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        roles, n = self.roles, len(self.roles.clients)
        if (
            len(roles.aggregators) != 3
            or roles.key_holders
            or not roles.numbers.keys().isdisjoint(roles.aggregators)
        ):
            raise UsageError(
                f"expected three aggregators that are not clients, and no key holders; got {', '.join(roles.aggregators)}"
            )
        roles.check_terms(min_clients=self.min_clients, timeout_s=self.timeout_s)
        if self.batch < 1:
            raise UsageError(f"expected batches of at least one client, got {self.batch}")
        bounds = self.bounds
        if n * (bounds.max_weight or 1) * bounds.limit > bounds.largest:
            raise PlanError(
                f"a sum of {n} vectors of up to {(bounds.max_weight or 1) * bounds.limit} units can "
                f"wrap in {bounds.ring.bits} bits; use fewer frac_bits, smaller bounds or weights"
            )

    @property
    def rows_at_once(self) -> int:
        """How many clients are checked at a time: as many as have a million numbers together, or one."""
        return max(1, min(self.batch, _AT_ONCE // self.bounds.columns))

    def fingerprint(self) -> bytes:
        """Return a digest of the terms, 32 bytes; the time that aggregators wait is their own affair."""
        b = self.bounds
        numbers = [
            b.length,
            b.coordinate,
            b.squared_norm,
            b.max_weight or 0,
            b.ring.bits,
            self.min_clients,
            self.batch,
        ]
        # A squared norm has no bound of its own: each number takes as many bytes as it needs.
        parts = [number.to_bytes(number.bit_length() // 8 + 1, "big") for number in numbers]
        return digest(f"{LABEL}/terms", [self.roles.fingerprint(), *parts])
