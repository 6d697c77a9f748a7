"""Identifiers as points of Curve25519, and blinding them, on x-coordinates alone.

Hash to the curve: curve25519_XMD:SHA-512_ELL2_NU_ of RFC 9380 (sections 5.3.1, 6.7.1 and 8.5) without its last step. That
step multiplies by the cofactor 8, and X25519's scalars (RFC 7748, section 5) are multiples of 8 anyway. Elligator 2 gives
points of the curve and never of its twist. If a hash were taken for an x-coordinate as it is, half of the points would lie
on the twist, and a blinded point would tell which.

Blinding is OpenSSL's X25519, which takes the same time for every scalar and point. Hashing is not: its time depends on an
organisation's own identifiers, on its own machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from numpy.typing import NDArray

from secagg.errors import RemoteProtocolError, UsageError

try:  # five times as fast as Python's integers, with the same results
    from gmpy2 import invert as _invert
    from gmpy2 import legendre as _legendre
    from gmpy2 import mpz as _number
except ImportError:
    _number: Any = int  # type: ignore[no-redef]

    def _invert(x: Any, p: Any) -> Any:
        return pow(x, -1, p)

    def _legendre(x: Any, p: Any) -> Any:
        power = pow(x, (p - 1) // 2, p)
        return -1 if power == p - 1 else power


POINT_BYTES: Final = 32
SCALAR_BYTES: Final = 32
_P: Final = _number(2**255 - 19)
_J: Final = _number(486662)
_FIELD_BYTES: Final = 48  # RFC 9380's L for this curve
_Z_PAD: Final = hashlib.sha512(bytes(128))
_MOST_DST: Final = 255


def hash_to_curve(messages: Iterable[bytes], dst: bytes) -> NDArray[np.uint8]:
    """Return for each message the x-coordinate of its point before the cofactor is cleared, shape (n, 32).

    Args:
      messages: any bytes.
      dst: which hash function of all; 1 to 255 bytes.

    Raises:
      UsageError: `dst` of another length.
    """
    if not 1 <= len(dst) <= _MOST_DST:
        raise UsageError(f"expected a domain separation tag of 1 to {_MOST_DST} bytes, got {len(dst)}")
    suffix = dst + bytes([len(dst)])
    first, second = _FIELD_BYTES.to_bytes(2, "big") + b"\0" + suffix, b"\x01" + suffix
    sha512, read, p, j = hashlib.sha512, int.from_bytes, _P, _J
    found = bytearray()
    for message in messages:
        state = _Z_PAD.copy()
        state.update(message + first)
        u = _number(read(sha512(state.digest() + second).digest()[:_FIELD_BYTES], "big"))
        # 1 + 2 u**2 has an inverse: -1 is a square modulo p and 2 is none.
        x = -j * _invert(1 + 2 * u * u, p) % p
        if _legendre(x * (x * x + j * x + 1) % p, p) < 0:
            x = -x - j
        found += int(x % p).to_bytes(POINT_BYTES, "little")
    return np.frombuffer(bytes(found), np.uint8).reshape(-1, POINT_BYTES)


class Blinding:
    """A secret scalar.

    Args:
      secret: 32 random bytes, which X25519 makes a scalar of.
    """

    __slots__ = ("_key",)

    def __init__(self, secret: bytes) -> None:
        self._key = X25519PrivateKey.from_private_bytes(secret)

    def __repr__(self) -> str:
        return "<Blinding>"

    def blind(self, points: NDArray[np.uint8], *, peer: str = "") -> NDArray[np.uint8]:
        """Return the scalar's multiples of points, by their x-coordinates, shape (n, 32).

        Args:
          points: shape (n, 32).
          peer: who sent them, if somebody did.

        Raises:
          RemoteProtocolError: a point of small order, which no hash gives.
        """
        octets, exchange, read = points.tobytes(), self._key.exchange, X25519PublicKey.from_public_bytes
        try:
            found = b"".join(
                [
                    exchange(read(octets[start : start + POINT_BYTES]))
                    for start in range(0, len(octets), POINT_BYTES)
                ]
            )
        except ValueError:
            raise RemoteProtocolError(
                f"expected points of large order from {peer or 'this party'}, got one of small order, which no identifier "
                "gives",
                peer=peer,
            ) from None
        return np.frombuffer(found, np.uint8).reshape(-1, POINT_BYTES)
