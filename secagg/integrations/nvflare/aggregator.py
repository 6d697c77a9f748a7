"""The server's side: an aggregator that adds up under masks, by auxiliary messages to the sites' filters."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Final

from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.aggregator import Aggregator
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType

from secagg.errors import RemoteProtocolError, UsageError
from secagg.federated.round import SumReport
from secagg.federated.settings import encoding_from, protection_from
from secagg.federated.sum_server import SumServer
from secagg.federated.terms import TRAIN, Protection
from secagg.federated.weighted import Encoding
from secagg.integrations.nvflare import messages

_THREADS: Final = 64  # sites asked at one time
_log: Final = logging.getLogger("secagg.nvflare")


class SecureAggregator(Aggregator):
    """An aggregator for ScatterAndGather, whose sites have a `SecureFilter`.

    A sum that cannot be opened leaves the model as it is; the log and `reports` say why.

    Args:
      peers: path of the file of public keys of all sites.
      protection: the same as at the sites, `Protection` or its fields.
      encoding: how numbers are written, `Encoding` or its fields.
      train_task_name: of the workflow's task.
      timeout_s: how long each step after the training may take. Of more than 64 sites, 64 are asked at a
        time, and a step may take this long for each 64.
      max_numbers: how many numbers a site may reply; by default four times what it was sent, or 2**20.

    Raises:
      UsageError: settings that are none, or a file that is not one of public keys.
    """

    def __init__(
        self,
        peers: str,
        protection: Mapping[str, Any] | Protection | None = None,
        encoding: Mapping[str, Any] | Encoding | None = None,
        train_task_name: str = AppConstants.TASK_TRAIN,
        timeout_s: float = 300.0,
        max_numbers: int | None = None,
    ) -> None:
        super().__init__()
        self.peers, self.protection, self.encoding = peers, protection, encoding
        self.train_task_name, self.timeout_s, self.max_numbers = train_task_name, timeout_s, max_numbers
        self._server = SumServer(
            peers, protection_from(protection), encoding_from(encoding), max_numbers=max_numbers, log=_log
        )
        self._round: Any = None
        self._lock = threading.Lock()

    @property
    def reports(self) -> list[SumReport]:
        """What became of each sum so far."""
        return self._server.reports

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Attach the terms of the sum to the workflow's task."""
        if event_type != AppEventType.BEFORE_TRAIN_TASK:
            return
        task: Shareable = fl_ctx.get_prop(AppConstants.TRAIN_SHAREABLE)
        with self._lock:
            current = task.get_header(AppConstants.CURRENT_ROUND)
            if current != self._round:
                dxo = messages.model_in(task)
                digest = b""
                if self._server.protection.is_malicious:
                    said = messages.rounds_said(self.train_task_name, task)
                    digest = messages.task_digest(dxo.data, dxo.data_kind, said)
                run = messages.run_number(fl_ctx.get_job_id())
                self._server.begin(run, TRAIN, dxo.data, task_digest=digest)
                self._round = current
            task.set_header(messages.HEADER, self._server.frame)

    def accept(self, shareable: Shareable, fl_ctx: FLContext) -> bool:
        """Take what a site is told to have, in place of its update."""
        site = fl_ctx.get_peer_context().get_identity_name()
        frame = messages.header_of(shareable)
        with self._lock:
            if self._round is None:
                return False
            if frame is None:
                self._server.miss(site, "replied without protection: its SecureFilter is missing")
                return False
            return self._server.take(site, frame)

    def aggregate(self, fl_ctx: FLContext) -> Shareable:
        """Return the mean; no differences to the model where nothing was opened."""
        with self._lock:
            current, self._round = self._round, None
            if current is None:
                raise UsageError("expected a task that was sent before an aggregation")

            def ask(
                step: str, frames: Mapping[str, bytes]
            ) -> Iterator[tuple[str, bytes | RemoteProtocolError]]:
                # One request a thread: nvflare 2.9's own multicast of different requests fails.
                with ThreadPoolExecutor(min(_THREADS, len(frames) or 1)) as pool:
                    running = {
                        pool.submit(self._request, site, messages.pack(step, frame), fl_ctx): site
                        for site, frame in frames.items()
                    }
                    for future in as_completed(running):
                        site = running[future]
                        try:
                            yield site, messages.open_reply(future.result(), step, site)
                        except RemoteProtocolError as error:
                            yield site, error

            result = self._server.finish(int(current), ask)
        if result is None:
            return DXO(DataKind.WEIGHT_DIFF, data={}).to_shareable()
        return DXO(messages.KINDS[result.record], data=result.arrays).to_shareable()

    def _request(self, site: str, request: Shareable, fl_ctx: FLContext) -> Any:
        replies = fl_ctx.get_engine().send_aux_request(
            [site], messages.TOPIC, request, self.timeout_s, fl_ctx, optional=True
        )
        return (replies or {}).get(site)

    def reset(self, fl_ctx: FLContext) -> None:  # noqa: ARG002  # NVFlare's signature
        """Forget a sum that was not finished."""
        self._round = None
