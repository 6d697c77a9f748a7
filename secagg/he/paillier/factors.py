"""Arithmetic modulo p^(s+1) for one prime factor p of n: what the owner of the key computes faster.

Numbers modulo p^(s+1) have half the length of those modulo n^(s+1). Two such computations take less than half the time of
one modulo n^(s+1). The Chinese remainder theorem puts their results together.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any, Final, NoReturn

import gmpy2
from gmpy2 import invert, mpz, powmod

from secagg.he.paillier import residues
from secagg.he.paillier.randomizers import GrowingBase, draw_below
from secagg.he.paillier.residues import Digits
from secagg.he.paillier.workers import in_parts
from secagg.prg import Stream

_BLIND_BYTES: Final = 16


class Factor:
    """One prime factor p of n. Secret.

    Args:
      p: the prime.
      n: p times another prime; neither divides (p - 1)(q - 1).
      s: exponent of the scheme.
      h, randomizer_bits: base of the randomizers and length of their exponents, None where they are r^(n^s).
    """

    __slots__ = (
        "_blind",
        "_correction",
        "_powers_of_n",
        "_public_exponent",
        "_s",
        "modulus",
        "p",
        "plaintext_modulus",
        "randomizers",
    )

    def __init__(self, p: mpz, n: mpz, s: int, h: mpz | None, randomizer_bits: int | None) -> None:
        self.p, self._s = p, s
        self.modulus, self.plaintext_modulus = p ** (s + 1), p**s
        self._powers_of_n = [n**k % self.modulus for k in range(s + 1)]
        self._public_exponent = powmod(n, s, p - 1)  # r^(n^s) modulo p is r to this
        logarithm = residues.log([powmod(1 + n, p - 1, self.modulus)], p, s)[0]
        self._correction = invert(logarithm, self.plaintext_modulus)
        # h_s^a modulo p^(s+1).
        self.randomizers: GrowingBase | None = None
        if h is not None and randomizer_bits is not None:
            base = lambda: self._lift([powmod(h, self._public_exponent, self.p)])[0]  # noqa: E731
            self.randomizers = GrowingBase(base, self.modulus, randomizer_bits)
        self._blind: mpz | None = None

    def __repr__(self) -> str:
        return "<Factor, hidden>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []  # rich prints tracebacks with the values of locals

    def __reduce__(self) -> NoReturn:
        raise TypeError("a factor of a secret key is not pickled or copied")

    def decrypt(self, ciphertext: Digits, rng: Stream, executor: Executor | None) -> list[mpz]:
        """Return the plaintexts modulo p^s: log(c^(p-1)) / log((1 + n)^(p-1)), c^(p-1) being 1 modulo p.

        Every c is multiplied by a random p^s-th power first, which the power p - 1 takes away again. So whoever chooses c
        does not choose what is raised to the secret exponent, and its timing tells nothing of c. They are the powers of one
        that is new in every call, itself a random power of one drawn once for each key.
        """
        modulus = self.modulus
        if self._blind is None:
            self._blind = self._lift(draw_below(self.p, 1, rng))[0]
        step = powmod(self._blind, mpz.from_bytes(rng.bytes(_BLIND_BYTES), "little") | 1, modulus)
        blind, blinded = step, []
        for digits in zip(*ciphertext, strict=True):
            value = sum(map(mpz.__mul__, digits, self._powers_of_n))
            blinded.append(value * blind % modulus)
            blind = blind * step % modulus

        def part(start: int, stop: int) -> list[mpz]:
            powers = gmpy2.powmod_base_list(blinded[start:stop], self.p - 1, modulus)
            return residues.log(powers, self.p, self._s)

        logs = [value for values in in_parts(part, len(blinded), executor) for value in values]
        return [value * self._correction % self.plaintext_modulus for value in logs]

    def full_randomizers(self, randoms: list[mpz], executor: Executor | None) -> list[mpz]:
        """Return r^(n^s) modulo p^(s+1)."""

        def part(start: int, stop: int) -> list[mpz]:
            reduced = [r % self.p for r in randoms[start:stop]]
            return self._lift(gmpy2.powmod_base_list(reduced, self._public_exponent, self.p))

        return [
            randomizer
            for randomizers in in_parts(part, len(randoms), executor, step=2)
            for randomizer in randomizers
        ]

    def _lift(self, values: list[mpz]) -> list[mpz]:
        """Return for each y the only p^s-th power modulo p^(s+1) that is y modulo p, which is y^(p^s).

        An n^s-th power is one of them, so it need be computed modulo p only.
        """
        powers: list[mpz] = gmpy2.powmod_base_list(values, self.plaintext_modulus, self.modulus)
        return powers


def combine(p: mpz, q: mpz, inverse: mpz, of_p: list[mpz], of_q: list[mpz]) -> list[mpz]:
    """Return the numbers below p q that are given modulo p and modulo q, for coprime p and q.

    Args:
      inverse: of p modulo q.
    """
    return [a + p * ((b - a) * inverse % q) for a, b in zip(of_p, of_q, strict=True)]
