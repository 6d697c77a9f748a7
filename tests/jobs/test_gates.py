"""Gates: nothing is shared before all have passed and committed, and nobody is told something else than the others."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import numpy as np
import pytest

from altering import altering
from costs import measured
from ports import reserved_ports
from secagg.errors import (
    AbortedError,
    AuthenticationError,
    CheatingError,
    JobError,
    RefusedError,
    RemoteProtocolError,
    UsageError,
)
from secagg.jobs import gates as gating
from secagg.jobs.gates import GatesPassed, GateStatements, Outcome, RunAtHand
from secagg.jobs.job import Job, Member, Window
from secagg.jobs.run import Part, run_job
from secagg.jobs.signature import signed
from secagg.network.identity import create_identity
from secagg.network.simulated import simulate
from secagg.network.tcp import Timeouts
from secagg.party import Party
from secagg.patterns.pattern import Tables
from secagg.patterns.registry import find
from secagg.wire import Message

BANKS = ("bank_a", "bank_b")
ROSTER = (*BANKS, "outsider")
IDENTITIES = {name: create_identity(name) for name in ROSTER}


@dataclass
class Noting:
    """A gate that notes what is asked of it, and refuses, or fails to write, where it is told to."""

    name: str
    calls: list[str]
    refuses: str = ""
    error: Callable[[], BaseException] = lambda: JobError("it is not approved")
    told: dict[str, bytes] = field(default_factory=dict)
    ended: list[Outcome] = field(default_factory=list)

    def _step(self, step: str) -> None:
        self.calls.append(f"{self.name} {step}")
        if step == self.refuses:
            raise self.error()

    def ready(self, job: Job, me: str) -> None:
        del job, me
        self._step("ready")

    def statement(self, run: RunAtHand) -> bytes:
        self._step("statement")
        assert run.rows.keys() == set(BANKS)
        assert (run.contribution is None) == (run.me not in BANKS)
        return f"{self.name} of {run.me}".encode()

    def check(self, run: RunAtHand, statements: Mapping[str, bytes]) -> None:
        del run
        self.told = dict(statements)
        self._step("check")

    def commit(self, run: RunAtHand) -> None:
        del run
        self._step("commit")

    def close(self, run: RunAtHand, outcome: Outcome) -> None:
        del run
        self.ended.append(outcome)
        self._step("close")


def make_job() -> Job:
    installed = find("structuring")
    return Job(
        name="gated",
        installed=installed,
        parameters=installed.pattern.Parameters(limit_cents=100_000),
        window=Window(),
        members=tuple(Member(name, ("127.0.0.1", 1), IDENTITIES[name].certificate) for name in ROSTER),
        roles={"input": BANKS, "computing": ROSTER},
        pad_rows_to=1,
        approval="off",
        timeouts=Timeouts(connect_s=10, silence_s=10, message_s=10),
    )


def make_tables() -> Tables:
    return {"deposits": {"customer": np.array(["a", "b"], object), "amount": np.array([60_000, 70_000])}}


def make_parts(
    names: Sequence[str] = ("budget", "approval"), **gates: Noting
) -> tuple[dict[str, Part], dict[str, list[str]]]:
    """Return a part and the list of notes for each party; a gate by a party's name comes besides those of `names`."""
    calls: dict[str, list[str]] = {name: [] for name in ROSTER}
    parts = {}
    for name in ROSTER:
        own = [Noting(gate, calls[name]) for gate in names]
        if name in gates:
            gates[name].calls = calls[name]
            own = [gate for gate in own if gate.name != gates[name].name] + [gates[name]]
        read = make_tables if name in BANKS else None
        parts[name] = Part(make_job(), name, read, gates=own, identity=IDENTITIES[name])
    return parts, calls


def noting_sends(part: Part, calls: list[str]) -> Any:
    def note(party: Party, to: str, message: Message) -> Message:
        del party, to
        calls.append(message.KIND.rpartition(".")[2])
        return message

    return altering(part, note)


def test_all_check_then_all_commit_before_anything_is_shared() -> None:
    parts, calls = make_parts()
    outcome = simulate({name: noting_sends(part, calls[name]) for name, part in parts.items()})
    outcome.values()
    for name, part in parts.items():
        notes = list(dict.fromkeys(calls[name]))
        gates = ["approval statement", "budget statement", "GateStatements", "approval check", "budget check"]
        gates += ["GatesPassed", "approval commit", "budget commit"]
        begin = notes.index(gates[0])
        assert notes[begin : begin + len(gates)] == gates
        before, after = notes[:begin], notes[begin + len(gates) :]
        assert after  # what computes
        assert len(before) <= 2  # the announcement of rows, and its digest
        assert list(part.stated) == list(ROSTER)
        for gate in cast("tuple[Noting, ...]", part.gates):
            assert gate.told == {other: f"{gate.name} of {other}".encode() for other in ROSTER}


def test_gates_cost_what_they_declare() -> None:
    parts, _ = make_parts()
    outcome = simulate(parts)
    for name, part in parts.items():
        usage = outcome.ledgers[name].phases[gating.PHASE]
        declared = gating.cost(ROSTER, part.gates)
        assert (usage.rounds, usage.sent.payload_bytes) == (declared.rounds, 0)
        assert declared.messages is not None
        assert usage.sent.messages == declared.messages[name] == 4
        assert part.forecast is not None
        assert measured(name, outcome.ledgers[name]).payload_bytes[name] <= part.forecast.payload_bytes[name]
    assert gating.cost(ROSTER, ()).rounds == 0


@pytest.mark.parametrize("step", ["statement", "check", "commit"])
def test_a_gate_that_refuses_ends_the_run_and_nothing_was_shared(step: str) -> None:
    gate = Noting("approval", [], refuses=step)
    parts, calls = make_parts(bank_b=gate)
    outcome = simulate({name: noting_sends(part, calls[name]) for name, part in parts.items()})
    assert not outcome.results
    with pytest.raises(RefusedError, match="bank_b's approval gate refuses this run: it is not approved"):
        raise outcome.errors["bank_b"]
    shared = [
        note for note in calls["bank_b"] if note not in ("GateStatements", "GatesPassed") and " " not in note
    ]
    assert len(set(shared)) <= 2  # the announcement of rows, and its digest
    if step != "commit":
        assert not any("commit" in note for notes in calls.values() for note in notes)


def test_a_disk_that_is_full_at_commit_ends_the_run_and_others_are_told_no_file_name() -> None:
    full = Noting("budget", [], refuses="commit", error=lambda: OSError(28, "No space left", "/secret/place"))
    parts, _ = make_parts(bank_a=full)
    error = simulate(parts).errors["bank_a"]
    assert isinstance(error, RefusedError)
    assert "No space left" in str(error)
    assert "secret" not in error.for_peers()
    bad_data = Noting("budget", [], refuses="check", error=lambda: UsageError("row 17 is bad"))
    parts, _ = make_parts(bank_a=bad_data)
    error = simulate(parts).errors["bank_a"]
    assert isinstance(error, RefusedError)
    assert "row 17" not in error.for_peers()


def telling(part: Part, to: str, change: Callable[[Any], Message]) -> Any:
    """Return a program that tells one peer something else."""
    return altering(
        part,
        lambda party, peer, message: (
            change(message) if peer == to and isinstance(message, GateStatements | GatesPassed) else message
        ),
    )


def signed_otherwise(part: Part) -> Callable[[Any], Message]:
    """Return what makes other statements, truly signed, of a party's own."""

    def change(message: Any) -> Message:
        if not isinstance(message, GateStatements):
            return message
        other = dict.fromkeys(message.statements, b"another story")
        content = gating._signed_digest(part.session, part.job.digest, part.me, other)
        return GateStatements(other, signed(IDENTITIES[part.me].secret_key, content))

    return change


def test_a_party_that_tells_two_others_different_statements_is_caught_before_any_commit() -> None:
    parts, calls = make_parts()
    programs: dict[str, Any] = dict(parts)
    programs["bank_a"] = telling(parts["bank_a"], "outsider", signed_otherwise(parts["bank_a"]))
    outcome = simulate(programs)
    assert not outcome.results
    assert not any("commit" in note for name in ("bank_b", "outsider") for note in calls[name])
    honest = [outcome.errors[name] for name in ("bank_b", "outsider")]
    found = [error for error in honest if isinstance(error, CheatingError)]
    assert found
    assert all("bank_a" in error.suspects for error in found)


def test_statements_without_their_senders_signature_are_refused() -> None:
    for statements, signature in (({"budget": b"other"}, None), ({}, b"")):

        def change(
            message: Any, other: dict[str, bytes] = statements, by: bytes | None = signature
        ) -> Message:
            if not isinstance(message, GateStatements):
                return message
            return GateStatements({**message.statements, **other}, message.signature if by is None else by)

        parts, calls = make_parts()
        programs: dict[str, Any] = dict(parts)
        programs["bank_a"] = telling(parts["bank_a"], "bank_b", change)
        with pytest.raises(AuthenticationError, match="expected bank_a's signature of what its gates state"):
            raise simulate(programs).errors["bank_b"]
        assert not any("commit" in note for note in calls["bank_b"])


@pytest.mark.parametrize("names", [["budget"], ["approval", "budget", "third"], []])
def test_truly_signed_statements_of_other_gates_name_their_party(names: list[str]) -> None:
    parts, calls = make_parts()
    liar, other = parts["bank_a"], dict.fromkeys(names, b"a story")

    def change(message: Any) -> Message:
        if not isinstance(message, GateStatements):
            return message
        content = gating._signed_digest(liar.session, liar.job.digest, liar.me, other)
        return GateStatements(other, signed(IDENTITIES[liar.me].secret_key, content))

    programs: dict[str, Any] = dict(parts) | {"bank_a": telling(liar, "bank_b", change)}
    with pytest.raises(RemoteProtocolError, match="expected statements of approval, budget from bank_a"):
        raise simulate(programs).errors["bank_b"]
    assert not any("check" in note for note in calls["bank_b"])


def test_what_parties_compare_covers_the_speaker_its_signature_and_each_statement() -> None:
    message = GateStatements({"approval": b"yes", "budget": b"1"}, b"s" * 64)
    others = [
        GateStatements(message.statements, b"t" * 64),
        GateStatements({"approval": b"yes", "budget": b"2"}, message.signature),
        GateStatements({"approval": b"yes", "budge": b"1"}, message.signature),
    ]
    heard = {gating._digest_of("bank_a", one) for one in (message, *others)} | {
        gating._digest_of("bank_b", message)
    }
    assert len(heard) == 5


def run_over_tls(gates: Mapping[str, Sequence[Noting]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return results or errors, and records of failed runs, by party."""
    with reserved_ports(3) as ports:
        job = make_job()
        places = {name: ("127.0.0.1", port) for name, port in zip(ROSTER, ports, strict=True)}
        job = job.moved(places, {name: identity.certificate for name, identity in IDENTITIES.items()})
        records: dict[str, Any] = {}

        def take_part(name: str) -> Any:
            return run_job(
                replace(job, timeouts=Timeouts(connect_s=5, silence_s=5, message_s=5)),
                me=name,
                identity=IDENTITIES[name],
                read=make_tables if name in BANKS else None,
                gates=gates[name],
                on_failure=partial(records.__setitem__, name),
            )

        with ThreadPoolExecutor(3) as pool:
            futures = {name: pool.submit(take_part, name) for name in ROSTER}
            return {name: f.exception(60) or f.result() for name, f in futures.items()}, records


@pytest.mark.slow
def test_parties_with_different_gates_do_not_begin() -> None:
    gates = {name: [Noting("approval", [])] for name in ROSTER}
    gates["outsider"] = [Noting("approval", []), Noting("budget", [])]
    errors, _ = run_over_tls(gates)
    assert all(isinstance(error, JobError | AbortedError) for error in errors.values())
    told = " ".join(map(str, errors.values()))
    assert "checks before sharing (approval)" in told
    assert "checks before sharing (approval, budget)" in told
    assert not any("statement" in call for own in gates.values() for gate in own for call in gate.calls)


@pytest.mark.slow
def test_a_record_holds_what_the_gates_stated_and_gates_learn_how_the_run_ended() -> None:
    gates = {name: [Noting("approval", [])] for name in ROSTER}
    results, _ = run_over_tls(gates)
    for name, result in results.items():
        (gate,) = gates[name]
        assert gate.calls[0] == "approval ready"
        assert gate.calls[-1] == "approval close"
        assert gate.ended[0].error is None
        assert gate.ended[0].record["outcome"] == "complete"
        stated = result.record["gates"]
        assert base64.b64decode(stated["bank_b"]["statements"]["approval"]) == b"approval of bank_b"
        message = gating.from_record(stated["bank_b"])
        key = IDENTITIES["bank_b"].certificate.public_key()
        session, job = bytes.fromhex(result.record["session"]), bytes.fromhex(result.record["digest"])
        gating.check_statements(message, session=session, job=job, key=key, peer="bank_b")
        with pytest.raises(AuthenticationError):
            gating.check_statements(message, session=b"other", job=job, key=key, peer="bank_b")
        with pytest.raises(AuthenticationError):
            gating.check_statements(message, session=session, job=b"other", key=key, peer="bank_b")
        with pytest.raises(AuthenticationError):
            gating.check_statements(message, session=session, job=job, key=key, peer="bank_a")


def test_a_refusal_stands_in_every_record_with_whose_it_was() -> None:
    gates = {name: [Noting("approval", [], refuses="check" if name == "bank_b" else "")] for name in ROSTER}
    errors, records = run_over_tls(gates)
    for name in ROSTER:
        assert "bank_b's approval gate refuses this run: it is not approved" in str(errors[name])
        assert records[name]["error"]["named"] == "bank_b"
        assert records[name]["reached"] == gating.PHASE
        assert gates[name][0].ended[0].error is errors[name]
