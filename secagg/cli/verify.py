"""`secagg verify`: check a run record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secagg.cli.exits import FAILED
from secagg.cli.show import say, stderr, stdout
from secagg.files import file_digest
from secagg.jobs.signature import read_record, recorded_files, verify_record, with_private_part
from secagg.network.identity import fingerprint, read_certificate

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
) -> None:
    """Check a run record: its signature, result and input table.

    RECORD is NAME.JOB.json. The exit status is 1 if something was changed.
    """
    record = read_record(record_file)
    known = read_certificate(certificate) if certificate is not None else None
    signer = verify_record(record, known)
    console, name = stdout(), str(record["party"])
    say(console, f"{record_file}: as {name} signed it, with the certificate {fingerprint(signer)}")
    if known is None:
        say(console, f"compare that fingerprint with {name}'s, or give its certificate with --certificate")
    say(console, f"outcome: {record.get('outcome')}, reached: {record.get('reached')}")
    changed = False
    full = with_private_part(record, record_file, private)
    if "private" in record and full.keys() == record.keys():
        say(console, "the record's private part is not here; files are not checked")
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
