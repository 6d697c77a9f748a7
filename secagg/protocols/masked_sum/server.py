"""The server's side of a masked sum: takes messages as they come, and closes each round once.

`take_*` checks one client's message, uses it and lets it go; `close_*` ends a round and returns what goes to whom.
What comes after a round has been closed is refused. A late vector stays out of the sum: the server then asks for its
owner's masking key, and never for the other secret. Who is in the sum stays in it even if it goes away afterwards: its self
mask is asked of the others.

Memory: one vector, one upload at a time, and for each client the keys and sealed shares of its neighbours.

Longer than most modules: all rounds act on one state, which no other module sees.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from secagg.errors import (
    RangeError,
    RemoteProtocolError,
    ShapeError,
    TooFewPartiesError,
    UsageError,
)
from secagg.party import PartyId, check_array
from secagg.prg import system_stream
from secagg.protocols.masked_sum import keys
from secagg.protocols.masked_sum.checks import signed_sets
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
from secagg.protocols.masked_sum.recovery import Recovery
from secagg.protocols.masked_sum.shamir import SHARE_BYTES, read_share
from secagg.protocols.masked_sum.terms import KEY_BYTES, SumInSession, pack_set
from secagg.protocols.roles import SumResult
from secagg.ring import RingArray
from secagg.signing import DIGEST_BYTES, SIGNATURE_BYTES


class Stage(enum.IntEnum):
    """Which messages the server takes."""

    KEYS = 0
    SHARES = 1
    INPUTS = 2
    CONSENTS = 3
    ANSWERS = 4
    OVER = 5


@dataclass(frozen=True, slots=True)
class MaskedSum(SumResult):
    """How a masked sum ended.

    Attributes:
      total: the sum, elements of the terms' ring, shape (length,).
      suspects: clients whose shares of others' secrets were found wrong; the sum did without them. Each of them sent a
        wrong share, or was dealt one by a client that lied about its own secret. Nobody can tell which of the two.
    """

    total: RingArray = field(repr=False)
    suspects: tuple[PartyId, ...] = ()


class Server:
    """The server in one round.

    Args:
      where: the round.
    """

    __slots__ = (
        "_added",
        "_answers",
        "_commitments",
        "_consents",
        "_included",
        "_keys",
        "_known",
        "_probe",
        "_sealed",
        "_sets",
        "_shared",
        "_signatures",
        "_stage",
        "_total",
        "_where",
    )

    def __init__(self, where: SumInSession) -> None:
        terms = where.terms
        self._where = where
        self._stage = Stage.KEYS
        self._probe = keys.secret_key(system_stream().bytes(KEY_BYTES))
        self._keys: dict[int, bytes] = {}
        self._known: set[bytes] = set()
        self._signatures: dict[int, bytes] = {}
        self._commitments: dict[int, bytes] = {}
        self._sealed: dict[int, NDArray[np.uint8]] = {}
        self._shared = frozenset[int]()
        self._total: RingArray = np.zeros(terms.length, terms.ring.dtype)
        self._added = set[int]()
        self._included = frozenset[int]()  # those that were added when inputs closed
        self._sets = b""
        self._consents: dict[int, bytes] = {}
        self._answers: dict[int, NDArray[np.uint8]] = {}

    def __repr__(self) -> str:
        return f"<Server of {self._where!r}, takes {self._stage.name}>"

    @property
    def stage(self) -> Stage:
        """Which messages it takes."""
        return self._stage

    @property
    def keyed(self) -> tuple[PartyId, ...]:
        """Who sent keys."""
        return self._where.names(frozenset(self._keys))

    @property
    def shared(self) -> tuple[PartyId, ...]:
        """Who sent shares."""
        return self._where.names(self._shared or frozenset(self._sealed))

    @property
    def included(self) -> tuple[PartyId, ...]:
        """Whose vectors have been added."""
        return self._where.names(frozenset(self._added))

    def take_keys(self, client: PartyId, message: Keys) -> None:
        """Take a client's public keys.

        Raises:
          RemoteProtocolError: late, twice, of another shape, not signed for this round, of small order or
            another client's.
        """
        i = self._take(client, Stage.KEYS, self._keys)
        check_array(message.keys, (2, KEY_BYTES), what="two public keys", peer=client)
        check_array(message.signature, (SIGNATURE_BYTES,), what="a signature", peer=client)
        pair, signature = message.keys.tobytes(), message.signature.tobytes()
        keys.check_keys(self._where, i, pair, signature)
        both = (pair[:KEY_BYTES], pair[KEY_BYTES:])
        for public in both:
            # Its neighbours would find out, and could not go on.
            keys.agree(self._probe, public, owner=client)
        if both[0] == both[1] or not self._known.isdisjoint(both):
            raise RemoteProtocolError(f"expected fresh keys from {client}, got one twice", peer=client)
        self._known.update(both)
        self._keys[i], self._signatures[i] = pair, signature

    def close_keys(self) -> dict[PartyId, PeerKeys]:
        """Return, for each client that sent keys, those of its neighbours.

        Raises:
          TooFewPartiesError: fewer clients than needed sent keys.
        """
        self._close(Stage.KEYS, Stage.SHARES, frozenset(self._keys), Keys.__name__)
        n, out = len(self._where.terms.roles.clients), {}
        for i in sorted(self._keys):
            peers = self._near(i, self._keys)
            pairs = b"".join(self._keys[p] for p in peers)
            signatures = b"".join(self._signatures[p] for p in peers)
            out[self._where.terms.roles.clients[i]] = PeerKeys(
                pack_set(frozenset(peers), n),
                np.frombuffer(pairs, np.uint8).reshape(-1, 2, KEY_BYTES),
                np.frombuffer(signatures, np.uint8).reshape(-1, SIGNATURE_BYTES),
            )
        return out

    def take_shares(self, client: PartyId, message: Shares) -> None:
        """Take a client's commitment and the shares it sealed for its neighbours.

        Raises:
          RemoteProtocolError: late, twice, of another shape, or from a client that sent no keys.
        """
        i = self._take(client, Stage.SHARES, self._sealed, among=self._keys)
        shape = (len(self._near(i, self._keys)), SEALED_BYTES)
        check_array(message.commitment, (DIGEST_BYTES,), what="a commitment", peer=client)
        check_array(message.sealed, shape, what="sealed shares", peer=client)
        self._commitments[i] = message.commitment.tobytes()
        self._sealed[i] = message.sealed

    def close_shares(self) -> dict[PartyId, PeerShares]:
        """Return, for each client that sent shares, the shares sealed for it.

        Raises:
          TooFewPartiesError: fewer clients than needed sent shares.
        """
        self._shared = frozenset(self._sealed)
        self._close(Stage.SHARES, Stage.INPUTS, self._shared, Shares.__name__)
        letters: dict[int, list[NDArray[np.uint8]]] = {i: [] for i in sorted(self._shared)}
        for sender in sorted(self._shared):
            for row, receiver in enumerate(self._near(sender, self._keys)):
                if receiver in letters:
                    letters[receiver].append(self._sealed[sender][row])
        self._sealed = {}
        shared = pack_set(self._shared, len(self._where.terms.roles.clients))
        empty = np.zeros((0, SEALED_BYTES), np.uint8)
        return {
            self._where.terms.roles.clients[i]: PeerShares(shared, np.stack(rows) if rows else empty)
            for i, rows in letters.items()
        }

    def take_input(self, client: PartyId, message: MaskedInput) -> None:
        """Add a client's masked vector.

        Raises:
          RemoteProtocolError: late, twice, of another length, with spare bits, or from a client that sent no
            shares. Nothing was added.
        """
        i = self._take(client, Stage.INPUTS, self._added, among=self._shared)
        terms = self._where.terms
        try:
            y = terms.ring.unpack(message.packed, (terms.length,))
        except (ShapeError, RangeError) as error:
            raise RemoteProtocolError(f"{error}; it came from {client}", peer=client) from None
        self._total += y  # wraps, which is meant
        self._added.add(i)

    def close_inputs(self) -> Included:
        """Return who is in the sum, for all of those; a semi-honest server's request to unmask.

        Raises:
          TooFewPartiesError: fewer clients than needed sent their vectors; nothing is opened.
        """
        then = Stage.CONSENTS if self._where.terms.malicious else Stage.ANSWERS
        self._included = frozenset(self._added)
        self._close(Stage.INPUTS, then, self._included, MaskedInput.__name__)
        self._sets = signed_sets(self._where, self._shared, self._included)
        return Included(pack_set(self._included, len(self._where.terms.roles.clients)))

    def take_consent(self, client: PartyId, message: Consent) -> None:
        """Take a client's signature of who shared and who is in the sum.

        Raises:
          RemoteProtocolError: late, twice, not its signature of that, or from a client that is not in the sum.
        """
        i = self._take(client, Stage.CONSENTS, self._consents, among=self._included)
        check_array(message.signature, (SIGNATURE_BYTES,), what="a signature", peer=client)
        keys.check_sets(self._where, i, self._sets, message.signature.tobytes())
        self._consents[i] = message.signature.tobytes()

    def close_consents(self) -> Consents:
        """Return a quorum of signatures, for everybody in the sum; a malicious server's request to unmask.

        Raises:
          TooFewPartiesError: fewer signed; nothing is opened.
        """
        quorum = self._where.terms.parameters.quorum
        self._close(
            Stage.CONSENTS, Stage.ANSWERS, frozenset(self._consents), Consent.__name__, min_clients=quorum
        )
        signers = sorted(self._consents)[:quorum]
        signatures = b"".join(self._consents[i] for i in signers)
        return Consents(
            pack_set(frozenset(signers), len(self._where.terms.roles.clients)),
            np.frombuffer(signatures, np.uint8).reshape(-1, SIGNATURE_BYTES),
        )

    def take_answer(self, client: PartyId, message: Unmasking) -> None:
        """Take a client's shares of others' secrets.

        Raises:
          RemoteProtocolError: late, twice, of another shape, or from a client that is not in the sum.
        """
        i = self._take(client, Stage.ANSWERS, self._answers, among=self._included)
        shape = (len(self._held(i)), SHARE_BYTES)
        check_array(message.shares, shape, what="shares", peer=client)
        self._answers[i] = message.shares

    def finish(self, *, executor: Executor | None = None) -> MaskedSum:
        """Return the sum: recombine the secrets and take the masks off.

        Raises:
          UsageError: called before the answers are in, or twice.
          TooFewPartiesError: of some secret fewer shares came than the threshold; nothing was opened.
          RemoteProtocolError: shares that fit nobody's published keys; it cannot be known who is to blame.
        """
        if self._stage is not Stage.ANSWERS:
            raise UsageError(f"expected to finish behind the answers, not while taking {self._stage.name}")
        self._stage = Stage.OVER
        terms, recovery = self._where.terms, Recovery(self._where.terms)
        total, self._total = self._total, np.zeros(0, terms.ring.dtype)
        add_masks(total, self._masks(recovery), executor=executor)
        terms.ring.reduce(total, out=total)
        where = self._where
        return MaskedSum(
            total,
            where.names(self._included),
            where.others(self._included),
            suspects=where.names(frozenset(recovery.suspects)),
        )

    def _take(
        self,
        client: PartyId,
        stage: Stage,
        before: Mapping[int, object] | set[int],
        *,
        among: Mapping[int, object] | frozenset[int] | None = None,
    ) -> int:
        if client not in self._where.terms.roles.numbers:
            raise RemoteProtocolError(f"{client} is not among the clients of this sum", peer=client)
        i = self._where.terms.roles.numbers[client]
        if self._stage is not stage:
            when = "late" if self._stage > stage else "early"
            raise RemoteProtocolError(
                f"{stage.name.lower()} from {client} came {when}: now the server takes {self._stage.name.lower()}",
                peer=client,
            )
        if i in before or (among is not None and i not in among):
            why = "came twice" if i in before else "came, and it dropped out before"
            raise RemoteProtocolError(f"{stage.name.lower()} from {client} {why}", peer=client)
        return i

    def _close(
        self, stage: Stage, then: Stage, members: frozenset[int], what: str, *, min_clients: int | None = None
    ) -> None:
        if self._stage is not stage:
            raise UsageError(f"expected to close {stage.name}, and the server takes {self._stage.name}")
        needed = self._where.terms.min_clients if min_clients is None else min_clients
        if len(members) < needed:
            self._stage = Stage.OVER
            clients = self._where.terms.roles.clients
            absent = [name for i, name in enumerate(clients) if i not in members]
            raise TooFewPartiesError(
                f"expected {what} from at least {needed} of {len(clients)} clients, got {len(members)}; "
                f"nothing was opened; missing: {', '.join(absent[:10])}",
                peer=absent[0],
            )
        self._stage = then

    def _near(self, client: int, members: Mapping[int, object] | frozenset[int]) -> list[int]:
        return [p for p in self._where.graph.neighbours(client) if p in members]

    def _held(self, client: int) -> list[int]:
        """Return whose shares a client holds, in the order of its answer."""
        return [p for p in self._where.graph.holders(client) if p in self._shared]

    def _masks(self, recovery: Recovery) -> Iterator[Mask]:
        """Yield what takes the masks off the sum."""
        shares, where = self._shares_by_owner(), self._where
        for owner in sorted(self._included):
            yield Mask(self._self_seed(owner, recovery, shares[owner]), minus=True)
        for owner in sorted(self._shared - self._included):
            if near := self._near(owner, self._included):
                # A masking key that is told is dead: it is of this round and of a client that is out of it.
                masking = self._masking_key(owner, recovery, shares[owner])
                for peer in near:
                    agreed = keys.agree(
                        masking, self._keys[peer][KEY_BYTES:], owner=where.terms.roles.clients[peer]
                    )
                    # The peer added the mask if the owner's number is the larger one.
                    yield Mask(keys.pair_seed(where, agreed, owner, peer), minus=owner > peer)

    def _shares_by_owner(self) -> dict[int, dict[int, int]]:
        """Return the shares that came, by owner and holder; those that could not be opened are left out."""
        shares: dict[int, dict[int, int]] = {owner: {} for owner in self._shared}
        for holder in sorted(self._answers):
            rows = self._answers[holder].tobytes()
            for place, owner in enumerate(self._held(holder)):
                try:
                    share = read_share(rows[place * SHARE_BYTES : (place + 1) * SHARE_BYTES])
                except RangeError:
                    continue
                shares[owner][holder] = share
        return shares

    def _self_seed(self, owner: int, recovery: Recovery, shares: Mapping[int, int]) -> bytes:
        published = self._commitments[owner]
        secret = self._secret(
            owner, recovery, shares, lambda s: keys.commit(self._where, s, owner) == published
        )
        return keys.self_seed(self._where, secret, owner)

    def _masking_key(self, owner: int, recovery: Recovery, shares: Mapping[int, int]) -> X25519PrivateKey:
        published = self._keys[owner][KEY_BYTES:]
        fits: Callable[[bytes], bool] = lambda s: keys.public_bytes(keys.secret_key(s)) == published  # noqa: E731
        return keys.secret_key(self._secret(owner, recovery, shares, fits))

    def _secret(
        self, owner: int, recovery: Recovery, shares: Mapping[int, int], fits: Callable[[bytes], bool]
    ) -> bytes:
        holders = [h for h in self._where.graph.holders(owner) if h in self._included]
        silent = [h for h in holders if h not in self._answers]
        unreadable = len(holders) - len(silent) - len(shares)
        return recovery.secret(owner, shares, fits, silent=silent, unreadable=unreadable)
