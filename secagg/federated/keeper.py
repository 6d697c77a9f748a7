"""The client's side for frameworks whose clients live as long as a run: it keeps what a node needs between messages.

    keeper = Keeper(OwnNode.load(identity, peers), protection)
    keeper.invite(run, "train", frame, sent)       # before the node does any work
    ready = keeper.keep(arrays, weight)            # in place of what it would reply
    answer = keeper.answer(step, frame)            # for each further step

What is kept lies in memory alone. A client that is started again knows nothing of the sum that it was in, and nothing of
what was cut off of its updates before (`error_feedback`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg import wire
from secagg.errors import RemoteProtocolError, UsageError
from secagg.federated.compressed import with_weight
from secagg.federated.differences import Difference, difference
from secagg.federated.identities import SERVER
from secagg.federated.layout import update_of
from secagg.federated.messages import STALE
from secagg.federated.node import Invitation, Node, OwnNode
from secagg.federated.peer_budgets import stale_budget
from secagg.federated.replies import (
    METRICS,
    MODEL,
    Arrays,
    array_items,
    baseline_of,
    metric_items,
    whole_weight,
)
from secagg.federated.terms import TRAIN, Protection
from secagg.federated.weighted import to_vector

_log: Final = logging.getLogger("secagg.federated")


class Keeper:
    """A node between the messages of one run; one sum at a time, from whatever thread.

    Args:
      member: the node.
      protection: what it insists on.
      log: where it says what the server must not know.

    Raises:
      ImportError: noise is asked for, and its packages are missing.
    """

    def __init__(self, member: OwnNode, protection: Protection, *, log: logging.Logger = _log) -> None:
        protection.check_packages()
        self._member, self._protection, self._log = member, protection, log
        self._lock = threading.Lock()
        self._invitation: tuple[Invitation, Arrays, bytes] | None = None
        self._node: tuple[Node, int, str] | None = None
        self._memory = b""  # with error feedback

    def __repr__(self) -> str:
        return f"Keeper({self._member.name!r})"

    @property
    def name(self) -> str:
        """The node's name in the file of public keys."""
        return self._member.name

    def invite(self, run: int, kind: str, frame: bytes, sent: Arrays, *, task_digest: bytes = b"") -> None:
        """Check what the node is asked, before it does any work; a sum that it is in is over.

        Args:
          run, kind: of the sum.
          frame: the task as bytes.
          sent: the arrays that came with it; copied where the update will be counted from them.
          task_digest: of all that the node's work depends on, if the server is malicious; else left out.

        Raises:
          SecaggError: as `Invitation.read`; or a malicious server's task without a digest.
        """
        with self._lock:
            self._invitation = self._node = None
            invitation = Invitation.read(self._member, self._protection, run, kind, frame)
            if not self._protection.is_malicious:
                task_digest = b""
            elif not task_digest:
                raise UsageError(
                    "against a malicious server nodes agree on what they were asked: give a digest"
                )
            # What the node works on may be these very arrays.
            kept = sent if invitation.task.sums_differences(kind) else {}
            before = {name: np.array(value) for name, value in kept.items()}
            self._invitation = (invitation, before, task_digest)

    def keep(
        self,
        arrays: Arrays,
        weight: Any,
        metrics: Mapping[str, float] | None = None,
        *,
        record: str = MODEL,
    ) -> bytes:
        """Keep an update, and return what the server is told in its place.

        Args:
          arrays: by name; none in evaluations.
          weight: a whole number of 0 or more; without meaning where there is noise.
          record: what the arrays are: `replies.MODEL` or `replies.DIFFERENCE`.
          metrics: by name. Those of training are not summed up where there is noise.

        Raises:
          UsageError: without an invitation, or a reply that cannot be averaged.
          RangeError: NaN or infinity.
        """
        with self._lock:
            if self._invitation is None:
                raise UsageError("this node was not invited to a protected sum, and nothing else leaves it")
            (invitation, before, task_digest), self._invitation = self._invitation, None
            kind, encoding = invitation.kind, invitation.task.encoding
            found = array_items(arrays, encoding.leave_out if arrays else (), record)
            numbers = metric_items(metrics or {})
            if not invitation.task.sums_differences(kind):
                update = update_of(found, numbers, METRICS, whole_weight(weight))
                layout, announced = update.layout, update.announced
                vector: NDArray[Any] = to_vector(update)
            else:
                changed = self._difference(kind, found, numbers, before)
                layout, announced, vector = changed.layout, changed.announced, changed.vector
                if not self._protection.sums_differences(kind):
                    vector = with_weight(changed, whole_weight(weight))
                elif not changed.finite:
                    self._log.warning("NaN or infinity in the update; zeros go into the sum instead")
            node, ready = invitation.accept(
                layout, announced, vector, task_digest=task_digest, memory=self._memory, log=self._log
            )
            self._node = (node, invitation.run, kind)
            return wire.to_bytes(ready)

    def answer(self, step: str, frame: bytes) -> bytes:
        """Answer one step of the masked protocol; after an error the sum is over for this node.

        Raises:
          SecaggError: no sum is going on, or as `Node.answer`.
        """
        with self._lock:
            if self._node is None:
                raise RemoteProtocolError(
                    f"expected {SERVER} to ask for {step!r:.20} of a sum that is going on; there is none at this node",
                    peer=SERVER,
                )
            (node, run, kind), self._node = self._node, None
            if step == STALE and node.privacy is not None:
                budget, member = self._member.budget(kind, node.privacy), self._member
                raise stale_budget(frame, run, kind, member.name, member.peers, budget)
            answer = node.answer(kind, step, frame)
            self._memory = node.memory or self._memory
            if not node.is_done:
                self._node = (node, run, kind)
            return wire.to_bytes(answer)

    def _difference(self, kind: str, arrays: list[Any], metrics: list[Any], before: Arrays) -> Difference:
        training = kind == TRAIN
        found = difference(
            arrays if training else metrics, baseline_of(before), training=training, weight_record=METRICS
        )
        if found.from_zero:
            self._log.warning(
                "%s did not come with the task, and count from zero", ", ".join(found.from_zero)
            )
        return found
