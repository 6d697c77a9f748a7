"""Bounded sums over a `Party`: clients upload once, three aggregators check and add up, result parties receive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RemoteProtocolError, ShapeError, TooFewPartiesError, UsageError
from secagg.mpc.array import SharedArray
from secagg.mpc.conversion import unpack
from secagg.mpc.costs import COMPUTING, computing_cost, same_cost
from secagg.mpc.engine import Engine, checked, open_cost, outside_opener, receive_opening
from secagg.mpc.numbers import RingGroup
from secagg.party import Party, PartyId, array_bytes, check_array
from secagg.prg import KEY_BYTES, Stream, derive_key
from secagg.protocols.bounded_sum.check import violations, violations_cost
from secagg.protocols.bounded_sum.terms import LABEL, Bounds, Terms
from secagg.ring import RingArray
from secagg.signing import digest
from secagg.wire import Message

PHASES: Final = ("upload", "agree", "check", "open")

_Elements = np.ndarray[tuple[int, ...], np.dtype[np.unsignedinteger]]


class Seeds(Message, frozen=True):
    """Upload, client -> P_0: the seeds of x_0 and x_1; uint8, shape (2, 32)."""

    seeds: NDArray[np.uint8]


class Rest(Message, frozen=True):
    """Upload, client -> P_1: x_2, what is missing; shape (columns,)."""

    share: _Elements


class Arrived(Message, frozen=True):
    """Agree, P_0 and P_1 -> aggregators: whose upload is there; shape (clients,)."""

    there: NDArray[np.bool_]


class Agreed(Message, frozen=True):
    """Agree, aggregator -> aggregators: digest of session, terms and set of clients."""

    statement: bytes


class PassedSeeds(Message, frozen=True):
    """Check, P_0 -> P_1 the seeds of x_1, P_0 -> P_2 those of x_0, of a batch; uint8, shape (m, 32)."""

    seeds: NDArray[np.uint8]


class PassedRest(Message, frozen=True):
    """Check, P_1 -> P_2: x_2 of one client; shape (columns,)."""

    share: _Elements


class Verdict(Message, frozen=True):
    """Open, aggregator -> result party that is none: what became of each client; uint8, shape (clients,)."""

    fates: NDArray[np.uint8]


_MISSING, _REFUSED, _ACCEPTED, _UNCHECKED = range(4)


@dataclass(frozen=True, slots=True)
class BoundedSum:
    """How a bounded sum ended.

    Attributes:
      accepted: whose vectors are in the sum.
      refused: who broke a bound.
      missing: who did not upload in time, or something else than was expected.
      total: the sum, or weighted sum, of the accepted clients' vectors; elements of the ring, shape (length,). None at
        an aggregator that is no result party.
      weight: the sum of their weights; where there are none, their number. None where total is.
    """

    accepted: tuple[PartyId, ...]
    refused: tuple[PartyId, ...]
    missing: tuple[PartyId, ...]
    total: RingArray | None = field(repr=False, default=None)
    weight: int | None = field(repr=False, default=None)


async def bounded_sum(
    party: Party, x: RingArray | None = None, *, terms: Terms, weight: int | None = None
) -> BoundedSum | None:
    """Take part in a bounded sum, in every role that the terms give this party.

    Args:
      x, weight: at a client, as in `contribute`; None elsewhere.
      terms: the same at all parties.

    Returns the sum at result parties, who is in it at aggregators, None at clients.

    Raises:
      UsageError: no role in the terms, or a vector at a party that is no client, or none at one that is.
      As `contribute`, `aggregate`, `receive`.
    """
    if (x is not None) != terms.is_client(party.me):
        raise UsageError("expected a vector at the clients and nowhere else")
    if x is not None:
        await contribute(party, x, terms=terms, weight=weight)
    if party.me in terms.aggregators:
        return await aggregate(party, terms=terms)
    if party.me in terms.results:
        return await receive(party, terms=terms)
    if x is None:
        raise UsageError(f"{party.me} has no role in these terms")
    return None


async def contribute(party: Party, x: RingArray, *, terms: Terms, weight: int | None = None) -> None:
    """Share a vector with the aggregators; a client is done after it.

    Args:
      x: elements of the bounds' ring, shape (length,), within the bounds; not changed.
      weight: what the vector is multiplied by, a secret; None where there are no weights.

    Raises:
      UsageError: not a client of the terms, or a weight where there are none, or none where there are.
      ShapeError: x of another shape or dtype.
      RangeError: x or weight out of bounds. Nothing was sent.
    """
    if not terms.is_client(party.me):
        raise UsageError(f"{party.me} is not a client of these terms")
    await upload(party, terms.bounds.row(x, weight), terms=terms)


async def upload(party: Party, row: RingArray, *, terms: Terms) -> None:
    """Share a row as it is, which a client that lies may do: the aggregators find out.

    Args:
      row: any elements of the bounds' ring, shape (columns,), the weight first where there are weights; not changed.

    Raises:
      ShapeError: a row of another shape or dtype.
    """
    _enter(party, terms)
    ring = terms.bounds.ring
    ring.check(row)
    if row.shape != (terms.bounds.columns,):
        raise ShapeError(f"expected a row of {terms.bounds.columns} elements, got shape {row.shape}")
    group = RingGroup(ring)
    seeds = np.frombuffer(party.rng.bytes(2 * KEY_BYTES), np.uint8).reshape(2, KEY_BYTES)
    for seed in seeds:
        row = group.subtract(row, _expand(seed, terms.bounds))
    with party.phase("upload"):
        party.send(terms.aggregators[0], Seeds(seeds))
        party.send(terms.aggregators[1], Rest(row))
        await party.gather(Seeds, ())  # what was sent has left when this returns


async def aggregate(party: Party, *, terms: Terms) -> BoundedSum:
    """Check and add up, as one of the three aggregators.

    Raises:
      UsageError: not an aggregator of the terms.
      TooFewPartiesError: fewer than `min_clients` clients uploaded or are within bounds. No sum was opened.
      RemoteProtocolError: an aggregator sent what the protocol forbids, or holds other terms.
      PeerMissingError: an aggregator is missing.
    """
    _enter(party, terms)
    bounds = terms.bounds
    engine = await Engine.set_up(party, terms.aggregators, label=LABEL)
    with party.phase("upload"):
        uploads = await _uploads(party, terms, engine.index)
    with party.phase("agree"):
        agreed = await _agree(party, terms, engine.index, set(uploads))
    fates = np.full(len(terms.clients), _MISSING, np.uint8)
    fates[agreed] = _UNCHECKED
    first, second = (np.zeros(bounds.columns, bounds.ring.dtype) for _ in range(2))
    step = terms.rows_at_once
    with party.phase("check"):
        # Of fewer than are needed none is checked: not even who breaks a bound is opened.
        for start in range(0, len(agreed) if len(agreed) >= terms.min_clients else 0, step):
            batch = agreed[start : start + step]
            rows = await _rows(engine, terms, batch, uploads)
            broken = await _broken(rows, bounds)
            fates[batch] = np.where(broken, np.uint8(_REFUSED), np.uint8(_ACCEPTED))
            for i in np.flatnonzero(~broken):
                first += rows.share_0[i]
                second += rows.share_1[i]
    with party.phase("open"):
        for peer in terms.results:
            if peer not in terms.aggregators:
                party.send(peer, Verdict(fates))
        _require(terms, fates)
        first, second = bounds.ring.reduce(first), bounds.ring.reduce(second)
        opened = await engine.open(RingGroup(bounds.ring), first, second, terms.results)
    return _ending(terms, fates, opened)


async def receive(party: Party, *, terms: Terms) -> BoundedSum:
    """Return the sum, as a result party that is no aggregator.

    Raises:
      UsageError: no such party of the terms.
      TooFewPartiesError: fewer than `min_clients` clients uploaded or are within bounds. No sum was opened.
      RemoteProtocolError: aggregators disagree, or sent what the protocol forbids.
      PeerMissingError: an aggregator is missing.
    """
    _enter(party, terms)
    if party.me not in terms.results or party.me in terms.aggregators:
        raise UsageError(f"{party.me} is not a result party outside the aggregators")
    bounds = terms.bounds
    with party.phase("open"):
        verdicts = await party.gather(Verdict, terms.aggregators, most_bytes=len(terms.clients))
        fates = verdicts[terms.aggregators[0]].fates
        for peer, verdict in verdicts.items():
            checked(verdict.fates, (len(terms.clients),), fates.dtype, what="a verdict", peer=peer)
            if not np.array_equal(verdict.fates, fates):
                raise RemoteProtocolError(
                    f"expected the same verdict from all aggregators, got another from {peer}", peer=peer
                )
        _require(terms, fates)
        opened = await receive_opening(party, terms.aggregators, RingGroup(bounds.ring), (bounds.columns,))
    return _ending(terms, fates, opened)


def _enter(party: Party, terms: Terms) -> None:
    """Check that everybody is there, and let others bear the loss of clients."""
    if strangers := party.roster.strangers(terms.everybody):
        raise UsageError(
            f"roles for {', '.join(sorted(strangers))}, who are not among {', '.join(party.roster)}"
        )
    party.optional = terms.optional


async def _uploads(party: Party, terms: Terms, index: int) -> dict[PartyId, NDArray[Any]]:
    """Return what clients sent to this aggregator and is what it should be."""
    got: dict[PartyId, NDArray[Any]] = {}
    if index == 2:
        return got
    kind, bounds = (Seeds, Rest)[index], terms.bounds
    async for peer, message in party.as_completed(
        kind,
        terms.clients,
        quorum=0,
        timeout_s=terms.timeout_s,
        most_bytes=array_bytes((bounds.columns,), bounds.ring.dtype),
    ):
        try:
            if isinstance(message, Seeds):
                got[peer] = check_array(message.seeds, (2, KEY_BYTES), what="seeds", peer=peer)
            elif isinstance(message, Rest):
                got[peer] = _share(message.share, bounds, peer)
        except RemoteProtocolError as error:
            party.fail(peer, error)
    return got


async def _agree(party: Party, terms: Terms, index: int, mine: set[PartyId]) -> list[int]:
    """Return the numbers of the clients whose upload is there at P_0 and P_1, the same at all three aggregators.

    Raises:
      RemoteProtocolError: another aggregator means another set, other terms or another session.
    """
    others = [peer for peer in terms.aggregators if peer != party.me]
    there = np.array([client in mine for client in terms.clients])
    if index < 2:
        for peer in others:
            party.send(peer, Arrived(there))
    else:
        there[:] = True
    informed = [peer for peer in terms.aggregators[:2] if peer != party.me]
    for peer, message in (await party.gather(Arrived, informed, most_bytes=there.nbytes)).items():
        there &= check_array(message.there, there.shape, what="who is there", peer=peer)
    statement = digest(f"{LABEL}/agreed", [party.session, terms.fingerprint(), there.tobytes()])
    for peer in others:
        party.send(peer, Agreed(statement))
    for peer, agreed in (await party.gather(Agreed, others)).items():
        if agreed.statement != statement:
            raise RemoteProtocolError(
                f"{peer} holds other terms or means another set of clients; nothing is checked or opened",
                peer=peer,
            )
    return [int(i) for i in np.flatnonzero(there)]


async def _rows(
    engine: Engine, terms: Terms, batch: list[int], uploads: dict[PartyId, NDArray[Any]]
) -> SharedArray:
    """Return what a batch of clients shared, shape (m, columns).

    Every share goes from the client to one aggregator, and from there to its second holder: whatever a client
    sent, both hold the same.
    """
    bounds, party = terms.bounds, engine.party
    p0, p1, p2 = terms.aggregators
    clients = [terms.clients[i] for i in batch]
    first, second = (np.empty((len(batch), bounds.columns), bounds.ring.dtype) for _ in range(2))
    seeds: NDArray[np.uint8]
    if engine.index == 0:
        seeds = np.stack([uploads.pop(client) for client in clients])
        party.send(p1, PassedSeeds(seeds[:, 1]))
        party.send(p2, PassedSeeds(seeds[:, 0]))
        for i, (seed0, seed1) in enumerate(seeds):
            first[i], second[i] = _expand(seed0, bounds), _expand(seed1, bounds)
        await engine.idle()
    else:
        expanded, rest = (first, second) if engine.index == 1 else (second, first)
        if engine.index == 1:
            for i, client in enumerate(clients):
                rest[i] = uploads.pop(client)
                party.send(p2, PassedRest(rest[i]))
        seeds = (await party.receive(PassedSeeds, p0, most_bytes=len(batch) * KEY_BYTES)).seeds
        check_array(seeds, (len(batch), KEY_BYTES), what="seeds", peer=p0)
        for i, seed in enumerate(seeds):
            expanded[i] = _expand(seed, bounds)
            if engine.index == 2:
                message = await party.receive(PassedRest, p1, most_bytes=rest[i].nbytes)
                rest[i] = _share(message.share, bounds, p1)
    return SharedArray(engine, first, second, ring=bounds.ring)


async def _broken(rows: SharedArray, bounds: Bounds) -> NDArray[np.bool_]:
    """Open to the three aggregators, for each row, whether it breaks a bound, and nothing else."""
    bits = await violations(rows, bounds)
    opened = await bits.open()
    if opened is None:  # cannot be: it is opened to all three
        raise UsageError("nothing was opened to this aggregator")
    return unpack(opened, len(rows)).astype(np.bool_)


def _expand(seed: NDArray[np.uint8], bounds: Bounds) -> RingArray:
    key = derive_key(seed.tobytes(), label=f"{LABEL}/share")
    return Stream(key).ring(bounds.columns, bounds.ring.bits)


def _share(share: RingArray, bounds: Bounds, peer: PartyId) -> RingArray:
    return bounds.ring.reduce(
        checked(share, (bounds.columns,), bounds.ring.dtype, what="a vector's share", peer=peer)
    )


def _named(terms: Terms, fates: NDArray[np.uint8], fate: int) -> tuple[PartyId, ...]:
    return tuple(client for client, f in zip(terms.clients, fates, strict=True) if f == fate)


def _require(terms: Terms, fates: NDArray[np.uint8]) -> None:
    """Refuse to open a sum of fewer vectors than are needed."""
    accepted, refused, missing = (_named(terms, fates, f) for f in (_ACCEPTED, _REFUSED, _MISSING))
    if len(accepted) < terms.min_clients:
        n, named = len(terms.clients), (("out of bounds", refused), ("missing", missing))
        why = "".join(f"; {what}: {', '.join(names)}" for what, names in named if names)
        raise TooFewPartiesError(
            f"expected vectors within bounds of at least {terms.min_clients} of {n} clients, got uploads of "
            f"{n - len(missing)}{why}; no sum is opened",
            peer=(*refused, *missing)[0],
        )


def _ending(terms: Terms, fates: NDArray[np.uint8], opened: RingArray | None) -> BoundedSum:
    accepted, refused, missing = (_named(terms, fates, f) for f in (_ACCEPTED, _REFUSED, _MISSING))
    if opened is None:
        return BoundedSum(accepted, refused, missing)
    if terms.bounds.max_weight is None:
        return BoundedSum(accepted, refused, missing, opened, len(accepted))
    return BoundedSum(accepted, refused, missing, opened[1:], int(opened[0]))


def plain_bounded_sum(
    rows: Mapping[PartyId, RingArray], bounds: Bounds
) -> tuple[RingArray, tuple[PartyId, ...]]:
    """Return the sum of the rows within bounds, and whose they are: what the protocol computes.

    Args:
      rows: what clients shared, shape (columns,), the weight first where there are weights.
    """
    accepted = tuple(client for client, row in rows.items() if bounds.allow(row))
    total = np.zeros(bounds.columns, bounds.ring.dtype)
    for client in accepted:
        total += rows[client]
    return bounds.ring.reduce(total), accepted


class Declared(NamedTuple):
    """What one party sends, and after how many rounds at most the last party has its result."""

    rounds: int
    payload_bytes: int


def cost(me: PartyId, *, terms: Terms, roster: Sequence[PartyId], agreed: int) -> Declared:
    """Return what a bounded sum costs one party, exactly, when this many uploads came and enough are within bounds.

    Rounds are exact for one batch, if all aggregators or a party outside are result parties; behind it a batch may
    begin before the slowest aggregator has ended the one before. Digests and contributions to keys travel in
    message headers and do not count as payload.
    """
    bounds, n = terms.bounds, len(terms.clients)
    vector = bounds.columns * bounds.ring.dtype.itemsize
    outside = [peer for peer in terms.results if peer not in terms.aggregators]
    steps = [computing_cost(2, (2 * n, 2 * n, 0))]  # who is there, digests
    for start in range(0, agreed, terms.rows_at_once):
        m = min(terms.rows_at_once, agreed - start)
        steps.append(computing_cost(1, (2 * KEY_BYTES * m, m * vector, 0)))
        steps.append(violations_cost(m, bounds))
        steps.append(open_cost(8 * -(-m // 64)))
    to = [i for i, peer in enumerate(terms.aggregators) if peer in terms.results]
    openers = [outside_opener(roster, peer) for peer in outside]
    steps.append(open_cost(vector, to, outside_openers=openers))
    verdicts = n * len(outside)
    whole = same_cost(1, verdicts).then(*steps)
    if me in terms.aggregators:
        return Declared(whole.rounds, whole.payload_bytes[COMPUTING[terms.aggregators.index(me)]])
    return Declared(whole.rounds, vector + 2 * KEY_BYTES if me in terms.clients else 0)
