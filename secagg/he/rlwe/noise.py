"""How much room noise takes beside the numbers, and which plans leave it.

A number m is encrypted as m 2^shift, shift = w - (bits of a sum), with noise beside it; a sum decodes right while
its noise stays below half a step, 2^(shift - 1). With n key holders, N coefficients a block and noise of variance
sigma^2 = 10.5, each bounded by 21:

    c0 + sum_i c1 s_i = m 2^shift + v,    v = e u + e0 + e1 s,    e, s: sums of the holders' noises and secrets
    one encryption        variance sigma^2 (1 + 4 n N / 3),   |v| <= 21 (2 n N + 1)
    sum of k_j times encryptions: the variance times sum k_j^2, the bound times sum |k_j|

Single key, not flooded: half a step must be z standard deviations, z^2 = 2 ln(2 2^40 coefficients). Ternary and
binomial variables are sub-Gaussian with their own variance as parameter, so that given the key, all coefficients
are right but with probability 2^-40. The variance given the key differs between keys by 1.2 % (one standard
deviation), which on average over keys makes that 1.2 times 2^-40.

Several holders, who each add up to 2^F of flooding: V + n 2^F < 2^(shift - 1) in the worst case, V being the bound for
all the weight that the plan allows. No honest run can decode wrong.
"""

from __future__ import annotations

import math
from dataclasses import replace
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
            f"{_wider(parameters)}plan for fewer bits"
        )
    return room


def variance(parameters: Parameters, holders: int) -> float:
    """Return the variance of one encryption's noise in each coefficient."""
    return ETA / 2 * (1 + 4 * holders * parameters.degree / 3)


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
    parameters: Parameters, *, holders: int, flood_bits: int, weight: int, squares: int, coefficients: int
) -> int:
    """Return how far from a multiple of 2^shift a decrypted coefficient may be.

    Args:
      holders, flood_bits: of the key.
      weight, squares: of the sum, as its ciphertext says; see `tail_bound`.
      coefficients: of all its blocks.
    """
    if flood_bits:
        return worst_case(parameters, holders, weight) + holders * (1 << flood_bits)
    return min(worst_case(parameters, 1, weight), tail_bound(parameters, squares, coefficients))


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
    if flood_bits:
        need = worst_case(parameters, holders, weight) + holders * (1 << flood_bits)
        if need < half:
            return
        raise PlanError(
            f"{_case(plan, parameters)}, less than the noise of {weight} summands and {holders} holders' flooding "
            f"of {flood_bits} bits; make a key with flood_bits <= {_flood_bits(half, parameters, holders, weight)}"
            f"{_others(plan, parameters, coefficients)}"
        )
    if tail_bound(parameters, weight, coefficients) > half:
        raise PlanError(
            f"{_case(plan, parameters)}, and the noise of {weight} summands in {coefficients} coefficients may "
            f"reach 2^{math.log2(tail_bound(parameters, weight, coefficients)):.1f}"
            f"{_others(plan, parameters, coefficients)}"
        )


def largest_squares(plan: Plan, parameters: Parameters, coefficients: int) -> int:
    """Return how much noise a sum under a single key may have, in encryptions: see `tail_bound`."""
    half = 1 << (shift(plan, parameters) - 1)
    return half**2 // _unit_tail(parameters, coefficients)


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
            f"holders; {_wider(parameters)}plan for fewer bits or summands"
        )
    return bits


def _unit_tail(parameters: Parameters, coefficients: int) -> int:
    """Return (z standard deviations)^2 of one encryption under a single key, rounded up."""
    z_squared = 2 * ((1 + FAILURE_BITS) * math.log(2) + math.log(coefficients))
    return math.ceil(z_squared * variance(parameters, 1))


def _flood_bits(half: int, parameters: Parameters, holders: int, weight: int) -> int:
    # n 2^F <= half - 1 - V
    return max(0, ((half - 1 - worst_case(parameters, holders, weight)) // holders).bit_length() - 1)


def _case(plan: Plan, parameters: Parameters) -> str:
    return (
        f"sums of {plan.sum_bits} bits leave 2^{parameters.modulus_bits - plan.sum_bits - 1} "
        f"for noise in a modulus of {parameters.modulus_bits} bits"
    )


def _others(plan: Plan, p: Parameters, coefficients: int) -> str:
    options = []
    most = largest_squares(plan, p, coefficients)
    if most:
        options.append(f"plan for parties * max_weight <= {most}")
    frac_bits = plan.frac_bits
    while frac_bits > 0:
        frac_bits -= 1
        narrower = replace(plan, frac_bits=frac_bits)
        if tail_bound(p, plan.parties * plan.max_weight, coefficients) <= 1 << (shift(narrower, p) - 1):
            options.append(f"frac_bits <= {frac_bits}")
            break
    wider = _wider(p)
    return "".join(
        f"; or {o}" if i else f"; {o}" for i, o in enumerate([*options, *([wider] if wider else [])])
    )


def _wider(p: Parameters) -> str:
    larger = [bits for bits in (96, 128) if bits > p.modulus_bits]
    return f"use a key with parameters({larger[0]}) or " if larger else ""
