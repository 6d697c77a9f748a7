"""Noisy marginals: how many patients of all hospitals have each combination of values, with noise that nobody knows.

A hospital's table `facts` has a row a patient and variable, as for `crosstab`. Each hospital counts its own patients alone.
The counts of all are added up on shares, and so is discrete Gaussian noise, which is drawn on shares from coins of all
hospitals (`statistics.noise`). Synthetic tables are made of the results (`dp.synthesis`, docs/synthetic-data.md).

Learns: the parties of the role `result`, or else all hospitals, each count with its noise. All counts of a run together are
(`epsilon`, `delta`)-differentially private for one patient more or less in one hospital's table. Row counts are not told.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta

from secagg.errors import PlanError
from secagg.party import PartyId
from secagg.patterns.health import examples
from secagg.patterns.health.agreed_names import check_names
from secagg.patterns.health.crosstab import places_by_axis
from secagg.patterns.joint_tables import Columns, JointTable, Number
from secagg.patterns.pattern import COMPUTING, INPUT, Risk, RoleSize, Spending, Tables, Terms
from secagg.patterns.program import RESULT, Findings, ProgramPattern
from secagg.prg import system_stream
from secagg.query.schema import Boolean, Identifier, Integer, Schema
from secagg.statistics.contingency import cell_counts

if TYPE_CHECKING:  # differential privacy is an extra
    from secagg.statistics.noise import GaussianTable

_CELLS, _COINS = "cells", "coins"
_WORD_BITS: Final = 62  # a test holds it against `statistics.noise`
_MOST_COMPARISONS: Final = 1 << 23
_MOST_CELLS: Final = 1 << 16
_SPARE: Final = 1e-3  # of delta, for noise that is not exactly a discrete Gaussian
_LARGE: Final = 5.0


def _example() -> dict[str, tuple[str, ...]]:
    return {"sex": ("f", "m"), "outcome": ("no", "yes")}


class Marginals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The variables with their values, which of them are counted together, and what the noise hides.

    Attributes:
      marginals: sets of variables; without any, all pairs.
      max_patients: the most patients of one hospital.
    """

    axes: dict[str, tuple[str, ...]] = msgspec.field(default_factory=_example)
    marginals: tuple[tuple[str, ...], ...] = ()
    epsilon: Annotated[float, Meta(gt=0, le=100)] = 1.0
    delta: Annotated[float, Meta(gt=0, lt=0.01)] = 1e-6
    max_patients: Annotated[int, Meta(ge=1, le=1 << 40)] = 1_000_000

    @property
    def sets(self) -> tuple[tuple[str, ...], ...]:
        """Return the sets of variables that are counted together."""
        if self.marginals:
            return self.marginals
        return tuple(itertools.combinations(self.axes, min(2, len(self.axes))))

    def shape(self, marginal: Sequence[str]) -> list[int]:
        """Return how many values each variable of a set has."""
        return [len(self.axes[name]) for name in marginal]

    @property
    def cells(self) -> int:
        """Return how many counts there are in all."""
        return sum(math.prod(self.shape(marginal)) for marginal in self.sets)

    def names(self) -> list[str]:
        """Return what each count is called."""
        return [
            f"{', '.join(marginal)}: {' | '.join(values)}"
            for marginal in self.sets
            for values in itertools.product(*(self.axes[name] for name in marginal))
        ]


class NoisyMarginals(ProgramPattern):
    """Counts with noise; see the module."""

    name = "noisy_marginals"
    summary = "how many patients have each combination of values, with noise that keeps differential privacy."
    inputs = {  # noqa: RUF012  # nobody changes it
        "facts": Schema(
            patient=Identifier(), variable=Identifier(repeated=True), value=Identifier(repeated=True)
        )
    }
    results = Schema(what=Identifier(), patients=Integer())
    Parameters = Marginals
    roles: Mapping[str, RoleSize] = {
        INPUT: RoleSize(2, 255),
        COMPUTING: RoleSize(3, 4),
        RESULT: RoleSize(0, 255),
    }
    example = staticmethod(examples.noisy_marginals)
    tells = (
        "how many patients have each combination of values of each agreed set of variables, with noise; all of these "
        "together are differentially private, for one patient more or less in one hospital's table, at the agreed epsilon "
        "and delta"
    )

    def check(self, parameters: Marginals, terms: Terms) -> None:
        """Raise `PlanError` for marginals that cannot be computed, or noise that is too large."""
        check_names("axes", list(parameters.axes), most=64)
        for name, values in parameters.axes.items():
            check_names(f"axes.{name}", values, most=1024)
        for marginal in parameters.sets:
            check_names("a marginal", marginal, most=8)
            if strange := [name for name in marginal if name not in parameters.axes]:
                raise PlanError(
                    f"a marginal names {strange[0]!r:.80}; the axes are {', '.join(parameters.axes)}"
                )
        if len(set(map(frozenset, parameters.sets))) < len(parameters.sets):
            raise PlanError("a set of variables is counted twice, which costs privacy and tells nothing more")
        if parameters.cells > _MOST_CELLS:
            raise PlanError(
                f"expected at most {_MOST_CELLS} counts, got {parameters.cells}; name fewer or smaller marginals"
            )
        table = _noise(parameters.cells, len(parameters.sets), parameters.epsilon, parameters.delta)
        if parameters.cells * 2 * table.reach > _MOST_COMPARISONS:
            raise PlanError(
                f"noise for {parameters.cells} counts takes {parameters.cells * 2 * table.reach} comparisons, and at most "
                f"{_MOST_COMPARISONS} are made; allow a larger epsilon, or name fewer marginals"
            )
        super().check(parameters, terms)

    def warnings(self, parameters: Marginals, terms: Terms) -> list[str]:  # noqa: ARG002
        """Warn of an epsilon that protects little."""
        if parameters.epsilon <= _LARGE:
            return []
        return [f"epsilon = {parameters.epsilon:g}: above {_LARGE:g} little is hidden. Take 1, or less."]

    def risks(self, parameters: Marginals, terms: Terms, rows: Mapping[PartyId, int]) -> list[Risk]:  # noqa: ARG002
        """Return nothing: no identifier is shared."""
        return []

    def noise_std(self, parameters: Marginals) -> float:
        """Return the standard deviation of each count's noise."""
        table = _noise(parameters.cells, len(parameters.sets), parameters.epsilon, parameters.delta)
        return math.sqrt(table.variance)

    def spends(self, parameters: Marginals, terms: Terms) -> list[Spending]:  # noqa: ARG002
        """Return what a run costs: a patient is in one cell of each marginal."""
        rho = len(parameters.sets) / (2 * self.noise_std(parameters) ** 2)
        return [Spending(("facts",), parameters.epsilon, parameters.delta, "person", rho)]

    def shared(self, parameters: Marginals) -> Mapping[str, Columns]:
        """Return what is shared: counts, and coins for their noise."""
        return {_CELLS: {"patients": Number(0, parameters.max_patients)}, _COINS: {"coin": Boolean()}}

    def sizes(self, parameters: Marginals) -> Mapping[str, int]:
        """Return the numbers of counts and coins."""
        return {_CELLS: parameters.cells, _COINS: parameters.cells * _WORD_BITS}

    def local(self, parameters: Marginals, tables: Tables) -> Mapping[str, Mapping[str, Any]]:
        """Count a hospital's own patients, and draw its coins."""
        from secagg.statistics.noise import coins

        drawn = coins(parameters.cells, system_stream())
        return {_CELLS: {"patients": _counted(parameters, tables)}, _COINS: {"coin": drawn}}

    def program(self, parameters: Marginals, tables: Mapping[str, JointTable]) -> Findings:
        """Add up counts and noise."""
        from secagg.statistics.noise import gaussian

        cells, coins = tables[_CELLS], tables[_COINS]
        owners = len(cells.owners)
        by_owner = coins["coin"].reshape(owners, parameters.cells, _WORD_BITS)
        words = functools.reduce(lambda one, other: one ^ other, [by_owner[i] for i in range(owners)])
        table = _noise(parameters.cells, len(parameters.sets), parameters.epsilon, parameters.delta)
        counts = cells["patients"].reshape(owners, parameters.cells).sum(axis=0)
        return Findings({"patients": counts + gaussian(words, table)})

    def from_opened(self, parameters: Marginals, columns: Sequence[Any]) -> Sequence[Any]:
        """Name the counts."""
        return [parameters.names(), columns[0]]

    def pooled(self, parameters: Marginals, tables: Mapping[PartyId, Tables]) -> list[tuple[Any, ...]]:
        """Count the pooled patients, without noise."""
        counts = np.sum([_counted(parameters, own) for own in tables.values()], axis=0)
        return list(zip(parameters.names(), counts.tolist(), strict=True))


def _counted(parameters: Marginals, tables: Tables) -> Any:
    """Return a hospital's counts, marginal after marginal; of patients who have a value of every variable."""
    columns = dict(zip(parameters.axes, places_by_axis(parameters.axes, tables["facts"])[1], strict=True))
    return np.concatenate(
        [cell_counts([columns[name] for name in m], parameters.shape(m)).reshape(-1) for m in parameters.sets]
    )


@functools.lru_cache(maxsize=16)
def _noise(cells: int, marginals: int, epsilon: float, delta: float) -> GaussianTable:
    """Return the smallest noise that keeps the budget, by what was agreed alone.

    Raises:
      PlanError: no such noise, or differential privacy is not installed.
    """
    try:
        from secagg.dp import Budget, Cohort, Sensitivity, calibrate
        from secagg.statistics.noise import GaussianTable
    except ImportError as error:
        raise PlanError(str(error)) from None
    apart = Sensitivity(marginals, math.nextafter(math.sqrt(marginals), math.inf), cells)
    budget = Budget(epsilon, delta * (1 - _SPARE), 1, "add-remove")
    table = GaussianTable.of(calibrate(budget, Cohort(), apart, kind="discrete gaussian").variance)
    if (1 + math.exp(epsilon)) * cells * table.distance > delta * _SPARE:
        raise PlanError(
            f"delta = {delta:g} is too small for noise of {_WORD_BITS} random bits; allow a larger one"
        )
    return table


NOISY_MARGINALS: Final = NoisyMarginals()
