"""Runs a party's approved jobs, each in a process of its own: a job that crashes, hangs or is refused stops no other.

The home folder is asked each time which jobs are approved and may run, so an approval by the command line or by the page
counts at once. A party listens at one address, so one run is under way at a time; `turns` says which job is tried.

A run that ends for a missing peer, a kill or a stop is tried again, and goes on where it was (`jobs.resuming`). A run that
a gate of any party refuses waits for a person. So does a run that fails for any other reason.

A lock in the home is held by this process and by the run that it began. So a second `secagg serve` waits, also
after the first was killed while its run goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final

from secagg.errors import UsageError
from secagg.home import Home
from secagg.jobs.agreement import OFF
from secagg.jobs.job import Job
from secagg.jobs.job_file import load_job
from secagg.jobs.run import CONNECT, Progress
from secagg.jobs.statuses import WRITTEN_ELSEWHERE
from secagg.joint.approval import status_of
from secagg.joint.consortium import Consortium
from secagg.joint.serve.events import Events
from secagg.joint.serve.metrics import Metrics
from secagg.joint.serve.states import ENDED, Known, State, States, now
from secagg.joint.serve.turns import Schedule, first_in_turn
from secagg.network.identity import check_name
from secagg.printable import printable

_LOCK: Final = "serve.lock"
_PASSES: Final = frozenset(
    {"PeerMissingError", "PeerVanishedError", "AbortedError", "TooFewPartiesError", "UnwritableError"}
)
# Errors whose text all parties may read; that of others may be about this party's own rows.
_TELLABLE: Final = _PASSES | {
    "JobError", "RefusedError", "RuleError", "AuthenticationError", "CheatingError", "RemoteProtocolError", "WireError",
}  # fmt: skip
_REFUSALS: Final = frozenset({"RefusedError", "RuleError", "AuthenticationError", "BudgetError"})
_FIRST_PAUSE_S: Final = 5.0
_LAST_PAUSE_S: Final = 600.0
_STOPPED: Final = 130
_PATIENCE_S: Final = 10.0  # for a run that was asked to stop


@dataclass(slots=True)
class Run:
    """A run under way."""

    known: Known
    process: subprocess.Popen[bytes]
    reader: threading.Thread
    progress: Progress | None = None
    error: dict[str, Any] = field(default_factory=dict)
    stopping: bool = False


class Supervisor:
    """Serves the jobs of one home.

    Args:
      home: with a consortium, and this party's key.
      events: what happened.
      metrics: the same in numbers.
      wait: how long a run waits for the other parties, as `secagg run --wait` takes it.

    Raises:
      UsageError: the home has no consortium, or `serve.toml` cannot be used.
    """

    def __init__(
        self, home: Home, events: Events, metrics: Metrics | None = None, *, wait: str = "24h"
    ) -> None:
        self.home = home
        self.me = Consortium.load(home).me
        self.states = States(home)
        self.events = events
        self.metrics = metrics
        self.run: Run | None = None
        self.details: dict[str, str] = {}  # what ended a run, for this party's own eyes; nowhere on the disk
        self._wait = wait
        self._schedule = Schedule.load(home.path / "serve.toml")
        self._lock: IO[bytes] | None = None
        self._mutex = threading.Lock()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the home's lock, waiting for whoever has it."""
        with (self.home.path / _LOCK).open("wb") as file:
            (self.home.path / _LOCK).chmod(0o600)
            told = False
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not told:
                        self.events.note(
                            "waits for another secagg serve of this home, or a run that it began"
                        )
                        told = True
                    time.sleep(0.5)
            self._lock = file
            try:
                self._recover()
                yield
            finally:
                self.stop()
                self._lock = None

    def _recover(self) -> None:
        """Take up what an earlier process left under way."""
        for known in self.states.all():
            if known.state in (State.waiting, State.running):
                if known.folder and self._is_complete(self.home.runs / known.folder):
                    self._put(known, State.done)
                else:
                    self._put(replace(known, due=now()), State.approved, "was interrupted, and goes on")

    def _is_complete(self, folder: Path) -> bool:
        """Return whether a run has left its result."""
        for path in folder.glob(f"{self.me}.*.json"):
            with contextlib.suppress(OSError, ValueError):
                record = json.loads(path.read_bytes())
                if isinstance(record, dict) and record.get("outcome") == "complete":
                    return True
        return False

    def step(self) -> None:
        """Look at all jobs and at the run under way, and begin, end or stop a run."""
        with self._mutex:
            self._look_at_run()
            ready = {known.digest: known for known in self._jobs()}
            first = first_in_turn(ready, now())
            if self.run is None:
                if first:
                    self._begin(ready[first])
            elif (
                first
                and first != self.run.known.digest
                and not self.run.stopping
                and self.run.known.state is State.waiting
                and now() - self.run.known.since > _FIRST_PAUSE_S
            ):
                self._stop_run()  # it is another job's turn
            if self.metrics is not None:
                self.metrics.jobs(self.states.all())

    def serve(self, stopping: threading.Event, *, every_s: float = 1.0) -> None:
        """Serve until told to stop."""
        with self.locked():
            self.events.note("serves")
            while not stopping.wait(every_s):
                self.step()
            self.events.note("stops")

    def stop(self) -> None:
        """Stop the run under way; it goes on when this party serves again."""
        if self.run is not None:
            self._stop_run()
            try:
                self.run.process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.run.process.kill()
            self._look_at_run()

    def again(self, file: str) -> None:
        """Let a job that ended be tried again, where a person says so."""
        with self._mutex:
            for known in self.states.all():
                if known.file == file and known.state in ENDED:
                    self._put(replace(known, due=now(), tries=0, folder=""), State.approved)

    def job(self, file: str) -> Job:
        """Return a job of the home.

        Raises:
          UsageError: there is none of this name, or it cannot be used.
        """
        if not file.endswith(".toml") or "/" in file or file.startswith("."):
            raise UsageError(f"expected the name of a job file, got {printable(file, 80)}")
        check_name(file.removesuffix(".toml"))
        return load_job(self.home.jobs / file, known=Consortium.load(self.home).directory())

    # Jobs.

    def _jobs(self) -> list[Known]:
        """Look at all job files; return those that are to be tried now."""
        before = {known.file: known for known in self.states.all()}
        files = sorted(path.name for path in self.home.jobs.glob("*.toml"))
        for gone in before.keys() - set(files):
            if self.run is None or self.run.known.file != gone:
                self.states.forget(gone)
        found = [self._look_at(file, before.get(file)) for file in files]
        return [one for one in found if one.state is State.approved and one.due <= now() and one.digest]

    def _look_at(self, file: str, before: Known | None) -> Known:
        if before is not None and self.run is not None and self.run.known.file == file:
            return before
        try:
            job = self.job(file)
            job.check_takes_part(self.me)
            digest, problem = (
                job.digest.hex(),
                "" if job.approval == OFF else status_of(self.home, job).problem,
            )
        except UsageError as error:
            return self._changed(before or Known(file, "", State.failed, 0.0), State.failed, str(error))
        if before is None or before.digest != digest:
            before = Known(file, digest, State.proposed, now(), due=now())
        if before.state in ENDED and before.digest:
            due = self._schedule.next_after(file.removesuffix(".toml"), before.since)
            if due is None or before.state is not State.done or now() < due:
                return before
            before = replace(before, folder="", tries=0, due=due)
        if problem:
            return self._changed(before, State.proposed, problem)
        return self._changed(before, State.approved, before.message if before.tries else "")

    def _changed(self, known: Known, state: State, message: str = "") -> Known:
        if (known.state, known.message) == (state, message) and known.since:
            return known
        return self._put(known, state, message)

    def _put(self, known: Known, state: State, message: str = "") -> Known:
        moved = replace(known, state=state, since=now(), message=message)
        self.states.put(moved)
        if known.state is not state or not known.since:
            self.events.note("job", job=moved.file, state=state.value)
        return moved

    # The run under way.

    def _begin(self, known: Known) -> None:
        name = known.file.removesuffix(".toml")
        folder = known.folder or f"{name}/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        out = self.home.runs / folder
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [
            *(sys.executable, "-P", "-m", "secagg", "run", str(self.home.jobs / known.file)),
            *("--home", str(self.home.path), "--out", str(out), "--wait", self._wait, "--progress", "json"),
        ]
        known = self._put(replace(known, folder=folder), State.waiting, known.message)
        process = subprocess.Popen(  # noqa: S603  # this program itself
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=() if self._lock is None else (self._lock.fileno(),),
        )
        reader = threading.Thread(target=self._read, name="secagg serve reader", daemon=True)
        self.run = Run(known, process, reader)
        reader.start()

    def _read(self) -> None:
        run = self.run
        if run is None or run.process.stderr is None:
            return
        for line in run.process.stderr:
            with contextlib.suppress(
                ValueError, TypeError, KeyError, AttributeError
            ):  # a warning, or a traceback
                said = json.loads(line)
                if "progress" in said:
                    run.progress = Progress(**said["progress"])
                elif "error" in said:
                    run.error = said

    def _look_at_run(self) -> None:
        run = self.run
        if run is None:
            return
        progress = run.progress
        if progress is not None:
            if run.known.state is State.waiting and progress.phase != CONNECT:
                run.known = self._put(run.known, State.running)
            if self.metrics is not None:
                self.metrics.progress(run.known.file, progress)
        code = run.process.poll()
        if code is not None:
            run.reader.join(_PATIENCE_S)
            if run.process.stderr is not None:
                run.process.stderr.close()
            self.run = None
            self._ended(run, code)

    def _ended(self, run: Run, code: int) -> None:
        known, kind = run.known, str(run.error.get("error", ""))
        self.details.pop(known.file, None)
        if code in (0, WRITTEN_ELSEWHERE):
            self._put(replace(known, tries=0), State.done)
            if self.metrics is not None:
                self.metrics.ended(State.done)
            return
        text = str(run.error.get("message", "")) or f"the process ended with status {code}"
        message = text if kind in _TELLABLE else f"{kind or 'it'}: see the page of the job, or run it by hand"
        self.details[known.file] = text
        if code == _STOPPED and run.stopping:
            self._put(replace(known, due=now()), State.approved)
            return
        # Where two parties try different jobs, each is told that the other's differs.
        passes = (
            kind in _PASSES
            or code < 0
            or code == _STOPPED
            or (kind == "JobError" and run.progress is not None)
        )
        self.events.note(
            "run ended", job=known.file, error=kind or f"status {code}", peer=str(run.error.get("peer", "")),
            tries=known.tries + 1,
        )  # fmt: skip
        if passes:
            pause = min(_LAST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(known.tries, 10))
            self._put(replace(known, due=now() + pause, tries=known.tries + 1), State.approved, message)
            return
        state = State.refused if kind in _REFUSALS else State.failed
        self._put(known, state, message)
        if self.metrics is not None:
            self.metrics.ended(state)

    def _stop_run(self) -> None:
        if self.run is not None and self.run.process.poll() is None:
            self.run.stopping = True
            self.run.process.send_signal(signal.SIGTERM)


def log_path(home: Home) -> Path:
    """Return where a serving party's events are written."""
    return home.path / "serve.log"
