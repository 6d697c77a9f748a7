"""The server's side of one sum: who is ready, the steps of the masked protocol over Flower's grid, the means."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from flwr.app import Message
from flwr.serverapp import Grid

from secagg import wire
from secagg.errors import RemoteProtocolError, ShapeError, TooFewPartiesError
from secagg.integrations.flower import messages as m
from secagg.integrations.flower.layout import Coder, Layout, Means
from secagg.integrations.flower.terms import LABEL, NONCE_BYTES, Agreement, ready_parts
from secagg.party import PartyId
from secagg.protocols.masked import Consent, Keys, MaskedInput, MaskedSum, Server, Shares, Unmasking
from secagg.signing import verify

# How much longer than the server waits a message is valid: clocks differ, and a node that comes back should not find
# a message of a sum that is over.
_CLOCKS_S: Final = 60.0
_log = logging.getLogger("flwr.secagg")
W = TypeVar("W", bound=wire.Message)


@dataclass(frozen=True, slots=True)
class SumReport:
    """What became of one sum.

    Attributes:
      kind: "train" or "evaluate".
      server_round: of the strategy.
      contributors: whose updates are in the mean.
      missed: whoever else was asked, and why it is not in it or what it did wrong; nodes that never said their name by
        number.
      weight: the sum of weights; 0 if nothing was opened.
      clipped: how many values were clipped at all contributors together.
      bits: of one number as it was sent.
      error: bound on the error of the arrays' means (of the metrics', in evaluations), that of clipping aside.
      failure: why nothing was opened, or "".
      seconds: from the last reply to the task on.
    """

    kind: str
    server_round: int
    contributors: tuple[PartyId, ...] = ()
    missed: Mapping[str, str] = field(default_factory=dict)
    weight: int = 0
    clipped: int = 0
    bits: int = 0
    error: float = 0.0
    failure: str = ""
    seconds: float = 0.0


class _Node(NamedTuple):
    """A client that is ready."""

    name: PartyId
    node_id: int
    nonce: bytes
    layout: bytes


class Collection:
    """One sum over the nodes that were sent a task.

    Args:
      grid: Flower's.
      asked: the messages that were sent, by node.
      kind: "train" or "evaluate".
      task: as it was sent.
      peers: public keys by name.
      timeout_s: how long a step may take.
      poll_s: how often it is looked for answers.
    """

    def __init__(
        self,
        grid: Grid,
        asked: Mapping[int, Message],
        *,
        kind: str,
        task: m.Task,
        peers: Mapping[PartyId, bytes],
        timeout_s: float,
        poll_s: float,
    ) -> None:
        self._grid, self._asked, self._kind = grid, asked, kind
        self._task, self._peers = task, peers
        self._timeout_s, self._poll_s = timeout_s, poll_s
        self._nodes: dict[PartyId, _Node] = {}
        self.missed: dict[str, str] = {}
        self.bits = 0

    def node_id(self, client: PartyId) -> int:
        """Return a client's number in Flower."""
        return self._nodes[client].node_id

    def run(self, replies: Iterable[Message]) -> tuple[Means, MaskedSum]:
        """Return the means, and who is in them.

        Raises:
          TooFewPartiesError: too few nodes stayed; nothing was opened.
          PlanError: too few nodes for the protection, or sums that fit no ring.
          RemoteProtocolError: shares that fit nobody's published keys.
          RangeError: weights that add up to nothing.
        """
        run_id = self._take_ready(replies)
        nodes = [self._nodes[name] for name in sorted(self._nodes)]
        if len(nodes) < 2:
            raise TooFewPartiesError(f"expected at least 2 nodes ready for a sum, got {len(nodes)}")
        crowd = m.Crowd(tuple(n.name for n in nodes), tuple(n.nonce for n in nodes))
        coder = Coder(wire.from_bytes(nodes[0].layout, Layout), self._task.encoding, len(nodes))
        self.bits = coder.ring.bits
        agreement = Agreement(
            run_id, self._kind, wire.to_bytes(self._task), nodes[0].layout, crowd.names, crowd.nonces
        )
        where = agreement.round(self._peers, self._task.protection, coder)
        _log.info(
            "protected %s: %s; %d values of %d bits",
            self._kind,
            where.terms.parameters,
            coder.length,
            self.bits,
        )
        server = Server(where)
        self._exchange(m.KEYS, dict.fromkeys(crowd.names, crowd), Keys, server.take_keys)
        self._exchange(m.SHARES, server.close_keys(), Shares, server.take_shares)
        self._exchange(m.INPUT, server.close_shares(), MaskedInput, server.take_input)
        request: wire.Message = server.close_inputs()
        if where.terms.active:
            self._exchange(m.CONSENT, dict.fromkeys(server.included, request), Consent, server.take_consent)
            request = server.close_consents()
        self._exchange(m.UNMASK, dict.fromkeys(server.included, request), Unmasking, server.take_answer)
        summed = server.finish()
        for liar in summed.liars:
            self._miss(liar, "sent wrong shares of others' secrets")
        total = coder.ring.to_signed(summed.total)
        return coder.decode(total, summed.contributors, self._task.weight_key), summed

    def _take_ready(self, replies: Iterable[Message]) -> int:
        """Take the replies to the task; return the run's number."""
        run_id, answered = 0, set()
        ready: list[_Node] = []
        for reply in replies:
            node_id, run_id = reply.metadata.src_node_id, reply.metadata.run_id
            answered.add(node_id)
            try:
                ready.append(self._ready(reply, node_id))
            except RemoteProtocolError as error:
                self._miss(f"node {node_id}", str(error))
        for node_id in self._asked.keys() - answered:
            self._miss(f"node {node_id}", "did not answer in time")
        layouts = Counter(node.layout for node in ready)
        usual = max(layouts, key=layouts.__getitem__, default=b"")
        for node in ready:
            if node.layout != usual:
                self._miss(node.name, "its reply holds other arrays or metrics than most others'")
            elif node.name in self._nodes:
                self._miss(f"node {node.node_id}", f"is the second that uses {node.name}'s identity key")
            else:
                self._nodes[node.name] = node
        return run_id

    def _ready(self, reply: Message, node_id: int) -> _Node:
        peer = f"node {node_id}"
        ready = wire.from_bytes(_frame(reply, m.TASK, peer), m.Ready, peer=peer)
        if node_id not in self._asked or ready.name not in self._peers or len(ready.nonce) != NONCE_BYTES:
            raise RemoteProtocolError(
                f"expected a node that was asked and whose public key is registered, got {ready.name!r:.80} at {peer}",
                peer=peer,
            )
        key = Ed25519PublicKey.from_public_bytes(self._peers[ready.name])
        parts = ready_parts(reply.metadata.run_id, self._kind, ready.nonce, ready.layout)
        verify(key, ready.signature, f"{LABEL}/ready", parts, peer=ready.name)
        try:
            wire.from_bytes(ready.layout, Layout, peer=peer).check()
        except ShapeError as error:
            raise RemoteProtocolError(f"{error}, from {ready.name}", peer=ready.name) from None
        return _Node(ready.name, node_id, ready.nonce, ready.layout)

    def _exchange(
        self,
        step: str,
        messages: Mapping[PartyId, wire.Message],
        kind: type[W],
        use: Callable[[PartyId, W], None],
    ) -> None:
        """Send each client its message, and use the answers as they come, until all are there or time is over."""
        outgoing = [self._message(step, name, message) for name, message in messages.items()]
        pushed = set(self._grid.push_messages(outgoing))
        waiting = {
            sent.metadata.message_id: name
            for sent, name in zip(outgoing, messages, strict=True)
            if sent.metadata.message_id in pushed
        }
        names = set(waiting.values())
        for name in messages.keys() - names:
            self._miss(name, f"could not be asked for {step}")
        deadline = time.monotonic() + self._timeout_s
        while waiting:
            for reply in self._grid.pull_messages(list(waiting)):
                client = waiting.pop(reply.metadata.reply_to_message_id, None)
                if client is None:
                    continue
                try:
                    use(client, wire.from_bytes(_frame(reply, step, client), kind, peer=client))
                except RemoteProtocolError as error:
                    self._miss(client, str(error))
            if waiting:
                if time.monotonic() >= deadline:
                    break
                time.sleep(self._poll_s)
        for name in waiting.values():
            self._miss(name, f"did not answer to {step} within {self._timeout_s:g} s")

    def _message(self, step: str, client: PartyId, message: wire.Message) -> Message:
        asked = self._asked[self._nodes[client].node_id].metadata
        return Message(
            m.pack(step, message),
            asked.dst_node_id,
            asked.message_type,  # for which the app has a function, and so the mod is called
            ttl=self._timeout_s + _CLOCKS_S,
            group_id=asked.group_id,
        )

    def _miss(self, who: str, why: str) -> None:
        _log.warning("protected %s: %s: %s", self._kind, who, why)
        self.missed.setdefault(who, why)


def _frame(reply: Message, step: str, peer: str) -> bytes:
    if reply.has_error():
        raise RemoteProtocolError(f"failed at {step}: {reply.error.reason}", peer=peer)
    got = m.unpack(reply.content, peer=peer)
    if got.name != step or len(reply.content) != 1:
        raise RemoteProtocolError(
            f"expected an answer to {step} alone from {peer}, got {got.name!r:.20}", peer=peer
        )
    return got.frame
