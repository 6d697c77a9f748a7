"""What an input party with an altered program puts in is a well-formed list, or ends the run and names its owner."""

from __future__ import annotations

import itertools
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pytest

import transcripts
from bank_tables import terms_of
from blame import blamed
from secagg.errors import AbortedError, RemoteProtocolError
from secagg.mpc.bits import plane_order
from secagg.mpc.buckets import Buckets
from secagg.mpc.groups import XOR
from secagg.mpc.primitives import Shares
from secagg.mpc.three import inputs as mpc_inputs
from secagg.mpc.three.engine import ThreeEngine
from secagg.mpc.three.inputs import InputFromOutside, share_input
from secagg.mpc.three.opening import Opening
from secagg.mpc.three.streams import Purpose
from secagg.network.simulated import simulate
from secagg.patterns.banking import COLLECTORS
from secagg.protocols.group_by import (
    Field,
    Layout,
    Query,
    Rows,
    find_groups,
    lists,
    reference,
)
from secagg.protocols.group_by.owner import PlacedRows
from shared import opened

THREE = ("P0", "P1", "P2")
ONES = np.uint64(2**64 - 1)
PARAMETERS = COLLECTORS.Parameters(min_senders=6, min_banks=2, min_total_cents=1000)


def rows(names, values=(4, 600_000, 1)) -> Rows:
    listed = [*names]
    return Rows(
        np.array([*listed, None], object)[:-1], np.array([values] * len(listed), np.uint64).reshape(-1, 3)
    )


TABLES = {
    "A": rows([f"v{i}" for i in range(30)] + [f"a{i}" for i in range(30)]),
    "B": rows([f"v{i}" for i in range(30)] + [f"b{i}" for i in range(30)]),
    "M": rows([f"m{i}" for i in range(60)]),
}


class Altered(PlacedRows):
    """What a party puts in that checks nothing of its own and changes its list before it shares it."""

    def _checked(self, order, words):
        return self

    def read(self, opened):
        return "results"


def cut(placed: PlacedRows, planes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return views (keys, mark, values) of planes, each (planes, positions, words); the mark is the last key plane."""
    layout = placed.layout
    table = planes.reshape(len(planes), -1, layout.buckets.words)
    return table[: layout.key_planes], table[layout.key_planes - 1], table[layout.key_planes :]


def lowest(word: np.uint64) -> np.uint64:
    """Return the lowest bit of a word alone."""
    return np.uint64(int(word) & -int(word))


def reverse(placed, planes):
    keys, _, values = cut(placed, planes)
    keys[:], values[:] = keys[:, ::-1].copy(), values[:, ::-1].copy()


def sawtooth(placed, planes):
    keys, _, values = cut(placed, planes)
    keys[:], values[:] = 0, 0
    keys[:, ::2] = ONES


def all_keys_zero(placed, planes):
    keys, _, values = cut(placed, planes)
    keys[:], values[:] = 0, 0


def fill_padding(placed, planes):
    _, mark, values = cut(placed, planes)
    values[0] |= mark


def fill_one_place_of_padding(placed, planes):
    _, mark, values = cut(placed, planes)
    position, word = np.argwhere(mark)[-1]
    values[-1, position, word] |= lowest(mark[position, word])


def raise_a_value(placed, planes):
    """One row's senders: 100,001 where 100,000 is the largest, and all bits of it set are 131,071."""
    _, mark, values = cut(placed, planes)
    position, word = np.argwhere(~mark)[0]
    lane = lowest(~mark[position, word])
    for bit in range(17):
        values[bit, position, word] &= ~lane
        if 100_001 >> bit & 1:
            values[bit, position, word] |= lane


def fill_every_place(placed, planes):
    """Rows with rising keys in all places, far more than were announced."""
    keys, _, values = cut(placed, planes)
    place_of = np.argsort(plane_order(len(keys)))
    for bit in range(len(keys)):
        set_at = np.arange(keys.shape[1]) >> bit & 1 if bit < 30 else np.zeros(keys.shape[1], int)
        keys[place_of[bit]] = np.where(set_at[:, None].astype(bool), ONES, np.uint64(0))
    values[:] = 0


def one_row_too_many(placed, planes):
    """The first bucket with room for it takes one more row behind its last, with the largest key but padding's."""
    keys, mark, _ = cut(placed, planes)
    lane = np.uint64(1)
    position = next(p for p in range(len(mark)) if mark[p, 0] & lane)
    keys[-1, position, 0] &= ~lane


def padding_first(placed, planes):
    keys, _, values = cut(placed, planes)
    keys[:, 1:], values[:, 1:] = keys[:, :-1].copy(), values[:, :-1].copy()
    keys[:, 0], values[:, 0] = ONES, 0


ALTERATIONS = [
    reverse, sawtooth, all_keys_zero, fill_padding, fill_one_place_of_padding, raise_a_value, fill_every_place,
    one_row_too_many, padding_first,
]  # fmt: skip


def run(monkeypatch, query, tables, alter=lambda placed, planes: None, *, who="M"):
    """Run the banks, of whom `who` puts in its rows with an altered program."""
    place: Any = PlacedRows.place
    place, planes_of = place.__func__, PlacedRows.planes

    def placed(cls, layout, rows, key, me):
        return place(Altered if me == who else cls, layout, rows, key, me)

    def planes(self):
        made = planes_of(self)
        alter(self, made)
        return made

    monkeypatch.setattr(PlacedRows, "place", classmethod(placed))
    monkeypatch.setattr(Altered, "planes", planes, raising=False)
    names = dict.fromkeys((*query.input_parties, *query.computing_parties))
    return simulate({n: partial(find_groups, query=query, rows=tables.get(n)) for n in names}, record=True)


def assert_ends_and_names(outcome, owner, query) -> None:
    """Check that everybody ends with an error that names `owner`, and that one bit a list was opened, nothing more."""
    assert not outcome.results
    for name, error in outcome.errors.items():
        assert isinstance(error, RemoteProtocolError | AbortedError), error
        assert blamed(error) == owner, (name, error)
        assert owner in str(error)
    openings = [m for m in transcripts.sent(outcome.transcript) if isinstance(m.message, Opening)]
    assert len(openings) == 3
    bits = np.bitwise_xor.reduce([m.message.shares[0] for m in openings])
    assert bits.tolist() == [int(name == owner) for name in query.input_parties]


@pytest.mark.slow
@pytest.mark.parametrize("alter", ALTERATIONS)
@pytest.mark.parametrize(
    ("banks", "computing"),
    [("AM", ("A", "x", "y")), ("ABM", ("x", "y", "z"))],
    ids=["one bit after the other", "as trees"],
)
def test_a_list_that_no_table_makes_ends_the_run_before_anything_is_opened(
    monkeypatch, alter, banks, computing
):
    query = COLLECTORS.query(PARAMETERS, terms_of(tuple(banks), computing))
    tables = {name: TABLES[name] for name in banks}
    # The two circuits take turns, so that each meets every alteration.
    monkeypatch.setattr(lists, "_in_turn", lambda layout: banks == "AM")
    assert_ends_and_names(run(monkeypatch, query, tables, alter), "M", query)


@pytest.mark.parametrize("times", [2, 3])
def test_an_identifier_put_in_several_times_does_not_count_as_several_banks(monkeypatch, times):
    query = COLLECTORS.query(
        COLLECTORS.Parameters(min_senders=6, min_banks=3, min_total_cents=1),
        terms_of(("A", "B", "M"), ("x", "y", "z")),
    )
    tables = {"A": rows(["V", "a"]), "B": rows(["b"]), "M": rows(["V"] * times)}
    assert_ends_and_names(run(monkeypatch, query, tables), "M", query)


def test_several_owners_are_all_named(monkeypatch):
    query = COLLECTORS.query(PARAMETERS, terms_of(("A", "M"), ("x", "y", "z")))
    monkeypatch.setattr(PlacedRows, "_checked", lambda self, order, words: self)
    outcome = run(monkeypatch, query, {"A": rows(["v", "v"]), "M": rows(["w", "w"])})
    assert not outcome.results
    assert all(
        "what A, M put in is not a well-formed list" in str(e)
        for n, e in outcome.errors.items()
        if n in "xyz"
    )


def test_a_party_whose_own_list_came_out_broken_says_that_another_computed_wrongly(monkeypatch):
    query = COLLECTORS.query(PARAMETERS, terms_of(("A", "M"), ("x", "y", "M")))
    outcome = run(monkeypatch, query, {"A": TABLES["A"], "M": TABLES["M"]}, reverse)
    assert outcome.errors["M"].peer == ""
    assert "it cannot be known which" in str(outcome.errors["M"])
    assert {blamed(outcome.errors[n]) for n in ("A", "x", "y")} <= {"M"}


@pytest.mark.slow
@pytest.mark.parametrize("key", ["keys of padding", "rows in another bucket"])
def test_what_is_not_checked_gives_the_same_results_to_all_others(monkeypatch, key):
    def alter(placed, planes):
        keys, mark, values = cut(placed, planes)
        if key == "keys of padding":
            keys[:-1] &= ~mark
        else:  # lanes are buckets: each moves to the next one
            for table in (keys, values):
                table[:] = table << np.uint64(1) | table >> np.uint64(63)

    query = COLLECTORS.query(PARAMETERS, terms_of(("A", "B", "M"), ("x", "y", "z")))
    outcome = run(monkeypatch, query, TABLES, alter)
    assert not outcome.errors
    expected = reference(query, list(TABLES.values()))
    for name, plain in zip("AB", expected, strict=False):
        assert int(plain.flagged.sum()) == 30
        assert np.array_equal(outcome.results[name].sums, plain.sums)


def test_different_copies_for_two_computing_parties_end_the_run_and_name_their_owner(monkeypatch):
    """Nothing is opened, least of all to the owner, who would otherwise be the only one to get its results."""

    async def share(party, computing, group, value):
        if party.me != "M":
            return await share_input(party, computing, group, value)
        seeds = [party.rng.bytes(32) for _ in range(2)]
        x2 = value.copy()
        for seed in seeds:
            x2 ^= mpc_inputs._expand(group, seed, value.shape, "M")
        altered = x2.copy()
        altered[0, -1] ^= ONES  # in the last place of each bucket, which is padding
        party.send(computing[0], InputFromOutside(tuple(seeds), None))
        party.send(computing[1], InputFromOutside((seeds[1],), x2))
        party.send(computing[2], InputFromOutside((seeds[0],), altered))
        return None

    monkeypatch.setattr("secagg.protocols.group_by.program.share_input", share)
    query = COLLECTORS.query(PARAMETERS, terms_of(("A", "B", "M"), ("x", "y", "z")))
    outcome = run(monkeypatch, query, TABLES)
    assert not outcome.results
    assert {blamed(error) for error in outcome.errors.values()} == {"M"}
    assert not any(isinstance(m.message, Opening) for m in transcripts.sent(outcome.transcript))
    assert "different copies" in str(outcome.errors["y"])


# The check itself, on shares.


def layout_of(parties, counts, capacities, *, key_planes=4, words=1, most=2) -> Layout:
    fields = (Field("n", most, at_least=1), Field("full", 3))
    query = Query(tuple(f"p{i}" for i in range(parties)), ("p0", "p1", "x"), fields)
    buckets = Buckets(tuple(counts), 64 * words, tuple(capacities), 1)
    return Layout(query, buckets, key_planes, 60, 2)


def opened_bits(layout: Layout, planes: np.ndarray) -> np.ndarray:
    """Return what the check says of each list, opened as whole words."""
    made_up = np.random.default_rng(1)
    a, b = (made_up.integers(0, 2**64, planes.shape, np.uint64) for _ in range(2))
    shares = [a, b, planes ^ a ^ b]

    async def one(party):
        engine = await ThreeEngine.set_up(party, THREE)
        i = engine.channel.index
        joint = Shares(engine, XOR, (shares[i].copy(), shares[(i + 1) % 3].copy()))
        depth, drawn = party.ledger.depth, engine.channel.k_own[Purpose.AND].position
        bits = await lists.broken_lists(joint, layout)
        cost = 8 * (engine.channel.k_own[Purpose.AND].position - drawn), party.ledger.depth - depth
        assert cost == tuple(lists.check_gates(layout))
        return await opened(bits)

    results = simulate(dict.fromkeys(THREE, one)).values()
    assert all(np.array_equal(result, results[0]) for result in results)
    return results[0]


def planes_of(layout: Layout, table: list[list[tuple[int, int, int, int]]]) -> np.ndarray:
    """Return planes of lists in which all is padding but for rows (position, lane, key, values), `table[list]`."""
    query, buckets = layout.query, layout.buckets
    planes = np.zeros((layout.planes, buckets.length * buckets.words), np.uint64)
    planes[: layout.key_planes] = ONES
    place_of = np.argsort(plane_order(layout.key_planes))
    for i, cases in enumerate(table):
        for position, lane, key, value in cases:
            word, bit = divmod(lane, 64)
            column = layout.region(i).start + position * buckets.words + word
            for b in range(layout.key_planes):
                if not key >> b & 1:
                    planes[place_of[b], column] &= ~np.uint64(1 << bit)
            for b in range(query.value_planes):
                planes[layout.key_planes + b, column] |= np.uint64((value >> b & 1) << bit)
    return planes


@pytest.mark.slow
@pytest.mark.parametrize(("in_turn", "most"), [(True, 2), (True, 5), (False, 2), (False, 5), (False, 4)])
def test_every_list_of_two_rows_is_judged_as_by_plain_rules(monkeypatch, in_turn, most):
    """Keys of three bits and the mark, a value of at most 2 in two bits, or 4 or 5 in three, beside a full field."""
    monkeypatch.setattr(lists, "_in_turn", lambda layout: in_turn)
    full = 1 << most.bit_length()  # a bit of the other field
    cases = [
        (keys, values, count)
        for keys in itertools.product(range(16), repeat=2)
        for values in itertools.product((0, most, most + 1, full), repeat=2)
        for count in (1, 2)
        if (in_turn and most == 2) or (count == 1 and keys[0] < 12)
    ]
    seen: Counter = Counter()
    for begin in range(0, len(cases), 250):
        batch = cases[begin : begin + 250]
        layout = layout_of(len(batch), [count for *_, count in batch], [2] * len(batch), most=most)
        table = [
            [(p, i % 64, k, v) for p, (k, v) in enumerate(zip(keys, values, strict=True))]
            for i, (keys, values, _) in enumerate(batch)
        ]
        got = opened_bits(layout, planes_of(layout, table))
        for bit, (keys, values, count) in zip(got.tolist(), batch, strict=True):
            real = [k < 8 for k in keys]
            broken = (
                any(v & (full - 1) > most for v in values)
                or any(v and not r for v, r in zip(values, real, strict=True))
                or (real[1] and not keys[0] < keys[1])
                or sum(real) > count
            )
            assert bit == broken, (keys, values, count)
            seen[broken] += 1
    assert min(seen.values()) > 200


@pytest.mark.parametrize(("capacity", "words"), [(1, 1), (2, 1), (3, 2), (7, 1), (16, 2)])
def test_counts_are_held_to_the_announced_ones_exactly(capacity, words):
    """One list has as many rows as it announced, the next one more, anywhere; others have fewer or none."""
    rng = np.random.default_rng(capacity)
    places = capacity * 64 * words
    real = [1, 2, places // 2, places, places // 3 + 1, 0, places]
    counts = [1, 1, places // 2, places, places // 3, 0, places - 1]
    layout = layout_of(len(real), counts, [capacity] * len(real), key_planes=8, words=words)
    table = []
    for n in real:
        lanes = np.sort(rng.permutation(places)[:n] % (64 * words))
        position: Counter = Counter()
        list_of = []
        for lane in lanes.tolist():
            list_of.append((position[lane], lane, position[lane], 1))
            position[lane] += 1
        table.append(list_of)
    got = opened_bits(layout, planes_of(layout, table))
    assert got.tolist() == [int(n > count) for n, count in zip(real, counts, strict=True)]


@pytest.mark.slow
def test_a_fault_in_any_lane_word_and_position_of_lists_of_unequal_lengths_is_found_in_its_list_alone():
    layout = layout_of(3, [0, 0, 0], [1, 3, 2], words=2)
    for i, capacity in enumerate(layout.buckets.capacities):
        for position, lane in itertools.product(range(capacity), (0, 1, 63, 64, 127)):
            table: list[list[tuple[int, int, int, int]]] = [[], [], []]
            table[i] = [(position, lane, 15, 4)]  # padding that is not empty
            got = opened_bits(layout, planes_of(layout, table))
            assert got.tolist() == [int(k == i) for k in range(3)], (i, position, lane)


def test_a_list_that_ends_high_and_one_that_begins_low_are_not_out_of_order():
    layout = layout_of(2, [2, 2], [2, 2])
    table = [[(0, 5, 6, 1), (1, 5, 7, 1)], [(0, 5, 0, 1), (1, 5, 1, 1)]]
    assert opened_bits(layout, planes_of(layout, table)).tolist() == [0, 0]
