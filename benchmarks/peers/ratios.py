"""The table of ratios to peers, and its place on a page between two comments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np

BEGIN: Final = "<!-- peers: begin -->"
END: Final = "<!-- peers: end -->"
UNITS: Final = {
    "s": ((1, "s"), (1e-3, "ms"), (1e-6, "µs"), (0, "ns")),
    "B": ((1e6, "MB"), (1e3, "kB"), (0, "B")),
}
HEADS: Final = ("", "ours", "peer's", "ratio, median (quartiles)", "largest error, ours / peer's")

# A row of one peer, as it is written to JSON: what, unit, ours and theirs by turn, errors of both (None: not measured).
Row = dict[str, Any]


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def amount(value: float, unit: str) -> str:
    """Return an amount with the unit in which it is easiest to read."""
    least, name = next(step for step in UNITS[unit] if value >= step[0])
    scale = least or {"ns": 1e-9, "B": 1}[name]
    return f"{number(value / scale)} {name}"


def ratio(ours: Iterable[float], theirs: Iterable[float]) -> str:
    """Return the median and the quartiles over turns of a peer's amount over ours; those below 1 are bold."""
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    low, middle, high = (
        f"**{value:.3g}**" if value < 1 else number(value) for value in np.quantile(ratios, [0.25, 0.5, 0.75])
    )
    return f"{middle} ({low} to {high})"


def line(row: Row) -> str:
    unit = row["unit"]
    ours, theirs = (amount(float(np.median(row[side])), unit) for side in ("ours", "theirs"))
    errors = [row["our_error"], row["their_error"]]
    said = "" if None in errors else " / ".join("0" if e == 0 else f"{e:.1e}" for e in errors)
    return f"| {row['what']} | {ours} | {theirs} | {ratio(row['ours'], row['theirs'])} | {said} |"


def section(results: dict[str, dict[str, Any]], left_out: dict[str, str]) -> str:
    """Return a table for each peer that was measured, and why others were not.

    Args:
      results: by a peer's name: its title, version, turns, note and rows.
      left_out: reasons by a peer's title.
    """
    parts = []
    for peer in results.values():
        head = f"**{peer['title']} {peer['version']}**, {peer['turns']} turns. {peer['note']}"
        rows = "\n".join(line(row) for row in peer["rows"])
        parts.append(f"{head}\n\n| {' | '.join(HEADS)} |\n{'|---' * len(HEADS)}|\n{rows}")
    parts += [f"Left out: {title}, because {reason}" for title, reason in left_out.items()]
    return "\n\n".join(parts)


def replaced(page: str, table: str) -> str:
    """Return a page with the table between its two comments in place of what was there.

    Raises:
      ValueError: the page does not have each of the comments once, the first one first.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"expected {BEGIN} and then {END} on the page, each once")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"
