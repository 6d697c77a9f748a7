"""One-time MACs: what two parties hold, one sends and the other vouches for.

GMAC [SP 800-38D] is AES-256-GCM of an empty message: the tag of the authenticated data. Its key is known to who
vouches and to who checks, in one direction. Its nonce is the number of the operation and of the item in it, so that no
nonce comes twice under a key.

*Bound.* The sender does not know the key and never sees a tag. Another content than the one that was vouched for passes
if both have the same GHASH, for the mask that the nonce gives cancels. The GHASH of l blocks of 16 bytes is a polynomial
of degree l + 1 in the block cipher's value of zero. At most l + 1 of its 2**128 values make two contents equal: a
probability of at most (l + 1) / 2**128, up to the advantage against AES. That is below 2**-99 for the 4 GiB of the
longest message. A lie that passes must pass at its first altered content, so the bound is that of one content.
"""

from __future__ import annotations

import os
from typing import Any, Final, TypeAlias

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.constant_time import bytes_eq
from numpy.typing import NDArray

from secagg.errors import UsageError
from secagg.prg import KEY_BYTES, check_process

TAG_BYTES: Final = 16
_MAX_UPDATE: Final = 1 << 30  # OpenSSL takes lengths as C int

Content: TypeAlias = bytes | NDArray[Any]


class Mac:
    """The MACs of one ordered pair of parties; not picklable, and bound to the process that made it.

    Args:
      key: 32 bytes, used for this direction alone.
    """

    __slots__ = ("_at_once", "_key", "_pid")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise UsageError(f"a key of MACs has {KEY_BYTES} bytes, not {len(key)}")
        self._key = key
        self._at_once = AESGCM(key)
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return "<Mac, key hidden>"

    def __reduce__(self) -> Any:
        raise TypeError("a Mac cannot be copied or pickled: two copies would use the same nonces")

    def tag(self, operation: int, slot: int, content: Content) -> bytes:
        """Return the tag of a content, 16 bytes.

        Args:
          operation, slot: together never used before in this direction.
          content: bytes, or a C-contiguous array; shape and dtype are not covered and are checked by the receiver.
        """
        check_process(self._pid, "a key of MACs")
        nonce = operation.to_bytes(8, "big") + slot.to_bytes(4, "big")
        view = view_of(content)
        if len(view) <= _MAX_UPDATE:
            return self._at_once.encrypt(nonce, b"", view)  # the tag alone: the message is empty
        encryptor = Cipher(algorithms.AES(self._key), modes.GCM(nonce)).encryptor()
        for start in range(0, len(view), _MAX_UPDATE):
            encryptor.authenticate_additional_data(view[start : start + _MAX_UPDATE])
        encryptor.finalize()
        return encryptor.tag

    def fits(self, tag: bytes, operation: int, slot: int, content: Content) -> bool:
        """Return whether a tag is that of a content, in time that does not depend on where they differ."""
        return bytes_eq(tag, self.tag(operation, slot, content))


def view_of(content: Content) -> memoryview:
    """Return the bytes of a content where they lie."""
    if isinstance(content, np.ndarray):
        return np.ascontiguousarray(content).reshape(-1).view(np.uint8).data
    return memoryview(content)
