"""What a job file says about its approval, and what its digests cover."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from secagg.errors import JobError, UsageError
from secagg.jobs.job import Job, Member
from secagg.jobs.job_file import parse_job
from secagg.jobs.run import run_job
from secagg.network.identity import create_identity

NAMES = ("north", "south", "west")
IDENTITIES = {name: create_identity(name) for name in NAMES}
KNOWN = {
    name: Member(name, (f"{name}.example", 7400), identity.certificate)
    for name, identity in IDENTITIES.items()
}
TEXT = """\
name = "monthly"
pattern = "collectors"

[parameters]
min_senders = 5
min_total = 20000

[window]
start = 2026-09-01
end = 2026-10-01

[[parties]]
name = "north"
[[parties]]
name = "south"
[[parties]]
name = "west"

[roles]
input = ["north", "south"]
computing = ["north", "south", "west"]

[agreement]
author = "north/anna"
until = 2026-12-31
runs = 12

[vary]
min_total = {least = 10000, most = 50000.50}
min_senders = [5, 6]
window = {earliest = 2026-01-01, latest = 2027-01-01}
"""


def parse(*changes: tuple[str, str]) -> Job:
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return parse_job(text, file=Path("job.toml"), known=KNOWN)


def test_parties_of_a_consortium_need_no_address_and_no_certificate() -> None:
    assert [m.address for m in parse().members] == [(f"{name}.example", 7400) for name in NAMES]
    with pytest.raises(
        JobError, match=r"job.toml:12: parties\[0\]\.address: this field is missing, and no consortium"
    ):
        parse_job(TEXT, file=Path("job.toml"))
    gone = NAMES[-1]
    with pytest.raises(JobError, match=f"{gone} is no member of the consortium here: it was removed"):
        parse_job(TEXT, file=Path("job.toml"), known={name: KNOWN[name] for name in NAMES[:-1]})


def test_a_day_ends_with_its_last_second() -> None:
    agreement = parse(("until", "from = 2026-09-01\nuntil")).agreement
    assert agreement is not None
    assert agreement.start == datetime.datetime(2026, 9, 1, tzinfo=datetime.UTC)
    assert agreement.until == datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)
    assert (agreement.author_party, agreement.runs) == ("north", 12)


def test_a_job_is_the_same_after_it_was_written_and_read() -> None:
    job = parse()
    again = parse_job(job.to_toml(), file=Path("job.toml"))
    assert (again.digest, again.content, again.template) == (job.digest, job.content, job.template)


def test_runs_of_a_template_differ_in_content_and_not_in_template() -> None:
    job = parse()
    for change in (
        ("min_total = 20000", "min_total = 30000"),
        ("min_senders = 5", "min_senders = 6"),
        ("start = 2026-09-01", "start = 2026-08-01"),
    ):
        other = parse(change)
        assert other.template == job.template
        assert other.content != job.content
    for change in (
        ("runs = 12", "runs = 13"),
        ("until = 2026-12-31", "until = 2027-12-31"),
        ("north/anna", "south/anna"),
        ("most = 50000.50", "most = 50001"),
        ("[5, 6]", "[5, 6, 7]"),
        ('name = "monthly"', 'name = "other"'),
        ("latest = 2027-01-01", "latest = 2028-01-01"),
        ("[agreement]", '[agreement]\nauditor = "eve"'),
    ):
        assert parse(change).template != job.template


def test_a_certificate_is_no_part_of_what_people_approve() -> None:
    job = parse()
    moved = job.moved(
        dict.fromkeys(NAMES, ("elsewhere", 1)), {name: create_identity(name).certificate for name in NAMES}
    )
    assert (moved.content, moved.template) == (job.content, job.template)
    assert moved.digest != job.digest


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "min_total = 20000",
            "min_total = 50000.51",
            r"parameters\.min_total: 50000\.51 is outside what \[vary\] allows",
        ),
        ("min_senders = 5", "min_senders = 7", r"parameters\.min_senders: 7 is outside what \[vary\] allows"),
        (
            "end = 2026-10-01",
            "end = 2027-10-01",
            r"window: expected `start` and `end` within what \[vary\] allows",
        ),
        ("[vary]", "[vary]\nmin_bank = [1]", r"vary\.min_bank: there is no such parameter"),
        ("least = 10000", "least = 60000", r"vary\.min_total: expected `least` not above"),
        ("least = 10000", 'least = "a"', r"vary\.min_total: expected an amount"),
        ("north/anna", "anna", r"agreement\.author: expected party and person"),
        ("runs = 12", "runs = 0", r"agreement\.runs: expected 1 to"),
        ("until = 2026-12-31", "until = 5", r"agreement\.until: expected a day"),
        (
            'pattern = "collectors"',
            'approval = "no"\npattern = "collectors"',
            'approval: expected "required" or "off"',
        ),
        (
            'pattern = "collectors"',
            'approval = "off"\npattern = "collectors"',
            r"agreement: a job with approval = \"off\"",
        ),
    ],
)
def test_what_is_wrong_about_an_agreement_is_named(old: str, new: str, says: str) -> None:
    with pytest.raises(JobError, match=says):
        parse((old, new))


def test_a_job_that_needs_approvals_does_not_run_without_their_gate() -> None:
    job = parse()
    with pytest.raises(UsageError, match="monthly runs with approvals alone"):
        run_job(job, me="west", identity=IDENTITIES["west"], read=None)


def test_a_job_without_approval_is_warned_of() -> None:
    text = TEXT.partition("[agreement]")[0].replace("pattern", 'approval = "off"\npattern', 1)
    job = parse_job(text, file=Path("job.toml"), known=KNOWN)
    assert any("needs nobody's approval" in warning for warning in job.warnings())
    assert not any("nobody's approval" in warning for warning in parse().warnings())
