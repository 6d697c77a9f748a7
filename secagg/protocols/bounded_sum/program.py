"""Bounded sums over a `Party`: clients upload once, three aggregators check and add up, result parties receive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RemoteProtocolError, TooFewPartiesError, UsageError
from secagg.mpc.arithmetic import SharedArray
from secagg.mpc.conversion import unpack
from secagg.mpc.costs import OperationCost
from secagg.mpc.numbers import RingGroup
from secagg.mpc.replicated import Engine, checked, open_cost, outside_opener, receive_opening
from secagg.party import Party, PartyId, check_array
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


_MISSING, _REFUSED, _ACCEPTED = range(3)


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
    if (x is not None) != (party.me in terms.clients):
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
    _enter(party, terms)
    if party.me not in terms.clients:
        raise UsageError(f"{party.me} is not a client of these terms")
    row = terms.bounds.row(x, weight)
    group = RingGroup(terms.bounds.ring)
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
      TooFewPartiesError: fewer than `least` clients uploaded or are within bounds. No sum was opened.
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
    total = _zeros(engine, (bounds.columns,), bounds)
    if len(agreed) >= terms.least:
        with party.phase("check"):
            for start in range(0, len(agreed), terms.batch):
                batch = agreed[start : start + terms.batch]
                rows = await _rows(engine, terms, batch, uploads)
                opened = await (await violations(rows, bounds)).open()
                assert_opened = unpack(_known(opened), len(batch))
                for i, client in enumerate(batch):
                    fates[terms.clients.index(client)] = _REFUSED if assert_opened[i] else _ACCEPTED
                    if not assert_opened[i]:
                        total.first += rows.first[i]
                        total.second += rows.second[i]
    with party.phase("open"):
        for peer in terms.results:
            if peer not in terms.aggregators:
                party.send(peer, Verdict(fates))
        _require(terms, fates)
        first, second = (bounds.ring.reduce(share) for share in (total.first, total.second))
        opened = await engine.open(RingGroup(bounds.ring), first, second, terms.results)
    return _ending(terms, fates, opened)
