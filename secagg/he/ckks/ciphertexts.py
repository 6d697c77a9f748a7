"""CKKS ciphertexts of arrays: a list of TenSEAL's vectors, each of one block of N / 2 numbers.

TenSEAL would take a longer vector whole, but then warns on standard output, and trusts what arrives from
elsewhere: the numbers of a block it reads from the wire decide where decryption reads memory. Block by block
they are ours to check.

On the wire blocks lie one after the other in one array, each as TenSEAL writes it:

    0a <length> <numbers in the block>    12 <length> <SEAL's ciphertext>    19 <scale as float64>

What arrives is compared with that form, byte for byte around SEAL's part; SEAL checks that coefficients lie below
the primes and that the parameters are the context's; and what SEAL's part says of itself (two polynomials, the
context's scale and modulus) is compared again. So what is left is a sum or some pair of polynomials of this
form, about which nothing more can be said without the secret key.
"""

from __future__ import annotations

import struct
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
_SCALE: Final = struct.Struct("<cd")
_SEAL_MAGIC: Final = 0xA15E


class CiphertextMessage(Message, frozen=True):
    """A ciphertext on the wire.

    Fields:
      header: what it is.
      lengths: bytes of each block.
      blocks: a row each, filled up with zeros.
    """

    header: HeaderFields
    lengths: tuple[int, ...]
    blocks: NDArray[np.uint8]


class Ciphertext(scheme.Ciphertext):
    """An array encrypted under one CKKS key.

    Args:
      header: what it is.
      public_key: whose.
      blocks: TenSEAL's vectors, which must be linked to the key's own context; not copied.
    """

    __slots__ = ("_blocks", "public_key")

    def __init__(self, header: Header, public_key: PublicKey, blocks: list[Any]) -> None:
        super().__init__(header)
        self.public_key, self._blocks = public_key, blocks

    @classmethod
    def from_message(cls, message: CiphertextMessage, public_key: PublicKey, *, peer: str = "") -> Self:
        """Return the ciphertext in a message from a peer.

        Raises:
          WireError: it is none under this key; the message says what is wrong with it.
        """
        try:
            ciphertext = cls(Header.from_fields(message.header), public_key, [])
            check_ciphertext(ciphertext, public_key)
            ciphertext._blocks = _read(message, ciphertext.header, public_key)
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
        rows = np.zeros((len(self._blocks), self.public_key.context.block_bytes), np.uint8)
        lengths = tuple(
            write_row(block.serialize(), row) for block, row in zip(self._blocks, rows, strict=True)
        )
        return CiphertextMessage(self.header.to_fields(), lengths, rows)

    def copy(self) -> Self:
        # TenSEAL's copy() writes out and reads back the block and its context; its first power is a copy and no more.
        return type(self)(self.header, self.public_key, [block**1 for block in self._blocks])

    def decrypted_by(self, secret_key: Any) -> NDArray[np.float64]:
        """Return the numbers, float64, shape (length,), by the secret key in TenSEAL's form."""
        numbers = np.empty(self.header.length)
        start = 0
        for block in self._blocks:
            part = block.decrypt(secret_key)
            numbers[start : start + len(part)] = np.fromiter(part, np.float64, len(part))
            start += len(part)
        return numbers

    def __add__(self, other: Self) -> Self:
        # One pass of TenSEAL's over each block, where the common way makes a copy of all and then adds to it.
        header = self._sum_header(other)
        try:
            blocks = list(map(_native.CKKSVector.add, self._blocks, other._blocks))
        except RuntimeError as error:
            raise _lies_open(error) from None
        return type(self)(header, self.public_key, blocks)

    def _add(self, other: Self) -> None:
        done = 0
        try:
            for _ in map(_native.CKKSVector.add_, self._blocks, other._blocks):
                done += 1
        except RuntimeError as error:
            # SEAL has added, and only then looked. Subtracting brings back what was there, exactly.
            for mine, theirs in zip(self._blocks[: done + 1], other._blocks, strict=False):
                mine.sub_(theirs)
            raise _lies_open(error) from None

    def _times(self, factor: int) -> Self:
        return type(self)(self.header, self.public_key, [_multiple(block, factor) for block in self._blocks])


def _lies_open(error: RuntimeError) -> UsageError:
    return UsageError(
        f"these ciphertexts are not added ({error}): one is the other's negative, so that the sum would be no secret"
    )


def _multiple(block: Any, factor: int) -> Any:
    """Return a block times an integer other than 0, by doubling and adding."""
    total = block**1
    for bit in bin(abs(factor))[3:]:
        total.add_(total)
        if bit == "1":
            total.add_(block)
    return total.neg_() if factor < 0 else total


def write_row(data: bytes, row: NDArray[np.uint8]) -> int:
    """Write bytes to the beginning of a row of zeros, and return how many."""
    row[: len(data)] = np.frombuffer(data, np.uint8)
    return len(data)


def read_row(row: memoryview, length: int) -> bytes:
    """Return the bytes at the beginning of a row. TenSEAL takes nothing else: this is the one copy on the way in.

    Raises:
      ShapeError: as many bytes do not fit, or others than zeros follow.
    """
    if not 0 < length <= len(row) or bytes(row[length:]).count(0) != len(row) - length:
        raise ShapeError(f"expected {length} bytes, and zeros up to {len(row)}")
    return bytes(row[:length])


def _read(message: CiphertextMessage, header: Header, public_key: PublicKey) -> list[Any]:
    """Return the blocks in a message.

    Raises:
      UsageError: they are not what the header says.
    """
    context = public_key.context
    context.check_plan(header.plan)
    if header.summands > header.weight:
        raise UsageError(f"{header.summands} summands weigh no less, got a weight of {header.weight}")
    shape = (context.blocks(header.length), context.block_bytes)
    if message.blocks.shape != shape or len(message.lengths) != shape[0]:
        raise ShapeError(
            f"expected blocks of shape {shape} for {header.length} numbers, got {message.blocks.shape} and "
            f"{len(message.lengths)} lengths"
        )
    # TenSEAL reads as many numbers from a block's memory as the block says it has: it must not say more.
    last = header.length - context.slots * (shape[0] - 1)
    fronts = [_front(context.slots)] * (shape[0] - 1) + [_front(last)]
    octets, step = np.ascontiguousarray(message.blocks).reshape(-1).data, context.block_bytes
    starts = range(0, len(octets), step)
    rows = zip(starts, message.lengths, fronts, strict=True)
    return [_block(read_row(octets[i : i + step], length), front, public_key) for i, length, front in rows]


def _block(data: bytes, front: bytes, public_key: PublicKey) -> Any:
    """Return a block that begins so.

    Raises:
      UsageError: the bytes are none.
    """
    context = public_key.context
    scale = 2.0**context.scale_bits
    inner = len(data) - len(front) - 3 - _SCALE.size
    if not (
        1 << 14 <= inner < 1 << 21  # where the length of SEAL's part takes 3 bytes
        and data.startswith(front)
        and data.startswith(_varint(inner), len(front))
        and _SEAL_HEADER.unpack_from(data, len(front) + 3) == (_SEAL_MAGIC, inner)
        and _SCALE.unpack_from(data, len(data) - _SCALE.size) == (b"\x19", scale)
    ):
        raise UsageError(
            f"a block is no vector of as many numbers as expected at scale 2^{context.scale_bits}"
        )
    try:
        block = public_key.read_block(data)
        (polynomials,) = block.ciphertext()
    except TENSEAL_ERRORS as error:
        raise UsageError(f"a block cannot be read: {error!s:.100}") from None
    form = polynomials.size(), polynomials.coeff_modulus_size(), polynomials.scale, polynomials.is_ntt_form()
    if form != (2, len(context.prime_bits) - 1, scale, True):
        raise UsageError(f"a block is neither an encryption nor a sum: its form is {form}")
    return block


def _front(size: int) -> bytes:
    """Return how TenSEAL begins a block of so many numbers."""
    numbers = _varint(size)
    return b"\x0a" + _varint(len(numbers)) + numbers + b"\x12"


def _varint(value: int) -> bytes:
    """Return a number below 2^21 as protobuf writes it: 7 bits a byte, the lowest first."""
    if value < 1 << 7:
        return bytes((value,))
    if value < 1 << 14:
        return bytes((value & 0x7F | 0x80, value >> 7))
    return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
