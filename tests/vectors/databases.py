"""Databases that are kept, as test vectors: the tables that the code makes, and rows that it reads."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import msgspec
import numpy as np

from made import Fields, Format
from secagg.data.conventions import Conventions
from secagg.he.rlwe.decryption_log import DecryptionLog, Release
from secagg.home import Home
from secagg.jobs.job import Job
from secagg.joint.approval import counting, seen
from secagg.joint.budget import book
from secagg.joint.budget.chain import START, next_head
from secagg.joint.consent import lists, tables
from secagg.joint.serve import states
from secagg.patterns.pattern import Spending
from secagg.query.schema import Identifier, Schema

_NO: Final = "UsageError"
_AT: Final = "2026-10-01T06:00:01+00:00"


def _tables(path: Path) -> list[str]:
    """Return the statements that make a database's tables, the tables before their indices."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = connection.execute(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC, name"
        )
        return [sql for (sql,) in found]


def _rows(path: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [line for line in connection.iterdump() if line.startswith("INSERT")]


def _write(path: Path, statements: Iterable[str], **numbers: int) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(";\n".join(line.rstrip(";") for line in statements))
        for name, number in numbers.items():
            connection.execute(f"PRAGMA {name} = {number}")
    path.chmod(0o600)


# Decryption logs of threshold RLWE

_KEY: Final = bytes(range(32))
_UPLOADS: Final = (b"a" * 32, b"b" * 32)
_RELEASE: Final = Release(_KEY, 7, b"t" * 32, 2, _UPLOADS)


def _read_release(given: Fields) -> Release:
    names = ("key_id", "transcript")
    texts = {name: bytes.fromhex(given[name]) for name in names}
    uploads = tuple(map(bytes.fromhex, given["uploads"]))
    return Release(round=given["round"], blocks=given["blocks"], uploads=uploads, **texts)


def decryption_log(given: Fields) -> dict[str, Any]:
    """Open a log and decrypt once more what it holds already: that changes nothing in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log")
        numbers = {name: given[name] for name in ("application_id", "user_version")}
        _write(path, [*given["tables"], *given["rows"]], **numbers)
        with DecryptionLog(path, expected_epoch=given["expected_epoch"]) as log:
            epoch = log.record(_read_release(given["release"]))
            return {"epoch": epoch, "last": log.epoch, "tables": _tables(path), "rows": _rows(path)}


def decryption_logs() -> Format:
    release = {
        "key_id": _KEY.hex(), "round": 7, "transcript": _RELEASE.transcript.hex(), "blocks": 2,
        "uploads": [upload.hex() for upload in _UPLOADS],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log")
        with DecryptionLog(path, expected_epoch=0) as log:
            log.add_key(_KEY, releases=2, blocks=3)
            log.record(_RELEASE)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            numbers = {
                name: connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("application_id", "user_version")
            }
        good: Fields = {
            **numbers, "tables": _tables(path), "rows": _rows(path), "expected_epoch": 2, "release": release,
        }  # fmt: skip

    def changed(**changes: Any) -> tuple[str, Fields]:
        return _NO, {**good, "release": {**release, **changes}}

    return Format(
        "decryption logs of threshold RLWE, as SQL",
        decryption_log,
        {"a key and a release": good},
        {
            "of a later format": (_NO, {**good, "user_version": 2}),
            "of another application": (_NO, {**good, "application_id": 1}),
            "older than was seen": (_NO, {**good, "expected_epoch": 3}),
            "another sum of a round": changed(transcript=(b"u" * 32).hex()),
            "an upload in a second sum": changed(round=8),
            "a key that it was not told of": changed(key_id=bytes(32).hex()),
            "a longer sum than agreed": changed(round=8, blocks=4, uploads=[]),
        },
    )


# An organisation's database

_JOB: Final = cast(Job, SimpleNamespace(template=b"t" * 32, content=b"c" * 32, name="j"))
_INPUTS: Final = {"deposits": Schema(customer=Identifier())}


@contextlib.contextmanager
def _home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory() as folder:
        yield Home.create(Path(folder, "home"))


def _made_here(home: Home) -> list[str]:
    with home.transaction() as connection:
        for statement in (*book._TABLES, counting._TABLE, seen._TABLE, states._TABLE):
            connection.execute(statement)
        tables.create(connection)
    return _tables(home.path / "state.sqlite")


def home_database(given: Fields) -> dict[str, Any]:
    """Read what a home remembers: runs and approvals, budgets, who is on a list, and the jobs that are served."""
    with _home() as home:
        _write(home.path / "state.sqlite", [*given["tables"], *given["rows"]], user_version=given["format"])
        with home.transaction() as connection:
            budgets = book.Book.read(connection, home, anywhere=True)
            on_lists = lists.Exclusions(connection)
            columns = {"deposits": {"customer": np.array(given["customers"], object)}}
            kept = on_lists.kept(columns, _INPUTS, Conventions())
            read = {
                "token": budgets.token.to_bytes().hex(),
                "grants": [msgspec.to_builtins(one) for one in budgets.grants.values()],
                "budget runs": [msgspec.to_builtins(one) for one in budgets.runs.values()],
                "peers": {name: token.to_bytes().hex() for name, token in budgets.remembered().items()},
                "lists": [msgspec.to_builtins(one) for one in lists.lists(connection)],
                "customers kept": kept["deposits"].tolist(),
                "approvals seen": {key.hex(): at.isoformat() for key, at in seen._known(connection).items()},
            }
        counts = counting.counted(home, _JOB)
        served = [dataclasses.asdict(one) for one in states.States(home).all()]
        with _home() as another:
            made = _made_here(another)
        found = {
            **read, "counts": [counts.template, counts.content], "jobs": served,
            "tables": made, "rows": _rows(home.path / "state.sqlite"),
        }  # fmt: skip
        return cast(dict[str, Any], json.loads(json.dumps(found)))  # as JSON has it, without tuples


def home_databases() -> Format:
    spending = Spending(("deposits",), 0.5, 1e-6)
    allowance = {"epsilon": 2.0, "delta": 1e-5, "accounting": "basic", "unit": "person"}
    entries: list[dict[str, Any]] = [
        {"kind": "began", "id": bytes(16).hex()},
        {"kind": "granted", "data_set": "deposits", "pattern": "*", "allowance": allowance, "runs": 3,
         "closed": False},
        {"kind": "spent", "run": "aa", "session": "aa", "job": "j", "digest": "dd", "pattern": "velocity",
         "tables": ["deposits"], "releases": [msgspec.to_builtins(spending)]},
        {"kind": "resumed", "run": "aa", "session": "bb"},
    ]  # fmt: skip
    with _home() as home:
        path = home.path / "state.sqlite"
        made = _made_here(home)
        with home.transaction() as connection:
            connection.execute("INSERT INTO budget_identity VALUES (1, ?, 1)", (b"k" * 32,))
            connection.execute("INSERT INTO consent_key VALUES (1, ?)", (b"l" * 32,))
            head = START
            for number, entry in enumerate(entries, 1):
                content = json.dumps({"at": _AT, **entry}, sort_keys=True).encode()
                head = next_head(head, content)
                connection.execute("INSERT INTO budget_entries VALUES (?, ?, ?)", (number, content, head))
            connection.execute("INSERT INTO budget_peers VALUES ('south', ?)", (bytes(88),))
            lists.add_identifiers(connection, "removed", ["*"], ["Ada"])
            connection.execute("UPDATE consent_lists SET made = ?", (_AT,))
            values = (b"t" * 32, b"c" * 32, b"s" * 32, _AT)
            connection.execute("INSERT INTO approval_runs VALUES (?, 1, ?, ?, 1, ?, 1)", values)
            connection.execute("INSERT INTO approvals_seen VALUES (?, ?)", (b"v" * 32, _AT))
        states.States(home).put(states.Known("j.toml", "dd", states.State.done, 1.5, "", "j", 2.5, 1))
        good: Fields = {
            "format": 1, "tables": made, "rows": _rows(path), "customers": ["Ada", "Bob"],
        }  # fmt: skip
    granted = json.dumps({"at": _AT, **entries[1]}, sort_keys=True).encode()
    true, forged = granted.hex().upper(), granted.replace(b'"runs": 3', b'"runs": 9').hex().upper()
    third = 'INSERT INTO "budget_entries" VALUES(3'
    return Format(
        "an organisation's database, as SQL",
        home_database,
        {"runs, approvals, budgets, a list and a job": good},
        {
            "of a later format": (_NO, {**good, "format": 2}),
            "a budget that was raised": (
                "BudgetError",
                {**good, "rows": [row.replace(true, forged) for row in good["rows"]]},
            ),
            "an entry of a budget taken out": (
                "BudgetError",
                {**good, "rows": [row for row in good["rows"] if not row.startswith(third)]},
            ),
        },
    )  # fmt: skip


DATABASES: Final[tuple[Callable[[], Format], ...]] = (decryption_logs, home_databases)
