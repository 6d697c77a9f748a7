"""`secagg audit`: check logs, compare those of several parties, and hand one to an auditor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secagg.cli.exits import FAILED
from secagg.cli.known import known_certificates
from secagg.cli.run import HomeOption
from secagg.cli.show import say, stderr, stdout
from secagg.errors import UsageError
from secagg.home import Home

if TYPE_CHECKING:
    from cryptography import x509

    from secagg.network.identity import Identity

__all__ = ["app"]

app = typer.Typer(
    help="Check, compare and export audit logs.",
    no_args_is_help=True,
)


@app.command()
def verify(
    log: Annotated[
        Path | None,
        typer.Argument(
            metavar="[LOG]", help="An audit log, or a file of `export`; this organisation's own by default."
        ),
    ] = None,
    certificate: Annotated[
        list[Path] | None,
        typer.Option(
            help="The party's certificate, as the party gave it to you (repeat where its key was rotated)."
        ),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Check that every entry of a log is signed and bound.

    It works offline. Each entry must be bound to the one before it. In a file of `export`, the run records are
    checked against the log too. The exit status is 1 if something was changed.
    """
    from secagg.joint.audit.bundle import read_bundle
    from secagg.network.identity import read_certificate

    path = Home.open(home).audit_log if log is None else log
    bundle = read_bundle(path)
    found = bundle.verified([read_certificate(file) for file in certificate or ()])
    console = stdout()
    say(
        console,
        f"{path}: {len(found.entries)} entries of {found.party}, {found.entries[0].time} to {found.entries[-1].time}, "
        f"each as {found.party} signed it and bound to the one before",
    )
    known = known_certificates(home)
    for name in found.certificates:
        say(console, f"signed with the certificate {name}{_whose(name, known)}")
    if any(name not in known for name in found.unknown):
        say(
            console,
            f"compare that with {found.party}'s, or give the certificate with --certificate: else anybody may",
        )
        say(console, "have written this log")
    for run in found.runs:
        shared = "" if run.start else ", before anything was shared"
        say(console, f"session {run.session[:16]}: {run.about.get('job')}, {run.outcome}{shared}")
    if bundle.records:
        say(console, f"{len(bundle.records)} run records, as the log has them")
    if found.torn_bytes:
        say(
            console,
            f"the last {found.torn_bytes} bytes are no whole entry: a crash cut them, and no run rests on them",
        )
    say(console, f"length {len(found.entries)}, head {found.head.hex()}")
    say(console, "whether entries at the end are missing, other parties' logs show: secagg audit compare")


@app.command()
def compare(
    logs: Annotated[
        list[Path],
        typer.Argument(metavar="LOG...", help="Audit logs or files of `export`, one of each party."),
    ],
    certificate: Annotated[
        list[Path] | None,
        typer.Option(
            help="A party's certificate, as the party gave it to you; with any, give all of all parties (repeat)."
        ),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Say whether the logs of several parties agree, and where not.

    Each log is checked first. Then the same run must have the same job, parties, rows and openings in all. What
    one party
    sent must be what the other received, and each log must go on from what its party stated before. The exit
    status is 1
    if they do not agree.
    """
    from secagg.joint.audit.bundle import read_bundle
    from secagg.joint.audit.compare import compare_logs
    from secagg.network.identity import read_certificate

    given = [read_certificate(file) for file in certificate or ()]
    found = [read_bundle(path).verified(given) for path in logs]
    console = stdout()
    compared = compare_logs(found)
    known = known_certificates(home)
    for log in found:
        say(console, f"{log.party}: {len(log.entries)} entries")
        for name in log.certificates:
            how = (
                ""
                if name not in log.unknown
                else _whose(name, known) or "; compare that fingerprint with the party's"
            )
            say(console, f"  signed with the certificate {name}{how}")
    for remark in compared.remarks:
        say(console, f"not compared: {remark}")
    for finding in compared.findings:
        of = f"session {finding.session[:16]}: " if finding.session else ""
        say(stderr(), f"secagg: {of}{finding.what}")
    if compared.findings:
        say(
            stderr(),
            f"secagg: the logs do not agree in {len(compared.findings)} points; ask the parties that are named",
        )
        raise typer.Exit(FAILED)
    say(
        console,
        f"the logs agree: {len(compared.sessions)} runs, {compared.links} ways of links with equal digests",
    )


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="The ZIP file to write; nothing is overwritten.")],
    record: Annotated[
        list[Path] | None,
        typer.Option(help="A run record to put in, beside those in the folder's runs (repeat)."),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Write the log and its run records into one file.

    It is for an auditor: this organisation's log, certificates and records. It holds no result and no private
    part of a record. `secagg audit verify` checks it.
    """
    from secagg.joint.audit.bundle import certificates_in, make_bundle
    from secagg.joint.audit.log import AuditLog

    own = Home.open(home)
    records = [path for path in sorted(own.runs.rglob("*.json")) if not path.name.endswith(".private.json")]
    bundle = make_bundle(
        AuditLog(own.audit_log), certificates=certificates_in(own.keys), records=[*records, *(record or ())]
    )
    bundle.write(out)
    say(
        stdout(),
        f"{out}: {len(bundle.log.entries)} entries, {len(bundle.records)} run records, "
        f"{len(bundle.certificates)} certificates",
    )


@app.command()
def anew(
    peer: Annotated[str, typer.Argument(metavar="NAME", help="The party whose log begins anew.")],
    reason: Annotated[str, typer.Option(help="Why, as it is to stand in this organisation's log.")],
    home: HomeOption = None,
) -> None:
    """Let a peer's log begin anew that was lost.

    A log that was restored from a backup is one too. Runs with that peer are refused until every other party
    has done this. The decision stands in the log.
    """
    from secagg.joint.audit.entry import ANEW
    from secagg.joint.audit.heads import remembered
    from secagg.joint.audit.log import AuditLog

    own = Home.open(home)
    log = AuditLog(own.audit_log)
    entries = log.read().entries
    if peer not in remembered(entries):
        raise UsageError(
            f"this organisation's log knows of no log of {peer!r:.80}; is the name spelt as in the jobs?"
        )
    identity = _own_identity(own, str(entries[0].content["party"]))
    written = log.append(ANEW, {"peer": peer, "reason": reason[:1000]}, identity)
    say(stdout(), f"entry {written.number}: {peer}'s log may begin anew")


def _whose(name: str, known: Mapping[str, x509.Certificate]) -> str:
    return ", which this organisation knows" if name in known else ""


def _own_identity(home: Home, name: str) -> Identity:
    from secagg.network.identity import load_identity

    return load_identity(name, home.keys / f"{name}.key", home.keys / f"{name}.crt")
