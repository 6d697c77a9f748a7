"""Bundled data of lifelines and scikit-survival, split over hospitals of very different sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

HOSPITALS = ("elm", "fir", "oak", "yew")


def parts(event: Any, names: Sequence[str] = HOSPITALS) -> dict[str, Any]:
    """Return which rows lie at which hospital: one has a single patient, one nobody with the event."""
    event = np.asarray(event, bool)
    rows, without = np.arange(len(event)), np.flatnonzero(~event)
    caseless = without[: max(1, len(without) // 4)]
    rest = np.setdiff1d(rows, caseless)
    single, rest = rest[:1], rest[1:]
    cut = np.array_split(rest, 4 * (len(names) - 2) - 3)
    last: list[Any] = [np.concatenate(cut[:-1]), cut[-1]] if len(names) == 4 else [rest]
    return dict(zip(names, [caseless, single, *last], strict=True))


def strings(values: Sequence[Any]) -> Any:
    """Return strings as identifiers are read."""
    return np.array([*map(str, values), None], object)[:-1]


def patients(time: Any, event: Any, arm: Any, at: Mapping[str, Any]) -> dict[str, Any]:
    """Return each hospital's table of patients."""
    time, event, arm = np.asarray(time), np.asarray(event, bool), np.asarray(arm, object)
    return {
        name: {
            "patients": {
                "patient": strings([f"p{i}" for i in rows]),
                "arm": strings(arm[rows]),
                "time": time[rows].astype(np.int64),
                "event": event[rows],
            }
        }
        for name, rows in at.items()
    }


def with_covariates(
    time: Any, event: Any, x: Any, names: Sequence[str], at: Mapping[str, Any]
) -> dict[str, Any]:
    """Return each hospital's tables of patients and their covariates."""
    tables = patients(time, event, np.full(len(time), ""), at)
    values = np.rint(np.asarray(x, np.float64) * 10**6).astype(np.int64)
    for name, rows in at.items():
        del tables[name]["patients"]["arm"]
        tables[name]["covariates"] = {
            "patient": strings([f"p{i}" for i in np.repeat(rows, len(names))]),
            "covariate": strings(list(names) * len(rows)),
            "value": values[rows].reshape(-1),
        }
    return tables


def largest_difference(found: Sequence[tuple[Any, ...]], expected: Sequence[tuple[Any, ...]]) -> float:
    """Return the largest difference of numbers, relative to those above 1; infinity where rows, texts or NULL differ."""
    if len(found) != len(expected):
        return float("inf")
    worst = 0.0
    for row, reference in zip(found, expected, strict=True):
        for value, wanted in zip(row, reference, strict=True):
            if isinstance(wanted, str | bool | None) or isinstance(value, str | bool | None):
                worst = max(worst, 0.0 if value == wanted else float("inf"))
            else:
                worst = max(worst, abs(float(value) - float(wanted)) / max(1.0, abs(float(wanted))))
    return worst
