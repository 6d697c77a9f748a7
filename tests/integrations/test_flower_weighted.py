"""Weighted means through Flower's nodes: exact, in the order of what was sent, or an error that names what does not fit."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
pytest.importorskip("flwr", minversion="1.41", reason="flwr is an optional dependency: secagg[flower]")

from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from secagg.errors import PlanError, RangeError, RemoteProtocolError, ShapeError, UsageError
from secagg.federated import messages as m
from secagg.federated.layout import Entry, Layout
from secagg.federated.misfits import clips_of
from secagg.federated.weighted import WeightedCoder, to_vector
from secagg.integrations.flower import Encoding, Protection, SecureAggregation
from secagg.integrations.flower.records import arrange, arrays_in, take_apart, to_records

NAMES = ("a", "b", "c", "d")
KEY = "num-examples"


def sent_nothing(_: Entry) -> None:
    """The task came with no arrays."""


def reply_of(arrays: dict[str, Any], weight: float = 1, **metrics: Any) -> RecordDict:
    record = ArrayRecord({name: Array(np.asarray(value)) for name, value in arrays.items()})
    return RecordDict({"arrays": record, "metrics": MetricRecord({**metrics, KEY: weight})})


def batch_norm(scale: float, **more: Any) -> dict[str, Any]:
    """Return a state as PyTorch's batch norm keeps it, behind a layer."""
    return {
        "conv.weight": np.full((2, 2), 0.1 * scale, np.float32),
        "bn.weight": np.ones(2, np.float32),
        "bn.running_mean": np.array([-30.0, 12.5], np.float32) * np.float32(scale),
        "bn.running_var": np.array([523.0, 16250.0], np.float32) * np.float32(scale),
        "bn.num_batches_tracked": np.array(1_000_000 + round(scale)),
        **more,
    }


def run(
    make: Callable[..., Any],
    grid_of: Callable[[Any], Any],
    replies: list[RecordDict],
    *,
    sent: dict[str, Any] | None = None,
    protection: Protection | None = None,
    **encoding: Any,
) -> tuple[SecureAggregation, Any]:
    """Return a strategy after one round, and its result."""
    played = make(protection, replies=[lambda _, reply=reply: reply for reply in replies])
    secure = SecureAggregation(
        FedAvg(min_available_nodes=4, fraction_evaluate=0.0),
        peers=played.folder / "peers.toml",
        protection=played.task.protection,
        encoding=Encoding(**encoding),
        poll_s=0.0,
    )
    arrays = reply_of(batch_norm(0.0) if sent is None else sent)["arrays"]
    assert isinstance(arrays, ArrayRecord)
    return secure, secure.start(grid_of(played), arrays, num_rounds=1)


# What fits without a word


def test_a_model_with_batch_norm_and_large_weights_and_metrics_comes_out_exact_by_default(
    make: Callable[..., Any], grid_of: Callable[[Any], Any]
) -> None:
    weights = [150_000, 2_000_000, 60_000, 1]
    states = [batch_norm(scale) for scale in (1.0, 1.5, 0.25, 4.0)]
    metrics = [{"loss": 1234.5 * i, "bytes": 3 * 10**12 + i, "each": [float(i), 1e7 * i]} for i in range(4)]
    replies = [reply_of(s, w, **x) for s, w, x in zip(states, weights, metrics, strict=True)]
    secure, result = run(make, grid_of, replies)
    (report,) = secure.reports
    assert report.failure == ""
    assert report.weight == sum(weights)
    for name in states[0]:
        mean = np.average([np.asarray(s[name], np.float64) for s in states], axis=0, weights=weights)
        got = result.arrays[name].numpy()
        assert np.max(np.abs(got - mean)) <= report.error
    assert report.error < 1e-2  # float32's last place at 16,250 times 4
    told = result.train_metrics_clientapp[1]
    for name in metrics[0]:
        mean = np.average([np.asarray(x[name], np.float64) for x in metrics], axis=0, weights=weights)
        assert told[name] == pytest.approx(mean.tolist(), rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("nodes", [2, 10, 1000, 10**6])
def test_without_clips_numbers_up_to_65000_and_integers_up_to_10_billion_fit(nodes: int) -> None:
    state = {"x": np.array([65_535.0, -65_535.0]), "n": np.array([3 * 10**10, -(3 * 10**10)])}
    update = take_apart(reply_of(state, (1 << 28) // nodes), KEY)
    coder = WeightedCoder(update.layout, Encoding(), nodes, weight_key=KEY)
    contribution = coder.contribution(to_vector(update))
    # As if all nodes sent the largest numbers: nothing wraps.
    total = (contribution.astype(object) * nodes % (1 << coder.ring.bits)).astype(coder.ring.dtype)
    means = coder.decode(total, nodes, sent_nothing)
    records = to_records(update.layout, means.values, means.weight, KEY)
    assert records.array_records["arrays"]["x"].numpy().tolist() == state["x"].tolist()
    assert records.array_records["arrays"]["n"].numpy().tolist() == state["n"].tolist()


numbers = st.floats(-16, 16, width=32)


@pytest.mark.slow
@given(st.lists(st.tuples(numbers, st.integers(-1000, 1000), st.integers(0, 99)), min_size=2, max_size=5))
def test_sums_of_contributions_decode_to_the_weighted_mean(rows: list[tuple[float, int, int]]) -> None:
    updates = []
    for x, n, weight in rows:
        arrays = ArrayRecord({"w": Array(np.full((2, 1), x, np.float32)), "steps": Array(np.array(3))})
        metrics = MetricRecord({"correct": n, KEY: weight, "losses": [x, -x]})
        updates.append(take_apart(RecordDict({"model": arrays, "m": metrics}), KEY))
    coder = WeightedCoder(updates[0].layout, Encoding(), len(rows), weight_key=KEY)
    parts = [coder.contribution(to_vector(update)) for update in updates]
    total = coder.ring.reduce(np.sum(parts, axis=0, dtype=coder.ring.dtype))
    weight = sum(row[2] for row in rows)
    if not weight:
        with pytest.raises(RangeError, match="add up to 0"):
            coder.decode(total, len(rows), sent_nothing)
        return
    means = coder.decode(total, len(rows), sent_nothing)
    records = to_records(updates[0].layout, means.values, means.weight, KEY)
    mean = sum(w * x for x, _, w in rows) / weight
    model = records.array_records["model"]
    assert model["w"].numpy() == pytest.approx(np.full((2, 1), mean), abs=means.error)
    assert model["steps"].numpy() == pytest.approx(3.0)
    assert records["m"]["correct"] == pytest.approx(sum(w * n for _, n, w in rows) / weight)
    assert records["m"]["losses"] == pytest.approx([mean, -mean], abs=1e-9)
    assert records["m"][KEY] == means.weight == weight


# What does not fit


@pytest.mark.slow
def test_an_update_that_does_not_fit_ends_the_sum_and_the_error_names_nodes_arrays_and_values(
    make: Callable[..., Any], grid_of: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    replies = [reply_of(batch_norm(1.0), w, loss=0.5) for w in (10, 20, 30_000, 40)]
    secure, result = run(make, grid_of, replies, clips={"": 50.0, "arrays/bn.num*": 1e9}, max_weight=1000)
    (report,) = secure.reports
    assert report.contributors == ()
    assert "'arrays/bn.running_var' is beyond 50 at 4 of 4 nodes (204800 holds all)" in report.failure
    assert "the weight 'num-examples' is beyond 1000 at 1 of 4 nodes (256000 holds all)" in report.failure
    assert "num_batches" not in report.failure
    assert "running_mean" not in report.failure
    assert 1 not in result.train_metrics_clientapp
    # Each node says at itself what it needs, up to a power of two.
    assert (
        caplog.text.count(
            "'arrays/bn.running_var' of this node's reply is beyond 50, and 16384 would hold it"
        )
        == 4
    )
    assert caplog.text.count("the weight of this node's reply is beyond 1000, and 32768 would hold it") == 1
    # With these values it fits.
    clips = {"": 50.0, "arrays/bn.num*": 1e9, "arrays/bn.running_var": 204800.0}
    secure, _ = run(make, grid_of, replies, clips=clips, max_weight=256_000)
    assert secure.reports[0].failure == ""


@pytest.mark.parametrize(
    ("value", "needed"),
    [(1.0000001, "16"), (16.0, "16"), (16.1, "256"), (65536.0, "65536"), (1e30, "more than 65536 is needed")],
)
def test_how_far_an_update_misses_is_told_to_a_factor_of_16(value: float, needed: str) -> None:
    updates = [take_apart(reply_of({"w": np.array([x, 0.5])}), KEY) for x in (0.25, -value)]
    coder = WeightedCoder(updates[0].layout, Encoding(clips={"arrays": 1.0}), 2)
    total = np.sum([coder.contribution(to_vector(u)) for u in updates], axis=0, dtype=coder.ring.dtype)
    with pytest.raises(RangeError, match=f"'arrays/w' is beyond 1 at 1 of 2 nodes .{needed}"):
        coder.decode(coder.ring.reduce(total), 2, sent_nothing)


@pytest.mark.parametrize("wrong", [{"loss": 1e19}, {"loss": [0.0, -1e30]}, {"loss": 10**25}])
def test_a_metric_beyond_2_to_the_63_ends_the_sum(wrong: dict[str, Any]) -> None:
    update = take_apart(reply_of({"w": np.zeros(1)}, **wrong), KEY)
    coder = WeightedCoder(update.layout, Encoding(), 3, weight_key=KEY)
    with pytest.raises(RangeError, match=r"'metrics/loss' is beyond 9\.223372037e\+18 at 1 of 1 nodes"):
        coder.decode(coder.contribution(to_vector(update)), 1, sent_nothing)


def test_beside_an_update_that_does_not_fit_nothing_of_the_others_can_be_read() -> None:
    """A server that names a small clip would else see the sum of the few that fit, or of one."""
    updates = [take_apart(reply_of({"w": np.full(2000, x)}, loss=x), KEY) for x in (0.0, 2.0)]
    coder = WeightedCoder(updates[0].layout, Encoding(clips={"": 1.0}), 2)
    misfits = 5 * 3
    fits, one, two = (coder.contribution(to_vector(updates[i])) for i in (0, 1, 1))
    assert not fits[:2000].any()
    assert fits[-misfits - 1 :].tolist() == [1, *[0] * 15]  # the weight
    assert one[-misfits:].tolist() == two[-misfits:].tolist() == [1, *[0] * 14]
    # Uniform, the weight and the metrics included: as many ones as zeros in each bit, up to 6 deviations.
    body = coder.ring.reduce(one - two)[:-misfits]
    for bit in range(coder.ring.bits):
        ones = int(np.count_nonzero(body >> np.uint64(bit) & np.uint64(1)))
        assert abs(ones - body.size / 2) < 6 * math.sqrt(body.size) / 2
    assert body.size > 2000
    assert np.all(one[:-misfits] != two[:-misfits])


def test_nan_is_refused_at_the_node_and_named_there(
    make: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    bad = reply_of({"w": np.zeros(2), "v": np.array([1.0, np.nan, np.inf])})
    reply = make(replies=[lambda _: bad] * 4)
    answer = reply.ask("a", m.TASK, reply.task)
    assert answer.error.reason == "it cannot use its own input; its own output says why"
    assert "arrays/v: 2 of 3 numbers are NaN or infinite" in caplog.text


def test_sums_that_fit_no_ring_are_refused() -> None:
    layout = take_apart(reply_of({"w": np.zeros(2)}), KEY).layout
    with pytest.raises(PlanError, match="arrays/w"):
        WeightedCoder(layout, Encoding(clips={"": 1e9}, precision=1e-9), 10)
    with pytest.raises(PlanError, match="weights up to 1000000000000000 of 10 nodes"):
        WeightedCoder(layout, Encoding(max_weight=10**15), 10)
    with pytest.raises(PlanError, match="sums of 10 weights up to"):
        WeightedCoder(take_apart(reply_of({}, loss=1.0), KEY).layout, Encoding(max_weight=2**61), 10)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"clips": {"": 0.0}}, "a clip for ''"),
        ({"clips": {"w": math.nan}}, "a clip for 'w'"),
        ({"precision": -1.0}, "a precision"),
        ({"max_weight": 0}, "from 1 to 2"),
        ({"max_weight": 1.5}, "from 1 to 2"),
        ({"leave_out": "arrays/w"}, "a tuple of paths"),
        ({"leave_out": ("",)}, "a tuple of paths"),
    ],
)
def test_an_encoding_of_numbers_that_cannot_be_is_refused(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        Encoding(**wrong)


def test_a_clip_for_what_is_not_there_is_refused() -> None:
    layout = take_apart(reply_of({"w": np.zeros(2), "embedding": np.zeros(2)}), KEY).layout
    for key in ("arrays/embeding", "w", "arrays/w/x", "other"):
        with pytest.raises(UsageError, match=f"a clip for '{key}', and no array is called so"):
            WeightedCoder(layout, Encoding(clips={"": 2.0, key: 1.0}), 3)
    # Of several that match the longest counts.
    given = {"": 2.0, "arrays": 3.0, "*/e*": 4.0, "arrays/w": 5.0}
    assert clips_of(layout.arrays, given, lambda _: 9.0) == [3.0, 5.0]
    assert clips_of(layout.arrays, {"arrays/w": 5.0}, lambda _: 9.0) == [9.0, 5.0]


@pytest.mark.parametrize(
    "arrays",
    [
        {"a": {"b/c": 1.0}, "a/b": {"c": 2.0}},
        {"a": {"b": 1.0}, "a/b": {"c": 2.0}},
    ],
)
def test_two_arrays_that_print_alike_are_refused(arrays: dict[str, dict[str, float]]) -> None:
    """They would share a clip."""
    records: dict[str, Any] = {
        key: ArrayRecord({name: Array(np.array(value)) for name, value in record.items()})
        for key, record in arrays.items()
    }
    with pytest.raises((ShapeError, UsageError), match="have one path, record and name joined by /"):
        take_apart(RecordDict({**records, "m": MetricRecord({KEY: 1})}), KEY)
    entries = tuple(
        Entry(key, name, "array", "float64", ()) for key, record in arrays.items() for name in record
    )
    with pytest.raises(ShapeError, match="have one path"):
        Layout(entries, (), "m").check()


# Names and order


def test_arrays_and_metrics_in_another_order_at_a_node_are_matched_by_name(
    make: Callable[..., Any], grid_of: Callable[[Any], Any]
) -> None:
    state = {f"{i}": np.full(2, float(i), np.float32) for i in range(12)}
    replies = [reply_of(state, loss=1.0, accuracy=0.5), reply_of(state, loss=1.0, accuracy=0.5)]
    turned = dict(reversed(list(state.items())))
    replies += [reply_of(turned, accuracy=0.5, loss=1), reply_of(turned, accuracy=1, loss=1)]
    secure, result = run(make, grid_of, replies, sent=state)
    assert secure.reports[0].contributors == NAMES
    assert secure.reports[0].missed == {}
    # Apps and strategies read them by position: they come back as they were sent.
    assert list(result.arrays) == list(state)
    means = np.stack(result.arrays.to_numpy_ndarrays())
    assert means[:, 0] == pytest.approx(np.arange(12.0), abs=1e-6)
    # One node says 1, and the others 0.5: an integer is a number like others.
    assert result.train_metrics_clientapp[1]["accuracy"] == pytest.approx(0.625)


def test_what_a_node_holds_in_place_of_what_others_hold_is_named(
    make: Callable[..., Any], grid_of: Callable[[Any], Any]
) -> None:
    state = batch_norm(1.0)
    other = state | {"bn.weight": np.ones(2)}
    less = {name: value for name, value in state.items() if name != "bn.weight"}
    protection = Protection(max_corrupt=0.0, max_dropout=0.25, min_clients=2)
    replies = [reply_of(state), reply_of(state), reply_of(other), reply_of(less)]
    secure, _ = run(make, grid_of, replies, protection=protection)
    missed = secure.reports[0].missed
    most = "in place of 'arrays/bn.weight' (array, float32, shape (2,))"
    assert missed["c"].endswith(f"'arrays/bn.weight' (array, float64, shape (2,)) {most}")
    assert missed["d"].endswith(f"nothing {most}")


# Left out


def test_masks_and_counters_that_are_left_out_stay_as_they_were_sent(
    make: Callable[..., Any], grid_of: Callable[[Any], Any]
) -> None:
    sent = {"mask": np.array([True, False]), **batch_norm(0.0)}
    replies = [reply_of({**batch_norm(1.0), "mask": np.array([i == 0, True])}) for i in range(4)]
    secure, result = run(make, grid_of, replies, sent=sent)
    assert "at least 2 nodes ready" in secure.reports[0].failure
    encoding: dict[str, Any] = {"leave_out": ["arrays/mask", "*.num_batches_tracked"]}
    secure, result = run(make, grid_of, replies, sent=sent, **encoding)
    assert secure.reports[0].failure == ""
    assert list(result.arrays) == list(sent)
    assert result.arrays["mask"].numpy().tolist() == [True, False]
    assert result.arrays["bn.num_batches_tracked"].numpy() == 1_000_000
    assert result.arrays["bn.running_var"].numpy() == pytest.approx([523.0, 16250.0], rel=1e-6)
    # An evaluation replies no arrays, and gets none.
    order = take_apart(reply_of({}, loss=1.0), KEY).announced
    record = RecordDict({"metrics": MetricRecord({KEY: 4, "loss": 1.0})})
    arranged = arrange(record, order, arrays_in(reply_of(sent)), encoding["leave_out"])
    assert list(arranged) == ["metrics"]
    assert list(arranged["metrics"].items()) == [("loss", 1.0), (KEY, 4)]


def test_the_error_of_a_mask_says_how_to_leave_it_out() -> None:
    with pytest.raises(UsageError, match=r"dtype bool.*leave_out=\['arrays/mask'\]"):
        take_apart(reply_of({"mask": np.array([True])}), KEY)


def test_leaving_out_what_is_not_there_is_refused_and_the_server_is_told(make: Callable[..., Any]) -> None:
    played = make(encoding=Encoding(leave_out=("arrays/w", "arrays/mask")))
    reply: Message = played.ask("a", m.TASK, played.task)
    assert reply.error.reason == (
        "server asks to leave out 'arrays/mask', and no array of the reply is called so: it holds 'arrays/w'"
    )
    with pytest.raises(RemoteProtocolError, match="no array of the reply"):
        take_apart(reply_of({"w": np.zeros(1)}), KEY, ("x*",))
    # An evaluation has no arrays.
    assert take_apart(reply_of({}, loss=1.0), KEY, ("x*",)).layout.arrays == ()
