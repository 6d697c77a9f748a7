"""Needed nodes that end a relayed sum: they are named, within a time, and the next sum does not need them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from played_rounds import NAMES, Played
from secagg import wire
from secagg.errors import DataError, RemoteProtocolError, TooFewPartiesError, UsageError
from secagg.federated import Bounded, Encoding, Protection, SharedKey, bounded, shared_key
from secagg.federated import carrier as carrying
from secagg.federated.bounded import BoundedTerms
from secagg.federated.carrier import Carrier
from secagg.federated.letters import pack
from secagg.federated.messages import Participants
from secagg.federated.relayed import Answer
from secagg.federated.sum_server import SumServer
from secagg.protocols.bounded_sum import Bounds

BOUNDED = Protection(0.2, 0.2, bounded=Bounded(("a", "b", "c", "d"), norm=200.0))
SHARED = Protection(0.2, 0.2, shared_key=SharedKey(("a", "b", "c")))
CLIPS = Encoding({"": 16.0, "model/steps": 1e6}, max_weight=10)
Change = Callable[[Answer], Answer | None]


def silent(_: Answer) -> None:
    return None


def withholding(told: Answer) -> Answer:
    return Answer(pack([]), False, "")


def accusing(told: Answer) -> Answer:
    """Withhold, and say that it waits for somebody else."""
    return Answer(pack([]), False, "", "", ("a",))


def garbling(told: Answer) -> Answer:
    return msgspec.structs.replace(
        told, mail=msgspec.structs.replace(told.mail, content=np.zeros_like(told.mail.content))
    )


def misbehave(played: Played, name: str, change: Change) -> None:
    answer = played.keepers[name].answer

    def altered(step: str, frame: bytes) -> bytes:
        told = answer(step, frame)
        if step != "relay":
            return told
        changed = change(wire.from_bytes(told, Answer))
        if changed is None:
            raise RemoteProtocolError("out of order", peer=name)
        return wire.to_bytes(changed)

    played.keepers[name].answer = altered  # type: ignore[method-assign]


@pytest.mark.slow
@pytest.mark.parametrize("change", [silent, withholding, accusing, garbling])
@pytest.mark.parametrize("protection", [BOUNDED, SHARED], ids=["bounded", "shared key"])
def test_a_needed_node_that_ends_a_sum_is_named_and_the_next_ones_do_without_it(
    tmp_path: Path, protection: Protection, change: Change
) -> None:
    played = Played(tmp_path, protection, CLIPS)
    misbehave(played, "b", change)
    failed = 0
    while played.round() is None:
        failed += 1
        assert "b" in played.server.reports[-1].missed
        assert failed <= 3
    report = played.server.reports[-1]
    assert failed >= 1
    # It goes on as it did, and costs its own update alone.
    assert (report.contributors, report.failure) == (tuple("acde"), "")
    assert played.round() is not None
    # When it behaves it is in the sum, and is not needed any more.
    played.keepers["b"] = played.keeper("b")
    assert played.round({"b": "relay"}) is not None
    assert played.round() is not None
    assert played.server.reports[-1].contributors == NAMES


@pytest.mark.slow
@pytest.mark.parametrize(("protection", "failing"), [(BOUNDED, "aggregate"), (SHARED, "take_part")])
def test_a_needed_node_whose_program_fails_is_named_and_the_next_sum_does_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protection: Protection, failing: str
) -> None:
    module = bounded if protection.bounded else shared_key
    honest: Any = vars(module)[failing]

    async def program(party: Any, *args: Any, **more: Any) -> Any:
        if party.me.startswith("b"):
            raise DataError("patient 4711 weighs 80")
        return await honest(party, *args, **more)

    monkeypatch.setattr(module, failing, program)
    played = Played(tmp_path, protection, CLIPS)
    assert played.round() is None
    assert "b" in played.server.reports[-1].missed
    assert played.round() is not None
    assert not any(b"4711" in frame for frame in played.frames)


@pytest.mark.slow
def test_nobody_is_blamed_for_a_sum_of_too_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(tmp_path, SHARED, CLIPS)
    assert played.round({"d": "relay", "e": "relay"}) is None
    assert played.server.failures == {}
    folder = tmp_path / "bounded"
    folder.mkdir()
    played = Played(folder, BOUNDED)
    honest: Any = vars(bounded)["contribute"]

    async def contribute(party: Any, x: Any, *, terms: Any) -> None:
        if party.me in ("a", "e"):
            from secagg.protocols.bounded_sum import upload

            return await upload(party, np.full_like(x, 1 << 40), terms=terms)
        return await honest(party, x, terms=terms)

    monkeypatch.setattr(bounded, "contribute", contribute)
    assert played.round() is None
    assert "out of bounds: a, e" in played.server.reports[-1].failure
    assert played.server.failures == {}


@pytest.mark.parametrize(
    ("waits", "server", "blamed"),
    [
        ({"a": "b", "b": "", "c": "b"}, "", "b"),  # b holds back, and two say so
        ({"a": "b", "b": ""}, "c", "c"),  # which has ended before the server has what it waits for
        ({"a": "b", "b": ""}, "", "ab"),  # one of them lies
        ({"a": "b", "b": "c"}, "ab", "bc"),  # c has ended as it should, and b alone waits for it
        ({"a": "b", "b": "a", "c": "a"}, "", "ab"),
        ({"a": "server", "b": "server", "c": "server"}, "b", "b"),  # which sends nothing and says it waits
    ],
)
def test_of_those_who_wait_for_each_other_one_that_lies_is_blamed(
    waits: dict[str, str], server: str, blamed: str
) -> None:
    there = BoundedTerms(Bounded(("a", "b", "c"), 1.0), NAMES, NAMES[:3], Bounds(7, 100, 1000), 3, bytes(32))
    carrier: Any = Carrier(there, {})
    carrier._going = {*waits, "d", "e"}
    carrier._waits_for = {
        name: ("server",) if others == "server" else tuple(others) for name, others in waits.items()
    }
    carrier._run = SimpleNamespace(waiting_for=[f"{name}:adding" for name in server])
    assert "".join(sorted(carrier._stalled())) == blamed


@pytest.mark.parametrize(
    ("accused", "blamed"),
    [
        ({"a": "b"}, "ab"),
        ({"b": "a", "c": "a"}, "abc"),
        ({"d": "b"}, "b"),
        ({"a": "e"}, ""),
        ({"c": "c"}, "c"),
    ],
)
def test_whoever_accuses_a_needed_node_is_blamed_with_it(accused: dict[str, str], blamed: str) -> None:
    there = BoundedTerms(Bounded(("a", "b", "c"), 1.0), NAMES, NAMES[:3], Bounds(7, 100, 1000), 3, bytes(32))
    carrier: Any = Carrier(there, {})
    carrier._accused = accused
    assert "".join(carrier.blamed(TooFewPartiesError("the sum does not go on"))) == blamed


class Clock:
    """A clock that a node's answers move."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.slow
@pytest.mark.parametrize("protection", [BOUNDED, SHARED], ids=["bounded", "shared key"])
def test_a_sum_ends_when_its_time_is_over_and_who_kept_it_waiting_is_not_needed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protection: Protection
) -> None:
    clock = Clock()
    monkeypatch.setattr(carrying, "time", clock)
    played = Played(tmp_path, protection, CLIPS)
    played.server = SumServer(tmp_path / "peers.toml", protection, CLIPS, limit_s=1000.0)

    def slow(told: Answer) -> Answer:
        clock.now += 299  # of 300 s that a step may take
        return told

    misbehave(played, "c", slow)
    assert played.round() is None
    report = played.server.reports[-1]
    assert "within 1000 s, and they did not; c kept it waiting longest" in report.failure
    assert clock.now <= 1000 + 300
    assert list(report.missed) == ["c"]
    # A node that is not needed writes once; that it is slow then costs one step.
    assert played.round() is not None
    assert played.server.reports[-1].contributors == NAMES


def test_a_sum_takes_no_more_steps_than_its_protocol_and_its_losses_explain(tmp_path: Path) -> None:
    played = Played(tmp_path, BOUNDED)

    def chatting(told: Answer) -> Answer:
        """Keep a letter of a needed node on its way for ever."""
        return Answer(pack([("b", "a:adding", b"noise")]), False, "")  # type: ignore[list-item]

    misbehave(played, "b", chatting)
    misbehave(played, "a", withholding)
    assert played.round() is None
    there = BoundedTerms(Bounded(("a", "b", "c"), 1.0), NAMES, NAMES[:3], Bounds(7, 100, 1000), 3, bytes(32))
    assert len(played.exchanges) <= 2 + 2 * (there.exchanges + len(NAMES))
    assert {"a"} <= played.server.reports[-1].missed.keys() <= {"a", "b"}


@pytest.mark.parametrize(
    ("protection", "chosen", "why"),
    [
        (BOUNDED, ("a", "b", "e"), "to let nodes of a, b, c, d compute"),
        (BOUNDED, ("b", "a", "c"), "in this order"),
        (BOUNDED, ("a", "b", "b"), "in this order"),
        (BOUNDED, ("a", "b", "c", "d"), "three nodes compute, got 4"),
        (BOUNDED, ("a", "b"), "three of a, b, c, d"),
        (SHARED, ("a", "e"), "to let nodes of a, b, c compute"),
        (SHARED, ("a",), "at least 2 of a, b, c"),
    ],
)
def test_a_node_refuses_others_to_compute_than_its_setting_names(
    tmp_path: Path, protection: Protection, chosen: tuple[str, ...], why: str
) -> None:
    played = Played(tmp_path, protection, CLIPS)
    found = played.errors_of("d")

    def change(step: str, name: str, frame: bytes) -> bytes:
        if (step, name) != ("keys", "d"):
            return frame
        told = wire.from_bytes(frame, Participants)
        return wire.to_bytes(msgspec.structs.replace(told, computing=chosen))

    played.change = change
    played.round()
    assert why in str(found[0])


def test_who_does_not_take_part_does_not_compute() -> None:
    with pytest.raises(RemoteProtocolError, match="compute that take part, in this order, got 'a', 'b', 'c'"):
        BoundedTerms(BOUNDED.bounded, NAMES[1:], NAMES[:3], Bounds(7, 100, 1000), 3, bytes(32))  # type: ignore[arg-type]


def most_failures(setting: Bounded | SharedKey, liar: str, failures: Counter[str], depth: int = 0) -> int:
    """Return how many sums one liar can end at most, whomever else of those that compute each failure is put down to."""
    assert depth < 12
    chosen = setting.chosen(NAMES, failures)
    if liar not in chosen:
        return 0
    others = [name for name in chosen if name != liar]
    found = [
        most_failures(setting, liar, failures + Counter((liar, *accused)), depth + 1)
        for count in range(len(others) + 1)
        for accused in itertools.combinations(others, count)
    ]
    return 1 + max(found)


@pytest.mark.parametrize(
    ("setting", "most"),
    [
        (Bounded(("a", "b", "c", "d"), 1.0), 3),
        (Bounded(NAMES, 1.0), 2),
        (SharedKey(("a", "b", "c"), 2), 3),
        (SharedKey(NAMES, 4), 5),
    ],
)
def test_one_liar_ends_few_sums_whomever_it_accuses(setting: Bounded | SharedKey, most: int) -> None:
    named = setting.computing if isinstance(setting, Bounded) else setting.key_holders
    assert max(most_failures(setting, liar, Counter()) for liar in named) == most


def test_a_limit_of_time_is_a_positive_number() -> None:
    for limit in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="positive seconds"):
            SumServer({name: bytes(32) for name in NAMES}, limit_s=limit)
