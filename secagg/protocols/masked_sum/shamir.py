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
    """Lagrange coefficients at 0 for the shares at these points; takes a time of points**2 to make.

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
        # with d_i = x_i times the product of the differences.
        everything = _product(np.array(points, np.int64))
        self._coefficients = [everything * inverse % PRIME for inverse in _inverses(_divisors(points))]

    def changed_to(self, points: Sequence[int]) -> Basis:
        """Return the basis of other points, in a time of points for each that comes or goes.

        Raises:
          UsageError: points that are not as `Basis` takes them.
        """
        _check_points(points)
        coefficients = dict(zip(self.points, self._coefficients, strict=True))
        for gone in set(self.points).difference(points):
            del coefficients[gone]
            inverse = pow(gone, -1, PRIME)
            for x, c in coefficients.items():
                coefficients[x] = c * ((gone - x) * inverse % PRIME) % PRIME
        for new in set(points).difference(self.points):
            inverses = _inverses([new - x for x in coefficients])
            own = 1
            for (x, c), inverse in zip(list(coefficients.items()), inverses, strict=True):
                coefficients[x] = c * (new * inverse % PRIME) % PRIME
                own = own * (-x * inverse % PRIME) % PRIME  # x / (x - new)
            coefficients[new] = own
        basis = Basis.__new__(Basis)
        basis.points = tuple(points)
        basis._coefficients = [coefficients[x] for x in points]
        return basis

    def without_each(self, shares: Sequence[int]) -> list[bytes | None]:
        """Return, for each point, the secret that the shares at all the others give back.

        Let P be the polynomial of degree below m through all m points, and a its leading coefficient. The polynomial
        through all but x_i is P(x) - a * (product over j != i of x - x_j). Its value at 0 is that of P less the sum of
        coefficient * x_j * share, divided by x_i: so all take a time of points together.

        Args:
          shares: in the order of the points, one more than the polynomial needs.

        Returns:
          None where what they give is no secret of 32 bytes.

        Raises:
          UsageError: another number of shares than points.
        """
        self._check(shares)
        terms = [c * share for c, share in zip(self._coefficients, shares, strict=True)]
        value, moment = sum(terms) % PRIME, sum(map(mul, terms, self.points)) % PRIME
        left = [(value - moment * inverse) % PRIME for inverse in _inverses(self.points)]
        return [None if v >> (8 * SECRET_BYTES) else v.to_bytes(SECRET_BYTES, "little") for v in left]

    def combine(self, shares: Sequence[int]) -> bytes:
        """Return the secret that these shares, in the order of the points, give back.

        Raises:
          UsageError: another number of shares than points.
          RangeError: what they give is no secret of 32 bytes: some share is wrong.
        """
        self._check(shares)
        value: int = sum(map(mul, self._coefficients, shares)) % PRIME
        if value >> (8 * SECRET_BYTES):
            raise RangeError(f"the shares give no secret of {SECRET_BYTES} bytes")
        return value.to_bytes(SECRET_BYTES, "little")

    def _check(self, shares: Sequence[int]) -> None:
        if len(shares) != len(self.points):
            raise UsageError(f"expected {len(self.points)} shares, got {len(shares)}")


def _divisors(points: Sequence[int]) -> list[int]:
    """Return each point times the product of its differences to the others, modulo the prime."""
    at = np.array(points, np.int64)
    divisors = []
    for i, x in enumerate(points):
        differences = at - x
        differences[i] = x
        divisors.append(_product(differences))
    return divisors


def _product(numbers: NDArray[np.int64]) -> int:
    """Return the product of numbers below 2**32 in size, modulo the prime."""
    fit = max(1, 62 // int(np.max(np.abs(numbers), initial=2)).bit_length())  # so many multiply within int64
    padded = np.ones(-(-len(numbers) // fit) * fit, np.int64)
    padded[: len(numbers)] = numbers
    factors, product = padded.reshape(fit, -1).prod(axis=0).tolist(), 1
    for start in range(0, len(factors), _BLOCK):
        product = product * math.prod(factors[start : start + _BLOCK]) % PRIME
    return product


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
