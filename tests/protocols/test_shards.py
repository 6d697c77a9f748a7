"""Groups found shard by shard equal their plaintext twin, cost what is declared, and open what a whole run opens."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks.alterations import Liar
from secagg.errors import AbortedError, PlanError, RemoteProtocolError
from secagg.mpc.three.opening import Opening
from secagg.network.simulated import simulate
from secagg.protocols.group_by import Field, Layout, Query, Rows, announce, cost, reference
from secagg.protocols.group_by.owner import PlacedRows
from secagg.protocols.group_by.shards import compute_shard, divide, find_shard_after_shard
from transcripts import sent

THREE = ("P0", "P1", "P2")
FOUR = ("P1", "x", "y", "P0")
FIELDS = (
    Field("senders", 1000, at_least=9),
    Field("total", 10**11 + 10**9, at_least=3 * 10**9),
    Field("banks", 1, at_least=2, opened=False),
)


def rows(names: list[str], seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    columns = [rng.integers(1, 12, len(names)), rng.integers(1, 3 * 10**9, len(names)), np.ones(len(names))]
    return Rows(np.array([*names, None], object)[:-1], np.stack(columns, 1).astype(np.uint64))


def tables(parties: int, count: int = 60) -> list[Rows]:
    rng = np.random.default_rng(parties)
    names = [f"account {i}" for i in range(2 * count)]
    return [rows([str(n) for n in rng.choice(names, count, replace=False)], i) for i in range(parties)]


def run(query: Query, of_parties: list[Rows], shards: int, **options: Any) -> Any:
    holders = dict(zip(query.input_parties, of_parties, strict=True))
    names = dict.fromkeys((*query.input_parties, *query.computing_parties))
    programs = {
        n: partial(find_shard_after_shard, query=query, rows=holders.get(n), shards=shards) for n in names
    }
    return simulate(programs, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("computing", "shards"),
    [
        (("x", "y", "P2"), 2),
        (FOUR, 2),
    ],
)
def test_findings_of_shards_equal_the_plaintext_at_the_declared_cost(computing, shards):
    query, put_in = Query(THREE, computing, FIELDS), tables(3)
    outcome = run(query, put_in, shards)
    outcome.values()
    flagged = 0
    for name, expected in zip(THREE, reference(query, put_in), strict=True):
        found = outcome.results[name]
        assert np.array_equal(found.flagged, expected.flagged)
        assert np.array_equal(found.sums, expected.sums)
        flagged += int(found.flagged.sum())
    assert flagged > 5
    assert all(outcome.results[name] is None for name in computing if name not in THREE)
    declared = cost(Layout.plan(query, [60] * 3, shards=shards), list(outcome.ledgers))
    for name, ledger in outcome.ledgers.items():
        apart = abs(ledger.total().sent.payload_bytes - declared.payload_bytes[name])
        # Of four, a party sends a word more or less in each round.
        assert apart <= (8 * declared.rounds if len(computing) == 4 else 0), name


def test_shards_are_buckets_of_the_table_in_one_piece():
    query = Query(THREE, THREE, FIELDS)
    counts = [10**6, 20_000, 0]
    whole, cut = Layout.plan(query, counts), Layout.plan(query, counts, shards=8)
    assert cut.all_buckets == whole.buckets.buckets
    assert cut.buckets.capacities == whole.buckets.capacities
    assert (cut.hash_bits, cut.log2_abort) == (whole.hash_bits, whole.log2_abort)
    assert cut.buckets.buckets * 8 == whole.buckets.buckets


@pytest.mark.parametrize("shards", [0, 3, 512])
def test_a_number_of_shards_that_does_not_fit_is_refused(shards):
    with pytest.raises(PlanError, match=f"got {shards}"):
        Layout.plan(Query(THREE, THREE, FIELDS), [3, 3, 3], shards=shards)


@pytest.mark.slow
def test_more_rows_than_announced_over_all_shards_end_the_run_before_anything_is_opened(monkeypatch):
    """Each shard's list is well-formed, and has fewer rows than were announced for the whole table."""
    added: list[np.ndarray] = []
    of = PlacedRows.of.__func__  # type: ignore[attr-defined]

    def more(cls, layout, words, values, me):
        if me == "P1" and not added:  # one row more, in the first shard alone
            added.append(np.random.default_rng(1).integers(0, 2**64, (1, 2), np.uint64))
            words = np.concatenate([words, *added])
            values = np.concatenate([values, np.ones((1, 3), np.uint64)])
        return of(cls, layout, words, values, me)

    monkeypatch.setattr(PlacedRows, "of", classmethod(more))
    query = Query(THREE, THREE, FIELDS)
    put_in = [rows([f"{p} {i}" for i in range(50)], p) for p in range(3)]
    outcome = run(query, put_in, 2, record=True)
    assert not outcome.results
    for error in outcome.errors.values():
        assert isinstance(error, RemoteProtocolError | AbortedError)
        assert "P1" in str(error)
    # One bit a list in each shard and in the end, of three parties each; no label and no row.
    opened = [m.message.shares[0] for m in sent(outcome.transcript) if isinstance(m.message, Opening)]
    assert [len(bits) for bits in opened] == [3] * 9
    assert np.bitwise_xor.reduce(opened[-3:]).tolist() == [0, 1, 0]
    assert not np.bitwise_xor.reduce(opened[:3]).any()


def test_in_one_session_too_there_are_two_shards_or_more():
    outcome = run(Query(THREE, THREE, FIELDS), tables(3, 4), 1)
    assert all("expected 2 shards or more, got 1" in str(outcome.errors[name]) for name in THREE)


@pytest.mark.slow
def test_what_four_parties_keep_of_a_shard_was_checked_to_its_last_product():
    query = Query(THREE[:2], FOUR, FIELDS[2:])
    watched: list[Any] = []

    async def program(party):
        announced = await announce(party, query, rows_of.get(party.me))
        division = await divide(party, query, announced, shards=2)
        if party.me == "x":
            party = Liar(party)  # which does not lie
            watched.append(party)
        return await compute_shard(party, division.layout, division.own(0))

    one = Rows(np.array(["a", "b"], object), np.ones((2, 1), np.uint64))
    rows_of = {"P0": one, "P1": one}
    outcome = simulate(dict.fromkeys((*THREE[:2], "x", "y"), program))
    assert not outcome.errors
    kinds = [type(message).__name__ for _, message in watched[0].sent]
    # The session of the opening knows nothing of these products, and could not check them.
    vouched, checked = (kinds[::-1].index(kind) for kind in ("Vouched", "Statement"))
    assert checked < vouched


def test_a_bucket_that_overflows_ends_the_run_before_anything_is_shared(monkeypatch):
    query = Query(THREE, THREE, FIELDS)
    module = "secagg.protocols.group_by.shards.pseudonyms"
    monkeypatch.setattr(module, lambda key, names: np.zeros((len(names), 2), np.uint64))
    assert Layout.plan(query, [9] * 3, shards=2).buckets.capacities == (8, 8, 8)  # a row too many
    outcome = run(query, [rows([f"{p} {i}" for i in range(9)], p) for p in range(3)], 2)
    assert not outcome.results
    errors = [e for e in outcome.errors.values() if isinstance(e, PlanError)]
    assert errors
    assert all("nothing was shared" in str(e) for e in errors)
    assert all(ledger.total().sent.payload_bytes == 0 for ledger in outcome.ledgers.values())
