"""Noise drawn on shares: a discrete Gaussian, exactly what the table gives of everybody's coins."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest

from secagg.errors import PlanError, ShapeError, UsageError
from secagg.mpc.arrays import Engine
from secagg.mpc.arrays.dtypes import boolean
from secagg.network.simulated import simulate
from secagg.patterns.health import noisy_marginals
from secagg.prg import Stream
from secagg.statistics import noise

NAMES = ("ada", "bob", "cleo")


def stream(seed: int) -> Stream:
    return Stream(seed.to_bytes(32, "big"))


@pytest.mark.parametrize("variance", [0.25, 2.0, 30.5])
def test_the_table_is_a_discrete_gaussian_up_to_the_declared_distance(variance):
    table = noise.GaussianTable.of(variance)
    edges = [0, *table.thresholds.tolist(), 1 << noise.WORD_BITS]
    assert edges == sorted(edges)
    with mpmath.workdps(60):
        exact = mpmath.mpf(Fraction(variance).numerator) / Fraction(variance).denominator
        weights = {x: mpmath.exp(-x * x / (2 * exact)) for x in range(-4 * table.reach, 4 * table.reach + 1)}
        total = sum(weights.values())
        drawn = {
            x: mpmath.mpf(high - low) / (1 << noise.WORD_BITS)
            for x, low, high in zip(range(-table.reach, table.reach + 1), edges[:-1], edges[1:], strict=True)
        }
        distance = sum(abs(drawn.get(x, 0) - weights[x] / total) for x in weights) / 2
    assert 0 < distance <= table.distance
    assert abs(edges[table.reach + 1] + edges[table.reach] - (1 << noise.WORD_BITS)) <= 1  # symmetric


def test_noise_on_shares_is_what_the_table_gives_of_the_exclusive_or_of_coins():
    table, n = noise.GaussianTable.of(9.0), 150
    own = {
        name: noise.coins(n, stream(i)).reshape(n, noise.WORD_BITS) for i, name in enumerate(("ada", "bob"))
    }

    async def program(party):
        engine = await Engine.create(party, NAMES)
        one, other = (
            engine.share(bits if party.me == name else None, owner=name, shape=bits.shape, dtype=boolean)
            for name, bits in own.items()
        )
        return await noise.gaussian(one ^ other, table).open()

    found = simulate(dict.fromkeys(NAMES, program)).values()[0]
    expected = table.count(noise.words(own["ada"] ^ own["bob"]))
    assert np.array_equal(found, expected)
    assert len(np.unique(expected)) > 8


def test_coins_are_uniform_words_and_their_noise_has_the_variance():
    bits = noise.coins(20_000, stream(7)).reshape(-1, noise.WORD_BITS)
    assert abs(bits.mean(axis=0) - 0.5).max() < 6 * 0.5 / np.sqrt(20_000)  # six standard deviations
    drawn = noise.GaussianTable.of(16.0).count(noise.words(bits)).astype(float)
    assert abs(drawn.mean()) < 6 * 4 / np.sqrt(20_000)
    assert abs(drawn.var() / 16 - 1) < 6 * np.sqrt(2 / 20_000)
    edges = np.array([0, (1 << noise.WORD_BITS) - 1])
    table = noise.GaussianTable.of(16.0)
    assert abs(table.count(edges)).max() <= table.reach


def test_noise_that_cannot_be_drawn_is_refused():
    with pytest.raises(UsageError, match="variance of 1/4 or more"):
        noise.GaussianTable.of(0.1)
    with pytest.raises(PlanError, match="allow a larger epsilon, or fewer marginals"):
        noise.GaussianTable.of(1e6)

    async def program(party):
        engine = await Engine.create(party, NAMES)
        bits = engine.share(
            np.zeros(61, bool) if party.me == "ada" else None, owner="ada", shape=(61,), dtype=boolean
        )
        noise.gaussian(bits, noise.GaussianTable.of(1.0))

    with pytest.raises(ShapeError, match="words of 62 bits"):
        raise simulate(dict.fromkeys(NAMES, program)).errors["ada"]


def test_the_pattern_shares_as_many_coins_as_words_have_bits():
    assert noisy_marginals._WORD_BITS == noise.WORD_BITS
