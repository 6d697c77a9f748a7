"""The client's side: a mod that keeps what the app's functions reply and takes part in the masked sum."""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Context, Error, Message, MessageType, RecordDict
from msgspec.structs import replace
from numpy.typing import NDArray

from secagg import wire
from secagg.aggregation.privacy import Privacy
from secagg.errors import RemoteProtocolError, SecaggError, UsageError
from secagg.integrations.flower import messages as m
from secagg.integrations.flower.budgets import check_budgets, shown_by, spent_by_now, told_older
from secagg.integrations.flower.identities import SERVER, load_identity, load_peers
from secagg.integrations.flower.layout import Layout, Sent, arrays_in, take_apart
from secagg.integrations.flower.spending import Spending
from secagg.integrations.flower.terms import LABEL, NONCE_BYTES, Agreement, Protection, ready_parts
from secagg.integrations.flower.turns import Turns
from secagg.integrations.flower.weighted import to_vector
from secagg.party import PartyId
from secagg.protocols.masked import Client, Consents, Inbox, PeerKeys, Survivors
from secagg.signing import sign

IDENTITY_KEY: Final = "secagg-identity"
PEERS_KEY: Final = "secagg-peers"
_PRECONDITION_FAILED: Final = 6  # flwr.common.constant.ErrorCode.MOD_FAILED_PRECONDITION
_log = logging.getLogger("flwr.secagg")

ClientAppCallable = Callable[[Message, Context], Message]


class Me(NamedTuple):
    """This node, and the others that it knows."""

    name: PartyId
    path: Path
    identity: Ed25519PrivateKey
    peers: dict[PartyId, bytes]
    turns: Turns


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
            step = m.unpack(message.content, peer=SERVER)
            me = _me(context)
            if step.name == m.TASK:
                return self._begin(message, context, call_next, me, kind, step.frame)
            return Message(self._go_on(message, context, me, kind, step), reply_to=message)
        except SecaggError as error:
            _log.error("protected %s: %s", kind, error)
            return Message(Error(_PRECONDITION_FAILED, error.for_peers()), reply_to=message)

    def _begin(
        self,
        message: Message,
        context: Context,
        call_next: ClientAppCallable,
        me: Me,
        kind: str,
        frame: bytes,
    ) -> Message:
        """Let the app do what it is asked, keep what it replies, and say that it is there."""
        task = wire.from_bytes(frame, m.Task, peer=SERVER)
        if task.protection != self.protection:
            raise RemoteProtocolError(
                f"expected {self.protection}, as this node's app demands, from {SERVER}, got {task.protection}",
                peer=SERVER,
            )
        privacy = self.protection.privacy_of(kind)
        if kind == MessageType.EVALUATE and not self.protection.evaluates:
            raise RemoteProtocolError(
                f"expected {SERVER} to ask for training only: this node adds noise to it, and metrics without noise would "
                "tell what it hides; set fraction_evaluate=0.0, or evaluation_privacy at server and nodes",
                peer=SERVER,
            )
        budget, known = b"", dict[PartyId, bytes]()
        if privacy is not None:  # before any work is done
            spending = Spending(me.path, kind, privacy)
            spent = spending.check(server=SERVER)
            budget = spent.to_bytes()
            known = {n: shown.to_bytes() for n, shown in spending.seen().items() if n in me.peers}
        # All before the function, which may change the message.
        asked = setting = b""
        if self.protection.active:
            asked = m.asked_of(message.content, message.metadata.message_type, message.metadata.group_id)
            setting = m.setting_of(context)
            seen = m.as_asked(message, context)
        else:
            seen = message
            seen.content = RecordDict({k: v for k, v in message.content.items() if k != m.RECORD})
        sent = arrays_in(seen.content)
        reply = call_next(seen, context)
        if reply.has_error():
            return Message(reply.error, reply_to=message)
        if privacy is None:
            update = take_apart(reply.content, task.weight_key, task.encoding.leave_out)
            layout, announced, vector = update.layout, update.announced, to_vector(update)
        else:
            layout, announced, vector = _private(
                reply.content, task, kind, sent, privacy, first=spent.count == 0
            )
        run, nonce = message.metadata.run_id, secrets.token_bytes(NONCE_BYTES)
        kept, shown = wire.to_bytes(layout), wire.to_bytes(announced)
        me.turns.begin(nonce, m.KEYS)
        m.keep(context, run, m.Kept(kind, m.KEYS, nonce, frame, asked, setting, kept, None, vector, None))
        signature = sign(
            me.identity, f"{LABEL}/ready", ready_parts(run, kind, nonce, shown, setting, budget, known)
        )
        ready = m.Ready(me.name, nonce, shown, setting, signature, budget, known)
        return Message(m.pack(m.TASK, ready), reply_to=message)

    def _go_on(self, message: Message, context: Context, me: Me, kind: str, step: m.Step) -> RecordDict:
        """Answer one step of the masked protocol."""
        run, privacy = message.metadata.run_id, self.protection.privacy_of(kind)
        if step.name == m.OLDER and privacy is not None:
            raise told_older(step.frame, run, kind, me.name, me.peers, Spending(me.path, kind, privacy))
        # From here on nothing is kept unless this step ends well.
        kept = m.take_out(context, run, server=SERVER)
        if (kept.kind, kept.step) != (kind, step.name):
            raise RemoteProtocolError(
                f"expected {SERVER} to ask for {kept.step} of {kept.kind}, and it asks for {step.name!r:.20} of {kind}",
                peer=SERVER,
            )
        then = self._after(step.name)
        me.turns.take(kept.nonce, step.name, then, server=SERVER)
        crowd = kept.crowd or _crowd_with(me.name, kept.nonce, step.frame)
        spending = None if privacy is None else Spending(me.path, kind, privacy)
        if spending is not None and step.name == m.KEYS:
            check_budgets(crowd, me.name, spending)
        agreement = Agreement(
            run,
            kind,
            kept.task,
            kept.asked,
            kept.setting,
            kept.layout,
            crowd.names,
            crowd.nonces,
            crowd.server_nonce,
            crowd.budgets,
        )
        where, coder = agreement.round(me.peers, self.protection, wire.from_bytes(kept.task, m.Task).encoding)
        if kept.client is None:
            client = Client(where, me.name, me.identity)
        else:
            client = Client.from_bytes(kept.client.data, where, me.identity)
        vector = kept.vector
        if step.name == m.KEYS:
            answer: wire.Message = client.advertise()
        elif step.name == m.SHARES:
            answer = client.share(wire.from_bytes(step.frame, PeerKeys, peer=SERVER))
        elif step.name == m.INPUT:
            if vector is None:  # cannot be: it is kept until here
                raise UsageError("this node keeps no update for the sum")
            inbox = wire.from_bytes(step.frame, Inbox, peer=SERVER)
            # Noise is drawn once for a vector: its turn is taken, and no later state holds it.
            answer = client.mask(coder.contribution(vector), inbox)
            vector = None
            if spending is not None:
                spending.take(kept.nonce, server=SERVER, shown=shown_by(crowd)[me.name])
        elif step.name == m.CONSENT:
            answer = client.consent(wire.from_bytes(step.frame, Survivors, peer=SERVER))
        else:
            request = self._request(step.frame)
            answer = client.unmask(request)
            if spending is not None:
                spending.remember(spent_by_now(crowd, where, client, request))
        if then is not None:
            state = np.frombuffer(client.to_bytes(), np.uint8)
            m.keep(context, run, replace(kept, step=then, crowd=crowd, vector=vector, client=state))
        return m.pack(step.name, answer)

    def _request(self, frame: bytes) -> Survivors | Consents:
        if self.protection.active:
            return wire.from_bytes(frame, Consents, peer=SERVER)
        return wire.from_bytes(frame, Survivors, peer=SERVER)

    def _after(self, step: str) -> str | None:
        """Return the step that comes behind a step; None behind the last."""
        consent = [m.CONSENT] if self.protection.active else []
        steps = [m.KEYS, m.SHARES, m.INPUT, *consent, m.UNMASK]
        return dict(itertools.pairwise(steps)).get(step)


def _crowd_with(name: PartyId, nonce: bytes, frame: bytes) -> m.Crowd:
    """Return who takes part, if this node is among them."""
    crowd = wire.from_bytes(frame, m.Crowd, peer=SERVER)
    if len(crowd.server_nonce) != NONCE_BYTES:
        raise RemoteProtocolError(
            f"expected a nonce of {NONCE_BYTES} bytes from {SERVER}, got {len(crowd.server_nonce)}",
            peer=SERVER,
        )
    if len(crowd.names) != len(crowd.nonces) or (name, nonce) not in zip(
        crowd.names, crowd.nonces, strict=True
    ):
        raise RemoteProtocolError(
            f"expected {SERVER} to count this node in with the number that it sent", peer=SERVER
        )
    return crowd


def _private(
    content: RecordDict, task: m.Task, kind: str, sent: Sent, privacy: Privacy, *, first: bool
) -> tuple[Layout, Layout, NDArray[Any]]:
    """Return layout and vector of a reply, for a sum with noise, and tell the log what becomes of it."""
    from secagg.integrations.flower.private import difference  # needs secagg[dp]

    found = difference(content, kind, sent, task.weight_key, task.encoding.leave_out)
    if first:  # of this budget
        _log.info("protected %s: under %s all nodes count the same, whatever their weights", kind, privacy)
        if found.left_out:
            _log.info("protected %s: not sent, as nothing bounds them: %s", kind, ", ".join(found.left_out))
    if found.from_zero:
        _log.warning(
            "protected %s: %s did not come with the task under this record, name and shape, and count from zero, not "
            "from what was sent",
            kind,
            ", ".join(found.from_zero),
        )
    if not found.finite:
        _log.warning("protected %s: NaN or infinity in the reply; zeros go into the sum instead", kind)
    with np.errstate(over="ignore"):  # a square that overflows is a vector that is longer
        is_longer = float(np.linalg.norm(found.vector)) > privacy.norm
    if is_longer:
        _log.info("protected %s: longer than the norm %g, to which it is scaled down", kind, privacy.norm)
    return found.layout, found.announced, found.vector


def _me(context: Context) -> Me:
    identity_path, peers_path = _setting(context, IDENTITY_KEY), _setting(context, PEERS_KEY)
    identity, peers = load_identity(identity_path), load_peers(peers_path)
    public = identity.public_key().public_bytes_raw()
    for name, key in peers.items():
        if key == public:
            return Me(name, Path(identity_path), identity, peers, Turns(Path(identity_path)))
    raise UsageError(f"the public key of {identity_path} is not in {peers_path}; add it there, at all nodes")


def _setting(context: Context, key: str) -> str:
    value = context.node_config.get(key, context.run_config.get(key))
    if not isinstance(value, str) or not value:
        raise UsageError(
            f"""the node configuration has no {key!r}: start the SuperNode with --node-config '{key}="/path/to/file"'"""
        )
    return value.replace("{partition-id}", str(context.node_config.get("partition-id", "")))
