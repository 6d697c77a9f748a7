"""A server of masked sums whose memory does not hold what it relays, and whose work is divided among workers.

Its clients are those of any masked sum: they run the same program, and are sent the same messages. Each of its parts does
for some clients, or for some coordinates, what `server` does for all:

  arcs     the circle of clients is cut into arcs. A worker verifies an arc's keys, hands on the shares sealed for its
           clients, recovers its secrets, and adds up their masks (`arcs`)
  slices   where vectors are long, a worker adds up an arc's masks over one slice of the coordinates

Sealed shares and answers, which grow with clients times neighbours, go to files as they come. The server itself keeps about
1 kB for each client, and one vector. Vectors are added as they come, each as a whole. So one set of clients is in
the sum, at all coordinates and in all arcs.

Who learns what: the server, which all workers are parts of, what a server of masked sums learns. The files hold what clients
sent it.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RemoteProtocolError, UsageError
from secagg.party import PartyId, check_array
from secagg.protocols.masked_sum import arcs
from secagg.protocols.masked_sum.arcs import (
    ANSWERED,
    INCLUDED,
    KEYED,
    SHARED,
    Around,
    Check,
    Expand,
    Masks,
    Refused,
    Relay,
    Relayed,
    Task,
    Unmask,
)
from secagg.protocols.masked_sum.messages import (
    SEALED_BYTES,
    Included,
    Keys,
    PeerKeys,
    PeerShares,
    Shares,
    Unmasking,
)
from secagg.protocols.masked_sum.rounds import MaskedSum, Rounds, Stage
from secagg.protocols.masked_sum.shamir import SHARE_BYTES
from secagg.protocols.masked_sum.spool import Records, Spool
from secagg.protocols.masked_sum.terms import KEY_BYTES, SumInSession, pack_set
from secagg.ring import RingArray
from secagg.signing import DIGEST_BYTES, SIGNATURE_BYTES

# Does tasks, any number at a time, and yields their answers in order.
Do: TypeAlias = Callable[[Iterable[Task]], Iterator[arcs.Answer]]

A = TypeVar("A", Refused, Relayed, Masks)

_ALIGNED: Final = 16  # elements: a slice begins at a whole block of each mask's keystream, whatever the ring
_MAX_ARC: Final = 1 << 14  # names in a task
_log = logging.getLogger(__name__)


def one_by_one(tasks: Iterable[Task]) -> Iterator[arcs.Answer]:
    """Do tasks in this process."""
    return map(arcs.do, tasks)


@dataclass(frozen=True, slots=True)
class Division:
    """How a server's work is divided.

    Args:
      folder: where it keeps what it relays. All workers reach it.
      clients: in an arc; a worker's memory grows with it.
      slices: of the coordinates.
      do: does tasks; by default one after the other in this process.

    Raises:
      UsageError: a number out of range.
    """

    folder: Path
    clients: int = 2048
    slices: int = 1
    do: Do = one_by_one

    def __post_init__(self) -> None:
        if not (1 <= self.clients <= _MAX_ARC and self.slices >= 1):
            raise UsageError(
                f"expected 1 to {_MAX_ARC} clients in an arc and at least one slice, got {self.clients} and {self.slices}"
            )


class _Who(Collection[int]):
    """The clients whose fate has a bit."""

    __slots__ = ("_bit", "_fate")

    def __init__(self, fate: NDArray[np.uint8], bit: int) -> None:
        self._fate, self._bit = fate, bit

    def __contains__(self, client: object) -> bool:
        return isinstance(client, int) and bool(self._fate[client] & self._bit)

    def __iter__(self) -> Iterator[int]:
        return iter(np.flatnonzero(self._fate & self._bit).tolist())

    def __len__(self) -> int:
        return int(np.count_nonzero(self._fate & self._bit))


class ShardedServer(Rounds):
    """The server in one round; a context manager, which deletes its files in the end.

    Args:
      where: the round.
      division: how its work is divided.

    Raises:
      UsageError: the folder cannot be written to, or has this round already.
    """

    __slots__ = (
        "_answers",
        "_begins",
        "_commitments",
        "_division",
        "_fate",
        "_folder",
        "_keys",
        "_known",
        "_order",
        "_sealed",
        "_signatures",
    )

    def __init__(self, where: SumInSession, division: Division) -> None:
        super().__init__(where)
        n = len(where.terms.roles.clients)
        self._division, self._order = division, where.graph.order
        self._fate = np.zeros(n, np.uint8)
        self._known: set[bytes] = set()
        self._keys = np.zeros((n, 2 * KEY_BYTES), np.uint8)
        self._signatures = np.zeros((n, SIGNATURE_BYTES), np.uint8)
        self._commitments = np.zeros((n, DIGEST_BYTES), np.uint8)
        self._begins = np.full(n, -1, np.int64)  # of the sealed shares, later of the answers
        self._folder = division.folder / where.context.hex()[:32]
        try:
            self._folder.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise UsageError(f"cannot make {self._folder}, for a sum in shards: {error.strerror}") from None
        self._sealed = Spool(self._folder / "sealed")
        self._answers = Spool(self._folder / "answers")

    def __enter__(self) -> ShardedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete what is on disk."""
        for spool in (self._sealed, self._answers):
            with contextlib.suppress(UsageError):  # no room for what is deleted now
                spool.close()
        try:
            shutil.rmtree(self._folder)
        except FileNotFoundError:
            pass  # closed before
        except OSError as error:
            _log.warning("cannot delete %s, which holds what clients sent: %s", self._folder, error.strerror)

    @property
    def keyed(self) -> tuple[PartyId, ...]:
        """Who sent keys."""
        return self._where.names(frozenset(self._who(KEYED)))

    @property
    def shared(self) -> tuple[PartyId, ...]:
        """Who sent shares."""
        return self._where.names(frozenset(self._who(SHARED)))

    def take_keys(self, client: PartyId, message: Keys) -> None:
        """Take a client's public keys; a worker verifies them when keys are closed.

        Raises:
          RemoteProtocolError: late, twice, of another shape, or another client's.
        """
        i = self._take(client, Stage.KEYS, self._who(KEYED))
        check_array(message.keys, (2, KEY_BYTES), what="two public keys", peer=client)
        check_array(message.signature, (SIGNATURE_BYTES,), what="a signature", peer=client)
        both = {message.keys[0].tobytes(), message.keys[1].tobytes()}
        if not self._known.isdisjoint(both):
            raise RemoteProtocolError(f"expected fresh keys from {client}, got one twice", peer=client)
        self._known.update(both)
        self._keys[i], self._signatures[i] = message.keys.reshape(-1), message.signature
        self._fate[i] |= KEYED

    def close_keys(self) -> Iterator[tuple[PartyId, PeerKeys]]:
        """Return each client that sent keys, with those of its neighbours; each message is made when it is asked for.

        Raises:
          TooFewPartiesError: fewer clients than needed sent keys.
          and what workers raise.
        """
        self._known = set()
        if self._stage is Stage.KEYS:
            for found in self._do(map(self._check, self._arcs()), Refused):
                for client, why in zip(found.clients, found.why, strict=True):
                    self._fate[client] = 0
                    name = self._where.name_of(client)
                    self.refused[name] = RemoteProtocolError(why, peer=name)
        self._close(Stage.KEYS, Stage.SHARES, frozenset(self._who(KEYED)), Keys.__name__)
        return self._peer_keys()

    def take_shares(self, client: PartyId, message: Shares) -> None:
        """Take a client's commitment and the shares it sealed for its neighbours.

        Raises:
          RemoteProtocolError: late, twice, of another shape, or from a client that sent no keys.
          UsageError: there is no room on the disk.
        """
        i = self._take(client, Stage.SHARES, self._who(SHARED), among=self._who(KEYED))
        shape = (len(self._near(i, self._who(KEYED))), SEALED_BYTES)
        check_array(message.commitment, (DIGEST_BYTES,), what="a commitment", peer=client)
        check_array(message.sealed, shape, what="sealed shares", peer=client)
        self._commitments[i] = message.commitment
        self._begins[i] = self._sealed.append(message.sealed.tobytes())
        self._fate[i] |= SHARED

    def close_shares(self) -> Iterator[tuple[PartyId, PeerShares]]:
        """Return each client that sent shares, with those sealed for it; workers sort an arc's when they are asked for.

        Raises:
          TooFewPartiesError: fewer clients than needed sent shares.
          UsageError: there is no room on the disk.
        """
        self._shared = frozenset(self._who(SHARED))
        self._close(Stage.SHARES, Stage.INPUTS, self._shared, Shares.__name__)
        self._sealed.close()
        return self._peer_shares(self._begins)

    def close_inputs(self) -> Included:
        """As that of every server."""
        request = super().close_inputs()
        self._begins = np.full(len(self._fate), -1, np.int64)
        self._fate[list(self._included)] |= INCLUDED
        return request

    def take_answer(self, client: PartyId, message: Unmasking) -> None:
        """Take a client's shares of others' secrets.

        Raises:
          RemoteProtocolError: late, twice, of another shape, or from a client that is not in the sum.
          UsageError: there is no room on the disk.
        """
        i = self._take(client, Stage.ANSWERS, self._who(ANSWERED), among=self._included)
        check_array(message.shares, (len(self._held(i)), SHARE_BYTES), what="shares", peer=client)
        self._begins[i] = self._answers.append(message.shares.tobytes())
        self._fate[i] |= ANSWERED

    def finish(self, *, executor: Executor | None = None) -> MaskedSum:  # noqa: ARG002  # as of `Server`
        """Return the sum: workers recover secrets and add up masks, which are taken off here.

        Raises:
          UsageError: called before the answers are in, or twice.
          and what workers raise, as `Server.finish` does.
        """
        total, suspects, length = self._take_total(), set[int](), self._where.terms.length
        self._answers.close()
        slices = self._slices()
        for found in self._do(map(self._unmask, self._arcs()), Masks):
            suspects.update(found.suspects)
            if len(slices) == 1:
                total += _vector(found, length, total)  # wraps, which is meant
                continue
            for part, added in zip(slices, self._do(self._expand(found, slices), Masks), strict=True):
                total[part] += _vector(added, part.stop - part.start, total)
        self.close()
        return self._unmasked(total, suspects)

    def _do(self, tasks: Iterable[Task], kind: type[A]) -> Iterator[A]:
        for answer in self._division.do(tasks):
            if not isinstance(answer, kind):
                raise UsageError(
                    f"expected {kind.__name__} from a worker of a sum, got {type(answer).__name__}"
                )
            yield answer

    def _who(self, bit: int) -> _Who:
        return _Who(self._fate, bit)

    def _arcs(self) -> Iterator[NDArray[np.int64]]:
        """Yield the clients of each arc, by number, in the order of the circle."""
        step = self._division.clients
        for start in range(0, len(self._order), step):
            yield self._order[start : start + step]

    def _slices(self) -> list[slice]:
        """Return the slices of the coordinates; fewer where vectors are short."""
        length = self._where.terms.length
        step = -(-length // self._division.slices)
        step = -(-step // _ALIGNED) * _ALIGNED
        return [slice(start, min(start + step, length)) for start in range(0, length, step)]

    def _around(self, own: NDArray[np.int64]) -> Around:
        where, others = self._where, set[int]()
        for client in own.tolist():
            others.update(where.graph.neighbours(client))
        clients = np.array([*own.tolist(), *sorted(others.difference(own.tolist()))], np.int64)
        near = where.graph.rows(clients)
        names = [where.name_of(client) for client in clients.tolist()]
        fate, fates = self._fate[clients], self._fate[near]
        return Around(
            where.context, len(own), clients.astype(np.uint32), names, near.astype(np.uint32), fate, fates
        )

    def _check(self, own: NDArray[np.int64]) -> Check:
        identities = b"".join(self._where.identity_of(client) for client in own.tolist())
        public = np.frombuffer(identities, np.uint8).reshape(-1, KEY_BYTES)
        return Check(self._around(own), public, self._keys[own], self._signatures[own])

    def _peer_keys(self) -> Iterator[tuple[PartyId, PeerKeys]]:
        n, keyed = len(self._fate), self._who(KEYED)
        for client in keyed:
            near = self._near(client, keyed)
            present = pack_set(frozenset(near), n)
            yield (
                self._where.name_of(client),
                PeerKeys(present, self._keys[near].reshape(-1, 2, KEY_BYTES), self._signatures[near]),
            )

    def _peer_shares(self, begins: NDArray[np.int64]) -> Iterator[tuple[PartyId, PeerShares]]:
        shared = pack_set(self._shared, len(self._fate))

        def tasks() -> Iterator[Relay]:
            for number, own in enumerate(self._arcs()):
                around = self._around(own)
                out = str(self._folder / f"relayed-{number}")
                yield Relay(around, str(self._sealed.path), begins[around.clients], out)

        for number, (own, found) in enumerate(zip(self._arcs(), self._do(tasks(), Relayed), strict=True)):
            path = self._folder / f"relayed-{number}"
            with Records(path) as records:
                for client, begin in zip(own.tolist(), found.begins.tolist(), strict=True):
                    if client in self._shared:
                        rows = len(self._near(client, self._shared))
                        sealed = np.frombuffer(records.read(begin, rows * SEALED_BYTES), np.uint8)
                        yield (
                            self._where.name_of(client),
                            PeerShares(shared, sealed.reshape(rows, SEALED_BYTES)),
                        )
            path.unlink()

    def _unmask(self, own: NDArray[np.int64]) -> Unmask:
        terms, around = self._where.terms, self._around(own)
        return Unmask(
            around,
            terms.parameters.threshold,
            terms.parameters.n_corrupt,
            self._keys[around.clients, KEY_BYTES:],
            self._commitments[own],
            str(self._answers.path),
            self._begins[around.clients],
            terms.ring.bits,
            terms.length if len(self._slices()) == 1 else 0,
        )

    def _expand(self, found: Masks, slices: Iterable[slice]) -> Iterator[Expand]:
        for part in slices:
            yield Expand(found.seeds, self._where.terms.ring.bits, part.start, part.stop - part.start)


def _vector(found: Masks, length: int, total: RingArray) -> RingArray:
    if found.total.shape != (length,) or found.total.dtype != total.dtype:
        raise UsageError(
            f"expected masks of {length} elements from a worker of a sum, got {found.total.shape}"
        )
    return found.total
