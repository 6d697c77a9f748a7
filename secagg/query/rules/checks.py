"""Whether owners' rules allow a plan: each told value is traced back to the columns that it depends on, with how.

A rule allows one use of a column. Allowing comparison does not make the column public to later steps. The outermost
aggregates on each path from the root are *told*. Everything above them computes on told values.
What is below them works on rows, and every condition, key and order there asks for its use by itself. So a renamed
column, a subquery, a CTE or a union changes nothing.

What depends on the rows themselves (sizes of groups, dominance) is decided on shares; `suppression` has that.

Longer than most: the uses of one plan are traced in one walk over it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from secagg.errors import RuleError
from secagg.query.algebra import (
    AGGREGATIONS,
    Aggregate,
    Call,
    Case,
    Dependence,
    Distinct,
    Expression,
    Filter,
    Join,
    Limit,
    Lineage,
    Literal,
    Project,
    Ref,
    Relation,
    Scan,
    Sort,
    Source,
    Step,
    Window,
    children,
    relations,
    walk,
)
from secagg.query.declaration import ORG, Declaration
from secagg.query.rules.margins import base, resolved
from secagg.query.rules.rule_file import OwnerRules, Use
from secagg.query.rules.strictest import TableRules, strictest
from secagg.query.rules.summed import check_summed

Released: TypeAlias = Aggregate | Distinct

_USES: Final[Mapping[str, Use]] = {
    **dict.fromkeys(AGGREGATIONS, Use.AGGREGATE),
    "compare": Use.COMPARE, "group": Use.GROUP, "join": Use.JOIN,
    "rank": Use.RANK, "lag": Use.RANK, "lead": Use.RANK,
}  # fmt: skip
_COMPARISONS: Final = ("eq", "ne", "lt", "le", "gt", "ge", "in", "is_null", "like", "least", "greatest")
_COPIES: Final = ("min", "max", "lag", "lead")


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """That the rules of all its holders allow a column's use in what is told.

    Attributes:
      output: the column of the result; "" for which rows there are.
      how: what is done with the column, in words.
      owners: whose rules allow it.
    """

    output: str
    source: Source
    use: Use
    how: str
    owners: tuple[str, ...]

    def __str__(self) -> str:
        what = self.output or "which rows there are"
        return f"{what}: {self.source} ({self.how}), allowed as {self.use} by {' and '.join(self.owners)}"


def released(root: Relation) -> tuple[list[Relation], list[Released], list[Scan]]:
    """Return the relations above the aggregates that are told, these aggregates, and scans without one above."""
    above: list[Relation] = []
    aggregates: list[Released] = []
    scans: list[Scan] = []
    waiting = [root]
    while waiting:
        relation = waiting.pop()
        if isinstance(relation, Aggregate | Distinct):
            aggregates.append(relation)
        elif isinstance(relation, Scan):
            scans.append(relation)
        else:
            above.append(relation)
            waiting += relation.inputs
    return above, aggregates, scans


def check(
    root: Relation,
    rules: Mapping[str, OwnerRules],
    receivers: Sequence[str],
    declaration: Declaration,
) -> list[Grant]:
    """Return which rules allow what a plan tells.

    Args:
      rules: by owner.
      receivers: the parties to which the result is opened.

    Raises:
      RuleError: a rule does not allow it; the message names rule, column and owner.
    """
    tables = sorted({one.table for one in relations(root) if isinstance(one, Scan)})
    holders = {table: declaration[table].holders for table in tables}
    found = strictest(rules, holders, tables)
    trace = _Trace(found)
    above, aggregates, scans = released(root)
    for relation in above:
        trace.conditions(relation, below=False)
    steps: frozenset[Call] = frozenset()
    for aggregate in aggregates:
        trace.released(aggregate)
        for relation in relations(aggregate.inputs[0]):
            trace.conditions(relation, below=True)
        _check_arithmetic(aggregate, found)
        steps |= check_summed(aggregate, found)
    for scan in scans:
        _check_rows(scan, found[scan.table])
    for column in root.columns:
        bare = {scan.table for scan in scans}
        for one in column.lineage:
            trace.lineage(column.name, [one], "told")
            if one.source.table in bare and not set(one.steps) & set(AGGREGATIONS):
                trace.use(column.name, one.source, Use.OPEN, "told row by row")
    _check_comparisons(root, steps, found)
    _check_cells(root, aggregates, found)
    _check_organisations(aggregates, found, receivers, holders)
    return sorted(set(trace.grants))


class _Trace:
    """Collects grants; the first use that is not allowed ends it."""

    def __init__(self, rules: Mapping[str, TableRules]) -> None:
        self.rules = rules
        self.grants: list[Grant] = []

    def use(self, output: str, source: Source, use: Use, how: str) -> None:
        if source.column == ORG:
            return
        column = self.rules[source.table].column(source.column)
        if (owner := column.refuser(use)) is not None:
            raise RuleError(
                f"{owner}'s rules do not allow {source} to be used as {use} ({column.said(owner)}); the query has it "
                f"{how}{f', in {output}' if output else ''}"
            )
        self.grants.append(Grant(output, source, use, how, tuple(column.by_owner)))

    def lineage(self, output: str, lineage: Iterable[Dependence], how: str, *uses: Use) -> None:
        """Ask for uses of all sources, and for those of the steps on the way."""
        for one in sorted(lineage):
            for use in (*uses, *_uses(one.steps)):
                self.use(output, one.source, use, " > ".join((*one.steps, how)))

    def conditions(self, relation: Relation, *, below: bool) -> None:
        """Ask for what decides on rows: conditions, keys and orders."""
        match relation:
            case Filter(condition=condition):
                self.lineage("", condition.lineage, "a condition", Use.COMPARE)
            case Join(on=on, left=left, right=right):
                for pair in on:
                    for side, name in zip((left, right), pair, strict=True):
                        self._join_key(side, name)
            case Sort(keys=keys):
                for key in keys:
                    self.lineage("", relation[key.name].lineage, "an order", *[Use.RANK] * below)
            case Window(partition_by=partition, order_by=order):
                for name in partition:
                    self.lineage("", relation.input[name].lineage, "a partition", Use.GROUP)
                for key in order:
                    self.lineage("", relation.input[key.name].lineage, "an order", *[Use.RANK] * below)
            case Aggregate(keys=keys):
                for name in keys:
                    self.lineage("", relation.input[name].lineage, "a key of groups", Use.GROUP)
            case Distinct():
                for column in relation.columns:
                    self.lineage("", column.lineage, "distinct", Use.GROUP)

    def _join_key(self, side: Relation, name: str) -> None:
        lineage = side[name].lineage
        if not lineage or any(one.steps for one in lineage):
            raise RuleError(
                f"expected columns of tables as keys of a join, got {name}, which is "
                f"{'computed from ' + _named(lineage) if lineage else 'a constant'}; rules allow joins of columns"
            )
        self.lineage("", lineage, "a key of a join", Use.JOIN)

    def released(self, aggregate: Released) -> None:
        """Ask for what an aggregate tells: its keys, and values over groups."""
        below = aggregate.inputs[0]
        keys = aggregate.keys if isinstance(aggregate, Aggregate) else below.names
        for name in keys:
            self.lineage(name, below[name].lineage, "a key of told groups", Use.GROUP)
            for of in below[name].lineage:
                if set(of.steps) & set(_COPIES):
                    self.use(name, of.source, Use.OPEN, "a copy told as a key of groups")
        for one in aggregate.aggregations if isinstance(aggregate, Aggregate) else ():
            for of in sorted(below[one.column].lineage) if one.column is not None else ():
                copied = one.function in _COPIES and "compare" not in of.steps
                how = f"{one.function} over a group"
                if "compare" not in of.steps or set(of.steps) & set(AGGREGATIONS):
                    self.use(one.name, of.source, Use.OPEN if copied else Use.AGGREGATE, how)
                self.lineage(one.name, [of], how)


def _uses(steps: Sequence[Step]) -> Iterator[Use]:
    """Yield the uses that steps are; an order of what was aggregated tells nothing that it does not tell itself."""
    aggregated = False
    for step in steps:
        aggregated = aggregated or step in AGGREGATIONS
        if step in _USES and not (step == "rank" and aggregated):
            yield _USES[step]


def _named(lineage: Lineage) -> str:
    return ", ".join(sorted({str(one.source) for one in lineage}))


def _check_rows(scan: Scan, rules: TableRules) -> None:
    """Refuse rows that are told one by one where any owner asks for groups."""
    group, organisations = rules.smallest_group, rules.smallest_organisations
    what = f"the query tells rows of {scan.table} one by one; sum, count or group them"
    if group.value > 1:
        raise RuleError(f"{group.owner}'s rule smallest_group = {group.value} of {scan.table}: {what}")
    for persons in rules.persons:
        if persons.smallest > 1:
            raise RuleError(
                f"{persons.owner}'s rule smallest_persons = {persons.smallest} of {scan.table}: {what}"
            )
    if organisations is not None and organisations.value > 1:
        raise RuleError(
            f"{organisations.owner}'s rule smallest_organisations = {organisations.value} of {scan.table}: {what}"
        )


def _check_comparisons(root: Relation, steps: Iterable[Call], rules: Mapping[str, TableRules]) -> None:
    counted: dict[Source, int] = {}
    rows: dict[str, int] = {}
    for scan in {one for one in relations(root) if isinstance(one, Scan)}:
        rows[scan.table] = max(1, scan.max_rows)
    for comparison, constants in itertools.chain(_comparisons(root), ((one, 1) for one in steps)):
        sources = {one.source for one in comparison.lineage}
        for source in sources:
            # Each row of another table may bring a constant of its own.
            others = {one.table for one in sources} - {source.table}
            counted[source] = counted.get(source, 0) + constants * math.prod(rows[one] for one in others)
    for relation in {one for one in relations(root) if isinstance(one, Limit)}:
        for source in {one.source for one in relation.rows_from if "rank" in one.steps}:
            counted[source] = counted.get(source, 0) + 1
    for source, count in sorted(counted.items()):
        if source.column == ORG:
            continue
        bound = rules[source.table].column(source.column).comparisons
        if count > bound.value:
            raise RuleError(
                f"{bound.owner}'s rule comparisons = {bound.value} of {source}: the query compares it "
                f"{count} times, in conditions, CASE, steps, LEAST, GREATEST and LIMIT together, with constants, columns "
                f"and rows of other tables"
            )


def _comparisons(root: Relation) -> Iterator[tuple[Call, int]]:
    """Yield each different comparison, and with how many values; another column is one, as it may hold a constant."""
    found = {
        (base(below), resolved(below, one)): one
        for below, expression in _expressions(relations(root))
        for one in walk(expression)
        if isinstance(one, Call) and one.op in _COMPARISONS and one.lineage
    }
    for one in found.values():
        constants = len(one.args) - 1 if one.op == "in" else sum(not arg.lineage for arg in one.args)
        yield one, max(1, constants)


def _expressions(several: Iterable[Relation]) -> Iterator[tuple[Relation, Expression]]:
    """Yield expressions, each with the relation whose columns it names."""
    for relation in several:
        if isinstance(relation, Filter):
            yield relation.input, relation.condition
        elif isinstance(relation, Project):
            yield from ((relation.input, one) for _, one in relation.expressions)


def _check_cells(root: Relation, aggregates: Sequence[Released], rules: Mapping[str, TableRules]) -> None:
    for table, found in rules.items():
        numbers = sum(
            max(1, len(one.aggregations) if isinstance(one, Aggregate) else 1)
            for one in aggregates
            if any(isinstance(below, Scan) and below.table == table for below in relations(one))
        )
        bound = found.opened_cells
        if (cells := max(1, numbers) * root.max_rows) > bound.value:
            raise RuleError(
                f"{bound.owner}'s rule opened_cells = {bound.value} of {table}: the query may open {cells} numbers, "
                f"{max(1, numbers)} in each of up to {root.max_rows} rows; take fewer or coarser groups, or LIMIT"
            )


def _check_organisations(
    aggregates: Sequence[Released],
    rules: Mapping[str, TableRules],
    receivers: Sequence[str],
    holders: Mapping[str, Sequence[str]],
) -> None:
    for table, found in rules.items():
        bound = found.smallest_organisations
        if bound is None or bound.value == 1:
            continue
        for without in views(found, receivers):
            if (others := len(set(holders[table]) - without)) < bound.value:
                besides = f" besides {' and '.join(sorted(without))}" if without else ""
                raise RuleError(
                    f"{bound.owner}'s rule smallest_organisations = {bound.value} of {table}: rows lie at {others} "
                    f"organisations{besides}, so nothing would be told; open the result to fewer or other parties"
                )
        for aggregate in aggregates:
            below = aggregate.inputs[0]
            keys = aggregate.keys if isinstance(aggregate, Aggregate) else below.names
            if any(one.source == Source(table, ORG) for name in keys for one in below[name].lineage):
                raise RuleError(
                    f"{bound.owner}'s rule smallest_organisations = {bound.value} of {table}: "
                    f"groups by {ORG} lie at one organisation each"
                )


def views(rules: TableRules, receivers: Sequence[str]) -> tuple[frozenset[str], ...]:
    """Return the sets of receivers whose own rows tell them nothing, as bounds on groups have to hold without these.

    For an owner, the other receivers may pool what they have; each stands alone where its rule says that they do not.
    """
    sets: set[frozenset[str]] = set()
    for owner, rule in rules.by_owner.items():
        others = frozenset(receivers) & rules.by_owner.keys() - {owner}
        sets |= {others} if rule.receivers_pool else {frozenset({one}) for one in others} or {frozenset()}
    # A larger set does not stand for a smaller one: a cell may be empty outside the larger and have one row in between.
    return tuple(sorted(sets, key=sorted))


# --- arithmetic that could write several numbers into one


def _check_arithmetic(aggregate: Released, rules: Mapping[str, TableRules]) -> None:
    """Refuse products, quotients, powers and weighted sums of columns in a told aggregate, unless rules allow them."""
    scaled: dict[int, frozenset[str]] = {}
    weighted: dict[
        int, frozenset[str]
    ] = {}  # by CASE with several constants, which is fine as a key of groups
    for relation in _inner_first(aggregate):
        below = frozenset(itertools.chain.from_iterable(scaled[id(one)] for one in relation.inputs))
        cases = frozenset(itertools.chain.from_iterable(weighted[id(one)] for one in relation.inputs))
        scaled[id(relation)], weighted[id(relation)] = below, cases
        if isinstance(relation, Project):
            for _, expression in relation.expressions:
                for one in walk(expression):
                    if (why := _encodes(one, below)) is not None:
                        _refuse_arithmetic(one.lineage, why, rules)
            named = dict(relation.expressions)
            scaled[id(relation)] = frozenset(n for n, one in named.items() if _is_scaled(one, below))
            weighted[id(relation)] = frozenset(n for n, one in named.items() if _has_weights(one, cases))
        elif isinstance(relation, Aggregate):
            for summed in relation.aggregations:
                if summed.column in cases and summed.function in ("sum", "mean"):
                    lineage = relation.input[summed.column].lineage
                    _refuse_arithmetic(lineage, "CASE with several weights", rules)
                if summed.column in below:
                    _refuse_scaled(relation.input[summed.column].lineage, rules)
            kept = frozenset(relation.keys)
            sums = frozenset(of.name for of in relation.aggregations if of.column in below)
            scaled[id(relation)], weighted[id(relation)] = (below & kept) | sums, cases & kept


def _has_weights(expression: Expression, below: frozenset[str]) -> bool:
    for one in walk(expression):
        if isinstance(one, Ref) and one.name in below:
            return True
        if isinstance(one, Case) and one.domain.kind in ("number", "real"):
            values = [value for _, value in one.branches] + [one.otherwise]
            if len({value.value for value in values if isinstance(value, Literal)} - {None, 0}) > 1:
                return True
    return False


def _inner_first(root: Relation) -> Iterator[Relation]:
    for below in root.inputs:
        yield from _inner_first(below)
    yield root


def _is_scaled(expression: Expression, below: frozenset[str]) -> bool:
    match expression:
        case Ref(name=name):
            return name in below
        case Literal(value=value):
            return value not in (None, 0, 1, -1)
        case Case(branches=branches, otherwise=otherwise):
            return any(_is_scaled(one, below) for one in (*(value for _, value in branches), otherwise))
        case Call(op="rescale" | "to_real" | "recode", args=args):
            return _is_scaled(args[0], below) and not isinstance(args[0], Literal)
        case Call(op="mul"):
            return True
    return any(_is_scaled(one, below) and one.lineage for one in children(expression))


def _encodes(one: Expression, below: frozenset[str]) -> str | None:
    if not isinstance(one, Call):
        return None
    told = [arg for arg in one.args if arg.lineage]
    if one.op in ("div", "intdiv", "mod", "least", "greatest", "abs") and told:
        return {"div": "a quotient", "intdiv": "a quotient", "mod": "a remainder"}.get(one.op, one.op.upper())
    if one.op == "mul" and len(told) > 1:
        return "a product"
    if one.op in ("add", "sub") and len(told) > 1:
        first, second = ({of.source for of in arg.lineage} for arg in told)
        if first & second or any(_is_scaled(arg, below) for arg in told):
            return "a weighted sum"
    return None


def _refuse_scaled(lineage: Lineage, rules: Mapping[str, TableRules]) -> None:
    """Refuse multiples of a column that is told rounded: the multiple would be rounded more finely."""
    for source in sorted({one.source for one in lineage if "compare" not in one.steps}):
        if source.column != ORG and (bound := rules[source.table].column(source.column).rounding) is not None:
            raise RuleError(
                f"{bound.owner}'s rule rounding = {bound.value} of {source}: the query aggregates a multiple of it, which "
                f"would be rounded more finely; multiply the result"
            )


def _refuse_arithmetic(lineage: Lineage, why: str, rules: Mapping[str, TableRules]) -> None:
    for source in sorted({one.source for one in lineage}):
        if source.column == ORG:
            continue
        owner = rules[source.table].column(source.column).arithmetic_refuser
        if owner is not None:
            raise RuleError(
                f"{owner}'s rule arithmetic = false of {source}: the query has {why} of {_named(lineage)} inside an "
                f"aggregate, which can write several numbers into one"
            )
