"""What a node refuses, what it keeps, and what its files must be like; without Flower's engine around it.

The module is long because every refusal of a node is a message sent to the same few nodes.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
pytest.importorskip("flwr", minversion="1.41", reason="flwr is an optional dependency: secagg[flower]")

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    Metadata,
    MetricRecord,
    RecordDict,
)
from flwr.app.message import make_message
from flwr.serverapp.strategy import FedAvg, FedMedian, Krum

from secagg import wire
from secagg.errors import PlanError, RemoteProtocolError, ShapeError, UsageError
from secagg.federated import messages as m
from secagg.federated.encrypted import Encryption
from secagg.federated.layout import Entry, Layout
from secagg.federated.registration import Limits, Registration, limits_for, most_common, read_ready
from secagg.federated.replay_guard import ReplayGuard
from secagg.federated.terms import LABEL, ready_parts
from secagg.integrations.flower import (
    Encoding,
    Protection,
    SecureAggregation,
    SecureMod,
    load_identity,
    load_peers,
    new_identity,
    save_peers,
)
from secagg.integrations.flower import messages as carrier
from secagg.integrations.flower.records import arrays_in, shapes_of, take_apart
from secagg.protocols.masked_sum import Keys, MaskedInput, PeerKeys, Shares, Unmasking
from secagg.protocols.masked_sum.terms import pack_set
from secagg.signing import digest, sign

NAMES = ("a", "b", "c", "d")


def reason(reply: Message) -> str:
    assert reply.has_error()
    return str(reply.error.reason)


def test_four_nodes_by_hand_give_their_mean_and_keep_nothing(make: Callable[..., Any]) -> None:
    played = make().begin()
    means = played.finish()
    assert means.records["arrays"]["w"].numpy() == pytest.approx(np.full(3, 1.5), abs=means.error)
    assert dict(means.records["metrics"]) == {"loss": pytest.approx(1.5, abs=1e-5), "num-examples": 8}
    assert means.weight == 8
    for node in played.nodes.values():
        assert node.calls == 1
        assert dict(node.context.state) == {}
    assert not [path for path in played.folder.iterdir() if ".replay-" in path.name]


def test_no_step_is_answered_twice_even_from_a_copy_of_the_state(make: Callable[..., Any]) -> None:
    played = make().begin()
    node = played.nodes["b"]

    def twice(
        step: str, requests: dict[str, Any], kind: type[wire.M], take: Callable[[str, wire.M], None]
    ) -> None:
        for name in NAMES:
            before = copy.deepcopy(node.context.state)
            take(name, played.answer(name, step, requests[name], kind))
            if name == "b":
                after, node.context.state = node.context.state, before
                assert f"ask for {step} once" in reason(played.ask("b", step, requests["b"]))
                # What was refused leaves nothing behind.
                assert "keeps nothing of" in reason(played.ask("b", step, requests["b"]))
                node.context.state = after

    server = played.server
    twice(m.KEYS, dict.fromkeys(NAMES, played.roster()), Keys, server.take_keys)
    twice(m.SHARES, server.close_keys(), Shares, server.take_shares)
    twice(m.INPUT, server.close_shares(), MaskedInput, server.take_input)
    twice(m.UNMASK, dict.fromkeys(NAMES, server.close_inputs()), Unmasking, server.take_answer)
    assert server.finish().contributors == NAMES


def test_steps_out_of_order_end_the_sum_for_a_node(make: Callable[..., Any]) -> None:
    played = make().begin()
    inbox = played.until_input()["a"]
    assert "expected server to ask for input of train" in reason(played.ask("a", m.UNMASK, inbox))
    assert "keeps nothing of" in reason(played.ask("a", m.INPUT, inbox))


def test_one_kind_of_sum_is_not_taken_for_the_other(make: Callable[..., Any]) -> None:
    played = make().begin()
    assert "asks for 'keys' of evaluate" in reason(played.ask("a", m.KEYS, played.roster(), "evaluate"))


def test_a_node_is_not_talked_into_an_old_session(make: Callable[..., Any]) -> None:
    played = make().begin()
    old = played.roster()
    played.begin()
    assert "count this node in with the number that it sent" in reason(played.ask("a", m.KEYS, old))


def test_a_client_without_a_pinned_key_is_refused(
    make: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    played = make().begin()
    roster = played.roster()
    larger = m.Participants((*roster.names, "mallory"), (*roster.nonces, bytes(32)), roster.server_nonce)
    assert played.ask("a", m.KEYS, larger).has_error()
    assert "no public key of 'mallory'" in caplog.text


def test_a_sum_of_a_chosen_few_is_refused(make: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    played = make().begin()
    roster = played.roster()
    assert played.ask(
        "a", m.KEYS, m.Participants(roster.names[:2], roster.nonces[:2], roster.server_nonce)
    ).has_error()
    assert "no sum of fewer than 3 is allowed" in caplog.text


def test_the_state_of_another_run_is_not_used(make: Callable[..., Any]) -> None:
    played = make().begin()
    record = played.nodes["a"].context.state["secagg"]
    assert isinstance(record, ConfigRecord)
    record["run"] = "1"
    assert "keeps nothing of" in reason(played.ask("a", m.KEYS, played.roster()))


def test_garbage_ends_the_sum_for_a_node_and_names_the_server(make: Callable[..., Any]) -> None:
    played = make().begin()
    node = played.nodes["a"]
    reply = node(RecordDict({"secagg": carrier.record(m.KEYS, b"garbage")}))
    assert "from server" in reason(reply)
    assert dict(node.context.state) == {}


def test_queries_pass(make: Callable[..., Any]) -> None:
    node = make().nodes["a"]
    metadata = Metadata(1, "1", 1, 10, "", "", 1e9, 1e9, "query.names")
    message = make_message(metadata=metadata, content=RecordDict())
    assert node.mod(message, node.context, lambda msg, _: Message(msg.content, reply_to=msg)).has_content()


@pytest.mark.parametrize("kind", ["get_parameters", "get_properties", "reconnect"])
def test_what_earlier_clients_of_flower_reply_to_is_refused(make: Callable[..., Any], kind: str) -> None:
    node = make().nodes["a"]
    metadata = Metadata(1, "1", 1, 10, "", "", 1e9, 1e9, kind)
    reply = node.take(make_message(metadata=metadata, content=RecordDict()))
    assert reason(reply) == f"expected train, evaluate or query from server, got a message of type '{kind}'"
    assert node.calls == 0


def test_what_is_kept_survives_flowers_serialisation(make: Callable[..., Any]) -> None:
    played = make().begin()
    for node in played.nodes.values():
        record = node.context.state["secagg"]
        node.context.state["secagg"] = ConfigRecord.inflate(record.deflate())
    assert played.until_input().keys() == set(NAMES)


def test_a_node_without_its_files_is_told_which_setting_is_missing(
    make: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    node = make().nodes["a"]
    node.context.node_config = {}
    assert node(carrier.pack(m.TASK, m.task_of(Protection(), Encoding(), "num-examples"))).has_error()
    assert """--node-config 'secagg-identity="/path/to/file"'""" in caplog.text
    node.context.run_config = {"secagg-identity": "/nowhere/{partition-id}.key", "secagg-peers": "/nowhere"}
    node.context.node_config = {"partition-id": 7}
    assert node(carrier.pack(m.TASK, m.task_of(Protection(), Encoding(), "num-examples"))).has_error()
    assert "/nowhere/7.key" in caplog.text


@pytest.mark.parametrize("what", ["array", "order", "configuration", "type", "group", "run", "nothing"])
def test_nodes_that_were_asked_for_different_things_are_in_no_sum_together(
    make: Callable[..., Any], reply_of: Callable[..., RecordDict], what: str
) -> None:
    """Who sends all but one a model whose updates are known would see that one's in the mean."""
    protection = Protection(max_corrupt=0.0, max_dropout=0.25, threat_model="malicious")
    played = make(protection, sent={"w": np.zeros(3), "b": np.ones(3)}).begin()
    arrays = reply_of({"w": np.full(3, float(what == "array")), "b": np.ones(3)})["arrays"]
    if what == "order":
        arrays = ArrayRecord(dict(reversed(list(arrays.items()))))
    content = RecordDict({"arrays": arrays})
    if what == "configuration":
        content["config"] = ConfigRecord({"lr": 0.0})
    if what == "run":
        played.nodes["a"].context.run_config = {"lr": 0.0}
    content.update(carrier.pack(m.TASK, played.task))
    reply = played.nodes["a"](
        content, "train.other" if what == "type" else "train", "7" if what == "group" else ""
    )
    played.ready["a"] = wire.from_bytes(carrier.unpack(reply.content, peer="a").frame, m.Ready)
    # A server that passes on all keys, whether they fit or not.
    keys = {name: played.answer(name, m.KEYS, played.roster(), Keys) for name in NAMES}
    for number, name in enumerate(NAMES):
        others = [keys[other] for other in NAMES if other != name]
        present = pack_set(frozenset(range(4)) - {number}, 4)
        peers = PeerKeys(present, np.stack([k.keys for k in others]), np.stack([k.signature for k in others]))
        reply = played.ask(name, m.SHARES, peers)
        assert reply.has_error() == (what != "nothing")
        if reply.has_error():
            assert f"keys that {'b' if name == 'a' else 'a'} signed for this round" in reason(reply)


def test_what_is_asked_is_the_same_before_and_after_flower_carries_it() -> None:
    arrays = ArrayRecord({"w": Array(np.zeros(2)), "v": Array(np.ones(1))})
    config = ConfigRecord({"lr": np.float64(0.5), "on": True, "key": b"x", "names": ["a", "b"]})
    content = RecordDict({"arrays": arrays, "config": config, "none": ConfigRecord({"empty": []})})
    records: dict[str, ArrayRecord | MetricRecord | ConfigRecord] = {
        carrier.RECORD: carrier.record(m.TASK, b"frame"),
        "arrays": ArrayRecord(dict(arrays.items())),
    }
    records |= {key: ConfigRecord.inflate(content[key].deflate()) for key in ("config", "none")}
    carried = RecordDict(records)
    assert carrier.task_digest(carried, "train") == carrier.task_digest(content, "train")


def nan(bits: int) -> float:
    return float(struct.unpack(">d", bits.to_bytes(8, "big"))[0])


W, V = Array(np.zeros(2)), Array(np.ones(2))
BASE = RecordDict(
    {
        "arrays": ArrayRecord({"w": W, "v": V}),
        "more": ArrayRecord({"w": V}),
        "config": ConfigRecord({"lr": 0.5, "names": ["a", "b"]}),
        "metrics": MetricRecord({"loss": 1.0, "each": [1.0, 2.0]}),
    }
)


def with_record(key: str, record: Any) -> RecordDict:
    return RecordDict({**BASE, key: record})


def with_config(value: Any) -> RecordDict:
    return with_record("config", ConfigRecord({"lr": value, "names": ["a", "b"]}))


DIFFERENT = [
    BASE,
    # Another order of arrays, values or records.
    with_record("arrays", ArrayRecord({"v": V, "w": W})),
    with_record("config", ConfigRecord({"names": ["a", "b"], "lr": 0.5})),
    with_record("metrics", MetricRecord({"each": [1.0, 2.0], "loss": 1.0})),
    RecordDict({key: BASE[key] for key in ("more", "arrays", "config", "metrics")}),
    with_record("config", ConfigRecord({"lr": 0.5, "names": ["b", "a"]})),
    # Other names, and arrays or values under them.
    with_record("arrays", ArrayRecord({"w": V, "v": W})),
    with_record("arrays", ArrayRecord({"w": W})),
    with_record("arrays", ArrayRecord({"w": W, "v": V, "x": V})),
    RecordDict({("other" if key == "more" else key): record for key, record in BASE.items()}),
    with_record("metrics", ConfigRecord({"loss": 1.0, "each": [1.0, 2.0]})),
    with_record("more", ArrayRecord()),
    with_record("more", ConfigRecord()),
    # Arrays that say something else of themselves, or are written down in another way.
    *(
        with_record("more", ArrayRecord({"w": Array(dtype, shape, stype, data)}))
        for dtype, shape, stype, data in [
            ("float32", V.shape, V.stype, V.data),
            (V.dtype, (2, 1), V.stype, V.data),
            (V.dtype, (21,), V.stype, V.data),
            (V.dtype, V.shape, "torch", V.data),
            (V.dtype, V.shape, V.stype, V.data + b" "),
            (V.dtype, V.shape, V.stype, V.data.replace(b"}  ", b" } ")),
        ]
    ),
    # Values that are equal in Python, and not to an app that looks.
    *(
        with_config(value)
        for value in [
            0,
            0.0,
            -0.0,
            False,
            1,
            1.0,
            True,
            "1",
            b"1",
            "0.5",
            [],
            [0.5],
            [1],
            [1.0],
            [True],
            ["1"],
            [b"1"],
        ]
    ),
    *(with_config(nan(bits)) for bits in (0x7FF8000000000000, 0xFFF8000000000000, 0x7FF8000000000001)),
    *(with_config(value) for value in [["ab"], ["a", "b"], ["", "ab"], "\ud800", 2**63, -(2**63)]),
]


def test_what_an_app_could_tell_apart_is_not_asked_alike() -> None:
    digests = [carrier.task_digest(content, "train") for content in DIFFERENT]
    digests += [
        carrier.task_digest(BASE, "train.other"),
        carrier.task_digest(BASE, "train", "1"),
        carrier.task_digest(BASE, "train", "2"),
    ]
    assert len(set(digests)) == len(digests)


def test_what_is_asked_is_the_hash_of_all_parts_behind_their_names_forms_and_lengths() -> None:
    """Written out, so that a part that is left out shows though no two contents that differ in it were thought of."""
    array = Array("uint8", (2, 1), "numpy", b"data")
    content = RecordDict(
        {
            "first": ArrayRecord({"w": array}),
            carrier.RECORD: ConfigRecord({"left": "out"}),
            "second": ConfigRecord({"names": ["a", "b"], "on": True, "raw": b"\0", "lr": 0.5}),
            "third": MetricRecord({"each": [1, 2], "none": []}),
        }
    )
    parts = [b"train", b"group"]
    parts += [b"first", b"arrays", b"1", b"w", b"array", b"uint8", b"2,1", b"numpy", b"data"]
    parts += [b"second", b"config", b"4", b"names", b"list of 2 str", b"a", b"b", b"on", b"bool", b"1"]
    parts += [b"raw", b"bytes", b"\0", b"lr", b"float", struct.pack(">d", 0.5)]
    parts += [b"third", b"metrics", b"2", b"each", b"list of 2 int", b"1", b"2", b"none", b"list of 0 bool"]
    found = carrier.task_digest(content, "train", "group")
    assert found == digest("secagg.integrations.flower/task", parts)


def test_the_setting_is_the_hash_of_series_and_run_configuration() -> None:
    def setting(series: int, **config: Any) -> bytes:
        context: Any = SimpleNamespace(series_id=series, run_config=config)
        return carrier.setting_of(context)

    parts = [b"7", b"a", b"int", b"1", b"b", b"str", b"x"]
    assert setting(7, b="x", a=1) == digest("secagg.integrations.flower/setting", parts)
    others = [setting(8, b="x", a=1), setting(7, c="x", a=1), setting(7, b="x", a=2), setting(7, a=1)]
    assert len({setting(7, b="x", a=1), *others}) == 5


def test_an_app_sees_of_a_message_what_is_agreed_on_and_no_more(make: Callable[..., Any]) -> None:
    """Metadata, shared objects and the order of the run configuration would tell one node from the others."""
    played = make(Protection(max_corrupt=0.0, max_dropout=0.25, threat_model="malicious"))
    seen: list[tuple[Message, dict[str, Any]]] = []
    node = played.nodes["a"]

    def app(message: Message, context: Context) -> Message:
        seen.append((message, dict(context.run_config)))
        return Message(node.reply(message.content), reply_to=message)

    record = ConfigRecord({"lr": 0.5})
    for i in range(2):
        node.context.run_config = dict(reversed([("a", 1), ("b", 2)][:: 2 * i - 1]))
        metadata = Metadata(played.run, f"m{i}", 5 + i, 10, f"r{i}", "g", 1e9 + i, 100.0 + i, "train", i, i)
        content = RecordDict({"one": record, "two": record if i else ConfigRecord({"lr": 0.5})})
        content.update(carrier.pack(m.TASK, played.task))
        reply = node.mod(make_message(metadata=metadata, content=content), node.context, app)
        assert not reply.has_error()
        # What Flower needs to carry the reply is of the message as it came.
        assert reply.metadata.reply_to_message_id == f"m{i}"
        assert reply.metadata.dst_node_id == 5 + i
        assert seen[i][0].content["one"] is not seen[i][0].content["two"]
    (first, config), (second, other) = seen
    assert first.metadata == second.metadata
    assert (first.metadata.group_id, first.metadata.message_type) == ("g", "train")
    assert list(config.items()) == list(other.items()) == [("a", 1), ("b", 2)]


@pytest.mark.slow
def test_a_node_with_another_run_configuration_stays_out(
    make: Callable[..., Any], grid_of: Callable[[Any], Any]
) -> None:
    for active in (False, True):
        played = make(
            Protection(
                max_corrupt=0.0, max_dropout=0.25, threat_model="malicious" if active else "semi-honest"
            )
        )
        for name, node in played.nodes.items():
            node.context.run_config = {"lr": 7 if name == "c" else 0.5, "epochs": 1}
        secure = SecureAggregation(
            FedAvg(min_available_nodes=4, fraction_evaluate=0.0),
            peers=played.folder / "peers.toml",
            protection=played.task.protection,
            poll_s=0.0,
        )
        secure.start(grid_of(played), ArrayRecord({"w": Array(np.zeros(3, np.float32))}), num_rounds=1)
        (report,) = secure.reports
        assert report.contributors == (("a", "b", "d") if active else NAMES)
        if active:
            assert "run configuration, or series of runs, is another than most others'" in report.missed["c"]


def test_two_arrays_that_change_places_for_one_node_show_nothing_of_it(
    make: Callable[..., Any], reply_of: Callable[..., RecordDict]
) -> None:
    """A server with a dead and a live layer of one shape would read one node's update off the mean."""
    dead, live = np.full(6, -1.0, np.float32), np.full(6, 1.0, np.float32)
    data = np.random.default_rng(1).uniform(-1, 1, (4, 6)).astype(np.float32)

    def train(own: np.ndarray[Any, Any]) -> Callable[[RecordDict], RecordDict]:
        def reply(content: RecordDict) -> RecordDict:
            bias, out = content.array_records["arrays"].to_numpy_ndarrays()
            return reply_of({"0": bias, "1": out + (bias > 0) * own})

        return reply

    protection = Protection(max_corrupt=0.25, max_dropout=0.25, threat_model="malicious")
    played = make(protection, sent={"0": dead, "1": live}, replies=[train(own) for own in data])
    ask = played.ask

    def swapping(name: str, step: str, message: wire.Message, kind: str = "train") -> Message:
        if (name, step) != ("b", m.TASK):
            return ask(name, step, message, kind)
        arrays = ArrayRecord({"1": Array(live), "0": Array(dead)})
        return played.nodes[name](RecordDict({"arrays": arrays, **carrier.pack(step, message)}), kind)

    played.ask = swapping
    played.begin()
    for name in NAMES:
        keys = played.answer(name, m.KEYS, played.roster(), Keys)
        if name != "b":
            played.server.take_keys(name, keys)
            continue
        with pytest.raises(RemoteProtocolError, match="b's signature"):
            played.server.take_keys(name, keys)


def test_against_an_active_server_a_strategy_asks_all_nodes_the_same(
    make: Callable[..., Any], grid_of: Callable[[Any], Any]
) -> None:
    class Own(FedAvg):
        def configure_train(self, *args: Any) -> Any:
            messages = list(super().configure_train(*args))
            messages[1].content = RecordDict(
                {**messages[1].content, "config": ConfigRecord({"server-round": 7})}
            )
            return messages

    for active in (False, True):
        played = make(
            Protection(
                max_corrupt=0.0, max_dropout=0.25, threat_model="malicious" if active else "semi-honest"
            )
        )
        strategy = Own(min_available_nodes=4, fraction_evaluate=0.0)
        secure = SecureAggregation(
            strategy, peers=played.folder / "peers.toml", protection=played.task.protection, poll_s=0.0
        )
        arrays = ArrayRecord({"w": Array(np.zeros(3, np.float32))})
        if active:
            with pytest.raises(UsageError, match="asks them for different things"):
                secure.start(grid_of(played), arrays, num_rounds=1)
        else:
            secure.start(grid_of(played), arrays, num_rounds=1)
            assert len(secure.reports[0].contributors) == 4


def test_what_a_node_says_of_a_failure_takes_one_line_and_no_more_than_500_letters(
    make: Callable[..., Any],
) -> None:
    played = make()
    reply = Message(Error(0, "\n\x1b[31m" + "x" * 10_000), reply_to=played.ask("a", m.TASK, played.task))
    with pytest.raises(RemoteProtocolError) as caught:
        registered(reply, load_peers(played.folder / "peers.toml"), limits_for({}, None))
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


def test_a_malicious_server_cannot_choose_a_group_of_its_own() -> None:
    protection = Protection(max_corrupt=0.2, max_dropout=0.25, threat_model="malicious")
    assert protection.parameters(20, 20).n_corrupt == 4
    # All 4 corrupt ones of 20 may be among the 10 that the server picks.
    assert protection.parameters(10, 20).n_corrupt == 4
    with pytest.raises(PlanError, match="allow fewer dropouts or fewer corrupt clients"):
        protection.parameters(5, 20)
    with pytest.raises(PlanError, match="4 of 20 registered clients may work with the server, and only 4"):
        protection.parameters(4, 20)
    with pytest.raises(UsageError, match="fractions from 0"):
        Protection(max_corrupt=1.0)


def test_steps_are_answered_once_and_a_new_sum_ends_the_old_one(tmp_path: Path) -> None:
    guard = ReplayGuard(tmp_path / "a.key")
    other = ReplayGuard(tmp_path / "b.key")
    old, new = bytes(32), bytes([1]) * 32
    guard.begin(old, "keys")
    other.begin(old, "keys")
    guard.take(old, "keys", "shares", server="server")
    with pytest.raises(RemoteProtocolError, match="keys once"):
        guard.take(old, "keys", "shares", server="server")
    guard.begin(new, "keys")
    with pytest.raises(RemoteProtocolError, match="shares once"):
        guard.take(old, "shares", "input", server="server")
    other.take(old, "keys", None, server="server")
    with pytest.raises(UsageError, match="cannot write"):
        ReplayGuard(tmp_path / "missing" / "a.key").begin(old, "keys")


def test_identity_files(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    public = new_identity(path)
    assert load_identity(path).public_key().public_bytes_raw() == public
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="File exists"):
        new_identity(path)
    path.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        load_identity(path)
    (tmp_path / "b.key").write_text("no key")
    (tmp_path / "b.key").chmod(0o600)
    with pytest.raises(UsageError, match="expected an Ed25519 key"):
        load_identity(tmp_path / "b.key")
    save_peers(tmp_path / "peers.toml", {"a": public})
    assert load_peers(tmp_path / "peers.toml") == {"a": public}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", r"a table \[clients\]"),
        ('[clients]\na = "zz"', "hexadecimal key"),
        ('[clients]\na = "00"', "expected 32 bytes"),
        (f'[clients]\nserver = "{bytes(32).hex()}"', "no client may be called"),
        (f'[clients]\na = "{bytes(32).hex()}"\nb = "{bytes(32).hex()}"', "the same key"),
        (f'[clients]\n"a b" = "{bytes(32).hex()}"', "expected a name"),
    ],
)
def test_malformed_files_of_public_keys_are_refused(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "peers.toml").write_text(text)
    with pytest.raises(UsageError, match=match):
        load_peers(tmp_path / "peers.toml")


@pytest.mark.parametrize(
    ("metrics", "match"),
    [
        ({"loss": 1.0}, "expected one metric 'num-examples'"),
        ({"num-examples": 1.5, "loss": 1.0}, "whole number"),
        ({"num-examples": -1, "loss": 1.0}, "whole number"),
        ({"num-examples": [1], "loss": 1.0}, "whole number"),
    ],
)
def test_replies_without_a_weight_are_refused(metrics: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        take_apart(RecordDict({"m": MetricRecord(metrics)}), "num-examples")


def test_replies_that_cannot_be_averaged_are_refused() -> None:
    weight = MetricRecord({"num-examples": 1})
    with pytest.raises(ShapeError, match="some numbers"):
        take_apart(RecordDict({"m": weight}), "num-examples")
    text = ArrayRecord({"w": Array(np.array(["secret"]))})
    with pytest.raises(UsageError, match="cannot be averaged"):
        take_apart(RecordDict({"a": text, "m": weight}), "num-examples")
    with pytest.raises(ShapeError, match="impossible entry"):
        Layout((Entry("a", "w", "array", "float32", (-1,)),), (), "m").check()


def announce(played: Any, name: str, layout: bytes, node_id: int = 99) -> Message:
    """Return a reply to a task that announces whatever layout, signed by a registered node."""
    identity = load_identity(played.folder / f"{name}.key")
    nonce = name.encode() * 32
    signature = sign(identity, f"{LABEL}/ready", ready_parts(1, "train", nonce, layout, b""))
    metadata = Metadata(1, "1", node_id, 1, "", "", 1e9, 1e9, "train")
    content = carrier.pack(m.TASK, m.Ready(name, nonce, layout, b"", signature))
    return make_message(metadata=metadata, content=content)


def registered(reply: Message, peers: dict[str, bytes], limits: Limits) -> Registration:
    """Return the node that a reply to a task comes from."""
    node_id = reply.metadata.src_node_id
    frame = carrier.open_reply(reply, m.TASK, f"node {node_id}")
    return read_ready(frame, f"node {node_id}", reply.metadata.run_id, "train", peers, limits)


def layout_of(*arrays: tuple[str, tuple[int, ...]], dtype: str = "float32") -> bytes:
    entries = tuple(Entry("arrays", name, "array", dtype, shape) for name, shape in arrays)
    return wire.to_bytes(Layout(entries, (), "metrics"))


@pytest.fixture
def sent(reply_of: Callable[..., RecordDict]) -> Any:
    return shapes_of(arrays_in(reply_of({"w": np.zeros(3, np.float32), "b": np.zeros((2, 2))})))


@pytest.mark.parametrize(
    ("layout", "match"),
    [
        # More numbers than anybody was sent, at once, in many arrays, or where numpy would overflow.
        (layout_of(("w", (1 << 39,))), "announces 549755813888 numbers, and 1048576 are allowed"),
        (layout_of(*((str(i), (1 << 19,)) for i in range(3))), "announces 1572864 numbers"),
        (layout_of(("w", (3,)), ("z", (0, 1 << 39))), "announces 549755813888 numbers"),
        (layout_of(("w", (3,)), ("z", (0, 1 << 62, 1 << 62))), "impossible entry"),
        (layout_of(("w", (3, -1))), "impossible entry"),
        (layout_of(("w", (1,) * 33)), "impossible entry"),
        (layout_of(("w", (3,)), dtype="object"), "impossible entry"),
        (layout_of(("w", (3,)), ("w", (3,))), "distinct names"),
        (layout_of(("w\x1b[2K", (3,))), "impossible entry"),
        # Many entries, and long names.
        (layout_of(*((str(i), ()) for i in range(8000))), "names and shapes in"),
        (layout_of(("w" * (1 << 17), (3,))), "names and shapes in"),
        (b"garbage", "expected 24 bytes of prefix"),
    ],
)
def test_layouts_that_are_too_large_or_cannot_be_are_refused(
    make: Callable[..., Any], sent: Any, layout: bytes, match: str
) -> None:
    played = make()
    peers = load_peers(played.folder / "peers.toml")
    limits = limits_for(sent, None)
    fine = registered(announce(played, "a", layout_of(("w", (3,)), ("b", (2, 2)))), peers, limits)
    assert (fine.name, fine.address) == ("a", "node 99")
    with pytest.raises(RemoteProtocolError, match=match):
        registered(announce(played, "a", layout), peers, limits)


def test_refusing_a_large_layout_takes_no_memory_for_it(make: Callable[..., Any], sent: Any) -> None:
    played = make()
    peers = load_peers(played.folder / "peers.toml")
    reply = announce(played, "a", layout_of(("w", (1 << 39,)), ("x", (1 << 20, 1 << 18))))
    tracemalloc.start()
    with pytest.raises(RemoteProtocolError, match="numbers, and 1048576 are allowed"):
        registered(reply, peers, limits_for(sent, None))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_limits_follow_what_was_sent() -> None:
    large = {("arrays", f"w{i}"): (1 << 10,) for i in range(1 << 10)}
    assert limits_for({}, None).numbers == 1 << 20
    assert limits_for(large, None).numbers == 4 << 20
    assert limits_for(large, 5).numbers == 5
    # As many entries of names as long.
    same = wire.to_bytes(
        Layout(tuple(Entry(*key, "array", "float32", (1 << 10,)) for key in large), (), "metrics")
    )
    assert len(same) < limits_for(large, None).layout_bytes
    with pytest.raises(UsageError, match="at least 1 number"):
        SecureAggregation(FedAvg(), peers={}, max_numbers=0)


def test_most_names_decide_and_of_as_many_what_was_sent(sent: Any) -> None:
    usual, other = layout_of(("w", (3,)), ("b", (2, 2))), layout_of(("w", (3,)), ("b", (5, 5)))
    assert most_common([other, usual, usual], sent) == usual
    assert most_common([other, other, usual], sent) == other
    assert most_common([other, usual], sent) == most_common([usual, other], sent) == usual
    # Where as much is like what was sent, the smaller one.
    assert most_common([layout_of(("x", (9,))), layout_of(("x", (8,)))], sent) == layout_of(("x", (8,)))


@pytest.mark.slow
def test_a_liar_with_many_nodes_keeps_only_itself_out(
    make: Callable[..., Any], grid_of: Callable[[Any], Any], reply_of: Callable[..., RecordDict]
) -> None:
    played = make(Protection(max_corrupt=0.25, max_dropout=0.25, min_clients=2))
    # Node d replies something else, and ten more nodes use its key.
    liar = played.nodes["d"]
    liar.reply = lambda _: reply_of({"w": np.zeros(900_000, np.float32)}, loss=0.0)
    grid = grid_of(played)
    for i in range(10):
        grid.nodes[100 + i] = dataclasses.replace(
            liar, context=Context(liar.run, 100 + i, liar.context.node_config, RecordDict(), {})
        )
    secure = SecureAggregation(
        FedAvg(min_available_nodes=14, fraction_evaluate=0.0),
        peers=played.folder / "peers.toml",
        protection=played.task.protection,
        poll_s=0.0,
    )
    arrays = ArrayRecord({"w": Array(np.zeros(3, np.float32))})
    secure.start(grid, arrays, num_rounds=1)
    (report,) = secure.reports
    assert report.contributors == ("a", "b", "c")
    assert report.missed["d"] == (
        "its reply holds other arrays or metrics than most others': 'arrays/w' (array, float32, shape (900000,)) in place "
        "of 'arrays/w' (array, float32, shape (3,))"
    )
    assert sum("is the second that uses d's identity key" in why for why in report.missed.values()) == 10


def test_a_liar_that_announces_too_much_keeps_only_itself_out(
    make: Callable[..., Any], grid_of: Callable[[Any], Any], reply_of: Callable[..., RecordDict]
) -> None:
    played = make(Protection(max_corrupt=0.25, max_dropout=0.25, min_clients=2))
    played.nodes["d"].reply = lambda _: reply_of({"w": np.zeros(101, np.float32)}, loss=0.0)
    secure = SecureAggregation(
        FedAvg(min_available_nodes=4, fraction_evaluate=0.0),
        peers=played.folder / "peers.toml",
        protection=played.task.protection,
        max_numbers=100,
        poll_s=0.0,
    )
    secure.start(grid_of(played), ArrayRecord({"w": Array(np.zeros(3, np.float32))}), num_rounds=1)
    (report,) = secure.reports
    assert report.contributors == ("a", "b", "c")
    assert report.missed["node 13"] == (
        "announces 102 numbers, and 100 are allowed; if its app means to, raise max_numbers at the server"
    )


def test_a_node_that_the_superlink_answers_for_is_reported_under_its_own_number(
    make: Callable[..., Any], grid_of: Callable[[Any], Any]
) -> None:
    played = make(Protection(max_corrupt=0.25, max_dropout=0.25, min_clients=2))

    class Gone:
        run = played.nodes["d"].run

        def take(self, message: Message) -> Message:
            answer = Message(Error(3, "Node Unavailable"), reply_to=message)
            answer.metadata.__dict__["_src_node_id"] = 1  # the SuperLink's own
            return answer

    grid = grid_of(played)
    (gone,) = (number for number, node in grid.nodes.items() if node is played.nodes["d"])
    grid.nodes[gone] = Gone()
    secure = SecureAggregation(
        FedAvg(min_available_nodes=4, fraction_evaluate=0.0),
        peers=played.folder / "peers.toml",
        protection=played.task.protection,
        poll_s=0.0,
    )
    secure.start(grid, ArrayRecord({"w": Array(np.zeros(3, np.float32))}), num_rounds=1)
    (report,) = secure.reports
    assert report.contributors == ("a", "b", "c")
    assert report.missed == {f"node {gone}": "failed at task: 'Node Unavailable'"}


def test_strategies_that_look_at_single_replies_are_refused() -> None:
    for strategy in (FedMedian(), Krum()):
        with pytest.raises(UsageError, match="looks at single replies"):
            SecureAggregation(strategy, peers={})
    peers = {name: bytes(32) for name in ("a", "b", "c")}
    assert "FedAvg" in repr(SecureAggregation(FedAvg(), peers=peers))
    with pytest.raises(UsageError, match="as key_holder, got 'zz'; its names are 'a', 'b', 'c'"):
        SecureAggregation(FedAvg(), peers=peers, protection=Protection(encryption=Encryption("zz")))


def test_a_mod_goes_to_other_processes() -> None:
    mod = SecureMod(Protection(threat_model="malicious"))
    assert pickle.loads(pickle.dumps(mod)) == mod


def test_without_flower_the_error_says_what_to_install() -> None:
    program = "import sys; sys.modules['flwr'] = None; import secagg.integrations.flower"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert 'ImportError: this needs Flower: pip install "secagg[flower]"' in ran.stderr
