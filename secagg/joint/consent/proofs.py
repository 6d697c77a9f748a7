"""Files that show that somebody was not in a run: made in the owner's folder, checked against a run record alone."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from cryptography import x509

from secagg.errors import AuthenticationError, UsageError
from secagg.files import check_format, read_file
from secagg.jobs.gates import check_statements, from_record
from secagg.joint.consent.absence import Absence, Cells, Root, check_absence
from secagg.joint.consent.gate import Statement, read_statement
from secagg.joint.consent.population import person_digest
from secagg.joint.consent.tables import create, key_for
from secagg.party import PartyId
from secagg.query.identifier_rules import Rule

__all__ = ["ProofFile", "check_proof", "make_proof", "read_proof", "was_there"]

FORMAT: Final = 1
_GATE: Final = "consent"
_MAX_BYTES: Final = 1 << 20


class ProofFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A proof of absence, and in which run of whose data it is; it names nobody."""

    format: int = FORMAT
    party: PartyId
    session: str
    absence: Absence

    def to_json(self) -> bytes:
        """Return the content of the proof's file."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"


class _Numbered(msgspec.Struct):
    format: int = FORMAT


def stated(record: Mapping[str, Any], party: PartyId) -> Statement:
    """Return what a party stated of its rows, by a run record.

    Raises:
      UsageError: the record holds no such statement.
    """
    try:
        entry = record["gates"][party]
    except (KeyError, TypeError):
        raise UsageError(
            f"the record holds nothing that {party!r:.80} stated: the run had no gates, ended before, or had no such party"
        ) from None
    found = from_record(entry).statements.get(_GATE)
    if found is None:
        raise UsageError(f"the record holds nothing that {party} stated of its rows")
    return read_statement(found, peer=party)


def was_there(
    connection: sqlite3.Connection, statement: Statement, session: str, text: str
) -> list[str] | None:
    """Return in which columns of a run a person was, by the owner's own memory; None where that is gone.

    Raises:
      UsageError: the text is no identifier by the run's rules.
    """
    create(connection)
    first = connection.execute("SELECT first FROM consent_filters WHERE session = ?", (session,)).fetchone()
    began = session if first is None else first[0]
    rows = connection.execute("SELECT name, persons FROM consent_populations WHERE session = ?", (began,))
    persons = {name: np.frombuffer(found, "<u8") for name, found in rows.fetchall()}
    if not persons:
        return None
    key, found = key_for(connection, "population"), []
    for column, spelt in _spelt(statement.columns, text).items():
        digest = np.frombuffer(person_digest(spelt.encode(errors="surrogatepass"), key), "<u8")
        held = persons.get(column.partition(".")[0])
        if held is None:
            raise UsageError(
                f"this folder's memory of the run has no {column}; is it the record of the party's own run?"
            )
        if np.isin(digest, held).any():
            found.append(column)
    return found


def make_proof(
    connection: sqlite3.Connection, statement: Statement, party: PartyId, session: str, text: str
) -> ProofFile:
    """Return the proof that a person was not in a run.

    Raises:
      UsageError: it was, or others hide that it was not; or this folder knows nothing of the run.
    """
    create(connection)
    row = connection.execute(
        "SELECT secret, cells, count FROM consent_filters WHERE session = ?", (session,)
    ).fetchone()
    if row is None:
        raise UsageError(
            f"this folder knows nothing of the run {session[:16]}; take the folder that the run was made with"
        )
    marked = np.unpackbits(np.frombuffer(row[1], np.uint8), count=row[2], bitorder="little").astype(bool)
    cells = Cells(row[0], marked)
    proof = cells.absence(_spelt(statement.columns, text))
    return ProofFile(party=party, session=session, absence=proof)


def check_proof(
    proof: ProofFile, record: Mapping[str, Any], text: str, certificate: x509.Certificate | None
) -> tuple[str, ...]:
    """Check a proof against a run record; return the columns in which the person was not.

    Args:
      record: whose signature was checked.
      certificate: of the party whose proof it is; without it, the record's signer vouches for what the party stated.

    Raises:
      AuthenticationError: it proves nothing.
    """
    if record.get("session") != proof.session:
        raise AuthenticationError("the proof is about another run than the record", peer=proof.party)
    statement = stated(record, proof.party)
    if certificate is not None:
        try:
            session, job = bytes.fromhex(proof.session), bytes.fromhex(str(record.get("digest")))
        except ValueError:
            raise AuthenticationError("the record names no session and no job", peer=proof.party) from None
        check_statements(
            from_record(record["gates"][proof.party]),
            session=session,
            job=job,
            key=certificate.public_key(),
            peer=proof.party,
        )
    root: Root | None = statement.absence
    if root is None:
        raise AuthenticationError(f"{proof.party} put nobody into this run", peer=proof.party)
    check_absence(proof.absence, root, _spelt(statement.columns, text))
    return tuple(statement.columns)


def read_proof(path: Path) -> ProofFile:
    """Read a proof from a file.

    Raises:
      UsageError: the file is none, or is of a later format.
    """
    content = read_file(path, what="the proof", max_bytes=_MAX_BYTES)
    with contextlib.suppress(msgspec.MsgspecError):
        check_format(msgspec.json.decode(content, type=_Numbered).format, FORMAT, what=str(path))
        proof = msgspec.json.decode(content, type=ProofFile)
        if proof.format == FORMAT:
            return proof
    raise UsageError(f"expected a proof of `secagg consent check` in {path}, found something else")


def _spelt(columns: Mapping[str, str], text: str) -> dict[str, str]:
    """Return how each column spells a person."""
    found = {}
    for column, rule in columns.items():
        canonical, refused = Rule(rule, (text,)).spell([text])
        if refused:
            raise UsageError(
                f"the identifier cannot stand in {column}: by the job's rule {rule} it {refused[0]}"
            )
        found[column] = canonical[0]
    return found
