"""The example app as a bank would run it: a SuperLink and four SuperNodes, processes of their own on loopback, with TLS,
SuperNode authentication and protection against a malicious server; `flwr run` in front.

Between nodes and SuperLink stands a relay that has the SuperLink's certificate and keeps every byte: all that whoever
runs the server ever gets. In the second of two rounds one SuperNode is killed in the middle of the sum. The same
deployment runs the app before without the two lines that protect it: the accuracy to compare with, and updates that
the search for updates must find.

The module is long because the deployment and the relay are needed as a whole by every claim.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import runpy
import ssl
import struct
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
pytest.importorskip("flwr", minversion="1.41", reason="flwr is an optional dependency: secagg[flower]")
pytest.importorskip("sklearn", reason="the example app learns scikit-learn's digits")


from flower_deployment import EXAMPLE, Processes, edited, environment_of, free_ports
from secagg import wire
from secagg.errors import WireError
from secagg.federated.messages import Ready
from secagg.integrations.flower import make_identities
from secagg.protocols.masked_sum import Consent, Included, Keys, MaskedInput, Shares, Unmasking

pytestmark = pytest.mark.slow

NODES, ROUNDS, KILLED = 4, 2, 3


@dataclass
class Piece:
    """A request to the SuperLink, or an answer of its."""

    up: bool
    data: bytearray


class Relay:
    """Ends TLS as the SuperLink does, passes everything on to it, and keeps what goes through."""

    def __init__(self, to: int, certificates: Path) -> None:
        self._to = to
        self._kept: list[Piece] = []
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.load_cert_chain(certificates / "superlink.pem", certificates / "superlink.key")
        self._client = ssl.create_default_context(cafile=certificates / "ca.pem")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port: int = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def take(self) -> tuple[bytes, bytes]:
        """Return what nodes sent and what they got since the last time, each request and answer in one piece."""
        kept, self._kept = self._kept, []
        up, down = (b"|".join(p.data for p in kept if p.up == up) for up in (True, False))
        return up, down

    async def _listen(self) -> int:
        self._listener = await asyncio.start_server(self._pass_on, "127.0.0.1", 0, ssl=self._server)
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        self._open[sink] = asyncio.current_task()
        with contextlib.suppress(OSError):
            answers, link = await asyncio.open_connection("127.0.0.1", self._to, ssl=self._client)
            self._open[link] = None
            turns: list[Piece] = []
            await asyncio.gather(
                self._pump(source, link, True, turns), self._pump(answers, sink, False, turns)
            )
            del self._open[link]
        del self._open[sink]
        sink.close()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, up: bool, turns: list[Piece]
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                if not turns or turns[-1].up != up:
                    turns.append(Piece(up, bytearray()))
                    self._kept.append(turns[-1])
                turns[-1].data += data
                sink.write(data)
                await sink.drain()
        sink.close()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        self._listener.close()
        ends = [task for task in self._open.values() if task is not None]
        for writer in self._open:
            writer.transport.abort()
        await asyncio.gather(*ends)
        await asyncio.sleep(0.1)  # for the transports to notice


@dataclass
class Ran:
    """What a run left behind: the server's log, and every byte between nodes and SuperLink."""

    log: str
    up: bytes = field(repr=False)
    down: bytes = field(repr=False)

    @property
    def on_held_out_images(self) -> list[dict[str, float]]:
        """Accuracy and loss on images that nobody learnt, after each round."""
        rows = re.findall(r"Global evaluation\n.*MetricRecord: (\{.*\})\n", self.log)
        return [json.loads(row.replace("'", '"')) for row in rows]

    @property
    def models(self) -> list[dict[str, np.ndarray]]:
        """The models that nodes were sent, in that order."""
        sent = {shape: different(arrays(self.down, shape)) for shape in ((64, 10), (10,))}
        pairs = zip(sent[64, 10], sent[10,], strict=True)
        return [{"coef": coef, "intercept": intercept} for coef, intercept in pairs]


@dataclass
class Deployment:
    plain: Ran
    protected: Ran
    stranger: str  # the log of a SuperNode whose key was not registered


def arrays(captured: bytes, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yield the arrays of a shape among captured bytes, as numpy writes them to files."""
    for match in re.finditer(re.escape(np.lib.format.MAGIC_PREFIX), captured):
        array = np.load(io.BytesIO(captured[match.start() :]), allow_pickle=False)
        if array.shape == shape:
            yield array


def different(found: Iterable[np.ndarray]) -> list[np.ndarray]:
    return list({array.tobytes(): array for array in found}.values())


def frames(captured: bytes, kind: type[wire.M]) -> list[wire.M]:
    """Return every message of a kind among captured bytes."""
    magic = wire.to_bytes(Unmasking(np.zeros((0, 33), np.uint8)))[:4]
    found = []
    for match in re.finditer(re.escape(magic), captured):
        try:
            prefix = captured[match.start() : match.start() + wire.PREFIX.size]
            size = wire.decode_prefix(prefix, peer="anybody")[2]
            found.append(
                wire.from_bytes(captured[match.start() : match.start() + size], kind, peer="anybody")
            )
        except WireError:
            continue
    return found


# One evaluation, behind the last round.
ONCE = {
    "app = ServerApp()": f"""app = ServerApp()


class Once(FedAvg):
    def configure_evaluate(self, server_round, *rest):
        return super().configure_evaluate(server_round, *rest) if server_round == {ROUNDS} else []
""",
    "strategy = FedAvg(": "strategy = Once(",
}
PROTECTION = "Protection(max_dropout=0.25, threat_model='malicious')"
PROTECTED = {
    "client_app.py": {
        "import SecureMod": "import Protection, SecureMod",
        "SecureMod()": f"SecureMod({PROTECTION})",
    },
    "server_app.py": ONCE
    | {
        "import SecureAggregation": "import Protection, SecureAggregation",
        'peers=config["secagg-peers"]': f'peers=config["secagg-peers"], protection={PROTECTION}',
    },
}
# Without protection, and the same node is missing in the last round.
PLAIN = {
    "client_app.py": {
        "mods=[SecureMod()]": "",
        "    model, loss = ": f"""
    if (message.content["config"]["server-round"], context.node_config["partition-id"]) == ({ROUNDS}, {KILLED}):
        raise RuntimeError("not in this round")
    model, loss = """,
    },
    "server_app.py": {
        'SecureAggregation(strategy, peers=config["secagg-peers"])': "strategy",
        "strategy = FedAvg(": "strategy = FedAvg(fraction_evaluate=0.0, ",
    },
}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    folder = tmp_path_factory.mktemp("deployment")
    tls, home = folder / "tls", folder / "home"
    runpy.run_path(str(EXAMPLE / "make_certificates.py"))["main"](tls, NODES + 1)
    peers = make_identities(folder / "keys", [f"node-{i}" for i in range(NODES)])
    link_port, stranger_port, *node_ports = free_ports(NODES + 2)
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n'
        f'[superlink.here]\naddress = "127.0.0.1:{link_port}"\nroot-certificates = "{tls / "ca.pem"}"\n'
    )
    processes = Processes(folder, environment_of(home))
    relay = Relay(link_port, tls)

    def start_node(name: str, number: int, key: int, port: int) -> None:
        settings = {"partition-id": number, "num-partitions": NODES, "secagg-peers": str(peers)}
        settings["secagg-identity"] = str(folder / "keys" / f"node-{number}.key")
        processes.start(
            name,
            *(
                "flower-supernode",
                "--superlink",
                f"127.0.0.1:{relay.port}",
                "--root-certificates",
                tls / "ca.pem",
            ),
            *("--auth-supernode-private-key", tls / f"supernode-{key}", "--port", str(port)),
            *("--node-config", " ".join(f"{name}={json.dumps(value)}" for name, value in settings.items())),
        )

    def run(app: Path, meanwhile: Callable[[], None] = lambda: None) -> Ran:
        relay.take()
        overrides = f'nodes={NODES - 1} num-server-rounds={ROUNDS} secagg-peers="{peers}"'
        command = ("flwr", "run", app, "here", "--stream", "--run-config", overrides)
        log = processes.run(app.name, *command, timeout_s=300, meanwhile=meanwhile)
        assert "Strategy execution finished" in log, processes.logs()
        return Ran(log, *relay.take())

    with contextlib.ExitStack() as stack:
        stack.callback(relay.close)
        stack.callback(processes.stop)
        processes.start(
            "superlink",
            *("flower-superlink", "--port", str(link_port), "--ssl-ca-certfile", tls / "ca.pem"),
            *("--ssl-certfile", tls / "superlink.pem", "--ssl-keyfile", tls / "superlink.key"),
            *("--enable-supernode-auth", "--disable-runtime-dependency-installation"),
        )
        processes.wait_for("superlink", "Uvicorn running")
        public = [tls / f"supernode-{i}.pub" for i in range(NODES)]
        processes.start("register", "register", *public)
        for i, port in enumerate(node_ports):
            processes.wait_for("register", rf"(registered successfully[^\0]*){{{i + 1}}}")
            start_node(f"node-{i}", i, i, port)
        start_node("stranger", 0, NODES, stranger_port)
        for i in range(NODES):
            processes.wait_for(f"node-{i}", "SuperNode ID")
        plain = run(edited(folder / "plain", PLAIN))
        killed = f"node-{KILLED}"
        # All six answers of the first round; that it is there, its keys and its shares in the second.
        kill_at = processes.log(killed).count("Sent successfully") + 6 * (ROUNDS - 1) + 3

        def kill() -> None:
            if processes.log(killed).count("Sent successfully") == kill_at:
                processes.kill(killed)

        protected = run(edited(folder / "protected", PROTECTED), kill)
        assert processes.ended("stranger"), processes.logs()
        return Deployment(plain, protected, processes.log("stranger"))


@pytest.fixture(scope="module")
def task() -> Iterable[types.ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        import task

        yield task
        del sys.modules["task"]


def updates(
    task: types.ModuleType, model: dict[str, np.ndarray]
) -> list[tuple[dict[str, np.ndarray], float]]:
    """Return what each node's training makes of a model, and its loss."""
    return [task.train(model, *task.partition(i, NODES), epochs=2, rate=0.5) for i in range(NODES)]


def test_a_sum_goes_on_without_the_node_that_is_killed_in_it(deployment: Deployment) -> None:
    log, up, down = deployment.protected.log, deployment.protected.up, deployment.protected.down
    sums = re.findall(r"protected (\w+): mean of (\d) of \d nodes that were ready, weights (\d+)", log)
    assert sums == [("train", "4", "1500"), ("train", "3", "1125"), ("evaluate", "3", "1125")]
    assert re.search(r"protected train: .node-3.: failed at input: .*Node Unavailable", log)
    assert "ERROR" not in log
    # It had handed out shares of its secrets, and nothing after that; the others agreed on who is in the sum.
    sent = {kind: len(frames(up, kind)) for kind in (Ready, Keys, Shares, MaskedInput, Consent, Unmasking)}
    assert sent == {Ready: 11, Keys: 11, Shares: 11, MaskedInput: 10, Consent: 10, Unmasking: 10}
    announced = [int(np.unpackbits(m.included).sum()) for m in frames(down, Included)]
    assert sorted(announced) == [3] * 6 + [4] * 4


def test_models_and_accuracy_are_those_of_plain_federated_averaging(deployment: Deployment) -> None:
    plain, protected = deployment.plain, deployment.protected
    assert len(plain.on_held_out_images) == len(protected.on_held_out_images) == ROUNDS
    for theirs, ours in zip(plain.on_held_out_images, protected.on_held_out_images, strict=True):
        assert abs(ours["accuracy"] - theirs["accuracy"]) <= 0.005
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
    assert plain.on_held_out_images[-1]["accuracy"] > 0.9
    # The model of the second round, as nodes got it; the third is what they evaluate.
    assert (len(plain.models), len(protected.models)) == (ROUNDS, ROUNDS + 1)
    for wanted, model in zip(plain.models, protected.models, strict=False):
        for name, array in wanted.items():
            assert np.max(np.abs(model[name] - array)) <= 2e-6


def test_evaluation_gives_the_mean_over_those_who_are_left(
    deployment: Deployment, task: types.ModuleType
) -> None:
    measured = [
        task.test(deployment.protected.models[-1], *task.partition(i, NODES)) for i in range(NODES - 1)
    ]
    loss, accuracy = np.mean(measured, axis=0)
    (got,) = re.findall(r"aggregate_evaluate.*\n.*MetricRecord: (\{.*\})\n", deployment.protected.log)
    assert json.loads(got.replace("'", '"')) == pytest.approx({"loss": loss, "accuracy": accuracy}, abs=2e-5)


def test_the_server_gets_no_update_and_no_nodes_metrics(
    deployment: Deployment, task: types.ModuleType
) -> None:
    for number in range(ROUNDS):
        # That this way of looking finds what is there, and that these are the updates: without protection all are
        # found but that of the node that was not in the last round.
        seen = updates(task, deployment.plain.models[number])
        for node, (update, loss) in enumerate(seen):
            missing = (number, node) == (ROUNDS - 1, KILLED)
            assert all((array.tobytes() in deployment.plain.up) != missing for array in update.values())
            assert (struct.pack("<d", loss) in deployment.plain.up) != missing
        up = deployment.protected.up
        for update, loss in updates(task, deployment.protected.models[number]):
            assert struct.pack("<d", loss) not in up
            for array in update.values():
                numbers = array.reshape(-1)[np.flatnonzero(array)]
                assert not [i for i in range(0, numbers.size - 2, 3) if numbers[i : i + 3].tobytes() in up]
    # Arrays of numpy's the nodes send none at all.
    assert np.lib.format.MAGIC_PREFIX in deployment.plain.up
    assert np.lib.format.MAGIC_PREFIX not in deployment.protected.up


def test_what_the_server_gets_of_updates_is_uniform(deployment: Deployment) -> None:
    uploads = [m.packed for m in frames(deployment.protected.up, MaskedInput)]
    largest = max(u.size for u in uploads)
    data = np.concatenate([u[:-8] for u in uploads if u.size == largest])
    assert data.size > 10_000
    counts = np.bincount(data, minlength=256)
    chi_square = float(np.sum((counts - data.size / 256) ** 2 / (data.size / 256)))
    # 255 degrees of freedom: mean 255, deviation 22.6; beyond 255 +- 7 deviations less than once in 10^9 runs.
    assert 97 < chi_square < 413


def test_shares_pass_the_server_sealed(deployment: Deployment) -> None:
    letters = [m.sealed for m in frames(deployment.protected.up, Shares)]
    rows = {row.tobytes() for letter in letters for row in letter}
    assert len(rows) == NODES * (NODES - 1) + NODES * (NODES - 1) + (NODES - 1) * (NODES - 2)


def test_a_supernode_whose_key_is_not_registered_is_turned_away(deployment: Deployment) -> None:
    assert "Failed to activate SuperNode" in deployment.stranger
    assert "SuperNode ID" not in deployment.stranger
