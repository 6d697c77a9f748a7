"""The server's side of a masked sum: takes messages as they come, and closes each round once.

`take_*` checks one client's message, uses it and lets it go; `close_*` ends a round and returns what goes to whom. What all
servers do alike is in `rounds`.

Memory: one vector, one upload at a time, and for each client the keys and sealed shares of its neighbours. `sharded` has a
server that keeps the latter on disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, RemoteProtocolError
from secagg.party import PartyId, check_array
from secagg.prg import system_stream
from secagg.protocols.masked_sum import keys
from secagg.protocols.masked_sum.masks import add_masks
from secagg.protocols.masked_sum.messages import SEALED_BYTES, Keys, PeerKeys, PeerShares, Shares, Unmasking
from secagg.protocols.masked_sum.recovery import Recovery
from secagg.protocols.masked_sum.rounds import MaskedSum, Rounds, Stage
from secagg.protocols.masked_sum.shamir import SHARE_BYTES, read_share
from secagg.protocols.masked_sum.terms import KEY_BYTES, SumInSession, pack_set
from secagg.protocols.masked_sum.unmasking import Owner, masks_on
from secagg.signing import DIGEST_BYTES, SIGNATURE_BYTES


class Server(Rounds):
    """The server in one round.

    Args:
      where: the round.
    """

    __slots__ = ("_answers", "_commitments", "_keys", "_known", "_probe", "_sealed", "_signatures")

    def __init__(self, where: SumInSession) -> None:
        super().__init__(where)
        self._probe = keys.secret_key(system_stream().bytes(KEY_BYTES))
        self._keys: dict[int, bytes] = {}
        self._known: set[bytes] = set()
        self._signatures: dict[int, bytes] = {}
        self._commitments: dict[int, bytes] = {}
        self._sealed: dict[int, NDArray[np.uint8]] = {}
        self._answers: dict[int, NDArray[np.uint8]] = {}

    @property
    def keyed(self) -> tuple[PartyId, ...]:
        """Who sent keys."""
        return self._where.names(frozenset(self._keys))

    @property
    def shared(self) -> tuple[PartyId, ...]:
        """Who sent shares."""
        return self._where.names(self._shared or frozenset(self._sealed))

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
        # Its neighbours would find out, and could not go on.
        keys.check_fresh(self._where, i, pair, signature, self._probe)
        both = (pair[:KEY_BYTES], pair[KEY_BYTES:])
        if not self._known.isdisjoint(both):
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
        total, p = self._take_total(), self._where.terms.parameters
        recovery = Recovery(p.threshold, p.n_corrupt, self._where.name_of)
        add_masks(total, masks_on(self._where, self._owners(), recovery), executor=executor)
        return self._unmasked(total, recovery.suspects)

    def _owners(self) -> Iterator[Owner]:
        """Yield what was told of each client that sent shares."""
        shares = self._shares_by_owner()
        for owner in [*sorted(self._included), *sorted(self._shared - self._included)]:
            included = owner in self._included
            published = self._commitments[owner] if included else self._keys[owner][KEY_BYTES:]
            holders = [h for h in self._where.graph.holders(owner) if h in self._included]
            silent = [h for h in holders if h not in self._answers]
            unreadable = len(holders) - len(silent) - len(shares[owner])
            near = [] if included else self._near(owner, self._included)
            peers = [(peer, self._keys[peer][KEY_BYTES:]) for peer in near]
            yield Owner(owner, included, published, shares[owner], silent, unreadable, peers)

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
