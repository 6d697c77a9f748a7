"""Make or check a release: python -m release dist | sbom | check.

dist    dist/ gets the wheel, the source distribution and SHA256SUMS
sbom    dist/ also gets what an installation holds, as CycloneDX has it
check   the same twice, from two folders, to the same bytes; installed and tried out in a clean environment under each
        supported Python that this machine has
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from release.distributions import (
    ROOT,
    declared,
    digests,
    environment,
    make_distributions,
    run,
    software_list,
    time_of_the_source,
)

PYTHONS = ("3.11", "3.12", "3.13")


def dist() -> list[Path]:
    """Put wheel, source distribution and their digests in dist/."""
    out = ROOT / "dist"
    shutil.rmtree(out, ignore_errors=True)
    made = make_distributions(ROOT, out, time_of_the_source())
    lines = [f"{digest}  {name}\n" for name, digest in digests(made).items()]
    (out / "SHA256SUMS").write_text("".join(lines), "utf-8")
    print(*lines, sep="", end="")
    return made


def sbom(wheel: Path, work: Path) -> Path:
    """Write what an installation of the wheel holds beside it."""
    found = software_list(wheel, work, time_of_the_source())
    missing = declared() - {each["name"].lower() for each in found["components"]}
    if missing:
        raise SystemExit(f"the list of software lacks {sorted(missing)}")
    target = wheel.parent / f"{'-'.join(wheel.name.split('-')[:2])}.cdx.json"
    target.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(f"{target.name}: {len(found['components'])} packages beside secagg")
    return target


def check(work: Path) -> None:
    """Build twice, compare, install and try out.

    Raises:
      SystemExit: something is not as it should be.
    """
    seconds = time_of_the_source()
    made = make_distributions(ROOT, work / "first", seconds)
    # Elsewhere, with other modes and times of files, as somebody who has a clone builds it.
    run("git", "clone", "--quiet", ROOT, work / "elsewhere")
    if run("git", "status", "--porcelain"):
        print("not compared with a build from a clone: there are changes that are not committed")
    else:
        again = make_distributions(work / "elsewhere", work / "second", seconds)
        if digests(made) != digests(again):
            raise SystemExit(f"two builds differ: {digests(made)} and {digests(again)}")
        print("built twice, to the same bytes:", *digests(made).items())
    wheel, source = made
    sbom(wheel, work)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for said in threads.map(lambda version: _try_out(version, wheel, source, work), PYTHONS):
            print(said)


def _try_out(version: str, wheel: Path, source: Path, work: Path) -> str:
    python = interpreter(version)
    if python is None:
        return f"Python {version}: skipped, as no such interpreter runs here"
    installed = environment(work / version, python, wheel)
    smoke = ROOT / "release" / "smoke.py"
    said = [run(installed, "-I", smoke, cwd=work).strip()]
    if sys.version.startswith(f"{version}."):  # once: the wheel that is made from the source is for all
        run(
            sys.executable,
            "-m",
            "pip",
            "--python",
            work / version,
            "install",
            "--quiet",
            "--no-deps",
            "--force-reinstall",
            source,
        )
        said.append(f"from its source: {run(installed, '-I', smoke, cwd=work).strip()}")
    return "\n".join(said)


def interpreter(version: str) -> Path | None:
    """Return an interpreter of a version that runs and can make environments."""
    places = [
        *(Path(folder) / f"python{version}" for folder in os.environ.get("PATH", "").split(os.pathsep)),
        *sorted(
            (Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions").glob(
                f"{version}.*/bin/python"
            )
        ),
    ]
    asked = "import sys, venv, ssl, sqlite3; print('%d.%d' % sys.version_info[:2])"
    for place in places:
        if place.is_file():
            done = subprocess.run([place, "-I", "-c", asked], capture_output=True, text=True, check=False)
            if done.returncode == 0 and done.stdout.strip() == version:
                return place
    return None


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        match sys.argv[1:]:
            case ["dist"]:
                dist()
            case ["sbom"]:
                sbom(dist()[0], Path(name))
            case ["check"]:
                check(Path(name))
            case _:
                raise SystemExit(__doc__)
