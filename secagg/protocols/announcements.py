"""What input parties announced, compared by everybody: nobody told two parties different things.

An input party announces once, to everybody. Then everybody tells everybody the digests of what it was told (`check_heard`).
Who told what cannot be proven: nothing is signed. Computing parties keep to the protocol, as everywhere, so where a
computing party's word stands against an input party's, that one is named. Where two input parties' words differ nobody is
named as the error's peer, whatever a majority says: input parties may lie together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from secagg.errors import RemoteProtocolError
from secagg.party import PartyId
from secagg.signing import DIGEST_BYTES

SALT_BYTES: Final = 32  # of a commitment to rows


def check_digests(commitment: bytes, contribution: bytes, peer: PartyId) -> None:
    """Raise `RemoteProtocolError` for a commitment or a digest of a contribution of another length."""
    if (len(commitment), len(contribution)) != (DIGEST_BYTES, DIGEST_BYTES):
        raise RemoteProtocolError(
            f"expected a commitment and a digest of {DIGEST_BYTES} bytes each from {peer}, got "
            f"{len(commitment)} and {len(contribution)}",
            peer=peer,
        )


def check_heard(
    me: PartyId,
    mine: Mapping[PartyId, bytes],
    heard: Mapping[PartyId, Sequence[bytes]],
    computing_parties: Sequence[PartyId],
    outcome: str = "nothing was computed",
) -> None:
    """Compare what everybody heard from the input parties.

    Args:
      mine: the digest of what each input party announced to this party, in the agreed order.
      heard: by peer, the digests of what they announced to it, in that order.
      outcome: what the error says of the run.

    Raises:
      RemoteProtocolError: somebody heard something else; see the module for who is named.
    """
    differ: list[tuple[PartyId, PartyId]] = []  # who announced, and who heard something else than this party
    for peer, digests in heard.items():
        if len(digests) != len(mine):
            raise RemoteProtocolError(
                f"expected {len(mine)} digests of announcements from {peer}, got {len(digests)}", peer=peer
            )
        differ += [(name, peer) for (name, a), b in zip(mine.items(), digests, strict=True) if a != b]
    if differ:
        raise _different(me, computing_parties, differ, outcome)


def _different(
    me: PartyId,
    computing_parties: Sequence[PartyId],
    differ: Sequence[tuple[PartyId, PartyId]],
    outcome: str,
) -> RemoteProtocolError:
    """Return the error that names who told different things, or says that it cannot be known."""
    # Each difference by itself: any number of input parties may lie, and together frame another.
    liars = [
        (_liar(me, computing_parties, announcer, heard), announcer, heard) for announcer, heard in differ
    ]
    who, announcer, heard = next((found for found in liars if found[0]), liars[0])
    what = f"{heard} says that {announcer} announced something else than what {announcer} announced to {me}"
    if announcer == me:
        what = f"{heard} says that {me} announced something else than it did"
    if who:
        return RemoteProtocolError(f"{what}; {outcome}; ask {who} what it runs", peer=who)
    return RemoteProtocolError(
        f"{what}; {announcer} told different things, or {heard} did, and {me} cannot know which; {outcome}"
    )


def _liar(me: PartyId, computing_parties: Sequence[PartyId], announcer: PartyId, heard: PartyId) -> PartyId:
    """Return which of two whose words differ does not keep to the protocol, or "" where that cannot be known."""
    if announcer in (me, heard):  # its own word, or two words of one party
        return heard
    trusted = set(computing_parties)
    if (announcer in trusted) == (heard in trusted):
        return ""
    return heard if announcer in trusted else announcer
