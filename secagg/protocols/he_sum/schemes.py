"""The schemes of one key holder by name, and what of each goes over the wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from secagg.errors import RemoteProtocolError, UsageError
from secagg.fixed_point import Plan
from secagg.he.scheme import Ciphertext, Header, PublicKey, SecretKey
from secagg.party import PartyId
from secagg.wire import Message

if TYPE_CHECKING:
    from secagg.he import paillier
    from secagg.he.paillier.ciphertexts import CiphertextMessage


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a scheme's keys and ciphertexts go over the wire.

    Attributes:
      name: as given to `scheme`.
      exact: whether sums are.
      public_key_type: of its public keys.
      public_key, ciphertext: the messages.
      read_public_key: (message, peer) -> key; raises RemoteProtocolError.
      read_ciphertext: (message, key, peer) -> ciphertext; raises RemoteProtocolError.
      public_key_bytes: payload of a public key's message.
      ciphertext_bytes: (key, plan, length) -> payload of a ciphertext's message.
      error: (secret key, header) -> bound on the absolute error of a sum.
    """

    name: str
    exact: bool
    public_key_type: type[PublicKey]
    public_key: type[Message]
    ciphertext: type[Message]
    read_public_key: Callable[[Any, PartyId], PublicKey]
    read_ciphertext: Callable[[Any, Any, PartyId], Ciphertext]
    public_key_bytes: Callable[[Any], int]
    ciphertext_bytes: Callable[[Any, Plan, int], int]
    error: Callable[[Any, Header], float]


def scheme(name: str) -> Scheme:
    """Return a scheme by name.

    Raises:
      UsageError: an unknown name.
      ImportError: what the scheme needs is not installed; the message says how to get it.
    """
    makers = {"paillier": _paillier, "rlwe": _rlwe, "ckks": _ckks}
    if name not in makers:
        raise UsageError(f"expected a scheme among {', '.join(makers)}, got {name!r}")
    return makers[name]()


def read_paillier(message: CiphertextMessage, key: paillier.PublicKey, peer: PartyId) -> paillier.Ciphertext:
    """Return the Paillier ciphertext in a message, if it is packed as tightly as all are.

    Raises:
      RemoteProtocolError: it is not, or no ciphertext under this key.
    """
    from secagg.he.paillier.packing import Packing

    ciphertext = key.read(message, peer=peer)
    # Else the first upload would say how all others have to be packed.
    densest = Packing.densest(ciphertext.header.plan, key.modulus.plaintext).slots
    if ciphertext.slots != densest:
        raise RemoteProtocolError(
            f"expected {densest} numbers a residue from {peer}, as many as fit, got {ciphertext.slots}",
            peer=peer,
        )
    return ciphertext


def _exact_error(_: SecretKey, header: Header) -> float:
    return header.plan.error(summands=header.weight)


def _paillier() -> Scheme:
    from secagg.he import paillier
    from secagg.he.paillier.ciphertexts import CiphertextMessage
    from secagg.he.paillier.keys import PublicKeyMessage
    from secagg.he.paillier.packing import Packing

    def ciphertext_bytes(key: paillier.PublicKey, plan: Plan, length: int) -> int:
        residues = Packing.densest(plan, key.modulus.plaintext).count(length)
        return residues * (key.s + 1) * key.modulus.digit_bytes

    return Scheme(
        name="paillier",
        exact=True,
        public_key_type=paillier.PublicKey,
        public_key=PublicKeyMessage,
        ciphertext=CiphertextMessage,
        read_public_key=lambda message, peer: paillier.PublicKey.from_message(message, peer=peer),
        read_ciphertext=read_paillier,
        public_key_bytes=lambda _: 0,  # plain fields: no arrays
        ciphertext_bytes=ciphertext_bytes,
        error=_exact_error,
    )


def _rlwe() -> Scheme:
    from secagg.he.rlwe.ciphertexts import CiphertextMessage
    from secagg.he.rlwe.keys import PublicKey as RlwePublicKey
    from secagg.he.rlwe.keys import PublicKeyMessage

    def block_bytes(key: RlwePublicKey) -> int:
        return key.parameters.degree * key.parameters.modulus_bits // 8

    return Scheme(
        name="rlwe",
        exact=True,
        public_key_type=RlwePublicKey,
        public_key=PublicKeyMessage,
        ciphertext=CiphertextMessage,
        read_public_key=lambda message, peer: RlwePublicKey.from_message(message, peer=peer),
        read_ciphertext=lambda message, key, peer: key.read(message, peer=peer),
        public_key_bytes=block_bytes,
        ciphertext_bytes=lambda key, _, length: 2 * key.parameters.blocks(length) * block_bytes(key),
        error=_exact_error,
    )


def _ckks() -> Scheme:
    from secagg.he import ckks
    from secagg.he.ckks.ciphertexts import CiphertextMessage
    from secagg.he.ckks.keys import PublicKeyMessage

    def ciphertext_bytes(key: ckks.PublicKey, _: Plan, length: int) -> int:
        return key.context.blocks(length) * key.context.block_bytes

    return Scheme(
        name="ckks",
        exact=False,
        public_key_type=ckks.PublicKey,
        public_key=PublicKeyMessage,
        ciphertext=CiphertextMessage,
        read_public_key=lambda message, peer: ckks.PublicKey.from_message(message, peer=peer),
        read_ciphertext=lambda message, key, peer: key.read(message, peer=peer),
        public_key_bytes=lambda key: key.context.public_key_bytes,
        ciphertext_bytes=ciphertext_bytes,
        error=lambda key, header: key.public_key.error(header).bound,
    )
