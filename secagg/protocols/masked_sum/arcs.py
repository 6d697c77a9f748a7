"""What a worker of the server does for one *arc*: some clients that stand together in the graph's circle.

What a client sends concerns its neighbours alone. So a worker that has the messages of an arc's clients and of their
neighbours does for the arc what the whole server would do. In a circle the neighbours outside the arc are the k/2 on
either side, whatever the number of clients is.

  check    verify the arc's public keys
  relay    write, for each client of the arc, the shares that were sealed for it, in the order of its message
  unmask   recover the arc's secrets from shares; add up the masks that they stand for, or return the seeds
  expand   add up the masks of seeds over a slice of the coordinates

A step is a function of its task and of files that do not change. Done again, it does the same.

Threat model and what is learnt: those of the sum. Workers are parts of the server.

Cost, a clients in the arc, k neighbours each: memory O((a + k) k) bytes and one slice of a vector; `check` takes a
signature and two agreements for each client.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, RemoteProtocolError
from secagg.party import PartyId
from secagg.prg import KEY_BYTES, system_stream
from secagg.protocols.masked_sum import keys
from secagg.protocols.masked_sum.masks import Mask, add_masks
from secagg.protocols.masked_sum.messages import SEALED_BYTES
from secagg.protocols.masked_sum.recovery import Recovery
from secagg.protocols.masked_sum.shamir import SHARE_BYTES, read_share
from secagg.protocols.masked_sum.spool import Records, Spool
from secagg.protocols.masked_sum.unmasking import Owner, masks_on
from secagg.ring import Ring, RingArray
from secagg.wire import Message

KEYED: Final = 1  # bits of a client's fate: it sent keys, shares, a vector, an answer
SHARED: Final = 2
INCLUDED: Final = 4
ANSWERED: Final = 8

SEED_BYTES: Final = KEY_BYTES + 1  # of a mask in an answer: the seed, and 1 where it is to be subtracted


class Around(Message, frozen=True):
    """The clients that a task is about, and what is known of them.

    clients: numbers, of the arc's `own` ones first, then of their other neighbours. names: in that order.
    neighbours: of each, ascending, shape (clients, degree). fate: bits, shape (clients,). fates: of the neighbours.
    """

    context: bytes
    own: int
    clients: NDArray[np.uint32]
    names: list[str]
    neighbours: NDArray[np.uint32]
    fate: NDArray[np.uint8]
    fates: NDArray[np.uint8]


class Check(Message, frozen=True):
    """A task: verify public keys. identities: of the arc's clients, uint8, shape (own, 32). keys, signatures: (own, 64)."""

    around: Around
    identities: NDArray[np.uint8]
    keys: NDArray[np.uint8]
    signatures: NDArray[np.uint8]


class Refused(Message, frozen=True):
    """An answer: whose keys are refused, and why."""

    clients: list[int]
    why: list[str]


class Relay(Message, frozen=True):
    """A task: write what was sealed for each of the arc's clients, to `out`; `sealed` begins at `begins` for each client."""

    around: Around
    sealed: str
    begins: NDArray[np.int64]
    out: str


class Relayed(Message, frozen=True):
    """An answer: where each client's shares begin in `out`, int64, shape (own,); -1 for who sent none itself."""

    begins: NDArray[np.int64]


class Unmask(Message, frozen=True):
    """A task: recover secrets. keys: masking keys, uint8, shape (clients, 32). commitments: uint8, shape (own, 32).

    answers: a file, in which each holder's begins at `begins`. length: of the vectors, of `bits` each; 0 asks for seeds.
    """

    around: Around
    threshold: int
    n_corrupt: int
    keys: NDArray[np.uint8]
    commitments: NDArray[np.uint8]
    answers: str
    begins: NDArray[np.int64]
    bits: int
    length: int


class Masks(Message, frozen=True):
    """An answer: all masks added up, or the seeds of each, uint8, shape (masks, 33); who told or was dealt wrong shares."""

    total: NDArray[np.unsignedinteger]
    seeds: NDArray[np.uint8]
    suspects: list[int]


class Expand(Message, frozen=True):
    """A task: add up the masks of seeds, over the elements from `start` on."""

    seeds: NDArray[np.uint8]
    bits: int
    start: int
    length: int


_NO_SEEDS: Final = np.zeros((0, SEED_BYTES), np.uint8)

Task = Check | Relay | Unmask | Expand
Answer = Refused | Relayed | Masks


class Arc:
    """The clients of a task, as keys and signatures need to know them."""

    __slots__ = ("_identities", "_names", "_places", "around", "context")

    def __init__(self, around: Around, identities: NDArray[np.uint8] | None = None) -> None:
        self.around, self.context = around, around.context
        self._places = {number: place for place, number in enumerate(around.clients.tolist())}
        self._names = around.names
        self._identities = identities

    def name_of(self, client: int) -> PartyId:
        """Return a client's name."""
        return self._names[self._places[client]]

    def identity_of(self, client: int) -> bytes:
        """Return an identity key that came with the task."""
        if self._identities is None:
            raise KeyError(client)
        identity: bytes = self._identities[self._places[client]].tobytes()
        return identity

    def place_of(self, client: int) -> int:
        """Return a client's place in the task."""
        return self._places[client]

    def own(self, bits: int) -> Iterator[tuple[int, int]]:
        """Yield place and number of each client of the arc with a fate."""
        around = self.around
        for place in range(around.own):
            if around.fate[place] & bits:
                yield place, int(around.clients[place])

    def near(self, place: int, bits: int) -> list[int]:
        """Return a client's neighbours with a fate, in ascending order."""
        return near(self.around.neighbours[place], self.around.fates[place], bits)

    def held(self, place: int) -> list[int]:
        """Return whose shares a client in the sum holds, in the order of its answer."""
        return sorted([*self.near(place, SHARED), int(self.around.clients[place])])


def near(neighbours: NDArray[np.uint32], fates: NDArray[np.uint8], bits: int) -> list[int]:
    """Return the neighbours whose fate has some bits."""
    found: list[int] = neighbours[(fates & bits) != 0].tolist()
    return found


def do(task: Task) -> Answer:
    """Do a task.

    Raises:
      UsageError: a file cannot be read or written.
      and as `Recovery.secret`.
    """
    match task:
        case Check():
            return _check(task)
        case Relay():
            return _relay(task)
        case Unmask():
            return _unmask(task)
        case Expand():
            seeds = (Mask(row[:KEY_BYTES].tobytes(), minus=bool(row[KEY_BYTES])) for row in task.seeds)
            total: RingArray = np.zeros(task.length, Ring(task.bits).dtype)
            add_masks(total, seeds, start=task.start)
            return Masks(total, _NO_SEEDS, [])


def _check(task: Check) -> Refused:
    arc, probe = Arc(task.around, task.identities), keys.secret_key(system_stream().bytes(KEY_BYTES))
    refused, why = [], []
    for place, client in arc.own(KEYED):
        pair, signature = task.keys[place].tobytes(), task.signatures[place].tobytes()
        try:
            keys.check_fresh(arc, client, pair, signature, probe)
        except RemoteProtocolError as error:
            refused.append(client)
            why.append(str(error))
    return Refused(refused, why)


def _relay(task: Relay) -> Relayed:
    arc = Arc(task.around)
    letters: dict[int, list[bytes]] = {client: [] for _, client in arc.own(SHARED)}
    # Senders in ascending order, as a receiver reads them.
    with Records(Path(task.sealed)) as records:
        for place in np.argsort(task.around.clients).tolist():
            if not task.around.fate[place] & SHARED:
                continue
            receivers = arc.near(place, KEYED)
            sealed = records.read(int(task.begins[place]), len(receivers) * SEALED_BYTES)
            for row, receiver in enumerate(receivers):
                if receiver in letters:
                    letters[receiver].append(sealed[row * SEALED_BYTES : (row + 1) * SEALED_BYTES])
    begins = np.full(task.around.own, -1, np.int64)
    # A step that is done again begins a file of its own, and has it in its place once it is whole.
    out = Spool(Path(f"{task.out}.{system_stream().bytes(8).hex()}"))
    for place, client in arc.own(SHARED):
        begins[place] = out.append(b"".join(letters.pop(client)))
    out.close()
    out.path.replace(task.out)
    return Relayed(begins)


def _unmask(task: Unmask) -> Masks:
    arc = Arc(task.around)
    recovery = Recovery(task.threshold, task.n_corrupt, arc.name_of)
    masks = masks_on(arc, _owners(arc, task), recovery)
    total: RingArray = np.zeros(task.length, Ring(task.bits).dtype)
    if task.length:
        add_masks(total, masks)
        seeds = _NO_SEEDS
    else:
        told = b"".join(mask.seed + bytes([mask.minus]) for mask in masks)
        seeds = np.frombuffer(told, np.uint8).reshape(-1, SEED_BYTES)
    return Masks(total, seeds, sorted(recovery.suspects))


def _owners(arc: Arc, task: Unmask) -> Iterator[Owner]:
    """Yield what was told of each of the arc's clients; those who stand together follow one another, as their holders do."""
    held, rows = {}, {}
    with Records(Path(task.answers)) as records:
        for place, holder in enumerate(task.around.clients.tolist()):
            if task.around.fate[place] & ANSWERED:
                held[holder] = arc.held(place)
                rows[holder] = records.read(int(task.begins[place]), len(held[holder]) * SHARE_BYTES)
    for place, owner in arc.own(SHARED):
        included = bool(task.around.fate[place] & INCLUDED)
        holders = arc.near(place, INCLUDED)
        if included:
            holders = sorted([*holders, owner])
        shares, unreadable = {}, 0
        for holder in holders:
            if holder not in held:
                continue
            row = bisect_left(held[holder], owner)
            try:
                shares[holder] = read_share(rows[holder][row * SHARE_BYTES : (row + 1) * SHARE_BYTES])
            except RangeError:
                unreadable += 1
        published = task.commitments[place] if included else task.keys[place]
        peers = [] if included else arc.near(place, INCLUDED)
        yield Owner(
            owner,
            included,
            published.tobytes(),
            shares,
            [holder for holder in holders if holder not in held],
            unreadable,
            [(peer, task.keys[arc.place_of(peer)].tobytes()) for peer in peers],
        )
