"""Two parties with a list each: what both know beforehand, the lists as points, and what comes from the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RemoteProtocolError, UsageError
from secagg.party import Party, PartyId, check_array
from secagg.protocols.intersection.curve import POINT_BYTES, SCALAR_BYTES, Blinding, hash_to_curve
from secagg.wire import Message

_DST: Final = b"secagg.protocols.intersection-V01-CS01-with-curve25519_XMD:SHA-512_ELL2_NU_"
_REAL: Final = b"\x01"  # before an identifier; before the random bytes of padding stands another
_PADDING: Final = b"\x00"
_PADDING_BYTES: Final = 32


class Blinded(Message, frozen=True):
    """Each side -> the other: its own list under its own scalar, in random order; shape (n, 32)."""

    points: NDArray[np.uint8]


class Doubled(Message, frozen=True):
    """Each side -> a recipient: the recipient's list under both scalars; shape (n, 32)."""

    points: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Sides:
    """Who takes part with how long a list, and who is told.

    Attributes:
      lengths: of both lists, padding included.
      recipients: one of the two or both.

    Raises:
      UsageError: another number of parties than two, a length below 0, or a recipient who is none of them.
    """

    lengths: dict[PartyId, int]
    recipients: tuple[PartyId, ...]

    def __post_init__(self) -> None:
        if len(self.lengths) != 2 or min(self.lengths.values()) < 0:
            raise UsageError(f"expected two parties with lists of 0 rows or more, got {self.lengths}")
        if not self.recipients or not set(self.recipients) <= set(self.lengths):
            raise UsageError(
                f"expected one or both of {', '.join(self.lengths)} as recipients, got {self.recipients}"
            )

    def other(self, me: PartyId) -> PartyId:
        """Return the other side; `UsageError` for somebody who is no side."""
        if me not in self.lengths:
            raise UsageError(f"expected one of {', '.join(self.lengths)}, got {me!r}")
        return next(name for name in self.lengths if name != me)


class OwnList:
    """A party's own list under its own scalar, in random order.

    Args:
      identifiers: in UTF-8, all different.

    Raises:
      UsageError: more identifiers than were announced, or one of them twice.
    """

    __slots__ = ("blinding", "order", "points")

    def __init__(self, party: Party, sides: Sides, identifiers: Sequence[bytes]) -> None:
        size = sides.lengths[party.me]
        if len(identifiers) > size or len(set(identifiers)) < len(identifiers):
            raise UsageError(
                f"expected at most {size} different identifiers, got {len(identifiers)}, "
                f"{len(set(identifiers))} of them different"
            )
        missing = size - len(identifiers)
        drawn = party.rng.bytes(_PADDING_BYTES * missing)
        messages = [_REAL + one for one in identifiers]
        messages += [_PADDING + drawn[i * _PADDING_BYTES :][:_PADDING_BYTES] for i in range(missing)]
        self.blinding = Blinding(party.rng.bytes(SCALAR_BYTES))
        self.order: NDArray[np.int64] = party.rng.permutation(size)
        shuffled = [messages[i] for i in self.order.tolist()]
        # The session is in the tag: points of two runs do not match, whatever the scalars.
        self.points = self.blinding.blind(hash_to_curve(shuffled, _DST + party.session))


async def exchange(party: Party, sides: Sides, own: OwnList) -> NDArray[np.uint8]:
    """Send this party's list, and return the other's; see `heard`."""
    party.send(sides.other(party.me), Blinded(own.points))
    return await heard(party, sides, own)


async def heard(party: Party, sides: Sides, own: OwnList) -> NDArray[np.uint8]:
    """Return the other side's list, under both scalars, in the order in which it came.

    Raises:
      RemoteProtocolError: a list of another length, with a point of small order, or with one identifier twice.
    """
    peer = sides.other(party.me)
    size = sides.lengths[peer]
    message = await party.receive(Blinded, peer, max_bytes=POINT_BYTES * size)
    doubled = own.blinding.blind(_points(message.points, size, peer), peer=peer)
    # Under both scalars: before, two points may differ by one of small order, which blinding takes away.
    if len(set(_keys(doubled))) < size:
        raise RemoteProtocolError(
            f"{peer} put in an identifier twice, which its program does not do; nothing is reported; ask {peer} what it "
            "runs",
            peer=peer,
        )
    return doubled


async def returned(party: Party, sides: Sides) -> NDArray[np.uint8]:
    """Return this party's own list under both scalars, as the other side sent it back."""
    peer, size = sides.other(party.me), sides.lengths[party.me]
    message = await party.receive(Doubled, peer, max_bytes=POINT_BYTES * size)
    return _points(message.points, size, peer)


def shuffled(party: Party, points: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return points in random order."""
    return points[party.rng.permutation(len(points))]


def matches(points: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which of `points` are among the others; both under both scalars."""
    known = set(_keys(others))
    return np.fromiter((key in known for key in _keys(points)), np.bool_, len(points))


def _keys(points: NDArray[np.uint8]) -> list[bytes]:
    octets = points.tobytes()
    return [octets[i : i + POINT_BYTES] for i in range(0, len(octets), POINT_BYTES)]


def _points(points: NDArray[Any], size: int, peer: PartyId) -> NDArray[np.uint8]:
    return check_array(points, (size, POINT_BYTES), what="a list of points", peer=peer)
