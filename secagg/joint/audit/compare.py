"""Whether several parties' logs agree, run by run, and where not.

Each finding names the parties between whose words it lies. Which of them wrote what is not so, logs cannot show. A peer's
signed statement of its log is another matter: it shows that the peer cut or rewrote its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

from secagg.errors import AuthenticationError, UsageError
from secagg.jobs.gates import GateStatements, check_statements
from secagg.joint.audit.entry import Entry, spelt
from secagg.joint.audit.gate import COMPLETE
from secagg.joint.audit.heads import heads_in, statements_in
from secagg.joint.audit.verification import Run, VerifiedLog

# What the logs of all parties of a run say alike, and what it is called.
_EQUAL: Final[Mapping[str, str]] = {
    "digest": "the job's fingerprint",
    "job": "the job's name",
    "pattern": "the pattern",
    "parties": "the parties and their certificates",
    "roles": "the roles",
    "rows": "the announced rows",
    "may_open": "what may be opened",
    "opened": "what was opened",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in which logs do not agree.

    Attributes:
      session: of the run; "" for a log as a whole.
      parties: between whose words it lies, or whose log was changed.
    """

    session: str
    parties: tuple[str, ...]
    what: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What comes of comparing logs.

    Attributes:
      sessions: those of which two or more of the logs tell.
      links: how many ways of links have the same digest at both ends.
      findings: where they do not agree.
      remarks: what could not be compared, and why.
    """

    sessions: tuple[str, ...]
    links: int
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...]


def compare_logs(logs: Sequence[VerifiedLog]) -> Comparison:
    """Return whether logs of different parties agree.

    Raises:
      UsageError: fewer than two logs, or two of one party.
    """
    parties = {log.party: log for log in logs}
    if len(logs) < 2 or len(parties) < len(logs):
        raise UsageError(
            f"expected the logs of two parties or more, one of each, got those of {', '.join(log.party for log in logs)}"
        )
    findings = [*_heads(parties)]
    remarks: list[str] = []
    links = 0
    sessions = []
    for session, runs in _sessions(logs).items():
        takes_part = {name for run in runs.values() for name in _names(run.about.get("parties"))}
        absent = [name for name in parties if name in takes_part and name not in runs]
        if shared := [name for name, run in runs.items() if run.start is not None]:
            text = f"log does not have this run, and {_and(shared)} shared data in it"
            findings += [Finding(session, (name, *runs), f"{name}'s {text}") for name in absent]
        elif absent:
            remarks.append(
                f"session {session[:16]} ended before anything was shared; {_and(absent)} did not note it"
            )
        remarks += _complete_again(session, runs)
        if len(runs) < 2:
            continue
        sessions.append(session)
        findings += _equal(session, runs)
        findings += _told_alike(session, runs, parties)
        same, differing, left = _links(session, runs)
        links += same
        findings += differing
        remarks += left
    return Comparison(tuple(sessions), links, tuple(findings), tuple(remarks))


def _sessions(logs: Iterable[VerifiedLog]) -> dict[str, dict[str, Run]]:
    found: dict[str, dict[str, Run]] = {}
    for log in logs:
        for run in log.runs:
            found.setdefault(run.session, {})[log.party] = run
    return found


def _equal(session: str, runs: Mapping[str, Run]) -> Iterator[Finding]:
    for field, what in _EQUAL.items():
        words: dict[bytes, list[str]] = {}
        for name, run in runs.items():
            for entry in (run.start, *run.ends):
                if entry is None or field not in entry.content or _left_open(entry, field):
                    continue
                words.setdefault(spelt({field: entry.content[field]}), []).append(name)
        if len(words) > 1:
            groups = " against ".join(_and(dict.fromkeys(names)) for names in words.values())
            yield Finding(session, tuple(runs), f"{what} differ: {groups}")


def _complete_again(session: str, runs: Mapping[str, Run]) -> Iterator[str]:
    """Name logs with several records of a run as complete: its party alone vouches for the later ones."""
    for name, run in runs.items():
        if len(run.completions) > 1:
            yield (
                f"session {session[:16]}: {name}'s log has {len(run.completions)} records of this run as complete, in "
                f"entries {_and(str(entry.number) for entry in run.completions)}; ask {name} why"
            )


def _left_open(entry: Entry, field: str) -> bool:
    """Return whether an entry does not say: what was opened is known of a complete run, rows once they are announced."""
    return not entry.content[field] and field in ("opened", "rows")


def _told_alike(
    session: str, runs: Mapping[str, Run], parties: Mapping[str, VerifiedLog]
) -> Iterator[Finding]:
    """Compare what each party's log says that the gates of all parties stated, and check the signatures."""
    told: dict[str, Mapping[str, GateStatements]] = {}
    for name, run in runs.items():
        if run.start is None:
            continue
        try:
            told[name] = statements_in(run.start)
        except UsageError:
            yield Finding(session, (name,), f"{name}'s log does not hold what gates stated")
            continue
        digest = bytes.fromhex(str(run.about.get("digest")))
        for speaker, message in told[name].items():
            if speaker not in parties:
                continue
            known = parties[speaker].certificates.get(str(_mapping(run.about.get("parties")).get(speaker)))
            if known is None:
                text = f"{speaker}'s log is not signed with the certificate that {name}'s names for {speaker}"
                yield Finding(session, (name, speaker), text)
                continue
            try:
                check_statements(
                    message, session=bytes.fromhex(session), job=digest, key=known.public_key(), peer=speaker
                )
            except AuthenticationError:
                yield Finding(
                    session,
                    (name, speaker),
                    f"{name}'s log has statements in {speaker}'s name that {speaker} did not sign",
                )
    for one, other in combinations(told, 2):
        for speaker in told[one].keys() | told[other].keys():
            a, b = told[one].get(speaker), told[other].get(speaker)
            if a is None or b is None or (a.statements, a.signature) != (b.statements, b.signature):
                yield Finding(
                    session, (one, other), f"{one} and {other} have different statements of {speaker}"
                )


def _links(session: str, runs: Mapping[str, Run]) -> tuple[int, list[Finding], list[str]]:
    same, findings, left = 0, list[Finding](), list[str]()
    for sender in runs:
        for receiver in runs:
            if sender == receiver:
                continue
            sent = _way(runs[sender], receiver, "sent")
            received = _way(runs[receiver], sender, "received")
            ends = (runs[sender].counted, runs[receiver].counted)
            whole = all(end is not None and end.content.get("outcome") == COMPLETE for end in ends)
            pair = f"what {sender} sent and {receiver} received"
            if sent is None or received is None:
                left.append(
                    f"session {session[:16]}: {pair} is not in both logs, for one of them has no end of the run"
                )
            elif sent == received:
                same += 1
            elif whole or received[0] >= sent[0]:
                text = f"{pair} differ: {sent[0]} messages, {sent[1][:16]}, against {received[0]}, {received[1][:16]}"
                findings.append(Finding(session, (sender, receiver), text))
            else:
                left.append(
                    f"session {session[:16]}: the run ended while {sent[0] - received[0]} messages from {sender} to "
                    f"{receiver} were on their way; what came before is not compared"
                )
            by_workers = (
                _way(runs[sender], receiver, "sent", "workers"),
                _way(runs[receiver], sender, "received", "workers"),
            )
            if by_workers == (None, None) or not whole:
                continue
            if by_workers[0] == by_workers[1]:
                same += 1
            else:
                text = f"what workers of {sender} sent and workers of {receiver} received differ"
                findings.append(
                    Finding(session, (sender, receiver), f"{text}; their run records say in which shard")
                )
    return same, findings, left


def _way(run: Run, peer: str, which: str, of: str = "links") -> tuple[int, str] | None:
    """Return messages and digest of one way of a link, or of all workers' links, where the log has them."""
    links = _mapping(None if run.counted is None else run.counted.content.get(of))
    way = _mapping(_mapping(links.get(peer)).get(which))
    messages, digest = way.get("messages"), way.get("sha256")
    return (messages, digest) if type(messages) is int and isinstance(digest, str) else None


def _heads(parties: Mapping[str, VerifiedLog]) -> Iterator[Finding]:
    """Compare each log with what its party stated of it before runs, as peers keep it, and with what it says itself."""
    for keeper, log in parties.items():
        for run in log.runs:
            if run.start is None:
                continue
            try:
                stated = heads_in(run.start)
            except UsageError:
                continue  # found with what gates stated
            for speaker, heads in stated.items():
                if (own := parties.get(speaker)) is None:
                    continue
                whose = f"{speaker}'s log" + (
                    "" if keeper == speaker else f", by the statement that {keeper} keeps,"
                )
                first = heads.length - len(heads.hashes)
                for place, known in enumerate(heads.hashes, start=first):
                    if place >= len(own.entries):
                        what = f"{whose} had {heads.length} entries before this run and has {len(own.entries)} now"
                        yield Finding(run.session, (speaker, keeper), f"{what}: it was cut")
                        break
                    if own.entries[place].hash != known:
                        what = f"{whose} had another entry {place} before this run than now"
                        yield Finding(run.session, (speaker, keeper), f"{what}: it was written anew")
                        break


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _names(value: Any) -> Iterable[str]:
    return _mapping(value).keys()


def _and(names: Iterable[str]) -> str:
    return " and ".join(names)
