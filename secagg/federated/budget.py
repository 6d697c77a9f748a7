"""The privacy budget of a node: how many sums its data went into, in a file beside its identity key.

A framework's own state is no place for it. An old copy of it would give back what is spent, and another run begins with an
empty one. So there is one file for each kind of sum. It is made once, on purpose, by `new_budget`; where it is missing a
node takes part in nothing.

The file holds the settings and a line for each sum. It also holds the budgets that other nodes showed when this node was
last in a sum with them. Its last line is a MAC under a key that follows from the identity key. A file that was emptied,
cut, altered, or brought from another node is refused. So is one of a later format, whose number is read before the MAC is
checked, which may be another then. The file is replaced as a whole, under a lock, and is on the disk before
the node's vector leaves.

A whole older file has a right MAC. The other nodes know better: see `Spent`. The file says nothing about data.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives import constant_time
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from secagg.errors import RemoteProtocolError, UsageError
from secagg.federated.identities import load_identity
from secagg.federated.terms import EVALUATE, TRAIN
from secagg.files import check_format
from secagg.party import PartyId
from secagg.prg import derive_key
from secagg.signing import digest
from secagg.updates.privacy import Privacy

FORMAT: Final = 1
_LABEL: Final = "secagg.federated/budget"
_NUMBER: Final = re.compile(rb'\{\s*"format": (\d{1,9})\D')  # where it is left out, 1
_MAC_BYTES: Final = 65  # bytes of a MAC as text, with its line's end
_ID_BYTES, _COUNT_BYTES, _HEAD_BYTES = 16, 8, 32
_SUM_BYTES: Final = 8
SPENT_BYTES: Final = _ID_BYTES + _COUNT_BYTES + _HEAD_BYTES
MAX_SUMS: Final = 1 << 12  # of one budget: each sum of a node shows all before it
HISTORY_BYTES: Final = _ID_BYTES + _SUM_BYTES * MAX_SUMS


@dataclasses.dataclass(frozen=True, slots=True)
class Spent:
    """How much of its budget a node was seen to have spent.

    Args:
      id: 16 bytes, of which the first 8 are the time the budget was made; a later budget of a node has a larger id.
      count: sums spent.
      head: 32 bytes, a digest over id and sums.
    """

    id: bytes
    count: int
    head: bytes

    def to_bytes(self) -> bytes:
        """Return it in 56 bytes."""
        return self.id + self.count.to_bytes(_COUNT_BYTES, "big") + self.head

    @classmethod
    def from_bytes(cls, data: bytes, *, peer: str) -> Spent:
        """Return what `to_bytes` wrote.

        Raises:
          RemoteProtocolError: of another length.
        """
        if len(data) != SPENT_BYTES:
            raise RemoteProtocolError(
                f"expected a budget in {SPENT_BYTES} bytes from {peer}, got {len(data)}", peer=peer
            )
        count = int.from_bytes(data[_ID_BYTES : _ID_BYTES + _COUNT_BYTES], "big")
        return cls(data[:_ID_BYTES], count, data[_ID_BYTES + _COUNT_BYTES :])


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    """The sums that a budget was spent on, as a node shows them to the others in a sum.

    Whoever saw the budget before can tell whether this is a continuation of what it saw. Of two copies of one file that
    were both used neither continues the other, however often each was used.

    Args:
      id: as in `Spent`.
      sums: 8 bytes for each sum, of the node's nonce in it.
    """

    id: bytes
    sums: bytes = b""

    @property
    def count(self) -> int:
        """Sums spent."""
        return len(self.sums) // _SUM_BYTES

    def spent(self, count: int | None = None) -> Spent:
        """Return what was spent when there were so many sums; without a number, now."""
        count = self.count if count is None else count
        return Spent(self.id, count, digest(f"{_LABEL}/head", [self.id, self.sums[: count * _SUM_BYTES]]))

    def then(self, nonce: bytes) -> History:
        """Return the history when a sum of this nonce is spent as well."""
        return History(self.id, self.sums + nonce[:_SUM_BYTES])

    def is_older(self, known: Spent) -> bool:
        """Whether a node that was known to have spent this cannot show this now: it is older, or another copy."""
        if self.id != known.id:
            return self.id < known.id
        return self.count < known.count or self.spent(known.count) != known

    def to_bytes(self) -> bytes:
        """Return it in 16 bytes and 8 for each sum."""
        return self.id + self.sums

    @classmethod
    def from_bytes(cls, data: bytes, *, peer: str) -> History:
        """Return what `to_bytes` wrote.

        Raises:
          RemoteProtocolError: it is none, or of more sums than a budget can have.
        """
        if not _ID_BYTES <= len(data) <= HISTORY_BYTES or (len(data) - _ID_BYTES) % _SUM_BYTES:
            raise RemoteProtocolError(
                f"expected a budget of {_ID_BYTES} bytes and {_SUM_BYTES} for each of up to {MAX_SUMS} sums from {peer}, "
                f"got {len(data)} bytes",
                peer=peer,
            )
        return cls(data[:_ID_BYTES], data[_ID_BYTES:])


def new_budget(identity: str | Path, privacy: Privacy, kind: str = TRAIN) -> Path:
    """Make the file that counts the sums of a node's data, and return its path.

    Whoever answers for the data decides on it. What an earlier budget spent adds to what this one allows.

    Args:
      identity: path of the node's identity key, in a folder that can be written to.
      privacy: what all sums of the kind may tell; the same as in the node's `SecureMod`.
      kind: "train" or "evaluate".

    Raises:
      UsageError: there is one, the kind is another, it is for more than 4,096 sums, or the file cannot be written.
    """
    if privacy.rounds > MAX_SUMS:
        raise UsageError(f"expected a budget for at most {MAX_SUMS} sums, got one for {privacy.rounds}")
    if kind not in (TRAIN, EVALUATE):
        raise UsageError(f'expected "train" or "evaluate" as the kind of a budget, got {kind!r:.40}')
    budget = PrivacyBudget(Path(identity), kind, privacy)
    with budget.locked():
        if budget.file.exists():
            raise UsageError(
                f"there is a budget in {budget.file}; what it says is spent stays spent. Whoever answers for the data may "
                "remove it before another is made"
            )
        # Later budgets have larger ids; the rest makes two of one moment differ.
        made = time.time_ns() // 1_000_000
        budget.write(_Book(made.to_bytes(8, "big") + secrets.token_bytes(8), (), {}))
    return budget.file


class _Book(NamedTuple):
    """What the file holds beside kind and settings: the budget's id, (time, nonce) of each sum, what others showed."""

    id: bytes
    sums: tuple[tuple[str, bytes], ...]
    seen: Mapping[PartyId, Spent]

    @property
    def history(self) -> History:
        history = History(self.id)
        for _, nonce in self.sums:
            history = history.then(nonce)
        return history


class PrivacyBudget:
    """The budget of one kind of sum.

    Args:
      identity: path of the identity key, in a folder that can be written to.
      kind: "train" or "evaluate".
      privacy: what this node insists on.

    Raises:
      UsageError: the identity key cannot be read.

    Attributes:
      file: of the budget.
    """

    __slots__ = ("_identity", "_key", "_kind", "_privacy", "file")

    def __init__(self, identity: Path, kind: str, privacy: Privacy) -> None:
        self._identity, self._kind, self._privacy = identity, kind, privacy
        self.file = identity.parent / f".{identity.name}.spent-{kind}"
        secret = load_identity(identity).private_bytes_raw()
        self._key = derive_key(secret, label=_LABEL, context=kind.encode())

    def __repr__(self) -> str:
        return f"PrivacyBudget({str(self.file)!r}, key hidden)"

    def check(self, *, server: str) -> History:
        """Return what is spent.

        Raises:
          RemoteProtocolError: all that the budget is for, or it is for other settings.
          UsageError: the file is missing, or is not as this node wrote it.
        """
        return self._usable(server).history

    def spent(self) -> History:
        """Return what is spent, whether or not anything is left.

        Raises:
          UsageError: as `check`.
        """
        return self._read()[1].history

    def seen(self) -> Mapping[PartyId, Spent]:
        """Return what other nodes were last seen to have spent.

        Raises:
          UsageError: as `check`.
        """
        return self._read()[1].seen

    def spend(self, nonce: bytes, *, server: str, shown: History | None = None) -> None:
        """Spend one sum; to be called before its vector leaves.

        Args:
          nonce: of this node in the sum.
          server: who asks.
          shown: what the others in the sum were shown; None if nothing was.

        Raises:
          RemoteProtocolError: as `check`; or another sum was made since the budget was shown.
          UsageError: as `check`, or the file cannot be written.
        """
        with self.locked():
            book = self._usable(server)
            if shown is not None and book.history != shown:
                raise RemoteProtocolError(
                    f"{server} goes on with a sum ({self._kind}) that began before another of this node's data was made; "
                    "this one is over",
                    peer=server,
                )
            now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
            self.write(book._replace(sums=(*book.sums, (now, nonce))))

    def remember(self, others: Mapping[PartyId, History]) -> None:
        """Keep what other nodes have spent; nothing older replaces what is known.

        Raises:
          UsageError: as `check`, or the file cannot be written.
        """
        with self.locked():
            book = self._read()[1]
            seen = dict(book.seen)
            for name, shown in others.items():
                if name not in seen or not shown.is_older(seen[name]):
                    seen[name] = shown.spent()
            if seen != book.seen:
                self.write(book._replace(seen=seen))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes and threads from the file.

        Raises:
          UsageError: the folder cannot be written to.
        """
        path = self._identity.parent / f".{self._identity.name}.lock"
        try:
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                # Whoever removed the file let others lock another one.
                if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                    break
                os.close(descriptor)
        except OSError as error:
            raise self._cannot("write to", error) from None
        try:
            yield
        finally:
            os.close(descriptor)

    def write(self, book: _Book) -> None:
        """Replace the file; the new one, and its name, are on the disk then. To be called under the lock.

        Raises:
          UsageError: it cannot be written.
        """
        content = {
            "format": FORMAT,
            "kind": self._kind,
            "privacy": dataclasses.asdict(self._privacy),
            "id": book.id.hex(),
            "sums": [[when, nonce.hex()] for when, nonce in book.sums],
            "seen": {name: shown.to_bytes().hex() for name, shown in sorted(book.seen.items())},
        }
        data = json.dumps(content, indent=0).encode()
        fresh = self.file.with_name(f"{self.file.name}.new")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(self._sealed(data))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.file)
            folder = os.open(self.file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._cannot("write to", error) from None

    def _usable(self, server: str) -> _Book:
        privacy, book = self._read()
        if privacy != dataclasses.asdict(self._privacy):
            raise RemoteProtocolError(
                f"this node's budget ({self._kind}), of which {len(book.sums)} sums are spent, is for {privacy}, and "
                f"{server} asks for {self._privacy}; what is spent stays spent; go on with the old settings, or let the "
                f"data's owner remove {self.file.name} beside the identity key and make another with new_budget",
                peer=server,
            )
        if len(book.sums) >= self._privacy.rounds:
            raise RemoteProtocolError(
                f"{server} asks for another sum ({self._kind}), and {len(book.sums)} were made of this node's data, all "
                f"that its budget is for: {self._privacy}",
                peer=server,
            )
        return book

    def _read(self) -> tuple[Any, _Book]:
        try:
            written = self.file.read_bytes()
        except FileNotFoundError:
            make = f"new_budget({str(self._identity)!r}, {self._privacy!r}, {self._kind!r})"
            raise UsageError(
                f"there is no budget ({self._kind}) for this node's data: {self.file} is missing. If it was there, put it "
                "back: what was spent stays spent. If this node never had one, whoever answers for the data makes it: "
                f'python -c "from secagg.federated import *; {make}"'
            ) from None
        except OSError as error:
            raise self._cannot("read", error) from None
        if number := _NUMBER.match(written):
            check_format(int(number[1]), FORMAT, what=str(self.file))
        data = written[: -(_MAC_BYTES + 1)]
        if not constant_time.bytes_eq(written, self._sealed(data)):
            raise UsageError(
                f"{self.file}, the budget ({self._kind}) of this node's data, is not as this node wrote it: it was emptied, "
                "cut, altered, or comes from another node. Put back the newest copy; what was spent stays spent"
            )
        # What follows is as `write` wrote it.
        content = json.loads(data)
        sums = tuple((when, bytes.fromhex(nonce)) for when, nonce in content["sums"])
        seen = {
            name: Spent.from_bytes(bytes.fromhex(text), peer=name) for name, text in content["seen"].items()
        }
        return content["privacy"], _Book(bytes.fromhex(content["id"]), sums, seen)

    def _sealed(self, data: bytes) -> bytes:
        mac = HMAC(self._key, SHA256())
        mac.update(data)
        return data + b"\n" + mac.finalize().hex().encode() + b"\n"

    def _cannot(self, what: str, error: OSError) -> UsageError:
        return UsageError(
            f"cannot {what} {self.file}, which counts the sums made of this node's data: {error.strerror}"
        )
