"""The engine in the clear does what the face of engines says, and sets lanes that nobody may read."""

from __future__ import annotations

import numpy as np
import pytest

from clear import run_clear
from secagg.errors import UsageError
from secagg.mpc.groups import XOR
from secagg.mpc.numbers import RingGroup
from secagg.ring import Ring, from_planes, to_planes


@pytest.mark.parametrize("bits", [7, 64])
def test_operations_in_the_clear_are_those_of_the_ring(bits):
    ring, n = Ring(bits), 70
    group = RingGroup(ring)
    x, y = (ring.from_signed(np.random.default_rng(seed).integers(-60, 60, n)) for seed in (1, 2))
    signed = ring.to_signed(x)
    lanes = np.uint64(0xFFFFFFFFFFFFFFFF) << np.uint64(n % 64)

    async def program(engine):
        a, b = engine.public(group, x), await engine.input(group, "ada", (n,), y)
        bits_of_a, negative = await engine.to_bits(a), await engine.negative(a)
        both = (await engine.conjunction([(negative, bits_of_a)]))[0]
        back = await engine.from_bits(negative, group, n)
        assert (bits_of_a.parts[0][:, -1] & lanes == lanes).all()
        assert ((await engine.zero(a)).parts[0][-1] & lanes) == lanes
        rows, same = await engine.shuffle(a.reshape(1, n), a.reshape(1, n))
        assert (rows.parts[0] == same.parts[0]).all()
        return {
            "sum": (await engine.open(a + b), ring.reduce(x + y)),
            "product": (await engine.open(await engine.multiply(a, b)), ring.reduce(x * y)),
            "matmul": (await engine.open(await engine.matmul(a, b)), ring.matmul(x, y)),
            "shift": (await engine.open(await engine.shift(a, 2)), ring.from_signed(signed >> 2)),
            "negative": (await engine.open(back), (signed < 0).astype(group.dtype)),
            "bits": (from_planes(await engine.open(bits_of_a), n), x),
            "and": (
                from_planes(await engine.open(both), n),
                np.where(signed < 0, x, 0),
            ),
            "zero": (from_planes((await engine.open(await engine.zero(a)))[None], n), x == 0),
            "shuffled": (np.sort((await engine.open(rows))[0]), np.sort(x)),
        }

    for name, (got, expected) in run_clear(program).items():
        assert (got == expected).all(), name


def test_tables_are_exchanged_in_place_where_the_bit_says_so():
    values = np.random.default_rng(3).integers(0, 1 << 60, (2, 3, 4)).astype(np.uint64)
    swap = np.array([0, 2**64 - 1, 0xF0, 0], np.uint64)

    async def program(engine):
        table = engine.public(XOR, values)
        await engine.exchange(
            engine.public(XOR, swap), [(table[0, :, :2], table[1, :, :2]), (table[0, :, 2:], table[1, :, 2:])]
        )
        return await engine.open(table)

    both = swap & (values[0] ^ values[1])
    assert (run_clear(program) == np.stack([values[0] ^ both, values[1] ^ both])).all()


def test_an_engine_in_the_clear_takes_no_input_of_others_and_opens_only_to_those_named():
    async def program(engine):
        with pytest.raises(UsageError, match="not of bob"):
            await engine.input(XOR, "bob", (1,))
        return await engine.open(engine.public(XOR, np.zeros(1, np.uint64)), ["bob"])

    assert run_clear(program) is None


def test_planes_of_the_reference_are_what_the_engine_gives():
    x = np.arange(64, dtype=np.uint64)

    async def program(engine):
        return await engine.open(await engine.to_bits(engine.public(RingGroup(Ring(64)), x)))

    assert (run_clear(program) == to_planes(x, 64)).all()
