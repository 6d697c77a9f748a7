"""A node's side of a relayed sum: its programs, stored between steps, and the letters that they read and write."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from secagg.errors import PeerMissingError, RemoteProtocolError, SecaggError
from secagg.federated import letters as post
from secagg.federated.allowance import Allowance
from secagg.federated.identities import SERVER
from secagg.federated.letters import Letter, Sealer, SumPublicKey
from secagg.federated.relayed import Answer, Delivery, Own, RelayedSum, accused_by
from secagg.network.stepwise import Stepwise
from secagg.party import PartyId
from secagg.ring import RingArray


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
        sealer = Sealer(state.secret, terms.context, state.keys)
        given = np.frombuffer(state.given, state.dtype)
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
                accused = next(iter(accused_by(terms, error)), mine)
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
