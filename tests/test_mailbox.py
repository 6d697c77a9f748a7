"""What an authenticated peer can make a party hold before anybody reads it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from secagg import wire
from secagg.errors import RemoteProtocolError, TooFewPartiesError
from secagg.mailbox import DEFAULT_ROOM, FRAME_BYTES, LANE_BYTES, Mailbox, Room
from secagg.party import Computation, Party, Run
from secagg.wire import Lane, Message

SESSION = bytes(32)
NAMES = ("a", "b", "c")
T = TypeVar("T")


class Block(Message, frozen=True):
    values: NDArray[np.uint64]


def frame(number: int, *, lane: Lane = (), words: int = 0, sender: int = 1) -> memoryview:
    """Return a frame of b's to a, in memory of its own as the network has it."""
    parts, _ = wire.encode_message(
        Block(np.zeros(words, np.uint64)),
        session=SESSION[:16],
        sender=sender,
        lane=lane,
        sequence=number,
        depth=wire.MAX_DEPTH,
    )
    return np.frombuffer(b"".join(parts), np.uint8).copy().data


def receiver(**room: int) -> Party:
    return Party("a", NAMES, session=SESSION, room=Room(**room))


def started(party: Party, program: Callable[[Party], Computation[T]]) -> Run[T]:
    run = Run(party, program(party))
    run.start()
    return run


async def one_from_b(party: Party) -> int:
    return int((await party.receive(Block, "b")).values.size)


async def one_from_c_then_all_from_b(party: Party) -> int:
    await party.receive(Block, "c")
    return sum([(await party.receive(Block, "b")).values.size for _ in range(20)])


def blamed(party: Party, peer: str = "b") -> str:
    error = party.failed[peer]
    assert isinstance(error, RemoteProtocolError)
    assert error.peer == peer
    return str(error)


def test_frames_in_a_lane_that_nobody_reads_are_bounded_in_bytes_and_their_sender_named() -> None:
    party = receiver(nbytes=1 << 20)
    run = started(party, one_from_b)
    for number in range(100):
        party.deliver(frame(number, lane=(5,), words=1 << 13), "b")
    assert "b has sent more than 1048576 bytes of messages that a has not asked for" in blamed(party)
    run.advance()
    with pytest.raises(RemoteProtocolError, match="has not asked for"):
        run.result()


@pytest.mark.parametrize(
    ("lane", "bound"),
    [(lambda i: (i,), "10 lanes"), (lambda i: (0,), "50 messages"), (lambda i: (0,) * 16, "50 messages")],
    ids=["a lane each", "one lane", "one deep lane"],
)
def test_short_frames_are_bounded_in_number(lane: Callable[[int], Lane], bound: str) -> None:
    party = receiver(frames=50, lanes=10)
    for number in range(52):
        party.deliver(frame(number, lane=lane(number)), "b")
    assert bound in blamed(party)


@pytest.mark.parametrize("asked", [(), ((0,),)], ids=["nobody asks", "one is asked for"])
def test_as_much_as_the_bounds_say_is_no_more_than_that(asked: tuple[Lane, ...]) -> None:
    parts = [wire.decode_envelope(frame(number, lane=(number,)), peer="b") for number in range(4)]
    each = parts[0].size + FRAME_BYTES + LANE_BYTES
    held = 3 - len(asked)
    exact = {"nbytes": held * each, "frames": held, "lanes": held}
    for short in (None, *exact):
        box = Mailbox("b", Room(**{**exact, **({short: exact[short] - 1} if short else {})}))
        for part in parts[:3]:
            box.take(part)
        assert bool(box.exceeds(asked)) == (short is not None)
        assert box.full == (short is not None or bool(asked))


def test_frames_that_come_early_are_bounded_in_bytes() -> None:
    party = receiver(nbytes=1 << 20)
    for number in range(1, 100):
        party.deliver(frame(number, words=1 << 13), "b")
    assert "more than 1048576 bytes" in blamed(party)


def test_where_the_channel_keeps_the_order_nothing_is_early() -> None:
    party = receiver(early=0)
    party.deliver(frame(1), "b")
    assert "message 1 from b came twice or too early" in blamed(party)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lane", "early"),
    [
        (lambda i: tuple((1 << 47) + 16 * i + j for j in range(16)), 0),
        (lambda i: tuple((1 << 47) + j for j in range(16)), 0),
        (lambda i: (i,), 0),
        (lambda i: (), 0),
        (lambda i: tuple((1 << 47) + 16 * i + j for j in range(16)), 1),
    ],
    ids=["deep lanes", "one deep lane", "lanes", "one lane", "early"],
)
def test_what_is_counted_is_at_least_what_python_holds(
    monkeypatch: pytest.MonkeyPatch, lane: Callable[[int], Lane], early: int
) -> None:
    n = 300
    monkeypatch.setattr(Block, "KIND", "k" * 256)
    sent = [bytes(frame(number + early, lane=lane(number))) for number in range(n)]
    party = receiver()
    tracemalloc.start()
    for number in range(n):
        party.deliver(np.frombuffer(sent[number], np.uint8).copy().data, "b")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not party.failed
    counted = party._mail["b"]._nbytes
    assert held <= counted <= sum(map(len, sent)) + n * (FRAME_BYTES + LANE_BYTES)


def test_short_frames_in_lanes_of_their_own_take_little_memory_by_default() -> None:
    party = receiver()
    for number in range(DEFAULT_ROOM.lanes + 2):
        party.deliver(frame(number, lane=(number,)), "b")
    assert f"{DEFAULT_ROOM.lanes} lanes" in blamed(party)
    assert party._mail["b"]._nbytes < 20e6


def test_what_is_asked_for_is_taken_however_large_and_in_however_many_lanes() -> None:
    async def program(party: Party) -> list[int]:
        return await party.parallel(*(one_from_b(party) for _ in range(8)))

    party = receiver(nbytes=1 << 16, frames=2, lanes=2)
    run = started(party, program)
    for number in range(8):
        party.deliver(frame(number, lane=(number,), words=1 << 14), "b")
    run.advance()
    assert run.result() == [1 << 14] * 8


def test_a_message_longer_than_all_that_may_stand_unread_is_not_taken_before_it_is_asked_for() -> None:
    party = receiver(nbytes=1 << 17)
    run = started(party, one_from_c_then_all_from_b)
    long = wire.decode_head(frame(0, words=1 << 15), peer="b")
    assert not party.admits(*long, "b")  # it can wait: c is waited for, and not b
    party.deliver(frame(0, sender=2), "c")
    run.advance()
    assert party.admits(*long, "b")
    second = wire.decode_head(frame(1, words=1 << 15), peer="b")
    with pytest.raises(
        RemoteProtocolError, match="more than 131072 bytes of messages that a has not asked for"
    ):
        party.admits(*second, "b")


def test_a_peer_that_is_ahead_within_the_bounds_is_read_in_order() -> None:
    party = receiver(nbytes=1 << 20)
    run = started(party, one_from_c_then_all_from_b)
    for number in range(20):
        party.deliver(frame(number, words=5000), "b")
    party.deliver(frame(0, sender=2), "c")
    run.advance()
    assert run.result() == 100_000


def test_reading_makes_room_again() -> None:
    async def program(party: Party) -> int:
        return sum([(await party.receive(Block, "b")).values.size for _ in range(100)])

    party = receiver(nbytes=1 << 18, frames=3, lanes=1)
    run = started(party, program)
    for number in range(100):
        party.deliver(frame(number, words=1 << 14), "b")
        run.advance()
    assert run.result() == 100 << 14
    mail = party._mail["b"]
    assert (mail._nbytes, mail._frames, mail._queues, party._unread) == (0, 0, {}, {})


def flooded(quorum: int) -> tuple[Party, Run[int]]:
    """Return a party that asks b and c, and its run: b has sent ten messages unasked, and c its answer."""

    async def program(party: Party) -> int:
        return len(await party.gather(Block, ("b", "c"), quorum=quorum))

    party = receiver(frames=5)
    run = started(party, program)
    for number in range(10):
        party.deliver(frame(number, lane=(1,)), "b")
    party.deliver(frame(0, sender=2), "c")
    run.advance()
    return party, run


def test_who_floods_is_left_out_of_a_quorum_and_the_others_are_not_touched() -> None:
    party, run = flooded(quorum=1)
    assert run.result() == 1
    assert "more than 5 messages" in blamed(party)


def test_too_few_answers_name_who_flooded_and_how() -> None:
    _, run = flooded(quorum=2)
    with pytest.raises(TooFewPartiesError, match="b has sent more than 5 messages"):
        run.result()
