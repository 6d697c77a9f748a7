"""The streams that a pair of computing parties has in common, one for each purpose."""

from __future__ import annotations

import enum

from secagg.mpc.streams import Streams


@enum.unique
class Purpose(enum.Enum):
    """What a pair of computing parties draws from its secret for; each purpose has a stream of its own."""

    INPUT = "input"
    AND = "and"
    MUL = "mul"
    TRUNC = "trunc"
    COMPARE = "compare"
    CONVERT = "convert"
    SHUFFLE = "shuffle"
    SHUFFLE_ORDER = "shuffle/order"


class PairStreams(Streams[Purpose]):
    """The streams that one pair of computing parties has in common, one for each `Purpose`."""

    __slots__ = ()

    label = "secagg.mpc.three"
    purposes = Purpose
    whose = "a pair"

    @property
    def position(self) -> int:
        """Bytes drawn from all streams together: equal at both holders when they are in step."""
        return sum(stream.position for stream in self._streams.values())
