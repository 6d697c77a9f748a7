"""The server's side of one sum: who is ready, the steps of the masked protocol over Flower's grid, the means."""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from flwr.app import Message
from flwr.serverapp import Grid

from secagg import wire
from secagg.errors import RemoteProtocolError, TooFewPartiesError
from secagg.integrations.flower import messages as m
from secagg.integrations.flower.announcements import Limits, Node, most_common, open_frame, open_ready
from secagg.integrations.flower.layout import Coder, Layout, Means, Sent, arrange, differs
from secagg.integrations.flower.terms import NONCE_BYTES, Agreement
from secagg.party import PartyId
from secagg.protocols.masked import Consent, Keys, MaskedInput, MaskedSum, Server, Shares, Unmasking

if TYPE_CHECKING:
    from secagg import dp

# How much longer than the server waits a message is valid: clocks differ, and a node that comes back should not find
# a message of a sum that is over.
_CLOCKS_S: Final = 60.0
_WITNESSES: Final = 16  # whose word a node is given for its own budget
_log = logging.getLogger("flwr.secagg")
W = TypeVar("W", bound=wire.Message)


@dataclass(frozen=True, slots=True)
class SumReport:
    """What became of one sum.

    Attributes:
      kind: "train" or "evaluate".
      server_round: of the strategy.
      contributors: whose updates are in the mean.
      missed: whoever else was asked, and why it is not in it or what it did wrong; nodes that never said their name by
        number.
      weight: the sum of weights; the number of contributors where there is noise; 0 if nothing was opened.
      bits: of one number as it was sent.
      error: bound on the error of the arrays' means (of the metrics', in evaluations); infinite where there is noise.
      deviation: standard deviation of the noise in each number of the means.
      spent: what this strategy's sums of this kind have told about one node so far, the one that was in most of them;
        None without noise. Sums of other runs add to it: the nodes count them.
      failure: why nothing was opened, or "".
      seconds: from the last reply to the task on.
    """

    kind: str
    server_round: int
    contributors: tuple[PartyId, ...] = ()
    missed: Mapping[str, str] = field(default_factory=dict)
    weight: int = 0
    bits: int = 0
    error: float = 0.0
    deviation: float = 0.0
    spent: dp.Report | None = None
    failure: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Task:
    """What the nodes were asked to do.

    Args:
      kind: "train" or "evaluate".
      asked: the messages that were sent, by node.
      terms: that came with them.
      asked_of_all: as `Agreement.asked`.
      sent: the arrays in each of them.
      limits: what a node may announce.
      spent: sums of this kind that each client's data went into.
    """

    kind: str
    asked: Mapping[int, Message]
    terms: m.Task
    asked_of_all: bytes
    sent: Sent
    limits: Limits
    spent: Mapping[PartyId, int]


class Collection:
    """One sum over the nodes that were sent a task.

    Args:
      grid: Flower's.
      task: what they were asked to do.
      peers: public keys by name.
      timeout_s: how long a step may take.
      poll_s: how often it is looked for answers.

    Attributes:
      missed: as in `SumReport`.
      bits: as in `SumReport`.
      exposed: whose vectors were asked for, opened or not.
      coder: None while nobody knows who takes part.
    """

    def __init__(
        self, grid: Grid, task: Task, *, peers: Mapping[PartyId, bytes], timeout_s: float, poll_s: float
    ) -> None:
        self._grid, self._task, self._peers = grid, task, peers
        self._timeout_s, self._poll_s = timeout_s, poll_s
        self._nodes: dict[PartyId, Node] = {}
        self.missed: dict[str, str] = {}
        self.bits = 0
        self.exposed: tuple[PartyId, ...] = ()
        self.coder: Coder | None = None

    def node_id(self, client: PartyId) -> int:
        """Return a client's number in Flower."""
        return self._nodes[client].node_id

    def run(self, replies: Iterable[Message]) -> tuple[Means, MaskedSum]:
        """Return the means, and who is in them.

        Raises:
          TooFewPartiesError: too few nodes stayed; nothing was opened.
          PlanError: too few nodes for the protection, or sums that fit no ring.
          RemoteProtocolError: shares that fit nobody's published keys.
          RangeError: an update did not fit, or weights add up to nothing.
        """
        run_id = self._take_ready(replies)
        nodes = [self._nodes[name] for name in sorted(self._nodes)]
        if len(nodes) < 2:
            raise TooFewPartiesError(f"expected at least 2 nodes ready for a sum, got {len(nodes)}")
        # Drawn only now: the node that answers last would else choose the graph by its own nonce.
        fresh = secrets.token_bytes(NONCE_BYTES)
        budgets = tuple(n.budget.to_bytes() for n in nodes if n.budget is not None)
        crowd = m.Crowd(tuple(n.name for n in nodes), tuple(n.nonce for n in nodes), fresh, budgets)
        task, terms = self._task, self._task.terms
        agreement = Agreement(
            run_id,
            task.kind,
            wire.to_bytes(terms),
            task.asked_of_all,
            nodes[0].setting,
            nodes[0].layout,
            crowd.names,
            crowd.nonces,
            crowd.server_nonce,
            crowd.budgets,
        )
        where, coder = agreement.round(self._peers, terms.protection, terms.encoding)
        self.coder, self.bits = coder, coder.ring.bits
        _log.info(
            "protected %s: %s; %d values of %d bits",
            task.kind,
            where.terms.parameters,
            coder.length,
            self.bits,
        )
        server = Server(where)
        self._exchange(m.KEYS, dict.fromkeys(crowd.names, crowd), Keys, server.take_keys)
        self._exchange(m.SHARES, server.close_keys(), Shares, server.take_shares)
        inboxes = server.close_shares()
        self.exposed = tuple(inboxes)
        self._exchange(m.INPUT, inboxes, MaskedInput, server.take_input)
        request: wire.Message = server.close_inputs()
        if where.terms.active:
            self._exchange(m.CONSENT, dict.fromkeys(server.included, request), Consent, server.take_consent)
            request = server.close_consents()
        self._exchange(m.UNMASK, dict.fromkeys(server.included, request), Unmasking, server.take_answer)
        summed = server.finish()
        for client in summed.suspects:
            self._miss(client, "shares of others' secrets that it sent, or was dealt, were wrong")
        means = coder.decode(summed.total, summed.contributors, terms.weight_key, task.sent)
        ((announced, _),) = Counter(node.announced for node in nodes).most_common(1)
        order = wire.from_bytes(announced, Layout)
        records = arrange(means.records, order, task.sent, terms.encoding.leave_out)
        return means._replace(records=records), summed

    def _take_ready(self, replies: Iterable[Message]) -> int:
        """Take the replies to the task; return the run's number."""
        run_id, task, answered = 0, self._task, set()
        privacy = task.terms.protection.privacy_of(task.kind)
        ready: dict[PartyId, Node] = {}
        by_message = {message.metadata.message_id: node_id for node_id, message in task.asked.items()}
        for reply in replies:
            node_id, run_id = reply.metadata.src_node_id, reply.metadata.run_id
            if reply.has_error():  # for a node that is gone the SuperLink answers, in its own name
                node_id = by_message.get(reply.metadata.reply_to_message_id, node_id)
            answered.add(node_id)
            try:
                if node_id not in task.asked:
                    raise RemoteProtocolError("was not asked", peer=f"node {node_id}")
                node = open_ready(reply, task.kind, self._peers, task.limits, noisy=privacy is not None)
            except RemoteProtocolError as error:
                self._miss(f"node {node_id}", str(error))
                continue
            if node.name in ready:
                self._miss(f"node {node_id}", f"is the second that uses {node.name}'s identity key")
            else:
                ready[node.name] = node
        for node_id in task.asked.keys() - answered:
            self._miss(f"node {node_id}", "did not answer in time")
        if not ready:
            return run_id
        usual = most_common([node.layout for node in ready.values()], task.sent)
        alike = Counter(node.setting for node in ready.values() if node.layout == usual)
        ((setting, _),) = alike.most_common(1)
        for node in ready.values():
            if node.layout != usual:
                other, most = (wire.from_bytes(data, Layout) for data in (node.layout, usual))
                self._miss(
                    node.name,
                    f"its reply holds other arrays or metrics than most others': {differs(other, most)}",
                )
            elif node.setting != setting:
                self._miss(
                    node.name, "its run configuration, or series of runs, is another than most others'"
                )
            elif privacy is not None and task.spent.get(node.name, 0) >= privacy.rounds:
                self._miss(node.name, f"its data went into {privacy.rounds} sums, all that its budget is for")
            elif knowing := self._who_knows_more(node, ready):
                self._miss(
                    node.name,
                    "its budget file is older than, or another copy of, the one that "
                    f"{', '.join(other.name for other in knowing[:5])} saw",
                )
                told = m.Older(tuple(other.frame for other in knowing[:_WITNESSES]))
                self._grid.push_messages([self._message(m.OLDER, node.node_id, told)])
            else:
                self._nodes[node.name] = node
        return run_id

    def _who_knows_more(self, node: Node, ready: Mapping[PartyId, Node]) -> list[Node]:
        """Return the nodes that saw a later budget of a node, if there are more of them than may lie."""
        protection = self._task.terms.protection
        crowd = len(self._peers) if protection.active else len(ready)
        knowing = [
            other
            for _, other in sorted(ready.items())
            if node.budget is not None
            and node.name in other.seen
            and node.budget.is_older(other.seen[node.name])
        ]
        return knowing if len(knowing) > math.floor(protection.corrupt * crowd + 1e-9) else []

    def _exchange(
        self,
        step: str,
        messages: Mapping[PartyId, wire.Message],
        kind: type[W],
        use: Callable[[PartyId, W], None],
    ) -> None:
        """Send each client its message, and use the answers as they come, until all are there or time is over."""
        outgoing = [self._message(step, self.node_id(name), message) for name, message in messages.items()]
        pushed = set(self._grid.push_messages(outgoing))
        waiting = {
            sent.metadata.message_id: name
            for sent, name in zip(outgoing, messages, strict=True)
            if sent.metadata.message_id in pushed
        }
        names = set(waiting.values())
        for name in messages.keys() - names:
            self._miss(name, f"could not be asked for {step}")
        deadline = time.monotonic() + self._timeout_s
        while waiting:
            for reply in self._grid.pull_messages(list(waiting)):
                client = waiting.pop(reply.metadata.reply_to_message_id, None)
                if client is None:
                    continue
                try:
                    use(client, wire.from_bytes(open_frame(reply, step, client), kind, peer=client))
                except RemoteProtocolError as error:
                    self._miss(client, str(error))
            if waiting:
                if time.monotonic() >= deadline:
                    break
                time.sleep(self._poll_s)
        for name in waiting.values():
            self._miss(name, f"did not answer to {step} within {self._timeout_s:g} s")

    def _message(self, step: str, node_id: int, message: wire.Message) -> Message:
        asked = self._task.asked[node_id].metadata
        return Message(
            m.pack(step, message),
            asked.dst_node_id,
            asked.message_type,  # for which the app has a function, and so the mod is called
            ttl=self._timeout_s + _CLOCKS_S,
            group_id=asked.group_id,
        )

    def _miss(self, who: str, why: str) -> None:
        _log.warning("protected %s: %s: %s", self._task.kind, who, why)
        self.missed.setdefault(who, why)
