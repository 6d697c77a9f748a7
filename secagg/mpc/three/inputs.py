"""Inputs to three parties, and public elements as shares.

*By a computing party P_o.* x_o = F(k_o), x_{o+1} = x - x_o, x_{o+2} = 0.

1. P_o -> P_{o+1}: x_{o+1}.

Private: P_{o+1} sees x masked by k_o, which it does not hold; P_{o-1} receives nothing.
Cost: 1 round; P_o sends s bytes for s bytes of secret array.

*By another party.* x_0 and x_1 are drawn from fresh seeds, x_2 is what is missing.

1. The owner sends P_0 two seeds, P_1 the seed of x_1 and x_2, P_2 x_2 and the seed of x_0.
2. The two holders of each share compare digests of what they were handed.

Without the second round an owner could hand them different copies, and they would compute on something that is no sharing.
A digest goes only to a party that was handed the same thing.
Cost: 2 rounds; the owner sends 2 s bytes and four seeds, the computing parties two digests each.

Learns: nobody anything.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from secagg.errors import RemoteProtocolError, ShapeError, UsageError
from secagg.mpc.groups import Array, Group, checked
from secagg.mpc.terms import check_terms
from secagg.mpc.three.channel import Channel, Held, check_computing
from secagg.mpc.three.streams import Purpose
from secagg.party import Party, PartyId, array_bytes
from secagg.prg import KEY_BYTES, Stream, derive_key
from secagg.signing import DIGEST_BYTES, digest
from secagg.wire import Message


class InputFromComputing(Message, frozen=True):
    """The share x_{i+1} of an input of P_i, to P_{i+1}."""

    share: np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]


class InputFromOutside(Message, frozen=True):
    """The two shares of an outside party's input for one computing party, seeds where they are drawn, and its name."""

    seeds: tuple[bytes, ...]
    share: np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]] | None
    name: bytes = b""


class HeldInCommon(Message, frozen=True):
    """Digest of what sender and receiver were both handed of an outside party's input."""

    digest: bytes


def public_shares(index: int, value: Array) -> Held:
    """Return P_index's shares of public elements: x_0 is the elements, x_1 = x_2 = 0."""
    first, second = (
        value.copy() if share == 0 else np.zeros_like(value) for share in (index, (index + 1) % 3)
    )
    return first, second


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
    """Return this party's two shares of an input of `owner`.

    Args:
      group: where the input lives.
      owner: a computing party, which passes `value`, or another, which calls `share_input`.
      shape: the public shape of the input.
      value: at the owner, the input; nowhere else.
      name: what an outside owner has to call it; see `terms`.
      owner_sent_before: kinds that an outside owner waits for only once it has shared its input; see `Party.gather`.

    Raises:
      ShapeError: the value has another shape or dtype.
      RemoteProtocolError: the owner sent shares of another shape, dtype or name, or different copies of one.
    """
    if (value is not None) != (owner == channel.party.me):
        raise UsageError(f"expected the input's value at its owner {owner} and nowhere else")
    if owner in channel.computing:
        return await _from_computing(channel, group, channel.computing.index(owner), shape, value)
    message = await channel.party.receive(
        InputFromOutside, owner, max_bytes=array_bytes(shape, group.dtype), sent_before=owner_sent_before
    )
    check_terms(channel.party.me, name, {owner: message.name}, what=f"an input of {owner}")
    wanted = 2 if channel.index == 0 else 1
    if len(message.seeds) != wanted or (message.share is None) != (channel.index == 0):
        raise RemoteProtocolError(
            f"expected P{channel.index}'s two shares of an input from {owner}", peer=owner
        )
    handed: list[bytes | Array] = list(message.seeds)
    if message.share is not None:
        full = checked(message.share, shape, group.dtype, what="an input's share", peer=owner)
        handed.insert(2 - channel.index, full)  # x_2 is P_1's second share and P_2's first
    x, y = (_expand(group, h, shape, owner) if isinstance(h, bytes) else h for h in handed)
    await _compare_copies(channel, owner, handed)
    return x, y


async def _compare_copies(channel: Channel, owner: PartyId, handed: Sequence[bytes | Array]) -> None:
    """Compare what an outside owner handed this party with what the other holder of each share was handed."""
    party = channel.party
    mine = {
        peer: digest_of_copy(party.session, owner, part)
        for peer, part in zip((channel.previous, channel.next), handed, strict=True)
    }
    for peer, own in mine.items():
        party.send(peer, HeldInCommon(own))
    for peer, theirs in (await party.gather(HeldInCommon, mine)).items():
        if len(theirs.digest) != DIGEST_BYTES:
            raise RemoteProtocolError(
                f"expected a digest of {DIGEST_BYTES} bytes from {peer}, got {len(theirs.digest)}",
                peer=peer,
            )
        if theirs.digest != mine[peer]:
            raise RemoteProtocolError(
                f"{owner} handed {party.me} and {peer} different copies of its input, and nothing was "
                f"computed with it; ask {owner} what it runs",
                peer=owner,
            )


async def _from_computing(
    channel: Channel, group: Group, o: int, shape: tuple[int, ...], value: Array | None
) -> Held:
    if value is not None:
        if value.shape != shape or value.dtype != group.dtype:
            raise ShapeError(
                f"expected an input {shape} of {group.dtype}, got {value.shape} of {value.dtype}"
            )
        mask = group.draw(channel.k_own[Purpose.INPUT], shape)
        rest = group.subtract(value, mask)
        channel.party.send(channel.next, InputFromComputing(rest))
        await channel.idle()
        return mask, rest
    zero = np.zeros(shape, group.dtype)
    if channel.index == (o + 2) % 3:
        mask = group.draw(channel.k_next[Purpose.INPUT], shape)
        await channel.idle()
        return zero, mask
    peer = channel.previous
    message = await channel.party.receive(InputFromComputing, peer, max_bytes=zero.nbytes)
    return checked(message.share, shape, group.dtype, what="an input's share", peer=peer), zero


async def share_input(
    party: Party, computing: Sequence[PartyId], group: Group, value: Array, *, name: bytes = b""
) -> None:
    """Share an input with the three computing parties, as a party that is not one of them."""
    check_computing(party, computing)
    seed0, seed1 = party.rng.bytes(KEY_BYTES), party.rng.bytes(KEY_BYTES)
    x2 = group.subtract(
        group.subtract(value, _expand(group, seed0, value.shape, party.me)),
        _expand(group, seed1, value.shape, party.me),
    )
    party.send(computing[0], InputFromOutside((seed0, seed1), None, name))
    party.send(computing[1], InputFromOutside((seed1,), x2, name))
    party.send(computing[2], InputFromOutside((seed0,), x2, name))


def digest_of_copy(session: bytes, owner: PartyId, part: bytes | Array) -> bytes:
    """Return what the two holders of a seed or share of an outside input compare, 32 bytes."""
    content = part if isinstance(part, bytes) else part.tobytes()
    return digest("secagg.mpc.three/outside input", [session, owner.encode(), content])


def _expand(group: Group, seed: bytes, shape: tuple[int, ...], owner: PartyId) -> Array:
    if len(seed) != KEY_BYTES:
        raise RemoteProtocolError(f"expected seeds of {KEY_BYTES} bytes from {owner}", peer=owner)
    return group.draw(Stream(derive_key(seed, label="secagg.mpc.three/outside input")), shape)
