"""Mistakes that other implementations had to mend: each, made here, opens or shows what it must not; the engine does not.

A fourth one, openings to a party outside without fresh randomness, is in `test_views.py`.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from benchmarks.alterations import Liar
from secagg.errors import CheatingError
from secagg.mpc.four import shuffle
from secagg.mpc.four.channel import Channel, Vouched
from secagg.mpc.four.engine import FourEngine
from secagg.mpc.four.keys import Purpose
from secagg.mpc.groups import XOR
from secagg.mpc.numbers import RingGroup
from secagg.network.simulated import simulate
from secagg.ring import Ring

FOUR = ("ada", "bob", "cleo", "dora")
NUMBERS = RingGroup(Ring(64))
SET_UP = 9  # messages of a party before an engine is there


@pytest.mark.parametrize("mistaken", [True, False])
@pytest.mark.parametrize("name", ["truncate", "from_bits", "shuffle"])
def test_without_the_check_of_one_operation_a_liar_chooses_what_is_opened(share, monkeypatch, name, mistaken):
    if mistaken:
        monkeypatch.setattr(Channel, "fits", lambda *_args: True)

    async def operate(engine):
        if name == "from_bits":
            return await engine.from_bits(share(engine, XOR, [0b1010]), NUMBERS, 4)
        x = share(engine, NUMBERS, np.full((1, 4), 512))
        return await engine.truncate(x, 8) if name == "truncate" else (await engine.shuffle(x))[0]

    def lie(message):
        return Vouched((message.contents[0] + np.uint64(1000), *message.contents[1:]), message.tags)

    async def program(party):
        lies = party.me == "bob"
        liar: Any = Liar(party, SET_UP if lies else None, lie)
        engine = await FourEngine.set_up(liar, FOUR)
        return await engine.open(await operate(engine), ["ada", "cleo", "dora"])

    outcome = simulate(dict.fromkeys(FOUR, program), insecure_seed=1)
    right = {"truncate": [2] * 4, "from_bits": [0, 1, 0, 1], "shuffle": [512] * 4}[name]
    opened = [outcome.results[who] for who in FOUR if outcome.results.get(who) is not None]
    if mistaken:
        assert any(not np.array_equal(np.ravel(value), right) for value in opened)
    else:
        assert opened == []
        assert all(isinstance(outcome.errors[who], CheatingError) for who in ("ada", "cleo", "dora"))


def by_exchanges(channel, _i, shape):
    """Return orders that come from exchanging each row with any row: six orders, of 27 ways."""
    stream = channel.triple(0)[Purpose.SHUFFLE_ORDER]
    places = stream.below(shape[1], (shape[0], shape[1])).astype(np.int64)
    order = np.tile(np.arange(shape[1]), (shape[0], 1))
    rows = np.arange(shape[0])
    for at in range(shape[1]):
        order[rows, at], order[rows, places[:, at]] = order[rows, places[:, at]], order[rows, at].copy()
    return order


@pytest.mark.slow
@pytest.mark.parametrize("biased", [True, False])
def test_a_biased_order_of_the_one_hop_that_a_party_does_not_know_shows(run_four, share, monkeypatch, biased):
    """Of 6000 orders of three rows, six deviations of 1000."""
    draw = by_exchanges if biased else shuffle.order_of_hop

    def known(channel, i, shape):
        return draw(channel, i, shape) if i == 0 and channel.index else np.tile(np.arange(3), (shape[0], 1))

    monkeypatch.setattr(shuffle, "order_of_hop", known)
    rows = np.tile(np.arange(3).reshape(1, 3), (6000, 1))

    async def program(engine):
        return await engine.open(*await engine.shuffle(share(engine, RingGroup(Ring(8)), rows)))

    counts = np.bincount(run_four(program)[0] @ np.array([9, 3, 1]), minlength=27)[[5, 7, 11, 15, 19, 21]]
    assert (np.abs(counts - 1000).max() > 6 * np.sqrt(6000 / 6 * 5 / 6)) == biased


@pytest.mark.parametrize("mistaken", [True, False])
def test_a_lie_in_one_product_confirms_no_guess_of_a_factor_of_the_next(share, monkeypatch, mistaken):
    """The attack on checks that come late [F4A26].

    In c = a b, cleo (P_2) adds 1 to what bob (P_1) gets of c_0. In c d, bob then sends cleo d_2 more than dora vouches for.
    So a tag would tell cleo whether its guess of d_2, the share that it lacks, is right.
    """
    if mistaken:
        monkeypatch.setattr(Channel, "is_sound", lambda *_args: True)
    secret = 42
    fitting = {}

    def share_of(engine):  # d, whose shares are 1, 2, `secret`, 3
        parts = {j: np.array([(1, 2, secret, 3)[j]], np.uint64) for j in engine.channel.others}
        return engine._shares(NUMBERS, parts)

    def lie(message):
        return Vouched((message.contents[0] + np.uint64(1), *message.contents[1:]), message.tags)

    async def program(party):
        lies = party.me == "cleo"
        # Of cleo's messages in a product, that to bob is the second, after the one to ada.
        liar: Any = Liar(party, SET_UP + 1 if lies else None, lie)
        engine = await FourEngine.set_up(liar, FOUR)
        c = await engine.multiply(share(engine, NUMBERS, [5]), share(engine, NUMBERS, [6], seed=1))
        d = share_of(engine)
        if lies:
            inner, got = party, {}

            class Keeping:
                def __getattr__(self, name):
                    return getattr(inner, name)

                async def gather(self, kind, peers, **options):
                    got.update(await inner.gather(kind, peers, **options))
                    return {peer: got[peer] for peer in peers}

            engine.channel.party = cast(Any, Keeping())
            await engine.multiply(c, d)
            # Slot 4 of a product: P_1 sends to P_2, P_3 vouches.
            content, tag = got["bob"].contents[0], got["dora"].tags[-1]
            for guess in range(40, 45):
                fitting[guess] = engine.channel.fits(3, tag, 1, 4, content - np.uint64(guess))
        else:
            await engine.multiply(c, d)
        await engine.check()

    simulate(dict.fromkeys(FOUR, program), insecure_seed=1)
    assert fitting == {guess: mistaken and guess == secret for guess in range(40, 45)}
