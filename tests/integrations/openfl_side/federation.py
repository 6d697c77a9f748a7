"""OpenFL's aggregator and five collaborators over gRPC: python federation.py FOLDER KEYS LOST (JSON); writes to FOLDER.

Collaborators are threads, each behind a relay that writes down all bytes in both directions. In round number i of training
the collaborator LOST[i][0] is late at the step LOST[i][1].
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from openfl.component.aggregator.aggregator import Aggregator
from openfl.component.aggregator.straggler_handling import CutoffTimePolicy
from openfl.component.assigner.static_grouped_assigner import StaticGroupedAssigner
from openfl.component.collaborator import collaborator as collaborators
from openfl.federated.task.runner import TaskRunner
from openfl.transport.grpc import aggregator_server
from openfl.transport.grpc.aggregator_client import AggregatorGRPCClient
from openfl.utilities import TensorKey

from secagg.integrations.openfl import SecureSum, SecureTaskRunner
from secagg.integrations.openfl.messages import read_bundle

NAMES = [f"col{i}" for i in range(1, 6)]
PROTECTION = {"max_corrupt": 0.2, "max_dropout": 0.2, "threat_model": "malicious"}
STEPS = 6
CUTOFF_S = 1.5


def model():
    rng = np.random.default_rng(1)
    return {"w": rng.normal(size=300).astype(np.float32), "b": rng.normal(size=(3, 2)).astype(np.float32)}


class Runner(TaskRunner):
    """Adds known numbers to the model."""

    def __init__(self, name, folder):
        super().__init__(None)
        self.name, self.folder, self.trained = name, folder, 0

    def get_train_data_size(self):
        return 10 * int(self.name[-1])

    def get_required_tensorkeys_for_function(self, func_name, **kwargs):
        assert func_name == "train_task"
        return [TensorKey(name, "GLOBAL", 0, False, ("model",)) for name in self.get_tensor_dict(False)]

    def get_tensor_dict(self, with_opt_vars):
        return model()

    def train_task(self, col_name, round_num, input_tensor_dict, **kwargs):
        rng = np.random.default_rng([int(self.name[-1]), round_num])
        update = {
            name: (value + rng.normal(size=value.shape)).astype(np.float32)
            for name, value in input_tensor_dict.items()
        }
        np.savez(Path(self.folder, f"update-{self.name}-{self.trained}"), **update)
        self.trained += 1
        found = {TensorKey(k, col_name, round_num, False, ("trained",)): v for k, v in update.items()}
        found[TensorKey("loss", col_name, round_num, True, ("metric",))] = np.float32(round_num)
        return found, {}


class LateRunner(SecureTaskRunner, Runner):
    def __init__(self, lost, name, folder, **settings):
        super().__init__(name, folder, **settings)
        self.lost, self.sum = lost, -1

    def protected_round(self, col_name, round_num, input_tensor_dict, *tasks, **kwargs):
        told = read_bundle(input_tensor_dict["secagg"], peer="aggregator")
        step = "" if told is None else told.step
        self.sum += step == "task"
        if step and self.lost.get(str(self.sum)) == [col_name, step]:
            time.sleep(CUTOFF_S + 0.7)
        return super().protected_round(col_name, round_num, input_tensor_dict, *tasks, **kwargs)


def connected(port):
    """Return a connection to the aggregator, which may still be starting."""
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            time.sleep(0.1)


def relay(port, folder, name):
    """Listen, and write down what passes on the way to the aggregator's port and back."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pass_on(source, target, file):
        with Path(folder, file).open("ab") as log, contextlib.suppress(OSError):  # one of the two is gone
            while data := source.recv(1 << 16):
                log.write(data)
                target.sendall(data)

    def accept():
        while True:
            source, _ = listener.accept()
            target = connected(port)
            for pair in ((source, target, f"sent-{name}"), (target, source, f"got-{name}")):
                threading.Thread(target=pass_on, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def main(folder, keys, lost):
    # OpenFL polls every ten seconds, which is for people's networks.
    collaborators.sleep = lambda _: time.sleep(0.1)
    aggregator_server.sleep = lambda _: time.sleep(0.2)
    rounds = 1 + STEPS * (len(lost) + 1) + 1
    peers = f"{keys}/peers.toml"
    summing = SecureSum(peers, PROTECTION)
    tasks = {
        "protected_round": {
            "function": "protected_round",
            "kwargs": {"task": "train_task"},
            "aggregation_type": summing,
        }
    }
    groups = [{"name": "all", "percentage": 1.0, "tasks": ["protected_round"], "collaborators": NAMES}]
    assigner = StaticGroupedAssigner(groups, tasks=tasks, authorized_cols=NAMES, rounds_to_train=rounds)
    settings = {"identity": f"{keys}/{{collaborator}}.key", "peers": peers, "protection": PROTECTION}
    made = {name: LateRunner(lost, name, str(folder), **settings) for name in NAMES}
    aggregator = Aggregator(
        "aggregator",
        "federation",
        NAMES,
        "",
        str(folder / "best"),
        str(folder / "last"),
        assigner,
        use_delta_updates=False,
        straggler_handling_policy=lambda: CutoffTimePolicy(
            straggler_cutoff_time=CUTOFF_S, minimum_reporting=3
        ),
        rounds_to_train=rounds,
        initial_tensor_dict=made["col1"].get_tensor_dict(False),
        persist_checkpoint=False,
        db_store_rounds=2,
    )
    kept: dict[int, Any] = {}
    prepare = aggregator._prepare_trained

    def preparing(name, origin, number, report, result):
        kept.setdefault(number, {})[name] = np.array(result)
        return prepare(name, origin, number, report, result)

    aggregator._prepare_trained = preparing
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def run(name):
        client = AggregatorGRPCClient(
            "127.0.0.1", relay(port, folder, name), "aggregator", "federation", name, use_tls=False
        )
        collaborators.Collaborator(
            name, "aggregator", "federation", client, made[name], tasks, db_store_rounds=1
        ).run()

    server = aggregator_server.AggregatorGRPCServer(aggregator, port, use_tls=False)
    threads = [threading.Thread(target=run, args=(name,), daemon=True) for name in NAMES]
    for thread in threads:
        thread.start()
    server.serve()
    np.savez(folder / "model", **model())
    for number, report in enumerate(summing.reports):
        means = kept[STEPS * (number + 1)]
        np.savez(folder / f"mean-{number}", **{k: v for k, v in means.items() if k != "secagg"})
        (folder / f"report-{number}.json").write_text(
            json.dumps(
                {
                    "contributors": report.contributors,
                    "missed": report.missed,
                    "weight": report.weight,
                    "error": report.error,
                    "failure": report.failure,
                }
            )
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))
