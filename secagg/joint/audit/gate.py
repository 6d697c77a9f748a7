"""The gate of the audit log: a run begins when its entry is on the disk, and peers remember where each log stood.

Statement: length and last hashes of this party's log (`heads`).
Check: each peer's log has grown from what this party's log remembers of it.
Commit: the entry `start`, with what the gates of all parties stated, and their signatures.
Close: the entry `end`, with the outcome, the digests of what passed over each link, one of what workers' sessions passed
there, and the digest of the run record, which binds its private part and the result.

An entry holds no identifier, no amount and nothing that only its own party knows of a run, such as how many rows of a
result it was told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from secagg import signing
from secagg.errors import UsageError
from secagg.home import Home
from secagg.jobs.gates import Outcome, RunAtHand, recorded
from secagg.jobs.job import Job
from secagg.jobs.record import versions
from secagg.jobs.signature import PRIVATE
from secagg.joint.audit.entry import END, KEY, START, Entry, spelt
from secagg.joint.audit.heads import GATE, check_peer, decoded, remembered, stated
from secagg.joint.audit.log import AuditLog
from secagg.network.identity import Identity, fingerprint
from secagg.party import PartyId

COMPLETE: Final = "complete"
_WORKERS_LABEL: Final = "secagg audit workers v1"
_RECORD_LABEL: Final = "secagg audit record v1"


class AuditGate:
    """Writes a run into the audit log of a home folder.

    Args:
      identity: whose key signs.
    """

    def __init__(self, home: Home, identity: Identity) -> None:
        self._log = AuditLog(home.audit_log)
        self._identity = identity
        self._entries: Sequence[Entry] = ()

    @property
    def name(self) -> str:
        """Return "audit"."""
        return GATE

    def ready(self, job: Job, me: PartyId) -> None:
        """Begin the log where there is none; refuse a key that is not the job's.

        Raises:
          UsageError: the log cannot be written, or the key is another one.
          AuthenticationError: what is there is no audit log, or that of another party.
        """
        identity = self._identity
        certificate = next(peer.certificate for peer in job.peers() if peer.name == me)
        if identity.certificate != certificate:
            raise UsageError(
                f"the audit log is signed with the certificate {identity.fingerprint}, and the job names "
                f"{fingerprint(certificate)} for {me}; use one of the two for both"
            )
        self._log.append(KEY, {}, identity)

    def statement(self, run: RunAtHand) -> bytes:
        """Return where this party's log stands, which is read as a whole.

        Raises:
          AuthenticationError: the log was changed.
        """
        del run
        self._entries = self._log.read().entries
        return msgspec.msgpack.encode(stated(self._entries))

    def check(self, run: RunAtHand, statements: Mapping[PartyId, bytes]) -> None:
        """Refuse a peer's log that has not grown from what this party's log remembers of it.

        Raises:
          RemoteProtocolError: it was cut, restored or written anew.
        """
        known = remembered(self._entries)
        for peer, statement in statements.items():
            heads = decoded(statement, peer)
            if peer != run.me and peer in known:
                check_peer(peer, heads, known[peer])

    def commit(self, run: RunAtHand) -> None:
        """Write that the run begins, and what everybody stated."""
        body = {
            **_about(run.job, run.session, run.resumes),
            "rows": dict(run.rows),
            "may_open": [
                {"what": one.what, "to": list(one.to), "each_its_own": one.each_its_own}
                for one in run.job.disclosures()
            ],
            "stated": recorded(run.stated),
            "versions": versions(),
        }
        self._log.append(START, body, self._identity)

    def close(self, run: RunAtHand, outcome: Outcome) -> None:
        """Write how the run ended."""
        record = outcome.record
        ledger = record.get("ledger") or {}
        body = {
            **_about(run.job, run.session, run.resumes),
            **{name: record.get(name) for name in ("outcome", "reached", "error", "opened")},
            "rows": dict(run.rows),
            "links": ledger.get("links", {}),
            "sent_to": ledger.get("sent_to", {}),
            "received_from": ledger.get("received_from", {}),
            "workers": of_workers(record) if run.job.shards > 1 else {},
            "record": record_digest(record),
        }
        self._log.append(END, body, self._identity)


def of_workers(record: Mapping[str, Any]) -> dict[str, dict[str, dict[str, int | str]]]:
    """Return for each peer, both ways, the messages of all workers' sessions and one digest of all their digests.

    Of a run that did not end well there is nothing: a step may be done by one party's word and not by another's.
    """
    if record.get("outcome") != COMPLETE:
        return {}
    ways: dict[tuple[str, str], list[tuple[str, int, int, int, str]]] = {}
    for one in record["workers"]:
        for peer, both in one["ledger"]["links"].items():
            for which, way in both.items():
                about = (one["step"], one["shard"], one["attempts"], way["messages"], way["sha256"])
                ways.setdefault((peer, which), []).append(about)
    found: dict[str, dict[str, dict[str, int | str]]] = {}
    for (peer, which), sessions in ways.items():
        digest = signing.digest(_WORKERS_LABEL, [spelt({"sessions": sorted(sessions)})])
        messages = sum(one[3] for one in sessions)
        found.setdefault(peer, {})[which] = {"messages": messages, "sha256": digest.hex()}
    return found


def record_digest(record: Mapping[str, Any]) -> str:
    """Return the digest of a run record as a log has it: with the digest of its private part, which has the result's.

    What a record gets only when it is written is left out: the signature, and the private part's file name.
    """
    shared = {name: value for name, value in record.items() if name not in (*PRIVATE, "signature")}
    if isinstance(private := record.get("private"), Mapping):
        shared["private"] = {name: value for name, value in private.items() if name != "file"}
    return signing.digest(_RECORD_LABEL, [spelt(shared)]).hex()


def _about(job: Job, session: bytes, resumes: bytes | None) -> dict[str, Any]:
    return {
        "job": job.name,
        "pattern": job.pattern.name,
        "digest": job.digest.hex(),
        "session": session.hex(),
        "resumes": None if resumes is None else resumes.hex(),
        "parties": {peer.name: fingerprint(peer.certificate) for peer in job.peers()},
        "roles": {role: list(names) for role, names in job.roles.items()},
    }
