"""The file of an audit log: entries are appended, on the disk before `append` returns, and never changed.

One process at a time appends, by a lock on the file. An entry whose line has no end was cut by a crash. Nobody was told of
it, so the next append takes it away, and says so in the entry that it writes.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from secagg.errors import AuthenticationError, UsageError
from secagg.joint.audit.entry import KEY, MAX_LINE_BYTES, NO_ENTRY, Entry, made, parsed
from secagg.network.identity import Identity, certificate_pem

_MODE: Final = 0o600
MAX_LOG_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries of a log, each bound to the one before it; signatures are not checked.

    Attributes:
      torn: bytes behind the last whole line.
    """

    path: str
    entries: tuple[Entry, ...]
    torn: bytes = b""

    @property
    def head(self) -> bytes:
        """Return the hash of the last entry."""
        return self.entries[-1].hash if self.entries else NO_ENTRY


class AuditLog:
    """The audit log of one party."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"AuditLog({str(self.path)!r})"

    def read(self) -> Entries:
        """Return what the log holds; nothing where there is no file.

        Raises:
          UsageError: the file cannot be read.
          AuthenticationError: an entry is none, or not bound to the one before it.
        """
        try:
            with self._opened(os.O_RDONLY) as descriptor:
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                return self._read(descriptor)
        except FileNotFoundError:
            return Entries(str(self.path), ())
        except OSError as error:
            raise UsageError(f"cannot read the audit log {self.path}: {error.strerror}") from None

    def append(self, event: str, body: Mapping[str, Any], identity: Identity) -> Entry:
        """Append an entry signed with a party's key, and return it once it is on the disk.

        An entry that says which certificate signs comes before it where the log is new, and where the key is.

        Raises:
          UsageError: the file cannot be read or written; it is as it was.
          AuthenticationError: what is there is no audit log, or that of another party.
        """
        try:
            with self._opened(os.O_RDWR | os.O_CREAT) as descriptor:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                return self._append(descriptor, event, body, identity)
        except OSError as error:
            raise UsageError(
                f"cannot write the audit log {self.path}: {error.strerror}; nothing is done that is not in it"
            ) from None

    def _append(self, descriptor: int, event: str, body: Mapping[str, Any], identity: Identity) -> Entry:
        found = self._read(descriptor)
        known = found.entries
        if known and known[0].content["party"] != identity.name:
            raise AuthenticationError(
                f"{self.path} is the audit log of {known[0].content['party']}, not of {identity.name}; each party "
                "needs a home folder of its own",
                peer=identity.name,
            )
        size = sum(len(entry.line) + 1 for entry in known)
        extra = {"cut_by_a_crash_bytes": len(found.torn)} if found.torn else {}
        added: list[Entry] = []

        def add(what: str, content: Mapping[str, Any]) -> None:
            number = len(known) + len(added)
            previous = added[-1].hash if added else found.head
            common = {
                "entry": number,
                "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
                "party": identity.name,
                "event": what,
                "previous": previous.hex(),
            }
            added.append(made({**content, **extra, **common}, identity))
            extra.clear()

        if not known or known[-1].certificate != identity.fingerprint:
            add(KEY, {"pem": certificate_pem(identity.certificate).decode()})
        if event != KEY:
            add(event, body)
        if not added:
            return known[-1]
        lines = b"".join(entry.line + b"\n" for entry in added)
        if max(len(entry.line) for entry in added) > MAX_LINE_BYTES or size + len(lines) > MAX_LOG_BYTES:
            raise UsageError(
                f"{self.path} is full, or an entry too long: expected at most {MAX_LINE_BYTES} bytes an entry and "
                f"{MAX_LOG_BYTES} in all"
            )
        try:
            os.ftruncate(descriptor, size)
            written = 0
            while written < len(lines):
                written += os.pwrite(descriptor, lines[written:], size + written)
            os.fsync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
        if not known:
            self._sync_directory()
        return added[-1]

    @contextlib.contextmanager
    def _opened(self, how: int) -> Iterator[int]:
        descriptor = os.open(self.path, how | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, _MODE)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UsageError(f"expected an audit log at {self.path}, and this is no file")
            yield descriptor
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int) -> Entries:
        size = os.fstat(descriptor).st_size
        if size > MAX_LOG_BYTES:
            raise UsageError(f"expected an audit log of at most {MAX_LOG_BYTES} bytes in {self.path}")
        with os.fdopen(os.dup(descriptor), "rb") as file:
            file.seek(0)
            return read_entries(file.read(size), path=str(self.path))

    def _sync_directory(self) -> None:
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def read_entries(content: bytes, *, path: str) -> Entries:
    """Return the entries of a log's content, each bound to the one before it.

    Raises:
      AuthenticationError: an entry is none, or does not follow the one before it.
    """
    *lines, torn = content.split(b"\n")
    entries: list[Entry] = []
    for number, line in enumerate(lines):
        where = f"{path}, entry {number},"
        if len(line) > MAX_LINE_BYTES:
            raise AuthenticationError(f"{where} is longer than an entry of an audit log can be", peer="")
        entry = parsed(line, where=where)
        previous = entries[-1].hash if entries else NO_ENTRY
        first = entries[0].content["party"] if entries else entry.content["party"]
        if (
            entry.number != number
            or entry.content["previous"] != previous.hex()
            or entry.content["party"] != first
        ):
            raise AuthenticationError(
                f"{where} does not follow the one before it: entries were changed, left out, put in or moved here",
                peer=str(first),
            )
        entries.append(entry)
    return Entries(path, tuple(entries), torn)
