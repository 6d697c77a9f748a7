"""The merge makes one rising list of two, moves whole rows, and costs what it says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg.errors import PlanError, ShapeError, UsageError
from secagg.ledger import Usage
from secagg.mpc.bits import LANES, plane_order
from secagg.mpc.buckets import _chernoff, plan_buckets
from secagg.mpc.groups import XOR
from secagg.mpc.merge import _layers, merge, merge_gates
from secagg.mpc.primitives import Shares
from secagg.mpc.three.engine import ThreeEngine
from secagg.network.simulated import simulate
from secagg.ring import transpose64
from shared import opened

PARTIES = ("P0", "P1", "P2")
KEY_PLANES, VALUE_PLANES = 8, 4


def to_table(keys: np.ndarray, values: np.ndarray, words: int) -> np.ndarray:
    """Return (planes, length * words) from arrays of shape (64 * words, length)."""
    length = keys.shape[1]
    planes = []
    for numbers, bits, order in (
        (keys, KEY_PLANES, plane_order(KEY_PLANES)),
        (values, VALUE_PLANES, range(VALUE_PLANES)),
    ):
        lanes = numbers.reshape(LANES, words, length).swapaxes(1, 2).reshape(LANES, length * words).copy()
        transpose64(lanes)
        planes.append(lanes[:bits][list(order)])
    return np.concatenate(planes)


def from_table(table: np.ndarray, words: int) -> tuple[np.ndarray, np.ndarray]:
    length = table.shape[1] // words
    numbers = []
    for planes, order in (
        (table[:KEY_PLANES], np.argsort(plane_order(KEY_PLANES))),
        (table[KEY_PLANES:], slice(None)),
    ):
        lanes = np.zeros((LANES, table.shape[1]), np.uint64)
        lanes[: len(planes)] = planes[order]
        transpose64(lanes)
        numbers.append(lanes.reshape(LANES, length, words).swapaxes(1, 2).reshape(LANES * words, length))
    return numbers[0], numbers[1]


def run_merge(keys: np.ndarray, values: np.ndarray, lengths: tuple[int, int], *, words: int, block: int):
    table = to_table(keys, values, words)
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 2**64, table.shape, dtype=np.uint64) for _ in range(2))
    shares = [a, b, table ^ a ^ b]

    async def program(party):
        engine = await ThreeEngine.set_up(party, PARTIES)
        x = Shares(
            engine, XOR, (shares[engine.channel.index].copy(), shares[(engine.channel.index + 1) % 3].copy())
        )
        with party.phase("merge"):
            await merge(x, lengths=lengths, key_planes=KEY_PLANES, block=block)
        return await opened(x)

    outcome = simulate(dict.fromkeys(PARTIES, program), insecure_seed=0)
    return from_table(outcome.values()[0], words), outcome


SIZES = [
    (1, 1, 1),
    (0, 3, 1),
    (2, 1, 1),
    (3, 5, 1),
    (7, 7, 1),
    (12, 4, 4),
    (8, 24, 8),
    (24, 16, 8),
    (33, 1, 1),
]


@pytest.mark.parametrize(("a", "b", "block"), SIZES)
@pytest.mark.parametrize("words", [1, 2])
def test_two_rising_lists_come_out_as_one_with_their_values(a, b, block, words):
    rng = np.random.default_rng(a)
    keys = rng.integers(0, 256, (LANES * words, a + b), dtype=np.uint64)
    keys[:, :a].sort(axis=1)
    keys[:, a:].sort(axis=1)
    values = keys % 13
    (got, moved), outcome = run_merge(keys, values, (a, b), words=words, block=block)
    assert np.array_equal(got, np.sort(keys, axis=1))
    assert np.array_equal(moved, got % 13)
    ands, rounds = merge_gates((a, b), KEY_PLANES + VALUE_PLANES, KEY_PLANES)
    for ledger in outcome.ledgers.values():
        cost = ledger.phases.get("merge", Usage())
        assert (8 * cost.sent.payload_bytes, cost.rounds) == (ands * LANES * words, rounds)


@pytest.mark.slow
def test_the_network_merges_all_lists_of_zeros_and_ones():
    # By the 0-1 principle this is every input that `merge` admits.
    for a, b in itertools.product(range(25), range(25)):
        layers = [
            [
                (start + r * 2 * stride + i, start + r * 2 * stride + i + stride)
                for start, runs, width in segments
                for r in range(runs)
                for i in range(width)
            ]
            for stride, segments in _layers((a, b))
        ]
        for layer in layers:  # no two comparisons of a layer meet, so they can be made at once
            positions = [p for pair in layer for p in pair]
            assert len(set(positions)) == len(positions)
            assert not positions or 0 <= min(positions) <= max(positions) < a + b
        for zeros_a, zeros_b in itertools.product(range(a + 1), range(b + 1)):
            list_ = [0] * zeros_a + [1] * (a - zeros_a) + [0] * zeros_b + [1] * (b - zeros_b)
            for layer in layers:
                for i, k in layer:
                    if list_[k] < list_[i]:
                        list_[i], list_[k] = list_[k], list_[i]
            assert list_ == sorted(list_)


def test_a_block_that_does_not_divide_the_length_is_refused():
    async def program(party):
        engine = await ThreeEngine.set_up(party, PARTIES)
        zero = np.zeros((12, 6), np.uint64)
        await merge(Shares(engine, XOR, (zero, zero.copy())), lengths=(4, 2), key_planes=8, block=4)

    assert all(isinstance(e, ShapeError) for e in simulate(dict.fromkeys(PARTIES, program)).errors.values())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=5))
@pytest.mark.slow
def test_a_bucket_plan_holds_all_rows_and_overflows_at_most_once_in_2_to_the_40(counts):
    plan = plan_buckets(counts, key_planes=lambda prefix: 84 - prefix // 4 * 4, other_planes=60)
    assert plan.buckets == 64 * plan.words == 1 << plan.prefix_bits
    assert plan.block & (plan.block - 1) == 0
    bound = 0.0
    for n, capacity in zip(counts, plan.capacities, strict=True):
        assert capacity % plan.block == 0
        assert capacity * plan.buckets >= n
        if n > capacity:
            bound += plan.buckets * np.exp(-_chernoff(n, capacity + 1, 1 / plan.buckets))
    assert bound <= 2.0**-40


def test_the_chernoff_bound_is_above_the_exact_tail():
    from math import comb

    for n, buckets in ((50, 8), (200, 64), (300, 4)):
        p = 1 / buckets
        for k in range(n // buckets + 1, n // buckets + 30):
            tail = sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))
            assert tail <= np.exp(-_chernoff(n, k, p)) * (1 + 1e-9)


@pytest.mark.parametrize(("counts", "error"), [([], UsageError), ([-1], UsageError), ([1 << 31], PlanError)])
def test_impossible_row_counts_are_refused(counts, error):
    with pytest.raises(error):
        plan_buckets(counts, key_planes=lambda prefix: 76, other_planes=1)
