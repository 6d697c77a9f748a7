"""The shape of a result, as computing parties tell it to a receiver that does not compute."""

from __future__ import annotations

import pytest

from secagg.errors import RemoteProtocolError
from secagg.network.simulated import simulate
from secagg.query.results import ResultShape, receive_result, receive_shape

COMPUTING = ("ada", "bob", "cleo")
SAID = ResultShape(4, ("a", "b"))


def told(by_name, receive):
    """Return what a receiver makes of a shape that each computing party tells it; `SAID` unless `by_name` has another."""

    async def tell(party):
        party.send("lab", by_name.get(party.me, SAID))

    async def lab(party):
        return await receive(party, COMPUTING, ())

    return simulate(dict.fromkeys(COMPUTING, tell) | {"lab": lab})


def test_a_receiver_takes_a_shape_that_all_computing_parties_tell_it():
    shape = told({}, receive_shape).values()[-1]
    assert (shape.rows, shape.quotients) == (4, frozenset("ab"))
    assert told(dict.fromkeys(COMPUTING, ResultShape(0, ())), receive_result).values()[-1] is None


@pytest.mark.parametrize(
    ("by_name", "named"),
    [
        ({"cleo": ResultShape(5, ("a", "b"))}, "cleo"),
        ({"bob": ResultShape(4, ("a",))}, "bob"),
        ({"bob": ResultShape(4, ("b", "a"))}, "bob"),
        (dict.fromkeys(COMPUTING, ResultShape(-1, ())), "ada"),
        (dict.fromkeys(COMPUTING, ResultShape((1 << 32) + 1, ())), "ada"),
    ],
)
def test_who_tells_another_shape_or_one_that_cannot_be_is_named(by_name, named):
    error = told(by_name, receive_shape).errors["lab"]
    assert isinstance(error, RemoteProtocolError)
    assert error.peer == named
    assert f"got another one from {named}" in str(error)
