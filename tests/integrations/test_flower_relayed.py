"""Sums in few bits, and under a key that nodes make together, through Flower's messages; a node is lost in each."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
pytest.importorskip("flwr", minversion="1.41", reason="flwr is an optional dependency: secagg[flower]")

from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import FedAvg

from secagg import wire
from secagg.federated.carrier import Carrier
from secagg.federated.error_feedback import Memory
from secagg.federated.letters import pack
from secagg.federated.relayed import Answer
from secagg.integrations.flower import (
    Compression,
    Encoding,
    Protection,
    SecureAggregation,
    SharedKey,
    messages,
)

SHARED = Protection(0.25, 0.25, shared_key=SharedKey(("a", "b")))
MASKS = Protection(0.25, 0.25)
FEW = Encoding({"": 4.0}, max_weight=2, compression=Compression(bits=12))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protection", "encoding", "error", "why"),
    [
        (SHARED, Encoding({"": 16.0}, max_weight=100), 2e-6, "failed at relay"),
        (SHARED, Encoding({"": 16.0}, max_weight=100), 2e-6, "is not in the sum"),
        (MASKS, FEW, 4e-3, "failed at "),
    ],
)
def test_a_mean_is_that_of_those_who_stay_and_within_the_stated_error(
    make: Callable[..., Any],
    grid_of: Callable[[Any], Any],
    monkeypatch: pytest.MonkeyPatch,
    protection: Protection,
    encoding: Encoding,
    error: float,
    why: str,
) -> None:
    played = make(protection, encoding=encoding)
    node, calls = played.nodes["d"], []
    take = node.take

    def taking(message: Any) -> Any:
        calls.append(message)
        if len(calls) == 3:  # the task and its keys come before
            (played.folder / "d.key").rename(played.folder / "gone")
        return take(message)

    if "failed" in why:
        node.take = taking
    else:  # it answers, and its letters do not come
        took = Carrier.take_answer
        monkeypatch.setattr(
            Carrier,
            "take_answer",
            lambda self, name, answer: took(
                self, name, Answer(pack([]), True, "") if name == "d" else answer
            ),
        )
    secure = SecureAggregation(
        FedAvg(min_available_nodes=4, fraction_evaluate=0.0),
        peers=played.folder / "peers.toml",
        protection=protection,
        encoding=encoding,
        poll_s=0.0,
        timeout_s=5.0,
    )
    result = secure.start(grid_of(played), ArrayRecord({"w": Array(np.zeros(3, np.float32))}), num_rounds=1)
    (report,) = secure.reports
    assert (report.contributors, report.failure, report.weight) == (("a", "b", "c"), "", 6)
    assert (list(report.missed), why in "".join(report.missed.values())) == (["d"], True)
    assert report.error < error
    # Nodes reply 0 to 3, each with a weight of 2.
    assert result.arrays["w"].numpy() == pytest.approx(np.full(3, 1.0), abs=report.error)
    metrics = dict(result.train_metrics_clientapp[1])
    assert metrics == ({} if encoding.compression else {"loss": pytest.approx(1.0)})


@pytest.mark.slow
def test_what_few_bits_cut_off_comes_in_later_rounds_from_what_flower_keeps_of_a_node(
    make: Callable[..., Any], grid_of: Callable[[Any], Any], reply_of: Callable[..., Any]
) -> None:
    targets, seen = np.arange(12, dtype=np.float64).reshape(4, 3) / 4, list[Any]()

    def reply(number: int) -> Callable[[Any], Any]:
        def answer(content: Any) -> Any:
            model = content["arrays"]["w"].numpy()
            seen.append(targets[number] - model)  # what this node's reply changes
            return reply_of({"w": targets[number].astype(np.float32)})

        return answer

    few = Encoding({"": 8.0}, max_weight=2, compression=Compression(bits=8, keep=0.4, error_feedback=True))
    played = make(MASKS, encoding=few, replies=[reply(i) for i in range(4)])
    secure = SecureAggregation(
        FedAvg(min_available_nodes=4, fraction_evaluate=0.0),
        peers=played.folder / "peers.toml",
        protection=MASKS,
        encoding=few,
        poll_s=0.0,
    )
    result = secure.start(grid_of(played), ArrayRecord({"w": Array(np.zeros(3))}), num_rounds=6)
    assert [report.failure for report in secure.reports] == [""] * 6
    kept = [messages.recall(node.context) for node in played.nodes.values()]
    memories = [wire.from_bytes(data, Memory).numbers for data in kept]
    # Each round sums two of three numbers; what was cut off of all is what nodes remember.
    moved = (np.sum(seen, axis=0) - np.sum(memories, axis=0)) / 4
    assert np.max(np.abs(result.arrays["w"].numpy() - moved)) < 1e-5
    assert np.any(np.abs(memories) > 0.1)
