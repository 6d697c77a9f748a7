"""When this organisation's folder first read each approval, by its own clock.

The time in an approval is by the signer's clock, which may be ahead. Where it matters that an approval is later than
something, the earlier of both times counts.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import sqlite3
from collections.abc import Sequence

import msgspec

from secagg.errors import UsageError
from secagg.home import Home
from secagg.joint.approval.approval import Approval, approvals_in

_TABLE = "CREATE TABLE IF NOT EXISTS approvals_seen (approval BLOB PRIMARY KEY, at TEXT NOT NULL)"


def note_seen(home: Home) -> None:
    """Note that all approvals in a home are there now; what was noted earlier stays.

    Raises:
      UsageError: a file is no approval, or the note cannot be written.
    """
    found = approvals_in(home)
    if not found:
        return
    now = datetime.datetime.now(datetime.UTC).isoformat()
    with home.transaction() as connection:
        connection.execute(_TABLE)
        connection.executemany(
            "INSERT OR IGNORE INTO approvals_seen (approval, at) VALUES (?, ?)",
            [(_digest(one), now) for one in found],
        )


def times_of(home: Home, approvals: Sequence[Approval]) -> list[datetime.datetime]:
    """Return the time of each approval: the signer's, or when it was first read, if that is earlier.

    It writes nothing, so that it may be called within a transaction. What is not noted was first read now.

    Raises:
      UsageError: the notes cannot be read.
    """
    now = datetime.datetime.now(datetime.UTC)
    try:
        with contextlib.closing(home.database()) as connection:
            known = _known(connection)
    except sqlite3.Error as error:
        raise UsageError(f"cannot read {home.path / 'state.sqlite'}: {error}") from None
    return [min(one.at, known.get(_digest(one), now)) for one in approvals]


def _known(connection: sqlite3.Connection) -> dict[bytes, datetime.datetime]:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'approvals_seen'").fetchone() is None:
        return {}
    rows = connection.execute("SELECT approval, at FROM approvals_seen").fetchall()
    return {bytes(digest): datetime.datetime.fromisoformat(at) for digest, at in rows}


def _digest(approval: Approval) -> bytes:
    return hashlib.sha256(msgspec.msgpack.encode(approval)).digest()
