"""A query at each party: announce, agree on the key of the pseudonyms, share, compute, open.

Threat model. Three computing parties follow the protocol; of four one may lie (`secagg.mpc`). Input parties may put in any
rows, within the ranges: these are checked on shares, and a run with a number outside opens nothing of the result.

Who learns what. Everybody: the announced row counts. Computing parties: whether keys that were declared unique are so, and
whether an owner's numbers are in their ranges, as those of an unaltered program are. The receivers: the result, or each
owner the rows of the result whose identifier its own rows have.

Rules. Each party plans for itself by `plan_query`, which refuses what an owner's rules do not allow before anybody reads
data. All parties compare the digest of the rules that they applied. A plan without rules suppresses nothing.
An owner with an altered program lowers no bound for the others' rows but by rows that it makes up (docs/soundness.md 14.4).

Longer than most: what each party does, and the simulator that runs all of them, differ in who calls whom alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from secagg.cost.operation import Cost
from secagg.errors import PlanError, RuleError, UsageError
from secagg.mpc import tables
from secagg.mpc.arrays import Engine
from secagg.mpc.arrays.dtypes import int64
from secagg.mpc.arrays.keeping import Stages
from secagg.mpc.arrays.rehearsal import cost, receive_nothing, share_nothing
from secagg.mpc.engines import costs_of, share_input_bytes
from secagg.mpc.sorting.methods import sort_cost
from secagg.network.simulated import simulate
from secagg.party import SHARED, Party, PartyId
from secagg.protocols import group_by
from secagg.protocols.pseudonyms import agree_hash_key
from secagg.protocols.row_counts import padded
from secagg.query import planner, sql
from secagg.query.algebra import Scan, relations
from secagg.query.announcement import Announced, announce
from secagg.query.blocks import Block, blocks, outside_ranges, share_rows, shared_tables, sizes
from secagg.query.declaration import Declaration
from secagg.query.division import divided
from secagg.query.encoding import Encoded, log2_false_match
from secagg.query.execute import Execution, check_computable
from secagg.query.own_groups import OwnGroups, own_groups
from secagg.query.owner import Prepared, Source, from_mapping, prepare
from secagg.query.planner import Plan
from secagg.query.results import (
    Opened,
    open_checks,
    open_to_receivers,
    receive_result,
    receive_shape,
    result_table,
    rows_of,
)
from secagg.query.rows import Rows
from secagg.query.rules import OwnerRules, apply
from secagg.query.shards import costs_of_shards, run_shard_after_shard
from secagg.query.terms import QueryTerms

PHASES: Final = ("share", "compute", "open")
CHECKED: Final = "compute"  # the mark of checkpoints behind the opening of the checks


def plan_query(
    text: str,
    declaration: Declaration,
    receivers: Sequence[PartyId],
    rules: Mapping[PartyId, OwnerRules] | None = None,
) -> Plan:
    """Return what is computed where, as each party works it out before anybody reads data.

    Args:
      text: SQL.
      receivers: to whom the result is opened.
      rules: by owner, for all who hold a table that is read. Without them nothing is suppressed, and every use is allowed.

    Raises:
      RuleError: a rule does not allow the query; the message names rule, column and owner.
      UsageError: the query cannot be used; see `sql.plan` and `planner.plan`.
    """
    query = sql.plan(text, declaration)
    applied = None if rules is None else apply(query.root, rules, receivers, declaration)
    return planner.plan(query, declaration, applied)


def check(plan: Plan, terms: QueryTerms) -> None:
    """Refuse a plan that cannot be computed by these parties, or that rules do not allow for them.

    Raises:
      PlanError: the parties do not fit the plan.
      RuleError: the result is for others than those for whom rules were applied, or filtered rows would be counted.
    """
    strangers = [name for name in plan.owners if name not in terms.parties]
    if strangers:
        raise PlanError(
            f"the declaration says that {', '.join(strangers)} hold tables, and the parties are {', '.join(terms.parties)}"
        )
    if len(terms.computing) not in (3, 4):
        raise PlanError(
            f"expected three or four computing parties, got {', '.join(terms.computing) or 'none'}"
        )
    if not terms.recipients:
        raise PlanError("expected somebody whom the result is revealed to, got nobody")
    if terms.about_own:
        own_column(plan)
        if outsiders := [name for name in terms.about_own if name not in plan.owners]:
            raise PlanError(
                f"rows of their own are revealed to owners, and {', '.join(outsiders)} hold no table that the query reads"
            )
    check_rules(plan, terms)
    if terms.shards > 1:
        if (groups := possible_groups(plan, terms)) is not None:
            groups.layout(dict.fromkeys(plan.owners, (0,)), terms.shards)
        else:
            divided(plan, terms)
    cost(
        lambda party: check_computable(party, plan, terms.computing),
        dict.fromkeys(terms.parties, ()),
        computing=terms.computing,
    )


def check_rules(plan: Plan, terms: QueryTerms) -> None:
    """Refuse what the rules that were applied to a plan do not allow, as `check` says."""
    if plan.rules is None:
        return
    if (allowed := plan.rules.receivers) != set(terms.recipients):
        raise RuleError(
            f"the rules were applied for a result opened to {', '.join(sorted(allowed))}, and it is to be opened to "
            f"{', '.join(terms.recipients)}; plan the query for these"
        )
    if terms.announce_filtered:
        raise RuleError(
            "owners' rules do not allow announce_filtered: it tells of how many rows of each owner a condition holds; "
            "leave it out"
        )


def own_column(plan: Plan) -> str:
    """Return the column of the result that says whose a row is: the first identifier."""
    for column in plan.root.columns:
        if column.domain.kind == "identifier":
            return column.name
    raise PlanError(
        "a result that is revealed to owners, each about its own rows, needs a column with an identifier; name those who "
        "get it instead"
    )


def has_identifiers(plan: Plan) -> bool:
    """Return whether the plan shares identifiers, so that there is a key of pseudonyms."""
    return any(
        of.kind == "identifier"
        for local in plan.locals
        for owner in local.holders
        for of in local.fields_of(owner)
    )


def announced_counts(
    plan: Plan, rows: Mapping[PartyId, int], step: int = 1
) -> dict[PartyId, tuple[int, ...]]:
    """Return the row counts that owners announce if each has so many rows in each of its tables."""
    return {
        owner: tuple(
            padded(min(rows[owner], local.per_holder), step) for local in plan.of(owner) if not local.is_dense
        )
        for owner in plan.owners
    }


def log2_confused(plan: Plan, counts: Mapping[PartyId, Sequence[int]]) -> float:
    """Return log2 of a bound on the probability that two different identifiers are taken for one."""
    total = 0
    for block in blocks(plan, counts):
        total += block.rows * sum(of.kind == "identifier" for of in block.fields)
    return log2_false_match(total)


async def agree(party: Party, plan: Plan, terms: QueryTerms, mine: Prepared | None) -> Announced:
    """Announce this party's rows, if it is an owner, and return what all announced.

    Raises:
      RuleError: see `check`.
      RemoteProtocolError: see `announce`; also where a peer applies other rules.
    """
    check_rules(plan, terms)
    own = None if mine is None else (mine.counts(terms.step), mine.columns)
    return await _announced(party, plan, terms, own)


async def _announced(
    party: Party, plan: Plan, terms: QueryTerms, own: tuple[tuple[int, ...], Sequence[Encoded]] | None
) -> Announced:
    limits = {
        owner: (
            sum(not local.is_dense for local in plan.of(owner)),
            max((padded(local.per_holder, terms.step) for local in plan.of(owner)), default=0),
        )
        for owner in plan.owners
    }
    rules = b"" if plan.rules is None else plan.rules.digest
    return await announce(party, limits, own, step=terms.step, computing=terms.computing, rules=rules)


async def take_part(
    party: Party, plan: Plan, terms: QueryTerms, announced: Announced, mine: Prepared | None
) -> list[tuple[Any, ...]] | None:
    """Compute a query whose rows are announced; return the rows that this party is told, None if it is told nothing.

    Raises:
      DataError: a key that was declared unique is not.
      RemoteProtocolError: a peer sent what the protocol forbids.
    """
    if (groups := chosen_groups(plan, terms, announced.counts)) is not None:
        return await groups.run(party, plan, announced, mine)
    if terms.shards > 1:
        return await run_shard_after_shard(party, divided(plan, terms), terms, announced, mine)
    resumes = party.checkpoints.resumes
    with party.phase("share"):
        key = None
        if resumes is not None:
            key = party.checkpoints.content()["key"]
        elif mine is not None and has_identifiers(plan):
            key = await agree_hash_key(party, announced.contribution, announced.contributions)
        own_blocks = [block for block in blocks(plan, announced.counts) if block.holder == party.me]
        inputs, names = ([], {}) if mine is None else mine.shared(own_blocks, key)
    if party.me in terms.computing:
        opened = await compute(party, plan, terms, announced.counts, inputs, key)
    else:
        opened = None
        if resumes is None:
            party.checkpoints.keep(SHARED, {"key": key})
        if mine is not None and resumes is None:
            with party.phase("share"):
                await share_rows(party, terms.computing, inputs)
        if party.me in _told(plan, terms):
            with party.phase("open"):
                opened = await receive_result(party, terms.computing, plan.fields)
    if opened is None:
        return [] if party.me in terms.about_own else None
    return rows_of(opened, names)


async def compute(
    party: Party,
    plan: Plan,
    terms: QueryTerms,
    counts: Mapping[PartyId, Sequence[int]],
    inputs: Sequence[Any],
    key: bytes | None = None,
) -> list[Opened] | None:
    """Take part at a computing party; return the opened result if it is a receiver.

    Args:
      key: of the pseudonyms, which an owner needs again when the run goes on.
    """
    engine = await Engine.create(party, terms.computing, label="query")
    by_block = shared_tables(engine, blocks(plan, counts), inputs)
    shared: dict[planner.Local, list[tables.Table]] = {}
    for block, table in by_block:
        shared.setdefault(block.local, []).append(table)
    execution = Execution(engine, shared)
    execution.checks += outside_ranges(by_block)
    with party.phase("compute"):
        rows = execution(plan.root)
        results = [
            (receivers, *result_table(part, plan.fields))
            for receivers, part in _parts(plan, terms, rows, by_block)
        ]
    stages, matrices = Stages(engine, own={"key": key}), [matrix for _, matrix, _ in results]
    with party.phase("share"):
        checked = not await stages.share(SHARED, [*(bit for bit, _ in execution.checks), *matrices])
    with party.phase("open"):
        if not checked:
            await open_checks(engine, execution.checks)
        if not await stages.enter(CHECKED, matrices):
            raise UsageError("this query does not know where this run goes on; start it anew")
        return await open_to_receivers(engine, results)


def _parts(
    plan: Plan,
    terms: QueryTerms,
    rows: Rows,
    by_block: Sequence[tuple[Block, tables.Table]],
) -> list[tuple[tuple[PartyId, ...], Rows]]:
    """Return what is opened to whom."""
    found: list[tuple[tuple[PartyId, ...], Rows]] = []
    if terms.receivers:
        found.append((terms.receivers, rows))
    for receiver in _told(plan, terms):
        if receiver in terms.receivers:
            continue
        column = own_column(plan)
        own = [
            tables.Table({f"{column}\0own": tables.Column(table[name].values, table[name].null)}, table.valid)
            for block, table in by_block
            if block.holder == receiver
            for name in identifiers_of(plan, block.local)
        ]
        joined, _ = tables.join(rows.table, tables.concat(own), [(column, f"{column}\0own")], how="semi")
        found.append(((receiver,), rows.with_table(joined)))
    return found


def own_identifiers(plan: Plan, prepared: Prepared) -> frozenset[str]:
    """Return an owner's identifiers by which rows of the result are its own."""
    found: set[str] = set()
    for part in prepared.parts:
        same = part.local.held[prepared.owner].same
        wanted = {same.get(name, name) for name in identifiers_of(plan, part.local)}
        for column in part.columns:
            if column.of.name in wanted:
                found |= {one for one, row in zip(column.values, part.rows, strict=True) if row and one}
    return frozenset(found)


def identifiers_of(plan: Plan, local: planner.Local) -> list[str]:
    """Return the columns of a leaf by which rows of the result are its owner's own."""
    sources = {dependence.source for dependence in plan.root[own_column(plan)].lineage}
    return [
        column.name
        for column in local.shared
        if column.domain.kind == "identifier" and sources & {d.source for d in column.lineage}
    ]


def _told(plan: Plan, terms: QueryTerms) -> tuple[PartyId, ...]:
    """Return to whom something is opened: not to an owner that shares no identifiers, which has no rows of its own."""
    own = [name for name in terms.about_own if any(identifiers_of(plan, local) for local in plan.of(name))]
    return tuple(dict.fromkeys([*terms.receivers, *own]))


def expected_cost(plan: Plan, terms: QueryTerms, counts: Mapping[PartyId, Sequence[int]]) -> Cost:
    """Return what a query costs in which these row counts are announced, with what all parties send; sorts as expected."""
    if (groups := chosen_groups(plan, terms, counts)) is not None:
        return group_by.cost(groups.layout(counts, terms.shards), terms.parties)
    if terms.shards > 1:
        shard, main = _costs_in_shards(plan, terms, counts)
        # Shards take turns, as with one worker a party: so their rounds add up.
        return main.then(*[shard] * terms.shards)
    return _joint_cost(plan, terms, counts)


def cost_above_shards(plan: Plan, terms: QueryTerms, counts: Mapping[PartyId, Sequence[int]]) -> Cost:
    """Return what of `expected_cost` the main session of a query in shards has; of one query on groups, next to nothing."""
    if possible_groups(plan, terms) is not None:
        return Cost(0, dict.fromkeys(terms.parties, 0))
    return _costs_in_shards(plan, terms, counts)[1]


def _costs_in_shards(
    plan: Plan, terms: QueryTerms, counts: Mapping[PartyId, Sequence[int]]
) -> tuple[Cost, Cost]:
    return costs_of_shards(divided(plan, terms), terms, counts, partial(_before, plan, terms, counts))


def chosen_groups(plan: Plan, terms: QueryTerms, counts: Mapping[PartyId, Sequence[int]]) -> OwnGroups | None:
    """Return the plan as one query on groups, where it is one and no party sends more than for the sorts of the joint plan.

    That sorts all rows by group, and for each owner all rows and its own by identifier. In shards there is no other way.
    """
    found = possible_groups(plan, terms)
    if found is None or terms.shards > 1:
        return found
    try:
        layout = found.layout(counts)
    except PlanError:  # too many rows for one table
        return None
    every = blocks(plan, counts)
    rows, columns = sum(block.rows for block in every), 1 + len(found.local.shared)
    sorts = [(rows, columns), *((rows + block.rows, columns + 1) for block in every)]
    costs = costs_of(terms.computing)
    joint = [sort_cost(costs, n, [1, 64], [8 * n] * k, elements=[64]) for n, k in sorts]
    least = joint[0].then(*joint[1:])
    sent = group_by.cost(layout, terms.parties)
    return found if max(sent.payload_bytes.values()) <= max(least.payload_bytes.values()) else None


def possible_groups(plan: Plan, terms: QueryTerms) -> OwnGroups | None:
    """Return the plan as one query on groups, where it is one."""
    if terms.receivers:
        return None
    return own_groups(plan, terms.computing, terms.about_own, terms.step)


def _joint_cost(plan: Plan, terms: QueryTerms, counts: Mapping[PartyId, Sequence[int]]) -> Cost:
    every = blocks(plan, counts)
    before = partial(_before, plan, terms, counts)

    async def computing(party: Party) -> None:
        await before(party)
        await compute(party, plan, terms, counts, [])

    async def outside(party: Party) -> None:
        await before(party)
        for _ in sizes(every, party.me):
            await share_nothing(party, terms.computing)
        if party.me in _told(plan, terms) and (await receive_shape(party, terms.computing, plan.fields)).rows:
            await receive_nothing(party, terms.computing, int64)

    others = {name: outside for name in terms.parties if name not in terms.computing}
    found = cost(computing, dict.fromkeys(terms.parties, ()), computing=terms.computing, outside=others)
    sent = {name: found.payload_bytes.get(name, 0) for name in terms.parties}
    for name in others:
        sent[name] += sum(share_input_bytes(terms.computing, n) for n in sizes(every, name))
    return Cost(found.rounds, sent, expected=found.expected)


async def _before(
    plan: Plan, terms: QueryTerms, counts: Mapping[PartyId, Sequence[int]], party: Party
) -> None:
    """Announce rows and agree on the hash key, in a rehearsal."""
    own: tuple[tuple[int, ...], list[Encoded]] | None = None
    if party.me in plan.owners:
        own = tuple(counts[party.me]), []
    announced = await _announced(party, plan, terms, own)
    if own is not None and has_identifiers(plan):
        await agree_hash_key(party, announced.contribution, announced.contributions)


def run(
    text: str,
    declaration: Declaration | str,
    tables_by_org: Mapping[PartyId, Mapping[str, Any]],
    *,
    to: Sequence[PartyId] | PartyId | None = None,
    computing: Sequence[PartyId] | None = None,
    announce_filtered: bool = False,
    rules: Mapping[PartyId, OwnerRules] | None = None,
    shards: int = 1,
) -> list[tuple[Any, ...]]:
    """Run a query with all parties in this thread, for notebooks and tests; return what the first receiver is told.

    Without `rules`, nothing is suppressed: small groups and single rows are told as they are.

    Args:
      text: SQL.
      declaration: of the tables, or its TOML.
      tables_by_org: each owner's tables by name: what DuckDB takes as a relation, or lists by column.
      to: who gets the result; by default the first computing party.
      computing: by default three of the owners, with others where there are fewer.
      announce_filtered: see `QueryTerms`; owners' rules do not allow it.
      rules: by owner; see `plan_query`.
      shards: into how many shards the work is divided, one after the other.

    Raises:
      RuleError: an owner's rules do not allow the query; no table has been read.
      UsageError: the query, the declaration or a table cannot be used; see `sql.plan`, `planner.plan` and `owner.prepare`.
    """
    declared = _declared(declaration)
    chosen = _computing(owners_of(text, declared), computing)
    receivers = chosen[:1] if to is None else ((to,) if isinstance(to, str) else tuple(to))
    plan = plan_query(text, declared, receivers, rules)
    terms = QueryTerms((), chosen, receivers, announce_filtered=announce_filtered, shards=shards)
    return _simulated(plan, tables_by_org, terms)[receivers[0]]


def run_for_owners(
    text: str,
    declaration: Declaration | str,
    tables_by_org: Mapping[PartyId, Mapping[str, Any]],
    *,
    computing: Sequence[PartyId] | None = None,
    rules: Mapping[PartyId, OwnerRules] | None = None,
) -> dict[PartyId, list[tuple[Any, ...]]]:
    """Run a query as `run`, and return what each owner is told: the rows of the result that are about its own."""
    declared = _declared(declaration)
    owners = owners_of(text, declared)
    plan = plan_query(text, declared, owners, rules)
    return _simulated(
        plan, tables_by_org, QueryTerms((), _computing(owners, computing), (), about_own=owners)
    )


def _declared(declaration: Declaration | str) -> Declaration:
    return Declaration.parse(declaration) if isinstance(declaration, str) else declaration


def owners_of(text: str, declaration: Declaration) -> tuple[PartyId, ...]:
    """Return who holds tables that a query reads, in the order in which they first come."""
    scans = [one for one in relations(sql.plan(text, declaration).root) if isinstance(one, Scan)]
    return tuple(dict.fromkeys(holder for one in scans for holder in declaration[one.table].holders))


def _computing(owners: Sequence[PartyId], chosen: Sequence[PartyId] | None) -> tuple[PartyId, ...]:
    if chosen is not None:
        return tuple(chosen)
    return (*owners, *(f"computing-{i}" for i in range(1, 4)))[:3]


def _simulated(
    plan: Plan,
    tables_by_org: Mapping[PartyId, Mapping[str, Any]],
    asked: QueryTerms,
) -> dict[PartyId, list[tuple[Any, ...]]]:
    owners = plan.owners
    unknown = [name for name in tables_by_org if name not in plan.declaration.holders]
    missing = [name for name in owners if name not in tables_by_org]
    if unknown or missing:
        raise UsageError(
            f"expected tables of {', '.join(owners)}, got "
            + (
                f"none of {', '.join(missing)}"
                if missing
                else f"some of {', '.join(unknown)}, who hold nothing"
            )
        )
    parties = tuple(dict.fromkeys([*owners, *asked.computing, *asked.recipients]))
    terms = replace(asked, parties=parties)
    check(plan, terms)
    prepared = {
        owner: prepare(plan, owner, _source(tables_by_org, owner), announce_filtered=terms.announce_filtered)
        for owner in owners
    }
    programs = {name: partial(_program, plan, terms, prepared.get(name)) for name in parties}
    results = dict(zip(parties, simulate(programs).values(), strict=True))
    return {name: results[name] or [] for name in terms.recipients}


def _source(tables_by_org: Mapping[PartyId, Mapping[str, Any]], owner: PartyId) -> Source:
    return from_mapping(tables_by_org[owner], owner)


async def _program(
    plan: Plan, terms: QueryTerms, mine: Prepared | None, party: Party
) -> list[tuple[Any, ...]] | None:
    announced = await agree(party, plan, terms, mine)
    return await take_part(party, plan, terms, announced, mine)
