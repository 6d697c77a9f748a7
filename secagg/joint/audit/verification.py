"""Checking one log offline: every entry is signed, and bound to the one before it.

The log alone does not show whether entries at its end are missing, or whether its party wrote it anew with its own key.
Whoever has a peer's log, a statement that a peer keeps, or an earlier copy compares with that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509

from secagg.errors import AuthenticationError, UsageError
from secagg.joint.audit.entry import END, KEY, START, Entry, check_signature
from secagg.joint.audit.gate import COMPLETE, record_digest
from secagg.joint.audit.log import Entries
from secagg.network.identity import check_certificate, fingerprint, load_certificate

_DIGEST: Final = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Run:
    """A run as one log has it.

    Attributes:
      start: its entry before anything was shared; None where the run ended before.
      ends: none where the party's program was ended from outside, or runs still. A party that learns only later that its
        run was complete notes that too.
    """

    session: str
    start: Entry | None
    ends: tuple[Entry, ...]

    @property
    def end(self) -> Entry | None:
        """Return its last entry."""
        return self.ends[-1] if self.ends else None

    @property
    def completions(self) -> tuple[Entry, ...]:
        """Return of its ends as complete the first with each record: more than one where the log has another record too."""
        whole = [entry for entry in self.ends if entry.content.get("outcome") == COMPLETE]
        return tuple({str(entry.content.get("record")): entry for entry in reversed(whole)}.values())[::-1]

    @property
    def counted(self) -> Entry | None:
        """Return the last of its ends that has digests of what passed over links."""
        return next((entry for entry in reversed(self.ends) if entry.content.get("links")), None)

    @property
    def about(self) -> Mapping[str, Any]:
        """Return what both entries have in common."""
        entry = self.start or self.end
        return {} if entry is None else entry.content

    @property
    def outcome(self) -> str:
        """Return "complete", "failed", "stopped", or "no end" where no entry says."""
        return "no end" if self.end is None else str(self.end.content.get("outcome"))


@dataclass(frozen=True, slots=True)
class VerifiedLog:
    """A log of which every entry was checked.

    Attributes:
      party: whose it is.
      certificates: those whose keys signed, in order, by fingerprint.
      unknown: fingerprints of those that nobody vouched for: the log alone names them.
    """

    party: str
    entries: tuple[Entry, ...]
    runs: tuple[Run, ...]
    certificates: Mapping[str, x509.Certificate]
    unknown: tuple[str, ...]
    torn_bytes: int

    @property
    def head(self) -> bytes:
        """Return the hash of the last entry."""
        return self.entries[-1].hash

    def run_of(self, session: str) -> Run | None:
        """Return the run of a session."""
        return next((run for run in self.runs if run.session == session), None)


def verify_log(log: Entries, certificates: Sequence[x509.Certificate] = ()) -> VerifiedLog:
    """Return a log after checking the signature of every entry.

    Args:
      certificates: the party's, as the party gave them: one, or several where its key was rotated. Without any, the
        log's own are taken, and whose they are remains to be compared.

    Raises:
      UsageError: the log is empty.
      AuthenticationError: an entry was changed, signed with another key, or signed with a certificate other than the given.
    """
    if not log.entries:
        raise UsageError(
            f"{log.path} holds no whole entry, and a log has at least one; is it the right file?"
        )
    given = {fingerprint(certificate): certificate for certificate in certificates}
    party = str(log.entries[0].content["party"])
    signers: dict[str, x509.Certificate] = {}
    current: x509.Certificate | None = None
    for entry in log.entries:
        where = f"{log.path}, entry {entry.number},"
        if entry.event == KEY:
            current = _certificate(entry, where)
        if current is None or fingerprint(current) != entry.certificate:
            raise AuthenticationError(
                f"{where} is signed with the certificate {entry.certificate:.120}, which no entry before it brings in",
                peer=party,
            )
        if given and entry.certificate not in given:
            raise AuthenticationError(
                f"{where} is signed with the certificate {entry.certificate}, which is none of those given; was the key "
                f"rotated? Then give all of {party}'s certificates",
                peer=party,
            )
        check_signature(entry, current, where=where)
        signers[entry.certificate] = current
    unknown = tuple(name for name in signers if name not in given)
    runs = _runs(log)
    return VerifiedLog(party, log.entries, runs, signers, unknown, len(log.torn))


def check_record(log: VerifiedLog, record: Mapping[str, Any]) -> Run:
    """Return the run of a record after checking that the log has this very record.

    Raises:
      AuthenticationError: the log does not have it, or has another one.
    """
    run = log.run_of(str(record.get("session")))
    if run is None or not run.ends or record.get("party") != log.party:
        raise AuthenticationError(
            f"{log.party}'s log has no end of the run that the record is of; is it the record of {log.party}?",
            peer=log.party,
        )
    digest = record_digest(record)
    if all(entry.content.get("record") != digest for entry in run.ends):
        raise AuthenticationError(
            f"the record is another one than {log.party}'s log has in entry {run.ends[-1].number}",
            peer=log.party,
        )
    return run


def _certificate(entry: Entry, where: str) -> x509.Certificate:
    try:
        certificate = load_certificate(str(entry.content.get("pem")).encode())
        # Another party's key signs nothing in this one's name. Whether it was valid then, a clock would have to say.
        party, at = str(entry.content["party"]), certificate.not_valid_before_utc
        check_certificate(certificate, name=party, at=at)
    except UsageError as error:
        raise AuthenticationError(
            f"{where} brings in a certificate that cannot be used: {error}", peer=""
        ) from None
    return certificate


def _runs(log: Entries) -> tuple[Run, ...]:
    runs: dict[str, Run] = {}
    for entry in log.entries:
        if entry.event not in (START, END):
            continue
        session = str(entry.content.get("session"))
        if not (_DIGEST.fullmatch(session) and _DIGEST.fullmatch(str(entry.content.get("digest")))):
            raise AuthenticationError(
                f"{log.path}, entry {entry.number}, is of a run, and has no session and fingerprint of a job",
                peer=str(entry.content["party"]),
            )
        known = runs.get(session, Run(session, None, ()))
        if entry.event == START and (known.start is not None or known.ends):
            raise AuthenticationError(
                f"{log.path}, entry {entry.number}, tells of session {session[:16]} again; a session is never the same "
                "again, so the log was put together by hand",
                peer=str(entry.content["party"]),
            )
        if entry.event == START:
            runs[session] = Run(session, entry, ())
        else:
            _check_end(log, entry, known)
            runs[session] = Run(session, known.start, (*known.ends, entry))
    return tuple(runs.values())


def _check_end(log: Entries, entry: Entry, known: Run) -> None:
    """Refuse an end that no party writes after those there are.

    A process notes one end. A later process notes a result that the first one kept; it saw no message of the run.
    """
    before = known.ends
    counted_twice = known.counted is not None and entry.content.get("links")
    if counted_twice or (known.completions and entry.content.get("outcome") != COMPLETE):
        raise AuthenticationError(
            f"{log.path}, entry {entry.number}, ends session {known.session[:16]} again after entry {before[-1].number}, "
            "with messages of its own or with another outcome; a run ends once, so the log was put together by hand",
            peer=str(entry.content["party"]),
        )
