"""The command line."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import typer.core

from secagg import release
from secagg.cli.demo import run_demo
from secagg.cli.show import (
    Style,
    complain,
    duration,
    explain,
    say,
    seconds,
    shown_progress,
    size,
    stderr,
    stdout,
    table,
)
from secagg.cli.stopping import STATUS, Stop
from secagg.cli.table_check import check_table
from secagg.cli.table_options import (
    AllowEmpty,
    BadRows,
    BadRowsOption,
    DateFormat,
    Decimal,
    Delimiter,
    Encoding,
    Mapping,
    TableOptions,
    Thousands,
)
from secagg.cost.network import LAN, LOOPBACK, MOBILE, WAN
from secagg.data.dialect import Dialect
from secagg.data.synthetic import make
from secagg.errors import SecaggError, UsageError
from secagg.jobs.job import Job
from secagg.jobs.job_file import LONGEST_S, load_job, parse_address
from secagg.jobs.local import error_line, run_locally
from secagg.jobs.output import Output
from secagg.jobs.patterns import PATTERNS
from secagg.jobs.record import write_record
from secagg.jobs.run import run_job
from secagg.jobs.signed import file_digest, read_record, recorded_files, verify_record, with_private_part
from secagg.network.identity import (
    Identity,
    check_name,
    create_identity,
    fingerprint,
    load_identity,
    read_certificate,
)
from secagg.network.tcp import PREPARING
from secagg.printable import PrintableFormatter, printable_lines

_NETWORKS: Final = {network.name: network for network in (LOOPBACK, LAN, WAN, MOBILE)}
_ASSUMED_ROWS: Final = 100_000
_WRITTEN_ELSEWHERE: Final = 3  # exit status


# Locals in a traceback can be somebody's data, so nothing prints them.
app = typer.Typer(
    name="secagg",
    help="Joint computations on data that organisations may not show each other.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
identity_app = typer.Typer(
    help="Keys and certificates, by which parties know each other.", no_args_is_help=True
)
data_app = typer.Typer(help="Tables.", no_args_is_help=True)
app.add_typer(identity_app, name="identity")
app.add_typer(data_app, name="data")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; always ends with SystemExit: 0, 2 for the caller's mistake, 1 for what failed, 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # whatever the terminal's encoding has no character for
    typer.core.HAS_RICH = False  # else it escapes brackets for rich in help that rich does not print
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("secagg: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    stop = Stop()
    with stop.listening():
        status = _run(arguments, stop)
        if status == STATUS or (stop.asked and status):
            status = STATUS
            say(stderr(), f"secagg: {stop.line}")
    if any(thread.name == PREPARING and thread.is_alive() for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # it reads a table that nobody wants any more, and cannot be ended
    raise SystemExit(status)


def _run(arguments: Sequence[str] | None, stop: Stop) -> int:
    try:
        return int(app(arguments, prog_name="secagg", standalone_mode=False, obj=stop) or 0)
    except SecaggError as error:
        complain(error)
        return _status(error)
    except KeyboardInterrupt:
        return STATUS
    except Exception as error:  # noqa: BLE001  # the end of the program: shown whole, but for what a terminal obeys
        # What was interrupted may have made an error of another kind of it.
        return STATUS if stop.asked else _show(error)


def _show(error: Exception) -> int:
    """Print what is no error of ours; return the exit status."""
    if (show := getattr(error, "show", None)) is None:
        text = "".join(traceback.format_exception(error))
    else:  # about the command line itself
        show(file := io.StringIO())
        text = file.getvalue()
    stderr().print(printable_lines(text.rstrip()), markup=False, soft_wrap=True)
    return int(getattr(error, "exit_code", 1))


def _status(error: SecaggError) -> int:
    return 2 if isinstance(error, UsageError) else 1


def _print_version(wanted: bool) -> None:
    if wanted:
        stdout().print(release.RELEASE)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    del version  # its callback has done everything


@identity_app.command("new")
def identity_new(
    name: Annotated[str, typer.Argument(help="The party's name, as in job files.")],
    out: Annotated[Path, typer.Option(help="Where to write NAME.key and NAME.crt.")] = Path(),
) -> None:
    """Make a key and a certificate; overwrites nothing."""
    identity = create_identity(name)
    key, certificate = identity.save(out)
    console = stdout()
    say(console, f"{key}  keep this secret; it never leaves this machine")
    say(console, f"{certificate}  give this to the other parties")
    say(console, "fingerprint, to be compared by phone:")
    say(console, identity.fingerprint)


@identity_app.command("show")
def identity_show(file: Annotated[Path, typer.Argument(help="A certificate (.crt).")]) -> None:
    """Print a certificate's fingerprint, then what it says about itself, which is its maker's word alone."""
    certificate = read_certificate(file)
    console = stdout()
    say(console, fingerprint(certificate))
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    say(console, f"it says that it is for {certificate.subject.rfc4514_string()}")
    say(console, f"valid {begin:%Y-%m-%d} to {end:%Y-%m-%d}")


@data_app.command("make")
def data_make(
    out: Annotated[Path, typer.Argument(help="A directory for the tables; files in it are replaced.")],
    banks: Annotated[int, typer.Option(help="How many banks, 2 to 20.")] = 3,
    rows: Annotated[
        int, typer.Option(help="Transfers a bank, on average; deposits are a quarter of that.")
    ] = 30_000,
    start: Annotated[str, typer.Option(help="First day.")] = "2025-01-01",
    days: Annotated[int, typer.Option(help="Length of the period.")] = 90,
    currency_decimals: Annotated[int, typer.Option(help="How many decimals amounts have, 0 to 4.")] = 2,
    seed: Annotated[int, typer.Option(help="The same seed gives the same tables.")] = 1,
) -> None:
    """Write made-up bank tables with planted fraud, and truth.json, which says where it is."""
    truth = make(
        out,
        banks=banks,
        rows=banks * rows,
        start=start,
        days=days,
        currency_decimals=currency_decimals,
        seed=seed,
    )
    say(
        stdout(),
        f"{truth.transfers} transfers and {truth.deposits} deposits of {', '.join(truth.banks)} in {out}; "
        f"planted: {len(truth.collectors)} collectors, {len(truth.customers)} structuring customers",
    )


@data_app.command("check")
def data_check(
    tables: Annotated[
        list[str],
        typer.Argument(metavar="TABLE...", help="Files, patterns such as 2026-*.csv, or duckdb:SELECT..."),
    ],
    job_file: Annotated[Path, typer.Option("--job", metavar="JOB", help="A job file.")],
    as_: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Which of the parties this is.")
    ] = None,
    map_: Mapping = None,
    bad_rows: BadRowsOption = BadRows.refuse,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    thousands: Thousands = None,
    date_format: DateFormat = None,
    allow_empty: AllowEmpty = False,
) -> None:
    """Read a table as a run would, offline, and say everything about it but its values.

    Ends with exit status 2 if a run would refuse the table.
    """
    job = load_job(job_file, with_certificates=False)
    if as_ is not None:
        job.check_takes_part(as_)
        if as_ not in job.input_parties:
            raise UsageError(f"{as_} puts no table into {job.name}; {', '.join(job.input_parties)} do")
    dialect = Dialect(encoding, delimiter, decimal, thousands, date_format)
    check_table(stdout(), job, tables, TableOptions(map_ or [], bad_rows, dialect, allow_empty))


@app.command()
def patterns() -> None:
    """List what can be computed, and the parameters with their defaults."""
    console = stdout()
    for pattern in PATTERNS.values():
        console.print(f"{pattern.name}: {pattern.summary}", markup=False)
        console.print(f"each bank puts in its {pattern.table}; results: {', '.join(pattern.result_columns)}")
        defaults = pattern.show_parameters(pattern.parameters())
        console.print(table("", ("parameter", "default"), list(defaults.items())))
        console.print()


@app.command()
def check(
    job_file: Annotated[Path, typer.Argument(metavar="JOB", help="A job file.")],
    rows: Annotated[
        list[str] | None,
        typer.Option(
            help="Different identifiers a bank puts in: N for each, or NAME=N (repeat); "
            f"{_ASSUMED_ROWS} by default, or the job's max_rows where that is less."
        ),
    ] = None,
    network: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(_NETWORKS)}; all by default.")
    ] = None,
) -> None:
    """Explain a job: who takes part, what is opened to whom, what it will cost."""
    chosen = list(_NETWORKS.values())
    if network is not None:
        chosen = [n for n in chosen if n.name.lower() == network.lower()]
        if not chosen:
            raise UsageError(f"expected a network of {', '.join(_NETWORKS)}, got {network}")
    try:
        job = load_job(job_file)
        problem = ""
    except UsageError as error:
        job = load_job(job_file, with_certificates=False)  # what is wrong elsewhere is raised again here
        problem = str(error)
    counts = _counts(job, rows or [])
    console = stdout()
    for part in explain(job, counts, chosen, assumed=not rows):
        console.print(part)
        console.print()
    if problem:
        raise UsageError(f"the job cannot run as it stands: {problem}")
    console.print(f"Job fingerprint, equal at all parties: {job.digest.hex()}", soft_wrap=True)


def _counts(job: Job, given: Sequence[str]) -> dict[str, int]:
    most = job.query.row_limit
    counts = dict.fromkeys(
        job.input_parties, min(_ASSUMED_ROWS, most // job.round_rows_to * job.round_rows_to)
    )
    for text in given:
        name, equals, number = text.rpartition("=")
        if (
            not number.isascii()
            or not number.isdigit()
            or len(number) > 10
            or (equals and name not in counts)
        ):
            raise UsageError(
                f"expected --rows N or --rows NAME=N with an input party ({', '.join(counts)}), got {text!r}"
            )
        counts.update(dict.fromkeys([name] if equals else counts, int(number)))
    step = job.round_rows_to
    rounded = {name: -(-count // step) * step for name, count in counts.items()}
    for name, count in rounded.items():
        if count > most:
            up = f", rounded up to {count}," if count != counts[name] else ""
            raise UsageError(
                f"--rows is above the job's max_rows: {name} with {counts[name]} rows{up} where at most {most} are "
                "allowed; give fewer, or set max_rows in the job at all parties"
            )
    return rounded


@app.command()
def run(
    context: typer.Context,
    job_file: Annotated[Path, typer.Argument(metavar="JOB", help="A job file.")],
    out: Annotated[Path, typer.Option(help="A directory for the result and the run record.")],
    as_: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Which of the parties this is.")
    ] = None,
    identity: Annotated[
        Path | None,
        typer.Option(
            help="The directory with NAME.key and NAME.crt, or the key with the certificate beside."
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="The table: .csv, .parquet, .sql, or duckdb:SELECT...; repeat for several files; "
            "with --local NAME=TABLE."
        ),
    ] = None,
    map_: Mapping = None,
    bad_rows: BadRowsOption = BadRows.refuse,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    thousands: Thousands = None,
    date_format: DateFormat = None,
    allow_empty: AllowEmpty = False,
    listen: Annotated[
        str | None, typer.Option(help="host:port to listen at, if not this party's address.")
    ] = None,
    wait: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long to wait for the others, such as 90s, 30m or 8h."),
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Start every party as a process on this machine.")
    ] = False,
    progress: Annotated[Style, typer.Option(help="How to show progress, on standard error.")] = Style.auto,
) -> None:
    """Take part in a job as one party; or, with --local, try it out as all of them."""
    stop: Stop = context.obj
    with _errors_as_asked(progress):
        dialect = Dialect(encoding, delimiter, decimal, thousands, date_format)
        table_options = TableOptions(map_ or [], bad_rows, dialect, allow_empty)
        if local:
            if as_ or identity or listen:
                raise UsageError(
                    "--local makes names, identities and addresses itself; leave out --as, --identity, --listen"
                )
            job = load_job(job_file, with_certificates=False)
            options = _options_by_party(data or [], table_options)
            with shown_progress(progress) as on_progress:
                run_locally(job, options, out=out, on_progress=on_progress)
            for name in job.roster:
                written = Output(out, f"{name}.{job.name}")
                kept = written.path(".json")
                _tell(with_private_part(read_record(kept), kept), written.path(".csv"), kept)
            return
        if as_ is None or identity is None:
            raise UsageError("expected --as NAME and --identity DIR, or --local")
        job = load_job(job_file)
        job.check_takes_part(as_)
        own_identity = _identity(as_, identity)
        own_table = table_options.table(job, data) if data else None
        own_address = parse_address(listen) if listen else None
        wait_s = None if wait is None else _duration(wait)
        output = Output.probe(out, me=as_, job=job.name)

        def failed(record: dict[str, Any]) -> None:
            if own_table is not None:
                record["table"] = own_table.described()
            try:
                path = write_record(record, output, own_identity, suffix=output.failed_suffix())
                notes.append(f"record of the run: {path}")
            except UsageError as error:
                notes.append(str(error))

        notes: list[str] = []
        with shown_progress(progress) as on_progress, stop.driving(), _noted(notes):
            result = run_job(
                job,
                me=as_,
                identity=own_identity,
                read=own_table,
                listen=own_address,
                wait_s=wait_s,
                on_progress=stop.before(on_progress),
                on_failure=failed,
            )
        if own_table is not None:
            result.record["table"] = own_table.described()
            result = replace(result, rows=own_table.in_own_spelling(result.rows))
        table_file, record_file = result.write(output, own_identity)
        _tell(result.record, table_file, record_file)
        elsewhere = [path for path in (table_file, record_file) if path is not None and path.parent != out]
        if elsewhere:
            names = ", ".join(map(str, elsewhere))
            complain(UsageError(f"{out} cannot be written to any more; written instead: {names}"))
            raise typer.Exit(_WRITTEN_ELSEWHERE)


def _duration(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([smh]?)", text)
    count = float(found[1]) * {"s": 1, "": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if not 0 < count <= LONGEST_S:
        raise UsageError(
            f"expected a time such as 90s, 30m or 8h, at most {duration(LONGEST_S)}, got {text!r:.40}"
        )
    return count


def _identity(name: str, path: Path) -> Identity:
    check_name(name)
    if path.is_dir():
        return load_identity(name, path / f"{name}.key", path / f"{name}.crt")
    if not os.path.lexists(path):
        raise UsageError(
            f"expected with --identity the directory of {name}.key and {name}.crt, or the key; {path} is no directory "
            "and no key: there is no such file"
        )
    return load_identity(name, path, path.with_suffix(".crt"))


def _options_by_party(data: Sequence[str], table_options: TableOptions) -> dict[str, list[str]]:
    """Return the options of each party's own `secagg run`."""
    options: dict[str, list[str]] = {}
    for text in data:
        name, equals, source = text.partition("=")
        if not equals or not source:
            raise UsageError(f"with --local, expected --data NAME=TABLE, got {text!r}")
        options.setdefault(name, table_options.words()).extend(["--data", source])
    return options


def _tell(record: dict[str, Any], table_file: Path | None, record_file: Path) -> None:
    """Print how a run ended for one party."""
    name, console = record["party"], stdout()
    if (read := record.get("table")) is not None:
        text = f"{name}: {read['rows_read']} rows read, {read['rows_in_window']} used"
        text += "".join(
            f", {read[key]} {what}"
            for key, what in (("rows_outside", "outside the window"), ("rows_bad", "bad and left out"))
            if read[key]
        )
        say(console, text)
        for warning in read["warnings"]:
            say(console, f"{name}: warning: {warning}")
    if record["flagged"] is not None:
        count = record["announced_rows"][name]
        say(console, f"{name}: {record['flagged']} of its {count} identifiers are flagged: {table_file}")
    total = record["ledger"]["total"]
    say(
        console,
        f"{name}: {size(total['sent']['frame_bytes'])} sent, {total['rounds']} rounds, "
        f"{seconds(record['timings']['total_s'])}; record: {record_file}",
    )


@app.command()
def verify(
    record_file: Annotated[Path, typer.Argument(metavar="RECORD", help="A run record, NAME.JOB.json.")],
    certificate: Annotated[
        Path | None, typer.Option(help="The party's certificate, as you have it from the party.")
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
    """Check a run record: its signature, and the digests of the result and of the input table."""
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
        raise typer.Exit(1)


@app.command()
def demo(
    rows: Annotated[int, typer.Option(help="Transfers a bank, on average.")] = 30_000,
    banks: Annotated[int, typer.Option(help="How many banks, 3 to 20.")] = 3,
    seed: Annotated[int, typer.Option(help="The same seed gives the same tables.")] = 1,
    out: Annotated[
        Path, typer.Option(help="A directory for everything that the demo makes; replaced.")
    ] = Path("demo-output"),
) -> None:
    """Show it: made-up banks, each a process of its own, find together what none of them finds alone."""
    run_demo(out, banks=banks, rows=rows, seed=seed)


@contextmanager
def _noted(notes: Sequence[str]) -> Iterator[None]:
    """Add notes to whatever ends the body."""
    try:
        yield
    except BaseException as error:
        for note in notes:
            error.add_note(note)
        raise


@contextmanager
def _errors_as_asked(style: Style) -> Iterator[None]:
    """Tell errors as JSON where progress is."""
    try:
        yield
    except SecaggError as error:
        if style is not Style.json:
            raise
        print(error_line(error), file=sys.stderr, flush=True)  # noqa: T201
        raise typer.Exit(_status(error)) from None
