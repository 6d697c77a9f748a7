"""Primes are prime and fulfil what keys ask of them; what does not is named."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("gmpy2", reason="Paillier needs gmpy2")

import gmpy2
import numpy as np
from gmpy2 import mpz

from secagg.errors import UsageError
from secagg.he.paillier import primes
from secagg.he.paillier.primes import flaw, prime_pair, random_prime
from secagg.prg import Stream, system_stream


def is_prime_by_division(value: int) -> bool:
    return value > 1 and not np.any(value % np.arange(2, int(value**0.5) + 1, dtype=np.int64) == 0)


@pytest.mark.slow
def test_random_primes_are_prime_by_trial_division():
    for _ in range(50):
        p = int(random_prime(34))
        assert is_prime_by_division(p)
        assert p % 4 == 3
        assert p >> 32 == 3


@pytest.mark.slow
def test_halves_of_random_primes_have_no_small_factor():
    for _ in range(20):
        half = int(random_prime(40)) // 2
        assert all(half % r for r in range(2, 1 << 16))


@pytest.mark.slow
def test_halves_of_safe_primes_are_prime():
    for bits in (34, 160):
        p = random_prime(bits, safe=True)
        assert p.bit_length() == bits
        assert gmpy2.is_prime(p)
        assert gmpy2.is_prime(p // 2)


@pytest.mark.slow
@pytest.mark.parametrize("safe", [False, True])
def test_which_prime_is_found_depends_on_the_stream_and_not_on_threads(safe):
    with ThreadPoolExecutor(2) as executor:
        alone, together = (
            random_prime(200, safe=safe, rng=Stream(bytes(32)), executor=e) for e in (None, executor)
        )
    assert alone == together != random_prime(200, safe=safe, rng=Stream(bytes(31) + b"1"))


class StartsAtTheTop(Stream):
    """Draws the largest number first."""

    def bytes(self, n: int) -> bytes:
        first = self.position == 0
        drawn = super().bytes(n)
        return b"\xff" * n if first else drawn


def test_a_search_that_runs_out_of_bits_starts_again():
    top = (1 << 64) - 1
    beyond = next(k for k in primes._sieve(mpz(top), 16).tolist() if gmpy2.is_prime(top + 4 * k))
    assert beyond
    assert random_prime(64, rng=StartsAtTheTop(bytes(32))).bit_length() == 64


def test_the_sieve_strikes_out_exactly_the_multiples():
    start = mpz(int.from_bytes(system_stream().bytes(20), "little")) | (mpz(1) << 159) | 3
    kept = set(primes._sieve(start, 16).tolist())
    product = gmpy2.primorial(1 << 16) // 2
    for k in [*range(1000), *range((1 << 17) - 1000, 1 << 17)]:
        p = start + 4 * k
        assert (k in kept) == (gmpy2.gcd(p * (p // 2), product) == 1)


def test_too_short_primes_are_refused():
    with pytest.raises(UsageError, match="at least 32 bits, not 31"):
        random_prime(31)
    with pytest.raises(UsageError, match="even number of bits, not 2049"):
        prime_pair(2049)


def test_a_pair_makes_a_modulus_of_the_length_asked_for_without_flaw():
    p, q = prime_pair(300)
    assert (p * q).bit_length() == 300
    assert flaw(p, q) is None


def prime_like(bits: int, fits) -> mpz:
    """Return a prime of some length that fits, found by trying."""
    while True:
        p = gmpy2.next_prime(mpz(int.from_bytes(system_stream().bytes(bits // 8), "little")) | 3 << bits - 2)
        if p.bit_length() == bits and fits(p):
            return p


def test_each_flaw_of_a_pair_has_its_own_words():
    p = random_prime(160)
    with_remainder_1 = prime_like(160, lambda q: q % 4 == 1)
    with_small_factor = prime_like(160, lambda q: q % 4 == 3 and q % 7 == 1)
    near = p + 4
    while not gmpy2.is_prime(near):
        near += 4
    assert "3 modulo 4" in str(flaw(p, with_remainder_1))
    assert "160 and 168 bits" in str(flaw(p, random_prime(168)))
    assert "too close" in str(flaw(p, near))
    assert "factor other than 2 below 2^16" in str(flaw(p, with_small_factor))
    half = random_prime(80)
    multiples = [2 * half * (2 * k + 1) + 1 for k in (1 << 78, (1 << 78) - (1 << 70))]
    assert "common factor" in str(flaw(*multiples))
    start = random_prime(160)
    survivors = (start + 4 * k for k in primes._sieve(start, 16).tolist())
    composite = next(q for q in survivors if not gmpy2.is_prime(q))
    assert flaw(p, composite) == "one of its factors is not prime"
