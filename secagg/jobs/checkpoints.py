"""Checkpoints on disk: encrypted, written whole or not at all, and bound to their run, party and place.

A run of a job is known by its first session. Its folder holds what the party put in (`begin`), a file for each
checkpoint, and notes of what was opened and how often the run went on.

*Format.* A line that says what it is; the header's length in 4 bytes; the header, which is MessagePack; a salt of 32 bytes;
then segments of at most 64 MiB under AES-256-GCM [SP 800-38D]. The key comes from the folder's key and the salt by HKDF, so
each file has its own. The nonce is the segment's number, and a byte that is 1 for the last segment. The header is associated
data of every segment. So a file that was cut, put together anew, renamed, or copied from another run, party or job is not
taken.

*Deleting.* Files are unlinked. What a disk keeps of them is encrypted; who reads the folder's key and the disk reads them.

Threat model. Who reads the disk without the key learns sizes, job digest, session and step. Who can write the folder can
remove files, which costs progress, and bring back old files of the same run; `resuming` says why that opens nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secagg.errors import UsageError
from secagg.files import check_format, read_file, write_file
from secagg.jobs.plain import decode, encode
from secagg.party import Content, PartyId, Place
from secagg.prg import KEY_BYTES, derive_key

_log = logging.getLogger(__name__)

FORMAT: Final = 1
_MAGIC: Final = b"secagg checkpoint %d\n"  # of one digit
_LABEL: Final = "secagg.jobs.checkpoints"
_SALT_BYTES: Final = 32
_SEGMENT_BYTES: Final = 1 << 26
_TAG_BYTES: Final = 16
_MAX_HEADER_BYTES: Final = 1 << 12
_KEY_FILE: Final = "checkpoints.key"
_SUFFIX: Final = ".checkpoint"
_BEGUN: Final = "begun"
_OPENED: Final = "opened"
_RESUMED: Final = "resumed"
_RESULT: Final = "result"
_DONE: Final = "done"
# How many of the latest checkpoints stay. Parties are at most two apart: to finish a checkpoint, each needs the others'
# messages.
_STAY: Final = 4
_KEPT_S: Final = 30 * 86400.0


class UnwritableError(UsageError):
    """A checkpoint cannot be written, such as for a full disk; the run can go on from the one before."""

    def for_peers(self) -> str:
        """Return the kind of the error; its text names folders."""
        return "it cannot write what it must to its disk; the run goes on when all start again"


@dataclass(frozen=True, slots=True)
class Line:
    """What a party holds of one run that did not end.

    Attributes:
      first: the first session of the run.
      places: its checkpoints that can be read, by step.
      opened: the step of the latest checkpoint of which something was opened, 0 for none.
      resumed: how often the run went on.
    """

    first: bytes
    places: tuple[Place, ...]
    opened: int
    resumed: int


def folder_key(keys: Path) -> bytes:
    """Return the key of a folder's checkpoints; it is made where there is none.

    Raises:
      UsageError: the file cannot be read or written, others can read it, or it is no key.
    """
    path = keys / _KEY_FILE
    if not path.exists():
        try:
            with contextlib.suppress(FileExistsError):  # another process was first
                write_file(path, secrets.token_bytes(KEY_BYTES), mode=0o600)
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from None
    key = read_file(path, what="the key of checkpoints", max_bytes=KEY_BYTES, private=True)
    if len(key) != KEY_BYTES:
        raise UsageError(
            f"expected a key of {KEY_BYTES} bytes in {path}, got {len(key)}; remove it, and runs that were interrupted "
            "begin anew"
        )
    return key


def delete_old(root: Path) -> None:
    """Delete the checkpoints of jobs whose runs nobody went on with for 30 days."""
    with contextlib.suppress(FileNotFoundError):
        for folder in root.iterdir():
            times = [path.stat().st_mtime for path in (folder, *folder.rglob("*"))]
            if max(times) < time.time() - _KEPT_S:
                shutil.rmtree(folder)


class CheckpointFolder:
    """A party's checkpoints of one job.

    Args:
      root: the folder of all jobs' checkpoints.
      key: 32 bytes, of `folder_key`.
      job: its digest.
      me: the party.
    """

    def __init__(self, root: Path, key: bytes, *, job: bytes, me: PartyId) -> None:
        self._key = key
        self._job = job
        self._me = me
        self._path = root / job.hex()

    def __repr__(self) -> str:
        return f"<CheckpointFolder {self._path}>"

    def lines(self) -> list[Line]:
        """Return the runs that did not end; files that are damaged or not of this run and party are passed over."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for folder in sorted(self._path.iterdir()):
                with contextlib.suppress(ValueError):
                    first = bytes.fromhex(folder.name)
                    if self._header_if_whole(first, _BEGUN) is not None:
                        found.append(self._line(first))
        return found

    def _line(self, first: bytes) -> Line:
        places = []
        for path in sorted(self._run(first).glob(f"[0-9]*{_SUFFIX}")):
            header = self._header_if_whole(first, path.name.removesuffix(_SUFFIX))
            if header is not None:
                place = _place(header)
                if path.name == _name(place) + _SUFFIX:
                    places.append(place)
        places.sort(key=lambda place: place.step)
        counts = []
        for name in (_OPENED, _RESUMED):
            content = self._read(first, name) if self._header_if_whole(first, name) is not None else None
            counts.append(0 if content is None else int(content["count"]))
        return Line(first, tuple(places), counts[0], counts[1])

    def begin(self, first: bytes, content: Content) -> None:
        """Note that a run has begun, with what this party puts in; other runs of the job are over."""
        for folder in list(self._path.glob("*")):
            if folder.name != first.hex():
                shutil.rmtree(folder)
        self._run(first).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write(first, _BEGUN, content)

    def begun(self, first: bytes) -> Content:
        """Return what `begin` noted."""
        return self._read(first, _BEGUN)

    def resume(self, first: bytes, step: int, resumed: int) -> None:
        """Note that a run goes on from a step: checkpoints of later steps are deleted."""
        self._write(first, _RESUMED, {"count": resumed})
        for path in self._run(first).glob(f"[0-9]*{_SUFFIX}"):
            if int(path.name.split("-")[0]) > step:
                path.unlink()

    def end(self, first: bytes, content: Content) -> None:
        """Keep a result until it is written to its destination."""
        self._write(first, _RESULT, content)

    def ended(self, first: bytes) -> Content | None:
        """Return the result of a run, if this party has it."""
        return self._read(first, _RESULT) if self._header_if_whole(first, _RESULT) is not None else None

    def all_ended(self, first: bytes) -> None:
        """Note that all parties of a run have their results."""
        self._write(first, _DONE, {})

    def have_all_ended(self, first: bytes) -> bool:
        """Return whether all parties of a run have their results, as far as this one knows."""
        return self._header_if_whole(first, _DONE) is not None

    def delete(self) -> None:
        """Delete all checkpoints of the job, also for a disk that loses power: what is deleted is never gone on with."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._path)
            _sync(self._path.parent)

    def storage(self, first: bytes) -> RunStorage:
        """Return where a run's checkpoints are kept."""
        return RunStorage(self, first)

    def keep(self, first: bytes, place: Place, content: Content) -> None:
        """Keep a checkpoint, and delete old ones."""
        self._write(first, _name(place), content, place)
        for path in self._run(first).glob(f"[0-9]*{_SUFFIX}"):
            if int(path.name.split("-")[0]) <= place.step - _STAY:
                path.unlink()

    def at(self, first: bytes, place: Place) -> Content:
        """Return the content of a checkpoint."""
        return self._read(first, _name(place), place)

    def note_opening(self, first: bytes, place: Place) -> None:
        """Note that what is computed from a checkpoint is opened."""
        self._write(first, _OPENED, {"count": place.step})

    # Files.

    def _run(self, first: bytes) -> Path:
        return self._path / first.hex()

    def _header(self, first: bytes, name: str, place: Place | None) -> bytes:
        of_run = {"job": self._job, "party": self._me, "first": first, "name": name}
        of_place = (
            {}
            if place is None
            else {"step": place.step, "mark": place.mark, "session": place.session, "root": place.root}
        )
        return msgspec.msgpack.encode(of_run | of_place)

    def _write(self, first: bytes, name: str, content: Content, place: Place | None = None) -> None:
        path = self._run(first) / (name + _SUFFIX)
        write_sealed(path, self._key, self._header(first, name, place), encode(content))

    def _header_if_whole(self, first: bytes, name: str) -> Mapping[str, Any] | None:
        """Return the header of a file that is whole and of this party, run and name; None for another."""
        path = self._run(first) / (name + _SUFFIX)
        try:
            with path.open("rb") as file:
                header = _header_of(file)
                for _ in _segments(file, self._key, header):
                    pass
            known: Mapping[str, Any] = msgspec.msgpack.decode(header)
            if self._header(first, name, _place(known) if "step" in known else None) != header:
                raise UsageError("it is of another run, party or job")
        except FileNotFoundError:
            return None
        except (UsageError, OSError, msgspec.MsgspecError, KeyError, TypeError) as error:
            _log.warning("a checkpoint is not used: %s: %s", path, error)
            return None
        return known

    def _read(self, first: bytes, name: str, place: Place | None = None) -> Content:
        path = self._run(first) / (name + _SUFFIX)
        content: Content = decode(read_sealed(path, self._key, self._header(first, name, place)))
        return content


@dataclass(frozen=True, slots=True)
class RunStorage:
    """The checkpoints of one run, as `party.Checkpoints` takes them."""

    folder: CheckpointFolder
    first: bytes

    def write(self, place: Place, content: Content) -> None:
        """Keep a checkpoint; it is durable when this returns."""
        self.folder.keep(self.first, place, content)

    def read(self, place: Place) -> Content:
        """Return what was kept."""
        return self.folder.at(self.first, place)

    def note_opening(self, place: Place) -> None:
        """Note durably that what is computed from a checkpoint is going to be opened."""
        self.folder.note_opening(self.first, place)


def write_sealed(
    path: Path,
    key: bytes,
    header: bytes,
    content: bytes,
    *,
    what: str = "a checkpoint",
    then: str = "start again: the run goes on",
) -> None:
    """Write a file as the module says, whole or not at all; it is durable when this returns.

    Args:
      key: 32 bytes.
      header: what the file is of, in MessagePack.
      what, then: for the error: what the file is, and what follows when there is room.

    Raises:
      UnwritableError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name.removesuffix(_SUFFIX)}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                _seal(file, key, header, content)
                file.flush()
                os.fsync(descriptor)
            unfinished.replace(path)
            _sync(path.parent)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise UnwritableError(
            f"cannot keep {what} in {path.parent}: {error.strerror}; make room, and {then}"
        ) from None


def read_sealed(path: Path, key: bytes, header: bytes) -> bytes:
    """Return the content of a file that `write_sealed` wrote.

    Raises:
      UsageError: there is none, it is of something else, or it was altered.
    """
    try:
        with path.open("rb") as file:
            if _header_of(file) != header:
                raise UsageError(f"{path} is of another run, party or job")
            return b"".join(_segments(file, key, header))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; start the run anew") from None


def _name(place: Place) -> str:
    return f"{place.step:06}-{place.session.hex()[:32]}"


def _place(header: Mapping[str, Any]) -> Place:
    return Place(header["step"], header["mark"], header["session"], header["root"])


def _seal(file: BinaryIO, key: bytes, header: bytes, content: bytes) -> None:
    salt = secrets.token_bytes(_SALT_BYTES)
    file.write(_MAGIC % FORMAT + len(header).to_bytes(4, "big") + header + salt)
    # Each file has a key of its own, so nonces that count from 0 never come again under one.
    cipher, view = AESGCM(derive_key(key, label=_LABEL, context=salt)), memoryview(content)
    count = max(1, -(-len(view) // _SEGMENT_BYTES))
    for i in range(count):
        segment = view[i * _SEGMENT_BYTES : (i + 1) * _SEGMENT_BYTES]
        file.write(cipher.encrypt(_nonce(i, last=i == count - 1), segment, header))


def _header_of(file: BinaryIO) -> bytes:
    magic = file.read(len(_MAGIC % FORMAT))
    if (found := re.fullmatch(rb"secagg checkpoint (\d)\n", magic)) is None:
        raise UsageError("expected a checkpoint, got another file")
    check_format(int(found[1]), FORMAT, what="the checkpoint")
    if magic != _MAGIC % FORMAT:
        raise UsageError("expected a checkpoint, got another file")
    size = int.from_bytes(file.read(4), "big")
    header = file.read(min(size, _MAX_HEADER_BYTES))
    if len(header) != size:
        raise UsageError("expected a whole checkpoint, got a part of one")
    return header


def _segments(file: BinaryIO, key: bytes, header: bytes) -> Iterator[bytes]:
    salt = file.read(_SALT_BYTES)
    cipher = AESGCM(derive_key(key, label=_LABEL, context=salt))
    i, segment = 0, file.read(_SEGMENT_BYTES + _TAG_BYTES)
    while True:
        following = file.read(_SEGMENT_BYTES + _TAG_BYTES)
        try:
            yield cipher.decrypt(_nonce(i, last=not following), segment, header)
        except InvalidTag:
            raise UsageError("expected a checkpoint as this party kept it, got an altered one") from None
        if not following:
            return
        i, segment = i + 1, following


def _nonce(i: int, *, last: bool) -> bytes:
    return i.to_bytes(11, "big") + bytes([last])


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
