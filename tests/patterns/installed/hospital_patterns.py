# ruff: noqa: RUF012  # nobody changes what stands at the classes
"""Patterns that hospitals would install: one on groups, and one with two tables on an engine of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from secagg.cost import Cost
from secagg.party import Party
from secagg.patterns import (
    Agreed,
    Contribution,
    Disclosure,
    Example,
    Field,
    GroupByPattern,
    Identifier,
    Integer,
    Limit,
    Result,
    Risk,
    RoleSize,
    Rows,
    Schema,
    Tables,
    Terms,
    factorize,
    group_size,
)
from secagg.wire import Message


class Readmitted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which stays count, and how many of them flag a patient."""

    diagnosis: str = "I21"
    min_age: Annotated[int, Meta(ge=0)] = 60
    min_stays: Annotated[int, Meta(ge=1)] = 3
    max_stays_per_hospital: Annotated[int, Meta(ge=1)] = 50


class Readmissions(GroupByPattern):
    """Patients with a diagnosis who came to several hospitals, and together often enough."""

    name = "readmissions"
    summary = (
        "patients whom several hospitals treated for one diagnosis, none of them often enough to notice."
    )
    inputs = {"stays": Schema(patient=Identifier(), diagnosis=Identifier(repeated=True), age=Integer(0, 130))}
    results = Schema(patient=Identifier(), stays=Integer())
    Parameters = Readmitted

    def fields(self, parameters: Readmitted) -> tuple[Field, ...]:
        return (
            Field("stays", parameters.max_stays_per_hospital, at_least=parameters.min_stays),
            Field("hospitals", 1, at_least=2, opened=False),
        )

    def group_rows(self, parameters: Readmitted, tables: Tables) -> Rows:
        stays = tables["stays"]
        counts = (stays["diagnosis"].strings == parameters.diagnosis) & (stays["age"] >= parameters.min_age)
        groups = factorize(stays["patient"].strings[counts])
        own = group_size(groups)
        return Rows(groups.categories, np.stack([own, np.ones_like(own)], axis=1))

    def flagged(self, parameters: Readmitted, tables: Mapping[str, Tables]) -> dict[str, tuple[int, ...]]:
        where: dict[str, list[str]] = {}
        for hospital, own in tables.items():
            stays = own["stays"]
            for who, diagnosis, age in zip(stays["patient"], stays["diagnosis"], stays["age"], strict=True):
                if diagnosis == parameters.diagnosis and age >= parameters.min_age:
                    where.setdefault(who, []).append(hospital)
        return {
            who: (len(at),)
            for who, at in where.items()
            if len(at) >= parameters.min_stays and len(set(at)) >= 2
        }

    def example(self, seed: int) -> Example:
        rng = np.random.default_rng(seed)
        tables = {}
        for hospital in ("elm", "oak", "yew"):
            patients = [*(f"{hospital}-{i}" for i in rng.integers(0, 20, 15)), "ann", "ann"]
            columns: dict[str, Any] = {
                "patient": patients,
                "diagnosis": ["I21"] * len(patients),
                "age": [70] * len(patients),
            }
            tables[hospital] = {"stays": columns}
        return Example("ann came to three hospitals, twice each.", tables, {"min_stays": 6}, [("ann", 6)])


class Count(Message, frozen=True):
    """Input party -> results party, in the clear: beds and staff."""

    beds: int
    staff: int


class NoParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing can be chosen."""


class Numbers:
    """What one hospital puts in."""

    def __init__(self, tables: Tables) -> None:
        self.beds = int(tables["wards"]["beds"].sum())
        self.staff = len(tables["staff"]["person"])
        self.rows = len(tables["wards"]["beds"])

    def limits(self) -> list[Limit]:
        return []

    def check(self) -> None:
        pass


class Headcount:
    """Beds and staff of all hospitals, told to a health authority that puts in nothing."""

    name = "headcount"
    summary = "beds and staff of each hospital."
    inputs = {
        "wards": Schema(ward=Identifier(), beds=Integer(0, 1000)),
        "staff": Schema(person=Identifier(), ward=Identifier()),
    }
    results = Schema(hospital=Identifier(), beds=Integer(), staff=Integer())
    Parameters = NoParameters
    roles = {"input": RoleSize(2, 20), "result": RoleSize(1, 1)}
    phases = ("count",)

    def check(self, parameters: Any, terms: Terms) -> None:
        pass

    def row_limit(self, terms: Terms) -> int:
        return terms.max_rows

    def recipients(self, terms: Terms) -> tuple[str, ...]:
        return terms.roles["result"]

    def opens(self, parameters: Any, terms: Terms) -> list[Disclosure]:
        return [Disclosure("each hospital's number of beds and of staff", terms.roles["result"])]

    def trust(self, parameters: Any, terms: Terms) -> str:
        return "The health authority learns each hospital's numbers."

    def warnings(self, parameters: Any, terms: Terms) -> list[str]:
        return []

    def cost(self, parameters: Any, terms: Terms, rows: Mapping[str, int]) -> Cost:
        return Cost(1, dict.fromkeys(terms.parties, 0))

    def risks(self, parameters: Any, terms: Terms, rows: Mapping[str, int]) -> list[Risk]:
        return []

    def reference(self, parameters: Any, terms: Terms, tables: Mapping[str, Tables]) -> dict[str, Result]:
        rows = [
            (n, int(own["wards"]["beds"].sum()), len(own["staff"]["person"])) for n, own in tables.items()
        ]
        return dict.fromkeys(terms.roles["result"], rows)

    def prepare(self, parameters: Any, terms: Terms, tables: Tables) -> Numbers:
        return Numbers(tables)

    async def agree(
        self, party: Party, parameters: Any, terms: Terms, contribution: Contribution | None
    ) -> Agreed:
        return Agreed(rows={}, state=contribution)

    async def run(self, party: Party, parameters: Any, terms: Terms, agreed: Agreed) -> Result | None:
        (authority,) = terms.roles["result"]
        with party.phase("count"):
            if isinstance(agreed.state, Numbers):
                party.send(authority, Count(agreed.state.beds, agreed.state.staff))
            if party.me != authority:
                return None
            counts = await party.gather(Count, terms.input_parties)
        return [(name, counts[name].beds, counts[name].staff) for name in terms.input_parties]


READMISSIONS = Readmissions()
HEADCOUNT = Headcount()
