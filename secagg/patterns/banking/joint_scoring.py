"""Joint scoring: one linear or logistic model over features that lie at different organisations.

Each organisation puts in what it knows of its customers: a customer, a feature's name and a value a row. The model's
weights are public and stand in the job. An organisation multiplies and adds up what it has by itself; over organisations
the parts are added on shares. A feature that nobody has counts as 0. With a logistic model the points are thousandths of
log-odds: a customer's probability is 1 / (1 + exp(-points / 1000)), and `min_points` is a threshold on it.

Learns: an organisation, for each of its own customers that at least `min_organisations` know, whether the points reach
`min_points` and, only if so, the points. Less its own part, that is what the others' features add up to, weighted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta

from secagg.errors import DataError, PlanError
from secagg.mpc import stack
from secagg.party import PartyId
from secagg.patterns.banking import examples
from secagg.patterns.counts import Categorical, factorize
from secagg.patterns.groups import Groups
from secagg.patterns.joint_tables import Columns, JointTable, Number
from secagg.patterns.pattern import Tables, Terms
from secagg.patterns.program import Findings, ProgramPattern
from secagg.printable import printable
from secagg.query.schema import Identifier, Integer, Schema

_MOST: Final = 10**9  # points of a customer at one organisation


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The points of one unit of each feature, those of everybody, and which customers are told."""

    weights: dict[str, int] = msgspec.field(default_factory=dict)
    intercept: Annotated[int, Meta(ge=-_MOST, le=_MOST)] = 0
    min_points: Annotated[int, Meta(ge=-_MOST, le=_MOST)] = 0
    min_organisations: Annotated[int, Meta(ge=1, le=255)] = 2


class _Fitted(msgspec.Struct, frozen=True):
    """A fitted linear model by scikit-learn's names; what else the file has is left aside."""

    feature_names_in_: list[str]
    coef_: list[float | list[float]]
    intercept_: float | list[float] = 0.0


def model_from_json(
    text: str | bytes, *, min_points: int = 0, min_organisations: int = 2, points: int = 1000
) -> Model:
    """Return the parameters of a fitted linear or binary logistic model.

    Args:
      text: a JSON object with `feature_names_in_`, `coef_` and `intercept_`, as scikit-learn's estimators and those of
        `secagg.learn` call them once their coefficients are opened.
      min_points, min_organisations: see `Model`.
      points: of one unit of the model's score. Each weight is rounded to whole points.

    Raises:
      PlanError: it is no such object, or one of several classes, of other numbers than features, or of too large ones.
    """
    try:
        fitted = msgspec.json.decode(text, type=_Fitted)
        coefficients = np.atleast_2d(np.asarray(fitted.coef_, np.float64))
    except (msgspec.DecodeError, ValueError) as error:
        raise PlanError(
            f"expected a JSON object with feature_names_in_, coef_ and intercept_ of a linear model: {printable(str(error))}"
        ) from None
    names = fitted.feature_names_in_
    intercepts = np.atleast_1d(fitted.intercept_)
    if coefficients.shape != (1, len(names)) or intercepts.shape != (1,) or len(set(names)) != len(names):
        raise PlanError(
            f"expected one coefficient for each of {len(names)} different features and one intercept, got coefficients of "
            f"shape {coefficients.shape} and {len(intercepts)} intercepts; a model of several classes is not scored"
        )
    weights = np.rint(np.append(coefficients[0], intercepts[0]) * points)
    if not (np.abs(weights) <= _MOST).all():
        raise PlanError(
            f"expected weights within {_MOST} points of zero, got larger ones; take fewer points a unit"
        )
    *each, intercept = map(int, weights)
    return Model(dict(zip(names, each, strict=True)), intercept, min_points, min_organisations)


class JointScoring(ProgramPattern):
    """A model over features of several organisations; see the module."""

    name = "joint_scoring"
    summary = "one linear or logistic model over features that lie at different organisations."
    inputs = {  # noqa: RUF012  # nobody changes it
        "features": Schema(
            customer=Identifier(), feature=Identifier(repeated=True), value=Integer(-1_000_000, 1_000_000)
        )
    }
    results = Schema(customer=Identifier(), points=Integer(-_MOST * 256, _MOST * 256))
    Parameters = Model
    example = staticmethod(examples.joint_scoring)
    about = "customers"
    tells = (
        "for each customer that it put in and enough organisations know: whether the points reach min_points and, only if "
        "so, the points"
    )
    refusals = ("an organisation put a customer in twice, which its program does not do",)
    summed = ("customers.part",)

    def check(self, parameters: Model, terms: Terms) -> None:
        """Raise `PlanError` for what cannot be computed or reached."""
        organisations = len(terms.input_parties)
        if not parameters.weights:
            raise PlanError(
                "expected weights of features in the job, such as weights = {defaults = 700}, got none"
            )
        if parameters.min_organisations > organisations:
            raise PlanError(
                f"min_organisations = {parameters.min_organisations} is out of reach, because {organisations} parties put "
                f"in data; lower it to {organisations} or less, or name more parties under input"
            )
        super().check(parameters, terms)

    def shared(self, parameters: Model) -> dict[str, Columns]:  # noqa: ARG002  # as every pattern's
        """Return customers with their points at an organisation."""
        return {"customers": {"customer": Identifier(), "part": Number(-_MOST, _MOST)}}

    def local(self, parameters: Model, tables: Tables) -> dict[str, Mapping[str, Any]]:
        """Return each customer once, with the points of the features that this organisation has."""
        features = tables["features"]
        names = factorize(features["feature"])
        unknown = [name for name in names.categories.tolist() if name not in parameters.weights]
        if unknown:
            raise DataError(
                f"the feature {printable(unknown[0])} has no weight in the job; leave it out, or agree on one with the "
                "other parties"
            )
        weights = np.array([parameters.weights[name] for name in names.categories.tolist()], np.int64)
        customers = factorize(features["customer"])
        points = np.zeros(len(customers.categories), np.int64)
        np.add.at(points, customers.codes, weights[names.codes] * features["value"] if len(names) else 0)
        each = Categorical(customers.categories, np.arange(len(points)))
        return {"customers": {"customer": each, "part": points}}

    def program(self, parameters: Model, tables: Mapping[str, JointTable]) -> Findings:
        """Add up each customer's points."""
        rows = tables["customers"]
        groups = Groups([rows["customer"]])
        known = groups.sum_each(stack([rows.valid.astype(int), rows["part"] * rows.valid], axis=1))
        points = known[:, 1] + parameters.intercept
        shown = (known[:, 0] >= parameters.min_organisations) & (points >= parameters.min_points)
        # So that rows of one customer are organisations, and none reaches the bound alone.
        refused = {self.refusals[0]: groups.is_repeated(rows.owner)}
        return Findings({"points": points}, shown, refused)

    def pooled(self, parameters: Model, tables: Mapping[PartyId, Tables]) -> dict[tuple[str], tuple[int]]:
        """Apply the model in the clear."""
        points: dict[str, int] = {}
        where: dict[str, set[PartyId]] = {}
        for name, own in tables.items():
            columns = own["features"]
            for who, feature, value in zip(
                columns["customer"], columns["feature"], columns["value"].tolist(), strict=True
            ):
                points[who] = points.get(who, parameters.intercept) + parameters.weights[feature] * value
                where.setdefault(who, set()).add(name)
        return {
            (who,): (found,)
            for who, found in points.items()
            if found >= parameters.min_points and len(where[who]) >= parameters.min_organisations
        }


JOINT_SCORING: Final = JointScoring()
