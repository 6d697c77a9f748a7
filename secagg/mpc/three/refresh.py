"""Fresh shares of secrets that a run goes on with: a sharing of zero is added to them [HJKY95].

Each computing party sends the two others a seed. From all three comes one stream, from which all draw the same z_0 and z_1,
and z_2 = -(z_0 + z_1). P_i adds z_i and z_{i+1} to what it holds.

A replicated sharing of zero is known to all who hold shares of it: a party that knows z_i and z_{i+1} knows the third. So
the stream need not be hidden from anybody who takes part. It is hidden from everybody else, and the new shares are
independent of the old ones for whoever does not know it. What was read of one party before the refresh and what is read of
another after it do not add up to a secret.

Threat model: that of `engine`. Learns: nobody anything. Cost: 1 round; no payload.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from secagg.errors import RemoteProtocolError
from secagg.mpc.groups import Group
from secagg.mpc.three.channel import Channel, Held
from secagg.prg import KEY_BYTES, Stream, derive_key
from secagg.wire import Message


class RefreshSeed(Message, frozen=True):
    """One party's contribution to the stream of zeros."""

    seed: bytes


async def refresh(channel: Channel, kept: Sequence[tuple[Group, Held]]) -> list[Held]:
    """Return fresh shares of the same secrets, in the same order at all three.

    Raises:
      RemoteProtocolError: a seed of a wrong length.
    """
    party = channel.party
    seeds = {party.me: party.rng.bytes(KEY_BYTES)}
    for peer in (channel.previous, channel.next):
        party.send(peer, RefreshSeed(seeds[party.me]))
    for peer, message in (await party.gather(RefreshSeed, (channel.previous, channel.next))).items():
        if len(message.seed) != KEY_BYTES:
            raise RemoteProtocolError(
                f"expected a seed of {KEY_BYTES} bytes from {peer}, got {len(message.seed)}", peer=peer
            )
        seeds[peer] = message.seed
    secret = b"".join(seeds[name] for name in channel.computing)
    stream = Stream(derive_key(secret, label="secagg.mpc.three/refresh", context=party.session))
    fresh: list[Held] = []
    for group, (own, following) in kept:
        zeros = [group.draw(stream, own.shape) for _ in range(2)]
        zeros.append(group.subtract(np.zeros(own.shape, group.dtype), group.add(*zeros)))
        i = channel.index
        fresh.append((group.add(own, zeros[i]), group.add(following, zeros[(i + 1) % 3])))
    return fresh
