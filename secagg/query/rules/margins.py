"""Tables with margins: a suppressed cell is not the difference of its total and the other cells.

Totals come as a UNION ALL of aggregates over the same rows, each by some of the keys. For every two of them of which one has
all keys of the other, a *line* is a total and the cells that add up to it. Where exactly one number of a line is
suppressed, the smallest of the others is suppressed too, until no line has just one. All of it is decided on shares, in a
fixed number of passes. A table that still has such a line after these is suppressed as a whole.

The choice depends on the table alone, so that a second run tells no other cells. It lets a reader bound a suppressed
cell by the smallest one told in its line; `docs/soundness.md` says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from secagg.query import inference
from secagg.query.algebra import (
    Aggregate,
    Call,
    Case,
    Column,
    Expression,
    Filter,
    Project,
    Ref,
    Relation,
    SortKey,
    Union,
    Window,
    WindowFunction,
)
from secagg.query.rules.provenance import HIDDEN, add, with_columns

PASSES: Final = 3  # over all pairs of levels


@dataclass(frozen=True)
class Suppressed:
    """A told aggregate with hidden columns.

    Attributes:
      passes: the column that says whether a group meets the bounds.
      rows: the column with the number of rows behind it.
    """

    relation: Relation
    passes: Column
    rows: Column


def families(root: Relation) -> list[Union]:
    """Return the unions of aggregates over the same rows, of which each two have keys one within the other's or apart."""
    found: list[Union] = []
    waiting = [root]
    while waiting:
        relation = waiting.pop()
        if isinstance(relation, Aggregate):
            continue
        if isinstance(relation, Union):
            levels = [_aggregate_of(one) for one in _parts(relation)]
            known = [one for one in levels if one is not None]
            if len(known) == len(levels) and len({_of(one) for one in known}) == 1 and _nested(known):
                found.append(relation)
                continue
        waiting += relation.inputs
    return found


def _nested(levels: list[Aggregate]) -> bool:
    """Return whether one level has all keys of all others, and no two have the same."""
    keys = [frozenset(_keys(one)) for one in levels]
    return len(set(keys)) == len(keys) and frozenset().union(*keys) in keys


def base(relation: Relation) -> Relation:
    """Return the relation below projections, which says which rows there are."""
    return base(relation.input) if isinstance(relation, Project) else relation


def _of(aggregate: Aggregate) -> tuple[Relation, frozenset[tuple[str, Expression | None]]]:
    """Return over which rows an aggregate is, and what it aggregates; else totals would differ from sums of cells."""
    below = aggregate.input
    return base(below), frozenset(
        (one.function, None if one.column is None else resolved(below, below[one.column].ref))
        for one in aggregate.aggregations
    )


def _keys(aggregate: Aggregate) -> dict[Expression, str]:
    """Return the name of each key by what it is, over the rows below projections."""
    return {resolved(aggregate.input, aggregate.input[name].ref): name for name in aggregate.keys}


def resolved(relation: Relation, expression: Expression) -> Expression:
    """Return an expression over the rows below projections."""
    while isinstance(relation, Project):
        expression = _substituted(expression, dict(relation.expressions))
        relation = relation.input
    return expression


def _substituted(expression: Expression, names: Mapping[str, Expression]) -> Expression:
    match expression:
        case Ref(name=name):
            return names[name]
        case Call(args=args):
            return replace(expression, args=tuple(_substituted(one, names) for one in args))
        case Case(branches=branches, otherwise=otherwise):
            return replace(
                expression,
                branches=tuple((_substituted(a, names), _substituted(b, names)) for a, b in branches),
                otherwise=_substituted(otherwise, names),
            )
        case _:
            return expression


def _parts(relation: Relation) -> list[Relation]:
    """Return the parts of unions inside each other; projections of a union are those of its parts."""
    if isinstance(relation, Union):
        parts = [one for below in relation.inputs for one in _parts(below)]
        return [_named(one, relation.names) for one in parts]
    if isinstance(relation, Project):
        below = _parts(relation.input)
        return [relation] if len(below) == 1 else [replace(relation, input=one) for one in below]
    return [relation]


def _named(relation: Relation, names: tuple[str, ...]) -> Relation:
    if relation.names == names:
        return relation
    return Project(relation, tuple(zip(names, (one.ref for one in relation.columns), strict=True)))


def _aggregate_of(relation: Relation) -> Aggregate | None:
    while isinstance(relation, Project):
        relation = relation.input
    return relation if isinstance(relation, Aggregate) else None


def suppressed_together(
    union: Union, suppress: Callable[[Aggregate], Suppressed], name: Callable[[str], str]
) -> Relation:
    """Return the union in which no line has a single suppressed cell."""
    found = _parts(union)
    aggregates = [one for one in map(_aggregate_of, found) if one is not None]
    named = [_keys(one) for one in aggregates]
    keys = {key: of.input[name].domain for of in aggregates for key, name in _keys(of).items()}
    coordinates = {key: name("key") for key in keys}
    level, rows, hidden = name("level"), name("count"), name("hidden")
    parts: list[Relation] = []
    for number, (part, aggregate) in enumerate(zip(found, aggregates, strict=True)):
        suppressed = suppress(aggregate)
        columns: list[tuple[str, Expression]] = [(level, inference.literal(number))]
        for key, domain in keys.items():
            own = named[number].get(key)
            of = inference.null(domain) if own is None else suppressed.relation[own].ref
            columns.append((coordinates[key], of))
        columns.append((rows, suppressed.rows.ref))
        fails = inference.call("not", suppressed.passes.ref)
        one, zero = inference.literal(1), inference.literal(0)
        columns.append((hidden, inference.case([(fails, one)], zero)))
        parts.append(_renamed(part, suppressed.relation, columns))
    table: Relation = Union(tuple(parts))
    levels = [frozenset(one) for one in named]
    pairs = [
        (i, j, sorted(coordinates[key] for key in levels[j]))
        for i, j in itertools.permutations(range(len(levels)), 2)
        if levels[j] < levels[i]
    ]
    for _ in range(PASSES):
        for cells, totals, line in pairs:
            table, alone = _second(table, level, (cells, totals), line, rows, hidden, name)
            either = inference.case([(alone, inference.literal(1))], table[hidden].ref)
            table = with_columns(table, [(hidden, either)])
    lonely: list[str] = []
    for cells, totals, line in pairs:
        table, alone = _second(table, level, (cells, totals), line, rows, hidden, name)
        mark = name("lonely")
        table = with_columns(
            table, [(mark, inference.case([(alone, inference.literal(1))], inference.literal(0)))]
        )
        lonely.append(mark)
    alone_of, anywhere = name("lonely"), name("anywhere")
    table = with_columns(table, [(alone_of, add([table[one].ref for one in lonely]))])
    domain = inference.aggregation(anywhere, "sum", table[alone_of], table, grouped=True).domain
    first = (SortKey(alone_of, descending=True),)  # so that the sum so far is 0 at all rows or at none
    table = Window(table, (), first, (WindowFunction(anywhere, "sum", alone_of, domain, whole_peers=False),))
    shown = inference.call(
        "and",
        inference.call("eq", table[hidden].ref, inference.literal(0)),
        inference.call("eq", table[anywhere].ref, inference.literal(0)),
    )
    kept = Filter(table, shown)
    return Project(kept, tuple((one, kept[one].ref) for one in union.names))


def _renamed(part: Relation, suppressed: Relation, columns: list[tuple[str, Expression]]) -> Relation:
    """Return the projections of a part of the union over the suppressed aggregate, with hidden columns beside."""
    if not isinstance(part, Project):
        shown = [(one, suppressed[one].ref) for one in part.names]
        return Project(suppressed, (*shown, *columns))
    below = _renamed(part.input, suppressed, columns)
    passed = [(name, below[name].ref) for name, _ in columns]
    return replace(part, input=below, expressions=(*part.expressions, *passed))


def _second(
    table: Relation,
    level: str,
    pair: tuple[int, int],
    line: list[str],
    rows: str,
    hidden: str,
    name: Callable[[str], str],
) -> tuple[Relation, Expression]:
    """Return for each number whether it is the smallest told one in a line where exactly one is suppressed.

    In the order of suppressed ones first and then by size, that is the second one, if it is told and the first is not.
    """
    within, before, place = name("within"), name("before"), name("place")
    here = inference.call("in", table[level].ref, *(inference.literal(one) for one in pair))
    table = with_columns(
        table, [(within, inference.case([(here, inference.literal(1))], inference.literal(0)))]
    )
    number = replace(inference.literal(1).domain, highest=max(1, table.max_rows))
    table = Window(
        table,
        (within, *line),
        (SortKey(hidden, descending=True), SortKey(rows), *(SortKey(one) for one in _rest(table, line))),
        (
            WindowFunction(place, "row_number", None, number),
            WindowFunction(before, "lag", hidden, table[hidden].domain.with_null()),
        ),
    )
    one = inference.literal(1)
    conditions = (
        inference.call("eq", table[within].ref, one),
        inference.call("eq", table[place].ref, inference.literal(2)),
        inference.call("eq", table[hidden].ref, inference.literal(0)),
        inference.call("eq", inference.call("coalesce", table[before].ref, inference.literal(0)), one),
    )
    return table, inference.call("and", *conditions)


def _rest(table: Relation, line: list[str]) -> list[str]:
    """Return the coordinates along a line, by which equal sizes are told apart; identifiers have no order."""
    return [
        one.name
        for one in table.columns
        if one.name.startswith(f"{HIDDEN}key") and one.name not in line and one.domain.kind != "identifier"
    ]
