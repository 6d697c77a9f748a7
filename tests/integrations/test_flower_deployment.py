"""The example app on a SuperLink and four SuperNodes: processes of their own on loopback, with `flwr run` in front.

Between nodes and SuperLink stands a relay that keeps every byte: all that whoever runs the server ever gets."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
pytest.importorskip("flwr", minversion="1.41", reason="flwr is an optional dependency: secagg[flower]")

from secagg import wire
from secagg.errors import WireError
from secagg.integrations.flower import make_identities
from secagg.integrations.flower.messages import Ready
from secagg.protocols.masked import MaskedInput, Shares, Unmasking

EXAMPLE = Path(__file__).parents[2] / "examples" / "flower"
NODES, ROUNDS = 4, 1
BIN = Path(sys.executable).parent


class Relay:
    """Passes connections on to another port of this machine and keeps what goes through."""

    def __init__(self, to: int) -> None:
        self._to = to
        self.up, self.down = bytearray(), bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                node, _ = self._listener.accept()
            except OSError:
                return
            try:
                link = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                node.close()
                continue
            for source, sink, kept in ((node, link, self.up), (link, node, self.down)):
                threading.Thread(target=self._pump, args=(source, sink, kept), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
        # One connection's bytes together, where those of others do not come in between.
        mine = bytearray()
        try:
            while data := source.recv(1 << 16):
                mine += data
                sink.sendall(data)
        except OSError:
            pass
        kept += mine
        # The other way ends too, and closes what this one still has open.
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        source.close()

    def close(self) -> None:
        self._listener.close()


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def frames(captured: bytes, kind: type[wire.M]) -> Iterator[wire.M]:
    """Yield every message of a kind among captured bytes."""
    magic = wire.to_bytes(Unmasking(np.zeros((0, 33), np.uint8)))[:4]
    for match in re.finditer(re.escape(magic), captured):
        try:
            prefix = captured[match.start() : match.start() + wire.PREFIX.size]
            size = wire.decode_prefix(prefix, peer="anybody")[2]
            yield wire.from_bytes(captured[match.start() : match.start() + size], kind, peer="anybody")
        except WireError:
            continue


@dataclass
class Deployment:
    log: str
    up: bytes = field(repr=False)
    down: bytes = field(repr=False)

    @property
    def accuracies(self) -> dict[int, float]:
        last = self.log[self.log.index("ServerApp-side Evaluate Metrics") :]
        return {int(n): float(a) for n, a in re.findall(r"(\d+): \{'accuracy': '([^']+)'", last)}


@pytest.fixture(scope="module")
def task() -> Iterable[types.ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        import task

        yield task
        del sys.modules["task"]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    folder = tmp_path_factory.mktemp("deployment")
    peers = make_identities(folder / "keys", [f"site-{i}" for i in range(NODES)])
    link_port, *node_ports = free_ports(NODES + 1)
    relay = Relay(link_port)
    (folder / "home").mkdir()
    address = f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{link_port}"\ninsecure = true\n'
    (folder / "home" / "config.toml").write_text(address)
    paths = {"FLWR_HOME": str(folder / "home"), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    environment = (
        os.environ | paths | {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1"}
    )
    processes: list[subprocess.Popen[bytes]] = []

    def start(name: str, *command: str) -> None:
        with (folder / f"{name}.log").open("wb") as log:
            processes.append(
                subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
            )

    try:
        link = ["--insecure", "--port", str(link_port), "--disable-runtime-dependency-installation"]
        start("link", str(BIN / "flower-superlink"), *link)
        wait_for(link_port)
        for i, port in enumerate(node_ports):
            config = {"secagg-identity": str(folder / "keys" / f"site-{i}.key"), "secagg-peers": str(peers)}
            config |= {"partition-id": i, "num-partitions": NODES}  # type: ignore[dict-item]
            options = ["--insecure", "--superlink", f"127.0.0.1:{relay.port}", "--port", str(port)]
            settings = " ".join(f"{key}={json.dumps(value)}" for key, value in config.items())
            start(f"node-{i}", str(BIN / "flower-supernode"), *options, "--node-config", settings)
        overrides = f'nodes={NODES} num-server-rounds={ROUNDS} secagg-peers="{peers}"'
        run = subprocess.run(
            [str(BIN / "flwr"), "run", str(EXAMPLE), "here", "--stream", "--run-config", overrides],
            env=environment,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in reversed(processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        relay.close()
    time.sleep(0.5)  # for the relay's threads to see the ends
    logs = "".join(path.read_text(errors="replace")[-3000:] for path in sorted(folder.glob("*.log")))
    assert "Strategy execution finished" in run.stdout, run.stdout + run.stderr + logs
    return Deployment(run.stdout, bytes(relay.up), bytes(relay.down))


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port}")


def averaged(task: types.ModuleType, model: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what plain federated averaging makes of a model, and the nodes' updates."""
    parts = [task.partition(i, NODES) for i in range(NODES)]
    updates = [task.train(model, *part, epochs=2, rate=0.5)[0] for part in parts]
    weights = [len(part[1]) for part in parts]
    mean = {
        name: sum(w * u[name].astype(np.float64) for w, u in zip(weights, updates, strict=True))
        / sum(weights)
        for name in model
    }
    return {name: array.astype(np.float32) for name, array in mean.items()}, updates


def test_every_round_is_a_mean_over_all_nodes(deployment: Deployment) -> None:
    assert (
        len(re.findall(r"protected (?:train|evaluate): mean of 4 of 4 nodes", deployment.log)) == 2 * ROUNDS
    )
    assert "ERROR" not in deployment.log


def test_the_model_is_as_accurate_as_with_plain_federated_averaging(
    deployment: Deployment, task: types.ModuleType
) -> None:
    model = task.new_model()
    for number in range(1, ROUNDS + 1):
        model, _ = averaged(task, model)
        plain = task.test(model, *task.held_out())[1]
        assert abs(deployment.accuracies[number] - plain) <= 0.005
    assert plain > 0.8


def test_the_server_gets_no_update(deployment: Deployment, task: types.ModuleType) -> None:
    mean, updates = averaged(task, task.new_model())
    # That this way of looking finds what is there, and that these are the updates: what the server sends for
    # evaluation, the mean of these updates, is found, up to the last bits.
    sent = [
        np.frombuffer(deployment.down[i : i + 40], "<f4") for i in places(deployment.down, b"\x93NUMPY", 128)
    ]
    near = [float(np.max(np.abs(s - mean["intercept"]))) for s in sent if s.size == 10]
    assert min(near) < 1e-5
    assert len(list(frames(deployment.up, Ready))) == 2 * ROUNDS * NODES
    for update in updates:
        for array in update.values():
            numbers = array.reshape(-1)[np.flatnonzero(array)]
            assert array.tobytes() not in deployment.up
            for start in range(0, numbers.size - 2, 3):
                assert numbers[start : start + 3].tobytes() not in deployment.up
    # Arrays of numpy's the nodes send none at all.
    assert b"\x93NUMPY" in deployment.down
    assert b"\x93NUMPY" not in deployment.up


def test_what_the_server_gets_of_updates_is_uniform(deployment: Deployment) -> None:
    uploads = [m.packed for m in frames(deployment.up, MaskedInput)]
    assert len(uploads) == 2 * ROUNDS * NODES
    largest = max(u.size for u in uploads)
    data = np.concatenate([u[:-8] for u in uploads if u.size == largest])
    assert data.size > 10_000
    counts = np.bincount(data, minlength=256)
    chi_square = float(np.sum((counts - data.size / 256) ** 2 / (data.size / 256)))
    # 255 degrees of freedom: mean 255, deviation 22.6; beyond 255 +- 7 deviations less than once in 10^9 runs.
    assert 97 < chi_square < 413


def test_shares_pass_the_server_sealed(deployment: Deployment) -> None:
    letters = [m.sealed for m in frames(deployment.up, Shares)]
    assert len(letters) == 2 * ROUNDS * NODES
    rows = {row.tobytes() for letter in letters for row in letter}
    assert len(rows) == 2 * ROUNDS * NODES * (NODES - 1)


def places(captured: bytes, mark: bytes, behind: int) -> Iterator[int]:
    for match in re.finditer(re.escape(mark), captured):
        yield match.start() + behind
