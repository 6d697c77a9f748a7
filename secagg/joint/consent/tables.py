"""What this area keeps in the home folder's database; identifiers stand there as keyed digests alone."""

from __future__ import annotations

import secrets
import sqlite3
from typing import Final

from secagg.prg import KEY_BYTES, derive_key

__all__ = ["create", "key_for"]

_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS consent_key (one INTEGER PRIMARY KEY CHECK (one = 1), key BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS consent_lists (name TEXT PRIMARY KEY, columns TEXT, source TEXT, read TEXT, made TEXT)",
    "CREATE TABLE IF NOT EXISTS consent_rules (list TEXT, person BLOB, rule TEXT, PRIMARY KEY (list, person, rule))",
    "CREATE TABLE IF NOT EXISTS consent_digests (list TEXT, rule TEXT, digest BLOB, person BLOB)",
    "CREATE UNIQUE INDEX IF NOT EXISTS consent_digests_once ON consent_digests (list, rule, digest, person)",
    "CREATE TABLE IF NOT EXISTS consent_runs (session TEXT PRIMARY KEY, at REAL, job TEXT, digest TEXT, stated BLOB)",
    "CREATE TABLE IF NOT EXISTS consent_populations (session TEXT, name TEXT, persons BLOB, held BLOB)",
    "CREATE TABLE IF NOT EXISTS consent_filters (session TEXT PRIMARY KEY, first TEXT, secret BLOB, cells BLOB, count INT)",
    "CREATE TABLE IF NOT EXISTS consent_allowed (digest TEXT, earlier TEXT, runs INT, reason TEXT, at TEXT)",
    "CREATE UNIQUE INDEX IF NOT EXISTS consent_allowed_for ON consent_allowed (digest, earlier)",
)


def create(connection: sqlite3.Connection) -> None:
    """Make the tables where there are none."""
    for statement in _TABLES:
        connection.execute(statement)


def key_for(connection: sqlite3.Connection, label: str) -> bytes:
    """Return the organisation's own key for one purpose, 32 bytes; it never leaves the folder."""
    create(connection)
    row = connection.execute("SELECT key FROM consent_key").fetchone()
    if row is None:
        row = (secrets.token_bytes(KEY_BYTES),)
        connection.execute("INSERT INTO consent_key VALUES (1, ?)", row)
    return derive_key(row[0], label=f"secagg.joint.consent/{label}")
