"""Messages between nodes that the server carries and cannot read: keys of one sum, and letters sealed under them.

A node draws an X25519 key for a sum, and signs the public half with its identity key for that sum alone. Two nodes agree on
a key for each direction and pair of parties, by HKDF with the sum, both names and both public keys as information. Letters
are sealed by AES-256-GCM under a fresh random nonce, with the same information as associated data. So a letter opens for
one receiver, from one sender, in one sum. That each is read once and in order, its receiver's `Party` sees to.

What goes to the server, or comes from it, is not sealed.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from secagg.errors import AuthenticationError, RemoteProtocolError
from secagg.party import PartyId
from secagg.prg import derive_key
from secagg.protocols.masked_sum.keys import agree, public_bytes
from secagg.signing import sign, verify
from secagg.wire import Message

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_LABEL: Final = "secagg.federated/letters"
# Any key: what it agrees on is thrown away.
_PROBE: Final = X25519PrivateKey.from_private_bytes(bytes(range(KEY_BYTES)))


class SumPublicKey(Message, frozen=True):
    """Keys, node -> server -> nodes: a node's public key for this sum, signed."""

    key: bytes
    signature: bytes


class Mail(Message, frozen=True):
    """Letters side by side: of each who sends it, to whom, and how many of the bytes are its own."""

    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    lengths: tuple[int, ...]
    content: NDArray[np.uint8]


class Letter(tuple[PartyId, PartyId, bytes]):
    """Sender, receiver and content."""

    __slots__ = ()


def signed_key(secret: bytes, context: bytes, name: PartyId, identity: Ed25519PrivateKey) -> SumPublicKey:
    """Return the public half of a node's key of a sum, signed.

    Args:
      secret: 32 bytes.
      context: of the sum.
    """
    key = public_bytes(X25519PrivateKey.from_private_bytes(secret))
    return SumPublicKey(key, sign(identity, f"{_LABEL}/key", [context, name.encode(), key]))


def check_key(given: SumPublicKey, context: bytes, name: PartyId, identity: bytes) -> bytes:
    """Return a node's public key of a sum.

    Raises:
      AuthenticationError: the node did not sign it for this sum.
      RemoteProtocolError: it is no key, one of small order, or not written in its only reduced form.
    """
    if len(given.key) != KEY_BYTES:
        raise RemoteProtocolError(
            f"expected an X25519 key of {KEY_BYTES} bytes of {name}, got {len(given.key)}", peer=name
        )
    known = Ed25519PublicKey.from_public_bytes(identity)
    verify(known, given.signature, f"{_LABEL}/key", [context, name.encode(), given.key], peer=name)
    agree(_PROBE, given.key, owner=name)  # whoever seals for its owner would be refused the same
    return given.key


class Sealer:
    """What a node seals and opens letters with, in one sum.

    Args:
      secret: of the node's own key.
      context: of the sum.
      keys: other nodes' public keys of the sum, checked, and this node's own.
    """

    __slots__ = ("_ciphers", "_context", "_keys", "_mine", "_secret")

    def __init__(self, secret: bytes, context: bytes, keys: Mapping[PartyId, bytes]) -> None:
        self._secret, self._context, self._keys = X25519PrivateKey.from_private_bytes(secret), context, keys
        self._mine = public_bytes(self._secret)
        self._ciphers: dict[tuple[PartyId, PartyId, PartyId, bool], tuple[AESGCM, bytes]] = {}

    def __repr__(self) -> str:
        return "<Sealer of one sum>"

    def seal(self, frame: bytes, *, sender: PartyId, receiver: PartyId, at: PartyId) -> bytes:
        """Return a frame sealed.

        Args:
          sender, receiver: the parties.
          at: the receiver's node.

        Raises:
          RemoteProtocolError: there is no key of that node.
        """
        cipher, data = self._cipher(sender, receiver, at, sends=True)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + cipher.encrypt(nonce, frame, data)

    def open(self, sealed: bytes, *, sender: PartyId, receiver: PartyId, at: PartyId) -> bytes:
        """Return the frame that a node sealed.

        Args:
          sender, receiver: the parties.
          at: the sender's node.

        Raises:
          AuthenticationError: it is no letter of that sender's to that receiver in this sum.
        """
        cipher, data = self._cipher(sender, receiver, at, sends=False)
        try:
            return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], data)
        except (InvalidTag, ValueError):
            raise AuthenticationError(
                f"expected a letter that {sender} sealed for {receiver}, got one that does not open; the server altered "
                "it, or it is one of another sum",
                peer=at,
            ) from None

    def _cipher(
        self, sender: PartyId, receiver: PartyId, other: PartyId, *, sends: bool
    ) -> tuple[AESGCM, bytes]:
        """Return the cipher of one direction of a pair, and the associated data; worked out once."""
        direction = (sender, receiver, other, sends)
        if (known := self._ciphers.get(direction)) is not None:
            return known
        if other not in self._keys:
            raise RemoteProtocolError(
                f"expected a key of {other} for this sum from the server, got none", peer=other
            )
        theirs = self._keys[other]
        pair = [self._mine, theirs] if sends else [theirs, self._mine]
        names = [name.encode() for name in (sender, receiver)]
        data = b"".join([self._context, *(len(n).to_bytes(4, "big") + n for n in names), *pair])
        agreed = agree(self._secret, theirs, owner=other)
        made = AESGCM(derive_key(agreed, label=f"{_LABEL}/seal", context=data)), data
        self._ciphers[direction] = made
        return made


def pack(letters: Sequence[Letter]) -> Mail:
    """Return letters as one message."""
    content = b"".join(body for _, _, body in letters)
    return Mail(
        tuple(sender for sender, _, _ in letters),
        tuple(receiver for _, receiver, _ in letters),
        tuple(len(body) for _, _, body in letters),
        np.frombuffer(content, np.uint8),
    )


def unpack(mail: Mail, *, peer: str) -> list[Letter]:
    """Return the letters in a message.

    Raises:
      RemoteProtocolError: lists of different lengths, or lengths that do not add up.
    """
    content = np.ascontiguousarray(mail.content).tobytes()
    counts = {len(mail.senders), len(mail.receivers), len(mail.lengths)}
    if len(counts) != 1 or min(mail.lengths, default=0) < 0 or sum(mail.lengths) != len(content):
        raise RemoteProtocolError(f"expected letters between nodes from {peer}, got what is none", peer=peer)
    found, start = [], 0
    for sender, receiver, length in zip(mail.senders, mail.receivers, mail.lengths, strict=True):
        found.append(Letter((sender, receiver, content[start : start + length])))
        start += length
    return found
