"""Runs of programs, one after the other and side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from secagg import wire
from secagg.errors import (
    AbortedError,
    UsageError,
)
from secagg.network.simulated import Fault, simulate
from secagg.party import Party, Run
from stepped import (
    NAMES,
    Number,
    Other,
    Vector,
    exchange,
    frames,
    one_from_b,
    party,
    sent_by,
    started,
    three_from_b,
)

# Runs.


def test_a_run_that_has_not_ended_has_no_result() -> None:
    run = started(one_from_b)
    with pytest.raises(UsageError, match="still waiting for b"):
        run.result()


def test_nothing_happens_before_a_run_is_started() -> None:
    p = party()
    program = one_from_b(p)
    run = Run(p, program)
    p.deliver(sent_by("b", "a", 4)[0], "b")
    run.advance()
    assert not run.step()
    assert not run.done
    run.start()
    run.advance()
    assert run.result() == 4


def test_what_a_protocol_raises_is_raised_by_result_each_time() -> None:
    async def broken(p: Party) -> None:
        raise KeyError("x")

    run = started(broken)
    assert run.done
    for _ in range(2):
        with pytest.raises(KeyError):
            run.result()


def test_a_step_goes_to_the_next_wait_and_no_further() -> None:
    run = started(three_from_b)
    for frame in sent_by("b", "a", 1, 2, 3):
        run.party.deliver(frame, "b")
    assert [run.step() for _ in range(4)] == [True, True, True, False]
    assert run.result() == [1, 2, 3]


def test_an_aborted_run_ends_with_that_error() -> None:
    run = started(one_from_b)
    run.abort(AbortedError("enough", peer="c"))
    with pytest.raises(AbortedError, match="enough"):
        run.result()


def test_arrays_changed_after_an_await_do_not_change_frames_in_flight() -> None:
    # The next message is there already, so the protocol goes on before the driver carried the first frame.
    async def program(p: Party) -> None:
        values = np.arange(100, dtype=np.uint64)
        for _ in range(3):
            p.send("b", Vector(values))
            await p.receive(Number, "b")
            values += 1000

    run = started(program)
    for frame in sent_by("b", "a", 1, 2, 3):
        run.party.deliver(frame, "b")
    run.advance()
    got = []
    for frame in frames(run.party):
        message, _ = wire.decode_body(wire.decode_envelope(frame, peer="a"), Vector, peer="a")
        got.append(int(message.values[0]))
    assert got == [0, 1000, 2000]


def test_frames_share_the_memory_of_arrays_until_they_are_carried() -> None:
    p = party()
    values = np.arange(100, dtype=np.uint64)
    p.send("b", Vector(values))
    assert any(np.shares_memory(np.frombuffer(part, np.uint8), values) for part in p.outbox[0].frame)


# Side by side.


def test_protocols_side_by_side_take_the_rounds_of_the_longest() -> None:
    async def program(p: Party) -> list[int]:
        return await p.parallel(exchange(p, 2, 1), exchange(p, 5, 10), exchange(p, 1, 100))

    out = simulate(dict.fromkeys(NAMES, program))
    assert out.values() == [[9, 2430, 300]] * 3
    assert {ledger.total().rounds for ledger in out.ledgers.values()} == {5}


def test_protocols_one_after_the_other_add_their_rounds() -> None:
    async def program(p: Party) -> list[int]:
        return [await exchange(p, 2, 1), await exchange(p, 5, 10)]

    out = simulate(dict.fromkeys(NAMES, program))
    assert {ledger.total().rounds for ledger in out.ledgers.values()} == {7}


@pytest.mark.slow
def test_side_by_side_inside_side_by_side() -> None:
    async def inner(p: Party, k: int) -> list[int]:
        first = await exchange(p, k, k)
        return [
            first,
            *await p.parallel(exchange(p, 1, k + 1), exchange(p, 3, k + 2)),
            await exchange(p, 1, first),
        ]

    async def program(p: Party) -> list[Any]:
        before = await exchange(p, 1, 7)
        both = await p.parallel(inner(p, 1), inner(p, 2), exchange(p, 4, 3))
        return [before, *both, await exchange(p, 1, 5)]

    out = simulate(dict.fromkeys(NAMES, program))
    assert out.values() == [[21, [3, 6, 81, 9], [18, 9, 108, 54], 243, 15]] * 3
    # The longest branch: 2 rounds, then 3 side by side with 1, then 1; one before and one behind.
    assert {ledger.total().rounds for ledger in out.ledgers.values()} == {1 + 2 + 3 + 1 + 1}


def test_messages_stay_in_their_lane_when_roles_and_lengths_differ() -> None:
    # Lane 0: a asks, b answers, c has nothing to do. Lane 1: everybody, thrice. Lane 2: one way, b to c.
    async def ask(p: Party) -> int:
        if p.me == "a":
            p.send("b", Number(1))
            return (await p.receive(Number, "b")).value
        if p.me == "b":
            p.send("a", Number((await p.receive(Number, "a")).value + 1))
        return 0

    async def tell(p: Party) -> int:
        if p.me == "b":
            p.send("c", Number(50))
            p.send("c", Number(51))
        if p.me == "c":
            return (await p.receive(Number, "b")).value * 1000 + (await p.receive(Number, "b")).value
        return 0

    async def program(p: Party) -> list[int]:
        return await p.parallel(ask(p), exchange(p, 3, 10), tell(p))

    out = simulate(dict.fromkeys(NAMES, program))
    assert out.values() == [[2, 270, 0], [0, 270, 0], [0, 270, 50051]]


def test_nested_lanes_do_not_cross_when_branches_reach_them_at_different_steps() -> None:
    # The first branch splits again at once at a and a step later at b; the second the other way round.
    async def one(p: Party, sender: str, receiver: str, k: int) -> int:
        if p.me == sender:
            p.send(receiver, Number(k))
        return (await p.receive(Number, sender)).value if p.me == receiver else 0

    async def branch(p: Party, sender: str, receiver: str, k: int) -> list[int]:
        if p.me == "c":
            p.send(receiver, Number(0))
            return []
        if p.me == receiver:
            await p.receive(Number, "c")
        return await p.parallel(one(p, sender, receiver, k), one(p, sender, receiver, k + 1))

    async def program(p: Party) -> list[Any]:
        return await p.parallel(branch(p, "a", "b", 10), branch(p, "b", "a", 20))

    out = simulate(dict.fromkeys(NAMES, program))
    assert out.values() == [[[0, 0], [20, 21]], [[10, 11], [0, 0]], [[], []]]


def test_an_error_in_one_branch_ends_the_others_and_names_the_culprit() -> None:
    closed = []

    async def careful(p: Party) -> None:
        try:
            await exchange(p, 9, 1)
        finally:
            closed.append(p.me)

    async def wrong(p: Party) -> None:
        if p.me == "b":
            p.broadcast(Other(1))
        else:
            await p.receive(Number, "b")
        await exchange(p, 9, 1)

    async def program(p: Party) -> None:
        await p.parallel(careful(p), wrong(p))

    out = simulate(dict.fromkeys(NAMES, program))
    assert set(out.errors) == {"a", "b", "c"}
    assert {getattr(out.errors[name], "peer", "") for name in ("a", "c")} == {"b"}
    assert sorted(closed) == ["a", "b", "c"]


def test_branches_that_wait_for_nothing_end_at_once() -> None:
    async def plain(k: int) -> int:
        return k

    async def program(p: Party) -> list[int]:
        assert await p.parallel() == []
        return await p.parallel(plain(1), plain(2))

    run = started(program)
    assert run.result() == [1, 2]


def test_branches_nested_too_deep_are_refused() -> None:
    async def nest(p: Party, depth: int) -> int:
        return 1 + (await p.parallel(nest(p, depth - 1)))[0] if depth else 0

    assert started(lambda p: nest(p, wire.MAX_LANE_DEPTH)).result() == wire.MAX_LANE_DEPTH
    with pytest.raises(UsageError, match="16 deep"):
        started(lambda p: nest(p, wire.MAX_LANE_DEPTH + 1)).result()


def test_a_program_that_raises_at_its_first_step_closes_those_not_started() -> None:
    async def fails(p: Party) -> None:
        raise UsageError("no")

    async def program(p: Party) -> None:
        await p.parallel(fails(p), exchange(p, 1, 1))

    with pytest.raises(UsageError, match="no"):
        started(program).result()


def test_altered_frames_are_met_where_the_protocol_waits() -> None:
    out = simulate(dict.fromkeys(NAMES, lambda p: exchange(p, 2, 1)), faults=[Fault("flip", 0, "b", "a")])
    assert {getattr(e, "peer", "") for e in out.errors.values()} <= {"a", "b"}
    assert getattr(out.errors["a"], "peer", "") == "b"
