"""Which engine a program gets, and what those outside do with it."""

from __future__ import annotations

import numpy as np
import pytest

from secagg import mpc
from secagg.errors import UsageError
from secagg.mpc.engines import costs_of, receive_opening, share_input, share_input_bytes
from secagg.mpc.four import FourEngine
from secagg.mpc.groups import XOR
from secagg.mpc.three import ThreeEngine
from secagg.network.simulated import simulate

X = np.arange(6, dtype=np.uint64).reshape(2, 3)


@pytest.mark.parametrize(("computing", "kind"), [("abc", ThreeEngine), ("abcd", FourEngine)])
def test_as_many_parties_as_compute_get_their_engine_and_those_outside_share_and_receive(computing, kind):
    async def compute(party):
        engine = await mpc.set_up(party, computing)
        assert type(engine) is kind
        assert engine.costs is costs_of(computing)
        assert engine.costs.computing == len(computing)
        return await engine.open(await engine.input(XOR, "owner", X.shape), ["analyst"])

    async def give(party):
        await share_input(party, computing, XOR, X)
        return party.ledger.total().sent.payload_bytes

    async def receive(party):
        return await receive_opening(party, computing, XOR, X.shape)

    results = simulate(dict.fromkeys(computing, compute) | {"owner": give, "analyst": receive}).results
    assert [results[name] for name in computing] == [None] * len(computing)
    assert results["owner"] == share_input_bytes(computing, X.nbytes)
    assert np.array_equal(results["analyst"], X)


@pytest.mark.parametrize("computing", ["", "ab", "abb", "abcc", "abcde", "abx"])
def test_parties_that_no_engine_computes_with_are_refused_inside_and_outside(computing):
    async def program(party):
        with pytest.raises(UsageError, match="computing parties"):
            await mpc.set_up(party, computing)
        with pytest.raises(UsageError, match="computing parties"):
            await share_input(party, computing, XOR, X)
        with pytest.raises(UsageError, match="computing parties"):
            await receive_opening(party, computing, XOR, X.shape)

    simulate(dict.fromkeys("abcde", program)).values()
