"""Steps of the proofs in docs/soundness.md that can be checked by counting.

Where a proof speaks of the code, the code itself runs here, on all cases of a small size.

Longer than most test modules: it follows the page, argument by argument.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any, cast

import numpy as np
import pytest

from eager import SharedArray, from_bits
from secagg.mpc.bits import LANES, add, conjunction
from secagg.mpc.buckets import Buckets, plan_buckets
from secagg.mpc.groups import XOR
from secagg.mpc.numbers import RING64, RingGroup
from secagg.mpc.primitives import Shares
from secagg.mpc.three.channel import Channel
from secagg.mpc.three.engine import ThreeEngine
from secagg.mpc.three.streams import PairStreams, Purpose
from secagg.network.simulated import simulate
from secagg.protocols.group_by import Field, Layout, Query
from secagg.protocols.group_by.engine import _sum_groups
from secagg.protocols.group_by.owner import PlacedRows
from secagg.protocols.group_by.query import Rows
from shared import opened

pytestmark = pytest.mark.slow

THREE = ("ada", "bob", "cleo")


def split(engine, words, *, seed=0):
    """Return words as `SharedBits`, by the same made-up shares at all parties."""
    a, b = np.random.default_rng(seed).integers(0, 2**64, (2, *words.shape), dtype=np.uint64)
    shares = [a, b, words ^ a ^ b]
    return Shares(
        engine, XOR, (shares[engine.channel.index].copy(), shares[(engine.channel.index + 1) % 3].copy())
    )


def run(program):
    """Run one program an engine at all three parties; return the first one's result, equal at all."""

    async def start(party):
        return await program(await ThreeEngine.set_up(party, THREE))

    first, *others = simulate(dict.fromkeys(THREE, start), insecure_seed=0).values()
    assert all(np.array_equal(first, other) for other in others)
    return first


def to_planes(numbers, bits):
    """Return (bits, positions * words) from numbers of shape (64 * words buckets, positions)."""
    buckets, positions = numbers.shape
    lanes = numbers.T.reshape(positions, buckets // LANES, LANES)
    weight = np.uint64(1) << np.arange(LANES, dtype=np.uint64)
    planes = [((lanes >> np.uint64(j) & np.uint64(1)) * weight).sum(axis=2) for j in range(bits)]
    return np.array(planes, np.uint64).reshape(bits, -1)


def from_planes(planes, buckets):
    bits = np.unpackbits(
        planes.reshape(len(planes), -1, buckets // LANES).view(np.uint8), axis=2, bitorder="little"
    )
    return (bits.astype(np.uint64) << np.arange(len(planes), dtype=np.uint64)[:, None, None]).sum(axis=0).T


# Sums over groups.


def groupings(rows, most):
    """Return every way to cut sorted rows into groups of at most `most`, and padding of any length at the end."""
    cuts = []
    for padding in range(rows + 1):
        stack: list[list[int]] = [[]]
        while stack:
            sizes = stack.pop()
            left = rows - padding - sum(sizes)
            if not left:
                cuts.append((sizes, padding))
            stack += [[*sizes, size] for size in range(1, min(most, left) + 1)]
    return cuts


def sums_of_groups(parties, rows, cuts, values):
    """Run the engine's sums on tables cut into groups, two fields a row; return what each row gets."""
    words = -(-len(cuts) // LANES)
    keys = np.full((LANES * words, rows), 15, np.uint64)
    mine = np.zeros((2, LANES * words, rows), np.uint64)
    expected = np.zeros((2, LANES * words, rows), np.uint64)
    for bucket, (sizes, _) in enumerate(cuts):
        begin = 0
        for group, size in enumerate(sizes):
            where = slice(begin, begin + size)
            keys[bucket, where] = group
            mine[:, bucket, where] = values(size)
            expected[:, bucket, where] = mine[:, bucket, where].sum(axis=1, keepdims=True)
            begin += size
    banks = tuple(f"bank {i}" for i in range(parties))
    query = Query(banks, THREE, (Field("low", 3, at_least=1), Field("high", 7)))
    layout = Layout(query, Buckets((rows,) * parties, LANES * words, (1,) * parties, 1), 4, 60, 2)
    table = np.concatenate([to_planes(keys, 4), to_planes(mine[0], 2), to_planes(mine[1], 3)])

    async def program(engine):
        return await opened(await _sum_groups(split(engine, table), layout))

    planes = run(program)
    low = query.sum_widths[0]
    got = [from_planes(part, LANES * words) for part in (planes[:low], planes[low:])]
    return np.array(got)[:, : len(cuts)], expected[:, : len(cuts)]


@pytest.mark.parametrize(("parties", "rows"), [(2, 2), (2, 7), (3, 3), (3, 8), (4, 8), (5, 5), (5, 9)])
@pytest.mark.parametrize("largest", [True, False])
def test_each_row_gets_the_sums_of_its_group_for_every_way_to_cut_a_bucket(parties, rows, largest):
    # The largest values fill every field to its last bit, so a carry that left a field would show.
    rng = np.random.default_rng(parties * rows)
    top = np.array([[3], [7]])
    cuts = groupings(rows, parties)
    got, expected = sums_of_groups(
        parties,
        rows,
        cuts,
        lambda size: np.repeat(top, size, axis=1) if largest else rng.integers(0, top + 1, (2, size)),
    )
    assert np.array_equal(got, expected)


def test_a_group_of_more_rows_than_parties_would_come_out_wrong():
    # So the argument needs that an organisation puts in an identifier once, which it checks.
    got, expected = sums_of_groups(2, 3, [([3], 0)], lambda size: np.ones((2, size)))
    assert not np.array_equal(got, expected)


@pytest.mark.parametrize("parties", range(2, 8))
def test_below_and_above_are_exclusive_exactly_for_groups_of_at_most_as_many_rows_as_parties(parties):
    for size in range(1, 2 * parties):
        both = any(i + d < size and i - (parties - d) >= 0 for i in range(size) for d in range(1, parties))
        assert both == (size > parties)


def test_one_addition_over_all_fields_carries_nothing_from_field_to_field():
    # Two fields of four planes, three terms of two bits in each: all 4**6 cases, one a lane.
    cases = np.array(list(itertools.product(range(4), repeat=6)), np.uint64)
    terms = [
        to_planes((low | high << np.uint64(4))[:, None], 8)
        for low, high in zip(cases.T[:3], cases.T[3:], strict=True)
    ]

    async def program(engine):
        return await opened(await add([split(engine, t, seed=i) for i, t in enumerate(terms)]))

    got = from_planes(run(program), len(cases))[:, 0]
    assert np.array_equal(got & np.uint64(15), cases[:, :3].sum(axis=1))
    assert np.array_equal(got >> np.uint64(4), cases[:, 3:].sum(axis=1))


# Identifiers, buckets.


def test_an_identifier_that_an_organisation_puts_in_twice_is_refused():
    query = Query(THREE, THREE, (Field("n", 1, at_least=1),))
    rows = Rows(np.array(["x", "y", "x"], object), np.ones((3, 1), np.uint64))
    with pytest.raises(ValueError, match="same identifier"):
        PlacedRows.place(Layout.plan(query, [3, 3, 3]), rows, bytes(32), "ada")


@pytest.mark.parametrize("counts", [(0, 0), (1, 10), (100, 1000, 10_000), (10**6,) * 3, (10**8,) * 5])
def test_identifiers_are_compared_in_80_bits_or_more_of_their_own(counts):
    banks = tuple(f"bank {i}" for i in range(len(counts)))
    layout = Layout.plan(Query(banks, THREE, (Field("n", 10**9, at_least=1),)), counts)
    # Bucket, upper and lower key bits come from separate bits of the 128.
    lower, upper = LANES, layout.key_planes - 1 - LANES
    assert layout.hash_bits == layout.buckets.prefix_bits + lower + upper
    assert 80 <= layout.hash_bits <= 128
    assert layout.buckets.prefix_bits + upper <= LANES
    assert layout.log2_false_match <= 2 * math.log2(max(1, sum(counts))) - 81
    assert 60 <= layout.identity_bits <= LANES


@pytest.mark.parametrize(
    "counts", [(50,), (300, 10), (700, 700, 700), (2500, 40), *((n, n + 1) for n in range(10)), (7, 7, 7)]
)
def test_the_exact_probability_that_any_bucket_overflows_is_below_2_to_the_minus_40(counts):
    plan = plan_buckets(counts, key_planes=lambda prefix: 84 - prefix // 4 * 4, other_planes=60)
    b, whole = plan.buckets, 0
    most = max(counts)
    for n, capacity in zip(counts, plan.capacities, strict=True):
        tail = sum(math.comb(n, k) * (b - 1) ** (n - k) for k in range(capacity + 1, n + 1))
        whole += b * tail * b ** (most - n)
    assert whole << 40 <= b**most


# Comparison.


@pytest.mark.parametrize("base", [2, 4, 8, 16])
def test_thermometer_entries_tell_whether_a_digit_generates_or_sends_on_a_carry(base):
    for s, t, carry in itertools.product(range(base), range(base), (0, 1)):
        thermometer = [s >= v for v in range(base + 1)]  # entry 0 is true, entry `base` false
        generates, sends = thermometer[base - t], thermometer[base - 1 - t] and not thermometer[base - t]
        assert generates == (s + t >= base)
        assert sends == (s + t == base - 1)
        assert (s + t + carry >= base) == (generates or (sends and carry == 1))


# Truncation.


@pytest.mark.parametrize(("k", "f"), [(4, 1), (4, 2), (6, 1), (6, 4), (8, 3), (8, 6), (10, 5)])
def test_truncation_formula_for_every_number_and_every_mask(k, f):
    modulus, unit = 1 << k, 1 << f
    a = np.arange(modulus)
    for z in range(-(modulus >> 2) - unit + 1, (modulus >> 2) - unit + 1):
        total = z + (modulus >> 2) + unit - 1
        b = (total - a) % modulus
        wrap = (a >> (k - 1)) | (b >> (k - 1))
        assert np.array_equal(a + b, total + wrap * modulus)
        out = (
            (a >> f) + (b >> f) - (wrap << (k - f)) - (modulus >> (2 + f)) + modulus // 2
        ) % modulus - modulus // 2
        floor, rest = divmod(z, unit)
        # Rounded up exactly where the low bits of A, and then those of B too, are below the fraction.
        assert np.array_equal(out, floor + (a % unit < rest))
        assert np.array_equal(a % unit < rest, b % unit < rest)
        assert int(out.sum()) * unit == z * modulus
        # Who sees A or B and the result knows z up to a window of 2**f, at a place that only it knows.
        for low in (a % unit, b % unit):
            assert ((out - 1) * unit + low < z).all()
            assert (z <= out * unit + low).all()


@pytest.mark.parametrize(("k", "f"), [(4, 1), (6, 3), (8, 3)])
def test_truncation_goes_wrong_just_beyond_its_range(k, f):
    modulus, unit = 1 << k, 1 << f
    a = np.arange(modulus)

    def right(z):
        total = z + (modulus >> 2) + unit - 1
        b = (total - a) % modulus
        wrap = (a >> (k - 1)) | (b >> (k - 1))
        return bool((a + b - (wrap << k) == total).all())

    # One number below the range that the proof gives comes out right too: there A + B is 2**k - 1 for every A.
    assert [z for z in range(-modulus // 2, modulus // 2) if right(z)] == list(
        range(-(modulus >> 2) - unit, (modulus >> 2) - unit + 1)
    )


# Openings.


class Bits:
    """A stream whose bit in each lane is one bit of the lane's number."""

    def __init__(self, key):
        lanes = np.arange(64, dtype=np.uint64)
        self.word = (((lanes >> np.uint64(key)) & np.uint64(1)) << lanes).sum(dtype=np.uint64)

    def xor_into(self, out):
        out ^= self.word


class AllBits:
    position = 0

    def __init__(self, key):
        self.key = key

    def __getitem__(self, purpose):
        return Bits(self.key)


@pytest.mark.parametrize("x", list(itertools.product((0, 1), repeat=3)))
def test_the_three_shares_of_a_product_are_uniform_but_for_their_sum(x):
    # This is what a party outside sees of an opened value, whatever the shares of the factors are.
    for y in itertools.product((0, 1), repeat=3):

        def program_of(i, y=y):
            async def program(party):
                k_own, k_next = cast(Any, AllBits(i)), cast(Any, AllBits((i + 1) % 3))
                engine = ThreeEngine(Channel(party, THREE, k_own=k_own, k_next=k_next))
                left, right = (
                    Shares(
                        engine,
                        XOR,
                        [np.full(1, 2**64 - 1 if s[(i + j) % 3] else 0, np.uint64) for j in (0, 1)],
                    )
                    for s in (x, y)
                )
                return (await conjunction(left, right)).parts[0][0]

            return program

        words = simulate({name: program_of(i) for i, name in enumerate(THREE)}).values()
        shares = Counter(tuple(int(w) >> lane & 1 for w in words) for lane in range(8))
        product = sum(x) % 2 * (sum(y) % 2)
        assert shares == {z: 2 for z in itertools.product((0, 1), repeat=3) if sum(z) % 2 == product}


def test_no_two_streams_of_a_session_have_a_key_in_common():
    # One secret for all, which never is: labels and contexts alone keep the streams apart.
    secret, contexts = (
        bytes(64),
        [bytes([s]) * 32 + bytes([0, 0, 0, 1]) + b"a" + bytes([i]) for s in (0, 1) for i in range(3)],
    )
    drawn = [PairStreams(secret, context)[purpose].bytes(16) for context in contexts for purpose in Purpose]
    assert len(set(drawn)) == len(drawn) == 6 * 8


# Side by side.

X = np.arange(-64, 64)
WORDS = np.arange(1, 9, dtype=np.uint64).reshape(4, 2) * np.uint64(0x0123456789ABCDEF)


def flags(words):
    return np.unpackbits(words.view(np.uint8), bitorder="little")


class Operations:
    """Operations on shares that are there already; each opens its result and tells whether it is right."""

    def __init__(self, engine):
        self.engine = engine
        a, b = np.random.default_rng(7).integers(0, 2**64, (2, X.size), dtype=np.uint64)
        self.shares = [a, b, X.astype(np.uint64) - a - b]

    def array(self, frac_bits=0):
        i = self.engine.channel.index
        parts = self.shares[i], self.shares[(i + 1) % 3]
        return SharedArray(self.engine, RingGroup(RING64), parts, frac_bits=frac_bits)

    def words(self):
        return split(self.engine, WORDS)

    async def multiply(self):
        return np.array_equal(await opened(await (self.array() * self.array())), X * X)

    async def truncate(self):
        got = await opened(await (self.array(8) * self.array(8)))
        return bool((np.abs(got - X * X / 2.0**16) < 2.0**-8).all())

    async def truncate_exactly(self):
        return np.array_equal(await opened(await (self.array() >> 3)), X >> 3)

    async def less(self):
        return np.array_equal(flags(await opened(await (self.array() < 5))), X < 5)

    async def equal(self):
        return np.array_equal(flags(await opened(await (self.array() == 5))), X == 5)

    async def to_bits(self):
        got = await opened(await self.array().bits())
        return np.array_equal(flags(got[0]), X & 1) and np.array_equal(flags(got[63]), X < 0)

    async def to_integers(self):
        got = await opened(await from_bits(self.words()[0], 128))
        return got is not None and np.array_equal(got, flags(WORDS[0]))

    async def conjunction(self):
        return np.array_equal(await opened(await conjunction(self.words(), self.words())), WORDS)

    async def total(self):
        got = await opened(await add([self.words(), self.words()]))
        return got is not None and np.array_equal(got[1], WORDS[0])

    async def shuffled(self):
        (mixed,) = await self.engine.shuffle(self.words().reshape(1, 4, 2))
        got = await opened(mixed)
        return sorted(map(tuple, got[0].tolist())) == sorted(map(tuple, WORDS.tolist()))

    async def inputs(self):
        mine = [WORDS if self.engine.party.me == owner else None for owner in THREE]
        got = [await self.engine.input(XOR, o, WORDS.shape, v) for o, v in zip(THREE, mine, strict=True)]
        return all([np.array_equal(await opened(g), WORDS) for g in got])

    async def open_to_one(self):
        x = self.words()
        got = await opened(x, [THREE[1]])
        x ^= x  # must not reach the share that is on its way
        return got is None if self.engine.channel.index != 1 else np.array_equal(got, WORDS)


NAMES = [name for name in vars(Operations) if name not in ("array", "words") and not name.startswith("_")]


@pytest.mark.parametrize("first", NAMES)
def test_operations_side_by_side_give_what_they_give_alone_however_they_are_staggered(first):
    async def program(party):
        engine = await ThreeEngine.set_up(party, THREE)
        operations = Operations(engine)

        async def after(delay, name):
            for _ in range(delay):
                await _one_round(operations)
            return await getattr(operations, name)()

        wrong = []
        for second, delay in itertools.product(NAMES, range(4)):
            programs = [after(0, first), after(delay, second)]
            # Each of the two lanes is that of the one which begins later, over the delays and the pairs.
            turned = (NAMES.index(first) + NAMES.index(second) + delay) % 2
            if not all(await party.parallel(*(programs[::-1] if turned else programs))):
                wrong.append((second, delay))
        return wrong

    assert simulate(dict.fromkeys(THREE, program), insecure_seed=1).values() == [[], [], []]


async def _one_round(operations):
    words = operations.words()
    await conjunction(words[0], words[1])
