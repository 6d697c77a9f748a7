"""Four engines in one thread, and secrets that are shared without a message."""

from __future__ import annotations

import numpy as np
import pytest

from secagg.mpc.four.engine import FourEngine
from secagg.mpc.four.shares import shares
from secagg.mpc.groups import XOR
from secagg.network.simulated import simulate

FOUR = ("ada", "bob", "cleo", "dora")


@pytest.fixture
def run_four():
    """Run one program an engine, `program(engine)`; others are `program(party)` by name. Returns the results."""

    def run(program, *, others=None):
        async def start(party):
            return await program(await FourEngine.set_up(party, FOUR))

        return simulate(dict.fromkeys(FOUR, start) | (others or {}), insecure_seed=1).values()

    return run


@pytest.fixture
def share():
    """Turn elements of a group into shares, by the same made-up shares at all parties."""

    def split(engine, group, values, *, seed=0):
        secret = np.asarray(values, group.dtype)
        made_up = np.random.default_rng(seed)
        top = 1 << 64 if group is XOR else group.ring.modulus
        parts = [np.asarray(made_up.integers(0, top, secret.shape, group.dtype)) for _ in range(3)]
        rest = secret
        for part in parts:
            rest = group.subtract(rest, part)
        parts.append(rest)
        return shares(engine, group, {j: parts[j].copy() for j in engine.channel.others})

    return split
