"""CKKS ciphertexts of arrays: TenSEAL's vectors, in blocks of N / 2 numbers.

On the wire a block is its two polynomials, N coefficients for each prime in as many bits as the prime has: nothing but
coefficients. The receiver writes SEAL's and TenSEAL's form around them (`seal`), so that parameters, scale and level
are the context's own. SEAL checks that coefficients lie below the primes. What is left is a sum or some pair of
polynomials, about which nothing more can be said without the secret key. The last block is filled up with zeros before
encryption; what is in their place is not decrypted.

One call of TenSEAL's for many blocks adds faster than one for each, so what arrives is read in vectors of 16 blocks. Longer
vectors are read no faster, as they leave the processor's caches. Encryption makes vectors of a block, because TenSEAL warns
on standard output when it encrypts a longer one. They are written and read again only if one is added to what arrived.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from tenseal import _ts_cpp as _tenseal

from secagg.errors import ShapeError, UsageError
from secagg.he import scheme
from secagg.he.ckks.contexts import Context
from secagg.he.ckks.native import TENSEAL_ERRORS, PublicContext
from secagg.he.scheme import Header, HeaderFields
from secagg.ring import Ring
from secagg.wire import Message

# Blocks in a vector that is read.
_GROUP: Final = 16


class CiphertextMessage(Message, frozen=True):
    """A ciphertext on the wire.

    Fields:
      header: what it is.
      blocks: coefficients, shape (blocks, 2, `Context.polynomial_bytes`), packed by `packed`.
    """

    header: HeaderFields
    blocks: NDArray[np.uint8]


class Ciphertext(scheme.Ciphertext):
    """An array encrypted under one CKKS key.

    Args:
      header: what it is, and under which key.
      loaded: the key in TenSEAL's form.
      vectors: TenSEAL's, linked to the key's own context, each of a block or each of 16 but the last; not copied.
    """

    __slots__ = ("_vectors", "loaded")

    def __init__(self, header: Header, loaded: PublicContext, vectors: list[Any]) -> None:
        super().__init__(header)
        self.loaded, self._vectors = loaded, vectors

    @classmethod
    def from_blocks(cls, blocks: NDArray[np.uint8], header: Header, loaded: PublicContext) -> Self:
        """Return the ciphertext in the blocks of a message; `PublicKey.read` checks under which key it is.

        Raises:
          UsageError: they are not what the header says.
        """
        context = loaded.native.context
        context.check_plan(header.plan)
        if header.summands > header.weight:
            raise UsageError(f"{header.summands} summands weigh no less, got a weight of {header.weight}")
        shape = (context.blocks(header.length), 2, context.polynomial_bytes)
        if blocks.shape != shape or blocks.dtype != np.uint8:
            raise ShapeError(
                f"expected blocks of shape {shape} in bytes for {header.length} numbers, "
                f"got {blocks.shape} of {blocks.dtype}"
            )
        if not blocks[:, 1].any(axis=1).all():
            raise UsageError("a block is no secret: its second polynomial is 0, so that anybody can read it")
        try:
            return cls(header, loaded, _joined(unpacked(blocks, context), loaded))
        except TENSEAL_ERRORS as error:
            raise UsageError(f"a block cannot be read: {error!s:.100}") from None

    def to_message(self) -> CiphertextMessage:
        """Return the ciphertext as a message, which shares no memory with it: TenSEAL writes another form."""
        blocks = packed(np.stack(self.blocks()), self.loaded.native.context)
        return CiphertextMessage(self.header.to_fields(), blocks)

    def blocks(self) -> list[NDArray[np.uint64]]:
        """Return the polynomials of each block, shape (2, primes, N)."""
        return list(chain.from_iterable(map(self.loaded.native.blocks, self._vectors)))

    @property
    def numbers_together(self) -> int:
        """Numbers in a block."""
        return self.loaded.native.context.slots

    def _copy(self) -> Self:
        # TenSEAL's copy() writes out and reads back a vector and its context; its first power is a copy and no more.
        return type(self)(self.header, self.loaded, [vector**1 for vector in self._vectors])

    def decrypted_by(self, secret_key: Any) -> NDArray[np.float64]:
        """Return the numbers, float64, shape (length,), by the secret key in TenSEAL's form."""
        lists = [vector.decrypt(secret_key) for vector in self._vectors]
        return np.concatenate([np.fromiter(part, np.float64, len(part)) for part in lists])[
            : self.header.length
        ]

    def __add__(self, other: Self) -> Self:
        # One pass of TenSEAL's over each vector, where the common way makes a copy of all and then adds to it.
        header = self._sum_header(other)
        self._match(other)
        try:
            vectors = list(map(_tenseal.CKKSVector.add, self._vectors, other._vectors))
        except RuntimeError as error:
            raise _lies_open(error) from None
        total = type(self)(header, self.loaded, vectors)
        total.origins = self._origins_with(other)
        return total

    def _add(self, other: Self) -> None:
        self._match(other)
        done = 0
        try:
            for _ in map(_tenseal.CKKSVector.add_, self._vectors, other._vectors):
                done += 1
        except RuntimeError as error:
            for mine, theirs in zip(self._vectors[:done], other._vectors, strict=False):
                mine.sub_(theirs)
            self._vectors[done] = self._before(done, other._vectors[done])
            raise _lies_open(error) from None

    def _times(self, factor: int) -> Self:
        return type(self)(self.header, self.loaded, [_multiple(vector, factor) for vector in self._vectors])

    def _part(self, header: Header, start: int, stop: int) -> Self:
        return type(self)(header, self.loaded, _joined(self.blocks()[start:stop], self.loaded))

    def _match(self, other: Self) -> None:
        """Bring both into vectors of as many blocks."""
        if len(self._vectors) != len(other._vectors):
            longer = max(self, other, key=lambda ciphertext: len(ciphertext._vectors))
            longer._vectors = _joined(longer.blocks(), self.loaded)

    def _before(self, index: int, other: Any) -> Any:
        """Return what a vector was before an addition that SEAL broke off.

        SEAL has added block by block up to one whose sum lies open, and only then looked. Subtracting from these brings
        back what was there, exactly.
        """
        vector, native = self._vectors[index], self.loaded.native
        added, blocks = True, []
        for mine, theirs in zip(native.blocks(vector), native.blocks(other), strict=True):
            was = mine
            if added:
                total = self.loaded.vector([mine])
                added = not total.ciphertext()[0].is_transparent()
                total.sub_(self.loaded.vector([theirs]))
                (was,) = native.blocks(total)
            blocks.append(was)
        return self.loaded.vector(blocks)


def packed(blocks: NDArray[np.uint64], context: Context) -> NDArray[np.uint8]:
    """Return coefficients for the wire, those of one prime after the other, each in as many bits as its prime has.

    Args:
      blocks: shape (blocks, 2, primes, N), each below its prime.
      context: which.

    Returns shape (blocks, 2, `Context.polynomial_bytes`); `Ring.pack` gives the order of bits.

    Raises:
      RangeError: a coefficient has more bits than its prime.
    """
    rows = [
        Ring(bits).pack(np.ascontiguousarray(blocks[:, :, i])).reshape(len(blocks), 2, -1)
        for i, bits in enumerate(context.prime_bits[:-1])
    ]
    return np.concatenate(rows, axis=2)


def unpacked(octets: NDArray[np.uint8], context: Context) -> NDArray[np.uint64]:
    """Return the coefficients that `packed` made bytes of: each fits its prime's bits, and need not lie below it."""
    degree, primes = context.degree, context.prime_bits[:-1]
    blocks = np.empty((len(octets), 2, len(primes), degree), np.uint64)
    at = 0
    for i, bits in enumerate(primes):
        nbytes = degree * bits // 8
        part = np.ascontiguousarray(octets[:, :, at : at + nbytes]).reshape(-1)
        blocks[:, :, i] = Ring(bits).unpack(part, (len(octets), 2, degree))
        at += nbytes
    return blocks


def _lies_open(error: RuntimeError) -> UsageError:
    return UsageError(
        f"these ciphertexts are not added ({error}): one is the other's negative, so that the sum would be no secret"
    )


def _multiple(vector: Any, factor: int) -> Any:
    """Return a vector times an integer other than 0, by doubling and adding."""
    total = vector**1
    for bit in bin(abs(factor))[3:]:
        total.add_(total)
        if bit == "1":
            total.add_(vector)
    return total.neg_() if factor < 0 else total


def _joined(blocks: Sequence[NDArray[np.uint64]] | NDArray[np.uint64], loaded: PublicContext) -> list[Any]:
    """Return vectors of 16 blocks each, and of what is left; raises one of `TENSEAL_ERRORS` if they are none."""
    return [loaded.vector(blocks[i : i + _GROUP]) for i in range(0, len(blocks), _GROUP)]
