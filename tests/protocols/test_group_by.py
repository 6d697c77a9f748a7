"""Joint groups equal their plaintext twin, cost what is declared, and show a bank its own rows only."""

from __future__ import annotations

import itertools
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import wire
from secagg.errors import PlanError, RangeError, RemoteProtocolError, SecaggError, ShapeError, UsageError
from secagg.mpc.buckets import Buckets
from secagg.mpc.groups import XOR
from secagg.mpc.primitives import Shares
from secagg.mpc.three.channel import Channel
from secagg.mpc.three.engine import ThreeEngine
from secagg.mpc.three.opening import Opening
from secagg.network.simulated import ACTIONS, Fault, simulate
from secagg.protocols.group_by import (
    Field,
    Layout,
    Query,
    Rows,
    cost,
    engine,
    find_groups,
    flagged_rows,
    reference,
)
from secagg.protocols.group_by.engine import open_to_owners
from secagg.protocols.group_by.layout import bit_fields, take
from secagg.protocols.group_by.owner import PlacedRows
from transcripts import sent

THREE = ("P0", "P1", "P2")
FIELDS = (
    Field("senders", 1000, at_least=9),
    Field("total", 10**11 + 10**9, at_least=3 * 10**9),
    Field("banks", 1, at_least=2, opened=False),
)


def table(names, values=None, *, fields=3, seed=0) -> Rows:
    rng = np.random.default_rng(seed)
    identifiers = np.array([*names, None], object)[:-1]
    if values is None:
        values = np.stack(
            [
                rng.integers(1, 12, len(names)),
                rng.integers(1, 3 * 10**9, len(names)),
                np.ones(len(names), np.int64),
            ],
            1,
        )
    return Rows(identifiers, np.asarray(values, np.uint64).reshape(len(names), fields))


def run(query: Query, tables: list[Rows], **options):
    holders = dict(zip(query.input_parties, tables, strict=True))
    names = dict.fromkeys((*query.input_parties, *query.computing_parties))
    return simulate({n: partial(find_groups, query=query, rows=holders.get(n)) for n in names}, **options)


def assert_equal_to_plaintext(query: Query, tables: list[Rows], outcome) -> int:
    outcome.values()
    flagged = 0
    for name, expected in zip(query.input_parties, reference(query, tables), strict=True):
        found = outcome.results[name]
        assert np.array_equal(found.flagged, expected.flagged)
        assert np.array_equal(found.sums, expected.sums)
        flagged += int(found.flagged.sum())
    for name in set(query.computing_parties) - set(query.input_parties):
        assert outcome.results[name] is None
    return flagged


ROLES: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (("P0", "P1"), ("P0", "P1", "P2")),
    (("P0", "P1", "P2"), ("P0", "P1", "P2")),
    (("P0", "P1", "P2"), ("P2", "P0", "P1")),
    (("P0", "P1", "P2"), ("x", "y", "z")),
    (("P0", "P1", "P2", "P3", "P4"), ("P3", "x", "P1")),
    (("P0", "P1", "P2", "P3", "P4"), ("x", "y", "z")),
]
FOUR: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (("P0", "P1", "P2", "P3"), ("P2", "P0", "P1", "P3")),
    (("P0", "P1", "P2"), ("P1", "x", "y", "P0")),
]


@pytest.mark.parametrize(
    ("banks", "computing"),
    [ROLES[0], FOUR[0], *(pytest.param(*r, marks=pytest.mark.slow) for r in ROLES[1:] + FOUR[1:])],
)
@pytest.mark.slow
def test_findings_equal_the_plaintext_for_any_roles(banks, computing):
    query = Query(banks, computing, FIELDS)
    rng = np.random.default_rng(len(banks))
    names = [f"account {i}" for i in range(90)]
    tables = [table(list(rng.choice(names, 60, replace=False)), seed=i) for i in range(len(banks))]
    assert assert_equal_to_plaintext(query, tables, run(query, tables)) > 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("banks", "computing", "sizes"),
    [
        (*roles, sizes)
        for i, roles in enumerate(ROLES[:2] + ROLES[3:5])
        for j, sizes in enumerate([(0, 0, 0, 0, 0), (1, 0, 0, 0, 0), (0, 30, 1, 2, 0), (5, 5, 5, 5, 5)])
        if (i + j) % 2 == 0 or not any(sizes)
    ],
)
def test_empty_tables_and_single_rows_are_nothing_special(banks, computing, sizes):
    query = Query(banks, computing, FIELDS)
    tables = [table([f"n{i}" for i in range(n)], seed=n) for n in sizes[: len(banks)]]
    assert_equal_to_plaintext(query, tables, run(query, tables))


@pytest.mark.slow
def test_all_keys_at_all_banks_make_one_group_each():
    banks = THREE
    query = Query(banks, banks, FIELDS)
    tables = [table([f"n{i}" for i in range(200)], seed=i) for i in range(3)]
    assert assert_equal_to_plaintext(query, tables, run(query, tables)) > 100


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(st.data())
def test_findings_equal_the_plaintext_on_any_tables(data):
    banks = ("P0", "P1", "P2", "P3")[: data.draw(st.integers(2, 4))]
    fields = (
        Field("a", data.draw(st.integers(1, 2**40)), at_least=1),
        Field("b", 7, below=data.draw(st.none() | st.integers(1, 14)), opened=data.draw(st.booleans())),
    )
    query = Query(banks, data.draw(st.sampled_from([THREE, ("x", "y", "z"), ("P1", "x", "P0")])), fields)
    names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
    tables = []
    for _ in banks:
        rows = data.draw(
            st.dictionaries(names, st.tuples(st.integers(0, fields[0].max), st.integers(0, 7)), max_size=12)
        )
        tables.append(table(list(rows), list(rows.values()), fields=2))
    assert_equal_to_plaintext(query, tables, run(query, tables))


@pytest.mark.slow
def test_sums_up_to_the_largest_that_is_planned_are_exact():
    most = 10**11
    query = Query(THREE, THREE, (Field("total", most, at_least=3 * most), Field("n", 2**20, opened=True)))
    tables = [table(["x", f"own {i}"], [[most, 2**20], [most, 0]], fields=2) for i in range(3)]
    outcome = run(query, tables)
    assert assert_equal_to_plaintext(query, tables, outcome) == 3
    assert flagged_rows(tables[0], outcome.results["P0"]) == [("x", 3 * most, 3 * 2**20)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("banks", "computing", "rows"),
    # Of few rows the check takes longer than the merge.
    [(*roles, rows) for i, roles in enumerate(ROLES + FOUR) for rows in (20, (1, 0)[i % 2])],
)
def test_declared_cost_is_the_ledgers(banks, computing, rows):
    query = Query(banks, computing, FIELDS)
    tables = [table([f"n{i}" for i in range(rows * (b + 1))], seed=b) for b in range(len(banks))]
    outcome = run(query, tables)
    declared = cost(Layout.plan(query, [len(t.identifiers) for t in tables]), list(outcome.ledgers))
    for name, ledger in outcome.ledgers.items():
        apart = abs(ledger.total().sent.payload_bytes - declared.payload_bytes[name])
        assert apart <= (8 * declared.rounds if len(computing) == 4 else 0), (
            name
        )  # a word a round; see `cost`
    spare = declared.rounds - max(ledger.depth for ledger in outcome.ledgers.values())
    assert spare == 0 or (spare == 1 and len(banks) == 2 and set(banks) <= set(computing))  # see `cost`


@pytest.mark.slow
def test_the_wire_depends_on_row_counts_only():
    query = Query(THREE[:2], ("x", "y", "P0"), FIELDS)
    first = [table([f"n{i}" for i in range(30)], seed=1), table([f"n{i}" for i in range(30)], seed=2)]
    other = [table([f"m{i}" for i in range(30)], seed=3), table([f"k{i}" for i in range(30)], seed=4)]
    shapes = []
    for tables in (first, other):
        transcript = run(query, tables, record=True).transcript
        shapes.append(
            [(s, r, len(f), wire.decode_envelope(f, peer=s).envelope.kind) for s, r, f in transcript]
        )
    assert shapes[0] == shapes[1]


@pytest.mark.slow
def test_row_counts_can_be_rounded_up():
    query = Query(THREE, THREE, FIELDS, pad_rows_to=64)
    tables = [table([f"n{i}" for i in range(n)], seed=n) for n in (3, 64, 65)]
    outcome = run(query, tables, record=True)
    assert_equal_to_plaintext(query, tables, outcome)
    rounded = Query(THREE, THREE, FIELDS)
    same = run(rounded, [table([f"n{i}" for i in range(n)]) for n in (64, 64, 128)])
    assert outcome.ledgers["P0"].total().sent.payload_bytes == same.ledgers["P0"].total().sent.payload_bytes


@pytest.mark.parametrize(
    ("rows", "error", "says"),
    [
        (table(["a", "b", "a"]), UsageError, "rows 0 and 2 have the same identifier"),
        (
            table(["a"], [[1001, 1, 1]]),
            RangeError,
            "senders: 1 of 1 rows are above the agreed largest value of 1000",
        ),
        (table(["a"], [[1, 1]], fields=2), ShapeError, "expected uint64 values of shape"),
        (table(["a\0b"]), UsageError, "zero character"),
    ],
)
def test_rows_that_were_not_planned_for_are_refused_and_never_shown(rows, error, says):
    query = Query(THREE, THREE, FIELDS)
    outcome = run(query, [rows, table(["a"]), table([])])
    assert isinstance(outcome.errors["P0"], error)
    assert says in str(outcome.errors["P0"])
    assert not outcome.results
    for other in ("P1", "P2"):
        assert (
            str(outcome.errors[other])
            == "P0 ended the run: it cannot use its own input; its own output says why"
        )


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ((Field("n", 5),), "padding rows would be flagged"),
        ((Field("n", 5, at_least=0),), "padding rows would be flagged"),
        ((Field("n", 5, at_least=16),), "out of reach"),
        ((Field("n", 2**63, at_least=1),), "expected a largest value"),
        ((Field("n", 0, at_least=1),), "expected a largest value"),
    ],
)
def test_queries_that_cannot_be_computed_are_refused(fields, says):
    with pytest.raises(PlanError, match=says):
        Query(THREE, THREE, fields)


def test_parties_that_cannot_compute_are_refused():
    for banks, computing in ((("P0",), THREE), (("P0", "P0"), THREE), (THREE, ("P0", "P0", "P1"))):
        with pytest.raises(UsageError):
            Query(banks, computing, FIELDS)


def test_rows_that_came_back_altered_are_not_reported():
    query = Query(THREE, THREE, FIELDS)
    layout = Layout.plan(query, [3, 3, 3])
    placed = PlacedRows.place(layout, table(["a", "b", "c"]), bytes(32), "P1")
    with pytest.raises(RemoteProtocolError, match="not those that were put in"):
        placed.read(np.zeros(placed.opened_shape, np.uint64))


@pytest.mark.slow
@pytest.mark.parametrize("computing", [THREE, ("P0", "P1", "x"), ("x", "y", "z")])
def test_rows_that_came_back_altered_blame_nobody_and_name_those_who_may_have_done_it(computing, monkeypatch):
    query = Query(THREE, computing, FIELDS)
    read = PlacedRows.read

    def altered(placed, opened):
        return read(placed, opened ^ np.uint64(placed._position == 2))

    monkeypatch.setattr(PlacedRows, "read", altered)
    outcome = run(query, [table([f"n{i}" for i in range(8)])] * 3)
    error = outcome.errors["P2"]
    assert isinstance(error, RemoteProtocolError)
    suspects = [name for name in computing if name != "P2"]
    assert f"{' or '.join(suspects)} computed wrongly, and P2 cannot know which" in str(error)
    assert {e.peer for e in outcome.errors.values()} == {""}


@pytest.mark.slow
def test_labels_that_do_not_fit_blame_nobody_and_open_no_row(monkeypatch):
    query = Query(THREE[:2], THREE, FIELDS)
    to_rows = engine._to_rows

    def altered(joint, *rest):
        rows = to_rows(joint, *rest)
        if joint.engine.party.me == "P0":
            rows.parts[0][:, 0, :] ^= np.uint64(2**64 - 1)
        return rows

    monkeypatch.setattr(engine, "_to_rows", altered)
    outcome = run(query, [table([f"n{i}" for i in range(8)])] * 2, record=True)
    assert not outcome.results
    assert {e.peer for e in outcome.errors.values()} == {""}
    assert "P0 or P2 computed wrongly, and it cannot be known which" in str(outcome.errors["P1"])
    opened = [m.message.shares[0].dtype for m in sent(outcome.transcript) if isinstance(m.message, Opening)]
    assert opened
    assert all(dtype == np.uint8 for dtype in opened)  # labels and verdicts, no rows


@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS)
def test_a_fault_at_any_message_ends_right_or_names_a_peer(action):
    query = Query(("P0", "P1"), ("P0", "P1", "x"), FIELDS)
    tables = [table([f"n{i}" for i in range(8)], seed=i) for i in range(2)]
    expected = reference(query, tables)
    messages = run(query, tables).messages
    rng = np.random.default_rng(ACTIONS.index(action))
    for message in sorted({0, messages - 1, *rng.integers(0, messages, 4).tolist()}):
        outcome = run(query, tables, faults=[Fault(action, message)], insecure_seed=message)
        for name, error in outcome.errors.items():
            assert isinstance(error, SecaggError), error
            assert getattr(error, "peer", ""), (name, error)
        for name, right in zip(query.input_parties, expected, strict=True):
            if name in outcome.results:
                assert np.array_equal(outcome.results[name].sums, right.sums)


# The opening to the holders, on the real shuffle and opening, with every permutation of three rows.

ORDERS = np.array(list(itertools.permutations(range(3))))


class Orders:
    """A pair's streams whose permutations run, over the buckets, through all combinations of three hops."""

    def __init__(self, key: int, seed: int) -> None:
        self.key, self.rng = key, np.random.default_rng(seed)
        self.position = 0

    def __getitem__(self, purpose):
        return self

    def words(self, shape):
        return self.rng.integers(0, 2**64, shape, dtype=np.uint64)

    def permutations(self, rows, n):
        return ORDERS[np.arange(rows) // 6**self.key % 6]


def what_bank_sees(
    rows: list[tuple[int, int, int, int]], viewer: int, *, pads_keep_origin: bool = True
) -> Counter:
    """Return how often each pair (order of origins, own opened rows) comes, over all permutations.

    rows: (origin, identity, flag, sum), each bank's row in a bucket; every bucket holds the same.
    """
    query = Query(THREE, THREE, (Field("n", 3, at_least=1),))
    layout = Layout(query, Buckets((256,) * 3, 256, (1, 1, 1), 1), 76, 61, 2)
    offsets = [*bit_fields(layout), bit_fields(layout)[-1] + query.sum_widths[0]]
    words = np.zeros((256, 3, 2), np.uint64)
    for i, (origin, identity, flag, total) in enumerate(rows):
        if not pads_keep_origin and identity == 0:
            origin = 3
        number = sum(v << o for v, o in zip((identity, flag, total * flag, origin), offsets, strict=True))
        words[:, i] = [number & (2**64 - 1), number >> 64]
    rng = np.random.default_rng(5)
    a, b = (rng.integers(0, 2**64, words.shape, dtype=np.uint64) for _ in range(2))
    shares = [a, b, words ^ a ^ b]

    def program_of(i):
        async def program(party):
            streams: Any = (Orders(i, seed=i), Orders((i + 1) % 3, seed=(i + 1) % 3))
            engine = ThreeEngine(Channel(party, THREE, k_own=streams[0], k_next=streams[1]))
            (mixed,) = await engine.shuffle(Shares(engine, XOR, (shares[i], shares[(i + 1) % 3])))
            origins = take(np.bitwise_xor(mixed.parts[0], mixed.parts[1]), offsets[3], 2)
            if pads_keep_origin:
                opened = await open_to_owners(mixed, layout)
            else:  # what would be seen: the order of the origins alone tells who has padding
                opened = None
            full = await engine.open(mixed)
            assert full is not None
            return opened, take(full, offsets[3], 2), origins

        return program

    results = simulate({name: program_of(i) for i, name in enumerate(THREE)}).values()
    opened, order, _ = results[viewer]
    seen: Counter = Counter()
    for bucket in range(216):
        mine = () if opened is None else tuple(opened.reshape(256, 2)[bucket].tolist())
        seen[tuple(order[bucket].tolist()), mine] += 1
    return seen


def test_a_banks_view_of_the_opening_depends_on_its_own_rows_and_results_only():
    # Bank 0 holds identity 5 and learns that it is flagged with sum 2; the rest differs.
    one = what_bank_sees([(0, 5, 1, 2), (1, 5, 1, 2), (2, 9, 0, 1)], 0)
    other = what_bank_sees([(2, 5, 1, 2), (1, 0, 0, 0), (0, 5, 1, 2)], 0)
    assert one == other
    assert len({order for order, _ in one}) == 6
    assert set(one.values()) == {36}


def test_without_an_origin_on_padding_the_view_would_tell_who_has_padding():
    one = what_bank_sees([(0, 5, 1, 2), (1, 5, 1, 2), (2, 9, 0, 1)], 0, pads_keep_origin=False)
    other = what_bank_sees([(2, 5, 1, 2), (1, 0, 0, 0), (0, 5, 1, 2)], 0, pads_keep_origin=False)
    assert one != other
