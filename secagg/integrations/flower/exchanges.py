"""The messages of one sum over Flower's grid: what nodes replied to the task, and the exchanges that follow."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from secagg.errors import RemoteProtocolError
from secagg.federated.messages import STALE, TASK
from secagg.federated.sum_server import Answers, SumUnderWay
from secagg.integrations.flower.messages import RECORD, open_reply, record

# How much longer than the server waits a message is valid. Clocks differ, and a node that comes back should not find a
# message of a sum that is over.
_CLOCKS_S: Final = 60.0


class GridExchanges:
    """What goes to and comes from the nodes of one sum; each node's address is "node" and its number in Flower.

    Args:
      grid: Flower's.
      asked: the messages with the task, by node.
      timeout_s: how long a step may take.
      poll_s: how often it is looked for answers.
    """

    def __init__(self, grid: Grid, asked: Mapping[int, Message], *, timeout_s: float, poll_s: float) -> None:
        self._grid, self._timeout_s, self._poll_s = grid, timeout_s, poll_s
        self._by_number = asked
        self._asked = {_address(node_id): message for node_id, message in asked.items()}

    def take_ready(self, current: SumUnderWay, replies: Iterable[Message]) -> None:
        """Let a sum have the replies to the task."""
        answered = set()
        by_message = {message.metadata.message_id: node_id for node_id, message in self._by_number.items()}
        for reply in replies:
            node_id = reply.metadata.src_node_id
            if reply.has_error():  # for a node that is gone the SuperLink answers, in its own name
                node_id = by_message.get(reply.metadata.reply_to_message_id, node_id)
            address = _address(node_id)
            answered.add(address)
            try:
                if address not in self._asked:
                    raise RemoteProtocolError("was not asked", peer=address)
                frame = open_reply(reply, TASK, address)
            except RemoteProtocolError as error:
                current.miss(address, str(error))
                continue
            current.take(address, frame)
        for address in self._asked.keys() - answered:
            current.miss(address, "did not answer in time")

    def ask(self, step: str, frames: Mapping[str, bytes]) -> Answers:
        """Send each node its frame, and yield the answers as they come, until all are there or time is over."""
        outgoing = [self._message(step, address, frame) for address, frame in frames.items()]
        pushed = set(self._grid.push_messages(outgoing))
        if step == STALE:  # what nodes answer to it is for their own logs
            return
        waiting = {
            sent.metadata.message_id: address
            for sent, address in zip(outgoing, frames, strict=True)
            if sent.metadata.message_id in pushed
        }
        for address in frames.keys() - set(waiting.values()):
            yield address, RemoteProtocolError(f"could not be asked for {step}", peer=address)
        yield from self._answers(step, waiting)

    def reply_of(self, address: str, content: RecordDict) -> Message:
        """Return a reply to the task of a node."""
        return Message(content, reply_to=self._asked[address])

    def _answers(
        self, step: str, waiting: dict[str, str]
    ) -> Iterator[tuple[str, bytes | RemoteProtocolError]]:
        deadline = time.monotonic() + self._timeout_s
        while waiting:
            for reply in self._grid.pull_messages(list(waiting)):
                address = waiting.pop(reply.metadata.reply_to_message_id, None)
                if address is None:
                    continue
                try:
                    yield address, open_reply(reply, step, address)
                except RemoteProtocolError as error:
                    yield address, error
            if waiting:
                if time.monotonic() >= deadline:
                    break
                time.sleep(self._poll_s)
        for address in waiting.values():
            why = f"did not answer to {step} within {self._timeout_s:g} s"
            yield address, RemoteProtocolError(why, peer=address)

    def _message(self, step: str, address: str, frame: bytes) -> Message:
        asked = self._asked[address].metadata
        return Message(
            RecordDict({RECORD: record(step, frame)}),
            asked.dst_node_id,
            asked.message_type,  # for which the app has a function, and so the mod is called
            ttl=self._timeout_s + _CLOCKS_S,
            group_id=asked.group_id,
        )


def _address(node_id: int) -> str:
    return f"node {node_id}"
