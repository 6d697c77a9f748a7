"""Cox: what covariates do to the hazard of patients at all hospitals, by Cox's proportional hazards model.

A patient is a row of the table `patients`, and has each agreed covariate in the table `covariates`. The rows are shared, and
sorted in secret. A patient who is in the tables of two hospitals counts twice. With `once`, each patient counts once, as the
first of the hospitals in the job's order has it.

Learns: the recipients, if `min_patients` patients have the event, for each covariate its coefficient and standard error,
NULL where others determine it or it hardly varies, and the last step of Newton's method. No intermediate coefficients, no
risk sets, no row counts but the announced ones. All parties learn if the method has not converged, as where a covariate
separates those with the event and the likelihood has no maximum; then nothing else is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta

from secagg.errors import PlanError
from secagg.mpc import int64, stack
from secagg.party import PartyId
from secagg.patterns.health import examples, reference
from secagg.patterns.health.agreed_names import PROBABILITY_OR_NULL, STATISTIC, STATISTIC_OR_NULL, check_names
from secagg.patterns.health.covariates import COVARIATES, LARGEST, wide
from secagg.patterns.health.once import first_of, first_rows
from secagg.patterns.joint_tables import Columns, Flag, JointTable, Number, python_value
from secagg.patterns.pattern import Tables, Terms
from secagg.patterns.program import Findings, ProgramPattern
from secagg.query.schema import Boolean, Identifier, Integer, Schema
from secagg.statistics.hazards import MOST_ROWS, cox
from secagg.statistics.log_rank import upper_gamma
from secagg.statistics.survival import LARGEST_TIME

_FRAC_BITS: Final = 24  # of a covariate on shares, so that its six decimals are right to 2**-25


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which covariates, how ties are treated, and how few patients with the event are too few."""

    covariates: tuple[str, ...] = ("age", "treatment")
    ties: Literal["efron", "breslow"] = "efron"
    iterations: Annotated[int, Meta(ge=1, le=30)] = 8
    min_patients: Annotated[int, Meta(ge=1)] = 10
    once: bool = False


class CoxModel(ProgramPattern):
    """Cox's model; see the module."""

    name = "cox"
    summary = "what covariates do to the hazard of patients: Cox's proportional hazards model."
    inputs = {  # noqa: RUF012  # nobody changes it
        "patients": Schema(patient=Identifier(), time=Integer(0, LARGEST_TIME), event=Boolean()),
        "covariates": COVARIATES,
    }
    results = Schema(
        covariate=Identifier(),
        coefficient=STATISTIC_OR_NULL,
        standard_error=STATISTIC_OR_NULL,
        p_value=PROBABILITY_OR_NULL,
        last_step=STATISTIC,
    )
    Parameters = Model
    example = staticmethod(examples.cox)
    hides_below = "min_patients"
    tells = (
        "if enough patients have the event, for each covariate its coefficient and its standard error, and once the last "
        "step of Newton's method; the p-value follows from the first two"
    )

    refusals = (
        "Newton's method has not converged: it needs more iterations, or a covariate separates those with the event",
    )

    def check(self, parameters: Model, terms: Terms) -> None:
        """Raise `PlanError` for what cannot be computed with."""
        check_names("covariates", parameters.covariates, most=32)
        super().check(parameters, terms)

    def row_limit(self, terms: Terms) -> int:
        """Return the largest number of patients of one hospital."""
        return min(super().row_limit(terms), MOST_ROWS // len(terms.input_parties))

    def shared(self, parameters: Model) -> Mapping[str, Columns]:
        """Return what is shared: a row a patient."""
        values = {f"x{i}": Number(-LARGEST, LARGEST, _FRAC_BITS) for i in range(len(parameters.covariates))}
        who: Columns = {"patient": Identifier()} if parameters.once else {}
        return {"patients": {**who, "time": Integer(0, LARGEST_TIME), "event": Flag(), **values}}

    def local(self, parameters: Model, tables: Tables) -> Mapping[str, Mapping[str, Any]]:
        """Bring a patient's covariates into one row."""
        own = tables["patients"]
        x = wide(parameters.covariates, own["patient"], tables["covariates"])
        columns = {f"x{i}": x[:, i] for i in range(x.shape[1])}
        who = {"patient": own["patient"]} if parameters.once else {}
        return {"patients": {**who, "time": own["time"], "event": own["event"], **columns}}

    def program(self, parameters: Model, tables: Mapping[str, JointTable]) -> Findings:
        """Fit the model."""
        rows = tables["patients"]
        p = len(parameters.covariates)
        if rows.rows <= p + 1:
            raise PlanError(f"{rows.rows} patients are too few for {p} covariates; name fewer covariates")
        counted = first_rows(rows, "patient") if parameters.once else rows.valid
        x = stack([rows[f"x{i}"] for i in range(p)], axis=1)
        model = cox(
            x,
            rows["time"],
            rows["event"],
            ties=parameters.ties,
            iterations=parameters.iterations,
            valid=counted,
        )
        released = (rows["event"] & counted).astype(int64).sum() >= parameters.min_patients
        return Findings(
            {
                "coefficient": model.coef_ * released,
                "standard_error": model.std_errors_ * released,
                "last_step": (model.last_step_ * released).reshape(1),
                "released": released.reshape(1),
            },
            refused={self.refusals[0]: released & ~model.converged_},
        )

    def from_opened(self, parameters: Model, columns: Sequence[Any]) -> Sequence[Any]:
        """Add the p-values of Wald's test."""
        coefficients, errors, (last_step,), (released,) = columns
        rows = _named(parameters, coefficients, errors, float(last_step)) if released else []
        return [[row[i] for row in rows] for i in range(5)]

    def pooled(self, parameters: Model, tables: Mapping[PartyId, Tables]) -> list[tuple[Any, ...]]:
        """Fit the model to the pooled patients; the last step is 0."""
        own = [self.local(parameters, tables[name])["patients"] for name in tables]
        x = np.concatenate(
            [np.column_stack([t[f"x{i}"] for i in range(len(parameters.covariates))]) for t in own]
        )
        time, event = (np.concatenate([t[name] for t in own]) for name in ("time", "event"))
        if parameters.once:
            first = np.concatenate(first_of(tables, "patients"))
            x, time, event = x[first], time[first], event[first]
        if event.sum() < parameters.min_patients:
            return []
        x = np.rint(x * 2.0**_FRAC_BITS) / 2.0**_FRAC_BITS
        coefficients, errors = reference.cox(x, time, event.astype(bool), parameters.ties)
        kinds = tuple(self.results[name] for name in self.results)
        return [tuple(map(python_value, kinds, row)) for row in _named(parameters, coefficients, errors, 0.0)]


def _named(
    parameters: Model, coefficients: Any, errors: Any, last_step: float
) -> list[tuple[str, float | None, float | None, float | None, float]]:
    """Return a row a covariate; one with the error 0 has no coefficient."""
    rows: list[tuple[str, float | None, float | None, float | None, float]] = []
    for name, b, e in zip(parameters.covariates, map(float, coefficients), map(float, errors), strict=True):
        if e > 0:
            rows.append((name, b, e, upper_gamma(0.5, (b / e) ** 2 / 2), last_step))
        else:
            rows.append((name, None, None, None, last_step))
    return rows


COX: Final = CoxModel()
