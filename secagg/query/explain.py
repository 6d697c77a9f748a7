"""What a query would do, told before anybody reads data: its plan, what owners run alone, what is opened, and the cost.

The cost is that of a rehearsal (`joint_run.expected_cost`). Rounds and every party's bytes equal the ledger of a run with
these row counts, but for sorts on shares: those send what they are expected to. Rounds of kernels that go on with what they
open are counted one after the other, so that a run may take fewer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from secagg.cost.operation import Cost
from secagg.party import PartyId
from secagg.query.algebra import (
    Aggregate,
    Aggregation,
    Case,
    Distinct,
    Expression,
    Filter,
    Join,
    Limit,
    Literal,
    Project,
    Ref,
    Relation,
    Sort,
    SortKey,
    Union,
    Window,
    relations,
    walk,
)
from secagg.query.division import FromShards, divided
from secagg.query.encoding import as_decimal
from secagg.query.held import HIDDEN
from secagg.query.joint_run import announced_counts, check, chosen_groups, expected_cost
from secagg.query.local_sql import scalar
from secagg.query.own_groups import OwnGroups
from secagg.query.planner import ROWS, Combined, Local, Plan
from secagg.query.terms import QueryTerms

_SIGNS: Final[Mapping[str, str]] = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
    "and": "AND", "or": "OR",
}  # fmt: skip


@dataclass(frozen=True)
class Explanation:
    """What there is to say about a query; texts may hold what a terminal obeys, and are shown by `printable`.

    Attributes:
      tree: the joint plan, a line for each relation, what is done last first.
      alone: for each owner and each of its parts, the SQL that it runs over its own table.
      opened: to whom, and what.
      grants: which rules allow what; None where no rules are applied.
      counts: the row counts that owners announce.
      cost: rounds of the whole run, and bytes that each party sends.
      has_sorts: whether parts of the cost are expected values.
    """

    tree: tuple[str, ...]
    alone: tuple[tuple[PartyId, str], ...]
    opened: tuple[tuple[str, str], ...]
    grants: tuple[str, ...] | None
    counts: Mapping[PartyId, tuple[int, ...]]
    cost: Cost
    has_sorts: bool


def explain(plan: Plan, terms: QueryTerms, rows: Mapping[PartyId, int]) -> Explanation:
    """Return what a query would do.

    Args:
      rows: how many rows each owner has in each of its tables.

    Raises:
      PlanError, RuleError: these parties cannot compute the plan, or rules do not allow it; see `joint_run.check`.
    """
    check(plan, terms)
    counts = announced_counts(plan, rows, terms.step)
    groups = chosen_groups(plan, terms, counts)
    in_shards = divided(plan, terms) if groups is None and terms.shards > 1 else None
    lines: Iterable[str] = tree(plan.root) if groups is None else _merged(groups)
    opened = [
        *_opened(plan, terms, merged=groups is not None),
        *(_opened_by_merging(terms) if groups is not None else ()),
    ]
    if in_shards is not None:
        lines = (*tree(in_shards.root), *(f"Divided: {line}" for line in in_shards.said(counts)))
        opened += _opened_in_shards(terms)
    return Explanation(
        tuple(lines),
        tuple((owner, local.sql(owner)) for owner in plan.owners for local in plan.of(owner)),
        tuple(opened),
        None if plan.rules is None else tuple(map(str, plan.rules.grants)),
        counts,
        expected_cost(plan, terms, counts),
        groups is None and any(map(_sorts, relations(plan.root))),
    )


def _merged(groups: OwnGroups) -> Iterator[str]:
    """Yield what is computed by `own_groups` in place of the joint plan."""
    yield f"Open each row of a group that passes to its owner: {_names([f.name for f in groups.query.fields if f.opened])}"
    tests = [
        f"{one.name} {sign} {bound}"
        for one in groups.query.fields
        for sign, bound in (((">="), one.at_least), ("<", one.below))
        if bound is not None
    ]
    yield f"`- Merge owners' sorted lists, add up by {groups.key}, and test: {', '.join(tests)}"
    yield f"   `- {described(groups.local)}"


def _opened_by_merging(terms: QueryTerms) -> Iterator[tuple[str, str]]:
    yield "everybody", "whether the run must be repeated with a new key of the pseudonyms"
    yield (
        ", ".join(terms.computing),
        "whether each owner's list is well-formed, and whose each place of the shuffled lists is, padding included",
    )


def _opened_in_shards(terms: QueryTerms) -> Iterator[tuple[str, str]]:
    yield (
        "everybody",
        "whether the run must be repeated with a new hash key, as rows of an owner do not fit into their places in a shard",
    )
    yield (
        ", ".join(terms.computing),
        "whether an owner shared more rows than it announced, in all shards together, or rows in other shards than theirs",
    )


def _sorts(relation: Relation) -> bool:
    match relation:
        case Join() | Distinct() | Sort() | Window():
            return True
        case Aggregate(keys=keys, aggregations=aggregations):
            return bool(keys) or any(one.function == "count_distinct" for one in aggregations)
        case _:
            return False


def _opened(plan: Plan, terms: QueryTerms, *, merged: bool) -> Iterator[tuple[str, str]]:
    counted = list(dict.fromkeys(local.table for local in plan.locals if not local.is_dense))
    if counted:
        which = "what their own parts leave of" if terms.announce_filtered else "their rows of"
        rounded = f", rounded up to a multiple of {terms.step}" if terms.step > 1 else ""
        yield "everybody", f"how many rows owners share: {which} {', '.join(counted)}{rounded}"
    if any(isinstance(one, Join) and one.how in ("inner", "left") for one in relations(plan.root)):
        yield ", ".join(terms.computing), "whether keys that were declared unique are so"
    if plan.has_ranges and not merged:
        yield (
            ", ".join(terms.computing),
            "whether each owner's numbers are in those ranges that the plan gives them",
        )
    columns = ", ".join(f"{column.name} ({column.domain})" for column in plan.root.columns)
    if terms.receivers:
        yield ", ".join(terms.receivers), f"up to {plan.root.max_rows} rows: {columns}"
    if terms.about_own:
        yield (
            f"each of {', '.join(terms.about_own)}",
            f"of up to {plan.root.max_rows} rows, those about its own identifiers: {columns}",
        )


# The plan as a tree.


def tree(root: Relation) -> Iterator[str]:
    """Yield a line for each relation, those below it indented; one that only passes columns on has none."""
    while isinstance(root, Project) and all(_is_copy(*one) for one in root.expressions):
        root = root.input
    yield f"{described(root)}  (at most {root.max_rows} rows)"
    inputs = (root.relation,) if isinstance(root, FromShards) else root.inputs
    for i, below in enumerate(inputs):
        last = i == len(inputs) - 1
        for j, line in enumerate(tree(below)):
            yield ("`- " if last else "|- ") + line if j == 0 else ("   " if last else "|  ") + line


def described(relation: Relation) -> str:
    """Return what a relation does, on one line."""
    match relation:
        case Local(table=table, holders=holders):
            how = (
                "groups of rows" if relation.is_dense or isinstance(relation.relation, Aggregate) else "rows"
            )
            return f"Share {how} of {table}, of {', '.join(holders)}: {_names(relation.names)}"
        case FromShards(shards=shards, leaves=leaves):
            by = " and ".join(dict.fromkeys(leaf.column for leaf in leaves))
            return f"Take what each of {shards} shards by {by} has"
        case Combined(aggregate=aggregate):
            return f"Add up owners' groups {_by(aggregate.keys)}: {_aggregations(aggregate.aggregations)}"
        case Aggregate(keys=keys, aggregations=aggregations):
            return f"Group {_by(keys)}: {_aggregations(aggregations) or 'keys alone'}"
        case Filter(condition=condition) if any(map(_is_hidden, walk(condition))):
            return "Suppress groups that rules do not let be told"
        case Filter(condition=condition):
            return f"Keep rows where {shown(condition)}"
        case Project(expressions=expressions):
            return f"Compute {_listed([(n, n if _is_copy(n, e) else f'{n} = {shown(e)}') for n, e in expressions])}"
        case Join(on=on, how=how):
            return f"Join ({how}) on {' and '.join(f'{a} = {b}' for a, b in on)}"
        case Union():
            return "Union of all rows"
        case Distinct():
            return "Distinct rows"
        case Sort(keys=sort_keys):
            return f"Sort by {_order(sort_keys)}"
        case Limit(rows=rows, offset=offset):
            return f"First {rows} rows{f' after {offset}' if offset else ''}"
        case Window(partition_by=partition, order_by=order, functions=functions):
            over = f" by {_names(partition)}" if partition else ""
            over += f", in the order of {_order(order)}" if order else ""
            several = [(f.name, f"{f.name} = {f.function}({f.column or '*'})") for f in functions]
            return f"Window{over}: {_listed(several)}"
        case _:
            return type(relation).__name__


def shown(expression: Expression) -> str:
    """Return an expression as SQL would have it."""
    match expression:
        case Ref(name=name):
            return "a count for rules" if name.startswith(HIDDEN) else name
        case Literal(value=int() as value, domain=domain) if domain.kind == "number":
            return str(as_decimal(value, domain.decimals))
        case Literal(value=value, domain=domain):
            return str(value) if domain.kind == "real" else scalar(expression)
        case Case(branches=branches, otherwise=otherwise):
            whens = " ".join(f"WHEN {shown(c)} THEN {shown(v)}" for c, v in branches)
            return f"CASE {whens} ELSE {shown(otherwise)} END"
    args = [shown(arg) for arg in expression.args]
    if expression.op in _SIGNS and len(args) > 1:
        return f"({f' {_SIGNS[expression.op]} '.join(args)})"
    return f"{expression.op}({', '.join(args)})"


def _is_hidden(expression: Expression) -> bool:
    return isinstance(expression, Ref) and expression.name.startswith(HIDDEN)


def _is_copy(name: str, expression: Expression) -> bool:
    return isinstance(expression, Ref) and expression.name == name


def _by(keys: Sequence[str]) -> str:
    return f"by {_names(keys)}" if keys else "all rows"


def _names(names: Sequence[str]) -> str:
    return _listed([(name, name) for name in names])


def _order(keys: Sequence[SortKey]) -> str:
    return _listed([(key.name, f"{key.name}{' descending' if key.descending else ''}") for key in keys])


def _aggregations(several: Sequence[Aggregation]) -> str:
    return _listed([(one.name, f"{one.name} = {one.function}({one.column or '*'})") for one in several])


def _listed(several: Sequence[tuple[str, str]]) -> str:
    """Return texts one after the other; hidden ones, which count rows, have no names that mean anything."""
    told = [text for name, text in several if not name.startswith(HIDDEN) and name != ROWS]
    if hidden := len(several) - len(told):
        told.append(f"{hidden} column{'s' * (hidden > 1)} for counts")
    return ", ".join(told)
