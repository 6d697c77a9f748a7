"""Flower's simulation with ten nodes: its engine, state, grid, ServerApp and ClientApp; Ray's place takes a backend that
runs the ClientApp in the engine's own threads, and that makes nodes fail.

The module is long because the backend that takes Ray's place serves every run.
"""

from __future__ import annotations

import os
import sys
import time
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
pytest.importorskip("flwr", minversion="1.41", reason="flwr is an optional dependency: secagg[flower]")

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAdam, FedAvg, Strategy

from secagg.integrations.flower import (
    Bounded,
    Encoding,
    Privacy,
    Protection,
    SecureAggregation,
    SecureMod,
    make_identities,
    new_budget,
)

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "flower"
NODES = 10
RAY_BACKEND = "flwr.server.superlink.fleet.vce.backend.raybackend"
Fate = Callable[[int, str, int], str]


@pytest.fixture(scope="module")
def example() -> Iterable[types.SimpleNamespace]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        import client_app
        import task

        yield types.SimpleNamespace(client=client_app, task=task)
        for name in ("client_app", "task"):
            del sys.modules[name]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    make_identities(tmp_path / "keys", [f"node-{i}" for i in range(NODES)])
    return tmp_path / "keys"


def numbers_in(content: RecordDict) -> list[np.ndarray[Any, Any]]:
    """Return everything in a message's content as arrays."""
    found = []
    for record in content.values():
        for value in record.values():
            if isinstance(value, Array):
                plain = value.stype == "numpy.ndarray"
                found.append(value.numpy() if plain else np.frombuffer(value.data, np.uint8))
            elif isinstance(record, MetricRecord):
                found.append(np.atleast_1d(np.asarray(value, float)))
            elif isinstance(value, bytes):
                found.append(np.frombuffer(value, np.uint8))
    return found


class Watched(Grid):
    """A grid that notes every reply the server gets, by the step it belongs to."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self.replies: list[Message] = []

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = list(self._grid.pull_messages(message_ids))
        self.replies += replies
        return replies

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        replies = list(self._grid.send_and_receive(messages, timeout=timeout))
        self.replies += replies
        return replies

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return self._grid.push_messages(messages)

    def get_node_ids(self) -> Iterable[int]:
        return self._grid.get_node_ids()

    def set_run(self, run: Any) -> None:
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        return self._grid.run

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        return self._grid.create_message(*args, **kwargs)

    def contents(self, step: str) -> list[RecordDict]:
        answers = [reply.content for reply in self.replies if reply.has_content()]
        return [content for content in answers if "secagg" in content and step in content["secagg"]]


@dataclass
class Ran:
    result: Any
    strategy: Any
    grid: Watched
    plain: list[tuple[str, RecordDict]] = field(repr=False)  # what the nodes' functions replied, and to what

    @property
    def accuracy(self) -> float:
        history = self.result.evaluate_metrics_serverapp
        return history[max(history)]["accuracy"]


@pytest.fixture
def simulate(
    monkeypatch: pytest.MonkeyPatch, keys: Path, example: types.SimpleNamespace
) -> Callable[..., Ran]:
    def run(
        make_strategy: Callable[[], Strategy],
        *,
        mods: list[Any],
        rounds: int = 1,
        fate: Fate = lambda *_: "answers",
        train: Callable[..., Message] | None = None,
        timeout: float = 120.0,
    ) -> Ran:
        plain: list[tuple[str, RecordDict]] = []

        def noted(function: Callable[..., Message]) -> Callable[..., Message]:
            def call(message: Message, context: Context) -> Message:
                reply = function(message, context)
                plain.append((message.metadata.message_type, reply.content))
                return reply

            return call

        app = ClientApp(mods=mods)
        app.train()(noted(train or example.client.train))
        app.evaluate()(noted(example.client.evaluate))
        steps: dict[tuple[int, str], int] = {}

        class Backend:
            num_workers = 2

            def __init__(self, config: object) -> None:
                pass

            def build(self, app_fn: object) -> None:
                pass

            def terminate(self) -> None:
                pass

            def process_message(self, message: Message, context: Context) -> tuple[Message | None, Context]:
                node = int(context.node_config["partition-id"])
                context.node_config |= {
                    "secagg-identity": str(keys / f"node-{node}.key"),
                    "secagg-peers": str(keys / "peers.toml"),
                }
                kind = message.metadata.message_type
                step = next(iter(message.content["secagg"])) if "secagg" in message.content else "task"
                turn = steps[node, f"{kind} {step}"] = steps.get((node, f"{kind} {step}"), 0) + 1
                match fate(node, f"{kind} {step}", turn):
                    case "silent":
                        return None, context
                    case "crashes":
                        raise RuntimeError("out of memory")
                return app(message, context), context

        from flwr.simulation.run_simulation import run_simulation  # takes a second to import

        backend = types.ModuleType(RAY_BACKEND)
        backend.RayBackend = Backend  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, RAY_BACKEND, backend)
        done: list[Ran] = []
        server = ServerApp()

        @server.main()
        def main(grid: Grid, context: Context) -> None:
            watched, strategy = Watched(grid), make_strategy()
            while (
                len(list(grid.get_node_ids())) < NODES
            ):  # FedAvg samples of those that are there when it begins
                time.sleep(0.01)
            result = strategy.start(
                grid=watched,
                initial_arrays=example.task.to_record(example.task.new_model()),
                num_rounds=rounds,
                timeout=timeout,
                evaluate_fn=held_out,
            )
            done.append(Ran(result, strategy, watched, plain))

        def held_out(server_round: int, arrays: ArrayRecord) -> MetricRecord:
            model = example.task.from_record(arrays)
            return MetricRecord({"accuracy": example.task.test(model, *example.task.held_out())[1]})

        run_simulation(server, app, NODES, backend_name="in these threads")
        return done[0]

    return run


@pytest.fixture
def secure(simulate: Callable[..., Ran], keys: Path) -> Callable[..., Ran]:
    def run(
        *,
        inner: Strategy | None = None,
        protection: Protection | None = None,
        encoding: Encoding | None = None,
        timeout_s: float = 120.0,
        **options: Any,
    ) -> Ran:
        protection = protection or Protection()

        def strategy() -> SecureAggregation:
            return SecureAggregation(
                inner or FedAvg(min_available_nodes=NODES),
                peers=keys / "peers.toml",
                protection=protection,
                encoding=encoding,
                timeout_s=timeout_s,
                poll_s=0.05,
            )

        return simulate(strategy, mods=[SecureMod(protection)], **options)

    return run


def means_of(replies: list[RecordDict], record: str) -> dict[str, np.ndarray[Any, Any]]:
    """Return what FedAvg makes of plain replies, in float64."""
    weights = np.array([reply.metric_records["metrics"]["num-examples"] for reply in replies], np.float64)
    values = [
        {
            k: np.asarray(v.numpy() if isinstance(v, Array) else v, np.float64)
            for k, v in reply[record].items()
        }
        for reply in replies
    ]
    return {
        key: np.tensordot(weights, np.stack([v[key] for v in values]), 1) / weights.sum()
        for key in values[0]
        if key != "num-examples"
    }


def test_ten_nodes_learn_as_well_as_with_plain_federated_averaging(
    secure: Callable[..., Ran], simulate: Callable[..., Ran]
) -> None:
    plain = simulate(lambda: FedAvg(min_available_nodes=NODES), mods=[], rounds=2)
    protected = secure(rounds=2)
    assert plain.accuracy > 0.85
    assert abs(protected.accuracy - plain.accuracy) <= 0.005
    for kind in ("train", "evaluate"):
        ours = getattr(protected.result, f"{kind}_metrics_clientapp")
        theirs = getattr(plain.result, f"{kind}_metrics_clientapp")
        assert ours.keys() == theirs.keys() == set(range(1, 3))
        for number in ours:
            assert ours[number].keys() == theirs[number].keys()


def test_little_noise_costs_little_accuracy_and_no_metric_is_sent(
    secure: Callable[..., Ran],
    simulate: Callable[..., Ran],
    example: types.SimpleNamespace,
    keys: Path,
) -> None:
    pytest.importorskip("dp_accounting", reason="dp-accounting is an optional dependency: secagg[dp]")

    def federated() -> FedAvg:
        return FedAvg(min_available_nodes=NODES, fraction_evaluate=0.0)

    def accuracy(ran: Ran) -> float:
        # Of all 1797 images: half a percent is many of them.
        return float(example.task.test(example.task.from_record(ran.result.arrays), *example.task.data())[1])

    plain = simulate(federated, mods=[], rounds=2)
    privacy = Privacy(epsilon=1e6, delta=1e-5, norm=4.0, rounds=2)
    for i in range(NODES):
        new_budget(keys / f"node-{i}.key", privacy)
    noisy = secure(inner=federated(), protection=Protection(privacy=privacy), rounds=2)
    # Over the noise the difference has a standard deviation of 0.0006 (12 runs with normal noise of this size).
    assert accuracy(plain) > 0.85
    assert abs(accuracy(noisy) - accuracy(plain)) <= 0.005
    assert [report.failure for report in noisy.strategy.reports] == [""] * 2
    assert [report.spent.rounds for report in noisy.strategy.reports] == [1, 2]
    assert noisy.strategy.reports[-1].spent.epsilon <= privacy.epsilon
    assert all(dict(metrics) == {} for metrics in noisy.result.train_metrics_clientapp.values())
    for content in noisy.grid.contents("task"):
        assert b"loss" not in content.array_records["secagg"]["task"].data


def test_the_mean_is_that_of_the_replies_within_the_bound(secure: Callable[..., Ran]) -> None:
    ran = secure()
    trained = [content for kind, content in ran.plain if kind == "train"]
    evaluated = [content for kind, content in ran.plain if kind == "evaluate"]
    report, evaluation = ran.strategy.reports
    assert report.contributors == evaluation.contributors == tuple(sorted(f"node-{i}" for i in range(NODES)))
    assert report.weight == evaluation.weight == 1500
    assert not report.missed
    assert report.error < 2e-6
    for name, mean in means_of(trained, "arrays").items():
        assert np.max(np.abs(ran.result.arrays[name].numpy() - mean)) <= report.error
        assert ran.result.arrays[name].numpy().dtype == np.float32
    loss = ran.result.train_metrics_clientapp[1]
    assert loss["train-loss"] == pytest.approx(means_of(trained, "metrics")["train-loss"], abs=1e-5)
    metrics = means_of(evaluated, "metrics")
    assert set(metrics) == {"loss", "accuracy"}
    for name, mean in metrics.items():
        assert ran.result.evaluate_metrics_clientapp[1][name] == pytest.approx(mean, abs=1e-5)


def test_the_server_sees_no_update(secure: Callable[..., Ran]) -> None:
    ran = secure(rounds=2)
    assert len(ran.grid.contents("input")) == 4 * NODES
    known = [a.numpy() for k, r in ran.plain if k == "train" for a in r.array_records["arrays"].values()]
    metrics = {
        np.asarray(v, np.float64).tobytes()
        for _, r in ran.plain
        for v in r.metric_records["metrics"].values()
    }
    for reply in ran.grid.replies:
        (record,) = reply.content.values()
        assert set(reply.content) == {"secagg"}
        assert isinstance(record, ArrayRecord)
        (array,) = record.values()
        assert not {array.data.find(m) for m in metrics} - {-1}
        for update in known:
            # Neither as it is, nor its first numbers at any place.
            assert update.tobytes()[:16] not in array.data or not np.any(update.reshape(-1)[:4])
            assert update.tobytes()[-16:] not in array.data or not np.any(update.reshape(-1)[-4:])


def test_masked_uploads_are_uniform_bytes(secure: Callable[..., Ran]) -> None:
    ran = secure(encoding=Encoding(clips={"": 8.0}, precision=2.0**-17, max_weight=500))
    uploads = [content.array_records["secagg"]["input"].data for content in ran.grid.contents("input")][
        :NODES
    ]
    # Behind the header; spare bits at the end are zero.
    data = np.concatenate([np.frombuffer(u[256:-64], np.uint8) for u in uploads])
    assert data.size > 20_000
    counts = np.bincount(data, minlength=256)
    expected = data.size / 256
    chi_square = float(np.sum((counts - expected) ** 2 / expected))
    # 255 degrees of freedom: mean 255, deviation 22.6; beyond 255 +- 7 deviations less than once in 10^9 runs.
    assert 97 < chi_square < 413
    # The same uploads without their masks would be far off.
    plain = [r.array_records["arrays"]["coef"].numpy().tobytes() for k, r in ran.plain if k == "train"]
    counts = np.bincount(np.frombuffer(b"".join(plain), np.uint8), minlength=256)
    assert np.sum((counts - counts.mean()) ** 2 / counts.mean()) > 10_000


@pytest.mark.parametrize("active", [False, True], ids=["semi-honest", "active"])
def test_nodes_may_drop_out_at_every_step(
    secure: Callable[..., Ran], example: types.SimpleNamespace, active: bool
) -> None:
    # Node 0 never gets ready; of the other 9, 3 may leave.
    protection = Protection(
        max_corrupt=0.1, max_dropout=0.34, threat_model="malicious" if active else "semi-honest"
    )
    fates = {0: "train task", 1: "train keys" if active else "train shares", 2: "train input"}
    late = {3: "train consent" if active else "train unmask"}
    fates |= late
    ran = secure(
        protection=protection,
        fate=lambda node, step, turn: "crashes" if fates.get(node) == step else "answers",
    )
    report = ran.strategy.reports[0]
    stayed = {f"node-{i}" for i in range(NODES) if i in late or i not in fates}
    assert set(report.contributors) == stayed
    assert report.failure == ""
    assert len(report.missed) == len(fates)
    assert report.weight == 150 * len(stayed)
    expected = example.task.new_model()
    updates = [
        example.task.train(expected, *example.task.partition(i, NODES), epochs=2, rate=0.5)[0]
        for i in range(NODES)
        if f"node-{i}" in stayed
    ]
    for name in expected:
        mean = np.mean([update[name].astype(np.float64) for update in updates], axis=0)
        assert np.max(np.abs(ran.result.arrays[name].numpy() - mean)) <= report.error


def test_a_node_that_says_nothing_any_more_is_waited_for_once(secure: Callable[..., Ran]) -> None:
    asked: list[str] = []

    def fate(node: int, step: str, turn: int) -> str:
        if node != 7:
            return "answers"
        asked.append(step)
        return "silent" if step == "train input" else "answers"

    ran = secure(fate=fate, timeout_s=5.0)
    report = ran.strategy.reports[0]
    assert set(report.contributors) == {f"node-{i}" for i in range(NODES) if i != 7}
    assert report.missed == {"node-7": "did not answer to input within 5 s"}
    assert [step for step in asked if step.startswith("train ")][-1] == "train input"
    assert asked.count("train input") == 1


def test_with_too_few_left_nothing_is_opened_and_the_model_stays(
    secure: Callable[..., Ran], caplog: pytest.LogCaptureFixture
) -> None:
    ran = secure(fate=lambda node, step, turn: "crashes" if node < 4 and step == "train input" else "answers")
    report, evaluation = ran.strategy.reports
    assert "expected MaskedInput from at least 7 of 10 clients, got 6; nothing was opened" in report.failure
    assert report.contributors == ()
    assert not ran.grid.contents("unmask")[:-NODES]  # the evaluation's alone
    assert 1 not in ran.result.train_metrics_clientapp
    assert len(evaluation.contributors) == NODES
    assert "protected train of round 1 failed" in caplog.text


def test_fewer_nodes_than_the_protection_needs_are_not_asked_for_anything(secure: Callable[..., Ran]) -> None:
    ran = secure(fate=lambda node, step, turn: "crashes" if node < 8 else "answers")
    assert "no sum of fewer than 3 is allowed" in ran.strategy.reports[0].failure
    assert not ran.grid.contents("keys")


def test_numbers_beyond_the_clip_end_the_sum_and_are_named(
    secure: Callable[..., Ran], example: types.SimpleNamespace
) -> None:
    def train(message: Message, context: Context) -> Message:
        reply = example.client.train(message, context)
        bias = np.full(10, 40.0 if context.node_config["partition-id"] == 3 else 1.0)
        reply.content["arrays"] = example.task.to_record({"coef": np.zeros((64, 10)), "intercept": bias})
        return reply

    ran = secure(train=train, encoding=Encoding(clips={"": 10.0}))
    report, _ = ran.strategy.reports
    assert report.contributors == ()
    assert "'arrays/intercept' is beyond 10 at 1 of 10 nodes (160 holds all)" in report.failure
    assert 1 not in ran.result.train_metrics_clientapp


def test_strategies_that_build_on_the_mean_work(secure: Callable[..., Ran]) -> None:
    ran = secure(inner=FedAdam(min_available_nodes=NODES, eta=0.1), rounds=2)
    assert [report.failure for report in ran.strategy.reports] == [""] * 4
    assert ran.accuracy > 0.5


def test_a_node_with_another_layout_stays_out(
    secure: Callable[..., Ran], example: types.SimpleNamespace
) -> None:
    def train(message: Message, context: Context) -> Message:
        reply = example.client.train(message, context)
        if context.node_config["partition-id"] == 5:
            reply.content["metrics"]["secret"] = 1.0
        return reply

    report = secure(train=train).strategy.reports[0]
    assert report.missed == {
        "node-5": "its reply holds other arrays or metrics than most others': "
        "'metrics/secret' (number, float64, shape ()) in place of nothing"
    }
    assert len(report.contributors) == NODES - 1


def test_a_server_that_asks_without_protection_gets_nothing(simulate: Callable[..., Ran]) -> None:
    ran = simulate(lambda: FedAvg(min_available_nodes=NODES), mods=[SecureMod()])
    assert len(ran.grid.replies) == 2 * NODES
    assert all(reply.has_error() for reply in ran.grid.replies)
    assert "expected a message of a protected sum from server" in str(ran.grid.replies[0].error.reason)
    assert ran.plain == []


def test_a_node_insists_on_its_own_protection(simulate: Callable[..., Ran], keys: Path) -> None:
    ran = simulate(
        lambda: SecureAggregation(FedAvg(min_available_nodes=NODES), peers=keys / "peers.toml"),
        mods=[SecureMod(Protection(threat_model="malicious"))],
    )
    assert all("as this node's app demands" in str(reply.error.reason) for reply in ran.grid.replies)
    assert "at least 2 nodes ready" in ran.strategy.reports[0].failure


def test_the_server_is_not_told_what_is_wrong_with_an_update(
    secure: Callable[..., Ran], example: types.SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    def train(message: Message, context: Context) -> Message:
        reply = example.client.train(message, context)
        if context.node_config["partition-id"] == 2:
            reply.content["arrays"] = example.task.to_record({"coef": np.array([1.0, np.nan])})
        return reply

    ran = secure(train=train)
    (error,) = [reply.error for reply in ran.grid.replies if reply.has_error()]
    assert error.reason == "it cannot use its own input; its own output says why"
    assert "1 of 2 numbers are NaN or infinite" in caplog.text


def test_a_single_value_in_a_config_record_is_refused(
    secure: Callable[..., Ran], example: types.SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    def train(message: Message, context: Context) -> Message:
        reply = example.client.train(message, context)
        reply.content["config"] = ConfigRecord({"patients": 17})
        return reply

    ran = secure(train=train)
    assert "at least 2 nodes ready" in ran.strategy.reports[0].failure
    assert "would show the server single values" in caplog.text


def test_a_node_that_lies_about_its_norm_is_named_and_a_lost_one_costs_its_own_update_alone(
    secure: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    from secagg.federated import bounded
    from secagg.protocols.bounded_sum import upload

    honest: Any = vars(bounded)["contribute"]

    async def contribute(party: Any, x: Any, *, terms: Any) -> None:
        if party.me == "node-8":
            await upload(party, x * x.dtype.type(2), terms=terms)
        else:
            await honest(party, x, terms=terms)

    def train(message: Message, context: Context) -> Message:
        number = int(context.node_config["partition-id"])
        arrays = {
            name: Array((array.numpy() + number).astype(np.float32))
            for name, array in message.content.array_records["arrays"].items()
        }
        metrics = MetricRecord({"num-examples": 1 + number, "train-loss": 0.0})
        return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)

    monkeypatch.setattr(bounded, "contribute", contribute)
    ran = secure(
        inner=FedAvg(min_available_nodes=NODES, fraction_evaluate=0.0),
        # 650 numbers that move by 8 are a vector of norm 204.
        protection=Protection(0.1, 0.2, bounded=Bounded(("node-0", "node-1", "node-2"), norm=205.0)),
        fate=lambda node, step, _: "crashes" if (node, step) == (9, "train relay") else "answers",
        train=train,
    )
    (report,) = ran.strategy.reports
    assert report.contributors == tuple(f"node-{i}" for i in range(8))
    assert "out of the bounds" in report.missed["node-8"]
    assert "relay" in report.missed["node-9"]
    for array in ran.result.arrays.values():
        assert np.max(np.abs(array.numpy() - np.mean(range(8)))) <= report.error < 2e-6
    assert dict(ran.result.train_metrics_clientapp[1]) == {}
