"""Parties whose frames the caller carries: steps, errors, and restoring from what was stored.

The module is long because its few programs are stepped, ended and restored.
"""

from __future__ import annotations

import itertools
import os
import pickle
from collections import deque
from collections.abc import Callable
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
    TooFewPartiesError,
    UsageError,
    WireError,
)
from secagg.network.hello import Abort
from secagg.network.simulated import simulate
from secagg.network.stepwise import Stepwise
from secagg.party import Computation, Party
from secagg.wire import FrameType, Message

SESSION = bytes(range(32))
NAMES = ("a", "b", "c")


class Vector(Message, frozen=True):
    values: NDArray[np.uint64]


class Number(Message, frozen=True):
    value: int


async def masked(p: Party, x: int, rounds: int = 3) -> int:
    """Exchange randomly masked numbers for some rounds; return the sum of everything."""
    total = x
    for _ in range(rounds):
        mask = p.rng.words(4)
        p.broadcast(Vector(mask + np.uint64(x)))
        for message in (await p.gather(Vector, p.others)).values():
            message.values[0] += np.uint64(1)  # received arrays are the protocol's own to write into
            total += int(message.values.sum()) >> 10
        total += int(mask.sum()) >> 10
    return total


INPUTS = {"a": 1, "b": 20, "c": 300}


def make(name: str, *, key: bytes | None = None, **options: Any) -> Stepwise[int]:
    program = programs(**options)[name]
    return Stepwise(
        program, me=name, roster=NAMES, session=SESSION, key=name.encode() * 32 if key is None else key
    )


def programs(**options: Any) -> dict[str, Callable[[Party], Computation[int]]]:
    return {name: lambda p, x=x: masked(p, x, **options) for name, x in INPUTS.items()}  # type: ignore[misc]


def carry(
    parties: dict[str, Stepwise[Any]],
    *,
    between: Callable[[str, Stepwise[Any]], Stepwise[Any]] = lambda _, party: party,
    batch: int = 1,
) -> list[tuple[str, str, bytes]]:
    """Carry everything until nothing moves, calling `between` behind each step; return what was sent."""
    post: deque[tuple[str, str, bytes]] = deque()
    sent: list[tuple[str, str, bytes]] = []

    def step(name: str, incoming: list[tuple[str, bytes]]) -> None:
        out = parties[name].step(incoming)
        sent.extend((name, to, frame) for to, frame in out)
        post.extend((name, to, frame) for to, frame in out)
        parties[name] = between(name, parties[name])

    for name in parties:
        step(name, [])
    while post:
        to = post[0][1]
        mine = [letter for letter in post if letter[1] == to][:batch]
        for letter in mine:
            post.remove(letter)
        step(to, [(sender, frame) for sender, _, frame in mine])
    return sent


def results(parties: dict[str, Stepwise[Any]]) -> dict[str, Any]:
    return {name: party.result() for name, party in parties.items()}


# Stepping.


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_carried_by_hand_a_protocol_ends_with_the_same_results_however_it_is_batched(batch: int) -> None:
    parties, one_by_one = ({name: make(name) for name in NAMES} for _ in range(2))
    carry(parties, batch=batch)
    carry(one_by_one)
    assert all(party.done for party in parties.values())
    assert results(parties) == results(one_by_one)


def test_the_result_is_that_of_the_simulator() -> None:
    async def plain(p: Party, x: int) -> int:
        p.broadcast(Number(x))
        return x + sum(m.value for m in (await p.gather(Number, p.others)).values())

    make_program = {name: lambda p, x=x: plain(p, x) for name, x in INPUTS.items()}
    parties: dict[str, Stepwise[int]] = {
        name: Stepwise(make_program[name], me=name, roster=NAMES, session=SESSION) for name in NAMES
    }
    carry(parties)
    assert results(parties) == simulate(make_program).results == dict.fromkeys(NAMES, 321)


def test_ledgers_count_what_was_carried() -> None:
    parties = {name: make(name) for name in NAMES}
    sent = carry(parties)
    for name, party in parties.items():
        total = party.ledger.total()
        assert total.rounds == 3
        assert total.sent.messages == 6
        assert total.sent.frame_bytes == sum(len(f) for s, _, f in sent if s == name)
        assert total.received.payload_bytes == 6 * 32


def test_the_first_step_starts_the_protocol_and_returns_frames_in_order() -> None:
    party = make("b")
    assert (party.steps, party.done, party.waiting_for) == (0, False, ())
    out = party.step()
    assert [to for to, _ in out] == ["a", "c"]
    assert (party.steps, party.done, party.waiting_for) == (1, False, ("a", "c"))


def test_frames_that_arrive_before_the_first_step_are_taken_with_it() -> None:
    parties = {name: make(name) for name in NAMES}
    first = {name: parties[name].step() for name in ("a", "b")}
    incoming = [(name, frame) for name, out in first.items() for to, frame in out if to == "c"]
    assert len(parties["c"].step(incoming)) == 4  # two rounds' messages


def test_a_step_without_frames_sends_nothing_more() -> None:
    party = make("a")
    party.step()
    assert party.step() == []
    assert party.waiting_for == ("b", "c")


def test_frames_are_owned_by_the_caller() -> None:
    async def program(p: Party) -> None:
        values = np.zeros(4, np.uint64)
        for _ in range(3):
            p.broadcast(Vector(values))
            await p.gather(Vector, p.others)
            values += np.uint64(1)

    parties: dict[str, Stepwise[None]] = {
        name: Stepwise(program, me=name, roster=NAMES, session=SESSION) for name in NAMES
    }
    for _, _, frame in carry(parties, batch=100):
        message, _ = wire.decode_body(wire.decode_envelope(frame, peer="p"), Vector, peer="p")
        assert len(set(message.values.tolist())) == 1
    assert all(party.done for party in parties.values())


def test_after_the_end_nothing_is_taken_in_and_nothing_sent() -> None:
    parties = {name: make(name) for name in NAMES}
    sent = carry(parties)
    a = parties["a"]
    steps, result = a.steps, a.result()
    assert a.step([("b", sent[0][2]), ("b", b"garbage")]) == []
    assert a.expire() == []
    assert (a.steps, a.result(), a.waiting_for, a.timeout_s) == (steps, result, (), None)


@pytest.mark.parametrize("peer", ["a", "d", ""])
def test_frames_from_oneself_or_a_stranger_are_refused_and_change_nothing(peer: str) -> None:
    party = make("a")
    party.step()
    state = party.state()
    with pytest.raises(UsageError, match="cannot take"):
        party.step([("b", b""), (peer, b"")])
    assert party.state() == state


def test_there_is_no_result_before_the_end() -> None:
    party = make("a")
    for _ in range(2):
        with pytest.raises(UsageError, match=r"first step|still waiting for b, c"):
            party.result()
        party.step()


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(64)])
def test_keys_of_another_length_are_refused(key: bytes) -> None:
    with pytest.raises(UsageError, match="32 bytes"):
        make("a", key=key)


def test_parties_draw_fresh_keys_by_default() -> None:
    first = [Stepwise(programs()["a"], me="a", roster=NAMES, session=SESSION).step()[0][1] for _ in range(4)]
    assert len(set(first)) == 4


# Errors, and the end of time.


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (b"garbage", WireError),
        (wire.encode_control(FrameType.HEARTBEAT), WireError),
        (wire.encode_control(FrameType.ABORT), WireError),
        (wire.encode_control(FrameType.ABORT, Abort("c", "another session", bytes(16))), RemoteProtocolError),
        (wire.encode_control(FrameType.ABORT, Abort("c", "of no session")), RemoteProtocolError),
    ],
)
def test_frames_that_break_the_rules_end_the_run_and_name_their_sender(
    frame: bytes, error: type[RemoteProtocolError]
) -> None:
    party = make("a")
    party.step()
    out = party.step([("b", frame)])
    with pytest.raises(error) as caught:
        party.result()
    assert caught.value.peer == "b"
    assert [to for to, _ in out] == ["b", "c"]


def test_a_frame_that_comes_twice_is_an_error_that_names_its_sender() -> None:
    parties = {name: make(name) for name in NAMES}
    frame = next(frame for to, frame in parties["b"].step() if to == "a")
    parties["a"].step([("b", frame)])
    parties["a"].step([("b", frame)])
    parties["a"].step([("c", next(frame for to, frame in parties["c"].step() if to == "a"))])
    with pytest.raises(RemoteProtocolError, match="came again") as caught:
        parties["a"].result()
    assert caught.value.peer == "b"


async def wait_for_c(p: Party) -> int:
    return len((await p.receive(Vector, "c")).values)


def test_what_a_peer_sends_after_it_broke_the_rules_is_not_kept() -> None:
    party = Stepwise(wait_for_c, me="a", roster=NAMES, session=SESSION)
    party.step([("b", b"garbage")])
    before = len(party.state())
    party.step([("b", bytes(100_000)), ("b", bytes(100_000))])
    assert not party.done
    assert len(party.state()) < before + 100


def test_what_a_peer_sends_unasked_is_bounded_also_after_restoring() -> None:
    def flooded(party: Stepwise[int]) -> Stepwise[int]:
        sender = Party("b", NAMES, session=SESSION)
        for _ in range(5):
            sender.send("a", Vector(np.zeros(1 << 13, np.uint64)))
        party.step([("b", b"".join(outgoing.frame)) for outgoing in sender.outbox])
        return party

    party = Stepwise(wait_for_c, me="a", roster=NAMES, session=SESSION, max_unread_bytes=1 << 17)
    party.step()
    for flood in (flooded(Stepwise.restore(wait_for_c, party.state())), flooded(party)):
        error = flood._party.failed["b"]
        assert isinstance(error, RemoteProtocolError)
        assert "b has sent more than 131072 bytes of messages that a has not asked for" in str(error)
        assert flood.waiting_for == ("c",)
    unbounded = flooded(Stepwise(wait_for_c, me="a", roster=NAMES, session=SESSION))
    assert not unbounded._party.failed


def test_everybody_learns_who_ended_the_run_and_whom_it_accuses() -> None:
    parties = {name: make(name) for name in NAMES}
    for party in parties.values():
        party.step()
    for to, frame in parties["a"].step([("b", b"garbage")]):
        parties[to].step([("a", frame)])
    for name in ("b", "c"):
        with pytest.raises(AbortedError, match="a ended the run") as caught:
            parties[name].result()
        assert (caught.value.peer, caught.value.accused) == ("a", "b")


def test_an_abort_about_a_stranger_is_blamed_on_its_sender_and_cut() -> None:
    party = make("a")
    party.step()
    content = Abort("nobody", "x" * 5000, SESSION[:16])
    party.step([("b", wire.encode_control(FrameType.ABORT, content))])
    with pytest.raises(AbortedError) as caught:
        party.result()
    assert (caught.value.peer, caught.value.accused) == ("b", "")
    assert len(str(caught.value)) < 2000


def test_an_error_that_is_not_ours_is_told_by_its_type_alone() -> None:
    async def program(p: Party) -> None:
        raise KeyError("a secret value")

    out = Stepwise(program, me="a", roster=NAMES, session=SESSION).step()
    assert len(out) == 2
    assert all(b"secret" not in frame and b"KeyError" in frame for _, frame in out)


def test_when_time_is_over_the_missing_peer_is_named_and_the_others_told() -> None:
    parties = {name: make(name) for name in NAMES}
    frame = next(frame for to, frame in parties["c"].step() if to == "a")
    parties["a"].step([("c", frame)])
    out = parties["a"].expire()
    with pytest.raises(PeerVanishedError) as caught:
        parties["a"].result()
    assert caught.value.peer == "b"
    assert {to for to, _ in out} == {"b", "c"}


def test_time_cannot_be_over_before_the_first_step() -> None:
    with pytest.raises(UsageError, match="first step"):
        make("a").expire()


async def server(p: Party) -> dict[str, int]:
    got = await p.gather(Number, p.others, quorum=1, timeout_s=60.0)
    for peer in p.others:
        p.send(peer, Number(int(p.rng.words(())) >> 8))
    return {peer: m.value for peer, m in got.items()}


async def client(p: Party) -> int:
    p.send("a", Number(INPUTS[p.me]))
    return (await p.receive(Number, "a")).value


def test_a_quorum_goes_on_when_the_caller_says_the_time_is_over() -> None:
    a: Stepwise[dict[str, int]] = Stepwise(server, me="a", roster=NAMES, session=SESSION)
    b: Stepwise[int] = Stepwise(client, me="b", roster=NAMES, session=SESSION)
    a.step()
    assert a.timeout_s == 60.0
    assert a.step([("b", b.step()[0][1])]) == []
    out = a.expire()
    assert a.result() == {"b": 20}
    b.step([("a", out[0][1])])
    assert b.done


def test_a_quorum_that_is_not_reached_is_an_error() -> None:
    a: Stepwise[dict[str, int]] = Stepwise(server, me="a", roster=NAMES, session=SESSION)
    a.step()
    a.expire()
    with pytest.raises(TooFewPartiesError):
        a.result()


# Storing and restoring.


def test_storing_and_restoring_behind_every_step_changes_nothing_on_the_wire() -> None:
    plain = {name: make(name) for name in NAMES}
    stored = {name: make(name) for name in NAMES}
    frames = carry(plain)
    assert frames == carry(stored, between=lambda name, p: Stepwise.restore(programs()[name], p.state()))
    assert results(plain) == results(stored)


@given(data=st.data())
@settings(max_examples=20, deadline=None)
@pytest.mark.slow
def test_storing_and_restoring_at_any_steps_changes_nothing(data: st.DataObject) -> None:
    plain = {name: make(name) for name in NAMES}
    stored = {name: make(name) for name in NAMES}
    batch = data.draw(st.integers(1, 4))
    frames = carry(plain, batch=batch)
    pick = st.booleans()

    def between(name: str, party: Stepwise[int]) -> Stepwise[int]:
        return Stepwise.restore(programs()[name], party.state()) if data.draw(pick) else party

    assert frames == carry(stored, between=between, batch=batch)
    assert results(plain) == results(stored)


def test_a_restored_party_is_where_it_was() -> None:
    parties = {name: make(name) for name in NAMES}
    parties["a"].step([("b", next(f for to, f in parties["b"].step() if to == "a"))])
    again = Stepwise.restore(programs()["a"], parties["a"].state())
    assert (again.steps, again.done, again.waiting_for) == (1, False, ("c",))
    assert again.state() == parties["a"].state()
    assert again.ledger.total().sent == parties["a"].ledger.total().sent


def test_a_party_can_be_stored_before_its_first_step_and_after_its_end() -> None:
    fresh = make("a")
    assert Stepwise.restore(programs()["a"], fresh.state()).step() == fresh.step()
    parties = {name: make(name) for name in NAMES}
    carry(parties)
    again = Stepwise.restore(programs()["a"], parties["a"].state())
    assert again.result() == parties["a"].result()


def test_expirations_and_errors_are_restored() -> None:
    a: Stepwise[dict[str, int]] = Stepwise(server, me="a", roster=NAMES, session=SESSION)
    b: Stepwise[int] = Stepwise(client, me="b", roster=NAMES, session=SESSION)
    a.step([("b", b.step()[0][1])])
    out = a.expire()
    again: Stepwise[dict[str, int]] = Stepwise.restore(server, a.state())
    assert again.result() == {"b": 20}
    assert again.resend(1) == out
    broken = make("a")
    broken.step([("b", b"garbage")])
    with pytest.raises(WireError):
        Stepwise.restore(programs()["a"], broken.state()).result()


def test_another_input_is_refused_on_restore() -> None:
    party = make("a")
    party.step()
    with pytest.raises(UsageError, match="did not send what it sent before"):
        Stepwise.restore(lambda p: masked(p, 2), party.state())


def test_a_protocol_that_sends_less_or_more_than_before_is_refused_on_restore() -> None:
    async def silent(p: Party) -> int:
        await p.gather(Vector, p.others)
        return 0

    async def talkative(p: Party) -> int:
        p.broadcast(Vector(p.rng.words(4) + np.uint64(1)))
        p.broadcast(Vector(np.zeros(1, np.uint64)))
        await p.gather(Vector, p.others)
        return 0

    party = make("a")
    party.step()
    for other in (silent, talkative):
        with pytest.raises(UsageError, match="did not send"):
            Stepwise.restore(other, party.state())


def test_a_protocol_that_draws_from_elsewhere_is_refused_on_restore() -> None:
    async def careless(p: Party) -> int:
        p.broadcast(Vector(np.frombuffer(os.urandom(8), np.uint64)))
        await p.gather(Vector, p.others)
        return 0

    party: Stepwise[int] = Stepwise(careless, me="a", roster=NAMES, session=SESSION)
    party.step()
    with pytest.raises(UsageError, match=r"party\.rng"):
        Stepwise.restore(careless, party.state())


def test_frames_can_be_had_again_byte_for_byte_from_any_step() -> None:
    parties = {name: make(name) for name in NAMES}
    returned: list[list[tuple[str, bytes]]] = [parties["a"].step()]
    b, c = parties["b"].step(), parties["c"].step()
    returned.append(parties["a"].step([("b", b[0][1])]))
    returned.append(parties["a"].step([("c", c[0][1])]))
    restored = Stepwise.restore(programs()["a"], parties["a"].state())
    for party in (parties["a"], restored):
        for since in range(4):
            assert party.resend(since) == list(itertools.chain(*returned[since:]))
    assert [len(r) for r in returned] == [2, 0, 2]
    assert restored.steps == 3


@pytest.mark.parametrize("since", [-1, 2])
def test_steps_that_were_not_taken_cannot_be_sent_again(since: int) -> None:
    party = make("a")
    party.step()
    with pytest.raises(UsageError, match="from 0 to 1"):
        party.resend(since)


def test_what_would_differ_is_not_sent_again() -> None:
    inputs = [5]
    party: Stepwise[int] = Stepwise(lambda p: masked(p, inputs[0]), me="a", roster=NAMES, session=SESSION)
    party.step()
    inputs[0] = 6
    with pytest.raises(UsageError, match="did not send"):
        party.resend()


def test_every_cut_of_a_state_is_refused_and_no_byte_of_it_quoted() -> None:
    party = make("a", key=b"SECRETKEY" * 3 + b"12345")
    party.step([("b", b"PRIVATE FRAME")])
    state = party.state()
    for length in range(len(state)):
        with pytest.raises(UsageError) as caught:
            Stepwise.restore(programs()["a"], state[:length])
        assert "SECRET" not in str(caught.value)
        assert "PRIVATE" not in str(caught.value)


@pytest.mark.parametrize(("version", "says"), [(0, "this version"), (2, "a later release wrote it")])
def test_states_of_another_version_are_refused(version: int, says: str) -> None:
    state = bytearray(make("a").state())
    assert state[:9] == b"SAGSTATE\x01"
    state[8] = version
    with pytest.raises(UsageError, match=says):
        Stepwise.restore(programs()["a"], bytes(state))


def test_states_with_other_content_are_refused() -> None:
    head = make("a").state()[:9]
    contents: tuple[object, ...] = ([], {}, ["a", ["a"], SESSION, bytes(32), [], b"", "more"], [1] * 6)
    for content in contents:
        with pytest.raises(UsageError):
            Stepwise.restore(programs()["a"], head + msgspec.msgpack.encode(content))


def test_a_party_shows_no_secret_and_cannot_be_pickled() -> None:
    key = b"K" * 32
    party = make("a", key=key)
    party.step()
    assert repr(party) == "<Stepwise 'a', 3 parties, 1 steps, waiting for b, c>"
    with pytest.raises(TypeError):
        pickle.dumps(party)
