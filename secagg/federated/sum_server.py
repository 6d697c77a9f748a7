"""The server's side for frameworks: one sum after the other, each from the replies to a task to the means.

    server = SumServer(peers, protection)          # server.frame goes out with the framework's own task
    current = server.begin(run, "train", shapes, baseline)
    current.take(address, frame)                   # what each client replied to the task
    opened = current.finish(round_number, ask)     # None: nothing was opened, and server.reports says why

`ask` sends each client one frame, and gives back what each answers, as the answers come. Frameworks that cannot wait for
answers take `current.steps` in its place.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from secagg import wire
from secagg.errors import RemoteProtocolError, SecaggError, UsageError
from secagg.federated.identities import load_peers
from secagg.federated.layout import Baseline, Layout, Means, Shapes
from secagg.federated.messages import STALE, task_of
from secagg.federated.registration import Registration, limits_for, read_ready
from secagg.federated.round import (
    BLAMED,
    LEFT_OUT,
    OUT_OF_BOUNDS,
    Exchange,
    ServerRound,
    SumReport,
    SumRequest,
    admit,
)
from secagg.federated.terms import EVALUATE, Protection
from secagg.federated.weighted import Encoding
from secagg.party import PartyId

if TYPE_CHECKING:
    from secagg import dp

NO_EVALUATION: Final = "training has noise, and metrics of evaluation without noise would tell what it hides"
_log: Final = logging.getLogger("secagg.federated")

# Addresses, each with a frame or with why there is none.
Answers: TypeAlias = Iterable[tuple[str, "bytes | RemoteProtocolError"]]
# Step, and what to send to each address.
Ask: TypeAlias = Callable[[str, Mapping[str, bytes]], Answers]
Steps: TypeAlias = Generator[tuple[str, dict[str, bytes]], Answers, "Opened | None"]


class Opened(NamedTuple):
    """What a sum stands for, and whose it is.

    layout: canonical; `means.values` are in its order. usual_order: the same as most nodes announced it. contributors: by
    name.
    """

    layout: Layout
    usual_order: Layout
    means: Means
    contributors: tuple[PartyId, ...]


def limit_of(sum_timeout_s: float | None, step_timeout_s: float) -> float:
    """Return how long nodes that compute a sum together may take for it: as long as set, or for ten of their steps."""
    return 10 * step_timeout_s if sum_timeout_s is None else sum_timeout_s


class SumServer:
    """What a server keeps from sum to sum.

    Args:
      peers: the file of public keys, or its content.
      protection: the same as at the nodes.
      encoding: how numbers are written.
      weight_key: what nodes call the weight.
      max_numbers: how many numbers a node may reply; by default four times what it was sent, or 2**20.
      limit_s: how long nodes that compute a sum together may take for it; by default as long as they go on.
      log: where it says what becomes of sums.

    Raises:
      UsageError: a file that is not one of public keys, names in the protection that are not in it, or a limit below 1.
      ImportError: noise is asked for, and its packages are missing.

    Attributes:
      peers: public keys by name.
      task: the terms of every sum.
      frame: the same as bytes, which go out with the framework's own task.
      reports: what became of each sum so far.
      failures: how many sums could not be computed because of each node.
      limit_s, log: as above.
    """

    def __init__(
        self,
        peers: str | Path | Mapping[PartyId, bytes],
        protection: Protection | None = None,
        encoding: Encoding | None = None,
        *,
        weight_key: str = "weight",
        max_numbers: int | None = None,
        limit_s: float | None = None,
        log: logging.Logger = _log,
    ) -> None:
        self.peers = dict(peers) if isinstance(peers, Mapping) else load_peers(peers)
        self.task: Final = task_of(protection or Protection(), encoding or Encoding(), weight_key)
        self.protection.check_packages()
        self.protection.check_encoding(self.task.encoding)
        limits_for({}, max_numbers)  # refuses what is no limit before anybody is asked
        self.protection.check_names(self.peers)
        if limit_s is not None and not limit_s > 0:
            raise UsageError(f"expected positive seconds for a whole sum, got {limit_s!r:.40}")
        self._max_numbers, self.limit_s, self.log = max_numbers, limit_s, log
        self.frame: Final = wire.to_bytes(self.task)
        self.reports: list[SumReport] = []
        self.failures: Counter[PartyId] = Counter()
        self._spent: dict[str, Counter[PartyId]] = {}

    @property
    def protection(self) -> Protection:
        """What nodes have to insist on."""
        return self.task.protection

    def begin(
        self, run: int, kind: str, shapes: Shapes, baseline: Baseline, *, task_digest: bytes = b""
    ) -> SumUnderWay:
        """Begin a sum.

        Args:
          run, kind: of the sum.
          shapes: of the arrays that go out with the task.
          baseline: finds these arrays.
          task_digest: as nodes compute it, if they take the server for malicious; else left out.

        Raises:
          UsageError: evaluation where nodes refuse it.
        """
        if kind == EVALUATE and not self.protection.evaluates:
            raise UsageError(
                f"{NO_EVALUATION}; give Protection an evaluation_privacy, or do not evaluate at the nodes"
            )
        limits = limits_for(shapes, self._max_numbers)
        digest = task_digest if self.protection.is_malicious else b""
        spent = self._spent.setdefault(kind, Counter())
        request = SumRequest(kind, self.task, digest, shapes, limits, spent, self.failures)
        return SumUnderWay(self, run, request, baseline)

    def is_spent(self, kind: str) -> bool:
        """Whether too few nodes have budget left for a sum of this kind; the log says so. Nodes know of other runs, too."""
        privacy, spent = self.protection.privacy_of(kind), self._spent.get(kind)
        if privacy is None or spent is None:
            return False
        left = sum(spent[name] < privacy.rounds for name in self.peers)
        if left >= self.protection.min_clients:
            return False
        self.log.error(
            "protected %s: the data of all but %d nodes went into %d sums, all that the budget %s is for; nobody is asked "
            "any more",
            kind,
            left,
            privacy.rounds,
            privacy,
        )
        return True

    def spend(self, kind: str, current: ServerRound) -> dp.Report | None:
        """Count a sum, opened or not, at those whose vectors were asked for; return what is spent."""
        privacy, counts = self.protection.privacy_of(kind), self._spent[kind]
        if privacy is None or not current.exposed:
            return None
        counts.update(current.exposed)
        spent = current.coder.report(max(counts.values()))
        if spent is not None:
            self.log.info(
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


class SumUnderWay:
    """One sum, from the replies to its task to the means; made by `SumServer.begin`.

    Args:
      server: whose it is.
      run: the framework's number of the run.
      request: what nodes were asked.
      baseline: finds the arrays that they were sent.
    """

    def __init__(self, server: SumServer, run: int, request: SumRequest, baseline: Baseline) -> None:
        self._server, self._run, self._request, self._baseline = server, run, request, baseline
        self._ready: dict[PartyId, Registration] = {}
        self._addresses: set[str] = set()
        self._missed: dict[str, str] = {}
        self._round: ServerRound | None = None
        self._is_over = False

    def take(self, address: str, frame: bytes) -> bool:
        """Take what a client replied to the task; return whether it is ready for the sum.

        Args:
          address: what the framework calls it; each has one reply.
          frame: a `Ready` as bytes.

        Raises:
          UsageError: the sum is over, or goes on without further clients.
        """
        self._check_gathering()
        request, peers = self._request, self._server.peers
        noisy = request.task.protection.privacy_of(request.kind) is not None
        try:
            if address in self._addresses:
                raise RemoteProtocolError("expected one reply to the task, got a second", peer=address)
            node = read_ready(frame, address, self._run, request.kind, peers, request.limits, noisy=noisy)
        except RemoteProtocolError as error:
            self.miss(address, str(error))
            return False
        if node.name in self._ready:
            self.miss(address, f"is the second that uses {node.name}'s identity key")
            return False
        self._addresses.add(address)
        self._ready[node.name] = node
        return True

    def miss(self, who: str, why: str) -> None:
        """Note that somebody is not in the sum, or did something wrong, and why."""
        self._server.log.warning("protected %s: %r: %s", self._request.kind, who, why)
        self._missed.setdefault(who, why)

    def address_of(self, client: PartyId) -> str:
        """Return what the framework calls a client that is ready."""
        return self._ready[client].address

    def finish(self, round_number: int, ask: Ask) -> Opened | None:
        """Return the means; None where nothing was opened.

        Args:
          round_number: of the framework.
          ask: sends frames and yields answers, each client's at most once.

        Raises:
          UsageError: the sum is over.
        """
        steps = self.steps(round_number)
        try:
            step, frames = next(steps)
            while True:
                step, frames = steps.send(ask(step, frames))
        except StopIteration as stop:
            opened: Opened | None = stop.value
            return opened

    def steps(self, round_number: int) -> Steps:
        """Yield each step with what to send to whom, take what came back, and return as `finish`; for callers without `ask`.

        Raises:
          UsageError: the sum is over.
        """
        self._check_gathering()
        self._is_over = True
        began, kind, log = time.monotonic(), self._request.kind, self._server.log
        try:
            opened = yield from self._opened()
        except SecaggError as error:
            log.error("protected %s of round %d failed, nothing was used: %s", kind, round_number, error)
            for name in () if self._round is None else self._round.blamed:
                self.miss(name, BLAMED)
                self._server.failures[name] += 1
            self._report(round_number, began, failure=str(error))
            return None
        report = self._report(
            round_number,
            began,
            contributors=opened.contributors,
            weight=opened.means.weight,
            bits=0 if self._round is None else self._round.coder.ring.bits,
            error=opened.means.error,
            noise_std=opened.means.noise_std,
        )
        log.info(
            "protected %s: mean of %d of %d nodes that were ready, weights %d, in %.1f s",
            kind,
            len(report.contributors),
            len(self._ready),
            report.weight,
            report.seconds,
        )
        return opened

    def _opened(self) -> Generator[tuple[str, dict[str, bytes]], Answers, Opened]:
        admitted, request, server = dict[PartyId, Registration](), self._request, self._server
        if self._ready:
            admitted, refused, stale = admit(self._ready, request, server.peers)
            for name, why in refused.items():
                self.miss(name, why)
            if stale:  # they answer with an error, which their own logs have
                for _ in (yield STALE, {self.address_of(n): wire.to_bytes(w) for n, w in stale.items()}):
                    pass
        self._round = current = ServerRound(
            admitted, self._run, request, server.peers, log=server.log, limit_s=server.limit_s
        )
        server.log.info(
            "protected %s: %s; %d values of %d bits",
            request.kind,
            current.where.terms.parameters,
            current.coder.length,
            current.coder.ring.bits,
        )
        for exchange in current.exchanges():
            clients = {self.address_of(name): name for name in exchange.messages}
            frames = {a: wire.to_bytes(exchange.messages[name]) for a, name in clients.items()}
            self._use(exchange, clients, (yield exchange.step, frames))
        means, summed = current.finish(self._baseline)
        for client in current.refused:
            self.miss(client, OUT_OF_BOUNDS)
        for client in summed.suspects:
            self.miss(client, "shares of others' secrets that it sent, or was dealt, did not fit the others")
        for client in summed.dropped:
            if client not in self._missed:
                self.miss(client, LEFT_OUT)
        return Opened(current.layout, current.usual_order(), means, summed.contributors)

    def _check_gathering(self) -> None:
        if self._is_over:
            raise UsageError("expected a sum that waits for replies, got one that is over: begin another")

    def _use(self, exchange: Exchange, clients: dict[str, PartyId], answers: Answers) -> None:
        for address, answer in answers:
            client = clients.pop(address, None)
            if client is None:
                continue
            try:
                if isinstance(answer, RemoteProtocolError):
                    raise answer
                exchange.use(client, wire.from_bytes(answer, exchange.answer, peer=client))
            except RemoteProtocolError as error:
                self.miss(client, str(error))
        for client in clients.values():
            self.miss(client, f"did not answer to {exchange.step} in time")

    def _report(self, round_number: int, began: float, **found: object) -> SumReport:
        kind = self._request.kind
        report = SumReport(
            kind,
            round_number,
            missed=self._missed,
            spent=None if self._round is None else self._server.spend(kind, self._round),
            seconds=time.monotonic() - began,
            **found,  # type: ignore[arg-type]
        )
        self._server.reports.append(report)
        return report
