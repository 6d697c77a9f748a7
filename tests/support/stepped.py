"""Parties stepped by hand, without a driver, and what others send them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg import wire
from secagg.party import Computation, Party, Run
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


class Text(Message, frozen=True):
    text: str


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


async def exchange(p: Party, rounds: int, start: int) -> int:
    """Add everybody's numbers for some rounds; a message in a wrong lane changes the sum."""
    total = start
    for _ in range(rounds):
        p.broadcast(Number(total))
        total += sum(m.value for m in (await p.gather(Number, p.others)).values())
    return total


# Frames that break the rules.


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
