"""Cross table: how many patients of all hospitals have each combination of values, small cells suppressed.

A hospital's table `facts` has a row a patient and variable. Each hospital counts its own patients alone, and only cells are
shared. So a patient who is in the tables of two hospitals counts twice. With `once`, a row a patient is shared, and
identifiers are compared in secret under pseudonyms. Each patient counts once then, as the first of the hospitals in the
job's order has it.

Learns: with `tell = "cells"`, each cell of at least `min_patients` patients; margins are not told. Of the others together,
the row counts that `once` announces, rounded up, tell a bound. Where every cell of a table of two variables is told, the
chi-square and (of two by two) Fisher's p-value follow, and stand beside it. With `tell = "test"`, the chi-square and its
p-value alone, and no cell. With `tell = "exact"`, the p-value of Fisher's exact test of a table of two by two alone, and
neither cell nor margin.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from secagg.errors import DataError, PlanError
from secagg.mpc import int64
from secagg.party import PartyId
from secagg.patterns.health import examples
from secagg.patterns.health.agreed_names import STATISTIC, check_names, places
from secagg.patterns.health.once import check_number, counts_once
from secagg.patterns.joint_tables import Columns, JointTable, Number, python_value
from secagg.patterns.pattern import Tables, Terms
from secagg.patterns.program import Findings, ProgramPattern
from secagg.query.schema import Identifier, Schema
from secagg.statistics.contingency import (
    MOST_CELLS,
    cell_counts,
    chi_square,
    chi_square_test,
    fisher_exact,
    released_cells,
)
from secagg.statistics.exact import MOST_EXACT, fisher_p_value
from secagg.statistics.log_rank import p_value
from secagg.statistics.ratios import MOST

_FISHER: Final = "Fisher's p-value"


def _example() -> dict[str, tuple[str, ...]]:
    return {"sex": ("f", "m"), "outcome": ("no", "yes")}


class Axes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The variables with their values, and what is told."""

    axes: dict[str, tuple[str, ...]] = msgspec.field(default_factory=_example)
    min_patients: Annotated[int, Meta(ge=0)] = 5
    tell: Literal["cells", "test", "exact"] = "cells"
    once: bool = False
    max_patients: Annotated[int, Meta(ge=1, le=MOST)] = 10_000


class Crosstab(ProgramPattern):
    """A cross table; see the module."""

    name = "crosstab"
    summary = "how many patients have each combination of values, small cells suppressed; or a test alone."
    inputs = {  # noqa: RUF012  # nobody changes it
        "facts": Schema(
            patient=Identifier(), variable=Identifier(repeated=True), value=Identifier(repeated=True)
        )
    }
    results = Schema(what=Identifier(), value=STATISTIC)
    Parameters = Axes
    example = staticmethod(examples.crosstab)
    hides_below = "min_patients"
    tells = (
        "each cell of at least the smallest number of patients, and of a table without other cells its tests; or, if so "
        "agreed, the chi-square test alone, or Fisher's p-value alone"
    )

    def check(self, parameters: Axes, terms: Terms) -> None:
        """Raise `PlanError` for a table that cannot be computed."""
        check_names("axes", list(parameters.axes), most=8)
        for name, values in parameters.axes.items():
            check_names(f"axes.{name}", values, most=1024)
        if parameters.tell == "test" and (
            len(parameters.axes) != 2 or min(map(len, parameters.axes.values())) < 2
        ):
            raise PlanError('tell = "test" takes two variables of two values or more; use tell = "cells"')
        everybody = parameters.max_patients * len(terms.input_parties)
        if parameters.tell == "exact" and (
            [len(values) for values in parameters.axes.values()] != [2, 2] or everybody > MOST_EXACT
        ):
            raise PlanError(
                f'tell = "exact" takes two variables of two values, and {MOST_EXACT} patients of all hospitals together; '
                f'set max_patients to {MOST_EXACT // len(terms.input_parties)} or less, or use tell = "test"'
            )
        if self._cells(parameters) > MOST_CELLS or parameters.max_patients * len(terms.input_parties) > MOST:
            raise PlanError(
                f"expected at most {MOST_CELLS} cells, and {MOST} patients of all hospitals together; name fewer values, or "
                "lower max_patients"
            )
        super().check(parameters, terms)

    def row_limit(self, terms: Terms) -> int:
        """Return the largest number of patients of one hospital."""
        return min(super().row_limit(terms), MOST // len(terms.input_parties))

    @staticmethod
    def _cells(parameters: Axes) -> int:
        return int(np.prod([len(values) for values in parameters.axes.values()], dtype=np.int64))

    def shared(self, parameters: Axes) -> Mapping[str, Columns]:
        """Return what is shared: cells, or the cell of each patient."""
        if parameters.once:
            return {"patients": {"patient": Identifier(), "cell": Number(0, self._cells(parameters) - 1)}}
        return {"cells": {"patients": Number(0, parameters.max_patients)}}

    def sizes(self, parameters: Axes) -> Mapping[str, int]:
        """Return the number of cells."""
        return {} if parameters.once else {"cells": self._cells(parameters)}

    def local(self, parameters: Axes, tables: Tables) -> Mapping[str, Mapping[str, Any]]:
        """Count a hospital's own patients, or find the cell of each."""
        patients, columns = places_by_axis(parameters.axes, tables["facts"])
        sizes = [len(values) for values in parameters.axes.values()]
        if parameters.once:
            check_number(len(patients), parameters.max_patients)
            names = np.array([*patients, None], object)[:-1]
            cell = np.ravel_multi_index(tuple(columns), tuple(sizes)) if patients else np.zeros(0, np.int64)
            return {"patients": {"patient": names, "cell": cell}}
        return {"cells": {"patients": cell_counts(columns, sizes).reshape(-1)}}

    def program(self, parameters: Axes, tables: Mapping[str, JointTable]) -> Findings:
        """Add up the cells, and suppress small ones or test."""
        rows = next(iter(tables.values()))
        sizes = [len(values) for values in parameters.axes.values()]
        most = parameters.max_patients * len(rows.owners)
        if parameters.once:
            counts = counts_once(rows, "cell", math.prod(sizes), "patient").reshape(tuple(sizes))
        else:
            counts = rows["patients"].reshape((len(rows.owners), *sizes)).sum(axis=0)
        if parameters.tell == "test":
            statistic, degrees = chi_square(counts, most=most)
            return Findings({"statistic": statistic.reshape(1), "degrees": degrees.reshape(1)})
        if parameters.tell == "exact":
            p = fisher_p_value(counts, most=most)
            return Findings({"p_value": p.reshape(1)})
        released = released_cells(counts, parameters.min_patients)
        return Findings({"counts": counts * released.astype(int64), "released": released})

    def from_opened(self, parameters: Axes, columns: Sequence[Any]) -> Sequence[Any]:
        """Name the cells, and add what follows from a table without suppressed ones."""
        if parameters.tell == "test":
            (statistic,), (degrees,) = columns
            return _columns(_test(float(statistic), int(degrees), p_value(float(statistic), int(degrees))))
        if parameters.tell == "exact":
            return _columns([(_FISHER, float(columns[0][0]))])
        return _columns(_named(parameters, *columns))

    def pooled(self, parameters: Axes, tables: Mapping[PartyId, Tables]) -> list[tuple[Any, ...]]:
        """Count the pooled patients."""
        sizes = [len(values) for values in parameters.axes.values()]
        seen: dict[Any, int] = {}
        places_by_hospital = []
        for name in tables:
            patients, columns = places_by_axis(parameters.axes, tables[name]["facts"])
            new = [i for i, who in enumerate(patients) if not parameters.once or who not in seen]
            seen.update(dict.fromkeys(patients, 0))
            places_by_hospital.append([column[new] for column in columns])
        counts = np.sum([cell_counts(columns, sizes) for columns in places_by_hospital], axis=0)
        if parameters.tell == "test":
            rows = _test(*chi_square_test(counts))
        elif parameters.tell == "exact":
            rows = [(_FISHER, fisher_exact(counts))]
        else:
            rows = _named(parameters, counts, counts >= parameters.min_patients)
        return [(what, python_value(STATISTIC, value)) for what, value in rows]


def places_by_axis(
    axes: Mapping[str, Sequence[str]], facts: Mapping[str, Any]
) -> tuple[list[Any], list[NDArray[np.int64]]]:
    """Return a hospital's patients who have a value of every axis, and for each axis the places of their values.

    Raises:
      DataError: a value that the job does not name, or a variable of a patient twice.
    """
    names = list(axes)
    number: dict[str, int] = {}
    rows: list[dict[int, int]] = []
    by_variable: dict[str, list[int]] = {name: [] for name in names}
    patients, variables, values = (list(facts[column]) for column in ("patient", "variable", "value"))
    for i, variable in enumerate(variables):
        if variable in by_variable:
            by_variable[variable].append(i)
    for axis, name in enumerate(names):
        at = by_variable[name]
        for i, place in zip(at, places([values[i] for i in at], axes[name], name), strict=True):
            row = number.setdefault(patients[i], len(rows))
            if row == len(rows):
                rows.append({})
            if axis in rows[row]:
                raise DataError(f"a patient has {name} twice in facts; leave one row each")
            rows[row][axis] = int(place)
    whole = [(who, row) for who, row in zip(number, rows, strict=True) if len(row) == len(names)]
    columns = [np.array([row[axis] for _, row in whole], np.int64) for axis in range(len(names))]
    return [who for who, _ in whole], columns


def _test(statistic: float, degrees: int, p: float) -> list[tuple[str, float]]:
    return [("chi-square", statistic), ("degrees of freedom", float(degrees)), ("p-value", p)]


def _named(parameters: Axes, counts: Any, released: Any) -> list[tuple[str, float]]:
    cells = [" | ".join(cell) for cell in itertools.product(*parameters.axes.values())]
    flat, shown = np.asarray(counts).reshape(-1), np.asarray(released).reshape(-1)
    rows = [(cell, float(n)) for cell, n, yes in zip(cells, flat, shown, strict=True) if yes]
    if shown.all() and len(parameters.axes) == 2:
        rows += _test(*chi_square_test(counts))
        if np.shape(counts) == (2, 2):
            rows.append((_FISHER, fisher_exact(np.asarray(counts))))
    return rows


def _columns(rows: list[tuple[str, float]]) -> Sequence[Any]:
    return [[what for what, _ in rows], [value for _, value in rows]]


CROSSTAB: Final = Crosstab()
