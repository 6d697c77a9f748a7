"""Streams that several parties have in common, one for each purpose."""

from __future__ import annotations

import enum
import os
from typing import ClassVar, Generic, TypeVar

from secagg.errors import UsageError
from secagg.prg import Stream, check_process, derive_key

P = TypeVar("P", bound=enum.Enum)


class Streams(Generic[P]):
    """The streams that several parties have in common, one for each purpose.

    Args:
      secret: what they agreed on.
      context: tells apart this secret's streams from those of others.
    """

    __slots__ = ("_context", "_pid", "_secret", "_streams")

    label: ClassVar[str]
    purposes: ClassVar[type[enum.Enum]]
    whose: ClassVar[str]

    def __init__(self, secret: bytes, context: bytes) -> None:
        self._pid = os.getpid()
        self._secret = secret
        self._context = context
        self._streams: dict[P, Stream] = {}

    def __repr__(self) -> str:
        named = ", ".join(purpose.value for purpose in self._streams)
        return f"<{type(self).__name__} for {named or 'nothing yet'}>"

    def __getitem__(self, purpose: P) -> Stream:
        stream = self._streams.get(purpose)
        if stream is None:
            if not isinstance(
                purpose, self.purposes
            ):  # another text would be another stream at this party alone
                raise UsageError(f"expected one of {', '.join(map(str, self.purposes))}, got {purpose!r:.40}")
            stream = self._streams[purpose] = Stream(self._derived(purpose.value))
        return stream

    def _derived(self, purpose: str) -> bytes:
        check_process(self._pid, f"the secret of {self.whose}")
        return derive_key(self._secret, label=f"{self.label}/{purpose}", context=self._context)
