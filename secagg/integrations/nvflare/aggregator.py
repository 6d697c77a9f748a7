"""The server's side: an aggregator that adds up under masks, by auxiliary messages to the sites' filters."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import Any, Final

from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.aggregator import Aggregator
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType

from secagg.errors import RemoteProtocolError, UsageError
from secagg.federated.replies import baseline_of, result_of, shapes_of
from secagg.federated.round import SumReport
from secagg.federated.settings import encoding_from, protection_from
from secagg.federated.sum_server import Answers, SumServer, SumUnderWay, limit_of
from secagg.federated.terms import TRAIN, Protection
from secagg.federated.weighted import Encoding
from secagg.integrations.nvflare import messages

_log: Final = logging.getLogger("secagg.nvflare")


class SecureAggregator(Aggregator):
    """An aggregator for ScatterAndGather, whose sites have a `SecureFilter`.

    A sum that cannot be opened leaves the model as it is; the log and `reports` say why.

    Args:
      peers: path of the file of public keys of all sites.
      protection: the same as at the sites, `Protection` or its fields.
      encoding: how numbers are written, `Encoding` or its fields.
      train_task_name: of the workflow's task.
      timeout_s: how long each step after the training may take.
      sum_timeout_s: how long sites that compute a sum together may take for it; ten times timeout_s by default. It ends
        between two steps.
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
        sum_timeout_s: float | None = None,
    ) -> None:
        super().__init__()
        self.peers, self.protection, self.encoding = peers, protection, encoding
        self.train_task_name, self.timeout_s, self.max_numbers = train_task_name, timeout_s, max_numbers
        self.sum_timeout_s = sum_timeout_s
        self._server = SumServer(
            peers,
            protection_from(protection),
            encoding_from(encoding),
            max_numbers=max_numbers,
            limit_s=limit_of(sum_timeout_s, timeout_s),
            log=_log,
        )
        self._round: Any = None
        self._current: SumUnderWay | None = None
        self._lock = threading.Lock()  # held for what is done at once, and never while a site is waited for

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
                sent = dict(dxo.data)
                self._current = self._server.begin(
                    run, TRAIN, shapes_of(sent), baseline_of(sent), task_digest=digest
                )
                self._round = current
            task.set_header(messages.HEADER, self._server.frame)

    def accept(self, shareable: Shareable, fl_ctx: FLContext) -> bool:
        """Take what a site is told to have, in place of its update."""
        site = fl_ctx.get_peer_context().get_identity_name()
        frame = messages.header_of(shareable)
        with self._lock:
            if self._current is None:
                return False  # too late: the sum goes on without it, or is over
            if frame is None:
                self._current.miss(site, "replied without protection: its SecureFilter is missing")
                return False
            return self._current.take(site, frame)

    def aggregate(self, fl_ctx: FLContext) -> Shareable:
        """Return the mean; no differences to the model where nothing was opened."""
        with self._lock:
            current, self._current = self._current, None
            round_number, self._round = self._round, None
        if current is None:
            raise UsageError("expected a task that was sent before an aggregation")
        opened = current.finish(int(round_number), partial(self._ask, fl_ctx))
        if opened is None:
            return DXO(DataKind.WEIGHT_DIFF, data={}).to_shareable()
        result = result_of(opened.layout, opened.means.values, opened.means.weight)
        return DXO(messages.KINDS[result.record], data=result.arrays).to_shareable()

    def _ask(self, fl_ctx: FLContext, step: str, frames: Mapping[str, bytes]) -> Answers:
        # One request a thread: nvflare 2.9's own multicast of different requests fails. A thread for each site, so that
        # sites that are slow keep no other waiting.
        with ThreadPoolExecutor(len(frames) or 1) as pool:
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

    def _request(self, site: str, request: Shareable, fl_ctx: FLContext) -> Any:
        replies = fl_ctx.get_engine().send_aux_request(
            [site], messages.TOPIC, request, self.timeout_s, fl_ctx, optional=True
        )
        return (replies or {}).get(site)

    def reset(self, fl_ctx: FLContext) -> None:  # noqa: ARG002  # NVFlare's signature
        """Forget a sum that was not finished."""
        with self._lock:
            self._round = self._current = None
