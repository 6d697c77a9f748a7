"""The log of what a key holder has decrypted, written before anything leaves it.

A partial decryption is c1 * s_i plus noise that is drawn once. Two partial decryptions of sums that differ by little
tell s_i or single inputs; so do answers for many sums that were never agreed on. A key holder therefore answers **once
for each key and round**. What it answered for is on disk before the answer exists:

    BEGIN; look the round up; insert key, round, transcript, uploads; epoch + 1; COMMIT (flushed); decrypt; send

  - a key holder killed before COMMIT has sent nothing and starts afresh. One killed after it answers the same transcript
    again with the same noise, so byte for byte the same (see `threshold`);
  - another transcript for the same key and round (other uploads, fewer of them, other parties) is refused;
  - an upload enters one opened sum: its hash is recorded, under every round of the key;
  - a key has an agreed number of releases of an agreed number of blocks: flooding is sized for them;
  - a key that this log was not told of is refused, so an empty log in place of a lost one opens nothing.

Rollback: whoever can put back an older copy of the file (a backup, a snapshot of a virtual machine) makes the
key holder forget. The log has an **epoch**, which every entry raises by one. Keep the last one where restoring the
machine does not restore it and give it as `expected_epoch`: the log refuses to be older. Every partial
decryption carries the epoch of its entry, so the other key holders know it too and can be asked.

Processes that share the file are kept apart by SQLite's locks. The file is readable by its owner alone; nothing in
it is secret, but who can write it can make the key holder forget.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from secagg.errors import UsageError
from secagg.files import check_format

_APPLICATION: Final = 0x53414752
_VERSION: Final = 1
_WAIT_S: Final = 30.0  # for another process's transaction, which takes milliseconds
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_RELEASES: Final = (
    "CREATE TABLE releases (key BLOB, round INTEGER, transcript BLOB NOT NULL, uploads INTEGER NOT NULL, "
    "epoch INTEGER NOT NULL, PRIMARY KEY (key, round)) WITHOUT ROWID"
)
_TABLES: Final = (
    "CREATE TABLE epoch (one INTEGER PRIMARY KEY CHECK (one = 1), value INTEGER NOT NULL)",
    "INSERT INTO epoch VALUES (1, 0)",
    "CREATE TABLE keys (key BLOB PRIMARY KEY, releases INTEGER NOT NULL, blocks INTEGER NOT NULL) WITHOUT ROWID",
    _RELEASES,
    "CREATE TABLE uploads (key BLOB, upload BLOB, round INTEGER NOT NULL, PRIMARY KEY (key, upload)) WITHOUT ROWID",
)


@dataclass(frozen=True, slots=True)
class Release:
    """What is to be decrypted.

    Attributes:
      key_id: of the public key, 32 bytes.
      round: number of the round under that key, below 2**63.
      transcript: digest of everything that the sum is made of, 32 bytes.
      blocks: polynomials in the sum's ciphertext.
      uploads: hashes of the ciphertexts in the sum.
    """

    key_id: bytes
    round: int
    transcript: bytes
    blocks: int
    uploads: tuple[bytes, ...]


class DecryptionLog:
    """A decryption log in one SQLite file, opened or made.

    Args:
      path: the file; its directory exists.
      expected_epoch: the last epoch known to have been reached; 0 for a file that does not exist yet.

    Raises:
      UsageError: another kind of file, one that others may read or write, or one older than the epoch expected.
    """

    def __init__(self, path: Path, *, expected_epoch: int) -> None:
        self._path = path
        _create(path)
        with self._named("opened"):
            # Threads may take turns; two at once meet each other's transaction and are refused.
            self._db = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
        try:
            with self._named("opened"):
                # EXTRA also flushes the directory after the journal is gone. With FULL a power failure right after COMMIT
                # could bring the journal back, and undo an entry whose answer has been sent.
                self._db.execute("PRAGMA journal_mode = DELETE").fetchone()
                self._db.execute("PRAGMA synchronous = EXTRA")
                self._db.execute("PRAGMA fullfsync = ON")  # macOS: to the disk, not to its cache
                with self._transaction():
                    self._prepare()
            if self.epoch < expected_epoch:
                raise UsageError(
                    f"the decryption log {path} is at epoch {self.epoch}, and {expected_epoch} was reached before: "
                    "it is an older copy, and what was decrypted since is not in it; make a new key, or find the newest copy"
                )
        except BaseException:
            self._db.close()
            raise

    @property
    def epoch(self) -> int:
        """How many entries were ever made."""
        with self._named("read"):
            return int(self._db.execute("SELECT value FROM epoch").fetchone()[0])

    def add_key(self, key_id: bytes, *, releases: int, blocks: int) -> int:
        """Enter a new key and return the epoch; done when the key is made. The same again changes nothing.

        Args:
          releases: how many sums may be decrypted under the key.
          blocks: how many polynomials each may have.

        Raises:
          UsageError: the key is known with other limits, or the file cannot be written.
        """
        if releases < 1 or blocks < 1:
            raise UsageError(f"expected at least 1 release of at least 1 block, got {releases} of {blocks}")
        with self._named("written"), self._transaction():
            known = self._db.execute("SELECT releases, blocks FROM keys WHERE key = ?", (key_id,)).fetchone()
            if known == (releases, blocks):  # a program that is run again from its log makes the same key
                return int(self._db.execute("SELECT value FROM epoch").fetchone()[0])
            if known is not None:
                raise UsageError(
                    f"key {key_id.hex()[:16]} is in the decryption log {self._path} for {known[0]} releases of {known[1]} "
                    f"blocks, not {releases} of {blocks}"
                )
            self._db.execute("INSERT INTO keys VALUES (?, ?, ?)", (key_id, releases, blocks))
            return self._next_epoch()

    def record(self, release: Release) -> int:
        """Enter a release, flush it to the disk and return its epoch; the same release again, its old epoch.

        Nothing may be computed from the secret share before this has returned.

        Raises:
          UsageError: the release is refused, or the file cannot be written. The message says why.
        """
        key, name = release.key_id, f"key {release.key_id.hex()[:16]}"
        with self._named("written"), self._transaction():
            terms = self._db.execute("SELECT releases, blocks FROM keys WHERE key = ?", (key,)).fetchone()
            if terms is None:
                raise UsageError(
                    f"the decryption log {self._path} knows nothing of {name}, so it cannot tell what was decrypted "
                    "under it; use the log that was there when the key was made"
                )
            before = self._db.execute(
                "SELECT transcript, uploads, epoch FROM releases WHERE key = ? AND round = ?",
                (key, release.round),
            ).fetchone()
            if before is not None:
                if before[0] != release.transcript:
                    raise UsageError(
                        f"round {release.round} of {name} was decrypted for another set: {before[1]} uploads then, "
                        f"{len(release.uploads)} now; their difference would show single inputs. Start a new round"
                    )
                return int(before[2])
            most, blocks = terms
            if release.blocks > blocks:
                raise UsageError(f"{name} was made for sums of {blocks} blocks, not {release.blocks}")
            made = self._db.execute("SELECT COUNT(*) FROM releases WHERE key = ?", (key,)).fetchone()[0]
            if made >= most:
                raise UsageError(
                    f"all {most} agreed releases under {name} were made; generate a new key, and plan it for more"
                )
            epoch = self._next_epoch()
            self._db.execute(
                "INSERT INTO releases VALUES (?, ?, ?, ?, ?)",
                (key, release.round, release.transcript, len(release.uploads), epoch),
            )
            self._enter_uploads(release, name)
        return epoch

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _enter_uploads(self, release: Release, name: str) -> None:
        rows = ((release.key_id, upload, release.round) for upload in release.uploads)
        try:
            self._db.executemany("INSERT INTO uploads VALUES (?, ?, ?)", rows)
        except sqlite3.IntegrityError:
            raise UsageError(
                f"an upload to round {release.round} of {name} is in a sum that was decrypted before, or there twice; "
                "every round needs uploads of its own"
            ) from None

    def _next_epoch(self) -> int:
        self._db.execute("UPDATE epoch SET value = value + 1")
        return int(self._db.execute("SELECT value FROM epoch").fetchone()[0])

    def _prepare(self) -> None:
        application, version = (
            self._db.execute(f"PRAGMA {what}").fetchone()[0] for what in ("application_id", "user_version")
        )
        if (application, version) == (_APPLICATION, _VERSION):
            return
        if application == _APPLICATION:
            check_format(version, _VERSION, what=str(self._path))
        if self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
            raise UsageError(
                f"{self._path} is no decryption log of this version; give the path of another file"
            )
        for statement in _TABLES:
            self._db.execute(statement)
        self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
        self._db.execute(f"PRAGMA user_version = {_VERSION}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        # IMMEDIATE takes the write lock first: what is read cannot change before it is acted upon.
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _named(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UsageError(
                f"the decryption log {self._path} cannot be {what} ({error}); nothing was released"
            ) from None


def _create(path: Path) -> None:
    """Make an empty file for its owner alone unless there is one, which must be for its owner alone."""
    try:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        # By name: closing a descriptor of this file would drop the locks that SQLite holds in this process.
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise UsageError(f"the decryption log {path} cannot be opened: {error.strerror}") from None
    if mode & _OTHERS:
        raise UsageError(
            f"others on this machine may use the decryption log {path} (mode {mode:04o}); run: chmod 600 {path}"
        )
