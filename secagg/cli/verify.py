"""`secagg verify`: check a run record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from secagg.cli.exits import FAILED
from secagg.cli.known import known_certificates
from secagg.cli.run import HomeOption
from secagg.cli.show import say, stderr, stdout
from secagg.files import file_digest
from secagg.home import Home

__all__ = ["verify"]


def verify(
    record_file: Annotated[Path, typer.Argument(metavar="RECORD", help="A run record, NAME.JOB.json.")],
    certificate: Annotated[
        Path | None, typer.Option(help="The party's certificate, as the party gave it to you.")
    ] = None,
    result: Annotated[
        Path | None, typer.Option(help="The result table, if not the one beside the record.")
    ] = None,
    table_: Annotated[
        list[Path] | None,
        typer.Option("--table", help="The input table, if not where the record says (repeat, in order)."),
    ] = None,
    private: Annotated[
        Path | None,
        typer.Option(help="The record's private part, NAME.JOB.private.json, if not beside the record."),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            help="The party's audit log, or a file of `secagg audit export`, which must have this very record; this "
            "organisation's own by default, if it has the run."
        ),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Check a run record: its signature, files and log entry.

    RECORD is NAME.JOB.json. Its files are the result and the input tables; the entry is that of the audit log. The exit
    status is 1 if something was changed, or if a result cannot be checked.
    """
    from secagg.jobs.signature import read_record, recorded_files, verify_record, with_private_part
    from secagg.network.identity import fingerprint, read_certificate

    record = read_record(record_file)
    known = read_certificate(certificate) if certificate is not None else None
    signer = verify_record(record, known)
    if known is None:
        known = known_certificates(home).get(fingerprint(signer))
    console, name = stdout(), str(record["party"])
    say(console, f"{record_file}: as {name} signed it, with the certificate {fingerprint(signer)}")
    if known is None:
        say(console, f"compare that fingerprint with {name}'s, or give its certificate with --certificate")
    say(console, f"outcome: {record.get('outcome')}, reached: {record.get('reached')}")
    if (logged := _logged(record, log, home)) is not None:
        say(console, f"{logged[0]}: has this record{logged[1]}")
    changed = False
    full = with_private_part(record, record_file, private)
    if "private" in record and full.keys() == record.keys():
        say(console, "the record's private part is not here; files are not checked")
        there = result or record_file.with_suffix(".csv")
        if there.is_file():
            say(
                stderr(),
                f"secagg: result: {there} cannot be checked, for its digest stands in the private part; do not rely on "
                f"it, or give the private part with --private",
            )
            raise typer.Exit(FAILED)
    for file in recorded_files(full, record_file, result=result, tables=table_ or []):
        if not file.path.is_file() and not file.given:
            say(console, f"{file.what}: {file.path} is not here, not checked")
        elif file_digest(file.path) == file.sha256:
            say(console, f"{file.what}: {file.path} is as recorded")
        else:
            differs = (
                "is another file than the one recorded, or it"
                if file.given
                else "is not what was recorded; it"
            )
            say(stderr(), f"secagg: {file.what}: {file.path} {differs} was changed")
            changed = True
    if changed:
        raise typer.Exit(FAILED)


def _logged(record: Mapping[str, Any], log: Path | None, home: Path | None) -> tuple[Path, str] | None:
    """Return the log that has the record, and a remark on others of its run; None where there is no log to look into.

    Raises:
      AuthenticationError: the log has another record of this run, or was changed.
    """
    from secagg.joint.audit.bundle import read_bundle
    from secagg.joint.audit.log import AuditLog
    from secagg.joint.audit.verification import check_record

    if log is None:
        own = Home.find(home)
        if own is None or not own.audit_log.is_file():
            return None
        entries = AuditLog(own.audit_log).read().entries
        if not any(
            entry.content.get("session") == record.get("session")
            and entry.content["party"] == record["party"]
            for entry in entries
        ):
            return None
        log = own.audit_log
    run = check_record(read_bundle(log).verified(), record)
    if len(run.completions) < 2:
        return log, ""
    numbers = " and ".join(str(entry.number) for entry in run.completions)
    return log, f", and several of this run as complete, in entries {numbers}; ask {record['party']} why"
