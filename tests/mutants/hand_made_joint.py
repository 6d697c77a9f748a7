"""Changes to gates, consortiums and approvals; see `hand_made`."""

from __future__ import annotations

from typing import Final

from change import Change

_APPROVAL: Final = "secagg/joint/approval"
_CONSORTIUM: Final = "secagg/joint/consortium"
_GATES: Final = ("tests/jobs/test_gates.py",)
_WORKERS: Final = ("tests/jobs/test_shards.py", "tests/jobs/test_shard_queries.py")
_APPROVALS: Final = ("tests/joint/test_approval.py",)
_MEMBERS: Final = ("tests/joint/test_consortium.py",)

JOINT: Final = (
    Change(
        "parties do not compare what they were told of each other's gates",
        "secagg/jobs/gates.py",
        "        _check_told_same(passed.heard, heard, party, name)",
        "        del passed",
        _GATES,
    ),
    Change(
        "what a gate states is signed without the session",
        "secagg/jobs/gates.py",
        "[session, job, name.encode(), *parts]",
        "[job, name.encode(), *parts]",
        _GATES,
    ),
    Change(
        "approvals of another consortium count",
        f"{_APPROVAL}/decision.py",
        "elif one.scope != scope:",
        "elif False:",
        _APPROVALS,
    ),
    Change(
        "approvals of another job count",
        f"{_APPROVAL}/decision.py",
        "elif one.subject != subject_of(job, kind):",
        "elif False:",
        _APPROVALS,
    ),
    Change(
        "approvals that nobody signed count",
        f"{_APPROVAL}/decision.py",
        "                one.check(key)\n",
        "",
        _APPROVALS,
    ),
    Change(
        "naming somebody else as the author is enough",
        f"{_APPROVAL}/decision.py",
        "if author_party == rules.party and author not in persons:",
        "if False:",
        _APPROVALS,
    ),
    Change(
        "a party trusts what others say of their own approvals",
        f"{_APPROVAL}/gate.py",
        "            if name in _asked(job):\n",
        "            if name == run.me:\n",
        _APPROVALS,
    ),
    Change(
        "parties may know different consortiums",
        f"{_APPROVAL}/gate.py",
        "if stated.consortium != consortium.digest:",
        "if False:",
        _APPROVALS,
    ),
    Change(
        "a restored folder gives runs back",
        f"{_APPROVAL}/gate.py",
        "                counting.check_left(job, counts, None, by=name)",
        "                counts = Counts()",
        _APPROVALS,
    ),
    Change(
        "the last run is taken by every process that races for it",
        f"{_APPROVAL}/counting.py",
        "        now = _counts(connection, job) | told",
        "        now = told",
        _APPROVALS,
    ),
    Change(
        "a template covers no number of runs",
        "secagg/jobs/job.py",
        "            chosen.add(REQUESTER)",
        '            chosen |= {REQUESTER, "agreement.runs"}',
        ("tests/jobs/test_agreement.py",),
    ),
    Change(
        "a stranger's certificate takes a member's place",
        f"{_CONSORTIUM}/changes.py",
        "        told.check_previous(known.certificate)\n",
        "        pass\n",
        _MEMBERS,
    ),
    Change(
        "a certificate that was replaced is taken on",
        f"{_CONSORTIUM}/consortium.py",
        "            if shown in revoked:",
        "            if False:",
        _MEMBERS,
    ),
    Change(
        "a text among a query's values ends its literal",
        "secagg/jobs/query_values.py",
        """return "'{}'".format(value.replace("'", "''"))""",
        """return f"'{value}'\"""",
        ("tests/jobs/test_query_values.py",),
    ),
    Change(
        "workers compare nothing of their work",
        "secagg/jobs/shards/worker.py",
        'for name in ("step", "shard", "attempt", "kept", "kind", "public")',
        'for name in ("step", "attempt", "kept", "kind")',
        _WORKERS,
    ),
    Change(
        "a step is done where another party's worker was lost",
        "secagg/jobs/shards/attempts.py",
        "if answer is not None and not those:",
        "if answer is not None:",
        _WORKERS,
    ),
    Change(
        "a lost worker is told of once its turn is over",
        "secagg/jobs/shards/gathering.py",
        "                    report()\n",
        "",
        _WORKERS,
    ),
)
