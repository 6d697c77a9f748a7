"""The server's side of one sum: who takes part, the exchanges of the masked protocol, the means.

    candidates = admit(registrations, ...)                  # who fits
    current = ServerRound(candidates.admitted, ...)
    for exchange in current.exchanges(): ...                # send, and use what comes back
    means, summed = current.finish(baseline)

A framework carries the messages.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from secagg import wire
from secagg.errors import SecaggError, TooFewPartiesError, UsageError
from secagg.federated import messages
from secagg.federated.carrier import Carrier
from secagg.federated.encrypted import Adding, Decrypted, EncryptedInput, EncryptedTerms, SumKey
from secagg.federated.layout import Baseline, Coder, Layout, Means, Shapes, differs
from secagg.federated.letters import SumPublicKey
from secagg.federated.registration import Limits, Registration, most_common
from secagg.federated.relayed import RELAY, Answer, RelayedSum
from secagg.federated.terms import NONCE_BYTES, Agreement
from secagg.party import PartyId
from secagg.protocols.masked_sum import (
    Consent,
    Keys,
    MaskedInput,
    MaskedSum,
    Server,
    Shares,
    SumInSession,
    Unmasking,
)
from secagg.protocols.threat_model import largest_part

if TYPE_CHECKING:
    from secagg import dp

LEFT_OUT: Final = "its update is not in the sum: it did not come, or was not what it should be"
BLAMED: Final = (
    "the sum could not be computed because of it, or of another of those named with it; others compute the next one if the "
    "setting names enough"
)
OUT_OF_BOUNDS: Final = "its update is out of the bounds that Protection.bounded sets, and is in no sum"
_WITNESSES: Final = 16  # whose word a node is given for its own budget
_log: Final = logging.getLogger("secagg.federated")


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
      noise_std: standard deviation of the noise in each number of the means; with compression, of rounding at random and of
        what was not drawn, as the root of the mean square.
      spent: what this server's sums of this kind have told so far about the node that was in most of them. None without
        noise. Sums of other runs add to it: the nodes count them.
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
    noise_std: float = 0.0
    spent: dp.Report | None = None
    failure: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SumRequest:
    """What the nodes of a sum were asked to do.

    Args:
      kind: "train" or "evaluate".
      task: the message that all got.
      task_digest: as in `Agreement`.
      sent: shapes of the arrays that came with the task.
      limits: what a node may announce.
      spent: sums of this kind that each node's data went into.
      failures: sums that could not be computed because of each node.
    """

    kind: str
    task: messages.Task
    task_digest: bytes
    sent: Shapes
    limits: Limits
    spent: Mapping[PartyId, int]
    failures: Mapping[PartyId, int] = field(default_factory=dict)


class Admission(NamedTuple):
    """Who takes part in a sum.

    admitted: by name. refused: the others, and why. stale: what to tell those whose budget file is an old one.
    """

    admitted: dict[PartyId, Registration]
    refused: dict[PartyId, str]
    stale: dict[PartyId, messages.StaleBudget]


class Exchange(NamedTuple):
    """One step: what to send to whom, of what kind the answers are, and what takes them.

    `use` raises RemoteProtocolError for an answer that is to be counted as missing.
    """

    step: str
    messages: Mapping[PartyId, wire.Message]
    answer: type[wire.Message]
    use: Callable[[PartyId, Any], None]


def admit(
    ready: Mapping[PartyId, Registration], request: SumRequest, peers: Mapping[PartyId, bytes]
) -> Admission:
    """Return who fits the layout and setting that most announced, and has budget left.

    Args:
      ready: nodes that are ready, by name; at least one.
      request: what they were asked.
      peers: public keys by name.
    """
    privacy = request.task.protection.privacy_of(request.kind)
    usual = most_common([node.layout for node in ready.values()], request.sent)
    alike = Counter(node.setting for node in ready.values() if node.layout == usual)
    ((setting, _),) = alike.most_common(1)
    found = Admission({}, {}, {})
    for node in ready.values():
        if node.layout != usual:
            other, most = (wire.from_bytes(data, Layout) for data in (node.layout, usual))
            why = f"its reply holds other arrays or metrics than most others': {differs(other, most)}"
        elif node.setting != setting:
            why = "its run configuration, or series of runs, is another than most others'"
        elif privacy is not None and request.spent.get(node.name, 0) >= privacy.rounds:
            why = f"its data went into {privacy.rounds} sums, all that its budget is for"
        elif knowing := _who_knows_more(node, ready, request, peers):
            why = (
                "its budget file is older than, or another copy of, the one that "
                f"{', '.join(other.name for other in knowing[:5])} saw"
            )
            frames = tuple(other.frame for other in knowing[:_WITNESSES])
            found.stale[node.name] = messages.StaleBudget(frames)
        else:
            found.admitted[node.name] = node
            continue
        found.refused[node.name] = why
    return found


class ServerRound:
    """The server in one sum.

    Args:
      nodes: that take part.
      run: the framework's number of the run.
      request: what they were asked.
      peers: public keys by name.
      log: where it says what becomes of numbers that nothing holds.
      limit_s: how long nodes that compute together may take; None for as long as they go on.

    Raises:
      TooFewPartiesError: fewer than two nodes, or too few of those that compute.
      PlanError: too few nodes for the protection, or sums that fit no ring.

    Attributes:
      where: the round of the masked protocol.
      coder: how numbers are written in it.
      exposed: whose vectors were asked for, opened or not.
      refused: whose updates were out of bounds.
      blamed: because of whom the sum could not be computed, as far as can be told; of several, one at least.
    """

    where: SumInSession
    coder: Coder
    exposed: tuple[PartyId, ...]
    refused: tuple[PartyId, ...]
    blamed: tuple[PartyId, ...]

    def __init__(
        self,
        nodes: Mapping[PartyId, Registration],
        run: int,
        request: SumRequest,
        peers: Mapping[PartyId, bytes],
        *,
        log: logging.Logger = _log,
        limit_s: float | None = None,
    ) -> None:
        self._nodes = [nodes[name] for name in sorted(nodes)]
        if len(self._nodes) < 2:
            raise TooFewPartiesError(f"expected at least 2 nodes ready for a sum, got {len(self._nodes)}")
        # Drawn only now: the node that answers last would else choose the graph by its own nonce.
        fresh, task = secrets.token_bytes(NONCE_BYTES), request.task
        self._layout = wire.from_bytes(self._nodes[0].layout, Layout)
        self._participants = messages.Participants(
            tuple(n.name for n in self._nodes),
            tuple(n.nonce for n in self._nodes),
            fresh,
            tuple(n.budget.to_bytes() for n in self._nodes if n.budget is not None),
            task.protection.computing(request.kind, nodes, request.failures),
        )
        agreement = Agreement(
            run=run,
            kind=request.kind,
            task=wire.to_bytes(task),
            task_digest=request.task_digest,
            setting=self._nodes[0].setting,
            layout=self._layout,
            names=self._participants.names,
            nonces=self._participants.nonces,
            server_nonce=self._participants.server_nonce,
            budgets=self._participants.budgets,
            computing=self._participants.computing,
        )
        self.where, self.coder = agreement.round(
            peers, task.protection, task.encoding, task.weight_key, log=log
        )
        self.exposed, self.refused, self.blamed = (), (), ()
        self._peers = peers
        self._encrypted: EncryptedTerms | None = None
        if task.protection.encryption is not None:
            self._encrypted = agreement.encrypted(self.where, self.coder, task.protection.encryption)
        self._relayed: RelayedSum | None = None
        if task.protection.relays(request.kind):
            self._relayed = agreement.relayed(self.where, self.coder, task.protection)
        self._limit_s = limit_s
        self._summed: MaskedSum | None = None

    def exchanges(self) -> Iterator[Exchange]:
        """Yield the exchanges in their order; each is to be done before the next is asked for.

        Raises:
          TooFewPartiesError: too few nodes stayed; nothing was opened.
          RemoteProtocolError: shares that fit nobody's published keys.
        """
        if self._encrypted is not None:
            yield from self._under_encryption(self._encrypted)
            return
        if self._relayed is not None:
            yield from self._by_letters(self._relayed)
            return
        server = Server(self.where)
        yield Exchange(
            messages.KEYS, dict.fromkeys(self._participants.names, self._participants), Keys, server.take_keys
        )
        yield Exchange(messages.SHARES, server.close_keys(), Shares, server.take_shares)
        inboxes = server.close_shares()
        self.exposed = tuple(inboxes)
        yield Exchange(messages.INPUT, inboxes, MaskedInput, server.take_input)
        request: wire.Message = server.close_inputs()
        if self.where.terms.malicious:
            asked = dict.fromkeys(server.included, request)
            yield Exchange(messages.CONSENT, asked, Consent, server.take_consent)
            request = server.close_consents()
        yield Exchange(
            messages.UNMASK, dict.fromkeys(server.included, request), Unmasking, server.take_answer
        )
        self._summed = server.finish()

    def _under_encryption(self, terms: EncryptedTerms) -> Iterator[Exchange]:
        adding, holder = Adding(terms, self._peers), terms.encryption.key_holder
        yield Exchange(messages.KEYS, {holder: self._participants}, SumKey, adding.take_key)
        told = messages.KeyToUse(self._participants, adding.key())
        yield Exchange(
            messages.INPUT, dict.fromkeys(self._participants.names, told), EncryptedInput, adding.take_input
        )
        yield Exchange(messages.DECRYPT, {holder: adding.total()}, Decrypted, adding.take_total)
        dropped = tuple(name for name in terms.names if name not in adding.contributors)
        self._summed = MaskedSum(total=adding.finish(), contributors=adding.contributors, dropped=dropped)

    def _by_letters(self, terms: RelayedSum) -> Iterator[Exchange]:
        carrier = Carrier(terms, self._peers, limit_s=self._limit_s)
        asked = dict.fromkeys(self._participants.names, self._participants)
        yield Exchange(messages.KEYS, asked, SumPublicKey, carrier.take_key)
        try:
            while deliveries := carrier.deliveries():
                yield Exchange(RELAY, deliveries, Answer, carrier.take_answer)
        except SecaggError as error:
            self.blamed = carrier.blamed(error)
            raise
        found = carrier.finish()
        if found.total is None:  # cannot be: the server is the result party
            raise UsageError("the server learnt no sum")
        self.refused = found.rejected
        dropped = (*found.dropped, *found.rejected)
        self._summed = MaskedSum(total=found.total, contributors=found.contributors, dropped=dropped)

    def finish(self, baseline: Baseline) -> tuple[Means, MaskedSum]:
        """Return the means, and who is in them.

        Args:
          baseline: the arrays that the task came with.

        Raises:
          UsageError: not all exchanges were done.
          RangeError: an update did not fit, or weights add up to nothing.
        """
        if self._summed is None:
            raise UsageError("a sum is finished when all its exchanges are done")
        summed = self._summed
        return self.coder.decode(summed.total, len(summed.contributors), baseline), summed

    @property
    def layout(self) -> Layout:
        """The layout that all nodes have in common, canonical."""
        return self._layout

    def usual_order(self) -> Layout:
        """Return the layout in the order in which most nodes announced it."""
        ((announced, _),) = Counter(node.announced for node in self._nodes).most_common(1)
        return wire.from_bytes(announced, Layout)


def _who_knows_more(
    node: Registration,
    ready: Mapping[PartyId, Registration],
    request: SumRequest,
    peers: Mapping[PartyId, bytes],
) -> Sequence[Registration]:
    """Return the nodes that saw a later budget of a node, if there are more of them than may lie."""
    protection = request.task.protection
    cohort = len(peers) if protection.is_malicious else len(ready)
    knowing = [
        other
        for _, other in sorted(ready.items())
        if node.budget is not None and node.name in other.seen and node.budget.is_older(other.seen[node.name])
    ]
    return knowing if len(knowing) > largest_part(protection.max_corrupt, cohort) else []
