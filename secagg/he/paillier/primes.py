"""Random primes for keys.

p = 3 mod 4 is searched upwards from a random start: p, p + 4, p + 8 ... [BD92]. A prime after a long gap is
then found more often than one after a short gap, which anybody can see in many primes [FT14]. That costs a few
bits of p's entropy out of hundreds ([BD92] bounds the loss), and no method of factoring gains by it.

Candidates p for which a small prime divides p or (p - 1) / 2 are struck out in a numpy array first. The reason for
(p - 1) / 2 is:

- in any key, because then the group of squares modulo p has no small subgroup. So the square of a random number generates
  nearly all of it (see `flaw`);
- for safe primes, for which (p - 1) / 2 is prime, because it saves most of the tests.

Primality: the tests of gmpy2.is_prime, which are a strong test to the base 2 and a strong Lucas test, and 16 rounds
of Miller-Rabin's. No composite number is known that passes the first two together. Nobody chooses the candidates: 4
rounds of Miller-Rabin's leave 1,536-bit candidates an error below 2^-128 [FIPS 186-5, table B.1].
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any, Final

import gmpy2
import numpy as np
from gmpy2 import mpz, powmod
from numpy.typing import NDArray

from secagg.errors import UsageError
from secagg.he.paillier.workers import in_parts
from secagg.prg import Stream, system_stream

SMALL_FACTOR_BITS: Final = 16
_CANDIDATES: Final = 1 << 17
_SAFE_SIEVE_BITS: Final = 20  # where another prime saves less than it costs
_ROUNDS: Final = 40  # of gmpy2.is_prime: beyond 24 they are Miller-Rabin's


def random_prime(
    bits: int, *, safe: bool = False, rng: Stream | None = None, executor: Executor | None = None
) -> mpz:
    """Return a random prime p = 3 mod 4 with its two top bits set and (p - 1) / 2 free of factors below 2^16.

    The product of two such primes of equal length has exactly twice their length.

    Args:
      bits: length, at least 32.
      safe: make (p - 1) / 2 prime as well; takes some hundred times as long.
      rng: where the starting points come from; without it, the operating system.
      executor: threads to test candidates; which candidate is returned does not depend on it.

    Raises:
      UsageError: too few bits.
    """
    if bits < 2 * SMALL_FACTOR_BITS:
        raise UsageError(f"a random prime has at least {2 * SMALL_FACTOR_BITS} bits, not {bits}")
    rng = system_stream() if rng is None else rng
    while True:
        start = mpz.from_bytes(rng.bytes(-(-bits // 8)), "little")
        start = gmpy2.f_mod_2exp(start, bits) | (mpz(3) << (bits - 2)) | 3
        for candidates in _batches(_sieve(start, _SAFE_SIEVE_BITS if safe else SMALL_FACTOR_BITS), executor):
            found = _first_prime([start + 4 * k for k in candidates], safe, executor)
            if found is not None and found.bit_length() == bits:
                return found


def prime_pair(bits: int, *, rng: Stream | None = None, executor: Executor | None = None) -> tuple[mpz, mpz]:
    """Return the two primes of a plain key whose modulus has `bits` bits; see `flaw`.

    Raises:
      UsageError: an odd or too small length.
    """
    if bits % 2:
        raise UsageError(f"a modulus of two primes of equal length has an even number of bits, not {bits}")
    rng = system_stream() if rng is None else rng
    while True:
        p, q = (random_prime(bits // 2, rng=rng, executor=executor) for _ in range(2))
        if flaw(p, q) is None:
            return p, q


def flaw(p: mpz, q: mpz) -> str | None:
    """Return what is wrong with the primes of a key with short randomizers, or None.

    The conditions are those of [DJN10], and those that make a random h = -x^2 generate enough. p = q = 3 mod 4
    and gcd(p - 1, q - 1) = 2 make the squares modulo n a cyclic group of order (p - 1)(q - 1) / 4. Without factors
    below 2^16 the order has at most 2 (|n| / 2) / 16 prime factors, all of more than 16 bits. Then x^2 misses a
    generator with probability below |n| / 16 / 2^16, 0.3% at 3072 bits. |p - q| > 2^(|n|/2 - 100) excludes
    Fermat's method of factoring.
    """
    bits = int((p * q).bit_length())
    if p % 4 != 3 or q % 4 != 3:
        return "its prime factors are not both 3 modulo 4"
    if p.bit_length() != q.bit_length() or 2 * p.bit_length() != bits:
        return f"its prime factors have {p.bit_length()} and {q.bit_length()} bits and not both half of its {bits}"
    if abs(p - q) <= mpz(1) << max(0, bits // 2 - 100):
        return "its prime factors are too close to one another"
    if gmpy2.gcd(p - 1, q - 1) != 2:
        return "p - 1 and q - 1 have a common factor other than 2"
    small = _small_product()
    for prime in (p, q):
        # A safe prime may be small itself in tests: (p - 1) / 2 prime is free of smaller factors.
        if gmpy2.gcd((prime - 1) // 2, small) != 1:
            return f"p - 1 or q - 1 has a factor other than 2 below 2^{SMALL_FACTOR_BITS}"
    if not (is_prime(p) and is_prime(q)):
        return "one of its factors is not prime"
    return None


def is_prime(value: mpz) -> bool:
    """Return whether a number that nobody chose to deceive is prime."""
    return bool(gmpy2.is_prime(value, _ROUNDS))


def has_small_factor(value: mpz) -> bool:
    """Return whether an odd number has a prime factor below 2^16."""
    return bool(gmpy2.gcd(value, _small_product()) != 1)


def _first_prime(candidates: list[mpz], safe: bool, executor: Executor | None) -> mpz | None:
    def part(start: int, stop: int) -> mpz | None:
        for p in candidates[start:stop]:
            # Fermat's test sends away nearly all; of a safe prime's two numbers the half goes first.
            if safe and not (_may_be_prime(p >> 1) and _may_be_prime(p) and is_prime(p >> 1)):
                continue
            if _may_be_prime(p) and is_prime(p):
                return p
        return None

    found = in_parts(part, len(candidates), executor, step=_BATCH // 8)
    return next((p for p in found if p is not None), None)


def _may_be_prime(value: mpz) -> bool:
    """Fermat's test to the base 2: as fast as gmpy2's strong one, which keeps the interpreter's lock."""
    return bool(powmod(2, value - 1, value) == 1)


_BATCH: Final = 64


def _batches(candidates: NDArray[np.intp], executor: Executor | None) -> Iterator[list[int]]:
    """Return candidates in lists: with threads, short ones, so that little is tested in vain beyond a hit."""
    step = len(candidates) if executor is None else _BATCH
    for start in range(0, len(candidates), step):
        yield candidates[start : start + step].tolist()


def _sieve(start: mpz, sieve_bits: int) -> NDArray[np.intp]:
    """Return the k < 2^17 for which no prime r below 2^sieve_bits divides p = start + 4 k or (p - 1) / 2."""
    primes = _small_primes(sieve_bits)
    residues = _residues(start, primes)
    fourth = (primes + 1) // 4  # 1 / 4 modulo r, if r = 3 mod 4
    fourth = np.where(primes % 4 == 3, fourth, (3 * primes + 1) // 4)
    kept = np.ones(_CANDIDATES, np.bool_)
    first = (primes - residues) * fourth % primes  # start + 4 k = 0 modulo r
    second = (first + fourth) % primes  # start + 4 k = 1
    for r, a, b in zip(primes.tolist(), first.tolist(), second.tolist(), strict=True):
        kept[a::r] = False
        kept[b::r] = False
    return np.flatnonzero(kept)


def _residues(value: mpz, primes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number modulo each of many primes below 2^20."""
    octets = value.to_bytes(-(-value.bit_length() // 16) * 2, "big")
    residues = np.zeros(primes.shape, np.int64)
    for digit in np.frombuffer(octets, ">u2").astype(np.int64):
        residues = ((residues << 16) + digit) % primes  # below 2^37
    return residues


@functools.cache
def _small_primes(bits: int) -> NDArray[np.int64]:
    """Return the odd primes below 2^bits."""
    odd = np.ones(1 << (bits - 1), np.bool_)  # entry i stands for 2 i + 1
    odd[0] = False
    for i in range(1, (1 << (bits // 2)) // 2 + 1):
        if odd[i]:
            odd[2 * i * (i + 1) :: 2 * i + 1] = False
    primes = 2 * np.flatnonzero(odd).astype(np.int64) + 1
    primes.flags.writeable = False
    return primes


@functools.cache
def _small_product() -> Any:
    """Return the product of the odd primes below 2^16."""
    return gmpy2.primorial((1 << SMALL_FACTOR_BITS) - 1) // 2
