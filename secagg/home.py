"""An organisation's own folder: who its partners are, what it approved, and what it did.

    consortium.toml   members, addresses, certificate fingerprints, roles, tables
    policy.toml       who approves in this organisation, and how many must
    keys/             this party's private key and certificate, and those of others
    jobs/, approvals/ job files, and what was approved
    audit.log         what happened
    runs/             records of runs and their results
    checkpoints/      where interrupted runs go on; encrypted, and gone once they end
    state.sqlite      counters that must survive a crash and a race

The folder is `$SECAGG_HOME`, or `~/.secagg`. Nobody but its owner may enter it: whoever may write there decides what
this organisation takes part in. Whoever copies or restores it brings back old counters, which no folder can notice.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from secagg.errors import UsageError
from secagg.files import check_format

__all__ = ["Home"]

_FORMAT: Final = 1  # of the database
_VARIABLE: Final = "SECAGG_HOME"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_FOLDERS: Final = ("keys", "jobs", "approvals", "runs", "checkpoints")
_BUSY_S: Final = 30.0  # how long a transaction waits for another process's


@dataclass(frozen=True, slots=True)
class Home:
    """An organisation's own folder; `open`, `find` and `create` return one that was checked."""

    path: Path

    @classmethod
    def place(cls, path: Path | str | None = None) -> Path | None:
        """Return where the folder is: at `path`, `$SECAGG_HOME` or `~/.secagg`; None where the variable is empty."""
        if path is not None:
            return Path(path)
        named = os.environ.get(_VARIABLE)
        if named is not None:
            return Path(named) if named else None
        try:
            return Path.home() / ".secagg"
        except RuntimeError:  # there is no home directory
            return None

    @classmethod
    def open(cls, path: Path | str | None = None) -> Home:
        """Return the folder.

        Raises:
          UsageError: there is none, it is somebody else's, or others can read or write it.
        """
        place = cls.place(path)
        if place is None or not place.is_dir():
            shown = "here" if place is None else f"at {place}"
            raise UsageError(
                f"expected this organisation's own folder {shown}, and there is none; make it with "
                f"`secagg consortium new`, or say where it is with ${_VARIABLE} or --home"
            )
        found = place.stat()
        mode = stat.S_IMODE(found.st_mode)
        if found.st_uid != os.geteuid():
            raise UsageError(
                f"{place} belongs to another user; run as its owner, or use a folder of your own"
            )
        if mode & _OTHERS:
            raise UsageError(
                f"others on this machine may enter {place} (mode {mode:04o}); run: chmod 700 {place}"
            )
        return cls(place)

    @classmethod
    def find(cls, path: Path | str | None = None) -> Home | None:
        """Return the folder, or None where nobody named one and `~/.secagg` does not exist; errors as `open`."""
        place = cls.place(path)
        if place is None:
            return None
        if path is None and not os.environ.get(_VARIABLE) and not os.path.lexists(place):
            return None
        return cls.open(place)

    @classmethod
    def create(cls, path: Path | str | None = None) -> Home:
        """Make the folder where it does not exist, and return it; errors as `open`."""
        place = cls.place(path)
        if place is not None:
            try:
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"cannot make {place}: {error.strerror}") from None
        home = cls.open(path)
        for name in _FOLDERS:
            home._folder(name)
        return home

    @property
    def consortium(self) -> Path:
        """Return the file of the consortium."""
        return self.path / "consortium.toml"

    @property
    def policy(self) -> Path:
        """Return the file that says who approves here."""
        return self.path / "policy.toml"

    @property
    def audit_log(self) -> Path:
        """Return the file of the audit log."""
        return self.path / "audit.log"

    @property
    def keys(self) -> Path:
        """Return the folder of keys and certificates."""
        return self._folder("keys")

    @property
    def jobs(self) -> Path:
        """Return the folder of job files."""
        return self._folder("jobs")

    @property
    def approvals(self) -> Path:
        """Return the folder of approvals."""
        return self._folder("approvals")

    @property
    def runs(self) -> Path:
        """Return the folder of records."""
        return self._folder("runs")

    @property
    def checkpoints(self) -> Path:
        """Return the folder of checkpoints."""
        return self._folder("checkpoints")

    def database(self) -> sqlite3.Connection:
        """Return a new connection to the counters; the caller closes it.

        It commits each statement by itself, and a commit is on the disk before it returns. What must not race stands
        inside `transaction`.

        Raises:
          UsageError: the file cannot be opened.
        """
        path = self.path / "state.sqlite"
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        except OSError as error:
            raise UsageError(f"cannot open {path}: {error.strerror}") from None
        except sqlite3.Error as error:
            raise UsageError(f"cannot open {path}: {error}") from None
        try:
            # A rollback journal works on every file system; EXTRA also syncs its directory, so that no commit is undone.
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.execute("PRAGMA foreign_keys = ON")
            (number,) = connection.execute("PRAGMA user_version").fetchone()
            check_format(number, _FORMAT, what=str(path))
            if number != _FORMAT:
                connection.execute(f"PRAGMA user_version = {_FORMAT}")
        except UsageError:
            connection.close()
            raise
        except sqlite3.Error as error:
            connection.close()
            raise UsageError(f"{path} cannot be used: {error}") from None
        return connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give a connection on which nobody else writes until the body ends; what it did is on the disk then, or undone.

        Raises:
          UsageError: it cannot be written, such as for a full disk, or another process holds it for too long.
        """
        connection = self.database()
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                # After some errors SQLite has rolled back already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise UsageError(
                f"cannot write {self.path / 'state.sqlite'}: {error}; nothing was done"
            ) from error
        finally:
            connection.close()

    def _folder(self, name: str) -> Path:
        folder = self.path / name
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make {folder}: {error.strerror}") from None
        return folder
