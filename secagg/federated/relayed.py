"""Sums that nodes compute together: each runs a program, and the server carries what they tell each other.

  keys      server -> nodes: who takes part. node -> server: a public key for this sum, signed (`letters`)
  relay-1   server -> nodes: everybody's key. node -> server: what its programs send first, sealed for each receiver
  relay-2.. server -> whoever has mail: letters. node -> server: what its programs answer

until the server's own program has the sum. A node keeps its programs between two steps as `network.stepwise` stores them:
the input, the key of its random stream, and what came. A step runs the program anew up to where it was. The replay guard
sees to it that no step is answered twice.

Some nodes are *needed*: without one of them nothing is opened. The loss of others is borne until their input has come. Where
no letter is left and programs still wait, the server says so, and whoever waits for others alone goes on without them.

A node that is not needed writes to the server and to needed nodes alone: to each party what it puts in, and why it failed.
The server refuses a node that sends more, and goes on without it; a needed node keeps nothing beyond that either. An
exchange that carries nothing of a needed node or of the server is a *stall*. A few in a row end the sum.

Threat model and what is learnt are those of the program: `bounded` and `shared_key`. The server carries sealed letters. It
can withhold them, which ends the sum or leaves a node out.

Cost: an exchange for keys, and one for each round of the programs in which letters go; each step computes anew what came
before. What is sent is what the programs send, 28 bytes a letter for nonce and tag, and the names.

The module is long because both sides of one exchange stand together, with what each bounds.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secagg.errors import (
    AbortedError,
    CheatingError,
    PeerMissingError,
    RemoteProtocolError,
    SecaggError,
    TooFewPartiesError,
)
from secagg.federated import letters as post
from secagg.federated.allowance import Allowance
from secagg.federated.identities import SERVER
from secagg.federated.letters import Letter, Mail, Sealer, SumPublicKey
from secagg.network.stepwise import Stepwise
from secagg.party import PartyId, Program
from secagg.protocols.roles import SumResult
from secagg.ring import RingArray
from secagg.wire import Message

RELAY: Final = "relay"
NO_TIME_S: Final = 1e9  # of a program: the server says when nobody is waited for any more
_MOST_STALLS: Final = 2
# In one delivery, so that it is a message of the wire whatever nodes send; what is over goes with the next.
_LETTERS_AT_ONCE: Final = 1 << 14
_BYTES_AT_ONCE: Final = 1 << 30


class Delivery(Message, frozen=True):
    """Relay, server -> node: public keys (in the first step), letters, and whether no others are on their way."""

    keys: dict[str, SumPublicKey]
    mail: Mail
    is_late: bool


class Answer(Message, frozen=True):
    """Relay, node -> server: letters, whether the node's programs have ended, and why if they failed.

    accused: the node that they failed because of, their own if it was their own mistake; "" where it is nobody's.
    waits_for: nodes, and the server, whose letters they wait for.
    """

    mail: Mail
    done: bool
    failure: str
    accused: str = ""
    waits_for: tuple[str, ...] = ()


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """What a node keeps between two steps. Secret.

    secret: of its key of the sum. keys: of the others, checked. given, dtype: its input. programs: states of those that did
    not end. heard: what nodes that are not needed sent it.
    """

    secret: bytes
    keys: dict[PartyId, bytes]
    given: bytes
    dtype: str
    programs: dict[PartyId, bytes]
    heard: dict[tuple[PartyId, PartyId], tuple[int, int]] = {}

    def __repr__(self) -> str:
        return "<what a node keeps in a relayed sum>"


class RelayedSum(Protocol):
    """What is computed in one sum, and by whom; the same at all nodes and the server.

    Attributes:
      context: public, of this sum alone, 32 bytes.
      nodes: who takes part.
      needed: nodes without which nothing is opened.
      roster: the parties; the server is one.
      borne: parties whose loss the others bear.
      exchanges: how many there are if nobody is lost, that of keys among them.
    """

    @property
    def context(self) -> bytes: ...

    @property
    def nodes(self) -> tuple[PartyId, ...]: ...

    @property
    def needed(self) -> tuple[PartyId, ...]: ...

    @property
    def roster(self) -> tuple[PartyId, ...]: ...

    @property
    def borne(self) -> frozenset[PartyId]: ...

    @property
    def exchanges(self) -> int: ...

    def parties_at(self, node: PartyId) -> tuple[PartyId, ...]:
        """Return the parties that a node runs."""

    def node_of(self, party: PartyId) -> PartyId:
        """Return where a party runs."""

    def upload_bytes(self, receiver: PartyId) -> int:
        """Return how many bytes of arrays a node that is not needed sends a party in the sum at most."""

    def program(self, party: PartyId, given: RingArray | None, own: Own | None) -> Program[Any]:
        """Return what a party runs.

        Args:
          given: what its node puts in; None at the server.
          own: the node's key and files; None at the server.
        """

    def total(self, found: Any) -> SumResult:
        """Return what the server's program found; its total holds elements of the coder's ring."""


@dataclass(frozen=True, slots=True)
class Own:
    """What is a node's own: its name, its identity key, and the folder of that with the key's name."""

    name: PartyId
    identity: Ed25519PrivateKey = field(repr=False)
    path: Path


class Correspondent:
    """A node's side; made anew for each step.

    Args:
      terms: of the sum.
      own: the node.
      peers: public keys by name.
    """

    def __init__(self, terms: RelayedSum, own: Own, peers: Mapping[PartyId, bytes]) -> None:
        self._terms, self._own, self._peers = terms, own, peers

    def begin(self) -> tuple[SumPublicKey, bytes]:
        """Return the node's key of the sum, and what to keep."""
        secret = secrets.token_bytes(post.KEY_BYTES)
        key = post.signed_key(secret, self._terms.context, self._own.name, self._own.identity)
        return key, msgspec.msgpack.encode(_Kept(secret, {}, b"", "", {}))

    def start(self, kept: bytes, delivery: Delivery, given: RingArray) -> tuple[Answer, bytes]:
        """Return what the node's programs send first, and what to keep.

        Args:
          given: what the node puts in.

        Raises:
          AuthenticationError: a key that its owner did not sign for this sum.
          RemoteProtocolError: a key of somebody who does not take part, or no key of a node that is needed.
        """
        terms, me, state = self._terms, self._own.name, msgspec.msgpack.decode(kept, type=_Kept)
        if strange := delivery.keys.keys() - set(terms.nodes):
            raise RemoteProtocolError(
                f"expected keys of nodes in the sum from {SERVER}, got one of {min(strange)!r:.80}",
                peer=SERVER,
            )
        if missing := [name for name in terms.needed if name not in delivery.keys]:
            raise RemoteProtocolError(
                f"expected a key of {missing[0]}, without whom there is no sum, from {SERVER}", peer=SERVER
            )
        # A node that is not needed writes to those that are, and to nobody else.
        heard = terms.nodes if me in terms.needed else terms.needed
        keys = {
            name: post.check_key(delivery.keys[name], terms.context, name, self._peers[name])
            for name in {*heard, me}
            if name in delivery.keys
        }
        sealer, sent, programs = Sealer(state.secret, terms.context, keys), list[Letter](), {}
        for party in terms.parties_at(me):
            run: Stepwise[Any] = Stepwise(
                terms.program(party, given, self._own), me=party, roster=terms.roster, session=terms.context
            )
            frames = run.step()
            if run.done:
                run.result()  # a program that failed puts nothing in
            else:
                programs[party] = run.state()
            sent += self._sealed(sealer, keys, party, frames)
        after = _Kept(state.secret, keys, given.tobytes(), given.dtype.str, programs)
        return Answer(post.pack(sent), not programs, ""), msgspec.msgpack.encode(after)

    def go_on(self, kept: bytes, delivery: Delivery) -> tuple[Answer, bytes]:
        """Return what the node's programs answer, and what to keep.

        A letter of somebody who is needed and that does not open ends the node's programs; the answer says whose it was.

        Raises:
          RemoteProtocolError: a letter to somebody who is not here, or of somebody who is not in the sum.
        """
        terms, state = self._terms, msgspec.msgpack.decode(kept, type=_Kept)
        sealer, given = (
            Sealer(state.secret, terms.context, state.keys),
            np.frombuffer(state.given, state.dtype),
        )
        heard = Allowance(state.heard)
        try:
            inboxes = self._opened(sealer, delivery, heard)
        except RemoteProtocolError as error:
            if error.peer == SERVER:
                raise
            return Answer(post.pack([]), True, error.for_peers(), error.peer), b""
        sent, programs, failure, accused, waits_for = list[Letter](), {}, "", "", set[PartyId]()
        for party, stored in state.programs.items():
            run: Stepwise[Any] = Stepwise.restore(terms.program(party, given, self._own), stored)
            frames = run.step(inboxes[party])
            if delivery.is_late and run.waiting_for and terms.borne.issuperset(run.waiting_for):
                frames += run.expire()
            sent += self._sealed(sealer, state.keys, party, frames)
            if not run.done:
                programs[party] = run.state()
                waits_for |= {terms.node_of(other) for other in run.waiting_for}
                continue
            try:
                run.result()
            except SecaggError as error:
                # What the program sent before it failed may tell the server who is to blame.
                failure = error.for_peers()
                mine = "" if isinstance(error, PeerMissingError) else self._own.name
                accused = next(iter(_accused(terms, error)), mine)
        after = msgspec.structs.replace(state, programs=programs, heard=heard.used)
        told = Answer(
            post.pack(sent), not programs, failure, accused, tuple(sorted(waits_for - {self._own.name}))
        )
        return told, msgspec.msgpack.encode(after)

    def _opened(
        self, sealer: Sealer, delivery: Delivery, heard: Allowance
    ) -> dict[PartyId, list[tuple[PartyId, bytes]]]:
        terms, here = self._terms, self._terms.parties_at(self._own.name)
        inboxes: dict[PartyId, list[tuple[PartyId, bytes]]] = {party: [] for party in here}
        for sender, receiver, body in post.unpack(delivery.mail, peer=SERVER):
            if receiver not in here or sender not in terms.roster or sender == receiver:
                raise RemoteProtocolError(
                    f"expected letters of parties of the sum to {self._own.name} from {SERVER}, got one of "
                    f"{sender!r:.80} to {receiver!r:.80}",
                    peer=SERVER,
                )
            at, frame = terms.node_of(sender), body
            is_borne = at not in terms.needed and at != SERVER
            if is_borne and heard.excess(sender, receiver, len(body), terms.upload_bytes(receiver)):
                continue  # it would be kept, and replayed in each step; the server should have refused it
            if at != SERVER:
                try:
                    frame = sealer.open(body, sender=sender, receiver=receiver, at=at)
                except RemoteProtocolError:
                    if sender not in terms.borne:
                        raise
                    continue  # its sender is left out, and ends nobody else's sum
            inboxes[receiver].append((sender, frame))
        return inboxes

    def _sealed(
        self,
        sealer: Sealer,
        keys: Mapping[PartyId, bytes],
        party: PartyId,
        frames: Sequence[tuple[PartyId, bytes]],
    ) -> list[Letter]:
        letters = []
        for receiver, frame in frames:
            at = self._terms.node_of(receiver)
            if at == SERVER:
                letters.append(Letter((party, receiver, frame)))
            elif at in keys:  # else it left before it made a key, and nothing reaches it
                sealed = sealer.seal(frame, sender=party, receiver=receiver, at=at)
                letters.append(Letter((party, receiver, sealed)))
        return letters


class Carrier:
    """The server's side: it carries letters, and runs its own program.

    Args:
      terms: of the sum.
      peers: public keys by name.
      limit_s: how long the sum may take; None for as long as it goes on. It ends between two exchanges.
    """

    def __init__(
        self, terms: RelayedSum, peers: Mapping[PartyId, bytes], *, limit_s: float | None = None
    ) -> None:
        self._terms, self._peers = terms, peers
        self._limit_s, self._began, self._asked_at = limit_s, time.monotonic(), 0.0
        self._kept_waiting = dict.fromkeys(terms.needed, 0.0)  # seconds until answers of each
        self._accused: dict[PartyId, PartyId] = {}  # by whom
        self._waits_for: dict[PartyId, tuple[PartyId, ...]] = {}
        self._suspects: set[PartyId] = set()  # because of whom the sum does not go on
        self._most_steps = 2 * (terms.exchanges + len(terms.nodes))
        self._run: Stepwise[Any] = Stepwise(
            terms.program(SERVER, None, None), me=SERVER, roster=terms.roster, session=terms.context
        )
        self._keys: dict[PartyId, SumPublicKey] = {}
        self._letters: dict[PartyId, list[Letter]] = {}
        self._inbox: list[tuple[PartyId, bytes]] = []
        self._asked: set[PartyId] = set()
        self._going: set[PartyId] = set()  # nodes whose programs have not ended
        self._failures: dict[PartyId, str] = {}
        self._allowance = Allowance()
        self._steps = self._stalls = 0

    def take_key(self, node: PartyId, message: SumPublicKey) -> None:
        """Take a node's key of the sum; raises as `letters.check_key`."""
        post.check_key(message, self._terms.context, node, self._peers[node])
        self._keys[node] = message

    def deliveries(self) -> dict[PartyId, Delivery]:
        """Return what goes to whom in the next step; nothing when the sum is there.

        Raises:
          TooFewPartiesError: a node is missing without which nothing is opened, or too few others are there.
          SecaggError: as the server's program.
        """
        self._check_needed()
        self._check_time()
        self._steps += 1
        self._asked_at = time.monotonic()
        if self._steps == 1:
            self._going, self._asked = set(self._keys), set(self._keys)
            self._post(self._run.step())
            return {node: Delivery(self._keys, post.pack([]), False) for node in self._keys}
        inbox, self._inbox = self._inbox, []
        self._post(self._run.step(inbox))
        waiting, late = self._waiting_letters(), False
        if not self._run.done:
            self._stalls = 0 if self._goes_on(waiting) else self._stalls + 1
            late = not waiting
        if late and self._terms.borne.issuperset(
            self._run.waiting_for
        ):  # for uploads that do not come any more
            self._post(self._run.expire())
        if self._run.done:
            self._run.result()
            return {}
        if self._stalls > _MOST_STALLS or self._steps > self._most_steps:
            self._suspects = self._stalled()
            raise TooFewPartiesError(
                f"the nodes that compute the sum do not go on{self._why()}; nothing was opened"
            )
        now = {node: _first(letters) for node, letters in self._waiting_letters().items()}
        self._letters = {
            node: rest
            for node, letters in self._letters.items()
            if (rest := letters[len(now.get(node, letters)) :])
        }
        self._asked = self._going & (set(self._terms.needed) if late else set()) | now.keys()
        return {node: Delivery({}, post.pack(now.get(node, [])), late) for node in self._asked}

    def take_answer(self, node: PartyId, message: Answer) -> None:
        """Take what a node's programs answer.

        Raises:
          RemoteProtocolError: letters in others' names, or to nobody; of a node that is not needed, more than the sum takes.
        """
        terms, letters = self._terms, post.unpack(message.mail, peer=node)
        here = terms.parties_at(node)
        for sender, receiver, _ in letters:
            if sender not in here or receiver not in terms.roster or sender == receiver:
                raise RemoteProtocolError(
                    f"expected letters of {node}'s own to parties of the sum, got one of {sender!r:.80} to {receiver!r:.80}",
                    peer=node,
                )
        if node not in terms.needed:
            self._check_borne(node, letters)
        for letter in letters:
            sender, receiver, body = letter
            if (at := terms.node_of(receiver)) == SERVER:
                self._inbox.append((sender, body))
            else:
                self._letters.setdefault(at, []).append(letter)
        self._asked.discard(node)
        if node in self._kept_waiting:
            self._kept_waiting[node] += time.monotonic() - self._asked_at
        self._waits_for[node] = message.waits_for
        if message.accused:
            self._accused[node] = message.accused
        if message.done:
            self._going.discard(node)
        if message.failure:
            self._failures[node] = message.failure

    def finish(self) -> SumResult:
        """Return the sum; raises as `deliveries`."""
        return self._terms.total(self._run.result())

    def blamed(self, error: SecaggError) -> tuple[PartyId, ...]:
        """Return the needed nodes because of whom a sum ended with an error; of several, one at least.

        Nothing but its word shows that a node is right about another. So whoever accuses is blamed with whom it accuses:
        a node that lies is among them.
        """
        needed, found = self._terms.needed, {*self._suspects, *_accused(self._terms, error)}
        for pair in self._accused.items():
            found |= {*pair} if pair[1] in needed else set()
        return tuple(node for node in needed if node in found)

    def _stalled(self) -> set[PartyId]:
        """Return who may be to blame that a sum does not go on; one that lies is among them.

        An honest node that has not ended waits for somebody, and says so. So a node that is waited for, and waits for
        nobody, lies, or a node that alone says that it waits for it. Where there is none such, all that are waited for may.
        """
        needed = set(self._terms.needed)
        waits = {node: set(self._waits_for.get(node, ())) for node in needed & self._going}
        waits[SERVER] = {self._terms.node_of(party) for party in self._run.waiting_for}
        waiting = {node: {other for other in waits if node in waits[other]} for node in needed}
        silent = {node for node in needed if waiting[node] and not waits.get(node)}
        sure = {node for node in silent if SERVER in waiting[node] or len(waiting[node]) > 1}
        unsure = silent.union(*(waiting[node] for node in silent))
        return sure or unsure or {node for node in needed if waiting[node]}

    def _check_time(self) -> None:
        if self._limit_s is not None and time.monotonic() - self._began > self._limit_s:
            slowest = max(self._terms.needed, key=lambda node: self._kept_waiting[node])
            self._suspects = {slowest}
            raise TooFewPartiesError(
                f"expected the nodes that compute the sum to end it within {self._limit_s:g} s, and they did not; "
                f"{slowest} kept it waiting longest. Nothing was opened"
            )

    def _check_needed(self) -> None:
        """Count who did not answer as lost, and end the sum if it is of no use without them."""
        self._going -= self._asked
        there = self._keys if not self._steps else self._keys.keys() - self._asked
        self._keys = {node: key for node, key in self._keys.items() if node in there}
        if gone := [node for node in self._terms.needed if node not in self._keys]:
            self._suspects = {*gone}
            raise TooFewPartiesError(
                f"{', '.join(gone)}, without whom the sum cannot be computed, left it; nothing was opened"
            )

    def _check_borne(self, node: PartyId, letters: Sequence[Letter]) -> None:
        """Refuse letters of a node that is not needed which are no part of what it puts in."""
        for sender, receiver, body in letters:
            if (at := self._terms.node_of(receiver)) != SERVER and at not in self._terms.needed:
                raise RemoteProtocolError(
                    f"expected letters of {node}'s to nodes that compute the sum, got one to {receiver!r:.80}",
                    peer=node,
                )
            if why := self._allowance.excess(sender, receiver, len(body), self._terms.upload_bytes(receiver)):
                raise RemoteProtocolError(why, peer=node)

    def _goes_on(self, waiting: Mapping[PartyId, Sequence[Letter]]) -> bool:
        """Return whether a letter of a needed node or of the server is on its way."""
        going = {*self._terms.needed, SERVER}
        return any(
            self._terms.node_of(sender) in going for queue in waiting.values() for sender, _, _ in queue
        )

    def _why(self) -> str:
        """Return who is to blame that a sum does not go on, as far as the server knows."""
        awaited = {self._terms.node_of(party) for party in self._run.waiting_for}
        ended, waiting = sorted(awaited - self._going), sorted(self._going & set(self._terms.needed))
        return (
            "".join(f"; {node}: {why!r:.300}" for node, why in self._failures.items())
            + (f"; {', '.join(ended)} ended and did not send what the server waits for" if ended else "")
            + (f"; {', '.join(waiting)} wait for letters or hold theirs back" if waiting else "")
        )

    def _post(self, frames: Sequence[tuple[PartyId, bytes]]) -> None:
        for receiver, frame in frames:
            letter = Letter((SERVER, receiver, frame))
            self._letters.setdefault(self._terms.node_of(receiver), []).append(letter)

    def _waiting_letters(self) -> dict[PartyId, list[Letter]]:
        """Return letters to nodes that still read some."""
        return {node: letters for node, letters in self._letters.items() if node in self._going}


def _accused(terms: RelayedSum, error: SecaggError) -> tuple[PartyId, ...]:
    """Return the nodes that an error names as those who broke the protocol or ended it."""
    names: tuple[PartyId, ...] = ()
    if isinstance(error, CheatingError):
        names = error.suspects
    elif isinstance(error, AbortedError):
        names = (error.accused, error.peer)
    elif isinstance(error, RemoteProtocolError):
        names = (error.peer,)
    return tuple(terms.node_of(name) for name in names if name in terms.roster and name != SERVER)


def _first(letters: Sequence[Letter]) -> list[Letter]:
    """Return the letters that go with one delivery, at least one."""
    size = 0
    for count, (_, _, body) in enumerate(letters[:_LETTERS_AT_ONCE]):
        size += len(body)
        if count and size > _BYTES_AT_ONCE:
            return list(letters[:count])
    return list(letters[:_LETTERS_AT_ONCE])
