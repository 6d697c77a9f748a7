"""Costs add up as the operations that they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from secagg import mpc
from secagg.cost import LAN, WAN, Cost, Network
from secagg.errors import UsageError
from secagg.network.simulated import simulate
from secagg.party import Party
from secagg.wire import Message

A = Cost(2, {"P_0": 1, "P_1": 2})
B = Cost(5, {"P_0": 10, "P_2": 30})


def test_one_after_the_other_rounds_and_bytes_add() -> None:
    assert A.then(B, B) == Cost(12, {"P_0": 21, "P_1": 2, "P_2": 60})


def test_side_by_side_the_longest_chain_counts_and_bytes_add() -> None:
    assert A.beside(B) == Cost(5, {"P_0": 11, "P_1": 2, "P_2": 30})


def test_an_operation_alone_costs_what_it_costs() -> None:
    assert A.then() == A.beside() == A


def test_what_holds_an_expectation_is_one() -> None:
    random = Cost(2, {"P_0": 1}, expected=True)
    assert A.then(random).expected
    assert random.beside(B).named({"P_0": "ada"}).expected
    assert not A.then(B).expected

    async def sorts(party: Party) -> None:
        engine = await mpc.Engine.create(party)
        x = engine.share(None, owner="a", shape=1000, dtype=mpc.int64)
        result: Any = np.sort(x) if sorting else x + x
        await engine.open(result, to="a")

    for sorting in (True, False):
        assert mpc.cost(sorts, dict.fromkeys("abc", ())).expected is sorting


def test_messages_add_where_all_declare_them() -> None:
    one, two = Cost.of("ada", 1, 8, 3), Cost.of("bob", 2, 9, 4)
    assert one.beside(two) == Cost(2, {"ada": 8, "bob": 9}, {"ada": 3, "bob": 4})
    assert one.then(one).messages == {"ada": 6}
    assert one.then(A).messages is None


def test_roles_get_names_and_a_party_of_two_roles_gets_both_costs() -> None:
    cost = Cost(3, {"P_0": 1, "P_1": 2, "client": 4}, {"P_0": 1, "P_1": 1, "client": 5})
    named = cost.named({"P_0": "ada", "client": "ada"})
    assert named == Cost(3, {"ada": 5, "P_1": 2}, {"ada": 6, "P_1": 1})


def test_time_on_a_network_is_latency_of_all_rounds_and_the_fullest_line() -> None:
    assert B.seconds(Network("slow", 2.0, 10.0)) == 5 * 2.0 + 30 / 10.0
    assert Cost(7, {}).seconds(WAN) == 7 * WAN.latency_s
    assert B.seconds(LAN) < B.seconds(WAN)


@pytest.mark.parametrize("numbers", [(-1, {}, None), (0, {"a": -1}, None), (0, {}, {"a": -1})])
def test_a_negative_cost_is_refused(numbers: tuple[int, dict[str, int], dict[str, int] | None]) -> None:
    with pytest.raises(UsageError, match="expected rounds, bytes and messages of at least 0"):
        Cost(*numbers)


class Vector(Message, frozen=True):
    values: NDArray[np.uint32]


def test_a_ledger_gives_what_was_measured_as_a_cost() -> None:
    async def program(party: Party) -> None:
        if party.me == "a":
            party.send("b", Vector(np.zeros(5, np.uint32)))
        else:
            await party.receive(Vector, "a")

    ledgers = simulate(dict.fromkeys("ab", program)).ledgers
    measured = [ledger.cost(name) for name, ledger in ledgers.items()]
    assert measured[0].beside(*measured[1:]) == Cost(1, {"a": 20, "b": 0}, {"a": 1, "b": 0})
