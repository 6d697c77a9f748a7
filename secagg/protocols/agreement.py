"""How the aggregators of a sum agree whose vectors it is over, before anything is computed or opened.

  tell      each aggregator that clients upload to, a teller, tells the others whose uploads it has
  compare   all compare digests of session, terms and the set: the clients of whom every teller has an upload

Threat model. Any aggregators but one may do anything. Honest ones go on with one session, terms and set, or not at all:
each sends its digest to each other directly. Who lied can be told only where no third aggregator can have told two others
different sets. A teller may deny uploads that came, and claim others that did not; nobody notices, if it stands by that. How
many clients are enough is for the protocol to check. Channels are authenticated and encrypted.

Learns. Aggregators: whose uploads came where.

Cost, n clients, m aggregators: 2 rounds; m - 1 messages of n bytes from each teller, m - 1 digests from each aggregator.
Digests travel in message headers and do not count as payload.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RemoteProtocolError
from secagg.party import Party, PartyId, check_array
from secagg.protocols.roles import Roles
from secagg.signing import digest
from secagg.wire import Message

LABEL: Final = "secagg.protocols.agreement"


class Arrived(Message, frozen=True):
    """Tell, teller -> aggregators: whose uploads it has; shape (clients,)."""

    received: NDArray[np.bool_]


class Agreed(Message, frozen=True):
    """Compare, aggregator -> aggregators: digest of session, terms and set of clients."""

    statement: bytes


def statement(session: bytes, terms: bytes, received: NDArray[np.bool_]) -> bytes:
    """Return what aggregators compare, 32 bytes.

    Args:
      terms: their fingerprint, which no other protocol's terms have.
      received: who is in the set, shape (clients,).
    """
    return digest(LABEL, [session, terms, received.tobytes()])


async def agree(
    party: Party, uploaded: Container[PartyId], *, roles: Roles, tellers: Sequence[PartyId], terms: bytes
) -> NDArray[np.bool_]:
    """Return of which clients all tellers have uploads, the same at all aggregators; shape (clients,).

    Args:
      uploaded: of whom this party has uploads, if it is a teller.
      tellers: the aggregators that clients upload to.
      terms: as in `statement`.

    Raises:
      RemoteProtocolError: another aggregator means another set, other terms or another session, or sent what is no set.
      PeerMissingError: an aggregator is missing, or ended the run.
    """
    others = [peer for peer in roles.aggregators if peer != party.me]
    received = np.ones(len(roles.clients), np.bool_)
    if party.me in tellers:
        mine = np.array([client in uploaded for client in roles.clients])
        for peer in others:
            party.send(peer, Arrived(mine))
        received &= mine
    told_by = [peer for peer in tellers if peer != party.me]
    for peer, message in (await party.gather(Arrived, told_by, max_bytes=received.nbytes)).items():
        received &= check_array(message.received, received.shape, what="who is there", peer=peer)
    own = statement(party.session, terms, received)
    for peer in others:
        party.send(peer, Agreed(own))
    for peer, agreed in (await party.gather(Agreed, others)).items():
        if agreed.statement != own:
            # Who tells a set knows what it told. If no third party tells one, the peer was told what this party was.
            third = ", ".join(p for p in told_by if p != peer)
            unless = (
                f", or {third} told {peer} and {party.me} different sets: {party.me} cannot know"
                if third
                else ""
            )
            raise RemoteProtocolError(
                f"{peer} holds other terms or means another set of clients{unless}; nothing is opened",
                peer="" if unless else peer,
            )
    return received
