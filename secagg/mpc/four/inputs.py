"""Inputs to four parties, and public numbers as shares [DEK21, with abort].

*By a computing party P_o.* Of the other three, in order j, k, l: x_j = F(k_j), x_k = F(k_k), x_o = 0 and
x_l = x - x_j - x_k.

1. P_o -> P_j, P_k: x_l.
2. P_k vouches to P_j for what it received. (Both hold the same, or P_o or one of them lied.)

Private: P_j lacks F(k_j) and P_k lacks F(k_k), each of which masks x_l; P_l receives nothing.
Cost: 2 rounds; P_o sends 2 s bytes for s bytes of secret array.

*By another party.* x_0, x_1, x_2 are drawn from fresh seeds, x_3 is what is missing.

1. The owner sends each P_i its three shares, seeds where they are drawn.
2. Of the three holders of each share each vouches to the next, in a circle: any two honest ones compare.

Private: P_3 gets three seeds; P_i, i < 3, lacks the seed of x_i, which masks x_3.
Cost: 2 rounds; the computing parties send nothing but tags, the owner 3 s bytes and nine seeds.

Threat model: that of `engine`. Learns: nobody anything.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from secagg.errors import RemoteProtocolError, ShapeError, UsageError
from secagg.mpc.four.blame import Item, Source
from secagg.mpc.four.broadcast import PARTIES
from secagg.mpc.four.channel import Channel
from secagg.mpc.four.keys import LABEL, Purpose, check_computing
from secagg.mpc.four.shares import Held, canonical
from secagg.mpc.four.vouching import Content
from secagg.mpc.groups import Array, Group, checked
from secagg.mpc.terms import check_terms
from secagg.party import Party, PartyId, array_bytes
from secagg.prg import KEY_BYTES, Stream, derive_key
from secagg.wire import Message

_LAST = PARTIES - 1  # the share of an input from outside that is not drawn


class InputShare(Message, frozen=True):
    """The share x_l of an input of P_o, to the two others that hold it."""

    share: np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]


class OutsideShares(Message, frozen=True):
    """The three shares of an outside party's input for one computing party, seeds where they are drawn, and its name."""

    seeds: tuple[bytes, ...]
    share: np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]] | None
    name: bytes = b""


def public_shares(channel: Channel, value: Array) -> Held:
    """Return public elements as shares: x_0 is the value, the others are zero. All parties pass the same."""
    return {j: value.copy() if j == 0 else np.zeros_like(value) for j in channel.others}


async def receive_input(
    channel: Channel,
    group: Group,
    owner: PartyId,
    shape: tuple[int, ...],
    value: Array | None = None,
    *,
    owner_sent_before: Collection[type[Message]] = (),
    name: bytes = b"",
) -> Held:
    """Return an input of `owner` as shares.

    Args:
      owner: a computing party, which passes `value`, or another, which calls `share_input`.
      shape: the public shape of the input.
      value: at the owner, the input; nowhere else.
      owner_sent_before: kinds that an outside owner waits for only once it has shared its input; see `Party.gather`.
      name: what an outside owner has to call it; see `terms`.

    Raises:
      ShapeError: the value has another shape or dtype.
      RemoteProtocolError: the owner sent shares of another shape, dtype or name.
    """
    if (value is not None) != (owner == channel.party.me):
        raise UsageError(f"expected the input's value at its owner {owner} and nowhere else")
    if value is not None and (value.shape != shape or value.dtype != group.dtype):
        raise ShapeError(f"expected an input {shape} of {group.dtype}, got {value.shape} of {value.dtype}")
    if owner not in channel.computing:
        return await _from_outside(channel, group, owner, shape, owner_sent_before, name)
    return await _from_computing(channel, group, channel.computing.index(owner), shape, value)


async def _from_computing(
    channel: Channel, group: Group, o: int, shape: tuple[int, ...], value: Array | None
) -> Held:
    j, k, rest = (i for i in range(PARTIES) if i != o)
    party = channel.party
    items = [Item(j, o, k, Source.SENT)]
    operation = await channel.begin(items, array_bytes(shape, group.dtype))
    parts: dict[int, Array] = {}
    for i in (j, k):
        if i != channel.index:
            parts[i] = group.draw(channel.triple(i)[Purpose.INPUT], shape)
    if channel.index != o:
        parts[o] = np.zeros(shape, group.dtype)
    if value is not None:
        parts[rest] = group.subtract(group.subtract(value, parts[j]), parts[k])
        sent = parts[rest].copy()  # kept for evidence; what is returned may change
        if not channel.is_sound(operation):
            sent = group.draw(party.rng, shape)
        for i in (j, k):
            party.send(channel.computing[i], InputShare(sent))
        channel.keep(operation, 0, sent)
        await channel.idle()
    elif channel.index in (j, k):
        message = await party.receive(
            InputShare, channel.computing[o], max_bytes=array_bytes(shape, group.dtype)
        )
        peer = channel.computing[o]
        sent = checked(message.share, shape, group.dtype, what="an input's share", peer=peer)
        channel.keep(operation, 0, sent)
        parts[rest] = canonical(group, sent)
    else:
        await channel.idle()
    await channel.compare(operation, items)
    channel.end(operation)
    return {j: parts[j] for j in channel.others}


async def _from_outside(
    channel: Channel,
    group: Group,
    owner: PartyId,
    shape: tuple[int, ...],
    owner_sent_before: Collection[type[Message]],
    name: bytes,
) -> Held:
    items, share_of = [], []
    for share in range(PARTIES):
        a, b, c = (i for i in range(PARTIES) if i != share)
        for voucher, receiver, third in ((a, b, c), (b, c, a), (c, a, b)):
            items.append(Item(receiver, third, voucher, Source.OUTSIDE, owner))
            share_of.append(share)
    operation = await channel.begin(items, len(items) * KEY_BYTES + 3 * array_bytes(shape, group.dtype))
    message = await channel.party.receive(
        OutsideShares,
        owner,
        max_bytes=array_bytes(shape, group.dtype),
        sent_before=owner_sent_before,
    )
    check_terms(channel.party.me, name, {owner: message.name}, what=f"an input of {owner}")
    drawn = [j for j in channel.others if j != _LAST]
    if len(message.seeds) != len(drawn) or (message.share is None) != (channel.index == _LAST):
        raise RemoteProtocolError(
            f"expected P{channel.index}'s three shares of an input from {owner}", peer=owner
        )
    handed: dict[int, Content] = dict(zip(drawn, message.seeds, strict=True))
    parts = {j: _expand(group, seed, shape, owner) for j, seed in zip(drawn, message.seeds, strict=True)}
    if message.share is not None:
        handed[_LAST] = checked(message.share, shape, group.dtype, what="an input's share", peer=owner)
        parts[_LAST] = canonical(group, message.share)
    for slot, share in enumerate(share_of):
        if share in handed:
            channel.keep(operation, slot, handed[share])
    await channel.compare(operation, items)
    channel.end(operation)
    return {j: parts[j] for j in channel.others}


async def share_input(
    party: Party, computing: Sequence[PartyId], group: Group, value: Array, *, name: bytes = b""
) -> None:
    """Share an input with the four computing parties, as a party that is not one of them."""
    check_computing(party, computing)
    if value.dtype != group.dtype:
        raise ShapeError(f"expected an input of {group.dtype}, got {value.dtype}")
    seeds = [party.rng.bytes(KEY_BYTES) for _ in range(_LAST)]
    rest = value
    for seed in seeds:
        rest = group.subtract(rest, _expand(group, seed, value.shape, party.me))
    for i, peer in enumerate(computing):
        given = tuple(seed for j, seed in enumerate(seeds) if j != i)
        party.send(peer, OutsideShares(given, rest if i != _LAST else None, name))


def _expand(group: Group, seed: bytes, shape: tuple[int, ...], owner: PartyId) -> Array:
    if len(seed) != KEY_BYTES:
        raise RemoteProtocolError(f"expected seeds of {KEY_BYTES} bytes from {owner}", peer=owner)
    return group.draw(Stream(derive_key(seed, label=f"{LABEL}/outside input")), shape)
