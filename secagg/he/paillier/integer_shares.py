"""Shamir's sharing of an exponent whose modulus nobody may know, and powers put together from powers.

Whoever knew the order of the group could factor n, so Lagrange's coefficients cannot be reduced modulo it. Times
n! they are integers [Shoup00, section 2.2; DJ01, section 4].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Final

import gmpy2
from gmpy2 import mpz

from secagg.errors import UsageError
from secagg.he.paillier.randomizers import draw_below
from secagg.he.paillier.workers import in_parts
from secagg.prg import Stream

MAX_PARTIES: Final = 100  # n! has 525 bits then


def check_threshold(parties: int, threshold: int) -> None:
    """Refuse numbers of parties and thresholds that make no sense.

    Raises:
      UsageError: they do not.
    """
    if not 2 <= parties <= MAX_PARTIES:
        raise UsageError(f"a key is shared among 2 to {MAX_PARTIES} parties, not {parties}")
    if not 2 <= threshold <= parties:
        raise UsageError(
            f"expected a threshold of 2 to {parties} for {parties} parties, got {threshold}; "
            "below 2 each party could decrypt alone"
        )


def share_exponent(secret: mpz, modulus: mpz, parties: int, threshold: int, rng: Stream) -> list[mpz]:
    """Return Shamir's shares f(1) .. f(n) of f(0) = secret, for a random f of degree t - 1 modulo `modulus`.

    Any t - 1 of them are uniform and independent of the secret, for a modulus whose prime factors exceed n. As no
    coefficient is 0, this holds to within (t - 1) / modulus.
    """
    coefficients = [secret, *draw_below(modulus, threshold - 1, rng)]
    shares = []
    for i in range(1, parties + 1):
        value = mpz(0)
        for coefficient in reversed(coefficients):
            value = (value * i + coefficient) % modulus
        shares.append(value)
    return shares


def lagrange_at_0(chosen: Sequence[int], parties: int) -> list[mpz]:
    """Return lambda_i = n! * product over j != i of j / (j - i), an integer, for each chosen party i.

    The sum of lambda_i f(i) is n! f(0) for every f of a degree below the number of chosen parties, over any
    ring. Each lambda_i is an integer: for a fixed i the j - i are different numbers from 1 - i to n - i, and none is 0.
    The product of all of these divides n!.
    """
    delta, weights = mpz(math.factorial(parties)), []
    for i in chosen:
        others = [j for j in chosen if j != i]
        weights.append(delta * math.prod(others) // math.prod(j - i for j in others))
    return weights


def combine_powers(
    shares: Sequence[list[mpz]], chosen: Sequence[int], parties: int, modulus: mpz, executor: Executor | None
) -> list[mpz]:
    """Return c' = product of c_i^(2 lambda_i) for each residue.

    Args:
      shares: of each chosen party, the c_i of all residues, coprime to the modulus.
      chosen: the parties, from 1.
    """
    weights = lagrange_at_0(chosen, parties)

    def part(start: int, stop: int) -> list[mpz]:
        over, under = [mpz(1)] * (stop - start), [mpz(1)] * (stop - start)
        for numbers, weight in zip(shares, weights, strict=True):
            powers = gmpy2.powmod_base_list(numbers[start:stop], 2 * abs(weight), modulus)
            side = over if weight > 0 else under
            side[:] = [x * power % modulus for x, power in zip(side, powers, strict=True)]
        return [x * gmpy2.invert(y, modulus) % modulus for x, y in zip(over, under, strict=True)]

    return [x for xs in in_parts(part, len(shares[0]), executor) for x in xs]
