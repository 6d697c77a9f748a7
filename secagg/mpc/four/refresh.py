"""Fresh shares of secrets that a run goes on with, among four of whom one may lie: a sharing of zero is added to them.

1. Everybody broadcasts a seed (`broadcast`), so that all honest parties take the same four.
2. From them comes one stream, from which all draw z_0, z_1, z_2, and z_3 is what makes the sum zero. P_i adds z_j to x_j for
   the three j that it holds.
3. Every two parties compare digests of the two shares that both hold. Shares are uniform, and both know them, so a digest
   tells nothing.

Honest parties held the same shares when they kept them, for a check came before (`checkpoints.keep`). So a party whose
digest differs from this one's did not bring what it kept: it is named.

A sharing of zero is known to all who hold shares of it; see `three.refresh` for why that does not matter.

Threat model: that of `engine`. Learns: nobody anything. Cost: 3 rounds; no payload.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

import numpy as np

from secagg.errors import CheatingError
from secagg.mpc.four.broadcast import PARTIES, echo, tell
from secagg.mpc.four.channel import Channel
from secagg.mpc.four.keys import LABEL
from secagg.mpc.four.shares import Held, total
from secagg.mpc.groups import Array, Group
from secagg.prg import KEY_BYTES, Stream, derive_key
from secagg.signing import digest
from secagg.wire import Message


class RefreshedShares(Message, frozen=True):
    """Digests of the two shares that sender and receiver both hold, in the order of the shares."""

    digests: tuple[bytes, bytes]


async def refresh(channel: Channel, kept: Sequence[tuple[Group, Held]]) -> list[Held]:
    """Return fresh shares of the same secrets, in the same order at all four.

    Raises:
      CheatingError: a party told others different seeds, or brought other shares than it kept.
    """
    party, computing = channel.party, channel.computing
    heard = await tell(party, computing, party.rng.bytes(KEY_BYTES))
    agreement = await echo(party, computing, heard)
    if agreement.dissent:
        raise CheatingError.naming(
            [computing[j] for j in agreement.dissent], "they differ on what one told the other"
        )
    for j, value in enumerate(agreement.values):
        if value is None or len(value) != KEY_BYTES:
            raise CheatingError.naming([computing[j]], "it sent no seed for fresh shares")
    secret = b"".join(value or b"" for value in agreement.values)
    stream = Stream(derive_key(secret, label=f"{LABEL}/refresh", context=party.session))
    fresh: list[Held] = []
    for group, held in kept:
        shape = next(iter(held.values())).shape
        zeros = [group.draw(stream, shape) for _ in range(PARTIES - 1)]
        zeros.append(group.subtract(np.zeros(shape, group.dtype), total(group, zeros)))
        fresh.append({j: group.add(part, zeros[j]) for j, part in held.items()})
    await _compare(channel, fresh)
    return fresh


async def _compare(channel: Channel, fresh: Sequence[Held]) -> None:
    """Compare with each other party what both hold."""
    party = channel.party
    mine = {j: _digest(party.session, j, [held[j] for held in fresh]) for j in channel.others}
    peers = {channel.computing[k]: [j for j in channel.others if j != k] for k in channel.others}
    for peer, (first, second) in peers.items():
        party.send(peer, RefreshedShares((mine[first], mine[second])))
    for peer, message in (await party.gather(RefreshedShares, list(peers))).items():
        expected = b"".join(mine[j] for j in peers[peer])
        if not hmac.compare_digest(expected, b"".join(message.digests)):
            raise CheatingError.naming(
                [peer], f"it goes on with other shares than it and {party.me} had kept"
            )


def _digest(session: bytes, share: int, arrays: Sequence[Array]) -> bytes:
    parts = [np.ascontiguousarray(array).tobytes() for array in arrays]
    return digest(f"{LABEL}/refreshed", [session, bytes([share]), *parts])
