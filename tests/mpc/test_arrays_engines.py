"""Shared arrays on the engines that compute: three parties, four parties, and parties outside."""

from __future__ import annotations

import re

import numpy as np
import pytest

from secagg.errors import RemoteProtocolError, SecaggError, UsageError
from secagg.mpc.arrays.dtypes import fixed, int32
from secagg.mpc.arrays.engine import Engine, InputShape
from secagg.mpc.arrays.outside import receive, share_with
from secagg.mpc.engines import COMPUTING
from secagg.network.simulated import simulate

NAMES = ("ada", "bob", "cleo", "dan")
X = np.array([[3, -5, 70], [7, 1, -2]])
Y = np.array([[1.5, -2.25, 0.5], [0.0, 8.0, -1.0]])
B = np.array([[True, False, True], [True, True, False]])


async def operations(party):
    engine = await Engine.create(party)
    x = engine.share(X if party.me == "ada" else None, owner="ada", shape=X.shape)
    y = engine.share(Y if party.me == "bob" else None, owner="bob", shape=Y.shape, dtype=fixed(16))
    b = engine.share(B if party.me == "cleo" else None, owner="cleo", shape=B.shape, dtype=bool)
    return await engine.open(
        x * x - 1,
        x * y,
        x @ y.T,
        (x > y) | ~b,
        np.where(b, x, 0).sum(1),
        abs(x) % 4,
        x.astype(int32).astype(int) // 2,
        b.all(0),
        x.argmax(),
        y.mean(1),
        y / 4 + engine.public(0.5),
        x == [3, 1, 70],
        x.prod(),
        y.sum() * y.mean(),
    )


EXPECTED = [
    X * X - 1,
    X * Y,
    X @ Y.T,
    (X > Y) | ~B,
    np.where(B, X, 0).sum(1),
    abs(X) % 4,
    X // 2,
    B.all(0),
    X.argmax(),
    Y.mean(1),
    Y / 4 + 0.5,
    X == [3, 1, 70],
    X.prod(),
    Y.sum() * Y.mean(),
]


@pytest.mark.parametrize("count", COMPUTING)
@pytest.mark.slow
def test_arrays_compute_on_any_engine(count):
    for results in simulate(dict.fromkeys(NAMES[:count], operations)).values():
        for number, (got, expected) in enumerate(zip(results, EXPECTED, strict=True)):
            assert np.allclose(got, expected, rtol=0, atol=1e-3), number


@pytest.mark.parametrize("count", COMPUTING)
def test_parties_outside_share_inputs_and_receive_results(count):
    computing = NAMES[:count]

    async def computes(party):
        engine = await Engine.create(party, computing)
        first, second = (engine.share(None, owner="eve", shape=3, dtype=kind) for kind in (fixed(16), bool))
        other = engine.share(None, owner="fay", shape=3)
        product = second * other  # shared after the first, used before it
        assert await product.open(to=["gil", "ada"]) is None or party.me == "ada"
        return await first.sum().open(to="gil")

    async def eve(party):
        await share_with(party, computing, [0.5, 0.25, -1.0], dtype=fixed(16))
        await share_with(party, computing, [True, False, True], dtype=bool)

    async def fay(party):
        await share_with(party, computing, [5, 6, 7])

    async def gil(party):
        product = await receive(party, computing, 3)
        return product, await receive(party, computing, (), dtype=fixed(16))

    run = simulate(dict.fromkeys(computing, computes) | {"eve": eve, "fay": fay, "gil": gil})
    run.values()
    product, total = run.results["gil"]
    assert (product == [5, 0, 7]).all()
    assert total == -0.25
    assert run.results["ada"] is None


@pytest.mark.parametrize("count", COMPUTING)
@pytest.mark.parametrize("odd", ["order", "label"])
def test_a_party_that_names_another_order_or_label_is_named_by_the_others(count, odd):
    computing = NAMES[:count]

    async def program(party):
        differs = party.me == "bob"
        order = computing[::-1] if differs and odd == "order" else computing
        engine = await Engine.create(party, order, label="second" if differs and odd == "label" else "")
        return await engine.public([1]).open()

    run = simulate(dict.fromkeys(computing, program))
    assert not run.results
    found = {name: error for name, error in run.errors.items() if type(error) is RemoteProtocolError}
    assert found
    for name, error in found.items():
        assert "terms of the computing parties differ" in str(error)
        assert error.peer == ("" if name == "bob" else "bob")


@pytest.mark.parametrize("count", COMPUTING)
@pytest.mark.parametrize(
    ("values", "dtype", "backwards"),
    [
        ([1, 2], int, False),
        ([1.0, 2.0], fixed(8), False),
        ([1.0], fixed(16), False),
        ([1.0, 2.0], fixed(16), True),
    ],
)
def test_an_array_from_outside_under_another_name_is_refused_with_both_names(count, values, dtype, backwards):
    computing = NAMES[:count]

    async def computes(party):
        engine = await Engine.create(party, computing)
        return await engine.share(None, owner="eve", shape=2, dtype=fixed(16)).open()

    async def eve(party):
        await share_with(party, computing[::-1] if backwards else computing, values, dtype=dtype)

    run = simulate(dict.fromkeys(computing, computes) | {"eve": eve})
    assert set(run.results) <= {"eve"}
    found = [error for error in run.errors.values() if type(error) is RemoteProtocolError]
    assert found
    for error in found:
        assert error.peer == "eve"
        assert re.search(r"terms of an input of eve differ: .*\(2,\) of fixed\(16\).*; eve has ", str(error))


@pytest.mark.parametrize("count", COMPUTING)
@pytest.mark.parametrize(("shape", "dtype"), [(2, int), (2, fixed(8)), (1, fixed(16))])
def test_an_opening_to_outside_under_another_name_is_refused_by_its_receiver(count, shape, dtype):
    computing = NAMES[:count]

    async def computes(party):
        engine = await Engine.create(party, computing)
        return await engine.public([0.5, 1.0]).open(to="gil")

    async def gil(party):
        return await receive(party, computing, shape, dtype=dtype)

    run = simulate(dict.fromkeys(computing, computes) | {"gil": gil})
    assert "gil" not in run.results
    assert type(run.errors["gil"]) is RemoteProtocolError
    assert "terms of an opening differ" in str(run.errors["gil"])
    assert all(name in str(run.errors["gil"]) for name in computing)


def test_the_shape_of_an_input_is_announced_by_its_owner():
    async def program(party):
        engine = await Engine.create(party)
        values = np.arange(5) if party.me == "bob" else None
        x = engine.share(values, owner="bob", shape=await engine.announce(values, owner="bob"))
        return await x.sum().open()

    assert simulate(dict.fromkeys(NAMES[:3], program)).values() == [10, 10, 10]


@pytest.mark.parametrize("shape", [(-1,), (1 << 20, 1 << 20), (1,) * 33])
def test_a_shape_that_no_array_has_is_refused_and_its_owner_named(shape):
    async def asks(party):
        engine = await Engine.create(party)
        await engine.announce(None, owner="bob")

    async def lies(party):
        await Engine.create(party)
        for peer in party.others:
            party.send(peer, InputShape(shape))

    errors = simulate({"ada": asks, "bob": lies, "cleo": asks}).errors
    assert isinstance(errors["ada"], RemoteProtocolError)
    assert errors["ada"].peer == "bob"


def test_another_number_of_computing_parties_is_refused():
    async def program(party):
        await Engine.create(party)

    with pytest.raises(SecaggError, match="computing parties"):
        simulate(dict.fromkeys(NAMES[:2], program)).values()


def test_openings_beside_each_other_share_what_they_compute():
    async def program(party):
        engine = await Engine.create(party)
        x = engine.share([2, 3] if party.me == "ada" else None, owner="ada", shape=2)
        square = x * x
        results = await party.parallel((square + 1).open(), (square * x).open())
        return [each.tolist() for each in results]

    assert simulate(dict.fromkeys(NAMES[:3], program)).values()[1] == [[5, 10], [8, 27]]


def test_an_opening_to_a_party_outside_runs_beside_no_other():
    async def program(party):
        engine = await Engine.create(party, NAMES[:3])
        x = engine.public([1, 2])
        await party.parallel(x.open(), x.open(to="dan"))

    async def dan(party):
        return party.me

    errors = simulate(dict.fromkeys(NAMES[:3], program) | {"dan": dan}).errors
    assert sorted(errors) == sorted(NAMES[:3])
    assert all(isinstance(error, UsageError) for error in errors.values())


def test_values_that_are_passed_at_another_party_are_refused():
    async def program(party):
        engine = await Engine.create(party)
        engine.share([1], owner="ada", shape=1)

    run = simulate(dict.fromkeys(NAMES[:3], program))
    assert isinstance(run.errors["bob"], UsageError)
