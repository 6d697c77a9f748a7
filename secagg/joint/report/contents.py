"""What stands in the report of a run: read from the record and what lies beside it, and checked.

A report tells what its party may show: the record, and the result unless it is left out. Of the private part it tells
how many rows were read. It tells of each check whether it was made, and of one that fails it says so.
"""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec
from cryptography import x509

from secagg.errors import AuthenticationError, UsageError
from secagg.files import file_digest, read_file
from secagg.jobs.signature import read_record, recorded_files, verify_record, with_private_part
from secagg.joint.audit.bundle import read_bundle
from secagg.joint.audit.verification import check_record
from secagg.joint.report.stated import Stated, screened_lines, stated_by_gate
from secagg.network.identity import fingerprint

_MAX_RESULT_BYTES: Final = 1 << 28
_PRIVATE: Final = ".private.json"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked, or was not.

    Attributes:
      state: "passed", "failed", or "open" where it could not be made.
    """

    what: str
    state: str
    detail: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A result table, as its file has it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Member:
    """One party of a run, and what it put in.

    Attributes:
      rows: that it announced; None at a party without data, and at all where the pattern announces no counts.
    """

    name: str
    fingerprint: str
    roles: tuple[str, ...]
    rows: int | None


@dataclass(frozen=True, slots=True)
class Opened:
    """Something that was opened, as the pattern declares it.

    Attributes:
      each_its_own: each of `to` learnt it about its own rows alone.
    """

    what: str
    to: tuple[str, ...]
    each_its_own: bool


@dataclass(frozen=True, slots=True)
class Phase:
    """What a phase cost this party."""

    name: str
    rounds: int
    messages: int
    sent_bytes: int
    received_bytes: int
    compute_s: float
    wait_s: float


@dataclass(frozen=True, slots=True)
class Peer:
    """What went to one peer and came from it."""

    name: str
    sent_bytes: int
    received_bytes: int
    sent_messages: int
    received_messages: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a page tells of a run.

    Attributes:
      record: that `verify_record` accepted; with the private part where that is here.
      answer: None at a party that was told nothing, or where it is not shown.
      answer_note: why there is none.
    """

    record: Mapping[str, Any]
    answer: Answer | None
    answer_note: str
    members: tuple[Member, ...]
    opened: tuple[Opened, ...]
    phases: tuple[Phase, ...]
    total: Phase | None
    peers: tuple[Peer, ...]
    stated: tuple[Stated, ...]
    screened: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def learnt_nothing(self) -> tuple[str, ...]:
        """Return the parties to which nothing was opened."""
        told = {name for one in self.opened for name in one.to}
        return tuple(member.name for member in self.members if member.name not in told)

    @property
    def seconds(self) -> float:
        """Return how long the run took at this party, connecting included."""
        return float(self.record["timings"].get("total_s", 0.0))


class _Error(msgspec.Struct):
    message: str
    named: str
    accused: str
    suspects: list[str]


class _Table(msgspec.Struct):
    rows_read: int | None
    rows_in_window: int | None
    rows_outside: int | None
    rows_bad: int | None


class _Versions(msgspec.Struct):
    secagg: str


class _Pattern(msgspec.Struct):
    name: str


class _Shape(msgspec.Struct):
    """What a page takes from a record as it is; whoever signed it may have put anything there."""

    job: str
    outcome: str
    reached: str
    error: _Error | None
    session: str
    digest: str
    pattern: _Pattern
    parameters: dict[str, str]
    window: dict[str, str]
    max_rows: int
    pad_rows_to: int
    risks: dict[str, float | None]
    versions: _Versions
    trust: str
    tables: dict[str, _Table] | msgspec.UnsetType = msgspec.UNSET


def find_record(run: Path) -> Path:
    """Return the record in a folder of one run, or the record itself.

    Raises:
      UsageError: there is none, or several.
    """
    if not run.is_dir():
        return run
    found = sorted(path for path in run.glob("*.json") if not path.name.endswith(_PRIVATE))
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:10]) or "none"
        raise UsageError(
            f"expected one run record (NAME.JOB.json) in {run}, got {names}; name the record itself"
        )
    return found[0]


def load_report(
    run: Path,
    *,
    certificate: x509.Certificate | None = None,
    known: Mapping[str, x509.Certificate] = MappingProxyType({}),
    log: Path | None = None,
    with_result: bool = True,
) -> Report:
    """Return the report of a run.

    Args:
      run: its record, or a folder with one.
      certificate: the party's, as the party gave it.
      known: those that this organisation knows, by fingerprint; the record's is looked for there where it is not given.
      log: the party's audit log; None where there is none to look into.
      with_result: whether the result and the private part of the record are shown.

    Raises:
      UsageError: there is no record, or it cannot be read.
      AuthenticationError: the record or its private part was changed. A changed result or a log that does not have the
        record is no error: the page says so.
    """
    path = find_record(run)
    record = read_record(path)
    signer = verify_record(record, certificate)
    # A copy for others holds nothing of the private part.
    full = with_private_part(record, path) if with_result else record
    checks = [
        _of_signature(record, signer, given=certificate is not None, known=fingerprint(signer) in known)
    ]
    answer, note, found = _answer(full, path, shown=with_result)
    checks += [*found, _of_log(record, log)]
    try:
        msgspec.convert(full, _Shape)
        return _report(full, answer, note, checks)
    except (msgspec.ValidationError, KeyError, TypeError, AttributeError, ValueError):
        raise UsageError(
            f"{path} is signed, and does not hold what a run record of this release has"
        ) from None


def _report(record: Mapping[str, Any], answer: Answer | None, note: str, checks: Sequence[Check]) -> Report:
    opened = tuple(
        Opened(str(one["what"]), tuple(map(str, one["to"])), bool(one["each_its_own"]))
        for one in record["opened"] or []
    )
    announced = record["announced_rows"]
    if not any(announced.values()):  # a pattern whose row counts are hidden has 0 of all there
        announced = {}
    members = []
    for party in record["parties"]:
        name = str(party["name"])
        roles = tuple(str(role) for role, names in record["roles"].items() if name in names)
        rows = announced.get(name)
        members.append(Member(name, str(party["certificate"]), roles, None if rows is None else int(rows)))
    ledger = record["ledger"] or {"phases": {}, "total": None, "sent_to": {}, "received_from": {}}
    names = list(dict.fromkeys([*ledger["sent_to"], *ledger["received_from"]]))
    nothing = {"messages": 0, "frame_bytes": 0}
    peers = []
    for name in names:
        sent, received = ledger["sent_to"].get(name, nothing), ledger["received_from"].get(name, nothing)
        sizes = [int(way[what]) for what in ("frame_bytes", "messages") for way in (sent, received)]
        peers.append(Peer(name, *sizes))
    phases = tuple(_phase(name, usage) for name, usage in ledger["phases"].items())
    _ = float(record["timings"].get("total_s", 0.0)), when(record["started"]), str(record["trust"])
    return Report(
        record=record,
        answer=answer,
        answer_note=note,
        members=tuple(members),
        opened=opened,
        phases=phases,
        total=None if ledger["total"] is None else _phase("all", ledger["total"]),
        peers=tuple(peers),
        stated=stated_by_gate(record.get("gates") or {}),
        screened=screened_lines(record.get("screened") or {}),
        checks=tuple(checks),
    )


def _phase(name: str, usage: Mapping[str, Any]) -> Phase:
    sent, received = usage["sent"], usage["received"]
    return Phase(
        str(name),
        int(usage["rounds"]),
        int(sent["messages"]),
        int(sent["frame_bytes"]),
        int(received["frame_bytes"]),
        float(usage["compute_s"]),
        float(usage["wait_s"]),
    )


def _answer(record: Mapping[str, Any], path: Path, *, shown: bool) -> tuple[Answer | None, str, list[Check]]:
    """Return the result, why there is none, and what was checked of it."""
    party, what = record["party"], "Result file"
    if not shown:
        return None, "The result is left out of this copy.", []
    if record.get("outcome") != "complete":
        return None, "The run did not end well, so there is no result.", []
    if "result_rows" not in record:
        text = "the record's private part is not here, and it has the digest of the result"
        return None, f"The result is not shown: {text}.", [Check(what, "open", text)]
    files = [file for file in recorded_files(record, path) if file.what == "result"]
    if not files:
        return None, f"{party} was told nothing.", []
    (file,) = files
    if not file.path.is_file():
        return None, "The result file is not beside the record.", [Check(what, "open", "it is not here")]
    if file_digest(file.path) != file.sha256:
        text = f"{file.path.name} is not what was recorded; it was changed"
        return None, f"The result is not shown: {text}.", [Check(what, "failed", text)]
    content = read_file(file.path, what="the result", max_bytes=_MAX_RESULT_BYTES)
    columns, *rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")) or [[]]
    checked = Check(what, "passed", f"{file.path.name} is as recorded")
    return Answer(tuple(columns), tuple(map(tuple, rows))), "", [checked]


def _of_signature(record: Mapping[str, Any], signer: x509.Certificate, *, given: bool, known: bool) -> Check:
    party, whose = record["party"], fingerprint(signer)
    if given or known:
        how = f"that {party} gave" if given else "that this organisation knows"
        return Check("Run record", "passed", f"signed by {party}, with the certificate {how} ({whose})")
    text = (
        f"signed with the certificate {whose}; compare that fingerprint with {party}'s, for it was not given"
    )
    return Check("Run record", "open", text)


def _of_log(record: Mapping[str, Any], log: Path | None) -> Check:
    what = "Audit log"
    if log is None:
        return Check(what, "open", "there was none to look into")
    try:
        found = read_bundle(log).verified()
        run = check_record(found, record)
    except (AuthenticationError, UsageError) as error:
        return Check(what, "failed", str(error))
    number = "?" if run.end is None else run.end.number
    text = (
        f"{len(found.entries)} entries of {found.party}, each signed and bound to the one before; entry {number} has "
        "this record"
    )
    return Check(what, "passed", text)


def when(text: object) -> datetime.datetime:
    """Return a time of a record; errors as `datetime.fromisoformat`."""
    return datetime.datetime.fromisoformat(str(text))
