"""`secagg bench`: what protocols, operations and patterns cost on this machine, and on networks.

The module is long because the options of six commands stand in it, each with its help.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from secagg.bench import gallery, growth, plots, utility
from secagg.bench import networks as validation
from secagg.bench.campaign import run_cases
from secagg.bench.case import NETWORKS, Case, Kind, crossed, network_named
from secagg.bench.machine import machine, versions, where
from secagg.bench.store import NAME as RESULTS
from secagg.bench.store import Store, read
from secagg.bench.subjects import SIZED, names
from secagg.bench.table import Table
from secagg.cli.show import say, seconds, size, stderr, stdout, table
from secagg.errors import UsageError

UTILITY: Final = "utility.jsonl"
_FORMATS: Final = ("csv", "parquet", "json")
_QUICK: Final = (
    ("protocol", "additive"),
    ("protocol", "masked"),
    ("operation", "multiply"),
    ("operation", "less"),
)
_COLUMNS: Final = (
    ("subject", 20),
    ("parties", 7),
    ("size", 9),
    ("computing", 9),
    ("run by", 9),
    ("quartiles of the time", 29),
    ("rounds", 6),
    ("messages", 8),
    ("sent", 8),
    ("memory", 8),
    ("error", 8),
    ("declared", 8),
)
_SOURCES: Final = {None: "measured", True: "bytes as declared", False: "bytes declared as an expectation"}
# A curve that is further off where it was measured leads nowhere. Bytes and rounds are exact, times are noisy.
_FITS: Final = 0.05
_FITS_TIME: Final = 0.5
_NOTE: Final = (
    "All inputs are made up from --seed; keys and masks are real, drawn from the operating system, and thrown away. All "
    "parties run on this machine under its owner, so never give real data to a benchmark; there is no option for any."
)

app = typer.Typer(
    help=f"Measure costs, predict networks, and draw both. {_NOTE}",
    invoke_without_command=True,
)


@app.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    *,
    protocols: Annotated[
        str, typer.Option(metavar="NAME,...", help="Sums of vectors: masked, additive, ..., or all.")
    ] = "",
    operations: Annotated[
        str,
        typer.Option(
            metavar="NAME,...", help="Operations of the engines: multiply, less, sort, ..., or all."
        ),
    ] = "",
    patterns: Annotated[
        str,
        typer.Option(
            metavar="NAME,...", help="Patterns on their example data: collectors, cox, ..., or all."
        ),
    ] = "",
    parties: Annotated[
        str,
        typer.Option(
            metavar="N,...", help="Clients of sums (10); input parties of collectors and structuring."
        ),
    ] = "",
    lengths: Annotated[
        str, typer.Option(metavar="N,...", help="Numbers a client, or elements of an operation (1000).")
    ] = "",
    rows: Annotated[
        str, typer.Option(metavar="N,...", help=f"Rows a party of the patterns {' and '.join(SIZED)}.")
    ] = "",
    engines: Annotated[str, typer.Option(metavar="3,4", help="How many parties compute.")] = "3",
    networks: Annotated[
        str,
        typer.Option(
            metavar="NAME,...", help="For which times are predicted: names, or such as 20ms/100mbit."
        ),
    ] = "loopback,lan,wan,mobile",
    frac_bits: Annotated[str, typer.Option(metavar="N,...", help="Fractional bits of sums.")] = "",
    tcp: Annotated[
        bool, typer.Option("--tcp", help="Also in processes over TLS on this machine, after the simulator.")
    ] = False,
    repeat: Annotated[int, typer.Option(help="Measurements of each case.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the made-up inputs.")] = 1,
    out: Annotated[
        Path, typer.Option(help="A folder for the results; cases that are in it already are not run again.")
    ] = Path("bench-output"),
) -> None:
    """Measure all combinations of what is chosen, and write CSV, Parquet and JSON.

    Without a choice a few cases show what comes out. An interrupted campaign goes on where it ended.
    """
    if context.invoked_subcommand is not None:
        return
    subjects = [
        *_chosen("protocol", protocols),
        *_chosen("operation", operations),
        *_chosen("pattern", patterns),
    ]
    chosen: Sequence[tuple[Kind, str]] = subjects or _QUICK
    kinds, sized = {kind for kind, _ in chosen}, any(name in SIZED for _, name in chosen)
    for option, given, fits in (
        ("--parties", parties, "protocol" in kinds or sized),
        ("--lengths", lengths, bool(kinds - {"pattern"})),
        ("--rows", rows, sized),
        ("--frac-bits", frac_bits, "protocol" in kinds),
    ):
        if given and not fits:
            raise UsageError(
                f"{option} means nothing to {', '.join(name for _, name in chosen)}; leave it out"
            )
    cases = [
        case
        for driver in (False, True)[: 1 + tcp]
        for kind, name in chosen
        for bits in (_numbers("--frac-bits", frac_bits) if kind == "protocol" else ()) or (0,)
        for case in crossed(
            [(kind, name)],
            parties=_numbers("--parties", parties) if kind == "protocol" or name in SIZED else (),
            sizes=_numbers("--rows", rows)
            if kind == "pattern" and name in SIZED
            else ()
            if kind == "pattern"
            else _numbers("--lengths", lengths),
            engines=_numbers("--engines", engines),
            networks=tuple(_words(networks)),
            repeat=repeat,
            seed=seed,
            frac_bits=bits,
            tcp=driver,
        )
    ]
    measure_all(cases, out)


def measure_all(cases: Sequence[Case], out: Path) -> Table:
    """Measure cases, show them while they come, write the tables, and return the results."""
    console, store = stdout(), Store(out, where())
    for name, value in {**machine(), **versions()}.items():
        say(console, f"{name.replace('_', ' ')}: {size(value) if name.endswith('bytes') else value}")
    if store.elsewhere:
        say(
            stderr(),
            f"secagg: {store.path} holds {store.elsewhere} results of another machine or of other versions; these cases are "
            "measured anew, and the tables hold this machine's alone",
        )
    say(console, "")
    with _Shown(console, sum(case.repeat for case in cases)) as shown:
        results = run_cases(cases, store, shown)
    if predicted := [result for result in results.results if result["networks"]]:
        console.print()
        console.print(_networks_table(predicted))
    say(console, "")
    for ending in _FORMATS:
        results.write(out / f"results.{ending}")
    say(console, f"{len(results.results)} cases in {out}: results.csv, results.parquet, results.json")
    return results


@app.command("list")
def list_() -> None:
    """List what can be measured."""
    console = stdout()
    for kind, known in names().items():
        say(console, f"{kind}s: {', '.join(known)}")
    say(console, f"networks: {', '.join(NETWORKS)}, or such as 20ms/100mbit")


@app.command("growth")
def growth_(
    protocols: Annotated[str, typer.Option(metavar="NAME,...", help="Sums of vectors.")] = "",
    operations: Annotated[str, typer.Option(metavar="NAME,...", help="Operations of the engines.")] = "",
    patterns: Annotated[str, typer.Option(metavar="NAME,...", help=f"{' or '.join(SIZED)}.")] = "",
    parties: Annotated[
        str, typer.Option(metavar="N,...", help="Clients; three or more numbers, or one where sizes grow.")
    ] = "",
    sizes: Annotated[
        str,
        typer.Option(
            metavar="N,...", help="Numbers, elements or rows; three or more, or one where clients grow."
        ),
    ] = "",
    engines: Annotated[str, typer.Option(metavar="3,4", help="How many parties compute.")] = "3",
    repeat: Annotated[int, typer.Option(help="Measurements of each case.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the made-up inputs.")] = 1,
    out: Annotated[Path, typer.Option(help="A folder for the results, as of secagg bench.")] = Path(
        "bench-output"
    ),
) -> None:
    """Fit how costs grow, and extrapolate to 10^9.

    They grow with clients or with sizes.
    Bytes and rounds are compared with what the protocols declare. What is extrapolated is labelled so.
    """
    counts, lengths = _numbers("--parties", parties), _numbers("--sizes", sizes)
    if (len(counts) > 1) == (len(lengths) > 1):
        raise UsageError(
            "expected three or more numbers for one of --parties and --sizes, and one or none for the other"
        )
    grows = counts if len(counts) > 1 else lengths
    if len(set(grows)) < growth.LEAST_POINTS:
        raise UsageError(
            f"expected {growth.LEAST_POINTS} different numbers or more, through which a curve leads, got "
            + ", ".join(map(str, grows))
        )
    chosen = [
        *_chosen("protocol", protocols),
        *_chosen("operation", operations),
        *_chosen("pattern", patterns),
    ]
    if not chosen or (len(counts) > 1 and operations):
        raise UsageError(
            "expected --protocols, --operations or --patterns; the parties of operations are --engines"
        )
    cases = list(
        crossed(
            chosen,
            parties=counts,
            sizes=lengths,
            engines=_numbers("--engines", engines),
            networks=(),
            repeat=repeat,
            seed=seed,
        )
    )
    results = measure_all(cases, out)
    axis: growth.Axis = "parties" if len(counts) > 1 else "size"
    _print_growths(stdout(), growth.growths(results, axis))


def _print_growths(console: Console, grown: Sequence[growth.Growth]) -> None:
    what = {"parties": "clients", "size": "numbers, elements or rows"}[grown[0].axis]
    for subject in dict.fromkeys(one.subject for one in grown):
        own = [one for one in grown if one.subject == subject]
        largest = max(one.curve.largest for one in own)
        far = [n for n in growth.FAR if n > largest]
        curves = [
            (one.figure, str(one.curve), f"{one.curve.residual:.1%}", _SOURCES[one.as_declared])
            for one in own
        ]
        headings = ("figure", f"curve in n {what}", "off by at most", "")
        console.print(table(f"\n{subject}", headings, curves))
        rows = [(one.figure, _figure(one.points[-1][1], one.unit), *_far(one, far)) for one in own]
        columns = ("figure", f"measured at {largest:,.0f}", *(f"10^{len(str(n)) - 1}" for n in far))
        title = f"Beyond {largest:,.0f} {what}, not measured: ~ is extrapolated, all else is declared for that size"
        if any("no curve" in row for row in rows):
            title += "; where no curve fits, measure at more sizes"
        console.print(table(title, columns, rows))


def _far(one: growth.Growth, sizes: Sequence[int]) -> Iterator[str]:
    for n in sizes:
        if n in one.declared:
            yield _figure(one.declared[n], one.unit)
        elif one.curve.residual > (_FITS_TIME if one.unit == "s" else _FITS):
            yield "no curve"
        else:
            yield f"~{_figure(one.curve.at(n), one.unit)}"


def _figure(value: float, unit: str) -> str:
    if unit == "B":
        return size(value)
    if unit == "":
        return f"{value:.0f}"
    for name, count in (("years", 365.25 * 86_400), ("days", 86_400), ("h", 3600)):
        if value >= 2 * count:
            return f"{value / count:,.3g} {name}"
    return seconds(value)


@app.command("networks")
def networks_(
    networks: Annotated[
        str, typer.Option(metavar="NAME,...", help="Names, or such as 20ms/100mbit.")
    ] = ",".join(validation.NETWORKS),
    repeat: Annotated[int, typer.Option(help="Pairs of runs for each case and network.")] = 3,
    tiny: Annotated[bool, typer.Option("--tiny", help="One little case, to see that it runs.")] = False,
) -> None:
    """Hold predictions against measurements over TLS.

    A bank job, a sort, comparisons and a masked sum run in the simulator, and as processes whose bytes a relay delays and
    throttles. The last line states the largest difference.
    """
    console, texts = stdout(), _words(networks)
    for text in texts:
        network_named(text)
    found = validation.calibrate(1 if tiny else repeat)
    host = found.host
    say(
        console,
        f"this machine: {host.cores} cores; a message takes {seconds(host.send_s + host.receive_s)} and a byte "
        f"{1e9 * host.byte_s:.2g} ns at each end under TLS; the relay adds {seconds(found.relay_s)}",
    )
    say(console, f"{'case':58}  {'network':>12}  predicted   measured  difference  no processor")
    rows = []
    cases = [replace(validation.CASES[2], size=100)] if tiny else validation.CASES
    for row in validation.validate(cases, texts, found, repeat=repeat):
        rows.append(row)
        say(
            console,
            f"{row.case!s:58}  {row.network:>12}  {seconds(row.predicted):>9}  {seconds(row.measured):>9}  "
            f"{row.difference:>+10.1%}  {row.queued:>12.0%}{'  disturbed' * row.disturbed}",
        )
    say(console, validation.conclusion(rows))


@app.command("plot")
def plot(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="results.jsonl or utility.jsonl, or folders with them."),
    ],
    out: Annotated[Path, typer.Option(help="A folder for the plots.")] = Path("bench-plots"),
) -> None:
    """Draw results, as SVG and PNG.

    Each plot is drawn that they have data for.
    Time against size, bytes against parties, predicted time against latency, error against fractional bits, and
    utility against epsilon.
    """
    found = [path for given in files for path in (_in_folder(given) if given.is_dir() else [given])]
    for path in found:
        if path.name == UTILITY:
            drawn = plots.draw_utility(_read_utility(path), out)
        else:
            drawn = plots.draw(Table.of(read(path)), out)
        for file in drawn:
            say(stdout(), str(file))


def _in_folder(folder: Path) -> list[Path]:
    found = [path for path in (folder / RESULTS, folder / UTILITY) if path.exists()]
    if not found:
        raise UsageError(f"expected {RESULTS} or {UTILITY} in {folder}, found neither")
    return found


@app.command("utility")
def utility_(
    data_sets: Annotated[str, typer.Option(metavar="NAME,...", help="Of scikit-learn's.")] = ",".join(
        utility.DATA_SETS
    ),
    epsilons: Annotated[
        str, typer.Option(metavar="NUMBER,...", help="What a sum may tell of one person.")
    ] = ",".join(f"{epsilon:g}" for epsilon in utility.EPSILONS),
    repeat: Annotated[int, typer.Option(help="Splits into training and test rows.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the splits.")] = 1,
    out: Annotated[Path, typer.Option(help="A folder for utility.jsonl.")] = Path("bench-output"),
) -> None:
    """Train classifiers with and without noise.

    The noise of their sums is that of differential privacy.
    The data sets are public ones that scikit-learn brings; each row is a person. Needs secagg[plots] and secagg[dp].
    """
    try:
        budgets = [float(word) for word in _words(epsilons)]
    except ValueError:
        raise UsageError(
            f"expected numbers with commas between them for --epsilons, got {epsilons!r:.80}"
        ) from None
    console, lines = stdout(), []
    for point in utility.utilities(_words(data_sets), budgets, repeat=repeat, seed=seed):
        noise = "without noise" if point.epsilon is None else f"epsilon {point.epsilon:g}"
        say(console, f"{point.data_set:14}  split {point.seed}  {noise:14}  accuracy {point.accuracy:.1%}")
        lines.append(json.dumps(asdict(point)) + "\n")
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / UTILITY).write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}") from None


def _read_utility(path: Path) -> list[utility.Utility]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [msgspec.json.decode(line, type=utility.Utility) for line in lines]
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise UsageError(
            f"expected what secagg bench utility writes in {path}, got something else: {error}"
        ) from None


@app.command("gallery")
def gallery_(
    out: Annotated[Path, typer.Option(help="A folder for results and plots.")] = Path("bench-gallery"),
    tiny: Annotated[bool, typer.Option("--tiny", help="Little cases, to see that they run.")] = False,
) -> None:
    """Measure and draw the gallery.

    It is all that the documentation shows of measurements. It takes some minutes.
    """
    measure_all(list(gallery.cases(tiny=tiny)), out)
    if tiny:
        utility_("wine", "8", 1, 1, out)
    elif not (out / UTILITY).exists():
        utility_(",".join(utility.DATA_SETS), ",".join(f"{e:g}" for e in utility.EPSILONS), 2, 1, out)
    plot([out], out)


class _Shown:
    """A line for each case that is done, and below them how far the campaign is."""

    def __init__(self, console: Console, repeats: int) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=repeats)

    def __enter__(self) -> _Shown:
        self._progress.start()
        self._print(_line([name for name, _ in _COLUMNS]))
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, case: Case) -> None:
        self._progress.update(self._task, description=str(case))

    def repeated(self, case: Case, done: int) -> None:  # noqa: ARG002  # of the protocol `Watcher`
        self._progress.advance(self._task)

    def end(self, case: Case, result: dict[str, Any], *, kept: bool) -> None:
        if kept:
            self._progress.advance(self._task, case.repeat)
        self._print(_line(_cells(case, result)) + (" (from before)" if kept else ""))

    def _print(self, text: str) -> None:
        say(self._console, text)


def _cells(case: Case, result: dict[str, Any]) -> list[str]:
    totals = [phases["total"] for phases in result["parties"].values()]
    declared = result["declared"]
    return [
        case.name,
        f"{case.parties:,}" if case.parties else "",
        f"{case.size:,}" if case.size else "",
        str(case.engine or ""),
        "TLS" if case.tcp else "simulator",
        " ".join(f"{seconds(value):>9}" for value in result["seconds"]),
        str(result["rounds"]),
        f"{result['messages']:,}",
        size(max(total["frame_bytes"] for total in totals)),
        size(result["peak_bytes"]),
        f"{result['error']:.2g}" if result["error"] else "0",
        "" if not declared else "equal" if declared["bytes_equal"] else "expected",
    ]


def _line(cells: Sequence[str]) -> str:
    padded = [
        text.rjust(width) if place else text.ljust(width)
        for place, (text, (_, width)) in enumerate(zip(cells, _COLUMNS, strict=True))
    ]
    return "  ".join(padded).rstrip()


def _networks_table(results: Sequence[dict[str, Any]] | Sequence[Any]) -> Any:
    networks = list(dict.fromkeys(name for result in results for name in result["networks"]))
    rows = [
        (
            str(Case.from_dict(result["case"])),
            *(
                seconds(result["networks"][name][1]) if name in result["networks"] else ""
                for name in networks
            ),
        )
        for result in results
    ]
    return table("Predicted seconds on networks, from the measured runs", ("case", *networks), rows)


def _chosen(kind: Kind, text: str) -> list[tuple[Kind, str]]:
    known = names()[kind]
    words = list(known) if text == "all" else _words(text)
    for word in words:
        if word not in known:
            raise UsageError(f"expected {kind}s among {', '.join(known)}, got {word!r:.80}")
    return [(kind, word) for word in words]


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(word.replace("_", "")) for word in _words(text)]
    except ValueError:
        raise UsageError(
            f"expected whole numbers with commas between them for {option}, got {text!r:.80}"
        ) from None
