"""Heartbeats say who waits for whom; who is named follows from what a party can see itself."""

from __future__ import annotations

import contextlib
import multiprocessing
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest

from ports import reserved_ports
from secagg import wire
from secagg.errors import WireError
from secagg.mpc.three.inputs import InputFromOutside
from secagg.network import driver
from secagg.network.identity import create_identity
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


Ended = dict[str, tuple[str, str, str, str]]  # by party: kind, peer, accused and text of how it ended


@contextlib.contextmanager
def running(
    program: Callable[[Party], Any], timeouts: Timeouts, names: Sequence[str] = NAMES, patient: str = ""
) -> Iterator[Callable[[], Ended]]:
    """Run a party a process over TLS meanwhile; yield what waits for all of them and returns how each ended."""
    identities = {name: create_identity(name) for name in names}
    context = multiprocessing.get_context("fork")
    out = context.Queue()

    def take_part(name: str, port: int, peers: Sequence[Peer]) -> None:
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

    with reserved_ports(len(names)) as ports:
        peers = [
            Peer(name, "127.0.0.1", port, identities[name].certificate)
            for name, port in zip(identities, ports, strict=True)
        ]
        children = [
            context.Process(target=take_part, args=(name, port, peers))
            for name, port in zip(identities, ports, strict=True)
        ]
        for child in children:
            child.start()
        try:
            yield lambda: dict(out.get(timeout=240) for _ in names)
        finally:
            for child in children:
                child.kill()
                child.join()


def run_all(program: Callable[[Party], Any], timeouts: Timeouts, patient: str = "") -> Ended:
    with running(program, timeouts, patient=patient) as ends:
        return ends()


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


@dataclass(frozen=True)
class Withheld:
    """A joint query in which mallory never sends one kind of message to one party.

    Attributes:
      says_it_waits_for: what mallory's heartbeats say in place of the truth.
    """

    banks: tuple[str, ...]
    computing: tuple[str, ...]
    to: str
    kind: type[Message]
    says_it_waits_for: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.banks, *self.computing]))

    async def program(self, party: Party) -> int:
        if party.me == "mallory":
            self._spoil(party)
        query = Query(self.banks, self.computing, (Field("n", 5, at_least=2),))
        rows = Rows(np.array(["v0", "v1"], object), np.ones((2, 1), np.uint64))
        await find_groups(party, query, rows if party.me in self.banks else None)
        return 1

    def _spoil(self, party: Party) -> None:
        send = Party.send

        def forgetful(party: Party, /, to: str, message: Message) -> None:
            if to != self.to or not isinstance(message, self.kind):
                send(party, to, message)

        Party.send = forgetful  # type: ignore[method-assign, assignment]  # in a process that is mallory's alone
        if self.says_it_waits_for:
            lie = heartbeat_frame(0, [self.says_it_waits_for], party.roster)
            vars(driver)["heartbeat_frame"] = lambda *_: lie


COMPUTING = ("x", "y", "z")
BY_A_COMPUTING_PARTY = {
    says or "what it waits for": Withheld(("bank", "other"), ("x", "y", "mallory"), "bank", Heard, says)
    for says in ("", "y")
}
BY_AN_OUTSIDE_PARTY = {to: Withheld(("bank", "mallory"), COMPUTING, to, InputFromOutside) for to in COMPUTING}


@pytest.fixture(scope="module")
def withheld(request: pytest.FixtureRequest) -> Iterator[Callable[[Withheld], Ended]]:
    """Run those scenes side by side that are asked for, because they wait nearly all the time."""
    scenes = {
        cast(Withheld, item.callspec.params["scene"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and "withheld" in item.fixturenames
    }
    with contextlib.ExitStack() as stack:
        ends = {
            scene: stack.enter_context(
                running(scene.program, Timeouts(60, 30, 15.0), scene.names, patient="mallory")
            )
            for scene in scenes
        }
        yield lambda scene: ends[scene]()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("scene", BY_A_COMPUTING_PARTY.values(), ids=BY_A_COMPUTING_PARTY)
def test_an_outside_party_from_which_a_computing_party_keeps_a_message_is_named_by_nobody(
    withheld: Callable[[Withheld], Ended], scene: Withheld
) -> None:
    ended = withheld(scene)
    for name in scene.names:
        if name != "mallory":
            kind, peer, accused, text = ended[name]
            blamed = accused if kind == "AbortedError" else peer  # an abort's peer is who told of the end
            assert blamed in ("", "mallory"), (name, text)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("scene", BY_AN_OUTSIDE_PARTY.values(), ids=BY_AN_OUTSIDE_PARTY)
def test_an_outside_party_that_keeps_its_share_from_one_computing_party_is_named(
    withheld: Callable[[Withheld], Ended], scene: Withheld
) -> None:
    ended = withheld(scene)
    named = {ended[name][2] or ended[name][1] for name in scene.names if name != "mallory"}
    assert named == {"mallory"}, ended


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
