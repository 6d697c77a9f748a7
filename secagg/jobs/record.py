"""What a party keeps of a run: its result, and a record that holds no identifier and no amount of anybody's."""

from __future__ import annotations

import csv
import datetime
import importlib.metadata
import io
import json
import os
import platform
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from secagg import release, wire
from secagg.errors import UsageError
from secagg.jobs.disclosure import disclosures
from secagg.jobs.job import Job
from secagg.jobs.patterns import units
from secagg.ledger import Ledger
from secagg.network.identity import fingerprint
from secagg.party import PartyId

_TOTAL: Final = "total"  # the opened sum that is in cents
_LIBRARIES: Final = ("numpy", "cryptography", "msgspec")


@dataclass(frozen=True, slots=True)
class Result:
    """What one party has at the end of a run.

    Attributes:
      rows: its flagged rows: identifier, opened sums; empty at a party that put in nothing.
      record: plain data.
    """

    me: PartyId
    job: Job
    rows: Sequence[tuple[str, *tuple[int, ...]]] = field(repr=False)
    record: dict[str, Any]

    def write(self, directory: Path) -> tuple[Path | None, Path]:
        """Write ME.JOB.csv (input parties only) and ME.JOB.json, readable by their owner alone; return the paths.

        Raises:
          UsageError: the directory cannot be written to.
        """
        stem = f"{self.me}.{self.job.name}"
        table = directory / f"{stem}.csv" if self.me in self.job.input_parties else None
        run_record = directory / f"{stem}.json"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if table is not None:
                _write(table, self._csv(), mode=0o600)
            _write(run_record, json.dumps(self.record, indent=2) + "\n", mode=0o600)
        except OSError as error:
            raise UsageError(f"cannot write the result to {directory}: {error.strerror}") from None
        return table, run_record

    def _csv(self) -> str:
        columns = self.job.pattern.result_columns
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        for name, *sums in self.rows:
            shown = [
                units(n, self.job.data.currency_decimals) if c == _TOTAL else n
                for c, n in zip(columns[1:], sums, strict=True)
            ]
            writer.writerow([name, *shown])
        return text.getvalue()


def record(
    job: Job,
    me: PartyId,
    *,
    session: bytes,
    started: datetime.datetime,
    timings: Mapping[str, float],
    counts: Mapping[PartyId, int],
    flagged: int | None,
    log2_false_match: float | None,
    log2_abort: float | None,
    ledger: Ledger,
) -> dict[str, Any]:
    """Return the record of a run as plain data: what was agreed, what it cost, what was opened to whom."""
    return {
        "job": job.name,
        "digest": job.digest.hex(),
        "session": session.hex(),
        "pattern": job.pattern.name,
        "parameters": job.shown_parameters(),
        "window": job.window.shown(),
        "conventions": job.data.agreed(job.identifiers),
        "round_rows_to": job.round_rows_to,
        "party": me,
        "parties": [
            {"name": peer.name, "certificate": fingerprint(peer.certificate)} for peer in job.peers()
        ],
        "roles": {"input": job.input_parties, "computing": job.computing_parties},
        "announced_rows": {name: counts[name] for name in job.input_parties},
        "flagged": flagged,
        "log2_false_match": log2_false_match,
        "log2_abort": log2_abort,
        "opened": [asdict(disclosure) for disclosure in disclosures(job)],
        "versions": versions(),
        "started": started.isoformat(timespec="milliseconds"),
        "ended": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "timings": dict(timings),
        "ledger": ledger.as_dict(),
    }


def versions() -> dict[str, str]:
    """Return the versions of what computes here."""
    return {
        "secagg": release.RELEASE,
        "wire": str(wire.VERSION),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        **{name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def _write(path: Path, text: str, *, mode: int) -> None:
    """Write a whole file or none."""
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise
