"""What one of four parties sends and another vouches for, and the check that ends a run before anything is opened.

*Items.* What two parties hold and a third is to get is an `Item`: the sender sends it, the voucher sends its tag
(`vouching`), in the same round. The receiver compares at once, takes note of the first item that does not fit, and goes
on as before.

*Order.* Operations are numbered as they begin, at all parties alike. What an operation sends depends on results of
operations with smaller numbers only.

*After a failed check* a party holds something else than others do. Whether what it would send fails the checks of others
could depend on secrets. So in all operations that begin later it sends random elements and random tags.

*Check.* Before each opening everybody tells everybody, and repeats (`broadcast`), how many operations it has begun and
the first item that failed. Where somebody complains, sender, voucher and receiver of the first such item give evidence,
by a second broadcast, and all judge by one rule (`blame`). The first item is judged because honest parties held the same
until then.

*What is kept.* Evidence needs the contents of all items since the last check. So a check also takes place before an
operation when more than `max_kept_bytes` have been vouched for since then. All parties count the same.

Steps. In each of its rounds an operation lets every party wait once, for nothing where only others receive. So
operations that run side by side (`Party.parallel`) move in lockstep and are numbered alike.

Threat model: that of `engine`. Learns: from items, their receivers what the operation's module says. From a check,
everybody how many operations have begun. From a failed one also what the evidence says, after which nothing is opened.

Cost of a check: 2 rounds, the second of which an opening shares; no payload.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn, Self

import numpy as np

from secagg.errors import CheatingError, RemoteProtocolError, UsageError
from secagg.mpc.four.blame import NO_EVIDENCE, Item, evidence, judge
from secagg.mpc.four.broadcast import Agreement, echo, tell
from secagg.mpc.four.keys import Keys, TripleStreams, agree_keys
from secagg.mpc.four.shares import held_by
from secagg.mpc.four.vouching import TAG_BYTES, Content
from secagg.mpc.groups import Array, Group, checked
from secagg.party import Party, PartyId, array_bytes
from secagg.wire import Message

MAX_KEPT_BYTES: Final = 1 << 28
ITEM_BYTES: Final = 512  # what Python holds for an item beside its content
_STATE: Final = struct.Struct(">QQQ")
_NO_COMPLAINT: Final = (1 << 64) - 1


class Vouched(Message, frozen=True):
    """What a party sends another in a round of an operation: contents, and tags of contents that others send."""

    contents: tuple[np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]], ...]
    tags: tuple[bytes, ...]


class Passed(NamedTuple):
    """An item of a round, and its content.

    value: at sender and voucher the content, which must not change until the next check; None at others.
    """

    item: Item
    group: Group
    shape: tuple[int, ...]
    value: Array | None

    @property
    def nbytes(self) -> int:
        return array_bytes(self.shape, self.group.dtype)


@dataclass(frozen=True, slots=True)
class State:
    """What a party says in a check.

    Attributes:
      operations: how many it has begun.
      complaint: operation and slot of the first item that failed, or None.
    """

    operations: int
    complaint: tuple[int, int] | None

    def encode(self) -> bytes:
        return _STATE.pack(self.operations, *(self.complaint or (_NO_COMPLAINT, _NO_COMPLAINT)))

    @classmethod
    def decode(cls, value: bytes | None) -> State | None:
        """Return what a party said, or None where it is no state."""
        if value is None or len(value) != _STATE.size:
            return None
        operations, operation, slot = _STATE.unpack(value)
        if (operation == _NO_COMPLAINT) != (slot == _NO_COMPLAINT):
            return None
        return cls(operations, None if operation == _NO_COMPLAINT else (operation, slot))


class Channel:
    """One computing party's end of what four of them exchange.

    Attributes:
      party, computing: this party, and the four in order.
      index: this party is P_index.
      others: the indices of the three others, which are those of the shares that this party holds.
      max_kept_bytes: how much is vouched for, by all four together, before a check takes place by itself.
    """

    __slots__ = (
        "_begun",
        "_failed",
        "_items",
        "_kept",
        "_keys",
        "_nbytes",
        "_open",
        "_pending",
        "computing",
        "index",
        "max_kept_bytes",
        "others",
        "party",
    )

    def __init__(self, party: Party, computing: Sequence[PartyId], keys: Keys) -> None:
        self.party = party
        self.computing = tuple(computing)
        self.index = self.computing.index(party.me)
        self.others = held_by(self.index)
        self.max_kept_bytes = MAX_KEPT_BYTES
        self._keys = keys
        self._begun = 0
        self._failed: tuple[int, int] | None = None  # the first item that failed
        self._items: dict[int, tuple[Item, ...]] = {}  # of operations since the last check
        self._kept: dict[tuple[int, int], Content] = {}
        self._open: set[int] = set()  # operations that are not over
        self._nbytes: dict[int, int] = {}  # what those operations may keep
        self._pending = 0  # the sum of these

    @classmethod
    async def set_up(cls, party: Party, computing: Sequence[PartyId], *, label: str = "") -> Self:
        """Agree on keys and return this party's end; arguments and errors are those of `agree_keys`."""
        return cls(party, computing, await agree_keys(party, computing, label))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(P{self.index} = {self.party.me!r})"

    def triple(self, hidden_from: int) -> TripleStreams:
        """Return the streams of the three parties but one."""
        return self._keys.triples[hidden_from]

    async def begin(self, items: Sequence[Item], nbytes: int) -> int:
        """Return the number of a new operation, after a check where too much is kept.

        Args:
          items: what is vouched for in it, by slot; public.
          nbytes: how much that is, over all items; public.
        """
        if self._pending > self.max_kept_bytes:
            await self.check()
        operation = self._begun
        self._nbytes[operation] = nbytes + ITEM_BYTES * len(items)
        self._pending += self._nbytes[operation]
        self._begun += 1
        self._items[operation] = tuple(items)
        self._open.add(operation)
        return operation

    def end(self, operation: int) -> None:
        """Take note that an operation is over: the next check covers it."""
        self._open.discard(operation)

    async def idle(self) -> None:
        """Wait for nothing, in a round in which only others receive."""
        await self.party.gather(Vouched, (), max_bytes=0)

    async def pass_on(self, passed: Sequence[Passed]) -> list[Array | None]:
        """Let senders send items and vouchers vouch for them; return what this party receives, by slot.

        Raises:
          RemoteProtocolError: a message without what was expected, or of another shape.
        """
        items = [each.item for each in passed]
        operation = await self.begin(items, sum(each.nbytes for each in passed))
        contents: dict[int, list[Array]] = {j: [] for j in self.others}
        for slot, (item, group, shape, value) in enumerate(passed):
            if value is None:
                continue
            self.keep(operation, slot, value)
            if item.sender == self.index:
                sent = value if self.is_sound(operation) else group.draw(self.party.rng, shape)
                contents[item.receiver].append(sent)
        received = await self._exchange(operation, items, contents, passed)
        self.end(operation)
        return received

    async def compare(self, operation: int, items: Sequence[Item]) -> None:
        """Let vouchers vouch for contents that their receivers hold already; both have called `keep`."""
        await self._exchange(operation, items, {j: [] for j in self.others}, None)

    async def _exchange(
        self,
        operation: int,
        items: Sequence[Item],
        contents: dict[int, list[Array]],
        passed: Sequence[Passed] | None,
    ) -> list[Array | None]:
        tags: dict[int, list[bytes]] = {j: [] for j in self.others}
        awaited: dict[int, tuple[list[int], list[int]]] = {j: ([], []) for j in self.others}
        for slot, item in enumerate(items):
            if item.voucher == self.index:
                tags[item.receiver].append(
                    self.tag(item.receiver, operation, slot, self._kept[operation, slot])
                )
            if item.receiver == self.index:
                if passed is not None:
                    awaited[item.sender][0].append(slot)
                awaited[item.voucher][1].append(slot)
        for j in self.others:
            if contents[j] or tags[j]:
                self.party.send(self.computing[j], Vouched(tuple(contents[j]), tuple(tags[j])))
        peers = [self.computing[j] for j in self.others if any(awaited[j])]
        max_bytes = 0
        if passed is not None:
            max_bytes = max(sum(passed[slot].nbytes for slot in slots) for slots, _ in awaited.values())
        messages = await self.party.gather(Vouched, peers, max_bytes=max_bytes)
        received: list[Array | None] = [None] * len(items)
        vouched: dict[int, bytes] = {}
        for j, (by_content, by_tag) in awaited.items():
            if not by_content and not by_tag:
                continue
            peer = self.computing[j]
            message = messages[peer]
            if len(message.contents) != len(by_content) or len(message.tags) != len(by_tag):
                raise RemoteProtocolError(
                    f"expected {len(by_content)} arrays and {len(by_tag)} tags from {peer}, got "
                    f"{len(message.contents)} and {len(message.tags)}; do both run the same job and release?",
                    peer=peer,
                )
            if passed is not None:
                for slot, content in zip(by_content, message.contents, strict=True):
                    _, group, shape, _ = passed[slot]
                    received[slot] = checked(
                        content, shape, group.dtype, what="what another vouches for", peer=peer
                    )
            for slot, tag in zip(by_tag, message.tags, strict=True):
                vouched[slot] = checked_tag(tag, peer)
        for slot, tag in vouched.items():
            content_held: Content | None = (
                received[slot] if passed is not None else self._kept[operation, slot]
            )
            if content_held is None:
                raise UsageError(f"item {slot} of operation {operation} has a tag and no content")
            if not self.fits(items[slot].voucher, tag, operation, slot, content_held):
                self.keep(operation, slot, content_held)
                failed = operation, slot
                self._failed = failed if self._failed is None else min(self._failed, failed)
        return received

    def keep(self, operation: int, slot: int, content: Content) -> None:
        """Keep a content for evidence until the next check."""
        self._kept[operation, slot] = content

    def is_sound(self, operation: int) -> bool:
        """Return whether what this party holds may go into an operation: no check in one before it has failed."""
        return self._failed is None or operation <= self._failed[0]

    def tag(
        self, receiver: int, operation: int, slot: int, content: Content, *, sound: bool = False
    ) -> bytes:
        """Return the tag by which this party vouches for a content, or a random one after a failed check.

        Args:
          sound: the content was there before any check failed, so a check that failed meanwhile is not about it.
        """
        if not (sound or self.is_sound(operation)):
            return self.party.rng.bytes(TAG_BYTES)
        return self._keys.outgoing[receiver].tag(operation, slot, content)

    def fits(self, voucher: int, tag: bytes, operation: int, slot: int, content: Content) -> bool:
        """Return whether a tag says that the voucher holds this content too."""
        return self._keys.incoming[voucher].fits(tag, operation, slot, content)

    def state(self) -> tuple[State, frozenset[int]]:
        """Return what this party says in a check, and the operations that the check covers."""
        return State(self._begun, self._failed), frozenset(self._items.keys() - self._open)

    async def check(self) -> None:
        """End the run for all honest parties alike if any of them found a lie.

        Raises:
          CheatingError: somebody complained; names two parties of which one lied, or the one that did.
          RemoteProtocolError: the parties are out of step.
        """
        state, covered = self.state()
        heard = await tell(self.party, self.computing, state.encode())
        await self.conclude(await echo(self.party, self.computing, heard), covered)

    async def conclude(self, agreement: Agreement, covered: frozenset[int]) -> None:
        """Go on if nobody complained, else find out whom to name; errors are those of `check`."""
        states = []
        for j, value in enumerate(agreement.values):
            state = State.decode(value)
            if state is None:
                raise CheatingError.naming([self.computing[j]], "it did not say what it found")
            states.append(state)
        complaints = sorted((state.complaint, j) for j, state in enumerate(states) if state.complaint)
        if complaints:
            place, by = complaints[0]
            await self._blame(*place, by)
        if agreement.dissent:
            raise CheatingError.naming(
                [self.computing[j] for j in agreement.dissent], "they differ on what one told the other"
            )
        apart = [
            self.computing[j] for j in self.others if states[j].operations != states[self.index].operations
        ]
        if apart:
            raise RemoteProtocolError(
                f"{' and '.join(apart)} did not begin as many operations as {self.party.me}: they are out of step "
                "and nothing is opened; do all run the same job?",
                peer=apart[0] if len(apart) == 1 else "",
            )
        for operation in covered & self._items.keys():
            for slot in range(len(self._items.pop(operation))):
                self._kept.pop((operation, slot), None)
            self._pending -= self._nbytes.pop(operation)

    async def _blame(self, operation: int, slot: int, by: int) -> NoReturn:
        items = self._items.get(operation, ())
        if slot >= len(items) or items[slot].receiver != by:
            raise CheatingError.naming([self.computing[by]], "it complained about what it was not to check")
        item = items[slot]
        mine = NO_EVIDENCE
        if self.index in item.parties and (operation, slot) in self._kept:
            key = self.triple(item.fourth).evidence_key()
            mine = evidence(key, operation, slot, self._kept[operation, slot])
        agreement = await echo(self.party, self.computing, await tell(self.party, self.computing, mine))
        raise CheatingError.naming(
            judge(item, agreement.values, self.computing), "what one sent and another vouched for differs"
        )


def checked_tag(tag: bytes, peer: PartyId) -> bytes:
    """Return a tag from a peer if it has a tag's length."""
    if len(tag) != TAG_BYTES:
        raise RemoteProtocolError(
            f"expected a tag of {TAG_BYTES} bytes from {peer}, got {len(tag)}", peer=peer
        )
    return tag
