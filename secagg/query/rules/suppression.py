"""Small groups come out suppressed: a plan rewritten so that it decides on shares what is told.

`protect` gives every told aggregate hidden columns: rows, persons and organisations behind each group, and the parts of its
largest contributors. A filter keeps the groups that meet every bound. It runs on shares, before anything is opened. The
plan's cost includes it. A suppressed row cannot be told from padding.

Whose rows a block has is public (`held`), so that no owner counts for another.

Bounds are on rows that receivers did not put in themselves (`checks.views`). A bound holds for the whole group. It also
holds for each *cell* of it, the rows that take the same branch of every CASE, condition and NULL that the aggregates
depend on: sums over overlapping conditions differ by a sum over cells. A cell without rows tells nothing of anybody.

Longer than most: bounds, cells and dominance rewrite one plan together.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Final

from secagg.errors import RuleError
from secagg.query import inference
from secagg.query.algebra import (
    Aggregate,
    Aggregation,
    Call,
    Column,
    Distinct,
    Expression,
    Filter,
    Join,
    Limit,
    Project,
    Relation,
    Scan,
    Sort,
    SortKey,
    Union,
    Window,
    WindowFunction,
    relations,
)
from secagg.query.declaration import ORG, Declaration
from secagg.query.rules import coding, margins
from secagg.query.rules.checks import Released, released, views
from secagg.query.rules.provenance import (
    Behind,
    Carried,
    Carrier,
    Mark,
    add,
    count_of,
    lies_at,
    total,
    with_columns,
)
from secagg.query.rules.rule_file import OwnerRules
from secagg.query.rules.strictest import Bound, Part, TableRules, strictest

MOST_CELLS: Final = 64  # of one told aggregate; each costs a count


def protect(
    root: Relation,
    rules: Mapping[str, OwnerRules],
    receivers: Sequence[str],
    declaration: Declaration,
) -> Relation:
    """Return the plan that suppresses, rounds and codes as the rules ask; `checks.check` comes before.

    Args: as in `checks.check`.

    Raises:
      RuleError: a bound cannot be decided for this plan.
    """
    tables = sorted({one.table for one in relations(root) if isinstance(one, Scan)})
    found = strictest(rules, {table: declaration[table].holders for table in tables}, tables)
    _, aggregates, _ = released(root)
    several = margins.families(root)
    _refuse_differences(aggregates, several, found)
    carrier = Carrier(found)

    def rewritten(relation: Relation) -> Relation:
        match relation:
            case Aggregate() | Distinct():
                suppressed = _Suppression(carrier, relation, receivers).result()
                kept = Filter(suppressed.relation, suppressed.passes.ref)
                return Project(kept, tuple((name, kept[name].ref) for name in relation.names))
            case Scan():
                carried = carrier.carry(relation)
                return Project(
                    carried.relation, tuple((name, carried.relation[name].ref) for name in relation.names)
                )
            case Union() if relation in several:
                return margins.suppressed_together(
                    relation, lambda one: _Suppression(carrier, one, receivers).result(), carrier.name
                )
            case Union(inputs=inputs):
                return Union(tuple(map(rewritten, inputs)))
            case Join(left=left, right=right):
                return replace(relation, left=rewritten(left), right=rewritten(right))
            case Filter() | Project() | Sort() | Limit() | Window():
                return replace(relation, input=rewritten(relation.input))
            case _:
                raise RuleError(f"rules know no relation {type(relation).__name__}")

    return rewritten(root)


def _refuse_differences(
    aggregates: Sequence[Released], families: Sequence[Union], rules: Mapping[str, TableRules]
) -> None:
    """Refuse aggregates of one query over different rows or groups of one table, whose results could be subtracted."""
    for told_aggregate in aggregates:
        for table, found in rules.items():
            bound = found.smallest_group
            scans = [one for one in relations(told_aggregate) if isinstance(one, Scan) and one.table == table]
            if len(scans) > 1 and bound.value > 1:
                raise RuleError(
                    f"{bound.owner}'s rule smallest_group = {bound.value} of {table}: an aggregate reads it {len(scans)} "
                    f"times, and results over its readings may differ by one row; read it once"
                )
    together = [{id(one) for one in released(union)[1]} for union in families]
    for one, other in itertools.combinations(aggregates, 2):
        if one == other or any(id(one) in ids and id(other) in ids for ids in together):
            continue
        shared = sorted(_tables(one) & _tables(other))
        for table in shared:
            bound = rules[table].smallest_group
            if bound.value > 1:
                raise RuleError(
                    f"{bound.owner}'s rule smallest_group = {bound.value} of {table}: the query tells two aggregates of it "
                    f"over different rows or groups, whose difference may be one row; put conditions into CASE of one "
                    f"aggregate, and join totals to it by UNION ALL"
                )


def _tables(relation: Relation) -> set[str]:
    return {one.table for one in relations(relation) if isinstance(one, Scan)}


class _Suppression:
    """One told aggregate, as it is rewritten."""

    def __init__(self, carrier: Carrier, aggregate: Released, receivers: Sequence[str]) -> None:
        below = aggregate.inputs[0]
        self.aggregate = aggregate if isinstance(aggregate, Aggregate) else Aggregate(below, below.names, ())
        self.carrier = carrier
        self.receivers = receivers
        self.carried: Carried = carrier.carry(below)
        self.rows: Relation = self.carried.relation
        self.hidden: list[tuple[str, str, str]] = []  # name, function, column below
        self.conditions: list[tuple[str, Sequence[str], int, bool]] = []
        self.dominated: list[tuple[str, str, Part]] = []
        self.whole_means: dict[str, str] = {}

    def result(self) -> margins.Suppressed:
        """Return the aggregate with hidden columns."""
        self._refuse_repeats()
        cells = self._cells()
        counted: list[str] = []
        for behind in self.carried.behind:
            for without in views(behind.rules, self.receivers):
                inside = [one for one in behind.organisations if one not in without]
                counted += [self._bound(behind, inside, cell) for cell in (None, *cells)]
        first = counted[0] if counted else None
        for one in self.aggregate.aggregations:
            if one.function in ("sum", "mean") and one.column is not None:
                for behind in self.carried.behind:
                    parts = {behind.organisations}
                    for without in views(behind.rules, self.receivers):
                        parts.add(tuple(o for o in behind.organisations if o not in without))
                    for holders in sorted(parts):
                        self._dominance(behind, one, holders)
        made: Relation = Aggregate(
            self.rows,
            self.aggregate.keys,
            (
                *self.aggregate.aggregations,
                *(total(self.rows, n, column, self.aggregate.keys, f) for n, f, column in self.hidden),
            ),
        )
        made = self._with_whole_means(made)
        passes, rows = self.carrier.name("passes"), self.carrier.name("count")
        columns: list[tuple[str, Expression]] = [(name, made[name].ref) for name in self.aggregate.keys]
        columns += [(one.name, self._coded(made, one)) for one in self.aggregate.aggregations]
        columns.append((passes, self._passes(made)))
        columns.append((rows, made[first].ref if first else inference.literal(0)))
        relation = Project(made, tuple(columns))
        return margins.Suppressed(relation, relation[passes], relation[rows])

    def _refuse_repeats(self) -> None:
        """Refuse groups that may share a row that a join repeats, and sums that a row enters as often as it is repeated."""
        below = self.carried.relation
        for behind in self.carried.behind:
            bound = behind.rules.smallest_group
            if not behind.repeated or bound.value == 1:
                continue
            for key in self.aggregate.keys:
                if any(one.source.table != behind.table for one in below[key].lineage):
                    raise RuleError(
                        f"{bound.owner}'s rule smallest_group = {bound.value} of {behind.table}: a join may put its rows in "
                        f"several groups by {key}, which may differ by one row; group by its own columns, or join a "
                        f"declared unique column"
                    )
            for one in self.aggregate.aggregations:
                if one.function not in ("sum", "mean") or one.column is None:
                    continue
                for source in sorted({of.source for of in below[one.column].lineage}):
                    owner = behind.rules.column(source.column).arithmetic_refuser
                    if source.table == behind.table and source.column != ORG and owner is not None:
                        raise RuleError(
                            f"{owner}'s rule arithmetic = false of {source}: a join may repeat its rows, and the sum counts "
                            f"each as often; join a declared unique column"
                        )

    # --- cells

    def _cells(self) -> list[Expression]:
        """Return for each cell whether a row is in it; none where all rows are in one."""
        marks: dict[Mark, None] = {}
        missing: list[Mark] = []
        names = list(dict.fromkeys(one.column for one in self.aggregate.aggregations))
        for of in names:
            if of is None:
                continue
            marks.update(dict.fromkeys(self.carried.marks.get(of, ())))
            column = self.carried.relation[of]
            if column.domain.nullable or column.domain.kind == "boolean":
                known = inference.call("is_null", column.ref)
                branches: list[tuple[Expression, Expression]] = [(known, inference.literal(0))]
                if column.domain.kind == "boolean":
                    branches.append((column.ref, inference.literal(1)))
                name = self.carrier.name("mark")
                self.rows = with_columns(self.rows, [(name, inference.case(branches, inference.literal(2)))])
                marks[Mark(name, 3)] = None
                if column.domain.nullable:
                    missing.append(Mark(name, 3))
        count = 1
        for mark in marks:
            count *= mark.branches
        if count > MOST_CELLS:
            behind = self.carried.behind[0]
            bound = behind.rules.smallest_group
            raise RuleError(
                f"{bound.owner}'s rule smallest_group = {bound.value} of {behind.table}: CASE, conditions and NULL in the "
                f"aggregates part each group in {count} cells, and at most {MOST_CELLS} are counted; ask for less at once"
            )
        if count == 1:
            return []
        place: list[Expression] = []
        step = 1
        silent: dict[int, int] = {}  # of each mark that says NULL, its step
        for mark in marks:
            number = inference.call("coalesce", self.rows[mark.column].ref, inference.literal(0))
            place.append(inference.call("mul", number, inference.literal(step)))
            silent |= {step: mark.branches} if mark in missing else {}
            step *= mark.branches
        name = self.carrier.name("cell")
        self.rows = with_columns(self.rows, [(name, add(place))])
        cell = self.rows[name].ref
        told = list(range(count))
        if len(missing) == len(names):
            # Rows that are NULL in all that is aggregated add nothing to any number.
            told = [i for i in told if any(i // step % branches for step, branches in silent.items())]
        return [inference.call("eq", cell, inference.literal(i)) for i in told]

    # --- bounds

    def _bound(self, behind: Behind, inside: Sequence[str], cell: Expression | None) -> str:
        """Ask for the bounds of one scan, on the rows of some organisations; return the name of the number of rows."""
        rules = behind.rules
        exact = cell is None and not behind.optional
        if behind.repeated and rules.smallest_group.value > 1:
            rows = self._distinct(behind, behind.key, inside, cell, "a declared unique column")
        else:
            rows = self._sum(_when(cell, count_of(self.rows, behind, inside)))
        self.conditions.append((rows, (), rules.smallest_group.value, exact))
        for persons in rules.persons:
            number = self._distinct(
                behind, behind.persons[persons.column], inside, cell, f"its column {persons.column}"
            )
            self.conditions.append((number, (rows,), persons.smallest, exact))
        organisations = rules.smallest_organisations
        needed = min(2, len(inside)) if organisations is None else organisations.value
        if needed > 1:
            each = [self._sum(_when(cell, count_of(self.rows, behind, [one]))) for one in inside]
            self.conditions.append(("", (*each, rows), needed, exact))
        return rows

    def _sum(self, value: Expression) -> str:
        return self._hidden("sum", value)

    def _hidden(self, function: str, value: Expression) -> str:
        column, name = self.carrier.name("value"), self.carrier.name("of")
        self.rows = with_columns(self.rows, [(column, value)])
        self.hidden.append((name, function, column))
        return name

    def _distinct(
        self, behind: Behind, column: str | None, inside: Sequence[str], cell: Expression | None, what: str
    ) -> str:
        bound = behind.rules.smallest_group
        if column is None:
            raise RuleError(
                f"{bound.owner}'s rule smallest_group = {bound.value} of {behind.table} needs {what}, by which rows that "
                f"stand in several groups or pairs are counted once; declare one, or keep it as a key of the inner groups"
            )
        conditions = [] if cell is None else [cell]
        if len(inside) < len(behind.organisations):
            if behind.org is None and behind.counts is not None:
                rows = count_of(self.rows, behind, inside)
                conditions.append(inference.call("ge", rows, inference.literal(1)))
            else:
                conditions.append(lies_at(self.rows, behind, inside))
        value: Expression = self.rows[column].ref
        if conditions:
            both = conditions[0] if len(conditions) == 1 else inference.call("and", *conditions)
            value = inference.case([(both, value)], None)
        return self._hidden("count_distinct", value)

    # --- dominance

    def _dominance(self, behind: Behind, aggregation: Aggregation, inside: Sequence[str]) -> None:
        """Ask that the largest contributors make up no more than their part of a sum over rows of some organisations."""
        column = self.carried.relation[aggregation.column or ""]
        if not any(one.source.table == behind.table for one in column.lineage):
            return
        for part in behind.rules.dominance:
            if part.contributor is None and behind.counts is not None:
                raise RuleError(
                    f"{part.owner}'s rule dominance of {behind.table} cannot be decided for sums of sums; name `persons`"
                )
            partly = len(inside) < len(behind.organisations)
            if partly and behind.org is None and behind.counts is not None:
                raise RuleError(
                    f"{part.owner}'s rule dominance of {behind.table} cannot be decided without the receivers' rows for "
                    f"sums of sums; open the result to others"
                )
            size = self._size(column, lies_at(self.rows, behind, inside) if partly else None)
            group: tuple[str, ...] = self.aggregate.keys
            if part.contributor is not None:
                person = behind.persons[part.contributor]
                if person is None:
                    raise RuleError(
                        f"{part.owner}'s rule dominance of {behind.table} needs its column {part.contributor} as a key of "
                        f"the inner groups"
                    )
                size = self._contributions(size, (*group, person))
            largest = self._largest(size, group, part.largest)
            self.dominated.append((self._sum(largest), self._sum(self.rows[size].ref), part))

    def _size(self, column: Column, counted: Expression | None) -> str:
        """Return the column with the size of what a row adds to a sum, 0 where it is not counted.

        It is made on shares of the very column that is summed, so that no owner gives a size that its number has not.
        """
        inside, name = self.carrier.name("inside"), self.carrier.name("size")
        if counted is not None:
            self.rows = with_columns(self.rows, [(inside, counted)])
            counted = self.rows[inside].ref
        size: Expression = column.ref
        if column.domain.bounds[0] < 0:
            size = inference.call("abs", size)
        size = inference.call("coalesce", size, inference.literal(0))
        if size != column.ref:
            size = Call("on_shares", (size,), size.domain, size.lineage)
        self.rows = with_columns(self.rows, [(name, _when(counted, size))])
        return name

    def _contributions(self, size: str, contributor: tuple[str, ...]) -> str:
        """Return the column with what a contributor adds in all, at the last of its rows, and 0 at the others."""
        so_far, following, name = (self.carrier.name(one) for one in ("sum", "next", "part"))
        column = self.rows[size]
        whole = inference.aggregation(so_far, "sum", column, self.rows, grouped=True)
        functions = (
            WindowFunction(so_far, "sum", size, whole.domain, whole_peers=False),
            WindowFunction(following, "lead", size, column.domain.with_null()),
        )
        ordered = Window(self.rows, contributor, (SortKey(size),), functions)
        last = inference.call("is_null", ordered[following].ref)
        at_last = inference.case([(last, ordered[so_far].ref)], inference.literal(0))
        self.rows = with_columns(ordered, [(name, at_last)])
        return name

    def _largest(self, size: str, group: tuple[str, ...], largest: int) -> Expression:
        place = self.carrier.name("place")
        number = replace(inference.literal(1).domain, highest=max(1, self.rows.max_rows))
        self.rows = Window(
            self.rows,
            group,
            (SortKey(size, descending=True),),
            (WindowFunction(place, "row_number", None, number),),
        )
        first = inference.call("le", self.rows[place].ref, inference.literal(largest))
        return inference.case([(first, self.rows[size].ref)], inference.literal(0))

    # --- after the groups are made

    def _passes(self, made: Relation) -> Expression:
        zero, one = inference.literal(0), inference.literal(1)
        found: list[Expression] = []
        for name, others, smallest, exact in self.conditions:
            if name:
                number: Expression = _number(made, name)
                rows = _number(made, others[0]) if others else number
            else:  # organisations: how many of the counts are not 0
                *each, of_all = others
                counts = [
                    inference.case([(inference.call("ge", _number(made, n), one), one)], zero) for n in each
                ]
                number, rows = add(counts), _number(made, of_all)
            enough = inference.call("ge", number, inference.literal(smallest))
            if not exact:
                enough = inference.call("or", enough, inference.call("eq", rows, zero))
            found.append(enough)
        optional = [one for one in self.carried.behind if one.optional]
        if optional and len(optional) == len(self.carried.behind):  # parts of a union, of which one has rows
            wholes = [
                _number(made, name) for name, others, _, exact in self.conditions if name and not others
            ]
            found.append(inference.call("ge", add(wholes), one))
        for top, whole, part in self.dominated:
            hundred, percent = inference.literal(100), inference.literal(part.percent)
            largest = inference.call("mul", _number(made, top), hundred)
            allowed = inference.call("mul", _number(made, whole), percent)
            found.append(inference.call("le", largest, allowed))
        if not found:
            return inference.boolean(True)
        return found[0] if len(found) == 1 else inference.call("and", *found)

    def _coded(self, made: Relation, one: Aggregation) -> Expression:
        """Return a told number, rounded as the rules ask."""
        column = made[one.name]
        if one.function in ("count", "count_distinct"):
            multiples = [b.value for t in self._tables() if (b := t.round_counts) is not None]
            return coding.rounded(column.ref, max(multiples, default=1))
        if self._is_count(one):
            multiple = max((b.value for t in self._tables() if (b := t.round_counts) is not None), default=1)
            if one.function == "sum":
                return coding.rounded(column.ref, multiple * 10**column.domain.decimals)
            for table in self._tables():
                if (counts := table.round_counts) is not None and counts.value > 1:
                    raise RuleError(
                        f"{counts.owner}'s rule round_counts = {counts.value} of {table.table}: a mean of conditions is a "
                        f"count; sum the conditions"
                    )
        if (bound := self._rounding(one)) is None:
            return column.ref
        if one.function == "sum":
            return coding.rounded(column.ref, coding.units_of(bound, column.domain.decimals, "rounding"))
        whole = made[self.whole_means[one.name]].ref
        told = coding.rounded(whole, coding.units_of(bound, whole.domain.decimals, "rounding"))
        return inference.in_one_domain((told, column.ref), "round")[0]

    def _is_count(self, one: Aggregation) -> bool:
        """Return whether a sum or mean counts: constants are added up, where conditions hold."""
        if one.function not in ("sum", "mean"):
            return False
        return all("compare" in of.steps for of in self.carried.relation[one.column or ""].lineage)

    def _with_whole_means(self, made: Relation) -> Relation:
        """Return the relation with means that are rounded in the decimals of what they are means of."""
        columns: list[tuple[str, Expression]] = []
        for one in self.aggregate.aggregations:
            if one.function != "mean" or self._rounding(one) is None:
                continue
            name = self.whole_means[one.name] = self.carrier.name("mean")
            decimals = self.carried.relation[one.column or ""].domain.decimals
            columns.append((name, inference.call("round", made[one.name].ref, decimals=decimals)))
        return with_columns(made, columns)

    def _rounding(self, one: Aggregation) -> Bound[Decimal] | None:
        """Return the coarsest rounding of what a sum or mean depends on."""
        if one.function not in ("sum", "mean"):
            return None
        tables = {table.table: table for table in self._tables()}
        lineage = self.carried.relation[one.column or ""].lineage
        sources = {of.source for of in lineage if of.source.table in tables}
        bounds = [tables[of.table].column(of.column).rounding for of in sorted(sources)]
        return max((bound for bound in bounds if bound is not None), key=lambda one: one.value, default=None)

    def _tables(self) -> list[TableRules]:
        return [behind.rules for behind in self.carried.behind]


def _number(made: Relation, name: str) -> Expression:
    column = made[name]
    return (
        inference.call("coalesce", column.ref, inference.literal(0)) if column.domain.nullable else column.ref
    )


def _when(cell: Expression | None, value: Expression) -> Expression:
    return value if cell is None else inference.case([(cell, value)], inference.literal(0))
