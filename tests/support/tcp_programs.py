"""Parties that tests start as processes: what they run, and a process that forks them.

What imports take is spent once: `serve` forks a party for each request. Nothing here imports pytest.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg import release, wire
from secagg.network.identity import load_certificate, load_identity
from secagg.network.meeting import Attendance
from secagg.network.tcp import Peer, Timeouts, run_party, run_party_insecure_plain
from secagg.party import Party, Program
from secagg.wire import Message

NAMES = ("bank_a", "bank_b", "bank_c")
FOR_EVER_S = 600


class Values(Message, frozen=True):
    """Some numbers."""

    x: NDArray[np.uint64]


Values.KIND = "test.Values"  # a party knows this file by another name


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
    say(stage="answering")
    if party.me == victim:
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
    say(stage="answering")
    if party.me == victim:
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
    """The whole of a party's process."""
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


def serve(requests: socket.socket) -> None:
    """Fork a party for each request, which comes with its standard input, output and error.

    The answer is a descriptor of the process, whose number stays its own until it is waited for here.
    """
    parties: list[int] = []
    while True:
        options, descriptors, _, _ = socket.recv_fds(requests, 1 << 16, 3)
        if not options:
            break
        party = os.fork()
        if not party:
            requests.close()
            for number, descriptor in enumerate(descriptors):
                os.dup2(descriptor, number)
                os.close(descriptor)
            return be_a_party(json.loads(options))
        parties.append(party)
        process = os.pidfd_open(party)
        socket.send_fds(requests, [b"."], [process])
        for descriptor in (process, *descriptors):
            os.close(descriptor)
    for party in parties:
        os.kill(party, signal.SIGKILL)
        os.waitpid(party, 0)
    return None


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        serve(asked)
