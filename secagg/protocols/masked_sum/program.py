"""Masked sums over a `Party`: clients talk to the server alone, and the server carries what they seal for others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from typing import Final, NamedTuple, TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secagg.errors import RemoteProtocolError, UsageError
from secagg.party import Party, PartyId
from secagg.protocols.masked_sum.client import Client
from secagg.protocols.masked_sum.messages import (
    SEALED_BYTES,
    Consent,
    Consents,
    Inbox,
    Keys,
    MaskedInput,
    PeerKeys,
    Shares,
    Survivors,
    Unmasking,
)
from secagg.protocols.masked_sum.server import MaskedSum, Server
from secagg.protocols.masked_sum.shamir import SHARE_BYTES
from secagg.protocols.masked_sum.terms import KEY_BYTES, Round, Terms
from secagg.ring import RingArray
from secagg.signing import DIGEST_BYTES, SIGNATURE_BYTES
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
) -> tuple[PartyId, ...]:
    """Put a vector into a sum that the server learns, and return whose vectors are in it.

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
    where = _enter(party, terms)
    terms.check_vector(x)
    client = Client(where, party.me, identity, root=party.rng.bytes(KEY_BYTES))
    server, near = terms.server, terms.parameters.degree
    _begin(party, where)
    with party.phase("keys"):
        party.send(server, client.advertise())
        peers = await party.receive(PeerKeys, server, most_bytes=_most_bytes(terms, near, _KEYS_BYTES))
    with party.phase("shares"):
        party.send(server, client.share(peers))
        inbox = await party.receive(Inbox, server, most_bytes=_most_bytes(terms, near, SEALED_BYTES))
    with party.phase("input"):
        party.send(server, client.mask(x, inbox, executor=executor))
        survivors = await party.receive(Survivors, server, most_bytes=_most_bytes(terms))
    request: Survivors | Consents = survivors
    if terms.malicious:
        with party.phase("consent"):
            party.send(server, client.consent(survivors))
            request = await party.receive(
                Consents, server, most_bytes=_most_bytes(terms, len(terms.clients), SIGNATURE_BYTES)
            )
    with party.phase("unmask"):
        party.send(server, client.unmask(request))
    return client.contributors


async def aggregate(
    party: Party,
    *,
    terms: Terms,
    executor: Executor | None = None,
) -> MaskedSum:
    """Return the sum of the clients' vectors; runs at the server.

    A client that is late, vanishes or sends what it may not is left out from then on.

    Args:
      terms, executor: as in `contribute`.

    Raises:
      UsageError: not the server of the terms, or a round that has been used.
      TooFewPartiesError: fewer clients stayed than needed. Nothing was opened.
      RemoteProtocolError: shares that do not give what their owner published.
    """
    where = _enter(party, terms)
    if party.me != terms.server:
        raise UsageError(f"{party.me} is not the server of these terms, {terms.server} is")
    server, near = Server(where), terms.parameters.degree
    _begin(party, where)

    async def take(
        kind: type[M], clients: Iterable[PartyId], use: Callable[[PartyId, M], None], most_bytes: int
    ) -> None:
        # How many are enough `close` knows; an arrival is borne or not only there.
        async for peer, message in party.as_completed(
            kind, clients, quorum=0, timeout_s=terms.timeout_s, most_bytes=most_bytes
        ):
            try:
                use(peer, message)
            except RemoteProtocolError as error:
                party.fail(peer, error)

    def send(messages: Mapping[PartyId, Message]) -> None:
        for peer, message in messages.items():
            if peer not in party.failed:
                party.send(peer, message)

    with party.phase("keys"):
        await take(Keys, terms.clients, server.take_keys, _KEYS_BYTES)
        send(server.close_keys())
    with party.phase("shares"):
        await take(Shares, server.keyed, server.take_shares, _most_bytes(terms, near, SEALED_BYTES))
        send(server.close_shares())
    with party.phase("input"):
        await take(MaskedInput, server.shared, server.take_input, terms.packed_bytes)
        survivors = server.close_inputs()
        send(dict.fromkeys(server.included, survivors))
    if terms.malicious:
        with party.phase("consent"):
            await take(Consent, server.included, server.take_consent, SIGNATURE_BYTES)
            send(dict.fromkeys(server.included, server.close_consents()))
    with party.phase("unmask"):
        await take(Unmasking, server.included, server.take_answer, _most_bytes(terms, near + 1, SHARE_BYTES))
        return server.finish(executor=executor)


def _enter(party: Party, terms: Terms) -> Round:
    if missing := party.roster.strangers(terms.everybody):
        raise UsageError(
            f"expected everybody of the terms in the roster, and {', '.join(sorted(missing))} are not"
        )
    return terms.in_session(party.session)


def _most_bytes(terms: Terms, rows: int = 0, row_bytes: int = 0) -> int:
    """Return what a message with so many rows and a set of clients takes."""
    return -(-len(terms.clients) // 8) + rows * row_bytes


def _begin(party: Party, where: Round) -> None:
    # Two runs of one round accept each other's keys and signatures: a server could ask the second about the first.
    party.claim(f"round {where.terms.round} of masked sums, context {where.context.hex()},")
    party.optional = where.terms.optional


class Declared(NamedTuple):
    """What one party sends, and the depth of the deepest message that it reads."""

    rounds: int
    messages: int
    payload_bytes: int


class Stayed(NamedTuple):
    """Who sent keys, shares, a vector, a signature (against a malicious server) and an answer; each of those before."""

    keyed: frozenset[int]
    shared: frozenset[int]
    included: frozenset[int]
    consented: frozenset[int]
    answered: frozenset[int]

    @classmethod
    def all(cls, clients: int) -> Stayed:
        """Return that everybody stayed."""
        return cls(*[frozenset(range(clients))] * 5)


def cost(me: PartyId, where: Round, stayed: Stayed) -> Declared:
    """Return what a masked sum costs one party, exactly, when these stayed and others left between rounds."""
    terms = where.terms
    n = len(terms.clients)
    bits = -(-n // 8)

    def near(client: int, members: frozenset[int]) -> int:
        return len(members.intersection(where.graph.neighbours(client)))

    if me == terms.server:
        neighbours = [near(i, stayed.keyed) for i in sorted(stayed.keyed)]
        payload = sum(bits + m * (2 * KEY_BYTES + SIGNATURE_BYTES) for m in neighbours)
        payload += sum(bits + near(i, stayed.shared) * SEALED_BYTES for i in stayed.shared)
        payload += bits * len(stayed.included)
        messages = len(stayed.keyed) + len(stayed.shared) + len(stayed.included)
        if terms.malicious:
            told = len(stayed.consented)
            payload += told * (bits + terms.parameters.quorum * SIGNATURE_BYTES)
            messages += told
        return Declared(9 if terms.malicious else 7, messages, payload)
    i = where.number_of(me)
    sent = [2 * KEY_BYTES + SIGNATURE_BYTES] if i in stayed.keyed else []
    if i in stayed.shared:
        sent.append(DIGEST_BYTES + near(i, stayed.keyed) * SEALED_BYTES)
    if i in stayed.included:
        sent.append(terms.packed_bytes)
    if terms.malicious and i in stayed.consented:
        sent.append(SIGNATURE_BYTES)
    if i in stayed.answered:
        sent.append((near(i, stayed.shared) + 1) * SHARE_BYTES)
    # It reads the answer to each message but the last one of all.
    rounds = 2 * (len(sent) - (i in stayed.answered))
    return Declared(rounds, len(sent), sum(sent))


def plain_sum(vectors: Mapping[PartyId, RingArray], terms: Terms) -> RingArray:
    """Return the sum of plain vectors modulo 2**bits: what the protocol computes."""
    total: RingArray = np.zeros(terms.length, terms.ring.dtype)
    for x in vectors.values():
        total += x
    return terms.ring.reduce(total, out=total)
