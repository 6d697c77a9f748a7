"""What is refused as a key, each with its own message."""

from __future__ import annotations

from typing import Final

import gmpy2
from gmpy2 import mpz

from secagg.errors import UsageError
from secagg.he.paillier import primes
from secagg.he.paillier.residues import MAX_EXPONENT

SMALLEST_KEY_BITS: Final = 2048
LARGEST_KEY_BITS: Final = 16384
MIN_RANDOMIZER_BITS: Final = 512


def check_modulus(n: mpz, s: int, smallest_bits: int) -> None:
    """Refuse a modulus that no key has, as far as one can tell without its factors.

    Raises:
      UsageError: the message says why.
    """
    if not isinstance(s, int) or not 1 <= s <= MAX_EXPONENT:
        raise UsageError(
            f"expected s, the exponent of the plaintext modulus n^s, of 1 to {MAX_EXPONENT}, got {s}"
        )
    bits = int(n.bit_length()) if n > 0 else 0
    if bits < smallest_bits:
        raise UsageError(f"a modulus of {bits} bits is too short: at least {smallest_bits}, better 3072")
    if bits > LARGEST_KEY_BITS:
        raise UsageError(
            f"a modulus of {bits} bits is longer than the {LARGEST_KEY_BITS} that are worked with"
        )
    if n % 2 == 0:
        raise UsageError("the modulus is even; it is no product of two large primes")
    if gmpy2.is_prime(n):
        raise UsageError("the modulus is prime; it is no product of two primes, and hides nothing")
    if gmpy2.is_power(n):
        raise UsageError("the modulus is a square or higher power; everybody can find its factors")
    # Test keys are so small that a factor below 2^16 is half of them.
    if bits >= SMALLEST_KEY_BITS and primes.has_small_factor(n):
        raise UsageError("the modulus has a factor below 2^16; it is no product of two large primes")


def check_randomizers(n: mpz, h: mpz, randomizer_bits: int) -> None:
    """Refuse a base of randomizers that is none, as far as one can tell without n's factors, and too short exponents.

    Raises:
      UsageError: the message says why.
    """
    half = int(n.bit_length()) // 2
    if not isinstance(randomizer_bits, int) or not min(half, MIN_RANDOMIZER_BITS) <= randomizer_bits <= half:
        raise UsageError(
            f"expected exponents of {min(half, MIN_RANDOMIZER_BITS)} to {half} bits for randomizers, got {randomizer_bits}"
        )
    if n % 4 != 1:
        raise UsageError(
            "the modulus of a key with h is 1 modulo 4, its factors being both 3; this one is not"
        )
    if not 1 < h < n - 1:
        raise UsageError("h, the base of the randomizers, is not in 2 .. n - 2")
    if gmpy2.gcd(h, n) != 1:
        raise UsageError("h, the base of the randomizers, has a factor in common with n")
    # -1 is no square modulo p nor modulo q: the two signs cancel.
    if gmpy2.jacobi(h, n) != 1:
        raise UsageError(
            "h, the base of the randomizers, is not minus a square modulo n: its Jacobi symbol is -1"
        )


def check_factors(n: mpz, h: mpz | None, p: mpz, q: mpz) -> None:
    """Refuse numbers that are not the factors of a key's modulus, or not as its randomizers need them.

    Args:
      n, h: the public key's.
      p, q: what shall be the factors of n.

    Raises:
      UsageError: the message says why, and shows neither.
    """
    if min(p, q) <= 1 or p * q != n:
        raise UsageError("p times q is not the modulus of the public key")
    # With h, `flaw` has a look at the rest; the test is what takes longest here.
    if p == q or (h is None and not (primes.is_prime(p) and primes.is_prime(q))):
        raise UsageError("p and q are not two different primes; they are no secret key")
    if gmpy2.gcd(n, (p - 1) * (q - 1)) != 1:
        raise UsageError("one of p and q divides the other less 1; not all ciphertexts could be decrypted")
    if h is None:
        return
    if (flaw := primes.flaw(p, q)) is not None:
        raise UsageError(f"a key with short randomizers is not safe: {flaw}")
    if not gmpy2.jacobi(h, p) == gmpy2.jacobi(h, q) == -1:
        raise UsageError("h, the base of the randomizers, is not minus a square modulo n")


def octets(value: mpz) -> bytes:
    """Return a number of 0 or more in little-endian order, the shortest way."""
    written: bytes = value.to_bytes(-(-value.bit_length() // 8), "little")
    return written


def number(value: bytes) -> mpz:
    """Return the number in little-endian bytes.

    Raises:
      UsageError: it is longer than any number of a key.
    """
    if len(value) > LARGEST_KEY_BITS // 8:
        raise UsageError(f"a number of {len(value)} bytes is longer than any in a key")
    return mpz.from_bytes(value, "little")
