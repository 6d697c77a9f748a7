"""The gate that spends a run before anything is shared, and compares what parties remember of each other's budgets.

  statement  the run is written down as spent, once by its first session, and told is the record's token; see `chain`
  check      peers' records did not go back, and this one holds all that peers remember of it
  commit     what peers showed is remembered
  close      a run that ended before its commit is given back; after that it stays spent

A process that dies leaves the run spent. So does one that dies before its commit, when nothing was shared yet.

Threat model: owners' programs are unaltered, and their folders may be copied, put back or used twice. An owner that alters
its program spends only its own data. A peer can end a run, and cannot make an owner's record look restored to others.

Learns: everybody, each party's number of entries, and which peers it remembers with which number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from secagg.errors import BudgetError, RemoteProtocolError
from secagg.home import Home
from secagg.jobs.gates import Outcome, RunAtHand
from secagg.jobs.job import Job
from secagg.joint.budget.book import Book, costs_of
from secagg.joint.budget.chain import Token
from secagg.party import PartyId
from secagg.patterns.pattern import Spending

__all__ = ["BudgetGate", "Statement"]


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a party tells of its budget.

    Attributes:
      token: of its record, this run included.
      remembered: the token that it last saw of each other party of the run.
      tables, releases: what it spends.
    """

    token: bytes
    remembered: dict[str, bytes]
    tables: list[str]
    releases: list[Spending]


class BudgetGate:
    """One party's gate for one run; see the module."""

    name: Final = "budget"

    def __init__(self, home: Home) -> None:
        self._home = home
        self._spent = False
        self._committed = False
        self._known: dict[PartyId, Token] = {}
        self._seen: dict[PartyId, Token] = {}

    def ready(self, job: Job, me: PartyId) -> None:
        """Refuse a run for which this party has no budget; one that may go on from a checkpoint is asked later.

        Raises:
          BudgetError: there is none left, or the folder is a copy.
        """
        with self._home.transaction() as connection:
            book = Book.read(connection, self._home)
            if all(run.digest != job.digest.hex() for run in book.runs.values()):
                book.check(job, me)

    def statement(self, run: RunAtHand) -> bytes:
        """Spend the run; raises as `ready`."""
        with self._home.transaction() as connection:
            book = Book.read(connection, self._home)
            self._spent = book.spend(run.job, run.me, session=run.session, resumes=run.resumes)
            known, token = book.remembered(), book.token
        self._committed = False
        self._known = {name: known[name] for name in run.job.roster if name in known and name != run.me}
        tables, releases = costs_of(run.job, run.me)
        shown = {name: one.to_bytes() for name, one in self._known.items()}
        return msgspec.msgpack.encode(Statement(token.to_bytes(), shown, list(tables), releases))

    def check(self, run: RunAtHand, statements: Mapping[PartyId, bytes]) -> None:
        """Compare what parties show with what they remember.

        Raises:
          RemoteProtocolError: a peer's record went back, is another one, or says that this one is what it never was.
          BudgetError: this party's record is older than what a peer has seen of it.
        """
        others = {name: _read(data, name) for name, data in statements.items() if name != run.me}
        self._seen = {name: Token.from_bytes(told.token, peer=name) for name, told in others.items()}
        for name, token in self._seen.items():
            if (known := self._known.get(name)) is not None:
                _check_peer(name, token, known)
        with self._home.transaction() as connection:
            book = Book.read(connection, self._home)
        for name, told in others.items():
            if (data := told.remembered.get(run.me)) is not None:
                _check_own(book, run.me, name, Token.from_bytes(data, peer=name))
            _check_costs(run.job, name, told)

    def commit(self, run: RunAtHand) -> None:  # noqa: ARG002
        """Remember what the others showed; from here on the run stays spent."""
        with self._home.transaction() as connection:
            Book.read(connection, self._home).remember(self._seen)
        self._committed = True

    def close(self, run: RunAtHand, outcome: Outcome) -> None:  # noqa: ARG002
        """Give back a run that this session spent and that ended before anything was shared."""
        if self._spent and not self._committed:
            with self._home.transaction() as connection:
                Book.read(connection, self._home).give_back(run.session, run.resumes)


def _read(data: bytes, peer: PartyId) -> Statement:
    try:
        return msgspec.msgpack.decode(data, type=Statement)
    except msgspec.MsgspecError:
        raise RemoteProtocolError(
            f"expected the state of {peer}'s budget, got something else; does it run the same release?",
            peer=peer,
        ) from None


def _check_peer(name: PartyId, token: Token, known: Token) -> None:
    accept = f"then everybody who remembers the old one runs `secagg budget accept {name}`"
    if token.id != known.id:
        raise RemoteProtocolError(
            f"{name}'s record of budgets was begun anew since the last run with it, so what it had spent is not in it. Ask "
            f"{name} why; {accept}",
            peer=name,
        )
    if token.is_before(known):
        raise RemoteProtocolError(
            f"{name}'s record of budgets went back: expected more than {known.count} entries or these very ones, got "
            f"{token.count}. It was put back from a backup, or a copy of the folder was used. (Two runs that crossed look "
            f"the same; start again.) {name} uses the newest folder, or runs `secagg budget restart`; {accept}",
            peer=name,
        )


def _check_own(book: Book, me: PartyId, peer: PartyId, remembered: Token) -> None:
    if not remembered.is_made_with(book.key):
        raise RemoteProtocolError(
            f"{peer} remembers a record of {me}'s budgets that this folder never made. Where {me}'s folder was made anew, "
            f"{peer} runs `secagg budget accept {me}`; else ask {peer} what it runs",
            peer=peer,
        )
    former = remembered.id in book.ids[:-1]  # then the peer asks for its own word
    held = 0 < remembered.count <= len(book.heads) and book.heads[remembered.count - 1] == remembered.head
    if not former and not (remembered.id == book.id and held):
        raise BudgetError(
            f"{me}'s record of budgets is an old or another copy: {peer} has seen {remembered.count} entries of it, and it "
            f"does not hold them. Use the newest folder. Where that is gone, run `secagg budget restart` at {me}, which "
            f"takes all that was granted as spent, and then `secagg budget accept {me}` at everybody else"
        )


def _check_costs(job: Job, name: PartyId, told: Statement) -> None:
    tables, releases = costs_of(job, name)
    if (tuple(told.tables), told.releases) != (tables, releases):
        raise RemoteProtocolError(
            f"{name} spends another budget than the job asks of it; do all run the same release?", peer=name
        )
