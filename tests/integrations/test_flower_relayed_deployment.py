"""Sums that nodes compute together, in processes as an organisation has them: a SuperLink and five SuperNodes on loopback.

The example app runs with a bound that three nodes check on shares. In the first round one of the three is killed in the
middle of the sum: nothing is opened, and the server's log names it. In the second round another computes in its place.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import dataclass

import pytest

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
pytest.importorskip("flwr", minversion="1.41", reason="flwr is an optional dependency: secagg[flower]")
pytest.importorskip("sklearn", reason="the example app learns scikit-learn's digits")

from flower_deployment import Processes, edited, environment_of, free_ports
from secagg.integrations.flower import make_identities

pytestmark = pytest.mark.slow

NODES, KILLED, AFTER = 5, 1, 8  # killed when so many of its answers were sent
PROTECTION = "Protection(0.2, 0.2, bounded=Bounded(('node-0', 'node-1', 'node-2', 'node-3'), norm=100.0))"
EDITS = {
    "client_app.py": {
        "import SecureMod": "import Bounded, Protection, SecureMod",
        "SecureMod()": f"SecureMod({PROTECTION})",
    },
    "server_app.py": {
        "import SecureAggregation": "import Bounded, Protection, SecureAggregation",
        'peers=config["secagg-peers"]': f'peers=config["secagg-peers"], protection={PROTECTION}',
        'strategy = FedAvg(min_available_nodes=config["nodes"], min_train_nodes=config["nodes"])': (
            'strategy = FedAvg(min_available_nodes=config["nodes"], min_train_nodes=config["nodes"], '
            "fraction_evaluate=0.0)"
        ),
    },
}


@dataclass
class Ran:
    """What a run left in the server's log, and how many answers the killed node had sent."""

    log: str
    answers: int

    @property
    def accuracies(self) -> list[float]:
        """On images that nobody learnt, after each round."""
        rows = re.findall(r"Global evaluation\n.*MetricRecord: (\{.*\})\n", self.log)
        return [json.loads(row.replace("'", '"'))["accuracy"] for row in rows]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("relayed")
    home = folder / "home"
    home.mkdir()
    peers = make_identities(folder / "keys", [f"node-{i}" for i in range(NODES)])
    link, *node_ports = free_ports(NODES + 1)
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{link}"\ninsecure = true\n'
    )
    processes, killed = Processes(folder, environment_of(home)), f"node-{KILLED}"
    with contextlib.ExitStack() as stack:
        stack.callback(processes.stop)
        processes.start(
            "superlink",
            *("flower-superlink", "--insecure", "--disable-runtime-dependency-installation"),
            *("--port", str(link)),
        )
        processes.wait_for("superlink", "Uvicorn running")
        for i, port in enumerate(node_ports):
            settings = {"partition-id": i, "num-partitions": NODES, "secagg-peers": str(peers)}
            settings["secagg-identity"] = str(folder / "keys" / f"node-{i}.key")
            told = " ".join(f"{name}={json.dumps(value)}" for name, value in settings.items())
            processes.start(
                f"node-{i}",
                *("flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{link}"),
                *("--port", str(port), "--node-config", told),
            )
            processes.wait_for(f"node-{i}", "SuperNode ID")

        def kill() -> None:
            if processes.log(killed).count("Sent successfully") >= AFTER:
                processes.kill(killed)

        app = edited(folder / "app", EDITS)
        overrides = f'nodes={NODES - 1} num-server-rounds=2 secagg-peers="{peers}"'
        command = ("flwr", "run", app, "here", "--stream", "--run-config", overrides)
        log = processes.run("app", *command, timeout_s=500, meanwhile=kill)
        return Ran(log, processes.log(killed).count("Sent successfully"))


def test_a_node_that_is_killed_while_it_computes_is_named_and_nothing_is_opened(ran: Ran) -> None:
    assert ran.answers >= AFTER
    assert re.search(r"protected train: 'node-1': failed at relay: .*Node Unavailable", ran.log)
    failure = "node-1, without whom the sum cannot be computed, left it; nothing was opened"
    assert f"protected train of round 1 failed, nothing was used: {failure}" in ran.log
    after_one, _ = ran.accuracies
    assert after_one < 0.2  # the first model, all zeros, takes every image for one digit


def test_the_next_round_is_computed_by_others_and_its_mean_is_used(ran: Ran) -> None:
    sums = re.findall(r"protected (\w+): mean of (\d) of \d nodes that were ready, weights (\d+)", ran.log)
    assert sums == [("train", "4", "4")]
    _, after_two = ran.accuracies
    assert after_two > 0.8
