"""How `secagg bench` shows its results: a line for each case, tables for the terminal, and tables for a page in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from secagg.cli.show import say, seconds, size, table, widen

if TYPE_CHECKING:
    from secagg.bench import growth
    from secagg.bench.case import Case
    from secagg.bench.measure import Verdict
    from secagg.bench.networks import Compared, Machine

_COLUMNS: Final = (
    ("subject", 20),
    ("parties", 7),
    ("size", 9),
    ("engine", 9),
    ("run by", 9),
    ("quartiles of the time", 29),
    ("rounds", 6),
    ("messages", 8),
    ("sent", 8),
    ("memory", 8),
    ("error", 8),
    ("declared", 8),
)
_SOURCES: Final[Mapping[Verdict | None, str]] = {
    None: "measured",
    "equal": "measured, as declared",
    "fewer": "measured, at most as declared",
    "expected": "measured, declared as an expectation",
    "differs": "measured, NOT as declared",
}
# A curve that is further off where it was measured leads nowhere. Bytes and rounds are exact, times are noisy.
_FITS: Final = 0.05
_FITS_TIME: Final = 0.5


class Campaign:
    """A line for each case that is done, and below them how far the campaign is."""

    def __init__(self, console: Console, repeats: int) -> None:
        self._console = console
        self._progress = _progress(console)
        self._task = self._progress.add_task("", total=repeats)

    def __enter__(self) -> Campaign:
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


def disturbed_text(results: Sequence[Mapping[str, Any]]) -> str:
    """Return in a sentence during how many cases other work had much of the processors; "" for none."""
    from secagg.bench.system import OTHERS

    disturbed = [r for r in results if (r.get("others_share") or 0) > OTHERS]
    if not disturbed:
        return ""
    return (
        f"other work had more than {OTHERS:.0%} of the processors during {len(disturbed)} of {len(results)} cases, so their "
        "times are too long; for times to rely on, measure on an idle machine into another folder"
    )


def _cells(case: Case, result: dict[str, Any]) -> list[str]:
    from secagg.bench.measure import against_declared

    totals = [phases["total"] for phases in result["parties"].values()]
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
        against_declared(result, "bytes") or "",
    ]


def _line(cells: Sequence[str]) -> str:
    padded = [
        text.rjust(width) if place else text.ljust(width)
        for place, (text, (_, width)) in enumerate(zip(cells, _COLUMNS, strict=True))
    ]
    return "  ".join(padded).rstrip()


def print_predictions(console: Console, results: Sequence[Mapping[str, Any]]) -> None:
    """Print for each case how long it is predicted to take on each network."""
    from secagg.bench.case import Case

    widen(console)
    networks = list(dict.fromkeys(name for result in results for name in result["networks"]))
    rows = [
        (
            _plain(Case.from_dict(result["case"])),
            *(
                seconds(result["networks"][name][1]) if name in result["networks"] else ""
                for name in networks
            ),
        )
        for result in results
    ]
    title = "Predicted times on networks, medians, from the runs in the simulator"
    console.print(table(title, ("case", *networks), rows))


def print_growths(console: Console, grown: Sequence[growth.Growth]) -> None:
    """Print a curve for each figure of each subject, and a table of what lies beyond the measured sizes."""
    what = _grows_with(grown)
    widen(console)
    for subject in dict.fromkeys(one.subject for one in grown):
        own = [one for one in grown if one.subject == subject]
        largest, far = _beyond(own)
        curves = [
            (one.figure, str(one.curve), f"{one.curve.residual:.1%}", _SOURCES[one.verdict]) for one in own
        ]
        headings = ("figure", f"curve in n {what}", "off by at most", "source")
        console.print(table(f"\n{subject}", headings, curves))
        rows = [(one.figure, _figure(one.points[-1][1], one.unit), *_far(one, far)) for one in own]
        columns = ("figure", f"measured at {largest:,.0f}", *map(_power, far))
        title = f"Beyond {largest:,.0f} {what}, not measured: ~ is extrapolated, plain numbers are declared for that size"
        if any("no curve" in row for row in rows):
            title += "; where no curve fits, measure at more sizes"
        console.print(table(title, columns, rows))


def growths_markdown(grown: Sequence[growth.Growth]) -> str:
    """Return all subjects as one table for a page."""
    largest, far = _beyond(grown)
    headings = (
        "figure",
        f"curve in n {_grows_with(grown)}",
        "off by at most",
        f"measured at {largest:,.0f}",
        *map(_power, far),
    )
    rows = [
        (
            f"{one.subject}: {one.figure}",
            str(one.curve),
            f"{one.curve.residual:.2%}",
            _figure(one.points[-1][1], one.unit),
            *_far(one, far),
        )
        for one in grown
    ]
    return _markdown(headings, rows)


def _grows_with(grown: Sequence[growth.Growth]) -> str:
    return {"parties": "clients", "size": "numbers, elements or rows"}[grown[0].axis]


def _beyond(grown: Sequence[growth.Growth]) -> tuple[float, list[int]]:
    from secagg.bench import growth

    largest = max(one.curve.largest for one in grown)
    return largest, [n for n in growth.FAR if n > largest]


def _power(n: int) -> str:
    return f"10^{len(str(n)) - 1}"


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


def print_machine(console: Console, found: Machine) -> None:
    """Print what this machine adds to a run."""
    host = found.host
    say(
        console,
        f"this machine: {host.cores} cores; a message takes {seconds(host.send_s + host.receive_s)} and a byte "
        f"{1e9 * host.byte_s:.2g} ns at each end under TLS; the relay adds {seconds(found.relay_s)}",
    )


class Comparison:
    """A line for each case and network whose pairs are done, and below them how far the comparison is."""

    def __init__(self, console: Console, pairs: int) -> None:
        self._console = console
        self._progress = _progress(console)
        self._task = self._progress.add_task("", total=pairs)

    def __enter__(self) -> Comparison:
        self._progress.start()
        say(
            self._console,
            f"{'case':52}  {'network':>12}  predicted   measured  {'difference, quartiles':>22}  other work  relay late",
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def done(self, case: Case, network: str) -> None:
        """Count a pair."""
        self._progress.update(self._task, description=f"{case.name} on {network}", advance=1)

    def print(self, row: Compared) -> None:
        """Print a row."""
        quartiles = " ".join(f"{x:>+7.1%}" for x in row.differences)
        say(
            self._console,
            f"{_plain(row.case):52}  {row.network:>12}  {seconds(row.predicted):>9}  {seconds(row.measured):>9}  "
            f"{quartiles:>22}  {row.others:>10.0%}  {row.late:>10.1%}{'  disturbed' * row.disturbed}",
        )


def compared_markdown(rows: Sequence[Compared], last: str) -> str:
    """Return a comparison as a table for a page, with what it comes to."""
    headings = (
        "case",
        "network",
        "predicted",
        "measured",
        "difference",
        "its quartiles",
        "other work",
        "relay late",
    )
    cells = [
        (
            _plain(row.case),
            row.network,
            seconds(row.predicted),
            seconds(row.measured),
            f"{row.differences[1]:+.1%}" + " (disturbed)" * row.disturbed,
            f"{row.differences[0]:+.1%} to {row.differences[2]:+.1%}",
            f"{row.others:.0%}",
            f"{row.late:.1%}",
        )
        for row in rows
    ]
    return f"{_markdown(headings, cells, numbers_from=2)}\n{last[0].upper()}{last[1:]}.\n"


def _plain(case: Case) -> str:
    return str(case).removesuffix(", simulator")


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers_from: int = 2) -> str:
    rule = ["---" if i < numbers_from else "---:" for i in range(len(headings))]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (headings, rule, *rows))


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
