"""Shamir's secret sharing of 32-byte secrets over the prime field modulo 2**256 + 297 [Sha79].

A secret is the value at 0 of a random polynomial of degree threshold - 1; the share at x is its value at x.
Fewer than `threshold` shares are independent of the secret, whatever it is. A share travels as 33 bytes,
little-endian, and has one spelling: bytes that stand for no number below the prime are refused.

Many secrets that the same parties share recombine with one Lagrange basis: `Basis` holds it.

Python's integers take a time that depends on their values. Nothing here is safe from somebody who measures
the time of single operations on the same machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import mul
from typing import Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, UsageError
from secagg.prg import Stream

PRIME: Final = (1 << 256) + 297
SECRET_BYTES: Final = 32
SHARE_BYTES: Final = 33
# Bytes that a coefficient is drawn from: reduced modulo the prime they are within 2**-127 of uniform.
_DRAWN_BYTES: Final = 48
# Terms added up between two reductions: products of 257 bits and small powers stay short.
_BLOCK: Final = 16


class Polynomials:
    """The random polynomials behind the shares of some secrets. Secret; neither shown nor copied.

    Args:
      secrets: 32 bytes each.
      threshold: how many shares give a secret back.
      rng: where coefficients come from; draws 48 * (threshold - 1) bytes a secret.

    Raises:
      UsageError: a secret of another length, or a threshold below 1.
    """

    __slots__ = ("_blocks",)

    def __init__(self, secrets: Sequence[bytes], threshold: int, rng: Stream) -> None:
        if threshold < 1 or any(len(secret) != SECRET_BYTES for secret in secrets):
            raise UsageError(
                f"expected a threshold of at least 1, got {threshold}, and {SECRET_BYTES}-byte secrets"
            )
        self._blocks = []
        for secret in secrets:
            drawn = rng.bytes(_DRAWN_BYTES * (threshold - 1))
            coefficients = [int.from_bytes(secret, "little")]
            coefficients += (
                int.from_bytes(drawn[start : start + _DRAWN_BYTES], "little") % PRIME
                for start in range(0, len(drawn), _DRAWN_BYTES)
            )
            # Those of the highest powers first.
            starts = reversed(range(0, threshold, _BLOCK))
            self._blocks.append([coefficients[start : start + _BLOCK] for start in starts])

    def __repr__(self) -> str:
        return f"<Polynomials of {len(self._blocks)} secrets>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("polynomials are secret: they are not pickled or copied")

    def at(self, points: Sequence[int]) -> NDArray[np.uint8]:
        """Return each secret's share at each point, uint8, shape (secrets, points, 33).

        Raises:
          UsageError: points that are not distinct and in 1..2**32 - 1.
        """
        _check_points(points)
        powers = [[x**i for i in range(_BLOCK + 1)] for x in points]
        shares = bytearray()
        for blocks in self._blocks:
            for small in powers:
                value, step = 0, small[_BLOCK]
                for block in blocks:
                    value = (value * step + sum(map(mul, block, small))) % PRIME
                shares += value.to_bytes(SHARE_BYTES, "little")
        return np.frombuffer(shares, np.uint8).reshape(len(self._blocks), len(points), SHARE_BYTES)


def read_share(share: bytes) -> int:
    """Return the number that 33 bytes stand for.

    Raises:
      RangeError: another length, or a number of the prime or more.
    """
    value = int.from_bytes(share, "little")
    if len(share) != SHARE_BYTES or value >= PRIME:
        raise RangeError(f"expected {SHARE_BYTES} bytes of a number below 2**256 + 297")
    return value


class Basis:
    """Lagrange coefficients at 0 for the shares at these points.

    Args:
      points: distinct, 1..2**32 - 1.

    Raises:
      UsageError: points that are not as said.
    """

    __slots__ = ("_coefficients", "points")

    def __init__(self, points: Sequence[int]) -> None:
        _check_points(points)
        self.points = tuple(points)
        # Coefficient i is the product over j != i of x_j / (x_j - x_i), which is (product of all x_j) / d_i
        # with d_i = x_i times the product of the differences: small integers, multiplied exactly.
        divisors = [x * math.prod([y - x for y in points if y != x]) % PRIME for x in points]
        everything = math.prod(points) % PRIME
        self._coefficients = [everything * inverse % PRIME for inverse in _inverses(divisors)]

    def combine(self, shares: Sequence[int]) -> bytes:
        """Return the secret that these shares, in the order of the points, give back.

        Raises:
          UsageError: another number of shares than points.
          RangeError: what they give is no secret of 32 bytes: some share is wrong.
        """
        if len(shares) != len(self.points):
            raise UsageError(f"expected {len(self.points)} shares, got {len(shares)}")
        value: int = sum(map(mul, self._coefficients, shares)) % PRIME
        if value >> (8 * SECRET_BYTES):
            raise RangeError(f"the shares give no secret of {SECRET_BYTES} bytes")
        return value.to_bytes(SECRET_BYTES, "little")


def _inverses(values: Sequence[int]) -> list[int]:
    """Return the inverses modulo the prime of numbers none of which is 0, by one inversion for all."""
    before = [1]
    for value in values:
        before.append(before[-1] * value % PRIME)
    inverse = pow(before.pop(), -1, PRIME)
    inverses = []
    for value, product in zip(reversed(values), reversed(before), strict=True):
        inverses.append(inverse * product % PRIME)
        inverse = inverse * value % PRIME
    return inverses[::-1]


def _check_points(points: Sequence[int]) -> None:
    # The value at 0 is the secret itself, so no share may lie there.
    if len(set(points)) != len(points) or not all(1 <= x < 1 << 32 for x in points):
        raise UsageError("shares lie at distinct points of 1 to 2**32 - 1")
