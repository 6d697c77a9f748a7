"""The server's side for frameworks that ask their clients and wait for the answers.

    server = SumServer(peers, protection)
    server.begin(run, "train", sent)               # server.frame goes out with the framework's own task
    server.take(address, frame)                    # what each client replied
    result = server.finish(round_number, ask)      # None: nothing was opened, and server.reports says why

`ask` sends each client one frame, and gives back what each answers.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from numpy.typing import NDArray

from secagg import wire
from secagg.errors import RemoteProtocolError, SecaggError, UsageError
from secagg.federated.identities import load_peers
from secagg.federated.messages import STALE, Task
from secagg.federated.registration import Registration, limits_for, read_ready
from secagg.federated.replies import Arrays, Result, baseline_of, result_of, shapes_of
from secagg.federated.round import (
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

_log: Final = logging.getLogger("secagg.federated")

# Addresses, each with a frame or with why there is none.
Answers: TypeAlias = Iterable[tuple[str, "bytes | RemoteProtocolError"]]
# Step, and what to send to each address.
Ask: TypeAlias = Callable[[str, Mapping[str, bytes]], Answers]
Steps: TypeAlias = Generator[tuple[str, dict[str, bytes]], Answers, "Result | None"]


class SumServer:
    """The server of one run, one sum after the other.

    Args:
      peers: the file of public keys, or its content.
      protection: the same as at the nodes.
      encoding: how numbers are written.
      max_numbers: how many numbers a node may reply; by default four times what it was sent, or 2**20.
      log: where it says what becomes of sums.

    Raises:
      UsageError: a file that is not one of public keys, names in the protection that are not in it, or a limit below 1.
      ImportError: noise is asked for, and its packages are missing.

    Attributes:
      reports: what became of each sum so far.
      frame: the task, which goes out with the framework's own.
    """

    def __init__(
        self,
        peers: str | Path | Mapping[PartyId, bytes],
        protection: Protection | None = None,
        encoding: Encoding | None = None,
        *,
        max_numbers: int | None = None,
        log: logging.Logger = _log,
    ) -> None:
        self._peers = dict(peers) if isinstance(peers, Mapping) else load_peers(peers)
        self._task = Task(protection or Protection(), encoding or Encoding(), "weight")
        self._task.protection.check_packages()
        self._task.protection.check_encoding(self._task.encoding)
        limits_for({}, max_numbers)  # refuses what is no limit before anybody is asked
        self._task.protection.check_names(self._peers)
        self._max_numbers, self._log = max_numbers, log
        self.frame: Final = wire.to_bytes(self._task)
        self.reports: list[SumReport] = []
        self._spent: dict[str, Counter[PartyId]] = {}
        self._run, self._sent = 0, dict[str, NDArray[Any]]()
        self._job: SumRequest | None = None
        self._ready: dict[PartyId, Registration] = {}
        self._addresses: list[str] = []
        self._missed: dict[str, str] = {}

    @property
    def protection(self) -> Protection:
        """What nodes have to insist on."""
        return self._task.protection

    def begin(self, run: int, kind: str, sent: Arrays, *, task_digest: bytes = b"") -> None:
        """Begin a sum; one that is going on is over.

        Args:
          run, kind: of the sum.
          sent: the arrays that go out with the task.
          task_digest: as nodes compute it, if they take the server for malicious; else left out.

        Raises:
          UsageError: evaluation where nodes refuse it.
        """
        if kind == EVALUATE and not self.protection.evaluates:
            raise UsageError(
                "training has noise, and metrics of evaluation without noise would tell what it hides; give Protection an "
                "evaluation_privacy, or do not evaluate at the nodes"
            )
        shapes = shapes_of(sent)
        limits = limits_for(shapes, self._max_numbers)
        self._spent.setdefault(kind, Counter())
        digest = task_digest if self.protection.is_malicious else b""
        self._job = SumRequest(kind, self._task, digest, shapes, limits, self._spent[kind])
        self._run, self._sent = run, dict(sent)
        self._ready, self._addresses, self._missed = {}, [], {}

    def take(self, address: str, frame: bytes) -> bool:
        """Take what a client replied to the task; return whether it is ready for the sum.

        Args:
          address: what the framework calls it.
          frame: a `Ready` as bytes.

        Raises:
          UsageError: no sum was begun.
        """
        job = self._begun()
        noisy = self.protection.privacy_of(job.kind) is not None
        try:
            node = read_ready(
                frame, len(self._addresses), self._run, job.kind, self._peers, job.limits, noisy=noisy
            )
        except RemoteProtocolError as error:
            self.miss(address, str(error))
            return False
        if node.name in self._ready:
            self.miss(address, f"is the second that uses {node.name}'s identity key")
            return False
        self._addresses.append(address)
        self._ready[node.name] = node
        return True

    def miss(self, who: str, why: str) -> None:
        """Note that somebody is not in the sum, or did something wrong, and why."""
        self._log.warning("protected sum: %r: %s", who, why)
        self._missed.setdefault(who, why)

    def finish(self, round_number: int, ask: Ask) -> Result | None:
        """Return the means; None where nothing was opened.

        Args:
          round_number: of the framework.
          ask: sends frames and yields answers, each client's at most once.

        Raises:
          UsageError: no sum was begun.
        """
        steps = self.steps(round_number)
        try:
            step, frames = next(steps)
            while True:
                step, frames = steps.send(ask(step, frames))
        except StopIteration as stop:
            result: Result | None = stop.value
            return result

    def steps(self, round_number: int) -> Steps:
        """Yield each step with what to send to whom, take what came back, and return as `finish`; for callers without `ask`.

        Raises:
          UsageError: no sum was begun.
        """
        job, began, current = self._begun(), time.monotonic(), None
        self._job = None
        try:
            ready = dict[PartyId, Registration]()
            if self._ready:
                ready, refused, stale = admit(self._ready, job, self._peers)
                for name, why in refused.items():
                    self.miss(name, why)
                if stale:  # they answer with an error, which their own logs have
                    for _ in (yield STALE, {self._address(n): wire.to_bytes(w) for n, w in stale.items()}):
                        pass
            current = ServerRound(ready, self._run, job, self._peers, log=self._log)
            for exchange in current.exchanges():
                clients = {self._address(name): name for name in exchange.messages}
                frames = {a: wire.to_bytes(exchange.messages[name]) for a, name in clients.items()}
                self._use(exchange, clients, (yield exchange.step, frames))
            means, summed = current.finish(baseline_of(self._sent))
        except SecaggError as error:
            self._log.error(
                "protected %s of round %d failed, nothing was used: %s", job.kind, round_number, error
            )
            self._report(job, round_number, current, began, failure=str(error))
            return None
        for client in current.refused:
            self.miss(client, OUT_OF_BOUNDS)
        for client in summed.suspects:
            self.miss(client, "shares of others' secrets that it sent, or was dealt, did not fit the others")
        for client in summed.dropped:
            if client not in self._missed:
                self.miss(client, LEFT_OUT)
        self._report(
            job,
            round_number,
            current,
            began,
            contributors=summed.contributors,
            weight=means.weight,
            bits=current.coder.ring.bits,
            error=means.error,
            noise_std=means.noise_std,
        )
        return result_of(current.layout, means.values, means.weight)

    def _begun(self) -> SumRequest:
        if self._job is None:
            raise UsageError("expected a sum that was begun: begin, take, finish")
        return self._job

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

    def _address(self, client: PartyId) -> str:
        return self._addresses[self._ready[client].node_id]

    def _report(
        self,
        job: SumRequest,
        round_number: int,
        current: ServerRound | None,
        began: float,
        **found: object,
    ) -> None:
        spent, privacy = None, self.protection.privacy_of(job.kind)
        if current is not None and privacy is not None:
            counts = self._spent[job.kind]
            counts.update(current.exposed)
            if current.exposed:
                spent = current.coder.report(max(counts.values()))
        seconds = time.monotonic() - began
        report = SumReport(
            job.kind,
            round_number,
            missed=self._missed,
            spent=spent,
            seconds=seconds,
            **found,  # type: ignore[arg-type]
        )
        self.reports.append(report)
        if not report.failure:
            self._log.info(
                "protected %s: mean of %d nodes, weights %d, in %.1f s",
                job.kind,
                len(report.contributors),
                report.weight,
                seconds,
            )
