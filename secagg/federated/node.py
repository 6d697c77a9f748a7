"""The client's side of a sum: a node is invited, keeps an update, and answers the steps of the protocol in use.

    invitation = Invitation.read(member, protection, run, kind, frame)    # before the app does any work
    node, ready = invitation.accept(layout, announced, vector)            # afterwards
    answer = node.answer(kind, step, frame)                               # for each further step
    data = node.to_bytes()                                                # between two steps, unless node.is_done
    node = Node.from_bytes(data, member, protection)

A framework carries the messages, and may run each step in a process of its own.

The module is long because what a node keeps between steps, and each step that takes it up, stand together.
"""

from __future__ import annotations

import itertools
import logging
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace
from numpy.typing import NDArray

from secagg import wire
from secagg.errors import RemoteProtocolError, UsageError
from secagg.federated import messages
from secagg.federated.budget import History, PrivacyBudget
from secagg.federated.compressed import CompressedCoder
from secagg.federated.correspondent import Correspondent
from secagg.federated.encrypted import Encryption, SumKey, Total, secret_key_from
from secagg.federated.error_feedback import Memory, remembered
from secagg.federated.identities import SERVER, load_identity, load_peers
from secagg.federated.layout import Coder, Layout
from secagg.federated.peer_budgets import check_budgets, shown_by, spent_by_now
from secagg.federated.relayed import RELAY, Delivery, Own
from secagg.federated.replay_guard import ReplayGuard
from secagg.federated.terms import EVALUATE, LABEL, NONCE_BYTES, Agreement, Protection, ready_parts
from secagg.party import PartyId
from secagg.protocols.masked_sum import Client, Consents, Included, PeerKeys, PeerShares, SumInSession
from secagg.ring import RingArray
from secagg.signing import sign
from secagg.updates.privacy import Privacy

_COUNTED: Final = "-"  # before the number of a step that comes many times
_log: Final = logging.getLogger("secagg.federated")


@dataclass(frozen=True, slots=True)
class OwnNode:
    """This node, and the others that it knows.

    Args:
      name: in the file of public keys.
      path: of its identity key; its budgets and the replay guard's files lie beside it.
      identity: its key.
      peers: public keys of all nodes by name.
    """

    name: PartyId
    path: Path
    identity: Ed25519PrivateKey = field(repr=False)
    peers: dict[PartyId, bytes] = field(repr=False)

    @classmethod
    def load(cls, identity_path: str | Path, peers_path: str | Path) -> OwnNode:
        """Read the two files of a node.

        Raises:
          UsageError: a file that cannot be read or holds something else, or a key that is not among the public keys.
        """
        identity, peers = load_identity(identity_path), load_peers(peers_path)
        public = identity.public_key().public_bytes_raw()
        for name, key in peers.items():
            if key == public:
                return cls(name, Path(identity_path), identity, peers)
        raise UsageError(
            f"the public key of {identity_path} is not in {peers_path}; add it there, at all nodes"
        )

    def budget(self, kind: str, privacy: Privacy) -> PrivacyBudget:
        """Return the budget of a kind of sum."""
        return PrivacyBudget(self.path, kind, privacy)


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a node is asked, checked before its app does any work.

    Args:
      member: the node.
      protection: what it insists on.
      run, kind: of the sum.
      frame: the task as bytes.
      task: the same, decoded.
      spent: of the node's budget; None for sums without noise.
      known: what others were seen to have spent.
    """

    member: OwnNode
    protection: Protection
    run: int
    kind: str
    frame: bytes = field(repr=False)
    task: messages.Task
    spent: History | None
    known: dict[PartyId, bytes] = field(repr=False)

    @classmethod
    def read(cls, member: OwnNode, protection: Protection, run: int, kind: str, frame: bytes) -> Invitation:
        """Return an invitation that this node may accept.

        Raises:
          WireError: no `Task`.
          RemoteProtocolError: another release or protection than this node's, evaluation beside training with noise, or a
            budget that is spent or for other settings.
          UsageError: no budget, or one that is not as this node wrote it.
        """
        task = messages.read_task(frame)
        if task.protection != protection:
            raise RemoteProtocolError(
                f"expected {protection}, as this node's app demands, from {SERVER}, got {task.protection}",
                peer=SERVER,
            )
        if kind == EVALUATE and not protection.evaluates:
            raise RemoteProtocolError(
                f"expected {SERVER} to ask for training only: this node adds noise to it, and metrics without noise would "
                "tell what it hides; set fraction_evaluate=0.0, or evaluation_privacy at server and nodes",
                peer=SERVER,
            )
        privacy = protection.privacy_of(kind)
        if privacy is None:
            return cls(member, protection, run, kind, frame, task, None, {})
        budget = member.budget(kind, privacy)
        spent = budget.check(server=SERVER)
        known = {name: seen.to_bytes() for name, seen in budget.seen().items() if name in member.peers}
        return cls(member, protection, run, kind, frame, task, spent, known)

    def accept(
        self,
        layout: Layout,
        announced: Layout,
        vector: NDArray[Any],
        *,
        task_digest: bytes = b"",
        setting: bytes = b"",
        memory: bytes = b"",
        log: logging.Logger = _log,
    ) -> tuple[Node, messages.Ready]:
        """Return the node that keeps an update, and what it tells the server; any other sum of this identity is over.

        Args:
          layout: canonical.
          announced: the same in the order of the reply.
          vector: the update, as the layout's coder takes it.
          task_digest, setting: as in `Agreement`.
          memory: `Node.memory` of the last sum of training that this node was in.
          log: as in `Node`.

        Raises:
          UsageError: the folder of the identity key cannot be written to.
        """
        member, nonce, shown = self.member, secrets.token_bytes(NONCE_BYTES), wire.to_bytes(announced)
        first = _steps(self.protection, member.name, self.kind)[0]
        ReplayGuard(member.path).begin(nonce, first)
        state = messages.NodeState(
            run=self.run,
            kind=self.kind,
            step=first,
            nonce=nonce,
            task=self.frame,
            task_digest=task_digest,
            setting=setting,
            layout=layout,
            participants=None,
            vector=vector,
            client=None,
            memory=remembered(memory, self.run, layout, log) if self.task.remembers(self.kind) else None,
        )
        spent = b"" if self.spent is None else self.spent.to_bytes()
        parts = ready_parts(self.run, self.kind, nonce, shown, setting, spent, self.known)
        signature = sign(member.identity, f"{LABEL}/ready", parts)
        ready = messages.Ready(member.name, nonce, shown, setting, signature, spent, self.known)
        return Node(member, self.protection, self.task, state, log), ready


class Node:
    """One node in one sum: its task, what it keeps of the reply, and its side of the masked protocol.

    Args:
      member: the node.
      protection: what it insists on.
      task: what it was asked, decoded.
      state: what it keeps.
      log: where it says what the server must not know.
    """

    __slots__ = ("_log", "_member", "_protection", "_state", "task")

    def __init__(
        self,
        member: OwnNode,
        protection: Protection,
        task: messages.Task,
        state: messages.NodeState,
        log: logging.Logger = _log,
    ) -> None:
        self._member, self._protection, self._log = member, protection, log
        self.task, self._state = task, state

    def __repr__(self) -> str:
        return f"Node({self._member.name!r}, {self._state.kind!r}, next {self._state.step!r})"

    @classmethod
    def from_bytes(
        cls, data: bytes, member: OwnNode, protection: Protection, log: logging.Logger = _log
    ) -> Node:
        """Return the node whose `to_bytes` this is."""
        state = wire.from_bytes(data, messages.NodeState)
        return cls(member, protection, wire.from_bytes(state.task, messages.Task), state, log)

    def to_bytes(self) -> bytes:
        """Return what the node needs for the next step. Secret."""
        return wire.to_bytes(self._state)

    @property
    def privacy(self) -> Privacy | None:
        """What sums of this kind may tell; None for sums without noise."""
        return self._protection.privacy_of(self._state.kind)

    @property
    def memory(self) -> bytes:
        """What to give to `Invitation.accept` of the next sum, once the node is done; b"" if that is nothing new. Secret."""
        state = self._state
        if state.memory is None or not self.is_done:
            return b""
        return wire.to_bytes(Memory(state.run, wire.to_bytes(state.layout), state.memory))

    @property
    def is_done(self) -> bool:
        """Whether the node has answered the last step."""
        return not self._state.step

    def answer(self, kind: str, step: str, frame: bytes) -> wire.Message:
        """Answer one step of the masked protocol.

        After an error the state is not to be kept: the sum is over for this node.

        Raises:
          SecaggError: the message is not what is due, or does not fit what this node insists on.
        """
        state, member, privacy = self._state, self._member, self.privacy
        if (state.kind, state.step.partition(_COUNTED)[0]) != (kind, step):
            raise RemoteProtocolError(
                f"expected {SERVER} to ask for {state.step} of {state.kind}, and it asks for {step!r:.20} of {kind}",
                peer=SERVER,
            )
        if self._protection.relays(kind):
            return self._relayed(step, frame)
        then = _after(step, self._protection, member.name, kind)
        ReplayGuard(member.path).take(state.nonce, step, then, server=SERVER)
        if self._protection.encryption is not None:
            return self._under_encryption(self._protection.encryption, step, then, frame)
        participants = state.participants or _participants_with(
            member.name, state.nonce, wire.from_bytes(frame, messages.Participants, peer=SERVER)
        )
        budget = None if privacy is None else member.budget(kind, privacy)
        if budget is not None and step == messages.KEYS:
            check_budgets(participants, member.name, budget, log=self._log)
        where, coder = self._round(participants)
        if state.client is None:
            client = Client(where, member.name, member.identity)
        else:
            client = Client.from_bytes(state.client.data, where, member.identity)
        vector, memory = state.vector, state.memory
        if step == messages.KEYS:
            answer: wire.Message = client.advertise()
        elif step == messages.SHARES:
            answer = client.share(wire.from_bytes(frame, PeerKeys, peer=SERVER))
        elif step == messages.INPUT:
            if vector is None:  # cannot be: it is kept until here
                raise UsageError("this node keeps no update for the sum")
            peer_shares = wire.from_bytes(frame, PeerShares, peer=SERVER)
            # Noise is drawn once for a vector: the guard has passed, and no later state holds the vector.
            contribution, memory = self._contribution(coder, vector)
            answer = client.mask(contribution, peer_shares)
            vector = None
            if budget is not None:
                budget.spend(state.nonce, server=SERVER, shown=shown_by(participants)[member.name])
        elif step == messages.CONSENT:
            answer = client.consent(wire.from_bytes(frame, Included, peer=SERVER))
        else:
            request = self._request(frame)
            answer = client.unmask(request)
            if budget is not None:
                budget.remember(spent_by_now(participants, where, client, request))
        kept = np.frombuffer(client.to_bytes(), np.uint8)
        self._state = replace(
            state, step=then or "", participants=participants, vector=vector, client=kept, memory=memory
        )
        return answer

    def _contribution(
        self, coder: Coder, vector: NDArray[Any]
    ) -> tuple[RingArray, NDArray[np.float64] | None]:
        """Return what goes into the sum for the update, and what to remember with error feedback."""
        memory = self._state.memory
        if memory is None or not isinstance(coder, CompressedCoder):
            return coder.contribution(vector), None
        return coder.contribution_with(vector, memory)

    def _under_encryption(
        self, encryption: Encryption, step: str, then: str | None, frame: bytes
    ) -> wire.Message:
        """Answer one step of a sum under encryption; its turn was taken."""
        state, member = self._state, self._member
        sum_key: SumKey | None = None
        if step == messages.KEYS:
            given = wire.from_bytes(frame, messages.Participants, peer=SERVER)
        elif step == messages.INPUT:
            told = wire.from_bytes(frame, messages.KeyToUse, peer=SERVER)
            given, sum_key = told.participants, told.key
        elif state.participants is None:  # cannot be: it is kept until here
            raise UsageError("this node keeps no sum to decrypt")
        else:
            given = state.participants
        participants = _participants_with(member.name, state.nonce, given)
        if state.participants is not None and wire.to_bytes(state.participants) != wire.to_bytes(given):
            raise RemoteProtocolError(
                f"expected {SERVER} to tell one list of nodes in a sum, got two", peer=SERVER
            )
        where, coder, agreement = self._agreed(participants)
        terms, kept, vector = agreement.encrypted(where, coder, encryption), state.client, state.vector
        memory = state.memory
        if step == messages.KEYS:
            key = terms.new_key()
            kept = np.frombuffer(wire.to_bytes(key.to_message()), np.uint8)
            answer: wire.Message = terms.signed_key(key, member.identity)
        elif sum_key is not None and vector is not None:
            public_key = terms.public_key(sum_key, member.peers)
            if not coder.fits(vector):
                raise UsageError(
                    "this node's update does not fit the server's Encoding, and stays out of the sum"
                )
            contribution, memory = self._contribution(coder, vector)
            answer, vector = terms.encrypt(public_key, contribution), None
        elif kept is not None:
            secret_key = secret_key_from(kept.tobytes(), encryption.scheme)
            total = wire.from_bytes(frame, Total, peer=SERVER)
            answer, kept = terms.decrypt(secret_key, total, peer=SERVER), None
        else:  # cannot be: steps come in their order
            raise UsageError("this node keeps nothing for the sum")
        self._state = replace(
            state, step=then or "", participants=participants, vector=vector, client=kept, memory=memory
        )
        return answer

    def _relayed(self, step: str, frame: bytes) -> wire.Message:
        """Answer one step of a sum that nodes compute together."""
        state, member = self._state, self._member
        count = int(state.step.partition(_COUNTED)[2] or 0)
        then = f"{RELAY}{_COUNTED}{count + 1}"
        guard = ReplayGuard(member.path)
        guard.take(state.nonce, state.step, then, server=SERVER)
        participants = state.participants or _participants_with(
            member.name, state.nonce, wire.from_bytes(frame, messages.Participants, peer=SERVER)
        )
        where, coder, agreement = self._agreed(participants)
        own = Own(member.name, member.identity, member.path)
        mine = Correspondent(agreement.relayed(where, coder, self._protection), own, member.peers)
        vector, kept, done = state.vector, b"" if state.client is None else state.client.tobytes(), False
        memory = state.memory
        if step == messages.KEYS:
            answer: wire.Message
            answer, kept = mine.begin()
        else:
            delivery = wire.from_bytes(frame, Delivery, peer=SERVER)
            if vector is not None:
                if not coder.fits(vector):
                    raise UsageError(
                        "this node's update does not fit the server's Encoding, and stays out of the sum"
                    )
                # Drawn and rounded once: programs that are run anew get the same numbers.
                contribution, memory = self._contribution(coder, vector)
                (told, kept), vector = mine.start(kept, delivery, contribution), None
            else:
                told, kept = mine.go_on(kept, delivery)
            answer, done = told, told.done
            if told.failure:
                memory = None  # nobody knows whether its update is in a sum
                self._log.error("protected %s: %s", state.kind, told.failure)
        if done:
            guard.take(state.nonce, then, None, server=SERVER)
        self._state = replace(
            state,
            step="" if done else then,
            participants=participants,
            vector=vector,
            client=np.frombuffer(kept, np.uint8),
            memory=memory,
        )
        return answer

    def _round(self, participants: messages.Participants) -> tuple[SumInSession, Coder]:
        where, coder, _ = self._agreed(participants)
        return where, coder

    def _agreed(self, participants: messages.Participants) -> tuple[SumInSession, Coder, Agreement]:
        state, task = self._state, self.task
        agreement = Agreement(
            run=state.run,
            kind=state.kind,
            task=state.task,
            task_digest=state.task_digest,
            setting=state.setting,
            layout=state.layout,
            names=participants.names,
            nonces=participants.nonces,
            server_nonce=participants.server_nonce,
            budgets=participants.budgets,
            computing=participants.computing,
        )
        where, coder = agreement.round(
            self._member.peers, self._protection, task.encoding, task.weight_key, log=self._log
        )
        return where, coder, agreement

    def _request(self, frame: bytes) -> Included | Consents:
        if self._protection.is_malicious:
            return wire.from_bytes(frame, Consents, peer=SERVER)
        return wire.from_bytes(frame, Included, peer=SERVER)


def _steps(protection: Protection, name: PartyId, kind: str) -> list[str]:
    """Return what a node is asked after the task, in order; of sums that nodes compute together, the first alone."""
    if protection.relays(kind):
        return [messages.KEYS]
    if protection.encryption is not None:
        holds = protection.encryption.key_holder == name
        return [messages.KEYS, messages.INPUT, messages.DECRYPT] if holds else [messages.INPUT]
    consent = [messages.CONSENT] if protection.is_malicious else []
    return [messages.KEYS, messages.SHARES, messages.INPUT, *consent, messages.UNMASK]


def _after(step: str, protection: Protection, name: PartyId, kind: str) -> str | None:
    """Return the step that comes behind a step; None behind the last."""
    return dict(itertools.pairwise(_steps(protection, name, kind))).get(step)


def _participants_with(
    name: PartyId, nonce: bytes, participants: messages.Participants
) -> messages.Participants:
    """Return who takes part, if this node is among them."""
    if len(participants.server_nonce) != NONCE_BYTES:
        raise RemoteProtocolError(
            f"expected a nonce of {NONCE_BYTES} bytes from {SERVER}, got {len(participants.server_nonce)}",
            peer=SERVER,
        )
    if len(participants.names) != len(participants.nonces) or (name, nonce) not in zip(
        participants.names, participants.nonces, strict=True
    ):
        raise RemoteProtocolError(
            f"expected {SERVER} to count this node in with the number that it sent", peer=SERVER
        )
    return participants
