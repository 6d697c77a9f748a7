"""What a worker of a server of masked sums does: one task of an arc of clients, or of a slice of coordinates.

It speaks to nobody. What it needs is in its task and in files of the server's.
"""

from __future__ import annotations

import resource
from typing import Final

import msgspec

from secagg import wire
from secagg.errors import SecaggError, UsageError
from secagg.jobs.shards.workers import check_release
from secagg.network.memory import peak_bytes
from secagg.protocols.masked_sum import arcs

_TASKS: Final = {kind.KIND: kind for kind in (arcs.Check, arcs.Relay, arcs.Unmask, arcs.Expand)}


class Ordered(msgspec.Struct, frozen=True, array_like=True):
    """A task as bytes: the release that it is of, its kind, its content, and how much address space it may take."""

    release: str
    kind: str
    content: bytes
    memory_bytes: int | None

    def __repr__(self) -> str:
        return f"<{self.kind} of a sum>"


class Done(msgspec.Struct, frozen=True, array_like=True):
    """What came of a task, as bytes: an answer's kind and content, or an error's; and the most memory that was in use."""

    kind: str
    content: bytes
    peak_bytes: int
    error: str = ""
    text: str = ""
    peer: str = ""

    def __repr__(self) -> str:
        return f"<{self.kind or self.error} of a sum>"


def run(task: bytes) -> bytes:
    """Do a task and return what came of it."""
    told = msgspec.msgpack.decode(task, type=Ordered)
    if told.memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (told.memory_bytes, told.memory_bytes))
    try:
        check_release(told.release)
        work = wire.from_bytes(told.content, _TASKS[told.kind])
        if not isinstance(work, arcs.Task):
            raise UsageError(f"expected a task of a sum, got {told.kind}")
        answer = arcs.do(work)
        done = Done(answer.KIND, wire.to_bytes(answer), peak_bytes())
    except SecaggError as error:
        done = Done("", b"", peak_bytes(), type(error).__name__, str(error), getattr(error, "peer", ""))
    return msgspec.msgpack.encode(done)
