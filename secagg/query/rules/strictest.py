"""Several owners' rules for one table, taken together: the strictest bound holds, and it knows whose it is.

A use is allowed when every holder of the table allows it. Bounds that can be compared give one, the strictest. Dominance
rules and persons' columns that differ hold side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Generic, TypeVar

from secagg.errors import RuleError
from secagg.query.algebra import Source
from secagg.query.rules.rule_file import ColumnRule, Dominance, OwnerRules, TableRule, Use

V = TypeVar("V", int, Decimal, bool)


@dataclass(frozen=True, slots=True)
class Bound(Generic[V]):
    """A bound, and the first owner who asks for it."""

    value: V
    owner: str


@dataclass(frozen=True, slots=True)
class Persons:
    """At least `smallest` different values of a column stand behind whatever is told."""

    column: str
    smallest: int
    owner: str


@dataclass(frozen=True, slots=True)
class Part:
    """Dominance: the `largest` largest contributors make up at most `percent` of a sum.

    Attributes:
      contributor: the column that tells contributors apart; None where each row is one.
    """

    largest: int
    percent: int
    contributor: str | None
    owner: str


@dataclass(frozen=True)
class ColumnRules:
    """What all holders say of one column."""

    source: Source
    by_owner: Mapping[str, ColumnRule | None]

    def refuser(self, use: Use) -> str | None:
        """Return the first owner who does not allow the use, if one does not."""
        for owner, rule in self.by_owner.items():
            if rule is None or use not in rule.uses:
                return owner
        return None

    def said(self, owner: str) -> str:
        """Return what an owner's rule allows, for messages."""
        rule = self.by_owner[owner]
        return "no rule, so never" if rule is None else f"uses = {', '.join(rule.uses)}"

    @property
    def rounding(self) -> Bound[Decimal] | None:
        """The coarsest rounding."""
        return _largest((o, r.rounding) for o, r in self._rules)

    @property
    def bottom(self) -> Bound[Decimal] | None:
        """The highest bottom code."""
        return _largest((o, r.bottom) for o, r in self._rules)

    @property
    def top(self) -> Bound[Decimal] | None:
        """The lowest top code."""
        return _smallest((o, r.top) for o, r in self._rules)

    @property
    def comparisons(self) -> Bound[int]:
        """The fewest comparisons with constants."""
        return _smallest((o, r.comparisons) for o, r in self._rules) or Bound(0, next(iter(self.by_owner)))

    @property
    def arithmetic_refuser(self) -> str | None:
        """The first owner who does not allow arithmetic inside aggregates."""
        return next((o for o, r in self.by_owner.items() if r is None or not r.arithmetic), None)

    @property
    def _rules(self) -> list[tuple[str, ColumnRule]]:
        return [(owner, rule) for owner, rule in self.by_owner.items() if rule is not None]


@dataclass(frozen=True)
class TableRules:
    """What all holders say of one table."""

    table: str
    by_owner: Mapping[str, TableRule]

    def column(self, name: str) -> ColumnRules:
        """Return the rules of a column; of one that no rule names, all are None."""
        return ColumnRules(
            Source(self.table, name), {o: r.columns.get(name) for o, r in self.by_owner.items()}
        )

    @property
    def smallest_group(self) -> Bound[int]:
        """The largest of the smallest groups."""
        return _largest((o, r.smallest_group) for o, r in self.by_owner.items())  # type: ignore[return-value]

    @property
    def persons(self) -> tuple[Persons, ...]:
        """For each column that tells persons apart, the largest bound."""
        found: dict[str, Persons] = {}
        for owner, rule in self.by_owner.items():
            if rule.persons is None:
                continue
            smallest = rule.smallest_group if rule.smallest_persons is None else rule.smallest_persons
            if rule.persons not in found or found[rule.persons].smallest < smallest:
                found[rule.persons] = Persons(rule.persons, smallest, owner)
        return tuple(found.values())

    @property
    def smallest_organisations(self) -> Bound[int] | None:
        """The largest number of organisations that an owner names; None where none does."""
        return _largest((o, r.smallest_organisations) for o, r in self.by_owner.items())

    @property
    def dominance(self) -> tuple[Part, ...]:
        """Each owner's rule, equal ones once."""
        found: dict[tuple[Dominance, str | None], Part] = {}
        for owner, rule in self.by_owner.items():
            if (part := rule.dominance) is not None:
                found.setdefault((part, rule.persons), Part(part.largest, part.percent, rule.persons, owner))
        return tuple(found.values())

    @property
    def round_counts(self) -> Bound[int] | None:
        """The coarsest rounding of counts."""
        return _largest((o, r.round_counts) for o, r in self.by_owner.items())

    @property
    def opened_cells(self) -> Bound[int]:
        """The fewest numbers that may be opened."""
        return _smallest((o, r.opened_cells) for o, r in self.by_owner.items())  # type: ignore[return-value]


def strictest(
    rules: Mapping[str, OwnerRules], holders: Mapping[str, Sequence[str]], tables: Iterable[str]
) -> dict[str, TableRules]:
    """Return the rules of tables, each over all its holders.

    Args:
      rules: by owner.
      holders: by table, who holds rows of it.

    Raises:
      RuleError: a holder has no rules, none for the table, or rules that another name signs.
    """
    found = {}
    for table in tables:
        by_owner = {}
        for owner in holders[table]:
            if owner not in rules:
                raise RuleError(
                    f"{owner} holds rows of {table}, and has no rules: nothing of {table} is used"
                )
            if rules[owner].owner != owner:
                raise RuleError(f"expected the rules of {owner}, got those of {rules[owner].owner}")
            if table not in rules[owner].tables:
                raise RuleError(
                    f"{owner} holds rows of {table}, and its rules have none for it: nothing of {table} is used; "
                    f"{owner} can add [tables.{table}] to its rule file"
                )
            by_owner[owner] = rules[owner].tables[table]
        found[table] = TableRules(table, by_owner)
    return found


def _largest(values: Iterable[tuple[str, V | None]]) -> Bound[V] | None:
    found: Bound[V] | None = None
    for owner, value in values:
        if value is not None and (found is None or value > found.value):
            found = Bound(value, owner)
    return found


def _smallest(values: Iterable[tuple[str, V | None]]) -> Bound[V] | None:
    found: Bound[V] | None = None
    for owner, value in values:
        if value is not None and (found is None or value < found.value):
            found = Bound(value, owner)
    return found
