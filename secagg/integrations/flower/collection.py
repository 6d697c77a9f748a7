"""The server's side of one sum: who is ready, the steps of the masked protocol over Flower's grid, the means."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from secagg import wire
from secagg.errors import RemoteProtocolError
from secagg.federated.layout import Means
from secagg.federated.messages import STALE, TASK
from secagg.federated.registration import Registration, read_ready
from secagg.federated.round import LEFT_OUT, OUT_OF_BOUNDS, ServerRound, SumRequest, admit
from secagg.integrations.flower.messages import open_reply, pack
from secagg.integrations.flower.records import Sent, arrange, baseline_of, to_records
from secagg.party import PartyId

# How much longer than the server waits a message is valid. Clocks differ, and a node that comes back should not find a
# message of a sum that is over.
_CLOCKS_S: Final = 60.0
_log = logging.getLogger("flwr.secagg")


class Collected(NamedTuple):
    """The mean of one sum as a reply's records, what it stands for, and who is in it."""

    records: RecordDict
    means: Means
    contributors: tuple[PartyId, ...]


class Collection:
    """One sum over the nodes that were sent a task.

    Args:
      grid: Flower's.
      job: what they were asked to do.
      asked: the messages that were sent, by node.
      sent: the arrays in each of them.
      peers: public keys by name.
      timeout_s: how long a step may take.
      poll_s: how often it is looked for answers.

    Attributes:
      missed: as in `SumReport`.
      current: None while nobody knows who takes part.
    """

    def __init__(
        self,
        grid: Grid,
        job: SumRequest,
        asked: Mapping[int, Message],
        sent: Sent,
        *,
        peers: Mapping[PartyId, bytes],
        timeout_s: float,
        poll_s: float,
    ) -> None:
        self._grid, self._job, self._asked, self._sent, self._peers = grid, job, asked, sent, peers
        self._timeout_s, self._poll_s = timeout_s, poll_s
        self._nodes: dict[PartyId, Registration] = {}
        self.missed: dict[str, str] = {}
        self.current: ServerRound | None = None

    def node_id(self, client: PartyId) -> int:
        """Return a client's number in Flower."""
        return self._nodes[client].node_id

    def run(self, replies: Iterable[Message]) -> Collected:
        """Return the means, and who is in them.

        Raises:
          TooFewPartiesError: too few nodes stayed; nothing was opened.
          PlanError: too few nodes for the protection, or sums that fit no ring.
          RemoteProtocolError: shares that fit nobody's published keys.
          RangeError: an update did not fit, or weights add up to nothing.
        """
        run_id = self._take_ready(replies)
        self.current = current = ServerRound(self._nodes, run_id, self._job, self._peers, log=_log)
        coder, task = current.coder, self._job.task
        _log.info(
            "protected %s: %s; %d values of %d bits",
            self._job.kind,
            current.where.terms.parameters,
            coder.length,
            coder.ring.bits,
        )
        for exchange in current.exchanges():
            self._exchange(*exchange)
        means, summed = current.finish(baseline_of(self._sent))
        for client in current.refused:
            self._miss(client, OUT_OF_BOUNDS)
        for client in summed.suspects:
            self._miss(client, "shares of others' secrets that it sent, or was dealt, did not fit the others")
        for client in summed.dropped:
            if client not in self.missed:
                self._miss(client, LEFT_OUT)
        records = to_records(current.layout, means.values, means.weight, task.weight_key)
        arranged = arrange(records, current.usual_order(), self._sent, task.encoding.leave_out)
        return Collected(arranged, means, summed.contributors)

    def _take_ready(self, replies: Iterable[Message]) -> int:
        """Take the replies to the task; return the run's number."""
        run_id, job, answered = 0, self._job, set()
        noisy = job.task.protection.privacy_of(job.kind) is not None
        ready: dict[PartyId, Registration] = {}
        by_message = {message.metadata.message_id: node_id for node_id, message in self._asked.items()}
        for reply in replies:
            node_id, run_id = reply.metadata.src_node_id, reply.metadata.run_id
            if reply.has_error():  # for a node that is gone the SuperLink answers, in its own name
                node_id = by_message.get(reply.metadata.reply_to_message_id, node_id)
            answered.add(node_id)
            try:
                if node_id not in self._asked:
                    raise RemoteProtocolError("was not asked", peer=f"node {node_id}")
                frame = open_reply(reply, TASK, f"node {node_id}")
                node = read_ready(frame, node_id, run_id, job.kind, self._peers, job.limits, noisy=noisy)
            except RemoteProtocolError as error:
                self._miss(f"node {node_id}", str(error))
                continue
            if node.name in ready:
                self._miss(f"node {node_id}", f"is the second that uses {node.name}'s identity key")
            else:
                ready[node.name] = node
        for node_id in self._asked.keys() - answered:
            self._miss(f"node {node_id}", "did not answer in time")
        if not ready:
            return run_id
        self._nodes, refused, stale = admit(ready, job, self._peers)
        for name, why in refused.items():
            self._miss(name, why)
        told = [self._message(STALE, ready[name].node_id, word) for name, word in stale.items()]
        if told:
            self._grid.push_messages(told)
        return run_id

    def _exchange(
        self,
        step: str,
        messages: Mapping[PartyId, wire.Message],
        kind: type[wire.Message],
        use: Callable[[PartyId, Any], None],
    ) -> None:
        """Send each client its message, and use the answers as they come, until all are there or time is over."""
        outgoing = [self._message(step, self.node_id(name), message) for name, message in messages.items()]
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
                    use(client, wire.from_bytes(open_reply(reply, step, client), kind, peer=client))
                except RemoteProtocolError as error:
                    self._miss(client, str(error))
            if waiting:
                if time.monotonic() >= deadline:
                    break
                time.sleep(self._poll_s)
        for name in waiting.values():
            self._miss(name, f"did not answer to {step} within {self._timeout_s:g} s")

    def _message(self, step: str, node_id: int, message: wire.Message) -> Message:
        asked = self._asked[node_id].metadata
        return Message(
            pack(step, message),
            asked.dst_node_id,
            asked.message_type,  # for which the app has a function, and so the mod is called
            ttl=self._timeout_s + _CLOCKS_S,
            group_id=asked.group_id,
        )

    def _miss(self, who: str, why: str) -> None:
        _log.warning("protected %s: %s: %s", self._job.kind, who, why)
        self.missed.setdefault(who, why)
