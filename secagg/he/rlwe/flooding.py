"""Flooding [AJL+12, "smudging"]: noise that hides what a partial decryption would tell, and how much it hides.

A key holder's answer is d = c1 s_i + E. For whoever holds all other shares and the decrypted sum, c1 s_i = y + v.
Here y follows from what it holds, and v is the noise of the sum, which depends on s_i and on the clients'
randomness. E hides v. Without E each answer is a linear equation in s_i and v. With E the answers to all
releases under a key are within the **statistical distance** below of E + y, in which nothing secret is left.

E is, for each coefficient, the sum of four numbers uniform in [0, W), W = 2^(F-1), less 2(W-1), so |E| < 2^F.
Four, because the sum then has finite information about a shift. So the distance falls with |v|_2, as for a Gaussian, and
not with |v|_1, as for one uniform number. Drawing the sum needs no floating point.

Bound. Let f be the distribution of one coefficient of E, S the shift by one, J = 4 |sqrt f - S sqrt f|^2.

  1. A shift by k: |sqrt f - S^k sqrt f| <= |k| |sqrt f - S sqrt f|, by the triangle inequality, since shifts keep
     lengths. So the squared Hellinger distance H^2 = |sqrt f - S^k sqrt f|^2 / 2 is at most k^2 J / 8.
  2. Independent coefficients: 1 - H^2 multiplies, so H^2 of a shift by the vector v is at most |v|_2^2 J / 8.
  3. Total variation is at most sqrt(2) H, so TV <= |v|_2 sqrt(J) / 2, and over the choice of v, by Jensen,
     TV <= sqrt(E|v|_2^2 J) / 2 = sqrt(variance * blocks * N * J) / 2.
  4. **J W^2 < 3.12 for every W >= 2^10.** Take a smooth g through the values f(0), f(1), ..: by Cauchy-Schwarz
     (sqrt f(k+1) - sqrt f(k))^2 = (integral of (sqrt g)')^2 <= integral of (sqrt g)'^2 = integral of g'^2 / (4 g),
     so J <= 2 (4 f(0) + I1 + I2), the integrals of g'^2/g over 0..W-1 and W-1..2W-2, twice by symmetry; 4 f(0) is
     the step from f(-1) = 0. With y = x + 2, counting gives
       W^4 g = (y^3 - y) / 6                                     for y in [2, W+1],
       W^4 g = (y^3 - y - 4 ((y-W)^3 - (y-W))) / 6               for y in [W+1, 2W].
     W^4 I1 = integral of (3y^2-1)^2 / (6 (y^3-y)) = [9y^2/2 - ln y + 2 ln(y^2-1)]/6 < 3/4 (W^2+2W-3) + ln(W+1)/2.
     For I2 let t = y/W, P(t) = (t^3 - 4(t-1)^3)/6, the density of four uniform numbers in [0, 1): W g >= P (1 - 1/W^2)
     as P >= 1/6, and W^2 g' = P' + 1/(2W^2) with 0 <= P' <= 2/3, so W^2 I2 <= (A + 4/W^2 + 3/(2W^4)) / (1 - 1/W^2)
     with A = integral of P'^2/P over [1, 2] < 0.8079. Together
       J W^2 < 3/2 + 2 A/(1 - W^-2) + 3/W + ...  <= 3.1188 at W = 2^10, and less for larger W.

What is counted: v comes from **clients that encrypt honestly**, afresh for each upload, with weights multiplied in
before; its variance is that of `noise`. The pseudorandom generator adds its own, computational term. This distance is
the whole guarantee: arguments by Renyi divergence or for Gaussian noise are not used, and it is never rounded to a
"security level".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from secagg.errors import PlanError, UsageError
from secagg.fixed_point import Plan
from secagg.he.rlwe import noise
from secagg.he.rlwe.parameters import Parameters, from_wire, parameters
from secagg.he.rlwe.polynomials import Polynomials
from secagg.he.scheme import PlanFields
from secagg.prg import Stream
from secagg.wire import Message

# An upper bound of J W^2; the proof is in the module's docstring.
INFORMATION: Final = Fraction(312, 100)
MIN_FLOOD_BITS: Final = 11  # W >= 2^10
MAX_FLOOD_BITS: Final = 94  # bits that sums of four words of 32 and of 64 bits hold, with their sign
_MODULI: Final = (96, 128)
_LOW_BITS: Final = 32  # of a number that takes two words


class ReleaseFields(Message, frozen=True):
    """A release plan as a message."""

    degree: int
    modulus_bits: int
    plan: PlanFields
    holders: int
    releases: int
    length: int
    flood_bits: int


@dataclass(frozen=True, slots=True)
class ReleasePlan:
    """How sums under one key will be decrypted, as all key holders and clients agree on it.

    Attributes:
      parameters: the ring.
      plan: of the numbers.
      holders: how many key holders; all of them are needed.
      releases: how many sums will be decrypted under one key.
      length: how many numbers a sum has.
      flood_bits: F; flooding is below 2^F.

    Raises:
      UsageError: an argument out of range.
      PlanError: a sum that could decode wrong.
    """

    parameters: Parameters
    plan: Plan
    holders: int
    releases: int
    length: int
    flood_bits: int

    def __post_init__(self) -> None:
        _check_arguments(self.holders, self.releases, self.length)
        if self.parameters.modulus_bits not in _MODULI:
            raise UsageError(
                f"keys of several key holders take a modulus of 96 or 128 bits, not {self.parameters.modulus_bits}"
            )
        most = _flood_bits(self.plan, self.parameters, self.holders)
        if not MIN_FLOOD_BITS <= self.flood_bits <= most:
            raise PlanError(
                f"expected flooding of {MIN_FLOOD_BITS} to {most} bits, got {self.flood_bits}: with more, sums of "
                f"{self.plan.sum_bits} bits by {self.holders} key holders could decode wrong"
            )

    @property
    def blocks(self) -> int:
        """Polynomials in one sum."""
        return self.parameters.blocks(self.length)

    @property
    def squared_distance(self) -> Fraction:
        """The square of the bound on the statistical distance over all releases, to 15 digits."""
        coefficients = self.releases * self.blocks * self.parameters.degree
        variance = self.plan.parties * Fraction(noise.variance(self.parameters, self.holders))
        width = 1 << (self.flood_bits - 1)
        return variance * coefficients * INFORMATION / (4 * width**2)

    @property
    def log2_distance(self) -> float:
        """The bound's binary logarithm, rounded up to hundredths."""
        squared = self.squared_distance
        exact = (math.log2(squared.numerator) - math.log2(squared.denominator)) / 2
        # The 1e-9 outweighs what float64 has rounded on the way.
        return math.ceil((exact + 1e-9) * 100) / 100

    def to_fields(self) -> ReleaseFields:
        """Return the plan as a message."""
        p = self.plan
        return ReleaseFields(
            self.parameters.degree,
            self.parameters.modulus_bits,
            PlanFields(p.bits, p.frac_bits, p.clip, p.parties, p.max_weight),
            self.holders,
            self.releases,
            self.length,
            self.flood_bits,
        )

    @classmethod
    def from_fields(cls, fields: ReleaseFields, *, peer: str = "") -> Self:
        """Return the plan in a message.

        Raises:
          WireError: parameters off the list.
          PlanError: fields that no plan has.
        """
        p = fields.plan
        return cls(
            from_wire(fields.degree, fields.modulus_bits, peer=peer),
            Plan(p.bits, p.frac_bits, p.clip, p.parties, p.max_weight),
            fields.holders,
            fields.releases,
            fields.length,
            fields.flood_bits,
        )

    def __str__(self) -> str:
        p = self.parameters
        return (
            f"{self.holders} key holders, N={p.degree}, q=2^{p.modulus_bits}, sums of {self.plan.sum_bits} bits, "
            f"{self.releases} releases of {self.blocks} blocks, flooding below 2^{self.flood_bits}: "
            f"statistical distance at most 2^{self.log2_distance:.2f} over all of them"
        )


def plan_release(
    plan: Plan,
    *,
    holders: int,
    releases: int,
    length: int,
    statistical_bits: int = 40,
    modulus_bits: int | None = None,
) -> ReleasePlan:
    """Choose the smallest ring that decodes surely and hides within 2^-statistical_bits.

    Args:
      plan: of the numbers; its `parties` bounds the uploads in a sum.
      holders: how many key holders.
      releases: how many sums will be decrypted under one key.
      length: how many numbers a sum has.
      statistical_bits: the statistical distance over all releases is at most 2 to minus this.
      modulus_bits: 96 or 128; without it the smaller that does.

    Raises:
      UsageError: an argument out of range.
      PlanError: nothing fits; the message says what would.
    """
    _check_arguments(holders, releases, length)
    if modulus_bits not in (None, *_MODULI):
        raise UsageError(f"keys of several key holders take a modulus of 96 or 128 bits, not {modulus_bits}")
    tried: list[ReleasePlan] = []
    for bits in _MODULI if modulus_bits is None else (modulus_bits,):
        ring = parameters(bits)
        flood_bits = _flood_bits(plan, ring, holders)
        if flood_bits < MIN_FLOOD_BITS:
            continue
        found = ReleasePlan(ring, plan, holders, releases, length, flood_bits)
        if found.log2_distance <= -statistical_bits:
            return found
        tried.append(found)
    if not tried:
        raise PlanError(
            f"sums of {plan.sum_bits} bits by {holders} key holders leave no room for flooding"
            f"{'' if modulus_bits is None else f' at q=2^{modulus_bits}'}; plan smaller sums (fewer frac_bits or "
            f"parties), fewer key holders{'' if modulus_bits in (None, 128) else ' or modulus_bits=128'}"
        )
    raise PlanError(_refusal(tried[-1], statistical_bits, widest=modulus_bits in (None, 128)))


def add(target: Polynomials, stream: Stream, flood_bits: int) -> None:
    """Add flooding to polynomials in place: coefficients below 2^flood_bits in absolute value.

    Draws 32 bytes a coefficient, or 48 where flood_bits > 62.

    Raises:
      UsageError: flood_bits out of range.
    """
    if not MIN_FLOOD_BITS <= flood_bits <= MAX_FLOOD_BITS:
        raise UsageError(f"expected flooding of {MIN_FLOOD_BITS} to {MAX_FLOOD_BITS} bits, got {flood_bits}")
    bits, shape = flood_bits - 1, target.low.shape
    if flood_bits <= 62:
        target.add_signed(_four(stream, np.dtype(np.uint64), shape, bits))
        return
    # A uniform number below W is low + 2^32 high with low and high uniform; the sums of four are taken apart.
    low = _four(stream, np.dtype(np.uint32), shape, _LOW_BITS)
    high = _four(stream, np.dtype(np.uint64), shape, bits - _LOW_BITS)
    high += low >> np.int64(_LOW_BITS)
    low &= np.int64((1 << _LOW_BITS) - 1)
    low |= high << np.int64(_LOW_BITS)
    high >>= np.int64(_LOW_BITS)  # the sign is extended, and cut off at the modulus
    ring = target.parameters
    target += Polynomials(ring, low.view(np.uint64), high.view(np.uint64).astype(ring.high_dtype))


def _four(stream: Stream, words: np.dtype[Any], shape: tuple[int, ...], bits: int) -> NDArray[np.int64]:
    """Return the sum of four numbers uniform in [0, 2^bits), less its mean; bits <= 61, or 32 of 32."""
    total = np.zeros(shape, np.uint64)
    word: NDArray[np.unsignedinteger[Any]] = np.empty(shape, words)
    shift = 8 * words.itemsize - bits
    for _ in range(4):
        stream.fill(word)
        if shift:
            word >>= word.dtype.type(shift)
        total += word
    signed = total.view(np.int64)
    signed -= np.int64(2 * ((1 << bits) - 1))
    return signed


def _flood_bits(plan: Plan, ring: Parameters, holders: int) -> int:
    """Return how much flooding there is room for; 0 if there is none."""
    try:
        return min(MAX_FLOOD_BITS, noise.largest_flood_bits(plan, ring, holders))
    except PlanError:
        return 0


def _check_arguments(holders: int, releases: int, length: int) -> None:
    for what, value, least in (("holders", holders, 2), ("releases", releases, 1), ("length", length, 1)):
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 48:
            raise UsageError(f"{what} is a Python int of at least {least}, not {value!r:.40}")


def _refusal(best: ReleasePlan, statistical_bits: int, *, widest: bool) -> str:
    reached = math.floor(-best.log2_distance)
    options = []
    # The distance grows with the square root of the number of blocks.
    fits = int(best.releases / 4.0 ** (best.log2_distance + statistical_bits))
    if fits:
        options.append(f"use releases <= {fits} and a new key after that")
    if reached > 0:
        options.append(f"statistical_bits <= {reached}")
    if not widest:
        options.append("modulus_bits=128")
    options.append("plan smaller sums (fewer frac_bits or parties)")
    return f"{best} instead of 2^-{statistical_bits}; {', or '.join(options)}"
