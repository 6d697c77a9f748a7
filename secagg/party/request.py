"""What a protocol asks a driver for: messages of a kind from several peers, each with a bound on its length."""

from __future__ import annotations

import math
from collections.abc import Collection, Generator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secagg import wire
from secagg.errors import RemoteProtocolError
from secagg.party.roster import PartyId
from secagg.wire import SMALL_BYTES, Lane, M, Message


@dataclass(slots=True, eq=False)
class Gather(Generic[M]):
    """A request for one message of a kind from each of several peers; awaiting it returns them by peer.

    first: return as soon as one peer has answered. `peers` is then a dictionary that loses who has answered, and `missing`
      is kept between waits. So a wait costs the same for any number of peers.
    continued: time runs on from the wait before this one.
    limit: the longest frame that may answer, in bytes.
    sent_before: kinds of messages that a peer waits for only once it has answered, by `Message.TAG`.
    missing: who has neither answered nor failed.
    answered: whether a `first` request has its answer.
    """

    kind: type[M]
    peers: Collection[PartyId]
    quorum: int | None
    lane: Lane
    phase: str
    timeout_s: float | None
    first: bool = False
    continued: bool = False
    limit: int = wire.MAX_FRAME_BYTES
    sent_before: frozenset[int] = frozenset()
    missing: set[PartyId] = field(default_factory=set)
    answered: bool = False

    @property
    def waits(self) -> bool:
        """Whether an answer is needed that can still come."""
        return bool(self.missing) and not self.answered

    def has(self, peer: PartyId) -> None:
        """Take note that a peer has answered."""
        if not self.first:
            self.missing.discard(peer)
        elif peer in self.peers:
            self.answered = True

    def __await__(self) -> Generator[Wait, list[dict[PartyId, M]], dict[PartyId, M]]:
        return (yield (self,))[0]


Wait: TypeAlias = tuple[Gather[Any], ...]


def limit_of(kind: type[Message], max_bytes: int | None) -> int:
    """Return the longest frame of a kind that is taken."""
    if max_bytes is None:
        return wire.MAX_FRAME_BYTES if wire.carries_arrays(kind) else SMALL_BYTES
    return SMALL_BYTES + max_bytes


def array_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return how many bytes an array takes in a message."""
    return math.prod(shape) * dtype.itemsize


def check_array(array: NDArray[Any], shape: tuple[int, ...], *, what: str, peer: PartyId) -> NDArray[Any]:
    """Return the array a peer sent if it has the shape that this point of the protocol expects.

    Raises:
      RemoteProtocolError: it has another.
    """
    if array.shape != shape:
        raise RemoteProtocolError(
            f"expected {what} of shape {shape} from {peer}, got {array.shape}", peer=peer
        )
    return array
