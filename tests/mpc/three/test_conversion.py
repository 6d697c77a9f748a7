"""Bits to ring elements and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg.errors import RemoteProtocolError, ShapeError
from secagg.mpc.groups import XOR
from secagg.mpc.numbers import RingGroup
from secagg.mpc.primitives import Shares
from secagg.mpc.three.conversion import BitProduct
from secagg.mpc.three.engine import ThreeEngine
from secagg.network.simulated import simulate
from secagg.ring import Ring, from_planes, unpack
from shared import opened

NAMES = ("ada", "bob", "cleo")


@pytest.mark.parametrize("bits", [1, 3, 8, 16, 32, 50, 64])
def test_bits_become_integers_zero_and_one(run_three, share_bits, bits):
    ring = Ring(bits)
    n = 500
    words = np.random.default_rng(bits).integers(0, 1 << 64, -(-n // 64), np.uint64)

    async def program(engine):
        return (await engine.from_bits(share_bits(engine, words), RingGroup(ring), n)).parts

    shares = run_three(program)
    for i in range(3):
        assert np.array_equal(shares[i][1], shares[(i + 1) % 3][0])
        ring.check(shares[i][0])
    total = ring.reduce(shares[0][0] + shares[0][1] + shares[1][1])
    assert np.array_equal(total, unpack(words, n))


@pytest.mark.parametrize("n", [0, 1, 64, 65, 3 * (1 << 14) + 5])
def test_any_number_of_bits_there_and_back(run_three, share_bits, n):
    words = np.random.default_rng(n).integers(0, 1 << 64, -(-n // 64), np.uint64)

    async def program(engine):
        numbers = await engine.from_bits(share_bits(engine, words), RingGroup(Ring(64)), n)
        return await opened(await engine.to_bits(numbers))

    for planes in run_three(program):
        assert planes.shape == (64, -(-n // 64))
        assert np.array_equal(unpack(planes[0], n), unpack(words, n))
        assert not planes[1:].any()


@pytest.mark.slow
@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=70), st.sampled_from([1, 2, 5, 33, 64]))
@settings(max_examples=25, deadline=None)
def test_elements_become_their_bits(numbers, bits):
    ring = Ring(bits)
    values = (np.array(numbers, np.uint64) & np.uint64(ring.modulus - 1)).astype(ring.dtype)
    made_up = np.random.default_rng(len(numbers))
    a, b = (
        made_up.integers(0, ring.modulus, values.size, np.uint64).astype(ring.dtype)
        if bits < 64
        else made_up.integers(0, 1 << 64, values.size, np.uint64)
        for _ in range(2)
    )
    shares = [a, b, ring.reduce(values - a - b)]

    async def program(party):
        engine = await ThreeEngine.set_up(party, NAMES)
        i = engine.channel.index
        return await opened(
            await engine.to_bits(Shares(engine, RingGroup(ring), (shares[i], shares[(i + 1) % 3])))
        )

    for planes in simulate(dict.fromkeys(NAMES, program)).values():
        assert np.array_equal(from_planes(planes, values.size), values)


def test_bits_of_another_number_are_refused(run_three, share_bits):
    async def program(engine):
        return await engine.from_bits(share_bits(engine, np.zeros(2, np.uint64)), RingGroup(Ring(64)), 64)

    with pytest.raises(ShapeError, match="64 bits"):
        run_three(program)


def test_product_of_a_wrong_shape_is_an_error_that_names_the_sender():
    async def honest(party):
        engine = await ThreeEngine.set_up(party, NAMES)
        zero = np.zeros(1, np.uint64)
        return await engine.from_bits(Shares(engine, XOR, (zero, zero)), RingGroup(Ring(64)), 10)

    async def wrong(party):
        engine = await ThreeEngine.set_up(party, NAMES)
        party.send(engine.channel.previous, BitProduct(np.zeros(11, np.uint64)))

    outcome = simulate({"ada": honest, "bob": honest, "cleo": wrong})
    assert isinstance(outcome.errors["bob"], RemoteProtocolError)
    assert outcome.errors["bob"].peer == "cleo"
