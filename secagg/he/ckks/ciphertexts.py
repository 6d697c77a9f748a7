"""CKKS ciphertexts of arrays: TenSEAL's vectors, in blocks of N / 2 numbers.

On the wire a block is what SEAL writes of it, which begins with its own length; blocks lie one after the other in one
array. How many numbers a block holds, on which depends where TenSEAL's decryption reads memory, and their scale are
not sent: the receiver writes them around what arrives, as TenSEAL does:

    0a <length> <numbers in each block>    12 <length> <SEAL's ciphertext> for each    19 <scale as float64>

SEAL checks that coefficients lie below the primes and that the parameters are the context's; and what SEAL's part
says of itself (two polynomials, the context's scale and modulus, not open) is compared. So what is left is a sum or
some pair of polynomials of this form, about which nothing more can be said without the secret key.

One call of TenSEAL's for many blocks adds faster than one for each, so what arrives is read in vectors of 16 blocks:
more read no faster, as they leave the processor's caches. Encryption makes vectors of a block, for TenSEAL warns on
standard output when it encrypts a longer one; they are written and read again only if one is added to what arrived.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from tenseal import _ts_cpp as _native

from secagg import wire
from secagg.errors import ShapeError, UsageError, WireError
from secagg.he import scheme
from secagg.he.scheme import Header, HeaderFields, check_ciphertext
from secagg.wire import Message

if TYPE_CHECKING:
    from secagg.he.ckks.keys import PublicKey

# What TenSEAL raises on bytes that it cannot read, by the kinds of C++ exceptions in it and in SEAL.
TENSEAL_ERRORS: Final = (ValueError, RuntimeError, IndexError, OverflowError, MemoryError)
_SEAL_HEADER: Final = struct.Struct("<H6xQ")  # magic, and bytes in all
_SEAL_MAGIC: Final = 0xA15E
# Blocks in a vector that is read. With 2 bytes for each block's numbers, their length takes 1 byte.
_GROUP: Final = 16


class CiphertextMessage(Message, frozen=True):
    """A ciphertext on the wire.

    Fields:
      header: what it is.
      blocks: a row each, filled up with zeros.
    """

    header: HeaderFields
    blocks: NDArray[np.uint8]


class Ciphertext(scheme.Ciphertext):
    """An array encrypted under one CKKS key.

    Args:
      header: what it is.
      public_key: whose.
      vectors: TenSEAL's, linked to the key's own context, each of a block or each of 16 but the last; not copied.
    """

    __slots__ = ("_vectors", "public_key")

    def __init__(self, header: Header, public_key: PublicKey, vectors: list[Any]) -> None:
        super().__init__(header)
        self.public_key, self._vectors = public_key, vectors

    @classmethod
    def from_message(cls, message: CiphertextMessage, public_key: PublicKey, *, peer: str = "") -> Self:
        """Return the ciphertext in a message from a peer.

        Raises:
          WireError: it is none under this key; the message says what is wrong with it.
        """
        try:
            ciphertext = cls(Header.from_fields(message.header), public_key, [])
            check_ciphertext(ciphertext, public_key)
            ciphertext._vectors = _read(message.blocks, ciphertext.header, public_key)
        except UsageError as error:
            raise WireError(
                f"a CKKS ciphertext from {peer or 'the stored bytes'}: {error}", peer=peer
            ) from None
        return ciphertext

    @classmethod
    def from_bytes(cls, data: wire.Buffer, public_key: PublicKey, *, peer: str = "") -> Self:
        """Return the ciphertext that `to_bytes` made bytes of; raises as `from_message` does."""
        return cls.from_message(wire.from_bytes(data, CiphertextMessage, peer=peer), public_key, peer=peer)

    def to_message(self) -> CiphertextMessage:
        """Return the ciphertext as a message, which shares no memory with it: TenSEAL writes another form."""
        context = self.public_key.context
        rows = np.zeros((context.blocks(self.header.length), context.block_bytes), np.uint8)
        for row, block in zip(rows, chain.from_iterable(map(_blocks, self._vectors)), strict=True):
            write_row(block, row)
        return CiphertextMessage(self.header.to_fields(), rows)

    def copy(self) -> Self:
        # TenSEAL's copy() writes out and reads back a vector and its context; its first power is a copy and no more.
        return type(self)(self.header, self.public_key, [vector**1 for vector in self._vectors])

    def decrypted_by(self, secret_key: Any) -> NDArray[np.float64]:
        """Return the numbers, float64, shape (length,), by the secret key in TenSEAL's form."""
        numbers = np.empty(self.header.length)
        start = 0
        for vector in self._vectors:
            part = vector.decrypt(secret_key)
            numbers[start : start + len(part)] = np.fromiter(part, np.float64, len(part))
            start += len(part)
        return numbers

    def __add__(self, other: Self) -> Self:
        # One pass of TenSEAL's over each vector, where the common way makes a copy of all and then adds to it.
        header = self._sum_header(other)
        self._match(other)
        try:
            vectors = list(map(_native.CKKSVector.add, self._vectors, other._vectors))
        except RuntimeError as error:
            raise _lies_open(error) from None
        return type(self)(header, self.public_key, vectors)

    def _add(self, other: Self) -> None:
        self._match(other)
        done = 0
        try:
            for _ in map(_native.CKKSVector.add_, self._vectors, other._vectors):
                done += 1
        except RuntimeError as error:
            for mine, theirs in zip(self._vectors[:done], other._vectors, strict=False):
                mine.sub_(theirs)
            self._vectors[done] = self._before(done, other._vectors[done])
            raise _lies_open(error) from None

    def _times(self, factor: int) -> Self:
        return type(self)(
            self.header, self.public_key, [_multiple(vector, factor) for vector in self._vectors]
        )

    def _match(self, other: Self) -> None:
        """Bring both into vectors of as many blocks."""
        if len(self._vectors) != len(other._vectors):
            longer = max(self, other, key=lambda ciphertext: len(ciphertext._vectors))
            longer._vectors = _joined(
                list(chain.from_iterable(map(_blocks, longer._vectors))), self.header.length, self.public_key
            )

    def _before(self, index: int, other: Any) -> Any:
        """Return what a vector was before an addition that SEAL broke off.

        SEAL has added block by block up to one whose sum lies open, and only then looked. Subtracting from these brings
        back what was there, exactly.
        """
        slots, vector = self.public_key.context.slots, self._vectors[index]
        added, blocks = True, []
        for start, mine, theirs in zip(
            range(0, vector.size(), slots), _blocks(vector), _blocks(other), strict=True
        ):
            if added:
                sizes = (min(slots, vector.size() - start),)
                total = _vector([mine], sizes, self.public_key)
                added = not total.ciphertext()[0].is_transparent()
                total.sub_(_vector([theirs], sizes, self.public_key))
                (mine,) = _blocks(total)
            blocks.append(mine)
        return _joined(blocks, vector.size(), self.public_key)[0]


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


def write_row(data: bytes | memoryview, row: NDArray[np.uint8]) -> int:
    """Write bytes to the beginning of a row of zeros, and return how many."""
    row[: len(data)] = np.frombuffer(data, np.uint8)
    return len(data)


def read_row(row: memoryview, length: int) -> memoryview:
    """Return the bytes at the beginning of a row.

    Raises:
      ShapeError: as many bytes do not fit, or others than zeros follow.
    """
    if not 0 < length <= len(row) or bytes(row[length:]).count(0) != len(row) - length:
        raise ShapeError(f"expected {length} bytes, and zeros up to {len(row)}")
    return row[:length]


def _read(rows: NDArray[np.uint8], header: Header, public_key: PublicKey) -> list[Any]:
    """Return the vectors in a message.

    Raises:
      UsageError: they are not what the header says.
    """
    context = public_key.context
    context.check_plan(header.plan)
    if header.summands > header.weight:
        raise UsageError(f"{header.summands} summands weigh no less, got a weight of {header.weight}")
    length, step = header.length, context.block_bytes
    if rows.shape != (context.blocks(length), step):
        raise ShapeError(
            f"expected blocks of shape {(context.blocks(length), step)} for {length} numbers, got {rows.shape}"
        )
    octets, blocks = np.ascontiguousarray(rows).reshape(-1).data, []
    for start in range(0, len(octets), step):
        magic, nbytes = _SEAL_HEADER.unpack_from(octets, start)
        if magic != _SEAL_MAGIC:
            raise UsageError("a block is nothing that SEAL wrote")
        blocks.append(read_row(octets[start : start + step], nbytes))
    try:
        vectors = _joined(blocks, length, public_key)
        forms = {_form(pair) for vector in vectors for pair in vector.ciphertext()}
    except TENSEAL_ERRORS as error:
        raise UsageError(f"a block cannot be read: {error!s:.100}") from None
    if wrong := forms - {(2, len(context.prime_bits) - 1, 2.0**context.scale_bits, True, False)}:
        raise UsageError(f"a block is neither an encryption nor a sum: its form is {wrong.pop()}")
    return vectors


def _form(pair: Any) -> tuple[int, int, float, bool, bool]:
    return (
        pair.size(),
        pair.coeff_modulus_size(),
        pair.scale,
        pair.is_ntt_form(),
        pair.is_transparent(),
    )


def _joined(blocks: Sequence[memoryview], length: int, public_key: PublicKey) -> list[Any]:
    """Return vectors of 16 blocks from what SEAL wrote of each; raises as `_vector` does."""
    slots = public_key.context.slots
    sizes = [slots] * (len(blocks) - 1) + [length - slots * (len(blocks) - 1)]
    starts = range(0, len(blocks), _GROUP)
    return [_vector(blocks[i : i + _GROUP], sizes[i : i + _GROUP], public_key) for i in starts]


def _vector(blocks: Sequence[memoryview], sizes: Sequence[int], public_key: PublicKey) -> Any:
    """Return the vector of at most 16 blocks of so many numbers; raises one of `TENSEAL_ERRORS` if it is none.

    Joining is the one copy on the way in, which is wanted anyway: TenSEAL reads nothing but `bytes`.
    """
    numbers = b"".join(map(_varint, sizes))
    fields: list[bytes | memoryview] = [b"\x0a", _varint(len(numbers)), numbers]
    for block in blocks:
        fields += (b"\x12", _varint(len(block)), block)
    fields.append(struct.pack("<cd", b"\x19", 2.0**public_key.context.scale_bits))
    return public_key.read_vector(b"".join(fields))


def _blocks(vector: Any) -> Iterator[memoryview]:
    """Yield what SEAL writes of each block, from what TenSEAL writes of a vector."""
    data = memoryview(vector.serialize())
    at = 2 + data[1]
    while data[at] == 0x12:
        at += 1
        while data[at] & 0x80:
            at += 1
        start = at + 1
        at = start + _SEAL_HEADER.unpack_from(data, start)[1]
        yield data[start:at]


def _varint(value: int) -> bytes:
    """Return a number below 2^21 as protobuf writes it: 7 bits a byte, the lowest first."""
    if value < 1 << 7:
        return bytes((value,))
    if value < 1 << 14:
        return bytes((value & 0x7F | 0x80, value >> 7))
    return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
