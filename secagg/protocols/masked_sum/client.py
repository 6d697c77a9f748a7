"""The client's side of a masked sum: one method a round, each called once, in order.

What a server may do to it is bounded by what it refuses (see `checks`). After a refusal, as after the last answer,
it has forgotten its secrets and answers nothing more in this round.

The phase and what the client has seen can be stored between rounds: `to_bytes`, `from_bytes`. The stored state is
a secret key. Store it before the message that a method returned is sent, keep only the newest, and never let two
copies of a state answer: two answers to `mask` under one state show the difference of two vectors, and two to
`unmask` both secrets. In a process forked off the one that made it a client answers nothing.
"""

from __future__ import annotations

import contextlib
import enum
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any, Final, NoReturn, Self

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from secagg import wire
from secagg.errors import RemoteProtocolError, UsageError
from secagg.party import PartyId
from secagg.prg import check_process
from secagg.protocols.masked_sum import checks, keys
from secagg.protocols.masked_sum.masks import Mask, add_masks
from secagg.protocols.masked_sum.messages import (
    SEALED_BYTES,
    Consent,
    Consents,
    Included,
    Keys,
    MaskedInput,
    PeerKeys,
    PeerShares,
    Shares,
    Unmasking,
)
from secagg.protocols.masked_sum.shamir import SHARE_BYTES, Polynomials
from secagg.protocols.masked_sum.terms import KEY_BYTES, SumInSession, pack_set
from secagg.ring import RingArray
from secagg.signing import DIGEST_BYTES, SIGNATURE_BYTES
from secagg.wire import Message

_NO_SHARE: Final = b"\xff" * SHARE_BYTES  # no number below the prime


class Phase(enum.IntEnum):
    """What a client does next."""

    ADVERTISE = 0
    SHARE = 1
    MASK = 2
    CONSENT = 3
    UNMASK = 4
    OVER = 5


class ClientState(Message, frozen=True):
    """A stored client. Secret."""

    context: bytes
    client: int
    phase: int
    root: bytes
    peers: PeerKeys | None
    peer_shares: PeerShares | None
    included: NDArray[np.uint8] | None


class Client:
    """One client in one round.

    Args:
      where: the round.
      me: its name.
      identity: its Ed25519 key, whose public key the terms hold.
      root: 32 secret bytes that all its keys and shares come from, for this round alone; by default from the
        operating system.

    Raises:
      UsageError: not a client, another identity key than in the terms, or a root of another length.
    """

    __slots__ = (
        "_agreed",
        "_identity",
        "_included",
        "_me",
        "_peer_keys",
        "_peer_shares",
        "_peers",
        "_phase",
        "_pid",
        "_secrets",
        "_shared",
        "_where",
    )

    def __init__(
        self, where: SumInSession, me: PartyId, identity: Ed25519PrivateKey, *, root: bytes | None = None
    ) -> None:
        self._where = where
        self._me = where.number_of(me)
        if keys.identity_bytes(identity) != where.terms.identities[self._me]:
            raise UsageError(f"the identity key given is not the one that the terms hold for {me}")
        self._identity = identity
        self._secrets = keys.Secrets(secrets.token_bytes(KEY_BYTES) if root is None else root, where)
        self._phase = Phase.ADVERTISE
        self._pid = os.getpid()
        self._peers: PeerKeys | None = None
        self._peer_keys: dict[int, bytes] = {}
        self._agreed: dict[int, bytes] = {}  # what the sealing keys agree on, by peer
        self._peer_shares: PeerShares | None = None
        self._shared = frozenset[int]()
        self._included = frozenset[int]()

    def __repr__(self) -> str:
        return f"<Client {self.name!r} of {self._where!r}, next {self._phase.name}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []  # rich prints tracebacks with the values of locals

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client is not pickled or copied; store it with to_bytes")

    @property
    def name(self) -> PartyId:
        """The client's name."""
        return self._where.terms.roles.clients[self._me]

    @property
    def phase(self) -> Phase:
        """What it does next."""
        return self._phase

    @property
    def contributors(self) -> tuple[PartyId, ...]:
        """Whose vectors the server says are in the sum; empty until it has said so."""
        return self._where.names(self._included)

    @property
    def dropped(self) -> tuple[PartyId, ...]:
        """The other clients."""
        return self._where.others(self._included)

    def advertise(self) -> Keys:
        """Return the public keys of this round, signed."""
        with self._step(Phase.ADVERTISE, Phase.SHARE):
            public = self._secrets.public
            signature = keys.sign_keys(self._identity, self._where, self._me, public)
            return Keys(_rows(public, 2, KEY_BYTES), _rows(signature, SIGNATURE_BYTES))

    def share(self, peers: PeerKeys) -> Shares:
        """Return shares of both secrets, sealed for each neighbour that sent keys.

        Raises:
          RemoteProtocolError: what `checks.peer_keys` refuses.
        """
        with self._step(Phase.SHARE, Phase.MASK):
            self._peer_keys = checks.peer_keys(self._where, self._me, self._secrets.public, peers)
            self._peers = peers
            holders = sorted([*self._peer_keys, self._me])
            shares = self._polynomials().at([holder + 1 for holder in holders])
            sealed = bytearray()
            for row, holder in enumerate(holders):
                if holder != self._me:
                    letter = self._letter(sender=self._me, receiver=holder)
                    sealed += letter.seal(shares[:, row].tobytes())
            commitment = keys.commit(self._where, self._secrets.self_secret, self._me)
            return Shares(_rows(commitment, DIGEST_BYTES), _rows(bytes(sealed), -1, SEALED_BYTES))

    def mask(self, x: RingArray, peer_shares: PeerShares, *, executor: Executor | None = None) -> MaskedInput:
        """Return x + self mask + masks in common with larger neighbours - those with smaller ones.

        Args:
          x: elements of the terms' ring, shape (length,); not changed.
          peer_shares: who sent shares, and this client's.
          executor: threads for the masks.

        Raises:
          ShapeError, RangeError: x does not hold elements of the ring, or has another shape; nothing has changed.
          RemoteProtocolError: what `checks.shared` refuses.
        """
        terms = self._where.terms
        terms.check_vector(x)
        with self._step(Phase.MASK, Phase.CONSENT if terms.malicious else Phase.UNMASK):
            self._shared = checks.shared(self._where, self._me, self._peer_keys, peer_shares)
            self._peer_shares = peer_shares
            y = np.array(x, order="C")
            add_masks(y, self._masks(), executor=executor)
            terms.ring.reduce(y, out=y)
            return MaskedInput(terms.ring.pack(y))

    def consent(self, included: Included) -> Consent:
        """Return the signature of who shared and who is in the sum; only against a malicious server.

        Raises:
          RemoteProtocolError: what `checks.included` refuses.
        """
        with self._step(Phase.CONSENT, Phase.UNMASK):
            self._included = checks.included(self._where, self._me, self._shared, included)
            sets = checks.signed_sets(self._where, self._shared, self._included)
            signature = keys.sign_sets(self._identity, self._where, self._me, sets)
            return Consent(_rows(signature, SIGNATURE_BYTES))

    def unmask(self, request: Included | Consents) -> Unmasking:
        """Return one share of each client that this one holds shares of.

        Args:
          request: who is in the sum, from a semi-honest server; who signed so, from a malicious one.

        Raises:
          RemoteProtocolError: what `checks.included` or `checks.consents` refuses, or the other one's request.
        """
        with self._step(Phase.UNMASK, Phase.OVER):
            if isinstance(request, Consents) != self._where.terms.malicious:
                raise RemoteProtocolError(
                    f"expected the request of {'a malicious' if self._where.terms.malicious else 'a semi-honest'} server, "
                    f"got {type(request).__name__}",
                    peer=self._where.terms.server,
                )
            if isinstance(request, Included):
                self._included = checks.included(self._where, self._me, self._shared, request)
            else:
                sets = checks.signed_sets(self._where, self._shared, self._included)
                checks.consents(self._where, self._included, sets, request)
            answer = self._open_shares()
        self._forget()
        return answer

    def to_bytes(self) -> bytes:
        """Return the client's state as bytes. They are secret."""
        included = None
        if self._included:
            included = pack_set(self._included, len(self._where.terms.roles.clients))
        return wire.to_bytes(
            ClientState(
                self._where.context,
                self._me,
                self._phase,
                self._secrets.root,
                self._peers,
                self._peer_shares,
                included,
            )
        )

    @classmethod
    def from_bytes(cls, data: wire.Buffer, where: SumInSession, identity: Ed25519PrivateKey) -> Self:
        """Return the client that `to_bytes` stored.

        Raises:
          WireError: not a stored client.
          UsageError: one of another round.
        """
        state = wire.from_bytes(data, ClientState)
        if state.context != where.context or not 0 <= state.client < len(where.terms.roles.clients):
            raise UsageError("the stored client belongs to another session, round or terms")
        if not 0 <= state.phase <= Phase.OVER:
            raise UsageError(f"the stored client has no phase {state.phase}")
        client = cls(where, where.terms.roles.clients[state.client], identity, root=state.root)
        # What is stored was checked when it came.
        if state.peers is not None:
            client._peers = state.peers
            client._peer_keys = checks.held_keys(state.peers, sorted(where.members(state.peers.present)))
        if state.peer_shares is not None:
            client._peer_shares = state.peer_shares
            client._shared = where.members(state.peer_shares.shared)
        if state.included is not None:
            client._included = where.members(state.included)
        client._phase = Phase(state.phase)
        return client

    @contextlib.contextmanager
    def _step(self, now: Phase, then: Phase) -> Iterator[None]:
        """Make a step; it is over for the client from the beginning on, so nothing that fails can be tried again.

        Raises:
          UsageError: the process was forked off the one that made or restored the client.
        """
        check_process(self._pid, "a client")
        phase, self._phase = self._phase, Phase.OVER
        try:
            if phase is not now:
                raise RemoteProtocolError(
                    f"{self.name} was asked to {now.name.lower()}, and its next step was {phase.name.lower()}: each step "
                    "is made once, in order. It answers no more in this round",
                    peer=self._where.terms.server,
                )
            yield
        except BaseException:
            self._forget()
            raise
        self._phase = then

    def _forget(self) -> None:
        """Put secrets that nobody ever saw anything of in the place of those of this round."""
        self._secrets = keys.Secrets(secrets.token_bytes(KEY_BYTES), self._where)
        self._agreed = {}
        self._peers = self._peer_shares = None

    def _polynomials(self) -> Polynomials:
        return self._secrets.polynomials(self._where.terms.parameters.threshold)

    def _masks(self) -> Iterator[Mask]:
        where, me = self._where, self._me
        yield Mask(keys.self_seed(where, self._secrets.self_secret, me), minus=False)
        for peer in self._shared.intersection(self._peer_keys):
            public = self._peer_keys[peer][KEY_BYTES:]
            agreed = keys.agree(self._secrets.masking, public, owner=where.terms.roles.clients[peer])
            yield Mask(keys.pair_seed(where, agreed, me, peer), minus=peer < me)

    def _letter(self, *, sender: int, receiver: int) -> keys.Letter:
        peer = receiver if sender == self._me else sender
        if peer not in self._agreed:
            sealing = self._peer_keys[peer][:KEY_BYTES]
            self._agreed[peer] = keys.agree(
                self._secrets.sealing, sealing, owner=self._where.terms.roles.clients[peer]
            )
        mine, others = self._secrets.public, self._peer_keys[peer]
        both = (mine, others) if sender == self._me else (others, mine)
        return keys.Letter(self._where, self._agreed[peer], sender, receiver, both)

    def _open_shares(self) -> Unmasking:
        """Return of each client whose shares came that which its fate asks for: never both of one client."""
        rows = bytearray()
        row = 0
        for owner in sorted(self._shared.intersection(self._where.graph.holders(self._me))):
            if owner == self._me:
                opened: bytes | None = self._polynomials().at([self._me + 1]).tobytes()
            else:
                sealed = self._peer_shares.sealed[row].tobytes() if self._peer_shares is not None else b""
                opened = self._letter(sender=owner, receiver=self._me).open(sealed)
                row += 1
            if opened is None or len(opened) != 2 * SHARE_BYTES:
                # Whoever spoilt it, the sum may do without this share; refusing would let one client stop all.
                rows += _NO_SHARE
            else:
                rows += opened[SHARE_BYTES:] if owner in self._included else opened[:SHARE_BYTES]
        return Unmasking(_rows(bytes(rows), -1, SHARE_BYTES))


def _rows(data: bytes, *shape: int) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8).reshape(shape)
