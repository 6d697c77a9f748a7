"""Approvals: a run takes place only where all who give data have approved this very job, in its time, and a run is left.

The module is long because one consortium and its keys serve every claim.
"""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from members import NAMES, THREE, Members
from secagg.errors import AbortedError, JobError, RefusedError, SecaggError, UsageError
from secagg.jobs.agreement import Agreement
from secagg.jobs.gates import Outcome, close_all
from secagg.jobs.job import Job
from secagg.jobs.run import Part
from secagg.joint.approval import counting
from secagg.joint.approval.approval import RUN, Approval, approvals_of, keep, sign
from secagg.joint.approval.gate import ApprovalGate
from secagg.joint.approval.keys import ApproverKey, create_key, load_key, open_key, read_public_key
from secagg.joint.approval.policy import Policy
from secagg.joint.approval.status import approve, status_of
from secagg.joint.consortium import Consortium, Needed, changes
from secagg.network.simulated import simulate
from secagg.patterns.pattern import Tables

TEXT = f"""\
name = "j"
pattern = "structuring"
[parameters]
limit = 1000
{THREE}[agreement]
author = "north/anna"
until = 2999-12-31
runs = 2
"""
VARY = "[vary]\nlimit = {least = 500, most = 2000}\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Members:
    return Members.made(tmp_path_factory.mktemp("members"), NAMES)


@pytest.fixture
def members(made: Members, tmp_path: Path) -> Members:
    return made.copied(tmp_path)


def make_tables() -> Tables:
    return {"deposits": {"customer": np.array(["a", "b"], object), "amount": np.array([60_000, 70_000])}}


def approved(members: Members, text: str = TEXT) -> Job:
    """Return a job that two persons of each organisation with data have approved."""
    job = members.job(text)
    members.approve(job, "north", "anna", "bert")
    members.approve(job, "south", "bert", "carl")
    return job


def run(
    members: Members, job: Job | Mapping[str, Job], resumes: bytes | None = None
) -> dict[str, BaseException]:
    """Run a job in the simulator as `secagg run` does it; return what ended it at whom, nothing where all went well."""
    jobs = job if isinstance(job, Mapping) else dict.fromkeys(NAMES, job)
    gates = {name: ApprovalGate(members.homes[name]) for name in NAMES}
    parts = {}
    for name in NAMES:
        try:
            gates[name].ready(jobs[name], name)
        except SecaggError as error:
            return {name: error}
        read = make_tables if name in jobs[name].input_parties else None
        parts[name] = Part(
            jobs[name], name, read, gates=[gates[name]], identity=members.identity(name), resumes=resumes
        )
    outcome = simulate(parts)
    for name, part in parts.items():
        close_all(part.gates, part.run_at_hand(), Outcome({}, outcome.errors.get(name)))
    return outcome.errors


def cause(errors: Mapping[str, BaseException]) -> str:
    """Return what the refusing party says."""
    first = [error for error in errors.values() if not isinstance(error, AbortedError)]
    return " / ".join(map(str, first))


@pytest.mark.slow
def test_an_approved_job_runs_as_often_as_was_agreed_and_no_more(members: Members) -> None:
    job = approved(members)
    assert run(members, job) == {}
    assert status_of(members.homes["north"], job).counts.template == 1
    assert run(members, job) == {}
    assert "j has run 2 times and was approved for 2" in cause(run(members, job))


def test_a_job_that_nobody_or_too_few_approved_is_refused_and_says_who_is_missing(members: Members) -> None:
    job = members.job(TEXT)
    assert "j is not approved by north" in cause(run(members, job))
    members.approve(job, "north", "bert", "carl")
    assert "lack the signature of its author anna" in cause(run(members, job))
    members.approve(job, "north", "anna")
    assert "j is not approved by south: approvals of it lack 2 of 2 persons; " in cause(run(members, job))
    members.approve(job, "south", "bert")
    assert "j is not approved by south: approvals of it lack 1 of 2 persons" in cause(run(members, job))
    changed = run(members, members.job(TEXT.replace("runs = 2", "runs = 3")))["north"]
    assert "or of this one before it was changed" in changed.__notes__[0]


@pytest.mark.slow
def test_the_author_is_not_enough_alone_whatever_the_policy_says(members: Members) -> None:
    for name in ("north", "south"):
        members.set_policy(name, Needed(template=1, run=1))
        members.tell(name)
    job = members.job(TEXT)
    members.approve(job, "south", "carl")
    members.approve(job, "north", "anna")
    assert "lack one person other than its author anna" in cause(run(members, job))
    # Naming somebody else as the author does not help: that person's signature is asked for then.
    posing = members.job(TEXT.replace("north/anna", "north/bert"))
    members.approve(posing, "south", "carl")
    members.approve(posing, "north", "anna")
    assert "lack the signature of its author bert" in cause(run(members, posing))
    nobody = members.job(TEXT.replace("north/anna", "nowhere/zed"))
    members.approve(nobody, "north", "anna")
    assert "nowhere/zed, who wrote j or asks for its run, is of none of its parties" in cause(
        run(members, nobody)
    )
    members.approve(job, "north", "bert")
    assert run(members, job) == {}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("limit = 1000", "limit = 1001"),
        ("runs = 2", "runs = 200"),
        ("2999-12-31", "3000-12-31"),
        ('computing = ["north", "south", "west"]', 'computing = ["west", "south", "north"]'),
        ('name = "j"', 'name = "j"\npad_rows_to = 2'),
    ],
)
def test_a_job_altered_after_approval_is_another_one(members: Members, old: str, new: str) -> None:
    approved(members)
    assert "j is not approved by north" in cause(run(members, members.job(TEXT.replace(old, new))))


def test_a_job_whose_time_is_over_or_has_not_come_is_refused(members: Members) -> None:
    late = approved(members, TEXT.replace("2999-12-31", "2999-12-31\nfrom = 2999-01-01"))
    assert "j may run from 2999-01-01 00:00 UTC on" in cause(run(members, late))
    assert late.agreement is not None
    over = replace(
        late, agreement=replace(late.agreement, start=None, until=late.agreement.until.replace(year=2020))
    )
    assert "j might run until 2020-01-01 00:00 UTC" in cause(run(members, over))
    with pytest.raises(JobError, match="might run until 2020"):
        members.approve(over, "north", "anna")


@pytest.mark.slow
def test_a_template_is_approved_once_and_each_run_within_it_by_one_person(members: Members) -> None:
    job = approved(members, TEXT + VARY)
    assert "approvals of a run with these values lack" in cause(run(members, job))
    other = members.job((TEXT + VARY).replace("limit = 1000", "limit = 1500"))
    for one in (job, other):
        members.approve(one, "south", "carl", kind=RUN)
        members.approve(one, "north", "anna", kind=RUN)
        assert "lack one person other than its requester anna" in cause(run(members, one))
        members.approve(one, "north", "bert", kind=RUN)
        assert run(members, one) == {}
    assert "j has run 2 times and was approved for 2" in cause(run(members, other))
    with pytest.raises(JobError, match=r"limit: 2001.00 is outside what \[vary\] allows"):
        members.job((TEXT + VARY).replace("limit = 1000", "limit = 2001"))
    wider = members.job((TEXT + VARY).replace("most = 2000", "most = 3000"))
    assert "approvals of it lack" in cause(run(members, wider))


@pytest.mark.slow
def test_a_run_takes_place_as_often_as_its_approval_says(members: Members) -> None:
    job = approved(members, TEXT + VARY)
    members.approve(job, "south", "carl", kind=RUN, times=2)
    members.approve(job, "north", "anna", kind=RUN, times=2)
    members.approve(job, "north", "bert", kind=RUN)
    assert run(members, job) == {}
    assert "j has run 1 times with these values and that was approved 1 times" in cause(run(members, job))
    members.approve(job, "north", "bert", kind=RUN, times=2)
    assert run(members, job) == {}


@pytest.mark.slow
def test_a_policy_may_let_runs_within_a_template_begin_without_asking(members: Members) -> None:
    for name in ("north", "south"):
        members.set_policy(name, Needed(template=2, run=0))
    for name in ("north", "south"):
        members.tell(name)
    assert run(members, approved(members, TEXT + VARY)) == {}


def test_approvals_of_another_consortium_or_of_another_organisation_do_not_count(
    members: Members, tmp_path: Path
) -> None:
    elsewhere = Members.made(tmp_path / "other", NAMES)
    elsewhere.keys = members.keys
    for name in NAMES:
        elsewhere.set_policy(name, Needed())
    theirs = approved(elsewhere)
    job = members.job(TEXT)
    assert theirs.content == job.content
    for name in ("north", "south"):
        for one in approvals_of(elsewhere.homes[name], theirs):
            keep(members.homes[name].approvals, one)
    assert "approval is for another consortium or other organisations" in cause(run(members, job))
    members.approve(job, "north", "anna", "bert")
    for one in approvals_of(members.homes["north"], job):
        keep(members.homes["south"].approvals, one)
    assert "north/bert is no approver of south" in cause(run(members, job))


@pytest.mark.slow
def test_an_organisation_with_approvers_refuses_jobs_that_nobody_approves_unless_it_says_otherwise(
    members: Members,
) -> None:
    job = members.job(TEXT.partition("[agreement]")[0].replace("pattern", 'approval = "off"\npattern', 1))
    assert 'j has approval = "off", which this organisation refuses' in cause(run(members, job))
    # A policy that does not say refuses too.
    members.homes["north"].policy.write_text("[needed]\ntemplate = 1\n")
    assert 'approval = "off", which this organisation refuses' in str(refused(members, job, "north"))
    for name in NAMES:
        Policy(unapproved="allow").save(members.homes[name])
    assert run(members, job) == {}


def test_an_approver_who_was_removed_counts_no_more(members: Members) -> None:
    job = approved(members)
    members.set_policy("south", Needed(), ["anna", "bert"])
    members.tell("south")
    assert "lack 1 of 2 persons (south/carl is no approver of south)" in cause(run(members, job))


def test_who_has_the_machine_and_no_approvers_password_makes_no_run_of_it(members: Members) -> None:
    """An insider rewrites policy and approvals of its own home: the others hold it to the keys that they know."""
    job = members.job(TEXT)
    members.approve(job, "north", "anna", "bert")
    home = members.homes["south"]
    forged = {name: ApproverKey(name, Ed25519PrivateKey.generate()) for name in ("bert", "carl")}
    for key in forged.values():
        keep(
            home.approvals,
            sign(job, "template", scope=members.consortium("south").scope(job), party="south", key=key),
        )
    home.policy.write_text("[needed]\ntemplate = 1\n")
    assert "south/bert's approval is not signed by its key" in cause(run_without_ready(members, job, "south"))
    # It makes them approvers in its own consortium too: the others know another one.
    changes.change(home, approvers={name: key.public_key for name, key in forged.items()})
    assert "south knows another consortium banks" in cause(run_without_ready(members, job, "south"))


class Careless(ApprovalGate):
    """The gate of somebody who altered it: it checks nothing of its own."""

    def ready(self, job: Job, me: str) -> None:
        del job, me

    def check(self, run: Any, statements: Mapping[str, bytes]) -> None:
        del run, statements

    def commit(self, run: Any) -> None:
        del run


def run_without_ready(
    members: Members,
    job: Job,
    careless: str,
    gate: Callable[..., ApprovalGate] = Careless,
    resumes: bytes | None = None,
) -> dict[str, BaseException]:
    parts = {}
    for name in NAMES:
        own = gate(members.homes[name]) if name == careless else ApprovalGate(members.homes[name])
        read = make_tables if name in job.input_parties else None
        parts[name] = Part(job, name, read, gates=[own], identity=members.identity(name), resumes=resumes)
    outcome = simulate(parts)
    assert not outcome.results
    assert any(isinstance(error, RefusedError) for name, error in outcome.errors.items() if name != careless)
    return {name: error for name, error in outcome.errors.items() if name != careless}


def test_a_policy_that_the_others_do_not_know_is_refused_with_what_to_do(members: Members) -> None:
    job = approved(members)
    Policy(approvers={"bert": members.keys["north"]["bert"].public_key}).save(members.homes["north"])
    assert "names other approvers than north's member file" in cause(run(members, job))


@pytest.mark.slow
def test_a_removed_member_a_wrong_and_a_rotated_certificate(members: Members) -> None:
    job = approved(members)
    before = members.identity("west")
    changes.rotate(members.homes["west"])
    assert "west's certificate" in cause(run(members, job))  # its own folder refuses the old one
    new = members.job(TEXT, "west")
    errors = run(members, {"north": job, "south": job, "west": new})
    assert errors
    members.tell("west")
    assert new.content == job.content
    assert run(members, new) == {}  # a new certificate needs no new approval
    with pytest.raises(JobError, match="is revoked in the consortium"):
        ApprovalGate(members.homes["north"]).ready(job, "north")
    assert before.fingerprint != members.identity("west").fingerprint
    changes.remove(members.homes["south"], "west")
    assert "west's certificate" in cause({"south": refused(members, new, "south")})


def refused(members: Members, job: Job, name: str) -> BaseException:
    with pytest.raises(JobError) as error:
        ApprovalGate(members.homes[name]).ready(job, name)
    return error.value


def test_of_two_processes_that_race_for_the_last_run_one_is_refused(members: Members) -> None:
    job = approved(members, TEXT.replace("runs = 2", "runs = 1"))
    home = members.homes["north"]

    def take(number: int) -> bool:
        try:
            counting.count(home, job, bytes([number]) * 32, counting.Counts(), None)
        except JobError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(take, range(4))) == [False, False, False, True]


@pytest.mark.slow
def test_a_run_counted_before_kill_9_is_spent(members: Members, tmp_path: Path) -> None:
    job = approved(members, TEXT.replace("runs = 2", "runs = 1"))
    home = members.homes["north"]
    (tmp_path / "job.toml").write_text(job.to_toml())
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from secagg.home import Home\n"
        "from secagg.jobs.job_file import load_job\n"
        "from secagg.joint.approval import counting\n"
        "counting.count(Home.open(sys.argv[1]), load_job(Path(sys.argv[2])), b's' * 32, counting.Counts(), None)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(home.path), str(tmp_path / "job.toml")], env=dict(os.environ)
    )
    assert done.returncode == -signal.SIGKILL
    assert "j has run 1 times and was approved for 1" in cause(run(members, job))
    # What was counted may go on from a checkpoint as long as its result is not there yet.
    for name in ("south", "west"):
        counting.count(members.homes[name], job, b"s" * 32, counting.Counts(), None)
    assert run(members, job, resumes=b"s" * 32) == {}
    assert "that run has ended well" in cause(run_without_ready(members, job, "west", Careless, b"s" * 32))
    with pytest.raises(JobError, match="that run has ended well"):
        counting.check_goes_on(home, job, b"s" * 32)
    # One that this party did not count, for it was interrupted just then, needs a run that is left.
    with pytest.raises(JobError, match="has run 1 times and was approved for 1"):
        counting.check_goes_on(home, job, b"t" * 32)


def test_a_run_with_other_values_does_not_go_on_as_one_that_was_counted(members: Members) -> None:
    job, home, first = approved(members), members.homes["north"], b"s" * 32
    counting.count(home, job, first, counting.Counts(), None)
    assert counting.check_goes_on(home, job, first)
    with pytest.raises(JobError, match="this organisation has counted no such run"):
        counting.check_goes_on(home, members.job(TEXT.replace("limit = 1000", "limit = 1001")), first)


@pytest.mark.slow
def test_a_restored_folder_gives_no_run_back(members: Members) -> None:
    job = approved(members)
    assert run(members, job) == {}
    (members.homes["north"].path / "state.sqlite").unlink()
    assert run(members, job) == {}
    # It counts on from what the others told.
    assert counting.counted(members.homes["north"], job).template == 2
    (members.homes["north"].path / "state.sqlite").unlink()
    assert "j has run 2 times and was approved for 2" in cause(run(members, job))  # south refuses to come
    # Also where all folders were restored but one, whose party comes all the same.
    for name in ("north", "south"):
        (members.homes[name].path / "state.sqlite").unlink(missing_ok=True)
    errors = run_without_ready(members, job, "west", gate=SkipsReady)
    assert "j has run 2 times, by the count of west, and was approved for 2" in cause(errors)


class SkipsReady(ApprovalGate):
    """A party that comes although its own count says that no run is left."""

    def ready(self, job: Job, me: str) -> None:
        del job, me

    def check(self, run: Any, statements: Mapping[str, bytes]) -> None:
        del run, statements


def test_statements_that_are_none_are_refused_and_name_their_party(members: Members) -> None:
    job = approved(members)

    class Mad(Careless):
        def statement(self, run: Any) -> bytes:
            del run
            return msgspec.msgpack.encode(["not", "a", "statement"])

    assert "expected the approvals of west, got something else" in cause(
        run_without_ready(members, job, "west", Mad)
    )


def test_a_peer_that_states_approvals_of_another_job_is_refused(members: Members) -> None:
    other = approved(members, TEXT.replace("runs = 2", "runs = 200"))
    job = members.job(TEXT)
    members.approve(job, "north", "anna", "bert")

    class Replaying(Careless):
        def statement(self, run: Any) -> bytes:
            return super().statement(replace(run, job=other))

    said = cause(run_without_ready(members, job, "south", Replaying))
    assert "approval is of another job, or of this one before it was changed" in said


@pytest.mark.slow
def test_a_key_file_opens_with_its_password_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secagg.joint.approval.keys._LOG_N", 14)  # four guesses, quickly
    path = tmp_path / "anna.approver"
    with pytest.raises(UsageError, match="a password of at least 10 characters"):
        create_key(path, "anna", "short")
    key = create_key(path, "anna", "correct horse battery")
    assert load_key(path, "correct horse battery").public_key == key.public_key
    assert read_public_key(path) == ("anna", key.public_key)
    assert key.secret_key.private_bytes_raw() not in path.read_bytes()
    with pytest.raises(UsageError, match="the password does not open"):
        load_key(path, "correct horse batterY")
    with pytest.raises(UsageError, match="the password does not open"):
        open_key(path.read_bytes().replace(b'"anna"', b'"bert"'), "correct horse battery")
    path.chmod(0o644)
    with pytest.raises(UsageError, match="others on this machine may read"):
        load_key(path, "correct horse battery")


def test_only_an_approver_of_this_organisation_signs_here(members: Members) -> None:
    job = members.job(TEXT)
    stranger = ApproverKey("anna", Ed25519PrivateKey.generate())
    with pytest.raises(UsageError, match="the key of anna is not that of an approver of north"):
        approve(job, Consortium.load(members.homes["north"]), stranger, into=members.homes["north"].approvals)
    assert isinstance(job.agreement, Agreement)
    assert approvals_of(members.homes["north"], job) == []


def test_every_field_of_an_approval_is_signed(members: Members) -> None:
    job = members.job(TEXT + VARY)
    key = members.keys["north"]["anna"]
    one = sign(job, RUN, scope=b"s" * 32, party="north", key=key, times=1)
    one.check(key.public_key)
    for name, other in {
        "kind": "template",
        "scope": b"t" * 32,
        "subject": b"x" * 32,
        "party": "south",
        "person": "bert",
        "at": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        "times": 2,
    }.items():
        changed: Approval = msgspec.structs.replace(one, **{name: other})
        with pytest.raises(SecaggError, match=r"signature of secagg\.joint\.approval"):
            changed.check(key.public_key)
