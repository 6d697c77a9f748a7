"""Parties in processes of their own, as the tests that start them see them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tcp_programs
from secagg import wire
from secagg.network.identity import Identity, load_identity
from tcp_programs import NAMES

PATIENCE_S = 240


@contextlib.contextmanager
def forking() -> Iterator[socket.socket]:
    """Start the process that forks parties; yield where it takes requests."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near:
        with far:
            process = subprocess.Popen(
                [sys.executable, "-W", "error", tcp_programs.__file__, str(far.fileno())],
                pass_fds=[far.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        near.settimeout(PATIENCE_S)
        yield near
    assert process.wait(PATIENCE_S) == 0


class Child:
    """A party in a process of its own."""

    def __init__(self, forks: socket.socket, options: dict[str, Any]) -> None:
        self.name = options["me"]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # until `end`
        (read, self._input), (said, written) = os.pipe(), socket.socketpair()
        said.settimeout(PATIENCE_S)
        with said, written:
            self._said = said.makefile("rb", buffering=0)
            request = json.dumps(options).encode()
            socket.send_fds(forks, [request], [read, written.fileno(), self._log.fileno()])
        os.close(read)
        _, (self._process,), _, _ = socket.recv_fds(forks, 1, 1)

    @property
    def log(self) -> str:
        """Return what the party has written to its standard error."""
        self._log.seek(0)
        return self._log.read().decode()

    def wait_for(self, stage: str) -> None:
        line = self._said.readline()
        assert json.loads(line or b"{}").get("stage") == stage, line

    def go_on(self) -> None:
        """End what the party computes."""
        with contextlib.suppress(BrokenPipeError):  # it has ended
            os.write(self._input, b"\n")

    def outcome(self) -> dict[str, Any]:
        lines = self._said.readlines()
        assert lines, self.log
        result: dict[str, Any] = json.loads(lines[-1])
        return result

    def send_signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            signal.pidfd_send_signal(self._process, number)

    def kill(self) -> None:
        """Kill the party, and wait until it has ended."""
        self.send_signal(signal.SIGKILL)
        self._said.readlines()

    def end(self) -> None:
        self.kill()
        self._said.close()
        self._log.close()
        os.close(self._input)
        os.close(self._process)


def named(outcome: dict[str, Any]) -> str | None:
    """Return whom a party holds for the cause: who told it first may have been told itself."""
    name: str | None = outcome["accused"] or outcome["peer"]
    return name


class Cast:
    """Starts parties that share a directory of identities, and ports."""

    def __init__(self, forks: socket.socket, directory: Path, ports: list[int]) -> None:
        self.forks = forks
        self.directory = directory
        self.ports = dict(zip(NAMES, ports, strict=True))
        self.children: list[Child] = []

    def start(
        self, me: str, program: str = "ring_sum", *, names: tuple[str, ...] = NAMES, **options: Any
    ) -> Child:
        timeouts = {
            **dict.fromkeys(("connect_s", "silence_s", "message_s"), 600.0),
            **options.pop("timeouts", {}),
        }
        defaults = {
            "arguments": {},
            "plain": False,
            "key": f"{me}.key",
            "pins": {},
            "listen": None,
            "agreement": "00" * 32,
            "release": "1.2.3",
            "wire_version": wire.VERSION,
            "limits": {},
            "tells_meeting": False,
        }
        assert not options.keys() - defaults.keys()
        child = Child(
            self.forks,
            {
                **defaults,
                **options,
                "me": me,
                "program": program,
                "names": names,
                "ports": self.ports,
                "directory": str(self.directory),
                "timeouts": timeouts,
            },
        )
        self.children.append(child)
        return child

    def start_all(self, program: str = "ring_sum", **options: Any) -> list[Child]:
        return [self.start(name, program, **options) for name in NAMES]

    def load(self, name: str) -> Identity:
        return load_identity(name, self.directory / f"{name}.key", self.directory / f"{name}.crt")


def tls_client(version: str = "TLSv1_3") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion[version]
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
