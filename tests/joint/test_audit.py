"""Audit logs: what their own party or anybody else changes is found, by the log alone or by its peers.

The module is long because the same logs of two parties are altered in every way.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from audited_runs import BANKS, ROSTER, Parties
from secagg.errors import AuthenticationError, RefusedError, RemoteProtocolError, UsageError
from secagg.home import Home
from secagg.jobs.signature import read_record
from secagg.joint.audit.bundle import certificates_in, make_bundle, read_bundle
from secagg.joint.audit.compare import Comparison, compare_logs
from secagg.joint.audit.entry import ANEW, END, KEY, START, Entry, made, spelt
from secagg.joint.audit.gate import AuditGate, of_workers
from secagg.joint.audit.heads import Heads, Remembered, check_peer, decoded, remembered, stated
from secagg.joint.audit.log import AuditLog, read_entries
from secagg.joint.audit.verification import VerifiedLog, check_record, verify_log
from secagg.network.identity import Identity, create_identity
from words import holds_word

ME = create_identity("north")


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Parties:
    """Two complete runs, and one in which a bank cannot use its own table; no test changes its files."""

    def broken() -> Any:
        raise UsageError("no such table")

    parties = Parties(tmp_path_factory.mktemp("audit"))
    for results in (parties.run("first"), parties.run("second")):
        assert not any(isinstance(result, BaseException) for result in results.values()), results
    assert isinstance(parties.run("third", {"bank_b": broken})["bank_b"], UsageError)
    return parties


def verified(parties: Parties, name: str) -> VerifiedLog:
    return verify_log(AuditLog(parties.log(name)).read(), [parties.identities[name].certificate])


def comparison(parties: Parties, *changed: VerifiedLog) -> Comparison:
    logs = {name: verified(parties, name) for name in ROSTER}
    return compare_logs([*(logs | {log.party: log for log in changed}).values()])


def rewritten(
    log: VerifiedLog, identity: Identity, change: Callable[[int, dict[str, Any]], None]
) -> VerifiedLog:
    """Return the log as its own party can write it anew, every entry signed and bound to the one before."""
    lines: list[bytes] = []
    previous = bytes(32)
    for entry in log.entries:
        body = {k: v for k, v in json.loads(entry.line).items() if k not in ("signature", "certificate")}
        change(entry.number, body)
        body["previous"] = previous.hex()
        new = made(body, identity)
        lines.append(new.line)
        previous = new.hash
    return verify_log(read_entries(b"".join(line + b"\n" for line in lines), path="rewritten"))


def a_log(path: Path, entries: int = 4) -> AuditLog:
    log = AuditLog(path / "audit.log")
    for number in range(entries - 1):
        log.append("note", {"number": number}, ME)
    return log


def test_a_run_stands_in_every_log_with_what_was_agreed_sent_and_opened(two_runs: Parties) -> None:
    for name in ROSTER:
        log = verified(two_runs, name)
        assert [entry.event for entry in log.entries] == [KEY, START, END, START, END, END]
        start, end = log.entries[1].content, log.entries[2].content
        record = read_record(two_runs.records[0][name])
        assert start["session"] == end["session"] == record["session"]
        assert start["digest"] == record["digest"]
        assert start["rows"] == record["announced_rows"]
        assert start["stated"].keys() == set(ROSTER)
        assert start["may_open"] == end["opened"] == record["opened"]
        assert start["versions"] == record["versions"]
        assert (end["outcome"], log.entries[5].content["outcome"]) == ("complete", "failed")
        assert end["links"] == record["ledger"]["links"]
        assert all(way["messages"] > 0 for link in end["links"].values() for way in link.values())
        check_record(log, record)


def test_no_log_names_a_customer_an_amount_or_how_many_rows_a_party_was_told(two_runs: Parties) -> None:
    for name in ROSTER:
        text = two_runs.log(name).read_text()
        assert not [w for w in ("alice", "bob", "60000", "130000", "result_rows") if holds_word(text, w)]
        assert two_runs.log(name).stat().st_mode & 0o777 == 0o600


def test_logs_of_honest_parties_agree_on_every_way_of_every_link(two_runs: Parties) -> None:
    found = comparison(two_runs)
    assert found.findings == ()
    assert len(found.sessions) == 3
    assert found.links >= 2 * 6


def test_one_changed_bit_anywhere_in_a_log_is_found(tmp_path: Path) -> None:
    content = a_log(tmp_path).path.read_bytes()
    assert len(verify_log(read_entries(content, path="x")).entries) == 4
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        with pytest.raises((AuthenticationError, UsageError)):
            checked(bytes(changed))


def checked(content: bytes) -> None:
    found = verify_log(read_entries(content, path="x"))
    # Where the last line has lost its end, what is left is shorter and says so.
    assert len(found.entries) < 4
    if found.torn_bytes:
        raise UsageError("cut")


def test_each_field_of_an_entry_is_signed(two_runs: Parties) -> None:
    log = verified(two_runs, "bank_a")
    for entry in log.entries[:3]:
        for field in entry.content:
            content = json.loads(entry.line)
            content[field] = {"x": 1} if isinstance(content[field], dict) else "1" * 64
            lines = [e.line if e is not entry else spelt(content) for e in log.entries]
            with pytest.raises(AuthenticationError):
                verify_log(read_entries(b"\n".join([*lines, b""]), path="x"))


@pytest.mark.parametrize(
    "order",
    [(0, 2, 1, 3), (0, 1, 1, 2, 3), (0, 2, 3), (1, 2, 3)],
    ids=["swapped", "doubled", "left out", "no key"],
)
def test_entries_swapped_doubled_or_left_out_are_found(order: tuple[int, ...], tmp_path: Path) -> None:
    lines = a_log(tmp_path).path.read_bytes().splitlines(keepends=True)
    with pytest.raises(AuthenticationError, match="entries were changed, left out, put in or moved"):
        verify_log(read_entries(b"".join(lines[i] for i in order), path="x"))


def test_another_spelling_of_the_same_entry_is_none(tmp_path: Path) -> None:
    content = a_log(tmp_path).path.read_bytes()
    with pytest.raises(AuthenticationError, match="no entry of an audit log"):
        read_entries(content.replace(b'":"', b'": "', 1), path="x")


def test_a_log_of_another_key_or_in_another_partys_name_is_refused(tmp_path: Path) -> None:
    log = a_log(tmp_path).read()
    other = create_identity("north")
    with pytest.raises(AuthenticationError, match="none of those given"):
        verify_log(log, [other.certificate])
    stranger = create_identity("south")
    body = {"entry": 0, "time": "t", "party": "north", "event": KEY, "previous": bytes(32).hex()}
    forged = made({**body, "pem": json.loads(log.entries[0].line)["pem"]}, stranger)
    with pytest.raises(AuthenticationError, match="which no entry before it brings in"):
        verify_log(replace(log, entries=(forged,)))
    pem = AuditLog(tmp_path / "south.log").append(KEY, {}, stranger).content["pem"]
    with pytest.raises(AuthenticationError, match="expected a certificate for north"):
        verify_log(replace(log, entries=(made({**body, "pem": pem}, stranger),)))


def test_a_rotated_key_goes_on_in_the_same_log_and_both_certificates_are_asked_for(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    new = create_identity("north")
    log.append("note", {}, new)
    entries = log.read()
    assert [entry.event for entry in entries.entries][-2:] == [KEY, "note"]
    assert len(verify_log(entries, [ME.certificate, new.certificate]).certificates) == 2
    with pytest.raises(AuthenticationError, match="was the key rotated"):
        verify_log(entries, [ME.certificate])
    assert verify_log(entries).unknown == (ME.fingerprint, new.fingerprint)


@pytest.mark.parametrize("left", [b'{"certi', bytes(4096), b'{"cert' + bytes(100) + b'"}\n'])
def test_an_entry_that_a_crash_cut_is_taken_away_and_said(tmp_path: Path, left: bytes) -> None:
    log = a_log(tmp_path)
    whole = log.path.read_bytes()
    log.path.write_bytes(whole + left)
    assert verify_log(log.read()).torn_bytes == len(left)
    entry = log.append("note", {}, ME)
    assert entry.content["cut_by_a_crash_bytes"] == len(left)
    assert log.path.read_bytes() == whole + entry.line + b"\n"
    verify_log(log.read(), [ME.certificate])


def test_long_entries_are_found_from_the_end_as_they_are_from_the_beginning(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log")
    for size in (10, 1 << 17, 1 << 20, 5):
        log.append("note", {"text": "x" * size}, ME)
    assert [len(entry.content.get("text", "")) for entry in log.read().entries] == [
        0,
        10,
        1 << 17,
        1 << 20,
        5,
    ]
    before = log.path.read_bytes()
    with pytest.raises(UsageError, match="an entry too long"):
        log.append("note", {"text": "x" * (1 << 22)}, ME)
    assert log.path.read_bytes() == before


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = a_log(tmp_path)
    before = log.path.read_bytes()
    real, calls = os.pwrite, list[int]()

    def full(descriptor: int, content: bytes, place: int) -> int:
        if calls:
            raise OSError(28, "No space left on device")
        calls.append(place)
        return real(descriptor, content[:10], place)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(UsageError, match="No space left on device"):
        log.append("note", {}, ME)
    assert log.path.read_bytes() == before


def test_an_entry_is_on_the_disk_before_append_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync

    def noting(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    log = a_log(tmp_path, entries=2)
    assert log.path.stat().st_size in synced


def test_processes_that_append_at_once_wait_for_each_other(tmp_path: Path) -> None:
    log = a_log(tmp_path, entries=1)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: AuditLog(log.path).append("note", {"number": number}, ME), range(40)))
    entries = verify_log(log.read(), [ME.certificate]).entries
    assert {entry.content.get("number") for entry in entries[1:]} == set(range(40))


def test_a_log_of_another_party_a_link_and_a_folder_are_not_written_to(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    with pytest.raises(AuthenticationError, match="the audit log of north, not of south"):
        log.append("note", {}, create_identity("south"))
    (tmp_path / "link.log").symlink_to(log.path)
    (tmp_path / "folder.log").mkdir()
    for name in ("link.log", "folder.log"):
        with pytest.raises(UsageError):
            AuditLog(tmp_path / name).append("note", {}, ME)
    with pytest.raises(UsageError, match="no whole entry"):
        verify_log(AuditLog(tmp_path / "nothing.log").read())


def test_numbers_that_their_own_party_signed_in_another_order_are_refused(two_runs: Parties) -> None:
    def skip(number: int, body: dict[str, Any]) -> None:
        body["entry"] += number == 3

    with pytest.raises(AuthenticationError, match="entry 3, does not follow"):
        rewritten(verified(two_runs, "bank_a"), two_runs.identities["bank_a"], skip)


def test_an_entry_in_another_partys_name_is_refused_though_the_logs_own_party_signed_it(
    two_runs: Parties,
) -> None:
    def pose(number: int, body: dict[str, Any]) -> None:
        body["party"] = "bank_b" if number == 3 else "bank_a"

    with pytest.raises(AuthenticationError, match="entry 3, does not follow"):
        rewritten(verified(two_runs, "bank_a"), two_runs.identities["bank_a"], pose)


def test_a_run_under_another_key_than_the_jobs_writes_nothing(two_runs: Parties, tmp_path: Path) -> None:
    job, home = two_runs.job("x", [1, 2, 3]), Home.create(tmp_path / "home")
    with pytest.raises(UsageError, match="use one of the two for both"):
        AuditGate(home, create_identity("bank_a")).ready(job, "bank_a")
    assert not home.audit_log.exists()
    AuditGate(home, two_runs.identities["bank_a"]).ready(job, "bank_a")
    assert [entry.event for entry in AuditLog(home.audit_log).read().entries] == [KEY]


# What peers remember.


def heads(length: int, *, other: bool = False, lost: bool = False) -> Heads:
    """Return a statement in which entry 5 begins a session that a peer knows of."""
    first = max(0, length - 64)
    sessions = [b"\xab" * 16 if i == 5 and not lost else b"" for i in range(first, length)]
    return Heads(length, [bytes([i, other]) * 16 for i in range(first, length)], sessions)


@pytest.mark.parametrize(
    ("before", "now", "what"),
    [
        (heads(5), heads(4), "was cut"),
        (heads(5), heads(5, other=True), "was written anew"),
        (heads(5), heads(9, other=True), "was written anew"),
        (heads(5), heads(5), "lacks session abab"),
        (heads(5), heads(60, lost=True), "lacks session abab"),
        (heads(5), heads(60), ""),
        # The place lies before the hashes that are stated: this is for `compare`.
        (heads(5), heads(200, other=True), ""),
    ],
)
def test_a_peers_log_must_go_on_from_where_it_stood(before: Heads, now: Heads, what: str) -> None:
    remembers = Remembered(before, "ab" * 32, shared=True)
    if not what:
        check_peer("south", now, remembers)
        check_peer("south", heads(5), replace(remembers, shared=False))  # it may have ended before it began
        return
    with pytest.raises(RemoteProtocolError, match=what) as caught:
        check_peer("south", now, remembers)
    assert caught.value.peer == "south"
    if "lacks" not in what:
        with pytest.raises(RemoteProtocolError, match=what):
            check_peer("south", now, replace(remembers, shared=False))


@pytest.mark.parametrize(
    "statement",
    [
        b"",
        b"\x93\x01\x02\x03",
        msgspec.msgpack.encode([3, [bytes(32)], [b""]]),
        msgspec.msgpack.encode([1, [bytes(31)], [b""]]),
        msgspec.msgpack.encode([-1, [bytes(32)], [b""]]),
        msgspec.msgpack.encode([1, [bytes(32)], []]),
        msgspec.msgpack.encode([100, [bytes(32)] * 100, [b""] * 100]),
    ],
)
def test_a_malformed_statement_names_its_peer(statement: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="last hashes of south's audit log"):
        decoded(statement, "south")


@pytest.mark.slow
def test_a_log_cut_restored_or_begun_anew_ends_the_next_run_before_anything_is_shared(
    two_runs: Parties, tmp_path: Path
) -> None:
    shutil.copytree(two_runs.directory, tmp_path / "copy")
    parties = replace(two_runs, directory=tmp_path / "copy", records=[])
    log = parties.log("bank_b")
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:3]))  # as a backup from after the first run has it
    results = parties.run("fourth")
    refusals = [str(error) for error in results.values() if isinstance(error, RefusedError)]
    assert refusals, results
    assert any("bank_b's audit log lacks session" in text for text in refusals)
    events = [entry.event for entry in AuditLog(parties.log("bank_a")).read().entries]
    assert events[-1] == END
    assert events.count(START) == 2

    # All peers agree that it begins anew, and say so in their own logs.
    log.unlink()
    for name in ("bank_a", "outsider"):
        AuditLog(parties.log(name)).append(
            ANEW, {"peer": "bank_b", "reason": "disk lost"}, parties.identities[name]
        )
    results = parties.run("fifth")
    assert not any(isinstance(result, BaseException) for result in results.values()), results
    # Whoever compares the logs still sees it.
    found = comparison(parties)
    assert any("bank_b's log does not have this run" in one.what for one in found.findings)
    assert any("bank_b's log" in one.what and "anew" in one.what for one in found.findings)


# Several logs.


def change_nothing(number: int, body: dict[str, Any]) -> None:
    del number, body


def change_sent(number: int, body: dict[str, Any]) -> None:
    if number == 2:
        body["links"]["bank_b"]["sent"]["sha256"] = "0" * 64


def change_rows(number: int, body: dict[str, Any]) -> None:
    if number in (1, 2):
        body["rows"]["bank_a"] += 1


def change_opened(number: int, body: dict[str, Any]) -> None:
    if number == 2:
        body["opened"] = body["opened"][1:]


def change_job(number: int, body: dict[str, Any]) -> None:
    if number in (1, 2):
        body["digest"] = "0" * 64


def change_statement(number: int, body: dict[str, Any]) -> None:
    if number == 1:
        body["stated"]["bank_b"]["signature"] = body["stated"]["bank_a"]["signature"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (change_sent, "what bank_a sent and bank_b received differ"),
        (change_rows, "the announced rows differ: bank_a"),
        (change_opened, "what was opened differ: bank_a"),
        (change_job, "the job's fingerprint differ: bank_a"),
        (change_statement, "statements in bank_b's name that bank_b did not sign"),
    ],
)
def test_a_log_that_its_own_party_wrote_anew_differs_from_its_peers(
    two_runs: Parties, change: Callable[[int, dict[str, Any]], None], what: str
) -> None:
    log = rewritten(verified(two_runs, "bank_a"), two_runs.identities["bank_a"], change)
    found = [one.what for one in comparison(two_runs, log).findings]
    assert any(what in text for text in found), found
    # Besides, peers keep what it stated of the log before.
    assert any(
        "bank_a's log, by the statement that bank_b keeps, had another entry" in text for text in found
    )


@pytest.mark.parametrize(("received", "differs"), [("a" * 64, False), ("b" * 64, True)])
def test_digests_of_workers_are_compared_where_both_logs_have_a_complete_run(
    two_runs: Parties, received: str, differs: bool
) -> None:
    def with_workers(way: dict[str, Any]) -> Callable[[int, dict[str, Any]], None]:
        def change(number: int, body: dict[str, Any]) -> None:
            if number in (2, 5):  # ends of a complete run and of one that failed
                body["workers"] = way

        return change

    sender, receiver = ROSTER[:2]
    sent = {receiver: {"sent": {"messages": 7, "sha256": "a" * 64}}}
    came = {sender: {"received": {"messages": 7, "sha256": received}}}
    found = comparison(
        two_runs,
        rewritten(verified(two_runs, sender), two_runs.identities[sender], with_workers(sent)),
        rewritten(verified(two_runs, receiver), two_runs.identities[receiver], with_workers(came)),
    )
    told = [finding for finding in found.findings if "workers" in finding.what]
    assert [finding.parties for finding in told] == [(sender, receiver)] * differs
    assert found.links == comparison(two_runs).links + (not differs)


def test_a_log_without_the_workers_digests_that_its_peer_has_is_found(two_runs: Parties) -> None:
    sender, receiver = ROSTER[:2]

    def change(number: int, body: dict[str, Any]) -> None:
        if number == 2:
            body["workers"] = {receiver: {"sent": {"messages": 7, "sha256": "a" * 64}}}

    found = comparison(two_runs, rewritten(verified(two_runs, sender), two_runs.identities[sender], change))
    told = [finding for finding in found.findings if "workers" in finding.what]
    assert [finding.parties for finding in told] == [(sender, receiver)]


def test_the_digest_of_all_workers_depends_on_each_ones_and_a_failed_run_has_none() -> None:
    def record(sha256: str, outcome: str = "complete") -> dict[str, Any]:
        links = {"south": {"sent": {"messages": 3, "sha256": sha256}}}
        work = {"step": "compute", "shard": 0, "attempts": 1, "ledger": {"links": links}}
        return {"outcome": outcome, "workers": [work]}

    found = of_workers(record("a" * 64))
    assert found["south"]["sent"]["messages"] == 3
    assert found != of_workers(record("b" * 64))
    assert of_workers(record("a" * 64, "failed")) == {}


def test_a_log_cut_by_its_party_is_found_by_its_peers(two_runs: Parties) -> None:
    whole = verified(two_runs, "outsider")
    cut = verify_log(read_entries(b"".join(e.line + b"\n" for e in whole.entries[:2]), path="cut"))
    found = comparison(two_runs, cut).findings
    assert any("has 2 now: it was cut" in one.what for one in found)
    assert any(
        "outsider's log does not have this run, and bank_a and bank_b shared data" in one.what
        for one in found
    )
    # Entries after the last run that a peer knows of can be cut unseen: of a failed run nobody keeps a statement.
    short = verify_log(read_entries(b"".join(e.line + b"\n" for e in whole.entries[:5]), path="cut"))
    assert comparison(two_runs, short).findings == ()
    assert any("outsider did not note it" in remark for remark in comparison(two_runs, short).remarks)


def test_a_run_that_one_partys_log_does_not_end_is_told_and_nobody_is_blamed(two_runs: Parties) -> None:
    whole = verified(two_runs, "outsider")
    killed = verify_log(read_entries(b"".join(e.line + b"\n" for e in whole.entries[:4]), path="killed"))
    found = comparison(two_runs, killed)
    assert found.findings == ()
    assert any("one of them has no end of the run" in remark for remark in found.remarks)


def test_two_logs_of_one_party_and_one_log_alone_are_not_compared(two_runs: Parties) -> None:
    log = verified(two_runs, "bank_a")
    for logs in ([log], [log, log]):
        with pytest.raises(UsageError, match="one of each"):
            compare_logs(logs)


def test_a_session_that_comes_twice_in_a_log_is_refused(two_runs: Parties) -> None:
    log, identity = verified(two_runs, "bank_a"), two_runs.identities["bank_a"]

    def twice(number: int, body: dict[str, Any]) -> None:
        if number == 3:
            body["session"] = log.entries[1].content["session"]

    with pytest.raises(AuthenticationError, match="tells of session"):
        rewritten(log, identity, twice)

    def backwards(number: int, body: dict[str, Any]) -> None:
        if number in (1, 2):  # the end, and then the start
            body.clear()
            body.update(json.loads(log.entries[3 - number].line) | {"entry": number})
            del body["signature"], body["certificate"]

    with pytest.raises(AuthenticationError, match="entry 2, tells of session"):
        rewritten(log, identity, backwards)


def test_a_peers_record_is_not_that_of_this_log(two_runs: Parties) -> None:
    record = read_record(two_runs.records[0]["bank_b"])
    with pytest.raises(AuthenticationError, match="is it the record of bank_a"):
        check_record(verified(two_runs, "bank_a"), record)


def test_a_party_that_learns_later_that_its_run_was_complete_notes_both_ends(two_runs: Parties) -> None:
    whole, identity = verified(two_runs, "outsider"), two_runs.identities["outsider"]
    end = json.loads(whole.entries[4].line)
    common = {"entry", "time", "party", "previous", "certificate", "signature", "event"}
    body = {name: value for name, value in end.items() if name not in common}
    failed = {**body, "outcome": "failed", "opened": None, "record": "0" * 64}
    del failed["links"]["bank_a"]["received"]

    def ended(number: int, content: dict[str, Any]) -> None:
        if number in (4, 5):
            content.clear()
            own = {"entry": number, "time": "t", "party": "outsider", "event": END}
            content.update({**own, **(failed if number == 4 else {**body, "links": {}})})

    late = rewritten(whole, identity, ended)
    assert [run.outcome for run in late.runs] == ["complete", "complete"]
    check_record(late, read_record(two_runs.records[1]["outsider"]))
    found = comparison(two_runs, late)
    assert not [
        one for one in found.findings if "statement" not in one.what and "log does not" not in one.what
    ]


def test_a_run_that_is_complete_twice_with_different_records_is_remarked(two_runs: Parties) -> None:
    whole, identity = verified(two_runs, "outsider"), two_runs.identities["outsider"]
    end = json.loads(whole.entries[4].line)
    common = {"entry", "time", "party", "previous", "certificate", "signature", "event"}
    body = {name: value for name, value in end.items() if name not in common}

    def again(number: int, content: dict[str, Any], **other: Any) -> None:
        if number == 5:
            entry = {"entry": 5, "time": "t", "party": "outsider", "event": END, **body, "links": {}}
            content.clear()
            content.update(entry | {"record": "0" * 64} | other)

    late = rewritten(whole, identity, again)
    assert any(
        "outsider's log has 2 records of this run" in one for one in comparison(two_runs, late).remarks
    )
    assert not any("records of this run" in one for one in comparison(two_runs, whole).remarks)
    # A process that takes up a kept result saw no message of the run, and the result is there.
    for other in ({"links": body["links"]}, {"outcome": "failed"}):
        with pytest.raises(AuthenticationError, match=r"entry 5, ends session .* again after entry 4"):
            rewritten(whole, identity, functools.partial(again, **other))


# What an auditor gets.


def test_what_is_exported_is_checked_with_its_records(two_runs: Parties, tmp_path: Path) -> None:
    home = two_runs.home("bank_a")
    records = [path for path in home.runs.glob("*.json") if "private" not in path.name]
    bundle = make_bundle(AuditLog(home.audit_log), certificates=certificates_in(home.keys), records=records)
    bundle.write(tmp_path / "bundle.zip")
    with pytest.raises(UsageError, match="will not be overwritten"):
        bundle.write(tmp_path / "bundle.zip")
    again = read_bundle(tmp_path / "bundle.zip")
    assert again.log.entries == bundle.log.entries
    assert len(again.records) == 2
    again.verified([two_runs.identities["bank_a"].certificate])
    assert b"alice" not in (tmp_path / "bundle.zip").read_bytes()

    name = next(iter(again.records))
    forged = {**again.records[name], "announced_rows": {"bank_a": 7, "bank_b": 2}}
    with pytest.raises(AuthenticationError, match="another one than bank_a's log has"):
        replace(again, records={name: forged}).verified()
    unsigned = {**again.records[name], "signature": {**again.records[name]["signature"], "value": "AAAA"}}
    with pytest.raises(AuthenticationError, match="is not what its party signed"):
        replace(again, records={name: unsigned}).verified()


def test_a_file_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    import zipfile

    for names in (["other.txt"], ["records/x.json"], []):
        path = tmp_path / f"{len(names)}{'-'.join(names).replace('/', '-')}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "x")
        with pytest.raises(UsageError):
            read_bundle(path)
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 and nothing else")
    with pytest.raises(UsageError, match="no ZIP file"):
        read_bundle(tmp_path / "cut.zip")


def test_what_is_remembered_of_peers_is_what_they_stated_last(two_runs: Parties) -> None:
    entries: tuple[Entry, ...] = verified(two_runs, "outsider").entries
    known = remembered(entries)
    assert known.keys() == set(BANKS)
    assert {one.heads.length for one in known.values()} == {3}
    assert stated(entries).length == 6
