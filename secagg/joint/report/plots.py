"""Plots of a result, as numbers that the page's template draws in SVG.

Drawn by hand and not by a plotting library. Results are small tables of counts, sums and curves, for which bars and lines
are enough. So the page needs no script, no font and no style of others, its policy can forbid all of them, and text stays
text for whoever reads it by ear. Bars stand in the table's own rows, beside the numbers that they show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from secagg.joint.report.contents import Answer

_TIME: Final = "time"
_BAND: Final = ("lower", "upper")
_MOST_CURVES: Final = 6  # so many dash patterns can be told apart
_WIDTH, _HEIGHT = 640.0, 320.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 70.0, 20.0, 16.0, 44.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar in a row, in percent of its cell."""

    start: float
    length: float


@dataclass(frozen=True, slots=True)
class Curve:
    """The points of one group and the line through them, in the units of the drawing.

    Attributes:
      band: around it, as a closed line; "" where there is none.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    line: str
    band: str


@dataclass(frozen=True, slots=True)
class Plot:
    """Curves with axes.

    Attributes:
      marks_x, marks_y: place and text of each mark.
    """

    curves: tuple[Curve, ...]
    x: str
    y: str
    title: str
    described: str
    marks_x: tuple[tuple[float, str], ...]
    marks_y: tuple[tuple[float, str], ...]
    width: float = _WIDTH
    height: float = _HEIGHT
    left: float = _LEFT
    right: float = _WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = _HEIGHT - _BOTTOM


def numbers(answer: Answer, column: int) -> list[float] | None:
    """Return a column's numbers, nan for an empty cell; None where a cell is no number or all are empty."""
    found = []
    for row in answer.rows:
        try:
            found.append(float(row[column]) if row[column] else math.nan)
        except (ValueError, IndexError):
            return None
    if not all(math.isfinite(x) or math.isnan(x) for x in found) or all(math.isnan(x) for x in found):
        return None
    return found


def bars(answer: Answer, column: int) -> list[Bar | None]:
    """Return a bar for each row of a column of numbers, None where there is nothing to compare."""
    found = numbers(answer, column)
    if found is None or len(found) < 2:
        return [None] * len(answer.rows)
    known = [x for x in found if not math.isnan(x)]
    low, high = min(0.0, *known), max(0.0, *known)
    if high == low:
        return [None] * len(found)
    scale = 100 / (high - low)
    return [
        None if math.isnan(x) else Bar(round((min(0.0, x) - low) * scale, 2), round(abs(x) * scale, 2))
        for x in found
    ]


def curves(answer: Answer) -> Plot | None:
    """Return the plot of a result with a column `time`, by the groups that its texts name; None of any other."""
    if _TIME not in answer.columns:
        return None
    time = answer.columns.index(_TIME)
    columns = {i: numbers(answer, i) for i in range(len(answer.columns))}
    values = [i for i in range(time + 1, len(columns)) if columns[i] and answer.columns[i] not in _BAND]
    xs = columns[time]
    if xs is None or not values:
        return None
    ys = columns[values[0]] or []
    band = [columns[answer.columns.index(name)] if name in answer.columns else None for name in _BAND]
    texts = [i for i in range(len(columns)) if columns[i] is None]
    groups: dict[str, list[int]] = {}
    for row, cells in enumerate(answer.rows):
        if not math.isnan(xs[row]) and not math.isnan(ys[row]):
            groups.setdefault(", ".join(cells[i] for i in texts), []).append(row)
    rising = all(xs[a] < xs[b] for rows in groups.values() for a, b in pairwise(rows))
    if not groups or not rising or len(groups) > _MOST_CURVES or max(map(len, groups.values())) < 2:
        return None
    name = answer.columns[values[0]]
    shown = [*ys, *(x for side in band if side is not None for x in side)]
    finite = [x for x in shown if not math.isnan(x)]
    x_marks, y_marks = (
        _marks(0.0, max(x for x in xs if not math.isnan(x))),
        _marks(min(0.0, *finite), max(finite)),
    )
    place_x, place_y = _axis(x_marks, _LEFT, _WIDTH - _RIGHT), _axis(y_marks, _HEIGHT - _BOTTOM, _TOP)
    made = []
    for group, rows in groups.items():
        points = tuple((round(place_x(xs[r]), 1), round(place_y(ys[r]), 1)) for r in rows)
        made.append(Curve(group, points, _line(points), _around(rows, xs, band, place_x, place_y)))
    ends = "; ".join(
        f"{group or name}: {ys[rows[0]]:g} at {xs[rows[0]]:g}, {ys[rows[-1]]:g} at {xs[rows[-1]]:g}"
        for group, rows in groups.items()
    )
    return Plot(
        tuple(made),
        _TIME,
        name,
        f"{name} over {_TIME}",
        f"{name} over {_TIME}. {ends}. The table has all numbers.",
        tuple((round(place_x(x), 1), f"{x:g}") for x in x_marks),
        tuple((round(place_y(y), 1), f"{y:g}") for y in y_marks),
    )


def _around(
    rows: Sequence[int],
    xs: Sequence[float],
    band: Sequence[list[float] | None],
    place_x: _Axis,
    place_y: _Axis,
) -> str:
    low, high = band
    if low is None or high is None or any(math.isnan(low[r]) or math.isnan(high[r]) for r in rows):
        return ""
    there = [(place_x(xs[r]), place_y(high[r])) for r in rows]
    back = [(place_x(xs[r]), place_y(low[r])) for r in rows]
    return _line([*there, *reversed(back)]) + "Z"


class _Axis:
    """A linear scale from numbers to the drawing."""

    def __init__(self, first: float, last: float, start: float, end: float) -> None:
        self._first, self._start = first, start
        self._factor = (end - start) / (last - first)

    def __call__(self, value: float) -> float:
        return self._start + (value - self._first) * self._factor


def _axis(marks: Sequence[float], start: float, end: float) -> _Axis:
    return _Axis(marks[0], marks[-1], start, end)


def _marks(low: float, high: float) -> list[float]:
    """Return round numbers, three to seven, of which the first and last hold all between them."""
    if high <= low:
        high = low + 1
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _line(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
