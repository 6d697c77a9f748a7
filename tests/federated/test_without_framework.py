"""A sum of nodes and a server whose messages the test carries: no framework is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from secagg import wire
from secagg.errors import AuthenticationError, RemoteProtocolError, UsageError
from secagg.federated import (
    Encoding,
    Invitation,
    Node,
    OwnNode,
    Protection,
    ServerRound,
    SumRequest,
    make_identities,
)
from secagg.federated.layout import Entry, Update, update_of
from secagg.federated.messages import KEYS, SHARES, Task, task_of
from secagg.federated.registration import Registration, limits_for, read_ready
from secagg.federated.round import admit
from secagg.federated.sum_server import SumServer
from secagg.federated.weighted import to_vector

NAMES = ("a", "b", "c", "d")
RUN = 7
PROTECTION = Protection(max_corrupt=0.25, max_dropout=0.25)
TASK = task_of(PROTECTION, Encoding(), "examples")
SENT = {("model", "w"): (3,)}
JOB = SumRequest("train", TASK, b"", SENT, limits_for(SENT, None), {})


def nothing(_: Entry) -> None:
    """The task came with no arrays."""


def update(value: float, weight: int) -> Update:
    w, loss = np.full(3, value, np.float32), np.asarray(value)
    arrays = [(Entry("model", "w", "array", "float32", (3,)), w)]
    return update_of(arrays, [(Entry("metrics", "loss", "number", "float64", ()), loss)], "metrics", weight)


def invite(folder: Path, name: str, kind: str = "train", protection: Protection = PROTECTION) -> Invitation:
    member = OwnNode.load(folder / f"{name}.key", folder / "peers.toml")
    return Invitation.read(member, protection, RUN, kind, wire.to_bytes(TASK))


@pytest.fixture
def begun(tmp_path: Path) -> tuple[dict[str, bytes], ServerRound]:
    """Return what each node keeps, and the server; node number i replies i + 1 with weight i + 1."""
    make_identities(tmp_path, NAMES)
    kept: dict[str, bytes] = {}
    ready: dict[str, Registration] = {}
    peers = OwnNode.load(tmp_path / "a.key", tmp_path / "peers.toml").peers
    for i, name in enumerate(NAMES):
        found = update(i + 1.0, i + 1)
        node, announced = invite(tmp_path, name).accept(found.layout, found.announced, to_vector(found))
        kept[name] = node.to_bytes()
        ready[name] = read_ready(wire.to_bytes(announced), str(i), RUN, "train", peers, JOB.limits)
    admission = admit(ready, JOB, peers)
    assert not admission.refused
    return kept, ServerRound(admission.admitted, RUN, JOB, peers)


def test_a_sum_is_made_by_whoever_carries_bytes(
    tmp_path: Path, begun: tuple[dict[str, bytes], ServerRound]
) -> None:
    kept, current = begun
    for exchange in current.exchanges():
        for name, message in exchange.messages.items():
            member = OwnNode.load(tmp_path / f"{name}.key", tmp_path / "peers.toml")
            node = Node.from_bytes(kept[name], member, PROTECTION)
            assert not node.is_done
            answer = node.answer("train", exchange.step, wire.to_bytes(message))
            exchange.use(name, wire.from_bytes(wire.to_bytes(answer), exchange.answer))
            kept[name] = node.to_bytes()
            assert node.is_done == (exchange.step == "unmask")
    means, summed = current.finish(nothing)
    assert summed.contributors == NAMES
    assert means.weight == 1 + 2 + 3 + 4
    expected = (1 + 4 + 9 + 16) / 10
    assert means.values[0] == pytest.approx(np.full(3, expected), abs=means.error)
    assert means.values[1] == pytest.approx(expected)


def test_an_address_and_an_identity_have_one_reply_and_a_sum_that_goes_on_takes_none(tmp_path: Path) -> None:
    make_identities(tmp_path, NAMES)
    server = SumServer(tmp_path / "peers.toml", PROTECTION, weight_key="examples")
    current = server.begin(RUN, "train", SENT, nothing)
    found = update(1.0, 1)
    frames = {
        name: wire.to_bytes(invite(tmp_path, name).accept(found.layout, found.announced, to_vector(found))[1])
        for name in NAMES
    }
    assert current.take("at a", frames["a"])
    assert not current.take("at a", frames["b"])
    assert not current.take("elsewhere", frames["a"])
    assert current.take("at c", frames["c"])
    assert current.take("at d", frames["d"])
    step, sent = next(current.steps(1))
    assert (step, set(sent)) == (KEYS, {"at a", "at c", "at d"})
    with pytest.raises(UsageError, match="got one that is over"):
        current.take("at b", frames["b"])
    with pytest.raises(UsageError, match="got one that is over"):
        next(current.steps(1))


def test_a_node_answers_what_is_due_and_nothing_else(
    tmp_path: Path, begun: tuple[dict[str, bytes], ServerRound]
) -> None:
    kept, current = begun
    member = OwnNode.load(tmp_path / "a.key", tmp_path / "peers.toml")
    roster = wire.to_bytes(next(iter(current.exchanges())).messages["a"])
    for kind, step in (("train", SHARES), ("evaluate", KEYS)):
        with pytest.raises(RemoteProtocolError, match="expected server to ask for keys of train"):
            Node.from_bytes(kept["a"], member, PROTECTION).answer(kind, step, roster)
    Node.from_bytes(kept["a"], member, PROTECTION).answer("train", KEYS, roster)
    with pytest.raises(RemoteProtocolError, match="keys once"):
        Node.from_bytes(kept["a"], member, PROTECTION).answer("train", KEYS, roster)


class LaterTask(wire.Message, frozen=True):
    """A task as a later release may have it: only its first field is where it was."""

    release: str
    protections: list[Protection]


LaterTask.KIND = Task.KIND


@pytest.mark.parametrize(
    "task", [msgspec.structs.replace(TASK, release="9.9"), LaterTask("9.9", [PROTECTION])]
)
def test_a_server_of_another_release_is_told_apart_whatever_else_its_task_holds(
    tmp_path: Path, task: wire.Message
) -> None:
    make_identities(tmp_path, NAMES)
    member = OwnNode.load(tmp_path / "a.key", tmp_path / "peers.toml")
    with pytest.raises(
        RemoteProtocolError, match=r"server runs secagg 9\.9, this node .*; run the same release"
    ):
        Invitation.read(member, PROTECTION, RUN, "train", wire.to_bytes(task))


@pytest.mark.parametrize(
    "change",
    [
        {"server_nonce": bytes(31)},
        {"server_nonce": b""},
        {"nonces": (bytes(32),) * 4},
        {"names": ("b", "a", "c", "d")},
        {"names": ("b", "c", "d")},
    ],
    ids=["a short number", "no number", "other numbers", "another order", "without the node"],
)
def test_a_roster_that_is_none_for_a_node_ends_the_sum_for_it(
    tmp_path: Path, begun: tuple[dict[str, bytes], ServerRound], change: dict[str, Any]
) -> None:
    kept, current = begun
    member = OwnNode.load(tmp_path / "a.key", tmp_path / "peers.toml")
    roster = msgspec.structs.replace(next(iter(current.exchanges())).messages["a"], **change)
    with pytest.raises(RemoteProtocolError, match="server") as caught:
        Node.from_bytes(kept["a"], member, PROTECTION).answer("train", KEYS, wire.to_bytes(roster))
    assert caught.value.peer == "server"


@pytest.mark.parametrize("field", ["nonce", "setting", "signature", "name"])
def test_what_a_node_announces_without_having_signed_it_is_refused(tmp_path: Path, field: str) -> None:
    make_identities(tmp_path, NAMES)
    found, invitation = update(1.0, 1), invite(tmp_path, "a")
    _, ready = invitation.accept(found.layout, found.announced, to_vector(found))
    peers = invitation.member.peers
    assert read_ready(wire.to_bytes(ready), "0", RUN, "train", peers, JOB.limits).name == "a"
    value = "b" if field == "name" else bytes(len(getattr(ready, field)) or 32)
    altered = msgspec.structs.replace(ready, **{field: value})
    for frame, run, kind in (
        (wire.to_bytes(altered), RUN, "train"),
        (wire.to_bytes(ready), RUN + 1, "train"),
        (wire.to_bytes(ready), RUN, "evaluate"),
    ):
        with pytest.raises(AuthenticationError):
            read_ready(frame, "0", run, kind, peers, JOB.limits)


def test_a_sum_is_not_finished_before_its_exchanges(begun: tuple[dict[str, bytes], ServerRound]) -> None:
    with pytest.raises(UsageError, match="when all its exchanges are done"):
        begun[1].finish(nothing)


def test_an_invitation_under_another_protection_is_refused(tmp_path: Path) -> None:
    make_identities(tmp_path, NAMES)
    with pytest.raises(RemoteProtocolError, match="as this node's app demands"):
        invite(tmp_path, "a", protection=Protection(max_corrupt=0.0, max_dropout=0.25))


def test_what_a_node_prints_holds_no_secret(
    tmp_path: Path, begun: tuple[dict[str, bytes], ServerRound]
) -> None:
    member = OwnNode.load(tmp_path / "a.key", tmp_path / "peers.toml")
    assert repr(Node.from_bytes(begun[0]["a"], member, PROTECTION)) == "Node('a', 'train', next 'keys')"
    assert "identity" not in repr(member)


@pytest.mark.slow
def test_no_framework_is_imported() -> None:
    program = "import sys; sys.modules['flwr'] = None; import secagg.federated, secagg.federated.private"
    subprocess.run([sys.executable, "-c", program], check=True)
