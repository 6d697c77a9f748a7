"""`secagg audit` and `secagg verify` on the command line: what was changed is refused, with the reason."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from audited_runs import ROSTER, Parties
from ended import Ended
from secagg.jobs.signature import sign_record
from secagg.joint.audit.entry import END
from secagg.joint.audit.gate import record_digest
from secagg.joint.audit.log import AuditLog

_OF_EACH_ENTRY = ("entry", "time", "party", "event", "previous", "certificate", "signature")


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Parties:
    parties = Parties(tmp_path_factory.mktemp("audit"))
    parties.run("first")
    return parties


@pytest.fixture
def parties(one_run: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parties:
    """A copy that a test may change; bank_a's folder is this organisation's."""
    shutil.copytree(one_run.directory, tmp_path / "run")
    monkeypatch.setenv("SECAGG_HOME", str(tmp_path / "run/bank_a"))
    monkeypatch.setenv("COLUMNS", "200")
    return Parties(tmp_path / "run", one_run.identities)


def certificate(parties: Parties, name: str) -> Path:
    return parties.home(name).keys / f"{name}.crt"


@pytest.mark.slow
def test_a_log_is_verified_compared_and_exported(
    parties: Parties, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = Ended(capsys, "audit", "verify", "--certificate", certificate(parties, "bank_a"))
    assert (ended.status, ended.err) == (0, "")
    assert "3 entries of bank_a" in ended.out
    assert "first, complete" in ended.out
    # This organisation knows its own certificate, and not those of others that nobody gave it.
    ended = Ended(capsys, "audit", "verify")
    assert "which this organisation knows" in ended.out
    assert "anybody may" not in ended.out
    assert "anybody may" in Ended(capsys, "audit", "verify", parties.log("bank_b")).out

    logs = [parties.log(name) for name in ROSTER]
    certificates = [option for name in ROSTER for option in ("--certificate", certificate(parties, name))]
    ended = Ended(capsys, "audit", "compare", *logs, *certificates)
    assert (ended.status, ended.err) == (0, "")
    assert "the logs agree: 1 runs, 6 ways of links" in ended.out
    # With certificates, a log of any other key is refused.
    assert Ended(capsys, "audit", "compare", *logs, *certificates[:4]).status == 1

    bundle = parties.directory / "bundle.zip"
    ended = Ended(capsys, "audit", "export", "--out", bundle)
    assert ended.status == 0
    assert "3 entries, 1 run records" in ended.out
    ended = Ended(capsys, "audit", "verify", bundle, "--certificate", certificate(parties, "bank_a"))
    assert "1 run records, as the log has them" in ended.out
    assert Ended(capsys, "audit", "compare", bundle, *logs[1:]).status == 0
    assert Ended(capsys, "audit", "export", "--out", bundle).status == 2


@pytest.mark.slow
def test_a_changed_log_and_logs_that_differ_end_with_status_1(
    parties: Parties, capsys: pytest.CaptureFixture[str]
) -> None:
    log = parties.log("bank_b")
    content = log.read_bytes()
    log.write_bytes(content.replace(b'"first"', b'"worst"', 1))
    ended = Ended(capsys, "audit", "verify", log)
    assert ended.status == 1
    assert "entries were changed" in ended.err
    log.write_bytes(b"".join(content.splitlines(keepends=True)[:1]))
    assert Ended(capsys, "audit", "verify", log).status == 0  # the log alone does not show it
    ended = Ended(capsys, "audit", "compare", *(parties.log(name) for name in ROSTER))
    assert ended.status == 1
    assert "bank_b's log does not have this run" in ended.err


@pytest.mark.slow
def test_letting_a_peers_log_begin_anew_stands_in_ones_own_log(
    parties: Parties, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Ended(capsys, "audit", "anew", "bank_b", "--reason", "disk lost\x1b[2J").status == 0
    entry = AuditLog(parties.log("bank_a")).read().entries[-1].content
    assert (entry["event"], entry["peer"]) == ("anew", "bank_b")
    ended = Ended(capsys, "audit", "anew", "stranger", "--reason", "x")
    assert ended.status == 2
    assert "knows of no log of 'stranger'" in ended.err


@pytest.mark.slow
def test_verify_finds_a_record_that_its_own_party_signed_again(
    parties: Parties, capsys: pytest.CaptureFixture[str]
) -> None:
    path = parties.home("bank_a").runs / "bank_a.first.json"
    known = ("--certificate", certificate(parties, "bank_a"))
    ended = Ended(capsys, "verify", path, *known)
    assert (ended.status, ended.err) == (0, "")
    assert "audit.log: has this record" in ended.out
    record = {k: v for k, v in json.loads(path.read_text()).items() if k != "signature"}
    record["announced_rows"]["bank_b"] += 1
    path.write_text(json.dumps(sign_record(record, parties.identities["bank_a"])))
    ended = Ended(capsys, "verify", path, *known)
    assert ended.status == 1
    assert "another one than bank_a's log has in entry 2" in ended.err
    ended = Ended(capsys, "verify", path, *known, "--log", parties.log("bank_b"))
    assert ended.status == 1
    assert "is it the record of bank_b" in ended.err
    # Its log may only have grown by another end with that record, and then says so.
    log = AuditLog(parties.log("bank_a"))
    last = log.read().entries[-1].content
    about = {k: v for k, v in last.items() if k not in _OF_EACH_ENTRY}
    log.append(END, {**about, "links": {}, "record": record_digest(record)}, parties.identities["bank_a"])
    ended = Ended(capsys, "verify", path, *known)
    assert (
        "has this record, and several of this run as complete, in entries 2 and 3; ask bank_a why"
        in ended.out
    )


@pytest.mark.slow
def test_verify_finds_a_result_that_its_own_party_made_up_and_signed_again(
    parties: Parties, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = parties.home("bank_a").runs
    path, result, private = (
        folder / f"bank_a.first{suffix}" for suffix in (".json", ".csv", ".private.json")
    )
    known = ("--certificate", certificate(parties, "bank_a"), "--result", result)
    assert f"result: {result} is as recorded" in Ended(capsys, "verify", path, *known).out
    result.write_bytes(result.read_bytes() + b"made-up,2,1000.01\n")
    part = json.loads(private.read_text())
    part["result"]["sha256"] = hashlib.sha256(result.read_bytes()).hexdigest()
    private.write_text(json.dumps(part))
    record = {k: v for k, v in json.loads(path.read_text()).items() if k != "signature"}
    record["private"]["sha256"] = hashlib.sha256(private.read_bytes()).hexdigest()
    kept = record.pop("private")
    for forged in (record, record | {"private": kept}, record | {"private": kept["sha256"]}):
        path.write_text(json.dumps(sign_record(forged, parties.identities["bank_a"])))
        ended = Ended(capsys, "verify", path, *known)
        assert ended.status == 1
        assert "another one than bank_a's log has in entry 2" in ended.err


def test_a_record_that_a_party_signed_in_anothers_name_is_refused(
    parties: Parties, capsys: pytest.CaptureFixture[str]
) -> None:
    path = parties.home("bank_a").runs / "bank_a.first.json"
    record = {k: v for k, v in json.loads(path.read_text()).items() if k != "signature"}
    own = next(entry["certificate"] for entry in record["parties"] if entry["name"] == "bank_a")
    record["party"] = "bank_b"
    for entry in record["parties"]:
        entry["certificate"] = own
    path.write_text(json.dumps(sign_record(record, parties.identities["bank_a"])))
    ended = Ended(capsys, "verify", path)
    assert ended.status == 1
    assert "expected a certificate for bank_b, got one for bank_a" in ended.err
