"""The client's side: a mod that keeps what the app's functions reply and takes part in the masked sum."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from flwr.app import Context, Error, Message, MessageType, RecordDict
from numpy.typing import NDArray

from secagg import wire
from secagg.errors import RemoteProtocolError, SecaggError, UsageError
from secagg.federated.compressed import with_weight
from secagg.federated.identities import SERVER
from secagg.federated.messages import STALE, TASK
from secagg.federated.node import Invitation, Node, OwnNode
from secagg.federated.peer_budgets import stale_budget
from secagg.federated.terms import Protection
from secagg.federated.weighted import to_vector
from secagg.integrations.flower import messages
from secagg.integrations.flower.records import arrays_in, difference, take_apart
from secagg.updates.privacy import Privacy

if TYPE_CHECKING:
    from secagg.federated.differences import Difference

IDENTITY_KEY: Final = "secagg-identity"
PEERS_KEY: Final = "secagg-peers"
_PRECONDITION_FAILED: Final = 6  # flwr.common.constant.ErrorCode.MOD_FAILED_PRECONDITION
_log = logging.getLogger("flwr.secagg")

ClientAppCallable = Callable[[Message, Context], Message]


@dataclass(frozen=True)
class SecureMod:
    """A mod for `ClientApp(mods=[...])`: replies to training and evaluation leave the node under masks only.

    It has to be the first of several mods; those behind it see replies as they are without it. Queries pass it; messages
    of other types, such as "get_parameters" of Flower's earlier clients, are refused.

    The node configuration names two files: "secagg-identity", this node's identity key, and "secagg-peers", the
    public keys of all nodes. Where it does not, the run configuration is asked, for simulations; "{partition-id}"
    in a name then becomes the simulated node's number.

    What goes wrong is told to the server without saying anything of the update, and in full to this node's log.

    Args:
      protection: what this node insists on.

    Raises:
      ImportError: noise is asked for, and its packages are missing.
    """

    protection: Protection = field(default_factory=Protection)

    def __post_init__(self) -> None:
        self.protection.check_packages()

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Answer a message."""
        kind = message.metadata.message_type.partition(".")[0]
        if kind == MessageType.QUERY:
            return call_next(message, context)
        try:
            if kind not in (MessageType.TRAIN, MessageType.EVALUATE):
                # Among those of Flower's earlier clients is one that replies the node's own parameters.
                raise RemoteProtocolError(
                    f"expected train, evaluate or query from {SERVER}, got a message of type {kind!r:.40}",
                    peer=SERVER,
                )
            if not message.has_content():
                raise RemoteProtocolError(
                    f"expected a message of a protected sum from {SERVER}, got an error", peer=SERVER
                )
            step = messages.unpack(message.content, peer=SERVER)
            member = _member(context)
            if step.name == TASK:
                return self._begin(message, context, call_next, member, kind, step.frame)
            answer = self._go_on(context, member, message.metadata.run_id, kind, step)
            return Message(messages.pack(step.name, answer), reply_to=message)
        except SecaggError as error:
            _log.error("protected %s: %s", kind, error)
            return Message(Error(_PRECONDITION_FAILED, error.for_peers()), reply_to=message)

    def _begin(
        self,
        message: Message,
        context: Context,
        call_next: ClientAppCallable,
        member: OwnNode,
        kind: str,
        frame: bytes,
    ) -> Message:
        """Let the app do what it is asked, keep what it replies, and say that it is there."""
        run = message.metadata.run_id
        invitation = Invitation.read(member, self.protection, run, kind, frame)
        # All before the function, which may change the message.
        digest = setting = b""
        if self.protection.is_malicious:
            digest = messages.task_digest(
                message.content, message.metadata.message_type, message.metadata.group_id
            )
            setting = messages.setting_of(context)
            seen = messages.as_asked(message, context)
        else:
            seen = message
            seen.content = RecordDict({k: v for k, v in message.content.items() if k != messages.RECORD})
        sent = arrays_in(seen.content)
        reply = call_next(seen, context)
        if reply.has_error():
            return Message(reply.error, reply_to=message)
        task, privacy = invitation.task, self.protection.privacy_of(kind)
        if not task.sums_differences(kind):
            update = take_apart(reply.content, task.weight_key, task.encoding.leave_out)
            layout, announced = update.layout, update.announced
            vector: NDArray[Any] = to_vector(update)
        else:
            found = difference(reply.content, kind, sent, task.weight_key, task.encoding.leave_out)
            layout, announced, vector = found.layout, found.announced, found.vector
            if not self.protection.sums_differences(kind):
                whole = take_apart(reply.content, task.weight_key, task.encoding.leave_out)
                vector = with_weight(found, whole.weight)
            is_first = invitation.spent is not None and invitation.spent.count == 0  # of this budget
            _tell(found, kind, privacy, is_first=is_first)
        node, ready = invitation.accept(
            layout,
            announced,
            vector,
            task_digest=digest,
            setting=setting,
            memory=messages.recall(context),
            log=_log,
        )
        messages.keep(context, run, node.to_bytes())
        return Message(messages.pack(TASK, ready), reply_to=message)

    def _go_on(
        self, context: Context, member: OwnNode, run: int, kind: str, step: messages.Step
    ) -> wire.Message:
        """Answer one step of the masked protocol."""
        privacy = self.protection.privacy_of(kind)
        if step.name == STALE and privacy is not None:
            budget = member.budget(kind, privacy)
            raise stale_budget(step.frame, run, kind, member.name, member.peers, budget)
        # From here on nothing is kept unless this step ends well.
        node = Node.from_bytes(messages.take_out(context, run, server=SERVER), member, self.protection, _log)
        answer = node.answer(kind, step.name, step.frame)
        if not node.is_done:
            messages.keep(context, run, node.to_bytes())
        if memory := node.memory:
            messages.remember(context, memory)
        return answer


def _tell(found: Difference, kind: str, privacy: Privacy | None, *, is_first: bool) -> None:
    """Tell the log what becomes of a reply in a sum of updates within a norm; privacy is None where there is no noise."""
    if is_first:
        _log.info("protected %s: under %s all nodes count the same, whatever their weights", kind, privacy)
        if found.left_out:
            _log.info("protected %s: not sent, as nothing bounds them: %s", kind, ", ".join(found.left_out))
    elif privacy is None and found.left_out:
        _log.info("protected %s: not sent: %s", kind, ", ".join(found.left_out))
    if found.from_zero:
        _log.warning(
            "protected %s: %s did not come with the task under this record, name and shape, and count from zero, not "
            "from what was sent",
            kind,
            ", ".join(found.from_zero),
        )
    if not found.finite:
        _log.warning("protected %s: NaN or infinity in the reply; zeros go into the sum instead", kind)
    if privacy is None:
        return  # whoever scales it down says so
    with np.errstate(over="ignore"):  # a square that overflows is a vector that is longer
        is_longer = float(np.linalg.norm(found.vector)) > privacy.norm
    if is_longer:
        _log.info("protected %s: longer than the norm %g, to which it is scaled down", kind, privacy.norm)


def _member(context: Context) -> OwnNode:
    return OwnNode.load(_setting(context, IDENTITY_KEY), _setting(context, PEERS_KEY))


def _setting(context: Context, key: str) -> str:
    value = context.node_config.get(key, context.run_config.get(key))
    if not isinstance(value, str) or not value:
        raise UsageError(
            f"""the node configuration has no {key!r}: start the SuperNode with --node-config '{key}="/path/to/file"'"""
        )
    return value.replace("{partition-id}", str(context.node_config.get("partition-id", "")))
