"""Reach and overlap: how many persons several organisations reach together, and how many by how many of them, with noise.

Each organisation puts in whom it reaches; a person stands at it once. Persons are counted by the number of organisations
that reach them. To each count, every organisation adds its own share of Skellam noise (`secagg.dp`), on shares, so that
nobody knows the whole of it. Reach and overlap are sums of the noisy counts.

Privacy: (epsilon, delta)-differential privacy of one person with all rows, against the recipients and up to `colluders`
organisations that tell their noise. Whatever rows of a person are there, they change at most two counts by one each.
Outside of it stands what is announced: how many persons each organisation puts in, rounded up to `pad_rows_to`.

Learns: the parties of the role `result`, or else all input parties, the noisy counts. Who adds noise knows its own share.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta

from secagg.errors import PlanError
from secagg.mpc import concat
from secagg.party import PartyId
from secagg.patterns.counts import factorize
from secagg.patterns.example import Example
from secagg.patterns.groups import Groups
from secagg.patterns.joint_tables import Columns, JointTable, Number, python_value
from secagg.patterns.pattern import COMPUTING, INPUT, Disclosure, RoleSize, Spending, Tables, Terms
from secagg.patterns.program import RESULT, Findings, ProgramPattern
from secagg.query.schema import Identifier, Integer, Real, Schema

if TYPE_CHECKING:
    from secagg.dp import Noise

_MOST: Final = 10**9
_DEVIATION: Final = Real(Decimal(0), Decimal(_MOST), 3)
_LOG_OUTSIDE: Final = -40 * math.log(2)  # probability that a share of noise is too large to be put in


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be spent, by how many organisations noise is counted on, and their number."""

    epsilon: Annotated[float, Meta(gt=0, le=100)] = 1.0
    delta: Annotated[float, Meta(gt=0, lt=1)] = 1e-6
    organisations: Annotated[int, Meta(ge=2, le=255)] = 3
    colluders: Annotated[int, Meta(ge=0, le=254)] = 1


class ReachAndOverlap(ProgramPattern):
    """Counts of persons with noise; see the module."""

    name = "reach_and_overlap"
    summary = "how many persons several organisations reach together, and how many several of them reach; with noise."
    inputs = {"audience": Schema(person=Identifier())}  # noqa: RUF012  # nobody changes it
    results = Schema(what=Identifier(), persons=Integer(-_MOST, _MOST), standard_deviation=_DEVIATION)
    Parameters = Budget
    roles: Mapping[str, RoleSize] = {
        INPUT: RoleSize(2, 255),
        COMPUTING: RoleSize(3, 4),
        RESULT: RoleSize(0, 255),
    }
    tells = "with noise, how many persons 1, 2 and more organisations reach; reach and overlap follow"
    refusals = ("an organisation put a person in twice, which its program does not do",)

    def example(self, seed: int) -> Example:
        """Return audiences of which two overlap; the noise is small enough to compare."""
        rng = np.random.default_rng(seed)
        names = ("paper", "radio", "shop")
        only = {name: [f"{name}-{i}" for i in range(40)] for name in names}
        both = {"paper": 30, "radio": 30, "shop": 0}
        tables = {
            name: {
                "audience": {
                    "person": [
                        *rng.permutation(only[name]).tolist(),
                        *(f"both-{i}" for i in range(both[name])),
                        *(f"all-{i}" for i in range(25)),
                    ]
                }
            }
            for name in names
        }
        return Example(
            "Each organisation reaches 40 persons alone. paper and radio have 30 more in common, and all three 25. So 175 "
            "persons are reached, 55 of them by two or three. The noise has a standard deviation of about one.",
            tables,
            {"epsilon": 20.0, "delta": 1e-6, "organisations": 3},
            tolerance=0.6,
        )

    # Noise.

    def check(self, parameters: Budget, terms: Terms) -> None:
        """Raise `PlanError` for another number of organisations, or noise that cannot be had."""
        if parameters.organisations != len(terms.input_parties):
            raise PlanError(
                f"organisations = {parameters.organisations}, and {len(terms.input_parties)} parties put in data; set it to "
                "their number"
            )
        if parameters.colluders >= parameters.organisations:
            raise PlanError(
                f"colluders = {parameters.colluders} of {parameters.organisations} organisations leave nobody whose noise "
                "counts; lower it"
            )
        try:
            _noise(parameters)
        except ImportError as error:
            raise PlanError(str(error)) from None
        super().check(parameters, terms)

    def spends(self, parameters: Budget, terms: Terms) -> Sequence[Spending]:  # noqa: ARG002
        """Return epsilon and delta of a run."""
        return [Spending(("audience",), parameters.epsilon, parameters.delta, "person")]

    def opens(self, parameters: Budget, terms: Terms) -> list[Disclosure]:
        """Return what is opened, and with which noise."""
        *others, last = super().opens(parameters, terms)
        noise = _noise(parameters)
        what = (
            f"{last.what}. Noise of a standard deviation of {math.sqrt(noise.max_variance):.3g} on each count: epsilon "
            f"{parameters.epsilon:g}, delta {parameters.delta:g} for one person with all rows, if at most "
            f"{parameters.colluders} of the organisations tell their noise"
        )
        return [*others, Disclosure(what, last.to)]

    def warnings(self, parameters: Budget, terms: Terms) -> list[str]:
        """Warn of what stands outside of epsilon, and of an epsilon that protects hardly anybody."""
        found = []
        if terms.pad_rows_to < 100:
            found.append(
                f"pad_rows_to = {terms.pad_rows_to}: how many persons each organisation reaches is announced, rounded up to "
                "that and without noise. Take 100 or more."
            )
        if parameters.epsilon > 5:
            found.append(
                f"epsilon = {parameters.epsilon:g}: noise this small hides hardly anybody. Take 1 or less; each run adds up."
            )
        return found

    # The computation.

    def shared(self, parameters: Budget) -> Mapping[str, Columns]:
        """Return persons, and a share of noise for each count."""
        bound = _noise(parameters).tail_bound(_LOG_OUTSIDE)
        return {"audience": {"person": Identifier()}, "noise": {"share": Number(-bound, bound)}}

    def sizes(self, parameters: Budget) -> Mapping[str, int]:
        """Return the number of counts."""
        return {"noise": parameters.organisations}

    def local(self, parameters: Budget, tables: Tables) -> Mapping[str, Mapping[str, Any]]:
        """Take each person once, and draw noise from the operating system's randomness."""
        return {
            "audience": {"person": factorize(tables["audience"]["person"]).categories},
            "noise": {"share": _noise(parameters).sampler().draw(parameters.organisations)},
        }

    def program(self, parameters: Budget, tables: Mapping[str, JointTable]) -> Findings:
        """Count organisations of each person, and persons of each number of organisations; add the noise."""
        rows = tables["audience"]
        groups = Groups([rows["person"]])
        known = groups.sums(groups.sorted(rows.valid))
        counts = concat([(known == k).sum().reshape(1) for k in range(1, parameters.organisations + 1)])
        noise = tables["noise"]["share"].reshape((len(rows.owners), parameters.organisations)).sum(axis=0)
        refused = {self.refusals[0]: groups.is_repeated(rows.owner)}
        return Findings({"counts": counts + noise}, refused=refused)

    def from_opened(self, parameters: Budget, columns: Sequence[Any]) -> Sequence[Any]:
        """Add up reach and overlap."""
        rows = _named(columns[0], math.sqrt(_noise(parameters).max_variance))
        return [[row[i] for row in rows] for i in range(3)]

    def pooled(self, parameters: Budget, tables: Mapping[PartyId, Tables]) -> list[tuple[Any, ...]]:
        """Count in the clear, without noise."""
        at: dict[str, int] = {}
        for own in tables.values():
            for person in set(own["audience"]["person"]):
                at[person] = at.get(person, 0) + 1
        counts = np.bincount(list(at.values()), minlength=parameters.organisations + 1)[1:]
        deviation = math.sqrt(_noise(parameters).max_variance)
        return [(what, int(n), python_value(_DEVIATION, d)) for what, n, d in _named(counts, deviation)]


@functools.lru_cache(maxsize=16)
def _noise(parameters: Budget) -> Noise:
    """Return one organisation's noise."""
    from secagg import dp  # an extra: listing the patterns must not need it

    cohort = dp.Cohort(parameters.organisations, parameters.organisations, parameters.colluders)
    # A person with all rows moves from one count to another, or comes or goes: two counts change by one at most.
    moved = dp.Sensitivity(l1=2.0, l2=math.sqrt(2), length=parameters.organisations)
    return dp.calibrate(dp.Budget(parameters.epsilon, parameters.delta), cohort, moved)


def _named(counts: Any, deviation: float) -> list[tuple[str, int, float]]:
    each = [int(n) for n in counts]
    rows = [("reach", sum(each), deviation * math.sqrt(len(each)))]
    rows.append(("overlap", sum(each[1:]), deviation * math.sqrt(len(each) - 1)))
    rows += [(f"at {k} organisation{'s' if k > 1 else ''}", n, deviation) for k, n in enumerate(each, 1)]
    return rows


REACH_AND_OVERLAP: Final = ReachAndOverlap()
