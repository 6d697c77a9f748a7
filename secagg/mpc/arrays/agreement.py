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
_PATIENCE_S: Final = 10.0  # a party whose digest was no different does not take part in the search


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
    """Digests differ; caught where the graph is at hand.

    Args:
      peers: whose digests are not this party's.
    """

    def __init__(self, peers: Sequence[PartyId]) -> None:
        super().__init__(peers)
        self.peers = tuple(peers)


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
    if differing := [peer for peer, message in theirs.items() if message.digest != digest]:
        raise GraphsDifferError(differing)


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
    party: Party,
    peers: Sequence[PartyId],
    nodes: Sequence[Node],
    receivers: Sequence[Sequence[PartyId]],
) -> None:
    """Find where the graphs part, and raise the error that says so.

    Args:
      peers: whose digests differ from this party's. One that lied in its digest need not answer.
      nodes: what this party was about to work out, in the order in which it was made.

    Raises:
      UsageError: the line of this party's program, and what stands there in others'.
    """
    mine = np.array([int.from_bytes(node.digest[:8], "little") for node in nodes], np.uint64)
    for peer in peers:
        party.send(peer, GraphNodes(mine))
    got = await party.gather(GraphNodes, peers, quorum=0, timeout_s=_PATIENCE_S, max_bytes=8 * _MOST_NODES)
    at = {peer: _first_difference(mine, message.digests) for peer, message in got.items()}
    for peer, i in at.items():
        party.send(peer, GraphNode(_describe(nodes, receivers, i, full=False)))
    theirs = await party.gather(GraphNode, at, quorum=0, timeout_s=_PATIENCE_S)
    here = _describe(nodes, receivers, next(iter(at.values()), None), full=True)
    said = [
        f"{peer} {theirs[peer].text[:_TEXT] if peer in theirs else 'does not say where'}" for peer in peers
    ]
    raise UsageError(
        f"the parties' programs part: {party.me} {here}; {'; '.join(said)}; nothing is opened. Let all computing parties "
        "run one program, whose operations depend on public values alone"
    ) from None


def _first_difference(mine: Any, theirs: Any) -> int | None:
    """Return the place of the first node that is not the same; None if all are."""
    if theirs.dtype != np.uint64 or theirs.ndim != 1:
        return 0
    n = min(mine.size, theirs.size)
    different = np.flatnonzero(mine[:n] != theirs[:n])
    if different.size:
        return int(different[0])
    return n if mine.size != theirs.size else None


def _describe(
    nodes: Sequence[Node], receivers: Sequence[Sequence[PartyId]], at: int | None, *, full: bool
) -> str:
    """Return what stands at a place of a graph; peers are told a file's name and not where it lies."""
    if at is None or at >= len(nodes):
        text = (
            f"opens {len(receivers)} arrays to {', '.join(sorted({name for to in receivers for name in to}))}"
        )
        line = nodes[-1].line if nodes else None
    else:
        text = f"has {nodes[at].kernel.name} with result {nodes[at].shape} of {nodes[at].dtype}"
        line = nodes[at].line
    if line is None:
        return text[:_TEXT]
    return f"{text[: _TEXT // 2]} at {line if full else line.brief}"[:_TEXT]
