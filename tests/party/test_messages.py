"""What a party sends and takes: in order, of the kind and length that is asked for, and from whom it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import wire
from secagg.errors import (
    RemoteProtocolError,
    ShapeError,
    UsageError,
    WireError,
)
from secagg.network.simulated import simulate
from secagg.party import UNKNOWN, Party, Roster, aborted, check_array
from secagg.prg import Stream
from secagg.wire import Message
from stepped import (
    NAMES,
    SESSION,
    Number,
    Text,
    Vector,
    bad_bytes,
    bad_control,
    bad_duplicate,
    bad_early_duplicate,
    bad_kind,
    bad_replay,
    bad_sender,
    bad_session,
    bad_type,
    frames,
    one_each,
    one_from_b,
    party,
    sent_by,
    started,
    three_from_b,
)

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


# How long answers may be.


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
