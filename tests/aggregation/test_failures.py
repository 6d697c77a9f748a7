"""What a party's program raises ends a sum, as it is; only who was asked to vanish is left out."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import secagg
from secagg.aggregation import Bounded, Protection
from secagg.errors import PeerVanishedError, RangeError, RemoteProtocolError
from secagg.party import Party
from secagg.protocols.masked_sum.server import Server
from secagg.updates.coding import FixedPoint

Get = Callable[[str], Protection]
XS = {f"c{i}": np.full(4, float(i)) for i in range(5)}
BEARS = ("masked", "active", "additive", "bounded", "single-rlwe", "rlwe", "ckks", "paillier")


class AlarmError(Exception):
    """What a handler of a signal raises."""


class Stop(BaseException):
    """As `KeyboardInterrupt`, but stops no test run."""


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException) -> Iterator[None]:
    """Let the program of one party raise an error in place of sending a message."""
    send = Party.send

    def sending(self: Party, to: str, message: Any) -> None:
        if self.me == name:
            raise error
        send(self, to, message)

    with monkeypatch.context() as patch:
        patch.setattr(Party, "send", sending)
        yield


def choose(protection: Get, name: str) -> Protection:
    return Bounded() if name == "bounded" else protection(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", BEARS)
@pytest.mark.parametrize(
    "error", [MemoryError(), AlarmError("time is up"), KeyError("a bug"), Stop(), RangeError("of one update")]
)
def test_an_exception_in_a_client_is_raised_as_it_is(
    monkeypatch: pytest.MonkeyPatch, protection: Get, name: str, error: BaseException
) -> None:
    choice = choose(protection, name)
    with failing(monkeypatch, "c2", error), pytest.raises(type(error)) as caught:
        secagg.sum(XS, protocol=choice, clip=8.0)
    assert caught.value is error
    assert "raised in the program of c2" in error.__notes__


def test_an_exception_beside_a_dropout_that_was_asked_for_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    with failing(monkeypatch, "c2", AlarmError("time is up")), pytest.raises(AlarmError):
        secagg.sum(XS, clip=8.0, simulate_dropouts=["c4"])


@pytest.mark.parametrize("messages", [1, 7, 12, 20])
def test_a_signal_whose_handler_raises_ends_the_sum(monkeypatch: pytest.MonkeyPatch, messages: int) -> None:
    sent, send = iter(range(1, 1000)), Party.send

    def ring(number: int, frame: Any) -> None:
        raise AlarmError("time is up")

    def sending(self: Party, to: str, message: Any) -> None:
        send(self, to, message)
        if next(sent) == messages:
            signal.raise_signal(signal.SIGALRM)

    monkeypatch.setattr(Party, "send", sending)
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with pytest.raises(AlarmError):
            secagg.sum(XS, clip=8.0)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_what_the_server_finds_wrong_with_an_honest_client_ends_the_sum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take = Server.take_input

    def wrong(self: Server, peer: str, message: Any) -> None:
        if peer == "c3":
            raise RemoteProtocolError("a mistake in the server's own check", peer=peer)
        take(self, peer, message)

    monkeypatch.setattr(Server, "take_input", wrong)
    with pytest.raises(RemoteProtocolError, match="own check"):
        secagg.sum(XS, clip=8.0)


def test_a_sum_that_lacks_a_client_nobody_asked_to_vanish_is_not_returned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Bounded.run

    def without(self: Bounded, task: Any) -> Any:
        opened = run(self, task)
        return dataclasses.replace(opened, contributors=opened.contributors[1:])

    monkeypatch.setattr(Bounded, "run", without)
    with pytest.raises(PeerVanishedError, match="c0 was not to drop out") as caught:
        secagg.sum(XS, protocol="bounded", clip=8.0, simulate_dropouts=["c4"])
    assert caught.value.peer == "c0"


def test_who_cheats_or_vanishes_because_that_was_asked_for_is_left_out() -> None:
    choice = Bounded(simulate_cheating=["c1"], max_dropout=0.5)
    result = secagg.sum(XS, protocol=choice, clip=8.0, simulate_dropouts=["c4"], precision=1e-3)
    assert result.report.contributors == ("c0", "c2", "c3")
    assert np.max(np.abs(result.value - 5)) <= result.report.error


def test_an_exception_while_an_update_is_written_is_raised_with_its_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encode, error, calls = FixedPoint.encode, MemoryError(), iter(range(9))

    def short(self: FixedPoint, *args: Any) -> Any:
        if next(calls) == 3:
            raise error
        return encode(self, *args)

    monkeypatch.setattr(FixedPoint, "encode", short)
    with pytest.raises(MemoryError) as caught:
        secagg.sum(XS, clip=8.0)
    assert caught.value is error
    assert error.__notes__ == ["raised with the update of c3"]
