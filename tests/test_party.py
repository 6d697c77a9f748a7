from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from secagg import wire
from secagg.errors import (
    AbortedError,
    PeerVanishedError,
    RemoteProtocolError,
    ShapeError,
    TooFewPartiesError,
    UsageError,
    WireError,
)
from secagg.network.simulated import Fault, simulate
from secagg.party import UNKNOWN, Computation, Party, Roster, Run, aborted, check_array
from secagg.prg import Stream
from secagg.wire import Message

SESSION = bytes(range(32))
NAMES = ("a", "b", "c")


class Number(Message, frozen=True):
    value: int


class Other(Message, frozen=True):
    value: int


class Vector(Message, frozen=True):
    values: NDArray[np.uint64]


def party(me: str = "a", roster: tuple[str, ...] = NAMES, session: bytes = SESSION) -> Party:
    return Party(me, roster, session=session, rng=Stream(bytes(32)))


def frames(sender: Party) -> list[bytes]:
    """Take what a party wants to send, as bytes."""
    out = [b"".join(o.frame) for o in sender.outbox]
    sender.outbox.clear()
    return out


def sent_by(name: str, to: str, *values: int, session: bytes = SESSION, kind: Any = Number) -> list[bytes]:
    """Return the frames of numbers sent by one party to another."""
    sender = party(name, session=session)
    for value in values:
        sender.send(to, kind(value))
    return frames(sender)


def started(program: Callable[[Party], Computation[Any]], me: str = "a") -> Run[Any]:
    p = party(me)
    run = Run(p, program(p))
    run.start()
    return run


async def one_from_b(p: Party) -> int:
    return (await p.receive(Number, "b")).value


async def three_from_b(p: Party) -> list[int]:
    return [(await p.receive(Number, "b")).value for _ in range(3)]


async def one_each(p: Party) -> dict[str, int]:
    return {peer: m.value for peer, m in (await p.gather(Number, ("c", "b"))).items()}


# Construction and arguments.


@pytest.mark.parametrize("roster", [("a", "a"), ("b", "c"), ("a", ""), ()])
def test_rosters_with_repeated_or_empty_names_or_without_me_are_refused(roster: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="roster"):
        Party("a", roster, session=SESSION)


@pytest.mark.parametrize("session", [b"", bytes(31), bytes(33)])
def test_sessions_of_another_length_are_refused(session: bytes) -> None:
    with pytest.raises(UsageError, match="32 bytes"):
        Party("a", NAMES, session=session)


def test_a_roster_is_shared_between_parties_of_one_process() -> None:
    roster = Roster(NAMES)
    assert party("a", roster).roster is party("b", roster).roster
    assert roster.position == {"a": 0, "b": 1, "c": 2}


def test_two_parties_draw_different_secrets_by_default() -> None:
    draws = {Party("a", NAMES, session=SESSION).rng.bytes(16) for _ in range(8)}
    assert len(draws) == 8


@pytest.mark.parametrize("to", ["a", "d", ""])
def test_sending_to_oneself_or_a_stranger_is_refused(to: str) -> None:
    with pytest.raises(UsageError, match="cannot send"):
        party().send(to, Number(1))


@pytest.mark.parametrize(("peers", "quorum"), [(("a",), None), (("d",), None), (("b", "c"), 3), (("b",), -1)])
def test_gathering_from_oneself_or_strangers_or_with_an_impossible_quorum_is_refused(
    peers: tuple[str, ...], quorum: int | None
) -> None:
    with pytest.raises(UsageError, match="cannot gather"):
        party().gather(Number, peers, quorum=quorum)


def test_a_message_that_cannot_be_encoded_takes_no_sequence_number() -> None:
    sender = party("b")
    with pytest.raises(ShapeError):
        sender.send("a", Vector(np.zeros(1, np.complex128)))
    sender.send("a", Number(5))
    run = started(one_from_b)
    run.party.deliver(frames(sender)[0], "b")
    run.advance()
    assert run.result() == 5


def test_repr_of_a_party_shows_no_secret() -> None:
    p = Party("a", NAMES, session=SESSION, rng=Stream(b"k" * 32))
    assert repr(p) == "Party('a', 3 parties)"


# What peers may not send.


def test_messages_are_read_in_the_order_in_which_they_were_sent() -> None:
    run = started(three_from_b)
    for frame in sent_by("b", "a", 1, 2, 3):
        run.party.deliver(frame, "b")
    run.advance()
    assert run.result() == [1, 2, 3]


@given(order=st.permutations(range(6)))
@settings(deadline=None)
def test_frames_that_arrive_in_any_order_are_read_in_the_order_sent(order: list[int]) -> None:
    async def six(p: Party) -> list[int]:
        return [(await p.receive(Number, "b")).value for _ in range(6)]

    run = started(six)
    sent = sent_by("b", "a", *range(6))
    for i in order:
        run.party.deliver(sent[i], "b")
        run.advance()
    assert run.result() == list(range(6))


def test_a_frame_that_arrives_early_does_not_let_the_protocol_go_on() -> None:
    run = started(one_from_b)
    first, second = sent_by("b", "a", 1, 2)
    run.party.deliver(second, "b")
    run.advance()
    assert not run.done
    assert run.party.waiting_for == ("b",)
    run.party.deliver(first, "b")
    run.advance()
    assert run.result() == 1


def test_results_come_by_peer_in_the_order_asked_for() -> None:
    run = started(one_each)
    run.party.deliver(sent_by("b", "a", 2)[0], "b")
    assert run.party.waiting_for == ("c",)
    run.party.deliver(sent_by("c", "a", 3)[0], "c")
    run.advance()
    assert list(run.result().items()) == [("c", 3), ("b", 2)]


def bad_session() -> list[bytes]:
    return sent_by("b", "a", 1, session=bytes(32))


def bad_sender() -> list[bytes]:
    return sent_by("c", "a", 1)


def bad_duplicate() -> list[bytes]:
    return sent_by("b", "a", 1) * 2


def bad_replay() -> list[bytes]:
    first, second = sent_by("b", "a", 1, 2)
    return [first, second, first]


def bad_early_duplicate() -> list[bytes]:
    return [sent_by("b", "a", 1, 2)[1]] * 2


def bad_kind() -> list[bytes]:
    return sent_by("b", "a", 1, kind=Other)


def bad_bytes() -> list[bytes]:
    return [b"not a frame"]


def bad_control() -> list[bytes]:
    return [wire.encode_control(wire.FrameType.HEARTBEAT)]


def bad_type() -> list[bytes]:
    sender = party("b")
    sender.send("a", Number("one"))  # type: ignore[arg-type]  # what a peer of another release might send
    return frames(sender)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (bad_session, "another session"),
        (bad_sender, "another party's name"),
        (bad_duplicate, "came again"),
        (bad_replay, "came again"),
        (bad_early_duplicate, "came twice"),
        (bad_kind, "expected .*Number from b, got '.*Other'"),
        (bad_bytes, "prefix"),
        (bad_control, "expected a message frame"),
        (bad_type, "malformed"),
    ],
)
def test_what_breaks_the_rules_is_an_error_that_names_the_peer(
    make: Callable[[], list[bytes]], words: str
) -> None:
    run = started(three_from_b)
    for frame in make():
        run.party.deliver(frame, "b")
    run.advance()
    with pytest.raises(RemoteProtocolError, match=words) as caught:
        run.result()
    assert caught.value.peer == "b"
    assert "b" in str(caught.value)


def test_what_a_peer_sent_before_it_broke_the_rules_can_still_be_read() -> None:
    run = started(one_from_b)
    for frame in [*sent_by("b", "a", 7), b"garbage"]:
        run.party.deliver(frame, "b")
    run.advance()
    assert run.result() == 7
    assert isinstance(run.party.failed["b"], WireError)


def test_nothing_is_taken_from_a_peer_that_broke_the_rules() -> None:
    run = started(three_from_b)
    first, second, third = sent_by("b", "a", 1, 2, 3)
    for frame in (first, b"garbage", second, third):
        run.party.deliver(frame, "b")
    run.advance()
    with pytest.raises(WireError):
        run.result()


def test_frames_held_back_for_one_peer_are_bounded() -> None:
    run = started(one_from_b)
    sent = sent_by("b", "a", *range(1100))
    for frame in sent[1:]:
        run.party.deliver(frame, "b")
    run.party.deliver(sent[0], "b")
    run.advance()
    with pytest.raises(RemoteProtocolError, match="too early"):
        run.result()


def test_frames_from_a_stranger_reach_no_protocol() -> None:
    run = started(one_from_b)
    run.party.deliver(sent_by("b", "a", 1)[0], "stranger")
    run.advance()
    assert not run.done


def test_sessions_are_told_apart_by_their_first_sixteen_bytes() -> None:
    run = started(one_from_b)
    run.party.deliver(sent_by("b", "a", 1, session=SESSION[:16] + bytes(16))[0], "b")
    run.advance()
    assert run.result() == 1


# Peers that fail.


def test_a_peer_that_fails_ends_the_wait_at_once() -> None:
    run = started(one_each)
    run.party.fail("b", PeerVanishedError("b is gone", peer="b"))
    assert run.party.ready
    run.advance()
    with pytest.raises(PeerVanishedError, match="b is gone"):
        run.result()


def test_the_peer_that_failed_is_blamed_and_not_one_that_is_merely_slower() -> None:
    # c comes first in the gather and has sent nothing yet either.
    run = started(one_each)
    run.party.deliver(b"garbage", "b")
    run.advance()
    with pytest.raises(WireError) as caught:
        run.result()
    assert caught.value.peer == "b"


def test_of_two_peers_that_failed_the_first_is_blamed() -> None:
    for order in (("b", "c"), ("c", "b")):
        run = started(one_each)
        for name in order:
            run.party.fail(name, PeerVanishedError(f"{name} is gone", peer=name))
        run.advance()
        with pytest.raises(PeerVanishedError, match=f"{order[0]} is gone"):
            run.result()


def test_the_first_reason_for_which_a_peer_failed_is_kept() -> None:
    p = party()
    p.fail("b", PeerVanishedError("first", peer="b"))
    p.fail("b", PeerVanishedError("second", peer="b"))
    assert str(p.failed["b"]) == "first"


def test_a_peer_whose_message_is_there_may_fail_without_harm() -> None:
    run = started(one_each)
    run.party.deliver(sent_by("b", "a", 2)[0], "b")
    run.party.fail("b", PeerVanishedError("b is gone", peer="b"))
    assert not run.party.ready
    run.party.deliver(sent_by("c", "a", 3)[0], "c")
    run.advance()
    assert run.result() == {"c": 3, "b": 2}


def test_when_time_is_over_the_missing_peer_is_named() -> None:
    run = started(one_each)
    run.party.deliver(sent_by("c", "a", 3)[0], "c")
    run.advance(late=True)
    with pytest.raises(PeerVanishedError, match="a waited for Number from b") as caught:
        run.result()
    assert caught.value.peer == "b"


def test_a_protocol_may_catch_the_error_and_go_on() -> None:
    async def forgiving(p: Party) -> int:
        try:
            return (await p.receive(Number, "b")).value
        except PeerVanishedError:
            return (await p.receive(Number, "c")).value

    run = started(forgiving)
    run.party.fail("b", PeerVanishedError("gone", peer="b"))
    run.advance()
    run.party.deliver(sent_by("c", "a", 9)[0], "c")
    run.advance()
    assert run.result() == 9


# Quorum.


def quorum_of(k: int, peers: tuple[str, ...] = ("b", "c")) -> Callable[[Party], Computation[list[str]]]:
    async def program(p: Party) -> list[str]:
        return list(await p.gather(Number, peers, quorum=k))

    return program


def test_a_quorum_waits_for_all_until_the_time_is_over() -> None:
    run = started(quorum_of(1))
    run.party.deliver(sent_by("b", "a", 1)[0], "b")
    run.advance()
    assert not run.done
    run.advance(late=True)
    assert run.result() == ["b"]


def test_a_quorum_goes_on_at_once_when_the_others_cannot_come_any_more() -> None:
    run = started(quorum_of(1))
    run.party.deliver(sent_by("b", "a", 1)[0], "b")
    run.party.fail("c", PeerVanishedError("gone", peer="c"))
    run.advance()
    assert run.result() == ["b"]


@pytest.mark.parametrize("make", [bad_session, bad_kind, bad_bytes, bad_type])
def test_a_peer_that_breaks_the_rules_is_left_out_of_a_quorum(make: Callable[[], list[bytes]]) -> None:
    run = started(quorum_of(1))
    run.party.deliver(make()[0], "b")
    run.party.deliver(sent_by("c", "a", 1)[0], "c")
    run.advance()
    assert run.result() == ["c"]
    assert isinstance(run.party.failed["b"], RemoteProtocolError)


@pytest.mark.parametrize("in_turn", [False, True])
def test_a_peer_that_sends_something_else_first_is_left_out_whatever_it_sends_then(in_turn: bool) -> None:
    async def program(p: Party) -> list[list[str]]:
        if in_turn:
            first = [peer async for peer, _ in p.as_completed(Number, ("b", "c"), quorum=1)]
        else:
            first = list(await p.gather(Number, ("b", "c"), quorum=1))
        return [first, list(await p.gather(Number, ("b", "c"), quorum=1))]

    sender = party("b")
    sender.send("a", Text("no number"))
    sender.send("a", Number(1))
    sender.send("a", Number(2))
    run = started(program)
    for frame in frames(sender):
        run.party.deliver(frame, "b")
    for frame in sent_by("c", "a", 1, 2):
        run.party.deliver(frame, "c")
    run.advance()
    assert run.result() == [["c"], ["c"]]
    assert isinstance(run.party.failed["b"], RemoteProtocolError)


def test_too_few_answers_are_an_error_that_names_who_is_missing_and_why() -> None:
    run = started(quorum_of(2))
    run.party.deliver(b"garbage", "c")
    run.party.deliver(sent_by("b", "a", 1)[0], "b")
    run.advance()
    with pytest.raises(TooFewPartiesError, match=r"at least 2 of 2 parties, got 1; missing: c \(") as caught:
        run.result()
    assert caught.value.peer == "c"


def test_a_peer_that_was_left_out_for_being_late_stays_out() -> None:
    async def twice(p: Party) -> list[list[str]]:
        return [list(await p.gather(Number, ("b", "c"), quorum=1)) for _ in range(2)]

    run = started(twice)
    b1, b2 = sent_by("b", "a", 1, 2)
    run.party.deliver(b1, "b")
    run.advance(late=True)
    for frame in sent_by("c", "a", 1, 2):
        run.party.deliver(frame, "c")
    run.party.deliver(b2, "b")
    run.advance()
    assert run.result() == [["b"], ["b"]]


def test_a_quorum_of_none_is_met_by_nobody() -> None:
    run = started(quorum_of(0))
    run.advance(late=True)
    assert run.result() == []


def test_thousands_of_missing_peers_are_not_all_listed() -> None:
    roster = tuple(f"p{i}" for i in range(2000))

    async def program(p: Party) -> list[str]:
        return list(await p.gather(Number, p.others, quorum=1))

    p = party("p0", roster)
    run = Run(p, program(p))
    run.start()
    run.advance(late=True)
    with pytest.raises(TooFewPartiesError, match="and 1989 more") as caught:
        run.result()
    assert len(str(caught.value)) < 5000


# Arrivals.


def as_completed(
    k: int | None, peers: tuple[str, ...] = ("b", "c")
) -> Callable[[Party], Computation[list[str]]]:
    async def program(p: Party) -> list[str]:
        return [peer async for peer, _ in p.as_completed(Number, peers, quorum=k)]

    return program


def test_arrivals_come_in_the_order_of_arrival_each_as_soon_as_it_is_there() -> None:
    seen: list[str] = []

    async def program(p: Party) -> None:
        async for peer, message in p.as_completed(Number, ("b", "c")):
            seen.append(f"{peer}{message.value}")

    run = started(program)
    run.party.deliver(sent_by("c", "a", 3)[0], "c")
    run.advance()
    assert seen == ["c3"]
    assert not run.done
    run.party.deliver(sent_by("b", "a", 2)[0], "b")
    run.advance()
    assert seen == ["c3", "b2"]
    assert run.done


def test_each_peer_arrives_once_and_what_it_sends_next_is_left_for_later() -> None:
    async def program(p: Party) -> tuple[list[str], int]:
        return [peer async for peer, _ in p.as_completed(Number, ("b", "c"))], await one_from_b(p)

    run = started(program)
    for frame in sent_by("b", "a", 1, 7):
        run.party.deliver(frame, "b")
    run.advance()
    assert not run.done
    run.party.deliver(sent_by("c", "a", 3)[0], "c")
    run.advance()
    assert run.result() == (["b", "c"], 7)


def test_arrivals_without_a_quorum_end_with_the_peer_that_failed() -> None:
    run = started(as_completed(None))
    run.party.deliver(sent_by("b", "a", 1)[0], "b")
    run.advance()
    run.party.fail("c", PeerVanishedError("gone", peer="c"))
    run.advance()
    with pytest.raises(PeerVanishedError, match="gone"):
        run.result()


def test_arrivals_without_a_quorum_name_who_is_late() -> None:
    run = started(as_completed(None))
    run.party.deliver(sent_by("b", "a", 1)[0], "b")
    run.advance()
    run.advance(late=True)
    with pytest.raises(PeerVanishedError, match="waited for Number from c"):
        run.result()


@pytest.mark.parametrize("ending", ["late", "gone", "garbage"])
def test_arrivals_with_a_quorum_end_with_those_who_came(ending: str) -> None:
    run = started(as_completed(1))
    if ending == "garbage":
        run.party.deliver(bad_kind()[0], "b")  # only when it is read does its kind show
        run.advance()
        assert not run.done
        run.party.deliver(sent_by("c", "a", 1)[0], "c")
        run.advance()
        assert run.result() == ["c"]
        assert isinstance(run.party.failed["b"], RemoteProtocolError)
        return
    run.party.deliver(sent_by("b", "a", 1)[0], "b")
    run.advance()
    if ending == "gone":
        run.party.fail("c", PeerVanishedError("gone", peer="c"))
        run.advance()
    else:
        run.advance(late=True)
    assert run.result() == ["b"]
    assert isinstance(run.party.failed["c"], PeerVanishedError)


def test_too_few_arrivals_are_an_error_after_those_that_came() -> None:
    seen: list[str] = []

    async def program(p: Party) -> None:
        async for peer, _ in p.as_completed(Number, ("b", "c"), quorum=2):
            seen.append(peer)

    run = started(program)
    run.party.deliver(sent_by("c", "a", 1)[0], "c")
    run.advance(late=False)
    run.advance(late=True)
    assert seen == ["c"]
    with pytest.raises(TooFewPartiesError, match=r"at least 2 of 2 parties, got 1; missing: b \("):
        run.result()


def test_the_time_of_arrivals_is_counted_from_the_first_wait() -> None:
    async def sender(p: Party, after_s: float) -> list[str]:
        with contextlib.suppress(PeerVanishedError):
            await p.gather(Number, ("a",), timeout_s=after_s)
        p.send("a", Number(1))
        return []

    async def receiver(p: Party) -> list[str]:
        return [peer async for peer, _ in p.as_completed(Number, ("b", "c", "d"), quorum=1, timeout_s=10.0)]

    delays = {"b": 4.0, "c": 8.0, "d": 12.0}  # never 10 s apart
    programs: dict[str, Callable[[Party], Computation[list[str]]]] = {"a": receiver}
    programs |= {name: partial(sender, after_s=s) for name, s in delays.items()}
    assert simulate(programs).results["a"] == ["b", "c"]


def test_the_shortest_time_that_the_protocol_set_is_told_to_the_driver() -> None:
    async def wait(p: Party, limit: float | None) -> None:
        await p.gather(Number, ("b",), quorum=0, timeout_s=limit)

    async def both(p: Party) -> None:
        await p.parallel(wait(p, 5.0), wait(p, 3.0), wait(p, None))

    assert started(both).party.timeout_s == 3.0
    assert started(lambda p: wait(p, None)).party.timeout_s is None


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


async def exchange(p: Party, rounds: int, start: int) -> int:
    """Add everybody's numbers for some rounds; a message in a wrong lane changes the sum."""
    total = start
    for _ in range(rounds):
        p.broadcast(Number(total))
        total += sum(m.value for m in (await p.gather(Number, p.others)).values())
    return total


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


# Small things.


def test_arrays_of_another_shape_than_expected_name_the_peer() -> None:
    array = np.zeros((2, 3), np.uint64)
    assert check_array(array, (2, 3), what="x", peer="b") is array
    with pytest.raises(
        RemoteProtocolError, match=r"expected x of shape \(6,\) from b, got \(2, 3\)"
    ) as caught:
        check_array(array, (6,), what="x", peer="b")
    assert caught.value.peer == "b"


@pytest.mark.parametrize("about", ["c", "", "a", UNKNOWN])
def test_an_abort_names_who_ended_the_run_and_keeps_apart_whom_that_party_accuses(about: str) -> None:
    error = aborted("a", about, "c is gone")
    accused = "c" if about == "c" else ""
    assert (error.peer, error.accused) == ("a", accused)
    assert str(error).startswith("a ended the run: c is gone")
    assert ("a says: c is to blame; nothing but its word shows it" in str(error)) == bool(accused)


def test_altered_frames_are_met_where_the_protocol_waits() -> None:
    out = simulate(dict.fromkeys(NAMES, lambda p: exchange(p, 2, 1)), faults=[Fault("flip", 0, "b", "a")])
    assert {getattr(e, "peer", "") for e in out.errors.values()} <= {"a", "b"}
    assert getattr(out.errors["a"], "peer", "") == "b"


def test_what_is_safe_once_in_a_session_is_refused_the_second_time() -> None:
    async def program(p: Party) -> None:
        p.claim("round 0")
        p.claim("round 1")
        with pytest.raises(
            UsageError, match="round 0 has taken place in this session, and is safe only once"
        ):
            p.claim("round 0")

    for _ in range(2):  # another session knows nothing of the first
        simulate(dict.fromkeys(("a", "b"), program)).values()


def test_of_one_that_sends_ahead_arrivals_yield_the_first_and_leave_the_rest() -> None:
    async def program(p: Party) -> Any:
        if p.me == "server":
            await p.receive(Number, "slow")  # what the others send meanwhile lies there
            seen = [(peer, m.value) async for peer, m in p.as_completed(Number, ("a", "b", "slow"), quorum=0)]
            return seen, [(await p.receive(Number, peer)).value for peer in ("b", "a", "b")]
        for value in range({"a": 2, "b": 3, "slow": 2}[p.me]):
            p.send("server", Number(value))
        return None

    names = ("server", "a", "b", "slow")
    out = simulate(dict.fromkeys(names, program), starts={"a": 2.0, "b": 1.0, "slow": 3.0})
    seen, left = out.values()[0]
    assert seen == [("b", 0), ("a", 0), ("slow", 1)]
    assert left == [1, 1, 2]


# How long answers may be.


class Text(Message, frozen=True):
    text: str


class Nested(Message, frozen=True):
    inner: tuple[Vector | None, ...]


def test_kinds_that_hold_arrays_anywhere_are_known() -> None:
    assert wire.carries_arrays(Vector)
    assert wire.carries_arrays(Nested)
    assert not wire.carries_arrays(Number)
    assert not wire.carries_arrays(Text)


@pytest.mark.parametrize(
    ("kind", "sent", "max_bytes", "taken"),
    [
        (Text, Text("x" * 60_000), None, True),
        (Text, Text("x" * (1 << 16)), None, False),
        (Text, Text("x" * (1 << 16)), 1 << 16, True),
        (Vector, Vector(np.zeros(1 << 14, np.uint64)), None, True),
        (Vector, Vector(np.zeros(1 << 14, np.uint64)), 1 << 17, True),
        (Vector, Vector(np.zeros(1 << 15, np.uint64)), 1 << 17, False),
    ],
)
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("how", ["gather", "receive", "as_completed"])
def test_an_answer_longer_than_the_request_says_is_an_error_that_names_its_sender(
    kind: type[Message], sent: Message, max_bytes: int | None, taken: bool, early: bool, how: str
) -> None:
    async def asks(p: Party) -> bool:
        await p.receive(Number, "c")
        if how == "receive":
            return type(await p.receive(kind, "b", max_bytes=max_bytes)) is kind
        if how == "gather":
            return type((await p.gather(kind, ["b"], max_bytes=max_bytes))["b"]) is kind
        got = [message async for _, message in p.as_completed(kind, ["b"], max_bytes=max_bytes)]
        return type(got[0]) is kind

    sender = party("b")
    sender.send("a", sent)
    (long,) = frames(sender)
    run = started(asks)
    if early:  # it came before anybody asked
        run.party.deliver(long, "b")
    run.party.deliver(sent_by("c", "a", 1)[0], "c")
    run.advance()
    if not early:
        run.party.deliver(long, "b")
    run.advance()
    if taken:
        assert run.result()
        return
    with pytest.raises(
        RemoteProtocolError, match=f"expected {kind.KIND} of at most .* bytes from b"
    ) as caught:
        run.result()
    assert caught.value.peer == "b"


def test_with_a_quorum_whoever_answers_at_too_great_a_length_is_left_out() -> None:
    async def asks(p: Party) -> list[str]:
        return list(await p.gather(Vector, p.others, quorum=1, max_bytes=1 << 16))

    async def answers(p: Party) -> list[str]:
        p.send("a", Vector(np.zeros(1 << (15 if p.me == "b" else 13), np.uint64)))
        return []

    outcome = simulate({"a": asks, "b": answers, "c": answers})
    assert outcome.results["a"] == ["c"]
