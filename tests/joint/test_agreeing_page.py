"""Three organisations follow docs/agreeing.md word for word, each with a folder of its own, and their run takes place."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ports import reserved_ports
from secagg.cli import main
from secagg.home import Home
from secagg.joint.consortium import Consortium

NAMES = ("north", "south", "west")
PAGE = (Path(__file__).parents[2] / "docs" / "agreeing.md").read_text("utf-8")
DEPOSITS = "customer,amount,time\na,6000.00,2026-09-01\nb,70.00,2026-09-02\n"


def steps() -> list[tuple[str, list[str]]]:
    """Return each command of the first joint run with whose it is."""
    (part,) = re.findall(r"^## A first joint run$(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
    shown = re.findall(r"^(\w+)\$ secagg (.*)$", part, re.MULTILINE)
    return [(name, shlex.split(words)) for name, words in shown]


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_three_organisations_follow_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("secagg.joint.approval.keys._LOG_N", 14)
    password = tmp_path / "password"
    password.write_text("a password of anybody\n")
    password.chmod(0o600)
    with reserved_ports(3) as ports:
        places = {
            f"mpc.{name}.example:7400": f"127.0.0.1:{port}" for name, port in zip(NAMES, ports, strict=True)
        }
        for name in NAMES:
            (tmp_path / name).mkdir()
            (tmp_path / name / "deposits.csv").write_text(DEPOSITS)
        said: dict[str, list[str]] = {name: [] for name in NAMES}
        runs = {}
        for name, words in steps():
            given = [places.get(word, word) for word in words]
            if words[:2] in (["approver", "new"], ["job", "approve"]):
                given += ["--password-file", str(password)]
            if words[0] == "run":
                runs[name] = given
                continue
            if runs:
                run_all(tmp_path, runs)
                runs = {}
            monkeypatch.chdir(tmp_path / name)
            monkeypatch.setenv("SECAGG_HOME", str(tmp_path / name / "home"))
            with pytest.raises(SystemExit) as end:
                main(given)
            out = capsys.readouterr()
            assert not end.value.code, (words, out.err)
            said[name].append(out.out)
            sent(tmp_path)
    assert len({Consortium.load(Home.open(tmp_path / name / "home")).digest for name in NAMES}) == 1
    assert "runs: 1 of 1\ncannot run: structuring-1 has run 1 times" in "".join(said["north"])
    assert "the logs agree: 1 runs, 6 ways of links" in said["north"][-2]
    page = (tmp_path / "north" / "results" / "north.structuring-1.html").read_text("utf-8")
    assert "Audit log passed" in page
    assert all(f"approved by {person} at " in page for person in ("north/anna", "south/dora"))
    result = (tmp_path / "north" / "results" / "north.structuring-1.csv").read_text()
    assert result.splitlines()[1].startswith(
        "a,2,12000"
    )  # a's deposits stay below the limit at each bank alone
    assert "b," not in result


def sent(folder: Path) -> None:
    """Bring member files, the job and exported logs to everybody, as people send them."""
    for name in NAMES:
        place = folder / name
        for file in (place / "home" / f"{name}.member.toml", place / "job.toml", place / f"{name}.zip"):
            for other in NAMES:
                if file.exists() and other != name and (file.name != "job.toml" or name == "north"):
                    shutil.copy(file, folder / other)


def run_all(folder: Path, runs: dict[str, list[str]]) -> None:
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-m", "secagg", *words],
            cwd=folder / name,
            env={**os.environ, "SECAGG_HOME": str(folder / name / "home")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, words in runs.items()
    }
    said = {}
    try:
        for name, process in processes.items():  # those with data first: their mistakes end the others' wait
            said[name] = process.communicate(timeout=60)[0]
            assert process.returncode == 0, said
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
