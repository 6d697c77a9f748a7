"""Additive sums over a `Party`: clients upload once, aggregators agree who is in, result parties add up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, RemoteProtocolError, ShapeError, TooFewPartiesError, UsageError
from secagg.mpc.additive import SEED_BYTES, Seed, reconstruct, share
from secagg.party import Party, PartyId, check_array
from secagg.protocols.additive_sum.terms import LABEL, Terms
from secagg.ring import Ring, RingArray
from secagg.signing import digest
from secagg.wire import Message

_MAX_NAMED: Final = 10  # missing clients that an error names


class Part(Message, frozen=True):
    """Upload, client -> aggregator: a seed, uint8, shape (32,); to its holder the share that is none, packed."""

    part: NDArray[np.uint8]


class Arrived(Message, frozen=True):
    """Agree, aggregator -> aggregators: of whom it has a part; shape (clients,)."""

    there: NDArray[np.bool_]


class Agreed(Message, frozen=True):
    """Agree, aggregator -> aggregators: digest of session, terms and set of clients."""

    statement: bytes


class PartialSum(Message, frozen=True):
    """Open, aggregator -> result parties: the set and its digest, and its shares' sum over the set, packed."""

    there: NDArray[np.bool_]
    statement: bytes
    packed: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class AdditiveSum:
    """How an additive sum ended.

    Attributes:
      contributors: whose vectors are in the sum, in the terms' order.
      missing: the other clients.
      total: the sum modulo 2**bits, of the terms' shape. None at an aggregator that is no result party.
    """

    contributors: tuple[PartyId, ...]
    missing: tuple[PartyId, ...]
    total: RingArray | None = field(repr=False, default=None)


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
    ended = await aggregate(party, x, terms=Terms.everyone(party.roster, x.shape, ring))
    if ended is None or ended.total is None:  # cannot be: everyone is a result party
        raise UsageError(f"{party.me} is not a result party")
    return ended.total


async def aggregate(party: Party, x: RingArray | None = None, *, terms: Terms) -> AdditiveSum | None:
    """Take part in an additive sum, in every role that the terms give this party.

    Args:
      x: at a client its vector, dtype of the ring, of the terms' shape, elements below 2**bits; None elsewhere.
      terms: the same at all parties.

    Returns the sum at result parties, who is in it at other aggregators, None at other clients.

    Raises:
      UsageError: terms or vector do not fit this party.
      ShapeError, RangeError: x has another shape or does not hold elements of the ring. Nothing was sent.
      TooFewPartiesError: fewer than `min_clients` clients uploaded. Nothing was opened.
      RemoteProtocolError: an aggregator sent what the protocol forbids, means another set or holds other terms.
      PeerMissingError: an aggregator is missing, or ended the run.
    """
    terms.enter(party, x)
    own = None
    if x is not None:
        with party.phase("upload"):
            own = _upload(party, x, terms)
    opened = None
    if party.me in terms.aggregators:
        opened = await _open(party, own, terms)
    if party.me in terms.results:
        return await _receive(party, opened, terms)
    return None if opened is None else _ending(opened.there, terms)


def _upload(party: Party, x: RingArray, terms: Terms) -> NDArray[np.uint8] | None:
    """Send a vector's parts to the aggregators; return the one that stays with an aggregator."""
    seeds, rest = share(x, len(terms.aggregators), terms.ring, party.rng)
    holder = terms.holder(terms.numbers[party.me])
    for peer, seed in zip((a for a in terms.aggregators if a != holder), seeds, strict=True):
        party.send(peer, Part(np.frombuffer(seed.key, np.uint8)))
    packed = terms.ring.pack(rest)
    if holder == party.me:
        return packed
    party.send(holder, Part(packed))
    return None


async def _open(party: Party, own: NDArray[np.uint8] | None, terms: Terms) -> PartialSum:
    """Collect parts, agree whose to add up, and open their sum: once, and of one set."""
    with party.phase("upload"):
        parts = await _collect(party, own, terms)
    with party.phase("agree"):
        there = np.array([client in parts for client in terms.clients])
        if terms.spared:  # else everybody is there
            there = await _intersection(party, there, terms)
            await _compare(party, there, terms)
        _require(party, there, terms)
    with party.phase("open"):
        total = terms.ring.pack(_add(party, parts, there, terms))
        opened = PartialSum(there, _statement(party, there, terms), total)
        for peer in terms.results:
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
    held = {client for i, client in enumerate(terms.clients) if terms.holder(i) == party.me}
    spared = terms.spared
    others = [client for client in terms.clients if client != party.me]
    needed = [p for p in others if p not in spared]
    for peer, message in (await party.gather(Part, needed, most_bytes=terms.vector_bytes)).items():
        parts[peer] = _checked(message.part, terms, held=peer in held, peer=peer)
    async for peer, message in party.as_completed(
        Part,
        [p for p in others if p in spared],
        quorum=0,
        timeout_s=terms.timeout_s,
        most_bytes=terms.vector_bytes,
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


async def _intersection(party: Party, there: NDArray[np.bool_], terms: Terms) -> NDArray[np.bool_]:
    """Return of which clients all aggregators have parts, by what they say."""
    others = [peer for peer in terms.aggregators if peer != party.me]
    for peer in others:
        party.send(peer, Arrived(there))
    everywhere = there.copy()  # what was sent must not change
    for peer, message in (await party.gather(Arrived, others, most_bytes=there.nbytes)).items():
        everywhere &= check_array(message.there, there.shape, what="who is there", peer=peer)
    return everywhere


async def _compare(party: Party, there: NDArray[np.bool_], terms: Terms) -> None:
    """Go on only if all aggregators mean the same session, terms and set."""
    others = [peer for peer in terms.aggregators if peer != party.me]
    statement = _statement(party, there, terms)
    for peer in others:
        party.send(peer, Agreed(statement))
    for peer, message in (await party.gather(Agreed, others)).items():
        if message.statement != statement:
            raise RemoteProtocolError(
                f"{peer} holds other terms or means another set of clients, or an aggregator told {peer} and {party.me} "
                "different sets; nothing is opened",
                peer=peer,
            )


def _statement(party: Party, there: NDArray[np.bool_], terms: Terms) -> bytes:
    return digest(f"{LABEL}/agreed", [party.session, terms.fingerprint(), there.tobytes()])


def _require(party: Party, there: NDArray[np.bool_], terms: Terms) -> None:
    """Refuse to open a sum of fewer vectors than are needed."""
    ending = _ending(there, terms)
    if len(ending.contributors) >= terms.min_clients:
        return
    named = "; ".join(
        str(party.failed[client]) if client in party.failed else f"another aggregator lacks {client}'s part"
        for client in ending.missing[:_MAX_NAMED]
    )
    more = f"; and {len(ending.missing) - _MAX_NAMED} more" if len(ending.missing) > _MAX_NAMED else ""
    raise TooFewPartiesError(
        f"expected vectors of at least {terms.min_clients} of {len(terms.clients)} clients, got {len(ending.contributors)}; "
        f"no sum is opened. Missing: {named}{more}",
        peer=ending.missing[0],
    )


def _add(
    party: Party, parts: dict[PartyId, NDArray[np.uint8]], there: NDArray[np.bool_], terms: Terms
) -> RingArray:
    """Return the sum of this aggregator's shares over the set; takes parts out as they are added."""
    agreed = [int(i) for i in np.flatnonzero(there)]
    held = [i for i in agreed if terms.holder(i) == party.me]
    seeds = [Seed(parts[terms.clients[i]].tobytes()) for i in agreed if terms.holder(i) != party.me]
    total = reconstruct(seeds, terms.shape, terms.ring)
    for i in held:
        total += terms.ring.unpack(parts.pop(terms.clients[i]), terms.shape)  # wraps, which is meant
    return terms.ring.reduce(total, out=total)


async def _receive(party: Party, own: PartialSum | None, terms: Terms) -> AdditiveSum:
    """Return the sum of the partial sums, if all aggregators mean the same set."""
    with party.phase("open"):
        messages = {} if own is None else {party.me: own}
        others = [a for a in terms.aggregators if a != party.me]
        most_bytes = len(terms.clients) + terms.vector_bytes
        messages |= await party.gather(PartialSum, others, most_bytes=most_bytes)
        first, there = next((peer, message.there) for peer, message in messages.items())
        partials = []
        for peer, message in messages.items():
            check_array(message.there, (len(terms.clients),), what="who is in the sum", peer=peer)
            if message.statement != _statement(party, message.there, terms):
                raise RemoteProtocolError(f"{peer} holds other terms than {party.me}", peer=peer)
            if not np.array_equal(message.there, there):
                raise RemoteProtocolError(
                    f"{peer} and {first} opened sums over different sets of clients", peer=peer
                )
            partials.append(_unpack(message.packed, terms.shape, terms.ring, peer))
        if np.count_nonzero(there) < terms.min_clients:
            raise RemoteProtocolError(
                f"expected a sum over at least {terms.min_clients} clients, got one over {np.count_nonzero(there)}",
                peer=first,
            )
        return _ending(there, terms, reconstruct(partials, terms.shape, terms.ring))


def _ending(there: NDArray[np.bool_], terms: Terms, total: RingArray | None = None) -> AdditiveSum:
    contributors = tuple(c for c, is_in in zip(terms.clients, there, strict=True) if is_in)
    missing = tuple(c for c, is_in in zip(terms.clients, there, strict=True) if not is_in)
    return AdditiveSum(contributors, missing, total)


def _unpack(packed: NDArray[np.uint8], shape: tuple[int, ...], ring: Ring, peer: PartyId) -> RingArray:
    try:
        return ring.unpack(packed, shape)
    except (ShapeError, RangeError) as error:
        raise RemoteProtocolError(
            f"{error}; it came from {peer}: do all agree on the shape?", peer=peer
        ) from None


def plain_sum(xs: Sequence[RingArray], ring: Ring) -> RingArray:
    """Return the sum of plain vectors modulo 2**bits: what the protocol computes."""
    return np.asarray(ring.reduce(np.asarray(np.sum(np.stack(xs), axis=0, dtype=ring.dtype))))
