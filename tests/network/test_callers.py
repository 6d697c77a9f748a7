"""Who makes room when more call than there is room for."""

from __future__ import annotations

import logging
import resource
from itertools import count

import pytest

from secagg.network.callers import Callers, DropLog, Newcomer, Stage, source_of

MORE = 1000


def caller(source: str, stage: Stage = Stage.CONNECTED) -> Newcomer:
    return Newcomer(0.0, None, source, stage=stage)


def displaced(places: Callers, newcomers: list[Newcomer]) -> list[Newcomer]:
    """Let them come one after the other; return who made room."""
    gone = []
    for new in newcomers:
        if (one := places.add(new)) is not None:
            places.remove(one)
            gone.append(one)
    return gone


def test_callers_who_have_shown_something_are_not_displaced_by_any_number_who_have_not() -> None:
    places = Callers()
    shaking, known = caller("a", Stage.SHAKING), caller("bank_b", Stage.KNOWN)
    assert places.add(shaking) is None
    assert places.add(known) is None
    standing: list[Newcomer] = []
    for _ in range(MORE):
        new = caller("a")
        standing.append(new)
        if (gone := places.add(new)) is not None:
            assert gone is standing.pop(0)
            places.remove(gone)
    assert places.idle() == standing
    assert len(standing) == 512
    assert places.rise(standing[0], Stage.SHAKING, "a") is None
    assert len(places.idle()) == 511


def test_in_a_stage_the_address_with_the_most_callers_makes_room() -> None:
    places = Callers()
    honest = caller("b", Stage.SHAKING)
    places.add(honest)
    flood = [caller("a", Stage.SHAKING) for _ in range(MORE)]
    gone = displaced(places, flood)
    assert gone == flood[: MORE - 255]
    late = caller("c", Stage.SHAKING)
    assert places.add(late) is flood[MORE - 255]


def test_where_every_address_has_one_caller_the_oldest_makes_room() -> None:
    places = Callers()
    for number in range(512):
        assert places.add(caller(f"10.0.{number >> 8}.{number & 255}")) is None
    oldest = places.idle()[0]
    assert places.add(caller("a")) is oldest


def test_a_party_displaces_none_but_its_own_connections() -> None:
    places = Callers()
    other = caller("bank_c", Stage.KNOWN)
    places.add(other)
    own = [caller("bank_b", Stage.KNOWN) for _ in range(6)]
    gone = displaced(places, own)
    assert gone == own[:2]


def test_places_are_a_part_of_the_descriptors_that_the_process_may_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    places = Callers()
    assert [places.add(caller("a")) is None for _ in range(33)] == [True] * 32 + [False]


@pytest.mark.parametrize(
    ("hosts", "one"),
    [
        (("192.0.2.1", "192.0.2.2"), False),
        (("2001:db8::1", "2001:db8::2:3:4:5"), True),
        (("2001:db8::1", "2001:db8:0:1::1"), False),
        (("::ffff:192.0.2.1", "::ffff:192.0.2.2"), False),
        (("fe80::1%eth0", "fe80::2%eth0"), True),
    ],
)
def test_addresses_that_one_machine_can_have_are_one_source(hosts: tuple[str, str], one: bool) -> None:
    assert (source_of(hosts[0]) == source_of(hosts[1])) is one


def test_drops_are_logged_at_a_rate_and_those_left_out_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("secagg.network.callers.time.monotonic", lambda: now[0])
    log, number = DropLog("bank_a"), count()
    with caplog.at_level(logging.WARNING):
        for _ in range(MORE):
            log.dropped(Stage.CONNECTED, f"idle {next(number)}")
        log.dropped(Stage.SHAKING, "no certificate")
        assert [r.getMessage() for r in caplog.records] == [
            *(f"bank_a dropped a connection: idle {i}" for i in range(10)),
            "bank_a dropped a connection: no certificate",
        ]
        caplog.clear()
        now[0] += 11
        log.dropped(Stage.CONNECTED, "another")
        log.settle(last=True)
        assert [r.getMessage() for r in caplog.records] == [
            "bank_a dropped 990 more connections",
            "bank_a dropped a connection: another",
        ]
