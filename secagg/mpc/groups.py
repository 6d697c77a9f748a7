"""The groups that secrets live in, and bits under exclusive or, which is one of them."""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RemoteProtocolError
from secagg.party import PartyId, check_array
from secagg.prg import Stream

Array = NDArray[Any]


class Group(Protocol):
    """The group that secrets live in."""

    @property
    def dtype(self) -> np.dtype[Any]: ...
    def add(self, x: Array, y: Array) -> Array: ...
    def subtract(self, x: Array, y: Array) -> Array: ...
    def draw(self, stream: Stream, shape: tuple[int, ...]) -> Array: ...


class XorGroup:
    """Bits packed into words; addition is XOR.

    Args:
      bits: of a word: 8 or 64.
    """

    __slots__ = ("bits", "dtype")

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.dtype: np.dtype[Any] = np.dtype(f"u{bits // 8}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, XorGroup) and other.bits == self.bits

    def __hash__(self) -> int:
        return hash(self.bits)

    def add(self, x: Array, y: Array) -> Array:
        return np.asarray(x ^ y)  # numpy makes scalars of results without dimensions

    subtract = add

    def draw(self, stream: Stream, shape: tuple[int, ...]) -> Array:
        return stream.words(shape) if self.bits == 64 else stream.ring(shape, self.bits)


XOR: Final = XorGroup(64)  # what circuits work on
XOR_BYTES: Final = XorGroup(8)  # a few bits that are opened


def checked(array: Array, shape: tuple[int, ...], dtype: np.dtype[Any], *, what: str, peer: PartyId) -> Array:
    """Return an array from a peer if it has the expected shape and dtype."""
    if array.dtype != dtype:
        raise RemoteProtocolError(
            f"expected {what} of dtype {dtype} from {peer}, got {array.dtype}", peer=peer
        )
    return check_array(array, shape, what=what, peer=peer)
