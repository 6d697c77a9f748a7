"""The server's side: a wrapper that lets a strategy see means only."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy

from secagg.errors import UsageError
from secagg.federated.messages import TASK
from secagg.federated.round import SumReport
from secagg.federated.sum_server import NO_EVALUATION, SumServer, limit_of
from secagg.federated.terms import Protection
from secagg.federated.weighted import Encoding
from secagg.integrations.flower.exchanges import GridExchanges
from secagg.integrations.flower.messages import RECORD, record, task_digest
from secagg.integrations.flower.records import Sent, arrange, arrays_in, baseline_of, shapes_of, to_records
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


class _Asked(NamedTuple):
    """What the nodes were asked: the kind of sum, messages by node, the arrays in each of them, a digest of the task."""

    kind: str
    messages: Mapping[int, Message]
    sent: Sent
    task_digest: bytes


class SecureAggregation(Strategy):
    """A strategy that works on means nobody saw the summands of.

    A sum that cannot be opened fails its round as Flower does: the model stays as it is, and there are no metrics. The log
    and `reports` say why. Once a privacy budget is spent, nobody is asked for more of that kind.

    Args:
      strategy: what is run; it must take a weighted mean of replies, as FedAvg and its kin do.
      peers: the file of public keys, or what `load_peers` returned.
      protection: the same as in the nodes' `SecureMod`.
      encoding: how numbers are written.
      weight_key: the metric that is the weight; by default the strategy's own.
      max_numbers: largest number of values that a node may reply; by default four times what it was sent, or 2**20.
      timeout_s: how long each step after the training may take.
      sum_timeout_s: how long nodes that compute a sum together may take for it; ten times timeout_s by default. It ends
        between two steps.
      poll_s: how often it is looked for answers.

    Raises:
      UsageError: a strategy that compares single replies, a file that is not one of public keys, names in the protection
        that are not in it, a time that is not positive, or evaluation without noise beside training with noise.
      ImportError: noise is asked for, and its packages are missing.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        peers: str | Path | Mapping[PartyId, bytes],
        protection: Protection | None = None,
        encoding: Encoding | None = None,
        weight_key: str | None = None,
        max_numbers: int | None = None,
        timeout_s: float = 300.0,
        sum_timeout_s: float | None = None,
        poll_s: float = 0.5,
    ) -> None:
        if isinstance(strategy, _SINGLE_REPLIES):
            raise UsageError(
                f"{type(strategy).__name__} looks at single replies, which nobody sees here; wrap a strategy that takes a "
                "mean, such as FedAvg"
            )
        self.strategy = strategy
        if not (timeout_s > 0 and poll_s >= 0):
            raise UsageError(
                f"expected positive seconds as timeout_s and poll_s, got {timeout_s!r:.40} and {poll_s!r:.40}"
            )
        self._timeout_s, self._poll_s = timeout_s, poll_s
        key = (
            weight_key
            if weight_key is not None
            else str(getattr(strategy, "weighted_by_key", "num-examples"))
        )
        self._protection = protection or Protection()
        # Known only of strategies made like FedAvg; with others evaluation is left out.
        if not self._protection.evaluates and getattr(strategy, "fraction_evaluate", 0.0) > 0:
            raise UsageError(
                f"{NO_EVALUATION}: give {type(strategy).__name__} fraction_evaluate=0.0, or Protection an "
                "evaluation_privacy"
            )
        self._server = SumServer(
            peers,
            self._protection,
            encoding,
            weight_key=key,
            max_numbers=max_numbers,
            limit_s=limit_of(sum_timeout_s, timeout_s),
            log=_log,
        )
        self._grid: Grid | None = None
        self._asked: _Asked | None = None

    @property
    def reports(self) -> list[SumReport]:
        """What became of each sum so far."""
        return self._server.reports

    def __repr__(self) -> str:
        return f"SecureAggregation({self.strategy!r})"

    def summary(self) -> None:
        """Log the settings, and the wrapped strategy's."""
        _log.info("\t├──> Secure aggregation:")
        _log.info("\t│\t├── Registered nodes: %d", len(self._server.peers))
        _log.info("\t│\t├── %s", self._protection)
        if self._protection.privacy or self._protection.evaluation_privacy:
            _log.info("\t│\t├── With noise all nodes count the same, and metrics of training are not sent")
        _log.info("\t│\t└── %s", self._server.task.encoding)
        self.strategy.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the strategy's messages, each asking for a protected reply; none if the budget is spent."""
        if self._server.is_spent(MessageType.TRAIN):
            return self._ask([], MessageType.TRAIN, grid)
        messages = self.strategy.configure_train(server_round, arrays, config, grid)
        return self._ask(messages, MessageType.TRAIN, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Return what the strategy makes of the means as the only reply; None where there is no sum."""
        if self._asked is None:
            return self.strategy.aggregate_train(server_round, [])
        reply = self._collect(server_round, self._asked, replies)
        return (None, None) if reply is None else self.strategy.aggregate_train(server_round, [reply])

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the strategy's messages, each asking for a protected reply; none if the budget is spent."""
        if not self._protection.evaluates:
            _log.warning("%s: no evaluation", NO_EVALUATION)
            return self._ask([], MessageType.EVALUATE, grid)
        if self._server.is_spent(MessageType.EVALUATE):
            return self._ask([], MessageType.EVALUATE, grid)
        messages = self.strategy.configure_evaluate(server_round, arrays, config, grid)
        return self._ask(messages, MessageType.EVALUATE, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Return what the strategy makes of the means as the only reply; None where there is no sum."""
        if self._asked is None:
            return self.strategy.aggregate_evaluate(server_round, [])
        reply = self._collect(server_round, self._asked, replies)
        return None if reply is None else self.strategy.aggregate_evaluate(server_round, [reply])

    def _ask(self, messages: Iterable[Message], kind: str, grid: Grid) -> list[Message]:
        asked = list(messages)
        self._grid, self._asked = grid, None
        if not asked:
            return asked
        sent = arrays_in(asked[0].content)
        if self._server.task.sums_differences(kind) and any(
            not _same(sent, arrays_in(message.content)) for message in asked[1:]
        ):
            raise UsageError(
                "what updates change is added to what was sent, and the strategy sends nodes different arrays"
            )
        digest = b""
        if self._protection.is_malicious:
            digest, *others = _digests(asked)
            if others:
                raise UsageError(
                    "against a server that may do anything nodes see to it that all are asked the same, and the strategy "
                    "asks them for different things; give all nodes the same arrays and configuration"
                )
        for message in asked:
            if RECORD in message.content:
                raise UsageError(
                    f"the strategy sends a record {RECORD!r}, a name that is taken; give it another"
                )
            message.content = RecordDict({**message.content, RECORD: record(TASK, self._server.frame)})
        by_node = {message.metadata.dst_node_id: message for message in asked}
        if len(by_node) != len(asked):
            raise UsageError("the strategy sends a node two messages in one round")
        self._asked = _Asked(kind, by_node, sent, digest)
        return asked

    def _collect(self, server_round: int, asked: _Asked, replies: Iterable[Message]) -> Message | None:
        if self._grid is None:
            raise UsageError(
                "expected a configuration before an aggregation; drive the strategy with start()"
            )
        self._asked, arrived = None, list(replies)
        run = arrived[-1].metadata.run_id if arrived else 0
        current = self._server.begin(
            run, asked.kind, shapes_of(asked.sent), baseline_of(asked.sent), task_digest=asked.task_digest
        )
        exchanges = GridExchanges(self._grid, asked.messages, timeout_s=self._timeout_s, poll_s=self._poll_s)
        exchanges.take_ready(current, arrived)
        opened = current.finish(server_round, exchanges.ask)
        if opened is None:
            return None
        task = self._server.task
        records = to_records(opened.layout, opened.means.values, opened.means.weight, task.weight_key)
        content = arrange(records, opened.usual_order, asked.sent, task.encoding.leave_out)
        return exchanges.reply_of(current.address_of(opened.contributors[0]), content)


def _digests(messages: Iterable[Message]) -> set[bytes]:
    """Return what is asked, each digest once; most strategies send all nodes one content."""
    contents = {
        (id(msg.content), msg.metadata.message_type, msg.metadata.group_id): msg.content for msg in messages
    }
    return {
        task_digest(content, message_type, group) for (_, message_type, group), content in contents.items()
    }


def _same(one: Sent, other: Sent) -> bool:
    if one.keys() != other.keys():
        return False
    return all(a is other[key] or a.data == other[key].data for key, a in one.items())
