"""Encrypted arrays: pairs (c0, c1) of polynomials, N numbers a pair.

Adding ciphertexts adds numbers and noises; multiplying by k multiplies both by k. The header counts the weight of
the numbers. `squares` counts the noise in units of one encryption's variance. An encryption has 1, a multiple by k has
k^2 times as much, and sums add up. The noises of two ciphertexts that are known to share an encryption are added as if
they were multiples of one another. Under a single key, what would outgrow half a step is refused when it is added or
multiplied. (Under a key of several key holders the header's weight alone bounds the noise. The plan was checked for the
worst case, which lies above anything that `squares` says.)

16, 24 or 32 bytes a number, in whole blocks.
"""

from __future__ import annotations

import math
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from secagg import signing, wire
from secagg.errors import RangeError, ShapeError, UsageError
from secagg.he import scheme
from secagg.he.rlwe import noise
from secagg.he.rlwe.parameters import Parameters
from secagg.he.rlwe.polynomials import Polynomials
from secagg.he.scheme import Header, HeaderFields
from secagg.wire import Message

_LABEL: Final = "secagg.he.rlwe/ciphertext"
_SQUARES_BYTES: Final = 16  # at most weight^2, and a plan holds weights below 2^63


class CiphertextMessage(Message, frozen=True):
    """A ciphertext on the wire; words of shape (2 blocks, N), c0 above c1, the lowest words first.

    `squares` takes 16 bytes, the highest first: it may be more than MessagePack's integers hold.
    """

    header: HeaderFields
    squares: bytes
    words: tuple[NDArray[np.unsignedinteger[Any]], ...]


class Ciphertext(scheme.Ciphertext):
    """An encrypted array.

    Args:
      header: what it is.
      words: c0 and below it c1, as many blocks each as the header's length takes.
      squares: sum of the squares of the factors of the encryptions in it.

    Raises:
      ShapeError: other polynomials than the header says.
      UsageError: another scheme than the polynomials', or a number of squares that no sum has.
    """

    __slots__ = ("squares", "words")

    def __init__(self, header: Header, words: Polynomials, *, squares: int = 1) -> None:
        super().__init__(header)
        p = words.parameters
        if header.scheme != p.name:
            raise UsageError(f"expected polynomials of {header.scheme}, got {p.name}")
        if words.blocks != 2 * p.blocks(header.length):
            raise ShapeError(
                f"expected {2 * p.blocks(header.length)} polynomials for an array of shape {header.shape}, "
                f"got {words.blocks}"
            )
        if not header.summands <= squares <= header.weight**2:
            raise UsageError(
                f"expected squares of {header.summands} to {header.weight**2} for {header.summands} summands of "
                f"weight {header.weight}, got {squares}"
            )
        self.words, self.squares = words, squares

    @classmethod
    def from_message(
        cls, message: CiphertextMessage, header: Header, parameters: Parameters, *, peer: str = ""
    ) -> Ciphertext:
        """Return the ciphertext in a message; shares memory with it. `PublicKey.read` checks the header.

        Raises:
          UsageError, WireError: the message holds another number of polynomials, or no number of squares.
        """
        blocks = 2 * parameters.blocks(header.length)
        words = Polynomials.from_words(parameters, message.words, blocks, peer=peer)
        if len(message.squares) != _SQUARES_BYTES:
            raise UsageError(f"expected squares of {_SQUARES_BYTES} bytes, got {len(message.squares)}")
        return cls(header, words, squares=int.from_bytes(message.squares, "big"))

    @property
    def c0(self) -> Polynomials:
        """The polynomials that carry the numbers, a view."""
        return self.words.rows(0, self.words.blocks // 2)

    @property
    def c1(self) -> Polynomials:
        """The polynomials that are multiplied by the secret, a view."""
        return self.words.rows(self.words.blocks // 2, self.words.blocks)

    def to_message(self) -> CiphertextMessage:
        squares = self.squares.to_bytes(_SQUARES_BYTES, "big")
        return CiphertextMessage(self.header.to_fields(), squares, self.words.words)

    @property
    def numbers_together(self) -> int:
        """Numbers in a pair of polynomials."""
        return self.words.parameters.degree

    def _copy(self) -> Self:
        return type(self)(self.header, self.words.copy(), squares=self.squares)

    def digest_c0(self) -> bytes:
        """Return the digest of c0, 32 bytes."""
        return self.c0.digest()

    def digest_c1(self) -> bytes:
        """Return the digest of c1, 32 bytes."""
        return self.c1.digest()

    def digest(self) -> bytes:
        """Return the digest of the whole ciphertext, 32 bytes; see `digest`."""
        return digest(self.header, self.squares, self.digest_c0(), self.digest_c1())

    def _add(self, other: Self) -> None:
        squares = self.squares + other.squares
        if self.related(other):
            # Noises that are multiples of one another add up as they are: (sqrt(a) + sqrt(b))^2, rounded up.
            squares += math.isqrt(4 * self.squares * other.squares - 1) + 1
        _check_noise(self.header, self.words, squares)
        if not self.words.low.flags.writeable:  # a view of received bytes
            self.words = self.words.copy()
        self.words += other.words
        self.squares = squares

    def _part(self, header: Header, start: int, stop: int) -> Self:
        words = Polynomials.empty(self.words.parameters, 2 * (stop - start))
        for whole, part in zip(self.words.words, words.words, strict=True):
            middle, blocks = stop - start, self.words.blocks // 2
            part[:middle], part[middle:] = whole[start:stop], whole[blocks + start : blocks + stop]
        return type(self)(header, words, squares=self.squares)

    def _times(self, factor: int) -> Self:
        squares = self.squares * factor**2
        _check_noise(self.header, self.words, squares)
        product = type(self)(self.header, self.words.times(factor), squares=self.squares)
        product.squares = squares  # the header follows, see `scheme.Ciphertext.__mul__`
        return product


def digest(header: Header, squares: int, digest_c0: bytes, digest_c1: bytes) -> bytes:
    """Return the digest of a ciphertext from its parts, so that who holds c1 alone can check a signature of all.

    Args:
      header, squares: the ciphertext's.
      digest_c0, digest_c1: of its polynomials, see `Polynomials.digest`.
    """
    fields = wire.to_bytes(header.to_fields())
    return signing.digest(_LABEL, [fields, squares.to_bytes(_SQUARES_BYTES, "big"), digest_c0, digest_c1])


def _check_noise(header: Header, words: Polynomials, squares: int) -> None:
    coefficients = words.blocks // 2 * words.parameters.degree
    most = noise.largest_squares(header.plan, words.parameters, coefficients)
    if squares > most:
        raise RangeError(
            f"the noise of this sum, {squares} times that of one encryption, would outgrow the room of {most} that "
            f"sums of {header.plan.sum_bits} bits leave in {words.parameters.name}; multiply before encrypting, plan "
            "for fewer bits, or use a key with a larger modulus"
        )
