"""The aggregator's side: an aggregation function that adds up under masks, a step in each of OpenFL's rounds."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from openfl.interface.aggregation_functions.core import AggregationFunction

from secagg import wire
from secagg.errors import RemoteProtocolError, WireError
from secagg.federated.messages import TASK
from secagg.federated.replies import baseline_of, result_of, shapes_of
from secagg.federated.round import SumReport
from secagg.federated.settings import encoding_from
from secagg.federated.sum_server import Opened, Steps, SumServer
from secagg.federated.terms import TRAIN, Protection
from secagg.federated.weighted import Encoding
from secagg.integrations.openfl import messages

_log: Final = logging.getLogger("secagg.openfl")


class SecureSum(AggregationFunction):  # a singleton, as all of OpenFL's are
    """An aggregation function for the task `protected_round`.

    It is called for each tensor of a round. From the tensor of frames it goes on with the masked protocol and makes what
    collaborators are told next. Other tensors stay the model's, until a sum is opened: then they are its means.

    A sum that cannot be opened leaves the model as it is; the log and `reports` say why.

    Args:
      peers: path of the file of public keys of all collaborators.
      protection: the same as at the collaborators, `Protection` or its fields.
      encoding: how numbers are written, `Encoding` or its fields.
      max_numbers: how many numbers a collaborator may reply; by default four times what it was sent, or 2**20.

    Raises:
      UsageError: settings that are none, or a file that is not one of public keys.
    """

    def __init__(
        self,
        peers: str,
        protection: Mapping[str, Any] | Protection | None = None,
        encoding: Mapping[str, Any] | Encoding | None = None,
        max_numbers: int | None = None,
    ) -> None:
        super().__init__()
        self._server = SumServer(
            peers,
            messages.protection_in(protection),
            encoding_from(encoding),
            max_numbers=max_numbers,
            log=_log,
        )
        self._run = secrets.randbits(62)
        self._steps: Steps | None = None
        self._asked = False  # whether collaborators were told the task
        self._means: dict[str, NDArray[Any]] = {}
        self._round: int | None = None

    @property
    def reports(self) -> list[SumReport]:
        """What became of each sum so far."""
        return self._server.reports

    def call(
        self,
        local_tensors: Sequence[Any],
        db_iterator: Iterator[Any],
        tensor_name: str,
        fl_round: int,
        tags: tuple[str, ...],  # noqa: ARG002  # OpenFL's signature
    ) -> NDArray[Any]:
        """Return the tensor of the next round's model."""
        if tensor_name == messages.FRAMES:
            return self._go_on(local_tensors, _model(db_iterator, fl_round), fl_round)
        model = _model(db_iterator, fl_round)
        current = model.get(tensor_name)
        if self._round != fl_round:
            _log.warning("%r came before the frames of its round, and stays as it is", tensor_name)
        elif tensor_name in self._means:
            mean = self._means[tensor_name]
            if current is None or mean.shape == current.shape:
                return mean
            _log.error("%r has another shape in replies than in the model, and stays as it is", tensor_name)
        return np.asarray(local_tensors[0].tensor) if current is None else current

    def _go_on(
        self, local_tensors: Sequence[Any], model: dict[str, NDArray[Any]], fl_round: int
    ) -> NDArray[np.float32]:
        answers = [(tensor.col_name, frame) for tensor in local_tensors if (frame := _frame(tensor))]
        self._means, self._round = {}, fl_round
        try:
            if self._steps is not None:
                step, frames = self._steps.send(answers)
            elif self._asked:
                digest = b""
                if self._server.protection.is_malicious:
                    digest = messages.task_digest(model, fl_round)
                current = self._server.begin(
                    self._run, TRAIN, shapes_of(model), baseline_of(model), task_digest=digest
                )
                for collaborator, frame in answers:
                    if isinstance(frame, RemoteProtocolError):
                        current.miss(collaborator, str(frame))
                    else:
                        current.take(collaborator, frame)
                self._steps = current.steps(fl_round)
                step, frames = next(self._steps)
            else:
                return self._ask()
        except StopIteration as stop:
            opened: Opened | None = stop.value
            if opened is not None:
                result = result_of(opened.layout, opened.means.values, opened.means.weight)
                self._means = result.arrays
            return self._ask()
        return _told(messages.bundle(step, self._run, frames))

    def _ask(self) -> NDArray[np.float32]:
        """Return the task, for all, also those who were late."""
        self._steps, self._asked = None, True
        return _told(messages.bundle(TASK, self._run, {"": self._server.frame}))


def _told(bundle: messages.Bundle) -> NDArray[np.float32]:
    return messages.to_tensor(wire.to_bytes(bundle))


def _frame(tensor: Any) -> bytes | WireError:
    """Return what a collaborator answered; b"" if nothing."""
    try:
        return messages.from_tensor(tensor.tensor, peer=tensor.col_name)
    except WireError as error:
        return error


def _model(db_iterator: Iterator[Any], fl_round: int) -> dict[str, NDArray[Any]]:
    """Return the model that a round began with, without the frames."""
    return {
        row["tensor_name"]: np.asarray(row["nparray"])
        for row in db_iterator
        if row["round"] == fl_round
        and tuple(row["tags"]) == ("model",)
        and row["tensor_name"] != messages.FRAMES
    }
