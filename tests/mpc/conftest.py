"""Three engines in one thread, and secrets that are shared without a message."""

from __future__ import annotations

import numpy as np
import pytest

from eager import SharedArray
from secagg.mpc.groups import XOR
from secagg.mpc.numbers import RingGroup
from secagg.mpc.primitives import Shares
from secagg.mpc.three.engine import ThreeEngine
from secagg.network.simulated import simulate
from secagg.ring import Ring

COMPUTING = ("ada", "bob", "cleo")


@pytest.fixture
def run_three():
    """Run one program an engine, `program(engine)`; others are `program(party)` by name. Returns the results."""

    def run(program, *, others=None):
        async def start(party):
            return await program(await ThreeEngine.set_up(party, COMPUTING))

        outcome = simulate(dict.fromkeys(COMPUTING, start) | (others or {}))
        return outcome.values()

    return run


@pytest.fixture
def share():
    """Turn numbers into a `SharedArray`, by the same made-up shares at all parties."""

    def split(engine, values, *, ring=None, frac_bits=0, seed=0):
        ring = ring or Ring(64)
        secret = np.asarray(values)
        secret = secret if secret.dtype == ring.dtype else ring.from_signed(secret.astype(np.int64))
        shares = _split(secret, ring.dtype, seed, lambda a, b: ring.reduce(np.asarray(a - b)))
        shares = [ring.reduce(part) for part in shares]
        i = engine.channel.index
        return SharedArray(engine, RingGroup(ring), (shares[i], shares[(i + 1) % 3]), frac_bits=frac_bits)

    return split


@pytest.fixture
def share_bits():
    """Turn words into shared bits, by the same made-up shares at all parties."""

    def split(engine, words, *, seed=0):
        shares = _split(np.asarray(words, np.uint64), np.dtype(np.uint64), seed, np.bitwise_xor)
        i = engine.channel.index
        return Shares(engine, XOR, (shares[i].copy(), shares[(i + 1) % 3].copy()))

    return split


def _split(secret, dtype, seed, subtract):
    made_up = np.random.default_rng(seed)
    a, b = (
        np.asarray(made_up.integers(0, 1 << 8 * dtype.itemsize, secret.shape, dtype, endpoint=False))
        for _ in range(2)
    )
    return [a, b, np.asarray(subtract(np.asarray(subtract(secret, a)), b))]
