"""Openings of three-party shares.

P_{i-1} sends P_i the share x_{i-1}, which it lacks. A party outside gets two shares from one computing party and the third
from the next.

In the same message the sender says how many bytes it has drawn from the streams in common with the receiver. A receiver
whose own streams have run another way opens nothing: then the two run different programs.

A product that nobody keeps is opened without being reshared: each computing party sends its masked summand to the other
two (`open_summands`).

Learns: whom an array is opened to, the array; nobody else anything.
Cost (s = bytes of the secret array): 1 round; to all computing parties s each, 2 s each of summands, to one of them s by its
predecessor, to another party 2 s and s by two of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from secagg.errors import RemoteProtocolError, UsageError
from secagg.mpc.groups import Array, Group, checked
from secagg.mpc.terms import check_terms
from secagg.mpc.three.channel import Channel, Held, check_computing
from secagg.party import Party, PartyId, array_bytes
from secagg.wire import Message


class Opening(Message, frozen=True):
    """Shares of values to be opened to the receiver, and how far the pair's streams have run.

    Attributes:
      name: what the value is called, where the receiver does not compute; see `terms`.
    """

    position: int
    shares: tuple[np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]], ...]
    name: bytes = b""


class Opened(NamedTuple):
    """A value that is opened, by its shares at this party, its receivers, and what it is called to those outside."""

    group: Group
    held: Held
    to: Sequence[PartyId]
    name: bytes = b""


def receivers_of(channel: Channel, to: Sequence[PartyId] | None) -> tuple[PartyId, ...]:
    """Return whom a value is opened to: by default the computing parties.

    Raises:
      UsageError: not a sequence of parties of the roster.
    """
    receivers = channel.computing if to is None else tuple(to)
    if isinstance(to, str) or not set(receivers) <= set(channel.party.roster):
        raise UsageError(f"expected a sequence of parties of {channel.party.roster} to open to, got {to!r}")
    return receivers


async def open_each(channel: Channel, values: Sequence[Opened]) -> list[Array | None]:
    """Open values, each to its receivers, in one round; return those that this party receives, None for others.

    Computing parties send what each other lacks of all values in one message; outside receivers call `receive_opening`
    for each value.

    Raises:
      RemoteProtocolError: a peer's streams are out of step with this party's, or a share of a wrong shape.
    """
    position, previous = channel.k_own.position, channel.previous
    following = tuple(value.held[0] for value in values if channel.next in value.to)
    if following:
        channel.party.send(channel.next, Opening(channel.k_next.position, following))
    for value in values:
        _send_outside(channel, value)
    mine = [value for value in values if channel.party.me in value.to]
    if not mine:
        await channel.idle()
        return [None] * len(values)
    nbytes = sum(value.held[0].nbytes for value in mine)
    message = await channel.party.receive(Opening, previous, max_bytes=nbytes)
    _check_step(message, position, previous)
    missing = iter(_shares(message, [value.held[0] for value in mine], previous))
    return [
        value.group.add(value.group.add(*value.held), next(missing)) if channel.party.me in value.to else None
        for value in values
    ]


async def open_summands(channel: Channel, group: Group, summand: Array) -> Array:
    """Return the sum of the three parties' summands, to all of them, in one round.

    Args:
      summand: this party's, uniform to the others but for the sum, as products are before they are reshared.

    Raises:
      RemoteProtocolError: as `open_each`.
    """
    peers = {channel.previous: channel.k_own.position, channel.next: channel.k_next.position}
    for peer, position in peers.items():
        channel.party.send(peer, Opening(position, (summand,)))
    messages = await channel.party.gather(Opening, tuple(peers), max_bytes=summand.nbytes)
    total = summand
    for peer, position in peers.items():
        _check_step(messages[peer], position, peer)
        total = group.add(total, _shares(messages[peer], [summand], peer)[0])
    return total


def _check_step(message: Opening, position: int, peer: PartyId) -> None:
    """Refuse an opening of a peer that has drawn another number of bytes of the common streams."""
    if message.position != position:
        raise RemoteProtocolError(
            f"{peer} has drawn {message.position} bytes of the common streams, this party "
            f"{position}: the two are out of step and nothing is opened; do both run the same job?",
            peer=peer,
        )


def _send_outside(channel: Channel, value: Opened) -> None:
    for receiver in value.to:
        if receiver in channel.computing:
            continue
        first = outside_opener(channel.party.roster, receiver)
        if channel.index == first:
            channel.party.send(receiver, Opening(0, value.held, value.name))
        elif channel.index == (first + 1) % 3:
            channel.party.send(receiver, Opening(0, value.held[1:], value.name))


async def receive_opening(
    party: Party, computing: Sequence[PartyId], group: Group, shape: tuple[int, ...], *, name: bytes = b""
) -> Array:
    """Return a value that the computing parties open to this party, which is not one of them.

    Args:
      name: what they have to call it; see `terms`.

    Raises:
      RemoteProtocolError: shares of another shape or name.
    """
    check_computing(party, computing)
    first = outside_opener(party.roster, party.me)
    two, one = computing[first], computing[(first + 1) % 3]
    messages = await party.gather(Opening, (two, one), max_bytes=2 * array_bytes(shape, group.dtype))
    named = {peer: message.name for peer, message in messages.items()}
    check_terms(party.me, name, named, what="an opening")
    like = np.broadcast_to(np.zeros((), group.dtype), shape)
    a, b = _shares(messages[two], [like, like], two)
    (c,) = _shares(messages[one], [like], one)
    return group.add(group.add(a, b), c)


def outside_opener(roster: Sequence[PartyId], receiver: PartyId) -> int:
    """Return which computing party sends two shares to an outside receiver; spread over the receivers."""
    return list(roster).index(receiver) % 3


def _shares(message: Opening, like: Sequence[Array], peer: PartyId) -> list[Array]:
    """Return the shares of a message, which have the shapes and dtypes of `like`."""
    if len(message.shares) != len(like):
        raise RemoteProtocolError(f"expected {len(like)} shares of an opening from {peer}", peer=peer)
    return [
        checked(share, model.shape, model.dtype, what="a share of an opening", peer=peer)
        for share, model in zip(message.shares, like, strict=True)
    ]
