"""Paillier ciphertexts of arrays: adding, multiplying by integers, and what comes over the wire.

A ciphertext is a list of residues modulo n^(s+1), held in digits to the base n (`residues`), which is how they go
over the wire: one block of bytes, shape (residues, s + 1, bytes of n). In memory the digits are gmpy2's
numbers and no block, because turning them to and fro would cost a tenth of every addition.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Self

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from secagg.errors import ShapeError, UsageError
from secagg.he import scheme
from secagg.he.paillier import residues
from secagg.he.paillier.packing import Packing
from secagg.he.paillier.residues import Digits, Modulus
from secagg.he.paillier.workers import in_parts
from secagg.he.scheme import Header, HeaderFields
from secagg.wire import Message


class CiphertextMessage(Message, frozen=True):
    """A ciphertext on the wire: shape (residues, s + 1, bytes of n), each digit in little-endian order."""

    header: HeaderFields
    slots: int
    block: NDArray[np.uint8]


class Ciphertext(scheme.Ciphertext):
    """An array encrypted under one Paillier key.

    Args:
      header: what it is, and under which key.
      modulus: the key's.
      slots: numbers in each residue.
      digits: s + 1 columns of as many digits as there are residues; not copied.
    """

    __slots__ = ("_digits", "modulus", "slots")

    def __init__(self, header: Header, modulus: Modulus, slots: int, digits: Digits) -> None:
        super().__init__(header)
        self.modulus, self.slots, self._digits = modulus, slots, digits

    @classmethod
    def from_integers(cls, values: Sequence[int], header: Header, modulus: Modulus, slots: int) -> Ciphertext:
        """Return the ciphertext that consists of these residues; `PublicKey.read_integers` checks the header.

        Raises:
          UsageError: a residue out of range or not coprime to n.
          ShapeError: too many or too few residues.
        """
        count = Packing(header.plan, modulus.plaintext, slots).count(header.length)
        if len(values) != count:
            raise ShapeError(
                f"{header.length} numbers take {count} residues of {slots} slots, got {len(values)}"
            )
        numbers = [mpz(value) for value in values]
        if min(numbers) <= 0 or max(numbers) >= modulus.ciphertext:
            raise UsageError("a residue of a ciphertext is not in 1 .. n^(s+1) - 1")
        digits = residues.to_digits(numbers, modulus.n, modulus.s)
        _check_digits(digits, modulus.n)
        return cls(header, modulus, slots, digits)

    @classmethod
    def from_block(cls, block: NDArray[np.uint8], header: Header, modulus: Modulus, slots: int) -> Ciphertext:
        """Return the ciphertext in the block of a message; `PublicKey.read` checks the header.

        Raises:
          UsageError, ShapeError: as `from_integers`.
        """
        count = Packing(header.plan, modulus.plaintext, slots).count(header.length)
        shape = (count, modulus.s + 1, modulus.digit_bytes)
        if block.shape != shape:
            raise ShapeError(f"expected a block of shape {shape}, got {block.shape}")
        columns = tuple(_read(block[:, k]) for k in range(modulus.s + 1))
        _check_digits(columns, modulus.n)
        return cls(header, modulus, slots, columns)

    def to_message(self) -> CiphertextMessage:
        """Return the ciphertext as a message."""
        width = self.modulus.digit_bytes
        octets = b"".join(
            [digit.to_bytes(width, "little") for row in zip(*self._digits, strict=True) for digit in row]
        )
        block = np.frombuffer(octets, np.uint8).reshape(-1, len(self._digits), width)
        return CiphertextMessage(self.header.to_fields(), self.slots, block)

    @property
    def residues(self) -> int:
        """How many residues it has."""
        return len(self._digits[0])

    @property
    def digits(self) -> Digits:
        """The residues in digits to the base n; not to be changed."""
        return self._digits

    def integers(self) -> list[mpz]:
        """Return the residues, 0 < c < n^(s+1)."""
        return residues.from_digits(self._digits, self.modulus.n)

    @property
    def numbers_together(self) -> int:
        """Numbers in each residue."""
        return self.slots

    def _copy(self) -> Self:
        # The digits themselves never change.
        return type(self)(self.header, self.modulus, self.slots, tuple(list(c) for c in self._digits))

    def times_randomizers(self, randomizers: Digits) -> Self:
        """Return the ciphertext with each residue multiplied by a randomizer; `PublicKey.rerandomize` draws them."""
        digits = residues.multiply(self._digits, randomizers, self.modulus.n)
        return type(self)(self.header, self.modulus, self.slots, digits)

    def times(self, factor: int, *, executor: Executor | None = None) -> Self:
        """Return the ciphertext of the numbers times a public integer, as `*` does, by several threads.

        Raises:
          UsageError: not an integer, or 0.
          RangeError: the multiple would not fit the plan.
        """
        header = self.header.times(factor)
        product = self._times(factor, executor)
        product.header, product.origins = header, self.origins
        return product

    def _sum_header(self, other: object) -> Header:
        header = super()._sum_header(other)
        if isinstance(other, Ciphertext) and other.slots != self.slots:
            raise UsageError(
                f"cannot add a ciphertext of {other.slots} numbers a residue to one of {self.slots}"
            )
        return header

    def _add(self, other: Self) -> None:
        self._digits = residues.multiply(self._digits, other._digits, self.modulus.n)

    def _part(self, header: Header, start: int, stop: int) -> Self:
        return type(self)(header, self.modulus, self.slots, tuple(c[start:stop] for c in self._digits))

    def _times(self, factor: int, executor: Executor | None = None) -> Self:
        modulus, numbers = self.modulus, self.integers()

        def part(start: int, stop: int) -> list[mpz]:
            # A negative exponent takes the inverse, which exists: residues are coprime to n.
            powers: list[mpz] = gmpy2.powmod_base_list(numbers[start:stop], factor, modulus.ciphertext)
            return powers

        powers = [power for one in in_parts(part, len(numbers), executor) for power in one]
        return type(self)(self.header, modulus, self.slots, residues.to_digits(powers, modulus.n, modulus.s))


def _read(octets: NDArray[np.uint8]) -> list[mpz]:
    """Return the numbers in the rows of an array of bytes."""
    width = octets.shape[1]
    flat, read = octets.tobytes(), mpz.from_bytes
    return [read(flat[start : start + width], "little") for start in range(0, len(flat), width)]


def _check_digits(digits: Digits, n: mpz) -> None:
    """Refuse digits that are not below n, and residues that are not coprime to n: those alone have no inverse."""
    if any(max(column) >= n for column in digits):
        raise UsageError("a residue of the ciphertext is not below n^(s+1)")
    # A product is coprime to n if all factors are; the first digit is the residue modulo n.
    product = mpz(1)
    for digit in digits[0]:
        product = product * digit % n
    if gmpy2.gcd(product, n) != 1:
        raise UsageError("a residue of the ciphertext is 0 or has a factor in common with n")
