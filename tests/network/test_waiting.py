"""Heartbeats say who waits for whom; who is named follows from what a party can see itself."""

from __future__ import annotations

import multiprocessing
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ports import reserved_ports
from secagg import wire
from secagg.errors import WireError
from secagg.mpc.three.inputs import InputFromOutside
from secagg.network import driver
from secagg.network.identity import Identity, create_identity
from secagg.network.tcp import Peer, Timeouts, run_party
from secagg.network.waiting import Heartbeat, excused, heartbeat_frame, reached, read_heartbeat, word_of
from secagg.party import Party
from secagg.protocols.group_by import Field, Query, Rows, find_groups
from secagg.protocols.group_by.announcement import Heard
from secagg.wire import FrameType, Message

NAMES = ("a", "b", "mallory")


class Word(Message, frozen=True):
    """A number."""

    x: int


class Reply(Message, frozen=True):
    """A number that comes later."""

    x: int


@pytest.mark.parametrize(
    "beat",
    [
        Heartbeat(-1, []),
        Heartbeat(0, [3]),
        Heartbeat(0, [-1]),
        Heartbeat(0, [0] * 5),
        Heartbeat(0, [], -1),
        Heartbeat(0, [], 1 << 32),
    ],
)
def test_a_heartbeat_outside_its_bounds_is_refused_and_its_sender_named(beat):
    frame = wire.encode_control(FrameType.HEARTBEAT, beat)
    with pytest.raises(WireError) as caught:
        read_heartbeat(memoryview(frame), "b", NAMES)
    assert caught.value.peer == "b"


def test_the_longest_heartbeat_fits_its_frame_and_comes_back():
    roster = [f"p{i}" for i in range(70_000)]
    frame = heartbeat_frame(2**63, roster[-9:], roster, 2**32 - 1)
    beat = read_heartbeat(memoryview(frame), "b", roster)
    assert (beat.steps, beat.waits_for, beat.awaits) == (2**63, [69_991, 69_992, 69_993, 69_994], 2**32 - 1)


def test_only_who_says_that_it_waits_for_third_parties_is_excused():
    assert excused("b", "a", {"b": ("c",)})
    assert not excused("b", "a", {"b": ("a",)})
    assert not excused("b", "a", {"b": ("b",)})
    assert not excused("b", "a", {"b": ("c", "a")})
    assert not excused("b", "a", {"c": ("b",)})


def test_words_are_followed_to_their_end_and_around_a_cycle_once():
    says = {"b": ("c",), "c": ("d", "b"), "d": ("a",)}
    assert reached(["b"], says) == ["b", "c", "d", "a"]
    assert word_of("b", "a", says) == (
        "b says that it waits for c; c says that it waits for d, b; d says that it waits for a"
    )


def run_all(
    program: Callable[[Party], Any], timeouts: Timeouts, names: Sequence[str] = NAMES, patient: str = ""
) -> dict[str, tuple[str, str, str, str]]:
    """Run a party a process over TLS; return kind, peer, accused and text of how each ended."""
    identities = {name: create_identity(name) for name in names}
    with reserved_ports(len(names)) as ports:
        return _run_all(program, timeouts, identities, ports, patient)


def _run_all(
    program: Callable[[Party], Any],
    timeouts: Timeouts,
    identities: dict[str, Identity],
    ports: list[int],
    patient: str,
) -> dict[str, tuple[str, str, str, str]]:
    peers = [
        Peer(name, "127.0.0.1", port, identities[name].certificate)
        for name, port in zip(identities, ports, strict=True)
    ]
    context = multiprocessing.get_context("fork")
    out = context.Queue()

    def take_part(name: str, port: int) -> None:
        try:
            result, _ = run_party(
                program,
                me=name,
                identity=identities[name],
                peers=peers,
                listen=("127.0.0.1", port),
                agreement=bytes(32),
                timeouts=replace(timeouts, message_s=300, silence_s=5) if name == patient else timeouts,
            )
            out.put((name, ("ok", "", "", str(result))))
        except Exception as error:  # noqa: BLE001
            about = (getattr(error, "peer", "-"), getattr(error, "accused", ""))
            out.put((name, (type(error).__name__, *about, str(error))))

    children = [context.Process(target=take_part, args=pair) for pair in zip(identities, ports, strict=True)]
    for child in children:
        child.start()
    try:
        return dict(out.get(timeout=240) for _ in identities)
    finally:
        for child in children:
            child.kill()
            child.join()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_who_withholds_is_named_by_whom_it_lets_wait_and_nobody_blames_a_party_in_between():
    async def program(party: Party) -> int:
        if party.me == "a":
            await party.receive(Word, "mallory")
            party.send("b", Word(1))
        elif party.me == "b":
            await party.receive(Word, "a")
        else:  # lives, and says that it waits for what cannot come
            await party.gather(Word, ["a"], quorum=0, timeout_s=30)
        return 1

    ended = run_all(program, Timeouts(30, 20, 1.5))
    assert ended["a"][:2] == ("PeerVanishedError", "mallory")
    assert ended["b"][:3] == ("AbortedError", "a", "mallory")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("sent_before", [(), (Reply,)])
def test_who_waits_by_its_own_word_for_what_comes_later_in_the_protocol_is_named(sent_before):
    async def program(party: Party) -> int:
        if party.me == "a":
            await party.receive(Word, "mallory", sent_before=sent_before)
            party.send("b", Word(1))
        elif party.me == "b":
            await party.receive(Word, "a")
            party.send("mallory", Reply(1))
        else:  # leaves out what it owes to a, and goes on
            await party.receive(Reply, "b")
        return 1

    ended = run_all(program, Timeouts(30, 20, 3.0), patient="mallory" if sent_before else "")
    if sent_before:
        assert ended["a"][:2] == ("PeerVanishedError", "mallory")
        assert re.search("mallory says that it waits for b.* for what comes later than this", ended["a"][3])
        assert (ended["b"][2] or ended["b"][1]) == "mallory"
    else:
        assert ended["a"][:2] != ("PeerVanishedError", "mallory")
        assert ended["b"][2] != "mallory"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("says", ["what it waits for", "that it waits for y"])
def test_an_outside_party_from_which_a_computing_party_keeps_a_message_is_named_by_nobody(says):
    names = ("bank", "other", "x", "y", "mallory")
    query = Query(("bank", "other"), ("x", "y", "mallory"), (Field("n", 5, at_least=2),))
    rows = Rows(np.array(["v0", "v1"], object), np.ones((2, 1), np.uint64))

    async def program(party: Party) -> int:
        if party.me == "mallory":
            send = Party.send

            def forgetful(self: Party, to: str, message: Message) -> None:
                if to != "bank" or not isinstance(message, Heard):
                    send(self, to, message)

            Party.send = forgetful  # type: ignore[method-assign]  # in a process that is mallory's alone
            if says != "what it waits for":
                lie = heartbeat_frame(0, ["y"], party.roster)
                vars(driver)["heartbeat_frame"] = lambda *_: lie
        await find_groups(party, query, rows if party.me in query.input_parties else None)
        return 1

    ended = run_all(program, Timeouts(60, 30, 15.0), names, patient="mallory")
    for name in ("bank", "other", "x", "y"):
        kind, peer, accused, text = ended[name]
        blamed = accused if kind == "AbortedError" else peer  # an abort's peer is who told of the end
        assert blamed in ("", "mallory"), (name, text)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("left_out", [0, 1, 2])
def test_an_outside_party_that_keeps_its_share_from_one_computing_party_is_named(left_out):
    names = ("bank", "mallory", "x", "y", "z")
    query = Query(("bank", "mallory"), ("x", "y", "z"), (Field("n", 5, at_least=2),))
    rows = Rows(np.array(["v0", "v1"], object), np.ones((2, 1), np.uint64))

    async def program(party: Party) -> int:
        if party.me == "mallory":
            send, victim = Party.send, query.computing_parties[left_out]

            def forgetful(self: Party, to: str, message: Message) -> None:
                if to != victim or not isinstance(message, InputFromOutside):
                    send(self, to, message)

            Party.send = forgetful  # type: ignore[method-assign]  # in a process that is mallory's alone
        await find_groups(party, query, rows if party.me in query.input_parties else None)
        return 1

    ended = run_all(program, Timeouts(60, 30, 15.0), names, patient="mallory")
    assert {ended[name][2] or ended[name][1] for name in names if name != "mallory"} == {"mallory"}, ended


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_party_waits_longer_than_message_s_while_the_others_compute_and_take_steps():
    async def program(party: Party) -> int:
        if party.me == "b":
            return (await party.receive(Word, "a")).x
        other = "mallory" if party.me == "a" else "a"
        for _ in range(3):
            time.sleep(0.8)
            party.send(other, Word(0))
            await party.receive(Word, other)
        if party.me == "a":
            time.sleep(2.5)
            party.send("b", Word(7))
        return 1

    assert run_all(program, Timeouts(30, 20, 1.0))["b"] == ("ok", "", "", "7")


def test_signs_of_life_come_several_times_within_each_time_limit():
    assert Timeouts(60, 20, 2).heartbeat_s <= 0.5
    assert Timeouts(60, 2, 600).heartbeat_s <= 0.5
    assert wire.encode_control(FrameType.HEARTBEAT) == driver._HEARTBEAT
