"""The record of an organisation's budgets, in the database of its home folder: what was granted, and what was spent.

The record only grows. Its state is what its entries say, read from the first to the last:

  began, restarted  the record has a new id; what was granted before is spent
  granted           a budget or a quota was set, for a data set and a pattern; "*" stands for all
  spent             a run; written before it shares anything
  returned          a run ended before anything was shared, and costs nothing
  resumed           a run that is spent goes on, and costs nothing more
  accepted, moved   the owner said that a peer's record, or the folder, may be another one

A run counts for every budget that its data set and pattern match. All of them must have room for it. Runs of patterns
without noise need no budget; where there are quotas, they count as runs.

A run is known by its first session, and is spent once however often it goes on, also where it releases with noise. Noise is
put in as rows are: before a release, it is in the checkpoint that a run goes on from. So what is opened again is the same.
"""

from __future__ import annotations

import datetime
import json
import secrets
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from secagg.errors import BudgetError, UsageError
from secagg.home import Home
from secagg.jobs.job import Job
from secagg.joint.budget.accounting import Allowance
from secagg.joint.budget.chain import ID_BYTES, START, Token, next_head
from secagg.party import PartyId
from secagg.patterns.pattern import Spending

__all__ = ["ALL", "Book", "Grant", "Ran", "costs_of"]

ALL: Final = "*"
_TIME_BYTES: Final = 8
_KEY_BYTES: Final = 32
_COPIED: Final = (
    "{} is a copy, or its database was put back from one: the record of budgets was last written elsewhere. Use the folder "
    "that was used last. Where that is gone and this is the newest copy, run `secagg budget moved`; where it is an older "
    "one, `secagg budget restart`"
)
_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS budget_identity (one INTEGER PRIMARY KEY CHECK (one = 1), key BLOB, inode INTEGER)",
    "CREATE TABLE IF NOT EXISTS budget_entries (number INTEGER PRIMARY KEY, content BLOB NOT NULL, head BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS budget_peers (name TEXT PRIMARY KEY, token BLOB NOT NULL)",
)


@dataclass(frozen=True, slots=True)
class Grant:
    """What an owner allows of a data set to a pattern.

    Attributes:
      data_set, pattern: names, or "*" for all.
      allowance: for releases with noise; None where none is granted.
      runs: how many there may be; None for any number.
      closed: taken as spent, because the record was begun anew.
    """

    data_set: str
    pattern: str
    allowance: Allowance | None = None
    runs: int | None = None
    closed: bool = False

    def matches(self, table: str, pattern: str) -> bool:
        """Return whether this is about a table in a run of a pattern."""
        return self.data_set in (ALL, table) and self.pattern in (ALL, pattern)

    @property
    def about(self) -> str:
        """What it is about, in words."""
        data = "all data sets" if self.data_set == ALL else self.data_set
        return f"{data} in {'all patterns' if self.pattern == ALL else self.pattern}"


@dataclass(frozen=True, slots=True)
class Ran:
    """A run that was spent.

    Attributes:
      run: its first session.
      session: in which it was spent; another one where the first was given back.
      went_on: that another session goes on with it, so that it is not given back.
    """

    number: int
    at: str
    run: str
    session: str
    job: str
    digest: str
    pattern: str
    tables: tuple[str, ...]
    releases: tuple[Spending, ...]
    went_on: bool = False


@dataclass(slots=True)
class Book:
    """The record as it stands, read in one transaction, and written in the same; see `read`.

    Attributes:
      copied: that the record was last written elsewhere, and what to do; "" where it was not.
    """

    connection: sqlite3.Connection = field(repr=False)
    key: bytes = field(repr=False)
    id: bytes = b""
    entries: list[dict[str, Any]] = field(default_factory=list, repr=False)
    heads: list[bytes] = field(default_factory=list, repr=False)
    ids: list[bytes] = field(default_factory=list, repr=False)
    grants: dict[tuple[str, str], Grant] = field(default_factory=dict)
    runs: dict[str, Ran] = field(default_factory=dict)
    copied: str = ""

    @classmethod
    def read(cls, connection: sqlite3.Connection, home: Home, *, anywhere: bool = False) -> Book:
        """Return the record, begun where there is none; `connection` is in a transaction of `home`.

        Args:
          anywhere: also where the folder was copied.

        Raises:
          BudgetError: the folder was copied or its database replaced, or the record is not as it was written.
        """
        for statement in _TABLES:
            connection.execute(statement)
        inode = (home.path / "state.sqlite").stat().st_ino
        row = connection.execute("SELECT key, inode FROM budget_identity").fetchone()
        if row is None:
            row = (secrets.token_bytes(_KEY_BYTES), inode)
            connection.execute("INSERT INTO budget_identity VALUES (1, ?, ?)", row)
        if row[1] != inode and not anywhere:
            raise BudgetError(_COPIED.format(home.path))
        book = cls(connection, row[0], copied=_COPIED.format(home.path) if row[1] != inode else "")
        for number, content, head in connection.execute(
            "SELECT number, CAST(content AS BLOB), CAST(head AS BLOB) FROM budget_entries ORDER BY number"
        ):
            before = book.heads[-1] if book.heads else START
            if number != len(book.heads) + 1 or head != next_head(before, content):
                raise BudgetError(
                    f"entry {number} of the budgets in {home.path} is not as it was written; put back the newest copy of "
                    "the folder"
                )
            book._take(number, content)
        if not book.entries:
            book.write("began", id=_new_id().hex())
        return book

    @property
    def token(self) -> Token:
        """What peers are told of the record."""
        return Token.made(self.key, self.id, len(self.entries), self.heads[-1])

    def write(self, kind: str, **content: Any) -> int:
        """Add an entry, and return its number; it is on the disk when the transaction has ended."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        data = json.dumps({"kind": kind, "at": now, **content}, sort_keys=True).encode()
        number = len(self.entries) + 1
        self._take(number, data)
        self.connection.execute("INSERT INTO budget_entries VALUES (?, ?, ?)", (number, data, self.heads[-1]))
        return number

    # What is granted, and what is spent.

    def grant(self, grant: Grant) -> None:
        """Set a budget or a quota in the place of the one before; what is spent stays spent.

        Raises:
          UsageError: nothing is granted, or other accounting of a budget from which something is spent.
        """
        if grant.allowance is None and grant.runs is None:
            raise UsageError("expected --epsilon, --runs or both")
        if grant.runs is not None and grant.runs < 0:
            raise UsageError(f"expected 0 runs or more, got {grant.runs}")
        old = self.grants.get((grant.data_set, grant.pattern))
        if old is not None and old.allowance is not None and not old.closed:
            new = grant.allowance or old.allowance
            if (old.allowance.accounting, old.allowance.unit) != (new.accounting, new.unit) and self.releases(
                old
            ):
                raise UsageError(
                    f"the budget of {old.about} has {old.allowance.accounting} accounting for each {old.allowance.unit}, "
                    "and something is spent from it, so neither can change"
                )
            if old.allowance.accounting == "concentrated" and old.allowance.delta != new.delta:
                raise UsageError(
                    f"the budget of {old.about} is accounted at delta {old.allowance.delta}; keep it"
                )
            grant = replace(grant, allowance=new)
        if old is not None and not old.closed and grant.runs is None:
            grant = replace(grant, runs=old.runs)
        self.write("granted", **msgspec.to_builtins(grant))

    def ran(self, grant: Grant) -> list[Ran]:
        """Return the runs that count for a grant."""
        return [
            run
            for run in self.runs.values()
            if any(grant.matches(table, run.pattern) for table in run.tables)
        ]

    def releases(self, grant: Grant) -> list[Spending]:
        """Return the releases that count for a grant; one of several tables counts once."""
        return [
            release
            for run in self.ran(grant)
            for release in run.releases
            if any(grant.matches(table, run.pattern) for table in release.tables)
        ]

    def check(self, job: Job, me: PartyId, *, resumes: bytes | None = None) -> None:
        """Refuse a run for which there is no budget; one that is spent and goes on needs no other.

        Args:
          resumes: the first session of a run that goes on.

        Raises:
          BudgetError: there is none, or not enough is left.
        """
        tables, releases = costs_of(job, me)
        pattern = job.pattern.name
        if self.is_spent(job, resumes):
            return
        for release in releases:
            for table in release.tables:
                found = [g for g in self.grants.values() if g.matches(table, pattern)]
                if not any(g.allowance is not None for g in found):
                    raise BudgetError(
                        f"{me} has set no privacy budget for {table} in {pattern}, and the job spends epsilon "
                        f"{release.epsilon:g} on it; {me} decides, with `secagg budget set {table} {pattern} --epsilon E`"
                    )
        for grant in self.grants.values():
            if any(grant.matches(table, pattern) for table in tables):
                self._check_grant(grant, me, pattern, releases)

    def spend(self, job: Job, me: PartyId, *, session: bytes, resumes: bytes | None) -> bool:
        """Write a run down as spent, or as going on; return whether this session spent it.

        A party that puts in nothing spends nothing.

        Raises:
          BudgetError: as `check`; or the run that goes on is of another job.
        """
        tables, releases = costs_of(job, me)
        if not tables:
            return False
        self.check(job, me, resumes=resumes)
        first = (resumes or session).hex()
        about: dict[str, Any] = {
            "run": first,
            "session": session.hex(),
            "job": job.name,
            "digest": job.digest.hex(),
        }
        if self.is_spent(job, resumes):
            self.write("resumed", **about)
            return False
        if first in self.runs:
            raise BudgetError(
                f"{job.name} cannot go on: the run that is spent is of another job; start it anew"
            )
        self.write(
            "spent",
            pattern=job.pattern.name,
            tables=list(tables),
            releases=[msgspec.to_builtins(one) for one in releases],
            **about,
        )
        return True

    def give_back(self, session: bytes, resumes: bytes | None) -> None:
        """Give a run back that this session spent, before anything was shared; not where another one goes on with it."""
        run = self.runs.get((resumes or session).hex())
        if run is not None and run.session == session.hex() and not run.went_on:
            self.write("returned", run=run.run, session=run.session)

    def is_spent(self, job: Job, resumes: bytes | None) -> bool:
        """Return whether a run goes on with one of the same job that is spent here."""
        first = self.runs.get(resumes.hex()) if resumes is not None else None
        return first is not None and first.digest == job.digest.hex()

    def _check_grant(self, grant: Grant, me: PartyId, pattern: str, releases: Sequence[Spending]) -> None:
        new = [r for r in releases if any(grant.matches(table, pattern) for table in r.tables)]
        name = f"{me}'s budget of {grant.about}"
        again = (
            f"{me} decides whether to set another with `secagg budget set {grant.data_set} {grant.pattern}`"
        )
        if grant.closed and (new or grant.runs is not None):
            raise BudgetError(f"{name} is taken as spent since its record was begun anew; {again}")
        if grant.runs is not None and len(self.ran(grant)) >= grant.runs:
            raise BudgetError(f"{name} is spent: {grant.runs} runs were allowed and made; {again}")
        if grant.allowance is None or not new:
            return
        for release in new:
            grant.allowance.check_kind(release)
        before = self.releases(grant)
        if not grant.allowance.fits([*before, *new]):
            spent, _ = grant.allowance.spent(before)
            raise BudgetError(
                f"{name} has not enough left: epsilon {spent:.4g} of {grant.allowance.epsilon:g} is spent at delta "
                f"{grant.allowance.delta:g} ({grant.allowance.accounting} accounting), and the run costs epsilon "
                f"{sum(r.epsilon for r in new):.4g} more; {again}"
            )

    # What peers were seen to have.

    def remembered(self) -> dict[PartyId, Token]:
        """Return the token that was last seen of each peer."""
        found = self.connection.execute("SELECT name, token FROM budget_peers").fetchall()
        return {name: Token.from_bytes(token, peer=name) for name, token in found}

    def remember(self, seen: Mapping[PartyId, Token]) -> None:
        """Keep what peers showed; a run that ends later and began earlier brings nothing back."""
        known = self.remembered()
        for name, token in seen.items():
            old = known.get(name)
            if old is None or old.id != token.id or old.count < token.count:
                self.connection.execute(
                    "INSERT OR REPLACE INTO budget_peers VALUES (?, ?)", (name, token.to_bytes())
                )

    def accept(self, name: PartyId) -> None:
        """Forget what a peer was seen to have, so that its record may be another one from now on.

        Raises:
          UsageError: nothing was seen of it.
        """
        if self.connection.execute("DELETE FROM budget_peers WHERE name = ?", (name,)).rowcount == 0:
            raise UsageError(f"nothing is remembered of {name!r:.80}; see the names in `secagg budget show`")
        self.write("accepted", peer=name)

    def restart(self, reason: str) -> None:
        """Begin the record anew after an old copy was put back; all that was granted is taken as spent."""
        self.write("restarted", id=_new_id().hex(), reason=reason)

    def move(self, home: Home) -> None:
        """Let the record go on in this folder, which is a copy of the one where it was last written."""
        inode = (home.path / "state.sqlite").stat().st_ino
        self.connection.execute("UPDATE budget_identity SET inode = ?", (inode,))
        self.write("moved")

    def _take(self, number: int, content: bytes) -> None:
        entry = json.loads(content)
        self.entries.append({"number": number, **entry})
        self.heads.append(next_head(self.heads[-1] if self.heads else START, content))
        match entry["kind"]:
            case "began" | "restarted":
                self.id = bytes.fromhex(entry["id"])
                self.ids.append(self.id)
                self.runs.clear()
                self.grants = {key: replace(grant, closed=True) for key, grant in self.grants.items()}
            case "granted":
                known = {name: entry[name] for name in ("data_set", "pattern", "allowance", "runs")}
                grant = msgspec.convert(known, Grant)
                self.grants[grant.data_set, grant.pattern] = grant
            case "spent":
                known = {
                    name: entry[name]
                    for name in ("at", "run", "session", "job", "digest", "pattern", "tables", "releases")
                }
                self.runs[entry["run"]] = msgspec.convert({"number": number, **known}, Ran)
            case "resumed":
                if (run := self.runs.get(entry["run"])) is not None:
                    self.runs[entry["run"]] = replace(run, went_on=True)
            case "returned":
                self.runs.pop(entry["run"], None)


def costs_of(job: Job, me: PartyId) -> tuple[tuple[str, ...], list[Spending]]:
    """Return which tables a party puts in, and what the run spends on them; nothing at one that puts in none."""
    if me not in job.input_parties:
        return (), []
    tables = tuple(job.pattern_at(me).inputs)
    releases = [
        replace(one, tables=own)
        for one in job.spends()
        if (own := tuple(table for table in one.tables if table in tables))
    ]
    return tables, releases


def _new_id() -> bytes:
    """Return the id of a record; a later one is larger, for a reader's eyes."""
    made = time.time_ns() // 1_000_000
    return made.to_bytes(_TIME_BYTES, "big") + secrets.token_bytes(ID_BYTES - _TIME_BYTES)
