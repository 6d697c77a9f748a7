"""Start every party of a job as a process on this machine, with identities made for the purpose.

For trying a job out, and for showing how it goes. The parties are as separate as on different machines, but
for whoever owns this one, who could look into all of them.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any, Final

from secagg import errors
from secagg.errors import (
    AbortedError,
    PeerMissingError,
    PeerVanishedError,
    RemoteProtocolError,
    SecaggError,
    UsageError,
)
from secagg.jobs.agreement import OFF
from secagg.jobs.job import Address, Job
from secagg.jobs.output import Output
from secagg.jobs.run import Progress
from secagg.jobs.statuses import WRITTEN_ELSEWHERE
from secagg.network.identity import create_identity
from secagg.party import PartyId

LOOPBACK: Final = "127.0.0.1"
# Below what systems hand out to outgoing connections, so that none of those takes a port before it is used.
_PORTS: Final = range(20_000, 32_000)
_TRIES: Final = 1000
_PATIENCE_S: Final = 20.0  # for the others to end, or to say more, once one has failed
_TOLD_S: Final = 2.0  # for those whom a party has told of its own mistake, so that their records name it
_KEPT_LINES: Final = 5

OnProgress = Callable[[Progress], None]


def progress_line(progress: Progress) -> str:
    """Return how far a party is as a line of JSON; `run_parties` reads them."""
    return json.dumps({"progress": asdict(progress)})


def error_line(error: SecaggError) -> str:
    """Return why a party ended as a line of JSON; `run_parties` reads them."""
    named = getattr(error, "peer", None)
    about = {} if named is None else {"peer": named}
    if isinstance(error, AbortedError):
        about["accused"] = error.accused
    return json.dumps({"error": type(error).__name__, "message": str(error), **about})


def run_locally(
    job: Job,
    options: Mapping[PartyId, Sequence[str]],
    *,
    out: Path,
    on_progress: OnProgress,
    all_options: Sequence[str] = (),
) -> dict[PartyId, str]:
    """Run a job with every party as a process on this machine; results and records go to `out`.

    Returns what the parties say whose files could not be written there; see `run_parties`.

    Args:
      job: its addresses and certificates do not matter: others take their place.
      options: for each input party, the options of `secagg run` that name its data.
      all_options: of `secagg run` at every party.

    Raises:
      UsageError: data for a party that puts none in, or none for one that does; `out` cannot be written to, or holds
        results of this job.
      SecaggError: what ended the run, with the party's name in front.
    """
    _check_data(job, options)
    for name in job.roster:
        Output.probe(out, me=name, job=job.name)
    with tempfile.TemporaryDirectory(prefix="secagg-") as directory:
        home = Path(directory)
        identities = {name: create_identity(name) for name in job.roster}
        certificates = {name: identity.certificate for name, identity in identities.items()}
        places = {m.name: len(m.workers) for m in job.members}
        free = iter(free_addresses(len(places) + sum(places.values())))
        addresses = {name: next(free) for name in places}
        workers = {name: tuple(next(free) for _ in range(count)) for name, count in places.items()}
        job_file = home / f"{job.name}.toml"
        # Who owns this machine owns all parties: nobody else has anything to approve.
        unapproved = replace(job.moved(addresses, certificates, workers), approval=OFF, agreement=None)
        job_file.write_text(unapproved.to_toml(), "utf-8")
        commands = {}
        for name, identity in identities.items():
            identity.save(home / name)
            commands[name] = ["run", str(job_file), "--as", name, "--identity", str(home / name)]
            commands[name] += ["--out", str(out), *options.get(name, ()), *all_options]
        return run_parties(commands, on_progress=on_progress)


def _check_data(job: Job, options: Mapping[PartyId, Sequence[str]]) -> None:
    missing = [name for name in job.input_parties if name not in options]
    strangers = [name for name in options if name not in job.input_parties]
    if missing or strangers:
        problem = (
            f"there is none for {', '.join(missing)}" if missing else f"{', '.join(strangers)} puts in none"
        )
        raise UsageError(f"expected data for the input parties {', '.join(job.input_parties)}: {problem}")


def free_addresses(count: int) -> list[Address]:
    """Return addresses on this machine at which nobody listens.

    Raises:
      UsageError: there are not so many.
    """
    found: list[Address] = []
    for _ in range(_TRIES):
        if len(found) == count:
            return found
        address = (LOOPBACK, secrets.choice(_PORTS))
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError:
                continue
        if address not in found:
            found.append(address)
    raise UsageError(f"found no {count} free ports from {_PORTS.start} to {_PORTS.stop - 1} on this machine")


def run_parties(commands: Mapping[PartyId, Sequence[str]], *, on_progress: OnProgress) -> dict[PartyId, str]:
    """Run `secagg` with each party's command line, all at once, until all have ended.

    A party's own mistake ends the others at once, or shortly after that party may have told them.

    Returns what the parties say that have their results, but could not write them where they were meant to be.

    Raises:
      SecaggError: what ended the run, with the party's name in front.
    """
    with _processes(commands) as processes, selectors.DefaultSelector() as selector:
        for name, process in processes.items():
            selector.register(_stderr(process), selectors.EVENT_READ, name)
        pending = dict.fromkeys(processes, b"")
        said: dict[PartyId, list[str]] = {name: [] for name in processes}
        failures: list[tuple[PartyId, SecaggError]] = []
        begun: set[PartyId] = set()  # who may have told others why it ends
        deadline = float("inf")

        def report(progress: Progress) -> None:
            begun.add(progress.party)
            on_progress(progress)

        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(timeout=min(1.0, deadline - time.monotonic())):
                speaker: PartyId = key.data
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fileobj)
                *lines, pending[speaker] = (pending[speaker] + chunk).split(b"\n")
                for line in lines:
                    _take(speaker, line.decode(errors="replace"), said[speaker], failures, report)
            speaking = {key.data for key in selector.get_map().values()}
            causes = _causes(processes, failures, speaking)
            if causes:
                deadline = min(deadline, time.monotonic() + (_TOLD_S if causes & begun else 0))
            elif failures:
                deadline = min(deadline, time.monotonic() + _PATIENCE_S)
        if time.monotonic() < deadline:
            for process in processes.values():
                process.wait()
        # Those that run still are ended now, and that is no failure of theirs.
        status = {name: process.poll() for name, process in processes.items()}
    elsewhere: dict[PartyId, str] = {}
    for name, code in status.items():
        last = " / ".join(said[name][-_KEPT_LINES:]) or "it said nothing"
        if code == WRITTEN_ELSEWHERE:
            elsewhere[name] = last.removeprefix("secagg: ")
        elif code and all(name != failed for failed, _ in failures):
            text = f"it ended with status {code}: {last}"
            failures.insert(0, (name, PeerVanishedError(text, peer=name)))
    failures.sort(key=lambda failure: _far_from_the_cause(failure[1]))
    if failures:
        name, error = failures[0]
        first, *below = str(error).split("\n")
        about = {"peer": error.peer} if isinstance(error, PeerMissingError | RemoteProtocolError) else {}
        if isinstance(error, AbortedError):
            about["accused"] = error.accused
        raised = type(error)(f"{name}: {first}", *below, **about)
        for other, text in elsewhere.items():
            raised.add_note(f"{other}: {text}")
        raise raised from None
    return elsewhere


def _causes(
    processes: Mapping[PartyId, subprocess.Popen[bytes]],
    failures: Sequence[tuple[PartyId, SecaggError]],
    speaking: Collection[PartyId],
) -> set[PartyId]:
    """Return the parties that ended of themselves: by their own mistake, or without a word of why."""
    failed = {name for name, _ in failures}
    silent = {
        name
        for name, process in processes.items()
        if name not in failed and name not in speaking and process.poll() not in (None, 0, WRITTEN_ELSEWHERE)
    }
    return silent | {name for name, error in failures if not _far_from_the_cause(error)}


def _far_from_the_cause(error: SecaggError) -> int:
    """Return how far an error is from what ended a run: a party's own mistake, a finding, a peer gone, being told."""
    if isinstance(error, AbortedError):
        return 3
    return 2 if isinstance(error, PeerMissingError) else int(not isinstance(error, UsageError))


def _take(
    name: PartyId,
    line: str,
    said: list[str],
    failures: list[tuple[PartyId, SecaggError]],
    on_progress: OnProgress,
) -> None:
    try:
        message: Any = json.loads(line)
        if "progress" in message:
            on_progress(Progress(**message["progress"]))
            return
        kind = getattr(errors, message["error"])
        about = {name: message[name] for name in ("peer", "accused") if name in message}
        failures.append((name, kind(*message["message"].split("\n"), **about)))
    except (ValueError, TypeError, KeyError, AttributeError):  # a warning, or a traceback
        said.append(line)


@contextmanager
def _processes(commands: Mapping[PartyId, Sequence[str]]) -> Iterator[dict[PartyId, subprocess.Popen[bytes]]]:
    """Start a process for each party; at the end none of them is left."""
    processes: dict[PartyId, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            processes[name] = subprocess.Popen(  # noqa: S603  # this program itself
                [sys.executable, "-P", "-m", "secagg", *command, "--progress", "json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                # None of them is this machine's organisation, whose folder says nothing about them.
                env={**os.environ, "SECAGG_HOME": ""},
            )
        yield processes
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.terminate()
        for process in processes.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _stderr(process).close()


def _stderr(process: subprocess.Popen[bytes]) -> IO[bytes]:
    if process.stderr is None:
        raise UsageError("expected a process with a pipe")
    return process.stderr
