"""Association: which of many variants go with a trait of patients of all hospitals, beside covariates.

A linear regression a variant (trait on dosage and covariates), as genome-wide studies run it. For a trait of 0 or 1, with
`null_model`, the score test of a logistic regression: that model is fitted first, without variants, by the pattern
`logistic_regression`, and its coefficients stand in this job. Each hospital adds up its own rows alone, and only sums are
shared; so the joint part grows with the variants, not with the patients. A patient who is in the tables of two hospitals
counts twice.

Learns: the recipients, if there are `min_patients` patients, their number and the `top` variants that explain most of the
trait, with effect, standard error and p-value, NULL where the variant or the trait hardly varies. With `null_model` also
the mean square of its weighted residuals. Nothing about the other variants but that they explain less.
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
from secagg.mpc import int64, stack
from secagg.party import PartyId
from secagg.patterns.health import examples
from secagg.patterns.health.agreed_names import PROBABILITY_OR_NULL, STATISTIC_OR_NULL, check_names, places
from secagg.patterns.health.correlation import check_ranges
from secagg.patterns.health.covariates import COVARIATES, LARGEST, wide
from secagg.patterns.joint_tables import Columns, JointTable, Number, python_value
from secagg.patterns.pattern import Tables, Terms
from secagg.patterns.program import Findings, ProgramPattern
from secagg.query.schema import Identifier, Integer, Schema
from secagg.statistics.log_rank import upper_gamma
from secagg.statistics.ratios import MOST
from secagg.statistics.variants import (
    LARGEST_DOSAGE,
    LEAST_OF_TRAIT,
    LEAST_OF_VARIANT,
    SCORE_UNIT,
    association,
    score_columns,
    shortened_count,
    t_test,
    trait_sums,
    variant_sums,
)

_MOST_VARIANTS: Final = 1 << 20


class Study(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The trait, covariates with their ranges, the variants, and how many are told.

    Attributes:
      null_model: for a trait of 0 or 1, the intercept and the covariates' coefficients of `logistic_regression`, without
        variants and in the covariates' own units; without it the regression is linear.
    """

    trait: str = "trait"
    trait_low: Annotated[float, Meta(ge=-LARGEST, le=LARGEST)] = 0
    trait_high: Annotated[float, Meta(ge=-LARGEST, le=LARGEST)] = 100
    covariates: tuple[str, ...] = ("age",)
    low: tuple[float, ...] = (0,)
    high: tuple[float, ...] = (120,)
    variants: tuple[str, ...] = ("rs1", "rs2")
    top: Annotated[int, Meta(ge=1, le=1000)] = 1
    min_patients: Annotated[int, Meta(ge=3)] = 10
    null_model: tuple[float, ...] = ()


class Association(ProgramPattern):
    """Variants that go with a trait; see the module."""

    name = "association"
    summary = "which variants go with a trait beside covariates: the top hits of a linear or logistic regression each."
    inputs = {  # noqa: RUF012  # nobody changes it
        "patients": Schema(patient=Identifier()),
        "covariates": COVARIATES,
        "genotypes": Schema(
            patient=Identifier(), variant=Identifier(repeated=True), dosage=Integer(0, LARGEST_DOSAGE)
        ),
    }
    results = Schema(
        variant=Identifier(),
        effect=STATISTIC_OR_NULL,
        standard_error=STATISTIC_OR_NULL,
        p_value=PROBABILITY_OR_NULL,
        patients=Integer(),
    )
    Parameters = Study
    example = staticmethod(examples.association)
    tells = (
        "if there are enough patients, their number and the variants that explain most of the trait, with effect and share "
        "explained, NULL for those that hardly vary; for a trait of 0 or 1 also the mean square of weighted residuals"
    )

    def check(self, parameters: Study, terms: Terms) -> None:
        """Raise `PlanError` for what cannot be computed."""
        check_names("variants", parameters.variants, most=_MOST_VARIANTS)
        check_names("trait and covariates", (parameters.trait, *parameters.covariates), most=32)
        check_ranges(
            (parameters.trait, *parameters.covariates),
            (parameters.trait_low, *parameters.low),
            (parameters.trait_high, *parameters.high),
        )
        if parameters.null_model and (
            len(parameters.null_model) != len(parameters.covariates) + 1
            or not np.isfinite(parameters.null_model).all()
        ):
            raise PlanError(
                f"expected an intercept and a coefficient for each of {len(parameters.covariates)} covariates in "
                f"null_model, got {len(parameters.null_model)} numbers; take them from a run of logistic_regression"
            )
        if parameters.top > len(parameters.variants):
            raise PlanError(
                f"top = {parameters.top} is more than the {len(parameters.variants)} variants; lower it"
            )
        super().check(parameters, terms)

    def shared(self, parameters: Study) -> Mapping[str, Columns]:
        """Return what is shared: sums."""
        real = Number(-2 * MOST, 2 * MOST, 30)
        sums = {f"s{i}": real for i in range(len(parameters.covariates) + 2)}
        squares = Number(0, 4 * MOST, 30 if parameters.null_model else 0)
        rows: dict[str, Columns] = {"rows": {"number": Number(0, MOST)}} if parameters.null_model else {}
        return {"moments": {"moment": real}, "variants": {"squares": squares, **sums}, **rows}

    def sizes(self, parameters: Study) -> Mapping[str, int]:
        """Return the number of moments and variants."""
        sums = {"moments": (len(parameters.covariates) + 2) ** 2, "variants": len(parameters.variants)}
        return sums | ({"rows": 1} if parameters.null_model else {})

    def local(self, parameters: Study, tables: Tables) -> Mapping[str, Mapping[str, Any]]:
        """Add up a hospital's own rows."""
        covariates, trait, dosages = _rows(parameters, tables)
        if parameters.null_model:
            return _weighted(parameters, covariates, trait, dosages)
        squares, products = variant_sums(dosages, covariates, trait)
        return {
            "moments": {"moment": trait_sums(covariates, trait).reshape(-1)},
            "variants": {"squares": squares, **{f"s{i}": row for i, row in enumerate(products)}},
        }

    def program(self, parameters: Study, tables: Mapping[str, JointTable]) -> Findings:
        """Regress on each variant, and open the first."""
        q, hospitals = len(parameters.covariates) + 2, len(tables["moments"].owners)
        moments = tables["moments"]["moment"].reshape((hospitals, q, q)).sum(axis=0)
        rows = tables["variants"]
        each = {name: rows[name].reshape((hospitals, -1)).sum(axis=0) for name in rows.columns}
        products = stack([each[f"s{i}"] for i in range(q)])
        n = tables["rows"]["number"].sum() if parameters.null_model else shortened_count(moments)
        hits = association(each["squares"], products, moments, top=parameters.top, rows=n)
        spread = {"spread": (hits.spread * (n >= parameters.min_patients)).reshape(1)}
        released = n >= parameters.min_patients
        counts = released.astype(int64)
        return Findings(
            {
                "variant": hits.variant * counts,
                "effect": hits.effect * counts,
                "r2": hits.r2 * counts,
                "narrow": hits.narrow & released,
                "patients": (n * counts).reshape(1),
                **(spread if parameters.null_model else {}),
            }
        )

    def from_opened(self, parameters: Study, columns: Sequence[Any]) -> Sequence[Any]:
        """Name variants, and make standard errors and p-values."""
        hits, (n,) = columns[:4], columns[4]
        spread = float(columns[5][0]) if parameters.null_model else 0.0
        rows = [
            _named(parameters, int(place), float(effect), float(share), bool(narrow), int(n), spread)
            for place, effect, share, narrow in zip(*hits, strict=True)
            if n
        ]
        return [[row[i] for row in rows] for i in range(5)]

    def pooled(self, parameters: Study, tables: Mapping[PartyId, Tables]) -> list[tuple[Any, ...]]:
        """Regress the pooled rows with numpy."""
        each = [_rows(parameters, own) for own in tables.values()]
        covariates, trait, dosages = (np.concatenate(part) for part in zip(*each, strict=True))
        n = len(trait)
        if n < parameters.min_patients:
            return []
        design, g = np.column_stack([np.ones(n), covariates]), dosages.astype(np.float64)
        if parameters.null_model:
            p = _probability(parameters, covariates)
            w = np.sqrt(p * (1 - p))
            design, g, trait = (
                2 * w[:, None] * design,
                2 * w[:, None] * g,
                ((trait > _middle(parameters)) - p) / w / SCORE_UNIT,
            )

        def rest(y: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(y - design @ np.linalg.lstsq(design, y, rcond=None)[0])

        g, y = rest(g), rest(trait)
        gg, gy = (g * g).sum(axis=0), g.T @ y
        varies = (gg > n * LEAST_OF_VARIANT) & (y @ y > n * LEAST_OF_TRAIT)
        effect = np.divide(gy, gg, out=np.zeros_like(gy), where=varies)
        r2 = np.divide(effect * gy, y @ y, out=np.zeros_like(gy), where=varies)
        order = np.argsort(-r2, kind="stable")[: parameters.top]
        rows = [
            _named(parameters, int(i), float(effect[i]), float(r2[i]), not varies[i], n, float(y @ y) / n)
            for i in order
        ]
        kinds = tuple(self.results[name] for name in self.results)
        return [tuple(map(python_value, kinds, row)) for row in rows]


def _rows(
    parameters: Study, tables: Tables
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return a hospital's covariates and traits moved into -1..1, and dosages (patients, variants).

    Raises:
      DataError: a patient without a dosage of an agreed variant, or with two.
    """
    patients = tables["patients"]["patient"]
    both = wide((parameters.trait, *parameters.covariates), patients, tables["covariates"])
    low = np.array([parameters.trait_low, *parameters.low])
    high = np.array([parameters.trait_high, *parameters.high])
    moved = (2 * both - low - high) / (high - low)
    genotypes = tables["genotypes"]
    row = {patient: i for i, patient in enumerate(patients)}
    of = np.array([row.get(patient, -1) for patient in genotypes["patient"]], np.int64)
    variant = places(genotypes["variant"], parameters.variants, "variant")
    dosages = np.full((len(row), len(parameters.variants)), -1, np.int64)
    kept = of >= 0
    dosages[of[kept], variant[kept]] = np.asarray(genotypes["dosage"], np.int64)[kept]
    missing = int((dosages < 0).sum())
    if missing or int(kept.sum()) != dosages.size:
        raise DataError(
            f"expected one dosage for each of {len(row)} patients and {len(parameters.variants)} variants; {missing} are "
            "missing, and others may be there twice. Impute them, or leave out the patient or the variant"
        )
    return moved[:, 1:], moved[:, 0], dosages


def _middle(parameters: Study) -> float:
    """Return where one half lies once the trait is moved into -1..1."""
    return (1 - parameters.trait_low - parameters.trait_high) / (parameters.trait_high - parameters.trait_low)


def _probability(parameters: Study, moved: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each patient's probability by the model without variants."""
    low, high = np.array(parameters.low), np.array(parameters.high)
    own_units = (moved * (high - low) + low + high) / 2
    odds = parameters.null_model[0] + own_units @ np.array(parameters.null_model[1:])
    return np.asarray(1 / (1 + np.exp(-odds)))


def _weighted(
    parameters: Study,
    covariates: NDArray[np.float64],
    trait: NDArray[np.float64],
    dosages: NDArray[np.int64],
) -> dict[str, Mapping[str, Any]]:
    """Return the sums of a hospital's weighted rows.

    Raises:
      DataError: a trait that is neither 0 nor 1.
      RangeError: see `score_columns`.
    """
    own_units = (
        trait * (parameters.trait_high - parameters.trait_low) + parameters.trait_low + parameters.trait_high
    ) / 2
    is_one = np.abs(own_units - 1) < 1e-9
    if wrong := int(np.count_nonzero(~is_one & (np.abs(own_units) > 1e-9))):
        raise DataError(
            f"{parameters.trait}: expected 0 or 1 of each of {len(trait)} patients, got something else {wrong} times; leave "
            "out null_model for a trait that is measured"
        )
    design, residual, weight = score_columns(covariates, is_one, _probability(parameters, covariates))
    both, g = np.column_stack([design, residual]), dosages * weight[:, None]
    products = both.T @ g
    return {
        "moments": {"moment": (both.T @ both).reshape(-1)},
        "variants": {
            "squares": np.einsum("ij,ij->j", g, g),
            **{f"s{i}": row for i, row in enumerate(products)},
        },
        "rows": {"number": np.array([len(trait)])},
    }


def _named(
    parameters: Study, place: int, effect: float, r2: float, narrow: bool, n: int, spread: float
) -> tuple[str, float | None, float | None, float | None, int]:
    """Return a hit in the trait's own units."""
    variant = parameters.variants[place]
    if narrow:
        return variant, None, None, None, n
    if parameters.null_model:
        chi_square = r2 * spread * n * SCORE_UNIT**2
        if chi_square <= 0:
            return variant, 0.0, None, 1.0, n
        effect = 2 * SCORE_UNIT * effect
        return variant, effect, abs(effect) / math.sqrt(chi_square), upper_gamma(0.5, chi_square / 2), n
    unit = (parameters.trait_high - parameters.trait_low) / 2
    error, p = t_test(effect, r2, n - len(parameters.covariates) - 2)
    return variant, effect * unit, min(error * unit, 10.0**8), p, n


ASSOCIATION: Final = Association()
