"""The shuffle permutes, costs what it says, and shows nobody anything."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from typing import Any, cast

import numpy as np
import pytest

from secagg import wire
from secagg.errors import ShapeError
from secagg.mpc.groups import XOR
from secagg.mpc.primitives import Shares
from secagg.mpc.three.channel import Channel
from secagg.mpc.three.costs import COSTS
from secagg.mpc.three.engine import ThreeEngine
from secagg.mpc.three.shuffle import Permuted
from secagg.network.simulated import simulate
from shared import opened

PARTIES = ("P0", "P1", "P2")


def deal(values: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    a, b = (rng.integers(0, 2**64, values.shape, dtype=np.uint64) for _ in range(2))
    return [a, b, values ^ a ^ b]


def run_shuffle(values: np.ndarray):
    shares = deal(values, np.random.default_rng(1))

    async def program(party):
        engine = await ThreeEngine.set_up(party, PARTIES)
        x = Shares(engine, XOR, (shares[engine.channel.index], shares[(engine.channel.index + 1) % 3]))
        before = party.ledger.total().sent.payload_bytes
        (y,) = await engine.shuffle(x)
        sent = party.ledger.total().sent.payload_bytes - before
        return await opened(y), sent

    return simulate(dict.fromkeys(PARTIES, program), insecure_seed=3)


def test_every_bucket_keeps_its_rows_in_another_order():
    values = np.arange(4 * 50 * 2, dtype=np.uint64).reshape(4, 50, 2)
    opened = [result for result, _ in run_shuffle(values).values()]
    for result in opened:
        assert np.array_equal(result, opened[0])
    for before, after in zip(values, opened[0], strict=True):
        assert sorted(map(tuple, after.tolist())) == sorted(map(tuple, before.tolist()))
        assert not np.array_equal(before, after)


def test_declared_cost_is_the_ledgers():
    values = np.zeros((8, 5, 3), np.uint64)
    outcome = run_shuffle(values)
    for _, sent in outcome.values():
        assert {sent} == set(COSTS.shuffle(values.nbytes).payload_bytes.values())
    set_up_and_open = 2
    assert (
        max(ledger.depth for ledger in outcome.ledgers.values()) == COSTS.shuffle(0).rounds + set_up_and_open
    )


def test_a_flat_array_is_refused():
    async def program(party):
        engine = await ThreeEngine.set_up(party, PARTIES)
        zero = np.zeros(4, np.uint64)
        return await engine.shuffle(Shares(engine, XOR, (zero, zero)))

    outcome = simulate(dict.fromkeys(PARTIES, program))
    assert all(isinstance(error, ShapeError) for error in outcome.errors.values())
    assert len(outcome.errors) == 3


ROWS = 2
BITS = 1 << ROWS  # what the masks of one draw can be
KEYS = range(3)


class EnumeratedStream:
    """Draws that, over the buckets of one run, take every combination of values exactly once."""

    position = 0

    def __init__(self, enumeration: Enumeration, key: int, purpose: str) -> None:
        self.enumeration, self.key, self.purpose, self.draws = enumeration, key, purpose, 0

    def words(self, shape):
        digit = self.enumeration.digit(("mask", self.key, self.draws))
        self.draws += 1
        return np.stack([digit & 1, digit >> 1], axis=1).astype(np.uint64)

    def permutations(self, rows, n):
        return np.array([[0, 1], [1, 0]])[self.enumeration.digit(("order", self.key, 0))]


class Enumeration:
    """All combinations of the randomness of one shuffle: an order a key and two masks a key."""

    def __init__(self) -> None:
        names = [("order", k, 0) for k in KEYS] + [("mask", k, d) for k in KEYS for d in range(2)]
        bases = [2] * 3 + [BITS] * 6
        self.size = int(np.prod(bases))
        left = np.arange(self.size)
        self.digits = {}
        for name, base in zip(names, bases, strict=True):
            self.digits[name] = left % base
            left = left // base

    def digit(self, name):
        return self.digits[name]


ENUMERATION = Enumeration()


class EnumeratedPair:
    position = 0

    def __init__(self, enumeration: Enumeration, key: int) -> None:
        self.enumeration, self.key = enumeration, key
        self.streams: dict[str, EnumeratedStream] = {}

    def __getitem__(self, purpose: str) -> EnumeratedStream:
        return self.streams.setdefault(purpose, EnumeratedStream(self.enumeration, self.key, purpose))


@functools.cache
def views(secret: int, viewer: int, own: tuple[int, int]) -> tuple[Counter, Counter]:
    """Return how often each view of P_viewer comes, over all randomness, on a secret of ROWS bits.

    Once without the rows, and once with them opened.
    """
    enumeration = ENUMERATION
    shares = [0, 0, 0]
    shares[viewer], shares[(viewer + 1) % 3] = own
    shares[(viewer + 2) % 3] = secret ^ own[0] ^ own[1]
    rows = [np.tile(np.array([s & 1, s >> 1], np.uint64), (enumeration.size, 1)) for s in shares]

    def program_of(i):
        async def program(party):
            engine = ThreeEngine(
                Channel(
                    party,
                    PARTIES,
                    k_own=cast(Any, EnumeratedPair(enumeration, i)),
                    k_next=cast(Any, EnumeratedPair(enumeration, (i + 1) % 3)),
                )
            )
            (x,) = await engine.shuffle(Shares(engine, XOR, (rows[i], rows[(i + 1) % 3])))
            return x.parts

        return program

    outcome = simulate({name: program_of(i) for i, name in enumerate(PARTIES)}, record=True)
    final = outcome.values()
    seen: list[np.ndarray] = []
    for _, receiver, frame in outcome.transcript:
        if receiver == PARTIES[viewer]:
            cut = wire.decode_envelope(frame, peer="")
            message, _ = wire.decode_body(cut, Permuted, peer="")
            seen += message.rows
    assert len(seen) == 2
    known = [enumeration.digit(("order", k, 0)) for k in (viewer, (viewer + 1) % 3)]
    known += [enumeration.digit(("mask", k, d)) for k in (viewer, (viewer + 1) % 3) for d in range(2)]
    known += [column for rows_seen in seen for column in rows_seen.T]
    total = final[0][0] ^ final[0][1] ^ final[1][1]
    code = np.zeros(enumeration.size, np.int64)
    for column in known:
        code = code * BITS + column.astype(np.int64)
    opened = code
    for column in total.T:
        opened = opened * BITS + column.astype(np.int64)
    return Counter(code.tolist()), Counter(opened.tolist())


@pytest.mark.slow
@pytest.mark.parametrize("viewer", range(3))
def test_a_partys_view_does_not_depend_on_the_secret(viewer):
    for own in ((0, 0), (1, 3)):
        first, *rest = (views(s, viewer, own)[0] for s in range(BITS))
        assert all(other == first for other in rest)


@pytest.mark.slow
@pytest.mark.parametrize("viewer", range(3))
def test_with_the_rows_opened_the_view_depends_on_their_multiset_only(viewer):
    by_secret = {s: views(s, viewer, (1, 3))[1] for s in range(BITS)}
    for s, t in itertools.combinations(range(BITS), 2):
        same_multiset = s.bit_count() == t.bit_count()
        assert (by_secret[s] == by_secret[t]) == same_multiset
