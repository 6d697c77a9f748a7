"""Association: which of many variants go with a trait of patients of all hospitals, beside covariates.

A linear regression a variant (trait on dosage and covariates), as genome-wide studies run it. Each hospital adds up its own
rows alone, and only sums are shared; so the joint part grows with the variants, not with the patients. A patient who is in
the tables of two hospitals counts twice.

Learns: the recipients, if there are `min_patients` patients, their number and the `top` variants that explain most of the
trait, with effect, standard error and p-value, NULL where the variant or the trait hardly varies. Nothing about the other
variants but that they explain less.
"""

from __future__ import annotations

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
from secagg.statistics.ratios import MOST
from secagg.statistics.variants import (
    LARGEST_DOSAGE,
    LEAST_OF_TRAIT,
    LEAST_OF_VARIANT,
    association,
    shortened_count,
    t_test,
    trait_sums,
    variant_sums,
)

_MOST_VARIANTS: Final = 1 << 20


class Study(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The trait, covariates with their ranges, the variants, and how many are told."""

    trait: str = "trait"
    trait_low: Annotated[float, Meta(ge=-LARGEST, le=LARGEST)] = 0
    trait_high: Annotated[float, Meta(ge=-LARGEST, le=LARGEST)] = 100
    covariates: tuple[str, ...] = ("age",)
    low: tuple[float, ...] = (0,)
    high: tuple[float, ...] = (120,)
    variants: tuple[str, ...] = ("rs1", "rs2")
    top: Annotated[int, Meta(ge=1, le=1000)] = 1
    min_patients: Annotated[int, Meta(ge=3)] = 10


class Association(ProgramPattern):
    """Variants that go with a trait; see the module."""

    name = "association"
    summary = "which variants go with a trait beside covariates: the top hits of a linear regression each."
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
        "explained, NULL for those that hardly vary"
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
        if parameters.top > len(parameters.variants):
            raise PlanError(
                f"top = {parameters.top} is more than the {len(parameters.variants)} variants; lower it"
            )
        super().check(parameters, terms)

    def shared(self, parameters: Study) -> Mapping[str, Columns]:
        """Return what is shared: sums."""
        real = Number(-2 * MOST, 2 * MOST, 30)
        sums = {f"s{i}": real for i in range(len(parameters.covariates) + 2)}
        return {
            "moments": {"moment": real},
            "variants": {"squares": Number(0, 4 * MOST), **sums},
        }

    def sizes(self, parameters: Study) -> Mapping[str, int]:
        """Return the number of moments and variants."""
        return {"moments": (len(parameters.covariates) + 2) ** 2, "variants": len(parameters.variants)}

    def local(self, parameters: Study, tables: Tables) -> Mapping[str, Mapping[str, Any]]:
        """Add up a hospital's own rows."""
        covariates, trait, dosages = _rows(parameters, tables)
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
        hits = association(each["squares"], products, moments, top=parameters.top)
        n = shortened_count(moments)
        told = n >= parameters.min_patients
        counts = told.astype(int64)
        return Findings(
            {
                "variant": hits.variant * counts,
                "effect": hits.effect * counts,
                "r2": hits.r2 * counts,
                "narrow": hits.narrow & told,
                "patients": (n * counts).reshape(1),
            }
        )

    def told(self, parameters: Study, columns: Sequence[Any]) -> Sequence[Any]:
        """Name variants, and make standard errors and p-values."""
        *hits, (n,) = columns
        rows = [
            _named(parameters, int(place), float(effect), float(share), bool(narrow), int(n))
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
        design = np.column_stack([np.ones(n), covariates])

        def rest(y: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(y - design @ np.linalg.lstsq(design, y, rcond=None)[0])

        g, y = rest(dosages.astype(np.float64)), rest(trait)
        gg, gy = (g * g).sum(axis=0), g.T @ y
        varies = (gg > n * LEAST_OF_VARIANT) & (y @ y > n * LEAST_OF_TRAIT)
        effect = np.divide(gy, gg, out=np.zeros_like(gy), where=varies)
        r2 = np.divide(effect * gy, y @ y, out=np.zeros_like(gy), where=varies)
        order = np.argsort(-r2, kind="stable")[: parameters.top]
        rows = [_named(parameters, int(i), float(effect[i]), float(r2[i]), not varies[i], n) for i in order]
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


def _named(
    parameters: Study, place: int, effect: float, r2: float, narrow: bool, n: int
) -> tuple[str, float | None, float | None, float | None, int]:
    """Return a hit in the trait's own units."""
    variant = parameters.variants[place]
    if narrow:
        return variant, None, None, None, n
    unit = (parameters.trait_high - parameters.trait_low) / 2
    error, p = t_test(effect, r2, n - len(parameters.covariates) - 2)
    return variant, effect * unit, min(error * unit, 10.0**8), p, n


ASSOCIATION: Final = Association()
