"""Privacy budgets of Flower's nodes: made on purpose, counted once, and refused where the file is not the newest.

The module is long because budgets are spent, restored and lost by the same few nodes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
pytest.importorskip("flwr", minversion="1.41", reason="flwr is an optional dependency: secagg[flower]")
pytest.importorskip("dp_accounting", reason="dp-accounting is an optional dependency: secagg[dp]")

from flwr.app import Array, ArrayRecord, Message
from flwr.serverapp.strategy import FedAvg

from secagg import wire
from secagg.errors import RemoteProtocolError, UsageError
from secagg.federated import messages as m
from secagg.federated.budget import MAX_SUMS, SPENT_BYTES, History, PrivacyBudget, Spent
from secagg.federated.peer_budgets import stale_budget
from secagg.integrations.flower import (
    Privacy,
    Protection,
    SecureAggregation,
    load_peers,
    new_budget,
    new_identity,
)
from secagg.protocols.masked_sum import Consent, Consents, Keys, PeerKeys, Unmasking
from secagg.protocols.masked_sum.terms import pack_set

PRIVACY = Privacy(epsilon=1e8, delta=1e-5, norm=10.0, rounds=5, max_corrupt=0.25)
NAMES = ("a", "b", "c", "d")


def protection(**settings: Any) -> Protection:
    return Protection(max_corrupt=0.25, max_dropout=0.25, privacy=PRIVACY, **settings)


def reason(reply: Message) -> str:
    assert reply.has_error()
    return str(reply.error.reason)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    new_identity(tmp_path / "a.key")
    return tmp_path / "a.key"


def budget_of(key: Path, kind: str = "train", privacy: Privacy = PRIVACY) -> PrivacyBudget:
    return PrivacyBudget(key, kind, privacy)


def take(key: Path, times: int = 1) -> None:
    for _ in range(times):
        budget_of(key).spend(secrets.token_bytes(32), server="server")


# The file


@pytest.mark.slow
def test_without_a_budget_a_node_does_nothing_and_says_how_to_make_one(
    make: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    played = make(protection(), budgets=False)
    assert (
        reason(played.ask("a", m.TASK, played.task)) == "it cannot use its own input; its own output says why"
    )
    assert played.nodes["a"].calls == 0
    assert not (played.folder / ".a.key.spent-train").exists()
    # The command in the log makes it.
    command = caplog.text.partition("makes it: python -c ")[2].partition('"\n')[0].lstrip('"')
    assert "new_budget(" in command
    ran = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    assert not played.ask("a", m.TASK, played.task).has_error()


def test_a_budget_is_made_once(key: Path) -> None:
    file = new_budget(key, PRIVACY)
    beside = [path for path in key.parent.iterdir() if path.name.startswith(".")]
    assert file in beside
    assert {path.stat().st_mode & 0o777 for path in beside} == {0o600}  # the lock too
    assert file == key.parent / ".a.key.spent-train"
    assert file.stat().st_mode & 0o777 == 0o600
    take(key)
    with pytest.raises(UsageError, match="what it says is spent stays spent"):
        new_budget(key, PRIVACY)
    assert budget_of(key).check(server="server").count == 1
    new_budget(key, PRIVACY, "evaluate")
    with pytest.raises(UsageError, match='expected "train" or "evaluate"'):
        new_budget(key, PRIVACY, "query")
    with pytest.raises(UsageError, match="cannot read the identity key"):
        new_budget(key.parent / "missing" / "a.key", PRIVACY)


def damages(file: Path) -> Iterator[bytes | None]:
    data = file.read_bytes()
    yield None
    yield b""
    yield b"\n"
    for cut in (1, 7, 66, 120, len(data) // 2):
        yield data[:-cut]
    for place in range(0, len(data), 13):
        yield data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    lines = data.split(b"\n")
    at = lines.index(b'"sums": [')
    yield b"\n".join([*lines[: at + 1], *lines[lines.index(b"],", at) :]])
    yield data + data


def test_a_file_that_is_not_as_the_node_wrote_it_counts_as_no_budget(key: Path) -> None:
    file = new_budget(key, PRIVACY)
    take(key, 3)
    good = file.read_bytes()
    count = 0
    for data in damages(file):
        if data is None:
            file.unlink()
        else:
            file.write_bytes(data)
        for use in (lambda: budget_of(key).check(server="server"), lambda: take(key)):
            with pytest.raises(
                UsageError, match="is missing" if data is None else "is not as this node wrote it"
            ):
                use()
        assert data is None or file.read_bytes() == data  # nothing is mended silently
        file.write_bytes(good)
        count += 1
    assert count > 20
    assert budget_of(key).check(server="server").count == 3


def test_a_budget_of_a_later_format_is_refused_by_its_number_whatever_seals_it(key: Path) -> None:
    file = new_budget(key, PRIVACY)
    written = file.read_bytes()
    assert b'"format": 1,' in written
    file.write_bytes(written.replace(b'"format": 1,', b'"format": 2,'))
    with pytest.raises(
        UsageError, match=r"has format 2, and secagg .* reads formats up to 1: a later release"
    ):
        budget_of(key).check(server="server")


def test_a_budget_of_another_node_or_kind_is_refused(key: Path) -> None:
    new_identity(key.parent / "b.key")
    file = new_budget(key, PRIVACY)
    for other, kind in ((key.parent / "b.key", "train"), (key, "evaluate")):
        shutil.copy(file, other.parent / f".{other.name}.spent-{kind}")
        with pytest.raises(UsageError, match="comes from another node"):
            budget_of(other, kind).check(server="server")


def test_no_more_sums_are_spent_than_the_budget_is_for(key: Path) -> None:
    new_budget(key, PRIVACY)
    take(key, 5)
    with pytest.raises(
        RemoteProtocolError, match="5 were made of this node's data, all that its budget is for"
    ):
        take(key)


def test_of_many_at_once_no_two_spend_one_sum(key: Path) -> None:
    """The lock is on the file: for threads as for processes."""
    new_budget(key, PRIVACY)
    start = threading.Barrier(8)

    def often(_: int) -> int:
        start.wait()
        done = 0
        with contextlib.suppress(RemoteProtocolError):
            for _ in range(3):
                take(key)
                done += 1
        return done

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(often, range(8)))
    assert sum(done) == budget_of(key).spent().count == PRIVACY.rounds


def test_a_lock_file_that_is_removed_keeps_nobody_out_and_lets_nobody_in(key: Path) -> None:
    new_budget(key, PRIVACY)
    lock = key.parent / ".a.key.lock"
    with budget_of(key).locked():
        lock.unlink()
    take(key)
    assert budget_of(key).check(server="server").count == 1


def test_a_budget_and_its_name_are_on_the_disk_before_a_vector_leaves(
    key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = new_budget(key, PRIVACY)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    take(key)
    assert synced == [file.stat().st_ino, key.parent.stat().st_ino]


def test_a_disk_that_takes_nothing_leaves_the_budget_as_it_was(
    key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_budget(key, PRIVACY)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UsageError, match="No space left on device"):
            take(key)
    assert budget_of(key).check(server="server").count == 0


# What others remember


def history(count: int, of: bytes = b"h", made: int = 1) -> History:
    return History(made.to_bytes(16, "big"), b"".join(of * 7 + bytes([i]) for i in range(count)))


@pytest.mark.parametrize(
    ("now", "known", "older"),
    [
        (history(3), history(3), False),
        (history(4), history(3), False),
        (history(2), history(3), True),
        # Another copy of the file was used as often, more often, or more often by far.
        (history(3, b"x"), history(3), True),
        (history(4, b"x"), history(3), True),
        (history(40, b"x"), history(1), True),
        (history(1, b"x"), history(0), False),  # nobody saw which copy is the first
        (history(0, b"x", made=2), history(3), False),  # made anew
        (history(9, b"x", made=1), history(0, b"y", made=2), True),  # the one before that
    ],
)
def test_which_budgets_are_older_than_known_ones(now: History, known: History, older: bool) -> None:
    assert now.is_older(known.spent()) == older
    assert History.from_bytes(now.to_bytes(), peer="a") == now
    assert Spent.from_bytes(known.spent().to_bytes(), peer="a") == known.spent()
    assert len(known.spent().to_bytes()) == SPENT_BYTES


@pytest.mark.parametrize("data", [b"", bytes(15), bytes(17), bytes(16 + 8 * MAX_SUMS + 8)])
def test_bytes_that_are_no_budget_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=f"a budget of 16 bytes .* from a, got {len(data)}"):
        History.from_bytes(data, peer="a")
    with pytest.raises(RemoteProtocolError, match="expected a budget in 56 bytes from a, got"):
        Spent.from_bytes(data[:55], peer="a")


def test_a_budget_for_more_sums_than_can_be_shown_is_refused(tmp_path: Path, key: Path) -> None:
    with pytest.raises(UsageError, match=f"at most {MAX_SUMS} sums"):
        new_budget(key, dataclasses.replace(PRIVACY, rounds=MAX_SUMS + 1))


def test_copies_that_were_both_used_differ(key: Path, tmp_path: Path) -> None:
    file = new_budget(key, PRIVACY)
    take(key)
    old = file.read_bytes()
    take(key)
    first = budget_of(key).spent()
    file.write_bytes(old)
    take(key)
    second = budget_of(key).spent()
    assert (first.id, first.count) == (second.id, second.count) == (first.id, 2)
    assert first.is_older(second.spent())
    assert second.is_older(first.spent())
    take(key)  # however often the copy is used
    assert budget_of(key).spent().is_older(first.spent())
    assert not budget_of(key).spent().is_older(second.spent())


def test_nothing_older_replaces_what_is_known(key: Path) -> None:
    new_budget(key, PRIVACY)
    budget_of(key).remember({"b": history(3), "c": history(1)})
    budget_of(key).remember({"b": history(2), "c": history(2)})
    known = {"b": history(3).spent(), "c": history(2).spent()}
    assert budget_of(key).seen() == known
    take(key)
    assert budget_of(key).seen() == known


def restored(played: Any, name: str, *, sums: int) -> bytes:
    """Play sums, and put a node's budget back to what it was before; return what it was after them."""
    file = played.folder / f".{name}.key.spent-train"
    old = file.read_bytes()
    for _ in range(sums):
        played.begin().finish()
    new: bytes = file.read_bytes()
    file.write_bytes(old)
    return new


@pytest.mark.slow
def test_nodes_refuse_one_whose_budget_is_older_than_they_remember(make: Callable[..., Any]) -> None:
    played = make(protection())
    new = restored(played, "b", sums=2)
    played.begin()
    for name in ("a", "c", "d"):
        assert reason(played.ask(name, m.KEYS, played.roster())).startswith(
            "b shows a budget of which 0 sums are spent, and this node saw one of 2: its file is older than that"
        )
    # With the newest copy all goes on.
    (played.folder / ".b.key.spent-train").write_bytes(new)
    assert played.begin().finish().weight == 4


@pytest.mark.slow
def test_a_budget_made_anew_is_worked_with_and_its_neighbours_say_so(
    make: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    played = make(protection())
    played.begin().finish()
    (played.folder / ".b.key.spent-train").unlink()
    new_budget(played.folder / "b.key", PRIVACY)
    played.begin().finish()
    assert caplog.text.count("b has begun another budget, after one of 1 sums: what both tell adds up") == 3
    assert budget_of(played.folder / "b.key").spent().count == 1


@pytest.mark.slow
def test_a_server_cannot_pass_on_another_budget_than_a_node_showed(make: Callable[..., Any]) -> None:
    """To the node itself it says the truth, to the others what they remember."""
    played = make(protection())
    newest = restored(played, "b", sums=1)
    file = played.folder / ".b.key.spent-train"
    old = file.read_bytes()
    file.write_bytes(newest)
    seen = budget_of(played.folder / "b.key").spent().to_bytes()
    file.write_bytes(old)
    played.begin()
    true = played.roster()
    lie = m.Participants(
        true.names, true.nonces, true.server_nonce, (true.budgets[0], seen, *true.budgets[2:])
    )
    assert "expected server to pass on this node's budget as it is" in reason(played.ask("b", m.KEYS, lie))
    played.begin()
    true = played.roster()
    lie = m.Participants(
        true.names, true.nonces, true.server_nonce, (true.budgets[0], seen, *true.budgets[2:])
    )
    keys = {n: played.answer(n, m.KEYS, true if n == "b" else lie, Keys) for n in NAMES}
    others = [keys[name] for name in ("b", "c", "d")]
    peers = PeerKeys(
        pack_set(frozenset({1, 2, 3}), 4),
        np.stack([k.keys for k in others]),
        np.stack([k.signature for k in others]),
    )
    assert "keys that b signed for this round" in reason(played.ask("a", m.SHARES, peers))
    for wrong in (true.budgets[:3], (), (*true.budgets[:3], b"short")):
        played.begin()
        roster = played.roster()
        bad = m.Participants(roster.names, roster.nonces, roster.server_nonce, wrong)
        assert "from server, got" in reason(played.ask("a", m.KEYS, bad))


@pytest.mark.slow
def test_a_sum_is_over_when_another_was_made_since_its_budget_was_shown(make: Callable[..., Any]) -> None:
    played = make(protection()).begin()
    inboxes = played.until_input()
    take(played.folder / "a.key")
    assert "began before another of this node's data was made" in reason(
        played.ask("a", m.INPUT, inboxes["a"])
    )
    assert budget_of(played.folder / "a.key").spent().count == 1


@pytest.mark.slow
def test_an_active_server_cannot_have_sums_remembered_that_were_not_made(make: Callable[..., Any]) -> None:
    """A node of which it says that its vector came, and which signed nothing, has not spent anything for sure."""
    played = make(protection(threat_model="malicious")).begin()
    request = played.until_unmask()
    consents = {name: played.answer(name, m.CONSENT, request, Consent) for name in ("a", "b", "c")}
    signatures = np.stack([consent.signature for consent in consents.values()])
    told = Consents(pack_set(frozenset({0, 1, 2}), 4), signatures)
    for name in ("a", "b", "c"):
        played.answer(name, m.UNMASK, told, Unmasking)
    assert set(budget_of(played.folder / "a.key").seen()) == {"b", "c"}


def strategy_of(played: Any) -> SecureAggregation:
    return SecureAggregation(
        FedAvg(min_available_nodes=4, fraction_evaluate=0.0),
        peers=played.folder / "peers.toml",
        protection=played.task.protection,
        poll_s=0.0,
    )


@pytest.mark.slow
def test_the_server_goes_on_without_a_restored_node_and_tells_it_what_others_signed(
    make: Callable[..., Any], grid_of: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    played = make(dataclasses.replace(protection(), min_clients=2))
    arrays = ArrayRecord({"w": Array(np.zeros(3, np.float32))})
    restored(played, "b", sums=2)
    secure = strategy_of(played)
    secure.start(grid_of(played), arrays, num_rounds=1)
    (report,) = secure.reports
    assert report.contributors == ("a", "c", "d")
    assert report.missed == {
        "b": "its budget file is older than, or another copy of, the one that a, c, d saw"
    }
    assert (
        ".b.key.spent-train says that 0 sums (train) were made of this node's data, and server that the file is older than "
        "others remember; signed by them: a saw 2, c saw 2, d saw 2. Put back the newest copy"
    ) in caplog.text


@pytest.mark.slow
def test_fewer_nodes_than_may_lie_keep_nobody_out(
    make: Callable[..., Any], grid_of: Callable[[Any], Any]
) -> None:
    played = make(dataclasses.replace(protection(), min_clients=2))
    # One node says of all others that it saw them spend more.
    budget_of(played.folder / "d.key").remember({name: history(9, made=2**127) for name in "abc"})
    secure = strategy_of(played)
    secure.start(grid_of(played), ArrayRecord({"w": Array(np.zeros(3, np.float32))}), num_rounds=1)
    (report,) = secure.reports
    assert report.contributors == ("a", "b", "c")
    assert "shows a budget of which 0 sums are spent" in report.missed["d"]


@pytest.mark.slow
def test_what_others_saw_counts_only_under_their_signature(make: Callable[..., Any]) -> None:
    played = make(protection())
    restored(played, "b", sums=1)
    played.begin()
    ready, peers = played.ready["c"], load_peers(played.folder / "peers.toml")
    own = budget_of(played.folder / "b.key")

    def told(frame: m.Ready, run: int) -> str:
        older = wire.to_bytes(m.StaleBudget((wire.to_bytes(frame),)))
        return str(stale_budget(older, run, "train", "b", peers, own))

    assert "signed by them: c saw 1. Put back" in told(ready, played.run)
    with pytest.raises(RemoteProtocolError, match="expected c's signature"):
        told(ready, 7)
    forged = m.Ready(
        ready.name,
        ready.nonce,
        ready.layout,
        ready.setting,
        ready.signature,
        ready.budget,
        {"b": history(4, made=2**127).spent().to_bytes()},
    )
    with pytest.raises(RemoteProtocolError, match="expected c's signature"):
        told(forged, played.run)


@pytest.mark.slow
def test_a_copy_that_was_used_more_often_is_not_worked_with(make: Callable[..., Any]) -> None:
    """Two copies of one file would allow twice the sums, one copy in one cohort and the other in another."""
    played = make(protection())
    file = played.folder / ".b.key.spent-train"
    copy = file.read_bytes()
    played.begin().finish()
    file.write_bytes(copy)
    take(played.folder / "b.key", 3)  # the copy, elsewhere
    assert budget_of(played.folder / "a.key").seen()["b"].count == 1
    played.begin()
    assert "or another copy of it" in reason(played.ask("a", m.KEYS, played.roster()))
