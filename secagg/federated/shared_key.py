"""Sums under an RLWE key that several nodes make together: no node alone opens anything, and the server adds up.

For each sum the key holders make a fresh key (`he.rlwe.key_generation`), whose secret is the sum of parts that nobody ever
sees together. Nodes encrypt and sign. The server adds up, and passes half of each upload on to every holder. A holder
decrypts what it added up itself. All holders' answers are needed (`protocols.he_sum.threshold_rlwe`).

A holder that is lost costs the sum; the key is used once. The next sum is under a key of those holders that are there and
because of whom no sum failed, as long as they are `least`.

Threat model. Nodes encrypt as told, and the server keeps to the protocol. Of the key holders in a sum all but one may work
with the server and pool what they see; so `least` is larger than the number of holders that might.

Learns. Server, the sum and who is in it. Key holders, who is in it. That a node left, the server, and the kind of cause; so
it can tell that an update did not fit. What did not fit and by how much, that node alone.

Cost: eight exchanges, and the bytes of `protocols.he_sum.threshold_rlwe`, for a key and for a sum.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from secagg.errors import PlanError, TooFewPartiesError, UsageError
from secagg.federated.encrypted import plan_of
from secagg.federated.identities import SERVER, check_chosen, check_nodes
from secagg.federated.relayed import NO_TIME_S, Own
from secagg.he.rlwe.decryption_log import DecryptionLog
from secagg.he.rlwe.flooding import ReleasePlan, plan_release
from secagg.party import Party, PartyId, Program
from secagg.protocols.he_sum.terms import EncryptedSum, Terms
from secagg.protocols.he_sum.threshold_rlwe import Identities, agree_key, take_part
from secagg.protocols.roles import Roles, SumResult
from secagg.ring import Ring, RingArray

_EXCHANGES: Final = 8  # keys; then the seven rounds of `threshold_rlwe`: its key, and one sum under it


@dataclass(frozen=True, slots=True)
class SharedKey:
    """Encryption under a key of several nodes; the same at all nodes and the server, and each node insists on its own.

    Args:
      key_holders: nodes that may hold a part of a sum's key, by name; those of them that take part do, but for those because
        of whom an earlier sum failed where there are `least` others.
      least: of how many of them a key is made at least. One holder in each sum must not work with the server and the others.

    Raises:
      UsageError: fewer than two names, one that comes twice, the server among them, or a `least` that is out of range.
    """

    key_holders: tuple[PartyId, ...]
    least: int = 2

    def __post_init__(self) -> None:
        names = check_nodes(self.key_holders, field="key_holders", least=2)
        if SERVER in names:
            raise UsageError("the server must hold no part of the key: it has all ciphertexts; name nodes")
        object.__setattr__(self, "key_holders", names)
        least: Any = self.least
        if not isinstance(least, int) or not 2 <= least <= len(names):
            raise UsageError(f"expected 2 to {len(names)} key holders as the least, got {least!r:.40}")

    def chosen(self, nodes: Collection[PartyId], failures: Mapping[PartyId, int]) -> tuple[PartyId, ...]:
        """Return who holds the key; see `Protection.computing`."""
        there = [name for name in self.key_holders if name in nodes]
        reliable = [name for name in there if not failures.get(name)]
        if len(reliable) < self.least:
            reliable = sorted(there, key=lambda name: failures.get(name, 0))[: self.least]
        return tuple(name for name in there if name in reliable)


@dataclass(frozen=True)
class SharedKeyTerms:
    """What all agree on in one sum under a shared key; a `relayed.RelayedSum`.

    Args:
      shared_key: the setting.
      nodes: who takes part.
      needed: the key holders among them.
      identities: their Ed25519 public keys.
      ring, length: of the coder's vectors.
      min_clients: how many numbers are in a sum that is decrypted, at least.
      context: public, of this sum alone.

    Raises:
      TooFewPartiesError: fewer key holders than `least` take part.
      RemoteProtocolError: `needed` are not of those that are named, in their order.
    """

    shared_key: SharedKey
    nodes: tuple[PartyId, ...]
    needed: tuple[PartyId, ...]
    identities: tuple[bytes, ...]
    ring: Ring
    length: int
    min_clients: int
    context: bytes

    def __post_init__(self) -> None:
        check_chosen(self.needed, self.shared_key.key_holders, self.nodes)
        if len(self.needed) < self.shared_key.least:
            raise TooFewPartiesError(
                f"expected at least {self.shared_key.least} of {', '.join(self.shared_key.key_holders)}, who make the key, "
                f"to be ready for the sum, got {len(self.needed)}"
            )

    @cached_property
    def terms(self) -> Terms:
        """The protocol's terms."""
        roles = Roles(self.nodes, (SERVER,), (SERVER,), self.needed)
        plan = plan_of(self.ring, len(self.nodes))
        return Terms(roles, plan, (self.length,), self.min_clients, timeout_s=NO_TIME_S)

    @cached_property
    def release_plan(self) -> ReleasePlan:
        """What the key is made for.

        Raises:
          PlanError: the scheme has no room for the sums and for what hides the parts of the key.
        """
        try:
            return plan_release(self.terms.plan, holders=len(self.needed), releases=1, length=self.length)
        except PlanError as error:
            raise PlanError(
                f"sums of {self.ring.bits} bits leave no room for what hides the parts of the key: give Encoding smaller "
                f"clips, a smaller max_weight or a larger precision ({error})"
            ) from None

    @property
    def roster(self) -> tuple[PartyId, ...]:
        """All parties."""
        return (*self.nodes, SERVER)

    @property
    def exchanges(self) -> int:
        """How many exchanges the sum takes if nobody is lost."""
        return _EXCHANGES

    @property
    def borne(self) -> frozenset[PartyId]:
        """Whose loss the others bear."""
        return self.terms.roles.optional

    def parties_at(self, node: PartyId) -> tuple[PartyId, ...]:
        """Return the one party that a node runs."""
        return (node,)

    def node_of(self, party: PartyId) -> PartyId:
        """Return where a party runs."""
        return party

    def upload_bytes(self, receiver: PartyId) -> int:
        """Return how many bytes of arrays a node that holds no part of the key sends a party."""
        p = self.release_plan.parameters
        ciphertext = 2 * p.blocks(self.length) * p.degree * p.coefficient_bytes
        return ciphertext if receiver == SERVER else 0

    def program(self, party: PartyId, given: RingArray | None, own: Own | None) -> Program[Any]:
        """Return what a party runs."""
        keys = {
            name: Ed25519PublicKey.from_public_bytes(key)
            for name, key in zip(self.nodes, self.identities, strict=True)
        }
        terms, plan = self.terms, self.release_plan
        known = Identities(keys, {name: keys[name] for name in self.needed})
        x = None if given is None else self.ring.to_signed(given)

        async def run(me: Party, log: DecryptionLog | None) -> EncryptedSum | None:
            identity = None if own is None else own.identity
            key = await agree_key(
                me, terms=terms, release_plan=plan, identities=known, identity=identity, log=log
            )
            return await take_part(
                me, x, terms=terms, release_plan=plan, identities=known, key=key, identity=identity, log=log
            )

        async def holder(me: Party) -> EncryptedSum | None:
            if own is None:
                raise UsageError("a key holder has files of its own")
            path = own.path.parent / f".{own.path.name}.decryptions"
            with DecryptionLog(path, expected_epoch=0) as log:
                return await run(me, log)

        async def other(me: Party) -> EncryptedSum | None:
            return await run(me, None)

        return holder if party in self.needed else other

    def total(self, found: EncryptedSum) -> SumResult:
        """Return what the server's program found, in the coder's ring."""
        encoded: Any = found.encoded
        total = self.ring.from_signed(self.terms.plan.ring.to_signed(encoded))
        return SumResult(total, found.contributors, found.dropped)
