"""`secagg bench`: what protocols, operations and patterns cost on this machine, and on networks.

The module is long because the options of six commands stand in it, each with its help. How results are shown is in
`bench_shown`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from secagg.bench.case import SIZED
from secagg.cli.bench_shown import (
    Campaign,
    Comparison,
    compared_markdown,
    disturbed_text,
    growths_markdown,
    print_growths,
    print_machine,
    print_predictions,
)
from secagg.cli.show import say, size, stderr, stdout
from secagg.errors import UsageError
from secagg.printable import printable_lines

if TYPE_CHECKING:
    from secagg.bench import growth
    from secagg.bench.case import Case, Kind
    from secagg.bench.table import Table

UTILITY: Final = "utility.jsonl"
_FORMATS: Final = ("csv", "parquet", "json")
_QUICK: Final = (
    ("protocol", "additive"),
    ("protocol", "masked"),
    ("operation", "multiply"),
    ("operation", "less"),
)
_SIZES: Final = f"Numbers a client, elements of an operation, or rows a party of {' and '.join(SIZED)}"
# Of modules that are imported when they are asked for: `networks.NETWORKS`, `utility.DATA_SETS` and `utility.EPSILONS`.
_VALIDATED: Final = "lan,5ms/100mbit,wan,mobile"
_DATA_SETS: Final = "breast_cancer,digits,wine"
_EPSILONS: Final = "0.5,1,2,4,8,16"
_WRITE: Final = "Also write the table into this page, between the lines that name the command."
_NOTE: Final = (
    "All inputs are made up from --seed; keys and masks are real, drawn from the operating system, and thrown away. All "
    "parties run on this machine under its owner, so never give real data to a benchmark; there is no option for any."
)


class TableForm(StrEnum):
    """`bench_table.Form` as the command line takes it."""

    markdown = "markdown"
    latex = "latex"


app = typer.Typer(
    help=(
        "Measure costs, predict networks, and draw both.\n\n"
        "All combinations of what is chosen are measured, and written as CSV, Parquet and JSON. An "
        "option is given once, with commas between its values, each of which is there once. Without a choice a few "
        f"cases show what comes out. An interrupted campaign goes on where it ended. {_NOTE}"
    ),
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
    sizes: Annotated[str, typer.Option(metavar="N,...", help=f"{_SIZES} (1000).")] = "",
    engines: Annotated[str, typer.Option(metavar="3,4", help="How many parties compute (3).")] = "",
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
    from secagg.bench.case import crossed

    if context.invoked_subcommand is not None:
        return
    subjects = [
        *_chosen("protocol", protocols),
        *_chosen("operation", operations),
        *_chosen("pattern", patterns),
    ]
    chosen: Sequence[tuple[Kind, str]] = subjects or _QUICK
    _check_meant(chosen, parties=parties, sizes=sizes, engines=engines, frac_bits=frac_bits)
    cases = [
        case
        for driver in (False, True)[: 1 + tcp]
        for kind, name in chosen
        for bits in (_numbers("--frac-bits", frac_bits) if kind == "protocol" else ()) or (0,)
        for case in crossed(
            [(kind, name)],
            parties=_numbers("--parties", parties) if kind == "protocol" or name in SIZED else (),
            sizes=_numbers("--sizes", sizes) if kind != "pattern" or name in SIZED else (),
            engines=_numbers("--engines", engines),
            networks=tuple(_words("--networks", networks)),
            repeat=repeat,
            seed=seed,
            frac_bits=bits,
            tcp=driver,
        )
    ]
    measure_all(cases, out)


def _check_meant(
    chosen: Sequence[tuple[Kind, str]], *, parties: str, sizes: str, engines: str, frac_bits: str = ""
) -> None:
    """Refuse an option that would be ignored, because it means nothing to any subject that is chosen."""
    kinds, sized = {kind for kind, _ in chosen}, any(name in SIZED for _, name in chosen)
    for option, given, fits in (
        ("--parties", parties, "protocol" in kinds or sized),
        ("--sizes", sizes, bool(kinds - {"pattern"}) or sized),
        ("--engines", engines, bool(kinds - {"protocol"})),
        ("--frac-bits", frac_bits, "protocol" in kinds),
    ):
        if given and not fits:
            raise UsageError(
                f"{option} means nothing to {', '.join(name for _, name in chosen)}; leave it out"
            )


def measure_all(cases: Sequence[Case], out: Path) -> Table:
    """Measure cases, show them while they come, write the tables, and return the results."""
    from secagg.bench.campaign import run_cases
    from secagg.bench.machine import machine, versions, where
    from secagg.bench.store import Store
    from secagg.bench.subjects import check

    for case in cases:  # the last of them must not be refused hours after the first was begun
        check(case)
    console, store = stdout(), Store(out, where())
    for name, value in {**machine(), **versions()}.items():
        say(console, f"{name.removesuffix('_bytes')}: {size(value) if name.endswith('_bytes') else value}")
    if store.elsewhere:
        say(
            stderr(),
            f"secagg: {store.path} holds {store.elsewhere} results of another machine or of other versions; these cases are "
            "measured anew, and the tables hold this machine's alone",
        )
    say(console, "")
    try:
        with Campaign(console, sum(case.repeat for case in cases)) as shown:
            results = run_cases(cases, store, shown)
    except KeyboardInterrupt:
        say(
            stderr(),
            f"secagg: {store.path} holds the cases that are done; the same command measures the others",
        )
        raise
    if predicted := [result for result in results.results if result["networks"]]:
        console.print()
        print_predictions(console, predicted)
    say(console, "")
    if disturbed := disturbed_text(results.results):
        say(stderr(), f"secagg: {disturbed}")
    for ending in _FORMATS:
        results.write(out / f"results.{ending}")
    count = len(results.results)
    say(
        console,
        f"{count} case{'s' * (count != 1)} in {out}: results.csv, results.parquet, results.json; "
        f"for a paper: secagg bench table {out}, secagg bench plot {out}",
    )
    return results


@app.command("list")
def list_() -> None:
    """List what can be measured."""
    from secagg.bench.case import NETWORKS
    from secagg.bench.subjects import names

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
        typer.Option(metavar="N,...", help=f"{_SIZES}; three or more, or one where clients grow."),
    ] = "",
    engines: Annotated[str, typer.Option(metavar="3,4", help="How many parties compute (3).")] = "",
    repeat: Annotated[int, typer.Option(help="Measurements of each case.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the made-up inputs.")] = 1,
    out: Annotated[Path, typer.Option(help="A folder for the results, as of secagg bench.")] = Path(
        "bench-output"
    ),
    write: Annotated[Path | None, typer.Option(metavar="PAGE", help=_WRITE)] = None,
) -> None:
    """Fit how costs grow, and extrapolate to 10^9.

    They grow with clients or with sizes.
    Bytes and rounds are compared with what the protocols declare. What is extrapolated is labelled so.
    """
    from secagg.bench import growth
    from secagg.bench.case import crossed
    from secagg.bench.page import check_page, put

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
    _check_meant(chosen, parties=parties, sizes=sizes, engines=engines)
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
    axis: growth.Axis = "parties" if len(counts) > 1 else "size"
    place = f"growth by {axis}"
    if write is not None:
        check_page(write, place)
    grown = growth.growths(measure_all(cases, out), axis)
    print_growths(stdout(), grown)
    if write is not None:
        put(write, place, growths_markdown(grown))


@app.command("networks")
def networks_(
    networks: Annotated[
        str, typer.Option(metavar="NAME,...", help="Names, or such as 20ms/100mbit.")
    ] = _VALIDATED,
    repeat: Annotated[int, typer.Option(help="Pairs of runs for each case and network.")] = 5,
    tiny: Annotated[bool, typer.Option("--tiny", help="One little case, to see that it runs.")] = False,
    write: Annotated[Path | None, typer.Option(metavar="PAGE", help=_WRITE)] = None,
) -> None:
    """Hold predictions against measurements over TLS.

    A bank job, a sort, comparisons and a masked sum run in the simulator, and as processes whose bytes a relay delays and
    throttles. Rows that other work on this machine disturbed are marked. The last line states the largest difference.
    """
    from secagg.bench import networks as validation
    from secagg.bench.page import check_page, put

    console, texts = stdout(), _words("--networks", networks)
    cases = [
        replace(case, repeat=repeat, networks=tuple(texts))
        for case in ([replace(validation.CASES[2], size=100)] if tiny else validation.CASES)
    ]
    if not texts:
        raise UsageError("expected a network or more for --networks, got none")
    if write is not None:
        check_page(write, "networks")
    machine_ = validation.calibrate(1 if tiny else validation.CALIBRATIONS)
    print_machine(console, machine_)
    rows = []
    with Comparison(console, len(cases) * len(texts) * repeat) as shown:
        for row in validation.validate(cases, texts, machine_, repeat=repeat, on_pair=shown.done):
            rows.append(row)
            shown.print(row)
    last = validation.conclusion(rows)
    if write is not None:
        put(write, "networks", compared_markdown(rows, last))
    say(console, last)


@app.command("table")
def table_(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS...", help="results.jsonl or results.json, or folders with results.jsonl."
        ),
    ],
    form: Annotated[TableForm, typer.Option("--form", help="How it is written.")] = TableForm.markdown,
) -> None:
    """Print results as a table for a paper.

    A row for each case, in LaTeX or Markdown, and below it how it was measured: repetitions, networks, security levels,
    seed, machine and versions. Results of several machines or versions are several tables.
    """
    from secagg.bench.store import NAME as RESULTS
    from secagg.bench.store import read
    from secagg.bench.table import Table
    from secagg.cli.bench_table import tables

    found = []
    for given in files:
        found += read(given / RESULTS if given.is_dir() else given)
    Table.of(found)  # refuses other data
    if not found:
        raise UsageError("expected results of secagg bench, found none")
    for text in tables(found, form.value):
        stdout().print(printable_lines(text), markup=False, highlight=False, soft_wrap=True)


@app.command("plot")
def plot(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS...", help="results.jsonl, results.json or utility.jsonl, or folders with them."
        ),
    ],
    out: Annotated[Path, typer.Option(help="A folder for the plots.")] = Path("bench-plots"),
) -> None:
    """Draw results, as SVG and PNG.

    Each plot is drawn that they have data for.
    Time against size, bytes against parties, predicted time against latency, error against fractional bits, and
    utility against epsilon.
    """
    from secagg.bench import plots, utility
    from secagg.bench.store import read
    from secagg.bench.table import Table

    found = [path for given in files for path in (_in_folder(given) if given.is_dir() else [given])]
    for path in found:
        if path.name == UTILITY:
            drawn = plots.draw_utility(utility.read(path), out)
        else:
            drawn = plots.draw(Table.of(read(path)), out)
        for file in drawn:
            say(stdout(), str(file))


def _in_folder(folder: Path) -> list[Path]:
    from secagg.bench.store import NAME as RESULTS

    found = [path for path in (folder / RESULTS, folder / UTILITY) if path.exists()]
    if not found:
        raise UsageError(f"expected {RESULTS} or {UTILITY} in {folder}, found neither")
    return found


@app.command("utility")
def utility_(
    data_sets: Annotated[str, typer.Option(metavar="NAME,...", help="Of scikit-learn's.")] = _DATA_SETS,
    epsilons: Annotated[
        str, typer.Option(metavar="NUMBER,...", help="What a sum may tell of one person.")
    ] = _EPSILONS,
    repeat: Annotated[int, typer.Option(help="Splits into training and test rows.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the splits.")] = 1,
    out: Annotated[Path, typer.Option(help="A folder for utility.jsonl.")] = Path("bench-output"),
) -> None:
    """Train classifiers with and without noise.

    The noise of their sums is that of differential privacy.
    The data sets are public ones that scikit-learn brings; each row is a person. Needs secagg[plots] and secagg[dp].
    """
    from secagg.bench import utility

    words = _words("--epsilons", epsilons)
    try:
        budgets = [float(word) for word in words]
    except ValueError:
        raise UsageError(
            f"expected numbers with commas between them for --epsilons, got {epsilons!r:.80}"
        ) from None
    _check_different("--epsilons", budgets)
    console, lines = stdout(), []
    for point in utility.utilities(_words("--data-sets", data_sets), budgets, repeat=repeat, seed=seed):
        noise = "without noise" if point.epsilon is None else f"epsilon {point.epsilon:g}"
        say(console, f"{point.data_set:14}  split {point.seed}  {noise:14}  accuracy {point.accuracy:.1%}")
        lines.append(utility.line_of(point))
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / UTILITY).write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}") from None


@app.command("gallery")
def gallery_(
    out: Annotated[Path, typer.Option(help="A folder for results and plots.")] = Path("bench-gallery"),
    write: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also copy the plots as SVG into this folder.")
    ] = None,
    tiny: Annotated[bool, typer.Option("--tiny", help="Little cases, to see that they run.")] = False,
) -> None:
    """Measure and draw the gallery.

    It is what the page gallery shows. It takes some minutes.
    """
    from secagg.bench import gallery

    if write is not None and not write.is_dir():
        raise UsageError(f"expected a folder for the plots, got {write}, which is none")
    measure_all(list(gallery.cases(tiny=tiny)), out)
    if tiny:
        utility_("wine", "8", 1, 1, out)
    elif not (out / UTILITY).exists():
        utility_(_DATA_SETS, _EPSILONS, 2, 1, out)
    plot([out], out)
    if write is not None:
        for drawn in sorted(out.glob("*.svg")):
            shutil.copyfile(drawn, write / drawn.name)


def _chosen(kind: Kind, text: str) -> list[tuple[Kind, str]]:
    from secagg.bench.subjects import names

    known = names()[kind]
    words = list(known) if text == "all" else _words(f"--{kind}s", text)
    for word in words:
        if word not in known:
            raise UsageError(f"expected {kind}s among {', '.join(known)}, got {word!r:.80}")
    return [(kind, word) for word in words]


def _words(option: str, text: str) -> list[str]:
    """Return the words of an option, each of which is there once."""
    found = [word.strip() for word in text.split(",") if word.strip()]
    _check_different(option, found)
    return found


def _numbers(option: str, text: str) -> list[int]:
    """Return the numbers of an option, of which each is 1 at least."""
    try:
        found = [int(word.replace("_", "")) for word in text.split(",") if word.strip()]
    except ValueError:
        found = [0]
    if min(found, default=1) < 1:
        raise UsageError(
            f"expected whole numbers from 1 on with commas between them for {option}, got {text!r:.80}"
        )
    _check_different(option, found)
    return found


def _check_different(option: str, found: Sequence[str | float]) -> None:
    """Refuse what would be measured twice."""
    if twice := next((one for one in found if found.count(one) > 1), None):
        raise UsageError(f"expected each value of {option} once, got {twice!s:.80} more than once")
