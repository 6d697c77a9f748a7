"""What would keep this party from a run: certificates, tables, rules, gates, disk and memory."""

from __future__ import annotations

import datetime
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509

from secagg.errors import UsageError
from secagg.jobs.computed import query_of
from secagg.jobs.gates import APPROVAL, Gate
from secagg.jobs.inputs import InputTables
from secagg.jobs.job import Job
from secagg.jobs.run import check_approvals_are_asked_for
from secagg.joint.preflight.findings import HERE, Finding, found
from secagg.network.identity import Identity, check_certificate, fingerprint
from secagg.party import PartyId

__all__ = ["look_here"]

_SOON_DAYS: Final = 30
_FIRST_ROWS: Final = 100
# docs/benchmarks.md: a process took at most 2.1 times the bytes that its party sent, and some 100 MB before it began.
_MEMORY_PER_BYTE: Final = 2.5
_MEMORY_BYTES: Final = 300 << 20
_WORKER_BYTES: Final = 150 << 20  # docs/shards.md: of a worker with few rows
_ROW_BYTES: Final = 500  # of a table while it is read; tests/data/test_databases.py holds it
_DISK_BYTES: Final = 100 << 20  # records and results
_MEMINFO: Final = Path("/proc/meminfo")


def look_here(
    job: Job,
    me: PartyId,
    identity: Identity,
    *,
    tables: InputTables | None,
    gates: Sequence[Gate],
    goes_on: bool = False,
    rows: Mapping[PartyId, int],
    out: Path,
    folders: Sequence[Path] = (),
) -> Iterator[Finding]:
    """Yield what is found at this end.

    Args:
      job: with its certificates, all of which are valid now.
      tables: this party's own, None where it puts none in.
      gates: what its folder asks of a run.
      goes_on: whether its folder holds a run of the job that did not end.
      rows: what input parties are taken to announce.
      out: where results are to go.
      folders: where else a run writes, such as the home folder.
    """
    yield from _certificates(job, me, identity)
    if tables is not None:
        yield from _first_rows(tables)
    yield from _rules(job, me)
    if not any(gate.name == APPROVAL for gate in gates):
        yield from found(APPROVAL, lambda: _needs_none(job, gates))
    if goes_on:  # what was spent and approved when it began is not asked for once more
        yield Finding(HERE, "resume", "PASSED", "a run of this job did not end, and goes on")
    for gate in () if goes_on else gates:
        yield from found(gate.name, lambda gate=gate: _ready(gate, job, me))  # type: ignore[misc]
    yield from _room(job, me, rows, out, folders)


def _certificates(job: Job, me: PartyId, identity: Identity) -> Iterator[Finding]:
    now = datetime.datetime.now(datetime.UTC)
    for member in job.members:
        certificate = member.certificate
        if certificate is None:
            raise UsageError("expected a job with certificates")
        what = "certificate" if member.name == me else f"certificate of {member.name}"
        try:
            check_certificate(certificate, name=member.name)
        except UsageError as error:
            yield Finding(HERE, what, "FAILED", str(error))
            continue
        if member.name == me and certificate != identity.certificate:
            said = (
                f"the job has another certificate of {me} ({fingerprint(certificate)}) than this key's "
                f"({identity.fingerprint}); take the key that belongs to it, or send all parties the new certificate"
            )
            yield Finding(HERE, what, "FAILED", said)
            continue
        yield _validity(what, certificate, (certificate.not_valid_after_utc - now).days)


def _validity(what: str, certificate: x509.Certificate, days: int) -> Finding:
    said = f"valid until {certificate.not_valid_after_utc:%Y-%m-%d}"
    if days >= _SOON_DAYS:
        return Finding(HERE, what, "PASSED", said)
    return Finding(HERE, what, "WARNING", f"{said}, {days} days from now; its owner makes a new one in time")


def _first_rows(tables: InputTables) -> Iterator[Finding]:
    try:
        by_table = tables.first_rows(_FIRST_ROWS)
    except UsageError as error:
        yield Finding(HERE, "table", "FAILED", str(error))
        return
    for name, faults in by_table.items():
        what = f"table {name}"
        if not faults:
            said = f"columns and the first {_FIRST_ROWS} rows are as the job reads them; `secagg data check` reads all rows"
            yield Finding(HERE, what, "PASSED", said)
            continue
        counted = "; ".join(f"{one.column or 'the row'} {one.reason}: {one.rows} rows" for one in faults)
        said = f"of the first {_FIRST_ROWS} rows: {counted}; `secagg data check` reads all of them"
        if tables.skips_bad_rows:
            yield Finding(HERE, what, "WARNING", f"{said}; a run leaves such rows out")
        else:
            yield Finding(HERE, what, "FAILED", said)


def _rules(job: Job, me: PartyId) -> Iterator[Finding]:
    query = query_of(job.pattern)
    if query is None or me not in job.input_parties:
        return
    text = query.rules.get(me)
    if text is None:
        said = f"the job has no rules of {me}: groups of few and single rows of it are told as they are"
        yield Finding(HERE, "rules", "WARNING", said)
        return
    digest = hashlib.sha256(text.encode()).hexdigest()
    yield Finding(HERE, "rules", "PASSED", f"the query keeps the rules of {me}, SHA-256 {digest[:16]}")


def _needs_none(job: Job, gates: Sequence[Gate]) -> str:
    check_approvals_are_asked_for(job, gates)
    return 'the job says approval = "off": nobody need approve it'


def _ready(gate: Gate, job: Job, me: PartyId) -> str:
    gate.ready(job, me)
    return "allows the run as things stand"


def _room(
    job: Job, me: PartyId, rows: Mapping[PartyId, int], out: Path, folders: Sequence[Path]
) -> Iterator[Finding]:
    sent = job.cost(rows).payload_bytes.get(me, 0)
    held, workers = float(sent), 0
    if job.shards > 1:  # workers of a turn hold their shards; they are taken to be on this machine
        workers = len(job.members[0].workers)
        query, above = query_of(job.pattern), 0
        if query is not None:
            above = query.cost_above_shards(job.parameters, job.terms, rows).payload_bytes.get(me, 0)
        held = above + (sent - above) * min(workers, job.shards) / job.shards
    needed = int(
        _MEMORY_BYTES + workers * _WORKER_BYTES + _MEMORY_PER_BYTE * held + _ROW_BYTES * rows.get(me, 0)
    )
    free = _free_memory()
    about = f"{_mb(needed)} needed for {max(rows.values(), default=0)} rows a party"
    about += f" and {workers} worker{'s' * (workers > 1)} here at a time" if workers else ""
    if free is None:
        yield Finding(HERE, "memory", "WARNING", f"{about}; this system does not tell how much is free")
    elif free < needed:
        yield Finding(
            HERE,
            "memory",
            "FAILED",
            f"{about}, {_mb(free)} free; end other programs, or take another machine",
        )
    else:
        yield Finding(HERE, "memory", "PASSED", f"{about}, {_mb(free)} free")
    needed = _DISK_BYTES + sent
    for folder in dict.fromkeys([out, *folders]):
        yield from found(f"disk at {folder}", lambda folder=folder: _disk(folder, needed))  # type: ignore[misc]


def _disk(folder: Path, needed: int) -> str:
    """Write a little where results go, and look how much more there is room for; raises `UsageError`."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent  # the run makes what is missing
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(1 << 16))
            file.flush()
            os.fsync(file.fileno())
        there = os.statvfs(place)
    except OSError as error:
        full = "; make room" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
        raise UsageError(f"{place} takes no files: {error.strerror}{full}") from None
    free = there.f_bavail * there.f_frsize
    if free < needed:
        raise UsageError(f"{_mb(needed)} needed, {_mb(free)} free; make room")
    return f"{_mb(needed)} needed, {_mb(free)} free"


def _free_memory() -> int | None:
    """Return what programs can still have, within the limit of this process's container; None where nobody says."""
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return None
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        free = min(free, limit - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError):
        pass  # no limit, or no such file
    return free


def _mb(count: int) -> str:
    return f"{count / 1e6:,.0f} MB".replace(",", " ")
