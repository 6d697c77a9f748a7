"""How one party's driver ends, from what its peers have sent by the time it looks: in every order that can be.

The peers are written out by hand, over loopback connections whose other ends this test holds.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from secagg import wire
from secagg.errors import AbortedError, PeerVanishedError, RemoteProtocolError, SecaggError
from secagg.mailbox import DEFAULT_ROOM
from secagg.network.driver import Driver
from secagg.network.hello import abort_frame, read_abort
from secagg.network.link import Link
from secagg.network.tcp import Timeouts
from secagg.network.waiting import Heartbeat, heartbeat_frame, read_heartbeat
from secagg.party import Party, Program, Run
from secagg.wire import FrameType, Message

SESSION = bytes(32)
NAMES = ("a", "b", "c", "d")
FOR_EVER_S = 600


class Word(Message, frozen=True):
    """A number."""

    x: int


class Reply(Message, frozen=True):
    """A number that comes later."""

    x: int


class Block(Message, frozen=True):
    """More than a connection takes while nobody reads it."""

    x: np.ndarray[Any, np.dtype[np.uint8]]


class Met:
    """A meeting that is over."""

    me = "a"
    roster = NAMES

    def __init__(self, links: dict[str, Link]) -> None:
        self.links = links

    def meet(self) -> bytes:
        return SESSION

    def serve(self, timeout_s: float, wake: socket.socket) -> None:
        select.select([wake], [], [], timeout_s)

    def tell(self, error: BaseException) -> list[str]:
        return [*self.links] if error else []

    def close(self) -> None:
        """Nothing is left to close."""


class Scene:
    """Party a and, by name, this test's ends of its connections."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.ends: dict[str, socket.socket] = {}
        self._links: dict[str, Link] = {}
        with socket.create_server(("127.0.0.1", 0)) as listener:
            for name in NAMES[1:]:
                near = socket.create_connection(listener.getsockname())
                near.setblocking(False)
                self.ends[name] = stack.enter_context(listener.accept()[0])
                self._links[name] = Link(name, near, max_frame_bytes=1 << 20)
                stack.callback(near.close)

    def send(self, name: str, *frames: bytes) -> None:
        """Let a peer send frames, and wait until they have come."""
        sent = b"".join(frames)
        self.ends[name].sendall(sent)
        poll = select.poll()
        poll.register(self._links[name], select.POLLIN)
        assert poll.poll(1000 * FOR_EVER_S)

    def word(self, name: str, number: int = 0) -> bytes:
        parts, _ = wire.encode_message(
            Word(7), session=SESSION[:16], sender=NAMES.index(name), lane=(), sequence=number, depth=1
        )
        return b"".join(parts)

    def run(self, program: Program[Any], message_s: float = FOR_EVER_S) -> Any:
        """Return what a's program returned, or the error with which it ended."""
        met: Any = Met(self._links)
        timeouts = Timeouts(FOR_EVER_S, FOR_EVER_S, message_s)
        driver: Driver[Any] = Driver(met, timeouts, 1 << 20, 1 << 20, None)
        try:
            return driver.run(program)[0]
        except SecaggError as error:
            return error


@pytest.fixture
def scene() -> Iterator[Scene]:
    with contextlib.ExitStack() as stack:
        yield Scene(stack)


def ended(by: str, about: str = "") -> bytes:
    """Return the frame with which a party ends and accuses another one."""
    return abort_frame(PeerVanishedError(f"{about or by} did it", peer=about or by))


def after(first: Callable[[], None], *waits_for: str) -> Program[Any]:
    """Return a program that reads a word of each, so that poll finds what comes later; then `first` runs, then it waits."""

    async def program(party: Party) -> int:
        await party.gather(Word, party.others)
        first()
        await party.gather(Word, waits_for or party.others)
        return 1

    return program


@pytest.mark.parametrize(("accuser", "accused"), [*itertools.permutations(NAMES[1:], 2)])
def test_an_abort_that_accuses_a_party_already_gone_names_the_one_that_is_gone(
    scene: Scene, accuser: str, accused: str
) -> None:
    def both_end() -> None:
        scene.send(accuser, ended(accuser, accused))
        scene.ends[accused].close()  # poll shows both at once, in the order of the roster

    for name in NAMES[1:]:
        scene.send(name, scene.word(name))
    error = scene.run(after(both_end))
    assert isinstance(error, PeerVanishedError)
    assert error.peer == accused


@pytest.mark.parametrize("said", ["abort", "bye"])
def test_what_another_says_of_a_party_waits_for_that_ones_own_word(scene: Scene, said: str) -> None:
    own = ended("c") if said == "abort" else wire.encode_control(FrameType.BYE)

    def accused() -> None:
        scene.send("b", ended("b", "c"))
        threading.Timer(0.1, scene.send, ("c", own)).start()

    for name in NAMES[1:]:
        scene.send(name, scene.word(name))
    error = scene.run(after(accused, "c"))
    assert error.peer == "c"


def test_of_two_that_accuse_each_other_the_first_to_end_has_ended_the_run(scene: Scene) -> None:
    def both() -> None:
        scene.send("b", ended("b", "c"))
        scene.send("c", ended("c", "b"))

    for name in NAMES[1:]:
        scene.send(name, scene.word(name))
    error = scene.run(after(both))
    assert isinstance(error, AbortedError)
    assert (error.peer, error.accused) == ("b", "c")


@pytest.mark.parametrize(("victim", "culprit", "other"), [*itertools.permutations(NAMES[1:])])
def test_whom_a_victim_accuses_is_named_whoever_of_those_that_pass_it_on_is_read_first(
    scene: Scene, victim: str, culprit: str, other: str
) -> None:
    words = ended(victim, culprit)
    passed_on = abort_frame(read_abort(words, victim, NAMES))

    def all_end() -> None:
        scene.send(victim, words)
        scene.send(culprit, passed_on)
        scene.send(other, passed_on)

    for name in NAMES[1:]:
        scene.send(name, scene.word(name))
    error = scene.run(after(all_end))
    assert isinstance(error, AbortedError)
    assert (error.peer, error.accused) == (victim, culprit)


@pytest.mark.slow
def test_a_party_that_is_accused_and_lives_is_not_named(scene: Scene) -> None:
    for name in NAMES[1:]:
        scene.send(name, scene.word(name))
    error = scene.run(after(lambda: scene.send("b", ended("b", "c"))))
    assert isinstance(error, AbortedError)
    assert (error.peer, error.accused) == ("b", "c")


def test_an_abort_about_nobody_who_is_here_names_its_sender(scene: Scene) -> None:
    for name in NAMES[1:]:
        scene.send(name, scene.word(name))
    stranger = abort_frame(RemoteProtocolError("no", peer="nobody"))
    error = scene.run(after(lambda: scene.send("d", stranger)))
    assert (error.peer, error.accused) == ("d", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("awaits", "then_sends", "named"),
    [(Reply.TAG, False, "b"), (Reply.TAG, True, ""), (Word.TAG, False, ""), (0, False, "")],
    ids=["a later kind", "a later kind, then a message", "the same kind", "several kinds"],
)
def test_a_peer_is_named_only_if_its_last_word_is_that_it_waits_for_what_comes_later(
    scene: Scene, awaits: int, then_sends: bool, named: str
) -> None:
    async def program(party: Party) -> None:
        await party.receive(Word, "b")
        await party.receive(Word, "b", sent_before=(Reply,))

    beat = heartbeat_frame(3, ["d"], NAMES, awaits)
    scene.send("b", *((beat, scene.word("b")) if then_sends else (scene.word("b"), beat)))
    error = scene.run(program, 0.5)
    assert isinstance(error, PeerVanishedError)
    assert error.peer == named


@pytest.mark.slow
def test_a_peer_that_owes_a_message_is_named_also_if_it_takes_nothing_more(scene: Scene) -> None:
    async def program(party: Party) -> None:
        await party.receive(Word, "b")
        party.send("b", Block(np.zeros(1 << 25, np.uint8)))
        await party.receive(Word, "b", sent_before=(Reply,))

    scene.send("b", scene.word("b"), heartbeat_frame(3, ["d"], NAMES, Reply.TAG))
    error = scene.run(program, 0.7)
    assert isinstance(error, PeerVanishedError)
    assert error.peer == "b"


@pytest.mark.slow
def test_who_waits_for_bytes_to_be_taken_does_not_say_that_it_waits_for_a_message(scene: Scene) -> None:
    told: list[Heartbeat] = []

    def listen() -> None:
        beat = wire.encode_control(FrameType.HEARTBEAT, Heartbeat(0, [1]))
        with scene.ends["c"].makefile("rb") as end:
            while not told or not told[-1].waits_for:
                prefix = end.read(wire.PREFIX.size)
                _, _, size = wire.decode_prefix(prefix, peer="a")
                frame = prefix + end.read(size - wire.PREFIX.size)
                if len(frame) >= len(beat):
                    told.append(read_heartbeat(memoryview(frame), "a", NAMES))
        scene.ends["b"].close()

    async def program(party: Party) -> None:
        party.send("b", Block(np.zeros(1 << 25, np.uint8)))
        await party.receive(Word, "c", sent_before=(Reply,))

    listener = threading.Thread(target=listen)
    listener.start()
    error = scene.run(program, 8.0)
    listener.join()
    assert error.peer == "b"
    assert (set(told[-1].waits_for), told[-1].awaits) == ({1, 2}, 0)


@pytest.mark.slow
def test_any_number_of_peers_may_each_accuse_the_next() -> None:
    names = [f"c{i}" for i in range(60)]
    party = Party("a", ["a", *names], session=SESSION, room=DEFAULT_ROOM)
    party.optional = frozenset(names)

    async def program(party: Party) -> list[str]:
        return [peer async for peer, _ in party.as_completed(Word, names, quorum=0, timeout_s=1.0)]

    met: Any = Met({})
    driver: Driver[Any] = Driver(met, Timeouts(*3 * (FOR_EVER_S,)), 1 << 20, 1 << 20, None)
    driver.party = party
    limit = sys.getrecursionlimit()
    with contextlib.ExitStack() as stack:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            for i, name in enumerate(names):
                near = stack.enter_context(socket.create_connection(listener.getsockname()))
                near.setblocking(False)
                far = stack.enter_context(listener.accept()[0])
                driver._open[name] = link = Link(name, near, max_frame_bytes=1 << 20)
                driver._by_fd[link.fileno()] = link
                driver._buffered.add(link)
                driver._poll.register(link, select.POLLIN)
                far.sendall(ended(name, names[(i + 1) % len(names)]))
        run = Run(party, program(party))
        run.start()
        stack.callback(sys.setrecursionlimit, limit)
        sys.setrecursionlimit(len(inspect.stack()) + 60)
        driver._wait(lambda: party.ready)
    assert {name: getattr(error, "peer", "") for name, error in party.failed.items()} == {n: n for n in names}
