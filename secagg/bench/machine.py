"""The machine and the versions that measurements are of."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import ssl
from pathlib import Path
from typing import Any, Final

import numpy as np

from secagg import release

_MEASURED: Final = ("operations.py", "subjects.py")
_PACKAGES: Final = ("cryptography", "duckdb", "gmpy2", "msgspec", "tenseal")


def versions() -> dict[str, str]:
    """Return the versions of secagg and of what its speed rests on."""
    found = {"secagg": release.RELEASE, "python": platform.python_version(), "numpy": np.__version__}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found | {"openssl": ssl.OPENSSL_VERSION, "code": _code()}


def machine() -> dict[str, Any]:
    """Return what a reader needs to know of this machine; its name is not told."""
    return {
        "processor": _first("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": 1024 * int((_first("/proc/meminfo", "MemTotal") or "0").split()[0]),
        "system": f"{platform.system()} {platform.release()}",
    }


def where() -> str:
    """Return a digest of machine and versions: results under one digest can be compared."""
    text = json.dumps([machine(), versions()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache  # what runs is what was there when it was imported
def _code() -> str:
    """Return a digest of secagg's own modules, for a checkout changes under one version.

    Of `bench`, what is measured counts, and not what measures, predicts or draws.
    """
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        if path.parent.name != "bench" or path.name in _MEASURED:
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _first(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
