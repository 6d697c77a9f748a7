"""Queries in shards: what ends a run, that no shard is told of, and shards that are done again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import pooled_queries as pooled
from secagg import simulate
from secagg.errors import CheatingError, DataError, PlanError, UsageError
from secagg.jobs import plain
from secagg.mpc.arrays.dtypes import boolean, int64
from secagg.mpc.arrays.engine import Engine
from secagg.mpc.arrays.handing_on import blank
from secagg.mpc.tables import Column, Table
from secagg.mpc.tables.table import Order
from secagg.query import division, shards
from secagg.query.declaration import Declaration
from secagg.query.division import divided
from secagg.query.joint_run import agree, plan_query
from secagg.query.rows import Rows
from shard_queries import AGES, DECLARATION, HELD, OWNERS, SOME, played, prepared, tables_of, terms_of

BY_KIND = "SELECT m.kind, count(*) c, sum(m.n) s FROM moves m JOIN people p ON m.who = p.id GROUP BY m.kind"
SPLIT = DECLARATION.replace(
    '[tables.people]\nholder = "south"', '[tables.people]\nholders = ["north", "south"]'
)


def planned(query, declaration=DECLARATION):
    return plan_query(query, Declaration.parse(declaration), OWNERS)


def many(owner, count):
    """Return moves of so many different persons."""
    return [(f"{owner}{i}", *SOME[0][1:]) for i in range(count)]


# Overflow.


@pytest.mark.slow
def test_rows_that_do_not_fit_into_their_block_end_the_run_before_anything_is_shared(monkeypatch):
    plan, terms = planned(BY_KIND), terms_of(2)
    monkeypatch.setattr(division, "capacity", lambda n, shards, lists, most: 1)
    held = prepared(plan, tables_of({"north": many("n", 12), "south": [], "west": []}, {}))
    outcome = played(plan, terms, held)
    says = r"more than the 1 rows of moves that are kept for north fell into one shard.*nothing was shared; run again"
    with pytest.raises(PlanError, match=says):
        outcome.values()
    assert all(ledger.total().sent.payload_bytes == 0 for ledger in outcome.ledgers.values())


@pytest.mark.parametrize(("places", "fits"), [(2, False), (3, True)])
def test_a_block_takes_as_many_rows_as_it_has_places(monkeypatch, places, fits):
    plan, terms = planned(BY_KIND), terms_of(2)
    monkeypatch.setattr(division, "capacity", lambda n, shards, lists, most: places)
    held = prepared(plan, tables_of({"north": [SOME[0]] * 3, "south": [], "west": []}, {}))

    async def program(party):
        mine = held.get(party.me)
        announced = await agree(party, plan, terms, mine)
        return (await shards.divide(party, divided(plan, terms), terms, announced, mine)).own(0)

    outcome = simulate(dict.fromkeys(OWNERS, program))
    assert ("north" not in outcome.errors) == fits
    if not fits:
        assert isinstance(outcome.errors["north"], PlanError)


@pytest.mark.slow
def test_blocks_have_the_same_shape_in_every_shard_whatever_an_owner_has():
    plan, terms = planned(BY_KIND), terms_of(4)
    shapes = []
    for rows in ([SOME[0]] * 15, many("somebody", 15)):
        held = prepared(plan, tables_of({"north": rows, "south": [], "west": []}, {}))

        async def program(party, held=held):
            mine = held.get(party.me)
            announced = await agree(party, plan, terms, mine)
            d = divided(plan, terms)
            division_ = await shards.divide(party, d, terms, announced, mine)
            return [division_.own(k) for k in range(4)]

        own = simulate(dict.fromkeys(OWNERS, program)).values()[0]
        shapes.append([[(a.shape, b.shape) for a, b in blocks] for blocks in own])
        assert sum(int(blocks[0][1][0].sum()) for blocks in own) == 15  # each row once
        assert plain.decode(plain.encode({"own": own}))["own"]  # plain data for a worker
        texts = str(plain.encode({"own": own}))
        assert "somebody" not in texts
    assert shapes[0] == shapes[1]
    assert all(one == shapes[0][0] for one in shapes[0])


# What is checked over all shards.


def opened_in(monkeypatch):
    """Note what engines open: how many arrays, and how large."""
    found: list[list[int]] = []
    open_each = Engine.open_each

    async def noted(self, openings):
        if self.party.me == "north":
            found.append([int(np.prod(x.shape)) for x, _ in openings])
        return await open_each(self, openings)

    monkeypatch.setattr(Engine, "open_each", noted)
    return found


@pytest.mark.slow
def test_one_bit_for_each_check_and_the_result_are_opened_however_many_shards_there_are(monkeypatch):
    plan, held = planned(BY_KIND), prepared(planned(BY_KIND), HELD)
    found = opened_in(monkeypatch)
    for count in (2, 8):
        found.clear()
        played(plan, terms_of(count), held).values()
        checks, (result,) = found
        # Ranges of three owners' moves, the unique key, and of three blocks of moves and one of people whether rows lie in
        # their shards, and are no more than announced.
        assert checks == [1] * (3 + 1 + 4 + 4)
        assert result == 6 * 4 * count  # valid, kind and s with NULL, c; of each shard four groups


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 4])
def test_a_key_that_two_owners_have_ends_the_run_with_the_same_words_as_in_one_piece(count):
    plan = planned(BY_KIND, SPLIT)
    tables = tables_of({"north": list(SOME), "south": [], "west": []}, AGES)
    tables["north"]["people"] = {"id": ["q", "a"], "age": [1, 2]}  # south has a too
    with pytest.raises(DataError) as caught:
        played(plan, terms_of(count), prepared(plan, tables)).values()
    assert str(caught.value) == (
        "p.id is declared unique, and several rows have one value (of people); nothing of the result was opened"
    )


@pytest.mark.slow
def test_an_owner_with_more_rows_than_it_announced_over_all_shards_is_named_and_nothing_is_opened(
    monkeypatch,
):
    plan, terms = planned(BY_KIND), terms_of(2)
    held = prepared(plan, tables_of({"north": [], "south": [], "west": many("w", 20)}, AGES))
    (part,) = held["west"].parts
    held["west"] = replace(
        held["west"], parts=(replace(part, announced=19),)
    )  # of which a shard could have all
    found = opened_in(monkeypatch)
    with pytest.raises(
        DataError, match=r"^west shared more rows of moves than it announced; nothing of the result"
    ):
        played(plan, terms, held).values()
    assert len(found) == 1  # the checks


@pytest.mark.slow
def test_a_number_outside_its_range_in_any_shard_ends_the_run():
    plan = planned(BY_KIND)
    held = prepared(plan, tables_of({"north": list(SOME), "south": [], "west": many("w", 9)}, AGES))
    column = next(c for c in held["west"].parts[0].columns if c.of.name == "m.n")
    column.values[4] = 10
    with pytest.raises(
        DataError, match=r"^west shared numbers of moves outside the range that the plan gives them;"
    ):
        played(plan, terms_of(4), held).values()


TWO_WAYS = """
[tables.moves]
holders = ["north", "south", "west"]
max_rows = 20
[tables.moves.columns]
who = {type = "identifier", max_rows = 9}
payee = {type = "identifier", max_rows = 9}
n = {type = "integer", min = 0, max = 9}
[tables.people]
holder = "south"
max_rows = 20
keys = [["id"]]
[tables.people.columns]
id = "identifier"
age = {type = "integer", min = 0, max = 99}
"""
BY_PAYEE = """
SELECT p.age, count(*) c FROM moves m JOIN people p ON m.who = p.id
JOIN (SELECT payee, sum(n) s FROM moves GROUP BY payee HAVING sum(n) > 5) g ON m.payee = g.payee GROUP BY p.age"""


@pytest.mark.slow
def test_a_number_outside_its_range_of_a_table_that_is_shared_once_ends_the_run():
    plan = planned(
        f"SELECT j.kind, j.s, f.fee FROM ({BY_KIND.replace('count(*) c, ', '')}) j JOIN fees f ON j.kind = f.kind"
    )
    held = prepared(plan, HELD)
    part = next(part for part in held["west"].parts if part.local.table == "fees")
    next(c for c in part.columns if c.of.name.endswith("fee")).values[0] = 10
    with pytest.raises(
        DataError, match=r"^west shared numbers of fees outside the range that the plan gives them;"
    ):
        played(plan, terms_of(2), held).values()


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 9])
@pytest.mark.parametrize("others", [(), ("fourth",)])
def test_rows_that_an_altered_owner_puts_into_another_shard_end_the_run_and_tell_nothing_of_others(
    monkeypatch, n, others
):
    """Groups of one payee in two shards would break the key of a join above: just where the others' group passes, n = 9."""
    plan = planned(BY_PAYEE, TWO_WAYS)
    assert len(divided(plan, terms_of(2)).parts) == 2
    held = {
        "north": {"moves": {"who": ["a", "b"], "payee": ["x", "y"], "n": [n, 1]}},
        "south": {
            "moves": {"who": ["a"], "payee": ["z"], "n": [3]},
            "people": {"id": ["a", "b"], "age": [3, 4]},
        },
        "west": {"moves": {"who": ["q"], "payee": ["x"], "n": [9]}},
    }
    own = shards.Division.own

    def moved(self, shard):
        found, other = own(self, shard), own(self, 1 - shard)
        if found is None or other is None or self.divided[0].block.holder != "west":
            return found
        of_payees = [
            any(c.of.name != "m.who" and c.of.name.startswith("m.") for c, _ in one.columns)
            for one in self.divided
        ]
        assert sorted(of_payees) == [False, True]
        return [
            block if kept else misplaced
            for block, misplaced, kept in zip(found, other, of_payees, strict=True)
        ]

    monkeypatch.setattr(shards.Division, "own", moved)
    found = opened_in(monkeypatch)
    with pytest.raises(DataError) as caught:
        played(plan, terms_of(2, (*OWNERS, *others)), prepared(plan, held)).values()
    assert str(caught.value) == (
        "west shared rows of moves in other shards than their identifiers'; nothing of the result was opened"
    )
    assert len(found) == 1  # the checks


# Shards that are done again.


def again(plan, terms, held, chosen):
    """Return the outcome where each shard is computed twice; chosen: which attempt each party goes on with."""

    async def program(party):
        mine = held.get(party.me)
        announced = await agree(party, plan, terms, mine)
        d = divided(plan, terms)
        division_ = await shards.divide(party, d, terms, announced, mine)
        kept, attempts = [], []
        for k in range(terms.shards):
            both = [
                await shards.compute_shard(
                    party, d, terms, announced.counts, k, division_.own(k), label=f"{k} {attempt}"
                )
                for attempt in range(2)
            ]
            attempts.append(both)
            kept.append(both[chosen(party.me)])
        return attempts, await shards.finish(party, d, terms, announced, division_, kept)

    return simulate(dict.fromkeys(terms.parties, program))


@pytest.mark.slow
@pytest.mark.parametrize("others", [(), ("fourth",)])
def test_a_shard_that_is_done_again_has_other_shares_and_the_same_answer(others):
    plan, terms = planned(BY_KIND), terms_of(2, (*OWNERS, *others))
    results = again(plan, terms, prepared(plan, HELD), lambda _: 1).values()
    attempts, told = results[0]
    assert pooled.alike(told, pooled.answer(BY_KIND, DECLARATION, HELD), ordered=False)
    for first, second in attempts:
        assert [[part.shape for part in parts] for parts in first.arrays] == [
            [part.shape for part in parts] for parts in second.arrays
        ]
        assert not all(
            np.array_equal(a, b)
            for one, other in zip(first.arrays, second.arrays, strict=True)
            for a, b in zip(one, other, strict=True)
        )
        assert "array" not in repr(first)


@pytest.mark.slow
def test_one_of_four_that_goes_on_with_another_attempt_is_named():
    plan, terms = planned(BY_KIND), terms_of(2, (*OWNERS, "fourth"))
    outcome = again(plan, terms, prepared(plan, HELD), lambda me: int(me == "west"))
    with pytest.raises(CheatingError, match="other shares") as caught:
        outcome.values()
    assert caught.value.suspects == ("west",)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["fewer shards", "fewer arrays", "other shapes"])
def test_what_is_no_kept_shard_of_this_query_is_refused(wrong):
    plan, terms = planned(BY_KIND), terms_of(2)
    held = prepared(plan, HELD)

    async def program(party):
        mine = held.get(party.me)
        announced = await agree(party, plan, terms, mine)
        d = divided(plan, terms)
        division_ = await shards.divide(party, d, terms, announced, mine)
        kept = [
            await shards.compute_shard(party, d, terms, announced.counts, k, division_.own(k), label=str(k))
            for k in range(2)
        ]
        last = kept[1]
        assert last is not None
        if wrong == "fewer shards":
            kept = kept[:1]
        elif wrong == "fewer arrays":
            kept[1] = shards.KeptShard(last.arrays[:-1])
        else:
            kept[1] = shards.KeptShard([[part[:-1] for part in parts] for parts in last.arrays])
        return await shards.finish(party, d, terms, announced, division_, kept)

    with pytest.raises(UsageError, match=r"keeps of 2 shards|expected shares of"):
        simulate(dict.fromkeys(OWNERS, program)).values()


@pytest.mark.parametrize(
    ("own", "got"), [([], "expected 2 blocks of south in a shard, got 0"), ([None] * 3, "got 3")]
)
def test_another_number_of_own_blocks_than_the_plan_has_is_refused_before_anything_is_sent(own, got):
    plan, terms = planned(BY_KIND), terms_of(2)
    counts = {name: mine.counts(1) for name, mine in prepared(plan, HELD).items()}

    async def program(party):
        mine = own if party.me == "south" else None
        return await shards.compute_shard(party, divided(plan, terms), terms, counts, 0, mine)

    outcome = simulate(dict.fromkeys(OWNERS, program))
    with pytest.raises(UsageError, match=got):
        outcome.values()
    assert outcome.ledgers["south"].total().sent.messages == 0


@pytest.mark.parametrize(("packed", "handed_on"), [(True, 4), (False, 20)])
def test_places_are_left_out_only_behind_rows_that_come_first(packed, handed_on):
    """A row that counts may stand at any place of a table that is not packed."""
    part = divided(planned(BY_KIND), terms_of(2)).parts[0]

    async def program(party):
        engine = await Engine.create(party)
        values, valid = blank(engine, (20,), int64), blank(engine, (20,), boolean)
        table = Table({"c": Column(values, valid)}, valid, Order(packed=packed))
        found = shards._handed_on(Rows(table, {}), part).table
        return found.rows, found["c"].rows

    assert part.rows_of_each == 4
    assert simulate(dict.fromkeys(OWNERS, program)).values() == [(handed_on, handed_on)] * 3
