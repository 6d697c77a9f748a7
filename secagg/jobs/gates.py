"""Gates: what parties check of each other, and write down for good, before anybody shares data.

  told      each party tells all others the statement of each of its gates, signed over session and job
  passed    each party tells all others that its own checks passed, and digests of what it was told
  (commit)  each gate writes what must not be lost to the disk, such as that a run is spent, before any share is sent

All parties of a run have the same gates. Their names are part of what parties compare when they meet.

Threat model. All other parties may deviate in any way. Each gate's own docstring says what it checks. This module makes sure
that no party passes with statements that another party did not see: all compare digests of what they were told. A party
that told two others different statements is found out before any commit, and its signature is under each of them. A party
that stops after the others passed costs them what their commits spent, and no data is shared with it.

Learns: everybody, all statements.
Cost, n parties: 2 rounds, 2 (n - 1) messages from each party, no arrays.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, runtime_checkable

from cryptography.exceptions import InvalidSignature

from secagg.cost.operation import Cost
from secagg.errors import (
    AuthenticationError,
    CheatingError,
    RefusedError,
    RemoteProtocolError,
    SecaggError,
    UsageError,
)
from secagg.jobs.job import Job
from secagg.jobs.signature import check_signed, signed
from secagg.network.hello import FIELD_DIGEST_BYTES
from secagg.network.identity import Identity
from secagg.party import Party, PartyId
from secagg.patterns.pattern import Contribution, Tables
from secagg.signing import digest
from secagg.wire import SMALL_BYTES, Message

PHASE: Final = "gates"
APPROVAL: Final = "approval"  # the gate without which no job runs that needs approvals
_LABEL: Final = "secagg.jobs.gates"
_LARGEST: Final = SMALL_BYTES // 2  # bytes of one party's statements together; the message has headers too
_FIELD: Final = "checks before sharing"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunAtHand:
    """A run whose parties have met.

    Attributes:
      session: of the network connection, unique to it.
      resumes: the first session of a run that goes on from a checkpoint, else None.
      rows: what the input parties announced; empty where the run ended before they did.
      contribution: this party's own data as it will enter; None at a party that puts in none.
      stated: what the gates of all parties stated; empty before all checks have passed.
    """

    job: Job
    me: PartyId
    session: bytes
    resumes: bytes | None
    rows: Mapping[PartyId, int]
    contribution: Contribution | None = field(repr=False)
    stated: Mapping[PartyId, GateStatements] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: its record, and the error that ended it, None for a run that ended well."""

    record: Mapping[str, Any]
    error: BaseException | None


class Gate(Protocol):
    """One thing that is checked between the parties of a run; gates are called in the order of their names."""

    @property
    def name(self) -> str:
        """Return the gate's name, the same at all parties."""

    def ready(self, job: Job, me: PartyId) -> None:
        """Refuse early what would be refused later, before this party connects."""

    def statement(self, run: RunAtHand) -> bytes:
        """Return what the other parties are told, in MessagePack; data is read and rows are announced."""

    def check(self, run: RunAtHand, statements: Mapping[PartyId, bytes]) -> None:
        """Raise where the statements, this party's own among them, do not allow the run.

        The error names the party, what was expected and what to do. All parties read the text of a `JobError`, of a
        `RefusedError`, and of an error about a peer.
        """

    def commit(self, run: RunAtHand) -> None:
        """Write down for good what the run costs; all checks have passed, and nothing is shared before it returns."""

    def close(self, run: RunAtHand, outcome: Outcome) -> None:
        """Note how the run ended; called once the parties have met, also where no other method was."""


@runtime_checkable
class Screen(Protocol):
    """A gate that also decides which of this party's own rows enter; called at an input party, before `statement`."""

    def admit(self, job: Job, me: PartyId, tables: Tables) -> Tables:
        """Return the rows that may enter, as they were read; raise where none may."""

    def screen(self, job: Job, me: PartyId, tables: Tables) -> Tables:
        """Return the rows as they enter, made coarser as the job says; raise where they tell too much of somebody."""

    def described(self) -> dict[str, Any]:
        """Return what the record's private part says of it."""


class GateStatements(Message, frozen=True):
    """Told, everybody -> everybody: statements by gate, and the sender's signature of them."""

    statements: dict[str, bytes]
    signature: bytes


class GatesPassed(Message, frozen=True):
    """Passed, everybody -> everybody: digests of what each party told the sender, in roster order."""

    heard: list[bytes]


def agreement(job: Job, gates: Iterable[str]) -> tuple[bytes, dict[str, bytes]]:
    """Return what parties compare when they meet, as a digest and by field: the job, and their gates by name.

    Without gates the digest is the job's, which people compare by its fingerprint.

    Args:
      gates: their names, in any order.
    """
    names = ", ".join(sorted(gates))
    told = digest(_LABEL, [job.digest, names.encode()])
    # A job that differs is named by its own fields, and not by its gates too.
    same_gates = digest(f"{_LABEL} names", [names.encode()])[:FIELD_DIGEST_BYTES]
    return told if names else job.digest, {**job.field_digests, f"{_FIELD} ({names or 'none'})": same_gates}


def cost(roster: Sequence[PartyId], gates: Sequence[Gate]) -> Cost:
    """Return what the messages of gates cost."""
    sent = 2 * (len(roster) - 1) if gates else 0
    return Cost(2 if gates else 0, dict.fromkeys(roster, 0), dict.fromkeys(roster, sent))


def ordered(gates: Sequence[Gate]) -> tuple[Gate, ...]:
    """Return gates in the order of their names.

    Raises:
      UsageError: two have the same name.
    """
    found = tuple(sorted(gates, key=lambda gate: gate.name))
    if len({gate.name for gate in found}) < len(found):
        raise UsageError(f"expected gates of different names, got {', '.join(gate.name for gate in found)}")
    return found


async def pass_gates(
    party: Party, run: RunAtHand, gates: Sequence[Gate], identity: Identity
) -> dict[PartyId, GateStatements]:
    """Let all gates check and commit; return what every party stated, for the record.

    Args:
      gates: in the order of their names.
      identity: whose key signs.

    Raises:
      RefusedError: a gate of this party refuses, or cannot write down what it must.
      AuthenticationError: a peer's statements do not have its signature.
      CheatingError: somebody told two parties different statements.
      RemoteProtocolError: a peer has other gates.
    """
    own = _own_statements(run, gates, identity)
    party.broadcast(own)
    told = {run.me: own} | await party.gather(GateStatements, party.others)
    told = {name: told[name] for name in party.roster}
    certificates = {peer.name: peer.certificate for peer in run.job.peers()}
    for name, message in told.items():
        if sorted(message.statements) != [gate.name for gate in gates]:
            raise RemoteProtocolError(
                f"expected statements of {', '.join(gate.name for gate in gates)} from {name}, got other ones; do all run "
                "the same release, with the same kind of home folder?",
                peer=name,
            )
        check_statements(
            message, session=run.session, job=run.job.digest, key=certificates[name].public_key(), peer=name
        )
    for gate in gates:
        with _refusing(run, gate):
            gate.check(run, {name: message.statements[gate.name] for name, message in told.items()})
    heard = [_digest_of(name, message) for name, message in told.items()]
    party.broadcast(GatesPassed(heard))
    for name, passed in (await party.gather(GatesPassed, party.others)).items():
        _check_told_same(passed.heard, heard, party, name)
    passed_all = replace(run, stated=told)
    for gate in gates:
        with _refusing(run, gate):
            gate.commit(passed_all)
    return told


def check_statements(
    message: GateStatements, *, session: bytes, job: bytes, key: object, peer: PartyId
) -> None:
    """Check that a party signed its statements for this session and job.

    Args:
      job: its digest.
      key: the public key of the party's certificate.

    Raises:
      AuthenticationError: it did not.
    """
    try:
        check_signed(key, message.signature, _signed_digest(session, job, peer, message.statements))
    except InvalidSignature:
        raise AuthenticationError(
            f"expected {peer}'s signature of what its gates state, got one that does not fit", peer=peer
        ) from None


def recorded(told: Mapping[PartyId, GateStatements]) -> dict[str, Any]:
    """Return statements as a record holds them: plain data, in base64."""
    return {
        name: {
            "statements": {gate: _base64(statement) for gate, statement in message.statements.items()},
            "signature": _base64(message.signature),
        }
        for name, message in told.items()
    }


def from_record(entry: Mapping[str, Any]) -> GateStatements:
    """Return what `recorded` made of one party's statements.

    Raises:
      UsageError: it is something else.
    """
    try:
        statements = {
            str(gate): base64.b64decode(text, validate=True) for gate, text in entry["statements"].items()
        }
        return GateStatements(statements, base64.b64decode(entry["signature"], validate=True))
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UsageError(
            "expected statements of gates as a run record has them, got something else"
        ) from None


def close_all(gates: Sequence[Gate], run: RunAtHand, outcome: Outcome) -> None:
    """Tell all gates how the run ended; a gate that cannot note this is logged as a warning, for the run is over."""
    for gate in gates:
        try:
            gate.close(run, outcome)
        except (SecaggError, OSError, sqlite3.Error) as error:
            _log.warning("the %s gate of %s could not note how the run ended: %s", gate.name, run.me, error)


def _own_statements(run: RunAtHand, gates: Sequence[Gate], identity: Identity) -> GateStatements:
    statements: dict[str, bytes] = {}
    for gate in gates:
        with _refusing(run, gate):
            statements[gate.name] = gate.statement(run)
    size = sum(map(len, statements.values()))
    if size > _LARGEST:
        raise UsageError(f"expected statements of gates of at most {_LARGEST} bytes together, got {size}")
    content = _signed_digest(run.session, run.job.digest, run.me, statements)
    return GateStatements(statements, signed(identity.secret_key, content))


@contextlib.contextmanager
def _refusing(run: RunAtHand, gate: Gate) -> Iterator[None]:
    """Say whose gate refused, where the body raises."""
    try:
        yield
    except SecaggError as error:
        if not cannot_write(error):
            peer = getattr(error, "peer", "") or run.me
            whose = f"{run.me}'s {gate.name} gate refuses this run"
            raise RefusedError(
                f"{whose}: {error}", peer=peer, told=f"{whose}: {error.for_peers()}"
            ) from error
        raise _cannot_write(run, gate, str(error)) from error
    except (OSError, sqlite3.Error) as error:
        raise _cannot_write(run, gate, f"{error}; nothing was shared") from error


def _cannot_write(run: RunAtHand, gate: Gate, why: str) -> RefusedError:
    # What this party is told may name files; others are told the kind alone.
    whose = f"{run.me}'s {gate.name} gate cannot write what it must"
    return RefusedError(f"{whose}: {why}", peer=run.me, told=whose)


def cannot_write(error: BaseException | None) -> bool:
    """Return whether an error of this party is one of its disk or database, such as a full disk."""
    while isinstance(error, RefusedError | UsageError):
        error = error.__cause__
    return isinstance(error, OSError | sqlite3.Error)


def _check_told_same(theirs: Sequence[bytes], mine: Sequence[bytes], party: Party, peer: PartyId) -> None:
    if list(theirs) == list(mine):
        return
    differ = list(party.roster)
    if len(theirs) == len(mine):
        differ = [name for name, its, own in zip(party.roster, theirs, mine, strict=True) if its != own]
    # What the two told each other both know; of a third party's words one of the two may not tell the truth.
    suspects = (peer,) if len(theirs) != len(mine) or {party.me, peer} & set(differ) else (differ[0], peer)
    raise CheatingError.naming(
        suspects, f"{peer} was told other statements of {', '.join(differ)} than {party.me}"
    )


def _digest_of(name: PartyId, message: GateStatements) -> bytes:
    parts = [
        part for gate, statement in sorted(message.statements.items()) for part in (gate.encode(), statement)
    ]
    return digest(f"{_LABEL} heard", [name.encode(), message.signature, *parts])


def _signed_digest(session: bytes, job: bytes, name: PartyId, statements: Mapping[str, bytes]) -> bytes:
    parts = [part for gate, statement in sorted(statements.items()) for part in (gate.encode(), statement)]
    return digest(f"{_LABEL} statements", [session, job, name.encode(), *parts])


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
