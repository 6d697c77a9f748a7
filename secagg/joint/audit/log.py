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
_TAIL_BYTES: Final = 1 << 16


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
        last, size, torn_bytes = self._end(descriptor)
        if last is not None and last.content["party"] != identity.name:
            raise AuthenticationError(
                f"{self.path} is the audit log of {last.content['party']}, not of {identity.name}; each party "
                "needs a home folder of its own",
                peer=identity.name,
            )
        extra = {"cut_by_a_crash_bytes": torn_bytes} if torn_bytes else {}
        added: list[Entry] = []

        def add(what: str, content: Mapping[str, Any]) -> None:
            before = added[-1] if added else last
            common = {
                "entry": 0 if before is None else before.number + 1,
                "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
                "party": identity.name,
                "event": what,
                "previous": (NO_ENTRY if before is None else before.hash).hex(),
            }
            added.append(made({**content, **extra, **common}, identity))
            extra.clear()

        if last is None or last.certificate != identity.fingerprint:
            add(KEY, {"pem": certificate_pem(identity.certificate).decode()})
        elif event == KEY:
            return last
        if event != KEY:
            add(event, body)
        for entry in added:
            line = entry.line + b"\n"
            if len(line) > MAX_LINE_BYTES or size + len(line) > MAX_LOG_BYTES:
                raise UsageError(
                    f"{self.path} is full, or an entry too long: expected at most {MAX_LINE_BYTES} bytes an entry and "
                    f"{MAX_LOG_BYTES} in all"
                )
            # One after the other, so that a crash can cut the last one alone.
            self._write(descriptor, line, size)
            size += len(line)
        if last is None:
            self._sync_directory()
        return added[-1]

    def _write(self, descriptor: int, line: bytes, place: int) -> None:
        """Put a line in a place, from which on there is nothing that counts."""
        try:
            os.ftruncate(descriptor, place)
            written = 0
            while written < len(line):
                written += os.pwrite(descriptor, line[written:], place + written)
            os.fsync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, place)
            raise

    @contextlib.contextmanager
    def _opened(self, how: int) -> Iterator[int]:
        descriptor = os.open(self.path, how | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, _MODE)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UsageError(f"expected an audit log at {self.path}, and this is no file")
            yield descriptor
        finally:
            os.close(descriptor)

    def _end(self, descriptor: int) -> tuple[Entry | None, int, int]:
        """Return the last whole entry, where it ends, and how many bytes a crash left behind it.

        Only the end of the file is read: what comes before is checked by whoever reads it.
        """
        size = os.fstat(descriptor).st_size
        length = _TAIL_BYTES
        while True:
            start = max(0, size - length)
            before, torn = _cut(os.pread(descriptor, size - start, start))
            if start == 0 or len(before) > 1 or length > 2 * MAX_LINE_BYTES:
                break
            length *= 4
        if not before:
            if start:
                raise AuthenticationError(f"the end of {self.path} is no audit log: it was changed", peer="")
            return None, 0, len(torn)
        last = parsed(before[-1], where=f"{self.path}, its last entry,")
        return last, size - len(torn), len(torn)

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
    lines, torn = _cut(content)
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


def _cut(content: bytes) -> tuple[list[bytes], bytes]:
    """Return whole lines, and what a crash left of the last one.

    That has no end, or zeros where a block was not written. JSON in ASCII has neither zeros nor line ends.
    """
    *lines, torn = content.split(b"\n")
    if lines and b"\0" in lines[-1]:
        torn = lines.pop() + b"\n" + torn
    return lines, torn
