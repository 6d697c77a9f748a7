"""Whether all computing parties open the same thing: digests of graphs, and the line where two graphs part.

Before it works out what an opening needs, each computing party sends the others a digest of that part of its graph. The
first level's messages leave in the same round, but no party reads them before it has compared the digests. So the
comparison costs a short message to each other party and no round. What a digest covers is public: the operations, shapes
and public numbers of a program, and who is to learn the result.

If digests differ, the parties exchange those of the single nodes, and each says where its program parts from another's.
"""

from __future__ import annotations

import hashlib
import types
from collections.abc import Generator, Sequence
from typing import Any, Final

import numpy as np

from secagg.errors import RemoteProtocolError, UsageError
from secagg.mpc.arrays.graph import Node
from secagg.party import Computation, Party, PartyId
from secagg.party.request import Wait
from secagg.wire import Message

DIGEST_BYTES: Final = 16
_MOST_NODES: Final = 1 << 20
_TEXT: Final = 400  # characters of a description


class GraphDigest(Message, frozen=True):
    """What a party is about to open: digest of all it is computed from."""

    digest: bytes


class GraphNodes(Message, frozen=True):
    """The nodes of a party's graph in the order in which it made them: 8 bytes of each digest."""

    digests: np.ndarray[Any, np.dtype[np.uint64]]


class GraphNode(Message, frozen=True):
    """The operation and the line at which a party's graph parts from the receiver's."""

    text: str


class GraphsDifferError(Exception):
    """Digests differ; caught where the graph is at hand."""


def digest_of(targets: Sequence[Node], receivers: Sequence[Sequence[PartyId]]) -> bytes:
    """Return the digest of an opening: each target with its receivers."""
    content = hashlib.blake2b(digest_size=DIGEST_BYTES, usedforsecurity=False)
    for node, to in zip(targets, receivers, strict=True):
        content.update(node.digest + repr(tuple(to)).encode())
    return content.digest()


async def compare(party: Party, computing: Sequence[PartyId], digest: bytes) -> None:
    """Compare what the computing parties are about to open.

    Raises:
      GraphsDifferError: two parties are about to open different things.
      RemoteProtocolError: a digest of a wrong length.
    """
    others = [peer for peer in computing if peer != party.me]
    for peer in others:
        party.send(peer, GraphDigest(digest))
    theirs = await party.gather(GraphDigest, others)
    for peer, message in theirs.items():
        if len(message.digest) != DIGEST_BYTES:
            raise RemoteProtocolError(
                f"expected a digest of {DIGEST_BYTES} bytes from {peer}, got {len(message.digest)}", peer=peer
            )
    if any(message.digest != digest for message in theirs.values()):
        raise GraphsDifferError


@types.coroutine
def held_back(computation: Computation[Any]) -> Generator[Wait, list[dict[PartyId, Any]], Any]:
    """Run a computation, but let what runs beside it read its messages before this one does."""
    try:
        wait = computation.send(None)  # type: ignore[arg-type]  # how a coroutine starts
    except StopIteration as stop:
        return stop.value
    try:
        yield ()
        while True:
            got = yield wait
            wait = computation.send(got)
    except StopIteration as stop:
        return stop.value
    finally:
        computation.close()


async def part(
    party: Party, computing: Sequence[PartyId], nodes: Sequence[Node], receivers: Sequence[Sequence[PartyId]]
) -> None:
    """Find where the graphs part, and raise the error that says so.

    Raises:
      UsageError: the line of this party's program, and what stands there in another's.
    """
    others = [peer for peer in computing if peer != party.me]
    mine = np.array([int.from_bytes(node.digest[:8], "little") for node in nodes], np.uint64)
    for peer in others:
        party.send(peer, GraphNodes(mine))
    got = await party.gather(GraphNodes, others, max_bytes=8 * _MOST_NODES)
    at = {peer: _first_difference(mine, message.digests) for peer, message in got.items()}
    texts = {peer: _describe(nodes, receivers, i) for peer, i in at.items()}
    for peer in others:
        party.send(peer, GraphNode(texts[peer]))
    theirs = await party.gather(GraphNode, others)
    differ = [peer for peer in others if at[peer] is not None] or others
    said = [f"{peer} {theirs[peer].text[: 2 * _TEXT]}" for peer in differ]
    raise UsageError(
        f"the parties' programs part: {party.me} {texts[differ[0]]}; {'; '.join(said)}; nothing is opened. Let all "
        "computing parties run one program, whose operations depend on public values alone"
    )


def _first_difference(mine: Any, theirs: Any) -> int | None:
    if theirs.dtype != np.uint64 or theirs.ndim != 1:
        return 0
    n = min(mine.size, theirs.size)
    different = np.flatnonzero(mine[:n] != theirs[:n])
    if different.size:
        return int(different[0])
    return n if mine.size != theirs.size else None


def _describe(nodes: Sequence[Node], receivers: Sequence[Sequence[PartyId]], at: int | None) -> str:
    if at is None or at >= len(nodes):
        last = f" after {nodes[-1].line}" if nodes else ""
        return f"opens to {', '.join(map(repr, receivers))}{last}"[:_TEXT]
    node = nodes[at]
    return f"has {node.kernel.name} with result {node.shape} of {node.dtype} at {node.line}"[-_TEXT:]
