"""The server's side of a relayed sum: who gets which letters, when the sum ends, and because of whom it failed.

It ends where a needed node is lost, after a few stalls in a row, after more steps than its protocol and its nodes explain,
or when its time is over.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from secagg.errors import RemoteProtocolError, SecaggError, TooFewPartiesError
from secagg.federated import letters as post
from secagg.federated.allowance import Allowance
from secagg.federated.identities import SERVER
from secagg.federated.letters import Letter, SumPublicKey
from secagg.federated.relayed import Answer, Delivery, RelayedSum, accused_by
from secagg.network.stepwise import Stepwise
from secagg.party import PartyId
from secagg.protocols.roles import SumResult

_MOST_STALLS: Final = 2
# In one delivery, so that it is a message of the wire whatever nodes send; what is over goes with the next.
_LETTERS_AT_ONCE: Final = 1 << 14
_BYTES_AT_ONCE: Final = 1 << 30


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
        needed, found = self._terms.needed, {*self._suspects, *accused_by(self._terms, error)}
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


def _first(letters: Sequence[Letter]) -> list[Letter]:
    """Return the letters that go with one delivery, at least one."""
    size = 0
    for count, (_, _, body) in enumerate(letters[:_LETTERS_AT_ONCE]):
        size += len(body)
        if count and size > _BYTES_AT_ONCE:
            return list(letters[:count])
    return list(letters[:_LETTERS_AT_ONCE])
