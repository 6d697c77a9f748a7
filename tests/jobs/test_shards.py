"""Shards found by workers of each party equal the plaintext, whatever workers are lost; nothing opens too early.

The module is long because one set of workers, in threads, serves every claim.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from msgspec.structs import replace

from ports import reserved_ports
from secagg.errors import (
    AbortedError,
    CheatingError,
    JobError,
    PeerMissingError,
    PlanError,
    RemoteProtocolError,
    SecaggError,
    UsageError,
)
from secagg.jobs import checkpoints
from secagg.jobs.inputs import InputTables
from secagg.jobs.job import Job
from secagg.jobs.job_file import parse_job
from secagg.jobs.plain import decode, encode
from secagg.jobs.run import Part
from secagg.jobs.shards import (
    LocalWorkers,
    Watch,
    Work,
    Workplace,
    attempts,
    find_in_shards,
    groups,
    sharded,
    worker,
)
from secagg.jobs.shards.gathering import gathered
from secagg.joint.audit.gate import of_workers
from secagg.ledger import Ledger
from secagg.network import visits
from secagg.network.identity import Identity, certificate_pem, create_identity
from secagg.network.sockets import open_listener
from secagg.network.tcp import Peer, Timeouts, run_party
from secagg.prg import KEY_BYTES
from secagg.protocols.group_by import Field, Layout, Query, Rows, announce, reference
from secagg.protocols.group_by.shards import Division
from secagg.release import RELEASE

BANKS = ("north", "south", "west")
FIELDS = (Field("senders", 100, at_least=5), Field("banks", 1, at_least=2, opened=False))
QUERY = Query(BANKS, BANKS, FIELDS)
SHARDS = 4
TIMEOUTS = Timeouts(connect_s=2, silence_s=2, message_s=20)


def rows(bank: int) -> Rows:
    names = [f"everybody's {i}" for i in range(20)] + [f"{bank} {i}" for i in range(30)]
    values = np.stack([np.arange(50) % 7, np.ones(50)], 1).astype(np.uint64)
    return Rows(np.array(names, object), values)


TABLES = [rows(i) for i in range(3)]


def on_shards(layout: Layout) -> sharded.Sharded:
    """Return work on shards at a party that puts in nothing."""
    return groups.groups_in_shards(Division(layout))


class ThreadWorkers:
    """Workers in this process.

    Args:
      lost: tells of a task whether its worker is lost; called before it begins, and again with what came of it.
    """

    def __init__(self, lost: Callable[[dict[str, Any], bool], bool] = lambda task, ended: False) -> None:
        self._pool = ThreadPoolExecutor(8)
        self._lost = lost
        self.tasks: list[dict[str, Any]] = []
        self.answers: dict[str, dict[str, Any]] = {}  # by attempt

    def address(self, place: int, told: tuple[str, int]) -> tuple[str, int]:
        return told

    def start(self, place: int, told: tuple[str, int], module: str, task: bytes) -> Future[bytes | None]:
        seen = dict(decode(task))
        seen["folder"] += f"/machine {place}"  # each place has a disk of its own
        task = encode(seen)
        self.tasks.append(seen)

        def work() -> bytes | None:
            if self._lost(seen, False):
                return None
            answer = worker.run(task)
            self.answers[seen["attempt"]] = dict(decode(answer))
            return None if self._lost(seen, True) else answer

        return self._pool.submit(work)

    def gather(self, started: Sequence[Future[bytes | None]]) -> list[bytes | None]:
        return [one.result() for one in started]

    def end(self, started: Sequence[Future[bytes | None]]) -> None:
        for one in started:
            one.cancel()


@pytest.fixture(scope="module")
def identities() -> dict[str, Identity]:
    return {name: create_identity(name) for name in BANKS}


@pytest.fixture
def ports() -> Iterator[list[int]]:
    with reserved_ports(9) as found:
        yield found


def run(identities, ports, folder: Path, workers: dict[str, Any], program: Any = None) -> dict[str, Any]:
    """Run the banks' main sessions in threads; return of each what it found, or the error that ended it."""
    peers = [
        Peer(name, "127.0.0.1", port, identities[name].certificate)
        for name, port in zip(BANKS, ports, strict=False)
    ]
    addresses = {
        name: [("127.0.0.1", ports[3 + 2 * i + k]) for k in range(2)] for i, name in enumerate(BANKS)
    }

    def bank(name: str) -> Any:
        work = Work(Workplace(workers[name], folder), addresses, SHARDS, TIMEOUTS)

        async def whole(party):
            announced = await announce(party, QUERY, TABLES[BANKS.index(name)])
            watch = Watch()
            return await find_in_shards(party, QUERY, announced, work, watch), watch

        try:
            return run_party(
                program or whole,
                me=name,
                identity=identities[name],
                peers=peers,
                listen=("127.0.0.1", ports[BANKS.index(name)]),
                agreement=bytes(32),
                timeouts=TIMEOUTS,
            )[0]
        except SecaggError as error:
            return error

    with ThreadPoolExecutor(len(BANKS)) as pool:
        return dict(zip(BANKS, pool.map(bank, BANKS), strict=True))


def assert_equals_the_plaintext(found: dict[str, Any]) -> None:
    for name, expected in zip(BANKS, reference(QUERY, TABLES), strict=True):
        assert not isinstance(found[name], Exception), found[name]
        findings, _ = found[name]
        assert np.array_equal(findings.flagged, expected.flagged)
        assert np.array_equal(findings.sums, expected.sums)
        assert expected.flagged.sum() > 5


@pytest.mark.slow
def test_a_lost_worker_in_each_step_costs_its_shard_alone_and_the_findings_are_the_plaintexts(
    identities, ports, tmp_path
):
    lost: list[str] = []

    def loses(task: dict[str, Any], ended: bool) -> bool:
        # One before it met anybody, one after it had shared and kept everything, one after it had its rows opened.
        if (task["attempt"] == "compute-1-1" and not ended) or (task["attempt"] == "open-2-1" and ended):
            lost.append(task["attempt"])
            return True
        return False

    def loses_late(task: dict[str, Any], ended: bool) -> bool:
        if task["attempt"] == "compute-2-1" and ended:
            lost.append(task["attempt"])
            return True
        return False

    workers = {"north": ThreadWorkers(), "south": ThreadWorkers(loses), "west": ThreadWorkers(loses_late)}
    found = run(identities, ports, tmp_path, workers)
    assert_equals_the_plaintext(found)
    assert sorted(lost) == ["compute-1-1", "compute-2-1", "open-2-1"]
    watch = found["north"][1]
    tries = {(one["step"], one["shard"]): one["attempts"] for one in watch.done}
    again = {("compute", 1), ("compute", 2), ("open", 2)}
    assert tries == {
        (step, k): 1 + ((step, k) in again) for step in ("compute", "open") for k in range(SHARDS)
    }
    assert [re.sub(r" in the step.*shard (.),", r", shard \1,", news) for news in watch.news] == [
        "north's worker of shard 1 ended in the step compute, as south's was lost or could not be reached",
        "the worker of south was lost, shard 1, which is done again (attempt 2 of 5)",
        "the worker of west was lost, shard 2, which is done again (attempt 2 of 5)",
        "the worker of south was lost, shard 2, which is done again (attempt 2 of 5)",
    ]
    assert ("south's worker of shard 1 was lost in the step compute", 1) in [
        (news.split(";")[0], news.count("told")) for news in found["south"][1].news
    ]
    lists = {(one["step"], one["shard"]): one["lost"] for one in watch.done if one["lost"]}
    assert lists == {("compute", 1): [["south"]], ("compute", 2): [["west"]], ("open", 2): [["south"]]}
    assert watch.sent_bytes > 50_000
    # Whoever waits for a worker that never comes hears of it, and does not wait until it gives up.
    for name in ("north", "west"):
        told = workers[name].answers["compute-1-1"]
        assert told["lost"]
        assert told["text"].startswith("south ended the run: its worker was lost")
    digests = {name: of_workers({"outcome": "complete", "workers": found[name][1].done}) for name in BANKS}
    for a, b in itertools.permutations(BANKS, 2):
        assert digests[a][b]["sent"] == digests[b][a]["received"]
        assert int(digests[a][b]["sent"]["messages"]) > 2 * SHARDS
    assert len({digests[a][b]["sent"]["sha256"] for a, b in itertools.permutations(BANKS, 2)}) == 6
    assert of_workers({"outcome": "failed", "workers": watch.done}) == {}
    for of_bank in workers.values():
        keys = [task["secret_key"] for task in of_bank.tasks]
        assert len(set(keys)) == len(keys)  # each attempt has a session of its own
        assert len({worker.agreement_of(task) for task in of_bank.tasks}) == len(keys)
        text = encode({"tasks": of_bank.tasks})
        assert b"everybody's" not in text  # a worker gets no identifier
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]  # what was kept is deleted


def test_who_comes_after_a_worker_was_lost_is_told_however_late_and_its_address_is_free_then(
    identities, ports, monkeypatch
):
    late, begun = [0.0], threading.Event()

    def clock() -> float:
        now = time.monotonic() + late[0]
        begun.set()
        return now

    monkeypatch.setattr(visits, "time", SimpleNamespace(monotonic=clock))
    peers = [Peer(name, "127.0.0.1", ports[i], identities[name].certificate) for i, name in enumerate(BANKS)]
    told = [[peer.name, peer.host, peer.port, certificate_pem(peer.certificate)] for peer in peers]
    pem = identities["south"].secret_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    about: dict[str, Any] = {
        "run": bytes(32),
        "step": "compute",
        "shard": 1,
        "attempt": "1-1",
        "kept": "1-1",
        "kind": "groups",
    }
    task = about | {
        "me": "south", "peers": told, "secret_key": pem, "listen": told[1][1:3], "public": {},
    }  # fmt: skip
    agreement = worker.agreement_of(task)
    nothing: Future[bytes | None] = Future()
    nothing.set_result(None)
    ended: list[Any] = []

    async def nobody_meets(party: Any) -> None:
        raise AssertionError

    def note(i: int, answer: bytes | None) -> None:
        ended.append((i, answer))

    with gathered(ThreadWorkers(), [nothing], [task], note, lambda: None):
        assert ended == [(0, None)]
        assert begun.wait(20)
        late[0] = 3600.0  # an hour after the loss
        for name in ("north", "west"):  # who listens for south, and who calls it, one after the other
            with pytest.raises(AbortedError, match="south ended the run: its worker was lost"):
                run_party(
                    nobody_meets, me=name, identity=identities[name], peers=peers,
                    listen=("127.0.0.1", ports[BANKS.index(name)]), agreement=agreement,
                    timeouts=Timeouts(connect_s=5),
                )  # fmt: skip
    with gathered(ThreadWorkers(), [nothing], [task], note, lambda: None):  # nobody comes, and nobody waits
        pass
    open_listener("south", ("127.0.0.1", ports[1])).close()


@pytest.mark.slow
def test_a_lost_worker_is_told_of_at_its_party_and_at_others_while_other_workers_of_the_turn_work(
    identities, ports, tmp_path, monkeypatch
):
    told_at: set[str] = set()
    everybody_told = threading.Event()
    early: list[str] = []

    class Telling(Watch):
        """Notes, while workers work, which party has news."""

        def __init__(self) -> None:
            def report() -> None:
                for news in self.news:
                    told_at.add(news.split("'")[0])
                if told_at >= set(BANKS):
                    everybody_told.set()

            super().__init__(report=report)

    def waits_or_is_lost(task: dict[str, Any], ended: bool) -> bool:
        if task["attempt"] == "compute-0-1" and ended:  # goes on until all parties know of the other one
            early.append(str(everybody_told.wait(60)))
        return task["attempt"] == "compute-1-1" and task["me"] == "south" and not ended

    monkeypatch.setitem(globals(), "Watch", Telling)
    found = run(identities, ports, tmp_path, {name: ThreadWorkers(waits_or_is_lost) for name in BANKS})
    assert_equals_the_plaintext(found)
    assert early == ["True"] * len(BANKS)


@pytest.mark.slow
def test_nothing_is_opened_before_all_shards_are_computed_and_a_worker_that_is_always_lost_ends_the_run(
    identities, ports, tmp_path, monkeypatch
):
    monkeypatch.setattr(attempts, "MOST_ATTEMPTS", 2)
    workers = {name: ThreadWorkers() for name in BANKS}
    workers["west"] = ThreadWorkers(
        lambda task, ended: task["step"] == "compute" and task["attempt"][8] == "3" and ended
    )
    found = run(identities, ports, tmp_path, workers)
    for error in found.values():
        assert isinstance(error, PeerMissingError)
        assert "shard 3 were lost 2 times" in str(error)
        assert "by west" in str(error)
    assert {task["step"] for of_bank in workers.values() for task in of_bank.tasks} == {"compute"}


@pytest.mark.slow
def test_a_worker_whose_disk_is_full_is_its_own_partys_and_that_party_is_told_why(
    identities, ports, tmp_path, monkeypatch
):
    monkeypatch.setattr(attempts, "MOST_ATTEMPTS", 2)
    write_sealed = checkpoints.write_sealed

    def full(path: Path, *arguments: Any, **words: Any) -> None:
        if path.parts[-3] == "south" and path.name.startswith("1-"):
            path = path.parent / "missing" / path.name
        write_sealed(path, *arguments, **words)

    monkeypatch.setattr(sharded, "write_sealed", full)
    news: dict[str, list[str]] = {}

    class Kept(Watch):
        def __init__(self) -> None:
            super().__init__()
            news[threading.current_thread().name] = self.news

    monkeypatch.setitem(globals(), "Watch", Kept)
    found = run(identities, ports, tmp_path, {name: ThreadWorkers() for name in BANKS})
    for error in found.values():
        assert isinstance(error, PeerMissingError)
        assert "those of the last attempt by south" in str(error)
        assert "missing" not in str(error)  # the folder is nobody else's business
    (told,) = [own for own in news.values() if any("make room" in text for text in own)]
    assert (
        sum(text.startswith("south's worker of shard 1 ended: cannot keep a shard in ") for text in told) == 2
    )
    assert told[-1].endswith("make room, and it may be done again")


@pytest.mark.slow
def test_an_error_of_a_worker_that_would_come_again_ends_the_run_at_once(
    identities, ports, tmp_path, monkeypatch
):
    tried = []

    async def refuse(party, layout, own):
        tried.append(party.me)
        raise PlanError("two rows cannot be told apart")

    monkeypatch.setattr(groups, "compute_shard", refuse)
    found = run(identities, ports, tmp_path, {name: ThreadWorkers() for name in BANKS})
    assert any(isinstance(e, PlanError) and "worker of shard" in str(e) for e in found.values())
    assert all(isinstance(e, SecaggError) for e in found.values())
    assert len(tried) <= 2 * len(BANKS)


def none(message: Any, peer: str) -> Any:
    return (
        replace(message, certificates=[b"no certificate"] * 2)
        if hasattr(message, "certificates")
        else message
    )


def of_another(message: Any, peer: str) -> Any:
    made = certificate_pem(create_identity("south").certificate)
    return replace(message, certificates=[made] * 2) if hasattr(message, "certificates") else message


def strange(message: Any, peer: str) -> Any:
    return replace(message, ended=[77] * 2) if hasattr(message, "ended") else message


def two_certificates(message: Any, peer: str) -> Any:
    made = certificate_pem(create_identity("west").certificate)
    other = hasattr(message, "certificates") and peer == "north"
    return replace(message, certificates=[made] * 2) if other else message


def two_words(message: Any, peer: str) -> Any:
    return replace(message, ended=[1] * 2) if hasattr(message, "ended") and peer == "north" else message


@pytest.mark.parametrize(
    ("altered", "says"),
    [
        (none, "certificates of west's workers from west"),
        (of_another, "expected a certificate for west, got one for south"),
        (strange, "how each worker ended from west, got .*77, 77"),
        (two_certificates, "west announced something else than .*; no worker began"),
        (two_words, "west announced something else than .*; the run ends"),
    ],
)
@pytest.mark.slow
def test_a_party_that_deviates_before_or_after_workers_is_named(
    identities, ports, tmp_path, monkeypatch, altered, says
):
    class Deviating(attempts.Attempts):
        def __init__(self, party: Any, *args: Any) -> None:
            super().__init__(party, *args)
            if party.me == "west":
                between: Any = Altering(party)
                self._party = between

    class Altering:
        def __init__(self, party: Any) -> None:
            self._party = party

        def __getattr__(self, name: str) -> Any:
            return getattr(self._party, name)

        def broadcast(self, message: Any) -> None:
            for peer in self._party.others:
                self._party.send(peer, altered(message, peer))

    monkeypatch.setattr(attempts, "Attempts", Deviating)
    workers = {name: ThreadWorkers(lambda task, ended: True) for name in BANKS}  # all are lost at once
    found = run(identities, ports, tmp_path, workers)
    honest = [found["north"], found["south"]]
    # Whoever finds it first ends the run; the others may hear of it before they find it.
    assert all(isinstance(error, RemoteProtocolError | AbortedError) for error in honest), found
    assert all(re.search(says, str(error)) for error in honest), found
    if altered in (none, of_another, two_certificates):
        assert not any(of_bank.tasks for of_bank in workers.values())


@pytest.mark.slow
def test_parties_whose_workers_meet_in_another_step_shard_or_attempt_do_not_agree(
    identities, ports, tmp_path
):
    digests: dict[str, list[bytes]] = {name: [] for name in BANKS}

    class Noting(ThreadWorkers):
        def start(self, place, told, module, task):
            seen = decode(task)
            digests[seen["me"]].append(worker.agreement_of(seen))
            return super().start(place, told, module, task)

    workers = {name: Noting(lambda task, ended: True) for name in BANKS}  # all are lost before they meet
    found = run(identities, ports, tmp_path, workers)
    assert all(isinstance(error, PeerMissingError) for error in found.values())
    assert digests["north"] == digests["south"] == digests["west"]
    assert len(set(digests["north"])) == len(digests["north"]) > SHARDS


def test_workers_agree_on_session_step_shard_attempt_what_is_kept_layout_and_certificates(
    identities, tmp_path
):
    work = Work(Workplace(LocalWorkers(), tmp_path), {name: [("127.0.0.1", 1)] for name in BANKS}, SHARDS)
    usual: dict[str, Any] = {
        "session": bytes(32),
        "step": "open",
        "shard": 1,
        "attempt": 1,
        "kept": "1-1",
        "kind": "groups",
        "count": 50,
    }

    def agreement(**change: Any) -> bytes:
        told = usual | {"certificates": dict.fromkeys(BANKS, b"pem")} | change
        party: Any = SimpleNamespace(me="north", roster=BANKS, session=told["session"])
        layout = Layout.plan(QUERY, [told["count"], 50, 50], shards=SHARDS)
        made = attempts.Attempts(party, work, dataclasses.replace(on_shards(layout), kind=told["kind"]))
        made._kept[1] = made._kept[2] = told["kept"]
        own = identities["north"]
        task = made._task(told["step"], 0, told["shard"], told["attempt"], own, told["certificates"])
        return worker.agreement_of(task)

    changes: list[dict[str, Any]] = [
        {"session": bytes(31) + b"1"}, {"step": "compute"}, {"shard": 2}, {"attempt": 2}, {"kept": "1-2"}, {"kind": "query"},
        {"count": 51},
        {"certificates": dict.fromkeys(BANKS, b"pem") | {"west": b"other"}},
    ]  # fmt: skip
    assert agreement() == agreement()
    assert len({agreement(), *(agreement(**change) for change in changes)}) == 1 + len(changes)


def test_what_is_kept_is_read_as_what_it_was_kept_as(tmp_path):
    key, run = bytes(KEY_BYTES), bytes(32)
    kept = sharded.Kept.of(tmp_path, key, run, "north", "1-1")
    kept.write({"rows": [np.arange(3)]})
    assert np.array_equal(kept.read()["rows"][0], np.arange(3))
    for other in (
        sharded.Kept.of(tmp_path, key, run, "north", "1-2"),
        sharded.Kept.of(tmp_path, key, run, "south", "1-1"),
        sharded.Kept.of(tmp_path, key, bytes(31) + b"1", "north", "1-1"),
    ):
        with pytest.raises(UsageError, match="is of another run, party or job"):
            dataclasses.replace(other, path=kept.path).read()
    with pytest.raises(UsageError, match="altered"):
        dataclasses.replace(kept, key=bytes(31) + b"1").read()


def test_words_of_another_turn_or_of_another_number_of_workers_are_refused(tmp_path):
    work = Work(Workplace(LocalWorkers(), tmp_path), {name: [("127.0.0.1", 1)] for name in BANKS}, SHARDS)
    party: Any = SimpleNamespace(me="north", roster=BANKS, session=bytes(32))
    made = attempts.Attempts(party, work, on_shards(Layout.plan(QUERY, [50] * 3, shards=SHARDS)))
    made._check("south", 0, 2, 2)
    for turn, count in ((1, 2), (0, 1)):
        with pytest.raises(RemoteProtocolError, match=f"from south, got {count} in turn {turn}"):
            made._check("south", turn, count, 2)


def test_a_layout_comes_to_a_worker_as_it_is():
    fields = (Field("a", 9, at_least=2, below=7), Field("b", 1, opened=False))
    layout = Layout.plan(Query(BANKS[:2], BANKS, fields, 8, 1000), [16, 1000], shards=SHARDS)
    assert groups.layout_of(decode(encode(groups.told_layout(layout)))) == layout


@pytest.mark.parametrize(
    "error",
    [
        CheatingError("a lie", suspects=("north", "west")),
        RemoteProtocolError("no list", peer="south"),
        PeerMissingError("gone", peer="south"),
        PlanError("too many"),
    ],
)
def test_a_workers_error_names_at_the_main_process_whom_it_named(error):
    again = worker.raised(decode(encode(worker._error(error))), "north's worker")
    assert type(again) is type(error)
    assert str(again) == f"north's worker: {error}"
    for name in ("peer", "suspects"):
        assert getattr(again, name, None) == getattr(error, name, None)


def test_whose_worker_a_lost_one_accuses_is_told_at_its_party():
    lost = AbortedError("south ended, as west was lost", peer="south", accused="west")
    answer = decode(encode(worker._error(lost)))
    told = attempts._ended_badly("north", "compute", 3, answer)
    assert (
        told
        == "north's worker of shard 3 ended in the step compute, as west's was lost or could not be reached"
    )


def test_progress_counts_what_workers_sent_and_tells_news_once(tmp_path):
    part = Part(parsed(JOB, tmp_path), "west", None, workplace=Workplace(LocalWorkers(), tmp_path))
    ledger = Ledger()
    ledger.sent("north", 300, 0)
    party: Any = SimpleNamespace(ledger=ledger, waiting_for=())
    assert part.progress(party).sent_bytes == 300
    part.watch.done.append({"ledger": {"total": {"sent": {"frame_bytes": 5000}}}})
    part.watch.news.append("lost")
    assert (part.progress(party).sent_bytes, part.progress(party).news) == (5300, ())
    part.watch.news.append("again")
    assert part.progress(party).news == ("again",)


def test_a_task_that_a_cluster_starts_a_second_time_does_not_run_again(tmp_path):
    assert worker._claimed(tmp_path / "run", "compute-1-1")
    assert not worker._claimed(tmp_path / "run", "compute-1-1")
    assert worker._claimed(tmp_path / "run", "compute-1-2")
    again = {
        "release": RELEASE,
        "memory_bytes": None,
        "folder": str(tmp_path / "run"),
        "attempt": "compute-1-1",
    }
    assert decode(worker.run(encode(again))) == {"lost": True}


def test_a_worker_of_another_release_does_nothing_and_says_so(tmp_path):
    for other in ({"release": "9.9"}, {}):
        told: dict[str, Any] = {
            **other,
            "memory_bytes": None,
            "folder": str(tmp_path / "run"),
            "attempt": "compute-1-1",
        }
        answer = decode(worker.run(encode(told)))
        assert (answer["error"], answer["lost"]) == ("UsageError", False)
        assert f"the worker runs secagg {RELEASE}" in answer["text"]
        assert "install the same release on all machines" in answer["text"]
    assert not (tmp_path / "run").exists()


def test_workers_differ_in_number_or_are_not_of_all_parties_and_are_refused(tmp_path):
    one, two = [("a", 1)], [("a", 1), ("b", 2)]
    with pytest.raises(UsageError, match="as many workers"):
        Work(Workplace(LocalWorkers(), tmp_path), {"north": one, "south": two}, 2)
    with pytest.raises(UsageError, match="as many workers"):
        Work(Workplace(LocalWorkers(), tmp_path), {"north": [], "south": []}, 2)


@pytest.mark.slow
def test_a_local_worker_that_is_killed_or_fails_is_lost_and_the_others_answer(tmp_path, monkeypatch):
    (tmp_path / "doubles.py").write_text(
        "import os, signal\n"
        "def run(task):\n"
        "    print('not an answer')\n"
        "    if task == b'die': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    if task == b'fail': raise ValueError\n"
        "    return task * 2\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    workers = LocalWorkers()
    started = [
        workers.start(0, ("", 0), "doubles", task) for task in (b"ab", b"die", b"fail", b"c" * 100_000)
    ]
    assert workers.gather(started) == [b"abab", None, None, b"c" * 200_000]
    assert all(process.poll() is not None for process, _ in started)
    assert started[1][0].returncode == -signal.SIGKILL


@pytest.mark.slow
def test_where_one_worker_cannot_start_those_that_did_are_ended(identities, ports, tmp_path):
    ended: list[str] = []

    class Fewer(ThreadWorkers):
        def start(self, place, told, module, task):
            if place == 1:
                raise UsageError("expected a machine at place 1, and there is none")
            return super().start(place, told, module, task)

        def end(self, started):
            ended.extend(["ended"] * len(started))
            super().end(started)

    workers = {name: ThreadWorkers(lambda task, ended: True) for name in BANKS}  # they are not what is tested
    found = run(identities, ports, tmp_path, workers | {"south": Fewer(lambda task, ended: True)})
    assert isinstance(found["south"], UsageError)
    assert "place 1" in str(found["south"])
    assert all(isinstance(error, SecaggError) for error in found.values())
    assert ended == ["ended"]


@pytest.mark.slow
def test_who_stops_a_run_ends_workers_that_work_and_waits_for_none_of_them(tmp_path, monkeypatch):
    (tmp_path / "sleepers.py").write_text("import time\ndef run(task): time.sleep(3600)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    workers = LocalWorkers()
    started = [workers.start(0, ("", 0), "sleepers", b"") for _ in range(2)]

    def stop() -> None:
        raise KeyboardInterrupt

    ended: list[int] = []
    with (
        pytest.raises(KeyboardInterrupt),
        gathered(workers, started, [{}, {}], lambda i, answer: ended.append(i), stop),
    ):
        raise AssertionError
    assert ended == []
    assert [process.returncode for process, _ in started] == [-signal.SIGKILL] * 2


JOB = """\
name = "september"
pattern = "collectors"
shards = 8

[[parties]]
name = "north"
address = "127.0.0.1:7401"
workers = ["127.0.0.1:7411", "[::1]:7412"]

[[parties]]
name = "south"
address = "127.0.0.1:7402"
workers = ["127.0.0.1:7421", "127.0.0.1:7422"]

[[parties]]
name = "west"
address = "127.0.0.1:7403"
workers = ["127.0.0.1:7431", "127.0.0.1:7432"]

[roles]
input = ["north", "south"]
computing = ["north", "south", "west"]
"""


def parsed(text: str, tmp_path: Path) -> Job:
    return parse_job(text, file=tmp_path / "job.toml", with_certificates=False)


def test_parties_agree_on_shards_and_the_number_of_workers_and_not_on_where_these_are(identities, tmp_path):
    addresses = {name: ("localhost", 1 + i) for i, name in enumerate(BANKS)}
    certificates = {name: identity.certificate for name, identity in identities.items()}
    job = parsed(JOB, tmp_path).moved(addresses, certificates)
    assert (job.shards, job.terms.shards) == (8, 8)
    assert job.members[0].workers == (("127.0.0.1", 7411), ("::1", 7412))
    again = parse_job(job.to_toml(), file=tmp_path / "again.toml")
    assert again.members == job.members
    assert again.digest == job.digest
    elsewhere = job.moved(addresses, certificates, dict.fromkeys(BANKS, (("far", 1), ("far", 2))))
    assert elsewhere.digest == job.digest
    fewer = parsed(JOB.replace("shards = 8", "shards = 4"), tmp_path).moved(addresses, certificates)
    alone = job.moved(addresses, certificates, dict.fromkeys(BANKS, (("far", 1),)))
    assert len({job.digest, fewer.digest, alone.digest}) == 3
    assert sum(fewer.cost(dict.fromkeys(BANKS[:2], 1000)).payload_bytes.values()) > 0


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("shards = 8\n", "", "the work is not divided"),
        ("shards = 8", "shards = 3", "job.toml:3: shards: expected 2, 4, .* up to 256.* got 3"),
        (', "127.0.0.1:7422"', "", "north has 2, south has 1, west has 2"),
        ("127.0.0.1:7422", "127.0.0.1:7411", "have the address 127.0.0.1:7411"),
        ("127.0.0.1:7422", "nowhere", "parties.1..workers: expected host:port"),
        ('"collectors"', '"isolated"', "isolated is no query on groups and no SQL"),
    ],
)
def test_shards_and_workers_that_do_not_go_together_are_refused(tmp_path, old, new, says):
    assert old in JOB
    with pytest.raises(JobError, match=says):
        parsed(JOB.replace(old, new), tmp_path)


MOVES = """
[tables.moves]
holders = ["north", "south", "west"]
max_rows = 40
[tables.moves.columns]
who = "identifier"
amount = {type = "integer", min = 0, max = 1000}
"""
OF_OWNERS = "SELECT who, sum(amount) AS total FROM moves GROUP BY who HAVING sum(amount) >= 1000"
OF_ALL = "SELECT who, max(amount) AS largest FROM moves GROUP BY who"
QUERY_JOB = (
    JOB[: JOB.index("[roles]")].replace(
        'pattern = "collectors"\nshards = 8',
        'sql = "query.sql"\ntables = "moves.toml"\nreveal = "owners"\nshards = 4',
    )
    + '[roles]\ninput = ["north", "south", "west"]\ncomputing = ["north", "south", "west"]\n'
)


def query_job(tmp_path: Path, sql: str) -> Job:
    (tmp_path / "moves.toml").write_text(MOVES)
    (tmp_path / "query.sql").write_text(sql)
    return parsed(QUERY_JOB, tmp_path)


def test_a_query_that_does_not_group_owners_rows_is_refused_in_shards(tmp_path):
    with pytest.raises(JobError, match="largest is not of a sum of numbers"):
        query_job(tmp_path, OF_ALL)


@pytest.mark.slow
def test_a_query_in_shards_tells_each_owner_what_the_pooled_tables_do(identities, ports, tmp_path):
    job = query_job(tmp_path, OF_OWNERS)
    data = {}
    for i, name in enumerate(BANKS):
        path = tmp_path / f"{name}.csv"
        lines = [f"{who} {k},{100 * i + 40 * k}" for who in ("everybody's", name) for k in range(12)]
        path.write_text("\n".join(["who,amount", *lines, ""]))
        data[name] = InputTables(job, [f"moves={path}"], me=name)
    reference = job.pattern.reference(
        job.parameters, job.terms, {name: read() for name, read in data.items()}
    )
    addresses = {
        name: [("127.0.0.1", ports[3 + 2 * i + k]) for k in range(2)] for i, name in enumerate(BANKS)
    }
    moved = job.moved(
        {name: ("127.0.0.1", port) for name, port in zip(BANKS, ports, strict=False)},
        {name: identity.certificate for name, identity in identities.items()},
        {name: tuple(told) for name, told in addresses.items()},
    )
    workers = {name: ThreadWorkers() for name in BANKS}

    def bank(name: str) -> Any:
        part = Part(moved, name, data[name], workplace=Workplace(workers[name], tmp_path))
        peers = moved.peers()
        return run_party(
            part, me=name, identity=identities[name], peers=peers, listen=moved.members[BANKS.index(name)].address,
            agreement=bytes(32), timeouts=TIMEOUTS, prepare=part.prepare,
        )[0]  # fmt: skip

    with ThreadPoolExecutor(len(BANKS)) as pool:
        found = dict(zip(BANKS, pool.map(bank, BANKS), strict=True))
    assert {name: sorted(rows) for name, rows in found.items()} == {
        n: sorted(r) for n, r in reference.items()
    }
    assert 0 < len(found["north"]) < 24
    assert {len(of_bank.tasks) for of_bank in workers.values()} == {2 * 4}


def test_a_party_without_workers_takes_no_part_in_a_job_with_shards(tmp_path):
    with pytest.raises(UsageError, match="west has no workers"):
        Part(parsed(JOB, tmp_path), "west", None)
