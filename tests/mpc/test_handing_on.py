"""Shares that one session works out and another one goes on with: checked before they are handed on, fresh when taken up."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.alterations import Liar, altered, leaves
from secagg.errors import CheatingError, UsageError
from secagg.mpc.arrays import Engine
from secagg.mpc.arrays.dtypes import boolean, int64
from secagg.mpc.arrays.handing_on import blank, hand_on, take_up
from secagg.mpc.engines import COMPUTING
from secagg.network.simulated import simulate

NAMES = ("ada", "bob", "cleo", "dan")
X = np.array([[3, -5, 70], [7, 1, -2]])


def handed_on(count, wrapped=lambda party: party):
    """Return the outcome of a session that hands on squares and which of them are large."""

    async def program(party):
        engine = await Engine.create(wrapped(party))
        x = engine.share(X if party.me == "ada" else None, owner="ada", shape=X.shape)
        return await hand_on(engine, [x * x, x * x > 40])

    return simulate(dict.fromkeys(NAMES[:count], program), insecure_seed=1)


def likes(engine):
    return [blank(engine, X.shape, int64), blank(engine, X.shape, boolean)]


@pytest.mark.parametrize("count", COMPUTING)
def test_what_a_session_hands_on_another_takes_up_as_other_shares_of_the_same_values(count):
    shares = handed_on(count).results
    fresh = {}

    async def program(party):
        engine = await Engine.create(party)
        mine = shares[party.me]
        first, second = await take_up(engine, likes(engine), [mine, mine])
        fresh[party.me] = [x.node.value.parts for x in (*first, *second)]
        return await engine.open(*first, *second)

    outcome = simulate(dict.fromkeys(NAMES[:count], program))
    for found in outcome.values():
        for squares, large in (found[:2], found[2:]):
            assert np.array_equal(squares, X * X)
            assert np.array_equal(large, X * X > 40)
    for name, arrays in fresh.items():
        kept = [part for parts in shares[name] * 2 for part in parts]
        new = [part for parts in arrays for part in parts]
        assert not any(np.array_equal(one, other) for one, other in zip(kept, new, strict=True))


def test_one_of_four_that_lies_is_found_before_anybody_hands_on_shares():
    liars = {}

    def wrapped(party, number=None, alter=None):
        liars[party.me] = Liar(party, number if party.me == "dan" else None, alter)
        return liars[party.me]

    assert not handed_on(4, wrapped).errors
    sent = [message for _, message in liars["dan"].sent]
    tried = 0
    for number, message in enumerate(sent):
        ways = [(f, i, "bit", message) for f, i, leaf in leaves(message) if isinstance(leaf, np.ndarray)]
        how = next((way for way in ways if altered(message, *way) is not None), None)
        if how is None:
            continue
        outcome = handed_on(4, lambda p, n=number, how=how: wrapped(p, n, lambda m: altered(m, *how)))
        honest = {name: error for name, error in outcome.errors.items() if name != "dan"}
        assert set(honest) == set(NAMES[:3])
        for error in honest.values():
            assert isinstance(error, CheatingError)
            assert "dan" in error.suspects
        tried += 1
        if tried == 4:
            break
    assert tried


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda parts: parts[:1], "expected shares of 2 arrays of another session, got 1"),
        (lambda parts: None, "expected shares of 2 arrays of another session, got none"),
        (lambda parts: [[one[:1] for one in parts[0]], parts[1]], r"expected shares of shape \(2, 3\)"),
        (lambda parts: [[one.view(np.int64) for one in parts[0]], parts[1]], "got .* of int64"),
        (lambda parts: [parts[0], [one.astype(np.uint8) for one in parts[1]]], "got .* of uint8"),
    ],
)
def test_what_are_no_shares_of_these_arrays_is_refused(change, says):
    shares = handed_on(3).results

    async def program(party):
        engine = await Engine.create(party)
        return await take_up(engine, likes(engine), [shares[party.me], change(shares[party.me])])

    with pytest.raises(UsageError, match=says):
        simulate(dict.fromkeys(NAMES[:3], program)).values()


def test_arrays_that_describe_another_session_have_no_value():
    async def program(party):
        engine = await Engine.create(party)
        return await engine.open(likes(engine)[0])

    with pytest.raises(UsageError, match="describes what another session hands on has no value"):
        simulate(dict.fromkeys(NAMES[:3], program)).values()
