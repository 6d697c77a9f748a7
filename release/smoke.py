"""Run by the interpreter of a clean environment: every public name can be had, and a small demonstration runs.

It imports nothing but Python and what is installed there.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# Their names can be had, or say which extra brings them.
PARTS = (
    "mpc",
    "query",
    "learn",
    "statistics",
    "federated",
    "protocols",
    "patterns",
    "jobs",
    "network",
    "party",
    "cost",
)
PUBLIC = ("secagg", "secagg.errors", *(f"secagg.{part}" for part in PARTS))


def main() -> None:
    version = importlib.metadata.version("secagg")
    package = importlib.import_module("secagg")
    if package.__version__ != version:
        raise SystemExit(f"the package says {package.__version__}, its metadata {version}")
    if Path(sys.prefix) not in Path(package.__file__ or "").parents:
        raise SystemExit(f"secagg was imported from {package.__file__}, and not from {sys.prefix}")
    names = 0
    for module in PUBLIC:
        for name in importlib.import_module(module).__all__:
            try:
                getattr(importlib.import_module(module), name)
            except ImportError as error:
                if "pip install" not in str(error):  # what an extra brings says which
                    raise
            names += 1
    command = Path(sys.executable).with_name("secagg")
    with tempfile.TemporaryDirectory() as folder:
        for words in (["--version"], ["demo", "--rows", "300"]):
            done = subprocess.run(
                [command, *words],
                cwd=folder,
                env=os.environ | {"SECAGG_HOME": ""},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise SystemExit(f"secagg {' '.join(words)}\n{done.stdout}{done.stderr}")
            if words == ["--version"] and done.stdout.strip() != version:
                raise SystemExit(f"secagg --version says {done.stdout.strip()}, its metadata {version}")
    print(
        f"secagg {version} under Python {sys.version.split()[0]}: {names} public names, and the demonstration runs"
    )


if __name__ == "__main__":
    main()
