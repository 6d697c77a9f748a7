"""Results drawn with matplotlib: SVG and PNG, the same bytes from the same results.

Colours are those of Okabe and Ito, which people who are colour-blind tell apart; each line has a marker of its own besides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from secagg.bench.case import network_named
from secagg.bench.table import Row, Table
from secagg.bench.utility import Utility
from secagg.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS: Final = "osD^vPX"
_MOST: Final = len(_COLOURS)  # lines in one plot
_STYLE: Final[Mapping[str, Any]] = {
    "svg.hashsalt": "secagg",
    "text.parse_math": False,  # labels come from files, and a "$" in one begins no formula
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.grid": True,
    "axes.grid.which": "major",
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.markersize": 5,
    "savefig.dpi": 120,
    "figure.constrained_layout.use": True,
}


def draw(table: Table, folder: Path) -> list[Path]:
    """Draw what a table has data for, and return the files.

    Raises:
      UsageError: it has data for nothing, or the folder cannot be written to.
      ImportError: matplotlib is not installed.
    """
    files = []
    for name, plot in _PLOTS.items():
        with _figure() as (figure, axes):
            if plot(axes, table):
                files += _saved(figure, folder, name)
    if not files:
        raise UsageError(
            "expected results at two sizes, two numbers of parties, two latencies or two numbers of fractional bits, "
            "got none of these: there is nothing to draw"
        )
    return files


def draw_utility(points: Sequence[Utility], folder: Path) -> list[Path]:
    """Draw accuracy against epsilon, and what is lost against training without noise."""
    with _figure(columns=2) as (figure, (left, right)):
        _utility(left, right, points)
        return _saved(figure, folder, "utility-epsilon")


@contextmanager
def _figure(columns: int = 1) -> Iterator[tuple[Figure, Any]]:
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as New
    except ImportError:
        raise ImportError('plots need matplotlib: pip install "secagg[plots]"') from None

    with mpl.rc_context(dict(_STYLE)):  # type: ignore[arg-type]  # its type lists every name
        figure = New(figsize=(8.0 if columns == 1 else 11.0, 4.2))
        FigureCanvasAgg(figure)
        yield figure, figure.subplots(1, columns)


def _saved(figure: Figure, folder: Path, name: str) -> list[Path]:
    files = [folder / f"{name}.svg", folder / f"{name}.png"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Without a date and a version the same results give the same bytes.
        figure.savefig(files[0], metadata={"Date": None, "Creator": None})
        figure.savefig(files[1], metadata={"Software": None})
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from None
    return files


def _series(rows: Sequence[Row], x: str, *, of: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    """Return rows by what else they are of, the longest in x, at most as many as there are colours."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row[x]:
            found.setdefault(tuple(row[name] for name in of), []).append(row)
    varying = {key: sorted(own, key=lambda row: row[x]) for key, own in found.items()}
    longest = max((len({row[x] for row in own}) for own in varying.values()), default=0)
    # A line of two points beside others of five says little.
    kept = [(key, own) for key, own in varying.items() if len({row[x] for row in own}) > max(1, longest / 2)]
    return dict(kept[:_MOST])


def _look(i: int) -> dict[str, Any]:
    return {"color": _COLOURS[i], "marker": _MARKERS[i]}


def _time_size(axes: Axes, table: Table) -> bool:
    of = ("name", "parties", "engine", "driver", "kind", "frac_bits")
    found = _series(table.part("run").rows, "size", of=of)
    for i, ((name, parties, engine, driver, kind, bits), rows) in enumerate(found.items()):
        who = (
            f"{engine} parties"
            if kind == "operation"
            else f"{parties} clients"
            if kind == "protocol"
            else "rows a party"
        )
        label = f"{name}, {who}" + _bits(bits) + _over(driver)
        size = [row["size"] for row in rows]
        axes.plot(size, [row["seconds_median"] for row in rows], label=label, **_look(i))
        low, high = ([row[f"seconds_{end}"] for row in rows] for end in ("q1", "q3"))
        axes.fill_between(size, low, high, color=_COLOURS[i], alpha=0.2, linewidth=0)
    axes.set(xscale="log", yscale="log", xlabel="numbers a client, elements, or rows a party", ylabel="time")
    _plain_ticks(axes.xaxis, [row["size"] for rows in found.values() for row in rows])
    _in_units(axes.yaxis, "s")
    axes.set_title("Time against size: median, band from first to third quartile")
    _legend(axes)
    return bool(found)


def _bytes_parties(axes: Axes, table: Table) -> bool:
    rows = [
        row for row in table.part("run").rows if row["kind"] == "protocol" and row["driver"] == "simulator"
    ]
    found = _series(rows, "parties", of=("name", "size", "frac_bits"))
    results = {result["key"]: result for result in table.results}
    for i, ((name, size, bits), own) in enumerate(found.items()):
        counts = [row["parties"] for row in own]
        sent = [_sent(results[row["key"]]) for row in own]
        axes.plot(
            counts, [client for client, _ in sent], label=f"{name}, {size:,} numbers{_bits(bits)}", **_look(i)
        )
        axes.plot(counts, [server for _, server in sent], **_look(i), linestyle="--", markerfacecolor="white")
    axes.set(xscale="log", yscale="log", xlabel="clients", ylabel="arrays sent")
    _plain_ticks(axes.xaxis, [row["parties"] for rows in found.values() for row in rows])
    _in_units(axes.yaxis, "B")
    axes.set_title("Bytes against parties: a client (solid), the busiest server (dashed)")
    _legend(axes)
    return bool(found)


def _bits(frac_bits: int) -> str:
    return f", {frac_bits} bits" if frac_bits else ""


def _over(driver: str) -> str:
    return ", TLS" if driver == "tcp" else ""


def _sent(result: Mapping[str, Any]) -> tuple[int, int]:
    """Return what a client sends, and what the busiest other party does."""
    sent = {label: phases["total"]["payload_bytes"] for label, phases in result["parties"].items()}
    clients = [n for label, n in sent.items() if result["roles"][label] == "client"]
    others = [n for label, n in sent.items() if result["roles"][label] != "client"]
    return max(clients), max(others, default=0)


def _time_latency(axes: Axes, table: Table) -> bool:
    rows = []
    for row in table.part("network").rows:
        network = network_named(row["network"])
        rows.append({**row, "latency": network.latency_s, "bandwidth": network.bytes_per_s})
    bandwidths = [row["bandwidth"] for row in rows]
    widest = max(bandwidths, key=bandwidths.count, default=0.0)  # the one that most rows have
    rows = [row for row in rows if row["bandwidth"] == widest]
    found = _series(rows, "latency", of=("name", "parties", "size", "engine", "driver", "frac_bits"))
    for i, ((name, _, size, _, _, bits), own) in enumerate(found.items()):
        label = (f"{name}, size {size:,}" if size else name) + _bits(bits)
        axes.plot(
            [row["latency"] for row in own],
            [row["seconds_median"] for row in own],
            label=label,
            **_look(i),
        )
    axes.set(xscale="log", yscale="log", xlabel="latency one way", ylabel="predicted time")
    _plain_ticks(axes.xaxis, [row["latency"] for rows in found.values() for row in rows], "s")
    _in_units(axes.yaxis, "s")
    axes.set_title(f"Predicted time against latency, {8 * widest / 1e6:,.0f} Mbit/s")
    _legend(axes)
    return bool(found)


def _error_bits(axes: Axes, table: Table) -> bool:
    found = _series(table.part("run").rows, "frac_bits", of=("name", "parties", "size", "driver"))
    for i, ((name, parties, size, driver), own) in enumerate(found.items()):
        bits = [row["frac_bits"] for row in own]
        several = len({key[2] for key in found}) > 1
        label = f"{name}, {parties} clients" + f", {size:,} numbers" * several + _over(driver)
        # Equal errors lie over each other, so each line is thinner than the one before.
        thinner: dict[str, Any] = {"linewidth": max(1.0, 4.0 - 1.5 * i), "markersize": max(4, 10 - 3 * i)}
        axes.plot(bits, [row["max_error"] for row in own], label=label, **_look(i), **thinner)
        axes.plot(bits, [row["error_bound"] for row in own], color=_COLOURS[i], linestyle=":")
    axes.set(yscale="log", xlabel="fractional bits", ylabel="largest error of a sum of numbers within 1")
    _plain_ticks(axes.xaxis, [row["frac_bits"] for rows in found.values() for row in rows])
    axes.set_title("Error against fractional bits: measured, and declared bound (dotted)")
    _legend(axes)
    return bool(found)


def _utility(left: Axes, right: Axes, points: Sequence[Utility]) -> None:
    for i, name in enumerate(dict.fromkeys(point.data_set for point in points)):
        own = [point for point in points if point.data_set == name]
        without = {point.seed: point.accuracy for point in own if point.epsilon is None}
        epsilons = sorted({point.epsilon for point in own if point.epsilon is not None})
        accuracy = [[p.accuracy for p in own if p.epsilon == epsilon] for epsilon in epsilons]
        lost = [[without[p.seed] - p.accuracy for p in own if p.epsilon == epsilon] for epsilon in epsilons]
        label = f"{name.replace('_', ' ')}, {own[0].rows} persons"
        for axes, values in ((left, accuracy), (right, lost)):
            axes.plot(epsilons, [100 * np.mean(each) for each in values], label=label, **_look(i))
            axes.fill_between(
                epsilons,
                [100 * min(each) for each in values],
                [100 * max(each) for each in values],
                color=_COLOURS[i],
                alpha=0.2,
                linewidth=0,
            )
        left.axhline(
            100 * float(np.mean(list(without.values()))), color=_COLOURS[i], linestyle=":", linewidth=1
        )
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlabel("epsilon of one person")
        _plain_ticks(axes.xaxis, [point.epsilon for point in points if point.epsilon is not None])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    left.set_ylabel("accuracy on other rows (%)")
    left.set_title("Accuracy (dotted: without noise)")
    right.set_ylabel("points of accuracy lost")
    right.set_title("Lost against training without noise")
    _legend(left)


def _legend(axes: Axes) -> None:
    """Put the legend beside the plot, where it covers no line."""
    handles, labels = axes.get_legend_handles_labels()
    if handles and axes.figure is not None:
        axes.figure.legend(handles, labels, loc="outside right upper")


def _plain_ticks(axis: Axis, values: Sequence[float], unit: str = "") -> None:
    """Mark the values that there are, as numbers that people write."""
    from matplotlib.ticker import EngFormatter, FixedLocator, NullLocator

    axis.set_major_locator(FixedLocator(sorted(set(values))))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(EngFormatter(unit))


def _in_units(axis: Axis, unit: str) -> None:
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    # Within two decades, powers of ten alone would be two ticks at most.
    axis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    axis.set_major_formatter(EngFormatter(unit))
    axis.set_minor_formatter(NullFormatter())


_PLOTS: Final[Mapping[str, Callable[[Any, Table], bool]]] = {
    "time-size": _time_size,
    "bytes-parties": _bytes_parties,
    "time-latency": _time_latency,
    "error-bits": _error_bits,
}
