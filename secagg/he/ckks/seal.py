"""What SEAL and TenSEAL write, taken apart and put together here: coefficients on one side, constants on the other.

An object of SEAL's is 16 bytes (magic, their number, SEAL's version, how the rest is compressed, bytes in all) and its
content: some fields that say what it is, and coefficients. For parameters that both sides know, the fields are constants.
So only coefficients are sent. The receiver writes the constants around them, and neither SEAL nor TenSEAL reads anything
else that a peer chose: no parameters, no lengths, no compressed bytes, no keys of other kinds.

TenSEAL's contexts and vectors are protobuf messages around SEAL's objects. SEAL compresses with Zstandard; what is to be
read is uncompressed here into as many bytes as it must have and not one more.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import zstandard
from numpy.typing import NDArray

from secagg.errors import ShapeError, UsageError

Octets = bytes | memoryview

_HEADER: Final = struct.Struct("<5sBxxQ")  # magic, bytes here and version; compression; bytes in all
_MAGIC: Final = b"\x5e\xa1\x10"
_PLAIN, _ZSTANDARD = 0, 2
_WINDOW_BYTES: Final = 1 << 23  # of Zstandard's memory; SEAL's objects take 1 to 4 MB

# Protobuf's kinds of fields.
VARINT, FIXED64, BYTES = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Layout:
    """One kind of SEAL's objects under fixed parameters.

    Attributes:
      kind: the first bytes of the header: magic, length, SEAL's version.
      fields: what lies before the coefficients.
      shape: of the coefficients, 8 bytes each.
    """

    kind: bytes
    fields: bytes
    shape: tuple[int, ...]

    @classmethod
    def of(cls, data: Octets, shape: tuple[int, ...]) -> Layout:
        """Return the layout of an object that was made here."""
        size = 8 * int(np.prod(shape))
        kind = bytes(data[:5])
        plain = content(data, kind, limit=size + 1024)
        return cls(kind, bytes(plain[: len(plain) - size]), shape)

    @property
    def nbytes(self) -> int:
        """Bytes of an object, uncompressed."""
        return _HEADER.size + len(self.fields) + 8 * int(np.prod(self.shape))

    @property
    def least_nbytes(self) -> int:
        """Bytes that an object has at least, compressed or not.

        Coefficients are as if drawn at random modulo primes of 30 bits or more, each in 8 bytes. So any compression keeps
        30 / 64 of these at least. A quarter leaves room for the form.
        """
        return self.nbytes // 4

    def read(self, data: Octets) -> NDArray[np.uint64]:
        """Return the coefficients in an object.

        Raises:
          UsageError: it is no such object, or its fields are not these.
        """
        size = self.nbytes - _HEADER.size
        plain = content(data, self.kind, limit=size)
        if len(plain) != size:
            raise ShapeError(f"expected {size} bytes of SEAL's, got {len(plain)}")
        if plain[: len(self.fields)] != self.fields:
            raise UsageError("an object of SEAL's has other parameters, another scale or another form")
        return np.frombuffer(plain, np.uint64, offset=len(self.fields)).reshape(self.shape)

    def write(self, coefficients: NDArray[np.uint64]) -> list[Octets]:
        """Return an object with these coefficients, in parts.

        Raises:
          ShapeError: another shape.
        """
        if coefficients.shape != self.shape:
            raise ShapeError(f"expected coefficients of shape {self.shape}, got {coefficients.shape}")
        header = _HEADER.pack(self.kind, _PLAIN, self.nbytes)
        return [header, self.fields, np.ascontiguousarray(coefficients).reshape(-1).view(np.uint8).data]


def content(data: Octets, kind: bytes, *, limit: int) -> Octets:
    """Return what follows the header of an object, uncompressed.

    Args:
      data: the object and nothing else.
      kind: what its header begins with.
      limit: most bytes that are uncompressed.

    Raises:
      UsageError: nothing that this version of SEAL wrote, or more bytes than that.
    """
    if len(data) < _HEADER.size or data[:3] != _MAGIC:
        raise UsageError("expected an object of SEAL's, got something else or a part of it")
    got, mode, nbytes = _HEADER.unpack_from(data)
    if got != kind:
        raise UsageError(f"expected an object of SEAL {kind[3]}.{kind[4]}'s, got one of {got[3]}.{got[4]}'s")
    if mode not in (_PLAIN, _ZSTANDARD) or nbytes != len(data):
        raise UsageError(
            f"expected {len(data)} bytes of SEAL's, plain or under Zstandard, got {nbytes} under compression {mode}"
        )
    rest = memoryview(data)[_HEADER.size :]
    if mode == _PLAIN:
        if len(rest) > limit:
            raise UsageError(f"expected at most {limit} bytes in an object of SEAL's, got {len(rest)}")
        return rest
    try:
        reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).stream_reader(rest)
        plain = bytearray(limit + 1)
        view, size = memoryview(plain), 0
        while size <= limit and (read := reader.readinto(view[size:])):
            size += read
    except zstandard.ZstdError:
        raise UsageError("an object of SEAL's cannot be uncompressed") from None
    if size > limit:
        raise UsageError(f"an object of SEAL's uncompresses to more than the {limit} bytes that it may have")
    return view[:size]


def field(number: int, value: Octets, *more: Octets) -> list[Octets]:
    """Return a field of bytes of a protobuf message, in parts; the parts of its value are joined."""
    parts = (value, *more)
    return [bytes((number << 3 | BYTES,)), varint(sum(map(len, parts))), *parts]


def fields(data: Octets) -> Iterator[tuple[int, int, int | memoryview]]:
    """Yield the number, kind and value of each field of a protobuf message.

    Raises:
      UsageError: it is none.
    """
    view, at = memoryview(data), 0
    while at < len(view):
        key, at = _varint_at(view, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint_at(view, at)
            yield number, kind, value
            continue
        length, at = (8, at) if kind == FIXED64 else _varint_at(view, at)
        if kind not in (FIXED64, BYTES) or length > len(view) - at:
            raise UsageError("expected what TenSEAL writes, got something else or a part of it")
        yield number, kind, view[at : at + length]
        at += length


def varint(value: int) -> bytes:
    """Return a number as protobuf writes it: 7 bits a byte, the lowest first."""
    out = bytearray()
    while value >> 7:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varints(data: Octets, *, most: int, count: int) -> list[int]:
    """Return numbers that are written one after the other.

    Args:
      data: what `varint` writes of each.
      most: largest number.
      count: how many there are at most.

    Raises:
      UsageError: something else, a larger one, or more of them; nothing behind it is read.
    """
    view, at, found = memoryview(data), 0, list[int]()
    while at < len(view):
        if len(found) == count:
            raise UsageError(f"expected at most {count} numbers from TenSEAL here, got more")
        value, at = _varint_at(view, at)
        if value > most:
            raise UsageError(f"expected numbers up to {most} from TenSEAL, got {value}")
        found.append(value)
    return found


def _varint_at(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for i, octet in enumerate(view[at : at + 10]):
        value |= (octet & 0x7F) << 7 * i
        if octet < 0x80:
            return value, at + i + 1
    raise UsageError("expected what TenSEAL writes, got something else or a part of it")
