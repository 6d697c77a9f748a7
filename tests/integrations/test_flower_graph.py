"""Nobody chooses the graph of a semi-honest sum: the server's own number, drawn last, decides it."""

from __future__ import annotations

import os
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
pytest.importorskip("flwr", minversion="1.41", reason="flwr is an optional dependency: secagg[flower]")

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Message, Metadata, RecordDict
from flwr.app.message import make_message

from secagg import wire
from secagg.federated import messages as m
from secagg.federated.layout import Entry, Layout
from secagg.federated.sum_server import SumServer
from secagg.federated.terms import LABEL, NONCE_BYTES, Agreement, ready_parts
from secagg.integrations.flower import Encoding, Protection, load_identity
from secagg.integrations.flower import messages as carrier
from secagg.integrations.flower.exchanges import GridExchanges
from secagg.integrations.flower.records import arrays_in, baseline_of, shapes_of
from secagg.signing import sign

OF_REPLIES = Layout((Entry("arrays", "w", "array", "float32", (3,)),), (), "metrics")
LAYOUT = wire.to_bytes(OF_REPLIES)


class Silent:
    """A grid whose nodes answer nothing more; it keeps what they were asked."""

    def __init__(self) -> None:
        self.asked: list[Message] = []

    def push_messages(self, messages: Any) -> list[str]:
        self.asked += messages
        return []

    def pull_messages(self, message_ids: Any) -> list[Message]:
        return []


def test_the_server_draws_its_number_when_all_nodes_have_told_theirs(
    make: Callable[..., Any], reply_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node that answers last would else try numbers until the graph surrounds somebody with its friends."""
    folder, told = make().folder, list[str]()
    grid: Any = Silent()
    sent = arrays_in(reply_of({"w": np.zeros(3, np.float32)}))

    def answers() -> Iterator[Message]:
        for node_id, name in enumerate("abcd"):
            identity, nonce = load_identity(folder / f"{name}.key"), name.encode() * NONCE_BYTES
            signature = sign(identity, f"{LABEL}/ready", ready_parts(1, "train", nonce, LAYOUT, b""))
            metadata = Metadata(1, "1", node_id, 1, "", "", 1e9, 1e9, "train")
            content = carrier.pack(m.TASK, m.Ready(name, nonce, LAYOUT, b"", signature))
            yield make_message(metadata=metadata, content=content)
            told.append(name)

    def drawn(count: int) -> bytes:
        assert told == list("abcd")
        return b"s" * count

    def carried(_: Any, step: str, address: str, frame: bytes) -> Any:
        return types.SimpleNamespace(
            content={carrier.RECORD: carrier.record(step, frame)},
            metadata=types.SimpleNamespace(message_id=address),
        )

    monkeypatch.setattr("secagg.federated.round.secrets.token_bytes", drawn)
    monkeypatch.setattr(GridExchanges, "_message", carried)
    asked = dict(enumerate(answers()))
    told.clear()
    server = SumServer(folder / "peers.toml", weight_key="num-examples")
    current = server.begin(1, "train", shapes_of(sent), baseline_of(sent))
    exchanges = GridExchanges(grid, asked, timeout_s=0.1, poll_s=0.01)
    exchanges.take_ready(current, answers())
    assert current.finish(1, exchanges.ask) is None
    assert "nothing was opened" in server.reports[0].failure
    frames = [carrier.unpack(message.content, peer="server").frame for message in grid.asked]
    assert [wire.from_bytes(frame, m.Participants).server_nonce for frame in frames] == [
        b"s" * NONCE_BYTES
    ] * 4


def test_who_was_not_asked_is_not_ready_and_who_does_not_reply_is_missed() -> None:
    def message(node_id: int) -> Message:
        metadata = Metadata(1, "1", node_id, 1, "", "", 1e9, 1e9, "train")
        return make_message(
            metadata=metadata, content=RecordDict({carrier.RECORD: carrier.record(m.TASK, b"r")})
        )

    taken, missed = dict[str, bytes](), dict[str, str]()
    current: Any = types.SimpleNamespace(take=taken.__setitem__, miss=missed.__setitem__)
    grid: Any = None
    asked = {node_id: message(node_id) for node_id in (1, 2, 3)}
    exchanges = GridExchanges(grid, asked, timeout_s=0.1, poll_s=0.01)
    exchanges.take_ready(current, [message(1), message(4), message(3)])
    assert taken == {"node 1": b"r", "node 3": b"r"}
    assert missed == {"node 4": "was not asked", "node 2": "did not answer in time"}


def test_the_graph_follows_from_the_servers_number() -> None:
    names = tuple(f"n{i:03}" for i in range(200))
    peers = {name: Ed25519PrivateKey.generate().public_key().public_bytes_raw() for name in names}
    protection = Protection(max_corrupt=0.05, max_dropout=0.05)
    nonces = (bytes(NONCE_BYTES),) * len(names)

    def order(server_nonce: bytes) -> list[int]:
        agreement = Agreement(1, "train", b"", b"", b"", OF_REPLIES, names, nonces, server_nonce)
        graph = agreement.round(peers, protection, Encoding())[0].graph
        assert not graph.parameters.complete
        return graph.neighbours(0)

    assert order(bytes(32)) == order(bytes(32)) != order(b"\1" * 32)


@pytest.mark.parametrize("nonce", [b"", bytes(31), bytes(33)])
def test_a_server_without_a_number_of_its_own_is_refused(
    make: Callable[..., Any], caplog: pytest.LogCaptureFixture, nonce: bytes
) -> None:
    played = make().begin()
    roster = played.roster()
    assert played.ask("a", m.KEYS, m.Participants(roster.names, roster.nonces, nonce)).has_error()
    assert "expected a nonce of 32 bytes" in caplog.text
