"""Sums under encryption through Flower's messages, against plain averaging."""

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

from secagg.integrations.flower import Encoding, Encryption, Protection, SecureAggregation

PROTECTION = Protection(0.25, 0.25, encryption=Encryption("b"))
ENCODING = Encoding({"": 16.0}, max_weight=100)


def start(played: Any, grid: Any) -> tuple[SecureAggregation, Any]:
    secure = SecureAggregation(
        FedAvg(min_available_nodes=4, fraction_evaluate=0.0),
        peers=played.folder / "peers.toml",
        protection=PROTECTION,
        encoding=ENCODING,
        poll_s=0.0,
        timeout_s=5.0,
    )
    arrays = ArrayRecord({"w": Array(np.zeros(3, np.float32))})
    return secure, secure.start(grid, arrays, num_rounds=2)


def test_rounds_under_a_nodes_key_are_plain_averages(
    make: Callable[..., Any], grid_of: Callable[[Any], Any]
) -> None:
    played = make(PROTECTION, encoding=ENCODING)
    secure, result = start(played, grid_of(played))
    assert [report.contributors for report in secure.reports] == [("a", "b", "c", "d")] * 2
    # Nodes reply 0 to 3, each with a weight of 2.
    assert result.arrays["w"].numpy() == pytest.approx(np.full(3, 1.5), abs=secure.reports[0].error)
    assert result.train_metrics_clientapp[2]["loss"] == pytest.approx(1.5)
    assert secure.reports[0].weight == 8


@pytest.mark.parametrize(("lost", "there"), [("a", ("b", "c", "d")), ("b", ())])
def test_a_node_may_leave_before_its_input_and_the_key_holder_may_not(
    make: Callable[..., Any], grid_of: Callable[[Any], Any], lost: str, there: tuple[str, ...]
) -> None:
    played = make(PROTECTION, encoding=ENCODING)
    node, calls = played.nodes[lost], []
    take = node.take

    def taking(message: Any) -> Any:
        calls.append(message)
        if len(calls) == 2:  # the first is the task
            (played.folder / f"{lost}.key").rename(played.folder / "gone")
        return take(message)

    node.take = taking
    secure, _ = start(played, grid_of(played))
    assert secure.reports[0].contributors == there
    assert bool(secure.reports[0].failure) == (not there)
