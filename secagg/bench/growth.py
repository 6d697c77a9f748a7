"""How costs grow with parties or sizes: a curve through what was measured, and where it leads, labelled as extrapolated.

A curve is a sum of a constant and of terms such as n, n log2 n or n^2, fitted to relative differences by least squares with
coefficients that are not negative. The simplest that is about as close as the closest is taken. For masked sums there
is the number of neighbours k, which the protocol chooses for n clients: it is n - 1 for few, and grows like log n for many.

Bytes and rounds are declared, and a campaign compares the measured ones with that. Where they are equal, a curve leads
through points of the declared formula, and need not be that formula. A curve says nothing of what begins only beyond the
measured sizes, such as a full memory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np

from secagg.aggregation.masked import Masked
from secagg.bench.measure import Verdict, against_declared
from secagg.bench.subjects import declared_operation
from secagg.bench.table import Table
from secagg.cost.operation import Cost
from secagg.errors import UsageError
from secagg.protocols.masked_sum import choose

Axis = Literal["parties", "size"]

_MASKED: Final = Masked()
_NOTHING: Final[Mapping[int, float]] = {}
FAR: Final = tuple(10**power for power in range(4, 10))
_TERMS: Final[Mapping[str, Callable[[float], float]]] = {
    "n": lambda n: n,
    "n log2 n": lambda n: n * math.log2(max(n, 2)),
    "n^2": lambda n: n * n,
    "log2 n": lambda n: math.log2(max(n, 2)),
    "k": lambda n: _neighbours(n),
    "n k": lambda n: n * _neighbours(n),
}
_MODELS: Final = (("log2 n",), ("n",), ("n", "n log2 n"), ("n", "n^2"))
# A masked sum's clients send to k neighbours, its server tells each client who is there in n bits.
_BYTES_OF_MASKED: Final = (("k",), ("n", "k"), ("n", "n k"), ("n", "n k", "n^2"))
# Times are noisy, and a noise that bends a line would be squared far away: they follow the work that there is.
_TIME: Final = (("n",), ("n", "n log2 n"))
_TIME_OF_MASKED: Final = (("n", "k"), ("n", "n k"))
LEAST_POINTS: Final = 3
_PLANNED: Final = 1 << 20  # clients that a masked sum may have
_PATIENCE_S: Final = 3.0  # for what an operation declares at one size
_AS_CLOSE: Final = 1.5  # times the closest curve's residual: then the simpler curve is taken
_EXACT: Final = 1e-9
_WORST_FIRST: Final[Sequence[Verdict | None]] = ("differs", None, "expected", "fewer", "equal")
_ADJECTIVES: Final = frozenset({"computing", "input"})
_NOTHING_LEFT: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve through measured points.

    Attributes:
      terms, coefficients: of the constant 1 and of further terms in n.
      residual: largest relative difference at a measured point.
      largest: the largest n that was measured; beyond it values are extrapolated.
    """

    terms: tuple[str, ...]
    coefficients: tuple[float, ...]
    residual: float
    largest: float

    def at(self, n: float) -> float:
        """Return the value at n."""
        constant, *others = self.coefficients
        return constant + sum(c * _TERMS[term](n) for c, term in zip(others, self.terms, strict=True))

    def __str__(self) -> str:
        constant, *others = self.coefficients
        shown = [f"{_three_digits(c)} {term}" for c, term in zip(others, self.terms, strict=True) if c]
        return " + ".join([_three_digits(constant)] * (constant > 0) + shown) or "0"


def _three_digits(x: float) -> str:
    return f"{float(f'{x:.3g}'):,.0f}" if 1000 <= x < 1e9 else f"{x:.3g}"


def _neighbours(n: float) -> float:
    """Return how many neighbours a client of a masked sum has; beyond what may be planned, as it grows just below."""

    def chosen(clients: int) -> int:
        return choose(clients, max_corrupt=_MASKED.max_corrupt, max_dropout=_MASKED.max_dropout).degree

    if n <= _PLANNED:
        return chosen(int(n))
    return chosen(_PLANNED) + math.log2(n / _PLANNED) * (chosen(_PLANNED) - chosen(_PLANNED // 2))


def fit(
    sizes: Sequence[float], values: Sequence[float], models: Sequence[tuple[str, ...]] = _MODELS
) -> Curve:
    """Return the simplest curve that is about as close to the values as any.

    Args:
      models: terms beside the constant, the simplest model first.

    Raises:
      UsageError: fewer than three different sizes, sizes that are not above 0, or negative values.
    """
    if len(set(sizes)) < LEAST_POINTS or len(sizes) != len(values):
        raise UsageError(f"expected values at three different sizes or more, got {len(set(sizes))}")
    if min(sizes) <= 0 or min(values) < 0:
        raise UsageError("expected sizes above 0 and values from 0")
    # A curve with as many coefficients as points would fit anything.
    few = [terms for terms in models if len(terms) + 1 < len(set(sizes))] or [("n",)]
    curves = [_fitted(terms, sizes, values) for terms in few]
    closest = min(curve.residual for curve in curves)
    return next(curve for curve in curves if curve.residual <= max(_AS_CLOSE * closest, _EXACT))


def _fitted(terms: tuple[str, ...], sizes: Sequence[float], values: Sequence[float]) -> Curve:
    y = np.array(values, float)
    weights = 1 / np.where(y > 0, y, 1.0)
    columns = [np.ones(len(y)), *(np.array([_TERMS[term](n) for n in sizes]) for term in terms)]
    kept = list(range(len(columns)))
    while True:
        matrix = np.stack([columns[i] * weights for i in kept], axis=1)
        scale = np.abs(matrix).max(axis=0)
        found = np.linalg.lstsq(matrix / scale, y * weights, rcond=None)[0] / scale
        if len(kept) == 1 or found.min() >= 0:
            break
        kept.pop(int(np.argmin(found * scale)))
    coefficients = np.zeros(len(columns))
    coefficients[kept] = np.maximum(found, 0)
    # What rounding leaves of a term that is not there would grow with n^2 all the same.
    largest = np.array(
        [(c * column * weights).max() for c, column in zip(coefficients, columns, strict=True)]
    )
    coefficients[largest < _NOTHING_LEFT] = 0
    guessed = sum(c * column for c, column in zip(coefficients, columns, strict=True))
    residual = float(np.abs((guessed - y) * weights).max())
    return Curve(terms, tuple(map(float, coefficients)), residual, max(sizes))


@dataclass(frozen=True, slots=True)
class Growth:
    """How one figure of one subject grows.

    Attributes:
      subject, axis, figure: of what it is, in words.
      unit: "s", "B" or "".
      points: (n, value), as measured.
      verdict: the worst of `against_declared` over the measured runs; None for times, and where nothing is declared.
      declared: what an operation declares at sizes that were not measured.
    """

    subject: str
    axis: Axis
    figure: str
    unit: str
    points: tuple[tuple[int, float], ...]
    curve: Curve
    verdict: Verdict | None
    declared: Mapping[int, float] = field(default_factory=dict)


def growths(table: Table, axis: Axis) -> list[Growth]:
    """Return how bytes, rounds and time of each subject of a table grow along one axis.

    Raises:
      UsageError: a subject that was not measured at three points of the axis or more.
    """
    grown = []
    for subject, results in _subjects(table, axis).items():
        sizes = [result["case"][axis] for result in results]
        further = _declared_far(results[0]["case"]) if axis == "size" else {}
        masked = axis == "parties" and results[0]["case"]["name"] == Masked.name

        def add(
            figure: str,
            unit: str,
            values: Sequence[float],
            verdict: Verdict | None = None,
            beyond: Mapping[int, float] = _NOTHING,
            subject: str = subject,
            sizes: Sequence[int] = sizes,
            masked: bool = masked,
        ) -> None:
            points = tuple(sorted(zip(sizes, values, strict=True)))
            of_times, of_bytes = (_TIME_OF_MASKED, _BYTES_OF_MASKED) if masked else (_TIME, _MODELS)
            models = of_times if unit == "s" else of_bytes
            curve = fit([n for n, _ in points], [value for _, value in points], models)
            grown.append(Growth(subject, axis, figure, unit, points, curve, verdict, beyond))

        rounds = {n: float(cost.rounds) for n, cost in further.items()}
        sent = {n: float(max(cost.payload_bytes.values())) for n, cost in further.items()}
        add("rounds", "", [result["rounds"] for result in results], _worst(results, "rounds"), rounds)
        of_bytes = _worst(results, "bytes")
        for role in dict.fromkeys(results[0]["roles"].values()):
            who = f"{role} party" if role in _ADJECTIVES else role.replace("_", " ")
            who = f"{'an' if who[0] in 'aeiou' else 'a'} {who}"
            add(f"bytes of {who}", "B", [_most(r, role, "payload_bytes") for r in results], of_bytes, sent)
            add(f"time of {who}", "s", [_most(r, role, "compute_s") for r in results])
    return grown


def _worst(results: Sequence[Mapping[str, Any]], figure: Literal["rounds", "bytes"]) -> Verdict | None:
    verdicts = [against_declared(result, figure) for result in results]
    return next((one for one in _WORST_FIRST if one in verdicts), None)


def _declared_far(case: Mapping[str, Any]) -> dict[int, Cost]:
    """Return what an operation declares at the sizes of `FAR`, as far as that takes no long time."""
    found: dict[int, Cost] = {}
    if case["kind"] != "operation":
        return found
    for n in FAR:
        begun = time.monotonic()
        found[n] = declared_operation(case["name"], n, case["engine"])
        if time.monotonic() - begun > _PATIENCE_S:
            break
    return found


def _subjects(table: Table, axis: Axis) -> dict[str, list[Mapping[str, Any]]]:
    other = "size" if axis == "parties" else "parties"
    found: dict[str, list[Mapping[str, Any]]] = {}
    for result in table.results:
        case = result["case"]
        words = [case["name"]]
        words += [f"{other} {case[other]:,}"] * (case["kind"] != "operation" and case[other] > 0)
        words += [f"{case['engine']} computing"] * (case["engine"] > 0)
        found.setdefault(", ".join(words), []).append(result)
    return found


def _most(result: Mapping[str, Any], role: str, figure: str) -> float:
    """Return a figure of the party of a role that has most.

    Of times it is the median party's, in the lower quartile of the runs: the most of many noisy times grows with their
    number.
    """
    totals = [result["parties"][label]["total"] for label, own in result["roles"].items() if own == role]
    return float(max(t["middle_s"][0] if figure == "compute_s" else t[figure] for t in totals))
