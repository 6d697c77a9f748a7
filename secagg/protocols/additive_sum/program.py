"""Additive sums over a `Party`: clients upload once, aggregators agree who is in, result parties add up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, RemoteProtocolError, ShapeError, TooFewPartiesError, UsageError
from secagg.mpc.additive import SEED_BYTES, Seed, reconstruct, share
from secagg.party import Party, PartyId, check_array
from secagg.protocols import agreement
from secagg.protocols.additive_sum.terms import Terms
from secagg.protocols.roles import SumResult
from secagg.ring import Ring, RingArray
from secagg.wire import Message

_MAX_NAMED: Final = 10  # missing clients that an error names


class Part(Message, frozen=True):
    """Upload, client -> aggregator: a seed, uint8, shape (32,); to its leader the full share, packed."""

    part: NDArray[np.uint8]


class PartialSum(Message, frozen=True):
    """Open, aggregator -> result parties: the set and its digest, and its shares' sum over the set, packed."""

    received: NDArray[np.bool_]
    statement: bytes
    packed: NDArray[np.uint8]


async def additive_sum(party: Party, x: RingArray, *, ring: Ring) -> RingArray:
    """Return the sum of all parties' x modulo 2**bits; everybody learns it, and n - 1 of n nothing more.

    Args:
      x: dtype of the ring, any shape, the same at all; elements below 2**bits.

    Raises:
      UsageError: alone in the roster.
      ShapeError, RangeError: x does not hold elements of the ring.
      RemoteProtocolError: a peer sent what the protocol forbids, or sums vectors of another shape or ring.
      PeerMissingError: a peer is missing.
    """
    result = await take_part(party, x, terms=Terms.everyone(party.roster, x.shape, ring))
    if result is None or result.total is None:  # cannot be: everyone is a result party
        raise UsageError(f"{party.me} is not a result party")
    return result.total


async def contribute(party: Party, x: RingArray, *, terms: Terms) -> None:
    """Share a vector among the aggregators; a client is done after it.

    Args:
      x: dtype of the ring, of the terms' shape, elements below 2**bits; not changed.
      terms: the same at all parties.

    Raises:
      UsageError: no client of the terms, or one that is an aggregator as well, for which there is `take_part`.
      ShapeError, RangeError: x has another shape or does not hold elements of the ring. Nothing was sent.
    """
    terms.enter(party)
    if party.me not in terms.optional:
        raise UsageError(f"expected a client that is no aggregator, and {party.me} is none; see take_part")
    _upload(party, x, terms)
    await party.gather(Part, ())  # what was sent has left when this returns


async def aggregate(party: Party, *, terms: Terms) -> SumResult:
    """Agree whose vectors to add up, and open their sum to the result parties.

    Returns the sum at an aggregator that is a result party, and who is in it at others.

    Raises:
      UsageError: no aggregator of the terms, or one that is a client as well, for which there is `take_part`.
      TooFewPartiesError: fewer than `min_clients` clients uploaded. Nothing was opened.
      RemoteProtocolError: an aggregator sent what the protocol forbids, means another set or holds other terms.
      PeerMissingError: an aggregator is missing, or ended the run.
    """
    terms.enter(party)
    if party.me not in terms.roles.aggregators or party.me in terms.roles.numbers:
        raise UsageError(f"expected an aggregator that is no client, and {party.me} is none; see take_part")
    return await _aggregate(party, None, terms)


async def receive(party: Party, *, terms: Terms) -> SumResult:
    """Return the sum, as a result party that is no aggregator.

    Raises:
      UsageError: no such party of the terms.
      RemoteProtocolError: aggregators mean other sets or terms, or sent what the protocol forbids.
      PeerMissingError: an aggregator is missing, or ended the run.
    """
    terms.enter(party)
    if party.me not in terms.roles.results or party.me in terms.roles.aggregators:
        raise UsageError(f"{party.me} is not a result party outside the aggregators")
    return await _receive(party, None, terms)


async def take_part(party: Party, x: RingArray | None = None, *, terms: Terms) -> SumResult | None:
    """Take part in an additive sum, in every role that the terms give this party.

    Args:
      x: at a client its vector, as in `contribute`; None elsewhere.
      terms: the same at all parties.

    Returns the sum at result parties, who is in it at other aggregators, None at other clients.

    Raises:
      UsageError: no role in the terms, or a vector at a party that is no client, or none at one that is.
      As `contribute`, `aggregate`, `receive`.
    """
    terms.enter(party)
    terms.roles.check_vector_at(party, x)
    own = None if x is None else _upload(party, x, terms)
    if party.me in terms.roles.aggregators:
        return await _aggregate(party, own, terms)
    if party.me in terms.roles.results:
        return await _receive(party, None, terms)
    return None


async def _aggregate(party: Party, own: NDArray[np.uint8] | None, terms: Terms) -> SumResult:
    opened = await _open(party, own, terms)
    if party.me in terms.roles.results:
        return await _receive(party, opened, terms)
    return _result(opened.received, terms)


def _upload(party: Party, x: RingArray, terms: Terms) -> NDArray[np.uint8] | None:
    """Send a vector's parts to the aggregators; return the one that stays with an aggregator."""
    terms.check_vector(x)
    with party.phase("upload"):
        seeds, rest = share(x, len(terms.roles.aggregators), terms.ring, party.rng)
        leader = terms.leader(terms.roles.numbers[party.me])
        for peer, seed in zip((a for a in terms.roles.aggregators if a != leader), seeds, strict=True):
            party.send(peer, Part(np.frombuffer(seed.key, np.uint8)))
        packed = terms.ring.pack(rest)
        if leader == party.me:
            return packed
        party.send(leader, Part(packed))
        return None


async def _open(party: Party, own: NDArray[np.uint8] | None, terms: Terms) -> PartialSum:
    """Collect parts, agree whose to add up, and open their sum: once, and of one set."""
    with party.phase("upload"):
        parts = await _collect(party, own, terms)
    with party.phase("agree"):
        roles = terms.roles
        received = np.ones(len(roles.clients), np.bool_)
        if terms.optional:  # else everybody's parts are there
            received = await agreement.agree(
                party, parts, roles=roles, tellers=roles.aggregators, terms=terms.fingerprint()
            )
        _require(party, received, terms)
    with party.phase("open"):
        total = terms.ring.pack(_add(party, parts, received, terms))
        opened = PartialSum(received, _statement(party, received, terms), total)
        for peer in terms.roles.results:
            if peer != party.me:
                party.send(peer, opened)
    return opened


async def _collect(
    party: Party, own: NDArray[np.uint8] | None, terms: Terms
) -> dict[PartyId, NDArray[np.uint8]]:
    """Return the clients' parts that came in time and in the right form.

    Raises:
      RemoteProtocolError, PeerMissingError: that of a client who is an aggregator did not.
    """
    parts = {} if own is None else {party.me: own}
    held = {client for i, client in enumerate(terms.roles.clients) if terms.leader(i) == party.me}
    optional = terms.optional
    others = [client for client in terms.roles.clients if client != party.me]
    needed = [p for p in others if p not in optional]
    for peer, message in (await party.gather(Part, needed, max_bytes=terms.vector_bytes)).items():
        parts[peer] = _checked(message.part, terms, held=peer in held, peer=peer)
    async for peer, message in party.as_completed(
        Part,
        [p for p in others if p in optional],
        quorum=0,
        timeout_s=terms.timeout_s,
        max_bytes=terms.vector_bytes,
    ):
        try:
            parts[peer] = _checked(message.part, terms, held=peer in held, peer=peer)
        except RemoteProtocolError as error:
            party.fail(peer, error)
    return parts


def _checked(part: NDArray[np.uint8], terms: Terms, *, held: bool, peer: PartyId) -> NDArray[np.uint8]:
    if not held:
        return check_array(part, (SEED_BYTES,), what="a seed", peer=peer)
    check_array(part, (terms.vector_bytes,), what="a packed share", peer=peer)
    # Eight elements end with a byte, so only what is behind the last eight can have spare bits.
    count = math.prod(terms.shape)
    behind = count % 8
    _unpack(part[(count - behind) // 8 * terms.ring.bits :], (behind,), terms.ring, peer)
    return part


def _statement(party: Party, received: NDArray[np.bool_], terms: Terms) -> bytes:
    return agreement.statement(party.session, terms.fingerprint(), received)


def _require(party: Party, received: NDArray[np.bool_], terms: Terms) -> None:
    """Refuse to open a sum of fewer vectors than are needed."""
    result = _result(received, terms)
    if len(result.contributors) >= terms.min_clients:
        return
    named = "; ".join(
        str(party.failed[client]) if client in party.failed else f"another aggregator lacks {client}'s part"
        for client in result.dropped[:_MAX_NAMED]
    )
    more = f"; and {len(result.dropped) - _MAX_NAMED} more" if len(result.dropped) > _MAX_NAMED else ""
    raise TooFewPartiesError(
        f"expected vectors of at least {terms.min_clients} of {len(terms.roles.clients)} clients, got "
        f"{len(result.contributors)}; no sum is opened. Missing: {named}{more}",
        peer=result.dropped[0],
    )


def _add(
    party: Party, parts: dict[PartyId, NDArray[np.uint8]], received: NDArray[np.bool_], terms: Terms
) -> RingArray:
    """Return the sum of this aggregator's shares over the set; takes parts out as they are added."""
    agreed = [int(i) for i in np.flatnonzero(received)]
    held = [i for i in agreed if terms.leader(i) == party.me]
    seeds = [Seed(parts[terms.roles.clients[i]].tobytes()) for i in agreed if terms.leader(i) != party.me]
    total = reconstruct(seeds, terms.shape, terms.ring)
    for i in held:
        total += terms.ring.unpack(parts.pop(terms.roles.clients[i]), terms.shape)  # wraps, which is meant
    return terms.ring.reduce(total, out=total)


async def _receive(party: Party, own: PartialSum | None, terms: Terms) -> SumResult:
    """Return the sum of the partial sums, if all aggregators mean the same set."""
    with party.phase("open"):
        messages = {} if own is None else {party.me: own}
        others = [a for a in terms.roles.aggregators if a != party.me]
        max_bytes = len(terms.roles.clients) + terms.vector_bytes
        messages |= await party.gather(PartialSum, others, max_bytes=max_bytes)
        first, received = next((peer, message.received) for peer, message in messages.items())
        partials = []
        for peer, message in messages.items():
            check_array(message.received, (len(terms.roles.clients),), what="who is in the sum", peer=peer)
            if message.statement != _statement(party, message.received, terms):
                raise RemoteProtocolError(f"{peer} holds other terms than {party.me}", peer=peer)
            if not np.array_equal(message.received, received):
                agreed = first == party.me  # on its own set, and with everybody
                raise RemoteProtocolError(
                    f"{peer} and {first} opened sums over different sets of clients"
                    f"{'' if agreed else f': {party.me} cannot know which of them does not keep to the protocol'}",
                    peer=peer if agreed else "",
                )
            partials.append(_unpack(message.packed, terms.shape, terms.ring, peer))
        if np.count_nonzero(received) < terms.min_clients:
            raise RemoteProtocolError(
                f"expected a sum over at least {terms.min_clients} clients, got one over {np.count_nonzero(received)}",
                peer=first,
            )
        return _result(received, terms, reconstruct(partials, terms.shape, terms.ring))


def _result(received: NDArray[np.bool_], terms: Terms, total: RingArray | None = None) -> SumResult:
    contributors = tuple(terms.roles.clients[i] for i in np.flatnonzero(received))
    return SumResult(total, contributors, terms.roles.without(contributors))


def _unpack(packed: NDArray[np.uint8], shape: tuple[int, ...], ring: Ring, peer: PartyId) -> RingArray:
    try:
        return ring.unpack(packed, shape)
    except (ShapeError, RangeError) as error:
        raise RemoteProtocolError(
            f"{error}; it came from {peer}: do all agree on the shape?", peer=peer
        ) from None


def reference(xs: Sequence[RingArray], ring: Ring) -> RingArray:
    """Return the sum of plain vectors modulo 2**bits: what the protocol computes."""
    return np.asarray(ring.reduce(np.asarray(np.sum(np.stack(xs), axis=0, dtype=ring.dtype))))
