"""`secagg run`: take part in a job as one party, or try it out as all of them."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from secagg.cli.exits import WRITTEN_ELSEWHERE
from secagg.cli.progress import Style, errors_as_asked, shown_progress
from secagg.cli.show import complain, duration, say, seconds, size, stdout
from secagg.cli.stopping import Stop
from secagg.cli.table_options import (
    AllowEmptyOption,
    BadRows,
    BadRowsOption,
    DateFormatOption,
    DecimalOption,
    DelimiterOption,
    EncodingOption,
    MapOption,
    SourcesOption,
    TableOptions,
    ThousandsOption,
)
from secagg.cli.worker_options import WorkerFolderOption, WorkerMemoryOption, WorkersOption, workplace_of
from secagg.data.dialect import Dialect
from secagg.errors import DataError, UsageError
from secagg.home import Home

if TYPE_CHECKING:
    from secagg.jobs.job import Job, Member
    from secagg.jobs.local import OnProgress
    from secagg.jobs.run import Progress
    from secagg.network.identity import Identity

__all__ = ["HomeOption", "duration_of", "identity_at", "run", "who_takes_part"]

_FOR_ALL: Final = (
    "with --local, --map and the options of a table's form hold for the tables of all parties; where tables differ, "
    "a source file says how each is read: --sources FILE --data NAME=source:ENTRY"
)
HomeOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="This organisation's folder. By default $SECAGG_HOME, where that is set, or else ~/.secagg, if it is there.",
    ),
]


def run(
    context: typer.Context,
    job_file: Annotated[Path, typer.Argument(metavar="JOB", help="A job file.")],
    out: Annotated[Path, typer.Option(help="A directory for the result and the run record.")],
    as_: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="NAME",
            help="Which of the job's parties this is; by default as in the consortium of --home.",
        ),
    ] = None,
    identity: Annotated[
        Path | None,
        typer.Option(
            help="The directory with NAME.key and NAME.crt, or the key with the certificate beside it; "
            "keys/ of --home by default."
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DATA",
            help='The table: a file, a glob such as 2026-*.csv, "duckdb:SELECT ...", or source:NAME of the source file '
            "(repeat for several); TABLE=DATA where the job takes several tables; with --local NAME=DATA or "
            "NAME=TABLE=DATA. By default what the source file says of the job's tables.",
        ),
    ] = None,
    map_: MapOption = None,
    bad_rows: BadRowsOption = BadRows.refuse,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    decimal: DecimalOption = None,
    thousands: ThousandsOption = None,
    date_format: DateFormatOption = None,
    allow_empty: AllowEmptyOption = False,
    sources: SourcesOption = None,
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Where to listen, if not at this party's address in the job."),
    ] = None,
    wait: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="How long to wait for the others, such as 90s, 30m or 8h; connect_s of the job by default.",
        ),
    ] = None,
    home: HomeOption = None,
    workers: WorkersOption = None,
    worker_folder: WorkerFolderOption = None,
    worker_memory: WorkerMemoryOption = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Where Prometheus reads how far the run is, such as 127.0.0.1:9464."
        ),
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Start every party as a process on this machine.")
    ] = False,
    progress: Annotated[Style, typer.Option(help="How to show progress, on standard error.")] = Style.auto,
) -> None:
    """Take part in a job as one party, or try it out with --local.

    JOB is a job file, the same at all parties. A party needs --as, --identity and, if it puts in data, --data or a
    source file. Its folder (--home) says what was approved. With --local, every party is a process on this machine,
    and --data NAME=TABLE gives each its table.
    """
    from secagg.data.source_files import SOURCES
    from secagg.jobs.job_file import load_job
    from secagg.jobs.job_parties import parse_address
    from secagg.jobs.local import run_locally
    from secagg.jobs.output import Output
    from secagg.jobs.record import write_record
    from secagg.jobs.resuming import NAME as RESUME
    from secagg.jobs.run import run_job
    from secagg.jobs.signature import read_record, with_private_part
    from secagg.jobs.unable import Cause, telling_others
    from secagg.joint.gates import gates_of
    from secagg.joint.resume import resuming_of

    stop: Stop = context.obj
    with errors_as_asked(progress):
        dialect = Dialect(encoding, delimiter, decimal, thousands, date_format)
        table_options = TableOptions(map_ or [], bad_rows, dialect, allow_empty, sources)
        if local:
            if any(
                given is not None for given in (as_, identity, listen, wait, home, workers, worker_folder)
            ):
                raise UsageError(
                    "--local starts every party at once, with identities and addresses of its own; leave out --as, "
                    "--identity, --listen, --wait, --home, --workers, --worker-folder"
                )
            job = load_job(job_file, with_certificates=False)
            options = _options_by_party(data or [], table_options)
            memory = [] if worker_memory is None else ["--worker-memory", worker_memory]
            try:
                with shown_progress(progress) as on_progress:
                    elsewhere = run_locally(
                        job, options, out=out, on_progress=on_progress, all_options=memory
                    )
            except DataError as error:
                if map_ or dialect != Dialect():
                    error.add_note(_FOR_ALL)
                raise
            for name in job.roster:
                if name in elsewhere:
                    complain(UsageError(f"{name}: {elsewhere[name]}"))
                    continue
                written = Output(out, f"{name}.{job.name}")
                kept = written.path(".json")
                _tell(with_private_part(read_record(kept), kept), written.path(".csv"), kept)
            if elsewhere:
                raise typer.Exit(WRITTEN_ELSEWHERE)
            return
        own_home = Home.find(home)
        as_, identity, known = who_takes_part(own_home, as_, identity)
        job = load_job(job_file, known=known)
        job.check_takes_part(as_)
        own_identity = identity_at(as_, identity)
        own_address = parse_address(listen) if listen else None
        wait_s = None if wait is None else duration_of(wait)
        gates = () if own_home is None else gates_of(own_home, job, own_identity)
        unable = functools.partial(
            telling_others,
            job,
            me=as_,
            identity=own_identity,
            gates=[gate.name for gate in gates] + ([] if own_home is None else [RESUME]),
            listen=own_address,
        )
        with unable(Cause.CHECKS):
            resuming = None if own_home is None else resuming_of(own_home, job, as_)
        with unable(Cause.DATA):
            own_tables = table_options.own_tables(job, data, me=as_, home=own_home)
            if own_tables is None and as_ in job.input_parties:
                place = "sources.toml of a home folder" if own_home is None else own_home.path / SOURCES
                raise UsageError(
                    f"{as_} puts data into {job.name}, and nothing says where it is: write in {place} where "
                    f"{', '.join(job.pattern_at(as_).inputs)} is, or give secagg run --data or --sources"
                )
        output = Output(out, f"{as_}.{job.name}")

        def try_results() -> None:
            with unable(Cause.RESULTS):
                Output.probe(out, me=as_, job=job.name)

        def failed(record: dict[str, Any]) -> None:
            try:
                path = write_record(record, output, own_identity, suffix=output.failed_suffix())
                notes.append(f"record of the run: {path}")
                if resuming is not None and resuming.kept and job.shards == 1:
                    notes.append("a checkpoint is kept: the same command at every party lets this run go on")
            except UsageError as error:
                notes.append(str(error))

        notes: list[str] = []
        workplace = workplace_of(job, workers, folder=worker_folder or out, memory=worker_memory)
        with shown_progress(progress) as on_progress, stop.driving(), _noted(notes):
            result = run_job(
                job,
                me=as_,
                identity=own_identity,
                read=own_tables,
                listen=own_address,
                wait_s=wait_s,
                gates=gates,
                resuming=resuming,
                on_ready=try_results,
                workplace=workplace,
                on_progress=stop.before(_measured(job, metrics, on_progress)),
                on_failure=failed,
                on_ended=stop.keep,
            )
        table_file, record_file = result.write(output, own_identity)
        if resuming is not None:
            resuming.delete()
        _tell(result.record, table_file, record_file)
        moved = [path for path in (table_file, record_file) if path is not None and path.parent != out]
        if moved:
            names = ", ".join(map(str, moved))
            complain(UsageError(f"{out} does not take all files any more; they are written instead: {names}"))
            raise typer.Exit(WRITTEN_ELSEWHERE)


def _measured(job: Job, metrics: str | None, on_progress: OnProgress) -> OnProgress:
    """Return what tells Prometheus as well how far the run is, where it is asked to."""
    from secagg.jobs.job_parties import parse_address

    if metrics is None:
        return on_progress
    if importlib.util.find_spec("prometheus_client") is None:
        raise UsageError("--metrics needs prometheus-client: pip install 'secagg[serve]'")
    from secagg.joint.serve.metrics import Metrics

    numbers = Metrics()
    numbers.listen(parse_address(metrics))

    def report(progress: Progress) -> None:
        numbers.progress(job.name, progress)
        on_progress(progress)

    return report


def who_takes_part(
    home: Home | None, name: str | None, identity: Path | None
) -> tuple[str, Path, Mapping[str, Member]]:
    """Return this party's name, where its identity is, and whom its consortium knows; raises `UsageError`."""
    from secagg.joint.consortium import Consortium

    known: Mapping[str, Member] = {}
    if home is not None and home.consortium.exists():
        consortium = Consortium.load(home)
        name, identity, known = name or consortium.me, identity or home.keys, consortium.directory()
    if name is None or identity is None:
        raise UsageError(
            "expected --as NAME and --identity DIR, a folder with a consortium (--home), or --local"
        )
    return name, identity, known


def duration_of(text: str) -> float:
    """Return a time of the command line in seconds; raises `UsageError`."""
    from secagg.jobs.job_parties import LONGEST_S

    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([smh]?)", text)
    count = float(found[1]) * {"s": 1, "": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if not 0 < count <= LONGEST_S:
        raise UsageError(
            f"expected a time such as 90s, 30m or 8h, at most {duration(LONGEST_S)}, got {text!r:.40}"
        )
    return count


def identity_at(name: str, path: Path) -> Identity:
    """Return the identity that --identity names; errors as `load_identity`."""
    from secagg.network.identity import check_name, load_identity

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
            raise UsageError(f"with --local, expected --data NAME=DATA, got {text!r}")
        options.setdefault(name, table_options.words()).extend(["--data", source])
    return options


def _tell(record: dict[str, Any], table_file: Path | None, record_file: Path) -> None:
    """Print how a run ended for one party."""
    name, console = record["party"], stdout()
    tables = record.get("tables", {})
    for table, read in tables.items():
        whose = f"{name}: {table}" if len(tables) > 1 else name
        text = f"{whose}: {read['rows_read']} rows read, {read['rows_in_window']} used"
        text += "".join(
            f", {read[key]} {what}"
            for key, what in (("rows_outside", "outside the window"), ("rows_bad", "bad and left out"))
            if read[key]
        )
        say(console, text)
        for warning in read["warnings"]:
            say(console, f"{whose}: warning: {warning}")
    for text in _left_out(record.get("screened", {}).get("consent", {})):
        say(console, f"{name}: {text}")
    if (told := record.get("result_rows")) is not None:
        say(console, f"{name}: {told} {'row' if told == 1 else 'rows'} in the result: {table_file}")
    if record["ledger"] is None:
        say(console, f"{name}: the result of the run that ended before it was written; record: {record_file}")
        return
    total = record["ledger"]["total"]
    of_workers = [one["ledger"]["total"]["sent"]["frame_bytes"] for one in record.get("workers", [])]
    sent, rounds = total["sent"]["frame_bytes"] + sum(of_workers), f"{total['rounds']} rounds"
    if of_workers:
        rounds = f"{size(sum(of_workers))} of it by workers in {len(of_workers)} sessions, {rounds} of the main session"
    took = seconds(record["timings"]["total_s"])
    say(console, f"{name}: {size(sent)} sent, {rounds}, {took}; record: {record_file}")


def _left_out(screened: dict[str, Any]) -> Iterator[str]:
    """Yield whose rows did not enter."""
    for table, rows in screened.get("excluded", {}).items():
        if rows:
            yield f"{table}: {rows} rows left out by exclusion lists"
    for name in screened.get("idle_lists", ()):
        yield f"the exclusion list {name} is about no column of this job; see that none is misspelt"
    for table, counts in screened.get("suppressed", {}).items():
        if counts["rows"]:
            yield f"{table}: {counts['rows']} rows suppressed as too few alike"
        if counts["rows_with_cells"]:
            yield f"{table}: {counts['rows_with_cells']} rows with suppressed cells"


@contextmanager
def _noted(notes: Sequence[str]) -> Iterator[None]:
    """Add notes to whatever ends the body."""
    try:
        yield
    except BaseException as error:
        for note in notes:
            error.add_note(note)
        raise
