"""Parties as processes on this machine: they meet, run, and end well or with an error that names a party.

The parties of a test are child processes that run this file. `Child.outcome` waits for some minutes, which
is less than the timeouts that a test does not mean: a test that has to wait for those fails. What a test waits for
is told by a line of the party where it can be: seconds pass differently on a busy machine.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from ports import reserved_ports
from secagg import release, wire
from secagg.errors import PeerVanishedError, SecaggError, UsageError
from secagg.network import callers
from secagg.network.hello import Abort, Hello, Nonce, Session, derive_session, nonce_commitment
from secagg.network.identity import certificate_pem, create_identity, load_certificate, load_identity
from secagg.network.meeting import Attendance, Meeting
from secagg.network.simulated import simulate
from secagg.network.tcp import Peer, Timeouts, run_party, run_party_insecure_plain
from secagg.party import Party, Program
from secagg.wire import FrameType, Message

pytestmark = pytest.mark.slow

NAMES = ("bank_a", "bank_b", "bank_c")
PATIENCE_S = 240
FOR_EVER_S = 600
MAX_BYTES = 1 << 22


class Values(Message, frozen=True):
    """Some numbers."""

    x: NDArray[np.uint64]


Values.KIND = "test.Values"  # the children know this file by another name


# What the parties run.


def say(**content: Any) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


def compute_until_told() -> None:
    """Keep the party from its messages, as a long computation does, until the test lets it go on."""
    sys.stdin.readline()


async def ring_sum(party: Party, turns: int = 1, words: int = 3) -> int:
    """Pass values around the ring until everybody has seen all; return the sum."""
    place, n = party.roster.index(party.me), len(party.roster)
    after, before = party.roster[(place + 1) % n], party.roster[place - 1]
    total = 0
    for turn in range(turns):
        with party.phase(f"turn {turn}"):
            passing = own = np.full(words, place + 1, np.uint64)
            total += int(own.sum())
            for _ in range(n - 1):
                party.send(after, Values(passing))
                passing = (await party.receive(Values, before)).x
                total += int(passing.sum())
    return total


async def stuck_at(party: Party, stage: str, victim: str) -> int:
    """Let `victim` be caught: before it sends, while the others compute, or with a frame half sent."""
    if stage == "start" and party.me == victim:
        say(stage=stage)
        time.sleep(FOR_EVER_S)
    total = await ring_sum(party)
    if stage == "unneeded":
        say(stage=stage)
        if party.me == victim:
            time.sleep(FOR_EVER_S)
        compute_until_told()
        # From here on nobody waits for the victim.
        other = next(name for name in party.others if name != victim)
        for _ in range(3):
            party.send(other, Values(np.zeros(1, np.uint64)))
            await party.receive(Values, other)
    if stage == "sending":
        if party.me == victim:
            say(stage=stage)
            for other in party.others:
                party.send(other, Values(np.zeros(1 << 24, np.uint64)))
            await ring_sum(party)
        compute_until_told()
        await party.receive(Values, victim)
        await ring_sum(party)
    return total


async def exchange_large(party: Party, mbytes: int) -> int:
    """Everybody sends a large array to everybody before anybody reads."""
    x = np.arange(mbytes << 17, dtype=np.uint64)
    for other in party.others:
        party.send(other, Values(x))
    got = await party.gather(Values, party.others)
    return int(all(np.array_equal(v.x, x) for v in got.values()))


async def compute_long(party: Party, seconds: float) -> int:
    await ring_sum(party)
    if party.me == NAMES[1]:
        begun = time.monotonic()
        x = np.ones(1 << 20)
        while time.monotonic() < begun + seconds:
            x = np.sqrt(x)
    return await ring_sum(party)


async def compute_meanwhile(party: Party) -> int:
    total = await ring_sum(party)
    say(stage="computing")
    if party.me == NAMES[1]:
        compute_until_told()
    return total


async def leave_early(party: Party, words: int) -> int:
    """The first party sends its last message and ends, while the others compute before they read it."""
    await ring_sum(party)
    if party.me == NAMES[0]:
        for other in party.others:
            party.send(other, Values(np.ones(words, np.uint64)))
        return words
    say(stage="computing")
    time.sleep(2.0)
    total = int((await party.receive(Values, NAMES[0])).x.sum())
    other = next(name for name in party.others if name != NAMES[0])
    party.send(NAMES[0], Values(np.zeros(1, np.uint64)))  # it is not there any more; that is its affair
    party.send(other, Values(np.zeros(1, np.uint64)))
    await party.receive(Values, other)
    return total


async def wait_for_nothing(party: Party) -> int:
    await ring_sum(party)
    say(stage="waiting")
    if party.me == NAMES[0]:
        return 0
    await party.receive(Values, NAMES[0])
    return 1


async def deadlocked(party: Party) -> int:
    await ring_sum(party)
    say(stage="waiting")
    await party.receive(Values, party.others[0])
    return 1


async def quorum(party: Party, victim: str) -> int:
    """Everybody sends to the first party, which goes on with those who answer."""
    await ring_sum(party)
    if party.me == victim:
        say(stage="answering")
        time.sleep(FOR_EVER_S)
    if party.me != NAMES[0]:
        party.send(NAMES[0], Values(np.ones(1, np.uint64)))
        return 0
    got = await party.gather(Values, party.others, quorum=1)
    return len(got)


async def bears_the_loss(party: Party, victim: str) -> int:
    """The first adds up what the others send; the last waits for the first and bears the loss of the second."""
    first, second, last = party.roster
    party.optional = frozenset([second])
    await ring_sum(party)
    if party.me == victim:
        say(stage="answering")
        time.sleep(FOR_EVER_S)
    if party.me == first:
        got = [peer async for peer, _ in party.as_completed(Values, (second, last), quorum=1)]
        party.send(last, Values(np.ones(1, np.uint64)))
        return len(got)
    party.send(first, Values(np.ones(1, np.uint64)))
    if party.me == last:
        await party.receive(Values, first)
    return 0


async def run_ahead(party: Party, frames: int, words: int) -> list[int]:
    """The first sends much to the second, which reads it only after it heard from the third."""
    first, second, third = party.roster
    if party.me == first:
        for i in range(frames):
            party.send(second, Values(np.full(words, i, np.uint64)))
            await party.gather(Values, ())
        return []
    if party.me == third:
        time.sleep(3.0)
        party.send(second, Values(np.zeros(1, np.uint64)))
        return []
    await party.receive(Values, third)
    held = sum(f.size for mail in party._mail.values() for queue in mail._queues.values() for f in queue)
    numbers = [int((await party.receive(Values, first)).x[0]) for _ in range(frames)]
    return [held, int(numbers == list(range(frames)))]


async def busy_and_ahead(party: Party) -> int:
    """The first is far ahead of the second and computes, while the second sends it much and waits for the third."""
    first, second, third = party.roster
    await ring_sum(party)
    if party.me == first:
        for _ in range(8):
            party.send(second, Values(np.zeros(1 << 15, np.uint64)))
        await party.gather(Values, ())
        time.sleep(6.0)
        return len((await party.receive(Values, second)).x)
    if party.me == third:
        time.sleep(6.0)
        party.send(second, Values(np.zeros(1, np.uint64)))
        return 0
    party.send(first, Values(np.zeros(1 << 23, np.uint64)))
    await party.receive(Values, third)
    return sum([len((await party.receive(Values, first)).x) for _ in range(8)])


async def fail(party: Party) -> int:
    await ring_sum(party)
    if party.me == NAMES[1]:
        raise KeyError("secret 4711")
    return await ring_sum(party)


PROGRAMS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        ring_sum,
        stuck_at,
        exchange_large,
        compute_long,
        compute_meanwhile,
        leave_early,
        wait_for_nothing,
        deadlocked,
        quorum,
        bears_the_loss,
        run_ahead,
        busy_and_ahead,
        fail,
    )
}


def be_a_party(options: dict[str, Any]) -> None:
    """The whole of a child process."""
    logging.basicConfig(level=logging.INFO)
    directory, me, names, ports = (
        Path(options["directory"]),
        options["me"],
        options["names"],
        options["ports"],
    )
    release.RELEASE = options["release"]
    wire.VERSION = options["wire_version"]  # type: ignore[misc]
    program: Program[Any] = lambda party: PROGRAMS[options["program"]](party, **options["arguments"])  # noqa: E731
    addresses = {name: ("127.0.0.1", ports[name]) for name in names}
    seen: list[str] = []
    met: list[str] = []

    def meeting(attendance: Attendance) -> None:
        if options["tells_meeting"] and attendance.present and not met:
            met.extend(attendance.present)
            say(stage="met")

    try:
        if options["plain"]:
            result, ledger = run_party_insecure_plain(program, me=me, addresses=addresses)
        else:
            key = directory / options["key"]
            peers = [
                Peer(
                    name,
                    *addresses[name],
                    load_certificate((directory / options["pins"].get(name, f"{name}.crt")).read_bytes()),
                )
                for name in names
            ]
            result, ledger = run_party(
                program,
                me=me,
                identity=load_identity(me, key, key.with_suffix(".crt")),
                peers=peers,
                listen=("127.0.0.1", options["listen"] or ports[me]),
                agreement=bytes.fromhex(options["agreement"]),
                timeouts=Timeouts(**options["timeouts"]),
                on_meeting=meeting,
                on_progress=lambda party: seen.append(party.ledger.phase),
                **options["limits"],
            )
    except BaseException as error:  # noqa: BLE001  # KeyboardInterrupt as well
        about = {name: getattr(error, name, None) for name in ("peer", "accused")}
        say(error=type(error).__name__, text=str(error), **about)
        raise SystemExit(0) from None
    total = ledger.total()
    say(
        result=result,
        cost=[total.rounds, total.sent.messages, total.sent.frame_bytes, total.received.frame_bytes],
        phases=seen,
    )


# What the tests do with them.


class Child:
    """A party in a process of its own."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.name = options["me"]
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", __file__, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # what is read ahead here, communicate would not find
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.log = ""

    def wait_for(self, stage: str) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert json.loads(line or b"{}").get("stage") == stage, line

    def go_on(self) -> None:
        """End what the party computes."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended
            self.process.stdin.write(b"\n")
            self.process.stdin.flush()

    def outcome(self) -> dict[str, Any]:
        out, log = self.process.communicate(timeout=PATIENCE_S)
        self.log = log.decode()
        assert self.process.returncode == 0, self.log
        result: dict[str, Any] = json.loads(out.splitlines()[-1])
        return result

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def named(outcome: dict[str, Any]) -> str | None:
    """Return whom a party holds for the cause: who told it first may have been told itself."""
    name: str | None = outcome["accused"] or outcome["peer"]
    return name


class Cast:
    """Starts parties that share a directory of identities, and ports."""

    def __init__(self, directory: Path, ports: list[int]) -> None:
        self.directory = directory
        self.ports = dict(zip(NAMES, ports, strict=True))
        self.children: list[Child] = []

    def start(
        self, me: str, program: str = "ring_sum", *, names: tuple[str, ...] = NAMES, **options: Any
    ) -> Child:
        timeouts = {
            **dict.fromkeys(("connect_s", "silence_s", "message_s"), 600.0),
            **options.pop("timeouts", {}),
        }
        defaults = {
            "arguments": {},
            "plain": False,
            "key": f"{me}.key",
            "pins": {},
            "listen": None,
            "agreement": "00" * 32,
            "release": "1.2.3",
            "wire_version": wire.VERSION,
            "limits": {},
            "tells_meeting": False,
        }
        assert not options.keys() - defaults.keys()
        child = Child(
            {
                **defaults,
                **options,
                "me": me,
                "program": program,
                "names": names,
                "ports": self.ports,
                "directory": str(self.directory),
                "timeouts": timeouts,
            }
        )
        self.children.append(child)
        return child

    def start_all(self, program: str = "ring_sum", **options: Any) -> list[Child]:
        return [self.start(name, program, **options) for name in NAMES]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("identities")
    for name in NAMES:
        create_identity(name).save(directory)
        create_identity(name).save(directory / "other")
    return directory


@pytest.fixture
def cast(directory: Path) -> Iterator[Cast]:
    with reserved_ports(len(NAMES)) as ports:
        cast = Cast(directory, ports)
        yield cast
        for child in cast.children:
            child.end()


# Runs that end well.


@pytest.mark.parametrize("plain", [False, True])
def test_three_processes_compute_what_one_computes_at_the_same_cost(cast: Cast, plain: bool) -> None:
    expected = simulate({name: lambda party: ring_sum(party, turns=3) for name in NAMES})
    outcomes = [c.outcome() for c in cast.start_all(arguments={"turns": 3}, plain=plain)]
    assert [o["result"] for o in outcomes] == expected.values() == [54, 54, 54]
    for outcome, ledger in zip(outcomes, expected.ledgers.values(), strict=True):
        total = ledger.total()
        assert outcome["cost"] == [
            total.rounds,
            total.sent.messages,
            total.sent.frame_bytes,
            total.received.frame_bytes,
        ]
        assert plain or {"turn 0", "turn 1", "turn 2"} <= set(outcome["phases"])


def test_parties_may_be_started_in_any_order(cast: Cast) -> None:
    children = []
    for name in reversed(NAMES):
        children.append(cast.start(name))
        time.sleep(0.4)
    assert [c.outcome()["result"] for c in children] == [18, 18, 18]


def test_more_than_sockets_hold_to_everybody_at_once_does_not_deadlock(cast: Cast) -> None:
    children = cast.start_all("exchange_large", arguments={"mbytes": 48})
    assert [c.outcome()["result"] for c in children] == [1, 1, 1]


def test_heartbeats_keep_a_long_computation_alive(cast: Cast) -> None:
    children = cast.start_all("compute_long", arguments={"seconds": 5.0}, timeouts={"silence_s": 2.5})
    assert [c.outcome()["result"] for c in children] == [18, 18, 18]


@pytest.mark.parametrize("words", [10, 3 << 17])
def test_who_ends_early_ends_nobody_else_and_all_it_sent_arrives(cast: Cast, words: int) -> None:
    # Heartbeats every 0.5 s run into the ended connection while its last message waits to be read.
    children = cast.start_all("leave_early", arguments={"words": words}, timeouts={"silence_s": 2.0})
    assert [c.outcome()["result"] for c in children] == [words, words, words]


def test_a_quorum_goes_on_without_a_party_that_was_killed(cast: Cast) -> None:
    children = cast.start_all("quorum", arguments={"victim": "bank_b"})
    children[1].wait_for("answering")
    children[1].process.kill()
    assert children[0].outcome()["result"] == 1
    assert "goes on without bank_b" in children[0].log
    assert children[2].outcome()["result"] == 0


def test_who_waits_for_others_bears_the_loss_of_an_optional_party(cast: Cast) -> None:
    children = cast.start_all("bears_the_loss", arguments={"victim": "bank_b"})
    children[1].wait_for("answering")
    children[1].process.kill()
    assert [children[i].outcome()["result"] for i in (0, 2)] == [1, 0]


def test_the_loss_of_a_party_that_is_not_optional_ends_all(cast: Cast) -> None:
    children = cast.start_all("bears_the_loss", arguments={"victim": "bank_a"})
    children[0].wait_for("answering")
    children[0].process.kill()
    assert children[2].outcome()["peer"] == "bank_a"


def test_a_party_that_is_far_ahead_is_made_to_wait_and_nothing_is_lost(cast: Cast) -> None:
    limit, words, frames = 1 << 20, 1 << 15, 120
    children = cast.start_all(
        "run_ahead", arguments={"frames": frames, "words": words}, limits={"max_unread_bytes": limit}
    )
    held, in_order = children[1].outcome()["result"]
    assert in_order
    assert limit <= held <= limit + 9 * words  # one frame more than the limit, with its header
    assert children[0].outcome()["result"] == children[2].outcome()["result"] == []


def test_a_message_longer_than_what_may_stand_unread_is_taken_when_it_is_asked_for(cast: Cast) -> None:
    children = cast.start_all(
        "run_ahead", arguments={"frames": 2, "words": 1 << 18}, limits={"max_unread_bytes": 1 << 20}
    )
    assert children[1].outcome()["result"] == [0, 1]  # nothing was held, and both came
    assert children[0].outcome()["result"] == children[2].outcome()["result"] == []


def test_a_party_that_is_made_to_wait_is_not_taken_for_silent(cast: Cast) -> None:
    children = cast.start_all(
        "busy_and_ahead", limits={"max_unread_bytes": 1 << 20}, timeouts={"silence_s": 3.0}
    )
    outcomes = [child.outcome() for child in children]
    assert [outcome.get("result") for outcome in outcomes] == [1 << 23, 8 << 15, 0], outcomes


def test_strangers_hold_up_nobody(cast: Cast, tmp_path: Path) -> None:
    children = [cast.start("bank_a")]
    at = ("127.0.0.1", cast.ports["bank_a"])
    with contextlib.ExitStack() as stack:

        def connect() -> socket.socket:
            for _ in range(3000):
                with contextlib.suppress(ConnectionRefusedError):
                    return stack.enter_context(socket.create_connection(at, timeout=10))
                time.sleep(0.02)
            raise AssertionError(f"nobody listens at {at}")

        for silent in [connect() for _ in range(80)][:10]:
            silent.close()
        connect().sendall(b"GET / HTTP/1.1\r\n\r\n" * 1000)
        connect().sendall(b"\x16\x03\x01\xff\xff" + bytes(70_000))
        for version, who in (("TLSv1_3", "stranger"), ("TLSv1_3", None), ("TLSv1_2", "bank_b")):
            context = tls_client(version)
            if who is not None:
                (create_identity("bank_b") if who == "stranger" else load(cast, who)).load_into(context)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                talk(context, connect())
        children += [cast.start("bank_b"), cast.start("bank_c")]
        assert [c.outcome()["result"] for c in children] == [18, 18, 18]
    dropped = [line for line in children[0].log.splitlines() if "dropped" in line]
    whats = ("has no certificate that is known here", "does not speak TLS; is it a secagg party?")
    for what in (*whats, "shows no certificate", "does not speak TLS 1.3"):
        assert any(
            re.search(rf"bank_a dropped a connection: 127.0.0.1:\d+ {re.escape(what)}$", d) for d in dropped
        )
    assert not re.search(r"_ssl\.c|SSL:|Traceback", children[0].log)
    assert "anything" not in children[0].log


def test_a_party_killed_before_all_are_there_may_come_back(cast: Cast) -> None:
    children = [cast.start("bank_a"), first := cast.start("bank_b", tells_meeting=True)]
    first.wait_for("met")
    first.process.kill()
    first.process.wait()
    children[1:] = [cast.start("bank_b"), cast.start("bank_c")]
    assert [c.outcome()["result"] for c in children] == [18, 18, 18]


# Parties that vanish, stall, or give up.


@pytest.mark.parametrize("victim", NAMES)
@pytest.mark.parametrize("stage", ["start", "unneeded", "sending"])
def test_kill_9_of_any_party_at_any_stage_ends_the_others_who_name_it(
    cast: Cast, stage: str, victim: str
) -> None:
    children = cast.start_all("stuck_at", arguments={"stage": stage, "victim": victim})
    culprit = children[NAMES.index(victim)]
    culprit.wait_for(stage)
    time.sleep(0.2)
    culprit.process.kill()
    culprit.process.wait()
    for child in children:
        if child is not culprit:
            child.go_on()
    for child in children:
        if child is not culprit:
            outcome = child.outcome()
            assert outcome["error"] in {"PeerVanishedError", "AbortedError"}
            assert named(outcome) == victim
            assert victim in outcome["text"]


def test_a_stopped_process_is_named_after_the_silence(cast: Cast) -> None:
    children = cast.start_all(
        "stuck_at", arguments={"stage": "start", "victim": "bank_b"}, timeouts={"silence_s": 3.0}
    )
    children[1].wait_for("start")
    children[1].process.send_signal(signal.SIGSTOP)
    for child in (children[0], children[2]):
        outcome = child.outcome()
        assert outcome["error"] in {"PeerVanishedError", "AbortedError"}
        assert named(outcome) == "bank_b"
        assert re.search(r"nothing came from bank_b for \d+ s|its connection ended", outcome["text"])


def test_a_peer_that_ended_without_sending_is_named(cast: Cast) -> None:
    children = cast.start_all("wait_for_nothing")
    assert children[0].outcome()["result"] == 0
    for child in children[1:]:
        outcome = child.outcome()
        assert named(outcome) == "bank_a"
        assert "bank_a has ended its part and sends nothing more" in outcome["text"]


def test_a_living_peer_that_never_sends_is_named_after_the_message_timeout(cast: Cast) -> None:
    children = cast.start_all("deadlocked", timeouts={"message_s": 4.0, "silence_s": 3.0})
    for child in children:
        outcome = child.outcome()
        assert outcome["error"] in {"PeerVanishedError", "AbortedError"}
        assert "waited for Values from" in outcome["text"]


def test_an_error_in_one_party_ends_the_others_and_tells_its_kind_only(cast: Cast) -> None:
    children = cast.start_all("fail")
    assert children[1].outcome() == {
        "error": "KeyError",
        "text": "'secret 4711'",
        "peer": None,
        "accused": None,
    }
    for child in (children[0], children[2]):
        outcome = child.outcome()
        assert outcome["error"] == "AbortedError"
        assert "bank_b ended the run: KeyError" in outcome["text"]
        if outcome["peer"] != "bank_b":  # the other one was told first, and this one by that one
            assert re.match("bank_[ac]: bank_b ended the run: ", outcome["text"])
        assert "4711" not in outcome["text"] + child.log


def test_ctrl_c_ends_the_others_who_name_who_pressed_it(cast: Cast) -> None:
    children = cast.start_all("stuck_at", arguments={"stage": "start", "victim": "bank_c"})
    children[2].wait_for("start")
    children[2].process.send_signal(signal.SIGINT)
    assert children[2].outcome()["error"] == "KeyboardInterrupt"
    for child in children[:2]:
        outcome = child.outcome()
        assert outcome["error"] == "AbortedError"
        if outcome["peer"] == "bank_c":
            assert "bank_c ended the run: it was stopped" in outcome["text"]
        else:  # the other one was told first, and ended in its turn
            assert re.search("bank_[ab]: bank_c was stopped", outcome["text"])
        assert "KeyboardInterrupt" not in outcome["text"]


# Parties that are not who or what they should be.


def test_a_wrong_certificate_where_one_dials_is_named_with_the_fingerprint(cast: Cast) -> None:
    cast.start("bank_a", key="other/bank_a.key", pins={"bank_a": "other/bank_a.crt"})
    pinned = load(cast, "bank_a").fingerprint
    for child in [cast.start("bank_b"), cast.start("bank_c")]:
        outcome = child.outcome()
        assert outcome["error"] in {"AuthenticationError", "AbortedError"}
        # The second may be told by the first.
        assert outcome["peer"] == "bank_a" or "bank_a is to blame" in outcome["text"]
        assert f"expected bank_a with certificate {pinned}" in outcome["text"]
        assert "compare fingerprints with bank_a" in outcome["text"]


def test_a_wrong_certificate_of_one_who_dials_is_told_to_both(cast: Cast) -> None:
    names = NAMES[:2]
    b = cast.start("bank_b", names=names, key="other/bank_b.key", pins={"bank_b": "other/bank_b.crt"})
    a = cast.start("bank_a", names=names, timeouts={"connect_s": 5.0})
    outcome = b.outcome()
    assert (outcome["error"], outcome["peer"]) == ("AuthenticationError", "bank_a")
    used = load_identity("bank_b", cast.directory / "other/bank_b.key", cast.directory / "other/bank_b.crt")
    assert f"this party's certificate {used.fingerprint}" in outcome["text"]
    outcome = a.outcome()
    assert (outcome["error"], outcome["peer"]) == ("AuthenticationError", "bank_b")
    assert "turned away for its certificate" in outcome["text"]
    assert "fingerprints with bank_b" in outcome["text"]


def test_a_party_that_never_comes_is_named_after_the_connect_timeout(cast: Cast) -> None:
    b = cast.start("bank_b", names=NAMES[:2], timeouts={"connect_s": 0.5})
    outcome = b.outcome()
    assert (outcome["error"], outcome["peer"]) == ("PeerVanishedError", "bank_a")
    assert f"bank_a at 127.0.0.1:{cast.ports['bank_a']} (Connection refused)" in outcome["text"]


@pytest.mark.parametrize(
    ("difference", "error", "text"),
    [
        ({"release": "9.9.9"}, "RemoteProtocolError", "runs secagg .*run the same release"),
        ({"wire_version": 200}, "WireError", "speaks wire version .*run the same release"),
        ({"agreement": "ab" * 32}, "JobError", "job differs from this one .*compare the files"),
        ({"names": NAMES[::-1]}, "JobError", "list of parties differs .*compare the files"),
    ],
)
def test_a_difference_is_told_to_everybody_and_nothing_is_started(
    cast: Cast, difference: dict[str, Any], error: str, text: str
) -> None:
    children = [cast.start("bank_a"), cast.start("bank_b"), cast.start("bank_c", **difference)]
    outcomes = [c.outcome() for c in children]
    for outcome in outcomes:
        assert outcome["error"] in {error, "AbortedError"}
        assert re.search(text, outcome["text"])
    assert outcomes[2]["error"] == error
    assert error in {outcomes[0]["error"], outcomes[1]["error"]}


def test_a_second_instance_on_the_same_machine_finds_the_port_in_use(cast: Cast) -> None:
    children = cast.start_all("compute_meanwhile")
    children[1].wait_for("computing")
    outcome = cast.start("bank_b").outcome()
    children[1].go_on()
    assert outcome["error"] == "UsageError"
    assert "Address already in use; is bank_b running already?" in outcome["text"]
    assert [c.outcome()["result"] for c in children] == [18, 18, 18]


@pytest.mark.parametrize("met", [False, True])
def test_a_second_instance_elsewhere_is_turned_away_and_the_first_goes_on(cast: Cast, met: bool) -> None:
    children = [
        cast.start(name, "compute_meanwhile", tells_meeting=not met) for name in NAMES[0 if met else 1 :]
    ]
    for child in children:
        child.wait_for("computing" if met else "met")
    with reserved_ports(1) as (port,):
        outcome = cast.start("bank_c", listen=port).outcome()
    assert outcome["error"] == "AbortedError"
    assert outcome["peer"] in {"bank_a", "bank_b"}  # which turned it away
    assert "bank_c is connected to bank_" in outcome["text"]
    assert "was it started twice?" in outcome["text"]
    if not met:
        children.insert(0, cast.start("bank_a", "compute_meanwhile"))
    children[1].go_on()
    assert [c.outcome()["result"] for c in children] == [18, 18, 18]


# A peer with the right key that breaks the rules: this process plays bank_b.


def load(cast: Cast, name: str) -> Any:
    return load_identity(name, cast.directory / f"{name}.key", cast.directory / f"{name}.crt")


def tls_client(version: str = "TLSv1_3") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion[version]
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def talk(context: ssl.SSLContext, sock: socket.socket) -> None:
    with context.wrap_socket(sock) as secure:
        secure.sendall(b"anything")
        if not secure.recv(1):
            raise ConnectionError("closed")


def halting(sock: socket.socket, between: Callable[[], None]) -> socket.socket:
    """Return a connection to the same peer that carries ten bytes, then calls `between`, then carries the rest."""
    near, far = socket.socketpair()
    near.settimeout(PATIENCE_S)

    def carry(source: socket.socket, sink: socket.socket, first: int) -> None:
        with source, sink, contextlib.suppress(OSError):
            if first:
                sink.sendall(source.recv(first))
                between()
            while data := source.recv(1 << 16):
                sink.sendall(data)

    for source, sink, first in ((far.dup(), sock.dup(), 10), (sock, far, 0)):
        threading.Thread(target=carry, args=(source, sink, first), daemon=True).start()
    return near


class Impostor:
    """bank_b's end of a connection to bank_a, by hand; bank_a runs in a thread of this process."""

    def __init__(
        self,
        cast: Cast,
        *,
        absent: str = "",
        connect_s: float = FOR_EVER_S,
        message_s: float = FOR_EVER_S,
        between: Callable[[], None] | None = None,
        **limits: Any,
    ) -> None:
        self.error: Any = None
        self.result: Any = None
        self.started = threading.Event()
        a, b = load(cast, "bank_a"), load(cast, "bank_b")
        at = ("127.0.0.1", cast.ports["bank_a"])
        peers = [Peer("bank_a", *at, a.certificate), Peer("bank_b", "127.0.0.1", 1, b.certificate)]
        peers += [Peer(absent, "127.0.0.1", 1, load(cast, absent).certificate)] if absent else []

        def run() -> None:
            try:
                self.result, _ = run_party(
                    self.program,
                    me="bank_a",
                    identity=a,
                    peers=peers,
                    listen=at,
                    agreement=bytes(32),
                    timeouts=Timeouts(connect_s, FOR_EVER_S, message_s),
                    keep_memory=False,
                    **limits,
                )
            except SecaggError as error:
                self.error = error

        self.thread = threading.Thread(target=run)
        self.thread.start()
        context = tls_client()
        b.load_into(context)
        for _ in range(3000):
            with contextlib.suppress(ConnectionRefusedError):
                plain = socket.create_connection(at, timeout=PATIENCE_S)
                break
            time.sleep(0.02)
        if between is not None:
            plain = halting(plain, between)
        self.secure = context.wrap_socket(plain)
        assert self.secure.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(
            certificate_pem(a.certificate).decode()
        )

    async def program(self, party: Party) -> int:
        self.started.set()
        return int((await party.receive(Values, "bank_b", max_bytes=MAX_BYTES)).x.sum())

    def ending(self) -> tuple[str, str, str]:
        """Return kind, culprit and text of the error with which bank_a ended."""
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        return type(self.error).__name__, getattr(self.error, "peer", ""), str(self.error)

    def __enter__(self) -> Impostor:
        return self

    def __exit__(self, *_: object) -> None:
        self.secure.close()

    def read(self) -> bytes:
        prefix = self.secure.recv(wire.PREFIX.size)
        size = wire.decode_prefix(prefix, peer="bank_a")[2]
        return prefix + self.secure.recv(size - len(prefix))

    def hello(self, **changes: Any) -> bytes:
        fields = {
            "release": release.RELEASE,
            "name": "bank_b",
            "roster": list(NAMES[:2]),
            "agreement": bytes(32),
            "commitment": nonce_commitment("bank_b", self.nonce),
            **changes,
        }
        return wire.encode_control(FrameType.HELLO, Hello(**fields))

    nonce = bytes(range(32))

    @staticmethod
    def told(nonce: bytes) -> bytes:
        return wire.encode_control(FrameType.HELLO, Nonce(nonce))

    def meet(self) -> bytes:
        """Do all that is right until the program runs; return the session."""
        self.secure.sendall(self.hello())
        hello = wire.decode_control(self.read(), Hello, peer="bank_a")
        theirs = wire.decode_control(self.read(), Nonce, peer="bank_a").nonce
        assert hello.commitment == nonce_commitment("bank_a", theirs)
        self.secure.sendall(self.told(self.nonce))
        session = derive_session(bytes(32), {"bank_a": theirs, "bank_b": self.nonce})
        assert wire.decode_control(self.read(), Session, peer="bank_a").session == session
        self.secure.sendall(wire.encode_control(FrameType.HELLO, Session(session)))
        assert self.started.wait(PATIENCE_S)
        return session


def message(session: bytes, x: NDArray[np.uint64], **changes: Any) -> bytes:
    envelope = {"session": session[:16], "sender": 1, "lane": (), "sequence": 0, "depth": 1, **changes}
    return b"".join(wire.encode_message(Values(x), **envelope)[0])


def test_the_impostor_gets_a_result_where_it_keeps_the_rules(cast: Cast) -> None:
    with Impostor(cast) as peer:
        session = peer.meet()
        peer.secure.sendall(message(session, np.arange(5, dtype=np.uint64)))
        peer.thread.join(PATIENCE_S)
        assert peer.result == 10


def test_a_nonce_is_told_only_when_everybody_is_committed(cast: Cast) -> None:
    """The last to come could choose its nonce so that the session, and a graph made from it, suits it."""
    with Impostor(cast, absent="bank_c", connect_s=4.0) as peer:
        peer.secure.sendall(peer.hello(roster=list(NAMES[:3])))
        frame = peer.read()
        assert peer.secure.recv(1) == b""  # bank_a gives up, and has said nothing else
        assert peer.ending()[0] == "PeerVanishedError"
    assert wire.decode_prefix(frame[: wire.PREFIX.size], peer="bank_a")[0] is FrameType.HELLO
    assert len(wire.decode_control(frame, Hello, peer="bank_a").commitment) == 32


@pytest.mark.parametrize(("others", "named"), [(NAMES[:2], "bank_b"), (NAMES[:3], "")])
def test_who_is_there_and_waits_for_others_is_named_only_where_there_are_no_others(
    cast: Cast, others: tuple[str, ...], named: str
) -> None:
    at = ("127.0.0.1", cast.ports["bank_a"])
    meeting = Meeting("bank_a", others, {}, at, agreement=bytes(32), tls=None, connect_s=1.0)
    meeting.links.update(dict.fromkeys(others[1:]))  # type: ignore[arg-type]  # only who is there matters
    error = meeting._nobody()
    meeting.close()
    assert isinstance(error, PeerVanishedError)
    assert error.peer == named
    assert "bank_b waits for others" in str(error)


def test_who_leaves_when_nonces_are_told_does_not_come_again_with_another(cast: Cast) -> None:
    peer = Impostor(cast)
    with peer:
        peer.secure.sendall(peer.hello())
        peer.read()
        wire.decode_control(peer.read(), Nonce, peer="bank_a")
    assert peer.ending()[:2] == ("PeerVanishedError", "bank_b")


@pytest.mark.parametrize(
    ("sent", "error", "text"),
    [
        (lambda p: p.hello(name="bank_a"), "AuthenticationError", "says that it is bank_a"),
        (
            lambda p: p.hello(name="\x1b[2Jbank"),
            "AuthenticationError",
            re.escape("says that it is \\x1b[2Jbank"),
        ),
        (lambda p: p.hello(commitment=b"short"), "WireError", "fields of a wrong length"),
        (
            lambda p: wire.PREFIX.pack(b"SAG", wire.VERSION, 2, 1 << 21, 1 << 22),
            "WireError",
            "the limits are",
        ),
        (lambda p: wire.encode_control(FrameType.BYE), "WireError", "expected a hello from bank_b"),
        (lambda p: wire.encode_control(FrameType.HELLO, Session(bytes(32))), "WireError", "malformed"),
        (lambda p: b"\0" * 4096, "WireError", "is it running secagg"),
        (
            lambda p: p.hello() + p.told(p.nonce) + wire.encode_control(FrameType.HELLO, Session(bytes(32))),
            "RemoteProtocolError",
            "bank_b derived another session",
        ),
        (lambda p: p.hello() + p.told(bytes(32)), "RemoteProtocolError", "its hello committed it to"),
        (lambda p: p.hello() + p.told(b""), "RemoteProtocolError", "its hello committed it to"),
        (
            lambda p: p.hello(commitment=nonce_commitment("bank_a", p.nonce)) + p.told(p.nonce),
            "RemoteProtocolError",
            "its hello committed it to",
        ),
        (lambda p: p.hello() + wire.encode_control(FrameType.BYE), "WireError", "expected nonce and session"),
    ],
)
def test_whoever_breaks_the_rules_of_the_meeting_is_named(
    cast: Cast, sent: Callable[[Impostor], bytes], error: str, text: str
) -> None:
    with Impostor(cast) as peer:
        peer.secure.sendall(sent(peer))
        kind, culprit, told = peer.ending()
    assert (kind, culprit) == (error, "bank_b")
    assert re.search(text, told)


@pytest.mark.parametrize(
    ("sent", "error", "text"),
    [
        (lambda s: b"x" * 5000, "WireError", "expected a secagg frame from bank_b"),
        (lambda s: message(s, np.zeros(1 << 18, np.uint64)), "WireError", "limits are 1000000"),
        (lambda s: message(bytes(16), np.zeros(1, np.uint64)), "RemoteProtocolError", "another session"),
        (
            lambda s: message(s, np.zeros(1, np.uint64), sender=0),
            "RemoteProtocolError",
            "another party's name",
        ),
        (lambda s: wire.encode_control(FrameType.HELLO, Session(s)), "WireError", "expected a message"),
        (
            lambda s: b"".join(wire.encode_control(FrameType.HEARTBEAT) for _ in range(9)),
            "PeerVanishedError",
            "ended",
        ),
        (lambda s: message(s, np.zeros(9, np.uint64))[:-10], "PeerVanishedError", "its connection ended"),
        (
            lambda s: wire.encode_control(FrameType.ABORT, Abort("nobody", "no\r\x1b[31mroom" + 5000 * "!")),
            "AbortedError",
            r"^bank_b ended the run: no\\r\\x1b\[31mroom!{1,999}\.\.\.$",
        ),
    ],
)
def test_whoever_breaks_the_rules_of_the_run_is_named(
    cast: Cast, sent: Callable[[bytes], bytes], error: str, text: str
) -> None:
    with Impostor(cast, max_frame_bytes=1_000_000) as peer:
        session = peer.meet()
        with contextlib.suppress(OSError):  # it may hang up before it has all
            peer.secure.sendall(sent(session))
        peer.secure.close()
        kind, culprit, told = peer.ending()
    assert (kind, culprit) == (error, "bank_b")
    assert re.search(text, told)


def unasked(session: bytes, number: int, words: int, **changes: Any) -> bytes:
    return b"".join(
        message(session, np.zeros(words, np.uint64), sequence=i, **changes) for i in range(number)
    )


def beginning(session: bytes, words: int, kind: str = Values.KIND, **changes: Any) -> bytes:
    """Return what comes before the arrays of a message."""
    envelope = {"session": session[:16], "sender": 1, "lane": (), "sequence": 0, "depth": 1, **changes}
    frame, _ = wire.encode_message(Values(np.zeros(words, np.uint64)), **envelope)
    assert len(kind) == len(Values.KIND)  # what comes before the arrays has its length in front
    return bytes(frame[0]).replace(Values.KIND.encode(), kind.encode())


def in_lanes_of_their_own(session: bytes, number: int) -> bytes:
    return b"".join(message(session, np.zeros(0, np.uint64), sequence=i, lane=(i,)) for i in range(number))


def claiming_depth(session: bytes, depth: int) -> bytes:
    honest = wire.decode_envelope(message(session, np.zeros(0, np.uint64)), peer="bank_b").envelope
    header = msgspec.msgpack.encode(msgspec.structs.replace(honest, depth=depth))
    return b"".join(wire._frame("test", FrameType.MESSAGE, header, [])[0])


def prefix_of(frame_type: FrameType, size: int) -> bytes:
    return wire.PREFIX.pack(b"SAG", wire.VERSION, frame_type, 0, size) + bytes(1 << 16)


@pytest.mark.parametrize(
    ("sent", "error", "text"),
    [
        (
            lambda s: unasked(s, 20, 1 << 14, lane=(5,)),
            "RemoteProtocolError",
            "more than 1048576 bytes of messages that bank_a has not asked for",
        ),
        (
            lambda s: beginning(s, 1 << 20),
            "RemoteProtocolError",
            "expected test.Values of at most 4259840 bytes from bank_b, got one of 83886",
        ),
        (
            lambda s: beginning(s, 1 << 18, kind="test.Others"),
            "RemoteProtocolError",
            "expected test.Values from bank_b, got 'test.Others'",
        ),
        (
            lambda s: beginning(s, 1 << 18, lane=(5,)),
            "RemoteProtocolError",
            "more than 1048576 bytes of messages that bank_a has not asked for",
        ),
        (
            lambda s: in_lanes_of_their_own(s, 5000),
            "RemoteProtocolError",
            "more than (4096 lanes|1048576 bytes)",
        ),
        (
            lambda s: message(s, np.zeros(1 << 14, np.uint64), sequence=1),
            "RemoteProtocolError",
            "message 1 .* too early",
        ),
        (lambda s: prefix_of(FrameType.HEARTBEAT, 4187593113), "WireError", "HEARTBEAT frame of 4187593113"),
        (lambda s: prefix_of(FrameType.BYE, 1 << 31), "WireError", "BYE frame of 2147483648"),
        (lambda s: prefix_of(FrameType.ABORT, 1 << 31), "WireError", "ABORT frame of 2147483648"),
        (lambda s: prefix_of(FrameType.HELLO, 1 << 31), "WireError", "HELLO frame of 2147483648"),
        (lambda s: prefix_of(FrameType.STORED, 1 << 31), "WireError", "got a frame for files"),
        (lambda s: claiming_depth(s, 2**48 - 1), "WireError", "malformed envelope from bank_b"),
    ],
    ids=[
        "lane",
        "asked",
        "kind",
        "unasked",
        "lanes",
        "early",
        "heartbeat",
        "bye",
        "abort",
        "hello",
        "stored",
        "depth",
    ],
)
def test_whoever_would_fill_memory_is_named_before_it_does(
    cast: Cast, sent: Callable[[bytes], bytes], error: str, text: str
) -> None:
    with Impostor(cast, max_unread_bytes=1 << 20) as peer:
        session = peer.meet()
        with contextlib.suppress(OSError):  # it may hang up before it has all
            peer.secure.sendall(sent(session))
        kind, culprit, told = peer.ending()  # while the connection stands: not because it ended
    assert (kind, culprit) == (error, "bank_b")
    assert re.search(text, told)


def test_a_frame_for_which_there_is_no_memory_is_blamed_on_its_sender(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Impostor(cast) as peer:
        session = peer.meet()
        real = np.empty

        def small(size: int, dtype: Any) -> NDArray[Any]:
            if size > 1 << 20:
                raise MemoryError
            return real(size, dtype)

        x = np.zeros(1 << 18, np.uint64)
        monkeypatch.setattr("secagg.network.link.np.empty", small)
        with contextlib.suppress(OSError):
            peer.secure.sendall(message(session, x))
        kind, culprit, told = peer.ending()
    assert (kind, culprit) == ("WireError", "bank_b")
    assert "for which there is no memory" in told


def test_heartbeats_without_end_do_not_keep_a_party_from_looking_at_the_time(cast: Cast) -> None:
    with Impostor(cast, message_s=1.0) as peer:
        peer.meet()
        beats = wire.encode_control(FrameType.HEARTBEAT) * 4096

        def flood() -> None:
            with contextlib.suppress(OSError):
                peer.secure.sendall(beats[:7])  # so that no record ends where a frame does
                while peer.thread.is_alive():
                    peer.secure.sendall(beats[7:] + beats[:7])

        flooding = threading.Thread(target=flood)
        flooding.start()
        kind, culprit, _ = peer.ending()
        flooding.join(PATIENCE_S)
    assert (kind, culprit) == ("PeerVanishedError", "bank_b")


class TakesNothing(Impostor):
    failed = ""

    async def program(self, party: Party) -> int:
        self.started.set()
        party.send("bank_b", Values(np.zeros(1 << 23, np.uint64)))
        await party.gather(Values, ["bank_b"], quorum=0, timeout_s=0.5)
        self.failed = str(party.failed.get("bank_b"))
        return 1


def test_what_is_kept_for_a_peer_that_takes_nothing_is_bounded(cast: Cast) -> None:
    taking = TakesNothing(cast, max_unread_bytes=1 << 20)
    with taking as peer:
        peer.meet()
        peer.thread.join(PATIENCE_S)
        assert peer.result == 1
    assert "took no more of what was sent to it" in taking.failed


def test_idle_callers_keep_nobody_from_meeting(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(callers, "_MAX_CONNECTED", 16)
    with contextlib.ExitStack() as stack:

        def flood() -> None:
            at = ("127.0.0.1", cast.ports["bank_a"])
            idle = [stack.enter_context(socket.create_connection(at, timeout=PATIENCE_S)) for _ in range(200)]
            with contextlib.suppress(ConnectionError):
                assert not idle[100].recv(1)  # until it had to make room

        with caplog.at_level(logging.WARNING), Impostor(cast, between=flood) as peer:
            session = peer.meet()
            peer.secure.sendall(message(session, np.arange(5, dtype=np.uint64)))
            peer.thread.join(PATIENCE_S)
            assert peer.result == 10
    dropped = [record for record in caplog.records if "dropped" in record.getMessage()]
    assert 1 <= len(dropped) <= 15


def test_a_party_with_a_certificate_cannot_take_others_places_before_it_says_hello(cast: Cast) -> None:
    context = tls_client()
    load(cast, "bank_b").load_into(context)
    with contextlib.ExitStack() as stack:

        def flood() -> None:
            at = ("127.0.0.1", cast.ports["bank_a"])
            shaken = []
            for _ in range(12):
                plain = socket.create_connection(at, timeout=PATIENCE_S)
                shaken.append(stack.enter_context(context.wrap_socket(plain)))
            with contextlib.suppress(OSError):
                while shaken[0].recv(1 << 12):  # a hello, until it had to make room
                    pass

        with Impostor(cast, between=flood) as peer:
            session = peer.meet()
            peer.secure.sendall(message(session, np.arange(5, dtype=np.uint64)))
            peer.thread.join(PATIENCE_S)
            assert peer.result == 10


def test_bytes_altered_on_the_way_are_an_authentication_error(cast: Cast) -> None:
    with Impostor(cast) as peer:
        peer.meet()
        forged = socket.socket(fileno=peer.secure.detach())  # below TLS, as somebody on the way would write
        with forged:
            forged.sendall(b"\x17\x03\x03\x00\x40" + bytes(64))
            kind, culprit, told = peer.ending()
    assert (kind, culprit) == ("AuthenticationError", "bank_b")
    assert "is not what bank_b sent" in told


def test_whoever_is_turned_down_is_told_why(cast: Cast) -> None:
    with Impostor(cast) as peer:
        peer.secure.sendall(peer.hello(agreement=bytes(31) + b"\1"))
        wire.decode_control(peer.read(), Hello, peer="bank_a")
        abort = wire.decode_control(peer.read(), Abort, peer="bank_a")
        assert peer.ending()[0] == "JobError"
    assert abort.about == "bank_b"
    assert "bank_b's job differs from this one" in abort.reason


# What the caller gets wrong.


def test_plain_connections_are_for_this_machine_alone() -> None:
    for host in ("192.0.2.1", "0.0.0.0", "bank.example", "localhost", "::"):
        with pytest.raises(UsageError, match="without TLS expected loopback addresses"):
            run_party_insecure_plain(ring_sum, me="a", addresses={"a": ("127.0.0.1", 1), "b": (host, 2)})


def test_parties_and_certificates_must_fit_together(directory: Path) -> None:
    identities = {
        name: load_identity(name, directory / f"{name}.key", directory / f"{name}.crt") for name in NAMES
    }
    peers = [Peer(name, "127.0.0.1", 1, i.certificate) for name, i in identities.items()]
    common: dict[str, Any] = {"listen": ("127.0.0.1", 0), "agreement": bytes(32)}
    a = identities["bank_a"]
    with pytest.raises(UsageError, match="expected bank_a's identity and peers of distinct names"):
        run_party(ring_sum, me="bank_a", identity=a, peers=peers[1:], **common)
    with pytest.raises(UsageError, match="expected bank_b's identity"):
        run_party(ring_sum, me="bank_b", identity=a, peers=peers, **common)
    with pytest.raises(UsageError, match="distinct names"):
        run_party(ring_sum, me="bank_a", identity=a, peers=[*peers, peers[1]], **common)
    with pytest.raises(UsageError, match="is not that of this identity"):
        run_party(ring_sum, me="bank_a", identity=create_identity("bank_a"), peers=peers, **common)
    wrong = Peer("bank_d", "127.0.0.1", 1, a.certificate)
    with pytest.raises(UsageError, match="expected a certificate for bank_d, got one for bank_a"):
        run_party(ring_sum, me="bank_a", identity=a, peers=[*peers, wrong], **common)
    with pytest.raises(UsageError, match="digest of 32 bytes, got 3"):
        run_party(ring_sum, me="bank_a", identity=a, peers=peers, listen=("127.0.0.1", 0), agreement=b"abc")
    with pytest.raises(UsageError, match="cannot listen at"):
        run_party(
            ring_sum, me="bank_a", identity=a, peers=peers, listen=("192.0.2.1", 1), agreement=bytes(32)
        )
    with pytest.raises(UsageError, match="above 0 s"):
        Timeouts(silence_s=0)


def test_a_party_alone_runs(directory: Path) -> None:
    a = load_identity("bank_a", directory / "bank_a.key", directory / "bank_a.crt")
    peers = [Peer("bank_a", "127.0.0.1", 1, a.certificate)]
    result, _ = run_party(
        ring_sum, me="bank_a", identity=a, peers=peers, listen=("127.0.0.1", 0), agreement=bytes(32)
    )
    assert result == 3


def test_sessions_depend_on_every_part_and_on_where_it_ends() -> None:
    nonces = {"a": bytes(32), "b": b"\1" * 32}
    session = derive_session(bytes(32), nonces)
    assert len(session) == 32
    others = [
        derive_session(b"\1" * 32, nonces),
        derive_session(bytes(32), {"a": bytes(32), "b": b"\2" * 32}),
        derive_session(bytes(32), {"a": b"\1" * 32, "b": bytes(32)}),
        derive_session(bytes(32), {"b": b"\1" * 32, "a": bytes(32)}),
        derive_session(bytes(32), {"ab": bytes(32), "": b"\1" * 32}),
        derive_session(bytes(32), {"a": bytes(32)}),
    ]
    assert len({session, *others}) == 7


if __name__ == "__main__":
    be_a_party(json.loads(sys.argv[1]))
