"""Bounded sums over a `Party`: clients upload once, three aggregators check and add up, result parties receive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RemoteProtocolError, ShapeError, TooFewPartiesError, UsageError
from secagg.mpc.groups import checked
from secagg.mpc.numbers import RingGroup
from secagg.mpc.primitives import Shares
from secagg.mpc.three.engine import ThreeEngine
from secagg.mpc.three.opening import receive_opening
from secagg.party import Party, PartyId, array_bytes, check_array
from secagg.prg import KEY_BYTES, Stream, derive_key
from secagg.protocols.agreement import agree
from secagg.protocols.bounded_sum.check import violations
from secagg.protocols.bounded_sum.messages import PassedRest, PassedSeeds, Rest, Seeds, Verdict
from secagg.protocols.bounded_sum.terms import LABEL, Bounds, Terms
from secagg.protocols.roles import SumResult
from secagg.ring import RingArray, unpack

PHASES: Final = ("upload", "agree", "check", "open")

_DROPPED, _REJECTED, _ACCEPTED, _UNCHECKED = range(4)  # what became of a client


@dataclass(frozen=True, slots=True)
class BoundedSum(SumResult):
    """How a bounded sum ended.

    Attributes:
      total: the sum, or weighted sum, of the contributors' vectors; elements of the ring, shape (length,). None at an
        aggregator that is no result party.
      weight: the sum of the contributors' weights; where there are none, their number. None where total is.
    """

    weight: int | None = field(repr=False, default=None)


async def take_part(
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
    terms.roles.enter(party)
    terms.roles.check_vector_at(party, x)
    if x is not None:
        await contribute(party, x, terms=terms, weight=weight)
    if party.me in terms.roles.aggregators:
        return await aggregate(party, terms=terms)
    if party.me in terms.roles.results:
        return await receive(party, terms=terms)
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
    if party.me not in terms.roles.numbers:
        raise UsageError(f"{party.me} is not a client of these terms")
    await upload(party, terms.bounds.row(x, weight), terms=terms)


async def upload(party: Party, row: RingArray, *, terms: Terms) -> None:
    """Share a row as it is, which a client that lies may do: the aggregators find out.

    Args:
      row: any elements of the bounds' ring, shape (columns,), the weight first where there are weights; not changed.

    Raises:
      ShapeError: a row of another shape or dtype.
    """
    terms.roles.enter(party)
    ring = terms.bounds.ring
    ring.check(row)
    if row.shape != (terms.bounds.columns,):
        raise ShapeError(f"expected a row of {terms.bounds.columns} elements, got shape {row.shape}")
    group = RingGroup(ring)
    seeds = np.frombuffer(party.rng.bytes(2 * KEY_BYTES), np.uint8).reshape(2, KEY_BYTES)
    for seed in seeds:
        row = group.subtract(row, _expand(seed, terms.bounds))
    with party.phase("upload"):
        party.send(terms.roles.aggregators[0], Seeds(seeds))
        party.send(terms.roles.aggregators[1], Rest(row))
        await party.gather(Seeds, ())  # what was sent has left when this returns


async def aggregate(party: Party, *, terms: Terms) -> BoundedSum:
    """Check and add up, as one of the three aggregators.

    Raises:
      UsageError: not an aggregator of the terms.
      TooFewPartiesError: fewer than `min_clients` clients uploaded or are within bounds. No sum was opened.
      RemoteProtocolError: an aggregator sent what the protocol forbids, or holds other terms.
      PeerMissingError: an aggregator is missing.
    """
    terms.roles.enter(party)
    bounds = terms.bounds
    engine = await ThreeEngine.set_up(party, terms.roles.aggregators, label=LABEL)
    with party.phase("upload"):
        uploads = await _uploads(party, terms, engine.channel.index)
    with party.phase("agree"):
        roles, tellers = terms.roles, terms.roles.aggregators[:2]
        received = await agree(party, uploads, roles=roles, tellers=tellers, terms=terms.fingerprint())
        agreed = [int(i) for i in np.flatnonzero(received)]
    status = np.full(len(terms.roles.clients), _DROPPED, np.uint8)
    status[agreed] = _UNCHECKED
    totals = [np.zeros(bounds.columns, bounds.ring.dtype) for _ in range(2)]
    step = terms.rows_at_once
    with party.phase("check"):
        # Of fewer than are needed none is checked: not even who breaks a bound is opened.
        for start in range(0, len(agreed) if len(agreed) >= terms.min_clients else 0, step):
            batch = agreed[start : start + step]
            rows = await _rows(engine, terms, batch, uploads)
            broken = await _broken(engine, rows, bounds)
            status[batch] = np.where(broken, np.uint8(_REJECTED), np.uint8(_ACCEPTED))
            for i in np.flatnonzero(~broken):
                for so_far, share in zip(totals, rows.parts, strict=True):
                    so_far += share[i]
    with party.phase("open"):
        for peer in terms.roles.results:
            if peer not in terms.roles.aggregators:
                party.send(peer, Verdict(status))
        _require(terms, status)
        total = Shares(engine, RingGroup(bounds.ring), [bounds.ring.reduce(share) for share in totals])
        opened = await engine.open(total, terms.roles.results)
    return _result(terms, status, opened)


async def receive(party: Party, *, terms: Terms) -> BoundedSum:
    """Return the sum, as a result party that is no aggregator.

    Raises:
      UsageError: no such party of the terms.
      TooFewPartiesError: fewer than `min_clients` clients uploaded or are within bounds. No sum was opened.
      RemoteProtocolError: aggregators disagree, or sent what the protocol forbids.
      PeerMissingError: an aggregator is missing.
    """
    terms.roles.enter(party)
    if party.me not in terms.roles.results or party.me in terms.roles.aggregators:
        raise UsageError(f"{party.me} is not a result party outside the aggregators")
    bounds = terms.bounds
    with party.phase("open"):
        verdicts = await party.gather(Verdict, terms.roles.aggregators, max_bytes=len(terms.roles.clients))
        status = _common(verdicts, terms)
        _require(terms, status)
        opened = await receive_opening(
            party, terms.roles.aggregators, RingGroup(bounds.ring), (bounds.columns,)
        )
    return _result(terms, status, opened)


async def _uploads(party: Party, terms: Terms, index: int) -> dict[PartyId, NDArray[Any]]:
    """Return what clients sent to this aggregator and is what it should be."""
    got: dict[PartyId, NDArray[Any]] = {}
    if index == 2:
        return got
    kind, bounds = (Seeds, Rest)[index], terms.bounds
    async for peer, message in party.as_completed(
        kind,
        terms.roles.clients,
        quorum=0,
        timeout_s=terms.timeout_s,
        max_bytes=array_bytes((bounds.columns,), bounds.ring.dtype),
    ):
        try:
            if isinstance(message, Seeds):
                got[peer] = check_array(message.seeds, (2, KEY_BYTES), what="seeds", peer=peer)
            elif isinstance(message, Rest):
                got[peer] = _share(message.share, bounds, peer)
        except RemoteProtocolError as error:
            party.fail(peer, error)
    return got


async def _rows(
    engine: ThreeEngine, terms: Terms, batch: list[int], uploads: dict[PartyId, NDArray[Any]]
) -> Shares:
    """Return what a batch of clients shared, shape (m, columns).

    Every share goes from the client to one aggregator, and from there to its second holder: whatever a client
    sent, both hold the same.
    """
    bounds, party, index = terms.bounds, engine.party, engine.channel.index
    p0, p1, p2 = terms.roles.aggregators
    clients = [terms.roles.clients[i] for i in batch]
    first, second = (np.empty((len(batch), bounds.columns), bounds.ring.dtype) for _ in range(2))
    seeds: NDArray[np.uint8]
    if index == 0:
        seeds = np.stack([uploads.pop(client) for client in clients])
        party.send(p1, PassedSeeds(seeds[:, 1]))
        party.send(p2, PassedSeeds(seeds[:, 0]))
        for i, (seed0, seed1) in enumerate(seeds):
            first[i], second[i] = _expand(seed0, bounds), _expand(seed1, bounds)
        await engine.channel.idle()
    else:
        expanded, rest = (first, second) if index == 1 else (second, first)
        if index == 1:
            for i, client in enumerate(clients):
                rest[i] = uploads.pop(client)
                party.send(p2, PassedRest(rest[i]))
        seeds = (await party.receive(PassedSeeds, p0, max_bytes=len(batch) * KEY_BYTES)).seeds
        check_array(seeds, (len(batch), KEY_BYTES), what="seeds", peer=p0)
        for i, seed in enumerate(seeds):
            expanded[i] = _expand(seed, bounds)
            if index == 2:
                message = await party.receive(PassedRest, p1, max_bytes=rest[i].nbytes)
                rest[i] = _share(message.share, bounds, p1)
    return Shares(engine, RingGroup(bounds.ring), (first, second))


async def _broken(engine: ThreeEngine, rows: Shares, bounds: Bounds) -> NDArray[np.bool_]:
    """Open to the three aggregators, for each row, whether it breaks a bound, and nothing else."""
    opened = await engine.open(await violations(engine, rows, bounds))
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


def _named(terms: Terms, status: NDArray[np.uint8], wanted: int) -> tuple[PartyId, ...]:
    return tuple(client for client, s in zip(terms.roles.clients, status, strict=True) if s == wanted)


def _common(verdicts: Mapping[PartyId, Verdict], terms: Terms) -> NDArray[np.uint8]:
    """Return what all three aggregators say of the clients.

    Raises:
      RemoteProtocolError: they do not say the same. One that two others contradict is named: two do not lie at once.
    """
    shape = (len(terms.roles.clients),)
    said = {
        peer: checked(verdict.status, shape, np.dtype(np.uint8), what="a verdict", peer=peer).tobytes()
        for peer, verdict in verdicts.items()
    }
    alone = [peer for peer, verdict in said.items() if list(said.values()).count(verdict) == 1]
    if len(alone) == 1:
        raise RemoteProtocolError(
            f"expected the same verdict from all aggregators, got another from {alone[0]} than from the other two",
            peer=alone[0],
        )
    if alone:
        raise RemoteProtocolError(
            f"expected the same verdict from all aggregators, got three from {', '.join(alone)}; it cannot be known which "
            "of them does not keep to the protocol"
        )
    return next(iter(verdicts.values())).status


def _require(terms: Terms, status: NDArray[np.uint8]) -> None:
    """Refuse to open a sum of fewer vectors than are needed."""
    accepted, rejected, dropped = (_named(terms, status, s) for s in (_ACCEPTED, _REJECTED, _DROPPED))
    if len(accepted) < terms.min_clients:
        n, named = len(terms.roles.clients), (("out of bounds", rejected), ("missing", dropped))
        why = "".join(f"; {what}: {', '.join(names)}" for what, names in named if names)
        raise TooFewPartiesError(
            f"expected vectors within bounds of at least {terms.min_clients} of {n} clients, got uploads of "
            f"{n - len(dropped)}{why}; no sum is opened",
            peer=(*rejected, *dropped)[0],
        )


def _result(terms: Terms, status: NDArray[np.uint8], opened: RingArray | None) -> BoundedSum:
    accepted, rejected, dropped = (_named(terms, status, s) for s in (_ACCEPTED, _REJECTED, _DROPPED))
    if opened is None:
        return BoundedSum(None, accepted, dropped, rejected)
    if terms.bounds.max_weight is None:
        return BoundedSum(opened, accepted, dropped, rejected, len(accepted))
    return BoundedSum(opened[1:], accepted, dropped, rejected, int(opened[0]))


def reference(rows: Mapping[PartyId, RingArray], bounds: Bounds) -> tuple[RingArray, tuple[PartyId, ...]]:
    """Return the sum of the rows within bounds, and whose they are: what the protocol computes.

    Args:
      rows: what clients shared, shape (columns,), the weight first where there are weights.
    """
    accepted = tuple(client for client, row in rows.items() if bounds.allow(row))
    total = np.zeros(bounds.columns, bounds.ring.dtype)
    for client in accepted:
        total += rows[client]
    return bounds.ring.reduce(total), accepted
