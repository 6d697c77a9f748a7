"""Flower's own programs as a deployment: processes beside the test, and the example app with lines that read otherwise."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from flower_programs import FLOWER
from warm import forking

start = forking(FLOWER)
EXAMPLE = Path(__file__).parents[2] / "examples" / "flower"
_BIN = Path(sys.executable).parent


def environment_of(home: Path) -> dict[str, str]:
    """Return the environment of Flower's programs whose settings lie in a folder."""
    return os.environ | {
        "FLWR_HOME": str(home),
        "PATH": os.pathsep.join([str(_BIN), os.environ["PATH"]]),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5",
    }


class Processes:
    """What runs beside the test: each in a session of its own, its output in a file."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder, self._environment = folder, environment
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._over: set[str] = set()

    def start(self, name: str, *command: str | Path) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            self._running[name] = start(
                command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, name: str, *command: str | Path, timeout_s: float, meanwhile: Callable[[], None]) -> str:
        """Return what a command printed that must end well."""
        self.start(name, *command)
        deadline = time.monotonic() + timeout_s
        while (code := self.ended(name)) is None:
            assert time.monotonic() < deadline, f"{name} did not end\n{self.logs()}"
            meanwhile()
            time.sleep(0.05)
        assert code == 0, f"{name} ended with {code}\n{self.logs()}"
        return self.log(name)

    def wait_for(self, name: str, pattern: str, timeout_s: float = 240) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            code = self.ended(name)
            if re.search(pattern, self.log(name)):
                return
            assert code is None, f"{name} ended with {code}\n{self.logs()}"
            assert time.monotonic() < deadline, f"{name} did not say {pattern!r}\n{self.logs()}"
            time.sleep(0.1)

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text("utf-8", errors="replace")

    def logs(self) -> str:
        """Return the end of every log."""
        return "".join(f"\n=== {name}\n{self.log(name)[-4000:]}" for name in self._running)

    def ended(self, name: str) -> int | None:
        """Return the exit code of a process, if it has one."""
        code = self._running[name].poll()
        if code is not None:
            self.kill(name)
        return code

    def kill(self, name: str) -> None:
        """Kill a process, and all that it started, at once."""
        # Once only: afterwards the number may be another's.
        if name not in self._over:
            self._over.add(name)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._running[name].pid, signal.SIGKILL)
            self._running[name].wait(20)

    def stop(self) -> None:
        for process in self._running.values():
            process.terminate()
        deadline = time.monotonic() + 10
        for name, process in self._running.items():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            self.kill(name)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def edited(folder: Path, edits: dict[str, dict[str, str]]) -> Path:
    """Return a copy of the example app in which some of its lines read otherwise."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    digits, images = load_digits(), folder.parent / "digits.npz"
    np.savez(images, data=digits.data, target=digits.target)
    # Importing scikit-learn takes a process as long as importing Flower.
    shortcut = {
        "    from sklearn.datasets import load_digits": "   ",
        "digits = load_digits()": f'file = np.load("{images}"); digits = file.f',
    }
    for name, lines in {**edits, "task.py": shortcut}.items():
        text = (folder / name).read_text("utf-8")
        for old, new in lines.items():
            assert text.count(old) == 1, (name, old)
            text = text.replace(old, new)
        (folder / name).write_text(text, "utf-8")
    return folder
