"""Masked sums over a `Party`: clients talk to the server alone, and the server carries what they seal for others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from typing import Final, TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secagg.errors import RemoteProtocolError, UsageError
from secagg.party import Party, PartyId
from secagg.protocols.masked_sum.client import Client
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
from secagg.protocols.masked_sum.rounds import MaskedSum
from secagg.protocols.masked_sum.server import Server
from secagg.protocols.masked_sum.shamir import SHARE_BYTES
from secagg.protocols.masked_sum.sharded import Division, ShardedServer
from secagg.protocols.masked_sum.terms import KEY_BYTES, SumInSession, Terms
from secagg.protocols.roles import SumResult
from secagg.ring import RingArray
from secagg.signing import SIGNATURE_BYTES
from secagg.wire import Message

_KEYS_BYTES: Final = 2 * KEY_BYTES + SIGNATURE_BYTES

M = TypeVar("M", bound=Message)


async def contribute(
    party: Party,
    x: RingArray,
    *,
    terms: Terms,
    identity: Ed25519PrivateKey,
    executor: Executor | None = None,
) -> SumResult:
    """Put a vector into a sum that the server learns, and return who is in it, by the server's word.

    Args:
      x: elements of the terms' ring, shape (length,); not changed.
      terms: the same at all parties.
      identity: this client's Ed25519 key.
      executor: threads for the masks.

    Raises:
      UsageError: not a client of the terms, another identity key, or a round that has been used.
      ShapeError, RangeError: x does not hold elements of the ring, or has another shape. Nothing was sent.
      RemoteProtocolError: the server sent what the protocol forbids.
      PeerMissingError: the server is missing, or went on without this client.
    """
    terms.roles.enter(party)
    terms.check_vector(x)
    where = terms.in_session(party.session)
    client = Client(where, party.me, identity, root=party.rng.bytes(KEY_BYTES))
    server, near = terms.server, terms.parameters.degree
    _begin(party, where)
    with party.phase("keys"):
        party.send(server, client.advertise())
        peers = await party.receive(PeerKeys, server, max_bytes=_max_bytes(terms, near, _KEYS_BYTES))
    with party.phase("shares"):
        party.send(server, client.share(peers))
        peer_shares = await party.receive(PeerShares, server, max_bytes=_max_bytes(terms, near, SEALED_BYTES))
    with party.phase("input"):
        party.send(server, client.mask(x, peer_shares, executor=executor))
        included = await party.receive(Included, server, max_bytes=_max_bytes(terms))
    request: Included | Consents = included
    if terms.malicious:
        with party.phase("consent"):
            party.send(server, client.consent(included))
            request = await party.receive(
                Consents, server, max_bytes=_max_bytes(terms, len(terms.roles.clients), SIGNATURE_BYTES)
            )
    with party.phase("unmask"):
        party.send(server, client.unmask(request))
    return SumResult(None, client.contributors, client.dropped)


async def aggregate(
    party: Party,
    *,
    terms: Terms,
    executor: Executor | None = None,
    division: Division | None = None,
) -> MaskedSum:
    """Return the sum of the clients' vectors; runs at the server.

    A client that is late, vanishes or sends what it may not is left out from then on.

    Args:
      terms, executor: as in `contribute`.
      division: how this server's work is divided among workers, and where it keeps what it relays; by default it does all
        itself, in memory. Clients cannot tell.

    Raises:
      UsageError: not the server of the terms, or a round that has been used.
      TooFewPartiesError: fewer clients stayed than needed. Nothing was opened.
      RemoteProtocolError: shares that do not give what their owner published.
    """
    terms.roles.enter(party)
    if party.me != terms.server:
        raise UsageError(f"{party.me} is not the server of these terms, {terms.server} is")
    where = terms.in_session(party.session)
    _begin(party, where)
    if division is None:
        return await _serve(party, where, Server(where), executor)
    with ShardedServer(where, division) as server:
        return await _serve(party, where, server, executor)


async def _serve(
    party: Party, where: SumInSession, server: Server | ShardedServer, executor: Executor | None
) -> MaskedSum:
    terms, near = where.terms, where.terms.parameters.degree

    async def take(
        kind: type[M], clients: Iterable[PartyId], use: Callable[[PartyId, M], None], max_bytes: int
    ) -> None:
        # `close_*` decides whether enough clients answered; here each loss is borne.
        async for peer, message in party.as_completed(
            kind, clients, quorum=0, timeout_s=terms.timeout_s, max_bytes=max_bytes
        ):
            try:
                use(peer, message)
            except RemoteProtocolError as error:
                party.fail(peer, error)

    def send(messages: Mapping[PartyId, Message] | Iterable[tuple[PartyId, Message]]) -> None:
        for peer, message in messages.items() if isinstance(messages, Mapping) else messages:
            if peer not in party.failed:
                party.send(peer, message)

    with party.phase("keys"):
        await take(Keys, terms.roles.clients, server.take_keys, _KEYS_BYTES)
        messages = server.close_keys()
        for peer, error in server.refused.items():
            party.fail(peer, error)
        send(messages)
    with party.phase("shares"):
        await take(Shares, server.keyed, server.take_shares, _max_bytes(terms, near, SEALED_BYTES))
        send(server.close_shares())
    with party.phase("input"):
        await take(MaskedInput, server.shared, server.take_input, terms.packed_bytes)
        included = server.close_inputs()
        send((peer, included) for peer in server.included)
    if terms.malicious:
        with party.phase("consent"):
            await take(Consent, server.included, server.take_consent, SIGNATURE_BYTES)
            consents = server.close_consents()
            send((peer, consents) for peer in server.included)
    with party.phase("unmask"):
        await take(Unmasking, server.included, server.take_answer, _max_bytes(terms, near + 1, SHARE_BYTES))
        return server.finish(executor=executor)


def _max_bytes(terms: Terms, rows: int = 0, row_bytes: int = 0) -> int:
    """Return what a message with so many rows and a set of clients takes."""
    return -(-len(terms.roles.clients) // 8) + rows * row_bytes


def _begin(party: Party, where: SumInSession) -> None:
    # Two runs of one round accept each other's keys and signatures: a server could ask the second about the first.
    party.claim(f"round {where.terms.round} of masked sums, context {where.context.hex()},")


async def take_part(
    party: Party,
    x: RingArray | None = None,
    *,
    terms: Terms,
    identity: Ed25519PrivateKey | None = None,
    executor: Executor | None = None,
) -> SumResult:
    """Take part in a masked sum, in the role that the terms give this party.

    Args:
      x, identity: at a client, as in `contribute`; None at the server.
      terms, executor: as in `contribute`.

    Returns the sum at the server, who is in it at clients.

    Raises:
      UsageError: no role in the terms; a vector or identity key at the server, or none at a client.
      As `contribute`, `aggregate`.
    """
    terms.roles.enter(party)
    terms.roles.check_vector_at(party, x)
    if (x is None) != (identity is None):
        raise UsageError("expected an identity key at the clients and nowhere else")
    if x is None or identity is None:
        return await aggregate(party, terms=terms, executor=executor)
    return await contribute(party, x, terms=terms, identity=identity, executor=executor)


def reference(vectors: Mapping[PartyId, RingArray], terms: Terms) -> RingArray:
    """Return the sum of plain vectors modulo 2**bits: what the protocol computes."""
    total: RingArray = np.zeros(terms.length, terms.ring.dtype)
    for x in vectors.values():
        total += x
    return terms.ring.reduce(total, out=total)
