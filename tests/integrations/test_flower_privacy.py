"""Noise in sums of a Flower app: what is clipped and noised, what is counted, what nodes refuse; without its engine.

The module is long because one app played by hand serves clipping, noise and what is counted.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", minversion="1.41", reason="flwr is an optional dependency: secagg[flower]")
pytest.importorskip("dp_accounting", reason="dp-accounting is an optional dependency: secagg[dp]")

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, Strategy

from secagg import dp, wire
from secagg.dp.accounting import ORDERS, epsilon_at, skellam_divergence
from secagg.errors import PlanError, UsageError
from secagg.federated import messages as m
from secagg.federated.budget import PrivacyBudget
from secagg.federated.differences import cast_means
from secagg.federated.layout import Entry, Layout
from secagg.federated.private import PrivateCoder
from secagg.integrations.flower import Encoding, Privacy, Protection, SecureAggregation, new_budget
from secagg.integrations.flower.records import difference
from secagg.protocols.masked_sum import MaskedInput, choose

pytestmark = pytest.mark.slow

NEGLIGIBLE = Privacy(epsilon=1e8, delta=1e-5, norm=10.0, rounds=3, max_corrupt=0.25)
NOISY = dataclasses.replace(NEGLIGIBLE, epsilon=2.0)


def protection(privacy: Privacy = NEGLIGIBLE, **settings: Any) -> Protection:
    return Protection(max_corrupt=0.25, max_dropout=0.25, privacy=privacy, **settings)


def reason(reply: Any) -> str:
    assert reply.has_error()
    return str(reply.error.reason)


def refused(played: Any, kind: str = "train") -> str:
    return reason(played.ask("a", m.TASK, played.task, kind))


def spent(played: Any, kind: str = "train", name: str = "a") -> int:
    data = (played.folder / f".{name}.key.spent-{kind}").read_bytes()
    return len(json.loads(data.rstrip().rpartition(b"\n")[0])["sums"])


# What goes into a sum


def test_the_mean_is_of_updates_on_top_of_what_was_sent(
    make: Callable[..., Any], reply_of: Callable[..., RecordDict]
) -> None:
    sent = {"w": np.array([1.0, -2.0, 3.0], np.float32), "steps": np.array(7)}
    moves = [np.array([i, -i, 0.5 * i], np.float32) for i in range(4)]

    def reply(move: np.ndarray[Any, Any]) -> Callable[[RecordDict], RecordDict]:
        # Two arrays of the task, and one that did not come with it.
        return lambda content: reply_of(
            {
                "w": content.array_records["arrays"]["w"].numpy() + move,
                "steps": content.array_records["arrays"]["steps"].numpy() + 2,
                "own": move[:2],
            },
            loss=1e6,
        )

    played = make(protection(), sent=sent, replies=[reply(move) for move in moves]).begin()
    means = played.finish()
    # Rounded to multiples of 2^-7, at random, and averaged: off by less than one.
    unit = played.coder.mechanism.grid.unit
    assert unit <= 10.0 / 1024
    mean = np.mean(moves, axis=0)
    assert means.records["arrays"]["w"].numpy() == pytest.approx(sent["w"] + mean, abs=2 * unit)
    assert means.records["arrays"]["w"].numpy().dtype == np.float32
    assert means.records["arrays"]["steps"].numpy() == pytest.approx(9.0, abs=2 * unit)
    assert means.records["arrays"]["own"].numpy() == pytest.approx(mean[:2], abs=2 * unit)
    assert means.weight == 4
    assert math.isinf(means.error)


LOG = logging.getLogger("secagg.federated")


def test_means_beyond_their_dtype_become_its_largest_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cast = cast_means(np.array([65504.0, -7e4, 1e5, 1.0]), "float16", LOG)
    assert cast.tolist() == [65504.0, -65504.0, 65504.0, 1.0]
    assert "2 numbers of a mean are beyond what float16 holds" in caplog.text
    caplog.clear()
    assert cast_means(np.array([65504.0, 7e4]), "float32", LOG).tolist() == [65504.0, 7e4]
    assert caplog.text == ""


def test_rotated_sums_are_the_same_means(make: Callable[..., Any]) -> None:
    played = make(protection(dataclasses.replace(NEGLIGIBLE, random_rotation=True))).begin()
    means = played.finish()
    assert played.coder.length == 4
    unit = played.coder.mechanism.grid.unit
    assert means.records["arrays"]["w"].numpy() == pytest.approx(np.full(3, 1.5), abs=4 * unit)


def test_metrics_weights_and_counts_of_clipped_values_are_not_in_the_layout(
    make: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="flwr.secagg")
    played = make(protection()).begin()
    layout = wire.from_bytes(played.ready["a"].layout, Layout)
    assert [entry.name for entry in layout.entries] == ["w"]
    assert played.coder.length == 3
    assert dict(played.finish().records["metrics"]) == {"num-examples": 4}
    assert caplog.text.count("not sent, as nothing bounds them: num-examples, loss") == 4
    assert caplog.text.count("all nodes count the same") == 4
    # The first sum of a budget says it; the next does not.
    caplog.clear()
    played.begin()
    assert "not sent" not in caplog.text


def test_one_norm_bounds_all_arrays_together(
    make: Callable[..., Any], reply_of: Callable[..., RecordDict], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="flwr.secagg")
    # Of norm 50, five times the norm allowed; the others reply what they were sent.
    sent = {"u": np.zeros(2), "v": np.zeros((1, 1))}
    long = reply_of({"u": np.array([30.0, 0.0]), "v": np.array([[-40.0]])})
    same = reply_of(sent)
    played = make(protection(), sent=sent, replies=[lambda _: long, *[lambda _: same] * 3]).begin()
    assert caplog.text.count("longer than the norm 10, to which it is scaled down") == 1
    means = played.finish()
    unit = played.coder.mechanism.grid.unit
    assert means.records["arrays"]["u"].numpy() == pytest.approx([1.5, 0.0], abs=2 * unit)
    assert means.records["arrays"]["v"].numpy() == pytest.approx(np.array([[-2.0]]), abs=2 * unit)


def test_arrays_of_another_record_name_or_shape_count_from_zero() -> None:
    sent = {("arrays", "w"): Array(np.ones(2)), ("arrays", "odd"): Array("object", (1,), "other", b"x")}
    replied = ArrayRecord({"w": Array(np.full(3, 5.0)), "odd": Array(np.full(1, 5.0))})
    found = difference(RecordDict({"arrays": replied}), "train", sent, "num-examples")
    assert found.vector.tolist() == [5.0] * 4
    assert found.from_zero == ("arrays/odd", "arrays/w")
    other = difference(
        RecordDict({"model": ArrayRecord({"w": Array(np.full(2, 5.0))})}), "train", sent, "num-examples"
    )
    assert other.from_zero == ("model/w",)


def test_what_the_function_does_to_its_message_does_not_change_the_update(
    make: Callable[..., Any], reply_of: Callable[..., RecordDict]
) -> None:
    def reply(content: RecordDict) -> RecordDict:
        content.array_records["arrays"]["w"] = Array(np.full(2, 100.0))
        return reply_of({"w": np.full(2, 4.0)})

    played = make(protection(), sent={"w": np.full(2, 3.0)}, replies=[reply] * 4).begin()
    record = played.nodes["a"].context.state["secagg"]
    kept = wire.from_bytes(record["kept"], m.NodeState)
    assert kept.vector is not None
    assert kept.vector.tolist() == [1.0, 1.0]


def test_nan_counts_as_zeros_so_that_dropping_out_says_nothing(
    make: Callable[..., Any], reply_of: Callable[..., RecordDict], caplog: pytest.LogCaptureFixture
) -> None:
    replies = [lambda _, x=x: reply_of({"w": np.array([4.0, x])}) for x in (np.nan, np.inf, 4.0, 4.0)]
    played = make(protection(), replies=replies).begin()
    assert caplog.text.count("NaN or infinity in the reply; zeros go into the sum instead") == 2
    means = played.finish()
    unit = played.coder.mechanism.grid.unit
    assert means.records["arrays"]["w"].numpy() == pytest.approx([2.0, 2.0], abs=2 * unit)


def test_the_largest_numbers_are_scaled_down_without_a_warning(
    make: Callable[..., Any], reply_of: Callable[..., RecordDict], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="flwr.secagg")
    largest = np.full(4, np.finfo(np.float64).max)
    played = make(protection(), replies=[lambda _: reply_of({"w": largest})] * 4).begin()
    assert caplog.text.count("longer than the norm 10, to which it is scaled down") == 4
    unit = played.coder.mechanism.grid.unit
    assert played.finish().records["arrays"]["w"].numpy() == pytest.approx(np.full(4, 5.0), abs=2 * unit)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04" + bytes(30), b"\x93NUMPY\x01\x00v\x00{'descr'"])
def test_what_was_sent_and_is_no_array_counts_as_not_sent(data: bytes) -> None:
    sent = {("arrays", "w"): Array("float32", (2,), "numpy.ndarray", data)}
    reply = RecordDict({"arrays": ArrayRecord({"w": Array(np.full(2, 5.0))})})
    assert difference(reply, "train", sent, "num-examples").from_zero == ("arrays/w",)


def test_a_layout_does_not_tell_which_metrics_came_out_whole(
    make: Callable[..., Any], reply_of: Callable[..., RecordDict]
) -> None:
    replies = [lambda _, x=x: reply_of({}, loss=x, each=[x, x]) for x in (0, 0.5, 1, 1.5)]
    played = make(protection(evaluation_privacy=NEGLIGIBLE), replies=replies).begin("evaluate")
    assert len({ready.layout for ready in played.ready.values()}) == 1
    unit = played.coder.mechanism.grid.unit
    assert played.finish().records["metrics"]["each"] == pytest.approx([0.75, 0.75], abs=2 * unit)


def test_what_is_left_out_is_not_in_a_sum_with_noise(
    make: Callable[..., Any], reply_of: Callable[..., RecordDict]
) -> None:
    sent = {"w": np.zeros(2), "bn.num_batches_tracked": np.array(7), "mask": np.array([True])}
    reply = reply_of({"mask": np.array([False]), "w": np.ones(2), "bn.num_batches_tracked": np.array(9000)})
    encoding = Encoding(leave_out=("*.num_batches_tracked", "arrays/mask"))
    played = make(protection(), sent=sent, replies=[lambda _: reply] * 4, encoding=encoding).begin()
    assert played.coder.length == 2
    unit = played.coder.mechanism.grid.unit
    assert played.finish().records["arrays"]["w"].numpy() == pytest.approx([1.0, 1.0], abs=2 * unit)


def test_a_config_record_is_refused_with_noise_too() -> None:
    with pytest.raises(UsageError, match="would show the server single values"):
        difference(RecordDict({"c": ConfigRecord({"patients": 17})}), "train", {}, "num-examples")


# Noise


def test_noise_of_a_sum_has_the_variance_that_is_counted_on(
    make: Callable[..., Any], reply_of: Callable[..., RecordDict]
) -> None:
    zeros = {"w": np.zeros(20_000)}
    played = make(protection(NOISY), sent=zeros, replies=[lambda _: reply_of(zeros)] * 4).begin()
    mechanism = played.coder.mechanism
    means = played.finish()
    noise = means.records["arrays"]["w"].numpy() * 4  # of the sum
    # 4 shares, of which 3 - 1 are counted on: 3 nodes are sure to stay, 1 may omit its noise.
    report = mechanism.report()
    assert mechanism.noise.cohort == dp.Cohort(4, 3, 1)
    assert report.noise_std == pytest.approx(math.sqrt(2) * report.share_std)
    planned = 4 * report.share_std**2
    assert means.noise_std == pytest.approx(math.sqrt(planned) / 4)
    # Skellam noise this wide has kurtosis 3: the sample variance has a standard error of sqrt(2/n) of it.
    assert abs(float(np.var(noise)) / planned - 1) < 5 * math.sqrt(2 / noise.size)
    assert abs(float(np.mean(noise))) < 5 * math.sqrt(planned / noise.size)


def test_what_is_kept_between_steps_is_without_noise_and_leaves_with_a_fresh_share(
    make: Callable[..., Any],
) -> None:
    played = make(protection(NOISY)).begin()
    inboxes = played.until_input()
    node = played.nodes["b"]
    before = copy.deepcopy(node.context.state)
    kept = wire.from_bytes(before["secagg"]["kept"], m.NodeState)
    assert kept.vector is not None
    assert kept.vector.tolist() == [1.0] * 3
    played.answer("b", m.INPUT, inboxes["b"], MaskedInput)
    after = wire.from_bytes(node.context.state["secagg"]["kept"], m.NodeState)
    assert after.vector is None
    # An older copy of the state gives no second share over the same vector.
    node.context.state = before
    assert "ask for input once" in reason(played.ask("b", m.INPUT, inboxes["b"]))
    assert spent(played) == 0
    assert spent(played, name="b") == 1
    shares = [played.coder.contribution(kept.vector) for _ in range(2)]
    assert not np.array_equal(*shares)


@pytest.mark.parametrize(
    ("settings", "privacy_corrupt", "registered", "cohort"),
    [
        # The larger of both fractions counts, of those who take part.
        ({"max_corrupt": 0.2}, 0.4, 100, dp.Cohort(10, 8, 4)),
        ({"max_corrupt": 0.4}, 0.1, 100, dp.Cohort(10, 8, 4)),
        # A server that may do anything chooses them: of all that are registered.
        ({"max_corrupt": 0.1, "threat_model": "malicious"}, 0.2, 20, dp.Cohort(10, 8, 4)),
        ({"max_corrupt": 0.1, "threat_model": "malicious"}, 0.05, 20, dp.Cohort(10, 8, 2)),
    ],
)
def test_noise_does_without_the_corrupt_ones_of_all_whom_the_server_may_choose_from(
    settings: dict[str, Any], privacy_corrupt: float, registered: int, cohort: dp.Cohort
) -> None:
    privacy = dataclasses.replace(NOISY, max_corrupt=privacy_corrupt)
    parameters = Protection(max_dropout=0.2, privacy=privacy, **settings).parameters(10, registered)
    layout = Layout((Entry("arrays", "w", "array", "float32", (3,)),), (), "metrics")
    coder = PrivateCoder(layout, privacy, parameters, registered=registered, session=bytes(32))
    assert coder.mechanism.noise.cohort == cohort


def test_a_sum_in_which_nobody_is_counted_on_for_noise_is_refused() -> None:
    layout = Layout((Entry("arrays", "w", "array", "float32", (3,)),), (), "metrics")
    parameters = choose(10, max_corrupt=0.1, max_dropout=0.5)
    with pytest.raises(PlanError, match="nobody is left"):
        PrivateCoder(
            layout,
            dataclasses.replace(NOISY, max_corrupt=0.5),
            parameters,
            registered=10,
            session=bytes(32),
        )


def test_rounds_of_different_lengths_cost_what_rounds_of_one_length_do() -> None:
    # Each round is planned as if all were like it, but their divergences add up at one order for all.
    for epsilon in (0.5, 4.0, 50.0):
        privacy = dataclasses.replace(NOISY, epsilon=epsilon, rounds=10)
        noises = [
            privacy.mechanism(clients=10, min_clients=8, length=length).noise for length in (1, 1000, 10**6)
        ]
        each = [
            skellam_divergence(ORDERS, variance=noise.min_variance, sensitivity=noise.sensitivity)
            for noise in noises
        ]
        together = epsilon_at(ORDERS, np.sum(each, axis=0) * (10 / 3), privacy.delta)
        assert together <= epsilon


def test_the_documented_deviations_are_those_of_the_documented_settings() -> None:
    text = (Path(__file__).parents[2] / "docs" / "flower.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    nodes = next(row[1:] for row in rows if row[0] == "nodes")
    deviations = next(row[1:] for row in rows if row[0] == "standard deviation")
    privacy = Privacy(epsilon=8.0, delta=1e-5, norm=1.0, rounds=10)
    assert str(privacy).startswith("Privacy(epsilon=8.0, delta=1e-05, norm=1.0, rounds=10, max_corrupt=0.33")
    assert "Privacy(epsilon=8.0, delta=1e-5, norm=1.0, rounds=10)" in text
    layout = Layout((Entry("arrays", "w", "array", "float32", (1000,)),), (), "metrics")
    for count, deviation in zip(nodes, deviations, strict=True):
        clients = int(count.replace(",", ""))
        parameters = Protection(privacy=privacy).parameters(clients, clients)
        coder = PrivateCoder(layout, privacy, parameters, registered=clients, session=bytes(32))
        of_one = coder.mechanism.report().share_std
        assert float(f"{of_one / math.sqrt(clients):.2g}") == float(deviation)


# Budgets


def test_the_budget_holds_over_runs_and_over_old_copies_of_flowers_state(make: Callable[..., Any]) -> None:
    first = make(protection())
    for done in range(3):
        fresh = copy.deepcopy(first.nodes["a"].context.state)
        assert spent(first) == done
        first.begin().finish()
        first.nodes["a"].context.state = fresh
    node = first.nodes["a"]
    calls = node.calls
    assert "3 were made of this node's data, all that its budget is for" in refused(first)
    assert node.calls == calls  # nothing was trained
    # A server that begins a new run finds the same.
    other = make(protection(), run=5)
    assert "3 were made of this node's data" in refused(other)


def test_a_sum_that_began_within_the_budget_does_not_leave_beyond_it(make: Callable[..., Any]) -> None:
    played = make(protection(dataclasses.replace(NEGLIGIBLE, rounds=1))).begin()
    inboxes = played.until_input()
    # In the meantime another run took the last of it.
    PrivacyBudget(played.folder / "a.key", "train", played.task.protection.privacy).spend(
        bytes(32), server="server"
    )
    assert "1 were made of this node's data" in reason(played.ask("a", m.INPUT, inboxes["a"]))
    assert not played.ask("b", m.INPUT, inboxes["b"]).has_error()


def test_a_refused_request_spends_nothing(make: Callable[..., Any]) -> None:
    played = make(protection()).begin()
    played.until_input()
    assert played.ask("a", m.INPUT, played.roster()).has_error()
    assert spent(played) == 0


def test_other_settings_than_those_of_the_budget_are_refused(make: Callable[..., Any]) -> None:
    make(protection()).begin().finish()
    privacy = dataclasses.replace(NEGLIGIBLE, epsilon=1e9)
    other = make(protection(privacy))
    text = refused(other)
    assert "of which 1 sums are spent, is for {'epsilon': 100000000.0" in text
    assert "remove .a.key.spent-train beside the identity key and make another with new_budget" in text
    (other.folder / ".a.key.spent-train").unlink()
    new_budget(other.folder / "a.key", privacy)
    assert not other.ask("a", m.TASK, other.task).has_error()


# What each side insists on


@pytest.mark.parametrize(
    "said",
    [
        None,
        dataclasses.replace(NEGLIGIBLE, epsilon=1e9),
        dataclasses.replace(NEGLIGIBLE, norm=11.0),
        dataclasses.replace(NEGLIGIBLE, rounds=4),
    ],
)
def test_a_node_insists_on_its_privacy(make: Callable[..., Any], said: Privacy | None) -> None:
    played = make(protection())
    task = m.task_of(
        dataclasses.replace(protection(), privacy=said), played.task.encoding, played.task.weight_key
    )
    assert "as this node's app demands" in reason(played.ask("a", m.TASK, task))
    assert played.nodes["a"].calls == 0


def test_evaluation_without_noise_beside_training_with_noise_is_refused(make: Callable[..., Any]) -> None:
    played = make(protection())
    assert "metrics without noise would tell what it hides" in refused(played, "evaluate")
    assert played.nodes["a"].calls == 0
    with pytest.raises(UsageError, match=r"give FedAvg fraction_evaluate=0\.0, or Protection"):
        SecureAggregation(FedAvg(), peers={}, protection=protection())


def test_metrics_of_evaluations_are_bounded_together_and_counted_apart(make: Callable[..., Any]) -> None:
    evaluation = dataclasses.replace(NEGLIGIBLE, norm=1.0, rounds=1)
    # Node i says a loss of i, so the three that say more than 1 are cut to it.
    played = make(protection(evaluation_privacy=evaluation)).begin("evaluate")
    layout = wire.from_bytes(played.ready["a"].layout, Layout)
    assert [entry.name for entry in layout.entries] == ["loss"]
    means = played.finish()
    unit = played.coder.mechanism.grid.unit
    assert means.records["metrics"]["loss"] == pytest.approx(0.75, abs=2 * unit)
    assert "arrays" not in means.records
    assert (spent(played), spent(played, "evaluate")) == (0, 1)
    assert "1 were made of this node's data" in refused(played, "evaluate")
    assert not played.ask("a", m.TASK, played.task).has_error()


def test_training_and_evaluation_may_have_noise_each_on_its_own(make: Callable[..., Any]) -> None:
    only_evaluation = Protection(max_corrupt=0.25, max_dropout=0.25, evaluation_privacy=NEGLIGIBLE)
    assert make(only_evaluation).begin().finish().noise_std == 0
    assert only_evaluation.evaluates
    assert not protection().evaluates


# The server


def rounds_of(
    played: Any, grid: Any, strategy: Strategy, rounds: int, arrays: ArrayRecord, **options: Any
) -> SecureAggregation:
    secure = SecureAggregation(
        strategy,
        peers=played.folder / "peers.toml",
        protection=played.task.protection,
        poll_s=0.0,
        **options,
    )
    secure.start(grid, arrays, num_rounds=rounds)
    return secure


@pytest.fixture
def fed_avg() -> FedAvg:
    return FedAvg(min_available_nodes=4, fraction_evaluate=0.0)


def test_the_report_says_what_secagg_dp_says_is_spent_and_sums_end_with_the_budget(
    make: Callable[..., Any],
    grid_of: Callable[[Any], Any],
    fed_avg: FedAvg,
    caplog: pytest.LogCaptureFixture,
) -> None:
    played = make(protection(NOISY))
    arrays = ArrayRecord({"w": Array(np.zeros(3, np.float32))})
    secure = rounds_of(played, grid_of(played), fed_avg, 5, arrays)
    budget = dp.Budget(NOISY.epsilon, NOISY.delta, NOISY.rounds, "zero-out")
    planned = dp.choose(budget, dp.Cohort(4, 3, 1), clip=NOISY.norm, length=3)
    assert [report.spent for report in secure.reports] == [planned.report(k) for k in (1, 2, 3)]
    reported = secure.reports[-1].spent
    assert reported is not None
    assert reported.epsilon == pytest.approx(2.0, rel=1e-3)
    assert secure.reports[0].noise_std == pytest.approx(planned.report().share_std / 2)
    assert caplog.text.count("nobody is asked any more") == 2
    assert played.nodes["a"].calls == 3
    assert spent(played) == 3


def test_an_active_server_gets_noisy_means_of_both_kinds(
    make: Callable[..., Any], grid_of: Callable[[Any], Any], reply_of: Callable[..., RecordDict]
) -> None:
    rotated = dataclasses.replace(NEGLIGIBLE, random_rotation=True)
    evaluation = dataclasses.replace(NEGLIGIBLE, norm=2.0)
    moves = [float(i) for i in range(4)]
    replies = [
        lambda content, x=x: reply_of({"w": content["arrays"]["w"].numpy() + x}, loss=0.5 * x) for x in moves
    ]
    played = make(
        protection(rotated, threat_model="malicious", evaluation_privacy=evaluation), replies=replies
    )
    arrays = ArrayRecord({"w": Array(np.full(3, 10.0, np.float32))})
    inner = FedAvg(min_available_nodes=4)
    secure = SecureAggregation(
        inner, peers=played.folder / "peers.toml", protection=played.task.protection, poll_s=0.0
    )
    result = secure.start(grid_of(played), arrays, num_rounds=2)
    assert [(report.kind, report.failure) for report in secure.reports] == [
        ("train", ""),
        ("evaluate", ""),
    ] * 2
    assert result.arrays["w"].numpy() == pytest.approx(np.full(3, 13.0), abs=0.1)
    assert dict(result.train_metrics_clientapp[2]) == {}
    assert dict(result.evaluate_metrics_clientapp[2]) == {"loss": pytest.approx(0.75, abs=0.02)}
    assert (spent(played), spent(played, "evaluate")) == (2, 2)


def test_a_sum_that_failed_after_vectors_left_is_spent(
    make: Callable[..., Any], grid_of: Callable[[Any], Any], fed_avg: FedAvg
) -> None:
    played = make(protection())
    grid = grid_of(played)
    push = grid.push_messages

    def fail(messages: list[Any]) -> list[str]:
        lost = any("unmask" in message.content.get("secagg", {}) for message in messages)
        return [] if lost else push(messages)

    grid.push_messages = fail
    secure = rounds_of(played, grid, fed_avg, 1, ArrayRecord({"w": Array(np.zeros(3, np.float32))}))
    (report,) = secure.reports
    assert report.failure
    assert report.spent is not None
    assert report.spent.rounds == 1
    assert spent(played) == 1


def test_the_server_asks_nobody_whose_budget_it_knows_is_spent(
    make: Callable[..., Any], grid_of: Callable[[Any], Any], fed_avg: FedAvg
) -> None:
    played = make(protection(dataclasses.replace(NEGLIGIBLE, rounds=1)))
    secure = rounds_of(played, grid_of(played), fed_avg, 1, ArrayRecord({"w": Array(np.zeros(3))}))
    # One node begins anew; three who were never asked would be enough for another sum, one is not.
    (played.folder / ".a.key.spent-train").unlink()
    new_budget(played.folder / "a.key", played.task.protection.privacy)
    secure._server._spent["train"].update(dict.fromkeys("bcd", -1))
    secure.start(grid_of(played), ArrayRecord({"w": Array(np.zeros(3))}), num_rounds=1)
    assert secure.reports[-1].missed["a"] == "its data went into 1 sums, all that its budget is for"
    assert secure.reports[-1].failure


class Own(Strategy):
    """A strategy that says nothing of fractions, and sends what it is told."""

    def __init__(self, inner: FedAvg, *, differing: bool = False) -> None:
        self.inner, self.differing, self.evaluations = inner, differing, 0

    def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
        messages = list(self.inner.configure_train(server_round, arrays, config, grid))
        if self.differing:
            messages[1].content = RecordDict({"arrays": ArrayRecord({"w": Array(np.ones(3))})})
        return messages

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        return self.inner.aggregate_train(server_round, replies)

    def configure_evaluate(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
        raise AssertionError("evaluation was asked for")

    def aggregate_evaluate(self, server_round: int, replies: Any) -> None:
        assert list(replies) == []

    def summary(self) -> None:
        pass


def test_where_a_strategy_does_not_say_whether_it_evaluates_evaluation_is_left_out(
    make: Callable[..., Any],
    grid_of: Callable[[Any], Any],
    fed_avg: FedAvg,
    caplog: pytest.LogCaptureFixture,
) -> None:
    played = make(protection())
    secure = rounds_of(played, grid_of(played), Own(fed_avg), 1, ArrayRecord({"w": Array(np.zeros(3))}))
    assert [report.kind for report in secure.reports] == ["train"]
    assert "would tell what it hides: no evaluation" in caplog.text


def test_different_arrays_to_different_nodes_are_refused(
    make: Callable[..., Any], grid_of: Callable[[Any], Any], fed_avg: FedAvg
) -> None:
    played = make(protection())
    arrays = ArrayRecord({"w": Array(np.zeros(3))})
    with pytest.raises(UsageError, match="sends nodes different arrays"):
        rounds_of(played, grid_of(played), Own(fed_avg, differing=True), 1, arrays)


def test_who_adds_no_noise_needs_no_package_for_it() -> None:
    program = """
import sys; sys.modules["dp_accounting"] = None
from secagg.integrations.flower import Privacy, Protection, SecureMod
SecureMod(Protection())
SecureMod(Protection(privacy=Privacy(1.0, 1e-5, 1.0)))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert 'ImportError: differential privacy needs dp-accounting: pip install "secagg[dp]"' in ran.stderr
    assert "SecureMod(Protection(privacy" in ran.stderr or "line 5, in <module>" in ran.stderr
