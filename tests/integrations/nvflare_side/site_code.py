"""What runs in NVFlare's simulator: an executor whose updates are known, and sites that leave a sum at a given step."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import make_reply
from nvflare.app_common.app_constant import AppConstants
from nvflare.fuel.f3.drivers.socket_conn import SocketConnection

from secagg.integrations.nvflare import SecureAggregator, SecureFilter

LENGTH = 300


def model():
    rng = np.random.default_rng(1)
    return {"w": rng.normal(size=LENGTH).astype(np.float32), "b": rng.normal(size=(3, 2))}


def trained(site, number, sent):
    rng = np.random.default_rng([int(site.rsplit("-", 1)[1]), number])
    return {name: (value + rng.normal(size=value.shape)).astype(value.dtype) for name, value in sent.items()}


def weight_of(site):
    return 10 * int(site.rsplit("-", 1)[1])


def capture(folder):
    """Append whatever this process sends to a file."""
    send = SocketConnection.send_frame

    def sending(self, frame):
        with Path(folder, f"sent-{os.getpid()}").open("ab") as file:
            file.write(bytes(frame))
        return send(self, frame)

    SocketConnection.send_frame = sending


class Trainer(Executor):
    def __init__(self, folder, lost):
        super().__init__()
        self.folder, self.lost = folder, lost

    def handle_event(self, event_type, fl_ctx):
        if event_type == EventType.START_RUN:
            capture(self.folder)

    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        number, site = shareable.get_header(AppConstants.CURRENT_ROUND), fl_ctx.get_identity_name()
        if self.lost.get(str(number)) == [site, "train"]:
            return make_reply(ReturnCode.EXECUTION_EXCEPTION)
        update = trained(site, number, from_shareable(shareable).data)
        np.savez(Path(self.folder, f"update-{site}-{number}-{os.getpid()}"), **update)
        return DXO(
            DataKind.WEIGHTS, data=update, meta={MetaKey.NUM_STEPS_CURRENT_ROUND: weight_of(site)}
        ).to_shareable()


class LeavingFilter(SecureFilter):
    """A site that leaves: its handler fails, or in the last step its process ends."""

    def __init__(self, identity, peers, protection, lost):
        super().__init__(identity, peers, protection)
        self.lost, self.round = lost, None

    def process(self, shareable, fl_ctx):
        number = shareable.get_header(AppConstants.CURRENT_ROUND)
        if number is not None:
            fl_ctx.set_prop("round", number, private=True, sticky=True)
        return super().process(shareable, fl_ctx)

    def _keeper(self, fl_ctx):
        keeper, site = super()._keeper(fl_ctx), fl_ctx.get_identity_name()
        if "answer" not in vars(keeper):
            answer, lost = keeper.answer, self.lost

            def leaving(step, frame):
                if lost.get(str(fl_ctx.get_prop("round"))) == [site, step]:
                    if step == "unmask":
                        os._exit(1)
                    raise RuntimeError("this site leaves")
                return answer(step, frame)

            setattr(keeper, "answer", leaving)  # noqa: B010  # a method, to mypy
        return keeper


class ReportingAggregator(SecureAggregator):
    """Writes the means and reports of each round to a file."""

    def __init__(self, peers, protection, folder):
        super().__init__(peers, protection, timeout_s=8.0)
        self.folder = folder

    def handle_event(self, event_type, fl_ctx):
        super().handle_event(event_type, fl_ctx)
        if event_type == EventType.START_RUN:
            capture(self.folder)

    def aggregate(self, fl_ctx):
        result = super().aggregate(fl_ctx)
        report = self.reports[-1]
        Path(self.folder, f"report-{report.server_round}.json").write_text(
            json.dumps(
                {
                    "contributors": report.contributors,
                    "missed": report.missed,
                    "weight": report.weight,
                    "error": report.error,
                    "failure": report.failure,
                }
            )
        )
        np.savez(Path(self.folder, f"mean-{report.server_round}"), **from_shareable(result).data)
        return result
