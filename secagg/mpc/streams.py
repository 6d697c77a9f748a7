"""The streams that a pair of computing parties has in common, one for each purpose."""

from __future__ import annotations

import enum
import os

from secagg.errors import UsageError
from secagg.prg import Stream, check_process, derive_key


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


class PairStreams:
    """The streams that one pair of computing parties has in common, one for each `Purpose`."""

    __slots__ = ("_context", "_pid", "_secret", "_streams")

    def __init__(self, secret: bytes, context: bytes) -> None:
        self._pid = os.getpid()
        self._secret = secret
        self._context = context
        self._streams: dict[Purpose, Stream] = {}

    def __repr__(self) -> str:
        return f"<PairStreams for {', '.join(purpose.value for purpose in self._streams) or 'nothing yet'}>"

    def __getitem__(self, purpose: Purpose) -> Stream:
        stream = self._streams.get(purpose)
        if stream is None:
            if not isinstance(purpose, Purpose):  # another text would be another stream at this party alone
                raise UsageError(f"expected one of {', '.join(map(str, Purpose))}, got {purpose!r:.40}")
            check_process(self._pid, "the secret of a pair")
            key = derive_key(self._secret, label=f"secagg.mpc.engine/{purpose.value}", context=self._context)
            stream = self._streams[purpose] = Stream(key)
        return stream

    @property
    def position(self) -> int:
        """Bytes drawn from all streams together: equal at both holders when they are in step."""
        return sum(stream.position for stream in self._streams.values())
