"""Correlation: how measurements of patients of all hospitals go together, as Pearson's correlation of each two of them.

Each hospital adds up its own rows and their products, moved into -1..1 by public ranges. Only these sums are shared. A
patient who is in the tables of two hospitals counts twice. With `once`, a row a patient is shared, with measurements
rounded to 2**-21 of their range, and each patient counts once, as the first of the hospitals in the job's order has it.

Learns: the recipients, the correlation of each two measurements and the number of patients, if there are at least
`min_patients`. The p-value follows from both. No mean, and no variance but which measurements vary too little: their
correlations are NULL.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from secagg.errors import PlanError
from secagg.mpc import int64, stack
from secagg.mpc.arrays.handle import rescaled
from secagg.mpc.arrays.linalg import matrix_product
from secagg.party import PartyId
from secagg.patterns.health import examples
from secagg.patterns.health.agreed_names import PROBABILITY_OR_NULL, STATISTIC_OR_NULL, check_names
from secagg.patterns.health.covariates import COVARIATES, LARGEST, wide
from secagg.patterns.health.once import first_of, first_rows
from secagg.patterns.joint_tables import Columns, JointTable, Number, python_value
from secagg.patterns.pattern import Tables, Terms
from secagg.patterns.program import Findings, ProgramPattern
from secagg.query.schema import Identifier, Integer, Schema
from secagg.statistics.moments import NARROW, correlation, correlation_test, moved_sums
from secagg.statistics.ratios import FINEST, MOST

_FRAC_BITS: Final = 20  # of a measurement on shares: the products of MOST rows add up to less than 2**60


class Ranges(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The measurements, and the range of each."""

    covariates: tuple[str, ...] = ("height", "weight")
    low: tuple[float, ...] = (0, 0)
    high: tuple[float, ...] = (250, 250)
    min_patients: Annotated[int, Meta(ge=3)] = 10
    once: bool = False


def check_ranges(covariates: Sequence[str], low: Sequence[float], high: Sequence[float]) -> None:
    """Raise `PlanError` where not each covariate has a range."""
    if not len(covariates) == len(low) == len(high) or not all(
        -LARGEST <= a < b <= LARGEST for a, b in zip(low, high, strict=False)
    ):
        raise PlanError(
            f"expected for each of {len(covariates)} covariates a low and a larger high within {LARGEST} of zero, got "
            f"{list(low)!r:.80} and {list(high)!r:.80}"
        )


class Correlation(ProgramPattern):
    """Pearson's correlations; see the module."""

    name = "correlation"
    summary = "how measurements of patients go together: Pearson's correlations."
    inputs = {  # noqa: RUF012  # nobody changes it
        "patients": Schema(patient=Identifier()),
        "covariates": COVARIATES,
    }
    results = Schema(
        first=Identifier(),
        second=Identifier(),
        correlation=STATISTIC_OR_NULL,
        patients=Integer(),
        p_value=PROBABILITY_OR_NULL,
    )
    Parameters = Ranges
    example = staticmethod(examples.correlation)
    hides_below = "min_patients"
    tells = (
        "if there are enough patients, their number and the correlation of each two measurements, NULL for those that vary "
        "too little, and which these are; p-values follow"
    )

    def check(self, parameters: Ranges, terms: Terms) -> None:
        """Raise `PlanError` for fewer than two measurements, or other ranges than measurements."""
        check_names("covariates", parameters.covariates, least=2, most=64)
        check_ranges(parameters.covariates, parameters.low, parameters.high)
        super().check(parameters, terms)

    def row_limit(self, terms: Terms) -> int:
        """Return the largest number of patients of one hospital."""
        return min(super().row_limit(terms), MOST // len(terms.input_parties))

    def shared(self, parameters: Ranges) -> Mapping[str, Columns]:
        """Return what is shared: sums, or the measurements of each patient."""
        if parameters.once:
            moved = {f"x{i}": Number(-1, 1, _FRAC_BITS) for i in range(len(parameters.covariates))}
            return {"patients": {"patient": Identifier(), **moved}}
        real = Number(-MOST, MOST, 30)
        return {"sums": {"sum": real}, "products": {"product": real}, "rows": {"number": Number(0, MOST)}}

    def sizes(self, parameters: Ranges) -> Mapping[str, int]:
        """Return the number of sums."""
        if parameters.once:
            return {}
        p = len(parameters.covariates)
        return {"sums": p, "products": p * p, "rows": 1}

    def local(self, parameters: Ranges, tables: Tables) -> Mapping[str, Mapping[str, Any]]:
        """Add up a hospital's own rows."""
        x = _rows(parameters, tables)
        sums, products, n = moved_sums(x, parameters.low, parameters.high)
        if parameters.once:
            low, high = np.array(parameters.low), np.array(parameters.high)
            columns = ((2 * x - low - high) / (high - low)).T
            moved = {f"x{i}": column for i, column in enumerate(columns)}
            return {"patients": {"patient": tables["patients"]["patient"], **moved}}
        return {
            "sums": {"sum": sums},
            "products": {"product": products.reshape(-1)},
            "rows": {"number": [n]},
        }

    def program(self, parameters: Ranges, tables: Mapping[str, JointTable]) -> Findings:
        """Correlate."""
        p = len(parameters.covariates)
        if parameters.once:
            rows = tables["patients"]
            counted = first_rows(rows, "patient").astype(int64)
            x = stack([rows[f"x{i}"] for i in range(p)], axis=1) * counted.reshape(-1, 1)
            n, sums = counted.sum(), rescaled(x.sum(axis=0), FINEST)
            products = matrix_product(x.T, x, FINEST)
        else:
            hospitals = len(tables["rows"].owners)
            n = tables["rows"]["number"].sum()
            sums = tables["sums"]["sum"].reshape((hospitals, p)).sum(axis=0)
            products = tables["products"]["product"].reshape((hospitals, p, p)).sum(axis=0)
        found = correlation(sums, products, n)
        above = np.triu_indices(p, 1)
        released = n >= parameters.min_patients
        return Findings(
            {
                "r": found.r[above] * released,
                "narrow": found.narrow & released,
                "n": (n * released.astype(int64)).reshape(1),
            }
        )

    def from_opened(self, parameters: Ranges, columns: Sequence[Any]) -> Sequence[Any]:
        """Name pairs, and add p-values."""
        r, narrow, (n,) = columns
        rows = _named(parameters, r, narrow, int(n)) if n else []
        return [[row[i] for row in rows] for i in range(5)]

    def pooled(self, parameters: Ranges, tables: Mapping[PartyId, Tables]) -> list[tuple[Any, ...]]:
        """Correlate the pooled rows with numpy."""
        x = np.concatenate([_rows(parameters, own) for own in tables.values()])
        if parameters.once:
            x = x[np.concatenate(first_of(tables, "patients"))]
        if len(x) < parameters.min_patients:
            return []
        distance = x - x.mean(axis=0)
        spread = np.sqrt((distance**2).sum(axis=0))
        products = distance.T @ distance
        half = (np.array(parameters.high) - np.array(parameters.low)) / 2
        narrow = spread / np.sqrt(len(x)) < NARROW * half
        scale = np.where(narrow, 0, 1 / np.where(narrow, 1, spread))
        r = products * np.outer(scale, scale)
        rows = _named(parameters, r[np.triu_indices(x.shape[1], 1)], narrow, len(x))
        return [
            (a, b, python_value(STATISTIC_OR_NULL, c), n, python_value(PROBABILITY_OR_NULL, p))
            for a, b, c, n, p in rows
        ]


def _rows(parameters: Ranges, tables: Tables) -> NDArray[np.float64]:
    return wide(parameters.covariates, tables["patients"]["patient"], tables["covariates"])


def _named(
    parameters: Ranges, r: Any, narrow: Any, n: int
) -> list[tuple[str, str, float | None, int, float | None]]:
    rows: list[tuple[str, str, float | None, int, float | None]] = []
    pairs = itertools.combinations(zip(parameters.covariates, narrow, strict=True), 2)
    for ((a, a_is_narrow), (b, b_is_narrow)), c in zip(pairs, r, strict=True):
        r_or_none = None if a_is_narrow or b_is_narrow else float(c)
        rows.append((a, b, r_or_none, n, None if r_or_none is None else correlation_test(r_or_none, n)))
    return rows


CORRELATION: Final = Correlation()
