"""Sign and equality of shared elements."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg.errors import RemoteProtocolError, UsageError
from secagg.mpc.three.comparison import Thermometers, msb
from secagg.mpc.three.engine import ThreeEngine
from secagg.network.simulated import simulate
from secagg.ring import Ring, unpack
from shared import opened

NAMES = ("ada", "bob", "cleo")
R64 = Ring(64)
EDGES = [0, 1, 2, 7, 8, 15, 16, (1 << 62) - 1, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 63) + 1, (1 << 64) - 2, (1 << 64) - 1,
         0x0F0F0F0F0F0F0F0F, 0xF0F0F0F0F0F0F0F0, 0x7FFFFFFFFFFFFF00, 0x8000000000000FFF]  # fmt: skip


def msbs(s, t, bits, **options):
    """Return the top bits of s + t, computed by three parties."""
    s, t = np.asarray(s, np.uint64), np.asarray(t, np.uint64)

    async def program(party):
        engine = await ThreeEngine.set_up(party, NAMES)
        return await opened(
            await msb(engine.channel, engine, s if engine.channel.index == 0 else t, bits, **options)
        )

    results = simulate(dict.fromkeys(NAMES, program)).values()
    assert all(np.array_equal(result, results[0]) for result in results)
    return unpack(results[0], s.size)


@pytest.mark.parametrize("digit_bits", [1, 2, 3, 4, 8])
def test_msb_of_every_pair_of_a_small_ring(digit_bits):
    for bits in (2, 5, 6):
        s, t = np.divmod(np.arange(1 << 2 * bits), 1 << bits)
        assert np.array_equal(msbs(s, t, bits, digit_bits=digit_bits), (s + t >> bits - 1) & 1)


@pytest.mark.parametrize("digit_bits", [2, 3, 4, 5, 7])
def test_msb_at_the_edges_of_64_bits(digit_bits):
    pairs = list(itertools.product(EDGES, EDGES))
    got = msbs([s for s, _ in pairs], [t for _, t in pairs], 64, digit_bits=digit_bits)
    assert got.tolist() == [(s + t) % (1 << 64) >> 63 for s, t in pairs]


@given(st.lists(st.tuples(*[st.integers(0, (1 << 64) - 1)] * 2), min_size=1, max_size=70))
@settings(max_examples=20, deadline=None)
@pytest.mark.slow
def test_msb_equals_python(pairs):
    got = msbs([s for s, _ in pairs], [t for _, t in pairs], 64)
    assert got.tolist() == [(s + t) % (1 << 64) >> 63 for s, t in pairs]


@pytest.mark.parametrize(
    "n", [0, 1, 63, 64, 65, (1 << 15) - 1, 1 << 15, 64 * 512 + 1, 64 * 2048 + 64 * 512 + 3]
)
def test_any_number_of_elements(n):
    made_up = np.random.default_rng(n)
    s, t = made_up.integers(0, 1 << 64, (2, n), np.uint64)
    assert np.array_equal(msbs(s, t, 64), (s + t) >> np.uint64(63))


@pytest.mark.parametrize(("bits", "digit_bits"), [(1, 1), (65, 4), (64, 0), (64, 9)])
def test_impossible_widths_are_refused(bits, digit_bits):
    with pytest.raises(UsageError, match="2 to 64 bits"):
        msbs([0], [0], bits, digit_bits=digit_bits)


@pytest.mark.parametrize("bits", [2, 3, 8, 13, 64])
def test_sign_and_equality_on_rings_of_any_width(run_three, share, bits):
    ring = Ring(bits)
    half = 1 << (bits - 1)
    numbers = [-half, -half + 1, -1, 0, 1, half - 1] if bits < 64 else [-half, -2, -1, 0, 1, 2, half - 1]
    values = np.array(numbers * 40)

    async def program(engine):
        x = share(engine, values, ring=ring)
        negative = await engine.negative(x)
        zero = await engine.zero(x)
        return await opened(negative), await opened(zero)

    for negative, zero in run_three(program):
        assert np.array_equal(unpack(negative, values.size), values < 0)
        assert np.array_equal(unpack(zero, values.size), values == 0)


def test_thermometers_of_a_wrong_size_are_an_error_that_names_the_sender():
    async def honest(party):
        engine = await ThreeEngine.set_up(party, NAMES)
        return await msb(engine.channel, engine, np.zeros(64, np.uint64), 64)

    async def wrong(party):
        engine = await ThreeEngine.set_up(party, NAMES)
        party.send(engine.channel.next, Thermometers(np.zeros(240, np.uint64)))

    outcome = simulate({"ada": wrong, "bob": honest, "cleo": honest})
    assert isinstance(outcome.errors["bob"], RemoteProtocolError)
    assert outcome.errors["bob"].peer == "ada"
