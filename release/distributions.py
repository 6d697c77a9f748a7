"""A wheel, a source distribution, and a list of what an installation holds, the same bytes wherever they are made."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
SOFTWARE_LIST: Final = "cyclonedx-bom==7.5.0"  # in an environment of its own: it brings two dozen packages


def run(*words: str | Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> str:
    """Run a program; return its output, or end with both outputs where it fails."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(
            f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}\nended with status {done.returncode}"
        )
    return done.stdout


def time_of_the_source(source: Path = ROOT) -> str:
    """Return the seconds that stand as the time of every packed file: those of the last commit."""
    return os.environ.get("SOURCE_DATE_EPOCH") or run("git", "log", "-1", "--format=%ct", cwd=source).strip()


def make_distributions(source: Path, out: Path, seconds: str) -> list[Path]:
    """Build the source distribution of a checkout, and the wheel from that; return the wheel and the source distribution."""
    env = {"SOURCE_DATE_EPOCH": seconds}
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source, env=env)
    return [*out.glob("*.whl"), *out.glob("*.tar.gz")]


def digests(files: Sequence[Path]) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def environment(folder: Path, python: str | Path, *requirements: str | Path) -> Path:
    """Make an environment without pip that holds what is asked for; return its interpreter."""
    run(python, "-m", "venv", "--without-pip", folder)
    run(sys.executable, "-m", "pip", "--python", folder, "install", "--quiet", "--no-compile", *requirements)
    return folder / "bin" / "python"


def software_list(wheel: Path, work: Path, seconds: str) -> dict[str, Any]:
    """Return what an installation of the wheel holds, in the form of CycloneDX, with secagg as what is described."""
    installed = environment(work / "installed", sys.executable, wheel)
    tool = environment(work / "cyclonedx", sys.executable, SOFTWARE_LIST).with_name("cyclonedx-py")
    env = {"SOURCE_DATE_EPOCH": seconds}
    text = run(
        tool, "environment", "--output-reproducible", "--sv", "1.6", "--of", "JSON", installed, env=env
    )
    found: dict[str, Any] = json.loads(text)
    (described,) = [each for each in found["components"] if each["name"] == "secagg"]
    # Where the wheel lay when it was installed says nothing to others, and differs from machine to machine.
    described.pop("externalReferences", None)
    found["components"].remove(described)
    found["metadata"]["component"] = described
    return found


def declared() -> set[str]:
    """Return the names of the packages that every installation needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {text.partition(">")[0] for text in project["dependencies"]}
