"""Sums under one node's key in place of masks: the server adds up ciphertexts, and the key holder decrypts their sum.

  keys     server -> key holder: who takes part. key holder -> server: a fresh public key for this sum, signed
  input    server -> nodes: who takes part, and the key. node -> server: its numbers, encrypted
  decrypt  server -> key holder: the sum, and whose numbers are in it. key holder -> server: the sum in the clear

The key holder is a node, and a key is for one sum. Threat model: all keep to the protocol, and **server and key holder do
not work together**: together they open every update. Other nodes may work with either. A server that does not keep to the
protocol has one node's ciphertext decrypted in place of the sum; so nodes refuse encryption where the server is taken for
malicious. Nodes may leave until they have sent their input; the key holder must stay.

A node whose update does not fit the encoding leaves the sum: what it would tell otherwise hides only modulo 2^b, which
encryption does not compute in.

Learns: server and key holder, the sum and who is in it. That a node left, the server, and the kind of cause; so it can tell
that an update did not fit. What did not fit and by how much, that node alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from numpy.typing import NDArray

from secagg import fixed_point, wire
from secagg.errors import PlanError, RangeError, RemoteProtocolError, TooFewPartiesError, UsageError
from secagg.fixed_point import Plan
from secagg.party import PartyId
from secagg.ring import Ring, RingArray
from secagg.signing import sign, verify
from secagg.wire import Message

if TYPE_CHECKING:
    from secagg.he.scheme import Ciphertext, ExactSecretKey, PublicKey

_LABEL: Final = "secagg.federated/sum key"


@dataclass(frozen=True, slots=True)
class Encryption:
    """Encryption in place of masks; the same at all nodes and the server, and each node insists on its own.

    Args:
      key_holder: the node, by its name in the file of public keys, that makes a key for each sum and decrypts it. It must
        not work with the server.
      scheme: "rlwe"; or "paillier", for ciphertexts half as long at much more work.
      bits: of Paillier's n; 3072 stand for 128 bits of security.

    Raises:
      UsageError: an unknown scheme, a length that is too short, or a key holder that is no name.
    """

    key_holder: PartyId
    scheme: Literal["rlwe", "paillier"] = "rlwe"
    bits: int = 3072

    def __post_init__(self) -> None:
        if self.scheme not in ("rlwe", "paillier"):
            raise UsageError(f"expected 'rlwe' or 'paillier' as the scheme, got {self.scheme!r:.40}")
        holder: Any = self.key_holder
        if not isinstance(holder, str) or not holder:
            raise UsageError(f"expected the name of one node as key_holder, got {holder!r:.80}")
        if not isinstance(self.bits, int) or self.bits < 2048:
            raise UsageError(f"expected at least 2048 bits of Paillier's n, got {self.bits!r:.40}")

    def check_package(self) -> None:
        """Refuse where the scheme's package is missing.

        Raises:
          ImportError: it is not installed; the message says how to get it.
        """
        _public_key_class(self.scheme)


class SumKey(Message, frozen=True):
    """Keys, key holder -> server: a public key as bytes, signed for this sum."""

    key: bytes
    signature: bytes


class EncryptedInput(Message, frozen=True):
    """Input, node -> server: its numbers as a ciphertext, uint8: headers of frames bear no model's length."""

    ciphertext: NDArray[np.uint8]


class Total(Message, frozen=True):
    """Decrypt, server -> key holder: the sum as a ciphertext, and whose numbers are in it."""

    contributors: tuple[str, ...]
    ciphertext: NDArray[np.uint8]


class Decrypted(Message, frozen=True):
    """Decrypt, key holder -> server: the sum, shape (length,), in the dtype of the coder's ring and modulo it."""

    total: NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True)
class EncryptedTerms:
    """What all agree on in one sum.

    Args:
      encryption: scheme and key holder.
      names: who takes part; the key holder is among them.
      ring, length: of the coder's vectors.
      min_clients: how many numbers are in a sum that is decrypted, at least.
      context: public, of this sum alone.

    Raises:
      TooFewPartiesError: the key holder does not take part.
    """

    encryption: Encryption
    names: tuple[PartyId, ...]
    ring: Ring
    length: int
    min_clients: int
    context: bytes

    def __post_init__(self) -> None:
        if self.encryption.key_holder not in self.names:
            raise TooFewPartiesError(
                f"{self.encryption.key_holder!r:.80}, who holds the key, is not ready for the sum; nothing can be decrypted"
            )

    @property
    def plan(self) -> Plan:
        """Return the plan of a vector's elements, signed: no sum of all leaves the ring."""
        return plan_of(self.ring, len(self.names))

    def new_key(self) -> ExactSecretKey:
        """Return a fresh key.

        Raises:
          PlanError: the scheme has no room for the sums.
        """
        if self.encryption.scheme == "paillier":
            from secagg.he import paillier

            return paillier.SecretKey.generate(self.encryption.bits, s=2)
        from secagg.he import rlwe
        from secagg.he.rlwe import noise

        refused: PlanError | None = None
        for bits in (64, 96, 128):
            parameters = rlwe.parameters(bits)
            try:
                noise.check(
                    self.plan, parameters, coefficients=parameters.blocks(self.length) * parameters.degree
                )
            except PlanError as error:
                refused = error
            else:
                return rlwe.SecretKey.generate(parameters)
        raise PlanError(
            f"sums of {self.plan.sum_bits} bits leave no room for noise; give Encoding smaller clips, a smaller max_weight "
            "or a larger precision, or take paillier"
        ) from refused

    def signed_key(self, key: ExactSecretKey, identity: Ed25519PrivateKey) -> SumKey:
        """Return the public half of a key as the key holder sends it."""
        data = key.public_key.to_bytes()
        return SumKey(data, sign(identity, _LABEL, [self.context, data]))

    def public_key(self, message: SumKey, peers: Mapping[PartyId, bytes]) -> PublicKey:
        """Return the key of this sum.

        Raises:
          AuthenticationError: the key holder did not sign it for this sum.
          RemoteProtocolError: it is no key of the scheme.
        """
        holder, kind = self.encryption.key_holder, _public_key_class(self.encryption.scheme)
        identity = Ed25519PublicKey.from_public_bytes(peers[holder])
        verify(identity, message.signature, _LABEL, [self.context, message.key], peer=holder)
        return kind.from_message(wire.from_bytes(message.key, kind.message_type, peer=holder), peer=holder)

    def encrypt(self, key: PublicKey, contribution: RingArray) -> EncryptedInput:
        """Return a node's numbers under the key of the sum.

        Raises:
          RangeError: numbers beyond the plan. PlanError: the scheme has no room for the plan.
        """
        from secagg.he.scheme import ExactPublicKey

        if not isinstance(key, ExactPublicKey):
            raise UsageError(f"expected a key of an exact scheme, got one of {key.scheme}")
        signed, plan = self.ring.to_signed(contribution), self.plan
        if int(np.max(np.abs(signed), initial=0)) > plan.limit:
            raise RangeError("numbers of this node's update are beyond what the sum has room for")
        data = key.encrypt_encoded(plan.ring.from_signed(signed), plan).to_bytes()
        return EncryptedInput(np.frombuffer(data, np.uint8))

    def read(self, key: PublicKey, message: EncryptedInput, peer: PartyId) -> Ciphertext:
        """Return one node's ciphertext.

        Raises:
          RemoteProtocolError: it is none under this key, or of other numbers than agreed.
        """
        found = key.read_bytes(message.ciphertext.tobytes(), peer=peer)
        header = found.header
        if (header.plan, header.shape, header.summands, header.weight) != (self.plan, (self.length,), 1, 1):
            raise RemoteProtocolError(
                f"expected one encryption of {self.length} numbers under the agreed plan from {peer}, got {header}",
                peer=peer,
            )
        return found

    def decrypt(self, key: ExactSecretKey, message: Total, *, peer: str) -> Decrypted:
        """Return the sum, at the key holder.

        Raises:
          RemoteProtocolError: too few numbers, of nodes that do not take part, or no such ciphertext.
        """
        names = message.contributors
        if (
            len(set(names)) != len(names)
            or not set(names) <= set(self.names)
            or len(names) < self.min_clients
        ):
            raise RemoteProtocolError(
                f"expected the sum of at least {self.min_clients} of {len(self.names)} nodes from {peer}, got one of "
                f"{len(names)}",
                peer=peer,
            )
        total = key.public_key.read_bytes(message.ciphertext.tobytes(), peer=peer)
        header = total.header
        if (header.plan, header.shape) != (self.plan, (self.length,)) or header.summands != len(names):
            raise RemoteProtocolError(
                f"expected the sum of {len(names)} ciphertexts of {self.length} numbers from {peer}, got {header}",
                peer=peer,
            )
        try:
            encoded = key.decrypt_encoded(total)
        except RangeError as error:
            raise RemoteProtocolError(
                f"what {peer} sent is no sum of so many numbers: {error}", peer=peer
            ) from None
        return Decrypted(self.ring.from_signed(self.plan.ring.to_signed(encoded)))


class Adding:
    """The server's running sum.

    Args:
      terms: of the sum.
      peers: public keys by name.
    """

    def __init__(self, terms: EncryptedTerms, peers: Mapping[PartyId, bytes]) -> None:
        self._terms, self._peers = terms, peers
        self._message: SumKey | None = None
        self._key: PublicKey | None = None
        self._total: Ciphertext | None = None
        self._opened: RingArray | None = None
        self.contributors: tuple[PartyId, ...] = ()

    def take_key(self, client: PartyId, message: SumKey) -> None:
        """Take the key holder's key; raises as `EncryptedTerms.public_key`."""
        if client == self._terms.encryption.key_holder:
            self._key, self._message = self._terms.public_key(message, self._peers), message

    def key(self) -> SumKey:
        """Return the key, for the nodes.

        Raises:
          TooFewPartiesError: the key holder sent none.
        """
        if self._message is None:
            raise TooFewPartiesError(
                f"{self._terms.encryption.key_holder} made no key for the sum; nothing was encrypted"
            )
        return self._message

    def take_input(self, client: PartyId, message: EncryptedInput) -> None:
        """Add up a node's numbers.

        Raises:
          RemoteProtocolError: an input before there is a key, or a second one; and as `EncryptedTerms.read`.
        """
        if self._key is None:
            raise RemoteProtocolError(
                f"expected no input from {client} before there is a key, got one", peer=client
            )
        if client in self.contributors:
            raise RemoteProtocolError(f"expected one input from {client}, got another", peer=client)
        ciphertext = self._terms.read(self._key, message, client)
        if self._total is None:
            self._total = ciphertext
        else:
            self._total += ciphertext
        self.contributors = (*self.contributors, client)

    def total(self) -> Total:
        """Return the sum, for the key holder.

        Raises:
          TooFewPartiesError: too few nodes sent their numbers.
        """
        if self._total is None or len(self.contributors) < self._terms.min_clients:
            raise TooFewPartiesError(
                f"expected numbers of at least {self._terms.min_clients} of {len(self._terms.names)} nodes, got "
                f"{len(self.contributors)}; nothing was opened"
            )
        self.contributors = tuple(sorted(self.contributors))
        return Total(self.contributors, np.frombuffer(self._total.to_bytes(), np.uint8))

    def take_total(self, client: PartyId, message: Decrypted) -> None:
        """Take the sum in the clear from the key holder."""
        ring, total = self._terms.ring, np.asarray(message.total)
        if total.shape != (self._terms.length,) or total.dtype != ring.dtype:
            raise RemoteProtocolError(
                f"expected {self._terms.length} numbers of {ring.dtype} from {client}, got {total.shape} of {total.dtype}",
                peer=client,
            )
        self._opened = ring.reduce(total.copy())

    def finish(self) -> RingArray:
        """Return the sum.

        Raises:
          TooFewPartiesError: the key holder did not decrypt it.
        """
        if self._opened is None:
            raise TooFewPartiesError(
                f"{self._terms.encryption.key_holder} did not decrypt the sum; nothing was opened"
            )
        return self._opened


def plan_of(ring: Ring, nodes: int) -> Plan:
    """Return the plan of a coder's elements, signed: no sum of so many nodes' leaves the ring."""
    most = ((1 << (ring.bits - 1)) - 1) // nodes
    # The largest integer below that float64 holds.
    most -= most % (1 << max(0, most.bit_length() - 53))
    return fixed_point.plan(clip=float(most), frac_bits=0, parties=nodes, bits=64)


def secret_key_from(data: bytes, scheme: str) -> ExactSecretKey:
    """Return the key that a key holder kept between two steps.

    Raises:
      WireError: it is none.
    """
    if scheme == "paillier":
        from secagg.he.paillier import SecretKey
        from secagg.he.paillier.secret_key import SecretKeyMessage

        return SecretKey.from_message(wire.from_bytes(data, SecretKeyMessage))
    from secagg.he.rlwe.keys import SecretKey as RlweSecretKey
    from secagg.he.rlwe.keys import SecretKeyMessage as RlweMessage

    return RlweSecretKey.from_message(wire.from_bytes(data, RlweMessage))


def _public_key_class(scheme: str) -> type[PublicKey]:
    if scheme == "paillier":
        from secagg.he import paillier

        return paillier.PublicKey
    from secagg.he import rlwe

    return rlwe.PublicKey
