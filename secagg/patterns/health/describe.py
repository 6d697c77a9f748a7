"""Describe: number, mean, variance, the mean's confidence interval and quantiles of a measurement by group of patients.

Each hospital adds up its own rows alone. Sums of whole units and of their squares are exact. Quantiles are found on shares,
on the public grid of values: a quantile is the first value that the agreed share of a group's rows reaches (numpy's
"inverted_cdf"), so it is somebody's value. A patient who is in the tables of two hospitals counts twice. With `once`, a row
a patient is shared, and each patient has one value: its first one at the first of the hospitals in the job's order that has
any.

Learns: the recipients, of each group of at least `min_patients` patients, the number, the mean and the variance; and each
quantile that has at least `min_patients` rows on either side. The interval follows from the first three.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from secagg.errors import DataError, PlanError
from secagg.mpc import int64
from secagg.mpc.arrays import SharedArray
from secagg.party import PartyId
from secagg.patterns.health import examples
from secagg.patterns.health.agreed_names import STATISTIC, check_names, places
from secagg.patterns.health.covariates import LARGEST, VALUE
from secagg.patterns.health.once import counts_once, first_of
from secagg.patterns.joint_tables import Columns, JointTable, Number, python_value
from secagg.patterns.pattern import Tables, Terms
from secagg.patterns.program import Findings, ProgramPattern
from secagg.query.schema import Identifier, Schema
from secagg.statistics.moments import (
    MOST_VALUES,
    group_sums,
    mean_and_variance,
    middle,
    quantiles,
    value_counts,
)
from secagg.statistics.ratios import MOST

_NAMES: Final = ("number", "mean", "variance", "mean, lower end", "mean, upper end")


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Groups, the measurement's range and decimals, and what is told."""

    arms: tuple[str, ...] = ("all",)
    low: Annotated[int, Meta(ge=-LARGEST, le=LARGEST)] = 0
    high: Annotated[int, Meta(ge=-LARGEST, le=LARGEST)] = 200
    decimals: Annotated[int, Meta(ge=0, le=3)] = 1
    quantiles: tuple[float, ...] = (0.25, 0.5, 0.75)
    confidence: Annotated[float, Meta(gt=0, lt=1)] = 0.95
    min_patients: Annotated[int, Meta(ge=2)] = 5
    once: bool = False

    @property
    def units(self) -> tuple[int, int]:
        """The range in units of 10**-decimals."""
        return self.low * 10**self.decimals, self.high * 10**self.decimals

    @property
    def grid(self) -> tuple[int, int]:
        """How many groups and values there are."""
        low, high = self.units
        return len(self.arms), high - low + 1


class Describe(ProgramPattern):
    """A measurement by group; see the module."""

    name = "describe"
    summary = "number, mean, variance and quantiles of a measurement by group of patients."
    inputs = {  # noqa: RUF012  # nobody changes it
        "measurements": Schema(patient=Identifier(), arm=Identifier(repeated=True), value=VALUE)
    }
    results = Schema(arm=Identifier(), what=Identifier(), value=STATISTIC)
    Parameters = Description
    example = staticmethod(examples.describe)
    hides_below = "min_patients"
    tells = (
        "of each group of enough patients: their number, the mean and the variance of their values; and each quantile with "
        "enough values on either side"
    )

    def check(self, parameters: Description, terms: Terms) -> None:
        """Raise `PlanError` for a range or quantiles that cannot be computed."""
        check_names("arms", parameters.arms)
        low, high = parameters.units
        if not low < high or high - low >= MOST_VALUES:
            raise PlanError(
                f"expected low below high and at most {MOST_VALUES} values between them, got {low} to {high} in units of "
                f"10**-{parameters.decimals}; use fewer decimals"
            )
        if any(not 0 < q < 1 or abs(q * 10_000 - round(q * 10_000)) > 1e-9 for q in parameters.quantiles):
            raise PlanError(
                f"expected quantiles between 0 and 1 of at most 4 decimals, got {parameters.quantiles!r:.80}"
            )
        super().check(parameters, terms)

    def row_limit(self, terms: Terms) -> int:
        """Return the largest number of patients of one hospital."""
        return min(super().row_limit(terms), MOST // len(terms.input_parties))

    def shared(self, parameters: Description) -> Mapping[str, Columns]:
        """Return what is shared: sums, and counts by value where quantiles are wanted; or a row a patient."""
        if parameters.once:
            return {"patients": {"patient": Identifier(), "cell": Number(0, math.prod(parameters.grid) - 1)}}
        low, high = parameters.units
        width = high - low
        count = Number(0, MOST)
        sums: Columns = {
            "number": count,
            "sum": Number(-width * MOST, width * MOST),
            "squares": Number(0, width * width * MOST),
        }
        return {"sums": sums} | ({"values": {"count": count}} if parameters.quantiles else {})

    def sizes(self, parameters: Description) -> Mapping[str, int]:
        """Return the number of groups, and of values."""
        if parameters.once:
            return {}
        values = {"values": math.prod(parameters.grid)} if parameters.quantiles else {}
        return {"sums": len(parameters.arms)} | values

    def local(self, parameters: Description, tables: Tables) -> Mapping[str, Mapping[str, Any]]:
        """Add up a hospital's own rows."""
        value, group = _values(parameters, tables["measurements"])
        low, high = parameters.units
        arms = len(parameters.arms)
        sums = group_sums(value, group, groups=arms, low=low, high=high)
        if parameters.once:
            cell = np.ravel_multi_index((group, value - low), parameters.grid)
            return {"patients": {"patient": tables["measurements"]["patient"], "cell": cell}}
        found = {"sums": {"number": sums[:, 0], "sum": sums[:, 1], "squares": sums[:, 2]}}
        if parameters.quantiles:
            counts = value_counts(value, group, groups=arms, low=low, high=high)
            found["values"] = {"count": counts.reshape(-1)}
        return found

    def program(self, parameters: Description, tables: Mapping[str, JointTable]) -> Findings:
        """Add up, find quantiles, and keep what groups are too small for."""
        total, counts = self._totals(parameters, tables)
        released = total["number"] >= parameters.min_patients
        found = {name: column * released.astype(int64) for name, column in total.items()} | {
            "released": released
        }
        if parameters.quantiles:
            values, enough = quantiles(
                counts, parameters.quantiles, low=parameters.units[0], smallest=parameters.min_patients
            )
            found |= {"quantiles": values * enough.astype(int64), "enough": enough}
        return Findings(found)

    def _totals(
        self, parameters: Description, tables: Mapping[str, JointTable]
    ) -> tuple[dict[str, SharedArray], SharedArray]:
        """Return number, sum and squares of each group, and how many have each value if anybody asks."""
        if parameters.once:
            low, high = parameters.units
            cells = math.prod(parameters.grid)
            counts = counts_once(tables["patients"], "cell", cells, "patient").reshape(parameters.grid)
            distance = np.arange(low, high + 1) - middle(low, high)
            names = ("number", "sum", "squares")
            return {name: (counts * distance**i).sum(axis=1) for i, name in enumerate(names)}, counts
        sums, arms = tables["sums"], len(parameters.arms)
        hospitals = len(sums.owners)
        total = {name: sums[name].reshape((hospitals, arms)).sum(axis=0) for name in sums.columns}
        counts = tables["values"]["count"] if parameters.quantiles else sums["number"]
        return total, counts.reshape((hospitals, arms, -1)).sum(axis=0)

    def from_opened(self, parameters: Description, columns: Sequence[Any]) -> Sequence[Any]:
        """Make means and variances of sums."""
        rows = _rows(parameters, np.column_stack(columns[:3]), columns[3], *columns[4:])
        return [[row[i] for row in rows] for i in range(3)]

    def pooled(self, parameters: Description, tables: Mapping[PartyId, Tables]) -> list[tuple[Any, ...]]:
        """Describe the pooled rows with numpy."""
        value, group = (
            np.concatenate(part)
            for part in zip(*(_values(parameters, t["measurements"]) for t in tables.values()), strict=True)
        )
        if parameters.once:
            first = np.concatenate(first_of(tables, "measurements"))
            value, group = value[first], group[first]
        rows = []
        for g, arm in enumerate(parameters.arms):
            own = value[group == g] / 10.0**parameters.decimals
            if len(own) >= parameters.min_patients:
                mean, variance = own.mean(), own.var(ddof=1)
                half = mean_and_variance([len(own), 0, variance * (len(own) - 1)], low=0, high=0,
                                         level=parameters.confidence)[2]  # fmt: skip
                figures = (len(own), mean, variance, mean - half, mean + half)
                rows += [(arm, name, float(figure)) for name, figure in zip(_NAMES, figures, strict=True)]
            for q in parameters.quantiles:
                before, least = round(q * 10_000) * len(own), (parameters.min_patients - 1) * 10_000
                if before > least and len(own) * 10_000 - before >= least:
                    found = float(np.quantile(own, q, method="inverted_cdf"))
                    rows.append((arm, f"quantile {q:g}", found))
        return [(arm, name, python_value(STATISTIC, figure)) for arm, name, figure in rows]


def _values(parameters: Description, table: Mapping[str, Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a hospital's values in units of 10**-decimals, and their groups.

    Raises:
      DataError: a value of more decimals than agreed.
    """
    units = np.asarray(table["value"], np.int64)
    unit = 10 ** (VALUE.decimals - parameters.decimals)
    finer = int(np.count_nonzero(units % unit))
    if finer:
        raise DataError(
            f"{finer} of {len(units)} values have more than the agreed {parameters.decimals} decimals; round them, or agree "
            "on more"
        )
    return units // unit, places(table["arm"], parameters.arms, "arm")


def _rows(
    parameters: Description, sums: NDArray[np.int64], released: Any, found: Any = None, enough: Any = None
) -> list[tuple[str, str, float]]:
    low, high = parameters.units
    scale = 10.0**parameters.decimals
    means, variances, half = mean_and_variance(sums, low=low, high=high, level=parameters.confidence)
    rows: list[tuple[str, str, float]] = []
    for g, arm in enumerate(parameters.arms):
        if released[g]:
            ends = means[g] - half[g], means[g] + half[g]
            figures = (means[g] / scale, variances[g] / scale**2, *(end / scale for end in ends))
            rows += [
                (arm, name, float(figure))
                for name, figure in zip(_NAMES, (sums[g, 0], *figures), strict=True)
            ]
        for j, q in enumerate(parameters.quantiles):
            if enough[g, j]:
                rows.append((arm, f"quantile {q:g}", float(found[g, j]) / scale))
    return rows


DESCRIBE: Final = Describe()
