"""Openings of four-party shares, each after a check [DEK21, with abort].

1. Everybody says what it found so far (`channel`).
2. Everybody repeats what it heard. In the same message, whoever heard of no complaint sends what the receivers lack:
   P_i gets x_i from P_{i+1}, and a tag of it from P_{i+2}, of each value that is opened to it.

An honest party with a complaint says so to everybody, and then no honest party opens. Where a liar complains to some
only, what others open to those who were to see it is right.

*To a party Q outside.* Share j is sent by P_{j+1}, and P_{j+2} sends a digest of it; both add F(k_j) - F(k_{j-1}), from
keys that both hold. The masks cancel in the sum, so Q gets four shares that are uniform but for their sum, however the
secret was made.

Who finds a lie: one in step 1 shows to all alike, so that all honest ones raise the same error. One in step 2 shows to whom
it was told, who names sender and voucher and ends the run. Others know it from its word alone, and may have their result.

Threat model: that of `engine`. Learns: whom an array is opened to, the array; nobody else anything.

Cost (s = bytes of the secret array): 2 rounds, s bytes a computing party for opening to all four, s by P_{i+1} for P_i,
s by each and a digest for a party outside.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from secagg.errors import CheatingError, UsageError
from secagg.mpc.four.broadcast import PARTIES, tell, weigh, without
from secagg.mpc.four.channel import Channel, State, checked_tag
from secagg.mpc.four.keys import LABEL, Purpose, check_computing
from secagg.mpc.four.shares import Held, total
from secagg.mpc.groups import Array, Group, checked
from secagg.mpc.terms import check_terms
from secagg.party import Party, PartyId, array_bytes
from secagg.signing import digest
from secagg.wire import Message

_Elements = np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]


class Opening(Message, frozen=True):
    """Step 2: what the three others of the sender told it, and what the receiver lacks, as shares and as tags."""

    heard: tuple[bytes, ...]
    shares: tuple[_Elements, ...]
    tags: tuple[bytes, ...]


class OutsideOpening(Message, frozen=True):
    """A masked share, and the digest of another, for a party outside; and what the value is called, as in `terms`."""

    share: _Elements
    digest: bytes
    name: bytes = b""


class Opened(NamedTuple):
    """A value to be opened, and to whom: computing parties, and others which call `receive_opening`."""

    group: Group
    held: Held
    to: tuple[PartyId, ...]
    name: bytes = b""  # to those outside

    @property
    def shape(self) -> tuple[int, ...]:
        return next(iter(self.held.values())).shape


def receivers_of(channel: Channel, to: Sequence[PartyId] | None) -> tuple[PartyId, ...]:
    """Return the receivers of an opening; by default the computing parties.

    Raises:
      UsageError: not distinct parties of the roster.
    """
    receivers = channel.computing if to is None else tuple(to)
    roster = channel.party.roster
    if isinstance(to, str) or not set(receivers) <= set(roster) or len(set(receivers)) != len(receivers):
        raise UsageError(f"expected a sequence of parties of {roster} to open to, got {to!r}")
    return receivers


async def open_each(channel: Channel, values: Sequence[Opened]) -> list[Array | None]:
    """Open each value to its receivers after one check; return those that this party receives, None for others.

    Raises:
      CheatingError: a check failed, before the opening or in it.
      RemoteProtocolError: the parties are out of step, or a share of a wrong shape.
    """
    party, computing, me = channel.party, channel.computing, channel.index
    outside = [
        (_masked(channel, value), receiver, value.name)
        for value in values
        for receiver in value.to
        if receiver not in computing
    ]
    operation = await channel.begin((), 0)
    channel.end(operation)
    state, covered = channel.state()
    heard = await tell(party, computing, state.encode())
    # A party that heard of a complaint sends nothing that depends on secrets. Calm, it had none when the opening began.
    calm = all(value == State(state.operations, None).encode() for value in heard)
    for j in channel.others:
        shares, tags = [], []
        for number, value in enumerate(values):
            if not calm or computing[j] not in value.to:
                continue
            if me == _sender(j):
                shares.append(np.asarray(value.held[j], order="C"))
            if me == _voucher(j):
                tags.append(channel.tag(j, operation, number, value.held[j], sound=True))
        party.send(computing[j], Opening(without(heard, me), tuple(shares), tuple(tags)))
    if calm:
        for masked, receiver, name in outside:
            digest_of_other = digest_of_share(party.session, masked[_vouches_for(me)])
            party.send(receiver, OutsideOpening(masked[_sends(me)], digest_of_other, name))
    mine = [number for number, value in enumerate(values) if party.me in value.to]
    # One that is not to send a share may send as much as one that is, no more.
    nbytes = sum(array_bytes(values[number].shape, values[number].group.dtype) for number in mine)
    messages = await party.gather(Opening, [computing[j] for j in channel.others], max_bytes=nbytes)
    agreement = weigh(me, computing, heard, {peer: message.heard for peer, message in messages.items()})
    await channel.conclude(agreement, covered)
    results: list[Array | None] = [None] * len(values)
    if not mine:
        return results
    sender, voucher = computing[_sender(me)], computing[_voucher(me)]
    sent, vouched = messages[sender].shares, messages[voucher].tags
    for peer, came in ((sender, len(sent)), (voucher, len(vouched))):
        if came != len(mine):
            raise CheatingError.naming([peer], f"it did not send {party.me} what was to be opened")
    for number, share, tag in zip(mine, sent, vouched, strict=True):
        group, held = values[number].group, values[number].held
        share = checked(share, values[number].shape, group.dtype, what="a share of an opening", peer=sender)
        if not channel.fits(_voucher(me), checked_tag(tag, voucher), operation, number, share):
            raise CheatingError.naming([sender, voucher], f"what they opened to {party.me} differs")
        results[number] = total(group, [*held.values(), share])
    return results


def _sender(receiver: int) -> int:
    return (receiver + 1) % PARTIES


def _voucher(receiver: int) -> int:
    return (receiver + 2) % PARTIES


def _sends(index: int) -> int:
    """Return which share P_index sends to a party outside."""
    return (index - 1) % PARTIES


def _vouches_for(index: int) -> int:
    """Return the share of which P_index sends a digest to a party outside."""
    return (index - 2) % PARTIES


def _masked(channel: Channel, value: Opened) -> Held:
    """Return the shares that this party sends or vouches for to a party outside, masked by shares of zero.

    Every holder of a key draws, so that streams stay in step.
    """
    group, held = value.group, value.held
    drawn = {m: group.draw(channel.triple(m)[Purpose.OPEN], value.shape) for m in channel.others}
    return {
        j: group.subtract(group.add(held[j], drawn[j]), drawn[(j - 1) % PARTIES])
        for j in (_sends(channel.index), _vouches_for(channel.index))
    }


async def receive_opening(
    party: Party, computing: Sequence[PartyId], group: Group, shape: tuple[int, ...], *, name: bytes = b""
) -> Array:
    """Return a value that the computing parties open to this party, which is not one of them.

    Args:
      name: what they have to call it; see `terms`.

    Raises:
      CheatingError: what one sent and another vouched for differs.
      RemoteProtocolError: shares of another shape or name.
    """
    check_computing(party, computing)
    messages = await party.gather(OutsideOpening, computing, max_bytes=array_bytes(shape, group.dtype))
    named = {peer: message.name for peer, message in messages.items()}
    check_terms(party.me, name, named, what="an opening")
    shares = []
    for j in range(PARTIES):
        sender, voucher = computing[_sender(j)], computing[_voucher(j)]
        share = checked(messages[sender].share, shape, group.dtype, what="a share of an opening", peer=sender)
        if not hmac.compare_digest(messages[voucher].digest, digest_of_share(party.session, share)):
            raise CheatingError.naming([sender, voucher], f"what they opened to {party.me} differs")
        shares.append(share)
    return total(group, shares)


def digest_of_share(session: bytes, share: Array) -> bytes:
    """Return what vouches for a share to a party outside, 32 bytes."""
    return digest(f"{LABEL}/outside opening", [session, np.ascontiguousarray(share).tobytes()])
