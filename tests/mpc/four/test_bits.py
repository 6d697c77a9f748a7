"""Bits among four parties: ANDs and exchanges of any shape, and what comparisons and conversions say of every number."""

from __future__ import annotations

import numpy as np
import pytest

from secagg.errors import ShapeError, UsageError
from secagg.mpc.four import conjunction, products
from secagg.mpc.four.shares import held, shares
from secagg.mpc.groups import XOR
from secagg.mpc.numbers import RingGroup
from secagg.ring import Ring, from_planes


def words(shape, seed):
    return np.random.default_rng(seed).integers(0, 1 << 64, shape, np.uint64)


def lanes(bits, n):
    return np.unpackbits(bits.view(np.uint8), bitorder="little")[:n].astype(bool)


@pytest.fixture(params=[None, 4], ids=["one chunk", "chunks of 4 words"])
def chunk(request, monkeypatch):
    if request.param:
        for module in (products, conjunction):
            monkeypatch.setattr(module, "CHUNK", request.param)


@pytest.mark.usefixtures("chunk")
def test_conjunctions_of_arrays_of_any_shape_and_of_one_bit_with_each_plane(run_four, share):
    shapes = [((7,), (7,)), ((3, 5), (3, 5)), ((5,), (3, 5)), ((2,), (9, 2)), ((0,), (2, 0))]
    plain = [(words(a, i), words(b, 9 + i)) for i, (a, b) in enumerate(shapes)]

    async def program(engine):
        pairs = [
            (share(engine, XOR, x, seed=i), share(engine, XOR, y, seed=9 + i))
            for i, (x, y) in enumerate(plain)
        ]
        z = await engine.conjunction(pairs)
        z[0].parts[0][...] = ~z[0].parts[0]  # what is returned is nobody else's
        z[0].parts[0][...] = ~z[0].parts[0]
        with pytest.raises(ShapeError, match="expected bits of shape"):
            await engine.conjunction([(pairs[1][0], pairs[0][1])])
        return [await engine.open(part) for part in z]

    for opened in run_four(program):
        for z, (x, y) in zip(opened, plain, strict=True):
            assert np.array_equal(z, x & y)


@pytest.mark.usefixtures("chunk")
def test_an_exchange_swaps_rows_in_place_where_the_bit_says_so_and_nothing_else(run_four, share):
    """Of two views: runs of a table, and single columns of it, each with gaps."""
    table, swap = words((3, 24), 1), words((11,), 2)

    def views(array):
        runs = array[:, :16].reshape(3, 2, 2, 4)
        return [(runs[:, :, 0], runs[:, :, 1]), (array[:, 16:19], array[:, 20:23])]

    expected = table.copy()
    start = 0
    for earlier, later in views(expected):
        wide = earlier[0].size
        bit = swap[start : start + wide].reshape(earlier.shape[1:])
        both = (earlier ^ later) & bit
        earlier ^= both
        later ^= both
        start += wide
    assert start == 11
    assert not np.array_equal(expected, table)

    async def program(engine):
        x, bit = share(engine, XOR, table, seed=1), share(engine, XOR, swap, seed=2)
        runs = x[:, :16].reshape(3, 2, 2, 4)
        pairs = [(runs[:, :, 0], runs[:, :, 1]), (x[:, 16:19], x[:, 20:23])]
        with pytest.raises(ShapeError, match="words for 11 columns"):
            await engine.exchange(bit[1:], pairs)
        with pytest.raises(ShapeError, match="views of one shape"):
            await engine.exchange(bit, [(runs[:, :, 0], x[:, 16:19])])
        await engine.exchange(bit, pairs)
        await engine.check()
        return held(engine.channel.index, x), await engine.open(x)

    results = run_four(program)
    for parts, opened in results:
        assert np.array_equal(opened, expected)
        assert all(
            np.array_equal(part, other[j]) for j, part in parts.items() for other, _ in results if j in other
        )


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
@pytest.mark.slow
def test_signs_zeros_and_bits_of_every_number_and_every_split(run_four, bits):
    """s = x_0 + x_1 and t = x_2 + x_3 decide; each comes with each."""
    ring = Ring(bits)
    s, t = (part.reshape(-1) for part in np.meshgrid(np.arange(ring.modulus), np.arange(ring.modulus)))
    made_up = np.random.default_rng(3)
    x_0, x_2 = (made_up.integers(0, ring.modulus, s.size) for _ in range(2))
    parts = [ring.from_signed(part) for part in (x_0, s - x_0, x_2, t - x_2)]
    value = ring.from_signed(s + t)

    async def program(engine):
        x = shares(engine, RingGroup(ring), {j: parts[j] for j in engine.channel.others})
        found = await engine.party.parallel(engine.negative(x), engine.zero(x), engine.to_bits(x))
        assert [part.shape for part in found] == [(-(-s.size // 64),)] * 2 + [(bits, -(-s.size // 64))]
        return [await engine.open(part) for part in found]

    for negative, zero, planes in run_four(program):
        assert np.array_equal(lanes(negative, s.size), ring.to_signed(value) < 0)
        assert np.array_equal(lanes(zero, s.size), value == 0)
        assert np.array_equal(from_planes(planes, s.size), value)


def test_signs_zeros_and_bits_in_64_bits(run_four, share):
    ring = Ring(64)
    x = np.array([0, 1, -1, 2**63 - 1, -(2**63), 1 << 40, -(1 << 40)] * 11)

    async def program(engine):
        secret = share(engine, RingGroup(ring), ring.from_signed(x), seed=4)
        with pytest.raises(ShapeError, match="of a ring"):
            await engine.negative(share(engine, XOR, [1]))
        found = (await engine.negative(secret), await engine.zero(secret), await engine.to_bits(secret))
        return [await engine.open(part) for part in found]

    for negative, zero, planes in run_four(program):
        assert np.array_equal(lanes(negative, x.size), x < 0)
        assert np.array_equal(lanes(zero, x.size), x == 0)
        assert np.array_equal(from_planes(planes, x.size).view(np.int64), x)


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "shifted"), [(6, 2), (7, 5), (8, 1), (64, 16)])
def test_a_shift_rounds_down_whatever_the_shares_are(run_four, share, bits, shifted):
    ring = Ring(bits)
    quarter = 1 << bits - 2
    x = np.arange(-quarter, quarter - (1 << shifted) + 1) if bits < 64 else np.array([-quarter, -1, 0, 65535])

    async def program(engine):
        secrets = [share(engine, RingGroup(ring), ring.from_signed(x), seed=seed) for seed in range(8)]
        with pytest.raises(UsageError):
            await engine.shift(secrets[0], bits)
        down = await engine.party.parallel(*(engine.shift(secret, shifted) for secret in secrets))
        return await engine.party.parallel(*(engine.open(part) for part in down))

    for opened in run_four(program):
        for one in opened:
            assert np.array_equal(ring.to_signed(one), x >> shifted)
