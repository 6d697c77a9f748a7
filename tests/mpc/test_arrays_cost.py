"""What a program is said to cost before it runs is what its ledgers measure."""

from __future__ import annotations

import numpy as np
import pytest

from secagg import mpc
from secagg.errors import ShapeError, UsageError
from secagg.mpc.arrays.dtypes import fixed, int8
from secagg.mpc.arrays.engine import Engine
from secagg.mpc.arrays.outside import receive, share_with
from secagg.mpc.arrays.rehearsal import cost
from secagg.network.simulated import simulate

NAMES = ("ada", "bob", "cleo", "dan")
THREE = NAMES[:3]


async def everything(party):
    engine = await Engine.create(party)
    mine = party.me == "ada"
    x = engine.share(np.arange(70) if mine else None, owner="ada", shape=70)
    y = engine.share(
        np.ones((7, 10)) if party.me == "bob" else None, owner="bob", shape=(7, 10), dtype=fixed(16)
    )
    bits = engine.share([True] * 5 if party.me == "cleo" else None, owner="cleo", shape=5, dtype=bool)
    z = x.reshape(7, 10) * y
    await engine.open(z.max(1), (x > 3) & (x == 5), to="bob")
    await engine.open(z @ y.T, bits.any(), x.argmin(), (x % 8)[::2] ** 3)
    return await engine.open(
        y.mean(), mpc.where(y > x[0], y, z), bits * 3, x.astype(int8).astype(int), to=["ada", "cleo"]
    )


def compared(program, names):
    """Return the declared rounds and bytes of a program, and those that its ledgers measure."""
    run = simulate(dict.fromkeys(names, program))
    run.values()
    declared = cost(program, dict.fromkeys(names, ()))
    rounds = max(ledger.depth for ledger in run.ledgers.values())
    sent = {name: ledger.total().sent.payload_bytes for name, ledger in run.ledgers.items()}
    return (declared.rounds, dict(declared.payload_bytes)), (rounds, sent)


@pytest.mark.parametrize("count", [3, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_cost_is_what_the_ledgers_measure(count):
    declared, measured = compared(everything, NAMES[:count])
    assert declared == measured


async def sorts(party):
    engine = await Engine.create(party)
    x = engine.share(np.arange(50)[::-1] % 7 if party.me == "ada" else None, owner="ada", shape=50)
    order = x.argsort()
    return await x.__array_namespace__().reorder(x, order).open()


def test_what_a_sort_opens_on_its_way_is_expected_and_not_run():
    (rounds, sent), measured = compared(sorts, THREE)
    assert (
        sent == measured[1]
    )  # of so few rows the digits are counted, whose bytes do not depend on the order
    assert measured[0] <= rounds <= measured[0] + 2


async def branching(party):
    engine = await Engine.create(party)
    shape = await engine.announce([4, 5, 6] if party.me == "ada" else None, owner="ada")
    x = engine.share([4, 5, 6] if party.me == "ada" else None, owner="ada", shape=shape)
    return await (x * x if await x.sum().open() > 10 else x).open()


async def announcing_twice(party):
    engine = await Engine.create(party)
    for _ in range(2):
        await engine.announce([1, 2, 3] if party.me == "ada" else None, owner="ada")


def test_a_branch_on_an_opened_value_is_refused_or_given():
    shapes = {"ada": (3,), "bob": (), "cleo": ()}
    with pytest.raises(UsageError, match=r"opened=\[\.\.\.\]"):
        cost(branching, shapes)
    run = simulate(dict.fromkeys(shapes, branching))
    assert (run.values()[0] == [16, 25, 36]).all()
    # What is there already is compared before it is opened, which takes as long as the product.
    taken, not_taken = (cost(branching, shapes, opened=[total, np.zeros(3)]) for total in (15, 5))
    assert taken.rounds == max(ledger.depth for ledger in run.ledgers.values()) == not_taken.rounds
    assert taken.payload_bytes["bob"] == not_taken.payload_bytes["bob"] + 24
    with pytest.raises(UsageError, match="more arrays than"):
        cost(branching, shapes, opened=[15])
    with pytest.raises(ShapeError, match="value of shape"):
        cost(branching, shapes, opened=[[15]])
    with pytest.raises(UsageError, match="another input of ada"):
        cost(announcing_twice, shapes)
    with pytest.raises(UsageError, match="leaves 1 of the 3 values"):
        cost(branching, shapes, opened=[15, np.zeros(3), 1])


def test_an_input_of_a_shape_that_was_not_declared_is_refused():
    async def program(party):
        engine = await Engine.create(party)
        return await engine.share(None, owner="ada", shape=5).open()

    assert cost(program, {"ada": [(2,), (5,)], "bob": (), "cleo": ()}).rounds
    with pytest.raises(ShapeError, match=r"ada of shape \(5,\), and shapes says \(4,\)"):
        cost(program, {"ada": (4,), "bob": (), "cleo": ()})


def test_arrays_of_a_rehearsal_take_no_memory():
    async def large(party):
        engine = await Engine.create(party)
        x = engine.share(None, owner="ada", shape=(1 << 20, 1 << 20))
        return await (x[:, 0] + x[0]).sum().open()

    assert cost(large, dict.fromkeys(THREE, ())).payload_bytes["ada"] == (1 << 43) + 8


def test_inputs_from_outside_and_comparisons_of_many_count_as_they_run():
    many = np.arange(1 << 15)

    async def program(party):
        engine = await Engine.create(party, THREE)
        x, y = (engine.share(None, owner="eve", shape=n) for n in (many.size, 3))
        return await engine.open((x > 5).sum() + y * y, to="fay")

    async def eve(party):
        await share_with(party, THREE, many)
        await share_with(party, THREE, [1, 2, 3])

    async def fay(party):
        return await receive(party, THREE, 3)

    run = simulate(dict.fromkeys(THREE, program) | {"eve": eve, "fay": fay})
    run.values()
    declared = cost(program, dict.fromkeys([*THREE, "eve", "fay"], ()), computing=THREE)
    assert declared.rounds == max(run.ledgers[name].depth for name in THREE)
    assert declared.payload_bytes == {name: run.ledgers[name].total().sent.payload_bytes for name in THREE}
