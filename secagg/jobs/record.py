"""What a party keeps of a run: its result, a record to be compared with others', and a private part of the record.

Neither the record nor its private part holds an identifier or an amount of anybody's. Digests of files, the salt of a
commitment and numbers of one's own are in the private part alone, for they let others test guesses. The record, which is
signed, holds the private part's SHA-256, and the private part that of the result. A fresh salt of 32 bytes in the private
part lets nobody test guesses of it. `seal` makes these digests before anything is written, so that an audit log has them.

A run that fails or is stopped leaves a record too. It says how far the run came, why it ended, and who was named.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import math
import platform
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from secagg import release, wire
from secagg.errors import AbortedError, CheatingError, JobError, SecaggError, UsageError
from secagg.jobs.computed import query_of
from secagg.jobs.job import Job
from secagg.jobs.output import Output, private_suffix
from secagg.jobs.results import contract_fault, result_csv
from secagg.jobs.signature import FORMAT, PRIVATE, sign_record
from secagg.ledger import Ledger
from secagg.network.identity import Identity, fingerprint
from secagg.party import PartyId
from secagg.patterns.pattern import Agreed, Disclosure, Result, Risk
from secagg.printable import printable
from secagg.query.schema import Schema

_TABLE: Final = ".csv"
_SALT_BYTES: Final = 32
_LIBRARIES: Final = ("numpy", "cryptography", "msgspec")


@dataclass(frozen=True, slots=True)
class PartyResult:
    """What one party has at the end of a run.

    Attributes:
      columns: of the result table.
      rows: what it was told; None at a party that is told nothing.
      record: plain data.
    """

    me: PartyId
    job: Job
    columns: Schema
    rows: Result | None = field(repr=False)
    record: dict[str, Any]

    def write(self, output: Output, identity: Identity) -> tuple[Path | None, Path]:
        """Write the result, if there is one, and the signed record; return where they are.

        They are readable by their owner alone, and elsewhere than in `output` where they cannot be written there.

        Raises:
          UsageError: they can be written nowhere.
        """
        files = {}
        if self.rows is not None:
            files[_TABLE] = self._table()
        self.seal()
        written = output.keep(files | _record_files(self.record, output, identity, suffix=".json"))
        return written.get(_TABLE), written[".json"]

    def seal(self) -> None:
        """Bind the result and the private part to the record, which is not changed afterwards; once is enough."""
        if "private" in self.record:
            return
        if self.rows is not None:
            name = f"{self.me}.{self.job.name}{_TABLE}"
            self.record["result"] = {"file": name, "sha256": hashlib.sha256(self._table()).hexdigest()}
        seal(self.record)

    def _table(self) -> bytes:
        return result_csv(self.columns, self.rows or [], decimals=self.job.data.currency_decimals).encode()


def seal(record: dict[str, Any]) -> None:
    """Put the salt of the private part into a record, and the private part's digest."""
    record["salt"] = secrets.token_hex(_SALT_BYTES)
    record["private"] = {"sha256": hashlib.sha256(_private_part(record)).hexdigest()}


def write_record(record: Mapping[str, Any], output: Output, identity: Identity, *, suffix: str) -> Path:
    """Write a sealed record and its private part, and return where the record is."""
    return output.keep(_record_files(record, output, identity, suffix=suffix))[suffix]


def _record_files(
    record: Mapping[str, Any], output: Output, identity: Identity, *, suffix: str
) -> dict[str, bytes]:
    """Return the private part of a record, and the rest, signed with the private part's digest; by suffix."""
    shared = {name: value for name, value in record.items() if name not in PRIVATE}
    own = private_suffix(suffix)
    shared["private"] = {"file": output.path(own).name, **record["private"]}
    return {own: _private_part(record), suffix: _json(sign_record(shared, identity))}


def _private_part(record: Mapping[str, Any]) -> bytes:
    return _json({name: record[name] for name in PRIVATE if name in record})


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def declared(job: Job, agreed: Agreed) -> dict[str, Any]:
    """Return what a record says in the pattern's words: what was announced, what is opened, what may go wrong.

    It is asked for before the computation, so that a pattern that fails here costs nobody a result. Secrets among what
    was announced are in their owner's private part alone.

    Raises:
      UsageError: no record can hold it. That is a fault of the pattern's program.
      PlanError: more rows than the job allows.
    """
    opened, may_happen = job.disclosures(), job.risks(agreed.rows)
    if not all(isinstance(one, Disclosure) for one in opened) or not all(
        isinstance(one, Risk) for one in may_happen
    ):
        raise contract_fault(job, "expected Disclosures of opens, and Risks of risks")
    if len({risk.name for risk in may_happen}) < len(may_happen):
        raise contract_fault(job, "expected Risks of different names")
    found = {
        "announced_rows": dict(agreed.rows),
        "agreed": dict(agreed.recorded),
        "risks": {risk.name: _finite(risk.log2) for risk in may_happen},
        "agreed_private": dict(agreed.private),
        "opened": [asdict(one) for one in opened],
    }
    try:
        _json(found)
    except (TypeError, ValueError) as error:
        # The error's text names a type, and holds no value but nan or inf.
        raise contract_fault(job, f"expected what JSON can hold of agree, opens and risks: {error}") from None
    return found


def described_job(job: Job, me: PartyId) -> dict[str, Any]:
    """Return what a record says of the job, however the run ends; plain data.

    It asks the pattern, so it is called before the run: a pattern that fails here costs nobody a result.

    Raises:
      JobError: the job was loaded without certificates.
    """
    return {
        "digest": job.digest.hex(),
        "pattern": {"name": job.pattern.name, **asdict(job.installed.origin), **_query(job)},
        "parameters": _parameters(job),
        "window": job.window.shown(),
        "conventions": job.data.agreed(job.identifiers),
        "generalise": job.shown_recipe(),
        "approval": job.approval,
        "pad_rows_to": job.pad_rows_to,
        "max_rows": job.max_rows,
        "party": me,
        "parties": [
            {"name": peer.name, "certificate": fingerprint(peer.certificate)} for peer in job.peers()
        ],
        "roles": dict(job.roles),
        "trust": job.trust(),
        "versions": versions(),
    }


def _parameters(job: Job) -> dict[str, str]:
    """Return the parameters; of a query's texts, which may name an account, digests."""
    shown = job.shown_parameters()
    query = query_of(job.pattern)
    for name, value in ({} if query is None else query.values).items():
        if isinstance(value, str):
            shown[name] = f"sha256 {hashlib.sha256(value.encode()).hexdigest()}"
    return shown


def _query(job: Job) -> dict[str, str]:
    """Return digests of what a query is; its text may name an account."""
    query = query_of(job.pattern)
    if query is None:
        return {}
    return {
        f"{name}_sha256": hashlib.sha256(text.encode()).hexdigest()
        for name, text in (
            ("sql", query.sql),
            ("tables", query.declared),
            *((f"rules.{owner}", text) for owner, text in query.rules.items()),
        )
    }


def record(
    job: Job,
    me: PartyId,
    *,
    about_job: Mapping[str, Any],
    session: bytes,
    started: datetime.datetime,
    timings: Mapping[str, float],
    declared: Mapping[str, Any] | None,
    result_rows: int | None,
    ledger: Ledger | None,
    reached: str,
    error: BaseException | None = None,
) -> dict[str, Any]:
    """Return the record of a run as plain data: what was agreed, what it cost, what was opened to whom.

    Args:
      about_job: of `described_job`.
      declared: of the function of this name, None where the run ended before.
      result_rows: how many rows this party was told, None where it was told nothing.
      ledger: None where the parties did not meet.
      reached: the phase.
      error: why the run failed. The record then does not say which results were opened.
    """
    complete = error is None
    known = declared or {"announced_rows": {}, "agreed": {}, "risks": {}, "agreed_private": {}}
    return {
        "format": FORMAT,
        "job": job.name,
        "outcome": "complete" if complete else "failed" if isinstance(error, Exception) else "stopped",
        "reached": reached,
        "error": None if error is None else _error(error, me),
        "session": session.hex(),
        **about_job,
        **known,
        "result_rows": result_rows,
        "opened": known["opened"] if complete else None,
        "started": started.isoformat(timespec="milliseconds"),
        "ended": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "timings": dict(timings),
        "ledger": None if ledger is None else ledger.as_dict(),
    }


def _error(error: BaseException, me: PartyId) -> dict[str, Any]:
    """Return why a run ended, and who did it.

    Who was seen doing it is `named`, "" for nobody. Whom that party's word alone accuses is `accused`. Of `suspects`, two or
    one, one lied.
    """
    if not isinstance(error, SecaggError):
        # What others say may quote data.
        notes = "; ".join(getattr(error, "__notes__", ()))
        kind = type(error).__name__ if isinstance(error, Exception) else "stopped"
        return {"type": kind, "message": printable(notes), "named": me, "accused": "", "suspects": []}
    own = isinstance(error, UsageError) and not isinstance(error, JobError)
    named = me if own else str(getattr(error, "peer", ""))
    accused = error.accused if isinstance(error, AbortedError) else ""
    suspects = list(error.suspects) if isinstance(error, CheatingError) else []
    return {
        "type": type(error).__name__,
        "message": error.for_record(),
        "named": named,
        "accused": accused,
        "suspects": suspects,
    }


def _finite(value: float) -> float | None:
    """Return a logarithm, None for that of zero: JSON knows no infinity, and refuses all others."""
    return None if value == -math.inf else value


def versions() -> dict[str, str]:
    """Return the versions of what computes here."""
    return {
        "secagg": release.RELEASE,
        "wire": str(wire.VERSION),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        **{name: importlib.metadata.version(name) for name in _LIBRARIES},
    }
