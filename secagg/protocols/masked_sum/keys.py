"""The keys of one round: who signed them, and what is derived from them.

Every client makes two X25519 key pairs for each round. The *sealing* key stays secret for ever; the *masking* key
is told to the server if its owner drops out. Both are signed by the owner's registered identity key together with round and
owner. So a server cannot pass off keys of its own as a client's. A pair's agreement gives the key that seals shares and
the seed of the mask, by HKDF with round, ordered pair and purpose as information.
"""

from __future__ import annotations

from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secagg.errors import RemoteProtocolError, UsageError
from secagg.prg import KEY_BYTES, Stream, derive_key
from secagg.protocols.masked_sum.shamir import Polynomials
from secagg.protocols.masked_sum.terms import LABEL, Bound, SumInSession
from secagg.signing import sign, verify

# Each sealing key is bound to the sender, the receiver, the round and all four public keys of the two. Its sender is a
# function of the round's root secret and what came. So the key seals one message, or the same one again.
_NONCE: Final = bytes(12)
_FIELD: Final = (1 << 255) - 19  # of X25519


def secret_key(secret: bytes) -> X25519PrivateKey:
    """Return the X25519 key that 32 bytes stand for."""
    return X25519PrivateKey.from_private_bytes(secret)


def public_bytes(key: X25519PrivateKey) -> bytes:
    """Return the public key of an X25519 key, 32 bytes."""
    return key.public_key().public_bytes_raw()


def agree(key: X25519PrivateKey, public: bytes, *, owner: str) -> bytes:
    """Return what two X25519 keys agree on, 32 bytes.

    Raises:
      RemoteProtocolError: a public key of small order, which agrees on zero with everybody, or one that is not written
        in its only reduced form.
    """
    # X25519 ignores the top bit and reduces modulo 2**255 - 19, so that other bytes can stand for the same key.
    if int.from_bytes(public, "little") >= _FIELD:
        raise RemoteProtocolError(
            f"expected an X25519 public key of {owner} below 2**255 - 19, got another spelling", peer=owner
        )
    try:
        return key.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise RemoteProtocolError(
            f"expected an X25519 public key of {owner}, got a point of small order", peer=owner
        ) from None


def sign_keys(identity: Ed25519PrivateKey, where: Bound, client: int, keys: bytes) -> bytes:
    """Return the identity key's signature of a client's two public keys of this round."""
    return sign(identity, f"{LABEL}/keys", [where.context, _number(client), keys])


def check_keys(where: Bound, client: int, keys: bytes, signature: bytes) -> None:
    """Refuse public keys that their owner did not sign for this round.

    Raises:
      AuthenticationError: the signature does not fit.
    """
    name, parts = where.name_of(client), [where.context, _number(client), keys]
    verify(_identity(where, client), signature, f"{LABEL}/keys", parts, peer=name)


def check_fresh(where: Bound, client: int, keys: bytes, signature: bytes, probe: X25519PrivateKey) -> None:
    """Refuse public keys that a client's neighbours would refuse, for their owner's part in it.

    Args:
      probe: any key.

    Raises:
      AuthenticationError: as `check_keys`.
      RemoteProtocolError: as `agree`, or one key for both purposes.
    """
    check_keys(where, client, keys, signature)
    both, name = (keys[:KEY_BYTES], keys[KEY_BYTES:]), where.name_of(client)
    for public in both:
        agree(probe, public, owner=name)
    if both[0] == both[1]:
        raise RemoteProtocolError(f"expected fresh keys from {name}, got one twice", peer=name)


def sign_sets(identity: Ed25519PrivateKey, where: Bound, client: int, sets: bytes) -> bytes:
    """Return a client's signature of who shared and who is in the sum."""
    return sign(identity, f"{LABEL}/sets", [where.context, _number(client), sets])


def check_sets(where: Bound, client: int, sets: bytes, signature: bytes) -> None:
    """Refuse a signature that a client did not give to these sets.

    Raises:
      AuthenticationError: the signature does not fit.
    """
    name, parts = where.name_of(client), [where.context, _number(client), sets]
    verify(_identity(where, client), signature, f"{LABEL}/sets", parts, peer=name)


def pair_seed(where: Bound, agreed: bytes, one: int, other: int) -> bytes:
    """Return the seed of the mask that two clients have in common; the same at both."""
    pair = _number(min(one, other)) + _number(max(one, other))
    return derive_key(agreed, label=f"{LABEL}/pair mask", context=where.context + pair)


def self_seed(where: Bound, secret: bytes, client: int) -> bytes:
    """Return the seed of a client's self mask."""
    return derive_key(secret, label=f"{LABEL}/self mask", context=where.context + _number(client))


def commit(where: Bound, secret: bytes, client: int) -> bytes:
    """Return the 32 bytes by which a client fixes the secret of its self mask.

    HKDF as for the mask, for another purpose. It hides the secret as a pseudorandom function does, and fixes it as far as
    nobody finds collisions of SHA-256.
    """
    return derive_key(secret, label=f"{LABEL}/commitment", context=where.context + _number(client))


class Secrets:
    """A client's secrets of one round: all a function of a root of 32 bytes, so a restored client has them again.

    Args:
      root: 32 secret bytes.
      where: the round; under another one the same root stands for other secrets.

    Attributes:
      root: what they come from.
      sealing, masking: the two X25519 keys.
      self_secret: what the self mask's seed is derived from.
      public: the two public keys, 64 bytes.
    """

    __slots__ = ("_context", "_masking_bytes", "masking", "public", "root", "sealing", "self_secret")

    def __init__(self, root: bytes, where: SumInSession) -> None:
        if len(root) != KEY_BYTES:
            raise UsageError(f"the root of a round's secrets has {KEY_BYTES} bytes, not {len(root)}")
        stream = Stream(derive_key(root, label=f"{LABEL}/keys", context=where.context))
        sealing, self._masking_bytes, self.self_secret = (stream.bytes(KEY_BYTES) for _ in range(3))
        self.root, self._context = root, where.context
        self.sealing, self.masking = secret_key(sealing), secret_key(self._masking_bytes)
        self.public = public_bytes(self.sealing) + public_bytes(self.masking)

    def __repr__(self) -> str:
        return "<Secrets of a round>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not pickled or copied")

    def polynomials(self, threshold: int) -> Polynomials:
        """Return the polynomials that share masking key and self mask's secret; the same ones each time."""
        stream = Stream(derive_key(self.root, label=f"{LABEL}/polynomials", context=self._context))
        return Polynomials((self._masking_bytes, self.self_secret), threshold, stream)


class Letter:
    """The one message that a client seals for another in a round: cipher and associated data.

    Args:
      agreed: what the two sealing keys agree on.
      sender, receiver: their numbers.
      keys: the public keys of the sender, then of the receiver, 64 bytes each.
    """

    __slots__ = ("_cipher", "_data")

    def __init__(
        self, where: SumInSession, agreed: bytes, sender: int, receiver: int, keys: tuple[bytes, bytes]
    ) -> None:
        self._data = b"".join((where.context, _number(sender), _number(receiver), *keys))
        self._cipher = AESGCM(derive_key(agreed, label=f"{LABEL}/seal", context=self._data))

    def seal(self, shares: bytes) -> bytes:
        """Return the shares sealed."""
        return self._cipher.encrypt(_NONCE, shares, self._data)

    def open(self, sealed: bytes) -> bytes | None:
        """Return the shares, or None where this is not what the sender sealed."""
        try:
            return self._cipher.decrypt(_NONCE, sealed, self._data)
        except InvalidTag:
            return None


def identity_bytes(identity: Ed25519PrivateKey) -> bytes:
    """Return an identity's public key, 32 bytes."""
    return identity.public_key().public_bytes_raw()


def _identity(where: Bound, client: int) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(where.identity_of(client))
    except ValueError:
        raise UsageError(f"the identity key of {where.name_of(client)} is no Ed25519 public key") from None


def _number(client: int) -> bytes:
    return client.to_bytes(4, "big")
