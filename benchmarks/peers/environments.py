"""An environment for each peer, since what they need clashes: under `.peers/`, with pinned versions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.peers.comparisons import Comparison, PeerFailedError

ENVIRONMENTS: Final = Path(__file__).parents[2] / ".peers"
INSTALL_TIMEOUT_S: Final = 1800


def environment(comparison: Comparison) -> str:
    """Return the Python of a peer's environment, which is made where it is not there or has other pins.

    Raises:
      PeerFailedError: the peer cannot be installed here.
    """
    folder = ENVIRONMENTS / comparison.name
    python, made = folder / "bin" / "python", folder / "pins.json"
    pins = json.dumps(comparison.pins)
    if made.is_file() and made.read_text(encoding="utf-8") == pins:
        return str(python)
    print(f"{comparison.title}: installing into {folder} ...", file=sys.stderr, flush=True)
    if folder.exists():
        shutil.rmtree(folder)
    _run([sys.executable, "-m", "venv", str(folder)])
    for arguments in comparison.pins:
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments])
    made.write_text(pins, encoding="utf-8")
    return str(python)


def version(python: str, package: str) -> str:
    """Return the version of a package that a Python has.

    Raises:
      PeerFailedError: it has none, or is no Python.
    """
    return _run([python, "-c", f"import importlib.metadata as m; print(m.version({package!r}))"]).strip()


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise PeerFailedError(f"{command[0]} did not run: {problem!s:.300}") from None
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said or ["nothing was said"]
        raise PeerFailedError(f"{' '.join(command[1:4])} ended with {done.returncode}: {errors[-1][:300]!a}")
    return done.stdout
