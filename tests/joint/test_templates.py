"""Job files to begin with are job files: they load as they are, with every field that people have to decide."""

from __future__ import annotations

from pathlib import Path

import pytest

from members import Members
from secagg.errors import UsageError
from secagg.jobs.job_file import parse_job
from secagg.joint.approval.templates import pattern_template, query_template
from secagg.patterns.registry import find, names


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Members:
    return Members.made(tmp_path_factory.mktemp("members"), ("east", "north", "south", "west"))


@pytest.mark.slow
def test_a_template_of_each_pattern_is_a_job_of_the_consortiums_members_or_says_what_to_decide_first(
    members: Members,
) -> None:
    consortium, undecided = members.consortium("north"), set()
    for name in names():
        text = pattern_template(find(name).pattern, consortium, "anna")
        if text.startswith("# To be decided first: parameters: "):
            undecided.add(name)
            continue
        job = parse_job(text, file=Path("job.toml"), known=consortium.directory())
        assert job.agreement is not None
        assert (job.agreement.author, job.agreement.runs) == ("north/anna", 1)
    assert undecided <= {"joint_scoring", "reach_and_overlap", "payment_mismatch", "metrics_by_group"}


def test_what_a_template_has_in_comments_is_part_of_a_job_too(members: Members) -> None:
    consortium = members.consortium("north")
    text = pattern_template(find("collectors").pattern, consortium, "anna")
    for comment in ("min_senders", "[window]", "start", "end", "auditor", "[vary]", "window"):
        assert f"\n# {comment}" in text
        text = text.replace(f"\n# {comment}", f"\n{comment}")
    job = parse_job(text, file=Path("job.toml"), known=consortium.directory())
    assert list(job.vary) == ["min_senders", "window"]
    assert job.window.start is not None


def test_a_template_of_a_query_is_a_job(members: Members, tmp_path: Path) -> None:
    sql = tmp_path / "by-channel.sql"
    sql.write_text("SELECT channel, count(*) AS n FROM moves WHERE day >= $since GROUP BY channel")
    text = query_template(sql, members.consortium("north"), None)
    assert 'name = "by-channel"' in text
    assert 'author = "north/NAME"' in text
    assert 'since = "VALUE"' in text
    assert '# north = "north-rules.toml"' in text
    with pytest.raises(UsageError, match="expected a file with a query, and there is none"):
        query_template(tmp_path / "none.sql", None, None)


def test_a_template_without_a_consortium_says_which_names_to_replace() -> None:
    text = pattern_template(find("structuring").pattern, None, None)
    job = parse_job(text, file=Path("job.toml"), with_certificates=False)
    assert job.roster == ("north", "south", "west")
    assert 'certificate = "north.crt"' in text
