"""Peers that fail, are late or send something else: who is named, and when a quorum goes on without them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

import pytest

from secagg.errors import (
    PeerVanishedError,
    RemoteProtocolError,
    TooFewPartiesError,
    WireError,
)
from secagg.network.simulated import simulate
from secagg.party import Computation, Party, Run
from stepped import (
    Number,
    Text,
    bad_bytes,
    bad_kind,
    bad_session,
    bad_type,
    frames,
    one_each,
    one_from_b,
    party,
    sent_by,
    started,
)

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
