"""Time Flower's SecAgg+ in one process, through its own serialisation; needs a Python of its own.

    python -m venv VENV && VENV/bin/pip install flwr==1.41.0 numpy
    VENV/bin/python benchmarks/peers/flower_secaggplus.py --cases 10:1000000:0 50:100000:10

Flower's own workflow (server) and mod (client) run against a grid that hands messages over within the process. Every
message goes through Flower's protobuf, whose time is not counted. A case is clients:elements:dropouts; who drops out
does so after it has shared its keys. Prints a line of JSON a case: seconds of one client (median over those that
stay) and of the server's unmasking, bytes of the masked vector's message, the largest error.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import time
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import flwr.compat.common.recorddict_compat as compat
import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitIns, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Stage
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as Wire
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.serverapp.grid import Grid
from flwr.supercore.task_identity import TaskIdentity

logging.getLogger("flwr").setLevel(logging.ERROR)
TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1


class Proxy:
    """All that the workflow needs of a client's proxy."""

    def __init__(self, node_id: int) -> None:
        self.node_id, self.cid = node_id, str(node_id)


class Strategy(FedAvg):
    """Asks every client and keeps the sum's parameters."""

    def __init__(self, proxies: list[Proxy]) -> None:
        super().__init__()
        self.proxies, self.result = proxies, None

    def configure_fit(self, *_: Any, **__: Any) -> Any:
        return [(proxy, FitIns(ndarrays_to_parameters([]), {})) for proxy in self.proxies]

    def aggregate_fit(self, _round: Any, results: Any, *_: Any) -> Any:
        self.result = parameters_to_ndarrays(results[0][1].parameters)
        return results[0][1].parameters, {}


class LocalGrid(Grid):
    """Runs the clients' mod where a message would go out, and measures it."""

    def __init__(self, updates: dict[int, Any], weights: dict[int, int], dropped: set[int]) -> None:
        self.updates, self.weights, self.dropped = updates, weights, dropped
        self.contexts: dict[int, Context] = {}
        self.client_s: dict[int, float] = dict.fromkeys(updates, 0.0)
        self.outside_s = 0.0  # clients and serialisation
        self.vector_bytes = 0

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any:
        return None

    def create_message(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        return list(self.updates)

    def push_messages(self, messages: Any) -> Any:
        raise NotImplementedError

    def pull_messages(self, message_ids: Any) -> Any:
        raise NotImplementedError

    def send_and_receive(self, messages: Any, **_: Any) -> list[Message]:
        begun = time.perf_counter()
        replies = [reply for message in messages if (reply := self.reply_to(message)) is not None]
        self.outside_s += time.perf_counter() - begun
        return replies

    def reply_to(self, message: Any) -> Message | None:
        node = message.metadata.dst_node_id
        content = recorddict_from_proto(
            Wire.FromString(recorddict_to_proto(message.content).SerializeToString())
        )
        stage = content.config_records[RECORD_KEY_CONFIGS]["stage"]
        if node in self.dropped and stage in (Stage.COLLECT_MASKED_VECTORS, Stage.UNMASK):
            return None
        asked = Message(
            content=content,
            dst_node_id=node,
            message_type=message.metadata.message_type,
            group_id=message.metadata.group_id,
        )
        context = self.contexts.setdefault(node, Context(1, node, {}, RecordDict(), {}))
        fit = RecordDict()
        if stage == Stage.COLLECT_MASKED_VECTORS:
            update = ndarrays_to_parameters([self.updates[node]])
            fit = compat.fitres_to_recorddict(
                FitRes(Status(Code.OK, ""), update, self.weights[node], {}), False
            )
        begun = time.perf_counter()
        reply = secaggplus_mod(asked, context, lambda m, _: Message(fit, reply_to=m))
        self.client_s[node] += time.perf_counter() - begun
        sent = recorddict_to_proto(reply.content).SerializeToString()
        if stage == Stage.COLLECT_MASKED_VECTORS:
            self.vector_bytes = len(sent)
        return Message(recorddict_from_proto(Wire.FromString(sent)), reply_to=asked)


class Pool:
    """All that the workflow needs of a client manager."""

    def __init__(self, proxies: list[Proxy]) -> None:
        self.proxies = proxies

    def num_available(self) -> int:
        return len(self.proxies)

    def sample(self, *_: Any, **__: Any) -> list[Proxy]:
        return list(self.proxies)


def run(clients: int, length: int, dropouts: int) -> dict[str, float]:
    made_up = np.random.default_rng(0)
    nodes = [1000 + i for i in range(clients)]
    updates = {node: made_up.normal(0, 0.05, length).astype(np.float32) for node in nodes}
    weights = {node: int(made_up.integers(100, 1000)) for node in nodes}
    grid = LocalGrid(updates, weights, set(nodes[:dropouts]))
    proxies = [Proxy(node) for node in nodes]
    strategy = Strategy(proxies)
    context = LegacyContext(
        Context(1, 0, {}, RecordDict(), {}), strategy=strategy, client_manager=Pool(proxies)
    )
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: 1})
    empty = compat.parameters_to_arrayrecord(ndarrays_to_parameters([]), True)
    context.state.array_records[MAIN_PARAMS_RECORD] = empty
    workflow = SecAggPlusWorkflow(num_shares=1.0, reconstruction_threshold=0.6)
    seconds = {}
    unmask = workflow.unmask_stage

    def measured(*arguments: Any) -> Any:
        outside, begun = grid.outside_s, time.perf_counter()
        result = unmask(*arguments)
        seconds["unmask"] = time.perf_counter() - begun - (grid.outside_s - outside)
        return result

    workflow.unmask_stage = measured  # type: ignore[method-assign]
    workflow(grid, context)
    kept = [node for node in nodes if node not in grid.dropped]
    expected = sum(weights[n] * updates[n].astype(np.float64) for n in kept) / sum(weights[n] for n in kept)
    return {
        "client_s": statistics.median(grid.client_s[node] for node in kept),
        "unmask_s": seconds["unmask"],
        "vector_bytes": grid.vector_bytes,
        "error": float(abs(strategy.result[0] - expected).max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", default=["10:1000000:0"], metavar="CLIENTS:ELEMENTS:DROPOUTS")
    options = parser.parse_args()
    for case in options.cases:
        print(json.dumps({"peer": "Flower SecAgg+", "case": case} | run(*map(int, case.split(":")))))


if __name__ == "__main__":
    main()
