"""Visits between parties that lead to no run: asking what others run and what time it is there, saying that one cannot come.

A run that waits or is under way is changed by none of them, but for one that waits for a party that cannot come.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from ports import reserved_ports
from secagg import release
from secagg.errors import AbortedError
from secagg.joint.preflight.peers import _about
from secagg.network import probe as probing
from secagg.network.hello import State, state_frame
from secagg.network.identity import Identity, create_identity
from secagg.network.probe import Seen, probe
from secagg.network.sockets import open_listener
from secagg.network.tcp import Peer, Timeouts, run_party
from secagg.network.unable import Cause, tell_unable
from secagg.party import Party
from secagg.wire import FrameType, Message, encode_control

NAMES = ("a", "b", "c")
AGREED = bytes(32)
LONG_S = 60.0  # for what ends by itself


@pytest.fixture(scope="module")
def identities() -> dict[str, Identity]:
    return {name: create_identity(name) for name in NAMES}


async def nothing(party: Party) -> str:
    return party.me


class Place:
    """Three parties' addresses, and what each of them does in a thread of its own."""

    def __init__(self, identities: dict[str, Identity], ports: list[int], pool: ThreadPoolExecutor) -> None:
        self.identities, self.pool = identities, pool
        self.ports = dict(zip(NAMES, ports, strict=True))
        self.peers = [Peer(n, "127.0.0.1", self.ports[n], identities[n].certificate) for n in NAMES]

    def probe(self, me: str, wait_s: float = LONG_S, **options: Any) -> Future[dict[str, Seen]]:
        given: dict[str, Any] = {"agreement": AGREED, "fields": {}, "identity": self.identities[me]} | options
        return self.pool.submit(
            lambda: probe(
                me=me, peers=self.peers, listen=("127.0.0.1", self.ports[me]), wait_s=wait_s, **given
            )
        )

    def tell(self, me: str, **options: Any) -> tuple[str, ...]:
        given: dict[str, Any] = {
            "agreement": AGREED,
            "identity": self.identities[me],
            "listen": ("127.0.0.1", self.ports[me]),
            "wait_s": LONG_S,
        }
        return tell_unable(me=me, peers=self.peers, cause=Cause.DATA, **(given | options))

    def run(self, me: str, program: Any) -> Future[Any]:
        return self.pool.submit(
            lambda: run_party(
                program,
                me=me,
                identity=self.identities[me],
                peers=self.peers,
                listen=("127.0.0.1", self.ports[me]),
                agreement=AGREED,
                timeouts=Timeouts(LONG_S, LONG_S, LONG_S),
                keep_memory=False,
            )[0]
        )


@pytest.fixture
def place(identities: dict[str, Identity]) -> Iterator[Place]:
    with reserved_ports(3) as ports, ThreadPoolExecutor(4) as pool:
        yield Place(identities, ports, pool)


@pytest.mark.slow
def test_three_parties_that_probe_learn_each_other_s_release_job_and_clock(place: Place) -> None:
    other = bytes(31) + b"\1"
    found = {
        n: place.probe(n, agreement=other if n == "c" else AGREED, fields={"name": bytes(16)}) for n in NAMES
    }
    for me, seen in found.items():
        for name, one in seen.result().items():
            assert (one.release, one.agreement, one.waits) == (
                release.RELEASE,
                other if name == "c" else AGREED,
                False,
            )
            assert one.dials == (name < me)
            assert one.fields == {"name": bytes(16)}
            assert one.apart_s is not None
            assert abs(one.apart_s) <= one.within_s + 0.1


@pytest.mark.slow
def test_a_clock_that_is_wrong_is_measured(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def state(agreement: bytes, fields: Any) -> bytes:
        ahead = 3600 if threading.current_thread() is thread[0] else 0
        return encode_control(FrameType.STATE, State(release.RELEASE, agreement, time.time() + ahead))

    thread: list[threading.Thread] = [threading.main_thread()]
    monkeypatch.setattr(probing, "state_frame", state)

    def told(*_: Any) -> None:
        pass

    def ahead() -> dict[str, Seen]:
        thread[0] = threading.current_thread()
        return probe(
            me="b", identity=place.identities["b"], peers=place.peers[:2], listen=("127.0.0.1", place.ports["b"]),
            agreement=AGREED, fields={}, wait_s=LONG_S, on_seen=told,
        )  # fmt: skip

    b = place.pool.submit(ahead)
    a = probe(
        me="a", identity=place.identities["a"], peers=place.peers[:2], listen=("127.0.0.1", place.ports["a"]),
        agreement=AGREED, fields={}, wait_s=LONG_S,
    )  # fmt: skip
    b.result()
    apart, within = a["b"].apart_s, a["b"].within_s
    assert apart is not None
    assert abs(apart - 3600) <= within + 0.1


class LaterState(Message, frozen=True):
    """A state as a later release may have it: only its first field is where it was."""

    release: str
    jobs: list[str]


@pytest.mark.slow
@pytest.mark.parametrize("later", ["a", "b"])  # b dials a
def test_a_party_of_another_release_is_told_apart_whatever_else_it_says(
    place: Place, monkeypatch: pytest.MonkeyPatch, later: str
) -> None:
    threads = set[threading.Thread]()

    def state(agreement: bytes, fields: Any) -> bytes:
        frame = encode_control(FrameType.STATE, LaterState("9.9", ["j"]))
        return frame if threading.current_thread() in threads else state_frame(agreement, fields)

    monkeypatch.setattr(probing, "state_frame", state)

    def seen_by(me: str) -> dict[str, Seen]:
        if me == later:
            threads.add(threading.current_thread())
        return probe(
            me=me, identity=place.identities[me], peers=place.peers[:2], listen=("127.0.0.1", place.ports[me]),
            agreement=AGREED, fields={}, wait_s=LONG_S,
        )  # fmt: skip

    found = {me: place.pool.submit(seen_by, me) for me in ("a", "b")}
    other = "b" if later == "a" else "a"
    seen = found[other].result()[later]
    assert (seen.release, seen.agreement, seen.fault) == ("9.9", b"", "")
    assert found[later].result()[other].release == release.RELEASE
    findings = [(f.what, f.status) for f in _about(later, seen, other, AGREED, {})]
    assert findings == [("address", "PASSED"), ("certificate", "PASSED"), ("version", "FAILED")]


@pytest.mark.slow
def test_a_run_that_waits_and_one_under_way_answer_a_probe_and_are_not_changed_by_it(place: Place) -> None:
    going, go_on = threading.Event(), threading.Event()

    async def program(party: Party) -> str:
        going.set()
        go_on.wait(LONG_S)
        return party.me

    waiting = [place.run(name, program) for name in ("a", "b")]
    seen = place.probe("c").result()
    assert [one.waits for one in seen.values()] == [True, True]
    assert {one.release for one in seen.values()} == {release.RELEASE}
    assert not going.is_set()  # c was asked for, and a probe is no c
    waiting.append(place.run("c", program))
    assert going.wait(LONG_S)
    # c itself is in the run, and asks the two that listen for it.
    again = place.pool.submit(
        lambda: probe(me="c", identity=place.identities["c"], peers=place.peers, listen=("127.0.0.1", 0),
                      agreement=AGREED, fields={}, wait_s=LONG_S)
    ).result()  # fmt: skip
    assert {one.release for one in again.values()} == {release.RELEASE}
    place.tell("c", listen=("127.0.0.1", 0))  # a second start of c, which fails
    go_on.set()
    assert [one.result() for one in waiting] == ["a", "b", "c"]


@pytest.mark.slow
def test_a_party_with_another_key_is_refused_and_learns_nothing(place: Place) -> None:
    a = place.probe("a", wait_s=2.0)
    stranger = create_identity("b")
    b = place.probe("b", wait_s=2.0, identity=stranger)
    assert b.result()["a"].refused
    assert b.result()["a"].release == ""
    assert a.result()["b"].release == ""


@pytest.mark.slow
def test_nobody_there_is_told_from_nobody_called(place: Place) -> None:
    seen = place.probe("b", wait_s=0.5).result()
    assert (seen["a"].connected, seen["a"].fault) == (False, "Connection refused")
    assert (seen["c"].dials, seen["c"].fault) == (False, "")


@pytest.mark.parametrize("unable_one", ["a", "c"])  # whom the others call, and who calls them
@pytest.mark.slow
def test_a_party_that_cannot_take_part_ends_the_wait_of_those_who_are_there(
    place: Place, unable_one: str
) -> None:
    others = [name for name in NAMES if name != unable_one]
    waiting = {name: place.run(name, nothing) for name in others}
    if unable_one == "c":  # to those who call, a stranger in its place is an end in itself
        assert place.tell("c", identity=create_identity("c"), wait_s=0.5) == ()
    assert set(place.tell(unable_one, agreement=bytes(31) + b"\1")) == set(others)
    time.sleep(0.1)
    assert not any(run.done() for run in waiting.values())  # it is about another run
    assert set(place.tell(unable_one)) == set(others)
    for run in waiting.values():
        with pytest.raises(
            AbortedError, match=f"{unable_one} ended the run: it cannot use its own input"
        ) as ended:
            run.result()
        assert (ended.value.peer, ended.value.accused) == (unable_one, "")


def test_a_party_whose_address_is_taken_by_its_own_run_tells_nobody(place: Place) -> None:
    with open_listener("a", ("127.0.0.1", place.ports["a"])):
        assert place.tell("a") == ()
