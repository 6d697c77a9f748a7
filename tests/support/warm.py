"""Programs in processes of their own, which are forked off one that has imported them: `secagg`, for the fixture `warm`.

To import the command line takes a process most of a second of a processor, and to fork it a few milliseconds. The
process that forks has no threads, no keys and nothing open; what it forks has its own standard streams, environment,
working directory and signals, and is a child of whoever started it, as any other process is.

A test whose claim is about how a program starts does not use this.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module, util
from pathlib import Path
from typing import Any

import pytest

from secagg.cli.commands import COMMANDS

_FORKED_S = 60.0
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of <linux/prctl.h>
_MOST_DESCRIPTORS = 16
_ABOVE = 100  # numbers of descriptors that nobody asks for
_lock = threading.Lock()
_servers: dict[tuple[int, str], socket.socket] = {}  # by process and programs: where requests are taken
_PYTHON, _ENVIRONMENT = sys.executable, dict(os.environ)
_start = subprocess.Popen  # before `warm` takes its place


def _settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that Python reads once, as it starts, but for the path."""
    names = [name for name in environment if name.startswith(("PYTHON", "LC_")) or name == "LANG"]
    return {name: environment[name] for name in names if name != "PYTHONPATH"}


_SETTINGS = _settings(_ENVIRONMENT)  # also of what forks


@dataclass(frozen=True)
class Programs:
    """What is forked.

    Args:
      place: where this is, as "module:name".
      modules: what is imported before anything is forked, where it is installed.
      find: returns, for the words of a command, what does the same and takes its words from `sys.argv`, as
        "module:function", and these words; or None for what is started as usual.
      starts_others: says of such words whether the program starts further programs.
    """

    place: str
    modules: tuple[str, ...]
    find: Callable[[list[str]], tuple[str, list[str]] | None]
    starts_others: Callable[[list[str]], bool]


def _find_secagg(words: list[str]) -> tuple[str, list[str]] | None:
    flags = 2 if words[1:2] == ["-P"] else 1
    if words[:1] != [_PYTHON] or words[flags : flags + 2] != ["-m", "secagg"]:
        return None
    return "secagg.__main__:main", ["secagg", *words[flags + 2 :]]


SECAGG = Programs(
    "warm:SECAGG",
    (
        # Commands, and what most of them import when they run.
        *(
            "secagg.cli.commands",
            *sorted({f"secagg.cli.{place.partition(':')[0]}" for place, _ in COMMANDS.values()}),
        ),
        *("secagg.jobs.run", "secagg.jobs.local", "secagg.jobs.inputs", "secagg.jobs.example_files"),
        *(
            "secagg.joint.gates",
            "secagg.joint.resume",
            "secagg.joint.serve.supervisor",
            "secagg.joint.audit.compare",
        ),
        *("secagg.joint.consortium.changes", "secagg.joint.preflight.here", "secagg.joint.preflight.peers"),
        *("secagg.data.source_files", "secagg.data.synthetic", "secagg.bench.campaign"),
        *("secagg.query", "cryptography.hazmat.backends.openssl.backend", "duckdb", "pyarrow"),
        *("sqlglot.optimizer", "uvicorn", "starlette.routing"),
    ),
    _find_secagg,
    lambda words: bool({"serve", "--local"} & {*words}),
)


def forking(programs: Programs) -> type[subprocess.Popen[Any]]:
    """Return what forks these programs, and starts everything else as usual."""

    class Popen(subprocess.Popen[Any]):
        def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, *rest: Any) -> None:
            close_fds, pass_fds, cwd, env, _, _, shell = rest[:7]
            p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, *others = rest[7:]
            start_new_session = others[-2]
            environment = dict(os.environ if env is None else env)
            words = [os.fspath(word) for word in args] if isinstance(args, list | tuple) else []
            found = programs.find(words)
            plain = not (executable or preexec_fn or shell) and close_fds
            if found is None or not plain or _settings(environment) != _SETTINGS:
                super()._execute_child(args, executable, preexec_fn, *rest)  # type: ignore[misc]
                return
            request = {
                "function": found[0],
                "words": found[1],
                "environment": environment,
                "folder": os.fspath(cwd or Path.cwd()),
                "session": bool(start_new_session),
                "descriptors": [0, 1, 2, *pass_fds],
            }
            streams = [own if own != -1 else i for i, own in enumerate((p2cread, c2pwrite, errwrite))]
            self.pid = _forked(programs, request, [*streams, *pass_fds])
            self._child_created = True
            self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]

    return Popen


def _forked(programs: Programs, request: dict[str, Any], descriptors: list[int]) -> int:
    """Return the number of a process that does what is asked, a child of this one."""
    control = ctypes.CDLL(None, use_errno=True).prctl
    with _lock:
        mine = os.getpid(), programs.place
        if mine not in _servers:
            _servers[mine] = _new_server(programs)
        server = _servers[mine]
        control(_SUBREAPER, 1, 0, 0, 0)  # whose parent ends is this process's child
        try:
            data = json.dumps(request).encode()
            socket.send_fds(server, [len(data).to_bytes(4, "big")], descriptors)
            server.sendall(data)
            answer = server.recv(4)
        finally:
            control(_SUBREAPER, 0, 0, 0, 0)
    if not int.from_bytes(answer, "big"):
        raise OSError("the process that forks has ended")
    return int.from_bytes(answer, "big")


def _new_server(programs: Programs) -> socket.socket:
    """Start the process that forks, and return where it takes requests; it ends with this process."""
    near, far = socket.socketpair()
    with far:
        process = _start(
            [_PYTHON, __file__, str(far.fileno()), programs.place],
            pass_fds=[far.fileno()],
            stdin=subprocess.DEVNULL,
            env=_ENVIRONMENT,
        )
    near.settimeout(_FORKED_S)

    def end() -> None:
        near.close()
        process.wait(_FORKED_S)

    atexit.register(end)
    return near


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork what runs `secagg` in a process of its own."""
    monkeypatch.setattr(subprocess, "Popen", forking(SECAGG))


def serve(programs: Programs, requests: socket.socket) -> None:
    """Fork a process for each request, which comes with its standard streams; the answer is its number."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from a keyboard it is for those who were forked
    while True:
        size, descriptors, _, _ = socket.recv_fds(requests, 4, _MOST_DESCRIPTORS)
        if not size:
            return
        request = json.loads(requests.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
        told, tells = os.pipe()
        if not (between := os.fork()):
            if os.fork():
                os._exit(0)
            requests.close()
            be_program(programs, request, descriptors, told, tells)
            return
        os.close(tells)
        os.waitpid(between, 0)  # its child is now the test's
        requests.sendall(os.read(told, 4) or bytes(4))
        for descriptor in (told, *descriptors):
            os.close(descriptor)


def be_program(
    programs: Programs, request: dict[str, Any], descriptors: list[int], told: int, tells: int
) -> None:
    """The whole of a process, which tells its number once its streams are its own."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    answers, *kept = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for number in (tells, *descriptors)]
    for descriptor, number in zip(kept, request["descriptors"], strict=True):
        os.dup2(descriptor, number)
    for descriptor in {told, tells, *descriptors, *kept} - {*request["descriptors"]}:
        os.close(descriptor)
    sys.stdin = os.fdopen(0, encoding=sys.stdin.encoding, closefd=False)
    sys.stdout = os.fdopen(1, "w", -1, sys.stdout.encoding, closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, sys.stderr.encoding, "backslashreplace", closefd=False)
    if request["session"]:
        os.setsid()
    os.write(answers, os.getpid().to_bytes(4, "big"))
    os.close(answers)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [folder for folder in path if folder and folder not in sys.path]
    sys.argv = request["words"]
    if programs.starts_others(sys.argv):  # and may have threads then
        near, far = socket.socketpair()
        if not os.fork():
            near.close()
            serve(programs, far)
            return
        far.close()
        _servers[os.getpid(), programs.place] = near
        subprocess.Popen = forking(programs)  # type: ignore[misc, assignment]
    sys.exit(_named(request["function"])())


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def main() -> None:
    """Take requests from the socket of this number for what is at that place."""
    number, place = sys.argv[1:]
    programs: Programs = _named(place)
    for module in programs.modules:
        if util.find_spec(module.partition(".")[0]):
            import_module(module)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(number)) as requests:
        serve(programs, requests)


if __name__ == "__main__":
    _named("warm:main")()  # not this copy of the module: programs import it
