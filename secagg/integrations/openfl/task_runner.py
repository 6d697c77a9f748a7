"""The collaborator's side: a mixin for task runners whose one task keeps updates and answers the masked protocol."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from openfl.utilities import TensorKey

from secagg.errors import SecaggError, UsageError
from secagg.federated.keeper import Keeper
from secagg.federated.messages import DECRYPT, TASK, UNMASK
from secagg.federated.node import OwnNode
from secagg.federated.replies import whole_weight
from secagg.federated.terms import TRAIN, Protection
from secagg.integrations.openfl import messages

_AGGREGATOR: Final = "server"
_TASK: Final = "protected_round"
_UNTOLD: Final = -1  # a size of data that stands for none, as OpenFL's own for tasks without data
_log: Final = logging.getLogger("secagg.openfl")

Tensors = dict[TensorKey, Any]


class SecureTaskRunner:
    """A mixin, first among the bases of a task runner: `class Runner(SecureTaskRunner, MyTaskRunner)`.

    The plan's only task is `protected_round`. It runs the runner's own training, and keeps what that replies: arrays,
    metrics and the size of the data leave the collaborator under masks only. Every other task is refused. What goes wrong
    is in the collaborator's log; the aggregator sees that nothing came.

    Against a malicious aggregator the tensors that the runner declares as LOCAL are not fetched, as OpenFL would where it
    holds none: they are what the last training returned as such, and before that the runner's own.

    Args:
      identity: path of the collaborator's identity key; "{collaborator}" in it becomes its name, for simulations.
      peers: path of the file of public keys of all collaborators.
      protection: what this collaborator insists on, `Protection` or its fields.
      others: of the task runner.

    Raises:
      UsageError: settings that are none.
    """

    def __init__(
        self,
        *others: Any,
        identity: str,
        peers: str,
        protection: Mapping[str, Any] | Protection | None = None,
        **more: Any,
    ) -> None:
        self._insists = messages.protection_in(protection)
        self._identity, self._peers = identity, peers
        self._keeper: Keeper | None = None
        self._working = False  # whether the runner's own task runs
        self._expects_task = True
        self._names: tuple[str, ...] = ()
        self._own_keys: tuple[
            TensorKey, ...
        ] = ()  # needed by the training, and never asked of the aggregator
        self._local: Tensors = {}
        super().__init__(*others, **more)

    def protected_round(
        self,
        col_name: str,
        round_num: int,
        input_tensor_dict: dict[str, Any],
        task: str = "train_task",
        evaluate: str | None = None,
        **kwargs: Any,
    ) -> tuple[Tensors, Tensors]:
        """Do what the aggregator asks in one of OpenFL's rounds.

        Args:
          col_name, round_num, input_tensor_dict: OpenFL's.
          task: the runner's own training.
          evaluate: a task of the runner whose metrics, of the model that came, are averaged with those of the training.
          kwargs: for these tasks.

        Returns: OpenFL's tensors for the aggregator, and those that stay.
        """
        model = {name: value for name, value in input_tensor_dict.items() if name != messages.FRAMES}
        answer, step = b"", ""
        try:
            told = messages.read_bundle(input_tensor_dict.get(messages.FRAMES), peer=_AGGREGATOR)
            frame = None if told is None else told.frame_of(col_name)
            if told is not None and frame is not None:
                step = told.step
                keeper = self._kept_by(col_name)
                if step != TASK:
                    answer = keeper.answer(step, frame)
                elif model:
                    answer = self._work(
                        keeper, told.run, frame, col_name, round_num, model, (task, evaluate), kwargs
                    )
        except SecaggError as error:
            _log.error("protected sum: %s", error)
            answer = b""
        # In between the model stays as it is, and need not be fetched.
        self._expects_task = not answer or step in (UNMASK, DECRYPT)
        tensors: Tensors = {_trained(messages.FRAMES, col_name, round_num): messages.to_tensor(answer)}
        tensors |= {_trained(name, col_name, round_num): np.zeros(1, np.float32) for name in self._names}
        local = {key._replace(round_number=round_num + 1): value for key, value in self._local.items()}
        return tensors, local

    def get_required_tensorkeys_for_function(self, func_name: str, **kwargs: Any) -> list[TensorKey]:
        """Return what `protected_round` needs: the aggregator's frames and, where a task may come, the runner's own needs.

        Raises:
          UsageError: another task, whose results would leave without protection.
        """
        if func_name != _TASK:
            raise UsageError(
                f"{func_name!r:.80} would send its results without protection; let {_TASK} be the plan's only task"
            )
        own = self._needs(kwargs.pop("task", "train_task"), **kwargs)
        shown = [key for key in own if key.origin == "GLOBAL" and "model" in key.tags]
        self._names = tuple(key.tensor_name for key in shown if key.tensor_name != messages.FRAMES)
        if self._insists.is_malicious:
            # OpenFL asks the aggregator for a LOCAL tensor that it does not hold.
            self._own_keys = tuple(key for key in own if key.origin == "LOCAL")
        fetched = [key for key in own if key not in self._own_keys and key.tensor_name != messages.FRAMES]
        frames = TensorKey(messages.FRAMES, "GLOBAL", 0, False, ("model",))
        return [frames, *(fetched if self._expects_task else ())]

    def get_tensor_dict(self, *others: Any, **more: Any) -> dict[str, Any]:
        """Return the runner's tensors, and at first none of the frames; the plan's first model is made of these."""
        own: dict[str, Any] = super().get_tensor_dict(*others, **more)  # type: ignore[misc]  # the runner's
        return {**own, messages.FRAMES: np.zeros(1, np.float32)}

    def set_tensor_dict(self, tensor_dict: Mapping[str, Any], *others: Any, **more: Any) -> None:
        """Set the runner's tensors."""
        own = {name: value for name, value in tensor_dict.items() if name != messages.FRAMES}
        super().set_tensor_dict(own, *others, **more)  # type: ignore[misc]  # the runner's

    def get_train_data_size(self) -> int:
        """Return how much data there is to the runner, and to nobody else."""
        return int(super().get_train_data_size()) if self._working else _UNTOLD  # type: ignore[misc]

    def get_valid_data_size(self) -> int:
        """Return how much data there is to the runner, and to nobody else."""
        return int(super().get_valid_data_size()) if self._working else _UNTOLD  # type: ignore[misc]

    def _needs(self, task: str, **kwargs: Any) -> list[TensorKey]:
        needs: list[TensorKey] = super().get_required_tensorkeys_for_function(task, **kwargs)  # type: ignore[misc]
        return needs

    def _own_tensors(self) -> dict[str, Any]:
        """Return the LOCAL tensors that the training needs: those of the last training, or the runner's as it stands."""
        kept = {(key.tensor_name, key.report, key.tags): value for key, value in self._local.items()}
        wanted = {key.tensor_name: (key.tensor_name, key.report, key.tags) for key in self._own_keys}
        found = {name: np.array(kept[key]) for name, key in wanted.items() if key in kept}
        if missing := wanted.keys() - found.keys():
            runners = self.get_tensor_dict(with_opt_vars=True)
            if strange := sorted(missing - runners.keys()):
                raise UsageError(
                    f"the training needs the LOCAL tensor {strange[0]!r:.80}, which the runner's get_tensor_dict does not "
                    'return; with threat_model = "malicious" it is not taken from the aggregator'
                )
            found |= {name: np.array(runners[name]) for name in missing}
        return found

    def _work(
        self,
        keeper: Keeper,
        run: int,
        frame: bytes,
        col_name: str,
        round_num: int,
        model: dict[str, Any],
        tasks: tuple[str, str | None],
        kwargs: dict[str, Any],
    ) -> bytes:
        """Run the runner's own tasks, and keep what they reply."""
        sent = {name: np.asarray(model[name]) for name in self._names if name in model}
        # All that came from the aggregator, not the model's tensors alone.
        digest = messages.task_digest(model, round_num) if self._insists.is_malicious else b""
        keeper.invite(run, TRAIN, frame, sent, task_digest=digest)
        given = {**model, **self._own_tensors()}
        task, evaluate = tasks
        metrics: dict[str, float] = {}
        self._working = True
        try:
            weight = whole_weight(self.get_train_data_size())
            if evaluate is not None:
                found, _ = getattr(self, evaluate)(col_name, round_num, dict(given), **kwargs)
                metrics |= _metrics_in(found, evaluate)
            found, self._local = getattr(self, task)(col_name, round_num, dict(given), **kwargs)
        finally:
            self._working = False
        metrics |= _metrics_in(found, task)
        arrays = {
            key.tensor_name: np.asarray(value)
            for key, value in found.items()
            if "trained" in key.tags and key.tensor_name != messages.FRAMES
        }
        if strange := sorted(arrays.keys() - sent.keys()):
            raise UsageError(
                f"the training replies {strange[0]!r:.80}, which is no part of the model; hold it out, or set "
                "opt_treatment to RESET or CONTINUE_LOCAL"
            )
        return keeper.keep(arrays, weight, metrics)

    def _kept_by(self, col_name: str) -> Keeper:
        if self._keeper is None:
            identity, peers = (
                path.replace("{collaborator}", col_name) for path in (self._identity, self._peers)
            )
            self._keeper = Keeper(OwnNode.load(identity, peers), self._insists, log=_log)
        return self._keeper


def _trained(name: str, col_name: str, round_num: int) -> TensorKey:
    return TensorKey(name, col_name, round_num, False, ("trained",))


def _metrics_in(found: Tensors, task: str) -> dict[str, float]:
    return {f"{task}/{key.tensor_name}": float(value) for key, value in found.items() if "metric" in key.tags}
