"""Patterns that are one query on groups: see `secagg.protocols.group_by` for program, threat model and cost.

Such a pattern says how a party's tables become rows, an identifier and some numbers each. It says which tests the sums over
a group of equal identifiers have to pass. Each input party is told about its own rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import msgspec
import numpy as np

from secagg.cost.operation import Cost
from secagg.errors import PlanError
from secagg.party import Party, PartyId
from secagg.patterns.pattern import (
    COMPUTING,
    INPUT,
    Agreed,
    Contribution,
    Disclosure,
    Limit,
    Result,
    Risk,
    RoleSize,
    Tables,
    Terms,
)
from secagg.protocols import group_by
from secagg.protocols.group_by import Field, Findings, Layout, Query, Rows
from secagg.query.schema import Money, Schema

_FOLLOW: Final = (
    "The computing parties are taken to follow the protocol; what other input parties put in is checked. Then no computing "
    "party learns more than this, even if it pools what it sees with any number of input parties. "
)
_ONE_MAY_LIE: Final = (
    "One of the four computing parties may lie; what input parties put in is checked. A lie ends the run before anything "
    "is opened that depends on it, and the error names two parties, one of which lied. In the last message of an opening "
    "it shows to whom it is told alone. No computing party learns more than this, even if it lies and pools what it sees "
    "with any number of input parties. "
)
_TWO_POOL: Final = (
    "Two computing parties that pool what they hold see every row's numbers under pseudonyms. With an input party's help "
    "they can test guesses of whose they are. "
)
_LIES: Final = (
    "A computing party that lies is not caught in time. If it also puts in rows, it can have another party's opened to "
    "itself, with all sums. It can also take its own results and keep back the others'. "
)
_ENDS: Final = "A computing party can take its own results and end the run before the others have theirs. "
_MADE_UP: Final = (
    "And an input party that puts in made-up rows learns the others' sum for each of their identifiers, if it is "
    "flagged."
)


@dataclass(frozen=True, slots=True)
class GroupRows:
    """An input party's rows, with the query that they are for."""

    query: Query
    own: Rows
    money: frozenset[str]

    @property
    def rows(self) -> int:
        """The number of different identifiers."""
        return len(self.own.identifiers)

    def limits(self) -> list[Limit]:
        """Return the largest number of each opened field beside the largest that is allowed."""
        return [
            Limit(field.name, int(np.max(values, initial=0)), field.max, field.name in self.money)
            for field, values in zip(self.query.fields, self.own.values.T, strict=True)
            if field.opened
        ]

    def check(self) -> None:
        """Raise as `Rows.check`."""
        self.own.check(self.query)


class GroupByPattern(ABC):
    """A pattern that is one query on groups; for its attributes see `Pattern`.

    The first column of the results is the identifier of a group. The others are the opened fields, in their order and
    under their names.
    """

    name: str
    summary: str
    inputs: Mapping[str, Schema]
    results: Schema
    Parameters: type[msgspec.Struct]
    roles: Mapping[str, RoleSize] = {INPUT: RoleSize(2, 255), COMPUTING: RoleSize(3, 4)}
    phases: tuple[str, ...] = group_by.PHASES
    keeps_checkpoints: ClassVar[bool] = True

    @abstractmethod
    def fields(self, parameters: Any) -> Sequence[Field]:
        """Return the numbers of each row, and the tests on their sums; `group_rows` has them in this order."""

    @abstractmethod
    def group_rows(self, parameters: Any, tables: Tables) -> Rows:
        """Return a party's rows: each identifier once, with its numbers in the order of `fields`."""

    @abstractmethod
    def flagged(self, parameters: Any, tables: Mapping[PartyId, Tables]) -> Mapping[str, tuple[int, ...]]:
        """Compute in the clear, from everybody's tables, the flagged identifiers with their opened sums."""

    def query(self, parameters: Any, terms: Terms) -> Query:
        """Return what is asked of the protocol; raises `PlanError` for what cannot be computed."""
        fields = tuple(self.fields(parameters))
        opened = [field.name for field in fields if field.opened]
        if opened != list(self.results)[1:]:
            raise PlanError(
                f"the pattern {self.name} opens {', '.join(opened)}, and its results are {', '.join(self.results)}"
            )
        return Query(terms.input_parties, terms.roles[COMPUTING], fields, terms.pad_rows_to, terms.max_rows)

    def check(self, parameters: Any, terms: Terms) -> None:
        """Raise `PlanError` where these cannot be computed with."""
        query = self.query(parameters, terms)
        Layout.plan(query, [0] * len(query.input_parties), shards=terms.shards)

    def row_limit(self, terms: Terms) -> int:
        """Return the largest row count that one input party may announce."""
        return group_by.row_limit(terms.max_rows, len(terms.input_parties))

    def recipients(self, terms: Terms) -> tuple[PartyId, ...]:
        """Return the input parties: each is told about its own rows."""
        return terms.input_parties

    def opens(self, parameters: Any, terms: Terms) -> list[Disclosure]:  # noqa: ARG002  # as every pattern's
        """Return everything that a run opens, and to whom; the protocol opens nothing else."""
        identifier, *sums = self.results
        step = terms.pad_rows_to
        rounded = f", rounded up to a multiple of {step}" if step > 1 else ""
        computing = terms.roles[COMPUTING]
        return [
            Disclosure(
                f"how many distinct {identifier} identifiers each input party has{rounded}", terms.parties
            ),
            Disclosure(
                "a salted commitment to each input party's rows, which shows nothing of them without the salt that their "
                "owner keeps",
                terms.parties,
            ),
            Disclosure(
                "whether the run must be repeated with a new hash key (the probability is in the run record)",
                terms.parties,
            ),
            Disclosure(
                "whether each input party's list is well-formed (sorted, within bounds, no longer than announced); with an "
                "unaltered program it always is",
                computing,
            ),
            Disclosure(
                "which rows of the shuffled table are whose: a random order of the announced numbers, padding included",
                computing,
            ),
            Disclosure(
                f"for each {identifier} that it put in: whether it is flagged and, only if so, its joint "
                f"{' and '.join(sums)}",
                terms.input_parties,
                each_its_own=True,
            ),
        ]

    def trust(self, parameters: Any, terms: Terms) -> str:  # noqa: ARG002
        """Return what is taken of the computing parties: three follow the protocol, of four one may lie."""
        if len(terms.roles[COMPUTING]) == 4:
            return _ONE_MAY_LIE + _TWO_POOL + _ENDS + _MADE_UP
        return _FOLLOW + _TWO_POOL + _LIES + _MADE_UP

    def warnings(self, parameters: Any, terms: Terms) -> list[str]:  # noqa: ARG002  # as every pattern's
        """Warn of two input parties, who read each other's figures out of a joint sum."""
        if len(terms.input_parties) > 2:
            return []
        first, second = terms.input_parties
        warning = (
            f"only {first} and {second} put in data: each subtracts its own figures from a joint sum and reads the "
            f"other's. Take three input parties or more, or agree that these two may know each other's figures."
        )
        return [warning]

    def _layout(self, parameters: Any, terms: Terms, rows: Mapping[PartyId, int]) -> Layout:
        query = self.query(parameters, terms)
        for name in query.input_parties:
            if rows[name] > query.row_limit:
                raise PlanError(
                    f"{name} with {rows[name]} rows is above max_rows, which is {query.row_limit}; set max_rows in the job"
                )
        return Layout.plan(query, [rows[name] for name in query.input_parties], shards=terms.shards)

    def cost(self, parameters: Any, terms: Terms, rows: Mapping[PartyId, int]) -> Cost:
        """Return what a run costs in which these row counts are announced."""
        return group_by.cost(self._layout(parameters, terms, rows), terms.parties)

    def risks(self, parameters: Any, terms: Terms, rows: Mapping[PartyId, int]) -> list[Risk]:
        """Return the chance that identifiers are confused, and the chance that a run has to be repeated."""
        layout = self._layout(parameters, terms, rows)
        return [
            Risk("log2_false_match", "two different identifiers are taken for one", layout.log2_false_match),
            Risk("log2_abort", "the run must be repeated with a new hash key", layout.log2_abort),
        ]

    def reference(
        self, parameters: Any, terms: Terms, tables: Mapping[PartyId, Tables]
    ) -> dict[PartyId, list[tuple[Any, ...]]]:
        """Return what each input party is told, computed in the clear from everybody's tables."""
        found = self.flagged(parameters, tables)
        own = {
            name: self.group_rows(parameters, tables[name]).identifiers.tolist()
            for name in terms.input_parties
        }
        return {
            name: group_by.in_order([(who, *found[who]) for who in mine if who in found])
            for name, mine in own.items()
        }

    def prepare(self, parameters: Any, terms: Terms, tables: Tables) -> GroupRows:
        """Return an input party's rows."""
        rows = self.group_rows(parameters, tables)
        return GroupRows(self.query(parameters, terms), rows, frozenset(self.results.of_type(Money)))

    async def agree(
        self, party: Party, parameters: Any, terms: Terms, contribution: Contribution | None
    ) -> Agreed:
        """Announce row counts and commitments, and compare them with everybody."""
        # In an order of their own: an auditor's table may have its rows in another.
        rows = contribution.own.by_identifier() if isinstance(contribution, GroupRows) else None
        announced = await group_by.announce(party, self.query(parameters, terms), rows)
        return Agreed(
            rows=dict(announced.counts),
            recorded={"commitments": {name: value.hex() for name, value in announced.commitments.items()}},
            private={"commitment_salt": announced.salt.hex()} if announced.salt else {},
            state=announced,
        )

    async def run(self, party: Party, parameters: Any, terms: Terms, agreed: Agreed) -> Result | None:
        """Find the groups; return this party's flagged rows, None if it put in none."""
        findings = await group_by.find_announced(party, self.query(parameters, terms), agreed.state)
        return self.told(agreed, findings)

    # In shards; see `jobs.shards.Divisible`.

    def groups(self, parameters: Any, terms: Terms) -> Query:
        """Return `query`."""
        return self.query(parameters, terms)

    def announced(self, agreed: Agreed) -> group_by.Announced:
        """Return what was announced."""
        known: group_by.Announced = agreed.state
        return known

    def told(self, agreed: Agreed, findings: Findings | None) -> Result | None:
        """Return this party's flagged rows from what it found, None if it put in none."""
        return None if findings is None else group_by.flagged_rows(agreed.state.rows, findings)
