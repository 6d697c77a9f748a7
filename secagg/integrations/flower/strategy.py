"""The server's side: a wrapper that lets a strategy see means only."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy

from secagg import wire
from secagg.errors import SecaggError, UsageError
from secagg.federated.identities import load_peers
from secagg.federated.messages import TASK, Task
from secagg.federated.registration import limits_for
from secagg.federated.round import ServerRound, SumReport, SumRequest
from secagg.federated.terms import Protection
from secagg.federated.weighted import Encoding
from secagg.integrations.flower.collection import Collection
from secagg.integrations.flower.messages import RECORD, record, task_digest
from secagg.integrations.flower.records import Sent, arrays_in, shapes_of
from secagg.party import PartyId

if TYPE_CHECKING:
    from secagg import dp

_log = logging.getLogger("flwr.secagg")

_NO_EVALUATION: Final = "training has noise, and metrics of evaluation without noise would tell what it hides"
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
    """What the nodes were asked: the job, the messages by node, and the arrays in each of them."""

    job: SumRequest
    messages: Mapping[int, Message]
    sent: Sent


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
      poll_s: how often it is looked for answers.

    Raises:
      UsageError: a strategy that compares single replies, a file that is not one of public keys, names in the protection
        that are not in it, a time that is not positive, or evaluation without noise beside training with noise.
      ImportError: noise is asked for, and its packages are missing.

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
        max_numbers: int | None = None,
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
        self._terms = Task(protection or Protection(), encoding or Encoding(), key)
        self._protection = self._terms.protection
        self._protection.check_packages()
        self._protection.check_encoding(self._terms.encoding)
        # Known only of strategies made like FedAvg; with others evaluation is left out.
        if not self._protection.evaluates and getattr(strategy, "fraction_evaluate", 0.0) > 0:
            raise UsageError(
                f"{_NO_EVALUATION}: give {type(strategy).__name__} fraction_evaluate=0.0, or Protection an "
                "evaluation_privacy"
            )
        self._max_numbers = max_numbers
        limits_for({}, max_numbers)  # refuses what is no limit before anybody is asked
        self._protection.check_names(self._peers)
        self._grid: Grid | None = None
        self._asked: _Asked | None = None
        self._spent: dict[str, Counter[PartyId]] = {}

    def __repr__(self) -> str:
        return f"SecureAggregation({self.strategy!r})"

    def summary(self) -> None:
        """Log the settings, and the wrapped strategy's."""
        _log.info("\t├──> Secure aggregation:")
        _log.info("\t│\t├── Registered nodes: %d", len(self._peers))
        _log.info("\t│\t├── %s", self._protection)
        if self._protection.privacy or self._protection.evaluation_privacy:
            _log.info("\t│\t├── With noise all nodes count the same, and metrics of training are not sent")
        _log.info("\t│\t└── %s", self._terms.encoding)
        self.strategy.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the strategy's messages, each asking for a protected reply; none if the budget is spent."""
        if self._is_spent(MessageType.TRAIN):
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
            _log.warning("%s: no evaluation", _NO_EVALUATION)
            return self._ask([], MessageType.EVALUATE, grid)
        if self._is_spent(MessageType.EVALUATE):
            return self._ask([], MessageType.EVALUATE, grid)
        messages = self.strategy.configure_evaluate(server_round, arrays, config, grid)
        return self._ask(messages, MessageType.EVALUATE, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Return what the strategy makes of the means as the only reply; None where there is no sum."""
        if self._asked is None:
            return self.strategy.aggregate_evaluate(server_round, [])
        reply = self._collect(server_round, self._asked, replies)
        return None if reply is None else self.strategy.aggregate_evaluate(server_round, [reply])

    def _is_spent(self, kind: str) -> bool:
        """Whether too few nodes have budget left for a sum of this kind; nodes know of other runs, too."""
        privacy = self._protection.privacy_of(kind)
        if privacy is None:
            return False
        spent = self._spent.get(kind)
        if spent is None:
            return False
        left = sum(spent[name] < privacy.rounds for name in self._peers)
        if left >= self._protection.min_clients:
            return False
        _log.error(
            "protected %s: the data of all but %d nodes went into %d sums, all that the budget %s is for; nobody is asked "
            "any more",
            kind,
            left,
            privacy.rounds,
            privacy,
        )
        return True

    def _ask(self, messages: Iterable[Message], kind: str, grid: Grid) -> list[Message]:
        asked = list(messages)
        self._grid, self._asked = grid, None
        if not asked:
            return asked
        sent = arrays_in(asked[0].content)
        if self._terms.sums_differences(kind) and any(
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
        frame = wire.to_bytes(self._terms)
        for message in asked:
            if RECORD in message.content:
                raise UsageError(
                    f"the strategy sends a record {RECORD!r}, a name that is taken; give it another"
                )
            message.content = RecordDict({**message.content, RECORD: record(TASK, frame)})
        by_node = {message.metadata.dst_node_id: message for message in asked}
        if len(by_node) != len(asked):
            raise UsageError("the strategy sends a node two messages in one round")
        shapes = shapes_of(sent)
        limits = limits_for(shapes, self._max_numbers)
        spent = self._spent.get(kind, Counter())
        self._asked = _Asked(SumRequest(kind, self._terms, digest, shapes, limits, spent), by_node, sent)
        return asked

    def _collect(self, server_round: int, asked: _Asked, replies: Iterable[Message]) -> Message | None:
        if self._grid is None:
            raise UsageError(
                "expected a configuration before an aggregation; drive the strategy with start()"
            )
        began, self._asked, kind = time.monotonic(), None, asked.job.kind
        collection = Collection(
            self._grid,
            asked.job,
            asked.messages,
            asked.sent,
            peers=self._peers,
            timeout_s=self._timeout_s,
            poll_s=self._poll_s,
        )
        try:
            records, means, contributors = collection.run(replies)
        except SecaggError as error:
            _log.error("protected %s of round %d failed, nothing was used: %s", kind, server_round, error)
            report = SumReport(
                kind,
                server_round,
                missed=collection.missed,
                spent=self._spend(collection.current, kind),
                failure=str(error),
                seconds=time.monotonic() - began,
            )
            self.reports.append(report)
            return None
        report = SumReport(
            kind,
            server_round,
            contributors=contributors,
            missed=collection.missed,
            weight=means.weight,
            bits=0 if collection.current is None else collection.current.coder.ring.bits,
            error=means.error,
            noise_std=means.noise_std,
            spent=self._spend(collection.current, kind),
            seconds=time.monotonic() - began,
        )
        self.reports.append(report)
        _log.info(
            "protected %s: mean of %d of %d nodes, weights %d, in %.1f s",
            kind,
            len(contributors),
            len(asked.messages),
            means.weight,
            report.seconds,
        )
        return Message(records, reply_to=asked.messages[collection.node_id(contributors[0])])

    def _spend(self, current: ServerRound | None, kind: str) -> dp.Report | None:
        """Count a sum, opened or not, at those whose vectors were asked for; return what is spent."""
        privacy, counts = self._protection.privacy_of(kind), self._spent.setdefault(kind, Counter())
        if current is None:
            return None
        counts.update(current.exposed)
        spent = current.coder.report(max(counts.values(), default=0))
        if spent is None or privacy is None:
            return None  # no noise, or nobody was asked for anything
        _log.info(
            "protected %s: spent epsilon=%.3g of %g at delta=%g, after %d of %d sums; noise of standard "
            "deviation %.3g in a sum",
            kind,
            spent.epsilon,
            privacy.epsilon,
            spent.delta,
            spent.rounds,
            privacy.rounds,
            spent.noise_std,
        )
        return spent


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
