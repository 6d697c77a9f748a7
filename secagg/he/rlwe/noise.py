"""How much room noise takes beside the numbers, and which plans leave it.

A number m is encrypted as m 2^shift, shift = w - (bits of a sum), with noise beside it. A sum decodes right while its
noise stays below half a step, 2^(shift - 1). With n key holders, N coefficients a block and noise of variance sigma^2 =
10.5, each bounded by 21:

    c0 + sum_i c1 s_i = m 2^shift + v,    v = e u + e0 + e1 s,    e, s: sums of the key holders' noises and secrets
    one encryption        variance sigma^2 (1 + 4 n N / 3),   |v| <= 21 (2 n N + 1)
    sum of k_j times encryptions: the variance times sum k_j^2, the bound times sum |k_j|

Single key, not flooded: z standard deviations must be less than half a step, z^2 = 2 ln(2 2^40 coefficients). Ternary and
binomial variables are sub-Gaussian with their own variance as parameter, so that given the key, all coefficients
are right but with probability 2^-40. The variance given the key differs between keys by 1.2 % (one standard
deviation), which on average over keys makes that 1.2 times 2^-40.

Several key holders, who each add up to 2^F of flooding: V + n 2^F < 2^(shift - 1) in the worst case. V is the bound for
all the weight that the plan allows. No honest run can decode wrong.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from fractions import Fraction
from typing import Final

from secagg.errors import PlanError
from secagg.fixed_point import Plan
from secagg.he.rlwe.parameters import Parameters
from secagg.he.rlwe.sampling import ETA

FAILURE_BITS: Final = 40  # a sum under a single key decodes wrong with probability 2^-40 at most


def shift(plan: Plan, parameters: Parameters) -> int:
    """Return how far up a number is moved to leave room for noise below it.

    Raises:
      PlanError: sums as wide as the modulus.
    """
    room = parameters.modulus_bits - plan.sum_bits
    if room < 1:
        raise PlanError(
            f"sums of {plan.sum_bits} bits leave nothing of a modulus of {parameters.modulus_bits} bits for noise; "
            f"{' or '.join([*_wider(parameters), 'plan for fewer bits'])}"
        )
    return room


@functools.cache  # as many entries as there are kinds of keys; asked for at each addition
def variance(parameters: Parameters, holders: int) -> Fraction:
    """Return the variance of one encryption's noise in each coefficient."""
    return Fraction(ETA, 2) * (1 + Fraction(4 * holders * parameters.degree, 3))


def worst_case(parameters: Parameters, holders: int, weight: int) -> int:
    """Return V, which no noise of a sum of that weight exceeds."""
    return ETA * weight * (2 * holders * parameters.degree + 1)


def tail_bound(parameters: Parameters, squares: int, coefficients: int) -> int:
    """Return what no coefficient's noise under a single key exceeds, but with probability 2^-40.

    Args:
      squares: the sum of the squares of the factors of all encryptions in the sum.
      coefficients: how many there are.
    """
    return 1 + math.isqrt(squares * _unit_tail(parameters, coefficients) - 1)


def largest_residual(
    plan: Plan,
    parameters: Parameters,
    *,
    weight: int,
    squares: int,
    coefficients: int,
    holders: int = 1,
    flood_bits: int = 0,
) -> int:
    """Return how far from a multiple of 2^shift a decrypted coefficient may be.

    Args:
      weight, squares: of the sum, as its ciphertext says; see `tail_bound`.
      coefficients: of all its blocks.
      holders, flood_bits: of the key.
    """
    worst = worst_case(parameters, holders, weight)
    if flood_bits:
        return worst + holders * (1 << flood_bits)
    # Where even the worst case decodes right, nothing else is asked for.
    half = 1 << (shift(plan, parameters) - 1)
    return worst if worst < half else tail_bound(parameters, squares, coefficients)


def check(
    plan: Plan, parameters: Parameters, *, coefficients: int, holders: int = 1, flood_bits: int = 0
) -> None:
    """Refuse a plan whose sums could decode wrong.

    Args:
      plan: its capacity, parties * max_weight, is taken for the number of encryptions in a sum.
      coefficients: of one ciphertext, all blocks.
      holders, flood_bits: of the key.

    Raises:
      PlanError: there is not enough room; the message says what would fit.
    """
    half = 1 << (shift(plan, parameters) - 1)
    weight = plan.parties * plan.max_weight
    if _need(parameters, holders, flood_bits, weight, coefficients) < half:
        return
    if flood_bits:
        largest = _flood_bits(half, parameters, holders, weight)
        most = (half - 1 - holders * (1 << flood_bits)) // worst_case(parameters, holders, 1)
        case = f"with {holders} holders' flooding of {flood_bits} bits"
        options = [f"make a key with flood_bits <= {largest}"] if largest else []
    else:
        most, options = largest_squares(plan, parameters, coefficients), []
        case = f"in {coefficients} coefficients"
    if most > 0:
        options.append(f"plan for parties * max_weight <= {most}")
    narrower = (replace(plan, frac_bits=f) for f in range(plan.frac_bits - 1, -1, -1))
    for other in narrower:
        if _need(parameters, holders, flood_bits, weight, coefficients) < 1 << (shift(other, parameters) - 1):
            options.append(f"frac_bits <= {other.frac_bits}")
            break
    wider = _wider(parameters)
    raise PlanError(
        f"{_case(plan, parameters)}, and {weight} summands {case} may need more; "
        f"{' or '.join([*options, *wider]) or 'plan for fewer bits'}"
    )


@functools.lru_cache(maxsize=64)  # asked for at each addition, always the same
def largest_squares(plan: Plan, parameters: Parameters, coefficients: int) -> int:
    """Return how much noise a sum under a single key may have, in encryptions: see `tail_bound`."""
    half = 1 << (shift(plan, parameters) - 1)
    return (half - 1) ** 2 // _unit_tail(parameters, coefficients)


def largest_flood_bits(plan: Plan, parameters: Parameters, holders: int) -> int:
    """Return the largest F with V + n 2^F < 2^(shift - 1).

    Raises:
      PlanError: not even 1 fits.
    """
    weight = plan.parties * plan.max_weight
    half = 1 << (shift(plan, parameters) - 1)
    bits = _flood_bits(half, parameters, holders, weight)
    if bits < 1:
        raise PlanError(
            f"{_case(plan, parameters)}, less than the noise of {weight} summands under the key of {holders} "
            f"holders; {' or '.join([*_wider(parameters), 'plan for fewer bits or summands'])}"
        )
    return bits


def _unit_tail(parameters: Parameters, coefficients: int) -> int:
    """Return (z standard deviations)^2 of one encryption under a single key, rounded up."""
    z_squared = 2 * ((1 + FAILURE_BITS) * math.log(2) + math.log(coefficients))
    return math.ceil(z_squared * float(variance(parameters, 1)))


def _need(p: Parameters, holders: int, flood_bits: int, weight: int, coefficients: int) -> int:
    """Return what must be less than half a step."""
    if flood_bits:
        return worst_case(p, holders, weight) + holders * (1 << flood_bits)
    return tail_bound(p, weight, coefficients)


def _flood_bits(half: int, parameters: Parameters, holders: int, weight: int) -> int:
    # n 2^F <= half - 1 - V
    room = max(0, half - 1 - worst_case(parameters, holders, weight))
    return max(0, (room // holders).bit_length() - 1)


def _case(plan: Plan, parameters: Parameters) -> str:
    return (
        f"sums of {plan.sum_bits} bits leave 2^{parameters.modulus_bits - plan.sum_bits - 1} "
        f"for noise in a modulus of {parameters.modulus_bits} bits"
    )


def _wider(p: Parameters) -> list[str]:
    return [f"use a key with parameters({bits})" for bits in (96, 128) if bits > p.modulus_bits][:1]
