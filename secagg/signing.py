"""Signatures and digests over lists of byte strings that nobody can read in two ways.

Ed25519 [RFC 8032] and SHA-256, both OpenSSL's. What is signed or hashed is a label, which says what the statement is, and
its parts. Each is preceded by its length in 8 bytes, so different (label, parts) are different strings. So a signature
made for one purpose is none for another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from secagg.errors import AuthenticationError

SIGNATURE_BYTES: Final = 64
DIGEST_BYTES: Final = 32
Part = bytes | bytearray | memoryview


def digest(label: str, parts: Sequence[Part]) -> bytes:
    """Return SHA-256 of a label and byte strings, 32 bytes; long parts are hashed where they lie."""
    state = hashlib.sha256()
    for part in (b"secagg", label.encode(), *parts):
        view = memoryview(part).cast("B")
        state.update(len(view).to_bytes(8, "big"))
        state.update(view)
    return state.digest()


def sign(secret_key: Ed25519PrivateKey, label: str, parts: Sequence[Part]) -> bytes:
    """Return the signature of a statement, 64 bytes."""
    return secret_key.sign(digest(label, parts))


def verify(
    public_key: Ed25519PublicKey, signature: bytes, label: str, parts: Sequence[Part], *, peer: str
) -> None:
    """Check a peer's signature of a statement.

    Raises:
      AuthenticationError: it is not the signature of this statement under this key.
    """
    try:
        public_key.verify(signature, digest(label, parts))
    except InvalidSignature:
        raise AuthenticationError(
            f"expected {peer}'s signature of {label}, got one that does not fit; "
            f"does everybody hold the same public key of {peer}, session and round?",
            peer=peer,
        ) from None
