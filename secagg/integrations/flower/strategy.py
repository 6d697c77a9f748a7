"""The server's side: a wrapper that lets a strategy see means only."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy

from secagg import wire
from secagg.errors import SecaggError, UsageError
from secagg.integrations.flower import messages as m
from secagg.integrations.flower.collection import Collection, SumReport
from secagg.integrations.flower.identities import load_peers
from secagg.integrations.flower.terms import Encoding, Protection
from secagg.party import PartyId

_log = logging.getLogger("flwr.secagg")

# These look at single replies: medians, distances, losses, trees, or clipping at the server.
_SINGLE_REPLIES: Final = (
    flower.Bulyan,
    flower.DifferentialPrivacyServerSideAdaptiveClipping,
    flower.DifferentialPrivacyServerSideFixedClipping,
    flower.DifferentialPrivacyClientSideAdaptiveClipping,
    flower.DifferentialPrivacyClientSideFixedClipping,
    flower.FedMedian,
    flower.FedTrimmedAvg,
    flower.FedXgbBagging,
    flower.FedXgbCyclic,
    flower.Krum,
    flower.MultiKrum,
    flower.QFedAvg,
)


class SecureAggregation(Strategy):
    """A strategy that works on means nobody saw the summands of.

    A sum that cannot be opened fails its round as Flower does: the model stays as it is, there are no metrics, the log
    and `reports` say why.

    Args:
      strategy: what is run; it must take a weighted mean of replies, as FedAvg and its kin do.
      peers: the file of public keys, or its content.
      protection: the same as in the nodes' `SecureMod`.
      encoding: how numbers are written.
      weight_key: the metric that is the weight; by default the strategy's own.
      timeout_s: how long each step after the training may take.
      poll_s: how often it is looked for answers.

    Raises:
      UsageError: a strategy that compares single replies, or a file that is not one of public keys.

    Attributes:
      reports: what became of each sum so far.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        peers: str | Path | Mapping[PartyId, bytes],
        protection: Protection | None = None,
        encoding: Encoding | None = None,
        weight_key: str | None = None,
        timeout_s: float = 300.0,
        poll_s: float = 0.5,
    ) -> None:
        if isinstance(strategy, _SINGLE_REPLIES):
            raise UsageError(
                f"{type(strategy).__name__} looks at single replies, which nobody sees here; wrap a strategy that takes a "
                "mean, such as FedAvg"
            )
        self.strategy = strategy
        self.reports: list[SumReport] = []
        self._peers = dict(peers) if isinstance(peers, Mapping) else load_peers(peers)
        self._timeout_s, self._poll_s = timeout_s, poll_s
        key = (
            weight_key
            if weight_key is not None
            else str(getattr(strategy, "weighted_by_key", "num-examples"))
        )
        self._task = m.Task(protection or Protection(), encoding or Encoding(), key)
        self._grid: Grid | None = None
        self._asked: dict[int, Message] = {}

    def __repr__(self) -> str:
        return f"SecureAggregation({self.strategy!r})"

    def summary(self) -> None:
        """Log the settings, and the wrapped strategy's."""
        _log.info("\t├──> Secure aggregation:")
        _log.info("\t│\t├── Registered nodes: %d", len(self._peers))
        _log.info("\t│\t├── %s", self._task.protection)
        _log.info("\t│\t└── %s", self._task.encoding)
        self.strategy.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the strategy's messages, each asking for a protected reply."""
        return self._ask(self.strategy.configure_train(server_round, arrays, config, grid), grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Return what the strategy makes of the means as the only reply; None where there is no sum."""
        if not self._asked:
            return self.strategy.aggregate_train(server_round, [])
        reply = self._collect(server_round, MessageType.TRAIN, replies)
        return (None, None) if reply is None else self.strategy.aggregate_train(server_round, [reply])

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the strategy's messages, each asking for a protected reply."""
        return self._ask(self.strategy.configure_evaluate(server_round, arrays, config, grid), grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Return what the strategy makes of the means as the only reply; None where there is no sum."""
        if not self._asked:
            return self.strategy.aggregate_evaluate(server_round, [])
        reply = self._collect(server_round, MessageType.EVALUATE, replies)
        return None if reply is None else self.strategy.aggregate_evaluate(server_round, [reply])

    def _ask(self, messages: Iterable[Message], grid: Grid) -> list[Message]:
        asked = list(messages)
        frame = wire.to_bytes(self._task)
        for message in asked:
            # Strategies send everybody the same content.
            message.content = RecordDict({**message.content, m.RECORD: m.record(m.TASK, frame)})
        self._grid = grid
        self._asked = {message.metadata.dst_node_id: message for message in asked}
        if len(self._asked) != len(asked):
            raise UsageError("the strategy sends a node two messages in one round")
        return asked

    def _collect(self, server_round: int, kind: str, replies: Iterable[Message]) -> Message | None:
        if self._grid is None:
            raise UsageError(
                "expected a configuration before an aggregation; drive the strategy with start()"
            )
        began, asked, self._asked = time.monotonic(), self._asked, {}
        collection = Collection(
            self._grid,
            asked,
            kind=kind,
            task=self._task,
            peers=self._peers,
            timeout_s=self._timeout_s,
            poll_s=self._poll_s,
        )
        try:
            means, summed = collection.run(replies)
        except SecaggError as error:
            _log.error("protected %s of round %d failed, nothing was used: %s", kind, server_round, error)
            seconds = time.monotonic() - began
            report = SumReport(
                kind, server_round, missed=collection.missed, failure=str(error), seconds=seconds
            )
            self.reports.append(report)
            return None
        report = SumReport(
            kind,
            server_round,
            summed.contributors,
            collection.missed,
            means.weight,
            means.clipped,
            collection.bits,
            means.error,
            seconds=time.monotonic() - began,
        )
        self.reports.append(report)
        _log.info(
            "protected %s: mean of %d of %d nodes, weights %d, in %.1f s",
            kind,
            len(summed.contributors),
            len(asked),
            means.weight,
            report.seconds,
        )
        if means.clipped:
            _log.warning(
                "protected %s: %d values lay beyond the clips; widen them in Encoding", kind, means.clipped
            )
        return Message(means.records, reply_to=asked[collection.node_id(summed.contributors[0])])
