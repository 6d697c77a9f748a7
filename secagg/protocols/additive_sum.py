"""The sum of everybody's vectors modulo 2**k, by additive sharing.

  share   every input party splits its vector into one share for each aggregator, all but one being seeds
  open    every aggregator adds up the shares it holds and sends the sum to every result party, which adds
          those up

Threat model: semi-honest. All parties but one aggregator may pool what they see. Channels are authenticated and
encrypted. A party that lies can change the sum and is not caught; a party that is missing ends the run.
An input party that is an aggregator keeps the share that is no seed, so that it is never sent.

Learns: result parties, the sum, and so with their own inputs the sum of the others'. Aggregators that are not
result parties and input parties learn nothing. Proof: an honest aggregator's shares of the honest inputs are
masks that nobody else knows, or differences under seeds that nobody else knows all of; so the sum that it opens
is uniform but for being the joint sum less what the other aggregators hold.

Cost, i inputs, m aggregators, r results, d elements of b bits, s = ceil(d b / 8) payload bytes, 2 rounds: an
input party sends m - 1 seeds of 32 bytes, and s where it is no aggregator itself; an aggregator sends s to each
other result party. `cost` is exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, RemoteProtocolError, ShapeError, UsageError
from secagg.mpc.additive import SEED_BYTES, Seed, Share, pack, packed_bytes, reconstruct, share, unpack
from secagg.party import Party, PartyId
from secagg.ring import Ring, RingArray
from secagg.wire import Message


class SeedShare(Message, frozen=True):
    """Share, input party -> aggregator: the seed of a share; uint8, shape (32,)."""

    seed: NDArray[np.uint8]


class FullShare(Message, frozen=True):
    """Share, input party -> one of the aggregators: the share that is no seed, packed to the ring's width."""

    packed: NDArray[np.uint8]


class PartialSum(Message, frozen=True):
    """Open, aggregator -> result party: the sum of the aggregator's shares, packed to the ring's width."""

    packed: NDArray[np.uint8]


class Declared(NamedTuple):
    """What one party sends, and the depth of the deepest message that it reads."""

    rounds: int
    messages: int
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class Roles:
    """Who puts vectors in, who adds them up, who learns the sum; a party may do several.

    Raises:
      UsageError: an empty or repeated role, or fewer than two aggregators: one would see every input.
    """

    inputs: tuple[PartyId, ...]
    aggregators: tuple[PartyId, ...]
    results: tuple[PartyId, ...]

    def __post_init__(self) -> None:
        for what, names, least in (
            ("input parties", self.inputs, 1),
            ("aggregators", self.aggregators, 2),
            ("result parties", self.results, 1),
        ):
            if len(names) < least or len(set(names)) != len(names):
                raise UsageError(f"expected at least {least} distinct {what}, got {list(names)}")

    @classmethod
    def everyone(cls, roster: Sequence[PartyId]) -> Self:
        """Return the roles where everybody does everything."""
        return cls(tuple(roster), tuple(roster), tuple(roster))

    def holder(self, owner: PartyId) -> PartyId:
        """Return the aggregator that gets the full share of `owner`'s vector: itself, or each in turn."""
        if owner in self.aggregators:
            return owner
        return self.aggregators[self.inputs.index(owner) % len(self.aggregators)]


async def additive_sum(party: Party, x: RingArray, *, ring: Ring) -> RingArray:
    """Return the sum of all parties' x modulo 2**bits; everybody learns it, and n - 1 of n nothing more.

    Args:
      x: dtype of the ring, any shape, the same at all; elements below 2**bits.

    Raises:
      UsageError: alone in the roster.
      ShapeError, RangeError: x does not hold elements of the ring.
      RemoteProtocolError: a peer sent a share of another length.
      PeerMissingError: a peer is missing.
    """
    total = await aggregate(party, x, shape=x.shape, ring=ring, roles=Roles.everyone(party.roster))
    if total is None:  # cannot be: everyone is a result party
        raise UsageError(f"{party.me} is not a result party")
    return total


async def aggregate(
    party: Party, x: RingArray | None, *, shape: tuple[int, ...], ring: Ring, roles: Roles
) -> RingArray | None:
    """Return the sum of the input parties' vectors modulo 2**bits at the result parties, None elsewhere.

    Args:
      x: at an input party its vector, dtype of the ring, elements below 2**bits; None elsewhere.
      shape: the public shape of every vector.
      roles: the same at all parties.

    Raises:
      UsageError: a vector at a party that is no input party, or none at one that is; a role for a stranger.
      ShapeError, RangeError: x has another shape or does not hold elements of the ring.
      RemoteProtocolError: a peer sent a share of another length.
      PeerMissingError: a peer is missing.
    """
    strangers = {*roles.inputs, *roles.aggregators, *roles.results} - set(party.roster)
    if strangers:
        raise UsageError(f"roles for {', '.join(sorted(strangers))}, who are not among {party.roster}")
    if (x is not None) != (party.me in roles.inputs):
        raise UsageError(f"expected a vector at the input parties {', '.join(roles.inputs)} and nowhere else")
    if x is not None and x.shape != shape:
        raise ShapeError(f"expected a vector of shape {shape}, got {x.shape}")
    with party.phase("share"):
        mine = [] if x is None else _send_shares(party, x, ring, roles)
        partial = None
        if party.me in roles.aggregators:
            partial = reconstruct(mine + await _receive_shares(party, shape, ring, roles), shape, ring)
    with party.phase("open"):
        if partial is not None:
            for peer in roles.results:
                if peer != party.me:
                    party.send(peer, PartialSum(pack(partial, ring)))
        if party.me not in roles.results:
            return None
        messages = await party.gather(PartialSum, [a for a in roles.aggregators if a != party.me])
        partials: list[Share] = [_unpack(m.packed, shape, ring, peer) for peer, m in messages.items()]
        return reconstruct(partials if partial is None else [partial, *partials], shape, ring)


def _send_shares(party: Party, x: RingArray, ring: Ring, roles: Roles) -> list[Share]:
    """Send the shares of this party's vector and return those that it keeps."""
    seeds, rest = share(x, len(roles.aggregators), ring, party.rng)
    holder = roles.holder(party.me)
    # An aggregator holds its own full share, so a seed never is its own.
    for peer, seed in zip((a for a in roles.aggregators if a != holder), seeds, strict=True):
        party.send(peer, SeedShare(np.frombuffer(seed.key, np.uint8)))
    if holder == party.me:
        return [rest]
    party.send(holder, FullShare(pack(rest, ring)))
    return []


async def _receive_shares(party: Party, shape: tuple[int, ...], ring: Ring, roles: Roles) -> list[Share]:
    others = [owner for owner in roles.inputs if owner != party.me]
    seeds = await party.gather(SeedShare, [p for p in others if roles.holder(p) != party.me])
    full = await party.gather(FullShare, [p for p in others if roles.holder(p) == party.me])
    shares: list[Share] = []
    for peer, message in seeds.items():
        if message.seed.shape != (SEED_BYTES,):
            raise RemoteProtocolError(
                f"expected a seed of {SEED_BYTES} bytes from {peer}, got {message.seed.shape}", peer=peer
            )
        shares.append(Seed(message.seed.tobytes()))
    shares += [_unpack(m.packed, shape, ring, peer) for peer, m in full.items()]
    return shares


def _unpack(packed: NDArray[np.uint8], shape: tuple[int, ...], ring: Ring, peer: PartyId) -> RingArray:
    try:
        return unpack(packed, shape, ring)
    except (ShapeError, RangeError) as error:
        raise RemoteProtocolError(
            f"{error}; it came from {peer}: do all agree on the shape?", peer=peer
        ) from None


def plain_sum(xs: Sequence[RingArray], ring: Ring) -> RingArray:
    """Return the sum of plain vectors modulo 2**bits: what the protocol computes."""
    return np.asarray(ring.reduce(np.asarray(np.sum(np.stack(xs), axis=0, dtype=ring.dtype))))


def cost(me: PartyId, *, shape: tuple[int, ...], ring: Ring, roles: Roles) -> Declared:
    """Return what `aggregate` costs one party, exactly."""
    vector = packed_bytes(math.prod(shape), ring)
    messages = payload = 0
    if me in roles.inputs:
        seeds = len(roles.aggregators) - 1
        full = int(roles.holder(me) != me)
        messages += seeds + full
        payload += SEED_BYTES * seeds + vector * full
    if me in roles.aggregators:
        openings = len(roles.results) - (me in roles.results)
        messages += openings
        payload += vector * openings

    def depth(aggregator: PartyId) -> int:
        return int(any(owner != aggregator for owner in roles.inputs))

    rounds = depth(me) if me in roles.aggregators else 0
    if me in roles.results:
        rounds = max([rounds, *(depth(a) + 1 for a in roles.aggregators if a != me)])
    return Declared(rounds, messages, payload)
