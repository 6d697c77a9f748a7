"""`secagg consent`: whose rows never enter a run, and who was in none."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from secagg.cli.consortium import HomeOption
from secagg.cli.exits import FAILED
from secagg.cli.show import say, stdout
from secagg.errors import UsageError
from secagg.files import write_file
from secagg.home import Home

__all__ = ["app"]

# As `joint.consent.guard.EARLIER` and `joint.consent.lists.EVERY`, and here without what these import.
_EARLIER: Final = "*"
_EVERY: Final = "*"

app = typer.Typer(help="Keep persons out of runs, and show who was not in one.", no_args_is_help=True)

IdOption = Annotated[
    list[str] | None,
    typer.Option(
        "--id",
        metavar="ID",
        help="An identifier, as tables spell it (repeat); - reads them from standard input, a line each, so that they stand "
        "in no history of commands.",
    ),
]
RuleOption = Annotated[
    list[str] | None,
    typer.Option(help="A rule by which jobs spell it, besides exact, folded, iban and digits (repeat)."),
]
_REMOVED: Final = "removed"


@app.command("exclude")
def exclude(
    name: Annotated[str, typer.Argument(help="What the list is called.")],
    column: Annotated[
        list[str] | None,
        typer.Option(
            help=f'A column that it is about, as patient or transfers.sender (repeat); "{_EVERY}" for every identifier.'
        ),
    ] = None,
    id_: IdOption = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="DATA",
            help='A file, "duckdb:SELECT ..." over your own tables, or source:NAME of sources.toml in the folder; read anew '
            "by each run.",
        ),
    ] = None,
    from_: Annotated[
        list[str] | None,
        typer.Option(
            "--from", metavar="COLUMN", help="The source's columns that make an identifier (repeat)."
        ),
    ] = None,
    rule: RuleOption = None,
    home: HomeOption = None,
) -> None:
    """Exclude the rows of persons from all runs.

    The list NAME holds identifiers (--id), of which digests alone are kept, or is a file or a query (--source).
    """
    from secagg.data.source_files import SOURCES
    from secagg.joint.consent import lists

    if (id_ is None) == (source is None):
        raise UsageError("expected either --id or --source")
    own = Home.open(home)
    with own.transaction() as connection:
        if source is not None:
            count = lists.add_source(
                connection, name, column or [lists.EVERY], source, from_ or (), tables=own.path / SOURCES
            )
            say(
                stdout(),
                f"{name}: {source} has {count} different identifiers now, and is read anew by each run",
            )
        else:
            count = lists.add_identifiers(connection, name, column or [lists.EVERY], _ids(id_), rule or ())
            say(stdout(), f"{name}: {count} more persons")


@app.command("remove")
def remove(id_: IdOption = None, rule: RuleOption = None, home: HomeOption = None) -> None:
    """Remove a person from all future runs.

    It is excluded wherever an identifier of a table is this one.
    """
    from secagg.joint.consent import lists

    with Home.open(home).transaction() as connection:
        count = lists.add_identifiers(connection, _REMOVED, [lists.EVERY], _ids(id_), rule or ())
    say(stdout(), f"{_REMOVED}: {count} more persons; their rows enter no run from now on")


@app.command("readmit")
def readmit(
    name: Annotated[str, typer.Argument(help="The list.")], id_: IdOption = None, home: HomeOption = None
) -> None:
    """Take a person off a list, or drop the list NAME."""
    from secagg.joint.consent import lists

    with Home.open(home).transaction() as connection:
        count = lists.drop(connection, name, _ids(id_) if id_ else ())
    say(stdout(), f"{name}: {count} persons taken off" if id_ else f"{name}: the list is dropped")


@app.command("list")
def list_(home: HomeOption = None) -> None:
    """Print the exclusion lists, without whom they name."""
    from secagg.joint.consent import lists

    with Home.open(home).transaction() as connection:
        found = lists.lists(connection)
    for one in found:
        what = one.source or f"{one.count} persons, spelt by {', '.join(sorted(one.rules))}"
        say(stdout(), f"{one.name}: {what}; columns {', '.join(one.columns)}; since {one.made}")
    if not found:
        say(stdout(), "no exclusion lists")


@app.command("check")
def check(
    record_file: Annotated[Path, typer.Argument(metavar="RECORD", help="The run's record, NAME.JOB.json.")],
    id_: IdOption = None,
    party: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Which party this is; by default as in --home.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the proof that the person was not there.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Say whether a person was in a run, and write a proof if not.

    The exit status is 1 where the person was in the run of RECORD, or nothing shows that it was not.
    """
    from secagg.jobs.signature import read_record
    from secagg.joint.consent.proofs import make_proof, stated, was_there
    from secagg.joint.consortium import Consortium

    own, record = Home.open(home), read_record(record_file)
    (text,) = _one(_ids(id_))
    name = party or (Consortium.load(own).me if own.consortium.exists() else str(record.get("party")))
    statement, session = stated(record, name), str(record.get("session"))
    with own.transaction() as connection:
        there = was_there(connection, statement, session, text)
        if there:
            say(stdout(), f"this person was in the run, in {', '.join(there)}")
            raise typer.Exit(FAILED)
        proof = make_proof(connection, statement, name, session, text)
    say(stdout(), f"this person was in none of {', '.join(statement.columns)}")
    if out is not None:
        try:
            write_file(out, proof.to_json(), mode=0o600)
        except OSError as error:
            raise UsageError(f"cannot write {out}: {error.strerror}") from None
        say(stdout(), f"proof: {out}; whoever has the record checks it with `secagg consent verify`")


@app.command("verify")
def verify(
    proof_file: Annotated[Path, typer.Argument(metavar="PROOF", help="What `secagg consent check` wrote.")],
    record_file: Annotated[
        Path, typer.Argument(metavar="RECORD", help="The run's record, of whatever party.")
    ],
    id_: IdOption = None,
    certificate: Annotated[
        Path | None,
        typer.Option(help="The certificate of the party whose proof it is, as it gave it to you."),
    ] = None,
) -> None:
    """Check a proof that a person was not in a run.

    It takes the PROOF and a RECORD of the run, and no folder. The exit status is 1 where the proof does not hold.
    """
    from secagg.jobs.signature import read_record, verify_record
    from secagg.joint.consent.proofs import check_proof, read_proof
    from secagg.network.identity import fingerprint, load_certificate, read_certificate

    record, proof = read_record(record_file), read_proof(proof_file)
    signer = verify_record(record, None)
    console = stdout()
    say(console, f"{record_file}: as {record['party']} signed it, with the certificate {fingerprint(signer)}")
    known = read_certificate(certificate) if certificate is not None else None
    if known is None and record["party"] == proof.party:
        known = load_certificate(record["signature"]["certificate"].encode())
    if known is None:
        say(
            console,
            f"{record['party']} vouches for what {proof.party} stated; --certificate checks {proof.party}'s own word",
        )
    (text,) = _one(_ids(id_))
    columns = check_proof(proof, record, text, known)
    say(console, f"{proof.party} stated before the run that this person is in none of {', '.join(columns)}")


@app.command("allow")
def allow(
    job_file: Annotated[Path, typer.Argument(metavar="JOB", help="The job file.")],
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    earlier: Annotated[
        str, typer.Option(metavar="SESSION", help="The earlier run, as the refusal shows it; by default any.")
    ] = _EARLIER,
    runs: Annotated[int, typer.Option(help="For how many runs.")] = 1,
    home: HomeOption = None,
) -> None:
    """Allow a run on nearly the persons of an earlier one.

    Whoever sees both results can compute what the few persons add in whom they differ.
    """
    from secagg.jobs.job_file import load_job
    from secagg.joint.consent.guard import allow as allow_run
    from secagg.joint.consortium import Consortium

    own = Home.open(home)
    known = Consortium.load(own).directory() if own.consortium.exists() else {}
    job = load_job(job_file, known=known)
    with own.transaction() as connection:
        left = allow_run(connection, job, earlier=earlier, runs=runs, reason=reason)
    say(stdout(), f"{job.name} may run {left} times on nearly the persons of an earlier run")


def _ids(given: Sequence[str] | None) -> list[str]:
    """Return identifiers of the command line or of standard input."""
    found = list(given or [])
    if "-" in found:
        found.remove("-")
        found += [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
    if not found:
        raise UsageError("expected --id ID, or --id - and identifiers on standard input")
    return found


def _one(texts: Sequence[str]) -> Sequence[str]:
    if len(texts) != 1:
        raise UsageError(f"expected one identifier, got {len(texts)}")
    return texts
