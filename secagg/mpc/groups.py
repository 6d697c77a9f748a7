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
    """Bits packed 64 a word; addition is XOR."""

    dtype: Final = np.dtype(np.uint64)

    def add(self, x: Array, y: Array) -> Array:
        return np.asarray(x ^ y)  # numpy makes scalars of results without dimensions

    subtract = add

    def draw(self, stream: Stream, shape: tuple[int, ...]) -> Array:
        return stream.words(shape)


XOR: Final = XorGroup()


def checked(array: Array, shape: tuple[int, ...], dtype: np.dtype[Any], *, what: str, peer: PartyId) -> Array:
    """Return an array from a peer if it has the expected shape and dtype."""
    if array.dtype != dtype:
        raise RemoteProtocolError(
            f"expected {what} of dtype {dtype} from {peer}, got {array.dtype}", peer=peer
        )
    return check_array(array, shape, what=what, peer=peer)
