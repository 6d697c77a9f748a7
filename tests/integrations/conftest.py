"""Flower's nodes and sums played by hand, one message at a time, without its engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from secagg import wire

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
# flwr is an optional dependency; whoever asks for a fixture below has it.
if TYPE_CHECKING:
    from flwr.app import Context, Message, RecordDict

    from secagg.federated import messages as m
    from secagg.federated.layout import Coder, Layout
    from secagg.integrations.flower import Encoding, Protection, SecureMod
    from secagg.protocols.masked_sum import Server

NAMES = ("a", "b", "c", "d")
Numbers = Mapping[str, Any]
Reply = Callable[["RecordDict"], "RecordDict"]


def content_of(arrays: Numbers, **metrics: Any) -> RecordDict:
    """Return a reply."""
    from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict

    record = ArrayRecord({name: Array(np.asarray(value)) for name, value in arrays.items()})
    return RecordDict({"arrays": record, "metrics": MetricRecord({"num-examples": 2, **metrics})})


@dataclass
class Node:
    """A node, and what its app's function does."""

    mod: SecureMod
    context: Context
    reply: Reply
    run: int
    calls: int = 0

    def __call__(self, content: RecordDict, kind: str = "train", group: str = "") -> Message:
        from flwr.app import Metadata
        from flwr.app.message import make_message

        metadata = Metadata(self.run, "1", 1, self.context.node_id, "", group, 1e9, 1e9, kind)
        return self.take(make_message(metadata=metadata, content=content))

    def take(self, message: Message) -> Message:
        return self.mod(message, self.context, self._work)

    def _work(self, message: Message, context: Context) -> Message:
        from flwr.app import Message

        self.calls += 1
        assert "secagg" not in message.content
        return Message(self.reply(message.content), reply_to=message)


class Finished(NamedTuple):
    """Means as a reply's records, and what comes with them."""

    records: RecordDict
    weight: int
    error: float
    noise_std: float


@dataclass
class Sum:
    """A sum played by hand, one node at a time."""

    nodes: dict[str, Node]
    task: m.Task
    folder: Path
    sent: Numbers
    run: int
    ready: dict[str, m.Ready] = field(default_factory=dict)
    server: Server = field(init=False)
    coder: Coder = field(init=False)
    layout: Layout = field(init=False)
    kind: str = field(init=False)

    def ask(self, name: str, step: str, message: wire.Message, kind: str = "train") -> Message:
        from flwr.app import RecordDict

        from secagg.federated import messages as m
        from secagg.integrations.flower import messages as carrier

        content = carrier.pack(step, message)
        if step == m.TASK and self.sent:
            content = RecordDict({"arrays": content_of(self.sent)["arrays"], **content})
        return self.nodes[name](content, kind)

    def answer(
        self, name: str, step: str, message: wire.Message, kind: type[wire.M], of: str = "train"
    ) -> wire.M:
        from secagg.integrations.flower import messages as carrier

        reply = self.ask(name, step, message, of)
        assert not reply.has_error(), reply.error.reason
        return wire.from_bytes(carrier.unpack(reply.content, peer=name).frame, kind)

    def begin(self, kind: str = "train") -> Sum:
        from flwr.app import RecordDict

        from secagg.federated import messages as m
        from secagg.federated.layout import Layout
        from secagg.federated.terms import Agreement
        from secagg.integrations.flower import load_peers
        from secagg.integrations.flower import messages as carrier
        from secagg.protocols.masked_sum import Server

        self.ready = {name: self.answer(name, m.TASK, self.task, m.Ready, kind) for name in self.nodes}
        announced = wire.from_bytes(next(iter(self.ready.values())).layout, Layout)
        roster = self.roster()
        setting = next(iter(self.ready.values())).setting
        task, asked = wire.to_bytes(self.task), b""
        if self.task.protection.is_malicious:
            content = {"arrays": content_of(self.sent)["arrays"]} if self.sent else {}
            asked = carrier.task_digest(RecordDict(content), kind)
        agreement = Agreement(
            self.run,
            kind,
            task,
            asked,
            setting,
            announced.canonical(),
            roster.names,
            roster.nonces,
            roster.server_nonce,
            roster.budgets,
        )
        peers = load_peers(self.folder / "peers.toml")
        where, self.coder = agreement.round(
            peers, self.task.protection, self.task.encoding, self.task.weight_key
        )
        self.layout = announced.canonical()
        self.server, self.kind = Server(where), kind
        return self

    def roster(self) -> m.Participants:
        from secagg.federated import messages as m

        ready = self.ready.values()
        budgets = tuple(r.budget for r in ready if r.budget)
        return m.Participants(tuple(self.ready), tuple(r.nonce for r in ready), b"fresh" * 6 + b"!!", budgets)

    def until_input(self) -> Any:
        from secagg.federated import messages as m
        from secagg.protocols.masked_sum import Keys, Shares

        for name in self.nodes:
            self.server.take_keys(name, self.answer(name, m.KEYS, self.roster(), Keys, self.kind))
        for name, peers in self.server.close_keys().items():
            self.server.take_shares(name, self.answer(name, m.SHARES, peers, Shares, self.kind))
        return self.server.close_shares()

    def until_unmask(self) -> Any:
        from secagg.federated import messages as m
        from secagg.protocols.masked_sum import MaskedInput

        for name, inbox in self.until_input().items():
            self.server.take_input(name, self.answer(name, m.INPUT, inbox, MaskedInput, self.kind))
        return self.server.close_inputs()

    def finish(self) -> Finished:
        from secagg.federated import messages as m
        from secagg.integrations.flower.records import arrays_in, baseline_of, to_records
        from secagg.protocols.masked_sum import Unmasking

        request = self.until_unmask()
        for name in self.nodes:
            answer = self.answer(name, m.UNMASK, request, Unmasking, self.kind)
            self.server.take_answer(name, answer)
        summed = self.server.finish()
        sent = arrays_in(content_of(self.sent))
        means = self.coder.decode(summed.total, len(summed.contributors), baseline_of(sent))
        records = to_records(self.layout, means.values, means.weight, self.task.weight_key)
        return Finished(records, means.weight, means.error, means.noise_std)


@dataclass
class Wire:
    """A grid that hands each message to its node at once."""

    nodes: dict[int, Node]
    replies: dict[str, Message] = field(default_factory=dict)

    def get_node_ids(self) -> list[int]:
        return list(self.nodes)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        pushed = []
        for message in messages:
            node = self.nodes[message.metadata.dst_node_id]
            number = str(len(self.replies))
            message.metadata.__dict__ |= {"_message_id": number, "_run_id": node.run}
            self.replies[number] = node.take(message)
            pushed.append(number)
        return pushed

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return [self.replies[number] for number in message_ids]

    def send_and_receive(
        self,
        messages: Iterable[Message],
        *,
        timeout: float | None = None,  # nobody is late
    ) -> list[Message]:
        return self.pull_messages(self.push_messages(messages))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Sum]:
    """Return a sum over four nodes, in which number i replies what `replies[i]` makes of the task."""

    def build(
        protection: Protection | None = None,
        *,
        names: Iterable[str] = NAMES,
        sent: Numbers | None = None,
        replies: Iterable[Reply] | None = None,
        encoding: Encoding | None = None,
        budgets: bool = True,
        run: int = 2**64 - 5,  # a run's number has 64 bits
        **extra: Any,
    ) -> Sum:
        from flwr.app import Context, RecordDict

        from secagg.federated import messages as m
        from secagg.integrations.flower import (
            Encoding,
            Protection,
            SecureMod,
            make_identities,
            new_budget,
        )

        names = tuple(names)
        protection = protection or Protection(max_corrupt=0.25, max_dropout=0.25)
        if not (tmp_path / "peers.toml").exists():
            make_identities(tmp_path, names)
        makers = (
            [
                lambda _, value=i: content_of({"w": np.full(3, value, np.float32)}, loss=float(value))
                for i in range(len(names))
            ]
            if replies is None
            else list(replies)
        )
        nodes = {}
        for kind in ("train", "evaluate"):
            privacy = protection.privacy_of(kind)
            for name in names:
                if budgets and privacy and not (tmp_path / f".{name}.key.spent-{kind}").exists():
                    new_budget(tmp_path / f"{name}.key", privacy, kind)
        for i, name in enumerate(names):
            config: dict[str, bool | float | int | str] = {
                "secagg-identity": str(tmp_path / f"{name}.key"),
                "secagg-peers": str(tmp_path / "peers.toml"),
            }
            context = Context(run, 10 + i, config, RecordDict(), {})
            nodes[name] = Node(SecureMod(protection), context, makers[i], run)
        task = m.task_of(protection, encoding or Encoding(), "num-examples", **extra)
        return Sum(nodes, task, tmp_path, sent or {}, run)

    return build


@pytest.fixture
def reply_of() -> Callable[..., RecordDict]:
    """Return a reply: arrays by name, and metrics."""
    return content_of


@pytest.fixture
def grid_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sum], Wire]:
    """Return a grid of a sum's nodes."""

    def build(played: Sum) -> Wire:
        from flwr.supercore.task_identity import TaskIdentity

        for name, value in {"_run_id": played.run, "_node_id": 1, "_task_id": 1}.items():
            monkeypatch.setattr(TaskIdentity, name, value)
        return Wire({node.context.node_id: node for node in played.nodes.values()})

    return build
