"""Tables with margins: a suppressed cell is not the difference of its totals and the other cells.

Totals come as a UNION ALL of aggregates over the same rows, each by some of the keys. One level has all keys: its groups are
the *cells*, and every total is the sum of the cells of its *line*. Where a cell is suppressed, all totals it is in are
suppressed too. So every number that is told is a sum of told cells, and depends on no suppressed one. All of it is decided
on shares, in one pass over each level of totals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

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
from secagg.query.rules.provenance import with_columns


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
    """Return the union without the totals of lines in which a cell is suppressed."""
    found = _parts(union)
    aggregates = [one for one in map(_aggregate_of, found) if one is not None]
    named = [_keys(one) for one in aggregates]
    keys = {key: of.input[name].domain for of in aggregates for key, name in _keys(of).items()}
    coordinates = {key: name("key") for key in keys}
    level, hidden = name("level"), name("hidden")
    parts: list[Relation] = []
    for number, (part, aggregate) in enumerate(zip(found, aggregates, strict=True)):
        suppressed = suppress(aggregate)
        columns: list[tuple[str, Expression]] = [(level, inference.literal(number))]
        for key, domain in keys.items():
            own = named[number].get(key)
            of = inference.null(domain) if own is None else suppressed.relation[own].ref
            columns.append((coordinates[key], of))
        fails = inference.call("not", suppressed.passes.ref)
        one, zero = inference.literal(1), inference.literal(0)
        columns.append((hidden, inference.case([(fails, one)], zero)))
        parts.append(_renamed(part, suppressed.relation, columns))
    table: Relation = Union(tuple(parts))
    cells = max(range(len(named)), key=lambda one: len(named[one]))
    # A total is hidden by the cells alone, so each pass reads what no other pass wrote.
    lines = [
        (totals, sorted(coordinates[key] for key in of)) for totals, of in enumerate(named) if totals != cells
    ]
    for totals, line in lines:
        table = _without_totals(table, level, (cells, totals), line, hidden, name)
    kept = Filter(table, inference.call("eq", table[hidden].ref, inference.literal(0)))
    return Project(kept, tuple((one, kept[one].ref) for one in union.names))


def _renamed(part: Relation, suppressed: Relation, columns: list[tuple[str, Expression]]) -> Relation:
    """Return the projections of a part of the union over the suppressed aggregate, with hidden columns beside."""
    if not isinstance(part, Project):
        shown = [(one, suppressed[one].ref) for one in part.names]
        return Project(suppressed, (*shown, *columns))
    below = _renamed(part.input, suppressed, columns)
    passed = [(name, below[name].ref) for name, _ in columns]
    return replace(part, input=below, expressions=(*part.expressions, *passed))


def _without_totals(
    table: Relation,
    level: str,
    pair: tuple[int, int],
    line: list[str],
    hidden: str,
    name: Callable[[str], str],
) -> Relation:
    """Return the table in which the totals of lines with a hidden cell are hidden too."""
    within, so_far = name("within"), name("so_far")
    zero, one = inference.literal(0), inference.literal(1)
    here = inference.call("in", table[level].ref, *(inference.literal(number) for number in pair))
    table = with_columns(table, [(within, inference.case([(here, one)], zero))])
    domain = inference.aggregation(so_far, "sum", table[hidden], table, grouped=True).domain
    first = (
        SortKey(hidden, descending=True),
    )  # so that the sum so far is 0 at all rows of a line or at none
    functions = (WindowFunction(so_far, "sum", hidden, domain, whole_peers=False),)
    table = Window(table, (within, *line), first, functions)
    total = inference.call("eq", table[level].ref, inference.literal(pair[1]))
    found = inference.call("ge", table[so_far].ref, one)
    return with_columns(
        table, [(hidden, inference.case([(inference.call("and", total, found), one)], table[hidden].ref))]
    )
