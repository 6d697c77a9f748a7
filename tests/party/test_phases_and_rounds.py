"""A run's phases are charged with what they cost, and its rounds are counted along the longest chain of messages."""

from __future__ import annotations

import msgspec
import pytest

from secagg import wire
from secagg.errors import (
    PeerVanishedError,
    WireError,
)
from secagg.network.simulated import simulate
from secagg.party import Party
from stepped import (
    NAMES,
    Number,
    exchange,
    frames,
    one_from_b,
    party,
    started,
)

# Phases.


def test_costs_are_charged_to_the_phase_that_asked() -> None:
    async def program(p: Party) -> None:
        with p.phase("one"):
            await exchange(p, 1, 1)
            with p.phase("two"):
                await exchange(p, 2, 1)
            await exchange(p, 1, 1)
        await exchange(p, 1, 1)

    out = simulate(dict.fromkeys(NAMES, program))
    for ledger in out.ledgers.values():
        assert {n: (c.rounds, c.sent.messages, c.received.messages) for n, c in ledger.phases.items()} == {
            "one": (2, 4, 4),
            "two": (2, 4, 4),
            "start": (1, 2, 2),
        }


def test_phases_of_protocols_side_by_side_do_not_mix() -> None:
    async def branch(p: Party, name: str, rounds: int) -> None:
        with p.phase(name):
            await exchange(p, rounds, 1)
        with p.phase(name + " after"):
            await exchange(p, 1, 1)

    async def program(p: Party) -> str:
        with p.phase("around"):
            await p.parallel(branch(p, "x", 1), branch(p, "y", 3))
            await exchange(p, 1, 1)
        return p.ledger.phase

    out = simulate(dict.fromkeys(NAMES, program))
    assert out.values() == ["start"] * 3
    for ledger in out.ledgers.values():
        counts = {n: (c.sent.messages, c.received.messages) for n, c in ledger.phases.items()}
        assert counts == {
            "start": (0, 0),
            "around": (2, 2),
            "x": (2, 2),
            "x after": (2, 2),
            "y": (6, 6),
            "y after": (2, 2),
        }


def test_a_phase_ends_with_its_program_and_what_a_branch_enters_with_the_branch() -> None:
    async def branch(p: Party) -> None:
        with p.phase("inner"):
            await exchange(p, 1, 1)
        p.ledger.enter("left behind")

    async def program(p: Party) -> list[str]:
        await p.parallel(branch(p), branch(p))
        phases = [p.ledger.phase]
        with p.phase("own"):
            p.ledger.enter("left behind")
        return [*phases, p.ledger.phase]

    assert simulate(dict.fromkeys(NAMES, program)).values() == [["start", "start"]] * 3


def test_the_phase_is_what_it_was_after_branches_end_with_an_error() -> None:
    async def branch(p: Party) -> None:
        with p.phase("inner"):
            await p.receive(Number, "b")

    async def program(p: Party) -> str:
        with p.phase("outer"):
            try:
                await p.parallel(branch(p), branch(p))
            except PeerVanishedError:
                return p.ledger.phase
        return ""

    run = started(program)
    run.advance(late=True)
    assert run.result() == "outer"


# Rounds.


def test_rounds_of_a_chain_are_its_length() -> None:
    names = tuple(f"p{i}" for i in range(7))

    async def program(p: Party) -> None:
        i = names.index(p.me)
        if i:
            await p.receive(Number, names[i - 1])
        if i + 1 < len(names):
            p.send(names[i + 1], Number(i))

    out = simulate(dict.fromkeys(names, program))
    assert [out.ledgers[n].total().rounds for n in names] == list(range(7))


def test_rounds_of_a_tree_are_its_depth() -> None:
    names = tuple(f"p{i}" for i in range(1, 16))  # p1 is the root; the children of p_i are p_2i, p_2i+1

    async def program(p: Party) -> int:
        i = int(p.me[1:])
        children = [n for n in (f"p{2 * i}", f"p{2 * i + 1}") if n in names]
        total = i + sum(m.value for m in (await p.gather(Number, children)).values())
        if i > 1:
            p.send(f"p{i // 2}", Number(total))
        return total

    out = simulate(dict.fromkeys(names, program))
    assert out.results["p1"] == 120
    assert [out.ledgers[f"p{i}"].total().rounds for i in (1, 2, 3, 4, 7, 8, 15)] == [3, 2, 2, 1, 1, 0, 0]


def test_messages_sent_before_an_answer_is_read_are_one_round() -> None:
    async def program(p: Party) -> None:
        other = "b" if p.me == "a" else "a"
        for i in range(5):
            p.send(other, Number(i))
        for _ in range(5):
            await p.receive(Number, other)

    out = simulate(dict.fromkeys(("a", "b"), program))
    assert [ledger.total().rounds for ledger in out.ledgers.values()] == [1, 1]


def test_a_depth_beyond_all_runs_is_refused_by_whom_it_reaches_and_blamed_on_its_sender() -> None:
    sender, run = party("b"), started(one_from_b)
    sender.send("a", Number(1))
    frame = frames(sender)[0]
    honest = wire.decode_envelope(frame, peer="b").envelope
    for depth in (wire.MAX_DEPTH + 1, 2**48 - 1):
        liar = started(one_from_b)
        header = msgspec.msgpack.encode(msgspec.structs.replace(honest, depth=depth))
        liar.party.deliver(b"".join(wire._frame("k", wire.FrameType.MESSAGE, header, [])[0]), "b")
        liar.advance()
        with pytest.raises(WireError) as caught:
            liar.result()
        assert caught.value.peer == "b"
    run.party.deliver(frame, "b")
    run.advance()
    assert run.result() == 1


def test_who_reads_the_deepest_message_that_is_allowed_sends_what_others_take() -> None:
    async def forward(p: Party) -> None:
        p.send("c", await p.receive(Number, "b"))
        await p.receive(Number, "b")
        p.send("c", Number(2))

    async def two(p: Party) -> int:
        return sum([(await p.receive(Number, "a")).value for _ in range(2)])

    async def claim(p: Party) -> None:
        p.ledger.depth = wire.MAX_DEPTH
        p.send("a", Number(1))
        p.send("a", Number(1))

    outcome = simulate({"a": forward, "b": claim, "c": two})
    assert outcome.values()[2] == 3
    assert [ledger.depth for ledger in outcome.ledgers.values()] == [wire.MAX_DEPTH] * 3


def test_waiting_for_an_old_message_after_a_deep_one_adds_no_round() -> None:
    async def program(p: Party) -> None:
        if p.me == "a":
            p.send("c", Number(0))  # depth 1, read last
            p.send("b", Number(1))
        elif p.me == "b":
            await p.receive(Number, "a")
            p.send("c", Number(2))
        else:
            await p.receive(Number, "b")
            await p.receive(Number, "a")

    out = simulate(dict.fromkeys(NAMES, program))
    assert out.ledgers["c"].total().rounds == 2
